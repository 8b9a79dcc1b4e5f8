from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.detectors.descriptor import LayoutDescriptor, MaskDescriptor, mask_crop, pixel_boxes, unit_rows
from trackweave.detectors.embedders import Embedder, make_embedder
from trackweave.errors import InputError, SettingError
from trackweave.masks.packed import PackedMasks

MOT17 = Path(__file__).parents[3] / "shared" / "data" / "mot" / "MOT17"
Image = NDArray[np.uint8]

COLOURS = {"red": (200, 40, 40), "blue": (40, 60, 190), "white": (230, 230, 230), "black": (25, 25, 25)}


def person(shirt: str, trousers: str, seed: int = 0) -> Image:
    """128×64: a figure in two colours before a speckled wall."""
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 150, (128, 64, 3), dtype=np.uint8)
    image[4:24, 24:40] = (190, 150, 130)
    image[24:72, 14:50] = COLOURS[shirt]
    image[72:126, 18:46] = COLOURS[trousers]
    noise = rng.normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def street(*people: Image) -> tuple[Image, NDArray[np.float32]]:
    """The people beside each other on a grey frame, and their boxes."""
    frame = np.full((200, 100 * len(people), 3), 120, np.uint8)
    boxes = []
    for k, crop in enumerate(people):
        frame[40:168, 100 * k + 20 : 100 * k + 84] = crop
        boxes.append([100 * k + 20, 40, 100 * k + 84, 168])
    return frame, np.array(boxes, np.float32).reshape(-1, 4)


def cosines(image: Image, boxes: NDArray[np.float32], masks: PackedMasks | None = None) -> NDArray[np.float32]:
    embeddings = LayoutDescriptor().embed(image, boxes, masks)
    return embeddings @ embeddings.T


def test_the_same_clothes_are_similar_and_others_are_not() -> None:
    image, boxes = street(person("red", "blue", 1), person("red", "blue", 2), person("white", "black", 3))
    alike = cosines(image, boxes)
    assert alike[0, 1] > 0.95
    assert alike[0, 2] < 0.5
    assert alike[1, 2] < 0.5


def test_the_position_of_a_colour_matters() -> None:
    image, boxes = street(person("red", "blue"), person("blue", "red"))
    assert cosines(image, boxes)[0, 1] < 0.6


@pytest.mark.parametrize("gain", [0.8, 1.2])
def test_light_and_a_loose_box_change_little(gain: float) -> None:
    image, boxes = street(person("red", "blue"), person("white", "black"))
    later = np.clip(gain * image, 0, 255).astype(np.uint8)
    first = LayoutDescriptor().embed(image, boxes)
    second = LayoutDescriptor().embed(later, boxes + np.array([3, -4, 2, 6], np.float32))
    alike = first @ second.T
    assert (alike.diagonal() > 0.8).all()
    assert (alike.diagonal() > alike[::-1].diagonal() + 0.3).all()


def patches(seed: int) -> Image:
    """128×64: the cells around five random points, in natural colours: nearly grey, of any lightness."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, [128, 64], (5, 2))
    y, x = np.mgrid[:128, :64]
    nearest = np.argmin(np.hypot(y[..., None] - points[:, 0], x[..., None] - points[:, 1]), axis=2)
    channels = ((110, 45), (128, 8), (128, 8))
    lab = np.stack([np.clip(rng.laplace(middle, spread, 5), 0, 255) for middle, spread in channels])
    return np.asarray(cv2.cvtColor(lab.T.astype(np.uint8)[nearest], cv2.COLOR_LAB2RGB), np.uint8)


def test_unrelated_crops_share_little() -> None:
    """The histograms themselves, neither centred nor under a root, have a mean cosine of 0.24."""
    others = cosines(*street(*(patches(seed) for seed in range(16))))[~np.eye(16, dtype=bool)]
    assert abs(others.mean()) < 0.1
    assert others.max() < 0.5


def test_a_mask_leaves_the_background_out() -> None:
    one, other = person("red", "blue"), person("red", "blue")
    silhouette = np.zeros((128, 64), np.bool_)
    silhouette[4:24, 24:40] = silhouette[24:72, 14:50] = silhouette[72:126, 18:46] = True
    other[~silhouette] = (30, 160, 60)
    image, boxes = street(one, other)
    masks = np.zeros((2, *image.shape[:2]), np.bool_)
    for k in range(2):
        masks[k, 40:168, 100 * k + 20 : 100 * k + 84] = silhouette
    packed = PackedMasks.from_bool(masks)
    assert cosines(image, boxes, packed)[0, 1] > 0.97
    assert cosines(image, boxes)[0, 1] < 0.9
    empty = PackedMasks.empty(image.shape[0], image.shape[1], 2)
    np.testing.assert_array_equal(cosines(image, boxes, empty), cosines(image, boxes))
    small = PackedMasks.from_bool(masks[:, ::2, ::2])
    assert cosines(image, boxes, small)[0, 1] > 0.95


def test_a_box_across_the_border_is_described_by_its_inside() -> None:
    image, boxes = street(person("red", "blue"), person("white", "black"))
    whole = LayoutDescriptor().embed(image, boxes)
    cut = image[:110].copy()  # the frame ends at the belt
    upper = LayoutDescriptor().embed(cut, boxes)
    alike = upper @ whole.T
    assert (alike.diagonal() > 0.5).all()
    stretched = boxes.copy()
    stretched[:, 3] = 110
    assert (alike.diagonal() > (LayoutDescriptor().embed(cut, stretched) @ whole.T).diagonal() + 0.1).all()


STRANGE = np.array(
    [[500, 10, 520, 40], [-30, -30, -1, -1], [50, 50, 50, 90], [60, 60, 40, 90], [np.nan, 0, 9, 9], [0, 0, np.inf, 9]],
    np.float32,
)


@pytest.mark.parametrize("box", STRANGE.tolist())
def test_a_box_without_pixels_gives_zeros(box: list[float]) -> None:
    image, boxes = street(person("red", "blue"))
    embeddings = LayoutDescriptor().embed(image, np.array([box, *boxes.tolist()], np.float32))
    assert not embeddings[0].any()
    np.testing.assert_array_equal(embeddings[1:], LayoutDescriptor().embed(image, boxes))


@given(st.integers(0, 2**32 - 1))
def test_rows_have_length_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    corner = rng.uniform(-20, 80, (8, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 60, (8, 2))], axis=1).astype(np.float32)
    embeddings = LayoutDescriptor().embed(image, boxes)
    assert embeddings.shape == (8, LayoutDescriptor.width)
    assert embeddings.dtype == np.float32
    there = pixel_boxes(boxes, 60, 80)[:, 2] > 0
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), there, atol=1e-5)


def test_a_uniform_crop_has_a_descriptor() -> None:
    image = np.full((40, 40, 3), 128, np.uint8)
    embeddings = LayoutDescriptor().embed(image, np.array([[0, 0, 40, 40], [3, 3, 4, 4]], np.float32))
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx([1, 1])
    assert LayoutDescriptor().embed(image, np.zeros((0, 4), np.float32)).shape == (0, 192)


@given(st.integers(0, 2**32 - 1))
def test_a_crop_of_a_packed_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 30, 2)
    masks = rng.random((3, height, width)) < 0.5
    left, right = np.sort(rng.choice(width + 1, 2, replace=False))
    top, bottom = np.sort(rng.choice(height + 1, 2, replace=False))
    for row in range(3):
        crop = mask_crop(PackedMasks.from_bool(masks), row, np.array([left, top, right, bottom]))
        np.testing.assert_array_equal(crop, masks[row, top:bottom, left:right])


def test_unit_rows_leave_zeros() -> None:
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    assert rows.dtype == np.float32


def test_embedders_by_name() -> None:
    layout: Embedder | None = make_embedder("layout")
    assert layout is not None
    assert (layout.name, layout.width) == ("layout", 192)
    assert make_embedder("none") is None
    with pytest.raises(SettingError, match="give none, layout, or the path"):
        make_embedder("resnet")
    with pytest.raises(InputError, match="there is no such ONNX model"):
        make_embedder("missing.onnx")


@pytest.mark.skipif(not MOT17.is_dir(), reason="the MOT17 sequences are not beside the project")
def test_real_people_are_distinguished() -> None:
    """Each person's crops are more alike than those of two people, nearly always."""
    same, different = [], []
    for sequence in ("MOT17-02-FRCNN", "MOT17-09-FRCNN"):
        truth = np.loadtxt(MOT17 / sequence / "gt" / "gt.txt", delimiter=",")
        embeddings, identity = [], []
        for path in sorted((MOT17 / sequence / "img1").glob("*.jpg")):
            rows = truth[(truth[:, 0] == int(path.stem)) & (truth[:, 7] == 1) & (truth[:, 8] > 0.5)]
            stored = cv2.imread(str(path))
            assert stored is not None
            image = np.asarray(cv2.cvtColor(stored, cv2.COLOR_BGR2RGB), np.uint8)
            boxes = np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1).astype(np.float32)
            embeddings.append(LayoutDescriptor().embed(image, boxes))
            identity.append(rows[:, 1])
        vectors, ids = np.concatenate(embeddings), np.concatenate(identity)
        upper = np.triu(np.ones((len(ids), len(ids)), np.bool_), 1)
        is_same = ids[:, None] == ids
        same.append((vectors @ vectors.T)[is_same & upper])
        different.append((vectors @ vectors.T)[~is_same & upper])
    positive, negative = np.concatenate(same), np.concatenate(different)
    assert (positive[:, None] > negative[None, ::7]).mean() > 0.995


def disc(turn: int = 0, seed: int = 0, colours: tuple[str, str] = ("red", "blue")) -> tuple[Image, PackedMasks]:
    """A disc of two colours and some grain on grey, turned by quarters, and its mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:80, :80] - 40
    image = np.full((80, 80, 3), 128, np.uint8)
    inside = np.hypot(x, y) < 30
    image[inside & (y < 0)], image[inside & (y >= 0)] = (COLOURS[name] for name in colours)
    image = np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.rot90(image, turn)), PackedMasks.from_bool(np.rot90(inside, turn)[None])


def test_a_mask_looks_the_same_whichever_way_it_is_turned() -> None:
    descriptor = MaskDescriptor()
    nowhere = np.zeros((1, 4), np.float32)
    upright, turned, other = (
        descriptor.embed(image, nowhere, masks)[0]
        for image, masks in (disc(), disc(1, seed=1), disc(colours=("white", "black")))
    )
    assert upright @ turned > 0.95
    assert upright @ other < 0.4
    assert upright.shape == (descriptor.width,)


def test_only_what_the_mask_covers_counts() -> None:
    image, masks = disc()
    around = image.copy()
    around[~masks.to_bool()[0]] = (20, 200, 20)
    one, other = (MaskDescriptor().embed(each, np.zeros((1, 4), np.float32), masks)[0] for each in (image, around))
    assert one @ other > 0.99
    half = PackedMasks.from_bool(masks.to_bool()[:, ::2, ::2])
    assert MaskDescriptor().embed(image, np.zeros((1, 4), np.float32), half)[0] @ one > 0.98
    assert not MaskDescriptor().embed(image, np.zeros((1, 4), np.float32), PackedMasks.empty(80, 80, 1)).any()
    box = np.array([[20, 20, 60, 60], [90, 90, 99, 99]], np.float32)
    without = MaskDescriptor().embed(image, box)
    assert without[0] @ one > 0.7
    assert not without[1].any()
