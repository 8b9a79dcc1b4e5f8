"""The four backends on tiny random models, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.predictors.sam import tiny
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource
from trackweave.ids import LocalIndex
from trackweave.predictors.base import FramePrediction, PredictorSession
from trackweave.predictors.sam.predictor import SamPredictor
from trackweave.predictors.sam.settings import SamSettings

SIZE = (48, 80)
LENGTH = 9
BACKENDS: dict[str, tuple[str, str, Callable[[], Any]]] = {
    "sam2": ("sam.meta", "Sam2Predictor", tiny.tiny_sam2_meta),
    "sam2-hf": ("sam.backends", "Sam2HfPredictor", tiny.tiny_sam2_hf),
    "edgetam": ("sam.backends", "EdgeTamPredictor", tiny.tiny_edgetam),
    "sam3-tracker": ("sam.backends", "Sam3TrackerPredictor", tiny.tiny_sam3_tracker),
}


@cache
def model(name: str) -> Any:
    """A backend's tiny model, made once."""
    return BACKENDS[name][2]()


def predictor(name: str, **settings: Any) -> SamPredictor:
    """A backend around its tiny model."""
    module, class_name, _ = BACKENDS[name]
    predictor_class = getattr(import_module(f"trackweave.predictors.{module}"), class_name)
    backend: SamPredictor = predictor_class(SamSettings(**settings), model=model(name))
    return backend


def video(length: int) -> FrameSource:
    """Noise that changes slowly, so that frames differ but are not unrelated."""
    rng = np.random.default_rng(3)
    base, other = rng.integers(0, 256, (2, *SIZE, 3)).astype(np.float32)
    return open_frames(np.stack([base + (other - base) * k / (2 * length) for k in range(length)]).astype(np.uint8))


def mask(k: int) -> NDArray[np.bool_]:
    """A rectangle of its own for each of up to five objects."""
    rectangle = np.zeros(SIZE, np.bool_)
    rectangle[4 + 6 * k : 16 + 6 * k, 5 + 12 * k : 25 + 12 * k] = True
    return rectangle


def box(k: int) -> NDArray[np.float32]:
    """The rectangle's box."""
    return np.array([5 + 12 * k, 4 + 6 * k, 25 + 12 * k, 16 + 6 * k], np.float32)


def both_ways(session: PredictorSession, start: int, reach: int | None = None) -> list[FramePrediction]:
    """Forward, then backward."""
    return [
        p for reverse in (False, True) for p in session.propagate(LocalIndex(start), reverse=reverse, max_frames=reach)
    ]


def add(session: PredictorSession, start: int, k: int, kind: str) -> None:
    x1, y1, x2, y2 = box(k).tolist()
    inside, outside = [(x1 + x2) / 2, (y1 + y2) / 2], [x1 - 3, y1 - 3]
    if kind == "box":
        session.add_box(LocalIndex(start), k, box(k))
    elif kind == "point":
        session.add_points(LocalIndex(start), k, np.array([inside], np.float32), np.array([1]))
    elif kind == "points":
        session.add_points(LocalIndex(start), k, np.array([inside, outside], np.float32), np.array([1, 0]))
    elif kind == "points in a box":
        session.add_points(LocalIndex(start), k, np.array([inside], np.float32), np.array([1]), box(k))
    else:
        session.add_mask(LocalIndex(start), k, mask(k))


def run(
    name: str,
    start: int,
    objects: dict[int, str],
    *,
    reach: int | None = None,
    length: int = LENGTH,
    **settings: Any,
) -> list[FramePrediction]:
    session = predictor(name, **settings).open(video(length))
    for k, kind in objects.items():
        add(session, start, k, kind)
    predictions = both_ways(session, start, reach)
    session.close()
    return predictions


class Logits:
    """Records the logits that sessions turn into masks."""

    def __init__(self, monkeypatch: Any) -> None:
        self.recorded: list[torch.Tensor] = []
        for module in ("session", "predictor"):
            place = import_module(f"trackweave.predictors.sam.{module}")
            monkeypatch.setattr(place, "pack_logits", self._spy(place.pack_logits))

    def _spy(self, pack: Callable[..., Any]) -> Callable[..., Any]:
        def spy(logits: torch.Tensor, height: int, width: int) -> Any:
            self.recorded.append(logits.clone())
            return pack(logits, height, width)

        return spy

    def take(self) -> list[torch.Tensor]:
        """What was recorded since, enlarged to the size of frames."""
        logits, self.recorded = self.recorded, []
        return [
            torch.nn.functional.interpolate(one.float(), size=SIZE, mode="bilinear", align_corners=False)
            if one.shape[-2:] != SIZE
            else one
            for one in logits
        ]
