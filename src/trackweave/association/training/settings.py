"""`TrainSettings`: how a model of association is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class AugmentSettings(BaseModel):
    """What is done to frames while training; each is a probability or a largest strength, 0 switches it off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mirror: float = Field(default=0.5, ge=0, le=1, description="Frames that are mirrored.")
    frame_rate: float = Field(default=0.5, ge=0, le=2, description="Times are stretched by e to ± this.")
    jitter: float = Field(default=0.05, ge=0, le=0.3, description="Boxes shift by up to this share of their size.")
    occlusion: float = Field(default=0.05, ge=0, le=1, description="Tracks whose newest observations are taken away.")
    drop: float = Field(default=0.03, ge=0, le=1, description="Detections that are taken away.")
    switch: float = Field(default=0.05, ge=0, le=1, description="Tracks whose newest observations are a neighbour's.")
    forget: float = Field(default=0.15, ge=0, le=1, description="Tracks that lose the older part of their history.")
    blind: float = Field(default=0.2, ge=0, le=1, description="Frames without visibility.")
    appearance: float = Field(default=0.3, ge=0, le=1, description="Frames without appearance.")

    @classmethod
    def none(cls) -> AugmentSettings:
        """Nothing is done."""
        return cls(**dict.fromkeys(cls.model_fields, 0.0))


class TrainSettings(BaseModel):
    """One training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=20, ge=1, description="Passes over the training frames.")
    batch_size: int = Field(default=32, ge=1, description="Frames per step.")
    lr: float = Field(default=2e-3, gt=0, description="Largest learning rate; it falls along a cosine.")
    weight_decay: float = Field(default=1e-4, ge=0, description="Of AdamW.")
    warmup: int = Field(default=100, ge=0, description="Steps until the learning rate is at its largest.")
    average: float = Field(
        default=0.999,
        ge=0,
        lt=1,
        description="What a step keeps of the mean of the weights, which is the model.",
    )
    clip: float = Field(default=1.0, gt=0, description="Largest norm of a step's gradient.")
    val_split: float = Field(default=0.2, gt=0, lt=1, description="Share of videos that are kept for validation.")
    seed: int = Field(default=0, ge=0, description="Of everything that is random.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where to train.")
    patience: int = Field(default=8, ge=1, description="Epochs without a better validation that end the training.")
    width: int = Field(default=64, ge=8, le=512, multiple_of=4, description="Of the model's tokens.")
    layers: int = Field(default=1, ge=0, le=8, description="Rounds of attention.")
    use_history: bool = Field(default=True, description="Tracks have a history.")
    use_pairs: bool = Field(default=True, description="Pairs have features of their own.")
    use_unmatched: bool = Field(default=True, description="There is a class for what has no partner.")
    augment: AugmentSettings = Field(default_factory=AugmentSettings, description="What is done to frames.")
