"""How likely an identity changed tracks: evidence from the lines of tracks before and after, and logistic scores.

The weights were fitted to the true switches of the adaptive tracker on training sequences of MOT17 (02, 05, 13; two
detectors), DanceTrack (eleven), KITTI (0000 to 0010) and SportsMOT (a third of them, simulated detections); those of
appearance were set by hand, since that data has none. A confidence of 0.4 means: of such suspicions, taken alone, four
in ten were true there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from trackweave.mot.diagnostics_history import Segment

LOOK_WEIGHT = 8.0  # logits per half the cosine distance
SAME_LOOK = 0.12  # half the cosine distance at which appearance speaks neither for nor against

# Standardised evidence was fitted; the weights here are per unit.
BORN: Mapping[str, float] = {
    "bias": -2.06,
    "position_squared": -4.14,
    "height": -1.97,
    "log_gap": -0.98,
    "log_boxes_before": 0.83,
    "border": -0.86,
    "score": 2.01,
    "appearance": LOOK_WEIGHT,
}
"""A track was born where another one, gone by now, had been."""

BORN_OWNER_LIVES: Mapping[str, float] = {
    "bias": -1.43,
    "own_position": 2.82,
    "position_at_arrival": -5.22,
    "gain_height": 1.20,
    "gain_width": 0.76,
    "log_gap": -1.17,
    "log_boxes_before": -0.61,
    "appearance": LOOK_WEIGHT,
}
"""A track was born where another one had been that is matched elsewhere now."""

RETURNED: Mapping[str, float] = {
    "bias": -0.10,
    "position_squared": -6.18,
    "height": -0.81,
    "width": -1.29,
    "log_gap": -0.72,
    "score": 1.35,
    "appearance": LOOK_WEIGHT,
}
"""A lost track came back where another one, gone by now, had been meanwhile."""

RETURNED_OWNER_LIVES: Mapping[str, float] = {
    "bias": 5.36,
    "position_at_arrival": -5.02,
    "gain_position": 2.24,
    "gain_velocity": 0.71,
    "gain_height": 1.01,
    "gain_width": 0.60,
    "log_boxes_before": -1.12,
    "log_boxes_after": -0.94,
    "appearance": LOOK_WEIGHT,
}
"""A lost track came back where another one had been that is matched elsewhere now."""

EXCHANGE: Mapping[str, float] = {
    "bias": -0.48,
    "gain_position": 0.87,
    "gain_velocity": 1.95,
    "gain_height": 1.31,
    "gain_width": 0.56,
    "overlap": 2.06,
    "log_frames": -0.79,
    "jump": 1.76,
    "margin": -1.14,
    "log_doubt": 1.40,
    "apart": -2.22,
    "appearance": LOOK_WEIGHT,
}
"""Two tracks overlapped and both went on."""

TAKEOVER: Mapping[str, float] = {
    "bias": -0.45,
    "gain_position": 0.85,
    "gain_velocity": 1.01,
    "gain_height": 1.25,
    "gain_width": 0.59,
    "overlap": 1.49,
    "log_frames": -0.35,
    "jump": 1.06,
    "margin": -3.69,
    "appearance": LOOK_WEIGHT,
}
"""Two tracks overlapped and one of them went on."""


class Misfit(NamedTuple):
    """How badly one line continues another.

    Each number is in [0, 1) and saturates, so that one outlier cannot outvote the rest.

    Attributes:
        position: distance of the two lines in the middle of the gap, over size and time; ½ at half a size after 0.7 s.
        velocity: change of velocity; ½ at one size per second.
        height, width: change of the logarithm; ½ at 0.1 and 0.2.
        appearance: half the cosine distance, `SAME_LOOK` when one side has none.
    """

    position: float
    velocity: float
    height: float
    width: float
    appearance: float


def misfit(before: Segment, after: Segment, frame_rate: float) -> Misfit:
    """Compares two pieces of tracks, the earlier one first."""
    middle = (before.last + after.first) / 2
    x0, y0 = before.at(middle)
    x1, y1 = after.at(middle)
    size = math.sqrt(before.size * after.size)
    seconds = abs(after.first - before.last) / frame_rate
    return Misfit(
        _saturated(math.hypot(x1 - x0, y1 - y0) / (size * (0.3 + seconds)), 0.5),
        _saturated(math.hypot(after.vx - before.vx, after.vy - before.vy) * frame_rate / size, 1.0),
        _saturated(abs(after.height - before.height), 0.1),
        _saturated(abs(after.width - before.width), 0.2),
        _look(before, after),
    )


def _saturated(value: float, scale: float) -> float:
    return value / (value + scale)


def _look(before: Segment, after: Segment) -> float:
    one, other = before.appearance, after.appearance
    if one is None or other is None or len(one) != len(other):
        return SAME_LOOK
    return min(1.0, max(0.0, 0.5 - 0.5 * float(one @ other)))


def probability(weights: Mapping[str, float], evidence: Mapping[str, float]) -> float:
    """Logistic score; `bias` is the constant, evidence without a weight does not count.

    >>> probability({"bias": 0.0, "gap": -1.0}, {"gap": 0.0})
    0.5
    """
    logit = weights["bias"] + sum(weight * evidence[name] for name, weight in weights.items() if name != "bias")
    return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, logit))))
