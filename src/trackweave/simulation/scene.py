"""`Actors`: where the objects of a simulated scene are, in metres.

`Scene`: what a camera has before it: true boxes in pixels and how much of them can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.simulation.occlusion import Sightings
from trackweave.simulation.random_processes import Signal

PERSON, CAR, CYCLIST = 1, 3, 4
"""Classes as KITTI's files in MOTChallenge layout number them."""
COLUMNS = ("x", "z", "lift", "height", "length", "breadth", "heading", "lean", "present")
"""Those of `Actors` over time."""
OBSTACLE = -1
"""Hides others, and is neither seen by the detector nor part of the truth."""


@dataclass(frozen=True, eq=False)
class Actors:
    """N objects over T moments on flat ground; x to the right, z away from where the camera begins.

    Attributes:
        x, z: `(T, N)` metres, place of the foot.
        lift: `(T, N)` metres from the ground to the foot: a jump.
        height: `(T, N)` metres.
        length, breadth: `(T, N)` metres along the heading and across it.
        heading: `(T, N)` radians, 0 = away from the camera's start, positive to the right.
        lean: `(T, N)` metres in the picture from the foot to the middle of the body.
        present: `(T, N)` bool.
        class_id: `(N,)` int64; `OBSTACLE` for what only hides.
    """

    x: Signal
    z: Signal
    lift: Signal
    height: Signal
    length: Signal
    breadth: Signal
    heading: Signal
    lean: Signal
    present: NDArray[np.bool_]
    class_id: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        x: Signal,
        z: Signal,
        *,
        height: Signal,
        breadth: Signal,
        class_id: NDArray[np.int64],
        length: Signal | None = None,
        heading: Signal | None = None,
        lift: Signal | None = None,
        lean: Signal | None = None,
        present: NDArray[np.bool_] | None = None,
    ) -> Actors:
        """Fills in what is not given: on the ground, upright, as long as broad, always there."""
        shape = x.shape

        def full(given: Signal | None, otherwise: float) -> Signal:
            return np.broadcast_to(np.asarray(otherwise if given is None else given, np.float64), shape)

        broad = full(breadth, 0.0)
        return cls(
            x,
            z,
            full(lift, 0.0),
            full(height, 0.0),
            broad if length is None else full(length, 0.0),
            broad,
            full(heading, 0.0),
            full(lean, 0.0),
            np.ones(shape, np.bool_) if present is None else present,
            class_id,
        )

    @classmethod
    def concat(cls, parts: list[Actors]) -> Actors:
        """Actors of one scene side by side."""
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts], axis=1) for name in COLUMNS
        }
        return cls(**columns, class_id=np.concatenate([part.class_id for part in parts]))

    def __len__(self) -> int:
        return len(self.class_id)

    def chosen(self, columns: NDArray[np.bool_] | NDArray[np.intp]) -> Actors:
        """Some of the objects."""
        chosen: dict[str, Any] = {name: getattr(self, name)[:, columns] for name in COLUMNS}
        return Actors(**chosen, class_id=self.class_id[columns])


def headings(x: Signal, z: Signal) -> Signal:
    """`(T, N)` radians, the directions of travel of paths."""
    if len(x) < 2:
        return np.zeros_like(x)
    return np.arctan2(np.gradient(x, axis=0), np.gradient(z, axis=0))


def obstacles(
    rng: np.random.Generator, steps: int, count: int, *, near: float, far: float, reach: float
) -> Actors | None:
    """Things that stand between the camera and the crowd: posts, signs, trees, kiosks. None for a count of 0.

    Args:
        rng: draws them.
        steps: moments.
        count: how many.
        near, far: metres from the camera.
        reach: metres to either side of the middle, per metre of distance.
    """
    if not count:
        return None
    z = rng.uniform(near, far, count)
    x = rng.uniform(-reach, reach, count) * z
    height, breadth = rng.uniform(1.0, 5.0, count), rng.lognormal(np.log(0.5), 0.6, count)
    still = np.ones((steps, 1))
    return Actors.of(
        x * still,
        z * still,
        height=height * still,
        breadth=breadth * still,
        class_id=np.full(count, OBSTACLE, np.int64),
    )


@dataclass(frozen=True, eq=False)
class Scene:
    """N objects on F frames.

    Attributes:
        size: `(H, W)` pixels.
        dt: seconds between frames, on average.
        boxes: `(F, N, 4)` float64 xyxy of the whole objects.
        there: `(F, N)` bool: in the picture, and something that a detector looks for.
        seen: how much of them is visible.
        track_id: `(N,)` int64, above 0.
        class_id: `(N,)` int64.
        camera: `(F, 2, 3)` float64, how the picture moved since the frame before.
    """

    size: tuple[int, int]
    dt: float
    boxes: NDArray[np.float64]
    there: NDArray[np.bool_]
    seen: Sightings
    track_id: NDArray[np.int64]
    class_id: NDArray[np.int64]
    camera: NDArray[np.float64]
