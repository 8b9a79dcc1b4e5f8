"""DAVIS label images: indexed PNGs, or grey ones of 16 bits, in which value k is object k and 0 the background."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import ArtifactError, PromptError, shortened, shortened_line
from trackweave.masks.ops import crop_at
from trackweave.storage.files import replacing, safe_name
from trackweave.structures.run_log import RunLog
from trackweave.structures.tracks import FrameObjects

VOID = 255
"""The label of pixels that evaluation ignores, in images of 8 bits: no object can have it there."""
LARGEST_LABEL = 65535
"""The largest label of a PNG."""
Labels = NDArray[np.uint8] | NDArray[np.uint16]
"""`(H, W)`, the object at each pixel, or 0."""

LABEL_KINDS = ("PNG", "TIFF", "BMP", "GIF", "PPM", "JPEG", "WEBP")
"""Pillow's names of the formats that label images are looked for in."""
LOSSY = {"JPEG", "MPO", "WEBP"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif"}


def davis_palette() -> NDArray[np.uint8]:
    """`(256, 3)` uint8 RGB, the palette of DAVIS and PASCAL VOC: the bits of the label, dealt out to the channels.

    >>> davis_palette()[:4].tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    labels = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        palette |= (((labels[:, None] >> (3 * bit + np.arange(3))) & 1) << (7 - bit)).astype(np.uint8)
    return palette


@dataclass(frozen=True)
class LabelPixels:
    """A label image.

    Attributes:
        labels: `(H, W)` integers, palette indices or grey values; int32 when read from a file.
        is_eight_bit: a pixel has 8 bits or fewer; only then does 255 mean void.
    """

    labels: NDArray[np.integer[Any]]
    is_eight_bit: bool

    @property
    def white(self) -> int:
        """The largest value of a pixel: the object in a black and white mask."""
        return 255 if self.is_eight_bit else 65535

    @property
    def void(self) -> NDArray[np.bool_]:
        """`(H, W)` bool, the pixels that evaluation ignores."""
        return np.asarray(self.labels == VOID if self.is_eight_bit else np.zeros(self.labels.shape, np.bool_))


def read_label_png(path: Path | str) -> NDArray[np.int32]:
    """The labels of `read_label_pixels`, `(H, W)` int32."""
    return np.asarray(read_label_pixels(path).labels, np.int32)


def read_label_pixels(path: Path | str) -> LabelPixels:
    """A label image: palette indices, or grey values of 8 or 16 bits.

    Raises:
        PromptError: missing, not an image, stored with loss, or a colour image.
    """
    path = Path(path)
    pixels, kind = _read_pixels(path)
    if kind in LOSSY:
        raise PromptError(f"{path}: {kind} blurs labels; save the label image as PNG")
    if pixels.ndim == 3:
        colours = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1]
        if np.any(colours != colours[..., :1]):
            raise PromptError(
                f"{path}: a colour image, not labels; save it as an indexed or grey PNG whose value k is object k"
            )
        pixels = colours[..., 0]
    return LabelPixels(pixels.astype(np.int32), pixels.dtype.itemsize == 1)


def write_label_png(path: Path | str, labels: Labels, palette: NDArray[np.uint8] | None = None) -> None:
    """Writes an indexed PNG, or a grey one of 16 bits, whole or not at all.

    Args:
        path: the file to write; folders above it are made.
        labels: `(H, W)` uint8, or uint16 for a grey image.
        palette: `(256, 3)` uint8 RGB of an indexed one; the DAVIS palette when left out.

    Raises:
        ValueError: labels of another shape or dtype.
        ArtifactError: the file cannot be written.
    """
    from PIL import Image

    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16) or labels.size == 0:
        raise ValueError(f"labels are (H, W) uint8 or uint16, not {labels.shape} {labels.dtype}")
    image = Image.fromarray(np.ascontiguousarray(labels))
    if labels.dtype == np.uint8:
        image.putpalette((davis_palette() if palette is None else palette).tobytes())
    with replacing(Path(path)) as temporary:
        image.save(temporary, format="PNG")


def flatten_labels(
    objects: FrameObjects, size: tuple[int, int], numbers: Mapping[int, int] | None = None, bits: int | None = None
) -> Labels:
    """One frame's objects as a label map; where objects overlap, the one of the smaller area is on top.

    Args:
        objects: masks at any scale.
        size: `(H, W)` of the label map.
        numbers: label of each id; None: the id itself.
        bits: 8 or 16 of a label; None: 16 where the labels need them.

    Returns:
        `(H, W)` uint8 or uint16, the object's label, or 0.

    Raises:
        ArtifactError: a label that the bits cannot hold (255 means void in 8 bits).
    """
    ids = objects.track_id if numbers is None else np.array([numbers[i] for i in objects.track_id.tolist()], np.int64)
    if bits is None:
        bits = 16 if len(ids) and ids.max() >= VOID else 8
    largest = VOID - 1 if bits == 8 else LARGEST_LABEL
    beyond = ids[(ids < 1) | (ids > largest)]
    if len(beyond):
        some = ", ".join(str(int(track_id)) for track_id in beyond[:5])
        advice = "" if numbers is not None else "; --ids level numbers the objects of the level from 1"
        if bits == 8:
            advice = f"; --bits 16 holds {LARGEST_LABEL}{advice.replace(';', ',', 1)}"
        raise ArtifactError(
            f"frame {objects.name}: {len(beyond)} object ids do not fit a label image of {bits} bits (1 … {largest}), "
            f"such as {some}{advice}"
        )
    labels: Labels = np.zeros(size, np.uint8) if bits == 8 else np.zeros(size, np.uint16)
    for n in np.argsort(-objects.area, kind="stable"):
        crop = crop_at(objects.masks, int(n), size)
        if crop is not None:
            labels[crop.window][crop.inside.view(np.bool_)] = ids[n]
    return labels


def export_davis(
    frames: Iterable[FrameObjects],
    out_dir: Path | str,
    size: tuple[int, int],
    names: Sequence[str] | None = None,
    *,
    numbers: Mapping[int, int] | None = None,
    bits: int | None = None,
    log: RunLog | None = None,
) -> list[Path]:
    """Writes `OUT/<frame stem>.png` for every frame, an all-zero one where nothing is visible.

    All images are indexed, of 8 bits, or all are grey, of 16. The folder is filled only when every frame could be made:
    after a failure it is what it was. Nothing in it is deleted.

    Args:
        frames: the frames with objects, read one at a time.
        out_dir: folder to write to, made when missing.
        size: `(H, W)` of the label images.
        names: names of all frames of the video; those that `frames` leaves out become empty label images.
        numbers: label of each id; None: the id itself.
        bits: 8 or 16 of a label; None: 16 when a label is above 254.
        log: takes the warnings: 16 bits that nobody asked for, label images of other frames in the folder.

    Returns:
        the files, in the order of `names`, else of `frames`.

    Raises:
        ArtifactError: ids that the bits cannot hold, two frames with one stem, a frame whose name cannot be a file's or
            that `names` does not list, or a folder that cannot be written.
    """
    out_dir, log = Path(out_dir), log or RunLog(package="formats")
    listed = None if names is None else _unique_stems(names, out_dir)
    written: list[str] = []
    depth = bits or 8
    staging = _staging_folder(out_dir)
    try:
        for objects in frames:
            stem = _file_stem(objects.name, out_dir)
            if listed is not None and stem not in listed:
                raise ArtifactError(f"{out_dir}: frame {objects.name} is none of the {len(listed)} frames to export")
            labels = flatten_labels(objects, size, numbers, bits if depth == 8 else 16)
            if labels.dtype == np.uint16 and depth == 8:
                depth = 16
                _widen(staging)
                log.warn(
                    "export", "wide-labels", f"{out_dir}: ids above {VOID - 1}: grey images of 16 bits, no palette"
                )
            write_label_png(staging / f"{stem}.png", labels)
            written.append(objects.name)
        stems = _unique_stems(written, out_dir)
        nothing: Labels = np.zeros(size, np.uint8) if depth == 8 else np.zeros(size, np.uint16)
        for stem in (listed or {}).keys() - stems.keys():
            write_label_png(staging / f"{stem}.png", nothing)
        files = [_publish(staging / f"{stem}.png", out_dir) for stem in (stems if listed is None else listed)]
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _warn_of_others(out_dir, files, log)
    return files


def _widen(folder: Path) -> None:
    """Writes the label images of a folder again, with 16 bits."""
    for path in folder.glob("*.png"):
        write_label_png(path, read_label_png(path).astype(np.uint16))


def _warn_of_others(out_dir: Path, files: Sequence[Path], log: RunLog) -> None:
    """Names the label images that were there before and are of no frame that was written."""
    others = sorted({path.name for path in out_dir.glob("*.png")} - {path.name for path in files})
    if others:
        some = ", ".join(others[:3]) + (" …" if len(others) > 3 else "")
        log.warn(
            "export",
            "other-label-images",
            f"{out_dir}: {len(others)} PNG files of other frames were there and stay: {some}; "
            "remove them, or export to an empty folder",
        )


def frame_stem(name: str) -> str:
    """A frame's name without folder and image suffix; other dots belong to the name.

    >>> frame_stem("a/00012.jpg"), frame_stem("clip.0012")
    ('00012', 'clip.0012')
    """
    base = Path(name)
    return base.stem if base.suffix.lower() in IMAGE_SUFFIXES else base.name


def _read_pixels(path: Path) -> tuple[NDArray[Any], str | None]:
    """Raw pixel values and the file's format."""
    from trackweave.frames.images import DECODE_ERRORS, open_image

    if not path.is_file():
        raise PromptError(f"{path}: no such file; give an indexed PNG whose value k is object k")
    try:
        with open_image(path, LABEL_KINDS) as image:
            return np.array(image), image.format
    except DECODE_ERRORS as error:
        reason = shortened_line(str(error)) if str(error) else type(error).__name__
        raise PromptError(f"{path}: cannot be read as an image ({reason}); give an indexed PNG") from error


def _file_stem(name: str, out_dir: Path) -> str:
    return safe_name(frame_stem(name), f"{out_dir}: frame", ArtifactError)


def _unique_stems(names: Iterable[str], out_dir: Path) -> dict[str, str]:
    """Each frame's file stem, in order, and the name it came from."""
    stems: dict[str, str] = {}
    for name in names:
        stem = _file_stem(name, out_dir)
        if stem in stems:
            raise ArtifactError(
                f"frames {shortened(stems[stem])} and {shortened(name)} would both be written to {stem}.png"
            )
        stems[stem] = name
    return stems


def _staging_folder(out_dir: Path) -> Path:
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".davis-", dir=out_dir))
    except OSError as error:
        raise ArtifactError(f"{out_dir}: cannot be written: {error.strerror or error}") from error


def _publish(file: Path, out_dir: Path) -> Path:
    try:
        return file.replace(out_dir / file.name)
    except OSError as error:
        raise ArtifactError(f"{out_dir / file.name}: cannot be written: {error.strerror or error}") from error
