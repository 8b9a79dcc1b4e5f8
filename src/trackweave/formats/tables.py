"""Boxes of a whole sequence as columns ordered by frame: detections, annotations, ground truth.

Every reader of a file of detections hands its rows to `build_table`, which checks them once for all formats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, argument, listed, shortened, shortened_line
from trackweave.formats.frame_ids import refuse_times
from trackweave.masks.codecs import decode_rle
from trackweave.masks.packed import PackedMasks
from trackweave.storage.files import check_regular, parse_json
from trackweave.structures.columns import Columns
from trackweave.structures.detections import Detections
from trackweave.structures.run_log import RunLog, RunWarning
from trackweave.structures.tracked_video import DEFAULT_CLASS

LARGEST_FRAME = 2**31
RELATIVE_SLACK = 0.05
"""Boxes in shares of the frame may reach so far out of it."""
UnlikelyKind = Literal["wrong", "outside", "possible"]
FEWEST_BOXES, ENOUGH_BOXES = 10, 50
ALMOST_ALL, MANY_BOXES, HALF, BOX_SLACK = 0.98, 0.05, 0.5, 0.02
"""Shares of the boxes, and of the frame; in 75 public files of detectors at most 23 % could be corners, none
lie outside, and where boxes reach beyond the frame, they do so on all sides."""
LARGEST_CLASS = 2**53
LARGEST_NUMBER = 1e30
"""Of the sides of a box and of scores; float32 holds sums of them."""

JsonObject = Mapping[str, Any]
"""An object of a JSON file, unchecked."""
EncodedMask = Mapping[str, Any]
"""A mask as COCO run lengths: `size` `(H, W)` and `counts`."""


class FrameTable(Columns):
    """Base of the tables: rows are ordered by frame; within a frame as in the file."""

    frame: NDArray[np.int64]

    @property
    def frames(self) -> NDArray[np.int64]:
        """`(F,)` int64, the frames that have a row, ascending."""
        return np.unique(self.frame)

    def rows(self, frame: int) -> slice:
        """Where a frame's rows lie."""
        start, stop = np.searchsorted(self.frame, (frame, frame + 1))
        return slice(int(start), int(stop))


@dataclass(frozen=True)
class FileReading:
    """How a file of detections was understood; the run says so.

    Attributes:
        format: `MOT text`, `CSV`, `COCO results`, …
        frames: which numbers or names are which frames, one line.
        pixels: the coordinate of the top left pixel.
        columns: names of the columns that were read, as the file has them; empty where it has no names.
    """

    format: str
    frames: str
    pixels: int = 0
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        columns = f"columns {listed(self.columns, 12)}; " if self.columns else ""
        return f"{self.format}: {columns}{self.frames}, pixels count from {self.pixels}"

    def to_json(self) -> dict[str, object]:
        """For summary and manifest."""
        return {"format": self.format, "frames": self.frames, "pixels": self.pixels, "columns": list(self.columns)}


@dataclass(frozen=True, eq=False)
class DetectionTable(FrameTable):
    """N detections of one sequence.

    Attributes:
        frame: `(N,)` int64, 0-based, ascending.
        xyxy: `(N, 4)` float32, pixels of the frame, right and bottom exclusive; may reach outside the frame.
        score: `(N,)` float32 as the file says, of any range.
        class_id: `(N,)` int64; −1 = no class.
        class_names: names by class id, or None.
        segmentation: N encoded masks, decoded when a frame is asked for; or None.
        length: frames of the sequence, or None when the file does not tell.
        source: what messages call the table.
        warnings: what was left out, one record per reason, and what is not sure.
        size: `(H, W)` of the frames, where the file says it.
        reading: how the file was understood; None for tables that come from no file.
    """

    SHARED: ClassVar[tuple[str, ...]] = ("class_names", "length", "source", "warnings", "size", "reading")

    frame: NDArray[np.int64]
    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    class_id: NDArray[np.int64]
    class_names: Mapping[int, str] | None = None
    segmentation: Sequence[EncodedMask] | None = None
    length: int | None = None
    source: str = "detections"
    warnings: tuple[RunWarning, ...] = ()
    size: tuple[int, int] | None = None
    reading: FileReading | None = None

    @property
    def frame_count(self) -> int:
        """Frames of the sequence: `length`, or up to the last frame with a detection."""
        if self.length is not None:
            return self.length
        return int(self.frame[-1]) + 1 if len(self.frame) else 0

    def at(self, frame: int) -> Detections:
        """The detections of one frame; none is normal.

        Raises:
            InputError: a mask of the frame cannot be decoded.
        """
        rows = self.rows(frame)
        masks = None
        if self.segmentation is not None and rows.stop > rows.start:
            masks = _decoded(self.segmentation[rows], f"{self.source}, frame {frame}")
        return Detections(self.xyxy[rows], self.score[rows], self.class_id[rows], masks)


@dataclass(frozen=True, eq=False)
class AnnotationTable(FrameTable):
    """N objects of one video with their identities, of ground truth or of results, as a file has them.

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
        segmentation: encoded mask of each row, None where it has none; None = the file has no masks.
        level: `(N,)` int64 level of granularity, or None where the file has none.
        frame_numbers: absolute index of each frame, where the file lists frames and says it; None: they count from 0.
        times: seconds of each frame, or None.
        rate: frames per second, or None.
        video: name of the video, or None.
    """

    SHARED: ClassVar[tuple[str, ...]] = (
        *("source", "origin", "class_names", "length", "size", "frame_names"),
        *("frame_numbers", "times", "rate", "video"),
    )

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
    segmentation: Sequence[EncodedMask | None] | None = None
    level: NDArray[np.int64] | None = None
    frame_numbers: Sequence[int] | None = None
    times: Sequence[float] | None = None
    rate: float | None = None
    video: str | None = None

    def masks(self, rows: slice) -> PackedMasks | None:
        """Masks of some rows of one frame, decoded now; None when the file has none, or the rows are empty.

        Raises:
            InputError: a row has no mask, or a damaged one.
        """
        if self.segmentation is None or rows.start == rows.stop:
            return None
        entries = self.segmentation[rows]
        where = f"{self.source}, frame {int(self.frame[rows.start])}"
        missing = [n for n, entry in enumerate(entries) if entry is None]
        if missing:
            raise InputError(f"{where}: object {int(self.track_id[rows][missing[0]])} has a box and no segmentation")
        return _decoded([entry for entry in entries if entry is not None], where)


NO_BOX = (math.nan,) * 4
"""Stands for a box that a file does not have; it is taken from the mask."""


class AnnotationRows:
    """Collects the objects of a file one by one, checks each, and makes an `AnnotationTable` of them.

    Args:
        source: what messages call the file.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.class_numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._numbered: set[int] = set()
        self._frame: list[int] = []
        self._track_id: list[int] = []
        self._box: list[tuple[float, ...]] = []
        self._score: list[float] = []
        self._class_id: list[int] = []
        self._mask: list[EncodedMask | None] = []
        self._level: list[int] = []

    def __len__(self) -> int:
        return len(self._frame)

    def add(
        self,
        frame: Any,
        track_id: Any,
        box: Sequence[Any] = NO_BOX,
        *,
        score: Any = 1.0,
        class_id: Any = -1,
        mask: EncodedMask | None = None,
        level: Any = None,
    ) -> None:
        """Adds an object of a frame.

        Raises:
            ValueError: a value that is none; says which.
        """
        number = whole_number(frame, "frame")
        if not 0 <= number < LARGEST_FRAME:
            raise ValueError(f"frame {number} is out of range")
        identity = whole_number(track_id, "track id")
        if identity < 0:
            raise ValueError(f"track id {identity} is below 0")
        sides: tuple[float, ...]
        if box is NO_BOX:
            if mask is None:
                raise ValueError("neither a box nor a mask")
            sides = NO_BOX
        else:
            sides = tuple(finite_number(side, "a side of the box") for side in box)
            if len(sides) != 4 or sides[2] < sides[0] or sides[3] < sides[1]:
                raise ValueError(f"a box {shortened(list(box), 60)} without extent")
        category = whole_number(class_id, "class")
        if abs(category) > LARGEST_CLASS:
            raise ValueError(f"class {category} is out of range")
        self._score.append(finite_number(score, "score"))
        self._level.append(-1 if level is None else whole_number(level, "level"))
        self._frame.append(number)
        self._track_id.append(identity)
        self._box.append(sides)
        self._class_id.append(category)
        self._mask.append(mask)

    def numbered_class(self, number: int, name: str = "") -> int:
        """Takes a class that the file gives a number, and its name if there is one; `class_7` is no name of 7.

        Raises:
            ValueError: it has another name already.
        """
        if number not in self._numbered:
            self._numbered.add(number)
            for called in [one for one, own in self.class_numbers.items() if own == number]:
                # A name without a number was given this one, before it was known that the file uses it.
                self.class_numbers[called] = free = self._free_number()
                self._class_id = [free if own == number else own for own in self._class_id]
        if add_class_name(self._names, number, name):
            self.class_numbers.setdefault(self._names[number], number)
        return number

    def _free_number(self) -> int:
        taken = {*self.class_numbers.values(), *self._numbered}
        return next(n for n in range(len(taken) + 1) if n not in taken)

    def class_number(self, name: str) -> int:
        """The number of a class that is known by its name: `class_7` is 7, `object` is none, others count from 0."""
        if name == DEFAULT_CLASS:
            return -1
        digits = name.removeprefix("class_")
        if digits != name and digits.isdecimal() and len(digits) < 10:
            return self.numbered_class(int(digits))
        if name not in self.class_numbers:
            self.class_numbers[name] = self._free_number()
        return self.class_numbers[name]

    @property
    def class_names(self) -> dict[int, str]:
        """The names of the classes by number."""
        return {number: name for name, number in self.class_numbers.items()} | self._names

    def table(self, positions: Mapping[int, int] | None = None, **shared: Any) -> AnnotationTable:
        """The table, ordered by frame.

        Args:
            positions: where each of the frames that were added lies among those of the video; None: there they are.
            shared: fields of `AnnotationTable` that belong to all rows.

        Raises:
            InputError: an identity is twice on a frame, or a frame has no position.
        """
        frame = np.array(self._frame, np.int64)
        if positions is not None:
            beyond = next((number for number in self._frame if number not in positions), None)
            if beyond is not None:
                raise InputError(f"{self.source}: frame {beyond} is none of the frames that it lists")
            frame = np.array([positions[number] for number in self._frame], np.int64)
        order = in_frame_order(frame)
        track_id, level = np.array(self._track_id, np.int64)[order], np.array(self._level, np.int64)[order]
        twice = repeated(frame[order], track_id)
        if twice is not None:
            name = int(frame[order][twice[0]])
            raise InputError(f"{self.source}: identity {track_id[twice[0]]} is twice on frame {name}")
        masks = [self._mask[n] for n in order.tolist()]
        n = len(frame)
        return AnnotationTable(
            source=self.source,
            frame=frame[order],
            track_id=track_id,
            xyxy=np.array(self._box, np.float64).reshape(-1, 4)[order],
            score=np.array(self._score, np.float64)[order],
            class_id=np.array(self._class_id, np.int64)[order],
            counts=np.ones(n, np.bool_),
            is_hard=np.zeros(n, np.bool_),
            segmentation=masks if any(mask is not None for mask in masks) else None,
            level=level if n and (level >= 0).all() else None,
            **({"class_names": self.class_names} | shared),
        )


@dataclass(frozen=True, eq=False)
class GroundTruth(FrameTable):
    """N true boxes in the project's own conventions, with how much of each is visible.

    Attributes:
        frame: `(N,)` int64, 0-based.
        track_id: `(N,)` int64; −1 = a region without identity (KITTI's DontCare).
        xyxy: `(N, 4)` float32, right and bottom exclusive, 0-based.
        counts: `(N,)` bool: the benchmark scores it (column 7 is not 0).
        class_id: `(N,)` int64; −1 = not said.
        visibility: `(N,)` float32 in [0, 1]; 1 where not said.
    """

    frame: NDArray[np.int64]
    track_id: NDArray[np.int64]
    xyxy: NDArray[np.float32]
    counts: NDArray[np.bool_]
    class_id: NDArray[np.int64]
    visibility: NDArray[np.float32]

    def at(self, frame: int) -> GroundTruth:
        """The boxes of one frame."""
        return self[self.rows(frame)]


def _decoded(entries: Sequence[EncodedMask], where: str) -> PackedMasks:
    try:
        return decode_rle(entries)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


@dataclass(frozen=True, eq=False)
class RawDetections:
    """What a reader took from its file, unchecked.

    Attributes:
        frame: `(N,)` float64, 0-based.
        xyxy: `(N, 4)` float64.
        score: `(N,)` float64.
        class_id: `(N,)` float64.
        segmentation: N encoded masks, or None.
        first_frame: what the file calls frame 0, for messages.
        locate: names a row in messages, such as `line 3`.
        advice: the end of messages about frames.
    """

    frame: NDArray[np.float64]
    xyxy: NDArray[np.float64]
    score: NDArray[np.float64]
    class_id: NDArray[np.float64]
    segmentation: Sequence[EncodedMask] | None = None
    first_frame: int = 0
    locate: Callable[[int], str] = "row {}".format
    advice: str = ""


def build_table(
    rows: RawDetections,
    source: str,
    log: RunLog,
    *,
    length: int | None = None,
    class_names: Mapping[int, str] | None = None,
) -> DetectionTable:
    """Checks rows and orders them by frame.

    Args:
        rows: what was read.
        source: the file, for messages.
        log: what the reader left out already, of this file alone; the rest is added.
        length: frames of the video; rows beyond are bad.
        class_names: names by class id, or None.

    Raises:
        InputError: a bad row, when bad items are errors.
    """
    if length is None:
        refuse_times(rows.frame + rows.first_frame, source)
    _refuse_relative(rows, source)
    kept = np.ones(len(rows.frame), np.bool_)
    for code, is_bad, message in _checks(rows, length):
        bad = np.flatnonzero(kept & is_bad)
        if len(bad):
            first = int(bad[0])
            text = f"{source}, {rows.locate(first)}: {message(first)}"
            log.skip(code, text, len(bad), stage="detections", harmless=code == "zero-size")
            kept[bad] = False
    bad, original = _duplicates(rows, kept)
    if len(bad):
        text = f"{source}, {rows.locate(int(bad[0]))}: the same as {rows.locate(original)}"
        log.skip("duplicate", text, len(bad), stage="detections", harmless=True)
        kept[bad] = False
    chosen = np.flatnonzero(kept)
    chosen = chosen[np.argsort(rows.frame[chosen], kind="stable")]
    return DetectionTable(
        rows.frame[chosen].astype(np.int64),
        rows.xyxy[chosen].astype(np.float32),
        rows.score[chosen].astype(np.float32),
        rows.class_id[chosen].astype(np.int64),
        class_names,
        None if rows.segmentation is None else [rows.segmentation[n] for n in chosen.tolist()],
        length,
        source,
        _omissions(source, log),
    )


def _refuse_relative(rows: RawDetections, source: str) -> None:
    """Refuses boxes in shares of the frame: all between 0 and 1, with fractions.

    Raises:
        InputError: they are.
    """
    boxes = rows.xyxy[np.isfinite(rows.xyxy).all(1)]
    for origin in (0, 1):  # the pixels of MOT text count from 1
        shares = boxes + origin
        if (
            len(shares)
            and shares.min() >= -RELATIVE_SLACK
            and shares.max() <= 1 + RELATIVE_SLACK
            and (shares % 1 != 0).any()
        ):
            text = "all boxes lie between 0 and 1, as shares of the frame: multiply them by its width and height"
            raise InputError(f"{source}: {text}")


def unlikely_boxes(xyxy: NDArray[np.floating[Any]], size: tuple[int, int] | None) -> tuple[str, UnlikelyKind] | None:
    """Why boxes that can be read one by one are likely something else as a whole; None where nothing is odd.

    Args:
        xyxy: `(N, 4)` of all frames; fewer than `FEWEST_BOXES` tell nothing.
        size: `(H, W)` of the frames, None where it is not known.

    Returns:
        One line, and whether the boxes are `wrong`, those that lie `outside` of the frames are lost, or it is
        `possible` that they mean something else.
    """
    boxes = xyxy.astype(np.float64)
    if len(boxes) < FEWEST_BOXES:
        return None
    extent = boxes[:, 2:] - boxes[:, :2]
    are_corners = float((extent > boxes[:, :2]).all(1).mean()) >= ALMOST_ALL
    if size is None:
        text = (
            "each is wider than its distance from the left, and higher than that from the top: corners x1, y1, x2, y2?"
        )
        return (text, "possible") if are_corners and len(np.unique(boxes[:, :2], axis=0)) >= FEWEST_BOXES else None
    frame = np.array(size[::-1], np.float64)
    named = f"{size[1]}×{size[0]}"

    def fits(corner: NDArray[np.float64], end: NDArray[np.float64], frame: NDArray[np.float64] = frame) -> bool:
        return bool(((corner >= -BOX_SLACK * frame) & (end <= (1 + BOX_SLACK) * frame)).all(1).mean() >= ALMOST_ALL)

    reaching = (boxes[:, 2:] > (1 + BOX_SLACK) * frame).any(1)
    if reaching.mean() < MANY_BOXES:
        reach = boxes[:, 2:].max(0) / frame
        if len(boxes) >= ENOUGH_BOXES and (reach < HALF).all() and len(np.unique(boxes, axis=0)) >= ENOUGH_BOXES:
            text = f"all lie in the upper left {reach[0]:.0%} × {reach[1]:.0%} of the {named} frames".replace("%", " %")
            return f"{text}: detected on smaller pictures?", "possible"
        return None
    beyond = f"{int(reaching.sum())} of {len(boxes)} boxes reach beyond the {named} frames"
    if are_corners and fits(boxes[:, :2], extent):
        text = f"{beyond} as x, y, width and height, but fit into the {named} frames as corners x1, y1, x2, y2"
        return f"{text}: write widths and heights, or a CSV with the header frame,x1,y1,x2,y2,score", "wrong"
    if fits(boxes[:, :2], boxes[:, 2:], frame[::-1]) and size[0] != size[1]:
        turned = f"and all fit into {size[0]}×{size[1]}"
        return f"{beyond}, {turned}: detected without the rotation that the video or the images ask for?", "wrong"
    if (outside := (boxes[:, :2] >= frame).any(1)).mean() >= MANY_BOXES:
        far = f"they reach to x {boxes[:, 2].max():.0f}, y {boxes[:, 3].max():.0f}"
        text = f"{int(outside.sum())} of {len(boxes)} boxes lie outside the {named} frames, {far}"
        return f"{text}: detected on larger pictures?", "outside"
    if fits(boxes[:, :2] - extent / 2, boxes[:, :2] + extent / 2):
        return f"{beyond}; as centres and sizes none does: are they that?", "possible"
    return None


def _omissions(source: str, log: RunLog) -> tuple[RunWarning, ...]:
    """One warning per reason, with how many rows it took; the log of a file has one for the first row of each."""
    return tuple(
        RunWarning(
            "detections",
            None,
            "detections-skipped",
            f"{source}: {count} detection{'s'[: count > 1]} left out, "
            f"first at {first.message.removeprefix(f'{source}, ')}",
            {"reason": first.code, "count": count},
        )
        for first in log.warnings
        for count in [log.skipped[first.code]]
    )


def left_out(source: object, count: int, video: str) -> RunWarning:
    """The warning for detections of other videos than the one that is read."""
    name = shortened_line(video, 40)
    message = f"{source}: {count} detection{'s'[: count > 1]} of other videos than {name} left out"
    return RunWarning("detections", None, "other-videos", message)


Check = tuple[str, NDArray[np.bool_], Callable[[int], str]]


def _checks(rows: RawDetections, length: int | None) -> list[Check]:
    """Reason, `(N,)` bool of the rows it applies to, and its message for a row; the first that applies counts."""
    frame, box, score, class_id = rows.frame, rows.xyxy, rows.score, rows.class_id
    finite = np.isfinite(frame) & np.isfinite(box).all(1) & np.isfinite(score) & np.isfinite(class_id)
    with np.errstate(invalid="ignore", over="ignore"):  # rows that are not finite are gone before these count
        extent = box[:, 2:] - box[:, :2]
        finite &= np.isfinite(box.astype(np.float32)).all(1) & np.isfinite(score.astype(np.float32))
        broken_frame, broken_class = frame % 1 != 0, (class_id % 1 != 0) | (np.abs(class_id) > LARGEST_CLASS)

    def named(n: int) -> str:
        return f"{frame[n] + rows.first_frame:.15g}"

    def size(n: int) -> str:
        return f"{extent[n, 0]:g} × {extent[n, 1]:g} pixels"

    last = LARGEST_FRAME if length is None else length
    end = "too large: is it a time?" if length is None else f"beyond the {length} frames of the video{rows.advice}"
    base = "" if rows.first_frame == 0 else f" ({argument('frame_base', 0)}: from 0)"
    return [
        ("not-finite", ~finite, lambda n: "a value is not finite"),
        ("frame", broken_frame, lambda n: f"frame {named(n)} is not a whole number: is it a time?"),
        ("frame", frame < 0, lambda n: f"frame {named(n)}: frames count from {rows.first_frame}{base}"),
        ("frame-beyond", frame >= last, lambda n: f"frame {named(n)} is {end}"),
        ("inverted", (extent < 0).any(1), lambda n: f"a box of {size(n)}"),
        ("zero-size", (extent == 0).any(1), lambda n: f"a box of {size(n)}"),
        ("class", broken_class, lambda n: f"class {class_id[n]:g} is not a whole number in range"),
    ]


def _duplicates(rows: RawDetections, kept: NDArray[np.bool_]) -> tuple[NDArray[np.intp], int]:
    """Rows that repeat an earlier kept one in every column, ascending; and the row that the first of them repeats."""
    chosen = np.flatnonzero(kept)
    columns = np.column_stack([rows.frame, rows.class_id, rows.score, rows.xyxy])[chosen]
    order = np.lexsort(columns.T)  # stable: equal rows stay in the order of the file
    same = np.all(columns[order[1:]] == columns[order[:-1]], axis=1)
    duplicates = np.sort(chosen[order[1:][same]])
    if not len(duplicates):
        return duplicates, -1
    alike = np.all(columns == columns[np.searchsorted(chosen, duplicates[0])], axis=1)
    return duplicates, int(chosen[np.flatnonzero(alike)[0]])


def add_class_name(names: dict[int, str], number: int, name: str) -> bool:
    """Notes what a class is called; `class_7` and what is below 0 have no name. Was there one to note?

    Raises:
        ValueError: the class has another name already, not only in the case of its letters.

    >>> names: dict[int, str] = {}
    >>> add_class_name(names, 2, " Car"), add_class_name(names, 2, "car"), add_class_name(names, 3, "class_3"), names
    (True, True, False, {2: 'Car'})
    """
    name = name.strip()
    if number < 0 or name in ("", f"class_{number}"):
        return False
    known = names.setdefault(number, name)
    if known.casefold() != name.casefold():
        raise ValueError(f"class {number} is called {shortened_line(known, 40)} and {shortened_line(name, 40)}")
    return True


def category_names(entries: Iterable[JsonObject]) -> dict[int, str]:
    """Names by number of COCO's list of categories.

    Raises:
        KeyError, TypeError, ValueError: an entry without id or name, or an id with two names.
    """
    names: dict[int, str] = {}
    for entry in entries:
        number, name = whole_number(entry["id"], "a category's id"), str(entry["name"])
        if names.setdefault(number, name) != name:
            both = f"{shortened_line(names[number], 40)} and {shortened_line(name, 40)}"
            raise ValueError(f"category {number} is called {both}")
    return names


def in_frame_order(frame: NDArray[np.int64]) -> NDArray[np.intp]:
    """The order that sorts rows by frame and otherwise leaves them as they are."""
    return np.argsort(frame, kind="stable")


def repeated(frame: NDArray[np.int64], track_id: NDArray[np.int64]) -> tuple[int, int] | None:
    """Positions of the first two rows that show one identity on one frame, or None; −1 is no identity.

    >>> repeated(np.array([0, 1, 1, 1]), np.array([5, 5, -1, 5]))
    (1, 3)
    """
    named = np.flatnonzero(track_id >= 0)
    order = named[np.lexsort((track_id[named], frame[named]))]
    again = np.flatnonzero((frame[order[1:]] == frame[order[:-1]]) & (track_id[order[1:]] == track_id[order[:-1]]))
    return (int(order[again[0]]), int(order[again[0] + 1])) if len(again) else None


def read_text(path: Path) -> str:
    """A file's text without byte order mark.

    Raises:
        InputError: it is no regular file, cannot be read, or is not UTF-8.
    """
    check_regular(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: also a NUL character in the name
        reason = getattr(error, "strerror", None) or shortened_line(str(error))
        raise InputError(f"{path}: cannot be read as text: {reason}") from error


def read_start(path: Path) -> bytes:
    """The first bytes of a file, by which its format is recognised.

    Raises:
        InputError: it is no regular file, or cannot be read.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def whole_number(value: object, name: str) -> int:
    """A whole number that int64 holds, from JSON or text.

    Raises:
        ValueError: it is none; the message has the name.

    >>> whole_number(3.0, "id"), whole_number("7", "id")
    (3, 7)
    """
    is_digits = isinstance(value, str) and value.strip().lstrip("+-").isdecimal()
    try:
        number: float = int(value) if is_digits or isinstance(value, int) else float(value)  # type: ignore[arg-type,call-overload]
        whole = int(number)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} {shortened(value, 40)} is not a number") from None
    if whole != number or not -(2**63) <= whole < 2**63:
        raise ValueError(f"{name} {shortened(value, 40)} is not a whole number in range")
    return whole


def finite_number(value: object, name: str) -> float:
    """A finite number from JSON or text; of a box or a score, so that float32 holds it and sums of it.

    Raises:
        ValueError: it is none; the message has the name.
    """
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} {shortened(value, 40)} is not a number") from None
    if not abs(number) <= LARGEST_NUMBER:
        raise ValueError(f"{name} {number:g} is out of range" if math.isfinite(number) else f"{name} is not finite")
    return number


def read_json(path: Path) -> Any:
    """A file's JSON, whatever it holds; numbers that are not finite, or beyond float64 and int64, are NaN.

    Raises:
        InputError: it cannot be read, or is not JSON.
    """
    try:
        return parse_json(read_text(path), finite=False)
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from error
