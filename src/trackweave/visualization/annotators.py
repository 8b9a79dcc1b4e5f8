"""Images of tracked objects: masks, boxes, ids and trails over frames, contact sheets, PNG files; a track's colour."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from colorsys import hsv_to_rgb
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import scale_boxes
from trackweave.masks.ops import Crop, crop_at
from trackweave.masks.packed import PackedMasks
from trackweave.storage.files import replacing
from trackweave.structures.tracks import Tracks

Colour = tuple[int, int, int]

GOLDEN_RATIO = 0.6180339887498949
# Saturation and value take turns, so that ids whose hues come close still differ.
SHADES = ((0.78, 1.00), (0.92, 0.88), (0.55, 0.98), (0.85, 0.80), (0.66, 0.90))


@cache
def track_colour(track_id: int) -> Colour:
    """Bright RGB of a track, 0 … 255; the same id has the same colour everywhere.

    Steps of the golden ratio around the hue circle keep any run of consecutive ids apart.

    >>> track_colour(1), track_colour(2)
    ((255, 56, 118), (18, 143, 224))
    """
    saturation, value = SHADES[(track_id - 1) % len(SHADES)]
    red, green, blue = hsv_to_rgb((0.33 + GOLDEN_RATIO * track_id) % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def contrasting(colour: Colour) -> Colour:
    """Black or white, whichever reads better on `colour` (Rec. 709 luma)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 120 else (255, 255, 255)


def css(colour: Colour) -> str:
    """The colour as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


Image = NDArray[np.uint8]

FONT_SCALE = 0.4
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
    alpha: float = 0.45,
    outline: bool = True,
    boxes_on: bool = True,
    labels: bool = True,
    thickness: int = 1,
) -> Image:
    """A copy of the image with the objects on it; each in the colour of its id, smaller objects over larger ones.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        ids: `(M,)` track ids.
        masks: M masks of the image at any scale; None draws boxes only.
        boxes: `(M, 4)` xyxy in pixels of the image, right and bottom exclusive; None takes the masks' boxes.
        alpha: opacity of a mask's fill, 0 … 1.
        outline: draw the masks' contours opaque.
        boxes_on: draw the boxes.
        labels: write the ids, at the boxes' corners, or in the middle of the masks when no boxes are drawn.
        thickness: of the boxes' lines, in pixels.

    Returns:
        `(H, W, 3)` uint8 RGB.

    Raises:
        ValueError: ids, masks and boxes differ in number, or the image is not RGB uint8.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"the image is (H, W, 3) uint8, not {image.shape} {image.dtype}")
    lengths = {len(ids)} | {len(column) for column in (masks, boxes) if column is not None}
    if len(lengths) > 1:
        raise ValueError(f"ids, masks and boxes differ in number: {sorted(lengths)}")
    canvas = image.copy()
    corners = _corners(masks, boxes, len(ids), canvas.shape[:2])
    colours = [track_colour(int(track_id)) for track_id in ids]
    order = _largest_first(masks, corners)
    anchors = {int(n): (int(corners[n, 0]), int(corners[n, 1])) for n in order}
    if masks is not None:
        for n in order:
            crop = crop_at(masks, int(n), canvas.shape[:2])
            if crop is not None:
                _fill(canvas, crop, colours[n], alpha, outline)
                if not boxes_on:
                    anchors[int(n)] = _middle(crop)
    for n in order:
        if boxes_on:
            draw_boxes(canvas, corners[n : n + 1], colours[n], thickness)
        if labels:
            _label(canvas, anchors[int(n)], str(int(ids[n])), colours[n])
    return canvas


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


def _largest_first(masks: PackedMasks | None, corners: NDArray[np.int64]) -> NDArray[np.int64]:
    if masks is not None:
        return np.argsort(-masks.areas, kind="stable")
    return np.argsort(-np.prod(corners[:, 2:] - corners[:, :2] + 1, axis=1), kind="stable")


def _fill(canvas: Image, crop: Crop, colour: Colour, alpha: float, outline: bool) -> None:
    """Tints the canvas under the crop, then draws the crop's inner contour."""
    import cv2

    part = canvas[crop.window]
    # A table of 256 blended values per channel is faster than arithmetic on the crop.
    values = np.arange(256, dtype=np.float32)[:, None] * (1 - alpha) + np.asarray(colour, np.float32) * alpha
    tinted = cv2.LUT(np.ascontiguousarray(part), np.rint(values).astype(np.uint8)[None])
    if outline:
        core = cv2.erode(_with_neighbours(crop, canvas.shape[:2]), np.ones((3, 3), np.uint8))[1:-1, 1:-1]
        tinted[core == 0] = colour
    cv2.copyTo(tinted, crop.inside, part)


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


def _middle(crop: Crop) -> tuple[int, int]:
    """`(x, y)` of a pixel inside the mask, near its middle: half the mask's pixels lie above its row."""
    rows = crop.inside.sum(axis=1, dtype=np.int64).cumsum()
    row = int(np.searchsorted(rows, (rows[-1] + 1) // 2))
    columns = np.flatnonzero(crop.inside[row])
    return crop.left + int(columns[len(columns) // 2]), crop.top + row


def _label(canvas: Image, anchor: tuple[int, int], text: str, colour: Colour) -> None:
    """An id on a rectangle of its object's colour, above the anchor, or below it at the upper edge of the image."""
    import cv2

    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, 1)
    left = max(min(anchor[0], canvas.shape[1] - width - 4), 0)
    bottom = anchor[1] if anchor[1] >= height + 5 else min(anchor[1] + height + 5, canvas.shape[0] - 1)
    cv2.rectangle(canvas, (left, bottom - height - 4), (left + width + 3, bottom), colour, cv2.FILLED)
    cv2.putText(
        canvas, text, (left + 2, bottom - 2), cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, contrasting(colour), 1, cv2.LINE_AA
    )


WIDE = 960
"""Width in pixels from which on images get thicker lines."""
FRACTION_BITS = 4
"""OpenCV takes line ends as whole numbers of 1/16 pixel."""


class TrailPainter:
    """Draws boxes, ids, masks where there are any, and the trail of each box over the frames before.

    Frames come in order; memory holds the last `length` frames of the tracks that are on them.

    Args:
        length: frames that a trail reaches back.
        max_width: wider images are made smaller to this width, in pixels.
    """

    def __init__(self, length: int = 45, max_width: int = 1280) -> None:
        self._length, self._max_width = length, max_width
        self._trails: dict[int, deque[tuple[int, float, float]]] = {}

    def follow(self, frame: int, tracks: Tracks) -> None:
        """Adds the tracks of the next frame to the trails; call it also for frames that are not drawn."""
        feet = np.stack([(tracks.xyxy[:, 0] + tracks.xyxy[:, 2]) / 2, tracks.xyxy[:, 3]], axis=1)
        for track_id, (x, y) in zip(tracks.track_id.tolist(), feet.tolist(), strict=True):
            self._trails.setdefault(track_id, deque()).append((frame, x, y))
        for track_id in list(self._trails):
            trail = self._trails[track_id]
            while trail and trail[0][0] <= frame - self._length:
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
        image = fit_width(image, self._max_width)
        scale = np.array([image.shape[1] / width, image.shape[0] / height])
        boxes = scale_boxes(tracks.xyxy, float(scale[0]), float(scale[1]))
        thickness = 2 if image.shape[1] >= WIDE else 1
        canvas = draw_objects(image, tracks.track_id, tracks.masks, boxes, thickness=thickness)
        for track_id in tracks.track_id.tolist():
            self._line(canvas, track_id, scale)
        return canvas

    def _line(self, canvas: Image, track_id: int, scale: NDArray[Any]) -> None:
        import cv2

        trail = self._trails.get(track_id)
        if trail is None or len(trail) < 2:
            return
        points = np.rint(np.array([point[1:] for point in trail]) * scale * (1 << FRACTION_BITS))
        line = np.clip(points, -(2**30), 2**30).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(canvas, [line], False, track_colour(track_id), 2, cv2.LINE_AA, FRACTION_BITS)


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
