from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trackweave.errors import InputError, MissingExtraError
from trackweave.formats.columns import detections_from_columns
from trackweave.formats.frame_ids import FrameHints
from trackweave.formats.mot import write_mot
from trackweave.formats.readers import read_detections
from trackweave.formats.tables import DetectionTable
from trackweave.masks.codecs import encode_rle
from trackweave.masks.packed import PackedMasks
from trackweave.structures.tracks import Tracks

KITTI = Path(__file__).parents[3] / "shared" / "data" / "mot" / "KITTI" / "KITTI-0000" / "det" / "det.txt"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def reasons(table: DetectionTable) -> dict[str, int]:
    assert all(warning.stage == "detections" for warning in table.warnings)
    return {warning.details["reason"]: warning.details["count"] for warning in table.warnings}


# MOT text -----------------------------------------------------------------------------------------------------------


def test_mot_text(tmp_path: Path) -> None:
    table = read_detections(
        write(
            tmp_path / "det.txt",
            "3,-1,1,1,10,20,0.5,-1,-1,-1\n1,7,11,21,5,6,1.7,4,-1,-1\n3,-1,-4.5,2,10,9,-0.2,2,0,0\n",
        )
    )
    assert len(table) == 3
    assert table.frames.tolist() == [0, 2]
    assert table.frame_count == 3
    assert table.warnings == ()
    at = table.at(2)  # in the order of the file
    assert at.xyxy.tolist() == [[0, 0, 10, 20], [-5.5, 1, 4.5, 10]]
    np.testing.assert_array_equal(at.score, np.array([0.5, -0.2], np.float32))
    assert at.class_id.tolist() == [-1, -1]
    assert at.masks is None
    assert len(table.at(1)) == len(table.at(99)) == 0


def test_unordered_rows_keep_their_order_within_a_frame(tmp_path: Path) -> None:
    rows = [(n * 7 % 3 + 1, n) for n in range(300)]
    table = read_detections(write(tmp_path / "det.txt", "".join(f"{f},-1,1,1,5,6,{n}\n" for f, n in rows)))
    for frame in range(3):
        assert table.at(frame).score.tolist() == [n for f, n in rows if f == frame + 1]


def test_the_class_is_read_where_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "det.txt", "1,-1,1,1,5,6,0.9,3\n2,-1,1,1,5,6,0.9,1\n")
    assert read_detections(path, class_column=8).class_id.tolist() == [3, 1]
    assert read_detections(path).class_id.tolist() == [-1, -1]
    for column in (9, 3, 0):
        with pytest.raises(InputError, match=f"class column {column}"):
            read_detections(path, class_column=column)


@pytest.mark.parametrize(
    "text",
    [
        "1 -1 1 1 5 6 0.9\n2 -1 1 1 5 6 0.8\n",
        "\ufeff1, -1, 1, 1, 5, 6, 0.9\r\n\r\n2, -1, 1, 1, 5, 6, 0.8\r\n",
        "1\t-1\t1\t1\t5\t6\t0.9\n2\t-1\t1\t1\t5\t6\t0.8",
        "2.0,-1,1,1,5,6,0.8\n1,-1,1,1,5,6,0.9,-1,-1,-1\n",  # lines of different widths
    ],
)
def test_text_of_other_tools(tmp_path: Path, text: str) -> None:
    path = tmp_path / "det.txt"
    path.write_bytes(text.encode())
    table = read_detections(path)
    assert table.frame.tolist() == [0, 1]
    np.testing.assert_array_equal(table.score, np.array([0.9, 0.8], np.float32))


def test_a_missing_score_is_one(tmp_path: Path) -> None:
    assert read_detections(write(tmp_path / "a.txt", "1,-1,1,1,5,6\n")).score.tolist() == [1]
    table = read_detections(write(tmp_path / "b.txt", "1,-1,1,1,5,6\n2,-1,1,1,5,6,0.5,3\n"), class_column=8)
    assert table.score.tolist() == [1, 0.5]
    assert table.class_id.tolist() == [-1, 3]


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff"])
def test_an_empty_file_has_no_detections(tmp_path: Path, text: str) -> None:
    table = read_detections(write(tmp_path / "det.txt", text), length=5)
    assert (len(table), table.frame_count, table.frames.tolist()) == (0, 5, [])
    assert len(table.at(0)) == 0


DECIMAL = st.integers(-30000, 90000).map(lambda n: n / 10)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(st.tuples(DECIMAL, DECIMAL, st.integers(20, 5000), st.integers(1, 5000)), min_size=1, max_size=8))
def test_writing_them_as_tracks_gives_the_numbers_of_the_file(
    tmp_path: Path, boxes: list[tuple[float, float, int, int]]
) -> None:
    lines = [f"{n},{n},{x:g},{y:g},{w / 10:g},{h / 10:g},0.5,-1,1" for n, (x, y, w, h) in enumerate(boxes, start=1)]
    source = write(tmp_path / "det.txt", "\n".join(lines) + "\n")
    table = read_detections(source)
    ids = range(1, len(table) + 1)
    write_mot(tmp_path / "t.txt", Tracks.from_columns(table.frame, ids, table.xyxy, table.score, table.class_id))
    assert (tmp_path / "t.txt").read_text() == source.read_text()


BAD = [
    ("1,-1,nan,1,5,6,0.9", "not-finite", "not finite"),
    ("1,-1,1,1,5,6,inf", "not-finite", "not finite"),
    ("1,-1,1e300,1,5,6,1", "not-finite", "not finite"),
    ("1,-1,1,1,5", "width", "5 fields"),
    ("1,-1,1,x,5,6,0.9", "not-a-number", "'x'"),
    ("0,-1,1,1,5,6,0.9", "frame", "frame 0: frames count from 1"),
    ("1.5,-1,1,1,5,6,0.9", "frame", "frame 1.5 is not a whole number"),
    ("9,-1,1,1,5,6,0.9", "frame-beyond", "frame 9 is beyond the 8 frames"),
    ("1,-1,1,1,-5,6,0.9", "inverted", "a box of -5 × 6 pixels"),
    ("1\t-1\t1,5\t1,0\t5,0\t6,0\t0,9", "decimal-comma", "commas inside of numbers .'1,5'.: write decimal points"),
    ("1 -1 1,5 1,0 5,0 6,0 0,9", "decimal-comma", "commas inside of numbers"),
]
HARMLESS = [
    ("1,-1,1,1,5,0,0.9", "zero-size", "a box of 5 × 0 pixels"),
    ("2,-1,1,1,5,6,0.9,1", "duplicate", "the same as line 1"),
]


@pytest.mark.parametrize(("line", "reason", "message"), BAD)
def test_bad_lines_are_named_or_counted(tmp_path: Path, line: str, reason: str, message: str) -> None:
    path = write(tmp_path / "bad.txt", f"2,-1,1,1,5,6,0.9,1\n\n{line}\n{line}\n8,-1,1,1,5,6,0.9,1\n")
    with pytest.raises(InputError, match=rf"bad\.txt, line 3: .*{message}.*on_bad_item=skip"):
        read_detections(path, length=8)
    table = read_detections(path, length=8, on_bad_item="skip")
    assert table.frame.tolist() == [1, 7]
    assert reasons(table) == {reason: 2}
    assert "2 detections left out, first at line 3" in table.warnings[0].message


@pytest.mark.parametrize("policy", ["error", "skip"])
@pytest.mark.parametrize(("line", "reason", "message"), HARMLESS)
def test_lines_without_which_nothing_is_lost_are_counted(
    tmp_path: Path, line: str, reason: str, message: str, policy: Any
) -> None:
    """Published files hold them: they are no reason to stop."""
    path = write(tmp_path / "bad.txt", f"2,-1,1,1,5,6,0.9,1\n\n{line}\n{line}\n8,-1,1,1,5,6,0.9,1\n")
    table = read_detections(path, length=8, on_bad_item=policy)
    assert table.frame.tolist() == [1, 7]
    assert reasons(table) == {reason: 2}
    assert f"first at line 3: {message}" in table.warnings[0].message


def test_every_reason_is_counted_by_itself(tmp_path: Path) -> None:
    every = [*BAD, *HARMLESS]
    path = write(tmp_path / "bad.txt", "\n".join(["2,-1,1,1,5,6,0.9,1", *(line for line, _, _ in every)]))
    table = read_detections(path, length=8, on_bad_item="skip")
    expected: dict[str, int] = {}
    for _, reason, _ in every:
        expected[reason] = expected.get(reason, 0) + 1
    assert reasons(table) == expected
    assert len(table) == 1


def test_classes_that_are_not_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "det.txt", "1,-1,1,1,5,6,0.9,0.5\n")
    with pytest.raises(InputError, match=r"line 1: class 0\.5 is not a whole number"):
        read_detections(path, class_column=8)
    assert len(read_detections(path)) == 1


def test_boxes_outside_and_alike_but_for_the_score_are_fine(tmp_path: Path) -> None:
    path = write(
        tmp_path / "det.txt", "1,-1,-900,1,5,6,0.9\n1,-1,-900,1,5,6,0.8\n1,-1,-900,1,5,6,0.9,4\n2,-1,-900,1,5,6,0.9\n"
    )
    assert len(read_detections(path, class_column=8)) == 4


def test_a_wrong_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on_bad_item"):
        read_detections(write(tmp_path / "d.txt", "1,-1,1,1,5,6\n"), on_bad_item="ignore")  # type: ignore[arg-type]


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    for name in ("a.txt", "absent.txt", "."):
        with pytest.raises(InputError, match=name):
            read_detections(tmp_path / name)


@pytest.mark.skipif(not KITTI.is_file(), reason="KITTI is not beside the project")
def test_real_detections_that_differ_in_their_class_only() -> None:
    count = len(KITTI.read_text().splitlines())
    with_class = read_detections(KITTI, class_column=8, length=154)
    assert (len(with_class), with_class.warnings) == (count, ())
    assert set(with_class.class_id.tolist()) <= set(range(1, 14))
    without = read_detections(KITTI, length=154)
    assert "line 800: the same as line 798" in without.warnings[0].message
    assert reasons(without) == {"duplicate": 1}
    assert len(without) == count - 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    st.one_of(
        st.text(st.sampled_from('0123456789.,-+e naif\n\t;"_\x1c'), max_size=60),
        st.text(st.sampled_from('0123456789.,-en;\n"x'), max_size=40).map(lambda text: "frame,x,y,w,h\n" + text),
        st.text(st.sampled_from('0123456789.,-e"[]{}: NaN'), max_size=40).map(lambda text: "[" + text),
        st.binary(max_size=20).map(lambda data: data.decode("latin-1")),
    ),
    st.sampled_from(["error", "skip"]),
)
def test_any_text_is_read_or_refused(tmp_path: Path, text: str, policy: Any) -> None:
    path = tmp_path / "det.txt"
    path.write_bytes(text.encode("latin-1"))
    message = ""
    table = None
    try:
        table = read_detections(path, on_bad_item=policy, length=100)
    except InputError as error:
        message = str(error)
    if table is None:
        assert "\n" not in message
        assert str(path) in message
        return
    assert np.isfinite(table.xyxy).all()
    assert (table.xyxy[:, 2:] >= table.xyxy[:, :2]).all()
    assert ((table.frame >= 0) & (table.frame < 100)).all()


# COCO ---------------------------------------------------------------------------------------------------------------


def item(image: int, box: Any = (1, 2, 3, 4), **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": 5, "bbox": list(box), "score": 0.5, **more}


def coco(path: Path, items: Any) -> Path:
    path.write_text(json.dumps(items))
    return path


def test_coco_results(tmp_path: Path) -> None:
    table = read_detections(coco(tmp_path / "r.json", [item(3), item(0, [0.5, 0, 2, 2])]))
    assert table.frame.tolist() == [0, 3]
    assert table.xyxy.tolist() == [[0.5, 0, 2.5, 2], [1, 2, 4, 6]]
    assert table.class_id.tolist() == [5, 5]
    assert table.score.tolist() == [0.5, 0.5]
    assert len(read_detections(coco(tmp_path / "e.json", []))) == 0


@pytest.mark.parametrize("ordered", [True, False])
def test_images_give_frames_names_and_length(tmp_path: Path, ordered: bool) -> None:
    images = [{"id": 70, "file_name": "b.jpg", "video_id": 1}, {"id": 90, "file_name": "a.jpg", "video_id": 1}]
    if ordered:
        images[0]["frame_id"], images[1]["frame_id"] = 1, 2
    listing = coco(tmp_path / "i.json", {"images": images, "categories": [{"id": 5, "name": "owl"}]})
    path = coco(tmp_path / "r.json", [item(70), item(90, score=0.7)])
    table = read_detections(path, images=listing)
    np.testing.assert_array_equal(table.score, np.array([0.5, 0.7] if ordered else [0.7, 0.5], np.float32))
    assert table.class_names == {5: "owl"}
    assert table.frame_count == 2
    with pytest.raises(InputError, match=r"r\.json, item 0: image_id 71 is not among the images"):
        read_detections(coco(tmp_path / "r.json", [item(71)]), images=listing)


def test_images_that_are_no_list_of_one_video(tmp_path: Path) -> None:
    path = coco(tmp_path / "r.json", [item(1), item(2)])
    two = [{"id": 1, "file_name": "a", "video_id": 1}, {"id": 2, "file_name": "b", "video_id": 2}]
    twice = [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]
    for content, message in (
        ({"images": two}, r"r\.json: detections of 2 videos \(1, 2\): give one as video_name="),
        ({"images": twice}, r"i\.json: an image id occurs twice"),
        ({"pictures": []}, r"i\.json: not a COCO file"),
        ({"images": [{"id": 1}]}, r"i\.json: not a COCO file"),
        ({"images": [{"id": 1, "file_name": "a", "width": -3, "height": 2}]}, r"i\.json: not a COCO file"),
        ([], r"i\.json: not a COCO file"),
    ):
        with pytest.raises(InputError, match=message):
            read_detections(path, images=coco(tmp_path / "i.json", content))


def test_masks_are_decoded_frame_by_frame(tmp_path: Path) -> None:
    masks = np.zeros((3, 6, 8), bool)
    masks[0, 1:3, 2:5], masks[1, 4:, 7:], masks[2, :, 0] = True, True, True
    entries: list[Any] = encode_rle(PackedMasks.from_bool(masks))
    boxless = {"image_id": 1, "category_id": 5, "score": 0.5, "segmentation": entries[0]}
    items = [item(1, segmentation=entries[1]), item(0, segmentation=entries[2]), boxless]
    table = read_detections(coco(tmp_path / "r.json", items))
    first, second = table.at(0).masks, table.at(1).masks
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.to_bool(), masks[2:])
    np.testing.assert_array_equal(second.to_bool(), masks[[1, 0]])
    assert table.at(1).xyxy[1].tolist() == [2, 1, 5, 3]
    assert table.at(2).masks is None


def test_some_masks_are_left_out_with_a_warning(tmp_path: Path) -> None:
    entries: list[Any] = encode_rle(PackedMasks.from_bool(np.ones((1, 6, 8), bool)))
    table = read_detections(coco(tmp_path / "r.json", [item(0, segmentation=entries[0]), item(1)]))
    assert table.at(0).masks is None
    assert [warning.code for warning in table.warnings] == ["masks-left-out"]


def test_a_mask_that_cannot_be_decoded_names_its_frame(tmp_path: Path) -> None:
    path = coco(tmp_path / "r.json", [item(4, segmentation={"size": [6, 8], "counts": [3, 4]})])
    with pytest.raises(InputError, match=r"r\.json, frame 4: RLE entry 0 covers 7"):
        read_detections(path).at(4)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("text", "an object is expected"),
        ({"bbox": [1, 2, 3, 4]}, "image_id is missing"),
        (item(1, [1, 2, 3]), "bbox is"),
        (item(1, "abcd"), "a side of bbox 'a' is not a number"),
        (item(1, score="high"), "score 'high' is not a number"),
        (item(1, [1, 2, -3, 4]), "a box of -3 × 4"),
        (item(1, score=float("nan")), "not finite"),
        (item(-1), "frames count from 0"),
        (item(1, segmentation=[[1, 2, 3, 4]]), "polygon"),
        (item(1, segmentation={"size": [6, 8]}), "needs `size` and `counts`"),
        ({"image_id": 1, "segmentation": {"size": [6, 8], "counts": "!"}}, "invalid character"),
        ({"image_id": 1}, "neither bbox nor segmentation"),
    ],
)
def test_bad_items_are_named_or_counted(tmp_path: Path, bad: Any, message: str) -> None:
    path = coco(tmp_path / "r.json", [item(0), bad, item(2)])
    with pytest.raises(InputError, match=rf"r\.json, item 1: .*{message}"):
        read_detections(path)
    table = read_detections(path, on_bad_item="skip")
    assert table.frame.tolist() == [0, 2]
    assert sum(reasons(table).values()) == 1


def test_json_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"r\.json: COCO results are a list"):
        read_detections(coco(tmp_path / "r.json", {"images": []}))
    with pytest.raises(InputError, match=r"r\.json: not JSON"):
        read_detections(write(tmp_path / "r.json", "[{"))


# Tables -------------------------------------------------------------------------------------------------------------

FRAME = pd.DataFrame(
    {
        "frame": [4, 0],
        "x1": [1.5, 0],
        "y1": [2, 0],
        "x2": [3, 4],
        "y2": [5, 6],
        "score": [0.5, 0.25],
        "class_id": [2, 1],
    }
)


def check(table: DetectionTable) -> None:
    assert table.frame.tolist() == [0, 4]
    assert table.xyxy.tolist() == [[0, 0, 4, 6], [1.5, 2, 3, 5]]
    assert table.score.tolist() == [0.25, 0.5]
    assert table.class_id.tolist() == [1, 2]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv(tmp_path: Path, separator: str) -> None:
    named = FRAME.assign(label=["a, b", "c;\td"])  # quoted, and not read
    named.to_csv(tmp_path / "d.csv", index=False, sep=separator)
    check(read_detections(tmp_path / "d.csv"))


@pytest.mark.parametrize(
    ("number", "name"), [("class_id", "class_name"), ("category_id", "category"), ("class", "label")]
)
def test_a_class_has_a_number_and_a_name(tmp_path: Path, number: str, name: str) -> None:
    named = FRAME.rename(columns={"class_id": number}).assign(**{name: ["bus", None]})
    named.to_csv(tmp_path / "d.csv", index=False)
    named.to_parquet(tmp_path / "d.parquet")
    for table in (read_detections(tmp_path / "d.csv"), read_detections(tmp_path / "d.parquet")):
        check(table)
        assert table.class_names == {2: "bus"}
        assert table.reading is not None
        assert table.reading.columns[-2:] == (number, name)
    check(detections_from_columns(named.assign(**{name: [7, 8]})))  # two numbers: the second is no name
    assert detections_from_columns(named.assign(**{name: [7, 8]})).class_names is None
    without = named.assign(**{number: [None, None]})
    without.to_csv(tmp_path / "d.csv", index=False)
    assert read_detections(tmp_path / "d.csv").class_names == {0: "bus"}


def test_a_class_with_two_names_is_refused(tmp_path: Path) -> None:
    twice = FRAME.assign(class_id=[2, 2], class_name=["bus", "Bus "])
    assert detections_from_columns(twice).class_names == {2: "bus"}
    twice = twice.assign(class_name=["bus", "car"])
    twice.to_csv(tmp_path / "d.csv", index=False)
    twice.to_parquet(tmp_path / "d.parquet")
    for file, place in (("d.csv", "line 3"), ("d.parquet", "row 1")):
        with pytest.raises(InputError, match=f"{file}, {place}: class 2 is called bus and car"):
            read_detections(tmp_path / file)


def test_csv_of_widths_without_score(tmp_path: Path) -> None:
    table = read_detections(write(tmp_path / "d.csv", "Frame, x ,y,w,h\n0,1,2,3,4\n\n"))
    assert table.xyxy.tolist() == [[1, 2, 4, 6]]
    assert (table.score.tolist(), table.class_id.tolist()) == ([1], [-1])
    assert len(read_detections(write(tmp_path / "d.csv", "frame,x,y,w,h\n"))) == 0
    assert len(read_detections(write(tmp_path / "d.csv", "frame,x,y,w,h"))) == 0


def test_parquet_and_columns_in_memory(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "d.parquet")
    check(read_detections(tmp_path / "d.parquet"))
    check(detections_from_columns(FRAME))
    check(detections_from_columns({name: FRAME[name].tolist() for name in FRAME}))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,3,x,4", "line 3: .*'x'"),
        ("1,2,3", "line 3: 3 fields"),
        ("1,2,3,nan,4", "line 3: a value is not finite"),
        ("-1,2,3,4,5", "line 3: frame -1: frames count from 0"),
        ("8,2,3,4,5", "line 3: frame 8 is beyond the 8 frames"),
        ("1,2,3,4,-5", "line 3: a box of 4 × -5"),
    ],
)
def test_bad_rows_of_csv(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "d.csv", f"frame,x,y,w,h\n0,1,2,3,4\n{line}\n2,1,2,3,4\n")
    with pytest.raises(InputError, match=rf"d\.csv, {message}"):
        read_detections(path, length=8)
    table = read_detections(path, length=8, on_bad_item="skip")
    assert table.frame.tolist() == [0, 2]
    assert sum(reasons(table).values()) == 1


def test_columns_that_are_missing_or_no_numbers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"d\.csv: no column w, h among frame, x, y; needed are frame and x1,y1,x2,y2"):
        read_detections(write(tmp_path / "d.csv", "frame,x,y\n1,2,3\n"))
    with pytest.raises(InputError, match="table: column score is not of numbers"):
        detections_from_columns(FRAME.assign(score=["high", "low"]))
    with pytest.raises(InputError, match="table, row 1: a value is not finite"):
        detections_from_columns(FRAME.assign(score=[0.5, None]))


def test_parquet_with_names_that_are_not_utf8(tmp_path: Path) -> None:
    FRAME.assign(plates=1).to_parquet(tmp_path / "d.parquet")
    data = (tmp_path / "d.parquet").read_bytes()
    (tmp_path / "d.parquet").write_bytes(data.replace(b"plates", b"plat\xe9s"))
    with pytest.raises(InputError, match=r"d\.parquet: cannot be read as Parquet"):
        read_detections(tmp_path / "d.parquet")


def test_broken_parquet_and_no_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"d\.parquet: cannot be read as Parquet") as caught:
        read_detections(tmp_path / "d.parquet")
    assert "\n" not in str(caught.value)
    true_import = builtins.__import__

    def no_pyarrow(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return true_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pyarrow)
    with pytest.raises(MissingExtraError, match=r"trackweave\[tables\]"):
        read_detections(tmp_path / "d.parquet")


def test_an_index_gives_a_table_of_the_same_sequence(tmp_path: Path) -> None:
    lines = [f"{frame},-1,1,1,5,6,0.{frame}" for frame in (1, 2, 3)]
    table = read_detections(write(tmp_path / "d.txt", "\n".join(lines)), length=9)
    part = table[table.score > 0.15]
    assert (part.frame.tolist(), part.length, part.source) == ([1, 2], 9, table.source)


# YOLO's folders -------------------------------------------------------------------------------------------------------

SIZED = FrameHints(length=20, size=(100, 200))


def yolo(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_a_folder_of_yolo(tmp_path: Path) -> None:
    labels = yolo(
        tmp_path / "labels",
        clip_1="2 0.5 0.5 0.1 0.2 0.9\n0 0.25 0.5 0.1 0.2 0.4 7\n",
        clip_12="1 0.1 0.2 0.3 0.2 0.3 0.6\n1 0.5 0.2 0.6 0.2 0.6 0.6 0.25\n",
    )
    table = read_detections(labels, hints=SIZED)
    assert table.frame.tolist() == [0, 0, 11, 11]
    boxes = [[90, 40, 110, 60], [40, 40, 60, 60], [20, 20, 60, 60], [100, 20, 120, 60]]
    np.testing.assert_allclose(table.xyxy, boxes, atol=1e-4)
    np.testing.assert_allclose(table.score, [0.9, 0.4, 1, 0.25])
    assert table.class_id.tolist() == [2, 0, 1, 1]
    assert (table.class_names, table.warnings) == (None, ())
    assert str(table.reading).startswith("YOLO text of shares")
    (labels / "classes.txt").write_text("person\ncar\n")
    assert read_detections(labels, hints=SIZED).class_names == {0: "person", 1: "car"}


def test_frames_of_yolo_are_pictures_by_their_names(tmp_path: Path) -> None:
    labels = yolo(tmp_path / "labels", b7="0 0.5 0.5 0.1 0.2\n", a3="0 0.5 0.5 0.1 0.2\n")
    hints = FrameHints(length=3, names={"a3": 0, "a5": 1, "b7": 2}, size=(100, 200))
    assert read_detections(labels, hints=hints).frame.tolist() == [0, 2]
    with pytest.raises(InputError, match=r"other, c1\.txt, line 1: no picture is called 'c1'"):
        read_detections(yolo(tmp_path / "other", c1="0 0.5 0.5 0.1 0.2\n", a3="0 0.5 0.5 0.1 0.2\n"), hints=hints)
    with pytest.raises(InputError, match=r"files such as c1.txt are no frames of the video: name them like the pict"):
        read_detections(yolo(tmp_path / "none", c1="0 0.5 0.5 0.1 0.2\n"), hints=hints)
    with pytest.raises(
        InputError, match=r"files such as one.txt, two.txt are no frames of the video: name them NAME_NUM"
    ):
        read_detections(yolo(tmp_path / "words", one="0 0.5 0.5 0.1 0.2\n", two="0 0.5 0.5 0.1 0.2\n"), hints=SIZED)
    zero = yolo(tmp_path / "zero", clip_0="0 0.5 0.5 0.1 0.2\n", clip_10="0 0.5 0.5 0.1 0.2\n")
    assert read_detections(zero, hints=SIZED).frame.tolist() == [0, 10]


def test_what_is_wrong_with_a_folder_of_yolo(tmp_path: Path) -> None:
    labels = yolo(
        tmp_path / "labels", clip_1="0 0.5 0.5 0.1 0.2\n", clip_2="0 0.5 0.5 0.1\n", clip_3="0 0.5 a 0.1 0.2\n"
    )
    with pytest.raises(InputError, match=r"labels, clip_2.txt, line 1: 4 fields, expected class x y w h"):
        read_detections(labels, hints=SIZED)
    table = read_detections(labels, hints=SIZED, on_bad_item="skip")
    assert (len(table), reasons(table)) == (1, {"not-a-number": 2})
    with pytest.raises(InputError, match="whose size is not known"):
        read_detections(labels)
    with pytest.raises(InputError, match=r"class_column.* is for files of other formats"):
        read_detections(labels, hints=SIZED, class_column=8)
    with pytest.raises(InputError, match="25 is no score"):
        read_detections(yolo(tmp_path / "ids", clip_1="0 0.5 0.5 0.1 0.2 25\n"), hints=SIZED)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is a folder without text files of detections: give a file, or YOLO's"):
        read_detections(tmp_path / "empty", hints=SIZED)
