"""Where weights lie on this machine, and whether a backend can take them. Nothing is ever downloaded.

They are looked for in the folder that `TRACKWEAVE_WEIGHTS` names, then in the Hugging Face cache. torch is not needed
here: what is read are names, `config.json` and the headers of weight files.

`WeightsRecord`: checksums of weight files, remembered, so that a file that changed is noticed.

They lie in `weights.json` in the user's state folder (`XDG_STATE_HOME`, else `~/.local/state`), by path. A file of the
same size and time of change is not read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from trackweave.errors import ArtifactError, PredictorUnavailable
from trackweave.predictors.catalog import BACKENDS, Backend, Checkpoint, Device, checkpoint_called, checkpoints_of, rank
from trackweave.storage.files import check_version, read_json_object, write_json
from trackweave.structures.run_log import RunWarning

FOLDER_VARIABLE = "TRACKWEAVE_WEIGHTS"
SUFFIXES = (".pt", ".pth")
CONFIG = "config.json"
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WHOLE = ("model.safetensors", "pytorch_model.bin")
DEPTH = 2
"""Levels of folders that are searched below a named one: `OWNER/NAME` is two."""
TIMM = "timm_wrapper"
"""The type of an image encoder that transformers takes from timm."""
STUBS = (b"version https://git-lfs", b"<!DOCTYPE", b"<html")
"""How files begin that stand where weights should be."""


class Asked(Protocol):
    """The part of the settings that this file reads."""

    @property
    def weights(self) -> Path | None:
        """Path, hub name or short name; None = whatever is found."""


@dataclass(frozen=True)
class FoundWeights:
    """Weights that a backend can take, as far as names and configuration tell.

    Attributes:
        backend: its name.
        path: what is loaded: a folder with `config.json`, or Meta's `.pt` file.
        files: the weight files.
        origin: where they were found, for people.
        checkpoint: the published checkpoint, when names tell which.
        revision: commit of the repository in the Hugging Face cache.
    """

    backend: str
    path: Path
    files: tuple[Path, ...]
    origin: str
    checkpoint: Checkpoint | None = None
    revision: str | None = None

    @property
    def name(self) -> str:
        """The checkpoint's hub name, else the path."""
        return str(self.path) if self.checkpoint is None else self.checkpoint.hub_name


def require_weights(backend: str, settings: Asked, device: Device = "cuda") -> Path:
    """The weights that a backend is to load: a folder for transformers, a file for Meta's package.

    Raises:
        PredictorUnavailable: see `choose_weights`.
    """
    return choose_weights(backend, settings.weights, device).path


def choose_weights(
    backend: str, asked: Path | None, device: Device = "cuda", environment: Mapping[str, str] = os.environ
) -> FoundWeights:
    """The weights that a backend is to load, checked as far as this is possible without loading them.

    Args:
        backend: its name.
        asked: a path, a hub name, a checkpoint's short name; None = the best that is found.
        device: kind of device, which decides what is best.
        environment: variables by name.

    Raises:
        PredictorUnavailable: nothing there; of another family; for another image size; cut off or not weights at all.
    """
    found = weights_asked_for(backend, asked, environment) if asked else weights_found(backend, environment)
    if not found:
        raise PredictorUnavailable(_nothing_found(backend, environment))
    best = min(found, key=lambda one: rank(one.checkpoint, device))
    check_weights(best)
    return best


def weights_found(backend: str, environment: Mapping[str, str] = os.environ) -> list[FoundWeights]:
    """What is there for a backend, in the order of the search; checkpoints that were named elsewhere are not known.

    Raises:
        PredictorUnavailable: `TRACKWEAVE_WEIGHTS` names no folder.
    """
    found: list[FoundWeights] = []
    folder = weights_folder(environment)
    if folder is not None:
        found += _below(BACKENDS[backend], folder, FOLDER_VARIABLE)
    for checkpoint in checkpoints_of(backend):
        cached = _cached(BACKENDS[backend], checkpoint.hub_name)
        found += [cached] if cached is not None else []
    return found


def weights_asked_for(backend: str, asked: Path, environment: Mapping[str, str] = os.environ) -> list[FoundWeights]:
    """What a path or a name stands for; several when it is a folder of checkpoints.

    Raises:
        PredictorUnavailable: nothing there, or nothing that the backend takes.
    """
    how, path = BACKENDS[backend], asked.expanduser()
    if path.exists():
        return _at(how, path, "named")
    name = asked.as_posix()
    known = checkpoint_called(name)
    folder = weights_folder(environment)
    if folder is not None:
        for inside in _names_of(name, known):
            if (folder / inside).exists():
                return _at(how, folder / inside, FOLDER_VARIABLE)
    hub_name = known.hub_name if known is not None else name
    if known is not None and backend not in known.backends:
        others = " or ".join(f"--predictor {other}" for other in known.backends)
        raise PredictorUnavailable(f"{backend} cannot run {hub_name}: use {others}")
    cached = _cached(how, hub_name)
    if cached is None:
        where = f"{FOLDER_VARIABLE}={folder}" if folder is not None else f"{FOLDER_VARIABLE} (not set)"
        raise PredictorUnavailable(
            f"weights {name}: no such file or folder, and not in {where} or the Hugging Face cache; nothing is "
            f"downloaded: put them there first (`trackweave models` lists what is there)"
        )
    return [cached]


def backend_of(asked: Path, environment: Mapping[str, str] = os.environ) -> str:
    """The backend that takes the weights of a path or a name; the first of `BACKENDS` that does.

    Raises:
        PredictorUnavailable: none does; says why the first does not.
    """
    refusals = []
    for name in BACKENDS:
        try:
            weights_asked_for(name, asked, environment)
        except PredictorUnavailable as error:
            refusals.append(error)
        else:
            return name
    raise refusals[0]


def weights_folder(environment: Mapping[str, str]) -> Path | None:
    """The folder that `TRACKWEAVE_WEIGHTS` names; None when it is not set.

    Raises:
        PredictorUnavailable: there is no such folder.
    """
    text = environment.get(FOLDER_VARIABLE, "").strip()
    if not text:
        return None
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise PredictorUnavailable(f"environment {FOLDER_VARIABLE}: there is no folder {folder}")
    return folder


# --- checks -----------------------------------------------------------------------------------------------------------


def check_weights(found: FoundWeights) -> None:
    """Looks into headers and configuration; loading itself then compares every name and shape.

    Raises:
        PredictorUnavailable: a file that is cut off or no weights, sizes that do not belong together, timm missing.
    """
    for file in found.files:
        _check_file(file)
    if not BACKENDS[found.backend].takes_files:
        _check_sizes(BACKENDS[found.backend], found.path)
        if TIMM in json.dumps(_read_config(found.path)) and find_spec("timm") is None:
            raise PredictorUnavailable(
                f"{found.path}: its image encoder is one of timm's: pip install 'trackweave[edgetam]'"
            )


def _check_file(path: Path) -> None:
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            head = handle.read(64)
            if any(head.startswith(stub) for stub in STUBS):
                raise PredictorUnavailable(f"{path}: is a pointer or a web page, not weights: fetch the file itself")
            if path.suffix == ".safetensors":
                _check_safetensors(path, head, size, handle)
            elif not zipfile.is_zipfile(path):
                raise PredictorUnavailable(f"{path}: not a checkpoint of torch, or cut off: copy it again")
    except OSError as error:
        raise PredictorUnavailable(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_safetensors(path: Path, head: bytes, size: int, handle: Any) -> None:
    """The format: 8 bytes of length, a JSON table with each tensor's place, the tensors."""
    length = int.from_bytes(head[:8], "little")
    if size < 8 or not 2 <= length <= size - 8:
        raise PredictorUnavailable(f"{path}: not a safetensors file, or cut off: copy it again")
    handle.seek(8)
    try:
        table = json.loads(handle.read(length))
        ends = [entry["data_offsets"][1] for name, entry in table.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise PredictorUnavailable(f"{path}: not a safetensors file, or damaged: copy it again") from None
    wanted = 8 + length + max(ends, default=0)
    if size != wanted:
        raise PredictorUnavailable(f"{path}: has {size} of {wanted} bytes: it was cut off, copy it again")


def _check_sizes(backend: Backend, folder: Path) -> None:
    """A configuration whose image size was changed in one place only fails late, deep inside the model."""
    config = _read_config(folder)
    if backend.name == "sam3-tracker":  # its sizes follow from one number
        return
    size = _square(config.get("image_size", backend.image_size))
    vision = config.get("vision_config") or {}
    nominal = backend.image_size // backend.stride
    places = {
        "memory_attention_rope_feat_sizes": config.get("memory_attention_rope_feat_sizes", nominal),
        "vision_config.backbone_feature_sizes": (vision.get("backbone_feature_sizes") or [nominal])[-1],
    }
    for name, side in places.items():
        if size is None or _square(side) != size // backend.stride:
            wanted = "one side" if size is None else f"{size // backend.stride} places a side"
            raise PredictorUnavailable(
                f"{folder / CONFIG}: weights for another image size: image_size {config.get('image_size')} goes with "
                f"{wanted}, but {name} is {side}"
            )


def _square(value: Any) -> int | None:
    """The side of a square that is given as one number or as two."""
    sides = value if isinstance(value, list) else [value]
    return sides[0] if sides and all(isinstance(side, int) and side == sides[0] > 0 for side in sides) else None


# --- places -----------------------------------------------------------------------------------------------------------


def _at(backend: Backend, path: Path, origin: str) -> list[FoundWeights]:
    """What a file or folder that somebody named holds.

    Raises:
        PredictorUnavailable: nothing that the backend takes; says what it is instead.
    """
    if backend.takes_files:
        found = [_as_file(path, origin)] if path.is_file() else list(_below(backend, path, origin))
        alone = sorted(file for suffix in SUFFIXES for file in path.glob(f"*{suffix}")) if path.is_dir() else []
        if not found and len(alone) == 1:
            found = [_as_file(alone[0], origin)]
        if found:
            return found
        if len(alone) > 1:
            names = ", ".join(file.name for file in alone[:3])
            raise PredictorUnavailable(f"{path}: holds several checkpoints ({names} …): name one with --weights FILE")
        raise PredictorUnavailable(f"{path}: has no checkpoint of Meta's package (.pt){_better(path, backend)}")
    if path.is_file():
        if path.suffix in SUFFIXES:
            hint = f"use --predictor sam2={path}, or a folder with {CONFIG} and model.safetensors"
            raise PredictorUnavailable(f"{path}: is a file of Meta's package: {hint}")
        path = path.parent
    if (path / CONFIG).is_file():
        return [_as_folder(backend, path, origin)]
    found = list(_below(backend, path, origin))
    if not found:
        raise PredictorUnavailable(f"{path}: has no {CONFIG} that {backend.name} takes{_better(path, backend)}")
    return found


def _below(backend: Backend, folder: Path, origin: str) -> Iterator[FoundWeights]:
    """Everything in a folder that the backend takes and whose configuration is known; unusable things are passed by."""
    for inside in [folder, *_folders(folder, DEPTH)]:
        if backend.takes_files:
            known = [checkpoint.file for checkpoint in checkpoints_of(backend.name)]
            yield from (_as_file(inside / name, origin) for name in known if name and (inside / name).is_file())
        elif _model_type(inside) in backend.model_types and _weight_files(inside):
            yield _as_folder(backend, inside, origin)


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    if depth == 0:
        return
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:  # not ours to read
        return
    for path in inside:
        yield path
        yield from _folders(path, depth - 1)


def _as_file(path: Path, origin: str) -> FoundWeights:
    if path.suffix not in SUFFIXES:
        raise PredictorUnavailable(f"{path}: sam2 takes a checkpoint of Meta's package (.pt){_better(path, None)}")
    return FoundWeights("sam2", path, (path,), origin, checkpoint_called(path.name))


def _as_folder(backend: Backend, folder: Path, origin: str) -> FoundWeights:
    found = _model_type(folder)
    if found not in backend.model_types:
        raise PredictorUnavailable(
            f"{folder}: its {CONFIG} says model_type {found!r}, but {backend.name} takes "
            f"{' or '.join(backend.model_types)}{_better(folder, backend)}"
        )
    files = _weight_files(folder)
    if not files:
        raise PredictorUnavailable(f"{folder}: has a {CONFIG} but no weights ({WHOLE[0]}): copy the whole folder")
    known = checkpoint_called(f"{folder.parent.name}/{folder.name}") or checkpoint_called(folder.name)
    return FoundWeights(backend.name, folder, files, origin, known)


def _cached(backend: Backend, hub_name: str) -> FoundWeights | None:
    """A repository of the Hugging Face cache, at its main revision."""
    try:
        from huggingface_hub import constants, try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    known = checkpoint_called(hub_name)
    name = CONFIG if not backend.takes_files else known.file if known is not None else None
    if name is None:
        return None
    try:
        cached = try_to_load_from_cache(hub_name, name, cache_dir=constants.HF_HUB_CACHE)
    except HFValidationError:  # a path that is not there cannot be a hub name either
        return None
    if not isinstance(cached, str):
        return None
    path = Path(cached)
    origin = "Hugging Face cache"
    if backend.takes_files:
        return FoundWeights(backend.name, path, (path,), origin, known, path.parent.name)
    files = _weight_files(path.parent)
    if not files or _model_type(path.parent) not in backend.model_types:
        return None
    return FoundWeights(backend.name, path.parent, files, origin, known, path.parent.name)


def _weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that transformers would load from a folder; empty when one of them is missing."""
    for name in WHOLE:
        if (folder / name).is_file():
            return (folder / name,)
    for name in INDEXES:
        if (folder / name).is_file():
            try:
                table = json.loads((folder / name).read_text(encoding="utf-8"))["weight_map"]
                parts = tuple(folder / part for part in sorted(set(table.values())))
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                return ()
            return parts if all(part.is_file() for part in parts) else ()
    return ()


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PredictorUnavailable(f"{folder / CONFIG}: cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise PredictorUnavailable(f"{folder / CONFIG}: not a configuration of transformers")
    return config


def _model_type(folder: Path) -> str | None:
    """None when there is no configuration, or not one of transformers."""
    try:
        return str(_read_config(folder)["model_type"])
    except (PredictorUnavailable, KeyError):
        return None


def _names_of(name: str, known: Checkpoint | None) -> list[str]:
    """How a checkpoint may be called inside the folder of weights."""
    names = [name] if known is None else [name, known.hub_name, known.short_name, *([known.file] if known.file else [])]
    return list(dict.fromkeys(names))


def _better(path: Path, refusing: Backend | None) -> str:
    """Who takes what lies there, as the end of a message."""
    if path.is_file() and path.suffix not in SUFFIXES:
        path = path.parent
    kind = _model_type(path)
    for backend in BACKENDS.values():
        if kind in backend.model_types and backend is not refusing:
            return f": use --predictor {backend.name}={path}"
    if kind == "sam2":
        return ": that is the model for single images; the video model's folder says sam2_video"
    if refusing is not None and not refusing.takes_files and path.is_dir() and any(path.glob("*.pt")):
        return f": use --predictor sam2={path}"
    return ""


def _nothing_found(backend: str, environment: Mapping[str, str]) -> str:
    names = [checkpoint.hub_name for checkpoint in checkpoints_of(backend)]
    folder = weights_folder(environment)
    where = f"in {folder} ({FOLDER_VARIABLE})" if folder is not None else f"({FOLDER_VARIABLE} is not set)"
    return (
        f"{backend}: no weights found {where} nor in the Hugging Face cache; give --weights PATH, or put "
        f"{names[min(1, len(names) - 1)]} there (`trackweave models` lists the names); --predictor flow needs none"
    )


VERSION = 1
STAGE = "weights"
BLOB = re.compile(r"[0-9a-f]{64}")
"""The Hugging Face cache names large files after their content."""


@dataclass(frozen=True)
class WeightFile:
    """One weight file as it is now.

    Attributes:
        path: where it really lies.
        size: bytes.
        sha256: of its content, hexadecimal.
    """

    path: Path
    size: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """The record as the manifest holds it."""
        return {"file": str(self.path), "bytes": self.size, "sha256": self.sha256}


@dataclass
class WeightsRecord:
    """What is known of weight files.

    Attributes:
        path: the state file.
        warnings: what was noticed: files that changed, a state file that cannot be used.
    """

    path: Path
    warnings: list[RunWarning] = field(default_factory=list)

    @classmethod
    def of_user(cls, environment: Mapping[str, str] = os.environ) -> WeightsRecord:
        """The record of the user who runs this."""
        home = environment.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
        return cls(Path(home) / "trackweave" / "weights.json")

    def check(self, files: Iterable[Path]) -> list[WeightFile]:
        """Takes the checksums of files and compares them with what is remembered.

        Raises:
            PredictorUnavailable: a file cannot be read, or is not what the Hugging Face cache took it for.
        """
        known = self._read()
        found, before = [], dict(known)
        for file in files:
            one, entry = self._check(file, known.get(str(file.resolve())))
            found.append(one)
            known[str(one.path)] = entry
        if known != before:
            self._write(known)
        return found

    def _check(self, file: Path, entry: Mapping[str, Any] | None) -> tuple[WeightFile, dict[str, Any]]:
        path = file.resolve()
        try:
            status = path.stat()
            stamp = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
            fresh = entry is not None and all(entry.get(key) == value for key, value in stamp.items())
            digest = str(entry["sha256"]) if entry is not None and fresh else _sha256(path)
        except OSError as error:
            raise PredictorUnavailable(f"{file}: cannot be read: {error.strerror or error}") from error
        if BLOB.fullmatch(path.name) and path.name != digest:
            raise PredictorUnavailable(f"{file}: damaged: its content is not what the cache calls it; fetch it again")
        if entry is not None and entry["sha256"] != digest:
            self._warn(
                "weights-changed",
                f"{path}: these weights are not those of earlier runs: sha256 {digest[:12]}… instead of "
                f"{str(entry['sha256'])[:12]}…",
            )
        return WeightFile(path, status.st_size, digest), {**stamp, "sha256": digest}

    def _read(self) -> dict[str, dict[str, Any]]:
        if not self.path.exists():
            return {}
        try:
            content = read_json_object(self.path, "record of weights")
            check_version(content.get("schema_version"), VERSION, self.path)
            files = content["files"]
            return {str(path): dict(entry) for path, entry in files.items() if isinstance(entry["sha256"], str)}
        except (ArtifactError, KeyError, TypeError, ValueError, AttributeError) as error:
            self._warn("weights-record", f"{self.path}: the record of weights cannot be read and begins anew: {error}")
            return {}

    def _write(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        try:
            write_json(self.path, {"schema_version": VERSION, "files": dict(sorted(known.items()))})
        except ArtifactError as error:
            self._warn("weights-record", f"{error}; a later change of the weights will not be noticed")

    def _warn(self, code: str, message: str) -> None:
        self.warnings.append(RunWarning(STAGE, None, code, message))


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
