"""Small videos of moving boxes with all that belongs to them: a MOTChallenge folder, a clip, live pictures.

Two objects go their way above each other, the upper one to the right, the lower one to the left::

    +----------------+
    | [1]->          |
    |          <-[2] |
    +----------------+
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.visualization.video import Mp4Writer

HEIGHT, WIDTH = 96, 160
FPS = 10
COLOURS = {1: (230, 60, 40), 2: (40, 90, 230)}


def box_of(track: int, frame: int) -> tuple[int, int, int, int]:
    """xyxy, right and bottom exclusive."""
    x = 10 + 4 * frame if track == 1 else 120 - 4 * frame
    y = 10 if track == 1 else 50
    return x, y, x + 20, y + 36


def picture(frame: int) -> NDArray[np.uint8]:
    """`(96, 160, 3)` uint8 RGB: textured ground, the two boxes in their colours."""
    image: NDArray[np.uint8] = np.random.default_rng(3).integers(90, 140, (HEIGHT, WIDTH, 3), np.uint8)
    for track, colour in COLOURS.items():
        x1, y1, x2, y2 = box_of(track, frame)
        image[y1:y2, x1:x2] = colour
    return image


def mot_line(frame: int, track: int, box: tuple[int, ...], *rest: float) -> str:
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
        cv2.imwrite(str(path), picture(frame)[:, :, ::-1])
    return folder


def make_clip(path: Path, frames: int = 12, fps: float = FPS) -> Path:
    """The same as a video, without detections."""
    with Mp4Writer(path, fps) as video:
        for frame in range(frames):
            video.write(picture(frame))
    return path
