"""What to look at in a run of masks: where a mask is likely wrong, and which links of identities are doubtful.

A mask moves away from its prompt frame, one frame at a time, and what goes wrong stays wrong. So each step outward has
a probability that it goes wrong there, read from what the run stores; the doubt of a mask is that any step to it did. A
question is worth its doubt times the masks of the track from there outward: those that a new prompt would mend.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from trackweave.structures.columns import Columns
from trackweave.structures.corrections import Observation
from trackweave.structures.identity import IdentityLink

FEATURES = ("area_jump", "box_jump", "unsure")
WEIGHTS = (-7.3, 2.9, 3.5, 1.7)
"""Of a constant and `FEATURES`; see `benchmarks/mask_doubt.py`."""
LEAST_REPAIR = 0.001
"""Masks: less is not asked about."""
SURE_LINK = 0.9
"""Score from which a link of identities is not asked about."""


@dataclass(frozen=True, eq=False)
class MaskObservations(Columns):
    """N masks of raw tracks without their pixels, ordered by track, then frame.

    Attributes:
        frame: `(N,)` int64 absolute index.
        track: `(N,)` int64 raw track.
        level: `(N,)` int64.
        xyxy: `(N, 4)` float32 in pixels of the frame.
        score: `(N,)` float32 objectness.
        area: `(N,)` int64 pixels of the stored mask.
    """

    SHARED: ClassVar[tuple[str, ...]] = ()

    frame: NDArray[np.int64]
    track: NDArray[np.int64]
    level: NDArray[np.int64]
    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    area: NDArray[np.int64]

    @classmethod
    def empty(cls) -> MaskObservations:
        """No mask."""
        none = np.zeros(0, np.int64)
        return cls(none, none, none, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), none)


@dataclass(frozen=True)
class MaskQuestion:
    """Is this mask right; or are these two masks one thing?

    Attributes:
        kind: `mask` or `link`.
        at: the mask that is asked about.
        other: of a link, the other one on that frame.
        xyxy: its box in pixels.
        track_id: object that it belongs to now.
        name: what a person called it, or None.
        doubt: probability that it is wrong.
        repair: masks that an answer is expected to repair.
        first, last: frames that the answer is likely to hold for.
        evidence: what speaks against it, by name; None = the run does not store it.
    """

    kind: Literal["mask", "link"]
    at: Observation
    other: Observation | None
    xyxy: tuple[float, float, float, float]
    track_id: int
    name: str | None
    doubt: float
    repair: float
    first: int
    last: int
    evidence: Mapping[str, float | None]

    def to_json(self) -> dict[str, object]:
        """As JSON values; an observation is `[frame, item]`."""
        return {
            "kind": self.kind,
            "at": list(self.at),
            "other": None if self.other is None else list(self.other),
            "box": [round(side, 2) for side in self.xyxy],
            "track_id": self.track_id,
            "name": self.name,
            "doubt": round(self.doubt, 4),
            "repair": round(self.repair, 2),
            "frames": [self.first, self.last],
            "evidence": {key: None if value is None else round(value, 4) for key, value in self.evidence.items()},
            "candidates": [],
        }


@dataclass(frozen=True, eq=False)
class MaskDoubt:
    """How doubtful each of N masks is.

    Attributes:
        features: `(N, F)` of the step into it from the side of its prompt, see `FEATURES`.
        step: `(N,)` probability that it went wrong in that step.
        doubt: `(N,)` probability that it is wrong.
    """

    features: NDArray[np.float64]
    step: NDArray[np.float64]
    doubt: NDArray[np.float64]


def mask_features(masks: MaskObservations, prompt_frames: Mapping[int, int]) -> NDArray[np.float64]:
    """`(N, F)` of the step into each mask from the side of the frame on which its track was prompted.

    Args:
        masks: ordered by track, then frame.
        prompt_frames: of each track; one that is not known counts as prompted where it begins.
    """
    inward = _inward(masks, prompt_frames)
    features = np.zeros((len(masks), len(FEATURES)))
    features[:, 2] = 1 - np.clip(masks.score.astype(np.float64), 0, 1)
    rows = np.flatnonzero(inward >= 0)
    area = np.maximum(masks.area.astype(np.float64), 1)
    features[rows, 0] = np.minimum(np.abs(np.log(area[rows] / area[inward[rows]])), 3)
    one, other = masks.xyxy[rows].astype(np.float64), masks.xyxy[inward[rows]].astype(np.float64)
    inside = np.maximum(np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2]), 0).prod(axis=1)
    both = (one[:, 2:] - one[:, :2]).prod(axis=1) + (other[:, 2:] - other[:, :2]).prod(axis=1) - inside
    features[rows, 1] = 1 - inside / np.maximum(both, 1e-9)
    return features


def _inward(masks: MaskObservations, prompt_frames: Mapping[int, int]) -> NDArray[np.int64]:
    """`(N,)` row of the mask that each was moved from; −1 of the one that was prompted, or the first."""
    rows = np.arange(len(masks))
    begins = np.flatnonzero(np.diff(masks.track, prepend=-1))
    starts = np.array([prompt_frames.get(int(masks.track[row]), int(masks.frame[row])) for row in begins], np.int64)
    prompted = np.repeat(starts, np.diff([*begins, len(masks)]))
    behind, ahead = rows - 1, rows + 1
    inward = np.where(masks.frame > prompted, behind, np.where(masks.frame < prompted, ahead, -1))
    valid = (inward >= 0) & (inward < len(masks))
    valid[valid] = masks.track[inward[valid]] == masks.track[valid]
    return np.where(valid, inward, -1)


def mask_doubt(
    masks: MaskObservations,
    prompt_frames: Mapping[int, int],
    right: NDArray[np.bool_],
    weights: Sequence[float] = WEIGHTS,
) -> MaskDoubt:
    """How doubtful each mask is.

    Args:
        masks: ordered by track, then frame.
        prompt_frames: of each track.
        right: `(N,)` a person said so: what lies between such a mask and the prompt frame is right, too.
        weights: other ones than `WEIGHTS`.
    """
    features = mask_features(masks, prompt_frames)
    constant, *factors = weights
    step = 1 / (1 + np.exp(-np.clip(constant + features @ np.array(factors), -30, 30)))
    inward = _inward(masks, prompt_frames)
    step[inward < 0] = 0
    sure = -np.log1p(-np.minimum(step, 1 - 1e-9))
    doubt = np.zeros(len(masks))
    rows = np.arange(len(masks))
    for outward in (rows[inward == rows - 1], rows[inward == rows + 1][::-1]):
        if not len(outward):
            continue
        begins = np.diff(masks.track[outward], prepend=-1) != 0
        group = np.cumsum(begins) - 1
        total = np.cumsum(sure[outward])
        total -= (total - sure[outward])[begins][group]
        # What a person called right was right on the way to it, and from there on it is counted anew.
        known = np.zeros(group[-1] + 1)
        np.maximum.at(known, group[right[outward]], total[right[outward]])
        doubt[outward] = -np.expm1(-np.maximum(total - known[group], 0))
    return MaskDoubt(features, step, doubt)


def mask_questions(
    masks: MaskObservations,
    objects: NDArray[np.int64],
    doubt: MaskDoubt,
    *,
    prompt_frames: Mapping[int, int],
    names: Mapping[int, str],
    links: Iterable[IdentityLink] = (),
    settled: Collection[tuple[int, int]] = (),
    closed: NDArray[np.bool_] | None = None,
    count: int = 10,
) -> list[MaskQuestion]:
    """The next questions, that of the largest expected repair first; one for each direction of a track, and one a link.

    Args:
        masks: ordered by track, then frame.
        objects: `(N,)` object of each; −1 = left out.
        doubt: how doubtful each is.
        prompt_frames: of each track.
        names: of the objects.
        links: of the identities.
        settled: pairs of tracks that a person spoke of, the smaller id first.
        closed: `(N,)` masks that are not asked about: accepted, or asked about already.
        count: how many at most.
    """
    open_rows = objects >= 0 if closed is None else (objects >= 0) & ~closed
    weakest = _weakest_links(links)
    found = _mask_questions(masks, objects, doubt, prompt_frames, names, open_rows, weakest)
    found += _link_questions(masks, objects, names, open_rows, links, settled)
    found = [one for one in found if one.repair >= LEAST_REPAIR]
    return sorted(found, key=lambda one: (-one.repair, one.at))[:count]


def _weakest_links(links: Iterable[IdentityLink]) -> dict[int, float]:
    """The score of each track's weakest link."""
    weakest: dict[int, float] = {}
    for link in links:
        for track in (link.a, link.b):
            weakest[track] = min(weakest.get(track, 1.0), link.score)
    return weakest


def _mask_questions(
    masks: MaskObservations,
    objects: NDArray[np.int64],
    doubt: MaskDoubt,
    prompt_frames: Mapping[int, int],
    names: Mapping[int, str],
    open_rows: NDArray[np.bool_],
    weakest: Mapping[int, float],
) -> list[MaskQuestion]:
    found = []
    edges = [*np.flatnonzero(np.diff(masks.track, prepend=-1)).tolist(), len(masks)]
    for start, stop in pairwise(edges):
        track = int(masks.track[start])
        prompted = prompt_frames.get(track, int(masks.frame[start]))
        turn = start + int(np.searchsorted(masks.frame[start:stop], prompted))
        sides = [np.arange(turn, stop)[masks.frame[turn:stop] > prompted], np.arange(turn - 1, start - 1, -1)]
        for rows in sides:
            rows = rows[open_rows[rows]]
            if not len(rows):
                continue
            repair = doubt.doubt[rows] * np.arange(len(rows), 0, -1)
            best = int(np.argmax(repair))
            row = int(rows[best])
            evidence: dict[str, float | None] = dict(zip(FEATURES, doubt.features[row].tolist(), strict=True))
            evidence |= {"link": weakest.get(track), "disagreement": None}
            low, high = sorted((int(masks.frame[row]), int(masks.frame[rows[-1]])))
            found.append(
                MaskQuestion(
                    "mask", _observation(masks, row), None, _box(masks, row), int(objects[row]),
                    names.get(int(objects[row])), float(doubt.doubt[row]), float(repair[best]), low, high, evidence,
                )
            )  # fmt: skip
    return found


def _link_questions(
    masks: MaskObservations,
    objects: NDArray[np.int64],
    names: Mapping[int, str],
    open_rows: NDArray[np.bool_],
    links: Iterable[IdentityLink],
    settled: Collection[tuple[int, int]],
) -> list[MaskQuestion]:
    found = []
    for link in links:
        if link.score >= SURE_LINK or (link.a, link.b) in settled:
            continue
        own = {track: np.flatnonzero((masks.track == track) & open_rows) for track in (link.a, link.b)}
        shared, one, other = np.intersect1d(
            masks.frame[own[link.a]], masks.frame[own[link.b]], assume_unique=True, return_indices=True
        )
        same = objects[own[link.a][one]] == objects[own[link.b][other]]
        if not same.any():
            continue
        middle = int(np.flatnonzero(same)[same.sum() // 2])
        row, partner = int(own[link.a][one[middle]]), int(own[link.b][other[middle]])
        doubt = 1 - link.score
        evidence: dict[str, float | None] = {**dict.fromkeys(FEATURES), "link": link.score, "disagreement": None}
        found.append(
            MaskQuestion(
                "link", _observation(masks, row), _observation(masks, partner), _box(masks, row), int(objects[row]),
                names.get(int(objects[row])), doubt, doubt * min(map(len, own.values())), int(shared[0]),
                int(shared[-1]), evidence,
            )
        )  # fmt: skip
    return found


def _observation(masks: MaskObservations, row: int) -> Observation:
    return Observation(int(masks.frame[row]), int(masks.track[row]))


def _box(masks: MaskObservations, row: int) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = masks.xyxy[row].tolist()
    return x1, y1, x2, y2
