"""Writes and reads the two archives of a level, and draws candidates beside tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import scale_boxes
from trackweave.errors import FrameError, InputError, SettingError
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource, sample_evenly
from trackweave.ids import LocalIndex, TrackId
from trackweave.masks.codecs import decode_mask, encode_mask
from trackweave.masks.ops import mask_iou, rescale_masks
from trackweave.storage.files import write_json
from trackweave.storage.mask_archive import VideoSegments, frame_entry_name, write_object_segments, write_video_segments
from trackweave.storage.run import scaled_npz_path
from trackweave.structures.candidates import CandidateFrame
from trackweave.structures.run_log import RunLog, RunWarning
from trackweave.structures.tracks import FrameObjects, TrackClasses
from trackweave.tracking.candidate_loader import load_scheduled_frame
from trackweave.tracking.pipeline_context import PipelineContext, frame_at, local_positions
from trackweave.visualization.annotators import (
    Colour,
    contact_sheet,
    css,
    draw_objects,
    fit_width,
    track_colour,
    write_png,
)

T = TypeVar("T")

COMPARE_VERSION = 1
MATCHED_IOU = 0.5
UNMATCHED_COLOUR_ID = 0
IMAGE_WIDTH = 960
"""Each half of a comparison is at most so wide: images are for looking at, archives for measuring."""


def _ensure_frames_dir(path: Path) -> Path:
    """Makes the folder that an archive lies in; returns the archive's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


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
    metadata: Mapping[str, object] | None = None,
    *,
    full_resolution_shape: tuple[int, int] | None = None,
    classes: TrackClasses | None = None,
) -> Path:
    """Writes the frame-major archive as a stream; returns its path, which carries the suffix of the ratio.

    Args:
        frames: `FrameResultStore.iter_frames()`.
        path: plain name; `_scale0.3x` is added for a ratio of 0.3.
        mask_scale_ratio: stored size over frame size.
        metadata: goes into the archive's manifest.
        full_resolution_shape: `(H, W)` of the frames.
        classes: of the tracks.

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
        classes=classes,
    )
    return target


def build_object_segments_archive(
    object_manifest: Iterable[tuple[TrackId, NDArray[Any]]] | Mapping[TrackId, NDArray[Any]],
    path: str | Path,
    mask_scale_ratio: float = 1.0,
    metadata: Mapping[str, object] | None = None,
    *,
    mask_shape: tuple[int, int] | None = None,
    full_resolution_shape: tuple[int, int] | None = None,
    classes: TrackClasses | None = None,
) -> Path:
    """Writes the object-major archive (object → references into the frame-major one); returns its path.

    Args:
        object_manifest: `TrackingArtifacts.object_refs`, or a mapping id → `(F,)` REFERENCE_DTYPE.
        path: plain name; the suffix of the ratio is added.
        mask_scale_ratio: stored size over frame size.
        metadata: goes into the archive's manifest.
        mask_shape: `(H, W)` of the stored masks.
        full_resolution_shape: `(H, W)` of the frames.
        classes: of the tracks.

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
        classes=classes,
    )
    return target


@dataclass(frozen=True)
class Comparison:
    """What `save_comparison_proposals` wrote.

    Attributes:
        folder: where the images lie.
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
    colours: Callable[[int], Colour] = track_colour,
) -> Comparison:
    """Draws candidates (left) beside tracks (right) on the preview frames, with a JSON that lists what they show.

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
        colours: the colour of a track.

    Raises:
        RunFolderError: an image cannot be written.
    """
    chosen = set(_apply_sampling_to_frames(list(context.preview_local_indices), sample_stride, max_samples))
    log = RunLog(package="tracking")
    images: list[Path] = []
    listed: list[dict[str, object]] = []
    with VideoSegments(video_segments) as video, _BaseImages(base_frames_dir, context, log) as base:
        for scheduled in context.schedule:
            if scheduled.local not in chosen:
                continue
            # Read again: the masks of a few preview frames are not worth keeping until the level is tracked.
            loaded = load_scheduled_frame(context, scheduled)
            objects = video.frame(loaded.frame)
            matches = _matching_track_ids(loaded, objects)
            path = viz_dir / f"{frame_entry_name(loaded.frame)}.png"
            write_png(path, _comparison_image(base.image(loaded.local), loaded, matches, objects, colours))
            images.append(path)
            listed.append(_listing(path.name, loaded, matches, objects, colours))
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
    return Comparison(viz_dir, images, tuple(log.warnings))


class _BaseImages:
    """Finds the image to draw on: original frame, else sampled frame, else an empty canvas."""

    def __init__(self, base: Path | FrameSource | None, context: PipelineContext, log: RunLog) -> None:
        self._sampled, self._level, self._log = context.frames, context.level, log
        self._opened = ExitStack()
        self._base = base if isinstance(base, FrameSource) else None
        if base is not None and self._base is None:
            try:
                self._base = self._opened.enter_context(open_frames(base))
            except InputError as error:
                self._warn("base-frames-missing", f"sampled frames are drawn instead: {error}")
        self._positions = local_positions(self._base) if self._base is not None else {}

    def image(self, local: LocalIndex) -> NDArray[np.uint8]:
        """The image for a position among the sampled frames, `(H, W, 3)` uint8 RGB."""
        frame, _ = frame_at(self._sampled, local)
        if self._base is not None:
            try:
                return self._base[self._positions[frame]]
            except KeyError:
                self._warn(
                    "base-image-missing", f"frame {frame} is not among the base frames: the sampled one is drawn"
                )
            except FrameError as error:
                self._warn("base-image-unreadable", f"frame {frame}: the sampled one is drawn: {error}")
        try:
            return self._sampled[local]
        except FrameError as error:
            self._warn("frame-unreadable", f"frame {frame}: drawn on an empty canvas: {error}")
            return np.full((*self._sampled.size, 3), 64, np.uint8)

    def _warn(self, code: str, message: str) -> None:
        self._log.warn("compare", code, message, level=int(self._level))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._opened.close()


def _matching_track_ids(proposed: CandidateFrame, objects: FrameObjects) -> NDArray[np.int64]:
    """For each candidate the track that covers it best on the frame; 0 where none reaches half its union."""
    matches = np.full(len(proposed), UNMATCHED_COLOUR_ID, np.int64)
    if not len(proposed) or not len(objects):
        return matches
    candidates = proposed.candidates
    iou = mask_iou(rescale_masks(candidates.masks, *objects.masks.size, method="nearest"), objects.masks)
    best = iou.argmax(axis=1)
    good = iou[np.arange(len(proposed)), best] >= MATCHED_IOU
    matches[good] = objects.track_id[best[good]]
    return matches


def _comparison_image(
    image: NDArray[np.uint8],
    proposed: CandidateFrame,
    matches: NDArray[np.int64],
    objects: FrameObjects,
    colours: Callable[[int], Colour],
) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    canvas = fit_width(image, IMAGE_WIDTH)
    rows, cols = canvas.shape[:2]
    candidates = proposed.candidates
    left = draw_objects(
        canvas,
        matches,
        candidates.masks,
        scale_boxes(candidates.xyxy, cols / candidates.size[1], rows / candidates.size[0]),
        labels=False,
        colours=colours,
    )
    boxes = scale_boxes(objects.xyxy, cols / width, rows / height)
    right = draw_objects(canvas, objects.track_id, objects.masks, boxes, colours=colours)
    return contact_sheet(
        [left, right],
        2,
        [
            f"candidates: {len(proposed)}  frame {proposed.frame}  {proposed.name}",
            f"tracks: {len(objects)}",
        ],
    )


def _listing(
    image: str,
    proposed: CandidateFrame,
    matches: NDArray[np.int64],
    objects: FrameObjects,
    colours: Callable[[int], Colour],
) -> dict[str, object]:
    tracks = [
        {
            "id": int(objects.track_id[row]),
            "colour": css(colours(int(objects.track_id[row]))),
            "box": [round(float(value), 2) for value in objects.xyxy[row]],
            "area": int(objects.area[row]),
            "score": round(float(objects.score[row]), 4),
        }
        for row in range(len(objects))
    ]
    return {
        "frame_idx": int(proposed.frame),
        "frame_name": proposed.name,
        "image": image,
        "candidates": len(proposed),
        "candidate_tracks": [int(track_id) or None for track_id in matches],
        "tracks": tracks,
    }


# Names of the guide.
encode_packed_mask_for_json = encode_mask
decode_packed_mask_from_json = decode_mask
_frame_entry_name = frame_entry_name
