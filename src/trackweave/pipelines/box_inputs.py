"""`VideoInput`: what box tracking runs over, as one stream of frames.

A MOTChallenge sequence folder, a folder of images, a video, a live source, or no pictures at all: then only the
number of frames, their rate and their size are known.

`Sight`: where the detections of a run come from: a file, a table, or a detector that looks at the pictures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from trackweave.detectors.base import Detector
from trackweave.detectors.registry import WEIGHTS_FREE, make_detector
from trackweave.errors import FrameError, InputError, SettingError
from trackweave.formats.detections import read_detections
from trackweave.formats.motchallenge import MotSequence, is_sequence, read_sequence
from trackweave.formats.tables import DetectionTable
from trackweave.frames.live import LiveFrames, is_live, open_live, without_password
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource, RGBFrame, sampled_positions
from trackweave.pipelines.settings import InputSettings
from trackweave.structures.detections import Detections
from trackweave.structures.run_log import Remarks, RunWarning

Kind = Literal["sequence", "frames", "live", "detections"]


@dataclass
class InputFrame:
    """One frame of a video, its picture read when asked for.

    Attributes:
        index: absolute, 0-based.
        time: seconds, or None.
        name: file name or label.
        is_sample: only some frames of the video have a picture, and they are not used for tracking.
    """

    index: int
    time: float | None
    name: str
    is_sample: bool = False
    _load: Callable[[], RGBFrame] | None = field(default=None, repr=False)
    _image: RGBFrame | None = field(default=None, repr=False)

    def image(self) -> RGBFrame | None:
        """`(H, W, 3)` uint8 RGB to track on, read once; None where not every frame has a picture.

        Raises:
            FrameError: it cannot be read.
        """
        return None if self.is_sample else self.picture()

    def picture(self) -> RGBFrame | None:
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
        kind: `sequence`, `frames`, `live`, or `detections` when there are no pictures.
        frame_rate: frames per second, or None.
        size: `(H, W)`, or None.
        length: frames of the whole video; None for live sources, and until `set_length` where only detections tell.
        images: every frame's picture, or None.
        samples: the pictures of some frames, when not all have one; by position in `samples` as `sampled` says.
        sampled: frame → position in `samples`.
        sequence: the MOTChallenge folder, or None.
        live: the stream, or None.
        warnings: what was done differently.
    """

    name: str
    path: str
    kind: Kind
    frame_rate: float | None
    size: tuple[int, int] | None
    length: int | None
    settings: InputSettings
    images: FrameSource | None = None
    samples: FrameSource | None = None
    sampled: Mapping[int, int] = field(default_factory=dict)
    sequence: MotSequence | None = None
    warnings: list[RunWarning] = field(default_factory=list)
    live: LiveFrames | None = None
    _owned: bool = True

    @property
    def has_images(self) -> bool:
        """Does every frame have a picture?"""
        return self.images is not None or self.live is not None

    @property
    def positions(self) -> Sequence[int] | None:
        """Which frames are taken, as positions in the source; None for a live source.

        Raises:
            SettingError: a sampling that takes none.
            InputError: nobody knows how many frames there are.
        """
        if self.live is not None:
            return None
        if self.length is None:
            raise InputError(f"{self.path}: the number of frames is not known")
        count = self.length if self.images is None else len(self.images)
        taken = sampled_positions(self.settings.frames, count) if count else range(0)
        return taken[: self.settings.max_frames]

    @property
    def step(self) -> int:
        """Distance of neighbouring frames that are taken."""
        taken = self.positions
        return taken.step if isinstance(taken, range) else 1

    @property
    def times(self) -> Sequence[float] | None:
        """Seconds by absolute index, where the source knows them for every frame of the video and they rise."""
        images = self.images
        if images is None or images.times is None or self.settings.fps is not None or len(images) != self.length:
            return None
        return images.times if (np.diff(np.asarray(images.times)) > 0).all() else None

    def times_of(self, indices: Sequence[int]) -> Sequence[float] | None:
        """Seconds of frames by their absolute indices: the source's own, else by the frame rate, else None."""
        images = self.images
        if self.settings.fps is None and images is not None and images.times is not None:
            known = dict(zip(map(int, images.indices), images.times, strict=True))
            return [known[int(index)] for index in indices]
        return None if self.frame_rate is None else [int(index) / self.frame_rate for index in indices]

    def set_length(self, length: int) -> None:
        """Says how many frames there are, when the source does not."""
        if self.length is None and self.live is None:
            self.length = length

    def frames(self) -> Iterator[InputFrame]:
        """The frames in order; may be asked for again unless the source is live."""
        if self.live is not None:
            return self._live_frames(self.live)
        return self._recorded_frames(self.positions or ())

    def source(self) -> FrameSource | None:
        """The frames that are taken, as a source; None where not every frame has a picture."""
        return None if self.images is None else self.images.select(list(self.positions or ()))

    def _time(self, local: int, index: int) -> float | None:
        """Seconds of a frame of a source that is not live."""
        if self.settings.fps is None and self.images is not None and self.images.times is not None:
            return float(self.images.times[local])
        return None if self.frame_rate is None else index / self.frame_rate

    def _recorded_frames(self, positions: Sequence[int]) -> Iterator[InputFrame]:
        for local in positions:
            if self.images is not None:
                index, load = int(self.images.indices[local]), partial(self.images.__getitem__, local)
                yield InputFrame(index, self._time(local, index), self.images.names[local], _load=load)
            elif self.samples is not None and local in self.sampled:
                at = self.sampled[local]
                load = partial(self.samples.__getitem__, at)
                yield InputFrame(local, self._time(local, local), self.samples.names[at], True, _load=load)
            else:
                yield InputFrame(local, self._time(local, local), f"frame_{local:06d}")

    def _live_frames(self, live: LiveFrames) -> Iterator[InputFrame]:
        for index, time, image in islice(live, self.settings.max_frames):
            self.size = (image.shape[0], image.shape[1])
            yield InputFrame(int(index), time, f"frame_{index:06d}", _image=image)

    def close(self) -> None:
        """Releases decoders and streams; a source that the caller opened stays open."""
        if self.live is not None:
            self.live.close()
        for source in (self.images, self.samples):
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
    given_size = None if settings.size is None else (settings.size[1], settings.size[0])
    if source is None:
        return VideoInput("detections", "none", "detections", settings.fps, given_size, None, settings)
    if isinstance(source, int) or (isinstance(source, str) and is_live(source)):
        return _open_live(source, settings)
    if isinstance(source, str | Path) and is_sequence(source):
        return _open_sequence(Path(source), settings, given_size)
    images = open_frames(source)
    path = images.path
    name = "frames" if path is None else path.resolve().name if path.is_dir() else path.stem
    opened = VideoInput(
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
    if opened.frame_rate is None:
        opened.warnings.append(_assumed_rate(opened.path))
    return opened


def _assumed_rate(path: str) -> RunWarning:
    text = f"{path}: the frame rate is not known: the tracker counts in frames, as if there were 30 in a second; "
    return RunWarning("frames", None, "frame-rate-unknown", f"{text}give --fps")


def _open_live(source: int | str, settings: InputSettings) -> VideoInput:
    if settings.frames is not None:
        raise SettingError("--frames: a live source has no frames to choose from; --max-frames ends it")
    live = open_live(source, max_frames=settings.max_frames)
    path = str(source) if str(source).isdigit() else without_password(str(source))
    name = re.sub(r"[^\w.-]+", "-", path.split("@")[-1]).strip("-")
    return VideoInput(
        f"webcam-{name}" if name.isdigit() else name, path, "live", settings.fps, None, None, settings, live=live
    )


def _open_sequence(folder: Path, settings: InputSettings, given_size: tuple[int, int] | None) -> VideoInput:
    sequence = read_sequence(folder)
    pictures = open_frames(sequence.image_folder) if sequence.image_frames else None
    images = pictures if sequence.images is not None else None
    if images is not None and len(images) != sequence.length:
        images.close()
        raise FrameError(f"{sequence.images}: {len(images)} images for a sequence of {sequence.length} frames")
    samples = pictures if images is None else None
    opened = VideoInput(
        sequence.name,
        str(folder),
        "sequence",
        settings.fps or sequence.frame_rate,
        images.size if images is not None else given_size or sequence.size,
        sequence.length,
        settings,
        images,
        samples,
        {} if samples is None else {_number(name): at for at, name in enumerate(samples.names)},
        sequence,
    )
    if opened.frame_rate is None:
        opened.warnings.append(_assumed_rate(opened.path))
    return opened


def _number(name: str) -> int:
    """0-based frame of an image `000001.jpg`; −1 for other names."""
    stem = Path(name).stem
    return int(stem) - 1 if stem.isdecimal() else -1


DEFAULT_DETECTOR = "motion"
"""What sees objects when nobody said what does: anything that moves before a camera that does not; needs no weights."""
Given = str | Path | DetectionTable | Detector


@dataclass(frozen=True)
class Sight:
    """Use it in a `with` block: a detector that was made here is closed at its end.

    Attributes:
        detect: the detections of a frame.
        looks: whether it needs the frame's picture.
        record: for the manifest: a file and its rows, or a detector and why it was taken.
    """

    detect: Callable[[InputFrame], Detections]
    looks: bool
    record: Mapping[str, Any]
    _stack: ExitStack

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def open_sight(
    given: Given | None,
    video: VideoInput,
    remarks: Remarks,
    *,
    detector: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Sight:
    """Opens the file of detections, or the detector; tells the video its length where only detections know it.

    Args:
        given: a file, a table, a detector, or a detector's name. None: `detector`, the sequence's own `det/det.txt`,
            else `motion`.
        video: what it looks at.
        remarks: where bad rows are counted.
        detector: name of a detector, or path of an `.onnx` file.
        options: settings of a detector that is named.

    Raises:
        InputError: it cannot be used, or a detector has no pictures to look at.
        SettingError: a file and a detector at once, nothing to see with, or an unknown detector or option.
    """
    if given is not None and detector is not None:
        raise SettingError(f"both detections ({given}) and a detector ({detector}) are given: leave one out")
    asked = detector if given is None else given
    if isinstance(asked, Detector):
        return _detector_sight(asked, "given by the caller", video, ExitStack())
    if isinstance(asked, DetectionTable):
        return _table_sight(asked, video, remarks)
    if asked is not None and (str(asked) in WEIGHTS_FREE or str(asked).lower().endswith(".onnx") or asked is detector):
        return _made_sight(str(asked), "asked for", video, options)
    if asked is not None:
        return _table_sight(_read(Path(asked), video, remarks), video, remarks)
    if video.sequence is not None and (video.sequence.detection_files or not video.has_images):
        return _table_sight(_read(video.sequence.detections(), video, remarks), video, remarks)
    if not video.has_images:
        raise SettingError("without frames there must be detections: give --detections FILE")
    return _made_sight(DEFAULT_DETECTOR, "neither detections nor a detector were given", video, options)


def _made_sight(name: str, reason: str, video: VideoInput, options: Mapping[str, Any] | None) -> Sight:
    with ExitStack() as stack:
        detector = make_detector(name, **(options or {}))
        stack.callback(detector.close)
        return _detector_sight(detector, reason, video, stack.pop_all())


def _detector_sight(detector: Detector, reason: str, video: VideoInput, stack: ExitStack) -> Sight:
    if not video.has_images:
        stack.close()
        raise InputError(f"{video.path}: detector {detector.name} needs a picture of every frame")
    detector.reset()

    def detect(frame: InputFrame) -> Detections:
        image = frame.image()
        return Detections.empty() if image is None else detector.detect(image)

    return Sight(detect, True, {"kind": "detector", "name": detector.name, "reason": reason}, stack)


def _read(path: Path, video: VideoInput, remarks: Remarks) -> DetectionTable:
    """A file, or by its name one of the sequence's own."""
    if not path.exists() and video.sequence is not None and path.name == str(path):
        path = video.sequence.detections(path.name)
    return read_detections(
        path, class_column=video.settings.class_column, length=video.length, on_bad_item=remarks.on_bad_item
    )


def _table_sight(table: DetectionTable, video: VideoInput, remarks: Remarks) -> Sight:
    remarks.take(table.warnings)
    beyond = 0 if video.length is None else int(np.count_nonzero(table.frame >= video.length))
    if beyond:
        text = f"{table.source}: {beyond} detections lie beyond the {video.length} frames of {video.path}"
        if remarks.on_bad_item == "error":
            raise InputError(f"{text}, the first on frame {table.frame[-beyond]}; --on-bad-item skip leaves them out")
        remarks.skip("frame-beyond-video", text, beyond)
    video.set_length(table.frame_count)
    record = {"kind": "file", "path": table.source, "rows": len(table) - beyond}
    return Sight(lambda frame: table.at(frame.index), False, record, ExitStack())
