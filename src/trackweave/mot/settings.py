"""Settings of box tracking: `TrackerSettings` with its named presets, and `RefinementSettings`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from trackweave.errors import SettingError
from trackweave.settings import Settings


def _at_most_one(score: Any) -> Any:
    if isinstance(score, int | float) and score > 1:
        raise ValueError("a threshold of scores, also of those in percent (0.5 is 50 %), is less than or equal to 1")
    return score


Share = Annotated[float, BeforeValidator(_at_most_one)]
"""A threshold of scores, which are shares of 1 to the tracker whatever they are in a file."""


class TrackerSettings(Settings):
    """How a box tracker links detections; the defaults are the preset `adaptive`.

    Scores are shares of 1; those in percent, logits and the like are made so first (`score_range`). A threshold that
    is set explicitly (in `model_fields_set`) means that; the others follow a detector that is never sure, too.

    Similarities are in [0, 1]. Noise is a share of the box's size at 30 frames per second; other frame rates are
    reached through the time step, so no setting depends on them.
    """

    score_range: Literal["auto", "given", "percent", "logits", "none"] = Field(
        default="auto",
        description="unit and height of scores; auto: found out; given: shares of 1, as they are; none: no scores",
    )
    confidence_threshold: Share = Field(default=0.1, ge=0, le=1, description="detections of a lower score are ignored")
    high_score: Share = Field(
        default=0.5, ge=0, le=1, description="detections from here on take part in the first round"
    )
    birth_score: Share = Field(
        default=0.5, ge=0, le=1, description="score from which an unmatched detection begins a track"
    )
    clutter_high_score: Share = Field(
        default=0.6, ge=0, le=1, description="high_score in a stream with many low scores"
    )
    clutter_birth_score: Share = Field(
        default=0.7, ge=0, le=1, description="birth_score in a stream with many low scores"
    )
    instant_score: float | None = Field(
        default=0.8, description="score from which a new track is reported at once; null: never"
    )
    confirm_hits: int = Field(default=2, ge=1, description="matches that make a tentative track a confirmed one")
    streak_to_show: int = Field(
        default=1, ge=1, description="consecutive matches before a track is reported again after a miss"
    )

    min_similarity: float = Field(default=0.2, ge=0, lt=1, description="gate of the first round: high scores")
    min_similarity_low: float = Field(default=0.5, ge=0, lt=1, description="gate of the second round: low scores")
    min_similarity_tentative: float = Field(
        default=0.3, ge=0, lt=1, description="gate of the round of tentative tracks"
    )
    tentative_first: bool = Field(default=True, description="tentative tracks take part in the first round")
    low_scores_reactivate: bool = Field(default=False, description="lost tracks may be found again by a low score")
    low_scores: bool = Field(default=True, description="there is a second round")

    buffer: float = Field(
        default=0.0, ge=0, le=2, description="boxes are widened by this share on each side before IoU"
    )
    buffer_growth: float = Field(default=0.005, ge=0, le=1, description="further widening per 1/30 s without a match")
    buffer_limit: float = Field(default=0.5, ge=0, le=2, description="widening at which growth ends")
    height_power: float = Field(
        default=1.5, ge=0, le=8, description="IoU is multiplied by the ratio of heights to this power"
    )
    lost_height_power: float = Field(default=1.5, ge=0, le=8, description="height_power for tracks that were lost")
    clutter_lost_height_power: float = Field(
        default=3.0, ge=0, le=8, description="lost_height_power in a stream with many low scores"
    )
    observed_height: bool = Field(default=True, description="compare the height last observed, not the predicted one")
    overlap_gate: bool = Field(
        default=False, description="no match of widened boxes that do not overlap, however near their centres"
    )
    distance_share: float = Field(default=0.1, ge=0, le=1, description="share of centre distance in the similarity")
    unsteady_distance_share: float = Field(
        default=0.4, ge=0, le=1, description="distance_share in a stream whose box sizes jitter"
    )
    distance_scale: float = Field(
        default=0.5, gt=0, le=5, description="distance in box sizes at which the similarity of centres is 0.6"
    )
    direction_weight: float = Field(
        default=0.0, ge=0, le=1, description="cost of turning away from the direction of travel"
    )
    score_weight: float = Field(default=0.0, ge=0, le=1, description="how far a low score lowers the similarity")
    clutter_score_weight: float = Field(
        default=0.5, ge=0, le=1, description="score_weight in a stream with many low scores"
    )
    max_mahalanobis: float | None = Field(
        default=None, gt=0, description="gate: squared Mahalanobis distance of the centre, 2 degrees of freedom"
    )
    max_distance: float | None = Field(default=None, gt=0, description="gate: centre distance in box sizes")
    initiation_distance: float = Field(
        default=6.0,
        ge=0,
        le=100,
        description="last round: box sizes that a track's second detection may lie from its first; 0: no such round",
    )
    classes: Literal["votes", "separate", "ignored"] = Field(
        default="votes",
        description="votes: a track takes the class of most of its boxes; separate: it keeps the first and takes no "
        "other; ignored: boxes are linked as if they had none",
    )
    duplicate_overlap: float | None = Field(
        default=0.6, ge=0, le=1, description="no track begins on a detection that overlaps a matched one by more"
    )

    position_noise: float = Field(
        default=0.05, gt=0, description="process noise of the position, share of the box size per step"
    )
    velocity_noise: float = Field(
        default=1 / 160, gt=0, description="process noise of the velocity, share of the box size per step²"
    )
    measurement_noise: float = Field(default=0.05, gt=0, description="noise of detected boxes, share of the box size")
    initial_velocity_noise: float = Field(
        default=1 / 16, gt=0, description="standard deviation of a new track's velocity"
    )
    width_noise_by_width: float = Field(
        default=1.0, ge=0, le=1, description="0: noise across follows the height (ByteTrack), 1: the width (BoT-SORT)"
    )
    velocity_damping: float = Field(
        default=1.0, gt=0, le=1, description="velocity kept per 1/30 s while a track is lost"
    )
    observation_centred: bool = Field(
        default=False, description="re-update over a gap along the straight line (OC-SORT)"
    )
    lost_seconds: float = Field(default=1.0, ge=0, description="seconds without a match after which a track ends")
    camera_motion: Literal["given", "off"] = Field(
        default="given", description="whether a frame's camera matrix is used"
    )

    appearance_memory: bool = Field(default=False, description="keep prototypes of each track's appearance")
    appearance_weight: float = Field(
        default=0.3, ge=0, le=1, description="share of appearance in the similarity where track and detection have one"
    )
    prototypes: int = Field(default=4, ge=1, le=64, description="prototypes of appearance per track")
    appearance_min_visibility: float = Field(
        default=0.6, ge=0, le=1, description="visibility from which a detection updates the prototypes"
    )
    appearance_gallery: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="ended tracks whose appearance is kept, so that who comes back gets the old identity; 0 = none",
    )
    scorer_weight: float = Field(default=0.5, ge=0, le=1, description="share of a learned scorer in the similarity")
    scorer_decides: bool = Field(
        default=False, description="a learned scorer also decides which pairs are too bad to match, inside the gates"
    )
    diagnostics: bool = Field(default=False, description="look for identity switches")

    output_boxes: Literal["detected", "smoothed"] = Field(
        default="detected", description="boxes to report: as detected, or smoothed by the motion model"
    )
    on_bad_item: Literal["error", "skip"] = Field(
        default="skip", description="a bad detection or time stamp stops the run, or is left out and counted"
    )

    @classmethod
    def presets(cls) -> Mapping[str, TrackerSettings]:
        """`PRESETS`."""
        return PRESETS

    def without_effect(self, *, has_scorer: bool) -> list[str]:
        """What to say of settings that were changed and that nothing reads."""
        idle = []
        for name in sorted(self.model_fields_set & NEEDS.keys()):
            needed, value = NEEDS[name], getattr(self, name)
            if value == type(self).model_fields[name].default:
                continue  # a file may hold all settings there are
            if needed == SCORER and not has_scorer:
                idle.append(f"tracker.{name} {value} has no effect without a learned scorer")
            elif needed != SCORER and not getattr(self, needed):
                idle.append(f"tracker.{name} {value} has no effect while tracker.{needed} is off")
        return idle

    def extreme(self, name: str) -> str:
        """The setting that holds at the other extreme of the stream: the counterpart, or the setting itself where
        it is set explicitly and its counterpart is not."""
        counterpart = EXTREMES[name]
        is_alone = name in self.model_fields_set and counterpart not in self.model_fields_set
        return name if is_alone else counterpart


EXTREMES: Mapping[str, str] = {
    "high_score": "clutter_high_score",
    "birth_score": "clutter_birth_score",
    "score_weight": "clutter_score_weight",
    "lost_height_power": "clutter_lost_height_power",
    "distance_share": "unsteady_distance_share",
}
"""Settings between which and their counterparts the stream moves the tracker."""


SCORER = "a scorer"
NEEDS: Mapping[str, str] = {
    "scorer_weight": SCORER,
    "appearance_weight": "appearance_memory",
    "appearance_gallery": "appearance_memory",
    "prototypes": "appearance_memory",
    "appearance_min_visibility": "appearance_memory",
    "min_similarity_low": "low_scores",
}
"""Settings that have no effect without another one, or without a scorer."""
SCORE_THRESHOLDS = frozenset(
    {"confidence_threshold", "high_score", "birth_score", "clutter_high_score", "clutter_birth_score", "instant_score"}
)
"""Settings that are compared with scores."""


def _as_preset(settings: TrackerSettings) -> TrackerSettings:
    """The same settings, of which none counts as set explicitly."""
    return TrackerSettings.model_construct(set(), **dict(settings))


def _published(*, high: float, birth: float, score_weight: float = 0.0, **others: Any) -> TrackerSettings:
    """A tracker as its paper has it: nothing adapts to the stream, and none of our own cues is used."""
    values: dict[str, Any] = {
        "high_score": high,
        "birth_score": birth,
        "score_weight": score_weight,
        "clutter_high_score": high,
        "clutter_birth_score": birth,
        "clutter_score_weight": score_weight,
        "distance_share": 0.0,
        "unsteady_distance_share": 0.0,
        "instant_score": None,
        "tentative_first": False,
        "buffer_growth": 0.0,
        "height_power": 0.0,
        "lost_height_power": 0.0,
        "clutter_lost_height_power": 0.0,
        "observed_height": False,
        "duplicate_overlap": None,
        "initiation_distance": 0.0,
        "camera_motion": "off",
    }
    return _as_preset(TrackerSettings(**values | others))


PRESETS: Mapping[str, TrackerSettings] = MappingProxyType(
    {
        "adaptive": TrackerSettings(),
        # Zhang et al., "ByteTrack", ECCV 2022, arXiv 2110.06864.
        "bytetrack": _published(high=0.6, birth=0.7, score_weight=1.0, width_noise_by_width=0.0),
        # Bewley et al., "Simple Online and Realtime Tracking", ICIP 2016, arXiv 1602.00763.
        "sort": _published(
            high=0.25,
            birth=0.25,
            confidence_threshold=0.25,
            low_scores=False,
            tentative_first=True,
            min_similarity=0.3,
            confirm_hits=3,
            streak_to_show=3,
        ),
        # Cao et al., "Observation-Centric SORT", CVPR 2023, arXiv 2203.14360.
        "ocsort": _published(
            high=0.6,
            birth=0.6,
            tentative_first=True,
            min_similarity=0.3,
            min_similarity_low=0.3,
            confirm_hits=3,
            streak_to_show=3,
            direction_weight=0.2,
            observation_centred=True,
        ),
        # Aharon et al., "BoT-SORT", arXiv 2206.14651.
        "botsort": _published(high=0.6, birth=0.7, score_weight=1.0, camera_motion="given", appearance_memory=True),
        # For a learned scorer: wide gates, and what passes them is the scorer's to decide.
        "learned": _as_preset(
            TrackerSettings(
                scorer_weight=1.0,
                scorer_decides=True,
                min_similarity=0.0,
                min_similarity_low=0.0,
                low_scores_reactivate=True,
                buffer=0.3,
                buffer_growth=0.01,
                buffer_limit=0.8,
                overlap_gate=True,
                distance_share=1.0,
                unsteady_distance_share=1.0,
                distance_scale=1.2,
                height_power=0.0,
                lost_height_power=0.0,
                clutter_lost_height_power=0.0,
                lost_seconds=2.0,
            )
        ),
    }
)
"""Configurations of the one tracker by name; `adaptive` is ours and the default, `learned` is ours with a learned
scorer, and needs one."""


def preset(name: str, **overrides: Any) -> TrackerSettings:
    """A preset with some settings replaced.

    Args:
        name: `adaptive`, `bytetrack`, `sort`, `ocsort`, `botsort` or `learned`.
        overrides: settings of `TrackerSettings` by name.

    >>> preset("bytetrack", birth_score=0.6).birth_score
    0.6

    Raises:
        SettingError: an unknown preset or setting (the nearest known one is named), or a value out of range.
    """
    if name not in PRESETS:
        raise SettingError(f"there is no tracker {name!r}; known: {', '.join(PRESETS)}")
    return TrackerSettings.checked(PRESETS[name], **overrides)


SMOOTHING_DEGREE = 2
"""Of the polynomials that smooth boxes."""


class RefinementSettings(Settings):
    """What is changed about tracks once the whole video is tracked; nothing by default."""

    stitch: bool = Field(
        default=False, description="tracks that follow each other over a gap become one at the end, before all else"
    )
    stitch_probability: float = Field(
        default=0.6, gt=0, lt=1, description="probability from which two such tracks are stitched"
    )
    interpolate_max_gap: int = Field(
        default=0, ge=0, description="longest gap, in frames, that is filled at the end; 0: none"
    )
    min_track_length: int = Field(default=0, ge=0, description="tracks of fewer boxes are removed at the end")
    min_mean_score: float = Field(default=0.0, ge=0, description="tracks of a lower mean score are removed at the end")
    smooth_window: int = Field(
        default=0, ge=0, description="frames over which boxes are smoothed at the end: odd, 5 or more; 0: none"
    )

    @field_validator("smooth_window")
    @classmethod
    def _is_odd(cls, window: int) -> int:
        fault = window_fault(window)
        if fault is not None:
            raise ValueError(fault)
        return window


def window_fault(window: int) -> str | None:
    """Why a number of frames is no window for smoothing; None when it is one."""
    if window == 0 or (window >= SMOOTHING_DEGREE + 3 and window % 2 == 1):
        return None
    return f"{window}: give an odd number of frames from {SMOOTHING_DEGREE + 3}, or 0 for none"
