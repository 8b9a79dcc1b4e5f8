"""Which frames are worth learning from: most of video is a matter of course."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from trackweave.association.dataset import SceneStore
from trackweave.association.labels import UNKNOWN
from trackweave.association.models.associator import Associator
from trackweave.association.training.batches import make_batch

SURE = 0.9
"""A frame whose every right answer has at least this probability is easy."""


def hard_frames(
    model: Associator,
    store: SceneStore,
    *,
    easy_share: float = 0.2,
    rng: np.random.Generator,
    batch_size: int = 64,
) -> NDArray[np.int64]:
    """Frames on which the model is unsure or wrong, and a share of the others so that it does not forget them.

    Args:
        model: judges.
        store: frames with labels.
        easy_share: of the easy frames that stay.
        rng: picks them.
        batch_size: frames at once.
    """
    model.eval()
    device = next(model.parameters()).device
    surest = np.ones(len(store), np.float32)
    with torch.no_grad():
        for start in range(0, len(store), batch_size):
            frames = np.arange(start, min(start + batch_size, len(store)))
            batch, scene = make_batch(store, frames, device)
            judged = model(*batch.inputs)
            sides = (
                (judged.by_track, judged.track_alone, batch.tracks, scene.track_frame),
                (judged.by_det, judged.det_alone, batch.detections, scene.det_frame),
            )
            for pair, alone, target, frame in sides:
                right = alone
                if len(pair):
                    right = torch.where(target >= 0, pair.index_select(0, target.clamp(min=0)), alone)
                likely = torch.where(target == UNKNOWN, torch.zeros_like(right), right).exp().cpu().numpy()
                np.minimum.at(surest, start + frame, likely)
    return np.flatnonzero((surest < SURE) | (rng.random(len(store)) < easy_share))
