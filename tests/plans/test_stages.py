"""The stages of one item, in this process: what a cut-off stage goes on from, and what failures are called."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.plans.toy import assert_same_results, write_scenes
from trackweave.errors import (
    FrameError,
    MissingExtraError,
    PredictorError,
    PredictorOutOfMemory,
    RunFolderError,
    SettingError,
)
from trackweave.options.sources import ProvidedValue
from trackweave.plans import stages
from trackweave.plans.stages import Job, StageRecord, kind_of, run_stages
from trackweave.predictors.registry import ChosenPredictor
from trackweave.predictors.static import StaticPredictor


def job_of(scenes: Path, output: Path, values: Mapping[str, Any] | None = None) -> Job:
    name = "s1"
    scene = scenes / name
    given = {"masks.predictor": "static", **(values or {})}
    return Job(
        name,
        "runs",
        "masks",
        {"input": str(scene / "frames"), "candidates": str(scene / "candidates")},
        {key: ProvidedValue(value, "plan") for key, value in given.items()},
        ("propose", "track", "identity", "report"),
        (),
        str(output / "runs" / name),
        str(output / "shared"),
    )


def done(job: Job) -> dict[str, StageRecord]:
    return {outcome.stage: outcome for outcome in run_stages(job) if isinstance(outcome, StageRecord)}


def test_a_cut_off_item_goes_on_inside_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = write_scenes(tmp_path / "scenes", "s1")
    whole = done(job_of(scenes, tmp_path / "whole"))
    assert [record.kind for record in whole.values()] == [None] * 3

    class Dying(StaticPredictor):
        """Fails in the second prompt batch."""

        opened = 0

        def open(self, frames: Any) -> Any:
            session, propagate, batches = super().open(frames), None, [0]
            propagate = session.propagate

            def counted(*args: Any, **options: Any) -> Any:
                batches[0] += 1
                if batches[0] > 2:  # forward and backward of the first
                    raise PredictorError("dies")
                return propagate(*args, **options)

            session.propagate = counted  # type: ignore[method-assign]
            return session

    choose = stages._predictor
    monkeypatch.setattr(stages, "_predictor", lambda _: ChosenPredictor(Dying(), "static", "asked for"))
    cut = job_of(scenes, tmp_path / "cut")
    failed = done(cut)
    assert failed["track"].kind == "predictor"
    journals = list((tmp_path / "cut" / "runs" / "s1" / "journal").glob("*.cohorts"))
    assert journals  # it is kept what was finished
    monkeypatch.setattr(stages, "_predictor", choose)
    again = done(cut)
    assert again["track"].kind is None
    assert_same_results(tmp_path / "cut", tmp_path / "whole")


def test_records_say_what_is_done_and_other_settings_do_the_stage_again(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "scenes", "s1")
    job = job_of(scenes, tmp_path / "out")
    assert not any(record.is_reused for record in done(job).values())
    assert all(record.is_reused for record in done(job).values())
    other = done(job_of(scenes, tmp_path / "out", {"identity.merge_iou": 0.77}))
    assert [stage for stage, record in other.items() if record.is_reused] == ["track"]
    other = done(job_of(scenes, tmp_path / "out", {"tracking.max_propagate": 1}))
    assert not any(record.is_reused for record in other.values())
    (tmp_path / "out" / "runs" / "s1" / "stages" / "record.json").write_text("{damaged")
    assert not any(record.is_reused for record in done(job_of(scenes, tmp_path / "out")).values())


def test_a_fault_of_the_program_is_one_line_and_its_stack_lies_beside_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(settings: object) -> ChosenPredictor:
        raise ZeroDivisionError("of two lines\nand s3://me:pw@host")

    monkeypatch.setattr(stages, "_predictor", fails)
    record = done(job_of(write_scenes(tmp_path / "scenes", "s1"), tmp_path / "out"))["track"]
    stack = tmp_path / "out" / "runs" / "s1" / "stages" / "error.txt"
    assert record.kind == "internal error"
    assert record.message.startswith("ZeroDivisionError: of two lines and s3://…@host (test_stages.py:")
    assert "pw" not in stack.read_text()


def _caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (_caused(RunFolderError("x"), OSError(errno.ENOSPC, "full")), "disk full"),
        (RunFolderError("x"), "artifact"),
        (FrameError("x"), "input"),
        (PredictorOutOfMemory("x"), "memory"),
        (MemoryError(), "memory"),
        (PredictorError("x"), "predictor"),
        (MissingExtraError("torch", "train"), "not installed"),
        (SettingError("x"), "setting"),
        (PermissionError(errno.EACCES, "no"), "file system"),
        (KeyError("x"), "internal error"),
    ],
)
def test_kinds_of_failures(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind


def test_a_record_comes_back_from_json() -> None:
    record = StageRecord("track", "k", 1.5, 2.0, None, {"tracks": 3}, None, "")
    loaded: Mapping[str, Any] = record.to_json()
    assert StageRecord.from_json(loaded) == record
