"""Masks of streams: those of the engine's forward pass, frame by frame, with bounded memory, and one line where not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.bounded_predictor import BoundedPredictor
from tests.toy_scenes import CROSSING, ToyScene, candidates_of, toy_scene
from trackweave import OnlineSettings, Prompt, open_run, track_masks
from trackweave.errors import CandidateError, FrameError, PredictorError, PromptError, RunFolderError, SettingError
from trackweave.frames.arrays import ArrayFrames
from trackweave.frames.source import FrameSource
from trackweave.predictors.base import FramePrediction, PredictorSession, VideoPredictor
from trackweave.predictors.flow.predictor import FlowPredictor
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.replay import ReplayPredictor
from trackweave.predictors.static import StaticPredictor, StaticSession
from trackweave.structures.tracks import Tracks
from trackweave.tracking.settings import TrackingSettings

PLAIN = TrackingSettings(render_viz=False, cuts="ignore")
NEVER = OnlineSettings(max_absent=None)


class ForwardOnly:
    """A predictor that stays where it is when it is asked to go backward."""

    def __init__(self, predictor: VideoPredictor) -> None:
        self._predictor, self.name = predictor, predictor.name

    def open(self, frames: FrameSource) -> PredictorSession:
        session = self._predictor.open(frames)
        forward = session.propagate

        def propagate(start: Any, *, reverse: bool = False, max_frames: int | None = None) -> Iterator[FramePrediction]:
            return forward(start, reverse=reverse, max_frames=0 if reverse else max_frames)

        session.propagate = propagate  # type: ignore[method-assign]
        return session


def ordinary(frames: Any, folder: Path, predictor: VideoPredictor, chosen: TrackingSettings, **given: Any) -> Tracks:
    run = track_masks(
        frames, folder, predictor=ForwardOnly(predictor), settings=chosen, identity=False, overwrite=True, **given
    )
    tracks: Tracks = run.tracks(raw=True)
    return tracks


def streamed(frames: Any, predictor: VideoPredictor | str, chosen: TrackingSettings, **given: Any) -> Tracks:
    given.setdefault("online", NEVER)
    with track_masks(frames, predictor=predictor, settings=chosen, **given) as stream:
        return Tracks.concat(list(stream))


def assert_same(one: Tracks, other: Tracks) -> None:
    for name in ("frame", "track_id", "xyxy", "score", "level"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    if len(one):
        assert one.masks is not None
        assert other.masks is not None
        assert np.array_equal(one.masks.bits, other.masks.bits)


@st.composite
def scenes(draw: st.DrawFn) -> ToyScene:
    """Squares that move on straight ways, appear and go."""
    count, length = draw(st.integers(1, 4)), draw(st.integers(2, 12))
    labels = np.zeros((length, 24, 32), np.int64)
    for k in range(count):
        first, last = sorted((draw(st.integers(0, length - 1)), draw(st.integers(0, length - 1))))
        x, y, dx, dy = (draw(st.integers(*limits)) for limits in ((0, 26), (0, 18), (-3, 3), (-2, 2)))
        for frame in range(first, last + 1):
            top, left = y + dy * (frame - first), x + dx * (frame - first)
            labels[frame, max(top, 0) : max(top + 6, 0), max(left, 0) : max(left + 6, 0)] = k + 1
    return ToyScene(labels, "abcd"[:count])


@given(scenes(), st.data())
@settings(max_examples=25, deadline=None)
def test_a_stream_has_the_masks_of_the_forward_pass(
    tmp_path_factory: pytest.TempPathFactory, scene: ToyScene, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("scene")
    present = [frame for frame in range(len(scene.labels)) if scene.labels[frame].any()]
    due = data.draw(st.lists(st.sampled_from(present), min_size=1, unique=True)) if present else []
    if not due:
        return
    candidates = {frame: scene.labels[frame] for frame in due}
    chosen = PLAIN.model_copy(
        update={
            "max_propagate": data.draw(st.sampled_from([None, 0, 1, 3])),
            "mask_scale_ratio": data.draw(st.sampled_from([1.0, 0.5])),
            "iou_threshold": data.draw(st.sampled_from([0.1, 0.6])),
        }
    )
    predictor: VideoPredictor = StaticPredictor()
    if data.draw(st.booleans()):
        predictor = ReplayPredictor(scene.record(folder / "recording.npz"))
    expected = ordinary(scene.frames, folder / "run", predictor, chosen, candidates=candidates)
    delay = data.draw(st.integers(0, 3))
    pairs = ((frame, candidates.get(k)) for k, frame in enumerate(scene.frames))
    found = streamed(pairs, predictor, chosen, online=OnlineSettings(delay=delay, max_absent=None))
    assert_same(found, expected)
    assert_same(streamed(iter(scene.frames), predictor, chosen, candidates=candidates, online=NEVER), expected)


def moving(length: int = 18, size: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    """Two textured squares that move over a textured background."""
    random = np.random.default_rng(0)
    background = random.integers(0, 120, (*size, 3), np.uint8)
    squares = random.integers(130, 255, (2, 14, 14, 3), np.uint8)
    frames = np.repeat(background[None], length, axis=0)
    for k, frame in enumerate(frames):
        frame[4 + k // 2 :][:14, 4 + k :][:, :14] = squares[0]
        frame[30:44, 44 - k :][:, :14] = squares[1]
    return frames


def boxes_of(frame: int) -> NDArray[np.float64]:
    return np.array([[4 + frame, 4 + frame // 2, 18 + frame, 18 + frame // 2], [44 - frame, 30, 58 - frame, 44]], float)


def masks_of(frame: int) -> NDArray[np.bool_]:
    masks = np.zeros((2, 48, 64), np.bool_)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes_of(frame).astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


@pytest.mark.parametrize("threads", [1, 3])
def test_flow_goes_forward_alone(tmp_path: Path, threads: int) -> None:
    frames, predictor = moving(), FlowPredictor(FlowSettings(), threads=threads)
    candidates = {0: masks_of(0)[:1], 4: masks_of(4)}
    expected = ordinary(frames, tmp_path / "run", predictor, PLAIN, candidates=candidates)
    assert_same(streamed(iter(frames), predictor, PLAIN, candidates=candidates), expected)
    assert expected.track_ids.tolist() == [1, 2]
    prompts = {0: boxes_of(0)}
    expected = ordinary(frames, tmp_path / "run", predictor, PLAIN, prompts=prompts)
    assert_same(streamed(iter(frames), predictor, PLAIN, prompts=prompts), expected)


def test_levels_of_a_generator_have_ids_of_their_own(tmp_path: Path) -> None:
    frames = moving()
    chosen = TrackingSettings(render_viz=False)
    with track_masks(iter(frames), predictor="static", levels=[2, 4], settings=chosen, online=True) as stream:
        tracks = Tracks.concat(list(stream))
    assert tracks.level is not None
    by_level = [set(tracks.track_id[tracks.level == level].tolist()) for level in (2, 4)]
    assert by_level[0]
    assert by_level[1]
    assert by_level[0].isdisjoint(by_level[1])
    run = track_masks(
        frames, tmp_path / "run", predictor=ForwardOnly(StaticPredictor()), levels=[2, 4], settings=chosen
    )
    one, other = tracks, run.tracks(raw=True)
    assert sorted(one.xyxy.tolist()) == sorted(other.xyxy.tolist())


def test_the_run_folder_holds_what_was_streamed(tmp_path: Path) -> None:
    frames, candidates = moving(), {0: masks_of(0)[:1], 4: masks_of(4)}
    with track_masks(iter(frames), tmp_path / "run", predictor="flow", candidates=candidates, online=True) as stream:
        streamed_tracks = Tracks.concat(list(stream))
    run = stream.run
    assert run is not None
    assert_same(run.tracks(raw=True), streamed_tracks)
    assert run.summary.input.frames == len(frames)
    assert run.summary.totals["object_frames"] == len(streamed_tracks)
    assert run.frames.names[-1] == "frame_000017"
    assert run.paths.overlay.stat().st_size > 1000
    assert run.tracks().track_ids.tolist() == [1, 2]
    with pytest.raises(RunFolderError, match="overwrite=True"):
        track_masks(iter(frames), tmp_path / "run", predictor="flow", online=True)
    with track_masks(iter(frames), tmp_path / "run", predictor="static", online=True, overwrite=True) as stream:
        next(stream)
        next(stream)
    assert stream.run is not None  # the end of the block writes what came until then
    assert stream.run.summary.input.frames == 2


def test_what_comes_late_is_used_within_the_delay() -> None:
    frames = moving(8)
    first = Prompt(0, 7, box=boxes_of(0)[0].tolist())
    expected = streamed(iter(frames), "static", PLAIN, prompts=[first])
    late: Any = ((frame, first if k == 2 else None) for k, frame in enumerate(frames))
    assert_same(streamed(late, "static", PLAIN, online=OnlineSettings(delay=2)), expected)
    late = ((frame, first if k == 3 else None) for k, frame in enumerate(frames))
    with pytest.raises(PromptError, match=r"frame 0 has passed: the stream is at frame 3.*OnlineSettings\(delay=3\)"):
        streamed(late, "static", PLAIN, online=OnlineSettings(delay=2))
    masks = {k: masks_of(k) for k in range(8)}
    by_frame: Any = ((frame, {k - 1: masks[k - 1]} if k else None) for k, frame in enumerate(frames))
    expected = streamed(iter(frames[:-1]), "static", PLAIN, candidates={k: masks[k] for k in range(6)})
    assert_same(streamed(by_frame, "static", PLAIN, online=OnlineSettings(delay=1, max_frames=7)), expected)
    late = ((frame, {0: masks_of(0)} if k == 1 else None) for k, frame in enumerate(frames))
    with pytest.raises(CandidateError, match="frame 0 has passed"):
        streamed(late, "static", PLAIN)


def test_an_object_that_is_prompted_again_begins_anew() -> None:
    frames = moving(6)
    prompts = [Prompt(0, 3, box=boxes_of(0)[0].tolist()), Prompt(2, box=boxes_of(2)[1].tolist())]
    pairs = [(frame, None) for frame in frames]
    pairs[0], pairs[2] = (frames[0], prompts[0]), (frames[2], prompts[1])  # type: ignore[assignment]
    pairs[4] = (frames[4], [Prompt(4, 3, box=boxes_of(4)[0].tolist())])  # type: ignore[assignment]
    tracks = streamed(iter(pairs), "static", PLAIN)
    assert tracks.track_ids.tolist() == [3, 4]
    left = [int(tracks.of(3).at(frame).xyxy[0, 0]) for frame in range(6)]
    assert left == [4, 4, 4, 4, 8, 8]
    assert tracks.of(4).frame.tolist() == [2, 3, 4, 5]


def test_objects_end_at_cuts_and_after_a_long_absence() -> None:
    scene = toy_scene(*["aa..bb\n......"] * 3, *["aa....\n......"] * 4, *["aa..bb\n......"] * 3)

    class Sees(StaticPredictor):
        """Says what is in the scene."""

        def open(self, frames: FrameSource) -> StaticSession:
            session = super().open(frames)
            plain = session.propagate

            def propagate(start: Any, **given: Any) -> Iterator[FramePrediction]:
                for prediction in plain(start, **given):
                    if 3 <= prediction.frame < 7:
                        prediction.masks.bits[1] = 0
                    yield prediction

            session.propagate = propagate  # type: ignore[method-assign]
            return session

    for most, last in ((None, 9), (5, 9), (4, 2)):
        online = OnlineSettings(max_absent=most)
        tracks = streamed(iter(scene.frames), Sees(), PLAIN, candidates={0: scene.labels[0]}, online=online)
        assert tracks.of(1).frame[-1] == 9
        assert tracks.of(2).frame[-1] == last
    rows, columns = np.mgrid[:96, :128]
    shots = [(rows // 8 + columns // 8) % 2 * 160 + 40, (rows // 5 % 2) * 90 + (columns // 7 % 2) * 120]
    video = np.stack([np.roll(shots[k >= 6], k % 2, axis=1) for k in range(12)]).astype(np.uint8)
    whole, masks = np.repeat(video[..., None], 3, axis=3), np.ones((1, 96, 128), np.bool_)
    for chosen, last in ((TrackingSettings(render_viz=False), 5), (PLAIN, 11)):
        tracks = streamed(iter(whole), "static", chosen, candidates={0: masks})
        assert tracks.frame[-1] == last


def test_memory_is_bounded() -> None:
    """Frames, batches and what a predictor keeps of frames do not grow."""
    scene, predictor = toy_scene("aa..\n....", "..bb\n....", "....\ncc.."), BoundedPredictor()
    seen: list[int] = []

    def frames() -> Iterator[Any]:
        while True:
            k = len(seen)
            yield scene.frames[k % 3], scene.labels[k % 3]

    online = OnlineSettings(delay=1, max_frames=300)
    chosen = PLAIN.model_copy(update={"max_propagate": 2})
    with track_masks(frames(), predictor=predictor, settings=chosen, online=online) as stream:
        for tracks in stream:
            seen.append(len(tracks))
            assert len(predictor.session._book._start) <= 3
            assert len(predictor.session._kept) <= 2
            assert stream._following is not None
            assert len(stream._following.frames._frames) <= 2
            assert len(stream._waiting) <= 1
    assert len(seen) == 300
    assert predictor.session.calls[0] == ("forward", 0)
    assert "backward" not in {call for call, _ in predictor.session.calls}


class Greedy(StaticPredictor):
    """Reads frames that have not come."""

    name = "greedy"

    def __init__(self, *, by_length: bool) -> None:
        self._by_length = by_length

    def open(self, frames: FrameSource) -> StaticSession:
        if self._by_length:
            _ = [None] * len(frames)
        session = super().open(frames)
        add = session.add_mask

        def add_mask(*given: Any) -> None:
            add(*given)
            _ = [frames[k] for k in range(5)]

        session.add_mask = add_mask  # type: ignore[assignment, method-assign]
        return session


@pytest.mark.parametrize("by_length", [True, False])
def test_a_predictor_that_needs_the_whole_video_is_refused(by_length: bool) -> None:
    frames, candidates = moving(8), {1: masks_of(1)}
    with pytest.raises(PredictorError, match="predictor greedy cannot run online, as it needs more of the video"):
        streamed(iter(frames), Greedy(by_length=by_length), PLAIN, candidates=candidates)


@pytest.mark.parametrize(
    ("frames", "given", "error", "text"),
    [
        ([], {}, FrameError, "no frame came"),
        ([np.zeros((4, 4, 3))], {}, FrameError, "frame 0 of the stream has dtype float64"),
        ([*moving(2), moving(1)[0][:20]], {}, FrameError, r"frame 2 of the stream is 64×20 pixels, but the first is"),
        ([None], {}, FrameError, "frame 0 of the stream has dtype object"),
        (5.5, {}, SettingError, "an iterator of frames, not float"),
        ("missing.mp4", {}, FrameError, "missing.mp4 does not exist"),
        (moving(2), {"resume": True}, SettingError, "resume has no effect online"),
        (moving(2), {"sampling": "::2"}, SettingError, "sampling has no effect online"),
        (moving(2), {"overlay_levels": "all"}, SettingError, "overlay_levels has no effect online"),
        (moving(2), {"candidate_stride": 0}, SettingError, "candidate_stride"),
        (moving(2), {"candidates": {0: masks_of(0)}, "levels": [2, 4]}, SettingError, "one granularity"),
        (moving(2), {"candidates": {}, "prompts": {}}, SettingError, "not both"),
        (moving(2), {"candidates": {}}, CandidateError, "holds no candidates"),
        (moving(2), {"levels": [3]}, SettingError, "level"),
        (moving(2), {"prompts": {0: np.array([[70, 2, 80, 9]])}}, PromptError, "outside the frame"),
        ([(moving(1)[0], "boxes")], {}, CandidateError, "candidates of frame 0"),
        ([(moving(1)[0], masks_of(0)[:, :9])], {}, CandidateError, "candidates: frame 0"),
        ([(moving(1)[0], masks_of(0))], {"levels": [2, 4]}, SettingError, "name one level"),
        ([moving(1)[0], (moving(1)[0], masks_of(0))], {}, SettingError, "pair the first frame with None"),
        ([(moving(1)[0], masks_of(0)), (moving(1)[0], Prompt(1, 1, points=[(3, 3)]))], {}, SettingError, "prompts"),
        ([(moving(1)[0], Prompt("a.png", 1, points=[(3, 3)]))], {}, PromptError, "no names"),
        ([(moving(1)[0], Prompt(0, 1, points=[(3, 300)]))], {}, PromptError, "outside the frame"),
    ],
)
def test_what_cannot_be_is_one_line(frames: Any, given: dict[str, Any], error: type[Exception], text: str) -> None:
    source = iter(frames) if isinstance(frames, list) else frames
    with pytest.raises(error, match=text) as raised:
        streamed(source, "static", PLAIN, **given)
    assert "\n" not in str(raised.value)


def test_what_needs_a_stream_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="online=True yields tracks frame by frame"):
        track_masks(moving(2))  # type: ignore[call-overload]
    with pytest.raises(SettingError, match="online=True takes iterators and webcams"):
        track_masks(iter(moving(2)), tmp_path / "run")  # type: ignore[call-overload]


def test_bad_frames_and_prompts_are_left_out(tmp_path: Path) -> None:
    frames = list(moving(6))
    items: list[Any] = [(frames[0][:9], None), *((frame, None) for frame in frames), (frames[0][:9], None)]
    items[1] = (frames[0], [Prompt(0, 1, box=boxes_of(0)[0].tolist()), Prompt(0, 2, box=[90, 0, 99, 9])])
    items[5] = (frames[4], Prompt(1, 5, box=boxes_of(0)[0].tolist()))
    items[2] = (frames[1], Prompt(40, 6, box=boxes_of(0)[0].tolist()))
    del items[0]
    chosen = PLAIN.model_copy(update={"on_bad_item": "skip"})
    with track_masks(iter(items), tmp_path / "run", predictor="static", settings=chosen, online=True) as stream:
        tracks = Tracks.concat(list(stream))
    assert tracks.track_ids.tolist() == [1]
    assert tracks.frames.tolist() == list(range(6))
    codes = [warning.code for warning in stream.log.warnings]
    assert sorted(codes) == ["frame-skipped", "prompt-skipped", "prompt-skipped", "prompt-unused"]
    assert stream.run is not None
    assert {one.code for one in stream.run.warnings} == set(codes)


def test_an_error_keeps_what_came_before(tmp_path: Path) -> None:
    def breaking() -> Iterator[Any]:
        yield from moving(4)
        raise OSError("the camera is gone")

    stream = track_masks(breaking(), tmp_path / "run", predictor="static", online=True)
    with pytest.raises(OSError, match="the camera is gone"):
        list(stream)
    run = stream.close()
    assert run is not None
    assert run.summary.input.frames == 4
    assert stream.close() is run
    with (
        pytest.raises(OSError, match="the camera is gone"),
        track_masks(breaking(), tmp_path / "other", predictor="static", online=True) as stream,
    ):
        list(stream)
    assert open_run(tmp_path / "other").summary.input.frames == 4
    bare = ((frame, None) for frame in moving(4))
    with (
        pytest.raises(ZeroDivisionError) as caught,
        track_masks(bare, tmp_path / "third", predictor="static", online=True) as stream,
    ):
        print(1 / len(next(stream)))  # nothing is prompted, so there are none
    assert any("not written" in note and "neither candidates nor prompts" in note for note in caught.value.__notes__)


def test_a_video_and_a_source_may_be_streamed(tmp_path: Path) -> None:
    candidates = candidates_of(CROSSING, tmp_path / "candidates", [0, 2])
    candidates_of(CROSSING, candidates, [1], level=4)
    recording = ReplayPredictor(CROSSING.record(tmp_path / "recording.npz"))
    tracks = streamed(CROSSING.frames, recording, PLAIN, candidates=candidates)
    assert tracks.level is not None
    assert set(tracks.level.tolist()) == {2, 4}
    assert tracks.frames.tolist() == list(range(len(CROSSING.frames)))
    array = np.stack(list(CROSSING.frames))
    assert_same(streamed(array, recording, PLAIN, candidates=candidates), tracks)
    assert_same(streamed(ArrayFrames(array), recording, PLAIN, candidates=candidates), tracks)
