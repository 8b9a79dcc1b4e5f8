"""`track_masks`: follows the masks of a video's objects through time, and leaves a run folder."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from operator import itemgetter
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, RunFolderError, SettingError, TrackweaveError, argument, listed, wording
from trackweave.frames.source import FrameSource, check_readable, report_decoded, sample_evenly
from trackweave.identity.settings import IdentitySettings
from trackweave.ids import PROMPTED_LEVEL, Level, LocalIndex
from trackweave.pipelines.identity import draw_overlays, overlay_path, write_identities
from trackweave.pipelines.mask_corrections import restore, write_corrected
from trackweave.pipelines.mask_inputs import (
    GENERATED_LEVELS,
    CandidateInput,
    GivenCandidates,
    MaskFrames,
    candidates_min_area,
    open_mask_frames,
)
from trackweave.pipelines.mask_pieces import (
    JoinedLevel,
    MaskPiece,
    common_candidates,
    cuts_of,
    join_candidates,
    open_mask_pieces,
    predictor_of,
    store_level,
)
from trackweave.pipelines.online_masks import MaskStream, StreamInput, StreamRequest
from trackweave.pipelines.prompts import MarkedObjects, UserPrompts, read_user_prompts
from trackweave.pipelines.proposing import OpenedGenerator, check_stride, open_generator, propose_candidates
from trackweave.pipelines.run import Run
from trackweave.pipelines.stitching import MaskStitcher
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.registry import ChosenPredictor, PredictorSettings, choose_predictor
from trackweave.predictors.sam.settings import SamSettings
from trackweave.progress import Progress, TimingAggregator, open_progress, peak_rss_mb
from trackweave.proposals.generators import GeneratorChoice, GeneratorRequest
from trackweave.storage.candidates import FilteredManifest, filtered_path
from trackweave.storage.files import recorded_path
from trackweave.storage.result_log import ResultJournal
from trackweave.storage.run import (
    ASKED_LEVELS,
    Fingerprint,
    FrameList,
    LevelRecord,
    RunFolder,
    RunManifest,
    RunPaths,
)
from trackweave.structures.run_log import RunLog, RunWarning
from trackweave.structures.run_summary import InputSummary, MaskSummary, PredictorSummary
from trackweave.tracking.level_runner import LevelRunResult, finish_level, prompts_of
from trackweave.tracking.mask_tracker import MaskTracker, TrackedLevel
from trackweave.tracking.outputs import save_comparison_proposals
from trackweave.tracking.pipeline_context import (
    LabelContext,
    LevelContext,
    PipelineContext,
    build_pipeline_context,
    summarise_tracking_stats,
)
from trackweave.tracking.settings import OnlineSettings, TrackingSettings, online_settings
from trackweave.tracking.stores import FrameResultStore, add_counters, latest_warnings
from trackweave.visualization.annotators import run_colours
from trackweave.visualization.settings import OverlaySettings, overlay_settings


class MaskOptions(TypedDict, total=False):
    """What `track_masks` takes by keyword besides its own arguments; see there."""

    sampling: str | None
    predictor_settings: PredictorSettings | SamSettings | FlowSettings | None
    generator: GeneratorRequest
    candidate_stride: int | None
    overlay: bool | OverlaySettings
    overlay_levels: str
    overwrite: bool
    identity: bool | IdentitySettings
    pieces: Sequence[str | Path]


@overload
def track_masks(
    frames: str | Path | NDArray[np.uint8] | FrameSource,
    output: str | Path,
    *,
    candidates: CandidateInput | None = None,
    prompts: UserPrompts | None = None,
    levels: Sequence[int] | None = None,
    predictor: str | VideoPredictor | ChosenPredictor = "auto",
    settings: TrackingSettings | None = None,
    online: Literal[False] = False,
    resume: bool = False,
    progress: Progress = None,
    **options: Unpack[MaskOptions],
) -> Run[MaskSummary]: ...


@overload
def track_masks(
    frames: StreamInput,
    output: str | Path | None = None,
    *,
    candidates: CandidateInput | None = None,
    prompts: UserPrompts | None = None,
    levels: Sequence[int] | None = None,
    predictor: str | VideoPredictor | ChosenPredictor = "auto",
    settings: TrackingSettings | None = None,
    online: Literal[True] | OnlineSettings,
    **options: Unpack[MaskOptions],
) -> MaskStream: ...


def track_masks(
    frames: StreamInput,
    output: str | Path | None = None,
    *,
    candidates: CandidateInput | None = None,
    prompts: UserPrompts | None = None,
    levels: Sequence[int] | None = None,
    predictor: str | VideoPredictor | ChosenPredictor = "auto",
    settings: TrackingSettings | None = None,
    online: bool | OnlineSettings = False,
    resume: bool = False,
    progress: Progress = None,
    **options: Unpack[MaskOptions],
) -> Run[MaskSummary] | MaskStream:
    """Follows every object of a video through time and leaves a run folder.

    What is followed comes from one of three places: filtered `candidates` on disk, `prompts` of a person, or, when
    neither is given, candidates that a `generator` finds where something new is seen.

    Args:
        frames: a folder of images, a video file, an array `(N, H, W, 3)` uint8 RGB, or a source.
        output: the run folder; made when it is not there.
        candidates: a folder with `level_L/filtered/filtered.json`; a file or folder of another layout (COCO, SAM's
            JSON, label images, folders of PNG masks, arrays), see `formats.candidates`; or a mapping from the index of
            a frame in the video to its masks `(N, H, W)`, a label map, detections (supervision's, too), or records.
        prompts: `Prompt`s, or files: label images (`LABEL.png` on the first frame, or `FRAME:LABEL.png`; ids are the
            label values) and JSON or CSV, see `formats.prompts`; or a mapping from the index of a frame in the video
            to a label map `(H, W)` or to boxes `(N, 4)` xyxy, whose ids are 1 … N.
        levels: granularity levels (2 coarse, 4 medium, 6 fine); None = those of the run that is resumed, or of
            `candidates`, else 2.
        predictor: a name of `choose_predictor`, what that chose, or a predictor.
        settings: how to track.
        online: forward only, while frames come: from a webcam, an address or any iterator. Gives at once a
            `MaskStream`, which yields the tracks of each frame; `output` may be left out. Settings say how late.
        resume: continue a run that was cut off; finished levels are kept.
        progress: None = shown by itself in a terminal or a notebook; or a function of `(done, total, label)`.
        options: the following, by keyword.
        sampling: `start:end:step` over the frames.
        predictor_settings: of the SAM 2 family (weights, device and more) or of `flow`, when `predictor` is a name.
        generator: see `GeneratorChoice`: `auto`, automatic masks of a predictor of the SAM 2 family, from the features
            that it tracks with, else `regions`; another name; or settings of either.
        candidate_stride: frames between two on which the generator runs; None: where something new is seen.
        overlay: leave a video of the tracks over the frames, unless `settings.render_viz` is off; settings say how.
        overlay_levels: `first`, the coarsest level, in `overlay.mp4`; `all`, each other one too, in its folder.
        overwrite: a run that `output` holds is removed first, once the input is checked; other files stay.
        identity: join tracks that are one thing and nest parts in wholes, see `relate`; settings say how.
        pieces: folders of runs over parts of these very frames (`sampling`), each with the same settings, predictor and
            generator, that follow or overlap each other. They are joined, and nothing is tracked: what overlaps goes
            on under its id, and nothing does where there is no overlap, but for `IdentitySettings.stitch`.

    Raises:
        InputError: frames, candidates or prompts cannot be used; one line that names the file and the item.
        RunFolderError: `output` holds another run, or cannot be written.
        PredictorError: the predictor is missing or failed.
        MissingExtraError: the predictor's packages are not installed.
        SettingError: a setting is wrong.
    """
    unknown = set(options) - set(MaskOptions.__annotations__)
    if unknown:
        raise TypeError(f"track_masks() got an unexpected keyword argument {min(unknown)!r}")
    if isinstance(levels, int):
        raise SettingError(f"levels are a sequence, like [{levels}], not {levels}")
    chosen_settings, more, stream = settings or TrackingSettings(), _ResolvedOptions(**options), online_settings(online)
    if candidates is not None and prompts is not None:
        raise SettingError("give candidates or prompts, not both")
    if resume and more.overwrite:
        keeps, removes = wording("resume=True", "--resume"), wording("overwrite=True", "--overwrite")
        raise SettingError(f"{keeps} keeps a run and {removes} removes it: give one of them")
    if not isinstance(predictor, str) and more.predictor_settings is not None:
        raise SettingError("predictor_settings are for predictors that are asked for by name, not for objects")
    if more.pieces:
        more.check_pieces(candidates is not None, prompts is not None, resume=resume)
    if more.overlay_levels not in ("first", "all"):
        raise SettingError(f"overlay_levels is first or all, not {more.overlay_levels!r}")
    if more.pieces and stream is None:
        return _joined(frames, output, predictor, levels, chosen_settings, progress, more)
    if isinstance(predictor, ChosenPredictor):
        chosen = predictor
    elif isinstance(predictor, str):
        chosen = choose_predictor(predictor, more.predictor_settings)
    else:
        chosen = ChosenPredictor(predictor, predictor.name, "given by the caller")
    if stream is not None:
        more.check_online(resume=resume)
        sam = PredictorSettings.of(more.predictor_settings).sam
        request = StreamRequest(frames, output, chosen, chosen_settings, stream, candidates, prompts, levels)
        return MaskStream(replace(request, sam=sam, **more.of_streams))
    if output is None or isinstance(frames, int) or not isinstance(frames, str | PathLike | FrameSource | np.ndarray):
        raise SettingError(_needs_online(frames, output))
    if resume and levels is None:
        levels = RunManifest.load(RunPaths(Path(output)).manifest).asked_levels or None
    log, timer = RunLog(chosen_settings.on_bad_item), TimingAggregator()
    log.merge(chosen.warnings)
    with ExitStack() as stack:
        with timer.track("open"):
            opened = open_mask_frames(frames, more.sampling, log, stack)
            if not resume:
                _check_frames(opened.frames, log)
        marked = None if prompts is None else read_user_prompts(prompts, opened, log)
        opened_generator, wanted = None, list[Level]()
        if prompts is None and candidates is None:
            wanted = sorted({Level(level) for level in levels}) if levels else list(GENERATED_LEVELS)
            check_stride(more.candidate_stride)
            opened_generator = _open_generator(more, wanted, opened.frames, chosen.predictor, log, stack)
        folder = stack.enter_context(RunFolder(output))
        run = _MaskRun(folder, opened, chosen_settings, chosen, resume, progress, log, timer, more)
        # What can be wrong shows before every frame is read to find cuts.
        if marked is not None:
            return run.with_cuts().track_marked(marked)
        if candidates is not None:
            given = GivenCandidates.open(candidates, levels, opened.video.index_of_name)
            contexts = run.checked(given.root, given.levels, given.manifests)
            return run.with_cuts().track_candidates(given, contexts)
        run.check_foreign_candidates(wanted)
        assert opened_generator is not None
        return run.with_cuts().track_generated(wanted, opened_generator)


def _joined(
    frames: StreamInput,
    output: str | Path | None,
    predictor: str | VideoPredictor | ChosenPredictor,
    levels: Sequence[int] | None,
    settings: TrackingSettings,
    progress: Progress,
    options: _ResolvedOptions,
) -> Run[MaskSummary]:
    """Joins the runs of `options.pieces`; see `track_masks`."""
    if output is None or isinstance(frames, int) or not isinstance(frames, str | PathLike | FrameSource | np.ndarray):
        raise SettingError(_needs_online(frames, output))
    if isinstance(predictor, ChosenPredictor):
        asked = predictor.request
    else:
        asked = predictor if isinstance(predictor, str) else predictor.name
    log, timer = RunLog(settings.on_bad_item), TimingAggregator()
    with ExitStack() as stack:
        with timer.track("open"):
            opened = open_mask_frames(frames, options.sampling, log, stack)
        pieces = open_mask_pieces(options.pieces, opened.frames, settings)
        found = sorted(pieces[0].levels)
        if levels is not None and found != sorted({Level(level) for level in levels}):
            raise SettingError(f"the pieces have levels {listed(found)}, not {listed(sorted(levels))}")
        folder, chosen = stack.enter_context(RunFolder(output)), predictor_of(pieces, asked)
        run = _MaskRun(folder, opened, settings, chosen, False, progress, log, timer, options)
        return replace(run, found_cuts=cuts_of(pieces, opened.frames)).join(pieces)


@dataclass(frozen=True)
class _ResolvedOptions:
    """The values of `MaskOptions`."""

    sampling: str | None = None
    predictor_settings: PredictorSettings | SamSettings | FlowSettings | None = None
    generator: GeneratorRequest = "auto"
    candidate_stride: int | None = None
    overlay: bool | OverlaySettings = True
    overlay_levels: str = "first"
    overwrite: bool = False
    identity: bool | IdentitySettings = True
    pieces: Sequence[str | Path] = ()

    def check_pieces(self, has_candidates: bool, has_prompts: bool, *, resume: bool) -> None:
        """Refuses what has no effect where pieces are joined.

        Raises:
            SettingError: it was asked for.
        """
        for name, is_asked in (
            ("candidates", has_candidates),
            ("prompts", has_prompts),
            ("resume", resume),
            ("generator", self.generator != "auto"),
            ("candidate_stride", self.candidate_stride is not None),
        ):
            if is_asked:
                raise SettingError(f"{name} has no effect with pieces: they are joined as they were tracked")

    def check_online(self, *, resume: bool) -> None:
        """Refuses what a stream cannot have.

        Raises:
            SettingError: it was asked for.
        """
        for name, is_asked, why in (
            ("resume", resume, "the frames of a stream come once"),
            ("sampling", self.sampling is not None, "give an iterator of the frames that you want"),
            ("overlay_levels", self.overlay_levels != "first", "a stream has one overlay, of its first level"),
            ("pieces", bool(self.pieces), "they are joined, and nothing is tracked"),
        ):
            if is_asked:
                raise SettingError(f"{name} has no effect online: {why}")

    @property
    def of_streams(self) -> dict[str, Any]:
        """Those that a stream has, by the names of `StreamRequest`."""
        names = ("generator", "candidate_stride", "overlay", "overwrite", "identity")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class _MaskRun:
    """One run: what was asked for, and the log and timer of what happens.

    Attributes:
        folder: where results go.
        input: the frames.
        settings: how to track.
        chosen: what moves masks, and why.
        resume: continue a run that was cut off.
        progress: how progress is shown.
        log: warnings of the run as a whole; those of single levels are in their records.
        timer: durations of what no level takes alone.
        options: the rest.
        found_cuts: positions at which a new shot begins; None = not looked for.
        session: the predictor's, where candidates came from it: their frames' features are there; None = a new one.
    """

    folder: RunFolder
    input: MaskFrames
    settings: TrackingSettings
    chosen: ChosenPredictor
    resume: bool
    progress: Progress
    log: RunLog
    timer: TimingAggregator = field(default_factory=TimingAggregator)
    options: _ResolvedOptions = field(default_factory=_ResolvedOptions)
    found_cuts: Sequence[LocalIndex] | None = None
    session: PredictorSession | None = None

    @property
    def cuts(self) -> Sequence[LocalIndex]:
        """Positions at which a new shot begins, so far as tracks end there."""
        return self.found_cuts or ()

    @property
    def cut_frames(self) -> list[int] | None:
        """Absolute indices of the frames that begin a new shot; None = not looked for."""
        return None if self.found_cuts is None else [int(self.input.frames.indices[cut]) for cut in self.found_cuts]

    def with_cuts(self) -> Self:
        """The run with the cuts of its frames, where they are to be looked for, in a folder that is free for it."""
        self.folder.reserve(resume=self.resume, overwrite=self.options.overwrite)
        if self.settings.cuts == "ignore":
            return self
        with self.timer.track("cuts"):
            return replace(self, found_cuts=self.input.cuts(self.progress))

    # --- the three ways in ---------------------------------------------------------------------------------------

    def track_candidates(self, given: GivenCandidates, checked: Sequence[PipelineContext]) -> Run[MaskSummary]:
        """Tracks a user's candidates; all are checked before the folder is touched."""
        contexts = [replace(context, cuts=self.cuts) for context in checked]
        fingerprint = Fingerprint()
        with self.timer.track("check"):
            smallest = None if given.root is None else candidates_min_area(given.root)
            fingerprint.add("candidates", f"{smallest}".encode())
            for path in given.files:
                below = "" if given.manifests else f"{path.parents[1].name.removeprefix('level_')}/"
                fingerprint.add("candidates", f"{below}{path.name}".encode())
                fingerprint.add_file("candidates", path)
            for level, manifest in given.manifests.items():
                frames = [] if given.files else [[frame.frame_idx, frame.items] for frame in manifest.frames]
                fingerprint.add("candidates", json.dumps([int(level), frames], sort_keys=True).encode())
        where = "memory" if given.root is None else recorded_path(given.root)
        levels = [context.level for context in contexts]
        key = self._claim({"kind": "candidates", "root": where}, fingerprint, given.files, levels)
        if not _has_candidates(contexts):
            text = f"{contexts[0].manifest.path}: has no candidate on any frame: nothing is followed"
            contexts[0].log.warn("candidates", "nothing-found", text, level=contexts[0].level)
        return self._track(contexts, key)

    def track_generated(self, levels: Sequence[Level], opened: OpenedGenerator) -> Run[MaskSummary]:
        """Finds candidates in the run folder, then tracks them, on the generator's session where it has one."""
        stride, changed, files = self.options.candidate_stride, dict(opened.settings), opened.generator.files
        prompts_from = {"kind": "generator", "name": opened.name, "stride": stride}
        root = self.folder.root
        fingerprint = Fingerprint()
        for path in files:
            fingerprint.add_file("generator", path)
        if opened.identity:
            fingerprint.add("generator", json.dumps(dict(opened.identity), sort_keys=True).encode())
        key = self._claim(prompts_from | ({"settings": changed} if changed else {}), fingerprint, files, levels)
        if not self.resume or not all(filtered_path(root / f"level_{level}").is_file() for level in levels):
            frames = self.input.frames
            label = "finding candidates"
            with self.timer.track("propose"), open_progress(self.progress, len(frames), label) as display:
                propose_candidates(
                    frames,
                    root,
                    levels,
                    opened.generator,
                    stride=stride,
                    cuts=self.cuts,
                    progress=display,
                    settings=GeneratorChoice.of(self.options.generator).candidates,
                )
        contexts = self.checked(root, levels)
        if not _has_candidates(contexts):
            more = "" if stride else f"{argument('candidate_stride', 10)} looks at every tenth frame, "
            marked = wording("prompts= says", "--point and --box say")
            text = f"{opened.name} found nothing to follow: {more}{marked} what to follow"
            contexts[0].log.warn("candidates", "nothing-found", text, level=contexts[0].level)
        return replace(self, session=opened.session)._track(contexts, key)

    def track_marked(self, marked: MarkedObjects) -> Run[MaskSummary]:
        """Tracks the objects that a user marked."""
        frames, fingerprint = self.input.frames, Fingerprint()
        for local, image in sorted(marked.images.items()):
            fingerprint.add("prompts", f"{local}".encode(), np.ascontiguousarray(image.labels).tobytes())
        objects = marked.records()
        if objects:
            fingerprint.add("prompts", json.dumps(objects, sort_keys=True).encode())
        self._note_unmarked_shots(marked.positions)
        where = [
            f"{frames.indices[local]}:{recorded_path(image.where)}" for local, image in sorted(marked.images.items())
        ]
        named = {Path(image.where) for image in marked.images.values()}
        where += [recorded_path(path) for path in marked.files if path not in named]
        read = [*named, *(path for path in marked.files if path not in named)]
        prompts_from = {"kind": "prompts", "images": where}
        key = self._claim(prompts_from | ({"objects": objects} if objects else {}), fingerprint, read)
        context = LabelContext(
            PROMPTED_LEVEL,
            self.folder.paths,
            frames,
            self.settings,
            len(marked.positions),
            self.cuts,
            marked.labels,
            marked.marks,
            marked.classes,
        )
        return self._track([context], key)

    def join(self, pieces: Sequence[MaskPiece]) -> Run[MaskSummary]:
        """Joins runs over pieces of the frames, as if they had been tracked as one."""
        wanted, root = sorted(pieces[0].levels), common_candidates(pieces)
        fingerprint = Fingerprint()
        for piece in pieces:
            fingerprint.add("pieces", str(piece.manifest.fingerprint).encode())
        prompts_from = {**pieces[0].prompts, "pieces": [piece.span for piece in pieces]}
        if root is None:
            prompts_from["kind"] = "pieces"
            prompts_from.pop("root", None)
        read = [file for piece in pieces for level in wanted for file in (piece.paths.manifest, piece.archive(level))]
        given = None if root is None else GivenCandidates.open(root, wanted, self.input.video.index_of_name)
        if given is None:
            self.check_foreign_candidates(wanted)
        contexts = [] if given is None else self.checked(given.root, given.levels, given.manifests)
        key = self._claim(prompts_from, fingerprint, read)
        if given is None:
            with self.timer.track("propose"):
                join_candidates(pieces, self.folder.root)
            contexts = self.checked(self.folder.root, wanted)
        contexts = [replace(context, cuts=self.cuts) for context in contexts]
        records: dict[Level, LevelRecord] = {}
        with ExitStack() as stack:
            levels = []
            for context in contexts:
                store = stack.enter_context(FrameResultStore(self.folder.root / "journal"))
                tracked = TrackedLevel(prompts_of(context, store), store)
                frames, label = self.input.frames, f"joining level {context.level}"
                with tracked.timer.track("track"), open_progress(self.progress, len(frames), label) as display:
                    joined = JoinedLevel(pieces, context.level)
                    store_level(joined, store, display, frames)
                for record in joined.records(frames):
                    tracked.add(record)
                levels.append(tracked)
            self._finish_levels(contexts, levels, key, records)
        return self._finish(contexts, records)

    def _note_unmarked_shots(self, marked: Sequence[LocalIndex]) -> None:
        """Says where a user's objects end although the video goes on."""
        shots = [bisect_right(self.cuts, local) for local in marked]
        missing = [shot for shot in range(len(self.cuts) + 1) if shot not in shots]
        if missing:
            starts = [int(self.input.frames.indices[[0, *self.cuts][shot]]) for shot in missing]
            ignored = wording("TrackingSettings(cuts='ignore')", "--cuts ignore")
            self.log.warn(
                "prompts",
                "ended-at-cut",
                f"objects are followed to the cuts of their shots: nothing is marked in the shots that begin at "
                f"frame {listed(starts)} ({ignored} goes on across cuts)",
                frames=starts,
            )

    def check_foreign_candidates(self, levels: Sequence[Level]) -> None:
        """Candidates that no run of ours found are not written over by those that this one finds.

        Raises:
            RunFolderError: there are some.
        """
        root = self.folder.root
        manifest = RunManifest.load(self.folder.paths.manifest)
        if manifest.found_candidates or (manifest.holds_run and not self.options.overwrite):
            return
        for path in [filtered_path(root / f"level_{level}") for level in levels]:
            if path.exists():
                track = wording(f"candidates={str(root)!r}", f"--candidates {root}")
                output = wording("output", "-o")
                raise RunFolderError(f"{path}: is there already: track it with {track}, or choose another {output}")

    def checked(
        self, root: Path | None, levels: Sequence[Level], manifests: Mapping[Level, FilteredManifest] | None = None
    ) -> list[PipelineContext]:
        """Every level of a folder of candidates, or of manifests, checked before the first is tracked."""
        smallest = None if root is None else candidates_min_area(root)
        with self.timer.track("check"):
            return [
                build_pipeline_context(
                    root or Path(),
                    level,
                    self.input.frames,
                    self.folder.paths,
                    self.settings,
                    video=self.input.video,
                    min_area=smallest,
                    cuts=self.cuts,
                    manifest=(manifests or {}).get(level),
                )
                for level in levels
            ]

    def _claim(
        self,
        prompts_from: Mapping[str, object],
        fingerprint: Fingerprint,
        read: Sequence[Path] = (),
        levels: Sequence[Level] = (),
    ) -> str:
        """Claims the run folder for this run.

        Args:
            prompts_from: what is tracked, for the manifest.
            fingerprint: gets what else its results depend on.
            read: files that it reads besides frames and weights.
            levels: those that it is to have, for a call that resumes it and names none.

        Returns:
            The fingerprint of all that its results depend on.
        """
        frames, run = self.input.frames, self.folder.paths
        height, width = frames.size
        config = {
            "settings": self.settings.model_dump(mode="json"),
            "predictor": self.chosen.request,
            "prompts": dict(prompts_from),
            **({"predictor_identity": dict(self.chosen.identity)} if self.chosen.identity else {}),
        }
        with self.timer.track("check"):
            _add_frames(fingerprint, frames)
            if self.cuts:
                fingerprint.add("cuts", json.dumps(self.cut_frames).encode())
        # Of inputs the content counts, and not where it lies.
        decisive = {key: value for key, value in prompts_from.items() if key not in ("root", "images")}
        predictor, _, weights = self.chosen.request.partition("=")
        identity = {**config, "predictor": predictor, "prompts": decisive}
        fingerprint.add("settings", json.dumps(identity, sort_keys=True).encode())
        recordings = getattr(self.chosen.predictor, "files", ())
        inputs: list[str | Path] = [*frames.files, *read, *recordings, *([weights] if weights else [])]
        manifest = self.folder.claim(fingerprint, resume=self.resume, overwrite=self.options.overwrite, inputs=inputs)
        if self.resume:  # frames that have changed are another input, which is the better thing to say
            _check_frames(frames, self.log)
        manifest.merge(
            {
                "input": {
                    "path": self.input.source,
                    "frames": len(frames),
                    "height": height,
                    "width": width,
                    "cuts": self.cut_frames,
                },
                "config": config,
                "predictor": {
                    "name": self.chosen.predictor.name,
                    "reason": self.chosen.reason,
                    **self.chosen.details,
                },
                "frame_list": run.frames.name,
                **({ASKED_LEVELS: [int(level) for level in levels]} if levels else {}),
            }
        )
        report_decoded(frames, self.log)
        manifest.replace_warnings(self.log.warnings, stages=("frames", "prompts", "weights"), level=None)
        FrameList(frames.indices, frames.names, frames.times, frames.size).write(run.frames)
        manifest.write()
        return fingerprint.hexdigest()

    # --- levels --------------------------------------------------------------------------------------------------

    def _track(self, contexts: Sequence[LevelContext], fingerprint: str) -> Run[MaskSummary]:
        """Tracks the levels that no earlier process has finished, all together; then finishes the run."""
        records = self._finished_levels(fingerprint)
        due = [context for context in contexts if not self._is_finished(context.level, records)]
        with ExitStack() as stack:
            levels = []
            for context in due:
                path = self.folder.paths.finished_batches(context.level)
                # Batches of another predictor are not gone on with: `auto` may choose anew.
                key = f"{fingerprint} {self.chosen.predictor.name}"
                journal = ResultJournal(path, key, resume=self.resume)
                store = stack.enter_context(FrameResultStore(journal=journal))
                levels.append(TrackedLevel(prompts_of(context, store), store))
            with _resume_hint([level.store for level in levels]):
                predictor = self.chosen.predictor
                if self.session is not None:
                    predictor = _Opened(predictor.name, self.session)
                tracker = MaskTracker(predictor, self.input.frames, levels, self.settings, cuts=self.cuts)
                tracker.run(lambda total: open_progress(self.progress, total, _progress_label(due), "object-frames"))
                self._finish_levels(due, levels, fingerprint, records)
        return self._finish(contexts, records)

    def _finished_levels(self, fingerprint: str) -> dict[Level, LevelRecord]:
        """Every level that this run has finished before."""
        run = self.folder.paths
        records = {
            level: LevelRecord.read(run.journal(level), fingerprint)
            for level in (run.journalled_levels if self.resume else ())
        }
        return {level: record for level, record in records.items() if record is not None}

    def _is_finished(self, level: Level, records: Mapping[Level, LevelRecord]) -> bool:
        if level not in records or not records[level].is_whole(self.folder.root):
            return False
        # A kill may have come just before it was removed.
        self.folder.paths.finished_batches(level).unlink(missing_ok=True)
        return True

    def _finish_levels(
        self,
        contexts: Sequence[LevelContext],
        levels: Sequence[TrackedLevel],
        fingerprint: str,
        records: dict[Level, LevelRecord],
    ) -> None:
        """Writes the files of tracked levels, one after the other; from then on a resumed run keeps them."""
        tracked = {context.level for context in contexts}
        before = [record.predictor_warnings for level, record in records.items() if level not in tracked]
        batches = [(record.local, record.warnings) for level in levels for record in level.records]
        warnings = latest_warnings([*before, *(snapshot for _, snapshot in sorted(batches, key=itemgetter(0)))])
        for context, level in zip(contexts, levels, strict=True):
            first = _first_id(context.level, level.object_count, records)
            count = 0 if context.level == PROMPTED_LEVEL else level.object_count
            # Ids were counted from 1 in every level; in the run they follow those of the levels before.
            level.store.id_offset = first - 1
            result = finish_level(context, level)
            record = self._level_record(fingerprint, range(first, first + count), result, warnings)
            record.write(self.folder.paths.journal(context.level))
            records[context.level] = record
            # The journal goes last: until the record is there, a resumed run needs it.
            level.store.discard()

    def _level_record(
        self, fingerprint: str, ids: range, result: LevelRunResult, predictor_warnings: Sequence[RunWarning]
    ) -> LevelRecord:
        sizes = {name: (self.folder.root / name).stat().st_size for name in result.files.values()}
        return LevelRecord(
            fingerprint,
            ids.start,
            ids.stop,
            sizes,
            result.stats,
            result.warnings,
            predictor_warnings,
            result.artifacts.counters,
        )

    # --- the whole run -------------------------------------------------------------------------------------------

    def _finish(self, contexts: Sequence[LevelContext], records: Mapping[Level, LevelRecord]) -> Run[MaskSummary]:
        """Writes what spans levels: boxes of all of them and the summary."""
        asked, levels = self.options.identity, [context.level for context in contexts]
        restore(self.folder.paths)
        with self.timer.track("identity" if asked else "persist.boxes"):
            chosen = asked if isinstance(asked, IdentitySettings) else IdentitySettings() if asked else None
            stitcher = MaskStitcher(self.input.frames, self.cut_frames or ())
            record = write_identities(self.folder.paths, levels, chosen, self.progress, stitcher)
        if record is not None and self.settings.render_viz:
            with self.timer.track("compare"):
                self._colour_comparisons(contexts)
        self._draw(levels)
        predictor_warnings = latest_warnings(records[level].predictor_warnings for level in levels)
        summary = self._summary({level: records[level] for level in levels}, predictor_warnings)
        self.folder.finish(summary, warnings=predictor_warnings, stages=("predictor",))
        write_corrected(self.folder.paths)  # what a person said about this very run before
        return Run(self.folder.root)

    def _colour_comparisons(self, contexts: Sequence[LevelContext]) -> None:
        """Draws them anew in the colours of families, which were not known when a level was tracked.

        Nothing else in `compare.json` changes, nor its size, by which a level is known to be finished.
        """
        manifest = RunManifest.load(self.folder.paths.manifest)
        colours = run_colours(self.folder.paths)
        for context in contexts:
            if isinstance(context, PipelineContext):
                video = manifest.artifact(context.level, "video_segments")
                save_comparison_proposals(context.paths.compare, None, context, video, colours=colours)

    def _draw(self, levels: Sequence[Level]) -> None:
        """Writes the overlay video of the first level, or one of every level."""
        drawing = overlay_settings(self.options.overlay) if self.settings.render_viz else None
        if drawing is None:
            return
        run = self.folder.paths
        chosen = levels if self.options.overlay_levels == "all" else levels[:1]
        with self.timer.track("overlay"):
            videos = {level: overlay_path(run, levels, level) for level in chosen}
            draw_overlays(run, videos, self.input.frames, drawing, self.progress)

    def _summary(self, records: Mapping[Level, LevelRecord], predictor_warnings: Sequence[RunWarning]) -> MaskSummary:
        levels = {level: record.summary for level, record in records.items()}
        counters: dict[str, float] = {}
        durations = TimingAggregator()
        durations.merge(self.timer)
        for record in records.values():
            add_counters(counters, record.counters)
            for stage, seconds in record.summary.durations.items():
                durations.add(stage, seconds)
        report_decoded(self.input.frames, self.log)
        level_warnings = [warning for record in records.values() for warning in record.warnings]
        return MaskSummary(
            "masks",
            InputSummary(self.input.source, len(self.input.frames), self.input.frames.size, cuts=self.cut_frames),
            summarise_tracking_stats(levels),
            {stage: round(seconds, 4) for stage, seconds in durations.items()},
            peak_rss_mb(),
            [*self.log.warnings, *level_warnings, *predictor_warnings],
            predictor=PredictorSummary(
                self.chosen.predictor.name,
                self.chosen.reason,
                {name: round(count, 4) for name, count in counters.items()},
            ),
            levels=levels,
        )


@dataclass(frozen=True)
class _Opened:
    """A predictor whose session on the run's frames is open already; the tracker closes it as its own."""

    name: str
    session: PredictorSession

    def open(self, frames: FrameSource) -> PredictorSession:
        """See `VideoPredictor.open`."""
        return self.session


def _has_candidates(contexts: Sequence[PipelineContext]) -> bool:
    return any(frame.items for context in contexts for frame in context.manifest.frames)


def _needs_online(frames: object, output: object) -> str:
    """Why a call that is not online cannot be."""
    online = wording("online=True", "--online")
    if output is None:
        return f"a run needs an output; without one, {online} yields tracks frame by frame"
    return f"frames are a path, an array or a source, not {type(frames).__name__}; {online} takes iterators and webcams"


def _open_generator(
    options: _ResolvedOptions,
    levels: Sequence[Level],
    frames: FrameSource,
    predictor: VideoPredictor,
    log: RunLog,
    stack: ExitStack,
) -> OpenedGenerator:
    """The generator of a run; settings of another one than was taken are reported."""
    settings = options.predictor_settings
    sam = settings if isinstance(settings, SamSettings) else PredictorSettings.of(settings).sam
    opened = open_generator(GeneratorChoice.of(options.generator), levels, frames, predictor, sam, stack)
    for section in opened.idle:
        text = f"settings of {section} without effect: candidates come from {opened.name}"
        log.warn("prompts", "setting-ignored", text)
    return opened


FRAMES_COMPARED = 64
"""Frames in memory whose pixels tell a run from one of other frames; of files the whole content does."""


def _add_frames(fingerprint: Fingerprint, frames: FrameSource) -> None:
    """Adds names, indices, size and content of the frames."""
    names = [[int(index), name] for index, name in zip(frames.indices, frames.names, strict=True)]
    fingerprint.add("frames", json.dumps([names, list(frames.size)]).encode())
    for file in frames.files:
        fingerprint.add_file("frames", file)
    if not frames.files:
        for local in sample_evenly(range(len(frames)), cap=FRAMES_COMPARED):
            fingerprint.add("frames", np.ascontiguousarray(frames[local]).tobytes())


def _check_frames(frames: FrameSource, log: RunLog) -> None:
    """Finds frames that cannot be read before anything is tracked, as far as that shows without decoding all of them.

    Where the policy is `skip` they are left out already.

    Raises:
        FrameError: there is one.
    """
    if log.on_bad_item == "error":
        check_readable(frames)


def _progress_label(contexts: Sequence[LevelContext]) -> str:
    """What is being done: `levels 2, 4`."""
    if any(isinstance(context, LabelContext) for context in contexts):
        return "tracking prompts"
    return f"level{'s' if len(contexts) > 1 else ''} {', '.join(str(context.level) for context in contexts)}"


@contextmanager
def _resume_hint(stores: Sequence[FrameResultStore]) -> Iterator[None]:
    """Adds to the line of an error, or of an interrupt, how much is kept, and how to go on.

    What is wrong with an input will be wrong again, and a mended one is another input: there `--resume` does not help.
    """
    try:
        yield
    except (TrackweaveError, KeyboardInterrupt) as error:
        kept = sum(store.finished for store in stores)
        text = f"{kept} finished {'prompt frame is' if kept == 1 else 'prompt frames are'} kept"
        if isinstance(error, KeyboardInterrupt):
            error.add_note(text)  # the folder knows how to go on
        elif kept and not isinstance(error, InputError):
            again = wording("the same call with resume=True", "the same command with --resume")
            error.args = (f"{error}; {text}: {again} goes on",)
        raise


def _first_id(level: Level, count: int, records: Mapping[Level, LevelRecord]) -> int:
    """First track id of a level with `count` objects: the one it had before, else the first behind all others'.

    The ids of a user's objects are the user's: they are not shifted.
    """
    if level == PROMPTED_LEVEL:
        return 1
    own = records.get(level)
    if own is not None and own.next_id - own.first_id == count:
        return own.first_id
    return max((record.next_id for other, record in records.items() if other != level), default=1)
