"""Cuts in box tracking: tracks end, ids go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.frames.videos import shot
from trackweave import Detections, Tracker, track_boxes
from trackweave.frames.arrays import ArrayFrames
from trackweave.mot.state import FrameContext
from trackweave.pipelines.settings import PerceptionSettings

BOX = Detections.of([[10, 20, 50, 90]], [0.9])
PRESETS = ["adaptive", "bytetrack", "sort", "ocsort", "botsort"]


def ids_of(tracker: Tracker, context: FrameContext | None = None) -> list[int]:
    ids = tracker.update(BOX, context).track_id
    assert ids is not None
    return [int(track_id) for track_id in ids]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_cut_ends_every_track(preset: str) -> None:
    tracker = Tracker(preset, diagnostics=True)
    ids = [ids_of(tracker, FrameContext(k, cut=k == 4)) for k in range(8)]
    assert ids == [[1]] * 4 + [[2]] * 4  # confirmed at once, as on the first frame
    tracker.cut()
    assert ids_of(tracker) == [3]
    assert tracker.summary.tracks == 3
    assert tracker.summary.est_id_switches == 0
    assert tracker.frames == 9


def test_a_cut_before_the_first_frame_and_on_an_empty_one_changes_nothing() -> None:
    tracker = Tracker()
    tracker.cut()
    assert ids_of(tracker) == [1]
    tracker.update(Detections.empty(), FrameContext(1, cut=True))
    assert tracker.is_idle


def test_appearance_is_forgotten_at_a_cut() -> None:
    tracker = Tracker(appearance_memory=True)
    described = replace(BOX, embedding=np.ones((1, 4), np.float32))
    for k in range(6):
        tracker.update(described, FrameContext(k, cut=k == 3))
    assert tracker.summary.tracks == 2


@pytest.mark.parametrize(("cuts", "ids", "found"), [("detect", {1, 2}, [5]), ("ignore", {1}, None)])
def test_runs_over_pictures_find_cuts(cuts: str, ids: set[int], found: list[int] | None, tmp_path: Path) -> None:
    frames = ArrayFrames(np.stack([*shot(0, 5), *shot(1, 6)]))
    rows = [f"{k + 1},-1,20,20,40,60,0.9,-1,-1,-1" for k in range(11)]
    table = tmp_path / "det.txt"
    table.write_text("\n".join(rows))
    settings = PerceptionSettings.model_validate({"cuts": cuts})
    run = track_boxes(frames, tmp_path / "run", detections=table, perception=settings, overlay=False)
    assert set(run.tracks().track_ids.tolist()) == ids
    assert run.summary.input.cuts == found
