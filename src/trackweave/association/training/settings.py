"""Settings of training a model of association: `TrainSettings` and, inside it, `AugmentSettings`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trackweave.settings import Settings


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
