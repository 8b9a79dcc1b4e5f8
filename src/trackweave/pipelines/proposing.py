"""Candidates found on the way: which generator looks for them, on which frames, and how they are written.

`propose` is a job of its own; `track_masks` opens a generator and calls `propose_candidates` in its run folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import SettingError, wording
from trackweave.frames.cuts import find_cuts
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource, report_source, sample_evenly
from trackweave.ids import Level, LocalIndex
from trackweave.pipelines.mask_inputs import ALL_LEVELS
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
from trackweave.settings import Settings
from trackweave.storage.candidates import (
    Parents,
    raw_path,
    write_filtered,
    write_parents,
)
from trackweave.storage.files import locked_folder
from trackweave.structures.candidates import Candidates
from trackweave.structures.run_log import RunLog


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
    settings: Mapping[str, object] = field(default_factory=dict)
    identity: Mapping[str, object] = field(default_factory=dict)
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

    A model of the SAM 2 family proposes by its automatic masks, from the features that its session keeps of a frame:
    the one that tracks where it is meant (`predictor`, or `auto` where it can), else one that is loaded for that.
    Everything else looks at images.

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
    if name in BACKENDS:
        chosen = choose_predictor(choice.name, settings)
        if not _segments_points(chosen.predictor):
            store = wording("SamSettings(feature_store=True)", "--feature-store")
            raise SettingError(f"generator {name} needs {store}: it looks at what is kept of a frame")
        opened = _open_automatic_masks(choice, levels, frames, chosen.predictor, stack)
        # It is not the model that tracks: its identity counts, and its session tracks nothing.
        opened = replace(opened, identity=chosen.identity, session=None)
    elif predictor is not None and _segments_points(predictor) and name in ("auto", "predictor"):
        opened = _open_automatic_masks(choice, levels, frames, predictor, stack)
    elif name == "predictor":
        who = "a predictor" if predictor is None else f"predictor {predictor.name}"
        raise SettingError(
            f"generator predictor: {who} has no automatic masks: name a model of the SAM 2 family with its feature "
            f"store on, as {wording('generator=', '--generator ')}{next(iter(BACKENDS))}"
        )
    else:
        opened = _open_image_generator(choice, levels, predictor, settings, stack)
    return replace(opened, idle=_idle_sections(choice, opened))


def _segments_points(predictor: VideoPredictor) -> bool:
    """Whether the sessions of a predictor are `PointSegmenter`s, which automatic masks are made by."""
    return bool(getattr(predictor, "segments_points", False))


def _open_automatic_masks(
    choice: GeneratorChoice,
    levels: Sequence[int],
    frames: FrameSource,
    predictor: VideoPredictor,
    stack: ExitStack,
) -> OpenedGenerator:
    """The automatic masks of a model of the SAM 2 family, and the session that they come from."""
    session = predictor.open(frames)
    stack.callback(session.close)
    assert isinstance(session, PointSegmenter)
    generator = AutomaticMasks(session, frames.size, choice.grid)
    generator.check_levels(levels)
    if choice.candidates.tile_size is not None:
        raise SettingError("a model's automatic masks have no tile_size: grid.crop_layers looks at parts of a frame")
    changed = choice.grid.model_dump(mode="json", exclude_defaults=True, exclude={"points_per_batch"})
    return OpenedGenerator(generator, predictor.name, changed | _changed(choice.candidates), session=session)


def _open_image_generator(
    choice: GeneratorChoice,
    levels: Sequence[int],
    predictor: VideoPredictor | None,
    settings: SamSettings | None,
    stack: ExitStack,
) -> OpenedGenerator:
    """A generator that looks at images: SAM 3 for a text, the built-in regions, a detector, a salient-object model."""
    name, changed = choice.kind, dict[str, object]()
    identity: Mapping[str, object] = {}
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
        generator, name = make_generator(choice.name), choice.name
    generator.check_levels([int(level) for level in levels])
    if choice.candidates.tile_size is not None:
        generator = TiledProposals(generator, choice.candidates)
    return OpenedGenerator(generator, name, changed | _changed(choice.candidates), identity)


def _idle_sections(choice: GeneratorChoice, opened: OpenedGenerator) -> list[str]:
    """Sections of settings that were changed, although the generator that was opened has no such settings."""
    sections: tuple[tuple[str, Settings, bool], ...] = (
        ("regions", choice.regions, opened.name == "regions"),
        ("text", choice.text, choice.kind == "sam3"),
        ("grid", choice.grid, isinstance(opened.generator, AutomaticMasks)),
    )
    return [name for name, own, is_used in sections if not is_used and own.model_dump(exclude_defaults=True)]


def _changed(settings: CandidateSettings) -> dict[str, object]:
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
        if seen.advance(frames[local], starts=starts):
            yield LocalIndex(local), None if starts else seen
            seen.look()
        if progress is not None:
            progress.update(local + 1, frames.indices[local])
