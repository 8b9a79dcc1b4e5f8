"""`DetectorNoise`: the errors of a simulated detector as numbers, detectors by name, and settings as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Self

import numpy as np
from pydantic import AliasChoices, Field, ValidationError

from trackweave.errors import InputError, SettingError, shortened_line
from trackweave.settings import Settings, first_problem


class JsonSettings(Settings):
    """Settings that are written as JSON text and read again.

    Attributes:
        noun: what they are, for messages without a file.
    """

    noun: ClassVar[str]

    def to_json(self) -> str:
        """The settings as JSON text."""
        return self.model_dump_json(indent=1, by_alias=True) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str | None = None) -> Self:
        """Reads what `to_json` wrote; missing fields have their defaults.

        Raises:
            InputError: no JSON object, an unknown field or a value out of range; the message names `source`.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            name, message, _ = first_problem(error, cls.model_fields)
            reason = shortened_line(f"{name}: {message}" if name else message, 300)
            raise InputError(f"{source or cls.noun}: {reason}") from None


class SequenceSettings(JsonSettings):
    """Settings that every simulated sequence has."""

    frames: int = Field(default=300, ge=1, le=100_000, description="length of the sequence, skipped frames included")


STEP = 1e-4
"""Distance of a number from a limit that it must not reach."""


class DetectorNoise(JsonSettings):
    """Errors of a detector that is simulated on true boxes.

    Scores are drawn as logits: 0 is a score of 0.5, 2 of 0.88, 4 of 0.98. Lengths are shares of `sqrt(width × height)`
    of the object's box unless said otherwise, which errs by the same number of pixels across and down.
    """

    noun = "detector noise"

    recall: float = Field(default=0.98, ge=0, le=1, description="of large objects that are wholly visible")
    half_visibility: float = Field(
        default=0.0,
        ge=-2,
        le=2,
        description="visible share at which recall is half of that; below 0: hidden objects are detected, too",
    )
    visibility_softness: float = Field(default=0.12, gt=0, le=2, description="how slowly recall rises around it")
    small_height: float = Field(
        default=8.0, ge=0, le=1000, description="height in pixels at which recall is half of that"
    )
    miss_seconds: float = Field(default=0.2, ge=0, le=10, description="how long an object stays missed or detected")

    score: float = Field(default=2.5, ge=-10, le=10, description="logit for wholly visible objects")
    score_hidden: float = Field(default=2.0, ge=0, le=20, description="how much lower it is for wholly hidden objects")
    score_spread: float = Field(default=0.8, ge=0, le=10, description="standard deviation of the logit")
    score_seconds: float = Field(default=0.5, ge=0, le=10, description="how long a score stays high or low")
    floor: float = Field(default=0.1, ge=0, lt=1, description="lower scores are not reported")

    jitter: float = Field(default=0.015, ge=0, le=1, description="of each edge of wholly visible objects")
    jitter_hidden: float = Field(default=0.08, ge=0, le=1, description="additional jitter for wholly hidden objects")
    jitter_tail: float = Field(default=0.5, ge=0, le=2, description="how much the jitter itself varies")
    jitter_seconds: float = Field(default=0.4, ge=0, le=10, description="how long an edge stays off")
    jitter_white: float = Field(default=0.3, ge=0, le=1, description="share of jitter that is new on every frame")
    shrink: float = Field(default=0.3, ge=0, le=1, description="how far boxes shrink to the visible part, at most")
    merge: float = Field(
        default=0.02, ge=0, le=1, description="share of hidden objects whose box merges with their occluder's"
    )

    duplicates: float = Field(
        default=0.01,
        ge=0,
        le=5,
        description="duplicate boxes per object and frame",
        validation_alias=AliasChoices("duplicates", "doubles"),
        serialization_alias="doubles",
    )
    duplicate_jitter: float = Field(
        default=0.12,
        ge=0,
        le=1,
        description="of each edge of duplicate boxes",
        validation_alias=AliasChoices("duplicate_jitter", "double_jitter"),
        serialization_alias="double_jitter",
    )
    false_rate: float = Field(default=0.3, ge=0, le=100, description="false positives per frame")
    false_near: float = Field(default=0.6, ge=0, le=1, description="share of them that lie on parts of objects")
    false_seconds: float = Field(default=0.3, ge=0, le=60, description="how long they stay; 0: they flicker")
    false_score: float = Field(default=-0.5, ge=-10, le=10, description="logit of false positives and duplicates")
    false_spread: float = Field(default=1.0, ge=0, le=10, description="standard deviation of it")
    nms_iou: float = Field(default=0.7, gt=0, le=1, description="the lower of two boxes that overlap more is dropped")

    @classmethod
    def nearest(cls, values: Mapping[str, float]) -> DetectorNoise:
        """A detector with these numbers, clipped to their limits and rounded to four digits.

        >>> DetectorNoise.nearest({"recall": 1.02, "jitter": 0.012345}).recall
        1.0
        """
        return cls(**{name: _clipped(value, cls.model_fields[name].metadata) for name, value in values.items()})


def _clipped(value: float, limits: Sequence[object]) -> float:
    """A number within limits; of a limit that it must not reach it stays `STEP` away. Not finite: the lower limit."""
    low, high = -np.inf, np.inf
    for limit in limits:
        bounds = (getattr(limit, name, None) for name in ("ge", "gt", "le", "lt"))
        least, above, most, below = (None if bound is None else float(bound) for bound in bounds)
        low = max([low, *([] if least is None else [least]), *([] if above is None else [above + STEP])])
        high = min([high, *([] if most is None else [most]), *([] if below is None else [below - STEP])])
    inside = float(np.clip(float(f"{value:.4g}"), low, high)) if np.isfinite(value) else low
    return inside if np.isfinite(inside) else 0.0


DETECTORS: Mapping[str, DetectorNoise] = MappingProxyType({
    # A modern detector on objects it was trained for: detects half hidden objects, small errors, some duplicates.
    "strong": DetectorNoise(
        recall=0.995, half_visibility=-0.15, visibility_softness=0.15, small_height=7.0,
        miss_seconds=0.1, score=3.3, score_hidden=2.0, score_spread=0.45, score_seconds=0.3,
        jitter=0.008, jitter_hidden=0.06, jitter_tail=0.8, jitter_seconds=0.25, jitter_white=0.35,
        shrink=0.2, merge=0.02, duplicates=0.02, duplicate_jitter=0.1, false_rate=0.15, false_near=0.9,
        false_seconds=0.1, false_score=-0.8,
    ),
    # A detector of an earlier generation: misses half hidden objects, confident in the others.
    "weak": DetectorNoise(
        recall=0.95, half_visibility=0.5, visibility_softness=0.1, small_height=25.0,
        miss_seconds=0.1, score=6.0, score_hidden=6.0, score_spread=1.5, score_seconds=0.3,
        floor=0.05, jitter=0.025, jitter_hidden=0.1, jitter_seconds=0.3, shrink=0.5, merge=0.03,
        duplicates=0.0, false_rate=0.8, false_near=0.9, false_seconds=0.2, false_score=-0.5,
        false_spread=2.0, nms_iou=0.4,
    ),
    # A modern detector that reports everything down to 0.01.
    "everything": DetectorNoise(
        recall=0.99, half_visibility=-0.15, visibility_softness=0.12, small_height=15.0,
        miss_seconds=0.1, score=2.4, score_hidden=1.5, score_spread=0.5, score_seconds=0.2,
        floor=0.01, jitter=0.03, jitter_hidden=0.04, jitter_white=0.1, shrink=0.1, merge=0.01,
        duplicates=0.2, duplicate_jitter=0.15, false_rate=15.0, false_near=0.85, false_seconds=0.2,
        false_score=-3.0, false_spread=1.6,
    ),
    # Vehicles before a driving camera, thresholded at a high score.
    "driving": DetectorNoise(
        recall=0.99, half_visibility=-0.3, visibility_softness=0.15, small_height=5.0,
        miss_seconds=0.1, score=2.5, score_hidden=1.3, score_spread=0.9, score_seconds=0.6,
        floor=0.4, jitter=0.023, jitter_hidden=0.02, jitter_white=0.1, shrink=0.15, merge=0.0,
        duplicates=0.003, false_rate=0.6, false_near=0.85, false_seconds=0.3, false_score=0.3,
        false_spread=0.6, nms_iou=0.6,
    ),
    # Errors that are independent from frame to frame, and many misses where objects overlap.
    "shaky": DetectorNoise(
        recall=0.92, half_visibility=0.3, visibility_softness=0.12, miss_seconds=0.0, score=1.7,
        score_hidden=0.0, score_spread=0.8, score_seconds=0.0, jitter=0.045, jitter_hidden=0.0,
        jitter_tail=0.0, jitter_white=1.0, shrink=0.0, merge=0.0, duplicates=0.0, false_rate=0.3,
        false_near=0.0, false_seconds=0.0, nms_iou=1.0,
    ),
    # No errors: every object that is visible at all.
    "perfect": DetectorNoise(
        recall=1.0, half_visibility=-2.0, visibility_softness=0.01, small_height=0.0, score=6.0,
        score_hidden=0.0, score_spread=0.0, floor=0.0, jitter=0.0, jitter_hidden=0.0,
        shrink=0.0, merge=0.0, duplicates=0.0, false_rate=0.0, nms_iou=1.0,
    ),
})  # fmt: skip
"""Detectors by name. Their numbers are rounded and describe kinds of detectors, not data sets: general knowledge of how
such detectors behave, and coarse statistics (a recall, an error in percent) looked up on public training sequences."""


def detector_noise(source: str | Path | DetectorNoise) -> DetectorNoise:
    """A detector by its name, from a JSON file, or as it is.

    >>> detector_noise("weak").nms_iou
    0.4

    Raises:
        InputError: the file cannot be read or is no `DetectorNoise`.
        SettingError: neither a name nor a `.json` file.
    """
    if isinstance(source, DetectorNoise):
        return source
    if str(source) in DETECTORS:
        return DETECTORS[str(source)]
    path = Path(source)
    if path.suffix.lower() != ".json":
        raise SettingError(
            f"there is no simulated detector {str(source)!r}; known: {', '.join(DETECTORS)}, or FILE.json"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return DetectorNoise.from_json(text, source=str(path))
