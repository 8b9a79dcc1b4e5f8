"""Pieces of a long video of boxes: how it is divided; `JoinedTracker` gives the boxes of their runs again."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from trackweave.boxes import box_iou
from trackweave.errors import ArtifactError, RunFolderError, SettingError
from trackweave.frames.cuts import find_cuts
from trackweave.identity.pieces import OverlapVotes, follow, joined_ids, samplings
from trackweave.ids import FrameIndex
from trackweave.mot.id_switches import SwitchCause, SwitchEvent
from trackweave.mot.settings import TrackerSettings
from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import TrackerSummary
from trackweave.pipelines.box_tracking import FeatureRecord
from trackweave.pipelines.detection_source import open_detections
from trackweave.pipelines.settings import InputSettings
from trackweave.pipelines.video_input import VideoInput, open_input
from trackweave.progress import Progress, open_progress
from trackweave.storage.run import RunManifest, RunPaths, read_run_summary
from trackweave.storage.track_archive import TrackRows, TracksArchive
from trackweave.structures.detections import Detections
from trackweave.structures.run_log import RunLog, RunWarning
from trackweave.structures.run_summary import BoxSummary
from trackweave.structures.tracks import Tracks


def divide_boxes(
    source: Any,
    detections: str | Path | None,
    settings: InputSettings,
    *,
    find_shots: bool,
    frames: int,
    overlap: int,
    progress: Progress = None,
) -> list[str]:
    """How a video is divided into pieces that are tracked one by one, see `identity.pieces`.

    Args:
        source: as of `track_boxes`; None where there are detections alone.
        detections: file of them; None: they are looked for later.
        settings: which frames.
        find_shots: look for hard cuts, where there are pictures: a piece rather ends there.
        frames: most of a piece.
        overlap: frames that two pieces share where no hard cut lies between them.
        progress: None = shown by itself in a terminal or a notebook; or a function of `(done, total, label)`.

    Returns:
        samplings of the frames, as `track_boxes` takes them; none where the video is not longer than a piece.

    Raises:
        InputError: it cannot be read.
        SettingError: a live source, frames that are times, or too many pieces.
    """
    with ExitStack() as stack:
        video = stack.enter_context(open_input(source, settings))
        if video.length is None and video.kind != "live":  # the detections alone know
            stack.enter_context(open_detections(detections, video, RunLog("skip")))
        positions = video.positions
        if not isinstance(positions, range):
            what = "a live source" if positions is None else "a video whose frame numbers are times"
            raise SettingError(f"{video.path}: {what} cannot be divided: leave `split` out")
        if len(positions) <= frames:
            return []
        cuts: Sequence[int] = ()
        chosen = video.source() if find_shots else None
        if chosen is not None:
            with open_progress(progress, len(chosen), "looking for cuts") as display:
                cuts = find_cuts(chosen, lambda done: display.update(done, done - 1))
        return samplings(positions, frames, overlap, cuts, str(video.path))


@dataclass(frozen=True)
class BoxPiece:
    """A finished run over some of the frames of a video.

    Attributes:
        paths: of its folder.
        summary: its numbers.
        frames: which frames it went over, as a sampling of the video.
        first: absolute index of its first frame.
        behind: absolute index behind its last one.
        start: absolute index of its first frame that no earlier piece has.
        class_names: names of its classes by number.
    """

    paths: RunPaths
    summary: BoxSummary
    frames: str
    first: int
    behind: int
    start: int
    class_names: Mapping[int, str]

    def rows(self, *, with_masks: bool = True, everything: bool = False) -> Iterator[TrackRows]:
        """Its tracks in parts, from `start` on, or all of them."""
        with TracksArchive(self.paths.tracks) as archive:
            for part in archive.parts(with_masks=with_masks):
                chosen = slice(0 if everything else int(np.searchsorted(part.tracks.frame, self.start)), None)
                yield TrackRows(part.tracks[chosen], part.detection[chosen], part.time[chosen])


def open_pieces(folders: Sequence[str | Path], video: VideoInput, tracker: TrackerSettings) -> list[BoxPiece]:
    """The runs over the pieces of a video, in the order of its frames.

    Args:
        folders: of the runs, in that order.
        video: the whole.
        tracker: whose settings they were tracked with.

    Raises:
        ArtifactError: a folder without a finished run, or a damaged one.
        RunFolderError: a run of masks, of another tracker, over a frame that does not follow, or with other names of
            its classes than the first.
        SettingError: a video whose frames cannot be known beforehand.
    """
    if video.kind == "live":
        raise SettingError(f"{video.path}: a live source has no pieces")
    chosen = np.array(video.positions or (), np.int64)
    pieces: list[BoxPiece] = []
    reached = 0
    for folder in folders:
        paths = RunPaths(Path(folder))
        summary = read_run_summary(paths.summary)
        if not isinstance(summary, BoxSummary) or not paths.tracks.is_file():
            raise RunFolderError(f"{folder}: is no run of boxes, and those are joined")
        if dict(summary.tracker) != tracker.model_dump(mode="json"):
            raise RunFolderError(f"{folder}: was tracked with other settings of the tracker: track this piece anew")
        sampling = _sampling(paths)
        own = np.array(_sampled(video, sampling).positions or (), np.int64)
        stop = follow(chosen, own, reached)
        if stop is None:
            raise RunFolderError(f"{folder}: its frames {sampling} do not follow those of the piece before")
        indices = [_index(video, int(position)) for position in (own[0], own[-1], chosen[reached])]
        names = _class_names(paths, pieces)
        pieces.append(BoxPiece(paths, summary, sampling, indices[0], indices[1] + 1, indices[2], names))
        reached = stop
    if reached < len(chosen):
        raise RunFolderError(f"{video.path}: its frames from {_index(video, int(chosen[reached]))} on are in no piece")
    return pieces


def _sampling(paths: RunPaths) -> str:
    found = RunManifest.load(paths.manifest).data.get("config")
    config: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    if config.get("refinement") is not None:
        raise RunFolderError(f"{paths.root}: its tracks were refined: pieces are joined as they were tracked")
    frames = config.get("input", {}).get("frames")
    if not isinstance(frames, str):
        raise RunFolderError(f"{paths.root}: was not tracked over a part of the frames (`input.frames`)")
    return frames


def _class_names(paths: RunPaths, before: Sequence[BoxPiece]) -> Mapping[int, str]:
    """What a piece calls its classes.

    Raises:
        RunFolderError: the first piece calls one of them otherwise, so that a number means two things.
    """
    with TracksArchive(paths.tracks) as archive:
        names = archive.class_names
    known = before[0].class_names if before else names
    for number in sorted(names.keys() | known.keys()):
        here, there = (repr(one[number]) if number in one else "without a name" for one in (names, known))
        if here != there:
            text = f"class {number} is {here}, and {there} in {before[0].paths.root}"
            raise RunFolderError(f"{paths.root}: {text}: track the pieces with one detector")
    return names


def _sampled(video: VideoInput, sampling: str) -> VideoInput:
    return replace(video, settings=video.settings.model_copy(update={"frames": sampling, "max_frames": None}))


def _index(video: VideoInput, position: int) -> int:
    return position if video.images is None else int(video.images.indices[position])


class JoinedTracker:
    """Stands in the place of a tracker, where pieces of the video were tracked before.

    On frames that two pieces share the earlier one's tracks are given: they have more behind them. Memory holds the
    rows of those frames, and one part of an archive.

    Args:
        pieces: see `open_pieces`.
        settings: of the tracker that the pieces were tracked with.
    """

    def __init__(self, pieces: Sequence[BoxPiece], settings: TrackerSettings) -> None:
        self.settings = settings
        self._pieces = pieces
        self._ids, self._twice = _whole_ids(pieces)
        self._frames = self._detections = 0
        self._rows = self._frames_with_rows()
        self._next = next(self._rows, None)

    def _frames_with_rows(self) -> Generator[tuple[int, TrackRows, slice]]:
        """Frame, part of an archive under the ids of the whole, and rows of the frame in it."""
        for piece, ids in zip(self._pieces, self._ids, strict=True):
            for part in piece.rows():
                if not len(part):
                    continue
                named = np.array([ids[one] for one in part.tracks.track_id.tolist()], np.int64)
                order = np.lexsort((named, part.tracks.frame))
                tracks = replace(part.tracks, track_id=named)  # which orders its rows as well
                rows = TrackRows(tracks, part.detection[order], part.time[order])
                starts = np.flatnonzero(np.r_[True, np.diff(tracks.frame) > 0]).tolist()
                for start, stop in itertools.pairwise([*starts, len(tracks)]):
                    yield int(tracks.frame[start]), rows, slice(start, stop)

    @property
    def samplings(self) -> list[str]:
        """Which frames each piece went over."""
        return [piece.frames for piece in self._pieces]

    @property
    def class_names(self) -> Mapping[int, str]:
        """Names of the classes by number; all pieces have the same."""
        return self._pieces[0].class_names

    @property
    def frames(self) -> int:
        """Frames so far."""
        return self._frames

    @property
    def is_idle(self) -> bool:
        """Every box is a detection's: on frames without detections there is none."""
        return True

    def update(self, detections: Detections, frame: FrameContext) -> Detections:
        """The tracks of a frame, as `Tracker.update` gives them; frames come in order.

        Raises:
            ArtifactError: the pieces were tracked over other detections.
        """
        self._frames += 1
        self._detections += len(detections)
        if self._next is None or self._next[0] > frame.index:
            return detections.tracked(*np.zeros((3, 0), np.int64))
        index, rows, chosen = self._next
        tracks, at = rows.tracks, rows.detection[chosen]
        if index < frame.index or (len(at) and not 0 <= at.min() <= at.max() < len(detections)):
            raise ArtifactError(f"frame {index}: the pieces were tracked over other detections: track them anew")
        self._next = next(self._rows, None)
        tracked = detections.tracked(at, tracks.track_id[chosen], tracks.class_id[chosen])
        masks = None if tracks.masks is None else tracks.masks[chosen]
        return replace(tracked, xyxy=tracks.xyxy[chosen], score=tracks.score[chosen], masks=masks)

    @property
    def summary(self) -> TrackerSummary:
        """As of one tracker over all frames, as far as that is known: on frames that two pieces share, what is left
        out and what is found again counts in both, and what begins there without ever having a box."""
        summaries = [piece.summary for piece in self._pieces]
        skipped: Counter[str] = Counter()
        warnings: dict[tuple[str, str], RunWarning] = {}
        for warning in (each for summary in summaries for each in summary.warnings):
            if warning.code == "detections-skipped":
                skipped[warning.message.partition(": ")[2]] += int(warning.details["count"])
            elif warning.stage in ("track", "settings") and warning.code != "nearly-no-tracks":
                warnings.setdefault((warning.code, warning.message), warning)
        events = [event for piece, ids in zip(self._pieces, self._ids, strict=True) for event in _events(piece, ids)]
        totals = [summary.totals.get("est_id_switches") for summary in summaries]
        suspected = None if None in totals else sum(event.switches for event in events)
        left_out = [
            RunWarning(
                "track",
                None,
                "detections-skipped",
                f"left out {count} detection{'s' if count > 1 else ''}: {reason}",
                {"count": count},
            )
            for reason, count in skipped.items()
        ]
        return TrackerSummary(
            self._frames,
            self._detections,
            sum(int(summary.totals.get("births") or 0) for summary in summaries) - self._twice,
            sum(int(summary.totals.get("reactivations") or 0) for summary in summaries),
            dict(skipped),
            suspected,
            tuple(events),
            (*left_out, *warnings.values()),
        )

    def features(self) -> FeatureRecord:
        """Which features the pieces were tracked with; of frames that two share both count."""
        first = self._pieces[0].summary
        visibility: Counter[str] = Counter()
        failures: Counter[str] = Counter()
        for piece in self._pieces:
            visibility.update(piece.summary.visibility or {})
            failures.update((piece.summary.camera or {}).get("failures") or {})
        camera: dict[str, Any] | None = None if first.camera is None else dict(first.camera)
        if camera is not None and "failures" in camera:
            camera["failures"] = dict(failures)
        cuts: list[int] | None = None
        if first.input.cuts is not None:
            cuts = []
            for before, piece in zip([None, *self._pieces], self._pieces, strict=False):
                cuts += [piece.first] if before is not None and before.behind <= piece.first else []
                cuts += [cut for cut in piece.summary.input.cuts or () if cut >= piece.start]
        return FeatureRecord(None if first.visibility is None else dict(visibility), first.embedder, camera, cuts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._rows.close()


def _events(piece: BoxPiece, ids: Mapping[int, int]) -> Iterator[SwitchEvent]:
    """The suspected switches of a piece on frames that are its own, between tracks that are seen there."""
    for event in piece.summary.suspected_switches:
        if event["frame"] >= piece.start and all(one in ids for one in event["tracks"]):
            tracks = tuple(ids[one] for one in event["tracks"])
            cause, confidence = SwitchCause(event["cause"]), float(event["confidence"])
            yield SwitchEvent(FrameIndex(int(event["frame"])), tracks, cause, confidence)


def _whole_ids(pieces: Sequence[BoxPiece]) -> tuple[list[dict[int, int]], int]:
    """Of each piece, its ids → those of the whole; and how many tracks of later pieces begin on shared frames."""
    ids: list[set[int]] = []
    links: list[dict[int, int]] = []
    twice = 0
    tail = Tracks.empty()
    for n, piece in enumerate(pieces):
        own: set[int] = set()
        shared: list[Tracks] = []
        following: list[Tracks] = []
        next_first = pieces[n + 1].first if n + 1 < len(pieces) else piece.behind
        for part in piece.rows(with_masks=False, everything=True):
            tracks = part.tracks
            own |= set(np.unique(tracks.track_id[tracks.frame >= piece.start]).tolist())
            shared.append(tracks[tracks.frame < piece.start])
            following.append(tracks[tracks.frame >= next_first])
        if n:
            head = Tracks.concat(shared)
            links.append(_votes(tail, head).links(own))
            twice += len(np.unique(head.track_id))
        ids.append(own)
        tail = Tracks.concat(following)
    return joined_ids(ids, links), twice


def _votes(before: Tracks, after: Tracks) -> OverlapVotes:
    votes = OverlapVotes()
    for frame in np.union1d(before.frame, after.frame).tolist():
        one, other = before.at(frame), after.at(frame)
        iou = box_iou(one.xyxy, other.xyxy) * (one.class_id[:, None] == other.class_id[None, :])
        votes.add(one.track_id.tolist(), other.track_id.tolist(), iou)
    return votes
