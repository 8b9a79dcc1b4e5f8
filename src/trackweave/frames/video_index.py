"""`VideoIndex`: which frames a video file has, when they are shown, and from where each can be decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from trackweave.errors import FrameError


@dataclass(frozen=True)
class VideoIndex:
    """The frames of one video in the order in which they are shown.

    Attributes:
        pts: `(N,)` int64, presentation timestamps in units of `time_base`, strictly increasing; None when the file
            does not stamp its frames one by one. Such a video is addressed by counting decoded frames.
        rank: `(N,)` int64, place of each frame in the order in which the file stores (and decoders want) them.
        seek_points: `(K,)` int64, positions of the keyframes, increasing; the first is 0.
        seek_sizes: `(K,)` int64, bytes of each keyframe's packet.
        corrupt: positions of frames whose data is incomplete.
        time_base: seconds per timestamp unit.
        count: N.
        damage: one line when the file holds fewer frames than its header promises, else None.
    """

    pts: NDArray[np.int64] | None
    rank: NDArray[np.int64]
    seek_points: NDArray[np.int64]
    seek_sizes: NDArray[np.int64]
    corrupt: frozenset[int]
    time_base: Fraction
    count: int
    damage: str | None

    def position_of(self, pts: int | None) -> int | None:
        """Position of the frame with this timestamp; None when no frame has it."""
        if self.pts is None or pts is None:
            return None
        position = int(np.searchsorted(self.pts, pts))
        return position if position < self.count and self.pts[position] == pts else None

    def seek_point_before(self, position: int) -> int:
        """The last keyframe that is not shown after `position`.

        Frames that follow a keyframe in the file but are shown before it (an open group of pictures) need the
        group before; going by the order of display gives them that one.
        """
        return int(self.seek_points[np.searchsorted(self.seek_points, position, side="right") - 1])

    @property
    def times(self) -> tuple[float, ...] | None:
        """Seconds after the first frame, one per frame; None without timestamps."""
        if self.pts is None:
            return None
        return tuple(float((int(pts) - int(self.pts[0])) * self.time_base) for pts in self.pts)


@dataclass(frozen=True, slots=True)
class _Packet:
    pts: int | None
    size: int
    is_keyframe: bool
    is_corrupt: bool


def open_container(path: Path) -> tuple[Any, Any]:
    """The file's container and its main video stream, which decodes with as many threads as it likes.

    Raises:
        FrameError: missing, damaged beyond opening, or without a video stream.
    """
    try:
        container = av.open(str(path.resolve()))
    except (FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FrameError(f"{path} cannot be opened as a video ({reason}): is it complete, and is it a video?") from None
    # Cover art of an audio file counts as a video stream; "tty" is how FFmpeg reads plain text.
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams or container.format.name == "tty":
        container.close()
        raise FrameError(f"{path} has no video stream: give a video file, or a folder of images")
    stream = streams[0]
    stream.thread_type = "AUTO"
    return container, stream


def index_video(path: Path) -> VideoIndex:
    """Reads all packets of the file once, decoding none unless the packets carry no usable timestamps.

    Raises:
        FrameError: as `open_container`, and for a video without a single frame.
    """
    container, stream = open_container(path)
    with container:
        packets, damage = _demux(container, stream)
        # Only the index of MP4 and MOV lists every frame before the first one; other headers estimate.
        promised = len(getattr(stream, "index_entries", ())) if "mp4" in container.format.name else 0
        time_base = stream.time_base or Fraction(1, 1000)
    if promised > len(packets) and damage is None:
        damage = f"{path} is cut off: its header promises {promised} frames, {len(packets)} are there"
    shown = [packet for packet in packets if packet is not None]
    index = _by_timestamp(shown, time_base, damage) or _by_counting(path, time_base, damage)
    if not index.count:
        raise FrameError(f"{path} holds no frame that can be decoded: is the file complete?")
    return index


def _demux(container: Any, stream: Any) -> tuple[list[_Packet | None], str | None]:
    """What each packet says, None for packets that show nothing, and the damage that ended the reading early."""
    packets: list[_Packet | None] = []
    try:
        # `extend` keeps what it has taken when the iterator fails.
        packets.extend(_facts(packet) for packet in container.demux(stream) if packet.size)
    except FFmpegError as error:
        return packets, f"{container.name} is damaged after {len(packets)} frames ({error.strerror})"
    return packets, None


def _facts(packet: Any) -> _Packet | None:
    if packet.is_discard:  # cut away by the file's edit list; the decoder drops it too
        return None
    # VP8 keeps reference pictures that are never shown in packets of their own; bit 4 of the header tells.
    if packet.stream.codec_context.name == "vp8" and not memoryview(packet)[0] & 0x10:
        return None
    return _Packet(packet.pts, packet.size, packet.is_keyframe, packet.is_corrupt)


def _by_timestamp(packets: list[_Packet], time_base: Fraction, damage: str | None) -> VideoIndex | None:
    """None when a timestamp is missing or comes twice, or nothing is marked as a keyframe."""
    stamps = [packet.pts for packet in packets if packet.pts is not None]
    if len(set(stamps)) < len(packets) or not any(packet.is_keyframe for packet in packets):
        return None
    pts = np.array(stamps, np.int64)
    order = np.argsort(pts)
    is_keyframe = np.array([packet.is_keyframe for packet in packets])[order]
    # What is shown before the first keyframe refers to frames that the file does not have.
    first = int(np.argmax(is_keyframe))
    order, is_keyframe = order[first:], is_keyframe[first:]
    return VideoIndex(
        pts=pts[order],
        rank=order.astype(np.int64),
        seek_points=np.flatnonzero(is_keyframe).astype(np.int64),
        seek_sizes=np.array([packets[k].size for k in order[is_keyframe].tolist()], np.int64),
        corrupt=frozenset(position for position, k in enumerate(order.tolist()) if packets[k].is_corrupt),
        time_base=time_base,
        count=len(order),
        damage=damage,
    )


def _by_counting(path: Path, time_base: Fraction, damage: str | None) -> VideoIndex:
    container, stream = open_container(path)
    with container:
        count = sum(1 for _ in decoded_in_order(container, stream))
    rank = np.arange(count, dtype=np.int64)
    return VideoIndex(None, rank, rank[:1], rank[:0], frozenset(), time_base, count, damage)


def decoded_in_order(container: Any, stream: Any) -> Iterator[Any]:
    """All frames from where the container stands; packets that cannot be decoded are passed over."""
    try:
        for packet in container.demux(stream):
            yield from decoded(packet)[0]
    except FFmpegError:
        return


def decoded(packet: Any) -> tuple[list[Any], str | None]:
    """The frames that come out when a packet goes in, and why there are none when the decoder refuses it."""
    try:
        return packet.decode(), None
    except FFmpegError as error:
        return [], str(error.strerror)
