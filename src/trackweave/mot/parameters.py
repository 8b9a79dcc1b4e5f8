"""`Parameters`: the settings as the compiled kernels read them."""

from __future__ import annotations

from typing import NamedTuple

from numba import types

from trackweave.mot.settings import TrackerSettings

NEVER = 1e9
"""A threshold that no value reaches: the setting is off."""


class Parameters(NamedTuple):
    """Floats only: numba then takes the whole as one homogeneous tuple. Names as in `TrackerSettings`."""

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
    distance_share: float
    distance_scale: float
    direction_weight: float
    score_weight: float
    max_mahalanobis: float
    max_distance: float
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


PARAMETERS = types.NamedUniTuple(types.float64, len(Parameters._fields), Parameters)  # type: ignore[no-untyped-call]
"""The numba type of `Parameters`."""

STEPS_PER_SECOND = 30.0
"""Kernels count time in steps of 1/30 s, the frame in which the field's noise figures are given."""


def kernel_parameters(settings: TrackerSettings) -> Parameters:
    """The numbers of the settings; switches as 0 and 1, thresholds that are off as `NEVER`."""
    derived = {
        "separate_classes": settings.classes == "separate",
        "class_votes": settings.classes == "votes",
        "lost_steps": settings.lost_seconds * STEPS_PER_SECOND,
    }

    def number(name: str) -> float:
        value = derived[name] if name in derived else getattr(settings, name)
        return NEVER if value is None else float(value)

    return Parameters(*(number(name) for name in Parameters._fields))
