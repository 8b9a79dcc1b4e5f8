from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.toy_scenes import candidates_of, toy_scene
from trackweave.errors import SettingError
from trackweave.ids import Level, TrackId
from trackweave.masks.codecs import mask_mapping
from trackweave.masks.packed import PackedMasks
from trackweave.storage.mask_archive import REFERENCE_DTYPE, ObjectSegments, VideoSegments
from trackweave.storage.run import RunPaths
from trackweave.structures.tracks import Tracks
from trackweave.tracking.outputs import (
    _apply_sampling_to_frames,
    _downsample_evenly,
    _ensure_frames_dir,
    _frame_entry_name,
    _normalize_max_samples,
    _normalize_stride,
    build_object_segments_archive,
    build_video_segments_archive,
    decode_packed_mask_from_json,
    encode_packed_mask_for_json,
    save_comparison_proposals,
)
from trackweave.tracking.pipeline_context import PipelineContext, build_pipeline_context
from trackweave.tracking.settings import TrackingSettings
from trackweave.tracking.stores import FrameResultStore
from trackweave.tracking.stores import _frame_entry_name as stores_entry_name

SCENE = toy_scene(
    """
    aa..
    aa.b
    """,
    """
    .aa.
    .aab
    """,
    """
    ..aa
    ..aa
    """,
)


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)), st.booleans())
def test_json_form_round_trips(mask: np.ndarray, with_full: bool) -> None:
    full = (mask.shape[0] * 3, mask.shape[1] * 3) if with_full else None
    payload = json.loads(json.dumps(encode_packed_mask_for_json(mask_mapping(PackedMasks.from_bool(mask), full))))
    assert set(payload) == {"packed_bits_b64", "shape"} | ({"full_resolution_shape"} if with_full else set())
    entry = decode_packed_mask_from_json(payload)
    assert entry.get("full_resolution_shape") == full
    assert np.array_equal(
        np.unpackbits(entry["packed_bits"], count=mask.size).astype(bool).reshape(entry["shape"]), mask
    )


def test_tracking_and_storage_name_frames_alike() -> None:
    assert _frame_entry_name(12) == stores_entry_name(12) == "frame_000012"


@pytest.mark.parametrize(
    ("value", "stride", "cap"), [(None, 1, None), (0, 1, None), (3, 3, 3), ("4", 4, 4), (2.0, 2, 2)]
)
def test_sampling_settings_are_normalised(value: object, stride: int, cap: int | None) -> None:
    assert _normalize_stride(value) == stride
    assert _normalize_max_samples(value) == cap


@pytest.mark.parametrize("value", [-1, "x", 2.5, [1]])
def test_bad_sampling_settings_are_named(value: object) -> None:
    with pytest.raises(SettingError, match="stride is a whole number"):
        _normalize_stride(value)
    with pytest.raises(SettingError, match="max_samples is a whole number"):
        _normalize_max_samples(value)


def test_sampling_keeps_the_ends() -> None:
    assert _downsample_evenly(list(range(100)), 4) == [0, 33, 66, 99]
    assert _apply_sampling_to_frames(list(range(11)), 4, None) == [0, 4, 8, 10]
    assert _apply_sampling_to_frames(list(range(11)), None, 2) == [0, 10]


def archives(root: Path, ratio: float = 1.0) -> tuple[Path, Path]:
    """Both archives of the scene, tracked perfectly."""
    with FrameResultStore() as store:
        for frame in (2, 0, 1):
            masks = {k: PackedMasks.from_bool(SCENE.mask(frame, letter)) for k, letter in ((5, "a"), (2, "b"))}
            store.update(frame, f"f{frame}", masks)
        video = build_video_segments_archive(
            store.iter_frames(), root / "t" / "video_segments.npz", ratio, {"level": 2}, full_resolution_shape=(8, 16)
        )
        objects = build_object_segments_archive(
            store.object_references(),
            root / "t" / "object_segments.npz",
            ratio,
            mask_shape=store.mask_shape,
            full_resolution_shape=(8, 16),
        )
    return video, objects


def test_archives_are_true_npz(tmp_path: Path) -> None:
    video, objects = archives(tmp_path, 0.3)
    assert video.name == "video_segments_scale0.3x.npz"
    assert objects.name == "object_segments_scale0.3x.npz"
    with np.load(video, allow_pickle=False) as plain:
        assert "frame_000001/masks" in plain.files
        bits = plain["frame_000001/masks"]
        assert np.array_equal(np.unpackbits(bits[1])[: 8 * 16].reshape(8, 16).astype(bool), SCENE.mask(1, "a"))
        assert plain["frame_000001/objects"]["id"].tolist() == [2, 5]
    with np.load(objects, allow_pickle=False) as plain:
        assert plain["object_000005/frames"]["frame"].tolist() == [0, 1, 2]
    with zipfile.ZipFile(video) as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest["schema_version"] == 1
    assert manifest["full_resolution_shape"] == [8, 16]
    assert manifest["mask_scale_ratio"] == 0.3
    assert manifest["metadata"] == {"level": 2}


def test_archives_read_back_whole_by_frame_by_object_and_as_a_stream(tmp_path: Path) -> None:
    video_path, objects_path = archives(tmp_path)
    with VideoSegments(video_path) as video:
        whole = Tracks.from_frames(video, level=2)
    assert whole.track_id.tolist() == [2, 5, 2, 5, 5]
    assert whole.level is not None
    assert set(whole.level) == {2}
    with VideoSegments(video_path) as video, ObjectSegments(objects_path) as objects:
        assert np.array_equal(video.frame(2).masks.to_bool()[0], SCENE.mask(2, "a"))
        assert [len(frame) for frame in video] == [2, 2, 1]
        assert len(video.frame(99)) == 0
        assert objects.ids == [2, 5]
        over_time = list(objects.over_time(5, video))
        assert [(int(o.frame), o.name) for o in over_time] == [(0, "f0"), (1, "f1"), (2, "f2")]
        for record in over_time:
            assert np.array_equal(record.masks.to_bool()[0], SCENE.mask(int(record.frame), "a"))


def test_object_archive_takes_a_mapping_too(tmp_path: Path) -> None:
    references = np.zeros(2, REFERENCE_DTYPE)
    references["frame"] = [3, 8]
    path = build_object_segments_archive({TrackId(4): references}, tmp_path / "object_segments.npz")
    with ObjectSegments(path) as objects:
        assert objects.counts == {4: 2}
        assert objects.references(4)["frame"].tolist() == [3, 8]
        with pytest.raises(KeyError):
            objects.references(5)


def test_a_failing_stream_leaves_the_old_archive(tmp_path: Path) -> None:
    video, _ = archives(tmp_path)
    before = video.read_bytes()

    def broken() -> object:
        with VideoSegments(video) as old:
            yield old.frame(0)
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        build_video_segments_archive(broken(), video)  # type: ignore[arg-type]
    assert video.read_bytes() == before
    assert sorted(p.name for p in video.parent.iterdir()) == ["object_segments.npz", "video_segments.npz"]


def test_folder_is_made(tmp_path: Path) -> None:
    assert _ensure_frames_dir(tmp_path / "a" / "b" / "x.npz").parent.is_dir()


def comparable(tmp_path: Path) -> tuple[PipelineContext, Path]:
    candidates_of(SCENE, tmp_path, range(3))
    ready = build_pipeline_context(
        tmp_path, Level(2), SCENE.frames, RunPaths(tmp_path / "run"), TrackingSettings(preview_max=2)
    )
    return ready, archives(tmp_path)[0]


def test_comparison_shows_the_preview_frames_in_the_tracks_colours(tmp_path: Path) -> None:
    ready, video = comparable(tmp_path)
    comparison = save_comparison_proposals(tmp_path / "viz", None, ready, video)
    assert [image.name for image in comparison.images] == ["frame_000000.png", "frame_000002.png"]
    assert comparison.warnings == ()
    listed = json.loads((tmp_path / "viz" / "compare.json").read_text())
    first = listed["frames"][0]
    assert first["candidates"] == 2
    assert first["candidate_tracks"] == [5, 2]
    assert [t["id"] for t in first["tracks"]] == [2, 5]
    colours = {t["id"]: t["colour"] for frame in listed["frames"] for t in frame["tracks"]}
    assert all(t["colour"] == colours[t["id"]] for frame in listed["frames"] for t in frame["tracks"])


def test_comparison_says_which_base_images_it_could_not_use(tmp_path: Path) -> None:
    ready, video = comparable(tmp_path)
    missing = save_comparison_proposals(tmp_path / "viz", tmp_path / "nowhere", ready, video)
    assert [w.code for w in missing.warnings] == ["base-frames-missing"]
    assert len(missing.images) == 2
    partial = save_comparison_proposals(tmp_path / "viz", SCENE.frames.select([0]), ready, video)
    assert [(w.code, w.stage, w.level) for w in partial.warnings] == [("base-image-missing", "compare", 2)]


def test_comparison_can_be_thinned_further(tmp_path: Path) -> None:
    ready, video = comparable(tmp_path)
    assert len(save_comparison_proposals(tmp_path / "viz", None, ready, video, max_samples=1).images) == 1
