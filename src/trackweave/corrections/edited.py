"""Tracks of a run that were edited elsewhere (in CVAT, by a script): who is who there, in terms of the run's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackweave.boxes import box_iou
from trackweave.errors import InputError
from trackweave.structures.corrections import Accepted, AcceptedTrack, Observation
from trackweave.structures.tracks import Tracks

SAME_OBJECT = 0.5
"""IoU from which a box of the run and an edited one show one object."""
SAME_PLACE = 0.95
"""IoU below which such a box was moved."""
SAME_ID = 1e-3
"""What an unchanged id adds to the IoU: it decides between boxes that lie on each other."""


@dataclass(frozen=True, eq=False)
class EditedTracks:
    """What was edited, of N observations of a run.

    Attributes:
        track_id: `(N,)` int64 edited id of each; −1 where it was removed, or lies outside of the edited frames.
        first, last: frames that the edited tracks go over, both included.
        renamed: observations with another id than before.
        removed: observations that are not there any more.
        moved: edited boxes that lie elsewhere than the run's, whose place is kept.
        drawn: edited boxes that no observation of the run is.
    """

    track_id: NDArray[np.int64]
    first: int
    last: int
    renamed: int
    removed: int
    moved: int
    drawn: int


def match_edited(own: Tracks, edited: Tracks) -> EditedTracks:
    """Finds each observation of a run among edited ones, frame by frame: one to one, of the largest sum of IoUs.

    Args:
        own: the run's.
        edited: at least one observation, with the run's numbers of frames.
    """
    track_id = np.full(len(own), -1, np.int64)
    first, last = int(edited.frame[0]), int(edited.frame[-1])
    moved = matched = 0
    for frame in np.intersect1d(own.frame, edited.frame).tolist():
        (low, high), (start, stop) = (np.searchsorted(rows.frame, [frame, frame + 1]) for rows in (own, edited))
        iou = box_iou(own.xyxy[low:high], edited.xyxy[start:stop])
        same_id = own.track_id[low:high, None] == edited.track_id[None, start:stop]
        gain = np.where(iou >= SAME_OBJECT, iou + SAME_ID * same_id, 0.0)
        mine, theirs = linear_sum_assignment(gain, maximize=True)
        holds = gain[mine, theirs] > 0
        mine, theirs = mine[holds], theirs[holds]
        track_id[low + mine] = edited.track_id[start + theirs]
        moved += int((iou[mine, theirs] < SAME_PLACE).sum())
        matched += len(mine)
    inside = (own.frame >= first) & (own.frame <= last)
    renamed = int((inside & (track_id >= 0) & (track_id != own.track_id)).sum())
    removed = int((inside & (track_id < 0)).sum())
    return EditedTracks(track_id, first, last, renamed, removed, moved, len(edited) - matched)


def accepted_edit(
    run: Path, found: EditedTracks, frame: NDArray[np.int64], item: NDArray[np.int64], track_id: NDArray[np.int64]
) -> Accepted | None:
    """The act that makes a run's tracks the edited ones; None where they are the same.

    Args:
        run: for messages.
        found: see `match_edited`.
        frame, item: of each observation, as acts call it; `(M,)` int64.
        track_id: its edited id; −1 = left out.

    Raises:
        InputError: no edited box lies on one of the run.
    """
    if not (found.track_id >= 0).any():
        raise InputError(
            f"{run}: no box of the edited tracks lies on one of the run (IoU {SAME_OBJECT}): are they of another "
            "video, or do their frames count otherwise?"
        )
    if not found.renamed and not found.removed:
        return None
    groups = []
    for number in np.unique(track_id[track_id >= 0]).tolist():
        rows = np.flatnonzero(track_id == number)
        pairs = sorted(zip(frame[rows].tolist(), item[rows].tolist(), strict=True))
        groups.append(AcceptedTrack(number, tuple(Observation(*pair) for pair in pairs)))
    return Accepted(found.first, found.last, tuple(groups))
