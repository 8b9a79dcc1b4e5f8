"""How long the viewer's server takes: from opening a run to the first picture, and to any frame of a long video.

`python benchmarks/viewer.py --minutes 10` makes a 1080p video of moving boxes (H.264, a keyframe every 250 frames, as
encoders do it by themselves), tracks its detections, opens the run, and asks for frames by HTTP as the page does:
far apart and at random, first while the server has just been opened, then when it has been through the file.
"""

from __future__ import annotations

import argparse
import http.client
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil

from trackweave import track_boxes
from trackweave.view.server import Viewer, open_viewer
from trackweave.visualization.video import Mp4Writer

RATE = 25
OBJECTS = 20


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--seeks", type=int, default=200)
    parser.add_argument("--work", type=Path, help="keep the video here, and use it again")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        frames = round(arguments.minutes * 60 * RATE)
        run = make_run(work, frames, (height, width))
        measure(run, frames, arguments.seeks)


def make_run(work: Path, frames: int, size: tuple[int, int]) -> Path:
    """A video and a run of its boxes."""
    video, run = work / f"video-{frames}.mp4", work / f"run-{frames}"
    height, width = size
    rng = np.random.default_rng(0)
    start, speed = rng.uniform(0, 1, (OBJECTS, 2)), rng.uniform(0.001, 0.004, (OBJECTS, 2))
    sides = np.array([0.03 * width, 0.14 * height])

    def boxes(t: int) -> np.ndarray:
        place = np.abs((start + speed * t) % 2 - 1) * (np.array([width, height]) - sides)
        return np.concatenate([place, place + sides], axis=1)

    if not video.exists():
        coarse = rng.integers(40, 216, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
        background = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
        with Mp4Writer(video, RATE) as writer:
            for t in range(frames):
                image = np.roll(background, t // 2, axis=1)
                for k, (x1, y1, x2, y2) in enumerate(boxes(t).astype(int).tolist()):
                    image[y1:y2, x1:x2] = (40 + 10 * k, 220 - 9 * k, 128)
                writer.write(image)
    if not run.exists():
        lines = [
            f"{t + 1},-1,{x1:.1f},{y1:.1f},{x2 - x1:.1f},{y2 - y1:.1f},0.9"
            for t in range(frames)
            for x1, y1, x2, y2 in boxes(t).tolist()
        ]
        (work / "det.txt").write_text("\n".join(lines) + "\n")
        track_boxes(video, run, detections=str(work / "det.txt"), tracker="adaptive", overlay=False)
    return run


def measure(run: Path, frames: int, seeks: int) -> None:
    """Opens the run and asks for frames."""
    began = time.perf_counter()
    with open_viewer([run], port=0) as viewer:
        thread = threading.Thread(target=viewer.run)
        thread.start()
        try:
            for path in ("", "api/info", "api/0/objects?first=0&count=64", "api/0/frame/0.jpg"):
                ask(viewer, path)
            print(f"opened, first picture after {time.perf_counter() - began:.2f} s")
            began = time.perf_counter()
            ask(viewer, "api/0/tracks")
            print(f"all tracks after further {time.perf_counter() - began:.2f} s")
            places = np.random.default_rng(1).integers(0, frames, seeks).tolist()
            report("just opened", [timed(viewer, place) for place in places[:20]])
            wait(viewer, frames)
            report("been through the file", [timed(viewer, place) for place in places])
            memory = psutil.Process().memory_info().rss / 1e6
            for place in np.random.default_rng(2).integers(0, frames, 10 * seeks).tolist():
                timed(viewer, place)
            grown = psutil.Process().memory_info().rss / 1e6 - memory
            print(f"memory {memory:.0f} MB, after {10 * seeks} more frames {grown:+.0f} MB")
        finally:
            viewer.server.should_exit = True
            thread.join()


def ask(viewer: Viewer, path: str) -> bytes:
    """The answer to a request."""
    address = urlsplit(viewer.address)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=600)
    connection.request("GET", address.path + path)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"{path}: {response.status} {content[:200]!r}")
    return content


def timed(viewer: Viewer, place: int) -> float:
    """Seconds until a frame is there."""
    began = time.perf_counter()
    ask(viewer, f"api/0/frame/{place}.jpg")
    return time.perf_counter() - began


def wait(viewer: Viewer, frames: int) -> None:
    """Until every frame is kept."""
    import json

    began, kept = time.perf_counter(), 0
    while kept < frames:
        time.sleep(1)
        status = json.loads(ask(viewer, "api/0/status"))
        if status["problem"] or time.perf_counter() - began > 3600:
            raise RuntimeError(str(status))
        kept = status["kept"]
    print(f"through the file after {time.perf_counter() - began:.0f} s, kept {'small' if status['small'] else 'whole'}")


def report(what: str, seconds: list[float]) -> None:
    """Median, 95th percentile and maximum in ms."""
    median, high = np.percentile(seconds, [50, 95]) * 1000
    print(f"{what}: median {median:.0f} ms, 95 % {high:.0f} ms, worst {max(seconds) * 1000:.0f} ms of {len(seconds)}")


if __name__ == "__main__":
    main()
