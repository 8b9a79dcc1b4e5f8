from __future__ import annotations

import json
from typing import Any

import pytest

from trackweave.structures.run_summary import BoxSummary, InputSummary, MaskSummary, RunSummary, TrackSummary

TRACK = {
    "id": 3,
    "prompt_frame": 4,
    "prompt": "mask",
    "frames": 5,
    "first": 4,
    "last": 9,
    "spans": [[4, 6], [8, 9]],
    "mean_area": 717.0,
    "mean_score": 0.9971,
}
MASKS: dict[str, Any] = {
    "schema_version": 1,
    "command": "masks",
    "input": {"path": "clip.mp4", "frames": 12, "size": [96, 160], "cuts": [5]},
    "predictor": {"name": "flow", "reason": "asked for", "counters": {"flow_pairs": 11}},
    "levels": {
        "2": {
            "frames": 12,
            "candidate_frames": 3,
            "candidates": 9,
            "prompts": 4,
            "objects": 1,
            "object_frames": 5,
            "dedup": {"candidates": 9, "duplicates": 5},
            "durations": {"track.load": 0.001, "compare": 0.0124},
            "tracks": [TRACK],
        }
    },
    "totals": {
        "candidate_frames": 3,
        "candidates": 9,
        "prompts": 4,
        "objects": 1,
        "object_frames": 5,
        "levels": [2],
        "seconds": 7.215,
        "duplicates": 5,
    },
    "durations": {"open": 0.0165, "compare": 0.0124},
    "peak_rss_mb": 309.0,
    "warnings": [{"stage": "track", "level": 2, "code": "slow", "message": "it was slow", "frames": 3}],
}
BOXES: dict[str, Any] = {
    "schema_version": 1,
    "command": "boxes",
    "input": {
        "path": "toy",
        "kind": "sequence",
        "name": "toy",
        "frames": 12,
        "frame_rate": 10.0,
        "height": 96,
        "width": 160,
        "cuts": None,
    },
    "detections": {"kind": "file", "path": "det.txt", "rows": 24},
    "tracker": {"confidence_threshold": 0.1, "max_distance": None},
    "totals": {"frames": 12, "detections": 24, "tracks": 2, "boxes": 24, "est_id_switches": None},
    "skipped": {"not-finite": 2},
    "suspected_switches": [{"frame": 7, "tracks": [1, 2], "cause": "exchange", "confidence": 0.81}],
    "expected_switches": {"expected": 2.5, "low": 0, "high": 6},
    "track_lengths": {"from": [1, 10], "tracks": [0, 2]},
    "longest_tracks": [
        {"id": 1, "class_id": -1, "frames": 12, "first": 0, "last": 11, "spans": [[0, 11]], "mean_score": 0.9}
    ],
    "visibility": None,
    "embedder": {"name": "descriptor", "width": 64},
    "camera": None,
    "log": None,
    "association_fps": None,
    "durations": {"track": 0.0041},
    "peak_rss_mb": 288.7,
    "warnings": [],
}


@pytest.mark.parametrize("record", [MASKS, BOXES])
def test_a_record_comes_back_as_it_was_in_the_same_order(record: dict[str, Any]) -> None:
    assert json.dumps(RunSummary.from_json(record).to_json()) == json.dumps(record)


def test_numbers_of_a_mask_run() -> None:
    summary = RunSummary.from_json(MASKS)
    assert isinstance(summary, MaskSummary)
    assert (summary.track_count, summary.mask_count) == (1, 5)
    assert summary.input == InputSummary("clip.mp4", 12, (96, 160), cuts=[5])
    (level,) = summary.levels.values()
    assert level.tracks[0] == TrackSummary(3, [(4, 6), (8, 9)], 5, None, 4, "mask", 717.0, 0.9971)
    assert summary.warnings[0].details == {"frames": 3}


def test_numbers_of_a_box_run() -> None:
    summary = RunSummary.from_json(BOXES)
    assert isinstance(summary, BoxSummary)
    assert summary.track_count == 2
    assert summary.input.size == (96, 160)
    assert summary.totals["est_id_switches"] is None
    assert summary.longest_tracks[0].last == 11


@pytest.mark.parametrize("record", [MASKS, BOXES])
def test_unknown_keys_are_kept(record: dict[str, Any]) -> None:
    summary = RunSummary.from_json({**record, "later": {"a": 1}})
    assert summary.extra == {"later": {"a": 1}}
    assert summary.to_json()["later"] == {"a": 1}


def test_parts_that_a_run_did_not_write_are_empty() -> None:
    summary = RunSummary.from_json({"schema_version": 1, "predictor": "static", "durations": {"track": {"flow": 2}}})
    assert isinstance(summary, MaskSummary)
    assert (summary.track_count, summary.peak_rss_mb, summary.input.path) == (0, None, None)
    assert summary.predictor is not None
    assert summary.predictor.name == "static"
    assert summary.durations == {"track.flow": 2.0}
    assert TrackSummary.from_json({"id": 5, "first": 2, "last": 9}).frames == 8
