"""Samples logged of the box tracker, and that their stored costs give the tracker's assignment again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.association.reassignment import assignment_cost, reassign
from tests.toy_boxes import combined, random_detections, walk
from trackweave.association.data_collection import SampleLogger
from trackweave.mot.assignment import UNMATCHED_COST
from trackweave.mot.settings import TrackerSettings, preset
from trackweave.mot.tracker import Tracker
from trackweave.storage.samples import AssociationSample, SampleDiagnostics, read_sample
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import Detections

SIZE = (720, 1280)


class LoggedTracker:
    """A tracker with a logger; keeps what samples do not hold: the least score of the first round."""

    def __init__(self, folder: Path, settings: TrackerSettings, **options: Any) -> None:
        self.folder = folder
        self.states: list[AssignmentState] = []
        self.high: dict[int, float] = {}
        self.logger = SampleLogger(folder, sequence="toy")
        self.tracker = Tracker(settings, size=SIZE, observer=self, **options)

    def observe(self, state: AssignmentState) -> None:
        self.states.append(state)
        self.high[int(state.frame)] = float(self.tracker._parameters["high_score"][0])
        self.logger.observe(state)

    def run(self, frames: list[Detections]) -> list[AssociationSample]:
        with self.logger:
            for frame, detections in enumerate(frames):
                self.tracker.update(detections, frame)
        return [read_sample(path) for path in sorted(self.folder.glob("sample_*.npz"))]

    def stage(self, sample: AssociationSample) -> NDArray[np.int64]:
        return (sample.det_features[:, 4] < self.high[sample.frame_idx]).astype(np.int64)


def without_new_tracks(sample: AssociationSample) -> NDArray[np.int64]:
    """The assignment, with −1 for detections that began a track."""
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
def test_samples_give_the_trackers_assignment(tmp_path: Path, settings: TrackerSettings) -> None:
    rng = np.random.default_rng(0)
    appearance = rng.standard_normal((41, 8)).astype(np.float32)
    frames = [
        replace(found, embedding=appearance[found.data["truth"]]) for found in random_detections(150, 40, seed=11)
    ]
    log = LoggedTracker(tmp_path, settings)
    samples = log.run(frames)
    assert [sample.frame_idx for sample in samples] == list(range(1, 150))
    matches, contested = 0, 0
    for sample in samples:
        expected = without_new_tracks(sample)
        assigned = reassign(sample, stage=log.stage(sample), unmatched_cost=UNMATCHED_COST)
        if settings.appearance_memory and assignment_cost(sample, assigned) == assignment_cost(sample, expected):
            # Appearance never raises a cost above ALMOST_UNMATCHED: of several pairs at that cost, any will do.
            assigned = np.where(np.isin(expected, assigned), expected, assigned)
        np.testing.assert_array_equal(assigned, expected, err_msg=f"frame {sample.frame_idx}")
        matches += int((assigned >= 0).sum())
        contested += int((sample.mask_matrix.sum(axis=0) > 1).sum())
    assert matches > 2500
    assert contested > 300  # the assignment is not trivial


def test_the_assignment_depends_on_stage_and_unmatched_cost(tmp_path: Path) -> None:
    """Either alone gives another assignment somewhere."""
    log = LoggedTracker(tmp_path, preset("ocsort", low_scores_reactivate=True))
    samples = log.run(random_detections(100, 120, seed=12))

    def disagreements(**options: Any) -> int:
        calls = [{**options, "stage": log.stage(sample)} if "stage" in options else options for sample in samples]
        pairs = zip(samples, calls, strict=True)
        return sum(not np.array_equal(reassign(sample, **call), without_new_tracks(sample)) for sample, call in pairs)

    assert disagreements(stage=True, unmatched_cost=UNMATCHED_COST) == 0
    assert disagreements(stage=True) > 0
    assert disagreements(unmatched_cost=UNMATCHED_COST) > 0


def test_an_unmatched_cost_leaves_expensive_pairs_out() -> None:
    from tests.association.toy import toy_sample

    cost = np.array([[0.1, 0.6], [0.6, 1.2]], np.float32)
    sample = toy_sample(tracks=2, detections=2, cost_matrix=cost, mask_matrix=np.ones((2, 2), np.float32))
    assert reassign(sample).tolist() == [11, 10]
    assert reassign(sample, unmatched_cost=1.0).tolist() == [10, -1]
    assert reassign(sample, unmatched_cost=2.0).tolist() == [11, 10]
    assert reassign(sample, unmatched_cost=0.1).tolist() == [-1, -1]


def test_new_tracks_are_logged_with_their_own_id(tmp_path: Path) -> None:
    scene = combined(walk(6, letter="A"), walk(6, y=200, letter="B", gaps=[0, 1, 2]))
    samples = LoggedTracker(tmp_path, TrackerSettings()).run([scene.detections(k) for k in range(6)])
    assert [sample.track_ids.tolist() for sample in samples] == [[1], [1], [1], [1, 2], [1, 2]]
    assert [sample.assigned_track_ids.tolist() for sample in samples] == [[1], [1], [1, 2], [1, 2], [1, 2]]


def test_samples_agree_with_observed_states(tmp_path: Path) -> None:
    log = LoggedTracker(tmp_path, preset("adaptive", appearance_memory=True))
    rng = np.random.default_rng(1)
    frames = [replace(f, embedding=rng.random((len(f), 4), np.float32)) for f in random_detections(30, 10, seed=13)]
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
    straight = combined(walk(40, letter="A"), walk(40, x=156, speed=-4, letter="B"))
    appearance = {"A": (1.0, 0.0), "B": (0.0, 1.0)}
    turned = {"A": appearance["B"], "B": appearance["A"]}
    frames = [straight.detections(k, appearance if k < 20 else turned) for k in range(40)]
    log = LoggedTracker(tmp_path / "on", TrackerSettings(diagnostics=True))
    samples = log.run(frames)
    diagnostics = [sample.metadata.diagnostics for sample in samples]
    totals = np.array([one.est_id_switches for one in diagnostics])
    assert totals.tolist() == sorted(totals.tolist())
    assert [one.est_id_switches_frame for one in diagnostics] == np.diff(totals, prepend=0).tolist()
    assert (diagnostics[0].est_id_switches, diagnostics[-1].est_id_switches) == (0, 2)
    pairs = list(zip(samples, diagnostics, strict=True))
    suspected = [(sample.frame_idx, one.suspect_tracks) for sample, one in pairs if one.suspect_tracks]
    assert [tracks for _, tracks in suspected] == [(1, 2)]
    first = next(sample.frame_idx for sample, one in pairs if one.est_id_switches)
    assert first == suspected[0][0]
    without = LoggedTracker(tmp_path / "off", TrackerSettings()).run(frames)
    assert {one.metadata.diagnostics for one in without} == {SampleDiagnostics(None, (), None)}
    lines = [json.loads(line) for line in (tmp_path / "off" / "manifest.jsonl").read_text().splitlines()]
    assert {(line["est_id_switches"], line["est_id_switches_frame"]) for line in lines} == {(None, None)}
    lines = [json.loads(line) for line in (tmp_path / "on" / "manifest.jsonl").read_text().splitlines()]
    assert [(line["est_id_switches"], line["est_id_switches_frame"]) for line in lines] == [
        (one.est_id_switches, one.est_id_switches_frame) for one in diagnostics
    ]


class InvertedScorer:
    """A scorer with the inverse of the tracker's own cost."""

    def cost(self, state: AssignmentState) -> NDArray[np.float32]:
        return 1 - state.cost

    def observe(self, state: AssignmentState) -> None: ...

    def reset(self) -> None: ...


def test_with_a_scorer_the_logged_cost_is_the_classical_one(tmp_path: Path) -> None:
    frames = [
        Detections.of([[0, 0, 40, 80], [20, 0, 60, 80]], [0.9, 0.9]),
        Detections.of([[2, 0, 42, 80], [18, 0, 58, 80]], [0.9, 0.9]),
    ]
    (plain,) = LoggedTracker(tmp_path / "plain", TrackerSettings()).run(frames)
    blended = LoggedTracker(tmp_path / "scored", TrackerSettings(scorer_weight=0.9), scorer=InvertedScorer())
    (scored,) = blended.run(frames)
    np.testing.assert_array_equal(scored.cost_matrix, plain.cost_matrix)
    np.testing.assert_array_equal(scored.mask_matrix, plain.mask_matrix)
    assert plain.assigned_track_ids.tolist() == [1, 2]
    assert scored.assigned_track_ids.tolist() == [2, 1]  # it decided by another cost
    assert reassign(scored, unmatched_cost=UNMATCHED_COST).tolist() == [1, 2]
