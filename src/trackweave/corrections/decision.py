"""Who is who, decided again under what a person said: identities go along the links of the tracks, both ways in time.

After "identity management" (Shin, Guibas and Zhao, IPSN 2003; Kondor, Howard and Jebara, AISTATS 2007): every track
holds a distribution over the labels that a person gave. A doubtful link mixes it with that of the track with which it
may have been exchanged; an observation that a person labelled makes it sure, and takes the label from all other
tracks. One sweep goes forward, one backward; their product is what is known of each segment, a part of a track without
a doubtful link. Segments take their labels by confidence, no label twice on a frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trackweave.compiled import inner, njit
from trackweave.corrections.constraints import Constraints
from trackweave.corrections.doubt import Links
from trackweave.structures.tracks import Tracks

SMALLEST_DOUBT = 2e-4
"""Less doubtful links are taken as sure."""
SEGMENT_DOUBT = 0.01
"""A segment ends at a link of so much doubt …"""
SEGMENT_ROWS = 60
"""… and after so many observations."""
UNLABELLED = 0.5
"""Share of no label at all, before anything is known."""
MISTAKE = 1e-4
"""Share of what the sweeps hold impossible."""
CANDIDATES = 4
"""Labels that a segment may take, the likeliest first."""
FREE, FORBIDDEN = -1, -2
"""Frames of a label that nothing has, and on which it must not be; others hold the row that is labelled there."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What the rest says about each of A answers that may be a mistake.

    Attributes:
        rows: `(A,)` int64, observations that were named.
        posterior: `(A, L + 1)` float64, probability of each label without that answer; the last one: of none.
        mistaken: `(A,)` float64, probability that the answer is wrong.
    """

    rows: NDArray[np.int64]
    posterior: NDArray[np.float64]
    mistaken: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Decision:
    """What was decided about N observations in S segments.

    Attributes:
        label: `(N,)` int64; −1 = none: the track goes on under its own id.
        track_id: `(N,)` int64, ids after the decision; −1 = left out.
        label_ids: `(L,)` int64, track id of each label.
        order: `(N,)` int64, rows by track, then frame; a segment is a part of it.
        starts: `(S + 1,)` int64, where each segment starts in `order`.
        segment: `(N,)` int64.
        posterior: `(S, L + 1)` float64, probability of each label, the last one: of none.
        doubt: `(S,)` float64, of the link into each segment; 1 where a track begins.
        given: `(S,)` bool, a person labelled an observation of it.
        own: `(S,)` int64, label of each segment.
        answers: which answers contradict the rest.
    """

    label: NDArray[np.int64]
    track_id: NDArray[np.int64]
    label_ids: NDArray[np.int64]
    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    segment: NDArray[np.int64]
    posterior: NDArray[np.float64]
    doubt: NDArray[np.float64]
    given: NDArray[np.bool_]
    own: NDArray[np.int64]
    answers: Answers


def decide(tracks: Tracks, links: Links, known: Constraints) -> Decision:
    """Decides everything that a person did not.

    Observations with one label get one id, `known.apart` two, dropped ones and those of nobody −1. Without acts every
    observation keeps its id.

    Args:
        tracks: N observations, ordered by frame, then track.
        links: into each.
        known: of the same observations.
    """
    chain, count = _chains(tracks, links, known)
    forbidden: list[tuple[int, int, int]] = []
    decision = _decide(tracks, links, known, chain, count, forbidden)
    # An object ends where it is known which one it is: that depends on the decision.
    for _ in known.ended:
        added = _endings(tracks, known, decision)
        if set(added) <= set(forbidden):
            break
        forbidden = sorted({*forbidden, *added})
        decision = _decide(tracks, links, known, chain, count, forbidden)
    return _with_ids(tracks, known, chain, decision)


def _chains(tracks: Tracks, links: Links, known: Constraints) -> tuple[NDArray[np.int64], int]:
    """`(N,)` track of each observation, counted from 0, those that are cut as two; and how many."""
    order = np.lexsort((tracks.frame, tracks.track_id))
    begins = links.previous[order] < 0
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    cuts = [place[row] for row in known.cuts]
    after = [place[row] + 1 for row in known.ended]
    begins[[*cuts, *(row for row in after if row < len(order))]] = True
    chain = np.empty(len(order), np.int64)
    chain[order] = np.cumsum(begins) - 1
    return chain, int(begins.sum())


def _decide(
    tracks: Tracks,
    links: Links,
    known: Constraints,
    chain: NDArray[np.int64],
    chains: int,
    forbidden: list[tuple[int, int, int]],
) -> Decision:
    n, labels = len(tracks), len(known.names)
    order = np.lexsort((tracks.frame, chain))
    first = np.r_[True, chain[order[1:]] != chain[order[:-1]]] if n else np.zeros(0, np.bool_)
    begins = np.zeros(n, np.bool_)
    begins[order] = first
    doubt, mixing = _mixing(links, begins)
    returns = np.zeros(n, np.bool_)
    for ended, _, until in forbidden:
        returns |= (known.label == ended) & (tracks.frame == until + 1)
    starts = _segments(order, first | returns[order], doubt, known.label)
    segment = np.empty(n, np.int64)
    segment[order] = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    partner = np.where(links.partner >= 0, chain[links.partner], -1)
    answered = np.flatnonzero((known.mistaken > 0) & (known.label >= 0))
    answer = np.full(n, -1, np.int64)
    answer[answered] = np.arange(len(answered))
    lifetime = np.zeros((chains, 2), np.int64)
    lifetime[chain[order[first]], 0] = tracks.frame[order[first]]
    np.maximum.at(lifetime[:, 1], chain, tracks.frame)
    sides, heard, claims = [], [], []
    for rows, forward in ((np.arange(n), True), (np.arange(n)[::-1].copy(), False)):
        belief, before = np.zeros((len(starts) - 1, labels + 1)), np.zeros((len(answered), labels + 1))
        claim = np.zeros(len(answered))
        columns = (chain, segment, mixing, partner, known.label, tracks.frame, answer)
        sweep(rows, columns, lifetime, forward, belief, before, claim)
        sides.append(belief)
        heard.append(before)
        claims.append(claim)
    posterior = _posterior(*sides)
    answers = _weighed(answered, _posterior(*heard), np.maximum(*claims), known)
    posterior, given = _as_given(posterior, segment, known.label)
    own = _assign(tracks, known, order, starts, segment, posterior, forbidden)
    label = own[segment]
    said = known.label >= 0
    label[said] = known.label[said]
    into = np.where(begins, 1.0, doubt)[order[starts[:-1]]]
    empty = np.zeros(0, np.int64)
    return Decision(label, empty, empty, order, starts, segment, posterior, into, given, own, answers)


def _mixing(links: Links, begins: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`(N,)` doubt of the link into each observation, of an exchange for both; and the share that is mixed there, of an
    exchange once."""
    doubt = np.where(begins | (links.doubt < SMALLEST_DOUBT), 0, links.doubt)
    rows = np.flatnonzero((doubt > 0) & (links.partner >= 0))
    mutual = rows[(links.partner[links.partner[rows]] == rows) & (links.partner[rows] < rows)]
    mixing = doubt.copy()
    # At the first of the two rows: forward before either is looked at, backward after both.
    mixing[links.partner[mutual]] = np.maximum(doubt[mutual], doubt[links.partner[mutual]])
    mixing[mutual] = 0
    both = doubt.copy()
    np.maximum.at(both, links.partner[rows], doubt[rows])
    return np.where(begins, 0, both), mixing


def _segments(
    order: NDArray[np.int64], first: NDArray[np.bool_], doubt: NDArray[np.float64], label: NDArray[np.int64]
) -> NDArray[np.int64]:
    """`(S + 1,)` where segments start: at doubtful links, after so many rows, and between two labels of a person."""
    cut = first | (doubt[order] >= SEGMENT_DOUBT)
    said = np.flatnonzero(label[order] >= 0)
    for one, other in zip(said[:-1].tolist(), said[1:].tolist(), strict=True):
        if label[order[one]] != label[order[other]] and not cut[one + 1 : other + 1].any():
            cut[one + 1 + int(np.argmax(doubt[order[one + 1 : other + 1]]))] = True
    starts = np.flatnonzero(cut)
    within = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return np.append(np.flatnonzero(within % SEGMENT_ROWS == 0), len(order)).astype(np.int64)


@njit
def sweep(
    rows: NDArray[np.int64],
    columns: tuple[
        NDArray[np.int64],
        NDArray[np.int64],
        NDArray[np.float64],
        NDArray[np.int64],
        NDArray[np.int64],
        NDArray[np.int64],
        NDArray[np.int64],
    ],
    lifetime: NDArray[np.int64],
    forward: bool,
    out: NDArray[np.float64],
    heard: NDArray[np.float64],
    claim: NDArray[np.float64],
) -> None:
    """One sweep over the observations, `rows` in the order of time or against it.

    Args:
        rows: `(N,)`.
        columns: of each observation: its track; its segment; the probability that the link into it is an exchange, or
            a wrong one; the track that it would be exchanged with, −1 = none; the label that a person gave it, −1 =
            none; its frame; which answer that was, −1 = one that is not in question.
        lifetime: `(C, 2)` first and last frame of each track.
        forward: the link into an observation comes before it; otherwise after it.
        out: `(S, L + 1)` what is known of each segment at its last observation in this direction; the last column:
            nothing.
        heard: `(A, L + 1)` what is known of the track of each answer just before it.
        claim: `(A,)` how sure another track that is there has the label of each answer.
    """
    chain, segment, mixing, partner, label, frame, answer = columns
    chains, none = len(lifetime), out.shape[1] - 1
    belief = np.zeros((chains, none + 1))
    for other in range(chains):
        belief[other, none] = 1.0
    for i in rows:
        if forward:
            _mix(belief, chain[i], partner[i], mixing[i])
        if label[i] >= 0:
            number = answer[i]
            if number >= 0:
                for k in range(none + 1):
                    heard[number, k] = belief[chain[i], k]
            for other in range(chains):
                if other == chain[i]:
                    for k in range(none + 1):
                        belief[other, k] = 1.0 if k == label[i] else 0.0
                elif belief[other, label[i]] > 0.0:
                    if number >= 0 and lifetime[other, 0] <= frame[i] <= lifetime[other, 1]:
                        claim[number] = max(claim[number], belief[other, label[i]])
                    _take_away(belief, other, label[i])
        for k in range(none + 1):
            out[segment[i], k] = belief[chain[i], k]
        if not forward:
            _mix(belief, chain[i], partner[i], mixing[i])


@inner
def _take_away(belief: NDArray[np.float64], one: int, label: int) -> None:
    """A track does not have a label: what else it holds is as likely as before, among itself."""
    none = belief.shape[1] - 1
    belief[one, label] = 0.0
    total = 0.0
    for k in range(none + 1):
        total += belief[one, k]
    if total < 1e-12:
        belief[one, none] = 1.0
        total = 1.0
    for k in range(none + 1):
        belief[one, k] /= total


@inner
def _mix(belief: NDArray[np.float64], one: int, other: int, share: float) -> None:
    """Exchanges a share of what two tracks hold; without a second one that share is forgotten."""
    none = belief.shape[1] - 1
    if share <= 0.0 or one == other:
        return
    if other >= 0:
        for k in range(none + 1):
            a, b = belief[one, k], belief[other, k]
            belief[one, k] = (1.0 - share) * a + share * b
            belief[other, k] = (1.0 - share) * b + share * a
    else:
        belief[one, none] += share * (1.0 - belief[one, none])
        for k in range(none):
            belief[one, k] *= 1.0 - share


def _posterior(forward: NDArray[np.float64], backward: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(S, L + 1)` the product of both sweeps; what one does not know is as likely as before anything was known."""
    labels = forward.shape[1] - 1
    prior = np.full(labels + 1, (1 - UNLABELLED) / max(labels, 1))
    prior[labels] = UNLABELLED
    product = np.ones_like(forward)
    for side in (forward, backward):
        spread = side + side[:, labels:] * prior
        spread[:, labels] = side[:, labels] * prior[labels]
        product *= spread + MISTAKE * prior
    product /= prior
    return np.asarray(product / product.sum(axis=1, keepdims=True), np.float64)


def _weighed(
    rows: NDArray[np.int64], posterior: NDArray[np.float64], claim: NDArray[np.float64], known: Constraints
) -> Answers:
    """How likely each answer is a mistake, by what the rest says of its track and of the track that has its label."""
    labels = posterior.shape[1] - 1
    if not len(rows) or not labels:
        return Answers(rows, posterior, np.zeros(len(rows)))
    names = max(int((~known.nobody).sum()), 1)
    unknown = posterior[:, labels] / (names + 1)  # any of them, or one that nobody named yet
    said = posterior[np.arange(len(rows)), known.label[rows]] + unknown
    prior = known.mistaken[rows]
    right = (1 - prior) * said * np.maximum(1 - claim, MISTAKE)
    wrong = prior / names * (1 - said)
    return Answers(rows, posterior, wrong / np.maximum(wrong + right, 1e-300))


def _as_given(
    posterior: NDArray[np.float64], segment: NDArray[np.int64], label: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The same where a person said it; and which segments these are."""
    given = np.zeros(len(posterior), np.bool_)
    said = np.flatnonzero(label >= 0)
    given[segment[said]] = True
    posterior[given] = 0
    posterior[segment[said], label[said]] = 1
    return posterior, given


def _assign(
    tracks: Tracks,
    known: Constraints,
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    segment: NDArray[np.int64],
    posterior: NDArray[np.float64],
    forbidden: list[tuple[int, int, int]],
) -> NDArray[np.int64]:
    """`(S,)` label of each segment, or −1: the surest segments first, no label twice on a frame."""
    labels, count = posterior.shape[1] - 1, len(starts) - 1
    own = np.full(count, -1, np.int64)
    if not labels or not count:
        return own
    low = int(tracks.frame.min())
    frame = tracks.frame - low
    held = np.full((labels, int(frame.max()) + 1), FREE, np.int64)
    for one, first, last in forbidden:
        held[one, first - low : last + 1 - low] = FORBIDDEN
    said = np.flatnonzero(known.label >= 0)
    held[known.label[said], frame[said]] = said
    best = np.argsort(-posterior, axis=1, kind="stable")[:, :CANDIDATES]
    best = np.where(np.cumsum(best == labels, axis=1) > 0, -1, best)  # none is better than what is less likely
    length = np.diff(starts)
    surest = np.argsort(-(posterior.max(axis=1) + 1e-9 * length), kind="stable")
    _take(surest, best, starts, order, frame, held, _apart(known, segment), own)
    return own


def _apart(known: Constraints, segment: NDArray[np.int64]) -> NDArray[np.int64]:
    """`(P, 2)` segments that must not take one label."""
    pairs = np.array([(segment[one], segment[other]) for one, other in known.apart], np.int64).reshape(-1, 2)
    return np.asarray(pairs[pairs[:, 0] != pairs[:, 1]], np.int64)


@njit
def _take(
    surest: NDArray[np.int64],
    best: NDArray[np.int64],
    starts: NDArray[np.int64],
    order: NDArray[np.int64],
    frame: NDArray[np.int64],
    held: NDArray[np.int64],
    apart: NDArray[np.int64],
    own: NDArray[np.int64],
) -> None:
    """Gives each segment in turn the likeliest label that is free on all its frames."""
    for s in surest:
        for k in range(best.shape[1]):
            label = best[s, k]
            if label < 0:
                break
            is_free = True
            for pair in range(len(apart)):
                one, other = apart[pair, 0], apart[pair, 1]
                if (one == s and own[other] == label) or (other == s and own[one] == label):
                    is_free = False
            for m in range(starts[s], starts[s + 1]):
                row = order[m]
                at = held[label, frame[row]]
                if at != FREE and at != row:
                    is_free = False
                    break
            if is_free:
                for m in range(starts[s], starts[s + 1]):
                    held[label, frame[order[m]]] = order[m]
                own[s] = label
                break


def _endings(tracks: Tracks, known: Constraints, decision: Decision) -> list[tuple[int, int, int]]:
    """Label, first and last frame on which it must not be seen, for each ending of a labelled object."""
    last = int(tracks.frame.max())
    found = []
    for row in known.ended:
        label, frame = int(decision.label[row]), int(tracks.frame[row])
        if label >= 0:
            later = tracks.frame[(known.label == label) & (tracks.frame > frame)]
            until = int(later.min()) - 1 if len(later) else last
            if until > frame:
                found.append((label, frame + 1, until))
    return found


def _with_ids(tracks: Tracks, known: Constraints, chain: NDArray[np.int64], decision: Decision) -> Decision:
    """Track ids: a label keeps that of its accepted stretch, else that of the first track it was given to, if no other
    label has it; what is left of such a track, and tracks that were cut, get new ones."""
    label, labels = decision.label, len(known.names)
    taken = {int(one) for one in known.ids if one is not None}
    following = max(int(tracks.track_id.max(initial=0)), *taken, 0) + 1
    ids = np.zeros(labels, np.int64)
    for one in range(labels):
        accepted, own = known.ids[one], int(tracks.track_id[known.firsts[one]])
        if accepted is None and own not in taken:
            accepted = own
        if accepted is None:
            accepted, following = following, following + 1
        taken.add(accepted)
        ids[one] = accepted
    free = label < 0
    track_id = tracks.track_id.copy()
    track_id[~free] = ids[label[~free]]
    claimed = set(taken)
    renamed: dict[int, int] = {}
    rest = np.flatnonzero(free)
    rest = rest[np.argsort(chain[rest], kind="stable")]
    for rows in np.split(rest, np.flatnonzero(np.diff(chain[rest])) + 1) if len(rest) else ():
        raw = int(tracks.track_id[rows[0]])
        if raw in claimed:
            renamed[int(chain[rows[0]])] = following
            track_id[rows] = following
            following += 1
        claimed.add(raw)
    for one, other in known.apart:
        if track_id[one] == track_id[other]:  # a label that a person gave to one of the two alone
            track_id[one if known.label[other] >= 0 else other] = following
            following += 1
    nobody = np.zeros(len(label), np.bool_)
    nobody[~free] = known.nobody[label[~free]]
    track_id[nobody | known.dropped] = -1
    return replace(decision, track_id=track_id, label_ids=ids)
