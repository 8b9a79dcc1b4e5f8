"""Scores as records: of a sequence, a class, a regime, and all of them; J and F under TrackEval's field names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trackweave.evaluation.jf import ObjectScores, Statistics
from trackweave.evaluation.measures import MEASURES
from trackweave.evaluation.settings import Metric, Overlap

SCHEMA_VERSION = 1
JsonRecord = Mapping[str, Any]
"""An object as `json.dumps` takes it."""
TRUE_TRACKS = "num_gt_tracks"
MEANS = ("J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
SHARES = frozenset(
    (
        *("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA", "OWTA", "HOTA(0)", "LocA(0)"),
        *("HOTALocA(0)", "MOTA", "MOTP", "MODA", "CLR_Re", "CLR_Pr", "MTR", "PTR", "MLR", "sMOTA", "CLR_F1"),
        *("MOTAL", "IDF1", "IDR", "IDP", "sMOTSA", "MOTSA", "MOTSP", "J&F", *MEANS),
        *(name for metric, measure in MEASURES.items() for name in measure.NAMES if metric is not Metric.nestedness),
    )
)
"""Fields that are shares of the true objects or of the tracks, not counts."""


@dataclass(frozen=True)
class Scores:
    """The scores of a sequence, or combined, by TrackEval's names: shares as fractions.

    `scores["HOTA"]` is what benchmarks report: a field with a value for each of 19 overlaps (0.05 … 0.95) is averaged.
    A share of nothing does not exist: without a true object shares are NaN, and null in JSON; `values` and `curves`
    keep TrackEval's numbers, from which sequences are combined.

    Attributes:
        values: fields with one value, such as `MOTA`, `IDF1`, `IDSW`, `HOTA(0)`, `J&F`.
        curves: fields with 19 values, such as `HOTA`, `DetA`, `AssA`, `HOTA_TP`.
        objects: J and F of each object of a sequence, by its identity in the truth.
    """

    values: Mapping[str, float]
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    objects: Mapping[int, ObjectScores] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        if name in SHARES and not self.has_truth:
            return math.nan
        if name in self.curves:
            return float(np.mean(self.curves[name]))
        return self.values[name]

    @property
    def has_truth(self) -> bool:
        """Has the ground truth an object?"""
        return any(self.values.get(name, 0) > 0 for name in ("GT_Dets", TRUE_TRACKS))

    def __contains__(self, name: object) -> bool:
        return name in self.curves or name in self.values

    @property
    def names(self) -> tuple[str, ...]:
        """Every field."""
        return (*self.curves, *self.values)

    def counted(self) -> JsonRecord:
        """What sequences are combined from, for a file; `from_counted` reads it. Objects are left out."""
        values = {name: _json_number(value) for name, value in self.values.items()}
        curves = {name: [_json_number(value) for value in curve] for name, curve in self.curves.items()}
        return {"values": values, "curves": curves}

    @classmethod
    def from_counted(cls, record: JsonRecord) -> Scores:
        """Reads what `counted` gave.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is damaged.
        """
        return cls(
            {str(name): _number(value) for name, value in record["values"].items()},
            {str(name): tuple(map(_number, curve)) for name, curve in record["curves"].items()},
        )

    def to_json(self) -> JsonRecord:
        """Every field as a number; the 19 values under `by_overlap`; objects under `objects`."""
        record: dict[str, object] = {name: _json_number(self[name]) for name in self.names}
        if self.curves:
            record["by_overlap"] = {
                name: None if name in SHARES and not self.has_truth else list(curve)
                for name, curve in self.curves.items()
            }
        if self.objects:
            record["objects"] = {
                str(identity): {"J": _json_statistics(scores.region), "F": _json_statistics(scores.boundary)}
                for identity, scores in self.objects.items()
            }
        return record


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _json_statistics(scores: Statistics) -> JsonRecord:
    return {name: _json_number(value) for name, value in scores._asdict().items()}


@dataclass(frozen=True)
class ClassScores:
    """One class.

    Attributes:
        name: of the class.
        sequences: by name.
        combined: recomputed from the counts of all sequences, not a mean of means.
    """

    name: str
    sequences: Mapping[str, Scores]
    combined: Scores

    def to_json(self) -> JsonRecord:
        """The record for machines."""
        sequences = {name: scores.to_json() for name, scores in self.sequences.items()}
        return {"sequences": sequences, "combined": self.combined.to_json()}


@dataclass(frozen=True)
class RegimeScores:
    """Sequences of one kind, scored by one rule.

    Attributes:
        name: of the regime; empty when there is only one without a name.
        overlap: of boxes or of masks.
        protocol: how truth and tracks were preprocessed, see `Protocol`.
        metrics: what was asked for.
        classes: in the order they were asked for.
        all_classes: combined over classes by detections (TrackEval's `cls_comb_det_av`); None with one class.
        mean_of_classes: averaged over classes (`cls_comb_cls_av`); None with one class.
        notes: what a reader of the scores should know.
    """

    name: str
    overlap: Overlap
    protocol: str
    metrics: Sequence[Metric]
    classes: Sequence[ClassScores]
    all_classes: Scores | None
    mean_of_classes: Scores | None
    notes: Sequence[str]

    def __getitem__(self, name: str) -> ClassScores:
        return next(each for each in self.classes if each.name == name)

    def to_json(self) -> JsonRecord:
        """The record for machines."""
        return {
            "name": self.name,
            "overlap": str(self.overlap),
            "protocol": self.protocol,
            "metrics": [str(metric) for metric in self.metrics],
            "classes": {each.name: each.to_json() for each in self.classes},
            "all_classes": None if self.all_classes is None else self.all_classes.to_json(),
            "mean_of_classes": None if self.mean_of_classes is None else self.mean_of_classes.to_json(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Evaluation:
    """The scores of all regimes."""

    regimes: Sequence[RegimeScores]

    def __getitem__(self, name: str) -> RegimeScores:
        return next(each for each in self.regimes if each.name == name)

    def to_json(self) -> JsonRecord:
        """The record for machines."""
        return {"schema_version": SCHEMA_VERSION, "regimes": [regime.to_json() for regime in self.regimes]}


def region_scores(objects: Mapping[int, ObjectScores]) -> Scores:
    """Means over the objects of a sequence; NaN where there is none."""
    table = np.array([[*scores.region, *scores.boundary] for scores in objects.values()]).reshape(-1, len(MEANS))
    means = table.mean(0) if len(table) else np.full(len(MEANS), math.nan)
    return _named(means.tolist(), len(table), objects)


def combined_regions(scores: Sequence[Scores]) -> Scores:
    """Means over the objects of all sequences, as DAVIS 2017 reports them."""
    scored = [each for each in scores if each[TRUE_TRACKS]]
    weights = np.array([each[TRUE_TRACKS] for each in scored])
    table = np.array([[each[name] for name in MEANS] for each in scored]).reshape(-1, len(MEANS))
    total = weights.sum()
    means = weights @ table / total if total else np.full(len(MEANS), math.nan)
    return _named(means.tolist(), int(total), {})


def mean_of_regions(scores: Sequence[Scores]) -> Scores:
    """Means over classes; classes without an object are left out."""
    occurring = [each for each in scores if each[TRUE_TRACKS]]
    table = np.array([[each[name] for name in MEANS] for each in occurring]).reshape(-1, len(MEANS))
    means = table.mean(0) if len(table) else np.full(len(MEANS), math.nan)
    return _named(means.tolist(), sum(int(each[TRUE_TRACKS]) for each in scores), {})


def _named(means: Sequence[float], count: int, objects: Mapping[int, ObjectScores]) -> Scores:
    values = dict(zip(MEANS, means, strict=True))
    return Scores({"J&F": (values["J-Mean"] + values["F-Mean"]) / 2, **values, TRUE_TRACKS: float(count)}, {}, objects)


def merge_scores(parts: Sequence[Scores]) -> Scores:
    """The fields of several records in one."""
    return Scores(
        {name: value for part in parts for name, value in part.values.items()},
        {name: curve for part in parts for name, curve in part.curves.items()},
        {identity: scores for part in parts for identity, scores in part.objects.items()},
    )
