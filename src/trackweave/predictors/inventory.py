"""What could be used here and now: packages, devices, weights, and what is missing for more. Loads no model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trackweave.errors import PredictorUnavailable
from trackweave.predictors.checkpoints import BACKENDS, checkpoints_of
from trackweave.predictors.registry import VERSIONS, installed_version, plan_automatic
from trackweave.predictors.sam.settings import SamSettings
from trackweave.predictors.weights import (
    FOLDER_VARIABLE,
    FoundWeights,
    check_weights,
    weights_asked_for,
    weights_folder,
    weights_found,
)


@dataclass(frozen=True)
class WeightsEntry:
    """Weights that were found.

    Attributes:
        name: hub name, else the path.
        path: what would be loaded.
        found: where.
        size: bytes of the weight files.
        problem: why they cannot be used; None = nothing is known against them.
    """

    name: str
    path: Path
    found: str
    size: int
    problem: str | None


@dataclass(frozen=True)
class BackendEntry:
    """One backend.

    Attributes:
        name: on the command line.
        versions: package → version, of what is installed.
        missing: packages that are not.
        extra: what installs them.
        weights: what is there for it.
        checkpoints: hub names of what it could run.
    """

    name: str
    versions: Mapping[str, str]
    missing: list[str]
    extra: str
    weights: list[WeightsEntry]
    checkpoints: list[str]

    @property
    def state(self) -> str:
        """`ready`, `no weights` or `not installed`."""
        if self.missing:
            return "not installed"
        return "ready" if any(entry.problem is None for entry in self.weights) else "no weights"


@dataclass(frozen=True)
class Inventory:
    """Everything together.

    Attributes:
        automatic: what `--predictor auto` comes to, and why.
        devices: kind of device → what it is, best first; empty without torch.
        folder: of `TRACKWEAVE_WEIGHTS`.
        cache: of the Hugging Face hub; None when its package is not installed.
        backends: those of the SAM 2 family.
    """

    automatic: str
    devices: Mapping[str, str]
    folder: Path | None
    cache: Path | None
    backends: list[BackendEntry]

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "automatic": self.automatic,
            "devices": dict(self.devices),
            "looked_in": {FOLDER_VARIABLE: _text(self.folder), "hugging_face_cache": _text(self.cache)},
            "predictors": [
                *(
                    {"name": name, "state": "ready", "weights": [], "needs_weights": False}
                    for name in ("flow", "static")
                ),
                *(_backend_json(entry) for entry in self.backends),
            ],
        }


def take_inventory(settings: SamSettings, environment: Mapping[str, str] = os.environ) -> Inventory:
    """Looks at packages, devices and weights.

    Args:
        settings: weights that somebody named count for the backends that take them.
        environment: variables by name.

    Raises:
        PredictorUnavailable: `TRACKWEAVE_WEIGHTS` names no folder, or a device that is not there.
    """
    return Inventory(
        automatic=plan_automatic(settings).reason,
        devices=_devices() if find_spec("torch") is not None else {},
        folder=weights_folder(environment),
        cache=_hub_cache(),
        backends=[_backend(name, settings, environment) for name in BACKENDS],
    )


def _backend(name: str, settings: SamSettings, environment: Mapping[str, str]) -> BackendEntry:
    backend = BACKENDS[name]
    found = weights_found(name, environment)
    if settings.weights is not None:
        try:
            found = weights_asked_for(name, settings.weights, environment)
        except PredictorUnavailable:
            found = []
    installed = {package: installed_version(package) for package in dict.fromkeys(("torch", VERSIONS[name]))}
    return BackendEntry(
        name=name,
        versions={package: version for package, version in installed.items() if version is not None},
        missing=backend.missing,
        extra=backend.extra,
        weights=[_weights(one) for one in found],
        checkpoints=[checkpoint.hub_name for checkpoint in checkpoints_of(name)],
    )


def _weights(found: FoundWeights) -> WeightsEntry:
    try:
        check_weights(found)
        problem = None
    except PredictorUnavailable as error:
        problem = str(error)
    size = sum(file.stat().st_size for file in found.files)
    return WeightsEntry(found.name, found.path, found.origin, size, problem)


def _devices() -> dict[str, str]:
    import torch

    from trackweave.predictors.sam.devices import available_devices

    found = {}
    for kind in available_devices():
        if kind == "cuda":
            for index in range(torch.cuda.device_count()):
                card = torch.cuda.get_device_properties(index)
                found[f"cuda:{index}"] = f"{card.name}, {card.total_memory / 2**30:.0f} GiB"
        else:
            found[kind] = "Apple GPU" if kind == "mps" else f"{os.cpu_count()} cores"
    return found


def _hub_cache() -> Path | None:
    try:
        from huggingface_hub import constants
    except ImportError:
        return None
    return Path(constants.HF_HUB_CACHE)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _backend_json(entry: BackendEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "state": entry.state,
        "needs_weights": True,
        "versions": dict(entry.versions),
        "missing_packages": entry.missing,
        "install": f"pip install 'trackweave[{entry.extra}]'" if entry.missing else None,
        "weights": [
            {"name": one.name, "path": str(one.path), "found": one.found, "bytes": one.size, "problem": one.problem}
            for one in entry.weights
        ],
        "checkpoints": entry.checkpoints,
    }
