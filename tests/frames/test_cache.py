from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.frames import source
from trackweave.frames.source import FrameCache


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 40))), st.integers(0, 100))
def test_never_more_bytes_than_allowed(puts: list[tuple[int, int]], max_bytes: int) -> None:
    cache = FrameCache(max_bytes)
    for position, size in puts:
        cache.put(position, np.zeros((1, size, 3), np.uint8))
        held = [frame for k in range(10) if (frame := cache.get(k)) is not None]
        assert cache.nbytes == sum(frame.nbytes for frame in held) <= max_bytes
        assert len(cache) == len(held)


def test_the_frame_used_longest_ago_leaves() -> None:
    cache = FrameCache(12)
    for position in (0, 1):
        cache.put(position, np.zeros((1, 2, 3), np.uint8))
    assert cache.get(0) is not None
    cache.put(2, np.zeros((1, 2, 3), np.uint8))
    assert cache.get(1) is None
    assert cache.get(0) is not None


def test_held_frames_cannot_be_written_to() -> None:
    frame = FrameCache(100).put(0, np.zeros((1, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        frame[0] = 1


def test_clear_lets_go() -> None:
    cache = FrameCache(100)
    cache.put(0, np.zeros((1, 2, 3), np.uint8))
    cache.clear()
    assert (len(cache), cache.nbytes, cache.get(0)) == (0, 0, None)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([30, 60])), min_size=5), st.integers(0, 4))
def test_what_a_reader_keeps_stays_as_it_was(puts: list[tuple[int, int]], kept: int) -> None:
    """The memory of a frame that the cache let go serves the next one, once nobody sees the frame any more."""
    cache, views = FrameCache(100), []
    with patch.object(source, "PAGES_FROM", 1):
        for n, (position, size) in enumerate(puts):
            frame = cache.put(position, np.full((1, size // 3, 3), n, np.uint8))
            if n % 5 >= kept:
                views.append((n, frame[0, 1:]))
            for number, view in views:
                assert (view == number).all()


GROWING = """
import sys
from pathlib import Path
from unittest.mock import patch
import numpy as np, psutil
from trackweave import track_boxes
from trackweave.frames.cuts import CutDetector
from trackweave.frames.video import VideoFile
from trackweave.visualization.video import Mp4Writer

root, count, size = Path(sys.argv[1]), 900, []
image = np.tile(np.arange(320, dtype=np.uint8), (240, 3, 1)).transpose(0, 2, 1)
with Mp4Writer(root / "long.mp4", 25) as video:
    for k in range(count):
        video.write(np.ascontiguousarray(np.roll(image, k, 1)))
(root / "det.txt").write_text("".join(f"{k + 1},-1,10,10,20,50,0.9\\n" for k in range(count)))
update = CutDetector.update

def measured(self, image):
    size.append(psutil.Process().memory_info().rss / 2**20)
    return update(self, image)

CutDetector.update = measured
frames = VideoFile(root / "long.mp4", cache_bytes=4_000_000)
track_boxes(frames, root / "run", detections=str(root / "det.txt"), tracker="sort", overlay=False)
print(size[-1] - size[300])
"""


@pytest.mark.skipif(not psutil.LINUX, reason="how memory is given back is each system's own")
def test_a_long_video_does_not_grow_the_process(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", GROWING, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 30  # 600 frames are 132 MB
