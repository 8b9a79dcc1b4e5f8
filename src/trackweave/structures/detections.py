"""`Detections`: what a detector saw on one frame, and what a tracker made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, MissingExtraError
from trackweave.masks.packed import PackedMasks, as_rows

_DIMENSIONS = (("score", 1), ("class_id", 1), ("embedding", 2), ("visibility", 1), ("track_id", 1), ("index", 1))

Index = slice | NDArray[np.bool_] | NDArray[np.integer[Any]] | Sequence[int]


@dataclass(frozen=True, eq=False)
class Detections:
    """N detections of one frame as columns of one length; indexing gives `Detections`.

    Attributes:
        xyxy: `(N, 4)` float32, pixels of the frame, right and bottom exclusive.
        score: `(N,)` float32, the detector's confidence.
        class_id: `(N,)` int64; −1 = no class.
        masks: N masks of the frame, or None.
        embedding: `(N, E)` float32 appearance descriptors; a row of zeros = not described. None = none at all.
        visibility: `(N,)` float32, visible part of the object in [0, 1]. None = unknown.
        track_id: `(N,)` int64 identities; None before tracking.
        index: `(N,)` int64, row of the detection that the tracker was given; None before tracking.
        data: further columns of length N by name, kept beside the others.

    Raises:
        ValueError: columns of different lengths or of other dimensions than above, or boxes that are not `(N, 4)`.
    """

    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    class_id: NDArray[np.int64]
    masks: PackedMasks | None = None
    embedding: NDArray[np.float32] | None = None
    visibility: NDArray[np.float32] | None = None
    track_id: NDArray[np.int64] | None = None
    index: NDArray[np.int64] | None = None
    data: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.xyxy.ndim != 2 or self.xyxy.shape[1] != 4:
            raise ValueError(f"boxes are (N, 4), not {self.xyxy.shape}")
        n = len(self.xyxy)
        for name, dimensions in _DIMENSIONS:
            column = getattr(self, name)
            if n and column is not None and column.ndim != dimensions:
                raise ValueError(f"{name} of {n} boxes has {dimensions} dimension(s), not the shape {column.shape}")
        for name, column in self._columns():
            if len(column) != n:
                raise ValueError(f"{n} boxes, but {len(column)} of {name}")

    def _columns(self) -> list[tuple[str, Any]]:
        """Every column that is there, by name."""
        optional = ("masks", "embedding", "visibility", "track_id", "index")
        there = [(name, getattr(self, name)) for name in optional if getattr(self, name) is not None]
        return [("score", self.score), ("class_id", self.class_id), *there, *self.data.items()]

    @classmethod
    def of(
        cls,
        xyxy: Any,
        score: Any = None,
        class_id: Any = None,
        *,
        masks: PackedMasks | None = None,
        embedding: Any = None,
        visibility: Any = None,
        data: Mapping[str, Any] | None = None,
    ) -> Detections:
        """Casts each column; `score` defaults to 1, `class_id` to −1.

        >>> Detections.of([[0, 0, 4, 8]], [0.9]).class_id.tolist()
        [-1]
        """
        boxes = np.asarray(xyxy, np.float32)
        boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
        n = len(boxes)
        return cls(
            boxes,
            np.ones(n, np.float32) if score is None else np.asarray(score, np.float32),
            np.full(n, -1, np.int64) if class_id is None else np.asarray(class_id, np.int64),
            masks,
            None if embedding is None else np.asarray(embedding, np.float32),
            None if visibility is None else np.asarray(visibility, np.float32),
            data={name: np.asarray(column) for name, column in (data or {}).items()},
        )

    @classmethod
    def empty(cls) -> Detections:
        """No detection."""
        return cls.of(np.zeros((0, 4)))

    @classmethod
    def concat(cls, parts: Sequence[Detections]) -> Detections:
        """One record of several of the same frame; an optional column survives only when every part has it.

        Raises:
            ValueError: embeddings of different widths.
        """
        parts = [part for part in parts if len(part)]
        if not parts:
            return cls.empty()

        def joined(name: str) -> Any:
            columns = [getattr(part, name) for part in parts]
            return None if any(column is None for column in columns) else np.concatenate(columns)

        masks = [part.masks for part in parts]
        names = [name for name in parts[0].data if all(name in part.data for part in parts)]
        return cls(
            joined("xyxy"),
            joined("score"),
            joined("class_id"),
            PackedMasks.concat([m for m in masks if m is not None]) if all(m is not None for m in masks) else None,
            joined("embedding"),
            joined("visibility"),
            joined("track_id"),
            joined("index"),
            {name: np.concatenate([part.data[name] for part in parts]) for name in names},
        )

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, index: Index) -> Detections:
        chosen = as_rows(index)

        def of(column: Any) -> Any:
            return None if column is None else column[chosen]

        return Detections(
            self.xyxy[chosen],
            self.score[chosen],
            self.class_id[chosen],
            of(self.masks),
            of(self.embedding),
            of(self.visibility),
            of(self.track_id),
            of(self.index),
            {name: column[chosen] for name, column in self.data.items()} if self.data else {},
        )

    @classmethod
    def from_supervision(cls, given: Any) -> Detections:
        """From a `supervision.Detections` (or anything with its attributes); its tracker ids are kept.

        Raises:
            InputError: boxes that are not `(N, 4)`, or columns of different lengths.
        """
        masks = getattr(given, "mask", None)
        tracker_id = getattr(given, "tracker_id", None)
        try:
            found = cls.of(
                given.xyxy,
                given.confidence,
                given.class_id,
                masks=None if masks is None else PackedMasks.from_bool(np.asarray(masks, np.bool_)),
                data=getattr(given, "data", None),
            )
            if tracker_id is None:
                return found
            return cls(**{**found.__dict__, "track_id": np.asarray(tracker_id, np.int64)})
        except ValueError as error:
            raise InputError(f"these supervision detections cannot be used: {error}") from error

    def to_supervision(self) -> Any:
        """As `supervision.Detections`; embedding, visibility and index go to its `data`.

        Raises:
            MissingExtraError: supervision is not installed.
        """
        try:
            from supervision import Detections as SupervisionDetections
        except ImportError as error:
            raise MissingExtraError("supervision", "supervision") from error
        extra = {
            name: column for name in ("embedding", "visibility", "index") if (column := getattr(self, name)) is not None
        }
        return SupervisionDetections(
            xyxy=self.xyxy,
            mask=None if self.masks is None else self.masks.to_bool(),
            confidence=self.score,
            class_id=self.class_id,
            tracker_id=self.track_id,
            data={**self.data, **extra},
        )


GT_COLUMN = "gt_track_id"
"""Column of `Detections.data` that holds the true identity, −1 = none."""


MIN_IOU = 0.5
"""Overlap from which a detection shows an object, as in MOTChallenge's evaluation (arXiv 1603.00831, section 4)."""
