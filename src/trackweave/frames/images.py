"""`ImageFolder` and `TiffPages`: frames that are image files, or the pages of one TIFF.

Images become `(H, W, 3)` uint8 RGB, whatever their orientation, palette, alpha channel or depth.
"""

from __future__ import annotations

import re
import struct
import unicodedata
import warnings
import zlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from threading import Lock, RLock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from trackweave.errors import FrameError
from trackweave.frames.source import FrameCache, RGBFrame, SourceNote, WholeVideo, numbered_names, size_text

DECODE_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, ArithmeticError, struct.error, zlib.error),
    *(AttributeError, RuntimeError, Image.DecompressionBombError),
)
"""What Pillow raises for files that it cannot read; most of it comes from broken PNG and TIFF."""
MOST_INFLATED = 1032
"""Bytes that one byte of deflate data, of which PNG files are made, stands for at most."""

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
        with _PILLOW, warnings.catch_warnings():
            # Frames may be large; from twice the size of this warning on Pillow raises.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file, formats=kinds)
    except UnidentifiedImageError:
        names = " or ".join((", ".join(kinds[:-1]), kinds[-1]) if len(kinds) > 1 else kinds)
        raise UnidentifiedImageError(f"not a {names} file") from None
    least = image.width * image.height * _BYTES.get(image.mode, 1 / 8)
    if image.format == "PNG" and least > MOST_INFLATED * file.stat().st_size:
        image.close()
        raise OSError(f"{image.width}×{image.height} pixels do not fit into the file: it is damaged")
    return image


_PILLOW = Lock()
"""The filters of warnings are the process's: no two threads change them at once."""
_BYTES = {"RGB": 3, "RGBA": 4, "LA": 2, "I;16": 2, "I": 2}
"""Bytes of a pixel; of other modes it has a bit at least."""


_PERCENTILES = (0.1, 99.9)
_WINDOW_PIXELS = 250_000
_DEEPEST = 65535
_TAIL = 1 << 16
"""Bytes at the end of a file in which its end is looked for; some cameras write more behind it."""
_TIFF_BITS, _ORIENTATION = 258, 0x0112


class IntensityWindow(NamedTuple):
    """Grey values that become 0 and 255; those outside are clipped."""

    low: float
    high: float


def picture_count(file: Path) -> int:
    """Pictures in one file, such as pages of a TIFF or of an animation; 1 for a file that cannot be read.

    Pages of another size (thumbnails, pyramids) and the second views of JPEG files do not count.
    """
    try:
        with open_image(file) as image:
            count = int(getattr(image, "n_frames", 1)) if image.format in ("PNG", "TIFF", "WEBP") else 1
            size = image.size
            if count > 1:
                image.seek(1)
            return count if image.size == size else 1
    except DECODE_ERRORS:
        return 1


class Still(NamedTuple):
    """An image of a source, decoded by Pillow.

    Attributes:
        image: what Pillow has made of it.
        is_deep_colour: whether the file has more than 8 bits per channel of colour, of which Pillow keeps 8.
    """

    image: Image.Image
    is_deep_colour: bool


def loaded_still(image: Image.Image) -> Still:
    """Decodes an opened image; raises one of `DECODE_ERRORS`."""
    bits: Any = getattr(image, "tag_v2", {}).get(_TIFF_BITS, ()) if image.format == "TIFF" else ()
    modes = [str(tile[3]) for tile in getattr(image, "tile", ())] if image.format == "PNG" else []
    is_deep = any(";16" in mode for mode in modes) or max((*np.atleast_1d(bits), 0)) > 8
    image.load()
    return Still(image, is_deep and image.mode in ("RGB", "RGBA", "RGBX", "LA"))


def decoded_image(image: Image.Image) -> NDArray[Any]:
    """The values of an image, upright by its EXIF orientation.

    Returns:
        `(H, W, 3)` uint8 RGB for images of up to 8 bits per channel, and `(H, W)` in the image's own depth for deeper
        grey, which needs an `IntensityWindow`.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        return np.asarray(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB warns, and may give transparent pixels another colour
    return np.array(image.convert("RGB"))


def deep_colour(stored: NDArray[Any] | None, image: Image.Image) -> NDArray[np.uint16]:
    """`(H, W, 3)` uint16 RGB, upright by the image's EXIF orientation.

    Args:
        stored: what OpenCV has read, BGR; None where it cannot.
        image: the same by Pillow, which has only the high bytes.
    """
    if stored is None or stored.dtype != np.uint16 or stored.shape[:2] != (image.height, image.width):
        return decoded_image(image).astype(np.uint16) * 257
    colour = stored[..., 2::-1] if stored.ndim == 3 else np.repeat(stored[..., None], 3, axis=2)
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation in (5, 6, 7, 8):
        colour = colour.swapaxes(0, 1)
    down = -1 if orientation in (3, 4, 7, 8) else 1
    right = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(colour[::down, ::right])


def intensity_window(images: Iterable[NDArray[Any]]) -> IntensityWindow:
    """The window from the 0.1 to the 99.9 percentile of the finite values of all deep images together.

    All channels of colour count alike, 8-bit images not at all; of large images, evenly spread values do.
    """
    deep = (values.ravel() for values in images if is_deep(values))
    samples = [values[:: max(1, values.size // _WINDOW_PIXELS)] for values in deep]
    values = np.concatenate([np.empty(0), *samples])
    values = values[np.isfinite(values)]
    if not values.size:
        return IntensityWindow(0.0, 1.0)
    low, high = np.percentile(values, _PERCENTILES)
    return IntensityWindow(float(low), float(high))


def is_deep(values: NDArray[Any]) -> bool:
    """Whether an image needs an `IntensityWindow` to become a frame."""
    return values.ndim == 2 or values.dtype != np.uint8


def to_rgb(values: NDArray[Any], window: IntensityWindow | None) -> RGBFrame:
    """`(H, W, 3)` uint8 as it is; deeper colour, and `(H, W)` grey of any depth, through its window.

    >>> to_rgb(np.array([[0, 500, 1000, 4000]], np.uint16), IntensityWindow(0, 1000))[0, :, 0].tolist()
    [0, 128, 255, 255]
    """
    if window is None:
        return values
    span = window.high - window.low
    scaled = (values.astype(np.float64) - window.low) * (255 / span if span > 0 else 0.0)
    byte = np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255).round().astype(np.uint8)
    return byte if byte.ndim == 3 else np.ascontiguousarray(np.broadcast_to(byte[..., None], (*byte.shape, 3)))


TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", *TIFF_SUFFIXES)
OTHER_IMAGES = re.compile(
    r"\.(heic|heif|hif|avif|jxl|gif|apng|ppm|pgm|pbm|pnm|pam|pfm|jp2|j2k|jpf|jpx|jpm|j2c|exr|hdr|dpx|cin|tga|dds|pcx|"
    r"sgi|rgb|ras|xbm|xpm|qoi|psd|eps|fits?|dcm|jls|jps|mpo|wdp|jxr|dng|cr2|cr3|crw|nef|nrw|arw|raf|orf|rw2|pef|srw)",
    re.IGNORECASE,
)
"""Suffixes of images that are not read."""
CACHE_BYTES = 128 * 2**20
WINDOW_SAMPLES = 8


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key that reads numbers as numbers, so `frame2` comes before `frame10`; case does not count.

    >>> sorted(["b1", "a10", "A2", "a02"], key=natural_key)
    ['A2', 'a02', 'a10', 'b1']
    """
    name = unicodedata.normalize("NFC", name)  # one letter has two spellings, and file systems that keep both
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if odd % 2 else part for odd, part in enumerate(parts)], name


def in_order(files: Iterable[Path]) -> list[Path]:
    """Files in the order of their names: by value where each name is one decimal number, else naturally.

    Digits behind a point are a fraction there, as in time stamps of different length; a prefix that all share does
    not matter before numbers of six digits and more. Where two would have one value (shot 1.1 and 1.10) the parts
    are numbers of their own.

    >>> [path.name for path in in_order(map(Path, ["12.8.png", "12.76.png", "-1.5.png"]))]
    ['-1.5.png', '12.76.png', '12.8.png']
    """
    files = sorted(files, key=lambda file: natural_key(file.name))
    matches = [re.fullmatch(r"(|\D*[^\d.+-])([+-]?)(\d+)(\.\d+)?", file.stem, re.ASCII) for file in files]
    numbers = [match for match in matches if match is not None]
    prefixes = {match[1] for match in numbers}
    if len(numbers) < len(files) or len(prefixes) > 1:
        return files
    if prefixes != {""} and any(len(match[3]) < 6 or match[2] for match in numbers):
        return files
    values = [Decimal(f"{match[2]}{match[3]}{match[4] or ''}") for match in numbers]
    if len(set(values)) < len(values) and any(match[4] for match in numbers):
        return files
    return [file for _, file in sorted(zip(values, files, strict=True), key=lambda pair: pair[0])]


def image_files(folder: Path) -> list[Path]:
    """The folder's images in order; hidden files (such as macOS's `._name.jpg`) and subfolders do not count."""
    return in_order(_files(folder, lambda suffix: suffix.lower() in IMAGE_SUFFIXES))


def _files(folder: Path, is_wanted: Callable[[str], object]) -> list[Path]:
    """The folder's visible files whose suffix is wanted."""
    files = [file for file in folder.iterdir() if is_wanted(file.suffix) and not file.name.startswith(".")]
    # A link to a file that is gone is a frame that cannot be read: left out in silence it would move every later one.
    return [file for file in files if file.is_file() or (file.is_symlink() and not file.exists())]


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
    def _load(self, position: int) -> Still:
        """Opens one still; raises one of `DECODE_ERRORS`."""

    @abstractmethod
    def _load_deep(self, position: int) -> NDArray[Any] | None:
        """The same by OpenCV, at its own depth, BGR; None when that cannot read it."""

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
            frame = self.cache.put(position, frame)
        return frame

    def _decode(self, position: int) -> RGBFrame:
        values = self._values(position)
        return to_rgb(values, self._deep_window() if is_deep(values) else None)

    def _values(self, position: int) -> NDArray[Any]:
        try:
            still = self._load(position)
            if still.is_deep_colour:
                return deep_colour(self._load_deep(position), still.image)
            return decoded_image(still.image)
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

    @property
    def notes(self) -> Sequence[SourceNote]:
        note = self._note_of_dark_colour()
        return () if note is None else (note,)

    def _note_of_dark_colour(self) -> SourceNote | None:
        """Deep colour whose brightest sample lies in the lower half of the range, as 10 and 12 bits in 16 do."""
        try:
            if not self._load(0).is_deep_colour:
                return None
        except DECODE_ERRORS:
            return None
        samples = [values for values in self._sampled_values() if values.dtype == np.uint16]
        brightest = max((int(values.max()) for values in samples), default=_DEEPEST)
        if brightest > _DEEPEST // 2:
            return None
        window = self._deep_window()
        text = f"{self.path}: the brightest value of its 16-bit images is {brightest} of {_DEEPEST}"
        scaled = f"{window.low:g} … {window.high:g} became 0 … 255 in all frames"
        return SourceNote("deep-range", f"{text}: {scaled}; save them at 8 bits to choose otherwise", 0)


class ImageFolder(_StillFrames):
    """The images of one folder as frames, in numeric-aware order of their names.

    JPEG, PNG, TIFF (its first page), WebP and BMP. EXIF rotation is applied, alpha is dropped, palettes and grey become
    RGB. Images deeper than 8 bits (16-bit grey and colour, 32-bit and float grey) are scaled to 8 linearly by *one*
    window for the whole folder: the 0.1 and 99.9 percentiles of up to eight files spread over it. `notes` tell of
    images of other kinds, which are not frames.

    The frame size is that of the first readable file. The last frames used stay decoded, up to `cache_bytes`.

    Args:
        folder: of the images.
        cache_bytes: of decoded frames that are kept.
        files: some of its images, in their order; the others are not looked at. None: all.

    Raises:
        FrameError: no image in the folder, a run folder, two images of the same stem (`0001.jpg` beside `0001.png`), or
            two series in one folder (`0001_left.png` beside `0001_right.png`).
    """

    def __init__(
        self, folder: str | Path, *, cache_bytes: int = CACHE_BYTES, files: Sequence[Path] | None = None
    ) -> None:
        folder = Path(folder)
        self._folder = folder
        self._is_whole = files is None
        if files is not None:
            self._files = list(files)
            super().__init__(folder, [file.name for file in self._files], cache_bytes)
            return
        try:
            self._files = image_files(folder)
        except OSError as error:
            raise FrameError(f"{folder} cannot be listed ({error.strerror}): is it a folder you may read?") from None
        if len(self._files) <= 1 and all((folder / name).is_file() for name in ("manifest.json", "summary.json")):
            raise FrameError(f"{folder} is a run folder, it holds no frames: give the video that the run was made of")
        if not self._files:
            raise FrameError(_no_images(folder))
        _refuse_equal_stems(folder, self._files)
        _refuse_two_series(folder, self._files)
        super().__init__(folder, [file.name for file in self._files], cache_bytes)

    @property
    def files(self) -> Sequence[Path]:
        return self._files

    @property
    def notes(self) -> Sequence[SourceNote]:
        return (*self._notes_of_other_kinds(), *self._notes_of_stacks(), *super().notes)

    def _notes_of_stacks(self) -> tuple[SourceNote, ...]:
        file = self._files[0]
        count = picture_count(file)  # of the first alone: opening every file of a long video takes long
        if count == 1:
            return ()
        is_alone = len(self._files) == 1 and file.suffix.lower() != ".webp"
        remedy = "give that file itself, not its folder" if is_alone else "save them as files of their own"
        text = f"{file} holds {count} pictures, of which the first alone is a frame: {remedy}"
        return (SourceNote("pictures-not-read", text, count - 1),)

    def _notes_of_other_kinds(self) -> tuple[SourceNote, ...]:
        others = sorted(file.name for file in _files(self._folder, OTHER_IMAGES.fullmatch)) if self._is_whole else []
        if not others:
            return ()
        named = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        kinds = "its kind is" if len(others) == 1 else "their kinds are"
        text = f"{self._folder}: {named}: {kinds} not read: convert to PNG or JPEG, or move away what is no frame"
        return (SourceNote("image-not-read", text, len(others)),)

    def _load(self, position: int) -> Still:
        with open_image(self._files[position]) as image:
            return loaded_still(image)

    def fault(self, local: int) -> str | None:
        file = self._files[local]
        try:
            with open_image(file) as image:
                # For orientation behind the pixels Pillow would decode a PNG: then its size is looked at below.
                exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
                turned = exif.get(_ORIENTATION, 1) in (5, 6, 7, 8)
                size = image.size if turned else image.size[::-1]
                if size == self.size and _looks_whole(file, image):
                    return None
        except DECODE_ERRORS:
            pass
        try:
            self._read(local)  # what looks damaged may be read all the same
        except FrameError as error:
            return str(error)
        return None

    def _load_deep(self, position: int) -> NDArray[Any] | None:
        import cv2

        return cv2.imdecode(np.fromfile(self._files[position], np.uint8), cv2.IMREAD_UNCHANGED)

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

    def _load(self, position: int) -> Still:
        with self._lock:
            self._image.seek(position)
            still = loaded_still(self._image)
            return still._replace(image=self._image.copy())

    def _load_deep(self, position: int) -> NDArray[Any] | None:
        import cv2

        pages = cv2.imreadmulti(str(self.path), position, 1, flags=cv2.IMREAD_UNCHANGED)[1]
        return pages[0] if pages else None

    def _describe(self, position: int) -> str:
        return f"{self.path} page {position}"

    def close(self) -> None:
        super().close()
        self._image.close()


def _looks_whole(file: Path, image: Image.Image) -> bool:
    """Does a file end as its kind does, and are the checksums of a PNG right? Raises one of `DECODE_ERRORS` if not."""
    with file.open("rb") as stream:
        head = stream.read(8)
        length = stream.seek(0, 2)
        stream.seek(max(0, length - _TAIL))
        tail = stream.read()
    if image.format == "JPEG":
        return b"\xff\xd9" in tail
    if image.format in ("WEBP", "BMP"):
        promised = (
            int.from_bytes(head[4:], "little") + 8 if image.format == "WEBP" else int.from_bytes(head[2:6], "little")
        )
        return promised <= length
    image.verify()
    return image.format != "PNG" or b"IEND" in tail


def _no_images(folder: Path) -> str:
    kinds = ", ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
    subfolders = sorted((f for f in folder.iterdir() if f.is_dir()), key=lambda f: natural_key(f.name))
    better = next((sub for sub in subfolders if image_files(sub)), None)
    hint = f"; did you mean {better}?" if better else ": give a folder that holds the frames, or a video file"
    return f"{folder} has no images ({kinds}){hint}"


def _refuse_equal_stems(folder: Path, files: list[Path]) -> None:
    stems = {file.stem for file in files}
    for file in files:
        copied = re.fullmatch(r"(.*\S) ?\(\d+\)", file.stem)
        if copied is not None and copied[1] in stems:
            original = next(other.name for other in files if other.stem == copied[1])
            raise FrameError(f"{folder} holds {original} and {file.name}, a copy: keep one image per frame")
    # 0001.jpg beside 0001.png is mostly a mask beside its image: as frames they would alternate.
    stem, count = Counter(file.stem for file in files).most_common(1)[0]
    if count > 1:
        names = " and ".join(file.name for file in files if file.stem == stem)
        raise FrameError(f"{folder} holds {names}: keep one image per frame, and masks in a folder of their own")


def _refuse_two_series(folder: Path, files: list[Path]) -> None:
    # Colour beside depth, left beside right, masks beside images: as frames they would alternate.
    parts = {file: _words_and_numbers(file.stem) for file in files}
    if all(re.fullmatch(r"[+-]?\d+(\.\d+)?", file.stem) for file in files):
        return
    words, count = Counter(word for word, _ in parts.values()).most_common(1)[0]
    series = {numbers: file for file, (word, numbers) in parts.items() if word == words}
    if 4 * count < len(files) or () in series:  # names without a system
        return
    for file, (word, numbers) in parts.items():
        if word != words and numbers in series:
            raise FrameError(
                f"{folder} holds {series[numbers].name} and {file.name}, two series of images: "
                "give each a folder of its own"
            )
    unnumbered = [file for file, (_, numbers) in parts.items() if not numbers]
    if unnumbered and count > 1 and 2 * count >= len(files):
        raise FrameError(
            f"{folder} holds {unnumbered[0].name} among numbered frames such as {min(series.values()).name}: "
            "move what is no frame to a folder of its own"
        )


def _words_and_numbers(stem: str) -> tuple[str, tuple[int, ...]]:
    """A name with `#` for its numbers, and these; the number of a camera belongs to the words.

    >>> _words_and_numbers("cam2_0017.depth")
    ('cam2_#.depth', (17,))
    """
    number = r"(?<!cam)(?<!cam[_-])(?<!camera)(?<!camera[_-])(?<!view)(?<!view[_-])(?<![0-9])[0-9]+"
    name = stem.casefold()
    return re.sub(number, "#", name), tuple(int(text) for text in re.findall(number, name))
