"""A run of masks and what a person says about it: readers, files, prompts, kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.bounded_predictor import BoundedPredictor
from tests.toy_scenes import candidates_of, toy_scene, write_frames
from trackweave.errors import ArtifactError, InputError, PredictorUnavailable, RunFolderError
from trackweave.exporters import export
from trackweave.formats.readers import read_tracks
from trackweave.identity.settings import IdentitySettings
from trackweave.masks.codecs import encode_rle
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.corrections import correct, open_proofreading
from trackweave.pipelines.identity import relate
from trackweave.pipelines.mask_corrections import MaskProofreading
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.reprompting import StoppedError
from trackweave.pipelines.run import Run, open_run
from trackweave.reports.page import report
from trackweave.storage.corrections import read_corrections
from trackweave.structures.corrections import (
    Accepted,
    AcceptedAsIs,
    Ended,
    Merged,
    Named,
    Nobody,
    Observation,
    Prompted,
    Redone,
    Split,
    Step,
    Undone,
)
from trackweave.structures.run_summary import MaskSummary
from trackweave.tracking.settings import TrackingSettings

SCENE = toy_scene(
    *(["aa......\naa......\n......bb\n......bb"] * 2),
    *(["..aa....\n..aa....\n......bb\n......bb"] * 2),
    *(["....aa..\n....aa..\n......bb\n......bb"] * 2),
)
"""One object moves, the other stays; `static` keeps both where they are, so it loses the first."""


def mask_of(frame: int, letter: str) -> tuple[tuple[int, int], str]:
    """Where an object is, as a prompt has it."""
    code = encode_rle(PackedMasks.from_bool(SCENE.mask(frame, letter)))[0]
    return (code["size"][0], code["size"][1]), code["counts"]


AGAIN = Prompted(2, "Ann", mask=mask_of(2, "a"), of=Observation(2, 1))
"""The first object where it is on frame 2."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own")
    frames, candidates = write_frames(SCENE, root / "frames"), candidates_of(SCENE, root / "candidates", [0])
    settings = TrackingSettings(cuts="ignore", render_viz=False)
    track_masks(frames, root / "run", candidates=candidates, predictor="static", settings=settings)
    report(root / "run")
    return root / "run"


@pytest.fixture
def run(own: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    for name, content in contents(own).items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_bytes(content)
    return tmp_path / "run"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run, but for its answers and what a redo needs."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "corrections.jsonl"]
    named = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {name: content for name, content in named.items() if not name.startswith("prompted/")}


def areas(run: Run, number: int, letter: str) -> list[int]:
    """By frame: how many pixels of an object's mask are a letter's."""
    tracks = run.tracks().of(number)
    assert tracks.masks is not None
    inside = dict(zip(tracks.frame.tolist(), tracks.masks.to_bool(), strict=True))
    return [int((inside[f] & SCENE.mask(f, letter)).sum()) if f in inside else -1 for f in range(len(SCENE.labels))]


def test_nothing_said_changes_no_byte(run: Path, own: Path) -> None:
    correct(run)
    assert contents(run) == contents(own)
    assert not (run / "corrections.jsonl").exists()


def test_a_prompt_mends_one_object_and_undo_gives_the_bytes_before(run: Path, own: Path) -> None:
    assert areas(open_run(run), 1, "a") == [64, 64, 0, 0, 0, 0]
    result = correct(run, [AGAIN, Prompted(4, "Ann", mask=mask_of(4, "a"))])
    # `static` copies a prompt backward, too: the second one to the frame behind the first.
    assert areas(result, 1, "a") == [0, 0, 64, 0, 64, 64]
    assert areas(result, 2, "b") == [64] * 6
    assert result.summary.extra["corrections"] == {"acts": 2, "names": {"1": "Ann"}}
    before = contents(run)
    correct(run, [Undone(), Undone()])
    assert contents(run) == contents(own)
    assert len(list(run.glob("prompted/*.npz"))) == 2
    correct(run, [Redone(), Redone()])
    assert contents(run) == before
    correct(run, [Undone(), Undone(), Named(Observation(0, 2), "Bob"), Undone()])
    assert {**contents(run), "report.html": b""} == {**contents(own), "report.html": b""}


def test_what_is_accepted_stops_a_prompt(run: Path) -> None:
    with open_proofreading(run) as proofreading:
        assert isinstance(proofreading, MaskProofreading)
        proofreading.accept(0, 1)
        proofreading.say(AGAIN)
        with pytest.raises(InputError, match="is on its way"):
            proofreading.accept(4, 5)
        assert (proofreading.pending_count, proofreading.propagate()) == (4, 1)
        result = proofreading.write()
    assert areas(result, 1, "a") == [64, 64, 64, 64, 0, 0]
    with open_proofreading(run) as proofreading, pytest.raises(InputError, match="frames 0 to 1 are accepted"):
        proofreading.say(Nobody(Observation(5, 2)))


def test_a_stretch_is_accepted_as_it_is_after_the_prompts_before_it(run: Path) -> None:
    result = correct(run, [AcceptedAsIs(0, 1), AGAIN, AcceptedAsIs(2, 3)])
    assert areas(result, 1, "a") == [64, 64, 64, 64, 0, 0]
    first, _, second = read_corrections(run / "corrections.jsonl").acts
    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    assert [len(act.tracks) for act in (first, second)] == [2, 2]
    again = correct(run, [AcceptedAsIs(0, 1), AGAIN, AcceptedAsIs(2, 3), Named(Observation(0, 2), "Bob")])
    assert again.summary.extra["corrections"] == {"acts": 4, "names": {"1": "Ann", "2": "Bob"}}


def test_every_reader_sees_the_corrected_objects(run: Path, own: Path, tmp_path: Path) -> None:
    split = Split(Observation(1, 1), Observation(2, 1))
    result = correct(run, [split, Named(Observation(0, 2), "Bob"), Ended(Observation(3, 2))])
    tracks = result.tracks()
    assert tracks.track_ids.tolist() == [1, 2, 3] == read_tracks(run / "tracks.mot.txt").track_ids.tolist()
    assert tracks.of(1).frame.tolist() == [0, 1]
    assert tracks.of(2).frame.tolist() == [0, 1, 2, 3]
    export(run, "mot", tmp_path / "out.txt")
    exported = read_tracks(tmp_path / "out.txt")
    assert exported.track_id.tolist() == tracks.track_id.tolist()
    assert result.summary.totals["objects"] == 3
    assert isinstance(result.summary, MaskSummary)
    assert [track.track_id for track in result.summary.levels[result.levels[0]].tracks] == [1, 2, 3]
    assert json.loads((run / "index.json").read_text())["objects"] == {
        "1": [0, 1], "2": [0, 1, 2, 3], "3": [2, 3, 4, 5]
    }  # fmt: skip
    assert report(run).read_bytes() != (own / "report.html").read_bytes()
    assert open_run(run).tracks(raw=True).track_id.tolist() == open_run(own).tracks(raw=True).track_id.tolist()


def test_relate_keeps_what_was_said_whatever_its_settings(run: Path) -> None:
    acts: list[Step] = [Merged(Observation(0, 1), Observation(0, 2)), Split(Observation(3, 1), Observation(4, 1))]
    correct(run, acts)
    once = contents(run)
    for settings in (IdentitySettings(merge=False, nest=False), False):
        related = relate(run, settings)
        assert related.tracks().track_id.tolist() == [1, 1, 1, 1, 4, 4]
        assert read_tracks(run / "tracks.mot.txt").track_id.tolist() == [1, 1, 1, 1, 4, 4]
        assert related.summary.extra["corrections"]["acts"] == 2
    relate(run)
    assert {**contents(run), "report.html": b""} == {**once, "report.html": b""}


def test_a_new_object_and_what_becomes_of_a_removed_one(run: Path) -> None:
    result = correct(run, [Nobody(Observation(0, 2)), Prompted(5, "Zoe", box=(0, 0, 8, 8))])
    assert result.tracks().track_ids.tolist() == [4]  # it covers the first one, which is as large
    assert result.tree().identity.tolist() == [1, 4]


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (Prompted(2, "Ann", box=(90, 0, 99, 8)), "outside the frame of 32×16"),
        (Prompted(2, "Ann", points=((3.0, 3.0, 0),)), "outside of the object only"),
        (Prompted(2, "Ann", mask=((8, 8), "P2")), "its mask is"),
        (Prompted(9, "Ann", box=(0, 0, 8, 8)), "frame 9 is none of the run's"),
    ],
)
def test_what_is_no_prompt_is_refused_before_it_is_written_down(run: Path, prompt: Prompted, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        correct(run, [prompt])
    assert not (run / "corrections.jsonl").exists()


def test_a_prompt_that_is_not_propagated_is_refused_by_readers(run: Path) -> None:
    with open_proofreading(run) as proofreading:
        proofreading.say(AGAIN)
        proofreading.write()
        with pytest.raises(RunFolderError, match="another process writes down answers"), MaskProofreading(run):
            pass
    with pytest.raises(ArtifactError, match="prompt of Ann on frame 2 is not propagated yet"):
        open_run(run).tracks()
    assert any(warning.code == "prompt-pending" for warning in open_run(run).warnings)
    result = correct(run)
    assert areas(result, 1, "a")[2:4] == [64, 64]
    assert not any(warning.code == "prompt-pending" for warning in result.warnings)


def test_one_object_is_moved_and_the_session_stays_open(run: Path) -> None:
    predictor = BoundedPredictor()
    with open_proofreading(run, predictor=predictor) as proofreading:
        assert isinstance(proofreading, MaskProofreading)
        for frame in (2, 4):
            proofreading.say(Prompted(frame, "Ann", mask=mask_of(frame, "a"), of=Observation(0, 1)))
            proofreading.propagate()
        assert len(predictor.sessions) == 1
        proofreading.say(Prompted(0, "Bob", mask=mask_of(0, "b"), of=Observation(0, 2)))
        with pytest.raises(StoppedError):
            proofreading.propagate(stop=lambda: True)
        assert (len(proofreading.pending), proofreading.propagate()) == (1, 1)


def test_frames_and_predictors_that_are_gone_are_named(run: Path, tmp_path: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["predictor"]["reason"] = "given by the caller"
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="was given as an object"):
        correct(run, [AGAIN])
    manifest["predictor"]["reason"] = "asked for"
    (run / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="other"):
        correct(run, frames=tmp_path / "other")
    with pytest.raises(InputError, match="are not those of the run"):
        correct(run, frames=toy_scene("..", "aa").frames)
    assert areas(correct(run, frames=write_frames(SCENE, tmp_path / "moved")), 1, "a")[2] == 64
    correct(run, [Undone(), Prompted(3, "Ann", mask=mask_of(3, "a"))], frames=SCENE.frames)


@pytest.mark.parametrize(
    ("part", "key"), [("config", "settings"), ("predictor", "settings"), ("config", "predictor_identity")]
)
@pytest.mark.parametrize("value", [{"cuts": "x", "max_propagate": "1e5"}, {"max_propagate": "1e5"}, 3, ["a"]])
def test_a_damaged_manifest_is_named(run: Path, part: str, key: str, value: object) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["predictor"]["name"] = "flow"
    manifest[part][key] = value
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises((ArtifactError, PredictorUnavailable), match=r"manifest\.json: its") as caught:
        correct(run, [AGAIN])
    assert "\n" not in str(caught.value)
    if part == "config":
        with pytest.raises((ArtifactError, PredictorUnavailable), match=r"manifest\.json: its"):
            correct(run)  # what was said waits


@pytest.mark.parametrize("row", [["x"], {"inner": 1}, {"inner": [1], "outer": 2, "share": 1, "frames": 1}, 7])
def test_damaged_relations_are_named(run: Path, row: object) -> None:
    path = run / "relations.json"
    relations = json.loads(path.read_text())
    path.write_text(json.dumps({**relations, "containment": [row]}))
    with pytest.raises(ArtifactError, match=r"relations\.json: is damaged: what lies in what"):
        correct(run, [Named(Observation(0, 2), "Bob")])


def test_questions_say_what_is_known_and_no_more(run: Path) -> None:
    with open_proofreading(run) as proofreading:
        (first, *_) = asked = proofreading.questions()
        record = json.loads(json.dumps(first.to_json()))
        assert {"kind", "at", "doubt", "repair", "evidence"} <= record.keys()
        assert record["evidence"]["disagreement"] is None
        assert [one.repair for one in asked] == sorted((one.repair for one in asked), reverse=True)
        assert first.at not in [one.at for one in proofreading.questions(skip=[first.at])]
        proofreading.accept(0, 5)
        assert proofreading.questions() == []


KILLED = """
import os, signal, sys
from trackweave.pipelines.corrections import correct
from trackweave.storage import mask_archive, npz, result_log
left = int(sys.argv[2])
def dying(function):
    def call(*arguments, **more):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **more)
    return call
for owner, name in ((result_log.ResultJournal, "append"), (result_log.ResultJournal, "commit"),
                    (result_log.ResultJournal, "remove"), (npz.NpzWriter, "add_array")):
    setattr(owner, name, dying(getattr(owner, name)))
correct(sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
@pytest.mark.parametrize("operations", [2, 9, 20])
def test_a_kill_loses_no_act_and_the_side_archive_ends_with_the_same_bytes(run: Path, operations: int) -> None:
    with MaskProofreading(run) as proofreading:
        proofreading.say(AGAIN)
        archive = run / "prompted" / f"{proofreading.pending[0].key}.npz"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", KILLED, run, str(operations)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert read_corrections(run / "corrections.jsonl").acts == (AGAIN,)
    if archive.exists():
        open_run(run).tracks()
    else:
        with pytest.raises(ArtifactError, match="not propagated yet"):
            open_run(run).tracks()
    result = correct(run)
    assert not list(run.glob("journal/prompt_*"))
    first = archive.read_bytes()
    archive.unlink()
    correct(run)
    assert archive.read_bytes() == first
    np.testing.assert_equal(areas(result, 1, "a"), [0, 0, 64, 64, 0, 0])


@pytest.mark.parametrize("seed", range(8))
def test_edited_tracks_hold_whatever_they_are(run: Path, seed: int) -> None:
    """Ids that change on any frame, and objects left out: the run shows them so, and undo takes it back."""
    rng = np.random.default_rng(seed)
    with open_proofreading(run) as proofreading:
        own = proofreading.tracks
        per_frame = [rng.permutation([1, 2, 7, 900])[: int((own.frame == frame).sum())] for frame in own.frames]
        left = rng.random(len(own)) < 0.8
        edited = replace(own[left], track_id=np.concatenate(per_frame)[left])
        found = proofreading.accept_edited(edited)
        now = proofreading.tracks
        now = now[(now.frame >= found.first) & (now.frame <= found.last)]
        np.testing.assert_array_equal(now.frame, edited.frame)
        np.testing.assert_array_equal(now.track_id, edited.track_id)
        assert found.moved == found.drawn == 0
        if found.renamed or found.removed:
            proofreading.say(Undone())
        np.testing.assert_array_equal(proofreading.tracks.track_id, own.track_id)
