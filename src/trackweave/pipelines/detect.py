"""`detect`: a detector over the frames of a video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trackweave.detectors.base import Detector
from trackweave.detectors.registry import make_detector
from trackweave.errors import SettingError
from trackweave.formats.tables import DetectionTable
from trackweave.frames.open import open_frames
from trackweave.masks.codecs import encode_rle
from trackweave.progress import Progress, open_progress
from trackweave.structures.detections import Detections


def detect(
    frames: Any,
    detector: str | Path | Detector = "motion",
    *,
    sampling: str | None = None,
    progress: Progress = None,
    **options: Any,
) -> DetectionTable:
    """Runs a detector over a video; the result goes to `track_boxes(frames, output, detections=table)`.

    Args:
        frames: whatever `open_frames` takes: a folder of images, a video file, an array `(N, H, W, 3)` uint8 RGB, …
        detector: `motion` or `hog`, which need no weights, the path of an `.onnx` model, or a `Detector`.
        sampling: which frames, as `start:end:step`.
        progress: None = shown by itself in a terminal or a notebook; or a function of `(done, total, label)`.
        options: settings of the detector that a name or a path asks for, such as `score_threshold=0.3`.

    Returns:
        The detections of all frames; `.at(frame)` gives those of one, whose masks are kept, embeddings are not.

    Raises:
        FrameError: the frames cannot be read.
        InputError: the model cannot be used, or failed on a frame.
        SettingError: an unknown detector or option.
    """
    owned = isinstance(detector, str | Path)
    if options and not owned:
        raise SettingError(f"{', '.join(options)}: settings are for detectors asked for by name, not for objects")
    model = make_detector(detector, **options) if isinstance(detector, str | Path) else detector
    source = open_frames(frames, sampling=sampling)
    parts: list[tuple[int, Detections]] = []
    try:
        model.reset()
        with open_progress(progress, len(source), f"detecting with {model.name}") as display:
            for position, image in enumerate(source):
                index = source.indices[position]
                parts.append((int(index), model.detect(image)))
                display.update(position + 1, int(index))
        return _table(parts, model, int(source.indices[-1]) + 1)
    finally:
        if owned:
            model.close()
        if source is not frames:
            source.close()


def _table(parts: list[tuple[int, Detections]], model: Detector, length: int) -> DetectionTable:
    masks = [detections.masks for _, detections in parts if len(detections)]
    segmentation = [code for mask in masks if mask is not None for code in encode_rle(mask)]
    whole = Detections.concat([detections for _, detections in parts])
    return DetectionTable(
        np.repeat([index for index, _ in parts], [len(detections) for _, detections in parts]).astype(np.int64),
        whole.xyxy,
        whole.score,
        whole.class_id,
        model.class_names,
        segmentation if masks and all(mask is not None for mask in masks) else None,
        length,
        source=model.name,
    )
