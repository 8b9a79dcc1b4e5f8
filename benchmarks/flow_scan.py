"""`flow` on a scan with wide baselines, against the tracks that another system recorded there.

    python benchmarks/flow_scan.py --frames DIR --recording FILE.npz

Each recorded object is prompted with its first mask (at least 2 000 px) and followed forward. The recording is a
reference, not truth. Printed: mean IoU and the share above 0.5 on frames where the reference has the object, the share
of those on which nothing was reported, and the share of frames *without* the object on which something was (> 500 px).
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from trackweave.frames.open import open_frames
from trackweave.ids import LocalIndex
from trackweave.masks.ops import mask_iou
from trackweave.predictors.base import VideoPredictor
from trackweave.predictors.flow.predictor import FlowPredictor
from trackweave.predictors.static import StaticPredictor
from trackweave.storage.recording import open_recording

FIRST_AREA, PRESENT_AREA = 2000, 500


def measure(predictor: VideoPredictor, frames_path: Path, recording_path: Path) -> str:
    """One Markdown row."""
    frames, recording = open_frames(frames_path), open_recording(recording_path)
    batches: dict[LocalIndex, list[int]] = defaultdict(list)
    prompted: set[int] = set()
    for local, frame in enumerate(frames.indices):
        for obj in recording.objects(frame):
            if obj not in prompted and recording.masks(frame, [obj]).areas[0] >= FIRST_AREA:
                prompted.add(obj)
                batches[LocalIndex(local)].append(obj)
    session = predictor.open(frames)
    ious: list[float] = []
    missed: list[bool] = []
    false: list[bool] = []
    started, steps = time.process_time(), 0
    for start, objects in batches.items():
        for obj in objects:
            session.add_mask(start, obj, recording.masks(frames.indices[start], [obj]))
        for prediction in session.propagate(start):
            if prediction.frame == start:
                continue
            steps += len(objects)
            reference = recording.masks(frames.indices[prediction.frame], objects)
            reported = prediction.masks.areas > PRESENT_AREA
            for row, present in enumerate(reference.areas > PRESENT_AREA):
                if present:
                    ious.append(float(mask_iou(reference[row], prediction.masks[row])[0, 0]))
                    missed.append(not reported[row])
                else:
                    false.append(bool(reported[row]))
    seconds = time.process_time() - started
    session.close()
    recording.close()
    good = np.mean(np.array(ious) > 0.5)
    return (
        f"| {recording_path.stem} | {predictor.name} | {len(prompted)} | {np.mean(ious):.3f} | {good:.3f} | "
        f"{np.mean(missed):.3f} | {np.mean(false):.3f} of {len(false)} | {seconds / steps * 1e3:.1f} |"
    )


def main() -> None:
    """Prints one Markdown row per recording and predictor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--recording", type=Path, nargs="+", required=True)
    given = parser.parse_args()
    print(
        "| recording | predictor | objects | IoU | IoU > 0.5 | missed | false when absent | CPU ms per object-frame |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for recording in given.recording:
        for predictor in (FlowPredictor(threads=1), StaticPredictor()):
            print(measure(predictor, given.frames, recording))


if __name__ == "__main__":
    main()
