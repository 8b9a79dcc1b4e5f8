"""`ImageFolder` and `TiffPages`: frames that are image files, or the pages of one TIFF.

Images become `(H, W, 3)` uint8 RGB, whatever their orientation, palette, alpha channel or depth.
"""

from __future__ import annotations

import re
import struct
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from trackweave.errors import FrameError
from trackweave.frames.source import FrameCache, RGBFrame, WholeVideo, numbered_names, size_text

DECODE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, TypeError, struct.error, Image.DecompressionBombError)
"""What Pillow raises for files that it cannot read; SyntaxError and struct.error come from broken PNG and TIFF."""

IMAGE_KINDS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
"""Pillow's names of the formats of frames."""


def open_image(file: Path, kinds: tuple[str, ...] = IMAGE_KINDS) -> Image.Image:
    """Opens an image of one of the kinds, whatever its name says; nothing is decoded yet.

    The only place that opens pictures: Pillow left to itself takes the decoder that the content asks for, which for
    PostScript starts another program.

    Raises:
        OSError, or another of `DECODE_ERRORS`: it cannot be read, or is of another kind.
    """
    try:
        return Image.open(file, formats=kinds)
    except UnidentifiedImageError:
        names = " or ".join((", ".join(kinds[:-1]), kinds[-1]) if len(kinds) > 1 else kinds)
        raise UnidentifiedImageError(f"not a {names} file") from None


_PERCENTILES = (0.1, 99.9)
_WINDOW_PIXELS = 250_000


class IntensityWindow(NamedTuple):
    """Grey values that become 0 and 255; those outside are clipped."""

    low: float
    high: float


def decoded_image(image: Image.Image) -> NDArray[Any]:
    """Decodes an image, upright by its EXIF orientation.

    Returns:
        `(H, W, 3)` uint8 RGB for images of up to 8 bits per channel and for deeper colour (high byte kept), and
        `(H, W)` in the image's own depth for deeper grey, which needs an `IntensityWindow`.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        return np.asarray(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB warns, and may give transparent pixels another colour
    return np.array(image.convert("RGB"))


def intensity_window(images: Iterable[NDArray[Any]]) -> IntensityWindow:
    """The window from the 0.1 to the 99.9 percentile of the finite grey values of all images together.

    Colour images do not count; of large images, evenly spread pixels do.
    """
    samples = [values.ravel()[:: max(1, values.size // _WINDOW_PIXELS)] for values in images if values.ndim == 2]
    values = np.concatenate([np.empty(0), *samples])
    values = values[np.isfinite(values)]
    if not values.size:
        return IntensityWindow(0.0, 1.0)
    low, high = np.percentile(values, _PERCENTILES)
    return IntensityWindow(float(low), float(high))


def to_rgb(values: NDArray[Any], window: IntensityWindow | None) -> RGBFrame:
    """`(H, W, 3)` uint8 as it is; `(H, W)` grey of any depth through its window, one value for all three channels.

    >>> to_rgb(np.array([[0, 500, 1000, 4000]], np.uint16), IntensityWindow(0, 1000))[0, :, 0].tolist()
    [0, 128, 255, 255]
    """
    if window is None:
        return values
    span = window.high - window.low
    scaled = (values.astype(np.float64) - window.low) * (255 / span if span > 0 else 0.0)
    grey = np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(grey[..., None], (*grey.shape, 3)))


TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", *TIFF_SUFFIXES)
CACHE_BYTES = 128 * 2**20
WINDOW_SAMPLES = 8


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key that reads numbers as numbers, so `frame2` comes before `frame10`; case does not count.

    >>> sorted(["b1", "a10", "A2", "a02"], key=natural_key)
    ['A2', 'a02', 'a10', 'b1']
    """
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if odd % 2 else part for odd, part in enumerate(parts)], name


def image_files(folder: Path) -> list[Path]:
    """The folder's images in natural order; hidden files (such as macOS's `._name.jpg`) and subfolders do not count."""
    files = (f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))
    return sorted((f for f in files if f.is_file()), key=lambda f: natural_key(f.name))


class _StillFrames(WholeVideo):
    """Base of the sources made of still images: caching, the common size, and the window of deep images.

    Subclasses open still number k, and name it in an error.
    """

    def __init__(self, path: Path, names: Sequence[str], cache_bytes: int) -> None:
        self.path: Path | None = path
        self.cache = FrameCache(cache_bytes)
        self._names = tuple(names)
        self._size: tuple[int, int] | None = None
        self._window: IntensityWindow | None = None
        self._lock = RLock()

    @abstractmethod
    def _load(self, position: int) -> Image.Image:
        """Opens one still; raises one of `DECODE_ERRORS`."""

    @abstractmethod
    def _describe(self, position: int) -> str:
        """The still's name in an error."""

    def __len__(self) -> int:
        return len(self._names)

    @property
    def names(self) -> Sequence[str]:
        return self._names

    @property
    def size(self) -> tuple[int, int]:
        with self._lock:
            if self._size is None:
                self._size = self._first_readable_size()
            return self._size

    def close(self) -> None:
        self.cache.clear()

    def _read(self, position: int) -> RGBFrame:
        frame = self.cache.get(position)
        if frame is None:
            frame = self._decode(position)
            self._check_size(position, frame)
            self.cache.put(position, frame)
        return frame

    def _decode(self, position: int) -> RGBFrame:
        values = self._values(position)
        return to_rgb(values, None if values.ndim == 3 else self._deep_window())

    def _values(self, position: int) -> NDArray[Any]:
        try:
            return decoded_image(self._load(position))
        except DECODE_ERRORS as error:
            what = self._describe(position)
            raise FrameError(f"{what} cannot be read as an image ({error}): restore the file or leave it out") from None

    def _check_size(self, position: int, frame: RGBFrame) -> None:
        size, expected = frame.shape[:2], self.size
        if size != expected:
            raise FrameError(
                f"{self._describe(position)} is {size_text(size)}, but the first frame is {size_text(expected)}: "
                "all frames need one size"
            )

    def _first_readable_size(self) -> tuple[int, int]:
        faults = []
        for position in range(len(self)):
            frame = self._decode_or_fault(position)
            if not isinstance(frame, FrameError):
                self.cache.put(position, frame)
                height, width = frame.shape[:2]
                return height, width
            faults.append(frame)
        raise FrameError(f"{self.path}: none of the {len(self)} images can be read; the first: {faults[0]}")

    def _decode_or_fault(self, position: int) -> RGBFrame | FrameError:
        try:
            return self._decode(position)
        except FrameError as error:
            return error

    def _deep_window(self) -> IntensityWindow:
        # One window for the whole source, never one per frame: the same tissue must look the same in every frame.
        with self._lock:
            if self._window is None:
                self._window = intensity_window(self._sampled_values())
            return self._window

    def _sampled_values(self) -> Iterator[NDArray[Any]]:
        last, count = len(self) - 1, min(WINDOW_SAMPLES, len(self))
        for position in sorted({round(k * last / max(count - 1, 1)) for k in range(count)}):
            with suppress(FrameError):  # reading that frame reports it
                yield self._values(position)


class ImageFolder(_StillFrames):
    """The images of one folder as frames, in numeric-aware order of their names.

    JPEG, PNG, TIFF (its first page), WebP and BMP. EXIF rotation is applied, alpha is dropped, palettes and grey become
    RGB. Grey images deeper than 8 bits (16-bit, 32-bit, float) are scaled to 8 linearly by *one* window for the whole
    folder: the 0.1 and 99.9 percentiles of up to eight files spread over it. Of 16-bit colour the high byte is kept.

    The frame size is that of the first readable file. The last frames used stay decoded, up to `cache_bytes`.

    Raises:
        FrameError: no image in the folder, or two images of the same stem (`0001.jpg` beside `0001.png`).
    """

    def __init__(self, folder: str | Path, *, cache_bytes: int = CACHE_BYTES) -> None:
        folder = Path(folder)
        try:
            self._files = image_files(folder)
        except OSError as error:
            raise FrameError(f"{folder} cannot be listed ({error.strerror}): is it a folder you may read?") from None
        if not self._files:
            raise FrameError(_no_images(folder))
        _refuse_equal_stems(folder, self._files)
        super().__init__(folder, [file.name for file in self._files], cache_bytes)

    def _load(self, position: int) -> Image.Image:
        with open_image(self._files[position]) as image:
            image.load()
            return image

    def _describe(self, position: int) -> str:
        return str(self._files[position])


class TiffPages(_StillFrames):
    """The pages of one TIFF file as frames, scaled as in `ImageFolder`; `names` are `frame_NNNNNN`.

    Raises:
        FrameError: not a TIFF file.
    """

    def __init__(self, path: str | Path, *, cache_bytes: int = CACHE_BYTES) -> None:
        path = Path(path)
        try:
            self._image = open_image(path, ("TIFF",))
            pages = int(getattr(self._image, "n_frames", 1))
        except DECODE_ERRORS as error:
            raise FrameError(f"{path} cannot be read as a TIFF ({error}): restore the file") from None
        super().__init__(path, numbered_names(pages), cache_bytes)

    def _load(self, position: int) -> Image.Image:
        with self._lock:
            self._image.seek(position)
            return self._image.copy()

    def _describe(self, position: int) -> str:
        return f"{self.path} page {position}"

    def close(self) -> None:
        super().close()
        self._image.close()


def _no_images(folder: Path) -> str:
    kinds = ", ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
    subfolders = sorted((f for f in folder.iterdir() if f.is_dir()), key=lambda f: natural_key(f.name))
    better = next((sub for sub in subfolders if image_files(sub)), None)
    hint = f"; did you mean {better}?" if better else ": give a folder that holds the frames, or a video file"
    return f"{folder} has no images ({kinds}){hint}"


def _refuse_equal_stems(folder: Path, files: list[Path]) -> None:
    # 0001.jpg beside 0001.png is mostly a mask beside its image: as frames they would alternate.
    stem, count = Counter(file.stem for file in files).most_common(1)[0]
    if count > 1:
        names = " and ".join(file.name for file in files if file.stem == stem)
        raise FrameError(f"{folder} holds {names}: keep one image per frame, and masks in a folder of their own")
