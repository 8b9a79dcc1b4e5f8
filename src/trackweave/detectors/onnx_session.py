"""One ONNX model in onnxruntime (`OnnxModel`), its image input (`ImageInput`), and the mapping between frames and that
input (`fit`, `Placement`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import clip_boxes
from trackweave.detectors.onnx_decoding import literal
from trackweave.detectors.settings import PixelRule, Resize
from trackweave.errors import InputError, SettingError, listed, shortened_line

NUMPY_DTYPES: dict[str, type] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
MAX_THREADS = 4
LONGEST_NAME, LONGEST_TENSOR = 60, 250
"""Characters of a tensor's name, and of what is said about a tensor, that a message holds."""
MAX_INPUT_BYTES = 2**30
"""The largest input that is made for a model: some 9000×9000 pixels of three floats."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or output that a model declares.

    Attributes:
        name: of the tensor.
        shape: sizes; None where the model leaves an axis open.
        dtype: onnxruntime's name, such as `tensor(float)`.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        sides = ", ".join("?" if side is None else str(side) for side in self.shape)
        return f"{shortened_line(self.name, LONGEST_NAME)} ({sides}) {self.dtype.removeprefix('tensor(').rstrip(')')}"


class OnnxModel:
    """A session with its declared inputs, outputs and metadata.

    Args:
        path: the `.onnx` file.
        providers: onnxruntime's names in order of preference; `auto` = CUDA when onnxruntime has it, else the
            processor; None = the processor.
        threads: of one operation; None = at most four. More help little with detectors and slow down everything else.

    Raises:
        InputError: missing, not an ONNX model, or one whose metadata are not UTF-8.
        SettingError: a provider that this onnxruntime does not have.
    """

    def __init__(
        self, path: Path | str, providers: Sequence[str] | str | None = None, threads: int | None = None
    ) -> None:
        self.path = Path(path)
        self._session = _open(self.path, providers, threads)
        try:
            self.inputs = tuple(_tensor(entry) for entry in self._session.get_inputs())
            self.outputs = tuple(_tensor(entry) for entry in self._session.get_outputs())
            self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.path}: its metadata or names of tensors are not UTF-8 text ({error.reason}): the file is "
                "damaged, or whoever wrote its metadata used another encoding; export it again"
            ) from None

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
            raise InputError(f"{self.path}: the model fails on {shapes}: {shortened_line(str(error), 300)}") from error
        arrays: dict[str, NDArray[Any]] = {}
        for tensor, value in zip(self.outputs, values, strict=True):
            if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":  # text, sequences, maps
                raise InputError(f"{self.path}: output {tensor.name} is {tensor.dtype}, not a tensor of numbers")
            arrays[tensor.name] = value
        return {name: a.astype(np.float32) if a.dtype == np.float16 else a for name, a in arrays.items()}

    def close(self) -> None:
        """Frees the session."""
        self._session = None

    def describe(self) -> str:
        """Inputs and outputs in one line."""
        inputs, outputs = (listed(tensors, length=LONGEST_TENSOR) for tensors in (self.inputs, self.outputs))
        return f"inputs {inputs}; outputs {outputs}"


def _open(path: Path, providers: Sequence[str] | str | None, threads: int | None) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: there is no such ONNX model")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or min(MAX_THREADS, os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "0"
    )  # idle threads must not hold a core that the tracker needs
    options.log_severity_level = 3  # errors only: its warnings go straight to stderr
    chosen = _providers(onnxruntime.get_available_providers(), providers)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=chosen)
    except Exception as error:
        raise InputError(
            f"{path}: cannot be opened as an ONNX model, is it whole? {shortened_line(str(error), 300)}"
        ) from error


def _providers(available: Sequence[str], request: Sequence[str] | str | None) -> list[str]:
    if request is None:
        return [CPU]
    if request == "auto":
        return [CUDA, CPU] if CUDA in available else [CPU]
    providers = [request] if isinstance(request, str) else list(request)
    unknown = [name for name in providers if name not in available]
    if unknown:
        raise SettingError(f"onnxruntime has no provider {unknown[0]!r}; it has: {', '.join(available)}")
    return providers


def _tensor(entry: Any) -> TensorInfo:
    return TensorInfo(entry.name, tuple(side if isinstance(side, int) else None for side in entry.shape), entry.type)


def described(outputs: Mapping[str, NDArray[Any]]) -> str:
    """Names, shapes and types of outputs."""
    texts = (f"{shortened_line(name, LONGEST_NAME)} {array.shape} {array.dtype}" for name, array in outputs.items())
    return listed(texts, length=LONGEST_TENSOR)


@dataclass(frozen=True)
class ImageInput:
    """The input of a model that takes the image.

    Attributes:
        name: of the input.
        dtype: float32, float16 or uint8; uint8 pixels are not normalised.
        channels_last: `(N, H, W, 3)` instead of `(N, 3, H, W)`.
        batch: images per run when the model fixes it, else None.
        size: `(H, W)`.
    """

    name: str
    dtype: type
    channels_last: bool
    batch: int | None
    size: tuple[int, int]

    def blob(self, images: list[NDArray[np.uint8]], rule: PixelRule) -> NDArray[Any]:
        """Images of `size`, `(H, W, 3)` uint8 RGB → the input's tensor; missing images of a fixed batch are zero."""
        count = len(images) if self.batch is None else self.batch
        shape = (count, *self.size, 3) if self.channels_last else (count, 3, *self.size)
        blob: NDArray[Any] = np.zeros(shape, self.dtype)
        planes = blob.transpose(0, 3, 1, 2) if self.channels_last else blob
        for out, image in zip(planes, images, strict=False):
            for channel, plane in enumerate(cv2.split(image)):
                target = out[2 - channel if rule.bgr else channel]
                self._fill(target, np.asarray(plane, np.uint8), rule.mean[channel], rule.std[channel])
        return blob

    def _fill(self, out: NDArray[Any], plane: NDArray[np.uint8], mean: float, std: float) -> None:
        if self.dtype is np.uint8:
            out[:] = plane
            return
        values = np.multiply(plane, np.float32(1 / (255 * std)), dtype=np.float32)
        if mean:
            values -= np.float32(mean / std)
        out[:] = values


def image_input(model: OnnxModel, size: int | tuple[int, int] | None) -> ImageInput:
    """The image input of a model.

    Args:
        model: the model.
        size: `(H, W)`, or one side of a square, where the model leaves it open. None: its metadata's `imgsz`, else
            640×640.

    Raises:
        InputError: no input, or several, that could be an image; or a size that the model does not take.
    """
    images = [(tensor, last) for tensor in model.inputs if (last := _channels_last(tensor)) is not None]
    if len(images) != 1:
        raise InputError(
            f"{model.path}: one image input, (N, 3, H, W) or (N, H, W, 3) of float or uint8, is expected; "
            f"found {model.describe()}"
        )
    tensor, last = images[0]
    height, width = tensor.shape[1:3] if last else tensor.shape[2:4]
    requested = _size(size) or _size(literal(model.metadata.get("imgsz"))) or (640, 640)
    actual = (requested[0] if height is None else height, requested[1] if width is None else width)
    if size is not None and actual != _size(size):
        raise InputError(f"{model.path}: takes images of {actual[0]}×{actual[1]} only, not {size}")
    check_input_size(model.path, tensor, (1 if tensor.shape[0] is None else tensor.shape[0], *actual))
    return ImageInput(tensor.name, NUMPY_DTYPES[tensor.dtype], last, tensor.shape[0], actual)


def check_input_size(path: Path, tensor: TensorInfo, sides: tuple[int, int, int]) -> None:
    """Refuses images that nobody means, before memory is taken for them.

    Args:
        path: of the model, for the message.
        tensor: the image input.
        sides: images per run, H, W.

    Raises:
        InputError: a side below 1, or an input of more than `MAX_INPUT_BYTES`.
    """
    batch, height, width = sides
    size = batch * height * width * 3 * np.dtype(NUMPY_DTYPES[tensor.dtype]).itemsize
    if min(sides) < 1 or size > MAX_INPUT_BYTES:
        raise InputError(
            f"{path}: input {tensor} would be {batch} image(s) of {height}×{width}, {size / 2**30:.3g} GiB; 1×1 to "
            f"{MAX_INPUT_BYTES // 2**30} GiB can be fed: is the file damaged, or its imgsz or input_size wrong?"
        )


def _channels_last(tensor: TensorInfo) -> bool | None:
    """False for NCHW, True for NHWC, None for a tensor that is no image."""
    shape = tensor.shape
    if len(shape) != 4 or tensor.dtype not in ("tensor(float)", "tensor(float16)", "tensor(uint8)"):
        return None
    if shape[1] == 3 or (shape[1] is None and shape[3] != 3):
        return False
    return True if shape[3] == 3 else None


def _size(value: object) -> tuple[int, int] | None:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value, value
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(v, int) and v > 0 for v in value):
        return value[0], value[1]
    return None


PADDING_GREY = 114
"""Grey value that models of the YOLO family are trained to be padded with."""


@dataclass(frozen=True)
class Placement:
    """The position of a frame in the model's input: `input = frame · scale + offset`, per axis.

    Attributes:
        scale: `(x, y)`, input pixels per frame pixel, after rounding to whole pixels.
        offset: `(x, y)` input pixels of padding before the frame.
        size: `(H, W)` of the frame.
    """

    scale: tuple[float, float]
    offset: tuple[int, int]
    size: tuple[int, int]

    def to_frame(self, xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """`(N, 4)` xyxy of the input → `(N, 4)` float32 xyxy of the frame, clipped to it."""
        boxes = (xyxy - np.array(self.offset * 2, np.float64)) / np.array(self.scale * 2, np.float64)
        return clip_boxes(boxes, *self.size)


def fit(image: NDArray[np.uint8], size: tuple[int, int], resize: Resize) -> tuple[NDArray[np.uint8], Placement]:
    """Resizes a frame to a model's input.

    Args:
        image: `(H, W, 3)` uint8.
        size: `(H, W)` of the input.
        resize: keeps the aspect and pads with grey, or stretches.

    Returns:
        `(*size, 3)` uint8, and the position of the frame in it.
    """
    (height, width), (frame_height, frame_width) = size, image.shape[:2]
    ratio = min(height / frame_height, width / frame_width)
    inner_height, inner_width = (max(1, round(side * ratio)) for side in (frame_height, frame_width))
    if resize == "stretch":
        inner_height, inner_width = height, width
    top, left = ((height - inner_height) // 2, (width - inner_width) // 2) if resize == "letterbox" else (0, 0)
    placement = Placement(
        (inner_width / frame_width, inner_height / frame_height), (left, top), (frame_height, frame_width)
    )
    inner: NDArray[np.uint8] = image
    if (inner_height, inner_width) != (frame_height, frame_width):
        inner = np.asarray(cv2.resize(image, (inner_width, inner_height), interpolation=cv2.INTER_LINEAR), np.uint8)
    if (inner_height, inner_width) == (height, width):
        return inner, placement
    padded = np.full((height, width, 3), PADDING_GREY, np.uint8)
    padded[top : top + inner_height, left : left + inner_width] = inner
    return padded, placement
