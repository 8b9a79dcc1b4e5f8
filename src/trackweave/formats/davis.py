"""DAVIS label images: indexed PNGs, or grey ones of 16 bits, in which value k is object k and 0 the background."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import ArtifactError, InputError, PromptError, argument, shortened, shortened_line
from trackweave.ids import FrameIndex
from trackweave.masks.ops import crop_at
from trackweave.masks.packed import PackedMasks
from trackweave.storage.files import locked_folder, remove_leftovers, replacing, safe_name, scratch_folder
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.run_log import RunLog
from trackweave.structures.tracked_video import Losses, TrackedVideo, VideoInfo, shown_objects
from trackweave.structures.tracks import FrameObjects, Tracks

if TYPE_CHECKING:
    from PIL import Image

VOID = 255
"""The label of pixels that evaluation ignores, in images of 8 bits with a palette: no object can have it there."""
STAGING_PREFIX = ".davis-"
LARGEST_LABEL = 65535
"""The largest label of a PNG."""
Labels = NDArray[np.uint8] | NDArray[np.uint16]
"""`(H, W)`, the object at each pixel, or 0."""

LABEL_KINDS = ("PNG", "TIFF", "BMP", "GIF", "PPM", "JPEG", "WEBP")
"""Pillow's names of the formats that label images are looked for in."""
LOSSY = {"JPEG", "MPO", "WEBP"}
SOFT_OUTLINE = 0.5
"""A mask has soft edges where thin shades lie along this share of the outline of …"""
SOFT_BODY = 0.1
"""… a body of at least this share of the labelled pixels. On label images of DAVIS, DEVA, Cutie and Xiph at most 0.11
of an outline has them, on masks that were resized by area or linearly, or smoothed, 0.5 to 1."""
SOFT_LABELS = 8
"""Labels of an image with a palette from which on its edges are looked at; without a palette all are."""
MOST_THIN = 16
"""More labels than these in an image of which less than half is solid are shades."""
SAVE_HARD = "save the mask without smoothing (nearest neighbour), as 0 and 255"
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
        is_eight_bit: a pixel has 8 bits or fewer.
        has_palette: a file with a palette, which is made for labels; 255 means void only there, and only in 8 bits.
    """

    labels: NDArray[np.integer[Any]]
    is_eight_bit: bool
    has_palette: bool = False

    @classmethod
    def checked(cls, where: str, values: NDArray[Any], *, has_palette: bool = False) -> LabelPixels:
        """The pixels of an image, or a label map, where they are labels.

        Args:
            where: what to call it in a message.
            values: `(H, W)` bool, integers, or whole numbers of another type.
            has_palette: they are palette indices.

        Raises:
            PromptError: of another shape; not whole numbers from 0 on; or shades of grey (a mask with soft edges).
        """
        if values.ndim != 2 or values.dtype.kind not in "buif":
            raise PromptError(f"{where}: is {values.shape} {values.dtype}: a label map is (H, W) integers")
        labels = values
        if values.dtype.kind == "f":
            is_whole = bool(np.all(np.isfinite(values)) and np.all(values == np.floor(values)))
            if not is_whole or np.max(np.abs(values), initial=0) >= 2**31:
                raise PromptError(f"{where}: holds values such as {_odd_value(values):g}, not labels; {SAVE_HARD}")
            labels = values.astype(np.int32)
        if labels.dtype.kind in "if" and labels.min(initial=0) < 0:
            raise PromptError(f"{where}: holds {labels.min()}: a label is 0 or more")
        if labels.dtype.kind == "b":
            labels = labels.astype(np.uint8)  # Pillow has 255 for True
        _refuse_shades(where, labels, has_palette)
        return cls(labels, values.dtype.itemsize == 1, has_palette)

    @property
    def white(self) -> int:
        """The largest value of a pixel: the object in a black and white mask."""
        return 255 if self.is_eight_bit else 65535

    @property
    def void(self) -> NDArray[np.bool_]:
        """`(H, W)` bool, the pixels that evaluation ignores."""
        if self.is_eight_bit and self.has_palette:
            return np.asarray(self.labels == VOID)
        return np.zeros(self.labels.shape, np.bool_)


def read_label_png(path: Path | str) -> NDArray[np.int32]:
    """The labels of `read_label_pixels`, `(H, W)` int32."""
    return np.asarray(read_label_pixels(path).labels, np.int32)


def read_label_pixels(path: Path | str) -> LabelPixels:
    """A label image: palette indices, or grey values of 8 or 16 bits; a mask of one colour by its alpha channel.

    Raises:
        PromptError: missing, not an image, stored with loss, a colour image, or shades of grey instead of labels.
    """
    pixels = _read_pixels(Path(path))
    checked = LabelPixels.checked(str(path), pixels.labels, has_palette=pixels.has_palette)
    return replace(pixels, labels=checked.labels.astype(np.int32))


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
        advice = "" if numbers is not None else f"; {argument('ids', 'level')} numbers the objects of the level from 1"
        if bits == 8:
            advice = f"; {argument('bits', 16)} holds {LARGEST_LABEL}{advice.replace(';', ',', 1)}"
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
    with scratch_folder(out_dir, STAGING_PREFIX) as staging:
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
    _warn_of_others(out_dir, files, log)
    return files


ID_TABLE = "ids.csv"
ID_HEADER = "label,id"


def write_davis(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes a label image `FRAME.png` for each frame; with `ids="level"` numbered from 1 on, and a table of the ids.

    Raises:
        ArtifactError: as `export_davis`.
    """
    size = video.info.size
    if size is None:
        raise ArtifactError(f"{video.info.name}: the size of its frames is not known")
    with locked_folder(path, wait=True):  # two exports do not mix
        remove_leftovers([path])
        numbers = None if settings.ids == "run" else {n: k for k, n in enumerate(video.spans(), start=1)}
        names = dict(zip(video.info.indices, video.info.names, strict=True))
        objects = (
            shown
            for index, tracks in video.frames()
            if (shown := shown_objects(index, names[int(index)], tracks, losses, may_overlap=False)) is not None
        )
        listing, bits = list(video.info.names), settings.bits
        files = export_davis(objects, path, size, listing, numbers=numbers, bits=bits, log=losses.log)
        return [*files, *write_id_table(path, numbers)]


def write_id_table(folder: Path, numbers: Mapping[int, int] | None) -> list[Path]:
    """Writes which id each label is, as `ids.csv`; without numbers, removes the table of an earlier export."""
    table = folder / ID_TABLE
    if numbers is None:
        if _is_id_table(table):  # it would be taken for these images'
            table.unlink()
        return []
    with replacing(table) as temporary:
        rows = [ID_HEADER, *(f"{number},{track_id}" for track_id, number in numbers.items())]
        temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return [table]


def read_id_table(folder: Path) -> Mapping[int, int] | None:
    """Id by label, of the table that `write_id_table` left; None where there is none.

    Raises:
        InputError: it is damaged.
    """
    table = folder / ID_TABLE
    if not _is_id_table(table):
        return None
    try:
        rows = [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()[1:] if line]
        numbers = {int(label): int(track_id) for label, track_id in rows}
    except (OSError, ValueError) as error:
        raise InputError(f"{table}: cannot be read: {shortened_line(str(error))}") from error
    if len(set(numbers.values())) < len(numbers) or not all(0 <= n < 2**63 for n in numbers.values()):
        raise InputError(f"{table}: its ids are not those of different objects")
    return numbers


def _is_id_table(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(ID_HEADER) + 1) == f"{ID_HEADER}\n".encode()
    except OSError:
        return False


class LabelFolderVideo(TrackedVideo):
    """A folder of label images, read one at a time; label 255 of an image with a palette is no object.

    Args:
        folder: of `*.png`.
        hints: what is known of the video; its frames are those of the folder, unless these name the frames.
        classes: class by label, where labels or a list beside them say it; a label without one has none.
        ignored: labels that are no objects.
        is_sure: these are labels, whatever they look like; else shades of grey are refused.

    Raises:
        InputError: no label images, or none of the frames that the hints name.
    """

    def __init__(
        self,
        folder: Path,
        hints: VideoInfo | None = None,
        *,
        classes: Callable[[int], int] | None = None,
        ignored: Callable[[int], bool] | None = None,
        is_sure: bool = False,
    ) -> None:
        self._files = {path.stem: path for path in sorted(folder.glob("*.png")) if not path.name.startswith(".")}
        self._ids, self._classes, self._ignored = read_id_table(folder), classes, ignored
        self._is_sure = is_sure or self._ids is not None
        if not self._files:
            raise InputError(f"{folder}: holds no label images (*.png)")
        size = self._read(next(iter(self._files.values()))).labels.shape
        height, width = int(size[0]), int(size[1])
        name = folder.name or "video"
        if hints is None or not len(hints.names):
            self.info = VideoInfo(name, range(len(self._files)), list(self._files), (height, width))
        else:
            self.info = replace(hints, size=(height, width))
            if not self._files.keys() & set(map(frame_stem, hints.names)):
                first = frame_stem(hints.names[0])
                raise InputError(
                    f"{folder}: its images are named like {next(iter(self._files))}, the frames like {first}"
                )

    def frames(self, *, with_masks: bool = True) -> Iterator[tuple[FrameIndex, Tracks]]:
        """Every frame; one without an image has no objects."""
        for index, name in zip(self.info.indices, self.info.names, strict=True):
            path = self._files.get(frame_stem(name))
            tracks = Tracks.empty() if path is None else self._tracks(int(index), path)
            yield FrameIndex(int(index)), tracks if with_masks else replace(tracks, masks=None)

    def _read(self, path: Path) -> LabelPixels:
        if not self._is_sure:
            return read_label_pixels(path)
        pixels = _read_pixels(path)
        if pixels.labels.dtype.kind not in "bui":
            raise InputError(f"{path}: holds values of {pixels.labels.dtype}, which are no labels")
        return replace(pixels, labels=pixels.labels.astype(np.int32))

    def _tracks(self, index: int, path: Path) -> Tracks:
        image = self._read(path)
        labels = np.where(image.void, 0, image.labels)
        if labels.shape != self.info.size:
            height, width = self.info.size or (0, 0)
            raise InputError(f"{path}: is {labels.shape[1]}×{labels.shape[0]}, the others are {width}×{height}")
        present = [int(label) for label in np.unique(labels) if label > 0]
        if self._ignored is not None:
            present = [label for label in present if not self._ignored(label)]
        missing = [label for label in present if self._ids is not None and label not in self._ids]
        if missing:
            raise InputError(f"{path}: label {missing[0]} is not in {ID_TABLE}")
        if not present:
            return Tracks.empty()
        masks = PackedMasks.empty(*labels.shape, len(present))
        for row, label in enumerate(present):  # one unpacked mask at a time
            masks.bits[row] = np.packbits(labels == label)
        track_ids = [label if self._ids is None else self._ids[label] for label in present]
        classes = None if self._classes is None else [self._classes(label) for label in present]
        return Tracks.from_columns([index] * len(present), track_ids, masks.boxes, None, classes, masks)


def read_davis(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Opens a folder of label images.

    Raises:
        InputError: there are none.
    """
    return LabelFolderVideo(path, hints)


def _widen(folder: Path) -> None:
    """Writes the label images of a folder again, with 16 bits."""
    for path in folder.glob("*.png"):
        write_label_png(path, _read_pixels(path).labels.astype(np.uint16))


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


def _read_pixels(path: Path) -> LabelPixels:
    """The pixels of a label image, whatever they are."""
    from trackweave.frames.images import DECODE_ERRORS, loaded_still, open_image

    if path.is_dir():
        some = path / "00000.png"
        raise PromptError(f"{path}: is a folder; give label images (indexed PNG), such as {some}")
    if not path.is_file():
        raise PromptError(f"{path}: no such file; give an indexed PNG whose value k is object k")
    try:
        with open_image(path, LABEL_KINDS) as image:
            if image.format in LOSSY:
                raise PromptError(f"{path}: {image.format} blurs labels; save the label image as PNG")
            still = loaded_still(image)
            _refuse_inverted_palette(path, image)
            values = _all_bits(path, image) if still.is_deep_colour else np.array(image)
            has_alpha = image.mode in ("LA", "RGBA", "PA")
    except DECODE_ERRORS as error:
        reason = shortened_line(str(error)) if str(error) else type(error).__name__
        raise PromptError(f"{path}: cannot be read as an image ({reason}); give an indexed PNG") from error
    has_palette = image.mode in ("P", "PA")
    return LabelPixels(_one_channel(path, values, has_alpha=has_alpha), values.dtype.itemsize == 1, has_palette)


def _all_bits(path: Path, image: Image.Image) -> NDArray[np.uint16]:
    """Colour of 16 bits, of which Pillow keeps 8: `(H, W, 3 or 4)`."""
    import cv2

    values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3 or values.shape[1::-1] != image.size:
        raise PromptError(f"{path}: colour of 16 bits cannot be read; save it as a grey PNG whose value k is object k")
    return np.asarray(values, np.uint16)


def _one_channel(path: Path, values: NDArray[Any], *, has_alpha: bool) -> NDArray[Any]:
    """`(H, W)` labels of an image with colours, an alpha channel, or neither.

    The alpha channel is the mask where all that is visible has one colour; a constant one says nothing.
    """
    if values.ndim == 2:
        return values
    colours, alpha = (values[..., :-1], values[..., -1]) if has_alpha else (values, values[..., :1] * 0)
    is_grey = not np.any(colours != colours[..., :1])
    labels = colours[..., 0]
    if np.all(alpha == alpha.flat[0]):
        if has_alpha and not alpha.any() and np.all(colours == colours[0, 0]):
            return alpha  # nothing is visible: a frame without the object
        if is_grey:
            return labels
        advice = "save it as an indexed or grey PNG whose value k is object k"
        raise PromptError(f"{path}: a colour image, not labels; {advice}")
    visible = colours[alpha > 0]
    if np.all(visible == visible[0]):
        return alpha
    if is_grey and np.array_equal(labels > 0, alpha > 0) and len(np.unique(alpha)) == 2:
        return labels  # the background is transparent
    advice = "if the mask is the alpha channel, save that alone, as a grey PNG of 0 and 255"
    raise PromptError(f"{path}: a picture with an alpha channel, not labels; {advice}")


def _refuse_inverted_palette(path: Path, image: Image.Image) -> None:
    """Programs that shrink PNG files number the colours as they like: black may be 1, and white 0."""
    if image.mode != "P" or image.palette is None:
        return
    colours = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    used = [index for index, count in enumerate(image.histogram()[: len(colours)]) if count]
    clear = image.info.get("transparency", b"")
    is_clear = {clear} if isinstance(clear, int) else {index for index, alpha in enumerate(clear) if not alpha}
    if not used or used[0] != 0:
        return
    # A colour that says "background" better than that of index 0 does.
    other = next((index for index in used[1:] if index in is_clear and 0 not in is_clear), None)
    if other is None and colours[0].any():
        other = next((index for index in used[1:] if not colours[index].any() and 0 not in is_clear), None)
    if other is not None:
        colour, kind = tuple(colours[0].tolist()), "transparent" if other in is_clear else "black"
        raise PromptError(
            f"{path}: index 0, the background, has the colour {colour}, and index {other} is {kind}: "
            "save it as a grey PNG whose value k is object k"
        )


def _refuse_shades(where: str, labels: NDArray[np.integer[Any]], has_palette: bool) -> None:
    """Coverage and probability look like labels, one per shade: of a smoothed or resized mask along its outline.

    Bodies are solid, see `solid_labels`, and shades are thin.

    Raises:
        PromptError: shades of lower values lie along the outline of a body, or there are hardly any bodies.
    """
    is_wide = labels.max(initial=0) > LARGEST_LABEL
    counts = np.unique(labels, return_counts=True)[1] if is_wide else np.bincount(labels.ravel(), minlength=1)
    count = np.count_nonzero(counts) - bool((labels == 0).any())
    if count <= (SOFT_LABELS if has_palette else 1):
        return
    solid = solid_labels(labels)
    small = _without_repeats(labels)
    is_soft = _lies_along_an_outline(labels, solid)
    if is_soft or (small.size < labels.size and _lies_along_an_outline(small, solid_labels(small))):
        text = f"{count - 1} grey values lie along the outline of one object: a mask with soft edges"
        raise PromptError(f"{where}: {text}; {SAVE_HARD}")
    if not has_palette and count > MOST_THIN and np.count_nonzero(solid) < 0.5 * np.count_nonzero(labels):
        raise PromptError(f"{where}: {count} grey values that run into each other: shades, not labels; {SAVE_HARD}")


def solid_labels(labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """The labelled pixels that lie in a block of 3 × 3 pixels of their label."""
    import cv2

    is_wide = labels.max(initial=0) > LARGEST_LABEL
    values: NDArray[np.uint16 | np.float64] = labels.astype(np.float64 if is_wide else np.uint16)
    block = np.ones((3, 3), np.uint8)
    centre = (cv2.erode(values, block) == cv2.dilate(values, block)) & (labels > 0)
    return np.asarray(cv2.dilate(centre.astype(np.uint8), block) > 0)


def _without_repeats(labels: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """An image that was enlarged without interpolation as it was before: each row and column stood there repeatedly."""
    for axis in (0, 1):
        differs = np.any(np.diff(labels, axis=axis), axis=1 - axis)
        first = np.concatenate([[0], np.flatnonzero(differs) + 1])
        lengths = np.diff([*first, labels.shape[axis]])
        inner = lengths[1:-1] if len(lengths) > 2 else lengths  # those at the edges may be cut off
        factor = int(inner.min(initial=labels.shape[axis]))
        if factor > 1:
            labels = labels.take(np.repeat(first, np.maximum(np.round(lengths / factor), 1).astype(int)), axis=axis)
    return labels


def _lies_along_an_outline(labels: NDArray[np.integer[Any]], solid: NDArray[np.bool_]) -> bool:
    """Has a body, of a tenth of all labelled pixels at least, thin pixels of lower labels along half its outline?"""
    bodies, areas = np.unique(labels[solid], return_counts=True)
    bodies = bodies[areas >= SOFT_BODY * np.count_nonzero(labels)]
    if not len(bodies):
        return False
    outline = np.zeros(len(bodies), np.int64)
    soft = np.zeros(len(bodies), np.int64)
    whole, before, after = slice(None), slice(None, -1), slice(1, None)
    for rows, columns in (((before, after), (whole, whole)), ((whole, whole), (before, after))):
        for one, other in ((0, 1), (1, 0)):
            body, beside = (rows[one], columns[one]), (rows[other], columns[other])
            inner, outer, is_thin = labels[body], labels[beside], ~solid[beside]
            edge = solid[body] & (inner != outer)
            inner, outer, is_thin = inner[edge], outer[edge], is_thin[edge]
            place = np.searchsorted(bodies, inner)
            place[place == len(bodies)] = 0
            known = bodies[place] == inner
            outline += np.bincount(place[known], minlength=len(bodies))
            soft += np.bincount(place[known & is_thin & (outer > 0) & (outer < inner)], minlength=len(bodies))
    return bool(np.any(soft >= np.maximum(SOFT_OUTLINE * outline, 1)))


def _odd_value(values: NDArray[Any]) -> float:
    """The first value that is no label."""
    odd = values[~(np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2**31))]
    return float(odd[0])


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


def _publish(file: Path, out_dir: Path) -> Path:
    try:
        return file.replace(out_dir / file.name)
    except OSError as error:
        raise ArtifactError(f"{out_dir / file.name}: cannot be written: {error.strerror or error}") from error
