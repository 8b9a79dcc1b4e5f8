"""Toy scenes drawn in ASCII: each frame is a drawing, each character an object; `.` is background.

A scene is at once the truth (label maps), a video (each object a flat colour), a recording for the `replay` predictor,
and, where asked, filtered candidates on disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trackweave.frames.arrays import ArrayFrames
from trackweave.masks.codecs import encode_mask
from trackweave.masks.packed import PackedMasks

CELL = 4
"""Pixels per character."""


@dataclass(frozen=True)
class ToyScene:
    """Frames of characters as label maps `(N, H, W)`; object k is the k-th character in order of appearance."""

    labels: NDArray[np.int64]
    letters: str

    @property
    def frames(self) -> ArrayFrames:
        """The video: object k has a colour of its own, plus fixed texture."""
        palette = np.random.default_rng(3).integers(60, 250, (len(self.letters) + 1, 3))
        texture = np.random.default_rng(4).integers(-20, 20, (*self.labels.shape[1:], 1))
        return ArrayFrames(np.clip(palette[self.labels] + texture, 0, 255).astype(np.uint8))

    def mask(self, frame: int, letter: str) -> NDArray[np.bool_]:
        """Where one object is."""
        return np.asarray(self.labels[frame] == self.letters.index(letter) + 1)

    def record(self, path: Path) -> Path:
        """The truth as a recording that `replay` plays."""
        entries = {"shape": np.array(self.labels.shape[1:])}
        for frame, labels in enumerate(self.labels):
            for k in range(1, len(self.letters) + 1):
                if (labels == k).any():
                    entries[f"{frame:05d}_{k:03d}"] = np.packbits((labels == k).reshape(-1))
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **entries)
        return path


def write_frames(scene: ToyScene, folder: Path) -> Path:
    """The video as a folder of PNG files."""
    folder.mkdir(parents=True)
    for n, image in enumerate(scene.frames):
        Image.fromarray(image).save(folder / f"{n:05d}.png")
    return folder


def toy_scene(*drawings: str) -> ToyScene:
    """A scene from drawings of equal size, one per frame."""
    rows = [[line.strip() for line in drawing.strip().splitlines()] for drawing in drawings]
    letters = "".join(dict.fromkeys(c for drawing in rows for line in drawing for c in line if c != "."))
    number = {".": 0, **{letter: k for k, letter in enumerate(letters, start=1)}}
    cells = np.array([[[number[c] for c in line] for line in drawing] for drawing in rows])
    return ToyScene(cells.repeat(CELL, axis=1).repeat(CELL, axis=2), letters)


def item(
    candidate: int, mask: NDArray[np.bool_], *, frame: int, score: float = 0.95, level: int = 2, with_mask: bool = True
) -> dict[str, Any]:
    """One entry of `items`, as the candidates' document defines it."""
    packed = PackedMasks.from_bool(mask)
    x1, y1, x2, y2 = (int(v) for v in packed.boxes[0])
    entry: dict[str, Any] = {
        "frame_idx": frame,
        "frame_name": f"frame_{frame:06d}.png",
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": int(packed.areas[0]),
        "stability_score": score,
        "level": level,
        "id": candidate,
    }
    if with_mask:
        entry["mask"] = encode_mask(packed)
    return entry


def write_candidates(root: Path, items: Mapping[int, Sequence[dict[str, Any]]], level: int = 2) -> Path:
    """Writes `root/level_L/filtered/filtered.json` from items by frame; returns `root`."""
    folder = root / f"level_{level}" / "filtered"
    folder.mkdir(parents=True, exist_ok=True)
    frames = [{"frame_idx": frame, "count": len(rows), "items": list(rows)} for frame, rows in items.items()]
    (folder / "filtered.json").write_text(json.dumps({"frames": frames}))
    return root


def candidates_of(
    scene: ToyScene, root: Path, frames: Iterable[int], *, level: int = 2, zoom: int = 1, with_mask: bool = True
) -> Path:
    """Every visible object of the chosen frames as a candidate; `zoom` > 1 shrinks the candidate image."""
    items: dict[int, list[dict[str, Any]]] = {}
    for frame in frames:
        labels = scene.labels[frame][zoom // 2 :: zoom, zoom // 2 :: zoom]
        present = [k for k in range(1, len(scene.letters) + 1) if (labels == k).any()]
        items[frame] = [
            item(n, labels == k, frame=frame, level=level, with_mask=with_mask) for n, k in enumerate(present)
        ]
    return write_candidates(root, items, level)


CROSSING = toy_scene(
    """
    aa....bb
    aa....bb
    """,
    """
    ..aabb..
    ..aabb..
    """,
    """
    ..bbaa..
    ..bbaa..
    """,
    """
    bb....aa
    bb....aa
    """,
)
"""Two objects that pass through each other's place."""
