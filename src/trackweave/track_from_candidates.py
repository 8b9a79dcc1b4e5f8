"""The composition root of mask tracking: opens the inputs, introduces the rooms to each other, leaves a run folder.

`python -m trackweave.track_from_candidates --data-path FRAMES --candidates-root DIR --output RUN --levels 2,4,6`
does from the shell what `track_masks` does in Python.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trackweave.errors import (
    SettingError,
    TrackweaveError,
)
from trackweave.pipelines.masks import parse_levels, track_masks
from trackweave.progress import ProgressPrinter
from trackweave.tracking.settings import TrackingSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m trackweave.track_from_candidates`; returns the exit code."""
    import argparse

    parser = argparse.ArgumentParser(prog="trackweave.track_from_candidates", description="Track filtered candidates.")
    parser.add_argument("--data-path", required=True, help="folder of frames, or a video")
    parser.add_argument("--candidates-root", required=True, help="folder with level_L/filtered/filtered.json")
    parser.add_argument("--output", required=True, help="run folder")
    parser.add_argument("--levels", help="2,4,6; default: every level there is")
    parser.add_argument("--predictor", default="auto", help="auto, flow, static, replay=PATH, or BACKEND[=WEIGHTS]")
    parser.add_argument("--frames", help="start:end:step")
    parser.add_argument("--iou-threshold", type=float, default=0.6)
    parser.add_argument("--max-propagate", type=int)
    parser.add_argument("--prompt-mode", choices=["mask", "box", "auto"], default="mask")
    parser.add_argument("--mask-scale-ratio", type=float, default=1.0)
    parser.add_argument("--on-bad-item", choices=["error", "skip"], default="error")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--no-viz", action="store_true")
    given = parser.parse_args(arguments)
    try:
        result = track_masks(
            given.data_path,
            given.output,
            candidates=given.candidates_root,
            levels=parse_levels(given.levels),
            predictor=given.predictor,
            sampling=given.frames,
            settings=TrackingSettings.checked(
                iou_threshold=given.iou_threshold,
                max_propagate=given.max_propagate,
                prompt_mode=given.prompt_mode,
                mask_scale_ratio=given.mask_scale_ratio,
                on_bad_item=given.on_bad_item,
                render_viz=not given.no_viz,
            ),
            resume=given.resume,
            progress=lambda label, total: ProgressPrinter(total, label),
        )
    except TrackweaveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingError) else 1
    print(result.run.root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
