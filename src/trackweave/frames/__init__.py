"""Videos as lazy, random-access sequences of RGB frames: `open_frames` and what it returns."""

from trackweave.frames.checking import exclude_unreadable
from trackweave.frames.opening import open_frames
from trackweave.frames.sampling import parse_sampling, sampled_positions
from trackweave.frames.source import FrameSource, RGBFrame

__all__ = [
    "FrameSource",
    "RGBFrame",
    "exclude_unreadable",
    "open_frames",
    "parse_sampling",
    "sampled_positions",
]
