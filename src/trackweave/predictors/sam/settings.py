"""`SamSettings`: what a person may change about the predictors of the SAM 2 family."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from trackweave.settings import Settings


def _switch_word(value: Any) -> Any:
    """YAML reads `on` and `off` as truth values."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Toggle = Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch_word)]


class SamSettings(Settings):
    """How a model of the SAM 2 family runs; `auto` depends on the device.

    Settings of the predictors `sam2`, `sam2-hf`, `edgetam` and `sam3-tracker`.
    """

    weights: Path | None = Field(
        default=None,
        description="checkpoint file or folder, or its name; null: the best that is found, see `trackweave models`",
        json_schema_extra={"metavar": "PATH|NAME"},
    )
    config: str | None = Field(
        default=None, description="sam2 only: one of the package's configurations by name, or a YAML file"
    )
    device: str = Field(
        default="auto", description="where the model runs", json_schema_extra={"metavar": "auto|cpu|cuda[:N]|mps"}
    )
    autocast: Annotated[Literal["auto", "off", "bfloat16", "float16"], BeforeValidator(_switch_word)] = Field(
        default="auto", description="arithmetic of the model; auto: bfloat16 on a GPU that has it, else float32"
    )
    compile: Toggle = Field(
        default="auto", description="torch.compile the parts that repeat; auto: off, since it pays for long videos only"
    )
    batch: int = Field(default=32, ge=1, description="largest number of objects that go through the model together")
    pad_batches: Toggle = Field(
        default="auto", description="fill batches up to powers of two; auto: where the model is compiled"
    )
    feature_store: bool = Field(
        default=True,
        description="keep each frame's features; off: the upstream predictor, reset for every prompt frame, slow",
    )
    device_bytes: int = Field(default=4 << 30, ge=0, description="bytes of features kept on the device")
    host_bytes: int = Field(default=8 << 30, ge=0, description="bytes of features kept in main memory")
    disk_bytes: int = Field(default=0, ge=0, description="bytes of features kept in temporary files beyond that")
    store_dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="type of the kept features; auto: as the model made them"
    )
    prune: bool = Field(
        default=True, description="forget memories that the model will not read again; results are equal"
    )
    stop_after_absent: int = Field(
        default=0, ge=0, description="frames without an object after which its direction of propagation ends; 0: never"
    )
