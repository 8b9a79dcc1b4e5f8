"""`SyntheticScene`: a computed video with the exact masks of its objects.

Positions are in *view units*: the unmoved camera sees x in [-0.5, 0.5]·aspect and y in [-0.5, 0.5], so 1 is the height
of the view; y points down. Time `u` runs from 0 at the first to 1 at the last frame. Motions are closed forms of time,
so that frames can be drawn in any order; textures and shapes are drawn once from a random generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, pi, sin
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.frames.source import RGBFrame, WholeVideo, checked_position

Generator = np.random.Generator
Colour = NDArray[np.float32]
"""`(3,)` float32 RGB, 0 … 255."""
Labels = NDArray[np.uint8] | NDArray[np.uint16]
Pattern = Callable[[Generator, NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""Draws a pattern in [0, 1] on a grid of x and y."""

PALETTE = np.array(
    [(206, 74, 58), (58, 116, 196), (232, 178, 60), (92, 62, 140), (238, 226, 206), (40, 128, 120), (214, 112, 160)],
    np.float32,
)
POST_X = 0.16
"""Position of the post, as a share of the view's width."""
POST_WIDTH = 0.15
"""In view units; the hiding object is narrower."""
GROUND_MARGIN = 1.5
"""Size of the ground relative to the view, so that the camera never sees its edge."""
SHADOW_OFFSET = 0.018
"""Offset of shadows in view units."""


class SyntheticScene(WholeVideo):
    """Textured objects over a textured ground, with known masks; frames are drawn on demand, always the same.

    The camera pans, zooms and turns slightly. With six objects or more, whatever the seed:

    - 1 and 2 cross each other, 2 in front;
    - 3 passes behind a wooden post, is fully hidden at half time, and returns;
    - 4 leaves the view for good; 5 comes into it late;
    - 6 is a large ring that turns and changes its size, behind the others: the ground shows through its hole;
    - 7 and further ones walk at random.

    Shapes are convex and concave, large and small; the post occludes all of them. The motion spans the whole length, so
    fewer frames mean faster objects (60 frames of 320×240: up to 6 pixels per frame). A sample of the scene (`select`)
    has frames only: ask the scene itself for `labels(sample.indices[k])`.

    Args:
        seed: of all random numbers: textures, shapes, noise, details of the paths.
        height, width: of the view in pixels, at least 32.
        length: number of frames, at least 1.
        objects: number of objects, ids 1 … objects.
        camera: whether the camera moves.
        lighting: whether the brightness changes, by up to 8 %.
        noise: standard deviation of the sensor's noise in grey levels.
        fps: frames per second, for `times`.

    Raises:
        ValueError: a size, length or number of objects out of range.
    """

    def __init__(
        self,
        seed: int = 0,
        height: int = 240,
        width: int = 320,
        length: int = 60,
        objects: int = 6,
        camera: bool = True,
        *,
        lighting: bool = True,
        noise: float = 2.0,
        fps: float = 25.0,
    ) -> None:
        if min(height, width) < 32 or length < 1 or not 0 <= objects < 2**16:
            raise ValueError(f"no scene of {width}×{height} pixels, {length} frames and {objects} objects")
        self.path: Path | None = None
        self.seed, self.camera, self.lighting, self.noise = seed, camera, lighting, noise
        self._size, self._length = (height, width), length
        self._times = tuple(local / fps for local in range(length))
        rng = np.random.default_rng([seed, 0])
        self.moving: tuple[MovingObject, ...] = tuple(moving_objects(rng, objects, width / height))
        self._sprites = [object_sprite(rng, moving, k, height) for k, moving in enumerate(self.moving)]
        self._far_to_near = sorted(range(objects), key=lambda k: self.moving[k].depth)
        self._ground = ground_texture(rng, round(height * GROUND_MARGIN), round(width * GROUND_MARGIN), height / 240)
        self._post = _post_sprite(rng, height)

    def __len__(self) -> int:
        return self._length

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    @property
    def times(self) -> Sequence[float] | None:
        return self._times

    @property
    def object_ids(self) -> list[int]:
        """All ids, 1 … objects, whether visible or not."""
        return list(range(1, len(self.moving) + 1))

    def labels(self, local: int) -> Labels:
        """Visible objects of a frame: `(H, W)`, 0 = ground or post, k = object k; uint16 above 255 objects.

        A pixel is an object's when at least half of it is covered by the object and by nothing nearer.

        Raises:
            IndexError: no such frame.
        """
        u = self._time(local)
        labels = np.zeros(self._size, np.uint8 if len(self.moving) < 256 else np.uint16)
        for k in self._far_to_near:
            self._stamp(labels, self._sprites[k], self._to_view(self.moving[k].pose(u), u), k + 1)
        self._stamp(labels, self._post, self._to_view(self._post_pose(), u), 0)
        return labels

    def masks(self, local: int) -> dict[int, NDArray[np.bool_]]:
        """The `(H, W)` bool mask of every object that has a visible pixel in the frame, by id."""
        labels = self.labels(local)
        return {int(k): labels == k for k in np.unique(labels) if k}

    def _time(self, local: int) -> float:
        return checked_position(local, self._length) / max(self._length - 1, 1)

    def _read(self, position: int) -> RGBFrame:
        u = self._time(position)
        canvas = self._draw_ground(u)
        for k in self._far_to_near:
            self._paint(canvas, self._sprites[k], self._to_view(self.moving[k].pose(u), u), shadow=True)
        self._paint(canvas, self._post, self._to_view(self._post_pose(), u), shadow=True)
        frame = self._expose(canvas, position, u)
        frame.flags.writeable = False
        return frame

    def _camera_pose(self, u: float) -> Pose:
        return camera_pose(u) if self.camera else Pose(0.0, 0.0)

    def _post_pose(self) -> Pose:
        return Pose(POST_X * self._size[1] / self._size[0], 0.0)

    def _to_view(self, pose: Pose, u: float) -> NDArray[np.float64]:
        """`(2, 3)` matrix from pixels around a sprite's centre to pixels of the view."""
        height, width = self._size
        camera = self._camera_pose(u)
        x, y = pose.x - camera.x, pose.y - camera.y
        c, s = camera.scale * cos(camera.turn), camera.scale * sin(camera.turn)
        size, turn = pose.scale * camera.scale, pose.turn + camera.turn
        a, b = size * cos(turn), size * sin(turn)
        right = (c * x - s * y) * height + (width - 1) / 2
        down = (s * x + c * y) * height + (height - 1) / 2
        return np.array([[a, -b, right], [b, a, down]])

    def _draw_ground(self, u: float) -> NDArray[np.uint8]:
        height, width = self._size
        matrix = _around_centre(self._to_view(Pose(0.0, 0.0), u), self._ground.shape)
        return cv2.warpAffine(self._ground, matrix, (width, height), borderMode=cv2.BORDER_REFLECT).astype(np.uint8)

    def _paint(self, canvas: NDArray[np.uint8], sprite: Sprite, matrix: NDArray[np.float64], *, shadow: bool) -> None:
        if shadow:
            fall = matrix.copy()
            fall[:, 2] += SHADOW_OFFSET * self._size[0]
            self._blend(canvas, sprite, fall, dark=True)
        self._blend(canvas, sprite, matrix, dark=False)

    def _blend(self, canvas: NDArray[np.uint8], sprite: Sprite, matrix: NDArray[np.float64], *, dark: bool) -> None:
        window, coverage, local = self._cover(sprite, matrix)
        if coverage is None:
            return
        patch = canvas[window]
        weight = coverage[..., None] * np.float32((0.38 if dark else 1.0) / 255)
        over = (
            0 if dark else cv2.warpAffine(sprite.colours, local, coverage.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        )
        canvas[window] = (patch + (over - patch.astype(np.float32)) * weight + 0.5).astype(np.uint8)

    def _stamp(self, labels: Labels, sprite: Sprite, matrix: NDArray[np.float64], label: int) -> None:
        window, coverage, _ = self._cover(sprite, matrix)
        if coverage is not None:
            labels[window][coverage >= 128] = label

    def _cover(
        self, sprite: Sprite, matrix: NDArray[np.float64]
    ) -> tuple[tuple[slice, slice], NDArray[np.uint8] | None, NDArray[np.float64]]:
        """Window of the view that a sprite touches, its coverage there (None: not in view), and the matrix to it."""
        local = _around_centre(matrix, sprite.coverage.shape)
        h, w = sprite.coverage.shape
        corners = local @ np.array([[-1, w, -1, w], [-1, -1, h, h], [1, 1, 1, 1]])
        left, top = np.maximum(np.floor(corners.min(1)).astype(int), 0).tolist()
        right, bottom = np.minimum(np.ceil(corners.max(1)).astype(int) + 1, self._size[::-1]).tolist()
        window = (slice(top, bottom), slice(left, right))
        if right <= left or bottom <= top:
            return window, None, local
        local[:, 2] -= (left, top)
        coverage = cv2.warpAffine(sprite.coverage, local, (right - left, bottom - top))
        return window, coverage.astype(np.uint8), local

    def _expose(self, canvas: NDArray[np.uint8], position: int, u: float) -> NDArray[np.uint8]:
        """Brightness and sensor noise, drawn anew for every frame."""
        gain = 1 + 0.08 * sin(2.4 * u + self.seed) * self.lighting
        values: NDArray[np.float32] = canvas * np.float32(gain)
        if self.noise:
            rng = np.random.default_rng([self.seed, 1, position])
            values += rng.standard_normal(canvas.shape, np.float32) * np.float32(self.noise)
        exposed: NDArray[np.uint8] = np.clip(values + 0.5, 0, 255).astype(np.uint8)
        return exposed


def _around_centre(matrix: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The same map for an image whose pixel (0, 0) is its corner, not its centre."""
    h, w = shape[:2]
    moved = matrix.copy()
    moved[:, 2] -= matrix[:, :2] @ np.array([(w - 1) / 2, (h - 1) / 2])
    return moved


@dataclass(frozen=True, slots=True)
class Sprite:
    """An image with transparency, drawn around its centre: `(h, w, 3)` uint8 colours, `(h, w)` uint8 coverage."""

    colours: NDArray[np.uint8]
    coverage: NDArray[np.uint8]


def object_sprite(rng: Generator, moving: MovingObject, number: int, height: int) -> Sprite:
    side = max(round(moving.diameter * height), 6)
    colour = PALETTE[number % len(PALETTE)] + rng.uniform(-14, 14, 3).astype(np.float32)
    return Sprite(surface_texture(rng, side, colour), shape_mask(rng, moving.shape, side))


def _post_sprite(rng: Generator, height: int) -> Sprite:
    tall, wide = round(height * GROUND_MARGIN), max(round(POST_WIDTH * height), 8)
    return Sprite(post_texture(rng, tall, wide), np.full((tall, wide), 255, np.uint8))


class Pose(NamedTuple):
    """Position of a centre in view units, rotation in radians, and size relative to the object's own."""

    x: float
    y: float
    turn: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class MovingObject:
    """One object of the scene.

    Attributes:
        motion: "crossing", "hiding", "leaving", "arriving", "turning" or "wandering".
        shape: "ellipse", "polygon", "star", "ring" or "crescent".
        diameter: in view units.
        depth: larger is nearer to the camera; nearer objects occlude further ones, the post occludes all.
        pose: at time u.
    """

    motion: str
    shape: str
    diameter: float
    depth: int
    pose: Callable[[float], Pose]


def camera_pose(u: float) -> Pose:
    """The camera: a slow pan with a sway, a slight zoom and a slight turn."""
    return Pose(0.05 * sin(2 * pi * u), 0.03 * sin(3 * pi * u), 0.035 * sin(2 * pi * u + 0.6), 1 + 0.05 * sin(pi * u))


def moving_objects(rng: np.random.Generator, count: int, aspect: float) -> list[MovingObject]:
    """Objects 1 … count; the first six have the motions that are hard for a tracker."""
    first = [_crossing_far, _crossing_near, _hiding, _leaving, _arriving, _turning]
    return [first[k](rng, aspect) if k < len(first) else _wandering(rng, aspect, k) for k in range(count)]


def _crossing_far(rng: np.random.Generator, aspect: float) -> MovingObject:
    spin, bob = rng.uniform(-0.6, 0.6), rng.uniform(0.02, 0.04)
    return MovingObject(
        "crossing",
        "ellipse",
        0.24,
        3,
        lambda u: Pose(aspect * (0.64 * u - 0.4), -0.22 + bob * sin(4 * pi * u), spin * u),
    )


def _crossing_near(rng: np.random.Generator, aspect: float) -> MovingObject:
    spin, rise = rng.uniform(0.8, 1.6), rng.uniform(-0.04, 0.04)
    return MovingObject(
        "crossing",
        "polygon",
        0.2,
        5,
        lambda u: Pose(aspect * (0.24 - 0.64 * u), -0.2 + rise * (u - 0.5), spin * u, 1 + 0.15 * sin(pi * u)),
    )


def _hiding(rng: np.random.Generator, aspect: float) -> MovingObject:
    drift = rng.uniform(-0.03, 0.03)

    def pose(u: float) -> Pose:
        t = 2 * u - 1  # slows down behind the post, which it reaches at half time
        return Pose(aspect * (POST_X + 0.22 * (0.55 * t + 0.45 * t**3)), 0.12 + drift * t, 1.2 * t)

    return MovingObject("hiding", "polygon", 0.105, 4, pose)


def _leaving(rng: np.random.Generator, aspect: float) -> MovingObject:
    start = rng.uniform(-0.1, 0.0)
    return MovingObject(
        "leaving",
        "star",
        0.2,
        2,
        lambda u: Pose(aspect * (start - 0.3 * u), 0.28 + 0.75 * u**2, 2.5 * u, 1 + 0.2 * u),
    )


def _arriving(rng: np.random.Generator, aspect: float) -> MovingObject:
    height = rng.uniform(-0.06, 0.02)
    return MovingObject(
        "arriving",
        "crescent",
        0.22,
        6,
        lambda u: Pose(aspect * (0.45 * u - 0.5) - 0.7 * (1 - u), height + 0.05 * sin(5 * u), 0.8 - u),
    )


def _turning(rng: np.random.Generator, aspect: float) -> MovingObject:
    phase = rng.uniform(0, 2 * pi)
    return MovingObject(
        "turning",
        "ring",
        0.42,
        1,
        lambda u: Pose(
            aspect * (0.27 + 0.03 * sin(3 * u)), 0.2 - 0.06 * u, phase + 1.4 * u, 1 - 0.15 * sin(2 * pi * u)
        ),
    )


def _wandering(rng: np.random.Generator, aspect: float, number: int) -> MovingObject:
    x, y = rng.uniform(-0.4, 0.4), rng.uniform(-0.38, 0.38)
    reach, speed, phase = rng.uniform(0.04, 0.16), rng.uniform(0.5, 1.3), rng.uniform(0, 2 * pi)
    spin, size = rng.uniform(-2, 2), rng.uniform(0.06, 0.16)
    shape = ("polygon", "ellipse", "star", "crescent")[number % 4]

    def pose(u: float) -> Pose:
        turn = 2 * pi * speed * u + phase
        return Pose(aspect * (x + reach * cos(turn)), y + reach * sin(turn), spin * u, 1 + 0.1 * sin(turn))

    return MovingObject("wandering", shape, size, number + 1, pose)


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


def ground_texture(rng: Generator, height: int, width: int, unit: float) -> NDArray[np.uint8]:
    """A lawn with a paved path and scattered stones, seen from above: `(H, W, 3)` uint8.

    Args:
        unit: pixels per 1/240 of the view's height, so that scenes of all sizes look alike.
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


def shape_mask(rng: Generator, shape: str, side: int) -> NDArray[np.uint8]:
    """Coverage of a shape, `(side, side)` uint8, 0 outside to 255 inside with a smooth edge; nearly fills the square.

    Args:
        shape: as in `MovingObject`; "ring" has a hole, "star" and "crescent" are concave.
    """
    scale, canvas = 4, np.zeros((side * 4, side * 4), np.uint8)  # drawn large, then averaged: a smooth edge
    centre, radius = (side * scale // 2, side * scale // 2), side * scale * 0.46
    if shape == "polygon":
        _fill_polar(canvas, centre, radius * rng.uniform(0.72, 1.0, 7))
    elif shape == "star":
        points = 2 * int(rng.integers(4, 7))
        _fill_polar(canvas, centre, radius * np.where(np.arange(points) % 2, 0.52, 1.0))
    else:
        squash = 1.0 if shape == "ring" else float(rng.uniform(0.62, 0.85))
        cv2.ellipse(canvas, centre, (int(radius), int(radius * squash)), 0, 0, 360, 255, -1)
    if shape == "ring":
        cv2.circle(canvas, centre, int(radius * 0.5), 0, -1)
    if shape == "crescent":
        bite = (centre[0] + int(radius * 0.5), centre[1] - int(radius * 0.25))
        cv2.circle(canvas, bite, int(radius * 0.55), 0, -1)
    return cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _fill_polar(canvas: NDArray[np.uint8], centre: tuple[int, int], radii: NDArray[np.float64]) -> None:
    angles = np.arange(len(radii)) * (2 * np.pi / len(radii))
    corners = np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None] + centre
    cv2.fillPoly(canvas, [corners.round().astype(np.int32)], 255)


def surface_texture(rng: Generator, side: int, colour: Colour) -> NDArray[np.uint8]:
    """An object's surface, `(side, side, 3)` uint8: a pattern in two shades of a colour, wear, and light from above."""
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    pattern = _PATTERNS[int(rng.integers(len(_PATTERNS)))](rng, x, y)
    dark = colour * np.float32(rng.uniform(0.35, 0.55))
    wear = value_noise(rng, side, side, side / 3, 4)[..., None] * np.float32(26)
    light = 1.14 - 0.34 * ((x - 0.35) ** 2 + (y - 0.3) ** 2)[..., None]
    mixed = (colour * (1 - pattern[..., None]) + dark * pattern[..., None] + wear) * light
    texture: NDArray[np.uint8] = np.clip(mixed, 0, 255).astype(np.uint8)
    return texture


def _stripes(rng: Generator, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    angle, waves = rng.uniform(0, np.pi), rng.uniform(4, 7)
    return _sharpened(np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi * waves))


def _checks(rng: Generator, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    waves = rng.uniform(2, 4)
    return _sharpened(np.sin(x * 2 * np.pi * waves) * np.sin(y * 2 * np.pi * waves) * 3)


def _dots(rng: Generator, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    waves = rng.uniform(3, 5)
    return _sharpened(np.cos(x * 2 * np.pi * waves) + np.cos(y * 2 * np.pi * waves) - 0.7)


def _patches(rng: Generator, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    side = len(x)
    return _sharpened(value_noise(rng, side, side, side / 3, 2) * 4)


def _sharpened(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    sharp: NDArray[np.float32] = np.clip(wave * 2 + 0.5, 0, 1).astype(np.float32)
    return sharp


_PATTERNS: tuple[Pattern, ...] = (_stripes, _checks, _dots, _patches)


def post_texture(rng: Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A round wooden post from the side, upright: `(H, W, 3)` uint8."""
    grain = cv2.resize(value_noise(rng, max(height // 8, 1), width, width / 4, 3), (width, height))
    shading = np.cos(np.linspace(-1.25, 1.25, width, dtype=np.float32))[None, :, None]
    wood = np.array([134, 98, 66], np.float32) + grain[..., None] * np.float32(34)
    return np.clip(wood * (0.35 + 0.75 * shading), 0, 255).astype(np.uint8)
