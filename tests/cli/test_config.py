"""The layers of settings, and `trackweave config`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import Shell
from trackweave.cli.config import ENVIRONMENT, FLAGS, MASKS, effective_settings, known_keys
from trackweave.errors import InputError, SettingError
from trackweave.mot.settings import PRESETS

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `([A-Z_]+)` \| ([^|]+) \| ([^|]*)\| `([\w/.:]+)` \|$", re.M)


def config_file(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def test_defaults_are_the_rooms_own() -> None:
    settings = effective_settings()
    assert settings.tracker == PRESETS["adaptive"]
    assert settings.log.embed_dim == 256
    assert settings.log.dir is None
    assert set(settings.origins.values()) == {"default"}
    assert [row.key for row in settings.rows()] == known_keys()


def test_later_layers_win(tmp_path: Path) -> None:
    file = config_file(tmp_path, "tracker:\n  confidence_threshold: 0.2\n  diagnostics: true\nlog: {embed_dim: 64}\n")
    environment = {"CONFIDENCE_THRESHOLD": "0.3", "TRANSFORMER_LOG_EMBED_DIM": "32"}
    flags = {"tracker.confidence_threshold": 0.4, "log.embed_dim": None}
    settings = effective_settings(file=file, environment=environment, flags=flags)
    assert settings.tracker.confidence_threshold == 0.4
    assert settings.tracker.diagnostics
    assert settings.log.embed_dim == 32
    assert settings.origins["tracker.confidence_threshold"] == "flag --confidence"
    assert settings.origins["log.embed_dim"] == "environment TRANSFORMER_LOG_EMBED_DIM"
    assert settings.origins["tracker.diagnostics"] == f"file {file}"
    assert settings.origins["tracker.lost_seconds"] == "default"
    assert effective_settings(file=file, environment=environment).tracker.confidence_threshold == 0.3
    assert effective_settings(file=file).tracker.confidence_threshold == 0.2


def test_a_preset_lies_below_single_settings(tmp_path: Path) -> None:
    file = config_file(tmp_path, "tracker.preset: sort\nlog.embed_dim: 8\n")
    settings = effective_settings(file=file, environment={"CONFIDENCE_THRESHOLD": "0.35"})
    assert settings.tracker == PRESETS["sort"].model_copy(update={"confidence_threshold": 0.35})
    assert settings.origins["tracker.preset"] == f"file {file}"
    assert settings.origins["tracker.confirm_hits"] == "preset sort"
    assert settings.origins["tracker.confidence_threshold"] == "environment CONFIDENCE_THRESHOLD"
    assert settings.log.embed_dim == 8


def test_any_setting_by_pairs() -> None:
    settings = effective_settings(
        pairs=["tracker.lost_seconds=2.5", "perception.detector_options={score_threshold: 0.3}", "log.dir=logs"]
    )
    assert settings.tracker.lost_seconds == 2.5
    assert settings.perception.detector_options == {"score_threshold": 0.3}
    assert settings.log.dir == Path("logs")
    assert settings.origins["log.dir"] == "flag --set"


@pytest.mark.parametrize("text", ["1", "true", "YES", "on", " True "])
@pytest.mark.parametrize("name", ["APPEAR_MEMORY_ENABLE", "SEG_ENABLE", "DIAG"])
def test_switches_that_are_on(name: str, text: str) -> None:
    section, field = ENVIRONMENT[name].split(".")
    assert getattr(getattr(effective_settings(environment={name: text}), section), field) is True


@pytest.mark.parametrize("text", ["0", "false", "No", "off", ""])
@pytest.mark.parametrize("name", ["APPEAR_MEMORY_ENABLE", "SEG_ENABLE", "DIAG", "TRANSFORMER_ASSOC_ENABLE"])
def test_switches_that_are_off(name: str, text: str) -> None:
    settings = effective_settings(environment={name: text})
    switches = (settings.tracker.appearance_memory, settings.perception.segmentation, settings.tracker.diagnostics)
    assert switches == (False, False, False)


def test_the_weight_of_a_scorer() -> None:
    settings = effective_settings(environment={"TRANSFORMER_ASSOC_WEIGHT": "0.25"})
    assert settings.tracker.scorer_weight == 0.25


def test_a_learned_scorer_brings_its_own_tracker() -> None:
    settings = effective_settings(environment={"TRANSFORMER_ASSOC_ENABLE": "1", "TRANSFORMER_ASSOC_WEIGHTS": "a.onnx"})
    assert settings.scorer.enabled
    assert settings.scorer.weights == Path("a.onnx")
    assert settings.preset == "learned"
    assert settings.origins["tracker.preset"] == "scorer.enabled"
    assert settings.tracker == PRESETS["learned"]
    chosen = effective_settings(
        environment={"TRANSFORMER_ASSOC_ENABLE": "1", "TRANSFORMER_ASSOC_WEIGHT": "0.4"},
        flags={"tracker.preset": "bytetrack"},
    )
    assert chosen.tracker == PRESETS["bytetrack"].model_copy(update={"scorer_weight": 0.4})


def test_settings_of_a_scorer_that_is_off_have_no_effect() -> None:
    settings = effective_settings(
        environment={"TRANSFORMER_ASSOC_WEIGHTS": "model.onnx", "TRANSFORMER_ASSOC_EMBED_DIM": "64"}
    )
    assert [warning.code for warning in settings.warnings] == ["setting-ignored"] * 2
    assert "environment TRANSFORMER_ASSOC_WEIGHTS: model.onnx has no effect" in settings.warnings[0].message
    assert settings.tracker == PRESETS["adaptive"]


@pytest.mark.parametrize(
    ("layers", "says"),
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
        ({"environment": {"CONFIDENCE_THRESHOLD": "1.5"}}, "less than or equal to 1, not '1.5'"),
        ({"environment": {"DIAG": "perhaps"}}, "environment DIAG: tracker.diagnostics"),
        ({"environment": {"TRANSFORMER_LOG_EMBED_DIM": "0"}}, "environment TRANSFORMER_LOG_EMBED_DIM: log.embed_dim"),
        ({"environment": {"TRANSFORMER_ASSOC_ENABLE": "maybe"}}, "ASSOC_ENABLE: scorer.enabled: Input should be a"),
        ({"flags": {"input.size": "wide"}}, "--size: input.size: a size is WxH in pixels, like 1920x1080, not 'wide'"),
        ({"flags": {"refinement.smooth_window": 4}}, "flag --smooth: refinement.smooth_window: 4: give an odd number"),
        ({"pairs": ["tracker.nonsense=1"]}, "flag --set: there is no setting tracker.nonsense"),
        ({"pairs": ["tracker.diagnostics"]}, "is not KEY=VALUE"),
        ({"pairs": ["log.embed_dim={"]}, "is not a value in YAML"),
    ],
)  # fmt: skip
def test_mistakes_name_where_they_are(tmp_path: Path, layers: dict[str, Any], says: str) -> None:
    text = layers.pop("text", None)
    if text is not None:
        layers["file"] = config_file(tmp_path, text)
    with pytest.raises(SettingError) as told:
        effective_settings(**layers)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        effective_settings(file=tmp_path / "none.yaml")
    with pytest.raises(InputError, match="not YAML"):
        effective_settings(file=config_file(tmp_path, "a: [1"))
    assert effective_settings(file=config_file(tmp_path, "")).tracker == PRESETS["adaptive"]


def test_tables_name_settings_that_exist() -> None:
    known = set(known_keys())
    assert set(FLAGS) <= known
    assert set(ENVIRONMENT.values()) <= known


def test_the_page_about_variables_tells_the_truth() -> None:
    """Every variable has a row with its setting, its flag and a test that is there."""
    text = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    rows = {name: (setting.strip("` "), flag.strip("` "), test) for name, setting, flag, test in ROW.findall(text)}
    settings, flags = {**ENVIRONMENT, **MASKS.environment}, {**FLAGS, **MASKS.flags}
    assert set(rows) == set(settings)
    for name, (setting, flag, test) in rows.items():
        if name in settings:
            assert setting == settings[name]
            assert flag == flags.get(setting, "--set")
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
