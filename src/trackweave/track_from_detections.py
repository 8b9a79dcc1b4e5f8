"""The composition root of box tracking: opens the inputs, introduces the rooms to each other, leaves a run folder.

`track_boxes` follows what a detector or a file of detections says; `build_samples` logs sequences whose truth is known.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from trackweave.association.data_collection import GT_COLUMN, SampleLogger
from trackweave.association.ground_truth import NOBODY, gt_track_ids
from trackweave.association.log_settings import LogSettings
from trackweave.detectors.base import Detector
from trackweave.detectors.embedding import Embedder, make_embedder
from trackweave.detectors.registry import WEIGHTS_FREE, make_detector
from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.errors import FrameError, InputError, RunFolderError, SettingError
from trackweave.formats.detections import DetectionTable, read_detections
from trackweave.formats.motchallenge import GroundTruth, read_gmc, read_ground_truth
from trackweave.formats.mp4 import Mp4Writer
from trackweave.formats.trails import TrailPainter
from trackweave.frames.source import FrameSource, RGBFrame
from trackweave.mot.camera_motion import CameraMotionEstimator, GivenCameraMotion
from trackweave.mot.census import TrackCensus
from trackweave.mot.perception import Annotate, Camera, Detect, Perception, PerceptionSettings
from trackweave.mot.refinement import RefinementSettings
from trackweave.mot.settings import TrackerSettings, preset
from trackweave.mot.track_writer import TrackWriter
from trackweave.mot.tracker import ByteTracker
from trackweave.mot.video_input import InputFrame, InputSettings, VideoInput, open_input
from trackweave.storage.files import remove_partials, write_json
from trackweave.storage.run import FrameList, RunManifest, RunPaths, ensure_writable
from trackweave.storage.tracks_archive import TracksArchive
from trackweave.structures.detections import Detections
from trackweave.structures.tracks import Tracks
from trackweave.structures.warning import RunWarning
from trackweave.tracking.helpers import ProgressPrinter, TimingAggregator

SUMMARY_VERSION = 1
DEFAULT_DETECTOR = "motion"
"""What sees objects when nobody said what does: anything that moves before a camera that does not; needs no weights."""
SAMPLES_PER_SECOND = 2.0
"""Speed of the overlay of a sequence that has only some of its pictures."""
LIVE_RATE = 25.0
"""Speed of the overlay of a live source."""
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


def track_boxes(
    source: int | str | Path | FrameSource | Any | None,
    output: str | Path,
    *,
    detections: str | Path | DetectionTable | Detector | None = None,
    tracker: str | TrackerSettings = "adaptive",
    video: InputSettings | None = None,
    perception: PerceptionSettings | None = None,
    refinement: RefinementSettings | None = None,
    log: LogSettings | None = None,
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
        tracker: a preset's name, or settings; its `on_bad_item` counts for the inputs as well.
        video: what the source does not say (rate, size), and which frames are taken.
        perception: which signals are computed from the pictures.
        refinement: gaps to fill, tracks to remove, smoothing, after the whole video was seen.
        log: where to log training samples.
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
    refinement = None if refinement == RefinementSettings() else refinement
    run = RunPaths(Path(output))
    with ExitStack() as stack:
        opened = stack.enter_context(open_input(source, video))
        job = _Job(opened, how, perception or PerceptionSettings(), log or LogSettings(), stop=stop)
        job.warnings += [*warnings, *opened.warnings]
        job.choose_detections(detections, stack)
        identity = job.identity(refinement)
        _claim(run)
        census = TrackCensus(step=_step(opened))
        display = None
        if progress is not None and opened.positions is not None:
            display = progress("tracking", len(opened.positions))
            stack.callback(display.close)
        writer = TrackWriter(run, census, refinement, {"source": opened.path})
        with writer, _Overlay(run.overlay, opened, job, wanted=overlay and refinement is None) as drawing:
            for frame, tracked in job.tracked(pictures=drawing.is_on and opened.has_images):
                with job.timer.track("write"):
                    tracks = writer.write(frame.index, frame.time, tracked)
                drawing.draw(frame, tracks)
                if display is not None:
                    display.update(job.frames, frame.index)
            with job.timer.track("write"):
                writer.finish(_times(opened))
        if overlay and writer.refined is not None:
            _draw_refined(run, opened, job, writer.refined.tracks)
        return _finish(run, job, census, writer, identity)


def build_samples(
    sequences: Sequence[str | Path],
    directory: str | Path,
    *,
    truth: str | Path | None = None,
    separate: bool = False,
    detections: str | Path | None = None,
    tracker: str | TrackerSettings = "adaptive",
    video: InputSettings | None = None,
    perception: PerceptionSettings | None = None,
    embed_dim: int | None = None,
    progress: Progress | None = None,
) -> list[BuiltSamples]:
    """Logs sequences whose truth is known, with `gt_track_ids` beside the tracker's own decisions.

    Args:
        sequences: MOTChallenge sequence folders.
        directory: folder of the samples; made when missing, continued when not.
        truth: file of true boxes instead of the sequence's `gt/gt.txt`, for a single sequence.
        separate: one folder per sequence below `directory`, named like it.
        detections: as for `track_boxes`.
        tracker: as for `track_boxes`.
        video: as for `track_boxes`.
        perception: as for `track_boxes`.
        embed_dim: width of the logged embeddings.
        progress: as for `track_boxes`.

    Raises:
        InputError: a sequence cannot be used.
        ArtifactError: samples cannot be logged.
        SettingError: a setting is wrong, or one `truth` for several sequences.
    """
    if truth is not None and len(sequences) != 1:
        raise SettingError(f"one file of true boxes is for one sequence, not {len(sequences)}: leave --gt out")
    how = tracker if isinstance(tracker, TrackerSettings) else preset(tracker)
    known = {path: read_ground_truth(truth if truth is not None else path) for path in map(Path, sequences)}
    built = []
    for path, boxes in known.items():
        with ExitStack() as stack:
            opened = stack.enter_context(open_input(path, video))
            folder = Path(directory) / opened.name if separate else Path(directory)
            log = LogSettings(dir=folder, sequence=opened.name, **({} if embed_dim is None else {"embed_dim": embed_dim}))
            job = _Job(opened, how, perception or PerceptionSettings(), log, truth=boxes)
            job.warnings += opened.warnings
            job.choose_detections(detections, stack)
            display = progress(opened.name, len(opened.positions or ())) if progress is not None else None
            if display is not None:
                stack.callback(display.close)
            for frame, _ in job.tracked(pictures=False):
                if display is not None:
                    display.update(job.frames, frame.index)
            built.append(
                BuiltSamples(
                    opened.name, folder, job.frames, job.logged, job.detections, job.identified, tuple(job.warnings)
                )
            )
    return built


@dataclass
class _Job:
    """One pass over a video: what sees, what links, what looks on; and what was counted on the way."""

    video: VideoInput
    how: TrackerSettings
    looks: PerceptionSettings
    log: LogSettings
    truth: GroundTruth | None = None
    stop: threading.Event | None = None
    timer: TimingAggregator = field(default_factory=TimingAggregator)
    warnings: list[RunWarning] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    seen_by: dict[str, Any] = field(default_factory=dict)
    frames: int = 0
    detections: int = 0
    identified: int = 0
    logged: int = 0
    tracker: ByteTracker | None = None
    visibility: VisibilityEstimator | None = None
    embedder: Embedder | None = None
    camera: Camera | None = None
    _detect: Detect | None = None
    _detector: Detector | None = None

    # --- what sees ------------------------------------------------------------------------------------------------

    def choose_detections(self, given: str | Path | DetectionTable | Detector | None, stack: ExitStack) -> None:
        """Opens the file of detections, or the detector.

        Raises:
            InputError: it cannot be used, or there is nothing to see with.
            SettingError: a file and a detector at once, or an unknown detector.
        """
        self._check_damage()
        named = self.looks.detector
        if given is not None and named is not None:
            raise SettingError(f"detections ({given}) and a detector ({named}): give one of them")
        asked = named if given is None else given
        if isinstance(asked, Detector):
            self._use_detector(asked, "given by the caller")
        elif _is_detector_name(asked):
            self._use_detector(self._made(str(asked), stack), "asked for")
        elif asked is not None:
            self._use_table(asked if isinstance(asked, DetectionTable) else self._read(Path(asked)))  # type: ignore[arg-type]
        elif self.video.sequence is not None and (self.video.sequence.detection_files or not self.video.has_images):
            self._use_table(self._read(self.video.sequence.detections()))
        elif self.video.has_images:
            self._use_detector(self._made(DEFAULT_DETECTOR, stack), "no detections and no detector were given")
        else:
            raise SettingError("without frames there must be detections: give --detections FILE")
        if self._detector is not None and not self.video.has_images:
            raise InputError(f"{self.video.path}: a detector needs every frame's picture: give --detections FILE")

    def _made(self, name: str, stack: ExitStack) -> Detector:
        with self.timer.track("open"):
            detector = make_detector(name, **self.looks.detector_options)
        stack.callback(detector.close)
        return detector

    def _use_detector(self, detector: Detector, reason: str) -> None:
        detector.reset()
        self._detector = detector
        self.seen_by = {"kind": "detector", "name": detector.name, "reason": reason}

        def detect(frame: InputFrame) -> Detections:
            image = frame.image()
            return Detections.empty() if image is None else detector.detect(image)

        self._detect = detect

    def _read(self, path: Path) -> DetectionTable:
        sequence = self.video.sequence
        if not path.exists() and sequence is not None and path.name.removesuffix(".txt") in sequence.detection_files:
            path = sequence.detections(path.name)
        with self.timer.track("open"):
            return read_detections(
                path,
                class_column=self.video.settings.class_column,
                length=self.video.length,
                on_bad_item=self.how.on_bad_item,
            )

    def _use_table(self, table: DetectionTable) -> None:
        self.warnings += table.warnings
        for warning in table.warnings:
            self.skipped[str(warning.details.get("reason", warning.code))] += int(warning.details.get("count", 1))
        beyond = 0 if self.video.length is None else int(np.count_nonzero(table.frame >= self.video.length))
        if beyond:
            text = f"{table.source}: {beyond} detections of frames beyond the {self.video.length} of {self.video.path}"
            if self.how.on_bad_item == "error":
                raise InputError(f"{text}, first of frame {table.frame[-beyond]}; --on-bad-item skip leaves them out")
            self._skip("beyond-video", text, beyond)
        self.video.set_length(table.frame_count)
        self.seen_by = {"kind": "file", "path": table.source, "rows": len(table)}
        self._detect = lambda frame: table.at(frame.index)

    def _check_damage(self) -> None:
        """A video that was cut off still has frames; whether they will do is the user's choice."""
        damage = getattr(self.video.images, "damage", None)
        if damage is None:
            return
        if self.how.on_bad_item == "error":
            raise FrameError(f"{damage} (--on-bad-item skip tracks the frames that are there)")
        self.warnings.append(RunWarning("frames", None, "video-damaged", str(damage)))

    def _skip(self, reason: str, text: str, count: int = 1) -> None:
        """Counts what was left out; the first of a kind becomes a warning."""
        if not self.skipped[reason]:
            self.warnings.append(RunWarning("frames", None, reason, text))
        self.skipped[reason] += count

    # --- the pass -------------------------------------------------------------------------------------------------

    def tracked(self, *, pictures: bool) -> Iterator[tuple[InputFrame, Detections]]:
        """Frames with the tracker's answers.

        Args:
            pictures: whether the caller will draw: then frames whose picture cannot be read are found here.

        Raises:
            InputError: a frame or a detection that cannot be used.
            ArtifactError: a sample that cannot be written.
        """
        with ExitStack() as stack:
            logger = self._logger(stack)
            eyes = self._perception()
            rate = self.video.frame_rate
            self.tracker = ByteTracker(
                self.how, **({} if rate is None else {"frame_rate": rate}), size=self.video.size, observer=logger
            )
            wanted = pictures or eyes.needs_images or self._detector is not None
            for frame in self._frames():
                image, readable = self._picture(frame) if wanted and self.video.has_images else (None, True)
                if not readable and self._detector is not None:
                    continue
                context, found = eyes.look(frame, image)
                with self.timer.track("track"):
                    tracked = self.tracker.update(context, found)
                self.frames += 1
                self.detections += len(found)
                self.identified += self._identified(found)
                yield frame, tracked
        if logger is not None:
            self.logged = logger.written
            self.warnings += logger.warnings
        self._note_ending()

    def _frames(self) -> Iterator[InputFrame]:
        """The video's frames until it ends, breaks off, or somebody says stop."""
        frames = self.video.frames()
        while self.stop is None or not self.stop.is_set():
            try:
                with self.timer.track("read"):
                    frame = next(frames, None)
            except FrameError as error:
                # What a live source has shown cannot be had again: a break ends the run, it does not undo it.
                if self.video.kind != "live" or not self.frames:
                    raise
                self.warnings.append(RunWarning("frames", None, "stream-broke-off", str(error)))
                return
            if frame is None:
                return
            yield frame

    def _picture(self, frame: InputFrame) -> tuple[RGBFrame | None, bool]:
        """The frame's picture, and whether it could be read."""
        try:
            with self.timer.track("read"):
                return frame.image(), True
        except FrameError as error:
            if self.how.on_bad_item == "error":
                raise
            self._skip("frame-unreadable", str(error))
            return None, False

    def _logger(self, stack: ExitStack) -> SampleLogger | None:
        if self.log.dir is None:
            return None
        if self.video.size is None and self.video.kind != "live":
            raise SettingError(f"{self.video.path}: samples need the frames' size, which is not known: give --size WxH")
        return stack.enter_context(
            SampleLogger(
                self.log.dir,
                sequence=self.log.sequence or self.video.name,
                fps=self.video.frame_rate,
                size=self.video.size,
                embed_dim=self.log.embed_dim,
                label_source="tracker" if self.truth is None else "ground_truth",
            )
        )

    def _perception(self) -> Perception:
        if self._detect is None:
            raise ValueError("choose_detections comes first")
        confidence = self.how.confidence_threshold
        self.embedder = self._make_embedder()
        self.camera = self._make_camera()
        needed = self.log.dir is not None or self.how.diagnostics or self.how.appearance_memory
        if self.looks.segmentation or needed or self.embedder is not None:
            self.visibility = VisibilityEstimator(
                "segment" if self.looks.segmentation else "occlusion",
                time_budget_ms=self.looks.segmentation_budget_ms,
                min_occluder_score=confidence,
            )
        return Perception(
            self._detect,
            visibility=self.visibility,
            embedder=self.embedder,
            camera=self.camera,
            confidence=confidence,
            annotate=None if self.truth is None else partial(_with_truth, self.truth),
            stage=self.timer.track,
            size=self.video.size,
        )

    def _make_embedder(self) -> Embedder | None:
        name = self.looks.embedder
        if name == "auto":
            name = "layout" if self.how.appearance_memory and self.video.has_images else "none"
            if self.how.appearance_memory and name == "none":
                text = f"{self.video.path}: appearance is on, but not every frame has a picture: boxes alone are tracked"
                self.warnings.append(RunWarning("track", None, "appearance-unavailable", text))
        elif name != "none" and not self.video.has_images:
            raise InputError(f"{self.video.path}: embedder {name} needs every frame's picture")
        with self.timer.track("open"):
            return make_embedder(name)

    def _make_camera(self) -> Camera | None:
        asked, sequence = self.looks.camera, self.video.sequence
        file = None if sequence is None else sequence.camera_motion
        if self.how.camera_motion == "off" or asked == "off" or (asked == "auto" and file is None):
            if asked in ("given", "estimate"):
                raise SettingError(f"camera {asked}, but this tracker's camera_motion is off: set it to given")
            return None
        if asked == "estimate":
            if not self.video.has_images:
                raise InputError(f"{self.video.path}: to estimate the camera's motion, every frame must have a picture")
            return CameraMotionEstimator()
        if file is None:
            raise InputError(f"{self.video.path}: there is no gmc.txt with the camera's motion: give --camera estimate")
        return GivenCameraMotion(read_gmc(file, self.video.length))

    def _identified(self, found: Detections) -> int:
        return int(np.count_nonzero(found.data[GT_COLUMN] != NOBODY)) if GT_COLUMN in found.data else 0

    def _note_ending(self) -> None:
        live = self.video.live
        if live is None:
            return
        if live.ending is not None:
            self.warnings.append(RunWarning("frames", None, "stream-ended", f"{self.video.path}: {live.ending}"))
        if live.dropped:
            text = f"{self.video.path}: {live.dropped} pictures could not be decoded and are missing"
            self.warnings.append(RunWarning("frames", None, "pictures-dropped", text, {"count": live.dropped}))
            self.skipped["picture-dropped"] += live.dropped

    # --- what the job is ------------------------------------------------------------------------------------------

    def identity(self, refinement: RefinementSettings | None) -> dict[str, Any]:
        """Input and settings as the manifest holds them."""
        size = self.video.size
        return {
            "input": {
                "path": self.video.path,
                "kind": self.video.kind,
                "name": self.video.name,
                "frame_rate": self.video.frame_rate,
                "height": None if size is None else size[0],
                "width": None if size is None else size[1],
            },
            "detections": self.seen_by,
            "config": {
                "tracker": self.how.model_dump(mode="json"),
                "input": self.video.settings.model_dump(mode="json"),
                "perception": self.looks.model_dump(mode="json"),
                "refinement": (refinement or RefinementSettings()).model_dump(mode="json"),
                "log": self.log.model_dump(mode="json"),
            },
        }


def _is_detector_name(asked: object) -> bool:
    return isinstance(asked, str | Path) and (str(asked) in WEIGHTS_FREE or str(asked).lower().endswith(".onnx"))


def _with_truth(truth: GroundTruth, index: int, found: Detections) -> Detections:
    return replace(found, data={**found.data, GT_COLUMN: gt_track_ids(found.xyxy, truth.at(index))})


def _step(video: VideoInput) -> int:
    """Distance of neighbouring frames that are tracked."""
    positions = video.positions
    return positions.step if isinstance(positions, range) else 1


def _times(video: VideoInput) -> Sequence[float] | None:
    """Seconds by absolute index, of a source that has them for every frame."""
    images = video.images
    if images is None or video.settings.fps is not None or len(images) != video.length:
        return None
    return images.times


class _Overlay:
    """The video of the tracks, drawn as they come; off when it is not wanted or there is nothing to draw on."""

    def __init__(self, path: Path, video: VideoInput, job: _Job, *, wanted: bool) -> None:
        self.is_on = wanted and (video.has_images or video.samples is not None)
        self._job, self._size = job, video.size
        self._writer = Mp4Writer(path, _picture_rate(video))
        self._painter = TrailPainter()

    def __enter__(self) -> _Overlay:
        self._writer.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._writer.__exit__(*exc)

    def draw(self, frame: InputFrame, tracks: Tracks) -> None:
        """Appends the frame, when it has a picture."""
        if not self.is_on:
            return
        with self._job.timer.track("overlay"):
            self._painter.follow(frame.index, tracks)
            picture = self._picture(frame)
            if picture is not None:
                self._writer.write(self._painter.paint(picture, tracks))

    def _picture(self, frame: InputFrame) -> RGBFrame | None:
        try:
            picture = frame.picture()
        except FrameError as error:
            if self._job.how.on_bad_item == "error" and not frame.is_sample:
                raise
            self._job._skip("frame-unreadable", str(error))
            return None
        if picture is not None and self._size is not None and picture.shape[:2] != self._size:
            text = f"{frame.name}: a picture of {picture.shape[1]}×{picture.shape[0]} pixels is not drawn on"
            self._job._skip("picture-size", text)
            return None
        return picture


def _draw_refined(run: RunPaths, video: VideoInput, job: _Job, tracks: Tracks) -> None:
    """The overlay of tracks that were refined after the pass: the frames are read a second time."""
    if video.kind == "live":
        text = f"{video.path}: no overlay: refined tracks are known at the end, and live pictures are gone by then"
        job.warnings.append(RunWarning("overlay", None, "overlay-unavailable", text))
        return
    with _Overlay(run.overlay, video, job, wanted=True) as drawing:
        if drawing.is_on:
            for frame in video.frames():
                drawing.draw(frame, tracks.at(frame.index))


def _picture_rate(video: VideoInput) -> float:
    if video.samples is not None:
        return SAMPLES_PER_SECOND
    return float(np.clip((video.frame_rate or LIVE_RATE) / _step(video), 1, 120))


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


def _finish(
    run: RunPaths, job: _Job, census: TrackCensus, writer: TrackWriter, identity: dict[str, Any]
) -> BoxRunResult:
    """Writes what tells of the whole run; the manifest last, as it claims the folder."""
    video = job.video
    taken = video.source()
    if taken is not None:
        FrameList(taken.indices, taken.names, taken.times, taken.size).write(run.frames)
    summary = _summary(job, census, writer, identity)
    manifest = RunManifest.load(run.manifest)
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    files = {"archive": run.tracks, "mot": run.mot, "overlay": run.overlay, "frames": run.frames}
    manifest.merge(
        {
            "kind": "boxes",
            "fingerprint": fingerprint,
            **identity,
            "input": summary["input"],
            "tracks": {name: path.name for name, path in files.items() if path.is_file()},
        }
    )
    manifest.replace_warnings(job.warnings, stages=(), level=None)
    manifest.set_totals({key: summary[key] for key in ("totals", "durations", "peak_rss_mb")})
    write_json(run.summary, summary)
    manifest.write()
    return BoxRunResult(run, summary, tuple(job.warnings))


def _summary(job: _Job, census: TrackCensus, writer: TrackWriter, identity: dict[str, Any]) -> dict[str, Any]:
    if job.tracker is None:
        raise ValueError("nothing was tracked")
    told = job.tracker.summary
    job.warnings += told.warnings
    counted = census.summary()
    size = job.video.size
    seconds = job.timer.total("track")
    refined = writer.refined
    return {
        "schema_version": SUMMARY_VERSION,
        "command": "boxes",
        "input": {
            **identity["input"],
            "frames": job.frames,
            "height": None if size is None else size[0],
            "width": None if size is None else size[1],
        },
        "detections": job.seen_by,
        "tracker": job.how.model_dump(mode="json"),
        "totals": {
            "frames": job.frames,
            "detections": job.detections,
            "tracks": counted["tracks"],
            "boxes": counted["boxes"],
            "births": told.births,
            "reactivations": told.reactivations,
            "est_id_switches": told.est_id_switches if job.how.diagnostics else None,
            "interpolated": 0 if refined is None else refined.interpolated,
            "removed": 0 if refined is None else refined.removed,
        },
        "skipped": dict(job.skipped + Counter(told.skipped)),
        "suspected_switches": [_event(event) for event in told.suspected],
        "track_lengths": counted["lengths"],
        "longest_tracks": counted["longest_tracks"],
        "visibility": None if job.visibility is None else {m.name.lower(): n for m, n in job.visibility.counts.items()},
        "embedder": None if job.embedder is None else {"name": job.embedder.name, "width": job.embedder.width},
        "camera": _camera(job.camera),
        "log": None
        if job.log.dir is None
        else {
            "directory": str(job.log.dir),
            "sequence": job.log.sequence or job.video.name,
            "logged": job.logged,
            "dropped": 0,
        },
        "association_fps": round(job.frames / seconds, 1) if seconds else None,
        "durations": {stage: round(taken, 4) for stage, taken in job.timer.items()},
        "peak_rss_mb": round(_peak_rss_mb(), 1),
        "warnings": [warning.to_json() for warning in job.warnings],
    }


def _event(event: Any) -> dict[str, Any]:
    return {
        "frame": int(event.frame),
        "tracks": [int(track) for track in event.tracks],
        "cause": str(event.cause),
        "confidence": round(float(event.confidence), 4),
    }


def _camera(camera: Camera | None) -> dict[str, Any] | None:
    if camera is None:
        return None
    if isinstance(camera, GivenCameraMotion):
        return {"kind": "given", "missing": camera.missing}
    return {"kind": "estimate", "failures": {str(reason): count for reason, count in camera.failures.items()}}


def _peak_rss_mb() -> float:
    """Largest resident set of this process so far, in MB (10⁶ bytes)."""
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
