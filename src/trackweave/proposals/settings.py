"""Settings of candidates: `RegionSettings` of the built-in generator, `PointGridSettings` of SAM's automatic masks,
`CandidateSettings` of what is done with candidates of any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from trackweave.settings import Settings

if TYPE_CHECKING:
    from trackweave.masks.packed import PackedMasks


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


def _corners(region: str) -> list[float]:
    """`x,y x,y x,y` as numbers.

    Raises:
        ValueError: it is no polygon.
    """
    try:
        corners = [[float(side) for side in corner.split(",")] for corner in region.split()]
    except ValueError:
        corners = []
    if len(corners) < 3 or any(len(corner) != 2 or not all(abs(side) < 2**31 for side in corner) for corner in corners):
        raise ValueError("a region is a polygon of three corners or more in pixels, such as 0,0 640,0 640,200")
    return [side for corner in corners for side in corner]


def _checked_region(region: str | None) -> str | None:
    if region is not None:
        _corners(region)
    return region


class CandidateSettings(Settings):
    """What is done with candidates, whatever found them. Areas are pixels; below 1, a share of the image."""

    min_area: float | None = Field(default=None, ge=0, description="area below which a candidate is dropped")
    max_area: float | None = Field(default=None, gt=0, description="area above which a candidate is dropped")
    min_stability: float | None = Field(
        default=None, ge=0, le=1, description="stability, the candidate's score, below which it is dropped, 0 … 1"
    )
    min_predicted_iou: float | None = Field(
        default=None, ge=0, le=1, description="predicted IoU that it has to be above, where the model gives one, 0 … 1"
    )
    nms_iou: float | None = Field(
        default=None, ge=0, le=1, description="of candidates of a level whose boxes have a greater IoU the best stays"
    )
    max_count: int | None = Field(default=None, ge=1, description="candidates per frame and level, best scores first")
    region: Annotated[str | None, AfterValidator(_checked_region)] = Field(
        default=None,
        description="polygon of interest in pixels of the image: what lies mostly outside of it is dropped",
        json_schema_extra={"metavar": "'X,Y X,Y X,Y…'"},
    )
    gap_area: float | None = Field(
        default=None, gt=0, description="parts of the frame of this area that nothing covers become candidates"
    )
    nest: bool = Field(
        default=False, description="cut candidates to their parents in coarser levels, and keep the links in tree.json"
    )
    tile_size: int | None = Field(
        default=None, ge=32, description="run the generator on tiles of so many pixels, too, for small objects"
    )
    tile_overlap: float = Field(default=0.2, ge=0, le=0.9, description="share of a tile that the next one has as well")

    def recorded(self, limits: Mapping[str, float | str], size: tuple[int, int]) -> dict[str, float | str]:
        """What a later choice from the same candidates starts from: a generator's limits, and these.

        Of two limits the stricter holds, as it did when both were applied.

        >>> made = CandidateSettings(max_count=200, min_area=50, nest=True)
        >>> sorted(made.recorded({"max_count": 100, "min_area": 0.001}, (100, 200)).items())
        [('max_count', 100), ('min_area', 50.0), ('nest', True)]

        Args:
            limits: of the generator, as settings of this class.
            size: `(H, W)` of the image.
        """
        own = self.model_dump(exclude_defaults=True, exclude={"tile_size", "tile_overlap"})

        def strictness(key: str, value: float) -> float:
            pixels = value * size[0] * size[1] if key.endswith("_area") and value < 1 else value
            return pixels if key.startswith("min_") else -pixels

        twice = {
            key: max(own[key], limits[key], key=lambda value: strictness(key, value)) for key in own.keys() & limits
        }
        return {**limits, **own, **twice}

    def region_mask(self, size: tuple[int, int]) -> PackedMasks:
        """The region of interest in an image `(H, W)`; all of it without one."""
        from trackweave.masks.codecs import decode_rle, fill_polygons

        height, width = size
        corners = _corners(self.region) if self.region else [0.0, 0.0, width, 0.0, width, height, 0.0, height]
        return decode_rle([fill_polygons([corners], height, width)])
