"""`open_masks`: the masks of a run as everything reads them: by identity, and under what a person said.

What a person prompted anew lies in side archives, `prompted/KEY.npz`, one for each prompt: frame-major like
`video_segments.npz`, with one object, whose id is 1. They are laid over the raw tracks while the prompt is in force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import ArtifactError, wording
from trackweave.ids import PROMPTED_LEVEL, FrameIndex, Level
from trackweave.storage.corrections import read_corrections
from trackweave.storage.identity import Fusion, IdentityRecord, IdentitySegments, read_identity
from trackweave.storage.mask_archive import ObjectSegments, VideoSegments, write_video_segments
from trackweave.storage.run import FrameList, RunManifest, RunPaths, read_run_summary
from trackweave.structures.corrected_tracks import (
    CorrectedTracks,
    PromptTask,
    PropagatedPrompt,
    RawTracks,
    correct_tracks,
)
from trackweave.structures.corrections import Act, step_to_json
from trackweave.structures.identity import IdentityTable, Tree
from trackweave.structures.run_summary import MaskSummary
from trackweave.structures.tracks import FrameObjects, TrackClasses, Tracks

PROMPT_ID = 1
"""Of the one object in a side archive."""


def open_masks(run: RunPaths, level: Level, *, raw: bool = False, unfinished: bool = False) -> VideoSegments:
    """The masks of a level: by identity where the run has identities, and as a person corrected them.

    Args:
        run: the run folder.
        level: the level.
        raw: as they were tracked.
        unfinished: pass over prompts that are not propagated yet.

    Raises:
        ArtifactError: no such level, a damaged file, or a prompt that is not propagated yet.
    """
    manifest = RunManifest.load(run.manifest)
    path = manifest.artifact(level, "video_segments")
    corrected = None if raw else read_corrected(run, unfinished=unfinished)
    if corrected is not None:
        return CorrectedSegments(run, [level], corrected)
    record = None if raw or level == PROMPTED_LEVEL else read_identity(run)
    if record is None:
        return VideoSegments(path)
    others = {
        one: manifest.artifact(one, "video_segments")
        for one in manifest.tracked_levels
        if one not in (PROMPTED_LEVEL, level)
    }
    return IdentitySegments(path, level, record, others)


# --- what acts come to -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CorrectedRun:
    """A run of masks under what a person said.

    Attributes:
        record: the identities, or every track as its own, with the tree of the objects as they are now.
        tracks: which object each raw track is.
    """

    record: IdentityRecord
    tracks: CorrectedTracks

    @classmethod
    def of(cls, run: RunPaths, acts: Sequence[Act], raw: RawTracks, record: IdentityRecord | None) -> CorrectedRun:
        """What acts come to.

        Args:
            run: the run folder, which has the side archives.
            acts: in force, the oldest first.
            raw: the run's tracks.
            record: its identities; None = every track is its own.

        Raises:
            ArtifactError: a side archive is damaged.
        """
        known = record if record is not None else _each_its_own(raw)
        tracks = correct_tracks(acts, raw, known.table, lambda task: read_prompt(run, task))
        return cls(replace(known, tree=tracks.tree(known.tree)), tracks)

    def classes(self, levels: Iterable[TrackClasses]) -> TrackClasses:
        """The classes of the objects: those of their tracks, else those of the identity that they come from.

        Args:
            levels: the classes of the raw tracks, level by level.
        """
        raw, table = TrackClasses(), self.record.table
        for own in levels:
            raw = TrackClasses({**raw.tracks, **own.tracks}, {**raw.names, **own.names})
        before = raw.joined(zip(table.track_id.tolist(), table.identity.tolist(), strict=True)).tracks
        now = raw.joined(self.tracks.members())
        origins = {number: before[one.origin] for number, one in self.tracks.objects.items() if one.origin in before}
        return replace(now, tracks={**origins, **now.tracks})


def _each_its_own(raw: RawTracks) -> IdentityRecord:
    levels = dict(raw.levels)
    table = IdentityTable.from_links(list(levels), list(levels.values()))
    return IdentityRecord(table, Tree.from_parents(dict.fromkeys(levels, 0), levels), settings={"nest": False})


def read_corrected(run: RunPaths, *, unfinished: bool = False) -> CorrectedRun | None:
    """What a person said comes to; None where no act is in force.

    Args:
        run: the folder of a run of masks.
        unfinished: pass over prompts that are not propagated yet.

    Raises:
        ArtifactError: a damaged file, or a prompt that is not propagated yet.
    """
    acts = read_corrections(run.corrections, RunManifest.load(run.manifest).fingerprint).acts
    if not acts:
        return None
    with ExitStack() as stack:
        corrected = CorrectedRun.of(run, acts, _raw_tracks(run, stack), read_identity(run))
    if corrected.tracks.pending and not unfinished:
        act = corrected.tracks.pending[0].act
        again = wording(f"correct({str(run.root)!r})", f"trackweave correct {run.root}")
        raise ArtifactError(
            f"{run.corrections}: the prompt of {act.name} on frame {act.frame} is not propagated yet: {again} does it"
        )
    return corrected


def _raw_tracks(run: RunPaths, stack: ExitStack) -> RawTracks:
    """The run's tracks, whose frames are read when they are asked for, until `stack` closes the files."""
    manifest = RunManifest.load(run.manifest)
    archives = {
        level: stack.enter_context(ObjectSegments(manifest.artifact(level, "object_segments")))
        for level in manifest.tracked_levels
    }
    found: dict[int, NDArray[np.int64]] = {}
    levels = {int(track): int(level) for level, objects in archives.items() for track in objects.ids}

    def seen(track_id: int) -> NDArray[np.int64]:
        if track_id not in found:
            references = archives[Level(levels[track_id])].references(track_id)
            found[track_id] = np.ascontiguousarray(references["frame"])
        return found[track_id]

    return raw_tracks(run, levels, seen)


def raw_tracks(run: RunPaths, levels: Mapping[int, int], seen: Callable[[int], NDArray[np.int64]]) -> RawTracks:
    """The raw tracks of a run of masks, with what bounds a prompt.

    Args:
        run: the run folder.
        levels: level of each track.
        seen: see `RawTracks.seen`.

    Raises:
        ArtifactError: the manifest, the list of frames or the summary is damaged.
    """
    manifest = RunManifest.load(run.manifest)
    data = manifest.data
    try:
        cuts = [int(cut) for cut in data["input"].get("cuts") or ()]
        reach = data["config"]["settings"].get("max_propagate")
        reach = None if reach is None else int(reach)
        objects = data["config"]["prompts"].get("objects") or ()
        marked: dict[int, list[int]] = {}
        for one in objects:
            marked.setdefault(int(one["id"]), []).append(int(one["frame"]))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ArtifactError(f"{run.manifest}: its input or settings are damaged: {error!r}") from None
    if PROMPTED_LEVEL in manifest.tracked_levels:
        summary = read_run_summary(run.own(run.summary))
        if isinstance(summary, MaskSummary) and PROMPTED_LEVEL in summary.levels:
            for track in summary.levels[PROMPTED_LEVEL].tracks:
                if track.prompt_frame is not None:
                    marked.setdefault(track.track_id, []).append(track.prompt_frame)
    frames = [int(index) for index in FrameList.read(run.frames).indices]
    run_levels = [int(level) for level in manifest.tracked_levels]
    return RawTracks(levels, seen, run_levels, frames, cuts, reach, marked)


# --- side archives ---------------------------------------------------------------------------------------------------


def read_prompt(run: RunPaths, task: PromptTask) -> PropagatedPrompt | None:
    """Where the masks of a prompt are; None where it is not propagated yet.

    Raises:
        ArtifactError: damaged.
    """
    path = run.prompted(task.key)
    if not path.is_file():
        return None
    with VideoSegments(path) as video:
        try:
            area = float(video.info.metadata["area"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: its manifest.json lacks or misspells {error}") from None
        return PropagatedPrompt(np.array([int(frame) for frame in video.frames], np.int64), area)


def write_prompt(
    run: RunPaths,
    task: PromptTask,
    frames: Iterable[FrameObjects],
    *,
    area: float,
    mask_scale_ratio: float,
    full_resolution_shape: tuple[int, int],
    predictor: str,
) -> Path:
    """Writes the side archive of a prompt, whole or not at all.

    Args:
        run: the run folder.
        task: the prompt.
        frames: its masks in order of frames; the id is `PROMPT_ID`.
        area: mean pixels of the masks.
        mask_scale_ratio: stored size over frame size.
        full_resolution_shape: `(H, W)` of the frames.
        predictor: what moved it.

    Raises:
        RunFolderError: it cannot be written.
    """
    path = run.prompted(task.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    prompt = step_to_json(task.act)
    write_video_segments(
        path,
        frames,
        mask_scale_ratio=mask_scale_ratio,
        full_resolution_shape=full_resolution_shape,
        metadata={
            "prompt": prompt, "first": task.first, "last": task.last, "area": round(area, 1), "predictor": predictor
        },
    )  # fmt: skip
    return path


# --- reading ---------------------------------------------------------------------------------------------------------


class CorrectedSegments(VideoSegments):
    """A level's archive under what a person said, with the prompts that were propagated laid over it; see `Fusion`.

    Args:
        run: the run folder.
        levels: the level, or several, of which the first is that of `frame` and `boxes`.
        corrected: what was said, come to.

    Raises:
        ArtifactError: no such level, or a damaged file.
    """

    def __init__(self, run: RunPaths, levels: Sequence[Level], corrected: CorrectedRun) -> None:
        manifest = RunManifest.load(run.manifest)
        super().__init__(manifest.artifact(levels[0], "video_segments"))
        self._wanted = list(levels)
        self._stack = ExitStack()
        self._raw: dict[Level, VideoSegments] = {}
        self._prompts: list[tuple[PromptTask, VideoSegments]] = []
        self._fusion = Fusion(corrected.record, corrected.tracks.at)
        try:
            self._open(run, manifest, corrected.tracks.tasks)
            classes = corrected.classes([video.info.classes for video in self._raw.values()])
            self.info = replace(self.info, classes=classes)
        except BaseException:
            self.close()
            raise
        self._full_size = self.info.full_resolution_shape or self.info.mask_shape or (1, 1)

    def _open(self, run: RunPaths, manifest: RunManifest, tasks: Iterable[PromptTask]) -> None:
        """Opens the archives that a frame is made of, and lists the frames of the wanted levels."""
        # Parts are cut to their wholes, which lie in other levels.
        nested = self._fusion.is_nested and any(level != PROMPTED_LEVEL for level in self._wanted)
        others = [level for level in manifest.tracked_levels if nested and level != PROMPTED_LEVEL]
        names: dict[FrameIndex, str] = {}
        for level in sorted({*self._wanted, *others}):
            video = self._stack.enter_context(VideoSegments(manifest.artifact(level, "video_segments")))
            self._raw[level] = video
            if level in self._wanted:
                names = {frame: video.frame_name(frame) for frame in video.frames} | names
        for task in tasks:
            if task.level in self._raw and run.prompted(task.key).is_file():
                video = self._stack.enter_context(VideoSegments(run.prompted(task.key)))
                self._prompts.append((task, video))
                if task.level in self._wanted:
                    names = {frame: video.frame_name(frame) for frame in video.frames} | names
                    if self.info.mask_shape is None:
                        self.info = replace(self.info, mask_shape=video.info.mask_shape)
        self._names = dict(sorted(names.items()))

    def close(self) -> None:
        """Closes the files."""
        if hasattr(self, "_stack"):
            self._stack.close()
        super().close()

    def frame(self, frame: FrameIndex | int) -> FrameObjects:
        """Objects of one frame; `track_id` is the object."""
        return self.levels(frame)[self._wanted[0]]

    def levels(self, frame: FrameIndex | int) -> dict[Level, FrameObjects]:
        """Objects of one frame, of each wanted level."""
        index = FrameIndex(int(frame))
        raw = {level: self._laid_over(level, video.frame(index)) for level, video in self._raw.items()}
        fused = self._fusion.fuse(raw, self._full_size)
        return {level: self.info.classes.onto(fused[level]) for level in self._wanted}

    def _laid_over(self, level: Level, raw: FrameObjects) -> FrameObjects:
        """The raw tracks of a frame, and behind them the masks of prompts."""
        for task, video in self._prompts:
            prompted = video.frame(raw.frame) if task.level == level else None
            if prompted is not None and len(prompted):
                added = replace(prompted, track_id=np.full(len(prompted), task.number))
                raw = FrameObjects.concat([raw, added]) if len(raw) else added
        return raw

    def boxes(self, frame: FrameIndex | int, level: int | None = None) -> Tracks:
        """One frame's objects without their masks."""
        return Tracks.from_frames([self.frame(frame)], level=level, with_masks=False)


def corrected_frames(
    run: RunPaths, levels: Sequence[Level], corrected: CorrectedRun
) -> Iterator[dict[Level, FrameObjects]]:
    """The objects of all levels, frame after frame.

    Args:
        run: the run folder.
        levels: of the run.
        corrected: what was said, come to.

    Raises:
        ArtifactError: a damaged file.
    """
    with CorrectedSegments(run, levels, corrected) as video:
        for frame in video.frames:
            yield video.levels(frame)
