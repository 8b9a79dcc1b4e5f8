"""Small textured scenes with exact truth, for the flow predictor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.frames.arrays import ArrayFrames

HEIGHT, WIDTH = 72, 112

Place = tuple[float, float] | None
"""Centre `(y, x)` of a disc, or None when it is not there."""


@dataclass(frozen=True)
class Disc:
    """A textured disc and its place on each frame; `post` is the columns that hide it."""

    colour: tuple[int, int, int]
    radius: int
    places: Sequence[Place]


@dataclass(frozen=True)
class Scene:
    """Frames and `(objects, N, H, W)` bool truth of what is visible; later discs lie in front."""

    frames: ArrayFrames
    truth: NDArray[np.bool_]

    @property
    def reversed(self) -> Scene:
        """The same scene, played backward."""
        return Scene(
            ArrayFrames(np.stack([self.frames[k] for k in range(len(self.frames))])[::-1]), self.truth[:, ::-1]
        )


def draw(
    discs: Sequence[Disc],
    post: tuple[int, int] | None = None,
    seed: int = 0,
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> Scene:
    """Draws discs over a textured ground, and a grey post over them."""
    length = len(discs[0].places)
    ground = _texture(seed, (70, 95, 70), size)
    video = np.repeat(ground[None], length, axis=0)
    truth = np.zeros((len(discs), length, *size), np.bool_)
    ys, xs = np.mgrid[: size[0], : size[1]]
    for k, disc in enumerate(discs):
        skin = _texture(seed + 1 + k, disc.colour, (2 * disc.radius + 3, 2 * disc.radius + 3))
        for frame, place in enumerate(disc.places):
            if place is None:
                continue
            y, x = round(place[0]), round(place[1])
            inside = (ys - y) ** 2 + (xs - x) ** 2 <= disc.radius**2
            rows, columns = np.nonzero(inside)
            video[frame, rows, columns] = skin[rows - y + disc.radius + 1, columns - x + disc.radius + 1]
            truth[:, frame] &= ~inside
            truth[k, frame] = inside
    if post is not None:
        video[:, :, post[0] : post[1]] = _texture(seed + 99, (120, 120, 125), (size[0], post[1] - post[0]))
        truth[..., post[0] : post[1]] = False
    return Scene(ArrayFrames(video), truth)


def line(start: tuple[float, float], step: tuple[float, float], length: int) -> list[Place]:
    """Places of something that moves steadily."""
    return [(start[0] + k * step[0], start[1] + k * step[1]) for k in range(length)]


def overlap(pred: NDArray[np.bool_], gt: NDArray[np.bool_]) -> float:
    """Intersection over union; two empty masks agree."""
    union = np.count_nonzero(pred | gt)
    return 1.0 if union == 0 else np.count_nonzero(pred & gt) / union


def _texture(seed: int, colour: tuple[int, int, int], size: tuple[int, int]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(0, 1, (*size, 1)).astype(np.float32)
    coarse = cv2.GaussianBlur(noise, (0, 0), 2)[..., None] * 60
    fine = cv2.GaussianBlur(noise, (0, 0), 0.8)[..., None] * 15
    return np.asarray(np.clip(np.array(colour) + coarse + fine, 0, 255), np.uint8)
