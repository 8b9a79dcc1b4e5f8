"""`trackweave ask` and `trackweave correct` as their user meets them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.cli.shell import Shell
from tests.toy_boxes import make_sequence
from tests.toy_scenes import CROSSING, candidates_of, write_frames
from trackweave.formats.readers import read_tracks
from trackweave.pipelines.run import open_run
from trackweave.storage.samples import read_sample
from trackweave.structures.tracks import Tracks


def test_from_questions_to_corrected_tracks(shell: Shell, tmp_path: Path) -> None:
    run, answers = tmp_path / "run", tmp_path / "answers.jsonl"
    assert shell("boxes", make_sequence(tmp_path / "toy"), "-o", run, "--tracker", "adaptive").code == 0
    asked = shell("ask", run)
    forecast, first, _ = asked.out.splitlines()
    assert (asked.code, first) == (0, "frame 6, box 0: track 1? doubt 50%, repairs 6 boxes")
    assert forecast == "about 0 identity switches in its tracks (0 to 1)"
    record = json.loads(shell("ask", run, "--json", "--count", 1).out)
    assert (record["schema_version"], record["acts"]) == (1, 0)
    assert 0 <= record["switches"]["low"] <= record["switches"]["expected"] <= record["switches"]["high"] <= 1
    summary = json.loads((run / "summary.json").read_text())
    assert summary["expected_switches"] == record["switches"]
    (question,) = record["questions"]
    answers.write_text(json.dumps({"act": "name", "at": question["at"], "name": "Ann"}) + "\n")
    corrected = shell("correct", run, "--answers", answers)
    assert (corrected.code, corrected.err) == (0, "")
    assert corrected.out.splitlines() == ["1 acts in force, 1 names; 2 tracks", f"report: {run / 'report.html'}"]
    assert json.loads(shell("correct", run, "--json").out)["corrections"] == {"acts": 1, "names": {"1": "Ann"}}
    assert json.loads((run / "summary.json").read_text())["expected_switches"] is None
    answers.write_text('{"act": "undo"}\n')
    assert shell("correct", run, "--answers", answers).out.startswith("0 acts in force, 0 names; 2 tracks")


def test_answers_become_the_truth_of_samples(shell: Shell, tmp_path: Path) -> None:
    run, samples, taught = tmp_path / "run", tmp_path / "samples", tmp_path / "taught"
    shell("boxes", make_sequence(tmp_path / "toy"), "-o", run, "--tracker", "adaptive", "--log-dir", samples)
    refused = shell("correct", run, "--samples", samples)
    assert (refused.code, "--labelled where they go" in refused.err) == (2, True)
    refused = shell("correct", run, "--samples", samples, "--labelled", taught)
    assert (refused.code, "nobody named an object" in refused.err) == (1, True)
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"act": "name", "at": [6, 0], "name": "Ann"}\n')
    done = shell("correct", run, "--answers", answers, "--samples", samples, "--labelled", taught)
    before = [read_sample(path) for path in sorted(samples.glob("*.npz"))]
    after = [read_sample(path) for path in sorted(taught.glob("*.npz"))]
    assert (done.code, f"samples with answers: {len(before)} in {taught}" in done.out) == (0, True)
    ann = int(before[0].assigned_track_ids[0])
    for old, new in zip(before, after, strict=True):
        assert new.gt_track_ids is not None
        assert new.gt_track_ids.tolist() == [ann if one == ann else -1 for one in old.assigned_track_ids.tolist()]
        assert new.metadata.label_source == "person"
    again = shell("correct", run, "--labelled", tmp_path / "again")  # the run says where it logged them
    assert (again.code, len(list((tmp_path / "again").glob("*.npz")))) == (0, len(before))
    refused = shell("correct", run, "--samples", samples, "--labelled", samples)
    assert (refused.code, "name another folder" in refused.err) == (1, True)


def test_what_cannot_be_is_refused(shell: Shell, tmp_path: Path) -> None:
    run, answers = tmp_path / "run", tmp_path / "answers.jsonl"
    shell("boxes", make_sequence(tmp_path / "toy"), "-o", run, "--tracker", "adaptive")
    answers.write_text('{"act": "rename", "at": [0, 0]}\n')
    refused = shell("correct", run, "--answers", answers)
    assert (refused.code, refused.out) == (1, "")
    assert f"{answers}, line 1: an act is one of name, nobody" in refused.err
    answers.write_text('{"act": "name", "at": [70, 0], "name": "Ann"}\n')
    refused = shell("correct", run, "--answers", answers)
    assert (refused.code, "frame 70 has no box 0 of a track" in refused.err) == (1, True)
    assert shell("ask", tmp_path).code == 1


def test_masks_are_asked_about_and_corrected(shell: Shell, tmp_path: Path) -> None:
    frames, candidates, run = tmp_path / "frames", tmp_path / "candidates", tmp_path / "masks"
    write_frames(CROSSING, frames)
    candidates_of(CROSSING, candidates, [0])
    shell("masks", frames, "--candidates", candidates, "-o", run, "--predictor", "static", "--no-viz")
    asked = shell("ask", run)
    assert (asked.code, "is its mask right?" in asked.out) == (0, True)
    record = json.loads(shell("ask", run, "--json", "--count", 1).out)
    assert (record["acts"], record["switches"], len(record["questions"])) == (0, None, 1)
    answers = tmp_path / "answers.jsonl"
    prompt = {"act": "prompt", "frame": 1, "name": "Ann", "of": [1, 1], "box": [8, 0, 16, 8]}
    answers.write_text(json.dumps(prompt) + "\n")
    corrected = shell("correct", run, "--answers", answers)
    assert (corrected.code, "1 acts in force, 1 names; 2 tracks" in corrected.out) == (0, True)
    shutil.rmtree(frames)
    answers.write_text(json.dumps({**prompt, "frame": 2}) + "\n")
    refused = shell("correct", run, "--answers", answers)
    assert (refused.code, "--frames" in refused.err) == (1, True)
    write_frames(CROSSING, tmp_path / "moved")
    assert shell("correct", run, "--frames", tmp_path / "moved").code == 0


def test_ids_that_were_changed_elsewhere_come_back(shell: Shell, tmp_path: Path) -> None:
    """Of boxes and of masks: out to CVAT, two ids changed there and an object deleted, and back."""
    frames, candidates = write_frames(CROSSING, tmp_path / "frames"), candidates_of(CROSSING, tmp_path / "seen", [0])
    for kind in ("boxes", "masks"):
        run, sheet = tmp_path / kind, tmp_path / f"{kind}.xml"
        source = (make_sequence(tmp_path / "toy"),) if kind == "boxes" else (frames, "--candidates", candidates)
        chosen = ("--tracker", "adaptive") if kind == "boxes" else ("--predictor", "static", "--cuts", "ignore")
        assert shell(kind, *source, "-o", run, *chosen).code == 0
        assert shell("export", run, "--to", "cvat", "-o", sheet).code == 0
        own = read_tracks(sheet, with_masks=False)
        unchanged = shell("correct", run, "--tracks", sheet)
        assert unchanged.out.startswith(f"{sheet}: 0 ids changed, 0 objects removed"), unchanged.err
        first, second = own.track_ids[:2].tolist()
        ids = np.where(own.track_id == first, 900, own.track_id)
        late = own.frame >= own.frame[-1] - 1
        ids = np.where(late & (own.track_id == second), 900, ids)
        left = ~(late & (own.track_id == first))
        edited = replace(own[left], track_id=ids[left])
        write_csv(tmp_path / "edited.csv", edited)
        done = shell("correct", run, "--tracks", tmp_path / "edited.csv")
        assert (done.code, "not taken over" in done.err) == (0, False), done.err
        assert "objects removed" in done.out
        after = open_run(run).tracks()
        pairs = zip(after.frame.tolist(), after.track_id.tolist(), strict=True)
        assert set(pairs) == set(zip(edited.frame.tolist(), edited.track_id.tolist(), strict=True))
        (tmp_path / "undo.jsonl").write_text('{"act": "undo"}\n')
        assert shell("correct", run, "--answers", tmp_path / "undo.jsonl").code == 0
        assert open_run(run).tracks().track_ids.tolist() == own.track_ids.tolist()


def test_tracks_of_another_video_are_refused(shell: Shell, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shell("boxes", make_sequence(tmp_path / "toy"), "-o", run, "--tracker", "adaptive")
    far = Tracks.from_columns([3], [1], [[900, 900, 910, 910]])
    write_csv(tmp_path / "far.csv", far)
    refused = shell("correct", run, "--tracks", tmp_path / "far.csv")
    assert (refused.code, "are they of another video" in refused.err) == (1, True)
    own = open_run(run).tracks()
    moved = replace(own, xyxy=own.xyxy + np.float32(4), track_id=own.track_id + 10)
    more = Tracks.concat([moved, Tracks.from_columns([own.frame[0]], [99], [[900, 900, 910, 910]])])
    write_csv(tmp_path / "moved.csv", more)
    done = shell("correct", run, "--tracks", tmp_path / "moved.csv")
    assert (done.code, f"{len(own)} boxes were moved and 1 drawn there" in done.err) == (0, True), done.err
    assert not (run / "corrections.jsonl").read_text().count("drawn")


def write_csv(path: Path, tracks: Tracks) -> None:
    rows = ["frame,track_id,x1,y1,x2,y2,score"]
    for frame, number, box in zip(tracks.frame.tolist(), tracks.track_id.tolist(), tracks.xyxy.tolist(), strict=True):
        rows.append(",".join(map(str, (frame, number, *box, 1.0))))
    path.write_text("\n".join(rows) + "\n")
