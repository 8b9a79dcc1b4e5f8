from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from trackweave.simulation.video import SyntheticScene


def areas(scene: SyntheticScene, k: int) -> NDArray[np.int64]:
    return np.array([(scene.labels(local) == k).sum() for local in range(len(scene))])


def test_any_order_gives_the_same_bytes() -> None:
    one, other = SyntheticScene(3, length=8), SyntheticScene(3, length=8)
    forward = [one[k].tobytes() for k in range(8)]
    assert [other[k].tobytes() for k in reversed(range(8))] == forward[::-1]
    assert len(set(forward)) == 8


def test_seeds_differ() -> None:
    assert not np.array_equal(SyntheticScene(0)[0], SyntheticScene(1)[0])


def test_it_is_a_frame_source() -> None:
    scene = SyntheticScene(height=48, width=64, length=5, fps=10)
    frame = scene[2]
    assert frame.shape == (48, 64, 3)
    assert frame.dtype == np.uint8
    assert (frame.flags.c_contiguous, frame.flags.writeable) == (True, False)
    assert scene.size == (48, 64)
    assert scene.times == (0.0, 0.1, 0.2, 0.3, 0.4)
    assert scene.names[2] == "frame_000002"
    assert list(scene.select([1, 3]).indices) == [1, 3]
    assert scene.path is None


def test_masks_are_the_labels() -> None:
    scene = SyntheticScene(length=3)
    labels, masks = scene.labels(1), scene.masks(1)
    assert labels.dtype == np.uint8
    assert set(masks) == set(np.unique(labels).tolist()) - {0} <= set(scene.object_ids)
    for k, mask in masks.items():
        np.testing.assert_array_equal(mask, labels == k)


@pytest.mark.parametrize("size", [(240, 320), (180, 320), (320, 240), (96, 128)])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("camera", [True, False])
def test_the_promised_events_happen(size: tuple[int, int], seed: int, camera: bool) -> None:
    scene = SyntheticScene(seed, *size, length=30, camera=camera)
    hiding, leaving, arriving = (areas(scene, k) for k in (3, 4, 5))
    assert hiding[[0, -1]].min() > 0
    assert hiding[14:16].max() == 0
    assert leaving[0] > 0
    assert np.flatnonzero(leaving).max() < 24  # … and not one pixel of it after
    assert np.flatnonzero(arriving).min() > 6
    assert arriving[-1] > 0
    assert areas(scene, 6).min() > 0


@pytest.mark.parametrize("seed", range(4))
def test_the_crossing_objects_change_sides_and_cover_one_another(seed: int) -> None:
    scene = SyntheticScene(seed, length=30)
    far, near = areas(scene, 1), areas(scene, 2)

    def centre(local: int, k: int) -> float:
        return float(np.nonzero(scene.labels(local) == k)[1].mean())

    assert centre(0, 1) < centre(0, 2)
    assert centre(29, 1) > centre(29, 2)
    assert far.min() < 0.55 * far.max()  # covered by the nearer one, later by the post
    assert near[10:20].min() > 0.7 * near.max()


def test_the_ring_has_a_hole_that_is_not_labelled() -> None:
    scene = SyntheticScene(length=10, camera=False)
    filled = []
    for local in range(10):
        ring = (scene.labels(local) == 6).astype(np.uint8)
        outer, _ = cv2.findContours(ring, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        filled.append(int(cv2.drawContours(np.zeros_like(ring), outer, -1, 1, -1).sum()) / int(ring.sum()))
    assert max(filled) > 1.15


@pytest.mark.parametrize("local", [0, 12, 29])
def test_labels_lie_where_the_objects_are_drawn(local: int) -> None:
    scene = SyntheticScene(2, length=30, noise=0, lighting=False)
    frame, labels = scene[local].astype(float), scene.labels(local)
    edges = np.abs(np.diff(frame, axis=1)).sum(2)
    borders = (np.diff(labels.astype(int), axis=1) != 0) & np.isin(labels[:, 1:], (0, 1, 2, 6))
    assert edges[borders].mean() > 4 * edges[~borders].mean()


def test_a_scene_without_objects() -> None:
    scene = SyntheticScene(length=2, objects=0)
    assert scene.object_ids == []
    assert scene.masks(1) == {}


def test_appearance_moves_with_the_labels() -> None:
    scene = SyntheticScene(0, length=60)
    first, second = (cv2.cvtColor(scene[k], cv2.COLOR_RGB2GRAY) for k in (10, 11))
    flow = cv2.calcOpticalFlowFarneback(
        first, second, np.zeros((*first.shape, 2), np.float32), 0.5, 3, 15, 3, 5, 1.2, 0
    )
    mask, after = scene.labels(10) == 1, scene.labels(11) == 1
    moved = np.argwhere(after).mean(0) - np.argwhere(mask).mean(0)
    np.testing.assert_allclose(np.median(flow[mask], axis=0), moved[::-1], atol=0.8)


def test_many_objects_need_wider_labels() -> None:
    scene = SyntheticScene(height=64, width=64, length=2, objects=300)
    assert scene.labels(0).dtype == np.uint16
    assert scene.labels(0).max() > 255


def test_one_frame_without_camera_noise_and_light() -> None:
    scene = SyntheticScene(length=1, objects=1, camera=False, noise=0, lighting=False)
    assert scene[0].shape == (240, 320, 3)
    assert list(scene.masks(0)) == [1]


@pytest.mark.parametrize("arguments", [{"height": 8}, {"length": 0}, {"objects": -1}])
def test_impossible_scenes(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="no scene of"):
        SyntheticScene(**arguments)  # type: ignore[arg-type]


def test_drawing_is_fast() -> None:
    scene = SyntheticScene()
    best = min(_seconds(scene, k) for k in range(20))
    assert best < 0.03  # about 6 ms; the rest is for slow and busy machines


def _seconds(scene: SyntheticScene, local: int) -> float:
    start = time.perf_counter()
    scene[local]
    return time.perf_counter() - start
