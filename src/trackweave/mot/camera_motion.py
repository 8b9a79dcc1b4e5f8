"""Camera motion: an affine map from the previous frame's pixels to this frame's, estimated or given.

A map is a `(2, 3)` float64 matrix `[A | t]`: a point `p` goes to `A·p + t`. Coordinates are those of boxes: the first
pixel reaches from 0 to 1.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, SettingError

Affine = NDArray[np.float64]

WORKING_SIDE = 640
"""Longer side, in pixels, to which frames are brought unless a factor is given."""
_CORNERS = {"maxCorners": 250, "qualityLevel": 0.01, "minDistance": 12, "blockSize": 3}
_FLOW = {"winSize": (13, 13), "maxLevel": 3, "criteria": (3, 20, 0.03)}  # 20 rounds, or a step below 0.03 pixels
_MAX_RETURN = 0.7
"""A point followed there and back ends at most this far from where it began, in working pixels."""
_MAX_MISFIT = 1.5
"""Distance from the common motion, in working pixels, up to which a point supports it."""
_MIN_POINTS = 12
_MIN_SUPPORT = 0.3
_MAX_ZOOM = 1.5


class Unreliable(StrEnum):
    """Why a frame's camera motion is the identity instead of an estimate."""

    FIRST_FRAME = "first frame"
    SIZE_CHANGED = "frame size changed"
    FEW_FEATURES = "too few features outside of the boxes"
    NO_COMMON_MOTION = "no common motion: a cut, or nearly all of the frame moves"


def local_motions(homography: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine maps that are nearest to a homography around points: `(1, 2, 3)` where it is affine itself, else
    `(N, 2, 3)`, its expansion to first order at each of the `(N, 2)` points; not finite beyond its horizon."""
    if not homography[2, :2].any():
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.ascontiguousarray(homography[:2] / homography[2, 2])[None]
    mapped = np.column_stack([points, np.ones(len(points))]) @ homography.T
    depth = np.where(mapped[:, 2] / homography[2, 2] > 0, mapped[:, 2], np.nan) if homography[2, 2] else mapped[:, 2]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        image = mapped[:, :2] / depth[:, None]
        slope = (homography[:2, :2] - image[:, :, None] * homography[2, :2]) / depth[:, None, None]
        shift = image - np.einsum("nij,nj->ni", slope, points)
    return np.concatenate([slope, shift[:, :, None]], axis=2)


class CameraMotionEstimator:
    """Follows corners of the background from frame to frame and fits a similarity (shift, turn, zoom) to them.

    Corners (Shi & Tomasi, "Good features to track", CVPR 1994) are taken outside of the boxes, followed by pyramidal
    Lucas–Kanade flow forward and back, and fitted by RANSAC, on grey frames of a smaller size; BoT-SORT (Aharon et
    al., arXiv 2206.14651) compensates its camera so. Where this fails the answer is the identity, `reliable` is False
    and `reason` says why.

    Args:
        downscale: factor by which frames are made smaller; None brings their longer side to about 640 pixels.

    Attributes:
        reliable: whether the last answer is an estimate.
        reason: why it is not; None when it is.
        failures: how often each reason occurred since the beginning or `reset`.

    Raises:
        SettingError: a factor below 1.
    """

    def __init__(self, downscale: float | None = None) -> None:
        if downscale is not None and not downscale >= 1:
            raise SettingError(f"camera motion: downscale is 1 or more, not {downscale}")
        self._downscale = downscale
        self.reset()

    def reset(self) -> None:
        """Forgets the previous frame and the counts: another video begins."""
        self.reliable = False
        self.reason: Unreliable | None = None
        self.failures: Counter[Unreliable] = Counter()
        self._size: tuple[int, int] | None = None
        self._grey: NDArray[np.uint8] | None = None
        self._corners: NDArray[np.float32] = np.zeros((0, 1, 2), np.float32)

    def estimate(self, image: NDArray[np.uint8], boxes: NDArray[Any] | None = None) -> Affine:
        """Motion of the camera since the frame of the call before.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            boxes: `(N, 4)` xyxy in pixels, objects that may move by themselves; corners are not taken from them.

        Returns:
            `(2, 3)` float64; the identity when `reliable` is False afterwards.

        Raises:
            InputError: not an RGB image of 8 bits.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise InputError(f"camera motion: a frame is (H, W, 3) uint8, not {image.shape} {image.dtype}")
        import cv2  # only where it is used: a tracker whose camera stands still needs none of it

        size = (image.shape[0], image.shape[1])
        grey, scale = self._reduced(image)
        free = _outside(boxes, grey.shape, scale)
        motion: Affine | Unreliable
        if self._grey is None:
            motion = Unreliable.FIRST_FRAME
        elif size != self._size:
            motion = Unreliable.SIZE_CHANGED
        else:
            motion = _common_motion(self._grey, grey, self._corners, free, scale)
        corners = cv2.goodFeaturesToTrack(grey, mask=free, **_CORNERS)  # type: ignore[call-overload]
        self._corners = np.zeros((0, 1, 2), np.float32) if corners is None else corners
        self._grey, self._size = grey, size
        self.reason = motion if isinstance(motion, Unreliable) else None
        self.reliable = self.reason is None
        if isinstance(motion, Unreliable):
            self.failures[motion] += 1
            return identity()
        return motion

    def _reduced(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The frame in grey at working size, and working pixels per frame pixel `(x, y)`."""
        import cv2

        height, width = image.shape[:2]
        factor = self._downscale or max(1.0, max(height, width) / WORKING_SIDE)
        size = (max(1, round(width / factor)), max(1, round(height / factor)))
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if size != (width, height):
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        return np.asarray(grey, np.uint8), np.array([size[0] / width, size[1] / height])


class GivenCameraMotion:
    """Camera motion that was measured before, by frame index.

    Args:
        matrices: `(N, 2, 3)`; entry `k` maps pixels of frame `k − 1` to frame `k`.

    Attributes:
        missing: how often a frame beyond the given ones was asked for; such a frame gets the identity.

    Raises:
        InputError: of another shape, or not finite.
    """

    def __init__(self, matrices: NDArray[Any]) -> None:
        maps: NDArray[np.float64] = np.array(matrices, np.float64)
        if maps.ndim != 3 or maps.shape[1:] != (2, 3):
            raise InputError(f"camera motion is (frames, 2, 3), not {maps.shape}")
        bad = np.flatnonzero(~np.isfinite(maps).all(axis=(1, 2)))
        if len(bad):
            raise InputError(f"camera motion of frame {bad[0]} is not finite")
        self._matrices = maps
        self.missing = 0

    def __len__(self) -> int:
        return len(self._matrices)

    def at(self, frame: int) -> Affine:
        """`(2, 3)` float64 from frame − 1 to frame; the identity, counted, for a frame that is not there."""
        if 0 <= frame < len(self._matrices):
            return np.array(self._matrices[frame])
        self.missing += 1
        return identity()

    def between(self, first: int, last: int) -> Affine:
        """`(2, 3)` float64 from one frame to a later one: frames between them moved the camera as well."""
        motion = identity()
        known = min(last + 1, max(first + 1, len(self._matrices)))
        for frame in range(first + 1, known):
            motion = compose(motion, self.at(frame))
        self.missing += last + 1 - known
        return motion


def identity() -> Affine:
    """The map of a camera that does not move.

    >>> identity().tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    return np.eye(2, 3)


def compose(first: Affine, second: Affine) -> Affine:
    """The map that does `first`, then `second`; all `(2, 3)`.

    >>> shift, zoom = np.array([[1.0, 0, 5], [0, 1, 0]]), np.array([[2.0, 0, 0], [0, 2, 0]])
    >>> compose(shift, zoom).tolist()
    [[2.0, 0.0, 10.0], [0.0, 2.0, 0.0]]
    """
    linear = second[:, :2]
    return np.concatenate([linear @ first[:, :2], (linear @ first[:, 2] + second[:, 2])[:, None]], axis=1)


def _outside(boxes: NDArray[Any] | None, shape: tuple[int, ...], scale: NDArray[np.float64]) -> NDArray[np.uint8]:
    """255 where no box is, at working size."""
    free = np.full(shape, 255, np.uint8)
    if boxes is None or not len(boxes):
        return free
    finite = np.asarray(boxes, np.float64)[np.isfinite(boxes).all(axis=1)]
    limits = np.array([shape[1], shape[0]] * 2)
    reduced = np.clip(finite * np.tile(scale, 2), 0, limits)
    edges = np.concatenate([np.floor(reduced[:, :2]), np.ceil(reduced[:, 2:])], axis=1).astype(int)
    for left, top, right, bottom in edges.tolist():
        free[top:bottom, left:right] = 0
    return free


def _common_motion(
    before: NDArray[np.uint8],
    now: NDArray[np.uint8],
    corners: NDArray[np.float32],
    free: NDArray[np.uint8],
    scale: NDArray[np.float64],
) -> Affine | Unreliable:
    """The similarity that most corners follow, in frame pixels."""
    if len(corners) < _MIN_POINTS:
        return Unreliable.FEW_FEATURES
    import cv2

    points, followed, _ = cv2.calcOpticalFlowPyrLK(before, now, corners, None, **_FLOW)  # type: ignore[call-overload]
    back, returned, _ = cv2.calcOpticalFlowPyrLK(now, before, points, None, **_FLOW)  # type: ignore[call-overload]
    gap = np.abs(back - corners).reshape(-1, 2).max(axis=1)
    good = (
        (followed.ravel() == 1) & (returned.ravel() == 1) & (gap < _MAX_RETURN) & _free_at(points.reshape(-1, 2), free)
    )
    if np.count_nonzero(good) < max(_MIN_POINTS, _MIN_SUPPORT * len(corners)):
        return Unreliable.NO_COMMON_MOTION
    # OpenCV's coordinates count from the middle of the first pixel, those of boxes from its edge.
    origin, target = ((points.reshape(-1, 2)[good] + 0.5) / scale for points in (corners, points))
    matrix, support = cv2.estimateAffinePartial2D(
        origin, target, method=cv2.RANSAC, ransacReprojThreshold=_MAX_MISFIT / float(scale.max()), confidence=0.995
    )
    if matrix is None or np.count_nonzero(support) < max(_MIN_POINTS, _MIN_SUPPORT * len(corners)):
        return Unreliable.NO_COMMON_MOTION
    zoom = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if not 1 / _MAX_ZOOM < zoom < _MAX_ZOOM:
        return Unreliable.NO_COMMON_MOTION
    return np.asarray(matrix, np.float64)


def _free_at(points: NDArray[np.float32], free: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether each point `(N, 2)` lies inside the frame and outside of its boxes."""
    x, y = (np.round(points[:, k]).astype(np.int64) for k in (0, 1))
    inside = (x >= 0) & (y >= 0) & (x < free.shape[1]) & (y < free.shape[0])
    x, y = np.clip(x, 0, free.shape[1] - 1), np.clip(y, 0, free.shape[0] - 1)
    return np.asarray(inside & (free[y, x] > 0))
