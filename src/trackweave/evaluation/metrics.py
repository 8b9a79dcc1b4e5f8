"""HOTA, CLEAR and identity by the package `trackeval`, fed from memory: no folders, no text, nothing printed.

Luiten et al., "HOTA", IJCV 2021; Bernardin and Stiefelhagen, "CLEAR MOT", 2008; Ristani et al., "Performance Measures
and a Data Set for Multi-Target, Multi-Camera Tracking", 2016.

Several sequences, or several classes, as one.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import MissingExtraError
from trackweave.evaluation.scores import TRUE_TRACKS, Scores, combined_regions, joined, mean_of_regions
from trackweave.evaluation.settings import Metric

CLASSES = {Metric.hota: "HOTA", Metric.clear: "CLEAR", Metric.identity: "Identity"}
COUNT = "Count"
"""How many boxes and identities there were; always asked for."""
INSTALL = " or, where it must not bring a second OpenCV: pip install --no-deps trackeval"

Results = Mapping[str, Any]
"""What a metric of trackeval returns: field → number, or 19 of them."""


class PairedFrames:
    """Identities and overlaps of one sequence, frame by frame, as trackeval's metrics take them."""

    def __init__(self) -> None:
        self._true_ids: list[NDArray[np.int64]] = []
        self._track_ids: list[NDArray[np.int64]] = []
        self._similarity: list[NDArray[np.float64]] = []

    def add(self, true_ids: NDArray[np.int64], track_ids: NDArray[np.int64], similarity: NDArray[np.float64]) -> None:
        """One frame: `(N,)`, `(M,)` identities and their `(N, M)` overlaps."""
        self._true_ids.append(true_ids)
        self._track_ids.append(track_ids)
        self._similarity.append(similarity)

    def to_trackeval(self) -> dict[str, Any]:
        """The dictionary that `eval_sequence` takes; identities become 0 … n − 1, ascending as before."""
        true_ids, n_true = _numbered(self._true_ids)
        track_ids, n_tracks = _numbered(self._track_ids)
        return {
            "num_timesteps": len(true_ids),
            "num_gt_ids": n_true,
            "num_tracker_ids": n_tracks,
            "num_gt_dets": sum(map(len, true_ids)),
            "num_tracker_dets": sum(map(len, track_ids)),
            "gt_ids": true_ids,
            "tracker_ids": track_ids,
            "similarity_scores": self._similarity,
        }


def _numbered(frames: Sequence[NDArray[np.int64]]) -> tuple[list[NDArray[np.int64]], int]:
    known, places = np.unique(np.concatenate([*frames, np.zeros(0, np.int64)]), return_inverse=True)
    ends = np.cumsum([len(ids) for ids in frames[:-1]], dtype=np.int64)
    return list(np.split(places.reshape(-1), ends)) if frames else [], len(known)


class TrackEval:
    """The metrics that were asked for.

    Args:
        metrics: `jf` is passed over: it is not trackeval's business here.

    Raises:
        MissingExtraError: a metric is wanted and the package is missing.
    """

    def __init__(self, metrics: Iterable[Metric]) -> None:
        wanted = [CLASSES[metric] for metric in metrics if metric in CLASSES]
        self._metrics = [_metric(name) for name in [*wanted, COUNT]] if wanted else []

    def __bool__(self) -> bool:
        return bool(self._metrics)

    def sequence(self, frames: PairedFrames) -> Scores:
        """The figures of one sequence."""
        data = frames.to_trackeval()
        return _scores([(metric, metric.eval_sequence(data)) for metric in self._metrics])

    def combined(self, scores: Sequence[Scores]) -> Scores:
        """Several sequences as one, from their counts."""
        return self._join(scores, lambda metric, parts: metric.combine_sequences(parts))

    def combiner(self, scores: Mapping[str, Scores]) -> Callable[[Sequence[str]], Scores]:
        """`combined` for many draws of the same sequences, by name, one perhaps several times."""
        known = [
            (metric, {name: _results(metric, found) for name, found in scores.items()}) for metric in self._metrics
        ]

        def combine(drawn: Sequence[str]) -> Scores:
            return _scores(
                [
                    (metric, metric.combine_sequences({n: by[name] for n, name in enumerate(drawn)}))
                    for metric, by in known
                ]
            )

        return combine

    def all_classes(self, scores: Sequence[Scores]) -> Scores:
        """Several classes as one, from their counts."""
        return self._join(scores, lambda metric, parts: metric.combine_classes_det_averaged(parts))

    def mean_of_classes(self, scores: Sequence[Scores]) -> Scores:
        """Figures averaged over classes, counts summed; classes without any box are left out."""
        some = [found for found in scores if found["GT_Dets"] + found["Dets"] > 0] if self else []
        return self._join(some or scores, lambda metric, parts: metric.combine_classes_class_averaged(parts))

    def _join(self, scores: Sequence[Scores], how: Callable[[Any, Mapping[int, Results]], Results]) -> Scores:
        return _scores(
            [
                (metric, how(metric, {n: _results(metric, found) for n, found in enumerate(scores)}))
                for metric in self._metrics
            ]
        )


def _metric(name: str) -> Any:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it tells of its own optional dependencies
            import trackeval
    except ModuleNotFoundError as error:
        raise MissingExtraError("trackeval", "evaluate", INSTALL) from error
    return getattr(trackeval.metrics, name)({"PRINT_CONFIG": False})


def _scores(found: Iterable[tuple[Any, Results]]) -> Scores:
    """Fields in trackeval's order; those it computes beside are left out."""
    values: dict[str, float] = {}
    curves: dict[str, tuple[float, ...]] = {}
    for metric, results in found:
        for name in metric.fields:
            value = np.asarray(results[name], np.float64)
            if value.ndim:
                curves[name] = tuple(value.tolist())
            else:
                values[name] = float(value)
    return Scores(values, curves)


def _results(metric: Any, scores: Scores) -> Results:
    """The fields of one metric as trackeval has them."""
    return {
        name: np.array(scores.curves[name]) if name in scores.curves else scores.values[name] for name in metric.fields
    }


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
    return [how(scores)] if TRUE_TRACKS in scores[0] else []
