"""Data sets are found as they are laid out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.toy_boxes import box_of, make_sequence, mot_line, write_lines
from trackweave.errors import InputError
from trackweave.formats.mot import read_ground_truth
from trackweave.formats.motchallenge import class_column_of, find_sequences, is_sequence, read_gmc, read_sequence

MOT17 = Path(__file__).parents[3] / "shared" / "data" / "mot" / "MOT17"
INFO = "[Sequence]\nname=Toy\nimDir=img1\nframeRate=25\nseqLength=3\nimWidth=640\nimHeight=480\nimExt=.png\n"


def folder(path: Path, info: str = INFO, images: tuple[str, ...] = (), files: tuple[str, ...] = ()) -> Path:
    """A sequence folder with empty files."""
    path.mkdir(exist_ok=True)
    (path / "seqinfo.ini").write_text(info)
    for name in (*(f"img1/{image}" for image in images), *files):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).touch()
    return path


def test_a_whole_sequence(tmp_path: Path) -> None:
    images = ("000001.png", "000002.png", "000003.png", "thumbs.db")
    files = ("det/det.txt", "det/det_yolox.txt", "gt/gt.txt", "gmc.txt")
    path = folder(tmp_path / "toy", images=images, files=files)
    assert is_sequence(path)
    found = read_sequence(path)
    assert (found.name, found.known_frame_rate(), found.known_length(), found.known_size()) == (
        "Toy",
        25,
        3,
        (480, 640),
    )
    assert (list(found.image_files), found.image_notes) == ([0, 1, 2], ())
    assert found.images == path / "img1"
    assert found.image(1) == path / "img1" / "000002.png"
    assert found.detections() == path / "det" / "det.txt"
    assert found.detections("det_yolox") == found.detections("det_yolox.txt") == path / "det" / "det_yolox.txt"
    assert found.ground_truth == path / "gt" / "gt.txt"
    assert found.camera_motion == path / "gmc.txt"
    with pytest.raises(InputError, match=r"no public\.txt; there: det, det_yolox"):
        found.detections("public")


def test_a_folder_with_some_images_has_none_to_track_in(tmp_path: Path) -> None:
    found = read_sequence(folder(tmp_path / "toy", images=("000001.png", "000003.png")))
    assert list(found.image_files) == [0, 2]
    assert found.missing_images == f"{found.image_folder} has those of 2 of 3 frames, frame 2 has none"
    assert found.images is None
    with pytest.raises(InputError, match="no image of frame 2"):
        found.image(1)
    assert read_sequence(folder(tmp_path / "toy", images=("000002.png",))).images is not None


def test_what_is_missing_is_missed_when_needed(tmp_path: Path) -> None:
    found = read_sequence(folder(tmp_path / "toy", "[Sequence]\nimHeight=480\n"))
    assert (found.name, found.ground_truth, found.camera_motion, found.images) == ("toy", None, None, None)
    for need, key in (
        (found.known_length, "seqLength"),
        (found.known_frame_rate, "frameRate"),
        (found.known_size, "imWidth and imHeight"),
    ):
        with pytest.raises(InputError, match=rf"seqinfo\.ini: {key} is missing; add it under \[Sequence\]"):
            need()
    with pytest.raises(InputError, match=r"no det\.txt; there: no detections"):
        found.detections()


def test_the_only_detections_and_the_number_of_images_are_taken(tmp_path: Path) -> None:
    info = "\ufeff[Sequence]\nname = a%b\nimext=.JPG\nframerate=29.97\n"
    path = folder(tmp_path / "toy", info, images=("000001.jpg", "000002.jpg"), files=("det/mine.txt",))
    found = read_sequence(path)
    assert found.name == "a%b"
    assert found.known_frame_rate() == 29.97
    assert found.known_length() == 2
    assert found.images == path / "img1"
    assert found.detections() == path / "det" / "mine.txt"


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ("[Sequence]\nframeRate=fast\n", "frameRate 'fast'"),
        ("[Sequence]\nseqLength=0\n", "seqLength '0'"),
        ("[Sequence]\nimWidth=1.5\n", "imWidth '1.5'"),
        ("[Sequence]\nframeRate=nan\n", "frameRate 'nan'"),
        ("[Other]\n", "no section"),
        ("frameRate=3\n", "not an INI file"),
        ("[Sequence]\na=1\na=2\n", "not an INI file"),
        ("[Sequence]\nframeRate=\x1b[31m" + "9" * 9000, r"frameRate '\\x1b\[31m9{35}…'"),
        ("x" * 9000, "not an INI file"),
    ],
)
def test_bad_info_is_named(tmp_path: Path, info: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"seqinfo\.ini: .*{message}") as caught:
        read_sequence(folder(tmp_path / "toy", info))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_name_with_control_characters(tmp_path: Path) -> None:
    found = read_sequence(folder(tmp_path / "toy", INFO.replace("name=Toy", "name=\x1b[31mToy")))
    assert found.name == "\\x1b[31mToy"


def test_other_folders_are_no_sequences(tmp_path: Path) -> None:
    assert not is_sequence(tmp_path)
    assert not is_sequence(tmp_path / "absent")
    with pytest.raises(InputError, match="not a MOTChallenge sequence"):
        read_sequence(tmp_path)


# Pictures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "frames", "notes"),
    [
        (["000001.png", "000002.png", "000003.png"], [0, 1, 2], []),
        (["1.PNG", "2.png", "03.png"], [0, 1, 2], []),
        (["000000.png", "000001.png", "000002.png"], [0, 1, 2], ["count from 0: '000000.png' is the first frame"]),
        (["000000.png", "000002.png"], [0, 2], ["pictures count from 0"]),
        (["000301.png", "000302.png", "000303.png"], [0, 1, 2], ["pictures count from 301"]),
        (["000002.png", "000003.png"], [1, 2], []),
        (["000001.jpg", "000002.jpg", "000003.jpg"], [0, 1, 2], [r"no pictures .png \(imExt\): those of .jpg are"]),
        (["000001.png", "000002.png", "000003.png", "000001.jpg"], [0, 1, 2], ["1 pictures have another suffix"]),
        (["frame_000001.png", "frame_000002.png", "frame_000003.png"], [0, 1, 2], ["called 'frame_000001.png', …"]),
        (["img0.jpeg", "img1.jpeg", "img2.jpeg"], [0, 1, 2], ["those of .jpg", "called 'img0.jpeg'", "count from 0"]),
        (["000001.png", "000002.png", "000003.png", "poster.png", "mask_1.png"], [0, 1, 2], ["2 .* other names"]),
        (["a.png", "b.png", "c.png"], [0, 1, 2], ["no pictures 000001.png, …: 3 others are taken in the order"]),
        (["a.png", "b.png"], [], ["no picture is read: 000001.png, … were looked for, there are a.png, b.png"]),
        (["l1.png", "r1.png", "l2.png", "r2.png"], [], ["no picture is read"]),
        ([f"{n:06d}.png" for n in range(1, 6)], [0, 1, 2], [r"5 pictures for 3 frames \(seqLength\): those beyond"]),
        (["1.png", "01.png", "2.png", "3.png"], [0, 1, 2], ["1 pictures have the number of another .*: 1.png"]),
        (["notes.txt", "._000001.png"], [], []),
    ],
)
def test_pictures_and_their_names(tmp_path: Path, names: list[str], frames: list[int], notes: list[str]) -> None:
    found = read_sequence(folder(tmp_path / "toy", images=tuple(names)))
    assert list(found.image_files) == frames
    assert len(found.image_notes) == len(notes)
    for note, message in zip(found.image_notes, notes, strict=True):
        assert re.search(message, note), note
        assert note.startswith(str(tmp_path / "toy" / "img1"))
    assert (found.images is not None) == (frames == [0, 1, 2])


@pytest.mark.parametrize("text", ["/etc", "../../elsewhere", "..", "img1/../../..", "a\0b", "../..", ""])
def test_pictures_elsewhere_are_not_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "000001.png").touch()
    (tmp_path / "a").mkdir()
    found = read_sequence(folder(tmp_path / "a" / "toy", INFO.replace("imDir=img1", f"imDir={text}")))
    assert not found.image_files
    (note,) = found.image_notes
    assert re.search(r"seqinfo\.ini: imDir '.*' lies neither in the sequence's folder nor beside it", note)


def test_pictures_beside_the_sequence(tmp_path: Path) -> None:
    path = folder(tmp_path / "toy", INFO.replace("imDir=img1", "imDir=../pictures/toy"))
    (tmp_path / "pictures" / "toy").mkdir(parents=True)
    for n in (1, 2, 3):
        (tmp_path / "pictures" / "toy" / f"{n:06d}.png").touch()
    assert list(read_sequence(path).image_files) == [0, 1, 2]


# Camera motion ------------------------------------------------------------------------------------------------------


def test_camera_motion(tmp_path: Path) -> None:
    path = tmp_path / "gmc.txt"
    path.write_text("0\t1\t0\t0\t0\t1\t0\t\n3 1 0.5 2 -0.5 1 -7\n\n")
    motion = read_gmc(path)
    assert motion.shape == (4, 2, 3)
    assert motion.dtype == np.float64
    assert motion[1].tolist() == motion[0].tolist() == [[1, 0, 0], [0, 1, 0]]  # frames without a line stand still
    assert motion[3].tolist() == [[1, 0.5, 2], [-0.5, 1, -7]]
    assert len(read_gmc(path, length=9)) == 9
    path.write_text("")
    assert read_gmc(path).shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 1 0 0 0 1", "6 fields"),
        ("1 1 0 x 0 1 0", "'x'"),
        ("1 1 0 nan 0 1 0", "not finite"),
        ("-1 1 0 0 0 1 0", "frame -1: frames count from 0"),
        ("0 1 0 0 0 1 0", "frame 0 occurs twice"),
        ("7 1 0 0 0 1 0", "frame 7 is beyond the 5 frames"),
        ("1 1 0 " + "x" * 9000 + " 0 1 0", "a value 'x{40}…' is not a number"),
        ("1 1 0 1e39 0 1 0", "out of range"),
    ],
)
def test_bad_camera_motion_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "gmc.txt"
    path.write_text(f"0 1 0 0 0 1 0\n\n{line}\n")
    with pytest.raises(InputError, match=rf"gmc\.txt, line 3: .*{message}"):
        read_gmc(path, length=5)


@pytest.mark.skipif(not MOT17.is_dir(), reason="MOT17 is not beside the project")
@pytest.mark.parametrize("name", ["MOT17-11-FRCNN", "MOT17-13-FRCNN"])
def test_camera_motion_takes_the_frame_before_to_this_one(name: str) -> None:
    """On a moving camera, true boxes of frame t−1 moved by the matrix of t lie nearer to those of t than unmoved ones.

    The median distance nearly halves; by the inverse, or by the matrix of a neighbouring frame, it gets worse.
    """
    sequence = read_sequence(MOT17 / name)
    assert sequence.camera_motion is not None
    motion = read_gmc(sequence.camera_motion, sequence.known_length())
    assert len(motion) == sequence.known_length()
    truth = read_ground_truth(sequence.path)
    centre = (truth.xyxy[:, :2] + truth.xyxy[:, 2:]) / 2
    order = np.lexsort((truth.frame, truth.track_id))
    before, after = order[:-1], order[1:]
    pairs = (truth.track_id[before] == truth.track_id[after]) & (truth.frame[before] + 1 == truth.frame[after])
    before, after = before[pairs], after[pairs]

    def error(matrices: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
        moved = np.einsum("nij,nj->ni", matrices[:, :, :2], centre[before]) + matrices[:, :, 2]
        return float(np.median(np.abs(moved - centre[after]).sum(axis=1)))

    frames = truth.frame[after]
    whole = np.concatenate([motion, np.tile([[[0.0, 0, 1]]], (len(motion), 1, 1))], axis=1)
    right = error(motion[frames])
    assert right < 0.7 * error(np.tile(np.eye(2, 3), (len(frames), 1, 1)))
    assert right < 0.5 * error(np.linalg.inv(whole)[frames, :2])
    assert right < error(motion[frames - 1])
    assert right < error(motion[np.minimum(frames + 1, len(motion) - 1)])


# Ground truth -------------------------------------------------------------------------------------------------------

TRUTH = "2,1,11,21,5,6,1,1,0.25\n1,-1,1,1,4,4,0,13,0\n1,7,1,1,2,2,0,7,1\n1,-1,1,1,4,4,0,13,0\n2,7,1,1,2,2,1,3,-1\n"


def test_ground_truth(tmp_path: Path) -> None:
    path = folder(tmp_path / "toy", files=("gt/gt.txt",))
    (path / "gt" / "gt.txt").write_text(TRUTH)
    truth = read_ground_truth(path)
    assert truth.frame.tolist() == [0, 0, 0, 1, 1]
    assert truth.track_id.tolist() == [-1, 7, -1, 1, 7]
    assert truth.counts.tolist() == [False, False, False, True, True]
    assert truth.class_id.tolist() == [13, 7, 13, 1, 3]
    assert truth.visibility.tolist() == [0, 1, 0, 0.25, 1]
    second = truth.at(1)
    assert second.xyxy.tolist() == [[10, 20, 15, 26], [0, 0, 2, 2]]
    assert len(truth.at(9)) == 0
    assert truth[truth.counts].track_id.tolist() == [1, 7]
    assert set(read_ground_truth(path / "gt" / "gt.txt", class_column=False).class_id.tolist()) == {-1}


def test_ground_truth_of_other_benchmarks(tmp_path: Path) -> None:
    path = tmp_path / "gt.txt"
    path.write_text("1,1,399,182,121,229,1,-1,-1,-1\n2 1 399 182 121 229\n")
    truth = read_ground_truth(path)
    assert truth.counts.tolist() == [True, True]
    assert truth.class_id.tolist() == [-1, -1]
    assert truth.visibility.tolist() == [1, 1]
    path.write_text("")
    assert len(read_ground_truth(path)) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,3", "3 fields"),
        ("1,2,x,1,2,2,1", "'x'"),
        ("1,2,nan,1,2,2,1", "not finite"),
        ("0,2,1,1,2,2,1", "frames count from 1"),
        ("1,2.5,1,1,2,2,1", "not a whole number"),
        ("1,2,1,1,-2,2,1", "a box of -2 × 2 pixels"),
        ("1,1,9,9,2,2,1", "identity 1 is on frame 1 already in line 2"),
    ],
)
def test_bad_ground_truth_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "gt.txt"
    path.write_text(f"2,1,1,1,2,2,1\n1,1,1,1,2,2,1\n\n{line}\n")
    with pytest.raises(InputError, match=rf"gt\.txt, line 4: .*{message}"):
        read_ground_truth(path)
    with pytest.raises(InputError, match=r"gt\.txt: cannot be read"):
        read_ground_truth(tmp_path)


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


def test_a_far_frame_of_camera_motion_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gmc.txt"
    path.write_text("0 1 0 0 0 1 0\n2147483647 1 0 0 0 1 0\n")
    with pytest.raises(InputError, match=r"gmc.txt: 2147483648 frames of camera motion, of which 2 have a line"):
        read_gmc(path)
