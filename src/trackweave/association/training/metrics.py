"""The loss of training, and what a model gets right on frames that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trackweave.association.dataset import TrainingSet
from trackweave.association.labels import UNKNOWN
from trackweave.association.models.associator import AssociationOutput, Associator
from trackweave.association.training.batches import TrainingBatch, make_batch

GAPS: tuple[float, ...] = (0.06, 0.25, 0.5, 1.0, 2.0)
"""Seconds since the last match that separate the rows of the confusion table."""
BINS = 10
"""Bins of the calibration curve."""
FRAMES_AT_ONCE = 64
"""Frames that a model evaluates together."""
THRESHOLDS = tuple(np.round(np.arange(0.05, 0.96, 0.05), 2).tolist())
BETA = 1.3
"""Weight of recall in the F-score: a missed match costs a tracker more than a wrong one, because it ends a track."""


class EpochRecord(TypedDict):
    """One epoch of a training, or one round of a stream; JSON.

    Attributes:
        epoch: its number, from 1.
        loss: mean of the training batches.
        val_loss, precision, recall: on the validation frames.
        threshold: the best one there.
        lr: learning rate at the end of the epoch.
        seconds, frames_per_second: how long it took.
        hota: of the validation videos tracked with the model, in percent; where they were.
    """

    epoch: int
    loss: float
    val_loss: float
    precision: float
    recall: float
    threshold: NotRequired[float]
    lr: NotRequired[float]
    seconds: NotRequired[float]
    frames_per_second: NotRequired[float]
    hota: NotRequired[float]


class GapConfusion(TypedDict):
    """Confusion of the tracks whose last match is a certain time ago; JSON.

    Attributes:
        gap: the range of seconds, as text.
        right, wrong: tracks matched with their right partner, or with another detection.
        missed: tracks left unmatched though they have a partner.
        rightly_unmatched: tracks left unmatched that have none.
    """

    gap: str
    right: int
    wrong: int
    missed: int
    rightly_unmatched: int


def association_loss(output: AssociationOutput, batch: TrainingBatch) -> Tensor:
    """Mean cross-entropy over rows (tracks) plus that over columns (detections); unknown targets do not count."""
    by_track = _cross_entropy(output.track_log_probabilities, output.track_unmatched, batch.tracks, batch.track_weight)
    by_det = _cross_entropy(output.det_log_probabilities, output.det_unmatched, batch.detections, batch.det_weight)
    return by_track + by_det


def target_log_probability(pairs: Tensor, unmatched: Tensor, targets: Tensor) -> Tensor:
    """`(N,)` log-probability of each track's or detection's target; that of no match where the target is unknown.

    Args:
        pairs: `(P,)` log-probabilities of pairs.
        unmatched: `(N,)` log-probabilities of no match.
        targets: `(N,)` rows of pairs, `UNMATCHED` or `UNKNOWN`.
    """
    if not len(pairs):
        return unmatched
    return torch.where(targets >= 0, pairs.index_select(0, targets.clamp(min=0)), unmatched)


def _cross_entropy(pairs: Tensor, unmatched: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    weights = (targets != UNKNOWN).to(pairs.dtype) * weights
    return -(target_log_probability(pairs, unmatched, targets) * weights).sum() / weights.sum().clamp(min=1e-6)


@dataclass(frozen=True)
class AssociationMetrics:
    """A model on validation frames.

    Attributes:
        loss: mean over batches.
        threshold: probability, of a match against no match, from which a pair is matched: that of the best F-score
            with `BETA`.
        precision: of matches at the threshold.
        recall: of matches at the threshold.
        curve: threshold, precision and recall along `THRESHOLDS`.
        calibration: mean probability, share of right pairs and number of pairs, by bin of probability.
        gaps: confusion by time since the last match.
    """

    loss: float
    threshold: float
    precision: float
    recall: float
    curve: Sequence[tuple[float, float, float]] = ()
    calibration: Sequence[tuple[float, float, int]] = ()
    gaps: Sequence[GapConfusion] = ()

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    def to_json(self) -> dict[str, object]:
        """The record as JSON values."""
        return {**vars(self), "f1": self.f1}

    def text(self) -> str:
        """The record in a few lines."""
        lines = [
            f"loss {self.loss:.4f}; at the probability {self.threshold:.2f}: precision {self.precision:.3f}, "
            f"recall {self.recall:.3f}",
            f"{'since last match':<18}{'right':>9}{'wrong':>9}{'missed':>9}{'rightly unmatched':>19}",
        ]
        for row in self.gaps:
            counts = f"{row['right']:>9,}{row['wrong']:>9,}{row['missed']:>9,}{row['rightly_unmatched']:>19,}"
            lines.append(f"{row['gap']:<18}{counts}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _TrackPredictions:
    """Of every track whose target is known: probability of its best pair against no match, whether that pair is the
    target, whether there is a target, and seconds since the last match."""

    best: NDArray[np.float32]
    right: NDArray[np.bool_]
    exists: NDArray[np.bool_]
    gap: NDArray[np.float32]


def compute_metrics(model: Associator, training_set: TrainingSet, frames: NDArray[np.int64]) -> AssociationMetrics:
    """Runs the model over frames of a training set and compares it with the targets."""
    device = next(model.parameters()).device
    model.eval()
    losses, sizes = [], []
    predictions: list[_TrackPredictions] = []
    pairs: list[tuple[NDArray[np.float32], NDArray[np.bool_]]] = []
    with torch.no_grad():
        for start in range(0, len(frames), FRAMES_AT_ONCE):
            chosen = frames[start : start + FRAMES_AT_ONCE]
            tensors, batch = make_batch(training_set, chosen, device)
            output = model(*tensors.inputs)
            losses.append(float(association_loss(output, tensors)))
            sizes.append(len(chosen))
            probability = output.probability.cpu().numpy()
            targets = tensors.tracks.cpu().numpy()
            against_none = torch.sigmoid(output.logit_margin).cpu().numpy()
            predictions.append(_track_predictions(against_none, batch.pairs[:, 0], targets, batch.ages[:, 0]))
            has_target = targets[batch.pairs[:, 0]] != UNKNOWN
            right = targets[batch.pairs[:, 0]] == np.arange(len(probability))
            pairs.append((probability[has_target], right[has_target]))
    tracks = _TrackPredictions(
        *(np.concatenate([getattr(part, name) for part in predictions]) for name in vars(predictions[0]))
    )
    curve = [_precision_recall(tracks, threshold) for threshold in THRESHOLDS]
    threshold, precision, recall = curve[int(np.argmax([_f_beta(p, r) for _, p, r in curve]))]
    probability, right = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return AssociationMetrics(
        float(np.average(losses, weights=sizes)),
        threshold,
        precision,
        recall,
        curve,
        _calibration(probability, right),
        _confusion_by_gap(tracks, threshold),
    )


def _f_beta(precision: float, recall: float) -> float:
    """The F-score that weighs recall by `BETA`."""
    return (1 + BETA**2) * precision * recall / max(BETA**2 * precision + recall, 1e-9)


def _track_predictions(
    probability: NDArray[np.float32], rows: NDArray[np.int64], targets: NDArray[np.int64], gap: NDArray[np.float32]
) -> _TrackPredictions:
    best = np.zeros(len(targets), np.float32)
    np.maximum.at(best, rows, probability)
    choice = np.full(len(targets), -1)
    top = np.flatnonzero(probability >= best[rows])
    choice[rows[top]] = top
    has_target = targets != UNKNOWN
    exists = targets >= 0
    return _TrackPredictions(
        best[has_target],
        (choice == targets)[has_target] & exists[has_target],
        exists[has_target],
        gap[has_target],
    )


def _precision_recall(tracks: _TrackPredictions, threshold: float) -> tuple[float, float, float]:
    matched = tracks.best >= threshold
    right = int(np.count_nonzero(matched & tracks.right))
    return (
        float(threshold),
        right / max(int(np.count_nonzero(matched)), 1),
        right / max(int(np.count_nonzero(tracks.exists)), 1),
    )


def _calibration(probability: NDArray[np.float32], right: NDArray[np.bool_]) -> list[tuple[float, float, int]]:
    bins = np.clip((probability * BINS).astype(int), 0, BINS - 1)
    members = [bins == number for number in range(BINS)]
    return [
        (float(probability[member].mean()), float(right[member].mean()), int(member.sum()))
        for member in members
        if member.any()
    ]


def _confusion_by_gap(tracks: _TrackPredictions, threshold: float) -> list[GapConfusion]:
    matched = tracks.best >= threshold
    bins = np.searchsorted(GAPS, tracks.gap)
    rows: list[GapConfusion] = []
    for number in range(len(GAPS) + 1):
        member = bins == number
        rows.append(
            {
                "gap": f"≤ {GAPS[number]:g} s" if number < len(GAPS) else f"> {GAPS[-1]:g} s",
                "right": int((member & matched & tracks.right).sum()),
                "wrong": int((member & matched & ~tracks.right).sum()),
                "missed": int((member & ~matched & tracks.exists).sum()),
                "rightly_unmatched": int((member & ~matched & ~tracks.exists).sum()),
            }
        )
    return rows
