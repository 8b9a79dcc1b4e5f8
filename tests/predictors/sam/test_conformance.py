"""The engine keeps the promises of every predictor, with a model whose objects stay where they were prompted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.predictors.conformance import A, B, PredictorConformance
from trackweave.frames.source import FrameSource
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.predictors.sam.model import Features, MemoryView, SamOutput
from trackweave.predictors.sam.session import SamSession
from trackweave.predictors.sam.settings import SamSettings


class StillModel:
    """See `SamModel`: an object is where its nearest prompt behind it says."""

    name = "still"
    image_size = 96
    mean = std = (0.5, 0.5, 0.5)
    device = torch.device("cpu")
    dtype = torch.float32
    memory_frames, pointer_frames = 2, 3
    pointer_keys = frozenset({"pointer"})

    def pixels(self, image: Any) -> Tensor:
        return torch.zeros(1, 3, 1, 1)

    def point_input(self, points: Any, frame_size: tuple[int, int]) -> Tensor:
        height, width = frame_size
        return torch.from_numpy(points / np.array([width, height], np.float32) * self.image_size)

    def encode(self, pixels: Tensor) -> Features:
        return (pixels,)

    def point_masks(self, features: Features, points: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def prompt_masks(self, features: Features, masks: Tensor) -> SamOutput:
        return self._outcome(20 * masks - 10)

    def prompt_points(self, features: Features, points: Tensor, labels: Tensor) -> SamOutput:
        """A box is its pixels; points alone, the object of the toy scene in which the first of them lies."""
        boxes = points[:, :2].reshape(-1, 4)
        if labels[0, 0] != 2:
            size = self.image_size
            boxes = torch.stack([self._toy(float(x), float(y), size) for x, y in points[:, 0]])
        places = torch.arange(self.image_size) + 0.5
        inside = [
            ((places >= low[:, None]) & (places < high[:, None])).float()
            for low, high in ((boxes[:, 0], boxes[:, 2]), (boxes[:, 1], boxes[:, 3]))
        ]
        return self._outcome(20 * inside[1][:, None, :, None] * inside[0][:, None, None, :] - 10)

    def track(self, features: Features, memory: MemoryView, frame: int, length: int, reverse: bool) -> SamOutput:
        behind = [past for past in memory.conditioning if (past > frame if reverse else past < frame)]
        nearest = min(behind, key=lambda past: abs(past - frame))
        return self._outcome(memory.conditioning[nearest]["spatial"])

    def _toy(self, x: float, y: float, size: int) -> Tensor:
        height, width = A.shape
        mask = next(mask for mask in (A, B) if mask[int(y * height / size), int(x * width / size)])
        scale = np.array([width, height] * 2, np.float32) / size
        return torch.from_numpy(PackedMasks.from_bool(mask).boxes[0].astype(np.float32) / scale)

    def axis(self, key: str) -> int:
        return 0

    def _outcome(self, logits: Tensor) -> SamOutput:
        return SamOutput(logits, torch.ones(len(logits)), {"spatial": logits, "pointer": logits[:, 0, :1]})


class StillPredictor:
    name = "still"

    def __init__(self, **settings: Any) -> None:
        self.settings = SamSettings(**settings)

    def open(self, frames: FrameSource) -> PredictorSession:
        return SamSession(StillModel(), frames, self.settings)


class TestSession(PredictorConformance):
    @pytest.fixture
    def predictor(self) -> VideoPredictor:
        return StillPredictor()


class TestOneByOne(PredictorConformance):
    @pytest.fixture
    def predictor(self) -> VideoPredictor:
        return StillPredictor(batch=1, device_bytes=0, host_bytes=0, pad_batches="on", prune=False)
