"""From a name to a candidate generator: the built-in regions, any detector, salient-object models.

`GeneratorChoice` is what a user may ask for; a model's automatic masks need a session on the frames (`pipelines`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.base import Detector, check_image
from trackweave.detectors.onnx_session import OnnxModel, described, fit, image_input
from trackweave.detectors.registry import make_detector
from trackweave.detectors.settings import IMAGENET, PixelRule
from trackweave.errors import InputError, SettingError, wording
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.sam.settings import TextSettings
from trackweave.proposals.automatic_masks import EDGE_REACH, is_cut_off, pasted
from trackweave.proposals.refine import suppressed
from trackweave.proposals.regions import RegionProposals
from trackweave.proposals.settings import CandidateSettings, PointGridSettings, RegionSettings
from trackweave.structures.candidates import Candidates

Image = NDArray[np.uint8]

GENERATOR_FORMS = (
    "regions",
    "auto",
    "predictor",
    "SAM[=WEIGHTS]",
    "sam3[=WEIGHTS]",
    "detector=NAME|FILE.onnx",
    "boxes=NAME|FILE.onnx",
    "salient=FILE.onnx",
)
ISNET_SIDE = 1024
"""Models of this input are ISNet's kin, which subtract a half; U²-Net's kin (320) take ImageNet's statistics."""
ISNET_PIXELS = PixelRule((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
MIN_SALIENT_AREA = 0.001
"""Of a part that stands for itself, as a share of the frame."""


@dataclass(frozen=True)
class GeneratorChoice:
    """What finds candidates.

    Attributes:
        name: `auto`, what `text` names where there is some, else the predictor's own automatic masks where it has
            some, else `regions`; `predictor`, those masks; `sam2-hf`, `sam2`, `sam3-tracker` or `edgetam`, alone or
            with their weights, those of this model; `sam3`, what `text` names; or a name of `make_generator`.
        regions: settings of `regions`.
        grid: settings of automatic masks.
        text: settings of `sam3`.
        candidates: what is done with what was found; tiles.
    """

    name: str = "auto"
    regions: RegionSettings = field(default_factory=RegionSettings)
    grid: PointGridSettings = field(default_factory=PointGridSettings)
    text: TextSettings = field(default_factory=TextSettings)
    candidates: CandidateSettings = field(default_factory=CandidateSettings)

    @property
    def kind(self) -> str:
        """The name without weights or model; `sam3` where a text decides what `auto` is."""
        kind = self.name.partition("=")[0]
        return "sam3" if kind == "auto" and self.text.prompts else kind

    @classmethod
    def of(cls, generator: GeneratorRequest) -> GeneratorChoice:
        """A name with the default settings, or settings of the one generator that has them."""
        if isinstance(generator, RegionSettings):
            return cls("regions", regions=generator)
        if isinstance(generator, PointGridSettings):
            return cls("predictor", grid=generator)
        if isinstance(generator, TextSettings):
            return cls("sam3", text=generator)
        return generator if isinstance(generator, GeneratorChoice) else cls(generator)


GeneratorRequest = str | RegionSettings | PointGridSettings | TextSettings | GeneratorChoice


class CandidateGenerator(Protocol):
    """Proposes candidates on single frames."""

    @property
    def files(self) -> Sequence[Path]:
        """What it reads besides the frames."""

    def check_levels(self, levels: Iterable[int]) -> None:
        """Refuses levels that it does not have.

        Raises:
            SettingError: there is one.
        """

    def propose_levels(self, image: Image, levels: Iterable[int]) -> dict[int, Candidates]:
        """Candidates of an image `(H, W, 3)` uint8 RGB per level, best score first.

        Raises:
            SettingError: a level that the generator does not have.
            InputError: the model fails.
        """


def make_generator(generator: str | RegionSettings) -> CandidateGenerator:
    """The generator of a name, or `regions` with settings.

    Args:
        generator: `regions`; `detector=` a name or an ONNX file of `make_detector`; `boxes=` the same, of which only
            boxes are taken; `salient=` an ONNX file.

    Raises:
        SettingError: an unknown name.
        InputError: the model cannot be used.
    """
    if isinstance(generator, RegionSettings):
        return RegionProposals(generator)
    name, _, model = generator.partition("=")
    if generator == "regions":
        return RegionProposals()
    if name in ("detector", "boxes") and model:
        files = [Path(model)] if model.lower().endswith(".onnx") else []
        return DetectorProposals(make_detector(model), files, with_masks=name == "detector")
    if name == "salient" and model:
        return SalientProposals(Path(model))
    raise SettingError(f"there is no generator {generator!r}; known: {', '.join(GENERATOR_FORMS)}")


class DetectorProposals:
    """What a detector finds is a candidate: its masks where it has them, else its boxes.

    Args:
        detector: see `make_detector`.
        files: what it was loaded from.
        with_masks: False: its boxes alone, also where it has masks.
    """

    def __init__(self, detector: Detector, files: Sequence[Path] = (), *, with_masks: bool = True) -> None:
        self._detector, self.files, self._with_masks = detector, files, with_masks

    @property
    def class_names(self) -> Mapping[int, str]:
        """Names of its classes by number, as far as the detector has them."""
        return self._detector.class_names or {}

    def check_levels(self, levels: Iterable[int]) -> None:
        """See `CandidateGenerator`."""
        _only(levels, self._detector.name)

    def propose_levels(self, image: Image, levels: Iterable[int]) -> dict[int, Candidates]:
        """See `CandidateGenerator`; a detector knows one granularity, which stands for any one level."""
        level = _only(levels, self._detector.name)
        found = self._detector.detect(image)
        size = image.shape[0], image.shape[1]
        masks = found.masks if self._with_masks and found.masks is not None else PackedMasks.empty(*size, len(found))
        boxes = found.xyxy.astype(np.float32)
        sides = boxes[:, 2:] - boxes[:, :2]
        area = np.where(masks.areas > 0, masks.areas, np.rint(sides[:, 0] * sides[:, 1]).astype(np.int64))
        ids = np.arange(len(found), dtype=np.int64)
        named = found.class_id if (found.class_id >= 0).any() else None
        candidates = Candidates(
            id=ids, xyxy=boxes, score=found.score.astype(np.float32), area=area, masks=masks, class_id=named
        )
        return {level: candidates}


class TiledProposals:
    """A generator that looks at tiles of the frame as well as at all of it, for small objects.

    Of what a tile shows, that counts which it shows whole; of what both show, the tile's.

    Args:
        generator: looks at each.
        settings: size and overlap of the tiles.
    """

    def __init__(self, generator: CandidateGenerator, settings: CandidateSettings) -> None:
        self._generator, self._settings = generator, settings

    @property
    def class_names(self) -> Mapping[int, str]:
        """Names of the classes by number, of a generator that has them."""
        return getattr(self._generator, "class_names", None) or {}

    @property
    def files(self) -> Sequence[Path]:
        """See `CandidateGenerator`."""
        return self._generator.files

    def check_levels(self, levels: Iterable[int]) -> None:
        """See `CandidateGenerator`."""
        self._generator.check_levels(levels)

    def propose_levels(self, image: Image, levels: Iterable[int]) -> dict[int, Candidates]:
        """See `CandidateGenerator`."""
        wanted, size = list(levels), (image.shape[0], image.shape[1])
        whole = self._generator.propose_levels(image, wanted)
        parts: dict[int, list[Candidates]] = {level: [whole[level]] for level in wanted}
        tile, overlap = self._settings.tile_size or max(size), self._settings.tile_overlap
        for window in tiles(size, tile, overlap):
            left, top, right, bottom = window
            found = self._generator.propose_levels(np.ascontiguousarray(image[top:bottom, left:right]), wanted)
            for level, some in found.items():
                cut = is_cut_off(some.xyxy, window, size, min(EDGE_REACH, tile * overlap / 4))
                parts[level].append(_moved(some[~cut], window, size))
        return {level: _merged(some) for level, some in parts.items()}


def tiles(size: tuple[int, int], tile: int, overlap: float) -> list[tuple[int, int, int, int]]:
    """Windows xyxy of `tile` pixels that cover an image `(H, W)` evenly; none where one covers it.

    >>> tiles((100, 250), 100, 0.2)
    [(0, 0, 100, 100), (75, 0, 175, 100), (150, 0, 250, 100)]
    """
    starts = []
    for side in size:
        count = 1 if side <= tile else math.ceil((side - tile) / (tile * (1 - overlap))) + 1
        starts.append([round(k * (side - tile) / (count - 1)) for k in range(count)] if count > 1 else [0])
    windows = [
        (left, top, min(left + tile, size[1]), min(top + tile, size[0])) for top in starts[0] for left in starts[1]
    ]
    return windows if len(windows) > 1 else []


def _moved(candidates: Candidates, window: tuple[int, int, int, int], size: tuple[int, int]) -> Candidates:
    """Candidates of a window as those of the frame."""
    shift = np.array([window[0], window[1], window[0], window[1]], np.float32)
    return replace(candidates, xyxy=candidates.xyxy + shift, masks=pasted(candidates.masks, window, size))


MERGED_IOU = 0.7
"""Boxes of a tile and of the frame with a greater IoU are one thing."""


def _merged(parts: Sequence[Candidates]) -> Candidates:
    """Those of the frame first, then those of its tiles, without duplicates; best score first."""
    is_tile = np.concatenate([np.full(len(part), k > 0) for k, part in enumerate(parts)])
    some = [part for part in parts if len(part)]
    if not some:
        return parts[0]
    joined = Candidates.concat(some)
    kept = suppressed(joined.xyxy, joined.score + is_tile.astype(np.float32), MERGED_IOU)
    kept = kept[np.argsort(-joined.score[kept], kind="stable")]
    return replace(joined[kept], id=np.arange(len(kept), dtype=np.int64))


class SalientProposals:
    """The connected parts of what a salient-object model (U²-Net, ISNet and their kin, as ONNX) takes for foreground.

    Args:
        path: the model: an image in, a map `(N, 1, h, w)` out, as probability or logit; of several outputs the first.

    Raises:
        InputError: not such a model.
    """

    def __init__(self, path: Path) -> None:
        self._model = OnnxModel(path, "auto")
        self._input = image_input(self._model, None if _is_fixed(self._model) else 320)
        self._pixels = ISNET_PIXELS if self._input.size == (ISNET_SIDE, ISNET_SIDE) else IMAGENET
        self.files = [path]
        self._map(np.zeros((*self._input.size, 3), np.uint8))

    def check_levels(self, levels: Iterable[int]) -> None:
        """See `CandidateGenerator`."""
        _only(levels, "salient")

    def propose_levels(self, image: Image, levels: Iterable[int]) -> dict[int, Candidates]:
        """See `CandidateGenerator`; such a model knows one granularity, which stands for any one level."""
        level = _only(levels, "salient")
        check_image("salient", image)
        height, width = image.shape[0], image.shape[1]
        fitted, _ = fit(image, self._input.size, "stretch")
        share = cv2.resize(self._map(fitted), (width, height), interpolation=cv2.INTER_LINEAR)
        count, parts, stats, _ = cv2.connectedComponentsWithStats((share > 0.5).view(np.uint8), connectivity=8)
        large = [k for k in range(1, count) if stats[k, cv2.CC_STAT_AREA] >= MIN_SALIENT_AREA * height * width]
        sure = {k: float(share[parts == k].mean()) for k in large}
        order = sorted(large, key=lambda k: (-sure[k], k))
        masks = (
            PackedMasks.from_bool(np.stack([parts == k for k in order])) if order else PackedMasks.empty(height, width)
        )
        candidates = Candidates(
            id=np.arange(len(order), dtype=np.int64),
            xyxy=masks.boxes.astype(np.float32),
            score=np.array([sure[k] for k in order], np.float32),
            area=masks.areas,
            masks=masks,
        )
        return {level: candidates}

    def _map(self, fitted: Image) -> NDArray[np.float32]:
        """`(h, w)` float32 in [0, 1]: the probability of foreground.

        Raises:
            InputError: the first output is no such map, or is not finite.
        """
        outputs = self._model.run({self._input.name: self._input.blob([fitted], self._pixels)})
        values = next(iter(outputs.values()))
        planes = np.asarray(values[0], np.float32) if values.ndim in (3, 4) else np.zeros((0, 0, 0), np.float32)
        plane = planes[0] if planes.ndim == 3 and len(planes) == 1 else planes
        (height, width), (rows, columns) = self._input.size, plane.shape[-2:]
        is_map = plane.ndim == 2 and plane.size > 0
        if not is_map or abs(rows * width - columns * height) > max(height, width, rows, columns):
            text = f"its first output is no map (N, 1, h, w): {described(outputs)}"
            raise InputError(f"{self._model.path}: {text}; a detector is generator detector={self._model.path.name}")
        if not np.isfinite(plane).all():
            raise InputError(f"{self._model.path}: its map holds numbers that are not finite")
        if plane.min() < 0 or plane.max() > 1 + 1e-3:
            plane = 1 / (1 + np.exp(-np.clip(plane, -60, 60)))
        return np.asarray(plane, np.float32)


def _is_fixed(model: OnnxModel) -> bool:
    """The model says the size of its image, or its metadata do."""
    return "imgsz" in model.metadata or all(
        None not in tensor.shape[1:] for tensor in model.inputs if len(tensor.shape) == 4
    )


def _only(levels: Iterable[int], name: str) -> int:
    requested = list(levels)
    if len(requested) != 1:
        remedy = wording("levels=[2]", "--levels 2")
        raise SettingError(f"generator {name} has one granularity, not levels {requested}: ask for one, as {remedy}")
    return requested[0]
