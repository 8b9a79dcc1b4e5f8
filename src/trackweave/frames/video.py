"""`VideoFile`: the frames of a video file, each exactly addressable.

`VideoIndex` lists which frames the file has, when each is displayed, and from where it can be decoded; `VideoDecoder`
decodes forward from any keyframe.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from threading import RLock
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from trackweave.errors import FrameError
from trackweave.frames.source import (
    FrameCache,
    RGBFrame,
    SourceNote,
    WholeVideo,
    checked_position,
    numbered_names,
    size_text,
)


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet of the file's video stream.

    Attributes:
        rank: its place in the file, the order in which decoders want packets.
        pts: presentation timestamp; None where the file gives none.
        size: bytes of its data.
        is_keyframe: whether decoding can begin here.
        is_displayed: False for packets that are only decoded, because others refer to them: the part before and after
            a cut that was made without encoding anew (the file's edit list), and VP8's hidden reference frames.
        is_discarded: hidden by the edit list; decoders drop its frame.
        is_corrupt: its data is incomplete.
    """

    rank: int
    pts: int | None
    size: int
    is_keyframe: bool
    is_displayed: bool
    is_discarded: bool
    is_corrupt: bool


@dataclass(frozen=True)
class VideoIndex:
    """The frames of one video in the order of display.

    Attributes:
        pts: `(N,)` int64, presentation timestamps in units of `time_base`, strictly increasing; None when the file
            does not stamp its frames one by one. Such a video is addressed by counting decoded frames.
        rank: `(N,)` int64, place of each frame in the order in which the file stores (and decoders want) them.
        keyframes: where decoding can begin, in the order of the file; also keyframes that are not displayed.
        keyframe: `(N,)` int64, which of `keyframes` each frame is decoded from.
        corrupt: positions of frames whose data is incomplete.
        time_base: seconds per timestamp unit.
        count: N.
        damage: one line when the file holds less than its header promises, else None.
        streams: video streams of the file, without cover art; the frames are those of the first.
    """

    pts: NDArray[np.int64] | None
    rank: NDArray[np.int64]
    keyframes: tuple[Packet, ...]
    keyframe: NDArray[np.int64]
    corrupt: frozenset[int]
    time_base: Fraction
    count: int
    damage: str | None
    streams: int = 1

    def position_of(self, pts: int | None) -> int | None:
        """Position of the frame with this timestamp; None when no frame has it."""
        if self.pts is None or pts is None:
            return None
        position = int(np.searchsorted(self.pts, pts))
        return position if position < self.count and self.pts[position] == pts else None

    def first_from(self, keyframe: int) -> int:
        """Position of the first frame that is decoded from a keyframe."""
        return int(np.searchsorted(self.keyframe, keyframe))

    @property
    def times(self) -> tuple[float, ...] | None:
        """Seconds after the first frame, one per frame; None without timestamps."""
        if self.pts is None:
            return None
        first, unit, units = int(self.pts[0]), self.time_base.numerator, self.time_base.denominator
        return tuple((pts - first) * unit / units for pts in self.pts.tolist())


VIDEO_KINDS = (
    "mov,mp4,m4a,3gp,3g2,mj2|matroska,webm|avi|mpegts|mpegtsraw|mpeg|mpegvideo|flv|live_flv|asf|asf_o|ogg|mxf|gif|apng|"
    "h261|h263|h264|hevc|vvc|av1|obu|ivf|evc|m4v|vc1|vc1test|cavsvideo|avs2|avs3|dirac|dnxhd|mjpeg|mjpeg_2000|smjpeg|"
    "yuv4mpegpipe|rm|rl2|dv|wtv|nut|nsv|ea|gxf|lxf|mtv|mv|mvi|pva|ty|vivo|film_cpk|xmv|bink|smk|flic|roq|swf|r3d|avs|"
    "cine|ser|dhav|tty"  # "tty" is how FFmpeg reads plain text
).replace("|", ",")
"""Formats that hold their own frames; not lists of other files (HLS, DASH, concat, SDP, image2)."""

_OPTIONS = {"format_whitelist": VIDEO_KINDS, "protocol_whitelist": "file"}
_EBML, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
_UNCOUNTED_BYTES = 16
"""Some writers count the padding at the end of a file, and leave it out."""
_LISTS = {b"ffconcat": "concat", b"#EXTM3U": "HLS playlist", b"<MPD": "DASH manifest", b"v=0": "SDP description"}


def open_container(path: Path) -> tuple[Any, Any]:
    """The file's container and its main video stream, which decodes with as many threads as it likes.

    A file is only read itself: what names other files or addresses is refused, and no network is used.

    Raises:
        FrameError: missing, damaged beyond opening, without a video stream, or of an unknown codec.
    """
    try:
        container = av.open(str(path.resolve()), options=dict(_OPTIONS), metadata_errors="replace")
    except (FFmpegError, OSError, ValueError) as error:
        _refuse_list(path)
        reason = getattr(error, "strerror", None) or error
        raise FrameError(f"{path} cannot be opened as a video ({reason}): is it complete, and is it a video?") from None
    # Cover art of an audio file counts as a video stream.
    streams = _pictured(container)
    if not streams or container.format.name == "tty":
        container.close()
        _refuse_list(path)
        raise FrameError(f"{path} has no video stream: give a video file, or a folder of images")
    stream = streams[0]
    if getattr(stream, "codec_context", None) is None:  # PyAV types it as always there
        container.close()
        raise FrameError(f"{path}: its codec is none that FFmpeg knows: convert it, for instance to H.264 in MP4")
    stream.thread_type = "AUTO"
    return container, stream


def _pictured(container: Any) -> list[Any]:
    """The video streams that are no cover art."""
    return [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]


def _refuse_list(path: Path) -> None:
    with suppress(OSError), path.open("rb") as file:
        head = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()
        for mark, kind in _LISTS.items():
            if head.startswith(mark) or (mark == b"<MPD" and head.startswith(b"<?xml") and mark in head):
                raise FrameError(f"{path} is a {kind} that names other files: give the video itself")


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
        time_base, streams = stream.time_base or Fraction(1, 1000), len(_pictured(container))
    if promised > len(packets) and damage is None:
        damage = f"{path} is cut off: its header promises {promised} frames, {len(packets)} are there"
    missing = _missing_bytes(path)
    if missing and damage is None:
        damage = f"{path} is cut off after {len(packets)} frames: by its header, {missing} bytes are missing"
    index = _by_packets(packets, time_base, damage) or _by_decoding(path, packets, time_base, damage)
    if not index.count:
        raise FrameError(f"{path} holds no frame that can be decoded: is the file complete?")
    return replace(index, streams=streams)


def _missing_bytes(path: Path) -> int:
    """Bytes that a Matroska, WebM or AVI file promises in its header and does not have; 0 where nothing is missing.

    Other containers do not tell, nor do recordings whose size was not filled in.
    """
    with path.open("rb") as file:
        head = file.read(4096)
        length = file.seek(0, os.SEEK_END)
    promised = 0
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        promised = 8 + int.from_bytes(head[4:8], "little")
    elif head.startswith(_EBML):
        size, start = _ebml_size(head, len(_EBML))
        segment = start + size
        if head[segment : segment + 4] == _SEGMENT:
            size, start = _ebml_size(head, segment + 4)
            promised = start + size
    return promised - length if promised - length > _UNCOUNTED_BYTES else 0


def _ebml_size(head: bytes, position: int) -> tuple[int, int]:
    """The size of a Matroska element, and where its content begins; 0 for a size that was not filled in."""
    first = int.from_bytes(head[position : position + 1], "big")
    width = 9 - first.bit_length() if first else 8
    size = int.from_bytes(head[position : position + width], "big") & ((1 << 7 * width) - 1)
    return (0 if size == (1 << 7 * width) - 1 else size), position + width


def _demux(container: Any, stream: Any) -> tuple[list[Packet], str | None]:
    """All packets of the stream in the order of the file, and the damage that ended the reading early."""
    packets: list[Packet] = []
    try:
        for packet in container.demux(stream):
            if packet.size:
                packets.append(_packet(packet, len(packets)))
    except FFmpegError as error:
        return packets, f"{container.name} is damaged after {len(packets)} frames ({error.strerror})"
    return packets, None


def _packet(packet: Any, rank: int) -> Packet:
    # VP8 keeps reference frames that are never displayed in packets of their own: bit 4 of the header is 0.
    hidden = packet.stream.codec_context.name == "vp8" and not memoryview(packet)[0] & 0x10
    return Packet(
        rank=rank,
        pts=packet.pts,
        size=packet.size,
        is_keyframe=packet.is_keyframe and not hidden,
        is_displayed=not (packet.is_discard or hidden),
        is_discarded=bool(packet.is_discard),
        is_corrupt=packet.is_corrupt,
    )


def _by_packets(packets: list[Packet], time_base: Fraction, damage: str | None) -> VideoIndex | None:
    """None when the packets alone do not tell which frames are displayed, or nothing is marked as a keyframe.

    That is where a displayed packet has no timestamp or that of another, and where an edit list joins several parts:
    what refers back over the seam is lost in some decoders.
    """
    frames = [packet for packet in packets if packet.is_displayed]
    stamps = {packet.pts for packet in frames if packet.pts is not None}
    if not frames or len(stamps) < len(frames):
        return None
    inner = packets[frames[0].rank : frames[-1].rank]
    if any(packet.is_keyframe and packet.is_discarded for packet in inner):
        return None
    return _by_timestamp(frames, packets, time_base, damage)


def _by_timestamp(
    frames: list[Packet], packets: list[Packet], time_base: Fraction, damage: str | None
) -> VideoIndex | None:
    """The index of packets that are displayed, each at a time of its own; None when there is no keyframe."""
    keyframes = tuple(packet for packet in packets if packet.is_keyframe and packet.pts is not None)
    if not keyframes or not frames:
        return None
    frames = sorted(frames, key=lambda packet: packet.pts or 0)
    pts = np.array([packet.pts for packet in frames], np.int64)
    rank = np.array([packet.rank for packet in frames], np.int64)
    keyframe = _decoded_from(pts, rank, keyframes)
    # What is displayed before the first keyframe refers to frames that the file does not have.
    decodable = keyframe >= 0
    corrupt = np.array([packet.is_corrupt for packet in frames])[decodable]
    return VideoIndex(
        pts=pts[decodable],
        rank=rank[decodable],
        keyframes=keyframes,
        # Increasing, so that the frames decoded from one keyframe are neighbours; an earlier keyframe does as well.
        keyframe=np.minimum.accumulate(keyframe[decodable][::-1])[::-1],
        corrupt=frozenset(np.flatnonzero(corrupt).tolist()),
        time_base=time_base,
        count=int(decodable.sum()),
        damage=damage,
    )


def _decoded_from(pts: NDArray[np.int64], rank: NDArray[np.int64], keyframes: tuple[Packet, ...]) -> NDArray[np.int64]:
    """For each frame the last keyframe before it in the file that is not displayed after it; −1 where there is none.

    Frames that follow a keyframe in the file but are displayed before it (an open group of pictures) need the group
    before. After a cut in the file's edit list a keyframe may have an earlier time than frames that lie before it.
    """
    key_pts = np.array([packet.pts for packet in keyframes], np.int64)
    key_rank = np.array([packet.rank for packet in keyframes], np.int64)
    keyframe = np.searchsorted(key_rank, rank, side="right") - 1
    while True:
        late = (keyframe >= 0) & (key_pts[keyframe] > pts)
        if not late.any():
            return keyframe.astype(np.int64)
        keyframe[late] -= 1


def _by_decoding(path: Path, packets: list[Packet], time_base: Fraction, damage: str | None) -> VideoIndex:
    """The frames that come out when the file is decoded once; addressed by counting where the decoder has no times."""
    container, stream = open_container(path)
    with container:
        stamps = [frame.pts for frame in decoded_in_order(container, stream)]
    by_pts = {packet.pts: packet for packet in packets if packet.is_displayed and packet.pts is not None}
    frames = [by_pts[pts] for pts in stamps if pts in by_pts]
    if len(frames) == len(stamps) and all(a < b for a, b in pairwise(stamps)):
        index = _by_timestamp(frames, packets, time_base, damage)
        if index is not None and index.count == len(stamps):
            return index
    rank = np.arange(len(stamps), dtype=np.int64)
    return VideoIndex(None, rank, (), np.zeros_like(rank), frozenset(), time_base, len(stamps), damage)


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


SKIPPING_CODECS = frozenset({"h264"})
"""Codecs of which nothing refers to a frame that is marked so (others have layers that may)."""


class VideoDecoder:
    """Decodes one file forward from a keyframe. Not safe to use from several threads.

    Attributes:
        wanted: frames before this position need not come out: those that no other refers to are not decoded. Where
            reading ends before it, what lies between is not sure to come out any more.
        next_position: the earliest position that can still come out without going back.
        refusal: why the decoder refused a packet since the last `start`, None when it took all.
    """

    def __init__(self, path: Path, index: VideoIndex) -> None:
        self._path = path
        self._index = index
        self._container, self._stream = open_container(path)
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self.next_position = index.count  # nothing comes out before the first `start`
        self.wanted = 0
        self.refusal: str | None = None
        self.reformatter = VideoReformatter()

    def start(self, keyframe: int) -> None:
        """Goes to a keyframe; the next frame to come out is the first one decoded from it."""
        self.refusal = None
        self.next_position = self._index.first_from(keyframe)
        if self._index.pts is None:
            self._reopen()
            self._frames = self._counted()
        else:
            self._frames = self._stamped(self._packets_from(keyframe), self.next_position)

    def read(self) -> tuple[int, Any] | None:
        """The next frame and its position, in the order of display; None at the end."""
        decoded_frame = next(self._frames, None)
        self.next_position = self._index.count if decoded_frame is None else decoded_frame[0] + 1
        return decoded_frame

    def close(self) -> None:
        """Closes the file."""
        self._frames = iter(())
        self._container.close()

    def _stamped(self, packets: Iterator[Any], first: int) -> Iterator[tuple[int, Any]]:
        for frame in self._decode(packets):
            position = self._index.position_of(frame.pts)
            # Before the keyframe come frames whose references we skipped: they are not what they should be.
            if position is not None and position >= first:
                yield position, frame

    def _counted(self) -> Iterator[tuple[int, Any]]:
        yield from enumerate(self._decode(self._container.demux(self._stream)))

    def _decode(self, packets: Iterator[Any]) -> Iterator[Any]:
        try:
            for packet in packets:
                self._choose(packet)
                frames, refusal = decoded(packet)
                self.refusal = refusal or self.refusal
                yield from frames
        except FFmpegError as error:  # the file breaks off here; what is missing is reported when it is asked for
            self.refusal = str(error.strerror)

    def _choose(self, packet: Any) -> None:
        """Whether the decoder may pass over what follows when no other frame refers to it."""
        codec, pts = self._stream.codec_context, self._index.pts
        if codec.name in SKIPPING_CODECS and pts is not None:
            early = packet.pts is not None and packet.pts < pts[self.wanted]
            codec.skip_frame = "NONREF" if early else "DEFAULT"

    def _packets_from(self, keyframe: int) -> Iterator[Any]:
        """Packets from that keyframe on.

        Containers seek by decoding time, by presentation time, or by bytes, and so may come out behind the keyframe;
        then an earlier hint is tried, and in the end the file is read, not decoded, from its beginning.
        """
        for hint in range(keyframe, max(keyframe - 3, -1), -1):
            packets = self._seek(hint, keyframe)
            if packets is not None:
                return packets
        self._reopen()
        return self._skip_to(keyframe) or iter(())

    def _seek(self, hint: int, keyframe: int) -> Iterator[Any] | None:
        """Packets from that keyframe on, after seeking to keyframe `hint`; None when that fails."""
        try:
            self._container.seek(self._index.keyframes[hint].pts, stream=self._stream, backward=True)
            return self._skip_to(keyframe)
        except FFmpegError:
            return None

    def _skip_to(self, keyframe: int) -> Iterator[Any] | None:
        """Packets from that keyframe on; None when the container is behind it."""
        index = self._index
        wanted = index.keyframes[keyframe]
        packets = self._container.demux(self._stream)
        for packet in packets:
            if packet.pts == wanted.pts and bool(packet.is_discard) == wanted.is_discarded:
                # MPEG program streams stamp other packets after a seek than when read through: their sizes differ.
                return _chain(packet, packets) if packet.size == wanted.size else None
            # A packet that is not displayed may have the time of one that is, in another part of the edit list.
            position = None if packet.is_discard else index.position_of(packet.pts)
            if position is not None and index.rank[position] > wanted.rank:
                return None
        return None

    def _reopen(self) -> None:
        self._container.close()
        self._container, self._stream = open_container(self._path)


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


CACHE_BYTES = 256 * 2**20


class VideoFile(WholeVideo):
    """The first video stream of a file, decoded when asked for.

    Opening reads the file once to list its timestamps. Going forward decodes each frame once; a jump decodes from the
    keyframe before; going backward keeps what it passes, so that a group of pictures is not decoded once per frame.
    Decoded frames are held up to `cache_bytes`. `index`: of the file, where it is known.

    `times` are seconds after the first frame, as stamped (variable frame rate stays variable), None for streams
    without timestamps (raw H.264); those can only be decoded from their start. Frames are turned upright by the
    file's display matrix. Pixels are as stored: an aspect ratio other than 1:1 is not stretched.

    Attributes:
        damage: one line when the file is known to hold fewer frames than its header promises, else None. The frames
            that are there can be used.

    Raises:
        FrameError: missing, not a video, or without a frame.
    """

    def __init__(self, path: str | Path, *, cache_bytes: int = CACHE_BYTES, index: VideoIndex | None = None) -> None:
        path = Path(path)
        self.path: Path | None = path
        self.cache = FrameCache(cache_bytes)
        self._index: VideoIndex = index_video(path) if index is None else index
        self.damage = self._index.damage
        self._names = numbered_names(self._index.count)
        self._times = self._index.times
        self._decoder = VideoDecoder(path, self._index)
        self._size: tuple[int, int] | None = None
        self._lock = RLock()
        self._closed = False
        self._concealed: set[int] = set()
        self._asked = -1

    def again(self, *, cache_bytes: int = CACHE_BYTES) -> VideoFile:
        """The same frames with a decoder and a cache of their own; the file is not listed anew."""
        assert self.path is not None
        return VideoFile(self.path, cache_bytes=cache_bytes, index=self._index)

    def __len__(self) -> int:
        return self._index.count

    @property
    def names(self) -> Sequence[str]:
        return self._names

    @property
    def times(self) -> Sequence[float] | None:
        return self._times

    @property
    def size(self) -> tuple[int, int]:
        with self._lock:
            if self._size is None:
                self._size = self._first_readable_size()
            return self._size

    @property
    def starts(self) -> Sequence[int]:
        """Positions from which decoding can begin, ascending: they cost one frame, others those between, too."""
        return [int(start) for start in np.flatnonzero(np.diff(self._index.keyframe, prepend=-1))]

    @property
    def notes(self) -> Sequence[SourceNote]:
        if self._index.streams == 1:
            return ()
        text = f"{self.path}: holds {self._index.streams} video streams, and the frames are those of the first"
        return (SourceNote("more-streams", f"{text}: save another one as a file of its own to read it", 0),)

    @property
    def late_notes(self) -> Sequence[SourceNote]:
        if not self._concealed:
            return ()
        first, count = min(self._concealed), len(self._concealed)
        frames = f"frame {first}" if count == 1 else f"{count} frames, the first frame {first},"
        text = f"{self.path}: data of {frames} is damaged, and the decoder filled it in"
        return (SourceNote("decoder-concealed", f"{text}: up to the next keyframe pictures may be wrong", 0),)

    def fault(self, local: int) -> str | None:
        if checked_position(local, len(self)) in self._index.corrupt:
            return str(self._missing(local, "its data is incomplete"))
        return None

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._decoder.close()
            self.cache.clear()

    def frame_unless(self, local: int, given_up: Callable[[], bool]) -> RGBFrame | None:
        """As `source[local]`, but None as soon as `given_up` is true: a jump may cost hundreds of frames."""
        return self._found(checked_position(local, len(self)), given_up)

    def _read(self, position: int) -> RGBFrame:
        frame = self._found(position, lambda: False)
        assert frame is not None
        return frame

    def _found(self, position: int, given_up: Callable[[], bool]) -> RGBFrame | None:
        frame = self.cache.get(position)
        if frame is None:
            with self._lock:
                if self._closed:
                    raise FrameError(f"{self.path} is closed: open it again")
                cached = self.cache.get(position)  # another thread may have decoded it while this one waited
                frame = self._decode(position, given_up) if cached is None else cached
        if frame is None:
            return None
        size = self._size or self.size  # without the lock where it is known; frames of another size are held, too
        if frame.shape[:2] != size:
            raise FrameError(
                f"{self.path} frame {position} is {size_text(frame.shape)}, but the video began with "
                f"{size_text(size)}: re-encode it at one size"
            )
        return frame

    def _decode(self, position: int, given_up: Callable[[], bool] = lambda: False) -> RGBFrame | None:
        """Decodes up to the frame; what lies before it is kept only when the reader goes backward."""
        if position in self._index.corrupt:
            raise self._missing(position, "its data is incomplete")
        backward, self._asked = position < self._asked, position
        keyframe = int(self._index.keyframe[position])
        # What was given up before may have left out frames up to the one that was wanted then.
        is_ahead = max(self._decoder.next_position, self._decoder.wanted) <= position
        self._decoder.wanted = 0 if backward else position
        if not is_ahead or self._decoder.next_position < self._index.first_from(keyframe):
            self._decoder.start(keyframe)
        while self._decoder.next_position <= position:
            if given_up():
                return None
            decoded_frame = self._decoder.read()
            if decoded_frame is None:
                break
            here, coded = decoded_frame
            if coded.is_corrupt:
                self._concealed.add(here)
            if here == position:
                return self.cache.put(position, upright(coded, self._decoder.reformatter))
            if here > position or (backward and self._worth_keeping(coded, position - here)):
                self.cache.put(here, upright(coded, self._decoder.reformatter))
        raise self._missing(position, self._decoder.refusal or "the decoder gave no picture for it")

    def _worth_keeping(self, coded: Any, ahead: int) -> bool:
        """Whether a frame would still be in the cache when the target, `ahead` frames later, is decoded."""
        return bool((ahead + 1) * coded.width * coded.height * 3 <= self.cache.max_bytes)

    def _missing(self, position: int, reason: str) -> FrameError:
        return FrameError(f"{self.path} frame {position} cannot be decoded ({reason}): the file is damaged there")

    def _first_readable_size(self) -> tuple[int, int]:
        for position in range(len(self)):
            with suppress(FrameError):  # reading that frame reports it
                frame = self._decode(position)
                assert frame is not None
                return frame.shape[0], frame.shape[1]
        raise FrameError(f"{self.path}: none of the {len(self)} frames can be decoded: the file is damaged")


_ONE_THREAD = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}
"""Older versions of PyAV convert in one thread, and have no such argument."""


def upright(coded: Any, reformatter: VideoReformatter) -> RGBFrame:
    """A decoded frame as `(H, W, 3)` RGB uint8, turned by its display matrix when it has one.

    Args:
        coded: the frame.
        reformatter: of its video. A frame's own one starts threads that live as long as the array, and takes twice as
            long.
    """
    converted: Any = reformatter.reformat(coded, format="rgb24", **_ONE_THREAD)
    frame: RGBFrame = converted.to_ndarray()
    data = coded.side_data.get("DISPLAYMATRIX")
    if data is not None:
        frame = turned(frame, np.frombuffer(bytes(data), "<i4", count=9))
    return np.ascontiguousarray(frame)


def turned(frame: RGBFrame, matrix: NDArray[np.int32]) -> RGBFrame:
    """The frame as it is to be displayed, by the nearest right angle.

    Args:
        frame: `(H, W, 3)` uint8 as stored.
        matrix: `(9,)` int32 display matrix `a b u c d v x y w` of MP4: a stored pixel at (x, y), y downward, is shown
            at (a·x + c·y, b·x + d·y), shifted back into view.

    >>> stored = np.arange(2, dtype=np.uint8).reshape(1, 2, 1)  # left 0, right 1
    >>> turned(stored, np.array([0, 1, 0, -1, 0, 0, 0, 0, 1], np.int32))[:, :, 0].tolist()  # a quarter clockwise
    [[0], [1]]
    """
    a, b, _, c, d = matrix.tolist()[:5]
    if abs(b) > abs(a):
        frame, right, down = frame.swapaxes(0, 1), c, b
    else:
        right, down = a, d
    return frame[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]
