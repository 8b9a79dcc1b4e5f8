"""Parity with upstream: stored values always, upstream itself where torchvision is there."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.predictors.sam.golden.make_preprocessing import (
    BOX,
    FRAMES,
    SIZE,
    made_image,
    made_mask,
    upstream_values,
)
from trackweave.predictors.sam.preprocessing import image_to_pixels, mask_to_input, points_to_input

GOLDEN = Path(__file__).parent / "golden" / "preprocessing.npz"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
STEP = 1 / 255
KEYS = [f"{height}x{width}" for height, width in FRAMES]


@pytest.fixture(scope="module")
def stored() -> dict[str, NDArray[Any]]:
    with np.load(GOLDEN, allow_pickle=False) as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def live() -> dict[str, NDArray[Any]]:
    for package in ("torchvision", "sam2", "transformers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    try:
        import torchvision  # noqa: F401
    except (RuntimeError, ImportError) as error:
        pytest.skip(f"torchvision does not import: {error}")
    return upstream_values()


def ours(name: str) -> NDArray[np.float32]:
    kind, _, key = name.partition("_")
    height, width = map(int, key.split("x"))
    if kind == "mask":
        return mask_to_input(made_mask(height, width), SIZE).numpy()
    if kind == "box":
        return points_to_input(np.array(BOX, np.float32).reshape(2, 2), (height, width), SIZE).numpy().reshape(4)
    mean, std = HALVES if kind == "sam3" else IMAGENET
    resize: Any = "pil-bicubic" if kind == "meta" else "torch-bilinear"
    return image_to_pixels(made_image(height, width), SIZE, mean, std, resize=resize).numpy()


def has_byte_kernel() -> bool:
    """Elsewhere upstream resizes in float and rounds, and torch's bytes may come out one step apart."""
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def check(name: str, theirs: NDArray[Any]) -> None:
    got = ours(name)
    assert got.shape == theirs.shape
    if name.startswith(("meta", "mask", "box")) or has_byte_kernel():
        np.testing.assert_array_equal(got, theirs, strict=False)
    else:
        _, std = HALVES if name.startswith("sam3") else IMAGENET
        apart = np.abs(got - theirs) * np.array(std, np.float32)[:, None, None]  # before normalisation
        assert apart.max() <= STEP + 1e-6


NAMES = [f"{kind}_{key}" for kind in ("meta", "transformers", "sam3", "mask", "box") for key in KEYS]


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_stored_upstream(name: str, stored: dict[str, NDArray[Any]]) -> None:
    check(name, stored[name])


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_installed_upstream(name: str, live: dict[str, NDArray[Any]]) -> None:
    check(name, live[name])


def test_nothing_else_is_stored(stored: dict[str, NDArray[Any]]) -> None:
    assert sorted(stored) == sorted(NAMES)


def test_the_two_ways_of_resizing_differ() -> None:
    # Or the parity tests above could not tell one from the other.
    image = made_image(*FRAMES[0])
    one, other = (
        image_to_pixels(image, SIZE, *IMAGENET, resize=resize) for resize in ("pil-bicubic", "torch-bilinear")
    )
    assert (one - other).abs().max() > 0.05


@pytest.mark.parametrize("resize", ["pil-bicubic", "torch-bilinear"])
def test_a_frame_of_the_input_s_own_size_is_only_normalised(resize: Any) -> None:
    image = made_image(SIZE, SIZE)
    pixels = image_to_pixels(image, SIZE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), resize=resize)
    np.testing.assert_array_equal(pixels[0].mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy(), image)


def test_every_byte_divides_as_in_double_precision() -> None:
    # Meta's loader divides in float64 and rounds to float32: the shorter way gives the same.
    values = np.arange(256, dtype=np.uint8)
    pixels = image_to_pixels(
        np.repeat(values[:, None, None], 256, 1).repeat(3, 2), 256, (0.0,) * 3, (1.0,) * 3, resize="pil-bicubic"
    )
    np.testing.assert_array_equal(pixels[0, 0, :, 0].numpy(), (values / 255.0).astype(np.float32))


def test_rows_that_lie_apart_in_memory_are_read_right() -> None:
    image = made_image(60, 80)
    strided = np.ascontiguousarray(image[:, ::-1])[:, ::-1]
    for resize in ("pil-bicubic", "torch-bilinear"):
        expected = image_to_pixels(image, SIZE, *IMAGENET, resize=resize)
        assert torch.equal(image_to_pixels(strided, SIZE, *IMAGENET, resize=resize), expected)


def test_the_frame_itself_stays_as_it_is() -> None:
    for resize in ("pil-bicubic", "torch-bilinear"):
        image = made_image(SIZE, SIZE)
        before = image.copy()
        image_to_pixels(image, SIZE, *IMAGENET, resize=resize)
        np.testing.assert_array_equal(image, before)


def test_pixels_come_in_the_dtype_asked_for() -> None:
    pixels = image_to_pixels(made_image(20, 30), SIZE, *IMAGENET, resize="torch-bilinear", dtype=torch.bfloat16)
    assert pixels.dtype == torch.bfloat16
    assert pixels.shape == (1, 3, SIZE, SIZE)


def test_a_thin_mask_needs_a_lower_threshold() -> None:
    mask = np.zeros((200, 200), np.bool_)
    mask[:, 100] = True
    assert not mask_to_input(mask, 32).any()
    assert mask_to_input(mask, 32, threshold=1e-6).any()


@given(st.integers(1, 80), st.integers(1, 80), st.integers(2, 48))
def test_a_full_and_an_empty_mask_stay_so(height: int, width: int, size: int) -> None:
    assert mask_to_input(np.ones((height, width), np.bool_), size).all()
    assert not mask_to_input(np.zeros((height, width), np.bool_), size, threshold=1e-6).any()


@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([56, 1008, 1024]))
def test_the_whole_frame_s_box_is_the_whole_input(height: int, width: int, size: int) -> None:
    corners = points_to_input(np.array([[0, 0], [width, height]], np.float32), (height, width), size)
    np.testing.assert_allclose(corners.numpy(), [[0, 0], [size, size]], rtol=1e-6)
