"""Weights on this machine: where they are, whether a backend can take them, whether they changed since the last run.

They are searched for in the folder that `TRACKWEAVE_WEIGHTS` names, then in the Hugging Face cache; nothing is
downloaded here (see `fetch`), and torch is not needed: names, `config.json` and the headers of weight files are read.

`WeightsRecord` remembers the checksum of every weight file that was used.
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
from typing import Any, BinaryIO, NamedTuple

from trackweave.errors import ArtifactError, PredictorUnavailable, argument, how_to_install, shortened, wording
from trackweave.predictors.catalog import (
    BACKENDS,
    Backend,
    Device,
    PublishedCheckpoint,
    checkpoints_of,
    device_rank,
    find_checkpoint,
)
from trackweave.storage.files import check_version, parse_json, path_inside, read_json_object, write_json
from trackweave.structures.run_log import RunWarning

FOLDER_VARIABLE = "TRACKWEAVE_WEIGHTS"
META_SUFFIXES = (".pt", ".pth")
CONFIG = "config.json"
SHARD_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
SEARCH_DEPTH = 2
"""Levels of folders that are searched below a named one: `OWNER/NAME` is two."""
TIMM_MODEL_TYPE = "timm_wrapper"
"""The type of an image encoder that transformers takes from timm."""
STUB_PREFIXES = (b"version https://git-lfs", b"<!DOCTYPE", b"<html")
"""First bytes of files that are a pointer or an error page instead of weights."""


@dataclass(frozen=True)
class LocalWeights:
    """Weights that a backend can take, as far as names and configuration tell.

    Attributes:
        backend: its name.
        path: a folder with `config.json`, or Meta's `.pt` file.
        files: the weight files.
        origin: where they were found, for people.
        checkpoint: the published checkpoint, when the names identify one.
        revision: commit of the repository in the Hugging Face cache.
    """

    backend: str
    path: Path
    files: tuple[Path, ...]
    origin: str
    checkpoint: PublishedCheckpoint | None = None
    revision: str | None = None

    @property
    def name(self) -> str:
        """The checkpoint's hub name, else the path."""
        return str(self.path) if self.checkpoint is None else self.checkpoint.hub_name


def choose_weights(
    backend: str, request: Path | None, device: Device = "cuda", environment: Mapping[str, str] = os.environ
) -> LocalWeights:
    """The weights that a backend is to load, checked as far as this is possible without loading them.

    Args:
        backend: its name.
        request: a path, a hub name, a checkpoint's short name; None = the best that is found.
        device: kind of device, which decides what is best.
        environment: variables by name.

    Raises:
        PredictorUnavailable: nothing there; of another family; for another image size; cut off or not weights at all.
    """
    candidates = resolve_weights(backend, request, environment) if request else find_weights(backend, environment)
    if not candidates:
        raise PredictorUnavailable(_no_weights_message(backend, environment))
    best = min(candidates, key=lambda weights: device_rank(weights.checkpoint, device))
    check_weights(best)
    return best


def find_weights(backend: str, environment: Mapping[str, str] = os.environ) -> list[LocalWeights]:
    """Weights for a backend, in the order of the search. In the cache only published checkpoints are searched for.

    Raises:
        PredictorUnavailable: `TRACKWEAVE_WEIGHTS` names no folder.
    """
    weights: list[LocalWeights] = []
    folder = weights_folder(environment)
    if folder is not None:
        weights += _weights_below(BACKENDS[backend], folder, FOLDER_VARIABLE)
    for checkpoint in checkpoints_of(backend):
        cached = _cached_weights(BACKENDS[backend], checkpoint.hub_name)
        weights += [cached] if cached is not None else []
    return weights


def resolve_weights(backend: str, request: Path, environment: Mapping[str, str] = os.environ) -> list[LocalWeights]:
    """The weights of a path or a name; several when it is a folder of checkpoints.

    Raises:
        PredictorUnavailable: nothing there, or nothing that the backend takes.
    """
    spec, path = BACKENDS[backend], request.expanduser()
    if path.exists():
        return _weights_at(spec, path, "named")
    name = request.as_posix()
    checkpoint = find_checkpoint(name)
    folder = weights_folder(environment)
    if folder is not None:
        for inside in _names_in_folder(name, checkpoint):
            if (folder / inside).exists():
                return _weights_at(spec, folder / inside, FOLDER_VARIABLE)
    hub_name = checkpoint.hub_name if checkpoint is not None else name
    if checkpoint is not None and backend not in checkpoint.backends:
        others = " or ".join(argument("predictor", other) for other in checkpoint.backends)
        raise PredictorUnavailable(f"{backend} cannot run {hub_name}: use {others}")
    cached = _cached_weights(spec, hub_name)
    if cached is None:
        where = f"{FOLDER_VARIABLE}={folder}" if folder is not None else f"{FOLDER_VARIABLE} (not set)"
        raise PredictorUnavailable(
            f"weights {name}: no such file or folder, and not in {where} or the Hugging Face cache; nothing is "
            f"downloaded: `trackweave models` lists what is there, `trackweave models fetch NAME` fetches some"
        )
    return [cached]


def backend_for(request: Path, environment: Mapping[str, str] = os.environ) -> str:
    """The backend that takes the weights of a path or a name; the first of `BACKENDS` that does.

    Raises:
        PredictorUnavailable: none does; says why the first does not.
    """
    refusals = []
    for name in BACKENDS:
        try:
            resolve_weights(name, request, environment)
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


def check_weights(weights: LocalWeights) -> None:
    """Checks headers and configuration; loading itself then compares every name and shape.

    Raises:
        PredictorUnavailable: a file that is cut off or no weights, sizes that contradict each other, timm missing.
    """
    for file in weights.files:
        _check_file(file)
    if not BACKENDS[weights.backend].takes_files:
        _check_sizes(BACKENDS[weights.backend], weights.path)
        if TIMM_MODEL_TYPE in json.dumps(_read_config(weights.path)) and find_spec("timm") is None:
            raise PredictorUnavailable(
                f"{weights.path}: its image encoder is one of timm's: {how_to_install('edgetam')}"
            )


def _check_file(path: Path) -> None:
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            head = handle.read(64)
            if any(head.startswith(stub) for stub in STUB_PREFIXES):
                raise PredictorUnavailable(f"{path}: is a pointer or a web page, not weights: fetch the file itself")
            if path.suffix == ".safetensors":
                _check_safetensors(path, head, size, handle)
            elif not zipfile.is_zipfile(path):
                raise PredictorUnavailable(f"{path}: not a checkpoint of torch, or cut off: copy it again")
    except OSError as error:
        raise PredictorUnavailable(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_safetensors(path: Path, head: bytes, size: int, handle: BinaryIO) -> None:
    """The format: 8 bytes of length, a JSON table with each tensor's offsets, the tensors."""
    length = int.from_bytes(head[:8], "little")
    if size < 8 or not 2 <= length <= size - 8:
        raise PredictorUnavailable(f"{path}: not a safetensors file, or cut off: copy it again")
    handle.seek(8)
    try:
        table = parse_json(handle.read(length))
        ends = [int(entry["data_offsets"][1]) for name, entry in table.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise PredictorUnavailable(f"{path}: not a safetensors file, or damaged: copy it again") from None
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise PredictorUnavailable(f"{path}: has {size} of {expected} bytes: it was cut off, copy it again")


def _check_sizes(backend: Backend, folder: Path) -> None:
    """Refuses a configuration whose image size was changed in one entry only: it would fail late, inside the model."""
    config = _read_config(folder)
    if backend.name == "sam3-tracker":  # its sizes follow from one number
        return
    size = _square(config.get("image_size", backend.image_size))
    vision = config.get("vision_config") or {}
    backbone_sizes = vision.get("backbone_feature_sizes") if isinstance(vision, dict) else "not an object"
    backbone_sizes = backbone_sizes or [backend.image_size // backend.stride]
    if not isinstance(backbone_sizes, list):
        raise PredictorUnavailable(f"{folder / CONFIG}: vision_config is not a configuration of transformers")
    nominal = backend.image_size // backend.stride
    feature_sizes = {
        "memory_attention_rope_feat_sizes": config.get("memory_attention_rope_feat_sizes", nominal),
        "vision_config.backbone_feature_sizes": backbone_sizes[-1],
    }
    for name, side in feature_sizes.items():
        if size is None or _square(side) != size // backend.stride:
            expected = "one side" if size is None else f"{size // backend.stride} places a side"
            raise PredictorUnavailable(
                f"{folder / CONFIG}: weights for another image size: image_size {config.get('image_size')} goes with "
                f"{expected}, but {name} is {side}"
            )


def _square(value: Any) -> int | None:
    """The side of a square that is given as one number or as two."""
    sides = value if isinstance(value, list) else [value]
    return sides[0] if sides and all(isinstance(side, int) and side == sides[0] > 0 for side in sides) else None


# --- search -----------------------------------------------------------------------------------------------------------


def _weights_at(backend: Backend, path: Path, origin: str) -> list[LocalWeights]:
    """The weights in a file or folder that a person named.

    Raises:
        PredictorUnavailable: nothing that the backend takes; says what it is instead.
    """
    if backend.takes_files:
        return _meta_weights_at(backend, path, origin)
    if path.is_file():
        if path.suffix in META_SUFFIXES:
            hint = f"use {argument('predictor', f'sam2={path}')}, or a folder with {CONFIG} and model.safetensors"
            raise PredictorUnavailable(f"{path}: is a file of Meta's package: {hint}")
        path = path.parent
    if (path / CONFIG).is_file():
        return [_from_folder(backend, path, origin)]
    weights = list(_weights_below(backend, path, origin))
    if not weights:
        raise PredictorUnavailable(f"{path}: has no {CONFIG} that {backend.name} takes{_alternative(path, backend)}")
    return weights


def _meta_weights_at(backend: Backend, path: Path, origin: str) -> list[LocalWeights]:
    """The same for Meta's package: files of published names, or the only file of a folder whatever its name."""
    weights = [_from_file(path, origin)] if path.is_file() else list(_weights_below(backend, path, origin))
    if weights:
        return weights
    files = sorted(file for suffix in META_SUFFIXES for file in path.glob(f"*{suffix}")) if path.is_dir() else []
    if len(files) == 1:
        return [_from_file(files[0], origin)]
    if files:
        names = ", ".join(file.name for file in files[:3])
        raise PredictorUnavailable(
            f"{path}: holds several checkpoints ({names} …): name one with {argument('weights')}"
        )
    raise PredictorUnavailable(f"{path}: has no checkpoint of Meta's package (.pt){_alternative(path, backend)}")


def _weights_below(backend: Backend, folder: Path, origin: str) -> Iterator[LocalWeights]:
    """Everything in a folder that the backend takes and that has a known configuration; the rest is ignored."""
    for inside in [folder, *_folders_below(folder, SEARCH_DEPTH)]:
        if backend.takes_files:
            names = [checkpoint.file for checkpoint in checkpoints_of(backend.name)]
            yield from (_from_file(inside / name, origin) for name in names if name and (inside / name).is_file())
        elif _model_type(inside) in backend.model_types and _weight_files(inside):
            yield _from_folder(backend, inside, origin)


def _folders_below(folder: Path, depth: int) -> Iterator[Path]:
    if depth == 0:
        return
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:  # no permission
        return
    for path in inside:
        yield path
        yield from _folders_below(path, depth - 1)


def _from_file(path: Path, origin: str) -> LocalWeights:
    if path.suffix not in META_SUFFIXES:
        raise PredictorUnavailable(f"{path}: sam2 takes a checkpoint of Meta's package (.pt){_alternative(path, None)}")
    return LocalWeights("sam2", path, (path,), origin, find_checkpoint(path.name))


def _from_folder(backend: Backend, folder: Path, origin: str) -> LocalWeights:
    model_type = _model_type(folder)
    if model_type not in backend.model_types:
        raise PredictorUnavailable(
            f"{folder}: its {CONFIG} says model_type {shortened(model_type, 40)}, but {backend.name} takes "
            f"{' or '.join(backend.model_types)}{_alternative(folder, backend)}"
        )
    files = _weight_files(folder)
    if not files:
        raise PredictorUnavailable(
            f"{folder}: has a {CONFIG} but no weights ({SINGLE_FILES[0]}): copy the whole folder"
        )
    checkpoint = find_checkpoint(f"{folder.parent.name}/{folder.name}") or find_checkpoint(folder.name)
    return LocalWeights(backend.name, folder, files, origin, checkpoint)


def _cached_weights(backend: Backend, hub_name: str) -> LocalWeights | None:
    """A repository of the Hugging Face cache: at the commit that is pinned, else at `main`, else the only one there."""
    try:
        from huggingface_hub import constants, try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    checkpoint = find_checkpoint(hub_name)
    name = CONFIG if not backend.takes_files else checkpoint.file if checkpoint is not None else None
    if name is None:
        return None
    cache = constants.HF_HUB_CACHE
    snapshots = Path(cache) / f"models--{hub_name.replace('/', '--')}" / "snapshots"
    only = [path.name for path in snapshots.glob("*")] if snapshots.is_dir() else []
    pinned = None if checkpoint is None else checkpoint.revision
    revisions = [*([pinned] if pinned else []), "main", *(only if len(only) == 1 else [])]
    try:
        found = (try_to_load_from_cache(hub_name, name, cache_dir=cache, revision=one) for one in revisions)
        cached = next((one for one in found if isinstance(one, str)), None)
    except HFValidationError:  # a path that is not there cannot be a hub name either
        return None
    if cached is None:
        return None
    path = Path(cached)
    origin = "Hugging Face cache"
    if backend.takes_files:
        return LocalWeights(backend.name, path, (path,), origin, checkpoint, path.parent.name)
    files = _weight_files(path.parent)
    if not files or _model_type(path.parent) not in backend.model_types:
        return None
    return LocalWeights(backend.name, path.parent, files, origin, checkpoint, path.parent.name)


def _weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that transformers would load from a folder; empty when one of them is missing."""
    for name in SINGLE_FILES:
        if (folder / name).is_file():
            return (folder / name,)
    for name in SHARD_INDEXES:
        if (folder / name).is_file():
            try:
                table = parse_json((folder / name).read_text(encoding="utf-8"))["weight_map"]
                parts = tuple(path_inside(folder, part, f"{folder / name}:") for part in sorted(set(table.values())))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, ArtifactError):
                return ()
            return parts if all(part.is_file() for part in parts) else ()
    return ()


def _read_config(folder: Path) -> dict[str, object]:
    try:
        config = parse_json((folder / CONFIG).read_text(encoding="utf-8"))
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


def _names_in_folder(name: str, checkpoint: PublishedCheckpoint | None) -> list[str]:
    """Names that a checkpoint may have inside the folder of weights."""
    if checkpoint is None:
        return [name]
    names = [name, checkpoint.hub_name, checkpoint.short_name, *([checkpoint.file] if checkpoint.file else [])]
    return list(dict.fromkeys(names))


def _alternative(path: Path, refusing: Backend | None) -> str:
    """The end of a message: the backend that takes the weights at a path, if there is one."""
    if path.is_file() and path.suffix not in META_SUFFIXES:
        path = path.parent
    model_type = _model_type(path)
    for backend in BACKENDS.values():
        if model_type in backend.model_types and backend is not refusing:
            return f": use {argument('predictor', f'{backend.name}={path}')}"
    if model_type == "sam2":
        return ": that is the model for single images; the video model's folder says sam2_video"
    if refusing is not None and not refusing.takes_files and path.is_dir() and any(path.glob("*.pt")):
        return f": use {argument('predictor', f'sam2={path}')}"
    return ""


def _no_weights_message(backend: str, environment: Mapping[str, str]) -> str:
    names = [checkpoint.hub_name for checkpoint in checkpoints_of(backend)]
    folder = weights_folder(environment)
    where = f"in {folder} ({FOLDER_VARIABLE})" if folder is not None else f"({FOLDER_VARIABLE} is not set)"
    give, flow = wording("weights=PATH", "--weights PATH"), argument("predictor", "flow")
    return (
        f"{backend}: no weights found {where} nor in the Hugging Face cache; give {give}, or put "
        f"{names[min(1, len(names) - 1)]} there (`trackweave models` lists the names); {flow} needs none"
    )


# --- checksums --------------------------------------------------------------------------------------------------------

RECORD_VERSION = 1
BLOB_NAME = re.compile(r"[0-9a-f]{64}")
"""The Hugging Face cache names large files after the SHA-256 of their content."""


@dataclass(frozen=True)
class WeightFile:
    """One weight file as it is now.

    Attributes:
        path: its path, symbolic links resolved.
        size: bytes.
        sha256: of its content, hexadecimal.
    """

    path: Path
    size: int
    sha256: str

    def to_json(self) -> dict[str, object]:
        """The form in the manifest."""
        return {"file": str(self.path), "bytes": self.size, "sha256": self.sha256}


class _Checksum(NamedTuple):
    """The checksum of a file, and the size and time of change that it had then."""

    size: int
    mtime_ns: int
    sha256: str


@dataclass
class WeightsRecord:
    """Checksums of weight files that were used, by path, in a file: `weights.json` in the user's state folder.

    A file of the same size and time of change is not read again.

    Attributes:
        path: the state file.
        warnings: files that changed, a state file that cannot be read or written.
    """

    path: Path
    warnings: list[RunWarning] = field(default_factory=list)

    @classmethod
    def of_user(cls, environment: Mapping[str, str] = os.environ) -> WeightsRecord:
        """The record of the current user, in `XDG_STATE_HOME` or `~/.local/state`."""
        home = environment.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
        return cls(Path(home) / "trackweave" / "weights.json")

    def check(self, files: Iterable[Path]) -> list[WeightFile]:
        """Takes the checksums of files and compares them with the recorded ones.

        Raises:
            PredictorUnavailable: a file cannot be read, or its content is not what the cache named it after.
        """
        recorded = self._read()
        checked, before = [], dict(recorded)
        for file in files:
            path = file.resolve()
            checksum = self._checksum(file, path, recorded.get(str(path)))
            recorded[str(path)] = checksum
            checked.append(WeightFile(path, checksum.size, checksum.sha256))
        if recorded != before:
            self._write(recorded)
        return checked

    def _checksum(self, file: Path, path: Path, recorded: _Checksum | None) -> _Checksum:
        """Of a file, given as `file`, that lies at `path`; read only when its size or time of change is new."""
        try:
            status = path.stat()
            is_unchanged = recorded is not None and recorded[:2] == (status.st_size, status.st_mtime_ns)
            digest = recorded.sha256 if recorded is not None and is_unchanged else _sha256(path)
        except OSError as error:
            raise PredictorUnavailable(f"{file}: cannot be read: {error.strerror or error}") from error
        if BLOB_NAME.fullmatch(path.name) and path.name != digest:
            raise PredictorUnavailable(f"{file}: damaged: its content is not what the cache calls it; fetch it again")
        if recorded is not None and recorded.sha256 != digest:
            self._warn(
                "weights-changed",
                f"{path}: these weights are not those of earlier runs: sha256 {digest[:12]}… instead of "
                f"{recorded.sha256[:12]}…",
            )
        return _Checksum(status.st_size, status.st_mtime_ns, digest)

    def _read(self) -> dict[str, _Checksum]:
        if not self.path.exists():
            return {}
        try:
            content = read_json_object(self.path, "record of weights")
            check_version(content.get("schema_version"), RECORD_VERSION, self.path)
            return {
                str(path): _Checksum(entry.get("bytes"), entry.get("mtime_ns"), entry["sha256"])
                for path, entry in content["files"].items()
                if isinstance(entry["sha256"], str)
            }
        except (ArtifactError, KeyError, TypeError, ValueError, AttributeError) as error:
            self._warn("weights-record", f"{self.path}: the record of weights cannot be read and begins anew: {error}")
            return {}

    def _write(self, recorded: Mapping[str, _Checksum]) -> None:
        files = {
            path: {"bytes": checksum.size, "mtime_ns": checksum.mtime_ns, "sha256": checksum.sha256}
            for path, checksum in sorted(recorded.items())
        }
        try:
            write_json(self.path, {"schema_version": RECORD_VERSION, "files": files})
        except ArtifactError as error:
            self._warn("weights-record", f"{error}; a later change of the weights will not be noticed")

    def _warn(self, code: str, message: str) -> None:
        self.warnings.append(RunWarning("weights", None, code, message))


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
