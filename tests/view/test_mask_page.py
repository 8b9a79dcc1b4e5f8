"""Masks corrected on the page, as its user does it; in Chromium, where one is installed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.view.conftest import Serve
from tests.view.test_page import READY, SAID, Tab, open_tab
from trackweave.pipelines.run import open_run

__all__ = ["open_tab"]


@pytest.fixture
def run(moving_run: Path, tmp_path: Path) -> Path:
    """A copy that may be corrected."""
    shutil.copytree(moving_run, tmp_path / "run")
    return tmp_path / "run"


def place(tab: Tab, x: float, y: float) -> tuple[float, float]:
    """Where a point of the frame is on the screen."""
    left, top = tab.page.evaluate(
        """([x, y]) => {
            const stage = window.trackweave.stage, [cx, cy] = stage.shownCentre();
            const { left, top, width, height } = stage.canvas.getBoundingClientRect(), scale = stage.scale();
            return [left + width / 2 + (x - cx) * scale, top + height / 2 + (y - cy) * scale];
        }""",
        [x, y],
    )
    return float(left), float(top)


def drag(tab: Tab, *points: tuple[float, float]) -> None:
    tab.page.mouse.move(*place(tab, *points[0]))
    tab.page.mouse.down()
    for point in points[1:]:
        tab.page.mouse.move(*place(tab, *point), steps=3)
    tab.page.mouse.up()


def go(tab: Tab, frame: int) -> None:
    tab.press("g")
    tab.page.keyboard.type(str(frame))
    tab.press("Enter")
    tab.wait(f"page.stage.position === {frame} && page.stage.shown()?.masks")


def said(tab: Tab, count: int) -> None:
    """Waits for so many acts, and until no prompt is being moved."""
    tab.wait(f"{SAID} === {count} && !page.isActing && !page.answers.job")


def test_masks_are_corrected_on_the_page(serve: Serve, run: Path, open_tab: Any) -> None:
    """The steps of docs/proofreading.md: select, name, split, merge, prompt by box, points and brush, undo, reload."""
    with serve([run]) as viewer:
        tab = open_tab(viewer.address)
        tab.wait("page.answers.writable && page.stage.shown()?.masks")
        tab.click(18, 30)
        assert tab.selected == [1]
        tab.press("R")
        tab.page.keyboard.type("light")
        tab.press("Enter")
        said(tab, 1)

        go(tab, 4)
        tab.press("S")
        said(tab, 2)
        parts = tab.state("page.tracks.id")
        assert len(parts) == 3
        tab.page.evaluate("(ids) => { for (const id of ids) window.trackweave.view.selected.add(id); }", [1, parts[-1]])
        tab.press("M")
        said(tab, 3)
        assert tab.state("page.tracks.id") == [1, 2]

        # A new object, by a box: its name is asked for; the prompt is moved in the background.
        tab.press("Escape", "B")
        drag(tab, (31, 53), (36, 60), (45, 67))
        tab.page.wait_for_selector("#dialog[open]")
        tab.page.keyboard.type("grey")
        tab.press("Enter")
        said(tab, 4)
        tab.wait("page.tracks.id.length === 3 && Object.values(page.answers.names).includes('grey')")
        grey = tab.state("Number(Object.keys(page.answers.names).find((id) => page.answers.names[id] === 'grey'))")
        go(tab, 7)
        assert np.abs(np.array(tab.box(grey)) - [20, 54, 32, 66]).max() <= 4

        # The selected track again, by points: one inside, one outside with Alt.
        tab.page.evaluate("window.trackweave.pick(2, -1)")
        tab.press("P")
        tab.click(78, 56)
        tab.click(60, 20, modifiers=["Alt"])
        assert [inside for *_, inside in tab.state("page.prompting.points")] == [1, 0]
        tab.press("Enter")
        said(tab, 5)
        assert tab.state("page.prompting.tool") is None

        # And by a brush: its mask is what is painted on; Alt erases.
        go(tab, 5)
        tab.page.evaluate("window.trackweave.pick(1, -1)")
        tab.press("K")
        painted = "page.prompting.painted.reduce((sum, one) => sum + one, 0)"
        before = tab.state(painted)
        assert before == pytest.approx(400, abs=60)
        tab.page.evaluate("window.trackweave.prompting.radius = 4")
        drag(tab, (38, 16), (48, 16))
        assert tab.state(painted) > before + 40
        tab.page.keyboard.down("Alt")
        drag(tab, (36, 15), (44, 15), (54, 15))
        tab.page.keyboard.up("Alt")
        assert tab.state(painted) < before + 40
        tab.press("Enter")
        said(tab, 6)

        tab.press("Control+z")
        said(tab, 5)
        tab.press("Control+Shift+Z")
        said(tab, 6)
        tab.press("A")
        said(tab, 7)
        acts, ids, names = (tab.state(f"page.{what}") for what in ("answers.acts", "tracks.id", "answers.names"))
        tab.page.reload()
        tab.page.wait_for_selector(READY)
        assert [tab.state(f"page.{what}") for what in ("answers.acts", "tracks.id", "answers.names")] == [
            acts, ids, names
        ]  # fmt: skip
    assert sorted(set(open_run(run).tracks().track_id.tolist())) == ids


def test_two_tabs_see_a_prompt_and_a_tool_is_put_away(serve: Serve, run: Path, open_tab: Any) -> None:
    with serve([run]) as viewer:
        one, other = open_tab(viewer.address, "#frame=5&track=2"), open_tab(viewer.address, "#frame=5")
        one.wait("page.answers.writable && page.stage.shown()?.masks")
        one.page.bring_to_front()
        one.press("P", "Enter")
        assert "a point inside" in one.page.inner_text("#status")
        one.press("Escape")
        assert (one.state("page.prompting.tool"), one.selected) == (None, [2])
        one.press("B")
        drag(one, (69, 47), (80, 60), (89, 67))
        for tab in (one, other):
            said(tab, 1)
            tab.wait("page.answers.names[2] === '2'")
        assert one.page.get_attribute("#job", "hidden") is not None


def test_questions_about_masks_are_answered_by_keys(serve: Serve, run: Path, open_tab: Any) -> None:
    with serve([run]) as viewer:
        tab = open_tab(viewer.address)
        tab.wait("page.questions.question")
        first = tab.state("page.questions.question.at")
        tab.press("n")
        assert tab.frame == first[0]
        assert "Is this mask right?" in tab.page.inner_text("#right")
        tab.press("1")
        said(tab, 1)
        assert tab.state("page.questions.question?.at ?? null") != first
        tab.press("0")  # an answer goes on to the next question
        assert tab.state("page.prompting.tool") == "points"
        tab.press("Escape", "x")
        said(tab, 2)
