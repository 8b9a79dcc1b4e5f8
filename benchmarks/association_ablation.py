"""What each part of the model contributes: trainings without one of them, on DanceTrack's training sequences.

    python benchmarks/association_ablation.py --data MOT_ROOT --output DIR [--epochs 6 8] [--parts whole history …]

Every variant is trained from random weights on the same sequences in the same rounds (`train_public`), and evaluated in
the tracker on the seven evaluation sequences. In the last rows the whole model only ranks, by half, inside the gates of
`adaptive`, and there is no model.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the siblings are found when this is started as a file

from benchmarks import train_public
from benchmarks.box_accuracy import Corpus, Figures, measure, rows_of

VARIANTS = ("whole", *train_public.PARTS)


def scored(root: Path, tracker: str, scorer: str) -> Figures:
    """The tracker over the evaluation sequences."""
    (row,) = rows_of([tracker], [scorer], rank=True)
    return measure(Corpus(root, None, "evaluation"), [row], ["dancetrack"])[row.name]["dancetrack"]


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="MOT_ROOT")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--epochs", type=int, nargs="+", default=[6, 8], help="by round")
    parser.add_argument("--parts", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="which rows")
    args = parser.parse_args()
    print("| | HOTA/AssA/DetA/IDF1/IDSW |\n|---|---|", flush=True)
    for variant in args.parts:
        output = args.output / variant
        if not (output / "model.onnx").exists():
            options = ["--data", args.data, "--output", output, "--regimes", "dancetrack", "--forwards", "--lr", 2e-3]
            options += ["--epochs", *args.epochs] + ([] if variant == "whole" else ["--without", variant])
            train_public.main([str(option) for option in options])
        figures = scored(args.data, "learned", f"learned={output / 'model.onnx'}")
        print(f"| {variant if variant == 'whole' else f'without {variant}'} | {figures} |", flush=True)
    whole = args.output / "whole" / "model.onnx"
    if whole.exists():
        print(f"| whole, ranks only, by half | {scored(args.data, 'adaptive', f'learned={whole}')} |")
    print(f"| no model | {scored(args.data, 'adaptive', 'iou')} |")


if __name__ == "__main__":
    main()
