"""What learned association sees of a frame: the feature matrices, the same when logging and when judging.

Columns are those of the specification of association data collection, section 3. A change of any column's meaning
needs a new `FEATURE_VERSION`: a model only understands the version that it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackweave.storage.samples import DET_COLUMNS, TRACK_COLUMNS
from trackweave.structures.assignment import AssignmentState

FEATURE_VERSION = 1
AGE_UNIT = 100.0
GAP_UNIT = 50.0
_SHORTEST, _LONGEST = 1e-10, 1e15  # between them float32 squares are exact enough


@dataclass(frozen=True, eq=False)
class FrameFeatures:
    """One frame's matrices: T tracks, D detections, embeddings of width E; finite everywhere.

    Attributes:
        tracks: `(T, 10)` float32.
        detections: `(D, 8)` float32.
        track_embeddings: `(T, E)` float32, rows of length 1 or 0.
        det_embeddings: `(D, E)` float32, rows of length 1 or 0.
        width: of the embeddings as they were given; None when there were none.
        mended: names of the matrices in which values that were not finite became 0.
    """

    tracks: NDArray[np.float32]
    detections: NDArray[np.float32]
    track_embeddings: NDArray[np.float32]
    det_embeddings: NDArray[np.float32]
    width: int | None
    mended: tuple[str, ...]


def frame_features(state: AssignmentState, size: tuple[int, int], embed_dim: int) -> FrameFeatures:
    """All matrices of a frame.

    Args:
        state: the frame.
        size: `(H, W)` in pixels.
        embed_dim: E; narrower embeddings are padded with zeros, wider ones cut.
    """
    given = (state.track_embeddings, state.detections.embedding)
    tracks, detections = _track_columns(state, size), _det_columns(state, size)
    track_embeddings = _fit(given[0], len(tracks), embed_dim)
    det_embeddings = _fit(given[1], len(detections), embed_dim)
    mended = {
        "track_features": _mend(tracks),
        "det_features": _mend(detections),
        "track_embeddings": _normalise(track_embeddings),
        "det_embeddings": _normalise(det_embeddings),
    }
    return FrameFeatures(
        tracks,
        detections,
        track_embeddings,
        det_embeddings,
        max((rows.shape[1] for rows in given if rows is not None), default=None),
        tuple(name for name, was_mended in mended.items() if was_mended),
    )


def track_features(state: AssignmentState, size: tuple[int, int]) -> NDArray[np.float32]:
    """`(T, 10)` float32: predicted box x1/W, y1/H, x2/W, y2/H, velocity vx/W, vy/H per frame, age/100, gap/50, score,
    visibility. Values that are not finite become 0.

    Args:
        state: the frame.
        size: `(H, W)` in pixels.
    """
    columns = _track_columns(state, size)
    _mend(columns)
    return columns


def det_features(state: AssignmentState, size: tuple[int, int]) -> NDArray[np.float32]:
    """`(D, 8)` float32: box x1/W, y1/H, x2/W, y2/H, score, visibility (1 where nobody told), displacement vx/W, vy/H.
    Values that are not finite become 0.

    Args:
        state: the frame.
        size: `(H, W)` in pixels.
    """
    columns = _det_columns(state, size)
    _mend(columns)
    return columns


def fit_embeddings(rows: NDArray[np.float32] | None, count: int, width: int) -> NDArray[np.float32]:
    """`(count, width)` float32 embeddings: padded with zeros or cut to the width, then brought to length 1.

    A row that was cut is normalised again, so that products of rows stay cosines. Rows of zeros (not described) and
    rows with values that are not finite are zeros.

    >>> fit_embeddings(np.array([[3, 4, 12], [0, 0, 0]], np.float32), 2, 2).tolist()
    [[0.6..., 0.8...], [0.0, 0.0]]
    """
    fitted = _fit(rows, count, width)
    _normalise(fitted)
    return fitted


def _track_columns(state: AssignmentState, size: tuple[int, int]) -> NDArray[np.float32]:
    height, width = size
    columns = np.empty((len(state.track_ids), len(TRACK_COLUMNS)), np.float32)
    np.divide(state.track_boxes, _extents(height, width, 2), out=columns[:, :4])
    np.divide(state.track_velocity, _extents(height, width, 1), out=columns[:, 4:6])
    np.divide(state.track_age, AGE_UNIT, out=columns[:, 6], casting="same_kind")
    np.divide(state.track_gap, GAP_UNIT, out=columns[:, 7], casting="same_kind")
    columns[:, 8] = state.track_score
    columns[:, 9] = state.track_visibility
    return columns


def _det_columns(state: AssignmentState, size: tuple[int, int]) -> NDArray[np.float32]:
    height, width = size
    seen = state.detections
    columns = np.empty((len(seen), len(DET_COLUMNS)), np.float32)
    np.divide(seen.xyxy, _extents(height, width, 2), out=columns[:, :4])
    columns[:, 4] = seen.score
    columns[:, 5] = 1.0 if seen.visibility is None else seen.visibility
    np.divide(state.det_displacement, _extents(height, width, 1), out=columns[:, 6:8])
    return columns


def _extents(height: int, width: int, points: int) -> NDArray[np.float32]:
    return np.array((width, height) * points, np.float32)


def _fit(rows: NDArray[np.float32] | None, count: int, width: int) -> NDArray[np.float32]:
    """A copy of the rows, as wide as asked for."""
    if rows is not None and rows.shape == (count, width):
        return rows.astype(np.float32)
    fitted = np.zeros((count, width), np.float32)
    if rows is not None:
        kept = min(rows.shape[1], width)
        fitted[:, :kept] = rows[:, :kept]
    return fitted


def _mend(matrix: NDArray[np.float32]) -> bool:
    """Zeroes values that are not finite; returns whether there were any."""
    finite = np.isfinite(matrix)
    if finite.all():
        return False
    matrix[~finite] = 0
    return True


def _normalise(rows: NDArray[np.float32]) -> bool:
    """Brings rows to length 1 in place, zeroes those that are not finite; returns whether there were any."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    usual = (lengths > _SHORTEST) & (lengths < _LONGEST)
    if usual.all():
        rows /= lengths[:, None]
        return False
    # Squares of float32 under- and overflow long before the values do, and NaN is not comparable: the careful way.
    finite = np.isfinite(rows).all(axis=1)
    rows[~finite] = 0
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    rows /= np.where(lengths > 0, lengths, 1.0)[:, None]
    return not finite.all()
