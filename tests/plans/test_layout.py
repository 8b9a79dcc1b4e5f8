"""Views: the archives under the guide's names, as links that follow the runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.plans.toy import mask_plan, run_all, write_scenes


def test_scenes_and_flat(tmp_path: Path) -> None:
    scenes, out = write_scenes(tmp_path / "scenes", "s1", "s2"), tmp_path / "out"
    plan = mask_plan(scenes, out, output_layout="scene_level", settings={"predictor": "static", "levels": [2, 4]})
    plan["stages"] = {"report": False, "identity": False}
    run_all(plan)
    view = out / "views" / "s1"
    names = {path.name.replace("_scale0.3x", "") for path in view.iterdir()}
    segments = {f"{kind}_segments_L0{level}.npz" for kind in ("object", "video") for level in (2, 4)}
    assert names == segments | {"compare_L02", "compare_L04", "manifest.json", "summary.json", "tracks.mot.txt"}
    manifest = json.loads((view / "manifest.json").read_text())
    run = out / "runs" / "s1"
    assert (view / manifest["run"]).resolve() == run.resolve()
    for level in (2, 4):
        for kind in ("object_segments", "video_segments"):
            file = view / manifest["artifacts"][str(level)][kind]
            original = next((run / f"level_{level}" / "tracking").glob(f"{kind}*.npz"))
            assert file.samefile(original)
            with np.load(file, allow_pickle=False) as archive:
                assert archive.files
    assert list((view / "compare_L02").glob("*.png"))

    plan["output_layout"] = "flat"
    run_all(plan)
    flat = sorted(path.name for path in (out / "views").iterdir() if path.is_file())
    assert [name for name in flat if name.endswith("manifest.json")] == ["s1_manifest.json", "s2_manifest.json"]
    assert any(name.startswith("s1_object_segments_L02") for name in flat)
    assert not (out / "views" / "s1").exists()  # of the other layout
    assert list((out / "runs" / "s1" / "level_2" / "tracking").glob("*.npz"))  # the runs stay


def test_where_there_are_no_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, target: Path) -> None:
        raise OSError(1, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    scenes, out = write_scenes(tmp_path / "scenes", "s1"), tmp_path / "out"
    run_all(mask_plan(scenes, out, output_layout="flat", stages={"report": False, "identity": False}))
    copy = next((out / "views").glob("s1_object_segments_L02*.npz"))
    original = next((out / "runs" / "s1" / "level_2" / "tracking").glob("object_segments*.npz"))
    assert copy.read_bytes() == original.read_bytes()
    assert not copy.samefile(original)
