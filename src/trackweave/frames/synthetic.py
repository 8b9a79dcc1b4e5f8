"""`SyntheticScene`: a video that is computed, with the exact truth about its objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, sin
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import trackweave.frames.synthetic_textures as textures
from trackweave.frames.selection import WholeVideo, checked_position
from trackweave.frames.source import RGBFrame
from trackweave.frames.synthetic_motion import POST_WIDTH, POST_X, Actor, Pose, camera_at, cast_of

Labels = NDArray[np.uint8] | NDArray[np.uint16]

_MARGIN = 1.5
"""The ground is this much larger than the view, so that the camera never sees its end."""
_SHADOW = 0.018
"""How far shadows fall, in view units."""


@dataclass(frozen=True, slots=True)
class _Sprite:
    """Something flat with a surface: `(h, w, 3)` uint8 colours, `(h, w)` uint8 coverage, drawn around its centre."""

    colours: NDArray[np.uint8]
    coverage: NDArray[np.uint8]


class SyntheticScene(WholeVideo):
    """Textured objects over a textured ground, with known masks; any frame is drawn when asked for, always alike.

    The camera pans, zooms and turns slightly. With six objects or more, whatever the seed:

    - 1 and 2 cross each other, 2 in front;
    - 3 passes behind a wooden post, is fully hidden at half time, and returns;
    - 4 leaves the view for good; 5 comes into it late;
    - 6 is a large ring that turns and changes its size, behind the others: through its hole one sees the ground;
    - 7 and more wander about.

    Shapes are convex and concave, large and small; the post covers all of them. The motion spans the whole length, so
    fewer frames mean faster objects (60 frames of 320×240: up to 6 pixels per frame). A sample of the scene (`select`)
    has frames only: ask the scene itself for `labels(sample.indices[k])`.

    Args:
        seed: of all that is drawn by chance: textures, shapes, noise, details of the paths.
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
        self.actors: tuple[Actor, ...] = tuple(cast_of(rng, objects, width / height))
        self._sprites = [_sprite(rng, actor, k, height) for k, actor in enumerate(self.actors)]
        self._far_to_near = sorted(range(objects), key=lambda k: self.actors[k].depth)
        self._ground = textures.ground(rng, round(height * _MARGIN), round(width * _MARGIN), height / 240)
        self._post = _post(rng, height)

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
        return list(range(1, len(self.actors) + 1))

    def labels(self, local: int) -> Labels:
        """Visible objects of a frame: `(H, W)`, 0 = ground or post, k = object k; uint16 above 255 objects.

        A pixel is an object's when at least half of it is covered by the object and by nothing nearer.

        Raises:
            IndexError: no such frame.
        """
        u = self._time(local)
        labels = np.zeros(self._size, np.uint8 if len(self.actors) < 256 else np.uint16)
        for k in self._far_to_near:
            self._stamp(labels, self._sprites[k], self._view_of(self.actors[k].at(u), u), k + 1)
        self._stamp(labels, self._post, self._view_of(self._post_pose(), u), 0)
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
            self._paint(canvas, self._sprites[k], self._view_of(self.actors[k].at(u), u), shadow=True)
        self._paint(canvas, self._post, self._view_of(self._post_pose(), u), shadow=True)
        frame = self._expose(canvas, position, u)
        frame.flags.writeable = False
        return frame

    def _post_pose(self) -> Pose:
        return Pose(POST_X * self._size[1] / self._size[0], 0.0)

    def _view_of(self, pose: Pose, u: float) -> NDArray[np.float64]:
        """`(2, 3)` matrix from pixels around a sprite's centre to pixels of the view."""
        height, width = self._size
        camera = camera_at(u) if self.camera else Pose(0.0, 0.0)
        x, y = pose.x - camera.x, pose.y - camera.y
        c, s = camera.scale * cos(camera.turn), camera.scale * sin(camera.turn)
        size, turn = pose.scale * camera.scale, pose.turn + camera.turn
        a, b = size * cos(turn), size * sin(turn)
        right = (c * x - s * y) * height + (width - 1) / 2
        down = (s * x + c * y) * height + (height - 1) / 2
        return np.array([[a, -b, right], [b, a, down]])

    def _draw_ground(self, u: float) -> NDArray[np.uint8]:
        height, width = self._size
        matrix = _around_centre(self._view_of(Pose(0.0, 0.0), u), self._ground.shape)
        return cv2.warpAffine(self._ground, matrix, (width, height), borderMode=cv2.BORDER_REFLECT).astype(np.uint8)

    def _paint(self, canvas: NDArray[np.uint8], sprite: _Sprite, matrix: NDArray[np.float64], *, shadow: bool) -> None:
        if shadow:
            fall = matrix.copy()
            fall[:, 2] += _SHADOW * self._size[0]
            self._blend(canvas, sprite, fall, dark=True)
        self._blend(canvas, sprite, matrix, dark=False)

    def _blend(self, canvas: NDArray[np.uint8], sprite: _Sprite, matrix: NDArray[np.float64], *, dark: bool) -> None:
        window, coverage, local = self._cover(sprite, matrix)
        if coverage is None:
            return
        patch = canvas[window]
        weight = coverage[..., None] * np.float32((0.38 if dark else 1.0) / 255)
        over = (
            0 if dark else cv2.warpAffine(sprite.colours, local, coverage.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        )
        canvas[window] = (patch + (over - patch.astype(np.float32)) * weight + 0.5).astype(np.uint8)

    def _stamp(self, labels: Labels, sprite: _Sprite, matrix: NDArray[np.float64], label: int) -> None:
        window, coverage, _ = self._cover(sprite, matrix)
        if coverage is not None:
            labels[window][coverage >= 128] = label

    def _cover(
        self, sprite: _Sprite, matrix: NDArray[np.float64]
    ) -> tuple[tuple[slice, slice], NDArray[np.uint8] | None, NDArray[np.float64]]:
        """The part of the view that a sprite touches, how far it covers it (None: not in view), and the way there."""
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
        """What the sensor makes of it: brightness, then noise of its own for every frame."""
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


def _sprite(rng: np.random.Generator, actor: Actor, number: int, height: int) -> _Sprite:
    side = max(round(actor.diameter * height), 6)
    colour = textures.PALETTE[number % len(textures.PALETTE)] + rng.uniform(-14, 14, 3).astype(np.float32)
    return _Sprite(textures.skin(rng, side, colour), textures.outline(rng, actor.kind, side))


def _post(rng: np.random.Generator, height: int) -> _Sprite:
    tall, wide = round(height * _MARGIN), max(round(POST_WIDTH * height), 8)
    return _Sprite(textures.post(rng, tall, wide), np.full((tall, wide), 255, np.uint8))
