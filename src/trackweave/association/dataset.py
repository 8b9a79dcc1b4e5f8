"""`TrainingSet`: logged samples as one compact set of arrays that a training draws batches from.

Samples are read once, run by run (`logged_samples`), and shown to the code that computes a scorer's inputs, with the
history that a scorer would have had. After that an epoch only gathers rows.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from trackweave.association.labels import (
    RETURN_MARGIN,
    UNKNOWN,
    Targets,
    TrueIdentities,
    assigned_targets,
    true_targets,
)
from trackweave.association.logged_samples import (
    PERSON,
    PERSON_BLENDED,
    SampleListing,
    assignment_state,
    read_samples,
    reject_blended,
)
from trackweave.association.model_inputs import INPUT_VERSION, FrameBatch, frame_batch
from trackweave.association.sample_features import FEATURE_VERSION
from trackweave.association.settings import MIN_SEQUENCES, DataSettings, data_obstacles
from trackweave.association.track_memory import TrackMemory
from trackweave.errors import ArtifactError, ArtifactVersionError, SettingError, shortened_line, wording
from trackweave.storage.files import parse_json, replacing
from trackweave.storage.npz import ZIP_ERRORS, decode_npy, member_limit, read_member
from trackweave.storage.samples import AssociationSample
from trackweave.structures.assignment import AssignmentState

STORE_VERSION = 1


class DataMetadata(TypedDict, total=False):
    """JSON values about where training data comes from; they travel with the model.

    Attributes:
        fingerprint: hash of the samples' content.
        samples: how many.
        label_sources: who decided the labels.
        labels: as in `DataSettings`.
        feature_version: of the samples.
        embed_dim: width of the samples' embeddings; None: there were none.
        skipped: corrupt files that were left out.
        directories: names of the folders.
    """

    fingerprint: str
    samples: int
    label_sources: list[str]
    labels: str
    feature_version: int
    embed_dim: int | None
    skipped: list[str]
    directories: list[str]


class LabelledFrame(NamedTuple):
    """A frame as a tracker showed it, with its truth.

    Attributes:
        sequence: name of the video.
        state: the frame.
        true_ids: `(D,)` int64 true identities of the detections; None: the tracker's assignment is the label.
    """

    sequence: str
    state: AssignmentState
    true_ids: NDArray[np.int64] | None


_TRACK_ARRAYS = frozenset(
    ("track_frame", "boxes", "ages", "scores", "visibility", "counts", "predicted", "velocity", "lifetime")
) | {"reference_size", "track_overlap", "track_size"}
_DET_ARRAYS = frozenset(("det_frame", "det_boxes", "det_scores", "det_visibility", "det_overlap", "det_size"))
_FILE_KEYS = {"reference_size": "usual", "track_overlap": "track_crowd", "det_overlap": "det_crowd"}
"""Arrays of `FrameBatch` that a cache file holds under another name."""


class _CacheManifest(TypedDict):
    """What a cache file says of its arrays; JSON."""

    store_version: int
    input_version: int
    sequences: list[str]
    facts: DataMetadata


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """F labelled frames of many videos.

    Attributes:
        frames: all frames, one after another.
        targets: of all frames; rows of pairs count from each frame's first pair.
        weight: `(F,)` float32 of each frame in the loss.
        sequence: `(F,)` int64 position of its video in `sequences`.
        frame_idx: `(F,)` int64 frame index in its video.
        sequences: names of the videos.
        metadata: where the data comes from.
    """

    frames: FrameBatch
    targets: Targets
    weight: NDArray[np.float32]
    sequence: NDArray[np.int64]
    frame_idx: NDArray[np.int64]
    sequences: tuple[str, ...]
    metadata: DataMetadata
    _starts: dict[str, NDArray[np.int64]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        counts = {
            "track": np.bincount(self.frames.track_frame, minlength=len(self)),
            "det": np.bincount(self.frames.det_frame, minlength=len(self)),
            "pair": np.bincount(self.frames.track_frame[self.frames.pairs[:, 0]], minlength=len(self)),
        }
        starts = {name: np.concatenate([[0], np.cumsum(count)]) for name, count in counts.items()}
        object.__setattr__(self, "_starts", starts)

    @classmethod
    def from_frames(
        cls, frames: Iterable[LabelledFrame], metadata: DataMetadata, *, return_margin: float = RETURN_MARGIN
    ) -> TrainingSet:
        """A training set from frames as a tracker shows them, without files between.

        Args:
            frames: those of one video follow each other; a new name begins another video.
            metadata: where they come from.
            return_margin: see `labels.RETURN_MARGIN`.

        Raises:
            ArtifactError: there are no frames.
        """
        builder = _TrainingSetBuilder(DataSettings(), return_margin)
        sequence: str | None = None
        for frame in frames:
            if frame.sequence != sequence:
                sequence = frame.sequence
                builder.begin_run(sequence)
            builder.add(frame.state, frame.true_ids)
        return builder.build(metadata)

    @classmethod
    def concat(cls, parts: Sequence[TrainingSet]) -> TrainingSet:
        """Training sets one after another; videos of one name are one video. Metadata is that of the first.

        Raises:
            ValueError: no parts.
        """
        if not parts:
            raise ValueError("no training sets to concatenate")
        names = tuple(dict.fromkeys(name for part in parts for name in part.sequences))
        numbers = {name: number for number, name in enumerate(names)}
        return cls(
            FrameBatch.concat([part.frames for part in parts]),
            _concat_targets([part.targets for part in parts]),
            np.concatenate([part.weight for part in parts]),
            np.concatenate([np.array([numbers[name] for name in part.sequences])[part.sequence] for part in parts]),
            np.concatenate([part.frame_idx for part in parts]),
            names,
            parts[0].metadata,
        )

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def matched_pairs(self) -> int:
        """Pairs that the labels call right."""
        return int(np.count_nonzero(self.targets.tracks >= 0))

    def frame_sizes(self) -> NDArray[np.int64]:
        """`(F,)` tracks and detections of each frame together."""
        return np.diff(self._starts["track"]) + np.diff(self._starts["det"])

    def take(self, frames: NDArray[np.int64]) -> tuple[FrameBatch, Targets]:
        """Some frames as a batch; targets are rows of the batch's pairs."""
        rows = {name: _row_ranges(starts, frames) for name, starts in self._starts.items()}
        counts = {name: starts[frames + 1] - starts[frames] for name, starts in self._starts.items()}
        offsets = {name: np.cumsum(count) - count for name, count in counts.items()}
        arrays: dict[str, NDArray[Any]] = {}
        for name, array in self.frames.arrays().items():
            arrays[name] = array[rows[_kind_of(name)]]
        number = np.arange(len(frames))
        arrays["track_frame"] = np.repeat(number, counts["track"])
        arrays["det_frame"] = np.repeat(number, counts["det"])
        shifts = [offsets[name] - self._starts[name][frames] for name in ("track", "det")]
        arrays["pairs"] = arrays["pairs"] + np.stack([np.repeat(shift, counts["pair"]) for shift in shifts], axis=1)

        def shifted(targets: NDArray[np.int64], name: str) -> NDArray[np.int64]:
            return np.where(targets >= 0, targets + np.repeat(offsets["pair"], counts[name]), targets)

        tracks, detections = self.targets.tracks[rows["track"]], self.targets.detections[rows["det"]]
        return FrameBatch(**arrays), Targets(shifted(tracks, "track"), shifted(detections, "det"))

    def frames_of(self, sequences: Iterable[str]) -> NDArray[np.int64]:
        """Positions of the frames of some videos."""
        numbers = [self.sequences.index(name) for name in sequences]
        return np.flatnonzero(np.isin(self.sequence, numbers))

    def save(self, path: Path | str) -> None:
        """Writes everything as one NPZ.

        Raises:
            ArtifactError: it cannot be written.
        """
        path = Path(path)
        manifest: _CacheManifest = {
            "store_version": STORE_VERSION,
            "input_version": INPUT_VERSION,
            "sequences": list(self.sequences),
            "facts": self.metadata,
        }
        arrays = {f"scene_{_FILE_KEYS.get(name, name)}": array for name, array in self.frames.arrays().items()}
        arrays |= {"tracks": self.targets.tracks, "detections": self.targets.detections}
        arrays |= {name: getattr(self, name) for name in ("weight", "sequence", "frame_idx")}
        try:
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, manifest=np.array(json.dumps(manifest)), **arrays)
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be written: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: Path | str) -> TrainingSet:
        """Reads what `save` wrote.

        Raises:
            ArtifactError: not such a file, or damaged.
            ArtifactVersionError: of another version of the features.
        """
        path = Path(path)
        try:
            with zipfile.ZipFile(path) as file:
                limit = member_limit(path)
                arrays = {
                    name.removesuffix(".npy"): decode_npy(read_member(file, name, limit)) for name in file.namelist()
                }
            manifest: _CacheManifest = parse_json(str(arrays.pop("manifest")))
            versions = (manifest.get("store_version"), manifest.get("input_version"))
        except FileNotFoundError:
            raise ArtifactError(f"{path}: there is no training cache here") from None
        except (*ZIP_ERRORS, KeyError, AttributeError) as error:
            raise _damaged_cache(path, error) from None
        if versions != (STORE_VERSION, INPUT_VERSION):
            raise ArtifactVersionError(
                f"{path}: a training cache of versions {versions}, not {(STORE_VERSION, INPUT_VERSION)}: "
                "make it again from the samples"
            )
        try:
            return _cached_set(arrays, manifest)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise _damaged_cache(path, error) from None


def _damaged_cache(path: Path, error: Exception) -> ArtifactError:
    reason = f"it has no {error}" if isinstance(error, KeyError) else shortened_line(str(error))
    return ArtifactError(f"{path}: not a readable training cache: {reason}: make it again")


def _cached_set(arrays: Mapping[str, NDArray[Any]], manifest: _CacheManifest) -> TrainingSet:
    """The training set of a cache's arrays; any exception says that they do not fit together."""
    names = {f"scene_{key}": name for name, key in _FILE_KEYS.items()}
    frames = {
        names.get(key, key.removeprefix("scene_")): array for key, array in arrays.items() if key.startswith("scene_")
    }
    lengths = {"frame": len(arrays["weight"]), "track": len(frames["track_frame"]), "det": len(frames["det_frame"])}
    lengths["pair"] = len(frames["pairs"])
    for name, array in frames.items():
        kind = _kind_of(name)
        if len(array) != lengths[kind] or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, or not finite")
    sequences = tuple(map(str, manifest["sequences"]))
    for name, rows, stop in (
        ("scene_track_frame", "track", lengths["frame"]),
        ("scene_det_frame", "det", lengths["frame"]),
        ("tracks", "track", lengths["pair"]),
        ("detections", "det", lengths["pair"]),
        ("sequence", "frame", len(sequences)),
        ("frame_idx", "frame", None),
    ):
        column = arrays[name]
        least = UNKNOWN if name in ("tracks", "detections") else 0
        fits = column.shape == (lengths[rows],) and column.dtype.kind == "i"
        if not fits or (len(column) and (column.min() < least or (stop is not None and column.max() >= stop))):
            raise ValueError(f"{name} does not fit the other arrays")
    pairs = frames["pairs"]
    ends = np.array([lengths["track"], lengths["det"]])
    if pairs.dtype.kind != "i" or pairs.shape != (lengths["pair"], 2) or (pairs < 0).any() or (pairs >= ends).any():
        raise ValueError("pairs do not fit the other arrays")
    if arrays["weight"].dtype.kind != "f" or arrays["weight"].ndim != 1 or not np.isfinite(arrays["weight"]).all():
        raise ValueError("weight is not a column of numbers")
    return TrainingSet(
        FrameBatch(**frames),
        Targets(arrays["tracks"], arrays["detections"]),
        arrays["weight"],
        arrays["sequence"],
        arrays["frame_idx"],
        sequences,
        cast(DataMetadata, dict(manifest["facts"])),
    )


def _kind_of(name: str) -> Literal["track", "det", "pair"]:
    """What the rows of an array of a `FrameBatch` belong to."""
    return "track" if name in _TRACK_ARRAYS else "det" if name in _DET_ARRAYS else "pair"


def load_samples(
    directories: Sequence[Path | str], settings: DataSettings | None = None, *, min_sequences: int = MIN_SEQUENCES
) -> TrainingSet:
    """Reads folders of samples for training.

    Args:
        directories: of samples, or of such folders.
        settings: which samples, and which labels are taken for right.
        min_sequences: videos that there must be.

    Raises:
        ArtifactError: a folder or a sample cannot be used, versions are mixed, or there is too little.
        SettingError: the labels that are asked for are not there, or come from a learned scorer.
    """
    settings = settings or DataSettings()
    listing = read_samples(directories, skip_corrupt=settings.skip_corrupt)
    _check_labels(listing, settings)
    builder = _TrainingSetBuilder(settings)
    for run, samples in listing.runs.items():
        builder.add_run(run.sequence, [sample for _, sample in samples])
    training_set = builder.build(
        {
            "fingerprint": fingerprint(sample for _, sample in listing.samples()),
            "samples": listing.count,
            "label_sources": sorted({sample.metadata.label_source for _, sample in listing.samples()}),
            "labels": settings.labels,
            "feature_version": FEATURE_VERSION,
            "embed_dim": builder.embedding_width,
            "skipped": sorted(listing.corrupt),
            "directories": [Path(directory).name for directory in directories],
        }
    )
    require_enough_data(training_set, min_sequences)
    return training_set


def fingerprint(samples: Iterable[AssociationSample]) -> str:
    """A short hash of all samples' content, whatever their order and folders."""
    total = 0
    for sample in samples:
        digest = hashlib.sha256()
        for array in sample.arrays().values():
            digest.update(np.ascontiguousarray(array).tobytes())
        total = (total + int.from_bytes(digest.digest()[:16], "big")) % (1 << 128)
    return f"{total:032x}"


def require_enough_data(training_set: TrainingSet, min_sequences: int = MIN_SEQUENCES) -> None:
    """Refuses a training set that is too small to learn from.

    Raises:
        ArtifactError: too few videos or matched pairs; says how many are missing.
    """
    obstacles = data_obstacles(training_set.matched_pairs, len(training_set.sequences), min_sequences)
    if obstacles:
        raise ArtifactError("; ".join(obstacles))


def _check_labels(listing: SampleListing, settings: DataSettings) -> None:
    for path, sample in listing.samples():
        has_truth = sample.gt_track_ids is not None
        if settings.labels == "truth" and not has_truth:
            continue
        by_tracker = settings.labels == "tracker" or not has_truth
        if by_tracker and not settings.allow_blended:
            reject_blended(path, sample)
    if settings.labels == "truth" and all(sample.gt_track_ids is None for _, sample in listing.samples()):
        raise SettingError(
            f"labels truth: no sample has true identities: use "
            f"{wording('labels=tracker', '--labels tracker')}, or log with truth"
        )


class _TrainingSetBuilder:
    """Collects frames run by run; track memory and identities begin anew with each run.

    Attributes:
        embedding_width: of the samples that were added last; None: they had no embeddings.
    """

    def __init__(self, settings: DataSettings, return_margin: float = RETURN_MARGIN) -> None:
        self.embedding_width: int | None = None
        self._settings = settings
        self._return_margin = return_margin
        self._frames: list[FrameBatch] = []
        self._targets: list[Targets] = []
        self._weights: list[float] = []
        self._sequences: list[str] = []
        self._indices: list[int] = []

    def begin_run(self, sequence: str) -> None:
        """Begins a run of a video."""
        self._sequence, self._is_partial = sequence, False
        self._memory, self._identities = TrackMemory(), TrueIdentities(self._return_margin)

    def add_run(self, sequence: str, samples: list[AssociationSample]) -> None:
        """Adds the samples of one run that have the labels that are asked for; the others only feed the memory."""
        self.begin_run(sequence)
        suspects = _tracks_near_suspicions(samples, self._settings.suspect_frames)
        self._is_partial = any(sample.metadata.label_source in (PERSON, PERSON_BLENDED) for sample in samples)
        for sample in samples:
            state = assignment_state(sample)
            truth = sample.gt_track_ids if self._settings.labels != "tracker" else None
            if truth is None and self._settings.labels == "truth":
                self._memory.update(state)
                continue
            if state.track_embeddings is not None:
                self.embedding_width = state.track_embeddings.shape[1]
            self.add(state, truth, suspects.get(sample.frame_idx))

    def add(self, state: AssignmentState, truth: NDArray[np.int64] | None, suspects: set[int] | None = None) -> None:
        """Adds one frame, then its assignment to memory and identities.

        Args:
            state: the frame.
            truth: `(D,)` true identities; None: the tracker's assignment is the label.
            suspects: tracks whose assignment is not learned from.
        """
        if len(state.track_ids) and len(state.detections):
            frame = frame_batch(state, self._memory, state.size or (1, 1))
            targets = self._frame_targets(frame, state, truth, suspects)
            by_tracker = truth is None and self._settings.labels != "tracker"
            self._frames.append(frame)
            self._targets.append(targets)
            self._weights.append(self._settings.tracker_weight if by_tracker else 1.0)
            self._sequences.append(self._sequence)
            self._indices.append(int(state.frame))
        self._memory.update(state)
        if truth is not None:
            self._identities.update(int(state.frame), state.assigned_track_ids, truth)

    def _frame_targets(
        self, frame: FrameBatch, state: AssignmentState, truth: NDArray[np.int64] | None, suspects: set[int] | None
    ) -> Targets:
        if truth is not None:
            identities, support = self._identities.at(int(state.frame), state.track_ids)
            targets = true_targets(frame.pairs, identities, truth, support, is_partial=self._is_partial)
        else:
            targets = assigned_targets(frame.pairs, state.track_ids, state.assigned_track_ids)
            if suspects:
                targets.tracks[np.isin(state.track_ids, list(suspects))] = UNKNOWN
                targets.detections[np.isin(state.assigned_track_ids, list(suspects))] = UNKNOWN
        settings = self._settings
        ignored = (frame.det_scores < settings.min_score) | (frame.det_visibility < settings.min_visibility)
        targets.detections[ignored] = UNKNOWN
        if len(frame.pairs):
            partner = frame.pairs[np.maximum(targets.tracks, 0), 1]
            targets.tracks[(targets.tracks >= 0) & ignored[partner]] = UNKNOWN
        return targets

    def build(self, metadata: DataMetadata) -> TrainingSet:
        """All frames that were added.

        Raises:
            ArtifactError: there are none.
        """
        if not self._frames:
            raise ArtifactError("no frame can be learned from: there are no samples with the labels that are asked for")
        names = tuple(dict.fromkeys(self._sequences))
        numbers = {name: number for number, name in enumerate(names)}
        return TrainingSet(
            FrameBatch.concat(self._frames),
            _concat_targets(self._targets),
            np.array(self._weights, np.float32),
            np.array([numbers[name] for name in self._sequences], np.int64),
            np.array(self._indices, np.int64),
            names,
            metadata,
        )


def _concat_targets(parts: Sequence[Targets]) -> Targets:
    return Targets(np.concatenate([part.tracks for part in parts]), np.concatenate([part.detections for part in parts]))


def _tracks_near_suspicions(samples: list[AssociationSample], reach: int) -> dict[int, set[int]]:
    """Frame → tracks that are suspected of a switch within `reach` frames."""
    near: dict[int, set[int]] = {}
    for sample in samples:
        tracks = sample.metadata.diagnostics.suspect_tracks
        for frame in range(sample.frame_idx - reach, sample.frame_idx + reach + 1) if tracks else ():
            near.setdefault(frame, set()).update(tracks)
    return near


def _row_ranges(starts: NDArray[np.int64], frames: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows `starts[f] … starts[f + 1] − 1` of each frame, one frame after another."""
    first, count = starts[frames], starts[frames + 1] - starts[frames]
    ends = np.cumsum(count)
    rows = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(first - (ends - count), count)
    return np.asarray(rows, np.int64)
