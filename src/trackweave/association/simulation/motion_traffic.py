"""Traffic as a driver sees it: parked cars, cars ahead, cars that come the other way, people on the pavement."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from trackweave.association.simulation.actors import CAR, OBSTACLE, Actors
from trackweave.association.simulation.camera import CameraPath, CameraSettings, camera_path
from trackweave.association.simulation.casting import cast
from trackweave.association.simulation.motion_stream import StreamMotion
from trackweave.association.simulation.processes import Signal, episodes, glide, soften

LANE = 3.5
"""Metres."""
SLOT = 6.5
"""Metres of kerb that a parked car takes."""
NOWHERE = -1e6
"""A place in metres that no camera sees."""


class TrafficMotion(BaseModel):
    """What goes on in a street."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["traffic"] = "traffic"
    vehicles: float = Field(default=5.0, ge=1, le=200, description="in the picture, on average")
    parked: float = Field(default=0.5, ge=0, le=1, description="share of them that is parked")
    oncoming: float = Field(default=0.3, ge=0, le=1, description="share of the moving ones that comes the other way")
    crossing: float = Field(default=0.1, ge=0, le=1, description="share of the moving ones that crosses the way")
    speed: float = Field(default=9.0, gt=0, le=60, description="of the moving ones, metres per second")
    far: float = Field(default=60.0, gt=5, le=500, description="metres to the furthest")
    stay_seconds: float = Field(default=6.0, gt=0, le=600, description="between two turns of a moving car")
    people: float = Field(default=0.5, ge=0, le=100, description="pedestrians in the picture, on average")
    obstacles: int = Field(default=3, ge=0, le=50, description="posts, trees and signs")

    def enact(
        self, rng: np.random.Generator, camera: CameraSettings, size: tuple[int, int], steps: int, dt: float
    ) -> tuple[Actors, CameraPath]:
        """The street, and the camera on its way."""
        path = camera_path(rng, camera, size, steps, dt)
        walk = StreamMotion(
            people=self.people, near=min(6.0, self.far / 2), far=min(self.far, 40.0), ways=3, cyclists=0.15, obstacles=0
        )
        parts = [
            *cast(
                path, lambda: self._cars(rng, path, 96, steps, dt, parked=True), self.vehicles * self.parked, self.far
            ),
            *cast(
                path,
                lambda: self._cars(rng, path, 32, steps, dt, parked=False),
                self.vehicles * (1 - self.parked),
                self.far,
            ),
            *walk.cast(rng, path, steps, dt),
        ]
        return Actors.concat([*parts, *self._posts(rng, path, steps)]), path

    def _posts(self, rng: np.random.Generator, path: CameraPath, steps: int) -> list[Actors]:
        """Obstacles along the way."""
        if not self.obstacles:
            return []
        length = max(1.0, float(np.hypot(np.diff(path.x), np.diff(path.z)).sum()) / self.far)
        n = int(self.obstacles * length) + 1
        moment = rng.integers(steps, size=n)
        x, z = _beside(path, moment, rng.choice([-1.0, 1.0], n) * rng.uniform(3.5, 8, n), rng.uniform(4, self.far, n))
        still = np.ones((steps, 1))
        tall, broad = rng.uniform(1.5, 6, n), rng.lognormal(np.log(0.4), 0.5, n)
        return [
            Actors.of(
                x * still, z * still, height=tall * still, breadth=broad * still,
                class_id=np.full(n, OBSTACLE, np.int64),
            )
        ]  # fmt: skip

    def _cars(
        self, rng: np.random.Generator, path: CameraPath, n: int, steps: int, dt: float, *, parked: bool
    ) -> Actors:
        """Cars that are near the camera's way at one random moment."""
        moment = rng.integers(steps, size=n)
        oncoming = (rng.random(n) < self.oncoming) & (not parked)
        crossing = (rng.random(n) < self.crossing) & (not parked)
        side = np.where(rng.random(n) < 0.5, -1.0, 1.0)
        aside = side * rng.uniform(2.8, 7, n) if parked else np.where(oncoming, -LANE, LANE * rng.integers(0, 2, n))
        aside = aside + rng.normal(0, 0.3, n)
        ahead = rng.uniform(4, self.far, n)
        yaw = path.yaw[moment]
        turned = np.where(rng.random(n) < 0.2, rng.uniform(-np.pi, np.pi, n), rng.normal(0, 0.05, n))
        heading = yaw + parked * turned + np.where(oncoming, np.pi, 0) + crossing * side * np.pi / 2
        course = heading + (not parked) * 0.15 * glide(rng, steps, n, seconds=3.0, dt=dt)
        course = course + self._turns(rng, moment, steps, dt) * ~(crossing | parked)
        x, z = self._drive(rng, path, course, 0.0 if parked else 1.0, oncoming | crossing, dt)
        there_x, there_z = _beside(path, moment, aside, ahead)
        if parked:
            there_x, there_z = _in_slots(path, moment, side, ahead, aside)
        column = np.arange(n)
        x, z = x + there_x - x[moment, column], z + there_z - z[moment, column]
        van = rng.random(n) < 0.12
        still = np.ones((steps, 1))
        return Actors.of(
            x,
            z,
            height=still * np.where(van, rng.normal(2.2, 0.3, n), rng.normal(1.52, 0.1, n)),
            breadth=still * rng.normal(1.65, 0.1, n),
            length=still * np.where(van, rng.normal(5.5, 0.8, n), rng.normal(4.0, 0.4, n)),
            heading=course,
            class_id=np.full(n, CAR, np.int64),
        )

    def _turns(self, rng: np.random.Generator, moment: NDArray[np.int64], steps: int, dt: float) -> Signal:
        """`(T, n)` radians: cars come out of a side street before their moment, and turn into one after it."""
        n = len(moment)
        since = (np.arange(steps)[:, None] - moment) * dt
        before, after = rng.exponential(self.stay_seconds, (2, n))
        out, off = rng.choice([-np.pi / 2, np.pi / 2], (2, n))
        turned: Signal = np.clip(-since - before, 0, 2) / 2 * out + np.clip(since - after, 0, 2) / 2 * off
        return turned

    def _drive(
        self,
        rng: np.random.Generator,
        path: CameraPath,
        course: Signal,
        moves: float,
        apart: NDArray[np.bool_],
        dt: float,
    ) -> tuple[Signal, Signal]:
        """`(T, n)` metres: those ahead keep pace with the camera, more or less."""
        steps, n = course.shape
        own = self.speed * rng.lognormal(0, 0.3, n)
        stops = episodes(rng, steps, n, off=8.0, on=2.0, dt=dt)
        free = soften(np.where(stops, 0.15, 1.0), seconds=2.0, dt=dt) * own
        ours = np.hypot(np.gradient(path.x), np.gradient(path.z)) / dt if steps > 1 else np.zeros(steps)
        drift = 1.0 + 0.25 * glide(rng, steps, n, seconds=4.0, dt=dt)
        speed = np.where(apart, free, 0.5 * free + 0.5 * ours[:, None] * drift) * moves
        return np.cumsum(speed * np.sin(course), axis=0) * dt, np.cumsum(speed * np.cos(course), axis=0) * dt


def _in_slots(
    path: CameraPath,
    moment: NDArray[np.int64],
    side: NDArray[np.float64],
    ahead: NDArray[np.float64],
    aside: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places in metres of parked cars along the way: one per slot and side; of several, all but one are far away."""
    gone = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(path.x), np.diff(path.z)))])
    slot = np.round((gone[moment] + ahead) / SLOT)
    x, z = _beside(path, moment, aside, slot * SLOT - gone[moment])
    _, first = np.unique(np.stack([slot, side]), axis=1, return_index=True)
    taken = np.ones(len(slot), np.bool_)
    taken[first] = False
    return np.where(taken, NOWHERE, x), np.where(taken, NOWHERE, z)


def _beside(
    path: CameraPath, moment: NDArray[np.int64], aside: NDArray[np.float64], ahead: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places in metres beside and ahead of where the camera is at some moments."""
    cos, sin = np.cos(path.yaw[moment]), np.sin(path.yaw[moment])
    return path.x[moment] + aside * cos + ahead * sin, path.z[moment] - aside * sin + ahead * cos
