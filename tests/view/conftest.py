"""Runs to look at, a server for them, and a browser where one is installed."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.toy_scenes import CROSSING, candidates_of, write_frames
from tests.view.match import Match
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.masks import track_masks
from trackweave.tracking.settings import TrackingSettings
from trackweave.view.server import Viewer, open_viewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
Serve = Callable[..., AbstractContextManager[Viewer]]


@pytest.fixture(scope="session")
def match_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boxes of a small match, with its video."""
    folder = tmp_path_factory.mktemp("match")
    match = Match(frames=60, players=5, size=(180, 320))
    video = match.write_video(folder / "match.mp4")
    detections = match.write_detections(folder / "det.txt")
    track_boxes(video, folder / "run", detections=str(detections), tracker="adaptive", overlay=False)
    return folder / "run"


@pytest.fixture(scope="session")
def mask_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks of two levels over four frames that are pictures."""
    folder = tmp_path_factory.mktemp("masks")
    frames = write_frames(CROSSING, folder / "frames")
    root = candidates_of(CROSSING, folder / "candidates", range(3))
    candidates_of(CROSSING, root, [0, 2], level=4)
    track_masks(frames, folder / "run", candidates=root, predictor="static", settings=TrackingSettings(cuts="ignore"))
    return folder / "run"


@pytest.fixture(scope="session")
def moving_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks of two of three squares, tracked by `flow` over ten frames; 1 and the unmarked one move."""
    folder = tmp_path_factory.mktemp("moving")
    (folder / "frames").mkdir()
    for t in range(10):
        Image.fromarray(squares(t)).save(folder / "frames" / f"{t:05d}.png")
    labels = np.zeros((72, 96), np.int64)
    labels[20:40, 8:28], labels[48:66, 70:88] = 1, 2
    settings = TrackingSettings(render_viz=False, cuts="ignore")
    track_masks(folder / "frames", folder / "run", prompts={0: labels}, predictor="flow", settings=settings)
    return folder / "run"


def squares(t: int) -> NDArray[np.uint8]:
    """`(72, 96, 3)` uint8: a light square that goes right, a dark one that stays, a grey one that goes left."""
    rng = np.random.default_rng(1)
    image = rng.integers(60, 120, (72, 96, 3), np.uint8)
    light, dark = rng.integers(180, 250, (20, 20, 3), np.uint8), rng.integers(0, 50, (18, 18, 3), np.uint8)
    grey = rng.integers(140, 170, (12, 12, 3), np.uint8)
    image[20:40, 8 + 5 * t : 28 + 5 * t], image[48:66, 70:88] = light, dark
    image[54:66, 48 - 4 * t : 60 - 4 * t] = grey
    return image


@contextmanager
def running(runs: Sequence[Path], **options: Any) -> Iterator[Viewer]:
    """A server in a thread of its own, on a free port."""
    with open_viewer(runs, port=0, **options) as viewer:
        thread = threading.Thread(target=viewer.run)
        thread.start()
        try:
            yield viewer
        finally:
            viewer.server.should_exit = True
            thread.join()


@pytest.fixture
def serve() -> Serve:
    return running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of the system; where there is none the test is skipped, unless TRACKWEAVE_NEEDS_BROWSER is set."""
    needed = bool(os.environ.get("TRACKWEAVE_NEEDS_BROWSER"))
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None and not needed:
        pytest.skip("no Chromium is installed")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        if needed:
            raise
        pytest.skip("playwright is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
