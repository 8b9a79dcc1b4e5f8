"""The feature matrices of a logged frame.

Columns are those of the specification of association data collection, section 3. A change of any column's meaning
needs a new `FEATURE_VERSION`: a model only understands the version that it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackweave.storage.samples import SampleColumns
from trackweave.structures.assignment import AssignmentState

FEATURE_VERSION = 1
AGE_UNIT = 100.0
"""Frames per unit of the column `age`."""
GAP_UNIT = 50.0
"""Frames per unit of the column `gap`."""
_MIN_LENGTH, _MAX_LENGTH = 1e-10, 1e15
"""Between them the squares of float32 values neither underflow nor overflow."""


@dataclass(frozen=True, eq=False)
class SampleFeatures:
    """One frame's matrices: T tracks, D detections, embeddings of width E; finite everywhere.

    Attributes:
        tracks: `(T, 10)` float32, columns `SampleColumns.TRACKS`.
        detections: `(D, 8)` float32, columns `SampleColumns.DETECTIONS`; visibility is 1 where it is unknown.
        track_embeddings: `(T, E)` float32, rows of length 1 or 0.
        det_embeddings: `(D, E)` float32, rows of length 1 or 0.
        embedding_width: of the frame's own embeddings, before padding or cutting; None when there were none.
        sanitised: names of the matrices in which values that were not finite became 0.
    """

    tracks: NDArray[np.float32]
    detections: NDArray[np.float32]
    track_embeddings: NDArray[np.float32]
    det_embeddings: NDArray[np.float32]
    embedding_width: int | None
    sanitised: tuple[str, ...]


def sample_features(state: AssignmentState, size: tuple[int, int], embed_dim: int) -> SampleFeatures:
    """All matrices of a frame.

    Args:
        state: the frame.
        size: `(H, W)` in pixels.
        embed_dim: E; narrower embeddings are padded with zeros, wider ones cut. Either are brought to length 1
            afterwards, so that products of rows stay cosines.
    """
    embeddings = (state.track_embeddings, state.detections.embedding)
    tracks, detections = _track_columns(state, size), _det_columns(state, size)
    track_embeddings = _fit_width(embeddings[0], len(tracks), embed_dim)
    det_embeddings = _fit_width(embeddings[1], len(detections), embed_dim)
    changed = {
        "track_features": _zero_non_finite(tracks),
        "det_features": _zero_non_finite(detections),
        "track_embeddings": _normalise(track_embeddings),
        "det_embeddings": _normalise(det_embeddings),
    }
    return SampleFeatures(
        tracks,
        detections,
        track_embeddings,
        det_embeddings,
        max((rows.shape[1] for rows in embeddings if rows is not None), default=None),
        tuple(name for name, had_non_finite in changed.items() if had_non_finite),
    )


def _track_columns(state: AssignmentState, size: tuple[int, int]) -> NDArray[np.float32]:
    height, width = size
    columns = np.empty((len(state.track_ids), len(SampleColumns.TRACKS)), np.float32)
    np.divide(state.track_boxes, _extents(height, width, 2), out=columns[:, :4])
    np.divide(state.track_velocity, _extents(height, width, 1), out=columns[:, 4:6])
    np.divide(state.track_age, AGE_UNIT, out=columns[:, 6], casting="same_kind")
    np.divide(state.track_gap, GAP_UNIT, out=columns[:, 7], casting="same_kind")
    columns[:, 8] = state.track_score
    columns[:, 9] = state.track_visibility
    return columns


def _det_columns(state: AssignmentState, size: tuple[int, int]) -> NDArray[np.float32]:
    height, width = size
    detections = state.detections
    columns = np.empty((len(detections), len(SampleColumns.DETECTIONS)), np.float32)
    np.divide(detections.xyxy, _extents(height, width, 2), out=columns[:, :4])
    columns[:, 4] = detections.score
    columns[:, 5] = 1.0 if detections.visibility is None else detections.visibility
    np.divide(state.det_displacement, _extents(height, width, 1), out=columns[:, 6:8])
    return columns


def _extents(height: int, width: int, points: int) -> NDArray[np.float32]:
    """`(2 · points,)` width and height by turns, to divide x and y coordinates by."""
    return np.array((width, height) * points, np.float32)


def _fit_width(rows: NDArray[np.float32] | None, count: int, width: int) -> NDArray[np.float32]:
    """`(count, width)` float32: a copy of the rows, padded with zeros or cut; zeros where there are no rows."""
    if rows is not None and rows.shape == (count, width):
        return rows.astype(np.float32)
    fitted = np.zeros((count, width), np.float32)
    if rows is not None:
        kept = min(rows.shape[1], width)
        fitted[:, :kept] = rows[:, :kept]
    return fitted


def _zero_non_finite(matrix: NDArray[np.float32]) -> bool:
    """Sets values that are not finite to 0 in place; returns whether there were any."""
    finite = np.isfinite(matrix)
    if finite.all():
        return False
    matrix[~finite] = 0
    return True


def _normalise(rows: NDArray[np.float32]) -> bool:
    """Brings rows to length 1 in place; rows with values that are not finite become 0. Returns whether there were any.

    Rows of zeros (an object without a descriptor) stay zeros.
    """
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    in_range = (lengths > _MIN_LENGTH) & (lengths < _MAX_LENGTH)
    if in_range.all():
        rows /= lengths[:, None]
        return False
    # Squares of float32 under- and overflow long before the values do, and NaN does not compare: lengths in float64.
    finite = np.isfinite(rows).all(axis=1)
    rows[~finite] = 0
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    rows /= np.where(lengths > 0, lengths, 1.0)[:, None]
    return not finite.all()
