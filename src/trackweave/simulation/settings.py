"""`JsonRecord`: settings of the simulator that go to JSON text and come back.

`DetectorNoise`: how a detector errs, as a handful of numbers; and the named detectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trackweave.errors import InputError, SettingError


class JsonRecord(BaseModel):
    """A frozen record of finite values.

    Attributes:
        noun: what it is, for messages without a file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    noun: ClassVar[str]

    def to_json(self) -> str:
        """The record as JSON text."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str | None = None) -> Self:
        """Reads what `to_json` wrote; what is missing has its default.

        Raises:
            InputError: no JSON object, an unknown field or a value out of range; the message names `source`.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(f"{source or cls.noun}: {f'{where}: ' if where else ''}{first['msg']}") from None


class SequenceSettings(JsonRecord):
    """What the settings of every simulated sequence tell."""

    frames: int = Field(default=300, ge=1, le=100_000, description="length of the sequence, skipped frames included")


STEP = 1e-4
"""By how much a number stays off a limit that it must not reach."""


class DetectorNoise(JsonRecord):
    """A detector that looks at boxes whose truth is known.

    Scores are drawn as logits: 0 is a score of 0.5, 2 of 0.88, 4 of 0.98. Lengths are shares of `sqrt(width × height)`
    of the object's box unless said otherwise, which errs by the same number of pixels across and down.
    """

    noun = "detector noise"

    recall: float = Field(default=0.98, ge=0, le=1, description="of objects that are large and wholly visible")
    half_visibility: float = Field(
        default=0.0, ge=-2, le=2, description="visible share at which half of that is found; below 0: the hidden, too"
    )
    visibility_softness: float = Field(default=0.12, gt=0, le=2, description="how slowly recall rises around it")
    small_height: float = Field(default=8.0, ge=0, le=1000, description="pixels at which half of that is found")
    miss_seconds: float = Field(default=0.2, ge=0, le=10, description="how long an object stays missed or found")

    score: float = Field(default=2.5, ge=-10, le=10, description="logit of what is wholly visible")
    score_hidden: float = Field(default=2.0, ge=0, le=20, description="how much lower it is for the wholly hidden")
    score_spread: float = Field(default=0.8, ge=0, le=10, description="standard deviation of the logit")
    score_seconds: float = Field(default=0.5, ge=0, le=10, description="how long a score stays high or low")
    floor: float = Field(default=0.1, ge=0, lt=1, description="lower scores are not reported")

    jitter: float = Field(default=0.015, ge=0, le=1, description="of each edge of what is wholly visible")
    jitter_hidden: float = Field(default=0.08, ge=0, le=1, description="more of it for the wholly hidden")
    jitter_tail: float = Field(default=0.5, ge=0, le=2, description="how much the jitter itself varies")
    jitter_seconds: float = Field(default=0.4, ge=0, le=10, description="how long an edge stays off")
    jitter_white: float = Field(default=0.3, ge=0, le=1, description="share of jitter that is new on every frame")
    shrink: float = Field(default=0.3, ge=0, le=1, description="how far boxes draw back to what is visible, at most")
    merge: float = Field(default=0.02, ge=0, le=1, description="share of hidden objects that melt with their hider")

    doubles: float = Field(default=0.01, ge=0, le=5, description="second boxes per object and frame")
    double_jitter: float = Field(default=0.12, ge=0, le=1, description="of each edge of second boxes")
    false_rate: float = Field(default=0.3, ge=0, le=100, description="boxes per frame that show no object")
    false_near: float = Field(default=0.6, ge=0, le=1, description="share of these that lie on parts of objects")
    false_seconds: float = Field(default=0.3, ge=0, le=60, description="how long they stay; 0: they flicker")
    false_score: float = Field(default=-0.5, ge=-10, le=10, description="logit of these and of second boxes")
    false_spread: float = Field(default=1.0, ge=0, le=10, description="standard deviation of it")
    nms_iou: float = Field(default=0.7, gt=0, le=1, description="the lower of two boxes that overlap more is dropped")

    @classmethod
    def nearest(cls, values: Mapping[str, float]) -> DetectorNoise:
        """The detector whose numbers are nearest to these: those beyond a limit are set to it, others to four digits.

        >>> DetectorNoise.nearest({"recall": 1.02, "jitter": 0.012345}).recall
        1.0
        """
        return cls(**{name: _inside(value, cls.model_fields[name].metadata) for name, value in values.items()})


def _inside(value: float, limits: Sequence[object]) -> float:
    """A number within limits: the least of an open one, or where it is not finite, is the smallest step above it."""
    low, high = -np.inf, np.inf
    for limit in limits:
        bounds = (getattr(limit, name, None) for name in ("ge", "gt", "le", "lt"))
        least, above, most, below = (None if bound is None else float(bound) for bound in bounds)
        low = max([low, *([] if least is None else [least]), *([] if above is None else [above + STEP])])
        high = min([high, *([] if most is None else [most]), *([] if below is None else [below - STEP])])
    inside = float(np.clip(float(f"{value:.4g}"), low, high)) if np.isfinite(value) else low
    return inside if np.isfinite(inside) else 0.0


def _presets() -> dict[str, dict[str, Any]]:
    return {
        # A modern detector on objects it was trained for: finds the half hidden, small errors, some doubles.
        "strong": {
            "recall": 0.995, "half_visibility": -0.15, "visibility_softness": 0.15, "small_height": 7.0,
            "miss_seconds": 0.1, "score": 3.3, "score_hidden": 2.0, "score_spread": 0.45, "score_seconds": 0.3,
            "jitter": 0.008, "jitter_hidden": 0.06, "jitter_tail": 0.8, "jitter_seconds": 0.25, "jitter_white": 0.35,
            "shrink": 0.2, "merge": 0.02, "doubles": 0.02, "double_jitter": 0.1, "false_rate": 0.15, "false_near": 0.9,
            "false_seconds": 0.1, "false_score": -0.8,
        },
        # A detector of an earlier generation: blind to the half hidden, sure of what it finds.
        "weak": {
            "recall": 0.95, "half_visibility": 0.5, "visibility_softness": 0.1, "small_height": 25.0,
            "miss_seconds": 0.1, "score": 6.0, "score_hidden": 6.0, "score_spread": 1.5, "score_seconds": 0.3,
            "floor": 0.05, "jitter": 0.025, "jitter_hidden": 0.1, "jitter_seconds": 0.3, "shrink": 0.5, "merge": 0.03,
            "doubles": 0.0, "false_rate": 0.8, "false_near": 0.9, "false_seconds": 0.2, "false_score": -0.5,
            "false_spread": 2.0, "nms_iou": 0.4,
        },
        # A modern detector that reports everything down to 0.01.
        "everything": {
            "recall": 0.99, "half_visibility": -0.15, "visibility_softness": 0.12, "small_height": 15.0,
            "miss_seconds": 0.1, "score": 2.4, "score_hidden": 1.5, "score_spread": 0.5, "score_seconds": 0.2,
            "floor": 0.01, "jitter": 0.03, "jitter_hidden": 0.04, "jitter_white": 0.1, "shrink": 0.1, "merge": 0.01,
            "doubles": 0.2, "double_jitter": 0.15, "false_rate": 15.0, "false_near": 0.85, "false_seconds": 0.2,
            "false_score": -3.0, "false_spread": 1.6,
        },
        # Vehicles before a driving camera, cut at a high working point.
        "driving": {
            "recall": 0.99, "half_visibility": -0.3, "visibility_softness": 0.15, "small_height": 5.0,
            "miss_seconds": 0.1, "score": 2.5, "score_hidden": 1.3, "score_spread": 0.9, "score_seconds": 0.6,
            "floor": 0.4, "jitter": 0.023, "jitter_hidden": 0.02, "jitter_white": 0.1, "shrink": 0.15, "merge": 0.0,
            "doubles": 0.003, "false_rate": 0.6, "false_near": 0.85, "false_seconds": 0.3, "false_score": 0.3,
            "false_spread": 0.6, "nms_iou": 0.6,
        },
        # Errors that are independent from frame to frame, and many misses where objects overlap.
        "shaky": {
            "recall": 0.92, "half_visibility": 0.3, "visibility_softness": 0.12, "miss_seconds": 0.0, "score": 1.7,
            "score_hidden": 0.0, "score_spread": 0.8, "score_seconds": 0.0, "jitter": 0.045, "jitter_hidden": 0.0,
            "jitter_tail": 0.0, "jitter_white": 1.0, "shrink": 0.0, "merge": 0.0, "doubles": 0.0, "false_rate": 0.3,
            "false_near": 0.0, "false_seconds": 0.0, "nms_iou": 1.0,
        },
        # No mistakes at all: every object that can be seen.
        "perfect": {
            "recall": 1.0, "half_visibility": -2.0, "visibility_softness": 0.01, "small_height": 0.0, "score": 6.0,
            "score_hidden": 0.0, "score_spread": 0.0, "floor": 0.0, "jitter": 0.0, "jitter_hidden": 0.0,
            "shrink": 0.0, "merge": 0.0, "doubles": 0.0, "false_rate": 0.0, "nms_iou": 1.0,
        },
    }  # fmt: skip


DETECTORS: Mapping[str, DetectorNoise] = MappingProxyType(
    {name: DetectorNoise(**values) for name, values in _presets().items()}
)
"""Detectors by name. Their numbers are rounded and describe kinds of detectors, not data sets: general knowledge of how
such detectors behave, and coarse statistics (a recall, an error in percent) looked up on public training sequences."""


def detector_noise(given: str | Path | DetectorNoise) -> DetectorNoise:
    """A detector by its name, from a JSON file, or as it is.

    >>> detector_noise("weak").nms_iou
    0.4

    Raises:
        InputError: the file cannot be read or is no `DetectorNoise`.
        SettingError: neither a name nor a `.json` file.
    """
    if isinstance(given, DetectorNoise):
        return given
    if str(given) in DETECTORS:
        return DETECTORS[str(given)]
    path = Path(given)
    if path.suffix.lower() != ".json":
        raise SettingError(
            f"there is no simulated detector {str(given)!r}; known: {', '.join(DETECTORS)}, or FILE.json"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return DetectorNoise.from_json(text, source=str(path))
