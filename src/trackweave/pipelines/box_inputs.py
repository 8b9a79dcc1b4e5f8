"""What box tracking runs over: the frames of a video (`VideoInput`) and the detections of each (`DetectionSource`).

A video is a MOTChallenge sequence folder, a folder of images, a video file, a live source, or no images at all: then
only the number of frames, their rate and their size are known. Detections come from a file, a table or a detector;
`detect` runs one over a video without tracking.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.base import Detector
from trackweave.detectors.registry import WEIGHTS_FREE, make_detector
from trackweave.errors import FrameError, InputError, SettingError, argument, listed, wording
from trackweave.formats.frame_ids import FrameHints, frames_by_name
from trackweave.formats.motchallenge import INFO, MotSequence, is_sequence, read_sequence
from trackweave.formats.readers import read_detections
from trackweave.formats.tables import DetectionTable
from trackweave.frames.images import ImageFolder
from trackweave.frames.live import LiveFrames, is_live, open_live, without_password
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource, RGBFrame, report_source, sampled_positions
from trackweave.masks.codecs import encode_rle
from trackweave.mot.settings import TrackerSettings
from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import (
    LARGEST_RATE,
    RATE_CODE,
    SCALE_CODE,
    SCALE_REMEDY,
    absurd_rate,
    known_scale,
    score_unit,
)
from trackweave.pipelines.settings import InputSettings
from trackweave.predictors.registry import open_text_detector
from trackweave.predictors.sam.settings import TextSettings
from trackweave.progress import Progress, TimingAggregator, open_progress
from trackweave.storage.files import recorded_path
from trackweave.structures.detections import Detections, class_ids
from trackweave.structures.run_log import RunLog, RunWarning
from trackweave.structures.score_scale import AS_GIVEN, ScoreScale, scale_of

SourceKind = Literal["sequence", "frames", "live", "detections"]
DetectionsArgument = str | Path | DetectionTable | Detector
"""Where detections come from: a file or a detector by its name or path, a table, or a detector."""

Following = Callable[[int], int]
"""Given a frame, the first one at or after it that has to be visited; `NO_MORE` when there is none."""
NO_MORE = 2**62


def _first_from(frames: Sequence[int], frame: int) -> int:
    """The first of some ascending frames that is not before `frame`."""
    place = bisect_left(frames, frame)
    return int(frames[place]) if place < len(frames) else NO_MORE


def only_frames(frames: NDArray[np.int64]) -> Following:
    """Visits these frames alone, `(N,)` ascending."""
    return lambda frame: _first_from(frames, frame)  # type: ignore[arg-type]


TICKS_RATE = 1000.0
"""From so many frames a second on, frame numbers that never follow each other are times."""
FAR_FRAMES = 1_000_000
"""A gap of so many frames, nine hours at 30 a second, is reported."""
FEWEST_STEPS = 5
"""Steps between frames with detections that are enough to call them regular."""

DEFAULT_DETECTOR = "motion"
"""What detects when neither a file nor a detector is named: whatever moves before a still camera; needs no weights."""


@dataclass
class InputFrame:
    """One frame of a video, its image read when asked for.

    Attributes:
        index: absolute, 0-based.
        time: seconds, or None.
        name: file name or label.
        is_preview: only some frames of the video have an image; those are drawn on, and not used for tracking.
        number: how many of the chosen frames come up to this one, for the progress; 0 = not known.
    """

    index: int
    time: float | None
    name: str
    is_preview: bool = False
    number: int = 0
    _load: Callable[[], RGBFrame] | None = field(default=None, repr=False)
    _image: RGBFrame | None = field(default=None, repr=False)

    def image(self) -> RGBFrame | None:
        """`(H, W, 3)` uint8 RGB to track on, read once; None where not every frame has an image.

        Raises:
            FrameError: it cannot be read.
        """
        return None if self.is_preview else self.display_image()

    def display_image(self) -> RGBFrame | None:
        """`(H, W, 3)` uint8 RGB to draw on, read once; None where there is none.

        Raises:
            FrameError: it cannot be read.
        """
        if self._image is None and self._load is not None:
            self._image = self._load()
        return self._image


@dataclass
class VideoInput:
    """A source that is open; use it in a `with` block, or `close` it.

    Attributes:
        name: of the sequence, file, folder or stream.
        path: what messages and manifests call it.
        kind: `sequence`, `frames`, `live`, or `detections` when there are no images.
        frame_rate: frames per second, or None.
        size: `(H, W)`, or None.
        length: frames of the whole video; None for live sources, and until `set_length` where only detections tell.
        settings: what the source does not say.
        images: every frame's image, or None.
        preview_images: the images of some frames, when not all have one.
        preview_positions: frame → position in `preview_images`.
        sequence: the MOTChallenge folder, or None.
        warnings: what was done differently.
        live: the stream, or None.
        passed_over: chosen frames that the last iteration over `frames` did not visit.
        timed_frames: `(N,)` all frames there are, ascending, where frame numbers are times; None: they count frames.
    """

    name: str
    path: str
    kind: SourceKind
    frame_rate: float | None
    size: tuple[int, int] | None
    length: int | None
    settings: InputSettings
    images: FrameSource | None = None
    preview_images: FrameSource | None = None
    preview_positions: Mapping[int, int] = field(default_factory=dict)
    sequence: MotSequence | None = None
    warnings: list[RunWarning] = field(default_factory=list)
    live: LiveFrames | None = None
    passed_over: int = 0
    timed_frames: NDArray[np.int64] | None = None
    _owned: bool = True

    @property
    def has_images(self) -> bool:
        """Does every frame have an image?"""
        return self.images is not None or self.live is not None

    @property
    def needs_pictures(self) -> str:
        """The end of messages about what cannot be done without a picture of every frame."""
        missing = "" if self.sequence is None else self.sequence.missing_images
        return f"needs a picture of every frame{missing and ': '}{missing}"

    @property
    def positions(self) -> Sequence[int] | None:
        """The chosen frames as positions in the source; None for a live source.

        Raises:
            SettingError: a sampling that chooses none.
            InputError: the number of frames is not known.
        """
        if self.live is not None:
            return None
        if self.length is None:
            raise InputError(f"{self.path}: the number of frames is not known")
        if self.timed_frames is not None:
            timed = [int(self.timed_frames[p]) for p in sampled_positions(self.settings.frames, len(self.timed_frames))]
            return timed[: self.settings.max_frames]
        count = self.length if self.images is None else len(self.images)
        chosen = sampled_positions(self.settings.frames, count) if count else range(0)
        return chosen[: self.settings.max_frames]

    @property
    def step(self) -> int:
        """Distance of neighbouring chosen frames."""
        chosen = self.positions
        return chosen.step if isinstance(chosen, range) else 1

    @property
    def has_own_times(self) -> bool:
        """Do the frames have times of their own, so that the rate is not used?"""
        return self.live is not None or (
            self.settings.fps is None and self.images is not None and self.images.times is not None
        )

    @property
    def times(self) -> Sequence[float] | None:
        """Seconds by absolute index, where the source has them for every frame of the video and they rise."""
        images = self.images
        if images is None or images.times is None or self.settings.fps is not None or len(images) != self.length:
            return None
        return images.times if (np.diff(np.asarray(images.times)) > 0).all() else None

    def times_of(self, indices: Sequence[int]) -> Sequence[float] | None:
        """Seconds of frames by their absolute indices: the source's own, else by the frame rate, else None."""
        images = self.images
        if self.settings.fps is None and images is not None and images.times is not None:
            time_of = dict(zip(map(int, images.indices), images.times, strict=True))
            return [time_of[int(index)] for index in indices]
        return None if self.frame_rate is None else [int(index) / self.frame_rate for index in indices]

    @property
    def frame_names(self) -> Mapping[str, int]:
        """Stem of each picture's file name → absolute frame; empty where frames are no files."""
        images = self.images
        if images is None or images.path is None or not images.path.is_dir():
            return {}
        return frames_by_name(images.names, map(int, images.indices))

    def set_length(self, length: int) -> None:
        """Says how many frames there are, when the source does not."""
        if self.length is None and self.live is None:
            self.length = length

    def report(self, log: RunLog) -> None:
        """Tells the log what was done differently when the source was opened.

        Raises:
            FrameError: a video that is cut off, and the log's policy is `error`.
        """
        log.merge(self.warnings)
        if self.images is not None:
            report_source(self.images, log)

    def report_ending(self, log: RunLog) -> None:
        """Tells the log how a live source ended, and what it lost."""
        if self.live is None:
            return
        if self.live.ending is not None:
            log.warn("frames", "stream-ended", f"{self.path}: {self.live.ending}")
        if self.live.dropped:
            text = f"{self.path}: {self.live.dropped} pictures could not be decoded and are missing"
            log.skip("picture-dropped", text, self.live.dropped, harmless=True)

    def frames(self, following: Following | None = None) -> Iterator[InputFrame]:
        """The frames in order; may be asked for again unless the source is live.

        Args:
            following: asked before each frame where not every frame has an image: which frames may be passed over.
        """
        if self.live is not None:
            return self._live_frames(self.live)
        return self._recorded_frames(self.positions or (), following if self.images is None else None)

    def source(self) -> FrameSource | None:
        """The chosen frames as a source; None where not every frame has an image."""
        return None if self.images is None else self.images.select(list(self.positions or ()))

    def _time(self, position: int, index: int) -> float | None:
        """Seconds of a frame of a source that is not live."""
        if self.settings.fps is None and self.images is not None and self.images.times is not None:
            return float(self.images.times[position])
        return None if self.frame_rate is None else index / self.frame_rate

    def _recorded_frames(self, positions: Sequence[int], following: Following | None) -> Iterator[InputFrame]:
        place, self.passed_over = 0, 0
        previews = sorted(self.preview_positions)
        while place < len(positions):
            if following is not None:
                wanted = min(_first_from(previews, positions[place]), following(positions[place]))
                visited = bisect_left(positions, wanted, place)
                self.passed_over += visited - place
                place = visited
                if place == len(positions):
                    return
            frame = self._recorded_frame(positions[place])
            place += 1
            frame.number = place
            yield frame

    def _recorded_frame(self, position: int) -> InputFrame:
        if self.images is not None:
            index, load = int(self.images.indices[position]), partial(self.images.__getitem__, position)
            return InputFrame(index, self._time(position, index), self.images.names[position], _load=load)
        if self.preview_images is not None and position in self.preview_positions:
            at = self.preview_positions[position]
            load = partial(self.preview_images.__getitem__, at)
            time = self._time(position, position)
            return InputFrame(position, time, self.preview_images.names[at], is_preview=True, _load=load)
        return InputFrame(position, self._time(position, position), f"frame_{position:06d}")

    def _live_frames(self, live: LiveFrames) -> Iterator[InputFrame]:
        for number, (index, time, image) in enumerate(islice(live, self.settings.max_frames), start=1):
            self.size = (image.shape[0], image.shape[1])
            yield InputFrame(int(index), time, f"frame_{index:06d}", number=number, _image=image)

    def close(self) -> None:
        """Releases decoders and streams; a source that the caller opened stays open."""
        if self.live is not None:
            self.live.close()
        for source in (self.images, self.preview_images):
            if source is not None and self._owned:
                source.close()

    def __enter__(self) -> VideoInput:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_input(
    source: int | str | Path | FrameSource | Any | None, settings: InputSettings | None = None
) -> VideoInput:
    """Opens whatever box tracking can run over.

    Args:
        source: a MOTChallenge sequence folder; a folder of images, a video file, an array or a `FrameSource`; number
            of a webcam or address of a stream; None when there are only detections.
        settings: rate, size, and which frames.

    Raises:
        InputError: it cannot be opened.
        SettingError: a sampling of a live source.
    """
    settings = settings or InputSettings()
    size = None if settings.size is None else (settings.size[1], settings.size[0])
    if source is None:
        unknown = [_assumed_rate("detections alone")] if settings.fps is None else []
        return VideoInput("detections", "none", "detections", settings.fps, size, None, settings, warnings=unknown)
    if isinstance(source, int) or (isinstance(source, str) and is_live(source)):
        return _open_live(source, settings)
    if isinstance(source, str | Path) and is_sequence(source):
        return _open_sequence(Path(source), settings, size)
    images = open_frames(source)
    path = images.path
    name = "frames" if path is None else path.resolve().name if path.is_dir() else path.stem
    video = VideoInput(
        name,
        "memory" if path is None else str(path),
        "frames",
        settings.fps or images.frame_rate,
        images.size,
        int(images.indices[-1]) + 1,
        settings,
        images,
        _owned=images is not source,
    )
    if video.frame_rate is None:
        video.warnings.append(_assumed_rate(video.path))
    return video


def _assumed_rate(path: str) -> RunWarning:
    text = f"{path}: the frame rate is not known: the tracker counts in frames, as if there were 30 in a second; "
    return RunWarning("frames", None, "frame-rate-unknown", f"{text}{wording('give fps=', 'give --fps')}")


def _open_live(source: int | str, settings: InputSettings) -> VideoInput:
    if settings.frames is not None:
        raise SettingError(
            f"{argument('frames')}: a live source has no frames to choose from; {argument('max_frames')} ends it"
        )
    live = open_live(source, max_frames=settings.max_frames)
    path = str(source) if str(source).isdigit() else without_password(str(source))
    name = re.sub(r"[^\w.-]+", "-", path.split("@")[-1]).strip("-")
    return VideoInput(
        f"webcam-{name}" if name.isdigit() else name, path, "live", settings.fps, None, None, settings, live=live
    )


def _open_sequence(folder: Path, settings: InputSettings, size: tuple[int, int] | None) -> VideoInput:
    sequence = read_sequence(folder)
    files = sequence.image_files
    images = ImageFolder(sequence.image_folder, files=list(files.values())) if files else None
    is_complete = sequence.images is not None
    video = VideoInput(
        sequence.name,
        str(folder),
        "sequence",
        settings.fps or sequence.frame_rate,
        images.size if images is not None and is_complete else size or sequence.size,
        sequence.length,
        settings,
        sequence=sequence,
    )
    if images is not None and is_complete:
        video.images = images
    elif images is not None:
        video.preview_images = images
        video.preview_positions = {frame: position for position, frame in enumerate(files)}
    notes = [*sequence.image_notes]
    if video.images is not None and sequence.size not in (None, video.size):
        (height, width), (said_height, said_width) = video.images.size, sequence.size
        notes.append(
            f"{sequence.image_folder}: pictures of {width}×{height}, but {INFO} says {said_width}×{said_height}: "
            "are the detections those of these pictures?"
        )
    video.warnings += [RunWarning("frames", None, "sequence-pictures", note) for note in notes]
    if video.frame_rate is None:
        video.warnings.append(_assumed_rate(video.path))
    return video


@dataclass(frozen=True)
class DetectedFrame:
    """A frame with its detections, on its way through the loop of box tracking.

    Attributes:
        source: the frame of the video.
        image: `(H, W, 3)` uint8 RGB that it is tracked on; None when there is none, or nothing needs it.
        detections: what was detected on it.
        context: what else the tracker knows of it.
    """

    source: InputFrame
    image: RGBFrame | None
    detections: Detections
    context: FrameContext

    @property
    def index(self) -> int:
        """Absolute, 0-based."""
        return self.source.index

    @property
    def time(self) -> float | None:
        """Seconds, or None."""
        return self.source.time


class DetectionSource:
    """The frames of a video with their detections, in order.

    Use it in a `with` block: a detector that was made for it is closed at its end.

    Args:
        video: the frames.
        detect: the detections of a frame by its index and image.
        log: where frames that cannot be read are counted.
        timer: takes the time of reading and detecting.
        detector: what detects, when it is no file.
        owned: whether the detector is closed with the source.
        detected: `(N,)` the frames with detections, ascending, where they are known beforehand.
        score_scale: of its scores, where it is known beforehand.

    Attributes:
        has_times: frame numbers are times, and only those with detections are frames.
        needs_images: whether detecting needs the image of a frame.
        score_scale: what is known of the scores before the first frame; None: nothing.
        class_names: names of the classes by number, as the detector or the file has them.
    """

    def __init__(
        self,
        video: VideoInput,
        detect: Callable[[int, RGBFrame | None], Detections],
        log: RunLog,
        timer: TimingAggregator,
        *,
        needs_images: bool,
        record: Mapping[str, object],
        detector: Detector | None = None,
        owned: bool = False,
        detected: NDArray[np.int64] | None = None,
        score_scale: ScoreScale | None = None,
    ) -> None:
        self._video, self._detect, self._log, self._timer = video, detect, log, timer
        self._detector, self._owned = detector, owned
        self._detected = detected
        self.has_times = detected is not None and _are_times(detected, video)
        if self.has_times:
            video.timed_frames = detected
        self.needs_images = needs_images
        self._record = record
        self.score_scale = score_scale
        self.class_names: Mapping[int, str] = (None if detector is None else detector.class_names) or {}
        rate = video.frame_rate or 0.0
        if rate > LARGEST_RATE and not self.has_times and not video.has_own_times:
            log.warn(
                "frames",
                RATE_CODE,
                f"{video.path}: {absurd_rate(rate)}: {wording('give fps=', 'give --fps')}",
                rate=rate,
            )

    @property
    def record(self) -> Mapping[str, object]:
        """For the manifest: a file and its rows; or a detector, why it was chosen, and how its outputs are read."""
        layout = getattr(self._detector, "layout", None)
        return self._record if layout is None else {**self._record, "reading": layout}

    @property
    def passed_over(self) -> int:
        """Frames so far that were not visited, as nothing was detected and tracked there."""
        return 0 if self.has_times else self._video.passed_over

    def frames(
        self,
        *,
        images: bool = False,
        stop: threading.Event | None = None,
        is_idle: Callable[[], bool] | None = None,
    ) -> Iterator[DetectedFrame]:
        """One frame after another.

        Args:
            images: whether others need the images as well: then those that cannot be read are found here.
            stop: ends the frames when it is set; meant for live sources.
            is_idle: whether the next frame would change nothing if nothing is detected on it; such frames are passed
                over where they have no image, so that a far frame number costs nothing.

        Raises:
            InputError: a frame cannot be read, or the detector failed on it.
        """
        reads = self._video.has_images and (images or self.needs_images)
        video_size = self._video.size
        for frame in self._input_frames(stop, self._following(is_idle)):
            image, is_readable = self._image(frame) if reads else (None, True)
            if not is_readable and self.needs_images:
                continue
            try:
                with self._timer.track("detect"):
                    detections = self._detect(frame.index, image)
            except InputError as error:
                self._log.skip("frame-undetected", f"frame {frame.index} ({frame.name}): {error}")
                continue
            size = video_size if image is None else (image.shape[0], image.shape[1])
            yield DetectedFrame(frame, image, detections, FrameContext(frame.index, frame.time, size=size))
        self._video.report_ending(self._log)

    def _following(self, is_idle: Callable[[], bool] | None) -> Following | None:
        """Which frames are visited; None: all."""
        detected = self._detected
        if detected is None or (is_idle is None and not self.has_times):
            return None
        with_detections = only_frames(detected)
        if self.has_times or is_idle is None:
            return with_detections
        return lambda frame: with_detections(frame) if is_idle() else frame

    def _input_frames(self, stop: threading.Event | None, following: Following | None) -> Iterator[InputFrame]:
        """The video's frames until it ends, breaks off, or `stop` is set."""
        frames, count = self._video.frames(following), 0
        while stop is None or not stop.is_set():
            try:
                with self._timer.track("read"):
                    frame = next(frames, None)
            except FrameError as error:
                # What a live source has shown cannot be had again: a break ends the run, it does not undo it.
                if self._video.kind != "live" or not count:
                    raise
                if stop is None or not stop.is_set():
                    self._log.warn("frames", "stream-broke-off", str(error))
                return
            if frame is None:
                return
            count += 1
            yield frame

    def _image(self, frame: InputFrame) -> tuple[RGBFrame | None, bool]:
        """The frame's image, and whether it could be read."""
        try:
            with self._timer.track("read"):
                return frame.image(), True
        except FrameError as error:
            if self._log.on_bad_item == "error":
                raise
            self._log.skip("frame-unreadable", str(error))
            return None, False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owned and self._detector is not None:
            self._detector.close()


def _are_times(frames: NDArray[np.int64], video: VideoInput) -> bool:
    """Are frame numbers times in fine ticks? So it is where the rate is that of ticks, and none follows another."""
    rate = video.frame_rate
    if rate is None or rate < TICKS_RATE or video.has_images or len(frames) < 2:
        return False
    return int(np.diff(frames).min()) > 1


def _spacing_warning(frames: NDArray[np.int64], video: VideoInput, source: str) -> tuple[str, str] | None:
    """Code and message for frames with detections that lie oddly: in ticks, far apart, or at regular distances."""
    steps = np.diff(frames)
    if _are_times(frames, video):
        text = f"frames are taken as times, {video.frame_rate:g} a second: those without detections count as not there"
        return "frames-are-times", f"{source}: {text}"
    reached = np.diff(frames, prepend=0)
    if len(frames) and reached.max() >= FAR_FRAMES and video.length is None:
        far = int(frames[np.argmax(reached)])
        gap = reached.max() - 1
        return "frame-far", f"{source}: no detections on {gap} frames before frame {far}: is it a wrong number?"
    if len(steps) < FEWEST_STEPS or steps.min() < 2 or video.settings.frames is not None:
        return None
    if np.median(steps) > 1.1 * steps.min():
        return None
    step = int(np.gcd.reduce(steps))
    text = f"{source}: detections on frames {frames[0]}, {frames[1]}, {frames[2]}, … only; those between count as empty"
    if step > 1:
        return "frames-apart", f"{text}: {argument('frames', f'{frames[0] or str()}::{step}')} tracks only these"
    return "frames-apart", f"{text}: if the numbers are times, give the ticks of a second as {argument('fps', 1000)}"


def open_detections(
    detections: DetectionsArgument | None,
    video: VideoInput,
    log: RunLog,
    timer: TimingAggregator | None = None,
    *,
    detector: str | None = None,
    options: Mapping[str, Any] | None = None,
    tracker: TrackerSettings | None = None,
) -> DetectionSource:
    """Opens the file of detections, or the detector; tells the video its length where only detections know it.

    Args:
        detections: a file, a table, a detector, or a detector's name. None: `detector`, the sequence's own
            `det/det.txt`, else `motion`.
        video: what is detected on.
        log: where bad rows and frames are counted.
        timer: takes the time of reading and detecting.
        detector: name of a detector, or path of an `.onnx` file.
        options: settings of a detector that is named.
        tracker: whose `score_range` says what scores are; None: found out.

    Raises:
        InputError: it cannot be used, or a detector has no images.
        SettingError: a file and a detector at once, neither detections nor images, or an unknown detector or option.
    """
    if detections is not None and detector is not None:
        raise SettingError(f"both detections ({detections}) and a detector ({detector}) are given: leave one out")
    timer = TimingAggregator() if timer is None else timer
    opener = _Opener(video, log, timer, options or {}, tracker or TrackerSettings())
    argument = detector if detections is None else detections
    if not isinstance(detections, str | Path) and (video.sequence is None or argument is not None):
        _refuse_settings_of_files(video.settings)
    if isinstance(argument, Detector):
        return opener.detector(argument, "given by the caller")
    if isinstance(argument, DetectionTable):
        return opener.table(argument)
    if argument is not None and (
        str(argument).partition("=")[0] in (*WEIGHTS_FREE, "sam3")
        or str(argument).lower().endswith(".onnx")
        or argument is detector
    ):
        return opener.named_detector(str(argument), "asked for")
    if argument is not None:
        return opener.file(Path(argument))
    if video.sequence is not None and (video.sequence.detection_files or not video.has_images):
        return opener.file(video.sequence.detections())
    if not video.has_images:
        raise SettingError(
            f"without frames there must be detections: give {wording('detections=', '--detections FILE')}"
        )
    return opener.named_detector(DEFAULT_DETECTOR, "neither detections nor a detector were given")


def _refuse_settings_of_files(settings: InputSettings) -> None:
    """Settings that say how to read a file of detections, where there is none.

    Raises:
        SettingError: one is given.
    """
    for name in ("images", "video_name", "frame_base"):
        if getattr(settings, name) is not None:
            flag = wording(name, f"--{name.replace('_', '-')}")
            raise SettingError(
                f"{flag} says how to read a file of detections: give {wording('detections=', '--detections FILE')}"
            )


def _make_detector(name: str, options: Mapping[str, Any]) -> Detector:
    """As `make_detector`, and `sam3`, alone or with its weights.

    Raises:
        SettingError, InputError: see there.
        PredictorError: SAM 3's weights or its device are missing or of no use.
    """
    kind, _, weights = name.partition("=")
    if kind == "sam3":
        return open_text_detector(weights, TextSettings.checked(options)).detector
    return make_detector(name, **options)


@dataclass(frozen=True)
class _Opener:
    """Makes the source of each kind of detections; attributes as in `open_detections`."""

    video: VideoInput
    log: RunLog
    timer: TimingAggregator
    options: Mapping[str, Any]
    tracker: TrackerSettings

    def named_detector(self, name: str, reason: str) -> DetectionSource:
        detector = _make_detector(name, self.options)
        try:
            return self.detector(detector, reason, owned=True)
        except BaseException:
            detector.close()
            raise

    def detector(self, detector: Detector, reason: str, *, owned: bool = False) -> DetectionSource:
        if not self.video.has_images:
            raise InputError(f"{self.video.path}: detector {detector.name} {self.video.needs_pictures}")
        detector.reset()

        def detect(index: int, image: RGBFrame | None) -> Detections:
            return Detections.empty() if image is None else detector.detect(image)

        record: dict[str, object] = {"kind": "detector", "name": detector.name, "reason": reason}
        chosen = self._chosen(detector.class_names, detector.name)
        # The scores of those without weights mean the same in every video.
        scale = AS_GIVEN if owned and detector.name in WEIGHTS_FREE else None
        return DetectionSource(
            self.video,
            detect if chosen is None else _of_classes(detect, chosen, detector.name),
            self.log,
            self.timer,
            needs_images=True,
            record=record if chosen is None else {**record, "classes": chosen.tolist()},
            detector=detector,
            owned=owned,
            score_scale=scale,
        )

    def file(self, path: Path) -> DetectionSource:
        """A file, or by its name one of the sequence's own."""
        video = self.video
        if not path.exists() and video.sequence is not None and path.name == str(path):
            path = video.sequence.detections(path.name)
        settings = video.settings
        table = read_detections(
            path,
            class_column=settings.class_column,
            on_bad_item=self.log.on_bad_item,
            images=settings.images,
            hints=FrameHints(
                video.length, video.frame_names, video.size, settings.frame_base, settings.video_name, video.name
            ),
        )
        return self.table(table)

    def table(self, table: DetectionTable) -> DetectionSource:
        video, log = self.video, self.log
        log.merge(table.warnings)
        if table.size is not None and video.size not in (None, table.size):
            (height, width), (own_height, own_width) = table.size, video.size
            raise InputError(
                f"{table.source}: boxes on pictures of {width}×{height}, but the frames of {video.path} have "
                f"{own_width}×{own_height}: give the pictures that were detected on"
            )
        video.size = video.size or table.size
        beyond = 0 if video.length is None else int(np.count_nonzero(table.frame >= video.length))
        if beyond:
            text = f"{table.source}: {beyond} detections lie beyond the {video.length} frames of {video.path}"
            if log.on_bad_item == "error":
                first = table.frame[-beyond]
                raise InputError(
                    f"{text}, the first on frame {first}; "
                    f"{wording('on_bad_item=skip', '--on-bad-item skip')} leaves them out"
                )
            log.skip("frame-beyond-video", text, beyond)
        detected = table.frames
        odd = _spacing_warning(detected, video, table.source)
        if odd is not None:
            log.warn("detections", *odd)
        video.set_length(table.frame_count)
        record: dict[str, object] = {
            "kind": "file",
            "path": recorded_path(table.source),
            "rows": len(table) - beyond,
        }
        if table.reading is not None:
            record["reading"] = str(table.reading)
        scale = self._scale(table)
        message = scale.message()
        if message is not None:
            log.warn("detections", SCALE_CODE, f"{table.source}: {message} {SCALE_REMEDY}")
        if not scale.is_usual:
            record["scores"] = {"unit": str(scale.unit), "full": scale.full, "stretch": round(scale.stretch, 4)}
            table = replace(table, score=scale.shares(table.score))

        chosen = self._chosen_rows(table)
        if chosen is not None:
            record["classes"] = chosen.tolist()
            table = table[np.isin(table.class_id, chosen)]

        def detect(index: int, image: RGBFrame | None) -> Detections:
            return table.at(index)

        source = DetectionSource(
            video, detect, log, self.timer, needs_images=False, record=record, detected=detected,
            score_scale=ScoreScale(stretch=scale.stretch),
        )  # fmt: skip
        source.class_names = table.class_names or {}
        return source

    def _chosen(self, names: Mapping[int, str] | None, source: str) -> NDArray[np.int64] | None:
        """Numbers of the classes that are tracked; None: all.

        Raises:
            SettingError: one of them is not there.
        """
        wanted = self.video.settings.classes
        if wanted is None:
            return None
        try:
            return class_ids(wanted, names, source)
        except SettingError as error:
            raise SettingError(f"{_classes_flag()}: {error}") from None

    def _chosen_rows(self, table: DetectionTable) -> NDArray[np.int64] | None:
        """The same for a table, which also tells what it has none of."""
        there = np.unique(table.class_id)
        if self.video.settings.classes is not None and len(there) and there[-1] < 0:
            cure = f"{argument('class_column')} says where MOT text has them"
            raise SettingError(f"{_classes_flag()}: the detections of {table.source} have no class; {cure}")
        chosen = self._chosen(table.class_names, table.source)
        absent = [] if chosen is None else np.setdiff1d(chosen, there).tolist()
        if absent and len(there):
            missing, others = ([(table.class_names or {}).get(one, one) for one in ids] for ids in (absent, there))
            text = f"no detection of class {listed(missing)}; there: {listed(others)}"
            self.log.warn("detections", "class-absent", f"{table.source}: {_classes_flag()}: {text}")
        return chosen

    def _scale(self, table: DetectionTable) -> ScoreScale:
        """The scale of all scores of a table: what the tracker needs not find out frame by frame."""
        known = known_scale(self.tracker)
        return scale_of(table.frame, table.score, score_unit(self.tracker)) if known is None else known


def _classes_flag() -> str:
    return wording("InputSettings.classes", "--classes")


def _of_classes(
    detect: Callable[[int, RGBFrame | None], Detections], chosen: NDArray[np.int64], source: str
) -> Callable[[int, RGBFrame | None], Detections]:
    """A detector's detections of some classes."""

    def chosen_ones(index: int, image: RGBFrame | None) -> Detections:
        found = detect(index, image)
        if len(found) and found.class_id.max() < 0:
            raise SettingError(f"{_classes_flag()}: what {source} finds has no class")
        return found[np.isin(found.class_id, chosen)]

    return chosen_ones


def detect(
    frames: Any,
    detector: str | Path | Detector = "motion",
    *,
    sampling: str | None = None,
    progress: Progress = None,
    **options: Any,
) -> DetectionTable:
    """Runs a detector over a video; the result goes to `track_boxes(frames, output, detections=table)`.

    Args:
        frames: whatever `open_frames` takes: a folder of images, a video file, an array `(N, H, W, 3)` uint8 RGB, …
        detector: `motion` or `hog`, which need no weights, the path of an `.onnx` model, or a `Detector`.
        sampling: which frames, as `start:end:step`.
        progress: None = shown by itself in a terminal or a notebook; or a function of `(done, total, label)`.
        options: settings of the detector that a name or a path asks for, such as `score_threshold=0.3`.

    Returns:
        The detections of all frames; `.at(frame)` gives those of one, whose masks are kept, embeddings are not.

    Raises:
        FrameError: the frames cannot be read.
        InputError: the model cannot be used, or failed on a frame.
        SettingError: an unknown detector or option.
    """
    owned = isinstance(detector, str | Path)
    if options and not owned:
        raise SettingError(f"{', '.join(options)}: settings are for detectors asked for by name, not for objects")
    model = _make_detector(str(detector), options) if isinstance(detector, str | Path) else detector
    source = open_frames(frames, sampling=sampling)
    parts: list[tuple[int, Detections]] = []
    try:
        report_source(source, RunLog("skip"))
        model.reset()
        with open_progress(progress, len(source), f"detecting with {model.name}") as display:
            for position, image in enumerate(source):
                index = source.indices[position]
                try:
                    parts.append((int(index), model.detect(image)))
                except InputError as error:
                    raise InputError(f"frame {index} ({source.names[position]}): {error}") from error
                display.update(position + 1, int(index))
        return _table(parts, model, int(source.indices[-1]) + 1)
    finally:
        if owned:
            model.close()
        if source is not frames:
            source.close()


def _table(parts: list[tuple[int, Detections]], model: Detector, length: int) -> DetectionTable:
    masks = [detections.masks for _, detections in parts if len(detections)]
    segmentation = [code for mask in masks if mask is not None for code in encode_rle(mask)]
    whole = Detections.concat([detections for _, detections in parts])
    return DetectionTable(
        np.repeat([index for index, _ in parts], [len(detections) for _, detections in parts]).astype(np.int64),
        whole.xyxy,
        whole.score,
        whole.class_id,
        model.class_names,
        segmentation if masks and all(mask is not None for mask in masks) else None,
        length,
        source=model.name,
    )
