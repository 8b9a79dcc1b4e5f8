"""`DetectorMatches`: detections of a sequence beside its truth, as columns: what errors are measured on."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackweave.association.ground_truth import MIN_IOU
from trackweave.association.simulation.occlusion import sightings
from trackweave.boxes.convert import box_iou
from trackweave.formats.detections_table import DetectionTable
from trackweave.formats.motchallenge import GroundTruth

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DetectorMatches:
    """N true boxes that count, ordered by frame, and M detections that match none.

    Attributes:
        frame, track_id: `(N,)` int64.
        truth: `(N, 4)` float64 xyxy.
        visible: `(N,)` float64 share.
        extent: `(N, 4)` float64 xyxy around what is visible.
        hider: `(N,)` int64 row of the object that hides most, −1 = none, or one that does not count.
        found: `(N,)` bool.
        boxes: `(N, 4)` float64 xyxy of the detection; zeros where there is none.
        score: `(N,)` float64; 0 where there is none.
        false_frame: `(M,)` int64.
        false_boxes: `(M, 4)` float64 xyxy.
        false_score: `(M,)` float64.
        false_overlap: `(M,)` float64 IoU with the nearest true box.
        false_near: `(M,)` int64 row of that box, −1 = none that counts.
        closest: `(frames,)` float64, largest IoU of two detections of one frame.
    """

    frame: Ints
    track_id: Ints
    truth: Floats
    visible: Floats
    extent: Floats
    hider: Ints
    found: NDArray[np.bool_]
    boxes: Floats
    score: Floats
    false_frame: Ints
    false_boxes: Floats
    false_score: Floats
    false_overlap: Floats
    false_near: Ints
    closest: Floats


def match_detector(detections: DetectionTable, truth: GroundTruth) -> DetectorMatches:
    """Matches each frame's detections and true boxes one to one at IoU 0.5; what matches a box that does not count is
    left out.

    How much is visible is taken from the truth when it says so, else worked out: what stands lower is nearer.
    """
    parts = []
    start = 0
    told = len(np.unique(truth.visibility)) > 1
    for frame in np.union1d(np.unique(truth.frame), detections.frames).tolist():
        part = _frame(frame, detections, truth.at(frame), told=told, start=start)
        start += len(part.frame)
        parts.append(part)
    if not parts:
        parts = [_frame(0, detections, truth.at(0), told=told, start=0)]
    return DetectorMatches(
        *(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(DetectorMatches))
    )


def _frame(frame: int, detections: DetectionTable, truth: GroundTruth, *, told: bool, start: int) -> DetectorMatches:
    given = detections.at(frame)
    boxes, true = given.xyxy.astype(np.float64), truth.xyxy.astype(np.float64)
    overlap = box_iou(true, boxes) if len(true) and len(boxes) else np.zeros((len(true), len(boxes)))
    rows, columns = linear_sum_assignment(np.where(overlap >= MIN_IOU, overlap, 0.0), maximize=True)
    good = overlap[rows, columns] >= MIN_IOU
    match = np.full(len(true), -1)
    match[rows[good]] = columns[good]
    seen = _sightings(true)
    counts = truth.counts & (truth.track_id >= 0)
    place = np.where(counts, start + np.cumsum(counts) - 1, -1)
    hider = np.where(seen[2] >= 0, place[seen[2]] if len(true) else -1, -1)
    spare = np.setdiff1d(np.arange(len(boxes)), match)
    best = overlap[:, spare].argmax(axis=0) if len(true) and len(spare) else np.full(len(spare), -1)
    among = box_iou(boxes, boxes) if len(boxes) > 1 else np.zeros((1, 1))
    np.fill_diagonal(among, 0.0)
    matched = match[counts]
    at = np.maximum(matched, 0)
    found = matched >= 0
    n = len(found)
    return DetectorMatches(
        np.full(n, frame, np.int64),
        truth.track_id[counts],
        true[counts],
        truth.visibility[counts].astype(np.float64) if told else seen[0][counts],
        seen[1][counts],
        hider[counts].astype(np.int64),
        found,
        np.where(found[:, None], boxes[at], 0.0) if len(boxes) else np.zeros((n, 4)),
        np.where(found, given.score[at], 0.0).astype(np.float64) if len(boxes) else np.zeros(n),
        np.full(len(spare), frame, np.int64),
        boxes[spare],
        given.score[spare].astype(np.float64),
        overlap[best, spare] if len(true) else np.zeros(len(spare)),
        (place[best] if len(true) else best).astype(np.int64),
        np.array([among.max()]),
    )


def _sightings(true: Floats) -> tuple[Floats, Floats, Ints]:
    """Visible shares, what is visible and hiders of one frame's boxes, by their lower edges."""
    if not len(true):
        return np.zeros(0), np.zeros((0, 4)), np.zeros(0, np.int64)
    everywhere = (1 << 30, 1 << 30)
    low = true[:, :2].min(axis=0)
    moved = true - np.tile(low, 2)
    n = len(true)
    seen = sightings(moved[None], -moved[None, :, 3], np.ones((1, n), np.bool_), np.zeros(n, np.bool_), everywhere)
    return seen.visible[0].astype(np.float64), seen.extent[0] + np.tile(low, 2), seen.hider[0]
