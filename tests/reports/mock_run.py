"""A run folder as a run leaves it, small: two levels, a few tracks, pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trackweave.visualization.annotators import track_colour


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def make_run(folder: Path, *, frames: int = 30, tracks: int = 7, levels: tuple[int, ...] = (2, 4)) -> Path:
    """Writes everything that the report reads."""
    summary = {
        "schema_version": 1,
        "command": "masks",
        "predictor": {
            "name": "flow",
            "working_size": 480,
            "reason": "asked for",
            "counters": {"encoder_passes": 1200, "object_frames": 34567},
        },
        "levels": {str(level): _level(level, frames, tracks) for level in levels},
        "durations": {"frames": 0.4, "candidates": 2.1, "track": 9.5, "track.flow": 8.2, "persist": 0.9, "render": 75},
        "peak_rss_mb": 812.4,
        "warnings": [
            {"stage": "candidates", "level": 2, "code": "candidate-skipped", "message": f"candidate {k} is empty"}
            for k in range(7)
        ]
        + [{"stage": "compare", "level": None, "code": "base-image-missing", "message": "no picture for <frame 3>"}],
    }
    write_json(folder / "summary.json", summary)
    write_json(
        folder / "manifest.json",
        {
            "schema_version": 1,
            "input": {"frames": "clip.mp4"},
            "config": {"levels": list(levels), "iou_threshold": 0.6},
            "artifacts": {str(level): {"video_segments": f"level_{level}/tracking/v.npz"} for level in levels},
        },
    )
    rows = [{"index": 2 * k, "name": f"{2 * k:05d}.jpg", "time": None} for k in range(frames)]
    write_json(folder / "frames.json", {"schema_version": 1, "height": 48, "width": 64, "frames": rows})
    for level in levels:
        _pictures(folder / f"level_{level}" / "viz" / "compare", level)
    return folder


def _level(level: int, frames: int, tracks: int) -> dict[str, Any]:
    rng = np.random.default_rng(level)
    lives = []
    for track_id in range(1, tracks + 1):
        first = 2 * int(rng.integers(0, frames // 2))
        last = 2 * int(rng.integers(frames // 2, frames))
        spans = [[first, last]] if last - first < 20 else [[first, first + 8], [first + 14, last]]
        area, score = float(rng.uniform(300, 9000)), float(rng.uniform(0.4, 1))
        lives.append(
            {
                "id": track_id,
                "prompt_frame": first,
                "first": first,
                "last": last,
                "spans": spans,
                "mean_area": area,
                "mean_score": score,
            }
        )
    return {
        "frames": frames,
        "candidate_frames": 3,
        "candidates": 41,
        "prompts": tracks + 3,
        "objects": tracks,
        "object_frames": tracks * 20,
        "dedup": {"tested": 41, "covered": 31, "iou_threshold": 0.6},
        "durations": {"track.flow": 4.0, "persist.video_segments": 0.25},
        "tracks": lives,
    }


def _pictures(folder: Path, level: int) -> None:
    rows = []
    for frame in (0, 20, 40):
        name = f"frame_{frame:05d}.png"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((48, 128, 3), 40 + frame, np.uint8)).save(folder / name)
        tracks = [
            {"id": k, "colour": track_colour(k), "box": [1, 2, 3, 4], "area": 9, "score": 0.9} for k in range(1, 4)
        ]
        rows.append(
            {"frame_idx": frame, "frame_name": f"{frame:05d}.jpg", "image": name, "candidates": 5, "tracks": tracks}
        )
    write_json(folder / "compare.json", {"schema_version": 1, "level": level, "frames": rows})
