"""The names of a detector's or a file's classes go into a run of boxes, its exports, its pages and its overlay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.detectors.onnx_models import WANTED, draw, yolov8, yolov8_transposed
from trackweave.errors import ArtifactError, RunFolderError
from trackweave.exporters import convert, export
from trackweave.formats.registry import FORMATS, read_video
from trackweave.formats.tables import DetectionTable
from trackweave.frames.open import open_frames
from trackweave.mot.settings import RefinementSettings
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.corrections import correct
from trackweave.pipelines.run import Run
from trackweave.pipelines.settings import InputSettings
from trackweave.reports.contents import read_contents
from trackweave.reports.page import render_report
from trackweave.reports.run_tracks import read_run_tracks
from trackweave.storage.npz import NpzWriter
from trackweave.storage.track_archive import KIND, TracksArchive
from trackweave.structures.corrections import Named, Observation
from trackweave.structures.run_summary import BoxSummary
from trackweave.structures.tracked_video import VideoInfo
from trackweave.visualization import annotators
from trackweave.visualization.settings import OverlaySettings

NAMES = {0: "cat", 1: "dog", 2: "owl"}
FRAMES = np.stack([draw(192, 288, (60 + t, 40, 150 + t, 130)) for t in range(8)])


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("named")
    model = yolov8_transposed(root / "yolo.onnx")
    return track_boxes(FRAMES, root / "run", detections=str(model), overlay=False).root


def test_a_run_keeps_the_names_of_the_models_metadata(named: Path) -> None:
    run: Run[BoxSummary] = Run(named)
    assert run.class_names == NAMES
    assert set(run.tracks().class_id.tolist()) == {WANTED}
    with run.archive() as archive:
        assert archive.metadata["classes"] == {"0": "cat", "1": "dog", "2": "owl"}
    shown = read_run_tracks(run)
    assert shown.tracks_json()["class"] == [WANTED]
    assert shown.info()["classes"] == {"0": "cat", "1": "dog", "2": "owl"}
    assert NAMES[WANTED] in render_report(read_contents(named))


@pytest.mark.parametrize(
    "name", [name for name, kind in FORMATS.items() if kind.reader and kind.writer and kind.classes and kind.boxes]
)
def test_every_export_with_classes_reads_their_names_back(named: Path, tmp_path: Path, name: str) -> None:
    listed = Run(named).frames
    written = export(named, name, tmp_path / f"out{FORMATS[name].suffix}", frames=open_frames(FRAMES))
    hints = VideoInfo("v", listed.indices, listed.names, listed.size)
    read = read_video(tmp_path / "out" if (tmp_path / "out").is_dir() else written[0], name, hints=hints)
    called = {read.info.class_name(span.class_id).lower() for span in read.spans().values()}
    # MOT has numbers alone, and KITTI no owls.
    assert called == {{"mot": f"class_{WANTED}", "kitti": "misc"}.get(name, NAMES[WANTED])}


def test_archives_are_converted_with_the_names(named: Path, tmp_path: Path) -> None:
    written = convert(named / "tracks.npz", tmp_path / "tracks.csv")
    assert read_video(written[0]).info.class_name(WANTED) == NAMES[WANTED]
    again = convert(written[0], tmp_path / "again.npz")
    assert read_video(again[0]).info.class_name(WANTED) == NAMES[WANTED]
    coco = convert(named / "tracks.npz", tmp_path / "coco.json", to="coco")
    categories = json.loads(coco[0].read_text())["categories"]
    assert [one["name"] for one in categories] == list(NAMES.values())


def drawn_labels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written beside the boxes of an overlay from now on."""
    seen: list[str] = []

    def draw_objects(*given: Any, labels: list[str], **more: Any) -> NDArray[np.uint8]:
        seen.extend(labels)
        return draw_without_record(*given, labels=labels, **more)

    draw_without_record = annotators.draw_objects
    monkeypatch.setattr(annotators, "draw_objects", draw_objects)
    return seen


@pytest.mark.parametrize("refinement", [None, RefinementSettings(min_track_length=2)])
def test_overlays_write_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refinement: RefinementSettings | None
) -> None:
    seen = drawn_labels(monkeypatch)
    overlay = OverlaySettings(classes=True)
    model = str(yolov8_transposed(tmp_path / "yolo.onnx"))
    run = track_boxes(FRAMES, tmp_path / "run", detections=model, overlay=overlay, refinement=refinement)
    assert set(seen) == {"1 owl"}
    seen.clear()
    export(run, "mp4", tmp_path / "out.mp4", frames=open_frames(FRAMES), overlay=overlay)
    assert set(seen) == {"1 owl"}


def coco_file(path: Path, names: dict[int, str]) -> Path:
    """Detections of one object on every frame, of class 2."""
    box = {"category_id": 2, "bbox": [60, 40, 90, 90], "score": 0.9}
    images = [{"id": n, "file_name": f"frame_{n:06d}.png"} for n in range(len(FRAMES))]
    categories = [{"id": number, "name": name} for number, name in names.items()]
    annotations = [{"id": n, "image_id": n, **box} for n in range(len(FRAMES))]
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    return path


def rows(names: dict[int, str] | None) -> DetectionTable:
    n = len(FRAMES)
    boxes = np.tile(np.array([[60, 40, 150, 130]], np.float32), (n, 1))
    return DetectionTable(np.arange(n), boxes, np.full(n, 0.9, np.float32), np.full(n, 2), names)


def test_files_and_tables_of_detections_have_names(tmp_path: Path) -> None:
    words = tmp_path / "words.csv"
    lines = [f"{n},60,40,150,130,0.9,owl" for n in range(len(FRAMES))]
    words.write_text("\n".join(["frame,x1,y1,x2,y2,score,class", *lines]))
    coco = coco_file(tmp_path / "coco.json", NAMES)
    files: list[tuple[Path | DetectionTable, dict[int, str]]] = [
        (words, {0: "owl"}),
        (coco, NAMES),
        (rows(NAMES), NAMES),
    ]
    for number, (given, names) in enumerate(files):
        run = track_boxes(FRAMES, tmp_path / f"run{number}", detections=given, overlay=False)
        assert run.class_names == names
        assert {names[one] for one in run.tracks().class_id.tolist()} == {"owl"}


@pytest.mark.parametrize("names", [None, {}])
def test_without_names_the_archive_says_nothing_of_them(tmp_path: Path, names: dict[int, str] | None) -> None:
    run = track_boxes(FRAMES, tmp_path / "run", detections=rows(names), overlay=False)
    with run.archive() as archive:
        assert dict(archive.metadata) == {"source": "memory"}
    assert run.class_names == {}
    moved = track_boxes(FRAMES, tmp_path / "moved", detections=str(yolov8(tmp_path / "m.onnx")), overlay=False)
    assert moved.class_names == {}


def test_a_damaged_record_of_names_is_one_line(tmp_path: Path) -> None:
    for number, record in enumerate((["owl"], {"two": "owl"}, 3)):
        path = tmp_path / f"{number}.npz"
        with NpzWriter(path) as archive:
            archive.add_manifest({"kind": KIND, "schema_version": 1, "parts": [], "metadata": {"classes": record}})
        with pytest.raises(ArtifactError, match=r"its manifest\.json lacks or misspells"):
            TracksArchive(path)


def test_what_a_person_says_leaves_the_names(tmp_path: Path) -> None:
    run = track_boxes(FRAMES, tmp_path / "run", detections=rows(NAMES), overlay=False)
    corrected = correct(run, [Named(Observation(0, 0), "Ann")])
    assert corrected.class_names == NAMES


def test_joined_pieces_keep_their_names(tmp_path: Path) -> None:
    def piece(name: str, frames: str, names: dict[int, str] | None) -> Path:
        video = InputSettings(frames=frames)
        folder = tmp_path / name
        return track_boxes(FRAMES, folder, detections=rows(names), tracker="sort", overlay=False, video=video).root

    first, second = piece("first", "0:5", NAMES), piece("second", "3:8", NAMES)
    joined = track_boxes(FRAMES, tmp_path / "joined", detections=rows(None), tracker="sort", pieces=[first, second])
    assert joined.class_names == NAMES
    for number, (names, text) in enumerate(
        (
            ({**NAMES, 1: "wolf"}, "class 1 is 'wolf', and 'dog' in"),
            ({0: "cat", 2: "owl"}, "class 1 is without a name, and 'dog' in"),
            (None, "class 0 is without a name, and 'cat' in"),
            ({**NAMES, 3: "wolf"}, "class 3 is 'wolf', and without a name in"),
        )
    ):
        other = piece(f"other{number}", "3:8", names)
        with pytest.raises(RunFolderError, match=text) as raised:
            track_boxes(
                FRAMES, tmp_path / f"none{number}", detections=rows(NAMES), tracker="sort", pieces=[first, other]
            )
        assert "\n" not in str(raised.value)
        assert not (tmp_path / f"none{number}" / "manifest.json").exists()
