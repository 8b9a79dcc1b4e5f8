"""What a user's type checker sees: the README's Python passes mypy in strict mode."""

from __future__ import annotations

import re
from pathlib import Path

from mypy import api

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)

USE = """
from typing import assert_type

import numpy as np
import trackweave

run = trackweave.open_run("runs/clip")
assert_type(run, trackweave.Run)
assert_type(run.tracks(), trackweave.Tracks)
assert_type(run.tracks()[3], trackweave.Tracks)
assert_type(trackweave.Detections.of([[0, 0, 4, 8]])[0:1], trackweave.Detections)
assert_type(run.summary.track_count, int)

tracker = trackweave.Tracker("ocsort")
assert_type(tracker.update(trackweave.Detections.of([[0, 0, 4, 8]])), trackweave.Detections)
assert_type(trackweave.read_tracks("tracks.mot.txt").masks, trackweave.PackedMasks | None)
trackweave.track_boxes("clip.mp4", "runs/boxes", progress=lambda done, total, label: print(done, total, label))
"""


def test_the_readme_and_the_public_types_pass_mypy_strict(tmp_path: Path) -> None:
    blocks = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert blocks
    snippet, use = tmp_path / "readme_snippets.py", tmp_path / "public_types.py"
    snippet.write_text("\n".join(blocks))
    use.write_text(USE)
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\nstrict = True\nignore_missing_imports = True\nfollow_untyped_imports = True\n")
    options = ["--config-file", str(config), "--cache-dir", str(tmp_path / "cache"), "--follow-imports=silent"]
    report, errors, status = api.run([*options, str(snippet), str(use)])
    assert status == 0, report + errors
