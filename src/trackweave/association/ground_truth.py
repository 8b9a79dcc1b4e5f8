"""Which true identity each detection shows: honest labels for samples of videos whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackweave.boxes.convert import box_iou
from trackweave.formats.motchallenge import GroundTruth

NOBODY = -1
MIN_IOU = 0.5
"""Overlap from which a detection shows an object, as in MOTChallenge's evaluation (arXiv 1603.00831, section 4)."""


def gt_track_ids(
    xyxy: NDArray[Any], truth: GroundTruth, *, class_id: NDArray[Any] | None = None, min_iou: float = MIN_IOU
) -> NDArray[np.int64]:
    """The identity that each detection of one frame shows.

    Detections and true boxes are matched one to one with the largest sum of IoU, as TrackEval does. Boxes that the
    benchmark does not score (ignore regions, distractors, other classes) take part, so that a detection of a
    distractor is not given to the person beside it, but they give no identity.

    Args:
        xyxy: `(D, 4)` detections, pixels.
        truth: the true boxes of the same frame.
        class_id: `(D,)` classes as the truth numbers them: a detection of another class than its box's shows nobody
            that was asked for. −1 on either side = not said. None: classes are not compared.
        min_iou: least overlap of a pair, above 0.

    Returns:
        `(D,)` int64, −1 = no identity.

    >>> truth = GroundTruth(np.zeros(1, int), np.array([7]), np.array([[0, 0, 4, 8]], np.float32), np.array([True]),
    ...     np.array([1]), np.ones(1, np.float32))
    >>> gt_track_ids(np.array([[20, 0, 24, 8], [0, 1, 4, 8]]), truth).tolist()
    [-1, 7]
    """
    found = np.full(len(xyxy), NOBODY, np.int64)
    if not len(xyxy) or not len(truth):
        return found
    overlap = box_iou(xyxy, truth.xyxy)
    rows, columns = linear_sum_assignment(np.where(overlap >= min_iou, overlap, 0.0), maximize=True)
    good = (overlap[rows, columns] >= min_iou) & truth.counts[columns] & (truth.track_id[columns] >= 0)
    if class_id is not None:
        said, true = np.asarray(class_id)[rows], truth.class_id[columns]
        good &= (said == true) | (said < 0) | (true < 0)
    found[rows[good]] = truth.track_id[columns[good]]
    return found
