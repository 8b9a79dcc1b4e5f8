"""`ScoreScale`: the unit of a detector's scores and how high they reach; found in a whole file, or frame by frame.

Thresholds of tracking mean shares of 1, as the scores of a usual detector are: on MOT17, DanceTrack, KITTI and the
like the best box of a frame reaches 0.94 to 1 whatever the detector. Files also hold percent, logits (DPM,
PointRCNN), the same −1 or 0 on every line where there were no scores, and shares of a detector that is never sure.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

NOT_GIVEN = -1.0
"""What MOTChallenge text has in the place of a score that there is not."""
LARGEST_SHARE = 1.5
"""Up to here scores are shares: sums and fused ones pass 1 by a little."""
SMALLEST_PERCENT = 20.0
"""Scores that reach less are not percent: logits that were cut at 0 end below, or tenths."""
USUAL_TOP = float(np.float32(0.9))
"""Best scores from here on are usual, and taken as they are; lower ones count as 1."""
WARNED_STRETCH = 1.25
"""From here on a run says that scores count for more."""
WEAKEST_TOP = 0.25
"""Best scores below are those of no detection at all: detectors come with a threshold of 0.25."""
MANY_NEGATIVE = 0.01
"""Share of negative scores from which all are logits."""

FIRST_JUDGED, LAST_JUDGED = 10, 60
"""Frames with detections after which a stream may count as weak, and after which its best scores are known."""
EARLY_DISCOUNT = 0.25
"""By so much less a stream is judged and lifted at `FIRST_JUDGED`: what is still far away has low scores."""
SETTLED_FRAMES = 3
"""Frames with a usual best score after which a stream counts as usual for good, at the earliest."""
MEMORY_FRAMES = 1000
"""Best scores that are remembered of a stream."""


class ScoreUnit(StrEnum):
    """What scores are."""

    share = "share"
    percent = "percent"
    logits = "logits"
    other = "other"
    none = "none"


@dataclass(frozen=True)
class ScoreScale:
    """How scores become shares of 1.

    Attributes:
        unit: what they are: shares already, percent, logits, positive numbers of another scale, or not given.
        full: the score that is a share of 1, for percent and other scales.
        has_gaps: a score of −1 stands for one that is not given.
        stretch: from 1 up; shares of a weak detector count so many times as much where the tracker's own thresholds
            are meant.
        excess: a score above all shares among shares, or None.
        lowest, top: smallest score, and the score that the best frames reach, as they were given.
    """

    unit: ScoreUnit = ScoreUnit.share
    full: float = 1.0
    has_gaps: bool = False
    stretch: float = 1.0
    excess: float | None = None
    lowest: float = 0.0
    top: float = 1.0

    @property
    def is_usual(self) -> bool:
        """Are scores taken as they are?"""
        return self.are_shares and self.stretch == 1

    @property
    def are_shares(self) -> bool:
        """Are scores shares of 1 already, each of them?"""
        return self.unit is ScoreUnit.share and not self.has_gaps and self.excess is None

    def shares(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        """`(N,)` float32 in [0, 1], not stretched; the same array where scores are shares. NaN stays NaN."""
        if self.are_shares:
            return score
        if self.unit is ScoreUnit.none:
            return np.where(np.isnan(score), score, 1).astype(np.float32)
        if self.unit is ScoreUnit.logits:
            with np.errstate(over="ignore"):  # of −∞, or nearly
                shares = 1 / (1 + np.exp(-score.astype(np.float64)))
        else:
            shares = score.astype(np.float64) / self.full
        sure = (score == NOT_GIVEN) if self.has_gaps else np.zeros(len(score), np.bool_)
        if self.excess is not None:
            sure |= score > LARGEST_SHARE
        return np.where(sure, 1, shares).astype(np.float32)

    def message(self) -> str | None:
        """What is done to the scores, for a person; None: nothing."""
        parts = []
        if self.unit is ScoreUnit.percent:
            parts.append(f"scores reach {self.top:.3g}: read as percent, divided by {self.full:g}")
        elif self.unit is ScoreUnit.logits:
            parts.append(f"scores from {self.lowest:.3g} to {self.top:.3g}: read as logits, 1 / (1 + exp(−score))")
        elif self.unit is ScoreUnit.other:
            parts.append(f"scores reach {self.top:.3g}, neither shares of 1 nor percent: divided by {self.full:.4g}")
        elif self.unit is ScoreUnit.none:
            parts.append(f"all scores are {self.top:.3g}: read as not given, every detection is a sure one")
        if self.has_gaps:
            parts.append("scores of −1 are read as not given: these detections are sure ones")
        if self.excess is not None:
            parts.append(f"single scores of up to {self.excess:.3g} among shares of 1: these detections are sure ones")
        if self.stretch >= WARNED_STRETCH:
            share = float(self.shares(np.array([self.top], np.float32))[0])
            parts.append(
                f"the best scores are about {share:.2f}, where usual detectors reach {USUAL_TOP:.1f} and more: "
                f"thresholds that are not set follow, as if scores were {self.stretch:.2f} times as high"
            )
        return "; ".join(parts) or None


AS_GIVEN = ScoreScale()
"""Shares that are taken as they are."""


def scale_of(frame: NDArray[np.int64], score: NDArray[np.float32], unit: ScoreUnit | None = None) -> ScoreScale:
    """The scale of all scores of a video.

    Args:
        frame: `(N,)`, in any order.
        score: `(N,)`; what is not finite is passed over.
        unit: what the scores are, where it is known; None: found out.
    """
    finite = np.isfinite(score)
    frame, score = frame[finite], score[finite].astype(np.float64)
    if not len(score):
        return AS_GIVEN
    order = np.argsort(frame, kind="stable")
    starts = np.flatnonzero(np.diff(frame[order], prepend=frame[order[0]] - 1))
    best = np.maximum.reduceat(score[order], starts)
    below = int(np.count_nonzero((score < 0) & (score != NOT_GIVEN)))
    spread = _Spread(float(score.min()), float(score.max()), len(score), below, bool((score == NOT_GIVEN).any()))
    return _stretched(_with_unit(best, spread, unit), best)


def top_of(best: NDArray[np.float64]) -> float:
    """How high the scores of a video reach: the best score of a frame that a few frames have or exceed.

    Those few are one of up to 19 frames, up to three of fewer than 400, ten of a thousand and more: so a mistake or two
    do not decide. They are no fixed share of all, because in hours of an empty street only a few frames show anyone.

    Args:
        best: `(F,)` best score of each frame, F > 0.
    """
    rank = usual_frames(len(best))
    return float(np.partition(best, -rank)[-rank])


def usual_frames(frames: int) -> int:
    """How many frames of a video must have a score, or a higher one, for the video to reach it; see `top_of`."""
    return max(1, min(frames // 10, 3), min(frames // 100, 10))


@dataclass
class _Spread:
    """What is kept of the scores seen so far.

    Attributes:
        lowest, highest: the smallest and the largest score.
        count: how many there were.
        negative: how many lie below 0 and are not −1.
        has_gaps: one is −1, which stands for a score that is not given.
    """

    lowest: float = np.inf
    highest: float = -np.inf
    count: int = 0
    negative: int = 0
    has_gaps: bool = False


def _with_unit(best: NDArray[np.float64], spread: _Spread, unit: ScoreUnit | None) -> ScoreScale:
    """The scale without a stretch; arguments as in `scale_of` and `top_of`."""
    top, lowest = top_of(best), spread.lowest
    scale = ScoreScale(lowest=lowest, top=top)
    if unit is None:
        is_constant = lowest == spread.highest and spread.count > 1 and not WEAKEST_TOP <= top <= LARGEST_SHARE
        if is_constant or (spread.highest <= 0 and not spread.negative):
            unit = ScoreUnit.none
        elif spread.negative > MANY_NEGATIVE * spread.count or (spread.negative and top > LARGEST_SHARE):
            unit = ScoreUnit.logits
        elif np.median(best) <= LARGEST_SHARE:
            unit = ScoreUnit.share
        else:
            unit = ScoreUnit.percent if SMALLEST_PERCENT <= top <= 100 else ScoreUnit.other
    has_gaps = spread.has_gaps and unit not in (ScoreUnit.logits, ScoreUnit.none)
    full = 100.0 if unit is ScoreUnit.percent else top if unit is ScoreUnit.other else 1.0
    excess = spread.highest if unit is ScoreUnit.share and spread.highest > LARGEST_SHARE else None
    return replace(scale, unit=unit, full=full, has_gaps=has_gaps, excess=excess)


def _stretched(scale: ScoreScale, best: NDArray[np.float64], discount: float = 0.0) -> ScoreScale:
    """The scale with the stretch of a weak detector: one whose best frames do not reach what is usual.

    `discount` is in [0, 1]: by how much less than usual and less than 1 is enough.
    """
    if scale.unit is ScoreUnit.none:
        return scale
    top = top_of(scale.shares(best.astype(np.float32)).astype(np.float64))
    is_weak = WEAKEST_TOP <= top < USUAL_TOP - discount
    return replace(scale, stretch=(1 - discount) / top) if is_weak else scale


class ScoreRange:
    """Finds the scale of a stream of frames while it runs, from the frames so far.

    Another unit than shares shows in the first frame that has detections. Low scores may mean that everything is
    still far away: a stream counts as weak after ten frames with detections at the earliest, and then only where the
    best of them are low indeed. A few frames with usual scores settle that the stream is usual for good: so the scores
    of a usual detector are never changed.

    Args:
        unit: what the scores are, where it is known; None: found out.

    Attributes:
        scale: the present one.
    """

    def __init__(self, unit: ScoreUnit | None = None) -> None:
        self.scale = AS_GIVEN if unit is None else ScoreScale(unit, 100.0 if unit is ScoreUnit.percent else 1.0)
        self._unit = unit
        self._spread = _Spread()
        self._best: deque[float] = deque(maxlen=MEMORY_FRAMES)
        self._frames = 0
        self._usual_frames = 0
        self._is_usual = False
        self._next_judged = 1

    def observe(self, score: NDArray[np.float32]) -> None:
        """Takes in the scores of a frame, `(N,)`, all of them."""
        if self._is_usual or not len(score):
            return
        finite = score[np.isfinite(score)].astype(np.float64)
        if not len(finite):
            return
        spread, best, before = self._spread, float(finite.max()), self._spread.highest
        spread.lowest, spread.highest = min(spread.lowest, float(finite.min())), max(before, best)
        spread.count += len(finite)
        spread.negative += int(np.count_nonzero((finite < 0) & (finite != NOT_GIVEN)))
        spread.has_gaps |= bool((finite == NOT_GIVEN).any())
        self._best.append(best)
        self._frames += 1
        self._usual_frames += USUAL_TOP <= best <= LARGEST_SHARE
        are_shares = self._unit is None and not spread.negative and spread.highest <= LARGEST_SHARE
        if are_shares and self._usual_frames >= max(SETTLED_FRAMES, usual_frames(self._frames)):
            self._is_usual, self.scale = True, replace(AS_GIVEN, has_gaps=spread.has_gaps)
        elif self._frames >= self._next_judged or best > max(before, LARGEST_SHARE):
            self._judge()

    def _judge(self) -> None:
        """Looks at what is known so far; from the tenth frame on, the next time after half as many frames again."""
        early = self._frames < FIRST_JUDGED
        self._next_judged = self._frames + (1 if early else min(self._frames, MEMORY_FRAMES) // 2)
        best = np.array(self._best)
        scale = _with_unit(best, self._spread, self._unit)
        if self._unit is None and early and scale.unit is ScoreUnit.none and scale.top != NOT_GIVEN:
            scale = AS_GIVEN
        if not early:
            known = min(1.0, (self._frames - FIRST_JUDGED) / (LAST_JUDGED - FIRST_JUDGED))
            scale = _stretched(scale, best, EARLY_DISCOUNT * (1 - known))
        self.scale = scale
