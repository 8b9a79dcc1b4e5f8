"""What one new prompt repairs on real clips: J of DAVIS sequences, prompted at the frame that `ask` names first.

    python benchmarks/reprompting.py --root DIR [--sequences motorbike tennis …]

DIR holds one folder per sequence with `frames/` and `masks/`, as `flow_davis.py` takes them. `flow` follows the first
frame's true mask. A simulated person then accepts the frames before the mask gets bad (IoU below 0.7), goes to the
first question, and prompts the object there anew: by the box around the truth, and, from the same state, by the true
mask, as if painted with the brush. J is the mean IoU, both ends left out as DAVIS does.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave import track_masks
from trackweave.formats.davis import read_label_png
from trackweave.masks.codecs import encode_rle
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.corrections import correct, open_proofreading
from trackweave.pipelines.run import Run, open_run
from trackweave.structures.corrections import AcceptedAsIs, Observation, Prompted, Spoken
from trackweave.tracking.settings import TrackingSettings

Mask = NDArray[np.bool_]
BAD = 0.7
OBJECT = 1


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--sequences", nargs="+", default=["dance-jump", "motorbike", "swing", "tennis"])
    arguments = parser.parse_args()
    for name in arguments.sequences:
        folder = arguments.root / name
        truth = [read_label_png(path) > 0 for path in sorted((folder / "masks").iterdir())]
        with tempfile.TemporaryDirectory() as work:
            run = Path(work) / "run"
            settings = TrackingSettings(cuts="ignore", render_viz=False)
            track_masks(folder / "frames", run, prompts={0: truth[0].astype(np.int64)}, predictor="flow",
                        settings=settings, progress=False)  # fmt: skip
            reprompt(name, run, truth)


def reprompt(name: str, run: Path, truth: list[Mask]) -> None:
    """Prompts at the first question, and prints what it changes."""
    before = overlaps(open_run(run), truth)
    with open_proofreading(run) as proofreading:
        questions = proofreading.questions(1)
    if not questions:
        print(f"{name}: J {mean(before):.3f}, nothing is asked")
        return
    frame = questions[0].at.frame
    first_bad = int(np.argmax(np.append(before[:frame] < BAD, True)))
    text = f"{name}: J {mean(before):.3f}; asked about frame {frame}, accepted before frame {first_bad}"
    for kind in ("box", "mask"):
        folder = run.with_name(kind)
        shutil.copytree(run, folder)
        steps: list[Spoken] = [AcceptedAsIs(0, first_bad - 1)] if first_bad else []
        after = overlaps(correct(folder, [*steps, prompt(frame, truth[frame], kind)], progress=False), truth)
        text += f"; {kind} {mean(after):.3f}"
    print(text, flush=True)


def prompt(frame: int, truth: Mask, kind: str) -> Prompted:
    """The object's prompt on a frame."""
    packed = PackedMasks.from_bool(truth[None])
    if kind == "box":
        x1, y1, x2, y2 = packed.boxes[0].tolist()
        return Prompted(frame, "it", box=(x1, y1, x2, y2), of=Observation(0, OBJECT))
    code = encode_rle(packed)[0]
    height, width = code["size"]
    return Prompted(frame, "it", mask=((height, width), code["counts"]), of=Observation(0, OBJECT))


def overlaps(run: Run, truth: list[Mask]) -> NDArray[np.float64]:
    """IoU of each frame; 1 where neither is seen."""
    tracks = run.tracks().of(OBJECT)
    assert tracks.masks is not None
    masks = dict(zip(tracks.frame.tolist(), tracks.masks.to_bool(), strict=True))
    values = []
    for frame, true in enumerate(truth):
        mask = masks.get(frame, np.zeros_like(true))
        union = np.count_nonzero(mask | true)
        values.append(np.count_nonzero(mask & true) / union if union else 1.0)
    return np.array(values)


def mean(values: NDArray[np.float64]) -> float:
    """Both ends left out."""
    return float(values[1:-1].mean())


if __name__ == "__main__":
    main()
