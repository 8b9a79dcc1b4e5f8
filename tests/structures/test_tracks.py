from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.errors import MissingExtraError
from trackweave.ids import FrameIndex
from trackweave.masks.packed import PackedMasks
from trackweave.structures.tracks import FrameObjects, Tracks

KEYS = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), unique=True, max_size=12)


def tracks(keys: list[tuple[int, int]], *, with_masks: bool = False) -> Tracks:
    """Observations whose every column tells its frame and track."""
    frame, track = (np.array([key[k] for key in keys], np.int64) for k in (0, 1))
    code = 10 * frame + track
    masks = np.arange(64) < code[:, None]
    return Tracks.from_columns(
        frame,
        track,
        np.stack([code, code + 1, code + 2, code + 3], axis=1),
        code / 100,
        track % 2,
        PackedMasks.from_bool(masks.reshape(-1, 8, 8)) if with_masks else None,
    )


def assert_same(a: Tracks, b: Tracks) -> None:
    for name, column in a.to_dict().items():
        np.testing.assert_array_equal(b.to_dict()[name], column)
        assert b.to_dict()[name].dtype == column.dtype
    assert a.masks == b.masks


@given(KEYS)
def test_rows_are_ordered_by_frame_then_track_and_stay_whole(keys: list[tuple[int, int]]) -> None:
    ordered = tracks(keys, with_masks=True)
    assert list(zip(ordered.frame.tolist(), ordered.track_id.tolist(), strict=True)) == sorted(keys)
    code = 10 * ordered.frame + ordered.track_id
    np.testing.assert_array_equal(ordered.xyxy[:, 0], code)
    np.testing.assert_array_equal(ordered.score, (code / 100).astype(np.float32))
    np.testing.assert_array_equal(ordered.class_id, ordered.track_id % 2)
    assert ordered.masks is not None
    np.testing.assert_array_equal(ordered.masks.areas, code)


@given(KEYS)
def test_by_frame_and_by_track(keys: list[tuple[int, int]]) -> None:
    all_of_them = tracks(keys, with_masks=True)
    for frame in range(-1, 6):
        assert all_of_them.at(frame).track_id.tolist() == sorted(t for f, t in keys if f == frame)
    for track in range(6):
        assert all_of_them.of(track).frame.tolist() == sorted(f for f, t in keys if t == track)
    parts = dict(all_of_them)
    assert list(parts) == all_of_them.frames.tolist() == sorted({f for f, _ in keys})
    assert all_of_them.track_ids.tolist() == sorted({t for _, t in keys})
    if keys:
        assert_same(Tracks.concat(list(reversed(parts.values()))), all_of_them)


def test_one_track_twice_on_a_frame() -> None:
    with pytest.raises(ValueError, match="track 2 occurs twice on frame 5"):
        Tracks.from_columns([5, 1, 5], [2, 2, 2], np.zeros((3, 4)))


@pytest.mark.parametrize("column", ["track_id", "xyxy", "score", "class_id", "masks"])
def test_columns_of_different_lengths(column: str) -> None:
    columns: dict[str, Any] = {
        "frame": [0, 1],
        "track_id": [1, 1],
        "xyxy": np.zeros((2, 4)),
        "score": [1, 1],
        "class_id": [0, 0],
        "masks": PackedMasks.empty(2, 2, 2),
    }
    columns[column] = columns[column][:1]
    with pytest.raises(ValueError, match="different lengths"):
        Tracks.from_columns(**columns)


def test_defaults_and_the_empty_record() -> None:
    one = Tracks.from_columns([3], [1], [[0, 0, 2, 2]])
    assert (one.score.tolist(), one.class_id.tolist(), one.masks) == ([1.0], [-1], None)
    assert len(Tracks.empty()) == 0
    assert list(Tracks.empty()) == []
    assert len(Tracks.concat([])) == 0
    assert len(Tracks.empty().at(0)) == 0


def test_indexing() -> None:
    rows = tracks([(0, 1), (1, 1), (2, 1)], with_masks=True)
    assert rows[[2, 0]].frame.tolist() == [0, 2]
    assert rows[1:].frame.tolist() == [1, 2]
    assert len(rows[[]]) == 0
    assert rows[rows.frame == 1].xyxy.tolist() == [[11, 12, 13, 14]]


def test_masks_survive_joining_only_when_all_have_them() -> None:
    with_masks, without = tracks([(0, 1)], with_masks=True), tracks([(1, 1)])
    assert Tracks.concat([with_masks, without]).masks is None
    assert Tracks.concat([with_masks, Tracks.empty()]).masks == with_masks.masks


def frame_objects(frame: int, ids: list[int]) -> FrameObjects:
    n = len(ids)
    masks = PackedMasks.from_bool(np.ones((n, 2, 3), np.bool_))
    boxes = np.tile(np.array([0, 0, 3, 2], np.float32), (n, 1))
    return FrameObjects(
        FrameIndex(frame), f"{frame}.png", np.array(ids, np.int64), masks, boxes, masks.areas, np.ones(n, np.float32)
    )


def test_from_frames_of_an_archive() -> None:
    frames = [frame_objects(4, [1, 9]), frame_objects(5, []), frame_objects(6, [9])]
    joined = Tracks.from_frames(frames, level=2)
    assert joined.frame.tolist() == [4, 4, 6]
    assert joined.track_id.tolist() == [1, 9, 9]
    assert joined.level is not None
    assert joined.level.tolist() == [2, 2, 2]
    assert joined.class_id.tolist() == [-1, -1, -1]
    assert joined.masks is not None
    assert joined.masks.areas.tolist() == [6, 6, 6]
    assert Tracks.from_frames(frames, with_masks=False).masks is None


def test_objects_of_a_frame_by_index() -> None:
    objects = frame_objects(4, [1, 5, 9])
    chosen = objects[[2, 0]]
    assert (chosen.frame, chosen.name, chosen.track_id.tolist(), len(chosen.masks)) == (4, "4.png", [9, 1], 2)
    assert len(objects[[]]) == 0
    assert objects[np.array([False, True, False])].track_id.tolist() == [5]


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@given(keys=KEYS)
def test_tables_and_back(library: str, keys: list[tuple[int, int]]) -> None:
    pytest.importorskip(library)
    given_tracks = tracks(keys)
    if library == "pandas":
        back = Tracks.from_pandas(given_tracks.to_pandas())
    elif library == "polars":
        back = Tracks.from_polars(given_tracks.to_polars())
    else:
        back = Tracks.from_arrow(given_tracks.to_arrow())
    assert_same(back, given_tracks)


def test_the_columns_of_a_table() -> None:
    pytest.importorskip("pandas")
    table = tracks([(0, 1)]).to_pandas()
    assert list(table) == ["frame", "track_id", "x1", "y1", "x2", "y2", "score", "class_id"]


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingExtraError, match=r"polars is not installed: pip install 'trackweave\[tables\]'"):
        tracks([(0, 1)]).to_polars()


def test_one_row_and_the_last_one() -> None:
    rows = tracks([(0, 1), (1, 1), (2, 1)], with_masks=True)
    assert rows[1].frame.tolist() == [1]
    assert rows[-1].frame.tolist() == [2]


def test_levels_are_a_column_of_their_own() -> None:
    coarse = Tracks.from_columns([0, 1], [1, 1], np.zeros((2, 4)), level=[2, 2])
    fine = Tracks.from_columns([0], [5], np.zeros((1, 4)), level=[4])
    both = Tracks.concat([coarse, fine])
    assert both.level is not None
    assert both.level.tolist() == [2, 4, 2]
    assert both.class_id.tolist() == [-1, -1, -1]
    assert both.to_dict()["level"].tolist() == [2, 4, 2]
    assert Tracks.concat([coarse, Tracks.from_columns([9], [9], np.zeros((1, 4)))]).level is None


@pytest.mark.parametrize("library", ["pandas", "polars", "arrow"])
def test_masks_and_levels_go_through_tables(library: str) -> None:
    pytest.importorskip("pyarrow" if library == "arrow" else library)
    rows = tracks([(0, 1), (0, 2), (3, 1)], with_masks=True)
    rows = Tracks.from_columns(rows.frame, rows.track_id, rows.xyxy, rows.score, rows.class_id, rows.masks, [2, 4, 2])
    table = getattr(rows, f"to_{library}")(with_masks=True)
    back = getattr(Tracks, f"from_{library}")(table)
    assert_same(back, rows)
    assert "mask_counts" not in rows.to_dict()


def test_supervision_gets_one_frame_with_masks() -> None:
    supervision = pytest.importorskip("supervision")
    rows = tracks([(0, 1), (3, 1), (3, 2)], with_masks=True)
    detections = rows.at(3).to_supervision()
    assert isinstance(detections, supervision.Detections)
    assert detections.tracker_id.tolist() == [1, 2]
    assert detections.mask.shape == (2, 8, 8)
    assert detections.data["frame"].tolist() == [3, 3]


def test_what_is_printed_is_short() -> None:
    rows = Tracks.from_columns([0, 4, 4], [1, 1, 3], np.zeros((3, 4)), level=[2, 2, 4])
    assert repr(rows) == "Tracks(3 rows: 2 tracks on frames 0-4, level 2 4)"
    assert repr(Tracks.empty()) == "Tracks(no rows)"
    page = rows._repr_html_()
    assert page.count("<tr>") == 3
    assert "<td>1</td><td>2</td><td>0</td><td>4</td>" in page
