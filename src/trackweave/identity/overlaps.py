"""What the masks of tracks say about each other: for every pair that ever met, how often and how far they overlap.

One pass over the frames of all levels. Masks stay packed; a pair whose boxes do not touch costs a comparison, any other
a count of bits. Memory holds one frame's masks, the pairs that met, and the runs of frames on which each track was
seen: it grows with the tracks, not with the frames.

The votes follow the view consensus of MaskClustering (Yan et al., CVPR 2024): each frame that shows two tracks is an
observer of both, and says whether they are the same, whether one lies in the other, or neither.

A track that was not seen for a while and is elsewhere afterwards may follow another thing from then on: it is kept
apart on which of its stretches without such a jump it agrees with another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import njit
from trackweave.ids import Level
from trackweave.masks.kernels import shared_pixels
from trackweave.structures.tracks import FrameObjects

LevelObjects = tuple[Level, FrameObjects]
"""The objects of one level on one frame."""

APART = 0.1
"""IoU below which two masks show different things."""
JUMP = 0.1
"""IoU of a track's box with the one before a gap, moved as the picture moved, below which the track has jumped."""
MOST_STRETCHES = 16
"""Of a track that jumps more often the rest is one stretch: memory does not grow with the frames."""
CROWD = 5
"""Tracks on two frames from which on their median motion is that of the picture."""
PENDING = 1 << 19
"""Pairs of single frames that are kept before they are summed up."""


@dataclass(frozen=True, eq=False)
class PairEvidence:
    """N tracks, and P pairs of them that met; pairs are rows `a < b` of the tracks, ascending.

    Attributes:
        track_id: `(N,)` int64, ascending.
        level: `(N,)` int64.
        frames: `(N,)` int64, on how many frames each was seen.
        area: `(N,)` float64, mean pixels of the stored mask.
        runs: `(R, 2)` int64, positions among the frames: first, and one behind the last, of each stretch on which a
            track was seen; those of one track together, ascending.
        first_run: `(N + 1,)` int64, where the runs of each track begin.
        a: `(P,)` int64.
        b: `(P,)` int64.
        seen: `(P,)` int64, frames that show both.
        same: `(P,)` float64, sum over them of the votes for one thing, each in [0, 1].
        apart: `(P,)` int64, how many of them say that they are two.
        inside_a: `(P,)` float64, sum over them of the share of a's pixels that lie in b.
        inside_b: `(P,)` float64, sum over them of the share of b's pixels that lie in a.
        carried: `(P,)` float64, the share of its frames that lie on stretches on which it agrees with the other, of
            that track of the two of which it is less; 1 of a track that has one stretch.
    """

    track_id: NDArray[np.int64]
    level: NDArray[np.int64]
    frames: NDArray[np.int64]
    area: NDArray[np.float64]
    runs: NDArray[np.int64]
    first_run: NDArray[np.int64]
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    seen: NDArray[np.int64]
    same: NDArray[np.float64]
    apart: NDArray[np.int64]
    inside_a: NDArray[np.float64]
    inside_b: NDArray[np.float64]
    carried: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.track_id)

    def seen_together(self, groups_a: Sequence[Any], groups_b: Sequence[Any]) -> NDArray[np.int64]:
        """`(K,)` frames that show both, summed over every pair of a track of one group with one of the other.

        Args:
            groups_a: K groups of rows.
            groups_b: as many.
        """
        flat_a, first_a = _flat(groups_a)
        flat_b, first_b = _flat(groups_b)
        return np.asarray(_common_frames(self.runs, self.first_run, flat_a, first_a, flat_b, first_b))


def _flat(groups: Sequence[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first = np.zeros(len(groups) + 1, np.int64)
    np.cumsum([len(group) for group in groups], out=first[1:])
    flat = np.concatenate([np.asarray(group, np.int64) for group in groups]) if groups else np.zeros(0, np.int64)
    return flat, first


@dataclass
class _Track:
    """One track, so far as it was seen."""

    level: int
    frames: int = 0
    pixels: int = 0
    runs: list[list[int]] = field(default_factory=list)
    stretches: list[int] = field(default_factory=list)
    box: NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))

    def add(self, position: int, area: int) -> bool:
        """Adds a frame; False where the track was on it already."""
        if self.runs and self.runs[-1][1] == position + 1:
            return False
        self.frames += 1
        self.pixels += area
        if self.runs and self.runs[-1][1] == position:
            self.runs[-1][1] = position + 1
        else:
            self.runs.append([position, position + 1])
        return True


def gather(frames: Iterable[Sequence[LevelObjects]], merge_iou: float = 0.5) -> PairEvidence:
    """Goes once over the frames of all levels.

    Args:
        frames: of each frame the objects of every level; empty masks do not count.
        merge_iou: IoU of masks of one size at which a frame is undecided whether they are the same thing's: its vote
            goes from 0 at half of that to 1 half-way between it and 1.

    Raises:
        ValueError: a track in two levels or twice on a frame, or masks of different sizes.
    """
    tracks: dict[int, _Track] = {}
    sums, stretches = _PairSums(merge_iou), _Stretches()
    size: tuple[int, int] | None = None
    for position, levels in enumerate(frames):
        present = [(level, objects) for level, objects in levels if len(objects)]
        for level, objects in present:
            if size is not None and objects.masks.size != size:
                raise ValueError(f"frame {objects.frame}: masks of {objects.masks.size} beside {size}")
            size = objects.masks.size
            for track_id, area in zip(objects.track_id.tolist(), objects.masks.areas.tolist(), strict=True):
                track = tracks.setdefault(track_id, _Track(int(level)))
                if track.level != level or not track.add(position, area):
                    raise ValueError(f"frame {objects.frame}: track {track_id} occurs twice")
        if present:
            sums.add([objects for _, objects in present], stretches.add(position, present, tracks))
    return _evidence(tracks, sums, stretches)


class _Stretches:
    """Numbers the stretches of tracks, each up to a gap behind which the track is elsewhere.

    Without a gap no track jumps: fast things do from frame to frame.

    Attributes:
        owner: the track of each stretch.
        frames: on how many frames it was seen on it.
    """

    def __init__(self) -> None:
        self.owner: list[int] = []
        self.frames: list[int] = []
        self._moved = np.zeros(2)

    def add(self, position: int, present: Sequence[LevelObjects], tracks: Mapping[int, _Track]) -> NDArray[np.int64]:
        """The stretch of each object of a frame, all levels one after the other."""
        ids = [track_id for _, objects in present for track_id in objects.track_id.tolist()]
        boxes = np.concatenate([objects.masks.boxes for _, objects in present]).astype(np.float64)
        seen = [tracks[track_id] for track_id in ids]
        before = np.stack([track.box for track in seen])
        # Boxes are kept as if the picture had never moved.
        goes_on = np.array([track.runs[-1][1] - track.runs[-1][0] > 1 for track in seen])
        if goes_on.sum() >= CROWD:
            steps = (boxes - np.tile(self._moved, 2) - before)[goes_on].reshape(-1, 2, 2).mean(axis=1)
            self._moved = self._moved + np.median(steps, axis=0)
        boxes = boxes - np.tile(self._moved, 2)
        jumps = ~goes_on & (_box_overlap(before, boxes) < JUMP)
        for track_id, track, box, jumped in zip(ids, seen, boxes, jumps.tolist(), strict=True):
            if not track.stretches or (jumped and len(track.stretches) < MOST_STRETCHES):
                track.stretches.append(len(self.owner))
                self.owner.append(track_id)
                self.frames.append(0)
            self.frames[track.stretches[-1]] += 1
            track.box = box
        return np.array([track.stretches[-1] for track in seen], np.int64)


def _box_overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(N,)` IoU of N boxes with N others."""
    sides = np.clip(np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2]), 0, None)
    shared = sides.prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, other)]
    return np.asarray(shared / np.maximum(areas[0] + areas[1] - shared, 1e-9))


def _evidence(tracks: dict[int, _Track], sums: _PairSums, stretches: _Stretches) -> PairEvidence:
    ids = np.array(sorted(tracks), np.int64)
    ordered = [tracks[track_id] for track_id in ids.tolist()]
    runs = np.array([run for track in ordered for run in track.runs], np.int64).reshape(-1, 2)
    first_run = np.cumsum([0, *(len(track.runs) for track in ordered)], dtype=np.int64)
    frames = np.array([track.frames for track in ordered], np.int64)
    stretch_pairs, stretch_values = sums.total()
    owners = np.searchsorted(ids, np.array(stretches.owner, np.int64))[stretch_pairs]
    pairs, which = np.unique(owners, axis=0, return_inverse=True)
    which = which.reshape(-1)
    values = np.stack([np.bincount(which, column, len(pairs)) for column in stretch_values.T], axis=1)
    a, b = np.ascontiguousarray(pairs.T)  # rows of their own: the loops below are compiled for such
    each = np.arange(len(a) + 1)
    seen = np.asarray(_common_frames(runs, first_run, a, each, b, each))
    same, inside_a, inside_b, together, _ = values.T
    length = np.array(stretches.frames, np.int64)
    jumps = np.array([len(track.stretches) > 1 for track in ordered], np.bool_)
    carried = [
        np.where(
            jumps[pairs[:, end]],
            _carried(stretch_pairs[:, end], which, stretch_values, length, len(pairs)) / frames[pairs[:, end]],
            1.0,
        )
        for end in (0, 1)
    ]
    return PairEvidence(
        ids,
        np.array([track.level for track in ordered], np.int64),
        frames,
        np.array([track.pixels / track.frames for track in ordered], np.float64),
        runs,
        first_run,
        a,
        b,
        seen,
        same,
        seen - np.rint(together).astype(np.int64),
        inside_a,
        inside_b,
        np.minimum(*carried),
    )


def _carried(
    stretch: NDArray[np.int64],
    pair: NDArray[np.int64],
    values: NDArray[np.float64],
    length: NDArray[np.int64],
    count: int,
) -> NDArray[np.int64]:
    """`(P,)` frames of one track of each pair on those of its stretches on which most votes are for one thing.

    Args:
        stretch: `(S,)` the stretch of that track, of every two stretches that met.
        pair: `(S,)` the pair of tracks that they belong to.
        values: `(S, 5)` sums over their frames: votes first, frames on which they met last.
        length: frames of each stretch.
        count: P.
    """
    keys, which = np.unique(np.stack([pair, stretch], axis=1), axis=0, return_inverse=True)
    which = which.reshape(-1)
    votes, met = (np.bincount(which, values[:, column], len(keys)) for column in (0, 4))
    agrees = votes >= met / 2
    return np.bincount(keys[agrees, 0], length[keys[agrees, 1]], count).astype(np.int64)


class _PairSums:
    """Sums over frames, by pair of stretches; those of single frames wait until there are many of them."""

    def __init__(self, merge_iou: float) -> None:
        self._vote_at = (merge_iou / 2, merge_iou, (1 + merge_iou) / 2)
        self._pairs = [np.zeros((0, 2), np.int64)]
        self._values = [np.zeros((0, 5))]
        self._pending = 0

    def add(self, present: Sequence[FrameObjects], stretches: NDArray[np.int64]) -> None:
        """Adds one frame: votes, shares of a in b and of b in a, whether they are not apart, and that they met.

        Args:
            present: the objects of all levels.
            stretches: the stretch of each, see `_Stretches`.
        """
        masks = [objects.masks for objects in present]
        ids = np.concatenate([objects.track_id for objects in present])
        areas = np.concatenate([one.areas for one in masks])
        words, boxes = np.concatenate([one.words for one in masks]), np.concatenate([one.boxes for one in masks])
        a, b, shared = _overlapping_pairs(words, boxes, np.argsort(boxes[:, 0], kind="stable"), masks[0].width)
        swap = ids[a] > ids[b]
        a, b = np.where(swap, b, a), np.where(swap, a, b)
        iou = shared / (areas[a] + areas[b] - shared)
        # One inside the other is less of a likeness than two that share as much and each have pixels of their own: half
        # of what counts is the IoU that two masks of the larger one's size would have.
        share = shared / np.maximum(areas[a], areas[b])
        vote = np.interp((iou + share / (2 - share)) / 2, self._vote_at, [0.0, 0.5, 1.0])
        self._pairs.append(np.stack([stretches[a], stretches[b]], axis=1))
        columns = [vote, shared / areas[a], shared / areas[b], iou >= APART, np.ones(len(a))]
        self._values.append(np.stack(columns, axis=1))
        self._pending += len(a)
        if self._pending > max(PENDING, 2 * len(self._pairs[0])):
            self.total()

    def total(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """`(S, 2)` pairs of stretches, ascending, and `(S, 5)` sums."""
        pairs, values = np.concatenate(self._pairs), np.concatenate(self._values)
        order = np.lexsort((pairs[:, 1], pairs[:, 0]))  # stable: the frames of a pair stay in their order
        pairs, values = pairs[order], values[order]
        if len(pairs):
            starts = np.flatnonzero(np.r_[True, np.any(pairs[1:] != pairs[:-1], axis=1)])
            pairs, values = pairs[starts], np.add.reduceat(values, starts, axis=0)
        self._pairs, self._values, self._pending = [pairs], [values], 0
        return pairs, values


@njit(nogil=True)
def _overlapping_pairs(
    words: NDArray[np.uint64], boxes: NDArray[np.int32], order: NDArray[np.int64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of every two masks that share a pixel, and how many they share; `order` is that of their left sides."""
    most = 0
    for n in range(len(order)):
        for m in range(n + 1, len(order)):
            if boxes[order[m], 0] >= boxes[order[n], 2]:
                break
            most += 1
    a, b, shared = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    count = 0
    for n in range(len(order)):
        i = order[n]
        for m in range(n + 1, len(order)):
            j = order[m]
            if boxes[j, 0] >= boxes[i, 2]:
                break
            pixels = shared_pixels(words[i], boxes[i], words[j], boxes[j], width)
            if pixels:
                a[count], b[count], shared[count] = i, j, pixels
                count += 1
    return a[:count], b[:count], shared[:count]


@njit(nogil=True)
def _common_frames(
    runs: NDArray[np.int64],
    first_run: NDArray[np.int64],
    flat_a: NDArray[np.int64],
    first_a: NDArray[np.int64],
    flat_b: NDArray[np.int64],
    first_b: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Frames that show both, summed over every pair of a track of one group with one of the other."""
    out = np.zeros(len(first_a) - 1, np.int64)
    for k in range(len(out)):
        for n in range(first_a[k], first_a[k + 1]):
            for m in range(first_b[k], first_b[k + 1]):
                i, end_i = first_run[flat_a[n]], first_run[flat_a[n] + 1]
                j, end_j = first_run[flat_b[m]], first_run[flat_b[m] + 1]
                while i < end_i and j < end_j:
                    start, stop = max(runs[i, 0], runs[j, 0]), min(runs[i, 1], runs[j, 1])
                    if stop > start:
                        out[k] += stop - start
                    if runs[i, 1] <= runs[j, 1]:
                        i += 1
                    else:
                        j += 1
    return out
