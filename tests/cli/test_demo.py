from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.shell import Shell
from tests.toy_scenes import CROSSING
from trackweave.cli import demo
from trackweave.frames.open import open_frames
from trackweave.simulation.video import SyntheticScene
from trackweave.visualization.video import Mp4Writer


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    with Mp4Writer(tmp_path / "clip.mp4", 10) as video:
        for image in CROSSING.frames:
            video.write(np.asarray(image))
    return tmp_path / "clip.mp4"


def test_demo_on_a_clip_leaves_pictures_a_video_and_a_report(shell: Shell, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = shell("demo", "-o", out, "--clip", clip)
    assert done.code == 0, done.err
    for name in ("sheet.png", "overlay.mp4", "report.html", "level_2/viz/compare/compare.json"):
        assert (out / name).stat().st_size > 0
        assert Path(name).name.split(".")[0] in done.out or name.startswith("level_2")
    notes = out / "level_2" / "notes.txt"
    notes.write_text("mine")
    again = shell("demo", "-o", out, "--clip", clip)
    assert again.code == 0, again.err
    assert notes.read_text() == "mine"


def test_demo_begins_anew_after_an_interrupt(
    shell: Shell, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("trackweave.tracking.mask_tracker.MaskTracker.run", interrupt)
        done = shell("demo", "-o", tmp_path / "demo", "--clip", clip)
    assert (done.code, done.err.splitlines()[-1]) == (130, "error: interrupted: the same command begins anew")
    again = shell("demo", "-o", tmp_path / "demo", "--clip", clip)
    assert again.code == 0, again.err


def test_demo_does_not_clear_a_folder_that_it_did_not_make(shell: Shell, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("…")
    done = shell("demo", "-o", tmp_path / "mine", "--clip", clip)
    assert done.code == 1
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_the_packaged_clip_is_small_can_be_read_and_names_its_author() -> None:
    clip = demo.packaged_clip()
    assert clip.stat().st_size <= 500_000
    with open_frames(clip) as frames:
        assert len(frames) == 43
        assert frames.size == (360, 640)
        assert len(np.unique(frames[42])) > 200
    assert "CC BY 4.0" in (clip.parent / "README.md").read_text(encoding="utf-8")


def test_demo_runs_on_the_packaged_clip(
    shell: Shell, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "packaged_clip", lambda: clip)
    done = shell("demo", "-o", tmp_path / "demo")
    assert done.code == 0, done.err
    assert f"clip.mp4: {len(CROSSING.frames)} frames" in done.out


def test_synthetic_demo_prints_scores(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = SyntheticScene
    monkeypatch.setattr("trackweave.simulation.video.SyntheticScene", lambda: scene(length=6, height=96, width=128))
    done = shell("demo", "--synthetic", "-o", tmp_path / "demo")
    assert done.code == 0, done.err
    scores = [line for line in done.out.splitlines() if "mean J of the best track per object" in line]
    assert len(scores) == 3
    # Six frames tell the whole story of sixty: nothing can be followed well, but something is.
    best = max(float(line.split("per object ")[1].split(",")[0]) for line in scores)
    assert 0.1 < best <= 1
