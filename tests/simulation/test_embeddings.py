"""Simulated appearance is as alike as it was asked to be."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from tests.simulation.worlds import crowd
from trackweave.simulation.detector import EmbeddingSettings
from trackweave.simulation.motions_people import DanceMotion
from trackweave.simulation.sequence import simulate


def test_likenesses() -> None:
    how = EmbeddingSettings(width=512, genuine=0.8, teammates=0.5, impostor=0.3, teams=1)
    made = simulate(crowd(motion=DanceMotion(people=8), embedding=how, frames=60), 1)
    assert made.embedding is not None
    assert np.allclose(np.linalg.norm(made.embedding, axis=1), 1, atol=1e-5)
    clear = np.flatnonzero((made.visibility > 0.99) & (made.gt_track_ids > 0))
    cosine = made.embedding[clear] @ made.embedding[clear].T
    same = made.gt_track_ids[clear][:, None] == made.gt_track_ids[clear][None]
    other = ~same
    np.fill_diagonal(same, False)
    assert cosine[same].mean() == pytest.approx(0.8, abs=0.03)
    assert cosine[other].mean() == pytest.approx(0.5, abs=0.05)  # all are of one team


def test_the_hidden_look_like_their_hiders() -> None:
    how = EmbeddingSettings(width=256, genuine=0.9, teammates=0.4, impostor=0.4, occlusion=1.0)
    made = simulate(crowd(motion=DanceMotion(people=8), embedding=how, frames=200), 1)
    assert made.embedding is not None
    looks = made.embedding
    hidden = (made.visibility < 0.3) & (made.gt_track_ids > 0)
    clear = (made.visibility > 0.99) & (made.gt_track_ids > 0)
    centre = {i: looks[clear & (made.gt_track_ids == i)].mean(axis=0) for i in np.unique(made.gt_track_ids[clear])}

    def own(rows: NDArray[np.bool_]) -> float:
        return float(np.mean([looks[k] @ centre[made.gt_track_ids[k]] for k in np.flatnonzero(rows)]))

    assert own(hidden) < own(clear) - 0.15


def test_likeness_must_rise() -> None:
    with pytest.raises(ValidationError, match="impostor ≤ teammates ≤ genuine"):
        EmbeddingSettings(genuine=0.3, teammates=0.5)
