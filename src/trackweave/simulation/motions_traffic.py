"""Pedestrians: streams that cross, groups that keep together, people who stand, wait and turn.

Traffic as a driver sees it: parked cars, cars ahead, cars that come the other way, people on the pavement.

How many actors a scene needs, so that as many as are wanted are in the picture.

`CrowdSettings`: a regime of crowds: who moves how, before which camera, seen by which detector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trackweave.simulation.camera import NEAREST, CameraPath, CameraSettings, camera_path
from trackweave.simulation.detector import EmbeddingSettings
from trackweave.simulation.motions_people import DanceMotion, SportMotion
from trackweave.simulation.random_processes import Signal, episodes, glide, soften
from trackweave.simulation.scene import CAR, CYCLIST, OBSTACLE, PERSON, Actors, headings, obstacles
from trackweave.simulation.settings import DetectorNoise, SequenceSettings

LARGEST_CAST = 3000
"""Actors that are tried, at most: some cameras see few of them."""


def in_picture(path: CameraPath, actors: Actors, far: float) -> NDArray[np.bool_]:
    """`(T, N)`: is the middle of an object in the picture and at most `far` metres away?"""
    across, down, depth = path.project(actors.x, actors.height / 2, actors.z)
    high, wide = path.size
    inside = (across > 0) & (across < wide) & (down > -0.2 * high) & (down < 1.2 * high)
    return inside & (depth > 2 * NEAREST) & (depth < far) & actors.present


def cast(path: CameraPath, draw: Callable[[], Actors], wanted: float, far: float) -> list[Actors]:
    """Draws actors in parts until `wanted` of them are in the picture on average; those never seen are left out."""
    parts: list[Actors] = []
    seen, tried = 0.0, 0
    while seen < wanted and tried < LARGEST_CAST:
        part = draw()
        tried += len(part)
        near = in_picture(path, part, far)
        share = near.mean(axis=0)
        keep = seen + np.cumsum(share) - share < wanted
        parts.append(part.chosen(keep & (share > 0)))
        seen += float(share[keep].sum())
    return parts


class StreamMotion(BaseModel):
    """How people walk through a street, a square or a station."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["stream"] = "stream"
    people: float = Field(default=15.0, ge=0, le=300, description="in the picture, on average")
    near: float = Field(default=4.0, gt=0, le=300, description="metres from the camera to the nearest")
    far: float = Field(default=30.0, gt=0, le=500, description="metres from the camera to the furthest")
    speed: float = Field(default=1.3, gt=0, le=10, description="of walking, metres per second")
    ways: int = Field(default=2, ge=1, le=20, description="streams of different directions")
    depth_share: float = Field(default=0.5, ge=0, le=1, description="how far streams run along the line of sight")
    straying: float = Field(default=0.3, ge=0, le=3, description="radians by which people leave their stream")
    standing: float = Field(default=0.2, ge=0, le=1, description="people who stay where they are")
    stops: float = Field(default=0.1, ge=0, le=1, description="share of time that the others stand still")
    group: float = Field(default=1.6, ge=1, le=10, description="people who walk together, on average")
    cyclists: float = Field(default=0.0, ge=0, le=1, description="share of cyclists")
    obstacles: int = Field(default=2, ge=0, le=50, description="posts, trees and signs between them and the camera")

    @model_validator(mode="after")
    def _is_a_range(self) -> StreamMotion:
        if self.near > self.far:
            raise ValueError("near ≤ far, or there is no room for people")
        return self

    def enact(
        self, rng: np.random.Generator, camera: CameraSettings, size: tuple[int, int], steps: int, dt: float
    ) -> tuple[Actors, CameraPath]:
        """The people, and the camera in the street."""
        path = camera_path(rng, camera, size, steps, dt)
        posts = obstacles(rng, steps, self.obstacles, near=self.near, far=self.far, reach=0.5)
        return Actors.concat([*self.cast(rng, path, steps, dt), *([] if posts is None else [posts])]), path

    def cast(self, rng: np.random.Generator, path: CameraPath, steps: int, dt: float) -> list[Actors]:
        """The people before a camera whose way is known."""
        crowd = _Crowd(self, rng, path, steps, dt)
        return cast(path, lambda: crowd.walkers(64), self.people, 1.5 * self.far)


class _Crowd:
    """Draws paths that lead through the picture."""

    def __init__(self, how: StreamMotion, rng: np.random.Generator, path: CameraPath, steps: int, dt: float) -> None:
        self.how, self.rng, self.path, self.steps, self.dt = how, rng, path, steps, dt
        angle = rng.uniform(0, 2 * np.pi, how.ways)
        self.ways = np.arctan2(np.sin(angle), np.cos(angle) * how.depth_share)

    def walkers(self, groups: int) -> Actors:
        """People of some groups: each group is in the picture at one random moment at least."""
        how, rng = self.how, self.rng
        members = np.minimum(rng.geometric(1 / how.group, groups), 6)
        leader = np.repeat(np.arange(groups), members)
        n, middle = len(leader), np.repeat(members > 1, members)
        x, z, resting = self._paths(groups)
        angle, apart = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.3, 0.9, n) * middle
        sway = glide(rng, self.steps, 2 * n, seconds=2.0, dt=self.dt) * np.where(
            np.tile(resting[leader], 2), 0.06, 0.15
        )
        x = x[:, leader] + apart * np.cos(angle) + sway[:, :n]
        z = z[:, leader] + apart * np.sin(angle) + sway[:, n:]
        return self._bodies(x, z, leader, groups)

    def _paths(self, n: int) -> tuple[Signal, Signal, NDArray[np.bool_]]:
        """`(T, n)` metres x and z of the groups, and which of them stand all the time."""
        how, rng, path = self.how, self.rng, self.path
        way = self.ways[rng.integers(how.ways, size=n)]
        way = way + how.straying * 0.5 * rng.standard_normal(n)
        course = way + how.straying * glide(rng, self.steps, n, seconds=4.0, dt=self.dt)
        waits = episodes(rng, self.steps, n, off=6.0, on=6.0 * how.stops / max(1 - how.stops, 0.02), dt=self.dt)
        resting = rng.random(n) < how.standing
        pace = how.speed * rng.lognormal(0, 0.2, n) * ~resting
        speed = pace * soften(np.where(waits, 0.0, 1.0), seconds=0.8, dt=self.dt)
        x = np.cumsum(speed * np.sin(course), axis=0) * self.dt
        z = np.cumsum(speed * np.cos(course), axis=0) * self.dt
        moment, column = rng.integers(self.steps, size=n), np.arange(n)
        distance = np.sqrt(rng.uniform(how.near**1.5, how.far**1.5, n) ** (4 / 3))
        bearing = path.yaw[moment] + np.arctan(rng.uniform(-0.55, 0.55, n) * path.size[1] / path.focal[moment])
        x += path.x[moment] + distance * np.sin(bearing) - x[moment, column]
        z += path.z[moment] + distance * np.cos(bearing) - z[moment, column]
        return x, z, resting

    def _bodies(self, x: Signal, z: Signal, leader: NDArray[np.int64], groups: int) -> Actors:
        rng, n = self.rng, len(leader)
        rides = (rng.random(groups) < self.how.cyclists)[leader]
        tall = rng.normal(1.7, 0.1, n) * np.where(rng.random(n) < 0.05, 0.7, 1.0)
        heading = headings(x, z)
        moves = np.hypot(np.gradient(x, axis=0), np.gradient(z, axis=0)) / self.dt if len(x) > 1 else np.zeros_like(x)
        walks = np.clip(moves / self.how.speed, 0, 1)
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


Motion = Annotated[DanceMotion | SportMotion | StreamMotion | TrafficMotion, Field(discriminator="kind")]


class CrowdSettings(SequenceSettings):
    """Everything that a simulated sequence is made from, besides its seed."""

    noun = "crowd settings"

    motion: Motion = Field(default_factory=StreamMotion, description="who moves, and how")
    camera: CameraSettings = Field(default_factory=CameraSettings, description="where the camera stands, how it moves")
    detector: DetectorNoise = Field(default_factory=DetectorNoise, description="how the detector errs")
    embedding: EmbeddingSettings | None = Field(default=None, description="appearance; None: there is none")
    fps: float = Field(default=30.0, gt=0, le=1000, description="frames per second")
    width: int = Field(default=1920, ge=16, le=16384, description="pixels")
    height: int = Field(default=1080, ge=16, le=16384, description="pixels")
    time_jitter: float = Field(default=0.0, ge=0, le=0.4, description="irregularity of times, share of a frame")
    skips: float = Field(default=0.0, ge=0, le=0.9, description="share of frames that are skipped")
    inside: float = Field(default=0.25, ge=0, le=1, description="share in the picture from which an object counts")
    smallest: float = Field(default=8.0, ge=1, le=1000, description="pixels of height from which an object counts")
    clips: bool = Field(default=False, description="true and detected boxes end at the picture's edges")
