"""The class of a candidate goes with its track: into archives, summary, exports, identities and corrections."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bounded_predictor import BoundedPredictor
from tests.detectors.onnx_models import segment_model
from tests.formats.candidate_files import _box, _rle
from tests.proposals.test_generators import frames as red_frames
from tests.run_folders import assert_same_run
from tests.toy_scenes import CROSSING, ToyScene, candidates_of, toy_scene
from trackweave.exporters import export
from trackweave.formats.registry import FORMATS, read_video
from trackweave.ids import Level
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.filtering import filter_candidates
from trackweave.pipelines.mask_corrections import MaskProofreading
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.run import Run
from trackweave.proposals.settings import CandidateSettings
from trackweave.reports.run_tracks import read_run_tracks
from trackweave.storage.candidates import filtered_path, read_candidates, read_filtered
from trackweave.storage.identity import IdentityRecord, IdentitySegments
from trackweave.storage.mask_archive import ObjectSegments, SegmentsInfo, VideoSegments
from trackweave.storage.result_log import ResultJournal
from trackweave.structures.corrections import Merged, Observation, Split
from trackweave.structures.detections import Detections
from trackweave.structures.identity import IdentityLink, IdentityTable, Tree
from trackweave.structures.run_summary import MaskSummary
from trackweave.structures.tracked_video import VideoInfo
from trackweave.structures.tracks import TrackClass, TrackClasses
from trackweave.tracking.settings import TrackingSettings
from trackweave.tracking.stores import BatchRecord, DedupStats
from trackweave.visualization.settings import OverlaySettings
from trackweave.visualization.video import mask_overlays

CATEGORIES = [{"id": 1, "name": "car"}, {"id": 2, "name": "pedestrian"}]
NAMES = {1: "car", 2: "pedestrian"}
QUICK = TrackingSettings(cuts="ignore", render_viz=False)


def coco(path: Path, scene: ToyScene, on: dict[int, dict[str, Any]]) -> Path:
    """COCO annotations: frame → letter of an object → its annotation, category and score."""
    annotations = [
        {
            "image_id": frame,
            "segmentation": _rle(scene.mask(frame, letter)),
            "bbox": _box(scene.mask(frame, letter)),
            **more,
        }
        for frame, objects in on.items()
        for letter, more in objects.items()
    ]
    images = [{"id": frame, "file_name": f"frame_{frame:06d}.png"} for frame in on]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES}))
    return path


@pytest.fixture(scope="module")
def classed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("classed")
    given = coco(
        root / "coco.json",
        CROSSING,
        {
            0: {"a": {"category_id": 2, "score": 0.75}, "b": {"category_id": 1, "score": 0.5}},
            1: {"a": {"score": 0.25}},  # a candidate without a class
        },
    )
    settings = TrackingSettings(cuts="ignore", render_viz=False)
    track_masks(CROSSING.frames, root / "run", candidates=given, predictor="static", settings=settings)
    return root / "run"


def test_a_run_keeps_class_score_and_name(classed: Path) -> None:
    run: Run[MaskSummary] = Run(classed)
    tracks = run.tracks()
    seen = {int(one): set(tracks.of(one).class_id.tolist()) for one in tracks.track_ids}
    assert seen == {1: {2}, 2: {1}, 3: {-1}}
    assert run.tracks(raw=True, with_masks=False).class_id.tolist() == tracks.class_id.tolist()
    assert run.class_names == NAMES
    summary = {one.track_id: (one.class_id, one.class_score) for one in run.summary.levels[Level(2)].tracks}
    assert summary == {1: (2, 0.75), 2: (1, 0.5), 3: (None, None)}
    with run.masks() as video, run.objects() as objects:
        assert objects.info.classes == video.info.classes
        assert video.boxes(0).class_id.tolist() == video.frame(0).class_id.tolist()  # type: ignore[union-attr]
    shown = read_run_tracks(run)
    assert shown.tracks_json()["class"] == [2, 1, -1]
    assert shown.info()["classes"] == {"1": "car", "2": "pedestrian"}


@pytest.mark.parametrize(
    "name", [name for name, kind in FORMATS.items() if kind.reader and kind.writer and kind.classes]
)
def test_every_export_with_classes_reads_them_back(classed: Path, tmp_path: Path, name: str) -> None:
    run: Run[MaskSummary] = Run(classed)
    tracks, listed = run.tracks(), run.frames
    written = export(run, name, tmp_path / f"out{FORMATS[name].suffix}")
    hints = VideoInfo("v", listed.indices, listed.names, listed.size)
    read = read_video(tmp_path / "out" if (tmp_path / "out").is_dir() else written[0], name, hints=hints)
    expected = {1: "pedestrian", 2: "car", 3: "object"}
    found = {one: read.info.class_name(span.class_id).lower() for one, span in read.spans().items()}
    if name == "mot":  # has numbers alone
        expected = {1: "class_2", 2: "class_1", 3: "object"}
    if name == "kitti":  # whatever has no class is of this type
        expected[3] = "misc"
    assert found == {one: expected[one] for one in found}
    assert set(found) == set(tracks.track_ids.tolist())


def test_classes_are_drawn_where_they_are_wanted(classed: Path) -> None:
    with Run(classed).masks() as video:
        drawn = [
            next(mask_overlays(video, CROSSING.frames, CROSSING.frames.indices[:1], OverlaySettings(classes=wanted)))
            for wanted in (False, True)
        ]
    assert not np.array_equal(drawn[0], drawn[1])


def test_a_run_without_classes_says_nothing_of_them(tmp_path: Path) -> None:
    given = candidates_of(CROSSING, tmp_path / "candidates", [0])
    run = track_masks(CROSSING.frames, tmp_path / "run", candidates=given, predictor="static", settings=QUICK)
    with run.masks(raw=True) as video:
        assert video.frame(0).class_id is None
        assert not video.info.classes
        assert "classes" not in video.info.to_manifest("")
    assert run.class_names == {}
    assert set(run.tracks().class_id.tolist()) == {-1}
    assert b'"class' not in (run.root / "summary.json").read_bytes()


def test_a_resumed_run_keeps_the_classes_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on = {frame: {letter: {"category_id": n + 1} for n, letter in enumerate("ab")} for frame in (0, 1, 2)}
    given = coco(tmp_path / "coco.json", CROSSING, on)
    commit, cuts = ResultJournal.commit, list[Path]()

    def keep(journal: ResultJournal, batch: Any) -> None:
        commit(journal, batch)
        cuts.append(shutil.copytree(tmp_path / "whole", tmp_path / f"cut{len(cuts)}"))

    def track(folder: Path, *, resume: bool = False) -> Run[MaskSummary]:
        return track_masks(CROSSING.frames, folder, candidates=given, predictor=BoundedPredictor(), resume=resume)

    monkeypatch.setattr(ResultJournal, "commit", keep)
    whole = track(tmp_path / "whole")
    monkeypatch.undo()
    assert set(whole.tracks(raw=True).class_id.tolist()) == {1, 2}
    assert len(cuts) == 3
    for cut in cuts:
        track(cut, resume=True)
        assert_same_run(cut, tmp_path / "whole")


CLASSES = st.dictionaries(
    st.integers(1, 30), st.builds(TrackClass, st.integers(0, 90), st.floats(0, 1).map(lambda one: round(one, 6)))
)


@given(classes=CLASSES, names=st.dictionaries(st.integers(0, 90), st.text(min_size=1)))
def test_classes_come_back_from_json(classes: dict[int, TrackClass], names: dict[int, str]) -> None:
    known = TrackClasses(classes, names)
    assert TrackClasses.from_json(json.loads(json.dumps(known.to_json()))) == known
    record = BatchRecord(0, 0, "f", DedupStats(), classes=classes)  # type: ignore[arg-type]
    assert BatchRecord.from_json(json.loads(json.dumps(record.to_json()))).classes == classes


@given(classes=CLASSES, things=st.lists(st.integers(1, 5), min_size=30, max_size=30))
def test_a_thing_has_the_class_that_its_tracks_are_surest_of(classes: dict[int, TrackClass], things: list[int]) -> None:
    pairs = list(zip(range(1, 31), things, strict=True))
    joined = TrackClasses(classes).joined(pairs)
    assert joined == TrackClasses(classes).joined(reversed(pairs))
    for thing in set(things):
        own = [classes[track] for track, other in pairs if other == thing and track in classes]
        if not own:
            assert thing not in joined.tracks
            continue
        sums = {one.class_id: 0.0 for one in own}
        for one in own:
            sums[one.class_id] += one.score
        chosen = joined.tracks[thing]
        assert sums[chosen.class_id] == pytest.approx(max(sums.values()), abs=2e-6)
        assert chosen.score == max(one.score for one in own if one.class_id == chosen.class_id)


def test_tracks_of_two_classes_that_are_one_thing_have_one_class(classed: Path) -> None:
    table = IdentityTable.from_links([1, 2, 3], 2, [IdentityLink(1, 2, "merge", 0.9, 4)])
    record = IdentityRecord(table, Tree.from_parents({1: 0, 3: 0}, {1: 2, 3: 2}), settings={"nest": False})
    path = classed / "level_2/tracking/video_segments.npz"
    with IdentitySegments(path, Level(2), record) as video:
        assert dict(zip(*(column.tolist() for column in _columns(video)), strict=True)) == {1: 2, 3: -1}
        assert video.info.classes.tracks == {1: TrackClass(2, 0.75)}


def _columns(video: VideoSegments) -> tuple[Any, Any]:
    objects = video.frame(1)
    return objects.track_id, objects.class_id


def test_what_a_person_joins_and_cuts_keeps_a_class(classed: Path, tmp_path: Path) -> None:
    shutil.copytree(classed, tmp_path / "run")
    with MaskProofreading(tmp_path / "run") as proofreading:
        proofreading.say(Merged(Observation(0, 1), Observation(0, 2)))
        assert proofreading.tracks.of(1).class_id.tolist() == [2] * 4
        proofreading.say(Split(Observation(1, 1), Observation(2, 1)))
        run = proofreading.write()
    tracks = run.tracks()
    by_id = {int(one): set(tracks.of(one).class_id.tolist()) for one in tracks.track_ids}
    assert all(len(kinds) == 1 for kinds in by_id.values())
    assert by_id[1] == {2}
    listed = {one.track_id: one.class_id for one in run.summary.levels[Level(2)].tracks}  # type: ignore[attr-defined]
    assert listed == {one: next(iter(kinds)) if kinds != {-1} else None for one, kinds in by_id.items()}


@pytest.mark.parametrize("kind", ["detector", "boxes"])
def test_the_classes_of_a_model_reach_the_tracks(tmp_path: Path, kind: str) -> None:
    model = segment_model(tmp_path / "seg.onnx", "yolov8")
    run = track_masks(red_frames(), tmp_path / "run", generator=f"{kind}={model}", predictor="static", settings=QUICK)
    assert run.class_names == {0: "cat", 1: "dog", 2: "owl"}
    tracks = run.tracks()
    assert len(set(tracks.class_id.tolist())) == 1
    assert tracks.class_id[0] >= 0
    table = export(run, "csv", tmp_path / "tracks.csv")[0].read_text().splitlines()
    assert run.class_names[int(tracks.class_id[0])] in table[1]


def test_filtering_keeps_classes_and_names_also_where_some_have_none(tmp_path: Path) -> None:
    scene = toy_scene("aa..bb\naa..bb")
    given = coco(tmp_path / "coco.json", scene, {0: {"a": {"category_id": 2}, "b": {}}})
    run = track_masks(scene.frames, tmp_path / "run", candidates=given, predictor="static", settings=QUICK)
    assert run.tracks().class_id.tolist() == [2, -1]
    model = segment_model(tmp_path / "seg.onnx", "yolov8")
    run = track_masks(red_frames(), tmp_path / "found", generator=f"detector={model}", predictor="static")
    filter_candidates(tmp_path / "found", CandidateSettings(gap_area=0.05))
    manifest = read_filtered(filtered_path(tmp_path / "found/level_2"))
    assert manifest.class_names == run.class_names
    candidates, _ = read_candidates(manifest, manifest.frames[0], red_frames().size)
    assert candidates.class_id is not None
    assert (candidates.class_id < 0).any(), "a gap has no class"
    assert (candidates.class_id >= 0).any()


def test_classes_of_a_stream(tmp_path: Path) -> None:
    masks = np.stack([CROSSING.mask(0, letter) for letter in "ab"])
    found = Detections.of([[0, 0, 8, 8], [24, 0, 32, 8]], [0.5, 0.75], [2, 1], masks=PackedMasks.from_bool(masks))
    found = replace(found, data={"class_name": np.array(["pedestrian", "car"])})
    stream = track_masks(
        iter(CROSSING.frames), tmp_path / "run", candidates={0: found}, predictor="static", online=True, levels=[2]
    )
    kinds = [tracks.class_id.tolist() for tracks in stream]
    assert kinds == [[1, 2]] * 4  # the surer one is prompted first
    run: Run[MaskSummary] = Run(tmp_path / "run")
    assert run.class_names == NAMES
    assert run.tracks().at(3).class_id.tolist() == [1, 2]


def test_a_damaged_record_of_classes_is_one_line(classed: Path) -> None:
    damaged: tuple[dict[str, Any], ...] = (
        {"tracks": [[1, 2]], "names": {}},
        {"tracks": [[1, -2, 0.5]], "names": {}},
        {"names": {}},
    )
    for record in damaged:
        with pytest.raises((ValueError, KeyError)):
            SegmentsInfo.from_manifest({"classes": record})
    with ObjectSegments(classed / "level_2/tracking/object_segments.npz") as objects:
        assert objects.info.classes.names == NAMES
