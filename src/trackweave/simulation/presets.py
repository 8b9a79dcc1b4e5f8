"""`SceneSettings`: settings of a simulated scene, and `random_settings`: random ones by regime (a scene preset).

A model that learns from many different scenes should generalise to real ones; so regimes are wide ranges of values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, TypedDict, TypeVar

import numpy as np
from pydantic import Field

from trackweave.errors import SettingError
from trackweave.simulation.camera import CameraSettings
from trackweave.simulation.detector import EmbeddingSettings
from trackweave.simulation.motions_people import DanceMotion, SportMotion
from trackweave.simulation.motions_traffic import StreamMotion, TrafficMotion
from trackweave.simulation.settings import DETECTORS, DetectorNoise, SequenceSettings

MIXED = "mixed"
"""Name of the regime that is any of the others."""
Motion = Annotated[DanceMotion | SportMotion | StreamMotion | TrafficMotion, Field(discriminator="kind")]
T = TypeVar("T")


class SceneSettings(SequenceSettings):
    """Everything that a simulated sequence is made from, besides its seed."""

    noun = "scene settings"

    motion: Motion = Field(default_factory=StreamMotion, description="the objects and their motion")
    camera: CameraSettings = Field(default_factory=CameraSettings, description="the camera and its motion")
    detector: DetectorNoise = Field(default_factory=DetectorNoise, description="errors of the detector")
    embedding: EmbeddingSettings | None = Field(default=None, description="appearance; None: no embeddings")
    fps: float = Field(default=30.0, gt=0, le=1000, description="frames per second")
    width: int = Field(default=1920, ge=16, le=16384, description="pixels")
    height: int = Field(default=1080, ge=16, le=16384, description="pixels")
    time_jitter: float = Field(default=0.0, ge=0, le=0.4, description="irregularity of times, share of a frame")
    skips: float = Field(default=0.0, ge=0, le=0.9, description="share of frames that are skipped")
    inside: float = Field(default=0.25, ge=0, le=1, description="share inside the image from which an object counts")
    smallest: float = Field(default=8.0, ge=1, le=1000, description="pixels of height from which an object counts")
    clips: bool = Field(default=False, description="true and detected boxes end at the image's edges")


def random_settings(
    rng: np.random.Generator,
    regime: str = MIXED,
    *,
    frames: int = 300,
    detector: DetectorNoise | None = None,
) -> SceneSettings:
    """Draws settings of a scene.

    Args:
        rng: draws them.
        regime: which scene preset: `dance`, `sport`, `street`, `traffic`, or `mixed` for any of them.
        frames: length of the sequence.
        detector: a detector to use; None: one that suits the regime, with its numbers varied.

    Raises:
        SettingError: an unknown regime.

    >>> random_settings(np.random.default_rng(0), "dance").motion.kind
    'dance'
    """
    if regime != MIXED and regime not in REGIMES:
        raise SettingError(f"there is no regime {regime!r}; known: {MIXED}, {', '.join(REGIMES)}")
    draw = _Draw(rng)
    if regime == MIXED:
        regime = draw.one_of(*REGIMES, weights=(0.35, 0.25, 0.25, 0.15))
    scene = REGIMES[regime](draw)
    noise = varied_detector(rng, DETECTORS[scene.detector]) if detector is None else detector
    width, height = scene.size
    return SceneSettings(
        frames=frames,
        detector=noise,
        time_jitter=draw.between(0, 0.3) if draw.chance(0.1) else 0.0,
        skips=draw.between(0, 0.3) if draw.chance(0.1) else 0.0,
        motion=scene.motion,
        camera=scene.camera,
        fps=scene.fps,
        width=width,
        height=height,
        clips=scene.clips,
        smallest=scene.smallest,
    )


def varied_detector(rng: np.random.Generator, noise: DetectorNoise) -> DetectorNoise:
    """A detector with every number somewhat larger or smaller."""
    scaled = {
        "jitter": 0.4, "jitter_hidden": 0.3, "jitter_seconds": 0.5, "miss_seconds": 0.4, "score_spread": 0.2,
        "score_seconds": 0.3, "small_height": 0.4, "duplicates": 0.6, "false_rate": 0.6, "false_seconds": 0.5,
        "shrink": 0.4, "merge": 0.6, "score_hidden": 0.2,
    }  # fmt: skip
    shifted = {"score": 0.3, "half_visibility": 0.08, "false_score": 0.3}
    values: dict[str, float] = noise.model_dump()
    for name, spread in scaled.items():
        values[name] = values[name] * float(rng.lognormal(0, spread))
    for name, spread in shifted.items():
        values[name] = values[name] + float(rng.normal(0, spread))
    values["recall"] = 1 - (1 - values["recall"]) * float(rng.lognormal(0, 0.5))
    values["jitter_white"] += float(rng.uniform(-0.2, 0.2))
    return DetectorNoise.nearest(values)


class _Draw:
    """Random values of settings."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def scale(self, low: float, high: float) -> float:
        """Log-uniform between two values above 0."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def count(self, low: int, high: int) -> int:
        """Log-uniform between two counts, both included."""
        return round(self.scale(low, high))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def one_of(self, *choices: T, weights: tuple[float, ...] | None = None) -> T:
        return choices[int(self.rng.choice(len(choices), p=weights))]


@dataclass(frozen=True)
class _RegimeDraw:
    """Values that a regime draws.

    Attributes:
        motion, camera, fps, clips, smallest: as in `SceneSettings`.
        size: `(W, H)` pixels.
        detector: its name.
    """

    motion: DanceMotion | SportMotion | StreamMotion | TrafficMotion
    camera: CameraSettings
    fps: float
    size: tuple[int, int]
    clips: bool
    detector: str
    smallest: float = 8.0


class _HandheldMotion(TypedDict):
    """Fields of `CameraSettings`."""

    shake: float
    shake_seconds: float
    matrices: Literal["given", "withheld"]
    matrix_noise: float


def _handheld(
    draw: _Draw, known_share: float = 0.75, weights: tuple[float, ...] = (0.4, 0.45, 0.15)
) -> _HandheldMotion:
    """How steady a camera is, and whether its motion is known to the tracker."""
    kind = draw.one_of("still", "hand", "shaky", weights=weights)
    shake = {"still": 0.0, "hand": draw.scale(0.0005, 0.004), "shaky": draw.scale(0.004, 0.02)}[kind]
    return {
        "shake": shake,
        "shake_seconds": draw.scale(0.15, 1.0),
        "matrices": "given" if draw.chance(known_share) else "withheld",
        "matrix_noise": draw.scale(0.1, 1.5),
    }


def _dance(draw: _Draw) -> _RegimeDraw:
    people = draw.count(3, 16)
    spread = draw.scale(0.5, 1.3) * people**0.6
    distance = spread + draw.scale(3, 12)
    return _RegimeDraw(
        motion=DanceMotion(
            people=people,
            spread=spread,
            depth_share=draw.between(0.3, 1.2),
            beat_seconds=draw.scale(0.35, 2.5),
            stride=draw.scale(0.02, 0.4),
            own_stride=draw.scale(0.02, 0.22),
            own_seconds=draw.scale(0.25, 1.2),
            change_seconds=draw.scale(2.0, 20),
            swap_share=draw.between(0.1, 1.0),
            pose=draw.scale(0.04, 0.4),
            crouch=draw.scale(0.06, 0.6),
            crouch_share=draw.between(0, 0.4),
            jump=draw.between(0, 0.3),
            obstacles=draw.one_of(0, 1, weights=(0.85, 0.15)),
        ),
        camera=CameraSettings(
            height=draw.scale(0.8, 4.0),
            distance=distance,
            person_height=draw.scale(0.16, 0.5),
            sway=draw.scale(0.01, 0.15) if draw.chance(0.5) else 0.0,
            zoom=draw.scale(0.01, 0.15) if draw.chance(0.4) else 0.0,
            follow=draw.between(0.3, 1) if draw.chance(0.3) else 0.0,
            **_handheld(draw),
        ),
        fps=draw.one_of(20.0, 25.0, 30.0, 10.0, 50.0, weights=(0.45, 0.2, 0.2, 0.1, 0.05)),
        size=(1920, 1080),
        clips=draw.chance(0.8),
        detector=draw.one_of("strong", "everything", "shaky", weights=(0.82, 0.08, 0.1)),
    )


def _sport(draw: _Draw) -> _RegimeDraw:
    court = draw.one_of("hall", "pitch", "net", weights=(0.45, 0.35, 0.2))
    length, width, players = {
        "hall": (28.0, 15.0, draw.count(8, 14)),
        "pitch": (100.0, 65.0, draw.count(14, 26)),
        "net": (22.0, 14.0, draw.count(6, 14)),
    }[court]
    distance = {"hall": draw.scale(14, 35), "pitch": draw.scale(45, 100), "net": draw.scale(12, 30)}[court]
    return _RegimeDraw(
        motion=SportMotion(
            players=players,
            field_length=length,
            field_width=width,
            speed=draw.between(3.0, 7.0),
            acceleration=draw.scale(3.0, 10.0),
            crowding=draw.between(0.1, 0.8 if court != "net" else 0.3),
            marking=draw.between(0.0, 0.8) if court != "net" else 0.0,
            wander=draw.scale(0.8, 4.0),
            ball_seconds=draw.scale(0.8, 4.0),
            pose=draw.scale(0.1, 0.5),
        ),
        camera=CameraSettings(
            height=distance * draw.scale(0.15, 0.5),
            distance=distance,
            person_height=draw.scale(0.07, 0.18) if court == "pitch" else draw.scale(0.09, 0.27),
            follow=draw.one_of(0.0, draw.between(0.7, 1.0), weights=(0.15, 0.85)),
            follow_seconds=draw.scale(0.5, 2.0),
            zoom=draw.scale(0.02, 0.2) if draw.chance(0.5) else 0.0,
            **_handheld(draw, known_share=0.2, weights=(0.55, 0.4, 0.05)),
        ),
        fps=draw.one_of(25.0, 30.0, 15.0, 50.0, weights=(0.75, 0.15, 0.05, 0.05)),
        size=(1280, 720),
        clips=draw.chance(0.8),
        detector=draw.one_of("shaky", "strong", "everything", weights=(0.5, 0.4, 0.1)),
    )


def _street(draw: _Draw) -> _RegimeDraw:
    near = draw.scale(2.5, 12)
    far = near * draw.scale(2.5, 10)
    moves = draw.chance(0.45)
    return _RegimeDraw(
        motion=StreamMotion(
            people=draw.scale(4, 35),
            near=near,
            far=far,
            speed=draw.between(0.9, 1.6),
            ways=draw.count(1, 6),
            depth_share=draw.between(0.1, 1.0),
            straying=draw.scale(0.05, 0.6),
            standing=draw.between(0, 0.5),
            stops=draw.between(0, 0.3),
            group=draw.between(1, 2.5),
            cyclists=draw.one_of(0.0, 0.1, weights=(0.8, 0.2)),
            obstacles=draw.count(1, 8) - 1,
        ),
        camera=CameraSettings(
            height=draw.scale(1.2, 6.0),
            distance=(near * far) ** 0.5,
            person_height=draw.scale(0.1, 0.5),
            speed=draw.between(0.4, 1.6) if moves else 0.0,
            turning=draw.scale(0.02, 0.25) if moves else 0.0,
            stops=draw.between(0, 0.4) if moves else 0.0,
            sway=draw.scale(0.01, 0.1) if draw.chance(0.3) else 0.0,
            **_handheld(draw),
        ),
        fps=draw.one_of(30.0, 25.0, 14.0, 10.0, 60.0, weights=(0.4, 0.25, 0.15, 0.15, 0.05)),
        smallest=draw.scale(10, 35),
        size=draw.one_of((1920, 1080), (640, 480), weights=(0.75, 0.25)),
        clips=draw.chance(0.2),
        detector=draw.one_of("weak", "everything", "strong", weights=(0.4, 0.4, 0.2)),
    )


def _traffic(draw: _Draw) -> _RegimeDraw:
    drives = draw.chance(0.85)
    return _RegimeDraw(
        motion=TrafficMotion(
            vehicles=draw.scale(1.0, 8),
            parked=draw.between(0.1, 0.95),
            oncoming=draw.between(0.2, 0.9),
            crossing=draw.between(0, 0.3),
            speed=draw.scale(5, 20),
            far=draw.scale(25, 60),
            stay_seconds=draw.scale(2, 12),
            people=draw.one_of(0.0, draw.scale(0.5, 8), weights=(0.4, 0.6)),
            obstacles=draw.count(1, 9) - 1,
        ),
        camera=CameraSettings(
            height=draw.between(1.3, 2.0),
            distance=15.0,
            person_height=draw.between(0.17, 0.3),
            speed=draw.scale(4, 16) if drives else 0.0,
            turning=draw.scale(0.003, 0.06) * (4.0 if draw.chance(0.15) else 1.0) if drives else 0.0,
            stops=draw.between(0, 0.25),
            shake=draw.scale(0.0003, 0.004),
            shake_seconds=0.3,
            matrices=draw.one_of("given", "withheld", weights=(0.2, 0.8)),
            matrix_noise=draw.scale(0.3, 3.0),
        ),
        fps=draw.one_of(10.0, 15.0, 30.0, weights=(0.7, 0.15, 0.15)),
        smallest=draw.scale(15, 28),
        size=(1242, 375),
        clips=draw.chance(0.85),
        detector=draw.one_of("driving", "strong", "shaky", weights=(0.7, 0.2, 0.1)),
    )


REGIMES: Mapping[str, Callable[[_Draw], _RegimeDraw]] = MappingProxyType(
    {"dance": _dance, "sport": _sport, "street": _street, "traffic": _traffic}
)
"""Functions that draw the values of a scene, by regime."""
