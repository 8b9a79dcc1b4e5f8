"""What every predictor must do whatever it computes: one class of tests, to be subclassed per backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.toy_scenes import toy_scene
from trackweave.errors import PredictorError
from trackweave.ids import LocalIndex
from trackweave.masks.ops import mask_iou
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.base import FramePrediction, MaskPrompt, PredictorSession, VideoPredictor

STILL = toy_scene(
    *[
        """
        ................
        .aaaa...........
        .aaaa....bbbbb..
        .aaaa....bbbbb..
        .........bbbbb..
        ................
        """
    ]
    * 5
)
"""Two objects that do not move: whatever a predictor computes, they stay where they are."""

FRAMES = STILL.frames
A, B = STILL.mask(0, "a"), STILL.mask(0, "b")


def box_of(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The object's box and one pixel around it, as people draw boxes."""
    return np.asarray(PackedMasks.from_bool(mask).boxes[0] + np.array([-1, -1, 1, 1]), np.float32)


def alike(found: PackedMasks, expected: NDArray[np.bool_], least: float = 0.8) -> bool:
    return bool(mask_iou(found, PackedMasks.from_bool(expected)).item() > least)


def assert_same(found: list[FramePrediction], expected: list[FramePrediction]) -> None:
    assert [p.frame for p in found] == [p.frame for p in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.object_ids, other.object_ids)
        np.testing.assert_array_equal(one.score, other.score)
        assert one.masks == other.masks


class PredictorConformance:
    """Subclass, and override `predictor`; for one that plays recordings, `STILL.record(path)` makes one."""

    @pytest.fixture
    def predictor(self, tmp_path: Path) -> VideoPredictor:
        raise NotImplementedError

    @pytest.fixture
    def session(self, predictor: VideoPredictor) -> Iterator[PredictorSession]:
        session = predictor.open(FRAMES)
        yield session
        session.close()

    def test_it_is_one(self, predictor: VideoPredictor, session: PredictorSession) -> None:
        assert isinstance(predictor, VideoPredictor)
        assert isinstance(session, PredictorSession)
        assert predictor.name

    @pytest.mark.parametrize(
        ("start", "reverse", "max_frames", "visited"),
        [
            (1, False, None, [1, 2, 3, 4]),
            (1, False, 2, [1, 2, 3]),
            (1, False, 0, [1]),
            (3, False, 9, [3, 4]),
            (4, False, None, [4]),
            (3, True, None, [3, 2, 1, 0]),
            (3, True, 1, [3, 2]),
            (1, True, 9, [1, 0]),
            (0, True, None, [0]),
            (0, True, 3, [0]),
        ],
    )
    def test_the_start_and_up_to_max_frames_more(
        self, session: PredictorSession, start: int, reverse: bool, max_frames: int | None, visited: list[int]
    ) -> None:
        session.add_mask(LocalIndex(start), 1, A)
        found = list(session.propagate(LocalIndex(start), reverse=reverse, max_frames=max_frames))
        assert [prediction.frame for prediction in found] == visited

    @pytest.mark.parametrize("reverse", [False, True])
    def test_a_still_object_stays_and_ids_keep_the_order_of_prompts(
        self, session: PredictorSession, reverse: bool
    ) -> None:
        session.add_mask(LocalIndex(2), 7, B)
        session.add_mask(LocalIndex(2), 3, A)
        for prediction in session.propagate(LocalIndex(2), reverse=reverse):
            assert prediction.object_ids.tolist() == [7, 3]
            assert prediction.object_ids.dtype == np.int64
            assert prediction.masks.size == FRAMES.size
            assert alike(prediction.masks[0], B)
            assert alike(prediction.masks[1], A)
            assert prediction.score.shape == (2,)
            assert prediction.score.dtype == np.float32
            assert np.all((prediction.score >= 0) & (prediction.score <= 1))

    @pytest.mark.parametrize("reverse", [False, True])
    def test_a_packed_prompt_is_the_array_packed(
        self, predictor: VideoPredictor, session: PredictorSession, reverse: bool
    ) -> None:
        session.add_mask(LocalIndex(2), 1, PackedMasks.from_bool(A))
        unpacked = predictor.open(FRAMES)
        unpacked.add_mask(LocalIndex(2), 1, A)
        found, expected = (list(one.propagate(LocalIndex(2), reverse=reverse)) for one in (session, unpacked))
        assert_same(found, expected)
        unpacked.close()

    def test_a_prompt_is_one_packed_mask(self, session: PredictorSession) -> None:
        two = PackedMasks.from_bool(np.stack([A, B]))
        for masks in (two, two[:0]):
            with pytest.raises(PredictorError, match=f"object 1: a prompt is one mask, not {len(masks)}"):
                session.add_mask(LocalIndex(0), 1, masks)

    def test_a_box_finds_the_object_in_it(self, session: PredictorSession) -> None:
        session.add_box(LocalIndex(0), 1, box_of(A))
        session.add_mask(LocalIndex(0), 2, B)
        for prediction in session.propagate(LocalIndex(0)):
            assert alike(prediction.masks[0], A, least=0.7)
            assert alike(prediction.masks[1], B)

    def test_points_find_the_object_that_they_lie_in(self, session: PredictorSession) -> None:
        session.add_points(LocalIndex(0), 1, np.array([[12.5, 8.5], [42.5, 12.5]], np.float32), np.array([1, 0]))
        session.add_points(LocalIndex(0), 2, np.array([[42.5, 12.5]], np.float32), np.array([1]), box_of(B))
        session.add_mask(LocalIndex(0), 3, B)
        for prediction in session.propagate(LocalIndex(0)):
            assert prediction.object_ids.tolist() == [1, 2, 3]
            assert alike(prediction.masks[0], A, least=0.7)
            assert alike(prediction.masks[1], B, least=0.7)

    @pytest.mark.parametrize(
        ("points", "labels", "box", "message"),
        [
            ([[65, 3]], [1], None, r"object 1: point \(65, 3\) is outside the frame of 64×24"),
            ([[np.nan, 3]], [1], None, "is outside the frame"),
            ([[3, 3]], [0], None, "object 1: needs a point inside it on frame 0, or a box"),
            ([], [], None, "needs a point inside it"),
            ([[3, 3]], [2], None, "each point has a label"),
            ([[3, 3]], [1, 1], None, "each point has a label"),
            ([[3, 3]], [1], [5, 5, 5, 9], "is empty or outside the frame"),
        ],
    )
    def test_points_that_are_refused(
        self, session: PredictorSession, points: list[float], labels: list[int], box: list[float] | None, message: str
    ) -> None:
        around = None if box is None else np.array(box, np.float32)
        with pytest.raises(PredictorError, match=message):
            session.add_points(LocalIndex(0), 1, np.array(points, np.float32), np.array(labels), around)
        with pytest.raises(PredictorError, match="no object was first prompted"):
            list(session.propagate(LocalIndex(0)))

    @pytest.mark.parametrize("reverse", [False, True])
    def test_a_second_prompt_anchors_the_object_anew(self, session: PredictorSession, reverse: bool) -> None:
        start, turn = (4, 1) if reverse else (0, 3)
        session.add_mask(LocalIndex(start), 1, A)
        session.add_mask(LocalIndex(turn), 1, B)
        for prediction in session.propagate(LocalIndex(start), reverse=reverse):
            before = prediction.frame > turn if reverse else prediction.frame < turn
            assert alike(prediction.masks[0], A if before else B)

    def test_the_frame_of_a_second_prompt_starts_no_batch(self, session: PredictorSession) -> None:
        session.add_mask(LocalIndex(0), 1, A)
        session.add_mask(LocalIndex(3), 1, B)
        with pytest.raises(PredictorError, match="no object was first prompted on frame 3"):
            list(session.propagate(LocalIndex(3)))

    def test_prompt_batches_do_not_know_each_other(self, predictor: VideoPredictor, session: PredictorSession) -> None:
        alone = predictor.open(FRAMES)
        alone.add_mask(LocalIndex(0), 1, A)
        expected = list(alone.propagate(LocalIndex(0)))
        alone.close()
        session.add_mask(LocalIndex(0), 1, A)
        session.add_mask(LocalIndex(2), 2, B)
        assert_same(list(session.propagate(LocalIndex(0))), expected)
        later = list(session.propagate(LocalIndex(2), reverse=True))
        assert [prediction.object_ids.tolist() for prediction in later] == [[2]] * 3
        interleaved: tuple[list[FramePrediction], list[FramePrediction]] = ([], [])
        for forward, backward in zip(  # noqa: B905
            session.propagate(LocalIndex(0), max_frames=2), session.propagate(LocalIndex(2), reverse=True)
        ):
            interleaved[0].append(forward)
            interleaved[1].append(backward)
        assert_same(interleaved[0], expected[:3])
        assert_same(interleaved[1], later)

    @pytest.mark.parametrize("reverse", [False, True])
    def test_objects_of_a_prompt_batch_do_not_know_each_other(
        self, predictor: VideoPredictor, session: PredictorSession, reverse: bool
    ) -> None:
        """As levels that prompt on one frame share its prompt batch: even the same object twice."""
        alone = []
        for mask in (A, B):
            apart = predictor.open(FRAMES)
            apart.add_mask(LocalIndex(2), 1, mask)
            alone.append(list(apart.propagate(LocalIndex(2), reverse=reverse)))
            apart.close()
        for obj_id, mask in enumerate((A, B, A), start=1):
            session.add_mask(LocalIndex(2), obj_id, mask)
        together = list(session.propagate(LocalIndex(2), reverse=reverse))
        for row, expected in enumerate((alone[0], alone[1], alone[0])):
            for one, other in zip(together, expected, strict=True):
                assert one.object_ids.tolist() == [1, 2, 3]
                assert one.masks[[row]] == other.masks
                np.testing.assert_allclose(one.score[[row]], other.score, atol=1e-6)

    def test_the_same_again(self, session: PredictorSession) -> None:
        session.add_mask(LocalIndex(1), 1, A)
        assert_same(list(session.propagate(LocalIndex(1))), list(session.propagate(LocalIndex(1))))

    def test_reset_keeps_nothing(self, predictor: VideoPredictor, session: PredictorSession) -> None:
        session.add_mask(LocalIndex(0), 1, A)
        session.add_mask(LocalIndex(2), 1, B)
        list(session.propagate(LocalIndex(0)))
        session.reset()
        with pytest.raises(PredictorError, match="no object was first prompted on frame 0"):
            list(session.propagate(LocalIndex(0)))
        session.add_mask(LocalIndex(0), 1, B)
        fresh = predictor.open(FRAMES)
        fresh.add_mask(LocalIndex(0), 1, B)
        assert_same(list(session.propagate(LocalIndex(0))), list(fresh.propagate(LocalIndex(0))))
        fresh.close()

    def test_a_finished_prompt_batch_is_forgotten_and_its_frame_and_ids_are_free(
        self, predictor: VideoPredictor, session: PredictorSession
    ) -> None:
        session.add_mask(LocalIndex(2), 1, A)
        session.add_mask(LocalIndex(2), 2, B)
        session.add_mask(LocalIndex(0), 3, A)
        for reverse in (False, True):
            list(session.propagate(LocalIndex(2), reverse=reverse))
        session.forget_objects(LocalIndex(2))
        with pytest.raises(PredictorError, match="no object was first prompted on frame 2"):
            list(session.propagate(LocalIndex(2)))
        session.add_mask(LocalIndex(2), 1, B)
        fresh = predictor.open(FRAMES)
        fresh.add_mask(LocalIndex(2), 1, B)
        for reverse in (False, True):
            again = list(session.propagate(LocalIndex(2), reverse=reverse))
            assert_same(again, list(fresh.propagate(LocalIndex(2), reverse=reverse)))
            assert [prediction.object_ids.tolist() for prediction in again] == [[1]] * 3
        assert [prediction.object_ids.tolist() for prediction in session.propagate(LocalIndex(0), max_frames=0)] == [
            [3]
        ]
        session.forget_objects(LocalIndex(4))  # nobody was prompted there
        fresh.close()

    def test_released_frames_may_still_be_visited(self, session: PredictorSession) -> None:
        session.add_mask(LocalIndex(4), 1, A)
        before = list(session.propagate(LocalIndex(4), reverse=True))
        session.release_frames_before(LocalIndex(3))
        assert_same(list(session.propagate(LocalIndex(4), reverse=True)), before)

    def test_two_sessions_share_no_object(self, predictor: VideoPredictor, session: PredictorSession) -> None:
        session.add_mask(LocalIndex(0), 1, A)
        other = predictor.open(FRAMES)
        with pytest.raises(PredictorError, match="no object was first prompted on frame 0"):
            list(other.propagate(LocalIndex(0)))
        other.close()

    def test_positions_are_those_of_the_frames_given(self, predictor: VideoPredictor) -> None:
        session = predictor.open(FRAMES.select([1, 4]))
        session.add_mask(LocalIndex(0), 1, A)
        found = list(session.propagate(LocalIndex(0)))
        assert [prediction.frame for prediction in found] == [0, 1]
        assert all(alike(prediction.masks[0], A) for prediction in found)
        with pytest.raises(PredictorError, match=r"frame 2 is not among 0 … 1"):
            session.add_mask(LocalIndex(2), 2, A)
        session.close()

    @pytest.mark.parametrize(
        ("frame", "mask", "message"),
        [
            (0, A[:-1], r"object 1: a mask of \(23, 64\) for frames of \(24, 64\)"),
            (0, A[None], r"object 1: a mask of \(1, 24, 64\)"),
            (0, PackedMasks.from_bool(A[:-1]), r"object 1: a mask of \(23, 64\) for frames of \(24, 64\)"),
            (0, np.zeros_like(A), "object 1: its mask prompt on frame 0 is empty"),
            (5, A, "object 1: frame 5 is not among 0 … 4"),
            (-1, A, "object 1: frame -1 is not among 0 … 4"),
        ],
    )
    def test_masks_that_are_refused(
        self, session: PredictorSession, frame: int, mask: MaskPrompt, message: str
    ) -> None:
        with pytest.raises(PredictorError, match=message):
            session.add_mask(LocalIndex(frame), 1, mask)
        with pytest.raises(PredictorError, match="no object was first prompted"):
            list(session.propagate(LocalIndex(0)))

    @pytest.mark.parametrize(
        ("box", "message"),
        [
            ([5, 5, 5, 9], "is empty or outside the frame of 64×24"),
            ([9, 9, 5, 12], "is empty or outside"),
            ([64, 2, 70, 9], "is empty or outside"),
            ([-9, -9, 0, 0], "is empty or outside"),
            ([0, 0, np.nan, 9], "a box is four finite numbers"),
            ([0, 0, 9], "a box is four finite numbers"),
        ],
    )
    def test_boxes_that_are_refused(self, session: PredictorSession, box: list[float], message: str) -> None:
        with pytest.raises(PredictorError, match=message):
            session.add_box(LocalIndex(0), 1, np.array(box, np.float32))
        with pytest.raises(PredictorError, match="no object was first prompted"):
            list(session.propagate(LocalIndex(0)))

    def test_one_prompt_per_object_and_frame(self, session: PredictorSession) -> None:
        session.add_mask(LocalIndex(0), 1, A)
        with pytest.raises(PredictorError, match="object 1 already has a prompt on frame 0"):
            session.add_box(LocalIndex(0), 1, box_of(B))
        assert alike(next(iter(session.propagate(LocalIndex(0)))).masks[0], A)
