"""Simulated scenes beside real ones: quantiles of motion, size, crowding and occlusion, and how hard tracking them is.

    python benchmarks/simulated_crowds.py --data MOT_ROOT [--regimes dance sport street traffic] [--sequences 12]

MOT_ROOT is that of `mot_sequences`; only its training sequences are used. SportsMOT has no detections: they are
simulated on its truth with the detector `shaky`. Rows, per true box unless said otherwise:

- iou: of an object's boxes on consecutive frames; speed, turn: of its centre in box heights per second, and the change
  of that (of a quarter of a second) from one quarter of a second to the next.
- height change, width change: |log ratio| of consecutive frames; aspect: width / height; height: share of the frame's.
- crowd: objects per frame; overlapped: neighbours with IoU above 0.3; gap: seconds in which a returning object has no
  true box; between crossings: seconds from one overlap above 0.5 of two objects to their next.
- score: of detections.

Below each table: matches of the box tracker (preset `adaptive`) that change a track's object, and objects that change
their track, per 1000.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.association.labels import gt_track_ids
from trackweave.boxes import box_iou
from trackweave.formats.mot import read_ground_truth
from trackweave.formats.motchallenge import MotSequence, read_gmc, read_sequence
from trackweave.formats.readers import read_detections
from trackweave.formats.tables import GroundTruth
from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import Tracker
from trackweave.pipelines.samples import simulated_sequences
from trackweave.pipelines.settings import SimulateSettings
from trackweave.simulation.recorded import simulate_detections
from trackweave.simulation.settings import DETECTORS
from trackweave.structures.detections import Detections

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the sibling is found when this is started as a file

from benchmarks.mot_sequences import FOLDERS, SEQUENCES, inputs

REAL: Mapping[str, tuple[str, int | None]] = {
    "dance": ("dancetrack", None),
    "sport": ("sportsmot", None),
    "street": ("mot17-frcnn", 1),
    "traffic": ("kitti", 3),
}
"""Regime → kind of real sequences, and the class whose boxes are compared."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SPORTS_STEP = 4
"""One of so many of SportsMOT's sequences is used."""


@dataclass(frozen=True)
class MeasuredSequence:
    """A sequence, real or simulated; `frames` gives index, time, camera, detections and their true identities."""

    truth: GroundTruth
    size: tuple[int, int]
    fps: float
    frames: Sequence[tuple[int, float | None, NDArray[np.float64] | None, Detections, NDArray[np.int64]]]


def simulated(regime: str, count: int, frames: int) -> Iterator[MeasuredSequence]:
    """Simulated sequences of a regime."""
    settings = SimulateSettings(frames=count * frames, seed=5, regime=regime, sequence_frames=frames)
    for sequence in simulated_sequences(settings):
        rows = [(f, t, camera, detections, detections.data["gt_track_id"]) for f, t, camera, detections in sequence]
        yield MeasuredSequence(sequence.truth, sequence.size, sequence.fps, rows)


def real(root: Path, kind: str) -> Iterator[MeasuredSequence]:
    """Training sequences of a kind."""
    if kind != "sportsmot":
        for sequence, detections in inputs(root, "training", kind, None):
            table = read_detections(detections, class_column=8 if kind == "kitti" else None, on_bad_item="skip")
            yield _measured(sequence, table.at)
        return
    for path in sorted((root / "SportsMOT" / SEQUENCES["training"]["SportsMOT"]).iterdir())[::SPORTS_STEP]:
        sequence = read_sequence(path)
        table = simulate_detections(
            read_ground_truth(path),
            DETECTORS["shaky"],
            size=sequence.known_size(),
            fps=sequence.known_frame_rate(),
            length=sequence.known_length(),
            seed=0,
            name=sequence.name,
        )
        yield _measured(sequence, table.at)


def _measured(sequence: MotSequence, at: Callable[[int], Detections]) -> MeasuredSequence:
    truth = read_ground_truth(sequence.path)
    motion = None if sequence.camera_motion is None else read_gmc(sequence.camera_motion)
    rows = []
    for frame in range(sequence.known_length()):
        detections = at(frame)
        camera = motion[frame] if motion is not None and frame < len(motion) else None
        rows.append((frame, None, camera, detections, gt_track_ids(detections.xyxy, truth.at(frame))))
    return MeasuredSequence(truth, sequence.known_size(), sequence.known_frame_rate(), rows)


def measure(sequence: MeasuredSequence, class_id: int | None, values: dict[str, list[NDArray[np.float64]]]) -> None:
    """Appends what is measured on a sequence."""
    truth = sequence.truth[sequence.truth.counts & (sequence.truth.track_id >= 0)]
    truth = truth if class_id is None else truth[truth.class_id == class_id]
    side = truth.xyxy[:, 2:] - truth.xyxy[:, :2]
    values["aspect"].append(side[:, 0] / side[:, 1])
    values["height"].append(side[:, 1] / sequence.size[0])
    values["score"].append(np.concatenate([detections.score for *_, detections, _ in sequence.frames]))
    for track in np.unique(truth.track_id):
        _measure_track(truth[truth.track_id == track], sequence.fps, values)
    last_crossing: dict[tuple[int, int], int] = {}
    for frame in np.unique(truth.frame).tolist():
        boxes = truth.at(frame)
        overlap = np.triu(box_iou(boxes.xyxy, boxes.xyxy), 1)
        values["crowd"].append(np.array([len(boxes)]))
        values["overlapped"].append((overlap + overlap.T > 0.3).sum(axis=1))
        for one, other in np.argwhere(overlap > 0.5).tolist():
            pair = (int(boxes.track_id[one]), int(boxes.track_id[other]))
            if pair in last_crossing and frame - last_crossing[pair] > 1:
                values["between crossings"].append(np.array([(frame - last_crossing[pair]) / sequence.fps]))
            last_crossing[pair] = frame


def _measure_track(track: GroundTruth, fps: float, values: dict[str, list[NDArray[np.float64]]]) -> None:
    side = track.xyxy[:, 2:] - track.xyxy[:, :2]
    centre = (track.xyxy[:, 2:] + track.xyxy[:, :2]) / 2
    step = np.diff(track.frame)
    values["gap"].append(step[step > 1] / fps)
    now = np.flatnonzero(step == 1)
    if not len(now):
        return
    low, high = (
        np.maximum(track.xyxy[now, :2], track.xyxy[now + 1, :2]),
        np.minimum(track.xyxy[now, 2:], track.xyxy[now + 1, 2:]),
    )
    both = np.clip(high - low, 0, None).prod(axis=1)
    values["iou"].append(both / (side[now].prod(1) + side[now + 1].prod(1) - both))
    values["speed"].append(np.linalg.norm(centre[now + 1] - centre[now], axis=1) / side[now, 1] * fps)
    for axis, name in ((1, "height change"), (0, "width change")):
        values[name].append(np.abs(np.log(side[now + 1, axis] / side[now, axis])))
    wide = max(1, round(fps / 4))
    if len(track) > 2 * wide:
        velocity = (centre[wide:] - centre[:-wide]) / side[:-wide, 1:] * (fps / wide)
        values["turn"].append(np.linalg.norm(velocity[wide:] - velocity[:-wide], axis=1))


def changes(sequence: MeasuredSequence) -> tuple[int, int, int]:
    """Matches with an identity, tracks that change their object, and objects that change their track."""
    tracker = Tracker(frame_rate=sequence.fps, size=sequence.size)
    object_of: dict[int, int] = {}
    track_of: dict[int, int] = {}
    matched = wrong = lost = 0
    for frame, time, camera, detections, true in sequence.frames:
        tracked = tracker.update(detections, FrameContext(frame, time, camera))
        assert tracked.track_id is not None
        assert tracked.index is not None
        for track, identity in zip(tracked.track_id.tolist(), true[tracked.index].tolist(), strict=True):
            if identity < 0:
                continue
            matched += 1
            wrong += object_of.get(track, identity) != identity
            lost += track_of.get(identity, track) != track
            object_of[track], track_of[identity] = identity, track
    return matched, wrong, lost


def table(columns: Mapping[str, Mapping[str, list[NDArray[np.float64]]]]) -> Iterator[str]:
    """Lines of quantiles, simulated above real."""
    yield f"| {'':18} | {'':9} | " + " | ".join(f"{q:7.0%}" for q in QUANTILES) + " |"
    yield "|---|---|" + "--:|" * len(QUANTILES)
    for name in next(iter(columns.values())):
        for column, values in columns.items():
            data = np.concatenate(values[name]) if values[name] else np.zeros(0)
            numbers = np.quantile(data, QUANTILES) if len(data) else np.full(len(QUANTILES), np.nan)
            yield f"| {name:18} | {column:9} | " + " | ".join(f"{number:7.3f}" for number in numbers) + " |"


def main() -> None:
    """Prints Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="MOT_ROOT")
    parser.add_argument("--regimes", nargs="+", choices=tuple(REAL), default=list(REAL))
    parser.add_argument("--sequences", type=int, default=12, help="simulated ones per regime")
    parser.add_argument("--frames", type=int, default=600, help="of each")
    args = parser.parse_args()
    for regime in args.regimes:
        kind, class_id = REAL[regime]
        columns: dict[str, dict[str, list[NDArray[np.float64]]]] = {}
        counts: dict[str, NDArray[np.int64]] = {}
        sources = {"simulated": simulated(regime, args.sequences, args.frames), "real": real(args.data, kind)}
        for column, sequences in sources.items():
            columns[column], counts[column] = defaultdict(list), np.zeros(3, np.int64)
            for sequence in sequences:
                measure(sequence, class_id if regime == "traffic" or column == "real" else None, columns[column])
                counts[column] += changes(sequence)
        print(f"\n## {regime}: simulated and real ({FOLDERS.get(kind, ('SportsMOT',))[0]})\n")
        print("\n".join(table(columns)))
        for column, (matched, wrong, lost) in counts.items():
            print(
                f"\n{column}: {matched} matches; of 1000, {1000 * wrong / matched:.1f} change a track's object, "
                f"{1000 * lost / matched:.1f} an object's track"
            )


if __name__ == "__main__":
    main()
