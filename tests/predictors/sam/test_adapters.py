"""The four backends against the upstream predictors that they stand for, on tiny random models in full precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.predictors.conformance import assert_same
from tests.predictors.sam.adapters import LENGTH, Logits, both_ways, box, mask, predictor, run, video
from trackweave.ids import LocalIndex
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.predictors.sam.session import SamSession


@pytest.mark.parametrize(
    ("start", "kind", "reach"),
    [
        (3, "mask", None),
        (3, "box", 4),
        (0, "mask", 3),
        (8, "box", None),
        (3, "point", 4),
        (3, "points", 4),
        (3, "points in a box", 4),
    ],
)
def test_one_object_equals_the_upstream_predictor_s_to_the_last_bit(
    name: str, start: int, kind: str, reach: int | None, logits: Logits
) -> None:
    expected = run(name, start, {1: kind}, reach=reach, feature_store=False)
    its = logits.take()
    predictions = run(name, start, {1: kind}, reach=reach)
    assert_same(predictions, expected)
    mine = logits.take()
    assert all(torch.equal(one, other) for one, other in zip(mine, its, strict=True))
    assert len({float(one.sum()) for one in mine}) > 2, "the model says the same on every frame: nothing is compared"


def test_objects_in_a_batch_equal_objects_alone(name: str, monkeypatch: pytest.MonkeyPatch, logits: Logits) -> None:
    """Memories are kept in bfloat16, whose rounding makes a last bit a large one: kept in full here, the last bits that
    batching changes stay last bits."""
    monkeypatch.setattr(torch, "bfloat16", torch.float32)
    objects = {0: "mask", 1: "box", 2: "points", 3: "point", 4: "points in a box"}
    run(name, 3, objects)
    together = logits.take()
    for k, kind in objects.items():
        run(name, 3, {k: kind})
        for one, other in zip(together, logits.take(), strict=True):
            torch.testing.assert_close(one[[k]], other, rtol=0, atol=1e-5)


def test_several_objects_equal_the_upstream_predictor_s(
    name: str, monkeypatch: pytest.MonkeyPatch, logits: Logits
) -> None:
    monkeypatch.setattr(torch, "bfloat16", torch.float32)
    objects = {0: "mask", 1: "mask", 2: "mask"}
    expected = run(name, 3, objects, feature_store=False)
    its = logits.take()
    for batch in (1, 8):
        predictions = run(name, 3, objects, batch=batch)
        assert [p.frame for p in predictions] == [p.frame for p in expected]
        mine = logits.take()
        per_frame = [torch.cat(mine[k : k + len(mine) // len(its)]) for k in range(0, len(mine), len(mine) // len(its))]
        for one, other in zip(per_frame, its, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("start", "objects"), [(1, {1: "mask"}), (18, {0: "mask", 2: "box"})])
def test_pruning_changes_no_bit(name: str, start: int, objects: dict[int, str], logits: Logits) -> None:
    """Passes are longer than a model looks back."""
    length = 20
    pruned = run(name, start, objects, length=length)
    mine = logits.take()
    whole = run(name, start, objects, length=length, prune=False)
    assert_same(pruned, whole)
    assert all(torch.equal(one, other) for one, other in zip(mine, logits.take(), strict=True))


def test_a_second_prompt_re_anchors_as_upstream_does(name: str, logits: Logits) -> None:
    passes = []
    for store in (False, True):
        session = predictor(name, feature_store=store).open(video(LENGTH))
        session.add_mask(LocalIndex(2), 1, mask(1))
        session.add_mask(LocalIndex(6), 1, mask(3))
        passes.append(both_ways(session, 2))
        session.close()
    assert_same(passes[1], passes[0])
    recorded = logits.take()
    assert all(
        torch.equal(a, b) for a, b in zip(recorded[: len(recorded) // 2], recorded[len(recorded) // 2 :], strict=True)
    )


def test_an_object_added_in_the_middle_changes_nothing_for_the_others(name: str) -> None:
    one = predictor(name)
    session = one.open(video(LENGTH))
    session.add_mask(LocalIndex(2), 1, mask(1))
    steps = session.propagate(LocalIndex(2))
    predictions = [next(steps), next(steps)]
    session.add_box(LocalIndex(5), 2, box(2))
    later = both_ways(session, 5)
    predictions += [*steps, *session.propagate(LocalIndex(2), reverse=True)]
    assert_same(predictions, run(name, 2, {1: "mask"}))
    assert_same(later, run(name, 5, {2: "box"}))
    assert session.counters["encoder_passes"] == LENGTH
    assert session.counters["object_frames"] == 2 * (LENGTH - 1)


def test_prompt_batches_share_features_and_the_upstream_predictor_does_not(name: str) -> None:
    reach, starts = 3, (1, 3, 5, 7)
    passes = {}
    for store in (True, False):
        session = predictor(name, feature_store=store).open(video(LENGTH))
        for start in starts:
            session.add_mask(LocalIndex(start), start, mask(start % 5))
            both_ways(session, start, reach)
        passes[store] = session.counters["encoder_passes"]
        session.close()
    assert passes[True] == LENGTH
    # Forward and backward from every prompt; the prompt's frame again when the pass turns, with a cache of one frame.
    spans = [min(reach, LENGTH - 1 - start) + min(reach, start) for start in starts]
    assert passes[False] >= sum(spans) + len(starts)


def test_state_per_object_is_the_same_for_any_length(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {}
    for frames in (16, 64):
        session = predictor(name).open(video(frames))
        assert isinstance(session, SamSession)
        session.add_mask(0, 1, mask(1))
        held: list[int] = []
        step = session._step

        def watched(batch, frame, reverse, step=step, held=held):  # type: ignore[no-untyped-def]
            outputs = step(batch, frame, reverse)
            held.append(outputs[0][0].memory.nbytes)
            return outputs

        monkeypatch.setattr(session, "_step", watched)
        list(session.propagate(0))
        sizes[frames] = held[-1]
        session.close()
    assert sizes[16] == sizes[64]


def test_it_is_a_predictor(name: str) -> None:
    one = predictor(name)
    assert isinstance(one, VideoPredictor)
    assert one.name == name
    session = one.open(video(3))
    assert isinstance(session, PredictorSession)
    session.close()


def test_the_state_of_torch_s_generator_does_not_matter(name: str) -> None:
    torch.manual_seed(1)
    before = run(name, 1, {1: "mask"}, length=4)
    torch.manual_seed(2)
    assert_same(run(name, 1, {1: "mask"}, length=4), before)


def test_padding_changes_no_mask(name: str) -> None:
    objects = {0: "mask", 1: "box", 2: "mask"}
    plain, padded = run(name, 1, objects, length=5), run(name, 1, objects, length=5, pad_batches="on")
    for one, other in zip(plain, padded, strict=True):
        np.testing.assert_allclose(one.score, other.score, atol=1e-4)
        assert np.abs(one.masks.areas - other.masks.areas).max() <= 4  # bfloat16 memories, see above
