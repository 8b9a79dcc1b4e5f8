"""Who moves where in the synthetic scene: closed forms of time, so that any frame can be asked for first.

Places are in *view units*: the unmoved camera sees x in [-0.5, 0.5]·aspect and y in [-0.5, 0.5], so 1 is the height of
the view; y points down. Time `u` runs from 0 at the first to 1 at the last frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin
from typing import NamedTuple

import numpy as np


class Pose(NamedTuple):
    """Place of a centre in view units, turn in radians, and size relative to the object's own."""

    x: float
    y: float
    turn: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Actor:
    """One object's part.

    Attributes:
        role: what it does: "crossing", "hiding", "leaving", "arriving", "turning" or "wandering".
        kind: outline, see `synthetic_textures.OUTLINES`.
        diameter: in view units.
        depth: larger is nearer to the camera; nearer objects cover farther ones, the post covers all.
        at: pose at time u.
    """

    role: str
    kind: str
    diameter: float
    depth: int
    at: Callable[[float], Pose]


POST_X = 0.16
"""Where the post stands, as a part of the view's width."""
POST_WIDTH = 0.15
"""In view units; the hiding object is narrower."""


def camera_at(u: float) -> Pose:
    """The camera: a slow pan with a sway, a slight zoom and a slight turn."""
    return Pose(0.05 * sin(2 * pi * u), 0.03 * sin(3 * pi * u), 0.035 * sin(2 * pi * u + 0.6), 1 + 0.05 * sin(pi * u))


def cast_of(rng: np.random.Generator, count: int, aspect: float) -> list[Actor]:
    """The actors of objects 1 … count; the first six have the parts that a tracker finds hard."""
    leads = [_crossing_far, _crossing_near, _hiding, _leaving, _arriving, _turning]
    return [leads[k](rng, aspect) if k < len(leads) else _wandering(rng, aspect, k) for k in range(count)]


def _crossing_far(rng: np.random.Generator, aspect: float) -> Actor:
    spin, bob = rng.uniform(-0.6, 0.6), rng.uniform(0.02, 0.04)
    return Actor(
        "crossing",
        "ellipse",
        0.24,
        3,
        lambda u: Pose(aspect * (0.64 * u - 0.4), -0.22 + bob * sin(4 * pi * u), spin * u),
    )


def _crossing_near(rng: np.random.Generator, aspect: float) -> Actor:
    spin, rise = rng.uniform(0.8, 1.6), rng.uniform(-0.04, 0.04)
    return Actor(
        "crossing",
        "polygon",
        0.2,
        5,
        lambda u: Pose(aspect * (0.24 - 0.64 * u), -0.2 + rise * (u - 0.5), spin * u, 1 + 0.15 * sin(pi * u)),
    )


def _hiding(rng: np.random.Generator, aspect: float) -> Actor:
    drift = rng.uniform(-0.03, 0.03)

    def at(u: float) -> Pose:
        t = 2 * u - 1  # slows down behind the post, which it reaches at half time
        return Pose(aspect * (POST_X + 0.22 * (0.55 * t + 0.45 * t**3)), 0.12 + drift * t, 1.2 * t)

    return Actor("hiding", "polygon", 0.105, 4, at)


def _leaving(rng: np.random.Generator, aspect: float) -> Actor:
    start = rng.uniform(-0.1, 0.0)
    return Actor(
        "leaving",
        "star",
        0.2,
        2,
        lambda u: Pose(aspect * (start - 0.3 * u), 0.28 + 0.75 * u**2, 2.5 * u, 1 + 0.2 * u),
    )


def _arriving(rng: np.random.Generator, aspect: float) -> Actor:
    height = rng.uniform(-0.06, 0.02)
    return Actor(
        "arriving",
        "crescent",
        0.22,
        6,
        lambda u: Pose(aspect * (0.45 * u - 0.5) - 0.7 * (1 - u), height + 0.05 * sin(5 * u), 0.8 - u),
    )


def _turning(rng: np.random.Generator, aspect: float) -> Actor:
    phase = rng.uniform(0, 2 * pi)
    return Actor(
        "turning",
        "ring",
        0.42,
        1,
        lambda u: Pose(
            aspect * (0.27 + 0.03 * sin(3 * u)), 0.2 - 0.06 * u, phase + 1.4 * u, 1 - 0.15 * sin(2 * pi * u)
        ),
    )


def _wandering(rng: np.random.Generator, aspect: float, number: int) -> Actor:
    x, y = rng.uniform(-0.4, 0.4), rng.uniform(-0.38, 0.38)
    reach, speed, phase = rng.uniform(0.04, 0.16), rng.uniform(0.5, 1.3), rng.uniform(0, 2 * pi)
    spin, size = rng.uniform(-2, 2), rng.uniform(0.06, 0.16)
    kind = ("polygon", "ellipse", "star", "crescent")[number % 4]

    def at(u: float) -> Pose:
        turn = 2 * pi * speed * u + phase
        return Pose(aspect * (x + reach * cos(turn)), y + reach * sin(turn), spin * u, 1 + 0.1 * sin(turn))

    return Actor("wandering", kind, size, number + 1, at)
