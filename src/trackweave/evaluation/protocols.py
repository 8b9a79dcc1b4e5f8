"""What is fair to score: which true objects count, and which tracks are dropped because nobody annotated them well.

The rules are those of TrackEval (Luiten et al., https://github.com/JonathonLuiten/TrackEval), which is the code of the
benchmarks themselves; `kitti-simple` is our own simplification.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackweave.evaluation.annotations import FrameItems
from trackweave.evaluation.settings import Protocol

EPSILON = float(np.finfo(np.float64).eps)
MATCHED = 0.5
INSIDE = 0.5
PEDESTRIAN = 1
MOT_CLASSES = 13
MOT17_DISTRACTORS = (2, 7, 8, 12)
"""Person on vehicle, static person, distractor, reflection."""
MOT20_DISTRACTORS = (*MOT17_DISTRACTORS, 6)
"""And vehicles."""
KITTI_NEIGHBOURS = {"car": "van", "pedestrian": "person"}
"""What is too like a class to be held against a tracker."""
KITTI_SMALLEST = 25
"""Height in pixels from which on an unmatched track is held against the tracker."""


@dataclass(frozen=True)
class Target:
    """A class to score.

    Attributes:
        name: what it is called.
        number: its number in the truth; None: every class.
        neighbour: number of the class that is too like it, or None.
        track_number: its number in results that do not name their classes; None: the same as in the truth.
    """

    name: str
    number: int | None
    neighbour: int | None = None
    track_number: int | None = None


class Roles(NamedTuple):
    """What each of N true objects is there for, as `(N,)` bool.

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


def roles(protocol: Protocol, truth: FrameItems, target: Target) -> Roles:
    """The roles of a frame's true objects when one class is scored."""
    counts, classes = truth.counts, truth.class_id
    nobody = np.zeros(len(truth), np.bool_)
    of_class = nobody | True if target.number is None else classes == target.number
    if protocol is Protocol.mot15:
        return Roles(counts, nobody, nobody, nobody)
    if protocol in (Protocol.mot17, Protocol.mot20):
        distractors = MOT17_DISTRACTORS if protocol is Protocol.mot17 else MOT20_DISTRACTORS
        return Roles(counts & (classes == PEDESTRIAN), nobody | True, np.isin(classes, distractors), nobody)
    if protocol is Protocol.kitti:
        of_class = of_class & counts
        like = of_class if target.neighbour is None else of_class | (classes == target.neighbour)
        return Roles(of_class & ~truth.is_hard, like, like & (truth.is_hard | ~of_class), ~counts)
    scored = of_class & counts
    return Roles(scored, scored, nobody, ~counts if protocol is Protocol.kitti_simple else ~counts & of_class)


def kept_tracks(
    protocol: Protocol,
    given: Roles,
    similarity: NDArray[np.float64],
    inside: Callable[[], NDArray[np.float64]],
    heights: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Which of a frame's M tracks are scored.

    Args:
        protocol: the rule.
        given: roles of the N true objects.
        similarity: `(N, M)` overlap of truth and tracks.
        inside: gives the `(N, M)` share of each track that lies in each true object.
        heights: `(M,)` of the tracks in pixels.
    """
    dropped = np.zeros(similarity.shape[1], np.bool_)
    if protocol is not Protocol.kitti and not (given.distracts | given.ignores).any():
        return ~dropped
    rows, columns = _matches(similarity[given.matched])
    dropped[columns[given.distracts[given.matched][rows]]] = True
    unmatched = np.ones(len(dropped), np.bool_)
    unmatched[columns] = False
    if given.ignores.any():
        dropped |= unmatched & (inside()[given.ignores] > INSIDE + EPSILON).any(0)
    if protocol is Protocol.kitti:
        dropped |= unmatched & (heights <= KITTI_SMALLEST + EPSILON)
    return ~dropped


def _matches(similarity: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The best one-to-one pairs that overlap by half."""
    likely = np.where(similarity < MATCHED - EPSILON, 0, similarity)
    rows, columns = linear_sum_assignment(-likely)
    real = likely[rows, columns] > EPSILON
    return rows[real], columns[real]
