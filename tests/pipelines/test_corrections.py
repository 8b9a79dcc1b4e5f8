"""A run of boxes and what a person says about it: journal, files, kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.toy_boxes import make_sequence
from trackweave.corrections.doubt import link_doubt
from trackweave.errors import ArtifactError, InputError, RunFolderError
from trackweave.exporters import export
from trackweave.formats.readers import read_tracks
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.corrections import Proofreading, correct
from trackweave.pipelines.run import open_run
from trackweave.reports.page import report
from trackweave.storage.corrections import read_corrections, read_steps
from trackweave.storage.files import replacing
from trackweave.structures.corrections import Accepted, Named, Nobody, Observation, Prompted, Split, Step, Undone

ANN, BOB = Named(Observation(3, 0), "Ann"), Named(Observation(8, 1), "Bob")
MISSED = Prompted(5, "Ann", box=(1.0, 2.0, 30.0, 40.0))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two tracks on twelve frames."""
    root = tmp_path_factory.mktemp("own")
    track_boxes(make_sequence(root / "toy"), root / "run", tracker="adaptive")
    report(root / "run")
    return root / "run"


@pytest.fixture
def run(own: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name, content in contents(own).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run, but for its answers."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "corrections.jsonl"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_nothing_said_changes_no_byte(run: Path, own: Path) -> None:
    correct(run)
    assert contents(run) == contents(own)
    assert not (run / "corrections.jsonl").exists()


def test_undo_gives_the_bytes_before(run: Path, own: Path) -> None:
    correct(run, [ANN, BOB])
    before = contents(run)
    correct(run, [Nobody(Observation(2, 1)), MISSED])
    assert contents(run) != before
    correct(run, [Undone(), Undone()])
    assert contents(run) == before
    correct(run, [Undone(), Undone()])
    report(run)
    assert contents(run) == contents(own)
    assert len(read_corrections(run / "corrections.jsonl").steps) == 8


def test_every_reader_sees_the_corrected_tracks(run: Path, own: Path, tmp_path: Path) -> None:
    split = Split(Observation(5, 0), Observation(6, 0))
    result = correct(run, [split, Named(Observation(9, 0), "Ann"), MISSED])
    tracks = result.tracks()
    assert tracks.track_ids.tolist() == [1, 2, 4] == read_tracks(run / "tracks.mot.txt").track_ids.tolist()
    export(run, "mot", tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_bytes() == (run / "tracks.mot.txt").read_bytes()
    assert result.summary.totals["tracks"] == 3
    assert result.summary.totals["boxes"] == len(tracks) == len(open_run(own).tracks()) + 1
    assert result.summary.extra["corrections"] == {"acts": 3, "names": {"1": "Ann"}}
    assert report(run).read_bytes() != (own / "report.html").read_bytes()
    with result.archive() as archive:
        rows = archive.rows()
    drawn = rows.tracks.frame == 5
    assert rows.detection[drawn & (rows.tracks.track_id == 1)].tolist() == [-1]
    assert rows.tracks.xyxy[drawn & (rows.tracks.track_id == 1)].tolist() == [[1, 2, 30, 40]]


def test_say_is_on_the_disk_and_decides_at_once(run: Path) -> None:
    with Proofreading(run) as proofreading:
        assert proofreading.say(ANN) == 1
        assert read_corrections(run / "corrections.jsonl").acts == (ANN,)
        assert set(proofreading.names.values()) == {"Ann"}
        with pytest.raises(InputError, match="frame 99 has no box 0"):
            proofreading.say(Named(Observation(99, 0), "Ann"))
        assert proofreading.accept(0, 5) == 2
        with pytest.raises(InputError, match="accepted as Ann"):
            proofreading.say(Named(Observation(3, 0), "Bob"))
        with pytest.raises(InputError, match="frame 3 is accepted"):
            proofreading.say(Nobody(Observation(3, 0)))
        with pytest.raises(InputError, match="frame 1 lies before"):
            proofreading.accept(2, 1)
        with pytest.raises(RunFolderError, match="another process writes down answers"), Proofreading(run):
            pass
        assert len(proofreading.corrections.steps) == 2
        tracks = proofreading.tracks
        assert len(proofreading.items) == len(tracks)
    assert open_run(run).summary.totals["tracks"] == 2  # until it is written, the run's files are as they were
    assert correct(run).tracks().track_id.tolist() == tracks.track_id.tolist()


def test_a_stretch_is_accepted_in_a_file_as_it_is(run: Path, tmp_path: Path) -> None:
    """`accept` without tracks; the file is read again when it has grown."""
    answers = tmp_path / "answers.jsonl"
    lines = ['{"act": "name", "at": [3, 0], "name": "Ann"}', '{"act": "accept", "first": 0, "last": 5}']
    answers.write_text("\n".join(lines))
    correct(run, read_steps(answers))
    said = read_corrections(run / "corrections.jsonl").acts
    assert isinstance(said[1], Accepted)
    assert [len(track.observations) for track in said[1].tracks] == [6, 6]
    answers.write_text("\n".join([*lines, '{"act": "nobody", "at": [9, 1]}', '{"act": "nobody", "at": [3, 1]}']))
    with pytest.raises(InputError, match=r"frame 3 is accepted.*\(act 4 of 4; those before it hold\)"):
        correct(run, read_steps(answers))
    assert len(read_corrections(run / "corrections.jsonl").steps) == 3
    answers.write_text('{"act": "accept", "first": 5, "last": 0}')
    with pytest.raises(InputError, match="line 1: act accept: its tracks are seen from frame 5 to frame 0"):
        read_steps(answers)


def test_links_are_those_of_the_tracks_and_answers_settle_them(run: Path) -> None:
    with Proofreading(run) as proofreading:
        links, tracks = proofreading.links, proofreading.tracks
        assert np.array_equal(links.doubt, link_doubt(tracks).doubt)
        linked = links.previous >= 0
        assert np.array_equal(tracks.track_id[links.previous[linked]], tracks.track_id[linked])
        proofreading.say(Nobody(Observation(0, 0)))
        proofreading.accept(0, 5)
        links, tracks = proofreading.links, proofreading.tracks
        linked = links.previous >= 0
        assert np.array_equal(tracks.track_id[links.previous[linked]], tracks.track_id[linked])
        assert links.doubt[tracks.frame <= 5].max() == 0 < links.doubt[tracks.frame > 5].max()


def test_questions_go_on_until_all_is_known(run: Path) -> None:
    with Proofreading(run) as proofreading:
        first = proofreading.questions()
        assert [question.track_id for question in first] == [1, 2]
        assert [question.repair for question in first] == sorted((one.repair for one in first), reverse=True)
        for name, question in zip(("Ann", "Bob"), first, strict=True):
            proofreading.say(Named(question.at, name))
        assert proofreading.questions() == []
        assert proofreading.names == {1: "Ann", 2: "Bob"}
        assert json.dumps([question.to_json() for question in first])
    with Proofreading(run) as proofreading:
        proofreading.say(Undone())
        (again,) = proofreading.questions()
        assert again.at == first[1].at
        assert [(one.name, one.track_id) for one in again.candidates] == [("Ann", 1)]
        assert proofreading.questions(skip=[again.at]) == []


def test_acts_that_do_not_hold_are_warned_of(run: Path) -> None:
    """Answers of another tool are read as they are; what cannot hold is a warning of the run."""
    correct(run, [ANN])
    path = run / "corrections.jsonl"
    line = json.dumps({"n": 2, "act": "nobody", "at": [77, 0]})
    path.write_text(f"{path.read_text()}{line}\n")
    result = correct(run)
    assert [warning.message for warning in result.warnings] == [
        "act 2: frame 77 has no box 0 of a track: it has no effect"
    ]


def test_answers_that_are_read_again_are_said_once(run: Path) -> None:
    """A file that has grown: only the rest is said; one answer alone is the second of its kind, and confirms."""
    correct(run, [ANN, BOB])
    before = contents(run)
    correct(run, [ANN, BOB])
    assert contents(run) == before
    assert len(read_corrections(run / "corrections.jsonl").steps) == 2
    correct(run, [ANN, BOB, Nobody(Observation(2, 1))])
    assert len(read_corrections(run / "corrections.jsonl").steps) == 3
    correct(run, [ANN])
    assert read_corrections(run / "corrections.jsonl").acts[-1] == ANN


def test_an_answer_that_does_not_hold_is_named_and_those_before_it_count(run: Path) -> None:
    with pytest.raises(InputError, match=r"frame 99 has no box 0 of a track \(act 2 of 3; those before it hold\)"):
        correct(run, [ANN, Named(Observation(99, 0), "Ann"), BOB])
    assert open_run(run).summary.extra["corrections"] == {"acts": 1, "names": {"1": "Ann"}}
    assert read_corrections(run / "corrections.jsonl").acts == (ANN,)


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b'{"n": 2, "act": "name", "at": [0, 0], "name": "a\\u0000"}',
        b'{"n": 2, "act": "name", "at": [1e400, 0], "name": "a"}',
        b'{"n": 2, "act": "redo"}',
        b'{"n": 1, "act": "undo"}',
        b'{"n": 2.0, "act": "rename"}',
    ],
)
def test_a_broken_line_is_named_and_nothing_is_touched(run: Path, line: bytes) -> None:
    correct(run, [ANN])
    path = run / "corrections.jsonl"
    path.write_bytes(path.read_bytes() + line + b"\n")
    before = {**contents(run), "corrections.jsonl": path.read_bytes()}
    for use in (lambda: correct(run), lambda: Proofreading(run)):
        with pytest.raises(ArtifactError, match=r"corrections\.jsonl, line 3: damaged"):
            use()
    assert {**contents(run), "corrections.jsonl": path.read_bytes()} == before


def test_answers_of_another_run_are_not_used(run: Path) -> None:
    correct(run, [ANN])
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "fingerprint": "other"}))
    with pytest.raises(ArtifactError, match="about another run"):
        correct(run)


def test_an_overwritten_run_leaves_nothing_of_the_old_one(run: Path, own: Path, tmp_path: Path) -> None:
    correct(run, [ANN, Nobody(Observation(2, 1))])
    track_boxes(make_sequence(tmp_path / "toy"), run, tracker="adaptive", overwrite=True)
    assert not (run / "journal").exists()
    np.testing.assert_array_equal(open_run(run).tracks().track_id, open_run(own).tracks().track_id)
    assert read_corrections(run / "corrections.jsonl").acts  # a person's work is never removed


def test_a_kill_between_any_two_files_is_made_good(run: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was written when the process died: writing again gives the same files, and undoing those of the run."""
    steps: tuple[Step, ...] = (ANN, Split(Observation(5, 1), Observation(6, 1)))
    correct(run, steps)
    whole = contents(run)
    undone = (Undone(),) * len(steps)
    correct(run, undone)
    for count in range(6):
        left = count

        def dying(path: Path) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return replacing(path)

        with monkeypatch.context() as patch:
            for module in ("storage.run", "storage.files", "storage.npz", "formats.mot"):
                patch.setattr(f"trackweave.{module}.replacing", dying)
            with pytest.raises(KeyboardInterrupt):
                correct(run, steps)
        open_run(run).tracks()
        correct(run)
        assert {**contents(run), "report.html": b""} == {**whole, "report.html": b""}
        correct(run, undone)
        assert contents(run) == contents(own)


ANSWERS = """
import sys
from trackweave.pipelines.corrections import Proofreading
from trackweave.structures.corrections import Named, Observation
with Proofreading(sys.argv[1]) as proofreading:
    for n in range(100000):
        print(proofreading.say(Named(Observation(n % 12, n % 2), f"{n % 2}")), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_session_loses_no_confirmed_answer(run: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ANSWERS, run], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for _ in range(20):
            child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        last = [line for line in child.stdout.readlines() if line.endswith(b"\n")]
    confirmed = int(last[-1]) if last else 20
    assert len(read_corrections(run / "corrections.jsonl").steps) >= confirmed
    correct(run)
