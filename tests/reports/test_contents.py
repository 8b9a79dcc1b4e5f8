"""What a report holds: the viewer's script, tracks and boxes, or what a summary says of them."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from trackweave.reports import embedded
from trackweave.reports.embedded import held_summary, pack_boxes, script, video_json
from trackweave.reports.run_tracks import Description, RunTracks, ShownTracks, numbered_frames
from trackweave.structures.run_summary import TrackSummary
from trackweave.structures.tracks import Tracks
from trackweave.visualization.video import Mp4Writer


def held(tracks: Sequence[TrackSummary], frames: Sequence[int] = ()) -> dict[str, Any]:
    return held_summary("run", "masks", {2: tracks}, frames, (48, 64))


def life(track_id: int, *spans: tuple[int, int]) -> TrackSummary:
    return TrackSummary(track_id, spans)


def test_spans_of_a_summary_are_placed_by_position_among_the_runs_frames() -> None:
    tracks = held([life(1, (10, 20), (40, 40))], [0, 10, 20, 30, 40])["tracks"]
    assert (tracks["spans"], tracks["starts"]) == ([1, 3, 4, 5], [0, 2])
    assert (tracks["first"], tracks["last"], tracks["count"]) == ([1], [4], [3])


def test_spans_that_touch_in_a_sampled_run_are_one() -> None:
    assert held([life(1, (0, 0), (10, 10), (20, 20))], [0, 10, 20])["tracks"]["spans"] == [0, 3]


def test_without_a_list_the_frames_are_those_of_the_tracks() -> None:
    data = held([life(1, (3, 4)), life(2, (6, 6))])
    assert (data["info"]["frames"], data["info"]["indices"]) == (4, [[3, 0]])
    assert data["tracks"]["spans"] == [0, 2, 3, 4]


def test_a_far_frame_number_does_not_fill_the_memory() -> None:
    assert held([life(1, (0, 1), (2**31, 2**31))])["tracks"]["count"] == [3]


@given(arrays(np.float32, (5, 4), elements=st.floats(-40000, 40000, width=32)))
def test_packed_boxes_are_the_boxes_in_whole_pixels(sides: NDArray[np.float32]) -> None:
    boxes = np.concatenate([np.minimum(sides[:, :2], sides[:, 2:]), np.maximum(sides[:, :2], sides[:, 2:])], axis=1)
    tracks = Tracks.from_columns([0, 0, 1, 2, 4], [1, 2, 1, 2, 1], boxes)
    shown = ShownTracks(tracks, tracks.track_id, np.arange(5))
    packed = pack_boxes(shown)
    assert packed is not None
    steps = np.frombuffer(zlib.decompress(base64.b64decode(packed)), "<i2")
    unpacked = np.cumsum(steps, dtype=np.int16).reshape(4, -1).T
    expected = np.clip(np.round(tracks.xyxy[shown.table.order]), -(2**15), 2**15 - 1)
    assert np.array_equal(unpacked, expected)


def test_too_many_boxes_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "MOST_BOXES", 1)
    tracks = Tracks.from_columns([0, 1], [1, 1], np.zeros((2, 4)))
    assert pack_boxes(ShownTracks(tracks, tracks.track_id, np.arange(2))) is None


def test_a_video_shows_the_run_when_it_has_as_many_frames(tmp_path: Path) -> None:
    with Mp4Writer(tmp_path / "overlay.mp4", 10) as writer:
        for _ in range(6):
            writer.write(np.zeros((32, 32, 3), np.uint8))

    def run(frames: int) -> RunTracks:
        none = Tracks.empty()
        return RunTracks(Description("run"), numbered_frames(frames, (32, 32), 10), none, none.track_id)

    assert video_json(tmp_path / "overlay.mp4", run(6), None) == {"rate": 10, "positions": None}
    assert video_json(tmp_path / "overlay.mp4", run(7), None) is None
    (tmp_path / "overlay.mp4").write_bytes(b"")
    assert video_json(tmp_path / "overlay.mp4", run(6), None) is None


def test_the_script_is_one() -> None:
    text = script()
    assert "import " not in text
    assert "export " not in text
    assert "http" not in text
