"""Track management: matched tracks are updated, others age and end, new ones begin. `decide` is a frame's kernel."""

from __future__ import annotations

import math

from trackweave.boxes import centred_iou
from trackweave.compiled import inner, njit
from trackweave.mot.adaptive_thresholds import MAX_CHANGE, Stream, observe_changes
from trackweave.mot.assignment import MATCH, SOURCE, Costs, Flags, Floats, Integers, Pairs, associate
from trackweave.mot.kalman import Row, correct, initiate, re_update
from trackweave.mot.state import (
    AGE,
    AXES,
    BOXES,
    CLASS,
    COLUMNS,
    CONFIRMED,
    DET_CLASS,
    DET_ROW,
    DET_SCORE,
    DET_VISIBILITY,
    GAP,
    HITS,
    ID,
    MATCHED,
    POSITION,
    RECENT,
    SCORE,
    SEEN,
    SINCE,
    STATE_NUMBERS,
    STREAK,
    VISIBILITY,
    VOTED,
    VOTES,
    ParameterArray,
    Parameters,
    Rows,
)

MAX_VIRTUAL_STEPS = 120
"""A longer gap is re-updated in so many steps: frame indices may be anything, nanoseconds even."""

# Rows of what a frame's kernel gives back. Of each detection that takes part: id of its track, or −1, and the track's
# row in the table, or −1; of each track that is shown: its id, class, row of the detection as it was given, own row.
ASSIGNED, TABLE_ROW, SHOWN_ID, SHOWN_CLASS, SHOWN_DETECTION, SHOWN_ROW = range(6)

# How far `decide` goes.
EVERYTHING, BEFORE_FAR, AFTER_FAR = range(3)

iou = inner(centred_iou)


@inner
def vote(track: Row, class_id: float, score: float) -> float:
    """Adds a vote to a track's and returns the class that leads; the weakest class gives way.

    −1, no class, leads only where nothing else was voted for.
    """
    slot, weakest = -1, VOTED
    for k in range(VOTED, VOTED + 2 * VOTES, 2):
        if track[k + 1] > 0.0 and track[k] == class_id:
            slot = k
        if track[k + 1] < track[weakest + 1]:
            weakest = k
    if slot < 0:
        slot = weakest
        track[slot] = class_id
        track[slot + 1] = 0.0
    track[slot + 1] += score
    best = slot
    for k in range(VOTED + 2 * VOTES - 2, VOTED - 1, -2):  # of equal ones the first
        known, leading = track[k] >= 0.0, track[best] >= 0.0
        if track[k + 1] > 0.0 and (known > leading or (known == leading and track[k + 1] >= track[best + 1])):
            best = k
    return float(track[best])


@inner
def is_duplicate(detection: Row, detections: Rows, table_row: Integers, old: int, p: Parameters) -> bool:
    """Whether a detection overlaps one that an old track has, in a row below `old`: two new ones may well begin side by
    side."""
    if p.duplicate_overlap > 1.0:
        return False
    for d in range(len(detections)):
        if 0 <= table_row[d] < old:
            other = detections[d]
            dx, dy = detection[0] - other[0], detection[1] - other[1]
            if iou(dx, dy, detection[2], detection[3], other[2], other[3]) > p.duplicate_overlap:
                return True
    return False


@inner
def begin_track(track: Row, detection: Row, track_id: int, opening: bool, p: Parameters) -> None:
    """Fills the row of a new track."""
    for k in range(COLUMNS):
        track[k] = 0.0
    initiate(track, detection, p)
    remember_match(track, detection)
    track[ID] = track_id
    track[HITS] = track[STREAK] = track[SEEN] = 1.0
    track[CLASS] = track[VOTED] = detection[DET_CLASS]
    track[VOTED + 1] = detection[DET_SCORE]
    if opening or detection[DET_SCORE] >= p.instant_score or p.confirm_hits <= 1.0:
        track[CONFIRMED] = 1.0


@inner
def remember_match(track: Row, detection: Row) -> None:
    """What a track keeps of the detection that it was corrected by, or begins with."""
    for k in range(STATE_NUMBERS):
        track[MATCHED + k] = track[POSITION + k]
    for k in range(BOXES + RECENT * AXES - 1, BOXES + AXES - 1, -1):
        track[k] = track[k - AXES]
    for axis in range(AXES):
        track[BOXES + axis] = detection[axis]
    track[SCORE], track[VISIBILITY], track[SINCE] = detection[DET_SCORE], detection[DET_VISIBILITY], 0.0


@inner
def update_matched(track: Row, detection: Row, frames: int, p: Parameters) -> float:
    """Updates a track with its detection.

    Returns:
        The absolute change of its height since the frame before as a logarithm; −1 when it was not matched there.
    """
    gap = int(track[GAP]) + frames
    if p.observation_centred == 1.0 and gap > 1:
        steps = min(gap, MAX_VIRTUAL_STEPS)
        re_update(track, detection, steps, track[SINCE] / steps, p)
    else:
        correct(track, detection, p)
    change = -1.0
    if gap <= frames:
        change = min(MAX_CHANGE, abs(math.log(detection[3] / track[BOXES + 3])))
        track[STREAK] += 1.0
    else:
        track[STREAK] = 1.0
    track[HITS] += 1.0
    track[GAP] = 0.0
    track[SEEN] += 1.0
    remember_match(track, detection)
    if p.class_votes == 1.0:
        track[CLASS] = vote(track, detection[DET_CLASS], detection[DET_SCORE])
    if track[HITS] >= p.confirm_hits:
        track[CONFIRMED] = 1.0
    return change


@njit
def decide(
    stage: int,
    tracks: Rows,
    n: int,
    detections: Rows,
    cost: Costs,
    allowed: Flags,
    pairs: Pairs,
    found: int,
    frames: int,
    opening: bool,
    next_id: int,
    parameters: ParameterArray,
    stream: Stream,
    integers: Integers,
    floats: Floats,
    out: Integers,
) -> tuple[int, int, int, int]:
    """Gives the tracks their detections and updates the table in place.

    Args:
        stage: `EVERYTHING`; or in two calls, with `match_far` between them where it has something to do,
            `BEFORE_FAR` and `AFTER_FAR`.
        cost, allowed, pairs, found: as for `associate`.
        tracks … out: as for `update_tracks`.

    Returns:
        As `update_tracks`; of `BEFORE_FAR`, −1 instead of how many tracks are shown when nothing was updated yet,
        because a detection that may begin a track has none.
    """
    p = parameters[0]
    if stage != AFTER_FAR:
        any_free = associate(n, detections, cost, allowed, pairs, found, p, integers, floats)
        if any_free and stage == BEFORE_FAR:
            return n, next_id, 0, -1
    return update_tracks(tracks, n, detections, frames, opening, next_id, p, stream, integers, out)


@inner
def update_tracks(
    tracks: Rows,
    n: int,
    detections: Rows,
    frames: int,
    opening: bool,
    next_id: int,
    p: Parameters,
    stream: Stream,
    integers: Integers,
    out: Integers,
) -> tuple[int, int, int, int]:
    """Updates the table in place.

    Args:
        tracks: rows of a `TrackTable`, at least `n + D`, predicted for this frame.
        n: T, live tracks.
        detections: D rows.
        frames: frames since the one before.
        opening: this is the first frame, whose tracks need no confirmation.
        next_id: first free id.
        p: parameters.
        stream: what is known of the stream.
        integers: of a `Workspace`: `MATCH` has the column of each track's detection, or −1; `SOURCE` gets the row that
            each row of the table came from, −1 for a new track.
        out: `(6, D)` out.

    Returns:
        T afterwards, the next free id, how many lost tracks were found again, how many tracks are shown.
    """
    match, source = integers[MATCH], integers[SOURCE]
    assigned, table_row = out[ASSIGNED], out[TABLE_ROW]
    for d in range(len(detections)):
        assigned[d] = -1
        table_row[d] = -1
    reactivated, kept, changed, changes = 0, 0, 0.0, 0.0
    for row in range(n):
        d, track = match[row], tracks[row]
        track[AGE] += frames
        if d >= 0:
            if track[GAP] > 0.0 and track[CONFIRMED] == 1.0:
                reactivated += 1
            change = update_matched(track, detections[d], frames, p)
            if change >= 0.0:
                changed += 1.0
                changes += change
            assigned[d] = int(track[ID])
            table_row[d] = kept
        else:
            track[GAP] += frames
            track[STREAK] = 0.0
            if track[CONFIRMED] == 0.0 or track[SINCE] > p.lost_steps:
                continue
        if kept != row:
            target = tracks[kept]
            for k in range(COLUMNS):
                target[k] = track[k]
        source[kept] = row
        kept += 1
    observe_changes(stream, changes, changed)
    old, shown = kept, 0
    for d in range(len(detections)):
        detection = detections[d]
        if table_row[d] < 0:
            if detection[DET_SCORE] < p.birth_score or is_duplicate(detection, detections, table_row, old, p):
                continue
            begin_track(tracks[kept], detection, next_id, opening, p)
            assigned[d] = next_id
            table_row[d] = kept
            source[kept] = -1
            next_id += 1
            kept += 1
        track = tracks[table_row[d]]
        if track[CONFIRMED] == 1.0 and track[STREAK] >= min(p.streak_to_show, track[HITS]):
            out[SHOWN_ID, shown] = assigned[d]
            out[SHOWN_CLASS, shown] = int(track[CLASS])
            out[SHOWN_DETECTION, shown] = int(detection[DET_ROW])
            out[SHOWN_ROW, shown] = table_row[d]
            shown += 1
    return kept, next_id, reactivated, shown
