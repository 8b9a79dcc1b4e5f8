"""From a name on the command line to a predictor (`choose_predictor`), and which predictors could run on this machine:
packages, devices, weights, and what is missing for more (`check_availability`).

Backends are imported only when one of theirs is chosen.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackweave.errors import MissingExtraError, PredictorUnavailable, SettingError, argument, how_to_install, wording
from trackweave.predictors.base import VideoPredictor
from trackweave.predictors.catalog import BACKENDS, Backend, Device, checkpoints_of, device_rank, flow_hint
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.sam.settings import SamSettings, TextSettings
from trackweave.predictors.weights import (
    FOLDER_VARIABLE,
    LocalWeights,
    WeightsRecord,
    backend_for,
    check_weights,
    choose_weights,
    find_weights,
    resolve_weights,
    weights_folder,
)
from trackweave.storage.files import content_digest, read_json_object
from trackweave.structures.run_log import RunWarning

if TYPE_CHECKING:
    from trackweave.predictors.sam.text import TextDetector

WEIGHTS_FREE = ("flow", "static", "replay")
IMPLEMENTATIONS = {"sam2-hf": "transformers", "edgetam": "transformers", "sam3-tracker": "transformers", "sam2": "sam2"}
"""Backend → the package that implements it, whose version is recorded."""
TEXT_MODEL_TYPE = "sam3_video"
"""Of the configuration of the whole of SAM 3."""
NO_EFFECT = frozenset({"weights", "memory_bytes", "device_bytes", "host_bytes", "disk_bytes", "prune"})
"""Settings that change no result: a run may be resumed with others. Weights count by their content."""


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
        request: the name that the user gave.
        reason: one line for the manifest and the terminal.
        details: for the manifest: weights with their checksums, versions, device; empty without weights.
        identity: the part of the details that decides the result: a run is only resumed with the same.
        warnings: problems that do not prevent its use, such as weights that changed.
    """

    predictor: VideoPredictor
    request: str
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[RunWarning] = ()


def choose_predictor(
    request: str, settings: PredictorSettings | SamSettings | FlowSettings | None = None
) -> ChosenPredictor:
    """The predictor of a name.

    Args:
        request: `auto`, `flow`, `static`, `replay=PATH`, or one of `catalog.BACKENDS`, alone or with the path or name
            of its weights, as in `sam2-hf=facebook/sam2.1-hiera-small`.
        settings: of the SAM 2 family, of `flow`, or of both; then those of the one that is chosen count.

    Raises:
        SettingError: an unknown name, `replay` without a path, or settings of another predictor than the one named.
        MissingExtraError: the backend's packages are not installed.
        PredictorUnavailable: its weights, its device or a recording are missing or of no use.
    """
    all_settings = PredictorSettings.of(settings)
    _refuse_other_settings(request.partition("=")[0], settings)
    chosen = _chosen(request, all_settings)
    return chosen if request != "auto" else _with_idle_settings(chosen, all_settings)


def _refuse_other_settings(name: str, settings: PredictorSettings | SamSettings | FlowSettings | None) -> None:
    """Settings of one kind of predictor are for that one; `PredictorSettings` hold what may be needed."""
    others: Collection[str] = ()
    if isinstance(settings, SamSettings):
        others = WEIGHTS_FREE
    elif isinstance(settings, FlowSettings):
        others = {*BACKENDS, *WEIGHTS_FREE} - {"flow"}
    if settings is not None and name in others and settings != type(settings)():
        raise SettingError(f"predictor {name}: {type(settings).__name__} have no effect on it")


def _with_idle_settings(chosen: ChosenPredictor, settings: PredictorSettings) -> ChosenPredictor:
    """What `auto` took, with a warning of changed settings that are those of another predictor.

    Raises:
        PredictorUnavailable: a GPU was asked for, and `flow`, which is taken, uses none.
    """
    is_flow = chosen.predictor.name == "flow"
    idle, section = (settings.sam, "predictor") if is_flow else (settings.flow, "flow")
    if is_flow and settings.sam.device.partition(":")[0] in ("cuda", "mps"):
        device = wording(f"device={settings.sam.device!r}", f"--device {settings.sam.device}")
        raise PredictorUnavailable(f"{device}: {chosen.reason}, and flow runs on the processor alone")
    names = sorted(set(idle.model_dump(exclude_defaults=True)) - {"device"})
    if not names:
        return chosen
    text = f"{', '.join(f'{section}.{name}' for name in names)} without effect ({chosen.reason})"
    return replace(chosen, warnings=(*chosen.warnings, RunWarning("weights", None, "setting-ignored", text)))


def _chosen(request: str, all_settings: PredictorSettings) -> ChosenPredictor:
    """The predictor of a name, as `choose_predictor`."""
    sam_settings = all_settings.sam
    name, _, argument = request.partition("=")
    if argument and name in ("auto", "flow", "static"):
        raise SettingError(f"predictor {name} takes no argument, but got {request!r}")
    if name in BACKENDS:
        if argument:
            sam_settings = sam_settings.model_copy(update={"weights": Path(argument)})
        _require_packages(BACKENDS[name])
        weights = choose_weights(name, sam_settings.weights, device_kind(sam_settings))
        return _load(weights, request, sam_settings, "asked for")
    if name == "auto":
        return _choose_automatically(all_settings)
    if name == "flow":
        return _flow(request, all_settings.flow, "asked for")
    if name == "static":
        from trackweave.predictors.static import StaticPredictor

        return ChosenPredictor(StaticPredictor(), request, "asked for")
    if name == "replay":
        from trackweave.predictors.replay import ReplayPredictor

        if not argument:
            raise SettingError(
                f"replay needs a recording: {wording('predictor=replay=PATH', '--predictor replay=PATH')}"
            )
        replay = ReplayPredictor(Path(argument))
        content = [[file.name, content_digest(file).hex()] for file in replay.files]
        return ChosenPredictor(replay, request, "asked for", identity={"recordings": content})
    names = ", ".join(("auto", *WEIGHTS_FREE, *BACKENDS))
    raise SettingError(f"there is no predictor {name!r}; known: {names}")


def _flow(request: str, settings: FlowSettings, reason: str) -> ChosenPredictor:
    from trackweave.predictors.flow.predictor import FlowPredictor

    changed = settings.model_dump(mode="json", exclude_defaults=True)
    decisive = {name: value for name, value in changed.items() if name not in NO_EFFECT}
    details, identity = ({"settings": part} if part else {} for part in (changed, decisive))
    return ChosenPredictor(FlowPredictor(settings), request, reason, details, identity)


@dataclass(frozen=True)
class AutomaticChoice:
    """What `auto` decides.

    Attributes:
        weights: the weights that a backend is to load; None = `flow`.
        reason: one line.
    """

    weights: LocalWeights | None
    reason: str


def plan_automatic(settings: SamSettings) -> AutomaticChoice:
    """The best backend whose weights are found, where there is a GPU; else `flow`. Loads no model.

    Weights that the settings name are used on any device; torch is imported only when there are weights for it.

    Raises:
        PredictorUnavailable: no backend takes the weights that were named, or no such device.
    """
    if settings.weights is not None:
        backend = backend_for(settings.weights)
        _require_packages(BACKENDS[backend])
        chosen = choose_weights(backend, settings.weights, device_kind(settings))
        return AutomaticChoice(chosen, f"auto: {backend} takes the weights that were named")
    usable = [backend for backend in BACKENDS.values() if not backend.missing]
    candidates = [weights for backend in usable for weights in find_weights(backend.name)]
    if not candidates:
        return AutomaticChoice(None, f"auto: flow, because {_why_no_weights(usable)}")
    device = device_kind(settings)
    best = min(candidates, key=lambda weights: device_rank(weights.checkpoint, device))
    if device == "cpu":
        return AutomaticChoice(
            None,
            f"auto: flow, because there is no GPU: {best.backend} with {best.name} is ready, but takes seconds per "
            f"frame and object on a processor; {argument('predictor', best.backend)} uses it all the same",
        )
    reason = f"the best of {len(candidates)} that were found" if len(candidates) > 1 else "the only one that was found"
    return AutomaticChoice(best, f"auto: {reason}")


def _choose_automatically(settings: PredictorSettings) -> ChosenPredictor:
    choice = plan_automatic(settings.sam)
    if choice.weights is None:
        return _flow("auto", settings.flow, choice.reason)
    return _load(choice.weights, "auto", settings.sam, choice.reason)


def _why_no_weights(usable: Sequence[Backend]) -> str:
    """The end of a sentence: why no backend has weights; the first of them that only lacks its packages is named."""
    without_packages = [
        (backend, local[0])
        for backend in BACKENDS.values()
        if backend.missing and (local := find_weights(backend.name))
    ]
    if without_packages:
        backend, weights = without_packages[0]
        return (
            f"{weights.name} is there but {', '.join(backend.missing)} is not installed: "
            f"{how_to_install(backend.extra)}"
        )
    if not usable:
        return f"no backend with weights is installed: {how_to_install('sam2')}"
    return f"no weights were found for {', '.join(backend.name for backend in usable)} (see `trackweave models`)"


def device_kind(settings: SamSettings) -> Device:
    """The kind of device that the settings lead to; needs torch.

    Raises:
        PredictorUnavailable: a device that is not there.
    """
    from trackweave.predictors.sam.loading import choose_device

    kinds: Mapping[str, Device] = {"cuda": "cuda", "mps": "mps"}
    return kinds.get(choose_device(settings.device).type, "cpu")


def _require_packages(backend: Backend) -> None:
    for package in backend.missing:
        raise MissingExtraError(package, backend.packages[package], flow_hint())


def _load(weights: LocalWeights, request: str, settings: SamSettings, reason: str) -> ChosenPredictor:
    """The predictor with these weights, and the record of both."""
    backend = BACKENDS[weights.backend]
    check_weights(weights)
    record = WeightsRecord.of_user()
    files = [file.to_json() for file in record.check(weights.files)]
    module, _, class_name = backend.target.partition(":")
    predictor = getattr(import_module(module), class_name)(settings.model_copy(update={"weights": weights.path}))
    details = {
        "backend": backend.name,
        "versions": {package: installed_version(package) for package in ("torch", IMPLEMENTATIONS[backend.name])},
        "device": str(predictor.model.device),
        "weights": {"name": weights.name, "found": weights.origin, "revision": weights.revision, "files": files},
        "settings": settings.model_dump(mode="json"),
    }
    identity = {
        "weights": [file["sha256"] for file in files],
        "settings": settings.model_dump(mode="json", exclude=set(NO_EFFECT)),
    }
    text = f"{reason}: {weights.name} on {details['device']}"
    return ChosenPredictor(predictor, request, text, details, identity, tuple(record.warnings))


@dataclass(frozen=True)
class OpenedTextDetector:
    """SAM 3, which detects what phrases name.

    Attributes:
        detector: see `detectors.Detector`.
        identity: the part of its weights that decides the result.
    """

    detector: TextDetector
    identity: Mapping[str, Any]


def open_text_detector(weights: str, text: TextSettings, settings: SamSettings | None = None) -> OpenedTextDetector:
    """The detector of what phrases name.

    Args:
        weights: path or name of SAM 3's, as it is published; empty: those of the settings, or what is found.
        text: the phrases, the lowest score, the device.
        settings: weights, arithmetic and compilation, and the device where `text` names none.

    Raises:
        SettingError: no phrase, or one that is too long.
        MissingExtraError: torch or transformers is not installed.
        PredictorUnavailable: its weights or its device are missing or of no use.
    """
    backend = BACKENDS["sam3-tracker"]
    if backend.missing:
        package = backend.missing[0]
        raise MissingExtraError(package, backend.packages[package], ", which SAM 3 needs to understand a text")
    settings = settings or SamSettings()
    changes: dict[str, Any] = {} if text.device == "auto" else {"device": text.device}
    settings = settings.model_copy(update=changes)
    request = Path(weights) if weights else settings.weights
    if request is None and not find_weights(backend.name):
        name = wording("generator or detector", "--generator or --detector")
        raise PredictorUnavailable(
            f"texts are understood by SAM 3 alone, and its weights are neither where {FOLDER_VARIABLE} says nor in the "
            f"Hugging Face cache: name their folder, as {name} sam3=PATH"
        )
    try:
        chosen = choose_weights(backend.name, request, device_kind(settings))
    except PredictorUnavailable as error:
        raise PredictorUnavailable(f"texts are understood by SAM 3 alone: {error}") from error
    if read_json_object(chosen.path / "config.json", "configuration").get("model_type") != TEXT_MODEL_TYPE:
        raise PredictorUnavailable(f"{chosen.path}: holds SAM 3's tracker, no text encoder: name the whole of SAM 3")
    record = WeightsRecord.of_user()
    digests = [file.to_json()["sha256"] for file in record.check(chosen.files)]
    from trackweave.predictors.sam.text import TextDetector

    detector = TextDetector(text, settings.model_copy(update={"weights": chosen.path}))
    return OpenedTextDetector(detector, {"weights": digests})


def installed_version(package: str) -> str | None:
    """Of a package's distribution; None when it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class AvailableWeights:
    """Weights on this machine.

    Attributes:
        name: hub name, else the path.
        path: what would be loaded.
        origin: where they were found: the variable, the cache, or `named`.
        size: bytes of the weight files.
        problem: why they cannot be used; None = no reason is known.
    """

    name: str
    path: Path
    origin: str
    size: int
    problem: str | None


@dataclass(frozen=True)
class BackendAvailability:
    """One backend of the SAM 2 family.

    Attributes:
        name: on the command line.
        versions: installed package → its version.
        missing: packages that are not installed.
        extra: the extra that installs them.
        weights: weights on this machine that it takes.
        checkpoints: hub names of the published checkpoints that it takes.
    """

    name: str
    versions: Mapping[str, str]
    missing: list[str]
    extra: str
    weights: list[AvailableWeights]
    checkpoints: list[str]

    @property
    def state(self) -> str:
        """`ready`, `no weights` or `not installed`."""
        if self.missing:
            return "not installed"
        return "ready" if any(weights.problem is None for weights in self.weights) else "no weights"


@dataclass(frozen=True)
class Availability:
    """Which predictors can run on this machine.

    Attributes:
        automatic: what `--predictor auto` decides, and why.
        devices: device → its description, best first; empty without torch.
        folder: the folder that `TRACKWEAVE_WEIGHTS` names.
        cache: folder of the Hugging Face cache; None when its package is not installed.
        backends: of the SAM 2 family.
    """

    automatic: str
    devices: Mapping[str, str]
    folder: Path | None
    cache: Path | None
    backends: list[BackendAvailability]

    def to_json(self) -> dict[str, object]:
        """The form for scripts."""
        return {
            "automatic": self.automatic,
            "devices": dict(self.devices),
            "looked_in": {FOLDER_VARIABLE: _text(self.folder), "hugging_face_cache": _text(self.cache)},
            "predictors": [
                *(
                    {"name": name, "state": "ready", "weights": [], "needs_weights": False}
                    for name in ("flow", "static")
                ),
                *(_backend_json(backend) for backend in self.backends),
            ],
        }


def check_availability(settings: SamSettings, environment: Mapping[str, str] = os.environ) -> Availability:
    """Looks at packages, devices and weights; loads no model.

    Args:
        settings: weights that they name count for the backends that take them.
        environment: variables by name.

    Raises:
        PredictorUnavailable: `TRACKWEAVE_WEIGHTS` names no folder, or a device that is not there.
    """
    return Availability(
        automatic=plan_automatic(settings).reason,
        devices=_devices() if find_spec("torch") is not None else {},
        folder=weights_folder(environment),
        cache=_hub_cache(),
        backends=[_backend_availability(name, settings, environment) for name in BACKENDS],
    )


def _backend_availability(name: str, settings: SamSettings, environment: Mapping[str, str]) -> BackendAvailability:
    backend = BACKENDS[name]
    local = find_weights(name, environment)
    if settings.weights is not None:
        try:
            local = resolve_weights(name, settings.weights, environment)
        except PredictorUnavailable:
            local = []
    installed = {package: installed_version(package) for package in dict.fromkeys(("torch", IMPLEMENTATIONS[name]))}
    return BackendAvailability(
        name=name,
        versions={package: version for package, version in installed.items() if version is not None},
        missing=backend.missing,
        extra=backend.extra,
        weights=[_checked(weights) for weights in local],
        checkpoints=[checkpoint.hub_name for checkpoint in checkpoints_of(name)],
    )


def _checked(weights: LocalWeights) -> AvailableWeights:
    try:
        check_weights(weights)
        problem = None
    except PredictorUnavailable as error:
        problem = str(error)
    size = sum(file.stat().st_size for file in weights.files)
    return AvailableWeights(weights.name, weights.path, weights.origin, size, problem)


def _devices() -> dict[str, str]:
    import torch

    from trackweave.predictors.sam.loading import available_devices

    devices = {}
    for kind in available_devices():
        if kind == "cuda":
            for index in range(torch.cuda.device_count()):
                card = torch.cuda.get_device_properties(index)
                devices[f"cuda:{index}"] = f"{card.name}, {card.total_memory / 2**30:.0f} GiB"
        else:
            devices[kind] = "Apple GPU" if kind == "mps" else f"{os.cpu_count()} cores"
    return devices


def _hub_cache() -> Path | None:
    try:
        from huggingface_hub import constants
    except ImportError:
        return None
    return Path(constants.HF_HUB_CACHE)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _backend_json(backend: BackendAvailability) -> dict[str, object]:
    return {
        "name": backend.name,
        "state": backend.state,
        "needs_weights": True,
        "versions": dict(backend.versions),
        "missing_packages": backend.missing,
        "install": how_to_install(backend.extra) if backend.missing else None,
        "weights": [
            {"name": one.name, "path": str(one.path), "found": one.origin, "bytes": one.size, "problem": one.problem}
            for one in backend.weights
        ],
        "checkpoints": backend.checkpoints,
    }
