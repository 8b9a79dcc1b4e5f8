"""Offline refinement of finished tracks: what is only possible when the whole video is tracked.

Three steps, each optional: short tracks out, gaps filled, boxes smoothed. None of them changes an identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, SettingError
from trackweave.masks.packed import PackedMasks
from trackweave.mot.settings import SMOOTHING_DEGREE, RefinementSettings, window_fault
from trackweave.structures.tracks import Tracks

SCORE_DECAY = 0.9
"""An interpolated box keeps this share of the score per frame to the nearer observation."""


@dataclass(frozen=True)
class RefinedTracks:
    """Tracks after refinement, and what was done.

    Attributes:
        tracks: the refined tracks.
        is_interpolated: `(N,)` bool, rows of `tracks` that were not observed.
        removed_ids: `(K,)` int64, tracks that are gone, ascending.
    """

    tracks: Tracks
    is_interpolated: NDArray[np.bool_]
    removed_ids: NDArray[np.int64]

    @property
    def interpolated(self) -> int:
        """How many rows were added."""
        return int(np.count_nonzero(self.is_interpolated))

    @property
    def removed(self) -> int:
        """How many tracks were removed."""
        return len(self.removed_ids)


def refine(tracks: Tracks, settings: RefinementSettings, *, times: Sequence[float] | None = None) -> RefinedTracks:
    """Removes short tracks, fills gaps, smooths: in this order, so that only observations count for a track's length.

    Args:
        tracks: of a whole video.
        settings: which of the three, and how much.
        times: seconds by absolute frame index, for videos with uneven frames; see `interpolate_gaps`.

    Raises:
        InputError: times that do not rise, or too few of them.
    """
    kept, removed_ids = remove_short(
        tracks, min_length=settings.min_track_length, min_mean_score=settings.min_mean_score
    )
    filled, is_interpolated = interpolate_gaps(kept, settings.interpolate_max_gap, times=times)
    return RefinedTracks(smooth_tracks(filled, settings.smooth_window), is_interpolated, removed_ids)


def interpolate_gaps(
    tracks: Tracks, max_gap: int = 20, *, times: Sequence[float] | None = None
) -> tuple[Tracks, NDArray[np.bool_]]:
    """Fills the frames between two observations of a track with boxes on the straight line between them.

    The score of a filled row is the lower of both ends' times 0.9 per frame to the nearer end: the deeper in the gap,
    the less sure. Its class is that of the end before; its mask, where tracks have masks, is empty. Observed rows are
    copied as they are. As in ByteTrack (Zhang et al., ECCV 2022, section 3), whose gaps are also up to 20 frames.

    Args:
        tracks: of a whole video.
        max_gap: longest gap that is filled, in missing frames; 0 fills none.
        times: seconds by absolute frame index, strictly rising; boxes then move evenly in time, not per frame.

    Returns:
        The filled tracks, and `(N,)` bool: which of their rows were added.

    >>> line = Tracks.from_columns([0, 3], [7, 7], [[0, 0, 2, 2], [6, 0, 8, 2]], [0.8, 1.0])
    >>> filled, added = interpolate_gaps(line)
    >>> filled.xyxy[:, 0].tolist(), added.tolist(), filled.score.round(2).tolist()
    ([0.0, 2.0, 4.0, 6.0], [False, True, True, False], [0.8..., 0.72..., 0.72..., 1.0])

    Raises:
        SettingError: a negative `max_gap`.
        InputError: times that do not rise, or too few of them.
    """
    if max_gap < 0:
        raise SettingError(f"the longest gap to fill is 0 frames or more, not {max_gap}")
    order = np.lexsort((tracks.frame, tracks.track_id))
    before, after = order[:-1], order[1:]
    missing = tracks.frame[after] - tracks.frame[before] - 1
    fillable = (tracks.track_id[after] == tracks.track_id[before]) & (missing > 0) & (missing <= max_gap)
    if not fillable.any():
        return tracks, np.zeros(len(tracks), np.bool_)
    return _joined(tracks, _between(tracks, before[fillable], after[fillable], missing[fillable], times))


def remove_short(
    tracks: Tracks, *, min_length: int = 0, min_mean_score: float = 0.0
) -> tuple[Tracks, NDArray[np.int64]]:
    """Removes tracks with fewer observations than `min_length`, or a mean score below `min_mean_score`.

    Returns:
        The tracks that stay, and `(K,)` int64 ids of those removed, ascending.

    >>> kept, gone = remove_short(Tracks.from_columns([0, 0, 1], [1, 2, 2], [[0, 0, 1, 1]] * 3), min_length=2)
    >>> kept.track_id.tolist(), gone.tolist()
    ([2, 2], [1])
    """
    ids, position, lengths = np.unique(tracks.track_id, return_inverse=True, return_counts=True)
    mean_score = np.bincount(position, tracks.score.astype(np.float64), len(ids)) / np.maximum(lengths, 1)
    # Scores are float32: a mean that equals the limit in that precision is not below it.
    short = (lengths < min_length) | (mean_score.astype(np.float32) < np.float32(min_mean_score))
    if not short.any():
        return tracks, ids[short]
    return tracks[~short[position]], ids[short]


def smooth_tracks(tracks: Tracks, window: int) -> Tracks:
    """Takes the jitter out of boxes: centre and size by local quadratics over a window of frames.

    Savitzky & Golay, "Smoothing and differentiation of data by simplified least squares procedures", 1964. Frames
    must follow each other: a gap ends a piece, and a piece shorter than the window gets the longest odd window that
    fits, or stays as it is below 5 frames. A box never gets smaller than the smallest of its piece.

    Args:
        tracks: of a whole video.
        window: frames, odd and at least 5; 0 changes nothing.

    Raises:
        SettingError: another window.
    """
    _check_window(window)
    if window == 0 or not len(tracks):
        return tracks
    order = np.lexsort((tracks.frame, tracks.track_id))
    track, frame = tracks.track_id[order], tracks.frame[order]
    boxes = tracks.xyxy[order].astype(np.float64)
    shape = np.concatenate([boxes[:, :2] + boxes[:, 2:], boxes[:, 2:] - boxes[:, :2]], axis=1)
    starts = np.flatnonzero(np.r_[True, (track[1:] != track[:-1]) | (frame[1:] != frame[:-1] + 1)])
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
        shape[start:end] = _smoothed(shape[start:end], window)
    boxes = 0.5 * np.concatenate([shape[:, :2] - shape[:, 2:], shape[:, :2] + shape[:, 2:]], axis=1)
    xyxy = np.empty_like(tracks.xyxy)
    xyxy[order] = boxes
    return Tracks(tracks.frame, tracks.track_id, xyxy, tracks.score, tracks.class_id, tracks.masks)


def _smoothed(piece: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """One unbroken piece `(n, 4)` of twice the centre, width and height."""
    window = min(window, len(piece) - 1 + len(piece) % 2)
    if window <= SMOOTHING_DEGREE + 1:
        return piece
    from scipy.signal import savgol_filter  # slow to import, rarely used

    smooth: NDArray[np.float64] = savgol_filter(piece, window, SMOOTHING_DEGREE, axis=0, mode="interp")
    smooth[:, 2:] = np.maximum(smooth[:, 2:], piece[:, 2:].min(axis=0))
    return smooth


def _between(
    tracks: Tracks,
    before: NDArray[np.intp],
    after: NDArray[np.intp],
    missing: NDArray[np.int64],
    times: Sequence[float] | None,
) -> Tracks:
    """The rows of gaps whose ends are rows `before` and `after` and that lack `missing` frames each."""
    gap = np.repeat(np.arange(len(missing)), missing)
    step = np.arange(len(gap)) - np.repeat(np.cumsum(missing) - missing, missing) + 1  # 1 … missing inside each gap
    start, end = before[gap], after[gap]
    frame = tracks.frame[start] + step
    moment = _moments(tracks, times)
    share = (moment(frame) - moment(tracks.frame[start])) / (moment(tracks.frame[end]) - moment(tracks.frame[start]))
    first, last = tracks.xyxy[start].astype(np.float64), tracks.xyxy[end].astype(np.float64)
    distance = np.minimum(step, missing[gap] + 1 - step)
    return Tracks.from_columns(
        frame,
        tracks.track_id[start],
        first + share[:, None] * (last - first),
        np.minimum(tracks.score[start], tracks.score[end]) * SCORE_DECAY**distance,
        tracks.class_id[start],
        None if tracks.masks is None else PackedMasks.empty(*tracks.masks.size, count=len(gap)),
    )


def _moments(tracks: Tracks, times: Sequence[float] | None) -> Any:
    """Function from frame indices to times; the index itself without times."""
    if times is None:
        return lambda frame: frame
    seconds = np.asarray(times, np.float64)
    last = int(tracks.frame.max())
    if last >= len(seconds):
        raise InputError(f"tracks reach frame {last}, but there are times of {len(seconds)} frames only")
    steps = np.diff(seconds)
    if not (steps > 0).all():
        raise InputError(f"times must rise: frame {int(np.argmin(steps > 0)) + 1} is not after the one before")
    return lambda frame: seconds[frame]


def _joined(tracks: Tracks, added: Tracks) -> tuple[Tracks, NDArray[np.bool_]]:
    """Both in one record, and which of its rows are `added`."""
    order = np.lexsort((np.concatenate([tracks.track_id, added.track_id]), np.concatenate([tracks.frame, added.frame])))
    return Tracks.concat([tracks, added]), order >= len(tracks)


def _check_window(window: int) -> None:
    fault = window_fault(window)
    if fault is not None:
        raise SettingError(f"smooth_window {fault}")
