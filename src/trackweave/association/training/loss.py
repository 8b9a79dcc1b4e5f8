"""The loss: how surprised the model is by the right partner of every track and of every detection."""

from __future__ import annotations

import torch
from torch import Tensor

from trackweave.association.labels import UNKNOWN
from trackweave.association.models.associator import Judgement
from trackweave.association.training.batches import Batch


def association_loss(judged: Judgement, batch: Batch) -> Tensor:
    """Mean cross-entropy over rows (tracks) plus that over columns (detections); unknown ones do not count."""
    return _side(judged.by_track, judged.track_alone, batch.tracks, batch.track_weight) + _side(
        judged.by_det, judged.det_alone, batch.detections, batch.det_weight
    )


def _side(pair: Tensor, alone: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    known = (target != UNKNOWN).to(pair.dtype) * weight
    likelihood = alone
    if len(pair):
        likelihood = torch.where(target >= 0, pair.index_select(0, target.clamp(min=0)), alone)
    return -(likelihood * known).sum() / known.sum().clamp(min=1e-6)
