"""`SamSettings`: what a person may change about the predictors of the SAM 2 family."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _spelled(value: Any) -> Any:
    """YAML reads `on` and `off` as truth values."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Toggle = Annotated[Literal["auto", "on", "off"], BeforeValidator(_spelled)]


class SamSettings(BaseModel):
    """Settings of `sam2`, `sam2-hf`, `edgetam` and `sam3-tracker`; what is `auto` follows the device."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: Path | None = Field(
        default=None, description="Checkpoint file or folder; none = looked for, see `trackweave models`."
    )
    config: str | None = Field(
        default=None, description="`sam2` only: name of one of the package's configurations, or a YAML file."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps.")
    autocast: Annotated[Literal["auto", "off", "bfloat16", "float16"], BeforeValidator(_spelled)] = Field(
        default="auto", description="Arithmetic of the model; auto = bfloat16 on a GPU that has it, full elsewhere."
    )
    compile: Toggle = Field(
        default="auto", description="torch.compile of the parts that repeat; auto = off: it pays for long videos only."
    )
    batch: int = Field(default=32, ge=1, description="Objects of a cohort that go through the model together at most.")
    pad_batches: Toggle = Field(
        default="auto", description="Fill batches up to powers of two; auto = where the model is compiled."
    )
    feature_store: bool = Field(
        default=True, description="Keep each frame's features; off = the stock predictor, reset for every prompt frame."
    )
    device_bytes: int = Field(default=4 << 30, ge=0, description="Features kept on the device, in bytes.")
    host_bytes: int = Field(default=8 << 30, ge=0, description="Features kept in main memory, in bytes.")
    disk_bytes: int = Field(default=0, ge=0, description="Features kept in temporary files beyond that, in bytes.")
    store_dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="How features are kept; auto = as the model made them."
    )
    prune: bool = Field(default=True, description="Forget memories that the model will not look at; results are equal.")
    stop_after_absent: int = Field(
        default=0, ge=0, description="A direction ends for an object that was absent on so many frames; 0 = never."
    )
