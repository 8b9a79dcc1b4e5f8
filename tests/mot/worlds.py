"""Toy worlds of boxes drawn in ASCII: time runs down, one line per frame; a letter is an object's left edge.

::

    A.....B        A high score where the letter is large, a low one where it is small; a line without it: a miss.
    .A...B.        `|` begins another lane, below the one before.
    ..a.B..

Objects are `WIDTH × HEIGHT` pixels, a character is `CELL` pixels: one character per frame is a brisk walk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import Tracker
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import Detections

CELL, LANE = 8, 80
WIDTH, HEIGHT = 32, 64
HIGH, LOW = 0.9, 0.3


@dataclass(frozen=True)
class BoxWorld:
    """Per frame the objects seen: `(letter, x, y, score)`, letters as capitals."""

    frames: tuple[tuple[tuple[str, float, float, float], ...], ...]

    def __len__(self) -> int:
        return len(self.frames)

    def letters(self, frame: int) -> list[str]:
        """Who is seen, in the order of the detections."""
        return [letter for letter, *_ in self.frames[frame]]

    def detections(self, frame: int, looks: Mapping[str, Sequence[float]] | None = None, **columns: Any) -> Detections:
        """What a perfect detector sees; `looks` gives each letter an embedding."""
        seen = self.frames[frame]
        return Detections.of(
            [(x, y, x + WIDTH, y + HEIGHT) for _, x, y, _ in seen],
            [score for *_, score in seen],
            embedding=[looks[letter] for letter, *_ in seen] if looks and seen else None,
            **columns,
        )

    def __add__(self, other: BoxWorld) -> BoxWorld:
        """One after the other."""
        return BoxWorld(self.frames + other.frames)


def world(picture: str) -> BoxWorld:
    """A world from its picture."""
    frames = []
    for line in picture.strip().splitlines():
        seen = []
        for lane, cells in enumerate(line.strip().split("|")):
            for column, letter in enumerate(cells):
                if letter.isalpha():
                    score = HIGH if letter.isupper() else LOW
                    seen.append((letter.upper(), float(column * CELL), float(lane * LANE), score))
        frames.append(tuple(seen))
    return BoxWorld(tuple(frames))


def walk(
    frames: int, *, x: float = 0, speed: float = 4, y: float = 0, gaps: Iterable[int] = (), letter: str = "A"
) -> BoxWorld:
    """One object at constant speed in pixels per frame, not seen on the frames of `gaps`."""
    missing = set(gaps)
    return BoxWorld(tuple(() if k in missing else ((letter, x + speed * k, y, HIGH),) for k in range(frames)))


def together(*worlds: BoxWorld) -> BoxWorld:
    """Several worlds of one length at once."""
    return BoxWorld(tuple(sum(seen, ()) for seen in zip(*(one.frames for one in worlds), strict=True)))


def follow(
    tracker: Tracker,
    scene: BoxWorld,
    *,
    context: Callable[[int], FrameContext] = FrameContext,
    **columns: Any,
) -> dict[str, list[int]]:
    """Runs the world and gives each letter its ids frame by frame, 0 where it was seen but not shown."""
    found: dict[str, list[int]] = {}
    for frame in range(len(scene)):
        shown = tracker.update(scene.detections(frame, **columns), context(frame))
        assert shown.index is not None
        assert shown.track_id is not None
        ids = dict(zip(shown.index.tolist(), shown.track_id.tolist(), strict=True))
        for row, letter in enumerate(scene.letters(frame)):
            found.setdefault(letter, []).append(ids.get(row, 0))
    return found


def distinct(ids: Sequence[int]) -> list[int]:
    """The ids of one object in their order, each once; not shown is left out."""
    return list(dict.fromkeys(track for track in ids if track))


class Witness:
    """An observer that keeps everything."""

    def __init__(self) -> None:
        self.states: list[AssignmentState] = []

    def observe(self, state: AssignmentState) -> None:
        self.states.append(state)


def crowd(frames: int, objects: int, seed: int = 0, *, size: tuple[int, int] = (720, 1280)) -> list[Detections]:
    """Bouncing boxes with jitter, 10 % misses, 15 % low scores and 5 % false boxes; the true object is in `data`."""
    rng = np.random.default_rng(seed)
    height, width = size
    sides = np.stack([rng.uniform(30, 60, objects), rng.uniform(60, 120, objects)], axis=1)
    room = np.array([width, height]) - sides
    place, speed = rng.uniform(0, 1, (objects, 2)) * room, rng.normal(0, 4, (objects, 2))
    found = []
    for _ in range(frames):
        place = place + speed
        speed = np.where((place < 0) | (place > room), -speed, speed)
        place = np.clip(place, 0, room)
        seen = np.flatnonzero(rng.random(objects) > 0.1)
        jitter = rng.normal(0, 0.02, (len(seen), 4)) * np.tile(sides[seen], 2)
        boxes = np.concatenate([place[seen], place[seen] + sides[seen]], axis=1) + jitter
        scores = np.where(
            rng.random(len(seen)) < 0.15, rng.uniform(0.15, 0.45, len(seen)), rng.uniform(0.6, 1, len(seen))
        )
        false = rng.random(rng.binomial(objects, 0.05))
        corner = rng.uniform(0, 1, (len(false), 2)) * (np.array([width, height]) - 70)
        boxes = np.concatenate([boxes, np.concatenate([corner, corner + np.array([30, 70])], axis=1)])
        truth = np.concatenate([seen, np.full(len(false), -1)])
        order = rng.permutation(len(boxes))
        all_scores = np.concatenate([scores, 0.2 + 0.6 * false])
        found.append(Detections.of(boxes[order], all_scores[order], data={"truth": truth[order]}))
    return found
