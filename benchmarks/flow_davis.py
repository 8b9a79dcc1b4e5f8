"""J, F and frames per second of `flow` over a folder of annotated sequences, beside two simple methods.

    python benchmarks/flow_davis.py --root DIR [--seqs a b …] [--objects 10] [--reverse] [--out DIR]
        [--settings '{"motion_weight": 0}'] [--every 3] [--half] [--jpeg 25] [--robust] [--prompt point]

DIR holds one folder per sequence with `frames/` (images) and `masks/` (label images; every id above 0 counts as one
object, as in DAVIS 2016). The first annotated mask is given (with `--reverse` the last); both ends are not scored, as
DAVIS does. Peers in the same run: `static` copies the given mask, `warp` chains the plain backward flow (OpenCV's DIS,
medium preset, full resolution). One thread; seconds are processor seconds, so that a
busy machine does not matter. `--objects` gives the same mask so many times, to see what a further
object costs. Frames per second count everything from the image file to the packed mask.

`--every 3` leaves every third frame, `--half` halves the resolution, `--jpeg 25` compresses the frames anew; such
frames are made before, so that reading them is not timed. `--robust` prints the means of five such runs of `flow`.
`--prompt box` gives `flow` the box of the mask instead, `--prompt point` its pixel that is farthest from the outline.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.evaluation.jf import boundary_measure, region_similarity
from trackweave.formats.davis import VOID, read_label_png, write_label_png
from trackweave.frames.arrays import ArrayFrames
from trackweave.frames.images import ImageFolder
from trackweave.frames.source import FrameSource
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.base import frame_range
from trackweave.predictors.flow.predictor import FlowPredictor
from trackweave.predictors.flow.settings import FlowSettings

Mask = NDArray[np.bool_]
Run = Iterator[tuple[int, Mask]]
Row = tuple[float, float, float]
METHODS = ("flow", "warp", "static")


def by_flow(
    frames: FrameSource, mask: Mask, order: range, objects: int, settings: FlowSettings, prompt: str = "mask"
) -> Run:
    """The predictor; yields the first object's masks."""
    session = FlowPredictor(settings, threads=1).open(frames)
    inside = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(np.argmax(inside), inside.shape)
    for obj_id in range(1, objects + 1):
        if prompt == "point":
            session.add_points(order[0], obj_id, np.array([[column + 0.5, row + 0.5]], np.float32), np.array([1]))
        elif prompt == "box":
            session.add_box(order[0], obj_id, PackedMasks.from_bool(mask).boxes[0].astype(np.float32))
        else:
            session.add_mask(order[0], obj_id, mask)
    for prediction in session.propagate(order[0], reverse=order.step < 0):
        yield prediction.frame, prediction.masks[0:1].to_bool()[0]
    session.close()


def by_warp(frames: FrameSource, mask: Mask, order: range, objects: int) -> Run:
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


def by_copy(frames: FrameSource, mask: Mask, order: range, objects: int) -> Run:
    """The given mask, on every frame."""
    for frame in order:
        yield frame, mask


@dataclass(frozen=True)
class Variant:
    """What is done to a sequence before it is followed.

    Attributes:
        every: one frame of so many is left.
        half: half the resolution.
        jpeg: quality at which the frames are compressed anew; None: as they are.
        reverse: from the last frame backward.
    """

    every: int = 1
    half: bool = False
    jpeg: int | None = None
    reverse: bool = False

    def frames(self, folder: Path) -> FrameSource:
        """The images of a folder, as this variant has them."""
        images = ImageFolder(folder)
        if self == Variant(reverse=self.reverse):
            return images
        return ArrayFrames(np.stack([self._changed(images[k]) for k in range(0, len(images), self.every)]))

    def truth(self, path: Path) -> tuple[Mask, Mask]:
        """Object and void pixels of a label image."""
        labels = read_label_png(path)
        if self.half:
            labels = labels[::2, ::2]
        return (labels > 0) & (labels != VOID), labels == VOID

    def _changed(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.half:
            size = (rgb.shape[1] + 1) // 2, (rgb.shape[0] + 1) // 2
            rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        if self.jpeg is not None:
            packed = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self.jpeg])[1]
            rgb = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
        return rgb


ROBUST = {
    "as they are": Variant(),
    "reverse": Variant(reverse=True),
    "every 2nd frame": Variant(every=2),
    "every 3rd frame": Variant(every=3),
    "half resolution, JPEG 25": Variant(half=True, jpeg=25),
}


def measure(run: Run, truth: Sequence[Path], variant: Variant, out: Path | None) -> tuple[float, float, float]:
    """Mean J and F without the two ends, and frames per second; the scoring is not timed."""
    region, boundary, seconds, count = [], [], 0.0, 0
    started = time.process_time()
    for frame, mask in run:
        seconds += time.process_time() - started
        count += 1
        if out is not None:
            write_label_png(out / f"{truth[frame].stem}.png", mask.astype(np.uint8))
        if 0 < frame < len(truth) - 1:
            inside, void = variant.truth(truth[frame])
            region.append(region_similarity(mask & ~void, inside))
            boundary.append(boundary_measure(mask & ~void, inside))
        started = time.process_time()
    return float(np.mean(region)), float(np.mean(boundary)), count / max(seconds, 1e-9)


def follow(folder: Path, method: Callable[..., Run], variant: Variant, objects: int, out: Path | None) -> Row:
    """J, F and frames per second of one method on one sequence."""
    truth = sorted((folder / "masks").glob("*.png"))[:: variant.every]
    order = frame_range(len(truth) - 1 if variant.reverse else 0, len(truth), variant.reverse, None)
    mask = variant.truth(truth[order[0]])[0]
    return measure(method(variant.frames(folder / "frames"), mask, order, objects), truth, variant, out)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--seqs", nargs="*", help="default: every folder with frames and masks")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--reverse", action="store_true")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--jpeg", type=int)
    parser.add_argument("--robust", action="store_true", help="one row per variant: the means of `flow`")
    parser.add_argument("--out", type=Path, help="folder for the masks of `flow`, one folder per sequence")
    parser.add_argument("--settings", default="{}", help="FlowSettings as JSON, to see what a part is worth")
    parser.add_argument("--prompt", choices=("mask", "box", "point"), default="mask")
    given = parser.parse_args()
    settings = FlowSettings.model_validate_json(given.settings)
    methods: dict[str, Callable[..., Run]] = {
        "flow": partial(by_flow, settings=settings, prompt=given.prompt),
        "warp": by_warp,
        "static": by_copy,
    }
    cv2.setNumThreads(1)
    folders = [given.root / name for name in given.seqs or ()] or sorted(f.parent for f in given.root.glob("*/masks"))
    if given.robust:
        print("| frames | J | F | lowest J |\n|---|---|---|---|")
        for name, variant in ROBUST.items():
            rows = np.array([follow(folder, methods["flow"], variant, given.objects, None) for folder in folders])
            worst = folders[int(np.argmin(rows[:, 0]))].name
            print(f"| {name} | {rows[:, 0].mean():.3f} | {rows[:, 1].mean():.3f} | {rows[:, 0].min():.3f} ({worst}) |")
        return
    variant = Variant(given.every, given.half, given.jpeg, given.reverse)
    print("| sequence | " + " | ".join(f"{m} J | {m} F | {m} frames/s" for m in given.methods) + " |")
    print("|---" * (1 + 3 * len(given.methods)) + "|")
    table = []
    for folder in folders:
        row = []
        for name in given.methods:
            out = given.out / folder.name if given.out and name == "flow" else None
            row.append(follow(folder, methods[name], variant, given.objects, out))
        table.append(row)
        print_row(folder.name, row)
    print_row("**mean**", np.mean(np.array(table), axis=0))


def print_row(name: str, row: Iterable[Iterable[float]]) -> None:
    """One Markdown row of J, F and frames per second for each method."""
    print(f"| {name} | " + " | ".join(f"{j:.3f} | {f:.3f} | {fps:.1f}" for j, f, fps in row) + " |", flush=True)


if __name__ == "__main__":
    main()
