"""Preprocessing of frames and prompts, equal to upstream's but without torchvision.

Sources: `sam2/utils/misc.py` and `sam2/sam2_video_predictor.py` of Meta's package 1.1; `Sam2VideoVideoProcessor`,
`Sam2VideoProcessor` and `Sam3TrackerVideoProcessor` of transformers 5.24. The tests hold this file against both.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

Triple = tuple[float, float, float]
Resize = Literal["pil-bicubic", "torch-bilinear"]


def image_to_pixels(
    image: NDArray[np.uint8],
    size: int,
    mean: Triple,
    std: Triple,
    resize: Resize,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A frame as the image encoder takes it: resized without regard to its proportions, then normalised.

    The resize runs on the processor whatever the device, so that every device sees the same pixels; the small result
    travels as bytes and is normalised where it is used. Equal to upstream on the processor, bit by bit; where torch has
    no vectorised kernel for bytes, upstream rounds otherwise and single pixels may be one step of 255 apart.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        size: side S of the model's input, pixels.
        mean: per RGB channel of pixels in [0, 1].
        std: per RGB channel of pixels in [0, 1].
        resize: `pil-bicubic` as Meta's package loads frames, `torch-bilinear` as the processors of transformers do.
        device: of the result.
        dtype: of the result; the arithmetic is float32.

    Returns:
        `(1, 3, S, S)`.
    """
    resized = _resized_by_pil(image, size) if resize == "pil-bicubic" else _resized_by_torch(image, size)
    pixels = resized.to(device).float()
    mean_of, std_of = (torch.tensor(triple, device=device).view(3, 1, 1) for triple in (mean, std))
    if resize == "pil-bicubic":
        pixels = pixels.div_(255).sub_(mean_of).div_(std_of)
    else:  # transformers folds the division by 255 into the two others
        pixels = pixels.sub_(mean_of * 255.0).div_(std_of * 255.0)
    return pixels[None].to(dtype)


def mask_to_input(
    mask: NDArray[np.bool_], size: int, threshold: float = 0.5, device: torch.device | str = "cpu"
) -> Tensor:
    """A mask prompt at the size of the model's input; both packages do the same.

    Args:
        mask: `(H, W)` bool.
        size: side S of the model's input, pixels.
        threshold: share of a pixel that must be covered; upstream's is a half, and may leave nothing of a thin mask.
        device: where it is resized, as upstream does, and where the result lies; on a processor a large mask takes
            tens of milliseconds.

    Returns:
        `(1, 1, S, S)` float32, 0 or 1.
    """
    whole = torch.from_numpy(np.ascontiguousarray(mask, np.bool_)).to(device)[None, None].float()
    if whole.shape[-2:] == (size, size):
        return whole
    covered = functional.interpolate(whole, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    return (covered >= threshold).float()


def points_to_input(points: NDArray[np.float32], frame_size: tuple[int, int], size: int) -> Tensor:
    """Points in pixels of the model's input, as transformers scales them (Meta's package: equal but for rounding).

    Args:
        points: `(P, 2)` x, y in pixels of the frame; the corners of a box, or points.
        frame_size: `(H, W)`, pixels.
        size: side S of the model's input, pixels.

    Returns:
        `(P, 2)` float32 x, y.
    """
    height, width = frame_size
    given = torch.tensor(np.asarray(points, np.float32))
    return torch.stack([given[:, 0] * (size / width), given[:, 1] * (size / height)], dim=1)


def _resized_by_pil(image: NDArray[np.uint8], size: int) -> Tensor:
    # Upstream does not name the filter: Pillow's own for colours is bicubic.
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def _resized_by_torch(image: NDArray[np.uint8], size: int) -> Tensor:
    """`(3, S, S)` uint8; torchvision hands bytes to the same kernel."""
    planes = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]  # a copy: torch refuses what is read-only
    if planes.shape[-2:] == (size, size):
        return planes[0]
    return functional.interpolate(planes, size=(size, size), mode="bilinear", align_corners=False, antialias=True)[0]
