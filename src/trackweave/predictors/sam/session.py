"""`SamSession`: prompt batches moved through one video by a model of the SAM 2 family.

How it works
1. A frame's features are computed when the first prompt batch visits it and kept in the `FeatureStore`: every level,
   every prompt frame and both directions share them.
2. The objects of a prompt batch that are prompted on the same frames go through the model in *batches* of bounded size,
   each with a memory bank of its own.
3. After each frame, memories are pruned to what the model will attend to: their size does not depend on the length of
   the video. A forward pass keeps its first frames for the backward pass from the same start, which attends to them.
4. When the device's memory is short, features move off it; then batches are halved, for good and with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trackweave.errors import PredictorError, PredictorOutOfMemory, argument
from trackweave.frames.source import FrameSource
from trackweave.ids import LocalIndex
from trackweave.masks.packed import PackedMasks, packed_length
from trackweave.predictors.base import (
    FramePrediction,
    MaskLimits,
    ObjectPrompt,
    PointMasks,
    PromptedSession,
    frame_range,
)
from trackweave.predictors.sam.feature_store import DiskTier, FeatureStore, MemoryTier, Tier
from trackweave.predictors.sam.loading import DTYPES, autocast_dtype, free_cache, inference, is_out_of_memory
from trackweave.predictors.sam.model import (
    Features,
    MemoryEntry,
    ObjectMemory,
    SamModel,
    SamOutput,
    join_objects,
    select_objects,
)
from trackweave.predictors.sam.preprocessing import mask_to_input
from trackweave.predictors.sam.settings import SamSettings
from trackweave.structures.run_log import RunWarning

MAX_ENLARGED_PIXELS = 1 << 24
"""Pixels of masks that are enlarged at the same time: 64 MiB of float32."""


def pack_logits(logits: Tensor, height: int, width: int) -> PackedMasks:
    """Masks of frame size: bilinear enlargement, then everything above 0.

    Args:
        logits: `(B, 1, h, w)`.
        height: of the frame, pixels.
        width: of the frame, pixels.
    """
    step = max(1, MAX_ENLARGED_PIXELS // (height * width))
    packed = np.empty((len(logits), packed_length(height, width)), np.uint8)
    for first in range(0, len(logits), step):
        part = logits[first : first + step].float()
        if part.shape[-2:] != (height, width):
            part = functional.interpolate(part, size=(height, width), mode="bilinear", align_corners=False)
        packed[first : first + step] = _pack((part > 0).flatten(1))
    return PackedMasks(packed, height, width)


def _pack(masks: Tensor) -> NDArray[np.uint8]:
    """`(B, n)` bool → `(B, ceil(n/8))` uint8, first pixel in the highest bit as `numpy.packbits` has it."""
    return np.packbits(masks.numpy(), axis=1) if masks.device.type == "cpu" else pack_on_device(masks).cpu().numpy()


def pack_on_device(masks: Tensor) -> Tensor:
    """The same on the device where the masks are, so that only an eighth of the bytes has to be copied from it."""
    padded = functional.pad(masks.to(torch.uint8), (0, -masks.shape[1] % 8))
    weights = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=masks.device)
    return (padded.view(len(masks), -1, 8) * weights).sum(dim=2, dtype=torch.uint8)


Out = TypeVar("Out")
Signature = list[tuple[int, tuple[int, ...]]]
"""Identifies a prompt batch: its object ids in order, and the frames on which each is prompted."""


@dataclass(frozen=True)
class _ObjectGroup:
    """Objects of a prompt batch that are prompted on the same frames and go through the model together.

    Attributes:
        ids: the n objects.
        rows: `(n,)` their rows in the prompt batch.
        prompted: the model's output for their prompts, by frame; of B ≥ n objects, those beyond n are padding.
        for_backward: memory of the first frames after the start, for the backward pass.
    """

    ids: list[int]
    rows: NDArray[np.int64]
    prompted: dict[int, SamOutput]
    for_backward: dict[int, MemoryEntry] = field(default_factory=dict)


@dataclass
class _ObjectBatch:
    """A group of objects during a pass over the video.

    Attributes:
        group: the objects.
        memory: their memory bank in this pass.
        absent: `(n,)` number of frames in a row on which each was absent.
        ended: `(n,)` bool, absent for so long that the pass is over for it.
    """

    group: _ObjectGroup
    memory: ObjectMemory
    absent: NDArray[np.int64]
    ended: NDArray[np.bool_]

    @classmethod
    def of(cls, group: _ObjectGroup, model: SamModel, tracked: Mapping[int, MemoryEntry] | None = None) -> _ObjectBatch:
        """A group at the start of a pass, with the memory of frames tracked before."""
        entries = {frame: output.entry for frame, output in group.prompted.items()}
        count = len(group.ids)
        return cls(group, ObjectMemory(model, entries, tracked), np.zeros(count, np.int64), np.zeros(count, np.bool_))

    def subset(self, chosen: NDArray[np.int64], size: int, model: SamModel) -> _ObjectBatch:
        """Some of the objects with their memory; the last one is repeated up to `size`."""
        rows = torch.from_numpy(np.pad(chosen, (0, size - len(chosen)), mode="edge")).to(model.device)
        prompted = {frame: _select(one, rows, model) for frame, one in self.group.prompted.items()}
        group = _ObjectGroup([self.group.ids[k] for k in chosen], self.group.rows[chosen], prompted)
        return _ObjectBatch(group, self.memory.select(rows), self.absent[chosen], self.ended[chosen])


class _DeviceMemoryShort(Exception):
    """The device's memory is short although no stored features are left on it."""


class SamSession(PromptedSession):
    """See `PredictorSession`. Owns the features of frames and the memory banks of the objects that are propagated.

    A backward pass that follows a forward one from the same start attends to the first frames after the start, as the
    upstream predictors do; without a forward pass before it, it starts from the prompts alone.
    """

    def __init__(self, model: SamModel, frames: FrameSource, settings: SamSettings) -> None:
        super().__init__(len(frames), frames.size)
        self._model, self._frames, self._settings = model, frames, settings
        self._autocast_dtype = autocast_dtype(settings, model.device)
        self._store = FeatureStore(model.device, _tiers(model.device, settings), DTYPES.get(settings.store_dtype))
        self._batch_limit = settings.batch
        self._pads_batches = settings.pad_batches == "on" or (
            settings.pad_batches == "auto" and settings.compile == "on"
        )
        self._forward_passes: dict[int, tuple[Signature, list[_ObjectGroup]]] = {}
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="trackweave-frames")
        self._next_frame: tuple[int, Future[Tensor]] | None = None
        self._warnings: dict[str, RunWarning] = {}
        self._counts = {"encoder_passes": 0, "object_frames": 0, "model_calls": 0}
        self._points_at_once = 1 << 20

    # --- protocol ------------------------------------------------------------------------------------------------

    def propagate(
        self, start: int, *, reverse: bool = False, max_frames: int | None = None
    ) -> Iterator[FramePrediction]:
        """See `PredictorSession.propagate`. With `stop_after_absent` it ends early when every object has ended.

        Raises:
            PredictorOutOfMemory: one object alone is too much for the device.
            PredictorError: the session was closed meanwhile, or the model failed.
        """
        self._check_open()
        path = frame_range(start, self._length, reverse, max_frames)
        return self._propagate(self._book.first_prompted_on(start), path, reverse)

    def forget_objects(self, start: int) -> None:
        """See `PredictorSession.forget_objects`; features stay."""
        super().forget_objects(start)
        self._forward_passes.pop(start, None)

    def release_frames_before(self, frame: int) -> None:
        """See `PredictorSession.release_frames_before`."""
        self._store.release_before(frame)

    def reset(self) -> None:
        """See `PredictorSession.reset`; features stay."""
        super().reset()
        self._forward_passes.clear()

    @property
    def warnings(self) -> Sequence[RunWarning]:
        """See `PredictorSession.warnings`."""
        return list(self._warnings.values())

    @property
    def counters(self) -> Mapping[str, float]:
        """`encoder_passes`: frames through the image encoder; `object_frames`: masks predicted from memory;
        `model_calls`: batches that did so; `window_passes`: parts of frames through the image encoder, if there were
        any."""
        return dict(self._counts)

    def close(self) -> None:
        """See `PredictorSession.close`."""
        super().close()
        self._reader.shutdown(wait=True, cancel_futures=True)
        self._next_frame = None
        self._forward_passes.clear()
        self._store.close()

    def segment_points(
        self,
        frame: int,
        points: NDArray[np.float32],
        limits: MaskLimits,
        window: tuple[int, int, int, int] | None = None,
    ) -> PointMasks:
        """See `PointSegmenter.segment_points`. Features of a frame are kept, those of a window are not."""
        self._check_open()
        size = self._size if window is None else (window[3] - window[1], window[2] - window[0])
        features = self._features(frame) if window is None else self._window_features(frame, window)
        parts, first = list[PointMasks](), 0
        while first < len(points):
            some = points[first : first + min(limits.batch, self._points_at_once)]
            inputs = self._model.point_input(some, size).to(self._model.device)
            try:
                found = self._run(self._masks_at, features, inputs, size, limits)
            except _DeviceMemoryShort:
                self._points_at_once = self._half_of_points(len(some))
                continue
            parts.append(replace(found, point=found.point + first))
            first += len(some)
        return PointMasks(
            np.concatenate([part.point for part in parts]),
            np.concatenate([part.rank for part in parts]),
            np.concatenate([part.predicted_iou for part in parts]),
            np.concatenate([part.stability for part in parts]),
            PackedMasks.concat([part.masks for part in parts]),
        )

    def _window_features(self, frame: int, window: tuple[int, int, int, int]) -> Features:
        left, top, right, bottom = window

        def read() -> Tensor:
            with inference(self._model.device, None):
                return self._model.pixels(np.ascontiguousarray(self._frames[frame][top:bottom, left:right]))

        features = self._encoded(self._reader.submit(read).result())
        self._counts["window_passes"] = self._counts.get("window_passes", 0) + 1
        return features

    def _masks_at(self, features: Features, points: Tensor, size: tuple[int, int], limits: MaskLimits) -> PointMasks:
        """What is within the limits at points of the input; enlarged, measured, packed on the device, part by part."""
        logits, predicted = self._model.point_masks(features, points)
        ranks = _ranks((logits > 0).flatten(2).sum(2)).flatten()
        logits, predicted = logits.flatten(0, 1), predicted.flatten().float()
        rows, kept, stable, packed = torch.nonzero(predicted > limits.predicted_iou)[:, 0], [], [], []
        for some in torch.split(rows, max(1, MAX_ENLARGED_PIXELS // (size[0] * size[1]))):
            enlarged = functional.interpolate(
                logits[some][:, None].float(), size=size, mode="bilinear", align_corners=False
            ).flatten(1)
            inner, outer = ((enlarged > edge).sum(1) for edge in (limits.offset, -limits.offset))
            stability = inner / outer.clamp(min=1)
            masks = enlarged > 0
            is_of_use = (stability >= limits.stability) & masks.any(1)
            kept.append(some[is_of_use])
            stable.append(stability[is_of_use])
            packed.append(_pack(masks[is_of_use]))
        chosen = torch.cat(kept) if kept else rows
        return PointMasks(
            (chosen // 3).cpu().numpy(),
            ranks[chosen].cpu().numpy(),
            predicted[chosen].cpu().numpy(),
            (torch.cat(stable) if stable else predicted[chosen]).cpu().numpy().astype(np.float32),
            PackedMasks(np.concatenate(packed), *size) if packed else PackedMasks.empty(*size),
        )

    def _half_of_points(self, count: int) -> int:
        """Half of the points that are too many for the device's memory.

        Raises:
            PredictorOutOfMemory: it is a single point.
        """
        if count == 1:
            raise PredictorOutOfMemory(
                f"{self._model.name}: the masks of one point do not fit on {self._model.device}: "
                f"take a smaller model or another {argument('device')}"
            )
        text = f"memory of {self._model.device} was short: {count // 2} points at a time instead of {count}"
        self._warn("points-halved", text, batch=count // 2)
        return count // 2

    # --- a pass --------------------------------------------------------------------------------------------------

    def _propagate(self, objects: list[int], path: range, reverse: bool) -> Iterator[FramePrediction]:
        start, ids = path[0], np.array(objects, np.int64)
        signature = [(obj_id, tuple(self._book.prompts(obj_id))) for obj_id in objects]
        batches = self._batches_of(signature, start, reverse)
        for frame in path:
            self._check_open()
            outputs = [pair for batch in batches for pair in self._step(batch, frame, reverse)]
            self._read_ahead(frame + path.step, path)
            yield self._predict(frame, ids, outputs)
            batches = [batch for batch, _ in outputs]
            # Written again on every early frame: a caller may stop at any of them and go backward then. Batches are not
            # thinned out as long as they may be needed for that.
            if not reverse and frame - start <= self._model.pointer_frames:
                groups = [replace(batch.group, for_backward=batch.memory.for_backward) for batch in batches]
                self._forward_passes[start] = (signature, groups)
            elif self._settings.stop_after_absent:
                batches = self._drop_ended(batches)
            if self._settings.stop_after_absent and all(batch.ended.all() for batch in batches):
                break
        if reverse:
            self._forward_passes.pop(start, None)

    def _batches_of(self, signature: Signature, start: int, reverse: bool) -> list[_ObjectBatch]:
        """The prompt batch's batches at the start of a pass; a backward pass continues from the forward one, if the
        prompts are still the same."""
        forward = self._forward_passes.get(start)
        if reverse and forward is not None and forward[0] == signature:
            return [_ObjectBatch.of(group, self._model, group.for_backward) for group in forward[1]]
        batches = []
        for frames in dict.fromkeys(frames for _, frames in signature):
            rows = np.array([row for row, (_, own) in enumerate(signature) if own == frames], np.int64)
            first = 0
            while first < len(rows):
                # The limit may shrink on the way: `_prompt` halves it when memory is short.
                chunk = rows[first : first + self._batch_limit]
                batches += self._prompt([signature[row][0] for row in chunk], chunk, frames)
                first += len(chunk)
        return batches

    def _prompt(self, ids: list[int], rows: NDArray[np.int64], frames: Sequence[int]) -> list[_ObjectBatch]:
        """Batches of objects that are prompted on the same frames: one, or several when memory is short."""
        try:
            prompted = {frame: self._prompt_on(frame, ids) for frame in frames}
        except _DeviceMemoryShort:
            half = self._halve(len(ids), ids[0])
            return [
                batch
                for side in (slice(half), slice(half, None))
                for batch in self._prompt(ids[side], rows[side], frames)
            ]
        batch = _ObjectBatch.of(_ObjectGroup(ids, rows, prompted), self._model)
        size = self._padded(len(ids))
        return [batch if size == len(ids) else batch.subset(np.arange(len(ids)), size, self._model)]

    def _prompt_on(self, frame: int, ids: list[int]) -> SamOutput:
        """Objects that all have a prompt on a frame; masks, and each number of points, go through the model apart."""
        features = self._features(frame)
        prompts = [self._book.prompts(obj_id)[frame] for obj_id in ids]
        # A padded point would be seen by the decoder: only prompts of as many points make a batch.
        counts = np.array([0 if prompt.is_mask else len(prompt.marks[0]) for prompt in prompts])
        parts, rows = list[SamOutput](), list[NDArray[np.int64]]()
        for count in np.unique(counts).tolist():
            rows.append(np.flatnonzero(counts == count))
            some = [prompts[row] for row in rows[-1]]
            if not count:
                masks = torch.cat([self._mask_input(prompt, frame) for prompt in some])
                parts.append(self._run(self._model.prompt_masks, features, masks.to(self._model.device)))
                continue
            points = torch.stack([self._model.point_input(prompt.marks[0], self._size) for prompt in some])
            labels = torch.from_numpy(np.stack([prompt.marks[1] for prompt in some]))
            device = self._model.device
            parts.append(self._run(self._model.prompt_points, features, points.to(device), labels.to(device)))
        if len(parts) == 1:
            return parts[0]
        order = np.argsort(np.concatenate(rows))
        joined = SamOutput(
            torch.cat([part.logits for part in parts]),
            torch.cat([part.scores for part in parts]),
            join_objects([part.entry for part in parts], self._model.axis),
        )
        return _select(joined, torch.from_numpy(order).to(self._model.device), self._model)

    def _mask_input(self, prompt: ObjectPrompt, frame: int) -> Tensor:
        """A mask prompt at the model's resolution; one that is lost there keeps every pixel that it touches."""
        mask = prompt.mask.to_bool()[0]
        shrunk = mask_to_input(mask, self._model.image_size, device=self._model.device)
        if shrunk.any():
            return shrunk
        self._warn("prompt-thickened", f"a mask prompt on frame {frame} is thinner than a pixel of the model's input")
        return mask_to_input(mask, self._model.image_size, threshold=1e-6, device=self._model.device)

    def _step(self, batch: _ObjectBatch, frame: int, reverse: bool) -> list[tuple[_ObjectBatch, SamOutput]]:
        """A batch's output on a frame; several parts of the batch where it had to be halved."""
        prompted = batch.group.prompted.get(frame)
        if prompted is not None:
            return [(batch, prompted)]
        try:
            output = self._run(self._model.track, self._features(frame), batch.memory, frame, self._length, reverse)
        except _DeviceMemoryShort:
            half = self._halve(len(batch.group.ids), batch.group.ids[0])
            indices = np.arange(len(batch.group.ids))
            halves = (indices[:half], indices[half:])
            parts = [batch.subset(rows, self._padded(len(rows)), self._model) for rows in halves]
            return [pair for part in parts for pair in self._step(part, frame, reverse)]
        batch.memory.remember(frame, output.entry)
        if not reverse:
            batch.memory.keep_for_backward(
                next(iter(batch.group.prompted)), frame
            )  # a batch starts on its first prompt
        if self._settings.prune:
            batch.memory.prune(frame, reverse)
        self._counts["object_frames"] += len(batch.group.ids)
        self._counts["model_calls"] += 1
        return [(batch, output)]

    def _predict(
        self, frame: int, ids: NDArray[np.int64], outputs: Sequence[tuple[_ObjectBatch, SamOutput]]
    ) -> FramePrediction:
        """Masks and scores of the prompt batch; counts the frames on which objects are absent."""
        masks = PackedMasks.empty(*self._size, len(ids))
        scores = np.zeros(len(ids), np.float32)
        for batch, output in outputs:
            count, rows = len(batch.group.ids), batch.group.rows
            packed = pack_logits(output.logits[:count], *self._size)
            logits = output.scores[:count].float()
            is_visible = logits.cpu().numpy() > 0
            masks.bits[rows] = np.where((is_visible & ~batch.ended)[:, None], packed.bits, 0)
            scores[rows] = np.where(batch.ended, 0, torch.sigmoid(logits).cpu().numpy())
            if frame not in batch.group.prompted:
                batch.absent = np.where(is_visible & (packed.areas > 0), 0, batch.absent + 1)
                if self._settings.stop_after_absent:
                    batch.ended |= batch.absent >= self._settings.stop_after_absent
        return FramePrediction(LocalIndex(frame), ids, masks, scores)

    def _drop_ended(self, batches: Sequence[_ObjectBatch]) -> list[_ObjectBatch]:
        """Batches without the objects that have ended, where that makes them smaller."""
        remaining = []
        for batch in batches:
            rows = np.flatnonzero(~batch.ended)
            if not len(rows):
                continue
            size = self._padded(len(rows))
            remaining.append(batch if size == self._padded(len(batch.ended)) else batch.subset(rows, size, self._model))
        return remaining

    # --- frames --------------------------------------------------------------------------------------------------

    def _features(self, frame: int) -> Features:
        """A frame's features: from the store, or from the image encoder."""
        stored = self._store.get(frame)
        if stored is not None:
            return stored
        if frame in self._store.evicted:
            self._warn(
                "features-evicted",
                "frames went through the image encoder again, because the feature store is too small: "
                f"raise host_bytes or disk_bytes, or limit {argument('max_propagate')}",
            )
        features = self._encoded(self._pixels(frame))
        self._counts["encoder_passes"] += 1
        return self._store.put(frame, features)

    def _encoded(self, pixels: Tensor) -> Features:
        """The image encoder's output.

        Raises:
            PredictorOutOfMemory: it does not fit on the device.
        """
        try:
            return self._run(self._model.encode, pixels)
        except _DeviceMemoryShort:
            raise PredictorOutOfMemory(
                f"{self._model.name}: the image encoder alone does not fit on {self._model.device}: "
                f"take a smaller model or another {argument('device')}"
            ) from None

    def _pixels(self, frame: int) -> Tensor:
        """A frame as the encoder takes it. Frames are read by one thread only, which may be one frame ahead."""
        prefetched, self._next_frame = self._next_frame, None
        if prefetched is not None and prefetched[0] == frame:
            return prefetched[1].result()
        return self._reader.submit(self._read, frame).result()

    def _read_ahead(self, frame: int, path: range) -> None:
        """Starts reading a frame that will be encoded next, while the model is busy or the caller is."""
        is_due = frame in path and frame not in self._store and self._frames.is_there(frame)
        if is_due and (self._next_frame is None or self._next_frame[0] != frame):
            self._next_frame = (frame, self._reader.submit(self._read, frame))

    def _read(self, frame: int) -> Tensor:
        with inference(self._model.device, None):
            return self._model.pixels(self._frames[frame])

    # --- memory of the device ------------------------------------------------------------------------------------

    def _run(self, action: Callable[..., Out], *arguments: Any) -> Out:
        """Calls the model; moves features off the device and tries again when its memory is short.

        Raises:
            _DeviceMemoryShort: there is nothing left to move.
            PredictorError: the model failed otherwise.
        """
        while True:
            try:
                with inference(self._model.device, self._autocast_dtype):
                    return action(*arguments)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    reason = str(error).strip().split("\n")[0]
                    raise PredictorError(f"{self._model.name} failed: {reason}") from error
            # Outside of the handler: inside, the traceback keeps the failed call's tensors alive.
            free_cache(self._model.device)
            if not self._store.shrink_device_tier():
                raise _DeviceMemoryShort
            self._warn(
                "features-moved", f"memory of {self._model.device} was short: features of frames moved to main memory"
            )

    def _halve(self, count: int, obj_id: int) -> int:
        """Half of a batch that is too large; the limit stays there for the rest of the session.

        Raises:
            PredictorOutOfMemory: it is a single object.
        """
        if count == 1:
            raise PredictorOutOfMemory(
                f"{self._model.name}: object {obj_id} alone does not fit on {self._model.device}: "
                f"take a smaller model or another {argument('device')}"
            )
        self._batch_limit = max(1, count // 2)
        self._warn(
            "batch-halved",
            f"memory of {self._model.device} was short: {self._batch_limit} objects at a time instead of {count}",
            batch=self._batch_limit,
        )
        return self._batch_limit

    def _padded(self, count: int) -> int:
        """Padded size of a batch of `count`: a power of two up to the limit, so that compiled code is reused."""
        return count if not self._pads_batches else max(count, min(self._batch_limit, 1 << (count - 1).bit_length()))

    def _warn(self, code: str, message: str, **details: Any) -> None:
        self._warnings[code] = RunWarning("predictor", None, code, message, details)


def _tiers(device: torch.device, settings: SamSettings) -> list[Tier]:
    """The tiers of the feature store; on the processor, the device's memory is main memory."""
    tiers: list[Tier] = []
    host = settings.host_bytes
    if device.type == "cpu":
        host += settings.device_bytes
    else:
        tiers.append(MemoryTier(device, settings.device_bytes))
    tiers.append(MemoryTier(torch.device("cpu"), host))
    if settings.disk_bytes:
        tiers.append(DiskTier(settings.disk_bytes))
    return tiers


def _ranks(areas: Tensor) -> Tensor:
    """`(B, 3)` areas → `(B, 3)` int64: 0 for the largest of each row, of equal ones the first."""
    return torch.argsort(torch.argsort(areas, dim=1, descending=True, stable=True), dim=1)


def _select(output: SamOutput, rows: Tensor, model: SamModel) -> SamOutput:
    """Some objects of an output, in the order of `rows`."""
    return SamOutput(
        output.logits.index_select(0, rows),
        output.scores.index_select(0, rows),
        select_objects(output.entry, rows, model.axis),
    )
