"""What a video predictor is: the one Protocol behind which every backend stands, and what sessions share.

A `VideoPredictor` is the recipe (model, weights, options); a `PredictorSession` is one run of it over one video and
owns everything that is computed per frame (image features, optical flow). The session outlives prompt batches and
levels, so nothing is computed twice: `forget_objects` and `reset` forget objects, never frames;
`release_frames_before` lets frames go.

Objects that are first prompted on the same frame, by whatever level, form a *prompt batch*; `propagate(start)` moves
that batch and no other. Neither batches nor the objects of one influence each other: an object moves as it would alone.

Frames are addressed by their position among the frames that the session was opened on (`LocalIndex`), objects by
numbers that the caller chooses and that mean something inside this session only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import pixels_inside
from trackweave.errors import PredictorError
from trackweave.frames.source import FrameSource
from trackweave.ids import LocalIndex
from trackweave.masks.packed import PackedMasks
from trackweave.structures.columns import Columns
from trackweave.structures.run_log import RunWarning

MaskPrompt = PackedMasks | NDArray[np.bool_]
"""One mask of the frame's size: packed, or a `(H, W)` bool array."""


@dataclass(frozen=True, eq=False)
class FramePrediction(Columns):
    """What a session says of a prompt batch on one frame.

    Attributes:
        frame: position in the session's frames.
        object_ids: `(M,)` int64, the batch's object ids in the order in which they were prompted. They are the
            session's, not tracks': several levels that each count from 1 share a session.
        masks: M masks of the frame's own size; an object that is not visible has an empty mask.
        score: `(M,)` float32, objectness in [0, 1]: how sure the predictor is that the object is there.
    """

    SHARED = ("frame",)

    frame: LocalIndex
    object_ids: NDArray[np.int64]
    masks: PackedMasks
    score: NDArray[np.float32]


@runtime_checkable
class PredictorSession(Protocol):
    """One run over one video."""

    def add_mask(self, frame: LocalIndex, obj_id: int, mask: MaskPrompt) -> None:
        """Prompts an object with a mask of the frame's size.

        A second prompt of the same object on another frame re-anchors it there: propagation passes through it.

        Raises:
            PredictorError: mask of another shape or empty, frame out of range, or the object already has a prompt
                on that frame.
        """

    def add_box(self, frame: LocalIndex, obj_id: int, box: NDArray[np.float32]) -> None:
        """Prompts an object with a box `(4,)` float32 xyxy in frame pixels, right and bottom edges exclusive.

        Raises:
            PredictorError: box empty or outside the frame, frame out of range, or the object already has a prompt
                on that frame.
        """

    def add_points(
        self,
        frame: LocalIndex,
        obj_id: int,
        points: NDArray[np.float32],
        labels: NDArray[np.integer[Any]],
        box: NDArray[np.float32] | None = None,
    ) -> None:
        """Prompts an object with points, and a box around it where there is one.

        Args:
            frame: position in the session's frames.
            obj_id: the object.
            points: `(P, 2)` float32 x, y in frame pixels; the centre of the first pixel is (0.5, 0.5).
            labels: `(P,)` 1 inside the object, 0 outside.
            box: `(4,)`, see `add_box`.

        Raises:
            PredictorError: a point outside the frame, no point inside the object and no box, a frame out of range,
                the object already has a prompt on that frame, or the predictor takes no points.
        """

    def propagate(
        self, start: LocalIndex, *, reverse: bool = False, max_frames: int | None = None
    ) -> Iterator[FramePrediction]:
        """Moves the objects first prompted on `start` through the video, one frame at a time.

        Yields `start` itself first, then up to `max_frames` further frames (None = to the end of the video),
        forward or, with `reverse`, backward. So `max_frames=P` yields at most P+1 predictions.

        Raises:
            PredictorError: no object was first prompted on `start`.
        """

    def forget_objects(self, start: LocalIndex) -> None:
        """Promises that the objects first prompted on `start` will not be moved again: they and their prompts are
        forgotten, so that memory does not grow with the number of prompt batches. Afterwards others may be prompted on
        that frame, and ids may be used again. Without such objects nothing happens."""

    def release_frames_before(self, frame: LocalIndex) -> None:
        """Promises that no frame below `frame` will be visited again, by any batch to come: what was computed for
        those frames may be dropped. Breaking the promise costs time, never correctness."""

    def reset(self) -> None:
        """Forgets every object and prompt; keeps what was computed per frame."""

    @property
    def warnings(self) -> Sequence[RunWarning]:
        """What was done differently from what was asked so far (stage `predictor`), for the manifest."""

    @property
    def counters(self) -> Mapping[str, float]:
        """Work done so far, for the summary: `encoder_passes`, `object_frames`, … ; empty where nothing is counted."""

    def close(self) -> None:
        """Releases memory, devices and temporary files."""


@dataclass(frozen=True)
class MaskLimits:
    """Which of the masks at points are of use.

    Attributes:
        predicted_iou: how well the model expects a mask to match has to be above this.
        stability: lower limit of the IoU of the masks that come out of logits above `offset` and above minus `offset`.
        offset: logit.
        batch: points that go through the model together.
    """

    predicted_iou: float = 0.8
    stability: float = 0.95
    offset: float = 1.0
    batch: int = 64


@dataclass(frozen=True, eq=False)
class PointMasks(Columns):
    """M masks at points of a frame, up to three of each point.

    Attributes:
        point: `(M,)` int64, the row of the point, ascending.
        rank: `(M,)` int64, 0 the largest of the point's masks … 2 the smallest.
        predicted_iou: `(M,)` float32, see `MaskLimits`.
        stability: `(M,)` float32, see `MaskLimits`.
        masks: M masks of the frame, or of its window.
    """

    point: NDArray[np.int64]
    rank: NDArray[np.int64]
    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    masks: PackedMasks


@runtime_checkable
class PointSegmenter(Protocol):
    """A session whose model knows what lies at a point, without a prompt that is followed."""

    def segment_points(
        self,
        frame: LocalIndex,
        points: NDArray[np.float32],
        limits: MaskLimits,
        window: tuple[int, int, int, int] | None = None,
    ) -> PointMasks:
        """Masks at points, from what is kept of the frame for propagation as well.

        Args:
            frame: position in the session's frames.
            points: `(P, 2)` x, y in pixels of the frame, or of its window.
            limits: masks beyond them are left out.
            window: xyxy in whole pixels: this part of the frame alone is looked at; it costs a pass of the image
                encoder of its own.

        Raises:
            PredictorOutOfMemory: one point alone is too much for the device.
            PredictorError: the model failed, or the session is closed.
        """


@runtime_checkable
class VideoPredictor(Protocol):
    """A recipe that can be run over any number of videos."""

    @property
    def name(self) -> str:
        """The name on the command line."""

    def open(self, frames: FrameSource) -> PredictorSession:
        """Starts a run over these frames; reads none yet."""


@dataclass(frozen=True, slots=True)
class ObjectPrompt:
    """One prompt of one object.

    Attributes:
        mask: a mask of the frame's size; of a box prompt, the box filled; of points, the pixels of those inside.
        box: `(4,)` float32 xyxy, or None.
        points: `(P, 2)` float32 x, y; empty but for a prompt by points.
        labels: `(P,)` int32; 1 = the point is inside the object, 0 = outside.
    """

    mask: PackedMasks
    box: NDArray[np.float32] | None
    points: NDArray[np.float32]
    labels: NDArray[np.int32]

    @property
    def is_mask(self) -> bool:
        """The mask is what was given, not a box or points."""
        return self.box is None and not len(self.points)

    @property
    def marks(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Box and points as SAM takes them: `(P, 2)` x, y and `(P,)` labels; the corners of a box are 2 and 3."""
        if self.box is None:
            return self.points, self.labels
        corners = np.asarray(self.box, np.float32).reshape(2, 2)
        return np.concatenate([corners, self.points]), np.concatenate([BOX_LABELS, self.labels])


NO_POINTS = np.zeros((0, 2), np.float32), np.zeros(0, np.int32)
BOX_LABELS = np.array([2, 3], np.int32)
"""Of the corners of a box, as the SAM family numbers them."""


class PromptBook:
    """Prompts of one session, checked. Objects whose first-added prompt lies on the same frame form a prompt batch.

    Args:
        length: number of frames.
        size: `(H, W)` of the frames.
    """

    def __init__(self, length: int, size: tuple[int, int]) -> None:
        self._length = length
        self._size = size
        self._prompts: dict[int, dict[int, ObjectPrompt]] = {}
        self._start: dict[int, int] = {}

    def add_mask(self, frame: int, obj_id: int, mask: MaskPrompt) -> None:
        """See `PredictorSession.add_mask`. This is the border: behind it masks are packed."""
        shape = mask.size if isinstance(mask, PackedMasks) else np.shape(mask)
        if shape != self._size:
            raise PredictorError(f"object {obj_id}: a mask of {shape} for frames of {self._size}")
        packed = mask if isinstance(mask, PackedMasks) else PackedMasks.from_bool(np.asarray(mask))
        if len(packed) != 1:
            raise PredictorError(f"object {obj_id}: a prompt is one mask, not {len(packed)}")
        if not packed.areas[0]:
            raise PredictorError(f"object {obj_id}: its mask prompt on frame {frame} is empty")
        self._add(frame, obj_id, ObjectPrompt(packed, None, *NO_POINTS))

    def add_box(self, frame: int, obj_id: int, box: NDArray[np.float32]) -> None:
        """See `PredictorSession.add_box`."""
        array = np.asarray(box, np.float32)
        self._add(frame, obj_id, ObjectPrompt(self._filled(obj_id, array), array, *NO_POINTS))

    def add_points(
        self,
        frame: int,
        obj_id: int,
        points: NDArray[np.float32],
        labels: NDArray[np.integer[Any]],
        box: NDArray[np.float32] | None = None,
    ) -> None:
        """See `PredictorSession.add_points`."""
        places, kinds = np.asarray(points, np.float32).reshape(-1, 2), np.asarray(labels).reshape(-1)
        height, width = self._size
        if len(places) != len(kinds) or not np.isin(kinds, (0, 1)).all():
            raise PredictorError(f"object {obj_id}: each point has a label, 1 inside the object or 0 outside")
        is_there = np.all((places >= 0) & (places <= (width, height)), axis=1)
        if not is_there.all():
            x, y = places[np.argmin(is_there)].tolist()
            raise PredictorError(f"object {obj_id}: point ({x:g}, {y:g}) is outside the frame of {width}×{height}")
        inside = places[kinds == 1]
        if box is None and not len(inside):
            raise PredictorError(f"object {obj_id}: needs a point inside it on frame {frame}, or a box")
        around = None if box is None else np.asarray(box, np.float32)
        if around is None:
            seen = np.zeros(self._size, np.bool_)
            columns, rows = np.minimum(inside, (width - 1, height - 1)).astype(np.int64).T
            seen[rows, columns] = True
            mask = PackedMasks.from_bool(seen)
        else:
            mask = self._filled(obj_id, around)
        self._add(frame, obj_id, ObjectPrompt(mask, around, places, kinds.astype(np.int32)))

    def _filled(self, obj_id: int, box: NDArray[np.float32]) -> PackedMasks:
        """The pixels of a box.

        Raises:
            PredictorError: it is no box, empty or outside the frame.
        """
        if box.shape != (4,) or not np.all(np.isfinite(box)):
            raise PredictorError(f"object {obj_id}: a box is four finite numbers, not {box.tolist()}")
        height, width = self._size
        pixels = pixels_inside(box, self._size)
        if pixels is None:
            raise PredictorError(
                f"object {obj_id}: box {box.tolist()} is empty or outside the frame of {width}×{height}"
            )
        left, top, right, bottom = pixels
        return PackedMasks.from_crops(
            [np.ones((bottom - top, right - left), np.bool_)], np.array([[top, left]]), height, width
        )

    def _add(self, frame: int, obj_id: int, prompt: ObjectPrompt) -> None:
        if not 0 <= frame < self._length:
            raise PredictorError(f"object {obj_id}: frame {frame} is not among 0 … {self._length - 1}")
        prompts = self._prompts.setdefault(obj_id, {})
        if frame in prompts:
            raise PredictorError(f"object {obj_id} already has a prompt on frame {frame}")
        prompts[frame] = prompt
        self._start.setdefault(obj_id, frame)

    def first_prompted_on(self, start: int) -> list[int]:
        """Objects of the prompt batch of `start`, in the order in which they were prompted.

        Raises:
            PredictorError: there is none.
        """
        objects = [obj_id for obj_id, frame in self._start.items() if frame == start]
        if not objects:
            raise PredictorError(f"no object was first prompted on frame {start}")
        return objects

    def prompts(self, obj_id: int) -> dict[int, ObjectPrompt]:
        """All prompts of one object by frame."""
        return self._prompts[obj_id]

    def forget(self, start: int) -> None:
        """Forgets the objects first prompted on `start` and all their prompts; nothing happens when there is none."""
        for obj_id in [obj_id for obj_id, frame in self._start.items() if frame == start]:
            del self._start[obj_id], self._prompts[obj_id]

    def clear(self) -> None:
        """Forgets everything."""
        self._prompts.clear()
        self._start.clear()


class PromptedSession:
    """The part of a `PredictorSession` that keeps prompts; a backend adds `propagate`, and the rest as it needs it.

    Args:
        length: number of frames.
        size: `(H, W)` of the frames.
    """

    def __init__(self, length: int, size: tuple[int, int]) -> None:
        self._length, self._size = length, size
        self._book = PromptBook(length, size)
        self._closed = False

    def add_mask(self, frame: int, obj_id: int, mask: MaskPrompt) -> None:
        """See `PredictorSession.add_mask`."""
        self._check_open()
        self._book.add_mask(frame, obj_id, mask)

    def add_box(self, frame: int, obj_id: int, box: NDArray[np.float32]) -> None:
        """See `PredictorSession.add_box`."""
        self._check_open()
        self._book.add_box(frame, obj_id, box)

    def add_points(
        self,
        frame: int,
        obj_id: int,
        points: NDArray[np.float32],
        labels: NDArray[np.integer[Any]],
        box: NDArray[np.float32] | None = None,
    ) -> None:
        """See `PredictorSession.add_points`."""
        self._check_open()
        self._book.add_points(frame, obj_id, points, labels, box)

    def forget_objects(self, start: int) -> None:
        """See `PredictorSession.forget_objects`; what was computed per frame stays."""
        self._book.forget(start)

    def release_frames_before(self, frame: int) -> None:
        """See `PredictorSession.release_frames_before`; here nothing is kept per frame, or it is bounded anyway."""
        return

    def reset(self) -> None:
        """See `PredictorSession.reset`."""
        self._book.clear()

    @property
    def warnings(self) -> Sequence[RunWarning]:
        """See `PredictorSession.warnings`."""
        return ()

    @property
    def counters(self) -> Mapping[str, float]:
        """See `PredictorSession.counters`."""
        return {}

    def close(self) -> None:
        """See `PredictorSession.close`."""
        self._closed = True
        self._book.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise PredictorError("the session is closed: open another one")


def frame_range(start: int, length: int, reverse: bool, max_frames: int | None) -> range:
    """Positions that `PredictorSession.propagate` visits: `start` first.

    >>> list(frame_range(2, 6, False, 2)), list(frame_range(2, 6, True, None))
    ([2, 3, 4], [2, 1, 0])
    """
    reach = length if max_frames is None else max_frames
    return range(start, max(start - reach, 0) - 1, -1) if reverse else range(start, min(start + reach, length - 1) + 1)
