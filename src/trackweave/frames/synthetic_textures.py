"""Textures and outlines of the synthetic scene, drawn once from a random generator."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Generator = np.random.Generator
Colour = NDArray[np.float32]
"""`(3,)` float32 RGB, 0 … 255."""

PALETTE = np.array(
    [(206, 74, 58), (58, 116, 196), (232, 178, 60), (92, 62, 140), (238, 226, 206), (40, 128, 120), (214, 112, 160)],
    np.float32,
)
OUTLINES = ("ellipse", "polygon", "star", "ring", "crescent")


def value_noise(rng: Generator, height: int, width: int, cell: float, octaves: int = 4) -> NDArray[np.float32]:
    """Smooth `(H, W)` float32 noise in about [-1, 1]: random grids of ever finer cells, each half as strong.

    Args:
        cell: size of the coarsest cell in pixels.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        step = max(cell / 2**octave, 1.0)
        grid = rng.uniform(-1, 1, (int(height / step) + 3, int(width / step) + 3)).astype(np.float32)
        full = cv2.resize(grid, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        total += full[:height, :width] * np.float32(0.5**octave)
    return total / np.float32(1.5)


def ground(rng: Generator, height: int, width: int, unit: float) -> NDArray[np.uint8]:
    """A lawn with a paved path and scattered stones, seen from above: `(H, W, 3)` uint8.

    Args:
        unit: pixels per 1/240 of the view's shorter side, so that all sizes of scene look alike.
    """
    rough = value_noise(rng, height, width, 60 * unit)[..., None]
    fine = value_noise(rng, height, width, 7 * unit, 3)[..., None]
    grass = np.array([96, 124, 70], np.float32) + rough * np.array([26, 18, 16], np.float32) + fine * 20
    y, x = np.mgrid[:height, :width].astype(np.float32)
    bend = y - height * 0.62 - 0.06 * height * np.sin(x * (4.5 / width) + rng.uniform(0, 6))
    path = np.clip(0.5 + (0.13 * height - np.abs(bend)) / (3 * unit), 0, 1)[..., None]
    joint = (np.mod(x + (np.floor(bend / (18 * unit)) % 2) * 13 * unit, 26 * unit) < 1.6 * unit) | (
        np.mod(bend, 18 * unit) < 1.6 * unit
    )
    paving = np.array([158, 148, 134], np.float32) + rough * 10 + fine * 16 - joint[..., None] * np.float32(38)
    return _stones(rng, grass * (1 - path) + paving * path, unit)


def _stones(rng: Generator, image: NDArray[np.float32], unit: float) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    canvas = np.clip(image, 0, 255).astype(np.uint8)
    for _ in range(60):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.uniform(2, 6) * unit) + 1, int(rng.uniform(2, 5) * unit) + 1)
        grey, tilt = rng.uniform(70, 200), float(rng.uniform(0, 180))
        shade = (centre[0] + axes[0] // 2, centre[1] + axes[1] // 2)
        cv2.ellipse(canvas, shade, axes, tilt, 0, 360, (58, 58, 50), -1, cv2.LINE_AA)
        cv2.ellipse(canvas, centre, axes, tilt, 0, 360, (grey, grey * 0.96, grey * 0.9), -1, cv2.LINE_AA)
    return canvas


def outline(rng: Generator, kind: str, side: int) -> NDArray[np.uint8]:
    """Coverage of a shape, `(side, side)` uint8, 0 outside to 255 inside with a smooth edge; nearly fills the square.

    Args:
        kind: one of `OUTLINES`; "ring" has a hole, "star" and "crescent" are concave.
    """
    scale, canvas = 4, np.zeros((side * 4, side * 4), np.uint8)  # drawn large, then averaged: a smooth edge
    centre, radius = (side * scale // 2, side * scale // 2), side * scale * 0.46
    if kind == "polygon":
        _fill_polar(canvas, centre, radius * rng.uniform(0.72, 1.0, 7))
    elif kind == "star":
        points = 2 * int(rng.integers(4, 7))
        _fill_polar(canvas, centre, radius * np.where(np.arange(points) % 2, 0.52, 1.0))
    else:
        squash = 1.0 if kind == "ring" else float(rng.uniform(0.62, 0.85))
        cv2.ellipse(canvas, centre, (int(radius), int(radius * squash)), 0, 0, 360, 255, -1)
    if kind == "ring":
        cv2.circle(canvas, centre, int(radius * 0.5), 0, -1)
    if kind == "crescent":
        bite = (centre[0] + int(radius * 0.5), centre[1] - int(radius * 0.25))
        cv2.circle(canvas, bite, int(radius * 0.55), 0, -1)
    return cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _fill_polar(canvas: NDArray[np.uint8], centre: tuple[int, int], radii: NDArray[np.float64]) -> None:
    angles = np.arange(len(radii)) * (2 * np.pi / len(radii))
    corners = np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None] + centre
    cv2.fillPoly(canvas, [corners.round().astype(np.int32)], 255)


def skin(rng: Generator, side: int, colour: Colour) -> NDArray[np.uint8]:
    """An object's surface, `(side, side, 3)` uint8: a pattern in two shades of a colour, wear, and light from above."""
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    pattern = _PATTERNS[int(rng.integers(len(_PATTERNS)))](rng, x, y)
    dark = colour * np.float32(rng.uniform(0.35, 0.55))
    wear = value_noise(rng, side, side, side / 3, 4)[..., None] * np.float32(26)
    light = 1.14 - 0.34 * ((x - 0.35) ** 2 + (y - 0.3) ** 2)[..., None]
    mixed = (colour * (1 - pattern[..., None]) + dark * pattern[..., None] + wear) * light
    painted: NDArray[np.uint8] = np.clip(mixed, 0, 255).astype(np.uint8)
    return painted


def _stripes(rng: Generator, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    angle, waves = rng.uniform(0, np.pi), rng.uniform(4, 7)
    return _edge(np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi * waves))


def _checks(rng: Generator, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    waves = rng.uniform(2, 4)
    return _edge(np.sin(x * 2 * np.pi * waves) * np.sin(y * 2 * np.pi * waves) * 3)


def _dots(rng: Generator, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    waves = rng.uniform(3, 5)
    return _edge(np.cos(x * 2 * np.pi * waves) + np.cos(y * 2 * np.pi * waves) - 0.7)


def _patches(rng: Generator, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    side = len(x)
    return _edge(value_noise(rng, side, side, side / 3, 2) * 4)


def _edge(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    sharp: NDArray[np.float32] = np.clip(wave * 2 + 0.5, 0, 1).astype(np.float32)
    return sharp


_PATTERNS: tuple[Callable[[Generator, NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]], ...] = (
    _stripes,
    _checks,
    _dots,
    _patches,
)


def post(rng: Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A round wooden post from the side, upright: `(H, W, 3)` uint8."""
    grain = cv2.resize(value_noise(rng, max(height // 8, 1), width, width / 4, 3), (width, height))
    round_ = np.cos(np.linspace(-1.25, 1.25, width, dtype=np.float32))[None, :, None]
    wood = np.array([134, 98, 66], np.float32) + grain[..., None] * np.float32(34)
    return np.clip(wood * (0.35 + 0.75 * round_), 0, 255).astype(np.uint8)
