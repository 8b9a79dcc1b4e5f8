"""J and F under TrackEval's field names, of a sequence and combined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trackweave.evaluation.region import ObjectScores
from trackweave.evaluation.scores import Scores

COUNT = "num_gt_tracks"
MEANS = ("J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")


def region_scores(objects: Mapping[int, ObjectScores]) -> Scores:
    """Means over the objects of a sequence; all 0 where there is none."""
    table = np.array([[*found.region, *found.boundary] for found in objects.values()]).reshape(-1, len(MEANS))
    means = table.mean(0) if len(table) else np.zeros(len(MEANS))
    return _named(means.tolist(), len(table), objects)


def combined_regions(scores: Sequence[Scores]) -> Scores:
    """Means over the objects of all sequences, as DAVIS 2017 reports them."""
    weights = np.array([found[COUNT] for found in scores])
    table = np.array([[found[name] for name in MEANS] for found in scores]).reshape(-1, len(MEANS))
    total = weights.sum()
    means = weights @ table / total if total else np.zeros(len(MEANS))
    return _named(means.tolist(), int(total), {})


def mean_of_regions(scores: Sequence[Scores]) -> Scores:
    """Means over classes; classes without an object are left out."""
    some = [found for found in scores if found[COUNT]]
    table = np.array([[found[name] for name in MEANS] for found in some]).reshape(-1, len(MEANS))
    means = table.mean(0) if len(table) else np.zeros(len(MEANS))
    return _named(means.tolist(), sum(int(found[COUNT]) for found in scores), {})


def _named(means: Sequence[float], count: int, objects: Mapping[int, ObjectScores]) -> Scores:
    values = dict(zip(MEANS, means, strict=True))
    return Scores({"J&F": (values["J-Mean"] + values["F-Mean"]) / 2, **values, COUNT: float(count)}, {}, objects)
