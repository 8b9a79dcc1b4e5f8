"""Answers about masks: acts of the page as acts of the journal, prompts in the background, what the page draws."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trackweave.errors import InputError
from trackweave.pipelines.corrections import correct
from trackweave.pipelines.run import open_run
from trackweave.storage.corrections import read_corrections
from trackweave.structures.corrections import Merged, Named, Observation, Prompted, Split
from trackweave.view.mask_answers import MaskAnswers, open_answers
from trackweave.view.opened_run import OpenedRun


@pytest.fixture
def run(moving_run: Path, tmp_path: Path) -> Path:
    """A copy that may be corrected."""
    shutil.copytree(moving_run, tmp_path / "run")
    return tmp_path / "run"


@contextmanager
def answering(run: Path) -> Iterator[tuple[MaskAnswers, OpenedRun]]:
    with OpenedRun(run) as opened, open_answers(opened) as answers:
        assert isinstance(answers, MaskAnswers)
        yield answers, opened


def finished(answers: MaskAnswers) -> dict[str, Any]:
    """The state when nothing is moved any more."""
    deadline = time.monotonic() + 30
    while (state := answers.state())["job"] is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return state


def say(answers: MaskAnswers, **record: Any) -> dict[str, Any]:
    return answers.act({**record, "version": answers.version})


def test_acts_speak_of_objects_and_are_written_down_as_observations(run: Path) -> None:
    with answering(run) as (answers, opened):
        say(answers, act="split", track=1, frame=4)
        say(answers, act="name", track=1, frame=2, name="Ann")
        state = say(answers, act="merge", tracks=[1, 2])
        assert state["names"] == {"1": "Ann"}
        assert sorted(opened.tracks_json()["id"]) == [1, 3]
        say(answers, act="name", track=1, frame=8, name="Bob")  # what has a name is renamed as a whole
        assert answers.state()["names"] == {"1": "Bob"}
        state = say(answers, act="end", track=3, frame=6)
        assert opened.tracks_json()["last"] == [9, 6]
        assert read_corrections(run / "corrections.jsonl").acts[:3] == (
            Split(Observation(3, 1), Observation(4, 1)),
            Named(Observation(2, 1), "Ann"),
            Merged(Observation(0, 1), Observation(0, 2)),
        )
        for _ in range(5):
            answers.act({"act": "undo"})
        assert opened.tracks_json()["id"] == [1, 2]


def test_a_prompt_is_moved_in_the_background_and_drawn(run: Path) -> None:
    with answering(run) as (answers, opened):
        before = opened.objects_json(6, 1, with_masks=True)["frames"][0]
        state = say(answers, act="prompt", frame=5, points=[[78, 56, 1]], track=2)
        assert state["names"] == {"2": "2"}
        state = say(answers, act="prompt", frame=5, box=[28, 54, 40, 66], name="Zoe")
        state = finished(answers)
        assert (state["failed"], state["count"], set(state["names"].values())) == ([], 2, {"2", "Zoe"})
        after = opened.objects_json(6, 1, with_masks=True)["frames"][0]
        assert (len(before["id"]), len(after["id"])) == (2, 3)
        assert all(mask is not None for mask in after["masks"])
        zoe = next(int(track) for track, name in state["names"].items() if name == "Zoe")
        assert after["id"][-1] == zoe
        x1, y1, x2, y2 = after["box"][4 * 2 :]
        assert np.abs(np.array([x1, y1, x2, y2]) - [24, 54, 36, 66]).max() <= 4
        acts = read_corrections(run / "corrections.jsonl").acts
        assert isinstance(acts[0], Prompted)
        assert acts[0].of == Observation(5, 2)
    tracks = open_run(run).tracks()
    assert sorted(set(tracks.track_id.tolist())) == sorted({1, 2, zoe})
    with answering(run) as (answers, opened):
        assert opened.objects_json(6, 1, with_masks=True)["frames"][0]["id"] == after["id"]


def test_a_prompt_that_was_cut_off_goes_on_when_the_run_is_opened_again(run: Path) -> None:
    with answering(run) as (answers, _):
        say(answers, act="prompt", frame=5, box=[28, 54, 40, 66], name="Zoe")
    with answering(run) as (answers, opened):
        finished(answers)
        assert len(opened.tracks_json()["id"]) == 3


def test_a_prompt_that_fails_says_why_and_is_taken_back(run: Path, tmp_path: Path) -> None:
    shutil.move(str(run), tmp_path / "other")
    run = tmp_path / "other"
    manifest = (run / "manifest.json").read_text()
    (run / "manifest.json").write_text(manifest.replace('"reason": "asked for"', '"reason": "given by the caller"'))
    with answering(run) as (answers, opened):
        say(answers, act="prompt", frame=5, box=[28, 54, 40, 66], name="Zoe")
        (failed,) = finished(answers)["failed"]
        assert "was given as an object" in failed["message"]
        assert len(opened.tracks_json()["id"]) == 2
        assert answers.act({"act": "undo"})["failed"] == []


def test_questions_about_masks_are_answered(run: Path) -> None:
    with answering(run) as (answers, _):
        question = answers.state()["questions"][0]
        assert question["kind"] == "mask"
        state = say(answers, act="right", at=question["at"], track=question["track_id"])
        assert question["at"] not in [each["at"] for each in state["questions"]]
        state = say(answers, act="accept", first=0, last=9)
        assert state["questions"] == []


@pytest.mark.parametrize(
    "record",
    [
        {"act": "split", "track": 1, "frame": 0},
        {"act": "split", "track": 7, "frame": 3},
        {"act": "merge", "tracks": [1, 1]},
        {"act": "prompt", "frame": 5, "track": 1},
        {"act": "prompt", "frame": 5, "track": 1, "points": [[4, 4, 0]]},
        {"act": "prompt", "frame": 5, "track": 1, "box": [200, 1, 210, 9]},
        {"act": "prompt", "frame": 50, "name": "Zoe", "box": [1, 1, 9, 9]},
        {"act": "prompt", "frame": 5, "track": 1, "mask": {"size": [5, 5], "counts": "P2"}},
        {"act": "prompt", "frame": 5, "track": 1, "mask": {"size": [72, 96], "counts": "\u20ac"}},
        {"act": "prompt", "frame": 5, "track": 1, "mask": "none"},
        {"act": "right", "at": [77, 1], "track": 1},
    ],
)
def test_what_makes_no_sense_is_refused(run: Path, record: dict[str, Any]) -> None:
    with answering(run) as (answers, _):
        with pytest.raises(InputError):
            say(answers, **record)
        assert answers.state()["count"] == 0
    assert not (run / "corrections.jsonl").exists()
    correct(run)
