"""Toy worlds: one line per object, one character per two frames: the track that it is matched with, `.` = unseen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.ids import FrameIndex
from trackweave.mot.id_switches import MIN_FRAMES_APART, SwitchCause, SwitchEvent, SwitchMonitor
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import Detections

SIZE = (480, 640)
FRAMES_PER_LETTER = 2
Path = Callable[[int], tuple[float, float]]


@dataclass(frozen=True)
class Walker:
    """An object: its centre by frame, its box, and the tracks that it is given."""

    tracks: str
    path: Path
    width: float = 40.0
    height: float = 100.0
    embedding: Sequence[float] | None = None

    def box(self, frame: int) -> NDArray[np.float32]:
        (x, y), wide, high = self.path(frame), self.width / 2, self.height / 2
        return np.array([x - wide, y - high, x + wide, y + high], np.float32)

    def track(self, frame: int) -> int:
        place = frame // FRAMES_PER_LETTER
        letter = self.tracks[place] if place < len(self.tracks) else "."
        return 0 if letter == "." else int(letter)


def straight(x: float, y: float, vx: float = 0.0, vy: float = 0.0) -> Path:
    return lambda frame: (x + vx * frame, y + vy * frame)


def play(*walkers: Walker, pan: float = 0.0, lost: int = 60) -> Iterator[AssignmentState]:
    """What a tracker with constant velocity would show; the camera moves by `pan` pixels per frame."""
    boxes: dict[int, NDArray[np.float64]] = {}
    speed: dict[int, NDArray[np.float64]] = {}
    last: dict[int, int] = {}
    first: dict[int, int] = {}
    shift = np.array([pan, 0, pan, 0])
    for frame in range(FRAMES_PER_LETTER * max(len(walker.tracks) for walker in walkers)):
        visible = [walker for walker in walkers if walker.track(frame)]
        boxes_now = np.array([walker.box(frame) - frame * shift for walker in visible], np.float32).reshape(-1, 4)
        assigned = np.array([walker.track(frame) for walker in visible], np.int64)
        existing = [track for track in boxes if frame - last[track] <= lost]
        predicted = {
            track: boxes[track] + (frame - last[track]) * (np.tile(speed[track], 2) - shift) for track in existing
        }
        displacement = np.zeros((len(visible), 2), np.float32)
        for row, (box, track) in enumerate(zip(boxes_now.astype(np.float64), assigned.tolist(), strict=True)):
            if track in existing:
                moved = (box - boxes[track])[:2] + (frame - last[track]) * shift[:2]
                displacement[row] = moved
                speed[track] = speed[track] + 0.3 * (moved / (frame - last[track]) - speed[track])
            else:
                speed[track], first[track] = np.zeros(2), frame
        embeddings = [walker.embedding for walker in visible]
        yield AssignmentState(
            frame=FrameIndex(frame),
            time=None,
            size=SIZE,
            track_ids=np.array(existing, np.int64),
            track_boxes=np.array([predicted[track] for track in existing], np.float32).reshape(-1, 4),
            track_velocity=np.array([speed[track] for track in existing], np.float32).reshape(-1, 2),
            track_age=np.array([frame - first[track] for track in existing], np.int64),
            track_gap=np.array([frame - last[track] for track in existing], np.int64),
            track_score=np.ones(len(existing), np.float32),
            track_visibility=np.ones(len(existing), np.float32),
            track_class=np.full(len(existing), -1, np.int64),
            track_embeddings=None,
            detections=Detections.of(
                boxes_now,
                np.full(len(visible), 0.9),
                embedding=None if None in embeddings or not embeddings else np.array(embeddings, np.float32),
            ),
            det_displacement=displacement,
            cost=np.zeros((len(existing), len(visible)), np.float32),
            allowed=np.ones((len(existing), len(visible)), np.bool_),
            assigned_track_ids=assigned,
        )
        for box, track in zip(boxes_now.astype(np.float64), assigned.tolist(), strict=True):
            boxes[track], last[track] = box, frame


def watch(states: Iterator[AssignmentState], monitor: SwitchMonitor | None = None) -> list[SwitchEvent]:
    monitor = monitor or SwitchMonitor(30.0)
    return [event for state in states for event in monitor.observe(state)]


CROSSING = 40
"""Frame on which the walkers of the crossing worlds meet."""


def crossing(one: str, other: str, *embeddings: Sequence[float] | None) -> tuple[Walker, Walker]:
    """A tall one from the left, a small one from the right."""
    left = Walker(one, straight(160, 240, 4), 48, 130, embeddings[0] if embeddings else None)
    right = Walker(other, straight(480, 240, -4), 40, 100, embeddings[1] if embeddings else None)
    return left, right


class TestFragmentation:
    def test_a_new_track_where_one_was_lost_is_a_fragmentation(self) -> None:
        # behind a post for ten frames
        (event,) = watch(play(Walker("11111111111111.....222222222222", straight(200, 240, 3))))
        assert event.cause is SwitchCause.FRAGMENTATION
        assert event.tracks == (1, 2)
        assert event.frame == 38
        assert event.switches == 1
        assert event.confidence > 0.5

    def test_the_same_track_again_is_no_switch(self) -> None:
        assert not watch(play(Walker("11111111111111.....111111111111", straight(200, 240, 3))))

    def test_a_switch_is_suspected_while_the_camera_pans(self) -> None:
        (event,) = watch(play(Walker("11111111111111.....222222222222", straight(200, 240, 3)), pan=9))
        assert event.tracks == (1, 2)

    def test_a_switch_is_suspected_at_a_low_frame_rate(self) -> None:
        (event,) = watch(play(Walker("1111111111.2222222", straight(200, 240, 5))), SwitchMonitor(10.0))
        assert event.tracks == (1, 2)

    def test_the_prior_track_may_have_another_object(self) -> None:
        #  b hides; track 1 jumps from a to b's place next to it, and a gets a new track
        a = Walker("1111111111111112222222222222", straight(200, 240, 0.5))
        b = Walker("...............1111111111111", straight(238, 240, 4), height=112)
        events = watch(play(a, b))
        assert [(event.cause, event.tracks) for event in events] == [(SwitchCause.FRAGMENTATION, (1, 2))]

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(Walker("....................222222222222", straight(600, 240, -3)), id="far away"),
            pytest.param(
                Walker("....................222222222222", straight(320, 260, 2), 80, 220), id="of another size"
            ),
        ],
    )
    def test_another_object_is_no_switch(self, other: Walker) -> None:
        assert not watch(play(Walker("11111111111111", straight(200, 240, 3)), other))

    def test_an_exit_and_an_entry_at_the_border_are_no_switch(self) -> None:
        #  1 leaves to the right; a second later another one comes in there
        leaver = Walker("1111111111111111", straight(560, 240, 3))
        comer = Walker(
            "...............................222222222222", lambda frame: (640 - 3 * (frame - 60), 220), 52, 140
        )
        assert not watch(play(leaver, comer))

    def test_a_second_box_on_a_matched_track_is_no_switch(self) -> None:
        body = Walker("111111111111111111111111111111", straight(200, 240, 3))
        double = Walker("...............222222222222222", straight(203, 244, 3))
        assert not watch(play(body, double))

    def test_a_missing_box_is_no_switch(self) -> None:
        states = list(play(Walker("11111111111111.....2..........", straight(200, 240, 3))))
        assert not watch(state for state in states if state.frame != 39)


class TestEncounters:
    def test_swapped_at_a_crossing(self) -> None:
        monitor = SwitchMonitor()
        one, other = crossing("11111111111111111111222222222222222222", "22222222222222222222111111111111111111")
        (event,) = watch(play(one, other), monitor)
        assert event.cause is SwitchCause.EXCHANGE
        assert set(event.tracks) == {1, 2}
        assert abs(event.frame - CROSSING) <= 10
        assert monitor.total == event.switches == 2

    def test_a_clean_crossing_is_no_switch(self) -> None:
        assert not watch(play(*crossing("1" * 38, "2" * 38)))

    def test_a_clean_crossing_behind_an_occluder_is_no_switch(self) -> None:
        assert not watch(play(*crossing("1" * 38, "2" * 17 + "." * 6 + "2" * 15)))

    def test_standing_together_is_no_switch(self) -> None:
        assert not watch(play(Walker("1" * 90, straight(200, 240)), Walker("2" * 90, straight(215, 240), 44, 110)))

    def test_one_track_takes_the_others_object(self) -> None:
        #  they meet, the small one is hidden from then on, and its track goes on with the tall one
        one, other = crossing("11111111111111111111222222222222222222", "22222222222222222222..................")
        events = watch(play(one, other))
        assert [event.cause for event in events] == [SwitchCause.TAKEOVER]
        assert events[0].tracks == (1, 2)
        assert abs(events[0].frame - CROSSING) <= 10

    @pytest.mark.parametrize(("swapped", "expected"), [(True, 1), (False, 0)])
    def test_appearance_decides_where_motion_cannot(self, swapped: bool, expected: int) -> None:
        #  two alike boxes meet and part again as if they had bounced off: or did they pass?
        def bounce(side: int) -> Path:
            return lambda frame: (320 + side * (8 + 4 * abs(frame - CROSSING)), 240)

        red, blue = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
        early, late = "1" * 20 + "." * 18, "." * 20 + "1" * 18
        left = [Walker(early, bounce(-1), embedding=red), Walker(late, bounce(-1), embedding=blue if swapped else red)]
        early, late = early.replace("1", "2"), late.replace("1", "2")
        right = [Walker(early, bounce(1), embedding=blue), Walker(late, bounce(1), embedding=red if swapped else blue)]
        events = watch(play(*left, *right))
        assert [event.cause for event in events] == [SwitchCause.EXCHANGE] * expected


class TestMonitor:
    def scene_of(self) -> Iterator[AssignmentState]:
        """Two fragmentations and an exchange."""
        lane = Walker("11111111111111.....3333333.....44444444", straight(100, 400, 3))
        one, other = crossing("55555555555555555555222222222222222222", "22222222222222222222555555555555555555")
        return play(lane, replace(one, path=straight(160, 150, 4)), replace(other, path=straight(480, 150, -4)))

    def test_total_counts_and_events_are_kept(self) -> None:
        monitor = SwitchMonitor()
        events = watch(self.scene_of(), monitor)
        assert len(events) == 3
        assert list(monitor.events) == events
        assert monitor.total == 4

    def test_events_are_bounded_and_the_total_is_exact(self) -> None:
        monitor = SwitchMonitor(keep=1)
        events = watch(self.scene_of(), monitor)
        assert list(monitor.events) == events[-1:]
        assert monitor.total == 4

    def test_confidence_filters(self) -> None:
        strongest = max(event.confidence for event in watch(self.scene_of()))
        assert len(watch(self.scene_of(), SwitchMonitor(min_confidence=strongest))) < 3

    def test_reset_forgets(self) -> None:
        monitor = SwitchMonitor()
        first = watch(self.scene_of(), monitor)
        monitor.reset()
        assert monitor.total == 0
        assert not monitor.events
        assert watch(self.scene_of(), monitor) == first

    def test_without_reset_another_video_would_be_mixed_up(self) -> None:
        monitor = SwitchMonitor()
        first = watch(play(Walker("1" * 20, straight(200, 240, 3))), monitor)
        monitor.reset()
        again = watch(play(Walker("2" * 20, straight(320, 240, 3))), monitor)
        assert first == again == []

    def test_frames_without_anything(self) -> None:
        #  the tracker has forgotten the track; the monitor still knows where it was
        states = list(play(Walker("11111111......22222222", straight(200, 240, 3)), lost=4))
        assert any(not len(state.track_ids) and not len(state.detections) for state in states)
        assert [event.tracks for event in watch(iter(states))] == [(1, 2)]

    def test_unmatched_detections_do_not_matter(self) -> None:
        def with_noise(states: Iterator[AssignmentState]) -> Iterator[AssignmentState]:
            for state in states:
                noise = Detections.of([[200, 200, 250, 300]], [0.3])
                yield replace(
                    state,
                    detections=Detections.concat([noise, state.detections]),
                    det_displacement=np.concatenate([np.zeros((1, 2), np.float32), state.det_displacement]),
                    assigned_track_ids=np.concatenate([[-1], state.assigned_track_ids]),
                )

        assert watch(with_noise(self.scene_of())) == watch(self.scene_of())

    def test_memory_is_bounded(self) -> None:
        monitor = SwitchMonitor(30.0, keep=5)
        sizes = []
        template = next(iter(play(Walker("1", straight(100, 100)))))
        for frame in range(1, 6000, 2):  # everything is torn: a new id every fifth time on each of four objects
            ids = 1 + 4 * (frame // 10) + np.arange(4)
            x = 60.0 + 20 * np.arange(4)
            boxes = np.stack([x, x, x + 40, x + 100], axis=1)
            monitor.observe(
                replace(
                    template,
                    frame=FrameIndex(frame),
                    detections=Detections.of(boxes, embedding=np.ones((4, 8))),
                    det_displacement=np.zeros((4, 2), np.float32),
                    assigned_track_ids=ids,
                )
            )
            if frame in (1001, 5999):
                history = monitor._history
                existing = (len(history), len(history.rings), len(history._appearance))
                sizes.append((*existing, len(monitor._starts) < 50, len(monitor._encounters) < 50))
                assert len(monitor._reported) < 2000
        assert sizes[0][1] == sizes[1][1] <= 128
        assert sizes[0][0] <= 80
        assert sizes[1][0] <= 80
        assert sizes[1][2] <= 128
        assert sizes[1][3:] == (True, True)
        assert len(monitor.events) == 5
        assert monitor.total > 1000

    def test_json(self) -> None:
        event = SwitchEvent(FrameIndex(7), (3, 9), SwitchCause.TAKEOVER, 0.123456)
        assert json.loads(json.dumps(event.to_json())) == {
            "frame": 7,
            "tracks": [3, 9],
            "cause": "takeover",
            "confidence": 0.1235,
        }

    @pytest.mark.parametrize("arguments", [{"frame_rate": 0}, {"frame_rate": float("nan")}, {"min_confidence": 1.5}])
    def test_bad_arguments(self, arguments: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="not"):
            SwitchMonitor(**arguments)  # type: ignore[arg-type]

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.text("....1234", min_size=1, max_size=40), min_size=1, max_size=4),
        st.integers(0, 2**31),
        st.sampled_from([5.0, 25.0, 60.0]),
    )
    def test_any_world_gives_well_formed_events(self, lines: list[str], seed: int, rate: float) -> None:
        rng = np.random.default_rng(seed)
        length = max(map(len, lines))
        columns = ["".join(column) for column in zip(*(line.ljust(length, ".") for line in lines), strict=True)]
        unique = [
            "".join(c if c == "." or c not in column[:k] else "." for k, c in enumerate(column)) for column in columns
        ]
        walkers = [
            Walker("".join(row), straight(*rng.uniform(0, 400, 2), *rng.uniform(-5, 5, 2)), *rng.uniform(5, 120, 2))
            for row in zip(*unique, strict=True)
        ]
        monitor = SwitchMonitor(rate, min_confidence=0.05)
        total, reported = 0, []
        for state in play(*walkers):
            for event in monitor.observe(state):
                assert 0 <= event.frame <= state.frame
                assert 0.05 <= event.confidence <= 1
                assert len(set(event.tracks)) == 2
                assert set(event.tracks) <= {1, 2, 3, 4}
                total += event.switches
                reported.append((frozenset(event.tracks), event.frame))
            assert monitor.total == total
        for (pair, frame), (pair_after, after) in pairwise(reported):
            assert pair != pair_after or abs(after - frame) > MIN_FRAMES_APART
