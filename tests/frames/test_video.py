from __future__ import annotations

import random
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from PIL import Image

from tests.frames.videos import (
    HEIGHT,
    WIDTH,
    counted_by_ffprobe,
    decoded_in_order,
    ffmpeg,
    frames_of_ffmpeg,
    picture,
    set_edit_list,
    write_video,
)
from trackweave.errors import FrameError
from trackweave.frames import video as video_index
from trackweave.frames.source import exclude_unreadable, report_decoded
from trackweave.frames.video import VideoDecoder, VideoFile, index_video, turned
from trackweave.structures.run_log import RunLog

FRAME_BYTES = HEIGHT * WIDTH * 3
UNEVEN = list(accumulate((40 + k % 5 * 17 for k in range(29)), initial=0))

# name → how it is encoded: what differs is how the container seeks and how frames are reordered.
KINDS: dict[str, dict[str, Any]] = {
    "b_frames.mp4": {},
    "b_frames.mkv": {},
    "b_frames.ts": {},
    "uneven.mp4": {"milliseconds": UNEVEN},
    "open_gop.mp4": {"bf": "3", "g": "10", "x264-params": "open-gop=1"},
    "open_gop.ts": {"bf": "3", "g": "10", "x264-params": "open-gop=1"},
    "uneven_open_gop.mp4": {
        "milliseconds": UNEVEN,
        "bf": "3",
        "g": "10",
        "x264-params": "open-gop=1:b-pyramid=normal",
    },
    "short_gop.mp4": {"bf": "2", "g": "2"},
    "one_gop.mp4": {"bf": "3", "g": "250"},
    "hevc.mp4": {"codec": "libx265", "x265-params": "bframes=3:keyint=8:open-gop=1:log-level=none"},
    "hidden_frames.webm": {"codec": "libvpx", "auto-alt-ref": "1", "lag-in-frames": "16", "g": "12"},
    "vp9.webm": {"codec": "libvpx-vp9", "auto-alt-ref": "1", "lag-in-frames": "16", "g": "12"},
    "no_b_frames.avi": {"codec": "mpeg4", "g": "8"},
    "program_stream.mpg": {"codec": "mpeg2video", "g": "10", "bf": "2"},
    "b_frames.avi": {"codec": "mpeg4", "g": "8", "bf": "2"},
    "no_stamps.h264": {"bf": "3", "g": "8"},
}


@pytest.fixture(scope="module", params=KINDS)
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / request.param, **KINDS[request.param])


class TestExactFrames:
    @pytest.mark.parametrize("cache_bytes", [0, 5 * FRAME_BYTES])
    def test_any_order_equals_decoding_in_order(self, video: Path, cache_bytes: int) -> None:
        expected = decoded_in_order(video)
        backward = range(29, -1, -1 if cache_bytes else -5)  # without a cache each step back decodes a whole group
        order = [*range(30), *random.Random(0).choices(range(30), k=15), *backward]
        with VideoFile(video, cache_bytes=cache_bytes) as source:
            assert len(source) == len(expected) == 30
            for k in order:
                np.testing.assert_array_equal(source[k], expected[k], err_msg=f"frame {k}")
                assert source.cache.nbytes <= cache_bytes

    def test_the_frames_are_the_encoded_ones(self, video: Path) -> None:
        with VideoFile(video) as source:
            bar = [int((source[k][30, :, 1] > 130).sum()) for k in range(30)]
        np.testing.assert_allclose(bar, [2 * k + 1 for k in range(30)], atol=2)

    def test_sampling_equals_the_full_video(self, video: Path) -> None:
        expected = decoded_in_order(video)
        with VideoFile(video) as source, source.select(range(1, 30, 7)) as sample:
            assert list(sample.indices) == [1, 8, 15, 22, 29]
            for k, frame in zip(sample.indices, sample, strict=True):
                np.testing.assert_array_equal(frame, expected[k])

    @pytest.mark.parametrize("kind", ["short_gop.mp4", "no_stamps.h264"])
    def test_threads_do_not_mix_frames_up(self, tmp_path: Path, kind: str) -> None:
        video = write_video(tmp_path / kind, **KINDS[kind])
        expected = decoded_in_order(video)
        order = random.Random(1).choices(range(30), k=60)
        with VideoFile(video, cache_bytes=3 * FRAME_BYTES) as source, ThreadPoolExecutor(4) as pool:
            for k, frame in zip(order, pool.map(source.__getitem__, order), strict=True):
                np.testing.assert_array_equal(frame, expected[k])


def pictures_in(source: VideoFile) -> list[int]:
    """Which `picture(k)` each frame is, by the length of its bar."""
    return [round((int((frame[30, :, 1] > 130).sum()) - 1) / 2) for frame in source]


TRIMMED: dict[str, dict[str, Any]] = {
    "h264": {"bf": "3", "g": "8"},
    "open-gop": {"bf": "3", "g": "10", "x264-params": "open-gop=1"},
    "one-gop": {"bf": "3", "g": "250"},
    "hevc": {"codec": "libx265", "x265-params": "bframes=3:keyint=8:open-gop=1:log-level=none"},
    "mpeg4": {"codec": "mpeg4", "g": "8", "bf": "2"},
}
STEP = 512
"""Units of media time from one frame to the next in the files of `write_video`."""


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize("codec", TRIMMED)
class TestTrimmedVideos:
    """Videos cut without encoding anew: packets outside the cut are decoded for the others, and not displayed."""

    @pytest.mark.parametrize(
        ("edits", "expected"),
        [
            ([(600, 5)], range(5, 20)),  # cut at both ends, between keyframes
            ([(800, 0)], range(20)),  # at the end
            ([(200, -1), (400, 11)], range(11, 21)),  # begins later than the sound
        ],
    )
    def test_the_frames_of_the_edit_list(
        self, tmp_path: Path, suffix: str, codec: str, edits: list[tuple[int, int]], expected: range
    ) -> None:
        path = write_video(tmp_path / f"v.{suffix}", **TRIMMED[codec])
        delay = 1024 if TRIMMED[codec].get("codec") != "mpeg4" else STEP
        set_edit_list(path, [(shown, start if start < 0 else delay + start * STEP) for shown, start in edits])
        in_order = decoded_in_order(path)
        with VideoFile(path, cache_bytes=0) as source:
            assert source.times is not None
            np.testing.assert_allclose(source.times, np.arange(len(expected)) / 25, atol=1e-6)
            assert source.frame_rate == pytest.approx(25)
            np.testing.assert_allclose(pictures_in(source), expected, atol=1)
            assert len(source) == len(in_order) == len(expected)
            for k in (len(source) - 1, 0, 7, 3, 8):
                np.testing.assert_array_equal(source[k], in_order[k])

    def test_parts_joined_by_the_edit_list(self, tmp_path: Path, suffix: str, codec: str) -> None:
        path = write_video(tmp_path / f"v.{suffix}", **TRIMMED[codec])
        set_edit_list(path, [(400, 1024 + 13 * STEP), (400, 1024 + 3 * STEP)])
        in_order = decoded_in_order(path)
        with VideoFile(path, cache_bytes=0) as source:
            assert len(source) == len(in_order)
            for k in (*range(len(source)), 12, 2, 15):
                np.testing.assert_array_equal(source[k], in_order[k])

    @pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
    @pytest.mark.parametrize("cut", [("-ss", "0.55"), ("-ss", "0.55", "-to", "0.9"), ("-to", "0.7")])
    def test_as_ffmpeg_shows_them(self, tmp_path: Path, suffix: str, codec: str, cut: tuple[str, ...]) -> None:
        whole = write_video(tmp_path / f"whole.{suffix}", **TRIMMED[codec])
        path = tmp_path / f"v.{suffix}"
        ffmpeg(*cut, "-i", whole, "-c", "copy", path)
        expected = frames_of_ffmpeg(path)
        with VideoFile(path, cache_bytes=0) as source:
            assert len(source) == len(expected) == counted_by_ffprobe(path)
            assert source.frame_rate == pytest.approx(25, rel=1e-3)
            for k in (*range(len(source)), *random.Random(0).choices(range(len(source)), k=8)):
                # Versions of FFmpeg round colours differently.
                assert np.abs(source[k].astype(int) - expected[k]).mean() < 0.5


def test_a_trimmed_matroska_keeps_its_times(tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    whole = write_video(tmp_path / "whole.mp4", **TRIMMED["open-gop"])
    ffmpeg("-ss", "0.55", "-i", whole, "-c", "copy", tmp_path / "v.mkv")  # what came before has no timestamps there
    in_order = decoded_in_order(tmp_path / "v.mkv")
    with VideoFile(tmp_path / "v.mkv", cache_bytes=0) as source:
        assert source.times is not None
        np.testing.assert_allclose(np.diff(source.times), 0.04, atol=0.002)
        assert len(source) == len(in_order)
        for k in (9, 0, 13, 4):
            np.testing.assert_array_equal(source[k], in_order[k])


def test_an_animation_whose_frames_build_on_each_other(tmp_path: Path) -> None:
    images = []
    for k in range(8):
        values = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        values[k : k + 5, 2 * k : 2 * k + 7] = (255, 9 * k, 0)
        images.append(Image.fromarray(values))
    path = tmp_path / "a.gif"
    images[0].save(path, save_all=True, append_images=images[1:], duration=[40 + 10 * k for k in range(8)])
    expected = decoded_in_order(path)
    with VideoFile(path, cache_bytes=0) as source:
        assert source.times is not None
        np.testing.assert_allclose(np.diff(source.times), [0.04 + 0.01 * k for k in range(7)])
        for k in (7, 2, 5, 0):
            np.testing.assert_array_equal(source[k], expected[k])


class TestFacts:
    def test_frames_are_plain_rgb(self, video: Path) -> None:
        with VideoFile(video) as source:
            frame = source[4]
            assert frame.shape == (HEIGHT, WIDTH, 3)
            assert frame.dtype == np.uint8
            assert frame.flags.c_contiguous
            assert not frame.flags.writeable
            assert frame[3:8, 3:8, 0].min() > 180 > 90 > frame[3:8, 3:8, 2].max()
            assert source.size == (HEIGHT, WIDTH)
            assert source.path == video
            assert source.names[12] == "frame_000012"
            assert source.damage is None

    def test_even_times(self, video: Path) -> None:
        with VideoFile(video) as source:
            if video.suffix == ".h264":
                assert source.times is None
            elif not video.name.startswith("uneven"):
                assert source.times is not None
                np.testing.assert_allclose(source.times, np.arange(30) / 25, atol=1e-6)

    @pytest.mark.parametrize("suffix", ["mp4", "mkv"])
    def test_uneven_times_stay_as_stamped(self, tmp_path: Path, suffix: str) -> None:
        path = write_video(tmp_path / f"v.{suffix}", milliseconds=UNEVEN)
        with VideoFile(path) as source:
            assert source.times is not None
            np.testing.assert_allclose(source.times, np.array(UNEVEN) / 1000, atol=1e-4)

    def test_no_frame_is_decoded_to_list_them(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write_video(tmp_path / "v.mp4")
        monkeypatch.setattr(video_index, "decoded", None)
        with VideoFile(path) as source:
            assert len(source) == 30


class _FakePacket(bytes):
    pts, size, is_keyframe, is_corrupt = 7, 3, False, False

    def __new__(cls, data: bytes, codec: str, *, is_discard: bool = False) -> _FakePacket:
        packet = super().__new__(cls, data)
        packet.is_discard = is_discard
        packet.stream = SimpleNamespace(codec_context=SimpleNamespace(name=codec))
        return packet

    is_discard: bool
    stream: SimpleNamespace


@pytest.mark.parametrize(
    ("packet", "shown"),
    [
        (_FakePacket(b"\x11..", "vp8"), True),
        (_FakePacket(b"\x01..", "vp8"), False),  # a reference picture of its own
        (_FakePacket(b"\x01..", "h264"), True),
        (_FakePacket(b"\x11..", "vp8", is_discard=True), False),  # cut away by an edit list
    ],
)
def test_packets_that_show_nothing_are_no_frames(packet: _FakePacket, shown: bool) -> None:
    assert video_index._packet(packet, 0).is_displayed is shown


class TestRotation:
    @pytest.mark.skipif(not hasattr(VideoStream, "set_display_rotation"), reason="this PyAV cannot write rotation")
    @pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (-90, 3)])
    @pytest.mark.parametrize("suffix", ["mp4", "mkv"])
    def test_the_display_matrix_is_honoured(self, tmp_path: Path, rotation: int, turns: int, suffix: str) -> None:
        path = write_video(tmp_path / f"v.{suffix}", 3, rotation=rotation)
        with VideoFile(path) as source:
            for k, stored in enumerate(decoded_in_order(path)):
                np.testing.assert_array_equal(source[k], np.rot90(stored, turns))
            assert source.size == ((WIDTH, HEIGHT) if turns % 2 else (HEIGHT, WIDTH))

    @pytest.mark.parametrize(
        ("matrix", "expected"),
        [
            ((1, 0, 0, 0, 1, 0), [[0, 1, 2], [3, 4, 5]]),
            ((-1, 0, 0, 0, -1, 0), [[5, 4, 3], [2, 1, 0]]),
            ((0, 1, 0, -1, 0, 0), [[3, 0], [4, 1], [5, 2]]),  # a quarter clockwise: phones held upright
            ((0, -1, 0, 1, 0, 0), [[2, 5], [1, 4], [0, 3]]),
            ((-1, 0, 0, 0, 1, 0), [[2, 1, 0], [5, 4, 3]]),  # mirrored, as front cameras do
            ((0, 1, 0, 1, 0, 0), [[0, 3], [1, 4], [2, 5]]),
        ],
    )
    def test_matrices(self, matrix: tuple[int, ...], expected: list[list[int]]) -> None:
        stored = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
        fixed = np.array([*matrix, 0, 0, 1], np.int32) * 65536
        assert turned(stored, fixed)[..., 0].tolist() == expected


class TestWork:
    """How much is decoded, counted where the decoder is called."""

    @pytest.fixture
    def decodes(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        sizes: list[int] = []
        original = video_index.decoded

        def counting(packet: Any) -> Any:
            sizes.append(packet.size)
            return original(packet)

        monkeypatch.setattr("trackweave.frames.video.decoded", counting)
        return sizes

    @pytest.fixture
    def one_group(self, tmp_path: Path) -> Path:
        return write_video(tmp_path / "v.mp4", 60, bf="2", g="250")

    def test_forward_decodes_each_frame_once(self, one_group: Path, decodes: list[int]) -> None:
        with VideoFile(one_group, cache_bytes=0) as source:
            assert sum(1 for _ in source) == 60
            assert source.size == (HEIGHT, WIDTH)
        assert len(decodes) <= 60 + 1 + 15  # the end of the file, and the first frame again for its size

    def test_backward_decodes_a_group_once(self, one_group: Path, decodes: list[int]) -> None:
        with VideoFile(one_group) as source:
            for k in reversed(range(60)):
                source[k]
        assert len(decodes) <= 2 * 61 + 15

    def test_backward_with_a_small_cache_stays_bounded(self, one_group: Path, decodes: list[int]) -> None:
        with VideoFile(one_group, cache_bytes=20 * FRAME_BYTES) as source:
            for k in reversed(range(60)):
                source[k]
                assert source.cache.nbytes <= 20 * FRAME_BYTES
        assert len(decodes) <= 5 * 75  # a pass per cacheful, not per frame (which would be 1800)

    def test_a_jump_decodes_from_the_keyframe_before(self, tmp_path: Path, decodes: list[int]) -> None:
        path = write_video(tmp_path / "v.mp4", 200, bf="2", g="10")
        with VideoFile(path) as source:
            source[195]
        assert len(decodes) <= 45  # its group and what the decoder's threads read ahead, and frame 0 for the size

    def test_a_jump_passes_over_what_no_frame_refers_to(self, one_group: Path) -> None:
        decoder = VideoDecoder(one_group, index_video(one_group))
        decoder.wanted = 50
        decoder.start(0)
        positions = []
        while (frame := decoder.read()) is not None:
            positions.append(frame[0])
        decoder.close()
        assert positions[-10:] == list(range(50, 60))
        assert len(positions) < 55  # of 60, those that others refer to and the last ten

    def test_decoding_begins_at_the_starts(self, tmp_path: Path) -> None:
        with VideoFile(write_video(tmp_path / "v.mp4", 30, bf="2", g="10")) as source:
            assert source.starts == [0, 10, 20]


class TestFaults:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FrameError, match=r"v\.mp4 cannot be opened as a video \(No such file"):
            VideoFile(tmp_path / "v.mp4")

    def test_text(self, tmp_path: Path) -> None:
        (tmp_path / "v.txt").write_text("a few words\n" * 50)
        with pytest.raises(FrameError, match=r"v\.txt has no video stream"):
            VideoFile(tmp_path / "v.txt")

    @pytest.mark.parametrize("suffix", ["avi", "mp4", "mkv"])
    def test_a_title_that_is_not_unicode(self, tmp_path: Path, suffix: str) -> None:
        path = write_video(tmp_path / f"v.{suffix}", 5, codec="mpeg4", title="caf?")
        path.write_bytes(path.read_bytes().replace(b"caf?", b"caf\xe9"))
        assert b"caf\xe9" in path.read_bytes()
        with VideoFile(path) as source:
            assert len(source) == 5
            assert source[4].shape == (HEIGHT, WIDTH, 3)

    def test_an_unknown_codec(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.mp4", 5)
        path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
        with pytest.raises(FrameError, match=r"v\.mp4: its codec is none that FFmpeg knows: convert it"):
            VideoFile(path)

    @pytest.mark.parametrize("suffix", ["mp4", "avi", "txt", "m3u8", "mpd", "sdp", "ffconcat"])
    @pytest.mark.parametrize("kind", ["concat", "HLS playlist", "DASH manifest", "SDP description"])
    def test_lists_of_other_files_are_no_videos(self, tmp_path: Path, kind: str, suffix: str) -> None:
        video = write_video(tmp_path / "v.ts", 5)
        (tmp_path / f"list.{suffix}").write_text(
            {
                "concat": "ffconcat version 1.0\nfile v.ts\n",
                "HLS playlist": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{video}\n#EXT-X-ENDLIST\n",
                "DASH manifest": '<?xml version="1.0"?>\n<MPD type="static" xmlns="urn:mpeg:dash:schema:mpd:2011">'
                f"<Period><AdaptationSet mimeType='video/mp4'><Representation id='1'><BaseURL>file://{video}</BaseURL>"
                "</Representation></AdaptationSet></Period></MPD>",
                "SDP description": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
                "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
            }[kind]
        )
        with pytest.raises(FrameError, match=rf"list\.{suffix} is a {kind} that names other files: give the video"):
            VideoFile(tmp_path / f"list.{suffix}")

    def test_a_pattern_of_names_is_no_video(self, tmp_path: Path) -> None:
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "01.png")
        for name in ("%02d.png", "01.png", "concat:01.png|01.png", "lavfi:testsrc"):
            with pytest.raises(FrameError, match="cannot be opened as a video"):
                VideoFile(tmp_path / name)

    def test_noise(self, tmp_path: Path) -> None:
        (tmp_path / "v.mp4").write_bytes(random.Random(0).randbytes(5000))
        with pytest.raises(FrameError, match="is it complete, and is it a video"):
            VideoFile(tmp_path / "v.mp4")

    def test_a_recording_that_was_never_finished(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.mp4")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # its index is at the end
        with pytest.raises(FrameError, match=r"v\.mp4 cannot be opened as a video"):
            VideoFile(path)

    def test_a_cut_file_with_its_index_in_front(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.mp4", 60, container_options={"movflags": "faststart"})
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
        with VideoFile(path) as source:
            assert 3 < len(source) < 60
            assert source.damage is not None
            assert f"promises 60 frames, {len(source)} are there" in source.damage
            kept, excluded = exclude_unreadable(source)
            assert 0 < len(kept) < len(source)
            assert "cannot be decoded" in excluded[0][2]
            assert "v.mp4 frame" in excluded[0][2]
            with pytest.raises(FrameError, match=r"v\.mp4 frame \d+ cannot be decoded .*the file is damaged there"):
                source[int(excluded[0][0])]

    @pytest.mark.parametrize("suffix", ["mkv", "ts"])
    def test_a_cut_file_that_can_be_read_up_to_the_cut(self, tmp_path: Path, suffix: str) -> None:
        path = write_video(tmp_path / f"v.{suffix}", 60)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
        with VideoFile(path) as source:
            assert 10 < len(source) < 60
            kept, _ = exclude_unreadable(source)
            assert len(kept) >= len(source) - 2

    @pytest.mark.parametrize("kind", ["v.mkv", "v.webm", "v.avi"])
    def test_a_cut_file_says_so(self, tmp_path: Path, kind: str) -> None:
        codec = {"v.mkv": "libx264", "v.webm": "libvpx", "v.avi": "mpeg4"}[kind]
        path = write_video(tmp_path / kind, 60, codec=codec, g="8")
        with VideoFile(path) as source:
            assert source.damage is None
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 8 // 10])
        with VideoFile(path) as source:
            assert 5 < len(source) < 60
            assert source.damage is not None
            assert re.search(rf"{kind} is (cut off|damaged) after \d+ frames", source.damage)

    def test_a_recording_without_a_size_says_nothing(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.mkv", 20, container_options={"live": "1"})
        with VideoFile(path) as source:
            assert (len(source), source.damage) == (20, None)

    def test_damage_in_the_middle_costs_frames_not_the_video(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.mp4", 60)
        data = bytearray(path.read_bytes())
        start = data.index(b"mdat") + len(data) // 3
        data[start : start + 200] = bytes(200)
        path.write_bytes(data)
        with VideoFile(path) as source:
            assert len(source) == 60
            kept, _ = exclude_unreadable(source)
            assert len(kept) > 30

    def test_no_frame_can_be_decoded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write_video(tmp_path / "v.mp4", 20)
        monkeypatch.setattr("trackweave.frames.video.decoded", lambda packet: ([], "refused"))
        with VideoFile(path) as source:
            with pytest.raises(FrameError, match="none of the 20 frames can be decoded"):
                assert source.size
            with pytest.raises(FrameError, match=r"frame 3 cannot be decoded \(refused\)"):
                source[3]

    def test_a_frame_that_never_comes_out_costs_only_itself(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write_video(tmp_path / "v.mp4", 20)
        expected = decoded_in_order(path)
        with VideoFile(path) as source:
            hole = video_index.index_video(path).pts
            assert hole is not None
            decoded = video_index.decoded

            def losing(packet: Any) -> Any:
                frames, refusal = decoded(packet)
                return [frame for frame in frames if frame.pts != hole[5]], refusal

            monkeypatch.setattr("trackweave.frames.video.decoded", losing)
            for k in (4, 6, 3):
                np.testing.assert_array_equal(source[k], expected[k])
            with pytest.raises(FrameError, match="frame 5 cannot be decoded"):
                source[5]
            assert source.cache.get(6) is not None  # decoded on the way, so the next step forward is free

    def test_a_video_without_data(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.mp4", 20)
        data = path.read_bytes()
        start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
        path.write_bytes(data[:start] + bytes(end - start) + data[end:])
        with pytest.raises(FrameError, match="holds no frame that can be decoded"):
            VideoFile(path)

    def test_positions_and_closing(self, tmp_path: Path) -> None:
        source = VideoFile(write_video(tmp_path / "v.mp4", 5))
        for local in (-1, 5):
            with pytest.raises(IndexError):
                source[local]
        source.close()
        with pytest.raises(FrameError, match="is closed"):
            source[0]


@pytest.mark.parametrize("name", ["one_gop.mp4", "uneven_open_gop.mp4", "no_stamps.h264", "hidden_frames.webm"])
def test_a_frame_that_was_given_up_on_the_way_leaves_the_others_right(name: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, **KINDS[name])
    random.seed(3)
    with VideoFile(path) as video, VideoFile(path, cache_bytes=0) as asked:
        frames, count = list(video), len(video)
        for _ in range(30):
            given_up, wanted, steps = count - 1, random.randrange(14), iter(range(random.randrange(6)))
            found = asked.frame_unless(given_up, lambda steps=steps: next(steps, None) is None)  # type: ignore[misc]
            assert found is None or np.array_equal(found, frames[given_up])
            assert np.array_equal(asked[wanted], frames[wanted])


def test_the_same_frames_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with VideoFile(write_video(tmp_path / "v.mp4")) as first:
        monkeypatch.setattr(video_index, "index_video", lambda path: pytest.fail(f"{path} is listed anew"))
        with first.again(cache_bytes=0) as second:
            for position in (7, 3, 12):
                assert np.array_equal(first[position], second[position])
            assert len(second.cache) == 0 < len(first.cache)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted as Linux lists them")
def test_frames_that_are_held_hold_no_threads(tmp_path: Path) -> None:
    with VideoFile(write_video(tmp_path / "v.mp4")) as video:
        held = [video[0]]
        before = len(list(Path("/proc/self/task").iterdir()))
        held += [video[position] for position in range(1, 20)]
        assert len(list(Path("/proc/self/task").iterdir())) <= before + 2


def test_frames_of_another_size_are_refused_however_often_they_are_read(tmp_path: Path) -> None:
    data = b""
    for height, width in ((HEIGHT, WIDTH), (2 * HEIGHT, 2 * WIDTH)):
        with av.open(str(tmp_path / "part.h264"), "w") as container:
            stream: Any = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for _ in range(3):
                image = np.full((height, width, 3), 90, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
            container.mux(stream.encode())
        data += (tmp_path / "part.h264").read_bytes()
    (tmp_path / "two.h264").write_bytes(data)
    with VideoFile(tmp_path / "two.h264") as video:
        assert len(video) == 6
        for position in (5, 4, 5, 3, 4):
            with pytest.raises(FrameError, match=rf"frame {position} is 128×96 pixels, but the video began with 64×48"):
                video[position]
        assert video[2].shape == video[0].shape == (HEIGHT, WIDTH, 3)


def test_further_video_streams_are_noted(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "two.mkv"), "w") as container:
        streams: list[Any] = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for k in range(3):
            for stream in streams:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(k), "rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    with VideoFile(tmp_path / "two.mkv") as video:
        assert [note.message for note in video.notes] == [
            f"{tmp_path / 'two.mkv'}: holds 2 video streams, and the frames are those of the first: "
            "save another one as a file of its own to read it"
        ]
    with VideoFile(write_video(tmp_path / "one.mkv", 3)) as video:
        assert not video.notes


def test_damage_that_the_decoder_fills_in_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"g": "4", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for k in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(noise, k, 1), "rgb24")))
        container.mux(stream.encode())
    with VideoFile(path) as video:
        assert [video[k].shape for k in range(12)] == [(96, 128, 3)] * 12
        assert not video.late_notes
    with av.open(str(path)) as container:
        place: tuple[Any, int] = [
            (packet.pos, packet.size) for packet in container.demux(video=0) if packet.is_keyframe and packet.size
        ][1]
    data = bytearray(path.read_bytes())
    middle, end = place[0] + place[1] // 2, place[0] + place[1]
    data[middle:end] = np.random.default_rng(1).integers(0, 256, end - middle, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    with VideoFile(path) as video:
        part = video.select(range(2, 12))
        assert not part.late_notes  # nothing is decoded yet
        log = RunLog("skip")
        for _ in part:
            pass
        report_decoded(part, log)
        report_decoded(part, log)
        assert [warning.message for warning in log.warnings] == [
            f"{path}: data of frame 4 is damaged, and the decoder filled it in: up to the next keyframe pictures "
            "may be wrong"
        ]
