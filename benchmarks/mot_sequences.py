"""The public sequences that the benchmarks of box tracking run over, and the tracker over one of them.

MOT_ROOT holds MOT17/, DanceTrack/, KITTI/, MOT15/ and SportsMOT/{train,val}/ with MOTChallenge sequence folders.
SportsMOT has no public detections: a folder of simulated ones has SEQUENCE/det/det.txt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackweave.association.labels import gt_track_ids
from trackweave.boxes import box_areas, box_iou, box_overlap
from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.formats.mot import read_ground_truth
from trackweave.formats.motchallenge import MotSequence, read_gmc, read_sequence
from trackweave.formats.readers import read_detections
from trackweave.mot.settings import TrackerSettings
from trackweave.mot.state import AssignmentObserver, AssociationScorer, FrameContext
from trackweave.mot.tracker import Tracker, TrackerSummary
from trackweave.structures.detections import GT_COLUMN, Detections
from trackweave.structures.score_scale import ScoreScale, scale_of

IOU = 0.5
KITTI_CLASSES: Mapping[str, int] = {"car": 3, "pedestrian": 1}
SEQUENCES: Mapping[str, Mapping[str, str]] = {
    "training": {
        "MOT17": "02 05 13",
        "DanceTrack": "0005 0007 0010 0019 0025 0034 0047 0065 0077 0079 0090",
        "KITTI": " ".join(f"{number:04d}" for number in range(11)),
        "SportsMOT": "train",
        "TUD": "",
    },
    "evaluation": {
        "MOT17": "09 11",
        "DanceTrack": "0004 0014 0026 0035 0058 0073 0094",
        "KITTI": "0011 0012 0014 0015 0018",
        "SportsMOT": "val",
        "TUD": "Campus Stadtmitte",
    },
}
REGIMES = ("mot17-frcnn", "mot17-yolox", "dancetrack", "kitti", "sportsmot")
FOLDERS: Mapping[str, tuple[str, str, str]] = {
    "mot17-frcnn": ("MOT17", "MOT17/MOT17-{}-FRCNN", "det"),
    "mot17-yolox": ("MOT17", "MOT17/MOT17-{}-FRCNN", "det_yolox"),
    "dancetrack": ("DanceTrack", "DanceTrack/dancetrack{}", "det"),
    "kitti": ("KITTI", "KITTI/KITTI-{}", "det"),
    "tud": ("TUD", "MOT15/TUD-{}", "det"),
}
"""Regime → key of `SEQUENCES`, sequence folder, detection file."""


def inputs(root: Path, split: str, regime: str, simulated: Path | None) -> Iterator[tuple[MotSequence, Path]]:
    """Sequences of a regime with their detections; none of SportsMOT without simulated ones."""
    if regime != "sportsmot":
        dataset, folder, file = FOLDERS[regime]
        for name in SEQUENCES[split][dataset].split():
            sequence = read_sequence(root / folder.format(name))
            yield sequence, sequence.detections(file)
    elif simulated is not None:
        for path in sorted((root / "SportsMOT" / SEQUENCES[split]["SportsMOT"]).iterdir()):
            detections = simulated / path.name / "det" / "det.txt"
            if detections.exists():
                yield read_sequence(path), detections


def first_scored(regime: str, length: int) -> int:
    """The 0-based frame from which a regime is scored: its YOLOX was trained on the first half of MOT17."""
    return length // 2 + 1 if regime == "mot17-yolox" else 0


def scorer_named(text: str) -> AssociationScorer | None:
    """`iou` is the tracker's own cost, `learned` the model that the package ships, `learned=FILE` another one, and
    `learned=FILE@0.6` that one with another threshold than its own."""
    kind, _, named = text.partition("=")
    file, _, threshold = named.partition("@")
    if text == "iou":
        return None
    if kind != "learned":
        raise SystemExit(f"--scorer {text}: iou, learned or learned=FILE[@THRESHOLD]")
    from trackweave.association.scorer import LearnedScorer

    return LearnedScorer(file or None, threshold=float(threshold) if threshold else None)


def tracked_frames(
    sequence: MotSequence,
    detections: Path,
    settings: TrackerSettings,
    has_class: bool,
    scorer: AssociationScorer | None = None,
    observer: AssignmentObserver | None = None,
    with_truth: bool = False,
    backwards: bool = False,
) -> tuple[list[Detections], TrackerSummary]:
    """The tracker over a sequence: its output per frame and its summary.

    With a scorer or an observer, visibility is estimated from boxes, as `trackweave boxes` does; `with_truth` gives
    each detection its true identity, for the observer. `backwards` begins with the last frame. The scale of scores is
    found in the whole file first, as `trackweave boxes` does.
    """
    length = sequence.known_length()
    table = read_detections(detections, class_column=8 if has_class else None, length=length, on_bad_item="skip")
    scale = scale_of(table.frame, table.score)
    table = replace(table, score=scale.shares(table.score))
    motion = None if sequence.camera_motion is None else read_gmc(sequence.camera_motion)
    size = sequence.known_size()
    tracker = Tracker(
        settings,
        frame_rate=sequence.known_frame_rate(),
        size=size,
        scorer=scorer,
        observer=observer,
        score_scale=ScoreScale(stretch=scale.stretch),
    )
    visibility = VisibilityEstimator("occlusion", min_occluder_score=settings.confidence_threshold)
    truth = read_ground_truth(sequence.path) if with_truth else None
    frames = []
    for frame in range(length):
        index = length - 1 - frame if backwards else frame
        moved = index + 1 if backwards else index  # the motion from the frame before, the other way round
        camera = motion[moved] if motion is not None and moved < len(motion) else None
        if backwards and camera is not None:
            camera = np.linalg.inv(np.vstack([camera, (0, 0, 1)]))[:2]
        current = table.at(index)
        if truth is not None:
            current = replace(current, data={**current.data, GT_COLUMN: gt_track_ids(current.xyxy, truth.at(index))})
        if scorer is not None or observer is not None:
            current = replace(current, visibility=visibility.estimate(current, size=size).visibility)
        frames.append(tracker.update(current, FrameContext(frame, camera=camera)))
    return frames, tracker.summary


def overlaps(one: NDArray[np.floating], other: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`(N, M)` IoU of boxes xyxy, and the share of each first box that is inside each second."""
    return box_iou(one, other), box_overlap(one, other) / np.maximum(box_areas(one)[:, None], 1e-9)


def matches(weight: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The best one-to-one pairs of positive weight."""
    rows, columns = linear_sum_assignment(-weight)
    return [(r, c) for r, c in zip(rows.tolist(), columns.tolist(), strict=True) if weight[r, c] > 0]
