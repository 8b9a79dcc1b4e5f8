"""How a model wants its pixels: layout, order of colours, normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.onnx_session import DTYPES, OnnxModel, Tensor
from trackweave.errors import InputError


@dataclass(frozen=True)
class PixelRule:
    """`(pixel / 255 − mean) / std` per channel.

    Attributes:
        mean: of red, green, blue, for pixels in [0, 1].
        std: the same.
        bgr: whether blue comes first.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bgr: bool = False


UNIT = PixelRule()
IMAGENET = PixelRule((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
RAW_BGR = PixelRule(std=(1 / 255, 1 / 255, 1 / 255), bgr=True)


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
    found = [(tensor, last) for tensor in model.inputs if (last := _channels_last(tensor)) is not None]
    if len(found) != 1:
        raise InputError(
            f"{model.path}: one image input, (N, 3, H, W) or (N, H, W, 3) of float or uint8, is expected; "
            f"found {model.describe()}"
        )
    tensor, last = found[0]
    height, width = tensor.shape[1:3] if last else tensor.shape[2:4]
    wanted = _size(size) or _size(model.literal("imgsz")) or (640, 640)
    actual = (wanted[0] if height is None else height, wanted[1] if width is None else width)
    if size is not None and actual != _size(size):
        raise InputError(f"{model.path}: takes images of {actual[0]}×{actual[1]} only, not {size}")
    return ImageInput(tensor.name, DTYPES[tensor.dtype], last, tensor.shape[0], actual)


def _channels_last(tensor: Tensor) -> bool | None:
    """False for NCHW, True for NHWC, None for what is no image."""
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
