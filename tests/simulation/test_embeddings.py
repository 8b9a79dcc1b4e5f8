"""Similarities of simulated embeddings are those of the settings."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from tests.simulation.toy import toy_scene
from trackweave.simulation.detector import EmbeddingSettings
from trackweave.simulation.motions_people import DanceMotion
from trackweave.simulation.sequence import simulate


def test_similarities_within_and_between_objects() -> None:
    settings = EmbeddingSettings(width=512, genuine=0.8, teammates=0.5, impostor=0.3, teams=1)
    video = simulate(toy_scene(motion=DanceMotion(people=8), embedding=settings, frames=60), 1)
    assert video.embedding is not None
    assert np.allclose(np.linalg.norm(video.embedding, axis=1), 1, atol=1e-5)
    clear = np.flatnonzero((video.visibility > 0.99) & (video.gt_track_ids > 0))
    cosine = video.embedding[clear] @ video.embedding[clear].T
    same = video.gt_track_ids[clear][:, None] == video.gt_track_ids[clear][None]
    other = ~same
    np.fill_diagonal(same, False)
    assert cosine[same].mean() == pytest.approx(0.8, abs=0.03)
    assert cosine[other].mean() == pytest.approx(0.5, abs=0.05)  # all are of one team


def test_hidden_objects_resemble_their_occluders() -> None:
    settings = EmbeddingSettings(width=256, genuine=0.9, teammates=0.4, impostor=0.4, occlusion=1.0)
    video = simulate(toy_scene(motion=DanceMotion(people=8), embedding=settings, frames=200), 1)
    assert video.embedding is not None
    embedding = video.embedding
    hidden = (video.visibility < 0.3) & (video.gt_track_ids > 0)
    clear = (video.visibility > 0.99) & (video.gt_track_ids > 0)
    centre = {
        i: embedding[clear & (video.gt_track_ids == i)].mean(axis=0) for i in np.unique(video.gt_track_ids[clear])
    }

    def own(rows: NDArray[np.bool_]) -> float:
        return float(np.mean([embedding[k] @ centre[video.gt_track_ids[k]] for k in np.flatnonzero(rows)]))

    assert own(hidden) < own(clear) - 0.15


def test_similarities_must_be_ordered() -> None:
    with pytest.raises(ValidationError, match="impostor ≤ teammates ≤ genuine"):
        EmbeddingSettings(genuine=0.3, teammates=0.5)
