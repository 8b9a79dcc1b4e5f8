"""How many identity switches tracks likely have, without truth: as CLEAR MOT counts them, with an interval.

Two things are added up: the doubts of the links, and tracks that begin inside the picture near where another one was
lost. How much each counts and how far the number scatters (a negative binomial distribution) was fitted on simulated
crowds; `benchmarks/forecast.py` does it, and says how often the interval holds on public sequences.

Thousands of tiny doubts add up, whether or not they mean anything: in a crowd they do, on a calm road they do not, and
the boxes do not tell which it is. So the interval begins where they count for nothing, and ends where they count in
full.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trackweave.corrections.doubt import VELOCITY_LINKS, link_doubt
from trackweave.structures.run_summary import ExpectedSwitches
from trackweave.structures.tracks import Tracks

PER_DOUBT, PER_RESTART, ALWAYS = 0.96, 0.27, 0.3
"""Switches for each link that is wrong as far as the boxes tell, for each restart, and for any tracks at all …"""
DISPERSION = 3.0
"""… and the parameter r of the negative binomial: the variance is mean + mean² / r."""
SMALL = 0.03
"""Doubts up to this may come to nothing …"""
COVERAGE = 0.9
"""… otherwise the share of videos whose switches the interval holds, as far as they are like the simulated ones."""

BORDER = 0.02
"""Of the picture's sides, but the bottom: nearer boxes may come in or leave there."""
MOST_FRAMES, NEAREST, DRIFT, HEIGHT_RATIO = 90, 0.7, 1 / 30, 0.4
"""A restart: a track was lost at most so many frames before, so near in heights, and more by each frame; and the
logarithm of the ratio of their heights is at most this."""
PART = 128
"""Frames of which links are looked at together."""
KEPT = 2_000
"""Frames for which a track without a box is remembered."""


@dataclass(frozen=True)
class SwitchForecast:
    """How many identity switches there are.

    Attributes:
        expected: on average over videos like this.
        low, high: between which the number lies in at least 9 of 10 videos, both included.
    """

    expected: float
    low: int
    high: int

    def to_json(self) -> ExpectedSwitches:
        """As JSON values."""
        return {"expected": round(self.expected, 1), "low": self.low, "high": self.high}


@dataclass(eq=False)
class SwitchForecaster:
    """Counts what speaks for switches in tracks that come in parts, in the order of frames; memory grows with the
    number of tracks, not with that of frames.

    Args:
        size: `(H, W)` of the frames; None: what all boxes lie in.

    Attributes:
        doubts: sum of the doubts of all links, what is held back for the next part aside.
        large_doubts: sum of those above `SMALL`.
    """

    size: tuple[int, int] | None = None
    doubts: float = field(default=0.0, init=False)
    large_doubts: float = field(default=0.0, init=False)
    _parts: list[Tracks] = field(default_factory=list, init=False)
    _held: Tracks | None = field(default=None, init=False)
    _first: dict[int, tuple[int, tuple[float, ...]]] = field(default_factory=dict, init=False)
    _last: dict[int, tuple[int, tuple[float, ...]]] = field(default_factory=dict, init=False)
    _extent: NDArray[np.float64] = field(
        default_factory=lambda: np.array([np.inf, np.inf, -np.inf, -np.inf]), init=False
    )

    def add(self, tracks: Tracks) -> None:
        """Takes the next part; whole frames."""
        if not len(tracks):
            return
        self._parts.append(tracks)
        if int(tracks.frame[-1]) - int(self._parts[0].frame[0]) >= PART:
            self._look()

    def _look(self) -> None:
        """Adds the links of what was taken since the last time."""
        if not self._parts:
            return
        fresh = _joined(self._parts)
        self._parts = []
        held = self._held if self._held is not None else fresh[:0]
        both = _joined([held, fresh])
        doubt = link_doubt(both).doubt[len(held) :]
        self.doubts += float(doubt.sum())
        self.large_doubts += float(doubt[doubt > SMALL].sum())
        self._note_ends(fresh)
        self._held = _last_of_each(both, int(fresh.frame[-1]) - KEPT)

    def _note_ends(self, tracks: Tracks) -> None:
        order = np.lexsort((tracks.frame, tracks.track_id))
        ids = tracks.track_id[order]
        is_first = np.r_[True, ids[1:] != ids[:-1]]
        is_last = np.r_[is_first[1:], True]
        for first, last in zip(order[is_first].tolist(), order[is_last].tolist(), strict=True):
            number = int(tracks.track_id[first])
            self._first.setdefault(number, (int(tracks.frame[first]), tuple(tracks.xyxy[first].tolist())))
            self._last[number] = (int(tracks.frame[last]), tuple(tracks.xyxy[last].tolist()))
        boxes = tracks.xyxy.astype(np.float64)
        self._extent[:2] = np.minimum(self._extent[:2], boxes[:, :2].min(axis=0))
        self._extent[2:] = np.maximum(self._extent[2:], boxes[:, 2:].max(axis=0))

    def restarts(self) -> int:
        """Tracks that begin inside the picture near where another one was lost shortly before."""
        self._look()
        if not self._first:
            return 0
        (first, first_boxes), (last, last_boxes) = (_ends(each) for each in (self._first, self._last))
        begins = self._inside(first_boxes) & (first > first.min())
        ends = self._inside(last_boxes) & (last < last.max())
        first, first_boxes, last, last_boxes = first[begins], first_boxes[begins], last[ends], last_boxes[ends]
        order = np.argsort(last, kind="stable")
        last, last_boxes = last[order], last_boxes[order]
        count = 0
        for frame, box in zip(first.tolist(), first_boxes, strict=True):
            low, high = np.searchsorted(last, [frame - MOST_FRAMES, frame])
            count += bool(_is_near(box, last_boxes[low:high], frame - last[low:high]).any())
        return count

    def _inside(self, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        x1, y1, x2, y2 = self._extent if self.size is None else (0.0, 0.0, float(self.size[1]), float(self.size[0]))
        x, y = BORDER * (x2 - x1), BORDER * (y2 - y1)
        return np.asarray(
            (boxes[:, 0] > x1 + x) & (boxes[:, 1] > y1 + y) & (boxes[:, 2] < x2 - x) & (boxes[:, 3] < y2), np.bool_
        )

    def result(self) -> SwitchForecast:
        """The forecast for what was taken so far."""
        restarts = self.restarts()
        if not self._first:
            return SwitchForecast(0.0, 0, 0)
        rest = PER_RESTART * restarts + ALWAYS
        return forecast(PER_DOUBT * self.doubts + rest, PER_DOUBT * self.large_doubts + rest)


def forecast(expected: float, least: float | None = None) -> SwitchForecast:
    """The interval around an expected number: quantiles of a negative binomial distribution.

    Args:
        expected: on average.
        least: on average if what may come to nothing does; None: there is nothing like that.

    >>> forecast(20.0)
    SwitchForecast(expected=20.0, low=4, high=44)
    >>> forecast(20.0, 8.0)
    SwitchForecast(expected=20.0, low=1, high=44)
    """
    low = _quantile(expected if least is None else least, (1 - COVERAGE) / 2)
    return SwitchForecast(expected, low, _quantile(expected, (1 + COVERAGE) / 2))


def _quantile(mean: float, share: float) -> int:
    """The least number that so large a share of videos does not exceed."""
    from scipy.special import betainc

    numbers = np.arange(int(20 * mean) + 50)
    return int(np.searchsorted(betainc(DISPERSION, numbers + 1.0, DISPERSION / (DISPERSION + mean)), share))


def forecast_of(tracks: Tracks, size: tuple[int, int] | None = None) -> SwitchForecast:
    """The forecast for whole tracks."""
    forecaster = SwitchForecaster(size)
    forecaster.add(tracks)
    return forecaster.result()


def _is_near(box: NDArray[np.float64], others: NDArray[np.float64], gap: NDArray[np.int64]) -> NDArray[np.bool_]:
    heights = np.maximum(others[:, 3] - others[:, 1], 1e-3)
    height = max(float(box[3] - box[1]), 1e-3)
    offset = (others[:, :2] + others[:, 2:] - box[:2] - box[2:]) / 2
    distance = np.hypot(offset[:, 0], offset[:, 1]) / np.sqrt(heights * height)
    is_alike = np.abs(np.log(heights / height)) < HEIGHT_RATIO
    return np.asarray((distance < NEAREST + DRIFT * gap) & is_alike, np.bool_)


def _ends(of: dict[int, tuple[int, tuple[float, ...]]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """`(T,)` frames and `(T, 4)` boxes."""
    frames, boxes = zip(*of.values(), strict=True)
    return np.array(frames, np.int64), np.array(boxes, np.float64)


def _last_of_each(tracks: Tracks, first: int) -> Tracks:
    """The last observations of each track, as many as a velocity takes, from a frame on."""
    order = np.lexsort((tracks.frame, tracks.track_id))[::-1]
    ids = tracks.track_id[order]
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    place = np.arange(len(ids)) - np.repeat(starts, np.diff(np.r_[starts, len(ids)]))
    kept = np.sort(order[place <= VELOCITY_LINKS])
    return tracks[kept[tracks.frame[kept] >= first]]


def _joined(parts: list[Tracks]) -> Tracks:
    """Parts one after the other, without masks."""
    frame, track_id, xyxy, score = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("frame", "track_id", "xyxy", "score")
    )
    return Tracks.from_columns(frame, track_id, xyxy, score)
