"""`docs/dependencies.md` justifies every core dependency, and each of them is used."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "faster-coco-eval": "faster_coco_eval",
}


def core_dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [re.split(r"[<>=!~ \[;]", line, maxsplit=1)[0] for line in project["dependencies"]]


def test_the_page_lists_the_core_dependencies() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \|([^|]+)\|([^|]+)\| \d+ \|$", page, re.M)
    assert sorted(name for name, *_ in rows) == sorted(core_dependencies())


def test_every_core_dependency_is_imported() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    for name in core_dependencies():
        module = MODULES.get(name, name)
        assert re.search(rf"^\s*(from|import) {module}\b", source, re.M), f"{name} is not used"
