"""Settings of small simulated scenes."""

from __future__ import annotations

from typing import Any

from trackweave.simulation.motions_traffic import StreamMotion
from trackweave.simulation.presets import SceneSettings
from trackweave.simulation.settings import DETECTORS

PERFECT = DETECTORS["perfect"]


def toy_scene(**changes: Any) -> SceneSettings:
    """Eight pedestrians in front of a still camera, on 40 frames, detected without errors."""
    values: dict[str, Any] = {"motion": StreamMotion(people=8, obstacles=0), "frames": 40, "detector": PERFECT}
    return SceneSettings(**values | changes)
