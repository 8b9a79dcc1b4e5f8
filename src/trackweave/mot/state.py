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

from trackweave.mot.settings import EXTREMES, SCORE_THRESHOLDS, TrackerSettings
from trackweave.structures.assignment import AssignmentState

RECENT = 4
"""Matched boxes that are remembered per track, the newest first."""
VOTES = 4
"""Classes that are counted per track."""
AXES = 4
"""Of a box: centre x, centre y, width, height."""

# Columns of a track's row; module constants, so that numba folds them into the kernels. First what counts:
ID, CONFIRMED, AGE, GAP, HITS, STREAK, CLASS, SEEN = range(8)
# then what is measured:
SCORE, VISIBILITY, SINCE = range(8, 11)
# the motion state, each for all axes, and the same right after the last match:
POSITION, VELOCITY, VAR_POSITION, COVARIANCE, VAR_VELOCITY, MATCHED = range(11, 11 + 6 * AXES, AXES)
STATE_NUMBERS = MATCHED - POSITION
# the last matched boxes, and pairs of class and votes.
BOXES = MATCHED + STATE_NUMBERS
VOTED = BOXES + RECENT * AXES
COLUMNS = VOTED + 2 * VOTES

# Columns of a detection's row, behind those of its box.
DET_SCORE, DET_CLASS, DET_VISIBILITY, DET_ROW = range(AXES, AXES + 4)
DET_COLUMNS = DET_ROW + 1

Rows = NDArray[np.float64]
"""Tracks or detections, one a row; one array, because each further one costs a kernel time to take and to compile."""


@dataclass
class TrackTable:
    """T live tracks in rows `0 … count-1`; row order is the order in which they began. Rows above are free.

    Attributes:
        count: T.
        rows: `(capacity, COLUMNS)` float64. id, confirmed (0/1), frames since it began, frames since the last match,
            matches, consecutive matches, class, boxes ever matched; score and visibility of the last match, steps
            since it; the Kalman state: value, velocity per step and their variances and covariance, which do not
            depend on each other between axes, see `kalman.py`; the same right after the last match; last matched
            boxes; class and sum of its scores, `VOTES` times.
    """

    count: int = 0
    rows: Rows = field(default_factory=lambda: np.zeros((64, COLUMNS)))

    def reserve(self, rows: int) -> None:
        """Allocates `rows` tracks, or frees memory when many tracks have ended."""
        capacity = len(self.rows)
        if rows <= capacity and (capacity <= 256 or capacity <= 8 * rows):
            return
        resized = np.zeros((max(64, 2 * rows), COLUMNS))
        resized[: self.count] = self.rows[: self.count]
        self.rows = resized

    @property
    def live(self) -> Rows:
        """`(T, COLUMNS)`, a view."""
        return self.rows[: self.count]

    @property
    def ids(self) -> NDArray[np.int64]:
        """`(T,)` int64, a copy."""
        return self.live[:, ID].astype(np.int64)

    @property
    def boxes(self) -> NDArray[np.float32]:
        """`(T, 4)` float32 xyxy of the motion state: predicted, or smoothed after a match."""
        centre, half = self.live[:, POSITION : POSITION + 2], self.live[:, POSITION + 2 : POSITION + AXES] / 2
        boxes = np.empty((self.count, 4), np.float32)
        boxes[:, :2], boxes[:, 2:] = centre - half, centre + half
        return boxes


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

    @classmethod
    def of(cls, index: int) -> FrameContext:
        """A frame of which nothing but the index is known. A tracker makes one on every frame, and what sets each field
        of a frozen dataclass takes it a tenth of its time."""
        context = object.__new__(cls)
        context.__dict__["index"] = index
        return context


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

    A kernel is given an array of one such record (`PARAMETERS`), which it takes ten times as fast as the record
    itself. Five of the numbers follow the stream, see `adaptive_thresholds.adapt`: each lies between what is at the end
    of the record under its name and `_from`, and that plus its `_span`.
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
    one_round: float
    high_score_from: float
    high_score_span: float
    birth_score_from: float
    birth_score_span: float
    score_weight_from: float
    score_weight_span: float
    lost_height_power_from: float
    lost_height_power_span: float
    distance_share_from: float
    distance_share_span: float
    birth_score_is_set: float
    high_score_is_set: float


PARAMETERS = np.dtype((np.record, [(name, np.float64) for name in Parameters.__annotations__]))
ParameterArray = NDArray[Any]
"""One record of `PARAMETERS`, `(1,)`."""

STEPS_PER_SECOND = 30.0
"""Kernels count time in steps of 1/30 s, the frame in which the field's noise figures are given."""

ROUNDING = 1e-3
"""Steps that a sum of times may be off by: with time stamps and without, a gap of one second is as long."""


def kernel_parameters(settings: TrackerSettings, stretch: float = 1.0) -> ParameterArray:
    """The numbers of the settings; switches as 0 and 1, thresholds that are off as `NEVER`.

    Args:
        settings: the tracker's.
        stretch: by how much the scores of the stream are raised, see `ScoreScale`; thresholds that are set
            explicitly are raised with them, and so mean the scores as they were.
    """
    explicit = settings.model_fields_set

    def number(name: str) -> float:
        value = getattr(settings, name)
        if value is None:
            return NEVER
        return float(value) * stretch if name in SCORE_THRESHOLDS and name in explicit else float(value)

    values = {name: number(name) for name in Parameters.__annotations__ if name in type(settings).model_fields}
    values |= {
        "separate_classes": settings.classes == "separate",
        "class_votes": settings.classes == "votes",
        "buffer_limit": max(settings.buffer, settings.buffer_limit),
        "lost_steps": settings.lost_seconds * STEPS_PER_SECOND + ROUNDING,
        "one_round": settings.scorer_decides,
        "birth_score_is_set": "birth_score" in explicit,
        "high_score_is_set": "high_score" in explicit,
    }
    for name in EXTREMES:
        values[f"{name}_from"] = values[name]
        values[f"{name}_span"] = number(settings.extreme(name)) - values[name]
    record = np.zeros(1, PARAMETERS)
    for name, value in values.items():
        record[name] = value
    return record
