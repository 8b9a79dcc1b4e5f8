from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.errors import InputError
from trackweave.evaluation.jf import (
    RegionByBest,
    RegionByIds,
    boundary_measure,
    evaluate_davis,
    region_similarity,
    statistics,
)
from trackweave.formats.davis import write_label_png
from trackweave.masks.packed import PackedMasks

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
