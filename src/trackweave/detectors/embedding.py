"""`Embedder`: an appearance vector per detection, so that a tracker knows an object again."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import SettingError
from trackweave.masks.packed import PackedMasks


class Embedder(Protocol):
    """Turns boxes of a frame into vectors whose cosine is high for the same object."""

    @property
    def name(self) -> str:
        """What to write into a run's manifest."""
        ...

    @property
    def width(self) -> int:
        """E, numbers per vector; the same for the embedder's whole life."""
        ...

    def embed(
        self, image: NDArray[np.uint8], xyxy: NDArray[np.float32], masks: PackedMasks | None = None
    ) -> NDArray[np.float32]:
        """Describes N boxes of a frame.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            xyxy: `(N, 4)` float32, pixels, right and bottom exclusive.
            masks: N masks of the frame, or None.

        Returns:
            `(N, E)` float32 of length 1; a row of zeros for a box without a pixel inside the frame.
        """
        ...


def make_embedder(name: str | Path) -> Embedder | None:
    """The embedder that a setting names.

    Args:
        name: `none`; `layout` for the built-in descriptor without weights; or the path of an ONNX model.

    Returns:
        None for `none`: `Detections.embedding` then stays None.

    >>> make_embedder("none") is None, make_embedder("layout").width
    (True, 192)

    Raises:
        SettingError: neither of these.
        InputError: a model that cannot be used.
    """
    if str(name) == "none":
        return None
    if str(name) == "layout":
        from trackweave.detectors.embedding_descriptor import LayoutDescriptor

        return LayoutDescriptor()
    if Path(name).suffix.lower() != ".onnx":
        raise SettingError(f"embedder {str(name)!r}: give none, layout, or the path of a model ending in .onnx")
    from trackweave.detectors.embedding_onnx import OnnxEmbedder

    return OnnxEmbedder(name)
