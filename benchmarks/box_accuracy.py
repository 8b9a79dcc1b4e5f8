"""HOTA, identity and CLEAR figures of the box tracker on public sequences, one column per kind of detections.

    python benchmarks/box_accuracy.py --data MOT_ROOT [--simulated DIR] [--split evaluation|training]
        [--tracker adaptive bytetrack …] [--scorer iou learned learned=FILE …] [--rank] [--regimes mot17-frcnn …]
        [--refine] [--stitch] [--scores 0.5 100 …] [--output DIR] [--json FILE]

MOT_ROOT and DIR are those of `mot_sequences`. A tracker is a preset with nothing else set; camera motion comes from
`gmc.txt` where a sequence has one. Its tracks are written as MOT text, `DIR/TRACKER/REGIME/SEQUENCE.txt`, and scored as
`trackweave evaluate` scores them, combined over a regime's sequences: MOT17, DanceTrack and SportsMOT by its protocol
`mot17`, TUD by `mot15`, KITTI by `kitti-simple`, class by class. MOT17's YOLOX is tracked over the whole sequence and
scored on the second half.

`--scorer learned` (the shipped model) or `learned=FILE[@THRESHOLD]` adds a row of the preset `learned` with it, with
`--rank` one of each preset of `--tracker`, in whose gates it ranks; `iou` stands for the presets of `--tracker`.

`--refine` adds a row per tracker with gaps of up to 20 frames filled afterwards, `--stitch` one with tracks stitched
before that, where the row has a learned scorer with its judgement; `--scores 0.5` makes rows of all
scores times 0.5.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

from trackweave.association.scorer import LearnedScorer
from trackweave.association.tracklets import TrackletMargins
from trackweave.evaluation.evaluate import evaluate
from trackweave.evaluation.metrics import TrackEval
from trackweave.evaluation.scores import ClassScores
from trackweave.evaluation.settings import EvaluationSettings, Metric
from trackweave.formats.mot import write_mot
from trackweave.formats.motchallenge import MotSequence, read_gmc
from trackweave.identity.stitch import VideoContext, camera_path, stitch, stitched_ids
from trackweave.mot.postprocess import refine
from trackweave.mot.settings import PRESETS, RefinementSettings, preset
from trackweave.pipelines.box_outputs import as_rows
from trackweave.structures.tracks import Tracks

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the sibling is found when this is started as a file

from benchmarks.mot_sequences import REGIMES, SEQUENCES, inputs, scorer_named, tracked_frames

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
CLASSICAL = "iou"
"""The scorer that is none: the tracker's own cost."""
GAPS_FILLED = ", gaps filled"
STITCHED = ", stitched, gaps filled"
LEARNED = "learned"
"""The preset for learned scorers."""
INTERPOLATE_MAX_GAP = 20
SECOND_HALF = 0.5
SHARES = {"hota": "HOTA", "ass_a": "AssA", "det_a": "DetA", "idf1": "IDF1", "mota": "MOTA"}


@dataclass(frozen=True)
class Figures:
    """In percent, identity switches as a count."""

    hota: float
    ass_a: float
    det_a: float
    idf1: float
    mota: float
    idsw: int
    sequences: int

    def __str__(self) -> str:
        return f"{self.hota:.2f}/{self.ass_a:.2f}/{self.det_a:.2f}/{self.idf1:.2f}/{self.idsw}"


# --- the tracker -----------------------------------------------------------------------------------------------------


def write_tracks(
    sequences: Sequence[tuple[MotSequence, Path]],
    regime: str,
    tracker: str,
    scorer: str,
    folders: Sequence[Path],
    score_factor: float = 1.0,
) -> None:
    """Tracks every sequence and writes the result into the first folder, refined into the second if there is one."""
    for sequence, detections in sequences:
        frames, _ = tracked_frames(
            sequence,
            detections,
            preset(tracker),
            has_class=regime == "kitti",
            scorer=scorer_named(scorer),
            score_factor=score_factor,
        )
        tracks = Tracks.concat([as_rows(index, None, frame).tracks for index, frame in enumerate(frames)])
        name = f"{sequence.path.name}.txt"
        write_mot(folders[0] / name, tracks)
        for folder, is_stitched in zip(folders[1:], (False, True), strict=False):
            whole = stitched_tracks(sequence, tracks, scorer) if is_stitched else tracks
            refined = refine(whole, RefinementSettings(interpolate_max_gap=INTERPOLATE_MAX_GAP))
            write_mot(folder / name, refined.tracks)


def stitched_tracks(sequence: MotSequence, tracks: Tracks, scorer: str) -> Tracks:
    """What `trackweave boxes --stitch` makes of the tracks of a sequence."""
    rate, size = sequence.known_frame_rate(), sequence.known_size()
    camera = None
    if sequence.camera_motion is not None:
        camera = camera_path([None, *read_gmc(sequence.camera_motion, sequence.known_length())[1:]])
    learned = scorer_named(scorer)
    margins = TrackletMargins(learned, rate, size) if isinstance(learned, LearnedScorer) else None
    links = stitch(tracks, VideoContext(rate, size, camera), margins)
    return replace(tracks, track_id=stitched_ids(tracks.track_id, links))


# --- the figures -----------------------------------------------------------------------------------------------------


def figures(scores: ClassScores) -> Figures:
    """The figures of one class, combined over sequences."""
    percent = {name: 100 * scores.combined[field] for name, field in SHARES.items()}
    return Figures(**percent, idsw=int(scores.combined["IDSW"]), sequences=len(scores.sequences))


@dataclass(frozen=True)
class Corpus:
    """Where the sequences are, see `mot_sequences.inputs`."""

    data: Path
    simulated: Path | None
    split: str


def measure(
    corpus: Corpus,
    rows: Iterable[tuple[str, str]],
    regimes: Sequence[str],
    *,
    refined: int = 0,
    output: Path | None = None,
    score_factors: Sequence[float] = (1.0,),
) -> dict[str, dict[str, Figures]]:
    """Figures by row and column.

    Args:
        corpus: the sequences.
        rows: tracker and scorer of each.
        regimes: which columns; those without sequences are left out.
        refined: how many more rows of each: one with short gaps filled, and one with tracks stitched before.
        output: where the tracks are kept; None: nowhere.
        score_factors: a row of each with scores times so much.
    """
    scored: dict[str, dict[str, Figures]] = {}
    with contextlib.ExitStack() as stack:
        root = output or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for (tracker, scorer), factor in product(rows, score_factors):
            called = row_name(tracker, scorer) + ("" if factor == 1 else f", scores × {factor:g}")
            names = [called, f"{called}{GAPS_FILLED}", f"{called}{STITCHED}"][: 1 + refined]
            for regime in regimes:
                sequences = list(inputs(corpus.data, corpus.split, regime, corpus.simulated))
                if not sequences:
                    continue
                folders = [root / re.sub(r"[^\w.]+", "-", name) / regime for name in names]
                write_tracks(sequences, regime, tracker, scorer, folders, factor)
                for name, folder in zip(names, folders, strict=True):
                    scored.setdefault(name, {}).update(score(sequences, folder, regime))
    return scored


def row_name(tracker: str, scorer: str) -> str:
    """A preset by its name; a learned scorer as `learned`, one from a file with the file's."""
    kind, _, file = scorer.partition("=")
    if scorer == CLASSICAL:
        return tracker
    path, _, threshold = file.partition("@")
    named = ", ".join(part for part in (kind, Path(path).stem, threshold) if part)
    return named if tracker == LEARNED else f"{tracker} ranked by {named}"


def score(sequences: Sequence[tuple[MotSequence, Path]], results: Path, regime: str) -> Iterator[tuple[str, Figures]]:
    """Figures of a regime by column; KITTI has two."""
    settings = EvaluationSettings(
        sequences=tuple(sequence.path.name for sequence, _ in sequences),
        start_fraction=SECOND_HALF if regime == "mot17-yolox" else 0.0,
    )
    for scores in evaluate(results, sequences[0][0].path.parent, settings).classes:
        yield (f"kitti {scores.name}" if regime == "kitti" else regime), figures(scores)


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


def rows_of(trackers: Sequence[str], scorers: Sequence[str], *, rank: bool = False) -> Iterator[tuple[str, str]]:
    """Tracker and scorer of each row: a learned scorer belongs with the preset made for it, or ranks in all others."""
    for scorer in scorers:
        if scorer == CLASSICAL or rank:
            yield from ((tracker, scorer) for tracker in trackers)
        else:
            yield LEARNED, scorer


def main() -> None:
    """Prints a Markdown table."""
    regimes = (*REGIMES, "tud")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="MOT_ROOT")
    parser.add_argument("--simulated", type=Path, metavar="DIR", help="simulated detections of SportsMOT")
    parser.add_argument("--split", choices=tuple(SEQUENCES), default="evaluation")
    parser.add_argument("--tracker", nargs="+", choices=tuple(PRESETS), default=["adaptive"])
    parser.add_argument("--scorer", nargs="+", default=[CLASSICAL], metavar="iou|learned|learned=FILE")
    parser.add_argument("--rank", action="store_true", help="learned scorers rank in the gates of the presets")
    parser.add_argument("--regimes", nargs="+", choices=regimes, default=list(regimes))
    parser.add_argument("--refine", action="store_true", help="a second row with short gaps filled")
    parser.add_argument(
        "--stitch", action="store_true", help="rows with short gaps filled, and with tracks stitched before"
    )
    parser.add_argument("--scores", nargs="+", type=float, default=[1.0], metavar="FACTOR", help="times so much")
    parser.add_argument("--output", type=Path, metavar="DIR", help="keep the tracks there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    args = parser.parse_args()
    TrackEval([Metric.hota])  # a missing package is reported before the trackers run
    corpus = Corpus(args.data, args.simulated, args.split)
    trackers = rows_of(args.tracker, args.scorer, rank=args.rank)
    refined = 2 if args.stitch else int(args.refine)
    rows = measure(corpus, trackers, args.regimes, refined=refined, output=args.output, score_factors=args.scores)
    if not rows:
        parser.error("no sequence to run over: SportsMOT needs --simulated, TUD is in the evaluation split only")
    print(markdown(rows, args.split))
    if args.json is not None:
        figures_of = {name: {column: asdict(cell) for column, cell in row.items()} for name, row in rows.items()}
        args.json.write_text(json.dumps({"split": args.split, "trackers": figures_of}, indent=1) + "\n")


if __name__ == "__main__":
    main()
