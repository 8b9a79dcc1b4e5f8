"""`CameraPath`: a pinhole camera over time; it projects objects on the ground, and its image moves with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trackweave.settings import Settings
from trackweave.simulation.random_processes import Signal, low_pass, on_off, ornstein_uhlenbeck, smooth_noise
from trackweave.simulation.scene import Actors

NEAREST = 0.3
"""Metres in front of the camera; what is nearer is not in the image."""
PERSON_METRES = 1.7
"""Height of the person that `CameraSettings.person_height` speaks of."""


class CameraSettings(Settings):
    """Where a camera stands and how it moves."""

    height: float = Field(default=2.0, gt=0, le=100, description="metres above the ground")
    distance: float = Field(default=12.0, gt=0, le=500, description="metres to the middle of the scene")
    person_height: float = Field(
        default=0.3, gt=0, le=3, description="of a person in the middle of the scene, share of the image's height"
    )
    shake: float = Field(default=0.0, ge=0, le=0.2, description="of a hand, share of the image's height")
    shake_seconds: float = Field(default=0.3, gt=0, le=10, description="how long one swing of the hand lasts")
    sway: float = Field(default=0.0, ge=0, le=3, description="slow panning to and fro, share of the image's width")
    zoom: float = Field(default=0.0, ge=0, le=1, description="slow change of the focal length, share of it")
    follow: float = Field(default=0.0, ge=0, le=1, description="how closely the focus of the action is followed")
    follow_seconds: float = Field(default=0.8, gt=0, le=10, description="how late")
    speed: float = Field(default=0.0, ge=0, le=60, description="of driving or walking on, metres per second")
    turning: float = Field(default=0.0, ge=0, le=2, description="of the path, radians per second")
    stops: float = Field(default=0.0, ge=0, le=1, description="share of time that it stands")
    matrices: Literal["given", "withheld"] = Field(
        default="given", description="whether the camera's motion is known to the tracker"
    )
    matrix_noise: float = Field(default=0.3, ge=0, le=20, description="error of the known motion, pixels")


@dataclass(frozen=True, eq=False)
class CameraPath:
    """A camera at T moments; all columns `(T,)` float64.

    Attributes:
        size: `(H, W)` pixels.
        x, z: metres.
        height: metres.
        yaw, pitch, roll: radians: to the right, down, clockwise.
        focal: pixels.
        shift_x, shift_y: pixels by which the image is moved: a shaking hand.
    """

    size: tuple[int, int]
    x: Signal
    z: Signal
    height: float
    yaw: Signal
    pitch: Signal
    roll: Signal
    focal: Signal
    shift_x: Signal
    shift_y: Signal

    def project(self, x: Signal, y: Signal, z: Signal) -> tuple[Signal, Signal, Signal]:
        """Points `(T, N)` in metres, y upwards, as pixels across, pixels down and metres of depth."""
        right, deep = x - self.x[:, None], z - self.z[:, None]
        down = self.height - y
        cos, sin = np.cos(self.yaw)[:, None], np.sin(self.yaw)[:, None]
        right, deep = right * cos - deep * sin, right * sin + deep * cos
        cos, sin = np.cos(self.pitch)[:, None], np.sin(self.pitch)[:, None]
        down, deep = down * cos - deep * sin, down * sin + deep * cos
        scale = self.focal[:, None] / np.maximum(deep, NEAREST)
        return *self._turned(right * scale, down * scale), deep

    def _turned(self, u: Signal, v: Signal) -> tuple[Signal, Signal]:
        height, width = self.size
        cos, sin = np.cos(self.roll)[:, None], np.sin(self.roll)[:, None]
        across, down = u * cos - v * sin, u * sin + v * cos
        return across + width / 2 + self.shift_x[:, None], down + height / 2 + self.shift_y[:, None]

    def boxes(self, actors: Actors) -> tuple[NDArray[np.float64], Signal]:
        """`(T, N, 4)` xyxy of the whole objects in pixels, and `(T, N)` metres of depth; not above `NEAREST` where
        an object is behind the camera."""
        across, foot, depth = self.project(actors.x, actors.lift, actors.z)
        _, head, _ = self.project(actors.x, actors.lift + actors.height, actors.z)
        scale = self.focal[:, None] / np.maximum(depth, NEAREST)
        bearing = np.arctan2(actors.x - self.x[:, None], actors.z - self.z[:, None])
        angle = actors.heading - bearing
        wide = np.abs(actors.length * np.sin(angle)) + np.abs(actors.breadth * np.cos(angle))
        deep = np.abs(actors.length * np.cos(angle)) + np.abs(actors.breadth * np.sin(angle))
        half = wide * scale / 2
        middle = across + actors.lean * scale
        below = deep * np.abs(np.sin(self.pitch))[:, None] * scale / 2
        return np.stack([middle - half, head - below, middle + half, foot + below], axis=-1), depth

    def motion(self, depth: float) -> NDArray[np.float64]:
        """`(T, 2, 3)` affine matrices from the image before to this one, fitted to points at one depth in metres; the
        first is the identity."""
        steps = len(self.x)
        matrices = np.tile(np.eye(2, 3), (steps, 1, 1))
        if steps < 2:
            return matrices
        height, width = self.size
        u, v = (grid.ravel() for grid in np.meshgrid(np.linspace(0, width, 4), np.linspace(0, height, 4)))
        x, y, z = self._unproject(u, v, depth)
        later: dict[str, Any] = {k: v[1:] for k, v in self.__dict__.items() if isinstance(v, np.ndarray)}
        after = replace(self, **later)
        moved = np.stack(after.project(x[:-1], y[:-1], z[:-1])[:2], axis=-1)
        design = np.column_stack([u, v, np.ones_like(u)])
        matrices[1:] = np.swapaxes(np.linalg.pinv(design) @ moved, 1, 2)
        return matrices

    def _unproject(self, u: Signal, v: Signal, depth: float) -> tuple[Signal, Signal, Signal]:
        """Pixels `(P,)` as `(T, P)` points in metres at a depth."""
        height, width = self.size
        across, down = u - width / 2 - self.shift_x[:, None], v - height / 2 - self.shift_y[:, None]
        cos, sin = np.cos(self.roll)[:, None], np.sin(self.roll)[:, None]
        across, down = across * cos + down * sin, down * cos - across * sin
        right, down = across * depth / self.focal[:, None], down * depth / self.focal[:, None]
        cos, sin = np.cos(self.pitch)[:, None], np.sin(self.pitch)[:, None]
        down, deep = down * cos + depth * sin, depth * cos - down * sin
        cos, sin = np.cos(self.yaw)[:, None], np.sin(self.yaw)[:, None]
        right, deep = right * cos + deep * sin, deep * cos - right * sin
        return right + self.x[:, None], self.height - down, deep + self.z[:, None]


def camera_path(
    rng: np.random.Generator,
    settings: CameraSettings,
    size: tuple[int, int],
    steps: int,
    dt: float,
    focus: Signal | None = None,
) -> CameraPath:
    """A camera that looks at the middle of the scene, `settings.distance` ahead of where it starts.

    Args:
        rng: draws its motion.
        settings: how it moves.
        size: `(H, W)` pixels.
        steps: moments.
        dt: seconds between them.
        focus: `(T, 2)` metres x and z of what a following camera looks at.
    """
    high, wide = size
    focal = np.full(steps, settings.person_height * high * settings.distance / PERSON_METRES)
    focal = focal * np.exp(settings.zoom * smooth_noise(rng, steps, 1, seconds=4.0, dt=dt)[:, 0])
    x, z, yaw = _drive(rng, settings, steps, dt)
    yaw = yaw + settings.sway * smooth_noise(rng, steps, 1, seconds=5.0, dt=dt)[:, 0] * wide / focal
    pitch = np.full(steps, np.arctan2(settings.height - PERSON_METRES / 2, settings.distance))
    if focus is not None and settings.follow:
        aim = settings.follow * np.arctan2(focus[:, 0] - x, focus[:, 1] - z)
        yaw = yaw + _delayed(aim, settings.follow_seconds, dt)
        distance = np.maximum(np.hypot(focus[:, 0] - x, focus[:, 1] - z), settings.distance / 4)
        pitch = np.arctan2(settings.height - PERSON_METRES / 2, _delayed(distance, settings.follow_seconds, dt))
    shake = ornstein_uhlenbeck(rng, steps, 3, seconds=settings.shake_seconds, dt=dt) * settings.shake * high
    return CameraPath(
        size, x, z, settings.height, yaw, pitch, shake[:, 2] / (2 * wide), focal, shake[:, 0], shake[:, 1]
    )


def _drive(rng: np.random.Generator, settings: CameraSettings, steps: int, dt: float) -> tuple[Signal, Signal, Signal]:
    """Position and yaw of a driving or walking camera."""
    turn = settings.turning * smooth_noise(rng, steps, 1, seconds=2.5, dt=dt)[:, 0]
    standing = on_off(rng, steps, 1, off=8.0, on=8.0 * settings.stops / max(1 - settings.stops, 0.02), dt=dt)[:, 0]
    speed = settings.speed * np.exp(0.3 * smooth_noise(rng, steps, 1, seconds=4.0, dt=dt)[:, 0])
    speed = _delayed(np.where(standing, 0.0, speed), 1.5, dt)
    share = speed / settings.speed if settings.speed else np.zeros(steps)
    yaw = np.cumsum(turn * share) * dt
    return np.cumsum(speed * np.sin(yaw)) * dt, np.cumsum(speed * np.cos(yaw)) * dt, yaw


def _delayed(signal: Signal, seconds: float, dt: float) -> Signal:
    return low_pass(signal[:, None], seconds=seconds, dt=dt)[:, 0]
