"""Motions of pedestrians (`StreamMotion`) and of traffic as a driver sees it (`TrafficMotion`).

Both draw actors until enough of them are in the image (`populate`), because a camera may drive on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from trackweave.settings import Settings
from trackweave.simulation.camera import NEAREST, CameraPath, CameraSettings, camera_path
from trackweave.simulation.random_processes import Signal, low_pass, on_off, smooth_noise
from trackweave.simulation.scene import CAR, CYCLIST, OBSTACLE, PERSON, Actors, headings, obstacles

MAX_ACTORS = 3000
"""Actors that are drawn at most; few of them may come into the image."""
LANE = 3.5
"""Metres between the middles of two lanes."""
SLOT = 6.5
"""Metres of kerb that a parked car takes."""
OUT_OF_VIEW = -1e6
"""A position in metres that no camera sees."""


def in_image(path: CameraPath, actors: Actors, far: float) -> NDArray[np.bool_]:
    """`(T, N)`: whether the middle of an actor is in the image and at most `far` metres away."""
    across, down, depth = path.project(actors.x, actors.height / 2, actors.z)
    high, wide = path.size
    inside = (across > 0) & (across < wide) & (down > -0.2 * high) & (down < 1.2 * high)
    return inside & (depth > 2 * NEAREST) & (depth < far) & actors.present


def populate(path: CameraPath, draw: Callable[[], Actors], count: float, far: float) -> list[Actors]:
    """Draws actors until `count` of them are in the image on average; those never in it are left out.

    Args:
        path: the camera.
        draw: draws some actors.
        count: settings many there should be.
        far: metres beyond which an actor does not count.
    """
    parts: list[Actors] = []
    total, drawn = 0.0, 0
    while total < count and drawn < MAX_ACTORS:
        part = draw()
        drawn += len(part)
        share = in_image(path, part, far).mean(axis=0)
        keep = total + np.cumsum(share) - share < count
        parts.append(part.select(keep & (share > 0)))
        total += float(share[keep].sum())
    return parts


class StreamMotion(Settings):
    """Pedestrians in a street, a square or a station: crossing streams, groups, people who stand and wait."""

    kind: Literal["stream"] = "stream"
    people: float = Field(default=15.0, ge=0, le=300, description="in the image, on average")
    near: float = Field(default=4.0, gt=0, le=300, description="metres from the camera to the nearest")
    far: float = Field(default=30.0, gt=0, le=500, description="metres from the camera to the furthest")
    speed: float = Field(default=1.3, gt=0, le=10, description="of walking, metres per second")
    ways: int = Field(default=2, ge=1, le=20, description="streams of different directions")
    depth_share: float = Field(
        default=0.5, ge=0, le=1, description="settings far streams run towards the camera or away from it"
    )
    straying: float = Field(default=0.3, ge=0, le=3, description="radians by which people leave their stream")
    standing: float = Field(default=0.2, ge=0, le=1, description="people who stay where they are")
    stops: float = Field(default=0.1, ge=0, le=1, description="share of time that the others stand still")
    group: float = Field(default=1.6, ge=1, le=10, description="people who walk together, on average")
    cyclists: float = Field(default=0.0, ge=0, le=1, description="share of cyclists")
    obstacles: int = Field(default=2, ge=0, le=50, description="posts, trees and signs between them and the camera")

    @model_validator(mode="after")
    def _is_a_range(self) -> StreamMotion:
        if self.near > self.far:
            raise ValueError("near ≤ far, or there is no place for people")
        return self

    def simulate(
        self, rng: np.random.Generator, camera: CameraSettings, size: tuple[int, int], steps: int, dt: float
    ) -> tuple[Actors, CameraPath]:
        """The pedestrians and posts, and the camera."""
        path = camera_path(rng, camera, size, steps, dt)
        posts = obstacles(rng, steps, self.obstacles, near=self.near, far=self.far, reach=0.5)
        return Actors.concat([*self.pedestrians(rng, path, steps, dt), *([] if posts is None else [posts])]), path

    def pedestrians(self, rng: np.random.Generator, path: CameraPath, steps: int, dt: float) -> list[Actors]:
        """The pedestrians before a camera on a path."""
        stream = _PedestrianStream(self, rng, path, steps, dt)
        return populate(path, lambda: stream.draw(64), self.people, 1.5 * self.far)


class _PedestrianStream:
    """Draws pedestrians whose paths lead through the image."""

    def __init__(
        self, settings: StreamMotion, rng: np.random.Generator, path: CameraPath, steps: int, dt: float
    ) -> None:
        self.settings, self.rng, self.path, self.steps, self.dt = settings, rng, path, steps, dt
        angle = rng.uniform(0, 2 * np.pi, settings.ways)
        self.ways = np.arctan2(np.sin(angle), np.cos(angle) * settings.depth_share)

    def draw(self, groups: int) -> Actors:
        """Pedestrians of some groups; each group is in the image at one random moment at least."""
        settings, rng = self.settings, self.rng
        members = np.minimum(rng.geometric(1 / settings.group, groups), 6)
        leader = np.repeat(np.arange(groups), members)
        n, middle = len(leader), np.repeat(members > 1, members)
        x, z, resting = self._paths(groups)
        angle, apart = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.3, 0.9, n) * middle
        sway = smooth_noise(rng, self.steps, 2 * n, seconds=2.0, dt=self.dt) * np.where(
            np.tile(resting[leader], 2), 0.06, 0.15
        )
        x = x[:, leader] + apart * np.cos(angle) + sway[:, :n]
        z = z[:, leader] + apart * np.sin(angle) + sway[:, n:]
        return self._bodies(x, z, leader, groups)

    def _paths(self, n: int) -> tuple[Signal, Signal, NDArray[np.bool_]]:
        """`(T, n)` metres x and z of the groups, and `(n,)` which of them always stand."""
        settings, rng, path = self.settings, self.rng, self.path
        direction = self.ways[rng.integers(settings.ways, size=n)]
        direction = direction + settings.straying * 0.5 * rng.standard_normal(n)
        course = direction + settings.straying * smooth_noise(rng, self.steps, n, seconds=4.0, dt=self.dt)
        stands = on_off(
            rng, self.steps, n, off=6.0, on=6.0 * settings.stops / max(1 - settings.stops, 0.02), dt=self.dt
        )
        resting = rng.random(n) < settings.standing
        pace = settings.speed * rng.lognormal(0, 0.2, n) * ~resting
        speed = pace * low_pass(np.where(stands, 0.0, 1.0), seconds=0.8, dt=self.dt)
        x = np.cumsum(speed * np.sin(course), axis=0) * self.dt
        z = np.cumsum(speed * np.cos(course), axis=0) * self.dt
        moment, column = rng.integers(self.steps, size=n), np.arange(n)
        distance = np.sqrt(rng.uniform(settings.near**1.5, settings.far**1.5, n) ** (4 / 3))
        bearing = path.yaw[moment] + np.arctan(rng.uniform(-0.55, 0.55, n) * path.size[1] / path.focal[moment])
        x += path.x[moment] + distance * np.sin(bearing) - x[moment, column]
        z += path.z[moment] + distance * np.cos(bearing) - z[moment, column]
        return x, z, resting

    def _bodies(self, x: Signal, z: Signal, leader: NDArray[np.int64], groups: int) -> Actors:
        rng, n = self.rng, len(leader)
        rides = (rng.random(groups) < self.settings.cyclists)[leader]
        tall = rng.normal(1.7, 0.1, n) * np.where(rng.random(n) < 0.05, 0.7, 1.0)
        heading = headings(x, z)
        moves = np.hypot(np.gradient(x, axis=0), np.gradient(z, axis=0)) / self.dt if len(x) > 1 else np.zeros_like(x)
        walks = np.clip(moves / self.settings.speed, 0, 1)
        phase = np.arange(self.steps)[:, None] * self.dt * rng.uniform(1.6, 2.2, n) * np.pi + rng.uniform(0, 6, n)
        legs = 0.28 + 0.18 * walks * np.abs(np.sin(phase / 2))
        broad = rng.uniform(0.28, 0.4, n)
        return Actors.of(
            x,
            z,
            height=np.broadcast_to(tall, x.shape),
            breadth=np.broadcast_to(tall * broad, x.shape),
            length=np.where(rides, 1.7, tall * np.maximum(legs, broad * 0.8) * 0.8),
            heading=heading,
            class_id=np.where(rides, CYCLIST, PERSON).astype(np.int64),
        )


class TrafficMotion(Settings):
    """Parked cars, cars ahead, oncoming, turning and crossing ones, pedestrians and cyclists."""

    kind: Literal["traffic"] = "traffic"
    vehicles: float = Field(default=5.0, ge=1, le=200, description="in the image, on average")
    parked: float = Field(default=0.5, ge=0, le=1, description="share of them that is parked")
    oncoming: float = Field(default=0.3, ge=0, le=1, description="share of the moving ones that comes the other way")
    crossing: float = Field(default=0.1, ge=0, le=1, description="share of the moving ones that crosses the way")
    speed: float = Field(default=9.0, gt=0, le=60, description="of the moving ones, metres per second")
    far: float = Field(default=60.0, gt=5, le=500, description="metres to the furthest")
    stay_seconds: float = Field(default=6.0, gt=0, le=600, description="between two turns of a moving car")
    people: float = Field(default=0.5, ge=0, le=100, description="pedestrians in the image, on average")
    obstacles: int = Field(default=3, ge=0, le=50, description="posts, trees and signs")

    def simulate(
        self, rng: np.random.Generator, camera: CameraSettings, size: tuple[int, int], steps: int, dt: float
    ) -> tuple[Actors, CameraPath]:
        """The street, and the driving camera."""
        path = camera_path(rng, camera, size, steps, dt)
        walk = StreamMotion(
            people=self.people, near=min(6.0, self.far / 2), far=min(self.far, 40.0), ways=3, cyclists=0.15, obstacles=0
        )
        parked, moving = self.vehicles * self.parked, self.vehicles * (1 - self.parked)
        parts = [
            *populate(path, lambda: self._cars(rng, path, 96, steps, dt, parked=True), parked, self.far),
            *populate(path, lambda: self._cars(rng, path, 32, steps, dt, parked=False), moving, self.far),
            *walk.pedestrians(rng, path, steps, dt),
        ]
        return Actors.concat([*parts, *self._posts(rng, path, steps)]), path

    def _posts(self, rng: np.random.Generator, path: CameraPath, steps: int) -> list[Actors]:
        """Obstacles along the road."""
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
        """Cars that are near the camera's path at one random moment."""
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
        course = heading + (not parked) * 0.15 * smooth_noise(rng, steps, n, seconds=3.0, dt=dt)
        course = course + self._turns(rng, moment, steps, dt) * ~(crossing | parked)
        x, z = self._drive(rng, path, course, 0.0 if parked else 1.0, oncoming | crossing, dt)
        start_x, start_z = _beside(path, moment, aside, ahead)
        if parked:
            start_x, start_z = _in_slots(path, moment, side, ahead, aside)
        column = np.arange(n)
        x, z = x + start_x - x[moment, column], z + start_z - z[moment, column]
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
        """`(T, n)` radians: cars leave a side street before their moment, and turn into another one after it."""
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
        independent: NDArray[np.bool_],
        dt: float,
    ) -> tuple[Signal, Signal]:
        """`(T, n)` metres; cars that are not `independent` adapt their speed to the camera's."""
        steps, n = course.shape
        own = self.speed * rng.lognormal(0, 0.3, n)
        stops = on_off(rng, steps, n, off=8.0, on=2.0, dt=dt)
        free = low_pass(np.where(stops, 0.15, 1.0), seconds=2.0, dt=dt) * own
        camera_speed = np.hypot(np.gradient(path.x), np.gradient(path.z)) / dt if steps > 1 else np.zeros(steps)
        drift = 1.0 + 0.25 * smooth_noise(rng, steps, n, seconds=4.0, dt=dt)
        speed = np.where(independent, free, 0.5 * free + 0.5 * camera_speed[:, None] * drift) * moves
        return np.cumsum(speed * np.sin(course), axis=0) * dt, np.cumsum(speed * np.cos(course), axis=0) * dt


def _in_slots(
    path: CameraPath,
    moment: NDArray[np.int64],
    side: NDArray[np.float64],
    ahead: NDArray[np.float64],
    aside: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions in metres of parked cars along the road, one per slot and side; further ones are out of view."""
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(path.x), np.diff(path.z)))])
    slot = np.round((travelled[moment] + ahead) / SLOT)
    x, z = _beside(path, moment, aside, slot * SLOT - travelled[moment])
    _, first = np.unique(np.stack([slot, side]), axis=1, return_index=True)
    repeated = np.ones(len(slot), np.bool_)
    repeated[first] = False
    return np.where(repeated, OUT_OF_VIEW, x), np.where(repeated, OUT_OF_VIEW, z)


def _beside(
    path: CameraPath, moment: NDArray[np.int64], aside: NDArray[np.float64], ahead: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions in metres beside and ahead of the camera at some moments."""
    cos, sin = np.cos(path.yaw[moment]), np.sin(path.yaw[moment])
    return path.x[moment] + aside * cos + ahead * sin, path.z[moment] - aside * sin + ahead * cos
