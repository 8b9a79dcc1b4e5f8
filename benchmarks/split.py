"""Long videos in pieces that are joined, against the same videos whole: identities and scores.

python benchmarks/split.py boxes MOT17 DanceTrack --tracker bytetrack --split 300:30 150:15
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from trackweave.evaluation.evaluate import evaluate
from trackweave.identity.pieces import divided
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.run import open_run
from trackweave.pipelines.settings import InputSettings
from trackweave.structures.tracks import Tracks

SHOWN = ("HOTA", "AssA", "DetA", "IDF1", "IDSW")


def equal_ids(one: Tracks, other: Tracks) -> tuple[int, int]:
    """Of the observations of the first, how many are in the other under the same id, up to how ids are numbered."""
    keys = [
        {(int(frame), *map(float, box)): int(own) for frame, own, box in zip(t.frame, t.track_id, t.xyxy, strict=True)}
        for t in (one, other)
    ]
    both = keys[0].keys() & keys[1].keys()
    rows, columns = (sorted({found[key] for key in both}) for found in keys)
    row_of, column_of = ({own: n for n, own in enumerate(ids)} for ids in (rows, columns))
    counts = np.zeros((len(rows), len(columns)), int)
    for key in both:
        counts[row_of[keys[0][key]], column_of[keys[1][key]]] += 1
    chosen = linear_sum_assignment(counts, maximize=True)
    return int(counts[chosen].sum()), len(one)


def boxes(root: Path, names: list[str], tracker: str, splits: list[tuple[int, int]], out: Path) -> None:
    """Prints a table over all sequences of some data sets."""
    print(
        f"| {tracker} | pieces | boxes with the same id, % | {' | '.join(SHOWN)} | CPU |\n|{'---|' * (4 + len(SHOWN))}"
    )
    for name in names:
        folders = sorted(path for path in (root / name).iterdir() if (path / "gt").is_dir())
        began = time.process_time()
        for folder in folders:
            track_boxes(folder, out / name / "whole" / folder.name, tracker=tracker, overlay=False, progress=False)
        whole = time.process_time() - began
        line(f"{name} ({len(folders)}), whole", len(folders), (1, 1), out / name / "whole", root / name, "1")
        for frames, overlap in splits:
            folder_of = out / name / f"{frames}-{overlap}"
            count, same, total = 0, 0, 0
            tracked = joined = 0.0
            for folder in folders:
                began = time.process_time()
                runs = []
                length = open_run(out / name / "whole" / folder.name).summary.input.frames or 0
                for piece in divided(length, frames, overlap):
                    runs.append(out / name / "pieces" / f"{frames}-{overlap}" / folder.name / str(piece.start))
                    video = InputSettings(frames=f"{piece.start}:{piece.stop}")
                    track_boxes(folder, runs[-1], tracker=tracker, overlay=False, progress=False, video=video)
                tracked, began = tracked + time.process_time() - began, time.process_time()
                target = folder_of / folder.name
                track_boxes(folder, target, tracker=tracker, overlay=False, progress=False, pieces=runs)
                joined += time.process_time() - began
                count += len(runs)
            for folder in folders:
                tracks = [open_run(path / folder.name).tracks() for path in (out / name / "whole", folder_of)]
                found = equal_ids(*tracks)
                same, total = same + found[0], total + found[1]
            line(
                f"{name}, {frames} with {overlap}",
                count,
                (same, total),
                folder_of,
                root / name,
                f"{tracked / whole:.2f} + {joined / whole:.2f}",
            )


def line(label: str, pieces: int, same: tuple[int, int], runs: Path, truth: Path, cpu: str) -> None:
    """Prints a row."""
    found = evaluate(runs, truth)
    scores = found.all_classes or found.classes[0].combined
    cells = [f"{scores[name]:.0f}" if name == "IDSW" else f"{100 * scores[name]:.2f}" for name in SHOWN]
    print(f"| {label} | {pieces} | {100 * same[0] / same[1]:.2f} | {' | '.join(cells)} | {cpu} |", flush=True)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["boxes"])
    parser.add_argument("names", nargs="+", help="folders of sequences below --root")
    parser.add_argument("--root", type=Path, default=Path("../shared/data/mot"))
    parser.add_argument("--tracker", default="bytetrack")
    parser.add_argument("--split", nargs="+", default=["300:30"], help="FRAMES:OVERLAP")
    given = parser.parse_args()
    splits = [(int(frames), int(overlap)) for frames, overlap in (text.split(":") for text in given.split)]
    with tempfile.TemporaryDirectory() as folder:
        boxes(given.root, given.names, given.tracker, splits, Path(folder))


if __name__ == "__main__":
    main()
