"""`Embedder`: an appearance embedding per detection, and `OnnxEmbedder`: a re-identification network in ONNX form."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.descriptor import pixel_boxes, unit_rows
from trackweave.detectors.onnx_session import NUMPY_DTYPES, OnnxModel, TensorInfo, check_input_size
from trackweave.detectors.settings import IMAGENET
from trackweave.errors import InputError, SettingError
from trackweave.masks.packed import PackedMasks


class Embedder(Protocol):
    """Embeds boxes of a frame as vectors whose cosine similarity is high for the same object."""

    @property
    def name(self) -> str:
        """The name in a run's manifest."""
        ...

    @property
    def width(self) -> int:
        """E, the length of the vectors; it never changes."""
        ...

    def embed(
        self, image: NDArray[np.uint8], xyxy: NDArray[np.float32], masks: PackedMasks | None = None
    ) -> NDArray[np.float32]:
        """Embeds N boxes of a frame.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            xyxy: `(N, 4)` float32, pixels, right and bottom exclusive.
            masks: N masks of the frame, or None.

        Returns:
            `(N, E)` float32 of length 1; a row of zeros for a box without a pixel inside the frame.
        """
        ...


def make_embedder(name: str | Path) -> Embedder | None:
    """The embedder of a name.

    Args:
        name: `none`; `layout` for the built-in `LayoutDescriptor`, without weights; or the path of an ONNX model.

    Returns:
        None for `none`: `Detections.embedding` then stays None.

    >>> make_embedder("none") is None, make_embedder("layout").width
    (True, 192)

    Raises:
        SettingError: none of these.
        InputError: a model that cannot be used.
    """
    if str(name) == "none":
        return None
    if str(name) == "layout":
        from trackweave.detectors.descriptor import LayoutDescriptor

        return LayoutDescriptor()
    if Path(name).suffix.lower() != ".onnx":
        raise SettingError(f"embedder {str(name)!r}: give none, layout, or the path of a model ending in .onnx")

    return OnnxEmbedder(name)


PERSON_SIZE = (256, 128)
"""Height and width that most re-identification networks are trained at; used where the model leaves them open."""

FLOATS = ("tensor(float)", "tensor(float16)")


class OnnxEmbedder:
    """Any ONNX network from one NCHW image input to one `(N, E)` output, run on the processor in batches.

    Crops are the boxes' pixels inside the frame, stretched to the input's size, as such networks are trained; masks
    are not used. A model with a fixed batch gets full batches (the last one padded), one with an open batch up to
    `batch_size` crops.

    Args:
        path: the model.
        batch_size: crops per run where the model leaves it open.
        input_size: `(H, W)` in pixels where the model leaves it open; 256×128 when not given.
        mean: per RGB channel, of pixels in [0, 1].
        std: per RGB channel, of pixels in [0, 1].
        threads: of one operation; None = at most four.

    Attributes:
        name: `onnx:` and the file's stem.
        width: E, as a trial run gives it.

    Raises:
        InputError: missing, not an ONNX model, or one of another form; the message lists the inputs and outputs found.
    """

    def __init__(
        self,
        path: str | Path,
        batch_size: int = 16,
        *,
        input_size: tuple[int, int] | None = None,
        mean: tuple[float, float, float] = IMAGENET.mean,
        std: tuple[float, float, float] = IMAGENET.std,
        threads: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.name = f"onnx:{self.path.stem}"
        self._model = OnnxModel(self.path, threads=threads)
        self._input = _image_input(self._model)
        batch, _, height, width = self._input.shape
        self._batch_size = batch or max(1, batch_size)
        self._batch_is_fixed = batch is not None
        open_size = input_size or PERSON_SIZE
        self._size = (height or open_size[0], width or open_size[1])
        check_input_size(self.path, self._input, (self._batch_size, *self._size))
        self._mean = 255 * np.array(mean, np.float32)
        self._inverse_std = 1 / (255 * np.array(std, np.float32))
        self._output = _vector_output(self._model)
        self.width = int(self._run(np.zeros((1, *self._size, 3), np.float32)).shape[1])

    def embed(
        self, image: NDArray[np.uint8], xyxy: NDArray[np.float32], masks: PackedMasks | None = None
    ) -> NDArray[np.float32]:
        """Embeds N boxes of a frame.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            xyxy: `(N, 4)` float32, pixels, right and bottom exclusive; may reach outside the frame.
            masks: not used.

        Returns:
            `(N, E)` float32 of length 1; zeros for a box without a pixel inside the frame.

        Raises:
            InputError: the model fails on these crops, or its outputs are not finite.
        """
        pixels = pixel_boxes(xyxy, image.shape[0], image.shape[1])
        rows = np.zeros((len(pixels), self.width), np.float32)
        inside = np.flatnonzero(pixels[:, 2] > pixels[:, 0])
        for start in range(0, len(inside), self._batch_size):
            batch = inside[start : start + self._batch_size]
            rows[batch] = self._run(np.stack([self._crop(image, pixels[n]) for n in batch]))
        if not np.isfinite(rows).all():
            raise InputError(
                f"{self.path}: the model gives numbers that are not finite: is it whole, are mean and std?"
            )
        return unit_rows(rows)

    def _crop(self, image: NDArray[np.uint8], box: NDArray[np.int64]) -> NDArray[np.float32]:
        left, top, right, bottom = (int(v) for v in box)
        height, width = self._size
        crop = cv2.resize(image[top:bottom, left:right], (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray((crop - self._mean) * self._inverse_std, np.float32)

    def _run(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        """`(n, H, W, 3)` normalised crops, at most a batch → `(n, E)`."""
        n = len(crops)
        if self._batch_is_fixed and n < self._batch_size:
            crops = np.concatenate([crops, np.zeros((self._batch_size - n, *crops.shape[1:]), np.float32)])
        batch: NDArray[Any] = np.ascontiguousarray(crops.transpose(0, 3, 1, 2)).astype(
            NUMPY_DTYPES[self._input.dtype], copy=False
        )
        vectors = np.asarray(self._model.run({self._input.name: batch})[self._output], np.float32)
        if vectors.ndim < 2 or len(vectors) != len(batch) or vectors.size != len(batch) * vectors.shape[1]:
            raise InputError(
                f"{self.path}: output {self._output!r} is {vectors.shape} for {len(batch)} crops, expected one vector "
                "per crop; is it a re-identification model?"
            )
        return vectors.reshape(len(batch), -1)[:n]


def _image_input(model: OnnxModel) -> TensorInfo:
    """The model's input; it has to be the only one, NCHW with three channels."""
    image = model.inputs[0] if len(model.inputs) == 1 else None
    if image is None or len(image.shape) != 4 or image.shape[1] not in (3, None) or image.dtype not in FLOATS:
        raise InputError(f"{model.path}: expected one image input (N, 3, H, W) of floats, found {model.describe()}")
    return image


def _vector_output(model: OnnxModel) -> str:
    """Name of the output with one vector per crop; it has to be the only one."""
    vectors = [output.name for output in model.outputs if _is_vector(output.shape)]
    if len(vectors) != 1:
        raise InputError(f"{model.path}: expected one output (N, E), found {model.describe()}")
    return vectors[0]


def _is_vector(shape: tuple[int | None, ...]) -> bool:
    """`(N, E)`, or `(N, E, 1, 1)` of a network that ends in pooling."""
    return len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1))
