"""Data sets are found as they are laid out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.box_worlds import box_of, make_sequence, mot_line, write_lines
from trackweave.errors import InputError
from trackweave.formats.mot import read_ground_truth
from trackweave.formats.motchallenge import class_column_of, find_sequences


def test_sequences_and_folders_of_them(tmp_path: Path) -> None:
    names = ("set/train/b", "set/train/a", "set/test/without", "alone")
    made = {name: make_sequence(tmp_path / name, name=name) for name in names}
    (made["set/test/without"] / "gt" / "gt.txt").unlink()
    found = find_sequences([tmp_path / "alone", tmp_path / "set", tmp_path / "set" / "train", tmp_path / "alone"])
    assert found == [made["alone"], made["set/train/a"], made["set/train/b"]]
    assert find_sequences([made["set/test/without"]]) == [made["set/test/without"]]


def test_a_folder_without_sequences(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a sequence nor a folder of sequences"):
        find_sequences([tmp_path])


def classed(folder: Path, classes: tuple[int, int], rest: str = "") -> Path:
    """A sequence whose detections have a class and whose objects are of two classes."""
    sequence = make_sequence(folder)
    rows = [mot_line(k, track, box_of(track, k), 1, classes[track - 1], 1) for k in range(12) for track in (1, 2)]
    write_lines(sequence / "gt" / "gt.txt", [*rows, *([rest] if rest else [])])
    found = [mot_line(k, -1, box_of(track, k), 0.9, classes[track - 1], -1) for k in range(12) for track in (1, 2)]
    write_lines(sequence / "det" / "det.txt", found)
    return sequence


@pytest.mark.parametrize(
    ("classes", "rest", "column"),
    [((1, 3), "", 8), ((1, 1), "", None), ((1, 1), "1,-1,5,5,9,9,0,13,0", 8)],
    ids=["two classes", "one class", "regions that show nobody"],
)
def test_where_the_class_is(tmp_path: Path, classes: tuple[int, int], rest: str, column: int | None) -> None:
    sequence = classed(tmp_path / "toy", classes, rest)
    assert class_column_of(read_ground_truth(sequence), sequence / "det" / "det.txt") == column


def test_detections_without_a_class(tmp_path: Path) -> None:
    sequence = classed(tmp_path / "toy", (1, 3))
    truth = read_ground_truth(sequence)
    for text in ("1,-1,5,5,9,9,0.9,-1,-1,-1", "1,-1,5,5,9,9,0.9", "frame,x,y,w,h,a,b,class", ""):
        path = write_lines(tmp_path / "det.txt", [text])
        assert class_column_of(truth, path) is None
