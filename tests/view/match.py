"""A small match: players of two teams run across a pitch, meet and hide each other; a video and a detector's boxes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.visualization.video import Mp4Writer

TEAMS = ((205, 48, 52), (240, 240, 236))
SHORTS = ((245, 245, 245), (28, 36, 92))
SKIN = ((224, 180, 150), (150, 104, 74), (198, 148, 112), (96, 64, 48))
SHARP = 16
"""Parts of a pixel that shapes are drawn with."""


class Match:
    """Players as boxes over time, drawn.

    Attributes:
        boxes: `(N, P, 4)` float64 xyxy of P players.
        size: `(H, W)`.
    """

    def __init__(
        self, *, frames: int = 120, players: int = 10, size: tuple[int, int] = (360, 640), seed: int = 4
    ) -> None:
        self.size = size
        height, width = size
        rng = np.random.default_rng(seed)
        places = np.empty((frames, players, 2))
        place = rng.uniform((0.08, 0.3), (0.92, 0.95), (players, 2))
        goal = rng.uniform((0.08, 0.3), (0.92, 0.95), (players, 2))
        speed = np.zeros((players, 2))
        for t in range(frames):
            arrived = np.linalg.norm(goal - place, axis=1) < 0.04
            goal[arrived] = rng.uniform((0.1, 0.3), (0.9, 0.95), (int(arrived.sum()), 2))
            ahead = goal - place
            ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-6)
            speed = 0.9 * speed + 0.1 * ahead * 0.011
            place = place + speed
            places[t] = place
        x, y = places[..., 0] * width, places[..., 1] * height
        tall = height * (0.13 + 0.15 * places[..., 1])
        self.boxes = np.stack([x - 0.2 * tall, y - tall, x + 0.2 * tall, y], axis=-1)

    def __len__(self) -> int:
        return len(self.boxes)

    def image(self, t: int) -> NDArray[np.uint8]:
        """`(H, W, 3)` uint8 RGB."""
        height, width = self.size
        image = np.empty((height, width, 3), np.uint8)
        image[:] = (58, 120, 62)
        for k in range(0, 12, 2):
            image[:, k * width // 12 : (k + 1) * width // 12] = (52, 110, 57)
        cv2.line(image, (width // 2, height // 5), (width // 2, height), (225, 235, 225), 2, cv2.LINE_AA)
        centre, axes = (width // 2, int(0.6 * height)), (width // 8, height // 9)
        cv2.ellipse(image, centre, axes, 0, 0, 360, (225, 235, 225), 2, cv2.LINE_AA)
        image[: height // 5] = (70, 76, 88)
        dots = np.random.default_rng(1).integers(0, 255, (height // 5, width, 3), np.uint8)
        image[: height // 5] = image[: height // 5] // 4 * 3 + cv2.resize(dots[::6, ::6], (width, height // 5)) // 4
        for player in np.argsort(self.boxes[t, :, 3]).tolist():
            self._draw(image, self.boxes[t, player], player, t)
        return image

    def _draw(self, image: NDArray[np.uint8], box: NDArray[np.float64], player: int, t: int) -> None:
        x1, y1, x2, y2 = box
        middle, tall = (x1 + x2) / 2, y2 - y1
        team = player % 2
        swing = 0.1 * tall * np.sin(t / 3 + player)

        def at(x: float, y: float) -> tuple[int, int]:
            return round(x * SHARP), round(y * SHARP)

        shift = SHARP.bit_length() - 1
        thick, skin = max(2, round(0.09 * tall)), SKIN[player % len(SKIN)]
        shadow = (round(middle), round(y2)), (round(0.22 * tall), round(0.05 * tall))
        cv2.ellipse(image, *shadow, 0, 0, 360, (40, 84, 44), -1, cv2.LINE_AA)
        for side in (-1, 1):
            hip, foot = at(middle, y2 - 0.45 * tall), at(middle + side * swing, y2 - 0.02 * tall)
            cv2.line(image, hip, foot, SHORTS[team], thick, cv2.LINE_AA, shift)
            shoulder, hand = at(middle, y1 + 0.25 * tall), at(middle + side * 0.17 * tall, y1 + 0.5 * tall)
            cv2.line(image, shoulder, hand, skin, max(2, thick * 2 // 3), cv2.LINE_AA, shift)
        corners = ((-0.13, 0.2), (0.13, 0.2), (0.1, 0.58), (-0.1, 0.58))
        body = np.array([at(middle + x * tall, y1 + y * tall) for x, y in corners])
        cv2.fillPoly(image, [body], TEAMS[team], cv2.LINE_AA, shift)
        cv2.circle(image, at(middle, y1 + 0.1 * tall), round(0.085 * tall * SHARP), skin, -1, cv2.LINE_AA, shift)
        ink = (255, 255, 255) if team == 0 else (30, 30, 60)
        place, thin = (round(middle - 0.07 * tall), round(y1 + 0.46 * tall)), max(1, round(tall / 90))
        cv2.putText(image, str(player + 2), place, cv2.FONT_HERSHEY_SIMPLEX, tall / 260, ink, thin, cv2.LINE_AA)

    def write_video(self, path: Path, fps: float = 25) -> Path:
        """The match as H.264."""
        with Mp4Writer(path, fps) as writer:
            for t in range(len(self)):
                writer.write(self.image(t))
        return path

    def write_detections(self, path: Path, *, noise: float = 0.02, seed: int = 1) -> Path:
        """MOT text of a detector that shakes a little and misses who is mostly hidden."""
        rng = np.random.default_rng(seed)
        lines = []
        for t in range(len(self)):
            boxes = self.boxes[t]
            for box in boxes:
                hidden = max((covered(box, other) for other in boxes if other[3] > box[3]), default=0.0)
                if hidden > 0.75 or rng.random() < 0.003:
                    continue
                shaken = box + rng.normal(0, noise, 4) * (box[3] - box[1])
                x1, y1, x2, y2 = shaken.tolist()
                score = min(max(0.97 - 0.5 * hidden - abs(rng.normal(0, 0.03)), 0.2), 1)
                lines.append(f"{t + 1},-1,{x1:.1f},{y1:.1f},{x2 - x1:.1f},{y2 - y1:.1f},{score:.3f},-1,-1,-1")
        path.write_text("\n".join(lines) + "\n")
        return path


def covered(box: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The share of a box that another one covers."""
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    return float(np.prod(np.maximum(high - low, 0)) / np.prod(box[2:] - box[:2]))
