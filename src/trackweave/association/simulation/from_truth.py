"""`detect_truth`: what a simulated detector would have reported of a real sequence whose truth is known."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from trackweave.association.simulation.detector import detect
from trackweave.association.simulation.detector_noise import DetectorNoise
from trackweave.association.simulation.occlusion import sightings
from trackweave.association.simulation.scene import Scene
from trackweave.formats.detections_table import DetectionTable
from trackweave.formats.motchallenge import GroundTruth


def detect_truth(
    truth: GroundTruth,
    noise: DetectorNoise,
    *,
    size: tuple[int, int],
    fps: float,
    length: int,
    seed: int,
    name: str,
    camera: NDArray[np.float64] | None = None,
) -> DetectionTable:
    """Detections of the boxes that count; what stands lower in the picture hides what stands higher.

    Args:
        truth: true boxes.
        noise: how the detector errs.
        size: `(H, W)` pixels.
        fps: frames per second.
        length: frames.
        seed: of the random numbers, together with `name`: sequences do not depend on each other.
        name: of the sequence.
        camera: `(F, 2, 3)` motion of the picture, which false boxes on the background follow; None: it stands.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    found = detect(_scene(truth, size, fps, length, camera), noise, rng)
    boxes = found.boxes.astype(np.float32)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    classes = np.where(found.class_id < 0, -1, found.class_id)
    return DetectionTable(
        found.frame[kept],
        boxes[kept],
        found.score.astype(np.float32)[kept],
        classes[kept],
        length=length,
        source=f"simulated detections of {name}",
    )


def _scene(
    truth: GroundTruth, size: tuple[int, int], fps: float, length: int, camera: NDArray[np.float64] | None
) -> Scene:
    truth = truth[truth.counts & (truth.track_id >= 0) & (truth.frame < length)]
    ids, column = np.unique(truth.track_id, return_inverse=True)
    n = len(ids)
    boxes, there = np.zeros((length, n, 4)), np.zeros((length, n), np.bool_)
    boxes[truth.frame, column], there[truth.frame, column] = truth.xyxy, True
    class_id = np.full(n, -1, np.int64)
    class_id[column] = truth.class_id
    seen = sightings(boxes, -boxes[..., 3], there, np.zeros(n, np.bool_), size)
    motion = np.tile(np.eye(2, 3), (length, 1, 1))
    if camera is not None:
        motion[: len(camera)] = camera[:length]
    return Scene(size, 1 / fps, boxes, there, seen, ids, class_id, motion)
