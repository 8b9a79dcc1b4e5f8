"""`SampleLogger`: observes a tracker and writes each frame's assignment as a training sample.

The tracker's thread only puts the frame into a queue; a second thread computes features and writes files, those of a
quarter of a second at once: two threads that take turns for the interpreter at every frame lose more time than both
need. Nothing is dropped: when the queue is full, the tracker waits until half of it is written. What is in the queue is
lost when the process is killed; what was written is not (see `storage.sample_folder`).
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from trackweave.association.sample_features import FEATURE_VERSION, SampleFeatures, sample_features
from trackweave.association.settings import DEFAULT_EMBED_DIM
from trackweave.errors import ArtifactError, SettingError, TrackweaveError, wording
from trackweave.storage.sample_folder import SampleFolder
from trackweave.storage.samples import AssociationSample, SampleDiagnostics, SampleMetadata
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import GT_COLUMN
from trackweave.structures.run_log import RunWarning


@dataclass(frozen=True)
class SampleOrigin:
    """What all samples of a logger have in common.

    Attributes:
        sequence: id of the video.
        fps: frames per second, None = unknown.
        size: `(H, W)` in pixels of frames whose states have no size, None = every state has one.
        embed_dim: width of the logged embeddings.
        label_source: who decides `assigned_track_ids`: `tracker` unless something else takes part.
        run: unique name of the logger.

    Raises:
        SettingError: a value out of range.
    """

    sequence: str
    fps: float | None = None
    size: tuple[int, int] | None = None
    embed_dim: int = DEFAULT_EMBED_DIM
    label_source: str = "tracker"
    run: str | None = None

    def __post_init__(self) -> None:
        if not self.sequence:
            raise SettingError("sequence: samples need the name of their video, training splits by it")
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise SettingError(f"fps: {self.fps} frames per second")
        if self.size is not None and min(self.size) < 1:
            raise SettingError(f"size: a frame of {self.size[1]} × {self.size[0]} pixels")
        if self.embed_dim < 1:
            raise SettingError(f"embed_dim: {self.embed_dim}, embeddings are at least 1 wide")
        if not self.label_source:
            raise SettingError("label_source: samples need a name of who decides")

    def size_of(self, state: AssignmentState) -> tuple[int, int]:
        """`(H, W)` of a frame.

        Raises:
            SettingError: neither the state nor the logger knows it.
        """
        size = state.size or self.size
        if size is None:
            raise SettingError(
                f"frame {state.frame}: samples need the frame's size and it is not known: give "
                f"{wording('size=(W, H)', '--size WxH')}"
            )
        return size


class SampleLogger:
    """Writes one sample per frame that has tracks and detections; satisfies the tracker's observer protocol.

    Use it as a context manager, or `close` it. One that is forgotten is closed when it is collected, or at exit.

    Args:
        directory: folder of the samples; created or continued, and shared with other processes.
        sequence: id of the video.
        fps: frames per second, None = unknown.
        size: `(H, W)` in pixels of frames whose states have no size.
        embed_dim: width of the logged embeddings: narrower ones are padded, wider ones cut (with a warning).
        label_source: who decides `assigned_track_ids`.
        queue_size: frames that may wait for the writer; then the tracker waits.

    Raises:
        ArtifactError: the folder cannot be created or written.
        SettingError: a value out of range.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        sequence: str,
        fps: float | None = None,
        size: tuple[int, int] | None = None,
        embed_dim: int = DEFAULT_EMBED_DIM,
        label_source: str = "tracker",
        queue_size: int = 256,
    ) -> None:
        if queue_size < 1:
            raise SettingError(f"queue_size: {queue_size}, at least one frame waits")
        origin = SampleOrigin(sequence, fps, size, embed_dim, label_source)
        folder = SampleFolder(directory)
        self._origin = replace(origin, run=folder.run)
        self._writer = _SampleWriter(folder, self._origin, queue_size)
        self._close = weakref.finalize(self, self._writer.close)

    @property
    def directory(self) -> Path:
        """Where the samples go."""
        return self._writer.folder.directory

    @property
    def observed(self) -> int:
        """Frames queued so far."""
        return self._writer.queued

    @property
    def written(self) -> int:
        """Samples in the folder so far; equals `observed` after `close`."""
        return self._writer.folder.stored

    @property
    def warnings(self) -> list[RunWarning]:
        """Warnings of the folder when it was opened, and of what was changed in samples; each code once."""
        return [*self._writer.folder.warnings, *self._writer.warnings.values()]

    def observe(self, state: AssignmentState) -> None:
        """Queues one frame; one without tracks or without detections gives no sample.

        Raises:
            SettingError: the frame's size is not known.
            ArtifactError: an earlier sample could not be written; says how many are lost.
            ValueError: the logger is closed.
        """
        if len(state.track_ids) == 0 or len(state.detections) == 0:
            return
        self._origin.size_of(state)
        self._writer.put(_without_masks(state))

    def close(self) -> None:
        """Waits until everything is written.

        Raises:
            ArtifactError: samples could not be written; says how many.
        """
        self._close()

    def __enter__(self) -> SampleLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except ArtifactError:
            if not isinstance(error, ArtifactError):  # else the same failure is being raised already
                raise


def make_sample(state: AssignmentState, origin: SampleOrigin) -> tuple[AssociationSample, tuple[RunWarning, ...]]:
    """A frame as a sample, and warnings about values that had to be changed.

    Raises:
        SettingError: the frame's size is not known.
        ValueError: the state's columns do not fit each other.
    """
    size = origin.size_of(state)
    features = sample_features(state, size, origin.embed_dim)
    truncated = features.embedding_width is not None and features.embedding_width > origin.embed_dim
    suspects = () if state.suspect_tracks is None else tuple(state.suspect_tracks.tolist())
    metadata = SampleMetadata(
        int(size[1]),
        int(size[0]),
        origin.fps,
        origin.sequence,
        origin.run,
        feature_version=FEATURE_VERSION,
        label_source=origin.label_source,
        embedding_truncated=truncated,
        diagnostics=SampleDiagnostics(state.est_id_switches, suspects, state.est_id_switches_frame),
        time=None if state.time is None else float(state.time),
        camera=None if state.camera is None else tuple(float(value) for value in np.ravel(state.camera)),
    )
    sample = AssociationSample(
        int(state.frame),
        state.track_ids,
        features.tracks,
        features.detections,
        features.track_embeddings,
        features.det_embeddings,
        np.asarray(state.cost, np.float32),
        state.allowed.astype(np.float32),
        state.assigned_track_ids,
        metadata,
        _true_ids(state),
    )
    return sample, tuple(_warnings(state, origin, features))


def _true_ids(state: AssignmentState) -> NDArray[np.int64] | None:
    column = state.detections.data.get(GT_COLUMN)
    if column is None:
        return None
    if column.dtype.kind not in "iu":
        raise ValueError(f"{GT_COLUMN} is a column of {column.dtype}, true identities are integers")
    return column.astype(np.int64)


def _warnings(state: AssignmentState, origin: SampleOrigin, features: SampleFeatures) -> Iterator[RunWarning]:
    width = features.embedding_width
    if width is not None and width > origin.embed_dim:
        message = f"frame {state.frame}: embeddings of width {width} are cut to {origin.embed_dim} for the samples"
        details: dict[str, object] = {"frame": state.frame, "width": width, "embed_dim": origin.embed_dim}
        yield RunWarning("log", None, "embedding-truncated", message, details)
    if features.sanitised:
        message = f"frame {state.frame}: values that are not finite are logged as 0 in {', '.join(features.sanitised)}"
        details = {"frame": state.frame, "matrices": [*features.sanitised]}
        yield RunWarning("log", None, "value-not-finite", message, details)


def _without_masks(state: AssignmentState) -> AssignmentState:
    """The state without its masks: samples do not hold them, and a queue of them would fill the memory."""
    if state.detections.masks is None:
        return state
    return replace(state, detections=replace(state.detections, masks=None))


GATHER_SECONDS = 0.25
"""How long frames wait for further ones before they are written."""


class _SampleWriter:
    """The queue and the thread behind it; the thread ends at `close`, or at the first failure."""

    def __init__(self, folder: SampleFolder, origin: SampleOrigin, queue_size: int) -> None:
        self.folder = folder
        self.queued = 0
        self.warnings: dict[str, RunWarning] = {}
        self._origin = origin
        self._queue_size = queue_size
        self._queue: deque[AssignmentState] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._failure: BaseException | None = None
        self._width: int | None = None
        # A daemon, so that a program that ends without closing is not kept alive: `weakref.finalize` flushes at exit.
        self._thread = threading.Thread(target=self._run, name=f"samples of {origin.sequence}", daemon=True)
        self._thread.start()

    def put(self, state: AssignmentState) -> None:
        """Queues one frame; waits while the queue is full and the thread alive."""
        with self._changed:
            if self._closing:
                raise ValueError("the logger is closed")
            if len(self._queue) >= self._queue_size:
                self._changed.notify_all()
                # Not until one place is free but until half of the queue is, for the reason above.
                while len(self._queue) > self._queue_size // 2 and self._failure is None:
                    self._changed.wait()
            self.queued += 1
            if self._failure is not None:
                raise self._error() from self._failure
            self._queue.append(state)
            if len(self._queue) == 1:  # else the thread is awake, and waking it would only slow the tracker down
                self._changed.notify_all()

    def close(self) -> None:
        """Waits for the thread to write the rest, and releases the folder."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self.folder.close()
        if self._failure is not None:
            raise self._error() from self._failure

    def _error(self) -> ArtifactError:
        lost = self.queued - self.folder.stored
        reason = str(self._failure)
        if not isinstance(self._failure, TrackweaveError):
            reason = f"{self.folder.directory}: a sample could not be made: {type(self._failure).__name__}: {reason}"
        return ArtifactError(f"{reason} ({self.folder.stored} samples are written, {lost} are lost)")

    def _run(self) -> None:
        try:
            while self._gather():
                while (state := self._next()) is not None:
                    self._write(state)
        except BaseException as failure:  # noqa: BLE001 - the tracker's thread raises it
            with self._changed:
                self._failure = failure
                self._queue.clear()
                self._changed.notify_all()

    def _gather(self) -> bool:
        """Waits for a frame, and a while for more; False at the end."""

        def is_urgent() -> bool:
            return self._closing or len(self._queue) >= self._queue_size

        with self._changed:
            self._changed.wait_for(lambda: self._closing or bool(self._queue))
            self._changed.wait_for(is_urgent, GATHER_SECONDS)
            return bool(self._queue)

    def _next(self) -> AssignmentState | None:
        """The frame that has waited longest."""
        with self._changed:
            if not self._queue:
                return None
            state = self._queue.popleft()
            if len(self._queue) == self._queue_size // 2:
                self._changed.notify_all()  # the tracker may be waiting for a place
            return state

    def _write(self, state: AssignmentState) -> None:
        sample, warnings = make_sample(state, self._origin)
        self._check_width(state)
        for warning in warnings:
            self.warnings.setdefault(warning.code, warning)
        self.folder.write(sample)

    def _check_width(self, state: AssignmentState) -> None:
        """Warns once when the width of the embeddings changes."""
        for rows in (state.track_embeddings, state.detections.embedding):
            if rows is None:
                continue
            if self._width not in (None, rows.shape[1]):
                message = f"frame {state.frame}: embeddings are {rows.shape[1]} wide, and were {self._width} before"
                details = {"frame": state.frame, "width": rows.shape[1], "before": self._width}
                warning = RunWarning("log", None, "embedding-width-changed", message, details)
                self.warnings.setdefault(warning.code, warning)
            self._width = rows.shape[1]
