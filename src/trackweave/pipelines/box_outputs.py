"""`TrackWriter`: takes a tracker's answers frame by frame and leaves them as MOT text and as an archive.

`TrackCensus`: how many tracks there were, how long they lived and when; in bounded memory.

`BoxOverlay`: the tracks of a run over its frames, as a video that grows with the run.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trackweave.association.labels import NO_IDENTITY, gt_track_ids
from trackweave.errors import FrameError
from trackweave.formats.mot import MotWriter
from trackweave.formats.tables import GroundTruth
from trackweave.frames.source import RGBFrame
from trackweave.mot.postprocess import RefinedTracks, refine
from trackweave.mot.settings import RefinementSettings
from trackweave.pipelines.box_inputs import InputFrame, VideoInput
from trackweave.storage.run import RunPaths
from trackweave.storage.track_archive import TrackRows, TracksArchiveWriter
from trackweave.structures.detections import GT_COLUMN, Detections
from trackweave.structures.run_log import Remarks
from trackweave.structures.tracks import Tracks
from trackweave.visualization.annotators import TrailPainter
from trackweave.visualization.video import Mp4Writer

LENGTH_EDGES = (1, 2, 5, 10, 30, 100, 300, 1000)
"""A track of n observations is counted in the last bin whose edge is at most n."""


@dataclass
class _Life:
    """One track so far; spans are runs of frames with both ends, frames closer than a gap joined."""

    track_id: int
    class_id: int = -1
    spans: list[list[int]] = field(default_factory=list)
    observations: int = 0
    score_sum: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.track_id,
            "class_id": self.class_id,
            "frames": self.observations,
            "first": self.spans[0][0],
            "last": self.spans[-1][1],
            "spans": self.spans,
            "mean_score": round(self.score_sum / self.observations, 4),
        }


class TrackCensus:
    """Counts tracks from their observations, which come in parts in the order of frames.

    Args:
        step: distance of neighbouring frames of the run.
        keep: a track that was not seen for so many frames is over.
        longest: how many tracks are described one by one.

    Attributes:
        observations: boxes so far.
    """

    def __init__(self, *, step: int = 1, keep: int = 10_000, longest: int = 200) -> None:
        self._step, self._keep, self._most = step, keep, longest
        self.observations = 0
        self._open: dict[int, _Life] = {}
        self._over = 0
        self._lengths = np.zeros(len(LENGTH_EDGES), np.int64)
        self._longest: list[tuple[int, int, _Life]] = []

    def add(self, tracks: Tracks) -> None:
        """Takes the next part."""
        if not len(tracks):
            return
        self.observations += len(tracks)
        order = np.lexsort((tracks.frame, tracks.track_id))
        ids, frames = tracks.track_id[order], tracks.frame[order]
        is_new = np.r_[True, ids[1:] != ids[:-1]]
        breaks = np.flatnonzero(is_new | np.r_[True, np.diff(frames) > self._step])
        for start, stop in pairwise([*breaks.tolist(), len(ids)]):
            life = self._open.setdefault(int(ids[start]), _Life(int(ids[start])))
            life.observations += stop - start
            life.score_sum += float(tracks.score[order[start:stop]].sum(dtype=np.float64))
            life.class_id = int(tracks.class_id[order[stop - 1]])
            first, last = int(frames[start]), int(frames[stop - 1])
            if life.spans and first - life.spans[-1][1] <= self._step:
                life.spans[-1][1] = last
            else:
                life.spans.append([first, last])
        self._close_before(int(tracks.frame[-1]) - self._keep)

    def _close_before(self, frame: int) -> None:
        for life in [life for life in self._open.values() if life.spans[-1][1] < frame]:
            del self._open[life.track_id]
            self._over += 1
            self._count(life, self._lengths, self._longest)

    def _count(self, life: _Life, lengths: Any, longest: list[tuple[int, int, _Life]]) -> None:
        lengths[np.searchsorted(LENGTH_EDGES, life.observations, side="right") - 1] += 1
        push = heapq.heappush if len(longest) < self._most else heapq.heappushpop
        push(longest, (life.observations, -life.track_id, life))

    def summary(self) -> dict[str, Any]:
        """JSON values: `tracks` and `boxes` as counts, `lengths` by bins, and the `longest_tracks` one by one."""
        lengths, longest = self._lengths.copy(), list(self._longest)
        for life in self._open.values():
            self._count(life, lengths, longest)
        return {
            "tracks": self._over + len(self._open),
            "boxes": self.observations,
            "lengths": {"from": list(LENGTH_EDGES), "tracks": lengths.tolist()},
            "longest_tracks": [life.to_json() for *_, life in sorted(longest, key=lambda item: (-item[0], -item[1]))],
        }


ROWS_PER_PART = 16_384
MASK_BYTES_PER_PART = 32 * 2**20


class TrackWriter:
    """Both files appear when the `with` block ends well. Memory holds one part of some thousand observations.

    With a refinement everything is held instead and written at `finish`: gaps are filled and short tracks removed
    only when the whole video was seen.

    Args:
        run: where to.
        census: counts what is written.
        refinement: how to refine; None writes as it comes.
        metadata: for the archive's manifest.

    Attributes:
        refined: what the refinement did, after `finish`; None without one.
    """

    def __init__(
        self,
        run: RunPaths,
        census: TrackCensus,
        refinement: RefinementSettings | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._census, self._refinement = census, refinement
        self._mot, self._archive = MotWriter(run.mot), TracksArchiveWriter(run.tracks, metadata)
        self._stack = ExitStack()
        self._open: list[TrackRows] = []
        self._rows, self._bytes = 0, 0
        self.refined: RefinedTracks | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._archive)
            stack.enter_context(self._mot)
            self._stack = stack.pop_all()
        return self

    def write(self, index: int, time: float | None, tracked: Detections) -> Tracks:
        """Takes a frame; frames come in order.

        Args:
            index: of the frame.
            time: seconds, or None.
            tracked: the tracker's answer.

        Returns:
            The same as tracks.
        """
        rows = as_rows(index, time, tracked)
        if len(rows):
            masks = rows.tracks.masks
            if masks is not None and self._refinement is None and self._other_size(masks.size):
                self._flush()
            self._open.append(rows)
            self._rows += len(rows)
            self._bytes += 0 if masks is None else masks.bits.nbytes
            if self._refinement is None and (self._rows >= ROWS_PER_PART or self._bytes >= MASK_BYTES_PER_PART):
                self._flush()
        return rows.tracks

    def finish(self, times: Sequence[float] | None = None) -> None:
        """Writes what is still held, refined if asked for.

        Args:
            times: seconds by absolute frame index, for a refinement of a video with uneven frames.

        Raises:
            InputError: times that do not rise.
        """
        if self._refinement is None:
            self._flush()
            return
        whole = TrackRows.concat(self._open)
        self._open = []
        self.refined = refine(whole.tracks, self._refinement, times=times)
        # One part per some thousand rows, cut between frames.
        refined = _with_origin(self.refined.tracks, whole)
        frames = refined.tracks.frame
        start = 0
        while start < len(refined):
            last = frames[min(start + ROWS_PER_PART, len(refined)) - 1]
            stop = int(np.searchsorted(frames, last, side="right"))
            self._hand_on(
                TrackRows(refined.tracks[start:stop], refined.detection[start:stop], refined.time[start:stop])
            )
            start = stop

    def _other_size(self, size: tuple[int, int]) -> bool:
        return any(part.tracks.masks is not None and part.tracks.masks.size != size for part in self._open)

    def _flush(self) -> None:
        self._hand_on(TrackRows.concat(self._open))
        self._open, self._rows, self._bytes = [], 0, 0

    def _hand_on(self, rows: TrackRows) -> None:
        self._mot.write(rows.tracks)
        self._archive.write(rows)
        self._census.add(rows.tracks)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def as_rows(index: int, time: float | None, tracked: Detections) -> TrackRows:
    """A tracker's answer as observations, ordered by track id.

    Raises:
        ValueError: detections without identities.
    """
    if tracked.track_id is None:
        raise ValueError("these detections were not tracked")
    n = len(tracked)
    order = np.argsort(tracked.track_id, kind="stable")
    detection = np.full(n, -1, np.int64) if tracked.index is None else tracked.index
    tracks = Tracks(
        np.full(n, index, np.int64),
        tracked.track_id[order],
        tracked.xyxy[order],
        tracked.score[order],
        tracked.class_id[order],
        None if tracked.masks is None else tracked.masks[order],
    )
    return TrackRows(tracks, detection[order], np.full(n, math.nan if time is None else time))


def _with_origin(tracks: Tracks, before: TrackRows) -> TrackRows:
    """Refined tracks with the detection and time of each; interpolated ones have no detection and a time between."""
    detection = np.full(len(tracks), -1, np.int64)
    time: NDArray[np.float64] = np.full(len(tracks), math.nan)
    if len(tracks):
        known = np.isfinite(before.time)
        if known.any():
            time = np.interp(tracks.frame, before.tracks.frame[known], before.time[known])
        base = max(int(tracks.track_id.max()), int(before.tracks.track_id.max())) + 1
        keys = before.tracks.frame * base + before.tracks.track_id  # ascending, as rows are ordered by both
        wanted = tracks.frame * base + tracks.track_id
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        observed = keys[at] == wanted
        detection[observed] = before.detection[at[observed]]
    return TrackRows(tracks, detection, time)


SAMPLES_PER_SECOND = 2.0
"""Speed of the overlay of a sequence that has only some of its pictures."""
LIVE_RATE = 25.0
"""Speed where the frame rate is not known."""


class BoxOverlay:
    """The file appears when the `with` block ends well and a frame was drawn.

    Args:
        path: the video.
        video: what is drawn on.
        remarks: where pictures that cannot be drawn on are counted.
        stage: a `with` block that takes the time of a stage.
        wanted: False draws nothing.

    Attributes:
        is_on: it is wanted, and there are pictures.
    """

    def __init__(
        self,
        path: Path,
        video: VideoInput,
        remarks: Remarks,
        stage: Callable[[str], AbstractContextManager[Any]],
        *,
        wanted: bool = True,
    ) -> None:
        self.is_on = wanted and (video.has_images or video.samples is not None)
        self._video, self._remarks, self._stage = video, remarks, stage
        rate = (video.frame_rate or LIVE_RATE) / video.step
        rate = SAMPLES_PER_SECOND if video.samples is not None else rate
        self._writer = Mp4Writer(path, float(np.clip(rate, 1, 120)))
        self._painter = TrailPainter()

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def draw(self, frame: InputFrame, tracks: Tracks) -> None:
        """Appends the next frame, when it has a picture."""
        if not self.is_on:
            return
        with self._stage("overlay"):
            self._painter.follow(frame.index, tracks)
            picture = self._picture(frame)
            if picture is not None:
                self._writer.write(self._painter.paint(picture, tracks))

    def _picture(self, frame: InputFrame) -> RGBFrame | None:
        try:
            picture = frame.picture()
        except FrameError as error:
            if self._remarks.on_bad_item == "error" and not frame.is_sample:
                raise
            self._remarks.skip("picture-unreadable", str(error))
            return None
        size = self._video.size
        if picture is not None and size is not None and picture.shape[:2] != size:
            text = f"{frame.name}: {picture.shape[1]}×{picture.shape[0]} pixels, the video has {size[1]}×{size[0]}"
            self._remarks.skip("picture-size", text)
            return None
        return picture


class _Names:
    """Writes the true identity of each detection beside it, and counts."""

    def __init__(self, truth: GroundTruth, *, with_classes: bool = False) -> None:
        self._truth, self._with_classes = truth, with_classes
        self.seen = 0
        self.identified = 0

    def annotate(self, index: int, found: Detections) -> Detections:
        """A frame's detections with their identities."""
        classes = found.class_id if self._with_classes else None
        true = gt_track_ids(found.xyxy, self._truth.at(index), class_id=classes)
        self.seen += len(true)
        self.identified += int(np.count_nonzero(true != NO_IDENTITY))
        return replace(found, data={**found.data, GT_COLUMN: true})
