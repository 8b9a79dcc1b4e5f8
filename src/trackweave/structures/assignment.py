"""`AssignmentState`: the tracks and detections of one frame of a box tracker, and their assignment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackweave.ids import FrameIndex
from trackweave.structures.detections import Detections


@dataclass(frozen=True, eq=False)
class AssignmentState:
    """T active tracks against D detections on one frame: what observers of a tracker get.

    The arrays belong to the observer: the tracker allocates them for every frame. Tracks are those that were active
    before the frame's assignment, lost ones included, in a fixed order; a track that begins on this frame is not
    among them, but its id is in `assigned_track_ids`.

    Attributes:
        frame: frame index.
        time: seconds: the frame's own time, else its index over the frame rate; None = unknown.
        size: `(H, W)` of the frame; None = unknown.
        track_ids: `(T,)` int64.
        track_boxes: `(T, 4)` float32 xyxy, predicted for this frame, camera motion included.
        track_velocity: `(T, 2)` float32, pixels per frame of the box centre, the camera's motion taken out.
        track_age: `(T,)` int64, frames since the track began.
        track_gap: `(T,)` int64, frames since the last matched detection; 1 = matched on the frame before.
        track_score: `(T,)` float32, score of the last matched detection.
        track_visibility: `(T,)` float32 of the last matched detection; 1 where it was not known.
        track_class: `(T,)` int64, the class by votes.
        track_embeddings: `(T, E)` float32, best prototype of each track, zeros where there is none; None without
            appearance.
        detections: the frame's D detections that took part, as they were given.
        det_displacement: `(D, 2)` float32 pixels: centre of the detection minus last matched centre of the best
            overlapping track, both in this frame's coordinates after camera compensation; 0 when none overlaps.
        cost: `(T, D)` float32 classical cost before any learned blend, lower is better, finite everywhere.
        allowed: `(T, D)` bool, True where the gates let the pair through.
        assigned_track_ids: `(D,)` int64, the final decision; −1 = unmatched. The id of a track that begins on the
            detection counts as its own.
        est_id_switches: identity switches that the tracker suspects up to and including this frame; None: it does not
            look for them.
        est_id_switches_frame: those of them that it suspects since the frame before; None likewise.
        suspect_tracks: `(S,)` int64, ids of tracks that take part in a switch suspected on this very frame.
        camera: `(2, 3)` float64 that maps pixels of the frame before to this one's, as the tracker applied it; None:
            it applied none.
    """

    frame: FrameIndex
    time: float | None
    size: tuple[int, int] | None
    track_ids: NDArray[np.int64]
    track_boxes: NDArray[np.float32]
    track_velocity: NDArray[np.float32]
    track_age: NDArray[np.int64]
    track_gap: NDArray[np.int64]
    track_score: NDArray[np.float32]
    track_visibility: NDArray[np.float32]
    track_class: NDArray[np.int64]
    track_embeddings: NDArray[np.float32] | None
    detections: Detections
    det_displacement: NDArray[np.float32]
    cost: NDArray[np.float32]
    allowed: NDArray[np.bool_]
    assigned_track_ids: NDArray[np.int64]
    est_id_switches: int | None = None
    est_id_switches_frame: int | None = None
    suspect_tracks: NDArray[np.int64] | None = None
    camera: NDArray[np.float64] | None = None
