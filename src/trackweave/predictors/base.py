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
from typing import Protocol, runtime_checkable

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


@runtime_checkable
class VideoPredictor(Protocol):
    """A recipe that can be run over any number of videos."""

    @property
    def name(self) -> str:
        """The name on the command line."""

    def open(self, frames: FrameSource) -> PredictorSession:
        """Starts a run over these frames; reads none yet."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of one object.

    Attributes:
        mask: a mask of the frame's size; of a box prompt, the box filled.
        box: `(4,)` float32 xyxy for a box prompt, None for a mask prompt.
    """

    mask: PackedMasks
    box: NDArray[np.float32] | None


class PromptBook:
    """Prompts of one session, checked. Objects whose first-added prompt lies on the same frame form a prompt batch.

    Args:
        length: number of frames.
        size: `(H, W)` of the frames.
    """

    def __init__(self, length: int, size: tuple[int, int]) -> None:
        self._length = length
        self._size = size
        self._prompts: dict[int, dict[int, Prompt]] = {}
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
        self._add(frame, obj_id, Prompt(packed, None))

    def add_box(self, frame: int, obj_id: int, box: NDArray[np.float32]) -> None:
        """See `PredictorSession.add_box`."""
        array = np.asarray(box, np.float32)
        if array.shape != (4,) or not np.all(np.isfinite(array)):
            raise PredictorError(f"object {obj_id}: a box is four finite numbers, not {array.tolist()}")
        height, width = self._size
        pixels = pixels_inside(array, self._size)
        if pixels is None:
            raise PredictorError(
                f"object {obj_id}: box {array.tolist()} is empty or outside the frame of {width}×{height}"
            )
        left, top, right, bottom = pixels
        filled = PackedMasks.from_crops(
            [np.ones((bottom - top, right - left), np.bool_)], np.array([[top, left]]), height, width
        )
        self._add(frame, obj_id, Prompt(filled, array))

    def _add(self, frame: int, obj_id: int, prompt: Prompt) -> None:
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

    def prompts(self, obj_id: int) -> dict[int, Prompt]:
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
