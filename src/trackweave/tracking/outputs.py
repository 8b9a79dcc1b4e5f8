"""Encodes results, writes and reads the two archives, and draws candidates beside tracks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import scale_boxes
from trackweave.errors import FrameError, InputError, SettingError
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource, sample_evenly
from trackweave.ids import Level, TrackId
from trackweave.masks.codecs import MaskLike, PackedMaskEntry, decode_entry, encode_entry
from trackweave.masks.ops import mask_iou, rescale_masks
from trackweave.storage.files import write_json
from trackweave.storage.mask_archive import (
    ObjectSegments,
    VideoSegments,
    frame_entry_name,
    write_object_segments,
    write_video_segments,
)
from trackweave.storage.run import scaled_npz_path
from trackweave.structures.candidates import CandidateFrame
from trackweave.structures.run_log import RunWarning
from trackweave.structures.tracks import FrameObjects, Tracks
from trackweave.tracking.candidate_loader import load_filtered_frame_by_index
from trackweave.tracking.pipeline_context import PipelineContext
from trackweave.visualization.annotators import contact_sheet, draw_objects, write_png
from trackweave.visualization.palette import css, track_colour

__all__ = [
    "Comparison",
    "ObjectSegments",
    "VideoSegments",
    "build_object_segments_archive",
    "build_video_segments_archive",
    "decode_packed_mask_from_json",
    "encode_packed_mask_for_json",
    "load_video_segments",
    "save_comparison_proposals",
]

T = TypeVar("T")

COMPARE_VERSION = 1
MATCHED_IOU = 0.5
UNMATCHED_COLOUR_ID = 0
PICTURE_WIDTH = 960
"""Each half of a comparison is drawn at most so wide: pictures are for looking at, archives for measuring."""


def encode_packed_mask_for_json(mask_entry: MaskLike) -> dict[str, Any]:
    """A mask as JSON: `packed_bits_b64`, `shape`, and `full_resolution_shape` when it carries one.

    >>> encode_packed_mask_for_json(np.array([[True, False], [True, True]]))
    {'packed_bits_b64': 'sA==', 'shape': [2, 2]}
    """
    return encode_entry(mask_entry)


def decode_packed_mask_from_json(payload: Mapping[str, Any]) -> PackedMaskEntry:
    """Inverse of `encode_packed_mask_for_json`.

    Raises:
        ValueError: a key is missing, the text is not base64, or its length does not fit `shape`.
    """
    return decode_entry(payload)


def _ensure_frames_dir(path: Path) -> Path:
    """Makes the folder that an archive lies in; returns the archive's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _frame_entry_name(frame_idx: int) -> str:
    """Name of a frame's entries, as the stores name them."""
    return frame_entry_name(frame_idx)


def _normalize_stride(value: Any) -> int:
    """A sampling stride: None and 0 mean every frame.

    Raises:
        SettingError: not a whole number, or negative.
    """
    return _whole_number(value, "stride") or 1


def _normalize_max_samples(value: Any) -> int | None:
    """A cap on the number of frames: None and 0 mean no cap.

    Raises:
        SettingError: not a whole number, or negative.
    """
    return _whole_number(value, "max_samples") or None


def _whole_number(value: Any, what: str) -> int:
    if value is None:
        return 0
    try:
        number = int(value)
        whole = number == float(value)
    except (TypeError, ValueError):
        whole = False
    if not whole or number < 0:
        raise SettingError(f"{what} is a whole number ≥ 0, not {value!r}")
    return number


def _downsample_evenly(values: Sequence[T], target: int) -> list[T]:
    """At most `target` values, evenly, first and last among them."""
    return sample_evenly(values, 1, target)


def _apply_sampling_to_frames(frames: Sequence[T], sample_stride: Any, max_samples: Any) -> list[T]:
    """Stride first, then the cap; first and last frame always stay.

    >>> _apply_sampling_to_frames(list(range(10)), 3, 3)
    [0, 3, 9]
    """
    stride = _normalize_stride(sample_stride)
    return sample_evenly(frames, stride, _normalize_max_samples(max_samples))


def build_video_segments_archive(
    frames: Iterable[FrameObjects],
    path: str | Path,
    mask_scale_ratio: float = 1.0,
    metadata: Mapping[str, Any] | None = None,
    *,
    full_resolution_shape: tuple[int, int] | None = None,
) -> Path:
    """Writes the frame-major archive as a stream; returns its path, which carries the suffix of the ratio.

    Args:
        frames: `FrameResultStore.iter_frames()`.
        path: plain name; `_scale0.3x` is added for a ratio of 0.3.
        mask_scale_ratio: stored size over frame size.
        metadata: goes into the archive's manifest.
        full_resolution_shape: `(H, W)` of the frames.

    Raises:
        RunFolderError: the file cannot be written; an older one is untouched.
    """
    target = _ensure_frames_dir(scaled_npz_path(path, mask_scale_ratio))
    write_video_segments(
        target,
        frames,
        mask_scale_ratio=mask_scale_ratio,
        full_resolution_shape=full_resolution_shape,
        metadata=metadata or {},
    )
    return target


def build_object_segments_archive(
    object_manifest: Iterable[tuple[TrackId, NDArray[Any]]] | Mapping[TrackId, NDArray[Any]],
    path: str | Path,
    mask_scale_ratio: float = 1.0,
    metadata: Mapping[str, Any] | None = None,
    *,
    mask_shape: tuple[int, int] | None = None,
    full_resolution_shape: tuple[int, int] | None = None,
) -> Path:
    """Writes the object-major archive (object → references into the frame-major one); returns its path.

    Args:
        object_manifest: `TrackingArtifacts.object_refs`, or a mapping id → `(F,)` REFERENCE_DTYPE.
        path: plain name; the suffix of the ratio is added.
        mask_scale_ratio: stored size over frame size.
        metadata: goes into the archive's manifest.
        mask_shape: `(H, W)` of the stored masks.
        full_resolution_shape: `(H, W)` of the frames.

    Raises:
        RunFolderError: the file cannot be written; an older one is untouched.
    """
    target = _ensure_frames_dir(scaled_npz_path(path, mask_scale_ratio))
    objects = sorted(object_manifest.items()) if isinstance(object_manifest, Mapping) else object_manifest
    write_object_segments(
        target,
        objects,
        mask_shape=mask_shape,
        mask_scale_ratio=mask_scale_ratio,
        full_resolution_shape=full_resolution_shape,
        metadata=metadata or {},
    )
    return target


def load_video_segments(path: str | Path, *, level: int | None = None) -> Tracks:
    """A whole frame-major archive in memory; `VideoSegments` reads it frame by frame instead."""
    with VideoSegments(Path(path)) as video:
        return Tracks.from_frames(video, level=level)


@dataclass(frozen=True)
class Comparison:
    """What `save_comparison_proposals` made.

    Attributes:
        folder: where the pictures lie.
        images: one per rendered frame.
        warnings: each fallback that was used.
    """

    folder: Path
    images: Sequence[Path] = ()
    warnings: Sequence[RunWarning] = field(default_factory=tuple)


def save_comparison_proposals(
    viz_dir: Path,
    base_frames_dir: Path | FrameSource | None,
    context: PipelineContext,
    video_segments: Path,
    *,
    sample_stride: Any = None,
    max_samples: Any = None,
) -> Comparison:
    """Draws candidates (left) beside tracks (right) on the preview frames, with a JSON that lists what is shown.

    A candidate takes the colour of the track that covers it on that frame, so that pairs can be seen; one without a
    track is grey.

    Args:
        viz_dir: takes `frame_NNNNNN.png` and `compare.json`.
        base_frames_dir: the original images; None = the sampled frames. Where an image is missing, the sampled frame
            is drawn instead, or an empty canvas, and a warning says so.
        context: the level.
        video_segments: its frame-major archive.
        sample_stride: further thinning of the context's preview frames.
        max_samples: likewise, a cap.

    Raises:
        RunFolderError: a picture cannot be written.
    """
    chosen = _apply_sampling_to_frames(list(context.preview_local_indices), sample_stride, max_samples)
    base = _BaseImages(base_frames_dir, context.frames, context.level)
    images: list[Path] = []
    listed: list[dict[str, Any]] = []
    with VideoSegments(video_segments) as video:
        for local in chosen:
            batch = load_filtered_frame_by_index(context.manifest, context.schedule, context.frames, local, context.bad)
            objects = video.frame(batch.abs_index)
            image = base.image(local)
            colours = _matching_track_ids(batch, objects)
            picture = _compare_picture(image, batch, colours, objects)
            path = viz_dir / f"{_frame_entry_name(batch.abs_index)}.png"
            write_png(path, picture)
            images.append(path)
            listed.append(_listing(path.name, batch, colours, objects))
    height, width = context.frames.size
    write_json(
        viz_dir / "compare.json",
        {
            "schema_version": COMPARE_VERSION,
            "level": int(context.level),
            "frame_size": [height, width],
            "frames": listed,
        },
    )
    return Comparison(viz_dir, images, tuple(base.warnings))


class _BaseImages:
    """Finds the picture to draw on: original frame, else sampled frame, else an empty canvas."""

    def __init__(self, base: Path | FrameSource | None, subset: FrameSource, level: Level) -> None:
        self._subset = subset
        self._level = level
        self.warnings: list[RunWarning] = []
        self._base: FrameSource | None = None
        if isinstance(base, FrameSource):
            self._base = base
        elif base is not None:
            try:
                self._base = open_frames(base)
            except InputError as error:
                self._warn("base-frames-missing", f"sampled frames are drawn instead: {error}")
        self._position = {int(index): k for k, index in enumerate(self._base.indices)} if self._base else {}

    def image(self, local: int) -> NDArray[np.uint8]:
        index = int(self._subset.indices[local])
        if self._base is not None:
            try:
                return self._base[self._position[index]]
            except KeyError:
                self._warn(
                    "base-image-missing", f"frame {index} is not among the base frames: the sampled one is drawn"
                )
            except FrameError as error:
                self._warn("base-image-unreadable", f"frame {index}: the sampled one is drawn: {error}")
        try:
            return self._subset[local]
        except FrameError as error:
            self._warn("frame-unreadable", f"frame {index}: drawn on an empty canvas: {error}")
            return np.full((*self._subset.size, 3), 64, np.uint8)

    def _warn(self, code: str, message: str) -> None:
        self.warnings.append(RunWarning("compare", int(self._level), code, message))


def _matching_track_ids(batch: CandidateFrame, objects: FrameObjects) -> NDArray[np.int64]:
    """For each candidate the track that covers it best on the frame; 0 where none reaches half its union."""
    found = np.full(len(batch), UNMATCHED_COLOUR_ID, np.int64)
    if not len(batch) or not len(objects):
        return found
    candidates = batch.candidates
    iou = mask_iou(rescale_masks(candidates.masks, *objects.masks.size, method="nearest"), objects.masks)
    best = iou.argmax(axis=1)
    good = iou[np.arange(len(batch)), best] >= MATCHED_IOU
    found[good] = objects.track_id[best[good]]
    return found


def _compare_picture(
    image: NDArray[np.uint8], batch: CandidateFrame, colours: NDArray[np.int64], objects: FrameObjects
) -> NDArray[np.uint8]:
    import cv2

    height, width = image.shape[:2]
    ratio = min(1.0, PICTURE_WIDTH / width)
    canvas = np.asarray(
        cv2.resize(image, (round(width * ratio), round(height * ratio)), interpolation=cv2.INTER_AREA), np.uint8
    )
    rows, cols = canvas.shape[:2]
    candidates = batch.candidates
    left = draw_objects(
        canvas,
        colours,
        candidates.masks,
        scale_boxes(candidates.xyxy, cols / candidates.size[1], rows / candidates.size[0]),
        labels=False,
    )
    right = draw_objects(
        canvas, objects.track_id, objects.masks, scale_boxes(objects.xyxy, cols / width, rows / height)
    )
    return contact_sheet(
        [left, right],
        2,
        [
            f"candidates: {len(batch)}  frame {batch.abs_index}  {batch.frame_name}",
            f"tracks: {len(objects)}",
        ],
    )


def _listing(image: str, batch: CandidateFrame, colours: NDArray[np.int64], objects: FrameObjects) -> dict[str, Any]:
    tracks = [
        {
            "id": int(objects.track_id[row]),
            "colour": css(track_colour(int(objects.track_id[row]))),
            "box": [round(float(value), 2) for value in objects.xyxy[row]],
            "area": int(objects.area[row]),
            "score": round(float(objects.score[row]), 4),
        }
        for row in range(len(objects))
    ]
    return {
        "frame_idx": int(batch.abs_index),
        "frame_name": batch.frame_name,
        "image": image,
        "candidates": len(batch),
        "candidate_tracks": [int(track_id) or None for track_id in colours],
        "tracks": tracks,
    }
