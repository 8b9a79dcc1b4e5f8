"""Where a model runs, and how much it may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trackweave.errors import PredictorUnavailable
from trackweave.predictors.sam.settings import SamSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(asked: str) -> torch.device:
    """`auto` is the first of CUDA, MPS and the processor that is there.

    Raises:
        PredictorUnavailable: a device that is not there, or no such name.
    """
    there = available_devices()
    if asked == "auto":
        return torch.device(there[0])
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise PredictorUnavailable(f"there is no device {asked!r}; here: {', '.join(there)}") from None
    if device.type not in there or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise PredictorUnavailable(f"device {asked} is not there; here: {', '.join(there)} (--device)")
    return device


def available_devices() -> list[str]:
    """Kinds of device that torch can use here, best first."""
    found = []
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def autocast_dtype(settings: SamSettings, device: torch.device) -> torch.dtype | None:
    """Arithmetic that the settings ask for on a device; None = as the weights are."""
    if settings.autocast == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    return None if settings.autocast == "off" else DTYPES[settings.autocast]


@contextmanager
def inference(device: torch.device, dtype: torch.dtype | None) -> Iterator[None]:
    """No gradients, and arithmetic of the given kind."""
    with torch.inference_mode(), torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        yield


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch failed because memory was short, on any device."""
    # The processor's allocator has no exception of its own.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def free_cache(device: torch.device) -> None:
    """Gives back what torch holds in reserve."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
