"""Scores against ground truth: records in, numbers out."""

from trackweave.evaluation.identity import ObjectMatch, TrackScores, best_track_per_object
from trackweave.evaluation.region import (
    DavisScores,
    ObjectScores,
    Statistics,
    boundary_measure,
    evaluate_davis,
    region_similarity,
    statistics,
)

__all__ = [
    "DavisScores",
    "ObjectMatch",
    "ObjectScores",
    "Statistics",
    "TrackScores",
    "best_track_per_object",
    "boundary_measure",
    "evaluate_davis",
    "region_similarity",
    "statistics",
]
