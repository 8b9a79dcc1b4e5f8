"""Scenes in which an object leaves the picture, is hidden, and returns; what is visible of it is known to the pixel.

Three ways to make one from annotated footage (`SEQUENCE/frames`, `SEQUENCE/masks`), none of which needs anything to be
labelled by hand:

- `window_scene`: the picture is a window of the real footage, which moves away from the object, and back or not;
- `passer_scene`: a panel with the texture of another photo passes before the real footage, stops over the
  object, goes on;
- `composite_scene`: the object, cut out of its footage, moves before a photo that a camera pans over: it leaves,
  returns, goes behind a panel, comes out or not, stays, leaves while its twin stays, or stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.formats.davis import VOID, read_label_png
from trackweave.frames.arrays import ArrayFrames
from trackweave.frames.images import ImageFolder

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Path2 = Callable[[float], tuple[float, float]]

HEIGHT, WIDTH = 240, 424
LENGTH = 44
COMPOSITES = ("leave", "return", "hide", "hide for good", "stay", "twin", "stop")


@dataclass(frozen=True)
class AbsenceScene:
    """One object in one video; it is prompted on the first frame.

    Attributes:
        name: what was made of which footage.
        kind: "window", "passer" or one of `COMPOSITES`.
        frames: `(N, HEIGHT, WIDTH, 3)`.
        truth: `(N, HEIGHT, WIDTH)` bool, what is visible of the object.
    """

    name: str
    kind: str
    frames: ArrayFrames
    truth: Mask


@dataclass(frozen=True)
class Footage:
    """Frames and masks of an annotated sequence: RGB `(H, W, 3)` each, and `(N, H, W)` bool."""

    name: str
    frames: Sequence[Rgb]
    masks: Mask


@lru_cache(maxsize=4)
def read_footage(folder: Path, length: int = LENGTH) -> Footage:
    """The first `length` frames of a sequence and their masks; every label but void is the object."""
    images = ImageFolder(folder / "frames")
    labels = [read_label_png(path) for path in sorted((folder / "masks").glob("*.png"))[:length]]
    masks = np.stack([(one > 0) & (one != VOID) for one in labels])
    return Footage(folder.name, [images[k] for k in range(len(masks))], masks)


def scenes(folders: Sequence[Path], photos: Sequence[Path], seed: int) -> Iterator[AbsenceScene]:
    """All scenes of these sequences; a photo for each is drawn from `photos`, never from the sequence itself."""
    for folder in folders:
        rng = np.random.default_rng([seed, *folder.name.encode()])
        others = [path for path in photos if folder not in path.parents]

        def photo(rng: np.random.Generator = rng, others: Sequence[Path] = others) -> Rgb:
            return _read_photo(others[int(rng.integers(len(others)))])

        footage = read_footage(folder)
        for returns in (False, True):
            yield window_scene(footage, rng, returns)
        yield passer_scene(footage, photo(), rng)
        for kind in COMPOSITES:
            yield composite_scene(footage, kind, photo(), photo(), rng)


def window_scene(footage: Footage, rng: np.random.Generator, returns: bool) -> AbsenceScene:
    """A window of the footage that follows the object for a while and then looks where it is not."""
    length, height, width = footage.masks.shape
    centres = np.array([_centre(mask) for mask in footage.masks])
    # The window is as large as lets the object leave it on one side, somewhere along the way.
    view = np.array([width, height]) * 0.5
    limit = np.array([width, height]) - view
    follow = np.clip(centres - view / 2, 0, limit)
    side = 0.0 if centres[length // 2][0] > width / 2 else limit[0]
    away = follow.copy()
    away[:, 0] = side
    start, stop = rng.uniform(0.15, 0.25), rng.uniform(0.6, 0.7)
    t = np.arange(length) / (length - 1)
    share = _ease((t - start) / 0.2) - (_ease((t - stop) / 0.2) if returns else 0)
    corners = follow + (away - follow) * share[:, None]
    frames, truth = [], []
    for frame, mask, corner in zip(footage.frames, footage.masks, corners, strict=True):
        matrix = np.array([[view[0] / WIDTH, 0, corner[0]], [0, view[1] / HEIGHT, corner[1]]])
        frames.append(_warp(frame, matrix))
        truth.append(_warp(mask.astype(np.uint8) * 255, matrix) > 127)
    kind = "window, returns" if returns else "window"
    return AbsenceScene(f"{footage.name}: {kind}", kind, ArrayFrames(np.stack(frames)), np.stack(truth))


def passer_scene(footage: Footage, texture: Rgb, rng: np.random.Generator) -> AbsenceScene:
    """Something wide passes close before the camera: it covers the object, stops, and goes on."""
    length = len(footage.masks)
    size = WIDTH, HEIGHT
    frames = np.stack([_resize(frame, size) for frame in footage.frames])
    truth = np.stack([_resize(mask.astype(np.uint8) * 255, size) > 127 for mask in footage.masks])
    covered = slice(int(0.35 * length), int(0.65 * length))
    columns = np.flatnonzero(truth[covered].any(axis=(0, 1)))
    panel = min(int((columns[-1] - columns[0]) * 1.15) + 10, WIDTH)
    skin = _resize(texture, (panel, HEIGHT))
    t = np.arange(length) / (length - 1)
    stop = (columns[0] + columns[-1]) / 2 - panel / 2
    sign = rng.choice([-1, 1])
    before, after = stop - sign * (WIDTH + panel) / 1.5, stop + sign * (WIDTH + panel) / 1.5
    left = before + (stop - before) * _ease((t - 0.05) / 0.35) + (after - stop) * _ease((t - 0.65) / 0.3)
    for frame, mask, x in zip(frames, truth, np.round(left).astype(int), strict=True):
        first, last = max(x, 0), min(x + panel, WIDTH)
        if first < last:
            frame[:, first:last] = skin[:, first - x : last - x]
            mask[:, first:last] = False
    return AbsenceScene(f"{footage.name}: passer", "passer", ArrayFrames(frames), truth)


def composite_scene(footage: Footage, kind: str, photo: Rgb, texture: Rgb, rng: np.random.Generator) -> AbsenceScene:
    """The object, cut out, before a photo."""
    zoom = rng.uniform(1.3, 1.7) * max(HEIGHT / photo.shape[0], WIDTH / photo.shape[1])
    ground = _resize(photo, (round(photo.shape[1] * zoom), round(photo.shape[0] * zoom)))
    cuts = list(_cut_out(footage, rng.uniform(0.22, 0.4) * HEIGHT))
    half = np.max([cut[1].shape[::-1] for cut in cuts], axis=0) / 2
    camera, phase = np.array([ground.shape[1] - WIDTH, ground.shape[0] - HEIGHT]) / 2, rng.uniform(0, 6, 2)
    reach = camera * rng.uniform(0.2, 0.8, 2)
    path = _object_path(kind, half, rng)
    twin_x = rng.choice([0.22, 0.78]) * WIDTH
    panel = int(2.3 * half[0]) + 6
    skin = _resize(texture, (panel, ground.shape[0]))
    frames, truth = [], []
    first_shift = reach * np.sin(phase)
    for n, (colours, alpha) in enumerate(cuts):
        t = n / (len(cuts) - 1)
        shift = reach * np.sin(2.5 * t * np.array([1.0, 1.4]) + phase)
        x, y = camera + shift
        frame = _warp(ground, np.array([[1, 0, x], [0, 1, y]]))
        moved = first_shift - shift
        if kind == "twin":
            again = cuts[(n + len(cuts) // 2) % len(cuts)]
            _paste(frame, again[0][:, ::-1], again[1][:, ::-1], (twin_x + moved[0], HEIGHT * 0.6 + moved[1]))
        place = np.array(path(t)) + (moved if kind in ("hide", "hide for good", "stop") else 0)
        coverage = _paste(frame, colours, alpha, (place[0], place[1]))
        if kind.startswith("hide"):
            _paste(
                frame,
                skin,
                np.ones(skin.shape[:2], np.float32),
                (WIDTH / 2 + moved[0], HEIGHT / 2 + moved[1]),
                coverage,
            )
        noise = rng.standard_normal(frame.shape, np.float32) * 2
        frames.append(np.clip(cv2.GaussianBlur(frame, (0, 0), 0.5) + noise, 0, 255).astype(np.uint8))
        truth.append(coverage > 0.5)
    return AbsenceScene(f"{footage.name}: {kind}", kind, ArrayFrames(np.stack(frames)), np.stack(truth))


def _object_path(kind: str, half: NDArray[np.float64], rng: np.random.Generator) -> Path2:
    """Centre of the object in view pixels at time 0 … 1."""
    middle = np.array([WIDTH, HEIGHT]) / 2
    if kind.startswith("hide"):
        start, y = (-1 if rng.random() < 0.5 else 1) * (2.4 * half[0] + 8), HEIGHT * rng.uniform(0.45, 0.65)
        out = -start if rng.random() < 0.7 else start

        def behind(t: float) -> tuple[float, float]:
            away = 0.0 if kind == "hide for good" else float(_ease((t - 0.65) / 0.3))
            return middle[0] + start * (1 - float(_ease((t - 0.05) / 0.35))) + out * away, y

        return behind
    if kind == "stop":
        start, y = (-1 if rng.random() < 0.5 else 1) * rng.uniform(0.15, 0.3) * WIDTH, HEIGHT * rng.uniform(0.45, 0.6)
        return lambda t: (middle[0] + start * (1 - float(_ease(t / 0.5))), y)
    if kind == "stay":
        turn, radius = rng.uniform(0, 6), rng.uniform(0.15, 0.25) * HEIGHT
        return lambda t: (middle[0] + 1.6 * radius * np.cos(5 * t + turn), middle[1] + radius * np.sin(5 * t + turn))
    direction = np.array([(1, 0), (-1, 0), (0, 1), (1, 0.3), (-1, -0.2)][rng.integers(5)], float)
    far = middle + half + 6
    distance = far[0] if direction[0] else far[1]
    begin = middle + rng.uniform(-0.15, 0.15, 2) * HEIGHT
    speed = rng.uniform(0.25, 0.45)
    side = 1 if rng.random() < 0.6 else -1

    def leave(t: float) -> tuple[float, float]:
        gone = float(_ease((t - 0.1) / speed))
        back = float(_ease((t - 0.7) / 0.28)) if kind == "return" else 0.0
        place = begin + direction * distance * 1.15 * (side * (1 - back) if back else gone)
        return float(place[0]), float(place[1])

    return leave


def _cut_out(footage: Footage, height: float) -> Iterator[tuple[Rgb, NDArray[np.float32]]]:
    """Colours and coverage of the object on each frame, scaled so that its median height is `height`."""
    boxes = [cv2.boundingRect(mask.view(np.uint8)) for mask in footage.masks]
    scale = height / float(np.median([box[3] for box in boxes]))
    for frame, mask, (x, y, w, h) in zip(footage.frames, footage.masks, boxes, strict=True):
        inner = cv2.erode(mask.view(np.uint8), np.ones((3, 3), np.uint8))
        size = max(round(w * scale), 4), max(round(h * scale), 4)
        crop = np.s_[y : y + h, x : x + w]
        alpha = _resize((inner[crop] * 255).astype(np.uint8), size).astype(np.float32) / np.float32(255)
        yield _resize(frame[crop], size), alpha


def _read_photo(path: Path) -> Rgb:
    return np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), np.uint8)  # type: ignore[arg-type]


def _resize(image: Rgb, size: tuple[int, int]) -> Rgb:
    """To `(width, height)`."""
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _paste(
    frame: Rgb,
    colours: Rgb,
    alpha: NDArray[np.float32],
    centre: tuple[float, float],
    hides: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Blends an image into the frame; returns its coverage `(HEIGHT, WIDTH)`, and takes it from that which it hides."""
    h, w = alpha.shape
    matrix = np.array([[1, 0, centre[0] - w / 2], [0, 1, centre[1] - h / 2]])
    placed = cv2.warpAffine(colours, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
    coverage = cv2.warpAffine(alpha, matrix, (WIDTH, HEIGHT))
    frame[:] = frame + (placed.astype(np.float32) - frame) * coverage[..., None]
    if hides is not None:
        hides *= 1 - coverage
    return np.asarray(coverage, np.float32)


def _warp(image: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    flags = cv2.INTER_AREA if matrix[0, 0] > 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.warpAffine(image, matrix, (WIDTH, HEIGHT), flags=flags | cv2.WARP_INVERSE_MAP), np.uint8)


def _centre(mask: Mask) -> tuple[float, float]:
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    return x + w / 2, y + h / 2


def _ease(t: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """0 before 0, 1 after 1, smooth in between."""
    t = np.clip(t, 0, 1)
    return np.asarray(t * t * (3 - 2 * t))
