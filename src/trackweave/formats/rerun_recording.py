"""Rerun recordings (`.rrd`): frames, boxes and masks on a timeline, for its viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trackweave.errors import MissingExtraError
from trackweave.formats.davis import flatten_labels
from trackweave.storage.files import replacing
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.tracked_video import Losses, TrackedVideo, shown_objects

LARGEST_CLASS = 65535


def write_rerun(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes a recording: `video/boxes`, `video/masks` where there are masks, `video/image` where there are pictures.

    Raises:
        MissingExtraError: rerun-sdk is not installed.
    """
    try:
        import rerun as rr
    except ImportError as error:
        raise MissingExtraError("rerun-sdk", "rerun") from error
    info = video.info
    with replacing(path) as temporary:
        recording: Any = rr.RecordingStream("trackweave", recording_id=info.name)
        recording.save(str(temporary))
        for index, tracks in video.sized_frames():
            recording.set_time("frame", sequence=int(index))
            time = info.time_of(int(index))
            if time is not None:
                recording.set_time("time", duration=time)
            if video.pictures is not None:
                recording.log("video/image", rr.Image(video.pictures(index)).compress(jpeg_quality=85))
            ids = tracks.track_id % (LARGEST_CLASS + 1)
            labels = [
                f"{info.class_name(c)} {n}"
                for c, n in zip(tracks.class_id.tolist(), tracks.track_id.tolist(), strict=True)
            ]
            recording.log(
                "video/boxes",
                rr.Boxes2D(array=tracks.xyxy, array_format=rr.Box2DFormat.XYXY, class_ids=ids, labels=labels),
            )
            if video.has_masks and info.size is not None:
                shown = shown_objects(index, "", tracks, losses, may_overlap=False)
                labelled = np.zeros(info.size, np.uint16)
                if shown is not None:
                    numbers = {n: n % (LARGEST_CLASS + 1) or 1 for n in shown.track_id.tolist()}
                    labelled = flatten_labels(shown, info.size, numbers, 16).astype(np.uint16)
                recording.log("video/masks", rr.SegmentationImage(labelled))
        recording.flush()
        recording.disconnect()
    return [path]
