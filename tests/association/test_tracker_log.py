"""What the box tracker decides, what the logger writes of it, and what the samples decide when they are asked again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.association.reassignment import assignment_cost, reassign
from tests.mot.worlds import crowd, together, walk
from trackweave.association.data_collection import SampleLogger
from trackweave.mot.matching import UNMATCHED_COST
from trackweave.mot.settings import TrackerSettings, preset
from trackweave.mot.tracker import Tracker
from trackweave.storage.samples import AssociationSample, read_sample
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import Detections

SIZE = (720, 1280)


class Log:
    """A tracker with a logger; keeps what a sample does not tell: the score from which the first round takes part."""

    def __init__(self, folder: Path, settings: TrackerSettings, **given: Any) -> None:
        self.folder = folder
        self.states: list[AssignmentState] = []
        self.high: dict[int, float] = {}
        self.logger = SampleLogger(folder, sequence="toy")
        self.tracker = Tracker(settings, size=SIZE, observer=self, **given)

    def observe(self, state: AssignmentState) -> None:
        self.states.append(state)
        self.high[int(state.frame)] = self.tracker._parameters.high_score
        self.logger.observe(state)

    def run(self, frames: list[Detections]) -> list[AssociationSample]:
        with self.logger:
            for frame, found in enumerate(frames):
                self.tracker.update(found, frame)
        return [read_sample(path) for path in sorted(self.folder.glob("sample_*.npz"))]

    def stage(self, sample: AssociationSample) -> NDArray[np.int64]:
        return (sample.det_features[:, 4] < self.high[sample.frame_idx]).astype(np.int64)


def old(sample: AssociationSample) -> NDArray[np.int64]:
    """The decisions without the births."""
    return np.where(np.isin(sample.assigned_track_ids, sample.track_ids), sample.assigned_track_ids, -1)


@pytest.mark.parametrize(
    "settings",
    [
        preset("adaptive"),
        preset("adaptive", low_scores_reactivate=True, classes="votes"),
        preset("sort"),
        preset("ocsort"),
        preset("bytetrack", confirm_hits=1),  # tentative tracks have a round of their own, which no sample tells of
        preset("botsort", confirm_hits=1),
    ],
    ids=["adaptive", "votes", "sort", "ocsort", "bytetrack", "botsort"],
)
def test_samples_decide_as_the_tracker_did(tmp_path: Path, settings: TrackerSettings) -> None:
    rng = np.random.default_rng(0)
    looks = rng.standard_normal((41, 8)).astype(np.float32)
    frames = [replace(found, embedding=looks[found.data["truth"]]) for found in crowd(150, 40, seed=11)]
    log = Log(tmp_path, settings)
    samples = log.run(frames)
    assert [sample.frame_idx for sample in samples] == list(range(1, 150))
    matches, contested = 0, 0
    for sample in samples:
        found = reassign(sample, stage=log.stage(sample), unmatched_cost=UNMATCHED_COST)
        if settings.appearance_memory and assignment_cost(sample, found) == assignment_cost(sample, old(sample)):
            # Appearance never makes a pair dearer than ALMOST_UNMATCHED: where several are that dear, any will do.
            found = np.where(np.isin(old(sample), found), old(sample), found)
        np.testing.assert_array_equal(found, old(sample), err_msg=f"frame {sample.frame_idx}")
        matches += int((found >= 0).sum())
        contested += int((sample.mask_matrix.sum(axis=0) > 1).sum())
    assert matches > 2500
    assert contested > 300  # else anybody would have found the same


def test_stage_and_price_are_what_makes_them_agree(tmp_path: Path) -> None:
    """Each alone differs somewhere: the test above is no matter of course."""
    log = Log(tmp_path, preset("ocsort", low_scores_reactivate=True))
    samples = log.run(crowd(100, 120, seed=12))

    def disagreements(**how: Any) -> int:
        told = [{**how, "stage": log.stage(sample)} if "stage" in how else how for sample in samples]
        pairs = zip(samples, told, strict=True)
        return sum(not np.array_equal(reassign(sample, **one), old(sample)) for sample, one in pairs)

    assert disagreements(stage=True, unmatched_cost=UNMATCHED_COST) == 0
    assert disagreements(stage=True) > 0
    assert disagreements(unmatched_cost=UNMATCHED_COST) > 0


def test_a_price_leaves_dear_pairs_out() -> None:
    from tests.association.toy import toy_sample

    cost = np.array([[0.1, 0.6], [0.6, 1.2]], np.float32)
    sample = toy_sample(tracks=2, detections=2, cost_matrix=cost, mask_matrix=np.ones((2, 2), np.float32))
    assert reassign(sample).tolist() == [11, 10]
    assert reassign(sample, unmatched_cost=1.0).tolist() == [10, -1]
    assert reassign(sample, unmatched_cost=2.0).tolist() == [11, 10]
    assert reassign(sample, unmatched_cost=0.1).tolist() == [-1, -1]


def test_births_are_logged_as_their_own(tmp_path: Path) -> None:
    scene = together(walk(6, letter="A"), walk(6, y=200, letter="B", gaps=[0, 1, 2]))
    samples = Log(tmp_path, TrackerSettings()).run([scene.detections(k) for k in range(6)])
    assert [sample.track_ids.tolist() for sample in samples] == [[1], [1], [1], [1, 2], [1, 2]]
    assert [sample.assigned_track_ids.tolist() for sample in samples] == [[1], [1], [1, 2], [1, 2], [1, 2]]


def test_samples_are_what_observers_saw(tmp_path: Path) -> None:
    log = Log(tmp_path, preset("adaptive", appearance_memory=True))
    rng = np.random.default_rng(1)
    frames = [replace(f, embedding=rng.random((len(f), 4), np.float32)) for f in crowd(30, 10, seed=13)]
    samples = log.run(frames)
    scale = np.array([SIZE[1], SIZE[0], SIZE[1], SIZE[0]], np.float32)
    for sample, state in zip(samples, log.states[1:], strict=True):
        np.testing.assert_array_equal(sample.cost_matrix, state.cost)
        np.testing.assert_array_equal(sample.mask_matrix > 0, state.allowed)
        np.testing.assert_array_equal(sample.track_ids, state.track_ids)
        np.testing.assert_array_equal(sample.assigned_track_ids, state.assigned_track_ids)
        np.testing.assert_allclose(sample.track_features[:, :4] * scale, state.track_boxes, atol=0.01)
        assert state.track_embeddings is not None
        np.testing.assert_allclose(sample.track_embeddings[:, :4], state.track_embeddings, atol=1e-5)
        assert (sample.metadata.height, sample.metadata.width) == SIZE
        assert sample.metadata.label_source == "tracker"


def test_suspected_switches_are_in_the_metadata(tmp_path: Path) -> None:
    straight = together(walk(40, letter="A"), walk(40, x=156, speed=-4, letter="B"))
    looks = {"A": (1.0, 0.0), "B": (0.0, 1.0)}
    turned = {"A": looks["B"], "B": looks["A"]}
    frames = [straight.detections(k, looks if k < 20 else turned) for k in range(40)]
    log = Log(tmp_path / "on", TrackerSettings(diagnostics=True))
    samples = log.run(frames)
    told = [sample.metadata.diagnostics for sample in samples]
    assert [one.est_id_switches for one in told] == sorted(one.est_id_switches for one in told)
    assert (told[0].est_id_switches, told[-1].est_id_switches) == (0, 2)
    suspected = [
        (sample.frame_idx, one.suspect_tracks) for sample, one in zip(samples, told, strict=True) if one.suspect_tracks
    ]
    assert [tracks for _, tracks in suspected] == [(1, 2)]
    first = next(sample.frame_idx for sample, one in zip(samples, told, strict=True) if one.est_id_switches)
    assert first == suspected[0][0]
    without = Log(tmp_path / "off", TrackerSettings()).run(frames)
    assert {(one.metadata.diagnostics.est_id_switches, one.metadata.diagnostics.suspect_tracks) for one in without} == {
        (0, ())
    }


class Contrarian:
    """A scorer that finds best what the tracker finds worst."""

    def cost(self, state: AssignmentState) -> NDArray[np.float32]:
        return 1 - state.cost

    def observe(self, state: AssignmentState) -> None: ...

    def reset(self) -> None: ...


def test_with_a_scorer_the_logged_cost_is_the_classical_one(tmp_path: Path) -> None:
    frames = [
        Detections.of([[0, 0, 40, 80], [20, 0, 60, 80]], [0.9, 0.9]),
        Detections.of([[2, 0, 42, 80], [18, 0, 58, 80]], [0.9, 0.9]),
    ]
    (plain,) = Log(tmp_path / "plain", TrackerSettings()).run(frames)
    (judged,) = Log(tmp_path / "judged", TrackerSettings(scorer_weight=0.9), scorer=Contrarian()).run(frames)
    np.testing.assert_array_equal(judged.cost_matrix, plain.cost_matrix)
    np.testing.assert_array_equal(judged.mask_matrix, plain.mask_matrix)
    assert plain.assigned_track_ids.tolist() == [1, 2]
    assert judged.assigned_track_ids.tolist() == [2, 1]  # it decided by another cost
    assert reassign(judged, unmatched_cost=UNMATCHED_COST).tolist() == [1, 2]
