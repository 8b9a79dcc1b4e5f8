from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.errors import ArtifactError, ArtifactVersionError
from trackweave.ids import FrameIndex, TrackId
from trackweave.masks.packed import PackedMasks
from trackweave.storage.mask_archive import (
    REFERENCE_DTYPE,
    ObjectSegments,
    VideoSegments,
    object_rows,
    write_object_segments,
    write_video_segments,
)
from trackweave.structures.tracks import FrameObjects, Tracks

SIZE = (5, 13)


def objects(frame: int, ids: Sequence[int], size: tuple[int, int] = SIZE) -> FrameObjects:
    """Objects whose every column is made of frame and id."""
    code = np.array([100 * frame + track for track in ids], np.int64)
    height, width = size
    masks = np.array([np.random.default_rng(seed).random(size) < 0.5 for seed in code]).reshape(-1, height, width)
    packed = PackedMasks.from_bool(masks)
    return FrameObjects(
        FrameIndex(frame),
        f"{frame:03d}.jpg",
        np.array(ids, np.int64),
        packed,
        np.stack([code, code + 1, code + 2, code + 3], axis=1).astype(np.float32).reshape(-1, 4),
        packed.areas,
        (code / 1e4).astype(np.float32),
    )


def write(path: Path, frames: Sequence[FrameObjects]) -> int:
    return write_video_segments(
        path, frames, mask_scale_ratio=0.5, full_resolution_shape=(10, 26), metadata={"level": 4}
    )


def write_objects(path: Path, frames: Sequence[FrameObjects]) -> int:
    def references() -> Iterator[tuple[TrackId, Any]]:
        for track in sorted({int(track) for frame in frames for track in frame.track_id}):
            rows = [
                (frame.frame, row, frame.score[row], frame.area[row], frame.xyxy[row])
                for frame in frames
                for row in np.flatnonzero(frame.track_id == track)
            ]
            yield TrackId(track), np.array(rows, REFERENCE_DTYPE)

    return write_object_segments(
        path,
        references(),
        mask_shape=SIZE,
        mask_scale_ratio=0.5,
        full_resolution_shape=(10, 26),
        metadata={"level": 4},
    )


def assert_same(found: FrameObjects, expected: FrameObjects) -> None:
    assert (found.frame, found.name) == (expected.frame, expected.name)
    assert found.masks == expected.masks
    for column in ("track_id", "xyxy", "area", "score"):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
        assert getattr(found, column).dtype == getattr(expected, column).dtype


@given(st.dictionaries(st.integers(0, 40), st.sets(st.integers(1, 9), max_size=4), max_size=5))
def test_both_archives_come_back(tmp_path_factory: pytest.TempPathFactory, drawn: dict[int, set[int]]) -> None:
    folder = tmp_path_factory.getbasetemp()
    frames = [objects(frame, sorted(ids)) for frame, ids in sorted(drawn.items())]
    visible = [frame for frame in frames if len(frame)]
    assert write(folder / "v.npz", frames) == sum(map(len, frames))
    assert write_objects(folder / "o.npz", frames) == len({track for ids in drawn.values() for track in ids})
    with VideoSegments(folder / "v.npz") as video, ObjectSegments(folder / "o.npz") as by_object:
        streamed = list(video)
        assert video.frames == [frame.frame for frame in visible]
        assert len(video) == len(streamed) == len(visible)
        for found, expected in zip(streamed, visible, strict=True):
            assert_same(found, expected)
            assert_same(video.frame(expected.frame), expected)
        for track in by_object.ids:
            seen = [frame[frame.track_id == track] for frame in visible if track in frame.track_id]
            assert by_object.counts[track] == len(seen)
            for found, expected in zip(by_object.over_time(track, video), seen, strict=True):
                assert_same(found, expected)


@pytest.fixture
def archives(tmp_path: Path) -> tuple[Path, Path]:
    frames = [objects(3, [1, 2]), objects(7, [2])]
    write(tmp_path / "v.npz", frames)
    write_objects(tmp_path / "o.npz", frames)
    return tmp_path / "v.npz", tmp_path / "o.npz"


def test_what_the_manifest_says(archives: tuple[Path, Path]) -> None:
    video_path, object_path = archives
    with VideoSegments(video_path) as video, ObjectSegments(object_path) as by_object:
        for info in (video.info, by_object.info):
            assert (info.mask_shape, info.full_resolution_shape) == (SIZE, (10, 26))
            assert (info.mask_scale_ratio, info.metadata) == (0.5, {"level": 4})


def test_numpy_opens_both(archives: tuple[Path, Path]) -> None:
    video_path, object_path = archives
    with np.load(video_path, allow_pickle=False) as video, np.load(object_path, allow_pickle=False) as by_object:
        rows = video["frame_000003/objects"]
        assert rows["id"].tolist() == [1, 2]
        np.testing.assert_array_equal(rows, object_rows(objects(3, [1, 2])))
        masks = np.unpackbits(video["frame_000003/masks"], axis=1, count=65).reshape(2, *SIZE)
        np.testing.assert_array_equal(masks, objects(3, [1, 2]).masks.to_bool())
        assert by_object["object_000002/frames"]["row"].tolist() == [1, 0]


def test_a_frame_without_objects_and_an_object_that_is_not_there(archives: tuple[Path, Path]) -> None:
    with VideoSegments(archives[0]) as video, ObjectSegments(archives[1]) as by_object:
        nothing = video.frame(5)
        assert (len(nothing), nothing.masks.size, nothing.xyxy.shape) == (0, SIZE, (0, 4))
        assert len(video.boxes(5)) == 0
        with pytest.raises(KeyError, match="no object 3"):
            by_object.references(3)


def test_boxes_without_masks(archives: tuple[Path, Path]) -> None:
    with VideoSegments(archives[0]) as video:
        boxes = video.boxes(3, level=4)
        expected = Tracks.from_frames([objects(3, [1, 2])], level=4, with_masks=False)
    for name, column in expected.to_dict().items():
        np.testing.assert_array_equal(boxes.to_dict()[name], column)


def test_an_archive_of_nothing(tmp_path: Path) -> None:
    assert write(tmp_path / "v.npz", []) == 0
    with VideoSegments(tmp_path / "v.npz") as video:
        assert (list(video), video.info.mask_shape, len(video.frame(0))) == ([], None, 0)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([objects(3, [1]), objects(3, [2])], "frame 3 comes after frame 3"),
        ([objects(3, [1]), objects(2, [2])], "frame 2 comes after frame 3"),
        ([objects(3, [2, 1])], "frame 3: ids must be strictly increasing"),
        ([objects(3, [1, 1])], "frame 3: ids must be strictly increasing"),
        ([objects(3, [1]), objects(4, [1], (4, 4))], r"frame 4: masks of \(4, 4\) after \(5, 13\)"),
    ],
)
def test_frames_that_cannot_be_written(tmp_path: Path, frames: list[FrameObjects], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "v.npz", frames)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given_objects", "message"),
    [
        ([(1, np.zeros(1, np.int64))], "object 1: references are"),
        ([(1, np.zeros(2, REFERENCE_DTYPE))], "object 1: frames must be strictly increasing"),
        ([(2, np.zeros(1, REFERENCE_DTYPE)), (1, np.zeros(1, REFERENCE_DTYPE))], "object 1 comes after object 2"),
        ([(2, np.zeros(1, REFERENCE_DTYPE)), (2, np.zeros(1, REFERENCE_DTYPE))], "object 2 comes after object 2"),
    ],
)
def test_objects_that_cannot_be_written(tmp_path: Path, given_objects: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_object_segments(
            tmp_path / "o.npz",
            given_objects,
            mask_shape=SIZE,
            mask_scale_ratio=1.0,
            full_resolution_shape=None,
            metadata={},
        )
    assert list(tmp_path.iterdir()) == []


def test_a_failing_stream_leaves_the_old_archive(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    write(path, [objects(1, [1])])
    before = path.read_bytes()

    def failing() -> Iterator[FrameObjects]:
        yield objects(0, [1])
        raise RuntimeError("the tracker died")

    with pytest.raises(RuntimeError, match="the tracker died"):
        write_video_segments(path, failing(), mask_scale_ratio=1.0, full_resolution_shape=None, metadata={})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def rewrite(path: Path, **changes: Any) -> None:
    """Changes entries: a dict merges into `manifest.json` (None drops the key), an array replaces one."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    manifest = {**json.loads(entries["manifest.json"]), **changes}
    entries["manifest.json"] = json.dumps({k: v for k, v in manifest.items() if v is not None}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def test_a_newer_schema_says_what_to_do(archives: tuple[Path, Path]) -> None:
    for path, reader in zip(archives, (VideoSegments, ObjectSegments), strict=True):
        rewrite(path, schema_version=99)
        with pytest.raises(ArtifactVersionError, match=r"schema_version 99 is newer than 1, .*: upgrade it"):
            reader(path)


def test_one_archive_is_not_the_other(archives: tuple[Path, Path]) -> None:
    video, by_object = archives
    with pytest.raises(ArtifactError, match="holds 'object_segments', not 'video_segments'"):
        VideoSegments(by_object)
    with pytest.raises(ArtifactError, match="holds 'video_segments', not 'object_segments'"):
        ObjectSegments(video)


@pytest.mark.parametrize(
    "changes",
    [{"frames": None}, {"frames": 3}, {"frames": [[1]]}, {"mask_shape": [5]}, {"mask_scale_ratio": "half"}],
)
def test_a_manifest_that_lacks_something(archives: tuple[Path, Path], changes: dict[str, Any]) -> None:
    rewrite(archives[0], **changes)
    with pytest.raises(ArtifactError, match=r"v\.npz: its manifest\.json lacks or misspells"):
        VideoSegments(archives[0])


def test_masks_that_do_not_fit_the_manifest(archives: tuple[Path, Path]) -> None:
    rewrite(archives[0], mask_shape=[5, 20])
    with VideoSegments(archives[0]) as video, pytest.raises(ArtifactError, match="frame 3: its two entries"):
        video.frame(3)


def test_an_object_archive_beside_another_video(archives: tuple[Path, Path]) -> None:
    write(archives[0], [objects(3, [1, 5]), objects(7, [2])])
    with (
        VideoSegments(archives[0]) as video,
        ObjectSegments(archives[1]) as by_object,
        pytest.raises(ArtifactError, match="object 2 is not at row 1 of"),
    ):
        list(by_object.over_time(2, video))


def with_array(source: Path, path: Path, name: str, array: np.ndarray[Any, Any]) -> Path:
    """A copy of an archive in which one array is another."""
    content = io.BytesIO()
    np.save(content, array)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, content.getvalue() if entry == name else old.read(entry))
    return path


def test_arrays_of_another_shape_are_one_line(tmp_path: Path) -> None:
    frames = [objects(0, [1, 2]), objects(1, [2])]
    write(tmp_path / "v.npz", frames)
    write_objects(tmp_path / "o.npz", frames)
    rows = object_rows(frames[0])
    cases = {"zero": np.zeros((), rows.dtype), "two": rows.reshape(1, 2), "twice": rows[[0, 0]]}
    for name, array in cases.items():
        path = with_array(tmp_path / "v.npz", tmp_path / f"{name}.npz", "frame_000000/objects.npy", array)
        with VideoSegments(path) as video:
            for read in (video.frame, video.boxes):
                with pytest.raises(ArtifactError, match=r"frame 0: an (array|object occurs twice)"):
                    read(0)
    plain = np.zeros(2, [("row", np.int64)])
    for name, array in {"dtype": plain, "scalar": np.zeros((), REFERENCE_DTYPE)}.items():
        path = with_array(tmp_path / "o.npz", tmp_path / f"{name}.npz", "object_000002/frames.npy", array)
        with (
            ObjectSegments(path) as references,
            VideoSegments(tmp_path / "v.npz") as video,
            pytest.raises(ArtifactError, match="object 2: an array"),
        ):
            list(references.over_time(2, video))


def test_a_box_without_extent_is_refused(tmp_path: Path) -> None:
    turned = objects(3, [1, 2])
    turned.xyxy[1] = (9, 9, 2, 12)
    write(tmp_path / "v.npz", [turned])
    with VideoSegments(tmp_path / "v.npz") as video:
        for read in (video.frame, video.boxes):
            with pytest.raises(ArtifactError, match=r"v\.npz: frame 3: a box without extent"):
                read(3)
