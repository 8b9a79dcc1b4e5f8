"""`FlowSettings`: what a person may change about the `flow` predictor."""

from __future__ import annotations

from pydantic import Field

from trackweave.settings import Settings


class FlowSettings(Settings):
    """How the predictor `flow` works.

    Lengths are pixels of the working resolution, log-odds are natural logarithms.
    """

    working_side: int = Field(
        default=432, ge=32, description="longer side of the frames that are worked on, pixels; smaller frames stay"
    )
    memory_bytes: int = Field(default=256 << 20, ge=0, description="memory for flows and features of frames, bytes")
    disk_bytes: int = Field(
        default=8 << 30, ge=0, description="temporary files for flows and features beyond memory_bytes, bytes"
    )

    boundary_width: float = Field(
        default=3.0,
        gt=0,
        description="half width of the band around a warped mask's boundary in which it may change, working pixels",
    )
    boundary_slack: float = Field(
        default=6.0, ge=0, description="widening of that band where forward and backward flow disagree, working pixels"
    )
    prior_weight: float = Field(
        default=3.0, ge=0, description="log-odds that the warped mask gives to pixels beyond the band"
    )
    reach: float = Field(
        default=10.0, ge=0, description="distance from the warped mask beyond which growth is penalised, working pixels"
    )
    reach_penalty: float = Field(
        default=0.35, ge=0, description="log-odds against the object per working pixel beyond reach"
    )

    appearance_weight: float = Field(default=1.0, ge=0, description="factor of each appearance cue's log-odds; 0: off")
    appearance_limit: float = Field(default=4.0, gt=0, description="largest log-odds of appearance, either way")
    background_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of the recent background in the background model, 0 … 1; the rest is the prompt frame's",
    )
    background_decay: float = Field(
        default=0.9, ge=0, lt=1, description="share of the recent background that is kept per frame, 0 … 1"
    )
    refresh_every: int = Field(default=4, ge=1, description="frames between two updates of the background model")

    motion_weight: float = Field(
        default=1.0, ge=0, description="factor of the log-odds of motion relative to the camera; 0: off"
    )
    motion_limit: float = Field(default=2.0, gt=0, description="largest log-odds of motion, either way")

    smoothing: float = Field(
        default=0.8, ge=0, description="weight of a pixel's neighbours in the edge-aware smoothing; 0: off"
    )
    smoothing_rounds: int = Field(default=3, ge=0, description="iterations of the edge-aware smoothing; 0: off")
    edge_contrast: float = Field(
        default=14.0, gt=0, description="colour difference of neighbours that counts as an edge, units of 8-bit Lab"
    )

    search_below: float = Field(
        default=0.85, ge=0, description="share of the expected area below which missing parts are re-detected; 0: never"
    )
    part_likeness: float = Field(
        default=0.6,
        ge=0,
        description="similarity to the prompt that a part needs to be re-detected; 1: as similar as the prompt's mean",
    )
    object_likeness: float = Field(
        default=0.6, ge=0, description="the same for a lost object; larger than any similarity: never"
    )

    report_above: float = Field(
        default=0.3, ge=0, le=1, description="objectness below which a mask is propagated but not reported, 0 … 1"
    )
    find_above: float = Field(
        default=0.4, ge=0, le=1, description="objectness that a lost object needs where it is re-detected, 0 … 1"
    )
