"""`Proofreading`: a finished run and what a person says about it; the tracks are decided again after each act."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.association.labels import NO_IDENTITY
from trackweave.association.logged_samples import BLENDED, PERSON, PERSON_BLENDED
from trackweave.corrections.constraints import Constraints, constraints
from trackweave.corrections.decision import Decision, decide
from trackweave.corrections.doubt import Links, link_doubt
from trackweave.corrections.edited import EditedTracks, accepted_edit, match_edited
from trackweave.corrections.forecast import SwitchForecast, forecast_of
from trackweave.corrections.queue import Question, questions
from trackweave.errors import ArtifactError, InputError, wording
from trackweave.formats.mot import MotWriter
from trackweave.formats.readers import read_tracks
from trackweave.frames.source import FrameSource
from trackweave.pipelines.box_outputs import TrackCounts, TrackStatistics
from trackweave.pipelines.mask_corrections import REFUSED_CODE, ActsOfRun, MaskProofreading
from trackweave.pipelines.run import Run, open_run
from trackweave.predictors.base import VideoPredictor
from trackweave.progress import Progress, open_progress
from trackweave.storage.files import locked_folder, write_json
from trackweave.storage.run import RunPaths, keep_uncorrected, read_run_summary, restore_uncorrected
from trackweave.storage.sample_folder import SampleFolder
from trackweave.storage.samples import AssociationSample, read_sample
from trackweave.storage.track_archive import TrackRows, TracksArchive, TracksArchiveWriter
from trackweave.structures.corrections import (
    Accepted,
    AcceptedAsIs,
    AcceptedTrack,
    Act,
    Observation,
    Prompted,
    Refusal,
    Spoken,
)
from trackweave.structures.run_log import RunWarning
from trackweave.structures.run_summary import BoxSummary
from trackweave.structures.tracks import Tracks

SURE = 0.9
"""Probability from which a decision counts as truth beside what a person named."""
SAME_BOX = 1e-4
"""Shares of the frame's size by which the corners of one box may differ between a run and its samples."""


@dataclass(frozen=True, eq=False)
class _Solved:
    """What acts come to.

    Attributes:
        rows: the run's own observations and those of prompts.
        item: what acts call each.
        links: into each.
        known: the acts as constraints.
    """

    rows: TrackRows
    item: NDArray[np.int64]
    links: Links
    known: Constraints

    @cached_property
    def decision(self) -> Decision:
        """What was decided; not before it is looked at, so that a file of answers is read fast."""
        return decide(self.rows.tracks, self.links, self.known)


@dataclass(eq=False)
class _DecisionEngine:
    """The tracks of a run as it left them, with what is computed of them once."""

    rows: TrackRows
    _links: dict[tuple[Prompted, ...], tuple[TrackRows, NDArray[np.int64], tuple[int, ...], Links]] = field(
        default_factory=dict
    )

    def solve(self, acts: tuple[Act, ...]) -> _Solved:
        prompts = tuple(act for act in acts if isinstance(act, Prompted) and act.box is not None)
        if prompts not in self._links:
            rows, item, places = _with_prompts(self.rows, prompts)
            self._links = {prompts: (rows, item, places, link_doubt(rows.tracks))}
        rows, item, places, links = self._links[prompts]
        known = constraints(acts, rows.tracks, item, places)
        return _Solved(rows, item, links, known)


def _with_prompts(
    rows: TrackRows, prompts: tuple[Prompted, ...]
) -> tuple[TrackRows, NDArray[np.int64], tuple[int, ...]]:
    """With a track of one observation for each prompted box; what acts call each; the rows of the prompts."""
    first = int(rows.tracks.track_id.max(initial=0)) + 1
    ids = list(range(first, first + len(prompts)))
    joined = _joined([rows, _prompt_rows(prompts, ids)])
    places = tuple(int(np.flatnonzero(joined.tracks.track_id == one)[0]) for one in ids)
    return joined, joined.detection, places


def _prompt_rows(prompts: Iterable[Prompted], ids: Iterable[int]) -> TrackRows:
    """Observations of prompted boxes; their score is 1, their class that of nothing."""
    pairs = sorted(zip(prompts, ids, strict=True), key=lambda pair: (pair[0].frame, pair[1]))
    boxes = np.array([one.box for one, _ in pairs], np.float32).reshape(-1, 4)
    tracks = Tracks.from_columns([one.frame for one, _ in pairs], [number for _, number in pairs], boxes)
    return TrackRows(tracks, np.full(len(pairs), -1), np.full(len(pairs), np.nan))


def _joined(parts: list[TrackRows]) -> TrackRows:
    """One record of several that share frames, in order."""
    whole = [part for part in parts if len(part)]
    if len(whole) < 2:
        return whole[0] if whole else parts[0]
    frame, track_id = (np.concatenate([getattr(part.tracks, name) for part in whole]) for name in ("frame", "track_id"))
    order = np.lexsort((track_id, frame))
    joined = TrackRows.concat(whole)  # its tracks are put in order, the other columns are not
    return TrackRows(joined.tracks, joined.detection[order], joined.time[order])


class Proofreading(ActsOfRun[_Solved]):
    """A finished run of boxes and what a person says about it; a `with` block is the one writer of its answers.

    The run's own tracks are kept; after each act they are decided again under all acts in force, in memory. `write`
    puts the result into the run's files, which every export, evaluation and report reads; with no act in force the
    files are those of the run, to the byte.

    Args:
        run: the run folder.

    Raises:
        ArtifactError: no finished run of boxes, or its answers are damaged.
        RunFolderError: another process writes its answers.
    """

    def __init__(self, run: str | os.PathLike[str]) -> None:
        opened: Run = Run(run)
        if opened.kind != "boxes":
            raise ArtifactError(f"{opened.root}: is a run of masks: MaskProofreading corrects it")
        super().__init__(opened)
        with TracksArchive(self._paths.own(self._paths.tracks)) as archive:
            self._engine = _DecisionEngine(archive.rows(with_masks=False))

    def _solve(self, acts: tuple[Act, ...]) -> _Solved:
        return self._engine.solve(acts)

    def _refusals(self, solved: _Solved) -> Sequence[Refusal]:
        return solved.known.refused

    @property
    def tracks(self) -> Tracks:
        """The tracks as they are decided now, without masks; `items` says what acts call each observation."""
        kept = self._kept()
        return replace(self._now.rows.tracks[kept], track_id=self._now.decision.track_id[kept])

    @property
    def items(self) -> NDArray[np.int64]:
        """`(N,)` int64, what acts call each observation of `tracks` on its frame; −1: it cannot be pointed at."""
        return self._now.item[self._kept()]

    def _kept(self) -> NDArray[np.int64]:
        """Rows of the run that are left, in the order of `tracks`."""
        solved = self._now
        kept = np.flatnonzero(solved.decision.track_id >= 0)
        return kept[np.lexsort((solved.decision.track_id[kept], solved.rows.tracks.frame[kept]))]

    @property
    def links(self) -> Links:
        """The links of the run into each observation of `tracks`; the doubt of those that are cut or accepted is 0."""
        kept, links, ids = self._kept(), self._now.links, self._now.decision.track_id
        tracks = self._now.rows.tracks
        row_of = np.full(len(ids) + 1, -1)  # its last row stands for no row, −1
        row_of[kept] = np.arange(len(kept))
        before = links.previous[kept]
        holds = (before >= 0) & (ids[before] == ids[kept])
        previous = np.where(holds, row_of[before], -1)
        for act in self._corrections.acts:
            if isinstance(act, Accepted):
                holds &= (tracks.frame[kept] < act.first) | (tracks.frame[kept] > act.last)
        doubt = np.where(holds, links.doubt[kept], 0)
        return Links(previous, doubt, row_of[links.partner[kept]], links.overlap[kept])

    @property
    def names(self) -> Mapping[int, str]:
        """What a person called the objects, by track id."""
        known, ids = self._now.known, self._now.decision.label_ids.tolist()
        return {number: name for number, name in zip(ids, known.names, strict=True) if name is not None}

    def accept(self, first: int, last: int) -> int:
        """Accepts what is seen from frame `first` to frame `last`: it never changes again. Returns and raises as `say`.

        Raises:
            InputError: the last frame lies before the first, or a part is accepted already.
        """
        if first > last:
            raise InputError(f"frame {last} lies before frame {first}")
        tracks, items = self.tracks, self.items
        rows = np.flatnonzero((tracks.frame >= first) & (tracks.frame <= last) & (items >= 0))
        groups = []
        for number in np.unique(tracks.track_id[rows]).tolist():
            own = rows[tracks.track_id[rows] == number]
            pairs = zip(tracks.frame[own].tolist(), items[own].tolist(), strict=True)
            groups.append(AcceptedTrack(number, tuple(Observation(*pair) for pair in pairs)))
        return self.say(Accepted(first, last, tuple(groups)))

    def accept_edited(self, edited: Tracks) -> EditedTracks:
        """Accepts tracks that were edited elsewhere, on the frames that they go over: who is who there never changes
        again. Nothing is said where they are those of the run.

        Raises:
            InputError: none of them lies on an observation of the run, or a part is accepted already.
            RunFolderError: it cannot be written.
        """
        tracks, items = self.tracks, self.items
        known = np.flatnonzero(items >= 0)
        found = match_edited(tracks[known], edited)
        accepted = accepted_edit(self.run.root, found, tracks.frame[known], items[known], found.track_id)
        if accepted is not None:
            self.say(accepted)
        return found

    def questions(self, count: int = 10, skip: Iterable[Observation] = ()) -> list[Question]:
        """What to ask next, that of the largest expected repair first.

        Args:
            count: how many at most.
            skip: observations that were asked about without an answer.
        """
        solved = self._now
        skipped = {(at.frame, at.item) for at in skip}
        pairs = zip(solved.rows.tracks.frame.tolist(), solved.item.tolist(), strict=True)
        asked = np.array([pair in skipped for pair in pairs], np.bool_) if skipped else None
        return questions(
            solved.rows.tracks, solved.item, solved.links, solved.known, solved.decision, count=count, asked=asked
        )

    def forecast(self) -> SwitchForecast:
        """How many identity switches the run's own tracks likely have; answers do not change it."""
        return forecast_of(self._engine.rows.tracks, self.run.summary.input.size)

    def identities(self, frame: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """`(N, 4)` xyxy and `(N,)` id of the boxes of a frame that a person named or that surely belong to these."""
        solved = self._now
        tracks, decision = solved.rows.tracks, solved.decision
        low, high = np.searchsorted(tracks.frame, [frame, frame + 1])
        rows = np.arange(low, high)[(decision.label[low:high] >= 0) & (decision.track_id[low:high] >= 0)]
        sure = decision.posterior[decision.segment[rows], decision.label[rows]] >= SURE
        rows = rows[sure | (solved.known.label[rows] >= 0)]
        return tracks.xyxy[rows], decision.track_id[rows]

    def write(self) -> Run:
        """Puts the tracks as they are decided now into the run's files: archive, MOT text, and the summary's numbers.

        The run's own files are kept in `journal/` while an act is in force. A kill leaves whole files, old or new;
        writing again ends with the same ones.

        Raises:
            RunFolderError: another process works in the folder, or it cannot be written.
        """
        paths = self._paths
        with locked_folder(paths.root):
            if self._corrections.acts:
                keep_uncorrected(paths, _replaced(paths))
                self._write_corrected()
            else:
                restore_uncorrected(paths, _replaced(paths))
        return Run(paths.root)

    def _write_corrected(self) -> None:
        paths = self._paths
        with TracksArchive(paths.uncorrected(paths.tracks)) as archive:
            statistics = TrackStatistics(step=self._step())
            metadata = {**archive.metadata, "acts": len(self._corrections.acts)}
            with TracksArchiveWriter(paths.tracks, metadata) as writer, MotWriter(paths.mot) as mot:
                for part in self._parts(archive):
                    writer.write(part)
                    mot.write(part.tracks)
                    statistics.add(part.tracks)
        summary = read_run_summary(paths.uncorrected(paths.summary))
        assert isinstance(summary, BoxSummary)
        write_json(paths.summary, self._summary(summary, statistics.counts()).to_json())

    def _parts(self, archive: TracksArchive) -> Iterator[TrackRows]:
        """The corrected observations part by part, masks included."""
        solved = self._now
        prompts = [one for one in self._corrections.acts if isinstance(one, Prompted) and one.box is not None]
        own = solved.rows.tracks.track_id <= self._engine.rows.tracks.track_id.max(initial=0)
        track_id = solved.decision.track_id[own]  # of the run's own observations, in the order of the archive
        added = solved.decision.track_id[~own]
        drawn = _prompt_rows(prompts, range(len(prompts)))
        drawn = replace(drawn, tracks=replace(drawn.tracks, track_id=added))
        start = written = 0
        for part in [*archive.parts(), None]:
            last = (
                len(drawn) if part is None else int(np.searchsorted(drawn.tracks.frame, part.tracks.frame[-1], "right"))
            )
            chosen = _selected(drawn, np.arange(written, last), added[written:last])
            written = last
            if part is not None:
                ids = track_id[start : start + len(part)]
                start += len(part)
                chosen = _joined([_selected(part, np.arange(len(part)), ids), chosen])
            if len(chosen):
                yield chosen

    def _step(self) -> int:
        """Distance of neighbouring frames of the run."""
        frames = self._engine.rows.tracks.frames
        return int(np.diff(frames).min()) if len(frames) > 1 else 1

    def _summary(self, summary: BoxSummary, counts: TrackCounts) -> BoxSummary:
        """The run's own with the numbers of the corrected tracks, and what was said."""
        warnings = [RunWarning("corrections", None, REFUSED_CODE, f"{text}: it has no effect") for text in self.refused]
        if self._paths.overlay.is_file():
            text = "overlay.mp4 shows the tracks before they were corrected: trackweave export RUN --to mp4 draws them"
            warnings.append(RunWarning("corrections", None, "overlay-uncorrected", text))
        said = {"acts": len(self._corrections.acts), "names": {str(one): name for one, name in self.names.items()}}
        return replace(
            summary,
            totals={**summary.totals, "tracks": counts.tracks, "boxes": counts.boxes},
            track_lengths=counts.lengths,
            longest_tracks=counts.longest,
            expected_switches=None,  # calibrated for what trackers do, not for what answers leave
            warnings=(*summary.warnings, *warnings),
            extra={**summary.extra, "corrections": said},
        )


def _selected(rows: TrackRows, chosen: NDArray[np.int64], track_id: NDArray[np.int64]) -> TrackRows:
    """Rows under new ids, in order; those of id −1 are left out."""
    kept = np.flatnonzero(track_id >= 0)
    kept = kept[np.lexsort((track_id[kept], rows.tracks.frame[chosen[kept]]))]
    at = chosen[kept]
    return TrackRows(replace(rows.tracks[at], track_id=track_id[kept]), rows.detection[at], rows.time[at])


def _replaced(paths: RunPaths) -> tuple[Path, ...]:
    """The files that corrected ones replace."""
    return paths.tracks, paths.mot, paths.summary


def open_proofreading(
    run: str | os.PathLike[str],
    *,
    frames: str | Path | FrameSource | None = None,
    predictor: VideoPredictor | None = None,
) -> Proofreading | MaskProofreading:
    """The proofreading of a finished run, of boxes or of masks.

    Args:
        run: the run folder.
        frames: of a run of masks, where the input lies now, or the frames themselves; None = where it lay.
        predictor: of a run of masks, what moves prompts; None = that of the run.

    Raises:
        ArtifactError: no finished run, or its answers are damaged.
    """
    if open_run(run).kind == "masks":
        return MaskProofreading(run, frames=frames, predictor=predictor)
    return Proofreading(run)


def correct(
    run: str | os.PathLike[str],
    steps: Iterable[Spoken] = (),
    *,
    frames: str | Path | FrameSource | None = None,
    predictor: VideoPredictor | None = None,
    progress: Progress = None,
) -> Run:
    """Writes acts down, decides the tracks of a run again, moves new prompts, and puts all into the run's files.

    Args:
        run: the run folder.
        steps: acts, undos and redos, in order; none: what was said before is decided again. Where they begin with all
            the acts that are in force already, as when a file is read again that has grown, only the rest is said.
            Prompts that wait are moved before a stretch is accepted as it is.
        frames, predictor: see `open_proofreading`.
        progress: of prompts that are moved; None = shown by itself in a terminal or a notebook; or a function of
            `(done, total, label)`.

    Raises:
        ArtifactError: no finished run, or its answers are damaged.
        InputError: an act cannot hold beside what is accepted; those before it hold.
        PredictorError: the predictor failed; what is missing is moved by the next call.
        RunFolderError: another process works in the folder, or it cannot be written.
    """
    with open_proofreading(run, frames=frames, predictor=predictor) as proofreading:
        _say_all(proofreading, list(steps), progress)
        _move_prompts(proofreading, progress)
        return proofreading.write()


def accept_edited(run: str | os.PathLike[str], path: str | os.PathLike[str]) -> EditedTracks:
    """Writes down that tracks of a file are those of the run; `correct` puts them into its files.

    Args:
        run: the run folder.
        path: tracks in any format of `formats.registry`, with the run's numbers of frames.

    Raises:
        ArtifactError: no finished run, or its answers are damaged.
        InputError: the file cannot be read, has no track, or does not fit the run.
        RunFolderError: another process writes the run's answers.
    """
    edited = read_tracks(path, with_masks=False)
    if not len(edited):
        raise InputError(f"{path}: has no track")
    with open_proofreading(run) as proofreading:
        return proofreading.accept_edited(edited)


def _move_prompts(proofreading: Proofreading | MaskProofreading, progress: Progress) -> None:
    if isinstance(proofreading, MaskProofreading) and proofreading.pending:
        with open_progress(progress, proofreading.pending_count, "prompts") as display:
            proofreading.propagate(display.update)


def _say_all(proofreading: Proofreading | MaskProofreading, steps: list[Spoken], progress: Progress) -> None:
    """Says what was not said before.

    Raises:
        InputError: an act does not hold; its number and the reason. The run's files have those before it.
    """
    known = proofreading.corrections.acts
    said = len(known) if len(steps) >= len(known) and all(map(_is_said_by, steps, known)) else 0
    for number, step in enumerate(steps[said:], start=said + 1):
        try:
            if isinstance(step, AcceptedAsIs):
                _move_prompts(proofreading, progress)
                proofreading.accept(step.first, step.last)
            else:
                proofreading.say(step)
        except InputError as error:
            if isinstance(proofreading, Proofreading):
                proofreading.write()
            raise InputError(f"{error} (act {number} of {len(steps)}; those before it hold)") from None


def _is_said_by(step: Spoken, act: Act) -> bool:
    if isinstance(step, AcceptedAsIs):
        return isinstance(act, Accepted) and (step.first, step.last) == (act.first, act.last)
    return step == act


def label_samples(
    run: str | os.PathLike[str], output: str | os.PathLike[str], samples: str | os.PathLike[str] | None = None
) -> int:
    """Copies the training samples that a run logged, with what a person said as their truth.

    `gt_track_ids` has the ids of named objects, on boxes that were named or that surely belong to them, and −1 for all
    others: training takes these as unknown. Samples of other sequences are left out; those without a known box are
    copied as well, because a training follows the tracks through them.

    Args:
        run: the corrected run.
        output: the folder to write; samples that it holds stay.
        samples: the folder that it logged to (`--log-dir`); None: where the run says it did.

    Returns:
        How many samples have a known box.

    Raises:
        ArtifactError: a sample is damaged, or the folder cannot be written.
        InputError: the same folder twice, no sample of the run's sequence, or nobody named an object.
    """
    proofreading, target = Proofreading(run), Path(output)
    source = _log_of(proofreading.run) if samples is None else Path(samples)
    if source.resolve() == target.resolve():
        raise InputError(f"{target}: holds the samples themselves: name another folder for those with answers")
    if not proofreading.names:
        raise InputError(f"{proofreading.run.root}: nobody named an object: see `trackweave ask`")
    summary = proofreading.run.summary
    assert isinstance(summary, BoxSummary)
    sequence = (summary.log or {}).get("sequence") or summary.input.name
    own = [sample for sample in map(read_sample, sorted(source.glob("sample_*.npz")))
           if sample.metadata.sequence == sequence]  # fmt: skip
    if not own:
        raise InputError(f"{source}: has no samples of {sequence}: boxes --log-dir logs them")
    folder, known = SampleFolder(target), 0
    try:
        for sample in own:
            labelled = _labelled(sample, *proofreading.identities(sample.frame_idx), folder.run)
            folder.write(labelled)
            known += labelled.gt_track_ids is not None and bool((labelled.gt_track_ids >= 0).any())
    finally:
        folder.close()
    return known


def _log_of(run: Run) -> Path:
    """Where a run of boxes logged its samples.

    Raises:
        InputError: it logged none, or they are gone.
    """
    log = run.summary.log if isinstance(run.summary, BoxSummary) else None
    if log is None:
        raise InputError(f"{run.root}: logged no samples to learn from: track it with `boxes --log-dir DIR`")
    folder = Path(str(log.get("directory")))
    if not folder.is_dir():
        remedy = wording("samples=", "`correct --samples DIR --labelled OUT`")
        raise InputError(f"{run.root}: its samples are not in {folder} any more: {remedy} says where they are")
    return folder


def _labelled(
    sample: AssociationSample, xyxy: NDArray[np.float32], track_id: NDArray[np.int64], run: str
) -> AssociationSample:
    """The sample with the ids of the boxes that it shares."""
    identity = np.full(sample.detection_count, NO_IDENTITY, np.int64)
    width, height = sample.metadata.width, sample.metadata.height
    if width is not None and height is not None:
        shares = xyxy / np.array([width, height, width, height], np.float32)
        apart = np.abs(sample.det_features[:, None, :4] - shares[None]).max(axis=2)
        rows, columns = np.nonzero(apart < SAME_BOX)
        identity[rows] = track_id[columns]
    # Decisions of a learned scorer stay marked as such: without the truth they are nothing to learn from.
    is_blended = sample.metadata.label_source == BLENDED
    metadata = replace(sample.metadata, run=run, label_source=PERSON_BLENDED if is_blended else PERSON)
    return replace(sample, gt_track_ids=identity, metadata=metadata)
