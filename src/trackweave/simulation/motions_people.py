"""Motions of people: dancers in a formation (`DanceMotion`), and players of a team sport (`SportMotion`)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trackweave.compiled import njit
from trackweave.settings import Settings
from trackweave.simulation.camera import CameraPath, CameraSettings, camera_path
from trackweave.simulation.random_processes import Signal, low_pass, on_off, ornstein_uhlenbeck, smooth_noise
from trackweave.simulation.scene import PERSON, Actors, headings, obstacles


class DanceMotion(Settings):
    """A formation that moves together and changes its shape; its members look alike and occlude each other."""

    kind: Literal["dance"] = "dance"
    people: int = Field(default=8, ge=1, le=200, description="dancers")
    spread: float = Field(default=2.0, gt=0, le=50, description="metres from the middle of the formation to its edge")
    depth_share: float = Field(default=0.6, ge=0, le=2, description="the formation's depth, share of its breadth")
    beat_seconds: float = Field(default=1.0, gt=0, le=10, description="of one movement that all dance")
    stride: float = Field(default=0.3, ge=0, le=5, description="metres of the common movements")
    own_stride: float = Field(default=0.15, ge=0, le=5, description="metres of each dancer's own movements")
    own_seconds: float = Field(default=0.5, gt=0, le=10, description="how long an own movement lasts")
    change_seconds: float = Field(default=6.0, gt=0, le=600, description="between changes of formation")
    swap_share: float = Field(default=0.5, ge=0, le=1, description="dancers that change places at such a change")
    pose: float = Field(default=0.25, ge=0, le=1, description="how much arms and legs change the box's breadth")
    crouch: float = Field(default=0.15, ge=0, le=0.8, description="how much shorter dancers become")
    crouch_share: float = Field(default=0.15, ge=0, le=1, description="share of time that a dancer is down")
    jump: float = Field(default=0.1, ge=0, le=1, description="metres")
    obstacles: int = Field(default=0, ge=0, le=50, description="obstacles between camera and dancers")

    def simulate(
        self, rng: np.random.Generator, camera: CameraSettings, size: tuple[int, int], steps: int, dt: float
    ) -> tuple[Actors, CameraPath]:
        """The dancers, and the camera in front of them."""
        n = self.people
        x, z = self._formation(rng, steps, dt)
        common = self._common_movement(rng, steps, dt)
        x, z = x + common[:, :n], z + common[:, n:] * 0.6
        own = smooth_noise(rng, steps, 2 * n, seconds=self.own_seconds, dt=dt) * self.own_stride
        restless = np.exp(ornstein_uhlenbeck(rng, steps, n, seconds=4.0, dt=dt) * 0.5)
        x, z = x + own[:, :n] * restless, z + own[:, n:] * 0.5 * restless
        z = z + camera.distance
        dancers = self._bodies(rng, x, z, steps, dt)
        blocks = obstacles(rng, steps, self.obstacles, near=2.0, far=max(2.0, camera.distance - self.spread), reach=0.4)
        focus = np.column_stack([x.mean(1), z.mean(1)])
        path = camera_path(rng, camera, size, steps, dt, focus)
        return (dancers if blocks is None else Actors.concat([dancers, blocks])), path

    def _bodies(self, rng: np.random.Generator, x: Signal, z: Signal, steps: int, dt: float) -> Actors:
        """Dancers on their paths: they crouch, jump, lean and spread their arms."""
        n = self.people
        tall = rng.normal(1.68, 0.08, n)
        lively = np.exp(ornstein_uhlenbeck(rng, steps, n, seconds=3.0, dt=dt) * 0.8 - 0.4)
        seconds_down = 3.0 * self.crouch_share / (1.02 - self.crouch_share)
        is_down = on_off(rng, steps, n, off=3.0, on=seconds_down, dt=dt)
        low = low_pass(is_down.astype(np.float64), seconds=0.35, dt=dt)
        bends = 0.5 * self.crouch * np.abs(smooth_noise(rng, steps, n, seconds=0.3, dt=dt)) * lively
        shared = smooth_noise(rng, steps, 1, seconds=self.beat_seconds / 2, dt=dt)
        arms = lively * np.abs(0.6 * shared + 0.8 * smooth_noise(rng, steps, n, seconds=0.35, dt=dt))
        bounce = np.maximum(smooth_noise(rng, steps, n, seconds=0.4, dt=dt) - 1.3, 0.0)
        down = self.crouch * low * rng.uniform(0.5, 1.8, n) + bends
        breadth = tall * 0.33 * (1.0 + 2.5 * self.pose * np.minimum(arms, 3.0)) * (1.0 + 1.2 * np.minimum(down, 1.0))
        return Actors.of(
            x,
            z,
            height=tall * np.clip(1.0 - down + 0.1 * self.pose * arms, 0.2, 1.5),
            breadth=breadth,
            lean=smooth_noise(rng, steps, n, seconds=0.6, dt=dt) * 0.15 * (breadth - 0.3 * tall),
            lift=bounce * self.jump,
            class_id=np.full(n, PERSON, np.int64),
        )

    def _formation(self, rng: np.random.Generator, steps: int, dt: float) -> tuple[Signal, Signal]:
        """Positions in a formation that changes at random times: some dancers swap places, or its shape changes."""
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
        return low_pass(x, seconds=seconds, dt=dt), low_pass(z, seconds=seconds, dt=dt)

    def _shape(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions of a random formation: a line, rows, a ring or a crowd."""
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

    def _common_movement(self, rng: np.random.Generator, steps: int, dt: float) -> Signal:
        """`(steps, 2 people)` metres: the same movement for all, each with a delay and an amplitude; some mirrored."""
        n = self.people
        common = smooth_noise(rng, steps, 2, seconds=self.beat_seconds, dt=dt)
        delay = np.clip(rng.normal(0.1, 0.1, n), 0, 0.6) / dt
        rows = np.clip(np.arange(steps)[:, None] - delay[None], 0, max(steps - 1, 0))
        low = rows.astype(np.int64)
        high = np.minimum(low + 1, max(steps - 1, 0))
        part = rows - low
        strength = rng.uniform(0.6, 1.4, n) * np.where(rng.random(n) < 0.15, -1, 1)
        movement = [((1 - part) * axis[low] + part * axis[high]) * strength for axis in common.T]
        return np.concatenate(movement, axis=1) * self.stride


class SportMotion(Settings):
    """Two teams around a ball: sprints, sharp turns, players close to their opponents."""

    kind: Literal["sport"] = "sport"
    players: int = Field(default=10, ge=1, le=200, description="of both teams, judges included")
    field_length: float = Field(default=28.0, gt=0, le=200, description="metres, across the image")
    field_width: float = Field(default=15.0, gt=0, le=200, description="metres, in depth")
    speed: float = Field(default=6.0, gt=0, le=12, description="of a sprint, metres per second")
    acceleration: float = Field(default=5.0, gt=0, le=20, description="metres per second²")
    crowding: float = Field(default=0.5, ge=0, le=1, description="how strongly the ball draws players together")
    marking: float = Field(default=0.5, ge=0, le=1, description="share of players who follow an opponent closely")
    wander: float = Field(default=2.0, ge=0, le=20, description="metres of each player's own runs")
    ball_seconds: float = Field(default=2.0, gt=0, le=20, description="between passes")
    pose: float = Field(default=0.2, ge=0, le=1, description="how much running changes the box's breadth")

    def simulate(
        self, rng: np.random.Generator, camera: CameraSettings, size: tuple[int, int], steps: int, dt: float
    ) -> tuple[Actors, CameraPath]:
        """The players, and the camera at the side of the field."""
        n = self.players
        ball = self._ball(rng, steps, dt)
        target = self._targets(rng, ball, steps, dt)
        marked, offset = self._marking(rng)
        walks = on_off(rng, steps, n, off=3.0, on=2.0, dt=dt)
        pace = self.speed * rng.uniform(0.75, 1.1, n) * np.where(walks, 0.35, 1.0)
        position = np.empty((steps, n, 2))
        _run(target, marked, offset, np.ascontiguousarray(pace), self.acceleration, dt, position)
        x, z = position[:, :, 0], position[:, :, 1] + camera.distance
        players = self._bodies(rng, x, z, steps, dt)
        focus = np.column_stack([ball[:, 0], ball[:, 1] + camera.distance])
        return players, camera_path(rng, camera, size, steps, dt, focus)

    def _bodies(self, rng: np.random.Generator, x: Signal, z: Signal, steps: int, dt: float) -> Actors:
        n = self.players
        tall = rng.normal(1.85, 0.09, n)
        heading = headings(x, z)
        speed = np.hypot(np.gradient(x, axis=0), np.gradient(z, axis=0)) / dt if steps > 1 else np.zeros_like(x)
        effort = np.clip(speed / self.speed, 0, 1)
        phase = np.cumsum(2 * np.pi * (1.2 + 1.2 * effort), axis=0) * dt + rng.uniform(0, 6, n)
        reach = np.abs(smooth_noise(rng, steps, n, seconds=0.4, dt=dt)) * self.pose
        legs = 0.3 + (0.45 * effort + 0.1) * np.abs(np.sin(phase / 2)) + 0.6 * reach
        bent = np.clip(0.5 * smooth_noise(rng, steps, n, seconds=0.8, dt=dt) - 0.2, 0, 0.5) * self.pose * 2
        jump = np.maximum(smooth_noise(rng, steps, n, seconds=0.35, dt=dt) - 1.6, 0) * 0.4
        return Actors.of(
            x,
            z,
            height=tall * (1 - bent),
            breadth=tall * (0.3 + 0.5 * reach + 0.2 * bent),
            length=tall * legs / 1.2,
            heading=heading,
            lift=jump,
            lean=0.1 * smooth_noise(rng, steps, n, seconds=0.5, dt=dt) * effort,
            class_id=np.full(n, PERSON, np.int64),
        )

    def _ball(self, rng: np.random.Generator, steps: int, dt: float) -> Signal:
        """`(steps, 2)` metres: passes within a drifting area, and now and then an attack to the other side."""
        count = max(2, 2 + int(steps * dt / self.ball_seconds * 2))
        begins = np.cumsum(rng.exponential(self.ball_seconds, count))
        side = np.sign(rng.standard_normal()) * np.cumprod(np.where(rng.random(count) < 0.15, -1.0, 1.0))
        x = side * self.field_length * rng.uniform(0.05, 0.45, count)
        z = self.field_width * rng.uniform(-0.4, 0.4, count)
        index = np.minimum(np.searchsorted(begins, np.arange(steps) * dt, side="right"), count - 1)
        return low_pass(np.column_stack([x, z])[index], seconds=0.8 + self.field_length / 50, dt=dt)

    def _targets(self, rng: np.random.Generator, ball: Signal, steps: int, dt: float) -> NDArray[np.float64]:
        """`(steps, players, 2)` metres: where each player runs to: a base position, drawn towards the ball."""
        n = self.players
        team = np.where(np.arange(n) % 2 == 0, -1.0, 1.0)
        half = np.array([self.field_length, self.field_width]) / 2
        base = rng.uniform(-1, 1, (n, 2)) * half * np.array([0.5, 0.9])
        base[:, 0] += team * 0.15 * self.field_length
        eager = np.clip(rng.normal(self.crowding, 0.15, n), 0, 0.97)
        delayed_ball = low_pass(ball, seconds=1.5, dt=dt)
        own = ornstein_uhlenbeck(rng, steps, 2 * n, seconds=1.5, dt=dt).reshape(steps, n, 2) * self.wander
        target = (1 - eager)[:, None] * base + eager[:, None] * delayed_ball[:, None] + own
        return np.ascontiguousarray(np.clip(target, -1.05 * half, 1.05 * half))

    def _marking(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The opponent whom each player marks (−1 = none), and `(players, 2)` metres from them."""
        n = self.players
        marked = np.full(n, -1, np.int64)
        guards = np.flatnonzero((np.arange(n) % 2 == 1) & (rng.random(n) < 2 * self.marking))
        attackers = rng.permutation(np.arange(0, n, 2))[: len(guards)]
        marked[guards[: len(attackers)]] = attackers
        angle = rng.uniform(0, 2 * np.pi, n)
        return marked, np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(0.5, 1.5, n)[:, None]


@njit
def _run(
    target: NDArray[np.float64],
    marked: NDArray[np.int64],
    offset: NDArray[np.float64],
    pace: NDArray[np.float64],
    acceleration: float,
    dt: float,
    position: NDArray[np.float64],
) -> None:
    """Players run to their targets or opponents, with bounded speed and acceleration, and keep half a metre apart."""
    steps, n, _ = target.shape
    velocity = np.zeros((n, 2))
    for t in range(steps):
        for i in range(n):
            if t == 0:
                position[0, i] = target[0, i]
                continue
            wish_x, wish_z = target[t, i, 0] - position[t - 1, i, 0], target[t, i, 1] - position[t - 1, i, 1]
            if marked[i] >= 0:
                wish_x = position[t - 1, marked[i], 0] + offset[i, 0] - position[t - 1, i, 0]
                wish_z = position[t - 1, marked[i], 1] + offset[i, 1] - position[t - 1, i, 1]
            far = math.sqrt(wish_x * wish_x + wish_z * wish_z) + 1e-9
            fast = min(far * 2.5, pace[t, i])
            push_x, push_z = fast * wish_x / far - velocity[i, 0], fast * wish_z / far - velocity[i, 1]
            force = math.sqrt(push_x * push_x + push_z * push_z) + 1e-9
            bound = min(1.0, acceleration * dt / force)
            velocity[i, 0] += push_x * bound
            velocity[i, 1] += push_z * bound
            for j in range(n):
                gap_x = position[t - 1, i, 0] - position[t - 1, j, 0]
                gap_z = position[t - 1, i, 1] - position[t - 1, j, 1]
                close = math.sqrt(gap_x * gap_x + gap_z * gap_z)
                if j != i and 1e-6 < close < 0.5:
                    velocity[i, 0] += (0.5 - close) * gap_x / close * 8 * dt
                    velocity[i, 1] += (0.5 - close) * gap_z / close * 8 * dt
            position[t, i, 0] = position[t - 1, i, 0] + velocity[i, 0] * dt
            position[t, i, 1] = position[t - 1, i, 1] + velocity[i, 1] * dt
