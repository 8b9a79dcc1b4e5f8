"""How many actors a scene needs, so that as many as are wanted are in the picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trackweave.association.simulation.actors import Actors
from trackweave.association.simulation.camera import NEAREST, CameraPath

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
