"""The Python in the README and in `docs/` runs as it is written."""

from __future__ import annotations

import importlib.util
import inspect
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer.main
import yaml

import trackweave
import trackweave.errors
from trackweave.cli.app import app
from trackweave.cli.config import all_settings
from trackweave.simulation.video import SyntheticScene
from trackweave.visualization.video import Mp4Writer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```$", re.M | re.S)
SHELL = re.compile(r"^```(?:sh|bash)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\((?!https?://|#)([^)#\s]+)")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples call `clip.mp4`."""
    path = tmp_path_factory.mktemp("docs") / "clip.mp4"
    with Mp4Writer(path, 10) as video:
        for image in SyntheticScene(length=6, height=96, width=128):
            video.write(np.asarray(image))
    return path


def python_of(page: Path) -> list[str]:
    """The Python blocks of a page; those of numbered lists are indented."""
    return [textwrap.dedent(code) for _, code in BLOCK.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", [page for page in PAGES if python_of(page)], ids=lambda page: page.name)
def test_examples_run(page: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    names: dict[str, Any] = {"__name__": "example"}
    for block in python_of(page):
        exec(compile(block, str(page), "exec"), names)
    for name, example in names.items():
        if name.startswith("test_"):
            example(**({"tmp_path": tmp_path} if "tmp_path" in inspect.signature(example).parameters else {}))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_say_how_an_extra_is_installed_from_a_checkout(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "pip install -e '.[" in text or "pip install 'trackweave[" not in text
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {
        name
        for names in re.findall(r"pip install (?:-e )?'(?:\.|trackweave)\[([a-z0-9,-]+)\]'", text)
        for name in names.split(",")
    }
    assert named <= extras.keys()


def test_messages_that_the_page_about_weights_explains_exist() -> None:
    """A message in the table is a piece of one in the code, but for what is filled in where it says `…`."""
    text = (ROOT / "docs" / "sam2.md").read_text(encoding="utf-8")
    table = text[text.index("| message contains |") :].splitlines()[2:]
    messages = [re.findall(r"`([^`]+)`", line.split("|")[1])[0] for line in table if line.startswith("|")]
    assert len(messages) > 15
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", code)  # texts that go on in the next line
    plain = re.sub(r"\{[^{}]*\}", "…", joined)
    for message in messages:
        assert message in plain or message.replace("config.json", "…") in plain, message


def shell_lines(page: Path) -> Iterator[list[str]]:
    """The words of each `trackweave` command in the page's shell blocks; comments are left out."""
    for block in SHELL.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["trackweave"]:
                yield words[1:]


def options_of(command: Any) -> set[str]:
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help",
        "-h",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_pages_use(page: Path) -> None:
    for words in shell_lines(page):
        command: Any = typer.main.get_command(app)
        while words and hasattr(command, "commands") and not words[0].startswith("-"):
            assert words[0] in command.commands, f"{page.name}: trackweave {words[0]}"
            command, words = command.loaded()[words[0]], words[1:]
        if not command.context_settings.get("ignore_unknown_options"):
            used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
            assert used <= options_of(command), f"{page.name}: {command.name} has no {used - options_of(command)}"


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """`docs/hooks.py`, which mkdocs loads by its path."""
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_has_every_public_name(hooks: ModuleType) -> None:
    text = "".join(hooks.reference().values())
    names = {name for name in trackweave.__all__ if not name.startswith("__")}
    documented = set(re.findall(r"^::: [\w.]+\.(\w+)$", text, re.M))
    assert {name for name in names - documented if not hasattr(trackweave.errors, name)} == set()
    assert "::: trackweave.errors" in text


def test_the_command_page_has_every_command(hooks: ModuleType) -> None:
    page = hooks.commands()
    for command in ("masks", "boxes", "evaluate", "assoc train", "assoc remix"):
        assert f"## {command}\n" in page
    assert "--max-propagate" in page


def test_the_page_of_settings_has_every_setting(hooks: ModuleType) -> None:
    page = hooks.every_setting()
    for key in all_settings().fields:
        assert f"\n| `{key}` | " in page


def test_the_site_has_every_page(hooks: ModuleType) -> None:
    def pages(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        for child in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else []:
            yield from pages(child)

    listed = set(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    generated = {
        *hooks.reference(), "reference/commands.md", "reference/every-setting.md", *hooks.FROM_REPOSITORY,
    }  # fmt: skip
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert listed == written | generated


def test_links_of_other_places_lead_to_the_repository_or_the_site(hooks: ModuleType) -> None:
    def target(text: str, source: str, page: str) -> str:
        return str(hooks._target(text, ROOT / source, ROOT / "docs" / page, "https://host/blob/main"))

    assert target("../src/trackweave/ids.py", "docs/a.md", "a.md") == "https://host/blob/main/src/trackweave/ids.py"
    assert target("docs/architecture.md", "CONTRIBUTING.md", "contributing.md") == "architecture.md"
    assert target("../../CHANGELOG.md", "docs/tasks/a.md", "tasks/a.md") == "../changes.md"
