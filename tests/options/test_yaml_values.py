"""YAML of strangers: plain values, or one short line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.options.parsing import parsed
from trackweave.errors import InputError, SettingError
from trackweave.options.schema import Schema
from trackweave.options.sources import resolve
from trackweave.options.yaml_values import parse_yaml

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
SCHEMA = Schema(("tracker", "log", "perception", "input"))

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_what_is_written_is_read(value: Any) -> None:
    assert parse_yaml(yaml.safe_dump(value, allow_unicode=True)) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2023-02-30", "line 2: day is out of range for month"),
        ("a: 0b_", "line 1: invalid literal"),
        (f"a: {'9' * 5000}", "line 1: Exceeds the limit"),
        (f"a: 0x{'f' * 5000}", "line 1: a number out of range"),
        ("? {c: d}\n: 2", "line 1: found unhashable key"),
        ("a: !!python/object:os.system x", "line 1: could not determine a constructor"),
        (LAUGHS, "line 5: stands for more than 100000 values"),
        ("&a [1, *a]", "line 1: an alias holds itself"),
        ("a: &a {b: 1}\nc: &c {<<: [*a, *a], d: *a}\n<<: *c", None),
    ],
)
def test_values_that_cannot_be_built(tmp_path: Path, text: str, message: str | None) -> None:
    if message is None:
        assert parse_yaml(text)["b"] == 1
        return
    with pytest.raises(SettingError, match=f"^{message}"):
        parse_yaml(text)
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    started = time.monotonic()
    with pytest.raises(SettingError, match=f"^file {file}, {message}") as refused:
        resolve(SCHEMA, file=file)
    assert time.monotonic() - started < 5
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("text", ["a: [1", "a: \x07", "[" * 100_000, "a: b: c", "%"])
def test_what_is_not_yaml(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_yaml(text)
    assert "\n" not in str(refused.value)
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match="not YAML"):
        resolve(SCHEMA, file=file)


def test_a_settings_file_has_a_size(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("#" * (1 << 23))
    with pytest.raises(InputError, match="8388608 bytes: settings take at most"):
        resolve(SCHEMA, file=file)


@pytest.mark.parametrize(
    "text",
    [
        "tracker: {diagnostics: [" + ", ".join(["x" * 100] * 900) + "]}",
        "tracker: [" + ", ".join(["x" * 100] * 900) + "]",
        "tracker: {" + "y" * 1000 + ": 1}",
        "z" * 1000 + ": 1",
        "tracker: {preset: " + "p" * 100_000 + "}",
        "tracker: {preset: [a]}",
        'log: {sequence: ["\\e[31mred"]}',
    ],
)
def test_messages_are_short_and_hold_no_control_characters(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(SettingError) as refused:
        resolve(SCHEMA, file=file)
    message = str(refused.value)
    assert len(message) < 700
    assert message.isprintable()


@pytest.mark.parametrize("pair", ["input.size=[2023-02-30]", "perception.detector_options={a: 2023-02-30}"])
def test_values_of_a_flag_that_cannot_be_built(pair: str) -> None:
    with pytest.raises(SettingError, match=r"flag --set: .*day is out of range for month"):
        parsed(SCHEMA, "--set", pair)
