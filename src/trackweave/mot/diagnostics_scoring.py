"""How likely two tracks changed places: evidence from their lines before and after, and a logistic score of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from trackweave.mot.diagnostics_history import Segment

Evidence = Mapping[str, float]


def saturated(value: float, scale: float) -> float:
    """0 at 0, ½ at `scale`, towards 1: one outlier cannot outvote the rest."""
    return value / (value + scale)


def misfit(before: Segment, after: Segment, frame_rate: float) -> dict[str, float]:
    """How badly one line continues another: four numbers in [0, 1), and appearance in [0, 1] (0 when unknown).

    position: both lines extended to the middle of the gap, distance over size and time; velocity: change, in
    sizes per second; height, width: change of the logarithms.
    """
    middle = (before.last + after.first) / 2
    x0, y0 = before.at(middle)
    x1, y1 = after.at(middle)
    size = math.sqrt(before.size * after.size)
    seconds = abs(after.first - before.last) / frame_rate
    appearance = 0.0
    if (
        before.appearance is not None
        and after.appearance is not None
        and len(before.appearance) == len(after.appearance)
    ):
        appearance = min(1.0, max(0.0, 0.5 - 0.5 * float(before.appearance @ after.appearance)))
    return {
        "position": saturated(math.hypot(x1 - x0, y1 - y0) / (size * (0.3 + seconds)), 0.5),
        "velocity": saturated(math.hypot(after.vx - before.vx, after.vy - before.vy) * frame_rate / size, 1.0),
        "height": saturated(abs(after.height - before.height), 0.1),
        "width": saturated(abs(after.width - before.width), 0.2),
        "appearance": appearance,
    }
