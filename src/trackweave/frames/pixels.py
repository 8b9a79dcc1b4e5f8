"""From an opened image to `(H, W, 3)` uint8 RGB: orientation, palettes, alpha, and depths beyond 8 bits."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from trackweave.frames.source import RGBFrame

DECODE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, TypeError, struct.error, Image.DecompressionBombError)
"""What Pillow raises for files that it cannot read; SyntaxError and struct.error come from broken PNG and TIFF."""

_PERCENTILES = (0.1, 99.9)
_WINDOW_PIXELS = 250_000


class Window(NamedTuple):
    """The values shown as 0 and 255; those outside are clipped."""

    low: float
    high: float


def pixels(image: Image.Image) -> NDArray[Any]:
    """Decodes an image, upright by its EXIF orientation.

    Returns:
        `(H, W, 3)` uint8 RGB for images of up to 8 bits per channel and for deeper colour (high byte kept), and
        `(H, W)` in the image's own depth for deeper grey, which needs a `Window`.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        return np.asarray(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB warns, and may give transparent pixels another colour
    return np.array(image.convert("RGB"))


def window_of(images: Iterable[NDArray[Any]]) -> Window:
    """The window from the 0.1 to the 99.9 percentile of the finite grey values of all images together.

    Colour images do not count; of large images, evenly spread pixels do.
    """
    samples = [values.ravel()[:: max(1, values.size // _WINDOW_PIXELS)] for values in images if values.ndim == 2]
    values = np.concatenate([np.empty(0), *samples])
    values = values[np.isfinite(values)]
    if not values.size:
        return Window(0.0, 1.0)
    low, high = np.percentile(values, _PERCENTILES)
    return Window(float(low), float(high))


def to_rgb(values: NDArray[Any], window: Window | None) -> RGBFrame:
    """`(H, W, 3)` uint8 as it is; `(H, W)` grey of any depth through its window, one value for all three channels.

    >>> to_rgb(np.array([[0, 500, 1000, 4000]], np.uint16), Window(0, 1000))[0, :, 0].tolist()
    [0, 128, 255, 255]
    """
    if window is None:
        return values
    span = window.high - window.low
    scaled = (values.astype(np.float64) - window.low) * (255 / span if span > 0 else 0.0)
    grey = np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(grey[..., None], (*grey.shape, 3)))
