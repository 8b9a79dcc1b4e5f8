from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.frames.videos import shot
from trackweave.frames.arrays import ArrayFrames
from trackweave.frames.cuts import CutDetector, find_cuts, sampled_cuts, shot_of
from trackweave.frames.open import open_frames
from trackweave.frames.source import RGBFrame

VOS = Path(__file__).parents[3] / "shared" / "data" / "vos"
DAVIS = VOS / "davis2016_480p"


def cuts_of(frames: list[RGBFrame]) -> list[int]:
    return list(find_cuts(ArrayFrames(np.stack(frames))))


def test_cuts_are_found_between_shots_and_nowhere_else() -> None:
    assert cuts_of([*shot(0, 8), *shot(1, 8, speed=4), *shot(2, 5)]) == [8, 16]
    assert cuts_of(shot(3, 20, speed=7)) == []


def test_a_first_shot_of_one_frame_is_a_shot() -> None:
    assert cuts_of([*shot(0, 1), *shot(1, 8)]) == [1]
    assert cuts_of(shot(0, 1)) == cuts_of([*shot(0, 1), *shot(1, 1)]) == []  # two frames alone tell nothing


@pytest.mark.parametrize("length", [1, 2, 3])
def test_flashes_and_black_frames_are_no_cuts(length: int) -> None:
    frames = shot(0, 16)
    flash = [np.clip(frame * 1.4 + 50.0, 0, 255).astype(np.uint8) for frame in frames[6 : 6 + length]]
    assert cuts_of([*frames[:6], *flash, *frames[6 + length :]]) == []
    black = [np.zeros_like(frames[0])] * length
    assert cuts_of([*frames[:6], *black, *frames[6 + length :]]) == []
    # …but what follows black may be another shot.
    assert cuts_of([*frames[:6], *black, *shot(1, 6)]) == [6 + length]


def test_frames_as_they_come_say_the_same() -> None:
    frames = [*shot(0, 6), *shot(1, 6)]
    detector = CutDetector()
    assert [k for k, frame in enumerate(frames) if detector.update(frame)] == cuts_of(frames) == [6]
    detector.reset()
    assert not any(detector.update(frame) for frame in shot(2, 4))


def test_frames_of_another_size_begin_anew() -> None:
    detector = CutDetector()
    frames = [*shot(0, 4), *(frame[:80] for frame in shot(1, 4))]
    assert not any(detector.update(frame) for frame in frames)


@given(st.sets(st.integers(1, 19)), st.integers(0, 19))
def test_shots_part_the_video(cuts: set[int], position: int) -> None:
    ordered = sorted(cuts)
    own = shot_of(position, ordered, 20)
    assert position in own
    assert own.start in {0, *cuts}
    assert own.stop in {20, *cuts}
    assert not cuts & set(own[1:])


@settings(max_examples=30)
@given(st.sets(st.integers(1, 19)), st.sets(st.integers(0, 19), min_size=1))
def test_cuts_of_a_sample_part_the_same_frames(cuts: set[int], taken: set[int]) -> None:
    whole = ArrayFrames(np.zeros((20, 4, 6, 3), np.uint8))
    sampled = whole.select(sorted(taken))
    found = sampled_cuts(sorted(cuts), whole, sampled)
    for a, b in zip(range(len(taken) - 1), range(1, len(taken)), strict=True):
        together = shot_of(sampled.indices[a], sorted(cuts), 20) == shot_of(sampled.indices[b], sorted(cuts), 20)
        assert (shot_of(a, found, len(taken)) == shot_of(b, found, len(taken))) == together


@pytest.mark.skipif(not DAVIS.is_dir(), reason="no data")
def test_real_shots_of_fast_motion() -> None:
    names, step, count = ("motorbike", "tennis", "dance-jump", "soccerball"), 3, 10
    shots = [open_frames(DAVIS / name / "frames", sampling=f"0:{step * count}:{step}") for name in names]
    frames = [cv2.resize(frame, (320, 180), interpolation=cv2.INTER_AREA) for shot in shots for frame in shot]
    assert cuts_of([np.asarray(frame, np.uint8) for frame in frames]) == [10, 20, 30]


@pytest.mark.skipif(not VOS.is_dir(), reason="no data")
def test_a_scan_of_frames_far_apart_has_no_cut() -> None:
    assert find_cuts(open_frames(VOS / "multiscan_scene" / "frames")) == ()
