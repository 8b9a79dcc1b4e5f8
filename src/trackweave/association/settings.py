"""`LogSettings`: whether and where a tracker's decisions are logged as training samples.

`ScorerSettings`: whether a learned scorer judges pairs, and which one.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_EMBED_DIM = 256


class LogSettings(BaseModel):
    """Logging is on when `dir` is set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dir: Path | None = Field(default=None, description="Folder of the samples; made when missing, continued when not.")
    embed_dim: int = Field(default=DEFAULT_EMBED_DIM, ge=1, description="Width of the logged embeddings.")
    sequence: str | None = Field(
        default=None, min_length=1, description="Id of the video in the samples; its own name when not given."
    )


class ScorerSettings(BaseModel):
    """Without `enabled`, overlap and motion alone decide."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(default=False, description="A learned scorer judges pairs; --scorer learned.")
    weights: Path | None = Field(
        default=None, description="Exported model; without, the one that comes with the package."
    )
    embed_dim: int | None = Field(
        default=None, ge=1, description="Width of embeddings that the model must have been trained with."
    )
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="Probability from which a lost track is taken back; the model's own."
    )
