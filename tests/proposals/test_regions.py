from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from trackweave.errors import SettingError
from trackweave.masks.ops import mask_containment, mask_iou
from trackweave.masks.packed import PackedMasks
from trackweave.proposals.regions import RegionProposals
from trackweave.proposals.settings import RegionSettings

DAVIS = Path(__file__).parents[2] / ".." / "shared" / "data" / "vos" / "davis2016_480p"

COLOURS = [(200, 40, 40), (40, 170, 60), (40, 70, 200)]


def scene(height: int = 120, width: int = 160) -> tuple[NDArray[np.uint8], PackedMasks]:
    """Three discs of plain colours on a grey ground with a little noise, and their masks."""
    image = np.full((height, width, 3), 130.0)
    y, x = np.ogrid[:height, :width]
    masks = []
    for k, colour in enumerate(COLOURS):
        mask = (y / height - 0.5) ** 2 * (height / width) ** 2 + (x / width - 0.2 - 0.3 * k) ** 2 < 0.1**2
        image[mask] = colour
        masks.append(mask)
    image += np.random.default_rng(0).normal(0, 3, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), PackedMasks.from_bool(np.stack(masks))


@pytest.mark.parametrize("level", [2, 4, 6])
def test_plain_objects_are_found_at_every_level_and_the_ground_is_not(level: int) -> None:
    image, truth = scene()
    candidates = RegionProposals().propose(image, level)
    assert mask_iou(truth, candidates.masks).max(axis=1).min() > 0.9
    assert candidates.area.max() < 0.5 * image.shape[0] * image.shape[1]


def test_columns_describe_the_masks() -> None:
    image, _ = scene()
    candidates = RegionProposals().propose(image, 4)
    assert candidates.size == image.shape[:2]
    assert np.array_equal(candidates.area, candidates.masks.areas)
    assert np.array_equal(candidates.xyxy, candidates.masks.boxes)
    assert len(set(candidates.id.tolist())) == len(candidates)
    assert candidates.has_mask.all()
    assert ((candidates.score >= 0) & (candidates.score <= 1)).all()
    assert (np.diff(candidates.score) <= 0).all()


def textured(height: int = 240, width: int = 320) -> NDArray[np.uint8]:
    """Colour noise at several scales: regions at every level."""
    rng = np.random.default_rng(3)
    image = np.zeros((height, width, 3))
    for cells in (4, 10, 24):
        small = rng.uniform(0, 255, (cells, cells, 3)).astype(np.uint8)
        image += np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST)) / 3.0
    return image.astype(np.uint8)


def test_finer_levels_have_more_and_smaller_regions_inside_the_coarse_ones() -> None:
    levels = RegionProposals().propose_levels(textured(), [2, 4, 6])
    assert len(levels[2]) < len(levels[4]) < len(levels[6])
    nested = mask_containment(levels[6].masks, levels[4].masks).max(axis=1)
    assert np.median(nested) > 0.9


def test_one_level_is_what_several_levels_give() -> None:
    image, proposals = textured(), RegionProposals()
    alone, together = proposals.propose(image, 4), proposals.propose_levels(image, [6, 4])[4]
    assert alone.masks == together.masks
    assert np.array_equal(alone.score, together.score)


def test_same_image_same_candidates() -> None:
    a, b = (RegionProposals().propose(textured(), 6) for _ in range(2))
    assert a.masks == b.masks
    assert np.array_equal(a.score, b.score)


def test_large_images_are_worked_on_small_and_masks_come_full_size() -> None:
    image, truth = scene(600, 801)
    candidates = RegionProposals(RegionSettings(long_side=160)).propose(image, 2)
    assert candidates.size == (600, 801)
    assert mask_iou(truth, candidates.masks).max(axis=1).min() > 0.85


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (17, 5), (700, 1)])
def test_any_size_works(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
    for candidates in RegionProposals().propose_levels(image, [2, 4, 6]).values():
        assert candidates.size == size


def test_nothing_is_proposed_on_a_plain_image() -> None:
    assert len(RegionProposals().propose(np.full((60, 80, 3), 90, np.uint8), 6)) == 0


def test_settings_bound_number_and_area() -> None:
    candidates = RegionProposals(RegionSettings(max_count=5, min_area=0.01)).propose(textured(), 6)
    assert len(candidates) <= 5
    assert candidates.area.min() > 0.007 * 240 * 320


def test_own_levels() -> None:
    proposals = RegionProposals(RegionSettings(heights={1: 30.0, 3: 9.0}))
    assert proposals.levels == [1, 3]
    assert proposals.propose(textured(), 3).size == (240, 320)


def test_bad_input_and_settings_are_refused() -> None:
    with pytest.raises(SettingError, match="level 3: the built-in proposals have levels 2, 4, 6"):
        RegionProposals().propose(textured(), 3)
    for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            RegionProposals().propose(image, 2)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        RegionSettings(long_sides=3)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        RegionSettings(long_side=0)


def test_real_frames_give_regions_that_match_objects() -> None:
    if not DAVIS.is_dir():
        pytest.skip("no DAVIS frames beside the checkout")
    best = []
    for name in ("bear", "rhino", "tennis", "elephant"):
        frame = next(iter(sorted((DAVIS / name / "frames").iterdir())))
        truth = PackedMasks.from_bool(np.array(Image.open(DAVIS / name / "masks" / f"{frame.stem}.png")) > 0)
        levels = RegionProposals().propose_levels(np.array(Image.open(frame).convert("RGB")), [2, 4])
        assert all(3 <= len(candidates) <= 60 for candidates in levels.values())
        best.append(max(mask_iou(truth, candidates.masks).max() for candidates in levels.values()))
    assert np.mean(best) > 0.5
