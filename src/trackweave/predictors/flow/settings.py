"""`FlowSettings`: what a person may change about the `flow` predictor."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FlowSettings(BaseModel):
    """Settings of `FlowPredictor`. Lengths are pixels of the working resolution, evidence is in log-odds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    working_side: int = Field(
        default=432, ge=32, description="Longer side, in pixels, of the frames that are worked on."
    )
    memory_bytes: int = Field(default=256 << 20, ge=0, description="Memory for flows and features of frames, in bytes.")
    disk_bytes: int = Field(
        default=8 << 30, ge=0, description="Temporary files for what memory does not hold, in bytes."
    )

    boundary_width: float = Field(
        default=3.0, gt=0, description="Half width of the band around a warped outline that is open."
    )
    boundary_slack: float = Field(default=6.0, ge=0, description="Added to the band where the two flows disagree.")
    prior_weight: float = Field(default=3.0, ge=0, description="Evidence of the warped mask beyond the band.")
    reach: float = Field(
        default=10.0, ge=0, description="Distance from the warped mask from which growth is penalised."
    )
    reach_penalty: float = Field(default=0.35, ge=0, description="Evidence against growth per pixel beyond `reach`.")

    appearance_weight: float = Field(default=1.0, ge=0, description="Weight of each appearance cue.")
    appearance_limit: float = Field(default=4.0, gt=0, description="Largest evidence that appearance may give.")
    background_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of the recent background in the model; the rest is the prompt's."
    )
    background_decay: float = Field(default=0.9, ge=0, lt=1, description="What the recent background keeps per frame.")
    refresh_every: int = Field(default=4, ge=1, description="Frames between two refreshes of the background model.")

    motion_weight: float = Field(default=1.0, ge=0, description="Weight of motion relative to the camera.")
    motion_limit: float = Field(default=2.0, gt=0, description="Largest evidence that motion may give.")

    smoothing: float = Field(default=0.8, ge=0, description="Strength of the edge-aware smoothing.")
    smoothing_rounds: int = Field(default=3, ge=0, description="Rounds of the edge-aware smoothing.")
    edge_contrast: float = Field(
        default=14.0, gt=0, description="Colour difference (8-bit Lab) that counts as an edge."
    )

    search_below: float = Field(
        default=0.85, ge=0, description="Share of the expected area below which parts are searched."
    )
    part_likeness: float = Field(
        default=0.6, ge=0, description="Likeness to the prompt that a re-appearing part needs."
    )
    object_likeness: float = Field(default=0.7, ge=0, description="Likeness to the prompt that a lost object needs.")
    clearance: float = Field(
        default=0.05, description="How much more alike than anything else on the prompt's frame a find must be."
    )

    report_above: float = Field(
        default=0.08, ge=0, le=1, description="Objectness below which an outline is followed on but not reported."
    )
    find_above: float = Field(
        default=0.2, ge=0, le=1, description="Objectness that a lost object needs where it is found again."
    )
