"""PNG pictures, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.storage.files import replacing


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes `(H, W, 3)` uint8 RGB.

    Raises:
        RunFolderError: the file cannot be written.
    """
    import cv2

    ok, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not ok:
        raise ValueError(f"{path}: an image of {image.shape} {image.dtype} cannot be encoded")
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
