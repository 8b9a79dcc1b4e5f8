"""How a run differs from the truth, or from another run: switches, misses, false tracks, each with where it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackweave.boxes import box_iou, scale_boxes
from trackweave.errors import InputError
from trackweave.evaluation.discovery import GroundTruthSet, find_ground_truth
from trackweave.ids import FrameIndex
from trackweave.reports.run_tracks import Description, RunTracks, ShownTracks
from trackweave.storage.run import FrameList
from trackweave.structures.tracks import Tracks
from trackweave.view.opened_run import OpenedRun, ViewedTracks

LEAST_IOU = 0.5
TRUTH = "truth"
MOST_DIFFERENCES = 5000
_ORDER = {"switch": 0, "miss": 1, "false": 2}


@dataclass(frozen=True)
class TrackDifference:
    """One difference.

    Attributes:
        kind: an object that another track follows from here on; one that no track follows; a track that follows none.
        first, last: positions, both included.
        tracks: ids of the run; of a switch the one before and the one from here on.
        other: id of the object in what the run is compared with; 0 = none.
    """

    kind: Literal["switch", "miss", "false"]
    first: int
    last: int
    tracks: tuple[int, ...]
    other: int

    def to_json(self) -> dict[str, Any]:
        """As the page gets it."""
        return {
            "kind": self.kind, "first": self.first, "last": self.last, "tracks": list(self.tracks), "other": self.other,
        }  # fmt: skip


def find_differences(run: RunTracks, other: RunTracks) -> list[TrackDifference]:
    """What is different: switches in the order of time, then misses and false tracks, the longest first.

    On each frame that both have, boxes are matched by an IoU of 0.5 or more, as CLEAR-MOT does: first those that were
    matched last time, then for the largest sum. A run of several levels is compared in its coarsest, unless the other
    one has levels, too.

    >>> from trackweave.reports.run_tracks import numbered_frames
    >>> def tracks(ids):
    ...     boxes = Tracks.from_columns(range(len(ids)), ids, [[0, 0, 9, 9]] * len(ids))
    ...     return RunTracks(Description("run"), numbered_frames(len(ids), (9, 9), None), boxes, boxes.track_id)
    >>> [(one.kind, one.first, one.tracks) for one in find_differences(tracks([4, 4, 5, 5]), tracks([1, 1, 1, 1]))]
    [('switch', 2, (4, 5))]
    """
    common = np.intersect1d(run.indices, other.indices)
    found: list[TrackDifference] = []
    for level in _levels(run.shown, other.shown):
        of_other = level if _has_levels(other.shown) else None
        own = _rows(run.shown, level, run.indices, common)
        found += _TrackComparison(own, _rows(other.shown, of_other, run.indices, common)).compare()
    return sorted(found, key=_place)


def _place(one: TrackDifference) -> tuple[int, int]:
    return _ORDER[one.kind], one.first if one.kind == "switch" else one.first - one.last


def _has_levels(shown: ShownTracks) -> bool:
    return len(shown.table) > 0 and int(shown.table.level.max()) >= 0


def _levels(run: ShownTracks, other: ShownTracks) -> list[int | None]:
    levels = np.unique(run.table.level).tolist()
    return levels if _has_levels(run) and _has_levels(other) else levels[:1] if _has_levels(run) else [None]


def _rows(
    shown: ShownTracks, level: int | None, indices: NDArray[np.int64], common: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Tracks]:
    """Positions among the frames `indices`, and observations, of a level (None = all) on common frames."""
    is_wanted = np.isin(shown.tracks.frame, common)
    if level is not None and shown.tracks.level is not None:
        is_wanted &= shown.tracks.level == level
    rows = np.flatnonzero(is_wanted)
    return np.searchsorted(indices, shown.tracks.frame[rows]), shown.tracks[rows]


class _TrackComparison:
    """Goes through the frames that either has."""

    def __init__(self, run: tuple[NDArray[np.int64], Tracks], other: tuple[NDArray[np.int64], Tracks]) -> None:
        self._run, self._other = run, other
        self._last: dict[int, int] = {}
        self._open: dict[tuple[Literal["miss", "false"], int], TrackDifference] = {}
        self.found: list[TrackDifference] = []

    def compare(self) -> list[TrackDifference]:
        """All differences, in no order."""
        for position in np.union1d(self._run[0], self._other[0]).tolist():
            (ids, boxes), (objects, object_boxes) = (_at(each, position) for each in (self._run, self._other))
            pairs = self._match(position, ids, objects, box_iou(object_boxes, boxes))
            matched = set(pairs.values())
            for one in objects:
                if one not in pairs:
                    self._extend("miss", one, position)
            for track in ids:
                if track not in matched:
                    self._extend("false", track, position)
        return [*self.found, *self._open.values()]

    def _match(self, position: int, ids: list[int], objects: list[int], iou: NDArray[np.float64]) -> Mapping[int, int]:
        """Track of each object that has one."""
        kept = np.where(iou >= LEAST_IOU, iou, 0)
        for row, one in enumerate(objects):
            before = self._last.get(one)
            if before in ids and kept[row, ids.index(before)] > 0:
                kept[row, ids.index(before)] += len(objects) + 1  # outweighs whatever the others could gain
        rows, columns = linear_sum_assignment(-kept)
        pairs = {objects[r]: ids[c] for r, c in zip(rows.tolist(), columns.tolist(), strict=True) if kept[r, c] > 0}
        for one, track in pairs.items():
            before = self._last.get(one, track)
            if before != track:
                self.found.append(TrackDifference("switch", position, position, (before, track), one))
            self._last[one] = track
        return pairs

    def _extend(self, kind: Literal["miss", "false"], number: int, position: int) -> None:
        """A stretch goes on, or begins."""
        key = (kind, number)
        stretch = self._open.get(key)
        if stretch is not None and stretch.last != position - 1:
            self.found.append(stretch)
            stretch = None
        tracks, other = ((), number) if kind == "miss" else ((number,), 0)
        first = position if stretch is None else stretch.first
        self._open[key] = TrackDifference(kind, first, position, tracks, other)


def _at(rows: tuple[NDArray[np.int64], Tracks], position: int) -> tuple[list[int], NDArray[np.float32]]:
    start, stop = np.searchsorted(rows[0], [position, position + 1])
    return rows[1].track_id[start:stop].tolist(), rows[1].xyxy[start:stop]


def read_truth(path: str | Path, run: RunTracks) -> Tracks:
    """The boxes of a ground truth that count, on the frames of a run and in its pixels.

    Args:
        path: whatever `evaluate` takes as `--gt`; of several sequences the one that is called as the run or its input.
        run: whose frames they are.

    Raises:
        InputError: no ground truth, or several sequences and none of that name.
    """
    source = _sequence(find_ground_truth(path), run)()
    try:
        parts = []
        for index in run.indices[run.indices < source.last].tolist():
            here = source.at(index, with_masks=False)
            counts = here.counts & (here.track_id >= 0)
            boxes = here.xyxy[counts] - source.origin
            if source.size is not None and source.size != run.size:
                boxes = scale_boxes(boxes, run.size[1] / source.size[1], run.size[0] / source.size[0])
            ids = here.track_id[counts]
            parts.append(Tracks.from_columns(np.full(len(ids), index), ids, boxes, None, here.class_id[counts]))
        return Tracks.concat(parts)
    finally:
        source.close()


def _sequence(truth: GroundTruthSet, run: RunTracks) -> Any:
    names = list(truth.sequences)
    own = {run.about.name, run.about.input or "", Path(run.about.input or "").stem}
    found = names if len(names) == 1 else [name for name in names if name in own]
    if not found:
        listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise InputError(f"{truth.path}: has no sequence {run.about.name}, but {listed}: name one of them")
    return truth.sequences[found[0]]


def open_truth(path: str | Path, run: OpenedRun) -> ViewedTracks:
    """A ground truth on the frames of a run, to be seen beside it.

    Raises:
        InputError: as `read_truth`.
    """
    tracks = read_truth(path, run)
    indices = [FrameIndex(index) for index in run.indices.tolist()]
    listed = FrameList(indices, [str(index) for index in indices], None, run.size)
    about = Description(TRUTH, "boxes", run.rate, input=Path(path).name)
    return ViewedTracks(about, listed, tracks, np.full(len(tracks), -1), run.pictures)
