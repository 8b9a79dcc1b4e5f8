"""The report of a training, one HTML page with its curves that needs only a browser; and `evaluate_checkpoint`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

import numpy as np

from trackweave.association.dataset import load_samples
from trackweave.association.settings import DataSettings
from trackweave.association.training.checkpoint import ModelCheckpoint, ModelMetadata, load_checkpoint
from trackweave.association.training.metrics import AssociationMetrics, EpochRecord, compute_metrics
from trackweave.storage.files import refuse_overwriting, replacing
from trackweave.visualization.look import stylesheet

FIRST, SECOND, MUTED, GRID, FOREGROUND = (f"var(--{name})" for name in ("accent", "warn", "quiet", "line", "text"))
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 460.0, 250.0, 46.0, 14.0, 34.0

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Training of association · trackweave</title><style>
{style}
.plots {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 12px }}
</style></head><body><article class="document">
<h1>Training of association</h1>
<p class="quiet">trackweave · training report</p>
<div class="numbers">{cards}</div>
<section><h2>Training and validation</h2><div class="plots">{plots}</div></section>
<section><h2>Confusion by length of the gap</h2>
<p class="quiet">Tracks of the validation videos by the time since their last match, at the threshold.</p>
<div class="panel scrolled">{gaps}</div></section>
<section><h2>Data and settings</h2><div class="panel scrolled">{metadata}</div></section>
</article></body></html>
"""


@dataclass(frozen=True)
class Curve:
    """A line of a plot.

    Attributes:
        name: in the legend.
        colour: of the line.
        points: x and y.
        dots: draw the points, too.
    """

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


def write_report(path: Path, best: ModelCheckpoint, metrics: AssociationMetrics, epochs: Sequence[EpochRecord]) -> None:
    """Writes the page.

    Args:
        path: the file.
        best: the best checkpoint.
        metrics: its metrics on the validation videos.
        epochs: a record of each epoch.
    """
    page = _PAGE.format(
        style=stylesheet(),
        cards="".join(
            f'<div class="number"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
            for name, value in _cards(best, metrics)
        ),
        plots="".join(f'<div class="panel"><h3>{title}</h3>{plot}</div>' for title, plot in _plots(metrics, epochs)),
        gaps=_gap_table(metrics),
        metadata=_metadata_table(best.metadata),
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _cards(best: ModelCheckpoint, metrics: AssociationMetrics) -> list[tuple[str, str]]:
    return [
        ("precision of matches", f"{metrics.precision:.1%}"),
        ("recall of matches", f"{metrics.recall:.1%}"),
        ("threshold of probability", f"{best.threshold:.2f}"),
        ("validation loss", f"{metrics.loss:.4f}"),
        ("best epoch", str(best.metadata.get("epoch", "?"))),
        ("parameters", f"{best.metadata.get('parameters', 0):,}"),
    ]


def _plots(metrics: AssociationMetrics, epochs: Sequence[EpochRecord]) -> list[tuple[str, str]]:
    def over_epochs(key: Literal["loss", "val_loss", "precision", "recall"]) -> list[tuple[float, float]]:
        return [(row["epoch"], row[key]) for row in epochs]

    losses = [Curve("training", FIRST, over_epochs("loss")), Curve("validation", SECOND, over_epochs("val_loss"))]
    matches = [Curve("precision", FIRST, over_epochs("precision")), Curve("recall", SECOND, over_epochs("recall"))]
    by_threshold = [
        Curve("precision", FIRST, [(t, p) for t, p, _ in metrics.curve]),
        Curve("recall", SECOND, [(t, r) for t, _, r in metrics.curve]),
    ]
    calibration = [
        Curve("perfect", GRID, [(0, 0), (1, 1)]),
        Curve("validation", FIRST, [(predicted, actual) for predicted, actual, _ in metrics.calibration], dots=True),
    ]
    return [
        ("Loss by epoch", line_plot(losses, zero=True)),
        ("Matches by epoch", line_plot(matches)),
        ("Matches by threshold", line_plot(by_threshold)),
        ("Calibration: predicted probability, share that is right", line_plot(calibration, zero=True)),
    ]


def line_plot(curves: Sequence[Curve], *, zero: bool = False) -> str:
    """Curves as SVG, with a legend and two labelled axes; with `zero` the vertical axis begins at 0."""
    points = [point for curve in curves for point in curve.points]
    if not points:
        return "<p>nothing</p>"
    (low_x, high_x), (low_y, high_y) = (_span([point[axis] for point in points]) for axis in (0, 1))
    low_y = min(low_y, 0.0) if zero else low_y

    def to_pixels(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - low_x) / (high_x - low_x) * (WIDTH - LEFT - 12)
        return across, HEIGHT - BOTTOM - (y - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM)

    parts = [f"<svg viewBox='0 0 {WIDTH:g} {HEIGHT:g}' width='100%' role='img' font-size='11' fill='{MUTED}'>"]
    for step in range(5):
        x, y = low_x + step * (high_x - low_x) / 4, low_y + step * (high_y - low_y) / 4
        right, up = to_pixels(x, low_y)[0], to_pixels(low_x, y)[1]
        parts.append(f"<line x1='{LEFT:g}' x2='{WIDTH - 12:g}' y1='{up:.1f}' y2='{up:.1f}' stroke='{GRID}'/>")
        parts.append(f"<text x='{LEFT - 6:g}' y='{up + 4:.1f}' text-anchor='end'>{y:.3g}</text>")
        parts.append(f"<text x='{right:.1f}' y='{HEIGHT - 18:g}' text-anchor='middle'>{x:.3g}</text>")
    for number, curve in enumerate(curves):
        pixels = [to_pixels(x, y) for x, y in curve.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in pixels)
        parts.append(f"<path d='M{path}' fill='none' stroke='{curve.colour}' stroke-width='2'/>")
        if curve.dots or len(pixels) == 1:
            parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{curve.colour}'/>" for x, y in pixels]
        parts.append(
            f"<text x='{LEFT + 4 + 100 * number:g}' y='{HEIGHT - 3:g}' fill='{FOREGROUND}'>"
            f"<tspan fill='{curve.colour}'>■</tspan> {escape(curve.name)}</text>"
        )
    return "".join(parts) + "</svg>"


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high - low > 1e-9 else (low - 0.5, high + 0.5)


def _gap_table(metrics: AssociationMetrics) -> str:
    heads = ("since the last match", "right", "wrong", "missed", "rightly unmatched", "right of all")
    rows = []
    for row in metrics.gaps:
        total = row["right"] + row["wrong"] + row["missed"] + row["rightly_unmatched"]
        share = f"{(row['right'] + row['rightly_unmatched']) / total:.1%}" if total else ""
        cells = (row["gap"], row["right"], row["wrong"], row["missed"], row["rightly_unmatched"], share)
        rows.append("".join(f"<td>{cell:,}</td>" if isinstance(cell, int) else f"<td>{cell}</td>" for cell in cells))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{body}</table>"


def _metadata_table(metadata: ModelMetadata) -> str:
    def as_text(value: object) -> str:
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value[:12])) + (f" … ({len(value)})" if len(value) > 12 else "")
        if isinstance(value, dict):
            return ", ".join(f"{name} {part}" for name, part in value.items())
        return str(value)

    rows = [
        f"<tr><td>{escape(name.replace('_', ' '))}</td><td class='text'>{escape(as_text(value))}</td></tr>"
        for name, value in metadata.items()
        if name != "measures"
    ]
    return f"<table>{''.join(rows)}</table>"


def evaluate_checkpoint(
    checkpoint: Path | str, data: Sequence[Path], *, labels: str = "both", report: Path | None = None
) -> AssociationMetrics:
    """Evaluates a trained model on samples, those of all videos.

    Args:
        checkpoint: `best.pt` of a training.
        data: folders of samples.
        labels: as in `DataSettings`.
        report: page to write.

    Raises:
        ArtifactError: the checkpoint or a sample cannot be used, or there is too little.
        SettingError: no such labels.
    """
    model = load_checkpoint(checkpoint)
    if report is not None:
        refuse_overwriting([report], [checkpoint])
    settings = DataSettings.checked(labels=labels, allow_blended=labels != "tracker")
    samples = load_samples(data, settings, min_sequences=1)
    metrics = compute_metrics(model.model, samples, np.arange(len(samples)))
    if report is not None:
        write_report(report, model, metrics, ())
    return metrics
