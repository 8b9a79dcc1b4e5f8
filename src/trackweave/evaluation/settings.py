"""What a person can choose about an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trackweave.errors import SettingError
from trackweave.evaluation.jf import Matching
from trackweave.evaluation.protocols import Protocol
from trackweave.evaluation.scores import Metric, Overlap


class Format(StrEnum):
    """Where truth and results come from; `run` is a run folder of ours."""

    run = "run"
    mot = "mot"
    kitti = "kitti"
    ytvis = "ytvis"
    coco_vid = "coco-vid"
    davis = "davis"


class OnMissing(StrEnum):
    """What becomes of a true sequence without a result: an error, left out, or scored as if nothing had been found."""

    error = "error"
    skip = "skip"
    empty = "empty"


class EvaluationSettings(BaseModel):
    """How results are scored; None means that files, names and folders tell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: tuple[Metric, ...] | None = Field(
        default=None, description="hota, clear, identity, jf [default: all, jf with masks only]"
    )
    format: Format | None = Field(default=None, description="of the results")
    gt_format: Format | None = Field(default=None, description="of the truth")
    protocol: Protocol | None = Field(default=None, description="what is fair to score")
    classes: tuple[str, ...] = Field(default=(), description="NAME, NUMBER or NAME=NUMBER; none: all of the truth")
    class_agnostic: bool = Field(default=False, description="all classes as one")
    by: Overlap | None = Field(default=None, description="overlap of boxes or masks")
    matching: Matching | None = Field(default=None, description="J and F: the track of the same number, or the best")
    level: int | None = Field(default=None, description="which level of a mask run")
    sequences: tuple[str, ...] = Field(default=(), description="only these")
    missing: OnMissing = Field(default=OnMissing.error, description="a true sequence without a result")
    start_fraction: float = Field(default=0.0, ge=0, lt=1, description="share of the frames not scored, from the first")


def checked_evaluation_settings(**values: Any) -> EvaluationSettings:
    """Settings from a command line.

    Raises:
        SettingError: names the setting and what it should be.
    """
    try:
        return EvaluationSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise SettingError(f"{name}: {first['msg']}, not {first['input']!r}") from None


def split_names(text: str | None) -> Sequence[str] | None:
    """`a,b` as names; None stays None.

    >>> split_names("hota, jf")
    ('hota', 'jf')
    """
    return None if text is None else tuple(name for name in (part.strip() for part in text.split(",")) if name)
