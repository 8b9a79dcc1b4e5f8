"""What a model gets right on frames that it was not trained on.

The loss: how surprised the model is by the right partner of every track and of every detection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trackweave.association.dataset import SceneStore
from trackweave.association.labels import UNKNOWN
from trackweave.association.models.associator import Associator, Judgement
from trackweave.association.training.batches import Batch, make_batch


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


GAPS: tuple[float, ...] = (0.06, 0.25, 0.5, 1.0, 2.0)
"""Seconds without a match that part the confusion by gap length."""
BINS = 10
CANDIDATES = tuple(np.round(np.arange(0.05, 0.96, 0.05), 2).tolist())


BETA = 1.3
"""A right match that is left out costs a tracker more than a wrong one: it ends a track."""


@dataclass(frozen=True)
class Measures:
    """On a validation set.

    Attributes:
        loss: mean over batches.
        threshold: probability against none from which a pair counts as a match: the best F-score that weighs recall by
            `BETA`.
        precision: of matches at the threshold.
        recall: of matches at the threshold.
        curve: threshold, precision and recall along `CANDIDATES`.
        calibration: mean probability, share that is right and number of pairs, by tenths of probability.
        gaps: by gap length: right, wrong, missed and rightly unmatched tracks.
    """

    loss: float
    threshold: float
    precision: float
    recall: float
    curve: Sequence[tuple[float, float, float]] = field(default=())
    calibration: Sequence[tuple[float, float, int]] = field(default=())
    gaps: Sequence[dict[str, Any]] = field(default=())

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {**vars(self), "f1": self.f1}

    def text(self) -> str:
        """The record in a few lines."""
        lines = [
            f"loss {self.loss:.4f}; at the probability {self.threshold:.2f}: precision {self.precision:.3f}, "
            f"recall {self.recall:.3f}",
            f"{'since last match':<18}{'right':>9}{'wrong':>9}{'missed':>9}{'rightly without':>17}",
        ]
        for row in self.gaps:
            counts = f"{row['right']:>9,}{row['wrong']:>9,}{row['missed']:>9,}{row['rightly_unmatched']:>17,}"
            lines.append(f"{row['gap']:<18}{counts}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Answers:
    """Of every track whose right partner is known: the probability of its best pair against none, whether it is right,
    whether there is a right one, and the gap."""

    best: NDArray[np.float32]
    right: NDArray[np.bool_]
    exists: NDArray[np.bool_]
    gap: NDArray[np.float32]


def measure(model: Associator, store: SceneStore, frames: NDArray[np.int64], batch_size: int = 64) -> Measures:
    """Runs the model over frames."""
    device = next(model.parameters()).device
    model.eval()
    losses, sizes = [], []
    answers: list[_Answers] = []
    pairs: list[tuple[NDArray[np.float32], NDArray[np.bool_]]] = []
    with torch.no_grad():
        for start in range(0, len(frames), batch_size):
            chosen = frames[start : start + batch_size]
            batch, scene = make_batch(store, chosen, device)
            judged = model(*batch.inputs)
            losses.append(float(association_loss(judged, batch)))
            sizes.append(len(chosen))
            probability = judged.probability.cpu().numpy()
            target = batch.tracks.cpu().numpy()
            against_none = torch.sigmoid(judged.gain).cpu().numpy()
            answers.append(_answers(against_none, scene.pairs[:, 0], target, scene.ages[:, 0]))
            known = target[scene.pairs[:, 0]] != UNKNOWN
            right = target[scene.pairs[:, 0]] == np.arange(len(probability))
            pairs.append((probability[known], right[known]))
    every = _Answers(*(np.concatenate([getattr(one, name) for one in answers]) for name in vars(answers[0])))
    curve = [_precision_recall(every, threshold) for threshold in CANDIDATES]
    scores = [_f_beta(p, r) for _, p, r in curve]
    threshold, precision, recall = curve[int(np.argmax(scores))]
    probability, right = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return Measures(
        float(np.average(losses, weights=sizes)),
        threshold,
        precision,
        recall,
        curve,
        _calibration(probability, right),
        _by_gap(every, threshold),
    )


def _f_beta(precision: float, recall: float) -> float:
    """The F-score that weighs recall by `BETA`."""
    return (1 + BETA**2) * precision * recall / max(BETA**2 * precision + recall, 1e-9)


def _answers(
    probability: NDArray[np.float32], rows: NDArray[np.int64], target: NDArray[np.int64], gap: NDArray[np.float32]
) -> _Answers:
    best = np.zeros(len(target), np.float32)
    np.maximum.at(best, rows, probability)
    choice = np.full(len(target), -1)
    top = np.flatnonzero(probability >= best[rows])
    choice[rows[top]] = top
    known = target != UNKNOWN
    return _Answers(best[known], (choice == target)[known] & (target >= 0)[known], (target >= 0)[known], gap[known])


def _precision_recall(answers: _Answers, threshold: float) -> tuple[float, float, float]:
    said = answers.best >= threshold
    good = int(np.count_nonzero(said & answers.right))
    return (
        float(threshold),
        good / max(int(np.count_nonzero(said)), 1),
        good / max(int(np.count_nonzero(answers.exists)), 1),
    )


def _calibration(probability: NDArray[np.float32], right: NDArray[np.bool_]) -> list[tuple[float, float, int]]:
    place = np.clip((probability * BINS).astype(int), 0, BINS - 1)
    found = []
    for tenth in range(BINS):
        here = place == tenth
        if here.any():
            found.append((float(probability[here].mean()), float(right[here].mean()), int(here.sum())))
    return found


def _by_gap(answers: _Answers, threshold: float) -> list[dict[str, Any]]:
    said = answers.best >= threshold
    place = np.searchsorted(GAPS, answers.gap)
    rows = []
    for number in range(len(GAPS) + 1):
        here = place == number
        name = f"≤ {GAPS[number]:g} s" if number < len(GAPS) else f"> {GAPS[-1]:g} s"
        rows.append(
            {
                "gap": name,
                "right": int((here & said & answers.right).sum()),
                "wrong": int((here & said & ~answers.right).sum()),
                "missed": int((here & ~said & answers.exists).sum()),
                "rightly_unmatched": int((here & ~said & ~answers.exists).sum()),
            }
        )
    return rows
