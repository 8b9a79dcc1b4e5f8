"""Several sequences, or several classes, as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from trackweave.evaluation.pairing import joined
from trackweave.evaluation.region_scores import COUNT, combined_regions, mean_of_regions
from trackweave.evaluation.scores import Scores
from trackweave.evaluation.trackeval_metrics import TrackEval


def combined(scores: Sequence[Scores], trackeval: TrackEval) -> Scores:
    """Sequences as one: recomputed from their counts; J and F are means over all objects."""
    return joined([*([trackeval.combined(scores)] if trackeval else []), *_regions(scores, combined_regions)])


def combiner(scores: Mapping[str, Scores], trackeval: TrackEval) -> Callable[[Sequence[str]], Scores]:
    """`combined` for many draws of the same sequences, by name."""
    counted = trackeval.combiner(scores)
    return lambda drawn: joined([counted(drawn), *_regions([scores[name] for name in drawn], combined_regions)])


def all_classes(scores: Sequence[Scores], trackeval: TrackEval) -> Scores:
    """Classes as one, by detections; J and F are means over all objects."""
    return joined([*([trackeval.all_classes(scores)] if trackeval else []), *_regions(scores, combined_regions)])


def mean_of_classes(scores: Sequence[Scores], trackeval: TrackEval) -> Scores:
    """Figures averaged over the classes that occur."""
    return joined([*([trackeval.mean_of_classes(scores)] if trackeval else []), *_regions(scores, mean_of_regions)])


def _regions(scores: Sequence[Scores], how: Callable[[Sequence[Scores]], Scores]) -> list[Scores]:
    return [how(scores)] if COUNT in scores[0] else []
