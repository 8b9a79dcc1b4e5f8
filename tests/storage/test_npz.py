from __future__ import annotations

import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from trackweave.errors import ArtifactError, ArtifactVersionError
from trackweave.storage.npz import ZIP_ERRORS, NpzReader, NpzWriter, archive_kind, decode_npy, map_npy, read_member

MANIFEST = {"kind": "toy", "schema_version": 1, "note": "ü"}
ROWS = np.array([(1, [2.0, 3.0])], np.dtype([("id", "<i8"), ("box", "<f4", (2,))]))
ARRAYS: dict[str, NDArray[Any]] = {
    "frame_1/objects": ROWS,
    "frame_1/masks": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "empty": np.zeros((0, 4), np.float32),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
}


def write(path: Path, manifest: dict[str, Any] | None = None) -> Path:
    with NpzWriter(path) as archive:
        for name, array in ARRAYS.items():
            archive.add_array(name, array)
        archive.add_manifest(MANIFEST if manifest is None else manifest)
    return path


def test_numpy_opens_it_without_pickle(tmp_path: Path) -> None:
    with np.load(write(tmp_path / "a.npz"), allow_pickle=False) as loaded:
        assert set(ARRAYS) <= set(loaded.files)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(loaded[name], array)
            assert loaded[name].dtype == array.dtype


def test_a_zip_tool_lists_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zipfile", "-l", str(write(tmp_path / "a.npz"))]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(f"{name}.npy" in listing for name in ARRAYS)
    assert "manifest.json" in listing


def test_the_reader_gives_back_what_was_written(tmp_path: Path) -> None:
    with NpzReader(write(tmp_path / "a.npz"), "toy", 1) as archive:
        assert archive.manifest == MANIFEST
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(archive.array(name), array)
        with pytest.raises(ArtifactError, match=r"has no entry frame_2/masks\.npy"):
            archive.array("frame_2/masks")


@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.int64, np.float32, np.bool_]), arrays.array_shapes(min_dims=0, min_side=0)
    )
)
def test_any_array_comes_back(tmp_path_factory: pytest.TempPathFactory, array: NDArray[Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.npz"
    with NpzWriter(path) as archive:
        archive.add_array("x", array)
        archive.add_manifest(MANIFEST)
    with NpzReader(path, "toy", 1) as reader:
        back = reader.array("x")
    assert (back.shape, back.dtype) == (array.shape, array.dtype)
    np.testing.assert_array_equal(back, array)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.npz").read_bytes(), write(tmp_path / "b.npz").read_bytes()
    assert first == second
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_nothing_is_pickled(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(ValueError, match="never written"), NpzWriter(path) as archive:
        archive.add_array("x", np.array([{}], object))
    assert list(tmp_path.iterdir()) == []


def test_a_crash_leaves_the_old_archive(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz")
    before = path.read_bytes()

    def write_and_fail() -> None:
        with NpzWriter(path) as archive:
            archive.add_array("x", np.ones(3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def read_all(path: Path) -> None:
    with NpzReader(path, "toy", 1) as archive:
        for name in ARRAYS:
            archive.array(name)


def test_every_truncation_is_one_line(tmp_path: Path) -> None:
    content = write(tmp_path / "a.npz").read_bytes()
    short = tmp_path / "short.npz"
    for length in range(0, len(content), 7):
        short.write_bytes(content[:length])
        with pytest.raises(ArtifactError) as caught:
            read_all(short)
        assert str(short) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_damaged_byte_is_one_line_or_harmless(tmp_path: Path, flip: int) -> None:
    content = write(tmp_path / "a.npz").read_bytes()
    damaged = tmp_path / "damaged.npz"
    refused = []
    for position in range(0, len(content), 3):
        damaged.write_bytes(content[:position] + bytes([content[position] ^ flip]) + content[position + 1 :])
        try:
            read_all(damaged)
        except ArtifactError as error:
            refused.append(str(error))
    assert len(refused) > len(content) // 3 // 2
    assert not any("\n" in message for message in refused)


@pytest.mark.parametrize(
    ("manifest", "kind", "message"),
    [
        ({"kind": "other", "schema_version": 1}, ArtifactError, "holds 'other', not 'toy'"),
        ({"kind": "toy", "schema_version": 2}, ArtifactVersionError, "schema_version 2 is newer than 1"),
        ({"kind": "toy"}, ArtifactVersionError, "unknown schema_version None"),
    ],
)
def test_another_kind_or_version(
    tmp_path: Path, manifest: dict[str, Any], kind: type[ArtifactError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        NpzReader(write(tmp_path / "a.npz", manifest), "toy", 1)


def test_files_that_are_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no toy archive here"):
        NpzReader(tmp_path / "none.npz", "toy", 1)
    with pytest.raises(ArtifactError, match="not a readable toy archive"):
        NpzReader(tmp_path, "toy", 1)
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, x=np.ones(2))
    with pytest.raises(ArtifactError, match=r"has no entry manifest\.json"):
        NpzReader(foreign, "toy", 1)


def npy(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """A `.npy` file of any header."""
    body = header.encode() + b"\n"
    return b"\x93NUMPY" + version + len(body).to_bytes(2, "little") + body + content


BAD_NPY = {
    "no end": npy("{'descr': ('<i8', "),
    "no text": npy("{'descr': '<i8', 'fortran_order': False, 'shape': (2,), \0"),
    "deep": npy("(" * 5000),
    "huge number": npy("{'descr': '<i8', 'fortran_order': False, 'shape': (" + "9" * 400 + ",), }"),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", b"x" * 16),
    "no bytes": npy("{'descr': '|S0', 'fortran_order': False, 'shape': (-1,), }"),
    "no bytes of many": npy("{'descr': '|S0', 'fortran_order': False, 'shape': (3,), }"),
    "negative": npy("{'descr': '<i8', 'fortran_order': False, 'shape': (-1,), }", bytes(64)),
    "eight exbibytes": npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1152921504606846976,), }", bytes(64)),
    "cut off": npy("{'descr': '<i8', 'fortran_order': False, 'shape': (9,), }", bytes(64)),
    "no type": npy("{'descr': [()], 'fortran_order': False, 'shape': (9,), }", bytes(64)),
    "other keys": npy("{'descr': '<i8'}", bytes(64)),
    "another version": npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }", bytes(8), b"\x09\x00"),
    "not at all": b"hello",
    "empty": b"",
}


@pytest.mark.parametrize("content", BAD_NPY.values(), ids=BAD_NPY)
def test_damaged_arrays_are_value_errors_of_one_short_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    readers: tuple[Callable[[], object], ...] = (lambda: decode_npy(content), lambda: map_npy(tmp_path / "x.npy"))
    for read in readers:
        with pytest.raises(ValueError) as caught:
            read()
        assert len(str(caught.value)) < 250
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", ">i4", "f8", "U3", "?", [("a", "i4"), ("b", "f4", (2,))]])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4), (2, 0)])
def test_arrays_are_read_as_numpy_reads_them(tmp_path: Path, shape: Any, dtype: Any, order: Any) -> None:
    array = np.zeros(shape, dtype, order)
    np.save(tmp_path / "x.npy", array)
    for read in (decode_npy((tmp_path / "x.npy").read_bytes()), map_npy(tmp_path / "x.npy")):
        np.testing.assert_array_equal(read, array)
        assert (read.dtype, read.flags.f_contiguous) == (array.dtype, array.flags.f_contiguous)


@pytest.mark.parametrize("content", BAD_NPY.values(), ids=BAD_NPY)
def test_a_damaged_array_of_an_archive_is_named(tmp_path: Path, content: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("manifest.json", '{"kind": "toy", "schema_version": 1}')
        archive.writestr("a.npy", content)
    with (
        NpzReader(tmp_path / "x.npz", "toy", 1) as reader,
        pytest.raises(ArtifactError, match=r"entry a\.npy is damaged"),
    ):
        reader.array("a")


def test_a_member_that_inflates_a_thousandfold_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trackweave.storage.npz.MEMBER_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", '{"kind": "toy", "schema_version": 1}')
        archive.writestr(
            "a.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (4194304,), }", bytes(4 << 20))
        )
    with (
        NpzReader(tmp_path / "x.npz", "toy", 1) as reader,
        pytest.raises(ArtifactError, match=r"more than .* are not read"),
    ):
        reader.array("a")


def test_a_member_gives_no_more_than_it_declares(tmp_path: Path) -> None:
    """The declared size is changed to 10 bytes in both places: the stream behind it holds 64 MiB."""
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(64 << 20))
    size = (64 << 20).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (10).to_bytes(4, "little")))
    with zipfile.ZipFile(path) as archive:
        tracemalloc.start()
        with pytest.raises(ZIP_ERRORS):
            read_member(archive, "a.npy", 1 << 30)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("text", ["[" * 100_000, '{"kind": 1e999}', '{"kind": "toy", "schema_version": NaN}'])
def test_a_manifest_that_python_cannot_hold_is_refused(tmp_path: Path, text: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("manifest.json", text)
    with pytest.raises(ArtifactError, match=r"its manifest\.json is not JSON"):
        NpzReader(tmp_path / "x.npz", "toy", 1)
    assert archive_kind(tmp_path / "x.npz") is None
