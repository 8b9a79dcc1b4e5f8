"""The Python in the README and in `docs/` runs as it is written."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from trackweave.simulation.video import SyntheticScene
from trackweave.visualization.video import Mp4Writer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\((?!https?://|#)([^)#\s]+)")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples call `clip.mp4`."""
    path = tmp_path_factory.mktemp("docs") / "clip.mp4"
    with Mp4Writer(path, 10) as video:
        for image in SyntheticScene(length=6, height=96, width=128):
            video.write(np.asarray(image))
    return path


def pages_with_code() -> list[Path]:
    return [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", pages_with_code(), ids=lambda page: page.name)
def test_examples_run(page: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    names: dict[str, object] = {"__name__": "example"}
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        exec(compile(block, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


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
