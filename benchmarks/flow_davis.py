"""J, F and frames per second of `flow` over a folder of annotated sequences, beside two simple methods.

    python benchmarks/flow_davis.py --root DIR [--seqs a b …] [--objects 10] [--reverse] [--out DIR]
        [--settings '{"motion_weight": 0}']

DIR holds one folder per sequence with `frames/` (images) and `masks/` (label images; every id above 0 counts as one
object, as in DAVIS 2016). The first annotated mask is given (with `--reverse` the last); both ends are not scored, as
DAVIS does. Peers in the same run: `static` copies the given mask, `warp` chains the plain backward flow (OpenCV's DIS,
medium preset, full resolution). One thread; seconds are processor seconds, so that a
busy machine does not matter. `--objects` gives the same mask so many times, to see what a further
object costs. Frames per second count everything from the image file to the packed mask.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.evaluation.jf import boundary_measure, region_similarity
from trackweave.formats.davis import VOID, read_label_png, write_label_png
from trackweave.frames.images import ImageFolder
from trackweave.predictors.base import frame_range
from trackweave.predictors.flow.predictor import FlowPredictor
from trackweave.predictors.flow.settings import FlowSettings

Mask = NDArray[np.bool_]
Run = Iterator[tuple[int, Mask]]
METHODS = ("flow", "warp", "static")


def by_flow(frames: ImageFolder, mask: Mask, order: range, objects: int, settings: FlowSettings) -> Run:
    """The predictor; yields the first object's masks."""
    session = FlowPredictor(settings, threads=1).open(frames)
    for obj_id in range(1, objects + 1):
        session.add_mask(order[0], obj_id, mask)
    for prediction in session.propagate(order[0], reverse=order.step < 0):
        yield prediction.frame, prediction.masks[0:1].to_bool()[0]
    session.close()


def by_warp(frames: ImageFolder, mask: Mask, order: range, objects: int) -> Run:
    """Fetches the mask along the backward flow of each pair, and nothing else."""
    engine = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    ys, xs = np.mgrid[: mask.shape[0], : mask.shape[1]].astype(np.float32)
    carried = mask.astype(np.float32)
    before = cv2.cvtColor(frames[order[0]], cv2.COLOR_RGB2GRAY)
    yield order[0], mask
    for frame in order[1:]:
        here = cv2.cvtColor(frames[frame], cv2.COLOR_RGB2GRAY)
        back = engine.calc(here, before, None)  # type: ignore[call-overload]
        carried = np.asarray(cv2.remap(carried, xs + back[..., 0], ys + back[..., 1], cv2.INTER_LINEAR), np.float32)
        before = here
        yield frame, carried > 0.5


def by_copy(frames: ImageFolder, mask: Mask, order: range, objects: int) -> Run:
    """The given mask, on every frame."""
    for frame in order:
        yield frame, mask


def label_map(path: Path) -> tuple[Mask, Mask]:
    """Object and void pixels of a label image."""
    labels = read_label_png(path)
    return (labels > 0) & (labels != VOID), labels == VOID


def measure(run: Run, truth: Sequence[Path], out: Path | None) -> tuple[float, float, float]:
    """Mean J and F without the two ends, and frames per second; the scoring is not timed."""
    region, boundary, seconds, count = [], [], 0.0, 0
    started = time.process_time()
    for frame, mask in run:
        seconds += time.process_time() - started
        count += 1
        if out is not None:
            write_label_png(out / f"{truth[frame].stem}.png", mask.astype(np.uint8))
        if 0 < frame < len(truth) - 1:
            inside, void = label_map(truth[frame])
            region.append(region_similarity(mask & ~void, inside))
            boundary.append(boundary_measure(mask & ~void, inside))
        started = time.process_time()
    return float(np.mean(region)), float(np.mean(boundary)), count / max(seconds, 1e-9)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--seqs", nargs="*", help="default: every folder with frames and masks")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--reverse", action="store_true")
    parser.add_argument("--out", type=Path, help="folder for the masks of `flow`, one folder per sequence")
    parser.add_argument("--settings", default="{}", help="FlowSettings as JSON, to see what a part is worth")
    given = parser.parse_args()
    settings = FlowSettings.model_validate_json(given.settings)
    methods: dict[str, Callable[[ImageFolder, Mask, range, int], Run]] = {
        "flow": partial(by_flow, settings=settings),
        "warp": by_warp,
        "static": by_copy,
    }
    cv2.setNumThreads(1)
    names = given.seqs or sorted(folder.parent.name for folder in given.root.glob("*/masks"))
    print("| sequence | " + " | ".join(f"{m} J | {m} F | {m} frames/s" for m in given.methods) + " |")
    print("|---" * (1 + 3 * len(given.methods)) + "|")
    rows = []
    for name in names:
        truth = sorted((given.root / name / "masks").glob("*.png"))
        order = frame_range(len(truth) - 1 if given.reverse else 0, len(truth), given.reverse, None)
        mask = label_map(truth[order[0]])[0]
        row = []
        for method in given.methods:
            run = methods[method]
            out = given.out / name if given.out and method == "flow" else None
            row.append(measure(run(ImageFolder(given.root / name / "frames"), mask, order, given.objects), truth, out))
        rows.append(row)
        print(f"| {name} | " + " | ".join(f"{j:.3f} | {f:.3f} | {fps:.1f}" for j, f, fps in row) + " |", flush=True)
    mean = np.mean(np.array(rows), axis=0)
    print("| **mean** | " + " | ".join(f"{j:.3f} | {f:.3f} | {fps:.1f}" for j, f, fps in mean) + " |")


if __name__ == "__main__":
    main()
