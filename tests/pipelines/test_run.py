"""`Run`: a finished run opened again, of masks and of boxes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.toy_boxes import make_sequence
from tests.toy_scenes import CROSSING, candidates_of, write_frames
from trackweave.errors import ArtifactError, InputError, SettingError
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.run import open_run
from trackweave.reports.page import report as write_report
from trackweave.structures.run_summary import BoxSummary, MaskSummary

SCENE = CROSSING


@pytest.fixture
def mask_run(tmp_path: Path) -> Path:
    frames = write_frames(SCENE, tmp_path / "frames")
    root = candidates_of(SCENE, tmp_path / "candidates", range(3))
    candidates_of(SCENE, root, [0, 2], level=4)
    track_masks(frames, tmp_path / "run", candidates=root, predictor="static", sampling="1:")
    return tmp_path / "run"


@pytest.fixture
def box_run(tmp_path: Path) -> Path:
    track_boxes(make_sequence(tmp_path / "toy", images=12), tmp_path / "boxes", overlay=False)
    return tmp_path / "boxes"


def test_a_mask_run(mask_run: Path) -> None:
    run = open_run(mask_run)
    assert (run.root, run.kind, run.levels) == (mask_run, "masks", [2, 4])
    assert isinstance(run.summary, MaskSummary)
    both = run.tracks()
    assert both.level is not None
    assert set(both.level.tolist()) == {2, 4}
    assert both.masks is not None
    one = run.tracks(4, with_masks=False)
    assert one.masks is None
    assert set(one.track_ids.tolist()) == set(both.track_id[both.level == 4].tolist())
    with run.masks(2) as video, run.objects(2) as objects:
        assert set(objects.ids) == set(run.tracks(2).track_ids.tolist())
        assert list(video.frames) == run.tracks(2).frames.tolist()
    with pytest.raises(SettingError, match="levels 2, 4: name one"):
        run.masks()
    with pytest.raises(ArtifactError, match="level 6"):
        run.tracks(6)
    assert repr(run) == f"Run({str(mask_run)!r}: masks, level 2 4, {run.summary.track_count} tracks)"
    assert "report" not in run._repr_html_()
    write_report(mask_run)
    assert run.paths.report.as_uri() in run._repr_html_()


def test_a_box_run(box_run: Path) -> None:
    run = open_run(box_run)
    assert (run.kind, run.levels, list(run.warnings)) == ("boxes", [], [])
    assert isinstance(run.summary, BoxSummary)
    assert run.summary.totals["tracks"] == 2
    assert run.tracks().track_ids.tolist() == [1, 2]
    with pytest.raises(SettingError, match="no level 2"):
        run.tracks(2)
    with pytest.raises(ArtifactError, match="is a box run"):
        run.masks()


def test_its_frames_are_the_input_s_again(mask_run: Path, tmp_path: Path) -> None:
    run = open_run(mask_run)
    with run.video() as video:
        assert list(video.indices) == list(run.frames.indices) == list(range(1, len(SCENE.frames)))
        assert np.array_equal(video[0], SCENE.frames[1])
    shutil.move(tmp_path / "frames", tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is not there: name it in"):
        run.video()
    with run.video(tmp_path / "elsewhere") as video:
        assert len(video) == len(SCENE.frames) - 1
    (tmp_path / "elsewhere" / f"{len(SCENE.frames) - 1:05d}.png").unlink()
    with pytest.raises(InputError, match="is missing"):
        run.video(tmp_path / "elsewhere")


def test_what_is_no_finished_run_is_refused(mask_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no run folder: there is no manifest\.json"):
        open_run(tmp_path / "nowhere")
    (mask_run / "summary.json").unlink()
    with pytest.raises(ArtifactError, match="is not finished"):
        open_run(mask_run)
    (mask_run / "summary.json").write_text('{"command": "boxes"}')
    with pytest.raises(ArtifactError, match=r"summary\.json"):
        _ = open_run(mask_run).summary
