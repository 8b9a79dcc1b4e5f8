from __future__ import annotations

import importlib.util
import math
from itertools import permutations
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from trackweave.errors import InputError
from trackweave.evaluation.jf import (
    RegionByBest,
    RegionByIds,
    boundary_measure,
    boundary_measures,
    edges_of,
    evaluate_davis,
    region_similarities,
    region_similarity,
    statistics,
)
from trackweave.formats.davis import write_label_png
from trackweave.masks.packed import PackedMasks

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


@st.composite
def masks(draw: st.DrawFn) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two sets of masks of one size: noise, rectangles, empty and full ones."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))

    def one() -> NDArray[np.bool_]:
        kind = draw(st.sampled_from(("noise", "box", "empty", "full")))
        if kind == "noise":
            return draw(arrays(np.bool_, (height, width)))
        found = np.full((height, width), kind == "full")
        if kind == "box":
            y1, y2 = sorted(draw(st.tuples(st.integers(0, height), st.integers(0, height))))
            x1, x2 = sorted(draw(st.tuples(st.integers(0, width), st.integers(0, width))))
            found[y1:y2, x1:x2] = True
        return found

    return tuple(np.array([one() for _ in range(draw(st.integers(1, 3)))]) for _ in range(2))  # type: ignore[return-value]


@given(masks(), st.sampled_from((0.008, 0.05, 1, 3)))
def test_pairs_are_what_the_single_measures_say(
    given_masks: tuple[NDArray[np.bool_], NDArray[np.bool_]], bound: float
) -> None:
    one, other = given_masks
    packed = [PackedMasks.from_bool(side) for side in given_masks]
    region = region_similarities(*packed)
    boundary = boundary_measures(*(edges_of(side, bound) for side in packed))
    assert region.tolist() == [[region_similarity(a, b) for b in other] for a in one]
    assert boundary.tolist() == [[boundary_measure(a, b, bound) for b in other] for a in one]


def test_no_masks() -> None:
    nothing, some = PackedMasks.empty(4, 5), PackedMasks.empty(4, 5, 2)
    assert region_similarities(nothing, some).shape == (0, 2)
    assert boundary_measures(edges_of(some), edges_of(nothing)).shape == (2, 0)


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="different sizes"):
        region_similarities(PackedMasks.empty(4, 5, 1), PackedMasks.empty(5, 4, 1))


Video = NDArray[np.int64]
"""`(T, H, W)` labels."""


def add(collected: RegionByBest | RegionByIds, truth: NDArray[np.int64], tracks: NDArray[np.int64]) -> None:
    collected.add(*packed(truth), *packed(tracks))


def packed(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], PackedMasks]:
    """The ids of a label map, and their masks."""
    ids = np.array([label for label in np.unique(labels) if label], np.int64)
    masks = np.array([labels == label for label in ids]).reshape(-1, *labels.shape)
    return ids, PackedMasks.from_bool(masks)


def series(truth: Video, tracks: Video, label: int, track: int) -> NDArray[np.float64]:
    """J and F by the definition, frame by frame."""
    pairs = [(found == track, true == label) for true, found in zip(truth, tracks, strict=True)]
    return np.array([[region_similarity(a, b), boundary_measure(a, b)] for a, b in pairs])


def by_trying_all(truth: Video, tracks: Video) -> float:
    """The largest sum of mean J and F that any assignment reaches."""
    labels, ids = ([int(k) for k in np.unique(video) if k] for video in (truth, tracks))
    padded = ids + [0] * max(len(labels) - len(ids), 0)
    best = 0.0
    for chosen in permutations(padded, len(labels)):
        found = [series(truth, tracks, a, b).mean() if b else 0.0 for a, b in zip(labels, chosen, strict=True)]
        best = max(best, sum(found))
    return best


def videos(seed: int, frames: int) -> tuple[Video, Video]:
    """Blocks of labels that move a little; some vanish for a while."""
    rng = np.random.default_rng(seed)
    truth, tracks = (np.zeros((frames, 20, 24), np.int64) for _ in range(2))
    for video, count in ((truth, int(rng.integers(1, 4))), (tracks, int(rng.integers(0, 4)))):
        for label in range(1, count + 1):
            y, x, size = int(rng.integers(0, 12)), int(rng.integers(0, 14)), int(rng.integers(2, 9))
            for frame in range(frames):
                if rng.uniform() > 0.2:
                    video[frame, y : y + size, x + frame : x + frame + size] = label
    return truth, tracks


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(max_examples=40)
def test_best_tracks(seed: int, frames: int) -> None:
    truth, tracks = videos(seed, frames)
    collected = RegionByBest()
    for true, found in zip(truth, tracks, strict=True):
        add(collected, true, found)
    objects = collected.objects()
    assert set(objects) == {int(k) for k in np.unique(truth) if k}
    reached = sum((found.region.mean + found.boundary.mean) / 2 for found in objects.values())
    assert reached == pytest.approx(by_trying_all(truth, tracks))


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(max_examples=25)
def test_by_ids(seed: int, frames: int) -> None:
    truth, tracks = videos(seed, frames)
    collected = RegionByIds([1, 3])
    for true, found in zip(truth, tracks, strict=True):
        add(collected, true, found)
    for label, found in collected.objects().items():
        expected = series(truth, tracks, label, label)
        assert (found.region, found.boundary) == (statistics(expected[:, 0]), statistics(expected[:, 1]))


def test_nothing_tracked() -> None:
    truth, tracks = videos(1, 4)
    collected = RegionByBest()
    for true in truth:
        add(collected, true, tracks[0] * 0)
    assert {found.region.mean for found in collected.objects().values()} == {0.0}


def test_a_folder_that_is_not_there_counts_as_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 3 annotated frames"):
        evaluate_davis(tmp_path, tmp_path)
    for frame in range(4):
        write_label_png(tmp_path / f"{frame}.png", np.eye(5, dtype=np.uint8))
    found = evaluate_davis(tmp_path, tmp_path / "nowhere")
    assert (found.frames, found.missing, found.j_mean) == (2, 2, 0.0)
