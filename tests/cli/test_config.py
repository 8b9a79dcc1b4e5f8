"""Where settings of boxes come from, and `trackweave config`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import Shell
from tests.options.parsing import parsed
from trackweave.association.settings import LogSettings, ScorerSettings
from trackweave.cli.boxes import BOXES, ignored_settings
from trackweave.cli.config import all_settings
from trackweave.errors import InputError, SettingError
from trackweave.mot.settings import PRESETS, TrackerSettings
from trackweave.options.schema import SECTIONS, section_class
from trackweave.options.sources import ResolvedSettings, resolve
from trackweave.pipelines.settings import PerceptionSettings
from trackweave.settings import Settings

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `([A-Z_]+)` \| ([^|]+) \| ([^|]*)\| `([\w/.:]+)` \|$", re.M)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in all_settings().environment:
        monkeypatch.delenv(name, raising=False)


def config_file(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def of_variables(**variables: str) -> ResolvedSettings:
    return resolve(BOXES, environment=variables)


def test_defaults_are_those_of_the_classes() -> None:
    settings = resolve(BOXES)
    assert settings[TrackerSettings] == PRESETS["adaptive"]
    assert settings[LogSettings] == LogSettings()
    assert {entry.origin for entry in settings.entries()} == {"default"}
    assert [entry.key for entry in settings.entries()] == list(BOXES.fields)


def test_later_sources_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = config_file(tmp_path, "tracker:\n  confidence_threshold: 0.2\n  diagnostics: true\nlog: {embed_dim: 64}\n")
    environment = {"CONFIDENCE_THRESHOLD": "0.3", "TRANSFORMER_LOG_EMBED_DIM": "32"}
    assert resolve(BOXES, file=file)[TrackerSettings].confidence_threshold == 0.2
    assert resolve(BOXES, file=file, environment=environment)[TrackerSettings].confidence_threshold == 0.3
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    settings = parsed(BOXES, "--config", file, "--set", "tracker.confidence_threshold=0.35", "--confidence", "0.4")
    assert settings[TrackerSettings].confidence_threshold == 0.4
    assert settings[TrackerSettings].diagnostics
    assert settings[LogSettings].embed_dim == 32
    assert settings.origin("tracker.confidence_threshold") == "flag --confidence"
    assert settings.origin("log.embed_dim") == "environment TRANSFORMER_LOG_EMBED_DIM"
    assert settings.origin("tracker.diagnostics") == f"file {file}"
    assert settings.origin("tracker.lost_seconds") == "default"


def test_a_preset_lies_below_single_settings(tmp_path: Path) -> None:
    file = config_file(tmp_path, "tracker.preset: sort\nlog.embed_dim: 8\n")
    settings = resolve(BOXES, file=file, environment={"CONFIDENCE_THRESHOLD": "0.35"})
    assert settings[TrackerSettings] == PRESETS["sort"].model_copy(update={"confidence_threshold": 0.35})
    assert settings.origin("tracker.preset") == f"file {file}"
    assert settings.origin("tracker.confirm_hits") == "preset sort"
    assert settings.origin("tracker.confidence_threshold") == "environment CONFIDENCE_THRESHOLD"
    assert settings[LogSettings].embed_dim == 8


def test_any_setting_by_pairs() -> None:
    pairs = ["tracker.lost_seconds=2.5", "perception.detector_options={score_threshold: 0.3}", "log.dir=logs"]
    settings = resolve(BOXES, pairs=pairs)
    assert settings[TrackerSettings].lost_seconds == 2.5
    assert settings[PerceptionSettings].detector_options == {"score_threshold": 0.3}
    assert settings[LogSettings].dir == Path("logs")
    assert settings.origin("log.dir") == "flag --set"


@pytest.mark.parametrize("text", ["1", "true", "YES", "on", " True "])
@pytest.mark.parametrize("name", ["APPEAR_MEMORY_ENABLE", "SEG_ENABLE", "DIAG"])
def test_switches_that_are_on(name: str, text: str) -> None:
    assert of_variables(**{name: text}).value(BOXES.environment[name]) is True


@pytest.mark.parametrize("text", ["0", "false", "No", "off", ""])
@pytest.mark.parametrize("name", ["APPEAR_MEMORY_ENABLE", "SEG_ENABLE", "DIAG", "TRANSFORMER_ASSOC_ENABLE"])
def test_switches_that_are_off(name: str, text: str) -> None:
    assert of_variables(**{name: text}).value(BOXES.environment[name]) is False


def test_the_weight_of_a_scorer() -> None:
    assert of_variables(TRANSFORMER_ASSOC_WEIGHT="0.25")[TrackerSettings].scorer_weight == 0.25


def test_the_tracker_of_a_learned_scorer_brings_the_scorer() -> None:
    settings = parsed(BOXES, "--tracker", "learned")
    assert settings[ScorerSettings].enabled
    assert settings.origin("scorer.enabled") == "tracker.preset"
    assert not parsed(BOXES, "--tracker", "learned", "--scorer", "iou")[ScorerSettings].enabled
    assert not parsed(BOXES, "--tracker", "ocsort")[ScorerSettings].enabled


def test_a_learned_scorer_brings_its_own_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = of_variables(TRANSFORMER_ASSOC_ENABLE="1", TRANSFORMER_ASSOC_WEIGHTS="a.onnx")
    assert settings[ScorerSettings].enabled
    assert settings[ScorerSettings].weights == Path("a.onnx")
    assert settings.presets["tracker"] == "learned"
    assert settings.origin("tracker.preset") == "scorer.enabled"
    assert settings[TrackerSettings] == PRESETS["learned"]
    monkeypatch.setenv("TRANSFORMER_ASSOC_ENABLE", "1")
    monkeypatch.setenv("TRANSFORMER_ASSOC_WEIGHT", "0.4")
    chosen = parsed(BOXES, "--tracker", "bytetrack")
    assert chosen[TrackerSettings] == PRESETS["bytetrack"].model_copy(update={"scorer_weight": 0.4})


@pytest.mark.parametrize(
    ("text", "expected"), [("iou", (False, None)), ("learned", (True, None)), ("learned=a.onnx", (True, "a.onnx"))]
)
def test_the_flag_for_the_scorer(text: str, expected: tuple[bool, str | None]) -> None:
    settings = parsed(BOXES, "--scorer", text)
    assert (settings.value("scorer.enabled"), settings.value("scorer.weights")) == expected
    assert settings.origin("scorer.enabled") == "flag --scorer"


def test_settings_of_a_scorer_that_is_off_have_no_effect() -> None:
    settings = of_variables(TRANSFORMER_ASSOC_WEIGHTS="model.onnx", TRANSFORMER_ASSOC_EMBED_DIM="64")
    warnings = ignored_settings(settings)
    assert [warning.code for warning in warnings] == ["setting-ignored"] * 2
    assert "environment TRANSFORMER_ASSOC_WEIGHTS: model.onnx has no effect" in warnings[0].message
    assert settings[TrackerSettings] == PRESETS["adaptive"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--log-embed-dim", "64"), "flag --log-embed-dim: 64 has no effect: no samples are logged"),
        (("--sequence", "x"), "flag --sequence: x has no effect: no samples are logged"),
        (("--no-viz", "--style", "boxes"), "flag --style: boxes has no effect: no video is drawn"),
        (("--log-dir", "x", "--log-embed-dim", "64"), None),
        (("--no-viz",), None),
    ],
)
def test_settings_of_what_is_off_have_no_effect(flags: tuple[str, ...], says: str | None) -> None:
    messages = [warning.message for warning in ignored_settings(parsed(BOXES, *flags))]
    assert [says in message for message in messages] == [True] if says else not messages, messages


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        ({"text": "tracker: {confidance_threshold: 1}"}, "tracker.confidance_threshold; did you mean tracker.confid"),
        ({"text": "confidence_threshold: 1"}, "no setting confidence_threshold; did you mean tracker.confidence_thr"),
        ({"text": "trakcer: {diagnostics: 1}"}, "there is no setting trakcer"),
        ({"text": "banana: 1"}, "sections are tracker, input"),
        ({"text": "tracker: 5"}, "tracker is a section with values, not 5"),
        ({"text": "- 1"}, "settings are sections with values"),
        ({"text": "tracker: {diagnostics: maybe}"}, "settings.yaml: tracker.diagnostics: Input should be a valid bool"),
        ({"text": "tracker: {preset: bytetrak}"}, "no preset 'bytetrak'; did you mean bytetrack?"),
        ({"environment": {"CONFIDENCE_THRESHOLD": "high"}}, "environment CONFIDENCE_THRESHOLD: tracker.confidence_thr"),
        ({"environment": {"CONFIDENCE_THRESHOLD": "1.5"}}, "less than or equal to 1, not 1.5"),
        ({"environment": {"DIAG": "perhaps"}}, "environment DIAG: tracker.diagnostics"),
        ({"environment": {"TRANSFORMER_LOG_EMBED_DIM": "0"}}, "environment TRANSFORMER_LOG_EMBED_DIM: log.embed_dim"),
        ({"environment": {"TRANSFORMER_ASSOC_ENABLE": "maybe"}}, "ASSOC_ENABLE: scorer.enabled: Input should be a"),
        ({"flags": ["--size", "wide"]}, "--size: input.size: a size is WxH in pixels, like 1920x1080, not 'wide'"),
        ({"flags": ["--smooth", 4]}, "flag --smooth: refinement.smooth_window: 4: give an odd number"),
        ({"flags": ["--set", "tracker.nonsense=1"]}, "flag --set: there is no setting tracker.nonsense"),
        ({"flags": ["--set", "tracker.diagnostics"]}, "is not KEY=VALUE"),
        ({"flags": ["--set", "perception.detector_options={"]}, "is not a value in YAML"),
        ({"flags": ["--set", "log.embed_dim={"]}, "log.embed_dim: Input should be a valid integer"),
    ],
)  # fmt: skip
def test_mistakes_name_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: dict[str, Any], says: str
) -> None:
    for name, text in sources.get("environment", {}).items():
        monkeypatch.setenv(name, text)
    file = ["--config", config_file(tmp_path, sources["text"])] if "text" in sources else []
    with pytest.raises(SettingError) as refused:
        parsed(BOXES, *file, *sources.get("flags", ()))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        resolve(BOXES, file=tmp_path / "none.yaml")
    with pytest.raises(InputError, match="not YAML"):
        resolve(BOXES, file=config_file(tmp_path, "a: [1"))
    with pytest.raises(InputError, match="/dev/zero: is no file"):
        resolve(BOXES, file=Path("/dev/zero"))
    assert resolve(BOXES, file=config_file(tmp_path, ""))[TrackerSettings] == PRESETS["adaptive"]


def test_the_page_about_variables_tells_the_truth() -> None:
    """Every variable has a row with its setting, its flag and a test that is there."""
    text = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    rows = {name: (setting.strip("` "), flag.strip("` "), test) for name, setting, flag, test in ROW.findall(text)}
    schema = all_settings()
    assert set(rows) == set(schema.environment)
    for name, (setting, flag, test) in rows.items():
        assert setting == schema.environment[name]
        assert flag == schema.flag_names[setting]
        path, function = test.split("::")
        assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8")


def test_the_command_shows_value_and_origin(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIAG", "1")
    monkeypatch.setenv("TRANSFORMER_ASSOC_WEIGHTS", "model.pt")
    file = config_file(tmp_path, "log: {sequence: gate}")
    done = shell("config", "--config", file, "--set", "input.fps=12.5")
    assert done.code == 0, done.err
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.out.splitlines()}
    assert rows["tracker.diagnostics"] == ["true", "environment DIAG"]
    assert rows["log.sequence"] == ["gate", f"file {file}"]
    assert rows["input.fps"] == ["12.5", "flag --set"]
    assert rows["log.embed_dim"] == ["256", "default"]
    assert "warning: environment TRANSFORMER_ASSOC_WEIGHTS: model.pt has no effect" in done.err
    listed = json.loads(shell("config", "--json").out)
    assert listed["settings"]["tracker.diagnostics"]["variable"] == "DIAG"
    assert listed["settings"]["tracker.diagnostics"]["flag"] == "--diagnostics"
    assert all(row["description"] for row in listed["settings"].values())
    assert len(listed["warnings"]) == 1


def test_the_command_refuses_what_is_unknown(shell: Shell, tmp_path: Path) -> None:
    done = shell("config", "--config", config_file(tmp_path, "log: {embeddim: 3}"))
    assert done.code == 2
    assert "did you mean log.embed_dim?" in done.err


def test_every_setting_is_shown_by_config(shell: Shell) -> None:
    listed = json.loads(shell("config", "--json").out)["settings"]
    names = [f"{section}.{name}" for section in SECTIONS for name in fields(section_class(section))]
    assert set(names) <= set(listed)
    assert set(listed) - set(names) == {"tracker.preset"}
    assert all(row["description"] and row["origin"] in ("default", "preset learned") for row in listed.values())
    assert listed["tracking.max_propagate"]["flag"] == "--max-propagate"
    assert listed["flow.working_side"]["flag"] == "--flow.working-side"


def test_config_shows_the_tracker_that_boxes_takes(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(*arguments: str) -> dict[str, list[str]]:
        done = shell("config", "tracker", "scorer", *arguments)
        has_note = "--tracker, where none is chosen: learned; adaptive without --size" in done.err
        assert has_note == (["learned", "default"] in [line.split()[1:] for line in done.out.splitlines()])
        return {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.out.splitlines()}

    taken = rows()
    assert taken["tracker.preset"] == ["learned", "default"]
    assert taken["tracker.scorer_decides"] == ["true", "preset learned"]
    assert taken["scorer.enabled"] == ["true", "default"]
    assert rows("--set", "tracker.lost_seconds=3")["tracker.lost_seconds"] == ["3.0", "flag --set"]
    assert rows("--set", "tracker.preset=sort")["scorer.enabled"] == ["false", "default"]
    assert rows("--set", "scorer.enabled=false")["tracker.preset"] == ["adaptive", "default"]
    assert "| `tracker.preset` | `--tracker` |" in shell("config", "--markdown").out
    assert "| learned; adaptive without --size and where samples are logged |" in shell("config", "--markdown").out
    monkeypatch.setenv("TRANSFORMER_LOG_DIR", "logs")
    assert rows()["tracker.preset"] == ["adaptive", "default"]


def fields(model: type[Settings]) -> list[str]:
    names: list[str] = []
    for name, info in model.model_fields.items():
        inner = info.annotation
        is_class = isinstance(inner, type) and issubclass(inner, Settings)
        names += [f"{name}.{one}" for one in fields(inner)] if is_class else [name]  # type: ignore[arg-type]
    return names


def test_config_of_some_sections(shell: Shell) -> None:
    done = shell("config", "flow", "log", "--flow.working-side", 256)
    assert done.code == 0, done.err
    sections = {line.split(".")[0] for line in done.out.splitlines()}
    assert sections == {"flow", "log"}
    assert done.out.splitlines()[0].split() == ["flow.working_side", "256", "flag", "--flow.working-side"]
    done = shell("config", "flows")
    assert (done.code, "there is no section 'flows'" in done.err) == (2, True)
