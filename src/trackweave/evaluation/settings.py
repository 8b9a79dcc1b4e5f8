"""`EvaluationSettings` and `CompareSettings`: what a person may choose about an evaluation, and the words for it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from trackweave.settings import Settings


class Format(StrEnum):
    """Where truth and results come from; `run` is a run of ours, those from `mots` on are read as by `convert`."""

    run = "run"
    mot = "mot"
    kitti = "kitti"
    ytvis = "ytvis"
    coco_vid = "coco-vid"
    davis = "davis"
    mots = "mots"
    mots_png = "mots-png"
    youtube_vos = "youtube-vos"
    cvat = "cvat"
    label_studio = "label-studio"
    labelme = "labelme"
    yolo = "yolo"
    burst = "burst"
    sav = "sav"
    csv = "csv"
    parquet = "parquet"
    arrow = "arrow"
    npz = "npz"
    fiftyone = "fiftyone"


class OnMissing(StrEnum):
    """What becomes of a true sequence without a result: an error, left out, or scored as if there were no track."""

    error = "error"
    skip = "skip"
    empty = "empty"


class Metric(StrEnum):
    """What can be asked for.

    - `hota`, `clear`, `identity`: of boxes or masks, by the package `trackeval`.
    - `jf`: J and F of masks.
    - `owta`: open-world tracking accuracy, HOTA with recall in place of DetA, as false positives may be things that are
      not annotated (BURST, TAO-OW); by `trackeval`.
    - `mots`: sMOTSA, MOTSA, MOTSP of masks that do not overlap; by `trackeval`.
    - `vpq`, `stq`: video panoptic quality, segmentation and tracking quality of masks that do not overlap.
    - `lifetime`: for how long objects keep one identity, and how many tracks each has.
    - `nestedness`: how far tracks lie in those of the next coarser level of their run.
    """

    hota = "hota"
    clear = "clear"
    identity = "identity"
    jf = "jf"
    owta = "owta"
    mots = "mots"
    vpq = "vpq"
    stq = "stq"
    lifetime = "lifetime"
    nestedness = "nestedness"


NOT_UNLESS_ASKED = frozenset((Metric.owta, Metric.mots, Metric.vpq, Metric.stq, Metric.lifetime, Metric.nestedness))
OF_MASKS = frozenset((Metric.jf, Metric.mots, Metric.vpq, Metric.stq, Metric.nestedness))
OF_LABELS = frozenset((Metric.mots, Metric.vpq, Metric.stq))
"""Those of label images: no pixel lies in two objects of a class."""


class Overlap(StrEnum):
    """What an overlap is taken of."""

    boxes = "boxes"
    masks = "masks"


class Matching(StrEnum):
    """Which track is held against which object.

    - `ids`: the track of the same number (semi-supervised: the objects of the first frame were given).
    - `best`: one track each, so that the mean of J and F is largest (unsupervised).
    - `first-appearance`: the track of the same number, from the frame after the object's first (YouTube-VOS).
    """

    ids = "ids"
    best = "best"
    first_appearance = "first-appearance"

    @property
    def is_by_ids(self) -> bool:
        """Is the track of the same number compared with an object?"""
        return self is not Matching.best


class Protocol(StrEnum):
    """How truth and tracks are prepared.

    - `mot15`: every true box whose confidence is not 0 counts; there are no classes.
    - `mot17`, `mot20`: pedestrians whose confidence is not 0 count; tracks matched to a distractor are dropped.
    - `kitti`: class by class; tracks matched to the neighbouring class, or to truth that is cut off or hidden, are
      dropped, and unmatched ones that are small or lie in DontCare regions.
    - `kitti-simple`: class by class; everything that does not count, of any class, is an ignored region.
    - `plain`: class by class; what does not count (COCO: crowds) is an ignored region of its class.
    """

    mot15 = "mot15"
    mot17 = "mot17"
    mot20 = "mot20"
    kitti = "kitti"
    kitti_simple = "kitti-simple"
    plain = "plain"

    @property
    def has_classes(self) -> bool:
        """Are classes scored apart? Else there is one, and the classes of tracks are not looked at."""
        return self in (Protocol.kitti, Protocol.kitti_simple, Protocol.plain)


def split_names(value: Any) -> Any:
    """`a,b` as names; anything else stays what it is.

    >>> split_names("hota, jf")
    ('hota', 'jf')
    """
    if not isinstance(value, str):
        return value
    return tuple(name for name in (part.strip() for part in value.split(",")) if name)


Names = BeforeValidator(split_names)


class EvaluationSettings(Settings):
    """How results are scored; null: as files, names and folders suggest."""

    metrics: Annotated[tuple[Metric, ...] | None, Names] = Field(
        default=None,
        description="hota, clear, identity, jf, owta, mots, vpq, stq, lifetime, nestedness; null: of the first four",
    )
    format: Format | None = Field(default=None, description="format of the results; null: by their names and content")
    gt_format: Format | None = Field(default=None, description="format of the truth; null: by its names and content")
    protocol: Protocol | None = Field(default=None, description="rules of the benchmark; null: by data")
    classes: Annotated[tuple[str, ...], Names] = Field(
        default=(), description="NAME, NUMBER or NAME=NUMBER; empty: all of the truth"
    )
    class_agnostic: bool = Field(default=False, description="all classes as one")
    by: Overlap | None = Field(default=None, description="overlap of boxes or masks; null: masks where both have them")
    matching: Matching | None = Field(
        default=None,
        description="J and F: ids (semi-supervised), first-appearance (YouTube-VOS) or best; null: by data",
    )
    level: int | None = Field(default=None, description="level of a mask run; null: the only one")
    sequences: Annotated[tuple[str, ...], Names] = Field(default=(), description="only these sequences; empty: all")
    missing: OnMissing = Field(
        default=OnMissing.error, description="a true sequence without a result; empty: scored as no track"
    )
    start_fraction: float = Field(
        default=0.0, ge=0, lt=1, description="leave out this share of the frames; 0.5: MOT17's val half"
    )


class CompareSettings(Settings):
    """How the difference of two results is judged: intervals by a bootstrap over sequences."""

    resamples: int = Field(default=1000, ge=1, description="draws of sequences for the intervals")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="confidence level of the intervals")
    seed: int = Field(default=0, ge=0, description="seed of the draws")
