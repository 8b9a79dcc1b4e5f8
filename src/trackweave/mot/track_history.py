"""`TrackHistory`: the last matched boxes of every track, and straight `Segment`s fitted to them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import centred_iou
from trackweave.compiled import njit
from trackweave.structures.assignment import AssignmentState

COLUMNS = 5  # frame, centre x, centre y, width, height
APPEARANCE_RATE = 0.25  # of the running mean: after eight frames nine tenths are new
NEVER = -(2**40)


class Segment(NamedTuple):
    """A piece of a track as a straight line, fitted to the boxes that it was matched with.

    Positions are pixels with the camera's motion taken out, velocities pixels per frame.

    Attributes:
        first, last: frames of the first and last box.
        x, y: centre at `middle`.
        vx, vy: velocity of the centre.
        middle: mean frame of the boxes.
        height, width: logarithms, mean.
        boxes: how many.
        appearance: unit vector, or None.
    """

    first: float
    last: float
    x: float
    y: float
    vx: float
    vy: float
    middle: float
    height: float
    width: float
    boxes: int
    appearance: NDArray[np.float32] | None = None

    def at(self, frame: float) -> tuple[float, float]:
        """Centre, extrapolated to a frame."""
        return self.x + self.vx * (frame - self.middle), self.y + self.vy * (frame - self.middle)

    def overlap(self, other: Segment) -> float:
        """IoU of the mean boxes."""
        width, height = math.exp(self.width), math.exp(self.height)
        return centred_iou(
            self.x - other.x, self.y - other.y, width, height, math.exp(other.width), math.exp(other.height)
        )

    @property
    def size(self) -> float:
        """Root of the area, pixels."""
        return math.exp(0.5 * (self.height + self.width))


class TrackHistory:
    """Ring buffers of the last matched boxes of every track; one that is not matched any more is forgotten in time.

    Memory: `length` boxes per track that was matched within the last `keep` frames.

    Args:
        length: boxes kept per track.
        keep: frames for which an unmatched track is remembered.
    """

    def __init__(self, length: int, keep: int) -> None:
        self.length = length
        self.keep = keep
        self.reset()

    def reset(self) -> None:
        """Forgets everything."""
        self.slot_of: dict[int, int] = {}
        self.ids: NDArray[np.int64] = np.full(16, -1, np.int64)
        self.last: NDArray[np.int64] = np.full(16, NEVER, np.int64)
        self.count: NDArray[np.int64] = np.zeros(16, np.int64)
        self.rings: NDArray[np.float64] = np.zeros((16, self.length, COLUMNS))
        self._free = list(range(16))
        self._appearance: NDArray[np.float32] = np.zeros((16, 0), np.float32)
        self._camera = np.zeros(2)

    def __len__(self) -> int:
        return len(self.slot_of)

    def __contains__(self, track: int) -> bool:
        return track in self.slot_of

    def add(self, state: AssignmentState, matched: NDArray[np.int64]) -> None:
        """Takes the frame's matched detections (their rows)."""
        detections = state.detections
        ids = state.assigned_track_ids[matched].tolist()
        for track in ids:
            if track not in self.slot_of:
                self._take_slot(track)
        slots = np.array([self.slot_of[track] for track in ids], np.int64)
        boxes, moved = detections.xyxy[matched], state.det_displacement[matched]
        _record(self.rings, self.count, self.last, self._camera, slots, boxes, moved, int(state.frame))
        if detections.embedding is not None and len(slots):
            self._add_appearance(slots, np.ascontiguousarray(detections.embedding[matched], np.float32))

    def _take_slot(self, track: int) -> None:
        if not self._free:
            size = len(self.ids)
            self._free = list(range(size, 2 * size))
            self.ids = np.concatenate([self.ids, np.full(size, -1, np.int64)])
            self.last = np.concatenate([self.last, np.full(size, NEVER, np.int64)])
            self.count = np.concatenate([self.count, np.zeros(size, np.int64)])
            self.rings = np.concatenate([self.rings, np.zeros_like(self.rings)])
        slot = self._free.pop()
        self.slot_of[track] = slot
        self.ids[slot], self.last[slot], self.count[slot] = track, NEVER, 0

    def _add_appearance(self, slots: NDArray[np.int64], embeddings: NDArray[np.float32]) -> None:
        """Running means of the normalised rows; a row of zeros says nothing, another width begins anew."""
        if self._appearance.shape != (len(self.ids), embeddings.shape[1]):
            grown = np.zeros((len(self.ids), embeddings.shape[1]), np.float32)
            if self._appearance.shape[1] == grown.shape[1]:
                grown[: len(self._appearance)] = self._appearance
            self._appearance = grown
        _blend(self._appearance, slots, embeddings)

    def forget(self, frame: int) -> list[int]:
        """Drops tracks that were not matched for `keep` frames; returns their ids."""
        slots = np.flatnonzero((self.ids >= 0) & (self.last < frame - self.keep))
        gone = [int(track) for track in self.ids[slots]]
        for track, slot in zip(gone, slots.tolist(), strict=True):
            del self.slot_of[track]
            self._free.append(slot)
        self.ids[slots] = -1
        self._appearance[slots[slots < len(self._appearance)]] = 0
        return gone

    def in_frame(self, x: float, y: float) -> tuple[float, float]:
        """A position of a segment as pixels of the frame added last."""
        return x + float(self._camera[0]), y + float(self._camera[1])

    def last_frame(self, track: int) -> int:
        """Frame of the track's last matched box."""
        return int(self.last[self.slot_of[track]])

    def segment(self, track: int, begin: int, end: int) -> Segment | None:
        """The boxes of frames `[begin, end)` as a line; None when there are none left, or the track is unknown."""
        slot = self.slot_of.get(track)
        if slot is None:
            return None
        fitted = Segment(*_fit(self.rings[slot], self.count[slot], begin, end))
        if not fitted.boxes:
            return None
        if slot >= len(self._appearance) or not self._appearance.shape[1]:
            return fitted
        appearance = self._appearance[slot]
        norm = math.sqrt(float(appearance @ appearance))
        return fitted._replace(appearance=appearance / np.float32(norm)) if norm > 0 else fitted

    def recent(self, track: int, before: int, span: int, depth: int) -> Segment | None:
        """The newest boxes before a frame, those of `span` frames; None when the last is older than `depth` frames."""
        slot = self.slot_of.get(track)
        if slot is None:
            return None
        last = int(_last_before(self.rings[slot], self.count[slot], before))
        return None if last < before - depth else self.segment(track, last - span + 1, last + 1)

    def near(self, x: float, y: float, before: int, depth: int, reach: float) -> list[tuple[float, int]]:
        """`(distance, track)` of tracks whose last box before a frame lies within `reach` of a point, nearest first.

        `x`, `y`, `reach` are pixels of the frame added last; boxes older than `depth` frames do not count.
        """
        distance = _distances(
            self.rings, self.count, self.ids, x - self._camera[0], y - self._camera[1], before, before - depth
        )
        slots = np.flatnonzero(distance <= reach)
        return sorted(zip(distance[slots].tolist(), self.ids[slots].tolist(), strict=True))


@njit(nogil=True)
def _median(values: Any, n: Any) -> Any:
    """Median of the first n values, which it sorts: few, and numba's own takes seconds to compile."""
    for i in range(1, n):
        value, k = values[i], i
        while k > 0 and values[k - 1] > value:
            values[k] = values[k - 1]
            k -= 1
        values[k] = value
    return (values[(n - 1) // 2] + values[n // 2]) / 2


@njit(nogil=True)
def _record(rings: Any, count: Any, last: Any, camera: Any, slots: Any, boxes: Any, moved: Any, frame: Any) -> Any:
    """Writes one frame; `camera` is the sum of the camera's shifts, which follow from the compensated displacements.

    A box's plain displacement minus its compensated one is the camera's shift there: the median over the boxes counts.
    """
    shifts = np.zeros((2, len(slots)))
    n = 0
    length = rings.shape[1]
    for k in range(len(slots)):
        s = slots[k]
        if last[s] == frame - 1 and (moved[k, 0] != 0 or moved[k, 1] != 0):
            before = rings[s, (count[s] - 1) % length]
            shifts[0, n] = (boxes[k, 0] + boxes[k, 2]) / 2 - before[1] - camera[0] - moved[k, 0]
            shifts[1, n] = (boxes[k, 1] + boxes[k, 3]) / 2 - before[2] - camera[1] - moved[k, 1]
            n += 1
    if n > 0:
        camera[0] += _median(shifts[0], n)
        camera[1] += _median(shifts[1], n)
    for k in range(len(slots)):
        s = slots[k]
        row = rings[s, count[s] % length]
        row[0] = frame
        row[1] = (boxes[k, 0] + boxes[k, 2]) / 2 - camera[0]
        row[2] = (boxes[k, 1] + boxes[k, 3]) / 2 - camera[1]
        row[3] = boxes[k, 2] - boxes[k, 0]
        row[4] = boxes[k, 3] - boxes[k, 1]
        count[s] += 1
        last[s] = frame


@njit(nogil=True)
def _blend(means: Any, slots: Any, rows: Any) -> Any:
    """Moves the means of the slots towards the rows, normalised; the first row is taken as it is."""
    for k in range(len(slots)):
        norm = 0.0
        for e in range(rows.shape[1]):
            norm += rows[k, e] * rows[k, e]
        if not norm > 0:
            continue
        scale = 1.0 / np.sqrt(norm)
        mean = means[slots[k]]
        rate = APPEARANCE_RATE if mean.any() else 1.0
        for e in range(rows.shape[1]):
            mean[e] += rate * (rows[k, e] * scale - mean[e])


@njit(nogil=True)
def _fit(ring: Any, count: Any, begin: Any, end: Any) -> Any:
    """Least squares line through the centres of the frames `[begin, end)`, and mean log sizes: `Segment`'s numbers."""
    length = ring.shape[0]
    n = 0
    first, final = 0.0, 0.0
    st, sx, sy, sh, sw, stt, stx, sty = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    base = begin
    for k in range(max(0, count - length), count):
        row = ring[k % length]
        if row[0] < begin or row[0] >= end:
            continue
        if n == 0:
            first = row[0]
        final = row[0]
        t = row[0] - base
        n += 1
        st += t
        sx += row[1]
        sy += row[2]
        sw += np.log(max(row[3], 1e-3))
        sh += np.log(max(row[4], 1e-3))
        stt += t * t
        stx += t * row[1]
        sty += t * row[2]
    if n == 0:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0
    spread = stt - st * st / n
    vx = (stx - st * sx / n) / spread if n > 1 else 0.0
    vy = (sty - st * sy / n) / spread if n > 1 else 0.0
    return first, final, sx / n, sy / n, vx, vy, base + st / n, sh / n, sw / n, n


@njit(nogil=True)
def _last_before(ring: Any, count: Any, before: Any) -> Any:
    """Frame of the newest box before a frame; very small when there is none."""
    length = ring.shape[0]
    for k in range(count - 1, max(-1, count - length - 1), -1):
        if ring[k % length, 0] < before:
            return ring[k % length, 0]
    return -1e15


@njit(nogil=True)
def _distances(rings: Any, count: Any, ids: Any, x: Any, y: Any, before: Any, oldest: Any) -> Any:
    """Distance of each track's newest box before a frame from a point; infinite when it is older than `oldest`."""
    out = np.full(len(ids), np.inf)
    length = rings.shape[1]
    for s in range(len(ids)):
        if ids[s] < 0:
            continue
        for k in range(count[s] - 1, max(-1, count[s] - length - 1), -1):
            row = rings[s, k % length]
            if row[0] < before:
                if row[0] >= oldest:
                    out[s] = np.sqrt((row[1] - x) ** 2 + (row[2] - y) ** 2)
                break
    return out
