"""Runs to look at, a server for them, and a browser where one is installed."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

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
