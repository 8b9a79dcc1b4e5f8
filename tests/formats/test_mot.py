from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.formats.worlds import break_renames
from trackweave.errors import ArtifactError, InputError
from trackweave.formats.mot import read_mot, write_mot
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
