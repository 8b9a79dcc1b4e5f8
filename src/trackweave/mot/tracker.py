"""`ByteTracker`: detections of one frame after another become tracks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError
from trackweave.ids import FrameIndex
from trackweave.mot.appearance import AppearanceMemory
from trackweave.mot.id_switches import SwitchEvent, SwitchMonitor
from trackweave.mot.kalman import follow_camera, predict
from trackweave.mot.matching import FAULTS, UNMATCHED, assign, complain, displacement, pair_costs, usable
from trackweave.mot.parameters import STEPS_PER_SECOND, kernel_parameters
from trackweave.mot.settings import TrackerSettings
from trackweave.mot.state import (
    AGE,
    CLASS,
    CONFIRMED,
    GAP,
    SCORE,
    SINCE,
    VELOCITY,
    VISIBILITY,
    AssignmentObserver,
    AssociationScorer,
    FrameContext,
    TrackTable,
)
from trackweave.mot.track_management import Clutter, Unsteadiness, commit
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import Detections
from trackweave.structures.run_log import RunWarning

ALMOST_UNMATCHED = np.float32(0.999 * UNMATCHED)
"""Appearance and scorers rank inside the gates: however bad they find a pair, it stays better than none."""
LARGEST_ZOOM = 100.0
"""A camera matrix that scales by more between two frames is a mistake."""
DOUBT_FRAMES = 15
"""How long a track's appearance is not learned after a suspected identity switch."""
AMBIGUOUS_MARGIN = 0.1
"""A match whose detection another track would have taken at nearly the same cost teaches no appearance."""


def _is_camera(matrix: NDArray[np.float64]) -> bool:
    """Whether an affine matrix is one: finite, and neither flattening nor blowing up the picture."""
    if matrix.shape != (2, 3) or not np.isfinite(matrix).all():
        return False
    a, b, c, d = matrix[0, 0], matrix[0, 1], matrix[1, 0], matrix[1, 1]
    return bool(np.abs(matrix[:, :2]).max() < LARGEST_ZOOM and abs(a * d - b * c) > LARGEST_ZOOM**-2)


@dataclass(frozen=True)
class TrackerSummary:
    """What a tracker has done since it was made or reset.

    Attributes:
        frames: frames tracked.
        detections: detections given, bad and low ones included.
        tracks: tracks begun, tentative ones included.
        reactivations: confirmed tracks found again after at least one frame without them.
        skipped: reason → how many detections or frames were left out.
        est_id_switches: identity switches suspected; 0 without diagnostics.
        suspected: the newest of them.
        warnings: what was done differently from what was asked.
    """

    frames: int
    detections: int
    tracks: int
    reactivations: int
    skipped: Mapping[str, int]
    est_id_switches: int
    suspected: tuple[SwitchEvent, ...]
    warnings: tuple[RunWarning, ...]


class ByteTracker:
    """Links detections frame by frame: two rounds of assignment by score, after Zhang et al., ByteTrack (ECCV 2022).

    Tracks are rows of arrays and every step over them is compiled. Ids count from 1 in each tracker; memory is
    bounded by the tracks alive.

    >>> tracker = ByteTracker(frame_rate=25)
    >>> for frame in range(3):
    ...     found = tracker.update(frame, Detections.of([[10 + 5 * frame, 20, 50 + 5 * frame, 120]], [0.9]))
    >>> found.track_id.tolist(), found.index.tolist()
    ([1], [0])

    Args:
        settings: how to link; None = the preset `adaptive`.
        frame_rate: frames per second, where frames come without time stamps.
        size: `(H, W)` of the frames in pixels, where frames do not tell; None: boxes may lie
            anywhere but left of it or above it.
        scorer: a learned judge of pairs; blended into the cost by `settings.scorer_weight`.
        observer: is shown every frame's state and decisions; a sample logger is one.

    Raises:
        ValueError: a frame rate that is not above 0.
    """

    def __init__(
        self,
        settings: TrackerSettings | None = None,
        *,
        frame_rate: float = 30.0,
        size: tuple[int, int] | None = None,
        scorer: AssociationScorer | None = None,
        observer: AssignmentObserver | None = None,
    ) -> None:
        if not 0 < frame_rate < float("inf"):
            raise ValueError(f"a frame rate is above 0, not {frame_rate}")
        self.settings = settings or TrackerSettings()
        self._frame_rate = frame_rate
        self._size = size
        self._scorer = scorer
        self._observer = observer
        self._start()

    def _start(self) -> None:
        self._parameters = kernel_parameters(self.settings)
        self._levels = (0.0, 0.0)
        self._clutter = Clutter()
        self._unsteadiness = Unsteadiness()
        self._table = TrackTable()
        self._next_id = 1
        self._last: FrameContext | None = None
        self._memory = AppearanceMemory(self.settings.prototypes) if self.settings.appearance_memory else None
        self._monitor = SwitchMonitor(self._frame_rate) if self.settings.diagnostics else None
        self._frames = self._detections = self._reactivations = 0
        self._skipped: Counter[str] = Counter()

    def reset(self) -> None:
        """Forgets every track and count: another video begins, ids count from 1 again."""
        self._start()
        if self._scorer is not None:
            self._scorer.reset()

    def update(self, frame: FrameContext | int, detections: Detections) -> Detections:
        """Takes one frame's detections and returns those that belong to tracks which may be shown.

        Args:
            frame: what is known of the frame; a plain index when there is nothing else. Indices may jump: the time
                between two frames counts, not their number.
            detections: in any order; none is normal.

        Returns:
            The tracked detections in their input order with `track_id`, and with `index`, their row in `detections`.
            Masks, embeddings and user data stay with them; boxes are the detected ones unless the settings ask for
            smoothed ones; `class_id` is the track's.

        Raises:
            InputError: with `on_bad_item="error"`: a detection that is not finite, inverted, without area, outside
                the image or repeated; a frame or time stamp that is not later than the one before, or not finite; a
                camera matrix that is not finite; embeddings whose width changes. With `"skip"` these are left out and
                counted in `summary`.
        """
        context = frame if isinstance(frame, FrameContext) else FrameContext(int(frame))
        self._detections += len(detections)
        if not self._is_in_time(context):
            nothing = np.zeros(0, np.int64)
            return replace(detections[:0], track_id=nothing, index=nothing)
        frames, dt = self._elapsed(context)
        size = context.size or self._size
        rows, boxes, scores, classes = self._usable(context.index, detections, size)
        self._adapt(scores)
        embedding = self._embedding(context.index, detections, rows)

        n = self._table.count
        self._predict(context, dt)
        cost = np.empty((n, len(rows)), np.float32)
        allowed = np.empty((n, len(rows)), np.bool_)
        match = np.full(n, -1, np.int64)
        cosine: NDArray[np.float32] | None = None
        if n and len(rows):
            table = self._table
            pair_costs(
                table.motion, table.recent, table.counts, table.values, n, boxes, scores, classes, self._parameters,
                cost, allowed,
            )  # fmt: skip
            if self._memory is not None and embedding is not None:
                cosine = self._memory.cosine(embedding)
                cost = self._blend(cost, allowed, self._memory.cost(cosine), self.settings.appearance_weight)
        assigned = np.full(len(rows), -1)
        state = self._state(context, frames, size, detections, rows, boxes, cost, allowed, assigned)
        if n and len(rows):
            decided = cost
            if self._scorer is not None and state is not None:
                judged = self._scorer.cost(replace(state, assigned_track_ids=assigned.copy()))
                decided = self._blend(
                    cost, allowed, judged, self.settings.scorer_weight, decides=self.settings.scorer_decides
                )
            if self._scorer is not None and self.settings.scorer_decides:
                # Scores are part of what it judges by: one round for all.
                assign(decided, allowed, np.ones(n, np.bool_), np.ones(len(rows), np.bool_), match)
            else:
                self._match(decided, allowed, scores, match)

        seen = self._visibility(detections, rows)
        table = self._table
        table.reserve(n + len(rows))
        row_of, source = np.empty(len(rows), np.int64), np.empty(n + len(rows), np.int64)
        shown = np.empty(len(rows), np.bool_)
        opening = self._last is None
        table.count, self._next_id, found, changed, changes = commit(
            table.motion, table.matched, table.recent, table.counts, table.values, table.votes, n,
            match, boxes, scores, classes, seen, frames, opening, self._next_id, self._parameters,
            assigned, row_of, shown, source,
        )  # fmt: skip
        self._unsteadiness.observe(changes, changed)
        self._frames += 1
        self._reactivations += found
        self._last = context
        if self._memory is not None:
            self._memory.follow(source[: self._table.count])
            if embedding is not None:
                self._learn(match, cost, allowed, cosine, row_of, scores, seen, embedding)
        if state is not None:
            self._show(state)
        return self._output(detections, rows, assigned, row_of, shown)

    @property
    def frames(self) -> int:
        """Frames tracked since the tracker was made or reset; one that was left out does not count."""
        return self._frames

    @property
    def summary(self) -> TrackerSummary:
        """Counts since the tracker was made or reset."""
        monitor = self._monitor
        return TrackerSummary(
            frames=self._frames,
            detections=self._detections,
            tracks=self._next_id - 1,
            reactivations=self._reactivations,
            skipped=dict(self._skipped),
            est_id_switches=monitor.total if monitor else 0,
            suspected=tuple(monitor.events) if monitor else (),
            warnings=tuple(
                RunWarning("track", None, "detections-skipped", f"left out {count}: {reason}", {"count": count})
                for reason, count in self._skipped.items()
            ),
        )

    # --- the frame and its detections ----------------------------------------------------------------------------

    def _bad(self, error: InputError, reason: str, count: int = 1) -> None:
        if self.settings.on_bad_item == "error":
            raise error
        self._skipped[reason] += count

    def _is_in_time(self, context: FrameContext) -> bool:
        last, wrong, reason = self._last, None, "the frame is not later than the last"
        if context.time is not None and not math.isfinite(context.time):
            wrong = f"frame {context.index}: its time {context.time} is not a finite number"
            reason = "the frame's time is not a finite number"
        elif last is None:
            return True
        elif context.index <= last.index:
            wrong = f"frame {context.index} comes after frame {last.index}"
        elif context.time is not None and last.time is not None and context.time <= last.time:
            wrong = f"frame {context.index}: its time {context.time:g} s is not after {last.time:g} s"
        if wrong is None:
            return True
        self._bad(InputError(f"{wrong} (on_bad_item='skip' leaves it out)"), reason)
        return False

    def _elapsed(self, context: FrameContext) -> tuple[int, float]:
        """Frames and steps of 1/30 s since the frame before."""
        last = self._last
        if last is None:
            return 1, STEPS_PER_SECOND / self._frame_rate
        frames = context.index - last.index
        if context.time is not None and last.time is not None:
            return frames, (context.time - last.time) * STEPS_PER_SECOND
        return frames, frames * STEPS_PER_SECOND / self._frame_rate

    def _usable(
        self, frame: int, detections: Detections, size: tuple[int, int] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Rows of the detections that take part, their boxes as centre and size, scores and classes."""
        n = len(detections)
        boxes, verdict = np.empty((n, 4)), np.empty(n, np.int64)
        height, width = size or (np.inf, np.inf)
        threshold = self.settings.confidence_threshold
        xyxy, score = np.asarray(detections.xyxy, np.float32), np.asarray(detections.score, np.float32)
        classes = np.array(detections.class_id, np.int64)  # a copy: kernels want it writable and contiguous
        faults = usable(xyxy, score, classes, threshold, height, width, boxes, verdict)
        if faults:
            error = complain(frame, detections, verdict)
            for number in np.unique(verdict[verdict > 0]):
                self._bad(error, str(FAULTS[int(number)]), int((verdict == number).sum()))
        if self.settings.classes == "ignored":
            classes = np.full(n, -1)
        rows = np.flatnonzero(verdict == 0)
        if len(rows) == n:  # nothing to leave out: no copies
            return rows, boxes, score.astype(np.float64), classes
        return rows, boxes[rows], score[rows].astype(np.float64), classes[rows]

    def _adapt(self, scores: NDArray[np.float64]) -> None:
        """Moves the score thresholds with the detector's clutter, and the weight of places with its unsteadiness."""
        self._clutter.observe(scores)
        levels = self._clutter.level, self._unsteadiness.level
        if levels != self._levels:
            self._levels = levels
            self._parameters = self._parameters._replace(**self._adapted(*levels))

    def _adapted(self, clutter: float, unsteady: float) -> dict[str, float]:
        """What the stream asks for: each value lies between a setting and its counterpart for the other extreme."""

        def between(plain: float, extreme: float, level: float) -> float:
            return plain + level * (extreme - plain)

        how = self.settings
        return {
            "high_score": between(how.high_score, how.clutter_high_score, clutter),
            "birth_score": between(how.birth_score, how.clutter_birth_score, clutter),
            "score_weight": between(how.score_weight, how.clutter_score_weight, clutter),
            "lost_height_power": between(how.lost_height_power, how.clutter_lost_height_power, clutter),
            "distance_share": between(how.distance_share, how.unsteady_distance_share, unsteady),
        }

    def _embedding(self, frame: int, detections: Detections, rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """`(D, E)` unit rows of the detections that take part; zeros where one is not described."""
        if self._memory is None or detections.embedding is None or not len(rows):
            return None
        embedding = np.nan_to_num(detections.embedding[rows], posinf=0, neginf=0)
        try:
            self._memory.accept(embedding.shape[1])
        except ValueError as error:
            self._bad(InputError(f"frame {frame}: {error}"), "embeddings of another width than before", len(rows))
            return None
        lengths = np.linalg.norm(embedding, axis=1, keepdims=True)
        return np.asarray(embedding / np.where(lengths > 0, lengths, 1), np.float32)

    @staticmethod
    def _visibility(detections: Detections, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        if detections.visibility is None:
            return np.ones(len(rows))
        seen = detections.visibility[rows].astype(np.float64)
        return np.where(np.isfinite(seen), seen, 1.0)

    # --- one frame's decisions -----------------------------------------------------------------------------------

    def _predict(self, context: FrameContext, dt: float) -> None:
        table = self._table
        self._camera: NDArray[np.float64] | None = None
        if self._last is None or not table.count:
            return
        if context.camera is not None and self.settings.camera_motion == "given":
            camera = np.ascontiguousarray(context.camera, np.float64)
            if not _is_camera(camera):
                reason = "the camera's motion is not a finite 2×3 matrix that keeps an area"
                self._bad(InputError(f"frame {context.index}: {reason}"), reason)
            else:
                follow_camera(table.motion, table.matched, table.recent, table.count, camera)
                self._camera = camera
        predict(table.motion, table.counts, table.count, dt, self._parameters)
        table.values[: table.count, SINCE] += dt

    @staticmethod
    def _blend(
        cost: NDArray[np.float32],
        allowed: NDArray[np.bool_],
        other: NDArray[np.float32],
        weight: float,
        *,
        decides: bool = False,
    ) -> NDArray[np.float32]:
        """Mixes a second opinion into the cost of allowed pairs, where it has one (not NaN).

        With `decides` the mixed cost may exceed that of no match, and may fall below it where the first did not.
        """
        if other.shape != cost.shape:
            raise ValueError(f"{cost.shape} pairs were asked about, the answer has {other.shape}")
        mixed = (1 - weight) * cost + weight * other
        if decides:
            return np.where(allowed & np.isfinite(other), mixed, cost).astype(np.float32)
        mixed = np.minimum(mixed, ALMOST_UNMATCHED)
        # A pair that already costs more than none is not brought back by an opinion either.
        judged = allowed & np.isfinite(other) & (cost < UNMATCHED)
        return np.where(judged, mixed, cost).astype(np.float32)

    def _match(
        self,
        cost: NDArray[np.float32],
        allowed: NDArray[np.bool_],
        scores: NDArray[np.float64],
        match: NDArray[np.int64],
    ) -> None:
        """The rounds: high scores first, low ones for what is left, tentative tracks where the settings say so."""
        settings = self.settings
        confirmed = self._table.counts[: len(match), CONFIRMED] == 1
        high = scores >= self._parameters.high_score
        pairs = np.flatnonzero(allowed)
        assign(cost, allowed, confirmed | settings.tentative_first, high, match, pairs)
        if settings.low_scores and not high.all():
            assign(cost, allowed, match < 0, ~high, match, pairs)
        if not settings.tentative_first and not confirmed.all():
            free = high.copy()
            free[match[match >= 0]] = False
            assign(cost, allowed, ~confirmed & (match < 0), free, match, pairs)

    def _learn(
        self,
        match: NDArray[np.int64],
        cost: NDArray[np.float32],
        allowed: NDArray[np.bool_],
        cosine: NDArray[np.float32] | None,
        row_of: NDArray[np.int64],
        scores: NDArray[np.float64],
        seen: NDArray[np.float64],
        embedding: NDArray[np.float32],
    ) -> None:
        """Appearance is taken from detections that are sure, well visible and that no other track wanted."""
        assert self._memory is not None
        trusted = (scores >= self._parameters.high_score) & (seen >= self.settings.appearance_min_visibility)
        pairs = np.flatnonzero(match >= 0)
        if len(pairs):
            rivals = np.where(allowed, cost, np.inf)
            rivals[pairs, match[pairs]] = np.inf
            margin = rivals[:, match[pairs]].min(axis=0) - cost[pairs, match[pairs]]
            trusted[match[pairs]] &= margin > AMBIGUOUS_MARGIN
            if cosine is not None:
                known = np.isfinite(cosine)
                same = cosine[pairs, match[pairs]][known[pairs, match[pairs]]]
                known[pairs, match[pairs]] = False
                self._memory.calibrate(same, cosine[known & allowed])
        owned = row_of >= 0
        self._memory.learn(row_of[owned], embedding[owned], trusted[owned])

    # --- what others see -----------------------------------------------------------------------------------------

    def _state(
        self,
        context: FrameContext,
        frames: int,
        size: tuple[int, int] | None,
        detections: Detections,
        rows: NDArray[np.int64],
        boxes: NDArray[np.float64],
        cost: NDArray[np.float32],
        allowed: NDArray[np.bool_],
        assigned: NDArray[np.int64],
    ) -> AssignmentState | None:
        """The question of this frame, for those who watch; None when nobody does.

        `assigned` is all −1 now; the decisions are written into it, so that the state need not be made twice.
        """
        if self._scorer is None and self._observer is None and self._monitor is None:
            return None
        table = self._table
        moved = np.empty((len(rows), 2), np.float32)
        displacement(table.motion, table.recent, table.count, boxes, moved)
        counts, values = table.counts[: table.count], table.values[: table.count]
        per_frame = values[:, SINCE] / np.maximum(counts[:, GAP] + frames, 1)
        return AssignmentState(
            frame=FrameIndex(context.index),
            time=context.index / self._frame_rate if context.time is None else context.time,
            size=size,
            track_ids=table.ids,
            track_boxes=table.boxes,
            track_velocity=(table.motion[: table.count, :2, VELOCITY] * per_frame[:, None]).astype(np.float32),
            track_age=counts[:, AGE] + frames,
            track_gap=counts[:, GAP] + frames,
            track_score=values[:, SCORE].astype(np.float32),
            track_visibility=values[:, VISIBILITY].astype(np.float32),
            track_class=counts[:, CLASS].copy(),
            track_embeddings=None if self._memory is None or self._memory.width is None else self._memory.best(),
            detections=detections[rows],
            det_displacement=moved,
            cost=cost,
            allowed=allowed,
            assigned_track_ids=assigned,
            camera=self._camera,
        )

    def _show(self, state: AssignmentState) -> None:
        if self._monitor is not None:
            events = self._monitor.observe(state)
            suspects = np.unique(np.array([track for event in events for track in event.tracks], np.int64))
            state = replace(state, est_id_switches=self._monitor.total, suspect_tracks=suspects)
            if self._memory is not None and len(suspects):
                self._memory.freeze(np.flatnonzero(np.isin(self._table.ids, suspects)), DOUBT_FRAMES)
        if self._scorer is not None:
            self._scorer.observe(state)
        if self._observer is not None:
            self._observer.observe(state)

    def _output(
        self,
        detections: Detections,
        rows: NDArray[np.int64],
        assigned: NDArray[np.int64],
        row_of: NDArray[np.int64],
        shown: NDArray[np.bool_],
    ) -> Detections:
        index = rows[shown]
        given = detections if len(index) == len(detections) else detections[index]
        smoothed, votes = self.settings.output_boxes == "smoothed", self.settings.classes == "votes"
        return Detections(
            self._table.boxes[row_of[shown]] if smoothed else given.xyxy,
            given.score,
            self._table.counts[row_of[shown], CLASS] if votes else given.class_id,
            given.masks,
            given.embedding,
            given.visibility,
            assigned[shown],
            index,
            given.data,
        )
