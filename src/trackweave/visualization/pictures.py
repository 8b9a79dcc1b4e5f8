"""Tracks as pictures: cut-outs and clips of each object, overlays as GIF and MP4, objects on nothing for video editors.

The writers of `trackweave.formats.registry` that show the frames themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import ArtifactError
from trackweave.masks.ops import crop_at
from trackweave.storage.files import filled_folder, replacing, safe_name
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.tracked_video import Losses, Pictures, TrackedVideo, TrackSpan
from trackweave.structures.tracks import Tracks
from trackweave.visualization.annotators import OverlayPainter, fit_width, track_colour
from trackweave.visualization.video import Mp4Writer

Image = NDArray[np.uint8]
CLIPS_AT_ONCE = 16
"""Video files that are written in one pass over the frames."""
SMALLEST_CLIP = 32
"""Pixels of the sides of a clip, at least."""


def _pictures(video: TrackedVideo) -> Pictures:
    assert video.pictures is not None  # `write_video` asks for them
    return video.pictures


def _stem(name: str, path: Path) -> str:
    return safe_name(Path(name).stem or name, f"{path}: frame", ArtifactError)


def _window(box: NDArray[np.float32], margin: int, size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """xyxy of a box with a margin, whole pixels inside the frame; without extent where the box lies outside."""
    height, width = size[:2]
    x1, y1 = np.floor(box[:2]).astype(int) - margin
    x2, y2 = np.ceil(box[2:]).astype(int) + margin
    return max(int(x1), 0), max(int(y1), 0), min(int(x2), width), min(int(y2), height)


def _alpha(tracks: Tracks, n: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """`(H, W)` 255 inside an object: its mask, or its box where it has none."""
    alpha = np.zeros(size, np.uint8)
    crop = None if tracks.masks is None else crop_at(tracks.masks, n, size)
    if crop is not None:
        alpha[crop.window] = crop.inside * np.uint8(255)
    else:
        x1, y1, x2, y2 = _window(tracks.xyxy[n], 0, size)
        alpha[y1:y2, x1:x2] = 255
    return alpha


def write_cutouts(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes `track_000007/FRAME.png` of each object and frame: the object alone, or with what lies around it."""
    from PIL import Image as Pillow

    pictures, files = _pictures(video), list[Path]()
    names = dict(zip(map(int, video.info.indices), video.info.names, strict=True))
    with filled_folder(path, files) as staging:
        for index, tracks in video.sized_frames():
            if not len(tracks):
                continue
            picture = pictures(index)
            for n, track_id in enumerate(tracks.track_id.tolist()):
                x1, y1, x2, y2 = _window(tracks.xyxy[n], settings.margin, picture.shape)
                if x1 >= x2 or y1 >= y2:
                    losses.add("outside", "objects lie outside of their frame")
                    continue
                shown = picture[y1:y2, x1:x2]
                if not settings.background:
                    alpha = _alpha(tracks, n, (picture.shape[0], picture.shape[1]))[y1:y2, x1:x2, None]
                    shown = np.concatenate([shown, alpha], axis=2)
                folder = staging / f"track_{track_id:06d}"
                folder.mkdir(exist_ok=True)
                Pillow.fromarray(shown).save(folder / f"{_stem(names[int(index)], path)}.png")
    return files


def write_clips(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes `track_000007.mp4` of each object: a window of one size that follows it from its first frame to its last.

    While it is out of view the window stays.
    """
    pictures, spans, files = _pictures(video), video.spans(), list[Path]()
    rate, ids = video.info.rate or settings.fps, list(spans)
    with filled_folder(path, files) as staging:
        for start in range(0, len(ids), CLIPS_AT_ONCE):
            chosen = ids[start : start + CLIPS_AT_ONCE]
            first, last = min(spans[n].first for n in chosen), max(spans[n].last for n in chosen)
            centres: dict[int, tuple[float, float]] = {}
            with ExitStack() as stack:
                writers: dict[int, Mp4Writer] = {}
                for index, tracks in video.frames(with_masks=False):
                    if not first <= index <= last:
                        continue
                    for track_id, (x1, y1, x2, y2) in zip(tracks.track_id.tolist(), tracks.xyxy.tolist(), strict=True):
                        if track_id in chosen:
                            centres[track_id] = (x1 + x2) / 2, (y1 + y2) / 2
                    running = [n for n in chosen if n in centres and index <= spans[n].last]
                    if not running:
                        continue
                    picture = pictures(index)
                    for track_id in running:
                        if track_id not in writers:
                            target = staging / f"track_{track_id:06d}.mp4"
                            writers[track_id] = stack.enter_context(Mp4Writer(target, rate))
                        writers[track_id].write(_followed(picture, centres[track_id], spans[track_id], settings.margin))
    return files


def _followed(picture: Image, centre: tuple[float, float], span: TrackSpan, margin: int) -> Image:
    """The window of an object's clip around a place, moved into the frame."""
    height, width = picture.shape[:2]
    w, h = (
        min(max(int(np.ceil(side)) + 2 * margin, SMALLEST_CLIP), most)
        for side, most in ((span.width, width), (span.height, height))
    )
    x, y = (
        min(max(round(at - side / 2), 0), most - side)
        for at, side, most in zip(centre, (w, h), (width, height), strict=True)
    )
    return np.ascontiguousarray(picture[y : y + h, x : x + w])


def _overlays(video: TrackedVideo) -> Iterator[Image]:
    """The frames with the objects on them."""
    pictures, painter = _pictures(video), OverlayPainter(colours=video.colours or track_colour)
    for index, tracks in video.sized_frames():
        painter.follow(int(index), tracks)
        yield painter.paint(pictures(index), tracks)


def write_mp4(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes the frames with the objects on them as H.264."""
    with Mp4Writer(path, video.info.rate or settings.fps) as writer:
        for image in _overlays(video):
            writer.write(image)
    return [path]


def write_gif(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes the frames with the objects on them as an animated GIF, each with a palette of its own."""
    from PIL import Image as Pillow

    def coded(image: Image) -> tuple[Any, str]:
        indexed = Pillow.fromarray(fit_width(image, settings.width)).quantize(256, dither=Pillow.Dither.NONE)
        colours = np.zeros((256, 4), np.uint8)
        palette = np.array(indexed.getpalette("RGB"), np.uint8).reshape(-1, 3)
        colours[: len(palette), 1:], colours[:, 0] = palette, 255
        return (np.array(indexed), colours), "pal8"

    with _video_file(path, "gif", "gif", "pal8", video.info.rate or settings.fps) as write:
        for image in _overlays(video):
            write(*coded(image))
    return [path]


def write_mov(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes the objects on nothing, with an alpha channel: ProRes 4444 as `.mov`, or VP9 as `.webm`."""
    pictures, is_prores = _pictures(video), settings.codec == "prores"
    kind = ("mov", "prores_ks", "yuva444p10le") if is_prores else ("webm", "libvpx-vp9", "yuva420p")
    with _video_file(path, *kind, video.info.rate or settings.fps) as write:
        for index, tracks in video.sized_frames():
            picture = pictures(index)
            height, width = picture.shape[:2]
            alpha = np.zeros((height, width), np.uint8)
            for n in range(len(tracks)):
                alpha |= _alpha(tracks, n, (height, width))
            shown = np.concatenate([picture * (alpha > 0)[..., None].view(np.uint8), alpha[..., None]], axis=2)
            write(np.pad(shown, ((0, height % 2), (0, width % 2), (0, 0))), "rgba")
    return [path]


@contextmanager
def _video_file(
    path: Path, container: str, codec: str, pixels: str, rate: float
) -> Iterator[Callable[[Any, str], None]]:
    """A function that appends a frame, an array and its kind of pixels, to a video; the file appears whole or not.

    Raises:
        ArtifactError: it cannot be written.
    """
    import av

    fps = Fraction(rate).limit_denominator(1001)
    try:
        with replacing(path) as temporary, av.open(str(temporary), "w", format=container) as file:
            stream: Any = None
            count = 0

            def write(image: Any, kind: str) -> None:
                nonlocal stream, count
                frame = av.VideoFrame.from_ndarray(image, format=kind)
                if stream is None:
                    options = (
                        {"profile": "4444"}
                        if codec == "prores_ks"
                        else {"crf": "24", "b": "0"}
                        if "vpx" in codec
                        else {}
                    )
                    stream = file.add_stream(codec, rate=fps, options=options)
                    stream.height, stream.width, stream.pix_fmt = frame.height, frame.width, pixels
                    stream.codec_context.time_base = 1 / fps
                coded = frame if kind == pixels else frame.reformat(format=pixels)
                coded.pts, coded.time_base = count, 1 / fps
                count += 1
                file.mux(stream.encode(coded))

            yield write
            if stream is not None:
                file.mux(stream.encode())
    except av.FFmpegError as error:
        raise ArtifactError(f"{path}: the video cannot be written: {error.strerror or error}") from error
