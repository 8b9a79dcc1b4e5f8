"""What a mask run is made of: frames, and candidates on disk or from a generator."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import CandidateError, SettingError, wording
from trackweave.formats.candidates import candidates_in_memory, read_candidate_files
from trackweave.frames.cuts import find_cuts, sampled_cuts
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource, exclude_unreadable, report_source, sample_evenly
from trackweave.ids import FrameIndex, Level, LocalIndex
from trackweave.predictors.base import PointSegmenter, PredictorSession, VideoPredictor
from trackweave.predictors.catalog import BACKENDS
from trackweave.predictors.registry import choose_predictor, open_text_detector
from trackweave.predictors.sam.settings import SamSettings
from trackweave.progress import Progress, ProgressDisplay, open_progress
from trackweave.proposals.automatic_masks import AutomaticMasks
from trackweave.proposals.generators import (
    CandidateGenerator,
    DetectorProposals,
    GeneratorChoice,
    GeneratorRequest,
    TiledProposals,
    make_generator,
)
from trackweave.proposals.refine import refine
from trackweave.proposals.regions import RegionProposals
from trackweave.proposals.schedule import SeenArea
from trackweave.proposals.settings import CandidateSettings
from trackweave.storage.candidates import (
    FilteredManifest,
    Parents,
    filtered_path,
    raw_path,
    write_filtered,
    write_parents,
)
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


def propose(
    frames: str | Path | NDArray[np.uint8] | FrameSource,
    output: str | Path,
    *,
    levels: Sequence[int] = ALL_LEVELS,
    generator: GeneratorRequest = "auto",
    candidate_stride: int | None = None,
    sampling: str | None = None,
    predictor_settings: SamSettings | None = None,
    progress: Progress = None,
) -> Path:
    """Finds candidates and writes them for `track_masks(frames, run, candidates=output)`.

    Args:
        frames: a folder of images, a video file, an array `(N, H, W, 3)` uint8 RGB, or a source.
        output: the folder that gets `level_L/filtered/filtered.json`.
        levels: granularity levels (2 coarse, 4 medium, 6 fine).
        generator: see `GeneratorChoice`: a name such as `regions`, `sam2-hf`, `detector=MODEL`, `salient=FILE.onnx`,
            or settings.
        candidate_stride: frames between two on which the generator runs; None: where something new is seen.
        sampling: `start:end:step` over the frames.
        predictor_settings: of the generators of the SAM 2 family: weights, device and more.
        progress: None = shown by itself in a terminal or a notebook; or a function of `(done, total, label)`.

    Returns:
        `output`.

    Raises:
        FrameError: the frames cannot be read.
        RunFolderError: `output` cannot be written, or another process works in it.
        SettingError: a setting is wrong.
        PredictorError: the model of a generator is missing or failed.
    """
    choice = GeneratorChoice.of(generator)
    check_stride(candidate_stride)
    with ExitStack() as stack:
        source = open_frames(frames, sampling=sampling)
        if source is not frames:
            stack.enter_context(source)
        opened = open_generator(choice, levels, source, None, predictor_settings, stack)
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
                opened.generator,
                stride=candidate_stride,
                cuts=cuts,
                progress=display,
                settings=choice.candidates,
                keep_raw=True,
            )
    return Path(output)


def check_stride(stride: int | None) -> None:
    """Refuses a stride below 1.

    Raises:
        SettingError: it is.
    """
    if stride is not None and stride < 1:
        raise SettingError(f"candidate_stride is at least 1, not {stride}")


@dataclass(frozen=True)
class OpenedGenerator:
    """A generator that is ready.

    Attributes:
        generator: what finds candidates.
        name: what was taken.
        settings: those of its settings that are not the defaults and change what it finds.
        identity: of its model, see `ChosenPredictor.identity`; empty where the predictor's model is the generator's.
        session: the predictor's session that it uses, which may track as well; None = no such.
        idle: sections of settings that were changed and have no effect on it.
    """

    generator: CandidateGenerator | AutomaticMasks
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    session: PredictorSession | None = None
    idle: Sequence[str] = ()


def open_generator(
    choice: GeneratorChoice,
    levels: Sequence[int],
    frames: FrameSource,
    predictor: VideoPredictor | None,
    settings: SamSettings | None,
    stack: ExitStack,
) -> OpenedGenerator:
    """The generator that was asked for; refuses an unknown one, and levels that it does not have.

    Args:
        choice: what was asked for.
        levels: what it is to find.
        frames: what it is to look at; none is read yet.
        predictor: what will track the candidates; None = nothing will.
        settings: of the models of the SAM 2 family.
        stack: closes what is opened here.

    Raises:
        SettingError: no such generator, or a level that it does not have.
        InputError: its model cannot be used.
        PredictorError: a model of the SAM 2 family cannot be loaded.
    """
    name = choice.kind
    if choice.text.prompts and name != "sam3":
        remedy = wording("generator=TextSettings(prompts=…) alone", "--text alone, or --generator sam3[=WEIGHTS]")
        raise SettingError(f"generator {choice.name} does not look for what a text names: give {remedy}")
    segments = getattr(predictor, "segments_points", False)
    idle = [
        section
        for section, own, is_used in (
            ("regions", choice.regions, name == "regions" or (name == "auto" and not segments)),
            ("text", choice.text, name == "sam3"),
            ("grid", choice.grid, name in ("predictor", *BACKENDS) or (name == "auto" and segments)),
        )
        if not is_used and own.model_dump(exclude_defaults=True)
    ]
    identity: Mapping[str, Any] = {}
    if name == "predictor" and not segments:
        who = "a predictor" if predictor is None else f"predictor {predictor.name}"
        raise SettingError(
            f"generator predictor: {who} has no automatic masks: name a model of the SAM 2 family with its feature "
            f"store on, as {wording('generator=', '--generator ')}{next(iter(BACKENDS))}"
        )
    if name in BACKENDS:
        chosen = choose_predictor(choice.name, settings)
        predictor, segments = chosen.predictor, getattr(chosen.predictor, "segments_points", False)
        identity = chosen.identity
        if not segments:
            store = wording("SamSettings(feature_store=True)", "--feature-store")
            raise SettingError(f"generator {name} needs {store}: it looks at what is kept of a frame")
    if segments and predictor is not None and name in ("auto", "predictor", *BACKENDS):
        session = predictor.open(frames)
        stack.callback(session.close)
        assert isinstance(session, PointSegmenter)
        automatic = AutomaticMasks(session, frames.size, choice.grid)
        automatic.check_levels(levels)
        changed = choice.grid.model_dump(mode="json", exclude_defaults=True, exclude={"points_per_batch"})
        changed |= _changed(choice.candidates)
        if choice.candidates.tile_size is not None:
            raise SettingError(
                "a model's automatic masks have no tile_size: grid.crop_layers looks at parts of a frame"
            )
        own = None if name in BACKENDS else session
        return OpenedGenerator(automatic, predictor.name, changed, identity, own, idle)
    if name == "sam3":
        if settings is not None and predictor is not None and predictor.name in {*BACKENDS} - {"sam3-tracker"}:
            settings = settings.model_copy(update={"weights": None})  # they are the predictor's
        found = open_text_detector(choice.name.partition("=")[2], choice.text, settings)
        stack.callback(found.detector.close)
        generator: CandidateGenerator = DetectorProposals(found.detector)
        changed = choice.text.model_dump(mode="json", exclude_defaults=True, exclude={"device"})
        identity = found.identity
    elif name in ("auto", "regions"):
        generator = make_generator(choice.regions)
        name, changed = "regions", choice.regions.model_dump(mode="json", exclude_defaults=True)
    else:
        generator, name, changed = make_generator(choice.name), choice.name, {}
    generator.check_levels([int(level) for level in levels])
    if choice.candidates.tile_size is not None:
        generator = TiledProposals(generator, choice.candidates)
    return OpenedGenerator(generator, name, {**changed, **_changed(choice.candidates)}, identity, idle=idle)


def _changed(settings: CandidateSettings) -> dict[str, Any]:
    """What was chosen to be done with candidates, for the record of a run."""
    changed = settings.model_dump(mode="json", exclude_defaults=True)
    return {"candidates": changed} if changed else {}


def propose_candidates(
    frames: FrameSource,
    root: Path,
    levels: Sequence[Level],
    generator: CandidateGenerator | AutomaticMasks,
    *,
    stride: int | None = None,
    cuts: Sequence[LocalIndex] = (),
    progress: ProgressDisplay | None = None,
    settings: CandidateSettings | None = None,
    keep_raw: bool = False,
) -> list[LocalIndex]:
    """Finds candidates and writes them in the filtered layout below `root`.

    The generator runs on the first frame of each shot, and then on every `stride`-th and the last frame; or, without a
    stride, where enough of the frame was not in view when it ran last, and then only what is new is kept.

    Args:
        frames: what it looks at.
        root: gets `level_L/filtered/filtered.json`.
        levels: what it looks for.
        generator: finds candidates.
        stride: see above.
        cuts: positions at which a new shot begins.
        progress: shows frames.
        settings: what is done with what it finds; with `nest`, `tree.json` has the links.
        keep_raw: unfiltered candidates are kept in `level_L/raw/raw.json`, for `filter_candidates`.

    Returns:
        The positions of the frames on which candidates were looked for.
    """
    views = _new_views(frames, cuts, progress) if stride is None else _strided(frames, stride, cuts, progress)
    chosen, wanted = settings or CandidateSettings(), [int(level) for level in levels]
    proposed: dict[int, list[tuple[int, str, Candidates]]] = {level: [] for level in wanted}
    raw: dict[int, list[tuple[int, str, Candidates]]] = {level: [] for level in wanted}
    trees: list[tuple[int, str, Parents]] = []
    partial: list[int] = []
    positions = []
    for local, seen in views:
        index, name, image = int(frames.indices[local]), frames.names[local], frames[local]
        unfiltered = _raw_levels(generator, local, image, wanted) if keep_raw else None
        by_level = found_on(generator, local, image, wanted)
        refined = refine(by_level, chosen)
        for level in wanted:
            found, every = refined.levels[level], (unfiltered or by_level)[level]
            proposed[level].append((index, name, found if seen is None else seen.new_candidates(found)))
            if keep_raw:
                raw[level].append((index, name, every if seen is None else seen.new_candidates(every)))
        trees.append((index, name, _present(refined.parents, {level: proposed[level][-1][2] for level in wanted})))
        partial += [] if seen is None else [index]
        positions.append(local)
    names = class_names_of(generator)
    for level in wanted:
        level_root = root / f"level_{level}"
        own = {} if keep_raw else chosen.recorded({}, frames.size)  # else they are with the raw ones
        write_filtered(level_root, level, iter(proposed[level]), limits=own or None, partial=partial, class_names=names)
        if keep_raw:
            limits = chosen.recorded(getattr(generator, "limits", {}), frames.size)
            write_filtered(
                level_root,
                level,
                iter(raw[level]),
                path=raw_path(level_root),
                limits=limits,
                partial=partial,
                class_names=names,
            )
    if chosen.nest:
        write_parents(root / TREE_NAME, trees)
    return positions


def found_on(
    generator: CandidateGenerator | AutomaticMasks, local: LocalIndex, image: NDArray[np.uint8], levels: Sequence[int]
) -> dict[int, Candidates]:
    """What a generator finds on a frame, level by level."""
    if isinstance(generator, AutomaticMasks):
        return generator.propose_at(local, levels)
    return generator.propose_levels(image, levels)


def class_names_of(generator: CandidateGenerator | AutomaticMasks) -> Mapping[int, str]:
    """Names of the classes that a generator knows, by number."""
    return getattr(generator, "class_names", None) or {}


TREE_NAME = "tree.json"
"""Below a folder of candidates: which is part of which."""


def _raw_levels(
    generator: CandidateGenerator | AutomaticMasks, local: LocalIndex, image: NDArray[np.uint8], levels: Sequence[int]
) -> dict[int, Candidates] | None:
    """What a generator chooses from; None where it does not choose."""
    if isinstance(generator, AutomaticMasks):
        return generator.raw_at(local, levels)
    return generator.raw_levels(image, levels) if isinstance(generator, RegionProposals) else None


def _present(parents: Parents, levels: Mapping[int, Candidates]) -> Parents:
    """Links between candidates that are there; one whose parent is not has none."""
    there = {(level, one) for level, candidates in levels.items() for one in candidates.id.tolist()}
    return {one: parent if parent in there else None for one, parent in parents.items() if one in there}


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
        if seen.is_due(frames[local], starts=starts):
            yield LocalIndex(local), None if starts else seen
            seen.look()
        if progress is not None:
            progress.update(local + 1, frames.indices[local])
