"""What the page about a run shows, read from the run folder; a part that a run did not write is left out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from trackweave.errors import ArtifactError, InputError, shortened_line
from trackweave.storage.files import read_json_object
from trackweave.storage.identity import read_identity
from trackweave.storage.run import RunManifest, RunPaths, read_run_summary
from trackweave.structures.run_log import RunWarning
from trackweave.structures.run_summary import (
    BoxSummary,
    JsonRecord,
    LevelSummary,
    MaskSummary,
    TrackSummary,
    read_warning,
)

LEVEL_NAMES = {0: "prompted objects", 2: "coarse", 4: "medium", 6: "fine"}
BOX_COUNTS = ("frames", "detections", "tracks", "boxes", "suspected_switches")
"""Counts of a box run that are shown also where they are 0."""


@dataclass(frozen=True)
class Stage:
    """How long a stage took, and as a share of the longest; `depth` counts the recorded stages that contain it."""

    name: str
    seconds: float
    share: float
    depth: int


@dataclass(frozen=True)
class ComparisonImage:
    """One comparison image: where it lies below the run, and what it shows."""

    url: str
    frame_idx: int
    frame_name: str
    candidates: int | None
    track_ids: Sequence[int]


@dataclass(frozen=True)
class LevelSection:
    """One granularity level of the run; a run of boxes has one section for all its tracks.

    Attributes:
        level: its number.
        counts: by name.
        dedup: what was found about duplicates, by name.
        stages: durations.
        tracks: every track, or the longest of them.
        images: comparison images.
        unlisted: how many tracks are not in `tracks`.
        heading: what it is called, when that does not follow from the number.
    """

    level: int
    counts: Mapping[str, int]
    dedup: Mapping[str, float]
    stages: Sequence[Stage]
    tracks: Sequence[TrackSummary]
    images: Sequence[ComparisonImage]
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
class IdentitySection:
    """What identities made of the tracks.

    Attributes:
        levels: level, tracks, things and parts of each.
        links: which tracks became one, how sure and why, the surest first; at most `MOST_LINKS`.
        unlisted: further links.
        split: things that others of their level make up.
    """

    levels: Sequence[tuple[int, int, int, int]]
    links: Sequence[tuple[str, str]]
    unlisted: int
    split: Sequence[int]


MOST_LINKS = 60


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
class PageContents:
    """Everything that the page shows.

    Attributes:
        name: of the run folder.
        summary: the numbers of the run.
        manifest: its manifest; empty when it is missing or damaged.
        frames: absolute indices of its frames, ascending; empty when they are not listed.
        size: `(H, W)` of the frames, or None.
        levels: a section each.
        stages: durations of the whole run.
        notices: warnings by kind.
        video: name of the overlay video, or None.
        files: further files, relative to the run folder.
        identity: what identities made of the tracks, or None.
        viewer: what the page's viewer holds: tracks, boxes, how the video shows them; None = there are no tracks.
    """

    name: str
    summary: MaskSummary | BoxSummary
    manifest: Mapping[str, object]
    frames: Sequence[int]
    size: tuple[int, int] | None
    levels: Sequence[LevelSection]
    stages: Sequence[Stage]
    notices: Sequence[Notice]
    video: str | None
    files: Sequence[str] = field(default_factory=tuple)
    identity: IdentitySection | None = None
    viewer: JsonRecord | None = None


def read_contents(run_dir: Path) -> PageContents:
    """Reads a run folder.

    `summary.json` has to be there; whatever else is missing is left out, and what is damaged becomes a notice.

    Raises:
        ArtifactError: no summary, or a damaged one.
        ArtifactVersionError: a summary of a newer schema.
    """
    paths, damaged = RunPaths(run_dir), list[str]()
    if not run_dir.is_dir():
        raise ArtifactError(f"{run_dir}: there is no run folder here")
    summary = read_run_summary(paths.summary)
    manifest = _optional(paths.manifest, "run manifest", damaged)
    frame_list = _optional(paths.frames, "list of frames", damaged)
    if isinstance(summary, BoxSummary):
        levels = [_box_section(summary)]
    else:
        levels = [_section(paths, level, part, damaged) for level, part in sorted(summary.levels.items())]
    indices, listed_size = _listed_frames(paths, frame_list, damaged)
    recorded = manifest.get("warnings")
    identity = _identity(paths, damaged)
    size = listed_size if frame_list else summary.input.size
    viewer = _viewer(paths, summary, levels, indices, size, damaged)
    warnings = summary.warnings or [read_warning(each) for each in (recorded if isinstance(recorded, list) else ())]
    return PageContents(
        run_dir.resolve().name,
        summary,
        manifest,
        indices,
        size,
        levels,
        _stages(summary.durations),
        _notices(warnings, damaged),
        paths.overlay.name if paths.overlay.is_file() else None,
        _files(paths, manifest),
        identity,
        viewer,
    )


def _viewer(
    paths: RunPaths,
    summary: MaskSummary | BoxSummary,
    levels: Sequence[LevelSection],
    frames: Sequence[int],
    size: tuple[int, int] | None,
    damaged: list[str],
) -> JsonRecord | None:
    """What the page's viewer holds; of tracks that are gone or damaged, what the summary says of them."""
    from trackweave.pipelines.run import open_run
    from trackweave.reports.embedded import held_run, held_summary, video_json
    from trackweave.reports.run_tracks import read_run_tracks

    try:
        if _has_tracks(paths):
            run = read_run_tracks(open_run(paths.root))
            video = video_json(paths.overlay, run, summary.input.path)
            return held_run(run, _names(paths), video) if len(run.shown.table) else None
    except (ArtifactError, InputError) as error:
        damaged.append(str(error))
    kind = "boxes" if isinstance(summary, BoxSummary) else "masks"
    listed = {-1 if kind == "boxes" else section.level: section.tracks for section in levels}
    if not any(listed.values()):
        return None
    unlisted = sum(section.unlisted for section in levels)
    return held_summary(paths.root.resolve().name, kind, listed, frames, size or (0, 0), unlisted)


def _has_tracks(paths: RunPaths) -> bool:
    """Are the files of tracks there?"""
    try:
        manifest = RunManifest.load(paths.manifest)
        levels = manifest.tracked_levels
        archives = [manifest.artifact(level, "object_segments") for level in levels]
    except ArtifactError:  # a damaged manifest is noted where it is shown
        return False
    if not archives:
        return paths.tracks.is_file() and paths.manifest.is_file()
    return all(archive.is_file() for archive in archives)


def _names(paths: RunPaths) -> dict[int, str]:
    """Names that a person gave, by id."""
    said = read_json_object(paths.summary, "run summary").get("corrections")
    names = said.get("names") if isinstance(said, Mapping) else None
    if not isinstance(names, Mapping):
        return {}
    return {int(track_id): str(name) for track_id, name in names.items() if str(track_id).isdigit()}


def _identity(paths: RunPaths, damaged: list[str]) -> IdentitySection | None:
    """What identities made of the tracks; None without them, and of a damaged table, which is noted."""
    try:
        record = read_identity(paths)
    except ArtifactError as error:
        damaged.append(str(error))
        return None
    if record is None:
        return None
    table, tree = record.table, record.tree
    levels = [
        (
            level,
            int((table.level == level).sum()),
            int((tree.level == level).sum()),
            int(((tree.level == level) & (tree.parents > 0)).sum()),
        )
        for level in sorted(set(table.level.tolist()))
    ]
    surest = sorted(table.links, key=lambda link: (-link.score, link.a, link.b))
    links = [
        (
            f"{link.a} = {link.b}",
            f"the same masks on {link.frames} frames that show both, {link.score:.0%}"
            if link.kind == "merge"
            else f"goes on {link.gap} frames later, {link.score:.0%}",
        )
        for link in surest[:MOST_LINKS]
    ]
    return IdentitySection(levels, links, len(surest) - len(links), record.split)


def _optional(path: Path, kind: str, damaged: list[str]) -> JsonRecord:
    """A JSON object that may be missing; a damaged one is noted."""
    if not path.exists():
        return {}
    try:
        return read_json_object(path, kind)
    except ArtifactError as error:
        damaged.append(str(error))
        return {}


def _listed_frames(
    paths: RunPaths, frame_list: JsonRecord, damaged: list[str]
) -> tuple[list[int], tuple[int, int] | None]:
    """Indices and size of the frames; nothing of a damaged list, which is noted."""
    try:
        height, width = frame_list.get("height"), frame_list.get("width")
        rows = frame_list.get("frames", [])
        indices = [int(row["index"]) for row in rows if isinstance(row, dict) and "index" in row]
        return indices, (int(height), int(width)) if height and width else None
    except (TypeError, ValueError, OverflowError) as error:
        damaged.append(f"{paths.frames}: the list of frames is damaged: {error}")
        return [], None


def _section(paths: RunPaths, level: int, part: LevelSummary, damaged: list[str]) -> LevelSection:
    images = _comparison_images(paths, level, damaged)
    return LevelSection(level, part.counts, part.dedup, _stages(part.durations), part.tracks, images)


def _box_section(summary: BoxSummary) -> LevelSection:
    """The counts of a run of boxes; zeros are left out unless they say that all went well."""
    totals = {key: value for key, value in summary.totals.items() if isinstance(value, int)}
    if "est_id_switches" in totals:
        totals["suspected_switches"] = totals.pop("est_id_switches")
    counts = {key: value for key, value in totals.items() if value or key in BOX_COUNTS}
    tracks = summary.longest_tracks
    return LevelSection(0, counts, {}, [], tracks, [], summary.track_count - len(tracks), "Tracks")


def _comparison_images(paths: RunPaths, level: int, damaged: list[str]) -> list[ComparisonImage]:
    """The comparison images whose files are there."""
    folder = paths.level(level).compare
    compare = _optional(folder / "compare.json", "list of comparison pictures", damaged)
    images = []
    try:
        for row in compare.get("frames", []):
            file = folder / Path(str(row["image"])).name  # a name only: nothing outside the folder is linked
            if file.is_file():
                url = quote(os.fsencode(file.relative_to(paths.root).as_posix()))
                index = int(row["frame_idx"])
                ids = [int(track["id"]) for track in row.get("tracks", [])]
                name = str(row.get("frame_name", index))
                images.append(ComparisonImage(url, index, name, row.get("candidates"), ids))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        damaged.append(
            f"{folder / 'compare.json'}: the list of comparison pictures is damaged: {shortened_line(repr(error))}"
        )
    return images


def _stages(durations: Mapping[str, float]) -> list[Stage]:
    """Stages in the order they were recorded; `a.b` lies in `a`."""
    longest = max(durations.values(), default=0.0) or 1.0
    return [
        Stage(name, seconds, seconds / longest, sum(name.startswith(f"{other}.") for other in durations))
        for name, seconds in durations.items()
    ]


def _notices(warnings: Sequence[RunWarning], damaged: Sequence[str]) -> list[Notice]:
    """Warnings by kind, the frequent kinds first."""
    kinds: dict[str, list[str]] = {"damaged-file": list(damaged)} if damaged else {}
    for warning in warnings:
        where = f"level {warning.level}: " if warning.level is not None else ""
        kinds.setdefault(str(warning.code), []).append(f"{where}{warning.message}")
    return [Notice(code, lines) for code, lines in sorted(kinds.items(), key=lambda item: -len(item[1]))]


def _files(paths: RunPaths, manifest: Mapping[str, object]) -> list[str]:
    """Files worth a link, below the run folder."""
    named = [
        paths.summary,
        paths.manifest,
        paths.frames,
        paths.mot,
        paths.identity,
        paths.relations,
        paths.index,
        paths.overlay,
    ]
    artifacts = manifest.get("artifacts")
    for level in artifacts.values() if isinstance(artifacts, Mapping) else ():
        named += [paths.root / str(name) for name in (level.values() if isinstance(level, Mapping) else ())]
    tracks = manifest.get("tracks")
    named += [paths.root / str(name) for name in (tracks.values() if isinstance(tracks, Mapping) else ())]
    inside = [file for file in named if file.is_file() and file.resolve().is_relative_to(paths.root.resolve())]
    return list(dict.fromkeys(file.relative_to(paths.root).as_posix() for file in inside))
