"""One small NPZ archive as bytes, made in one go: what `numpy.savez_compressed` writes, at a tenth of its cost.

A sample of box tracking is a dozen small arrays, written for every frame beside a tracker that shares the interpreter
with the writer. `zipfile` spends most of its time there on bookkeeping per entry, so the few records of the format are
packed here directly. Arrays that deflate cannot shrink (dense float32) are stored, as zip allows; the others are
deflated by isal. Time stamps are fixed: equal content gives equal bytes.

Formats: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.4; `numpy.lib.format`.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from isal import igzip_lib, isal_zlib
from numpy.typing import NDArray

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION, _DATE = 20, 0x21  # zip 2.0; 1 January 1980
_STORED, _DEFLATED = 0, 8
_WORTH_DEFLATING = 2048  # bytes: below, starting the compressor costs more than the disk's smallest block
_PROBE = 512
_LARGEST = 1 << 31


def encode_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The archive that `numpy.load(..., allow_pickle=False)` reads these arrays from, under their names.

    Raises:
        ValueError: an array of objects, or more than 2 GiB.
    """
    parts: list[bytes] = []
    directory: list[bytes] = []
    offset = 0
    for key, array in arrays.items():
        name = f"{key}.npy".encode()
        content = npy_bytes(array)
        method, packed = _pack(content)
        crc = isal_zlib.crc32(content)
        sizes = (crc, len(packed), len(content), len(name))
        parts += (_LOCAL.pack(b"PK\3\4", _VERSION, 0, method, 0, _DATE, *sizes, 0), name, packed)
        record = _CENTRAL.pack(b"PK\1\2", _VERSION, _VERSION, 0, method, 0, _DATE, *sizes, 0, 0, 0, 0, 0, offset)
        directory += (record, name)
        offset += _LOCAL.size + len(name) + len(packed)
        if offset >= _LARGEST:
            raise ValueError("arrays of more than 2 GiB do not belong in one sample")
    records = b"".join(directory)
    count = len(arrays)
    end = _END.pack(b"PK\5\6", 0, 0, count, count, len(records), offset, 0)
    return b"".join((*parts, records, end))


def npy_bytes(array: NDArray[Any]) -> bytes:
    """One array as the content of a `.npy` file."""
    if array.dtype.hasobject:
        raise ValueError("object arrays need pickling and are never written")
    return _npy_header(array.dtype, array.shape) + array.tobytes()


@lru_cache(maxsize=1024)
def _npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue()


def _pack(content: bytes) -> tuple[int, bytes]:
    """Deflates what shrinks; a quick try on its middle tells."""
    if len(content) < _WORTH_DEFLATING:
        return _STORED, content
    middle = len(content) // 2
    if len(_deflate(content[middle : middle + _PROBE], 0)) >= _PROBE:
        return _STORED, content
    packed = _deflate(content, 1)
    return (_DEFLATED, packed) if len(packed) < len(content) else (_STORED, content)


def _deflate(content: bytes, level: int) -> bytes:
    return igzip_lib.compress(content, level, igzip_lib.COMP_DEFLATE)


def decode_npy(content: bytes, what: str) -> tuple[np.dtype[Any], tuple[int, ...], NDArray[Any] | None]:
    """Data type, shape and array of a `.npy` file's content; the array is None when `content` is not long enough.

    Nothing is allocated for what a header only claims, and objects are never unpickled.

    Raises:
        ValueError: not `.npy`.
    """
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{what} is of .npy version {version}")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    count = 1
    for length in shape:
        count *= length
    start = stream.tell()
    if dtype.hasobject or min(shape, default=0) < 0 or len(content) - start != count * dtype.itemsize:
        return dtype, shape, None
    flat = np.frombuffer(content, dtype, count, start) if count else np.empty(0, dtype)
    return dtype, shape, flat.reshape(shape, order="F" if fortran else "C").copy(order="C")
