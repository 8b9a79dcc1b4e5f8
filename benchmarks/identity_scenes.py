"""Runs of masks over generated scenes whose true identities are known at three levels.

`NestedScene` gives frames and truth. What a generator of candidates would propose is drawn from the truth with its
usual faults: masks that are missed, one pixel too large or small, two neighbours in one mask, a mask of another level.
The run itself is a real one: `track_masks` with `flow`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.formats.davis import write_label_png
from trackweave.frames.arrays import ArrayFrames
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.masks import track_masks
from trackweave.predictors.flow.predictor import FlowPredictor
from trackweave.simulation.nested import NestedScene
from trackweave.storage.candidates import write_filtered
from trackweave.structures.candidates import Candidates
from trackweave.tracking.settings import TrackingSettings

Mask = NDArray[np.bool_]

LEVELS = NestedScene.LEVELS
TUNED, REPORTED = range(20, 23), range(60, 64)
"""Seeds of the scenes to tune on, and of those to report; odd seeds have cuts, every third is cut into short tracks."""
STRIDE = 6
"""Frames between two with candidates."""
SMALLEST = 30
"""Pixels of a candidate, and of what is visible of a thing that the truth counts."""
MISSED, JOINED, OTHER_LEVEL = 0.1, 0.08, 0.08
"""Shares of candidates that are missed, joined with a neighbour, and that belong to another level."""


def scene_of(seed: int) -> NestedScene:
    return NestedScene(seed, 192, 256, 40, cuts=bool(seed % 2))


def reach_of(seed: int) -> int | None:
    """Frames that a prompt is propagated over, each way."""
    return 10 if seed % 3 == 0 else None


def write_truth(scene: NestedScene, folder: Path) -> Path:
    """`level_L/NNNNN.png`, for `evaluate`; what is visible of a thing by a few pixels only is left out."""
    for level in LEVELS:
        for local in range(len(scene)):
            write_label_png(folder / f"level_{level}" / f"{local:06d}.png", truth_of(scene, local, level))
    return folder


def truth_of(scene: NestedScene, local: int, level: int) -> NDArray[np.uint8]:
    """Visible ids of a level, `(H, W)` uint8."""
    labels = scene.labels(local, level).astype(np.uint8)
    counts = np.bincount(labels.reshape(-1), minlength=256)
    return np.where(counts[labels] < SMALLEST, 0, labels).astype(np.uint8)


def write_candidates(scene: NestedScene, folder: Path) -> Path:
    """Candidates of all levels on every sixth frame and the first of each shot."""
    chosen = sorted({*range(0, len(scene), STRIDE), *scene.cuts})
    for level in LEVELS:
        rng = np.random.default_rng([scene.seed, 3, level])
        frames = ((local, f"{local:06d}", _candidates(scene, local, level, rng)) for local in chosen)
        write_filtered(folder / f"level_{level}", level, frames)
    return folder


def _candidates(scene: NestedScene, local: int, level: int, rng: np.random.Generator) -> Candidates:
    masks = [mask for mask in _proposed(scene, local, level, rng) if mask.sum() >= SMALLEST]
    packed = PackedMasks.from_bool(np.stack(masks)) if masks else PackedMasks.empty(*scene.size)
    scores = rng.uniform(0.85, 0.99, len(packed)).astype(np.float32)
    ids = np.arange(len(packed), dtype=np.int64)
    return Candidates(ids, packed.boxes.astype(np.float32), scores, packed.areas, packed)


def _proposed(scene: NestedScene, local: int, level: int, rng: np.random.Generator) -> Iterator[Mask]:
    labels = scene.labels(local, level)
    others = {other: scene.labels(local, other) for other in LEVELS if abs(other - level) == 2}
    for number in np.unique(labels[labels > 0]).tolist():
        mask = labels == number
        chance = rng.random()
        if chance < MISSED:
            continue
        if chance < MISSED + JOINED:
            around = cv2.dilate(mask.view(np.uint8), np.ones((5, 5), np.uint8)) > 0
            near = np.unique(labels[around & (labels > 0) & ~mask])
            if len(near):
                mask = mask | (labels == rng.choice(near))
        elif chance < MISSED + JOINED + OTHER_LEVEL:
            other = others[int(rng.choice(list(others)))]
            mask = other == np.bincount(other[mask]).argmax()
        size = int(rng.integers(-1, 2))
        if size:
            change = cv2.dilate if size > 0 else cv2.erode
            mask = change(mask.view(np.uint8), np.ones((3, 3), np.uint8)) > 0
        yield mask


def run_scene(scene: NestedScene, folder: Path, max_propagate: int | None = None) -> Path:
    """The run folder `run`, with candidates in `candidates` and the truth in `truth` beside it."""
    write_truth(scene, folder / "truth")
    candidates = write_candidates(scene, folder / "candidates")
    frames = ArrayFrames(np.stack([scene[local] for local in range(len(scene))]))
    settings = TrackingSettings(render_viz=False, max_propagate=max_propagate)
    predictor = FlowPredictor(threads=1)
    given = {"candidates": candidates, "predictor": predictor, "settings": settings}
    track_masks(frames, folder / "run", progress=False, identity=False, **given)  # type: ignore[call-overload]
    return folder / "run"
