"""What a box tracker holds and what it calls.

`TrackTable` is every live track as rows of a few arrays, `FrameContext` a frame without its detections; scorer and
observer are protocols, which other packages satisfy without importing this one; `Parameters` the settings as the
compiled kernels read them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from trackweave.mot.settings import TrackerSettings
from trackweave.structures.assignment import AssignmentState

RECENT = 4
"""Matched boxes that are remembered per track, the newest first."""
VOTES = 4
"""Classes that are counted per track."""

# Columns of `counts`; module constants, so that numba folds them into the kernels.
ID, CONFIRMED, AGE, GAP, HITS, STREAK, CLASS, SEEN = range(8)
# Columns of `values`.
SCORE, VISIBILITY, SINCE = range(3)
# Last axis of `motion`, for each of centre x, centre y, width and height.
POSITION, VELOCITY, VAR_POSITION, COVARIANCE, VAR_VELOCITY = range(5)


@dataclass
class TrackTable:
    """T live tracks in rows `0 … count-1`; row order is the order in which they began. Rows above are free.

    Attributes:
        count: T.
        motion: `(capacity, 4, 5)` float64, Kalman state of centre x, centre y, width, height: value, velocity per
            step and their variances and covariance. The four do not depend on each other, see `kalman.py`.
        matched: `(capacity, 4, 5)` float64, the same right after the last match.
        recent: `(capacity, RECENT, 4)` float64, last matched boxes as centre x, centre y, width, height.
        counts: `(capacity, 8)` int64: id, confirmed (0/1), frames since it began, frames since the last match,
            matches, consecutive matches, class, boxes in `recent`.
        values: `(capacity, 3)` float64: score and visibility of the last match, steps since it.
        votes: `(capacity, VOTES, 2)` float64: class and sum of its scores.
    """

    count: int = 0
    motion: NDArray[np.float64] = field(default_factory=lambda: np.zeros((64, 4, 5)))
    matched: NDArray[np.float64] = field(default_factory=lambda: np.zeros((64, 4, 5)))
    recent: NDArray[np.float64] = field(default_factory=lambda: np.zeros((64, RECENT, 4)))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((64, 8), np.int64))
    values: NDArray[np.float64] = field(default_factory=lambda: np.zeros((64, 3)))
    votes: NDArray[np.float64] = field(default_factory=lambda: np.zeros((64, VOTES, 2)))

    def reserve(self, rows: int) -> None:
        """Allocates `rows` tracks, or frees memory when many tracks have ended."""
        capacity = len(self.counts)
        if self.count <= rows <= capacity and capacity <= max(256, 8 * rows):
            return
        new_capacity = max(64, 2 * rows)
        for name in ("motion", "matched", "recent", "counts", "values", "votes"):
            column = getattr(self, name)
            resized = np.zeros((new_capacity, *column.shape[1:]), column.dtype)
            resized[: self.count] = column[: self.count]
            setattr(self, name, resized)

    @property
    def ids(self) -> NDArray[np.int64]:
        """`(T,)` int64, a copy."""
        return self.counts[: self.count, ID].copy()

    @property
    def boxes(self) -> NDArray[np.float32]:
        """`(T, 4)` float32 xyxy of the motion state: predicted, or smoothed after a match."""
        state = self.motion[: self.count, :, POSITION]
        half = state[:, 2:] / 2
        return np.concatenate([state[:, :2] - half, state[:, :2] + half], axis=1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class FrameContext:
    """One frame of a stream.

    Attributes:
        index: frame index, larger than that of the frame before.
        time: seconds, larger than before; None: the index over the frame rate.
        camera: `(2, 3)`, or `(3, 3)` for a homography, float64 that maps pixels of the frame before to this one's;
            None: the camera stood still.
        size: `(H, W)` in pixels; None: the tracker's own.
        cut: a new shot begins: every track ends before this frame, see `Tracker.cut`.
    """

    index: int
    time: float | None = None
    camera: NDArray[np.float64] | None = None
    size: tuple[int, int] | None = None
    cut: bool = False


@runtime_checkable
class AssociationScorer(Protocol):
    """Scores pairs of tracks and detections; its cost is blended with the classical one inside the gates."""

    def cost(self, state: AssignmentState) -> NDArray[np.float32]:
        """`(T, D)` float32, lower is better, 1 as bad as no match; NaN: no opinion. Entries that `state.allowed` rules
        out are not read.

        `state.assigned_track_ids` is all −1 here: the assignment is still to come.
        """
        ...

    def observe(self, state: AssignmentState) -> None:
        """The frame's decisions, for scorers with a memory; called on every frame, also on those without pairs."""
        ...

    def reset(self) -> None:
        """Forgets everything: another video begins."""
        ...


@runtime_checkable
class ExclusiveScorer(AssociationScorer, Protocol):
    """A scorer that remembers the tracks of one tracker, and would mix them with those of a second one."""

    def attach(self) -> None:
        """Called by a tracker when it is made and after its `reset`.

        Raises:
            SettingError: another tracker has it; `reset` frees it.
        """
        ...


@runtime_checkable
class AssignmentObserver(Protocol):
    """Gets every frame's state after the decisions."""

    def observe(self, state: AssignmentState) -> None:
        """Takes one frame; it may keep the arrays. Must not be slow: the tracker waits."""
        ...


NEVER = 1e9
"""A threshold that no value reaches: the setting is off."""


class Parameters(Protocol):
    """What a kernel reads of its parameters, a record of numbers. Names as in `TrackerSettings`.

    The record is one of `PARAMETERS`: it goes into a kernel as one pointer, where a tuple would be taken apart into
    its numbers in every call.
    """

    high_score: float
    birth_score: float
    instant_score: float
    confirm_hits: float
    streak_to_show: float
    min_similarity: float
    min_similarity_low: float
    min_similarity_tentative: float
    tentative_first: float
    low_scores_reactivate: float
    low_scores: float
    buffer: float
    buffer_growth: float
    buffer_limit: float
    height_power: float
    lost_height_power: float
    observed_height: float
    overlap_gate: float
    distance_share: float
    distance_scale: float
    direction_weight: float
    score_weight: float
    max_mahalanobis: float
    max_distance: float
    initiation_distance: float
    separate_classes: float
    class_votes: float
    duplicate_overlap: float
    position_noise: float
    velocity_noise: float
    measurement_noise: float
    initial_velocity_noise: float
    width_noise_by_width: float
    velocity_damping: float
    observation_centred: float
    lost_steps: float


PARAMETERS = np.dtype((np.record, [(name, np.float64) for name in Parameters.__annotations__]))
_PLACES = {name: place for place, name in enumerate(Parameters.__annotations__)}


STEPS_PER_SECOND = 30.0
"""Kernels count time in steps of 1/30 s, the frame in which the field's noise figures are given."""


def kernel_parameters(settings: TrackerSettings) -> Parameters:
    """The numbers of the settings; switches as 0 and 1, thresholds that are off as `NEVER`."""
    derived = {
        "separate_classes": settings.classes == "separate",
        "class_votes": settings.classes == "votes",
        "buffer_limit": max(settings.buffer, settings.buffer_limit),
        "lost_steps": settings.lost_seconds * STEPS_PER_SECOND,
    }

    def number(name: str) -> float:
        value = derived[name] if name in derived else getattr(settings, name)
        return NEVER if value is None else float(value)

    record = np.zeros(1, PARAMETERS)
    for name in Parameters.__annotations__:
        record[name] = number(name)
    parameters: Parameters = record[0]
    return parameters


def changed(parameters: Parameters, **values: float) -> Parameters:
    """A copy with other values."""
    record: Any = parameters
    numbers = np.array(record.tolist())  # one array of numbers: a record's own fields are slow to set
    for name, value in values.items():
        numbers[_PLACES[name]] = value
    other: Parameters = numbers.view(PARAMETERS)[0]
    return other
