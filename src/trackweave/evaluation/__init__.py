"""Scores against ground truth: records in, numbers out."""

from trackweave.evaluation.compare import Comparison, Difference, compare
from trackweave.evaluation.evaluate import Regime, evaluate, evaluate_regimes
from trackweave.evaluation.identity import ObjectMatch, TrackScores, best_track_per_object
from trackweave.evaluation.jf import (
    DavisScores,
    ObjectScores,
    Statistics,
    boundary_measure,
    evaluate_davis,
    region_similarity,
    statistics,
)
from trackweave.evaluation.scores import ClassScores, Evaluation, RegimeScores, Scores
from trackweave.evaluation.settings import (
    EvaluationSettings,
    Format,
    Matching,
    Metric,
    OnMissing,
    Overlap,
    Protocol,
)

__all__ = [
    "ClassScores",
    "Comparison",
    "DavisScores",
    "Difference",
    "Evaluation",
    "EvaluationSettings",
    "Format",
    "Matching",
    "Metric",
    "ObjectMatch",
    "ObjectScores",
    "OnMissing",
    "Overlap",
    "Protocol",
    "Regime",
    "RegimeScores",
    "Scores",
    "Statistics",
    "TrackScores",
    "best_track_per_object",
    "boundary_measure",
    "compare",
    "evaluate",
    "evaluate_davis",
    "evaluate_regimes",
    "region_similarity",
    "statistics",
]
