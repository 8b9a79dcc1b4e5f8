"""A preview of simulated sequences: sequence frame of each with true boxes and trails, and detected boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.simulation.sequence import SimulatedSequence
from trackweave.structures.tracks import Tracks
from trackweave.visualization.annotators import TrailPainter, contact_sheet, draw_boxes, write_png

PANEL_WIDTH = 640
"""Pixels of a panel."""
TRAIL = 60
"""Frames that trails reach back."""
BACKGROUND = 28
"""Grey level of a panel."""
DETECTION_COLOUR = (235, 235, 235)


def write_preview(path: Path, sequences: Sequence[SimulatedSequence]) -> None:
    """Draws every sequence in the middle of its time.

    Raises:
        RunFolderError: the file cannot be written.
    """
    panels = [_panel(sequence) for sequence in sequences]
    captions = [
        f"{sequence.name}: {sequence.fps:g} fps, {len(np.unique(sequence.truth.track_id))} objects, "
        f"{np.mean(sequence.gt_track_ids < 0) if len(sequence.gt_track_ids) else 0:.0%} false, camera "
        f"motion {'unknown' if sequence.camera is None else 'known'}"
        for sequence in sequences
    ]
    write_png(path, contact_sheet(panels, min(3, len(panels)), captions))


def _panel(sequence: SimulatedSequence) -> NDArray[np.uint8]:
    """One frame: trails and true boxes in colours, detected boxes in white."""
    height, width = sequence.size
    scale = PANEL_WIDTH / width
    image = np.full((max(1, round(height * scale)), PANEL_WIDTH, 3), BACKGROUND, np.uint8)
    painter = TrailPainter(TRAIL, PANEL_WIDTH)
    middle = len(sequence) // 2
    frames = sequence.frames[max(0, middle - TRAIL) : middle + 1].tolist()
    tracks = Tracks.empty()
    for frame in frames:
        truth = sequence.truth.at(frame)
        tracks = Tracks.from_columns(
            truth.frame, truth.track_id, np.clip(truth.xyxy, -width, 2 * width) * np.float32(scale)
        )
        painter.follow(frame, tracks)
    image = painter.paint(image, tracks)
    detected = np.clip(sequence.at(frames[-1]).xyxy, -width, 2 * width) * scale
    draw_boxes(image, detected.round().astype(np.int64), DETECTION_COLOUR)
    return image
