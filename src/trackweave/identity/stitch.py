"""Stitching: tracklets that follow each other over a gap become one identity, never two of them at once on a frame.

Every pair of which one ends before the other begins is judged by a logistic score: how near the two ends are, seen by
the camera and by the crowd, what the learned scorer that links boxes says forwards and backwards in time, whether they
left and came at the border, sizes, lengths, the gap, and appearance where there is one; then by how well the best rival
of either end fits. The links of the largest summed log-odds above a threshold are chosen at once. As a link leads from
an end to a later beginning, and each end and each beginning has one at most, this is an assignment, and any set of
links is a set of chains in the order of time (Zhang, Li and Nevatia, "Global data association for multi-object tracking
using network flows", CVPR 2008, without its costs of entry and exit).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackweave.detectors.visibility import visible_shares
from trackweave.structures.columns import Columns
from trackweave.structures.tracks import Tracks

HORIZON_SECONDS = 8.0
"""Longest gap over which boxes say anything; over longer ones and over cuts, appearance alone links."""
END_SECONDS, END_BOXES = 0.6, 12
"""The motion of a tracklet at its end is a line through so many boxes of so much time."""
COASTING_SECONDS = 0.5
"""How long a track goes on as it went at its ends."""
REACH = 3.0
"""Sizes, and as many per second of the gap beyond the first 0.3 s, within which the other end is looked for."""
MIN_CROWD = 4
"""Tracks seen on two frames from which their median displacement is the crowd's."""
MAX_PAIRS = 4_000_000
"""Pairs that are judged at most; the shortest gaps come first."""

WEIGHTS: Mapping[str, float] = {
    "bias": -2.77,
    "log_distance": -0.77,
    "log_crowd_distance": -0.65,
    "height": -0.37,
    "log_gap": -0.29,
    "gap": -0.94,
    "soon": 1.18,
    "border_end": 0.39,
    "border_beginning": 1.42,
    "border_both": 1.84,
    "soon_border": -2.32,
    "leaves": -1.46,
    "crosses": 0.82,
    "shortest": 0.53,
    "forwards": 1.28,
    "backwards": 1.3,
    "border_lower": 1.26,
}
"""Of the evidence, with a learned scorer: log-odds per unit."""

WEIGHTS_WITHOUT_SCORER: Mapping[str, float] = {
    "bias": -1.5,
    "log_distance": -1.5,
    "log_crowd_distance": -0.65,
    "height": -2.07,
    "log_gap": -0.19,
    "gap": -1.45,
    "soon": 1.87,
    "border_end": -0.24,
    "border_beginning": 0.94,
    "border_both": 1.71,
    "soon_border": -2.09,
    "leaves": -1.92,
    "crosses": 1.07,
    "shortest": 0.47,
}
"""The same without one."""

RIVALS, RIVALS_WITHOUT_SCORER = (1.08, -1.62, -1.72, 0.95), (1.15, -2.88, -2.75, 1.42)
"""Weights of a pair's own log-odds, of the softplus of those of the best rival for the end and for the beginning, and
the constant."""

SIMILAR, OTHER, SPREAD = 0.9, 0.6, 0.15
"""Mean cosines of one track's halves and of two tracks seen at once, and their spread: until a video has shown its
own, which weighs as `PRIOR_TRACKS` tracks."""
PRIOR_TRACKS = 5.0
LESS_ALIKE = 0.5
"""Share of these log-odds that counts: over a gap light and pose change more than from one half of a track to the
other."""
APPEARANCE_PARTS = 16
"""Sums of views that are kept per track."""
MAX_LIKENESS = 6.0
"""Log-odds of appearance at most."""
APPEARANCE_ALONE = -1.0
"""Log-odds of a pair of which appearance alone is known, where it says nothing."""


class TrackletScorer(Protocol):
    """What a learned scorer says of pairs of tracklets."""

    def margins(
        self,
        tracks: Tracks,
        visibility: NDArray[np.float32],
        pairs: NDArray[np.int64],
        camera: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float32]:
        """`(P, 2)` log-odds, forwards and backwards in time, that the later of two tracklets goes on with the earlier.

        Args:
            tracks: N observations.
            visibility: `(N,)` of each.
            pairs: `(P, 2)` ids, the earlier one first.
            camera: `(F, 3, 3)`, see `VideoContext`.
        """
        ...


@dataclass(frozen=True, eq=False)
class VideoContext:
    """What is known of the video besides the tracks.

    Attributes:
        frame_rate: frames per second of the frames' indices.
        size: `(H, W)` in pixels; None: unknown.
        camera: `(F, 3, 3)` by frame index, maps pixels of one common image to those of the frame; None: it stood still.
        cuts: frames that begin a new shot.
        appearance: track → `(2, E)` unit vectors of its first and its second half; tracks without one have none.
        places: of each shot, one more than cuts, the number of the place that it shows: over cuts between shots of one
            place, whose `camera` goes on, boxes say as much as elsewhere. Empty: each shot shows a place of its own.
    """

    frame_rate: float = 30.0
    size: tuple[int, int] | None = None
    camera: NDArray[np.float64] | None = None
    cuts: Sequence[int] = ()
    appearance: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)
    places: Sequence[int] = ()


class Link(NamedTuple):
    """Two tracks that follow each other as one identity, and how likely that is."""

    before: int
    after: int
    probability: float


def stitch(
    tracks: Tracks,
    scene: VideoContext | None = None,
    scorer: TrackletScorer | None = None,
    *,
    min_probability: float = 0.6,
) -> list[Link]:
    """Finds which tracks go on with which others.

    Neither the order of rows nor the numbers of tracks matter to what is linked.

    Args:
        tracks: of a whole video; of one level, where there are levels.
        scene: what else is known; None: nothing.
        scorer: says more of pairs than their positions do.
        min_probability: from which a pair is linked, in (0, 1).

    Returns:
        links by the frame at which they begin; a track is `before` in one at most, and `after` in one at most.

    >>> frames = [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    >>> boxes = [[4 * frame, 0, 4 * frame + 40, 80] for frame in frames]
    >>> tracks = Tracks.from_columns(frames, [1] * 5 + [2] * 5, boxes)
    >>> [link[:2] for link in stitch(tracks, VideoContext(size=(480, 640)))]
    [(1, 2)]
    """
    scene = scene or VideoContext()
    if not len(tracks):
        return []
    crowd = crowd_motion(tracks, scene)
    visibility = visibility_of(tracks, scene.size)
    tracklets = Tracklets.of(tracks, scene, crowd)
    pairs = candidates(tracklets, scene)
    found = evidence(tracklets, pairs, scene, crowd)
    near = is_near(found)
    pairs, found = pairs[near], {name: column[near] for name, column in found.items()}
    weights, rivals = WEIGHTS_WITHOUT_SCORER, RIVALS_WITHOUT_SCORER
    if scorer is not None and len(pairs):
        margins = scorer.margins(tracks, visibility, tracklets.ids[pairs], scene.camera)
        found |= evidence_of_scorer(found, margins)
        weights, rivals = WEIGHTS, RIVALS
    pairs, logits = with_appearance(tracklets, pairs, log_odds(weights, found), scene)
    logits = against_rivals(pairs, logits, len(tracklets), rivals)
    return chosen_links(tracklets, pairs, logits, min_probability)


def chosen_links(
    tracklets: Tracklets, pairs: NDArray[np.int64], logits: NDArray[np.float64], min_probability: float
) -> list[Link]:
    """The links of the largest summed log-odds above a probability, by the frame at which they begin.

    Args:
        tracklets: all tracks.
        pairs: `(P, 2)` rows of them.
        logits: `(P,)` log-odds of each.
        min_probability: in (0, 1).
    """
    chosen = best_links(pairs, logits - np.log(min_probability / (1 - min_probability)))
    chosen = chosen[np.lexsort((pairs[chosen, 1], tracklets.first[pairs[chosen, 1]]))]
    probability = 1 / (1 + np.exp(-logits[chosen]))
    return [
        Link(int(before), int(after), float(p))
        for (before, after), p in zip(tracklets.ids[pairs[chosen]], probability, strict=True)
    ]


def stitched_ids(track_id: NDArray[np.int64], links: Iterable[Link]) -> NDArray[np.int64]:
    """Each id, or the smallest one of the chain that it belongs to.

    >>> stitched_ids(np.array([7, 3, 9]), [Link(7, 3, 0.9)]).tolist()
    [3, 3, 9]
    """
    ids, position = np.unique(track_id, return_inverse=True)
    root = {track: track for track in ids.tolist()}
    for link in links:
        one, other = _root(root, link.before), _root(root, link.after)
        root[max(one, other)] = min(one, other)
    return np.array([_root(root, track) for track in ids.tolist()], np.int64)[position]


def _root(root: dict[int, int], track: int) -> int:
    while root[track] != track:
        track = root[track]
    return track


def visibility_of(tracks: Tracks, size: tuple[int, int] | None) -> NDArray[np.float32]:
    """`(N,)` what nearer boxes and the frame's border leave of each box."""
    shares = np.ones(len(tracks), np.float32)
    edges = np.flatnonzero(np.r_[True, np.diff(tracks.frame) > 0, True])
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        shares[low:high] = visible_shares(tracks.xyxy[low:high], size, np.ones(high - low, np.bool_))
    return shares


# --- tracklets --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Tracklets(Columns):
    """T tracks by id, each as what one sees at its two ends.

    Boxes are centre x, centre y and logarithms of width and height, in pixels of the frame where the end lies.

    Attributes:
        ids: `(T,)` int64, ascending.
        first: `(T,)` int64 frame.
        last: `(T,)` int64 frame.
        count: `(T,)` int64 observations.
        class_id: `(T,)` int64 of most of them.
        beginning: `(T, 4)` float64 first box.
        end: `(T, 4)` float64 last box.
        velocity: `(T, 2, 2)` float64 at the beginning and the end, of what the crowd does not share; pixels per second.
    """

    ids: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    count: NDArray[np.int64]
    class_id: NDArray[np.int64]
    beginning: NDArray[np.float64]
    end: NDArray[np.float64]
    velocity: NDArray[np.float64]

    @classmethod
    def of(cls, tracks: Tracks, scene: VideoContext, crowd: NDArray[np.float64]) -> Tracklets:
        """Describes every track by its ends; `crowd` is that of `crowd_motion`."""
        order = np.lexsort((tracks.frame, tracks.track_id))
        ids, start, count = np.unique(tracks.track_id[order], return_index=True, return_counts=True)
        stop = start + count - 1
        boxes = _log_boxes(tracks.xyxy)
        edges = [order[_from_edge(start, count, way)] for way in (1, -1)]
        used = np.arange(END_BOXES) < count[:, None]
        return cls(
            ids,
            tracks.frame[order[start]],
            tracks.frame[order[stop]],
            count,
            _most_frequent(tracks.class_id[order], start),
            boxes[order[start]],
            boxes[order[stop]],
            np.stack([_velocity(tracks.frame[rows], boxes[rows], used, scene, crowd) for rows in edges], axis=1),
        )


def _log_boxes(xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    boxes = xyxy.astype(np.float64)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.5)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, np.log(sides)], axis=1)


def _from_edge(start: NDArray[np.int64], count: NDArray[np.int64], way: int) -> NDArray[np.int64]:
    """`(T, END_BOXES)` positions inwards from the first (`way` 1) or the last (−1) of each group; the innermost
    repeats."""
    edge = start if way > 0 else start + count - 1
    return np.asarray(edge[:, None] + way * np.minimum(np.arange(END_BOXES), count[:, None] - 1))


def _most_frequent(values: NDArray[np.int64], start: NDArray[np.int64]) -> NDArray[np.int64]:
    """`(T,)` the most frequent value of each group of rows that begins at `start`."""
    kinds, kind = np.unique(values, return_inverse=True)
    votes = np.stack([np.add.reduceat(kind == k, start, dtype=np.int64) for k in range(len(kinds))], axis=1)
    return np.asarray(kinds[votes.argmax(axis=1)], np.int64)


def _velocity(
    frames: NDArray[np.int64],
    boxes: NDArray[np.float64],
    used: NDArray[np.bool_],
    scene: VideoContext,
    crowd: NDArray[np.float64],
) -> NDArray[np.float64]:
    """`(T, 2)` pixels per second of the lines through `(T, END_BOXES)` boxes, less the crowd's; 0 for a few boxes."""
    seconds = (frames - frames[:, :1]) / scene.frame_rate
    used = used & (np.abs(seconds) <= END_SECONDS)
    centre = boxes[..., :2] - (crowd[frames] - crowd[frames[:, :1]])
    weight = used / used.sum(axis=1, keepdims=True)
    seconds = seconds - (weight * seconds).sum(axis=1, keepdims=True)
    slope = ((weight * seconds)[..., None] * centre).sum(axis=1)
    spread = (weight * seconds**2).sum(axis=1, keepdims=True) + 0.02**2
    velocity: NDArray[np.float64] = np.where(used.sum(axis=1, keepdims=True) >= 3, slope / spread, 0.0)
    return velocity


def crowd_motion(tracks: Tracks, scene: VideoContext) -> NDArray[np.float64]:
    """`(F, 2)` by frame index, how far the tracks moved since the first frame, by the median of each frame: what a
    panning camera gives to all of them. Where few tracks go on from one frame to the next, it is the camera's own.
    """
    shift = np.zeros((int(tracks.frame.max()) + 1, 2))
    if scene.camera is not None and scene.size is not None:
        centre = np.array([scene.size[1] / 2, scene.size[0] / 2, 1])
        step = scene.camera[1 : len(shift)] @ np.linalg.inv(scene.camera[: len(shift) - 1])
        shift[1 : len(step) + 1] = (step @ centre - centre)[:, :2]
    order = np.lexsort((tracks.frame, tracks.track_id))
    before, after = order[:-1], order[1:]
    goes_on = (tracks.track_id[before] == tracks.track_id[after]) & (tracks.frame[before] + 1 == tracks.frame[after])
    before, after = before[goes_on], after[goes_on]
    boxes = tracks.xyxy.astype(np.float64)
    moved = (boxes[after] - boxes[before]).reshape(-1, 2, 2).mean(axis=1)
    order = np.argsort(tracks.frame[after], kind="stable")
    frames, start, count = np.unique(tracks.frame[after][order], return_index=True, return_counts=True)
    for frame, low, many in zip(frames.tolist(), start.tolist(), count.tolist(), strict=True):
        if many >= MIN_CROWD:
            shift[frame] = np.median(moved[order[low : low + many]], axis=0)
    return np.cumsum(shift, axis=0)


def camera_path(motion: Iterable[NDArray[np.float64] | None]) -> NDArray[np.float64]:
    """`VideoContext.camera` from each frame's motion since the one before: `(2, 3)`, `(3, 3)`, or None."""
    path = [np.eye(3)]
    for step in motion:
        whole = np.eye(3)
        if step is not None:
            whole[: len(step)] = step
        path.append(whole @ path[-1])
    return np.stack(path[1:]) if len(path) > 1 else np.zeros((0, 3, 3))


# --- evidence ---------------------------------------------------------------------------------------------------------


def candidates(
    tracklets: Tracklets, scene: VideoContext, horizon_seconds: float = HORIZON_SECONDS
) -> NDArray[np.int64]:
    """`(P, 2)` rows of tracks of which the second may go on with the first: of one class, and in view of one place (see
    `VideoContext.places`), it begins after the first ended, at most `horizon_seconds` later.

    Where that gives more than `MAX_PAIRS`, the horizon is halved until it does not.
    """
    order = np.argsort(tracklets.first, kind="stable")
    first = tracklets.first[order]
    horizon = round(horizon_seconds * scene.frame_rate)
    while True:
        low = np.searchsorted(first, tracklets.last, side="right")
        many = np.searchsorted(first, tracklets.last + horizon, side="right") - low
        if many.sum() <= MAX_PAIRS or horizon <= 1:
            break
        horizon //= 2
    before = np.repeat(np.arange(len(tracklets)), many)
    step = np.arange(len(before)) - np.repeat(np.cumsum(many) - many, many)
    pairs = np.stack([before, order[low[before] + step]], axis=1)
    at_end, at_beginning = _places(tracklets, pairs, scene)
    fits = (np.diff(tracklets.class_id[pairs], axis=1)[:, 0] == 0) & (at_end == at_beginning)
    return np.asarray(pairs[fits], np.int64)


def _places(
    tracklets: Tracklets, pairs: NDArray[np.int64], scene: VideoContext
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`(P,)` each: the place in view where the first of each pair ends, and where the second begins."""
    cuts = np.sort(np.asarray(scene.cuts, np.int64))
    place = np.asarray(scene.places or range(len(cuts) + 1), np.int64)
    at_end = np.searchsorted(cuts, tracklets.last[pairs[:, 0]], side="right")
    return place[at_end], place[np.searchsorted(cuts, tracklets.first[pairs[:, 1]], side="right")]


def evidence(
    tracklets: Tracklets, pairs: NDArray[np.int64], scene: VideoContext, crowd: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """What speaks for and against each pair, `(P,)` by name; distances are in sizes, roots of the box's area."""
    a, b = pairs.T
    first, last = tracklets.first[b], tracklets.last[a]
    seconds = (first - last) / scene.frame_rate
    end, beginning = tracklets.end[a], tracklets.beginning[b]
    border_end, leaves = _border(end, tracklets.velocity[a, 1], scene.size)
    border_beginning, comes = _border(beginning, -tracklets.velocity[b, 0], scene.size)
    offset = beginning[:, :2] - end[:, :2]
    with_crowd = offset - (crowd[first] - crowd[last])
    size = np.exp((end[:, 2:] + beginning[:, 2:]).sum(axis=1) / 4)
    grown = beginning[:, 3] - end[:, 3]
    if scene.camera is not None:
        motion = scene.camera[first] @ np.linalg.inv(scene.camera[last])
        moved = np.einsum("pij,pj->pi", motion[:, :2, :2], end[:, :2]) + motion[:, :2, 2]
        offset = beginning[:, :2] - moved
        grown = grown - 0.5 * np.log(np.maximum(np.abs(np.linalg.det(motion[:, :2, :2])), 1e-9))
    coasting = COASTING_SECONDS * (1 - np.exp(-seconds / COASTING_SECONDS))
    from_motion = offset - tracklets.velocity[[a, b], [[1], [0]]].mean(axis=0) * coasting[:, None]
    soon, both = np.exp(-seconds), border_end * border_beginning
    return {
        "log_distance": np.log1p(np.hypot(*offset.T) / size),
        "log_crowd_distance": np.log1p(np.hypot(*with_crowd.T) / size),
        "log_damped": np.log1p(np.hypot(*from_motion.T) / size),
        "height": np.abs(grown) / (np.abs(grown) + 0.1),
        "log_gap": np.log(seconds),
        "gap": seconds / HORIZON_SECONDS,
        "soon": soon,
        "border_end": border_end,
        "border_beginning": border_beginning,
        "border_both": both,
        "soon_border": soon * both,
        "leaves": border_end * leaves,
        "crosses": both * (leaves + comes),
        "shortest": np.minimum(np.log(np.minimum(tracklets.count[a], tracklets.count[b])), 2.5),
    }


def is_near(found: Mapping[str, NDArray[np.float64]]) -> NDArray[np.bool_]:
    """`(P,)` which pairs lie within `REACH`, as the camera or the crowd saw it."""
    distance = np.expm1(np.minimum(found["log_distance"], found["log_crowd_distance"]))
    return np.asarray(distance <= REACH * (0.3 + found["gap"] * HORIZON_SECONDS))


def evidence_of_scorer(
    found: Mapping[str, NDArray[np.float64]], margins: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """What a learned scorer adds."""
    forwards, backwards = np.clip(margins.T.astype(np.float64), -10, 10) / 5
    lower = np.minimum(forwards, backwards)
    return {"forwards": forwards, "backwards": backwards, "border_lower": found["border_both"] * lower}


def _border(
    boxes: NDArray[np.float64], velocity: NDArray[np.float64], size: tuple[int, int] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`(P,)` 1 for a box at the border, 0 from its width or height inside; and its velocity towards that border in
    sizes per second, saturated to (−1, 1). Both 0 without a size."""
    if size is None:
        return np.zeros(len(boxes)), np.zeros(len(boxes))
    sides = np.exp(boxes[:, 2:])
    low = (boxes[:, :2] - sides / 2) / sides
    inside = np.concatenate([low, np.array(size[::-1]) / sides - 1 - low], axis=1)
    nearest = inside.argmin(axis=1)
    towards = np.concatenate([-velocity, velocity], axis=1)[np.arange(len(boxes)), nearest]
    towards = towards / np.sqrt(sides.prod(axis=1))
    return 1 - np.clip(inside.min(axis=1), 0, 1), towards / (np.abs(towards) + 0.5)


def log_odds(weights: Mapping[str, float], found: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """`(P,)` weighted sum of the evidence; `bias` is the constant."""
    total = np.full(len(found["gap"]), weights["bias"])
    for name, weight in weights.items():
        if name != "bias":
            total += weight * found[name]
    return total


def against_rivals(
    pairs: NDArray[np.int64], logits: NDArray[np.float64], count: int, weights: Sequence[float]
) -> NDArray[np.float64]:
    """`(P,)` log-odds that know how well the best other beginning fits the same end, and the best other end."""
    own, by_end, by_beginning, bias = weights
    total = own * logits + bias
    for column, weight in ((0, by_end), (1, by_beginning)):
        total += weight * np.logaddexp(0, np.clip(_best_other(pairs[:, column], logits, count), -30, 30))
    return total


def _best_other(group: NDArray[np.int64], values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """`(P,)` the largest value among the other members of each one's group; −30 where there is none."""
    order = np.lexsort((-values, group))
    sorted_group = group[order]
    is_best = np.r_[True, sorted_group[1:] != sorted_group[:-1]][: len(group)]
    is_second = np.r_[False, is_best[:-1]][: len(group)] & ~is_best
    best, second = np.full(count, -30.0), np.full(count, -30.0)
    best[sorted_group[is_best]] = values[order][is_best]
    second[sorted_group[is_second]] = values[order][is_second]
    is_own = np.zeros(len(group), np.bool_)
    is_own[order[is_best]] = True
    return np.where(is_own, second[group], best[group])


# --- appearance -------------------------------------------------------------------------------------------------------


class TrackAppearance:
    """The mean appearance of both halves of a track, in bounded memory while it grows."""

    def __init__(self) -> None:
        self._width = 1  # views per part
        self._counts: list[int] = []
        self._sums: list[NDArray[np.float32]] = []

    def add(self, vector: NDArray[np.float32]) -> None:
        """Takes one more view, a unit vector; views come in the order of time."""
        if self._counts and self._counts[-1] < self._width:
            self._counts[-1] += 1
            self._sums[-1] = self._sums[-1] + vector
            return
        self._counts.append(1)
        self._sums.append(np.asarray(vector, np.float32))
        if len(self._counts) > APPEARANCE_PARTS:  # neighbours join
            self._width *= 2
            self._counts = [sum(self._counts[k : k + 2]) for k in range(0, len(self._counts), 2)]
            self._sums = [np.sum(self._sums[k : k + 2], axis=0) for k in range(0, len(self._sums), 2)]

    def halves(self) -> NDArray[np.float32]:
        """`(2, E)` unit vectors; both the same after a single view."""
        half = np.cumsum(self._counts) <= sum(self._counts) / 2
        sums = np.stack(self._sums)
        both = np.stack([sums[half].sum(axis=0), sums[~half].sum(axis=0)]) if half.any() else np.stack([sums[0]] * 2)
        return np.asarray(both / np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-9), np.float32)


class Likeness(NamedTuple):
    """Log-odds by the cosine of two tracks' appearance: 0 at `middle`, rising by `slope`."""

    slope: float
    middle: float

    def log_odds(self, cosine: NDArray[np.floating]) -> NDArray[np.float64]:
        """Between −`MAX_LIKENESS` and `MAX_LIKENESS`."""
        return np.clip(self.slope * (np.asarray(cosine, np.float64) - self.middle), -MAX_LIKENESS, MAX_LIKENESS)


def likeness(tracklets: Tracklets, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> Likeness:
    """How much a cosine says in this video.

    The cosine of two views of one thing, or of two things, depends on the descriptor and on the things. Both are
    measured here: the halves of a track show one thing, tracks that are seen at once two. With equal spread of both,
    the log-odds are a line.

    Args:
        tracklets: all tracks.
        rows: `(A,)` of those with an appearance.
        vectors: `(A, 2, E)` of their halves.
    """
    same = np.einsum("ae,ae->a", vectors[:, 0], vectors[:, 1])[tracklets.count[rows] > 1]
    at_once = tracklets.first[rows] <= tracklets.last[rows][:, None]
    at_once &= at_once.T
    np.fill_diagonal(at_once, False)
    other = (vectors[:, 1] @ vectors[:, 0].T)[at_once]
    means, deviation, weight = [], PRIOR_TRACKS * SPREAD**2, PRIOR_TRACKS
    for cosines, prior in ((same, SIMILAR), (other, OTHER)):
        means.append((cosines.sum() + PRIOR_TRACKS * prior) / (len(cosines) + PRIOR_TRACKS))
        share = min(1.0, len(same) / max(1, len(cosines)))  # as much as the halves: pairs are far more
        deviation += share * ((cosines - means[-1]) ** 2).sum()
        weight += share * len(cosines)
    gap = max(float(means[0] - means[1]), 0.0)
    return Likeness(LESS_ALIKE * gap / max(float(deviation / weight), 0.02**2), float(means[0] + means[1]) / 2)


def with_appearance(
    tracklets: Tracklets, pairs: NDArray[np.int64], logits: NDArray[np.float64], scene: VideoContext
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Adds what appearance says, and the pairs of which it alone says anything: over a long gap, a cut, from far."""
    rows = np.array([row for row, track in enumerate(tracklets.ids.tolist()) if track in scene.appearance], np.int64)
    if len(rows) < 2:
        return pairs, logits
    vectors = np.stack([scene.appearance[track] for track in tracklets.ids[rows].tolist()])
    odds = likeness(tracklets, rows, vectors).log_odds(vectors[:, 1] @ vectors[:, 0].T)
    at = np.full(len(tracklets), -1)
    at[rows] = np.arange(len(rows))
    known = (at[pairs] >= 0).all(axis=1)
    logits = logits.copy()
    logits[known] += odds[at[pairs[known, 0]], at[pairs[known, 1]]]
    follows = tracklets.first[rows] > tracklets.last[rows][:, None]
    follows &= tracklets.class_id[rows] == tracklets.class_id[rows][:, None]
    a, b = np.nonzero(follows & (odds > 0))
    far = np.stack([rows[a], rows[b]], axis=1)
    is_far = _apart(tracklets, far, scene)
    far, alone = far[is_far], APPEARANCE_ALONE + odds[a, b][is_far]
    return np.concatenate([pairs, far]), np.concatenate([logits, alone])


def _apart(tracklets: Tracklets, pairs: NDArray[np.int64], scene: VideoContext) -> NDArray[np.bool_]:
    """Which pairs a longer gap than `HORIZON_SECONDS` or a cut lies between: their boxes say nothing."""
    gap = tracklets.first[pairs[:, 1]] - tracklets.last[pairs[:, 0]]
    at_end, at_beginning = _places(tracklets, pairs, scene)
    return np.asarray((gap > round(HORIZON_SECONDS * scene.frame_rate)) | (at_end != at_beginning))


# --- choice -----------------------------------------------------------------------------------------------------------


def best_links(pairs: NDArray[np.int64], gains: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows of the pairs that are linked: the largest sum of gains, none of them below 0, each end and each beginning
    once. Parts of the graph that share no track are solved apart, so memory follows the largest of them.

    >>> best_links(np.array([[0, 2], [1, 2], [1, 3]]), np.array([3.0, 2.0, 1.5])).tolist()
    [0, 2]
    """
    rows = np.flatnonzero(gains > 0).astype(np.int64)
    if not len(rows):
        return rows
    from scipy.sparse import coo_array  # slow to import, and without a candidate not needed
    from scipy.sparse.csgraph import connected_components

    ends, end = np.unique(pairs[rows, 0], return_inverse=True)
    beginnings, beginning = np.unique(pairs[rows, 1], return_inverse=True)
    nodes = len(ends) + len(beginnings)
    graph = coo_array((np.ones(len(rows)), (end, len(ends) + beginning)), shape=(nodes, nodes))
    _, part = connected_components(graph, directed=False)
    chosen = []
    order = np.argsort(part[end], kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(part[end][order])) + 1):
        _, e = np.unique(end[group], return_inverse=True)
        _, b = np.unique(beginning[group], return_inverse=True)
        gain = np.zeros((e.max() + 1, b.max() + 1))
        row_of = np.full(gain.shape, -1)
        gain[e, b], row_of[e, b] = gains[rows[group]], rows[group]
        linked = row_of[linear_sum_assignment(gain, maximize=True)]
        chosen.append(linked[linked >= 0])
    return np.sort(np.concatenate(chosen))
