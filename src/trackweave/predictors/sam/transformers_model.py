"""`TransformersModel`: the video models of the SAM 2 family in `transformers`, B objects at a time.

Upstream's `forward` runs one object after the other: fed with several, its mask head pairs every object with every
other one's best mask. Here the model's own modules are called with all objects of a prompt batch on the batch axis. The
memory and the encoders are upstream's code; the mask head's choice among masks is written out below. For one object
every step is bit-equal to upstream's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trackweave.predictors.base import ObjectPrompt
from trackweave.predictors.sam.model import Features, MemoryEntry, MemoryView, SamOutput
from trackweave.predictors.sam.predictor import Prompts
from trackweave.predictors.sam.preprocessing import image_to_pixels, mask_to_input, points_to_input

ABSENT = -1024.0
"""Mask logit, at every pixel, of an object that is not visible; upstream's value."""

"""Labels of a box's two corners for the prompt encoder."""


class TransformersModel:
    """See `SamModel`.

    Args:
        model: a `Sam2VideoModel`, or one of the models with the same parts.
        name: for messages.
        mean: per RGB channel of pixels in [0, 1].
        std: per RGB channel of pixels in [0, 1].
    """

    pointer_keys = frozenset({"object_pointer"})

    def __init__(
        self, model: Any, name: str, *, mean: tuple[float, float, float], std: tuple[float, float, float]
    ) -> None:
        self.model = model.eval()
        self.name = name
        self.mean, self.std = mean, std
        self.image_size: int = model.image_size
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.memory_frames: int = model.num_maskmem - 1
        self.pointer_frames: int = model.config.max_object_pointers_in_encoder - 1
        self._image_position: Tensor | None = None
        self._memory_position: Tensor | None = None
        self._decoder_position: Tensor | None = None
        if _objects_first not in model.memory_attention._forward_hooks.values():  # a model may be wrapped twice
            model.memory_attention.register_forward_hook(_objects_first)

    # --- frames --------------------------------------------------------------------------------------------------

    def pixels(self, image: NDArray[np.uint8]) -> Tensor:
        """See `SamModel`."""
        return image_to_pixels(
            image,
            self.image_size,
            self.mean,
            self.std,
            resize="torch-bilinear",
            device=self.device,
            dtype=self.dtype,
        )

    def point_input(self, points: NDArray[np.float32], frame_size: tuple[int, int]) -> Tensor:
        """See `SamModel`."""
        return points_to_input(points, frame_size, self.image_size)

    def encode(self, pixels: Tensor) -> Features:
        """See `SamModel`; maps are `(h·w, 1, C)`, the first two already projected for the mask head."""
        encoded = self.model.get_image_features(pixels, return_dict=True)
        self._image_position = encoded.fpn_position_encoding[-1]  # the same for every frame: one copy is enough
        return tuple(encoded.fpn_hidden_states)

    # --- prompts -------------------------------------------------------------------------------------------------

    def prompt_masks(self, features: Features, masks: Tensor) -> SamOutput:
        """See `SamModel`. The mask itself is the output; the mask head makes the pointers, one object at a time."""
        fine, coarse = self._maps(features, 1)
        outputs = [self.model._use_mask_as_output(coarse, fine, mask[None].to(self.dtype)) for mask in masks]
        return self._prompted(
            features,
            torch.cat([output.pred_masks for output in outputs]),
            torch.cat([output.high_res_masks for output in outputs]),
            torch.cat([output.object_pointer for output in outputs]),
            torch.cat([output.object_score_logits.reshape(1, 1) for output in outputs]),
        )

    def prompt_points(self, features: Features, points: Tensor, labels: Tensor) -> SamOutput:
        """See `SamModel`."""
        fine, coarse = self._maps(features, len(points))
        no_memory = self.model.no_memory_embedding.reshape(1, -1, 1, 1)
        marks = points.to(self.device, self.dtype)[:, None], labels.to(self.device)[:, None]
        return self._prompted(features, *self._head(fine, coarse + no_memory, *marks))

    def point_masks(self, features: Features, points: Tensor) -> tuple[Tensor, Tensor]:
        """See `SamModel`."""
        fine, coarse = self._maps(features, 1)
        masks, predicted_ious, _, _ = self._decode(
            fine,
            coarse + self.model.no_memory_embedding.reshape(1, -1, 1, 1),
            points.to(self.device, self.dtype)[None, :, None],
            torch.ones(1, len(points), 1, dtype=torch.int32, device=self.device),
            several=True,
        )
        return masks[0], predicted_ious[0]

    def _prompted(self, features: Features, low: Tensor, high: Tensor, pointer: Tensor, score: Tensor) -> SamOutput:
        return self._output(features, low, high, pointer, score, prompted=True)

    # --- tracking ------------------------------------------------------------------------------------------------

    def track(self, features: Features, memory: MemoryView, frame: int, length: int, reverse: bool) -> SamOutput:
        """See `SamModel`."""
        count = _count(memory.conditioning)
        fine, _ = self._maps(features, count)
        assert self._image_position is not None
        conditioned = self.model._prepare_memory_conditioned_features(
            inference_session=_Session(self._with_positions(memory), self.dtype),
            frame_idx=frame,
            obj_idx=0,
            is_initial_conditioning_frame=False,
            current_vision_features=features[-1].expand(-1, count, -1),
            current_vision_positional_embeddings=self._image_position.expand(-1, count, -1),
            num_total_frames=length,
            track_in_reverse_time=reverse,
        )
        return self._output(features, *self._head(fine, conditioned, None, None), prompted=False)

    def axis(self, key: str) -> int:
        """See `SamModel`: spatial memory is `(h·w, B, C)`, a pointer `(B, 1, C)`."""
        return 1 if key == "maskmem_features" else 0

    # --- parts ---------------------------------------------------------------------------------------------------

    def _maps(self, features: Features, count: int) -> tuple[list[Tensor], Tensor]:
        """Feature maps as `(B, C, h, w)` views: those for the mask head, and the coarsest."""
        maps = [
            flat.expand(-1, count, -1).permute(1, 2, 0).view(count, flat.shape[2], *size)
            for flat, size in zip(features, self.model.backbone_feature_sizes, strict=True)
        ]
        return maps[:-1], maps[-1]

    def _head(
        self, fine: list[Tensor], coarse: Tensor, points: Tensor | None, labels: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The mask head: low and high resolution logits, pointers `(B, 1, C)`, scores `(B, 1)`.

        Where the model predicts several masks, the one with the highest predicted IoU is taken.
        """
        model, count = self.model, len(coarse)
        several = model._use_multimask(points is not None, None if labels is None else {"point_labels": labels})
        if points is None:  # an empty point, as upstream pads
            points = coarse.new_zeros(count, 1, 1, 2)
            labels = torch.full((count, 1, 1), -1, dtype=torch.int32, device=coarse.device)
        masks, predicted_ious, tokens, scores = self._decode(fine, coarse, points, labels, several)
        best = (
            predicted_ious[:, 0].argmax(dim=-1)
            if several
            else torch.zeros(count, dtype=torch.int64, device=coarse.device)
        )
        rows = torch.arange(count, device=coarse.device)
        is_visible = scores.reshape(count, 1) > 0
        low = torch.where(is_visible[..., None, None], masks[rows, 0, best][:, None], ABSENT)
        token = tokens[rows, 0, best if tokens.shape[2] > 1 else 0][:, None]
        pointer = self._pointer(token, is_visible[..., None])
        return low, self._enlarge(low), pointer, scores.reshape(count, 1)

    def _decode(
        self, fine: list[Tensor], coarse: Tensor, points: Tensor, labels: Tensor | None, several: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Upstream's mask decoder: masks, predicted IoUs, tokens and scores of `(B, P, …)` prompts of B maps."""
        sparse, dense = self.model.prompt_encoder(
            input_points=points, input_labels=labels, input_boxes=None, input_masks=None
        )
        if self._decoder_position is None:
            self._decoder_position = self.model.get_image_wide_positional_embeddings()
        decoded: tuple[Tensor, Tensor, Tensor, Tensor] = self.model.mask_decoder(
            image_embeddings=coarse,
            image_positional_embeddings=self._decoder_position.repeat(len(coarse), 1, 1, 1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
            high_resolution_features=fine,
        )
        return decoded

    def _pointer(self, token: Tensor, is_visible: Tensor) -> Tensor:
        pointer = self.model.object_pointer_proj(token)
        weight = is_visible.to(pointer.dtype)
        # Upstream's arithmetic, for bit-equality.
        mixed: Tensor = weight * pointer + (1 - weight) * self.model.no_object_pointer
        return mixed

    def _enlarge(self, low: Tensor) -> Tensor:
        size = (self.image_size, self.image_size)
        return functional.interpolate(low.float(), size=size, mode="bilinear", align_corners=False).to(low.dtype)

    def _output(
        self, features: Features, low: Tensor, high: Tensor, pointer: Tensor, score: Tensor, *, prompted: bool
    ) -> SamOutput:
        entry = {**self._remember(features, high, score, prompted), "object_pointer": pointer}
        return SamOutput(low, score[:, 0].float(), entry)

    def _remember(self, features: Features, high: Tensor, score: Tensor, prompted: bool) -> MemoryEntry:
        """Runs the memory encoder; keeps one copy of its position encoding, which is a constant."""
        spatial, position = self.model._encode_new_memory(
            current_vision_feats=features[-1].expand(-1, len(high), -1),
            pred_masks_high_res=high,
            object_score_logits=score[..., None],
            is_mask_from_pts=prompted,
        )
        if self._memory_position is None:
            self._memory_position = position.narrow(self.axis("maskmem_features"), 0, 1).clone()
        return {"maskmem_features": spatial}

    def _with_positions(self, memory: MemoryView) -> dict[str, dict[int, MemoryEntry]]:
        """The entries in upstream's form, with the position encoding that we keep once for all of them."""
        assert self._memory_position is not None
        axis, position = self.axis("maskmem_features"), self._memory_position

        def with_position(entry: MemoryEntry) -> MemoryEntry:
            spatial = entry.get("maskmem_features")
            if spatial is None:
                return entry
            shape = list(position.shape)
            shape[axis] = spatial.shape[axis]
            return {**entry, "maskmem_pos_enc": position.expand(shape)}

        return {
            "cond_frame_outputs": {frame: with_position(entry) for frame, entry in memory.conditioning.items()},
            "non_cond_frame_outputs": {frame: with_position(entry) for frame, entry in memory.tracked.items()},
        }


def _objects_first(_module: Any, _arguments: Any, attended: Tensor) -> Tensor:
    """The memory attention returns `(1, B, h·w, C)`, which upstream views as `(B, C, h, w)`: right for one object only.
    With the objects first and the channels before the places in memory, the same view is right for several."""
    return attended.transpose(0, 1).transpose(-1, -2).contiguous().transpose(-1, -2)


class _Session:
    """The part of an inference session that upstream's memory code reads, with the whole batch as its only object."""

    def __init__(self, outputs: dict[str, dict[int, MemoryEntry]], dtype: torch.dtype) -> None:
        self.output_dict_per_obj = {0: outputs}
        self.dtype = dtype


def _count(entries: Mapping[int, MemoryEntry]) -> int:
    return len(next(iter(entries.values()))["object_pointer"])


class TransformersPass:
    """See `UpstreamPass`: an inference session of upstream.

    Args:
        model: the upstream model.
        frames: `(3, S, S)` normalised, all of the video's.
        size: `(H, W)` of the video, pixels.
        prompts: object → frame → prompt.
    """

    def __init__(self, model: Any, frames: list[Tensor], size: tuple[int, int], prompts: Prompts) -> None:
        self._model, self._ids = model, list(prompts)
        module = import_module(type(model).__module__)
        session_class = getattr(module, type(model).__name__.removesuffix("Model") + "InferenceSession")
        self._session = session_class(
            video_height=size[0],
            video_width=size[1],
            inference_device=model.device,
            inference_state_device=model.device,
            dtype=model.dtype,  # its default is a string, which fails later
        )
        self._session.processed_frames = dict(enumerate(frames))
        for frame in dict.fromkeys(frame for by_frame in prompts.values() for frame in by_frame):
            on_frame = {obj_id: by_frame[frame] for obj_id, by_frame in prompts.items() if frame in by_frame}
            self._prompt(frame, on_frame, size)

    def _prompt(self, frame: int, prompts: Mapping[int, ObjectPrompt], size: tuple[int, int]) -> None:
        """Adds all prompts of a frame and runs them: upstream loses those that are pending when others are added."""
        session, side = self._session, self._model.image_size
        for obj_id, prompt in prompts.items():
            index = session.obj_id_to_idx(obj_id)
            if prompt.is_mask:
                session.add_mask_inputs(index, frame, mask_to_input(prompt.mask.to_bool()[0], side))
            else:
                points, labels = prompt.marks
                marks = points_to_input(points, size, side)[None, None], torch.from_numpy(labels)[None, None]
                session.add_point_inputs(index, frame, dict(zip(("point_coords", "point_labels"), marks, strict=True)))
        session.obj_with_new_inputs = list(prompts)  # a list of its own: upstream empties it
        self._model(session, frame_idx=frame)
        for obj_id in self._ids:  # upstream has tracked the others there, before they were prompted
            if obj_id not in prompts and obj_id in session.obj_ids:
                index = session.obj_id_to_idx(obj_id)
                session.output_dict_per_obj[index]["non_cond_frame_outputs"].pop(frame, None)
                session.frames_tracked_per_obj[index].pop(frame, None)

    def run(self, start: int, reverse: bool, max_frames: int | None) -> Iterator[tuple[int, Tensor]]:
        """See `UpstreamPass`."""
        steps = self._model.propagate_in_video_iterator(
            self._session, start_frame_idx=start, max_frame_num_to_track=max_frames, reverse=reverse
        )
        for step in steps:
            yield step.frame_idx, step.pred_masks

    def prompted(self, frame: int) -> Tensor:
        """See `UpstreamPass`."""
        return torch.cat([self._entry(index, frame)["pred_masks"] for index in range(len(self._ids))])

    def scores(self, frame: int) -> Tensor:
        """See `UpstreamPass`."""
        return torch.cat([self._entry(k, frame)["object_score_logits"].reshape(1) for k in range(len(self._ids))])

    def _entry(self, index: int, frame: int) -> MemoryEntry:
        outputs = self._session.output_dict_per_obj[index]
        entry: MemoryEntry = outputs["cond_frame_outputs"].get(frame) or outputs["non_cond_frame_outputs"][frame]
        return entry
