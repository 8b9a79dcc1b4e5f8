"""`NestedScene`: a computed video of things with parts, at three levels, whose identities are easily lost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import cos, pi, sin
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.simulation.video import (
    GROUND_MARGIN,
    PALETTE,
    POST_X,
    Generator,
    Labels,
    MovingObject,
    Pose,
    Sprite,
    SyntheticScene,
    camera_pose,
    ground_texture,
    shape_mask,
    surface_texture,
)

ELSEWHERE = 40.0
"""Where what the second shot shows lies, in view units to the right: nothing of the first is in view there."""
SHOT = (0.4, 0.62)
"""The time of the second shot."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing of a `NestedScene`.

    Attributes:
        name: what it does.
        moving: its shape and path.
        twin_of: number of the thing that looks the same, or None.
        sprite: what it looks like.
        parts: `(side, side)` uint8, the part of each of its pixels, from 0.
        details: `(side, side)` uint8, the detail, a part of a part, from 0.
        part_of: the part that each detail belongs to.
    """

    name: str
    moving: MovingObject
    twin_of: int | None
    sprite: Sprite
    parts: NDArray[np.uint8]
    details: NDArray[np.uint8]
    part_of: tuple[int, ...]


class NestedScene(SyntheticScene):
    """Things made of parts, made of details: levels 2, 4 and 6. Every pixel of a thing is in one part and one detail.

    Whatever the seed:

    - 1 and 2 are look-alikes that go side by side, a few pixels apart;
    - 3 passes behind the post, is fully hidden at half time, and returns;
    - 4 leaves the view and returns; 5, its look-alike, comes in on the other side while it is away;
    - 6 passes in front of 7, which is large;
    - with `cuts`, another place is shown from 0.4 to 0.62 of the time, with 8, a look-alike of 3, and 9; then the
      first place again. 3, 4 and 5 then do what they do before and after.

    Args:
        seed: of all random numbers.
        height, width: of the view in pixels, at least 32.
        length: number of frames.
        cuts: whether there is a second shot between two of the first.
        noise: standard deviation of the sensor's noise in grey levels.

    Raises:
        ValueError: a size or length out of range.
    """

    LEVELS: ClassVar[tuple[int, ...]] = (2, 4, 6)

    def __init__(
        self,
        seed: int = 0,
        height: int = 240,
        width: int = 320,
        length: int = 60,
        *,
        cuts: bool = False,
        noise: float = 2.0,
    ) -> None:
        super().__init__(seed, height, width, length, 0, noise=noise)
        rng = np.random.default_rng([seed, 2])
        self.has_cuts = cuts
        self.things = tuple(_things(rng, height, width / height, cuts=cuts))
        self.moving = tuple(thing.moving for thing in self.things)
        self._sprites = [thing.sprite for thing in self.things]
        self._far_to_near = sorted(range(len(self.things)), key=lambda k: self.moving[k].depth)
        if cuts:
            size = round(height * GROUND_MARGIN), round(width * GROUND_MARGIN)
            self._other_ground = ground_texture(rng, *size, height / 240)[::-1, :, [2, 0, 1]] // 2
        self._first_part = np.cumsum([0, *(int(thing.parts.max()) + 1 for thing in self.things)])
        self._first_detail = np.cumsum([0, *(len(thing.part_of) for thing in self.things)])

    @property
    def cuts(self) -> list[int]:
        """Frames that begin a shot, but the first."""
        shots = [self._shot(self._time(local)) for local in range(len(self))]
        return [local for local in range(1, len(self)) if shots[local] != shots[local - 1]]

    @cached_property
    def parents(self) -> dict[tuple[int, int], int]:
        """`(level, id)` of each part and detail → id of what it is a part of, on the level above."""
        found = {}
        for k, thing in enumerate(self.things):
            for part in range(int(thing.parts.max()) + 1):
                found[4, int(self._first_part[k]) + part + 1] = k + 1
            for detail, part in enumerate(thing.part_of):
                found[6, int(self._first_detail[k]) + detail + 1] = int(self._first_part[k]) + part + 1
        return found

    def thing_of(self, level: int, number: int) -> int:
        """The thing that an id of a level belongs to."""
        while level > 2:
            number, level = self.parents[level, number], level - 2
        return number

    def labels(self, local: int, level: int = 2) -> Labels:
        """Visible ids of a level on a frame: `(H, W)`, 0 = ground or post.

        Raises:
            IndexError: no such frame.
            ValueError: no such level.
        """
        if level not in self.LEVELS:
            raise ValueError(f"levels are {self.LEVELS}, not {level}")
        u = self._time(local)
        labels = np.zeros(self._size, np.uint8)
        for k in self._far_to_near:
            thing, matrix = self.things[k], self._to_view(self.moving[k].pose(u), u)
            window, coverage, to_window = self._cover(thing.sprite, matrix)
            if coverage is None:
                continue
            inside = coverage >= 128
            labels[window][inside] = k + 1
            if level > 2:
                kinds, first = (
                    (thing.parts, self._first_part[k]) if level == 4 else (thing.details, self._first_detail[k])
                )
                size = coverage.shape[1], coverage.shape[0]
                nearest = cv2.INTER_NEAREST
                warped = cv2.warpAffine(kinds, to_window, size, flags=nearest, borderMode=cv2.BORDER_REPLICATE)
                labels[window][inside] = warped[inside] + np.uint8(first + 1)
        self._stamp(labels, self._post, self._to_view(self._post_pose(), u), 0)
        return labels

    def _shot(self, u: float) -> int:
        return int(self.has_cuts and SHOT[0] <= u < SHOT[1])

    def _camera_pose(self, u: float) -> Pose:
        pose = camera_pose(u)
        return pose._replace(x=pose.x + ELSEWHERE * self._shot(u))

    def _draw_ground(self, u: float) -> NDArray[np.uint8]:
        if not self._shot(u):
            return super()._draw_ground(u)
        here, there = self._ground, Pose(ELSEWHERE, 0.0)
        height, width = here.shape[:2]
        matrix = self._to_view(there, u)
        matrix[:, 2] -= matrix[:, :2] @ np.array([(width - 1) / 2, (height - 1) / 2])
        view = (self._size[1], self._size[0])
        return cv2.warpAffine(self._other_ground, matrix, view, borderMode=cv2.BORDER_REFLECT).astype(np.uint8)


def _things(rng: Generator, height: int, aspect: float, *, cuts: bool) -> list[Thing]:
    paths = [*_twins(rng, aspect), _hiding(rng, aspect), _returning(rng, aspect), _arriving(rng, aspect)]
    paths += [_passing(rng, aspect), _large(rng, aspect)]
    if cuts:
        paths += [_elsewhere(rng, aspect, -0.25, 0.13), _elsewhere(rng, aspect, 0.2, 0.3)]
    twins = {1: 0, 4: 3, 7: 2}
    names = ("side by side", "side by side", "hides", "returns", "arrives", "passes", "large", "elsewhere", "elsewhere")
    colours = rng.permutation(len(PALETTE))
    things: list[Thing] = []
    for k, moving in enumerate(paths):
        twin = twins.get(k)
        if twin is not None:
            other = things[twin]
            things.append(Thing(names[k], moving, twin + 1, other.sprite, other.parts, other.details, other.part_of))
            continue
        side = max(round(moving.diameter * height), 12)
        parts, details, part_of = _divide(rng, side)
        coverage = shape_mask(rng, moving.shape, side)
        image = np.zeros((side, side, 3), np.uint8)
        base = PALETTE[colours[k % len(colours)]]
        for detail, part in enumerate(part_of):
            colour = 0.55 * base + 0.45 * PALETTE[colours[(k + 2 * part + 1) % len(colours)]]
            shade = np.float32(0.72 + 0.5 * (detail % 2) + rng.uniform(-0.05, 0.05))
            surface = surface_texture(rng, side, np.clip(colour * shade, 0, 255).astype(np.float32))
            image[details == detail] = surface[details == detail]
        things.append(Thing(names[k], moving, None, Sprite(image, coverage), parts, details, part_of))
    return things


def _divide(rng: Generator, side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[int, ...]]:
    """Two or three parts, of which all but one have two details."""
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) / side
    angle, count = rng.uniform(0, pi), int(rng.integers(2, 4))
    along, across = x * cos(angle) + y * sin(angle), y * cos(angle) - x * sin(angle)
    parts = (along > 0.02).astype(np.uint8)
    if count == 3:
        parts[(parts == 1) & (across > 0)] = 2
    details = np.zeros((side, side), np.uint8)
    part_of: list[int] = []
    whole = int(rng.integers(count))
    for part in range(count):
        inside = parts == part
        details[inside] = len(part_of)
        part_of.append(part)
        if part != whole:
            middle = np.median((across if part == 0 or count == 2 else along)[inside])
            second = inside & ((across if part == 0 or count == 2 else along) > middle)
            details[second] = len(part_of)
            part_of.append(part)
    return parts, details, tuple(part_of)


def _twins(rng: Generator, aspect: float) -> list[MovingObject]:
    size, tilt = rng.uniform(0.17, 0.21), rng.uniform(-0.3, 0.3)
    x, y, phase, reach = (
        rng.uniform(-0.3, -0.15),
        rng.uniform(-0.2, 0.0),
        rng.uniform(0, 2 * pi),
        rng.uniform(0.04, 0.1),
    )

    def path(shift: float) -> MovingObject:
        def pose(u: float) -> Pose:
            turn = 2 * pi * 0.6 * u + phase
            centre = aspect * x + reach * cos(turn), y + reach * sin(turn)
            return Pose(centre[0] + shift * size * cos(tilt), centre[1] + shift * size * sin(tilt), tilt)

        return MovingObject("side by side", "ellipse", size, 3, pose)

    return [path(-0.56), path(0.56)]


def _hiding(rng: Generator, aspect: float) -> MovingObject:
    drift = rng.uniform(-0.03, 0.03)
    sign = rng.choice([-1.0, 1.0])

    def pose(u: float) -> Pose:
        t = 2 * u - 1
        return Pose(aspect * (POST_X + sign * 0.24 * (0.5 * t + 0.5 * t**3)), 0.16 + drift * t, 0.6 * t)

    return MovingObject("hiding", "polygon", 0.13, 4, pose)


def _returning(rng: Generator, aspect: float) -> MovingObject:
    """Out of the left side, back where it went; away from 0.3 to 0.7 of the time or so."""
    height, start, size = rng.uniform(0.24, 0.32), rng.uniform(-0.26, -0.2), rng.uniform(0.18, 0.22)
    reach = rng.uniform(0.62, 0.72)

    def pose(u: float) -> Pose:
        away = sin(pi * u) ** 2
        return Pose(aspect * start - reach * away, height + 0.03 * sin(5 * u), 0.8 * (u - 0.5))

    return MovingObject("returning", "star", size, 5, pose)


def _arriving(rng: Generator, aspect: float) -> MovingObject:
    """From the right while the one like it is away."""
    height, turn = rng.uniform(-0.4, -0.34), rng.uniform(0, 1)
    start, size = rng.uniform(0.2, 0.26), 0.2

    def pose(u: float) -> Pose:
        return Pose(aspect * 0.5 + size - (u - start) * 0.75, height + 0.04 * sin(4 * u), turn + 0.5 * u)

    return MovingObject("arriving", "star", size, 5, pose)


def _passing(rng: Generator, aspect: float) -> MovingObject:
    height, sign, size = rng.uniform(0.1, 0.2), rng.choice([-1.0, 1.0]), rng.uniform(0.14, 0.18)
    return MovingObject(
        "passing", "polygon", size, 6, lambda u: Pose(sign * aspect * (0.7 * u - 0.35), height - 0.05 * u, 0.7 * u)
    )


def _large(rng: Generator, aspect: float) -> MovingObject:
    x, size, spin = rng.uniform(-0.02, 0.04), rng.uniform(0.36, 0.44), rng.uniform(-0.5, 0.5)
    return MovingObject(
        "large", "ellipse", size, 1, lambda u: Pose(aspect * (x + 0.05 * sin(3 * u)), 0.22 - 0.05 * u, spin * u)
    )


def _elsewhere(rng: Generator, aspect: float, x: float, size: float) -> MovingObject:
    height, spin, pace = rng.uniform(-0.15, 0.15), rng.uniform(-0.8, 0.8), rng.uniform(-0.3, 0.3)
    return MovingObject(
        "elsewhere", "polygon", size, 4, lambda u: Pose(ELSEWHERE + aspect * x + pace * (u - 0.5), height, spin * u)
    )
