"""Adaptive thresholds: parameters that follow what a stream of detections is like.

Two properties of the stream are measured as running means.

The share of low scores: a detector whose file was cut at its own working point has few of them, and nearly all it
reports is there; one that reports everything down to a score of a few percent has false boxes among its middling scores
too, and a track should not begin on those. On MOT17, half of YOLOX's boxes between 0.5 and 0.6 are false; of a KITTI
detector that stops at 0.4, or of DanceTrack's, far fewer.

The change of the height of boxes from one frame to the next: heights of detected boxes hardly change within a thirtieth
of a second; what is seen is the detector's jitter, and at low frame rates or from a moving car true change. Where it is
large, overlaps say less and distances say more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import inner
from trackweave.mot.state import DET_SCORE, Parameters, Rows

CLEAN_RATIO, CLUTTERED_RATIO = 0.1, 0.3
"""Shares of low scores between which a detector passes from clean to cluttered."""
MEMORY_DETECTIONS = 2000.0
"""Detections that are remembered: some seconds of a street, a minute of a lone walker."""
LOW_SCORE = 0.5
"""Scores below are low."""
SMALL_JITTER, LARGE_JITTER = 0.02, 0.035
"""Mean changes of height, as logarithms, between which boxes pass from steady to jittering."""
MAX_CHANGE = 0.2
"""A larger change of height, as a logarithm, counts as this much: it was a mistake or another object."""

# What is known of a stream, as running sums: low scores and all scores, changes of height and how many.
LOW_SCORES, SCORES, CHANGES, CHANGED = range(4)

Stream = NDArray[np.float64]


@inner
def adapt(p: Parameters, stream: Stream, detections: Rows) -> None:
    """Takes in a frame's scores, those below the tracker's own threshold left out, and sets the parameters that the
    stream asks for: each lies between a setting and its counterpart for the other extreme, from a clean detector to a
    cluttered one, and from steady boxes to jittering ones."""
    low, every = 0.0, float(len(detections))
    for d in range(len(detections)):
        if detections[d, DET_SCORE] < LOW_SCORE:
            low += 1.0
    kept = max(0.0, 1.0 - every / MEMORY_DETECTIONS)
    stream[LOW_SCORES] = kept * stream[LOW_SCORES] + low
    stream[SCORES] = kept * stream[SCORES] + every
    set_levels(p, stream)


@inner
def set_levels(p: Parameters, stream: Stream) -> None:
    """Sets the parameters that follow the stream."""
    ratio = stream[LOW_SCORES] / stream[SCORES] if stream[SCORES] > 0.0 else 0.0
    change = stream[CHANGES] / stream[CHANGED] if stream[CHANGED] > 0.0 else 0.0
    clutter = min(1.0, max(0.0, (ratio - CLEAN_RATIO) / (CLUTTERED_RATIO - CLEAN_RATIO)))
    jitter = min(1.0, max(0.0, (change - SMALL_JITTER) / (LARGE_JITTER - SMALL_JITTER)))
    high = p.high_score_from + clutter * p.high_score_span
    birth = p.birth_score_from + clutter * p.birth_score_span
    # Tracks begin on high scores; of the two settings one that is not set explicitly gives way.
    if p.birth_score_is_set == 0.0:
        birth = max(birth, high)
    elif p.high_score_is_set == 0.0:
        high = min(birth, high)
    p.high_score, p.birth_score = high, birth
    p.score_weight = p.score_weight_from + clutter * p.score_weight_span
    p.lost_height_power = p.lost_height_power_from + clutter * p.lost_height_power_span
    p.distance_share = p.distance_share_from + jitter * p.distance_share_span


@inner
def observe_changes(stream: Stream, changes: float, changed: float) -> None:
    """Takes in a frame's absolute changes of the logarithm of the height: their sum, and how many."""
    kept = max(0.0, 1.0 - changed / MEMORY_DETECTIONS)
    stream[CHANGES] = kept * stream[CHANGES] + changes
    stream[CHANGED] = kept * stream[CHANGED] + changed
