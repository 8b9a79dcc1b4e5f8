"""What each part of the model buys: trainings that leave one out, on DanceTrack's training sequences.

    python benchmarks/association_ablation.py --data MOT_ROOT --output DIR [--sequences 7] [--epochs 3] [--hold …]

Every variant is trained from nothing on the same frames for the same epochs (`train_public`), and scored in the tracker
on sequences that were held out: HOTA, AssA, IDF1 with `trackweave.evaluation`. The last rows change how the whole model
is used: it ranks inside the gates of `adaptive` by half, and without any model.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from trackweave.association.scorer import LearnedScorer
from trackweave.formats.mot import write_mot
from trackweave.formats.motchallenge import read_sequence
from trackweave.mot.settings import TrackerSettings, preset
from trackweave.mot.track_writer import as_rows
from trackweave.structures.tracks import Tracks

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the siblings are found when this is started as a file

from benchmarks import train_public
from benchmarks.box_accuracy import Figures, score
from benchmarks.mot_sequences import tracked_frames

VARIANTS = ("whole", *train_public.PARTS)


def scored(root: Path, names: list[str], model: Path | None, how: TrackerSettings) -> Figures:
    """The tracker over held-out sequences."""
    given = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            sequence = read_sequence(root / "DanceTrack" / name)
            detections = sequence.detections("det")
            scorer = None if model is None else LearnedScorer(model)
            frames, _ = tracked_frames(sequence, detections, how, has_class=False, scorer=scorer)
            tracks = Tracks.concat([as_rows(index, None, frame).tracks for index, frame in enumerate(frames)])
            write_mot(Path(folder) / f"{name}.txt", tracks)
            given.append((sequence, detections))
        return dict(score(given, Path(folder), "dancetrack"))["dancetrack"]


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="MOT_ROOT")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sequences", type=int, default=7, help="to train on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--hold", nargs="+", default=["dancetrack0065", "dancetrack0077"])
    given = parser.parse_args()
    print("| | HOTA/AssA/DetA/IDF1/IDSW |\n|---|---|", flush=True)
    for variant in VARIANTS:
        output = given.output / variant
        if not (output / "model.onnx").exists():
            words = ["--data", given.data, "--output", output, "--regimes", "dancetrack", "--epochs", given.epochs]
            words += ["--sequences", given.sequences + len(given.hold), "--hold", *given.hold, "--lr", 2e-3]
            words += [] if variant == "whole" else ["--without", variant]
            train_public.main([str(word) for word in words])
        found = scored(given.data, given.hold, output / "model.onnx", preset("learned"))
        print(f"| {variant if variant == 'whole' else f'without {variant}'} | {found} |", flush=True)
    whole = given.output / "whole" / "model.onnx"
    print(f"| whole, ranks only, by half | {scored(given.data, given.hold, whole, preset('adaptive'))} |")
    print(f"| no model | {scored(given.data, given.hold, None, preset('adaptive'))} |")


if __name__ == "__main__":
    main()
