"""Logged samples read back: `read_samples` lists those of folders run by run, `assignment_state` undoes one.

The state is that which the tracker showed to its observers, so the code that computes a scorer's inputs while tracking
computes those of a training, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trackweave.association.sample_features import AGE_UNIT, FEATURE_VERSION, GAP_UNIT
from trackweave.association.track_memory import DEFAULT_FPS
from trackweave.errors import ArtifactError, SettingError, wording
from trackweave.ids import FrameIndex
from trackweave.storage.samples import AssociationSample, read_sample, sample_number
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import Detections

UNIT_SIZE = (1000, 1000)
"""`(H, W)` of frames of unknown size: boxes of samples are shares of the frame, and only ratios matter to a model."""
BLENDED = "tracker+scorer"
"""`label_source` of samples whose assignment a learned scorer took part in: no labels for another training."""
PERSON, PERSON_BLENDED = "person", "person+scorer"
"""`label_source` of samples whose true identities are the answers of a person, on a log of the classical cost or of a
learned scorer: boxes that nobody said anything about have none."""
LARGEST_FEATURE = 1e12
"""Times the largest size of a frame it fits float32, times the unit of ages int64."""


class RunKey(NamedTuple):
    """What tells runs apart: folder, video, logger, and a number where samples do not name their logger."""

    folder: str
    sequence: str
    logger: str | None
    part: int


@dataclass
class SampleListing:
    """What folders of samples hold.

    Attributes:
        runs: samples with their files; each run in the order of writing.
        corrupt: file → what is wrong with it.
    """

    runs: dict[RunKey, list[tuple[Path, AssociationSample]]]
    corrupt: dict[str, str]

    @property
    def count(self) -> int:
        """Samples that could be read."""
        return sum(map(len, self.runs.values()))

    def samples(self) -> Iterator[tuple[Path, AssociationSample]]:
        """Every sample with its file, run by run."""
        for run in self.runs.values():
            yield from run


def read_samples(directories: Sequence[Path | str], *, skip_corrupt: bool = False) -> SampleListing:
    """Reads every sample of several folders, by run.

    Args:
        directories: folders of samples; folders of such folders are searched as well.
        skip_corrupt: leave files out that cannot be used, instead of stopping at the first.

    Raises:
        ArtifactError: a folder is missing or holds no samples, a sample cannot be used, or samples have several
            versions of features.
    """
    listing = SampleListing({}, {})
    versions: dict[int, Path] = {}
    parts: dict[tuple[str, str, str | None], int] = {}
    last_frame: dict[tuple[str, str, str | None], int] = {}
    for path in _sample_files(directories):
        try:
            sample = read_sample(path)
            _check_features(path, sample)
        except ArtifactError as error:
            if not skip_corrupt:
                raise ArtifactError(
                    f"{error} ({wording('skip_corrupt=True', '--skip-corrupt')} leaves such samples out)"
                ) from error
            listing.corrupt[str(path)] = str(error)
            continue
        versions.setdefault(sample.metadata.feature_version, path)
        key = (str(path.parent), sample.metadata.sequence or path.parent.name, sample.metadata.run)
        if key in last_frame and sample.frame_idx <= last_frame[key]:  # frame numbers start again: another run
            parts[key] = parts.get(key, 0) + 1
        last_frame[key] = sample.frame_idx
        listing.runs.setdefault(RunKey(*key, parts.get(key, 0)), []).append((path, sample))
    _check_versions(versions)
    return listing


def _check_features(path: Path, sample: AssociationSample) -> None:
    """Refuses features that no tracker computes, which would overflow on the way to the model's inputs."""
    for name in ("track_features", "det_features"):
        if np.abs(getattr(sample, name)).max(initial=0) > LARGEST_FEATURE:
            raise ArtifactError(f"{path}: {name} holds values beyond ±{LARGEST_FEATURE:g}")


def _sample_files(directories: Sequence[Path | str]) -> Iterator[Path]:
    if not directories:
        raise ArtifactError("no folder of samples is given")
    for directory in map(Path, directories):
        if not directory.is_dir():
            raise ArtifactError(f"{directory}: there is no such folder of samples")
        files = [path for path in directory.rglob("sample_*.npz") if sample_number(path.name) is not None]
        if not files:
            raise ArtifactError(f"{directory}: holds no samples (sample_0000000.npz, …)")
        yield from sorted(files, key=lambda path: (str(path.parent), sample_number(path.name) or 0))


def _check_versions(versions: Mapping[int, Path]) -> None:
    if len(versions) > 1:
        named = ", ".join(f"{version} ({path})" for version, path in sorted(versions.items()))
        raise ArtifactError(f"samples of several feature versions cannot be mixed: {named}")
    for version, path in versions.items():
        if version != FEATURE_VERSION:
            raise ArtifactError(
                f"{path}: features of version {version}; this version reads {FEATURE_VERSION}: log again"
            )


def assignment_state(sample: AssociationSample) -> AssignmentState:
    """The state that a sample was made of; its boxes come back to the accuracy of float32."""
    metadata = sample.metadata
    size = UNIT_SIZE if metadata.height is None or metadata.width is None else (metadata.height, metadata.width)
    extents = np.array([size[1], size[0]] * 2, np.float32)
    tracks, detections = sample.track_features, sample.det_features
    has_embeddings = bool(sample.track_embeddings.any()) or bool(sample.det_embeddings.any())
    return AssignmentState(
        frame=FrameIndex(sample.frame_idx),
        time=metadata.time if metadata.time is not None else sample.frame_idx / (metadata.fps or DEFAULT_FPS),
        size=size,
        track_ids=sample.track_ids,
        track_boxes=tracks[:, :4] * extents,
        track_velocity=tracks[:, 4:6] * extents[:2],
        track_age=np.rint(tracks[:, 6] * AGE_UNIT).astype(np.int64),
        track_gap=np.rint(tracks[:, 7] * GAP_UNIT).astype(np.int64),
        track_score=tracks[:, 8],
        track_visibility=tracks[:, 9],
        track_class=np.zeros(len(tracks), np.int64),
        track_embeddings=sample.track_embeddings if has_embeddings else None,
        detections=Detections(
            detections[:, :4] * extents,
            detections[:, 4],
            np.zeros(len(detections), np.int64),
            embedding=sample.det_embeddings if has_embeddings else None,
            visibility=detections[:, 5],
        ),
        det_displacement=detections[:, 6:8] * extents[:2],
        cost=sample.cost_matrix,
        allowed=sample.mask_matrix > 0,
        assigned_track_ids=sample.assigned_track_ids,
        suspect_tracks=np.array(metadata.diagnostics.suspect_tracks, np.int64),
        camera=None if metadata.camera is None else np.array(metadata.camera, np.float64).reshape(2, 3),
    )


def reject_blended(path: Path, sample: AssociationSample) -> None:
    """Refuses labels that a learned scorer took part in: a model would learn from itself.

    Raises:
        SettingError: the sample holds such labels.
    """
    if sample.metadata.label_source in (BLENDED, PERSON_BLENDED):
        raise SettingError(
            f"{path}: a learned scorer took part in these decisions: a model would learn from itself; "
            f"use samples with truth or of the classical cost, or {wording('allow_blended=True', '--allow-blended')}"
        )
