"""Tiny videos for the tests, what plain PyAV decodes from them, and a server that sends one."""

from __future__ import annotations

import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.frames.source import RGBFrame

HEIGHT, WIDTH = 48, 64


def picture(k: int) -> NDArray[np.uint8]:
    """Frame k: a bar that grows with k, so that no two frames look alike, and a red corner at the top left."""
    image = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    image[16:, : 2 * k % WIDTH + 1] = 220
    image[:12, :12] = (255, 0, 0)
    return image


def write_video(
    path: Path,
    count: int = 30,
    *,
    codec: str = "libx264",
    milliseconds: Sequence[int] | None = None,
    rotation: float | None = None,
    container_options: dict[str, str] | None = None,
    title: str | None = None,
    **options: str,
) -> Path:
    """Encodes `picture(0 … count-1)`; 25 frames per second unless `milliseconds` stamps each frame."""
    rate = 25 if milliseconds is None else 1000
    stamps = range(count) if milliseconds is None else milliseconds
    with av.open(str(path), "w", options=container_options or {}) as container:
        if title is not None:
            container.metadata["title"] = title
        stream: Any = container.add_stream(codec, rate=25, options=options or {"bf": "3", "g": "8"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for k, stamp in zip(range(count), stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(picture(k), "rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decoded_in_order(path: Path) -> list[NDArray[Any]]:
    """All frames by one pass of the plain decoder, as stored (not turned upright)."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def set_edit_list(path: Path, edits: Sequence[tuple[int, int]]) -> Path:
    """Gives an MP4 or MOV another edit list, as cutting without encoding anew does; its index has to be at the end.

    Args:
        path: a file of `write_video`.
        edits: `(milliseconds shown, media time)` of each part, the media time in the stream's time units, −1 for
            nothing.
    """
    data = bytearray(path.read_bytes())
    entries = b"".join(struct.pack(">Iihh", shown, start, 1, 0) for shown, start in edits)
    box = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    old = data.index(b"elst") - 4
    grown = len(box) - int.from_bytes(data[old : old + 4], "big")
    data[old : old + int.from_bytes(data[old : old + 4], "big")] = box
    for name in (b"moov", b"trak", b"edts"):
        start = data.index(name, data.index(b"moov")) - 4
        data[start : start + 4] = (int.from_bytes(data[start : start + 4], "big") + grown).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def ffmpeg(*arguments: str | Path) -> bytes:
    """What the installed ffmpeg writes to its standard output."""
    command = ["ffmpeg", "-loglevel", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def frames_of_ffmpeg(path: Path) -> NDArray[np.uint8]:
    """`(N, H, W, 3)` uint8 RGB: the frames that the installed ffmpeg shows."""
    options = ["-map", "0:v:0", "-vsync", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    return np.frombuffer(ffmpeg("-i", path, *options), np.uint8).reshape(-1, HEIGHT, WIDTH, 3)


def counted_by_ffprobe(path: Path) -> int:
    """How many frames the installed ffprobe counts."""
    command = ["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v:0"]
    command += ["-show_entries", "stream=nb_read_frames", "-of", "default=nokey=1:noprint_wrappers=1", str(path)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0])


def texture(seed: int) -> RGBFrame:
    """A large picture to move a window over."""
    coarse = np.random.default_rng(seed).integers(0, 256, (30, 50, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (500, 300), interpolation=cv2.INTER_CUBIC), np.uint8)


def shot(seed: int, count: int, speed: int = 2) -> list[RGBFrame]:
    """A camera that moves over a texture."""
    return [texture(seed)[40:160, 20 + speed * k : 200 + speed * k] for k in range(count)]


MOTION_JPEG = "multipart/x-mixed-replace; boundary=next"


@contextmanager
def serving(
    *parts: bytes, kind: str = "video/mp2t", then_wait: threading.Event | None = None, has_length: bool = False
) -> Iterator[str]:
    """An HTTP server on this machine that sends the parts, and holds the line until the event if there is one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            if has_length:
                self.send_header("Content-Length", str(sum(map(len, parts))))
            self.end_headers()
            try:
                for part in parts:
                    self.wfile.write(part)
                self.wfile.flush()
                if then_wait is not None:
                    then_wait.wait(30)
            except OSError:  # the reader has hung up
                return

        def log_message(self, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/camera"
    finally:
        if then_wait is not None:
            then_wait.set()
        server.shutdown()
        thread.join()
        server.server_close()
