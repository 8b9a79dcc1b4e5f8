"""Settings of the candidate generators: `RegionSettings` of the built-in one, `PointGridSettings` of SAM's masks."""

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


class PointGridSettings(Settings):
    """Settings of SAM's automatic masks (`AutomaticMasks`); the defaults are those of SAM 2's own generator."""

    points_per_side: int = Field(default=32, ge=1, le=256, description="points of the grid along each side of a frame")
    points_per_batch: int = Field(default=64, ge=1, description="points that go through the model together")
    min_predicted_iou: float = Field(
        default=0.8, ge=0, le=1, description="IoU that the model expects of a mask, which has to be above this, 0 … 1"
    )
    min_stability: float = Field(
        default=0.95, ge=0, le=1, description="IoU of a mask at a higher and a lower logit, at least this, 0 … 1"
    )
    stability_offset: float = Field(default=1.0, ge=0, description="how far those logits lie from 0")
    nms_iou: float = Field(
        default=0.7, ge=0, le=1, description="of masks of a level whose boxes have a greater IoU the best stays, 0 … 1"
    )
    crop_layers: int = Field(
        default=0,
        ge=0,
        le=4,
        description="look at 2^k × 2^k parts of the frame, too, for k up to this; each is encoded",
    )
    crop_overlap: float = Field(
        default=512 / 1500, ge=0, lt=1, description="overlap of the largest parts, share of the frame's shorter side"
    )
    crop_nms_iou: float = Field(default=0.7, ge=0, le=1, description="as nms_iou, between parts")
    crop_points_factor: int = Field(default=1, ge=1, description="the grid of layer k has so many^k times fewer points")
