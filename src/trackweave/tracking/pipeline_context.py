"""What a level needs before it can be tracked: checked, explained, and ready to hand on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackweave.errors import CandidateError
from trackweave.frames.source import FrameSource, sample_evenly
from trackweave.ids import FrameIndex, Level
from trackweave.masks.ops import scaled_size
from trackweave.storage.candidates import (
    BadItems,
    FilteredFrame,
    FilteredManifest,
    filtered_path,
    read_candidates,
    read_filtered,
)
from trackweave.storage.run import LevelPaths, RunManifest, RunPaths
from trackweave.structures.run_log import RunWarning
from trackweave.tracking.settings import TrackingSettings

LONG_TAIL_FACTOR = 3
LONG_TAIL_AREA = 1500.0


@dataclass(frozen=True)
class PipelineContext:
    """One level, ready to be tracked.

    Attributes:
        level: granularity level.
        run: paths of the run folder.
        candidates_root: `CANDIDATES/level_L`, where the manifest came from.
        manifest: the level's filtered candidates.
        frames: the sampled frames.
        schedule: `(local position, manifest entry)` of every candidate frame among them, ascending.
        settings: how to track.
        min_area: smallest area that the filter let through, in candidate pixels, if known.
        preview_local_indices: local positions that comparison pictures show.
        bad: what happens to bad candidates.
        notes: warnings found while preparing.
    """

    level: Level
    run: RunPaths
    candidates_root: Path
    manifest: FilteredManifest
    frames: FrameSource
    schedule: Sequence[tuple[int, FilteredFrame]]
    settings: TrackingSettings
    min_area: float | None
    preview_local_indices: Sequence[int]
    bad: BadItems
    notes: Sequence[RunWarning]

    @property
    def paths(self) -> LevelPaths:
        """The level's folder in the run."""
        return self.run.level(self.level)

    @property
    def stored_size(self) -> tuple[int, int]:
        """`(H, W)` at which masks are stored."""
        return scaled_size(*self.frames.size, self.settings.mask_scale_ratio)

    @property
    def long_tail_area(self) -> float:
        """Area up to which an object counts as small, in candidate pixels."""
        if self.settings.long_tail_area is not None:
            return self.settings.long_tail_area
        return LONG_TAIL_AREA if self.min_area is None else LONG_TAIL_FACTOR * self.min_area


def build_pipeline_context(
    candidates_root: Path,
    level: Level,
    frames: FrameSource,
    run: RunPaths,
    settings: TrackingSettings,
    *,
    video_length: int | None = None,
    min_area: float | None = None,
) -> PipelineContext:
    """Checks everything that a level's candidates can be wrong in, before a single frame is tracked.

    Args:
        candidates_root: folder with `level_L/filtered/filtered.json`.
        level: L.
        frames: the sampled frames.
        run: where results go.
        settings: how to track.
        video_length: number of frames before sampling; None = as many as the last sampled index tells.
        min_area: the generator's smallest area, from the candidates' run manifest.

    Raises:
        CandidateError: names the file, the frame and the item, and says what is expected.
        ArtifactError: no manifest for this level, or not JSON.
    """
    root = candidates_root / f"level_{level}"
    path = filtered_path(root)
    if not path.is_file():
        raise CandidateError(f"{path}: level {level} has no candidates here; levels found: {_levels(candidates_root)}")
    bad = BadItems(settings.on_bad_item, level)
    manifest = read_filtered(path, bad)
    schedule, notes = _schedule(manifest, frames, video_length, bad)
    for _, entry in schedule:
        read_candidates(manifest, entry, frames.size, bad)
    previews = select_preview_indices(
        [local for local, _ in schedule], stride=settings.preview_stride, max_samples=settings.preview_max
    )
    smallest = manifest.min_area if manifest.min_area is not None else min_area
    return PipelineContext(
        level, run, root, manifest, frames, schedule, settings, smallest, previews, bad, [*notes, *bad.warnings]
    )


def _levels(candidates_root: Path) -> str:
    found = sorted(int(p.parents[1].name[6:]) for p in candidates_root.glob("level_[0-9]*/filtered/filtered.json"))
    return ", ".join(map(str, found)) or "none"


def _schedule(
    manifest: FilteredManifest, frames: FrameSource, video_length: int | None, bad: BadItems
) -> tuple[list[tuple[int, FilteredFrame]], list[RunWarning]]:
    """Places each candidate frame among the sampled frames.

    By name when the video has a frame of each name (the extension may differ), else by index.
    """
    local_of_name: dict[str, int] = {}
    for local, name in enumerate(frames.names):
        local_of_name.setdefault(Path(name).stem, local)
    named = [Path(entry.frame_name).stem for entry in manifest.frames if entry.frame_name]
    repeated = [stem for stem, count in Counter(named).items() if count > 1]
    if repeated:
        raise CandidateError(f"{manifest.path}: two of its frames are named {repeated[0]}")
    by_name = bool(named) and all(stem in local_of_name for stem in named)
    local_of_index = {int(index): local for local, index in enumerate(frames.indices)}
    length = video_length if video_length is not None else int(frames.indices[-1]) + 1
    placed: list[tuple[int, FilteredFrame]] = []
    unsampled: list[int] = []
    for entry in manifest.frames:
        if by_name and entry.frame_name:
            placed.append((local_of_name[Path(entry.frame_name).stem], entry))
        elif entry.frame_idx in local_of_index:
            placed.append((local_of_index[entry.frame_idx], entry))
        elif entry.frame_idx < length:
            unsampled.append(entry.frame_idx)
        else:
            bad.report(
                f"{manifest.path}: frame {entry.frame_idx} ({entry.frame_name}) does not exist: "
                f"the video has frames 0 … {length - 1}"
            )
    notes = []
    if unsampled:
        text = f"{len(unsampled)} candidate frames are not among the sampled frames and were not used"
        notes.append(RunWarning("candidates", bad.level, "frame-not-sampled", text, {"frames": unsampled[:20]}))
    if not placed:
        raise CandidateError(f"{manifest.path}: none of its {len(manifest.frames)} frames is among the sampled frames")
    twice = [local for local, count in Counter(local for local, _ in placed).items() if count > 1]
    if twice:
        raise CandidateError(f"{manifest.path}: two of its frames are frame {frames.indices[twice[0]]} of the video")
    return sorted(placed, key=lambda pair: pair[0]), notes


def select_preview_indices(
    local_indices: Sequence[int], *, stride: int = 1, max_samples: int | None = None
) -> list[int]:
    """Which frames the comparison shows: first and last always, every `stride`-th, then at most `max_samples`, evenly.

    >>> select_preview_indices([0, 5, 10, 15, 20], stride=2)
    [0, 10, 20]
    """
    return sample_evenly(local_indices, stride, max_samples)


def update_tracking_manifest(
    run: RunPaths,
    *,
    level: Level,
    artifacts: Mapping[str, str],
    stats: Mapping[str, Any],
    warnings: Sequence[RunWarning],
    stages: Sequence[str] = ("candidates", "track", "persist", "compare"),
) -> None:
    """Merges a level's results into `manifest.json`: artifacts, derived metadata, and warnings in place of the old."""
    manifest = RunManifest.load(run.manifest)
    manifest.merge({})
    manifest.set_level(level, artifacts, stats)
    manifest.replace_warnings(warnings, stages=stages, level=level)
    manifest.write()


def summarise_tracking_stats(levels: Mapping[Level, Mapping[str, Any]]) -> dict[str, Any]:
    """Totals over the levels of a run, for the workflow's summary.

    Args:
        levels: what `level_runner` reports of each level.
    """
    counted = ("candidate_frames", "candidates", "prompts", "objects", "object_frames")
    totals: dict[str, Any] = {key: sum(int(stats.get(key, 0)) for stats in levels.values()) for key in counted}
    totals["levels"] = [int(level) for level in levels]
    totals["seconds"] = round(sum(sum(stats.get("durations", {}).values()) for stats in levels.values()), 3)
    totals["duplicates"] = sum(int(stats.get("dedup", {}).get("duplicates", 0)) for stats in levels.values())
    return totals


def frame_at(frames: FrameSource, local: int) -> tuple[FrameIndex, str]:
    """Absolute index and name of a local position."""
    return frames.indices[local], frames.names[local]
