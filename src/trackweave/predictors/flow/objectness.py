"""How sure one may be that an outline is the object: `objectness`."""

from __future__ import annotations

import math

_SURENESS, _PLACE, _LOOKS, _OFFSET = -1.34, -2.45, 2.63, -4.94
"""Logistic regression of "overlaps the truth by half" on some 3000 outlines of 200 objects, in videos of smooth motion
and in a scan with wide baselines; held-out objects are told apart with an area under the curve of 0.86 on the latter.
Area, flow agreement and what lies around the outline were tried as well and add nothing to these three."""

_LEAST_DOUBT, _FARTHEST = 1e-3, 3.0


def objectness(certainty: float, displacement: float, resemblance: float) -> float:
    """Probability that an outline is the object, in (0, 1).

    Args:
        certainty: of the outline's pixels, 0 for undecided, 1 for sure.
        displacement: from where the object was expected, in half diagonals of its usual extent.
        resemblance: to the prompt, as a share of the prompt's own.
    """
    logit = (
        _SURENESS * math.log(max(1 - certainty, _LEAST_DOUBT))
        + _PLACE * min(displacement, _FARTHEST)
        + _LOOKS * min(max(resemblance, 0.0), 1.0)
        + _OFFSET
    )
    return 1 / (1 + math.exp(-logit))
