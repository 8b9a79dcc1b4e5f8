"""The engine in the whole pipeline: `track_masks` from candidates of three levels to archives."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.predictors.sam.adapters import predictor as tiny
from tests.predictors.sam.fake import FakeModel
from tests.run_folders import assert_same_run, committed
from tests.toy_scenes import ToyScene, item, write_candidates
from trackweave.errors import PredictorOutOfMemory
from trackweave.frames.arrays import ArrayFrames
from trackweave.frames.source import FrameSource
from trackweave.ids import Level
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.run import Run
from trackweave.predictors.base import VideoPredictor, frame_range
from trackweave.predictors.sam.feature_store import size_of
from trackweave.predictors.sam.predictor import SamPredictor
from trackweave.predictors.sam.session import SamSession
from trackweave.predictors.sam.settings import SamSettings
from trackweave.storage.result_log import ResultJournal
from trackweave.structures.run_summary import MaskSummary
from trackweave.tracking.settings import TrackingSettings
from trackweave.tracking.stores import FrameResultStore

LEVELS = (2, 4, 6)
WAYS = (False, True)


def three_squares(length: int) -> ToyScene:
    """Three squares that drift, one for each level."""
    labels = np.zeros((length, 48, 80), np.int64)
    for frame in range(length):
        for k in range(3):
            left = 4 + 26 * k + frame * 18 // length
            labels[frame, 6 + 8 * k : 20 + 8 * k, left : left + 14] = k + 1
    return ToyScene(labels, "abc")


def candidates_at(toy: ToyScene, root: Path, starts: Mapping[int, Sequence[int]]) -> Path:
    """Each level has its own object as a candidate on its frames."""
    for letter, (level, frames) in zip("abc", starts.items(), strict=True):
        items = {frame: [item(0, toy.mask(frame, letter), frame=frame, level=level)] for frame in frames}
        write_candidates(root, items, level)
    return root


def settings(reach: int | None) -> TrackingSettings:
    """Every candidate is new: what random weights make of masks is no matter of taste."""
    return TrackingSettings(iou_threshold=1.0, max_propagate=reach, render_viz=False)


def upstream_passes(length: int, starts: Mapping[int, Sequence[int]], reach: int) -> int:
    """What a predictor that is reset for every level and candidate frame needs: every frame that it comes to."""
    ways = [len(frame_range(start, length, way, reach)) - 1 for own in starts.values() for start in own for way in WAYS]
    return sum(ways) + sum(map(len, starts.values()))


# --- figures, on a model that only counts ----------------------------------------------------------------


class FakePredictor:
    """Sessions of the engine around a `FakeModel`, with memory for the features of so many frames."""

    name = "fake"

    def __init__(self, frames_kept: int, **model: Any) -> None:
        self.model = FakeModel(**model)
        feature = size_of(self.model.encode(torch.zeros(1, 3)))
        self.model.encoded.clear()
        self._settings = SamSettings(device="cpu", device_bytes=0, host_bytes=frames_kept * feature)

    def open(self, frames: FrameSource) -> SamSession:
        return SamSession(self.model, frames, self._settings)


def numbered(toy: ToyScene) -> FrameSource:
    """Frames whose first channel is their number, as `FakeModel` wants them."""
    frames = np.array(list(toy.frames))
    frames[..., 0] = np.arange(len(frames))[:, None, None]
    return ArrayFrames(frames)


def test_passes_are_as_many_as_frames_whatever_the_levels_and_spans(tmp_path: Path) -> None:
    """N=40, K=20, P=8, L=3, memory for 2P+1 frames."""
    length, reach = 40, 8
    toy = three_squares(length)
    starts = {2: range(0, length, 2), 4: range(1, length, 2), 6: range(0, length, 2)}
    root = candidates_at(toy, tmp_path / "candidates", starts)
    predictor = FakePredictor(frames_kept=2 * reach + 1)
    result = track_masks(
        numbered(toy), tmp_path / "run", candidates=root, predictor=predictor, settings=settings(reach)
    )
    counters = result.summary.counters
    assert counters["encoder_passes"] == length
    assert set(predictor.model.encoded.values()) == {1}
    assert result.summary.totals["prompts"] == 3 * 20
    assert counters["model_calls"] == upstream_passes(length, {0: range(length)}, reach) - length  # levels together
    assert (
        upstream_passes(length, starts, reach) == 912
    )  # that they are so many is shown below, on the models themselves


def test_a_store_that_is_too_small_shows_in_the_counters(tmp_path: Path) -> None:
    """The measure can fail, and the run says what to do."""
    toy = three_squares(20)
    root = candidates_at(toy, tmp_path / "candidates", dict.fromkeys(LEVELS, range(0, 20, 2)))
    predictor = FakePredictor(frames_kept=5)
    result = track_masks(numbered(toy), tmp_path / "run", candidates=root, predictor=predictor, settings=settings(4))
    assert result.summary.counters["encoder_passes"] > 20
    assert "raise host_bytes" in " ".join(warning.message for warning in result.warnings)


def test_a_batch_that_is_too_large_is_halved_with_a_warning(tmp_path: Path) -> None:
    """Three levels on one frame are three objects at once, until memory holds no more than two."""
    toy = three_squares(8)
    root = candidates_at(toy, tmp_path / "candidates", dict.fromkeys(LEVELS, (1, 5)))
    run = partial(track_masks, numbered(toy), candidates=root, settings=settings(3))
    plain = FakePredictor(frames_kept=8)
    run(tmp_path / "plain", predictor=plain)
    assert set(plain.model.batches) == {3}
    small = FakePredictor(frames_kept=8, largest=2)
    result = run(tmp_path / "small", predictor=small)
    assert max(small.model.batches) == 2
    assert [warning.code for warning in result.warnings] == ["batch-halved"]
    for level in LEVELS:
        assert_same_masks(tmp_path / "small", tmp_path / "plain", level)


# --- tiny models -----------------------------------------------------------------------------------------------------

LENGTH, REACH = 10, 2
STARTS = {2: (1, 4, 7), 4: (1, 7), 6: (4, 8)}
SCENE = three_squares(LENGTH)


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return candidates_at(SCENE, tmp_path_factory.mktemp("inputs") / "candidates", STARTS)


@pytest.fixture
def run(candidates: Path) -> Callable[..., Run[MaskSummary]]:
    return partial(track_masks, SCENE.frames, candidates=candidates, settings=settings(REACH))


def archive(folder: Path, level: int) -> dict[str, np.ndarray[Any, Any]]:
    """A level's archive by frame, without the manifest inside."""
    with np.load(folder / f"level_{level}" / "tracking" / "video_segments.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files if name.startswith("frame_")}


def assert_same_masks(folder: Path, other: Path, level: int) -> None:
    """Masks, boxes, areas and scores to the last bit; ids counted from the level's first."""
    produced, expected = archive(folder, level), archive(other, level)
    assert list(produced) == list(expected) != []
    first, its_first = (
        min(part[name]["id"].min() for name in part if "/objects" in name) for part in (produced, expected)
    )
    for name, values in produced.items():
        if values.dtype.names:
            values["id"] -= first - its_first
        assert np.array_equal(values, expected[name]), name


def bounded(name: str, **settings: Any) -> SamPredictor:
    """A tiny model with memory for the features of 2P+1 frames."""
    probe = tiny(name)
    features = probe.model.encode(probe.model.pixels(SCENE.frames[0]))
    return tiny(name, device="cpu", device_bytes=0, host_bytes=(2 * REACH + 1) * size_of(features), **settings)


def test_every_frame_once_and_the_masks_of_the_upstream_predictor(
    name: str, run: Callable[..., Run[MaskSummary]], tmp_path: Path
) -> None:
    """One object at a time is upstream's to the last bit, though all levels share the frames; upstream gets each level
    for itself and is reset for every candidate frame."""
    result = run(tmp_path / "engine", predictor=bounded(name, batch=1))
    assert result.summary.counters["encoder_passes"] == LENGTH
    assert result.warnings == []
    passes = 0.0
    for level in LEVELS:
        upstream = run(tmp_path / f"upstream{level}", levels=[level], predictor=tiny(name, feature_store=False))
        passes += upstream.summary.counters["encoder_passes"]
        assert upstream.summary.levels[Level(level)].counts["prompts"] == len(STARTS[level])
        assert_same_masks(tmp_path / "engine", tmp_path / f"upstream{level}", level)
    assert passes == upstream_passes(LENGTH, STARTS, REACH)
    assert passes == 32


def test_levels_in_one_batch(
    run: Callable[..., Run[MaskSummary]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memories in full precision, as in `test_adapters`: bfloat16 makes last bits large."""
    monkeypatch.setattr(torch, "bfloat16", torch.float32)
    both = {}
    for batch in (1, 32):
        result = run(tmp_path / f"{batch}", predictor=tiny("sam2-hf", batch=batch))
        both[batch] = result.summary.counters
    assert both[1]["object_frames"] == both[32]["object_frames"]
    assert both[1]["model_calls"] == both[1]["object_frames"] > both[32]["model_calls"]
    for level in LEVELS:
        one, other = archive(tmp_path / "1", level), archive(tmp_path / "32", level)
        assert list(one) == list(other)
        for key in (key for key in one if key.endswith("/masks")):
            assert np.unpackbits(one[key] ^ other[key]).sum() <= 4, key


# --- cut off ---------------------------------------------------------------------------------------------------------


def test_a_kill_anywhere(run: Callable[..., Run[MaskSummary]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of passes, and between commits of levels that share a prompt batch."""
    snapshots: list[Path] = []

    def snapshot() -> None:
        snapshots.append(tmp_path / f"cut{len(snapshots)}")
        shutil.copytree(tmp_path / "whole", snapshots[-1])

    calls: list[int] = []
    commit, update = ResultJournal.commit, FrameResultStore.update

    def committing(journal: ResultJournal, batch: Any) -> None:
        commit(journal, batch)
        snapshot()

    def updating(store: FrameResultStore, *arguments: Any) -> None:
        update(store, *arguments)
        calls.append(len(calls))
        if len(calls) % 9 == 0:
            snapshot()

    monkeypatch.setattr(ResultJournal, "commit", committing)
    monkeypatch.setattr(FrameResultStore, "update", updating)
    run(tmp_path / "whole", predictor=tiny("sam2-hf"))
    monkeypatch.undo()
    kept = [committed(cut) for cut in snapshots]
    assert set(range(1, 8)) <= set(kept)
    assert any(one == other for one, other in pairwise(kept))  # some in the middle of a pass
    for cut in snapshots:
        run(cut, predictor=tiny("sam2-hf"), resume=True)
        assert_same_run(cut, tmp_path / "whole")


def test_memory_that_runs_out_leaves_finished_batches(
    run: Callable[..., Run[MaskSummary]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole", predictor=tiny("sam2-hf"))
    predictor: VideoPredictor = tiny("sam2-hf")
    track = predictor.model.track  # type: ignore[attr-defined]
    calls: list[int] = []

    def full(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 9:
            raise torch.OutOfMemoryError("not enough memory")
        return track(*arguments)

    monkeypatch.setattr(predictor.model, "track", full)  # type: ignore[attr-defined]
    with pytest.raises(
        PredictorOutOfMemory, match=r"does not fit on cpu.*finished prompt frames are kept.*resume=True"
    ):
        run(tmp_path / "cut", predictor=predictor)
    assert 0 < committed(tmp_path / "cut") < 7
    result = run(tmp_path / "cut", predictor=tiny("sam2-hf"), resume=True)
    for level in LEVELS:
        for path in (tmp_path / "whole" / f"level_{level}" / "tracking").iterdir():
            assert path.read_bytes() == (tmp_path / "cut" / f"level_{level}" / "tracking" / path.name).read_bytes()
    assert result.warnings == []  # what failed is not part of the run
