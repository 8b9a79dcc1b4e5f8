"""A picture of simulated sequences: one frame of each with true boxes and trails, and what the detector reported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.simulation.sequence import SimulatedSequence
from trackweave.structures.tracks import Tracks
from trackweave.visualization.annotators import TrailPainter, contact_sheet, write_png

WIDE = 640
"""Pixels of a panel."""
TRAIL = 60
"""Frames that trails reach back."""
PAPER = 28
FOUND = (235, 235, 235)
"""Colour of detected boxes."""


def write_overview(path: Path, sequences: Sequence[SimulatedSequence]) -> None:
    """Draws every sequence in the middle of its time.

    Raises:
        RunFolderError: the file cannot be written.
    """
    panels = [_panel(sequence) for sequence in sequences]
    captions = [
        f"{one.name}: {one.fps:g} fps, {len(np.unique(one.truth.track_id))} objects, "
        f"{np.mean(one.gt_track_ids < 0) if len(one.gt_track_ids) else 0:.0%} false, camera "
        f"{'withheld' if one.camera is None else 'told'}"
        for one in sequences
    ]
    write_png(path, contact_sheet(panels, min(3, len(panels)), captions))


def _panel(sequence: SimulatedSequence) -> NDArray[np.uint8]:
    """One frame: trails and true boxes in colours, detected boxes in white."""
    height, width = sequence.size
    scale = WIDE / width
    image = np.full((max(1, round(height * scale)), WIDE, 3), PAPER, np.uint8)
    painter = TrailPainter(TRAIL, WIDE)
    middle = len(sequence) // 2
    shown = sequence.frames[max(0, middle - TRAIL) : middle + 1].tolist()
    tracks = Tracks.empty()
    for frame in shown:
        truth = sequence.truth.at(frame)
        tracks = Tracks.from_columns(
            truth.frame, truth.track_id, np.clip(truth.xyxy, -width, 2 * width) * np.float32(scale)
        )
        painter.follow(frame, tracks)
    image = painter.paint(image, tracks)
    import cv2

    for x1, y1, x2, y2 in (
        (np.clip(sequence.at(shown[-1]).xyxy, -width, 2 * width) * scale).round().astype(int).tolist()
    ):
        cv2.rectangle(image, (x1, y1), (x2, y2), FOUND, 1)
    return image
