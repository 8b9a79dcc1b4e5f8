"""What a video predictor is: the one Protocol behind which every backend stands.

A `VideoPredictor` is the recipe (model, weights, options); a `PredictorSession` is one run of it over one video and
owns everything that is computed per frame (image features, optical flow). The session outlives prompt batches and
levels, so nothing is computed twice: `finish` and `reset` forget objects, never frames; `retire` lets frames go.

Objects first prompted on the same frame, by whatever level, form a *cohort*; `propagate(start)` moves that cohort and
no other. Neither cohorts nor the objects of one influence each other: an object moves as it would alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from trackweave.frames.source import FrameSource
from trackweave.masks.packed import PackedMasks
from trackweave.structures.warning import RunWarning


@dataclass(frozen=True, slots=True)
class FramePrediction:
    """What a session says of its cohort on one frame.

    Attributes:
        frame: local position in the session's frames.
        object_ids: `(M,)` int64, the cohort's ids in the order in which they were prompted.
        masks: M masks of the frame's own size; an object that is not visible has an empty mask.
        scores: `(M,)` float32, objectness in [0, 1]: how sure the predictor is that the object is there.
    """

    frame: int
    object_ids: NDArray[np.int64]
    masks: PackedMasks
    scores: NDArray[np.float32]


@runtime_checkable
class PredictorSession(Protocol):
    """One run over one video. Positions are local positions of the frames it was opened on."""

    def add_mask(self, frame: int, obj_id: int, mask: NDArray[np.bool_]) -> None:
        """Prompts an object with a `(H, W)` bool mask of the frame's size.

        A second prompt of the same object on another frame re-anchors it there: propagation passes through it.

        Raises:
            PredictorError: mask of another shape or empty, frame out of range, or the object already has a prompt
                on that frame.
        """

    def add_box(self, frame: int, obj_id: int, box: NDArray[np.float32]) -> None:
        """Prompts an object with a box `(4,)` float32 xyxy in frame pixels, right and bottom edges exclusive.

        Raises:
            PredictorError: box empty or outside the frame, frame out of range, or the object already has a prompt
                on that frame.
        """

    def propagate(
        self, start: int, *, reverse: bool = False, max_frames: int | None = None
    ) -> Iterator[FramePrediction]:
        """Moves the cohort first prompted on `start` through the video, one frame at a time.

        Yields `start` itself first, then up to `max_frames` further frames (None = to the end of the video),
        forward or, with `reverse`, backward. So `max_frames=P` yields at most P+1 predictions.

        Raises:
            PredictorError: no object was first prompted on `start`.
        """

    def finish(self, start: int) -> None:
        """Promises that the cohort first prompted on `start` will not be moved again: its objects and their prompts
        are forgotten, so that memory does not grow with the number of cohorts. Afterwards another cohort may be
        prompted on that frame, and ids may be used again. Without such a cohort nothing happens."""

    def retire(self, before: int) -> None:
        """Promises that no frame below position `before` will be visited again, by any cohort to come: what was
        computed for those frames may be dropped. Breaking the promise costs time, never correctness."""

    def reset(self) -> None:
        """Forgets every object and prompt; keeps what was computed per frame."""

    @property
    def remarks(self) -> Sequence[RunWarning]:
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
