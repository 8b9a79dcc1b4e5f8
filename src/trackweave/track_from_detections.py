"""The composition root of box tracking: opens the inputs, introduces the rooms to each other, leaves a run folder.

`track_boxes` follows what a detector or a file of detections says; `build_samples` logs sequences whose truth is known.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from trackweave.association.data_collection import DEFAULT_EMBED_DIM, GT_COLUMN, SampleLogger
from trackweave.association.ground_truth import NOBODY, gt_track_ids
from trackweave.association.log_settings import LogSettings
from trackweave.detectors.embedding import Embedder
from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.errors import FrameError, RunFolderError, SettingError
from trackweave.formats.motchallenge import GroundTruth, read_ground_truth
from trackweave.frames.source import FrameSource, RGBFrame
from trackweave.mot.box_overlay import BoxOverlay
from trackweave.mot.camera_motion import GivenCameraMotion
from trackweave.mot.census import TrackCensus
from trackweave.mot.perception import (
    Camera,
    Perception,
    PerceptionSettings,
    open_camera,
    open_embedder,
    open_visibility,
)
from trackweave.mot.refinement import RefinementSettings
from trackweave.mot.remarks import Remarks
from trackweave.mot.settings import TrackerSettings, preset
from trackweave.mot.sight import Given, Sight, open_sight
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
ASSUMED_RATE = 30.0
"""Frames per second where nobody knows; the run says so."""
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
    looks = perception or PerceptionSettings()
    refinement = None if refinement == RefinementSettings() else refinement
    video = video or InputSettings()
    remarks = Remarks(video.on_bad_item, [*warnings])
    run, timer = RunPaths(Path(output)), TimingAggregator()
    with ExitStack() as stack:
        with timer.track("open"):
            opened = stack.enter_context(open_input(source, video))
            sight = stack.enter_context(_opened_sight(detections, opened, looks, remarks))
        job = _Job(opened, sight, how, looks, log or LogSettings(), remarks, timer, stop=stop)
        _claim(run)
        census = TrackCensus(step=opened.step)
        writer = TrackWriter(run, census, refinement, {"source": opened.path})
        display = job.display(progress, "tracking", stack)
        overlay_now = BoxOverlay(run.overlay, opened, remarks, timer.track, wanted=overlay and refinement is None)
        with writer, overlay_now, closing(job.tracked(draws=overlay_now.is_on)) as stream:
            for frame, tracked in stream:
                with timer.track("write"):
                    tracks = writer.write(frame.index, frame.time, tracked)
                overlay_now.draw(frame, tracks)
                if display is not None:
                    display.update(job.frames, frame.index)
            with timer.track("write"):
                writer.finish(opened.times)
        if overlay and writer.refined is not None:
            _draw_refined(run, job, writer.refined.tracks)
        return _finish(run, job, census, writer, refinement)


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
    embed_dim: int = DEFAULT_EMBED_DIM,
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
    looks, video = perception or PerceptionSettings(), video or InputSettings()
    known = {path: read_ground_truth(truth if truth is not None else path) for path in map(Path, sequences)}
    built = []
    for path, boxes in known.items():
        remarks, timer = Remarks(video.on_bad_item), TimingAggregator()
        with ExitStack() as stack:
            opened = stack.enter_context(open_input(path, video))
            sight = stack.enter_context(_opened_sight(detections, opened, looks, remarks))
            folder = Path(directory) / opened.name if separate else Path(directory)
            log = LogSettings(dir=folder, embed_dim=embed_dim, sequence=opened.name)
            job = _Job(opened, sight, how, looks, log, remarks, timer, truth=boxes)
            display = job.display(progress, opened.name, stack)
            for frame, _ in stack.enter_context(closing(job.tracked(draws=False))):
                if display is not None:
                    display.update(job.frames, frame.index)
            built.append(
                BuiltSamples(
                    opened.name, folder, job.frames, job.logged, job.detections, job.identified, tuple(remarks.warnings)
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


@dataclass
class _Job:
    """One pass over a video: what sees, what links, what looks on; and what was counted on the way."""

    video: VideoInput
    sight: Sight
    how: TrackerSettings
    looks: PerceptionSettings
    log: LogSettings
    remarks: Remarks
    timer: TimingAggregator
    truth: GroundTruth | None = None
    stop: threading.Event | None = None
    frames: int = 0
    detections: int = 0
    identified: int = 0
    logged: int = 0
    tracker: ByteTracker | None = None
    visibility: VisibilityEstimator | None = None
    embedder: Embedder | None = None
    camera: Camera | None = None

    def tracked(self, *, draws: bool) -> Generator[tuple[InputFrame, Detections]]:
        """Frames with the tracker's answers.

        Args:
            draws: whether the caller draws on the pictures: then those that cannot be read are found here.

        Raises:
            InputError: a frame or a detection that cannot be used.
            ArtifactError: a sample that cannot be written.
        """
        with ExitStack() as stack:
            with self.timer.track("open"):
                eyes = self._perception()
                logger = self._logger(stack)
                rate = self.video.frame_rate or ASSUMED_RATE
                self.tracker = ByteTracker(self.how, frame_rate=rate, size=self.video.size, observer=logger)
            wanted = self.video.has_images and (draws or eyes.needs_images or self.sight.looks)
            for frame in self._frames():
                image, readable = self._picture(frame) if wanted else (None, True)
                if not readable and self.sight.looks:
                    continue
                context, found = eyes.look(frame, image)
                with self.timer.track("track"):
                    tracked = self.tracker.update(context, found)
                if tracked.track_id is None:  # the tracker left the frame out: it is not later than the one before
                    continue
                self.frames += 1
                self.detections += len(found)
                if GT_COLUMN in found.data:
                    self.identified += int(np.count_nonzero(found.data[GT_COLUMN] != NOBODY))
                yield frame, tracked
        if logger is not None:
            self.logged = logger.written
            self.remarks.warnings += logger.warnings
        self._note_ending()

    def display(self, progress: Progress | None, label: str, stack: ExitStack) -> ProgressPrinter | None:
        """A progress display over the frames, when somebody wants one and their number is known."""
        if progress is None or self.video.positions is None:
            return None
        display = progress(label, len(self.video.positions))
        stack.callback(display.close)
        return display

    def _perception(self) -> Perception:
        self.embedder = open_embedder(self.looks.embedder, self.video, self.how, self.remarks)
        self.camera = open_camera(self.looks.camera, self.video, self.how)
        self.visibility = open_visibility(
            self.looks, self.how, needed=self.log.dir is not None or self.embedder is not None
        )
        return Perception(
            self.sight.detect,
            visibility=self.visibility,
            embedder=self.embedder,
            camera=self.camera,
            confidence=self.how.confidence_threshold,
            annotate=None if self.truth is None else partial(_with_truth, self.truth),
            stage=self.timer.track,
            size=self.video.size,
        )

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
                if self.stop is None or not self.stop.is_set():
                    self.remarks.warn("frames", "stream-broke-off", str(error))
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
            if self.remarks.on_bad_item == "error":
                raise
            self.remarks.skip("frame-unreadable", str(error))
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

    def _note_ending(self) -> None:
        live = self.video.live
        if live is not None and live.ending is not None:
            self.remarks.warn("frames", "stream-ended", f"{self.video.path}: {live.ending}")
        if live is not None and live.dropped:
            text = f"{self.video.path}: {live.dropped} pictures could not be decoded and are missing"
            self.remarks.skip("picture-dropped", text, live.dropped)

    def config(self, refinement: RefinementSettings | None) -> dict[str, Any]:
        """All settings as the manifest holds them."""
        parts = {
            "tracker": self.how,
            "input": self.video.settings,
            "perception": self.looks,
            "refinement": refinement or RefinementSettings(),
            "log": self.log,
        }
        return {name: part.model_dump(mode="json") for name, part in parts.items()}


def _with_truth(truth: GroundTruth, index: int, found: Detections) -> Detections:
    return replace(found, data={**found.data, GT_COLUMN: gt_track_ids(found.xyxy, truth.at(index))})


def _draw_refined(run: RunPaths, job: _Job, tracks: Tracks) -> None:
    """The overlay of tracks that were refined after the pass: the frames are read a second time."""
    video = job.video
    if video.kind == "live":
        text = f"{video.path}: no overlay: refined tracks are known at the end, and live pictures are gone by then"
        job.remarks.warn("overlay", "overlay-unavailable", text)
        return
    with BoxOverlay(run.overlay, video, job.remarks, job.timer.track) as drawing:
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


def _finish(
    run: RunPaths, job: _Job, census: TrackCensus, writer: TrackWriter, refinement: RefinementSettings | None
) -> BoxRunResult:
    """Writes what tells of the whole run; the manifest last, as it claims the folder."""
    taken = job.video.source()
    if taken is not None:
        FrameList(taken.indices, taken.names, job.video.times_of(taken.indices), taken.size).write(run.frames)
    summary = _summary(job, census, writer)
    made = {"input": summary["input"], "detections": summary["detections"], "config": job.config(refinement)}
    files = {"archive": run.tracks, "mot": run.mot, "overlay": run.overlay, "frames": run.frames}
    manifest = RunManifest.load(run.manifest)
    manifest.merge(
        {
            "kind": "boxes",
            "fingerprint": hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:32],
            **made,
            "tracks": {name: path.name for name, path in files.items() if path.is_file()},
        }
    )
    manifest.replace_warnings(job.remarks.warnings, stages=(), level=None)
    manifest.set_totals({key: summary[key] for key in ("totals", "durations", "peak_rss_mb")})
    write_json(run.summary, summary)
    manifest.write()
    return BoxRunResult(run, summary, tuple(job.remarks.warnings))


def _summary(job: _Job, census: TrackCensus, writer: TrackWriter) -> dict[str, Any]:
    if job.tracker is None:
        raise ValueError("nothing was tracked")
    told, counted, refined = job.tracker.summary, census.summary(), writer.refined
    job.remarks.warnings += told.warnings
    seconds = job.timer.total("track")
    return {
        "schema_version": SUMMARY_VERSION,
        "command": "boxes",
        "input": _input_record(job),
        "detections": dict(job.sight.record),
        "tracker": job.how.model_dump(mode="json"),
        "totals": {
            "frames": job.frames,
            "detections": job.detections,
            "tracks": counted["tracks"],
            "boxes": counted["boxes"],
            "births": told.tracks,
            "reactivations": told.reactivations,
            "est_id_switches": told.est_id_switches if job.how.diagnostics else None,
            "interpolated": 0 if refined is None else refined.interpolated,
            "removed": 0 if refined is None else refined.removed,
        },
        "skipped": dict(job.remarks.skipped + Counter(told.skipped)),
        "suspected_switches": [event.to_json() for event in told.suspected],
        "track_lengths": counted["lengths"],
        "longest_tracks": counted["longest_tracks"],
        "visibility": None if job.visibility is None else {m.name.lower(): n for m, n in job.visibility.counts.items()},
        "embedder": None if job.embedder is None else {"name": job.embedder.name, "width": job.embedder.width},
        "camera": _camera_record(job.camera),
        "log": _log_record(job),
        "association_fps": round(job.frames / seconds, 1) if seconds else None,
        "durations": {stage: round(taken, 4) for stage, taken in job.timer.items()},
        "peak_rss_mb": round(_peak_rss_mb(), 1),
        "warnings": [warning.to_json() for warning in job.remarks.warnings],
    }


def _input_record(job: _Job) -> dict[str, Any]:
    video = job.video
    height, width = video.size or (None, None)
    return {
        "path": video.path,
        "kind": video.kind,
        "name": video.name,
        "frames": job.frames,
        "frame_rate": video.frame_rate,
        "height": height,
        "width": width,
    }


def _log_record(job: _Job) -> dict[str, Any] | None:
    if job.log.dir is None:
        return None
    sequence = job.log.sequence or job.video.name
    # The logger lets the tracker wait rather than drop a sample.
    return {"directory": str(job.log.dir), "sequence": sequence, "logged": job.logged, "dropped": 0}


def _camera_record(camera: Camera | None) -> dict[str, Any] | None:
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
