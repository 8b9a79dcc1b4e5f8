"""A finished run of boxes in other formats: reads its archive part by part."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from pydantic import ValidationError

from trackweave.errors import ArtifactError
from trackweave.formats.mot import MotWriter
from trackweave.frames.source import FrameSource
from trackweave.mot.box_overlay import BoxOverlay
from trackweave.mot.remarks import Remarks
from trackweave.mot.video_input import InputSettings, VideoInput, open_input
from trackweave.storage.run import RunManifest, RunPaths
from trackweave.storage.tracks_archive import TracksArchive

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
