"""`CrowdSettings`: a regime of crowds: who moves how, before which camera, seen by which detector."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trackweave.association.simulation.camera import CameraSettings
from trackweave.association.simulation.detector_noise import DetectorNoise
from trackweave.association.simulation.embeddings import EmbeddingSettings
from trackweave.association.simulation.json_record import SequenceSettings
from trackweave.association.simulation.motion_dance import DanceMotion
from trackweave.association.simulation.motion_sport import SportMotion
from trackweave.association.simulation.motion_stream import StreamMotion
from trackweave.association.simulation.motion_traffic import TrafficMotion

Motion = Annotated[DanceMotion | SportMotion | StreamMotion | TrafficMotion, Field(discriminator="kind")]


class CrowdSettings(SequenceSettings):
    """Everything that a simulated sequence is made from, besides its seed."""

    noun = "crowd settings"

    motion: Motion = Field(default_factory=StreamMotion, description="who moves, and how")
    camera: CameraSettings = Field(default_factory=CameraSettings, description="where the camera stands, how it moves")
    detector: DetectorNoise = Field(default_factory=DetectorNoise, description="how the detector errs")
    embedding: EmbeddingSettings | None = Field(default=None, description="appearance; None: there is none")
    fps: float = Field(default=30.0, gt=0, le=1000, description="frames per second")
    width: int = Field(default=1920, ge=16, le=16384, description="pixels")
    height: int = Field(default=1080, ge=16, le=16384, description="pixels")
    time_jitter: float = Field(default=0.0, ge=0, le=0.4, description="irregularity of times, share of a frame")
    skips: float = Field(default=0.0, ge=0, le=0.9, description="share of frames that are skipped")
    inside: float = Field(default=0.25, ge=0, le=1, description="share in the picture from which an object counts")
    smallest: float = Field(default=8.0, ge=1, le=1000, description="pixels of height from which an object counts")
    clips: bool = Field(default=False, description="true and detected boxes end at the picture's edges")
