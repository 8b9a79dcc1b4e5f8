"""`report.html`: what a run did, on one page that can be sent to a colleague."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from trackweave.reports.contents import LevelSection, PageContents, read_contents
from trackweave.reports.embedded import script, shell, style
from trackweave.storage.files import remove_leftovers_of, replacing
from trackweave.storage.run import RunPaths
from trackweave.structures.run_summary import BoxSummary, MaskSummary
from trackweave.visualization.annotators import contrasting, css, track_colour

TEMPLATE = "report.html.j2"
COUNT_NAMES = {
    "frames": "frames",
    "candidate_frames": "candidate frames",
    "candidates": "candidates",
    "prompts": "prompts",
    "objects": "tracks",
    "object_frames": "masks",
}


def report(run: str | os.PathLike[str]) -> Path:
    """Writes `RUN/report.html` from what the run left: summary, manifest, frame list, comparison images, video.

    The page is a read-only edition of the viewer: tracks by doubt, timeline, a click goes there. It has style, script,
    tracks and boxes inside, and refers to images and video below the run folder by relative names: it works from the
    disk, without a network, wherever the folder is moved.

    Args:
        run: a run, or its folder.

    Returns:
        the page.

    Raises:
        ArtifactError: there is no run summary, it is damaged, or the page cannot be written.
        ArtifactVersionError: the summary is of a newer schema.
    """
    run_dir = Path(run)
    text = render_report(read_contents(run_dir))
    page = RunPaths(run_dir).report
    remove_leftovers_of(page)
    with replacing(page) as temporary:
        # A name that is not UTF-8 holds lone surrogates: the page shows them as `\\udcXX`, as the JSON files do.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return page


def render_report(contents: PageContents) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("trackweave.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        duration=format_duration, count=format_count, json=_indented, colour=_css_of, ink=_ink_of, percent=_percent
    )
    summary = contents.summary
    code = "\n" + script() if contents.viewer is not None else ""
    boxes = summary if isinstance(summary, BoxSummary) else None
    return environment.get_template(TEMPLATE).render(
        run=contents,
        predictor=_predictor(summary),
        histogram=_length_histogram(boxes),
        switches=sorted(boxes.suspected_switches, key=lambda event: -event["confidence"]) if boxes else [],
        skipped=boxes.skipped if boxes else {},
        counters=_counters(summary),
        command=summary.command,
        recorded=_recorded(contents),
        cards=_cards(contents),
        style=Markup(style()),
        shell=Markup(shell()),
        script=Markup(code),
        policy=_policy(code),
        held=None if contents.viewer is None else Markup(_inert(contents.viewer)),
        level_cards={level.level: _level_cards(level) for level in contents.levels},
    )


def format_duration(seconds: float) -> str:
    """Seconds for people.

    >>> [format_duration(s) for s in (0.0042, 3.14159, 75, 7300)]
    ['4 ms', '3.1 s', '1 min 15 s', '2 h 1 min']
    """
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_count(value: object) -> str:
    """Whole numbers with a thin space between thousands; anything else as it is.

    >>> format_count(1234567), format_count(0.25)
    ('1\u202f234\u202f567', '0.25')
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}".replace(",", "\u202f")
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _cards(contents: PageContents) -> list[tuple[str, str]]:
    """The numbers at the top: value, caption."""
    summary = contents.summary
    frames = len(contents.frames) or max((level.counts.get("frames", 0) for level in contents.levels), default=0)
    cards = [(format_count(frames), "frames")]
    if contents.size is not None:
        cards.append((f"{contents.size[1]} × {contents.size[0]}", "pixels"))
    cards.append((format_count(summary.track_count), "tracks"))
    masks = summary.mask_count if isinstance(summary, MaskSummary) else 0
    if masks:
        cards.append((format_count(masks), "masks"))
    if isinstance(summary, BoxSummary) and summary.association_fps is not None:
        cards.append((format_count(round(summary.association_fps)), "frames/s association"))
    expected = summary.expected_switches if isinstance(summary, BoxSummary) else None
    if expected is not None:
        value = f"{expected['expected']:.0f} ({expected['low']} to {expected['high']})"
        cards.append((value, "identity switches expected"))
    cuts = summary.input.cuts
    if cuts:
        cards.append((format_count(len(cuts) + 1), "shots"))
    seconds = sum(stage.seconds for stage in contents.stages if stage.depth == 0)
    if seconds:
        cards.append((format_duration(seconds), "run time"))
    memory = summary.peak_rss_mb
    if memory is not None:
        cards.append((f"{memory / 1024:.1f} GiB" if memory >= 1024 else f"{memory:.0f} MiB", "peak memory"))
    return cards


def _level_cards(level: LevelSection) -> list[tuple[str, str]]:
    """A level's counts: those that every run has first, then what else it counted."""
    first = [(format_count(level.counts[key]), name) for key, name in COUNT_NAMES.items() if key in level.counts]
    others = [
        (format_count(value), key.replace("_", " ")) for key, value in level.counts.items() if key not in COUNT_NAMES
    ]
    return first + others


def _predictor(summary: MaskSummary | BoxSummary) -> str:
    """`name (detail, detail): reason` of the predictor; of a box run, where its detections came from."""
    if isinstance(summary, BoxSummary):
        detections = summary.detections
        if detections.get("kind") == "file":
            return f"detections {detections.get('path', '')}"
        return f"detector {detections.get('name', '')}: {detections.get('reason', '')}"
    predictor = summary.predictor
    if predictor is None:
        return "unknown predictor"
    simple = {key: value for key, value in predictor.details.items() if isinstance(value, str | int | float)}
    details = ", ".join(f"{key} {value}" for key, value in simple.items())
    reason = "" if predictor.reason is None else f": {predictor.reason}"
    reason = reason.replace(f": auto: {predictor.name}, ", ", ", 1)  # it is named already
    return f"predictor {predictor.name}{f' ({details})' if details else ''}{reason}"


def _counters(summary: MaskSummary | BoxSummary) -> Mapping[str, float]:
    """What the predictor counted: passes of the image encoder, masks moved by a frame; empty without any."""
    predictor = summary.predictor if isinstance(summary, MaskSummary) else None
    return {} if predictor is None else {name.replace("_", " "): n for name, n in predictor.counters.items()}


def _length_histogram(summary: BoxSummary | None) -> list[tuple[str, int, float]]:
    """Rows of how long tracks lived: `10 – 29`, tracks, share of the largest row; empty for runs without it."""
    lengths = summary.track_lengths if summary is not None else {}
    starts, counts = lengths.get("from", []), lengths.get("tracks", [])
    ends = [*(f"{start} – {end - 1}" if end - start > 1 else f"{start}" for start, end in pairwise(starts))]
    names = [*ends, f"{starts[-1]} and more"] if starts else []
    largest = max(counts, default=0) or 1
    return [(name, count, count / largest) for name, count in zip(names, counts, strict=False)]


def _recorded(contents: PageContents) -> list[tuple[str, object]]:
    """What the run recorded about itself as it is, with titles."""
    manifest, summary = contents.manifest, contents.summary
    parts: list[tuple[str, object]] = [("Input", manifest.get("input")), ("Settings", manifest.get("config"))]
    if isinstance(summary, MaskSummary) and summary.predictor is not None:
        parts.append(("Predictor", summary.predictor.to_json()))
    if isinstance(summary, BoxSummary):
        parts += [("Visibility", summary.visibility), ("Camera", summary.camera), ("Training samples", summary.log)]
    return [(title, value) for title, value in parts if value]


def _policy(code: str) -> str:
    """Content-Security-Policy: the page's own script runs and nothing else, whatever a name in the run says."""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode("ascii")
    files = "'self' data: blob: file:"
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src {files}; "
        f"media-src {files}; base-uri 'none'; form-action 'none'"
    )


def _inert(value: object) -> str:
    """JSON that no browser takes for markup."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _indented(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _css_of(track_id: int) -> str:
    return css(track_colour(track_id))


def _ink_of(track_id: int) -> str:
    return css(contrasting(track_colour(track_id)))
