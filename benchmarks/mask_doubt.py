"""How well the doubt of masks finds wrong ones, and what new prompts repair, on computed scenes with exact truth.

    python benchmarks/mask_doubt.py [--scenes 10] [--held-out 4] [--prompts 6]

Each scene (`NestedScene`, 120×160, 60 frames) is prompted by its true labels on the first frame, and tracked by `flow`.
A mask is wrong where its IoU with the truth is below one half. Weights of `corrections.mask_queue` are fitted on the
first scenes by maximum likelihood, and checked on those held out: AUC, and how often masks of a doubt are wrong.

Then a simulated person answers on the scenes held out, in the order of `trackweave ask` or at random: she says that a
mask is right, or prompts its object with the true mask; where nothing of it is seen, it ends there. Shown is the mean
IoU of all true masks after so many answers per scene.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import rankdata

from trackweave.corrections.mask_queue import MaskDoubt, MaskObservations, mask_doubt
from trackweave.masks.codecs import encode_rle
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.mask_corrections import MaskProofreading
from trackweave.pipelines.masks import track_masks
from trackweave.simulation.nested import NestedScene
from trackweave.structures.corrections import Ended, Named, Observation, Prompted, Step
from trackweave.tracking.settings import TrackingSettings

LEVEL = 2
WRONG = 0.5
BINS = (0, 0.05, 0.15, 0.3, 0.6, 1.0)


@dataclass(frozen=True)
class Measured:
    """A tracked scene with its truth.

    Attributes:
        scene: the scene; ids of objects are those of its truth.
        run: the run folder.
        masks: all masks.
        prompt_frames: of each track.
        wrong: `(N,)`.
    """

    scene: NestedScene
    run: Path
    masks: MaskObservations
    prompt_frames: dict[int, int]
    wrong: NDArray[np.bool_]

    def doubt(self, weights: Sequence[float]) -> MaskDoubt:
        """With other weights."""
        return mask_doubt(self.masks, self.prompt_frames, np.zeros(len(self.masks), np.bool_), weights)


def measured(seed: int, folder: Path) -> Measured:
    """Tracks a scene."""
    scene, run = NestedScene(seed, 120, 160, 60), folder / f"scene_{seed}"
    labels = scene.labels(0, LEVEL).astype(np.int64)
    settings = TrackingSettings(render_viz=False, cuts="ignore")
    track_masks(scene, run, prompts={0: labels}, predictor="flow", settings=settings)
    proofreading = MaskProofreading(run)
    masks, objects = proofreading.masks
    iou = overlaps(scene, proofreading, masks, objects)
    return Measured(scene, run, masks, dict.fromkeys(np.unique(masks.track).tolist(), 0), iou < WRONG)


def overlaps(
    scene: NestedScene, proofreading: MaskProofreading, masks: MaskObservations, objects: NDArray[np.int64]
) -> NDArray[np.float64]:
    """`(N,)` IoU of each mask with the truth of the object that it has."""
    found: dict[tuple[int, int], float] = {}
    with proofreading.open_masks(proofreading.run.levels[0]) as video:
        for one in video:
            truth = scene.labels(one.frame, LEVEL)
            for number, mask in zip(one.track_id.tolist(), one.masks.to_bool(), strict=True):
                own = truth == number
                found[int(one.frame), number] = (mask & own).sum() / max((mask | own).sum(), 1)
    return np.array([found.get(pair, 0.0) for pair in zip(masks.frame.tolist(), objects.tolist(), strict=True)])


def mean_iou(scene: NestedScene, proofreading: MaskProofreading) -> float:
    """Over all true masks of the objects of the first frame."""
    known = set(np.unique(scene.labels(0, LEVEL)).tolist()) - {0}
    scores = []
    with proofreading.open_masks(proofreading.run.levels[0]) as video:
        for frame in range(len(scene)):
            truth, one = scene.labels(frame, LEVEL), video.frame(frame)
            own = dict(zip(one.track_id.tolist(), one.masks.to_bool(), strict=True))
            for number in known & set(np.unique(truth).tolist()):
                mask, true = own.get(number, np.zeros_like(truth, np.bool_)), truth == number
                scores.append((mask & true).sum() / (mask | true).sum())
    return float(np.mean(scores))


def fit(scenes: Sequence[Measured]) -> NDArray[np.float64]:
    """Weights that make what was seen the likeliest."""

    def loss(weights: NDArray[np.float64]) -> float:
        total, count = 0.0, 0
        for one in scenes:
            chance = np.clip(one.doubt(weights.tolist()).doubt, 1e-4, 1 - 1e-4)
            total -= float(np.log(np.where(one.wrong, chance, 1 - chance)).sum())
            count += len(chance)
        return total / count + 1e-3 * float((weights[1:] ** 2).sum())

    starts = ([-5.0, 1, 2, 2], [-7.0, 3, 2, 1])
    found = [minimize(loss, np.array(start), method="Nelder-Mead", options={"maxiter": 3000}) for start in starts]
    return np.asarray(min(found, key=lambda each: float(each.fun)).x)


def check(scenes: Sequence[Measured], weights: Sequence[float]) -> None:
    """Prints how well the doubt finds what is wrong."""
    chance = np.concatenate([one.doubt(weights).doubt for one in scenes])
    wrong = np.concatenate([one.wrong for one in scenes])
    ranks, count = rankdata(chance), int(wrong.sum())
    auc = (ranks[wrong].sum() - count * (count + 1) / 2) / (count * (len(wrong) - count))
    print(f"{len(wrong)} masks, {wrong.mean():.1%} wrong, mean doubt {chance.mean():.1%}, AUC {auc:.3f}")
    for low, high in pairwise(BINS):
        inside = (chance >= low) & (chance < high)
        if inside.any():
            print(f"  doubt {low:.2f} to {high:.2f}: {inside.sum():5d} masks, {wrong[inside].mean():.0%} wrong")


def answer(scene: NestedScene, at: Observation, number: int, iou: float) -> Step:
    """What the person says of a mask."""
    true = scene.labels(at.frame, LEVEL) == number
    if iou >= WRONG:
        return Named(at, str(number))
    if not true.any():
        return Ended(at)
    code = encode_rle(PackedMasks.from_bool(true))[0]
    height, width = true.shape
    return Prompted(at.frame, str(number), mask=((height, width), code["counts"]), of=at)


def repaired(one: Measured, count: int, choose: Callable[[MaskProofreading], Observation | None]) -> list[float]:
    """Mean IoU before any answer and after each; the acts are taken back."""
    (one.run / "corrections.jsonl").unlink(missing_ok=True)
    with MaskProofreading(one.run, frames=one.scene) as proofreading:
        scores = [mean_iou(one.scene, proofreading)]
        while len(scores) <= count:
            at = choose(proofreading)
            if at is not None:
                masks, objects = proofreading.masks
                iou = overlaps(one.scene, proofreading, masks, objects)
                row = int(np.flatnonzero((masks.frame == at.frame) & (masks.track == at.item))[0])
                proofreading.say(answer(one.scene, at, int(objects[row]), float(iou[row])))
                proofreading.propagate()
            scores.append(mean_iou(one.scene, proofreading))
    (one.run / "corrections.jsonl").unlink(missing_ok=True)
    return scores


def by_worth(proofreading: MaskProofreading) -> Observation | None:
    """The first question of `trackweave ask`."""
    return next((question.at for question in proofreading.questions(1)), None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=10)
    parser.add_argument("--held-out", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scenes = [measured(seed, Path(folder)) for seed in range(1, options.scenes + 1)]
        fitted, held = scenes[: -options.held_out], scenes[-options.held_out :]
        weights = [round(float(each), 2) for each in fit(fitted)]
        print(f"weights of the first {len(fitted)}: {weights}; of all: {np.round(fit(scenes), 2).tolist()}")
        check(held, weights)
        rng = np.random.default_rng(0)

        def at_random(proofreading: MaskProofreading) -> Observation:
            masks, objects = proofreading.masks
            row = int(rng.choice(np.flatnonzero(objects > 0)))
            return Observation(int(masks.frame[row]), int(masks.track[row]))

        for name, choose in (("ask", by_worth), ("random", at_random)):
            rows = np.mean([repaired(one, options.prompts, choose) for one in held], axis=0)
            print(f"{name}: mean IoU after 0, 1, … answers: {np.round(rows, 3).tolist()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
