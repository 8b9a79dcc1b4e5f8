"""The colour of a track: one function of its id, used by every overlay, figure and page."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from functools import cache

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
