"""`docs/architecture.md` lists every file, and `docs/glossary.md` is short."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "trackweave"
LONGEST_GLOSSARY = 20


def listed_files(page: str) -> dict[str, str]:
    """Path below the package → its line, from the block marked `tree`; a folder stands for its `__init__.py`."""
    files = {}
    folders: list[str] = []
    for line in page.partition("```tree\n")[2].partition("```")[0].splitlines():
        name, _, text = line.strip().partition(" ")
        folders = folders[: (len(line) - len(line.lstrip())) // 2]
        path = "".join(folders) + name
        if name.endswith("/"):
            folders.append(name)
            path += "__init__.py"
        files[path] = text.strip()
    return files


def test_every_file_has_its_line() -> None:
    files = listed_files((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    written = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    assert sorted(written - files.keys()) == []
    assert sorted(files.keys() - written) == []
    assert [path for path, text in files.items() if not text] == []


def test_the_ways_of_the_data_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    steps = [line for block in re.findall(r"```way\n(.*?)```", page, re.S) for line in block.splitlines() if line]
    assert len(steps) > 40
    for step in steps:
        file, name, _ = re.split(r"\s{2,}", step.lstrip(" │├└"), maxsplit=2)
        assert name in definitions(PACKAGE / f"{file}.py"), step


def definitions(path: Path) -> set[str]:
    """Functions and classes of a file, and methods as `Class.method`."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{method.name}" for method in node.body if isinstance(method, ast.FunctionDef)}
    return names


def test_layers_are_those_of_the_contracts() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = (c["layers"] for c in project["tool"]["importlinter"]["contracts"] if c["name"] == "layers")
    expected = {name for line in layers for name in re.findall(r"\w+", re.sub(r"\(\w+\)", "", line))} - {"__main__"}
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = page.partition("| layer |")[2].partition("\n\n")[0].splitlines()[2:]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[2])} == expected


def test_the_glossary_is_short() -> None:
    words = re.findall(r"^\| ([^|]+?) \| .+ \|$", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.M)[1:]
    assert 0 < len(words) <= LONGEST_GLOSSARY
    assert len(set(words)) == len(words)


BANNED = re.compile(
    r"rooms?|house|floors?|doors?|told|sights?|remarks?|born|founded|quest|hiders?|wander|doubles|falsehoods|somebody"
)
"""Words of an earlier dialect: layers, packages, warnings, duplicates, occluders have the field's names."""
BANNED_NAMES = frozenset({"how", "looks"})
"""Good words in a sentence, but no names."""
EXEMPT = re.compile(r"\b(?:np|math|numpy)\.floor\b|\bfloor\(|\| floor\b|\"(?:born|doubles|floor|remarks|wander)\"")
"""The function, and keys of files: those on disk stay as they are."""
SETTINGS_OF_FILES = re.compile(r"floor|wander")
"""Fields of the simulator's settings: `settings.json` and detectors' files have them."""
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
TEXTS = ("src/**/*.py", "src/**/*.j2", "tests/**/*.py", "benchmarks/*.py", "docs/**/*.py", "docs/**/*.md", "*.md")


def offences() -> Iterator[str]:
    """`file:line: word`, for every banned word in prose or code, and every banned name of an identifier."""
    for path in sorted({path for pattern in TEXTS for path in ROOT.glob(pattern)} - {Path(__file__)}):
        where = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            for word in WORD.findall(EXEMPT.sub("", line)):
                if SETTINGS_OF_FILES.fullmatch(word) and "simulation/" in where:
                    continue
                if BANNED.fullmatch(word.lower()):
                    yield f"{where}:{number}: {word}"
        if path.suffix == ".py":
            for token in tokenize.generate_tokens(io.StringIO(text).readline):
                if token.type == tokenize.NAME and token.string.strip("_") in BANNED_NAMES:
                    yield f"{where}:{token.start[0]}: {token.string} as a name"


def test_names_and_prose_are_the_fields() -> None:
    assert list(offences()) == []
