"""`Tracks`: identities over time, the one record that both ways of tracking end in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import MissingExtraError
from trackweave.ids import FrameIndex, TrackId
from trackweave.masks.codecs import decode_rle, encode_rle
from trackweave.masks.packed import PackedMasks
from trackweave.structures.columns import Columns
from trackweave.structures.identity import Tree

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


BOX_COLUMNS = ("x1", "y1", "x2", "y2")
MASK_SIDES = ("mask_height", "mask_width")


@dataclass(frozen=True, eq=False)
class FrameObjects(Columns):
    """The M objects that are visible on one frame; what archives store and read back.

    Attributes:
        frame: index of the frame in the original video.
        name: the frame's file name or label.
        track_id: `(M,)` int64, strictly increasing.
        masks: M non-empty masks at the stored scale.
        xyxy: `(M, 4)` float32 in pixels of the full-size frame, right and bottom exclusive.
        area: `(M,)` int64, pixels of the stored mask.
        score: `(M,)` float32, objectness in [0, 1].
        class_id: `(M,)` int64, −1 = no class; None: no track of the level has one.
    """

    SHARED = ("frame", "name")

    frame: FrameIndex
    name: str
    track_id: NDArray[np.int64]
    masks: PackedMasks
    xyxy: NDArray[np.float32]
    area: NDArray[np.int64]
    score: NDArray[np.float32]
    class_id: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class TrackClass:
    """What a track of masks is, as its candidate said.

    Attributes:
        class_id: the class, 0 or more.
        score: of the candidate, as the generator gave it.
    """

    class_id: int
    score: float


@dataclass(frozen=True)
class TrackClasses:
    """The classes of tracks of masks; a track that is not there has none.

    Attributes:
        tracks: class by track id.
        names: names of the classes by number.
    """

    tracks: Mapping[int, TrackClass] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.tracks)

    def of(self, track_id: NDArray[np.int64]) -> NDArray[np.int64]:
        """`(M,)` int64, the class of each track; −1 = none."""
        known = self.tracks
        return np.array([known[one].class_id if one in known else -1 for one in track_id.tolist()], np.int64)

    def onto(self, objects: FrameObjects) -> FrameObjects:
        """The objects with their classes; as they are where no track has one."""
        return replace(objects, class_id=self.of(objects.track_id)) if self else objects

    def joined(self, things: Iterable[tuple[int, int]]) -> TrackClasses:
        """The classes of things that tracks are joined to.

        A thing has the class whose candidates have the greatest sum of scores among its tracks; of equal ones that of
        the smallest track id. Its score is the best that a candidate of this class has. Tracks without class do not
        count.

        Args:
            things: pairs of track and thing.

        >>> classes = TrackClasses({1: TrackClass(0, 0.5), 2: TrackClass(7, 0.4), 3: TrackClass(7, 0.3)})
        >>> classes.joined([(1, 1), (2, 1), (3, 1), (4, 4)]).tracks
        {1: TrackClass(class_id=7, score=0.4)}
        """
        votes: dict[int, dict[int, list[float]]] = {}
        for track, thing in sorted(things):
            if track in self.tracks:
                own = self.tracks[track]
                votes.setdefault(thing, {}).setdefault(own.class_id, []).append(own.score)
        # Of several best ones `max` gives the first, which is that of the smallest track.
        best = {thing: max(cast.items(), key=lambda one: round(sum(one[1]), 6)) for thing, cast in votes.items()}
        tracks = {thing: TrackClass(class_id, max(scores)) for thing, (class_id, scores) in best.items()}
        return replace(self, tracks=tracks)

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "tracks": [[track, own.class_id, own.score] for track, own in sorted(self.tracks.items())],
            "names": {str(number): name for number, name in sorted(self.names.items())},
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TrackClasses:
        """The classes back.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: not what `to_json` gave.
        """
        tracks = {int(track): TrackClass(int(number), float(score)) for track, number, score in record["tracks"]}
        if any(one.class_id < 0 or not np.isfinite(one.score) for one in tracks.values()):
            raise ValueError("a class below 0, or a score that is not finite")
        return cls(tracks, {int(number): str(name) for number, name in record["names"].items()})


@dataclass(frozen=True, eq=False, repr=False)
class Tracks(Columns):
    """Observations of tracks as columns of one length, ordered by frame, then track id; indexing gives `Tracks`.

    Attributes:
        frame: `(N,)` int64 absolute frame index.
        track_id: `(N,)` int64.
        xyxy: `(N, 4)` float32 in frame pixels, right and bottom exclusive.
        score: `(N,)` float32.
        class_id: `(N,)` int64; −1 = no class.
        masks: N masks, or None.
        level: `(N,)` int64 level of granularity, or None where there are no levels, as in box runs.
        tree: which of them is part of which; None where that is not known.

    Raises:
        ValueError: columns of different lengths, or one track twice on a frame.
    """

    SHARED: ClassVar[tuple[str, ...]] = ("tree",)

    frame: NDArray[np.int64]
    track_id: NDArray[np.int64]
    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    class_id: NDArray[np.int64]
    masks: PackedMasks | None = None
    level: NDArray[np.int64] | None = None
    tree: Tree | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        order = np.lexsort((self.track_id, self.frame))
        if np.any(order[1:] < order[:-1]):
            for name, column in list(self._columns()):
                object.__setattr__(self, name, column[order])
        same = (self.frame[1:] == self.frame[:-1]) & (self.track_id[1:] == self.track_id[:-1])
        if same.any():
            row = int(np.argmax(same))
            raise ValueError(f"track {self.track_id[row]} occurs twice on frame {self.frame[row]}")

    @classmethod
    def empty(cls) -> Tracks:
        """No observation."""
        return cls.from_columns([], [], np.zeros((0, 4)))

    @classmethod
    def from_columns(
        cls,
        frame: Any,
        track_id: Any,
        xyxy: Any,
        score: Any = None,
        class_id: Any = None,
        masks: PackedMasks | None = None,
        level: Any = None,
        tree: Tree | None = None,
    ) -> Tracks:
        """Casts each column; `score` defaults to 1, `class_id` to −1, `level` to none.

        >>> Tracks.from_columns([0, 1], [7, 7], [[0, 0, 4, 8], [1, 0, 5, 8]])
        Tracks(2 rows: 1 track on frames 0-1)
        """
        frames = np.asarray(frame, np.int64)
        n = len(frames)
        return cls(
            frames,
            np.asarray(track_id, np.int64),
            np.asarray(xyxy, np.float32).reshape(-1, 4),
            np.ones(n, np.float32) if score is None else np.asarray(score, np.float32),
            np.full(n, -1, np.int64) if class_id is None else np.asarray(class_id, np.int64),
            masks,
            None if level is None else np.asarray(level, np.int64),
            tree,
        )

    @classmethod
    def from_frames(
        cls, frames: Iterable[FrameObjects], *, level: int | None = None, with_masks: bool = True
    ) -> Tracks:
        """Joins what archives hold frame by frame. `with_masks=False` keeps memory small on long runs."""
        parts = [
            cls.from_columns(
                np.full(len(objects), objects.frame),
                objects.track_id,
                objects.xyxy,
                objects.score,
                objects.class_id,
                masks=objects.masks if with_masks else None,
                level=None if level is None else np.full(len(objects), level),
            )
            for objects in frames
            if len(objects)
        ]
        return cls.concat(parts)

    def at(self, frame: FrameIndex | int) -> Tracks:
        """Everything on one frame (empty when nothing is there)."""
        low, high = np.searchsorted(self.frame, [frame, frame + 1])
        return self[int(low) : int(high)]

    def of(self, track_id: TrackId | int) -> Tracks:
        """One track over time."""
        return self[self.track_id == track_id]

    def children(self, track_id: TrackId | int) -> Tracks:
        """The parts of a thing over time: those that `run.tree()` has under it, of the levels that are here.

        Raises:
            KeyError: no such thing in the tree.
            ValueError: the tracks have no tree: only those that a run with identities gave have one.

        >>> tree = Tree.from_parents({1: 0, 2: 1, 3: 1}, levels={1: 2, 2: 4, 3: 4})
        >>> tracks = Tracks.from_columns([0, 0, 1], [1, 2, 3], np.zeros((3, 4)), tree=tree)
        >>> tracks.children(1).track_ids.tolist(), len(tracks.children(3))
        ([2, 3], 0)
        """
        if self.tree is None:
            raise ValueError("these tracks have no tree: run.tracks() of a run with identities has one")
        return self[np.isin(self.track_id, self.tree.children(int(track_id)))]

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

    def __repr__(self) -> str:
        if not len(self):
            return "Tracks(no rows)"
        count = len(self.track_ids)
        text = f"{count} track{'s' * (count != 1)} on frames {self.frame[0]}-{self.frame[-1]}"
        if self.level is not None:
            text += f", level {' '.join(map(str, np.unique(self.level)))}"
        return f"Tracks({len(self)} row{'s' * (len(self) != 1)}: {text}{', masks' * (self.masks is not None)})"

    def _repr_html_(self) -> str:
        """A row per track, the longest twenty, for notebooks."""
        ids, rows = np.unique(self.track_id, return_counts=True)
        head = "<tr><th>track</th><th>rows</th><th>first</th><th>last</th><th>mean score</th></tr>"
        lines = []
        for k in np.argsort(-rows, kind="stable")[:20]:
            track = self.of(ids[k])
            cells = (ids[k], rows[k], track.frame[0], track.frame[-1], f"{track.score.mean():.2f}")
            lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        return f"<p>{escape(repr(self))}</p><table>{head}{''.join(lines)}</table>"

    def to_dict(self, *, with_masks: bool = False) -> dict[str, NDArray[Any]]:
        """Columns by name: frame, track_id, x1, y1, x2, y2, score, class_id, and level where there is one.

        With masks also `mask_counts`, COCO's compressed run-length code as text, and `mask_height` and `mask_width`.
        """
        table: dict[str, NDArray[Any]] = {"frame": self.frame, "track_id": self.track_id}
        table |= {name: self.xyxy[:, k] for k, name in enumerate(BOX_COLUMNS)}
        table |= {"score": self.score, "class_id": self.class_id}
        if self.level is not None:
            table["level"] = self.level
        if with_masks and self.masks is not None:
            codes = [code["counts"] for code in encode_rle(self.masks)]
            table["mask_counts"] = np.array(codes, np.object_)
            for name, side in zip(MASK_SIDES, self.masks.size, strict=True):
                table[name] = np.full(len(self), side, np.int64)
        return table

    @classmethod
    def _from_table(cls, names: Iterable[str], column: Callable[[str], NDArray[Any]]) -> Tracks:
        there = set(names)
        masks = None
        if "mask_counts" in there and len(column("frame")):
            sizes = zip(*(column(name).tolist() for name in MASK_SIDES), strict=True)
            pairs = zip(column("mask_counts"), sizes, strict=True)
            masks = decode_rle([{"size": list(size), "counts": counts} for counts, size in pairs])
        boxes = np.stack([np.asarray(column(name), np.float32) for name in BOX_COLUMNS], axis=1)
        level = np.asarray(column("level"), np.float64) if "level" in there else None
        level = None if level is None or np.isnan(level).any() else level  # a table of objects without levels
        return cls.from_columns(
            column("frame"), column("track_id"), boxes, column("score"), column("class_id"), masks, level
        )

    def to_pandas(self, *, with_masks: bool = False) -> pd.DataFrame:
        """The columns of `to_dict` as a data frame."""
        return _library("pandas").DataFrame(self.to_dict(with_masks=with_masks))

    def to_polars(self, *, with_masks: bool = False) -> pl.DataFrame:
        """The columns of `to_dict` as a data frame."""
        columns = {name: _strings(column) for name, column in self.to_dict(with_masks=with_masks).items()}
        table: pl.DataFrame = _library("polars").DataFrame(columns)
        return table

    def to_arrow(self, *, with_masks: bool = False) -> pa.Table:
        """The columns of `to_dict` as a table."""
        columns = {name: _strings(column) for name, column in self.to_dict(with_masks=with_masks).items()}
        return _library("pyarrow").table(columns)

    def to_supervision(self) -> Any:
        """As one `supervision.Detections`, `frame` and `level` in its `data`; mostly for one frame: `tracks.at(3)`.

        Raises:
            MissingExtraError: supervision is not installed.
        """
        data = {"frame": self.frame} | ({} if self.level is None else {"level": self.level})
        return _library("supervision", "supervision").Detections(
            xyxy=self.xyxy,
            mask=None if self.masks is None else self.masks.to_bool(),
            confidence=self.score,
            class_id=self.class_id,
            tracker_id=self.track_id,
            data=data,
        )

    @classmethod
    def from_pandas(cls, table: pd.DataFrame) -> Tracks:
        """Inverse of `to_pandas`."""
        return cls._from_table(table.columns, lambda name: np.asarray(table[name]))

    @classmethod
    def from_polars(cls, table: pl.DataFrame) -> Tracks:
        """Inverse of `to_polars`."""
        return cls._from_table(table.columns, lambda name: np.asarray(table[name].to_numpy()))

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Tracks:
        """Inverse of `to_arrow`."""
        return cls._from_table(table.column_names, lambda name: np.asarray(table[name].to_numpy()))


def _strings(column: NDArray[Any]) -> Any:
    """Text as a list: numpy's object arrays are not text to polars and Arrow."""
    return column.tolist() if column.dtype == np.object_ else column


def _library(name: str, extra: str = "tables") -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(name, extra) from error
