"""`BoxAnswers`: what people say about a run on the page: one writer, many readers, nothing confirmed is lost."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from threading import RLock
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, TrackweaveError, shortened
from trackweave.pipelines.corrections import Proofreading
from trackweave.pipelines.mask_corrections import MaskProofreading
from trackweave.structures.corrections import (
    Accepted,
    Merged,
    Nobody,
    Observation,
    Split,
    Step,
    step_from_json,
    step_to_json,
)
from trackweave.view.opened_run import OpenedRun

Json = dict[str, Any]
QUESTIONS = 12
"""Questions that a page has at a time."""
LISTED_ACTS = 100
BEAT_SECONDS = 15.0
"""Between two signs of life to a page."""
OWN_ACTS = ("name", "nobody", "end", "split", "merge", "join", "accept", "skip", "undo", "redo", "prompt", "write")


class OutdatedError(TrackweaveError):
    """An act that was meant for tracks which have changed meanwhile."""


class BoxAnswers:
    """What was said, and the tracks that follow from it. Safe to use from several threads.

    Args:
        opened: the run; its tracks are replaced after each act.
        proofreading: the one writer; None = the run cannot be corrected here.
        notice: why not.
    """

    ACTS: ClassVar[Sequence[str]] = OWN_ACTS

    def __init__(
        self, opened: OpenedRun, proofreading: Proofreading | MaskProofreading | None, notice: str | None = None
    ) -> None:
        self._opened, self._proofreading, self._notice = opened, proofreading, notice
        self._lock = RLock()
        self._session, self._count = secrets.token_hex(4), 0
        self._skipped: list[Observation] = []
        self._unwritten = False
        self._listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._knows_links = False
        if proofreading is not None and proofreading.corrections.acts:
            self._show()

    @property
    def version(self) -> str:
        """Another one after each change; what a page holds belongs to one of them."""
        return f"{self._session}-{self._count}"

    def state(self) -> Json:
        """What the page shows of answers."""
        with self._lock:
            state: Json = {"version": self.version, "writable": self._proofreading is not None, "notice": self._notice}
            if self._proofreading is None:
                return {**state, "names": {}, "questions": [], "acts": [], "accepted": [], "refused": []}
            if not self._knows_links:
                self._show()  # not when the run is opened: it takes 20 µs a box
            said = self._proofreading.corrections
            accepted = [act for act in said.acts if isinstance(act, Accepted)]
            position_of = self._opened.position_of
            return {
                **state,
                "undo": said.can_undo,
                "redo": said.can_redo,
                "unwritten": self._unwritten,
                "names": {str(track_id): name for track_id, name in self._proofreading.names.items()},
                "refused": self._proofreading.refused,
                "acts": [_short(act) for act in said.acts[-LISTED_ACTS:]],
                "count": len(said.acts),
                "accepted": [[position_of(act.first), position_of(act.last)] for act in accepted],
                "questions": [self._question(question.to_json()) for question in self._asked()],
            }

    def act(self, record: Mapping[str, Any]) -> Json:
        """Does what a page asks for; when this returns, it is on the disk.

        Args:
            record: `act`, one of `OWN_ACTS`; `version` that the page saw, for all but undo and redo; and `track` and
                `frame` (absolute), `tracks`, `at`, `first` and `last`, `name` or `box`, as the act needs them.

        Returns:
            the state after it.

        Raises:
            InputError: no such act, nothing to undo, or it contradicts what is accepted.
            OutdatedError: the tracks have changed since that version.
            RunFolderError: it cannot be written.
        """
        with self._lock:
            if self._proofreading is None:
                raise InputError(self._notice or "this run cannot be corrected here")
            kind = record.get("act")
            if kind not in self.ACTS:
                raise InputError(f"an act is one of {', '.join(self.ACTS)}, not {shortened(kind, 40)}")
            if kind not in ("undo", "redo", "write") and record.get("version") != self.version:
                raise OutdatedError("the tracks have changed meanwhile: look again")
            self._do(self._proofreading, str(kind), record)
            self._count += 1
            self._notify()
            return self.state()

    def _do(self, proofreading: Proofreading | MaskProofreading, kind: str, record: Mapping[str, Any]) -> None:
        if kind == "skip":
            self._skipped.append(observation(record.get("at")))
            return
        if kind == "write":
            proofreading.write()
            self._unwritten = False
            return
        if kind == "accept":
            proofreading.accept(whole_number(record, "first"), whole_number(record, "last"))
        else:
            proofreading.say(self._step(kind, record))
        self._unwritten = True
        self._show()

    def _show(self) -> None:
        """Shows the tracks as they are decided now."""
        assert isinstance(self._proofreading, Proofreading)
        self._opened.show(self._proofreading.tracks, self._proofreading.items, self._proofreading.links)
        self._knows_links = True

    def _step(self, kind: str, record: Mapping[str, Any]) -> Step:
        """An act of the page, which speaks of tracks, as one of the journal, which speaks of observations."""
        if kind == "merge":
            tracks = record.get("tracks")
            if not isinstance(tracks, list) or len(tracks) != 2:
                raise InputError("two tracks are merged")
            return self._merge(*(whole_number({"track": each}, "track") for each in tracks))
        if kind == "split":
            return self._split(whole_number(record, "track"), whole_number(record, "frame"))
        if kind == "join":
            return Merged(observation(record.get("at")), observation(record.get("other")))
        if kind in ("undo", "redo", "prompt"):
            return step_from_json(record)
        at = record.get("at")
        if at is None:
            at = list(self._near(whole_number(record, "track"), whole_number(record, "frame")))
        return step_from_json({**record, "at": at})

    def _seen(self, track_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Frames and items of a track's observations, in the order of time."""
        assert self._proofreading is not None
        tracks, items = self._proofreading.tracks, self._proofreading.items
        rows = np.flatnonzero((tracks.track_id == track_id) & (items >= 0))
        if not len(rows):
            raise InputError(f"there is no track {track_id}")
        return tracks.frame[rows], items[rows]

    def _near(self, track_id: int, frame: int) -> Observation:
        frames, items = self._seen(track_id)
        at = int(np.argmin(np.abs(frames - frame)))
        return Observation(int(frames[at]), int(items[at]))

    def _split(self, track_id: int, frame: int) -> Split:
        frames, items = self._seen(track_id)
        at = int(np.searchsorted(frames, frame))
        if not 0 < at < len(frames):
            raise InputError(f"track {track_id} is seen on frames {frames[0]} to {frames[-1]}: split it in between")
        before, after = (Observation(int(frames[k]), int(items[k])) for k in (at - 1, at))
        return Split(before, after)

    def _merge(self, one: int, other: int) -> Merged:
        """The two observations that are nearest in time."""
        if one == other:
            raise InputError("two different tracks are merged")
        (frames, items), (others, other_items) = self._seen(one), self._seen(other)
        both = np.intersect1d(frames, others)
        if len(both):
            raise InputError(f"tracks {one} and {other} are both seen on frame {both[0]}: split one of them first")
        after = np.searchsorted(others, frames)
        gaps = np.stack(
            [frames - others[np.maximum(after - 1, 0)], others[np.minimum(after, len(others) - 1)] - frames]
        )
        gaps[gaps < 0] = np.iinfo(np.int64).max
        side, at = np.unravel_index(int(np.argmin(gaps)), gaps.shape)
        place = int(after[at]) - 1 if side == 0 else int(after[at])
        return Merged(
            Observation(int(frames[at]), int(items[at])), Observation(int(others[place]), int(other_items[place]))
        )

    def _asked(self) -> list[Any]:
        assert self._proofreading is not None
        return self._proofreading.questions(QUESTIONS, self._skipped)

    def _question(self, question: Json) -> Json:
        frame = question["at"][0]
        return {**question, "position": self._opened.position_of(frame)}

    # --- pages that listen --------------------------------------------------------------------------------------------

    def _notify(self) -> None:
        for loop, event in list(self._listeners):
            loop.call_soon_threadsafe(event.set)

    async def events(self) -> AsyncIterator[str]:
        """Server-sent events: the version, at once and after each change; an empty comment now and then."""
        event = asyncio.Event()
        listener = asyncio.get_running_loop(), event
        self._listeners.add(listener)
        try:
            while True:
                yield f"data: {self.version}\n\n{self._further_events()}"
                while True:
                    try:
                        await asyncio.wait_for(event.wait(), BEAT_SECONDS)
                        break
                    except TimeoutError:
                        yield ": \n\n"
                event.clear()
        finally:
            self._listeners.discard(listener)

    def _further_events(self) -> str:
        """What else is sent each time."""
        return ""

    def close(self) -> None:
        """Puts what was said into the run's files, unless that was done already."""
        with self._lock:
            if self._proofreading is not None and self._unwritten:
                self._proofreading.write()
                self._unwritten = False


def whole_number(record: Mapping[str, Any], name: str) -> int:
    value = record.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise InputError(f"`{name}` is a whole number, not {shortened(value, 40)}")
    return value


def observation(value: Any) -> Observation:
    named = step_from_json({"act": Nobody.kind, "at": value})
    assert isinstance(named, Nobody)
    return named.at


def _short(act: Step) -> Json:
    """An act without the long lists of an accepted stretch."""
    record = step_to_json(act)
    record.pop("tracks", None)
    record.pop("mask", None)
    return record
