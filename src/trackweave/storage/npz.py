"""True NPZ archives as streams: a writer that never holds more than one array, a reader that reads one at a time.

`numpy.savez` wants all arrays at once; this writes the same format entry by entry, with a `manifest.json` beside the
arrays. Time stamps are fixed, so equal content gives equal bytes.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from trackweave.errors import ArtifactError
from trackweave.storage.files import check_version, replacing

MANIFEST_NAME = "manifest.json"
COMPRESSION_LEVEL = 2  # of isal's 0 … 3: level 3 takes ten times as long on packed masks and gains nothing

ZIP_ERRORS = (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError)
"""What `zipfile` raises of a damaged archive: flags and method numbers are damaged as easily as bytes."""


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

    def add_manifest(self, value: dict[str, Any]) -> None:
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
            manifest = json.loads(archive.read(MANIFEST_NAME))
    except (*ZIP_ERRORS, KeyError, ValueError):
        return None
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    return kind if isinstance(kind, str) else None


class NpzReader:
    """Reads single arrays of an archive; never unpickles.

    Raises:
        ArtifactError: no such file, or not an archive of the expected kind.
        ArtifactVersionError: a newer or unknown schema.
    """

    def __init__(self, path: Path, kind: str, schema_version: int) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
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
            manifest = json.loads(self._bytes(MANIFEST_NAME))
        except ValueError:
            raise ArtifactError(f"{self.path}: its manifest.json is not JSON") from None
        if not isinstance(manifest, dict) or manifest.get("kind") != kind:
            found = manifest.get("kind") if isinstance(manifest, dict) else None
            raise ArtifactError(f"{self.path}: holds {found!r}, not {kind!r}")
        check_version(manifest.get("schema_version"), schema_version, self.path)
        return manifest

    def array(self, name: str) -> NDArray[Any]:
        """The array written under this name."""
        content = self._bytes(f"{name}.npy")
        try:
            return np.asarray(np.lib.format.read_array(io.BytesIO(content), allow_pickle=False))
        except ValueError as error:
            raise ArtifactError(f"{self.path}: entry {name}.npy is damaged: {error}") from None

    def _bytes(self, name: str) -> bytes:
        try:
            return self._zip.read(name)
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
