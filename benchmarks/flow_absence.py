"""Does `flow` know when an object is gone, does it find it again, and are its scores probabilities?

    python benchmarks/flow_absence.py --davis DIR [--photos DIR] [--split tuned reported generated clip] [--each]

The scenes of `absence_scenes.py` are made of the DAVIS sequences in DIR, in two halves: what decides about absence was
tuned on `tuned` (objects and photos of the first half of the names) and is reported on `reported` (the other half,
other photos, another seed). `generated` are objects 3, 4 and 5 of `SyntheticScene`, `clip` the packaged demo clip,
where things prompted with boxes leave the picture. The scan has its own script, `flow_scan.py`.

A frame is *absent* when nothing of the object is visible and *present* when at least a tenth of what was prompted is
(and 25 pixels); frames in between are not counted, nor is the prompted one. Printed: the share of present frames on
which nothing was reported (missed), the share of absent ones on which something was (false), J on present frames, J on
those after an absence, and over all frames counted how well the score predicts an IoU of at least one half: Brier score
and expected calibration error in ten bins.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.absence_scenes import AbsenceScene, scenes
from trackweave.cli.demo import packaged_clip
from trackweave.evaluation.jf import region_similarity
from trackweave.frames.arrays import ArrayFrames
from trackweave.frames.open import open_frames
from trackweave.ids import LocalIndex
from trackweave.predictors.base import VideoPredictor
from trackweave.predictors.flow.predictor import FlowPredictor
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.simulation.video import SyntheticScene

SPLITS = ("tuned", "reported", "generated", "clip")
PRESENT_SHARE, PRESENT_PIXELS = 0.1, 25
GENERATED_SEEDS = range(100, 112)
GENERATED = {3: "generated, hides", 4: "generated, leaves", 5: "generated, leaves (reverse)"}

CLIP_ABSENT = (
    ("mountain", 0, (200, 0, 420, 66), range(26, 43)),
    ("hut", 5, (98, 122, 137, 168), range(20, 43)),
    ("first planter", 15, (360, 125, 510, 340), range(39, 43)),
    ("its flowers", 15, (360, 128, 510, 230), range(39, 43)),
    ("second planter, reverse", 40, (236, 212, 380, 324), range(22)),
    ("its flowers, reverse", 40, (240, 212, 374, 258), range(22)),
)
"""Name, prompted frame, box, and the frames on which nothing of it is visible, by eye."""


@dataclass
class Tally:
    """What was counted over the frames of some scenes."""

    missed: list[bool] = field(default_factory=list)
    false: list[bool] = field(default_factory=list)
    similarity: list[float] = field(default_factory=list)
    after_absence: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    correct: list[bool] = field(default_factory=list)

    def row(self, name: str) -> str:
        """One Markdown row."""
        return (
            f"| {name} | {_mean(self.missed)} of {len(self.missed)} | {_mean(self.false)} of {len(self.false)} | "
            f"{_mean(self.similarity)} | {_mean(self.after_absence)} | {self._calibration()} |"
        )

    def _calibration(self) -> str:
        score, correct = np.array(self.score), np.array(self.correct, float)
        if not len(score):
            return "– | –"
        bins = np.minimum((score * 10).astype(int), 9)
        error = sum(abs((score - correct)[bins == k].sum()) for k in range(10)) / len(score)
        return f"{np.mean((score - correct) ** 2):.3f} | {error:.3f}"

    def reliability(self) -> Iterator[str]:
        """Markdown rows: mean score and share of masks that are right, per bin of the score."""
        score, correct = np.array(self.score), np.array(self.correct, float)
        bins = np.minimum((score * 10).astype(int), 9)
        for k in range(10):
            here = bins == k
            if here.any():
                means = f"{score[here].mean():.2f} | {correct[here].mean():.2f}"
                yield f"| {k / 10:.1f} … {(k + 1) / 10:.1f} | {here.sum()} | {means} |"


def _mean(values: Sequence[float] | Sequence[bool]) -> str:
    return f"{np.mean(values):.3f}" if len(values) else "–"


def count(predictor: VideoPredictor, scene: AbsenceScene, tallies: Sequence[Tally], start: int = 0) -> None:
    """Follows the object of a scene from its prompt, forward from the first frame or backward from the last."""
    session = predictor.open(scene.frames)
    session.add_mask(LocalIndex(start), 1, scene.truth[start])
    needed = max(PRESENT_SHARE * scene.truth[start].sum(), PRESENT_PIXELS)
    was_absent = False
    for prediction in session.propagate(LocalIndex(start), reverse=start > 0):
        truth = scene.truth[prediction.frame]
        area = int(truth.sum())
        was_absent |= not area
        if prediction.frame == start or 0 < area < needed:
            continue
        mask = prediction.masks.to_bool()[0]
        similarity = region_similarity(mask, truth) if area else 0.0
        for tally in tallies:
            (tally.missed if area else tally.false).append(bool(mask.any()) != bool(area))
            tally.score.append(float(prediction.score[0]))
            tally.correct.append(similarity >= 0.5)
            if area:
                tally.similarity.append(similarity)
            if area and was_absent:
                tally.after_absence.append(similarity)
    session.close()


def composed(davis: Path, photos: Path | None, split: str) -> Iterator[AbsenceScene]:
    """The scenes of one half of the sequences, and of every other photo."""
    folders = sorted(folder.parent for folder in davis.glob("*/masks"))
    half = slice(0, len(folders) // 2) if split == "tuned" else slice(len(folders) // 2, None)
    pictures = [sorted((folder / "frames").iterdir())[0] for folder in folders[half]]
    extra = sorted(photos.iterdir()) if photos is not None else []
    yield from scenes(folders[half], pictures + extra[half.start or 0 : half.stop], SPLITS.index(split))


def generated() -> Iterator[tuple[AbsenceScene, int]]:
    """Objects of the generated scene that hide, leave and, backward, leave; and the frame on which each is prompted."""
    for seed in GENERATED_SEEDS:
        scene = SyntheticScene(seed=seed)
        frames = ArrayFrames(np.stack([scene[k] for k in range(len(scene))]))
        labels = np.stack([scene.labels(k) for k in range(len(scene))])
        for obj, kind in GENERATED.items():
            yield AbsenceScene(f"seed {seed}: {kind}", kind, frames, labels == obj), len(scene) - 1 if obj == 5 else 0


def clip_rows(predictor: VideoPredictor) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Per thing of the demo clip, what was reported on the frames on which it is gone."""
    frames = open_frames(packaged_clip())
    session = predictor.open(frames)
    for name, start, box, absent in CLIP_ABSENT:
        session.add_box(LocalIndex(start), 1, np.array(box, np.float32))
        reported = {
            p.frame: bool(p.masks.areas[0])
            for p in session.propagate(LocalIndex(start), reverse=name.endswith("reverse"))
        }
        session.reset()
        yield name, np.array([reported[LocalIndex(k)] for k in absent], np.bool_)
    session.close()


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, required=True)
    parser.add_argument("--photos", type=Path, help="a folder of further photos, for what is in the background")
    parser.add_argument("--split", nargs="*", choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--each", action="store_true", help="a row per scene, too")
    parser.add_argument("--settings", default="{}", help="FlowSettings as JSON")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    predictor = FlowPredictor(FlowSettings.model_validate_json(given.settings), threads=1)
    print("| scenes | missed | false when absent | J | J after absence | Brier | ECE |")
    print("|---" * 7 + "|")
    everything: dict[str, Tally] = {}
    for split in given.split:
        if split == "clip":
            continue
        kinds: dict[str, Tally] = defaultdict(Tally)
        whole = everything.setdefault(split, Tally())
        composites = ((scene, 0) for scene in composed(given.davis, given.photos, split))
        made = generated() if split == "generated" else composites
        for scene, start in made:
            single = Tally()
            count(predictor, scene, (single, kinds[scene.kind], whole), start)
            if given.each:
                print(single.row(scene.name), flush=True)
        for kind, tally in kinds.items():
            print(tally.row(f"{split}: {kind}"))
        print(whole.row(f"**{split}**"), flush=True)
    if "clip" in given.split:
        for name, reported in clip_rows(predictor):
            print(f"| clip: {name} | – | {_mean(reported.tolist())} of {len(reported)} | – | – | – | – |")
    for split, tally in everything.items():
        print(f"\n| score, {split} | frames | mean score | IoU ≥ 0.5 |\n|---|---|---|---|")
        print("\n".join(tally.reliability()))


if __name__ == "__main__":
    main()
