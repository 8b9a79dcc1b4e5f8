"""`VideoDecoder`: one open video that decodes forward from any keyframe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from av.error import FFmpegError

from trackweave.frames.video_index import VideoIndex, decoded, open_container


class VideoDecoder:
    """Decodes one file; knows where it stands. Not safe to use from several threads.

    Attributes:
        next_position: the earliest position that can still come out without going back.
        refusal: why the decoder refused a packet since the last `start`, None when it took all.
    """

    def __init__(self, path: Path, index: VideoIndex) -> None:
        self._path = path
        self._index = index
        self._container, self._stream = open_container(path)
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self.next_position = index.count  # nothing comes out before the first `start`
        self.refusal: str | None = None

    def start(self, seek_point: int) -> None:
        """Goes to a keyframe; the next frame to come out is its own."""
        self.refusal = None
        self.next_position = seek_point
        if self._index.pts is None:
            self._reopen()
            self._frames = self._counted()
        else:
            self._frames = self._stamped(self._packets_from(seek_point), seek_point)

    def read(self) -> tuple[int, Any] | None:
        """The next frame and its position, in the order of display; None at the end."""
        found = next(self._frames, None)
        self.next_position = self._index.count if found is None else found[0] + 1
        return found

    def close(self) -> None:
        """Closes the file."""
        self._frames = iter(())
        self._container.close()

    def _stamped(self, packets: Iterator[Any], seek_point: int) -> Iterator[tuple[int, Any]]:
        for frame in self._decode(packets):
            position = self._index.position_of(frame.pts)
            # Before the keyframe come frames whose references we skipped: they are not what they should be.
            if position is not None and position >= seek_point:
                yield position, frame

    def _counted(self) -> Iterator[tuple[int, Any]]:
        yield from enumerate(self._decode(self._container.demux(self._stream)))

    def _decode(self, packets: Iterator[Any]) -> Iterator[Any]:
        try:
            for packet in packets:
                frames, refusal = decoded(packet)
                self.refusal = refusal or self.refusal
                yield from frames
        except FFmpegError as error:  # the file breaks off here; what is missing is reported when it is asked for
            self.refusal = str(error.strerror)

    def _packets_from(self, seek_point: int) -> Iterator[Any]:
        """Packets from that keyframe on.

        Containers seek by decoding time, by presentation time, or by bytes, and so may come out behind the keyframe;
        then an earlier hint is tried, and in the end the file is read, not decoded, from its beginning.
        """
        place = int(self._index.seek_points.searchsorted(seek_point))
        for hint in range(place, max(place - 3, -1), -1):
            packets = self._seek(hint, place)
            if packets is not None:
                return packets
        self._reopen()
        return self._skip_to(place) or iter(())

    def _seek(self, hint: int, place: int) -> Iterator[Any] | None:
        """Packets from keyframe number `place` on, after seeking to keyframe number `hint`; None when that fails."""
        if self._index.pts is None:
            return None
        try:
            pts = int(self._index.pts[self._index.seek_points[hint]])
            self._container.seek(pts, stream=self._stream, backward=True)
            return self._skip_to(place)
        except FFmpegError:
            return None

    def _skip_to(self, place: int) -> Iterator[Any] | None:
        """Packets from keyframe number `place` on; None when the container stands behind it."""
        index = self._index
        seek_point, size = int(index.seek_points[place]), int(index.seek_sizes[place])
        packets = self._container.demux(self._stream)
        for packet in packets:
            position = index.position_of(packet.pts)
            if position == seek_point:
                # MPEG program streams stamp other packets after a seek than when read through: the size tells.
                return _chain(packet, packets) if packet.size == size else None
            if position is not None and index.rank[position] > index.rank[seek_point]:
                return None
        return None

    def _reopen(self) -> None:
        self._container.close()
        self._container, self._stream = open_container(self._path)


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest
