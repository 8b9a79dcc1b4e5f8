"""Tiny random models of the SAM 2 family: the real classes with a thousandth of the weights, always the same.

Each takes square input of `image_size` pixels (SAM 3's tracker has patches of 14, so 56 instead of 64) and about 0.02 s
per object-frame on one core. Objects count as present: random weights would often call them absent.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

transformers: Any = import_module("transformers")  # its configurations are typed more narrowly than they are

PRESENT = 5.0
"""Bias of the score head."""


def tiny_sam2_hf(seed: int = 0, image_size: int = 64) -> Any:
    """A `Sam2VideoModel`."""
    side = image_size // 16
    config = transformers.Sam2VideoConfig(
        vision_config=_hiera(image_size),
        prompt_encoder_config=transformers.Sam2VideoPromptEncoderConfig(
            hidden_size=128, image_size=image_size, patch_size=16, mask_input_channels=4
        ),
        mask_decoder_config=transformers.Sam2VideoMaskDecoderConfig(**_mask_head()),
        image_size=image_size,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[side, side],
        **_memory(),
    )
    with _seeded(seed):
        model = transformers.Sam2VideoModel(config)
        return _lively(model, model.mask_decoder.pred_obj_score_head.proj_out.bias)


def tiny_edgetam(seed: int = 0, image_size: int = 64) -> Any:
    """An `EdgeTamVideoModel`, with SAM 2's image encoder in the place of the one that needs timm."""
    side = image_size // 16
    config = transformers.EdgeTamVideoConfig(
        vision_config=_hiera(image_size),
        prompt_encoder_config=transformers.EdgeTamVideoPromptEncoderConfig(
            hidden_size=128, image_size=image_size, patch_size=16, mask_input_channels=4
        ),
        mask_decoder_config=transformers.EdgeTamVideoMaskDecoderConfig(**_mask_head()),
        image_size=image_size,
        memory_attention_mlp_hidden_size=32,
        memory_attention_rope_feat_sizes=[side, side],
        memory_attention_rope_k_sizes=[2, 2],
        perceiver_resampler_num_latents=8,
        perceiver_resampler_num_latents_2d=4,
        **_memory(),
    )
    with _seeded(seed):
        model = transformers.EdgeTamVideoModel(config)
        return _lively(model, model.mask_decoder.pred_obj_score_head.proj_out.bias)


def tiny_sam3_tracker(seed: int = 0, image_size: int = 56) -> Any:
    """A `Sam3TrackerVideoModel`."""
    backbone = transformers.Sam3ViTConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=1,
        image_size=image_size,
        pretrain_image_size=28,
        window_size=2,
        global_attn_indexes=[1],
    )
    side = image_size // backbone.patch_size
    config = transformers.Sam3TrackerVideoConfig(
        vision_config=transformers.Sam3VisionConfig(
            backbone_config=backbone,
            fpn_hidden_size=128,
            backbone_feature_sizes=[[4 * side] * 2, [2 * side] * 2, [side] * 2],
        ),
        prompt_encoder_config=transformers.Sam3TrackerVideoPromptEncoderConfig(
            hidden_size=128, image_size=image_size, mask_input_channels=4
        ),
        mask_decoder_config=transformers.Sam3TrackerVideoMaskDecoderConfig(**_mask_head()),
        image_size=image_size,
        memory_attention_feed_forward_hidden_size=32,
        **_memory(),
    )
    with _seeded(seed):
        model = transformers.Sam3TrackerVideoModel(config)
        return _lively(model, model.mask_decoder.pred_obj_score_head.proj_out.bias)


def tiny_sam3_video(seed: int = 0) -> Any:
    """A `Sam3VideoModel`, the whole of SAM 3 as it is published; its tracker is like `tiny_sam3_tracker`."""
    tracker = tiny_sam3_tracker(seed).config.to_dict()
    layers = {"hidden_size": 128, "num_attention_heads": 2}
    detector = {
        "vision_config": tracker["vision_config"],
        "text_config": {
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "projection_dim": 32,
            "vocab_size": 100,
            "max_position_embeddings": 8,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
        "geometry_encoder_config": {**layers, "num_layers": 1, "intermediate_size": 32},
        "detr_encoder_config": {**layers, "num_layers": 1, "intermediate_size": 32},
        "detr_decoder_config": {**layers, "num_layers": 1, "intermediate_size": 32, "num_queries": 4},
        "mask_decoder_config": layers,
    }
    config = transformers.Sam3VideoConfig(detector_config=detector, tracker_config=tracker)
    with _seeded(seed):
        model = transformers.Sam3VideoModel(config)
        return _lively(model, model.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias)


def tiny_sam2_meta(seed: int = 0, image_size: int = 64) -> Any:
    """A `SAM2VideoPredictor` of Meta's package, with the options that `build_sam2_video_predictor` sets."""
    pytest.importorskip("sam2")
    from hydra.utils import instantiate

    recipe = tiny_sam2_meta_config(image_size)["model"]
    recipe["_target_"] = "sam2.sam2_video_predictor.SAM2VideoPredictor"
    recipe["sam_mask_decoder_extra_args"] = {
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
    }
    recipe["binarize_mask_from_pts_for_mem_enc"] = True
    with _seeded(seed):
        predictor = instantiate(recipe, _recursive_=True)
        return _lively(predictor, predictor.sam_mask_decoder.pred_obj_score_head.layers[-1].bias)


def tiny_sam2_meta_config(image_size: int = 64) -> dict[str, Any]:
    """What a YAML file of Meta's package would say of `tiny_sam2_meta`."""
    config = copy.deepcopy(META_CONFIG)
    model = config["model"]
    model["image_size"] = image_size
    for attention in ("self_attention", "cross_attention"):
        model["memory_attention"]["layer"][attention]["feat_sizes"] = [image_size // 16] * 2
    return config


def save_tiny(model: Any, folder: Path) -> Path:
    """A transformers model as `save_pretrained` leaves it: `config.json` and `model.safetensors`."""
    modeling = import_module("transformers.modeling_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling, "safe_save_file", _save_arrays)
        model.save_pretrained(folder)
    return folder


SAFETENSORS_TYPES = {"float32": "F32", "int64": "I64", "int32": "I32", "bool": "BOOL", "uint8": "U8"}


def _save_arrays(tensors: dict[str, torch.Tensor], path: str, metadata: dict[str, str] | None = None) -> None:
    """The safetensors format; `safetensors.torch.save_file` failed in processes that had run thousands of tests."""
    header: dict[str, Any] = {"__metadata__": metadata or {}}
    content = b""
    for name, tensor in tensors.items():
        array = np.ascontiguousarray(tensor.detach().numpy()).reshape(tuple(tensor.shape))
        start, content = len(content), content + array.tobytes()
        kind = SAFETENSORS_TYPES[array.dtype.name]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, len(content)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(len(text).to_bytes(8, "little") + text + content)


def save_tiny_meta(predictor: Any, folder: Path, name: str = "sam2.1_hiera_tiny.pt") -> Path:
    """A checkpoint as Meta's package reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": predictor.state_dict()}, folder / name)
    return folder / name


# --- parts ------------------------------------------------------------------------------------------------------------


def _hiera(image_size: int) -> Any:
    """SAM 2's image encoder."""
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[image_size, image_size],
        blocks_per_stage=[1, 2, 2, 2],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 1, 1],
        window_size_per_stage=[8, 4, 4, 2],
        global_attention_blocks=[4],
        window_positional_embedding_background_size=[4, 4],
    )
    return transformers.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[image_size // stride] * 2 for stride in (4, 8, 16)],
        fpn_hidden_size=128,
    )


def _mask_head() -> dict[str, int]:
    return {
        "hidden_size": 128,
        "mlp_dim": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 64,
    }


def _memory() -> dict[str, int]:
    """Memory has 64 channels in every model, the others must have more."""
    return {
        "memory_attention_hidden_size": 128,
        "memory_attention_num_layers": 1,
        "memory_encoder_hidden_size": 128,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": 128,
        "memory_fuser_num_layers": 1,
        "memory_fuser_embed_dim": 128,
        "memory_fuser_intermediate_dim": 32,
    }


_ATTENTION: dict[str, Any] = {
    "_target_": "sam2.modeling.sam.transformer.RoPEAttention",
    "rope_theta": 10000.0,
    "embedding_dim": 128,
    "num_heads": 1,
    "downsample_rate": 1,
    "dropout": 0.1,
}


def _sine(channels: int) -> dict[str, Any]:
    return {
        "_target_": "sam2.modeling.position_encoding.PositionEmbeddingSine",
        "num_pos_feats": channels,
        "normalize": True,
        "scale": None,
        "temperature": 10000,
    }


META_CONFIG: dict[str, Any] = {
    "model": {
        "_target_": "sam2.modeling.sam2_base.SAM2Base",
        "image_encoder": {
            "_target_": "sam2.modeling.backbones.image_encoder.ImageEncoder",
            "scalp": 1,
            "trunk": {
                "_target_": "sam2.modeling.backbones.hieradet.Hiera",
                "embed_dim": 8,
                "num_heads": 1,
                "stages": [1, 2, 2, 2],
                "global_att_blocks": [4],
                "window_pos_embed_bkg_spatial_size": [4, 4],
                "window_spec": [8, 4, 4, 2],
            },
            "neck": {
                "_target_": "sam2.modeling.backbones.image_encoder.FpnNeck",
                "position_encoding": _sine(128),
                "d_model": 128,
                "backbone_channel_list": [64, 32, 16, 8],
                "fpn_top_down_levels": [2, 3],
                "fpn_interp_model": "nearest",
            },
        },
        "memory_attention": {
            "_target_": "sam2.modeling.memory_attention.MemoryAttention",
            "d_model": 128,
            "pos_enc_at_input": True,
            "num_layers": 1,
            "layer": {
                "_target_": "sam2.modeling.memory_attention.MemoryAttentionLayer",
                "activation": "relu",
                "dim_feedforward": 32,
                "dropout": 0.1,
                "d_model": 128,
                "pos_enc_at_attn": False,
                "pos_enc_at_cross_attn_keys": True,
                "pos_enc_at_cross_attn_queries": False,
                "self_attention": {**_ATTENTION},
                "cross_attention": {**_ATTENTION, "rope_k_repeat": True, "kv_in_dim": 64},
            },
        },
        "memory_encoder": {
            "_target_": "sam2.modeling.memory_encoder.MemoryEncoder",
            "in_dim": 128,
            "out_dim": 64,
            "position_encoding": _sine(64),
            "mask_downsampler": {
                "_target_": "sam2.modeling.memory_encoder.MaskDownSampler",
                "embed_dim": 128,
                "kernel_size": 3,
                "stride": 2,
                "padding": 1,
            },
            "fuser": {
                "_target_": "sam2.modeling.memory_encoder.Fuser",
                "num_layers": 1,
                "layer": {
                    "_target_": "sam2.modeling.memory_encoder.CXBlock",
                    "dim": 128,
                    "kernel_size": 7,
                    "padding": 3,
                    "layer_scale_init_value": 1e-6,
                    "use_dwconv": True,
                },
            },
        },
        "num_maskmem": 7,
        "sigmoid_scale_for_mem_enc": 20.0,
        "sigmoid_bias_for_mem_enc": -10.0,
        "use_mask_input_as_output_without_sam": True,
        "directly_add_no_mem_embed": True,
        "no_obj_embed_spatial": True,
        "use_high_res_features_in_sam": True,
        "multimask_output_in_sam": True,
        "iou_prediction_use_sigmoid": True,
        "use_obj_ptrs_in_encoder": True,
        "add_tpos_enc_to_obj_ptrs": True,
        "proj_tpos_enc_in_obj_ptrs": True,
        "use_signed_tpos_enc_to_obj_ptrs": True,
        "only_obj_ptrs_in_the_past_for_eval": True,
        "pred_obj_scores": True,
        "pred_obj_scores_mlp": True,
        "fixed_no_obj_ptr": True,
        "multimask_output_for_tracking": True,
        "use_multimask_token_for_obj_ptr": True,
        "multimask_min_pt_num": 0,
        "multimask_max_pt_num": 1,
        "use_mlp_for_obj_ptr_proj": True,
        "compile_image_encoder": False,
    }
}


def _lively(model: Any, score_bias: Any) -> Any:
    """Draws the weights anew, as large as layers need to pass on what they get: with the initial ones every mask is
    constant. And objects count as there, which random weights would often deny."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
        score_bias.fill_(PRESENT)
    return model.eval()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Weights of their own seed, whatever was drawn before, and without an effect on what is drawn after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
