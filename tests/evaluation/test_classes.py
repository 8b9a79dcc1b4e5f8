"""Classes of a result and of the truth belong together by their names where both have some, else by their numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.toy_scenes import CROSSING
from trackweave.errors import InputError, SettingError
from trackweave.evaluation.evaluate import evaluate
from trackweave.evaluation.settings import EvaluationSettings, Metric, Overlap
from trackweave.formats.registry import FORMATS, write_video
from trackweave.formats.videos import TracksVideo
from trackweave.masks.codecs import encode_rle
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.settings import InputSettings
from trackweave.structures.tracked_video import VideoInfo
from trackweave.structures.tracks import Tracks
from trackweave.tracking.settings import TrackingSettings

pytest.importorskip("trackeval")

FRAMES = 12
SIZE = (120, 240)
BY_BOXES = EvaluationSettings(by=Overlap.boxes, metrics=(Metric.clear,))


def box(letter: str, frame: int) -> list[float]:
    """Two objects that never meet: `a` above, `b` below."""
    return [10.0 + 4 * frame, 10.0 if letter == "a" else 70.0, 50.0 + 4 * frame, 50.0 if letter == "a" else 110.0]


def coco_vid(path: Path, categories: dict[int, str], classes: dict[str, int]) -> Path:
    """The two objects as COCO-VID."""
    images = [
        {"id": k, "video_id": 1, "frame_id": k, "file_name": f"{k}.jpg", "height": SIZE[0], "width": SIZE[1]}
        for k in range(FRAMES)
    ]
    annotations = []
    for k in range(FRAMES):
        for track, letter in enumerate(classes):
            x1, y1, x2, y2 = box(letter, k)
            row = {"image_id": k, "track_id": track, "category_id": classes[letter], "bbox": [x1, y1, x2 - x1, y2 - y1]}
            annotations.append(row)
    document = {"images": images, "videos": [{"id": 1, "name": "one"}], "annotations": annotations}
    document["categories"] = [{"id": number, "name": name} for number, name in categories.items()]
    path.write_text(json.dumps(document))
    return path


def box_run(folder: Path, words: dict[str, str]) -> Path:
    """A run of boxes over detections whose classes are words; they are numbered in the order of the alphabet."""
    lines = [
        ",".join(map(str, (k, *box(letter, k), 0.9, word))) for k in range(FRAMES) for letter, word in words.items()
    ]
    folder.mkdir(parents=True)
    file = folder / "detections.csv"
    file.write_text("\n".join(["frame,x1,y1,x2,y2,score,class", *lines]) + "\n")
    video = InputSettings(fps=10, size=(240, 120))
    return track_boxes(None, folder / "run", detections=file, tracker="sort", video=video, overlay=False).root


def table(path: Path, names: dict[int, str], classes: dict[str, int]) -> Path:
    """The two objects in a format of `convert`."""
    rows = [(k, n, box(letter, k), classes[letter]) for k in range(FRAMES) for n, letter in enumerate(classes, start=1)]
    frames, ids, boxes, numbers = zip(*rows, strict=True)
    tracks = Tracks.from_columns(frames, ids, np.array(boxes, np.float32), None, np.array(numbers))
    listed = [f"{k}.jpg" for k in range(FRAMES)]
    info = VideoInfo("one", range(FRAMES), listed, SIZE, None, 10, names)
    kind = next(kind for kind in FORMATS.values() if path.suffix == kind.suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(TracksVideo(tracks, info), path, kind)
    return path


def hits(found: Any) -> dict[str, tuple[float, float, float]]:
    """Hits, false and missed ones by class."""
    return {one.name: (one.combined["CLR_TP"], one.combined["CLR_FP"], one.combined["CLR_FN"]) for one in found.classes}


def test_a_run_of_boxes_is_compared_by_the_names_of_its_classes(tmp_path: Path) -> None:
    """Its 0 is the car and its 1 the person; in the truth 1 is the car."""
    truth = coco_vid(tmp_path / "gt.json", {1: "Car", 2: "person "}, {"a": 1, "b": 2})
    found = evaluate(box_run(tmp_path / "a", {"a": "car", "b": "person"}), truth, BY_BOXES)
    for tp, fp, fn in hits(found).values():
        assert tp >= FRAMES - 2
        assert (fp, tp + fn) == (0, FRAMES)
    assert "classes belong together by their names: Car (1) is car (0), person (2) is person (1)" in found.notes


def test_what_is_called_the_same_and_numbered_the_same_needs_no_note(tmp_path: Path) -> None:
    truth = coco_vid(tmp_path / "gt.json", {0: "car", 1: "person"}, {"a": 0, "b": 1})
    found = evaluate(box_run(tmp_path / "a", {"a": "car", "b": "person"}), truth, BY_BOXES)
    assert not [note for note in found.notes if "class" in note]


def test_a_class_that_the_result_does_not_know_is_noted(tmp_path: Path) -> None:
    truth = coco_vid(tmp_path / "gt.json", {1: "car", 2: "bus"}, {"a": 1, "b": 2})
    found = evaluate(box_run(tmp_path / "a", {"a": "car", "b": "truck"}), truth, BY_BOXES)
    assert hits(found)["bus"] == (0, 0, FRAMES)
    assert "no class of the result is called bus (it has car, truck): all of the truth's are missed" in found.notes
    given = EvaluationSettings.model_copy(BY_BOXES, update={"classes": ("car", "bus=1")})
    found = evaluate(tmp_path / "a" / "run", truth, given)
    assert hits(found)["bus"][1:] == (0, FRAMES - hits(found)["bus"][0])
    assert hits(found)["bus"][0] > 0


def test_nothing_in_common_is_refused(tmp_path: Path) -> None:
    truth = coco_vid(tmp_path / "gt.json", {0: "Auto"}, {"a": 0, "b": 0})
    run = box_run(tmp_path / "a", {"a": "car", "b": "car"})
    with pytest.raises(
        InputError, match=r"its classes \(car\) are none of those that are scored \(Auto\): classes='Auto=NUMBER' .*"
    ):
        evaluate(run, truth, BY_BOXES)
    for more in ({"class_agnostic": True}, {"classes": ("Auto=0",)}):
        (scores,) = evaluate(run, truth, BY_BOXES.model_copy(update=more)).classes
        assert scores.combined["CLR_TP"] > FRAMES


def test_two_numbers_of_one_name_are_refused(tmp_path: Path) -> None:
    truth = coco_vid(tmp_path / "gt.json", {1: "car", 2: "car"}, {"a": 1, "b": 2})
    run = box_run(tmp_path / "a", {"a": "car", "b": "person"})
    with pytest.raises(InputError, match=r"gt.json: classes 1 and 2 are both called car"):
        evaluate(run, truth, BY_BOXES)
    truth = coco_vid(tmp_path / "gt.json", {1: "car", 2: "person"}, {"a": 1, "b": 2})
    result = table(tmp_path / "r.parquet", {3: "Car", 5: "CAR", 6: "person"}, {"a": 5, "b": 6})
    with pytest.raises(InputError, match=r"r.parquet: classes 3 \(Car\) and 5 \(CAR\) are both called car: classes="):
        evaluate(result, truth, BY_BOXES)
    given = BY_BOXES.model_copy(update={"classes": ("car=5", "person")})
    assert hits(evaluate(result, truth, given)) == {"car": (FRAMES, 0, 0), "person": (FRAMES, 0, 0)}


def test_numbers_are_compared_where_the_result_has_no_names_and_a_note_tells(tmp_path: Path) -> None:
    truth = coco_vid(tmp_path / "gt.json", {1: "car", 2: "person"}, {"a": 1, "b": 2})
    found = evaluate(table(tmp_path / "r.parquet", {}, {"a": 1, "b": 2}), truth, BY_BOXES)
    assert hits(found) == {"car": (FRAMES, 0, 0), "person": (FRAMES, 0, 0)}
    assert "the result's classes have no names: their numbers are compared (car is 1, person is 2)" in found.notes


def test_names_of_the_truth_in_any_format(tmp_path: Path) -> None:
    """CVAT numbers its labels in the order in which they occur: the same name has another number in each file."""
    table(tmp_path / "gt" / "one.xml", {1: "car", 2: "bus"}, {"a": 1, "b": 2})
    table(tmp_path / "gt" / "two.xml", {1: "car", 2: "bus"}, {"b": 2, "a": 1})
    for name in ("one", "two"):
        table(tmp_path / "r" / f"{name}.parquet", {7: "bus", 8: "CAR"}, {"a": 8, "b": 7})
    asked = BY_BOXES.model_copy(update={"classes": ("Car", "bus")})
    found = evaluate(tmp_path / "r", tmp_path / "gt", asked)
    assert hits(found) == {"car": (2 * FRAMES, 0, 0), "bus": (2 * FRAMES, 0, 0)}
    assert not [note for note in found.notes if "has classes" in note]
    whole = evaluate(tmp_path / "r", tmp_path / "gt", BY_BOXES)
    assert hits(whole) == {"object": (4 * FRAMES, 0, 0)}
    assert "the ground truth has classes, which are scored where they are named (classes)" in whole.notes
    with pytest.raises(SettingError, match=r"classes='boat': the ground truth has car .*, bus"):
        evaluate(tmp_path / "r", tmp_path / "gt", BY_BOXES.model_copy(update={"classes": ("boat",)}))


def test_a_number_that_means_two_things_in_the_truth_is_refused(tmp_path: Path) -> None:
    table(tmp_path / "gt" / "one.parquet", {1: "car"}, {"a": 1, "b": 1})
    table(tmp_path / "gt" / "two.parquet", {1: "bus"}, {"a": 1, "b": 1})
    with pytest.raises(SettingError, match=r"classes='1': is car in one sequence of the ground truth and bus in anoth"):
        evaluate(tmp_path / "gt", tmp_path / "gt", BY_BOXES.model_copy(update={"classes": ("1",)}))


def test_a_nameless_result_against_names_without_numbers_is_refused(tmp_path: Path) -> None:
    truth = table(tmp_path / "gt.xml", {1: "car", 2: "bus"}, {"a": 1, "b": 2})
    result = table(tmp_path / "r.parquet", {}, {"a": 1, "b": 2})
    with pytest.raises(InputError, match=r"class 1 has no name, and the ground truth has no numbers: give classes="):
        evaluate(result, truth, BY_BOXES.model_copy(update={"classes": ("car",)}))
    found = evaluate(result, truth, BY_BOXES.model_copy(update={"classes": ("car=1", "bus=2")}))
    assert hits(found) == {"car": (FRAMES, 0, 0), "bus": (FRAMES, 0, 0)}


def test_kittis_numbers_in_mot_text_have_names(tmp_path: Path) -> None:
    """In KITTI's sequences as MOT text 3 is the car; in the result it is another thing."""
    lines = [
        f"{k + 1},{n},{x1 + 1},{y1 + 1},{x2 - x1},{y2 - y1},1,{number},1"
        for k in range(FRAMES)
        for n, (letter, number) in enumerate((("a", 3), ("b", 1)), start=1)
        for x1, y1, x2, y2 in [box(letter, k)]
    ]
    (tmp_path / "KITTI-0001.txt").write_text("\n".join(lines) + "\n")
    names = {1: "car", 3: "pedestrian"}
    result = table(tmp_path / "r" / "KITTI-0001.parquet", names, {"a": 1, "b": 3})
    found = evaluate(result, tmp_path / "KITTI-0001.txt", BY_BOXES)
    assert hits(found) == {"car": (FRAMES, 0, 0), "pedestrian": (FRAMES, 0, 0)}


def test_classes_of_a_mask_run(tmp_path: Path) -> None:
    def annotations(path: Path, names: dict[int, str], classes: dict[str, int], frames: range) -> Path:
        images = [
            {"id": k, "video_id": 1, "frame_id": k, "file_name": f"frame_{k:06d}.png", "height": 8, "width": 32}
            for k in frames
        ]
        rows: list[dict[str, Any]] = []
        for k in frames:
            for n, (letter, number) in enumerate(classes.items(), start=1):
                masks = PackedMasks.from_bool(CROSSING.mask(k, letter)[None])
                x1, y1, x2, y2 = masks.boxes[0].tolist()
                row = {"id": len(rows), "image_id": k, "track_id": n, "category_id": number, "score": 0.5}
                rows.append(row | {"segmentation": encode_rle(masks)[0], "bbox": [x1, y1, x2 - x1, y2 - y1]})
        document = {"images": images, "annotations": rows, "videos": [{"id": 1, "name": "one"}]}
        document["categories"] = [{"id": number, "name": name} for number, name in names.items()]
        path.write_text(json.dumps(document))
        return path

    given = annotations(tmp_path / "c.json", {1: "car", 2: "pedestrian"}, {"a": 2, "b": 1}, range(1))
    settings = TrackingSettings(cuts="ignore", render_viz=False)
    run = track_masks(CROSSING.frames, tmp_path / "run", candidates=given, predictor="static", settings=settings).root
    every = range(len(CROSSING.frames))
    truth = annotations(tmp_path / "gt.json", {1: "Pedestrian", 2: "Car"}, {"a": 1, "b": 2}, every)
    found = evaluate(run, truth, EvaluationSettings(metrics=(Metric.clear,)))
    assert [tp + fp for tp, fp, _ in hits(found).values()] == [len(every), len(every)]
    assert all(tp > 0 for tp, _, _ in hits(found).values())
    names = "classes belong together by their names: Pedestrian (1) is pedestrian (2), Car (2) is car (1)"
    assert names in found.notes
    other = annotations(tmp_path / "other.json", {1: "walker"}, {"a": 1}, every)
    with pytest.raises(InputError, match=r"its classes \(car, pedestrian\) are none of those that are scored"):
        evaluate(run, other)
