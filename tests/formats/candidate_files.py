"""The same candidates in every layout that is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trackweave.masks.codecs import encode_rle, mask_polygons
from trackweave.masks.packed import PackedMasks

Frames = Mapping[str, NDArray[np.bool_]]
"""Name of a frame without suffix → masks `(N, H, W)` that do not overlap."""


def _rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    return dict(encode_rle(PackedMasks.from_bool(mask[None]))[0])


def _runs(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Not compressed."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [not flat[-1]]])))
    counts = np.diff(np.concatenate([[0], edges])).tolist()
    return {"size": list(mask.shape), "counts": counts}


def _polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    return [ring.ravel().astype(float).tolist() for ring in mask_polygons(PackedMasks.from_bool(mask[None]))[0]]


def _box(mask: NDArray[np.bool_]) -> list[float]:
    x1, y1, x2, y2 = PackedMasks.from_bool(mask[None]).boxes[0].tolist()
    return [x1, y1, x2 - x1, y2 - y1]


def _labels(masks: NDArray[np.bool_], factor: int = 1) -> NDArray[np.int64]:
    return sum(
        (mask.astype(np.int64) * (k + 1) * factor for k, mask in enumerate(masks)), np.zeros(masks.shape[1:], int)
    )


def _coco(root: Path, frames: Frames, shape: Callable[[NDArray[np.bool_]], Any]) -> Path:
    images = [{"id": 7 + k, "file_name": f"{name}.jpg"} for k, name in enumerate(frames)]
    annotations = [
        {"image_id": 7 + k, "segmentation": shape(mask), "bbox": _box(mask), "category_id": n, "iscrowd": 0}
        for k, masks in enumerate(frames.values())
        for n, mask in enumerate(masks)
    ]
    path = root / "coco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
    return path


def coco(root: Path, frames: Frames) -> Path:
    return _coco(root, frames, _rle)


def coco_uncompressed(root: Path, frames: Frames) -> Path:
    return _coco(root, frames, _runs)


def coco_polygons(root: Path, frames: Frames) -> Path:
    return _coco(root, frames, _polygons)


def coco_results(root: Path, frames: Frames) -> Path:
    results = [
        {"image_id": name, "category_id": 3, "score": 0.75, "segmentation": _rle(mask)}
        for name, masks in frames.items()
        for mask in masks
    ]
    path = root / "results.json"
    path.write_text(json.dumps(results))
    return path


def sam_records(mask: NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "segmentation": _rle(mask),
        "bbox": _box(mask),
        "area": int(mask.sum()),
        "predicted_iou": 0.9,
        "stability_score": 0.97,
        "point_coords": [[1.0, 1.0]],
        "crop_box": [0, 0, mask.shape[1], mask.shape[0]],
    }


def sam_lists(root: Path, frames: Frames) -> Path:
    for name, masks in frames.items():
        (root / f"{name}.json").write_text(json.dumps([sam_records(mask) for mask in masks]))
    return root


def sa_1b(root: Path, frames: Frames) -> Path:
    for k, (name, masks) in enumerate(frames.items()):
        image = {"image_id": k, "file_name": f"{name}.jpg", "height": masks.shape[1], "width": masks.shape[2]}
        document = {"image": image, "annotations": [{**sam_records(mask), "id": 5} for mask in masks]}
        (root / f"sa_{k}.json").write_text(json.dumps(document))
    return root


def sam_folders(root: Path, frames: Frames) -> Path:
    for name, masks in frames.items():
        (root / name).mkdir()
        rows = ["id,area,bbox_x0,bbox_y0,bbox_w,bbox_h,predicted_iou,stability_score"]
        for k, mask in enumerate(masks):
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / name / f"{k}.png")
            rows.append(f"{k},{mask.sum()},0,0,1,1,0.9,0.97")
        (root / name / "metadata.csv").write_text("\n".join(rows))
    return root


def frame_folders(root: Path, frames: Frames) -> Path:
    for name, masks in frames.items():
        (root / name).mkdir()
        for k, mask in enumerate(masks):
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / name / f"{k}.png")
    return root


def object_folders(root: Path, frames: Frames) -> Path:
    for name, masks in frames.items():
        for k, mask in enumerate(masks):
            (root / f"object {k}").mkdir(exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / f"object {k}" / f"{name}.png")
    return root


def label_images(root: Path, frames: Frames) -> Path:
    for name, masks in frames.items():
        image = Image.fromarray(_labels(masks).astype(np.uint8))
        image.putpalette(list(range(256)) * 3)
        image.save(root / f"{name}.png")
    return root


def label_images_16(root: Path, frames: Frames) -> Path:
    for name, masks in frames.items():
        Image.fromarray(_labels(masks, 300).astype(np.uint16)).save(root / f"{name}.png")
    return root


def colour_coded(root: Path, frames: Frames) -> Path:
    for name, masks in frames.items():
        labels = _labels(masks, 70001)
        Image.fromarray(np.stack([labels % 256, labels // 256 % 256, labels // 65536], 2).astype(np.uint8)).save(
            root / f"{name}.png"
        )
    return root


def stacks(root: Path, frames: Frames) -> Path:
    for name, masks in frames.items():
        np.save(root / f"{name}.npy", masks)
    return root


def label_arrays(root: Path, frames: Frames) -> Path:
    for name, masks in frames.items():
        np.save(root / f"{name}.npy", _labels(masks).astype(np.int32))
    return root


def packed_stacks(root: Path, frames: Frames) -> Path:
    """As Semantic-SAM's raw candidates are kept."""
    for name, masks in frames.items():
        empty = np.zeros((1, *masks.shape[1:]), np.bool_)
        has_mask = np.array([*[True] * len(masks), False])
        np.savez_compressed(root / f"{name}.npz", masks=np.concatenate([masks, empty]), has_mask=has_mask)
    return root


def one_archive(root: Path, frames: Frames) -> Path:
    path = root / "all.npz"
    np.savez_compressed(path, **{name: masks.astype(np.uint8) for name, masks in frames.items()})  # type: ignore[arg-type]
    return path


def detectron2(root: Path, frames: Frames) -> Path:
    dataset = []
    for name, masks in frames.items():
        annotations = []
        for mask in masks:
            x, y, width, height = _box(mask)
            annotations.append({"bbox": [x, y, x + width, y + height], "bbox_mode": 0, "segmentation": _rle(mask)})
        dataset.append({"file_name": f"/data/{name}.jpg", "height": 1, "width": 1, "annotations": annotations})
    path = root / "dataset.json"
    path.write_text(json.dumps(dataset))
    return path


LAYOUTS: Mapping[str, Callable[[Path, Frames], Path]] = {
    layout.__name__: layout
    for layout in (
        coco, coco_uncompressed, coco_polygons, coco_results, sam_lists, sa_1b, sam_folders, frame_folders,
        object_folders, label_images, label_images_16, colour_coded, stacks, label_arrays, packed_stacks, one_archive,
        detectron2,
    )
}  # fmt: skip
