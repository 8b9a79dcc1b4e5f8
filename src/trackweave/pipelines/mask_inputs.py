"""What a mask run is made of: frames, and candidates on disk or from a generator."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import CandidateError, SettingError
from trackweave.frames.cuts import find_cuts, sampled_cuts
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource, exclude_unreadable, report_source, sample_evenly
from trackweave.ids import FrameIndex, Level, LocalIndex
from trackweave.progress import Progress, ProgressDisplay, open_progress
from trackweave.proposals.generators import CandidateGenerator, make_generator
from trackweave.proposals.schedule import MIN_GAP, NEW_SHARE, SeenArea
from trackweave.proposals.settings import RegionSettings
from trackweave.storage.candidates import write_filtered
from trackweave.storage.files import locked_folder, read_json_object, recorded_path
from trackweave.structures.candidates import Candidates
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


def candidates_min_area(root: Path) -> float | None:
    """The generator's smallest area, when the candidates' folder has a manifest that tells."""
    path = root / "manifest.json"
    if not path.is_file():
        return None
    value = read_json_object(path, "manifest of the candidates").get("min_area")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def propose(
    frames: str | Path | NDArray[np.uint8] | FrameSource,
    output: str | Path,
    *,
    levels: Sequence[int] = ALL_LEVELS,
    generator: str | RegionSettings = "regions",
    candidate_stride: int | None = None,
    sampling: str | None = None,
    progress: Progress = None,
) -> Path:
    """Finds candidates and writes them for `track_masks(frames, run, candidates=output)`.

    Args:
        frames: a folder of images, a video file, an array `(N, H, W, 3)` uint8 RGB, or a source.
        output: the folder that gets `level_L/filtered/filtered.json`.
        levels: granularity levels (2 coarse, 4 medium, 6 fine).
        generator: see `make_generator`: `regions`, or its settings, `detector=MODEL`, `salient=FILE.onnx`.
        candidate_stride: frames between two on which the generator runs; None: where something new is seen.
        sampling: `start:end:step` over the frames.
        progress: None = shown by itself in a terminal or a notebook; or a function of `(done, total, label)`.

    Returns:
        `output`.

    Raises:
        FrameError: the frames cannot be read.
        RunFolderError: `output` cannot be written, or another process works in it.
        SettingError: a setting is wrong.
    """
    opened = open_generator(generator, candidate_stride, levels)
    source = open_frames(frames, sampling=sampling)
    try:
        report_source(source, RunLog("skip"))
        cuts = find_cuts(source)
        with (
            locked_folder(Path(output)),
            open_progress(progress, len(source), "finding candidates") as display,
        ):
            propose_candidates(
                source,
                Path(output),
                [Level(level) for level in levels],
                opened,
                stride=candidate_stride,
                cuts=cuts,
                progress=display,
            )
    finally:
        if source is not frames:
            source.close()
    return Path(output)


def open_generator(generator: str | RegionSettings, stride: int | None, levels: Sequence[int]) -> CandidateGenerator:
    """The generator that was asked for; refuses an unknown one, levels that it does not have, or a stride below 1.

    Raises:
        SettingError: one of them.
        InputError: its model cannot be used.
    """
    if stride is not None and stride < 1:
        raise SettingError(f"candidate_stride is at least 1, not {stride}")
    opened = make_generator(generator)
    opened.check_levels([int(level) for level in levels])
    return opened


def propose_candidates(
    frames: FrameSource,
    root: Path,
    levels: Sequence[Level],
    generator: CandidateGenerator,
    *,
    stride: int | None = None,
    cuts: Sequence[LocalIndex] = (),
    progress: ProgressDisplay | None = None,
) -> list[LocalIndex]:
    """Finds candidates and writes them in the filtered layout below `root`.

    The generator runs on the first frame of each shot, and then on every `stride`-th and the last frame; or, without a
    stride, where enough of the frame was not in view when it ran last, and then only what is new is kept.

    Returns:
        The positions of the frames on which candidates were looked for.
    """
    views = _new_views(frames, cuts, progress) if stride is None else _strided(frames, stride, cuts, progress)
    proposed: dict[Level, list[tuple[int, str, Candidates]]] = {level: [] for level in levels}
    positions = []
    for local, seen in views:
        by_level = generator.propose_levels(frames[local], [int(level) for level in levels])
        for level in levels:
            found = by_level[int(level)] if seen is None else seen.new_candidates(by_level[int(level)])
            proposed[level].append((int(frames.indices[local]), frames.names[local], found))
        positions.append(local)
    for level in levels:
        write_filtered(root / f"level_{level}", int(level), iter(proposed[level]))
    return positions


def _strided(
    frames: FrameSource, stride: int, cuts: Sequence[LocalIndex], progress: ProgressDisplay | None
) -> Iterator[tuple[LocalIndex, None]]:
    """Every `stride`-th frame, the last, and the first of each shot."""
    for local in sorted({*sample_evenly(range(len(frames)), stride), *cuts}):
        yield LocalIndex(local), None
        if progress is not None:
            progress.update(local + 1, frames.indices[local])


def _new_views(
    frames: FrameSource, cuts: Sequence[LocalIndex], progress: ProgressDisplay | None
) -> Iterator[tuple[LocalIndex, SeenArea | None]]:
    """Frames of which enough is new, with what was seen before; None on the first frame of a shot."""
    seen = SeenArea()
    for local in range(len(frames)):
        starts = local == 0 or local in cuts
        if starts:
            seen.forget()
        seen.move_to(frames[local])
        if starts or (seen.frames_since >= MIN_GAP and seen.new_share >= NEW_SHARE):
            yield LocalIndex(local), None if starts else seen
            seen.look()
        if progress is not None:
            progress.update(local + 1, frames.indices[local])
