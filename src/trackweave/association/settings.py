"""Settings of association: what is logged, which scorer is used, and which samples are learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from trackweave.settings import Settings

DEFAULT_EMBED_DIM = 256
"""Width of logged embeddings."""


class LogSettings(Settings):
    """Whether and where a tracker's decisions are logged as training samples; they are when `dir` is set."""

    dir: Path | None = Field(
        default=None,
        description="folder of the samples; created or continued",
        json_schema_extra={"metavar": "DIR"},
    )
    embed_dim: int = Field(default=DEFAULT_EMBED_DIM, ge=1, description="width of the logged embeddings")
    sequence: str | None = Field(
        default=None, min_length=1, description="id of the video in the samples; null: its name"
    )


class ScorerSettings(Settings):
    """Whether a learned scorer scores pairs, and which one; without `enabled`, the classical cost decides alone."""

    enabled: bool = Field(default=False, description="a learned scorer scores pairs")
    weights: Path | None = Field(
        default=None,
        description="exported model; null: the one that comes with the package",
        json_schema_extra={"metavar": "MODEL.onnx"},
    )
    embed_dim: int | None = Field(
        default=None, ge=1, description="width of embeddings that the model must have been trained with"
    )
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="probability from which a lost track is matched; null: the model's own"
    )


class DataSettings(Settings):
    """Which samples are learned from, and which labels are taken for right."""

    labels: Literal["truth", "tracker", "both"] = Field(
        default="both",
        description="truth: samples with true identities only; tracker: its own decisions; both: truth where known",
    )
    tracker_weight: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="weight of samples whose labels are a tracker's decisions, with labels both",
    )
    min_score: float = Field(default=0.0, ge=0, le=1, description="detections of a lower score are not learned from")
    min_visibility: float = Field(
        default=0.0, ge=0, le=1, description="detections of a lower visibility are not learned from"
    )
    suspect_frames: int = Field(
        default=5,
        ge=0,
        description="a tracker's decisions about a track are not learned from so close to a suspected switch",
    )
    allow_blended: bool = Field(
        default=False, description="also learn from decisions that a learned scorer took part in"
    )
    skip_corrupt: bool = Field(default=False, description="leave out samples that cannot be read")
