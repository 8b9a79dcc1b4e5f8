"""`OverlaySettings`: how tracked objects are drawn over frames."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trackweave.settings import Settings

OverlayStyle = Literal["outline", "fill", "boxes"]


class OverlaySettings(Settings):
    """How tracked objects are drawn over frames."""

    style: OverlayStyle = Field(
        default="outline",
        description="outline (with a light fill), fill, or boxes; what has no mask is always a box",
    )
    labels: bool = Field(default=True, description="write each object's id")
    classes: bool = Field(default=False, description="write its class too, where there is one")
    scores: bool = Field(default=False, description="write its score too")
    trail: int | None = Field(
        default=None, ge=0, description="frames that its trail reaches back; null: 45 of boxes, 0 of masks"
    )


def overlay_settings(overlay: bool | OverlaySettings) -> OverlaySettings | None:
    """How to draw; None where nothing is to be drawn."""
    if isinstance(overlay, OverlaySettings):
        return overlay
    return OverlaySettings() if overlay else None
