"""TODO tracking/settings."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from trackweave.structures.run_log import OnBadItem

PromptMode = Literal["mask", "box", "auto"]


class TrackingSettings(BaseModel):
    """How candidates become tracks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iou_threshold: float = Field(
        default=0.6, ge=0, le=1, description="a candidate is new when its best IoU is at or below"
    )
    max_propagate: int | None = Field(default=None, ge=0, description="frames each way from the prompt; none = all")
    prompt_mode: PromptMode = Field(
        default="mask", description="mask (box where there is none), box, auto (box for small)"
    )
    long_tail_area: float | None = Field(
        default=None,
        ge=0,
        description="area in candidate pixels up to which `auto` prompts by box; none = from the manifest",
    )
    mask_scale_ratio: float = Field(default=1.0, gt=0, le=1, description="stored mask size over frame size")
    preview_stride: int = Field(default=1, ge=1, description="every n-th candidate frame is compared in pictures")
    preview_max: int | None = Field(default=12, ge=1, description="at most so many comparison pictures per level")
    render_viz: bool = Field(default=True, description="draw the comparison pictures")
    on_bad_item: OnBadItem = Field(
        default="error", description="error stops at a bad candidate or frame, skip leaves it out"
    )
