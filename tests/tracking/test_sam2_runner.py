"""Behaviour in toy scenes. `replay` plays the truth, so what is tested is the pipeline, not a predictor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.toy_scenes import CROSSING, ToyScene, candidates_of, item, toy_scene, write_candidates
from trackweave.errors import PredictorError
from trackweave.frames.source import FrameSource
from trackweave.ids import FrameIndex, IdAllocator, Level, LocalIndex
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.base import FramePrediction, PredictorSession
from trackweave.predictors.replay import ReplayPredictor
from trackweave.predictors.static import StaticPredictor, StaticSession
from trackweave.storage.run import RunPaths
from trackweave.structures.candidates import Candidates
from trackweave.structures.tracks import Tracks
from trackweave.tracking.candidate_loader import iter_candidate_batches
from trackweave.tracking.pipeline_context import UnsampledVideo, build_pipeline_context
from trackweave.tracking.sam2_runner import (
    _add_prompts_to_predictor,
    _filter_new_candidates,
    _prepare_prompt_candidates,
    _propagate_frame_predictions,
    sam2_tracking,
)
from trackweave.tracking.settings import TrackingSettings
from trackweave.tracking.stores import DedupStats, DedupStore, FrameResultStore, TrackingArtifacts


def track(
    scene: ToyScene, candidates: Path, tmp_path: Path, frames: FrameSource | None = None, **settings: object
) -> tuple[Tracks, TrackingArtifacts]:
    """Tracks a toy scene with the truth as predictor; returns tracks and artifacts."""
    chosen = TrackingSettings.model_validate(settings)
    source = frames or scene.frames
    ready = build_pipeline_context(
        candidates, Level(2), source, RunPaths(tmp_path / "run"), chosen, video=UnsampledVideo(len(scene.labels), {})
    )
    predictor = ReplayPredictor(scene.record(tmp_path / "truth.npz"))
    with FrameResultStore() as store:
        artifacts = sam2_tracking(
            source,
            predictor,
            iter_candidate_batches(ready.manifest, ready.schedule, source),
            settings=chosen,
            frame_store=store,
        )
        return Tracks.from_frames(store.iter_frames()), artifacts


def follows(tracks: Tracks, scene: ToyScene, letter: str, frame: int) -> int:
    """The id whose mask is exactly this object on this frame; 0 when there is none."""
    there = tracks.at(frame)
    if there.masks is None:
        return 0
    same = [np.array_equal(mask.to_bool()[0], scene.mask(frame, letter)) for mask in there.masks]
    return int(there.track_id[same.index(True)]) if True in same else 0


def test_crossing_objects_keep_their_identities(tmp_path: Path) -> None:
    tracks, artifacts = track(CROSSING, candidates_of(CROSSING, tmp_path, range(4)), tmp_path)
    for letter in "ab":
        assert len({follows(tracks, CROSSING, letter, frame) for frame in range(4)}) == 1
    assert len(tracks.track_ids) == 2
    assert artifacts.dedup.to_json() == {
        "candidates": 8, "prompts": 2, "duplicates": 6, "covered_by_tracks": 6, "duplicates_in_frame": 0, "parts": 0,
    }  # fmt: skip


OCCLUSION = toy_scene(
    """
    .aa.
    bbbb
    """,
    """
    ....
    bbbb
    """,
    """
    aa..
    bbbb
    """,
)


def test_an_occluded_object_is_stored_on_no_frame_where_it_is_hidden_and_returns_as_itself(tmp_path: Path) -> None:
    tracks, artifacts = track(OCCLUSION, candidates_of(OCCLUSION, tmp_path, range(3)), tmp_path)
    hidden = follows(tracks, OCCLUSION, "a", 0)
    assert tracks.of(hidden).frame.tolist() == [0, 2]
    assert follows(tracks, OCCLUSION, "a", 2) == hidden
    assert len(artifacts.objects) == 2


SPLIT = toy_scene(
    """
    aabb
    aabb
    """,
    """
    aabb
    aabb
    """,
)


def test_parts_of_a_tracked_whole_are_new_objects(tmp_path: Path) -> None:
    """A part lies wholly inside its whole, yet its IoU is below the threshold: it is tracked, and counted as part."""
    whole = SPLIT.mask(0, "a") | SPLIT.mask(0, "b")
    parts = [whole, SPLIT.mask(0, "a"), SPLIT.mask(0, "b")]
    rows = {f: [item(n, mask, frame=f, score=0.99 - n / 10) for n, mask in enumerate(parts)] for f in (0, 1)}
    root = write_candidates(tmp_path, {0: rows[0][:1], 1: rows[1]})
    chosen = TrackingSettings()
    ready = build_pipeline_context(root, Level(2), SPLIT.frames, RunPaths(tmp_path / "run"), chosen)
    with FrameResultStore() as store:
        artifacts = sam2_tracking(
            SPLIT.frames,
            StaticPredictor(),
            iter_candidate_batches(ready.manifest, ready.schedule, SPLIT.frames),
            frame_store=store,
        )
        assert (artifacts.dedup.prompts, artifacts.dedup.parts) == (3, 2)
        assert [len(f) for f in store.iter_frames()] == [3, 3]


RETURN = toy_scene(
    """
    ..a
    b..
    """,
    """
    ...
    .b.
    """,
    """
    a..
    ..b
    """,
    """
    a..
    ..b
    """,
)


def test_exit_and_return(tmp_path: Path) -> None:
    tracks, _ = track(RETURN, candidates_of(RETURN, tmp_path, [0, 3]), tmp_path)
    assert tracks.of(follows(tracks, RETURN, "a", 0)).frame.tolist() == [0, 2, 3]
    assert len(tracks.track_ids) == 2


@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("zoom", [1, 2])
def test_candidates_of_another_size_and_stored_masks_of_another_size(tmp_path: Path, zoom: int, ratio: float) -> None:
    root = candidates_of(CROSSING, tmp_path, range(4), zoom=zoom)
    tracks, artifacts = track(CROSSING, root, tmp_path, mask_scale_ratio=ratio)
    assert len(artifacts.objects) == 2
    assert len(tracks) == 8
    height, width = CROSSING.frames.size
    assert tracks.masks is not None
    assert tracks.masks.size == (round(height * ratio), round(width * ratio))
    a = tracks.of(1)
    assert a.xyxy[0].tolist() == [0, 0, 8, 8]  # in frame pixels, whatever the stored scale


def test_fewer_candidate_frames_than_frames_prompt_backward_too(tmp_path: Path) -> None:
    tracks, artifacts = track(CROSSING, candidates_of(CROSSING, tmp_path, [2]), tmp_path)
    assert tracks.frames.tolist() == [0, 1, 2, 3]
    assert set(artifacts.prompt_frames.values()) == {2}
    assert follows(tracks, CROSSING, "a", 0) == follows(tracks, CROSSING, "a", 3) > 0


def test_sampled_frames_keep_absolute_indices(tmp_path: Path) -> None:
    frames = CROSSING.frames.select([1, 3])
    tracks, _ = track(CROSSING, candidates_of(CROSSING, tmp_path, range(4)), tmp_path, frames=frames)
    assert tracks.frames.tolist() == [1, 3]
    assert follows(tracks, CROSSING, "b", 1) == follows(tracks, CROSSING, "b", 3) > 0


@pytest.mark.parametrize(("reach", "expected"), [(0, [2]), (1, [1, 2, 3]), (None, [0, 1, 2, 3])])
def test_max_propagate_counts_frames_each_way(tmp_path: Path, reach: int | None, expected: list[int]) -> None:
    tracks, _ = track(CROSSING, candidates_of(CROSSING, tmp_path, [2]), tmp_path, max_propagate=reach)
    assert tracks.frames.tolist() == expected


def test_a_track_that_ended_does_not_hide_a_new_object(tmp_path: Path) -> None:
    """With one frame of reach, frame 3 is not covered by what was prompted on frame 0."""
    _, artifacts = track(CROSSING, candidates_of(CROSSING, tmp_path, [0, 3]), tmp_path, max_propagate=1)
    assert len(artifacts.objects) == 4


class Spy(StaticPredictor):
    """Remembers what it was prompted with."""

    def __init__(self) -> None:
        self.prompts: list[tuple[str, int]] = []

    def open(self, frames: FrameSource) -> StaticSession:
        session = super().open(frames)
        add_mask, add_box = session.add_mask, session.add_box

        def mask(frame: int, obj_id: int, packed: PackedMasks) -> None:
            self.prompts.append(("mask", int(packed.areas[0])))
            add_mask(frame, obj_id, packed)

        def box(frame: int, obj_id: int, xyxy: np.ndarray) -> None:
            self.prompts.append(("box", int((xyxy[2] - xyxy[0]) * (xyxy[3] - xyxy[1]))))
            add_box(frame, obj_id, xyxy)

        session.add_mask, session.add_box = mask, box  # type: ignore[method-assign,assignment]
        return session


MIXED = toy_scene(
    """
    abbbb
    .bbbb
    ccc..
    ccc..
    """
)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("mask", {("mask", 16), ("mask", 128), ("box", 96)}),
        ("box", {("box", 16), ("box", 128), ("box", 96)}),
        ("auto", {("box", 16), ("mask", 128), ("box", 96)}),
    ],
)
def test_prompt_modes(tmp_path: Path, mode: str, expected: set[tuple[str, int]]) -> None:
    """`c` has only a box; `a` is small; `auto` prompts small ones by box."""
    rows = [item(k, MIXED.mask(0, letter), frame=0, with_mask=letter != "c") for k, letter in enumerate("abc")]
    root = write_candidates(tmp_path, {0: rows})
    chosen = TrackingSettings.model_validate({"prompt_mode": mode, "long_tail_area": 20})
    ready = build_pipeline_context(root, Level(2), MIXED.frames, RunPaths(tmp_path / "run"), chosen)
    spy = Spy()
    with FrameResultStore() as store:
        artifacts = sam2_tracking(
            MIXED.frames,
            spy,
            iter_candidate_batches(ready.manifest, ready.schedule, MIXED.frames),
            frame_store=store,
            settings=chosen,
        )
    assert set(spy.prompts) == expected
    kinds = [artifacts.prompt_types[track_id] for track_id in artifacts.objects]
    assert sorted(kinds) == sorted(kind for kind, _ in expected)


def candidates(*masks: np.ndarray, scores: list[float] | None = None) -> Candidates:
    packed = PackedMasks.from_bool(np.stack(masks))
    n = len(masks)
    return Candidates(
        np.arange(n),
        packed.boxes.astype(np.float32),
        np.array(scores or [0.9] * n, np.float32),
        packed.areas,
        packed,
    )


def bar(width: int) -> np.ndarray:
    mask = np.zeros((10, 20), bool)
    mask[:, :width] = True
    return mask


def test_candidates_of_one_frame_compete_best_first() -> None:
    """10/12 and 12/14 overlap above 0.6; the best score wins, and of equal scores the larger."""
    prepared = _prepare_prompt_candidates(candidates(bar(10), bar(12), bar(14), scores=[0.8, 0.9, 0.8]), (10, 20))
    stats = DedupStats()
    kept = _filter_new_candidates(prepared, DedupStore(), FrameIndex(0), 0.6, stats)
    assert kept.id.tolist() == [1]
    assert stats.duplicates_in_frame == 2
    equal = _prepare_prompt_candidates(candidates(bar(10), bar(12)), (10, 20))
    assert _filter_new_candidates(equal, DedupStore(), FrameIndex(0), 0.6).id.tolist() == [1]


def test_the_threshold_itself_is_new() -> None:
    store = DedupStore()
    store.add_packed(0, 1, bar(10))
    prepared = _prepare_prompt_candidates(candidates(bar(6)), (10, 20))  # IoU exactly 0.6
    assert len(_filter_new_candidates(prepared, store, FrameIndex(0), 0.6)) == 1
    assert len(_filter_new_candidates(prepared, store, FrameIndex(0), 0.59)) == 0


def test_a_box_only_candidate_is_covered_by_a_mask_with_that_box() -> None:
    boxed = Candidates(
        np.array([0]),
        np.array([[0, 0, 10, 10]], np.float32),
        np.ones(1, np.float32),
        np.array([100]),
        PackedMasks.empty(10, 20, 1),
    )
    store = DedupStore()
    store.add_packed(0, 1, bar(10))
    prepared = _prepare_prompt_candidates(boxed, (10, 20))
    assert prepared.by_box.tolist() == [True]
    assert len(_filter_new_candidates(prepared, store, FrameIndex(0), 0.6)) == 0
    assert len(_filter_new_candidates(prepared, store, FrameIndex(1), 0.6)) == 1


def test_ids_are_given_in_order_of_acceptance_and_shared_by_levels() -> None:
    prepared = _prepare_prompt_candidates(candidates(bar(4), bar(16), scores=[0.5, 0.9]), (10, 20))
    kept = _filter_new_candidates(prepared, DedupStore(), FrameIndex(0), 0.6)
    ids = IdAllocator(7)
    state = StaticSession(3, (10, 20))
    kinds = _add_prompts_to_predictor(StaticPredictor(), state, kept, "mask", frame=LocalIndex(1), ids=ids.take(2))
    assert kinds == {7: "mask", 8: "mask"}
    first = next(state.propagate(1))
    assert first.masks.areas.tolist() == [160, 40]
    assert ids.next_id == 9


def test_the_prompt_frame_is_yielded_once() -> None:
    state = StaticSession(5, (10, 20))
    state.add_mask(2, 1, bar(4))
    frames = [record.frame for record in _propagate_frame_predictions(state, LocalIndex(2), CROSSING_5)]
    assert frames == [2, 3, 4, 1, 0]


class _Five:
    indices = tuple(range(5))
    names = tuple("abcde")
    size = (10, 20)


CROSSING_5: FrameSource = _Five()  # type: ignore[assignment]


class Breaking(StaticPredictor):
    """Fails on the third frame of the second prompt batch."""

    def open(self, frames: FrameSource) -> StaticSession:
        session = super().open(frames)
        propagate = session.propagate

        def failing(start: int, *, reverse: bool = False, max_frames: int | None = None) -> Iterator[FramePrediction]:
            for prediction in propagate(start, reverse=reverse, max_frames=max_frames):
                if start == 3 and prediction.frame == 1:
                    raise PredictorError("out of luck")
                yield prediction

        session.propagate = failing  # type: ignore[method-assign]
        return session


def test_what_was_stored_before_a_failure_stays(tmp_path: Path) -> None:
    root = candidates_of(CROSSING, tmp_path, [0, 3])
    ready = build_pipeline_context(root, Level(2), CROSSING.frames, RunPaths(tmp_path / "run"), TrackingSettings())
    with FrameResultStore() as store:
        with pytest.raises(PredictorError, match="out of luck"):
            sam2_tracking(
                CROSSING.frames,
                Breaking(),
                iter_candidate_batches(ready.manifest, ready.schedule, CROSSING.frames),
                settings=TrackingSettings(iou_threshold=1.0),
                frame_store=store,
            )
        assert [f.frame for f in store.iter_frames()] == [0, 1, 2, 3]


def test_a_session_that_was_given_stays_open(tmp_path: Path) -> None:
    closed: list[bool] = []

    class Closing(StaticSession):
        def close(self) -> None:
            closed.append(True)

    root = candidates_of(CROSSING, tmp_path, [0])
    ready = build_pipeline_context(root, Level(2), CROSSING.frames, RunPaths(tmp_path / "run"), TrackingSettings())
    session: PredictorSession = Closing(4, CROSSING.frames.size)
    batches = list(iter_candidate_batches(ready.manifest, ready.schedule, CROSSING.frames))
    with FrameResultStore() as store:
        sam2_tracking(CROSSING.frames, StaticPredictor(), batches, frame_store=store, session=session)
    assert not closed
