"""Pedestrians: streams that cross, groups that keep together, people who stand, wait and turn."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trackweave.association.simulation.actors import CYCLIST, PERSON, Actors, headings, obstacles
from trackweave.association.simulation.camera import CameraPath, CameraSettings, camera_path
from trackweave.association.simulation.casting import cast
from trackweave.association.simulation.processes import Signal, episodes, glide, soften


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
