"""Runs of the tracking guide's older pipeline are opened and exported as they are."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import trackweave
from tests.storage.older_pipeline import write_older_archives, write_older_run
from tests.toy_scenes import CROSSING, candidates_of
from trackweave.errors import ArtifactError, RunFolderError
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.run import Run
from trackweave.predictors.static import StaticPredictor
from trackweave.storage.mask_archive import ObjectSegments, VideoSegments
from trackweave.structures.run_summary import MaskSummary
from trackweave.tracking.settings import TrackingSettings


@pytest.fixture(scope="module", params=[1.0, 0.5])
def ours(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run[MaskSummary]:
    root = tmp_path_factory.mktemp("ours")
    candidates = candidates_of(CROSSING, root / "candidates", [0, 2])
    settings = TrackingSettings(mask_scale_ratio=request.param, render_viz=False)
    return track_masks(
        CROSSING.frames,
        root / "run",
        candidates=candidates,
        predictor=StaticPredictor(),
        settings=settings,
        identity=False,
    )


@pytest.fixture
def older(ours: Run[MaskSummary], tmp_path: Path) -> Path:
    with ours.masks(2) as video:
        return write_older_run(tmp_path / "older", {2: video})


def test_masks_ids_and_frames_are_those_that_were_written(ours: Run[MaskSummary], older: Path) -> None:
    run = trackweave.open_run(older)
    assert (run.kind, run.levels) == ("masks", [2])
    with ours.masks(2) as expected, run.masks(2) as video:
        assert video.frames == expected.frames
        assert (video.info.mask_shape, video.info.full_resolution_shape) == (
            expected.info.mask_shape,
            expected.info.full_resolution_shape,
        )
        assert video.info.mask_scale_ratio == expected.info.mask_scale_ratio
        for frame in video.frames:
            one, other = video.frame(frame), expected.frame(frame)
            assert (one.name, one.masks) == (other.name, other.masks)
            np.testing.assert_array_equal(one.track_id, other.track_id)
            np.testing.assert_array_equal(one.area, other.area)
            np.testing.assert_allclose(one.xyxy, other.xyxy, atol=2)  # measured on the stored masks
            assert len(video.boxes(frame, 2)) == len(other)
    assert len(run.tracks()) == len(ours.tracks())
    assert run.summary.track_count == ours.summary.track_count
    assert run.summary.totals["object_frames"] == ours.summary.totals["object_frames"]
    assert run.summary.totals.get("seconds") is None
    spans = [track.spans for track in run.summary.levels[run.levels[0]].tracks]  # type: ignore[attr-defined]
    assert spans == [track.spans for track in ours.summary.levels[ours.levels[0]].tracks]
    assert run.frames.size == ours.frames.size


def test_the_object_major_archive_finds_the_same_masks(ours: Run[MaskSummary], older: Path) -> None:
    with trackweave.open_run(older).objects(2) as objects, ours.objects(2) as expected:
        assert objects.ids == expected.ids
        assert objects.counts == expected.counts
        for track_id in objects.ids:
            for column in ("frame", "row", "area"):
                np.testing.assert_array_equal(
                    objects.references(track_id)[column], expected.references(track_id)[column]
                )
        with trackweave.open_run(older).masks(2) as video:
            assert sum(1 for _ in objects.over_time(objects.ids[0], video)) == objects.counts[objects.ids[0]]
        with pytest.raises(KeyError):
            objects.references(99)


def test_it_is_exported_and_reported(ours: Run[MaskSummary], older: Path, tmp_path: Path) -> None:
    for kind, name in (("davis", "labels"), ("coco", "a.json"), ("parquet", "a.parquet")):
        assert trackweave.export(older, kind, tmp_path / name)
    labels = sorted((tmp_path / "labels").glob("*.png"))
    assert [path.stem for path in labels] == [Path(str(name)).stem for name in ours.frames.names]
    tracks = trackweave.convert(next(older.rglob("video_segments*.npz")), tmp_path / "b.csv")
    assert tracks == [tmp_path / "b.csv"]
    assert "tracks" in trackweave.report(older).read_text(encoding="utf-8")


def test_the_frames_size_follows_from_the_scale_where_no_mask_says_it(ours: Run[MaskSummary], tmp_path: Path) -> None:
    with ours.masks(2) as video:
        write_older_archives(video, tmp_path, with_full_size=False)
        with VideoSegments(next(tmp_path.glob("video*.npz"))) as plain:
            assert plain.info.full_resolution_shape == video.info.full_resolution_shape


def test_a_run_of_ours_does_not_go_over_it(older: Path) -> None:
    candidates = candidates_of(CROSSING, older.parent / "candidates", [0])
    with pytest.raises(RunFolderError, match="holds"):
        track_masks(CROSSING.frames, older, candidates=candidates, predictor=StaticPredictor())


def rewritten(path: Path, name: str, content: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, bytes_of in {**entries, name: content}.items():
            archive.writestr(entry, bytes_of)


def whole(path: Path) -> int:
    with VideoSegments(path) as video:
        return sum(len(video.frame(frame)) for frame in video.frames)


@pytest.mark.parametrize(
    ("entry", "content", "says"),
    [
        ("manifest.json", {"meta": {}, "frames": [{"frame_index": -1, "entry": "a"}]}, "a frame twice, or one below 0"),
        ("manifest.json", {"meta": {}, "frames": [3]}, "lacks or misspells"),
        ("manifest.json", {"meta": {"mask_scale_ratio": "x"}, "frames": []}, "lacks or misspells"),
        ("manifest.json", {"frames": []}, "holds None, not 'video_segments'"),
        ("frames/frame_000000.json", [1], "is not a JSON object"),
        ("frames/frame_000000.json", {"objects": [1]}, "its `objects` are not masks by id"),
        ("frames/frame_000000.json", {"objects": {"a": {}}}, "object 'a'"),
        ("frames/frame_000000.json", {"objects": {"1": {"shape": [4, 4], "packed_bits_b64": "AA=="}}}, "object '1'"),
        ("frames/frame_000000.json", {"objects": {"-4": {"shape": [1, 8], "packed_bits_b64": "/w=="}}}, "is no id"),
        (
            "frames/frame_000002.json",
            {"objects": {"1": {"shape": [1, 8], "packed_bits_b64": "/w=="}}},
            "masks of different sizes",
        ),
    ],
)
def test_damage_is_one_line(older: Path, entry: str, content: object, says: str) -> None:
    path = next(older.rglob("video_segments*.npz"))
    rewritten(path, entry, json.dumps(content).encode())
    with pytest.raises(ArtifactError, match=r"video_segments.*") as caught:
        whole(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_frame_major_archive_there_are_no_references(older: Path) -> None:
    next(older.rglob("video_segments*.npz")).unlink()
    with ObjectSegments(next(older.rglob("object_segments*.npz"))) as objects:
        assert objects.ids
        with pytest.raises(ArtifactError, match="there is no video_segments archive here"):
            objects.references(objects.ids[0])
