"""`RunTracks`: tracks on their frames as pages show them: every track in numbers, and what is doubtful."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.corrections.doubt import Links
from trackweave.errors import ArtifactError
from trackweave.formats.readers import read_tracks
from trackweave.ids import FrameIndex
from trackweave.pipelines.run import Run
from trackweave.reports.doubt import Doubts, find_doubts
from trackweave.reports.track_table import TrackIndex, track_table
from trackweave.storage.corrected_masks import read_corrected
from trackweave.storage.run import FrameList
from trackweave.structures.run_summary import BoxSummary, SwitchRecord
from trackweave.structures.tracks import Tracks
from trackweave.visualization.annotators import Colour, css, run_colours, track_colour

Json = dict[str, Any]
MOST_FRAMES = 10_000_000
"""Frames of a run that does not list them: one damaged number is no reason to hold 2³¹."""
MOST_WARNINGS = 50


class ShownTracks:
    """Tracks that are shown, with what is computed of them once.

    Args:
        tracks: N observations.
        items: `(N,)` what acts of a person call each on its frame; −1 = it cannot be pointed at.
        indices: absolute index of each position.
        links: those into each observation, where they were looked at.
    """

    def __init__(
        self, tracks: Tracks, items: NDArray[np.int64], indices: NDArray[np.int64], links: Links | None = None
    ) -> None:
        self.tracks, self.items, self.links = tracks, items, links
        self.positions = np.searchsorted(indices, tracks.frame)
        self.doubts: Doubts | None = None

    @cached_property
    def table(self) -> TrackIndex:
        """The tracks in numbers."""
        return track_table(self.tracks, self.positions)

    def rows(self, level: int, track_id: int) -> NDArray[np.int64]:
        """The rows of a track's observations, in the order of time."""
        table = self.table
        at = np.flatnonzero((table.track_id == track_id) & (table.level == level))
        return table.order[table.rows[at[0]] : table.rows[at[0] + 1]] if len(at) else table.order[:0]


@dataclass(frozen=True)
class Description:
    """What a page says about tracks as a whole.

    Attributes:
        name: of the run.
        kind: `boxes` or `masks`.
        rate: frames per second, or None.
        levels: of granularity.
        cuts: absolute indices of frames that begin a shot.
        switches: suspected ones, as in `BoxSummary`.
        parents: of identities of which others are part; 0 = none.
        colours: of tracks.
        input: name of what was tracked, or None.
        warnings: one line each.
        class_names: names of the classes by number.
    """

    name: str
    kind: str = "boxes"
    rate: float | None = None
    levels: Sequence[int] = ()
    cuts: Sequence[int] = ()
    switches: Sequence[SwitchRecord] = ()
    parents: Mapping[int, int] = field(default_factory=dict)
    colours: Callable[[int], Colour] = track_colour
    input: str | None = None
    warnings: Sequence[str] = ()
    class_names: Mapping[int, str] = field(default_factory=dict)


class RunTracks:
    """Tracks on their frames.

    Args:
        about: what is said about them.
        listed: the frames.
        tracks: N observations, all of them on those frames.
        items: `(N,)` what acts of a person call each on its frame; −1 = it cannot be pointed at.
    """

    def __init__(self, about: Description, listed: FrameList, tracks: Tracks, items: NDArray[np.int64]) -> None:
        self.about = about
        self.indices = np.asarray(listed.indices, np.int64)
        self.size = listed.size
        self.rate = about.rate or listed.rate
        self.shown = ShownTracks(tracks, items, self.indices)

    def __len__(self) -> int:
        """Frames."""
        return len(self.indices)

    def show(self, tracks: Tracks, items: NDArray[np.int64], links: Links | None = None) -> None:
        """Shows other tracks of the same frames from now on; arguments as of `ShownTracks`."""
        self.shown = ShownTracks(tracks, items, self.indices, links)

    def position_of(self, frame: int) -> int:
        """The position of a frame, or of the one before it."""
        return max(int(np.searchsorted(self.indices, frame, side="right")) - 1, 0)

    @cached_property
    def cuts(self) -> NDArray[np.int64]:
        """Positions that begin a new shot."""
        cuts = np.asarray(self.about.cuts, np.int64)
        return np.searchsorted(self.indices, cuts[np.isin(cuts, self.indices)])

    def doubts(self, shown: ShownTracks) -> Doubts:
        """What is doubtful, by track and by frame."""
        if shown.doubts is None:
            shown.doubts = find_doubts(
                shown.tracks,
                shown.table,
                self.indices,
                self.cuts,
                self.about.switches,
                size=self.size,
                rate=self.rate,
                begins_anywhere=self.about.kind == "masks",  # an object of a mask run begins where it was prompted
                links=shown.links,
            )
        return shown.doubts

    def info(self) -> Json:
        """What a page needs to begin: everything but frames, objects and tracks."""
        height, width = self.size
        steps = np.flatnonzero(np.diff(self.indices) != 1) + 1
        return {
            "name": self.about.name,
            "kind": self.about.kind,
            "levels": [int(level) for level in self.about.levels],
            "width": width,
            "height": height,
            "frames": len(self),
            "indices": [[int(self.indices[k]), int(k)] for k in (0, *steps)] if len(self) else [],
            "rate": self.rate,
            "cuts": self.cuts.tolist(),
            "input": self.about.input,
            "tracks": len(self.shown.table),
            "observations": len(self.shown.tracks),
            "warnings": list(self.about.warnings)[:MOST_WARNINGS],
            "classes": {str(number): name for number, name in sorted(self.about.class_names.items())},
        }

    def tracks_json(self) -> Json:
        """All tracks as columns, and the doubt of every frame."""
        shown = self.shown
        table, doubts = shown.table, self.doubts(shown)
        parents = self.about.parents
        return {
            "id": table.track_id.tolist(),
            "level": table.level.tolist(),
            "class": table.class_id.tolist(),
            "first": table.first.tolist(),
            "last": table.last.tolist(),
            "count": table.count.tolist(),
            "score": np.round(table.score, 3).tolist(),
            "parent": [parents.get(track_id, 0) for track_id in table.track_id.tolist()],
            "colour": [css(self.about.colours(track_id)) for track_id in table.track_id.tolist()],
            "doubt": np.round(doubts.track, 3).tolist(),
            "reasons": doubts.reasons,
            "starts": table.starts.tolist(),
            "spans": table.spans.reshape(-1).tolist(),
            "frameDoubt": np.round(doubts.frame, 2).tolist(),
            "switches": doubts.switches,
        }


def describe_run(run: Run) -> Description:
    """What a page says about a run."""
    summary = run.summary
    tree = None
    if run.paths.identity.is_file() and run.kind == "masks":
        corrected = read_corrected(run.paths, unfinished=True)  # a prompt on its way changes no parent
        tree = run.tree() if corrected is None else corrected.record.tree
    return Description(
        name=run.root.resolve().name,
        kind=run.kind,
        rate=summary.input.frame_rate,
        levels=[int(level) for level in run.levels],
        cuts=summary.input.cuts or (),
        switches=summary.suspected_switches if isinstance(summary, BoxSummary) else (),
        parents={} if tree is None else dict(zip(tree.identity.tolist(), tree.parents.tolist(), strict=True)),
        colours=track_colour if tree is None else run_colours(run.paths),
        input=Path(summary.input.path).name if summary.input.path else None,
        warnings=[warning.message for warning in run.warnings],
        class_names=run.class_names,
    )


def read_observations(run: Run) -> tuple[Tracks, NDArray[np.int64]]:
    """All observations without their masks, and what acts call them; of a mask run from the archives by object.

    What a person said holds. Else the boxes of identities stand in `tracks.mot.txt` alone, whose class is the level.

    Raises:
        ArtifactError: a file is missing or damaged.
        InputError: `tracks.mot.txt` is damaged.
    """
    if run.kind == "boxes":
        with run.archive() as archive:
            whole = archive.rows(with_masks=False)
        return whole.tracks, whole.detection
    if run.paths.corrections.is_file():
        from trackweave.pipelines.mask_corrections import MaskProofreading  # what moves prompts comes with it

        proofreading = MaskProofreading(run)
        return proofreading.tracks, proofreading.items
    if run.paths.identity.is_file():
        boxes = read_tracks(run.paths.mot)
        classes = np.full(len(boxes), -1)
        for level in run.levels:
            with run.masks(level) as video:
                if video.info.classes:
                    classes = np.maximum(classes, video.info.classes.of(boxes.track_id))
        tracks = Tracks.from_columns(
            boxes.frame, boxes.track_id, boxes.xyxy, boxes.score, classes, level=boxes.class_id
        )
        return tracks, tracks.track_id
    parts = []
    for level in run.levels:
        with run.objects(level) as objects:
            for track_id in objects.ids:
                rows = objects.references(track_id)
                ids, levels = np.full(len(rows), track_id), np.full(len(rows), level)
                kinds = objects.info.classes.of(ids) if objects.info.classes else None
                parts.append(Tracks.from_columns(rows["frame"], ids, rows["box"], rows["score"], kinds, level=levels))
    tracks = Tracks.concat(parts)
    return tracks, tracks.track_id


def listed_frames(run: Run, tracks: Tracks) -> FrameList:
    """The frames of a run; of one without pictures, all from the first to the last.

    Raises:
        ArtifactError: the list is damaged, or is not that of these tracks.
    """
    if run.paths.frames.is_file():
        listed = run.frames
        indices = np.asarray(listed.indices, np.int64)
        missing = ~np.isin(tracks.frame, indices)
        if np.any(np.diff(indices) <= 0) or missing.any():
            text = f"frame {tracks.frame[missing][0]} is not listed" if missing.any() else "frames out of order"
            raise ArtifactError(f"{run.paths.frames}: is not the list of this run's frames: {text}")
        return listed
    summary = run.summary.input
    last = int(tracks.frame[-1]) + 1 if len(tracks) else 0
    count = min(max(last, summary.frames or 0), MOST_FRAMES)
    if last > count:
        raise ArtifactError(f"{run.root}: a track on frame {last - 1}: more than {MOST_FRAMES} are not shown")
    return numbered_frames(count, summary.size or size_of(tracks), summary.frame_rate)


def numbered_frames(count: int, size: tuple[int, int], rate: float | None) -> FrameList:
    """The list of frames 0 to `count` − 1 of `(H, W)` pixels."""
    times = None if not rate else [k / rate for k in range(count)]
    names = [f"frame_{k:06d}" for k in range(count)]
    return FrameList([FrameIndex(k) for k in range(count)], names, times, size)


def size_of(tracks: Tracks) -> tuple[int, int]:
    """The least `(H, W)` that holds all boxes."""
    far = np.ceil(tracks.xyxy[:, 2:].max(axis=0, initial=1)).astype(int)
    return int(far[1]), int(far[0])


def read_run_tracks(run: Run) -> RunTracks:
    """The tracks of a finished run.

    Raises:
        ArtifactError: a file of it is missing or damaged.
        InputError: `tracks.mot.txt` is damaged.
    """
    tracks, items = read_observations(run)
    return RunTracks(describe_run(run), listed_frames(run, tracks), tracks, items)
