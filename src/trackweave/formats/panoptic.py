"""COCO panoptic: an image whose colour is the object at each pixel, and a JSON of the segments; for each level its own.

`R + 256·G + 65536·B` is the id; black is nothing. Format: https://cocodataset.org/#format-data, panoptic segmentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import ArtifactError
from trackweave.formats.davis import frame_stem
from trackweave.masks.ops import crop_at
from trackweave.storage.files import locked_folder, remove_leftovers, replacing, safe_name, write_json
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.tracked_video import Losses, TrackedVideo
from trackweave.structures.tracks import Tracks

LARGEST_ID = (1 << 24) - 1
Json = dict[str, object]


def write_panoptic(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes `panoptic/FRAME.png` and `panoptic.json`; with levels `panoptic_level_2/` and so on, one of each.

    Where objects of a level overlap, which identities do not, the smaller one is on top.

    Raises:
        ArtifactError: the size of the frames is not known, an id beyond 24 bits, a frame whose name cannot be a file's
            or is another's, or a folder that cannot be written.
    """
    info = video.info
    if info.size is None:
        raise ArtifactError(f"{info.name}: the size of its frames is not known")
    stems = [safe_name(frame_stem(name), f"{path}: frame", ArtifactError) for name in info.names]
    if len(set(stems)) < len(stems):
        raise ArtifactError(f"{path}: two frames would both be written to {max(stems, key=stems.count)}.png")
    names = {int(index): f"{stem}.png" for index, stem in zip(info.indices, stems, strict=True)}
    images: list[Json] = [
        {"id": int(index), "file_name": name, "height": info.size[0], "width": info.size[1]}
        for index, name in zip(info.indices, info.names, strict=True)
    ]
    found: dict[int | None, list[Json]] = {}
    files: list[Path] = []
    with locked_folder(path, wait=True):  # two exports do not mix
        remove_leftovers([path])
        levels = _levels(video)
        for index, tracks in video.frames():
            for level in levels:
                rows = tracks if level is None or tracks.level is None else tracks[tracks.level == level]
                labels, segments = _flattened(rows, info.size, losses)
                file = path / _name(level) / names[int(index)]
                _write_png(file, labels)
                files.append(file)
                record: Json = {"image_id": int(index), "file_name": file.name, "segments_info": segments}
                found.setdefault(level, []).append(record)
        for level in levels:
            classes = _categories(found.get(level, []), video)
            file = path / f"{_name(level)}.json"
            write_json(file, {"images": images, "annotations": found.get(level, []), "categories": classes})
            files.append(file)
    return files


def _name(level: int | None) -> str:
    return "panoptic" if level is None else f"panoptic_level_{level}"


def _levels(video: TrackedVideo) -> list[int | None]:
    """The levels of the objects, ascending; of a video without levels one that is None."""
    if not video.has_levels:
        return [None]
    found: set[int] = set()
    for _, tracks in video.frames(with_masks=False):
        if tracks.level is not None:
            found |= set(tracks.level.tolist())
    return [*sorted(found)] or [None]


def _flattened(tracks: Tracks, size: tuple[int, int], losses: Losses) -> tuple[NDArray[np.int64], list[Json]]:
    """`(H, W)` ids, and a record of each object that has a pixel."""
    labels = np.zeros(size, np.int64)
    masks = tracks.masks
    if masks is None:
        losses.add("boxes", "objects have no mask, and are left out", len(tracks))
        return labels, []
    if len(tracks) and not 1 <= tracks.track_id.min() <= tracks.track_id.max() <= LARGEST_ID:
        raise ArtifactError(f"frame {tracks.frame[0]}: an id is not within 1 … {LARGEST_ID}, as panoptic images ask")
    hidden = 0
    for row in np.argsort(-masks.areas, kind="stable").tolist():
        crop = crop_at(masks, row, size)
        if crop is not None:
            inside = crop.inside.view(np.bool_)
            hidden += int((labels[crop.window][inside] > 0).sum())
            labels[crop.window][inside] = tracks.track_id[row]
    losses.add("overlap", "pixels are shared by objects: the smaller one is on top", hidden)
    ids, counts = np.unique(labels, return_counts=True)
    area = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    segments: list[Json] = []
    for row, track_id in enumerate(tracks.track_id.tolist()):
        if track_id in area:
            y, x = np.nonzero(labels == track_id)
            box = [int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1]
            category = int(tracks.class_id[row]) + 1
            segments.append(
                {"id": track_id, "category_id": category, "area": area[track_id], "bbox": box, "iscrowd": 0}
            )
    return labels, segments


def _categories(annotations: list[Json], video: TrackedVideo) -> list[Mapping[str, object]]:
    """The classes that occur; ids are one higher than inside, so that things without class have 0."""
    found: set[int] = set()
    for one in annotations:
        segments = one["segments_info"]
        assert isinstance(segments, list)
        found |= {int(segment["category_id"]) for segment in segments}
    return [{"id": n, "name": video.info.class_name(n - 1), "isthing": 1} for n in sorted(found)]


def _write_png(path: Path, labels: NDArray[np.int64]) -> None:
    from PIL import Image

    image = np.stack([labels & 255, labels >> 8 & 255, labels >> 16], axis=-1).astype(np.uint8)
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")
