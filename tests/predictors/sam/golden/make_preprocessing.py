"""Writes `preprocessing.npz`: what upstream makes of small frames and prompts.

Needs torchvision, transformers and Meta's sam2 in one environment; the tests need neither. Run from the repository:

    python tests/predictors/sam/golden/make_preprocessing.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

SIZE = 32
FRAMES = ((37, 53), (48, 20), (90, 120))
"""Heights and widths: larger and smaller than the model's input along each side."""
BOX = (3.25, 5.0, 17.5, 30.75)


def made_image(height: int, width: int) -> NDArray[np.uint8]:
    """Noise over a slope: the one shows the filter, the other a shift."""
    draw = np.random.default_rng(height * 1000 + width)
    slope = np.linspace(0, 160, width)[None, :, None] + np.linspace(0, 60, height)[:, None, None]
    return (slope + draw.integers(0, 36, (height, width, 3))).astype(np.uint8)


def made_mask(height: int, width: int) -> NDArray[np.bool_]:
    """An ellipse and a bar."""
    y, x = np.mgrid[:height, :width]
    ellipse = ((y - 0.4 * height) / (0.3 * height)) ** 2 + ((x - 0.55 * width) / (0.25 * width)) ** 2 < 1
    return np.asarray(ellipse | ((y > 0.8 * height) & (x < 0.5 * width)))


def by_meta(image: NDArray[np.uint8]) -> Any:
    """`(1, 3, S, S)`: Meta's loader on a file without loss under the name of a JPEG, which is all that it looks for."""
    from sam2.utils.misc import load_video_frames

    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(image).save(Path(folder) / "0.jpg", format="PNG")
        return load_video_frames(folder, SIZE, True, compute_device=torch.device("cpu"))[0]


def by_transformers(image: NDArray[np.uint8], *, sam3: bool = False) -> Any:
    """`(1, 3, S, S)`: the video processor with the model's constants."""
    from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor

    kind: Any = Sam2VideoVideoProcessor
    constants = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} if sam3 else {}
    processor = kind(size={"height": SIZE, "width": SIZE}, **constants)
    return processor(videos=[image[None]], return_tensors="pt").pixel_values_videos[0]


def prompts_by_transformers(height: int, width: int) -> tuple[Any, Any]:
    """Mask `(1, 1, S, S)` and box corners `(4,)` as they arrive in an inference session."""
    from transformers import Sam2ImageProcessor, Sam2VideoProcessor
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession
    from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor

    size = {"height": SIZE, "width": SIZE}
    images: Any = Sam2ImageProcessor
    videos: Any = Sam2VideoVideoProcessor
    processor: Any = Sam2VideoProcessor(images(size=size), videos(size=size))
    session: Any = Sam2VideoInferenceSession(video_height=height, video_width=width, dtype=torch.float32)
    processor.add_inputs_to_inference_session(session, 0, 1, input_masks=made_mask(height, width))
    processor.add_inputs_to_inference_session(session, 0, 2, input_boxes=[[list(BOX)]])
    points = session.point_inputs_per_obj[session.obj_id_to_idx(2)][0]["point_coords"]
    return session.mask_inputs_per_obj[session.obj_id_to_idx(1)][0], points.reshape(4)


def upstream_values() -> dict[str, NDArray[Any]]:
    """Everything that is stored, by name."""
    found: dict[str, Any] = {}
    for height, width in FRAMES:
        image, key = made_image(height, width), f"{height}x{width}"
        found[f"meta_{key}"] = by_meta(image)
        found[f"transformers_{key}"] = by_transformers(image)
        found[f"sam3_{key}"] = by_transformers(image, sam3=True)
        found[f"mask_{key}"], found[f"box_{key}"] = prompts_by_transformers(height, width)
    return {name: np.asarray(value) for name, value in found.items()}


def main() -> None:
    """Writes the file beside this one."""
    values = upstream_values()
    for name, value in values.items():
        if name.startswith("mask_"):
            values[name] = value.astype(np.bool_)
    np.savez_compressed(Path(__file__).parent / "preprocessing.npz", **values)  # type: ignore[arg-type]
    print(f"{len(values)} arrays", file=sys.stderr)


if __name__ == "__main__":
    main()
