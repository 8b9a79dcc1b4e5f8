"""Mask tracking: candidates become prompts, prompts become tracks.

`pipeline_context` checks a level, `candidate_loader` turns its candidates into prompts, `mask_tracker` is the engine
that tracks all levels together, `stores` keep what it finds, `level_runner` and `outputs` write it. `sam2_runner` and
`helpers` hold further names of the guide that the package follows. Names load on first use: importing is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackweave.progress import ProgressPrinter, TimingAggregator, format_duration_precise
    from trackweave.storage.run import format_scale_suffix, scaled_npz_path
    from trackweave.tracking.helpers import bbox_scalar_fit, bbox_transform_xywh_to_xyxy
    from trackweave.tracking.level_runner import LevelRunResult, run_level_tracking
    from trackweave.tracking.outputs import (
        build_object_segments_archive,
        build_video_segments_archive,
        decode_packed_mask_from_json,
        encode_packed_mask_for_json,
        save_comparison_proposals,
    )
    from trackweave.tracking.sam2_runner import sam2_tracking
    from trackweave.tracking.settings import TrackingSettings

_HOME = {
    "ProgressPrinter": "helpers",
    "TimingAggregator": "helpers",
    "bbox_scalar_fit": "helpers",
    "bbox_transform_xywh_to_xyxy": "helpers",
    "format_duration_precise": "helpers",
    "format_scale_suffix": "helpers",
    "scaled_npz_path": "helpers",
    "LevelRunResult": "level_runner",
    "run_level_tracking": "level_runner",
    "build_object_segments_archive": "outputs",
    "build_video_segments_archive": "outputs",
    "decode_packed_mask_from_json": "outputs",
    "encode_packed_mask_for_json": "outputs",
    "save_comparison_proposals": "outputs",
    "TrackingSettings": "settings",
    "sam2_tracking": "sam2_runner",
}

__all__ = [
    "LevelRunResult",
    "ProgressPrinter",
    "TimingAggregator",
    "TrackingSettings",
    "bbox_scalar_fit",
    "bbox_transform_xywh_to_xyxy",
    "build_object_segments_archive",
    "build_video_segments_archive",
    "decode_packed_mask_from_json",
    "encode_packed_mask_for_json",
    "format_duration_precise",
    "format_scale_suffix",
    "run_level_tracking",
    "sam2_tracking",
    "save_comparison_proposals",
    "scaled_npz_path",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
