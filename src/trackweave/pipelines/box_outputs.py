"""What a box run leaves: tracks as MOT text and as an archive, an overlay video, training samples, and its numbers."""

from __future__ import annotations

import hashlib
import heapq
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from trackweave.association.data_collection import SampleLogger
from trackweave.association.scorer import LearnedScorer
from trackweave.association.settings import LogSettings
from trackweave.association.tracklets import TrackletMargins
from trackweave.corrections.forecast import SwitchForecast, SwitchForecaster
from trackweave.errors import FrameError, SettingError, wording
from trackweave.formats.mot import MotWriter
from trackweave.frames.source import RGBFrame
from trackweave.identity.stitch import Link, TrackAppearance, VideoContext, camera_path, stitch, stitched_ids
from trackweave.mot.postprocess import RefinedTracks, refine
from trackweave.mot.settings import RefinementSettings
from trackweave.mot.tracker import SCALE_CODE, TrackerSummary
from trackweave.pipelines.box_tracking import FeatureRecord
from trackweave.pipelines.detection_source import DetectedFrame
from trackweave.pipelines.run import Run
from trackweave.pipelines.video_input import InputFrame, VideoInput
from trackweave.progress import TimingAggregator, peak_rss_mb
from trackweave.storage.files import recorded_path
from trackweave.storage.run import FrameList, RunFolder, RunPaths
from trackweave.storage.track_archive import TrackRows, TracksArchiveWriter
from trackweave.structures.detections import Detections
from trackweave.structures.run_log import RunLog
from trackweave.structures.run_summary import BoxSummary, InputSummary, TrackSummary
from trackweave.structures.tracks import Tracks
from trackweave.visualization.annotators import OverlayPainter
from trackweave.visualization.settings import OverlaySettings
from trackweave.visualization.video import Mp4Writer

LENGTH_EDGES = (1, 2, 5, 10, 30, 100, 300, 1000)
"""A track of n observations is counted in the last bin whose edge is at most n."""
ROWS_PER_PART = 16_384
MASK_BYTES_PER_PART = 32 * 2**20
PREVIEW_RATE = 2.0
"""Frames per second of the overlay of a sequence that has only some of its images."""
DEFAULT_RATE = 25.0
"""Frames per second of the overlay where the frame rate is not known."""


# --- track statistics -------------------------------------------------------------------------------------------------


@dataclass
class _OpenTrack:
    """One track so far; spans are runs of frames with both ends, frames closer than a gap joined."""

    track_id: int
    class_id: int = -1
    spans: list[list[int]] = field(default_factory=list)
    observations: int = 0
    score_sum: float = 0.0

    def summary(self) -> TrackSummary:
        """The track in numbers."""
        return TrackSummary(
            self.track_id,
            [(first, last) for first, last in self.spans],
            self.observations,
            self.class_id,
            mean_score=round(self.score_sum / self.observations, 4),
        )


class TrackCounts(NamedTuple):
    """The tracks of a run in numbers.

    Attributes:
        tracks: how many.
        boxes: observations of all.
        lengths: histogram: tracks by the number of their boxes, `from` this number on.
        longest: the longest tracks one by one, the longest first.
        switches: how many identity switches they likely have; None: not measured.
    """

    tracks: int
    boxes: int
    lengths: Mapping[str, Sequence[int]]
    longest: Sequence[TrackSummary]
    switches: SwitchForecast | None


class TrackStatistics:
    """Counts tracks from their observations, which come in parts in the order of frames; memory is bounded.

    Args:
        step: distance of neighbouring frames of the run.
        forecaster: says how many identity switches there are; None: nothing does.
        keep: a track without an observation for so many frames is over.
        longest: how many tracks are described one by one.

    Attributes:
        observations: boxes so far.
    """

    def __init__(
        self, *, step: int = 1, forecaster: SwitchForecaster | None = None, keep: int = 10_000, longest: int = 200
    ) -> None:
        self._step, self._keep, self._longest_count = step, keep, longest
        self.observations = 0
        self._forecaster = forecaster
        self._open: dict[int, _OpenTrack] = {}
        self._closed = 0
        self._lengths: NDArray[np.int64] = np.zeros(len(LENGTH_EDGES), np.int64)
        self._longest: list[tuple[int, int, _OpenTrack]] = []

    def add(self, tracks: Tracks) -> None:
        """Takes the next part."""
        if not len(tracks):
            return
        self.observations += len(tracks)
        if self._forecaster is not None:
            self._forecaster.add(tracks)
        order = np.lexsort((tracks.frame, tracks.track_id))
        ids, frames = tracks.track_id[order], tracks.frame[order]
        is_new = np.r_[True, ids[1:] != ids[:-1]]
        breaks = np.flatnonzero(is_new | np.r_[True, np.diff(frames) > self._step])
        for start, stop in pairwise([*breaks.tolist(), len(ids)]):
            track = self._open.setdefault(int(ids[start]), _OpenTrack(int(ids[start])))
            track.observations += stop - start
            track.score_sum += float(tracks.score[order[start:stop]].sum(dtype=np.float64))
            track.class_id = int(tracks.class_id[order[stop - 1]])
            first, last = int(frames[start]), int(frames[stop - 1])
            if track.spans and first - track.spans[-1][1] <= self._step:
                track.spans[-1][1] = last
            else:
                track.spans.append([first, last])
        self._close_before(int(tracks.frame[-1]) - self._keep)

    def _close_before(self, frame: int) -> None:
        for track in [track for track in self._open.values() if track.spans[-1][1] < frame]:
            del self._open[track.track_id]
            self._closed += 1
            self._count(track, self._lengths, self._longest)

    def _count(self, track: _OpenTrack, lengths: NDArray[np.int64], longest: list[tuple[int, int, _OpenTrack]]) -> None:
        lengths[np.searchsorted(LENGTH_EDGES, track.observations, side="right") - 1] += 1
        push = heapq.heappush if len(longest) < self._longest_count else heapq.heappushpop
        push(longest, (track.observations, -track.track_id, track))

    def counts(self) -> TrackCounts:
        """The numbers so far."""
        lengths, longest = self._lengths.copy(), list(self._longest)
        for track in self._open.values():
            self._count(track, lengths, longest)
        return TrackCounts(
            self._closed + len(self._open),
            self.observations,
            {"from": list(LENGTH_EDGES), "tracks": lengths.tolist()},
            [track.summary() for *_, track in sorted(longest, key=lambda item: (-item[0], -item[1]))],
            None if self._forecaster is None else self._forecaster.result(),
        )


# --- stitching --------------------------------------------------------------------------------------------------------


class Stitcher:
    """Collects what stitching needs to know of each frame, and links the tracks at the end.

    Args:
        settings: from which probability tracks are linked.
        video: the frames.
        scorer: what says more of pairs than their boxes do; None: nothing does.

    Attributes:
        links: what was linked, after `finish`.
    """

    stage = "stitch"

    def __init__(self, settings: RefinementSettings, video: VideoInput, scorer: LearnedScorer | None) -> None:
        self._settings, self._size = settings, video.size
        self._rate = video.frame_rate or DEFAULT_RATE
        self._scorer = scorer
        self._camera: dict[int, NDArray[np.float64]] = {}
        self._cuts: list[int] = []
        self._appearance: dict[int, TrackAppearance] = {}
        self.links: list[Link] = []

    def write(self, frame: DetectedFrame, tracked: Detections) -> None:
        """Takes the tracker's answer for a frame; frames come in order."""
        if frame.context.camera is not None:
            self._camera[frame.index] = frame.context.camera
        if frame.context.cut:
            self._cuts.append(frame.index)
        if tracked.embedding is not None and tracked.track_id is not None:
            for track, embedding in zip(tracked.track_id.tolist(), tracked.embedding, strict=True):
                if embedding.any():
                    self._appearance.setdefault(track, TrackAppearance()).add(embedding)

    def finish(self, rows: TrackRows) -> TrackRows:
        """The rows under the ids of the chains that their tracks belong to."""
        tracks = rows.tracks
        if not len(tracks):
            return rows
        last = int(tracks.frame.max())
        scene = VideoContext(
            self._rate,
            self._size,
            camera_path(self._camera.get(frame) for frame in range(last + 1)) if self._camera else None,
            self._cuts,
            {track: appearance.halves() for track, appearance in self._appearance.items()},
        )
        margins = None
        if self._scorer is not None and self._size is not None:
            margins = TrackletMargins(self._scorer, self._rate, self._size)
        self.links = stitch(tracks, scene, margins, min_probability=self._settings.stitch_probability)
        identity = stitched_ids(tracks.track_id, self.links)
        order = np.lexsort((identity, tracks.frame))
        return TrackRows(replace(tracks, track_id=identity), rows.detection[order], rows.time[order])


# --- tracks -----------------------------------------------------------------------------------------------------------


class TrackWriter:
    """Both files appear when the `with` block ends well. Memory holds one part of some thousand observations.

    With a refinement everything is held instead and written at `finish`: gaps are filled and short tracks removed
    only when the whole video is tracked.

    Args:
        run: where to.
        statistics: counts what is written.
        refinement: how to refine; None writes as it comes.
        metadata: for the archive's manifest.
        class_names: names of the classes by number.

    Attributes:
        refined: what the refinement did, after `finish`; None without one.
    """

    stage = "write"

    def __init__(
        self,
        run: RunPaths,
        statistics: TrackStatistics,
        refinement: RefinementSettings | None = None,
        metadata: Mapping[str, object] | None = None,
        class_names: Mapping[int, str] | None = None,
    ) -> None:
        self._statistics, self._refinement = statistics, refinement
        self._mot = MotWriter(run.mot)
        self._archive = TracksArchiveWriter(run.tracks, metadata, class_names)
        self._stack = ExitStack()
        self._open: list[TrackRows] = []
        self._rows, self._bytes = 0, 0
        self.refined: RefinedTracks | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._archive)
            stack.enter_context(self._mot)
            self._stack = stack.pop_all()
        return self

    def write(self, frame: DetectedFrame, tracked: Detections) -> None:
        """Takes the tracker's answer for a frame; frames come in order."""
        rows = as_rows(frame.index, frame.time, tracked)
        if not len(rows):
            return
        masks = rows.tracks.masks
        if masks is not None and self._refinement is None and self._is_other_size(masks.size):
            self._flush()
        self._open.append(rows)
        self._rows += len(rows)
        self._bytes += 0 if masks is None else masks.bits.nbytes
        if self._refinement is None and (self._rows >= ROWS_PER_PART or self._bytes >= MASK_BYTES_PER_PART):
            self._flush()

    def finish(self, times: Sequence[float] | None = None, stitcher: Stitcher | None = None) -> None:
        """Writes what is still held, refined if asked for.

        Args:
            stitcher: links tracks before they are refined.
            times: seconds by absolute frame index, for a refinement of a video with uneven frames.

        Raises:
            InputError: times that do not rise.
        """
        if self._refinement is None:
            self._flush()
            return
        whole = TrackRows.concat(self._open)
        self._open = []
        if stitcher is not None:
            whole = stitcher.finish(whole)
        self.refined = refine(whole.tracks, self._refinement, times=times)
        # One part per some thousand rows, cut between frames.
        refined = _with_origin(self.refined.tracks, whole)
        frames = refined.tracks.frame
        start = 0
        while start < len(refined):
            last = frames[min(start + ROWS_PER_PART, len(refined)) - 1]
            stop = int(np.searchsorted(frames, last, side="right"))
            self._write_part(
                TrackRows(refined.tracks[start:stop], refined.detection[start:stop], refined.time[start:stop])
            )
            start = stop

    def _is_other_size(self, size: tuple[int, int]) -> bool:
        return any(part.tracks.masks is not None and part.tracks.masks.size != size for part in self._open)

    def _flush(self) -> None:
        self._write_part(TrackRows.concat(self._open))
        self._open, self._rows, self._bytes = [], 0, 0

    def _write_part(self, rows: TrackRows) -> None:
        self._mot.write(rows.tracks)
        self._archive.write(rows)
        self._statistics.add(rows.tracks)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def as_rows(index: int, time: float | None, tracked: Detections) -> TrackRows:
    """A tracker's answer as observations, ordered by track id.

    Raises:
        ValueError: detections without identities.
    """
    if tracked.track_id is None:
        raise ValueError("these detections were not tracked")
    n = len(tracked)
    order = np.argsort(tracked.track_id, kind="stable")
    detection = np.full(n, -1, np.int64) if tracked.index is None else tracked.index
    tracks = Tracks(
        np.full(n, index, np.int64),
        tracked.track_id[order],
        tracked.xyxy[order],
        tracked.score[order],
        tracked.class_id[order],
        None if tracked.masks is None else tracked.masks[order],
    )
    return TrackRows(tracks, detection[order], np.full(n, math.nan if time is None else time))


def _with_origin(tracks: Tracks, before: TrackRows) -> TrackRows:
    """Refined tracks with the detection and time of each; interpolated ones have no detection and a time between."""
    detection = np.full(len(tracks), -1, np.int64)
    time: NDArray[np.float64] = np.full(len(tracks), math.nan)
    if len(tracks):
        has_time = np.isfinite(before.time)
        if has_time.any():
            time = np.interp(tracks.frame, before.tracks.frame[has_time], before.time[has_time])
        base = max(int(tracks.track_id.max()), int(before.tracks.track_id.max())) + 1
        keys = before.tracks.frame * base + before.tracks.track_id  # ascending, as rows are ordered by both
        refined_keys = tracks.frame * base + tracks.track_id
        at = np.minimum(np.searchsorted(keys, refined_keys), len(keys) - 1)
        observed = keys[at] == refined_keys
        detection[observed] = before.detection[at[observed]]
    return TrackRows(tracks, detection, time)


# --- overlay ----------------------------------------------------------------------------------------------------------


class BoxOverlay:
    """The tracks over the frames, as a video. It appears when the `with` block ends well and a frame was drawn.

    Args:
        path: the video.
        video: what is drawn on.
        log: where images that cannot be drawn on are counted.
        settings: how to draw; None draws nothing.
        class_names: names of the classes by number.

    Attributes:
        is_on: it is enabled, and there are images.
    """

    stage = "overlay"

    def __init__(
        self,
        path: Path,
        video: VideoInput,
        log: RunLog,
        settings: OverlaySettings | None,
        class_names: Mapping[int, str] | None = None,
    ) -> None:
        self.is_on = settings is not None and (video.has_images or video.preview_images is not None)
        self._video, self._log = video, log
        rate = (video.frame_rate or DEFAULT_RATE) / video.step
        rate = PREVIEW_RATE if video.preview_images is not None else rate
        self._writer = Mp4Writer(path, float(np.clip(rate, 1, 120)))
        self._painter = OverlayPainter(settings, class_names=class_names)

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def write(self, frame: DetectedFrame, tracked: Detections) -> None:
        """Appends the next frame with the tracker's answer, when it has an image."""
        self.draw(frame.source, as_rows(frame.index, frame.time, tracked).tracks)

    def draw(self, frame: InputFrame, tracks: Tracks) -> None:
        """Appends the next frame, when it has an image."""
        self._painter.follow(frame.index, tracks)
        image = self._image(frame)
        if image is not None:
            self._writer.write(self._painter.paint(image, tracks))

    def _image(self, frame: InputFrame) -> RGBFrame | None:
        try:
            image = frame.display_image()
        except FrameError as error:
            if self._log.on_bad_item == "error" and not frame.is_preview:
                raise
            self._log.skip("picture-unreadable", str(error), harmless=True)
            return None
        size = self._video.size
        if image is not None and size is not None and image.shape[:2] != size:
            text = f"{frame.name}: {image.shape[1]}×{image.shape[0]} pixels, the video has {size[1]}×{size[0]}"
            self._log.skip("picture-size", text, harmless=True)
            return None
        return image


# --- training samples -------------------------------------------------------------------------------------------------


@contextmanager
def open_logger(settings: LogSettings, video: VideoInput, label_source: str) -> Iterator[SampleLogger | None]:
    """The logger that the settings ask for; inside its `with` block None when they ask for none."""
    if settings.dir is None:
        yield None
        return
    with SampleLogger(
        settings.dir,
        sequence=settings.sequence or video.name,
        fps=video.frame_rate,
        size=video.size,
        embed_dim=settings.embed_dim,
        label_source=label_source,
    ) as logger:
        try:
            yield logger
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(f"the samples logged so far are kept in {settings.dir}")
            raise


def check_log(settings: LogSettings, video: VideoInput) -> None:
    """Refuses to log samples of frames of unknown size.

    Raises:
        SettingError: the size is not known.
    """
    if settings.dir is not None and video.size is None and video.kind != "live":
        raise SettingError(
            f"{video.path}: samples need the frames' size, which is not known: give "
            f"{wording('size=(W, H)', '--size WxH')}"
        )


def close_logger(logger: SampleLogger | None, log: RunLog) -> int:
    """Waits until all samples are written; their number."""
    if logger is None:
        return 0
    logger.close()
    log.merge(logger.warnings)
    return logger.written


# --- the run ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BoxRunRecord:
    """What is known of a box run when its tracks are written.

    Attributes:
        video: the frames.
        detections: for the manifest: where they came from.
        detection_count: detections on the frames that were tracked.
        passed_over: frames that were not visited, as nothing was detected and tracked there.
        config: settings by section, as JSON values.
        tracker: what the tracker did.
        features: which were computed.
        tracks: the tracks in numbers.
        refined: what the refinement did; None without one.
        stitched: links between tracks that became one; None: not looked for.
        samples: how many were logged.
        pieces: samplings of the frames of the runs that were joined; empty where it was tracked.
    """

    video: VideoInput
    detections: Mapping[str, object]
    detection_count: int
    passed_over: int
    config: Mapping[str, Any]
    tracker: TrackerSummary
    features: FeatureRecord
    tracks: TrackCounts
    refined: RefinedTracks | None
    stitched: int | None
    samples: int
    pieces: Sequence[str] = ()

    def finish(self, folder: RunFolder, log: RunLog, timer: TimingAggregator) -> Run[BoxSummary]:
        """Writes what describes the whole run; the manifest last, as it claims the folder."""
        source = self.video.source()
        if source is not None:
            times = self.video.times_of(source.indices)
            FrameList(source.indices, source.names, times, source.size).write(folder.paths.frames)
        for warning in self.tracker.warnings:
            if warning.code == SCALE_CODE:  # the tracker has logged it when it happened
                log.warnings.append(warning)
            else:
                log.warn(warning.stage, warning.code, warning.message, **warning.details)
        if self.refined is not None and self.refined.removed and not self.tracks.tracks:
            text = f"the refinement removed all {self.refined.removed} tracks: see refinement.min_track_length and "
            log.warn("refine", "nearly-no-tracks", f"{text}min_mean_score")
        summary = self.summary(log, timer)
        record = summary.to_json()
        identity = {"input": record["input"], "detections": record["detections"], "config": self.config}
        paths = folder.paths
        files = {"archive": paths.tracks, "mot": paths.mot, "overlay": paths.overlay, "frames": paths.frames}
        values = {
            "kind": "boxes",
            "fingerprint": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32],
            **identity,
            "tracks": {name: path.name for name, path in files.items() if path.is_file()},
            **({"pieces": list(self.pieces)} if self.pieces else {}),
        }
        folder.finish(summary, values, warnings=log.warnings)
        return Run(folder.root)

    def summary(self, log: RunLog, timer: TimingAggregator) -> BoxSummary:
        """The run in numbers."""
        video, tracker, refined = self.video, self.tracker, self.refined
        seconds, frames = timer.total("track"), tracker.frames + self.passed_over
        path = video.path if video.kind == "live" else recorded_path(video.path)
        return BoxSummary(
            command="boxes",
            input=InputSummary(
                path,
                frames,
                video.size,
                kind=video.kind,
                name=video.name,
                frame_rate=video.frame_rate,
                cuts=self.features.cuts,
            ),
            totals={
                "frames": frames,
                "detections": self.detection_count,
                "tracks": self.tracks.tracks,
                "boxes": self.tracks.boxes,
                "births": tracker.tracks,
                "reactivations": tracker.reactivations,
                "est_id_switches": tracker.est_id_switches if self.config["tracker"]["diagnostics"] else None,
                "stitched": self.stitched or 0,
                "interpolated": 0 if refined is None else refined.interpolated,
                "removed": 0 if refined is None else refined.removed,
            },
            durations={stage: round(duration, 4) for stage, duration in timer.items()},
            peak_rss_mb=peak_rss_mb(),
            warnings=tuple(log.warnings),
            detections=self.detections,
            tracker=self.config["tracker"],
            skipped=dict(log.skipped + Counter(tracker.skipped)),
            suspected_switches=[event.to_json() for event in tracker.suspected],
            track_lengths=self.tracks.lengths,
            longest_tracks=self.tracks.longest,
            expected_switches=None if self.tracks.switches is None else self.tracks.switches.to_json(),
            visibility=self.features.visibility,
            embedder=self.features.embedder,
            camera=self.features.camera,
            log=self._log_record(),
            association_fps=round(tracker.frames / seconds, 1) if seconds and not self.pieces else None,
        )

    def _log_record(self) -> Mapping[str, object] | None:
        settings = LogSettings.model_validate(self.config["log"])
        if settings.dir is None:
            return None
        sequence = settings.sequence or self.video.name
        # The logger lets the tracker wait rather than drop a sample.
        return {"directory": str(settings.dir), "sequence": sequence, "logged": self.samples, "dropped": 0}
