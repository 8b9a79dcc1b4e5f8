"""`FakeModel`: a small deterministic `SamModel` whose outputs depend on everything that a real one attends to.

An object's value on a frame is computed from the frame's image, from the whole entries of the frames in its memory and
from their pointers. So a memory that is pruned too far, a row that gets to another object or a frame that is read twice
changes masks or counters.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trackweave.predictors.sam.model import Features, MemoryView, SamOutput

LOW = 4


class FakeModel:
    """See `SamModel`.

    Args:
        largest: number of objects at once that memory is enough for; None = never.
        absent: frame → positions, in the order of prompts, of the objects that are not visible.
    """

    name = "fake"
    image_size = 16
    mean = std = (0.5, 0.5, 0.5)
    device = torch.device("cpu")
    dtype = torch.float32
    memory_frames, pointer_frames = 3, 5
    pointer_keys = frozenset({"pointer"})

    def __init__(self, largest: int | None = None, absent: dict[int, set[int]] | None = None) -> None:
        self.largest = largest
        self.absent = absent or {}
        self.encoded: Counter[int] = Counter()
        self.batches: list[int] = []

    def pixels(self, image: Any) -> Tensor:
        return torch.from_numpy(image.astype("float32")).mean(dim=(0, 1))[None]

    def point_input(self, points: Any, frame_size: tuple[int, int]) -> Tensor:
        return torch.from_numpy(points / np.array(frame_size[::-1], np.float32) * self.image_size)

    def encode(self, pixels: Tensor) -> Features:
        self.encoded[int(pixels[0, 0].round())] += 1  # the first channel of `video` is the frame's number
        return (pixels[None] / 255,)

    def prompt_masks(self, features: Features, masks: Tensor) -> SamOutput:
        self._check_memory(len(masks))
        return self._output(features, masks.flatten(1).mean(dim=1) + 0.3 * features[0].sum())

    def prompt_points(self, features: Features, points: Tensor, labels: Tensor) -> SamOutput:
        self._check_memory(len(points))
        return self._output(features, (points.sum(dim=2) * labels).sum(dim=1) / 128 + 0.3 * features[0].sum())

    def point_masks(self, features: Features, points: Tensor) -> tuple[Tensor, Tensor]:
        """Around a point, the corner of the frame up to it, and the smaller for each of three granularities."""
        self._check_memory(len(points))
        side = torch.arange(LOW, dtype=torch.float32) * self.image_size / LOW
        ends = points[:, None, :] * torch.tensor([1.0, 0.7, 0.4])[None, :, None]
        inside = (side <= ends[..., 1:])[..., :, None] & (side <= ends[..., :1])[..., None, :]
        return inside.float() * 20 - 10, torch.full((len(points), 3), 0.9)

    def track(self, features: Features, memory: MemoryView, frame: int, length: int, reverse: bool) -> SamOutput:
        direction = 1 if reverse else -1
        count = len(next(iter(memory.conditioning.values()))["pointer"])
        self._check_memory(count)
        self.batches.append(count)
        value = features[0].sum().expand(count).clone()
        for prompted, entry in sorted(memory.conditioning.items()):
            value = value + entry["spatial"][0] * 0.7 + entry["pointer"][:, 0] / (1 + abs(frame - prompted))
        for back in range(1, self.pointer_frames + 1):
            past = memory.tracked.get(frame + direction * back)
            if past is None:
                continue
            value = value + past["pointer"][:, 0] * 0.1 / back
            if back <= self.memory_frames:
                value = value + past["spatial"][0] * 0.2 / back
        return self._output(features, value, frame, next(iter(memory.conditioning.values()))["pointer"][:, 1])

    def axis(self, key: str) -> int:
        return {"spatial": 1, "pointer": 0}[key]

    def _output(
        self, features: Features, value: Tensor, frame: int | None = None, names: Tensor | None = None
    ) -> SamOutput:
        value = torch.sin(3 * value)
        names = torch.arange(len(value), dtype=torch.float32) if names is None else names
        ramp = torch.linspace(-1, 1, LOW * LOW).reshape(1, 1, LOW, LOW)
        logits, scores = ramp + value[:, None, None, None], 2 + value
        if frame in self.absent:
            is_absent = torch.tensor([int(name) in self.absent[frame] for name in names])
            scores, logits = (
                torch.where(is_absent, -1.0, scores),
                torch.where(is_absent[:, None, None, None], -9.0, logits),
            )
        pointer = torch.stack([torch.cos(value), names], dim=1)
        return SamOutput(logits, scores, {"spatial": value[None].clone(), "pointer": pointer})

    def _check_memory(self, count: int) -> None:
        if self.largest is not None and count > self.largest:
            raise torch.OutOfMemoryError(f"not enough memory for {count}")
