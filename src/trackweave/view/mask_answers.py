"""`MaskAnswers`: what people say about a run of masks on the page; new prompts are moved in the background."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any, ClassVar

import numpy as np

from trackweave.errors import ArtifactError, InputError, TrackweaveError, shortened_line
from trackweave.pipelines.corrections import Proofreading, open_proofreading
from trackweave.pipelines.mask_corrections import MaskProofreading
from trackweave.pipelines.reprompting import StoppedError
from trackweave.structures.corrected_tracks import PromptTask
from trackweave.structures.corrections import Ended, Merged, Named, Observation, Split, Step, step_from_json
from trackweave.view.answers import OWN_ACTS, BoxAnswers, Json, observation, whole_number
from trackweave.view.opened_run import OpenedRun

REPORT_SECONDS = 0.1
"""Between two reports of how far a prompt has come."""


@dataclass
class _PromptJob:
    """A prompt that is being moved."""

    task: PromptTask
    done: int = 0
    frame: int = 0
    total: int = 0

    def to_json(self) -> Json:
        return {
            "name": self.task.act.name, "prompt": self.task.act.frame, "done": self.done, "total": self.total,
            "frame": self.frame,
        }  # fmt: skip


class MaskAnswers(BoxAnswers):
    """What was said about a run of masks, and the objects that follow from it. Safe to use from several threads.

    Args:
        opened: the run; its tracks and masks are replaced after each act.
        proofreading: the one writer.
    """

    ACTS: ClassVar[Sequence[str]] = (*OWN_ACTS, "part", "right")

    def __init__(self, opened: OpenedRun, proofreading: MaskProofreading) -> None:
        self._masks = proofreading
        self._job: _PromptJob | None = None
        self._failed: dict[str, Json] = {}
        self._worker: Thread | None = None
        self._is_closing = False
        super().__init__(opened, proofreading)
        self._show()
        self._move()

    def state(self) -> Json:
        """What the page shows of answers, with the prompt that is being moved, and those that failed."""
        with self._lock:
            pending = {task.key for task in self._masks.pending}
            failed = [record for key, record in self._failed.items() if key in pending]
            job = None if self._job is None else self._job.to_json()
            return {**super().state(), "job": job, "failed": failed}

    def _do(self, proofreading: Proofreading | MaskProofreading, kind: str, record: Mapping[str, Any]) -> None:
        if kind in ("undo", "redo"):
            self._failed.clear()  # a redo tries once more
        super()._do(proofreading, kind, record)
        self._move()

    def _show(self) -> None:
        proofreading = self._masks
        self._opened.show(proofreading.tracks, proofreading.items)
        self._opened.show_masks({level: proofreading.open_masks(level) for level in proofreading.run.levels})
        self._knows_links = True

    # --- acts --------------------------------------------------------------------------------------------------------

    def _step(self, kind: str, record: Mapping[str, Any]) -> Step:
        if kind == "merge":
            tracks = record.get("tracks")
            if not isinstance(tracks, list) or len(tracks) != 2:
                raise InputError("two objects are merged")
            return self._merge(*(whole_number({"track": each}, "track") for each in tracks))
        if kind == "part":
            return self._part(observation(record.get("at")), observation(record.get("other")))
        if kind == "right":
            at = observation(record.get("at"))
            return Named(at, self._name_of(whole_number(record, "track")))
        if kind == "end":
            track, frame = whole_number(record, "track"), whole_number(record, "frame")
            frames, items = self._masks.seen(track)
            row = max(int(np.searchsorted(frames, frame, side="right")) - 1, 0)
            return Ended(Observation(int(frames[row]), int(items[row])))
        if kind == "name" and record.get("at") is None:
            known = self._masks.named_at(whole_number(record, "track"))
            if known is not None:  # what has a name is renamed as a whole
                record = {**record, "at": list(known)}
            return super()._step(kind, record)
        if kind == "prompt":
            return self._prompt(record)
        return super()._step(kind, record)

    def _prompt(self, record: Mapping[str, Any]) -> Step:
        """A prompt of a track keeps its name; one of a new object without a name gets a free one."""
        values = {key: record[key] for key in ("act", "frame", "points", "box", "mask", "level") if key in record}
        name = record.get("name")
        if record.get("track") is not None:
            track = whole_number(record, "track")
            values["of"] = list(self._near(track, whole_number(record, "frame")))
            values.pop("level", None)
            name = self._name_of(track)
        values["name"] = name if isinstance(name, str) and name.strip() else self._free_name("object 1")
        return step_from_json(values)

    def _name_of(self, track: int) -> str:
        """What an object is called, or a name that no other has."""
        return self._masks.names.get(track) or self._free_name(str(track))

    def _free_name(self, wanted: str) -> str:
        taken, name, number = set(self._masks.names.values()), wanted, 1
        while name in taken:
            number += 1
            name = f"object {number}"
        return name

    def _near(self, track_id: int, frame: int) -> Observation:
        frames, items = self._masks.seen(track_id)
        at = int(np.argmin(np.abs(frames - frame)))
        return Observation(int(frames[at]), int(items[at]))

    def _split(self, track_id: int, frame: int) -> Split:
        """The object is another one from this frame on; by a raw track that is seen on both sides, if any is."""
        frames, items = self._masks.seen(track_id)
        cut = int(np.searchsorted(frames, frame))
        if not 0 < cut < len(frames):
            raise InputError(f"{track_id} is seen on frames {frames[0]} to {frames[-1]}: split it in between")
        first, before = frames[cut], frames[cut - 1]
        for row in np.flatnonzero(frames == first).tolist():
            earlier = np.flatnonzero((items == items[row]) & (frames < first))
            if len(earlier):
                at = Observation(int(first), int(items[row]))
                return Split(Observation(int(frames[earlier[-1]]), at.item), at)
        return Split(Observation(int(before), int(items[cut - 1])), Observation(int(first), int(items[cut])))

    def _part(self, one: Observation, other: Observation) -> Split:
        return Split(*sorted((one, other)))

    def _merge(self, one: int, other: int) -> Merged:
        """Masks on one frame, else the two that are nearest in time."""
        if one == other:
            raise InputError("two different objects are merged")
        (frames, items), (others, other_items) = self._masks.seen(one), self._masks.seen(other)
        _, at, place = np.intersect1d(frames, others, return_indices=True)
        if not len(at):
            gaps = np.abs(frames[:, None] - others[[0, -1]][None])
            row, side = np.unravel_index(int(np.argmin(gaps)), gaps.shape)
            at, place = np.array([row]), np.array([(0, len(others) - 1)[side]])
        return Merged(
            Observation(int(frames[at[0]]), int(items[at[0]])),
            Observation(int(others[place[0]]), int(other_items[place[0]])),
        )

    # --- prompts that are moved in the background --------------------------------------------------------------------

    def _move(self) -> None:
        """Starts to move what waits, unless that is being done."""
        if self._job is None and not self._is_closing and self._next() is not None:
            self._take(self._next())
            self._worker = Thread(target=self._work, name="prompts", daemon=True)
            self._worker.start()

    def _next(self) -> PromptTask | None:
        return next((task for task in self._masks.pending if task.key not in self._failed), None)

    def _take(self, task: PromptTask | None) -> None:
        self._job = None if task is None else _PromptJob(task, total=self._masks.frame_count(task))

    def _work(self) -> None:
        """Moves one prompt after the other; acts are taken meanwhile."""
        while (job := self._job) is not None:
            failed: str | None = "it failed: see the terminal"
            try:
                self._masks.move(job.task, self._advance, partial(self._is_unwanted, job.task))
                failed = None
            except StoppedError:
                failed = None
            except TrackweaveError as error:
                failed = shortened_line(str(error), 400)
            finally:
                self._end_job(job, failed)

    def _end_job(self, job: _PromptJob, failed: str | None) -> None:
        with self._lock:
            if failed is not None:
                self._failed[job.task.key] = {**job.to_json(), "message": failed}
            self._masks.refresh()
            self._unwritten = True
            self._take(None if self._is_closing else self._next())
            if not self._is_closing:
                self._show()
            self._count += 1
            self._notify()

    def _is_unwanted(self, task: PromptTask) -> bool:
        with self._lock:
            return self._is_closing or task not in self._masks.pending

    def _advance(self, done: int, frame: int) -> None:
        with self._lock:
            job = self._job
            if job is None:
                return
            job.done, job.frame = done, frame
            now = time.monotonic()
            if now - self._reported < REPORT_SECONDS and done < job.total:
                return
            self._reported = now
        self._notify()

    _reported = 0.0

    def _further_events(self) -> str:
        with self._lock:
            job = None if self._job is None else self._job.to_json()
        return f"event: job\ndata: {json.dumps(job)}\n\n"

    def close(self) -> None:
        """Ends what is being moved, which the next one goes on with, and puts the rest into the run's files."""
        with self._lock:
            self._is_closing = True
        if self._worker is not None:
            self._worker.join()
        super().close()


@contextmanager
def open_answers(opened: OpenedRun) -> Iterator[BoxAnswers]:
    """The answers about a run; a run that cannot be corrected, or that another process corrects, is only looked at."""
    with ExitStack() as stack:
        answers: BoxAnswers
        proofreading: Proofreading | MaskProofreading
        try:
            proofreading = open_proofreading(opened.run, frames=opened.frames_path)
            stack.enter_context(proofreading)
        except ArtifactError as error:
            answers = BoxAnswers(opened, None, str(error))
        else:
            if isinstance(proofreading, MaskProofreading):
                answers = MaskAnswers(opened, proofreading)
            else:
                answers = BoxAnswers(opened, proofreading)
        stack.callback(answers.close)
        yield answers
