"""Identity switches that a tracker suspects of itself, without ground truth.

Three kinds are seen. *Fragmentation*: a track is born on the object of another one, which was lost or went off with
something else. *Takeover*: a track that existed goes on with another one's object, after a gap or after the two
overlapped. *Exchange*: two tracks overlap and come out in each other's places. Each is a comparison of straight
lines and sizes before and after (and of appearance, where the detections have embeddings), so it is decided some
frames after it happened. How well this agrees with true switches is measured by `benchmarks/switches.py`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.ids import FrameIndex
from trackweave.mot.switch_evidence import MIN_BOXES_TOGETHER as MIN_BOXES
from trackweave.mot.switch_evidence import Arrival, Encounter, arrival, close_pairs, judge_arrival, judge_encounter
from trackweave.mot.track_history import TrackHistory
from trackweave.structures.assignment import AssignmentState

SPAN_SECONDS = 0.3  # of a line before or after
MEMORY_SECONDS = 2.0  # an object that was away for longer is nobody's
LOST_SECONDS = 1.0  # a track that is lost for longer meets nobody: its prediction means little by then
ENCOUNTER_SECONDS = 1.0  # longer ones are judged in pieces: lines do not reach farther
APART = 5  # frames between two switches of one pair
TIDY_EVERY = 16  # frames


class SwitchCause(StrEnum):
    """What is suspected."""

    FRAGMENTATION = "fragmentation"
    TAKEOVER = "takeover"
    EXCHANGE = "exchange"


@dataclass(frozen=True)
class SwitchEvent:
    """A suspected identity switch.

    Attributes:
        frame: where it is thought to have happened; it is reported some frames later.
        tracks: for fragmentation and takeover the object's old and its new track; for an exchange the two.
        cause: kind of switch.
        confidence: probability in [0, 1] that it is true.
    """

    frame: FrameIndex
    tracks: tuple[int, ...]
    cause: SwitchCause
    confidence: float

    @property
    def switches(self) -> int:
        """What CLEAR MOT counts when it is true: an exchange changes the track of two objects."""
        return 2 if self.cause is SwitchCause.EXCHANGE else 1

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "frame": int(self.frame),
            "tracks": list(self.tracks),
            "cause": self.cause.value,
            "confidence": round(self.confidence, 4),
        }


class SwitchMonitor:
    """Watches a tracker's decisions and estimates its identity switches.

    Memory is bounded by the tracks of the last `MEMORY_SECONDS` and by `keep`.

    Args:
        frame_rate: frames per second of the indices of the frames.
        min_confidence: suspicions below are not reported. At the default about as many are reported as there are.
        keep: events to remember; `total` counts the others too.

    Attributes:
        total: estimated identity switches so far, as CLEAR MOT counts them (an exchange is two).
        events: the newest events.
    """

    def __init__(self, frame_rate: float = 30.0, *, min_confidence: float = 0.3, keep: int = 1000) -> None:
        if not frame_rate > 0:
            raise ValueError(f"a frame rate is above 0, not {frame_rate}")
        if not 0 <= min_confidence <= 1:
            raise ValueError(f"a confidence is in [0, 1], not {min_confidence}")
        self._frame_rate = frame_rate
        self._min_confidence = min_confidence
        self._keep = keep
        self._span = min(15, max(4, round(SPAN_SECONDS * frame_rate)))
        self._memory = max(8, round(MEMORY_SECONDS * frame_rate))
        self._lost = max(4, round(LOST_SECONDS * frame_rate))
        self._longest = max(8, round(ENCOUNTER_SECONDS * frame_rate))
        self.reset()

    def reset(self) -> None:
        """Forgets everything: another video begins."""
        self.total = 0
        self.events: deque[SwitchEvent] = deque(maxlen=self._keep)
        self._history = TrackHistory(4 * self._span, self._memory)
        self._arrivals: deque[Arrival] = deque()
        self._encounters: dict[tuple[int, int], Encounter] = {}
        self._reported: dict[tuple[int, int], int] = {}
        self._untidy = 0

    def observe(self, state: AssignmentState) -> tuple[SwitchEvent, ...]:
        """Takes a frame with its decisions; returns the switches that are suspected now, with their earlier frames.

        To be called once per frame, in order; frames may be left out. Time is the frame over the frame rate.
        """
        matched = np.flatnonzero(state.assigned_track_ids >= 0)
        self._note_arrivals(state, matched)
        self._note_encounters(state, matched)
        found = [*self._judge_arrivals(int(state.frame)), *self._judge_encounters(int(state.frame))]
        self._untidy += 1
        if self._untidy >= TIDY_EVERY:
            self._untidy = 0
            self._tidy(int(state.frame))
        return tuple(event for event in found if self._report(event))

    def _note_arrivals(self, state: AssignmentState, matched: NDArray[np.int64]) -> None:
        away = dict(zip(state.track_ids.tolist(), state.track_gap.tolist(), strict=True))
        self._history.add(state, matched)
        for row, track in zip(matched.tolist(), state.assigned_track_ids[matched].tolist(), strict=True):
            gap = away.get(track, 0)
            if gap != 1:  # born, or back
                noted = arrival(state, row, self._history, self._span, self._memory, gap)
                if noted is not None:
                    self._arrivals.append(noted)

    def _note_encounters(self, state: AssignmentState, matched: NDArray[np.int64]) -> None:
        frame = int(state.frame)
        for one, other, overlap, margin, jump in close_pairs(state, matched, self._lost):
            tracks = (one, other) if one < other else (other, one)
            met = self._encounters.get(tracks)
            if met is None:
                met = self._begin(tracks, frame)
                if met is None:
                    continue
            met.see(frame, overlap, margin, jump)

    def _begin(self, tracks: tuple[int, int], frame: int) -> Encounter | None:
        """An encounter, unless one of the tracks is too young to have a line."""
        one, other = (self._history.recent(track, frame, self._span, self._memory) for track in tracks)
        if one is None or other is None or min(one.boxes, other.boxes) < MIN_BOXES:
            return None
        met = self._encounters[tracks] = Encounter(tracks, frame, (one, other))
        return met

    def _judge_arrivals(self, frame: int) -> list[SwitchEvent]:
        found = []
        while self._arrivals and self._arrivals[0].frame <= frame - self._span:
            one = self._arrivals.popleft()
            taken = judge_arrival(one, frame, self._history, self._span, self._frame_rate)
            if taken is not None:
                cause = SwitchCause.TAKEOVER if one.returned else SwitchCause.FRAGMENTATION
                found.append(SwitchEvent(FrameIndex(one.frame), (taken.owner, one.track), cause, taken.confidence))
        return found

    def _judge_encounters(self, frame: int) -> list[SwitchEvent]:
        over = [
            met
            for met in self._encounters.values()
            if met.last_close <= frame - self._span or met.start <= frame - self._longest
        ]
        found = []
        for met in over:
            del self._encounters[met.tracks]
            outcome = judge_encounter(met, frame, self._history, self._span, self._frame_rate)
            if outcome is not None:
                cause = SwitchCause.EXCHANGE if outcome.exchanged else SwitchCause.TAKEOVER
                found.append(SwitchEvent(FrameIndex(met.overlap_frame), outcome.tracks, cause, outcome.confidence))
        return found

    def _report(self, event: SwitchEvent) -> bool:
        """Counts an event, unless it is too weak or the same pair was reported close by: one switch has two sides."""
        if event.confidence < self._min_confidence:
            return False
        pair = (min(event.tracks), max(event.tracks))
        if abs(self._reported.get(pair, -APART - 1) - event.frame) <= APART:
            return False
        self._reported[pair] = int(event.frame)
        self.events.append(event)
        self.total += event.switches
        return True

    def _tidy(self, frame: int) -> None:
        self._history.forget(frame)
        oldest = frame - self._memory - APART
        self._reported = {pair: when for pair, when in self._reported.items() if when >= oldest}
