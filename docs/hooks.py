"""What the site adds to the pages in `docs/`: a reference made from `trackweave.__all__`, and files of the repository.

mkdocs calls the functions whose names begin with `on_`. Nothing of the reference is listed by hand: a name that
`trackweave/__init__.py` exports is on the first page of `PAGES` whose rule takes it.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FROM_REPOSITORY = {"changes.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
"""Page of the site → the file of the repository that it shows."""
LINK = re.compile(r"(\]\()([^)#\s:]+)")
FETCHED = re.compile(
    r"<(?:script|img|iframe)\b[^>]*\ssrc=\"?(?:https?:)?//[^>]*|<link\b[^>]*stylesheet[^>]*href=\"?(?:https?:)?//[^>]*"
)
"""What a browser would fetch from another host: fonts, scripts, pictures. The site works without a network."""

PROTOCOLS = (
    "trackweave.frames.source.FrameSource",
    "trackweave.detectors.base.Detector",
    "trackweave.detectors.embedders.Embedder",
    "trackweave.predictors.base.VideoPredictor",
    "trackweave.predictors.base.PredictorSession",
    "trackweave.mot.state.AssociationScorer",
    "trackweave.mot.state.AssignmentObserver",
)
"""What a user's class may satisfy; documented whether exported or not."""

Rule = Callable[[str, str], bool]
PAGES: dict[str, tuple[str, str, Rule]] = {
    "plugs": (
        "Plugs",
        "What a class of your own has to offer to take the place of one of ours.",
        lambda _, path: path in PROTOCOLS,
    ),
    "settings": (
        "Settings",
        "Records that a person fills in. Their fields are options of the commands, too.",
        lambda name, _: name == "preset" or name.endswith("Settings"),
    ),
    "verbs": ("Verbs", "The commands as functions.", lambda name, _: name.islower()),
    "trackers": (
        "Trackers",
        "Detections in, identities out, frame by frame; and what learns from them.",
        lambda _, path: path.startswith(("trackweave.mot.", "trackweave.association.")),
    ),
    "records": ("Records", "What the verbs take and give: columns of one length, and opened files.", lambda *_: True),
}
"""Page of the reference → its title, its first line, and the rule of what it takes: (name, full path)."""


def public_names() -> dict[str, str]:
    """Public name → full path of its definition: what `__all__` lists, found through the imports for type checkers.

    Only `trackweave/__init__.py` itself is imported, which loads nothing heavy.
    """
    names = importlib.import_module("trackweave").__all__
    tree = ast.parse((ROOT / "src/trackweave/__init__.py").read_text(encoding="utf-8"))
    paths = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trackweave.")
        for alias in node.names
    }
    return {name: paths.get(name, f"trackweave.{name}") for name in sorted(names) if not name.startswith("__")}


def reference() -> dict[str, str]:
    """Page of the site → its Markdown, for mkdocstrings to fill in."""
    members: dict[str, list[str]] = {page: [] for page in PAGES}
    for name, path in {**{path.rpartition(".")[2]: path for path in PROTOCOLS}, **public_names()}.items():
        if not path.startswith("trackweave.errors."):  # their page shows the whole module
            members[next(page for page, (_, _, takes) in PAGES.items() if takes(name, path))].append(path)
    pages = {
        page: f"# {title}\n\n{line}\n\n" + "\n".join(f"::: {path}\n" for path in members[page])
        for page, (title, line, _) in PAGES.items()
    }
    pages["errors"] = "# Errors\n\n::: trackweave.errors\n    options: {show_root_heading: false}\n"
    return {f"reference/{page}.md": text for page, text in pages.items()}


def commands() -> str:
    """The page of the command line: what each command prints for `--help`."""
    app = importlib.import_module("trackweave.cli.app").app
    run = importlib.import_module("typer.testing").CliRunner().invoke
    sections = ["# Commands\n"]
    for name in _command_names(importlib.import_module("typer.main").get_command(app)):
        result = run(app, [*name.split(), "--help"], prog_name="trackweave", env={"COLUMNS": "100"})
        if result.exit_code:
            raise SystemExit(f"trackweave {name} --help: {result.output}")
        sections.append(f"## {name}\n\n```text\n{result.output.strip()}\n```\n")
    return "\n".join(sections)


def _command_names(command: Any, prefix: str = "") -> Iterator[str]:
    for name, child in command.loaded().items():
        if hasattr(child, "commands"):
            yield from _command_names(child, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}"


def every_setting() -> str:
    """The page of all settings, section by section."""
    tables = importlib.import_module("trackweave.cli.config").markdown()
    return "\n".join(["# Every setting", "", "Flags, files and origins: [Settings](../configuration.md).", *tables])


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages."""
    from mkdocs.structure.files import File

    pages = reference() | {"reference/commands.md": commands(), "reference/every-setting.md": every_setting()}
    pages |= {page: (ROOT / source).read_text(encoding="utf-8") for page, source in FROM_REPOSITORY.items()}
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links that lead out of `docs/` lead to the repository; those of its pages that are shown here, to the site."""
    uri = page.file.src_uri
    source = ROOT / FROM_REPOSITORY[uri] if uri in FROM_REPOSITORY else DOCS / uri
    return LINK.sub(lambda link: link[1] + _target(link[2], source, DOCS / uri, config.extra["repository"]), markdown)


def _target(target: str, source: Path, page: Path, repository: str) -> str:
    """Where a link of `source` leads when `page` shows it."""
    path = Path(os.path.normpath(source.parent / target))
    shown = {ROOT / file: DOCS / uri for uri, file in FROM_REPOSITORY.items()}
    path = shown.get(path, path)
    if path.is_relative_to(DOCS):
        return Path(os.path.relpath(path, page.parent)).as_posix()
    return f"{repository}/{path.relative_to(ROOT).as_posix()}"


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Stops at a page that would fetch something from elsewhere."""
    fetched = FETCHED.search(output)
    if fetched:
        raise SystemExit(f"{page.file.src_uri}: fetched from another host: {fetched[0]}")
    return output
