"""What a level needs before it can be tracked: checked, explained, and ready to hand on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import CandidateError, listed, shortened_line
from trackweave.formats.davis import frame_stem
from trackweave.frames.source import FrameSource, numbered_names, sample_evenly
from trackweave.ids import FrameIndex, Level, LocalIndex, TrackId
from trackweave.storage.candidates import (
    FilteredFrame,
    FilteredManifest,
    check_candidates,
    filtered_path,
    leave_out,
    read_filtered,
)
from trackweave.storage.run import LevelPaths, RunManifest, RunPaths
from trackweave.structures.prompts import Prompt
from trackweave.structures.run_log import RunLog, RunWarning
from trackweave.structures.run_summary import LevelSummary
from trackweave.structures.tracks import TrackClasses
from trackweave.tracking.settings import TrackingSettings

LONG_TAIL_FACTOR = 3
LONG_TAIL_AREA = 1500.0
Position = TypeVar("Position", bound=int)


class ScheduledFrame(NamedTuple):
    """A candidate frame among the sampled frames: its position and its entry in the manifest."""

    local: LocalIndex
    entry: FilteredFrame


@dataclass(frozen=True)
class LevelContext:
    """One level of a run: what is tracked, and where its results go.

    Attributes:
        level: granularity level.
        run: paths of the run folder.
        frames: the sampled frames.
        settings: how to track.
        prompt_frames: number of frames that have prompts.
        cuts: positions among the sampled frames at which a new shot begins; no track crosses one.
    """

    level: Level
    run: RunPaths
    frames: FrameSource
    settings: TrackingSettings
    prompt_frames: int
    cuts: Sequence[LocalIndex]

    @property
    def paths(self) -> LevelPaths:
        """The level's folder in the run."""
        return self.run.level(self.level)


@dataclass(frozen=True)
class PipelineContext(LevelContext):
    """A level of candidates, checked and ready to be tracked.

    Attributes:
        manifest: the level's filtered candidates.
        schedule: every candidate frame among the sampled frames, ascending.
        min_area: smallest area that the filter let through, in candidate pixels, if known.
        preview_local_indices: positions among the sampled frames that comparison images show.
        notes: what was noticed while placing the candidate frames.
        log: candidates that were left out.
    """

    manifest: FilteredManifest
    schedule: Sequence[ScheduledFrame]
    min_area: float | None
    preview_local_indices: Sequence[LocalIndex]
    notes: Sequence[RunWarning]
    log: RunLog

    @property
    def warnings(self) -> list[RunWarning]:
        """Everything that was noticed so far."""
        return [*self.notes, *self.log.warnings]

    @property
    def long_tail_area(self) -> float:
        """Area up to which an object counts as small, in candidate pixels."""
        if self.settings.long_tail_area is not None:
            return self.settings.long_tail_area
        return LONG_TAIL_AREA if self.min_area is None else LONG_TAIL_FACTOR * self.min_area


@dataclass(frozen=True)
class LabelContext(LevelContext):
    """A level of what a user marked, ready to be tracked.

    Attributes:
        labels: position among the sampled frames → label image `(H, W)`; 0 is background.
        marks: position → prompts of single objects by their id; masks are packed, at the frame's size.
        classes: of the objects that were given one.
    """

    labels: Mapping[LocalIndex, NDArray[np.int64]]
    marks: Mapping[LocalIndex, Mapping[TrackId, Prompt]] = field(default_factory=dict)
    classes: TrackClasses = field(default_factory=TrackClasses)


def build_pipeline_context(
    candidates_root: Path,
    level: Level,
    frames: FrameSource,
    run: RunPaths,
    settings: TrackingSettings,
    *,
    video: UnsampledVideo | None = None,
    min_area: float | None = None,
    cuts: Sequence[LocalIndex] = (),
    manifest: FilteredManifest | None = None,
) -> PipelineContext:
    """Checks everything that a level's candidates can be wrong in, before a single frame is tracked.

    Args:
        candidates_root: folder with `level_L/filtered/filtered.json`.
        level: L.
        frames: the sampled frames.
        run: where results go.
        settings: how to track.
        video: the frames before sampling; None = what the sampled ones tell.
        min_area: the generator's smallest area, from the candidates' run manifest.
        cuts: positions among the sampled frames at which a new shot begins.
        manifest: the candidates, where they do not lie in that folder.

    Raises:
        CandidateError: names the file, the frame and the item, and says what is expected.
        ArtifactError: no manifest for this level, or not JSON.
    """
    if manifest is None:
        path = filtered_path(candidates_root / f"level_{level}")
        if not path.is_file():
            there = _levels(candidates_root)
            raise CandidateError(f"{path}: level {level} has no candidates here; levels found: {there}")
        manifest = read_filtered(path)
    log = RunLog(settings.on_bad_item, "tracking")
    leave_out(manifest.problems, log, level)
    schedule, notes = _schedule(manifest, frames, video or UnsampledVideo.of(frames), log, level)
    leave_out(validate_candidates(manifest, schedule, frames.size), log, level)
    notes += _notes_on_masks(manifest, level, settings)
    previews = select_preview_indices(
        [local for local, _ in schedule], stride=settings.preview_stride, max_samples=settings.preview_max
    )
    smallest = manifest.min_area if manifest.min_area is not None else min_area
    return PipelineContext(
        level, run, frames, settings, len(schedule), cuts, manifest, schedule, smallest, previews, notes, log
    )


def _notes_on_masks(manifest: FilteredManifest, level: Level, settings: TrackingSettings) -> list[RunWarning]:
    """What is prompted by box because there is no mask: boxes give worse masks than masks do."""
    lacking, count = manifest.without_masks
    if not lacking or settings.prompt_mode == "box":
        return []
    text = f"{manifest.path}: {lacking} of {count} candidates have no mask and are prompted by their boxes"
    if manifest.unused:
        text += f"; not used: {listed(manifest.unused, 3)} (masks of frame 7 are seg_frame_00007.npy)"
    return [RunWarning("candidates", level, "prompted-by-box", text)]


def validate_candidates(
    manifest: FilteredManifest, schedule: Sequence[ScheduledFrame], frame_size: tuple[int, int]
) -> Iterator[str]:
    """What is wrong with a level's candidates, a line each, in order of time. No mask is drawn."""
    for _, entry in schedule:
        yield from check_candidates(manifest, entry, frame_size)


def _levels(candidates_root: Path) -> str:
    levels = sorted(int(p.parents[1].name[6:]) for p in candidates_root.glob("level_[0-9]*/filtered/filtered.json"))
    return ", ".join(map(str, levels)) or "none"


def _schedule(
    manifest: FilteredManifest, frames: FrameSource, video: UnsampledVideo, log: RunLog, level: Level
) -> tuple[list[ScheduledFrame], list[RunWarning]]:
    """Places each candidate frame among the sampled frames.

    A candidate frame belongs to the frame that carries its name (the extension may differ). The index serves only where
    no name can match: candidates without names, videos, whose frames have names of our own making, and folders none of
    whose names a candidate has.
    """
    index_of_name = _indices_by_name(manifest, video)
    positions = local_positions(frames)
    placed: list[ScheduledFrame] = []
    unsampled: list[int] = []
    for entry in manifest.frames:
        by_name = bool(index_of_name and entry.frame_name)
        index = index_of_name.get(frame_stem(entry.frame_name or "")) if by_name else FrameIndex(entry.frame_idx)
        where = f"{manifest.path}: frame {entry.frame_idx} ({shortened_line(str(entry.frame_name), 80)})"
        if index is None or index >= video.length:
            there = "no frame of this name" if by_name else f"frames 0 … {video.length - 1}"
            leave_out([f"{where} does not exist: the video has {there}"], log, level)
            continue
        if index in positions:
            placed.append(ScheduledFrame(positions[index], entry))
        else:
            unsampled.append(entry.frame_idx)
    notes = _notes_on_names(manifest, video, level, has_matches=bool(index_of_name))
    if unsampled:
        text = f"{len(unsampled)} candidate frames are not among the sampled frames and were not used"
        notes.append(RunWarning("candidates", level, "frame-not-sampled", text, {"frames": unsampled[:20]}))
    if not placed:
        raise CandidateError(f"{manifest.path}: none of its {len(manifest.frames)} frames is among the sampled frames")
    twice = [local for local, count in Counter(local for local, _ in placed).items() if count > 1]
    if twice:
        raise CandidateError(f"{manifest.path}: two of its frames are frame {frames.indices[twice[0]]} of the video")
    return sorted(placed, key=lambda scheduled: scheduled.local), notes


def _notes_on_names(
    manifest: FilteredManifest, video: UnsampledVideo, level: Level, *, has_matches: bool
) -> list[RunWarning]:
    """Names on both sides of which none is the same: of other images, or only called otherwise."""
    names = [entry.frame_name for entry in manifest.frames if entry.frame_name]
    if has_matches or not names or not video.has_file_names:
        return []
    text = (
        f"{manifest.path}: none of its frames' names is that of an image ({shortened_line(names[0], 80)}, but "
        f"{shortened_line(next(iter(video.index_of_name)), 80)}): placed by their numbers; were the candidates made on "
        "these images?"
    )
    return [RunWarning("candidates", level, "placed-by-index", text)]


def _indices_by_name(manifest: FilteredManifest, video: UnsampledVideo) -> Mapping[str, FrameIndex]:
    """Index of each frame of the video by its name without extension; empty where no candidate has such a name."""
    named = [frame_stem(entry.frame_name) for entry in manifest.frames if entry.frame_name]
    repeated = [stem for stem, count in Counter(named).items() if count > 1]
    if repeated:
        raise CandidateError(f"{manifest.path}: two of its frames are named {repeated[0]}")
    return video.index_of_name if any(stem in video.index_of_name for stem in named) else {}


@dataclass(frozen=True)
class UnsampledVideo:
    """What is known of a video before it is sampled, and before frames that cannot be read are left out.

    Attributes:
        length: number of frames.
        index_of_name: index of each frame by its name without extension; of frames of one name the first.
        has_file_names: these are names of images; those of videos and arrays are of our own making.
    """

    length: int
    index_of_name: Mapping[str, FrameIndex]
    has_file_names: bool = False

    @classmethod
    def of(cls, frames: FrameSource) -> UnsampledVideo:
        """Of a video that is not sampled; of sampled frames, what they tell."""
        index_of_name: dict[str, FrameIndex] = {}
        for index, name in zip(frames.indices, frames.names, strict=True):
            index_of_name.setdefault(frame_stem(name), index)
        length = int(frames.indices[-1]) + 1
        return cls(length, index_of_name, frames.names[-1] != numbered_names(length)[-1])


def frame_at(frames: FrameSource, local: LocalIndex) -> tuple[FrameIndex, str]:
    """Index in the video and name of the frame at a position among the sampled frames; see `local_positions`."""
    return frames.indices[local], frames.names[local]


def local_positions(frames: FrameSource) -> dict[FrameIndex, LocalIndex]:
    """Where each frame of the video lies among the sampled frames; with `frame_at` the one place of conversion."""
    return {index: LocalIndex(local) for local, index in enumerate(frames.indices)}


def select_preview_indices(
    local_indices: Sequence[Position], *, stride: int = 1, max_samples: int | None = None
) -> list[Position]:
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
    stats: Mapping[str, object],
    warnings: Sequence[RunWarning],
    stages: Sequence[str] = ("candidates", "track", "persist", "compare"),
) -> None:
    """Merges a level's results into `manifest.json`: artifacts, derived metadata, and warnings in place of the old."""
    manifest = RunManifest.load(run.manifest)
    manifest.merge({})
    manifest.set_level(level, artifacts, stats)
    manifest.replace_warnings(warnings, stages=stages, level=level)
    manifest.write()


def summarise_tracking_stats(levels: Mapping[Level, LevelSummary]) -> dict[str, float]:
    """Totals over the levels of a run, by name."""
    counted = ("candidate_frames", "candidates", "prompts", "objects", "object_frames")
    totals: dict[str, float] = {key: sum(level.counts.get(key, 0) for level in levels.values()) for key in counted}
    totals["seconds"] = round(sum(sum(level.durations.values()) for level in levels.values()), 3)
    totals["duplicates"] = sum(level.dedup.get("duplicates", 0) for level in levels.values())
    return totals
