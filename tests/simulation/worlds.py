"""Small crowds for tests."""

from __future__ import annotations

from typing import Any

from trackweave.simulation.motions_traffic import CrowdSettings, StreamMotion
from trackweave.simulation.settings import DETECTORS

PERFECT = DETECTORS["perfect"]


def crowd(**changes: Any) -> CrowdSettings:
    """Eight pedestrians before a camera that stands, on 40 frames, seen without errors."""
    values: dict[str, Any] = {"motion": StreamMotion(people=8, obstacles=0), "frames": 40, "detector": PERFECT}
    return CrowdSettings(**values | changes)
