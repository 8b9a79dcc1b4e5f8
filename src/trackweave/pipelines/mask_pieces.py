"""Pieces of a long video of masks: how it is divided, and what their runs leave as the levels of one run."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import ArtifactError, PredictorError, RunFolderError, SettingError
from trackweave.frames.source import FrameSource, sampled_positions
from trackweave.identity.pieces import OverlapVotes, follow, joined_ids, samplings
from trackweave.ids import FrameIndex, Level, LocalIndex, TrackId
from trackweave.masks.ops import mask_iou
from trackweave.pipelines.mask_inputs import open_mask_frames
from trackweave.pipelines.proposing import TREE_NAME
from trackweave.predictors.base import PredictorSession
from trackweave.predictors.registry import ChosenPredictor
from trackweave.progress import Progress, ProgressDisplay
from trackweave.storage.candidates import (
    Parents,
    filtered_path,
    read_filtered,
    read_parents,
    write_joined_manifest,
    write_parents,
)
from trackweave.storage.mask_archive import VideoSegments
from trackweave.storage.run import FrameList, LevelRecord, RunManifest, RunPaths, read_run_summary
from trackweave.structures.run_log import RunLog
from trackweave.structures.run_summary import JsonRecord, MaskSummary, TrackSummary
from trackweave.structures.tracks import FrameObjects, TrackClass
from trackweave.tracking.settings import TrackingSettings
from trackweave.tracking.stores import BatchRecord, DedupStats, FrameResultStore, prompt_type_of

SAME_IOU = 0.3
"""Of the masks of one thing in two pieces, on a frame and on average: each has found and followed them on its own."""
COVERED_IOU = 0.5
"""With a mask of the earlier piece, from which one of the later piece adds nothing on a shared frame."""


def divide_masks(
    source: Any,
    sampling: str | None,
    settings: TrackingSettings,
    *,
    frames: int,
    overlap: int,
    progress: Progress = None,
) -> list[str]:
    """How a video is divided into pieces that are tracked one by one, see `identity.pieces`.

    Args:
        source: as of `track_masks`.
        sampling: `start:end:step` over its frames.
        settings: whether tracks end at cuts, where a piece rather ends; and what becomes of frames that cannot be read.
        frames: most of a piece.
        overlap: frames that two pieces share where no hard cut lies between them.
        progress: None = shown by itself in a terminal or a notebook; or a function of `(done, total, label)`.

    Returns:
        samplings of the frames, as `track_masks` takes them; none where the video is not longer than a piece.

    Raises:
        FrameError: it cannot be read.
        SettingError: a sampling that takes no frame, or too many pieces.
    """
    with ExitStack() as stack:
        opened = open_mask_frames(source, sampling, RunLog(settings.on_bad_item), stack)
        positions = sampled_positions(sampling, len(opened.whole))
        cuts: Sequence[int] = ()
        if settings.cuts == "detect" and len(positions) > frames:
            wanted = [opened.whole.indices[position] for position in positions]
            cuts = [bisect_left(wanted, opened.frames.indices[cut]) for cut in opened.cuts(progress)]
        return samplings(positions, frames, overlap, cuts, opened.source)


@dataclass(frozen=True)
class MaskPiece:
    """A finished run over some of the frames of a video.

    Attributes:
        paths: of its folder.
        manifest: of its run.
        summary: its numbers.
        levels: level → what its journal says of it.
        first: absolute index of its first frame.
        last: absolute index of its last frame.
        start: absolute index of its first frame that no earlier piece has.
    """

    paths: RunPaths
    manifest: RunManifest
    summary: MaskSummary
    levels: Mapping[Level, LevelRecord]
    first: FrameIndex
    last: FrameIndex
    start: FrameIndex

    @property
    def span(self) -> str:
        """Its frames, by absolute index, the end excluded."""
        return f"{self.first}:{self.last + 1}"

    @property
    def prompts(self) -> JsonRecord:
        """Where its candidates came from, as its manifest says."""
        record: JsonRecord = self.manifest.data["config"]["prompts"]
        return record

    @property
    def candidates(self) -> Path:
        """The folder of its candidates."""
        return Path(self.prompts.get("root") or self.paths.root)

    def archive(self, level: Level) -> Path:
        """The file of a level's masks by frame, as they were tracked."""
        return self.manifest.artifact(level, "video_segments")

    def video(self, level: Level) -> VideoSegments:
        """Opens it."""
        return VideoSegments(self.archive(level))


def open_mask_pieces(folders: Sequence[str | Path], frames: FrameSource, settings: TrackingSettings) -> list[MaskPiece]:
    """The runs over the pieces of a video, in the order of its frames.

    Args:
        folders: of the runs, in that order.
        frames: those of the whole.
        settings: how they were tracked; whether pictures were drawn does not count.

    Raises:
        ArtifactError: a folder without a finished run, or a damaged one.
        RunFolderError: a run of boxes or of a person's objects; of other settings, predictor, levels or generator than
            the others; or over a frame that does not follow.
    """
    whole = np.array(frames.indices, np.int64)
    names = dict(zip(frames.indices, frames.names, strict=True))
    pieces: list[MaskPiece] = []
    reached = 0
    for folder in folders:
        paths = RunPaths(Path(folder))
        summary, manifest = read_run_summary(paths.summary), RunManifest.load(paths.manifest)
        if not isinstance(summary, MaskSummary) or manifest.fingerprint is None:
            raise RunFolderError(f"{folder}: is no run of masks, and those are joined")
        _refuse_others(folder, manifest, pieces, settings)
        levels = {level: LevelRecord.read(paths.journal(level), manifest.fingerprint) for level in summary.levels}
        found = {level: record for level, record in levels.items() if record is not None}
        if not found or len(found) < len(levels):
            raise ArtifactError(f"{folder}: its journal does not know its levels: track this piece anew")
        if pieces and found.keys() != pieces[0].levels.keys():
            raise RunFolderError(f"{folder}: has other levels than {pieces[0].paths.root}")
        own = FrameList.read(paths.frames)
        stop = follow(whole, np.array(own.indices, np.int64), reached)
        if stop is None:
            span = f"{own.indices[0]} … {own.indices[-1]}" if own.indices else "none"
            raise RunFolderError(f"{folder}: its frames {span} do not follow those of the piece before")
        if own.size != frames.size or any(
            names[index] != name for index, name in zip(own.indices, own.names, strict=True)
        ):
            raise RunFolderError(f"{folder}: its frames are of another video")
        start = frames.indices[reached]
        pieces.append(MaskPiece(paths, manifest, summary, found, own.indices[0], own.indices[-1], start))
        reached = stop
    if reached < len(whole):
        raise RunFolderError(f"the frames of the video from {whole[reached]} on are in no piece")
    return pieces


def _refuse_others(
    folder: str | Path,
    manifest: RunManifest,
    before: Sequence[MaskPiece],
    settings: TrackingSettings,
) -> None:
    """Refuses a run that was made otherwise than is said, or than the pieces before.

    Raises:
        RunFolderError: it is.
    """
    config = manifest.data.get("config")
    prompts = config.get("prompts") if isinstance(config, dict) else None
    if not isinstance(config, dict) or not isinstance(prompts, dict):
        raise RunFolderError(f"{folder}: does not say how it was tracked")
    asked = settings.model_dump(mode="json", exclude={"render_viz"})
    tracked = {name: value for name, value in dict(config.get("settings") or {}).items() if name != "render_viz"}
    if tracked != asked:
        other = next(name for name in (asked.keys() | tracked.keys()) if asked.get(name) != tracked.get(name))
        raise RunFolderError(f"{folder}: was tracked with another {other}: track this piece anew")
    if prompts.get("kind") == "prompts":
        raise RunFolderError(f"{folder}: its objects are those that a person marked: track the video whole")
    if prompts.get("root") == "memory":
        raise RunFolderError(f"{folder}: its candidates were in memory: track the video whole")
    if not before:
        return
    first = before[0]
    if _decisive(manifest.data) != _decisive(first.manifest.data):
        one, other = (data["config"].get("predictor") for data in (manifest.data, first.manifest.data))
        named = "with other settings or weights of it" if one == other else f"by predictor {one}"
        raise RunFolderError(f"{folder}: was tracked {named} than {first.paths.root}, whose predictor is {other}")
    if _without_root(prompts) != _without_root(first.prompts):
        raise RunFolderError(f"{folder}: its candidates were found otherwise than those of {first.paths.root}")


def _decisive(manifest: JsonRecord) -> JsonRecord:
    """What decides what a predictor finds; a piece that lacked memory has half the batch."""
    identity = dict(manifest["config"].get("predictor_identity") or {})
    settings = {name: value for name, value in dict(identity.get("settings") or {}).items() if name != "batch"}
    names = [manifest["config"].get("predictor"), dict(manifest.get("predictor") or {}).get("name")]
    return {"predictor": names, **identity, "settings": settings}


@dataclass(frozen=True)
class _PastPredictor:
    """The predictor of runs that are joined: it is known, and not loaded."""

    name: str

    def open(self, frames: FrameSource) -> PredictorSession:
        """Is never asked for: nothing is tracked."""
        raise PredictorError(f"{self.name}: pieces are joined and not tracked")


def predictor_of(pieces: Sequence[MaskPiece], asked: str) -> ChosenPredictor:
    """The predictor that moved the masks of all pieces.

    Args:
        pieces: see `open_mask_pieces`.
        asked: what was asked for; `auto` takes any.

    Raises:
        SettingError: another was asked for.
    """
    data = pieces[0].manifest.data
    request = str(data["config"].get("predictor"))
    if asked not in ("auto", request):
        raise SettingError(f"the pieces were tracked by {request}, not by {asked}")
    record = {
        name: value for name, value in dict(data.get("predictor") or {}).items() if name not in ("name", "reason")
    }
    summary = pieces[0].summary.predictor
    name, reason = (summary.name, summary.reason) if summary is not None else (request, None)
    return ChosenPredictor(
        _PastPredictor(name), request, reason or "", record, data["config"].get("predictor_identity") or {}
    )


def _without_root(prompts: JsonRecord) -> JsonRecord:
    return {name: value for name, value in prompts.items() if name != "root"}


def common_candidates(pieces: Sequence[MaskPiece]) -> Path | None:
    """The folder or file of candidates that all pieces were tracked from; None: each has its own."""
    roots = {piece.prompts.get("root") for piece in pieces}
    (root, *others) = roots
    return Path(root) if root is not None and not others else None


def cuts_of(pieces: Sequence[MaskPiece], frames: FrameSource) -> list[LocalIndex] | None:
    """Positions at which a new shot begins, as the pieces know them: where one ends without overlap there is a cut.

    None: they were not looked for.
    """
    if any(piece.summary.input.cuts is None for piece in pieces):
        return None
    found = [cut for piece in pieces for cut in piece.summary.input.cuts or () if cut >= piece.start]
    found += [piece.first for before, piece in itertools.pairwise(pieces) if before.last < piece.first]
    return [LocalIndex(bisect_left(frames.indices, cut)) for cut in sorted(set(found))]


def join_candidates(pieces: Sequence[MaskPiece], root: Path) -> list[Path]:
    """Writes the candidates of all pieces as those of one video, in the filtered layout below `root`.

    Of a frame that two pieces looked at those of the earlier one count.

    Returns:
        the files that they were read from.

    Raises:
        InputError: those of a piece are damaged, or not there any more.
        RunFolderError: `root` cannot be written.
    """
    read: list[Path] = []
    for level in pieces[0].levels:
        paths = [filtered_path(piece.candidates / f"level_{level}") for piece in pieces]
        write_joined_manifest(filtered_path(root / f"level_{level}"), level, [read_filtered(path) for path in paths])
        read += paths
    trees = [piece.candidates / TREE_NAME for piece in pieces]
    if all(path.is_file() for path in trees):
        parents: dict[int, Parents] = {}
        for path in trees:
            parents = {**read_parents(path), **parents}
        write_parents(root / TREE_NAME, [(frame, "", one) for frame, one in sorted(parents.items())])
        read += trees
    return read


class JoinedLevel:
    """A level of all pieces under the ids of the whole, which count from 1; masks are read frame by frame.

    On frames that two pieces share the masks of the earlier one are given, and of the later one those of tracks that
    are not there and that none of the others covers by half.

    Args:
        pieces: see `open_mask_pieces`.
        level: which.

    Raises:
        ArtifactError: an archive is damaged.
    """

    def __init__(self, pieces: Sequence[MaskPiece], level: Level) -> None:
        self._pieces, self._level = pieces, level
        ids = _whole_ids(pieces, level)
        numbers = {one: n for n, one in enumerate(sorted({one for own in ids for one in own.values()}), 1)}
        self._ids = [{one: numbers[whole] for one, whole in own.items()} for own in ids]

    def frames(self) -> Iterator[FrameObjects]:
        """Frames with objects, in order of time; ids of a frame are not ordered."""
        followers = [*self._pieces[1:], None]
        for n, (piece, following) in enumerate(zip(self._pieces, followers, strict=True)):
            with ExitStack() as stack:
                video = stack.enter_context(piece.video(self._level))
                later = None if following is None else stack.enter_context(following.video(self._level))
                own = {frame for frame in video.frames if frame >= piece.start}
                shared = set[FrameIndex]()
                if later is not None and following is not None:
                    first = max(following.first, piece.start)
                    shared = {frame for frame in later.frames if first <= frame < following.start}
                for frame in sorted(own | shared):
                    objects = _renamed(video.frame(frame), self._ids[n])
                    if later is not None and frame in shared:
                        objects = _completed(objects, _renamed(later.frame(frame), self._ids[n + 1]))
                    if len(objects):
                        yield objects

    def records(self, frames: FrameSource) -> Iterator[BatchRecord]:
        """What the pieces' tracking adds up to: of each piece its counts, then the tracks that it prompted first.

        A prompt of a piece whose track goes on from the piece before counts as covered by a track.
        """
        prompted: set[int] = set()
        for piece, ids in zip(self._pieces, self._ids, strict=True):
            record = piece.levels[self._level]
            by_frame: dict[FrameIndex, list[TrackSummary]] = {}
            for track in record.summary.tracks:
                if track.track_id in ids:
                    frame = FrameIndex(track.first if track.prompt_frame is None else track.prompt_frame)
                    by_frame.setdefault(frame, []).append(track)
            new = {whole for whole in ids.values() if whole not in prompted}
            yield BatchRecord(
                *_placed(frames, piece.start),
                _dedup(record.summary.dedup, len(new)),
                counters=record.counters,
                warnings=record.predictor_warnings,
                skipped=[warning for warning in record.warnings if warning.code == "candidate-skipped"],
            )
            for frame, tracks in sorted(by_frame.items()):
                types = {
                    TrackId(ids[track.track_id]): prompt_type_of(track.prompt or "mask")
                    for track in tracks
                    if ids[track.track_id] in new
                }
                classes = {
                    TrackId(ids[track.track_id]): TrackClass(track.class_id, track.class_score or 0.0)
                    for track in tracks
                    if track.class_id is not None
                }
                yield BatchRecord(*_placed(frames, frame), DedupStats(), types, classes=classes)
            prompted |= new


def _dedup(found: Mapping[str, float], new: int) -> DedupStats:
    """What a piece found about duplicates, where so many of its prompts began a track of the whole."""
    candidates, covered, inside, parts = (
        int(found.get(name, 0)) for name in ("candidates", "covered_by_tracks", "duplicates_in_frame", "parts")
    )
    return DedupStats(candidates, candidates - inside - new if candidates else covered, inside, parts)


def store_level(joined: JoinedLevel, store: FrameResultStore, display: ProgressDisplay, frames: FrameSource) -> None:
    """Puts the masks of a joined level where those of a tracked one would be."""
    names = dict(zip(frames.indices, frames.names, strict=True))
    store.full_resolution_shape = frames.size
    for objects in joined.frames():
        store.update(objects.frame, names[objects.frame], objects)
        display.update(bisect_left(frames.indices, objects.frame) + 1, objects.frame)


def _placed(frames: FrameSource, index: FrameIndex) -> tuple[LocalIndex, FrameIndex, str]:
    local = LocalIndex(bisect_left(frames.indices, index))
    return local, index, frames.names[local]


def _whole_ids(pieces: Sequence[MaskPiece], level: Level) -> list[dict[int, int]]:
    """Of each piece its ids → those of the whole, without those that are seen on shared frames alone."""
    ids: list[set[int]] = []
    links: list[dict[int, int]] = []
    with ExitStack() as stack:
        before: VideoSegments | None = None
        for piece in pieces:
            video = stack.enter_context(piece.video(level))
            own = {one for frame in video.frames if frame >= piece.start for one in video.ids_on(frame)}
            if before is not None:
                links.append(_votes(before, video, piece).links(own))
                before.close()
            ids.append(own)
            before = video
    return joined_ids(ids, links)


def _votes(before: VideoSegments, after: VideoSegments, piece: MaskPiece) -> OverlapVotes:
    """How well the tracks of a piece agree with those of the one before, on the frames that both have."""
    votes = OverlapVotes(SAME_IOU, SAME_IOU)
    shared = {frame for frame in (*before.frames, *after.frames) if piece.first <= frame < piece.start}
    for frame in sorted(shared):
        one, other = before.frame(frame), after.frame(frame)
        votes.add(one.track_id.tolist(), other.track_id.tolist(), _iou(one, other))
    return votes


def _iou(one: FrameObjects, other: FrameObjects) -> NDArray[np.float64]:
    if not len(one) or not len(other):
        return np.zeros((len(one), len(other)))
    return mask_iou(one.masks, other.masks)


def _renamed(objects: FrameObjects, ids: Mapping[int, int]) -> FrameObjects:
    """The objects that have an id in the whole, under it."""
    chosen = [row for row, one in enumerate(objects.track_id.tolist()) if one in ids]
    kept = objects[chosen]
    return replace(kept, track_id=np.array([ids[one] for one in kept.track_id.tolist()], np.int64), class_id=None)


def _completed(objects: FrameObjects, others: FrameObjects) -> FrameObjects:
    """The objects, and those of the others that are not there and that none of them covers by half."""
    is_new = ~np.isin(others.track_id, objects.track_id)
    if len(objects) and len(others):
        is_new &= _iou(objects, others).max(axis=0) < COVERED_IOU
    more = others[np.flatnonzero(is_new)]
    if not len(more) or not len(objects):
        return more if len(more) else objects
    return FrameObjects.concat([objects, more])
