"""A finished run in other formats: reads what the run wrote, one frame at a time.

A finished run of boxes in other formats: reads its archive part by part.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from trackweave.boxes import scale_boxes
from trackweave.errors import ArtifactError, SettingError
from trackweave.formats.davis import export_davis
from trackweave.formats.mot import MotWriter, write_mot_frames
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource
from trackweave.ids import FrameIndex, Level
from trackweave.pipelines.box_inputs import VideoInput, open_input
from trackweave.pipelines.box_outputs import BoxOverlay
from trackweave.pipelines.settings import InputSettings
from trackweave.storage.mask_archive import VideoSegments
from trackweave.storage.run import FrameList, RunManifest, RunPaths
from trackweave.storage.track_archive import TracksArchive
from trackweave.structures.run_log import Remarks
from trackweave.visualization.annotators import contact_sheet, draw_objects, write_png
from trackweave.visualization.video import Mp4Writer

BOXES = "boxes"


def is_box_run(run_dir: Path) -> bool:
    """Did `trackweave boxes` leave this folder?

    Raises:
        ArtifactError: its manifest is damaged.
    """
    return RunManifest.load(RunPaths(run_dir).manifest).data.get("kind") == BOXES


def export_box_mot(run_dir: Path, path: Path) -> Path:
    """Writes the boxes as MOTChallenge text.

    Raises:
        ArtifactError: the archive is missing or damaged.
    """
    with TracksArchive(RunPaths(run_dir).tracks) as archive, MotWriter(path) as writer:
        for rows in archive.parts(with_masks=False):
            writer.write(rows.tracks)
    return path


def export_box_mp4(run_dir: Path, path: Path, frames: str | Path | FrameSource | None = None) -> Path:
    """Writes the tracks over the frames as H.264 video.

    Args:
        run_dir: the run.
        path: the video to write.
        frames: what to draw on; None = the input that the run recorded.

    Raises:
        ArtifactError: the archive is damaged, or the frames are not there or not the run's: give `frames`.
    """
    with TracksArchive(RunPaths(run_dir).tracks) as archive, _recorded_video(run_dir, frames) as video:
        overlay = BoxOverlay(path, video, Remarks("error"), lambda stage: nullcontext())
        if not overlay.is_on:
            raise ArtifactError(f"{run_dir}: {video.path} has no pictures to draw on: name them with --frames")
        with overlay:
            for frame in video.frames():
                overlay.draw(frame, archive.at(frame.index))
    return path


def _recorded_video(run_dir: Path, frames: str | Path | FrameSource | None) -> VideoInput:
    manifest = RunPaths(run_dir).manifest
    data = RunManifest.load(manifest).data
    try:
        recorded, settings = data["input"], InputSettings.model_validate(data["config"]["input"])
        kind, source = str(recorded["kind"]), str(recorded["path"])
        size = None if recorded["height"] is None else (int(recorded["height"]), int(recorded["width"]))
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise ArtifactError(f"{manifest}: the record of the input lacks or misspells {error}") from None
    if frames is None and (kind not in ("sequence", "frames") or not Path(source).exists()):
        raise ArtifactError(f"{run_dir}: its frames ({source}) are not there any more: name them with --frames")
    video = open_input(frames if frames is not None else source, settings)
    if video.has_images and size is not None and video.size != size:
        video.close()
        raise ArtifactError(f"{run_dir}: these are not the run's frames: they have another size")
    return video


MAX_VIDEO_WIDTH = 1280


def open_level(run_dir: Path, level: int | None) -> tuple[VideoSegments, Level]:
    """The frame-major archive of a level.

    Args:
        run_dir: the run.
        level: which; None = the only one.

    Raises:
        ArtifactError: not a run, or a level it does not have.
        SettingError: several levels and none named.
    """
    paths = RunPaths(run_dir)
    if not paths.manifest.is_file():
        raise ArtifactError(f"{run_dir}: is not a run folder (it has no manifest.json)")
    if is_box_run(run_dir):
        raise SettingError(f"{run_dir}: is a run of boxes, which has no levels of masks: give --to mot or --to mp4")
    manifest = RunManifest.load(paths.manifest)
    which = manifest.only_level(level)
    return VideoSegments(manifest.artifact(which, "video_segments")), which


def export_davis_run(run_dir: Path, out_dir: Path, level: int | None = None) -> list[Path]:
    """Writes `OUT/<frame stem>.png` for every frame of the run, as indexed label images of the frame's size."""
    video, _ = open_level(run_dir, level)
    with video:
        frames = FrameList.read(RunPaths(run_dir).frames)
        return export_davis(video, out_dir, frames.size, frames.names)


def export_mot_run(run_dir: Path, path: Path, level: int | None = None) -> Path:
    """Writes the boxes of a box run, or of one level of a mask run, as MOTChallenge text."""
    if is_box_run(run_dir):
        return export_box_mot(run_dir, path)
    video, which = open_level(run_dir, level)
    with video:
        write_mot_frames(path, (video.boxes(frame, int(which)) for frame in video.frames))
    return path


def export_mp4_run(
    run_dir: Path, path: Path, level: int | None = None, frames: str | Path | FrameSource | None = None, fps: float = 10
) -> Path:
    """Writes the tracks over the frames as H.264 video.

    Args:
        run_dir: the run, of masks or of boxes.
        path: the video to write.
        level: which of a mask run; None = the only one.
        frames: what to draw on; None = the input that the run recorded.
        fps: used when the source knows no times.

    Raises:
        ArtifactError: the run's frames are in memory or gone: give `frames`.
    """
    if is_box_run(run_dir):
        return export_box_mp4(run_dir, path, frames)
    video, _ = open_level(run_dir, level)
    listed = FrameList.read(RunPaths(run_dir).frames)
    with video, _source(run_dir, frames) as source:
        position = {int(index): local for local, index in enumerate(source.indices)}
        missing = [index for index in listed.indices if int(index) not in position]
        if missing or source.size != listed.size:
            raise ArtifactError(f"{run_dir}: these are not the run's frames (frame {next(iter(missing), 0)} differs)")
        with Mp4Writer(path, _frame_rate(listed, fps)) as writer:
            for picture in _pictures(video, source, [position[int(index)] for index in listed.indices]):
                writer.write(picture)
    return path


def write_contact_sheet(
    run_dir: Path, path: Path, level: int | None = None, frames: str | Path | FrameSource | None = None, count: int = 6
) -> Path:
    """Writes one picture of `count` frames, evenly spaced, with the tracks of a level on them."""
    video, _ = open_level(run_dir, level)
    listed = FrameList.read(RunPaths(run_dir).frames)
    with video, _source(run_dir, frames) as source:
        last = len(listed.indices) - 1
        shown = [listed.indices[k * last // max(count - 1, 1)] for k in range(min(count, last + 1))]
        position = {int(index): local for local, index in enumerate(source.indices)}
        pictures = list(_pictures(video, source, [position[int(index)] for index in shown]))
    write_png(path, contact_sheet(pictures, 3, [f"frame {index}" for index in shown]))
    return path


@contextmanager
def _source(run_dir: Path, frames: str | Path | FrameSource | None) -> Iterator[FrameSource]:
    """What to draw on; a source that the caller opened stays open."""
    if isinstance(frames, FrameSource):
        yield frames
        return
    with open_frames(frames if frames is not None else _recorded(run_dir)) as opened:
        yield opened


def _recorded(run_dir: Path) -> str:
    recorded = RunManifest.load(RunPaths(run_dir).manifest).data.get("input", {}).get("path", "memory")
    if recorded == "memory" or not Path(recorded).exists():
        raise ArtifactError(f"{run_dir}: its frames ({recorded}) are not there any more: name them with --frames")
    return str(recorded)


def _frame_rate(listed: FrameList, fallback: float) -> float:
    times = listed.times
    if times is None or len(times) < 2 or times[-1] <= times[0]:
        return fallback
    return float(np.clip((len(times) - 1) / (times[-1] - times[0]), 1, 120))


def _pictures(video: VideoSegments, source: FrameSource, positions: list[int]) -> Iterator[np.ndarray]:
    import cv2

    height, width = source.size
    ratio = min(1.0, MAX_VIDEO_WIDTH / width)
    rows, cols = round(height * ratio), round(width * ratio)
    for local in positions:
        image = source[local]
        if ratio < 1:
            image = np.asarray(cv2.resize(image, (cols, rows), interpolation=cv2.INTER_AREA), np.uint8)
        objects = video.frame(FrameIndex(int(source.indices[local])))
        boxes = scale_boxes(objects.xyxy, cols / width, rows / height)
        yield draw_objects(image, objects.track_id, objects.masks, boxes, boxes_on=False)
