"""Protocols: which true objects are scored, and which tracks are dropped as they are not annotated.

The rules are those of TrackEval (Luiten et al., https://github.com/JonathonLuiten/TrackEval), which is the code of the
benchmarks themselves; `kitti-simple` is our own simplification.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackweave.errors import InputError, SettingError, argument
from trackweave.evaluation.annotations import AnnotationSource, FrameAnnotations, TableAnnotations
from trackweave.evaluation.classes import EvaluatedClass
from trackweave.evaluation.discovery import GroundTruthSet
from trackweave.evaluation.settings import EvaluationSettings, Format, Protocol

EPSILON = float(np.finfo(np.float64).eps)
MATCHED = 0.5
INSIDE = 0.5
PEDESTRIAN = 1
MOT_CLASSES = 13
MOT17_DISTRACTORS = (2, 7, 8, 12)
"""Person on vehicle, static person, distractor, reflection."""
MOT20_DISTRACTORS = (*MOT17_DISTRACTORS, 6)
"""And vehicles."""
KITTI_NAME = re.compile(r"KITTI-\d{4}")
"""Sequences of KITTI's as MOT text; MOT15 has two of its own, `KITTI-13` and `KITTI-17`."""
KITTI_SMALLEST = 25
"""Up to this height in pixels, an unmatched track is no false positive."""


class PreprocessingFlags(NamedTuple):
    """How each of N true objects takes part, as `(N,)` bool.

    Attributes:
        scored: it counts.
        matched: tracks are matched to it before anything is dropped.
        distracts: a track matched to it is dropped.
        ignores: an unmatched track that lies in it is dropped.
    """

    scored: NDArray[np.bool_]
    matched: NDArray[np.bool_]
    distracts: NDArray[np.bool_]
    ignores: NDArray[np.bool_]


def preprocessing_flags(protocol: Protocol, truth: FrameAnnotations, target: EvaluatedClass) -> PreprocessingFlags:
    """The flags of a frame's true objects when one class is scored."""
    counts, classes = truth.counts, truth.class_id
    none, every = np.zeros(len(truth), np.bool_), np.ones(len(truth), np.bool_)
    of_class = every if target.number is None else classes == target.number
    if protocol is Protocol.mot15:
        return PreprocessingFlags(counts, none, none, none)
    if protocol in (Protocol.mot17, Protocol.mot20):
        distractors = MOT17_DISTRACTORS if protocol is Protocol.mot17 else MOT20_DISTRACTORS
        return PreprocessingFlags(counts & (classes == PEDESTRIAN), every, np.isin(classes, distractors), none)
    if protocol is Protocol.kitti:
        of_class = of_class & counts
        similar = of_class if target.neighbour is None else of_class | (classes == target.neighbour)
        return PreprocessingFlags(of_class & ~truth.is_hard, similar, similar & (truth.is_hard | ~of_class), ~counts)
    scored = of_class & counts
    return PreprocessingFlags(
        scored, scored, none, ~counts if protocol is Protocol.kitti_simple else ~counts & of_class
    )


def scored_tracks(
    protocol: Protocol,
    flags: PreprocessingFlags,
    similarity: NDArray[np.float64],
    inside: Callable[[], NDArray[np.float64]],
    heights: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Which of a frame's M tracks are scored.

    Args:
        protocol: the rule.
        flags: of the N true objects.
        similarity: `(N, M)` overlap of truth and tracks.
        inside: gives the `(N, M)` share of each track that lies in each true object.
        heights: `(M,)` of the tracks in pixels.
    """
    dropped = np.zeros(similarity.shape[1], np.bool_)
    if protocol is not Protocol.kitti and not (flags.distracts | flags.ignores).any():
        return ~dropped
    rows, columns = _matches(similarity[flags.matched])
    dropped[columns[flags.distracts[flags.matched][rows]]] = True
    unmatched = np.ones(len(dropped), np.bool_)
    unmatched[columns] = False
    if flags.ignores.any():
        dropped |= unmatched & (inside()[flags.ignores] > INSIDE + EPSILON).any(0)
    if protocol is Protocol.kitti:
        dropped |= unmatched & (heights <= KITTI_SMALLEST + EPSILON)
    return ~dropped


def _matches(similarity: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The best one-to-one pairs that overlap by half."""
    gated = np.where(similarity < MATCHED - EPSILON, 0, similarity)
    rows, columns = linear_sum_assignment(-gated)
    matched = gated[rows, columns] > EPSILON
    return rows[matched], columns[matched]


def protocol_of(truth: GroundTruthSet, names: Sequence[str], settings: EvaluationSettings) -> Protocol:
    """The protocol: as the settings say, else by the kind and the names of the ground truth.

    Raises:
        SettingError: MOT20 with others: its distractors differ.
    """
    if settings.protocol is not None:
        return settings.protocol
    if truth.format is Format.kitti:
        return Protocol.kitti
    if truth.format is not Format.mot:
        return Protocol.plain
    if all(KITTI_NAME.fullmatch(name) for name in names):
        return Protocol.kitti_simple
    if settings.classes or settings.class_agnostic:
        return Protocol.plain
    mot20 = [name.startswith("MOT20-") for name in names]
    if any(mot20) and not all(mot20):
        raise SettingError(
            f"MOT20 sequences and others: their distractors differ; score them apart ({argument('sequences')})"
        )
    if all(mot20):
        return Protocol.mot20
    with closing(truth.sequences[names[0]]()) as source:
        return Protocol.mot17 if _has_classes(source) else Protocol.mot15


def check_classes(name: str, source: AnnotationSource, protocol: Protocol) -> None:
    """Are the classes of a ground truth those that the protocol needs?

    Raises:
        InputError: they are not MOTChallenge's.
    """
    if protocol not in (Protocol.mot17, Protocol.mot20) or not isinstance(source, TableAnnotations):
        return
    classes = source.table.class_id
    bad = classes[(classes < PEDESTRIAN) | (classes > MOT_CLASSES)]
    if len(bad):
        raise InputError(
            f"{source.source}: class {bad[0]} in column 8, but {protocol} knows 1 to {MOT_CLASSES}: "
            f"{argument('protocol', 'mot15')} scores {name} without classes"
        )


def _has_classes(source: AnnotationSource) -> bool:
    return isinstance(source, TableAnnotations) and bool((source.table.class_id >= 0).any())
