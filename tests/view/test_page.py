"""The page in a browser: what a person does, and what is seen then."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest

from tests.view.conftest import Serve
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.run import open_run
from trackweave.pipelines.settings import InputSettings
from trackweave.reports.page import report
from trackweave.visualization.video import Mp4Writer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

READY = "html[data-ready=true]"


class Tab:
    """One tab: the page, and what went wrong on it."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.problems: list[str] = []
        self.outside: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._listen)
        page.on("request", lambda request: self._note(request.url))

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(message.text)

    def _note(self, url: str) -> None:
        if not url.startswith((self.address.rpartition("/")[0], "blob:", "data:")):
            self.outside.append(url)

    def open(self, link: str = "") -> Tab:
        self.page.goto(self.address + link)
        self.page.wait_for_selector(READY)
        return self

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def state(self, expression: str) -> Any:
        return self.page.evaluate(f"(() => {{ const page = window.trackweave; return {expression}; }})()")

    def wait(self, expression: str) -> None:
        """Until an expression is true; the page's own policy allows no `wait_for_function`."""
        deadline = time.monotonic() + 30
        while not self.state(f"Boolean({expression})"):
            assert time.monotonic() < deadline, expression
            self.page.wait_for_timeout(20)

    @property
    def frame(self) -> int:
        return int(self.page.input_value("#frame-number"))

    @property
    def selected(self) -> list[int]:
        return list(self.state("[...page.view.selected]"))

    def pixel(self, x: float, y: float) -> list[int]:
        """RGB of the video's canvas at a point of the frame."""
        return list(
            self.page.evaluate(
                """([x, y]) => {
                    const stage = window.trackweave.stage, ratio = devicePixelRatio, [cx, cy] = stage.shownCentre();
                    const at = (v, c, side) => Math.round((side / 2 + (v - c) * stage.scale()) * ratio);
                    const px = at(x, cx, stage.canvas.clientWidth), py = at(y, cy, stage.canvas.clientHeight);
                    return [...stage.canvas.getContext("2d").getImageData(px, py, 1, 1).data.slice(0, 3)];
                }""",
                [x, y],
            )
        )

    def click(self, x: float, y: float, **options: Any) -> None:
        """Clicks a point of the frame."""
        place = self.page.evaluate(
            """([x, y]) => {
                const stage = window.trackweave.stage, [cx, cy] = stage.shownCentre();
                const bounds = stage.canvas.getBoundingClientRect(), scale = stage.scale();
                const [left, top] = [bounds.left + bounds.width / 2, bounds.top + bounds.height / 2];
                return [left + (x - cx) * scale, top + (y - cy) * scale];
            }""",
            [x, y],
        )
        for key in options.get("modifiers", []):
            self.page.keyboard.down(key)
        self.page.mouse.click(*place)
        for key in options.get("modifiers", []):
            self.page.keyboard.up(key)

    def box(self, track_id: int) -> list[float]:
        return list(self.state(f"page.stage.boxOf({track_id})"))


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[Any]:
    """Opens tabs of one browser window; no tab may have had an error or asked anybody else."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(30_000)
    tabs: list[Tab] = []

    def open_one(address: str, link: str = "") -> Tab:
        tabs.append(Tab(context.new_page(), address))
        return tabs[-1].open(link)

    yield open_one
    problems, outside = [p for tab in tabs for p in tab.problems], [o for tab in tabs for o in tab.outside]
    context.close()
    assert problems == []
    assert outside == []


def test_seek_step_and_play(serve: Serve, match_run: Path, open_tab: Any) -> None:
    with serve([match_run]) as viewer:
        tab = open_tab(viewer.address)
        assert tab.frame == 0
        tab.press("ArrowRight", "ArrowRight", "Shift+ArrowRight", "ArrowLeft")
        assert tab.frame == 11
        tab.press("End")
        assert tab.frame == 59
        tab.wait("page.stage.position === 59")
        tab.press("Home", "g")
        tab.page.keyboard.type("33")
        tab.press("Enter")
        assert tab.frame == 33
        tab.wait("page.stage.position === 33 && page.stage.bitmap")
        tab.press("<", "<", "<", " ")  # slowly: it must not be at the end before it is stopped
        tab.wait("page.player.position > 34")
        tab.press(" ")
        assert tab.state("page.player.isPlaying") is False
        assert tab.state("page.stage.position === page.player.position")


def test_what_comes_late_is_dropped_and_playing_ends(serve: Serve, match_run: Path, open_tab: Any) -> None:
    """Each picture takes 0.4 s, ten frames of the clock: some frames are shown, near the clock, and the last one."""
    with serve([match_run]) as viewer:
        tab = open_tab(viewer.address)
        tab.page.evaluate(
            """() => {
                const { pictures } = window.trackweave.stage, { fetch } = pictures;
                pictures.fetch = async function (...asked) {
                    await new Promise((resolve) => setTimeout(resolve, 400));
                    return fetch.apply(pictures, asked);
                };
                const { player } = window.trackweave;
                player.pause();
                void player.seek(0).then(() => player.play());
            }"""
        )
        tab.wait("page.player.isPlaying")
        tab.wait("!page.player.isPlaying && page.stage.position === 59")
        counts = tab.state("page.player.counts")
        assert counts["drawn"] >= 3
        assert counts["dropped"] > 10


def test_the_canvas_shows_the_frame_and_the_masks(serve: Serve, mask_run: Path, open_tab: Any) -> None:
    with serve([mask_run]) as viewer:
        tab = open_tab(viewer.address)
        tab.wait("page.stage.shown() && page.stage.shown().masks")
        first = tab.state("page.stage.shown().id[0]")
        x1, y1, x2, y2 = tab.box(first)
        middle = ((x1 + x2) / 2, (y1 + y2) / 2)
        tab.press("l")
        tab.page.wait_for_timeout(100)
        with_mask = tab.pixel(*middle)
        tab.press("m")
        tab.page.wait_for_timeout(100)
        without = tab.pixel(*middle)
        assert with_mask != without
        image = PIL.Image.open(mask_run.parent / "frames" / "00000.png").convert("RGB")
        picture = np.asarray(image)[int(middle[1]), int(middle[0])].tolist()
        assert max(abs(a - b) for a, b in zip(without, picture, strict=True)) < 40


def test_a_click_selects_everywhere(serve: Serve, match_run: Path, open_tab: Any) -> None:
    with serve([match_run]) as viewer:
        tab = open_tab(viewer.address, "#frame=5")
        tab.wait("page.stage.position === 5 && page.stage.shown()")
        ids = tab.state("page.stage.shown().id")
        x1, y1, x2, _ = tab.box(ids[0])
        tab.click((x1 + x2) / 2, y1 + 4)
        (one,) = tab.selected
        assert tab.page.get_attribute(f'.track[data-id="{one}"]', "aria-selected") == "true"
        other = next(each for each in ids if each != one)
        tab.page.click(f'.track[data-id="{other}"]', modifiers=["Shift"])
        assert sorted(tab.selected) == sorted([one, other])
        tab.press("Escape")
        assert tab.selected == []
        tab.press("j")
        assert tab.selected == [tab.state("page.tracks.id[page.rows[0]]")]
        tab.press("Escape", ".", ".")
        tab.wait("page.stage.shown()")
        assert tab.selected == [tab.state("page.stage.idsByPlace()[1]")]
        part = tab.state("page.questions.part")
        tab.press("q")
        assert tab.state("page.questions.part") != part


def test_two_tracks_are_chosen_by_keys_alone(serve: Serve, match_run: Path, open_tab: Any) -> None:
    with serve([match_run]) as viewer:
        tab = open_tab(viewer.address)
        first, second, third = tab.state("page.rows.slice(0, 3).map((row) => page.tracks.id[row])")
        tab.press("j", "h", "j")
        assert tab.selected == [first, second]
        assert tab.page.get_attribute("#hold", "aria-pressed") == "true"
        tab.press("j")
        assert tab.selected == [first, third]
        tab.press("h", "k")
        assert tab.selected == [second]
        tab.press("h", "Escape", "j")
        assert tab.selected == [first]


def test_masks_are_painted_with_their_rim(serve: Serve, mask_run: Path, open_tab: Any) -> None:
    """By spans of rows as pixel by pixel; what was painted before is gone."""
    with serve([mask_run]) as viewer:
        tab = open_tab(viewer.address)
        wrong = tab.page.evaluate(
            """async () => {
                const { paintMask } = await import("./page/stage.js");
                let seed = 7;
                const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
                const wrong = [];
                for (let round = 0; round < 60; round++) {
                    const [w, h, x, y, columns] = [3 + (round % 9), 2 + (round % 7), 2, 3, 16];
                    const inside = Array.from({ length: w * h }, () => random() < 0.8);
                    const runs = [];
                    for (let k = 0, value = false; k < w * h; value = !value) {
                        const start = k;
                        while (k < w * h && inside[k] === value) k++;
                        runs.push(k - start);
                    }
                    const rim = round % 3, pixels = new Uint32Array(columns * 12), fill = 0x80030201, edge = 0xff030201;
                    paintMask(pixels, columns, { x, y, w, h, runs, size: [12, columns] }, [1, 2, 3], 128 / 255, rim, 1);
                    const at = (c, r) => c >= 0 && c < w && r >= 0 && r < h && inside[r * w + c];
                    for (let row = 0; row < 12; row++) for (let column = 0; column < columns; column++) {
                        const [c, r] = [column - x, row - y];
                        let isDeep = at(c, r - rim) && at(c, r + rim);
                        for (let k = -rim; k <= rim; k++) isDeep = isDeep && at(c + k, r);
                        const wanted = !at(c, r) ? 0 : isDeep ? fill : edge;
                        if (pixels[row * columns + column] !== wanted) wrong.push([round, column, row]);
                    }
                }
                return wrong;
            }"""
        )
        assert wrong == []
        tab.wait("page.stage.shown()?.masks && page.stage.painted[2] > 0")
        painted = "page.stage.image.data.reduce((sum, value) => sum + (value > 0), 0)"
        before = tab.state(painted)
        assert before > 0
        tab.page.evaluate("window.trackweave.filter.levels.clear()")
        tab.page.evaluate("window.trackweave.stage.draw()")
        assert tab.state(painted) == 0


def test_masks_that_are_painted_coarsely_lie_where_they_are(serve: Serve, mask_run: Path, open_tab: Any) -> None:
    with serve([mask_run]) as viewer:
        far, missing = open_tab(viewer.address).page.evaluate(
            """async () => {
                const { coarseSpans } = await import("./page/stage.js");
                let seed = 5, far = 0, missing = 0;
                const random = (n) => (seed = (seed * 16807) % 2147483647) % n;
                for (let round = 0; round < 200; round++) {
                    const [x, y, w, h, step] = [random(9), random(9), 1 + random(9), 1 + random(9), 2 + random(3)];
                    const { x: left, y: top, w: across, h: down, first, spans } =
                        coarseSpans({ x, y, w, h, runs: [0, w * h], size: [20, 20] }, step);
                    if (first.length !== down + 1) missing += 1;
                    for (let row = 0; row < down; row++) {
                        if (first[row + 1] - first[row] !== 1) missing += 1;
                        const [start, stop] = spans.slice(2 * first[row], 2 * first[row] + 2);
                        if (start < 0 || stop > across || stop <= start) missing += 1;
                        const [begin, end] = [(left + start) * step, (left + stop) * step];
                        far = Math.max(far, Math.abs(begin - x), Math.abs(end - x - w) - step / 2);
                    }
                    far = Math.max(far, Math.abs(top * step - y), Math.abs((top + down) * step - y - h));
                    far -= far < step ? far : 0;
                }
                return [far, missing];
            }"""
        )
        assert (far, missing) == (0, 0)  # none a whole coarse pixel away, none lost


def test_a_large_video_plays_by_small_pictures_of_the_same_frames(serve: Serve, open_tab: Any, tmp_path: Path) -> None:
    """The grey of each picture is its frame's number, as is the place of its box."""
    with Mp4Writer(tmp_path / "v.mp4", 25) as writer:
        for t in range(30):
            writer.write(np.full((96, 1440, 3), 40 + 6 * t, np.uint8))
    (tmp_path / "det.txt").write_text("".join(f"{t + 1},-1,{20 + 4 * t},10,40,60,0.9\n" for t in range(30)))
    track_boxes(
        tmp_path / "v.mp4", tmp_path / "run", detections=str(tmp_path / "det.txt"), tracker="sort", overlay=False
    )
    with serve([tmp_path / "run"]) as viewer:
        tab = open_tab(viewer.address)
        while json.loads(tab.page.request.get(viewer.address + "api/0/status").text())["kept"] < 30:
            tab.page.wait_for_timeout(20)
        tab.page.evaluate(
            """() => {
                const { player, stage } = window.trackweave, draw = stage.draw.bind(stage);
                window.seen = [];
                stage.draw = () => {
                    draw();
                    const objects = stage.shown(), context = stage.canvas.getContext("2d");
                    const grey = context.getImageData(stage.canvas.width / 2, stage.canvas.height / 2, 1, 1).data[0];
                    window.seen.push([stage.position, player.position, stage.bitmap?.width, grey, objects?.box[0]]);
                };
                player.play();
            }"""
        )
        tab.wait("!page.player.isPlaying && page.stage.bitmap?.width === 1440")
        tab.wait("window.seen.at(-1)[2] === 1440")
        seen = tab.page.evaluate("window.seen")
        assert {width for _, _, width, _, _ in seen} == {960, 1440}
        for position, shown, _, grey, left in seen:
            assert position == shown
            assert abs(grey - (40 + 6 * position)) < 3
            assert abs(left - (20 + 4 * position)) < 3
        assert seen[-1][0] == 29


def test_very_small_objects_and_long_names(serve: Serve, open_tab: Any, tmp_path: Path) -> None:
    rows = "".join(f"{t + 1},-1,{40 + 100 * k},60,2,2,0.9\n" for t in range(8) for k in range(3))
    (tmp_path / "det.txt").write_text(rows)
    video = InputSettings(fps=10, size=(640, 360))
    track_boxes(None, tmp_path / "run", detections=str(tmp_path / "det.txt"), tracker="sort", video=video)
    with serve([tmp_path / "run"]) as viewer:
        tab = open_tab(viewer.address)
        tab.wait("page.stage.shown()")
        tab.page.evaluate("trackweave.stage.info.pictures = true")  # as of a sequence that has only some of them
        tab.page.evaluate("trackweave.stage.draw()")
        assert tab.page.inner_text(".stage-note") == "there is no picture of frame 0"
        tab.click(144, 64)
        assert tab.selected == [2]  # it is two pixels wide, and the pointer beside it
        tab.click(190, 64)
        assert tab.selected == []
        assert "8 frames · 640 × 360 · 3 tracks" in tab.page.inner_text("#run-facts")
        widths = tab.page.evaluate(
            """async () => {
                const { fitted, shortened } = await import("./page/util.js");
                const context = document.createElement("canvas").getContext("2d");
                const name = "an-object-with-a-name-that-is-far-too-long".repeat(4);
                const { width } = context.measureText(fitted(context, name, 40));
                return [width, shortened(name, 20).length, fitted(context, "7", 40)];
            }"""
        )
        assert widths[0] <= 40
        assert widths[1:] == [20, "7"]


def test_a_run_without_tracks_says_so(serve: Serve, open_tab: Any, tmp_path: Path) -> None:
    (tmp_path / "det.txt").write_text("1,-1,10,10,20,20,0.01\n")
    video = InputSettings(fps=10, size=(640, 360))
    track_boxes(None, tmp_path / "run", detections=str(tmp_path / "det.txt"), tracker="sort", video=video)
    with serve([tmp_path / "run"]) as viewer:
        tab = open_tab(viewer.address)
        assert tab.page.inner_text("#shown-count") == "this run has no tracks"
        assert "no tracks to ask about" in tab.page.inner_text("#right")
        assert "1 frame ·" in tab.page.inner_text("#run-facts")


def test_search_filter_and_order(serve: Serve, match_run: Path, open_tab: Any) -> None:
    with serve([match_run]) as viewer:
        tab = open_tab(viewer.address)
        ids = tab.state("page.tracks.id")
        tab.press("/")
        tab.page.keyboard.type(str(ids[1]))
        assert tab.state("page.rows.map((row) => page.tracks.id[row])") == [ids[1]]
        tab.page.fill("#search", "")
        tab.page.select_option("#sort", "length")
        counts = tab.state("page.rows.map((row) => page.tracks.count[row])")
        assert counts == sorted(counts, reverse=True)
        tab.page.select_option("#sort", "doubt")
        doubts = tab.state("page.rows.map((row) => page.tracks.doubt[row])")
        assert doubts == sorted(doubts, reverse=True)


def test_a_link_leads_to_frame_and_track(serve: Serve, match_run: Path, open_tab: Any) -> None:
    with serve([match_run]) as viewer:
        tab = open_tab(viewer.address)
        track = tab.state("page.tracks.id[0]")
        other = open_tab(viewer.address, f"#frame=21&track={track}")
        assert (other.frame, other.selected) == (21, [track])
        other.press("ArrowRight")
        other.wait("location.hash.includes('frame=22')")
        other.page.reload()
        other.page.wait_for_selector(READY)
        assert (other.frame, other.selected) == (22, [track])


def test_keys_are_listed_and_looks_stay(serve: Serve, match_run: Path, open_tab: Any) -> None:
    with serve([match_run]) as viewer:
        tab = open_tab(viewer.address)
        tab.press("?")
        text = tab.page.inner_text("#dialog")
        for key in tab.state("page.keys.map((key) => key.does)"):
            assert key in text
        tab.press("Escape", "t")
        assert tab.page.get_attribute("[data-look=trails]", "aria-pressed") == "true"
        tab.page.reload()
        tab.page.wait_for_selector(READY)
        assert tab.page.get_attribute("[data-look=trails]", "aria-pressed") == "true"
        tab.press("d")
        theme = tab.page.evaluate("document.documentElement.dataset.theme")
        tab.press("d")
        assert {theme, tab.page.evaluate("document.documentElement.dataset.theme")} == {"dark", "light"}


def test_a_narrow_page_is_usable(serve: Serve, match_run: Path, open_tab: Any) -> None:
    with serve([match_run]) as viewer:
        tab = open_tab(viewer.address)
        tab.page.set_viewport_size({"width": 390, "height": 800})
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
        tab.page.click("#tabs [data-tab=left]")
        tab.page.click(".track >> nth=0")
        assert len(tab.selected) == 1
        tab.page.click("#tabs [data-tab=right]")
        assert tab.page.is_visible("#right .parts")
        tab.page.click("#play")
        tab.wait("page.player.isPlaying")


def test_every_control_has_a_name(serve: Serve, mask_run: Path, open_tab: Any) -> None:
    """What a screen reader says of buttons, fields and pictures."""
    with serve([mask_run]) as viewer:
        tab = open_tab(viewer.address)
        nameless = tab.page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, canvas, [role=listbox], main > section")]
                .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim()
                    || e.closest("label")?.textContent.trim()))
                .map((e) => e.outerHTML)"""
        )
        assert nameless == []


def test_names_are_never_markup(serve: Serve, match_run: Path, tmp_path: Path, open_tab: Any) -> None:
    """A run whose warnings and name are HTML: it is shown as text."""
    evil = tmp_path / "<img src=x onerror=alert(1)>"
    shutil.copytree(match_run, evil)
    summary = json.loads((evil / "summary.json").read_text())
    warning = {"stage": "x", "level": None, "code": "x", "message": "<script>document.title = 'taken'</script>"}
    summary["warnings"] = [warning]
    (evil / "summary.json").write_text(json.dumps(summary))
    with serve([evil]) as viewer:
        tab = open_tab(viewer.address)
        assert "<img src=x" in tab.page.inner_text("#run-name")
        tab.page.click("#top-buttons .warn")
        assert "<script>" in tab.page.inner_text("#dialog")
        assert "taken" not in tab.page.title()
        assert tab.page.query_selector("#run-name img, #dialog script") is None


def test_a_run_without_pictures(serve: Serve, tmp_path: Path, open_tab: Any) -> None:
    (tmp_path / "det.txt").write_text("".join(f"{t},-1,{10 + 4 * t},20,40,100,0.9\n" for t in range(1, 12)))
    track_boxes(
        None, tmp_path / "run", detections=str(tmp_path / "det.txt"), video=InputSettings(fps=10, size=(320, 240))
    )
    with serve([tmp_path / "run"]) as viewer:
        tab = open_tab(viewer.address)
        tab.press("End")
        tab.wait("page.stage.position === 10")
        assert "--frames" in tab.page.inner_text(".stage-note") or "frames=" in tab.page.inner_text(".stage-note")
        assert tab.page.query_selector(".crops") is None


@pytest.fixture
def run(match_run: Path, tmp_path: Path) -> Path:
    """A copy that may be corrected."""
    shutil.copytree(match_run, tmp_path / "run")
    return tmp_path / "run"


SAID = "page.answers.count"


def test_proofread_a_match(serve: Serve, run: Path, open_tab: Any) -> None:
    """The steps of docs/tasks/proofread.md: answer by a key, name, split, merge, undo, accept; a reload keeps all."""
    with serve([run]) as viewer:
        tab = open_tab(viewer.address)
        tab.wait("page.questions.question")
        asked = tab.state("page.questions.question.at")
        tab.press("n")
        assert tab.frame == asked[0]
        tab.press("6")
        assert "no candidate 6" in tab.page.inner_text("#status")
        tab.press("0")
        tab.wait(f"{SAID} === 1 && !page.isActing")
        assert tab.state("page.questions.question.at") != asked
        tab.press("x")
        tab.wait(f"{SAID} === 2 && !page.isActing")
        tab.press("Control+z")
        tab.wait(f"{SAID} === 1 && page.answers.redo && !page.isActing")

        track = tab.state("page.tracks.id[page.tracks.count.indexOf(Math.max(...page.tracks.count))]")
        count = tab.state("page.tracks.id.length")
        tab.page.fill("#search", str(track))
        tab.page.click(f'.track[data-id="{track}"]')
        tab.press("Escape")
        tab.page.click(f'.track[data-id="{track}"]')
        middle = tab.state(f"page.tracks.first[page.tracks.id.indexOf({track})] + 12")
        tab.press("g")
        tab.page.keyboard.type(str(middle))
        tab.press("Enter", "S")
        tab.wait(f"{SAID} === 2 && page.tracks.id.length === {count + 1} && !page.isActing")
        assert tab.page.inner_text("#status") == f"split; selected: {track}"
        other = tab.state("Math.max(...page.tracks.id)")
        tab.page.click(f'.track[data-id="{track}"]')
        tab.page.fill("#search", str(other))
        tab.page.click(f'.track[data-id="{other}"]', modifiers=["Shift"])
        assert tab.selected == [track, other]
        tab.press("M")
        tab.wait(f"{SAID} === 3 && page.tracks.id.length === {count} && !page.isActing")
        tab.page.fill("#search", "")
        tab.press("Escape")

        tab.page.evaluate("(id) => window.trackweave.pick(id, -1)", track)
        tab.press("R")
        tab.page.keyboard.type("Ann <b>")
        tab.press("Enter")
        tab.wait(f"{SAID} === 4 && Object.values(page.answers.names).includes('Ann <b>') && !page.isActing")
        assert "Ann <b>" in tab.page.inner_text("#list")

        tab.page.evaluate("trackweave.isActing = true")
        tab.press("Delete")
        assert "still on its way" in tab.page.inner_text("#status")
        tab.page.evaluate("trackweave.isActing = false")
        tab.press("A")
        tab.wait(f"{SAID} === 5 && page.answers.accepted.length === 1 && !page.isActing")
        tab.press("End", "E")  # it ends after its last frame: nothing is left out
        tab.wait(f"{SAID} === 6 && !page.isActing")
        tab.press("Control+z")
        tab.wait(f"{SAID} === 5 && page.answers.redo && !page.isActing")
        tab.press("W")
        tab.wait("page.answers.unwritten === false && !page.isActing")
        names = tab.state("page.answers.names")
        tab.page.reload()
        tab.page.wait_for_selector(READY)
        assert tab.state(SAID) == 5
        assert tab.state("page.answers.names") == names


def test_two_tabs_see_each_other(serve: Serve, run: Path, open_tab: Any) -> None:
    with serve([run]) as viewer:
        one, other = open_tab(viewer.address), open_tab(viewer.address)
        one.wait("page.questions.question")
        one.press("n", "0")
        for tab in (one, other):
            tab.wait(f"{SAID} === 1 && !page.isActing")
        other.page.bring_to_front()
        other.press("Control+z")
        one.wait(f"{SAID} === 0")
        assert one.state("page.tracks.id") == other.state("page.tracks.id")


def test_a_box_is_added(serve: Serve, run: Path, open_tab: Any) -> None:
    with serve([run]) as viewer:
        tab = open_tab(viewer.address, "#frame=20")
        tab.wait("page.stage.position === 20 && page.answers.writable")
        tab.press("B")
        bounds = tab.page.locator("canvas.stage").bounding_box()
        assert bounds is not None
        x, y = bounds["x"] + bounds["width"] / 2, bounds["y"] + bounds["height"] / 2
        tab.page.mouse.move(x - 40, y - 60)
        tab.page.mouse.down()
        tab.page.mouse.move(x, y)
        tab.page.mouse.move(x + 40, y + 60)
        tab.page.mouse.up()
        tab.page.wait_for_selector("#dialog[open]")
        tab.page.keyboard.type("Zoe")
        tab.press("Enter")
        tab.wait(f"{SAID} === 1 && Object.values(page.answers.names).includes('Zoe')")


def test_an_act_that_is_refused_is_said(serve: Serve, run: Path, open_tab: Any) -> None:
    with serve([run]) as viewer:
        tab = open_tab(viewer.address)
        tab.wait("page.answers.writable")
        tab.press("M")
        assert "select two tracks" in tab.page.inner_text("#status")


def test_two_runs_side_by_side(serve: Serve, match_run: Path, run: Path, open_tab: Any) -> None:
    with serve([match_run, run]) as viewer:
        tab = open_tab(viewer.address, "#frame=14")
        assert tab.page.locator("canvas.stage").count() == 2
        tab.wait("page.stages.every((stage) => stage.position === 14 && stage.shown())")
        tab.press("ArrowRight")
        tab.wait("page.stages.every((stage) => stage.position === 15)")


def test_the_report_is_a_page_of_its_own(match_run: Path, tmp_path: Path, open_tab: Any) -> None:
    """From the disk: a video with frame numbers, tracks by doubt, a click goes there; nothing is asked of anybody."""
    folder = tmp_path / "a run"
    shutil.copytree(match_run, folder)
    with Mp4Writer(folder / "overlay.mp4", 25) as writer:
        for t in range(60):
            writer.write(np.full((180, 320, 3), 4 * t, np.uint8))
    tab = open_tab(report(folder).resolve().as_uri(), "#frame=50")
    tab.wait("page.stage.position === 50 && page.stage.bitmap && page.stage.shown()")
    shot = PIL.Image.open(io.BytesIO(tab.page.locator("canvas.stage").screenshot())).convert("L")
    assert abs(float(np.median(np.asarray(shot))) - 200) < 6  # most of the canvas is the frame, which is 4 · 50 grey
    track = tab.state("page.tracks.id[page.rows[0]]")
    tab.page.click(f'.track[data-id="{track}"]')
    assert tab.selected == [track]
    assert tab.state("page.tracks.id.length") == len(open_run(folder).tracks().track_ids)
    x1, y1, x2, y2 = tab.box(track)
    here = open_run(folder).tracks().at(50).of(track).xyxy[0]
    assert np.allclose([x1, y1, x2, y2], here, atol=0.51)
    bounds = tab.page.locator("#timeline").bounding_box()
    assert bounds is not None
    tab.page.mouse.click(bounds["x"] + bounds["width"] - 4, bounds["y"] + 8)
    tab.wait("page.stage.position === 59")
    tab.press("Home")
    tab.wait("page.stage.position === 0")
    tab.press(" ")
    tab.wait("page.player.position > 3 && page.stage.position > 3")
    tab.press(" ")
    assert tab.state("page.keys.some((key) => key.group === 'Answers')") is False
    assert tab.page.inner_text("article h1") == "a run"


def test_a_report_without_pictures_has_list_and_timeline(match_run: Path, tmp_path: Path, open_tab: Any) -> None:
    shutil.copytree(match_run, tmp_path / "run")
    tab = open_tab(report(tmp_path / "run").resolve().as_uri())
    tab.press("b", "End", "j")
    tab.wait("page.stage.position === 59 && page.stage.shown().id.length")
    assert len(tab.selected) == 1
    tab.page.set_viewport_size({"width": 390, "height": 800})
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_run_against_the_truth(serve: Serve, match_run: Path, tmp_path: Path, open_tab: Any) -> None:
    """The truth has one object more than the detector found, and a click on the miss goes there."""
    tracks = open_run(match_run).tracks()
    rows = zip(tracks.frame.tolist(), tracks.track_id.tolist(), tracks.xyxy.tolist(), strict=True)
    lines = [f"{t + 1},{k},{x1 + 1},{y1 + 1},{x2 - x1},{y2 - y1},1,1,1" for t, k, (x1, y1, x2, y2) in rows]
    lines += [f"{t + 1},99,3,3,20,20,1,1,1" for t in range(20, 30)]
    (tmp_path / "gt.txt").write_text("\n".join(lines) + "\n")
    with serve([match_run], truth=tmp_path / "gt.txt") as viewer:
        tab = open_tab(viewer.address)
        tab.wait("page.questions.differing.length === 1")
        assert "1 misses" in tab.page.inner_text("#difference-counts")
        tab.press("n")
        tab.wait("page.stages.every((stage) => stage.position === 20)")
        assert tab.state("[...page.stages[1].view.selected]") == [99]
        assert tab.selected == []


def test_families_and_levels(serve: Serve, mask_run: Path, open_tab: Any) -> None:
    with serve([mask_run]) as viewer:
        tab = open_tab(viewer.address)
        parents = dict(zip(tab.state("page.tracks.id"), tab.state("page.tracks.parent"), strict=True))
        part, whole = next((one, parent) for one, parent in parents.items() if parent)
        tab.page.select_option("#sort", "family")
        order = tab.state("page.rows.map((row) => page.tracks.id[row])")
        assert order.index(part) == order.index(whole) + 1
        assert f"part of {whole}" in tab.page.inner_text(f'.track[data-id="{part}"]')
        tab.page.click(f'.track[data-id="{part}"]')
        assert tab.state("[...page.view.related]") == [whole]
        tab.press("y")
        assert sorted(tab.selected) == sorted([part, whole])
        tab.press("v")
        assert set(tab.state("page.rows.map((row) => page.tracks.level[row])")) == {2}
        tab.press("v", "v")
        assert len(tab.state("page.rows")) == len(parents)
