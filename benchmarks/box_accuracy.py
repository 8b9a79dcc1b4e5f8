"""HOTA, identity and CLEAR figures of the box tracker on public sequences, one column per kind of detections.

    python benchmarks/box_accuracy.py --data MOT_ROOT [--simulated DIR] [--split evaluation|training]
        [--tracker adaptive bytetrack …] [--scorer iou learned learned=FILE …] [--rank] [--regimes mot17-frcnn …]
        [--refine] [--stitch] [--scores 0.5 100 …] [--output DIR] [--json FILE]

MOT_ROOT and DIR are those of `mot_sequences`. All rows are one plan, as `trackweave run` works through it: a tracker is
a preset with nothing else set; camera motion comes from `gmc.txt` where a sequence has one. Scores are combined over a
regime's sequences: MOT17, DanceTrack and SportsMOT by the protocol `mot17`, TUD by `mot15`, KITTI by `kitti-simple`,
class by class. MOT17's YOLOX is tracked over the whole sequence and scored on the second half. With `--output` the
plan's folder stays: its page compares the rows with the first one, with intervals, the runs are in DIR/ROW/SEQUENCE,
and the same command repeats nothing that is done.

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
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import trackweave
from trackweave.evaluation.metrics import TrackEval
from trackweave.evaluation.scores import Scores
from trackweave.evaluation.settings import Metric
from trackweave.mot.settings import PRESETS
from trackweave.options.sources import from_mapping
from trackweave.plans.settings import SCHEMAS, Plan, Variant, load_plan
from trackweave.plans.tables import EVALUATION

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the sibling is found when this is started as a file

from benchmarks.mot_sequences import REGIMES, SEQUENCES, inputs

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
INTERPOLATION: Mapping[str, Any] = {"refinement.interpolate_max_gap": 20}
SECOND_HALF = 0.5
SHARES = {"hota": "HOTA", "ass_a": "AssA", "det_a": "DetA", "idf1": "IDF1", "mota": "MOTA"}


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        name: that it has.
        settings: of the tracker.
    """

    name: str
    settings: Mapping[str, Any]

    def refined(self) -> Row:
        """The same with short gaps filled."""
        return Row(self.name + GAPS_FILLED, {**self.settings, **INTERPOLATION})

    def stitched(self) -> Row:
        """The same with tracks stitched before that."""
        return Row(self.name + STITCHED, {**self.settings, **INTERPOLATION, "refinement.stitch": True})

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return re.sub(r"[^\w.]+", "-", self.name)


def rows_of(trackers: Sequence[str], scorers: Sequence[str], *, rank: bool = False) -> Iterator[Row]:
    """A row per tracker and scorer: a learned one belongs with the preset made for it, or ranks in all others."""
    for scorer in scorers:
        kind, _, file = scorer.partition("=")
        if kind not in (CLASSICAL, LEARNED):
            raise SystemExit(f"--scorer {scorer}: iou, learned or learned=FILE[@THRESHOLD]")
        path, _, threshold = file.partition("@")
        called = ", ".join(part for part in (kind, Path(path).stem, threshold) if part)
        model = {"scorer.weights": path, "scorer.threshold": float(threshold or 0)}
        own = {"scorer.enabled": True, **{name: value for name, value in model.items() if value}}
        if kind == CLASSICAL:
            yield from (Row(tracker, {"tracker.preset": tracker}) for tracker in trackers)
        elif rank:
            yield from (
                Row(f"{tracker} ranked by {called}", {"tracker.preset": tracker, **own}) for tracker in trackers
            )
        else:
            yield Row(called, {"tracker.preset": LEARNED, **own})


# --- the figures -----------------------------------------------------------------------------------------------------


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

    @classmethod
    def of(cls, combined: Scores | Mapping[str, Any], sequences: int) -> Figures:
        """The figures of one class, combined over sequences."""
        percent = {name: 100 * combined[field] for name, field in SHARES.items()}
        return cls(**percent, idsw=int(combined["IDSW"]), sequences=sequences)

    def __str__(self) -> str:
        return f"{self.hota:.2f}/{self.ass_a:.2f}/{self.det_a:.2f}/{self.idf1:.2f}/{self.idsw}"


@dataclass(frozen=True)
class Corpus:
    """Where the sequences are, see `mot_sequences.inputs`."""

    data: Path
    simulated: Path | None
    split: str

    def plan(self, rows: Sequence[Row], regimes: Sequence[str], output: Path, score_factor: float = 1.0) -> Plan:
        """The plan of all rows over these sequences; groups are regimes, variants are rows."""
        entries = []
        for regime in regimes:
            for sequence, detections in inputs(self.data, self.split, regime, self.simulated):
                name = sequence.path.name + ("-yolox" if regime == "mot17-yolox" else "")
                settings: dict[str, Any] = {"evaluate.start_fraction": SECOND_HALF} if regime == "mot17-yolox" else {}
                settings |= {"input.class_column": 8} if regime == "kitti" else {}
                if score_factor != 1:
                    detections = _scaled(detections, score_factor, output / "detections" / f"{name}.txt")
                paths = {"path": str(sequence.path), "detections": str(detections), "truth": "{input}"}
                entries.append({"name": name, "group": regime, "settings": settings, **paths})
        if not entries:
            raise SystemExit(
                "no sequence to run over: SportsMOT needs --simulated, TUD is in the evaluation split only"
            )
        plan = load_plan({"name": "boxes", "kind": "boxes", "inputs": entries, "output": str(output)})
        variants = [Variant(row.folder, from_mapping(row.settings, SCHEMAS["boxes"], row.name)) for row in rows]
        return replace(plan, variants=variants)


def _scaled(detections: Path, factor: float, target: Path) -> Path:
    """A copy of a file of detections whose scores are multiplied."""
    rows = [line.split(",") for line in detections.read_text().splitlines() if line.strip()]
    lines = [",".join([*row[:6], repr(float(np.float32(row[6]) * np.float32(factor))), *row[7:]]) for row in rows]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines) + "\n")
    return target


def measure(
    corpus: Corpus,
    rows: Sequence[Row],
    regimes: Sequence[str],
    *,
    output: Path | None = None,
    score_factor: float = 1.0,
) -> dict[str, dict[str, Figures]]:
    """Figures by row and column.

    Args:
        corpus: the sequences.
        rows: of the table.
        regimes: which columns; those without sequences are left out; KITTI has two.
        output: folder of the plan, in which nothing is repeated that is done; None: nothing stays.
        score_factor: all scores times so much.
    """
    with contextlib.ExitStack() as stack:
        folder = output or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        variants = scores_of(corpus.plan(rows, regimes, folder, score_factor))
    return {row.name: dict(_columns(variants[row.folder])) for row in rows}


def scores_of(plan: Plan) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Works through a plan.

    Returns:
        variant → its regimes, as `evaluation.json` has them.
    """
    for item in trackweave.run(plan):
        if item.failure is not None:
            raise SystemExit(f"{item.name} ({item.variant}): {item.failure.message}")
        print(f"{item.name} ({item.variant})", file=sys.stderr)
    variants = json.loads((plan.output / EVALUATION).read_text())["variants"]
    return {name: variant["regimes"] for name, variant in variants.items()}


def _columns(regimes: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Figures]]:
    for regime in regimes:
        for name, scores in regime["classes"].items():
            column = f"kitti {name}" if regime["name"] == "kitti" else regime["name"]
            yield column, Figures.of(scores["combined"], len(scores["sequences"]))


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
    parser.add_argument("--scorer", nargs="+", default=[CLASSICAL], metavar="iou|learned|learned=FILE")
    parser.add_argument("--rank", action="store_true", help="learned scorers rank in the gates of the presets")
    parser.add_argument("--regimes", nargs="+", choices=regimes, default=list(regimes))
    parser.add_argument("--refine", action="store_true", help="a second row with short gaps filled")
    parser.add_argument(
        "--stitch", action="store_true", help="rows with short gaps filled, and with tracks stitched before"
    )
    parser.add_argument("--scores", nargs="+", type=float, default=[1.0], metavar="FACTOR", help="times so much")
    parser.add_argument("--output", type=Path, metavar="DIR", help="keep the plan there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    args = parser.parse_args()
    TrackEval([Metric.hota])  # a missing package is reported before the trackers run
    corpus = Corpus(args.data, args.simulated, args.split)
    rows = list[Row]()
    for row in rows_of(args.tracker, args.scorer, rank=args.rank):
        rows += [
            row,
            *([row.refined()] if args.refine or args.stitch else []),
            *([row.stitched()] if args.stitch else []),
        ]
    measured: dict[str, dict[str, Figures]] = {}
    for factor in args.scores:
        suffix = "" if factor == 1 else f", scores × {factor:g}"
        output = args.output and args.output / f"scores-{factor:g}" if suffix else args.output
        figures = measure(corpus, rows, args.regimes, output=output, score_factor=factor)
        measured |= {name + suffix: row for name, row in figures.items()}
    print(markdown(measured, args.split))
    if args.json is not None:
        figures_of = {name: {column: asdict(cell) for column, cell in row.items()} for name, row in measured.items()}
        args.json.write_text(json.dumps({"split": args.split, "trackers": figures_of}, indent=1) + "\n")


if __name__ == "__main__":
    main()
