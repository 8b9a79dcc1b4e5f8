"""Plan files: what they may say, and what is said of those that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trackweave.errors import InputError, SettingError
from trackweave.plans.settings import load_plan, redacted


def plan_of(**more: Any) -> dict[str, Any]:
    return {"name": "p", "inputs": ["clip.mp4"], "output": "out", **more}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"inputz": []}, "plan: there is no setting inputz; did you mean inputs?"),
        ({"inputs": []}, "plan: inputs: there is none"),
        ({"inputs": [{"paths": "a"}]}, "plan: inputs, entry 1: there is no setting paths; did you mean path?"),
        ({"inputs": [{"truth": "a"}]}, "plan: inputs, entry 1: has one of path, paths_from, table, scenes"),
        (
            {"inputs": [{"scenes": {"root": "a", "frame": "b"}}]},
            "plan: inputs, entry 1: scenes: there is no setting frame; did you mean frames?",
        ),
        (
            {"stages": {"detect": True}},
            "plan: stages: there is no stage detect; those of masks are propose, filter, track, identity, export, "
            "evaluate, report",
        ),
        ({"stages": {"export": True}}, "plan: stages: export: needs `to`, a format or several, such as [davis, mot]"),
        ({"stages": {"track": False}}, "plan: stages: track: cannot be off: the stages behind it read what it writes"),
        ({"stages": {"track": 3}}, "plan: stages: track: is on, off, or on with its settings, not 3"),
        (
            {"stages": {"track": {"tracking.max_propagat": 3}}},
            "plan: stages: track: there is no setting tracking.max_propagat; did you mean tracking.max_propagate?",
        ),
        (
            {"kind": "boxes", "settings": {"tracker": {"presett": "sort"}}},
            "plan: settings: there is no setting tracker.presett; did you mean tracker.preset?",
        ),
        ({"settings": {"tracking": {"max_propagate": -1}}}, "plan: settings: tracking.max_propagate: "),
        ({"matrix": {"levels": 2}}, "plan: matrix: levels: is a list of values, not 2"),
        ({"matrix": {"predictor": ["flow", "flow"]}}, "plan: matrix: two combinations are called flow"),
        ({"engine": {"worker": 2}}, "plan: engine: there is no setting worker; did you mean workers?"),
        ({"engine": {"name": "dask"}}, "plan: engine: name: "),
        (
            {"kind": "association", "output_layout": "flat"},
            "plan: output_layout: is of runs, and a plan of association has none",
        ),
        ({"kind": "association", "stages": {"build": False}}, "plan: stages: build: cannot be off: "),
        (
            {"kind": "association", "stages": {"train": {"start": 3}}},
            "plan: stages: train: start: is a checkpoint or default, not 3",
        ),
        ({"output_layout": "flatt"}, "plan: output_layout: "),
    ],
)
def test_what_is_wrong_is_said_in_one_line(more: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        load_plan(plan_of(**more))
    assert str(caught.value).startswith(message)


def test_formats_are_checked_before_anything_runs() -> None:
    with pytest.raises(SettingError, match=r"plan: stages: export: to: .*davs"):
        load_plan(plan_of(stages={"export": {"to": ["davs"]}}))


def test_a_matrix_makes_every_combination() -> None:
    plan = load_plan(plan_of(matrix={"predictor": ["flow", "static"], "levels": [[2], [2, 4]]}))
    assert [variant.name for variant in plan.variants] == [
        "flow-levels2",
        "flow-levels2+4",
        "static-levels2",
        "static-levels2+4",
    ]
    settings = plan.resolved(plan.variants[1], {})
    assert settings.value("masks.levels") == [2, 4]
    assert settings.origin("masks.levels") == "plan: matrix"


def test_settings_of_stages_and_of_the_command_line_are_over_those_of_all(tmp_path: Path) -> None:
    file = tmp_path / "scan.yaml"
    file.write_text(
        "inputs: [clip.mp4]\n"
        "settings: {tracking: {max_propagate: 5, iou_threshold: 0.4}}\n"
        "stages: {track: {tracking.max_propagate: 7}, report: off}\n"
    )
    plan = load_plan(file, output=tmp_path / "out", pairs=["tracking.iou_threshold=0.5"], workers=3)
    settings = plan.resolved(plan.variants[0], {})
    assert (settings.value("tracking.max_propagate"), settings.value("tracking.iou_threshold")) == (7, 0.5)
    assert settings.origin("tracking.max_propagate") == f"plan {file}: stages: track"
    assert (plan.name, plan.engine.workers) == ("scan", 3)
    assert plan.stages == ("propose", "track", "identity", "evaluate")


def test_a_file_that_is_no_plan(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_plan(tmp_path / "gone.yaml")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(SettingError, match="a plan is keys with values, not list"):
        load_plan(tmp_path / "list.yaml")
    (tmp_path / "half.yaml").write_text("inputs: [a")
    with pytest.raises(InputError, match="not YAML"):
        load_plan(tmp_path / "half.yaml")
    with pytest.raises(SettingError, match="output: the folder that the plan fills is not named"):
        load_plan({"inputs": ["clip.mp4"]})


def test_secrets_are_left_out() -> None:
    values = {"path": "s3://key:secret@bucket/x.mp4?X-Amz-Signature=abc&part=1", "storage": {"aws_secret": "s"}}
    assert redacted(values) == {"path": "s3://…@bucket/x.mp4?X-Amz-Signature=…&part=1", "storage": {"aws_secret": "…"}}
