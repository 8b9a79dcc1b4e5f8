"""What a session computes, keeps and refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.predictors.flow.scenes import HEIGHT, WIDTH, Disc, Scene, draw, line
from trackweave.errors import PredictorError
from trackweave.predictors.base import FramePrediction
from trackweave.predictors.flow.predictor import FlowPredictor, FlowSession
from trackweave.predictors.flow.settings import FlowSettings


@pytest.fixture(scope="module")
def scene() -> Scene:
    return draw(
        [Disc((190, 60, 60), 10, line((25, 20), (1, 4), 9)), Disc((60, 70, 190), 8, line((50, 90), (0, -5), 9))]
    )


def opened(scene: Scene, threads: int = 1, **settings: int) -> FlowSession:
    return FlowPredictor(FlowSettings(**settings), threads).open(scene.frames)


def prompt(session: FlowSession, scene: Scene, frame: int) -> None:
    for k in range(2):
        session.add_mask(frame, 10 * frame + k, scene.truth[k, frame])


def same(one: list[FramePrediction], other: list[FramePrediction]) -> bool:
    return len(one) == len(other) and all(
        a.frame == b.frame and a.masks == b.masks and np.array_equal(a.score, b.score)
        for a, b in zip(one, other, strict=True)
    )


def test_each_pair_is_computed_once_for_all_batches_and_directions(scene: Scene) -> None:
    session = opened(scene)
    for frame in (0, 4, 8):
        prompt(session, scene, frame)
    list(session.propagate(0))
    assert session.pairs_computed == 8
    list(session.propagate(8, reverse=True))
    list(session.propagate(4))
    list(session.propagate(4, reverse=True))
    assert session.pairs_computed == 8
    session.reset()
    prompt(session, scene, 2)
    list(session.propagate(2))
    assert session.pairs_computed == 8


def test_pairs_beyond_memory_come_back_from_disk(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    roomy, tight = opened(scene), opened(scene, memory_bytes=100_000)
    for session in (roomy, tight):
        prompt(session, scene, 0)
        prompt(session, scene, 8)
    assert same(list(roomy.propagate(0)), list(tight.propagate(0)))
    assert same(list(roomy.propagate(8, reverse=True)), list(tight.propagate(8, reverse=True)))
    assert tight.pairs_computed == 8
    assert list(tmp_path.iterdir()) == []  # the file has no name: a killed process leaves nothing
    assert tight.warnings == ()


def test_a_full_temporary_folder_costs_time_only(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    roomy, tight = opened(scene), opened(scene, memory_bytes=100_000)
    for session in (roomy, tight):
        prompt(session, scene, 0)
        prompt(session, scene, 8)
    assert same(list(roomy.propagate(0)), list(tight.propagate(0)))
    assert same(list(roomy.propagate(8, reverse=True)), list(tight.propagate(8, reverse=True)))
    assert tight.pairs_computed > 8
    assert roomy.warnings == ()
    (warning,) = tight.warnings
    assert (warning.code, "No space left on device: what does not fit is computed again" in warning.message) == (
        "features-not-kept",
        True,
    )


def test_without_disk_the_result_is_the_same(scene: Scene) -> None:
    roomy, tight = opened(scene), opened(scene, memory_bytes=0, disk_bytes=0)
    for session in (roomy, tight):
        prompt(session, scene, 0)
    assert same(list(roomy.propagate(0)), list(tight.propagate(0)))


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_do_not_change_the_result(scene: Scene, threads: int) -> None:
    one, many = opened(scene), opened(scene, threads=threads)
    for session in (one, many):
        prompt(session, scene, 0)
    assert same(list(one.propagate(0)), list(many.propagate(0)))


def test_propagating_twice_gives_the_same(scene: Scene) -> None:
    session = opened(scene)
    prompt(session, scene, 0)
    assert same(list(session.propagate(0)), list(session.propagate(0)))


def test_no_more_frames_than_asked_for(scene: Scene) -> None:
    session = opened(scene, threads=2)
    prompt(session, scene, 3)
    assert [p.frame for p in session.propagate(3, max_frames=2)] == [3, 4, 5]
    assert [p.frame for p in session.propagate(3, reverse=True, max_frames=0)] == [3]
    assert session.pairs_computed == 2


def test_a_consumer_may_stop_early(scene: Scene) -> None:
    session = opened(scene, threads=2)
    prompt(session, scene, 0)
    steps = session.propagate(0)
    next(steps), next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert len(list(session.propagate(0))) == 9


def test_predictions_have_the_promised_form(scene: Scene) -> None:
    session = opened(scene)
    prompt(session, scene, 0)
    for p in session.propagate(0):
        assert p.object_ids.dtype == np.int64
        assert p.score.dtype == np.float32
        assert ((p.score >= 0) & (p.score <= 1)).all()
        assert p.masks.size == (HEIGHT, WIDTH)
        assert np.array_equal(p.score > 0, p.masks.areas > 0)


def test_bad_prompts_are_refused(scene: Scene) -> None:
    session = opened(scene)
    mask = scene.truth[0, 0]
    for frame, bad in [(0, mask[:-1]), (0, np.zeros_like(mask)), (9, mask), (-1, mask)]:
        with pytest.raises(PredictorError):
            session.add_mask(frame, 1, bad)
    for box in ([5, 5, 5, 9], [200, 5, 220, 9], [0, 0, np.nan, 4]):
        with pytest.raises(PredictorError):
            session.add_box(0, 1, np.array(box, np.float32))
    session.add_mask(0, 1, mask)
    with pytest.raises(PredictorError):
        session.add_box(0, 1, np.array([3, 3, 9, 9], np.float32))
    with pytest.raises(PredictorError):
        session.propagate(1)


def test_a_closed_session_says_so(scene: Scene) -> None:
    session = opened(scene)
    prompt(session, scene, 0)
    session.close()
    with pytest.raises(PredictorError):
        session.propagate(0)
    session.close()


def test_reset_forgets_objects(scene: Scene) -> None:
    session = opened(scene)
    prompt(session, scene, 0)
    session.reset()
    with pytest.raises(PredictorError):
        session.propagate(0)
    prompt(session, scene, 0)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        FlowSettings(nonsense=1)  # type: ignore[call-arg]
