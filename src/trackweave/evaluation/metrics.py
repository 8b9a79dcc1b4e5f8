"""HOTA, CLEAR, identity and MOTS by the package `trackeval`, fed from memory: no folders, no text, nothing printed.

Luiten et al., "HOTA", IJCV 2021; Bernardin and Stiefelhagen, "CLEAR MOT", 2008; Ristani et al., "Performance Measures
and a Data Set for Multi-Target, Multi-Camera Tracking", 2016.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import MissingExtraError, argument
from trackweave.evaluation.measures import MEASURES, Measure
from trackweave.evaluation.scores import TRUE_TRACKS, Scores, combined_regions, mean_of_regions, merge_scores
from trackweave.evaluation.settings import Metric

CLASSES = {
    Metric.hota: "HOTA",
    Metric.owta: "HOTA",
    Metric.clear: "CLEAR",
    Metric.mots: "CLEAR",
    Metric.identity: "Identity",
}
MOTS_NAMES = {"sMOTSA": "sMOTA", "MOTSA": "MOTA", "MOTSP": "MOTP"}
"""The MOTS measures and CLEAR's, which they are of masks (Voigtlaender et al., "MOTS", CVPR 2019)."""
COUNT = "Count"
"""Numbers of boxes and identities; always asked for."""
INSTALL = " or, where it must not bring a second OpenCV: pip install --no-deps trackeval; J and F need neither: "

MetricFields = Mapping[str, Any]
"""What a metric of trackeval takes or returns: field → number, or an array of 19."""


class PairedFrames:
    """Identities and overlaps of one sequence, frame by frame, as trackeval's metrics take them."""

    def __init__(self) -> None:
        self._true_ids: list[NDArray[np.int64]] = []
        self._track_ids: list[NDArray[np.int64]] = []
        self._similarity: list[NDArray[np.float64]] = []
        self._skipped = 0

    def skip(self, count: int) -> None:
        """Frames without a true object and without a track: they count as frames, and change no other score."""
        self._skipped += count

    def add(self, true_ids: NDArray[np.int64], track_ids: NDArray[np.int64], similarity: NDArray[np.float64]) -> None:
        """One frame: `(N,)`, `(M,)` identities and their `(N, M)` overlaps."""
        self._true_ids.append(true_ids)
        self._track_ids.append(track_ids)
        self._similarity.append(similarity)

    def to_trackeval(self) -> MetricFields:
        """The dictionary that `eval_sequence` takes; identities become 0 … n − 1, ascending as before."""
        true_ids, n_true = _numbered(self._true_ids)
        track_ids, n_tracks = _numbered(self._track_ids)
        return {
            "num_timesteps": len(true_ids) + self._skipped,
            "num_gt_ids": n_true,
            "num_tracker_ids": n_tracks,
            "num_gt_dets": sum(map(len, true_ids)),
            "num_tracker_dets": sum(map(len, track_ids)),
            "gt_ids": true_ids,
            "tracker_ids": track_ids,
            "similarity_scores": self._similarity,
        }


def _numbered(frames: Sequence[NDArray[np.int64]]) -> tuple[list[NDArray[np.int64]], int]:
    unique, positions = np.unique(np.concatenate([*frames, np.zeros(0, np.int64)]), return_inverse=True)
    ends = np.cumsum([len(ids) for ids in frames[:-1]], dtype=np.int64)
    return list(np.split(positions.reshape(-1), ends)) if frames else [], len(unique)


class TrackEval:
    """The metrics that were asked for.

    Args:
        metrics: those that trackeval does not compute are passed over.

    Raises:
        MissingExtraError: a metric is wanted and the package is missing.
    """

    def __init__(self, metrics: Iterable[Metric]) -> None:
        asked = set(metrics)
        names = list(dict.fromkeys(name for metric, name in CLASSES.items() if metric in asked))
        self._has_mots = Metric.mots in asked
        self._metrics = [_metric(name) for name in [*names, COUNT]] if names else []

    def __bool__(self) -> bool:
        return bool(self._metrics)

    def sequence(self, frames: PairedFrames) -> Scores:
        """The scores of one sequence."""
        data = frames.to_trackeval()
        return self._scores([(metric, metric.eval_sequence(data)) for metric in self._metrics])

    def combined(self, scores: Sequence[Scores]) -> Scores:
        """Several sequences as one, from their counts."""
        return self._join(scores, lambda metric, parts: metric.combine_sequences(parts))

    def combiner(self, scores: Mapping[str, Scores]) -> Callable[[Sequence[str]], Scores]:
        """`combined` for many draws of the same sequences, by name, one perhaps several times."""
        fields = [(metric, {name: _fields(metric, each) for name, each in scores.items()}) for metric in self._metrics]

        def combine(drawn: Sequence[str]) -> Scores:
            return self._scores(
                [
                    (metric, metric.combine_sequences({n: by_name[name] for n, name in enumerate(drawn)}))
                    for metric, by_name in fields
                ]
            )

        return combine

    def all_classes(self, scores: Sequence[Scores]) -> Scores:
        """Several classes as one, from their counts."""
        return self._join(scores, lambda metric, parts: metric.combine_classes_det_averaged(parts))

    def mean_of_classes(self, scores: Sequence[Scores]) -> Scores:
        """Scores averaged over classes, counts summed; classes without any box are left out."""
        occurring = [each for each in scores if each["GT_Dets"] + each["Dets"] > 0] if self else []
        return self._join(occurring or scores, lambda metric, parts: metric.combine_classes_class_averaged(parts))

    def _join(
        self, scores: Sequence[Scores], combine: Callable[[Any, Mapping[int, MetricFields]], MetricFields]
    ) -> Scores:
        return self._scores(
            [
                (metric, combine(metric, {n: _fields(metric, each) for n, each in enumerate(scores)}))
                for metric in self._metrics
            ]
        )

    def _scores(self, results: Iterable[tuple[Any, MetricFields]]) -> Scores:
        scores = _scores(results)
        if not self._has_mots:
            return scores
        mots = {name: scores.values[of] for name, of in MOTS_NAMES.items()}
        return Scores({**scores.values, **mots}, scores.curves)


def _metric(name: str) -> Any:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints which of its optional dependencies are missing
            import trackeval
    except ModuleNotFoundError as error:
        raise MissingExtraError("trackeval", "evaluate", INSTALL + argument("metrics", "jf")) from error
    return getattr(trackeval.metrics, name)({"PRINT_CONFIG": False})


def _scores(results: Iterable[tuple[Any, MetricFields]]) -> Scores:
    """Fields in trackeval's order; those that are no scores are left out."""
    values: dict[str, float] = {}
    curves: dict[str, tuple[float, ...]] = {}
    for metric, fields in results:
        for name in metric.fields:
            value = np.asarray(fields[name], np.float64)
            if value.ndim:
                curves[name] = tuple(value.tolist())
            else:
                values[name] = float(value)
    return Scores(values, curves)


def _fields(metric: Any, scores: Scores) -> MetricFields:
    """The fields of one metric as trackeval has them."""
    return {
        name: np.array(scores.curves[name]) if name in scores.curves else scores.values[name] for name in metric.fields
    }


def sequence_scores(measures: Iterable[Measure]) -> list[Scores]:
    """The scores of one sequence by our own measures."""
    return [Scores(measure.values()) for measure in measures]


def combined(scores: Sequence[Scores], trackeval: TrackEval) -> Scores:
    """Sequences as one: recomputed from their counts; J and F are means over all objects."""
    return _joined(trackeval.combined(scores), scores)


def combiner(scores: Mapping[str, Scores], trackeval: TrackEval) -> Callable[[Sequence[str]], Scores]:
    """`combined` for many draws of the same sequences, by name."""
    counted = trackeval.combiner(scores)
    return lambda drawn: _joined(counted(drawn), [scores[name] for name in drawn])


def all_classes(scores: Sequence[Scores], trackeval: TrackEval) -> Scores:
    """Classes as one, by detections; J and F are means over all objects."""
    return _joined(trackeval.all_classes(scores), scores)


def mean_of_classes(scores: Sequence[Scores], trackeval: TrackEval) -> Scores:
    """Scores averaged over the classes that occur."""
    own = [Scores(measure.mean([each.values for each in scores])) for measure in _measures_of(scores)]
    regions = [mean_of_regions(scores)] if TRUE_TRACKS in scores[0] else []
    return merge_scores([trackeval.mean_of_classes(scores), *own, *regions])


def _joined(counted: Scores, scores: Sequence[Scores]) -> Scores:
    """Trackeval's scores, those of our measures from their counts, and J and F where there are some."""
    own = [Scores(measure.combined([each.values for each in scores])) for measure in _measures_of(scores)]
    regions = [combined_regions(scores)] if TRUE_TRACKS in scores[0] else []
    return merge_scores([counted, *own, *regions])


def _measures_of(scores: Sequence[Scores]) -> list[type[Measure]]:
    return [measure for measure in MEASURES.values() if measure.NAMES[0] in scores[0].values]
