from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.reports.mock_run import make_run, write_json
from trackweave.errors import ArtifactError, ArtifactVersionError, RunFolderError
from trackweave.reports.page import format_duration
from trackweave.reports.page import report as write_report


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "a run")


def edit_summary(run: Path, **changes: object) -> None:
    path = run / "summary.json"
    write_json(path, {**json.loads(path.read_text()), **changes})


def test_page_shows_levels_counts_timings_and_predictor(run: Path) -> None:
    page = write_report(run)
    text = page.read_text(encoding="utf-8")
    assert page == run / "report.html"
    for expected in (
        "a run",
        "Level 2 · coarse",
        "Level 4 · medium",
        "predictor flow (working_size 480): asked for",
        "track.flow",
        "8.2 s",
    ):
        assert expected in text
    assert "iou_threshold" in text
    assert "812 MiB" in text


def test_page_names_a_predictor_once_and_links_the_video(run: Path) -> None:
    edit_summary(run, predictor={"name": "flow", "reason": "auto: flow, because no backend with weights is installed"})
    (run / "overlay.mp4").write_bytes(b"")
    text = write_report(run).read_text(encoding="utf-8")
    assert "predictor flow, because no backend" in text
    assert 'href="overlay.mp4"' in text


def test_page_shows_the_work_of_the_predictor_where_it_was_counted(run: Path) -> None:
    text = write_report(run).read_text(encoding="utf-8")
    assert "<dt>encoder passes</dt><dd>1\u202f200</dd>" in text
    assert "<dt>object frames</dt><dd>34\u202f567</dd>" in text
    for predictor in ({"name": "static"}, {"name": "static", "counters": None}, "static", None):
        edit_summary(run, predictor=predictor)
        assert "Work of the predictor" not in write_report(run).read_text(encoding="utf-8")


def test_images_and_files_are_linked_relatively_and_nothing_from_elsewhere(run: Path) -> None:
    text = write_report(run).read_text(encoding="utf-8")
    links = re.findall(r'(?:src|href)="([^"#]+)"', text)
    assert "level_2/viz/compare/frame_00020.png" in links
    assert "summary.json" in links
    assert all((run / link).exists() for link in links)
    assert not re.search(r"https?://|url\((?!\"data:)|@import", text)


def test_video_is_embedded_only_when_there(run: Path) -> None:
    assert "<video" not in write_report(run).read_text(encoding="utf-8")
    (run / "overlay.mp4").write_bytes(b"")
    assert '<video id="video" src="overlay.mp4"' in write_report(run).read_text(encoding="utf-8")


def test_warnings_are_grouped_counted_and_escaped(run: Path) -> None:
    text = write_report(run).read_text(encoding="utf-8")
    assert "8 warnings" in text
    assert "<code>candidate-skipped</code> × 7" in text
    assert "no picture for &lt;frame 3&gt;" in text
    assert text.index('role="alert"') < text.index("Level 2 · coarse</h2>")


def test_run_without_warnings_says_so(run: Path) -> None:
    edit_summary(run, warnings=[])
    text = write_report(run).read_text(encoding="utf-8")
    assert "No warnings" in text
    assert 'role="alert"' not in text


def held(page: Path) -> Any:
    """What the page's viewer holds."""
    found = re.search(r'id="run-data">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert found is not None
    return json.loads(found[1])


def test_every_track_is_there_also_short_ones(run: Path) -> None:
    tracks = held(write_report(run))["tracks"]
    assert (len(tracks["id"]), tracks["level"]) == (14, [2] * 7 + [4] * 7)


def test_the_page_lets_only_its_own_script_run(run: Path) -> None:
    text = write_report(run).read_text(encoding="utf-8")
    code = re.search(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    assert code is not None
    digest = base64.b64encode(hashlib.sha256(code[1].encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in text


def test_bare_summary_is_enough(tmp_path: Path) -> None:
    write_json(tmp_path / "summary.json", {"schema_version": 1})
    assert "The run has no level" in write_report(tmp_path).read_text(encoding="utf-8")


def test_level_without_tracks_or_images(tmp_path: Path) -> None:
    write_json(tmp_path / "summary.json", {"schema_version": 1, "levels": {"6": {"frames": 3, "objects": 0}}})
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Level 6 · fine" in text
    assert "No track was recorded at this level" in text


def test_first_and_last_stand_in_for_spans(tmp_path: Path) -> None:
    level = {"longest_tracks": [{"id": 5, "first": 2, "last": 9}]}
    write_json(tmp_path / "summary.json", {"schema_version": 1, "levels": {"2": level}})
    tracks = held(write_report(tmp_path))["tracks"]
    assert (tracks["id"], tracks["spans"], tracks["count"]) == ([5], [0, 8], [8])


def test_an_image_outside_the_run_is_not_linked(run: Path) -> None:
    (run / "secret.png").write_bytes(b"")
    path = run / "level_2" / "viz" / "compare" / "compare.json"
    compare = json.loads(path.read_text())
    compare["frames"][0]["image"] = "../../../secret.png"
    write_json(path, compare)
    text = write_report(run).read_text(encoding="utf-8")
    assert "secret" not in text
    assert "level_2/viz/compare/frame_00020.png" in text


@pytest.mark.parametrize("content", ["{", '{"frames": [{"image": "frame_00000.png"}]}', '{"frames": 3}'])
def test_damaged_image_list_becomes_a_notice(run: Path, content: str) -> None:
    (run / "level_2" / "viz" / "compare" / "compare.json").write_text(content)
    text = write_report(run).read_text(encoding="utf-8")
    assert "damaged-file" in text
    assert "compare.json" in text


def test_missing_or_damaged_summary_is_an_error_and_leaves_the_old_page(run: Path) -> None:
    old = write_report(run).read_bytes()
    for content in ("{", '{"schema_version": 1, "levels": {"two": {}}}', '{"schema_version": 1, "levels": [1]}'):
        (run / "summary.json").write_text(content)
        with pytest.raises(ArtifactError, match=r"summary\.json"):
            write_report(run)
    edit = {"schema_version": 99}
    write_json(run / "summary.json", edit)
    with pytest.raises(ArtifactVersionError, match="99"):
        write_report(run)
    (run / "summary.json").unlink()
    with pytest.raises(ArtifactError, match="no run summary"):
        write_report(run)
    assert (run / "report.html").read_bytes() == old
    with pytest.raises(ArtifactError, match="no run folder"):
        write_report(run / "nowhere")


def test_failed_write_leaves_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    before = sorted(run.iterdir())
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(RunFolderError, match=r"report\.html: cannot be written: No space"):
        write_report(run)
    assert sorted(run.iterdir()) == before


def test_durations_read_well() -> None:
    assert format_duration(0) == "0 ms"
    assert format_duration(59.96) == "60.0 s"
    assert format_duration(3599.9) == "1 h 0 min"


def test_import_is_light() -> None:
    heavy = "{'torch', 'matplotlib', 'av', 'cv2', 'jinja2'}"
    code = f"import sys, trackweave.reports.page; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "listed",
    [
        {"frames": [{"index": "x"}]},
        {"frames": 3},
        {"frames": [{"index": [1]}]},
        {"frames": [], "height": "x", "width": 3},
        {"frames": [{"index": None}]},
    ],
)
def test_a_damaged_list_of_frames_becomes_a_notice(run: Path, listed: dict[str, object]) -> None:
    (run / "frames.json").write_text(json.dumps(listed))
    assert "the list of frames is damaged" in write_report(run).read_text()


def test_a_list_of_frames_that_is_no_json_becomes_a_notice(run: Path) -> None:
    (run / "frames.json").write_text('{"frames": [{"index": Infinity}]}')
    page = write_report(run).read_text()
    assert "frames.json" in page
    assert "Infinity" in page


def test_odd_warnings_of_a_manifest_are_shown_or_left_out(run: Path) -> None:
    summary, manifest = (json.loads((run / name).read_text()) for name in ("summary.json", "manifest.json"))
    summary["warnings"] = []
    (run / "summary.json").write_text(json.dumps(summary))
    for warnings in (3, [7], [{"code": ["a"], "message": "odd"}]):
        (run / "manifest.json").write_text(json.dumps(manifest | {"warnings": warnings}))
        write_report(run)


def test_names_that_are_not_utf8_are_shown_escaped(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    summary["command"] = ["trackweave", "masks", "caf\udce9"]
    (run / "summary.json").write_text(json.dumps(summary))
    assert "caf\\udce9" in write_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "odd",
    [
        {"suspected_switches": [[1, 2]]},
        {"suspected_switches": [{"frame": 1, "tracks": [1, 2], "cause": "x", "confidence": "high"}]},
        {"suspected_switches": [{"frame": 1}]},
        {"expected_switches": {"expected": "few", "low": 0, "high": 1}},
        {"expected_switches": [3, 1, 9]},
        {"track_lengths": {"from": [1, 2], "tracks": [[1], 2]}},
        {"track_lengths": {"from": ["a"], "tracks": [1]}},
        {"totals": {"tracks": [1]}},
        {"totals": {"frames": "many"}},
    ],
)
def test_parts_of_a_summary_that_are_not_of_their_type(tmp_path: Path, odd: dict[str, object]) -> None:
    summary = {"schema_version": 1, "command": "boxes", "totals": {}, "longest_tracks": [], **odd}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ArtifactError, match=r"summary\.json: the run summary is damaged"):
        write_report(tmp_path)


def test_what_a_killed_report_left_half_written_is_removed(tmp_path: Path) -> None:
    left = make_run(tmp_path) / ".report.html.4194303-0123abcd.partial"
    left.write_bytes(b"half")
    write_report(tmp_path)
    assert not left.exists()
