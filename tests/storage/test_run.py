from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trackweave.errors import ArtifactError, ArtifactVersionError, InputError, RunFolderError
from trackweave.ids import FrameIndex
from trackweave.storage.files import PARTIAL_SUFFIX, locked_folder, read_json_object
from trackweave.storage.run import (
    Fingerprint,
    FrameList,
    LevelRecord,
    RunFolder,
    RunManifest,
    RunPaths,
    format_scale_suffix,
    remove_run,
    scaled_npz_path,
)
from trackweave.structures.run_log import RunWarning
from trackweave.structures.run_summary import LevelSummary, MaskSummary


@pytest.mark.parametrize(
    ("ratio", "name"),
    [(1.0, "v.npz"), (0.3, "v_scale0.3x.npz"), (0.25, "v_scale0.25x.npz"), (2.0, "v_scale2x.npz")],
)
def test_names_tell_the_scale(ratio: float, name: str) -> None:
    assert scaled_npz_path(Path("a") / "v.npz", ratio) == Path("a") / name
    assert scaled_npz_path("v", ratio).name == name
    assert format_scale_suffix(ratio) == name[1:-4]


def test_where_everything_lies() -> None:
    run = RunPaths(Path("run"))
    assert run.level(4).video_segments(0.5) == Path("run/level_4/tracking/video_segments_scale0.5x.npz")
    assert run.level(4).object_segments(1.0) == Path("run/level_4/tracking/object_segments.npz")
    assert run.level(4).compare == Path("run/level_4/viz/compare")
    assert run.journal(4) == Path("run/journal/level_4.json")
    names = [path.name for path in (run.manifest, run.frames, run.summary, run.report, run.mot)]
    assert names == ["manifest.json", "frames.json", "summary.json", "report.html", "tracks.mot.txt"]


class TestFrameList:
    @pytest.mark.parametrize("times", [None, [0.0, 0.04, 0.12]])
    def test_there_and_back(self, tmp_path: Path, times: list[float] | None) -> None:
        indices = [FrameIndex(k) for k in (0, 4, 9)]
        written = FrameList(indices, ["a.jpg", "ü.jpg", "c.jpg"], times, (48, 64))
        written.write(tmp_path / "frames.json")
        assert FrameList.read(tmp_path / "frames.json") == written

    def test_the_documented_form(self, tmp_path: Path) -> None:
        FrameList([FrameIndex(4)], ["a.jpg"], None, (48, 64)).write(tmp_path / "frames.json")
        assert json.loads((tmp_path / "frames.json").read_text()) == {
            "schema_version": 1,
            "height": 48,
            "width": 64,
            "frames": [{"index": 4, "name": "a.jpg", "time": None}],
        }

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            ({"schema_version": 1, "height": 4, "width": 4}, ArtifactError),
            ({"schema_version": 1, "height": 4, "width": 4, "frames": [{"index": 1}]}, ArtifactError),
            ({"schema_version": 1, "height": 4, "width": 4, "frames": 7}, ArtifactError),
            ({"schema_version": 1, "height": "x", "width": 4, "frames": []}, ArtifactError),
            ({"schema_version": 1, "height": 0, "width": 4, "frames": []}, ArtifactError),
            ({"schema_version": 1, "height": 8, "width": 320000000000, "frames": []}, ArtifactError),
            ({"schema_version": 2, "height": 4, "width": 4, "frames": []}, ArtifactVersionError),
            ({"height": 4, "width": 4, "frames": []}, ArtifactVersionError),
        ],
    )
    def test_damage_names_the_file(self, tmp_path: Path, content: Any, kind: type[Exception]) -> None:
        path = tmp_path / "frames.json"
        path.write_text(json.dumps(content))
        with pytest.raises(kind) as caught:
            FrameList.read(path)
        assert str(caught.value).startswith(f"{path}: ")


def warning(stage: str, level: int | None, message: str) -> RunWarning:
    return RunWarning(stage, level, "code", message, {"frames": [1]})


class TestManifest:
    def test_merging_keeps_what_others_wrote(self, tmp_path: Path) -> None:
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps({"generator": {"name": "x"}, "selected_frames": ["a.jpg"], "levels": [2]}))
        for level in (4, 2):
            manifest = RunManifest.load(path)
            manifest.merge({"fingerprint": "f", "config": {"level": level}})
            manifest.set_level(level, {"video_segments": f"level_{level}/tracking/v.npz"}, {"objects": level})
            manifest.write()
        data = json.loads(path.read_text())
        assert (data["generator"], data["selected_frames"]) == ({"name": "x"}, ["a.jpg"])
        assert (data["schema_version"], data["config"], data["levels"]) == (1, {"level": 2}, [2, 4])
        assert data["derived"]["levels"] == {"4": {"objects": 4}, "2": {"objects": 2}}
        again = RunManifest.load(path)
        assert (again.tracked_levels, again.fingerprint) == ([2, 4], "f")
        assert again.artifact(4, "video_segments") == tmp_path / "level_4" / "tracking" / "v.npz"
        with pytest.raises(ArtifactError, match="records no object_segments of level 4"):
            again.artifact(4, "object_segments")
        with pytest.raises(ArtifactError, match="records no video_segments of level 6"):
            again.artifact(6, "video_segments")

    @pytest.mark.parametrize("artifacts", ["x", None, 3, [[]], {"x": {}}, {"1": 3}, {"9" * 5000: {}}, {"-1": {}}])
    def test_artifacts_that_are_no_files_by_level_are_refused(self, tmp_path: Path, artifacts: Any) -> None:
        (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": 1, "artifacts": artifacts}))
        with pytest.raises(
            ArtifactError, match=r"manifest\.json: the run manifest's `artifacts` are not files by level"
        ):
            RunManifest.load(tmp_path / "manifest.json")

    @pytest.mark.parametrize("name", ["../other/v.npz", "/abs/v.npz", "level_1/../../v.npz", "a\0b", ""])
    def test_an_artifact_outside_the_run_is_refused(self, tmp_path: Path, name: str) -> None:
        manifest = RunManifest(tmp_path / "manifest.json", {"artifacts": {"1": {"video_segments": name}}})
        with pytest.raises(ArtifactError, match=r"manifest\.json: video_segments of level 1: .* does not lie inside"):
            manifest.artifact(1, "video_segments")

    def test_there_is_none_yet(self, tmp_path: Path) -> None:
        manifest = RunManifest.load(tmp_path / "manifest.json")
        assert (manifest.data, manifest.fingerprint, manifest.tracked_levels) == ({}, None, [])

    def test_a_stage_that_runs_again_replaces_its_own_warnings(self) -> None:
        manifest = RunManifest(Path("manifest.json"), {"warnings": ["of another program", {"stage": "theirs"}]})
        manifest.replace_warnings([warning("frames", None, "f")], stages=["frames"], level=None)
        for run in ("first", "second"):
            for level in (2, 4):
                found = [warning("track", level, f"{run} {level}"), warning("candidates", level, f"{run} {level}")]
                manifest.replace_warnings(found, stages=["track", "candidates"], level=level)
        kept = [(w["stage"], w["level"], w["message"]) for w in manifest.data["warnings"][2:]]
        assert manifest.data["warnings"][:2] == ["of another program", {"stage": "theirs"}]
        assert kept == [
            ("frames", None, "f"),
            ("track", 2, "second 2"),
            ("candidates", 2, "second 2"),
            ("track", 4, "second 4"),
            ("candidates", 4, "second 4"),
        ]
        manifest.replace_warnings([], stages=["track"], level=4)
        assert [w["stage"] for w in manifest.data["warnings"][2:]] == ["frames", "track", "candidates", "candidates"]

    @pytest.mark.parametrize(
        ("content", "kind", "message"),
        [
            ("{", ArtifactError, "the run manifest is not JSON"),
            ('{"schema_version": 2}', ArtifactVersionError, "newer than 1"),
            ('{"schema_version": null}', ArtifactVersionError, "unknown schema_version None"),
        ],
    )
    def test_damage_and_newer_versions(self, tmp_path: Path, content: str, kind: type[Exception], message: str) -> None:
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(kind, match=message):
            RunManifest.load(tmp_path / "manifest.json")


class TestJournal:
    @pytest.fixture
    def record(self, tmp_path: Path) -> LevelRecord:
        (tmp_path / "level_2").mkdir()
        (tmp_path / "level_2" / "v.npz").write_bytes(b"12345")
        record = LevelRecord(
            "f",
            4,
            9,
            {"level_2/v.npz": 5},
            LevelSummary({"objects": 3}, tracks=[]),
            [warning("track", 2, "w")],
            [warning("predictor", None, "r")],
            {"encoder_passes": 7},
        )
        record.write(tmp_path / "journal" / "level_2.json")
        return record

    def read(self, root: Path, fingerprint: str = "f") -> LevelRecord | None:
        return LevelRecord.read(root / "journal" / "level_2.json", fingerprint)

    def test_there_and_back(self, tmp_path: Path, record: LevelRecord) -> None:
        assert self.read(tmp_path) == record
        assert record.is_whole(tmp_path)

    def test_other_settings_are_not_trusted(self, tmp_path: Path, record: LevelRecord) -> None:
        assert self.read(tmp_path, "g") is None

    @pytest.mark.parametrize("content", [b"1234", b"123456", None])
    def test_a_file_of_another_length_is_not_trusted(
        self, tmp_path: Path, record: LevelRecord, content: bytes | None
    ) -> None:
        file = tmp_path / "level_2" / "v.npz"
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        assert not record.is_whole(tmp_path)

    def test_a_file_outside_the_run_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "v.npz").write_bytes(b"12345")
        record = LevelRecord("f", 4, 9, {"../v.npz": 5}, LevelSummary({}, tracks=[]), [], [], {})
        with pytest.raises(ArtifactError, match=r"'\.\./v\.npz' does not lie inside"):
            record.is_whole(tmp_path / "run")

    def test_levels_with_an_entry(self, tmp_path: Path, record: LevelRecord) -> None:
        record.write(RunPaths(tmp_path).journal(10))
        RunPaths(tmp_path).finished_batches(4).touch()
        assert RunPaths(tmp_path).journalled_levels == [2, 10]
        assert RunPaths(tmp_path / "empty").journalled_levels == []

    def test_nothing_was_recorded(self, tmp_path: Path) -> None:
        assert self.read(tmp_path) is None

    @pytest.mark.parametrize(
        ("change", "kind"),
        [
            ({"files": None}, ArtifactError),
            ({"next_id": "x"}, ArtifactError),
            ({"warnings": [{"stage": "track"}]}, ArtifactError),
            ({"schema_version": 2}, ArtifactVersionError),
        ],
    )
    def test_damage_names_the_file(
        self, tmp_path: Path, record: LevelRecord, change: dict[str, Any], kind: type[Exception]
    ) -> None:
        path = tmp_path / "journal" / "level_2.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(kind) as caught:
            self.read(tmp_path)
        assert str(caught.value).startswith(f"{path}: ")


def fingerprint_of(**parts: bytes) -> Fingerprint:
    fingerprint = Fingerprint()
    for part, content in parts.items():
        fingerprint.add(part, content)
    return fingerprint


ABC = fingerprint_of(frames=b"abc", settings=b"abc")


class TestRunFolder:
    def test_a_new_folder_is_claimed_and_finished(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path / "new" / "run")
        manifest = folder.claim(ABC)
        manifest.write()
        summary = MaskSummary("masks", totals={"objects": 3}, durations={"open": 0.5}, peak_rss_mb=80.0)
        folder.finish(summary, {"kind": "masks"}, warnings=[RunWarning("predictor", None, "slow", "slow")])
        done = RunManifest.load(folder.paths.manifest)
        assert (done.fingerprint, done.data["kind"]) == (ABC.hexdigest(), "masks")
        assert done.data["derived"]["peak_rss_mb"] == 80.0
        assert [warning["code"] for warning in done.data["warnings"]] == ["slow"]
        assert read_json_object(folder.paths.summary, "summary")["totals"]["objects"] == 3

    @pytest.mark.parametrize(
        ("data", "fingerprint", "resume", "message"),
        [
            ({"fingerprint": ABC.hexdigest()}, None, False, "already holds a run"),
            ({"artifacts": {"2": {}}}, None, False, "already holds a run"),
            ({"artifacts": {"2": {}}}, ABC, True, "holds another run"),
            ({"fingerprint": "xyz"}, ABC, True, "other input or settings: choose"),
            (
                {"fingerprint": "xyz", "fingerprints": fingerprint_of(frames=b"abc", settings=b"other").parts},
                ABC,
                True,
                r"other input or settings \(other settings\): choose",
            ),
            ({"fingerprint": ABC.hexdigest()}, ABC, False, "add resume=True"),
        ],
    )
    def test_a_folder_that_holds_a_run_is_refused(
        self, tmp_path: Path, data: dict[str, object], fingerprint: Fingerprint | None, resume: bool, message: str
    ) -> None:
        RunManifest(tmp_path / "manifest.json", data).write()
        with pytest.raises(RunFolderError, match=message):
            RunFolder(tmp_path).claim(fingerprint, resume=resume)

    def test_the_same_run_is_resumed_and_leftovers_are_cleared(self, tmp_path: Path) -> None:
        RunManifest(tmp_path / "manifest.json", {"fingerprint": ABC.hexdigest()}).write()
        names = ("", "journal/", "level_2/tracking/", "level_2/viz/", "level_2/viz/compare/", "level_2/filtered/")
        left = [tmp_path / f"{folder}.tracks.npz.4194303-0123abcd{PARTIAL_SUFFIX}" for folder in names]
        foreign = [tmp_path / ".download.zip.partial", tmp_path / "deep" / f".x.1-0123abcd{PARTIAL_SUFFIX}"]
        for path in (*left, *foreign):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"half")
        with RunFolder(tmp_path) as folder:
            assert folder.claim(ABC, resume=True).fingerprint == ABC.hexdigest()
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in foreign)

    def test_a_folder_is_claimed_once(self, tmp_path: Path) -> None:
        with RunFolder(tmp_path) as folder:
            folder.claim(ABC)
            with RunFolder(tmp_path) as other, pytest.raises(RunFolderError, match="is working in this folder"):
                other.claim(ABC, resume=True)
        with RunFolder(tmp_path) as folder:
            folder.claim(ABC)
        assert list(tmp_path.iterdir()) == []

    def test_only_what_a_run_wrote_is_removed(self, tmp_path: Path) -> None:
        ours = ["manifest.json", "level_2/tracking/video_segments_scale0.3x.npz", "journal/level_2.json", "sheet.png"]
        mine = ["notes.txt", "level_4/tracking/mine.npz", "other/manifest.json"]
        for name in (*ours, *mine):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("")
        remove_run(tmp_path, "sheet.png")
        assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(mine)
        assert not (tmp_path / "level_2").exists()

    def _left(self, root: Path) -> list[str]:
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def _write(self, root: Path, *names: str) -> None:
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("")

    @pytest.mark.parametrize("kind", ["generator", "candidates"])
    def test_a_run_is_overwritten_and_others_files_stay(self, tmp_path: Path, kind: str) -> None:
        data = {"fingerprint": "x", "config": {"prompts": {"kind": kind}}, "min_area": 5}
        RunManifest(tmp_path / "manifest.json", data).write()
        candidates = "level_2/filtered/filtered.json"
        self._write(tmp_path, "tracks.npz", "level_2/tracking/video_segments.npz", "notes.txt", "level_2/mine.txt")
        self._write(tmp_path, candidates)
        with RunFolder(tmp_path) as folder:
            manifest = folder.claim(ABC, overwrite=True)
            assert manifest.data.keys() == {"fingerprint", "fingerprints", "min_area", "schema_version"}
        kept = {"manifest.json", "notes.txt", "level_2/mine.txt"}
        assert self._left(tmp_path) == sorted(kept if kind == "generator" else kept | {candidates})

    def test_an_input_is_never_overwritten(self, tmp_path: Path) -> None:
        RunManifest(tmp_path / "manifest.json", {"fingerprint": "x"}).write()
        self._write(tmp_path, "overlay.mp4", "level_2/viz/compare/frame_00001.png")
        before = self._left(tmp_path)
        for read in ("overlay.mp4", "level_2/viz/compare"):
            with RunFolder(tmp_path) as folder, pytest.raises(InputError, match="is an input"):
                folder.claim(overwrite=True, inputs=[tmp_path / read])
        assert self._left(tmp_path) == before

    def test_nothing_is_overwritten_where_no_run_is(self, tmp_path: Path) -> None:
        self._write(tmp_path, "tracks.npz")
        with RunFolder(tmp_path) as folder:
            folder.claim(overwrite=True)
        assert self._left(tmp_path) == ["tracks.npz"]

    def test_a_folder_in_use_is_not_overwritten(self, tmp_path: Path) -> None:
        RunManifest(tmp_path / "manifest.json", {"fingerprint": "x"}).write()
        with locked_folder(tmp_path), RunFolder(tmp_path) as folder, pytest.raises(RunFolderError, match="is working"):
            folder.claim(overwrite=True)
        assert self._left(tmp_path) == ["manifest.json"]

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("")
        with pytest.raises(RunFolderError, match="is a file"):
            RunFolder(tmp_path / "run").claim()


def test_where_one_piece_of_a_fingerprint_ends_counts() -> None:
    def of(*pieces: bytes) -> str:
        fingerprint = Fingerprint()
        fingerprint.add("frames", *pieces)
        return fingerprint.hexdigest()

    assert of(b"ab", b"c") != of(b"a", b"bc")
    assert of(b"ab", b"c") == of(b"ab", b"c")
    assert fingerprint_of(frames=b"a").hexdigest() != fingerprint_of(settings=b"a").hexdigest()


def test_a_damaged_list_of_artifacts_is_one_line(tmp_path: Path) -> None:
    cases: tuple[object, ...] = ({"x": {}}, 3, [[1]])
    for artifacts in cases:
        with pytest.raises(ArtifactError, match="its list of artifacts is damaged"):
            _ = RunManifest(tmp_path / "manifest.json", {"artifacts": artifacts}).tracked_levels
