from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.errors import ArtifactError, ArtifactVersionError
from trackweave.masks.packed import PackedMasks
from trackweave.storage.track_archive import TrackRows, TracksArchive, TracksArchiveWriter
from trackweave.structures.tracks import Tracks


def rows(frames: list[int], ids: list[int], *, masks: tuple[int, int] | None = None, seed: int = 0) -> TrackRows:
    """Observations whose columns are made of frame and id."""
    rng = np.random.default_rng([seed, *frames])
    n = len(frames)
    corner = rng.uniform(-5, 50, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 9, (n, 2))], axis=1)
    packed = None if masks is None else PackedMasks.from_bool(rng.random((n, *masks)) < 0.5)
    tracks = Tracks.from_columns(frames, ids, boxes, rng.random(n), rng.integers(-1, 3, n), packed)
    return TrackRows(tracks, np.arange(n) - 1, np.asarray(frames) / 10)


def written(path: Path, *parts: TrackRows) -> Path:
    with TracksArchiveWriter(path, {"source": "x"}) as writer:
        for part in parts:
            writer.write(part)
    return path


def assert_same(found: TrackRows, wanted: TrackRows) -> None:
    for name in ("frame", "track_id", "xyxy", "score", "class_id"):
        np.testing.assert_array_equal(getattr(found.tracks, name), getattr(wanted.tracks, name))
        assert getattr(found.tracks, name).dtype == getattr(wanted.tracks, name).dtype
    np.testing.assert_array_equal(found.detection, wanted.detection)
    np.testing.assert_array_equal(found.time, wanted.time)
    assert (found.tracks.masks is None) == (wanted.tracks.masks is None)
    if found.tracks.masks is not None:
        assert found.tracks.masks == wanted.tracks.masks


@given(
    counts=st.lists(st.integers(0, 4), max_size=8),
    cut=st.integers(1, 3),
    masks=st.sampled_from([None, (1, 1), (3, 7), (8, 8)]),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], cut: int, masks: tuple[int, int] | None
) -> None:
    """Any number of tracks per frame, cut into parts anywhere between frames."""
    path = tmp_path_factory.mktemp("archive") / "tracks.npz"
    frames = [rows([2 * k] * n, list(range(1, n + 1)), masks=masks) for k, n in enumerate(counts)]
    parts = [TrackRows.concat(frames[start : start + cut]) for start in range(0, len(frames), cut)]
    with TracksArchive(written(path, *parts)) as archive:
        assert len(archive) == sum(counts)
        assert archive.metadata == {"source": "x"}
        if any(counts):
            assert_same(archive.rows(), TrackRows.concat(parts))
        for k, frame in enumerate(frames):
            found = archive.at(2 * k)
            np.testing.assert_array_equal(found.xyxy, frame.tracks.xyxy)
            assert len(archive.at(2 * k + 1)) == 0


def test_numpy_alone_opens_it(tmp_path: Path) -> None:
    part = rows([0, 0, 3], [1, 2, 1], masks=(3, 5))
    with np.load(written(tmp_path / "tracks.npz", part), allow_pickle=False) as plain:
        np.testing.assert_array_equal(plain["part_000000/xyxy"], part.tracks.xyxy)
        assert plain["part_000000/masks"].shape == (3, 2)


def test_a_part_without_masks_among_parts_with_masks(tmp_path: Path) -> None:
    path = written(tmp_path / "tracks.npz", rows([0], [1]), rows([1], [1], masks=(3, 5)))
    with TracksArchive(path) as archive:
        whole = archive.tracks()
        assert whole.masks is not None
        assert whole.masks.size == (3, 5)
        assert whole.masks.areas[0] == 0 < whole.masks.areas[1]
        assert archive.tracks(with_masks=False).masks is None


def test_masks_of_two_sizes_are_read_part_by_part(tmp_path: Path) -> None:
    path = written(tmp_path / "tracks.npz", rows([0], [1], masks=(2, 2)), rows([1], [1], masks=(3, 5)))
    with TracksArchive(path) as archive:
        assert [part.tracks.masks.size for part in archive.parts() if part.tracks.masks is not None] == [(2, 2), (3, 5)]
        with pytest.raises(ArtifactError, match="masks of different sizes"):
            archive.rows()


def test_frames_come_in_order(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frame 3 comes after frame 3"):
        written(tmp_path / "tracks.npz", rows([2, 3], [1, 1]), rows([3, 4], [2, 2]))
    assert list(tmp_path.iterdir()) == []


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    one, two = (written(tmp_path / name, rows([0, 1], [1, 1], masks=(4, 4))) for name in ("a.npz", "b.npz"))
    assert one.read_bytes() == two.read_bytes()


def manifest_with(path: Path, **changes: object) -> Path:
    """The archive with another manifest."""
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    manifest = json.loads(entries["manifest.json"]) | changes
    entries["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as new:
        for name, content in entries.items():
            new.writestr(name, content)
    return path


def replaced_column(path: Path, column: str, values: Any) -> Path:
    """The archive with another column in its first part."""
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    stream = io.BytesIO()
    np.save(stream, values)
    entries[f"part_000000/{column}.npy"] = stream.getvalue()
    with zipfile.ZipFile(path, "w") as new:
        for name, content in entries.items():
            new.writestr(name, content)
    return path


def test_archives_that_cannot_be_read(tmp_path: Path) -> None:
    path = written(tmp_path / "tracks.npz", rows([0, 1], [1, 1], masks=(4, 4)))
    with pytest.raises(ArtifactError, match="no tracks archive"):
        TracksArchive(tmp_path / "none.npz")
    part = {"first": 0, "last": 1, "rows": 2, "mask_shape": [40, 4]}
    with TracksArchive(manifest_with(path, parts=[part])) as archive, pytest.raises(ArtifactError, match="is damaged"):
        archive.rows()
    with pytest.raises(ArtifactError, match="lacks or misspells"):
        TracksArchive(manifest_with(path, parts=[{"first": 0}]))
    with pytest.raises(ArtifactVersionError, match="schema_version 9 is newer"):
        TracksArchive(manifest_with(path, schema_version=9))
    with pytest.raises(ArtifactError, match="holds 'other'"):
        TracksArchive(manifest_with(path, kind="other", schema_version=1))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("frame", np.array(0)),  # no dimension at all
        ("score", np.array(0.5, np.float32)),
        ("xyxy", np.zeros((2, 3), np.float32)),
        ("xyxy", np.full((2, 4), np.inf, np.float32)),
        ("score", np.full(2, np.nan, np.float32)),
        ("track_id", np.array(["a", "b"])),
        ("detection", np.zeros(2, "V8")),
        ("class_id", np.zeros(2, "M8[s]")),
        ("time", np.zeros(3)),
    ],
)
def test_columns_of_another_kind_are_named(tmp_path: Path, column: str, values: Any) -> None:
    path = replaced_column(written(tmp_path / "tracks.npz", rows([0, 1], [1, 1])), column, values)
    with TracksArchive(path) as archive, pytest.raises(ArtifactError, match=f"part_000000/{column} is damaged"):
        archive.rows()


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("frame", [0, 1, 0], "its frames do not rise from 0 to 1"),
        ("frame", [-(1 << 63), 1, 1], "its frames do not rise from 0 to 1"),
        ("frame", [0, 1, 9], "its frames do not rise from 0 to 1"),
        ("track_id", [1, 2, 2], "track 2 occurs twice on frame 1"),
    ],
)
def test_rows_that_contradict_each_other_are_refused(
    tmp_path: Path, column: str, values: list[int], message: str
) -> None:
    """Frames so far apart that their difference is negative made what is computed of a link not finite."""
    path = replaced_column(written(tmp_path / "t.npz", rows([0, 1, 1], [1, 2, 1])), column, np.array(values))
    with TracksArchive(path) as archive, pytest.raises(ArtifactError, match=f"part_000000 is damaged: {message}"):
        archive.rows()


def test_parts_that_overlap_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "t.npz", rows([0, 1], [1, 1]), rows([2], [1]))
    spans = ((0, 2, 2), (2, 2, 1))
    parts = [{"first": first, "last": last, "rows": count, "mask_shape": None} for first, last, count in spans]
    with pytest.raises(ArtifactError, match="part_000001 begins before part_000000 ends"):
        TracksArchive(manifest_with(path, parts=parts))


def test_columns_of_one_length() -> None:
    tracks = Tracks.from_columns([0], [1], [[0, 0, 1, 1]])
    with pytest.raises(ValueError, match="1 rows, 2 detections"):
        TrackRows(tracks, np.zeros(2, np.int64), np.zeros(1))


def test_a_box_without_extent_is_refused(tmp_path: Path) -> None:
    turned = rows([0, 1], [1, 1])
    turned.tracks.xyxy[1] = (9, 9, 12, 2)
    with (
        TracksArchive(written(tmp_path / "t.npz", turned)) as archive,
        pytest.raises(ArtifactError, match=r"t\.npz: part_000000/xyxy is damaged: it holds a box without extent"),
    ):
        archive.tracks()
