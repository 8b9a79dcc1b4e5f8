"""`trackweave ask` and `trackweave correct` as their user meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.cli.shell import Shell
from tests.toy_boxes import make_sequence
from tests.toy_scenes import CROSSING, candidates_of, write_frames
from trackweave.storage.samples import read_sample


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
    assert (refused.code, "belong together" in refused.err) == (2, True)
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
