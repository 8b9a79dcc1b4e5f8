"""`AssociationSample`: one frame's assignment problem with the tracker's answer; what learned association trains on.

A sample is one `sample_0000000.npz`, a true NPZ of a dozen arrays. Keys, shapes and types follow the specification of
association data collection, section 3; `AssociationSample` has them under the same names. Samples that lack the
optional parts (`metadata`, `gt_track_ids`), as other trackers write them, are read as well.

A sample is written for every frame beside a tracker that shares the interpreter with the writer, and `zipfile` spends
most of its time on bookkeeping per entry. So `encode_npz` packs the few records of the format directly: what
`numpy.savez_compressed` writes, at a tenth of its cost. Arrays that deflate cannot shrink (dense float32) are stored,
as zip allows; the others are deflated by isal. Time stamps are fixed: equal content gives equal bytes.

Formats: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.4; `numpy.lib.format`.
"""

from __future__ import annotations

import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip_lib, isal_zlib
from numpy.typing import NDArray

from trackweave.errors import ArtifactError, shortened
from trackweave.storage.files import check_version, parse_json
from trackweave.storage.npz import ZIP_ERRORS, decode_npy, member_limit, read_member, read_npy_header

SCHEMA_VERSION = 1
SAMPLE_BYTES = 64 << 20
"""The arrays of a sample may inflate to so many bytes, or to 100 times the file where that is more."""


LARGEST_SIDE = 1 << 24
"""Of a frame, in pixels."""


class SampleColumns:
    """Columns of a sample's feature matrices, in order; what the model is given is `model_inputs.ModelColumns`.

    Attributes:
        TRACKS: of `track_features`: predicted box, velocity per frame, age, frames since the last match, score and
            visibility of the last matched detection.
        DETECTIONS: of `det_features`: box, score, visibility, displacement from the best overlapping track.
    """

    TRACKS = ("x1", "y1", "x2", "y2", "vx", "vy", "age", "gap", "score", "visibility")
    DETECTIONS = ("x1", "y1", "x2", "y2", "score", "visibility", "vx", "vy")


_NAME = re.compile(r"sample_(\d{7,})\.npz")
_INT, _FLOAT = np.dtype("<i8"), np.dtype("<f4")
_LAYOUT: dict[str, tuple[np.dtype[Any], tuple[str | int, ...]]] = {
    "frame_idx": (_INT, ()),
    "track_ids": (_INT, ("T",)),
    "track_features": (_FLOAT, ("T", len(SampleColumns.TRACKS))),
    "det_features": (_FLOAT, ("D", len(SampleColumns.DETECTIONS))),
    "track_embeddings": (_FLOAT, ("T", "E")),
    "det_embeddings": (_FLOAT, ("D", "E")),
    "cost_matrix": (_FLOAT, ("T", "D")),
    "mask_matrix": (_FLOAT, ("T", "D")),
    "assigned_track_ids": (_INT, ("D",)),
    "detection_count": (_INT, (1,)),
    "gt_track_ids": (_INT, ("D",)),
}
_OPTIONAL = ("gt_track_ids",)


@dataclass(frozen=True)
class SampleDiagnostics:
    """What the tracker suspected.

    Attributes:
        est_id_switches: suspected identity switches of the run up to and including this frame; None: not measured.
        suspect_tracks: tracks that take part in a switch suspected on this frame.
        est_id_switches_frame: those of `est_id_switches` that were suspected on this frame; None: not measured, or
            written by a version that did not count them.
    """

    est_id_switches: int | None = None
    suspect_tracks: tuple[int, ...] = ()
    est_id_switches_frame: int | None = None


@dataclass(frozen=True)
class SampleMetadata:
    """Where a sample comes from; the defaults are what is assumed of a sample that does not say.

    Attributes:
        width: of the frame in pixels, None = unknown.
        height: of the frame in pixels, None = unknown.
        fps: frames per second, None = unknown.
        sequence: id of the video; samples are split by it, never by frame.
        run: the logger that wrote the sample: it distinguishes two runs over one sequence.
        schema_version: of the file.
        feature_version: of the columns of the feature matrices.
        label_source: who decided `assigned_track_ids`: `tracker`, …
        embedding_truncated: embeddings were wider than the cap.
        diagnostics: suspected identity switches.
        time: seconds at which the frame was taken, None = unknown.
        camera: the six numbers of the `(2, 3)` matrix that maps pixels of the frame before to this one's, row by row,
            as the tracker applied it; None: it applied none.
    """

    width: int | None = None
    height: int | None = None
    fps: float | None = None
    sequence: str | None = None
    run: str | None = None
    schema_version: int = SCHEMA_VERSION
    feature_version: int = 1
    label_source: str = "tracker"
    embedding_truncated: bool = False
    diagnostics: SampleDiagnostics = field(default_factory=SampleDiagnostics)
    time: float | None = None
    camera: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, object]:
        """The record as the sample holds it."""
        return {
            "width": self.width,
            "height": self.height,
            "fps": self.fps,
            "sequence": self.sequence,
            "run": self.run,
            "schema_version": self.schema_version,
            "feature_version": self.feature_version,
            "label_source": self.label_source,
            "embedding_truncated": self.embedding_truncated,
            **({} if self.time is None else {"time": self.time}),
            **({} if self.camera is None else {"camera": list(self.camera)}),
            "diagnostics": {
                "est_id_switches": self.diagnostics.est_id_switches,
                "est_id_switches_frame": self.diagnostics.est_id_switches_frame,
                "suspect_tracks": list(self.diagnostics.suspect_tracks),
            },
        }


@dataclass(frozen=True, eq=False)
class AssociationSample:
    """T tracks against D detections of one frame, with embeddings of width E.

    Attributes:
        frame_idx: frame index.
        track_ids: `(T,)` int64, active tracks before the assignment.
        track_features: `(T, 10)` float32, columns `SampleColumns.TRACKS`: predicted box and velocity per frame in
            shares of the frame's size, age/100, frames since the last match/50, score, visibility.
        det_features: `(D, 8)` float32, columns `SampleColumns.DETECTIONS`: box in shares of the frame's size, score,
            visibility, camera-compensated displacement from the best overlapping track in shares of the frame's size.
        track_embeddings: `(T, E)` float32, rows of length 1, or 0 where there is none.
        det_embeddings: `(D, E)` float32, the same.
        cost_matrix: `(T, D)` float32, classical cost, lower is better.
        mask_matrix: `(T, D)` float32, 1 = allowed by the gates, 0 = masked.
        assigned_track_ids: `(D,)` int64, the final assignment, −1 = unmatched. A detection that begins a track has the
            new track's id.
        metadata: where it comes from.
        gt_track_ids: `(D,)` int64 true identities, −1 = none; None when the run had no ground truth.
    """

    frame_idx: int
    track_ids: NDArray[np.int64]
    track_features: NDArray[np.float32]
    det_features: NDArray[np.float32]
    track_embeddings: NDArray[np.float32]
    det_embeddings: NDArray[np.float32]
    cost_matrix: NDArray[np.float32]
    mask_matrix: NDArray[np.float32]
    assigned_track_ids: NDArray[np.int64]
    metadata: SampleMetadata = field(default_factory=SampleMetadata)
    gt_track_ids: NDArray[np.int64] | None = None

    @property
    def detection_count(self) -> int:
        """D."""
        return len(self.assigned_track_ids)

    @property
    def matched(self) -> NDArray[np.bool_]:
        """`(D,)` bool: assigned to a track that was there before the frame."""
        return np.asarray((self.assigned_track_ids[:, None] == self.track_ids).any(axis=1))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of the file, by key and in its order.

        Raises:
            ValueError: a shape, a type or a value that the schema does not have; names the key.
        """
        arrays: dict[str, NDArray[Any]] = {
            "frame_idx": np.array(self.frame_idx, np.int64),
            "track_ids": self.track_ids,
            "track_features": self.track_features,
            "det_features": self.det_features,
            "track_embeddings": self.track_embeddings,
            "det_embeddings": self.det_embeddings,
            "cost_matrix": self.cost_matrix,
            "mask_matrix": self.mask_matrix,
            "assigned_track_ids": self.assigned_track_ids,
        }
        if self.gt_track_ids is not None:
            arrays["gt_track_ids"] = self.gt_track_ids
        # A key that may not be missing comes last: damage that hides the end of an archive cannot pass for an old one.
        arrays["metadata"] = np.array(json.dumps(self.metadata.to_json(), allow_nan=False))
        arrays["detection_count"] = np.array([self.detection_count], np.int64)
        checked = {key: array for key, array in arrays.items() if key != "metadata"}
        _check_layout({key: (array.dtype, array.shape) for key, array in checked.items()})
        _check_values(checked)
        return arrays


def sample_name(number: int) -> str:
    """The file name of a sample.

    >>> sample_name(12)
    'sample_0000012.npz'
    """
    return f"sample_{number:07d}.npz"


def sample_number(name: str) -> int | None:
    """The number in a sample's file name; None when it is not one.

    >>> sample_number("sample_0000012.npz"), sample_number("sample_12.npz")
    (12, None)
    """
    match = _NAME.fullmatch(name)
    return int(match[1]) if match and sample_name(int(match[1])) == name else None


def encode_sample(sample: AssociationSample) -> bytes:
    """The content of a sample's file.

    Raises:
        ValueError: the sample breaks the schema; names the key.
    """
    return encode_npz(sample.arrays())


def read_sample(path: Path | str) -> AssociationSample:
    """Reads one sample; keys and metadata fields that are not known are left out.

    Raises:
        ArtifactError: missing, damaged, or not of the schema; names the file and the key.
        ArtifactVersionError: written by a newer trackweave.
    """
    path = Path(path)
    contents = _read_entries(path)
    try:
        metadata = _metadata(contents.pop("metadata", None), path)  # first: a newer schema may have other arrays
        arrays = _decode(contents)
        _check_values(arrays)
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}") from None
    return AssociationSample(
        int(arrays["frame_idx"]),
        arrays["track_ids"],
        arrays["track_features"],
        arrays["det_features"],
        arrays["track_embeddings"],
        arrays["det_embeddings"],
        arrays["cost_matrix"],
        arrays["mask_matrix"],
        arrays["assigned_track_ids"],
        metadata,
        arrays.get("gt_track_ids"),
    )


def _read_entries(path: Path) -> dict[str, bytes]:
    """The raw entries of known keys; all are checked, as a damaged name must not pass for a missing optional key."""
    entries: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            limit = member_limit(path, SAMPLE_BYTES)
            for name in archive.namelist():
                key = name.removesuffix(".npy")
                try:
                    content = read_member(archive, name, limit)
                    limit -= len(content)
                except ZIP_ERRORS as error:
                    raise ArtifactError(f"{path}: {key} is damaged: {error}") from None
                if key in _LAYOUT or key == "metadata":
                    entries[key] = content
    except FileNotFoundError:
        raise ArtifactError(f"{path}: there is no sample here") from None
    except ZIP_ERRORS as error:
        raise ArtifactError(f"{path}: not a readable sample (truncated, or of another kind): {error}") from None
    return entries


def _decode(contents: Mapping[str, bytes]) -> dict[str, NDArray[Any]]:
    """Arrays of the layout; `ValueError` names the key."""
    arrays: dict[str, NDArray[Any]] = {}
    layout: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    for key, content in contents.items():
        try:
            dtype, shape, array = _decode_npy(content)
        except ValueError as error:
            raise ValueError(f"{key} is not an array: {error}") from None
        layout[key] = (dtype, shape)
        if array is not None:
            arrays[key] = array
    _check_layout(layout)
    for key in layout:
        if key not in arrays:
            raise ValueError(f"{key} is cut off")
    return arrays


def _check_layout(layout: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> None:
    """Types and shapes, T, D and E the same everywhere; `ValueError` names the key."""
    try:
        T, E = layout["track_embeddings"][1]
        D = layout["assigned_track_ids"][1][0]
    except (KeyError, IndexError, ValueError):
        T = E = D = -1
    if layout != _expected_layout(T, D, E, "gt_track_ids" in layout):
        _raise_layout_error(layout)


@lru_cache(maxsize=1024)
def _expected_layout(T: int, D: int, E: int, truth: bool) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """The layout with its sizes filled in; cached, because comparing with a whole layout is the fastest check."""
    sizes = {"T": T, "D": D, "E": E}
    return {
        key: (dtype, tuple(n if isinstance(n, int) else sizes[n] for n in shape))
        for key, (dtype, shape) in _LAYOUT.items()
        if truth or key not in _OPTIONAL
    }


def _raise_layout_error(layout: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> None:
    """Raises `ValueError` for the first key that breaks the layout."""
    sizes: dict[str | int, int] = {}
    for key, (dtype, shape) in _LAYOUT.items():
        if key not in layout:
            if key in _OPTIONAL:
                continue
            raise ValueError(f"{key} is missing")
        actual_dtype, actual_shape = layout[key]
        if actual_dtype != dtype:
            raise ValueError(f"{key} is {actual_dtype}, not {dtype}")
        if len(actual_shape) == len(shape):
            expected = tuple(
                n if isinstance(n, int) else sizes.setdefault(n, k) for n, k in zip(shape, actual_shape, strict=True)
            )
            if actual_shape == expected:
                continue
        names = ", ".join(str(sizes.get(n, n)) for n in shape)
        raise ValueError(f"{key} is of shape {actual_shape}, not ({names})")


def _check_values(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Finite numbers, a mask of 0 and 1, the right count; `ValueError` names the key."""
    for key, array in arrays.items():
        if array.dtype == _FLOAT and not _is_finite(array):
            raise ValueError(f"{key} holds values that are not finite")
    mask = arrays["mask_matrix"]
    if np.count_nonzero(mask) != np.count_nonzero(mask == 1):
        raise ValueError("mask_matrix holds values other than 0 and 1")
    count, detections = int(arrays["detection_count"][0]), len(arrays["assigned_track_ids"])
    if count != detections:
        raise ValueError(f"detection_count is {count}, but there are {detections} detections")
    if arrays["frame_idx"] < 0:
        raise ValueError(f"frame_idx is {arrays['frame_idx']}")


def _is_finite(array: NDArray[Any]) -> bool:
    """Whether all values are finite; a finite sum of squares settles most arrays in a third of the time."""
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())


def _metadata(content: bytes | None, path: Path) -> SampleMetadata:
    """The metadata, with defaults for what is not there; `ValueError` names the field."""
    if content is None:
        return SampleMetadata()
    try:
        _, _, array = _decode_npy(content)
        if array is None or array.shape != () or array.dtype.kind != "U":
            raise ValueError("not one text")
        record = parse_json(str(array))
    except ValueError as error:
        raise ValueError(f"metadata is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError("metadata is not a JSON object")
    version = record.get("schema_version", SCHEMA_VERSION)
    check_version(version, SCHEMA_VERSION, path)
    diagnostics = _typed(record, "diagnostics", dict) or {}
    suspects = _typed(diagnostics, "suspect_tracks", list) or []
    if not all(isinstance(track, int) for track in suspects):
        raise ValueError("metadata.suspect_tracks are not track ids")
    camera = _typed(record, "camera", list)
    if camera is not None and (len(camera) != 6 or not all(_is_number(value) for value in camera)):
        raise ValueError("metadata.camera is not six numbers")
    sides = {name: _typed(record, name, int) for name in ("width", "height")}
    fps = _typed(record, "fps", (int, float))
    for name, value in {**sides, "fps": fps}.items():
        if value is not None and not 0 < value <= LARGEST_SIDE:
            raise ValueError(f"metadata.{name} is {shortened(value)}")
    default = SampleMetadata()
    return SampleMetadata(
        **sides,
        fps=fps,
        sequence=_typed(record, "sequence", str),
        run=_typed(record, "run", str),
        schema_version=version,
        feature_version=_typed(record, "feature_version", int, default.feature_version),
        label_source=_typed(record, "label_source", str, default.label_source),
        embedding_truncated=_typed(record, "embedding_truncated", bool, default=False),
        diagnostics=SampleDiagnostics(
            _typed(diagnostics, "est_id_switches", int),
            tuple(suspects),
            _typed(diagnostics, "est_id_switches_frame", int),
        ),
        time=_typed(record, "time", (int, float)),
        camera=None if camera is None else tuple(map(float, camera)),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _typed(record: Mapping[str, object], name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
    """A field of a JSON object, or the default when it is missing or null."""
    value = record.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"metadata.{name} is {shortened(value)}")
    return value


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
        content = _npy_bytes(array)
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


def _npy_bytes(array: NDArray[Any]) -> bytes:
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
    """Deflates content that shrinks, estimated from its middle; zip method and content."""
    if len(content) < _WORTH_DEFLATING:
        return _STORED, content
    middle = len(content) // 2
    if len(_deflate(content[middle : middle + _PROBE], 0)) >= _PROBE:
        return _STORED, content
    packed = _deflate(content, 1)
    return (_DEFLATED, packed) if len(packed) < len(content) else (_STORED, content)


def _deflate(content: bytes, level: int) -> bytes:
    return igzip_lib.compress(content, level, igzip_lib.COMP_DEFLATE)


def _decode_npy(content: bytes) -> tuple[np.dtype[Any], tuple[int, ...], NDArray[Any] | None]:
    """Data type, shape and array of a `.npy` file's content; the array is None when `content` is not long enough.

    Nothing is allocated for what a header only claims, and objects are never unpickled.

    Raises:
        ValueError: not `.npy`.
    """
    header = read_npy_header(io.BytesIO(content))
    if header.dtype.hasobject or header.end != len(content):
        return header.dtype, header.shape, None
    return header.dtype, header.shape, np.asarray(decode_npy(content), order="C")
