"""`MaskStitcher`: links between the things of a run of masks over gaps and cuts, from its masks and its pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.association.scorer import LearnedScorer
from trackweave.association.tracklets import TrackletMargins
from trackweave.detectors.descriptor import MaskDescriptor
from trackweave.frames.source import FrameSource
from trackweave.identity.mask_tracklets import PartLinks, TrackEnds, Views, stitch_masks
from trackweave.identity.overlaps import LevelObjects, PairEvidence
from trackweave.identity.stitch import Link, TrackletScorer, VideoContext, stitched_ids
from trackweave.ids import PROMPTED_LEVEL
from trackweave.mot.camera_motion import CameraMotionEstimator
from trackweave.storage.run import FrameList
from trackweave.structures.identity import IdentityLink, IdentityTable, Tree
from trackweave.structures.tracks import Tracks

UNKNOWN_RATE = 10.0
"""Frames per second where there are no times."""
CORNERS = 600
"""Corners of a frame by which two shots are compared."""
MOST_SHOTS = 16
"""Earlier shots that a new one is compared with, the latest ones."""
MIN_COMMON, MIN_SHARE, MOST_ZOOM = 20, 0.2, 1.7
"""Corners that must agree on one motion, also as a share of those that look alike, for two shots to show one place."""


Linker = Callable[[Tracks, Views, PartLinks, VideoContext, TrackletScorer, float], list[Link]]
"""See `stitch_masks`."""


class MaskStitcher:
    """Takes the frames of a run twice: its masks, and then the pictures as well, if anything may go on.

    Args:
        frames: the frames that the run went over.
        cuts: absolute indices of those that begin a new shot.
        linker: finds the links of a level.
    """

    def __init__(self, frames: FrameSource, cuts: Sequence[int] = (), linker: Linker = stitch_masks) -> None:
        self._frames, self._cuts, self._linker = frames, cuts, linker
        self._local = {int(index): local for local, index in enumerate(frames.indices)}
        self._ends = TrackEnds()

    def add(self, frame: int, levels: Sequence[LevelObjects]) -> None:
        """Takes the objects of a frame, by its absolute index; frames come in order."""
        if frame in self._local:
            self._ends.add(self._local[frame], [one for one in levels if one[0] != PROMPTED_LEVEL])

    def links(
        self,
        evidence: PairEvidence,
        table: IdentityTable,
        tree: Tree,
        shown: Sequence[int],
        read: Callable[[int], Sequence[LevelObjects]],
        min_probability: float,
    ) -> list[IdentityLink]:
        """The links, the surest first.

        Args:
            evidence: what the frames say about the tracks.
            table: which tracks are one thing so far.
            tree: which thing is part of which so far.
            shown: index of each frame of the evidence, in order.
            read: gives the objects of such a frame; asked only of those on which something is looked at.
            min_probability: from which two things are linked.
        """
        levels = [level for level in np.unique(table.level).tolist() if level != PROMPTED_LEVEL]
        ends = {level: self._ends.of(table, level) for level in levels}
        if not any(_may_go_on(one) for one in ends.values()):
            return []
        views = Views(evidence, table, tree, MaskDescriptor())
        scene = self._look(views, shown, read)
        scorer = TrackletMargins(LearnedScorer(), scene.frame_rate, self._frames.size)
        found: list[IdentityLink] = []
        identity: dict[int, int] = {}
        for level in sorted(ends):
            known = PartLinks(tree, dict(identity))
            links = self._linker(ends[level], views, known, scene, scorer, min_probability)
            things = ends[level].track_ids
            identity |= dict(zip(things.tolist(), stitched_ids(things, links).tolist(), strict=True))
            found += [self._of_tracks(link, table) for link in links]
        return sorted(found, key=lambda link: (-link.score, link))

    def _look(self, views: Views, shown: Sequence[int], read: Callable[[int], Sequence[LevelObjects]]) -> VideoContext:
        """Takes views of things and follows the camera, in one pass over the pictures."""
        frames = self._frames
        cuts = {self._local[cut] for cut in self._cuts if cut in self._local}
        path = CameraTrajectory()
        position_of = {frame: position for position, frame in enumerate(shown)}
        for local, index in enumerate(frames.indices):
            image = frames[local]
            path.add(image, is_cut=local in cuts)
            position = position_of.get(int(index))
            if position is not None and views.is_due(position):
                views.add(position, image, read(int(index)))
        rate = FrameList(frames.indices, frames.names, frames.times, frames.size).rate or UNKNOWN_RATE
        return VideoContext(rate, frames.size, np.stack(path.motion), sorted(cuts), places=list(path.places))

    def _of_tracks(self, link: Link, table: IdentityTable) -> IdentityLink:
        """A link between things as one between two of their raw tracks: those that lie next to the gap."""
        before = max(table.members(link.before).tolist(), key=lambda track: (self._ends.last(track), -track))
        after = min(table.members(link.after).tolist(), key=lambda track: (self._ends.first(track), track))
        indices = self._frames.indices
        gap = int(indices[self._ends.first(after)]) - int(indices[self._ends.last(before)])
        return IdentityLink(min(before, after), max(before, after), "stitch", link.probability, 0, gap)


def _may_go_on(ends: Tracks) -> bool:
    """Does a track begin after another one ended?"""
    if not len(ends):
        return False
    _, position = np.unique(ends.track_id, return_inverse=True)
    last, first = np.full(position.max() + 1, -1), np.full(position.max() + 1, np.iinfo(np.int64).max)
    np.maximum.at(last, position, ends.frame)
    np.minimum.at(first, position, ends.frame)
    return bool(last.min() < first.max())


class _Shot(NamedTuple):
    """The last frame of a shot: its corners, the path of the camera up to it, and the place that it shows."""

    corners: _Corners
    motion: NDArray[np.float64]
    place: int


class CameraTrajectory:
    """The camera over a video with cuts: a shot that shows the place of an earlier one goes on where that was.

    Attributes:
        motion: `(3, 3)` of each frame, from pixels that all frames of its place share to its own.
        places: of each shot, the number of the place that it shows.
    """

    def __init__(self) -> None:
        self.motion: list[NDArray[np.float64]] = []
        self.places: list[int] = [0]
        self._estimator = CameraMotionEstimator()
        self._shots: list[_Shot] = []
        self._image: NDArray[np.uint8] | None = None

    def add(self, image: NDArray[np.uint8], *, is_cut: bool) -> None:
        """Takes the next frame."""
        if is_cut and self._image is not None:
            self._shots.append(_Shot(_corners(self._image), self.motion[-1], self.places[-1]))
            self._estimator.reset()
            self._begin(_corners(image))
            self._estimator.estimate(image)
        else:
            step = np.vstack([self._estimator.estimate(image), [0.0, 0.0, 1.0]])
            self.motion.append(step @ self.motion[-1] if self.motion else np.eye(3))
        self._image = image

    def _begin(self, corners: _Corners) -> None:
        """Begins a shot at the place of the earlier one that has most in common with it, or at a new one."""
        common = [(_common_motion(shot.corners, corners), shot) for shot in self._shots[-MOST_SHOTS:]]
        (motion, _), shot = max(common, key=lambda one: one[0][1])
        if motion is None:
            self.places.append(max(self.places) + 1)
            self.motion.append(np.eye(3))
        else:
            self.places.append(shot.place)
            self.motion.append(motion @ shot.motion)


class _Corners(NamedTuple):
    """Corners of a frame.

    Attributes:
        at: `(N, 2)` float32 pixels.
        descriptors: `(N, 32)` uint8, binary descriptors (ORB: Rublee et al., ICCV 2011).
    """

    at: NDArray[np.float32]
    descriptors: NDArray[np.uint8]


def _corners(image: NDArray[np.uint8]) -> _Corners:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    points, descriptors = cv2.ORB.create(CORNERS, fastThreshold=10).detectAndCompute(grey, None)
    at = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
    return _Corners(at, np.zeros((0, 32), np.uint8) if descriptors is None else np.asarray(descriptors, np.uint8))


def _common_motion(before: _Corners, now: _Corners) -> tuple[NDArray[np.float64] | None, int]:
    """`(3, 3)` from one frame to another of the same place, and how many corners say so; None and 0 if too few do."""
    if min(len(before.at), len(now.at)) < MIN_COMMON:
        return None, 0
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(before.descriptors, now.descriptors)
    if len(pairs) < MIN_COMMON:
        return None, 0
    origin = before.at[[pair.queryIdx for pair in pairs]]
    target = now.at[[pair.trainIdx for pair in pairs]]
    found: Any = cv2.estimateAffinePartial2D(origin, target, method=cv2.RANSAC, ransacReprojThreshold=3.0)
    matrix, support = found
    if matrix is None:
        return None, 0
    count, zoom = int(np.count_nonzero(support)), float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if count < max(MIN_COMMON, MIN_SHARE * len(pairs)) or not 1 / MOST_ZOOM < zoom < MOST_ZOOM:
        return None, 0
    return np.vstack([matrix, [0.0, 0.0, 1.0]]), count
