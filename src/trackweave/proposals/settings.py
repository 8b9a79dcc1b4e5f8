"""`RegionSettings`: settings of the built-in candidate generator."""

from __future__ import annotations

from pydantic import Field

from trackweave.settings import Settings


class RegionSettings(Settings):
    """Settings of the generator `regions` (`RegionProposals`)."""

    long_side: int = Field(
        default=640,
        ge=16,
        description="longer side of the frames that are segmented, pixels; masks have the frame's own size",
    )
    pieces: int = Field(
        default=800, ge=1, description="number of superpixels of a frame of 640×360, in proportion for other sizes"
    )
    heights: dict[int, float] = Field(
        default_factory=lambda: {2: 14.0, 4: 8.0, 6: 4.6},
        description="level → height at which the hierarchy is cut: contrast (CIELAB) × (share of the frame) ^ 0.4",
    )
    min_area: float = Field(
        default=0.001, ge=0, le=1, description="area below which regions are left out, share of the frame, 0 … 1"
    )
    background_area: float = Field(
        default=0.5, ge=0, le=1, description="share of the frame above which a region may be background, 0 … 1"
    )
    background_border: float = Field(
        default=0.4, ge=0, le=1, description="share of the frame's border above which such a region is left out, 0 … 1"
    )
    max_count: int = Field(
        default=100, ge=1, description="largest number of candidates per frame and level, best scores first"
    )
