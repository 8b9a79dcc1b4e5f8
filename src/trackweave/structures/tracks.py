"""`Tracks`: identities over time, the one record that both ways of tracking end in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import MissingExtraError
from trackweave.ids import FrameIndex, TrackId
from trackweave.masks.packed import PackedMasks, as_rows

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


Index = slice | NDArray[np.bool_] | NDArray[np.integer[Any]] | Sequence[int]

BOX_COLUMNS = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class FrameObjects:
    """The M objects that are visible on one frame; what archives store and read back.

    Attributes:
        frame: absolute frame index.
        name: the frame's file name or label.
        ids: `(M,)` int64, strictly increasing.
        masks: M non-empty masks at the stored scale.
        boxes: `(M, 4)` float32 xyxy in pixels of the full-size frame.
        areas: `(M,)` int64, pixels of the stored mask.
        scores: `(M,)` float32, objectness in [0, 1].
    """

    frame: FrameIndex
    name: str
    ids: NDArray[np.int64]
    masks: PackedMasks
    boxes: NDArray[np.float32]
    areas: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Index) -> FrameObjects:
        chosen = as_rows(index)
        return FrameObjects(
            self.frame,
            self.name,
            self.ids[chosen],
            self.masks[chosen],
            self.boxes[chosen],
            self.areas[chosen],
            self.scores[chosen],
        )


@dataclass(frozen=True)
class Tracks:
    """Observations of tracks as columns of one length, ordered by frame, then track id.

    Attributes:
        frame: `(N,)` int64 absolute frame index.
        track_id: `(N,)` int64.
        xyxy: `(N, 4)` float32 in frame pixels, right and bottom exclusive.
        score: `(N,)` float32.
        class_id: `(N,)` int64; −1 = no class. Mask runs put the granularity level here.
        masks: N masks, or None.

    Raises:
        ValueError: columns of different lengths, or one track twice on a frame.
    """

    frame: NDArray[np.int64]
    track_id: NDArray[np.int64]
    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    class_id: NDArray[np.int64]
    masks: PackedMasks | None = None

    def __post_init__(self) -> None:
        columns: list[NDArray[Any]] = [self.frame, self.track_id, self.xyxy, self.score, self.class_id]
        lengths = {len(column) for column in columns} | ({len(self.masks)} if self.masks is not None else set())
        if len(lengths) > 1:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")
        keys = np.stack([self.frame, self.track_id], axis=1)
        order = np.lexsort((self.track_id, self.frame))
        if np.any(order[1:] < order[:-1]):
            for name in ("frame", "track_id", "xyxy", "score", "class_id"):
                object.__setattr__(self, name, getattr(self, name)[order])
            if self.masks is not None:
                object.__setattr__(self, "masks", self.masks[order])
            keys = keys[order]
        repeated = np.flatnonzero(np.all(keys[1:] == keys[:-1], axis=1))
        if len(repeated):
            frame, track = keys[repeated[0]]
            raise ValueError(f"track {track} occurs twice on frame {frame}")

    @classmethod
    def empty(cls) -> Tracks:
        """No observation."""
        return cls.from_columns([], [], np.zeros((0, 4)))

    @classmethod
    def from_columns(
        cls, frame: Any, track_id: Any, xyxy: Any, score: Any = None, class_id: Any = None, masks: Any = None
    ) -> Tracks:
        """Casts each column; `score` defaults to 1, `class_id` to −1."""
        frames = np.asarray(frame, np.int64)
        n = len(frames)
        return cls(
            frames,
            np.asarray(track_id, np.int64),
            np.asarray(xyxy, np.float32).reshape(-1, 4),
            np.ones(n, np.float32) if score is None else np.asarray(score, np.float32),
            np.full(n, -1, np.int64) if class_id is None else np.asarray(class_id, np.int64),
            masks,
        )

    @classmethod
    def from_frames(cls, frames: Iterable[FrameObjects], *, class_id: int = -1, with_masks: bool = True) -> Tracks:
        """Joins what archives hold frame by frame. `with_masks=False` keeps memory small on long runs."""
        parts = [
            cls.from_columns(
                np.full(len(objects), objects.frame),
                objects.ids,
                objects.boxes,
                objects.scores,
                np.full(len(objects), class_id),
                objects.masks if with_masks else None,
            )
            for objects in frames
            if len(objects)
        ]
        return cls.concat(parts)

    @classmethod
    def concat(cls, parts: Sequence[Tracks]) -> Tracks:
        """One record of several; masks survive only when every part has them."""
        parts = [part for part in parts if len(part)]
        if not parts:
            return cls.empty()
        masks = [part.masks for part in parts]
        return cls(
            np.concatenate([p.frame for p in parts]),
            np.concatenate([p.track_id for p in parts]),
            np.concatenate([p.xyxy for p in parts]),
            np.concatenate([p.score for p in parts]),
            np.concatenate([p.class_id for p in parts]),
            PackedMasks.concat([m for m in masks if m is not None]) if all(m is not None for m in masks) else None,
        )

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, index: Index) -> Tracks:
        chosen = as_rows(index)
        return Tracks(
            self.frame[chosen],
            self.track_id[chosen],
            self.xyxy[chosen],
            self.score[chosen],
            self.class_id[chosen],
            None if self.masks is None else self.masks[chosen],
        )

    def at(self, frame: FrameIndex | int) -> Tracks:
        """Everything on one frame (empty when nothing is there)."""
        low, high = np.searchsorted(self.frame, [frame, frame + 1])
        return self[int(low) : int(high)]

    def of(self, track_id: TrackId | int) -> Tracks:
        """One track over time."""
        return self[self.track_id == track_id]

    @property
    def track_ids(self) -> NDArray[np.int64]:
        """Each track once, ascending."""
        return np.unique(self.track_id)

    @property
    def frames(self) -> NDArray[np.int64]:
        """Each frame with an observation once, ascending."""
        return np.unique(self.frame)

    def __iter__(self) -> Iterator[tuple[FrameIndex, Tracks]]:
        for frame in self.frames:
            yield FrameIndex(int(frame)), self.at(FrameIndex(int(frame)))

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Columns by name without masks: frame, track_id, x1, y1, x2, y2, score, class_id."""
        boxes = {name: self.xyxy[:, k] for k, name in enumerate(BOX_COLUMNS)}
        return {
            "frame": self.frame,
            "track_id": self.track_id,
            **boxes,
            "score": self.score,
            "class_id": self.class_id,
        }

    @classmethod
    def _from_table(cls, column: Any) -> Tracks:
        boxes = np.stack([np.asarray(column(name), np.float32) for name in BOX_COLUMNS], axis=1)
        return cls.from_columns(column("frame"), column("track_id"), boxes, column("score"), column("class_id"))

    def to_pandas(self) -> pd.DataFrame:
        """The columns of `to_dict` as a data frame."""
        return _library("pandas").DataFrame(self.to_dict())

    def to_polars(self) -> pl.DataFrame:
        """The columns of `to_dict` as a data frame."""
        table: pl.DataFrame = _library("polars").DataFrame(self.to_dict())
        return table

    def to_arrow(self) -> pa.Table:
        """The columns of `to_dict` as a table."""
        return _library("pyarrow").table(self.to_dict())

    @classmethod
    def from_pandas(cls, table: pd.DataFrame) -> Tracks:
        """Inverse of `to_pandas`."""
        return cls._from_table(lambda name: table[name].to_numpy())

    @classmethod
    def from_polars(cls, table: pl.DataFrame) -> Tracks:
        """Inverse of `to_polars`."""
        return cls._from_table(lambda name: table[name].to_numpy())

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Tracks:
        """Inverse of `to_arrow`."""
        return cls._from_table(lambda name: table[name].to_numpy())


def _library(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(name, "tables") from error
