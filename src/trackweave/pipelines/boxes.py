"""`track_boxes`: links what a detector or a file of detections says over time, and leaves a run folder."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np

from trackweave.association.logged_samples import BLENDED
from trackweave.association.scorer import LearnedScorer
from trackweave.association.settings import LogSettings, ScorerSettings
from trackweave.corrections.forecast import SwitchForecaster
from trackweave.errors import SettingError, wording
from trackweave.frames.source import FrameSource
from trackweave.mot.settings import RefinementSettings, TrackerSettings, preset
from trackweave.pipelines.box_outputs import (
    BoxOverlay,
    BoxRunRecord,
    Stitcher,
    TrackStatistics,
    TrackWriter,
    check_log,
    close_logger,
    open_logger,
)
from trackweave.pipelines.box_pieces import JoinedTracker, open_pieces
from trackweave.pipelines.box_tracking import (
    FrameFeatures,
    FrameSink,
    FrameTracker,
    make_tracker,
    open_display,
    open_features,
    track_frames,
)
from trackweave.pipelines.detection_source import DetectionsArgument, DetectionSource, open_detections
from trackweave.pipelines.run import Run
from trackweave.pipelines.settings import InputSettings, PerceptionSettings
from trackweave.pipelines.video_input import VideoInput, only_frames, open_input
from trackweave.progress import Progress, TimingAggregator
from trackweave.settings import Settings
from trackweave.storage.run import RunFolder
from trackweave.structures.run_log import RunLog, RunWarning
from trackweave.structures.run_summary import BoxSummary
from trackweave.structures.tracks import Tracks
from trackweave.visualization.settings import OverlaySettings, overlay_settings


class BoxOptions(TypedDict, total=False):
    """What `track_boxes` takes by keyword besides its own arguments; see there."""

    video: InputSettings | None
    perception: PerceptionSettings | None
    refinement: RefinementSettings | None
    log: LogSettings | None
    scorer: ScorerSettings | None
    overlay: bool | OverlaySettings
    pieces: Sequence[str | Path]


def track_boxes(
    source: int | str | Path | FrameSource | Any | None,
    output: str | Path,
    *,
    detections: DetectionsArgument | None = None,
    tracker: str | TrackerSettings | Mapping[str, object] | None = None,
    overwrite: bool = False,
    stop: threading.Event | None = None,
    warnings: Iterable[RunWarning] = (),
    progress: Progress = None,
    **options: Unpack[BoxOptions],
) -> Run[BoxSummary]:
    """Links detections over time and leaves a run folder.

    Frames are read one at a time and results are streamed, so memory does not grow with the video; of a file of
    detections all rows are held, and with a refinement all tracks. Nothing appears in the folder before the run is
    through, `manifest.json` last.

    Args:
        source: a MOTChallenge sequence folder, a folder of images, a video, an array or a `FrameSource`; number of a
            webcam or address of a stream; None when there are only detections.
        output: the run folder; made when it is not there.
        detections: a file of detections, columns by name or a data frame, a table, or a detector: its name, an `.onnx`
            file, or the object. None: that of `perception`, the sequence's own `det/det.txt`, else `motion`.
        tracker: a preset's name, or settings. None: `learned` with the package's scorer; `adaptive` where samples are
            logged, or, with a warning, where the frames' size is not known. A mapping: single settings over that.
        overwrite: a run that `output` holds is removed first, once the input is open; other files stay.
        stop: when set, the run ends after the current frame with what is there; meant for live sources.
        warnings: of the caller, that belong to the run.
        progress: None = shown by itself in a terminal or a notebook; or a function of `(done, total, label)`.
        options: the following, by keyword.
        video: what the source does not say (rate, size), which frames are taken, and what becomes of bad ones.
        perception: which signals are computed from the images.
        refinement: tracks to stitch or to remove, gaps to fill, smoothing, after the whole video is tracked.
        log: where to log training samples; with a scorer they are marked as decided by it.
        scorer: whether a learned scorer judges pairs, and which; None: as `tracker` says, for `learned` the package's.
        overlay: draw the tracks over the frames, where there are any; settings say how.
        pieces: folders of runs over parts of these very frames (`video.frames`), each with the same tracker and without
            refinement, that follow or overlap each other. They are joined, and nothing is tracked: what overlaps goes
            on under its id, and nothing does where there is no overlap, but for stitching.

    Raises:
        InputError: source, detections or model cannot be used; one line that names the file and the item.
        RunFolderError: `output` holds another run, or cannot be written.
        ArtifactError: samples cannot be logged.
        SettingError: a setting is wrong.
    """
    settings = _BoxSettings.of(tracker, options)
    log = RunLog(settings.video.on_bad_item, warnings=[*warnings])
    timer = TimingAggregator()
    with ExitStack() as stack:
        with timer.track("open"):
            video = stack.enter_context(open_input(source, settings.video))
            video.report(log)
            if not isinstance(tracker, str | TrackerSettings):
                settings = _with_default_tracker(
                    settings, tracker or {}, video, log, is_free=options.get("scorer") is None
                )
            inputs = _open_inputs(stack, video, detections, settings, log, timer)
        check_log(settings.log, inputs.video)
        _ = inputs.video.positions  # frames that cannot be chosen show before the folder is touched
        if settings.pieces:
            pieces = open_pieces(settings.pieces, inputs.video, settings.tracker)
            inputs = inputs._replace(joined=stack.enter_context(JoinedTracker(pieces, settings.tracker)))
        folder = stack.enter_context(RunFolder(output))
        folder.claim(overwrite=overwrite, inputs=_files_read(source, detections, settings))
        record = _track(inputs, folder, settings, log, timer, progress, stop)
        return record.finish(folder, log, timer)


@dataclass(frozen=True)
class _BoxSettings:
    """The settings of a run by section; sections as arguments of `track_boxes`."""

    tracker: TrackerSettings
    video: InputSettings
    perception: PerceptionSettings
    refinement: RefinementSettings | None
    log: LogSettings
    scorer: ScorerSettings
    overlay: OverlaySettings | None
    pieces: Sequence[str | Path] = ()

    @classmethod
    def of(cls, tracker: str | TrackerSettings | Mapping[str, object] | None, options: BoxOptions) -> _BoxSettings:
        """The sections that were given, and the defaults of the others.

        Raises:
            SettingError: no such preset, or samples of what is only joined.
            TypeError: no such section.
        """
        unknown = set(options) - set(BoxOptions.__annotations__)
        if unknown:
            raise TypeError(f"track_boxes() got an unexpected keyword argument {min(unknown)!r}")
        refinement, log = options.get("refinement"), options.get("log") or LogSettings()
        if options.get("pieces") and log.dir is not None:
            raise SettingError(f"pieces are joined and not tracked: {wording('log.dir', '--log-dir')} has no samples")
        if not isinstance(tracker, TrackerSettings):
            tracker = preset(tracker if isinstance(tracker, str) else "adaptive")
        return cls(
            tracker,
            options.get("video") or InputSettings(),
            options.get("perception") or PerceptionSettings(),
            None if refinement == RefinementSettings() else refinement,
            log,
            options.get("scorer") or ScorerSettings(enabled=tracker.scorer_decides),
            overlay_settings(options.get("overlay", True)),
            options.get("pieces") or (),
        )

    def to_json(self) -> dict[str, object]:
        """For the manifest, by the names of sections on disk; a part that is off is left out."""
        sections: dict[str, Settings | None] = {
            "tracker": self.tracker,
            "input": self.video,
            "perception": self.perception,
            "refinement": self.refinement,
            "log": self.log,
            "scorer": self.scorer if self.scorer.enabled else None,
        }
        return {name: part.model_dump(mode="json") for name, part in sections.items() if part is not None}


def _with_default_tracker(
    settings: _BoxSettings, changes: Mapping[str, object], video: VideoInput, log: RunLog, *, is_free: bool
) -> _BoxSettings:
    """The settings with the tracker that is taken where none is named, and single settings of it.

    What is logged are by default the decisions of `adaptive`: a learned scorer's are nothing to learn from.

    Args:
        settings: of the run.
        changes: settings of the tracker by name.
        video: the frames.
        log: says it when their size is missing.
        is_free: nobody said whether a learned scorer judges.
    """
    scorer = settings.scorer
    if is_free and settings.log.dir is None:
        if video.size is not None:
            scorer = scorer.model_copy(update={"enabled": True})
        else:
            size = wording("video=InputSettings(size=(W, H))", "--size WxH")
            text = "the frames' size is not known, which a learned scorer needs: tracked with `adaptive`"
            log.warn(
                "track", "size-unknown", f"{video.name if video.path == 'none' else video.path}: {text}; give {size}"
            )
    tracker = preset("learned" if scorer.enabled else "adaptive", **changes)
    return replace(settings, tracker=tracker, scorer=scorer)


class _Inputs(NamedTuple):
    """What a run reads and computes, open."""

    video: VideoInput
    detections: DetectionSource
    features: FrameFeatures
    scorer: LearnedScorer | None
    joined: JoinedTracker | None = None


def _open_inputs(
    stack: ExitStack,
    video: VideoInput,
    detections: DetectionsArgument | None,
    settings: _BoxSettings,
    log: RunLog,
    timer: TimingAggregator,
) -> _Inputs:
    """Opens everything before anything is written, so that mistakes show first; `stack` closes it."""
    perception = settings.perception
    opened = open_detections(
        detections,
        video,
        log,
        timer,
        detector=perception.named_detector,
        options=perception.named_options,
        tracker=settings.tracker,
    )
    stack.enter_context(opened)
    if opened.has_times and settings.refinement is not None:
        raise SettingError(
            f"{opened.record['path']}: its frames are taken as times, between which nothing can be filled or smoothed: "
            "number the frames, or leave the refinement out"
        )
    scorer = make_scorer(settings.scorer, settings.tracker, video)
    if settings.pieces and (settings.refinement is None or not settings.refinement.stitch):
        return _Inputs(video, opened, FrameFeatures(timer), scorer)  # they were computed for the pieces
    needs_visibility = settings.log.dir is not None or scorer is not None
    features = open_features(
        perception,
        settings.tracker,
        video,
        log,
        timer,
        needs_visibility=needs_visibility,
        score_scale=opened.score_scale,
    )
    return _Inputs(video, opened, features, scorer)


def _files_read(source: Any, detections: DetectionsArgument | None, settings: _BoxSettings) -> list[str | Path]:
    """The files and folders that a run reads."""
    named = (source, detections, settings.scorer.weights, settings.video.images, settings.perception.detector)
    files = [one for one in named if isinstance(one, str | Path)]
    return [*files, *getattr(source, "files", ())]


def _track(
    inputs: _Inputs,
    folder: RunFolder,
    settings: _BoxSettings,
    log: RunLog,
    timer: TimingAggregator,
    progress: Progress,
    stop: threading.Event | None,
) -> BoxRunRecord:
    """Tracks the frames and writes the tracks, the overlay and the samples."""
    video, features, refinement = inputs.video, inputs.features, settings.refinement
    statistics = TrackStatistics(step=video.step, forecaster=SwitchForecaster(video.size))
    joined = inputs.joined
    names = inputs.detections.class_names if joined is None else joined.class_names
    writer = TrackWriter(folder.paths, statistics, refinement, {"source": video.path}, names)
    overlay = BoxOverlay(folder.paths.overlay, video, log, settings.overlay if refinement is None else None, names)
    stitcher = Stitcher(refinement, video, inputs.scorer) if refinement is not None and refinement.stitch else None
    label_source = BLENDED if settings.scorer.enabled else "tracker"
    with open_display(progress, "tracking", video) as display, open_logger(settings.log, video, label_source) as logger:
        scale = inputs.detections.score_scale
        tracker: FrameTracker = joined or make_tracker(
            settings.tracker, video, scorer=inputs.scorer, observer=logger, score_scale=scale
        )
        with writer, overlay:
            reads = overlay.is_on or features.needs_images
            frames = inputs.detections.frames(images=reads, stop=stop, is_idle=lambda: tracker.is_idle)
            sinks: list[FrameSink] = [writer, overlay] if overlay.is_on else [writer]
            sinks += [] if stitcher is None else [stitcher]
            count = track_frames(frames, features, tracker, sinks, timer, display)
            passed_over = inputs.detections.passed_over  # the overlay of refined tracks reads the frames again
            with timer.track("write"):
                writer.finish(video.times, stitcher)
                samples = close_logger(logger, log)
        if settings.overlay is not None and writer.refined is not None:
            refined = BoxOverlay(folder.paths.overlay, video, log, settings.overlay, names)
            _draw_refined(refined, video, log, timer, writer.refined.tracks)
    return BoxRunRecord(
        video,
        inputs.detections.record,
        count,
        passed_over,
        settings.to_json(),
        tracker.summary,
        features.record() if joined is None else joined.features(),
        statistics.counts(),
        writer.refined,
        None if stitcher is None else len(stitcher.links),
        samples,
        () if joined is None else joined.samplings,
    )


def make_scorer(settings: ScorerSettings, tracker: TrackerSettings, video: VideoInput) -> LearnedScorer | None:
    """The scorer that the settings ask for; None when they ask for none.

    Raises:
        ArtifactError: not a model of association, or of another version of the features.
        SettingError: a tracker whose gates need a scorer has none, another width of embeddings, or no frame will say
            how large it is.
    """
    if settings.enabled:
        if video.size is None and not video.has_images:
            size = wording("video=InputSettings(size=(W, H))", "--size WxH")
            raise SettingError(f"{video.path}: the learned scorer needs the frames' size: give {size}")
        return LearnedScorer(
            settings.weights, size=video.size, embed_dim=settings.embed_dim, threshold=settings.threshold
        )
    if tracker.scorer_decides:
        scorer = wording("scorer=ScorerSettings(enabled=True)", "--scorer learned")
        raise SettingError(f"tracker learned leaves decisions to a learned scorer: add {scorer}")
    return None


def _draw_refined(overlay: BoxOverlay, video: VideoInput, log: RunLog, timer: TimingAggregator, tracks: Tracks) -> None:
    """The overlay of tracks that were refined at the end: the frames are read a second time."""
    if video.kind == "live":
        text = f"{video.path}: no overlay: refined tracks are known at the end, and live pictures are gone by then"
        log.warn("overlay", "overlay-unavailable", text)
        return
    with overlay:
        if overlay.is_on:
            for frame in video.frames(only_frames(np.unique(tracks.frame))):
                with timer.track(overlay.stage):
                    overlay.draw(frame, tracks.at(frame.index))
