"""The pictures of an item: the overlay video of a mask run by identity, and a thumbnail for the page over all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trackweave.errors import TrackweaveError
from trackweave.frames.open import open_frames
from trackweave.pipelines.identity import OVERLAY_RATE
from trackweave.pipelines.run import Run
from trackweave.storage.files import replacing
from trackweave.visualization.annotators import run_colours, track_colour
from trackweave.visualization.settings import OverlaySettings
from trackweave.visualization.video import write_mask_overlay

THUMBNAIL = "thumbnail.jpg"
WIDTH = 240
"""Pixels of a thumbnail."""


def draw_overlay(folder: Path, settings: OverlaySettings, *, every: bool) -> None:
    """Writes the overlay of the coarsest level of a mask run, or one of every level, by identity.

    Raises:
        InputError: the frames are not there any more.
        ArtifactError: the file cannot be written.
    """
    run = Run(folder)
    rate = run.frames.rate or OVERLAY_RATE
    with run.video() as frames:
        for level in run.levels if every else run.levels[:1]:
            path = run.paths.overlay if level == run.levels[0] else run.paths.level(level).overlay
            with run.masks(level) as archive:
                write_mask_overlay(path, archive, frames, rate, settings, run_colours(run.paths))


def write_thumbnail(folder: Path) -> None:
    """Writes `thumbnail.jpg`: the middle of the overlay; without one, the boxes of the middle frame."""
    run = Run(folder)
    picture = _of_overlay(run) if run.paths.overlay.is_file() else None
    if picture is None and run.kind == "boxes":
        picture = _of_boxes(run)
    if picture is None:
        return
    image = Image.fromarray(picture)
    image.thumbnail((WIDTH, WIDTH))
    with replacing(folder / THUMBNAIL) as temporary, temporary.open("wb") as file:
        image.save(file, "JPEG", quality=72)


def _of_overlay(run: Run) -> NDArray[np.uint8] | None:
    with suppress(TrackweaveError), open_frames(run.paths.overlay) as frames:
        return frames[len(frames) // 2]
    return None


def _of_boxes(run: Run) -> NDArray[np.uint8] | None:
    """The boxes of the frame that has the median row, on an empty picture."""
    size = run.summary.input.size
    with run.archive() as archive:
        tracks = archive.tracks(with_masks=False)
    if not len(tracks):
        return None
    tracks = tracks.at(int(tracks.frame[len(tracks) // 2]))
    height, width = size or (int(tracks.xyxy[:, 3].max()) + 1, int(tracks.xyxy[:, 2].max()) + 1)
    scale = WIDTH / max(width, height, 1)
    image = Image.new("RGB", (max(int(width * scale), 1), max(int(height * scale), 1)), (40, 44, 50))
    draw = ImageDraw.Draw(image)
    for box, track_id in zip((tracks.xyxy * scale).tolist(), tracks.track_id.tolist(), strict=True):
        x1, y1, x2, y2 = box
        draw.rectangle((x1, y1, max(x2, x1), max(y2, y1)), outline=tuple(map(int, track_colour(track_id))), width=2)
    return np.asarray(image)
