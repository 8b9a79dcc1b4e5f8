"""`FlowSettings`: what a person may change about the `flow` predictor."""

from __future__ import annotations

from pydantic import Field

from trackweave.settings import Settings


class FlowSettings(Settings):
    """Settings of `FlowPredictor`. Lengths are pixels of the working resolution, evidence is in log-odds."""

    working_side: int = Field(default=432, ge=32, description="longer side in pixels of the frames that are worked on")
    memory_bytes: int = Field(default=256 << 20, ge=0, description="memory in bytes for flows and features of frames")
    disk_bytes: int = Field(default=8 << 30, ge=0, description="temporary files in bytes for what memory does not hold")

    boundary_width: float = Field(
        default=3.0, gt=0, description="half width of the band around a warped mask's boundary in which it may change"
    )
    boundary_slack: float = Field(
        default=6.0, ge=0, description="widening of the band where forward and backward flow disagree"
    )
    prior_weight: float = Field(default=3.0, ge=0, description="evidence of the warped mask beyond the band")
    reach: float = Field(default=10.0, ge=0, description="distance from the warped mask from which growth is penalised")
    reach_penalty: float = Field(default=0.35, ge=0, description="evidence against growth per pixel beyond reach")

    appearance_weight: float = Field(default=1.0, ge=0, description="weight of each appearance cue")
    appearance_limit: float = Field(default=4.0, gt=0, description="largest evidence of appearance")
    background_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of the recent background in the background model; the rest is the prompt frame's",
    )
    background_decay: float = Field(
        default=0.9, ge=0, lt=1, description="share of the recent background that is kept per frame"
    )
    refresh_every: int = Field(default=4, ge=1, description="frames between two updates of the background model")

    motion_weight: float = Field(default=1.0, ge=0, description="weight of motion relative to the camera")
    motion_limit: float = Field(default=2.0, gt=0, description="largest evidence of motion")

    smoothing: float = Field(default=0.8, ge=0, description="strength of the edge-aware smoothing")
    smoothing_rounds: int = Field(default=3, ge=0, description="iterations of the edge-aware smoothing")
    edge_contrast: float = Field(default=14.0, gt=0, description="colour difference (8-bit Lab) that counts as an edge")

    search_below: float = Field(
        default=0.85, ge=0, description="share of the expected area below which missing parts are searched for"
    )
    part_likeness: float = Field(
        default=0.6, ge=0, description="likeness to the prompt that a part needs to be re-detected"
    )
    object_likeness: float = Field(
        default=0.7, ge=0, description="likeness to the prompt that a lost object needs to be re-detected"
    )
    clearance: float = Field(
        default=0.05, description="how much more alike a re-detection must be than anything else on the prompt frame"
    )

    report_above: float = Field(
        default=0.08, ge=0, le=1, description="objectness below which a mask is still propagated but not reported"
    )
    find_above: float = Field(
        default=0.2, ge=0, le=1, description="objectness that a lost object needs to be re-detected"
    )
