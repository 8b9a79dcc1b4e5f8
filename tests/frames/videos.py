"""Tiny videos for the tests, and what plain PyAV decodes from them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

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
    **options: str,
) -> Path:
    """Encodes `picture(0 … count-1)`; 25 frames per second unless `milliseconds` stamps each frame."""
    rate = 25 if milliseconds is None else 1000
    stamps = range(count) if milliseconds is None else milliseconds
    with av.open(str(path), "w", options=container_options or {}) as container:
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
