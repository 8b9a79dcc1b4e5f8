"""Every setting of every class: reachable by flag, YAML and `--set`, with one result and one kind of refusal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.options.parsing import parsed
from trackweave.cli.config import all_settings
from trackweave.errors import SettingError
from trackweave.options.schema import SECTIONS, Schema, SettingField, ShortFlag
from trackweave.options.sources import resolve

SCHEMA = all_settings()
TEXTS = (
    *("0.37", "0.2", "7", "1", "32", "64", "64x48", "2,4", "hota", "{3: 2.5}", "{warm_up: 2}", "0,0 9,0 9,9"),
    *("some/path", "cuda:1"),
)
"""Values to try for a setting that names no choices."""


@cache
def another_value(key: str) -> str:
    """A text for a value of the setting that is not its default."""
    schema, field = Schema((key.partition(".")[0],)), SCHEMA.fields[key]
    words: Sequence[str] = field.metavar.split("|") if field.is_switch else field.choices
    for text in (*words, *TEXTS):
        try:
            settings = resolve(schema, pairs=[f"{key}={text}"])
        except SettingError:
            continue
        if settings.value(key) != resolve(schema).value(key):
            return text
    raise AssertionError(key)


def as_flag(field: SettingField, text: str) -> list[str]:
    if field.is_switch:
        return [field.flag if text == "true" else f"--no-{field.flag[2:]}"]
    return [field.flag, text]


@pytest.mark.parametrize("key", SCHEMA.fields)
def test_every_setting_is_reached_in_three_ways_with_one_result(key: str, tmp_path: Path) -> None:
    section, text = key.partition(".")[0], another_value(key)
    schema, field = Schema((section,)), SCHEMA.fields[key]
    value = parsed(schema, "--set", f"{key}={text}").value(key)
    by_flag = parsed(schema, *as_flag(field, text))
    assert by_flag.value(key) == value
    assert by_flag.origin(key).startswith("flag --")
    file = tmp_path / "settings.yaml"
    written = yaml.safe_load(text) if field.is_switch or text.startswith("{") else text
    for content in ({key: value}, nested(key, value), {key: written}):
        file.write_text(yaml.safe_dump(content))
        by_file = parsed(schema, "--config", file)
        assert by_file.value(key) == value
        assert by_file.origin(key) == f"file {file}"
    assert parsed(schema, "--config", file, *as_flag(field, text)).origin(key) == by_flag.origin(key)


def nested(key: str, value: Any) -> dict[str, Any]:
    head, _, rest = key.partition(".")
    return {head: nested(rest, value) if "." in rest else {rest: value}}


@pytest.mark.parametrize("flag", [one for one in SCHEMA.flags if one.expand is None], ids=lambda flag: flag.name)
def test_every_short_flag_sets_what_it_says(flag: ShortFlag) -> None:
    schema = Schema(tuple(dict.fromkeys(key.partition(".")[0] for key in flag.keys)), (flag,))
    key = flag.keys[0]
    if "/" in flag.name:
        on, off = (parsed(schema, name).value(key) for name in flag.name.split("/"))
        assert (on, off) == ("on", "off")
        return
    text = another_value(key)
    field = schema.fields[key]
    arguments = [flag.name if text == "true" else f"--no-{flag.name[2:]}"] if field.is_switch else [flag.name, text]
    settings = parsed(schema, *arguments)
    assert settings.origin(key) == f"flag {arguments[0]}"
    for one in flag.keys:
        assert settings.value(one) == parsed(schema, "--set", f"{one}={text}").value(one)


@pytest.mark.parametrize("key", [key for key, field in SCHEMA.fields.items() if {int, float} & set(field.types)])
def test_a_wrong_value_is_refused_alike_by_all_sources(key: str, tmp_path: Path) -> None:
    section = key.partition(".")[0]
    schema, file = Schema((section,)), tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({key: "many"}))
    messages = []
    for arguments in (
        ["--set", f"{key}=many"], [SCHEMA.fields[key].flag, "many"], ["--config", str(file)],
    ):  # fmt: skip
        with pytest.raises(SettingError) as refused:
            parsed(schema, *arguments)
        messages.append(str(refused.value))
    origins = ("flag --set: ", f"flag {SCHEMA.fields[key].flag}: ", f"file {file}: ")
    reasons = {message.removeprefix(origin) for message, origin in zip(messages, origins, strict=True)}
    (reason,) = reasons
    assert reason.startswith(f"{key}: Input should be a valid")
    assert reason.endswith(", not 'many'")
    assert "\n" not in reason


@pytest.mark.parametrize("section", SECTIONS)
def test_an_unknown_name_gets_the_nearest(section: str) -> None:
    key = next(reversed([key for key in SCHEMA.fields if key.startswith(f"{section}.")]))
    with pytest.raises(SettingError) as refused:
        parsed(Schema((section,)), "--set", f"{key}s=1")
    assert str(refused.value) == f"flag --set: there is no setting {key}s; did you mean {key}?"


def test_a_text_is_read_as_its_setting_needs_it() -> None:
    schema = Schema(("input", "masks", "perception", "regions", "predictor"))
    read = {key: field.parsed for key, field in schema.fields.items()}
    assert read["input.frames"]("1:20") == "1:20"  # not the sexagesimal number that YAML 1.1 sees
    assert read["masks.levels"]("2") == "2"
    assert read["input.fps"]("12") == 12
    assert read["input.max_frames"]("null") is None
    assert read["input.size"]("[64, 48]") == [64, 48]
    assert read["predictor.weights"]("[mine].pt") == "[mine].pt"
    assert read["perception.embedder"]("null") == "null"  # no setting that may be absent
    assert read["regions.heights"]("{2: 9}") == {2: 9}
    with pytest.raises(SettingError, match=r"regions\.heights: '\{2' is not a value in YAML"):
        read["regions.heights"]("{2")
