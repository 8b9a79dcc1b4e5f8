"""Identity switches that the tracker suspects (`est_id_switches`) against the true ones.

    python benchmarks/switches.py --data MOT_ROOT [--split evaluation|training] [--regimes mot17-frcnn …]
        [--tracker adaptive] [--simulated DIR] [--sequences]

MOT_ROOT holds MOT17/, DanceTrack/, KITTI/ and SportsMOT/{train,val}/ with MOTChallenge sequence folders. SportsMOT has
no public detections: DIR holds simulated ones as SEQUENCE/det/det.txt; without it that regime is left out.

A true switch is CLEAR MOT's (Bernardin and Stiefelhagen 2008): true boxes and tracks are matched at IoU 0.5, the last
frame's pairs kept where they still hold; a true identity whose track is another one than when it was last matched
counts. As in TrackEval, boxes matched to MOT17's distractors are dropped, and KITTI is scored by class, tracks inside
ignored regions left out. An event is right when a true switch between the same two tracks lies within 10 frames;
each true switch vouches for one event only (an exchange may have two). `r` is the correlation, over sequences, of
estimated and true counts. The weights of the scores were fitted on the training split.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trackweave.formats.mot import read_ground_truth
from trackweave.formats.motchallenge import MotSequence
from trackweave.formats.tables import GroundTruth
from trackweave.mot.id_switches import SwitchCause, SwitchEvent
from trackweave.mot.settings import TrackerSettings, preset
from trackweave.structures.detections import Detections

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the sibling is found when this is started as a file

from benchmarks.mot_sequences import (
    IOU,
    KITTI_CLASSES,
    REGIMES,
    SEQUENCES,
    first_scored,
    inputs,
    matches,
    overlaps,
    tracked_frames,
)

WINDOW = 10
DISTRACTORS = (2, 7, 8, 12)


class Switch(NamedTuple):
    """A true identity went from one track to another."""

    frame: int
    old: int
    new: int


@dataclass
class Score:
    """Counts over sequences."""

    true: int = 0
    found: int = 0
    estimated: int = 0
    events: Counter[SwitchCause] = field(default_factory=Counter)
    right: Counter[SwitchCause] = field(default_factory=Counter)
    counts: list[tuple[int, int]] = field(default_factory=list)
    frames: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(
            self.true + other.true,
            self.found + other.found,
            self.estimated + other.estimated,
            self.events + other.events,
            self.right + other.right,
            self.counts + other.counts,
            self.frames + other.frames,
        )


def scored_boxes(tracked: Detections, truth: GroundTruth, class_id: int | None) -> tuple[Detections, GroundTruth]:
    """A frame's tracks and true boxes without what the benchmark does not score; `class_id` None = pedestrians."""
    if class_id is None:
        iou, _ = overlaps(truth.xyxy, tracked.xyxy)
        drop = [column for row, column in matches(np.where(iou >= IOU, iou, 0)) if truth.class_id[row] in DISTRACTORS]
        keep = np.ones(len(tracked), np.bool_)
        keep[drop] = False
        return tracked[keep], truth[truth.counts & np.isin(truth.class_id, (-1, 1))]
    ignored, counted = truth[~truth.counts], truth[truth.counts & (truth.class_id == class_id)]
    tracked = tracked[tracked.class_id == class_id]
    iou, _ = overlaps(tracked.xyxy, counted.xyxy)
    _, inside = overlaps(tracked.xyxy, ignored.xyxy)
    drop_rows = inside.max(1, initial=0.0) > 0.5
    drop_rows[[row for row, _ in matches(np.where(iou >= IOU, iou, 0))]] = False
    return tracked[~drop_rows], counted


def true_switches(frames: Sequence[Detections], truth: GroundTruth, class_id: int | None, start: int) -> list[Switch]:
    """CLEAR MOT's identity switches from frame `start` on."""
    switches: list[Switch] = []
    last: dict[int, int] = {}
    before: dict[int, int] = {}
    for frame in range(start, len(frames)):
        tracked, counted = scored_boxes(frames[frame], truth.at(frame), class_id)
        ids = np.zeros(0, np.int64) if tracked.track_id is None else tracked.track_id
        iou, _ = overlaps(counted.xyxy, tracked.xyxy)
        kept = np.array([before.get(identity, -1) for identity in counted.track_id.tolist()], np.int64)
        pairs = matches(np.where(iou >= IOU, iou + 1000.0 * (kept[:, None] == ids[None]), 0))
        before = {int(counted.track_id[row]): int(ids[column]) for row, column in pairs}
        for identity, track in before.items():
            if last.get(identity, track) != track:
                switches.append(Switch(frame, last[identity], track))
            last[identity] = track
    return switches


def agreement(events: Sequence[SwitchEvent], switches: Sequence[Switch]) -> tuple[set[int], set[int]]:
    """Positions of the events that are right and of the switches that were found; the nearest in time go first."""
    candidates = sorted(
        (abs(switch.frame - event.frame), i, k)
        for i, event in enumerate(events)
        for k, switch in enumerate(switches)
        if abs(switch.frame - event.frame) <= WINDOW and {switch.old, switch.new} == set(event.tracks)
    )
    capacity = [event.switches for event in events]
    right, found = set[int](), set[int]()
    for _, i, k in candidates:
        if capacity[i] and k not in found:
            capacity[i] -= 1
            right.add(i)
            found.add(k)
    return right, found


def score(sequence: MotSequence, detections: Path, settings: TrackerSettings, regime: str) -> Score:
    """One sequence."""
    is_kitti = regime == "kitti"
    frames, summary = tracked_frames(sequence, detections, settings, is_kitti)
    start = first_scored(regime, len(frames))
    truth = read_ground_truth(sequence.path)
    classes: Iterable[int | None] = KITTI_CLASSES.values() if is_kitti else (None,)
    switches = sorted(s for class_id in classes for s in true_switches(frames, truth, class_id, start))
    events = [event for event in summary.suspected if event.frame >= start]
    right, found = agreement(events, switches)
    estimated = sum(event.switches for event in events)
    return Score(
        true=len(switches),
        found=len(found),
        estimated=estimated,
        events=Counter(event.cause for event in events),
        right=Counter(events[i].cause for i in right),
        counts=[(estimated, len(switches))],
        frames=len(frames),
    )


def share(part: int, whole: int) -> str:
    """A quotient with two decimals."""
    return f"{part / whole:.2f}" if whole else "–"


def row(name: str, given: Score) -> str:
    """A line of the table."""
    counts = np.array(given.counts, float)
    spread = len(counts) > 2 and bool((counts.std(0) > 0).all())
    causes = [f"{given.events[cause]} ({share(given.right[cause], given.events[cause])})" for cause in SwitchCause]
    cells = [
        name,
        str(given.true),
        str(given.estimated),
        str(given.events.total()),
        share(given.right.total(), given.events.total()),
        share(given.found, given.true),
        f"{np.corrcoef(counts.T)[0, 1]:.2f}" if spread else "–",
        *causes,
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", choices=tuple(SEQUENCES), default="evaluation")
    parser.add_argument("--regimes", nargs="*", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--tracker", default="adaptive")
    parser.add_argument("--simulated", type=Path, help="simulated detections of SportsMOT")
    parser.add_argument("--sequences", action="store_true", help="a line per sequence, too")
    given = parser.parse_args()
    settings = preset(given.tracker, diagnostics=True, on_bad_item="skip")
    heads = ["", "true", "estimated", "events", "precision", "recall", "r", *(f"{c} (precision)" for c in SwitchCause)]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads), flush=True)
    total = Score()
    for regime in given.regimes:
        part = Score()
        for sequence, detections in inputs(given.data, given.split, regime, given.simulated):
            one = score(sequence, detections, settings, regime)
            part += one
            if given.sequences:
                print(row(sequence.name, one), flush=True)
        if part.frames:
            print(row(regime, part), flush=True)
        total += part
    print(row("all", total))


if __name__ == "__main__":
    main()
