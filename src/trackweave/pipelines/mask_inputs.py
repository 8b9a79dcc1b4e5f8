"""What a mask run is given: its frames (`MaskFrames`) and a user's candidates (`GivenCandidates`)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import CandidateError, SettingError, wording
from trackweave.formats.candidates import candidates_in_memory, read_candidate_files
from trackweave.frames.cuts import find_cuts, sampled_cuts
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource, exclude_unreadable, report_source
from trackweave.ids import FrameIndex, Level, LocalIndex
from trackweave.progress import Progress, open_progress
from trackweave.storage.candidates import (
    FilteredManifest,
    filtered_path,
)
from trackweave.storage.files import read_json_object, recorded_path
from trackweave.structures.run_log import RunLog
from trackweave.tracking.pipeline_context import UnsampledVideo

ALL_LEVELS = (Level(2), Level(4), Level(6))
GENERATED_LEVELS = (Level(2),)
"""What is tracked when candidates are generated and nobody said which levels: finer ones take many times as long."""


@dataclass(frozen=True)
class MaskFrames:
    """The frames that a run goes over.

    Attributes:
        frames: the sampled frames, those left out that cannot be read.
        video: the frames before sampling.
        first: index of the first sampled frame, whether or not it can be read.
        source: where they come from, or `memory`.
        whole: the video that `frames` are a sample of.
    """

    frames: FrameSource
    video: UnsampledVideo
    first: FrameIndex
    source: str
    whole: FrameSource

    def cuts(self, progress: Progress) -> tuple[LocalIndex, ...]:
        """Positions among the frames at which a new shot begins: looked for in the video between the first and the
        last of them, as what lies far apart in time is hard to tell from a cut."""
        whole, wanted = self.whole, self.frames.indices
        first = bisect_left(whole.indices, wanted[0])
        part = whole.select(range(first, bisect_left(whole.indices, wanted[-1]) + 1))
        with open_progress(progress, len(part), "looking for cuts") as display:
            found = find_cuts(part, lambda done: display.update(done, part.indices[done - 1]))
        return sampled_cuts(found, part, self.frames)


def open_mask_frames(
    frames: str | Path | NDArray[np.uint8] | FrameSource, sampling: str | None, log: RunLog, stack: ExitStack
) -> MaskFrames:
    """Opens the frames; where the log's policy is `skip`, leaves out those that cannot be read.

    Args:
        frames: a folder of images, a video file, an array `(N, H, W, 3)` uint8 RGB, or a source.
        sampling: `start:end:step`.
        log: takes the warnings.
        stack: closes what is opened here.

    Raises:
        FrameError: the frames cannot be read, or the video is damaged and the policy is `error`.
    """
    whole = open_frames(frames)
    if whole is not frames:
        stack.enter_context(whole)
    report_source(whole, log)
    sampled = open_frames(whole, sampling=sampling) if sampling else whole
    first = sampled.indices[0]
    if log.on_bad_item == "skip":
        sampled, excluded = exclude_unreadable(sampled)
        for frame, name, reason in excluded:
            log.skip("frame-skipped", f"left out frame {frame} ({name}): {reason}", each=True)
    source = recorded_path(whole.path) if whole.path is not None else "memory"
    return MaskFrames(sampled, UnsampledVideo.of(whole), first, source, whole)


# --- candidates ------------------------------------------------------------------------------------------------------


CandidateInput = str | Path | Mapping[int, object]
"""A folder or file, or candidates by the frame's index in the video, see `formats.candidates`."""


@dataclass(frozen=True)
class GivenCandidates:
    """Candidates that a user has.

    Attributes:
        root: where they lie; None = in memory.
        levels: those that are tracked.
        manifests: what other layouts than `level_L/filtered/filtered.json` hold, by level; empty for that one.
        files: every file that they were read from.
    """

    root: Path | None
    levels: Sequence[Level]
    manifests: Mapping[Level, FilteredManifest]
    files: Sequence[Path]

    @classmethod
    def open(cls, given: CandidateInput, levels: Sequence[int] | None, known: Collection[str]) -> GivenCandidates:
        """Finds out what is given.

        Args:
            given: a folder, a file, or candidates in memory.
            levels: which levels are wanted; None = all that are there.
            known: names of the video's frames, without suffix.

        Raises:
            InputError: there are no candidates, or a level is missing.
            SettingError: an empty choice of levels, or several of candidates that have one.
        """
        if isinstance(given, Mapping):
            return cls(None, *_one_level(candidates_in_memory(given), levels), ())
        root = Path(given)
        if any(root.glob("level_[0-9]*/filtered/filtered.json")):
            chosen = candidate_levels(root, levels)
            manifests = [filtered_path(root / f"level_{level}") for level in chosen]
            files = [file for path in manifests for file in (path, *sorted(path.parent.glob("seg_frame_*")))]
            return cls(root, chosen, {}, files)
        if not root.exists():
            raise CandidateError(f"{root}: there is no such folder of candidates")
        if any(root.glob("level_[0-9]*")):
            raise CandidateError(f"{root}: has no level_L/filtered/filtered.json")
        files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.is_file())
        try:
            manifest = read_candidate_files(root, known)
        except CandidateError as error:
            if root.is_dir() and str(error).startswith(f"{root}: holds"):
                text = str(error).removeprefix(f"{root}: ")
                raise CandidateError(f"{root}: has no level_L/filtered/filtered.json, and {text}") from None
            raise
        return cls(root, *_one_level(manifest, levels), files)


def _one_level(
    manifest: FilteredManifest, levels: Sequence[int] | None
) -> tuple[list[Level], dict[Level, FilteredManifest]]:
    if levels is not None and len(levels) != 1:
        remedy = wording("levels=[2]", "--levels 2")
        raise SettingError(f"{manifest.path}: has one granularity, not levels {list(levels)}: name one, as {remedy}")
    level = Level(int(levels[0])) if levels else GENERATED_LEVELS[0]
    return [level], {level: manifest}


def candidate_levels(root: Path, levels: Sequence[int] | None) -> list[Level]:
    """Which of the levels of a folder of candidates are tracked, ascending; None = all of them.

    Raises:
        CandidateError: there is no such folder, or it lacks a level.
        SettingError: an empty choice.
    """
    if not root.is_dir():
        raise CandidateError(f"{root}: there is no such folder of candidates")
    existing = sorted(Level(int(p.parents[1].name[6:])) for p in root.glob("level_[0-9]*/filtered/filtered.json"))
    if levels is None:
        if not existing:
            raise CandidateError(f"{root}: has no level_L/filtered/filtered.json")
        return existing
    if not levels:
        raise SettingError("no level was asked for")
    wanted = sorted({Level(int(level)) for level in levels})
    missing = [level for level in wanted if level not in existing]
    if missing:
        there = ", ".join(map(str, existing)) or "none"
        raise CandidateError(f"{root}: has no candidates of level {missing[0]}; levels there: {there}")
    return wanted


CANDIDATES_MANIFEST = "manifest.json"
"""What a generator says of a folder of candidates."""


def candidates_min_area(root: Path) -> float | None:
    """The generator's smallest area, when the candidates' folder has a manifest that tells."""
    path = root / CANDIDATES_MANIFEST
    if not path.is_file():
        return None
    value = read_json_object(path, "manifest of the candidates").get("min_area")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
