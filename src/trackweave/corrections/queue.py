"""What to ask next: where an answer is expected to repair most boxes.

The doubt of a segment (1 − the probability of the label that it has) times the boxes that share its fate: its own, and
those of the track on both sides as far as the links are sure and no person said anything. So long tracks are asked
about first, each once more after an encounter, and between a right and a wrong name questions halve what is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import njit
from trackweave.corrections.constraints import Constraints
from trackweave.corrections.decision import UNLABELLED, Decision
from trackweave.corrections.doubt import Links
from trackweave.structures.corrections import Observation
from trackweave.structures.tracks import Tracks

MOST_CANDIDATES = 6
LEAST_REPAIR = 0.05
"""Boxes: less is not asked about."""
CONTRADICTED = 0.1
"""An answer is asked anew where it is a mistake with so much probability, by the others."""
SAME_FATE = 0.5
"""Segments of one track that share their fate by so much are one question."""


@dataclass(frozen=True)
class Candidate:
    """Who an observation may be.

    Attributes:
        track_id: of the object.
        name: what a person called it, or None.
        probability: that it is this one.
        before, after: where it is seen next to the question, in time; None = nowhere.
    """

    track_id: int
    name: str | None
    probability: float
    before: Observation | None
    after: Observation | None


@dataclass(frozen=True)
class Question:
    """Who is this?

    Attributes:
        at: the observation that is asked about, after an encounter where it overlaps others least.
        xyxy: its box in pixels.
        track_id: id that it has now; −1 = it is left out.
        name: of that object, or None.
        doubt: probability that this is wrong.
        repair: boxes that an answer is expected to repair.
        first, last: frames that the answer is likely to hold for.
        contradicted: a person named it, and the other answers speak against that: it is asked anew.
        candidates: the likeliest first, by the other answers; the person may name another.
    """

    at: Observation
    xyxy: tuple[float, float, float, float]
    track_id: int
    name: str | None
    doubt: float
    repair: float
    first: int
    last: int
    contradicted: bool
    candidates: tuple[Candidate, ...]

    def to_json(self) -> dict[str, object]:
        """As JSON values; an observation is `[frame, item]`."""
        return {
            "at": list(self.at),
            "box": [round(side, 2) for side in self.xyxy],
            "track_id": self.track_id,
            "name": self.name,
            "doubt": round(self.doubt, 4),
            "repair": round(self.repair, 2),
            "frames": [self.first, self.last],
            "contradicted": self.contradicted,
            "candidates": [
                {
                    "track_id": one.track_id,
                    "name": one.name,
                    "probability": round(one.probability, 4),
                    "before": None if one.before is None else list(one.before),
                    "after": None if one.after is None else list(one.after),
                }
                for one in self.candidates
            ],
        }


def expected_repair(decision: Decision, asked: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`(S,)` doubt of each segment, and the boxes that an answer about it is expected to repair.

    A segment that a person named is doubtful where the answer contradicts the others.

    Args:
        decision: the latest.
        asked: `(N,)` observations that need not be asked about again.
    """
    count, labels = len(decision.own), decision.posterior.shape[1] - 1
    boxes = np.diff(decision.starts).astype(np.float64)
    kept = np.where(decision.doubt >= 1, 0.0, 1 - np.minimum(1, 2 * decision.doubt))
    own = np.where(decision.own < 0, labels, decision.own)
    sure = decision.posterior[np.arange(count), own]
    # Of a track that nobody named it is not known whether it is all of an object.
    sure = np.where(decision.own < 0, np.minimum(sure, UNLABELLED), sure)
    answered = decision.given.copy()
    answered[decision.segment[asked]] = True
    doubt = np.where(answered, 0.0, 1 - sure)
    answers = decision.answers
    again = ~asked[answers.rows] & (answers.mistaken >= CONTRADICTED)
    np.maximum.at(doubt, decision.segment[answers.rows[again]], answers.mistaken[again])
    return doubt, doubt * (boxes + neighbouring_boxes(boxes, kept, decision.given))


@njit
def neighbouring_boxes(
    boxes: NDArray[np.float64], kept: NDArray[np.float64], given: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """`(S,)` boxes that share the fate of each segment, on both sides, as far as nobody said who they are.

    Args:
        boxes: `(S,)` of each segment.
        kept: `(S,)` how surely a segment shares the fate of the one before; 0 where a track begins.
        given: `(S,)` a person said who it is.
    """
    count = len(boxes)
    left, right = np.zeros(count), np.zeros(count)
    for s in range(1, count):
        if kept[s] > 0 and not given[s - 1]:
            left[s] = kept[s] * (boxes[s - 1] + left[s - 1])
    for s in range(count - 2, -1, -1):
        if kept[s + 1] > 0 and not given[s + 1]:
            right[s] = kept[s + 1] * (boxes[s + 1] + right[s + 1])
    return left + right


def questions(
    tracks: Tracks,
    item: NDArray[np.int64],
    links: Links,
    known: Constraints,
    decision: Decision,
    *,
    count: int = 10,
    asked: NDArray[np.bool_] | None = None,
) -> list[Question]:
    """The next questions, that of the largest expected repair first; one for each encounter.

    Args:
        tracks: N observations.
        item: `(N,)` what acts call each on its frame; −1: it cannot be asked about.
        links: into each.
        known: what was said.
        decision: what was decided.
        count: how many at most.
        asked: `(N,)` observations that were asked about without an answer; their segments are not asked about again.
    """
    doubt, repair = expected_repair(decision, np.zeros(len(item), np.bool_) if asked is None else asked)
    found: list[Question] = []
    taken = np.zeros(len(repair), np.bool_)
    for segment in np.argsort(-repair, kind="stable").tolist():
        if len(found) == count or repair[segment] < LEAST_REPAIR:
            break
        rows = decision.order[decision.starts[segment] : decision.starts[segment + 1]]
        rows = rows[item[rows] >= 0]
        if taken[segment] or not len(rows):
            continue
        first, last = _fate(decision, segment)
        taken[first : last + 1] = True
        found.append(_question(tracks, item, links, known, decision, rows, (segment, first, last), doubt, repair))
    return found


def _fate(decision: Decision, segment: int) -> tuple[int, int]:
    """First and last segment of the track that likely share this one's label."""
    kept = np.where(decision.doubt >= 1, 0.0, 1 - np.minimum(1, 2 * decision.doubt))
    first = last = segment
    share = 1.0
    while first > 0 and share * kept[first] > SAME_FATE and not decision.given[first - 1]:
        share *= kept[first]
        first -= 1
    share = 1.0
    while last + 1 < len(kept) and share * kept[last + 1] > SAME_FATE and not decision.given[last + 1]:
        last += 1
        share *= kept[last]
    return first, last


def row_to_ask(decision: Decision, links: Links, segment: int, rows: NDArray[np.int64]) -> tuple[int, int]:
    """The observation of a segment that is asked about, and which answer is asked anew; −1 = none was given.

    Of several answers it is the one that contradicts the rest most; else, of the observations that overlap others
    least, the middle one.

    Args:
        decision: the latest.
        links: into each observation.
        segment: one that is doubtful.
        rows: its observations that can be asked about.
    """
    if decision.given[segment]:
        answers = np.flatnonzero(decision.segment[decision.answers.rows] == segment)
        number = int(answers[np.argmax(decision.answers.mistaken[answers])])
        return int(decision.answers.rows[number]), number
    overlap = np.round(links.overlap[rows], 1)
    best = np.flatnonzero(overlap == overlap.min())
    return int(rows[best[np.argmin(np.abs(best - len(rows) // 2))]]), -1


def _question(
    tracks: Tracks,
    item: NDArray[np.int64],
    links: Links,
    known: Constraints,
    decision: Decision,
    rows: NDArray[np.int64],
    span: tuple[int, int, int],
    doubt: NDArray[np.float64],
    repair: NDArray[np.float64],
) -> Question:
    segment, first, last = span
    row, again = row_to_ask(decision, links, segment, rows)
    own = int(decision.own[segment])
    frames = tracks.frame[decision.order[[decision.starts[first], decision.starts[last + 1] - 1]]]
    chances = (decision.posterior[segment] if again < 0 else decision.answers.posterior[again])[:-1]
    likeliest = np.argsort(-chances, kind="stable")[:MOST_CANDIDATES]
    x1, y1, x2, y2 = tracks.xyxy[row].tolist()
    return Question(
        _observation(tracks, item, row),
        (x1, y1, x2, y2),
        int(decision.track_id[row]),
        None if own < 0 else known.names[own],
        float(doubt[segment]),
        float(repair[segment]),
        int(frames[0]),
        int(frames[1]),
        again >= 0,
        tuple(
            _candidate(tracks, item, known, decision, label, row, float(chances[label]))
            for label in likeliest.tolist()
            if not known.nobody[label]
        ),
    )


def _observation(tracks: Tracks, item: NDArray[np.int64], row: int) -> Observation:
    return Observation(int(tracks.frame[row]), int(item[row]))


def _candidate(
    tracks: Tracks,
    item: NDArray[np.int64],
    known: Constraints,
    decision: Decision,
    label: int,
    row: int,
    probability: float,
) -> Candidate:
    """With its observations next to the question: those that a person named, else those it was given."""
    there = np.flatnonzero((known.label == label) & (item >= 0))
    frame = tracks.frame[row]
    before, after = there[tracks.frame[there] < frame], there[tracks.frame[there] > frame]
    return Candidate(
        int(decision.label_ids[label]),
        known.names[label],
        probability,
        _observation(tracks, item, int(before[-1])) if len(before) else None,
        _observation(tracks, item, int(after[0])) if len(after) else None,
    )
