"""The composition root of box tracking: opens the inputs, introduces the rooms to each other, leaves a run folder.

`track_boxes` follows what a detector or a file of detections says; `build_samples` logs sequences whose truth is known.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from trackweave.association.data_collection import DEFAULT_EMBED_DIM, GT_COLUMN, SampleLogger
from trackweave.association.dataset import BLENDED
from trackweave.association.ground_truth import NOBODY, gt_track_ids
from trackweave.association.log_settings import LogSettings
from trackweave.association.scorer import LearnedScorer
from trackweave.association.scorer_settings import ScorerSettings
from trackweave.association.simulation.detector_noise import DetectorNoise
from trackweave.association.simulation.from_truth import detect_truth
from trackweave.errors import FrameError, InputError, RunFolderError, SettingError
from trackweave.formats.detections_table import DetectionTable
from trackweave.formats.motchallenge import GroundTruth, read_gmc, read_ground_truth, read_sequence
from trackweave.formats.sequence_layouts import class_column_of, find_sequences, video_of
from trackweave.frames.source import FrameSource
from trackweave.mot.box_overlay import BoxOverlay
from trackweave.mot.box_pass import BoxPass
from trackweave.mot.census import TrackCensus
from trackweave.mot.perception import PerceptionSettings
from trackweave.mot.refinement import RefinedTracks, RefinementSettings
from trackweave.mot.remarks import Remarks
from trackweave.mot.settings import TrackerSettings, preset
from trackweave.mot.sight import Given, Sight, open_sight
from trackweave.mot.track_writer import TrackWriter
from trackweave.mot.video_input import InputSettings, VideoInput, open_input
from trackweave.storage.files import remove_partials, write_json
from trackweave.storage.run import FrameList, RunManifest, RunPaths, ensure_writable
from trackweave.storage.tracks_archive import TracksArchive
from trackweave.structures.detections import Detections
from trackweave.structures.tracks import Tracks
from trackweave.structures.warning import RunWarning
from trackweave.tracking.helpers import ProgressPrinter, TimingAggregator, peak_rss_mb

SUMMARY_VERSION = 1
Progress = Callable[[str, int], ProgressPrinter]


@dataclass(frozen=True)
class BoxRunResult:
    """Where a run's results lie and what they are in numbers.

    Attributes:
        run: paths of the run folder.
        summary: the content of `summary.json`.
        warnings: everything that was done differently from what was asked.
    """

    run: RunPaths
    summary: Mapping[str, Any]
    warnings: Sequence[RunWarning]

    def archive(self) -> TracksArchive:
        """Opens the tracks, to be read part by part."""
        return TracksArchive(self.run.tracks)

    def tracks(self, *, with_masks: bool = True) -> Tracks:
        """The tracks in memory."""
        with self.archive() as archive:
            return archive.tracks(with_masks=with_masks)


@dataclass(frozen=True)
class BuiltSamples:
    """What was logged of one sequence.

    Attributes:
        sequence: its name.
        directory: folder of the samples.
        frames: frames that were tracked.
        samples: samples written.
        detections: detections of all frames.
        identified: those of them that show a known identity.
        warnings: everything that was done differently from what was asked.
    """

    sequence: str
    directory: Path
    frames: int
    samples: int
    detections: int
    identified: int
    warnings: Sequence[RunWarning]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        plain = {name: getattr(self, name) for name in ("sequence", "frames", "samples", "detections", "identified")}
        warnings = [warning.to_json() for warning in self.warnings]
        return {**plain, "directory": str(self.directory), "warnings": warnings}


def track_boxes(
    source: int | str | Path | FrameSource | Any | None,
    output: str | Path,
    *,
    detections: Given | None = None,
    tracker: str | TrackerSettings = "adaptive",
    video: InputSettings | None = None,
    perception: PerceptionSettings | None = None,
    refinement: RefinementSettings | None = None,
    log: LogSettings | None = None,
    scorer: ScorerSettings | None = None,
    overlay: bool = True,
    stop: threading.Event | None = None,
    warnings: Iterable[RunWarning] = (),
    progress: Progress | None = None,
) -> BoxRunResult:
    """Links detections over time and leaves a run folder.

    Frames are read one at a time and results are streamed, so memory does not grow with the video; of a file of
    detections all rows are held, and with a refinement all tracks. Nothing appears in the folder before the run is
    through, `manifest.json` last.

    Args:
        source: a MOTChallenge sequence folder, a folder of images, a video, an array or a `FrameSource`; number of a
            webcam or address of a stream; None when there are only detections.
        output: the run folder; made when it is not there.
        detections: a file or table of detections, or a detector: its name, an `.onnx` file, or the object. None: that
            of `perception`, the sequence's own `det/det.txt`, else `motion`.
        tracker: a preset's name, or settings.
        video: what the source does not say (rate, size), which frames are taken, and what becomes of bad ones.
        perception: which signals are computed from the pictures.
        refinement: gaps to fill, tracks to remove, smoothing, after the whole video was seen.
        log: where to log training samples; with a scorer they are marked as decided by it.
        scorer: whether a learned scorer judges pairs, and which; best with the tracker `learned`.
        overlay: draw the tracks over the frames, where there are any.
        stop: when set, the run ends after the current frame with what is there; meant for live sources.
        warnings: remarks of the caller that belong to the run.
        progress: makes a progress display from a label and a number of steps.

    Raises:
        InputError: source, detections or model cannot be used; one line that names the file and the item.
        RunFolderError: `output` holds another run, or cannot be written.
        ArtifactError: samples cannot be logged.
        SettingError: a setting is wrong.
    """
    how = tracker if isinstance(tracker, TrackerSettings) else preset(tracker)
    judging = scorer or ScorerSettings()
    looks, video, log = perception or PerceptionSettings(), video or InputSettings(), log or LogSettings()
    refinement = None if refinement == RefinementSettings() else refinement
    remarks = Remarks(video.on_bad_item, [*warnings])
    run, timer = RunPaths(Path(output)), TimingAggregator()
    with ExitStack() as stack:
        with timer.track("open"):
            opened = stack.enter_context(open_input(source, video))
            sight = stack.enter_context(_opened_sight(detections, opened, looks, remarks))
            boxes = BoxPass(
                opened,
                sight,
                how,
                looks,
                remarks,
                timer.track,
                scorer=make_scorer(judging, how, opened),
                reads_visibility=log.dir is not None,
                stop=stop,
            )
        _check_log(log, opened)
        census = TrackCensus(step=opened.step)
        writer = TrackWriter(run, census, refinement, {"source": opened.path})
        drawing = BoxOverlay(run.overlay, opened, remarks, timer.track, wanted=overlay and refinement is None)
        _claim(run)
        display = _display(progress, "tracking", opened, stack)
        logger = stack.enter_context(_logger(log, opened, BLENDED if judging.enabled else "tracker"))
        with writer, drawing, closing(boxes.tracked(logger, draws=drawing.is_on)) as stream:
            for frame, tracked in stream:
                with timer.track("write"):
                    tracks = writer.write(frame.index, frame.time, tracked)
                drawing.draw(frame, tracks)
                if display is not None:
                    display.update(boxes.frames, frame.index)
            with timer.track("write"):
                writer.finish(opened.times)
                samples = _closed(logger, remarks)
        if overlay and writer.refined is not None:
            _draw_refined(run, opened, remarks, timer, writer.refined.tracks)
        config: dict[str, BaseModel | None] = {
            "tracker": how,
            "input": video,
            "perception": looks,
            "refinement": refinement,
            "log": log,
        }
        if judging.enabled:
            config["scorer"] = judging
        made = _Made(opened, boxes, sight, census, writer.refined, remarks, timer, _log_record(log, opened, samples))
        return _finish(run, made, {name: part.model_dump(mode="json") for name, part in config.items() if part})


def make_scorer(settings: ScorerSettings, how: TrackerSettings, video: VideoInput) -> LearnedScorer | None:
    """The scorer that the settings ask for; None when they ask for none.

    Raises:
        ArtifactError: not a model of association, or of another version of the features.
        SettingError: a tracker whose gates need a scorer has none, or another width of embeddings.
    """
    if settings.enabled:
        return LearnedScorer(
            settings.weights, size=video.size, embed_dim=settings.embed_dim, threshold=settings.threshold
        )
    if how.scorer_decides:
        raise SettingError("tracker learned leaves decisions to a learned scorer: add --scorer learned")
    return None


def build_samples(
    sequences: Sequence[str | Path],
    directory: str | Path,
    *,
    truth: str | Path | None = None,
    separate: bool = False,
    by: Literal["sequence", "video"] | None = None,
    detections: str | Path | None = None,
    simulated: DetectorNoise | None = None,
    seed: int = 0,
    tracker: str | TrackerSettings = "adaptive",
    video: InputSettings | None = None,
    perception: PerceptionSettings | None = None,
    embed_dim: int = DEFAULT_EMBED_DIM,
    progress: Progress | None = None,
) -> list[BuiltSamples]:
    """Logs sequences whose truth is known, with `gt_track_ids` beside the tracker's own decisions.

    Args:
        sequences: MOTChallenge sequence folders, and folders of them: data sets in the layouts of
            `formats.sequence_layouts`.
        directory: folder of the samples; made when missing, continued when not.
        truth: file of true boxes instead of the sequence's `gt/gt.txt`, for a single sequence.
        separate: the same as `by="sequence"`.
        by: a folder below `directory` for each sequence, or for each video that sequences were cut from, named like it;
            None: all samples in one folder.
        detections: as for `track_boxes`.
        simulated: a detector to simulate on the truth, for data sets that come without detections.
        seed: of the simulated detections.
        tracker: as for `track_boxes`.
        video: as for `track_boxes`.
        perception: as for `track_boxes`.
        embed_dim: width of the logged embeddings.
        progress: as for `track_boxes`.

    Raises:
        InputError: a sequence cannot be used.
        ArtifactError: samples cannot be logged.
        SettingError: a setting is wrong, one `truth` for several sequences, or real and simulated detections at once.
    """
    sequences = find_sequences(sequences)
    if simulated is not None and detections is not None:
        raise SettingError(f"both detections ({detections}) and a simulated detector are given: leave one out")
    if truth is not None and len(sequences) != 1:
        raise SettingError(f"one file of true boxes is for one sequence, not {len(sequences)}: leave --gt out")
    how = tracker if isinstance(tracker, TrackerSettings) else preset(tracker)
    looks, video = perception or PerceptionSettings(), video or InputSettings()
    known = {path: read_ground_truth(truth if truth is not None else path) for path in map(Path, sequences)}
    built = []
    for path, boxes in known.items():
        remarks, timer = Remarks(video.on_bad_item), TimingAggregator()
        with ExitStack() as stack:
            opened = stack.enter_context(open_input(path, _with_class_column(video, path, boxes, detections)))
            names = _Names(boxes, with_classes=opened.settings.class_column is not None)
            seen = detections if simulated is None else _simulated(boxes, simulated, opened, seed)
            sight = stack.enter_context(_opened_sight(seen, opened, looks, remarks))
            work = BoxPass(
                opened, sight, how, looks, remarks, timer.track, annotate=names.annotate, reads_visibility=True
            )
            folder = Path(directory) / _folder_name(opened.name, "sequence" if separate else by)
            log = LogSettings(dir=folder, embed_dim=embed_dim, sequence=opened.name)
            _check_log(log, opened)
            display = _display(progress, opened.name, opened, stack)
            logger = stack.enter_context(_logger(log, opened, "ground_truth"))
            for frame, _ in stack.enter_context(closing(work.tracked(logger))):
                if display is not None:
                    display.update(work.frames, frame.index)
            samples = _closed(logger, remarks)
        remarks.warnings += work.summary.warnings
        built.append(
            BuiltSamples(
                opened.name, folder, work.frames, samples, names.seen, names.identified, tuple(remarks.warnings)
            )
        )
    return built


def _opened_sight(given: Given | None, video: VideoInput, looks: PerceptionSettings, remarks: Remarks) -> Sight:
    remarks.take(video.warnings)
    damage = getattr(video.images, "damage", None)
    if damage is not None:  # a video that was cut off still has frames; whether they will do is the user's choice
        if remarks.on_bad_item == "error":
            raise FrameError(f"{damage} (--on-bad-item skip tracks the frames that are there)")
        remarks.warn("frames", "video-damaged", str(damage))
    return open_sight(given, video, remarks, detector=looks.detector, options=looks.detector_options)


def _folder_name(sequence: str, by: Literal["sequence", "video"] | None) -> str:
    return "" if by is None else sequence if by == "sequence" else video_of(sequence)


def _with_class_column(
    video: InputSettings, path: Path, truth: GroundTruth, detections: str | Path | None
) -> InputSettings:
    """Settings with the column of the class where nobody said it and the sequence's own detections have one."""
    files = read_sequence(path).detection_files
    stem = "det" if detections is None else Path(detections).stem
    if video.class_column is not None or stem not in files or Path(detections or "").parent != Path():
        return video
    return video.model_copy(update={"class_column": class_column_of(truth, files[stem])})


def _simulated(truth: GroundTruth, noise: DetectorNoise, video: VideoInput, seed: int) -> DetectionTable:
    """What a simulated detector reports of a sequence.

    Raises:
        InputError: the sequence's size or rate is not known.
    """
    if video.size is None or video.frame_rate is None or video.length is None:
        raise InputError(f"{video.path}: simulated detections need the frames' size, rate and number: see seqinfo.ini")
    motion = None if video.sequence is None or video.sequence.camera_motion is None else video.sequence.camera_motion
    return detect_truth(
        truth,
        noise,
        size=video.size,
        fps=video.frame_rate,
        length=video.length,
        seed=seed,
        name=video.name,
        camera=None if motion is None else read_gmc(motion),
    )


class _Names:
    """Writes the true identity of each detection beside it, and counts."""

    def __init__(self, truth: GroundTruth, *, with_classes: bool = False) -> None:
        self._truth, self._with_classes = truth, with_classes
        self.seen = 0
        self.identified = 0

    def annotate(self, index: int, found: Detections) -> Detections:
        """A frame's detections with their identities."""
        classes = found.class_id if self._with_classes else None
        true = gt_track_ids(found.xyxy, self._truth.at(index), class_id=classes)
        self.seen += len(true)
        self.identified += int(np.count_nonzero(true != NOBODY))
        return replace(found, data={**found.data, GT_COLUMN: true})


def _display(progress: Progress | None, label: str, video: VideoInput, stack: ExitStack) -> ProgressPrinter | None:
    """A progress display over the frames, when somebody wants one and their number is known."""
    if progress is None or video.positions is None:
        return None
    display = progress(label, len(video.positions))
    stack.callback(display.close)
    return display


def _check_log(log: LogSettings, video: VideoInput) -> None:
    if log.dir is not None and video.size is None and video.kind != "live":
        raise SettingError(f"{video.path}: samples need the frames' size, which is not known: give --size WxH")


def _logger(log: LogSettings, video: VideoInput, label_source: str) -> AbstractContextManager[SampleLogger | None]:
    """The logger that the settings ask for; inside its `with` block None when they ask for none."""
    if log.dir is None:
        return nullcontext()
    return SampleLogger(
        log.dir,
        sequence=log.sequence or video.name,
        fps=video.frame_rate,
        size=video.size,
        embed_dim=log.embed_dim,
        label_source=label_source,
    )


def _closed(logger: SampleLogger | None, remarks: Remarks) -> int:
    """Waits until all samples are written; their number."""
    if logger is None:
        return 0
    logger.close()
    remarks.warnings += logger.warnings
    return logger.written


def _draw_refined(run: RunPaths, video: VideoInput, remarks: Remarks, timer: TimingAggregator, tracks: Tracks) -> None:
    """The overlay of tracks that were refined after the pass: the frames are read a second time."""
    if video.kind == "live":
        text = f"{video.path}: no overlay: refined tracks are known at the end, and live pictures are gone by then"
        remarks.warn("overlay", "overlay-unavailable", text)
        return
    with BoxOverlay(run.overlay, video, remarks, timer.track) as drawing:
        if drawing.is_on:
            for frame in video.frames():
                drawing.draw(frame, tracks.at(frame.index))


def _claim(run: RunPaths) -> None:
    """Proves that the folder can take the run: refuses one that holds another, clears what a killed run left.

    Raises:
        RunFolderError: it cannot.
    """
    root = run.root
    if root.exists() and not root.is_dir():
        raise RunFolderError(f"{root}: is a file, not a run folder")
    ensure_writable(root)
    manifest = RunManifest.load(run.manifest)
    if manifest.fingerprint is not None or manifest.data.get("artifacts"):
        raise RunFolderError(f"{root}: already holds a run: choose another -o, or remove it first")
    remove_partials(root)


@dataclass(frozen=True)
class _Made:
    """What a finished run is told from."""

    video: VideoInput
    boxes: BoxPass
    sight: Sight
    census: TrackCensus
    refined: RefinedTracks | None
    remarks: Remarks
    timer: TimingAggregator
    log: dict[str, Any] | None


def _finish(run: RunPaths, made: _Made, config: Mapping[str, Any]) -> BoxRunResult:
    """Writes what tells of the whole run; the manifest last, as it claims the folder."""
    video, remarks = made.video, made.remarks
    taken = video.source()
    if taken is not None:
        FrameList(taken.indices, taken.names, video.times_of(taken.indices), taken.size).write(run.frames)
    summary = _summary(made, config)
    identity = {"input": summary["input"], "detections": summary["detections"], "config": config}
    files = {"archive": run.tracks, "mot": run.mot, "overlay": run.overlay, "frames": run.frames}
    manifest = RunManifest.load(run.manifest)
    manifest.merge(
        {
            "kind": "boxes",
            "fingerprint": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32],
            **identity,
            "tracks": {name: path.name for name, path in files.items() if path.is_file()},
        }
    )
    manifest.replace_warnings(remarks.warnings, stages=(), level=None)
    manifest.set_totals({key: summary[key] for key in ("totals", "durations", "peak_rss_mb")})
    write_json(run.summary, summary)
    manifest.write()
    return BoxRunResult(run, summary, tuple(remarks.warnings))


def _summary(made: _Made, config: Mapping[str, Any]) -> dict[str, Any]:
    told, counted, refined = made.boxes.summary, made.census.summary(), made.refined
    made.remarks.warnings += told.warnings
    seconds = made.timer.total("track")
    return {
        "schema_version": SUMMARY_VERSION,
        "command": "boxes",
        "input": _input_record(made.video, made.boxes.frames),
        "detections": dict(made.sight.record),
        "tracker": config["tracker"],
        "totals": {
            "frames": made.boxes.frames,
            "detections": made.boxes.detections,
            "tracks": counted["tracks"],
            "boxes": counted["boxes"],
            "births": told.tracks,
            "reactivations": told.reactivations,
            "est_id_switches": told.est_id_switches if config["tracker"]["diagnostics"] else None,
            "interpolated": 0 if refined is None else refined.interpolated,
            "removed": 0 if refined is None else refined.removed,
        },
        "skipped": dict(made.remarks.skipped + Counter(told.skipped)),
        "suspected_switches": [event.to_json() for event in told.suspected],
        "track_lengths": counted["lengths"],
        "longest_tracks": counted["longest_tracks"],
        **made.boxes.signals(),
        "log": made.log,
        "association_fps": round(made.boxes.frames / seconds, 1) if seconds else None,
        "durations": {stage: round(taken, 4) for stage, taken in made.timer.items()},
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "warnings": [warning.to_json() for warning in made.remarks.warnings],
    }


def _input_record(video: VideoInput, frames: int) -> dict[str, Any]:
    height, width = video.size or (None, None)
    return {
        "path": video.path,
        "kind": video.kind,
        "name": video.name,
        "frames": frames,
        "frame_rate": video.frame_rate,
        "height": height,
        "width": width,
    }


def _log_record(log: LogSettings, video: VideoInput, samples: int) -> dict[str, Any] | None:
    if log.dir is None:
        return None
    # The logger lets the tracker wait rather than drop a sample.
    return {"directory": str(log.dir), "sequence": log.sequence or video.name, "logged": samples, "dropped": 0}
