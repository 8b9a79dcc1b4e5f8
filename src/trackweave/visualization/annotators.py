"""Images of tracked objects: masks, boxes, ids and trails over frames, contact sheets, PNG files; a track's colour."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from colorsys import hsv_to_rgb
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import scale_boxes
from trackweave.masks.ops import Crop, crop_at
from trackweave.masks.packed import PackedMasks
from trackweave.storage.corrected_masks import read_corrected
from trackweave.storage.files import replacing
from trackweave.storage.identity import read_identity
from trackweave.storage.run import RunPaths
from trackweave.structures.identity import IdentityTable, Tree
from trackweave.structures.tracks import Tracks
from trackweave.visualization.settings import OverlaySettings, OverlayStyle

Colour = tuple[int, int, int]

GOLDEN_RATIO = 0.6180339887498949
# Saturation and value take turns, so that ids whose hues come close still differ.
UNTRACKED: Colour = (150, 150, 150)
SHADES = ((0.78, 1.00), (0.92, 0.88), (0.55, 0.98), (0.85, 0.80), (0.66, 0.90))


@cache
def track_colour(track_id: int) -> Colour:
    """Bright RGB of a track, 0 … 255; the same id has the same colour everywhere, and what has no id from 1 on is grey.

    Steps of the golden ratio around the hue circle keep any run of consecutive ids apart.

    >>> track_colour(1), track_colour(2)
    ((255, 56, 118), (18, 143, 224))
    """
    if track_id < 1:
        return UNTRACKED
    saturation, value = SHADES[(track_id - 1) % len(SHADES)]
    red, green, blue = hsv_to_rgb((0.33 + GOLDEN_RATIO * track_id) % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


NUDGE = 0.045
"""How far the hue of a part lies from that of the whole at most, of a turn."""


def part_colour(root: int, track_id: int) -> Colour:
    """A shade of `track_colour(root)` for a part of it, 0 … 255: nearly its hue, darker or paler by the part's own id.

    >>> track_colour(2), part_colour(2, 9), part_colour(2, 10)
    ((18, 143, 224), (60, 110, 185), (133, 194, 255))
    """
    hue = (0.33 + GOLDEN_RATIO * root) % 1.0
    # Steps of the plastic number keep consecutive ids apart in three directions at once.
    first, second, third = ((0.5 + track_id * step) % 1.0 for step in (0.8191725134, 0.6710436067, 0.5497004779))
    red, green, blue = hsv_to_rgb((hue + NUDGE * (2 * first - 1)) % 1.0, 0.35 + 0.6 * second, 0.5 + 0.5 * third)
    return round(255 * red), round(255 * green), round(255 * blue)


class TrackColours:
    """The colour of every track of a run: of a part a shade of its whole's, of what is one thing one colour.

    The same id has the same colour in every picture of the run.

    Args:
        table: raw track → identity; None = each its own.
        tree: which identity is part of which; None = none is.
    """

    def __init__(self, table: IdentityTable | None = None, tree: Tree | None = None) -> None:
        self._table, self._tree = table, tree
        self._known: dict[int, Colour] = {}

    def __call__(self, track_id: int) -> Colour:
        """RGB of a track or an identity, 0 … 255."""
        colour = self._known.get(track_id)
        if colour is None:
            identity = track_id if self._table is None else int(self._table.of([track_id])[0])
            path = self._tree.path(identity) if self._tree is not None and identity in self._tree else [identity]
            colour = track_colour(identity) if len(path) == 1 else part_colour(path[0], identity)
            self._known[track_id] = colour
        return colour


def run_colours(run: RunPaths) -> TrackColours:
    """The colours of a run's tracks: by family where it has identities.

    Raises:
        ArtifactError: its identities are damaged, or not of its masks.
    """
    if not run.identity.is_file():
        return TrackColours()
    corrected = read_corrected(run, unfinished=True)
    record = read_identity(run) if corrected is None else corrected.record
    return TrackColours() if record is None else TrackColours(record.table, record.tree)


def contrasting(colour: Colour) -> Colour:
    """Black or white, whichever reads better on `colour` (Rec. 709 luma)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 120 else (255, 255, 255)


def css(colour: Colour) -> str:
    """The colour as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


Image = NDArray[np.uint8]

FILL_OPACITY = {"outline": 0.18, "fill": 0.5}
LABEL_SHARES = (0.5, 0.25, 0.75)
MARGIN = 8
CAPTION_HEIGHT = 22
BACKGROUND: Colour = (24, 26, 30)
CAPTION_COLOUR: Colour = (225, 228, 232)


def draw_objects(
    image: Image,
    ids: Sequence[int] | NDArray[np.integer[Any]],
    masks: PackedMasks | None,
    boxes: NDArray[np.floating[Any]] | None = None,
    *,
    style: OverlayStyle = "outline",
    labels: bool | Sequence[str] = True,
    colours: Callable[[int], Colour] = track_colour,
) -> Image:
    """A copy of the image with the objects on it, each in the colour of its id, smaller ones over larger ones.

    A pixel shows one object, the one on top: colours never mix. Lines and letters grow with the image.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        ids: `(M,)` track ids; 0 = no track, drawn grey.
        masks: M masks of the image at any scale; None draws boxes only.
        boxes: `(M, 4)` xyxy in pixels of the image, right and bottom exclusive; None takes the masks' boxes.
        style: contours with a light fill, contours with a strong fill, or boxes.
        labels: write the ids, or these M texts, where an object is seen and no other label stands.
        colours: the colour of an id.

    Returns:
        `(H, W, 3)` uint8 RGB.

    Raises:
        ValueError: ids, masks, boxes and labels differ in number, or the image is not RGB uint8.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"the image is (H, W, 3) uint8, not {image.shape} {image.dtype}")
    texts = [str(int(track_id)) for track_id in ids] if isinstance(labels, bool) else list(labels)
    lengths = {len(ids), len(texts)} | {len(column) for column in (masks, boxes) if column is not None}
    if len(lengths) > 1:
        raise ValueError(f"ids, masks, boxes and labels differ in number: {sorted(lengths)}")
    canvas = image.copy()
    corners = _corners(masks, boxes, len(ids), canvas.shape[:2])
    chosen = [colours(int(track_id)) for track_id in ids]
    order = _smallest_first(masks, corners)
    draws_boxes = masks is None or style == "boxes"
    if masks is None or style == "boxes":
        anchors = {int(n): _box_anchors(corners[n]) for n in order}
        for n in order[::-1]:
            draw_boxes(canvas, corners[n : n + 1], chosen[n], line_thickness(canvas))
    else:
        anchors = _paint_masks(canvas, masks, order, chosen, FILL_OPACITY[style])
    if labels is not False:
        placed = LabelPlacer(canvas)
        for n in order:
            if int(n) in anchors:
                placed.write(texts[n], anchors[int(n)], chosen[n], above=draws_boxes)
    return canvas


def line_thickness(image: Image) -> int:
    """Pixels of a line that reads well on an image of this size: 1 at 360 rows, 3 at 1080."""
    rows, columns = image.shape[:2]
    return max(1, round(min(int(rows), int(columns)) / 360))


def _paint_masks(
    canvas: Image, masks: PackedMasks, order: NDArray[np.int64], colours: Sequence[Colour], opacity: float
) -> dict[int, list[tuple[int, int]]]:
    """Paints each mask where no smaller one lies; returns points for the label of each object that is seen."""
    taken = np.zeros(canvas.shape[:2], np.uint8)
    anchors: dict[int, list[tuple[int, int]]] = {}
    for n in order.tolist():
        crop = crop_at(masks, n, canvas.shape[:2])
        if crop is None:
            continue
        there = taken[crop.window]
        seen = np.bitwise_and(crop.inside, there ^ 1, dtype=np.uint8)
        _fill(canvas, crop, seen, colours[n], opacity)
        anchors[n] = _mask_anchors(seen if seen.any() else crop.inside, crop.left, crop.top)
        there |= crop.inside
    return anchors


def draw_boxes(canvas: Image, corners: NDArray[np.int64], colour: Colour, thickness: int = 1) -> None:
    """Draws `(N, 4)` int64 boxes x1, y1, x2, y2 in one colour on the canvas itself; right and bottom are inclusive."""
    import cv2

    for x1, y1, x2, y2 in corners.tolist():
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, thickness)


def fit_width(image: Image, max_width: int) -> Image:
    """An image of at most this width in pixels, of the same proportions; the image itself where it is narrower.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        max_width: at least 1.
    """
    import cv2

    height, width = image.shape[:2]
    ratio = min(1.0, max_width / width)
    if ratio == 1:
        return image
    size = (round(width * ratio), round(height * ratio))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def contact_sheet(images: Sequence[Image], columns: int, captions: Sequence[str] | None = None) -> Image:
    """Images in rows of `columns`, each with a line of text under it; smaller images are centred in their cell.

    Args:
        images: `(h, w, 3)` uint8 RGB each, sizes may differ.
        columns: cells per row, at least 1.
        captions: one line per image; characters outside ASCII become `?` (the font has no others).

    Returns:
        `(H, W, 3)` uint8 RGB.

    Raises:
        ValueError: no image, no column, or captions of another number.
    """
    import cv2

    if not images or columns < 1:
        raise ValueError(f"a sheet needs images and columns, not {len(images)} and {columns}")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"{len(captions)} captions for {len(images)} images")
    columns = min(columns, len(images))
    cell_height = max(image.shape[0] for image in images)
    cell_width = max(image.shape[1] for image in images)
    step_y = cell_height + MARGIN + (CAPTION_HEIGHT if captions is not None else 0)
    step_x = cell_width + MARGIN
    rows = -(-len(images) // columns)
    sheet: Image = np.full((rows * step_y + MARGIN, columns * step_x + MARGIN, 3), BACKGROUND, np.uint8)
    for n, image in enumerate(images):
        top, left = MARGIN + n // columns * step_y, MARGIN + n % columns * step_x
        height, width = image.shape[:2]
        y, x = top + (cell_height - height) // 2, left + (cell_width - width) // 2
        sheet[y : y + height, x : x + width] = image
        if captions is not None:
            text = captions[n].encode("ascii", "replace").decode("ascii")
            strip = sheet[top + cell_height : top + cell_height + CAPTION_HEIGHT, left : left + cell_width]
            line = np.ascontiguousarray(strip)
            cv2.putText(line, text, (2, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, CAPTION_COLOUR, 1, cv2.LINE_AA)
            strip[:] = line  # drawn on the strip alone: a long caption ends at its cell
    return sheet


def _corners(
    masks: PackedMasks | None, boxes: NDArray[np.floating[Any]] | None, count: int, size: tuple[int, ...]
) -> NDArray[np.int64]:
    """`(M, 4)` int64 xyxy of the pixels to draw, right and bottom inclusive and inside the image."""
    if boxes is not None:
        xyxy = np.asarray(boxes, np.float64)
    elif masks is not None:
        scale = np.array([size[1] / masks.width, size[0] / masks.height])
        xyxy = masks.boxes * np.tile(scale, 2)
    else:
        xyxy = np.zeros((count, 4))
    corners = np.rint(xyxy).astype(np.int64).reshape(-1, 4)
    corners[:, 2:] = np.maximum(corners[:, 2:] - 1, corners[:, :2])
    return np.clip(corners, 0, [size[1] - 1, size[0] - 1] * 2)


def _smallest_first(masks: PackedMasks | None, corners: NDArray[np.int64]) -> NDArray[np.int64]:
    if masks is not None:
        return np.argsort(masks.areas, kind="stable")
    return np.argsort(np.prod(corners[:, 2:] - corners[:, :2] + 1, axis=1), kind="stable")


def _fill(canvas: Image, crop: Crop, seen: NDArray[np.uint8], colour: Colour, opacity: float) -> None:
    """Tints the canvas where the crop is seen, and draws the part of its inner contour that is seen."""
    import cv2

    part = canvas[crop.window]
    # A table of 256 blended values per channel is faster than arithmetic on the crop.
    values = np.arange(256, dtype=np.float32)[:, None] * (1 - opacity) + np.asarray(colour, np.float32) * opacity
    tinted = cv2.LUT(np.ascontiguousarray(part), np.rint(values).astype(np.uint8)[None])
    width = line_thickness(canvas)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE if width > 1 else cv2.MORPH_RECT, (2 * width + 1,) * 2)
    framed = _with_neighbours(crop, canvas.shape[:2])
    core = cv2.erode(framed, kernel, borderType=cv2.BORDER_REPLICATE)[1:-1, 1:-1]
    tinted[core == 0] = colour
    cv2.copyTo(tinted, seen, part)


def _with_neighbours(crop: Crop, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """The crop with one pixel around it: empty, but full beyond the image's edge, where an object has no contour."""
    height, width = crop.inside.shape
    framed = np.zeros((height + 2, width + 2), np.uint8)
    framed[1:-1, 1:-1] = crop.inside
    if crop.top == 0:
        framed[0] = 1
    if crop.left == 0:
        framed[:, 0] = 1
    if crop.top + height == size[0]:
        framed[-1] = 1
    if crop.left + width == size[1]:
        framed[:, -1] = 1
    return framed


def _mask_anchors(seen: NDArray[np.uint8], left: int, top: int) -> list[tuple[int, int]]:
    """`(x, y)` of pixels of the object for the middle of its label, the best first.

    They lie where half, a quarter and three quarters of its pixels are above, in the middle of that row's widest run:
    an object that is cut in two has its label on one of the parts.
    """
    rows = seen.sum(axis=1, dtype=np.int64).cumsum()
    points = []
    for share in LABEL_SHARES:
        row = int(np.searchsorted(rows, max(share * rows[-1], 1)))
        edges = np.flatnonzero(np.diff(np.pad(seen[row], 1).astype(np.int8)))
        starts, ends = edges[::2], edges[1::2]
        widest = int(np.argmax(ends - starts))
        points.append((left + int(starts[widest] + ends[widest]) // 2, top + row))
    return points


def _box_anchors(box: NDArray[np.int64]) -> list[tuple[int, int]]:
    """`(x, y)` of points of a box for the lower left corner of its label: above it first."""
    x1, y1, x2, y2 = (int(side) for side in box)
    return [(x1, y1), (x2, y1), (x1, y2), (x2, y2), (x1, (y1 + y2) // 2)]


class LabelPlacer:
    """Writes labels on an image, each where none of the earlier ones stands, or where least of them is hidden.

    Args:
        canvas: `(H, W, 3)` uint8 RGB, written on.
    """

    def __init__(self, canvas: Image) -> None:
        self._canvas = canvas
        self._scale = max(0.35, 8e-4 * min(canvas.shape[:2]))
        self._weight = 1 if self._scale < 0.8 else 2
        self._taken: NDArray[np.int64] = np.zeros((0, 4), np.int64)

    def write(self, text: str, anchors: Sequence[tuple[int, int]], colour: Colour, *, above: bool = False) -> None:
        """Writes a text on a plate of the colour, at one of the anchors `(x, y)`, or next to it.

        The anchor is in the middle of the plate, or, with `above`, just below its lower left corner.
        """
        import cv2

        text = text.encode("ascii", "replace").decode("ascii")  # the font has no others
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, self._scale, self._weight)
        width, height = width + 4, height + 4
        x, y = np.array(anchors).T
        at = np.array([[0, 0], [0, -1], [0, 1], [1, 0], [-1, 0], [1, -1], [-1, 1]]) * [width + 1, height + 1]
        lefts = (x[:, None] - (0 if above else width // 2) + at[:, 0]).ravel()
        tops = (y[:, None] - (height if above else height // 2) + at[:, 1]).ravel()
        lefts = np.clip(lefts, 0, max(self._canvas.shape[1] - width, 0))
        tops = np.clip(tops, 0, max(self._canvas.shape[0] - height, 0))
        plates = np.stack([lefts, tops, lefts + width, tops + height], axis=1)
        left, top, right, bottom = plates[int(np.argmin(_overlap(plates, self._taken)))].tolist()
        self._taken = np.concatenate([self._taken, [[left, top, right, bottom]]])
        cv2.rectangle(self._canvas, (left, top), (right - 1, bottom - 1), colour, cv2.FILLED)
        cv2.putText(
            self._canvas,
            text,
            (left + 2, bottom - 3),
            cv2.FONT_HERSHEY_SIMPLEX,
            self._scale,
            contrasting(colour),
            self._weight,
            cv2.LINE_AA,
        )


def _overlap(plates: NDArray[np.int64], taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """`(N,)` pixels that N rectangles have in common with all taken ones."""
    low = np.maximum(plates[:, None, :2], taken[None, :, :2])
    high = np.minimum(plates[:, None, 2:], taken[None, :, 2:])
    common: NDArray[np.int64] = np.prod(np.clip(high - low, 0, None), axis=2).sum(axis=1)
    return common


FRACTION_BITS = 4
"""OpenCV takes line ends as whole numbers of 1/16 pixel."""


BOX_TRAIL = 45
"""Frames that the trails of boxes reach back."""


class OverlayPainter:
    """Draws tracks over frames: masks or boxes, labels, and the trail of each over the frames before.

    Frames come in order; memory holds the trails of the tracks that were on the last of them.

    Args:
        settings: how to draw; None = the defaults.
        max_width: wider images are made smaller to this width, in pixels.
        class_names: names of class ids; a class without one is written as its number.
        colours: the colour of an id.
    """

    def __init__(
        self,
        settings: OverlaySettings | None = None,
        *,
        max_width: int = 1280,
        class_names: Mapping[int, str] | None = None,
        colours: Callable[[int], Colour] = track_colour,
    ) -> None:
        self._colours = colours
        self._settings, self._max_width = settings or OverlaySettings(), max_width
        self._names = {} if class_names is None else class_names
        self._trails: dict[int, deque[tuple[int, float, float]]] = {}

    def follow(self, frame: int, tracks: Tracks) -> None:
        """Adds the tracks of the next frame to the trails; call it also for frames that are not drawn."""
        length = self._settings.trail
        if length is None:
            length = BOX_TRAIL if tracks.masks is None else 0
        feet = np.stack([(tracks.xyxy[:, 0] + tracks.xyxy[:, 2]) / 2, tracks.xyxy[:, 3]], axis=1)
        for track_id, (x, y) in zip(tracks.track_id.tolist(), feet.tolist(), strict=True):
            self._trails.setdefault(track_id, deque()).append((frame, x, y))
        for track_id in list(self._trails):
            trail = self._trails[track_id]
            while trail and trail[0][0] <= frame - length:
                trail.popleft()
            if not trail:
                del self._trails[track_id]

    def paint(self, image: Image, tracks: Tracks) -> Image:
        """The frame that was followed last, with its tracks.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            tracks: boxes in pixels of the image.

        Returns:
            `(h, w, 3)` uint8 RGB of at most `max_width`.
        """
        height, width = image.shape[:2]
        canvas = fit_width(image, self._max_width).copy()
        scale = np.array([canvas.shape[1] / width, canvas.shape[0] / height])
        for track_id in tracks.track_id.tolist():  # below the objects: a trail hides none of them
            self._line(canvas, track_id, scale)
        return draw_objects(
            canvas,
            tracks.track_id,
            tracks.masks,
            scale_boxes(tracks.xyxy, float(scale[0]), float(scale[1])),
            style=self._settings.style,
            labels=self._settings.labels and [self._text(tracks, row) for row in range(len(tracks))],
            colours=self._colours,
        )

    def _text(self, tracks: Tracks, row: int) -> str:
        parts = [str(int(tracks.track_id[row]))]
        if self._settings.classes and tracks.class_id[row] >= 0:
            number = int(tracks.class_id[row])
            parts.append(self._names.get(number, str(number)))
        if self._settings.scores:
            parts.append(f"{tracks.score[row]:.2f}")
        return " ".join(parts)

    def _line(self, canvas: Image, track_id: int, scale: NDArray[Any]) -> None:
        import cv2

        trail = self._trails.get(track_id)
        if trail is None or len(trail) < 2:
            return
        points = np.rint(np.array([point[1:] for point in trail]) * scale * (1 << FRACTION_BITS))
        line = np.clip(points, -(2**30), 2**30).astype(np.int32).reshape(-1, 1, 2)
        thickness = line_thickness(canvas) + 1
        cv2.polylines(canvas, [line], False, self._colours(track_id), thickness, cv2.LINE_AA, FRACTION_BITS)


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes `(H, W, 3)` uint8 RGB.

    Raises:
        RunFolderError: the file cannot be written.
    """
    import cv2

    ok, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not ok:
        raise ValueError(f"{path}: an image of {image.shape} {image.dtype} cannot be encoded")
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
