"""What a run folder says about itself, as records for the page: tolerant of parts that a run did not write.

Geometry of the track timeline: which rectangle stands for which stretch of which track.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from trackweave.errors import ArtifactError
from trackweave.storage.files import check_version, read_json_object
from trackweave.storage.run import SCHEMA_VERSION, RunPaths
from trackweave.visualization.palette import css, track_colour

LEVEL_NAMES = {0: "prompted objects", 2: "coarse", 4: "medium", 6: "fine"}


@dataclass(frozen=True)
class Stage:
    """How long a stage took, and as a share of the longest; `depth` counts the recorded stages that contain it."""

    name: str
    seconds: float
    share: float
    depth: int


@dataclass(frozen=True)
class TrackLife:
    """When one track was visible.

    Attributes:
        track_id: its id.
        spans: runs of absolute frame indices, both ends included.
        prompt_frame: the frame on which it was prompted, or None.
        mean_area: pixels, or None.
        mean_score: objectness, or None.
    """

    track_id: int
    spans: Sequence[tuple[int, int]]
    prompt_frame: int | None = None
    mean_area: float | None = None
    mean_score: float | None = None


@dataclass(frozen=True)
class Picture:
    """One comparison render: where it lies below the run, and what it shows."""

    url: str
    frame_idx: int
    frame_name: str
    candidates: int | None
    track_ids: Sequence[int]


@dataclass(frozen=True)
class LevelFacts:
    """One granularity level of the run; a run of boxes has one part that is none.

    Attributes:
        level: its number.
        counts: figures by name.
        dedup: what was found about duplicates.
        stages: durations.
        tracks: when the tracks were visible, or the longest of them.
        pictures: comparison renders.
        unlisted: tracks that are not in `tracks`.
        heading: what it is called, when that does not follow from the number.
    """

    level: int
    counts: Mapping[str, int]
    dedup: Mapping[str, Any]
    stages: Sequence[Stage]
    tracks: Sequence[TrackLife]
    pictures: Sequence[Picture]
    unlisted: int = 0
    heading: str | None = None

    @property
    def title(self) -> str:
        """`Level 2 · coarse`; the level of prompted objects has no number."""
        if self.heading is not None:
            return self.heading
        name = LEVEL_NAMES.get(self.level)
        if self.level == 0:
            return "Prompted objects"
        return f"Level {self.level} · {name}" if name else f"Level {self.level}"


@dataclass(frozen=True)
class Notice:
    """Warnings of one kind, together.

    Attributes:
        code: the machine-readable kind.
        messages: one line each, in order.
    """

    code: str
    messages: Sequence[str]


@dataclass(frozen=True)
class RunFacts:
    """Everything the page shows."""

    name: str
    summary: Mapping[str, Any]
    manifest: Mapping[str, Any]
    frames: Sequence[int]
    size: tuple[int, int] | None
    levels: Sequence[LevelFacts]
    stages: Sequence[Stage]
    notices: Sequence[Notice]
    video: str | None
    files: Sequence[str] = field(default_factory=tuple)


def read_run(run_dir: Path) -> RunFacts:
    """Reads a run folder.

    `summary.json` has to be there; whatever else is missing is left out, and what is damaged becomes a notice.

    Raises:
        ArtifactError: no summary, or a damaged one.
        ArtifactVersionError: a summary of a newer schema.
    """
    paths, damaged = RunPaths(run_dir), list[str]()
    if not run_dir.is_dir():
        raise ArtifactError(f"{run_dir}: there is no run folder here")
    summary = read_json_object(paths.summary, "run summary")
    check_version(summary.get("schema_version"), SCHEMA_VERSION, paths.summary)
    manifest = _optional(paths.manifest, "run manifest", damaged)
    frame_list = _optional(paths.frames, "list of frames", damaged)
    try:
        levels = [
            _level(paths, int(key), value, damaged)
            for key, value in sorted(summary.get("levels", {}).items(), key=lambda item: int(item[0]))
        ]
        if summary.get("command") == "boxes":
            levels.append(_boxes(summary))
        stages = _stages(summary.get("durations", {}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{paths.summary}: the run summary is damaged: {error!r}") from error
    told = summary.get("input")
    sized = frame_list if frame_list or not isinstance(told, dict) else told
    height, width = sized.get("height"), sized.get("width")
    return RunFacts(
        run_dir.resolve().name,
        summary,
        manifest,
        [int(row["index"]) for row in frame_list.get("frames", []) if isinstance(row, dict) and "index" in row],
        (int(height), int(width)) if height and width else None,
        levels,
        stages,
        _notices(summary.get("warnings") or manifest.get("warnings") or [], damaged),
        paths.overlay.name if paths.overlay.is_file() else None,
        _files(paths, manifest),
    )


def _optional(path: Path, kind: str, damaged: list[str]) -> dict[str, Any]:
    """A JSON object that may be missing; a damaged one is noted."""
    if not path.exists():
        return {}
    try:
        return read_json_object(path, kind)
    except ArtifactError as error:
        damaged.append(str(error))
        return {}


def _level(paths: RunPaths, level: int, stats: Mapping[str, Any], damaged: list[str]) -> LevelFacts:
    counts = {key: value for key, value in stats.items() if isinstance(value, int) and not isinstance(value, bool)}
    tracks = [_life(row) for row in stats.get("tracks") or stats.get("longest_tracks") or []]
    return LevelFacts(
        level,
        counts,
        dict(stats.get("dedup") or {}),
        _stages(stats.get("durations") or {}),
        tracks,
        _pictures(paths, level, damaged),
    )


def _boxes(summary: Mapping[str, Any]) -> LevelFacts:
    """What a run of boxes counted; figures that are nothing are left out unless they say that all went well."""
    totals = {key: value for key, value in summary["totals"].items() if isinstance(value, int)}
    if "est_id_switches" in totals:
        totals["suspected_switches"] = totals.pop("est_id_switches")
    always = ("frames", "detections", "tracks", "boxes", "suspected_switches")
    counts = {key: value for key, value in totals.items() if value or key in always}
    lives = [_life(row) for row in summary["longest_tracks"]]
    return LevelFacts(0, counts, {}, [], lives, [], totals["tracks"] - len(lives), "Tracks")


def _life(row: Mapping[str, Any]) -> TrackLife:
    """Spans are what runs write; first and last alone are taken as one span."""
    spans = row.get("spans") or (row["frames"] if isinstance(row.get("frames"), list) else None)
    if spans is None:
        spans = [(row["first"], row["last"])]
    prompt, area, score = row.get("prompt_frame"), row.get("mean_area"), row.get("mean_score")
    return TrackLife(
        int(row["id"]),
        [(int(first), int(last)) for first, last in spans],
        None if prompt is None else int(prompt),
        None if area is None else float(area),
        None if score is None else float(score),
    )


def _pictures(paths: RunPaths, level: int, damaged: list[str]) -> list[Picture]:
    """The comparison renders whose files are there."""
    folder = paths.level(level).compare
    compare = _optional(folder / "compare.json", "list of comparison pictures", damaged)
    found = []
    try:
        for row in compare.get("frames", []):
            file = folder / Path(str(row["image"])).name  # a name only: nothing outside the folder is linked
            if file.is_file():
                url = quote(file.relative_to(paths.root).as_posix())
                index = int(row["frame_idx"])
                ids = [int(track["id"]) for track in row.get("tracks", [])]
                found.append(Picture(url, index, str(row.get("frame_name", index)), row.get("candidates"), ids))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        damaged.append(f"{folder / 'compare.json'}: the list of comparison pictures is damaged: {error!r}")
    return found


def _stages(durations: Mapping[str, Any]) -> list[Stage]:
    """Stages in the order they were recorded; `a.b` lies in `a`."""
    flat = dict(_flatten(durations))
    longest = max(flat.values(), default=0.0) or 1.0
    return [
        Stage(name, seconds, seconds / longest, sum(name.startswith(f"{other}.") for other in flat))
        for name, seconds in flat.items()
    ]


def _flatten(durations: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    rows: list[tuple[str, float]] = []
    for name, value in durations.items():
        if isinstance(value, Mapping):
            rows += _flatten(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", float(value)))
    return rows


def _notices(warnings: Sequence[Any], damaged: Sequence[str]) -> list[Notice]:
    """Warnings by kind, the frequent kinds first."""
    kinds: dict[str, list[str]] = {"damaged-file": list(damaged)} if damaged else {}
    for record in warnings:
        row = record if isinstance(record, Mapping) else {"message": record}
        where = f"level {row['level']}: " if row.get("level") is not None else ""
        kinds.setdefault(str(row.get("code", "warning")), []).append(f"{where}{row.get('message', '')}")
    return [Notice(code, lines) for code, lines in sorted(kinds.items(), key=lambda item: -len(item[1]))]


def _files(paths: RunPaths, manifest: Mapping[str, Any]) -> list[str]:
    """Files worth a link, below the run folder."""
    named = [paths.summary, paths.manifest, paths.frames, paths.mot]
    artifacts = manifest.get("artifacts")
    for level in artifacts.values() if isinstance(artifacts, Mapping) else ():
        named += [paths.root / str(name) for name in (level.values() if isinstance(level, Mapping) else ())]
    tracks = manifest.get("tracks")
    named += [paths.root / str(name) for name in (tracks.values() if isinstance(tracks, Mapping) else ())]
    inside = [file for file in named if file.is_file() and file.resolve().is_relative_to(paths.root.resolve())]
    return list(dict.fromkeys(file.relative_to(paths.root).as_posix() for file in inside))


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
