"""How well tracks follow the objects of ground-truth label maps, whatever their classes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.formats.davis import VOID
from trackweave.ids import FrameIndex
from trackweave.masks.ops import mask_iou, rescale_masks
from trackweave.masks.packed import PackedMasks
from trackweave.structures.tracks import FrameObjects

Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ObjectMatch:
    """One object of the ground truth and the track that is assigned to it.

    Attributes:
        label: the object's label in the ground truth.
        track_id: the track assigned to it; None when no track overlaps it, or those that do are assigned to others.
        j_mean: mean IoU of the two over the annotated frames where either is visible.
        recall: share of the object's frames where the IoU is above 0.5.
        fragments: how many tracks cover the object, in turns, with an IoU above 0.5: 1 is a whole identity.
        frames: annotated frames where the object is visible.
    """

    label: int
    track_id: int | None
    j_mean: float
    recall: float
    fragments: int
    frames: int


@dataclass(frozen=True)
class TrackScores:
    """Matches of all objects of a sequence, by label."""

    objects: tuple[ObjectMatch, ...]

    @property
    def j_mean(self) -> float:
        """Mean over objects; NaN without objects."""
        return float(np.mean([match.j_mean for match in self.objects])) if self.objects else math.nan

    @property
    def recall(self) -> float:
        """Share of objects whose `j_mean` is above 0.5; NaN without objects."""
        return float(np.mean([match.j_mean > 0.5 for match in self.objects])) if self.objects else math.nan


def best_track_per_object(truth: Mapping[FrameIndex, Labels], predicted: Iterable[FrameObjects]) -> TrackScores:
    """Assigns at most one track to each object, so that the sum of their mean IoUs is largest (Hungarian method).

    Args:
        truth: label map `(H, W)` per annotated frame; 0 is background, 255 void unless a label of any frame is larger.
        predicted: tracked objects frame by frame, masks at any scale; frames without annotation are skipped. Masks may
            overlap.
    """
    from scipy.optimize import linear_sum_assignment

    has_void = all(labels.max(initial=0) <= VOID for labels in truth.values())
    overlaps, remaining = _OverlapSums((0, VOID) if has_void else (0,)), dict(truth)
    for frame in predicted:
        labels = remaining.pop(frame.frame, None)
        if labels is not None:
            overlaps.add(labels, frame)
    for labels in remaining.values():  # annotated, but nothing was tracked there
        overlaps.add(labels, None)
    objects, tracks = sorted(overlaps.object_frames), sorted(overlaps.track_frames)
    means = np.array([[overlaps.j_mean(label, track_id) for track_id in tracks] for label in objects])
    rows, columns = linear_sum_assignment(means.reshape(len(objects), len(tracks)), maximize=True)
    assigned = {
        objects[row]: tracks[column]
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if means[row, column] > 0
    }
    return TrackScores(tuple(overlaps.match(label, assigned.get(label)) for label in objects))


class _OverlapSums:
    """IoUs of objects and tracks, summed frame by frame; a pair is `(label, track_id)`.

    Args:
        no_objects: labels that are no object.
    """

    def __init__(self, no_objects: tuple[int, ...]) -> None:
        self._no_objects = no_objects
        self.object_frames: dict[int, int] = defaultdict(int)
        self.track_frames: dict[int, int] = defaultdict(int)
        self.shared_frames: dict[tuple[int, int], int] = defaultdict(int)
        self.iou_sum: dict[tuple[int, int], float] = defaultdict(float)
        self.hits: dict[tuple[int, int], int] = defaultdict(int)
        self.best_tracks: dict[int, set[int]] = defaultdict(set)

    def add(self, labels: Labels, objects: FrameObjects | None) -> None:
        """One annotated frame and the objects that were tracked on it."""
        present = [int(label) for label in np.unique(labels) if label not in self._no_objects]
        for label in present:
            self.object_frames[label] += 1
        if objects is None or not len(objects):
            return
        ids = objects.track_id.tolist()
        for track_id in ids:
            self.track_frames[track_id] += 1
        if not present:
            return
        truth = PackedMasks.from_bool(np.stack([labels == label for label in present]))
        ious = mask_iou(truth, rescale_masks(objects.masks, *truth.size))
        for row, label in enumerate(present):
            for column, track_id in enumerate(ids):
                self.shared_frames[label, track_id] += 1
                self.iou_sum[label, track_id] += float(ious[row, column])
                self.hits[label, track_id] += bool(ious[row, column] > 0.5)
            if ious[row].max() > 0.5:
                self.best_tracks[label].add(ids[int(ious[row].argmax())])

    def j_mean(self, label: int, track_id: int) -> float:
        """Mean IoU over the frames where either is visible."""
        pair = (label, track_id)
        either = self.object_frames[label] + self.track_frames[track_id] - self.shared_frames.get(pair, 0)
        return self.iou_sum.get(pair, 0.0) / either

    def match(self, label: int, track_id: int | None) -> ObjectMatch:
        frames, fragments = self.object_frames[label], len(self.best_tracks[label])
        if track_id is None:
            return ObjectMatch(label, None, 0.0, 0.0, fragments, frames)
        recall = self.hits[label, track_id] / frames
        return ObjectMatch(label, track_id, self.j_mean(label, track_id), recall, fragments, frames)
