"""HOTA, identity and CLEAR figures of the box tracker on public sequences, one column per kind of detections.

    python benchmarks/box_accuracy.py --data MOT_ROOT [--simulated DIR] [--split evaluation|training]
        [--tracker adaptive bytetrack …] [--regimes mot17-frcnn …] [--refine] [--output DIR] [--json FILE]

MOT_ROOT and DIR are those of `mot_sequences`. A tracker is a preset with nothing else set; camera motion comes from
`gmc.txt` where a sequence has one. Its tracks are written as MOT text, `DIR/TRACKER/REGIME/SEQUENCE.txt`, and scored as
the files have them by the package `trackeval` (`pip install --no-deps trackeval`), combined over a regime's sequences:

- MOT17 with TrackEval's preprocessing: tracks on distractors are dropped. YOLOX: tracked over the whole sequence,
  scored on the second half.
- KITTI class by class, as sets of one class. Simpler than the official rule: every box that does not count is an
  ignored region; a track's box that lies inside one by more than half is dropped unless it is matched at IoU 0.5.
- DanceTrack, SportsMOT: every true box counts. TUD: as MOT15, which has no classes.

`--refine` adds a row per tracker with gaps of up to 20 frames filled afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trackweave.formats.mot import write_mot
from trackweave.formats.motchallenge import MotSequence
from trackweave.mot.refinement import RefinementSettings, refine
from trackweave.mot.settings import PRESETS, preset
from trackweave.mot.track_writer import as_rows
from trackweave.structures.tracks import Tracks

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

Rows = NDArray[np.float64]
"""Lines of MOT text as they are: frame and pixels from 1, `frame,id,x,y,w,h,conf,class`."""

PUBLISHED_PEERS: Mapping[str, float] = {
    "mot17-frcnn": 52.95,
    "mot17-yolox": 66.36,
    "dancetrack": 52.55,
    "kitti car": 86.77,
    "kitti pedestrian": 52.12,
    "sportsmot": 63.70,
}
"""HOTA of published peers, same detections: on the evaluation split, the best in each column of the trackers of
roboflow trackers 2.6.1, boxmot 25 and pyxtrackers 2026.3.3 with their defaults."""
INTERPOLATE_MAX_GAP = 20
INSIDE = 0.5
LINE = "%d,%d,%.6f,%.6f,%.6f,%.6f,%.6f,%d,1"


@dataclass(frozen=True)
class Figures:
    """In percent, identity switches as a count."""

    hota: float
    ass_a: float
    det_a: float
    idf1: float
    mota: float
    idsw: int

    def __str__(self) -> str:
        return f"{self.hota:.2f}/{self.ass_a:.2f}/{self.det_a:.2f}/{self.idf1:.2f}/{self.idsw}"


class Scored(NamedTuple):
    """What TrackEval is given of one sequence; frames from 1."""

    truth: Rows
    tracks: Rows
    length: int


# --- the tracker -----------------------------------------------------------------------------------------------------


def write_tracks(given: Sequence[tuple[MotSequence, Path]], regime: str, tracker: str, folders: Sequence[Path]) -> None:
    """Tracks every sequence and writes the result into the first folder, refined into the second if there is one."""
    for sequence, detections in given:
        frames, _ = tracked_frames(sequence, detections, preset(tracker), has_class=regime == "kitti")
        tracks = Tracks.concat([as_rows(index, None, frame).tracks for index, frame in enumerate(frames)])
        name = f"{sequence.path.name}.txt"
        write_mot(folders[0] / name, tracks)
        for folder in folders[1:]:
            refined = refine(tracks, RefinementSettings(interpolate_max_gap=INTERPOLATE_MAX_GAP))
            write_mot(folder / name, refined.tracks)


# --- what is fair to score -------------------------------------------------------------------------------------------


def read_rows(path: Path) -> Rows:
    """The first eight columns of MOT text."""
    lines = filter(str.strip, path.read_text(encoding="ascii").splitlines())
    return np.array([line.split(",")[:8] for line in lines], np.float64).reshape(-1, 8)


def corners(rows: Rows) -> Rows:
    """`(N, 4)` xyxy."""
    return np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1)


def outside_ignored(tracks: Rows, truth: Rows, ignored: Rows) -> Rows:
    """Rows of one frame's tracks that are matched or not inside an ignored region."""
    boxes = corners(tracks)
    dropped = overlaps(boxes, corners(ignored))[1].max(1, initial=0.0) > INSIDE
    iou, _ = overlaps(boxes, corners(truth))
    dropped[[row for row, _ in matches(np.where(iou >= IOU, iou, 0))]] = False
    return np.delete(tracks, np.flatnonzero(dropped), axis=0)


def of_class(truth: Rows, tracks: Rows, class_id: int) -> tuple[Rows, Rows]:
    """Truth and tracks of one class as sets of class 1, without what lies in ignored regions."""
    ignored = truth[truth[:, 6] == 0]
    truth = truth[(truth[:, 6] != 0) & (truth[:, 7] == class_id)]
    tracks = tracks[tracks[:, 7] == class_id]
    kept = [
        outside_ignored(*(rows[rows[:, 0] == frame] for rows in (tracks, truth, ignored)))
        for frame in np.unique(tracks[:, 0])
    ]
    return np.concatenate([truth[:, :7], np.ones((len(truth), 1))], axis=1), np.concatenate([tracks[:0], *kept])


def prepared(sequence: MotSequence, results: Path, regime: str, class_id: int | None) -> Scored:
    """One sequence as TrackEval is to see it."""
    truth, tracks = read_rows(sequence.path / "gt" / "gt.txt"), read_rows(results / f"{sequence.path.name}.txt")
    if class_id is not None:
        truth, tracks = of_class(truth, tracks, class_id)
    tracks[:, 7] = 1
    length = sequence.known_length()
    start = first_scored(regime, length)
    truth, tracks = (rows[rows[:, 0] > start] - start * np.eye(1, 8) for rows in (truth, tracks))
    return Scored(truth, tracks, length - start)


# --- TrackEval -------------------------------------------------------------------------------------------------------


def load_trackeval() -> Any:
    """The package, without what it prints on import."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            import trackeval
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error}: pip install --no-deps trackeval") from error
    return trackeval


def figures(sequences: Mapping[str, Scored], benchmark: str) -> Figures:
    """TrackEval's figures combined over sequences."""
    trackeval = load_trackeval()
    quiet = {"PRINT_CONFIG": False}
    metrics = [getattr(trackeval.metrics, name)(quiet) for name in ("HOTA", "Identity", "CLEAR")]
    each: list[dict[str, Any]] = [{} for _ in metrics]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        lay_out(Path(folder), sequences)
        places = {"GT_FOLDER": f"{folder}/gt", "TRACKERS_FOLDER": f"{folder}/trackers", "TRACKERS_TO_EVAL": ["ours"]}
        lengths = {"SEQ_INFO": {name: scored.length for name, scored in sequences.items()}, "SKIP_SPLIT_FOL": True}
        dataset = trackeval.datasets.MotChallenge2DBox(quiet | places | lengths | {"BENCHMARK": benchmark})
        for name in sequences:
            data = dataset.get_preprocessed_seq_data(dataset.get_raw_seq_data("ours", name), "pedestrian")
            for metric, results in zip(metrics, each, strict=True):
                results[name] = metric.eval_sequence(data)
    hota, identity, clear = (metric.combine_sequences(part) for metric, part in zip(metrics, each, strict=True))
    return Figures(
        hota=100 * float(np.mean(hota["HOTA"])),
        ass_a=100 * float(np.mean(hota["AssA"])),
        det_a=100 * float(np.mean(hota["DetA"])),
        idf1=100 * float(identity["IDF1"]),
        mota=100 * float(clear["MOTA"]),
        idsw=int(clear["IDSW"]),
    )


def lay_out(folder: Path, sequences: Mapping[str, Scored]) -> None:
    """The folders that TrackEval reads."""
    results = folder / "trackers" / "ours" / "data"
    results.mkdir(parents=True)
    for name, scored in sequences.items():
        truth = folder / "gt" / name / "gt"
        truth.mkdir(parents=True)
        np.savetxt(truth / "gt.txt", scored.truth, fmt=LINE)
        np.savetxt(results / f"{name}.txt", scored.tracks, fmt=LINE)


def score(given: Sequence[tuple[MotSequence, Path]], results: Path, regime: str) -> Iterator[tuple[str, Figures]]:
    """Figures of a regime by column; KITTI has two."""
    classes: Mapping[str, int | None] = (
        {f"kitti {name}": number for name, number in KITTI_CLASSES.items()} if regime == "kitti" else {regime: None}
    )
    for column, class_id in classes.items():
        sequences = {sequence.path.name: prepared(sequence, results, regime, class_id) for sequence, _ in given}
        yield column, figures(sequences, "MOT15" if regime == "tud" else "MOT17")


# --- the table -------------------------------------------------------------------------------------------------------


def markdown(rows: Mapping[str, Mapping[str, Figures]], split: str) -> str:
    """A row per tracker."""
    columns = list(next(iter(rows.values())))
    lines = [["HOTA/AssA/DetA/IDF1/IDSW", *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(str(row[column]) for column in columns)] for name, row in rows.items()]
    if split == "evaluation":
        peers = [f"{PUBLISHED_PEERS[column]:.2f}" if column in PUBLISHED_PEERS else "" for column in columns]
        lines.append(["published peers, same detections: best HOTA", *peers])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Prints a Markdown table."""
    regimes = (*REGIMES, "tud")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="MOT_ROOT")
    parser.add_argument("--simulated", type=Path, metavar="DIR", help="simulated detections of SportsMOT")
    parser.add_argument("--split", choices=tuple(SEQUENCES), default="evaluation")
    parser.add_argument("--tracker", nargs="+", choices=tuple(PRESETS), default=["adaptive"])
    parser.add_argument("--regimes", nargs="+", choices=regimes, default=list(regimes))
    parser.add_argument("--refine", action="store_true", help="a second row with short gaps filled")
    parser.add_argument("--output", type=Path, metavar="DIR", help="keep the tracks there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    given = parser.parse_args()
    load_trackeval()  # before the tracker works for nothing
    with contextlib.ExitStack() as stack:
        root = given.output or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        rows: dict[str, dict[str, Figures]] = {}
        for tracker in given.tracker:
            names = [tracker, f"{tracker}, gaps filled"][: 1 + given.refine]
            for regime in given.regimes:
                sequences = list(inputs(given.data, given.split, regime, given.simulated))
                if not sequences:
                    continue
                folders = [root / name.replace(", ", "-").replace(" ", "-") / regime for name in names]
                write_tracks(sequences, regime, tracker, folders)
                for name, folder in zip(names, folders, strict=True):
                    rows.setdefault(name, {}).update(score(sequences, folder, regime))
    if not rows:
        parser.error("no sequence to run over: SportsMOT needs --simulated, TUD is in the evaluation split only")
    print(markdown(rows, given.split))
    if given.json is not None:
        figures_of = {name: {column: asdict(found) for column, found in row.items()} for name, row in rows.items()}
        given.json.write_text(json.dumps({"split": given.split, "trackers": figures_of}, indent=1) + "\n")


if __name__ == "__main__":
    main()
