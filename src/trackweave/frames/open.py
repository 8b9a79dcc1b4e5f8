"""`open_frames`: every kind of video as a lazy sequence of frames."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import FrameError
from trackweave.frames.source import FrameSource, sampled_positions
from trackweave.storage.npz import map_npy

# The decoders are imported where they are used: every command imports this module, and few need a decoder.


def open_frames(
    path_or_array_or_iterable: str | Path | NDArray[np.uint8] | Iterable[Any] | FrameSource,
    *,
    sampling: str | slice | None = None,
) -> FrameSource:
    """Opens a video as a lazy sequence of RGB frames.

    Args:
        path_or_array_or_iterable: a folder of images; a video file; a multi-page TIFF; a `.npy` file; an array
            `(N, H, W, 3)` or `(N, H, W)` uint8, RGB; a list of frames; an iterator of frames, which is spooled to a
            temporary file; or a source, which is sampled.
        sampling: which frames, as `"start:end:step"` in Python slice syntax; None for all.

    >>> frames = open_frames(np.zeros((10, 4, 6, 3), np.uint8), sampling="2::3")
    >>> len(frames), frames.size, list(frames.indices), frames.names[0]
    (3, (4, 6), [2, 5, 8], 'frame_000002')

    Raises:
        FrameError: nothing there, or nothing that can be read as frames.
        InputError: neither a path, an array nor an iterable.
        SettingError: a sampling that cannot be understood or takes no frame.
    """
    source = _open(path_or_array_or_iterable)
    if sampling is None:
        return source
    try:
        return source.select(sampled_positions(sampling, len(source)))
    except BaseException:
        if source is not path_or_array_or_iterable:
            source.close()
        raise


def _open(source: Any) -> FrameSource:
    if isinstance(source, FrameSource):
        return source
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source))
    from trackweave.frames.arrays import array_source

    return array_source(source)


def _open_path(path: Path) -> FrameSource:
    if path.is_dir():
        from trackweave.frames.images import ImageFolder

        return ImageFolder(path)
    if not path.is_file():
        raise FrameError(f"{path} does not exist: give a folder of images or a video file")
    if path.suffix.lower() == ".npy":
        return _open_npy(path)
    from trackweave.frames.images import IMAGE_SUFFIXES, TIFF_SUFFIXES, TiffPages, picture_count

    if path.suffix.lower() in TIFF_SUFFIXES:
        return TiffPages(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        if picture_count(path) == 1:
            raise FrameError(f"{path} is a single image: give the folder that holds the frames")
        if path.suffix.lower() == ".webp":
            raise FrameError(f"{path} is an animated WebP, which is not read as a video: convert it to MP4 or images")
    from trackweave.frames.video import VideoFile

    return VideoFile(path)


def _open_npy(path: Path) -> FrameSource:
    from trackweave.frames.arrays import ArrayFrames

    try:
        return ArrayFrames(map_npy(path), path=path)
    except (ValueError, OSError) as error:
        raise FrameError(f"{path} cannot be read as an array ({error}): save it with numpy.save") from None
