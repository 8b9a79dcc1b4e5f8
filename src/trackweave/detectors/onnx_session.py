"""One ONNX model in onnxruntime, opened and run with errors that a person can use."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, SettingError

DTYPES: dict[str, type] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
THREADS = 4


@dataclass(frozen=True)
class Tensor:
    """An input or output that a model declares.

    Attributes:
        name: of the tensor.
        shape: sizes; None where the model leaves an axis open.
        dtype: in onnxruntime's words, such as `tensor(float)`.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        sides = ", ".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.name} ({sides}) {self.dtype.removeprefix('tensor(').rstrip(')')}"


class OnnxModel:
    """A session with its declared inputs, outputs and metadata.

    Args:
        path: the `.onnx` file.
        providers: onnxruntime's names in order of preference; `auto` = CUDA when onnxruntime has it, else the
            processor; None = the processor.
        threads: of one operation; None = at most four. More help little with detectors and starve everybody else.

    Raises:
        InputError: missing or not an ONNX model.
        SettingError: a provider that this onnxruntime does not have.
    """

    def __init__(
        self, path: Path | str, providers: Sequence[str] | str | None = None, threads: int | None = None
    ) -> None:
        self.path = Path(path)
        self._session = _open(self.path, providers, threads)
        self.inputs = tuple(_tensor(entry) for entry in self._session.get_inputs())
        self.outputs = tuple(_tensor(entry) for entry in self._session.get_outputs())
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name, half precision as float32.

        Raises:
            InputError: the model fails, or is closed.
        """
        if self._session is None:
            raise InputError(f"{self.path}: the model is closed")
        try:
            values = self._session.run(None, dict(feed))
        except Exception as error:
            shapes = ", ".join(f"{name} {value.shape}" for name, value in feed.items())
            raise InputError(f"{self.path}: the model fails on {shapes}: {first_line(error)}") from error
        arrays = {tensor.name: np.asarray(value) for tensor, value in zip(self.outputs, values, strict=True)}
        return {name: a.astype(np.float32) if a.dtype == np.float16 else a for name, a in arrays.items()}

    def close(self) -> None:
        """Frees the session."""
        self._session = None

    def describe(self) -> str:
        """Inputs and outputs in one line."""
        inputs, outputs = (", ".join(map(str, tensors)) for tensors in (self.inputs, self.outputs))
        return f"inputs {inputs or 'none'}; outputs {outputs or 'none'}"

    def literal(self, key: str) -> Any:
        """Metadata that is written as a Python literal, as Ultralytics does; None when absent or something else."""
        try:
            return ast.literal_eval(self.metadata[key])
        except (KeyError, ValueError, SyntaxError, MemoryError, RecursionError):
            return None


def _open(path: Path, providers: Sequence[str] | str | None, threads: int | None) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: there is no such ONNX model")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or min(THREADS, os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the tracker the core
    options.log_severity_level = 3  # its warnings would go past ours, straight to stderr
    chosen = _providers(onnxruntime.get_available_providers(), providers)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=chosen)
    except Exception as error:
        raise InputError(f"{path}: cannot be opened as an ONNX model, is it whole? {first_line(error)}") from error


def _providers(available: Sequence[str], asked: Sequence[str] | str | None) -> list[str]:
    if asked is None:
        return [CPU]
    if asked == "auto":
        return [CUDA, CPU] if CUDA in available else [CPU]
    wanted = [asked] if isinstance(asked, str) else list(asked)
    unknown = [name for name in wanted if name not in available]
    if unknown:
        raise SettingError(f"onnxruntime has no provider {unknown[0]!r}; it has: {', '.join(available)}")
    return wanted


def _tensor(entry: Any) -> Tensor:
    return Tensor(entry.name, tuple(side if isinstance(side, int) else None for side in entry.shape), entry.type)


def first_line(error: Exception) -> str:
    """What an exception says, in one line."""
    return str(error).strip().split("\n")[0][:300]
