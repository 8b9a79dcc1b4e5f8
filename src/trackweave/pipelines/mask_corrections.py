"""`MaskProofreading`: a finished run of masks and what a person says about it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.corrections.edited import EditedTracks, accepted_edit, match_edited
from trackweave.corrections.mask_queue import MaskObservations, MaskQuestion, mask_doubt, mask_questions
from trackweave.errors import ArtifactError, InputError, shortened_line
from trackweave.formats.mot import write_mot_frames
from trackweave.formats.readers import read_tracks
from trackweave.frames.source import FrameSource
from trackweave.ids import Level
from trackweave.pipelines.reprompting import Advance, Reprompter, mark_of
from trackweave.pipelines.run import Run
from trackweave.predictors.base import VideoPredictor
from trackweave.storage.corrected_masks import CorrectedRun, CorrectedSegments, corrected_frames, raw_tracks
from trackweave.storage.corrections import CorrectionsJournal, read_corrections
from trackweave.storage.files import locked_folder, read_json_object, remove_leftovers, write_json
from trackweave.storage.identity import read_identity, write_index, write_relations
from trackweave.storage.mask_archive import VideoSegments
from trackweave.storage.run import (
    RunManifest,
    RunPaths,
    keep_uncorrected,
    read_run_summary,
    restore_uncorrected,
)
from trackweave.structures.corrected_tracks import CorrectedTracks, PromptTask, RawTracks
from trackweave.structures.corrections import (
    Accepted,
    AcceptedTrack,
    Act,
    Corrections,
    Ended,
    Merged,
    Named,
    Observation,
    Prompted,
    Redone,
    Refusal,
    Step,
    Undone,
)
from trackweave.structures.identity import Containment
from trackweave.structures.run_log import RunWarning
from trackweave.structures.run_summary import LevelSummary, MaskSummary, TrackSummary
from trackweave.structures.tracks import FrameObjects, TrackClasses, Tracks
from trackweave.tracking.level_runner import spans

SolvedT = TypeVar("SolvedT")

REFUSED_CODE = "act-refused"
PENDING_CODE = "prompt-pending"


class ActsOfRun(ABC, Generic[SolvedT]):
    """What a person said about a run, and what it comes to; a `with` block is the one writer of it.

    Args:
        run: a finished run.

    Raises:
        ArtifactError: its answers are damaged.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._paths = run.paths
        fingerprint = RunManifest.load(self._paths.manifest).fingerprint
        self._journal = CorrectionsJournal(self._paths.corrections, fingerprint)
        self._corrections = read_corrections(self._paths.corrections, fingerprint)
        self._solved: SolvedT | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._journal)
        self._corrections = self._journal.corrections
        self._solved = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @abstractmethod
    def _solve(self, acts: tuple[Act, ...]) -> SolvedT:
        """What acts come to."""

    @abstractmethod
    def _refusals(self, solved: SolvedT) -> Sequence[Refusal]:
        """Those of the acts that do not hold beside the others."""

    @property
    def _now(self) -> SolvedT:
        if self._solved is None:
            self._solved = self._solve(self._corrections.acts)
        return self._solved

    @property
    def corrections(self) -> Corrections:
        """What was said so far."""
        return self._corrections

    @property
    def refused(self) -> list[str]:
        """Acts in force that do not hold beside the others, a line each."""
        return [f"act {one.act + 1}: {one.reason}" for one in self._refusals(self._now)]

    def say(self, step: Step) -> int:
        """Takes an act, an undo or a redo; when this returns it is on the disk, and all is decided anew.

        Returns:
            Its number, from 1.

        Raises:
            InputError: it cannot hold beside what is accepted, or there is nothing to undo; nothing was added.
            RunFolderError: it cannot be written.
        """
        following = self._corrections.then(step)
        solved = self._solve(following.acts)
        before = {one.act for one in self._refusals(self._now)}
        for one in self._refusals(solved):
            if not isinstance(step, Undone | Redone) and one.act not in before and one.act == len(following.acts) - 1:
                raise InputError(f"{self.run.root}: {one.reason}")
        number = self._journal.append(step)
        self._corrections, self._solved = self._journal.corrections, solved
        return number


class MaskProofreading(ActsOfRun["_SolvedMasks"]):
    """A finished run of masks and what a person says about it; a `with` block is the one writer of its answers.

    The archives stay as they are: whatever reads the run's masks reads them under the acts, at once. `propagate` moves
    the prompts that were said, each by itself; `write` puts what follows into the run's other files.

    Args:
        run: the run folder.
        frames: where the input lies now, or the frames themselves, for prompts; None = where it lay.
        predictor: that moves prompts; None = that of the run.

    Raises:
        ArtifactError: no finished run of masks, or its answers are damaged.
        RunFolderError: another process writes its answers.
    """

    def __init__(
        self,
        run: str | os.PathLike[str],
        *,
        frames: str | Path | FrameSource | None = None,
        predictor: VideoPredictor | None = None,
    ) -> None:
        opened: Run = Run(run)
        if opened.kind != "masks":
            raise ArtifactError(f"{opened.root}: is a run of boxes: Proofreading corrects it")
        super().__init__(opened)
        self._base = _Base.read(self.run)
        self._reprompter = Reprompter(self.run, frames=frames, predictor=predictor)

    def __enter__(self) -> Self:
        super().__enter__()
        self._stack.enter_context(self._reprompter)
        return self

    def _solve(self, acts: tuple[Act, ...]) -> _SolvedMasks:
        return self._base.solve(acts)

    def _refusals(self, solved: _SolvedMasks) -> Sequence[Refusal]:
        return solved.corrected.tracks.refused

    # --- what holds now ----------------------------------------------------------------------------------------------

    @property
    def tracks(self) -> Tracks:
        """The objects as they are now, without masks; `items` says what acts call each observation.

        Boxes of objects that acts changed are those of their raw tracks, until `write` has measured all masks.
        """
        return self._now.shown[0]

    @property
    def items(self) -> NDArray[np.int64]:
        """`(N,)` int64, a raw track of each observation of `tracks`."""
        return self._now.shown[1]

    @property
    def masks(self) -> tuple[MaskObservations, NDArray[np.int64]]:
        """Every mask of raw tracks and of prompts without its pixels, and `(N,)` its object; −1 = it is left out."""
        return self._now.masks, self._now.objects

    @property
    def names(self) -> Mapping[int, str]:
        """What a person called the objects, by id."""
        return self._now.corrected.tracks.names

    @property
    def pending(self) -> Sequence[PromptTask]:
        """Prompts in force that are not propagated yet."""
        return self._now.corrected.tracks.pending

    def open_masks(self, level: Level) -> VideoSegments:
        """The masks of a level as they are now; close it, or use it in a `with` block."""
        return CorrectedSegments(self._paths, [level], self._now.corrected)

    # --- saying ------------------------------------------------------------------------------------------------------

    def say(self, step: Step) -> int:
        """See `ActsOfRun.say`; a prompt waits for `propagate`, and one that is none is refused."""
        if isinstance(step, Prompted):
            mark_of(step, self.run.frames.size)
        return super().say(step)

    def accept(self, first: int, last: int) -> int:
        """Accepts what is seen from frame `first` to frame `last`: it never changes again. Returns and raises as `say`.

        Raises:
            InputError: the last frame lies before the first, a part is accepted already, or a prompt is on its way.
        """
        if first > last:
            raise InputError(f"frame {last} lies before frame {first}")
        if self.pending:
            raise InputError(f"the prompt of {self.pending[0].act.name} is on its way: accept when it is there")
        masks, objects = self._now.masks, self._now.objects
        rows = np.flatnonzero((masks.frame >= first) & (masks.frame <= last) & (objects >= 0))
        groups = []
        for number in np.unique(objects[rows]).tolist():
            own = rows[objects[rows] == number]
            pairs = sorted(zip(masks.frame[own].tolist(), masks.track[own].tolist(), strict=True))
            groups.append(AcceptedTrack(number, tuple(Observation(*pair) for pair in pairs)))
        return self.say(Accepted(first, last, tuple(groups)))

    def accept_edited(self, edited: Tracks) -> EditedTracks:
        """Accepts tracks that were edited elsewhere: see `Proofreading.accept_edited`. Masks stay those of the run."""
        if self.pending:
            raise InputError(f"the prompt of {self.pending[0].act.name} is on its way: accept when it is there")
        found = match_edited(self.tracks, edited)
        pairs = zip(self.tracks.frame.tolist(), self.tracks.track_id.tolist(), strict=True)
        edited_id = dict(zip(pairs, found.track_id.tolist(), strict=True))
        masks, objects = self._now.masks, self._now.objects
        pairs = zip(masks.frame.tolist(), objects.tolist(), strict=True)
        ids = np.array([edited_id.get(pair, -1) for pair in pairs], np.int64)
        accepted = accepted_edit(self.run.root, found, masks.frame, masks.track, ids)
        if accepted is not None:
            self.say(accepted)
        return found

    @property
    def pending_count(self) -> int:
        """Frames that `propagate` will go over."""
        return sum(map(self.frame_count, self.pending))

    def propagate(self, advance: Advance = lambda done, frame: None, stop: Callable[[], bool] = lambda: False) -> int:
        """Moves the prompts that were said and are not propagated yet, one after the other; goes on where a kill left.

        Args:
            advance: gets how many frames of `pending_count` are done, and which was the last.
            stop: is asked before each frame whether to end.

        Returns:
            How many were moved.

        Raises:
            StoppedError: `stop` said so.
            InputError: the frames are not there.
            PredictorError: the predictor failed.
            RunFolderError: the disk is full.
        """
        moved, total = 0, self.pending_count
        while self.pending:
            before = total - self.pending_count

            def advance_all(done: int, frame: int, before: int = before) -> None:
                advance(before + done, frame)

            self.move(self.pending[0], advance_all, stop)
            self.refresh()
            moved += 1
        return moved

    def move(
        self, task: PromptTask, advance: Advance = lambda done, frame: None, stop: Callable[[], bool] = lambda: False
    ) -> None:
        """Moves one prompt, as `propagate`. It changes nothing here until `refresh`, so another thread may go on."""
        self._reprompter.propagate(task, advance, stop)

    def refresh(self) -> None:
        """Takes over what was moved meanwhile."""
        self._solved = None

    # --- observations of an object -----------------------------------------------------------------------------------

    def seen(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Frames and raw tracks of an object's masks, in the order of frames; on one frame there may be several.

        Raises:
            InputError: there is no such object.
        """
        solved = self._now
        rows = np.flatnonzero(solved.objects == number)
        if not len(rows):
            raise InputError(f"there is no object {number}")
        rows = rows[np.lexsort((solved.masks.track[rows], solved.masks.frame[rows]))]
        return solved.masks.frame[rows], solved.masks.track[rows]

    def named_at(self, number: int) -> Observation | None:
        """The observation that has the name of an object."""
        one = self._now.corrected.tracks.objects.get(number)
        return None if one is None or one.name is None else one.named_at

    def frame_count(self, task: PromptTask) -> int:
        """Frames that a prompt goes over."""
        frames = self._base.raw.frames
        return bisect_right(frames, task.last) - bisect_left(frames, task.first)

    # --- what to look at ---------------------------------------------------------------------------------------------

    def questions(self, count: int = 10, skip: Iterable[Observation] = ()) -> list[MaskQuestion]:
        """What to look at next, that of the largest expected repair first.

        Args:
            count: how many at most.
            skip: masks that were asked about without an answer.
        """
        solved, acts = self._now, self._corrections.acts
        masks = solved.masks
        said = {act.at for act in acts if isinstance(act, Named | Ended)}
        skipped, accepted = set(skip), np.zeros(len(masks), np.bool_)
        for low, high in solved.corrected.tracks.accepted:
            accepted |= (masks.frame >= low) & (masks.frame <= high)
        pairs = list(map(Observation, masks.frame.tolist(), masks.track.tolist()))
        right = np.array([pair in said for pair in pairs], np.bool_) | accepted
        closed = np.array([pair in skipped for pair in pairs], np.bool_) | accepted
        settled = {(min(a, b), max(a, b)) for act in acts if isinstance(act, Merged)
                   for a, b in [(act.one.item, act.other.item)]}  # fmt: skip
        prompts = solved.prompt_frames
        return mask_questions(
            masks,
            solved.objects,
            mask_doubt(masks, prompts, right),
            prompt_frames=prompts,
            names=self.names,
            links=solved.corrected.record.table.links,
            settled=settled,
            closed=closed,
            count=count,
        )

    # --- the run's files ---------------------------------------------------------------------------------------------

    def write(self) -> Run:
        """Puts the objects as they are now into the run's files beside the archives: MOT text, summary, and what other
        tools read of identities.

        The run's own files are kept in `journal/` while an act is in force. A kill leaves whole files, old or new;
        writing again ends with the same ones.

        Raises:
            RunFolderError: another process works in the folder, or it cannot be written.
        """
        with locked_folder(self._paths.root):
            remove_leftovers(self._paths.folders)
            write_corrected(self._paths, self._corrections)
        return Run(self._paths.root)


# --- what is computed of a run once, and under acts ------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _SolvedMasks:
    """What acts come to.

    Attributes:
        masks: the masks of raw tracks and of prompts.
        objects: `(N,)` object of each; −1 = it is left out.
        corrected: the acts' result.
        prompt_frames: the frame on which each track was prompted.
        base: what they are about.
    """

    masks: MaskObservations
    objects: NDArray[np.int64]
    corrected: CorrectedRun
    prompt_frames: Mapping[int, int]
    base: _Base

    @property
    def shown(self) -> tuple[Tracks, NDArray[np.int64]]:
        """One row for each object on a frame: the box around its tracks; and the first of these tracks."""
        masks, objects = self.masks, self.objects
        kept = np.flatnonzero(objects >= 0)
        kept = kept[np.lexsort((masks.track[kept], objects[kept], masks.frame[kept]))]
        frame, number = masks.frame[kept], objects[kept]
        begins = np.flatnonzero((np.diff(frame, prepend=-1) != 0) | (np.diff(number, prepend=-1) != 0))
        if not len(begins):
            return Tracks.empty(), np.zeros(0, np.int64)
        boxes = masks.xyxy[kept]
        low, high = np.minimum.reduceat(boxes, begins), np.maximum.reduceat(boxes, begins)
        xyxy = np.concatenate([low[:, :2], high[:, 2:]], axis=1)
        score = np.maximum.reduceat(masks.score[kept], begins)
        rows = kept[begins]
        frame, number, item = frame[begins], number[begins], masks.track[rows]
        whole = self.base.boxes
        if whole is not None:
            # Objects that no act speaks of are as the identities' text has them: cut to their wholes, some not there.
            same = ~np.isin(item, self.corrected.tracks.touched)
            order = np.lexsort((whole.track_id, whole.frame))
            place = _place(whole.frame[order], whole.track_id[order], frame, number)
            found = same & (place >= 0)
            xyxy[found] = whole.xyxy[order[place[found]]]
            there = found | ~same
            frame, number, item, rows = frame[there], number[there], item[there], rows[there]
            xyxy, score = xyxy[there], score[there]
        classes = self.corrected.classes(self.base.classes).of(number)
        return Tracks.from_columns(frame, number, xyxy, score, classes, level=masks.level[rows]), item


def _place(
    frames: NDArray[np.int64], ids: NDArray[np.int64], frame: NDArray[np.int64], number: NDArray[np.int64]
) -> NDArray[np.int64]:
    """`(N,)` position of each pair among those in order of frame, then id; −1 = it is not there."""
    listed = {pair: n for n, pair in enumerate(zip(frames.tolist(), ids.tolist(), strict=True))}
    pairs = zip(frame.tolist(), number.tolist(), strict=True)
    return np.array([listed.get(pair, -1) for pair in pairs], np.int64)


@dataclass(eq=False)
class _Base:
    """The tracks of a run as it left them.

    Attributes:
        paths: the run folder.
        masks: every mask of every raw track.
        raw: what acts point at.
        boxes: of the identities, where the run has some.
        prompt_frames: the frame on which each track was prompted.
        classes: of the raw tracks, level by level.
    """

    paths: RunPaths
    masks: MaskObservations
    raw: RawTracks
    boxes: Tracks | None
    prompt_frames: Mapping[int, int]
    classes: Sequence[TrackClasses] = ()
    _prompted: dict[str, MaskObservations] = field(default_factory=dict)

    @classmethod
    def read(cls, run: Run) -> Self:
        """Reads a run.

        Raises:
            ArtifactError: a file is damaged.
        """
        parts, levels, classes = [], {}, []
        for level in run.levels:
            with run.objects(level) as objects:
                classes.append(objects.info.classes)
                for track in objects.ids:
                    rows = objects.references(track)
                    levels[int(track)] = int(level)
                    columns = (np.ascontiguousarray(rows[key]) for key in ("box", "score", "area"))
                    parts.append(
                        MaskObservations(
                            np.ascontiguousarray(rows["frame"]),
                            np.full(len(rows), int(track)),
                            np.full(len(rows), int(level)),
                            *columns,
                        )
                    )
        masks = MaskObservations.concat(sorted(parts, key=lambda part: int(part.track[0]) if len(part) else 0))
        edges = {int(part.track[0]): part.frame for part in parts if len(part)}
        none = np.zeros(0, np.int64)
        raw = raw_tracks(run.paths, levels, lambda track: edges.get(track, none))
        boxes = read_tracks(run.paths.own(run.paths.mot)) if run.paths.identity.is_file() else None
        summary = read_run_summary(run.paths.own(run.paths.summary))
        prompts = {
            track.track_id: track.prompt_frame
            for part in (summary.levels.values() if isinstance(summary, MaskSummary) else ())
            for track in part.tracks
            if track.prompt_frame is not None
        }
        return cls(run.paths, masks, raw, boxes, prompts, classes)

    def solve(self, acts: tuple[Act, ...]) -> _SolvedMasks:
        """What acts come to."""
        corrected = CorrectedRun.of(self.paths, acts, self.raw, read_identity(self.paths))
        tasks = [task for task in corrected.tracks.tasks if task not in corrected.tracks.pending]
        masks = MaskObservations.concat([self.masks, *map(self._masks_of, tasks)])
        objects = corrected.tracks.at(masks.frame, masks.track)
        prompts = {**self.prompt_frames, **{task.number: task.act.frame for task in tasks}}
        return _SolvedMasks(masks, objects, corrected, prompts, self)

    def _masks_of(self, task: PromptTask) -> MaskObservations:
        """The masks of a prompt."""
        if task.key not in self._prompted:
            with VideoSegments(self.paths.prompted(task.key)) as video:
                frames = list(video)
            columns = [(one.frame, int(one.area[0]), one.xyxy[0], float(one.score[0])) for one in frames]
            none = np.zeros(len(columns), np.int64)
            self._prompted[task.key] = MaskObservations(
                np.array([frame for frame, *_ in columns], np.int64), none, none,
                np.array([box for _, _, box, _ in columns], np.float32).reshape(-1, 4),
                np.array([score for *_, score in columns], np.float32),
                np.array([area for _, area, _, _ in columns], np.int64),
            )  # fmt: skip
        found = self._prompted[task.key]
        return replace(found, track=np.full(len(found), task.number), level=np.full(len(found), task.level))


# --- the files beside the archives -----------------------------------------------------------------------------------


def _replaced(paths: RunPaths) -> tuple[Path, ...]:
    """The files that corrected ones replace."""
    return paths.mot, paths.summary, paths.relations, paths.index


def restore(paths: RunPaths) -> None:
    """Puts the run's own files back; the folder is locked."""
    restore_uncorrected(paths, _replaced(paths))


def write_corrected(paths: RunPaths, corrections: Corrections | None = None) -> None:
    """Writes the files beside the archives under what was said; of a run whose folder is locked.

    Args:
        paths: the run folder.
        corrections: what was said; None = what `corrections.jsonl` says.
    """
    said = corrections
    if said is None:
        said = read_corrections(paths.corrections, RunManifest.load(paths.manifest).fingerprint)
    if not said.acts:
        if not said.can_redo:
            _remove_prompts(paths, (), ())
        restore(paths)
        return
    base = _Base.read(Run(paths.root))
    corrected = base.solve(said.acts).corrected
    if not said.can_redo:
        _remove_prompts(paths, corrected.tracks.tasks, corrected.tracks.pending)
    keep_uncorrected(paths, _replaced(paths))
    counts = _Counts()
    levels = RunManifest.load(paths.manifest).tracked_levels
    write_mot_frames(paths.mot, counts.boxes(corrected_frames(paths, levels, corrected)))
    if paths.identity.is_file():
        tree = corrected.record.tree
        write_index(paths.index, {frame: ids for frame, ids in counts.frames.items() if ids}, tree)
        pairs = _containments(paths.own(paths.relations))
        there = set(tree.identity.tolist())
        write_relations(paths.relations, tree, [pair for pair in pairs if {pair.inner, pair.outer} <= there])
    summary = read_run_summary(paths.own(paths.summary))
    assert isinstance(summary, MaskSummary)
    classes = corrected.classes(base.classes)
    write_json(paths.summary, counts.summary(summary, said, corrected.tracks, paths, classes).to_json())


def _containments(path: Path) -> list[Containment]:
    """What lies in what, as a run's relations list it.

    Raises:
        ArtifactError: they are damaged.
    """
    try:
        return [
            Containment(int(row["inner"]), int(row["outer"]), float(row["share"]), int(row["frames"]))
            for row in read_json_object(path, "relations").get("containment", [])
        ]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(f"{path}: is damaged: what lies in what: {shortened_line(repr(error))}") from None


def _remove_prompts(paths: RunPaths, tasks: Sequence[PromptTask], pending: Sequence[PromptTask]) -> None:
    """Removes the masks of prompts that no redo brings back, and journals whose masks are there."""
    kept = {paths.prompted(task.key) for task in tasks} | {paths.prompt_journal(task.key) for task in pending}
    for path in {*paths.root.glob("prompted/*.npz"), *paths.root.glob("journal/prompt_*.cohorts")} - kept:
        path.unlink(missing_ok=True)
    with suppress(OSError):  # not there, or something else is in it
        (paths.root / "prompted").rmdir()


@dataclass(eq=False)
class _Counts:
    """The objects of a run in numbers, gathered frame by frame.

    Attributes:
        frames: the objects of each frame.
        rows: of each object: level, frames, sum of areas, sum of scores.
    """

    frames: dict[int, list[int]] = field(default_factory=dict)
    rows: dict[int, tuple[int, list[int], list[float]]] = field(default_factory=dict)

    def boxes(self, frames: Iterable[dict[Level, FrameObjects]]) -> Iterator[Tracks]:
        """The boxes of each frame, which are counted on the way."""
        for levels in frames:
            parts = []
            for level, objects in sorted(levels.items()):
                self._add(int(level), objects)
                parts.append(Tracks.from_frames([objects], level=int(level), with_masks=False))
            yield Tracks.concat(parts)

    def _add(self, level: int, objects: FrameObjects) -> None:
        self.frames.setdefault(int(objects.frame), []).extend(objects.track_id.tolist())
        columns = zip(objects.track_id.tolist(), objects.area.tolist(), objects.score.tolist(), strict=True)
        for number, area, score in columns:
            _, seen, sums = self.rows.setdefault(number, (level, [], [0.0, 0.0]))
            seen.append(int(objects.frame))
            sums[0] += area
            sums[1] += score

    def summary(
        self,
        own: MaskSummary,
        said: Corrections,
        corrected: CorrectedTracks,
        paths: RunPaths,
        classes: TrackClasses,
    ) -> MaskSummary:
        """The run's own with the numbers of the corrected objects, and what was said."""
        prompts = {track.track_id: track for part in own.levels.values() for track in part.tracks}
        levels = {level: self._level(int(level), part, prompts, classes) for level, part in own.levels.items()}
        names = {str(number): name for number, name in corrected.names.items()}
        totals = {
            **own.totals,
            "objects": sum(part.counts["objects"] for part in levels.values()),
            "object_frames": sum(part.counts["object_frames"] for part in levels.values()),
        }
        return replace(
            own,
            totals=totals,
            levels=levels,
            warnings=(*own.warnings, *_warnings(corrected, paths)),
            extra={**own.extra, "corrections": {"acts": len(said.acts), "names": names}},
        )

    def _level(
        self, level: int, part: LevelSummary, prompts: Mapping[int, TrackSummary], classes: TrackClasses
    ) -> LevelSummary:
        tracks = []
        for number, (own, seen, (area, score)) in sorted(self.rows.items()):
            if own == level:
                known, kind = prompts.get(number), classes.tracks.get(number)
                tracks.append(
                    TrackSummary(
                        number, spans(seen), len(seen), prompt_frame=None if known is None else known.prompt_frame,
                        prompt=None if known is None else known.prompt, mean_area=round(area / len(seen), 1),
                        mean_score=round(score / len(seen), 4), class_id=None if kind is None else kind.class_id,
                        class_score=None if kind is None else kind.score,
                    )
                )  # fmt: skip
        counts = {"objects": len(tracks), "object_frames": sum(track.frames for track in tracks)}
        return replace(part, counts={**part.counts, **counts}, tracks=tracks)


def _warnings(corrected: CorrectedTracks, paths: RunPaths) -> list[RunWarning]:
    lines = [(REFUSED_CODE, f"act {one.act + 1}: {one.reason}: it has no effect") for one in corrected.refused]
    lines += [
        (PENDING_CODE, f"the prompt of {task.act.name} on frame {task.act.frame} is not propagated yet")
        for task in corrected.pending
    ]
    if paths.overlay.is_file():
        text = "overlay.mp4 shows the tracks before they were corrected: trackweave export RUN --to mp4 draws them"
        lines.append(("overlay-uncorrected", text))
    return [RunWarning("corrections", None, code, text) for code, text in lines]
