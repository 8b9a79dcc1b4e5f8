"""`OpenedRun`: a finished run as the page asks for it: a frame's objects, all tracks, what is doubtful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, wording
from trackweave.formats.motchallenge import is_sequence
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource
from trackweave.ids import FrameIndex, Level
from trackweave.masks.kernels import row_runs
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.run import Run, open_run
from trackweave.pipelines.video_input import open_input
from trackweave.reports.run_tracks import (
    Description,
    RunTracks,
    ShownTracks,
    describe_run,
    listed_frames,
    read_observations,
)
from trackweave.storage.corrected_masks import open_masks
from trackweave.storage.mask_archive import VideoSegments
from trackweave.storage.run import FrameList
from trackweave.storage.track_archive import TracksArchive
from trackweave.structures.tracks import Tracks

Json = dict[str, Any]


@dataclass(frozen=True)
class Pictures:
    """The pictures of a run.

    Attributes:
        source: frames, or None where there are none.
        places: `(N,)` int64, the place in `source` of each frame of the run; −1 = it has no picture.
        notice: why there are none, or None.
    """

    source: FrameSource | None
    places: NDArray[np.int64]
    notice: str | None = None


class ViewedTracks(RunTracks):
    """Tracks that are looked at, with pictures. Safe to use from several threads.

    Args:
        about, listed, tracks, items: as of `RunTracks`.
        pictures: of the frames.
    """

    def __init__(
        self, about: Description, listed: FrameList, tracks: Tracks, items: NDArray[np.int64], pictures: Pictures
    ) -> None:
        super().__init__(about, listed, tracks, items)
        self.pictures = pictures

    @property
    def has_masks(self) -> bool:
        """Are there masks to draw?"""
        return False

    def info(self) -> Json:
        """What the page needs to begin: everything but frames, objects and tracks."""
        pictures = self.pictures.source is not None
        return {
            **super().info(),
            "pictures": pictures,
            "crops": pictures,
            "notice": self.pictures.notice,
            "masks": self.has_masks,
        }

    def objects_json(self, first: int, count: int, *, with_masks: bool) -> Json:
        """Objects of some frames: ids, levels, boxes, scores, classes; masks as run lengths.

        Args:
            first: position of the first frame.
            count: frames.
            with_masks: also the masks.
        """
        first = min(max(first, 0), len(self))
        last = min(first + max(count, 0), len(self))
        shown = self.shown
        rows = np.searchsorted(shown.positions, np.arange(first, last + 1))
        frames = [_objects(shown, int(rows[k]), int(rows[k + 1])) for k in range(last - first)]
        if with_masks:
            for k, record in enumerate(frames):
                record["masks"] = self._masks(first + k, shown.tracks[int(rows[k]) : int(rows[k + 1])])
        return {"first": first, "frames": frames}

    def _masks(self, position: int, tracks: Tracks) -> list[Json | None]:
        """The masks of a frame's objects, in their order; None of an object without one."""
        return [None] * len(tracks)

    def track_json(self, level: int, track_id: int) -> Json | None:
        """Positions and boxes of one track; None when there is none."""
        shown = self.shown
        rows = shown.rows(level, track_id)
        if not len(rows):
            return None
        boxes = np.round(shown.tracks.xyxy[rows].reshape(-1).astype(np.float64), 1)
        return {"id": track_id, "level": level, "position": shown.positions[rows].tolist(), "box": boxes.tolist()}

    def crop_place(self, level: int, track_id: int, share: float) -> tuple[int, NDArray[np.float32]] | None:
        """Position and box at a share of a track's observations, 0 the first, 1 the last; None without the track."""
        shown = self.shown
        rows = shown.rows(level, track_id)
        if not len(rows):
            return None
        row = rows[round((len(rows) - 1) * min(max(share, 0.0), 1.0))]
        return int(shown.positions[row]), shown.tracks.xyxy[row]

    def box_at(self, level: int, track_id: int, position: int) -> NDArray[np.float32] | None:
        """The box of a track on a frame, `(4,)`; None where it is not seen."""
        shown = self.shown
        rows = shown.rows(level, track_id)
        found = rows[shown.positions[rows] == position]
        return shown.tracks.xyxy[found[0]] if len(found) else None

    def item_place(self, frame: int, item: int) -> tuple[int, NDArray[np.float32]] | None:
        """Position and box of what acts of a person call `item` on a frame; None where there is none."""
        shown = self.shown
        start, stop = np.searchsorted(shown.tracks.frame, [frame, frame + 1])
        found = start + np.flatnonzero(shown.items[start:stop] == item)
        if item < 0 or not len(found):
            return None
        return int(shown.positions[found[0]]), shown.tracks.xyxy[found[0]]


class OpenedRun(ViewedTracks):
    """A run that is looked at. Safe to use from several threads; use it in a `with` block.

    Args:
        path: the run folder.
        frames: a video or folder of images to show; None = the input that the run recorded.

    Raises:
        ArtifactError: no run folder, the run is not finished, or a file of it is damaged.
        InputError: `frames` are not those of the run.
    """

    def __init__(self, path: str | Path, *, frames: str | Path | None = None) -> None:
        self.run: Run = open_run(path)
        self._stack, self._lock = ExitStack(), RLock()
        self._videos: dict[Level, VideoSegments] = {}
        self._archive: TracksArchive | None = None
        self.frames_path = frames
        with ExitStack() as stack:
            self._open_archives(stack)
            tracks, items = read_observations(self.run)
            listed = listed_frames(self.run, tracks)
            none = Pictures(None, np.full(len(listed.indices), -1, np.int64))
            super().__init__(describe_run(self.run), listed, tracks, items, none)
            self.pictures = self._open_pictures(frames)
            if self.pictures.source is not None:
                stack.callback(self.pictures.source.close)
            self._stack = stack.pop_all()

    @property
    def has_masks(self) -> bool:
        """Are there masks to draw?"""
        return bool(self._videos) or (self._archive is not None and self._archive.has_masks)

    def _masks(self, position: int, tracks: Tracks) -> list[Json | None]:
        """The masks of a frame's objects, in their order; None of an object without one."""
        frame = FrameIndex(int(self.indices[position]))
        found: dict[object, Json | None] = {}
        with self._lock:
            for video in self._videos.values():
                objects = video.frame(frame)
                found |= zip(objects.track_id.tolist(), _runs_of(objects.masks), strict=True)
            own = self._archive.at(frame) if self._archive is not None else Tracks.empty()
        if own.masks is None:
            return [found.get(track_id) for track_id in tracks.track_id.tolist()]
        # A person may have given the object another id since: its box is what it was.
        found |= zip((box.tobytes() for box in own.xyxy), _runs_of(own.masks), strict=True)
        return [found.get(box.tobytes()) for box in tracks.xyxy]

    def _open_archives(self, stack: ExitStack) -> None:
        if self.run.kind == "boxes":
            self._archive = stack.enter_context(self.run.archive())
        else:
            stack.callback(self._close_masks)
            for level in self.run.levels:
                self._videos[level] = open_masks(self.run.paths, level, unfinished=True)

    def _close_masks(self) -> None:
        for video in self._videos.values():
            video.close()

    def show_masks(self, videos: Mapping[Level, VideoSegments]) -> None:
        """Shows other masks from now on; those before are closed.

        Args:
            videos: of every level of the run; they are closed with the run.
        """
        with self._lock:
            for level, video in videos.items():
                self._videos[level].close()
                self._videos[level] = video

    def _open_pictures(self, frames: str | Path | None) -> Pictures:
        none = np.full(len(self), -1, np.int64)
        source = frames if frames is not None else self.run.summary.input.path
        if source is None or (frames is None and not Path(source).exists()):
            what = "it ran without pictures" if source in (None, "none", "memory") else f"{Path(source).name} is gone"
            return Pictures(None, none, f"{what}: {wording('frames=', '--frames')} says where they are")
        try:
            opened, indices = open_pictures(source)
        except InputError as error:
            if frames is not None:
                raise
            return Pictures(None, none, str(error))
        if opened is None:
            return Pictures(None, none, f"{Path(source).name} has no pictures")
        if opened.size != self.size and self.run.paths.frames.is_file():
            text = f"{source}: frames of {opened.size[1]}×{opened.size[0]}, the run's are {self.size[1]}×{self.size[0]}"
            opened.close()
            raise InputError(f"{text}: {wording('frames=', '--frames')} names the run's own")
        if not self.run.paths.frames.is_file():
            self.size = opened.size
        place = {int(index): k for k, index in enumerate(indices)}
        return Pictures(opened, np.array([place.get(int(index), -1) for index in self.indices], np.int64))

    def close(self) -> None:
        """Closes archives and decoders."""
        with self._lock, suppress(OSError):
            self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_pictures(source: str | Path) -> tuple[FrameSource | None, Sequence[int]]:
    """The pictures of a run's input and the absolute frame of each; of a sequence that has only some, those.

    Raises:
        InputError: it cannot be opened.
    """
    if not is_sequence(source):
        frames = open_frames(source)
        return frames, [int(index) for index in frames.indices]
    video = open_input(source)
    if video.images is not None:
        return video.images, [int(index) for index in video.images.indices]
    if video.preview_images is None:
        return None, []
    at = sorted((place, frame) for frame, place in video.preview_positions.items())
    return video.preview_images, [frame for _, frame in at]


def _objects(shown: ShownTracks, start: int, stop: int) -> Json:
    """Rows of one frame as columns."""
    tracks = shown.tracks[start:stop]
    return {
        "id": tracks.track_id.tolist(),
        "level": [] if tracks.level is None else tracks.level.tolist(),
        "box": np.round(tracks.xyxy.reshape(-1).astype(np.float64), 1).tolist(),
        "score": np.round(tracks.score.astype(np.float64), 3).tolist(),
        "class": tracks.class_id.tolist(),
        "item": shown.items[start:stop].tolist(),
    }


def _runs_of(masks: PackedMasks) -> list[Json | None]:
    """Each mask as its size and run lengths."""
    runs = [run_lengths(masks, n) for n in range(len(masks))]
    return [None if run is None else {"size": list(masks.size), **run} for run in runs]


def run_lengths(masks: PackedMasks, n: int) -> Json | None:
    """Mask `n` as the box that it fills and the lengths of its runs, row after row, the first of pixels outside.

    None of a mask without pixels.

    >>> run_lengths(PackedMasks.from_bool(np.array([[[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0]]], bool)), 0)
    {'x': 1, 'y': 1, 'w': 3, 'h': 2, 'runs': [1, 3, 2]}
    """
    box = masks.boxes[n]
    x, y, w, h = (int(side) for side in (*box[:2], *(box[2:] - box[:2])))
    if w <= 0:
        return None
    runs = np.empty(w * h + 1, np.int64)
    count = row_runs(masks.bits[n], box, masks.width, runs)
    return {"x": x, "y": y, "w": w, "h": h, "runs": runs[:count].tolist()}
