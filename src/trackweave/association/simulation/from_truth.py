"""`detect_truth`: what a simulated detector would have reported of a real sequence whose truth is known."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from trackweave.association.simulation.detector import detect
from trackweave.association.simulation.detector_noise import DetectorNoise
from trackweave.association.simulation.people import People
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
    people = People.of_truth(truth, size=size, fps=fps, length=length, camera=camera)
    found = detect(people.scene(), noise, rng)
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
