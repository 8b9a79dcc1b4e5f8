"""Settings of models: `SamSettings` of the predictors of the SAM 2 family, `TextSettings` of what SAM 3 looks for."""

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


def _phrases(value: Any) -> Any:
    """`person,red car` as two phrases."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        return value
    phrases = tuple(part.strip() for part in parts)
    if "" in phrases or len({phrase.casefold() for phrase in phrases}) < len(phrases):
        raise ValueError("texts are different phrases with commas between, like person,red car")
    return phrases


Phrases = Annotated[tuple[str, ...], BeforeValidator(_phrases)]


class TextSettings(Settings):
    """What SAM 3 looks for, of which a text tells."""

    prompts: Phrases = Field(
        default=(),
        description="phrases that name what is looked for, as SAM 3 understands them",
        json_schema_extra={"metavar": "PHRASE[,PHRASE…]"},
    )
    score_threshold: float = Field(default=0.5, ge=0, le=1, description="lowest score of what a text names, 0 … 1")
    device: str = Field(
        default="auto", description="where SAM 3 runs", json_schema_extra={"metavar": "auto|cpu|cuda[:N]|mps"}
    )
