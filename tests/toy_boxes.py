"""Toy boxes: scenes drawn in ASCII for the tracker, and small videos of two moving boxes with all their files.

A drawing: time runs down, one line per frame; a letter is an object's left edge::

    A.....B        A high score where the letter is large, a low one where it is small; a line without it: a miss.
    .A...B.        `|` begins another lane, below the one before.
    ..a.B..

Its objects are `BOX_WIDTH × BOX_HEIGHT` pixels, a character is `CELL` pixels: one per frame is a brisk walk.

In a video two objects move above each other, the upper one to the right, the lower one to the left::

    +----------------+
    | [1]->          |
    |          <-[2] |
    +----------------+
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import Tracker
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import Detections
from trackweave.visualization.video import Mp4Writer

# --- scenes -----------------------------------------------------------------------------------------------------------

CELL, LANE = 8, 80
BOX_WIDTH, BOX_HEIGHT = 32, 64
HIGH, LOW = 0.9, 0.3


@dataclass(frozen=True)
class BoxScene:
    """Per frame the visible objects: `(letter, x, y, score)`, letters as capitals."""

    frames: tuple[tuple[tuple[str, float, float, float], ...], ...]

    def __len__(self) -> int:
        return len(self.frames)

    def letters(self, frame: int) -> list[str]:
        """The visible objects, in the order of the detections."""
        return [letter for letter, *_ in self.frames[frame]]

    def detections(
        self, frame: int, embeddings: Mapping[str, Sequence[float]] | None = None, **columns: Any
    ) -> Detections:
        """What a perfect detector gives; `embeddings` has one for each letter."""
        visible = self.frames[frame]
        return Detections.of(
            [(x, y, x + BOX_WIDTH, y + BOX_HEIGHT) for _, x, y, _ in visible],
            [score for *_, score in visible],
            embedding=[embeddings[letter] for letter, *_ in visible] if embeddings and visible else None,
            **columns,
        )

    def __add__(self, other: BoxScene) -> BoxScene:
        """One after the other."""
        return BoxScene(self.frames + other.frames)


def scene_of(drawing: str) -> BoxScene:
    """The scene of a drawing."""
    frames = []
    for line in drawing.strip().splitlines():
        visible = []
        for lane, cells in enumerate(line.strip().split("|")):
            for column, letter in enumerate(cells):
                if letter.isalpha():
                    score = HIGH if letter.isupper() else LOW
                    visible.append((letter.upper(), float(column * CELL), float(lane * LANE), score))
        frames.append(tuple(visible))
    return BoxScene(tuple(frames))


def walk(
    frames: int, *, x: float = 0, speed: float = 4, y: float = 0, gaps: Iterable[int] = (), letter: str = "A"
) -> BoxScene:
    """One object at constant speed in pixels per frame, not detected on the frames of `gaps`."""
    missing = set(gaps)
    return BoxScene(tuple(() if k in missing else ((letter, x + speed * k, y, HIGH),) for k in range(frames)))


def combined(*scenes: BoxScene) -> BoxScene:
    """Several scenes of one length at once."""
    return BoxScene(tuple(sum(visible, ()) for visible in zip(*(one.frames for one in scenes), strict=True)))


def track_scene(
    tracker: Tracker,
    scene: BoxScene,
    *,
    context: Callable[[int], FrameContext] = FrameContext,
    **columns: Any,
) -> dict[str, list[int]]:
    """Tracks the scene; for each letter its ids frame by frame, 0 where it was detected but not returned."""
    track_ids: dict[str, list[int]] = {}
    for frame in range(len(scene)):
        tracked = tracker.update(scene.detections(frame, **columns), context(frame))
        assert tracked.index is not None
        assert tracked.track_id is not None
        ids = dict(zip(tracked.index.tolist(), tracked.track_id.tolist(), strict=True))
        for row, letter in enumerate(scene.letters(frame)):
            track_ids.setdefault(letter, []).append(ids.get(row, 0))
    return track_ids


def distinct(ids: Sequence[int]) -> list[int]:
    """The ids of one object in their order, each once, without 0."""
    return list(dict.fromkeys(track for track in ids if track))


class StateRecorder:
    """An observer that keeps everything."""

    def __init__(self) -> None:
        self.states: list[AssignmentState] = []

    def observe(self, state: AssignmentState) -> None:
        self.states.append(state)


def random_detections(
    frames: int, objects: int, seed: int = 0, *, size: tuple[int, int] = (720, 1280)
) -> list[Detections]:
    """Bouncing boxes with jitter, 10 % misses, 15 % low scores and 5 % false boxes; the true object is in `data`."""
    rng = np.random.default_rng(seed)
    height, width = size
    sides = np.stack([rng.uniform(30, 60, objects), rng.uniform(60, 120, objects)], axis=1)
    extent = np.array([width, height]) - sides
    place, speed = rng.uniform(0, 1, (objects, 2)) * extent, rng.normal(0, 4, (objects, 2))
    detections = []
    for _ in range(frames):
        place = place + speed
        speed = np.where((place < 0) | (place > extent), -speed, speed)
        place = np.clip(place, 0, extent)
        visible = np.flatnonzero(rng.random(objects) > 0.1)
        jitter = rng.normal(0, 0.02, (len(visible), 4)) * np.tile(sides[visible], 2)
        boxes = np.concatenate([place[visible], place[visible] + sides[visible]], axis=1) + jitter
        scores = np.where(
            rng.random(len(visible)) < 0.15, rng.uniform(0.15, 0.45, len(visible)), rng.uniform(0.6, 1, len(visible))
        )
        false = rng.random(rng.binomial(objects, 0.05))
        corner = rng.uniform(0, 1, (len(false), 2)) * (np.array([width, height]) - 70)
        boxes = np.concatenate([boxes, np.concatenate([corner, corner + np.array([30, 70])], axis=1)])
        truth = np.concatenate([visible, np.full(len(false), -1)])
        order = rng.permutation(len(boxes))
        all_scores = np.concatenate([scores, 0.2 + 0.6 * false])
        detections.append(Detections.of(boxes[order], all_scores[order], data={"truth": truth[order]}))
    return detections


# --- videos -----------------------------------------------------------------------------------------------------------

HEIGHT, WIDTH = 96, 160
FPS = 10
COLOURS = {1: (230, 60, 40), 2: (40, 90, 230)}


def box_of(track: int, frame: int) -> tuple[int, int, int, int]:
    """xyxy, right and bottom exclusive."""
    x = 10 + 4 * frame if track == 1 else 120 - 4 * frame
    y = 10 if track == 1 else 50
    return x, y, x + 20, y + 36


def image_of(frame: int) -> NDArray[np.uint8]:
    """`(96, 160, 3)` uint8 RGB: textured ground, the two boxes in their colours."""
    image: NDArray[np.uint8] = np.random.default_rng(3).integers(90, 140, (HEIGHT, WIDTH, 3), np.uint8)
    for track, colour in COLOURS.items():
        x1, y1, x2, y2 = box_of(track, frame)
        image[y1:y2, x1:x2] = colour
    return image


def mot_line(frame: int, track: int, box: tuple[float, ...], *rest: float) -> str:
    """A line of MOT text, whose frames and pixels count from 1."""
    x1, y1, x2, y2 = box
    return ",".join(str(v) for v in (frame + 1, track, x1 + 1, y1 + 1, x2 - x1, y2 - y1, *rest))


def detection_lines(frames: int, *, score: float = 0.9) -> list[str]:
    """Every object on every frame."""
    return [mot_line(k, -1, box_of(track, k), score) for k in range(frames) for track in (1, 2)]


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def make_sequence(folder: Path, *, frames: int = 12, images: int = 0, name: str = "toy", fps: float = FPS) -> Path:
    """A MOTChallenge folder with detections, ground truth, and the pictures of the first `images` frames."""
    info = {"name": name, "imDir": "img1", "frameRate": fps, "seqLength": frames}
    info |= {"imWidth": WIDTH, "imHeight": HEIGHT, "imExt": ".png"}
    write_lines(folder / "seqinfo.ini", ["[Sequence]", *(f"{key}={value}" for key, value in info.items())])
    write_lines(folder / "det" / "det.txt", detection_lines(frames))
    truth = [mot_line(k, track, box_of(track, k), 1, 1, 1) for k in range(frames) for track in (1, 2)]
    write_lines(folder / "gt" / "gt.txt", truth)
    for frame in range(images):
        path = folder / "img1" / f"{frame + 1:06d}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), image_of(frame)[:, :, ::-1])
    return folder


def make_clip(path: Path, frames: int = 12, fps: float = FPS) -> Path:
    """The same as a video, without detections."""
    with Mp4Writer(path, fps) as video:
        for frame in range(frames):
            video.write(image_of(frame))
    return path
