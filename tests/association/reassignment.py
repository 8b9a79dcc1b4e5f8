"""Reassignment of a logged sample: the assignment that its stored costs and gates alone give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackweave.storage.samples import AssociationSample

UNMATCHED = -1


def reassign(
    sample: AssociationSample, *, stage: NDArray[np.int64] | None = None, unmatched_cost: float | None = None
) -> NDArray[np.int64]:
    """`(D,)` int64: the track of each detection by the stored `cost_matrix` and `mask_matrix`; −1 = none.

    The one-to-one assignment of allowed pairs that matches as many detections as possible, and among those the one of
    least cost; with `unmatched_cost`, the one of least cost where a pair that is left out has that price. It agrees
    with the tracker's `assigned_track_ids` on the detections that went to an *active* track (`sample.matched`), as far
    as the tracker's decision is a pure assignment of this matrix:

    - Trackers differ in their objective. `Tracker` scales its costs so that a pair left out costs 1: pass
      `unmatched_cost=1`.
    - A tracker of two stages serves confident detections first and gives the tracks that are left to the others: pass
      `stage`.
    - The matrix is the classical cost; with a learned blend the tracker decided by another one.
    - A detection that began a track is −1 here: the track is not among `track_ids`.
    - Where two assignments cost the same, either is right: compare `assignment_cost`.

    Args:
        sample: the sample.
        stage: `(D,)` int64; detections of a lower stage are assigned before those of a higher one. None = all at once.
        unmatched_cost: what it costs to leave a track and a detection without each other; pairs that are not cheaper
            are not matched. None = more than any match.
    """
    assigned = np.full(sample.detection_count, UNMATCHED, np.int64)
    if stage is None:
        stage = np.zeros(sample.detection_count, np.int64)
    free = np.arange(len(sample.track_ids))
    for number in np.unique(stage):
        columns = np.flatnonzero(stage == number)
        block = np.ix_(free, columns)
        rows, chosen = _assign(sample.cost_matrix[block], sample.mask_matrix[block] > 0, unmatched_cost)
        assigned[columns[chosen]] = sample.track_ids[free[rows]]
        free = np.delete(free, rows)
    return assigned


def assignment_cost(sample: AssociationSample, assigned: NDArray[np.int64]) -> float:
    """Sum of the stored costs over the pairs of an assignment; detections without an active track cost nothing.

    Args:
        sample: the sample.
        assigned: `(D,)` int64 track ids, such as `sample.assigned_track_ids` or what `reassign` gives.
    """
    track, detection = np.nonzero(sample.track_ids[:, None] == assigned[None, :])
    return float(sample.cost_matrix[track, detection].astype(np.float64).sum())


def _assign(
    cost: NDArray[np.float32], allowed: NDArray[np.bool_], unmatched_cost: float | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the assignment; without a price, one forbidden pair costs more than all allowed together."""
    exact = cost.astype(np.float64)
    if unmatched_cost is None:
        span = float(np.abs(exact[allowed]).max(initial=0.0)) + 1.0
        forbidden = 2.0 * span * (min(cost.shape) + 1)
    else:
        forbidden = unmatched_cost
        allowed = allowed & (exact < unmatched_cost)
    rows, columns = linear_sum_assignment(np.where(allowed, exact, forbidden))
    kept = allowed[rows, columns]
    return rows[kept], columns[kept]
