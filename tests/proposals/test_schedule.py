from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.frames.videos import shot
from trackweave.frames.arrays import ArrayFrames
from trackweave.frames.source import RGBFrame
from trackweave.ids import Level, LocalIndex
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.proposing import propose_candidates
from trackweave.proposals.regions import RegionProposals
from trackweave.proposals.schedule import MIN_GAP, NEW_SHARE, SeenArea
from trackweave.structures.candidates import Candidates


def views(frames: list[RGBFrame], root: Path, stride: int | None = None, cuts: tuple[int, ...] = ()) -> list[int]:
    positions = [LocalIndex(cut) for cut in cuts]
    video = ArrayFrames(np.stack(frames))
    return list(propose_candidates(video, root, [Level(2)], RegionProposals(), stride=stride, cuts=positions))


def test_what_stays_in_view_is_looked_at_once(tmp_path: Path) -> None:
    still = [shot(0, 1)[0]] * 30
    assert views(still, tmp_path) == [0]


def test_a_camera_that_moves_on_shows_something_new(tmp_path: Path) -> None:
    found = views(shot(0, 40, speed=3), tmp_path)  # 3 of 180 columns come into view on every frame
    assert found[0] == 0
    gaps = np.diff(found)
    assert len(gaps) >= 3
    assert (gaps >= MIN_GAP).all()
    assert gaps.max() <= 2 * NEW_SHARE * 180 / 3


def test_each_shot_is_looked_at_on_its_first_frame(tmp_path: Path) -> None:
    frames = [*[shot(0, 1)[0]] * 3, *[shot(1, 1)[0]] * 3]
    assert views(frames, tmp_path / "new", cuts=(3,)) == [0, 3]
    assert views(frames, tmp_path / "strided", stride=4, cuts=(3,)) == [0, 3, 4, 5]
    entries = json.loads((tmp_path / "new/level_2/filtered/filtered.json").read_text())["frames"]
    assert [entry["frame_idx"] for entry in entries] == [0, 3]


def test_only_candidates_where_nothing_was_seen_are_new() -> None:
    seen, frames = SeenArea(), shot(0, 21, speed=2)
    for k, frame in enumerate(frames):
        seen.move_to(frame)
        if k == 0:
            seen.look()
    assert seen.new_share == pytest.approx(40 / 180, abs=0.06)
    masks = np.zeros((2, *frames[0].shape[:2]), np.bool_)
    masks[0, 20:90, 20:100], masks[1, 20:90, 150:178] = True, True
    candidates = Candidates(
        np.arange(2), np.zeros((2, 4), np.float32), np.ones(2, np.float32), np.ones(2, np.int64),
        PackedMasks.from_bool(masks),
    )  # fmt: skip
    assert seen.new_candidates(candidates).id.tolist() == [1]
