from __future__ import annotations

from pathlib import Path

import pytest

from tests.toy_boxes import write_lines
from trackweave.errors import InputError
from trackweave.formats.kitti import KITTI_CLASSES, read_kitti_annotations

CAR = "0 2 Car 0 0 -1.6 564.5 172.25 654 257 1 1 1 0 0 0 0"


def test_reading(tmp_path: Path) -> None:
    lines = [
        "3 7 Pedestrian 0 3 0 1 2 3 4 1 1 1 0 0 0 0 0.25",
        "",
        CAR,
        "0 -1 DontCare -1 -1 -10 5 6 7 8 -1 -1 -1 0 0 0 0",
    ]
    table = read_kitti_annotations(write_lines(tmp_path / "0000.txt", lines))
    assert table.frame.tolist() == [0, 0, 3]
    assert table.track_id.tolist() == [2, -1, 7]
    assert table.xyxy[0].tolist() == [564.5, 172.25, 654, 257]
    assert [KITTI_CLASSES[number] for number in table.class_id.tolist()] == ["car", "dontcare", "pedestrian"]
    assert table.score.tolist() == [1, 1, 0.25]
    assert table.counts.tolist() == [True, False, True]
    assert table.is_hard.tolist() == [False, False, True]
    assert table.origin == 0


def test_an_empty_file(tmp_path: Path) -> None:
    assert len(read_kitti_annotations(write_lines(tmp_path / "0000.txt", []))) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 2 Car 0 0", "5 fields"),
        (CAR.replace("Car", "Boat"), "'Boat' is none of KITTI's"),
        (CAR.replace("564.5", "nan"), "not finite"),
        (CAR.replace("654", "5"), "before its left or top"),
        (CAR.replace("0 2 Car", "-1 2 Car"), "frames count from 0"),
        (CAR.replace("0 2 Car", "9 2 Car"), "frame 9: frames count from 0 to 4"),
        (CAR.replace("0 2 Car", "0 -1 Car"), "only DontCare has none"),
        (CAR.replace("Car 0 0", "Car inf 0"), "truncation is not finite"),
        (CAR.replace("Car 0 0", "Car 0 1e999"), "occlusion is not finite"),
        (CAR.replace("0 2 Car", f"{10**30} 2 Car"), "frame '1000.*' is not a whole number in range"),
        (CAR.replace("0 2 Car", f"0 {10**30} Car"), "id '1000.*' is not a whole number in range"),
        (CAR.replace("654", "1e39"), r"a side of the box 1e\+39 is out of range"),
        (CAR.replace("Car", "C\x1b_" + "x" * 9000), r"type 'C\\x1b_x{27}…' is none of KITTI's"),
        (CAR.replace("0 2 Car", "x 2 Car"), "frame 'x' is not a number"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = write_lines(tmp_path / "0000.txt", ["", line])
    with pytest.raises(InputError, match=f"line 2: .*{message}"):
        read_kitti_annotations(path, length=5)


def test_an_id_twice(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "0000.txt", [CAR, CAR.replace("0 2", "1 2"), CAR])
    with pytest.raises(InputError, match="line 3: id 2 is on frame 0 already in line 1"):
        read_kitti_annotations(path)
