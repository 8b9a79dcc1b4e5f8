"""H.264 video files, written frame by frame through PyAV; a mask run as one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import ArtifactError
from trackweave.frames.source import FrameSource, RGBFrame
from trackweave.ids import FrameIndex
from trackweave.storage.files import temporary_beside
from trackweave.storage.mask_archive import VideoSegments
from trackweave.structures.tracks import Tracks
from trackweave.visualization.annotators import Colour, OverlayPainter, track_colour
from trackweave.visualization.settings import OverlaySettings


class Mp4Writer:
    """Writes RGB frames to an MP4 that any browser plays (H.264, yuv420p, index at the front).

    Frames go to a hidden name beside the target; it is renamed when the `with` block ends and removed when the block
    fails, so the target is a whole video or what it was before. Without a single frame no file is written.
    Frames of odd size are padded to even with their last row or column, as yuv420p asks.

    Args:
        path: the file to write; folders above it are made.
        fps: frames per second, above 0.

    Raises:
        ValueError: `fps` is not above 0.
    """

    def __init__(self, path: Path | str, fps: float) -> None:
        if not fps > 0:
            raise ValueError(f"frames per second are above 0, not {fps}")
        self.path = Path(path)
        self.written = 0
        """Frames written so far."""
        self._rate = Fraction(fps).limit_denominator(1001)
        self._temporary: Path | None = None
        self._stack = ExitStack()
        self._size: tuple[int, int] | None = None
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> Mp4Writer:
        return self

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Appends a frame `(H, W, 3)` uint8 RGB.

        Raises:
            ValueError: not an RGB frame, or of another size than the first.
            ArtifactError: the file cannot be written.
        """
        import av

        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            raise ValueError(f"a frame is (H, W, 3) uint8, not {frame.shape} {frame.dtype}")
        if self._size is not None and frame.shape[:2] != self._size:
            raise ValueError(
                f"{self.path}: frame {self.written} is {frame.shape[:2]}, the ones before are {self._size}"
            )
        height, width = frame.shape[:2]
        padded = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        try:
            if self._container is None:
                self._open(padded.shape[0], padded.shape[1])
            self._size = (height, width)
            coded = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
            coded.pts = self.written
            self._container.mux(self._stream.encode(coded))
        except (OSError, av.FFmpegError) as error:
            raise self._failure(error) from error
        self.written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import av

        if self._container is None:
            self._stack.close()
            return
        try:
            if kind is None:
                self._container.mux(self._stream.encode())
            self._container.close()
            if kind is None and self._temporary is not None:
                self._temporary.replace(self.path)
        except (OSError, av.FFmpegError) as failure:
            if kind is None:  # otherwise the first error is the one to see
                raise self._failure(failure) from failure
        finally:
            self._container = None
            self._stack.close()

    def _open(self, height: int, width: int) -> None:
        import av

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = self._stack.enter_context(temporary_beside(self.path))
        # faststart moves the index to the front: a browser plays before it has the whole file.
        self._container = av.open(str(self._temporary), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream("h264", rate=self._rate, options={"crf": "20", "preset": "veryfast"})
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = 1 / self._rate

    def _failure(self, error: Exception) -> ArtifactError:
        return ArtifactError(f"{self.path}: the video cannot be written: {getattr(error, 'strerror', None) or error}")


def mask_overlays(
    archive: VideoSegments,
    frames: FrameSource,
    indices: Sequence[FrameIndex],
    settings: OverlaySettings | None = None,
    colours: Callable[[int], Colour] = track_colour,
) -> Iterator[RGBFrame]:
    """The frames of these indices with the objects of an archive on them, `(h, w, 3)` uint8 RGB, at most 1280 wide.

    Raises:
        FrameError: a frame cannot be read.
        KeyError: an index that the frames do not have.
    """
    painter = OverlayPainter(settings, class_names=archive.info.classes.names, colours=colours)
    positions = {int(index): position for position, index in enumerate(frames.indices)}
    for index in indices:
        tracks = Tracks.from_frames([archive.frame(index)])
        painter.follow(int(index), tracks)
        yield painter.paint(frames[positions[int(index)]], tracks)


def write_mask_overlay(
    path: Path,
    archive: VideoSegments,
    frames: FrameSource,
    fps: float,
    settings: OverlaySettings | None = None,
    colours: Callable[[int], Colour] = track_colour,
    *,
    written: Callable[[int], None] | None = None,
) -> None:
    """Writes an archive's objects over all frames as a video; `written` is called with the index of each frame.

    Raises:
        FrameError: a frame cannot be read.
        ArtifactError: the file cannot be written.
    """
    with Mp4Writer(path, fps) as writer:
        images = mask_overlays(archive, frames, frames.indices, settings, colours)
        for index, image in zip(frames.indices, images, strict=True):
            writer.write(image)
            if written is not None:
                written(int(index))
