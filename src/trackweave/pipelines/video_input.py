"""`VideoInput`: the frames of a video, of whatever kind it is, as box tracking goes over them.

A video is a MOTChallenge sequence folder, a folder of images, a video file, a live source, or no images at all: then
only the number of frames, their rate and their size are known, as of a file of detections alone.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import FrameError, InputError, SettingError, argument, listed, wording
from trackweave.formats.frame_ids import frames_by_name
from trackweave.formats.motchallenge import INFO, MotSequence, is_sequence, read_sequence
from trackweave.frames.images import ImageFolder
from trackweave.frames.live import LiveFrames, is_live, open_live, without_password
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource, RGBFrame, report_decoded, report_source, sampled_positions
from trackweave.pipelines.settings import InputSettings
from trackweave.structures.run_log import RunLog, RunWarning

SourceKind = Literal["sequence", "frames", "live", "detections"]
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
        """Tells the log how a live source ended, and what it lost; of a video, what its decoder noticed."""
        if self.images is not None:
            report_decoded(self.images, log)
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
    try:
        images = open_frames(source)
    except FrameError as error:
        file = Path(source) if isinstance(source, str | Path) else Path()
        if file.suffix.lower() in {".txt", ".json", ".csv", ".parquet"} and file.is_file():
            given = argument("detections", str(source))
            raise FrameError(f"{source} is no video: {given} where it holds detections") from error
        found = [path.name for path in sorted(file.glob("*/")) if is_sequence(path)] if file.is_dir() else []
        if found:
            raise FrameError(
                f"{source} holds {len(found)} sequences ({listed(found, 3)}): give one of them, or all in a plan "
                f"({wording('trackweave.run', 'trackweave run')})"
            ) from error
        raise
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
        f"webcam-{name}" if name.isdigit() else name, path, "live", settings.fps, live.size, None, settings, live=live
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
