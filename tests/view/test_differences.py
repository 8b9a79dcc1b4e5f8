"""What differs between a run and the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.view.match import Match
from trackweave.errors import InputError
from trackweave.reports.run_tracks import Description, RunTracks, numbered_frames
from trackweave.structures.tracks import Tracks
from trackweave.view.differences import find_differences, open_truth
from trackweave.view.opened_run import OpenedRun


def lanes(*ids: list[int]) -> RunTracks:
    """Boxes in lanes that do not touch; 0 = nobody is seen."""
    rows = [(t, number, lane) for lane, own in enumerate(ids) for t, number in enumerate(own) if number]
    boxes = np.array([(20 * lane, 0, 20 * lane + 10, 10) for _, _, lane in rows], float).reshape(-1, 4)
    tracks = Tracks.from_columns([t for t, _, _ in rows], [number for _, number, _ in rows], boxes)
    return RunTracks(Description("run"), numbered_frames(len(ids[0]), (99, 99), None), tracks, tracks.track_id)


def test_each_kind_of_difference() -> None:
    truth = lanes([1] * 8, [2] * 8, [0] * 8)
    run = lanes([4, 4, 4, 5, 5, 0, 0, 5], [6] * 8, [0, 7, 7, 0, 7, 7, 7, 0])
    found = [(one.kind, one.first, one.last, one.tracks, one.other) for one in find_differences(run, truth)]
    assert found == [
        ("switch", 3, 3, (4, 5), 1),
        ("miss", 5, 6, (), 1),
        ("false", 4, 6, (7,), 0),
        ("false", 1, 2, (7,), 0),
    ]


def test_who_was_matched_before_is_matched_again() -> None:
    """Another box fits a little better for a frame: that is no switch."""
    truth = Tracks.from_columns([0, 1, 2], [1, 1, 1], [[0, 0, 100, 10]] * 3)
    boxes = [[2, 0, 102, 10], [8, 0, 108, 10], [1, 0, 101, 10], [2, 0, 102, 10]]
    tracks = Tracks.from_columns([0, 1, 1, 2], [4, 4, 9, 4], boxes)
    frames = numbered_frames(3, (99, 199), None)
    run, other = (RunTracks(Description("run"), frames, each, each.track_id) for each in (tracks, truth))
    assert [(one.kind, one.tracks) for one in find_differences(run, other)] == [("false", (9,))]


@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=3))
def test_nothing_differs_from_itself(ids: list[list[int]]) -> None:
    run = lanes(*[[10 * lane + number if number else 0 for number in own] for lane, own in enumerate(ids)])
    assert find_differences(run, run) == []


def test_a_truth_beside_a_run(match_run: Path, tmp_path: Path) -> None:
    match = Match(frames=60, players=5, size=(180, 320))
    lines = [
        f"{t + 1},{player + 1},{x1 + 1:.2f},{y1 + 1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},1,1,1"
        for t in range(60)
        for player, (x1, y1, x2, y2) in enumerate(match.boxes[t].tolist())
    ]
    (tmp_path / "gt.txt").write_text("\n".join(lines) + "\n")
    with OpenedRun(match_run) as opened:
        truth = open_truth(tmp_path / "gt.txt", opened)
        assert truth.info()["tracks"] == 5
        assert truth.info()["pictures"] is True
        answer = truth.objects_json(30, 1, with_masks=True)["frames"][0]
        assert np.allclose(np.reshape(answer["box"], (-1, 4)), match.boxes[30], atol=0.06)
        assert all(one.kind in ("switch", "miss", "false") for one in find_differences(opened, truth))
        with pytest.raises(InputError, match="no such ground truth"):
            open_truth(tmp_path / "nowhere", opened)
