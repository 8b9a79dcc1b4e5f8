"""Objects with identities as a file has them: what evaluation compares, of truth and of results alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError
from trackweave.masks.packed import PackedMasks
from trackweave.masks.rle import decode_rle


@dataclass(frozen=True, eq=False)
class AnnotationTable:
    """N objects of one video as columns, ordered by frame, then as in the file.

    Boxes are float64 in the file's own pixels and never shifted: overlaps are then those that other tools compute
    from the same file, to the last bit.

    Attributes:
        source: what messages call it.
        frame: `(N,)` int64, 0-based.
        track_id: `(N,)` int64; −1 = a region without identity.
        xyxy: `(N, 4)` float64, right and bottom exclusive.
        score: `(N,)` float64.
        class_id: `(N,)` int64; −1 = not said.
        counts: `(N,)` bool: the file wants it scored (MOT: column 7 is not 0; COCO: no crowd; KITTI: not DontCare).
        is_hard: `(N,)` bool: too hidden or cut off for KITTI to score.
        origin: coordinate of the top left pixel, 1 in MOT text, else 0.
        class_names: what the classes are called, as far as the file says.
        length: frames of the video, or None.
        size: `(H, W)` of the frames, or None.
        frame_names: file name of each frame, or None.
        segmentations: COCO RLE of each row, None where it has none; None = the file has no masks.
    """

    source: str
    frame: NDArray[np.int64]
    track_id: NDArray[np.int64]
    xyxy: NDArray[np.float64]
    score: NDArray[np.float64]
    class_id: NDArray[np.int64]
    counts: NDArray[np.bool_]
    is_hard: NDArray[np.bool_]
    origin: int = 0
    class_names: Mapping[int, str] = field(default_factory=dict)
    length: int | None = None
    size: tuple[int, int] | None = None
    frame_names: Sequence[str] | None = None
    segmentations: Sequence[Mapping[str, Any] | None] | None = None

    def __len__(self) -> int:
        return len(self.frame)

    def rows(self, frame: int) -> slice:
        """Where a frame's rows lie."""
        start, stop = np.searchsorted(self.frame, (frame, frame + 1))
        return slice(int(start), int(stop))

    def masks(self, rows: slice) -> PackedMasks | None:
        """Masks of some rows of one frame, decoded now; None when the file has none, or the rows are empty.

        Raises:
            InputError: a row has no mask, or a damaged one.
        """
        if self.segmentations is None or rows.start == rows.stop:
            return None
        entries = self.segmentations[rows]
        where = f"{self.source}, frame {int(self.frame[rows.start])}"
        missing = [n for n, entry in enumerate(entries) if entry is None]
        if missing:
            raise InputError(f"{where}: object {int(self.track_id[rows][missing[0]])} has a box and no segmentation")
        try:
            return decode_rle([entry for entry in entries if entry is not None])
        except ValueError as error:
            raise InputError(f"{where}: {error}") from error


def in_frame_order(frame: NDArray[np.int64]) -> NDArray[np.intp]:
    """The order that sorts rows by frame and otherwise leaves them as they are."""
    return np.argsort(frame, kind="stable")


def repeated(frame: NDArray[np.int64], track_id: NDArray[np.int64]) -> tuple[int, int] | None:
    """Positions of the first two rows that show one identity on one frame; −1 is nobody. None when there are none.

    >>> repeated(np.array([0, 1, 1, 1]), np.array([5, 5, -1, 5]))
    (1, 3)
    """
    named = np.flatnonzero(track_id >= 0)
    order = named[np.lexsort((track_id[named], frame[named]))]
    again = np.flatnonzero((frame[order[1:]] == frame[order[:-1]]) & (track_id[order[1:]] == track_id[order[:-1]]))
    return (int(order[again[0]]), int(order[again[0] + 1])) if len(again) else None
