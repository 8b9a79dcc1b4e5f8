"""The distributions of logged samples as one SVG: every feature, and the cost of matched and of unmatched pairs.

Streams that do not fit into memory are thinned to a bounded number of rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from trackweave.storage.samples import AssociationSample, SampleColumns

CAPACITY = 1 << 15
"""Rows that a distribution keeps; enough for a histogram whose bars are accurate to a few per cent."""


class ThinnedRows:
    """Every k-th row of a stream, k doubled whenever too many are kept: the same rows on every run.

    >>> rows = ThinnedRows(1, capacity=4)
    >>> rows.add(np.arange(10.0)[:, None])
    >>> rows.count, rows.rows[:, 0].tolist()
    (10, [0.0, 4.0, 8.0])
    """

    def __init__(self, columns: int, capacity: int = CAPACITY) -> None:
        self.count = 0
        self._capacity = capacity
        self._stride = 1
        self._kept = 0
        self._chunks: list[NDArray[np.float32]] = [np.zeros((0, columns), np.float32)]

    def add(self, rows: NDArray[Any]) -> None:
        """Takes the next rows, `(N, columns)`."""
        chunk = rows[-self.count % self._stride :: self._stride].astype(np.float32)
        self.count += len(rows)
        self._chunks.append(chunk)
        self._kept += len(chunk)
        while self._kept > self._capacity:
            self._chunks = [self.rows[::2]]
            self._kept = len(self._chunks[0])
            self._stride *= 2

    @property
    def rows(self) -> NDArray[np.float32]:
        """`(at most capacity, columns)` float32, evenly from the whole stream so far."""
        return np.concatenate(self._chunks)


@dataclass
class Distributions:
    """What `inspect_samples` collects for the figure.

    Attributes:
        tracks: rows of `track_features`.
        detections: rows of `det_features`, with a last column that is 1 for detections that were matched.
        matched_detections: how many of them were matched.
        matched_cost: cost of the pairs that were matched.
        other_cost: cost of the pairs that the gates allowed, but were not matched.
    """

    tracks: ThinnedRows = field(default_factory=lambda: ThinnedRows(len(SampleColumns.TRACKS)))
    detections: ThinnedRows = field(default_factory=lambda: ThinnedRows(len(SampleColumns.DETECTIONS) + 1))
    matched_detections: int = 0
    matched_cost: ThinnedRows = field(default_factory=lambda: ThinnedRows(1))
    other_cost: ThinnedRows = field(default_factory=lambda: ThinnedRows(1))

    def add(self, sample: AssociationSample) -> None:
        """Takes the next sample."""
        pairs = sample.track_ids[:, None] == sample.assigned_track_ids
        self.tracks.add(sample.track_features)
        matched = pairs.any(axis=0)
        self.detections.add(np.column_stack([sample.det_features, matched]))
        self.matched_detections += int(matched.sum())
        self.matched_cost.add(sample.cost_matrix[pairs][:, None])
        self.other_cost.add(sample.cost_matrix[(sample.mask_matrix > 0) & ~pairs][:, None])


_BINS = 32
_TRIM = 0.5  # per cent at either end that the axis leaves out: one outlier must not squeeze the rest
_WIDTH, _MARGIN, _GAP = 1200.0, 40.0, 28.0
_HEADER_HEIGHT, _PLOT_HEIGHT, _ROW_HEIGHT = (
    34.0,
    88.0,
    170.0,
)  # above the bars, the bars, from one row of panels to the next
_FOREGROUND, _MUTED, _GRID, _BACKGROUND = "#1f2328", "#656d76", "#d8dee4", "#ffffff"
_BLUE, _ORANGE = "#2f6fd0", "#e07b39"
_FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"

_UNITS = {
    "x1": "x1 / width",
    "y1": "y1 / height",
    "x2": "x2 / width",
    "y2": "y2 / height",
    "age": "age / 100 frames",
    "gap": "since update / 50 frames",
    "score": "score",
    "visibility": "visibility",
}
_TRACK_TITLES = {**_UNITS, "vx": "vx / width per frame", "vy": "vy / height per frame"}
_DET_TITLES = {**_UNITS, "vx": "displacement x / width", "vy": "displacement y / height"}


@dataclass(frozen=True)
class _Histogram:
    name: str
    colour: str
    values: NDArray[np.float32]
    count: int


@dataclass(frozen=True)
class _Panel:
    title: str
    series: Sequence[_Histogram]
    unit_range: bool = False


def distributions_svg(distributions: Distributions, title: str, caption: str) -> str:
    """The figure; histograms show shares of each series, the counts beside them are those of the whole stream.

    Args:
        distributions: what is drawn.
        title: heading.
        caption: line below it.
    """
    sections = (
        ("Tracks", 5, _feature_panels(distributions.tracks, SampleColumns.TRACKS, _TRACK_TITLES)),
        ("Detections", 4, _feature_panels(distributions.detections, SampleColumns.DETECTIONS, _DET_TITLES)),
        ("What won and what lost", 3, _matched_panels(distributions)),
    )
    parts = [_text(_MARGIN, 46, title, 20, _FOREGROUND, weight=600), _text(_MARGIN, 68, caption, 13, _MUTED)]
    y = 92.0
    for heading, columns, panels in sections:
        parts.append(f"<line x1='{_MARGIN:g}' x2='{_WIDTH - _MARGIN:g}' y1='{y:g}' y2='{y:g}' stroke='{_GRID}'/>")
        parts.append(_text(_MARGIN, y + 26, heading, 15, _FOREGROUND, weight=600))
        y += 52
        panel_width = (_WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) / columns
        for i, panel in enumerate(panels):
            row, column = divmod(i, columns)
            parts += _draw(panel, _MARGIN + column * (panel_width + _GAP), y + row * _ROW_HEIGHT, panel_width)
        y += -(-len(panels) // columns) * _ROW_HEIGHT
    height = y + 12
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH:g} {height:g}' width='{_WIDTH:g}' "
        f"height='{height:g}' {_FONT} role='img'>\n<title>{escape(title)}</title>\n"
        f"<rect width='100%' height='100%' fill='{_BACKGROUND}'/>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _feature_panels(thinned: ThinnedRows, names: Sequence[str], titles: Mapping[str, str]) -> list[_Panel]:
    rows = thinned.rows
    return [
        _Panel(titles[name], [_Histogram("", _BLUE, rows[:, i], thinned.count)], name in ("score", "visibility"))
        for i, name in enumerate(names)
    ]


def _matched_panels(distributions: Distributions) -> list[_Panel]:
    """Cost, score and visibility, of matched against unmatched."""
    matched_cost, other_cost = distributions.matched_cost, distributions.other_cost
    costs = [
        _Histogram("matched", _BLUE, matched_cost.rows[:, 0], matched_cost.count),
        _Histogram("allowed, not matched", _ORANGE, other_cost.rows[:, 0], other_cost.count),
    ]
    rows = distributions.detections.rows
    matched = rows[:, -1] > 0
    matched_count = distributions.matched_detections
    other_count = distributions.detections.count - matched_count

    def panel(name: str) -> _Panel:
        column = rows[:, SampleColumns.DETECTIONS.index(name)]
        series = [
            _Histogram("matched", _BLUE, column[matched], matched_count),
            _Histogram("not matched", _ORANGE, column[~matched], other_count),
        ]
        return _Panel(f"{name} of detections", series, unit_range=True)

    return [_Panel("cost of pairs", costs), panel("score"), panel("visibility")]


def _draw(panel: _Panel, x: float, y: float, width: float) -> Iterator[str]:
    """Title and legend, bars, axis with its two ends; `(x, y)` is the top left corner."""
    yield _text(x, y, panel.title, 12, _FOREGROUND, weight=600)
    top, base = y + _HEADER_HEIGHT - 12, y + _HEADER_HEIGHT - 12 + _PLOT_HEIGHT
    nonempty = [series for series in panel.series if len(series.values)]
    yield _legend(panel.series, x, y + 15)
    yield f"<line x1='{x:g}' x2='{x + width:g}' y1='{base:g}' y2='{base:g}' stroke='{_GRID}'/>"
    if not nonempty:
        yield _text(x + width / 2, base - _PLOT_HEIGHT / 2, "nothing", 11, _MUTED, anchor="middle")
        return
    low, high = _range(panel)
    shares = [np.histogram(series.values, _BINS, (low, high))[0] / len(series.values) for series in nonempty]
    highest = max(float(share.max()) for share in shares) or 1.0
    for series, share in zip(nonempty, shares, strict=True):
        yield _bars(share / highest, series.colour, x, top, width, filled=series is nonempty[0])
    for value in _ticks(low, high):
        at = x + width * (value - low) / (high - low)
        yield f"<line x1='{at:.1f}' x2='{at:.1f}' y1='{base:g}' y2='{base + 4:g}' stroke='{_GRID}'/>"
        yield _text(at, base + 15, f"{value:.6g}", 10, _MUTED, anchor="middle")
    outside = sum(1 - float(share.sum()) for share in shares) / len(shares)
    if outside > 1e-6:
        yield _text(x + width, y + 15, f"{outside:.1%} outside", 10, _MUTED, anchor="end")


def _range(panel: _Panel) -> tuple[float, float]:
    if panel.unit_range:
        return 0.0, 1.0
    values = np.concatenate([series.values for series in panel.series])
    low, high = (float(v) for v in np.percentile(values, (_TRIM, 100 - _TRIM)))
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        return low - 0.5, high + 0.5
    pad = 0.02 * (high - low)
    return low - pad, high + pad


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers in a range, about four of them."""
    rough = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= rough)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _bars(heights: NDArray[np.float64], colour: str, x: float, top: float, width: float, *, filled: bool) -> str:
    """The first series as bars, a second one as an outline over them."""
    step = width / len(heights)
    edges = [(x + i * step, top + _PLOT_HEIGHT * (1 - float(h))) for i, h in enumerate(heights)]
    base = f"V{top + _PLOT_HEIGHT:.1f}"
    if filled:
        bars = "".join(f"M{left + 0.5:.1f} {top + _PLOT_HEIGHT:.1f}V{y:.1f}h{step - 1:.1f}{base}z" for left, y in edges)
        return f"<path d='{bars}' fill='{colour}' fill-opacity='0.85'/>"
    line = "".join(f"V{y:.1f}h{step:.1f}" for _, y in edges)
    style = f"fill='{colour}' fill-opacity='0.15' stroke='{colour}' stroke-width='1.8'"
    return f"<path d='M{x:.1f} {top + _PLOT_HEIGHT:.1f}{line}{base}' {style}/>"


def _legend(series: Sequence[_Histogram], x: float, y: float) -> str:
    """Counts; with names and colours when there is more than one series."""
    if len(series) == 1:
        return _text(x, y, f"n = {series[0].count:,}", 10, _MUTED)
    spans = "".join(
        f"<tspan fill='{entry.colour}'>■</tspan> {escape(entry.name)} ({entry.count:,})&#160;&#160; "
        for entry in series
    )
    return f"<text x='{x:g}' y='{y:g}' font-size='10' fill='{_MUTED}'>{spans}</text>"


def _text(x: float, y: float, text: str, size: int, colour: str, *, weight: int = 400, anchor: str = "start") -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' font-weight='{weight}' fill='{colour}' "
        f"text-anchor='{anchor}'>{escape(text)}</text>"
    )
