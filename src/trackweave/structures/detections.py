"""`Detections`: the detections of one frame, before and after tracking; conversion from and to other types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, MissingExtraError, SettingError, listed
from trackweave.masks.ops import rescale_masks
from trackweave.masks.packed import PackedMasks
from trackweave.settings import nearest
from trackweave.structures.columns import Columns

CLASS_NAME = "class_name"
"""Column of `Detections.data` in which supervision keeps the name of each class."""
GT_COLUMN = "gt_track_id"
"""Column of `Detections.data` that holds the true identity, −1 = none."""
MIN_IOU = 0.5
"""Overlap from which a detection shows an object, as in MOTChallenge's evaluation (arXiv 1603.00831, section 4)."""

ARRAY_COLUMNS = "(N, 5) x1 y1 x2 y2 score, or (N, 6) with the class at the end"
_DIMENSIONS = {"score": 1, "class_id": 1, "embedding": 2, "visibility": 1, "track_id": 1, "index": 1}
_OPTIONAL = ("masks", "embedding", "visibility", "track_id", "index")
_LARGEST_WHOLE = 2**53
_HTML_ROWS = 20
_CLASSES_IN_REPR = 8


def class_ids(classes: Sequence[int | str], names: Mapping[int, str] | None, source: str) -> NDArray[np.int64]:
    """Numbers of classes that are given by number or by name, whatever the case of its letters.

    Args:
        classes: at least one.
        names: of the classes that there are; None: they have none.
        source: what names them, for messages.

    Raises:
        SettingError: a class that is not there; the message has the nearest name.

    >>> class_ids(["Car", 0], {0: "person", 2: "car"}, "yolo.onnx").tolist()
    [2, 0]
    """
    known: dict[str, list[int]] = {}
    for number, name in (names or {}).items():
        known.setdefault(name.strip().casefold(), []).append(number)
    found: list[int] = []
    for wanted in classes:
        own = known.get(wanted.strip().casefold(), []) if isinstance(wanted, str) else [wanted]
        if not names and isinstance(wanted, str):
            raise SettingError(f"class {wanted!r}: {source} does not name its classes: give numbers")
        if not own or (names and not set(own) <= names.keys()):
            near = nearest(wanted.strip().casefold(), known) if isinstance(wanted, str) else None
            meant = f"; did you mean {names[known[near][0]]!r}?" if names and near is not None else ""
            some = [f"{number} {name}" for number, name in (names or {}).items()]
            raise SettingError(f"there is no class {wanted!r} in {source}{meant} (known: {listed(some)})")
        found += own
    return np.array(found, np.int64)


@dataclass(frozen=True, eq=False, repr=False)
class Detections(Columns):
    """N detections of one frame as columns of one length; indexing gives `Detections`.

    >>> Detections.of([[0, 0, 4, 8], [2, 0, 6, 8]], [0.9, 0.4], [0, 2])
    Detections(2: score 0.40-0.90, classes 0 2)

    Attributes:
        xyxy: `(N, 4)` float32, pixels of the frame, right and bottom exclusive.
        score: `(N,)` float32, the detector's confidence.
        class_id: `(N,)` int64; −1 = no class.
        masks: N masks of the frame, or None.
        embedding: `(N, E)` float32 appearance descriptors; a row of zeros = not described. None = none at all.
        visibility: `(N,)` float32, visible part of the object in [0, 1]. None = unknown.
        track_id: `(N,)` int64 identities, −1 = not tracked; None before tracking.
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

    # The methods below are written out, not inherited: a tracker makes and indexes such a record on every frame, and
    # the general ones of `Columns` cost it a tenth of its time.

    def __len__(self) -> int:
        return len(self.xyxy)

    def __post_init__(self) -> None:
        if self.xyxy.ndim != 2 or self.xyxy.shape[1] != 4:
            raise ValueError(f"boxes are (N, 4), not {self.xyxy.shape}")
        n, columns = len(self.xyxy), self.__dict__
        for name, dimensions in _DIMENSIONS.items():
            column = columns[name]
            if n and column is not None and column.ndim != dimensions:
                raise ValueError(f"{name} of {n} boxes has {dimensions} dimension(s), not the shape {column.shape}")
            if column is not None and len(column) != n:
                raise ValueError(f"{n} boxes, but {len(column)} of {name}")
        if self.masks is not None and len(self.masks) != n:
            raise ValueError(f"{n} boxes, but {len(self.masks)} of masks")
        for name, column in self.data.items():
            if len(column) != n:
                raise ValueError(f"{n} boxes, but {len(column)} of {name}")

    def _replaced(self, chosen: slice | NDArray[Any]) -> Self:
        """These rows of all columns, not checked again: rows of columns of one length are of one length."""
        selection = object.__new__(type(self))
        columns = {
            name: None if column is None else column[chosen] for name, column in self.__dict__.items() if name != "data"
        }
        columns["data"] = {name: column[chosen] for name, column in self.data.items()}
        selection.__dict__.update(columns)
        return selection

    def tracked(self, index: NDArray[np.int64], track_id: NDArray[np.int64], class_id: NDArray[np.int64]) -> Self:
        """The rows `index` `(M,)` with their tracks and the classes of those; not checked again either."""
        columns = self.__dict__.copy()
        if len(index) != len(self):
            columns["xyxy"], columns["score"] = self.xyxy.take(index, 0), self.score.take(index)
            for name in ("masks", "embedding", "visibility"):
                if columns[name] is not None:
                    columns[name] = columns[name][index]
            if self.data:
                columns["data"] = {name: column[index] for name, column in self.data.items()}
        columns["class_id"], columns["track_id"], columns["index"] = class_id, track_id, index
        tracked = object.__new__(type(self))
        tracked.__dict__.update(columns)
        return tracked

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
        data: Mapping[str, object] | None = None,
    ) -> Detections:
        """Casts each column; `score` defaults to 1, `class_id` to −1.

        Raises:
            InputError: a class that is not a whole number.

        >>> Detections.of([[0, 0, 4, 8]], [0.9]).class_id.tolist()
        [-1]
        """
        boxes = np.asarray(xyxy, np.float32)
        boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
        n = len(boxes)
        return cls(
            boxes,
            np.ones(n, np.float32) if score is None else np.asarray(score, np.float32),
            np.full(n, -1, np.int64) if class_id is None else whole_numbers(class_id, "class"),
            masks,
            None if embedding is None else np.asarray(embedding, np.float32),
            None if visibility is None else np.asarray(visibility, np.float32),
            data={name: np.asarray(column) for name, column in (data or {}).items()},
        )

    @classmethod
    def empty(cls) -> Detections:
        """No detection."""
        return cls.of(np.zeros((0, 4)))

    # --- other types -----------------------------------------------------------------------------------------------

    @classmethod
    def from_any(cls, detections: Any, *, with_masks: bool = True) -> Detections:
        """From whatever a detector gives.

        Args:
            detections: `Detections`; `supervision.Detections`; a result of Ultralytics; or rows of boxes as an array
                of any library, see `from_array`.
            with_masks: False leaves masks out, which take time to pack.

        Raises:
            InputError: none of these, or with columns that do not fit each other.
        """
        if isinstance(detections, Detections):
            return detections
        if hasattr(detections, "boxes") or (hasattr(detections, "xyxy") and hasattr(detections, "conf")):
            return cls.from_ultralytics(detections, with_masks=with_masks)
        if hasattr(detections, "xyxy") and hasattr(detections, "confidence"):
            return cls.from_supervision(detections, with_masks=with_masks)
        return cls.from_array(detections)

    @classmethod
    def from_array(cls, rows: Any) -> Detections:
        """From rows of boxes: `(N, 5)` x1, y1, x2, y2, score, or `(N, 6)` with the class at the end.

        Args:
            rows: of numpy, or whatever numpy can read: a list, a tensor of torch or JAX, an array of CuPy.

        Raises:
            InputError: of another shape, or not numbers.

        >>> Detections.from_array([[0, 0, 4, 8, 0.9, 2]])
        Detections(1: score 0.90, classes 2)
        """
        table = as_numpy(rows)
        if table.shape == (0,):  # an empty list
            return cls.empty()
        if table.ndim != 2 or table.shape[1] not in (5, 6):
            raise InputError(f"detections are {ARRAY_COLUMNS}, not of shape {table.shape}")
        if table.shape[1] == 5:
            return cls.of(table[:, :4], table[:, 4])
        return cls.of(table[:, :4], table[:, 4], table[:, 5])

    @classmethod
    def from_supervision(cls, detections: Any, *, with_masks: bool = True) -> Detections:
        """From a `supervision.Detections` (or anything with its attributes); its tracker ids are kept.

        Its `confidence` is `score` here, its `mask` `masks`, its `tracker_id` `track_id`.

        Raises:
            InputError: boxes that are not `(N, 4)`, or columns of different lengths.
        """
        masks = getattr(detections, "mask", None) if with_masks else None
        tracker_id = getattr(detections, "tracker_id", None)
        try:
            converted = cls.of(
                detections.xyxy,
                detections.confidence,
                detections.class_id,
                masks=None if masks is None else PackedMasks.from_bool(np.asarray(masks, np.bool_)),
                data=getattr(detections, "data", None),
            )
            return (
                converted if tracker_id is None else replace(converted, track_id=whole_numbers(tracker_id, "track id"))
            )
        except ValueError as error:
            raise InputError(f"these supervision detections cannot be used: {error}") from error

    @classmethod
    def from_ultralytics(cls, result: Any, *, with_masks: bool = True) -> Detections:
        """From a result of Ultralytics, its `boxes`, or anything with their attributes; ids of its tracker are kept.

        Masks are those of the frame: the border that the model added is cut off, and they are brought to its size.

        Raises:
            InputError: a result without boxes (of a classifier, or rotated ones), or one that does not fit together.
        """
        boxes = getattr(result, "boxes", result)
        if boxes is None:
            raise InputError("this result has no boxes: give that of a model that detects or segments")
        identities, masks = getattr(boxes, "id", None), getattr(result, "masks", None) if with_masks else None
        try:
            converted = cls.of(
                as_numpy(boxes.xyxy),
                as_numpy(boxes.conf),
                as_numpy(boxes.cls),
                masks=None
                if masks is None
                else _unletterboxed(as_numpy(masks.data), getattr(result, "orig_shape", None)),
            )
            if identities is None:
                return converted
            return replace(converted, track_id=whole_numbers(as_numpy(identities), "track id"))
        except (ValueError, AttributeError) as error:
            raise InputError(f"this Ultralytics result cannot be used: {error}") from error

    def to_supervision(self) -> Any:
        """As `supervision.Detections`; embedding, visibility and index go to its `data`.

        Raises:
            MissingExtraError: supervision is not installed.
        """
        try:
            from supervision import Detections as SupervisionDetections
        except ImportError as error:
            raise MissingExtraError("supervision", "supervision") from error
        further = {
            name: column for name in ("embedding", "visibility", "index") if (column := getattr(self, name)) is not None
        }
        return SupervisionDetections(
            xyxy=self.xyxy,
            mask=None if self.masks is None else self.masks.to_bool(),
            confidence=self.score,
            class_id=self.class_id,
            tracker_id=self.track_id,
            data={**self.data, **further},
        )

    def as_type_of(self, source: Any) -> Any:
        """What a tracker made of `source`, in the type that `source` has.

        Args:
            source: what `from_any` was given; `index` says which of its rows these are.

        Returns:
            - `supervision.Detections` with `tracker_id`; everything else of its rows as it was.
            - For rows of boxes the same rows with the track id as a further last column: `(M, 6)` or `(M, 7)`, an
              array of numpy, float64 where the rows were, else float32.
            - `Detections` for all others: a result of Ultralytics belongs to one run of its model and holds the frame,
              so that one with other rows and ids cannot be made without that library.

        Boxes and classes are those of `source`, unless the tracker's settings ask for smoothed boxes or for votes.

        Raises:
            ValueError: these detections were not tracked.
        """
        if self.index is None or self.track_id is None:
            raise ValueError("these detections were not tracked")
        if isinstance(source, Detections) or hasattr(source, "boxes") or hasattr(source, "conf"):
            return self
        if hasattr(source, "xyxy"):
            rows = source[self.index]
            rows.tracker_id = self.track_id
            if not np.array_equal(np.asarray(rows.xyxy, np.float32), self.xyxy):
                rows.xyxy = self.xyxy
            if rows.class_id is not None and not np.array_equal(rows.class_id, self.class_id):
                rows.class_id = self.class_id
                if CLASS_NAME in self.data:
                    rows.data[CLASS_NAME] = self.data[CLASS_NAME]
            return rows
        table = as_numpy(source)
        table = table.reshape(-1, 5) if table.shape == (0,) else table
        dtype = np.float64 if table.dtype == np.float64 else np.float32
        rows = np.column_stack([table[self.index], self.track_id]).astype(dtype)
        if not np.array_equal(rows[:, :4].astype(np.float32), self.xyxy, equal_nan=True):
            rows[:, :4] = self.xyxy
        if table.shape[1] == 6:
            rows[:, 5] = self.class_id
        return rows

    # --- printing --------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        if not len(self):
            return f"{type(self).__name__}(0)"
        low, high = f"{self.score.min():.2f}", f"{self.score.max():.2f}"
        parts = [f"score {low}" if low == high else f"score {low}-{high}"]
        classes = np.unique(self.class_id)
        if classes.tolist() != [-1]:
            more = " …" if len(classes) > _CLASSES_IN_REPR else ""
            parts.append("classes " + " ".join(map(str, classes[:_CLASSES_IN_REPR])) + more)
        parts += [name for name in _OPTIONAL if getattr(self, name) is not None and name != "index"]
        return f"{type(self).__name__}({len(self)}: {', '.join([*parts, *self.data])})"

    def _repr_html_(self) -> str:
        """A table for notebooks, of the first rows."""
        first = self[:_HTML_ROWS]
        columns = {"track_id": first.track_id, "class_id": first.class_id, "score": np.round(first.score, 3)}
        columns |= {name: np.round(first.xyxy[:, k], 1) for k, name in enumerate(("x1", "y1", "x2", "y2"))}
        columns |= {"visibility": None if first.visibility is None else np.round(first.visibility, 2)}
        columns = {name: column for name, column in columns.items() if column is not None}
        head = "".join(f"<th>{name}</th>" for name in columns)
        rows = zip(*(column.tolist() for column in columns.values() if column is not None), strict=True)
        body = "".join("<tr>" + "".join(f"<td>{value:g}</td>" for value in row) + "</tr>" for row in rows)
        return f"<p>{escape(repr(self))}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def as_numpy(values: Any) -> NDArray[Any]:
    """An array of any library as one of numpy, fetched from the device where it lies on one.

    Raises:
        InputError: numpy cannot read it as numbers.
    """
    if isinstance(values, np.ndarray):
        return values
    array = values
    try:
        for name in ("detach", "cpu"):  # a tensor of torch: not part of a graph, and in the processor's memory
            array = getattr(array, name)() if hasattr(array, name) else array
        if hasattr(array, "__cuda_array_interface__") and hasattr(array, "get"):  # CuPy
            array = array.get()
        table = np.asarray(array)
        if table.dtype.kind not in "fiub":
            raise TypeError("not numbers")
        return table
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"detections cannot be read from {type(values).__name__} ({error}): give Detections, "
            f"supervision.Detections, a result of Ultralytics, or an array {ARRAY_COLUMNS}"
        ) from None


def whole_numbers(values: Any, name: str) -> NDArray[np.int64]:
    """Numbers of detections as int64; floats are taken where they are whole.

    Raises:
        InputError: one that has a fraction, is not finite, or is too large to be exact.

    >>> whole_numbers(np.array([2.0, -1.0]), "class").tolist()
    [2, -1]
    """
    numbers = np.asarray(values)
    if numbers.dtype.kind == "f":
        rounded = np.round(numbers)
        wrong = np.flatnonzero(~(numbers == rounded) | ~(np.abs(numbers) <= _LARGEST_WHOLE))
        if len(wrong):
            raise InputError(f"detection {wrong[0]}: its {name} {numbers.flat[wrong[0]]:g} is not a whole number")
    return numbers.astype(np.int64)


def _unletterboxed(masks: NDArray[Any], size: tuple[int, int] | None) -> PackedMasks:
    """Masks `(N, h, w)` of a model's input as masks of the frame of `size` `(H, W)`.

    The model's input is the frame scaled by one factor and centred in a border.
    """
    if masks.ndim != 3:
        raise ValueError(f"masks are (N, H, W), not {masks.shape}")
    inside = masks > 0.5 if masks.dtype.kind == "f" else masks.astype(np.bool_)
    height, width = inside.shape[1:]
    if size is None or tuple(size) == (height, width):
        return PackedMasks.from_bool(inside)
    scale = min(height / size[0], width / size[1])
    top, bottom = _without_border(height, scale * size[0])
    left, right = _without_border(width, scale * size[1])
    packed = PackedMasks.from_bool(inside[:, top:bottom, left:right])
    return rescale_masks(packed, int(size[0]), int(size[1]), "nearest")


def _without_border(side: int, of_frame: float) -> tuple[int, int]:
    """First and last + 1 pixel of a side that shows the frame, rounded as Ultralytics rounds them."""
    border = (side - of_frame) / 2
    return round(border - 0.1), side - round(border + 0.1)
