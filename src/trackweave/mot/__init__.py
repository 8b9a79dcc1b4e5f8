"""Box tracking: detections linked frame by frame into identities."""

from trackweave.mot.frame_context import FrameContext
from trackweave.mot.settings import PRESETS, TrackerSettings, preset
from trackweave.mot.tracker import ByteTracker, TrackerSummary

__all__ = ["PRESETS", "ByteTracker", "FrameContext", "TrackerSettings", "TrackerSummary", "preset"]
