"""`TrackingSettings`: how candidates and prompts become tracks of masks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trackweave.settings import Cuts, Settings
from trackweave.structures.run_log import OnBadItem

PromptMode = Literal["mask", "box", "auto"]


class TrackingSettings(Settings):
    """How candidates become tracks."""

    iou_threshold: float = Field(
        default=0.6, ge=0, le=1, description="a candidate is new when its best IoU with a tracked mask is at or below"
    )
    max_propagate: int | None = Field(default=None, ge=0, description="frames each way from the prompt; null: all")
    prompt_mode: PromptMode = Field(
        default="mask", description="mask (box where there is none), box, auto (box for small)"
    )
    long_tail_area: float | None = Field(
        default=None,
        ge=0,
        description="area in candidate pixels up to which auto prompts by box; null: from the manifest",
    )
    mask_scale_ratio: float = Field(default=1.0, gt=0, le=1, description="stored mask size over frame size")
    cuts: Cuts = Field(default="detect", description="hard cuts: tracks end there (detect), or go on (ignore)")
    preview_stride: int = Field(default=1, ge=1, description="every n-th candidate frame gets a comparison image")
    preview_max: int | None = Field(
        default=12, ge=1, description="largest number of comparison images per level; null: no limit"
    )
    render_viz: bool = Field(default=True, description="draw the comparison images and the overlay video")
    on_bad_item: OnBadItem = Field(
        default="error", description="a bad candidate or frame stops the run, or is left out"
    )


class OnlineSettings(Settings):
    """How masks are tracked online: forward only, while frames come."""

    delay: int = Field(
        default=0, ge=0, description="frames by which results lag behind; candidates and prompts may be as late"
    )
    max_absent: int | None = Field(
        default=300, ge=1, description="frames in a row without an object after which it ends; null: never"
    )
    max_frames: int | None = Field(default=None, ge=1, description="frames after which the run ends; null: all")


def online_settings(online: bool | OnlineSettings) -> OnlineSettings | None:
    """How to track online; None where it is not online."""
    if isinstance(online, OnlineSettings):
        return online
    return OnlineSettings() if online else None
