from __future__ import annotations

from trackweave.reports.contents import WIDTH, draw_timeline
from trackweave.structures.run_summary import TrackSummary


def life(track_id: int, *spans: tuple[int, int]) -> TrackSummary:
    return TrackSummary(track_id, spans)


def test_spans_are_placed_by_position_among_the_runs_frames() -> None:
    row = draw_timeline([life(1, (10, 20), (40, 40))], [0, 10, 20, 30, 40]).rows[0]
    assert [(bar.x, bar.width) for bar in row.bars] == [(WIDTH / 5, 2 * WIDTH / 5), (4 * WIDTH / 5, WIDTH / 5)]


def test_spans_that_touch_in_a_sampled_run_are_one_bar() -> None:
    row = draw_timeline([life(1, (0, 0), (10, 10), (20, 20))], [0, 10, 20]).rows[0]
    assert [(bar.x, bar.width) for bar in row.bars] == [(0, WIDTH)]


def test_spans_off_the_axis_draw_nothing() -> None:
    assert draw_timeline([life(1, (5, 6))], [0, 1, 2]).rows[0].bars == []


def test_rows_come_in_order_of_appearance() -> None:
    tracks = [life(1, (5, 9)), life(2, (0, 9)), life(3, (2, 3))]
    assert [row.track_id for row in draw_timeline(tracks, range(10)).rows] == [2, 3, 1]


def test_axis_without_frame_list_covers_the_tracks() -> None:
    timeline = draw_timeline([life(1, (3, 4)), life(2, (6, 6))], [])
    assert [tick.text for tick in timeline.ticks] == ["3", "4", "5", "6"]


def test_prompt_frames_are_marked_in_the_middle_of_their_frame() -> None:
    tracks = [TrackSummary(1, [(0, 20)], prompt_frame=10), TrackSummary(2, [(0, 20)], prompt_frame=11)]
    assert [row.prompt for row in draw_timeline(tracks, [0, 10, 20]).rows] == [WIDTH / 2, None]


def test_a_far_frame_number_does_not_fill_the_memory() -> None:
    assert len(draw_timeline([life(1, (0, 1), (2**31, 2**31))], []).rows) == 1


def test_nothing_to_draw() -> None:
    timeline = draw_timeline([], [0, 1])
    assert (timeline.rows, timeline.hidden, timeline.height) == ([], 0, 0)
