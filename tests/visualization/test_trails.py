from __future__ import annotations

import numpy as np

from trackweave.masks.packed import PackedMasks
from trackweave.structures.tracks import Tracks
from trackweave.visualization.annotators import TrailPainter
from trackweave.visualization.palette import track_colour

GREY = np.full((120, 200, 3), 100, np.uint8)


def walk(frame: int, ids: tuple[int, ...] = (1,), masks: PackedMasks | None = None) -> Tracks:
    """Every track moves 10 pixels right per frame, on its own line."""
    boxes = [[10 * frame, 30 * k, 10 * frame + 12, 30 * k + 20] for k in range(1, len(ids) + 1)]
    return Tracks.from_columns([frame] * len(ids), ids, boxes, masks=masks)


def painted(picture: np.ndarray, track_id: int) -> np.ndarray:
    return np.asarray(np.all(picture == track_colour(track_id), axis=2))


def test_a_track_leaves_a_trail_where_it_stood() -> None:
    painter = TrailPainter()
    for frame in range(8):
        painter.follow(frame, walk(frame))
    found = painter.paint(GREY, walk(7))
    trail = painted(found, 1)[48:52]  # around the feet, at y = 50
    assert trail[:, 10:70].any(axis=0).all()
    assert not trail[:, 90:].any()
    assert painted(found, 1)[30, 70:82].all()  # the box
    assert GREY.max() == 100  # a copy was drawn on


def test_trails_are_forgotten() -> None:
    painter = TrailPainter(length=3)
    for frame in range(8):
        painter.follow(frame, walk(frame))
    assert not painted(painter.paint(GREY, walk(7)), 1)[48:52, :50].any()
    for frame in range(8, 12):
        painter.follow(frame, Tracks.empty())
    assert painter._trails == {}
    np.testing.assert_array_equal(painter.paint(GREY, Tracks.empty()), GREY)


def test_large_pictures_are_made_smaller_with_their_boxes() -> None:
    painter = TrailPainter(max_width=100)
    painter.follow(7, walk(7))
    found = painter.paint(GREY, walk(7))
    assert found.shape == (60, 100, 3)
    assert painted(found, 1)[15, 35:41].all()


def test_masks_are_drawn_at_any_scale() -> None:
    masks = PackedMasks.from_bool(np.ones((1, 60, 100), np.bool_))
    painter = TrailPainter()
    painter.follow(0, walk(0, masks=masks))
    assert (painter.paint(GREY, walk(0, masks=masks)) != GREY).any(axis=2).mean() > 0.9
