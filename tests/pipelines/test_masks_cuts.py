"""Mask runs over several shots: nothing crosses a cut unless asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import trackweave
from tests.frames.videos import shot
from trackweave.errors import RunFolderError
from trackweave.frames.arrays import ArrayFrames
from trackweave.predictors.flow.predictor import FlowPredictor
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.storage.mask_archive import VideoSegments
from trackweave.structures.run_summary import MaskSummary
from trackweave.tracking.settings import TrackingSettings

PICTURES = np.stack([*shot(0, 5), *shot(1, 4), *shot(2, 3)])
CUTS = [5, 9]
VIDEO = ArrayFrames(PICTURES)
IGNORE = TrackingSettings(cuts="ignore")


def marked(*ids: int) -> np.ndarray:
    labels = np.zeros(PICTURES.shape[1:3], np.int64)
    for track_id in ids:
        labels[20:60, 40 * track_id : 40 * track_id + 20] = track_id
    return labels


def spans(run: trackweave.Run[MaskSummary]) -> dict[int, list[tuple[int, int]]]:
    return {track.track_id: list(track.spans) for track in run.summary.levels[run.levels[0]].tracks}


@pytest.mark.parametrize("predictor", ["static", FlowPredictor(FlowSettings(), threads=1)], ids=["static", "flow"])
def test_prompts_end_at_the_cuts_of_their_shot(predictor: str | FlowPredictor, tmp_path: Path) -> None:
    run = trackweave.track_masks(VIDEO, tmp_path / "run", prompts={6: marked(1)}, predictor=predictor)
    (span,) = spans(run)[1]
    assert 5 <= span[0] <= 6 <= span[1] <= 8
    assert run.summary.input.cuts == CUTS
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["input"]["cuts"] == CUTS
    (warning,) = (each for each in run.summary.warnings if each.code == "ended-at-cut")
    assert "frame 0, 9" in warning.message
    with VideoSegments(next((tmp_path / "run").rglob("video_segments.npz"))) as archive:
        assert archive.info.metadata["cuts"] == CUTS


def test_an_object_marked_in_two_shots_keeps_its_id_in_both(tmp_path: Path) -> None:
    prompts = {1: marked(1, 2), 10: marked(2, 3)}
    run = trackweave.track_masks(VIDEO, tmp_path / "run", prompts=prompts, predictor="static")
    assert spans(run) == {1: [(0, 4)], 2: [(0, 4), (9, 11)], 3: [(9, 11)]}
    tracks = {track.track_id: track.prompt_frame for track in run.summary.levels[run.levels[0]].tracks}
    assert tracks == {1: 1, 2: 1, 3: 10}


def test_cuts_are_ignored_when_asked(tmp_path: Path) -> None:
    run = trackweave.track_masks(VIDEO, tmp_path / "run", prompts={6: marked(1)}, predictor="static", settings=IGNORE)
    assert spans(run) == {1: [(0, 11)]}
    assert run.summary.input.cuts is None
    assert not [each for each in run.summary.warnings if each.code == "ended-at-cut"]
    with pytest.raises(RunFolderError, match="settings"):
        trackweave.track_masks(VIDEO, tmp_path / "run", prompts={6: marked(1)}, predictor="static", resume=True)


def test_cuts_of_sampled_frames_are_those_of_the_video(tmp_path: Path) -> None:
    run = trackweave.track_masks(VIDEO, tmp_path / "run", prompts={6: marked(1)}, predictor="static", sampling="::3")
    assert run.summary.input.cuts == [6, 9]
    assert spans(run) == {1: [(6, 6)]}


def test_candidates_are_tracked_within_their_shots(tmp_path: Path) -> None:
    candidates = trackweave.propose(VIDEO, tmp_path / "candidates", levels=[2], candidate_stride=3)
    run = trackweave.track_masks(VIDEO, tmp_path / "run", candidates=candidates, predictor="static")
    shots = [range(5), range(5, 9), range(9, 12)]
    for parts in spans(run).values():
        assert any(parts[0][0] in own and parts[-1][1] in own for own in shots)
