"""Logged samples as the frames that a tracker showed: what was logged is judged and learned from by the same code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trackweave.association.features import AGE_UNIT, FEATURE_VERSION, GAP_UNIT
from trackweave.association.history import ASSUMED_RATE
from trackweave.errors import ArtifactError
from trackweave.ids import FrameIndex
from trackweave.storage.samples import AssociationSample, read_sample, sample_number
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import Detections

UNIT_SIZE = (1000, 1000)
"""`(H, W)` of frames whose samples do not tell: boxes are shares of the frame there, and only ratios count."""


@dataclass
class SampleListing:
    """What folders of samples hold.

    Attributes:
        runs: samples with their files, by folder, sequence, logger and part; each run in the order of writing.
        corrupt: file → what is wrong with it.
    """

    runs: dict[tuple[str, str, str | None, int], list[tuple[Path, AssociationSample]]]
    corrupt: dict[str, str]

    @property
    def count(self) -> int:
        """Samples that could be read."""
        return sum(map(len, self.runs.values()))


def read_samples(directories: Sequence[Path | str], *, skip_corrupt: bool = False) -> SampleListing:
    """Reads every sample of several folders, by run.

    Args:
        directories: folders of samples; folders of such folders are looked through as well.
        skip_corrupt: leave files out that cannot be used, instead of stopping at the first.

    Raises:
        ArtifactError: a folder is not there, holds no samples, or a sample cannot be used; samples of several versions
            of features.
    """
    runs: dict[tuple[str, str, str | None, int], list[tuple[Path, AssociationSample]]] = {}
    corrupt: dict[str, str] = {}
    versions: dict[int, Path] = {}
    parts: dict[tuple[str, str, str | None], int] = {}
    last: dict[tuple[str, str, str | None], int] = {}
    for path in _files(directories):
        try:
            sample = read_sample(path)
        except ArtifactError as error:
            if not skip_corrupt:
                raise ArtifactError(f"{error} (--skip-corrupt leaves such samples out)") from error
            corrupt[str(path)] = str(error)
            continue
        versions.setdefault(sample.metadata.feature_version, path)
        name = sample.metadata.sequence or path.parent.name
        key = (str(path.parent), name, sample.metadata.run)
        if key in last and sample.frame_idx <= last[key]:  # samples that do not name their run: another one began
            parts[key] = parts.get(key, 0) + 1
        last[key] = sample.frame_idx
        runs.setdefault((*key, parts.get(key, 0)), []).append((path, sample))
    _check_versions(versions)
    return SampleListing(runs, corrupt)


def _files(directories: Sequence[Path | str]) -> Iterator[Path]:
    if not directories:
        raise ArtifactError("no folder of samples is given")
    for directory in map(Path, directories):
        if not directory.is_dir():
            raise ArtifactError(f"{directory}: there is no such folder of samples")
        found = [path for path in directory.rglob("sample_*.npz") if sample_number(path.name) is not None]
        if not found:
            raise ArtifactError(f"{directory}: holds no samples (sample_0000000.npz, …)")
        yield from sorted(found, key=lambda path: (str(path.parent), sample_number(path.name) or 0))


def _check_versions(versions: Mapping[int, Path]) -> None:
    wrong = {version: path for version, path in versions.items() if version != FEATURE_VERSION}
    if len(versions) > 1:
        named = ", ".join(f"{version} ({path})" for version, path in sorted(versions.items()))
        raise ArtifactError(f"samples of several feature versions cannot be mixed: {named}")
    for version, path in wrong.items():
        raise ArtifactError(f"{path}: features of version {version}; this version reads {FEATURE_VERSION}: log again")


def state_of(sample: AssociationSample) -> AssignmentState:
    """A sample as the frame it was made of; its boxes come back to the accuracy of float32."""
    told = sample.metadata
    size = UNIT_SIZE if told.height is None or told.width is None else (told.height, told.width)
    extents = np.array([size[1], size[0]] * 2, np.float32)
    tracks, found = sample.track_features, sample.det_features
    embedded = bool(sample.track_embeddings.any()) or bool(sample.det_embeddings.any())
    camera = None if told.camera is None else np.array(told.camera, np.float64).reshape(2, 3)
    detections = Detections(
        found[:, :4] * extents,
        found[:, 4],
        np.zeros(len(found), np.int64),
        embedding=sample.det_embeddings if embedded else None,
        visibility=found[:, 5],
    )
    return AssignmentState(
        frame=FrameIndex(sample.frame_idx),
        time=told.time if told.time is not None else sample.frame_idx / (told.fps or ASSUMED_RATE),
        size=size,
        track_ids=sample.track_ids,
        track_boxes=tracks[:, :4] * extents,
        track_velocity=tracks[:, 4:6] * extents[:2],
        track_age=np.rint(tracks[:, 6] * AGE_UNIT).astype(np.int64),
        track_gap=np.rint(tracks[:, 7] * GAP_UNIT).astype(np.int64),
        track_score=tracks[:, 8],
        track_visibility=tracks[:, 9],
        track_class=np.zeros(len(tracks), np.int64),
        track_embeddings=sample.track_embeddings if embedded else None,
        detections=detections,
        det_displacement=found[:, 6:8] * extents[:2],
        cost=sample.cost_matrix,
        allowed=sample.mask_matrix > 0,
        assigned_track_ids=sample.assigned_track_ids,
        suspect_tracks=np.array(told.diagnostics.suspect_tracks, np.int64),
        camera=camera,
    )
