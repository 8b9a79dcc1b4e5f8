from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.formats.worlds import break_renames
from tests.toy_boxes import write_lines
from trackweave.errors import ArtifactError, InputError
from trackweave.formats.mot import read_ground_truth, read_mot, read_mot_annotations, write_mot
from trackweave.structures.tracks import Tracks

PIXELS = st.floats(-3000, 9000, width=32).filter(lambda v: v == 0 or abs(v) > 1e-6)
EXTENTS = st.floats(0, 5000, width=32).filter(lambda v: v == 0 or v > 1e-6)
ROWS = st.lists(
    st.tuples(
        st.integers(0, 10**6),
        st.integers(0, 2**40),
        st.tuples(PIXELS, PIXELS, EXTENTS, EXTENTS),
        st.floats(0, 1, width=32),
        st.integers(-1, 90),
    ),
    unique_by=lambda row: row[:2],
    max_size=12,
)


def same(a: Tracks, b: Tracks) -> bool:
    names = ("frame", "track_id", "xyxy", "score", "class_id")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(ROWS)
def test_tracks_survive_the_round_trip_exactly(
    tmp_path: Path, rows: list[tuple[int, int, tuple[float, ...], float, int]]
) -> None:
    boxes = np.array([(x, y, np.float32(x + w), np.float32(y + h)) for _, _, (x, y, w, h), _, _ in rows])
    tracks = Tracks.from_columns(
        [r[0] for r in rows], [r[1] for r in rows], boxes, [r[3] for r in rows], [r[4] for r in rows]
    )
    write_mot(tmp_path / "t.txt", tracks)
    assert same(read_mot(tmp_path / "t.txt"), tracks)


def test_text_is_one_based_and_short(tmp_path: Path) -> None:
    tracks = Tracks.from_columns([0, 11], [3, 3], [[0, 0, 10, 20], [1.1, 2.25, 4.35, 8.5]], [1, 0.9], [-1, 2])
    write_mot(tmp_path / "t.txt", tracks)
    assert (tmp_path / "t.txt").read_text() == "1,3,1,1,10,20,1,-1,1\n12,3,2.1,3.25,3.25,6.25,0.9,2,1\n"


def test_the_level_of_a_mask_run_is_in_the_class_column(tmp_path: Path) -> None:
    write_mot(tmp_path / "t.txt", Tracks.from_columns([0], [3], [[0, 0, 10, 20]], level=[4]))
    assert (tmp_path / "t.txt").read_text() == "1,3,1,1,10,20,1,4,1\n"


def test_ids_that_float64_cannot_hold_are_read_exactly(tmp_path: Path) -> None:
    tracks = Tracks.from_columns([5, 2**60 + 1], [2**61 + 3, 1], [[0, 0, 1, 1]] * 2)
    write_mot(tmp_path / "t.txt", tracks)
    assert same(read_mot(tmp_path / "t.txt"), tracks)


def test_lines_of_other_tools_are_read(tmp_path: Path) -> None:
    path = tmp_path / "gt.txt"
    path.write_text("﻿2, 7, 11, 21, 5, 6\r\n\r\n1 7 11 21 5 6 0.5\n1,8.0,1,1,2,2,1,3,0.4\n1,9,1,1,2,2,1,-1,-1,-1\n")
    tracks = read_mot(path)
    assert tracks.frame.tolist() == [0, 0, 0, 1]
    assert tracks.track_id.tolist() == [7, 8, 9, 7]
    assert tracks.xyxy[3].tolist() == [10, 20, 15, 26]
    assert tracks.score.tolist() == [0.5, 1, 1, 1]
    assert tracks.class_id.tolist() == [-1, 3, -1, -1]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,2,3", "3 fields"),
        ("1,2,3,4,5,6,7,8,9,10,11", "11 fields"),
        ("1,2,a,4,5,6", "'a' is not a number"),
        ("0,2,1,1,5,6", "frames count from 1"),
        ("1.5,2,1,1,5,6", "frame 1.5 is not a whole number"),
        ("1,-1,1,1,5,6,0.9,-1,-1,-1", "detections"),
        ("1,2,1,1,-5,6", "-5 × 6 pixels"),
        ("1,2,1,nan,5,6", "not finite"),
        ("1,2,1,1,5,6,1,0.5", "class 0.5"),
        ("1,1e40,1,1,5,6", "out of range"),
        ("2,1,1,1,5,6", "already in line 1"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(f"2,1,1,1,5,6\n\n{line}\n")
    with pytest.raises(InputError, match=rf"bad\.txt, line 3: .*{reason}"):
        read_mot(path)


def test_files_that_are_not_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    for name in ("a.txt", "absent.txt"):
        with pytest.raises(InputError, match=name):
            read_mot(tmp_path / name)


def test_no_tracks(tmp_path: Path) -> None:
    write_mot(tmp_path / "t.txt", Tracks.empty())
    assert (tmp_path / "t.txt").read_text() == ""
    assert len(read_mot(tmp_path / "t.txt")) == 0


def test_boxes_that_mot_cannot_hold_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("old")
    for box in ([np.nan, 0, 1, 1], [5, 0, 4, 1]):
        with pytest.raises(ValueError):
            write_mot(path, Tracks.from_columns([0], [1], [box]))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_renames(monkeypatch)
    with pytest.raises(ArtifactError, match=r"t\.txt: cannot be written: No space"):
        write_mot(tmp_path / "t.txt", Tracks.from_columns([0], [1], [[0, 0, 1, 1]]))
    assert list(tmp_path.iterdir()) == []


def test_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.txt", ["2,5,0.1,0.2,10.3,20.4,0.9,3,1", "1 4 1 2 3 4"])
    table = read_mot_annotations(path)
    assert table.frame.tolist() == [0, 1]
    assert table.xyxy.tolist() == [[1, 2, 4, 6], [0.1, 0.2, 0.1 + 10.3, 0.2 + 20.4]]
    assert table.score.tolist() == [1, 0.9]
    assert table.class_id.tolist() == [-1, 3]
    assert table.origin == 1


def test_what_counts(tmp_path: Path) -> None:
    """TrackEval takes the whole part of the seventh column."""
    path = write_lines(
        tmp_path / "a.txt", [f"1,{n},1,1,2,2,{flag},1,1" for n, flag in enumerate(("1", "0", "0.5", "-1"))]
    )
    assert read_mot_annotations(path).counts.tolist() == [True, False, False, True]


def test_world_coordinates_are_no_classes(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.txt", ["1,1,1,1,2,2,1,3.25,1.5,0", "2,1,1,1,2,2,1,4,1.5,0"])
    assert read_mot_annotations(path).class_id.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,-1,1,1,2,2", "detections, not tracks"),
        ("9,1,1,1,2,2", "beyond the 5 frames"),
        ("0,1,1,1,2,2", "frames count from 1"),
        ("1,1,1,1,-2,2", "a box of -2 × 2 pixels"),
        ("1,1.5,1,1,2,2", "not a whole number"),
        ("1,1,inf,1,2,2", "not finite"),
        ("1,1,1", "3 fields"),
        ("1,1,a,1,2,2", "'a' is not a number"),
    ],
)
def test_bad_lines_of_annotations_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = write_lines(tmp_path / "a.txt", ["3,1,1,1,2,2", line])
    with pytest.raises(InputError, match=f"line 2: .*{message}"):
        read_mot_annotations(path, length=5)


def test_regions_of_truth_have_no_identity(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.txt", ["1,-1,1,1,2,2,0", "1,-1,5,5,2,2,0"])
    assert read_mot_annotations(path, is_truth=True).track_id.tolist() == [-1, -1]


def test_one_identity_twice(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.txt", ["1,4,1,1,2,2", "2,4,1,1,2,2", "1,4,3,3,2,2"])
    with pytest.raises(InputError, match="line 3: identity 4 is on frame 1 already in line 1"):
        read_mot_annotations(path)


@given(
    st.lists(
        st.tuples(
            st.integers(1, 50),
            st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=2, max_size=2),
            st.lists(st.floats(0, 1e6, allow_nan=False), min_size=2, max_size=2),
            st.lists(st.integers(-1, 12), min_size=4, max_size=4),
        ),
        max_size=8,
    ),
    st.integers(0, 4),
    st.sampled_from((",", ", ", " ")),
)
def test_both_ways_of_reading_agree(
    rows: list[tuple[int, list[float], list[float], list[int]]], more: int, separator: str
) -> None:
    """The fast reader takes files whose lines are alike; a line of another width sends a file the other way."""
    lines = [
        separator.join(map(repr, (frame, identity, *corner, *extent, *rest[:more])))
        for identity, (frame, corner, extent, rest) in enumerate(rows)
    ]
    with tempfile.TemporaryDirectory() as folder:
        alike = write_lines(Path(folder, "a.txt"), lines)
        other = write_lines(Path(folder, "b.txt"), [*lines, "60 99 1 1 1 1", "61,98,1,1,1,1,1,1,1"])
        fast, slow = read_mot_annotations(alike), read_mot_annotations(other)
    n = len(fast)
    assert len(slow) == n + 2
    for name in ("frame", "track_id", "xyxy", "score", "class_id", "counts"):
        assert getattr(fast, name).tolist() == getattr(slow, name)[:n].tolist()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,1,1e39,10,20,40,1,1,1", r"1e\+39 is more than a 32-bit float holds"),
        ("1,1,3e38,10,3e38,40,1,1,1", r"6e\+38 is more than a 32-bit float holds"),
        ("1,1,1e308,10,1.7e308,40,1,1,1", "inf is more than a 32-bit float holds"),
        ("1,1,10,10,20,40,1e39,1,1", r"1e\+39 is more than a 32-bit float holds"),
        ("1,1,10,10,20,40,1,1e30,1", r"class 1e\+30 is out of range"),
    ],
)
def test_numbers_that_float32_cannot_hold_are_refused(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"1,2,10,10,20,40,1,1,1\n{line}\n")
    for read in (read_mot, read_ground_truth, read_mot_annotations):
        with pytest.raises(InputError, match=f"line 2: {message}"):
            read(path)
