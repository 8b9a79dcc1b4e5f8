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
    from trackweave.frames.open import open_frames
    from trackweave.masks.packed import PackedMasks
    from trackweave.mot.settings import TrackerSettings, preset
    from trackweave.mot.state import FrameContext
    from trackweave.mot.tracker import ByteTracker, Tracker
    from trackweave.pipelines.boxes import BoxRunResult, track_boxes
    from trackweave.pipelines.masks import RunResult, track_masks
    from trackweave.predictors.sam.settings import SamSettings
    from trackweave.storage.mask_archive import ObjectSegments, VideoSegments
    from trackweave.structures.detections import Detections
    from trackweave.structures.tracks import Tracks
    from trackweave.tracking.settings import TrackingSettings

__version__: str
_HOME = {
    "BoxRunResult": "pipelines.boxes",
    "ByteTracker": "mot.tracker",
    "Detections": "structures.detections",
    "FrameContext": "mot.state",
    "ObjectSegments": "storage.mask_archive",
    "PackedMasks": "masks.packed",
    "RunResult": "pipelines.masks",
    "SamSettings": "predictors.sam.settings",
    "SampleLogger": "association.data_collection",
    "Tracker": "mot.tracker",
    "TrackerSettings": "mot.settings",
    "TrackingSettings": "tracking.settings",
    "Tracks": "structures.tracks",
    "VideoSegments": "storage.mask_archive",
    "open_frames": "frames.open",
    "preset": "mot.settings",
    "read_detections": "formats.detections",
    "track_boxes": "pipelines.boxes",
    "track_masks": "pipelines.masks",
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
    "Tracker",
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
        return _version()
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def _version() -> str:
    """The version in `pyproject.toml`: of the installed package, or of a checkout that is only on the path."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("trackweave")
    except PackageNotFoundError:
        import tomllib
        from pathlib import Path

        project = Path(__file__).parents[2] / "pyproject.toml"
        if not project.is_file():
            return "unknown"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
