"""`FormatSettings`: what a person may choose about the formats that tracks are written in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from trackweave.settings import Settings

Shapes = Literal["auto", "boxes", "polygons", "masks"]


def _as_number(value: Any) -> Any:
    """A command line has text only, which a choice of numbers does not take."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


class FormatSettings(Settings):
    """How tracks are written in other tools' formats."""

    shapes: Shapes = Field(
        default="auto",
        description="cvat, labelme, yolo, coco: boxes, polygons or masks; auto: what the format is mostly used with",
    )
    tolerance: float = Field(
        default=0, ge=0, description="pixels that a polygon may lie beside the mask's outline; 0: to the pixel"
    )
    ids: Literal["run", "level"] = Field(
        default="run", description="label images, mots: the ids as they are, or 1, 2, … with a table ids.csv"
    )
    bits: Annotated[Literal[8, 16] | None, BeforeValidator(_as_number)] = Field(
        default=None, description="of a label image; null: 16 where ids are above 254"
    )
    frame_base: Annotated[Literal[0, 1] | None, BeforeValidator(_as_number)] = Field(
        default=None, description="mots: the number of the first frame; null: 0 as in KITTI MOTS; 1: MOTSChallenge"
    )
    margin: int = Field(default=8, ge=0, description="cutouts, clips: pixels around an object's box")
    background: bool = Field(default=False, description="cutouts: keep what lies around the object")
    codec: Literal["prores", "vp9"] = Field(
        default="prores", description="mov: ProRes 4444, or VP9 (in a .webm file), both with alpha"
    )
    width: int = Field(default=640, ge=16, description="gif: pixels across, at most")
    fps: float = Field(default=10, gt=0, le=1000, description="frames per second where the video says none")
