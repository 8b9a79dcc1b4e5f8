"""`LogSettings`: whether and where a tracker's decisions are logged as training samples."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from trackweave.association.data_collection import DEFAULT_EMBED_DIM


class LogSettings(BaseModel):
    """Logging is on when `dir` is set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dir: Path | None = Field(default=None, description="Folder of the samples; made when missing, continued when not.")
    embed_dim: int = Field(default=DEFAULT_EMBED_DIM, ge=1, description="Width of the logged embeddings.")
    sequence: str | None = Field(
        default=None, min_length=1, description="Id of the video in the samples; its own name when not given."
    )
