"""Dancers: a formation that moves as one and changes its shape; its members look alike and pass before each other."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from trackweave.association.simulation.actors import PERSON, Actors, obstacles
from trackweave.association.simulation.camera import CameraPath, CameraSettings, camera_path
from trackweave.association.simulation.processes import Signal, episodes, glide, soften, wander


class DanceMotion(BaseModel):
    """How a group dances."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["dance"] = "dance"
    people: int = Field(default=8, ge=1, le=200, description="dancers")
    spread: float = Field(default=2.0, gt=0, le=50, description="metres from the middle of the formation to its rim")
    depth_share: float = Field(default=0.6, ge=0, le=2, description="the formation's depth, share of its breadth")
    beat_seconds: float = Field(default=1.0, gt=0, le=10, description="of one figure that all dance")
    stride: float = Field(default=0.3, ge=0, le=5, description="metres of the common figures")
    own_stride: float = Field(default=0.15, ge=0, le=5, description="metres of each dancer's own moves")
    own_seconds: float = Field(default=0.5, gt=0, le=10, description="how long an own move lasts")
    change_seconds: float = Field(default=6.0, gt=0, le=600, description="between changes of formation")
    swap_share: float = Field(default=0.5, ge=0, le=1, description="dancers that change places at such a change")
    pose: float = Field(default=0.25, ge=0, le=1, description="how much arms and legs change the box's breadth")
    crouch: float = Field(default=0.15, ge=0, le=0.8, description="how much shorter dancers become")
    crouch_share: float = Field(default=0.15, ge=0, le=1, description="share of time that a dancer is down")
    jump: float = Field(default=0.1, ge=0, le=1, description="metres")
    obstacles: int = Field(default=0, ge=0, le=50, description="things between camera and dancers")

    def enact(
        self, rng: np.random.Generator, camera: CameraSettings, size: tuple[int, int], steps: int, dt: float
    ) -> tuple[Actors, CameraPath]:
        """The dancers, and the camera before them."""
        n = self.people
        x, z = self._formation(rng, steps, dt)
        together = self._figures(rng, steps, dt)
        x, z = x + together[:, :n], z + together[:, n:] * 0.6
        own = glide(rng, steps, 2 * n, seconds=self.own_seconds, dt=dt) * self.own_stride
        restless = np.exp(wander(rng, steps, n, seconds=4.0, dt=dt) * 0.5)
        x, z = x + own[:, :n] * restless, z + own[:, n:] * 0.5 * restless
        z = z + camera.distance
        tall = rng.normal(1.68, 0.08, n)
        lively = np.exp(wander(rng, steps, n, seconds=3.0, dt=dt) * 0.8 - 0.4)
        seconds_down = 3.0 * self.crouch_share / (1.02 - self.crouch_share)
        is_down = episodes(rng, steps, n, off=3.0, on=seconds_down, dt=dt)
        low = soften(is_down.astype(np.float64), seconds=0.35, dt=dt)
        bends = 0.5 * self.crouch * np.abs(glide(rng, steps, n, seconds=0.3, dt=dt)) * lively
        shared = glide(rng, steps, 1, seconds=self.beat_seconds / 2, dt=dt)
        arms = lively * np.abs(0.6 * shared + 0.8 * glide(rng, steps, n, seconds=0.35, dt=dt))
        bounce = np.maximum(glide(rng, steps, n, seconds=0.4, dt=dt) - 1.3, 0.0)
        down = self.crouch * low * rng.uniform(0.5, 1.8, n) + bends
        height = tall * np.clip(1.0 - down + 0.1 * self.pose * arms, 0.2, 1.5)
        breadth = tall * 0.33 * (1.0 + 2.5 * self.pose * np.minimum(arms, 3.0)) * (1.0 + 1.2 * np.minimum(down, 1.0))
        lean = glide(rng, steps, n, seconds=0.6, dt=dt) * 0.15 * (breadth - 0.3 * tall)
        dancers = Actors.of(
            x,
            z,
            height=height,
            breadth=breadth,
            lean=lean,
            lift=bounce * self.jump,
            class_id=np.full(n, PERSON, np.int64),
        )
        hidden = obstacles(rng, steps, self.obstacles, near=2.0, far=max(2.0, camera.distance - self.spread), reach=0.4)
        focus = np.column_stack([x.mean(1), z.mean(1)])
        path = camera_path(rng, camera, size, steps, dt, focus)
        return (dancers if hidden is None else Actors.concat([dancers, hidden])), path

    def _formation(self, rng: np.random.Generator, steps: int, dt: float) -> tuple[Signal, Signal]:
        """Places in a formation that changes now and then: some dancers take each other's places, and its shape."""
        n, length = self.people, steps * dt
        count = 1 + rng.poisson(length / self.change_seconds)
        begins = np.sort(np.concatenate([[0.0], rng.uniform(0, length, count - 1)]))
        order = np.arange(n)
        x, z = np.empty((steps, n)), np.empty((steps, n))
        moment = np.arange(steps) * dt
        shape = self._shape(rng)
        for begin in begins:
            if rng.random() < 0.5:
                shape = self._shape(rng)
            moving = np.flatnonzero(rng.random(n) < self.swap_share)
            order[moving] = order[rng.permutation(moving)]
            rows = moment >= begin
            x[rows], z[rows] = shape[0][order], shape[1][order]
        seconds = rng.uniform(0.7, 2.5)
        return soften(x, seconds=seconds, dt=dt), soften(z, seconds=seconds, dt=dt)

    def _shape(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where the places of a formation are: a line, rows, a ring or a crowd."""
        n, wide, deep = self.people, self.spread, self.spread * self.depth_share
        kind = rng.integers(4)
        if kind == 0:
            x, z = np.linspace(-1, 1, n), rng.uniform(-0.1, 0.1, n)
        elif kind == 1:
            rows = max(2, round(np.sqrt(n / 2)))
            x = (np.arange(n) // rows) / max(1, (n - 1) // rows) * 2 - 1 + 0.1 * (np.arange(n) % 2)
            z = (np.arange(n) % rows) / (rows - 1) * 2 - 1
        elif kind == 2:
            angle = np.arange(n) / n * 2 * np.pi + rng.uniform(0, 6)
            x, z = np.cos(angle), np.sin(angle)
        else:
            x, z = rng.uniform(-1, 1, n), rng.uniform(-1, 1, n)
        return x * wide + rng.normal(0, 0.1, n), z * deep + rng.normal(0, 0.1, n)

    def _figures(self, rng: np.random.Generator, steps: int, dt: float) -> Signal:
        """`(steps, 2 people)` metres: what all dance, each a little late and with an amplitude of their own; some
        mirrored."""
        n = self.people
        common = glide(rng, steps, 2, seconds=self.beat_seconds, dt=dt)
        late = np.clip(rng.normal(0.1, 0.1, n), 0, 0.6) / dt
        rows = np.clip(np.arange(steps)[:, None] - late[None], 0, max(steps - 1, 0))
        low = rows.astype(np.int64)
        high = np.minimum(low + 1, max(steps - 1, 0))
        part = rows - low
        strength = rng.uniform(0.6, 1.4, n) * np.where(rng.random(n) < 0.15, -1, 1)
        figures = [((1 - part) * axis[low] + part * axis[high]) * strength for axis in common.T]
        return np.concatenate(figures, axis=1) * self.stride
