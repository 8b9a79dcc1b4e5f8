from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trackweave.errors import ArtifactError
from trackweave.ids import FrameIndex
from trackweave.masks.packed import PackedMasks
from trackweave.storage.mask_archive import write_video_segments
from trackweave.storage.recording import ArchiveRecording, EntryRecording, open_recording
from trackweave.structures.tracks import FrameObjects

A, B = np.zeros((2, 5, 7), np.bool_)
A[1:3, 1:4] = B[4, 2:] = True
SEEN: dict[int, dict[int, NDArray[np.bool_]]] = {2: {1: A, 7: B}, 4: {7: A}}


def record_entries(path: Path, **more: Any) -> Path:
    entries: dict[str, Any] = {"shape": np.array(A.shape)}
    for frame, objects in SEEN.items():
        for obj, mask in objects.items():
            entries[f"{frame:05d}_{obj:03d}"] = np.packbits(mask.reshape(-1))
    np.savez(path, **{name: value for name, value in {**entries, **more}.items() if value is not None})
    return path


def record_archive(path: Path) -> Path:
    def frames() -> Any:
        for frame, objects in SEEN.items():
            masks = PackedMasks.from_bool(np.stack(list(objects.values())))
            n = len(masks)
            yield FrameObjects(
                FrameIndex(frame), "", np.array(list(objects)), masks, masks.boxes.astype(np.float32), masks.areas,
                np.ones(n, np.float32),
            )  # fmt: skip

    write_video_segments(path, frames(), mask_scale_ratio=1.0, full_resolution_shape=(5, 7), metadata={})
    return path


@pytest.mark.parametrize(("record", "kind"), [(record_entries, EntryRecording), (record_archive, ArchiveRecording)])
def test_both_forms_play_the_same(tmp_path: Path, record: Callable[[Path], Path], kind: type) -> None:
    recording = open_recording(record(tmp_path / "r.npz"))
    assert isinstance(recording, kind)
    assert recording.size == (5, 7)
    assert [recording.objects(FrameIndex(frame)) for frame in (0, 2, 4)] == [[], [1, 7], [7]]
    np.testing.assert_array_equal(recording.masks(FrameIndex(2), [7, 9, 1]).to_bool(), [B, np.zeros_like(A), A])
    assert recording.masks(FrameIndex(0), [1]).areas.tolist() == [0]
    assert len(recording.masks(FrameIndex(2), [])) == 0
    recording.close()


def test_bits_beyond_the_mask_are_dropped(tmp_path: Path) -> None:
    recording = open_recording(record_entries(tmp_path / "r.npz", **{"00002_001": np.full(5, 255, np.uint8)}))
    assert recording.masks(FrameIndex(2), [1]).boxes.tolist() == [[0, 0, 7, 5]]
    recording.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": None}, "a recording needs an entry `shape`"),
        ({"shape": np.zeros(1 << 20, np.int64)}, r"entry shape is .*, not an array \(1048576,\)"),
        ({"shape": np.array([5])}, r"entry shape is \(H, W\) of at least one pixel, not \[5\]"),
        ({"shape": np.array(5)}, r"entry shape is \(H, W\)"),
        ({"shape": np.array([5, 0])}, r"entry shape is \(H, W\)"),
        ({"shape": np.array(["5", "7"])}, r"entry shape is \(H, W\)"),
        ({"shape": np.array([{}, {}], object)}, "entry shape is damaged"),
        ({"00002_001": None, "00002_007": None, "00004_007": None}, "entries named FFFFF_OOO"),
    ],
)
def test_a_recording_that_cannot_be_opened(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = record_entries(tmp_path / "r.npz", **change)
    with pytest.raises(ArtifactError, match=message) as caught:
        open_recording(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bits", [np.zeros(4, np.uint8), np.zeros(5, np.int8), np.zeros((1, 5), np.uint8)])
def test_bits_that_are_no_mask_of_the_shape(tmp_path: Path, bits: Any) -> None:
    recording = open_recording(record_entries(tmp_path / "r.npz", **{"00002_001": bits}))
    with pytest.raises(ArtifactError, match="entry 00002_001 is not a packed mask of 5×7"):
        recording.masks(FrameIndex(2), [1, 7])
    recording.close()


@pytest.mark.parametrize("content", [None, b"", b"no zip"])
def test_a_file_that_is_no_archive(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "r.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match="not a readable recording"):
        open_recording(path)


@pytest.mark.parametrize("record", [record_entries, record_archive])
def test_damage_is_one_line(tmp_path: Path, record: Callable[[Path], Path]) -> None:
    path = record(tmp_path / "r.npz")
    content = path.read_bytes()
    refused = []
    for position in range(0, len(content), 5):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            recording = open_recording(path)
        except ArtifactError as error:
            refused.append(str(error))
            continue
        try:
            recording.masks(FrameIndex(2), recording.objects(FrameIndex(2)))
        except ArtifactError as error:
            refused.append(str(error))
        finally:
            recording.close()
    assert len(refused) > len(content) // 5 // 4
    assert not any("\n" in message for message in refused)


def test_an_archive_without_masks(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    write_video_segments(path, [], mask_scale_ratio=1.0, full_resolution_shape=None, metadata={})
    with pytest.raises(ArtifactError, match="holds no mask to replay"):
        open_recording(path)


def test_an_entry_with_a_damaged_header_is_named(tmp_path: Path) -> None:
    path = record_entries(tmp_path / "r.npz")
    body = b"{'descr': ('|u1', "
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("00009_001.npy", b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body)
    recording = open_recording(path)
    with pytest.raises(ArtifactError, match="entry 00009_001 is damaged"):
        recording.masks(FrameIndex(9), [1])
    recording.close()


@pytest.mark.parametrize("shape", [(2**40, 7), (2**62, 2**62), (2**31, 2**31)])
def test_a_size_that_no_mask_holds_is_refused_before_anything_is_allocated(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    with pytest.raises(ArtifactError, match=r"r\.npz: entry shape is .*, more than any mask holds"):
        open_recording(record_entries(tmp_path / "r.npz", shape=np.array(shape)))
