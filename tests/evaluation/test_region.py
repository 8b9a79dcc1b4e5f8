from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from trackweave.errors import InputError
from trackweave.evaluation.jf import boundary_measure, evaluate_davis, region_similarity, statistics
from trackweave.formats.davis import write_label_png

YARDSTICK = Path(__file__).parents[2] / ".." / "shared" / "tools" / "eval_davis.py"
Mask = NDArray[np.bool_]


@pytest.fixture(scope="module")
def yardstick() -> ModuleType:
    """The evaluation script that lies beside the project; absent elsewhere."""
    if not YARDSTICK.is_file():
        pytest.skip("no DAVIS evaluation script beside the checkout")
    spec = importlib.util.spec_from_file_location("eval_davis", YARDSTICK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blobs(seed: int, height: int, width: int) -> Mask:
    noise = np.random.default_rng(seed).normal(size=(height, width))
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1 + seed % 5) > 0)


def pairs() -> list[tuple[Mask, Mask]]:
    """Predictions and truths of many sizes, some empty, full or equal."""
    rng = np.random.default_rng(5)
    made = []
    for seed in range(40):
        height, width = (int(side) for side in rng.integers(1, 70, 2))
        pred, gt = blobs(seed, height, width), blobs(seed + 1 - seed % 3, height, width)
        made += [(pred, gt), (pred & False, gt), (pred, gt | True)] if seed % 8 == 0 else [(pred, gt)]
    return made


def plain_boundary_measure(pred: Mask, gt: Mask, bound_th: float) -> float:
    """F by the definition, pixel by pixel: distances between boundary pixels, no dilation."""

    def edge(mask: Mask) -> NDArray[np.int64]:
        height, width = mask.shape
        found = []
        for y in range(height):
            for x in range(width):
                below, right = min(y + 1, height - 1), min(x + 1, width - 1)
                if any(mask[y, x] != mask[p] for p in ((below, x), (y, right), (below, right))):
                    found.append((y, x))
        return np.array(found, np.int64).reshape(-1, 2)

    radius = bound_th if bound_th >= 1 else math.ceil(bound_th * math.hypot(*gt.shape))
    a, b = edge(pred), edge(gt)
    if not len(a) or not len(b):
        return float(len(a) == len(b))
    squared = ((a[:, None] - b[None]) ** 2).sum(axis=2)
    precision, recall = ((squared.min(axis=axis) <= radius**2).mean() for axis in (1, 0))
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


@pytest.mark.parametrize("bound_th", [0.008, 0.04, 3])
def test_boundary_measure_is_its_definition(bound_th: float) -> None:
    for pred, gt in pairs()[::3]:
        assert boundary_measure(pred, gt, bound_th) == pytest.approx(
            plain_boundary_measure(pred, gt, bound_th), abs=1e-12
        )


def test_parity_with_the_yardstick(yardstick: ModuleType) -> None:
    for pred, gt in pairs():
        assert region_similarity(pred, gt) == pytest.approx(yardstick.region_j(pred, gt), abs=1e-12)
        assert boundary_measure(pred, gt) == pytest.approx(yardstick.boundary_f(pred, gt), abs=1e-12)
    for count in range(30):
        scores = np.random.default_rng(count).random(count)
        assert statistics(scores) == pytest.approx(yardstick.statistics(scores), abs=1e-12, nan_ok=True)


def test_empty_masks_agree() -> None:
    nothing = np.zeros((5, 5), np.bool_)
    assert region_similarity(nothing, nothing) == boundary_measure(nothing, nothing) == 1.0
    assert region_similarity(nothing, ~nothing) == 0.0
    assert boundary_measure(nothing, ~nothing) == 1.0  # neither has a boundary inside the image


def test_one_pixel() -> None:
    for value in (False, True):
        mask = np.array([[value]])
        assert region_similarity(mask, mask) == boundary_measure(mask, mask) == 1.0


def test_a_shift_within_the_tolerance_costs_no_boundary() -> None:
    mask = np.zeros((200, 200), np.bool_)
    mask[50:150, 50:150] = True
    near, far = np.roll(mask, 2, axis=1), np.roll(mask, 20, axis=1)
    assert boundary_measure(near, mask) == 1.0  # radius: 3 pixels
    assert 0 < boundary_measure(far, mask) < 0.8


@pytest.mark.parametrize("other", [np.zeros((4, 5), np.bool_), np.zeros((4, 4), np.uint8)])
def test_masks_of_another_kind_are_refused(other: Mask) -> None:
    for measure in (region_similarity, boundary_measure):
        with pytest.raises(ValueError, match="bool of one size"):
            measure(other, np.zeros((4, 4), np.bool_))


def test_statistics_of_few_frames() -> None:
    assert all(math.isnan(value) for value in statistics([]))
    assert statistics([0.6]) == (0.6, 1.0, 0.0)
    assert statistics([0.5, 0.5]).recall == 0.0


def write_sequence(folder: Path, labels: list[NDArray[np.uint8]]) -> Path:
    for k, image in enumerate(labels):
        write_label_png(folder / f"{k:05d}.png", image)
    return folder


def sequence() -> list[NDArray[np.uint8]]:
    """Two squares that move to the right, over six frames, beside a void stripe."""
    images = []
    for k in range(6):
        image = np.zeros((40, 60), np.uint8)
        image[5:15, 5 + 4 * k : 15 + 4 * k] = 1
        image[20:30, 5 + 2 * k : 25 + 2 * k] = 2
        image[35:] = 255
        images.append(image)
    return images


def test_perfect_and_missing_predictions(tmp_path: Path) -> None:
    gt = write_sequence(tmp_path / "gt", sequence())
    perfect = evaluate_davis(gt, gt)
    assert (perfect.jf_mean, perfect.frames, perfect.missing) == (1.0, 4, 0)
    assert list(perfect.objects) == [1, 2]
    nothing = evaluate_davis(gt, tmp_path / "nowhere")
    assert (nothing.j_mean, nothing.f_mean, nothing.missing) == (0.0, 0.0, 4)


def test_void_is_ignored_and_other_ids_do_not_count(tmp_path: Path) -> None:
    images = sequence()
    gt = write_sequence(tmp_path / "gt", images)
    spilled = [np.where(image == 255, np.uint8(1), image) for image in images]
    assert evaluate_davis(gt, write_sequence(tmp_path / "a", spilled)).objects[1].region.mean == 1.0
    renamed = [np.where(image == 1, np.uint8(9), image) for image in images]
    scores = evaluate_davis(gt, write_sequence(tmp_path / "b", renamed)).objects
    assert (scores[1].region.mean, scores[2].region.mean) == (0.0, 1.0)


def test_same_scores_as_the_yardstick(tmp_path: Path, yardstick: ModuleType) -> None:
    images = sequence()
    late = [images[max(k - 1, 0)] for k in range(6)]
    gt, pred = write_sequence(tmp_path / "gt", images), write_sequence(tmp_path / "pred", late)
    (pred / "00002.png").unlink()
    ours, theirs = evaluate_davis(gt, pred), yardstick.evaluate_sequence(gt, pred)
    assert (ours.frames, ours.missing) == (theirs["frames"], theirs["missing"])
    assert ours.j_mean == pytest.approx(theirs["J_mean"], abs=1e-12)
    assert ours.f_mean == pytest.approx(theirs["F_mean"], abs=1e-12)
    for label, scores in ours.objects.items():
        row = theirs["objects"][str(label)]
        assert (*scores.region, *scores.boundary) == pytest.approx([row[name] for name in yardstick.FIELDS], abs=1e-12)


def test_unusable_folders_are_named(tmp_path: Path) -> None:
    images = sequence()
    with pytest.raises(InputError, match="at least 3 annotated frames"):
        evaluate_davis(write_sequence(tmp_path / "two", images[:2]), tmp_path)
    gt = write_sequence(tmp_path / "gt", images)
    small = write_sequence(tmp_path / "small", [image[:10] for image in images])
    with pytest.raises(InputError, match=r"small, frame 00001: masks of \(10, 60\)"):
        evaluate_davis(gt, small)


def test_no_objects_give_nan(tmp_path: Path) -> None:
    gt = write_sequence(tmp_path / "gt", [np.zeros((4, 4), np.uint8)] * 3)
    assert math.isnan(evaluate_davis(gt, gt).jf_mean)
