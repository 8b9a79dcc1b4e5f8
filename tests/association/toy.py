"""Toy frames and samples of association."""

from __future__ import annotations

from typing import Any

import numpy as np

from trackweave.ids import FrameIndex
from trackweave.storage.samples import AssociationSample, SampleMetadata
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import Detections


def toy_state(frame: int = 0, tracks: int = 3, detections: int = 4, width: int | None = 5, **columns: Any) -> Any:
    """A frame whose numbers depend on its index; `columns` replace those of the state.

    Detection k is assigned to track k, the last ones are unmatched; `det` replaces arguments of `Detections.of`.
    """
    rng = np.random.default_rng(frame)
    corner = rng.uniform(0, 50, (max(tracks, detections), 2))
    boxes = np.hstack([corner, corner + rng.uniform(5, 20, corner.shape)]).astype(np.float32)
    ids = 10 + np.arange(tracks, dtype=np.int64)
    assigned = np.full(detections, -1, np.int64)
    assigned[: min(tracks, detections)] = ids[:detections]
    embedding = None if width is None else rng.standard_normal((detections, width))
    det = {
        "xyxy": boxes[:detections],
        "score": rng.random(detections),
        "embedding": embedding,
        **columns.pop("det", {}),
    }
    defaults: dict[str, Any] = {
        "frame": FrameIndex(frame),
        "time": frame / 10,
        "size": (100, 200),
        "track_ids": ids,
        "track_boxes": boxes[:tracks].copy(),
        "track_velocity": rng.normal(size=(tracks, 2)).astype(np.float32),
        "track_age": np.arange(1, tracks + 1, dtype=np.int64),
        "track_gap": np.ones(tracks, np.int64),
        "track_score": rng.random(tracks, np.float32),
        "track_visibility": np.ones(tracks, np.float32),
        "track_class": np.zeros(tracks, np.int64),
        "track_embeddings": None if width is None else rng.standard_normal((tracks, width)).astype(np.float32),
        "detections": Detections.of(**det),
        "det_displacement": np.zeros((detections, 2), np.float32),
        "cost": rng.random((tracks, detections), np.float32),
        "allowed": np.ones((tracks, detections), np.bool_),
        "assigned_track_ids": assigned,
    }
    return AssignmentState(**{**defaults, **columns})


def toy_sample(frame: int = 0, tracks: int = 3, detections: int = 4, width: int = 5, **columns: Any) -> Any:
    """A sample of the schema; `columns` replace those of the sample."""
    rng = np.random.default_rng(frame)
    ids = 10 + np.arange(tracks, dtype=np.int64)
    assigned = np.full(detections, -1, np.int64)
    assigned[: min(tracks, detections)] = ids[:detections]
    defaults: dict[str, Any] = {
        "frame_idx": frame,
        "track_ids": ids,
        "track_features": rng.random((tracks, 10), np.float32),
        "det_features": rng.random((detections, 8), np.float32),
        "track_embeddings": rng.random((tracks, width), np.float32),
        "det_embeddings": rng.random((detections, width), np.float32),
        "cost_matrix": rng.random((tracks, detections), np.float32),
        "mask_matrix": np.ones((tracks, detections), np.float32),
        "assigned_track_ids": assigned,
        "metadata": SampleMetadata(200, 100, 10.0, "toy"),
    }
    return AssociationSample(**{**defaults, **columns})
