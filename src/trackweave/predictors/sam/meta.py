"""`sam2`: SAM 2 and 2.1 through Meta's own package.

Its `track_step` takes several objects at once, though the package's video predictor calls it with one. What that
predictor does around it is done here too: memories in bfloat16, holes filled where its compiled part is installed, and
the memory of a prompt, which is encoded from the low-resolution mask.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trackweave.predictors.sam.loading import load_meta
from trackweave.predictors.sam.model import Features, MemoryEntry, MemoryView, SamOutput
from trackweave.predictors.sam.predictor import Prompts, SamPredictor
from trackweave.predictors.sam.preprocessing import image_to_pixels
from trackweave.predictors.sam.settings import SamSettings

UpstreamEntry = dict[str, Any]
"""One frame of B objects as the package keeps it: tensors and lists of tensors by name."""

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Sam2Predictor(SamPredictor):
    """See `VideoPredictor`.

    Args:
        settings: of the sessions; weights and configuration.
        model: a `SAM2VideoPredictor` that is loaded already; None = loaded as the settings say.

    Raises:
        MissingExtraError: torch or the package is not installed.
        PredictorUnavailable: no weights, weights of something else, or a device that is not there.
    """

    def __init__(self, settings: SamSettings | None = None, *, model: Any = None) -> None:
        settings = settings or SamSettings()
        loaded = load_meta(settings) if model is None else model
        super().__init__(
            MetaModel(loaded),
            loaded.image_encoder,
            lambda frames, size, prompts: MetaPass(loaded, frames, size, prompts),
            settings,
        )


class MetaModel:
    """See `SamModel`.

    Args:
        predictor: a `SAM2VideoPredictor`.
    """

    name = "sam2"
    mean, std = MEAN, STD
    pointer_keys = frozenset({"obj_ptr"})

    def __init__(self, predictor: Any) -> None:
        self.predictor = predictor.eval()
        self.image_size: int = predictor.image_size
        self.device: torch.device = predictor.device
        self.dtype: torch.dtype = next(predictor.parameters()).dtype
        self.memory_frames: int = (predictor.num_maskmem - 1) * predictor.memory_temporal_stride_for_eval
        self.pointer_frames: int = max(predictor.max_obj_ptrs_in_encoder - 1, self.memory_frames)
        self._image_positions: list[Tensor] = []
        self._sizes: list[tuple[int, int]] = []
        self._memory_position: Tensor | None = None

    def pixels(self, image: NDArray[np.uint8]) -> Tensor:
        """See `SamModel`."""
        return image_to_pixels(
            image, self.image_size, MEAN, STD, resize="pil-bicubic", device=self.device, dtype=self.dtype
        )

    def point_input(self, points: NDArray[np.float32], frame_size: tuple[int, int]) -> Tensor:
        """See `SamModel`."""
        height, width = frame_size
        return torch.from_numpy(np.array(points, np.float32)) / torch.tensor([width, height]) * self.image_size

    def encode(self, pixels: Tensor) -> Features:
        """See `SamModel`; maps are `(h·w, 1, C)`, position encodings are constants and kept once."""
        _, maps, positions, sizes = self.predictor._prepare_backbone_features(self.predictor.forward_image(pixels))
        self._image_positions, self._sizes = positions, sizes
        return tuple(maps)

    def prompt_masks(self, features: Features, masks: Tensor) -> SamOutput:
        """See `SamModel`."""
        return self._prompt(features, len(masks), mask_inputs=masks.float())

    def prompt_points(self, features: Features, points: Tensor, labels: Tensor) -> SamOutput:
        """See `SamModel`."""
        marks = {"point_coords": points.to(self.device), "point_labels": labels.to(self.device)}
        return self._prompt(features, len(points), point_inputs=marks)

    def point_masks(self, features: Features, points: Tensor) -> tuple[Tensor, Tensor]:
        """See `SamModel`."""
        model = self.predictor
        maps = [
            flat.permute(1, 2, 0).view(1, flat.shape[2], *size)
            for flat, size in zip(features, self._sizes, strict=True)
        ]
        no_memory = model.no_mem_embed.reshape(1, -1, 1, 1) if model.directly_add_no_mem_embed else 0
        marks = points.to(self.device)[:, None], torch.ones(len(points), 1, dtype=torch.int32, device=self.device)
        sparse, dense = model.sam_prompt_encoder(points=marks, boxes=None, masks=None)
        masks, predicted_ious, _, _ = model.sam_mask_decoder(
            image_embeddings=maps[-1] + no_memory,
            image_pe=model.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            repeat_image=True,
            high_res_features=maps[:-1],
        )
        return masks, predicted_ious

    def track(self, features: Features, memory: MemoryView, frame: int, length: int, reverse: bool) -> SamOutput:
        """See `SamModel`."""
        count = len(next(iter(memory.conditioning.values()))["obj_ptr"])
        outputs = {
            "cond_frame_outputs": self._with_positions(memory.conditioning),
            "non_cond_frame_outputs": self._with_positions(memory.tracked),
        }
        step = self._track_step(features, count, frame, outputs, length=length, reverse=reverse, first=False)
        return self._output(step, step["maskmem_features"], step["maskmem_pos_enc"])

    def axis(self, key: str) -> int:
        """See `SamModel`: everything is batch first."""
        return 0

    def _prompt(self, features: Features, count: int, **inputs: Any) -> SamOutput:
        """Objects on the frame of their prompt; their memory is encoded from the low-resolution mask of the output."""
        step = self._track_step(features, count, 0, {}, length=1, reverse=False, first=True, **inputs)
        step["pred_masks"] = self._filled(step["pred_masks"])
        size = (self.image_size, self.image_size)
        spatial, position = self.predictor._encode_new_memory(
            current_vision_feats=[flat.expand(-1, count, -1) for flat in features],
            feat_sizes=self._sizes,
            pred_masks_high_res=functional.interpolate(
                step["pred_masks"], size=size, mode="bilinear", align_corners=False
            ),
            object_score_logits=step["object_score_logits"],
            is_mask_from_pts=True,
        )
        return self._output(step, spatial, position)

    def _track_step(
        self,
        features: Features,
        count: int,
        frame: int,
        outputs: dict[str, dict[int, UpstreamEntry]],
        *,
        length: int,
        reverse: bool,
        first: bool,
        point_inputs: Any = None,
        mask_inputs: Tensor | None = None,
    ) -> UpstreamEntry:
        step: UpstreamEntry = self.predictor.track_step(
            frame_idx=frame,
            is_init_cond_frame=first,
            current_vision_feats=[flat.expand(-1, count, -1) for flat in features],
            current_vision_pos_embeds=[position.expand(-1, count, -1) for position in self._image_positions],
            feat_sizes=self._sizes,
            point_inputs=point_inputs,
            mask_inputs=mask_inputs,
            output_dict=outputs,
            num_frames=length,
            track_in_reverse=reverse,
            run_mem_encoder=not first,
        )
        return step

    def _output(self, step: UpstreamEntry, spatial: Tensor, positions: list[Tensor]) -> SamOutput:
        if self._memory_position is None:
            self._memory_position = positions[-1][:1].clone()
        entry = {"maskmem_features": spatial.to(torch.bfloat16), "obj_ptr": step["obj_ptr"]}
        return SamOutput(self._filled(step["pred_masks"]), step["object_score_logits"][:, 0].float(), entry)

    def _filled(self, masks: Tensor) -> Tensor:
        if self.predictor.fill_hole_area <= 0:
            return masks
        from sam2.utils.misc import fill_holes_in_mask_scores

        filled: Tensor = fill_holes_in_mask_scores(masks, self.predictor.fill_hole_area)
        return filled

    def _with_positions(self, entries: dict[int, MemoryEntry]) -> dict[int, UpstreamEntry]:
        """The entries in upstream's form, with the position encoding that we keep once for all of them."""
        assert self._memory_position is not None
        position = self._memory_position
        return {
            frame: {**entry, "maskmem_pos_enc": [position.expand(len(entry["obj_ptr"]), -1, -1, -1)]}
            for frame, entry in entries.items()
        }


class MetaPass:
    """See `UpstreamPass`: an inference state of upstream, filled through its public methods.

    Args:
        predictor: the upstream predictor.
        frames: `(3, S, S)` normalised, all of the video's.
        size: `(H, W)` of the video, pixels.
        prompts: object → frame → prompt.
    """

    def __init__(self, predictor: Any, frames: list[Tensor], size: tuple[int, int], prompts: Prompts) -> None:
        self._predictor = predictor
        self._state = _empty_state(predictor, frames, size)
        for obj_id, by_frame in prompts.items():
            for frame, prompt in by_frame.items():
                if prompt.is_mask:
                    predictor.add_new_mask(self._state, frame, obj_id, prompt.mask.to_bool()[0])
                    continue
                points, labels = (prompt.points, prompt.labels) if len(prompt.points) else (None, None)
                predictor.add_new_points_or_box(self._state, frame, obj_id, points, labels, box=prompt.box)

    def run(self, start: int, reverse: bool, max_frames: int | None) -> Iterator[tuple[int, Tensor]]:
        """See `UpstreamPass`."""
        for frame, _, logits in self._predictor.propagate_in_video(
            self._state, start_frame_idx=start, max_frame_num_to_track=max_frames, reverse=reverse
        ):
            yield frame, logits

    def prompted(self, frame: int) -> Tensor:
        """See `UpstreamPass`."""
        self._predictor.propagate_in_video_preflight(self._state)
        return torch.cat([self._entry(index, frame)["pred_masks"] for index in range(len(self._state["obj_ids"]))])

    def scores(self, frame: int) -> Tensor:
        """See `UpstreamPass`."""
        count = len(self._state["obj_ids"])
        return torch.cat([self._entry(index, frame)["object_score_logits"].reshape(1) for index in range(count)])

    def _entry(self, index: int, frame: int) -> UpstreamEntry:
        outputs = self._state["output_dict_per_obj"][index]
        entry: UpstreamEntry = outputs["cond_frame_outputs"].get(frame) or outputs["non_cond_frame_outputs"][frame]
        return entry


def _empty_state(predictor: Any, frames: list[Tensor], size: tuple[int, int]) -> UpstreamEntry:
    """The state that upstream's `init_state` makes of a folder of JPEG files, made of frames in memory."""
    return {
        "images": frames,
        "num_frames": len(frames),
        "offload_video_to_cpu": False,
        "offload_state_to_cpu": False,
        "video_height": size[0],
        "video_width": size[1],
        "device": predictor.device,
        "storage_device": predictor.device,
        "point_inputs_per_obj": {},
        "mask_inputs_per_obj": {},
        "cached_features": {},
        "constants": {},
        "obj_id_to_idx": OrderedDict(),
        "obj_idx_to_id": OrderedDict(),
        "obj_ids": [],
        "output_dict_per_obj": {},
        "temp_output_dict_per_obj": {},
        "frames_tracked_per_obj": {},
    }
