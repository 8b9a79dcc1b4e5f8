"""Identity switches that a tracker suspects of itself, without ground truth.

There are three kinds. *Fragmentation*: a new track begins on the object of another one, which was lost or went on with
something else. *Takeover*: a track that existed goes on with another one's object, after a gap or after the two
overlapped. *Exchange*: two tracks overlap and leave in each other's places. Each is a comparison of straight segments
and sizes before and after (and of appearance, where the detections have embeddings), so it is decided some frames
after it happened. How well this agrees with true switches is measured by `benchmarks/switches.py`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from trackweave.ids import FrameIndex
from trackweave.mot.switch_evidence import (
    MIN_SEGMENT_BOXES,
    Encounter,
    TrackStart,
    close_pairs,
    encounter_outcome,
    takeover_at_start,
    track_start,
)
from trackweave.mot.track_history import TrackHistory
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.run_summary import SwitchRecord

SPAN_SECONDS = 0.3  # of a segment before or after
MEMORY_SECONDS = 2.0  # a track that is lost for longer is prior to none
LOST_SECONDS = 1.0  # a track that is lost for longer has no encounters: its prediction means little by then
ENCOUNTER_SECONDS = 1.0  # longer ones are scored in pieces: segments do not reach farther
MIN_FRAMES_APART = 5  # between two switches of one pair
FORGET_EVERY = 16  # frames


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

    def to_json(self) -> SwitchRecord:
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
        self.cut()

    def cut(self) -> None:
        """Forgets the tracks, and keeps what was reported: another shot begins."""
        self._history = TrackHistory(4 * self._span, self._memory)
        self._starts: deque[TrackStart] = deque()
        self._encounters: dict[tuple[int, int], Encounter] = {}
        self._reported: dict[tuple[int, int], int] = {}
        self._since_forgetting = 0

    def observe(self, state: AssignmentState) -> tuple[SwitchEvent, ...]:
        """Takes a frame with its decisions; returns the switches that are suspected now, with their earlier frames.

        To be called once per frame, in order; frames may be left out. Time is the frame over the frame rate.
        """
        frame = int(state.frame)
        matched = np.flatnonzero(state.assigned_track_ids >= 0)
        self._add_starts(state, matched)
        self._add_encounters(state, matched)
        events = [*self._events_of_starts(frame), *self._events_of_encounters(frame)]
        self._since_forgetting += 1
        if self._since_forgetting >= FORGET_EVERY:
            self._since_forgetting = 0
            self._forget(frame)
        return tuple(event for event in events if self._report(event))

    def _add_starts(self, state: AssignmentState, matched: NDArray[np.int64]) -> None:
        gap_of = dict(zip(state.track_ids.tolist(), state.track_gap.tolist(), strict=True))
        self._history.add(state, matched)
        for row, track in zip(matched.tolist(), state.assigned_track_ids[matched].tolist(), strict=True):
            gap = gap_of.get(track, 0)
            if gap != 1:  # new, or back
                start = track_start(state, row, self._history, self._span, self._memory, gap)
                if start is not None:
                    self._starts.append(start)

    def _add_encounters(self, state: AssignmentState, matched: NDArray[np.int64]) -> None:
        frame = int(state.frame)
        for one, other, overlap, margin, jump in close_pairs(state, matched, self._lost):
            tracks = (one, other) if one < other else (other, one)
            encounter = self._encounters.get(tracks) or self._new_encounter(tracks, frame)
            if encounter is not None:
                encounter.update(frame, overlap, margin, jump)

    def _new_encounter(self, tracks: tuple[int, int], frame: int) -> Encounter | None:
        """An encounter, unless one of the tracks is too young to have a segment."""
        one, other = (self._history.recent(track, frame, self._span, self._memory) for track in tracks)
        if one is None or other is None or min(one.boxes, other.boxes) < MIN_SEGMENT_BOXES:
            return None
        encounter = self._encounters[tracks] = Encounter(tracks, frame, (one, other))
        return encounter

    def _events_of_starts(self, frame: int) -> list[SwitchEvent]:
        events = []
        while self._starts and self._starts[0].frame <= frame - self._span:
            start = self._starts.popleft()
            takeover = takeover_at_start(start, frame, self._history, self._span, self._frame_rate)
            if takeover is not None:
                cause = SwitchCause.TAKEOVER if start.returned else SwitchCause.FRAGMENTATION
                tracks = takeover.prior, start.track
                events.append(SwitchEvent(FrameIndex(start.frame), tracks, cause, takeover.confidence))
        return events

    def _events_of_encounters(self, frame: int) -> list[SwitchEvent]:
        finished = [
            encounter
            for encounter in self._encounters.values()
            if encounter.last_close <= frame - self._span or encounter.start <= frame - self._longest
        ]
        events = []
        for encounter in finished:
            del self._encounters[encounter.tracks]
            outcome = encounter_outcome(encounter, frame, self._history, self._span, self._frame_rate)
            if outcome is not None:
                cause = SwitchCause.EXCHANGE if outcome.exchanged else SwitchCause.TAKEOVER
                at = FrameIndex(encounter.overlap_frame)
                events.append(SwitchEvent(at, outcome.tracks, cause, outcome.confidence))
        return events

    def _report(self, event: SwitchEvent) -> bool:
        """Counts an event, unless it is too weak or the same pair was reported close by: one switch has two sides."""
        if event.confidence < self._min_confidence:
            return False
        pair = (min(event.tracks), max(event.tracks))
        if abs(self._reported.get(pair, -MIN_FRAMES_APART - 1) - event.frame) <= MIN_FRAMES_APART:
            return False
        self._reported[pair] = int(event.frame)
        self.events.append(event)
        self.total += event.switches
        return True

    def _forget(self, frame: int) -> None:
        self._history.forget(frame)
        oldest = frame - self._memory - MIN_FRAMES_APART
        self._reported = {pair: when for pair, when in self._reported.items() if when >= oldest}
