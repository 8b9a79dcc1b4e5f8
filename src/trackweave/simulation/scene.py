"""`Actors`: the objects of a simulated scene in metres. `Scene`: the same as boxes in the image, with occlusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.simulation.occlusion import Occlusion
from trackweave.simulation.random_processes import Signal

PERSON, CAR, CYCLIST = 1, 3, 4
"""Classes as KITTI's files in MOTChallenge layout number them."""
TIME_COLUMNS = ("x", "z", "lift", "height", "length", "breadth", "heading", "lean", "present")
"""Columns of `Actors` over time."""
OBSTACLE = -1
"""Class of what occludes others, and is neither detected nor part of the truth."""


@dataclass(frozen=True, eq=False)
class Actors:
    """N objects over T moments on flat ground; x to the right, z away from where the camera begins.

    Attributes:
        x, z: `(T, N)` metres, position of the foot.
        lift: `(T, N)` metres from the ground to the foot: a jump.
        height: `(T, N)` metres.
        length, breadth: `(T, N)` metres along the heading and across it.
        heading: `(T, N)` radians, 0 = away from the camera's start, positive to the right.
        lean: `(T, N)` metres in the image plane from the foot to the middle of the body.
        present: `(T, N)` bool.
        class_id: `(N,)` int64; `OBSTACLE` for what only occludes.
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
    ) -> Actors:
        """Actors that are always present; by default on the ground, upright, and as long as broad."""
        shape = x.shape

        def full(values: Signal | None) -> Signal:
            return np.broadcast_to(np.asarray(0.0 if values is None else values, np.float64), shape)

        return cls(
            x,
            z,
            full(lift),
            full(height),
            full(breadth if length is None else length),
            full(breadth),
            full(heading),
            full(lean),
            np.ones(shape, np.bool_),
            class_id,
        )

    @classmethod
    def concat(cls, parts: list[Actors]) -> Actors:
        """All actors of one scene."""
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts], axis=1) for name in TIME_COLUMNS
        }
        return cls(**columns, class_id=np.concatenate([part.class_id for part in parts]))

    def __len__(self) -> int:
        return len(self.class_id)

    def select(self, columns: NDArray[np.bool_] | NDArray[np.intp]) -> Actors:
        """Some of the objects."""
        selected: dict[str, Any] = {name: getattr(self, name)[:, columns] for name in TIME_COLUMNS}
        return Actors(**selected, class_id=self.class_id[columns])


def headings(x: Signal, z: Signal) -> Signal:
    """`(T, N)` radians, the directions of travel of paths."""
    if len(x) < 2:
        return np.zeros_like(x)
    return np.arctan2(np.gradient(x, axis=0), np.gradient(z, axis=0))


def obstacles(
    rng: np.random.Generator, steps: int, count: int, *, near: float, far: float, reach: float
) -> Actors | None:
    """Obstacles between the camera and the objects: posts, signs, trees, kiosks. None for a count of 0.

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
        present: `(F, N)` bool: in the image, and of a kind that the detector detects.
        occlusion: how much of them is visible.
        track_id: `(N,)` int64, above 0.
        class_id: `(N,)` int64.
        camera: `(F, 2, 3)` float64, motion of the image since the frame before.
    """

    size: tuple[int, int]
    dt: float
    boxes: NDArray[np.float64]
    present: NDArray[np.bool_]
    occlusion: Occlusion
    track_id: NDArray[np.int64]
    class_id: NDArray[np.int64]
    camera: NDArray[np.float64]
