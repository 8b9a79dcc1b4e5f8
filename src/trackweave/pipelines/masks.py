"""TODO pipelines/masks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import (
    CandidateError,
    FrameError,
    PromptError,
    RunFolderError,
    SettingError,
    TrackweaveError,
)
from trackweave.formats.davis import read_label_png
from trackweave.formats.mot import write_mot_frames
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource, exclude_unreadable, sample_evenly
from trackweave.ids import PROMPTED_LEVEL, FrameIndex, Level, TrackId
from trackweave.pipelines.run_folder import _Digest
from trackweave.predictors.base import VideoPredictor
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.registry import ChosenPredictor, PredictorSettings, choose_predictor
from trackweave.predictors.sam.settings import SamSettings
from trackweave.progress import ProgressPrinter, TimingAggregator, peak_rss_mb
from trackweave.proposals.regions import RegionProposals
from trackweave.proposals.settings import RegionSettings
from trackweave.storage.candidates import filtered_path, write_filtered
from trackweave.storage.files import read_json_object, remove_partials, write_json
from trackweave.storage.mask_archive import VideoSegments
from trackweave.storage.result_log import CohortJournal
from trackweave.storage.run import FrameList, LevelRecord, RunManifest, RunPaths, ensure_writable
from trackweave.structures.candidates import Candidates
from trackweave.structures.run_log import RunWarning
from trackweave.structures.tracks import Tracks
from trackweave.tracking.level_runner import (
    ScheduledLevel,
    describe_tracks,
    level_stats,
    manifest_stats,
    persist_level_outputs,
    track_side_by_side,
)
from trackweave.tracking.mask_tracker import add_work, fold_remarks
from trackweave.tracking.pipeline_context import (
    PipelineContext,
    build_pipeline_context,
    summarise_tracking_stats,
    update_tracking_manifest,
)
from trackweave.tracking.sam2_runner import prompt_tracking
from trackweave.tracking.settings import TrackingSettings
from trackweave.tracking.stores import FrameResultStore

ALL_LEVELS = (Level(2), Level(4), Level(6))
GENERATED_LEVELS = (Level(2),)
"""What is tracked when candidates are generated and nobody said which levels: finer ones take many times as long."""
SUMMARY_VERSION = 1
VOID_LABEL = 255
Progress = Callable[[str, int], ProgressPrinter]
GENERATORS = {"regions": RegionProposals}


@dataclass(frozen=True)
class RunResult:
    """Where a run's results lie and what they are in numbers.

    Attributes:
        run: paths of the run folder.
        levels: level → its part of the summary.
        warnings: everything that was done differently from what was asked.
        summary: the content of `summary.json`.
    """

    run: RunPaths
    levels: Mapping[Level, Mapping[str, Any]]
    warnings: Sequence[RunWarning]
    summary: Mapping[str, Any]

    def video_segments(self, level: Level | int) -> VideoSegments:
        """Opens a level's masks by frame."""
        return VideoSegments(RunManifest.load(self.run.manifest).artifact(level, "video_segments"))

    def tracks(self, level: Level | int, *, with_masks: bool = True) -> Tracks:
        """A level's tracks in memory."""
        with self.video_segments(level) as video:
            return Tracks.from_frames(video, level=int(level), with_masks=with_masks)


def track_masks(
    frames: str | Path | NDArray[np.uint8] | FrameSource,
    output: str | Path,
    *,
    candidates: str | Path | None = None,
    prompts: Sequence[str | Path] | Mapping[int, NDArray[np.integer[Any]]] | None = None,
    generator: str | RegionSettings = "regions",
    candidate_stride: int = 10,
    levels: Sequence[int] | None = None,
    predictor: str | VideoPredictor = "auto",
    predictor_settings: PredictorSettings | SamSettings | FlowSettings | None = None,
    sampling: str | None = None,
    settings: TrackingSettings | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> RunResult:
    """Follows every object of a video through time and leaves a run folder.

    What is followed comes from one of three places: filtered `candidates` on disk, `prompts` of a person, or, when
    neither is given, candidates that a `generator` finds on every `candidate_stride`-th frame.

    Args:
        frames: a folder of images, a video file, an array `(N, H, W, 3)` uint8 RGB, or a source.
        output: the run folder; made when it is not there.
        candidates: folder with `level_L/filtered/filtered.json`.
        prompts: label images (`LABEL.png` on the first frame, or `FRAME:LABEL.png`), or a mapping from absolute frame
            index to label map `(H, W)`; ids are the label values.
        generator: name of a candidate generator, or the settings of `regions`.
        candidate_stride: frames between two on which the generator runs.
        levels: granularity levels (2 coarse, 4 medium, 6 fine); None = those of `candidates`, else 2.
        predictor: a name of `choose_predictor`, or a predictor.
        predictor_settings: of the SAM 2 family (weights, device and more) or of `flow`, when `predictor` is a name.
        sampling: `start:end:step` over the frames.
        settings: how to track.
        resume: continue a run that was cut off; finished levels are kept.
        progress: makes a progress display from a label and a number of steps.

    Raises:
        InputError: frames, candidates or prompts cannot be used; one line that names the file and the item.
        RunFolderError: `output` holds another run, or cannot be written.
        PredictorError: the predictor is missing or failed.
        MissingExtraError: the predictor's packages are not installed.
        SettingError: a setting is wrong.
    """
    how = settings or TrackingSettings()
    if candidates is not None and prompts is not None:
        raise SettingError("give candidates or prompts, not both")
    chosen = (
        choose_predictor(predictor, predictor_settings)
        if isinstance(predictor, str)
        else ChosenPredictor(predictor, predictor.name, "given by the caller")
    )
    job = _Job(RunPaths(Path(output)), how, chosen, resume=resume, progress=progress, warnings=[*chosen.warnings])
    with ExitStack() as stack:
        job.open_frames(frames, sampling, stack)
        if prompts is not None:
            labels = _label_maps(prompts, job.frames, job.video_length)
            return job.run_prompts(
                {local: (where, job.without_void(where, values)) for local, (where, values) in labels.items()}
            )
        if candidates is None:
            if isinstance(generator, str) and generator not in GENERATORS:
                raise SettingError(f"there is no generator {generator!r}; known: {', '.join(GENERATORS)}")
            if candidate_stride < 1:
                raise SettingError(f"candidate_stride is at least 1, not {candidate_stride}")
            asked = [Level(level) for level in levels] if levels else list(GENERATED_LEVELS)
            return job.run_generated(asked, generator, candidate_stride)
        root = Path(candidates)
        return job.run_candidates(root, _asked_levels(root, levels))


def propose_candidates(
    frames: FrameSource,
    root: Path,
    levels: Sequence[Level],
    *,
    stride: int = 10,
    generator: str | RegionSettings = "regions",
    progress: ProgressPrinter | None = None,
) -> list[int]:
    """Finds candidates on every `stride`-th frame and writes them in the filtered layout below `root`.

    Returns:
        The local positions that were looked at.
    """
    proposer = GENERATORS[generator]() if isinstance(generator, str) else RegionProposals(generator)
    positions = sample_evenly(range(len(frames)), stride)
    found: dict[Level, list[tuple[int, str, Candidates]]] = {level: [] for level in levels}
    for done, local in enumerate(positions, start=1):
        by_level = proposer.propose_levels(frames[local], [int(level) for level in levels])
        for level in levels:
            found[level].append((int(frames.indices[local]), frames.names[local], by_level[int(level)]))
        if progress is not None:
            progress.update(done, frames.indices[local])
    for level in levels:
        write_filtered(root / f"level_{level}", int(level), iter(found[level]))
    return positions


def _asked_levels(root: Path, levels: Sequence[int] | None) -> list[Level]:
    if not root.is_dir():
        raise CandidateError(f"{root}: there is no such folder of candidates")
    found = sorted(Level(int(p.parents[1].name[6:])) for p in root.glob("level_[0-9]*/filtered/filtered.json"))
    if levels is None:
        if not found:
            raise CandidateError(f"{root}: has no level_L/filtered/filtered.json")
        return found
    if not levels:
        raise SettingError("no level was asked for")
    asked = sorted({Level(int(level)) for level in levels})
    missing = [level for level in asked if level not in found]
    if missing:
        there = ", ".join(map(str, found)) or "none"
        raise CandidateError(f"{root}: has no candidates of level {missing[0]}; levels there: {there}")
    return asked


def _label_maps(
    prompts: Sequence[str | Path] | Mapping[int, NDArray[np.integer[Any]]], frames: FrameSource, video_length: int
) -> dict[int, tuple[str, NDArray[np.int64]]]:
    """Prompts by local position: `(where from, labels)`."""
    local_of = {int(index): local for local, index in enumerate(frames.indices)}
    given: list[tuple[int, str, NDArray[Any]]] = []
    if isinstance(prompts, Mapping):
        given = [(int(frame), f"prompt on frame {frame}", np.asarray(labels)) for frame, labels in prompts.items()]
    else:
        for text in prompts:
            frame, path = _prompt_path(str(text), int(frames.indices[0]))
            given.append((frame, str(path), read_label_png(path)))
    if not given:
        raise PromptError("no prompt was given")
    found: dict[int, tuple[str, NDArray[np.int64]]] = {}
    for frame, where, labels in given:
        if not 0 <= frame < video_length:
            raise PromptError(f"{where}: frame {frame} does not exist: the video has frames 0 … {video_length - 1}")
        if frame not in local_of:
            raise PromptError(f"{where}: frame {frame} is not among the sampled frames")
        if labels.shape != frames.size:
            height, width = frames.size
            raise PromptError(f"{where}: is {labels.shape[1]}×{labels.shape[0]}, the frames are {width}×{height}")
        if not (labels > 0).any():
            raise PromptError(f"{where}: marks no object (every pixel is 0)")
        if local_of[frame] in found:
            raise PromptError(f"{where}: frame {frame} has two prompt images")
        found[local_of[frame]] = (where, labels.astype(np.int64))
    return found


def _prompt_path(text: str, first: int) -> tuple[int, Path]:
    """`FRAME:LABEL.png` or `LABEL.png`; a file whose own name holds a colon is taken as it is."""
    head, colon, tail = text.partition(":")
    if colon and head.isdigit() and not Path(text).exists():
        return int(head), Path(tail)
    return first, Path(text)


@dataclass
class _Job:
    """One run: what it was asked, what it found out, what it has done so far."""

    run: RunPaths
    how: TrackingSettings
    chosen: ChosenPredictor
    resume: bool
    progress: Progress | None
    timer: TimingAggregator = field(default_factory=TimingAggregator)
    warnings: list[RunWarning] = field(default_factory=list)
    frames: FrameSource = field(init=False)
    video_length: int = field(init=False)
    source: str = field(init=False)

    def open_frames(self, given: Any, sampling: str | None, stack: ExitStack) -> None:
        """Opens the frames; with `on_bad_item="skip"` leaves out those that cannot be read."""
        with self.timer.track("open"):
            whole = open_frames(given)
            if whole is not given:
                stack.enter_context(whole)
            self.source = str(whole.path) if whole.path is not None else "memory"
            self.video_length = int(whole.indices[-1]) + 1
            self._check_damage(whole)
            frames = open_frames(whole, sampling=sampling) if sampling else whole
            if self.how.on_bad_item == "skip":
                frames, excluded = exclude_unreadable(frames)
                self.warnings += [
                    RunWarning("frames", None, "frame-skipped", f"left out frame {index} ({name}): {reason}")
                    for index, name, reason in excluded
                ]
            self.frames = frames

    def _check_damage(self, whole: FrameSource) -> None:
        """A video that was cut off still has frames; whether they will do is the user's choice."""
        damage = getattr(whole, "damage", None)
        if damage is None:
            return
        if self.how.on_bad_item == "error":
            raise FrameError(f"{damage} (--on-bad-item skip tracks the {len(whole)} frames that are there)")
        self.warnings.append(RunWarning("frames", None, "video-damaged", str(damage)))

    def without_void(self, where: str, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Label 255 means "void" in indexed images, but "object" in a black and white one."""
        void = labels == VOID_LABEL
        if not void.any():
            return labels
        if np.all(void | (labels == 0)):
            text = f"{where}: a black and white mask: its object got id 1"
            self.warnings.append(RunWarning("prompts", None, "binary-prompt", text))
            return np.asarray(void, np.int64)
        text = f"{where}: label {VOID_LABEL} means void and was not tracked"
        self.warnings.append(RunWarning("prompts", None, "void-label", text))
        return np.where(void, 0, labels)

    # --- the three ways in ---------------------------------------------------------------------------------------

    def run_candidates(self, root: Path, levels: Sequence[Level]) -> RunResult:
        """Tracks candidates that lie on disk."""
        digest = _Digest()
        for level in levels:
            digest.add_file(filtered_path(root / f"level_{level}"))
        return self._run_levels(root, levels, {"kind": "candidates", "root": str(root)}, digest)

    def run_generated(self, levels: Sequence[Level], generator: str | RegionSettings, stride: int) -> RunResult:
        """Finds candidates in the run folder, then tracks them."""
        name, changed = generator, {}
        if isinstance(generator, RegionSettings):
            name, changed = "regions", generator.model_dump(mode="json", exclude_defaults=True)
        how = {"kind": "generator", "name": name, "stride": stride, **({"settings": changed} if changed else {})}
        fingerprint = self._prepare(how, _Digest())
        levels = sorted(set(levels))
        if not all(filtered_path(self.run.level(level).root).is_file() for level in levels) or not self.resume:
            with self.timer.track("propose"):
                display = self._display("finding candidates", len(sample_evenly(range(len(self.frames)), stride)))
                try:
                    propose_candidates(
                        self.frames, self.run.root, levels, stride=stride, generator=generator, progress=display
                    )
                finally:
                    if display is not None:
                        display.close()
        return self._track_levels(self.run.root, levels, fingerprint)

    def run_prompts(self, labels: Mapping[int, tuple[str, NDArray[np.int64]]]) -> RunResult:
        """Tracks the objects of a person's label images."""
        digest = _Digest()
        for local, (_, values) in sorted(labels.items()):
            digest.add_bytes(f"{local}".encode(), np.ascontiguousarray(values).tobytes())
        where = [f"{self.frames.indices[local]}:{name}" for local, (name, _) in sorted(labels.items())]
        fingerprint = self._prepare({"kind": "prompts", "images": where}, digest)
        records = self._records(fingerprint)
        if not self._is_finished(PROMPTED_LEVEL, records):
            prompts = {
                local: {TrackId(int(k)): values == k for k in np.unique(values) if k > 0}
                for local, (_, values) in sorted(labels.items())
            }
            records[PROMPTED_LEVEL] = self._track_prompts(prompts, fingerprint)
        return self._finish([PROMPTED_LEVEL], records)

    # --- steps ---------------------------------------------------------------------------------------------------

    def _track_prompts(
        self, prompts: Mapping[int, Mapping[TrackId, NDArray[np.bool_]]], fingerprint: str
    ) -> LevelRecord:
        timer = TimingAggregator()
        paths = self.run.level(PROMPTED_LEVEL)
        journal = CohortJournal(self.run.cohorts(PROMPTED_LEVEL), self._journal_key(fingerprint), resume=self.resume)
        with FrameResultStore(journal=journal) as store, _telling_what_stays([store]):
            display = self._display("tracking prompts", len(prompts))
            try:
                artifacts = prompt_tracking(
                    self.frames,
                    self.chosen.predictor,
                    prompts,
                    settings=self.how,
                    frame_store=store,
                    timer=timer,
                    progress=display,
                )
            finally:
                if display is not None:
                    display.close()
            files = persist_level_outputs(paths, self.run, PROMPTED_LEVEL, store, artifacts, self.how, timer)
            stats = level_stats(
                frames=len(self.frames),
                candidate_frames=len(prompts),
                artifacts=artifacts,
                tracks=describe_tracks(artifacts),
                timer=timer,
            )
            update_tracking_manifest(
                self.run, level=PROMPTED_LEVEL, artifacts=files, stats=manifest_stats(stats), warnings=[]
            )
            remarks = fold_remarks(snapshot for _, snapshot in artifacts.remarks)
            record = LevelRecord(fingerprint, 1, 1, self._sizes(files), stats, (), remarks, artifacts.work)
            record.write(self.run.journal(PROMPTED_LEVEL))
            store.discard()
        return record

    def _run_levels(
        self, root: Path, levels: Sequence[Level], prompts_from: Mapping[str, Any], digest: _Digest
    ) -> RunResult:
        contexts = self._contexts(root, levels)
        fingerprint = self._prepare(prompts_from, digest)
        return self._track_levels(root, levels, fingerprint, contexts)

    def _contexts(self, root: Path, levels: Sequence[Level]) -> dict[Level, PipelineContext]:
        """Checks every level before the first is tracked."""
        with self.timer.track("check"):
            return {
                level: build_pipeline_context(
                    root,
                    level,
                    self.frames,
                    self.run,
                    self.how,
                    video_length=self.video_length,
                    min_area=_min_area(root),
                )
                for level in levels
            }

    def _track_levels(
        self,
        root: Path,
        levels: Sequence[Level],
        fingerprint: str,
        contexts: dict[Level, PipelineContext] | None = None,
    ) -> RunResult:
        ready = contexts or self._contexts(root, levels)
        records = self._records(fingerprint)
        due = [level for level in levels if not self._is_finished(level, records)]
        with ExitStack() as stack:
            opened = [
                stack.enter_context(
                    ScheduledLevel(ready[level], key=self._journal_key(fingerprint), resume=self.resume)
                )
                for level in due
            ]
            with _telling_what_stays([level.store for level in opened]):
                label = f"level{'s' if len(due) > 1 else ''} {', '.join(map(str, due))}"
                track_side_by_side(
                    opened,
                    self.chosen.predictor,
                    self.frames,
                    settings=self.how,
                    progress=partial(self.progress, label) if self.progress is not None else None,
                )
                self._finish_levels(opened, fingerprint, records)
        return self._finish(levels, records)

    def _finish_levels(
        self, levels: Sequence[ScheduledLevel], fingerprint: str, records: dict[Level, LevelRecord]
    ) -> None:
        """Writes the files of tracked levels, one after the other; from then on a resumed run keeps them."""
        made = {scheduled.context.level for scheduled in levels}
        before = [record.remarks for level, record in records.items() if level not in made]
        said = sorted((step for level in levels for step in level.remarks), key=itemgetter(0))
        remarks = fold_remarks([*before, *(snapshot for _, snapshot in said)])
        for scheduled in levels:
            level = scheduled.context.level
            first = _first_id(level, scheduled.prompts, records)
            result = scheduled.finish(first)
            records[level] = LevelRecord(
                fingerprint,
                first,
                first + scheduled.prompts,
                self._sizes(result.files),
                result.stats,
                result.warnings,
                remarks,
                result.artifacts.work,
            )
            records[level].write(self.run.journal(level))
            scheduled.store.discard()

    def _prepare(self, prompts_from: Mapping[str, Any], digest: _Digest) -> str:
        """Claims the run folder: refuses one that holds another run, clears what a killed run left."""
        height, width = self.frames.size
        config = {
            "settings": self.how.model_dump(mode="json"),
            "predictor": self.chosen.request,
            "prompts": dict(prompts_from),
            **({"predictor_identity": dict(self.chosen.identity)} if self.chosen.identity else {}),
        }
        names = [[int(i), name] for i, name in zip(self.frames.indices, self.frames.names, strict=True)]
        identity = {"source": self.source, "frames": names, "size": [height, width], "config": config}
        digest.add_bytes(json.dumps(identity, sort_keys=True).encode())
        fingerprint = digest.hexdigest()
        root = self.run.root
        if root.exists() and not root.is_dir():
            raise RunFolderError(f"{root}: is a file, not a run folder")
        ensure_writable(root)
        manifest = RunManifest.load(self.run.manifest)
        if manifest.fingerprint is not None:
            if manifest.fingerprint != fingerprint:
                raise RunFolderError(
                    f"{root}: holds a run of other input or settings: choose another -o, or remove it first"
                )
            if not self.resume:
                raise RunFolderError(f"{root}: already holds this run: add --resume to finish or reuse it")
        elif manifest.data.get("artifacts"):
            raise RunFolderError(f"{root}: holds another run: choose another -o")
        remove_partials(root)
        manifest.merge(
            {
                "fingerprint": fingerprint,
                "input": {"path": self.source, "frames": len(self.frames), "height": height, "width": width},
                "config": config,
                "predictor": {
                    "name": self.chosen.predictor.name,
                    "reason": self.chosen.reason,
                    **self.chosen.details,
                },
                "frame_list": self.run.frames.name,
            }
        )
        manifest.replace_warnings(self.warnings, stages=("frames", "prompts", "weights"), level=None)
        FrameList(self.frames.indices, self.frames.names, self.frames.times, self.frames.size).write(self.run.frames)
        manifest.write()
        return fingerprint

    def _records(self, fingerprint: str) -> dict[Level, LevelRecord]:
        """Every level that this run has finished before."""
        found: dict[Level, LevelRecord] = {}
        for level in self.run.journalled_levels if self.resume else ():
            record = LevelRecord.read(self.run.journal(level), fingerprint)
            if record is not None:
                found[level] = record
        return found

    def _is_finished(self, level: Level, records: Mapping[Level, LevelRecord]) -> bool:
        if level not in records or not records[level].is_whole(self.run.root):
            return False
        self.run.cohorts(level).unlink(missing_ok=True)  # a kill just before it was removed
        return True

    def _journal_key(self, fingerprint: str) -> str:
        """What cohorts in a journal must be of: this run, and moved by the same predictor (`auto` may choose anew)."""
        return f"{fingerprint} {self.chosen.predictor.name}"

    def _sizes(self, files: Mapping[str, str]) -> dict[str, int]:
        return {name: (self.run.root / name).stat().st_size for name in files.values()}

    def _finish(self, asked: Sequence[Level], records: Mapping[Level, LevelRecord]) -> RunResult:
        """Writes what spans levels: boxes of all of them and the summary."""
        levels = {level: records[level].summary for level in asked}
        remarks = fold_remarks(records[level].remarks for level in asked)
        warnings = [*self.warnings, *(w for level in asked for w in records[level].warnings), *remarks]
        work: dict[str, float] = {}
        for level in asked:
            add_work(work, records[level].work)
        with self.timer.track("persist.boxes"):
            write_mot_frames(self.run.mot, _boxes_by_frame(self.run, list(levels)))
        total = TimingAggregator()
        total.merge(self.timer)
        for stats in levels.values():
            for stage, seconds in stats["durations"].items():
                total.add(stage, float(seconds))
        summary = {
            "schema_version": SUMMARY_VERSION,
            "command": "masks",
            "input": {"path": self.source, "frames": len(self.frames), "size": list(self.frames.size)},
            "predictor": {
                "name": self.chosen.predictor.name,
                "reason": self.chosen.reason,
                **({"counters": {name: round(count, 4) for name, count in work.items()}} if work else {}),
            },
            "levels": {str(level): dict(stats) for level, stats in levels.items()},
            "totals": summarise_tracking_stats(levels),
            "durations": {stage: round(seconds, 4) for stage, seconds in total.items()},
            "peak_rss_mb": peak_rss_mb(),
            "warnings": [warning.to_json() for warning in warnings],
        }
        write_json(self.run.summary, summary)
        manifest = RunManifest.load(self.run.manifest)
        manifest.set_totals({key: summary[key] for key in ("totals", "durations", "peak_rss_mb")})
        manifest.replace_warnings(remarks, stages=("predictor",), level=None)
        manifest.write()
        return RunResult(self.run, levels, list(warnings), summary)

    def _display(self, label: str, total: int) -> ProgressPrinter | None:
        return self.progress(label, total) if self.progress is not None else None


@contextmanager
def _telling_what_stays(stores: Sequence[FrameResultStore]) -> Iterator[None]:
    """Adds to the line of an error how much is kept, and how to go on."""
    try:
        yield
    except TrackweaveError as error:
        kept = sum(store.finished for store in stores)
        if kept:
            frames = "prompt frame is" if kept == 1 else "prompt frames are"
            error.args = (f"{error}; {kept} finished {frames} kept: the same command with --resume goes on",)
        raise


def _first_id(level: Level, count: int, records: Mapping[Level, LevelRecord]) -> int:
    """First track id of a level with `count` objects: the one it had before, else the first behind all others'."""
    own = records.get(level)
    if own is not None and own.next_id - own.first_id == count:
        return own.first_id
    return max((record.next_id for other, record in records.items() if other != level), default=1)


def _boxes_by_frame(run: RunPaths, levels: Sequence[Level]) -> Iterator[Tracks]:
    """Boxes of every level, frame after frame, without holding more than one frame."""
    manifest = RunManifest.load(run.manifest)
    with ExitStack() as stack:
        videos = {
            level: stack.enter_context(VideoSegments(manifest.artifact(level, "video_segments"))) for level in levels
        }
        for frame in sorted({frame for video in videos.values() for frame in video.frames}):
            yield Tracks.concat([video.boxes(FrameIndex(frame), int(level)) for level, video in videos.items()])


def _min_area(root: Path) -> float | None:
    """The generator's smallest area, when the candidates' folder has a manifest that tells."""
    path = root / "manifest.json"
    if not path.is_file():
        return None
    value = read_json_object(path, "manifest of the candidates").get("min_area")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
