"""Files, folders and runs of every kind, and what is wrong with some."""

from __future__ import annotations

import gc
import json
import math
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.evaluation.crowd import Item, kitti_lines, mot_lines, truth, write_crowd
from tests.toy_boxes import box_of, make_sequence, mot_line, write_lines
from tests.toy_scenes import CROSSING
from trackweave.errors import InputError, MissingExtraError, SettingError
from trackweave.evaluation.discovery import OWN_FORMATS
from trackweave.evaluation.evaluate import Regime, evaluate, evaluate_regimes
from trackweave.evaluation.settings import EvaluationSettings, Format, Matching, Metric, OnMissing, Overlap, Protocol
from trackweave.exporters import export
from trackweave.formats.davis import write_label_png
from trackweave.formats.mot import read_mot_annotations
from trackweave.formats.registry import FORMATS, readable, write_video
from trackweave.formats.videos import TracksVideo, collected
from trackweave.masks.codecs import encode_rle
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.settings import InputSettings
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.run_log import RunLog
from trackweave.structures.tracked_video import VideoInfo
from trackweave.structures.tracks import Tracks
from trackweave.tracking.settings import TrackingSettings

pytest.importorskip("trackeval")

LABELS = CROSSING.labels.astype(np.uint8)
JF = EvaluationSettings(metrics=(Metric.jf,))


def write_labels(folder: Path, labels: NDArray[np.uint8]) -> Path:
    for frame, image in enumerate(labels):
        write_label_png(folder / f"{frame:05d}.png", image)
    return folder


def perfect(root: Path, names: tuple[str, ...] = ("one", "two")) -> tuple[Path, Path]:
    """Sequences and results that are the truth itself, under other ids."""
    for name in names:
        make_sequence(root / "gt" / name, name=name)
        lines = [mot_line(k, 7 - track, box_of(track, k), 0.5) for k in range(12) for track in (1, 2)]
        write_lines(root / "pred" / f"{name}.txt", lines)
    return root / "pred", root / "gt"


# --- boxes -------------------------------------------------------------------------------------------------------


def test_perfect_boxes(tmp_path: Path) -> None:
    found = evaluate(*perfect(tmp_path))
    assert (found.overlap, found.protocol, found.notes) == (Overlap.boxes, "mot17", [])
    (pedestrians,) = found.classes
    for scores in (*pedestrians.sequences.values(), pedestrians.combined):
        assert [scores[name] for name in ("HOTA", "DetA", "AssA", "MOTA", "IDF1")] == [1] * 5
        assert scores["IDSW"] == 0
    assert pedestrians.combined["GT_Dets"] == 48
    assert found.all_classes is None


def test_nothing_found_scores_nothing(tmp_path: Path) -> None:
    pred, gt = perfect(tmp_path)
    (pred / "one.txt").write_text("")
    found = evaluate(pred, gt)["pedestrian"]
    empty, combined = found.sequences["one"], found.combined
    assert [empty[name] for name in ("HOTA", "MOTA", "IDF1", "CLR_TP")] == [0] * 4
    assert (empty["CLR_FN"], combined["CLR_FN"], combined["CLR_TP"]) == (24, 24, 24)
    (gt / "one" / "gt" / "gt.txt").write_text("")
    regime = evaluate(pred, gt)
    assert math.isnan(regime["pedestrian"].sequences["one"]["HOTA"])
    assert regime["pedestrian"].sequences["one"].to_json()["HOTA"] is None
    assert regime["pedestrian"].combined["HOTA"] == 1
    assert regime.notes == [
        "the ground truth has no object on the scored frames of one: there is nothing to score",
        f"the result has no object on the scored frames of one ({pred / 'one.txt'}): all of the truth is missed",
    ]


def test_files_and_single_sequences(tmp_path: Path) -> None:
    pred, gt = perfect(tmp_path)
    other = tmp_path / "renamed.txt"
    other.write_bytes((pred / "one.txt").read_bytes())
    for place in (gt / "one", gt / "one" / "gt" / "gt.txt"):
        found = evaluate(other, place)["pedestrian"]
        assert list(found.sequences) == ["one"]
        assert found.combined["HOTA"] == 1
    assert list(evaluate(pred / "two.txt", gt)["pedestrian"].sequences) == ["two"]
    chosen = EvaluationSettings(sequences=("one",))
    assert list(evaluate(other, gt, chosen)["pedestrian"].sequences) == ["one"]
    with pytest.raises(InputError, match=r"is it a result of one, two. Its name .renamed. does not tell"):
        evaluate(other, gt)


def test_trackevals_layout(tmp_path: Path) -> None:
    pred, gt = perfect(tmp_path)
    pred.rename(tmp_path / "data")
    assert evaluate(tmp_path / "data", gt)["pedestrian"].combined["HOTA"] == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "data").rename(tmp_path / "mine" / "data")
    assert evaluate(tmp_path / "mine", gt)["pedestrian"].combined["HOTA"] == 1


def test_second_half(tmp_path: Path) -> None:
    pred, gt = perfect(tmp_path, ("one",))
    found = evaluate(pred, gt, EvaluationSettings(start_fraction=0.5))["pedestrian"]
    assert found.combined["GT_Dets"] == 2 * (12 - 7)  # frames 8 … 12, as CenterTrack halves
    with pytest.raises(InputError, match="one: no frame to score: it has 12"):
        evaluate(pred, gt, EvaluationSettings(start_fraction=0.99))


def test_no_classes_is_mot15(tmp_path: Path) -> None:
    gt, pred = write_crowd(tmp_path, "TUD", 1, with_class=False)
    assert evaluate(pred, gt).protocol == "mot15"


def test_names_and_classes_choose_the_protocol(tmp_path: Path) -> None:
    gt, pred = write_crowd(tmp_path / "a", "MOT20-01", 1)
    assert evaluate(pred, gt).protocol == "mot20"
    write_crowd(tmp_path / "a", "MOT17-01", 1)
    with pytest.raises(SettingError, match="score them apart"):
        evaluate(pred, gt)
    gt, pred = write_crowd(tmp_path / "b", "KITTI-0003", 1, classes=(1, 3))
    found = evaluate(pred, gt)
    assert (found.protocol, [c.name for c in found.classes]) == ("kitti-simple", ["car", "pedestrian"])
    assert found.all_classes is not None
    both = sum(c.combined["CLR_TP"] for c in found.classes)
    assert found.all_classes["CLR_TP"] == both
    gt, pred = write_crowd(tmp_path / "c", "street", 1, classes=(1, 3))
    found = evaluate(pred, gt, EvaluationSettings(classes=("bus=3", "1")))
    assert (found.protocol, [c.name for c in found.classes]) == ("plain", ["bus", "class 1"])
    agnostic = evaluate(pred, gt, EvaluationSettings(class_agnostic=True))
    assert agnostic["object"].combined["GT_Dets"] == sum(c.combined["GT_Dets"] for c in found.classes)


def test_a_note_names_a_class_without_objects(tmp_path: Path) -> None:
    gt, pred = write_crowd(tmp_path, "street", 1)
    found = evaluate(pred, gt, EvaluationSettings(classes=("bus=5",)))
    assert found.notes == ["class bus: the ground truth has no object of it, nor has the result"]
    assert math.isnan(found["bus"].combined["HOTA"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ["boat"]}, "the ground truth has pedestrian .1., car .3., cyclist .4."),
        ({"classes": ["9"]}, "the ground truth has pedestrian"),
        ({"classes": ["car", "car=4"]}, "names a class twice"),
        ({"classes": ["car=x"]}, "NAME=NUMBER is expected"),
        ({"classes": ["car"], "class_agnostic": True}, "exclude each other"),
        ({"classes": ["car"], "protocol": "mot17"}, "scores pedestrians alone"),
        ({"sequences": ["x"]}, "has no x"),
        ({"by": "masks"}, "has boxes alone"),
        ({"metrics": ["jf"]}, "J and F need masks"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    gt, pred = write_crowd(tmp_path, "KITTI-0003", 1, classes=(1, 3))
    with pytest.raises(SettingError, match=message):
        evaluate(pred, gt, EvaluationSettings.checked(**settings))


def test_settings_name_what_is_wrong() -> None:
    with pytest.raises(SettingError, match=r"metrics.0: .*'speed'"):
        EvaluationSettings.checked(metrics=["speed"])
    with pytest.raises(SettingError, match="start_fraction"):
        EvaluationSettings.checked(start_fraction=1.0)


def test_several_classes_need_classes_in_the_result(tmp_path: Path) -> None:
    gt, pred = write_crowd(tmp_path, "KITTI-0003", 1, classes=(1, 3))
    lines = (pred / "KITTI-0003.txt").read_text().splitlines()
    write_lines(pred / "KITTI-0003.txt", [",".join(line.split(",")[:7]) for line in lines])
    with pytest.raises(InputError, match="has no class, and 2 classes are scored: name one with classes, or"):
        evaluate(pred, gt)
    assert evaluate(pred, gt, EvaluationSettings(class_agnostic=True))["object"].combined["CLR_TP"] > 0
    assert evaluate(pred, gt, EvaluationSettings(classes=("car",)))["car"].combined["CLR_TP"] > 0


def test_numbers_of_a_result_against_names_of_kitti(tmp_path: Path) -> None:
    true = truth(2, classes=(1, 3))
    names = {1: "Pedestrian", 3: "Car"}
    gt = write_lines(tmp_path / "gt" / "0001.txt", kitti_lines(true, names)).parent
    pred = write_lines(tmp_path / "pred" / "0001.txt", mot_lines(true)).parent
    with pytest.raises(
        InputError, match=r"class . has no name, and the ground truth has no numbers: give classes='NAME="
    ):
        evaluate(pred, gt)
    found = evaluate(pred, gt, EvaluationSettings(classes=("car=3", "pedestrian=1")))
    for scored in found.classes:
        assert scored.combined["CLR_TP"] > 10
        assert scored.combined["CLR_FP"] == 0
    with pytest.raises(SettingError, match="classes='boat=3': the ground truth has car"):
        evaluate(pred, gt, EvaluationSettings(classes=("boat=3",)))


def test_regions_of_a_kitti_result_are_no_tracks(tmp_path: Path) -> None:
    region = "0 -1 DontCare -1 -1 -10 5 6 70 80 -1 -1 -1 0 0 0 0"
    gt = write_lines(tmp_path / "0001.txt", [*kitti_lines(truth(2), {1: "Car"}), region])
    for settings in (EvaluationSettings(), EvaluationSettings(class_agnostic=True)):
        combined = evaluate(gt, gt, settings).classes[0].combined
        assert (combined["HOTA"], combined["CLR_FP"]) == (1, 0)


@pytest.mark.parametrize(("shift", "word"), [(1, "before"), (-1, "after"), (0, None)])
def test_a_result_that_is_one_frame_off_is_noted(tmp_path: Path, shift: int, word: str | None) -> None:
    walking = [Item(frame, 1, (10.0 * frame, 50, 40, 90), 1, 1) for frame in range(1, 30)]
    moved = [item._replace(frame=item.frame + shift) for item in walking]
    names = {1: "Car"}
    gt = write_lines(tmp_path / "gt" / "0001.txt", kitti_lines(walking, names)).parent
    pred = write_lines(tmp_path / "pred" / "0001.txt", kitti_lines(moved, names)).parent
    notes = [note for note in evaluate(pred, gt).notes if "frame" in note]
    assert len(notes) == (word is not None)
    if word is not None:
        assert f"0001: the result fits the truth of the frame {word} better (mean overlap 1.00 instead of" in notes[0]


def crowd_text(path: Path, rows: NDArray[np.float64]) -> Path:
    """MOT text of `(N, 6)` frame from 0, id, x, y, width, height."""
    path.write_text(
        "".join(f"{f + 1:g},{i + 1:g},{x:g},{y:g},{w:g},{h:g},1,1,1\n" for f, i, x, y, w, h in rows.tolist())
    )
    return path


def crowd_rows(frames: int = 40, objects: int = 4) -> NDArray[np.float64]:
    """`(N, 6)` of objects that move to the right."""
    frame, one = (grid.ravel() for grid in np.mgrid[:frames, :objects])
    size = np.array([40.0, 80.0]) + 5 * one[:, None]
    return np.column_stack([frame, one, 20 + 140 * one + 1.5 * frame, 30 + 90 * one, size])


def _every_fifth(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.compress(rows[:, 0] % 5 == 0, rows, axis=0)


def _corners(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([rows[:, :4], rows[:, 2:4] + rows[:, 4:]])


def _thirds(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([rows[:, :2], rows[:, 2:] / 3])


@pytest.mark.parametrize(
    ("of_truth", "of_result", "note"),
    [
        (lambda rows: rows, lambda rows: rows, None),
        (
            lambda rows: rows,
            lambda rows: crowd_rows(60),
            "80 of its 240 boxes lie behind frame 40, the last of the truth",
        ),
        (lambda rows: rows, lambda rows: crowd_rows(20), "the result ends on frame 20, the truth on frame 40"),
        (
            _every_fifth,
            lambda rows: rows,
            "the truth has objects on 8 of 36 frames, and 80 % of the result's boxes lie on",
        ),
        (_every_fifth, _every_fifth, None),
        (
            lambda rows: rows,
            _corners,
            "the result fits better with its width and height read as a right and bottom edge",
        ),
        (
            _corners,
            lambda rows: rows,
            "the truth fits better with its width and height read as a right and bottom edge",
        ),
        (lambda rows: rows, _thirds, "the result fits better scaled to 300 % × 300 %"),
    ],
)
def test_what_is_odd_about_a_result_as_a_whole_is_noted(
    tmp_path: Path,
    of_truth: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    of_result: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    note: str | None,
) -> None:
    rows = crowd_rows()
    gt, result = crowd_text(tmp_path / "gt.txt", of_truth(rows)), crowd_text(tmp_path / "r.txt", of_result(rows))
    notes = evaluate(result, gt).notes
    assert [note in each for each in notes] == [True] if note else not notes, notes


def test_scores_in_a_truth_are_noted(tmp_path: Path) -> None:
    gt = crowd_text(tmp_path / "gt.txt", crowd_rows())
    gt.write_text(gt.read_text().replace(",1,1,1\n", ",0.9,1,1\n", 100))
    (note,) = evaluate(crowd_text(tmp_path / "r.txt", crowd_rows()), gt).notes
    assert "the ground truth leaves out 100 of 160 objects whose column 7 is a fraction, such as 0.9" in note


def test_one_sequence_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[weakref.ref[object]] = []

    def read(*given: Any, **more: Any) -> Any:
        table = read_mot_annotations(*given, **more)
        if more.get("is_truth"):
            gc.collect()
            assert sum(earlier() is not None for earlier in tables) == 0
            tables.append(weakref.ref(table))
        return table

    monkeypatch.setattr("trackweave.evaluation.discovery.read_mot_annotations", read)
    evaluate(*perfect(tmp_path, ("one", "two", "three")), EvaluationSettings(protocol=Protocol.mot17))
    assert len(tables) == 3


def test_missing_sequences(tmp_path: Path) -> None:
    pred, gt = perfect(tmp_path, ("one", "two", "three"))
    (pred / "two.txt").unlink()
    with pytest.raises(InputError, match="no result of 1 of 3 sequences: two; missing='skip'"):
        evaluate(pred, gt)
    left = evaluate(pred, gt, EvaluationSettings(missing=OnMissing.skip))
    assert list(left["pedestrian"].sequences) == ["one", "three"]
    assert left.notes == ["no result of two: left out"]
    empty = evaluate(pred, gt, EvaluationSettings(missing=OnMissing.empty))
    assert empty["pedestrian"].combined["CLR_FN"] == 24
    assert empty.notes[0] == "no result of two: scored as empty"
    (pred / "four.txt").write_text("")
    with pytest.raises(InputError, match=r"results of sequences that .* has not: four"):
        evaluate(pred, gt, EvaluationSettings(missing=OnMissing.skip))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("13,1,1,1,2,2,1", "line 1: a frame beyond the 12 frames"),
        ("1,-1,1,1,2,2,1", "line 1: track id -1: these are detections"),
    ],
)
def test_bad_results(tmp_path: Path, line: str, message: str) -> None:
    pred, gt = perfect(tmp_path)
    write_lines(pred / "one.txt", [line])
    with pytest.raises(InputError, match=message):
        evaluate(pred, gt)


def test_bad_truth(tmp_path: Path) -> None:
    pred, gt = perfect(tmp_path)
    (tmp_path / "empty").mkdir()
    for wrong, message in ((tmp_path / "no", "no such ground truth"), (tmp_path / "empty", "no ground truth: neither")):
        with pytest.raises(InputError, match=message):
            evaluate(pred, wrong)
    for wrong, message in ((tmp_path / "no", "no such result"), (tmp_path / "empty", "no results: neither a run")):
        with pytest.raises(InputError, match=message):
            evaluate(wrong, gt)
    with pytest.raises(InputError, match="is mot, not kitti"):
        evaluate(pred, gt, EvaluationSettings(gt_format=Format.kitti))
    with pytest.raises(InputError, match="is mot, not davis"):
        evaluate(pred, gt, EvaluationSettings(format=Format.davis))
    write_lines(gt / "one" / "gt" / "gt.txt", ["1,1,1,1,2,2,1,99,1"])
    with pytest.raises(InputError, match="class 99 in column 8, but mot17 knows 1 to 13"):
        evaluate(pred, gt)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackeval", None)
    with pytest.raises(MissingExtraError, match=r"trackweave\[evaluate\].*--no-deps trackeval"):
        evaluate(*perfect(tmp_path))
    folder = write_labels(tmp_path / "labels", LABELS)
    assert evaluate(folder, folder, JF)["object"].combined["J&F"] == 1


# --- masks -------------------------------------------------------------------------------------------------------


def test_davis_folders(tmp_path: Path) -> None:
    for name in ("cows", "dogs"):
        write_labels(tmp_path / "gt" / name, LABELS)
        write_labels(tmp_path / "pred" / name, LABELS)
    (tmp_path / "pred" / "dogs" / "00001.png").unlink()
    found = evaluate(tmp_path / "pred", tmp_path / "gt")
    assert (found.overlap, found.protocol) == (Overlap.masks, "plain")
    assert found.notes == ["dogs: 1 of 2 frames have no result and count as empty"]
    objects = found["object"]
    assert objects.sequences["cows"]["J&F"] == objects.sequences["cows"]["HOTA"] == 1
    assert objects.sequences["dogs"]["J-Mean"] == 0.5
    assert objects.combined["J-Mean"] == 0.75
    assert objects.combined["num_gt_tracks"] == 4
    assert set(objects.sequences["dogs"].objects) == {1, 2}


def test_other_ids_are_found_by_the_best_match(tmp_path: Path) -> None:
    write_labels(tmp_path / "gt", LABELS)
    write_labels(tmp_path / "pred", np.where(LABELS > 0, 5 - LABELS, 0).astype(np.uint8))
    by_ids = evaluate(tmp_path / "pred", tmp_path / "gt", JF)
    assert by_ids["object"].combined["J-Mean"] == 0
    assert by_ids.notes == ["gt: J and F ignore ids 3, 4, which the first frame of the truth has not"]
    best = evaluate(tmp_path / "pred", tmp_path / "gt", EvaluationSettings(matching=Matching.best))
    assert best["object"].combined["J&F"] == best["object"].combined["HOTA"] == 1


def test_void_pixels_are_not_scored(tmp_path: Path) -> None:
    truth, spilled = LABELS.copy(), LABELS.copy()
    truth[:, 0], spilled[:, 0] = 255, 1
    found = evaluate(write_labels(tmp_path / "pred", spilled), write_labels(tmp_path / "gt", truth))
    assert found["object"].combined["HOTA"] == 1
    assert found["object"].combined["J-Mean"] == 1


def test_label_folders_that_do_not_fit(tmp_path: Path) -> None:
    gt = write_labels(tmp_path / "gt", LABELS)
    with pytest.raises(InputError, match=r"frame 00001: masks of \(4, 32\), but \(8, 32\) in the ground truth"):
        evaluate(write_labels(tmp_path / "small", LABELS[:, :4]), gt)
    write_label_png(tmp_path / "other" / "a.png", LABELS[0])
    with pytest.raises(InputError, match=r"named like a.png, the frames of the ground truth like 00000"):
        evaluate(tmp_path / "other", gt)
    with pytest.raises(InputError, match="no frame to score: it has 2, and J and F leave out 2"):
        evaluate(gt, write_labels(tmp_path / "two", LABELS[:2]))


def test_label_folders_of_other_names_are_matched_by_equal_numbers(tmp_path: Path) -> None:
    """As `export --to davis` of a run over a video names them, and DAVIS its truth."""
    gt = write_labels(tmp_path / "gt", LABELS)
    for frame, image in enumerate(LABELS):
        write_label_png(tmp_path / "pred" / f"frame_{frame:06d}.png", image)
    found = evaluate(tmp_path / "pred", gt)
    assert found["object"].combined["J-Mean"] == 1
    assert found.notes == ["the result is named like frame_000000.png, the ground truth like 00000: numbers count"]
    (tmp_path / "pred" / "frame_000000.png").unlink()  # numbers from 1, perhaps: which frame is which is not known
    with pytest.raises(InputError, match=r"named like frame_000001.png.*: rename them"):
        evaluate(tmp_path / "pred", gt)


def video_json(path: Path, *, results: bool = False, shift: int = 0, category: int = 1, scale: int = 1) -> Path:
    """The crossing as YouTube-VIS; as results, `shift` frames late."""
    tracks = []
    for label in (1, 2):
        masks = PackedMasks.from_bool(np.roll(label == LABELS, shift, axis=0)[:, ::scale])
        item: dict[str, Any] = {"video_id": 1, "category_id": category, "segmentations": encode_rle(masks)}
        tracks.append(item | ({"score": 0.5} if results else {"id": label, "iscrowd": 0}))
    document: Any = tracks
    if not results:
        video = {"id": 1, "height": 8, "width": 32, "file_names": [f"crossing/{k:05d}.jpg" for k in range(len(LABELS))]}
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        document = {"videos": [video], "categories": categories, "annotations": tracks}
    path.write_text(json.dumps(document))
    return path


def test_ytvis(tmp_path: Path) -> None:
    gt = video_json(tmp_path / "gt.json")
    found = evaluate(video_json(tmp_path / "r.json", results=True), gt)
    assert [c.name for c in found.classes] == ["cat"]
    assert found["cat"].combined["HOTA"] == found["cat"].combined["J&F"] == 1
    late = evaluate(video_json(tmp_path / "late.json", results=True, shift=1), gt)["cat"].combined
    assert 0 < late["HOTA"] < 0.6
    assert evaluate(write_labels(tmp_path / "crossing", LABELS), gt)["cat"].combined["HOTA"] == 1
    boxes = EvaluationSettings(by=Overlap.boxes)
    assert evaluate(tmp_path / "r.json", gt, boxes)["cat"].combined["HOTA"] == 1
    other = evaluate(video_json(tmp_path / "dogs.json", results=True, category=2), gt)["cat"].combined
    assert (other["HOTA"], other["CLR_FN"]) == (0, 8)


def test_empty_and_bad_ytvis_results(tmp_path: Path) -> None:
    gt = video_json(tmp_path / "gt.json")
    (tmp_path / "r.json").write_text("[]")
    found = evaluate(tmp_path / "r.json", gt)
    assert (found.overlap, found["cat"].combined["J&F"]) == (Overlap.masks, 0)
    with pytest.raises(InputError, match=r"frame crossing/00000.jpg: masks of \(4, 32\), but \(8, 32\)"):
        evaluate(video_json(tmp_path / "r.json", results=True, scale=2), gt)
    with pytest.raises(SettingError, match=r"classes='bird': the ground truth has cat .1., dog .2."):
        evaluate(tmp_path / "r.json", gt, EvaluationSettings(classes=("bird",)))


def test_boxes_against_coco_vid_have_one_origin(tmp_path: Path) -> None:
    """MOT text counts pixels from 1, COCO from 0."""
    images = [{"id": k, "video_id": 1, "frame_id": k, "file_name": f"{k}.jpg"} for k in range(12)]
    annotations = []
    for k in range(12):
        for track in (1, 2):
            x1, y1, x2, y2 = box_of(track, k)
            row = {"image_id": k, "track_id": track, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            annotations.append(row)
    document = {"images": images, "videos": [{"id": 1, "name": "one"}], "annotations": annotations}
    (tmp_path / "gt.json").write_text(json.dumps({**document, "categories": [{"id": 1, "name": "person"}]}))
    pred, _ = perfect(tmp_path, ("one",))
    assert evaluate(pred, tmp_path / "gt.json")["person"].combined["LocA"] == 1


# --- runs --------------------------------------------------------------------------------------------------------


def test_runs_of_boxes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        sequence = make_sequence(tmp_path / "gt" / name, name=name)
        track_boxes(sequence, tmp_path / "runs" / f"run-{name}", overlay=False)
    found = evaluate(tmp_path / "runs", tmp_path / "gt")
    assert list(found["pedestrian"].sequences) == ["one", "two"]
    assert found["pedestrian"].combined["AssA"] > 0.8
    alone = evaluate(tmp_path / "runs" / "run-two", tmp_path / "gt")["pedestrian"]
    assert list(alone.sequences) == ["two"]
    assert alone.combined == found["pedestrian"].sequences["two"]
    track_boxes(tmp_path / "gt" / "one", tmp_path / "runs" / "again", overlay=False)
    with pytest.raises(InputError, match="a second run of sequence one"):
        evaluate(tmp_path / "runs", tmp_path / "gt")


def test_a_run_of_another_length_than_the_truth_is_noted(tmp_path: Path) -> None:
    sequence = make_sequence(tmp_path / "gt" / "one", name="one")
    track_boxes(sequence, tmp_path / "boxes", overlay=False, video=InputSettings(max_frames=9))
    notes = evaluate(tmp_path / "boxes", sequence).notes
    assert "the result is of 9 frames, the ground truth of 12: are they one video?" in notes
    gt = write_labels(tmp_path / "crossing", LABELS)
    start, sampling = {0: CROSSING.labels[0]}, f":{len(LABELS) - 1}"
    run = track_masks(CROSSING.frames, tmp_path / "masks", prompts=start, predictor="static", sampling=sampling)
    assert f"the result is of {len(LABELS) - 1} frames, the ground truth of {len(LABELS)}: are they one video?" in (
        evaluate(run, gt).notes
    )


def test_runs_of_masks(tmp_path: Path) -> None:
    gt = write_labels(tmp_path / "gt" / "crossing", LABELS)
    replay = f"replay={CROSSING.record(tmp_path / 'record.npz')}"
    run = track_masks(CROSSING.frames, tmp_path / "run", prompts={0: CROSSING.labels[0]}, predictor=replay).root
    found = evaluate(run, gt)
    assert found.overlap is Overlap.masks
    assert found["object"].combined["J&F"] == found["object"].combined["HOTA"] == 1
    assert evaluate(run, video_json(tmp_path / "gt.json"))["cat"].combined["J&F"] == 1
    boxes = evaluate(run, gt, EvaluationSettings(by=Overlap.boxes))
    assert boxes["object"].combined["HOTA"] == 1
    with pytest.raises(Exception, match="level 4"):
        evaluate(run, gt, EvaluationSettings(level=4))


def test_the_numbers_of_a_sparse_truth_are_frames_of_a_video(tmp_path: Path) -> None:
    """As YouTube-VOS annotates every fifth frame: the second label image is not the second frame."""
    gt = tmp_path / "gt" / "crossing"
    for frame in range(0, len(LABELS), 2):
        write_label_png(gt / f"{frame:05d}.png", LABELS[frame])
    replay = f"replay={CROSSING.record(tmp_path / 'record.npz')}"
    run = track_masks(CROSSING.frames, tmp_path / "run", prompts={0: CROSSING.labels[0]}, predictor=replay).root
    found = evaluate(run, gt, EvaluationSettings(matching=Matching.best))
    assert found["object"].combined["HOTA"] == 1
    last = 2 * ((len(LABELS) - 1) // 2)
    names = f"the result has frames of other names than the ground truth ({last:05d}.png): frame {last} is that one's"
    assert found.notes == [names]
    with pytest.raises(InputError, match=rf"no ground truth: .*; did you mean {tmp_path / 'gt'}\?"):
        evaluate(run, tmp_path)


def test_small_masks_of_a_run_grow(tmp_path: Path) -> None:
    gt = write_labels(tmp_path / "gt" / "crossing", LABELS)
    run = track_masks(
        CROSSING.frames,
        tmp_path / "run",
        prompts={0: CROSSING.labels[0]},
        predictor=f"replay={CROSSING.record(tmp_path / 'record.npz')}",
        settings=TrackingSettings(mask_scale_ratio=0.5),
    ).root
    assert evaluate(run, gt)["object"].combined["J-Mean"] == 1


# --- regimes -----------------------------------------------------------------------------------------------------


def test_regimes(tmp_path: Path) -> None:
    pred, gt = perfect(tmp_path / "a")
    crowd_gt, crowd_pred = write_crowd(tmp_path / "b", "KITTI-0001", 3, classes=(1, 3))
    sequences: list[str] = []
    found = evaluate_regimes([Regime(pred, gt, "easy"), Regime(crowd_pred, crowd_gt, "crowd")], sequences.append)
    assert [regime.name for regime in found.regimes] == ["easy", "crowd"]
    assert found["crowd"].protocol == "kitti-simple"
    assert sequences == ["one", "two", "KITTI-0001"]
    record = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert record["regimes"][0]["classes"]["pedestrian"]["combined"]["HOTA"] == 1
    assert len(record["regimes"][0]["classes"]["pedestrian"]["sequences"]["one"]["by_overlap"]["HOTA_TP"]) == 19


def test_a_far_frame_number_costs_nothing(tmp_path: Path) -> None:
    lines = ["1,1,10,10,20,40,1,1,1", "2147483647,1,10,10,20,40,1,1,1", "5,2,10,10,20,40,1,1,1"]
    file = tmp_path / "gt.txt"
    file.write_text("\n".join(lines) + "\n")
    scores = evaluate(file, file)["pedestrian"].combined
    assert (scores["HOTA"], scores["MOTA"], scores["CLR_Frames"], scores["CLR_TP"]) == (1, 1, 2**31 - 1, 3)
    empty = write_lines(tmp_path / "empty.txt", ["2000000000,1,10,10,20,40,1,1,1"])
    assert evaluate(empty, file, EvaluationSettings(start_fraction=0.5))["pedestrian"].combined["CLR_FP"] == 1


def test_frames_without_objects_change_nothing(tmp_path: Path) -> None:
    """Of masks, too: J and F are 1 where both are empty, as if every frame were gone over."""
    labels = np.concatenate([LABELS, LABELS[:3] * np.uint8(0), LABELS])
    video = video_json(tmp_path / "gt.json")
    document = json.loads(video.read_text())
    document["videos"][0]["file_names"] = [f"crossing/{k:05d}.jpg" for k in range(len(labels))]
    for track in document["annotations"]:
        track["segmentations"] = track["segmentations"] + [None] * 3 + track["segmentations"]
    video.write_text(json.dumps(document))
    predicted = np.roll(labels, 1, axis=2)
    folder = evaluate(write_labels(tmp_path / "crossing", predicted), video)["cat"].combined
    results = []
    for label in (1, 2):
        masks: list[Any] = list(encode_rle(PackedMasks.from_bool(predicted == label)))
        masks[len(LABELS) : len(LABELS) + 3] = [None] * 3
        results.append({"video_id": 1, "category_id": 1, "score": 0.5, "segmentations": masks})
    (tmp_path / "r.json").write_text(json.dumps(results))
    tables = evaluate(tmp_path / "r.json", video)["cat"].combined
    assert tables.values == folder.values
    assert 0 < tables["J&F"] < 1


# --- whatever `convert` reads ------------------------------------------------------------------------------------


def crossing_video() -> TracksVideo:
    """The scene of `LABELS` as tracks; its objects do not overlap."""
    parts = []
    for frame, image in enumerate(LABELS):
        ids = [n for n in np.unique(image).tolist() if n]
        masks = PackedMasks.from_bool(np.stack([image == n for n in ids]))
        parts.append(Tracks.from_columns([frame] * len(ids), ids, masks.boxes, None, None, masks))
    height, width = LABELS.shape[1:]
    names = [f"{frame:05d}.png" for frame in range(len(LABELS))]
    return TracksVideo(Tracks.concat(parts), VideoInfo("one", range(len(LABELS)), names, (height, width), None, 10))


def in_format(name: str, folder: Path) -> Path:
    folder.mkdir(parents=True)
    kind = FORMATS[name]
    path = folder / f"one{kind.suffix}"
    write_video(crossing_video(), path, kind, FormatSettings(ids="run"), RunLog(package=None))
    return path


OTHERS = sorted(kind.value for kind in Format if kind not in OWN_FORMATS)


def test_every_format_that_is_read_is_evaluated() -> None:
    as_coco_vid = {"coco", "tao"}
    assert {kind.value for kind in Format} == {*readable(), "run"} - as_coco_vid


@pytest.mark.parametrize("name", [*OTHERS, "coco", "tao"])
def test_results_in_any_format(name: str, tmp_path: Path) -> None:
    gt = write_labels(tmp_path / "gt" / "one", LABELS)
    is_named = name in ("mots-png", "youtube-vos")
    settings = EvaluationSettings(format=Format(name) if is_named else None, class_agnostic=True)
    if FORMATS[name].masks and name != "yolo":
        found = evaluate(in_format(name, tmp_path / "pred"), gt, settings)
        assert found.overlap is Overlap.masks
        (scores,) = found.classes
        assert (scores.combined["HOTA"], scores.combined["J&F"]) == (1, 1)
        return
    truth = in_format("coco-vid", tmp_path / "truth")  # says the size of the frames, which shares need
    by_boxes = EvaluationSettings(by=Overlap.boxes, class_agnostic=True)
    (scores,) = evaluate(in_format(name, tmp_path / "pred"), truth, by_boxes).classes
    assert scores.combined["HOTA"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", OTHERS)
def test_truth_in_any_format(name: str, tmp_path: Path) -> None:
    is_named = name in ("mots-png", "youtube-vos")
    settings = EvaluationSettings(gt_format=Format(name) if is_named else None, class_agnostic=True)
    truth, pred = in_format(name, tmp_path / "gt"), write_labels(tmp_path / "pred" / "one", LABELS)
    if name in ("yolo", "label-studio"):
        with pytest.raises(InputError, match="does not say the size of the frames"):
            evaluate(pred, truth, settings)
        return
    (scores,) = evaluate(pred, truth, settings).classes
    assert (scores.combined["HOTA"], scores.combined["J&F"]) == (1, 1)


def test_folders_of_tables_and_levels(tmp_path: Path) -> None:
    video = crossing_video()
    tracks = collected(video)
    for name in ("one", "two"):
        for side in ("gt", "pred"):
            (tmp_path / side).mkdir(exist_ok=True)
            write_video(video, tmp_path / side / f"{name}.parquet", FORMATS["parquet"])
    found = evaluate(tmp_path / "pred", tmp_path / "gt", EvaluationSettings(class_agnostic=True))
    assert list(found.classes[0].sequences) == ["one", "two"]
    assert found.classes[0].combined["HOTA"] == 1
    levels = np.where(tracks.track_id == 1, 2, 4)
    (tmp_path / "levels").mkdir()
    write_video(
        TracksVideo(replace(tracks, level=levels), video.info), tmp_path / "levels" / "one.parquet", FORMATS["parquet"]
    )
    gt = write_labels(tmp_path / "labels" / "one", np.where(LABELS == 1, LABELS, 0))
    with pytest.raises(InputError, match=r"has levels \[2, 4\]"):
        evaluate(tmp_path / "levels" / "one.parquet", gt)
    (scores,) = evaluate(tmp_path / "levels" / "one.parquet", gt, EvaluationSettings(level=2)).classes
    assert scores.combined["J&F"] == 1


def test_frames_of_a_table_are_those_of_the_same_name_or_number(tmp_path: Path) -> None:
    gt = write_labels(tmp_path / "gt" / "one", LABELS)
    video = crossing_video()
    half = TracksVideo(
        collected(video)[collected(video).frame % 2 == 0],
        replace(video.info, indices=range(0, len(LABELS), 2), names=video.info.names[::2]),
    )
    settings = EvaluationSettings(class_agnostic=True)
    for suffix in ("parquet", "csv"):
        write_video(half, tmp_path / f"one.{suffix}", FORMATS[suffix])
    found = [evaluate(tmp_path / f"one.{suffix}", gt, settings).classes[0].combined for suffix in ("parquet", "csv")]
    assert found[0]["HOTA"] == found[1]["HOTA"]
    assert found[0]["DetPr"] == 1
    assert 0.3 < found[0]["DetRe"] < 0.7


def test_a_run_of_masks_is_no_truth(tmp_path: Path) -> None:
    run = track_masks(CROSSING.frames, tmp_path / "run", prompts={0: CROSSING.labels[0]}, predictor="static")
    with pytest.raises(InputError, match=r"is a run of masks and not a truth: .*export\(run, 'ytvis'"):
        evaluate(run, run)
    export(run, "ytvis", tmp_path / "truth.json")
    assert evaluate(run, tmp_path / "truth.json", JF).classes[0].combined["J&F"] == 1
