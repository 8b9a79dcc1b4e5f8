"""Settings of association: what is logged, which scorer is used, which samples are learned from, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from trackweave.errors import wording
from trackweave.settings import Settings

DEFAULT_EMBED_DIM = 256
"""Width of logged embeddings."""


MIN_SEQUENCES, MIN_PAIRS = 2, 200
"""Fewer videos cannot be split, fewer matched pairs not learned from."""
ENOUGH_TO_START, ENOUGH = 5_000, 10_000
"""Matched pairs for a first training run (specification of association data collection, section 2)."""


def pairs_advice(matched_pairs: int) -> str:
    """Whether matched pairs are enough to train on, as text; inspection and training both say this."""
    if matched_pairs >= ENOUGH:
        return "enough to train on"
    if matched_pairs >= ENOUGH_TO_START:
        return f"enough for a first training run, {ENOUGH:,} are better"
    aim = f"aim for at least {ENOUGH_TO_START:,} to {ENOUGH:,} before the first training run"
    return f"too few: {aim}" if matched_pairs < MIN_PAIRS else f"too few, although a training takes them: {aim}"


def data_obstacles(matched_pairs: int, videos: int, min_sequences: int = MIN_SEQUENCES) -> tuple[str, ...]:
    """Why a training refuses data of this amount, with the remedy; inspection and training both say this."""
    obstacles: list[str] = []
    if matched_pairs < MIN_PAIRS:
        obstacles.append(
            f"{matched_pairs} matched pairs are too few to learn from: {MIN_PAIRS - matched_pairs} more are the least, "
            f"{ENOUGH_TO_START:,} to {ENOUGH:,} are a first training run: log more video"
        )
    if videos < min_sequences:
        obstacles.append(
            "all samples are of one video, and training and validation are split by video: log at least one more "
            f"({wording('LogSettings.sequence', '--sequence')} names it)"
        )
    return tuple(obstacles)


class LogSettings(Settings):
    """Whether and where a tracker's decisions are logged as training samples; they are when `dir` is set."""

    dir: Path | None = Field(
        default=None,
        description="folder of the samples; created or continued",
        json_schema_extra={"metavar": "DIR"},
    )
    embed_dim: int = Field(default=DEFAULT_EMBED_DIM, ge=1, description="width of the logged embeddings")
    sequence: str | None = Field(
        default=None, min_length=1, description="id of the video in the samples; null: its name"
    )


class ScorerSettings(Settings):
    """Whether a learned scorer scores pairs, and which one; without `enabled`, the classical cost decides alone."""

    enabled: bool = Field(default=False, description="a learned scorer scores pairs")
    weights: Path | None = Field(
        default=None,
        description="exported model; null: the one that comes with the package",
        json_schema_extra={"metavar": "MODEL.onnx"},
    )
    embed_dim: int | None = Field(
        default=None, ge=1, description="width of embeddings that the model must have been trained with"
    )
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="probability from which a lost track is matched; null: the model's own"
    )


class DataSettings(Settings):
    """Which samples are learned from, and which labels are taken for right."""

    labels: Literal["truth", "tracker", "both"] = Field(
        default="both",
        description="truth: samples with true identities only; tracker: its own decisions; both: truth where known",
    )
    tracker_weight: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="weight of samples whose labels are a tracker's decisions, with labels both",
    )
    min_score: float = Field(default=0.0, ge=0, le=1, description="detections of a lower score are not learned from")
    min_visibility: float = Field(
        default=0.0, ge=0, le=1, description="detections of a lower visibility are not learned from"
    )
    suspect_frames: int = Field(
        default=5,
        ge=0,
        description="a tracker's decisions about a track are not learned from so close to a suspected switch",
    )
    allow_blended: bool = Field(
        default=False, description="also learn from decisions that a learned scorer took part in"
    )
    skip_corrupt: bool = Field(default=False, description="leave out samples that cannot be read")


class AugmentSettings(Settings):
    """What is done to frames while training: probabilities or largest strengths; 0 switches one off."""

    mirror: float = Field(default=0.5, ge=0, le=1, description="share of frames that are mirrored")
    frame_rate: float = Field(
        default=0.5, ge=0, le=2, description="times are stretched by a factor of up to e to the power of ± this"
    )
    jitter: float = Field(default=0.05, ge=0, le=0.3, description="boxes shift by up to this share of their size")
    occlusion: float = Field(
        default=0.05, ge=0, le=1, description="share of tracks that lose their newest observations"
    )
    drop: float = Field(default=0.03, ge=0, le=1, description="share of detections that are removed")
    switch: float = Field(
        default=0.05, ge=0, le=1, description="share of tracks whose newest observations are a neighbour's"
    )
    forget: float = Field(
        default=0.15, ge=0, le=1, description="share of tracks that lose the older part of their history"
    )
    blind: float = Field(default=0.2, ge=0, le=1, description="share of frames without visibility")
    appearance: float = Field(default=0.3, ge=0, le=1, description="share of frames without appearance")

    @classmethod
    def none(cls) -> AugmentSettings:
        """Nothing is done."""
        return cls(**dict.fromkeys(cls.model_fields, 0.0))


class TrainSettings(Settings):
    """How a model of association is trained."""

    epochs: int = Field(default=20, ge=1, description="passes over the training frames")
    batch_size: int = Field(default=32, ge=1, description="frames per step")
    lr: float = Field(default=2e-3, gt=0, description="largest learning rate; it falls along a cosine")
    weight_decay: float = Field(default=1e-4, ge=0, description="weight decay of AdamW")
    warmup: int = Field(default=100, ge=0, description="steps until the learning rate is at its largest")
    average: float = Field(
        default=0.999,
        ge=0,
        lt=1,
        description="decay per step of the moving average of the weights, which is the model",
    )
    clip: float = Field(default=1.0, gt=0, description="largest norm of a step's gradient")
    val_split: float = Field(default=0.2, gt=0, lt=1, description="share of videos that are kept for validation")
    seed: int = Field(default=0, ge=0, description="seed of everything that is random")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where to train")
    patience: int = Field(default=8, ge=1, description="epochs without a better validation that end the training")
    width: int = Field(default=64, ge=8, le=512, multiple_of=4, description="width of the model's tokens")
    layers: int = Field(default=1, ge=0, le=8, description="layers of attention")
    use_history: bool = Field(default=True, description="tracks have a history")
    use_pairs: bool = Field(default=True, description="pairs have features of their own")
    use_unmatched: bool = Field(default=True, description="there is a class for what has no partner")
    augment: AugmentSettings = Field(default_factory=AugmentSettings, description="what is done to frames")
