"""From weights on disk to a model that is ready to run. Nothing is downloaded.

Where a model runs, and how much it may take.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from trackweave.errors import MissingExtraError, PredictorOutOfMemory, PredictorUnavailable
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


OTHERWISE = "; or use --predictor flow, which needs no weights"
STEADY = ("vision_encoder", "image_encoder", "memory_encoder", "mask_decoder", "sam_mask_decoder")
"""Parts whose shapes are the same for every frame, but for the number of objects; each family has some of them."""

GROWING = ("memory_attention",)
"""Parts that look at more and more memories until there are as many as they take."""


def load_transformers(backend: str, kind: str, settings: SamSettings) -> Any:
    """A model of `transformers` with its weights, in full precision, on the device.

    Args:
        backend: its name on the command line.
        kind: name of the class.
        settings: weights, device, compilation.

    Raises:
        MissingExtraError: transformers is not installed.
        PredictorUnavailable: see `weights.choose_weights`, or a device that is not there.
    """
    from trackweave.predictors.weights import choose_weights

    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "sam2", OTHERWISE) from None
    found = getattr(transformers, kind, None)
    if found is None:
        raise PredictorUnavailable(f"{backend}: transformers {transformers.__version__} has no {kind}: upgrade it")
    device = choose_device(settings.device)
    folder = choose_weights(backend, settings.weights).path
    try:
        with _no_progress_bars():
            model, report = found.from_pretrained(
                folder,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # told below, with everything else that does not fit
            )
    except ImportError as error:  # the encoder of EdgeTAM lives in timm
        raise MissingExtraError(error.name or "timm", "edgetam", OTHERWISE) from error
    except Exception as error:  # a configuration that was edited fails anywhere in upstream's constructors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PredictorUnavailable(f"{backend}: {folder}: cannot be loaded: {reason}") from error
    check_keys(
        f"{backend}: {folder}",
        missing=report["missing_keys"],
        unexpected=report["unexpected_keys"],
        other_shape={name: (tuple(wanted), tuple(given)) for name, given, wanted in report["mismatched_keys"]},
    )
    return ready(model, device, settings)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Upstream draws a bar while it loads, also where nobody looks at a terminal."""
    bars: Any = import_module("transformers.utils.logging")
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def ready(model: torch.nn.Module, device: torch.device, settings: SamSettings) -> torch.nn.Module:
    """Moves a model to the device, freezes it, compiles its parts when that is asked for.

    Raises:
        PredictorOutOfMemory: the device does not hold the weights.
    """
    try:
        model = model.eval().requires_grad_(False).to(device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise PredictorOutOfMemory(
            f"{device} does not hold the model: take a smaller one or another --device"
        ) from error
    if settings.compile == "on":
        compile_parts(model)
    return model


def compile_parts(model: torch.nn.Module, backend: str = "inductor") -> None:
    """Compiles what runs for every frame; a part with growing inputs once for all of their sizes.

    Args:
        model: of any of the backends.
        backend: of `torch.compile`.
    """
    for names, dynamic in ((STEADY, False), (GROWING, True)):
        for name in names:
            if (part := getattr(model, name, None)) is not None:
                part.compile(dynamic=dynamic, backend=backend)


def load_meta(settings: SamSettings) -> Any:
    """A `SAM2VideoPredictor` of Meta's package with its weights, on the device.

    Raises:
        MissingExtraError: the package is not installed.
        PredictorUnavailable: see `weights.choose_weights`; no such configuration; a device that is not there.
    """
    from trackweave.predictors.weights import choose_weights

    try:
        import sam2  # noqa: F401 - is it there?
    except ImportError:
        raise MissingExtraError("sam2", "sam2-meta", OTHERWISE) from None
    device = choose_device(settings.device)
    weights = choose_weights("sam2", settings.weights).path
    model = build_meta(meta_config(weights, settings.config))
    given = _meta_state(weights)
    wanted = model.state_dict()
    check_keys(
        f"sam2: {weights}",
        missing=sorted(wanted.keys() - given.keys()),
        unexpected=sorted(given.keys() - wanted.keys()),
        other_shape={
            name: (tuple(wanted[name].shape), tuple(given[name].shape))
            for name in sorted(wanted.keys() & given.keys())
            if wanted[name].shape != given[name].shape
        },
    )
    model.load_state_dict(given)
    return ready(model, device, settings)


def build_meta(config: Path) -> Any:
    """A `SAM2VideoPredictor` with random weights, as `build_sam2_video_predictor` configures it.

    Args:
        config: one of the package's YAML files, or one of the same form.

    Raises:
        PredictorUnavailable: not such a file.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        found = OmegaConf.load(config)
        OmegaConf.update(found, "model._target_", "sam2.sam2_video_predictor.SAM2VideoPredictor", force_add=True)
        for key, value in META_OPTIONS.items():
            OmegaConf.update(found, f"model.{key}", value, force_add=True)
        if _holes_can_be_filled():
            OmegaConf.update(found, "model.fill_hole_area", 8, force_add=True)
        return instantiate(OmegaConf.select(found, "model"), _recursive_=True)
    except (OSError, YAMLError, OmegaConfBaseException, InstantiationException, TypeError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise PredictorUnavailable(f"{config}: not a configuration of SAM 2 ({reason})") from error


META_OPTIONS = {
    "sam_mask_decoder_extra_args.dynamic_multimask_via_stability": True,
    "sam_mask_decoder_extra_args.dynamic_multimask_stability_delta": 0.05,
    "sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh": 0.98,
    "binarize_mask_from_pts_for_mem_enc": True,
}
"""What the package's own builder sets beyond its files."""


def _holes_can_be_filled() -> bool:
    """Whether the package was built with its CUDA part; without it every call would only warn."""
    return find_spec("sam2._C") is not None


def meta_config(weights: Path, asked: str | None) -> Path:
    """The configuration of a checkpoint: the one asked for by name or by file, else the one that its name tells.

    >>> meta_config(Path("sam2.1_hiera_tiny.pt"), None).name  # doctest: +SKIP
    'sam2.1_hiera_t.yaml'

    Raises:
        PredictorUnavailable: no such configuration, or the checkpoint's name tells nothing.
    """
    if asked is not None and Path(asked).is_file():
        return Path(asked)
    known = {path.stem: path for path in sorted(Path(str(files("sam2"))).glob("configs/sam2*/sam2*_hiera_*.yaml"))}
    known = {stem: path for stem, path in known.items() if "training" not in path.parent.name}
    if asked is not None:
        stem = Path(asked).name.removesuffix(".yaml")
        if stem not in known:
            raise PredictorUnavailable(f"there is no configuration {asked!r}: a file, or one of {', '.join(known)}")
        return known[stem]
    for word, letter in META_SIZES.items():
        for stem, path in known.items():
            if weights.stem == stem.removesuffix(f"_{letter}") + f"_{word}" or weights.stem == stem:
                return path
    raise PredictorUnavailable(
        f"{weights}: its name does not tell the configuration: give --set config=NAME, one of {', '.join(known)}"
    )


META_SIZES = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
"""Sizes in names of checkpoints → in names of configurations."""


def _meta_state(weights: Path) -> dict[str, torch.Tensor]:
    try:
        found = torch.load(weights, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        reason = str(error).strip().split("\n")[0]
        raise PredictorUnavailable(f"{weights}: not a checkpoint that can be read ({reason})") from error
    state = found.get("model") if isinstance(found, dict) else None
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
    shapes = [f"{name} is {given} instead of {wanted}" for name, (wanted, given) in other_shape.items()]
    said = [
        f"{len(names)} {what} ({', '.join(list(names)[:3])}{' …' if len(names) > 3 else ''})"
        for what, names in (("missing", missing), ("unknown", unexpected), ("of other shape", shapes))
        if names
    ]
    if said:
        raise PredictorUnavailable(
            f"{where}: the weights are not those of this model, or of another image size: {'; '.join(said)}"
        )
