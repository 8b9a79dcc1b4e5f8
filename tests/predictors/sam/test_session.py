"""The engine, on a fake model that notices every mistake; see `test_adapters` for real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.predictors.conformance import assert_same
from tests.predictors.sam.fake import FakeModel
from trackweave.errors import PredictorError, PredictorOutOfMemory
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource
from trackweave.ids import LocalIndex
from trackweave.predictors.base import FramePrediction, PredictorSession
from trackweave.predictors.sam import session as session_module
from trackweave.predictors.sam.model import ObjectMemory
from trackweave.predictors.sam.session import SamSession
from trackweave.predictors.sam.settings import SamSettings

SIZE = (24, 40)


def video(length: int) -> FrameSource:
    """Frames whose first channel is their number."""
    frames = np.random.default_rng(0).integers(0, 256, (length, *SIZE, 3)).astype(np.uint8)
    frames[..., 0] = np.arange(length)[:, None, None]
    return open_frames(frames)


def mask(k: int) -> np.ndarray:
    rectangle = np.zeros(SIZE, np.bool_)
    rectangle[2 + k % 5 : 9 + k % 7, 3 * (k % 9) : 3 * (k % 9) + 8 + k % 4] = True
    return rectangle


def box(k: int) -> np.ndarray:
    return np.array([k, k + 1, k + 9, k + 11], np.float32)


def session(model: FakeModel | None = None, length: int = 30, **settings: Any) -> SamSession:
    return SamSession(model or FakeModel(), video(length), SamSettings(**settings))


def both_ways(one: PredictorSession, start: int, reach: int | None = None) -> list[FramePrediction]:
    return [p for reverse in (False, True) for p in one.propagate(LocalIndex(start), reverse=reverse, max_frames=reach)]


def alone(k: int, start: int, reach: int | None = None, **settings: Any) -> list[FramePrediction]:
    """Object k in a session of its own."""
    one = session(**settings)
    prompt(one, start, k)
    return both_ways(one, start, reach)


def prompt(one: PredictorSession, start: int, k: int) -> None:
    if k % 3 == 2:
        one.add_box(LocalIndex(start), k, box(k))
    else:
        one.add_mask(LocalIndex(start), k, mask(k))


def rows(predictions: Sequence[FramePrediction], k: int) -> list[FramePrediction]:
    """The predictions of one object."""
    own = []
    for p in predictions:
        row = p.object_ids.tolist().index(k)
        own.append(FramePrediction(p.frame, p.object_ids[[row]], p.masks[[row]], p.score[[row]]))
    return own


def assert_alike(predictions: list[FramePrediction], expected: list[FramePrediction]) -> None:
    """Equal but for rounding in another order of additions."""
    assert [p.frame for p in predictions] == [p.frame for p in expected]
    for one, other in zip(predictions, expected, strict=True):
        np.testing.assert_allclose(one.score, other.score, atol=1e-5)
        assert one.masks == other.masks


@settings(max_examples=30, deadline=None)
@given(
    start=st.integers(0, 29),
    objects=st.integers(1, 9),
    batch=st.integers(1, 9),
    reach=st.one_of(st.none(), st.integers(0, 12)),
    pads=st.booleans(),
    prune=st.booleans(),
    largest=st.one_of(st.none(), st.integers(1, 4)),
)
def test_an_object_does_not_depend_on_the_others(
    start: int, objects: int, batch: int, reach: int | None, pads: bool, prune: bool, largest: int | None
) -> None:
    """Whatever the batches, the padding and the shortage of memory: each object gets what it would get alone."""
    one = session(FakeModel(largest), batch=batch, pad_batches="on" if pads else "off", prune=prune)
    for k in range(objects):
        prompt(one, start, k)
    predictions = both_ways(one, start, reach)
    for k in range(objects):
        assert_alike(rows(predictions, k), alone(k, start, reach))


def test_the_backward_pass_remembers_the_first_frames_of_the_forward_one() -> None:
    one = session()
    one.add_mask(9, 1, mask(1))
    list(one.propagate(9))
    after_forward = list(one.propagate(9, reverse=True))
    fresh = session()
    fresh.add_mask(9, 1, mask(1))
    from_prompts = list(fresh.propagate(9, reverse=True))
    changed = [bool(a.score != b.score) for a, b in zip(after_forward, from_prompts, strict=True)]
    assert changed[0] is False  # the prompt itself
    assert all(changed[1:4])
    # Done: what was kept for it is gone, so the next one starts from the prompts.
    assert_same(list(one.propagate(9, reverse=True)), from_prompts)


def test_memory_does_not_grow_with_the_video(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Watched(ObjectMemory):
        def prune(self, frame: int, reverse: bool) -> None:
            super().prune(frame, reverse)
            sizes.append(self.nbytes)

    monkeypatch.setattr(session_module, "ObjectMemory", Watched)
    for start, lengths in ((0, (16, 64)), (20, (40, 160))):
        largest = []
        for length in lengths:
            one = session(length=length)
            for k in range(4):
                one.add_mask(start, k, mask(k))
            both_ways(one, start)
            largest.append(max(sizes))
            sizes.clear()
            assert not one._forward_passes
        assert largest[0] == largest[1]


def test_forgotten_objects_leave_nothing() -> None:
    one = session()
    one.add_mask(9, 1, mask(1))
    list(one.propagate(9))
    one.forget_objects(9)
    assert not one._forward_passes
    one.add_mask(9, 1, mask(4))
    other = session()
    other.add_mask(9, 1, mask(4))
    assert_same(list(one.propagate(9, reverse=True)), list(other.propagate(9, reverse=True)))


def test_each_frame_is_encoded_once_for_all_batches_and_directions() -> None:
    model = FakeModel()
    one = session(model, length=40)
    for start in range(0, 40, 2):
        one.add_mask(start, start, mask(start))
        both_ways(one, start, 8)
    assert one.counters["encoder_passes"] == 40
    assert set(model.encoded.values()) == {1}


def test_a_window_of_frames_is_enough_when_past_frames_are_released() -> None:
    model = FakeModel()
    frame_bytes = 3 * 4
    one = session(model, length=40, device_bytes=17 * frame_bytes, host_bytes=0)
    for start in range(0, 40, 2):
        one.release_frames_before(start - 8)
        one.add_mask(start, start, mask(start))
        both_ways(one, start, 8)
    assert one.counters["encoder_passes"] == 40
    assert not one.warnings


def test_a_store_that_is_too_small_is_warned_of_once() -> None:
    one = session(length=20, device_bytes=0, host_bytes=3 * 12)
    one.add_mask(10, 1, mask(1))
    expected = session(length=20)
    expected.add_mask(10, 1, mask(1))
    assert_same(both_ways(one, 10), both_ways(expected, 10))
    one.add_mask(0, 2, mask(2))
    list(one.propagate(0))
    assert one.counters["encoder_passes"] > 20
    assert [warning.code for warning in one.warnings] == ["features-evicted"]


def test_shortage_of_memory_halves_batches_with_a_warning() -> None:
    model = FakeModel(largest=3)
    one = session(model)
    for k in range(8):
        one.add_mask(4, k, mask(k))
    list(one.propagate(4))
    assert set(model.batches) == {2}
    (warning,) = one.warnings
    assert (warning.stage, warning.code, warning.details) == ("predictor", "batch-halved", {"batch": 2})


def test_shortage_in_the_middle_of_a_pass() -> None:
    model = FakeModel()
    one = session(model)
    for k in range(7):
        one.add_mask(4, k, mask(k))
    predictions = []
    for p in one.propagate(4):
        predictions.append(p)
        model.largest = 2 if p.frame == 11 else model.largest
    predictions += list(one.propagate(4, reverse=True))
    for k in range(7):
        other = session()
        other.add_mask(4, k, mask(k))
        assert_alike(rows(predictions, k), both_ways(other, 4))


def test_one_object_too_much_is_an_error_and_what_came_before_stays() -> None:
    model = FakeModel()
    one = session(model)
    one.add_mask(4, 3, mask(3))
    steps = one.propagate(4)
    assert [next(steps).frame for _ in range(5)] == [4, 5, 6, 7, 8]
    model.largest = 0
    with pytest.raises(PredictorOutOfMemory, match=r"fake: object 3 alone does not fit on cpu: take a smaller model"):
        next(steps)


def test_another_failure_of_the_model_is_one_line() -> None:
    class Broken(FakeModel):
        def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            raise RuntimeError("CUDA error: device-side assert\nlong story")

    one = session(Broken())
    one.add_mask(4, 3, mask(3))
    with pytest.raises(PredictorError, match=r"^fake failed: CUDA error: device-side assert$"):
        list(one.propagate(4))


def test_a_session_that_is_closed_meanwhile() -> None:
    one = session()
    one.add_mask(4, 3, mask(3))
    steps = one.propagate(4)
    next(steps)
    one.close()
    with pytest.raises(PredictorError, match="the session is closed"):
        next(steps)
    with pytest.raises(PredictorError, match="the session is closed"):
        one.add_mask(5, 4, mask(4))


class TestStop:
    GONE = {frame: {1} for frame in range(12, 20)} | {frame: {0, 1, 2} for frame in range(20, 40)}

    def run(self, stop: int, **settings: Any) -> tuple[SamSession, FakeModel, list[FramePrediction]]:
        model = FakeModel(absent=self.GONE)
        one = session(model, length=40, stop_after_absent=stop, **settings)
        for k in (0, 1, 3):
            one.add_mask(2, k, mask(k))
        return one, model, list(one.propagate(2))

    def test_off_is_the_upstream_behaviour(self) -> None:
        _, model, predictions = self.run(0)
        assert [p.frame for p in predictions] == list(range(2, 40))
        assert set(model.batches) == {3}

    def test_a_direction_ends_when_everybody_has_been_absent(self) -> None:
        one, model, predictions = self.run(4)
        assert [p.frame for p in predictions] == list(range(2, 24))
        assert model.batches[:13] == [3] * 13  # frames 3 to 15: the fourth absence of object 1 is on 15
        assert model.batches[13:] == [2] * 8
        _, _, upstream = self.run(0)
        for mine, its in zip(predictions, upstream, strict=False):
            there = mine.frame < 16
            assert mine.masks[[0, 2]] == its.masks[[0, 2]] or not there
            assert mine.masks.areas[1] == 0 or mine.frame < 12
        assert one.counters["object_frames"] == 13 * 3 + 8 * 2

    def test_batches_are_kept_while_the_backward_pass_needs_them(self) -> None:
        model = FakeModel(absent={frame: {1} for frame in range(3, 40)})
        one = session(model, length=40, stop_after_absent=1)
        for k in (0, 1, 3):
            one.add_mask(2, k, mask(k))
        list(one.propagate(2))
        assert model.batches[: FakeModel.pointer_frames + 1] == [3] * (FakeModel.pointer_frames + 1)
        assert set(model.batches[FakeModel.pointer_frames + 1 :]) == {2}
        back = list(one.propagate(2, reverse=True))
        assert [p.object_ids.tolist() for p in back] == [[0, 1, 3]] * 3


def test_padding_fills_up_to_powers_of_two() -> None:
    model = FakeModel()
    one = session(model, batch=8, pad_batches="on")
    for k in range(13):
        one.add_mask(4, k, mask(k))
    list(one.propagate(4, max_frames=1))
    assert model.batches == [8, 8]
    assert one.counters["object_frames"] == 13


def test_objects_with_prompts_on_several_frames_form_batches_of_their_own() -> None:
    model = FakeModel()
    one = session(model)
    for k in range(4):
        one.add_mask(4, k, mask(k))
    for k in (1, 3):
        one.add_box(8, k, box(k))
    predictions = list(one.propagate(4))
    assert set(model.batches) == {2}
    other = session()
    other.add_mask(4, 3, mask(3))
    other.add_box(8, 3, box(3))
    assert_alike(rows(predictions, 3), list(other.propagate(4)))


def test_a_mask_thinner_than_a_pixel_of_the_model_is_not_lost() -> None:
    one = session()
    thin = np.zeros(SIZE, np.bool_)
    thin[3, 7] = True
    one.add_mask(4, 1, thin)
    list(one.propagate(4, max_frames=1))
    assert [warning.code for warning in one.warnings] == ["prompt-thickened"]


def test_prompts_added_after_the_forward_pass_reach_the_backward_one() -> None:
    one = session()
    one.add_mask(9, 1, mask(1))
    list(one.propagate(9))
    one.add_mask(5, 1, mask(4))
    predictions = list(one.propagate(9, reverse=True))
    other = session()
    other.add_mask(9, 1, mask(1))
    other.add_mask(5, 1, mask(4))
    assert_same(predictions, list(other.propagate(9, reverse=True)))
