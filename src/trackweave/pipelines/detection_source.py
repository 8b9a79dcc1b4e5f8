"""`DetectionSource`: the frames of a video with their detections, from a file, a table or a detector.

`open_detections` makes one; `detect` runs a detector over a video without tracking.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.base import Detector
from trackweave.detectors.registry import WEIGHTS_FREE, make_detector
from trackweave.errors import FrameError, InputError, SettingError, argument, listed, wording
from trackweave.formats.frame_ids import FrameHints
from trackweave.formats.readers import detections_from_columns, read_detections
from trackweave.formats.tables import DetectionTable, unlikely_boxes
from trackweave.frames.open import open_frames
from trackweave.frames.source import RGBFrame, report_source
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
from trackweave.pipelines.video_input import Following, InputFrame, VideoInput, only_frames
from trackweave.predictors.registry import open_text_detector
from trackweave.predictors.sam.settings import TextSettings
from trackweave.progress import Progress, TimingAggregator, open_progress
from trackweave.storage.files import recorded_path
from trackweave.structures.detections import Detections, class_ids
from trackweave.structures.run_log import RunLog
from trackweave.structures.score_scale import AS_GIVEN, ScoreScale, scale_of

DetectionsArgument = str | Path | Mapping[str, Any] | DetectionTable | Detector
"""Where detections come from: a file or a detector by its name or path, a table, or a detector."""

TICKS_RATE = 1000.0
"""From so many frames a second on, frame numbers that never follow each other are times."""
FAR_FRAMES = 1_000_000
"""A gap of so many frames, nine hours at 30 a second, is reported."""
FEWEST_STEPS = 5
"""Steps between frames with detections that are enough to call them regular."""

DEFAULT_DETECTOR = "motion"
"""What detects when neither a file nor a detector is named: whatever moves before a still camera; needs no weights."""


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
    options: Mapping[str, object] | None = None,
    tracker: TrackerSettings | None = None,
) -> DetectionSource:
    """Opens the file of detections, or the detector; tells the video its length where only detections know it.

    Args:
        detections: a file; columns by name, or a data frame, see `detections_from_columns`; a table; a detector, or its
            name. None: `detector`, the sequence's own
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
    if isinstance(argument, Mapping) or hasattr(argument, "columns"):
        return opener.columns(argument)
    if not isinstance(argument, str | Path | None):
        raise SettingError(
            f"detections are a file, columns by name (a data frame), a table or a detector, not "
            f"{type(argument).__name__}: boxes of your own, frame by frame, are for `Tracker`"
        )
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
    return opener.named_detector(
        DEFAULT_DETECTOR, "neither detections nor a detector were given: what moves before a still camera"
    )


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


def _make_detector(name: str, options: Mapping[str, object]) -> Detector:
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
    options: Mapping[str, object]
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
            hints=self._hints,
        )
        return self.table(table)

    def columns(self, columns: Any) -> DetectionSource:
        """Columns by name."""
        return self.table(detections_from_columns(columns, hints=self._hints, on_bad_item=self.log.on_bad_item))

    @property
    def _hints(self) -> FrameHints:
        """What is known about the frames."""
        video, settings = self.video, self.video.settings
        return FrameHints(
            video.length, video.frame_names, video.size, settings.frame_base, settings.video_name, video.name
        )

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
        self._refuse_unlikely(table)
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

    def _refuse_unlikely(self, table: DetectionTable) -> None:
        """Boxes that as a whole are likely something else, such as corners in place of width and height.

        Raises:
            InputError: they are; where some are merely lost, only if bad items are errors.
        """
        found = unlikely_boxes(table.xyxy, self.video.size)
        if found is None:
            return
        text, kind = f"{table.source}: {found[0]}", found[1]
        if kind == "wrong":
            raise InputError(text)
        if kind == "outside" and self.log.on_bad_item == "error":
            raise InputError(f"{text} ({wording('on_bad_item=skip', '--on-bad-item skip')} leaves those out)")
        self.log.warn("detections", "boxes-unlikely", text)

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
