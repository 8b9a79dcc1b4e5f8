"""Geometry of the track timeline: which rectangle stands for which stretch of which track."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trackweave.formats.colours import css, track_colour
from trackweave.report.reading import TrackLife

ROWS = 40
WIDTH = 1000.0
ROW_HEIGHT = 15.0


@dataclass(frozen=True)
class Bar:
    """A stretch on which a track is visible, in units of the drawing."""

    x: float
    width: float


@dataclass(frozen=True)
class Row:
    """One track of the timeline; `prompt` is where its prompt frame lies, or None."""

    track_id: int
    colour: str
    y: float
    bars: Sequence[Bar]
    prompt: float | None
    hint: str


@dataclass(frozen=True)
class Tick:
    """A labelled frame of the axis."""

    x: float
    text: str


@dataclass(frozen=True)
class Timeline:
    """A drawing of `width` × `height` units; `hidden` tracks are shorter than those shown."""

    rows: Sequence[Row]
    ticks: Sequence[Tick]
    hidden: int
    width: float = WIDTH
    row_height: float = ROW_HEIGHT

    @property
    def height(self) -> float:
        """Height of all rows, without the axis."""
        return self.row_height * len(self.rows)


def draw_timeline(tracks: Sequence[TrackLife], frames: Sequence[int]) -> Timeline:
    """Lays out the longest tracks, in order of their first frame.

    Args:
        tracks: when each was visible.
        frames: absolute indices of the run's frames, ascending; without them every index between the tracks' first
            and last counts as a frame.
    """
    if not tracks:
        return Timeline([], [], 0)
    axis = np.array(sorted(frames) or range(min(_first(t) for t in tracks), max(_last(t) for t in tracks) + 1))
    unit = WIDTH / len(axis)
    shown = sorted(tracks, key=lambda track: (-_length(track, axis), track.track_id))[:ROWS]
    shown.sort(key=lambda track: (_first(track), track.track_id))
    rows = [
        Row(
            track.track_id,
            css(track_colour(track.track_id)),
            n * ROW_HEIGHT,
            [Bar(start * unit, (stop - start) * unit) for start, stop in _positions(track, axis)],
            _prompt(track, axis, unit),
            _hint(track, axis),
        )
        for n, track in enumerate(shown)
    ]
    marks = np.unique(np.linspace(0, len(axis) - 1, min(6, len(axis))).round().astype(int))
    ticks = [Tick(float((mark + 0.5) * unit), str(axis[mark])) for mark in marks]
    return Timeline(rows, ticks, len(tracks) - len(shown))


def _positions(track: TrackLife, axis: np.ndarray) -> list[tuple[int, int]]:
    """Spans as positions on the axis, end excluded; spans that touch are one."""
    spans = np.array(sorted(track.spans), np.int64).reshape(-1, 2)
    starts, stops = np.searchsorted(axis, spans[:, 0]), np.searchsorted(axis, spans[:, 1], side="right")
    joined: list[tuple[int, int]] = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        elif stop > start:
            joined.append((start, stop))
    return joined


def _prompt(track: TrackLife, axis: np.ndarray, unit: float) -> float | None:
    if track.prompt_frame is None or track.prompt_frame not in axis:
        return None
    return float((np.searchsorted(axis, track.prompt_frame) + 0.5) * unit)


def _length(track: TrackLife, axis: np.ndarray) -> int:
    return sum(stop - start for start, stop in _positions(track, axis))


def _first(track: TrackLife) -> int:
    return min((first for first, _ in track.spans), default=0)


def _last(track: TrackLife) -> int:
    return max((last for _, last in track.spans), default=0)


def _hint(track: TrackLife, axis: np.ndarray) -> str:
    parts = [f"track {track.track_id}: {_length(track, axis)} frames, {_first(track)} – {_last(track)}"]
    if track.prompt_frame is not None:
        parts.append(f"prompted on {track.prompt_frame}")
    if track.mean_area is not None:
        parts.append(f"mean area {track.mean_area:,.0f} px")
    if track.mean_score is not None:
        parts.append(f"mean score {track.mean_score:.2f}")
    return ", ".join(parts)
