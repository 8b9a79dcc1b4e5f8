"""The accuracy tables of docs/benchmarks.md: boxes on public sequences, masks on DAVIS.

    python benchmarks/accuracy.py [--data MOT_ROOT] [--simulated DIR] [--davis DIR] [--split evaluation|training]
        [--tracker adaptive …] [--scorer iou learned learned=FILE …] [--regimes …] [--no-refine] [--render]
        [--output DIR]

Boxes and masks are one plan each, as `trackweave run` works through it, in DIR/boxes-SPLIT and DIR/masks (default
`runs/accuracy`): the same command again goes on where it was and repeats nothing, and the page in each folder compares
the rows with the first one, with intervals. What is measured goes into `accuracy.json` beside this script, row by row
and column by column: what is not measured again stays. Then the tables between the marks `<!-- accuracy … -->` of the
docs are written from that file; `--render` does that alone. MOT_ROOT and `--simulated` are those of `box_accuracy.py`;
DAVIS holds SEQUENCE/frames and SEQUENCE/masks as for `flow_davis.py`. Masks are tracked from the first label image.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trackweave.mot.settings import PRESETS
from trackweave.plans.settings import load_plan

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the siblings are found when this is started as a file

from benchmarks.box_accuracy import (
    CLASSICAL,
    GAPS_FILLED,
    PUBLISHED_PEERS,
    Corpus,
    Figures,
    measure,
    rows_of,
    scores_of,
)
from benchmarks.mot_sequences import REGIMES, SEQUENCES

RECORD = Path(__file__).with_name("accuracy.json")
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
RUNS = PAGE.parents[1] / "runs" / "accuracy"
COLUMNS = {
    "mot17-frcnn": "MOT17 FRCNN",
    "mot17-yolox": "MOT17 YOLOX",
    "dancetrack": "DanceTrack",
    "kitti car": "KITTI car",
    "kitti pedestrian": "KITTI pedestrian",
    "sportsmot": "SportsMOT",
    "tud": "TUD",
}
MASK_FIELDS = ("J&F", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
PREDICTOR = "flow"
MARKS = "<!-- accuracy {name} -->\n"
END = "<!-- /accuracy -->"

Record = dict[str, dict[str, dict[str, Any]]]
"""Table → row → column → figures."""


def measured_boxes(args: argparse.Namespace) -> Mapping[str, Mapping[str, Figures]]:
    """Rows of the tracker's presets and of learned scorers."""
    first, *others = rows_of(args.tracker, args.scorer)
    rows = [first, *([first.refined()] if args.refine else []), *others]
    corpus = Corpus(args.data, args.simulated, args.split)
    return measure(corpus, rows, args.regimes, output=args.output / f"boxes-{args.split}")


def measured_masks(root: Path, output: Path) -> Mapping[str, Mapping[str, float]]:
    """J and F of each sequence, the first label image given."""
    plan = {
        "name": "masks",
        "inputs": [{"path": f"{root}/*/frames", "truth": str(root), "prompts": f"{root}/{{name}}/masks/00000.png"}],
        "settings": {"predictor": PREDICTOR, "tracking.render_viz": False, "evaluate.metrics": ["jf"]},
        "output": str(output),
    }
    ((regime,),) = scores_of(load_plan(plan)).values()
    (scores,) = regime["classes"].values()
    rows = {**scores["sequences"], "mean": scores["combined"]}
    return {name: {field: scores[field] for field in MASK_FIELDS} for name, scores in rows.items()}


def merged(record: Record, table: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Puts what was measured in the place of what was known."""
    known = record.setdefault(table, {})
    for name, row in rows.items():
        known.setdefault(name, {}).update(row)


def box_table(rows: Mapping[str, Mapping[str, Mapping[str, Any]]], *, with_peers: bool) -> str:
    """HOTA/AssA/DetA/IDF1/IDSW by row and kind of sequences; the number of sequences beside each kind."""
    columns = [column for column in COLUMNS if any(column in row for row in rows.values())]
    counts = {column: next(row[column]["sequences"] for row in rows.values() if column in row) for column in columns}
    lines = [["", *(f"{COLUMNS[column]} ({counts[column]})" for column in columns)]]
    for name, row in rows.items():
        cells = [str(Figures(**row[column])) if column in row else "–" for column in columns]
        lines.append([_label(name), *cells])
        if with_peers and len(lines) == 2:
            peers = [f"{PUBLISHED_PEERS[column]:.2f}" if column in PUBLISHED_PEERS else "" for column in columns]
            lines.append(["best peer, HOTA", *peers])
    return markdown(lines)


def mask_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """J and F by sequence."""
    lines = [["sequence", *MASK_FIELDS]]
    for name, row in rows.items():
        cells = [f"{row[field]:.3f}" for field in MASK_FIELDS]
        lines.append([f"**{name}**" if name == "mean" else name, *cells])
    return markdown(lines)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table; the first line is its head."""
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|---" * len(lines[0]) + "|", *body]) + "\n"


def rendered(record: Record) -> Mapping[str, str]:
    """The tables by the names of their marks."""
    tables = {
        f"boxes, {split}": box_table(record[f"boxes, {split}"], with_peers=split == "evaluation")
        for split in SEQUENCES
        if f"boxes, {split}" in record
    }
    return tables | ({"masks": mask_table(record["masks"])} if "masks" in record else {})


def with_tables(page: str, tables: Mapping[str, str]) -> str:
    """The page with the tables between their marks.

    Raises:
        SystemExit: a table whose mark the page does not have.
    """
    for name, table in tables.items():
        begin = MARKS.format(name=name)
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(END), re.S)
        if not pattern.search(page):
            raise SystemExit(f"{PAGE}: there is no mark {begin.strip()}")
        page = pattern.sub(lambda _, text=begin + table + END: text, page)  # type: ignore[misc]
    return page


def _label(name: str) -> str:
    """`adaptive`, gaps filled; the name of a preset as code."""
    preset, comma, rest = name.partition(",")
    return f"`{preset}`{comma}{rest}{' offline' if name.endswith(GAPS_FILLED) else ''}"


def main() -> None:
    """Measures, keeps, renders."""
    regimes = (*REGIMES, "tud")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="MOT_ROOT")
    parser.add_argument("--simulated", type=Path, metavar="DIR", help="simulated detections of SportsMOT")
    parser.add_argument("--davis", type=Path, metavar="DIR")
    parser.add_argument("--split", choices=tuple(SEQUENCES), default="evaluation")
    parser.add_argument("--tracker", nargs="+", choices=tuple(PRESETS), default=["adaptive"])
    parser.add_argument("--scorer", nargs="+", default=[CLASSICAL], metavar="iou|learned|learned=FILE")
    parser.add_argument("--regimes", nargs="+", choices=regimes, default=list(regimes))
    parser.add_argument("--no-refine", dest="refine", action="store_false", help="no row with gaps filled")
    parser.add_argument(
        "--output", type=Path, default=RUNS, metavar="DIR", help="of the plans [default: runs/accuracy]"
    )
    parser.add_argument("--render", action="store_true", help="write the tables again, measure nothing")
    args = parser.parse_args()
    record: Record = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    if not args.render:
        if args.data is None and args.davis is None:
            parser.error("give --data, --davis, or --render")
        if args.data is not None:
            boxes = measured_boxes(args)
            rows = {name: {column: asdict(cell) for column, cell in row.items()} for name, row in boxes.items()}
            merged(record, f"boxes, {args.split}", rows)
        if args.davis is not None:
            merged(record, "masks", measured_masks(args.davis, args.output / "masks"))
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), rendered(record)), encoding="utf-8")
    for name, table in rendered(record).items():
        print(f"{name}\n\n{table}")


if __name__ == "__main__":
    main()
