"""`report.html`: what a run did, on one static page that can be sent to a colleague."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from trackweave.reports.run_summary import LevelFacts, RunFacts, draw_timeline, read_run
from trackweave.storage.files import replacing
from trackweave.storage.run import RunPaths
from trackweave.visualization.palette import css, ink_on, track_colour

TEMPLATE = "report.html.j2"
COUNT_NAMES = {
    "frames": "frames",
    "candidate_frames": "candidate frames",
    "candidates": "candidates",
    "prompts": "prompts",
    "objects": "tracks",
    "object_frames": "masks",
}


def write_report(run_dir: Path | str) -> Path:
    """Writes `RUN/report.html` from what the run left: summary, manifest, frame list, comparison pictures, video.

    The page has its style inside and refers to pictures below the run folder by relative names: it works from the
    disk, without a network, wherever the folder is moved.

    Returns:
        the page.

    Raises:
        ArtifactError: there is no run summary, it is damaged, or the page cannot be written.
        ArtifactVersionError: the summary is of a newer schema.
    """
    run_dir = Path(run_dir)
    text = render_report(read_run(run_dir))
    page = RunPaths(run_dir).report
    with replacing(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return page


def render_report(facts: RunFacts) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("trackweave.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        duration=format_duration, count=format_count, json=_pretty, colour=_css_of, ink=_ink_of, percent=_percent
    )
    return environment.get_template(TEMPLATE).render(
        facts=facts,
        predictor=_predictor(facts),
        histogram=_length_histogram(facts),
        switches=sorted(facts.summary.get("suspected_switches") or [], key=lambda event: -event["confidence"]),
        skipped=facts.summary.get("skipped") or {},
        work=_work(facts),
        command=_command(facts),
        recorded=_recorded(facts),
        cards=_cards(facts),
        timelines={level.level: draw_timeline(level.tracks, facts.frames) for level in facts.levels},
        level_cards={level.level: _level_cards(level) for level in facts.levels},
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


def format_count(value: Any) -> str:
    """Whole numbers with a thin space between thousands; anything else as it is.

    >>> format_count(1234567), format_count(0.25)
    ('1\u202f234\u202f567', '0.25')
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}".replace(",", "\u202f")
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _cards(facts: RunFacts) -> list[tuple[str, str]]:
    """The figures at the top: value, caption."""
    frames = len(facts.frames) or max((level.counts.get("frames", 0) for level in facts.levels), default=0)
    cards = [(format_count(frames), "frames")]
    if facts.size is not None:
        cards.append((f"{facts.size[1]} × {facts.size[0]}", "pixels"))
    tracks = sum(level.counts.get("objects", level.counts.get("tracks", 0)) for level in facts.levels)
    cards.append((format_count(tracks), "tracks"))
    masks = sum(level.counts.get("object_frames", 0) for level in facts.levels)
    if masks:
        cards.append((format_count(masks), "masks"))
    speed = facts.summary.get("association_fps")
    if isinstance(speed, int | float):
        cards.append((format_count(round(speed)), "frames/s association"))
    seconds = sum(stage.seconds for stage in facts.stages if stage.depth == 0)
    if seconds:
        cards.append((format_duration(seconds), "run time"))
    memory = facts.summary.get("peak_rss_mb")
    if isinstance(memory, int | float):
        cards.append((f"{memory / 1024:.1f} GiB" if memory >= 1024 else f"{memory:.0f} MiB", "peak memory"))
    return cards


def _level_cards(level: LevelFacts) -> list[tuple[str, str]]:
    """A level's figures: those that every run has first, then what else it counted."""
    counted = [(format_count(level.counts[key]), name) for key, name in COUNT_NAMES.items() if key in level.counts]
    others = [
        (format_count(value), key.replace("_", " ")) for key, value in level.counts.items() if key not in COUNT_NAMES
    ]
    return counted + others


def _predictor(facts: RunFacts) -> str:
    """`name (detail, detail): reason` of whatever the run recorded; for boxes, what saw them."""
    seen_by = facts.summary.get("detections")
    if isinstance(seen_by, dict):
        if seen_by.get("kind") == "file":
            return f"detections {seen_by.get('path', '')}"
        return f"detector {seen_by.get('name', '')}: {seen_by.get('reason', '')}"
    recorded = facts.summary.get("predictor")
    if not isinstance(recorded, dict):
        return str(recorded or "unknown predictor")
    name = str(recorded.get("name", "unknown predictor"))
    known = {key: value for key, value in recorded.items() if isinstance(value, str | int | float)}
    details = ", ".join(f"{key} {value}" for key, value in known.items() if key not in ("name", "reason"))
    reason = f": {known['reason']}" if "reason" in known else ""
    return f"predictor {name}{f' ({details})' if details else ''}{reason}"


def _work(facts: RunFacts) -> dict[str, Any]:
    """What the predictor counted: passes of the image encoder, masks moved by a frame; empty without any."""
    recorded = facts.summary.get("predictor")
    counters = recorded.get("counters") if isinstance(recorded, dict) else None
    return {str(name).replace("_", " "): count for name, count in counters.items()} if counters else {}


def _length_histogram(facts: RunFacts) -> list[tuple[str, int, float]]:
    """Rows of how long tracks lived: `10 – 29`, tracks, share of the largest row; empty for runs without it."""
    lengths = facts.summary.get("track_lengths")
    if not isinstance(lengths, dict):
        return []
    starts, counts = lengths.get("from", []), lengths.get("tracks", [])
    ends = [*(f"{start} – {end - 1}" if end - start > 1 else f"{start}" for start, end in pairwise(starts))]
    names = [*ends, f"{starts[-1]} and more"] if starts else []
    largest = max(counts, default=0) or 1
    return [(name, count, count / largest) for name, count in zip(names, counts, strict=False)]


def _command(facts: RunFacts) -> str:
    """The command line, or the command's name."""
    command = facts.summary.get("command") or ""
    return " ".join(map(str, command)) if isinstance(command, list) else str(command)


def _recorded(facts: RunFacts) -> list[tuple[str, Any]]:
    """What the run recorded about itself as it is, with titles."""
    parts = [
        ("Input", facts.manifest.get("input")),
        ("Settings", facts.manifest.get("config")),
        ("Predictor", facts.summary.get("predictor")),
        ("Visibility", facts.summary.get("visibility")),
        ("Camera", facts.summary.get("camera")),
        ("Training samples", facts.summary.get("log")),
    ]
    return [(title, value) for title, value in parts if value]


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _css_of(track_id: int) -> str:
    return css(track_colour(track_id))


def _ink_of(track_id: int) -> str:
    return css(ink_on(track_colour(track_id)))
