from __future__ import annotations

import numpy as np
import pytest

from tests.formats.worlds import discs
from trackweave.masks.ops import rescale_masks
from trackweave.masks.packed import PackedMasks
from trackweave.structures.tracks import Tracks
from trackweave.visualization.annotators import OverlayPainter, contact_sheet, draw_objects, track_colour
from trackweave.visualization.settings import OverlaySettings

GREY = np.full((60, 80, 3), 100, np.uint8)


def square(top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros((1, 60, 80), np.bool_)
    mask[0, top : top + side, left : left + side] = True
    return mask


def test_fill_blends_and_outline_is_opaque() -> None:
    masks = PackedMasks.from_bool(square(10, 20, 9))
    drawn = draw_objects(GREY, [7], masks, style="fill", labels=False)
    colour = np.array(track_colour(7))
    assert np.abs(drawn[14, 24].astype(int) - (100 + colour) / 2).max() <= 1
    assert drawn[10, 20].tolist() == colour.tolist()
    assert np.array_equal(drawn[masks.to_bool()[0] == 0], GREY[masks.to_bool()[0] == 0])


def test_an_object_cut_by_the_image_has_no_outline_there() -> None:
    drawn = draw_objects(GREY, [7], PackedMasks.from_bool(square(0, 0, 20)), labels=False)
    assert drawn[0, 5].tolist() != list(track_colour(7))
    assert drawn[19, 5].tolist() == list(track_colour(7))


def test_the_image_itself_is_not_touched() -> None:
    image = GREY.copy()
    draw_objects(image, [1], PackedMasks.from_bool(square(5, 5, 20)))
    assert np.array_equal(image, GREY)


def test_smaller_objects_lie_on_top_whatever_their_order() -> None:
    both = np.concatenate([square(10, 10, 5), square(5, 5, 30)])
    for order in ([0, 1], [1, 0]):
        ids = np.array([3, 4])[order]
        drawn = draw_objects(GREY, ids, PackedMasks.from_bool(both[order]), labels=False)
        assert drawn[10, 10].tolist() == list(track_colour(3))


def test_masks_at_another_scale_cover_the_same_place() -> None:
    full = PackedMasks.from_bool(discs(5, 240, 320))
    image = np.zeros((240, 320, 3), np.uint8)
    inside, approx = (
        draw_objects(image, range(1, 6), masks, labels=False).any(axis=2)
        for masks in (full, rescale_masks(full, 80, 107))
    )
    assert np.count_nonzero(inside & approx) / np.count_nonzero(inside | approx) > 0.95


def test_boxes_alone_exclude_right_and_bottom() -> None:
    drawn = draw_objects(GREY, [1], None, np.array([[10.0, 20.0, 30.0, 40.0]]), labels=False)
    rows, columns = np.nonzero((drawn != GREY).any(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 39, 10, 29)


def test_without_boxes_the_label_lies_at_the_mask() -> None:
    corner = np.zeros((1, 60, 80), np.bool_)
    corner[0, 5:55, 5:8] = corner[0, 50:55, 5:75] = True  # an L: the middle of its box is not inside it
    masks = PackedMasks.from_bool(corner)
    plain = draw_objects(GREY, [1], masks, labels=False)
    rows, columns = np.nonzero((draw_objects(GREY, [1], masks) != plain).any(axis=2))
    touched = np.zeros((60, 80), np.bool_)
    touched[rows.min() : rows.max() + 2, columns.min() : columns.max() + 1] = True
    assert (touched & corner[0]).any()
    assert rows.min() > 20


@pytest.mark.parametrize("box", [[-50, -50, 500, 500], [79, 59, 80, 60], [100, 100, 200, 200], [5, 5, 5, 5]])
def test_boxes_and_labels_anywhere_can_be_drawn(box: list[float]) -> None:
    assert draw_objects(GREY, [123456], None, np.array([box], np.float32)).shape == GREY.shape


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2)])
def test_tiny_images(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    masks = PackedMasks.from_bool(np.ones((2, *size), np.bool_))
    assert draw_objects(image, [1, 2], masks).shape == image.shape


def test_no_objects_gives_the_image() -> None:
    assert np.array_equal(draw_objects(GREY, [], PackedMasks.empty(60, 80), np.zeros((0, 4))), GREY)
    assert np.array_equal(draw_objects(GREY, [], None), GREY)
    assert np.array_equal(draw_objects(GREY, [4], PackedMasks.empty(60, 80, 1), labels=False), GREY)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="differ in number"):
        draw_objects(GREY, [1, 2], PackedMasks.empty(60, 80, 1))
    with pytest.raises(ValueError, match="differ in number"):
        draw_objects(GREY, [1, 2], None, np.zeros((2, 4)), labels=["one"])
    with pytest.raises(ValueError, match="uint8"):
        draw_objects(GREY.astype(np.float32), [], None)


def test_colours_never_mix() -> None:
    """A pixel has the tint of one object, the smaller one, also where its outline would end inside another's fill."""
    both = np.concatenate([square(10, 10, 20), square(5, 5, 40)])
    drawn = draw_objects(GREY, [3, 4], PackedMasks.from_bool(both), style="fill", labels=False)
    for track_id, pixel in ((3, drawn[20, 20]), (4, drawn[40, 40])):
        assert np.abs(pixel.astype(int) - (100 + np.array(track_colour(track_id))) / 2).max() <= 1


def test_a_hidden_outline_is_not_drawn() -> None:
    both = np.concatenate([square(10, 10, 20), square(15, 5, 30)])  # the larger one's upper side runs below the smaller
    drawn = draw_objects(GREY, [3, 4], PackedMasks.from_bool(both), labels=False)
    assert drawn[15, 32].tolist() == list(track_colour(4))
    assert drawn[15, 20].tolist() != list(track_colour(4))


def test_what_has_no_track_is_grey() -> None:
    assert len(set(track_colour(0))) == 1
    assert len(set(track_colour(1))) > 1


def test_labels_avoid_each_other() -> None:
    image = np.full((240, 320, 3), 100, np.uint8)
    boxes = np.array([[100.0, 100, 140, 140]] * 4)
    drawn = draw_objects(image, [1, 2, 3, 4], None, boxes)
    plates = [np.argwhere((drawn == track_colour(n)).all(axis=2)) for n in (1, 2, 3, 4)]
    for plate in plates:  # each label's plate can be seen, not the last one's alone
        assert len(plate) > 60


def test_labels_may_be_texts() -> None:
    boxes = np.array([[10.0, 20, 40, 50]])
    ids = draw_objects(GREY, [1], None, boxes)
    texts = draw_objects(GREY, [1], None, boxes, labels=["1 car 0.9"])
    assert (texts != GREY).sum() > (ids != GREY).sum()


def test_lines_and_letters_grow_with_the_image() -> None:
    counts = []
    for scale in (1, 3):
        image = np.zeros((360 * scale, 640 * scale, 3), np.uint8)
        drawn = draw_objects(image, [1], None, np.array([[100.0, 100, 200, 200]]) * scale, labels=False)
        counts.append(np.count_nonzero(drawn[150 * scale].any(axis=1)))
    assert counts[1] >= 3 * counts[0] - 2


def test_classes_and_scores_are_written_when_wanted() -> None:
    tracks = Tracks.from_columns([0], [7], [[10, 10, 40, 40]], [0.25], [2])
    painter = OverlayPainter(OverlaySettings(classes=True, scores=True), class_names={2: "car"})
    assert painter._text(tracks, 0) == "7 car 0.25"
    assert OverlayPainter(OverlaySettings(classes=True))._text(tracks, 0) == "7 2"
    assert OverlayPainter()._text(tracks, 0) == "7"


def test_contact_sheet_places_images_in_rows() -> None:
    pictures = [np.full((20, 30, 3), 50 * k, np.uint8) for k in range(1, 5)]
    sheet = contact_sheet(pictures, 3, ["a", "b", "ü", "d" * 99])
    assert sheet.shape == (2 * (20 + 8 + 22) + 8, 3 * (30 + 8) + 8, 3)
    assert sheet[8, 8].tolist() == [50] * 3
    assert sheet[8 + 50, 8].tolist() == [200] * 3


def test_contact_sheet_takes_other_sizes_and_fewer_images_than_columns() -> None:
    sheet = contact_sheet([np.zeros((5, 7, 3), np.uint8), np.zeros((9, 3, 3), np.uint8)], 5)
    assert sheet.shape == (9 + 16, 2 * (7 + 8) + 8, 3)
    with pytest.raises(ValueError, match="needs images"):
        contact_sheet([], 2)
    with pytest.raises(ValueError, match="1 captions for 2"):
        contact_sheet([GREY, GREY], 2, ["a"])


GREY_VIDEO = np.full((120, 200, 3), 100, np.uint8)


def walk(frame: int, ids: tuple[int, ...] = (1,), masks: PackedMasks | None = None) -> Tracks:
    """Every track moves 10 pixels right per frame, on its own line."""
    boxes = [[10 * frame, 30 * k, 10 * frame + 12, 30 * k + 20] for k in range(1, len(ids) + 1)]
    return Tracks.from_columns([frame] * len(ids), ids, boxes, masks=masks)


def painted(picture: np.ndarray, track_id: int) -> np.ndarray:
    return np.asarray(np.all(picture == track_colour(track_id), axis=2))


def test_a_track_leaves_a_trail_where_it_stood() -> None:
    painter = OverlayPainter()
    for frame in range(8):
        painter.follow(frame, walk(frame))
    found = painter.paint(GREY_VIDEO, walk(7))
    trail = painted(found, 1)[48:52]  # around the feet, at y = 50
    assert trail[:, 10:70].any(axis=0).all()
    assert not trail[:, 90:].any()
    assert painted(found, 1)[30, 70:82].all()  # the box
    assert GREY_VIDEO.max() == 100  # a copy was drawn on


def test_trails_are_forgotten() -> None:
    painter = OverlayPainter(OverlaySettings(trail=3))
    for frame in range(8):
        painter.follow(frame, walk(frame))
    assert not painted(painter.paint(GREY_VIDEO, walk(7)), 1)[48:52, :50].any()
    for frame in range(8, 12):
        painter.follow(frame, Tracks.empty())
    assert painter._trails == {}
    np.testing.assert_array_equal(painter.paint(GREY_VIDEO, Tracks.empty()), GREY_VIDEO)


def test_large_images_are_made_smaller_with_their_boxes() -> None:
    painter = OverlayPainter(max_width=100)
    painter.follow(7, walk(7))
    found = painter.paint(GREY_VIDEO, walk(7))
    assert found.shape == (60, 100, 3)
    assert painted(found, 1)[15, 35:41].all()


def test_masks_are_drawn_at_any_scale() -> None:
    masks = PackedMasks.from_bool(np.ones((1, 60, 100), np.bool_))
    painter = OverlayPainter()
    painter.follow(0, walk(0, masks=masks))
    assert (painter.paint(GREY_VIDEO, walk(0, masks=masks)) != GREY_VIDEO).any(axis=2).mean() > 0.9
