"""Weave per-frame masks and boxes into identities.

The verbs of the command line, in Python::

    import trackweave

    run = trackweave.track_masks("clip.mp4", "runs/clip")
    tracks = run.tracks(level=2)
    print(tracks.track_ids, tracks.at(10).xyxy)

Names load on first use: `import trackweave` itself is cheap and loads neither torch nor cv2.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackweave.association.data_collection import SampleLogger
    from trackweave.formats.detections import read_detections
    from trackweave.frames.opening import open_frames
    from trackweave.masks.packed import PackedMasks
    from trackweave.mot.frame_context import FrameContext
    from trackweave.mot.settings import TrackerSettings, preset
    from trackweave.mot.tracker import ByteTracker
    from trackweave.predictors.sam.settings import SamSettings
    from trackweave.storage.segments import ObjectSegments, VideoSegments
    from trackweave.structures.detections import Detections
    from trackweave.structures.tracks import Tracks
    from trackweave.track_from_candidates import RunResult, track_masks
    from trackweave.track_from_detections import BoxRunResult, track_boxes
    from trackweave.tracking.pipeline_context import TrackingSettings

__version__: str
_HOME = {
    "BoxRunResult": "track_from_detections",
    "ByteTracker": "mot.tracker",
    "Detections": "structures.detections",
    "FrameContext": "mot.frame_context",
    "ObjectSegments": "storage.segments",
    "PackedMasks": "masks.packed",
    "RunResult": "track_from_candidates",
    "SamSettings": "predictors.sam.settings",
    "SampleLogger": "association.data_collection",
    "TrackerSettings": "mot.settings",
    "TrackingSettings": "tracking.pipeline_context",
    "Tracks": "structures.tracks",
    "VideoSegments": "storage.segments",
    "open_frames": "frames.opening",
    "preset": "mot.settings",
    "read_detections": "formats.detections",
    "track_boxes": "track_from_detections",
    "track_masks": "track_from_candidates",
}

__all__ = [
    "BoxRunResult",
    "ByteTracker",
    "Detections",
    "FrameContext",
    "ObjectSegments",
    "PackedMasks",
    "RunResult",
    "SamSettings",
    "SampleLogger",
    "TrackerSettings",
    "TrackingSettings",
    "Tracks",
    "VideoSegments",
    "__version__",
    "open_frames",
    "preset",
    "read_detections",
    "track_boxes",
    "track_masks",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("trackweave")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
