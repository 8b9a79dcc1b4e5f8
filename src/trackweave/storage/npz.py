"""True NPZ archives as streams: a writer that never holds more than one array, a reader that reads one at a time.

`numpy.savez` wants all arrays at once; this writes the same format entry by entry, with a `manifest.json` beside the
arrays. Time stamps are fixed, so equal content gives equal bytes.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from copy import copy
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, NamedTuple, cast

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from trackweave.errors import ArtifactError, shortened, shortened_line
from trackweave.storage.files import check_version, parse_json, replacing

MANIFEST_NAME = "manifest.json"
COMPRESSION_LEVEL = 2  # of isal's 0 … 3: level 3 takes ten times as long on packed masks and gains nothing

ZIP_ERRORS = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error, cast("type[Exception]", isal_zlib.error)),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError),
)
"""What `zipfile` raises of a damaged archive: flags and method numbers are damaged as easily as bytes."""


HEADER_BYTES = 1 << 14
"""No header of `.npy` is longer: numpy refuses those of 10 000 characters."""
MEMBER_BYTES, MEMBER_RATIO = 512 << 20, 100
"""A member may inflate to so many bytes, or to so many times the archive's own size where that is more."""


class NpyHeader(NamedTuple):
    """What the header of a `.npy` file says.

    Attributes:
        dtype: data type; never of size 0.
        shape: no length below 0 or beyond int64.
        order: `C` or `F`.
        start: bytes before the first element.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    start: int

    @property
    def end(self) -> int:
        """Bytes of the whole file that the header promises."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(stream: IO[bytes]) -> NpyHeader:
    """The header of a `.npy` file; every reader of arrays goes through this. Nothing is allocated for what it claims.

    Raises:
        ValueError: not a header of format 1.0 or 2.0, or of elements without bytes (numpy divides by their size), or
            of a length that no array has.
    """
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version[0]}.{version[1]} of the format is not read")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except Exception as error:  # noqa: BLE001 - TokenError, SyntaxError, RecursionError …: whatever Python's parser raises
        # The parser's own words may hold the address of an object, which no two readings share.
        reason = str(error) if type(error) is ValueError and " at 0x" not in str(error) else "its header is damaged"
        raise ValueError(shortened_line(reason)) from None
    if dtype.itemsize == 0 or any(isinstance(length, bool) or not 0 <= length < 1 << 63 for length in shape):
        raise ValueError(shortened_line(f"{dtype} of shape {shape} is no array"))
    return NpyHeader(dtype, shape, "F" if fortran else "C", stream.tell())


@lru_cache(maxsize=1024)
def _known_header(beginning: bytes) -> NpyHeader:
    """The header that these bytes are. Parsing takes longer than inflating a small array, and headers recur."""
    return read_npy_header(io.BytesIO(beginning))


def _header_bytes(content: bytes) -> int:
    """How long the header of a `.npy` file says that it is, with what comes before it."""
    wide = content[6:7] == b"\2"
    return (12 if wide else 10) + int.from_bytes(content[8 : 12 if wide else 10], "little")


def _check_content(header: NpyHeader, size: int) -> None:
    """Raises `ValueError` for an array of objects, and for one that `size` bytes do not hold."""
    if header.dtype.hasobject:
        raise ValueError("it holds Python objects, which are never read")
    if header.end > size:
        raise ValueError(shortened_line(f"has {size} of {header.end} bytes: it was cut off"))


def decode_npy(content: bytes) -> NDArray[Any]:
    """The array of a `.npy` file's content.

    Raises:
        ValueError: as `read_npy_header`; objects, which would be unpickled; fewer bytes than the header promises.
    """
    header = _known_header(content[: min(_header_bytes(content), HEADER_BYTES)])
    _check_content(header, len(content))
    count = math.prod(header.shape)
    flat = np.frombuffer(content, header.dtype, count, header.start) if count else np.empty(0, header.dtype)
    return flat.reshape(header.shape, order=header.order).copy(order=header.order)


def map_npy(path: Path) -> NDArray[Any]:
    """The array of a `.npy` file, left on the disk until it is read.

    Raises:
        ValueError: as `decode_npy`.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        header = read_npy_header(file)
        _check_content(header, os.fstat(file.fileno()).st_size)
    if math.prod(header.shape) == 0:
        return np.empty(header.shape, header.dtype)
    return np.memmap(path, header.dtype, "r", header.start, header.shape, header.order)


def member_limit(path: Path, most: int | None = None) -> int:
    """Bytes that a member of an archive may inflate to: `most` (None: `MEMBER_BYTES`), or 100 times the archive."""
    return max(MEMBER_BYTES if most is None else most, MEMBER_RATIO * path.stat().st_size)


def read_member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """A member of an archive; reads no more than its declared size, and nothing of one that declares too much.

    Raises:
        KeyError: there is none of this name.
        ValueError: it is larger than the limit, or not stored or deflated.
        Exception: one of `ZIP_ERRORS`, of a damaged one.
    """
    entry = archive.getinfo(name)
    if (size := max(entry.file_size, entry.compress_size)) > limit:
        raise ValueError(f"it would take {size} bytes, more than {limit} are not read")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"compression of type {entry.compress_type} is not read")
    packed, is_deflated = copy(entry), entry.compress_type == zipfile.ZIP_DEFLATED
    if is_deflated:  # read as it is, and inflated here
        packed.compress_type, packed.file_size = zipfile.ZIP_STORED, entry.compress_size
        packed.CRC = None  # type: ignore[assignment]
    with archive.open(packed) as file:
        # With a size: without one `zipfile` reads the whole stream, whatever size is declared.
        content = file.read(packed.file_size)
    if is_deflated:
        # isal takes a sixth of zlib's time for packed masks.
        inflater = isal_zlib.decompressobj(-isal_zlib.MAX_WBITS)
        content = inflater.decompress(content, max(entry.file_size, 1))
        if isal_zlib.crc32(content) != entry.CRC:
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {entry.filename!r}")
    if len(content) != entry.file_size:
        raise EOFError(f"has {len(content)} of {entry.file_size} bytes")
    return content


class NpzWriter:
    """Writes one archive; it appears under its name only when the `with` block ends well."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()

    def __enter__(self) -> NpzWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(replacing(self._path))
            self._zip = stack.enter_context(zipfile.ZipFile(temporary, "w", allowZip64=True))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add_array(self, name: str, array: NDArray[Any]) -> None:
        """Appends one array as `name.npy`."""
        if array.dtype.hasobject:
            raise ValueError(f"{name}: object arrays need pickling and are never written")
        contiguous = np.asarray(array, order="C")
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(contiguous))
        self._add(f"{name}.npy", header.getvalue(), contiguous.reshape(-1).view(np.uint8).data)

    def add_manifest(self, value: Mapping[str, object]) -> None:
        """Appends `manifest.json`."""
        self._add(MANIFEST_NAME, json.dumps(value, allow_nan=False).encode())

    def _add(self, name: str, *parts: bytes | memoryview) -> None:
        entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o644 << 16
        with self._zip.open(entry, "w", force_zip64=sum(map(len, parts)) >= 1 << 31) as file:
            # The same deflate format from a faster compressor; zipfile has no public way to name one.
            file._compressor = isal_zlib.compressobj(COMPRESSION_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)  # type: ignore[attr-defined]
            for part in parts:
                file.write(part)


def archive_kind(path: Path) -> str | None:
    """What an archive says it is, such as `tracks` or `video_segments`; None when it is no archive of ours."""
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = parse_json(read_member(archive, MANIFEST_NAME, member_limit(path)))
    except (*ZIP_ERRORS, KeyError, ValueError):
        return None
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    return kind if isinstance(kind, str) else older_kind(manifest)


def older_kind(manifest: Any) -> str | None:
    """Which archive of the tracking guide's older pipeline has this manifest; None when it is none of them.

    >>> older_kind({"meta": {}, "frames": []}), older_kind({"meta": {}, "objects": {}}), older_kind({"frames": []})
    ('video_segments', 'object_segments', None)
    """
    if not isinstance(manifest, dict) or "kind" in manifest or not isinstance(manifest.get("meta"), dict):
        return None
    if isinstance(manifest.get("frames"), list):
        return "video_segments"
    return "object_segments" if isinstance(manifest.get("objects"), dict) else None


class NpzReader:
    """Reads single arrays of an archive; never unpickles.

    Attributes:
        manifest: its `manifest.json`.
        is_older: the older pipeline of the tracking guide wrote it: its entries are JSON.

    Raises:
        ArtifactError: no such file, or not an archive of the expected kind.
        ArtifactVersionError: a newer or unknown schema.
    """

    def __init__(self, path: Path, kind: str, schema_version: int) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
            self._limit = member_limit(path)
        except FileNotFoundError:
            raise ArtifactError(f"{path}: there is no {kind} archive here") from None
        except ZIP_ERRORS as error:
            raise ArtifactError(f"{path}: not a readable {kind} archive: {error}") from None
        try:
            self.manifest = self._read_manifest(kind, schema_version)
        except BaseException:
            self._zip.close()
            raise

    def _read_manifest(self, kind: str, schema_version: int) -> dict[str, Any]:
        try:
            manifest = parse_json(self._bytes(MANIFEST_NAME))
        except ValueError as error:
            raise ArtifactError(f"{self.path}: its manifest.json is not JSON: {error}") from None
        self.is_older = older_kind(manifest) == kind
        if self.is_older:
            return dict(manifest)
        if not isinstance(manifest, dict) or manifest.get("kind") != kind:
            found = manifest.get("kind") if isinstance(manifest, dict) else None
            raise ArtifactError(f"{self.path}: holds {shortened(found)}, not {kind!r}")
        check_version(manifest.get("schema_version"), schema_version, self.path)
        return manifest

    def array(self, name: str) -> NDArray[Any]:
        """The array written under this name."""
        content = self._bytes(f"{name}.npy")
        try:
            return decode_npy(content)
        except ValueError as error:
            raise ArtifactError(f"{self.path}: entry {name}.npy is damaged: {error}") from None

    def json(self, name: str) -> dict[str, Any]:
        """An entry that is a JSON object, of an older archive.

        Raises:
            ArtifactError: there is none, or it is damaged.
        """
        try:
            value = parse_json(self._bytes(name))
        except ValueError as error:
            raise ArtifactError(f"{self.path}: entry {name} is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise ArtifactError(f"{self.path}: entry {name} is not a JSON object")
        return value

    def _bytes(self, name: str) -> bytes:
        try:
            return read_member(self._zip, name, self._limit)
        except KeyError:
            raise ArtifactError(f"{self.path}: has no entry {name}") from None
        except ZIP_ERRORS as error:
            raise ArtifactError(f"{self.path}: entry {name} is damaged: {error}") from None

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()

    def __enter__(self) -> NpzReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
