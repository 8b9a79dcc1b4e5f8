"""`Prompt`: what a person, or another program, marks an object with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import PromptError
from trackweave.masks.packed import PackedMasks


def frame_of_text(text: str) -> int | str:
    """The frame that a text means: an index, or a name. Digits behind a zero are a name: 00005 may be the second frame.

    >>> frame_of_text("12"), frame_of_text("0"), frame_of_text("00012"), frame_of_text("00012.jpg")
    (12, 0, '00012', '00012.jpg')
    """
    is_index = text.isdecimal() and text.isascii() and (text == "0" or not text.startswith("0"))
    return int(text) if is_index else text


@dataclass(frozen=True, eq=False)
class Prompt:
    """One object, marked on one frame: by points, a box, or both; or by a mask; or by polygons.

    >>> prompt = Prompt(0, points=[(320, 200)])
    >>> prompt.points, prompt.labels, prompt.box
    (((320.0, 200.0),), (1,), None)

    Attributes:
        frame: absolute index from 0, or the frame's name.
        track_id: of the object, from 1; the same id on several frames is one object. None = the next free one.
        points: x, y in frame pixels.
        labels: of each point 1 inside the object, or 0 outside; left out, all are inside.
        box: x1, y1, x2, y2 in frame pixels, right and bottom exclusive.
        mask: `(H, W)` bool, one packed mask, or COCO run-length code `{"size": [H, W], "counts": …}`.
        polygons: outlines `[x, y, x, y, …]` in frame pixels, all of one object.
        class_id: number of the object's class, from 0; None = none, or as the name says.
        class_name: what the class is called; None = it has no name, or is that of another prompt with the number.

    Raises:
        PromptError: nothing marks the object, or more than one kind does, or a value is wrong.
    """

    frame: int | str
    track_id: int | None = None
    points: Sequence[tuple[float, float]] = ()
    labels: Sequence[int] = ()
    box: Sequence[float] | None = None
    mask: PackedMasks | NDArray[np.bool_] | Mapping[str, Any] | None = None
    polygons: Sequence[Sequence[float]] = ()
    class_id: int | None = None
    class_name: str | None = None

    def __post_init__(self) -> None:
        where = f"prompt on frame {self.frame}"
        if isinstance(self.frame, bool) or (isinstance(self.frame, int) and self.frame < 0):
            raise PromptError(f"{where}: frames count from 0")
        if self.track_id is not None and self.track_id < 1:
            raise PromptError(f"{where}: ids are 1 or more, not {self.track_id}")
        if self.class_name is not None:
            object.__setattr__(self, "class_name", self.class_name.strip())
        if (self.class_id is not None and self.class_id < 0) or (self.class_name is not None and not self.class_name):
            raise PromptError(f"{where}: a class is a number from 0, a name, or both")
        points = tuple((float(x), float(y)) for x, y in self.points)
        labels = tuple(int(label) for label in self.labels) if len(self.labels) else (1,) * len(points)
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "polygons", tuple(tuple(map(float, polygon)) for polygon in self.polygons))
        if len(labels) != len(points) or not set(labels) <= {0, 1}:
            raise PromptError(f"{where}: each point has a label, 1 inside the object or 0 outside")
        if self.box is not None:
            object.__setattr__(self, "box", tuple(float(side) for side in self.box))
        numbers = [value for point in points for value in point] + list(self.box or ())
        if not np.isfinite(numbers).all() or (self.box is not None and len(self.box) != 4):
            raise PromptError(f"{where}: a point is two finite numbers, and a box four")
        kinds = (bool(points) or self.box is not None) + (self.mask is not None) + bool(len(self.polygons))
        if kinds != 1:
            raise PromptError(f"{where}: give points or a box, or a mask, or polygons, and one of these")

    @property
    def kind(self) -> Literal["mask", "box", "point"]:
        """`point`, `box` or `mask`; points in a box are `point`."""
        return "point" if self.points else "mask" if self.box is None else "box"
