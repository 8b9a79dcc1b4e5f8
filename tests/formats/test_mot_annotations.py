from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.box_worlds import write_lines
from trackweave.errors import InputError
from trackweave.formats.mot import read_mot_annotations


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
def test_bad_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
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
