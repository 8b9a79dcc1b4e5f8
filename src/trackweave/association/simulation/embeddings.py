"""Simulated appearance: embeddings whose likeness within and between identities is set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trackweave.association.simulation.detector import Reports
from trackweave.association.simulation.scene import Scene


class EmbeddingSettings(BaseModel):
    """How well appearance tells objects apart; likenesses are expected cosines of wholly visible objects."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    width: int = Field(default=64, ge=2, le=4096, description="numbers per embedding")
    genuine: float = Field(default=0.85, ge=0, le=1, description="of two views of one object")
    teammates: float = Field(default=0.6, ge=0, le=1, description="of two objects that are dressed alike")
    impostor: float = Field(default=0.45, ge=0, le=1, description="of two others")
    teams: int = Field(default=2, ge=1, le=1000, description="ways to be dressed")
    occlusion: float = Field(default=0.8, ge=0, le=1, description="how far a hidden object looks like its hider")

    @model_validator(mode="after")
    def _rises(self) -> EmbeddingSettings:
        if not self.impostor <= self.teammates <= self.genuine:
            raise ValueError("impostor ≤ teammates ≤ genuine, or likeness would not tell objects apart")
        return self


def embed(scene: Scene, found: Reports, settings: EmbeddingSettings, rng: np.random.Generator) -> NDArray[np.float32]:
    """`(M, width)` float32 embeddings of unit length.

    What is common to all, to a team, to an object and to one view are independent random directions; their shares give
    the likenesses. A hidden object's is mixed with that of its hider.
    """
    n, width = len(scene.track_id), settings.width
    parts = np.array([settings.impostor, settings.teammates - settings.impostor, settings.genuine - settings.teammates])
    common, team, own = (_directions(rng, count, width) for count in (1, settings.teams, n))
    dressed = rng.integers(settings.teams, size=n)
    looks = np.sqrt(parts[0]) * common + np.sqrt(parts[1]) * team[dressed] + np.sqrt(parts[2]) * own
    strange = np.sqrt(settings.impostor) * common + np.sqrt(1 - settings.impostor) * _directions(rng, len(found), width)
    known = found.owner >= 0
    shown = np.where(known[:, None], looks[found.owner] if n else 0.0, strange)
    if n:
        hider = scene.seen.hider[found.frame, np.maximum(found.owner, 0)]
        mix = np.where(known & (hider >= 0), settings.occlusion * (1 - found.visible), 0.0)[:, None]
        shown = (1 - mix) * shown + mix * looks[hider]
    shown = shown + np.sqrt(1 - settings.genuine) * _directions(rng, len(found), width)
    length = np.maximum(np.linalg.norm(shown, axis=1, keepdims=True), 1e-9)
    return np.asarray(shown / length, np.float32)


def _directions(rng: np.random.Generator, count: int, width: int) -> NDArray[np.float64]:
    return np.asarray(rng.standard_normal((count, width)) / np.sqrt(width))
