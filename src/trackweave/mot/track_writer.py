"""`TrackWriter`: takes a tracker's answers frame by frame and leaves them as MOT text and as an archive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trackweave.formats.mot import MotWriter
from trackweave.mot.census import TrackCensus
from trackweave.mot.refinement import RefinedTracks, RefinementSettings, refine
from trackweave.storage.run import RunPaths
from trackweave.storage.tracks_archive import TrackRows, TracksArchiveWriter
from trackweave.structures.detections import Detections
from trackweave.structures.tracks import Tracks

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
