"""From a name on the command line to a predictor; backends are imported only when chosen.

What could be used here and now: packages, devices, weights, and what is missing for more. Loads no model.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trackweave.errors import MissingExtraError, PredictorUnavailable, SettingError
from trackweave.predictors.base import VideoPredictor
from trackweave.predictors.catalog import BACKENDS, Backend, Device, checkpoints_of, rank
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.sam.settings import SamSettings
from trackweave.predictors.weights import (
    FOLDER_VARIABLE,
    FoundWeights,
    WeightsRecord,
    backend_of,
    check_weights,
    choose_weights,
    weights_asked_for,
    weights_folder,
    weights_found,
)
from trackweave.structures.run_log import RunWarning

WEIGHTS_FREE = ("flow", "static", "replay")
OTHERWISE = "; or use --predictor flow, which needs no weights"
VERSIONS = {"sam2-hf": "transformers", "edgetam": "transformers", "sam3-tracker": "transformers", "sam2": "sam2"}
"""Backend → the package whose version is recorded."""
NO_EFFECT = frozenset({"weights", "memory_bytes", "device_bytes", "host_bytes", "disk_bytes", "prune"})
"""Settings that change no result; weights count by their content."""


@dataclass(frozen=True)
class PredictorSettings:
    """Settings of the predictors that have some; those of the one that is chosen count.

    Attributes:
        sam: of the SAM 2 family.
        flow: of `flow`.
    """

    sam: SamSettings = field(default_factory=SamSettings)
    flow: FlowSettings = field(default_factory=FlowSettings)

    @classmethod
    def of(cls, settings: PredictorSettings | SamSettings | FlowSettings | None) -> PredictorSettings:
        """With the defaults of the predictors that are not meant."""
        if isinstance(settings, SamSettings):
            return cls(sam=settings)
        if isinstance(settings, FlowSettings):
            return cls(flow=settings)
        return settings or cls()


@dataclass(frozen=True)
class ChosenPredictor:
    """A predictor and why it was taken.

    Attributes:
        predictor: the recipe.
        asked: what the user wrote.
        reason: one line for the manifest and the terminal.
        details: for the manifest: weights with their checksums, versions, device; empty without weights.
        identity: what of it decides the result: a run is only resumed with the same.
        warnings: what was noticed while choosing.
    """

    predictor: VideoPredictor
    asked: str
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[RunWarning] = ()


def choose_predictor(
    asked: str, settings: PredictorSettings | SamSettings | FlowSettings | None = None
) -> ChosenPredictor:
    """Makes the predictor that a name asks for.

    Args:
        asked: `auto`, `flow`, `static`, `replay=PATH`, or one of `checkpoints.BACKENDS`, alone or with the path or name
            of its weights, as in `sam2-hf=facebook/sam2.1-hiera-small`.
        settings: of the SAM 2 family, of `flow`, or of both.

    Raises:
        SettingError: an unknown name, or `replay` without a path.
        MissingExtraError: the backend's packages are not installed.
        PredictorUnavailable: its weights, its device or a recording are missing or of no use.
    """
    every = PredictorSettings.of(settings)
    how = every.sam
    name, _, argument = asked.partition("=")
    if argument and name in ("auto", "flow", "static"):
        raise SettingError(f"predictor {name} takes no argument, but got {asked!r}")
    if name in BACKENDS:
        if argument:
            how = how.model_copy(update={"weights": Path(argument)})
        _require_packages(BACKENDS[name])
        return _load(choose_weights(name, how.weights, device_kind(how)), asked, how, "asked for")
    if name == "auto":
        return _automatic(every)
    if name == "flow":
        return _flow(asked, every.flow, "asked for")
    if name == "static":
        from trackweave.predictors.static import StaticPredictor

        return ChosenPredictor(StaticPredictor(), asked, "asked for")
    if name == "replay":
        from trackweave.predictors.replay import ReplayPredictor

        if not argument:
            raise SettingError("replay needs a recording: --predictor replay=PATH")
        return ChosenPredictor(ReplayPredictor(Path(argument)), asked, "asked for")
    known = ", ".join(("auto", *WEIGHTS_FREE, *BACKENDS))
    raise SettingError(f"there is no predictor {name!r}; known: {known}")


def _flow(asked: str, settings: FlowSettings, reason: str) -> ChosenPredictor:
    from trackweave.predictors.flow.predictor import FlowPredictor

    changed = settings.model_dump(mode="json", exclude_defaults=True)
    decisive = {name: value for name, value in changed.items() if name not in NO_EFFECT}
    details, identity = ({"settings": part} if part else {} for part in (changed, decisive))
    return ChosenPredictor(FlowPredictor(settings), asked, reason, details, identity)


@dataclass(frozen=True)
class AutomaticChoice:
    """What `auto` comes to.

    Attributes:
        weights: what a backend is to load; None = `flow`.
        reason: one line.
    """

    weights: FoundWeights | None
    reason: str


def plan_automatic(settings: SamSettings) -> AutomaticChoice:
    """The best backend whose weights are found, where there is a GPU; else `flow`. Loads no model.

    Weights that somebody named are used on any device; torch is imported only when there are weights for it.

    Raises:
        PredictorUnavailable: no backend takes the weights that were named, or no such device.
    """
    if settings.weights is not None:
        backend = backend_of(settings.weights)
        _require_packages(BACKENDS[backend])
        chosen = choose_weights(backend, settings.weights, device_kind(settings))
        return AutomaticChoice(chosen, f"auto: {backend} takes the weights that were named")
    usable = [backend for backend in BACKENDS.values() if not backend.missing]
    found = [weights for backend in usable for weights in weights_found(backend.name)]
    if not found:
        return AutomaticChoice(None, f"auto: flow, because {_why_nothing(usable)}")
    device = device_kind(settings)
    best = min(found, key=lambda weights: rank(weights.checkpoint, device))
    if device == "cpu":
        return AutomaticChoice(
            None,
            f"auto: flow, because there is no GPU: {best.backend} with {best.name} is ready, but takes seconds per "
            f"frame and object on a processor; --predictor {best.backend} uses it all the same",
        )
    why = f"the best of {len(found)} that were found" if len(found) > 1 else "the only one that was found"
    return AutomaticChoice(best, f"auto: {why}")


def _automatic(settings: PredictorSettings) -> ChosenPredictor:
    choice = plan_automatic(settings.sam)
    if choice.weights is None:
        return _flow("auto", settings.flow, choice.reason)
    return _load(choice.weights, "auto", settings.sam, choice.reason)


def _why_nothing(usable: Sequence[Backend]) -> str:
    waiting = [
        (backend, found[0])
        for backend in BACKENDS.values()
        if backend.missing and (found := weights_found(backend.name))
    ]
    if waiting:
        backend, weights = waiting[0]
        return (
            f"{weights.name} is there but {', '.join(backend.missing)} is not installed: "
            f"pip install 'trackweave[{backend.extra}]'"
        )
    if not usable:
        return "no backend with weights is installed: pip install 'trackweave[sam2]'"
    return f"no weights were found for {', '.join(backend.name for backend in usable)} (see `trackweave models`)"


def device_kind(settings: SamSettings) -> Device:
    """The kind of device that the settings come to; needs torch.

    Raises:
        PredictorUnavailable: a device that is not there.
    """
    from trackweave.predictors.sam.loading import choose_device

    kinds: Mapping[str, Device] = {"cuda": "cuda", "mps": "mps"}
    return kinds.get(choose_device(settings.device).type, "cpu")


def _require_packages(backend: Backend) -> None:
    for package in backend.missing:
        raise MissingExtraError(package, backend.packages[package], OTHERWISE)


def _load(weights: FoundWeights, asked: str, settings: SamSettings, reason: str) -> ChosenPredictor:
    """The predictor with its weights, and the record of both."""
    backend = BACKENDS[weights.backend]
    check_weights(weights)
    record = WeightsRecord.of_user()
    files = [file.to_json() for file in record.check(weights.files)]
    module, _, kind = backend.target.partition(":")
    predictor = getattr(import_module(module), kind)(settings.model_copy(update={"weights": weights.path}))
    details = {
        "backend": backend.name,
        "versions": {package: installed_version(package) for package in ("torch", VERSIONS[backend.name])},
        "device": str(predictor.model.device),
        "weights": {"name": weights.name, "found": weights.origin, "revision": weights.revision, "files": files},
        "settings": settings.model_dump(mode="json"),
    }
    identity = {
        "weights": [file["sha256"] for file in files],
        "settings": settings.model_dump(mode="json", exclude=set(NO_EFFECT)),
    }
    text = f"{reason}: {weights.name} on {details['device']}"
    return ChosenPredictor(predictor, asked, text, details, identity, tuple(record.warnings))


def installed_version(package: str) -> str | None:
    """Of a package's distribution; None when it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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

    from trackweave.predictors.sam.loading import available_devices

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
