"""Reader and writer of every artifact, side by side; nothing is ever unpickled."""

from trackweave.storage.run import FrameList, RunManifest, RunPaths, format_scale_suffix, scaled_npz_path
from trackweave.storage.segments import ObjectSegments, VideoSegments

__all__ = [
    "FrameList",
    "ObjectSegments",
    "RunManifest",
    "RunPaths",
    "VideoSegments",
    "format_scale_suffix",
    "scaled_npz_path",
]
