"""Reported faults of the upstream predictors that the engine must not have. One test each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.predictors.conformance import assert_same
from tests.predictors.sam.adapters import SIZE, Logits, add, both_ways, box, mask, predictor, run, video
from trackweave.errors import PredictorError
from trackweave.ids import LocalIndex
from trackweave.predictors.sam.session import SamSession
from trackweave.predictors.sam.settings import SamSettings

LENGTH = 7


def test_masks_are_two_dimensional(name: str) -> None:
    """A predictor's `(1, H, W)` has broken pipelines at their default scale."""
    session = predictor(name).open(video(2))
    session.add_mask(LocalIndex(0), 1, mask(1))
    for prediction in session.propagate(LocalIndex(0)):
        assert prediction.masks.size == SIZE
        assert prediction.masks.to_bool().shape == (1, *SIZE)
    with pytest.raises(PredictorError, match=r"a mask of \(1, 48, 80\) for frames of \(48, 80\)"):
        session.add_mask(LocalIndex(0), 2, mask(2)[None])


def test_prompts_of_a_frame_do_not_overwrite_each_other(name: str) -> None:
    """transformers keeps only the objects of the last call as new, and fails on the others."""
    session = predictor(name).open(video(LENGTH))
    for k in range(4):
        add(session, 2, k, "box" if k % 2 else "mask")
    assert [p.object_ids.tolist() for p in session.propagate(LocalIndex(2))] == [[0, 1, 2, 3]] * (LENGTH - 2)


def test_a_prompt_that_waits_leaves_nothing_on_frames_before_it(name: str) -> None:
    """transformers makes conditioning outputs of an object on every frame that is visited before its own."""
    session = predictor(name).open(video(LENGTH))
    session.add_mask(LocalIndex(4), 2, mask(2))
    session.add_mask(LocalIndex(0), 1, mask(1))
    assert_same(both_ways(session, 0), run(name, 0, {1: "mask"}, length=LENGTH))
    assert_same(both_ways(session, 4), run(name, 4, {2: "mask"}, length=LENGTH))


def test_a_later_object_does_not_run_the_earlier_ones_again(name: str) -> None:
    """Upstream tracks every object of a state anew when one is added."""
    session = predictor(name).open(video(LENGTH))
    session.add_mask(LocalIndex(0), 1, mask(1))
    list(session.propagate(LocalIndex(0)))
    before = session.counters["object_frames"]
    session.add_mask(LocalIndex(3), 2, mask(2))
    list(session.propagate(LocalIndex(3)))
    assert session.counters["object_frames"] - before == LENGTH - 1 - 3


def test_going_backward_encodes_no_frame_twice(name: str) -> None:
    """transformers throws out the smallest frame first, which is the next one of a backward pass; Meta's package keeps
    one frame only."""
    session = predictor(name).open(video(LENGTH))
    session.add_mask(LocalIndex(LENGTH - 1), 1, mask(1))
    for _ in range(2):
        list(session.propagate(LocalIndex(LENGTH - 1), reverse=True))
    assert session.counters["encoder_passes"] == LENGTH


def test_a_correction_of_one_object_does_not_touch_another(name: str, logits: Logits) -> None:
    """transformers binarises every object's mask for the memory of a frame on which any object has a prompt."""
    alone = predictor(name).open(video(LENGTH))
    alone.add_mask(LocalIndex(1), 1, mask(1))
    list(alone.propagate(LocalIndex(1)))
    expected = logits.take()
    session = predictor(name).open(video(LENGTH))
    session.add_mask(LocalIndex(1), 1, mask(1))
    session.add_mask(LocalIndex(1), 2, mask(2))
    session.add_mask(LocalIndex(4), 2, mask(3))
    list(session.propagate(LocalIndex(1)))
    mine = logits.take()[::2]  # two batches a frame, in the order of prompts
    assert all(torch.equal(one, other) for one, other in zip(mine, expected, strict=True))


def test_masks_and_boxes_of_one_frame_go_together(name: str) -> None:
    """EdgeTAM in transformers gives scores of two shapes, and fails to join them."""
    predictions = run(name, 2, {0: "mask", 1: "box", 2: "mask"}, length=LENGTH)
    for k, kind in ((0, "mask"), (1, "box"), (2, "mask")):
        for together, alone in zip(predictions, run(name, 2, {k: kind}, length=LENGTH), strict=True):
            np.testing.assert_allclose(together.score[k], alone.score[0], atol=1e-4)


def test_large_masks_are_not_kept(name: str) -> None:
    """transformers keeps a mask of the model's full resolution for every object and frame, for good."""
    session = predictor(name).open(video(LENGTH))
    assert isinstance(session, SamSession)
    session.add_mask(2, 1, mask(1))
    list(session.propagate(2))
    ((_, (group,)),) = session._forward_passes.values()
    side = session._model.image_size
    kept = [entry for outcome in group.prompted.values() for entry in [outcome.entry]] + list(
        group.for_backward.values()
    )
    assert all(value.numel() < side * side for entry in kept for value in entry.values() if value.ndim == 4)
    assert all("high" not in key and "pred" not in key for entry in kept for key in entry)


def test_a_walk_backward_from_the_first_frame_shows_that_frame(name: str) -> None:
    """Upstream yields nothing there, so an object of frame 0 that is only moved backward would vanish."""
    for store in (True, False):
        session = predictor(name, feature_store=store).open(video(2))
        session.add_box(LocalIndex(0), 1, box(1))
        (prediction,) = session.propagate(LocalIndex(0), reverse=True)
        assert prediction.frame == 0
        session.close()


def test_ids_are_the_reader_s_to_keep(name: str) -> None:
    """Meta's package hands out its own list of ids, which grows when objects are added."""
    session = predictor(name).open(video(3))
    session.add_mask(LocalIndex(0), 1, mask(1))
    first = next(iter(session.propagate(LocalIndex(0)))).object_ids
    session.add_mask(LocalIndex(1), 2, mask(2))
    list(session.propagate(LocalIndex(1)))
    assert first.tolist() == [1]


def test_dtypes_are_torch_s(name: str) -> None:
    """The default dtype of a session in transformers is a string, on which it fails later."""
    session = predictor(name, feature_store=False).open(video(2))
    session.add_mask(LocalIndex(0), 1, mask(1))
    assert len(list(session.propagate(LocalIndex(0)))) == 2
    session.close()
    assert SamSettings().feature_store
