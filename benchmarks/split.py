"""Long videos in pieces that are joined, against the same videos whole: identities and scores.

python benchmarks/split.py boxes MOT17 DanceTrack --tracker bytetrack --split 300:30 150:15
python benchmarks/split.py masks bear tennis --split 30:10 30:5
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.optimize import linear_sum_assignment

from trackweave.evaluation.evaluate import evaluate
from trackweave.evaluation.settings import EvaluationSettings, Metric
from trackweave.exporters import export
from trackweave.identity.pieces import divided
from trackweave.masks.ops import mask_iou
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.run import open_run
from trackweave.pipelines.settings import InputSettings
from trackweave.storage.mask_archive import VideoSegments
from trackweave.structures.tracks import Tracks
from trackweave.tracking.settings import TrackingSettings

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


def masks(root: Path, names: list[str], predictor: str, splits: list[tuple[int, int]], out: Path) -> None:
    """Prints a table over sequences of DAVIS: the joined run scored with the whole one as its truth, and both with
    DAVIS's object, which the best of their tracks has."""
    options: dict[str, Any] = {"predictor": predictor, "levels": [2], "overlay": False, "progress": False}
    settings = TrackingSettings(render_viz=False)
    print("| split | clip | tracks | of the whole | HOTA | AssA | DetA | best J | of the whole | CPU |")
    print(f"|{'---|' * 10}")
    for name in names:
        frames, truth = root / name / "frames", root / name / "masks"
        began = time.process_time()
        whole = track_masks(frames, out / name / "whole", settings=settings, **options)
        cost = time.process_time() - began
        (target,) = export(whole, "ytvis", out / name / f"{name}.json")
        for length, overlap in splits:
            began, runs = time.process_time(), list[Path]()
            for piece in divided(whole.summary.input.frames or 0, length, overlap):
                runs.append(out / name / f"{length}-{overlap}-{piece.start}")
                sampling = f"{piece.start}:{piece.stop}"
                track_masks(frames, runs[-1], settings=settings, sampling=sampling, identity=False, **options)
            tracked, began = time.process_time() - began, time.process_time()
            joined = track_masks(
                frames,
                out / name / f"{length}-{overlap}",
                settings=settings,
                pieces=runs,
                predictor=predictor,
                overlay=False,
            )
            cpu = f"{tracked / cost:.2f} + {(time.process_time() - began) / cost:.2f}"
            scores = evaluate(joined, target, EvaluationSettings(metrics=(Metric.hota,))).classes[0].combined
            cells = [f"{100 * scores[one]:.1f}" for one in ("HOTA", "AssA", "DetA")]
            counts = [str(run.summary.track_count) for run in (joined, whole)]
            best = [f"{best_j(run.root, truth):.3f}" for run in (joined, whole)]
            row = [f"{length} with {overlap}", name, *counts, *cells, *best, cpu]
            print(f"| {' | '.join(row)} |", flush=True)


def best_j(run: Path, truth: Path) -> float:
    """Mean J of the track that has the object of DAVIS best."""
    total: dict[int, float] = {}
    files = sorted(truth.glob("*.png"))
    with VideoSegments(run / "level_2" / "tracking" / "video_segments.npz") as video:
        for frame, file in enumerate(files):
            objects = video.frame(frame)
            wanted = np.asarray(Image.open(file).convert("L")) > 0
            j = mask_iou(objects.masks, PackedMasks.from_bool(wanted[None]))[:, 0] if len(objects) else np.zeros(0)
            for one, value in zip(objects.track_id.tolist(), j.tolist(), strict=True):
                total[one] = total.get(one, 0.0) + value
    return max(total.values(), default=0.0) / len(files)


def line(label: str, pieces: int, same: tuple[int, int], runs: Path, truth: Path, cpu: str) -> None:
    """Prints a row."""
    found = evaluate(runs, truth)
    scores = found.all_classes or found.classes[0].combined
    cells = [f"{scores[name]:.0f}" if name == "IDSW" else f"{100 * scores[name]:.2f}" for name in SHOWN]
    print(f"| {label} | {pieces} | {100 * same[0] / same[1]:.2f} | {' | '.join(cells)} | {cpu} |", flush=True)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["boxes", "masks"])
    parser.add_argument("names", nargs="+", help="below --root: of boxes folders of sequences, of masks sequences")
    parser.add_argument("--root", type=Path, help="[default: ../shared/data/mot, or vos/davis2016_480p beside it]")
    parser.add_argument("--predictor", default="flow")
    parser.add_argument("--tracker", default="bytetrack")
    parser.add_argument("--split", nargs="+", default=["300:30"], help="FRAMES:OVERLAP")
    given = parser.parse_args()
    splits = [(int(frames), int(overlap)) for frames, overlap in (text.split(":") for text in given.split)]
    data = Path("../shared/data")
    with tempfile.TemporaryDirectory() as folder:
        if given.kind == "boxes":
            boxes(given.root or data / "mot", given.names, given.tracker, splits, Path(folder))
        else:
            masks(given.root or data / "vos/davis2016_480p", given.names, given.predictor, splits, Path(folder))


if __name__ == "__main__":
    main()
