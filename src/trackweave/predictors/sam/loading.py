"""From weights on disk to a model on its device: choice of device, arithmetic, loading and checking. Nothing is
downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from trackweave.errors import (
    MissingExtraError,
    PredictorOutOfMemory,
    PredictorUnavailable,
    SettingError,
    argument,
    shortened,
    shortened_line,
    wording,
)
from trackweave.options.yaml_values import parse_yaml
from trackweave.predictors.catalog import flow_hint
from trackweave.predictors.sam.settings import SamSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(request: str) -> torch.device:
    """The device of a name; `auto` is the first of CUDA, MPS and the processor that is available.

    Raises:
        PredictorUnavailable: a device that is not there, or no such name.
    """
    available = available_devices()
    if request == "auto":
        return torch.device(available[0])
    try:
        device = torch.device(request)
    except RuntimeError:
        raise PredictorUnavailable(f"there is no device {request!r}; here: {', '.join(available)}") from None
    if device.type not in available or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise PredictorUnavailable(
            f"device {request} is not there; here: {', '.join(available)}{wording('', ' (--device)')}"
        )
    return device


def available_devices() -> list[str]:
    """Kinds of device that torch can use here, best first."""
    devices = []
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def autocast_dtype(settings: SamSettings, device: torch.device) -> torch.dtype | None:
    """The type of autocast that the settings lead to on a device; None = no autocast, the type of the weights."""
    if settings.autocast == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    return None if settings.autocast == "off" else DTYPES[settings.autocast]


@contextmanager
def inference(device: torch.device, dtype: torch.dtype | None) -> Iterator[None]:
    """No gradients, and autocast to a type; None = no autocast."""
    with torch.inference_mode(), torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        yield


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch failed because memory was short, on any device."""
    # The processor's allocator has no exception of its own, only this text.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def free_cache(device: torch.device) -> None:
    """Returns the memory that torch caches to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


FIXED_SHAPE_PARTS = ("vision_encoder", "image_encoder", "memory_encoder", "mask_decoder", "sam_mask_decoder")
"""Modules whose input shapes depend on the number of objects only; each family of models has some of them."""

GROWING_PARTS = ("memory_attention",)
"""Modules whose inputs grow with the number of memories, up to a limit."""


def load_transformers(backend: str, class_name: str, settings: SamSettings) -> Any:
    """A model of `transformers` with its weights, in full precision, on the device.

    Args:
        backend: its name on the command line.
        class_name: of the model in `transformers`.
        settings: weights, device, compilation.

    Raises:
        MissingExtraError: transformers is not installed.
        PredictorUnavailable: see `weights.choose_weights`, or a device that is not there.
    """
    from trackweave.predictors.weights import choose_weights

    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "sam2", flow_hint()) from None
    model_class = getattr(transformers, class_name, None)
    if model_class is None:
        raise PredictorUnavailable(
            f"{backend}: transformers {transformers.__version__} has no {class_name}: upgrade it"
        )
    device = choose_device(settings.device)
    folder = choose_weights(backend, settings.weights).path
    try:
        with _no_progress_bars():
            model, report = model_class.from_pretrained(
                folder,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # `check_keys` below reports all that does not fit
            )
    except ImportError as error:  # the encoder of EdgeTAM lives in timm
        raise MissingExtraError(error.name or "timm", "edgetam", flow_hint()) from error
    except Exception as error:  # a configuration that was edited fails anywhere in upstream's constructors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PredictorUnavailable(f"{backend}: {folder}: cannot be loaded: {reason}") from error
    check_keys(
        f"{backend}: {folder}",
        missing=report["missing_keys"],
        unexpected=report["unexpected_keys"],
        other_shape={name: (tuple(ours), tuple(theirs)) for name, theirs, ours in report["mismatched_keys"]},
    )
    return prepare_model(model, device, settings)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Upstream draws a bar while it loads, also where there is no terminal."""
    logging: Any = import_module("transformers.utils.logging")
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def prepare_model(model: torch.nn.Module, device: torch.device, settings: SamSettings) -> torch.nn.Module:
    """Moves a model to the device, freezes it, and compiles its parts if the settings say so.

    Raises:
        PredictorOutOfMemory: the device does not hold the weights.
    """
    try:
        model = model.eval().requires_grad_(False).to(device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise PredictorOutOfMemory(
            f"{device} does not hold the model: take a smaller one or another {argument('device')}"
        ) from error
    if settings.compile == "on":
        compile_parts(model)
    return model


def compile_parts(model: torch.nn.Module, backend: str = "inductor") -> None:
    """Compiles the modules that run for every frame; those with growing inputs once for all sizes.

    Args:
        model: of any of the backends.
        backend: of `torch.compile`.
    """
    for names, dynamic in ((FIXED_SHAPE_PARTS, False), (GROWING_PARTS, True)):
        for name in names:
            if (module := getattr(model, name, None)) is not None:
                module.compile(dynamic=dynamic, backend=backend)


def load_meta(settings: SamSettings) -> Any:
    """A `SAM2VideoPredictor` of Meta's package with its weights, on the device.

    Raises:
        MissingExtraError: the package is not installed.
        PredictorUnavailable: see `weights.choose_weights`; no such configuration; a device that is not there.
    """
    from trackweave.predictors.weights import choose_weights

    try:
        import sam2  # noqa: F401 - only whether it is installed
    except ImportError:
        raise MissingExtraError("sam2", "sam2-meta", flow_hint()) from None
    device = choose_device(settings.device)
    weights = choose_weights("sam2", settings.weights).path
    model = build_meta(meta_config(weights, settings.config))
    loaded = _meta_state(weights)
    expected = model.state_dict()
    check_keys(
        f"sam2: {weights}",
        missing=sorted(expected.keys() - loaded.keys()),
        unexpected=sorted(loaded.keys() - expected.keys()),
        other_shape={
            name: (tuple(expected[name].shape), tuple(loaded[name].shape))
            for name in sorted(expected.keys() & loaded.keys())
            if expected[name].shape != loaded[name].shape
        },
    )
    model.load_state_dict(loaded)
    return prepare_model(model, device, settings)


def build_meta(config: Path) -> Any:
    """A `SAM2VideoPredictor` with random weights, as `build_sam2_video_predictor` configures it.

    Args:
        config: one of the package's YAML files, or one of the same form.

    Raises:
        PredictorUnavailable: not such a file, or one that names anything else than the parts of the model.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        _check_recipe(config, parse_yaml(config.read_text(encoding="utf-8"))["model"])
        options = OmegaConf.load(config)
        OmegaConf.update(options, "model._target_", META_MODEL, force_add=True)
        for key, value in META_OPTIONS.items():
            OmegaConf.update(options, f"model.{key}", value, force_add=True)
        if find_spec("sam2._C") is not None:  # built with its CUDA part; without it every call would only warn
            OmegaConf.update(options, "model.fill_hole_area", 8, force_add=True)
        return instantiate(OmegaConf.select(options, "model"), _recursive_=True)
    except (YAMLError, OmegaConfBaseException, InstantiationException, SettingError, *UNREADABLE) as error:
        reason = shortened_line(str(error).strip().split("\n")[0])
        raise PredictorUnavailable(f"{config}: not a configuration of SAM 2 ({reason})") from error


UNREADABLE = (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError)
PARTS = re.compile(r"(sam2\.modeling(?:\.[a-z0-9_]+)+)\.([A-Z]\w*)")
"""What a configuration may name: classes of the package's model."""


def _check_recipe(config: Path, node: Any) -> None:
    """Refuses a configuration that would call something else than the parts of the model: hydra calls what it finds.

    Raises:
        PredictorUnavailable: it names another object, or has references that are resolved only when it is used.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_" and value != META_MODEL:
                _check_part(config, value)
            _check_recipe(config, key)
            _check_recipe(config, value)
    elif isinstance(node, list):
        for value in node:
            _check_recipe(config, value)
    elif isinstance(node, str) and "${" in node:
        raise PredictorUnavailable(f"{config}: {shortened(node)} is a reference, which is not read: write the value")


def _check_part(config: Path, name: Any) -> None:
    match = PARTS.fullmatch(name) if isinstance(name, str) else None
    try:
        part = getattr(import_module(match[1]), match[2], None) if match is not None else None
    except ImportError:
        part = None
    if match is None or not isinstance(part, type) or not issubclass(part, torch.nn.Module):
        raise PredictorUnavailable(
            f"{config}: _target_ {shortened(name)} is no part of SAM 2's model (sam2.modeling…), and is not called"
        )


META_MODEL = "sam2.sam2_video_predictor.SAM2VideoPredictor"
META_OPTIONS = {
    "sam_mask_decoder_extra_args.dynamic_multimask_via_stability": True,
    "sam_mask_decoder_extra_args.dynamic_multimask_stability_delta": 0.05,
    "sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh": 0.98,
    "binarize_mask_from_pts_for_mem_enc": True,
}
"""Options that the package's own builder sets beyond its files."""


def meta_config(weights: Path, request: str | None) -> Path:
    """The configuration of a checkpoint: the requested name or file, else what belongs to the checkpoint's name.

    >>> meta_config(Path("sam2.1_hiera_tiny.pt"), None).name  # doctest: +SKIP
    'sam2.1_hiera_t.yaml'

    Raises:
        PredictorUnavailable: no such configuration, or none belongs to the checkpoint's name.
    """
    if request is not None and Path(request).is_file():
        return Path(request)
    configs = {path.stem: path for path in sorted(Path(str(files("sam2"))).glob("configs/sam2*/sam2*_hiera_*.yaml"))}
    configs = {stem: path for stem, path in configs.items() if "training" not in path.parent.name}
    if request is not None:
        stem = Path(request).name.removesuffix(".yaml")
        if stem not in configs:
            raise PredictorUnavailable(f"there is no configuration {request!r}: a file, or one of {', '.join(configs)}")
        return configs[stem]
    for word, letter in META_SIZES.items():
        for stem, path in configs.items():
            if weights.stem == stem.removesuffix(f"_{letter}") + f"_{word}" or weights.stem == stem:
                return path
    config = wording("SamSettings(config=NAME)", "--set config=NAME")
    raise PredictorUnavailable(
        f"{weights}: its name does not tell the configuration: give {config}, one of {', '.join(configs)}"
    )


META_SIZES = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
"""Sizes in names of checkpoints → in names of configurations."""


def _meta_state(weights: Path) -> dict[str, torch.Tensor]:
    try:
        content = torch.load(weights, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        reason = str(error).strip().split("\n")[0]
        raise PredictorUnavailable(f"{weights}: not a checkpoint that can be read ({reason})") from error
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise PredictorUnavailable(f"{weights}: not a checkpoint of SAM 2: it has no entry `model`")
    return state


def check_keys(
    where: str,
    *,
    missing: Collection[str],
    unexpected: Collection[str],
    other_shape: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
) -> None:
    """Refuses weights that are not those of the model.

    Args:
        where: backend and file, for the message.
        missing: names that the model has and the weights lack.
        unexpected: names that only the weights have.
        other_shape: name → shape that the model has, shape that the weights have.

    Raises:
        PredictorUnavailable: names the first few of each kind.
    """
    shapes = [f"{name} is {theirs} instead of {ours}" for name, (ours, theirs) in other_shape.items()]
    problems = [
        f"{len(names)} {problem} ({', '.join(list(names)[:3])}{' …' if len(names) > 3 else ''})"
        for problem, names in (("missing", missing), ("unknown", unexpected), ("of other shape", shapes))
        if names
    ]
    if problems:
        raise PredictorUnavailable(
            f"{where}: the weights are not those of this model, or of another image size: {'; '.join(problems)}"
        )
