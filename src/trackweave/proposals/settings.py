"""TODO proposals/settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class RegionSettings(BaseModel):
    """Settings of `RegionProposals`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    long_side: int = Field(default=640, ge=16)
    """Frames are worked on at this size at most; masks come at the frame's own size."""
    pieces: int = Field(default=800, ge=1)
    """Small regions that a picture of 640×360 is cut into first; in proportion for others."""
    heights: dict[int, float] = Field(default_factory=lambda: {2: 14.0, 4: 8.0, 6: 4.6})
    """Level → height of the hierarchy at which it is cut: contrast (CIELAB units) × (share of the picture) ^ 0.4."""
    min_area: float = Field(default=0.001, ge=0, le=1)
    """Smaller regions are left out; share of the picture."""
    background_area: float = Field(default=0.5, ge=0, le=1)
    """A region that covers more of the picture than this …"""
    background_border: float = Field(default=0.4, ge=0, le=1)
    """… and more of its border than this is background, and left out."""
    max_count: int = Field(default=100, ge=1)
    """Candidates per frame and level; those of the best scores stay."""
