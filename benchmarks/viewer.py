"""What the viewer promises, measured: first picture, any frame, many tracks, playing, memory.

`python benchmarks/viewer.py --minutes 10` makes a 1080p video of moving boxes (H.264, a keyframe every 250 frames, as
encoders do it by themselves, or every `--keyframes`), tracks its detections, opens the run, and asks for frames by HTTP
as the page does: far apart and at random, first while the server has just been opened, then when it has been through
the file. `--page` measures the page itself in Debian's Chromium: a run of `--frames` frames and `--tracks` tracks is
opened, its timeline scrolled, `--scrubs` random frames gone to; and 20 masks of a 1080p video of 60 frames a second are
played. It needs `playwright` and a Chromium. No part takes longer than `--patience`: what was done by then is reported.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import cv2
import numpy as np
import psutil

from trackweave import track_boxes, track_masks
from trackweave.storage.track_archive import TrackRows, TracksArchiveWriter
from trackweave.structures.tracks import Tracks
from trackweave.tracking.settings import TrackingSettings
from trackweave.view import pictures
from trackweave.view.server import Viewer, open_viewer

RATE, FAST_RATE = 25, 60
OBJECTS = 20
USUAL_KEYFRAMES = 250
LOOP = 500
"""Frames of a long video that are encoded; it repeats them, packet by packet."""
DRAG_SECONDS = 0.05
LENGTH = 200
"""Frames of a track of `--tracks`."""


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--keyframes", type=int, default=USUAL_KEYFRAMES, help="frames from one to the next")
    parser.add_argument("--seeks", type=int, default=200)
    parser.add_argument("--page", action="store_true", help="measure the page in a browser instead of the server")
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--tracks", type=int, default=1000)
    parser.add_argument("--scrubs", type=int, default=3600, help="one a second for an hour")
    parser.add_argument("--patience", type=float, default=1800, help="seconds that a part may take")
    parser.add_argument("--nice", type=int, help="of the thread that decodes ahead: on a busy machine it gets no time")
    parser.add_argument("--work", type=Path, help="keep videos and runs here, and use them again")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    if arguments.nice is not None:
        pictures.BACKGROUND_NICE = arguments.nice
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        if arguments.page:
            run = make_long_run(work, arguments.frames, arguments.tracks)
            measure_page(run, arguments.scrubs, arguments.patience)
            measure_playing(make_mask_run(work, (height, width)), arguments.patience)
            return
        frames = round(arguments.minutes * 60 * RATE)
        run = make_run(work, frames, (height, width), arguments.keyframes)
        measure(run, frames, arguments.seeks, arguments.patience)


@contextmanager
def h264(path: Path, size: tuple[int, int], keyframes: int, rate: int) -> Iterator[Any]:
    """Writes RGB frames of `(H, W)`, a keyframe every so many."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("h264", rate=Fraction(rate), options={"crf": "20", "preset": "veryfast"})
        stream.height, stream.width = size
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", keyframes
        yield lambda image: container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def repeat_video(source: Path, path: Path, times: int) -> None:
    """A video several times in a row, without encoding it anew."""
    with av.open(str(source)) as short, av.open(str(path), "w") as long:
        stream = short.streams.video[0]
        copied = long.add_stream_from_template(stream)
        assert stream.duration is not None
        for turn in range(times):
            short.seek(0)
            for packet in short.demux(stream):
                if packet.pts is None or packet.dts is None:
                    continue
                packet.pts += turn * stream.duration
                packet.dts += turn * stream.duration
                packet.stream = copied
                long.mux(packet)


def walks(count: int, size: tuple[int, int]) -> Any:
    """`count` boxes that walk to and fro: a function of the frame that gives `(count, 4)` xyxy."""
    height, width = size
    rng = np.random.default_rng(0)
    start, speed = rng.uniform(0, 1, (count, 2)), rng.uniform(0.001, 0.004, (count, 2))
    sides = np.array([0.03 * width, 0.14 * height])

    def boxes(t: int) -> np.ndarray:
        place = np.abs((start + speed * t) % 2 - 1) * (np.array([width, height]) - sides)
        return np.concatenate([place, place + sides], axis=1)

    return boxes


def make_video(path: Path, frames: int, size: tuple[int, int], keyframes: int, rate: int = RATE) -> None:
    """Boxes that walk over a background that moves; what is longer than `LOOP` repeats its beginning."""
    if frames > LOOP and frames % LOOP == 0:
        short = path.with_name(f"loop-{path.name}")
        make_video(short, LOOP, size, keyframes, rate)
        repeat_video(short, path, frames // LOOP)
        return
    height, width = size
    boxes, rng = walks(OBJECTS, size), np.random.default_rng(1)
    coarse = rng.integers(40, 216, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    background = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    with h264(path, size, keyframes, rate) as write:
        for t in range(frames):
            image = np.roll(background, t // 2, axis=1)
            for k, (x1, y1, x2, y2) in enumerate(boxes(t).astype(int).tolist()):
                image[y1:y2, x1:x2] = (40 + 10 * k, 220 - 9 * k, 128)
            write(image)


def make_run(work: Path, frames: int, size: tuple[int, int], keyframes: int) -> Path:
    """A video and a run of its boxes."""
    video, run = work / f"video-{frames}-{keyframes}.mp4", work / f"run-{frames}-{keyframes}"
    if not video.exists():
        make_video(video, frames, size, keyframes)
    if not run.exists():
        boxes = walks(OBJECTS, size)
        lines = [
            f"{t + 1},-1,{x1:.1f},{y1:.1f},{x2 - x1:.1f},{y2 - y1:.1f},0.9"
            for t in range(frames)
            for x1, y1, x2, y2 in boxes(t).tolist()
        ]
        (work / "det.txt").write_text("\n".join(lines) + "\n")
        track_boxes(video, run, detections=str(work / "det.txt"), tracker="adaptive", overlay=False)
    return run


def make_long_run(work: Path, frames: int, tracks: int) -> Path:
    """A run of `tracks` tracks of 200 frames each; its video is small, and the tracker had less to do than it shows."""
    run, size = work / f"long-{frames}-{tracks}", (360, 640)
    if run.exists():
        return run
    video = work / f"small-{frames}.mp4"
    if not video.exists():
        make_video(video, frames, size, USUAL_KEYFRAMES)
    (work / "one.txt").write_text("".join(f"{t + 1},-1,10,10,20,50,0.9\n" for t in range(frames)))
    track_boxes(video, run, detections=str(work / "one.txt"), tracker="sort", overlay=False)
    rng = np.random.default_rng(0)
    first = rng.integers(0, frames - LENGTH, tracks)
    frame = (first[:, None] + np.arange(LENGTH)).reshape(-1)
    corner = rng.uniform(0, 0.9, (tracks, 1, 2)) + rng.normal(0, 0.0005, (tracks, LENGTH, 2)).cumsum(axis=1)
    corner = np.clip(corner, 0, 0.9).reshape(-1, 2) * np.array(size[::-1])
    boxes = np.concatenate([corner, corner + np.array([20, 50])], axis=1)
    seen = Tracks.from_columns(frame, np.repeat(np.arange(1, tracks + 1), LENGTH), boxes, np.full(len(frame), 0.9))
    with TracksArchiveWriter(run / "tracks.npz") as writer:
        writer.write(TrackRows(seen, np.arange(len(seen)), np.full(len(seen), np.nan)))
    return run


def make_mask_run(work: Path, size: tuple[int, int], frames: int = 300) -> Path:
    """A run of 20 round masks over a video of 60 frames a second."""
    run, video = work / f"masks-{size[1]}", work / f"fast-{frames}-{size[1]}.mp4"
    if run.exists():
        return run
    if not video.exists():
        make_video(video, frames, size, USUAL_KEYFRAMES, FAST_RATE)
    rng = np.random.default_rng(2)
    labels = np.zeros(size, np.int64)
    for k in range(1, OBJECTS + 1):
        centre = (rng.uniform(0.08, 0.92, 2) * size[::-1]).astype(int).tolist()
        disc = np.zeros(size, np.uint8)
        cv2.ellipse(disc, centre, (size[1] // 14, size[0] // 9), 0, 0, 360, 1, -1)
        labels[disc > 0] = k
    settings = TrackingSettings(cuts="ignore", render_viz=False)
    track_masks(video, run, prompts={0: labels}, predictor="static", settings=settings, overlay=False)
    return run


@contextmanager
def serving(run: Path) -> Iterator[Viewer]:
    """A server in a thread of its own."""
    with open_viewer([run], port=0) as viewer:
        thread = threading.Thread(target=viewer.run)
        thread.start()
        try:
            yield viewer
        finally:
            viewer.server.should_exit = True
            thread.join()


def measure(run: Path, frames: int, seeks: int, patience: float) -> None:
    """Opens the run and asks for frames."""
    began = time.perf_counter()
    with serving(run) as viewer:
        for path in ("", "api/info", "api/0/objects?first=0&count=64", "api/0/frame/0.jpg"):
            ask(viewer, path)
        print(f"opened, first picture after {time.perf_counter() - began:.2f} s")
        began = time.perf_counter()
        ask(viewer, "api/0/tracks")
        print(f"all tracks after further {time.perf_counter() - began:.2f} s")
        places = np.random.default_rng(1).integers(0, frames, seeks).tolist()
        report("the nearest, just opened", [timed(viewer, f"near/{place}.jpg") for place in places[:20]])
        report("just opened", [timed(viewer, f"frame/{place}.jpg?wish=1") for place in places[:20]])
        report("just opened, two given up before it", [dragged(viewer, places[k : k + 3]) for k in range(20, 80, 3)])
        wait(viewer, frames, patience)
        report("been through the file", [timed(viewer, f"frame/{place}.jpg?wish=1") for place in places])
        memory = psutil.Process().memory_info().rss / 1e6
        for place in np.random.default_rng(2).integers(0, frames, 10 * seeks).tolist():
            timed(viewer, f"frame/{place}.jpg?wish=1")
        grown = psutil.Process().memory_info().rss / 1e6 - memory
        print(f"memory {memory:.0f} MB, after {10 * seeks} more frames {grown:+.0f} MB")


def ask(viewer: Viewer, path: str) -> bytes:
    """The answer to a request."""
    address = urlsplit(viewer.address)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=600)
    connection.request("GET", address.path + path)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    if response.status not in (200, 204):
        raise RuntimeError(f"{path}: {response.status} {content[:200]!r}")
    return content


def timed(viewer: Viewer, path: str) -> tuple[float, float]:
    """Seconds until a picture is there, and those of processor meanwhile, of server and client."""
    began, processor = time.perf_counter(), time.process_time()
    ask(viewer, f"api/0/{path}")
    return time.perf_counter() - began, time.process_time() - processor


def dragged(viewer: Viewer, places: list[int]) -> tuple[float, float]:
    """As `timed`, of the last of some places that a reader wishes for in a row, as one who drags the scrubber does."""
    given_up = [threading.Thread(target=timed, args=(viewer, f"frame/{place}.jpg?wish=1")) for place in places[:-1]]
    for thread in given_up:
        thread.start()
        time.sleep(DRAG_SECONDS)
    seconds = timed(viewer, f"frame/{places[-1]}.jpg?wish=1")
    for thread in given_up:
        thread.join()
    return seconds


def wait(viewer: Viewer, frames: int, patience: float) -> None:
    """Until every frame is kept, or patience ends."""
    began, processor, kept = time.perf_counter(), time.process_time(), 0
    while kept < frames and time.perf_counter() - began < patience:
        time.sleep(1)
        status = json.loads(ask(viewer, "api/0/status"))
        if status["problem"]:
            raise RuntimeError(str(status))
        kept = status["kept"]
    seconds = time.perf_counter() - began, time.process_time() - processor
    print("through {} frames after {:.0f} s, {:.0f} s of processor".format(kept, *seconds))
    print(f"kept {'small' if status['small'] else 'whole'}; {load()}")


def load() -> str:
    """How busy the machine is."""
    return f"load {psutil.getloadavg()[0]:.0f} on {psutil.cpu_count()} cores"


def report(what: str, seconds: list[tuple[float, float]]) -> None:
    """Median, 95th percentile and maximum in ms, and the median of processor time."""
    wall, processor = np.array(seconds).T * 1000
    median, high = np.percentile(wall, [50, 95])
    text = f"{what}: median {median:.0f} ms, 95 % {high:.0f} ms, worst {wall.max():.0f} ms of {len(seconds)}"
    print(f"{text}; of processor {np.median(processor):.0f} ms; {load()}", flush=True)


# --- the page ---------------------------------------------------------------------------------------------------------

TIMELINE = """() => {
    const page = window.trackweave, { timeline, list } = page, times = [];
    for (let k = 0; k < 200; k++) {
        timeline.scroll.scrollTop = (k / 200) * timeline.space.clientHeight;
        list.scroll.scrollTop = (k / 200) * list.space.clientHeight;
        const began = performance.now();
        timeline.draw();
        list.draw();
        times.push(performance.now() - began);
    }
    times.sort((a, b) => a - b);
    return [times[100], times[190], times[199], document.querySelectorAll("*").length];
}"""
SCRUB = """async ([places, most]) => {
    const { player } = window.trackweave, began = performance.now(), times = [];
    for (const place of places) {
        const asked = performance.now();
        if (asked - began > most) break;
        await player.seek(place);
        times.push(performance.now() - asked);
    }
    return times;
}"""
PLAY = """async (most) => {
    const { player } = window.trackweave, lags = [], began = performance.now();
    player.seek(0);
    player.play();
    while (player.isPlaying && performance.now() - began < most) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        const due = player.beganAt + (performance.now() - player.began) * player.rate / 1000;
        lags.push(Math.min(due, player.last) - player.position);
    }
    const seconds = (performance.now() - began) / 1000;
    player.pause();
    return { lags, seconds, ...player.counts };
}"""
DRAW = """() => {
    const { stage } = window.trackweave, times = [];
    for (let k = 0; k < 60; k++) {
        const began = performance.now();
        stage.layerKey = "";
        stage.draw();
        stage.canvas.getContext("2d").getImageData(0, 0, 1, 1); // until it is drawn
        times.push(performance.now() - began);
    }
    return times.sort((a, b) => a - b)[30];
}"""
BATCH = 50
"""Jumps of one call."""


@contextmanager
def tab(viewer: Viewer) -> Iterator[Any]:
    """A tab of Chromium."""
    from playwright.sync_api import sync_playwright

    path = next(found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(300_000)
        yield page
        browser.close()


def until(page: Any, expression: str, patience: float) -> None:
    """Until an expression is true; the page's own policy allows no `wait_for_function`."""
    began = time.perf_counter()
    while not page.evaluate(f"(() => {{ const page = window.trackweave; return Boolean({expression}); }})()"):
        if time.perf_counter() - began > patience:
            raise RuntimeError(f"not within {patience:.0f} s: {expression}")
        page.wait_for_timeout(10)


def measure_page(run: Path, scrubs: int, patience: float) -> None:
    """Opening, timeline and memory of a long run."""
    began = time.perf_counter()
    with serving(run) as viewer, tab(viewer) as page:
        print(f"the server and a browser are there after {time.perf_counter() - began:.2f} s; {load()}", flush=True)
        for _ in range(3):
            began, processor = time.perf_counter(), used()
            page.goto(viewer.address)
            until(page, "page && page.stage.bitmap", patience)
            first = time.perf_counter() - began, used() - processor
            until(page, "page.tracks", patience)
            listed = time.perf_counter() - began
            until(page, "document.documentElement.dataset.ready", patience)
            asked = time.perf_counter() - began, used() - processor
            print("first picture {:.2f} s after opening the page, {:.2f} s of processor; ".format(*first), end="")
            print(f"all tracks after {listed:.2f} s; questions after ", end="")
            print("{:.2f} s, {:.2f} s of processor; ".format(*asked) + load(), flush=True)
        median, high, worst, elements = page.evaluate(TIMELINE)
        print(f"timeline and list, a step of scrolling: median {median:.1f} ms, 95 % {high:.1f}, worst {worst:.1f}")
        print(f"{elements} elements in the page; {load()}", flush=True)
        wait(viewer, page.evaluate("window.trackweave.info.frames"), patience)
        scrub(page, scrubs, patience)


def scrub(page: Any, scrubs: int, patience: float) -> None:
    """Random jumps, and memory after each quarter of them."""
    frames = page.evaluate("window.trackweave.info.frames")
    places = np.random.default_rng(3).integers(0, frames, scrubs).tolist()
    session = page.context.new_cdp_session(page)
    began, done, times = time.perf_counter(), 0, [0.0]
    for quarter in range(5):
        while done < quarter * scrubs // 4 and time.perf_counter() - began < patience:
            some = page.evaluate(SCRUB, [places[done : min(done + BATCH, quarter * scrubs // 4)], 60_000])
            done, times = done + len(some), times + some
        session.send("HeapProfiler.collectGarbage")
        heap = session.send("Runtime.getHeapUsage")["usedSize"] / 1e6
        text = f"after {done} jumps, {time.perf_counter() - began:.0f} s: heap {heap:.1f} MB, tab {tab_memory():.0f} MB"
        print(f"{text}, server {psutil.Process().memory_info().rss / 1e6:.0f} MB", flush=True)
    print(f"a jump: median {np.median(times):.0f} ms, 95 % {np.percentile(times, 95):.0f}; {load()}", flush=True)


def tab_memory() -> float:
    """MB of the largest renderer among the browsers that this process started."""
    renderers = [child for child in browsers() if "--type=renderer" in child.cmdline()]
    return max((child.memory_info().rss / 1e6 for child in renderers), default=0)


def browsers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.is_running()]


def used() -> float:
    """Seconds of processor of this process and its browsers."""
    times = [process.cpu_times() for process in (psutil.Process(), *browsers())]
    return float(sum(each.user + each.system for each in times))


def measure_playing(run: Path, patience: float) -> None:
    """How many frames of 20 masks are drawn and dropped, and how far the picture lags behind the clock."""
    with serving(run) as viewer, tab(viewer) as page:
        page.goto(viewer.address)
        until(page, "document.documentElement.dataset.ready", patience)
        print(f"20 masks: one frame is drawn in {page.evaluate(DRAW):.1f} ms; {load()}", flush=True)
        wait(viewer, page.evaluate("window.trackweave.info.frames"), patience)
        for _ in range(3):
            processor = used()
            played = page.evaluate(PLAY, 1000 * min(patience, 60))
            lags, seconds = played["lags"], played["seconds"]
            print(f"{played['drawn']} frames drawn in {seconds:.1f} s, {played['dropped']} dropped; ", end="")
            print(f"behind the clock: median {np.median(lags):.1f} frames, worst {max(lags):.1f}; ", end="")
            print(f"{used() - processor:.1f} s of processor; {load()}", flush=True)


if __name__ == "__main__":
    main()
