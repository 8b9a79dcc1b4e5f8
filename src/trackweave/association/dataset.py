"""`SceneStore`: logged samples as one compact set of arrays that a training draws batches from.

Samples are read once, run by run, with the history that a scorer would have had; after that an epoch only gathers rows.

Logged samples as the frames that a tracker showed: what was logged is judged and learned from by the same code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.association.labels import UNKNOWN, Targets, TrueIdentities, decided_targets, true_targets
from trackweave.association.model_inputs import INPUT_VERSION, Scenes, concat, scene_of
from trackweave.association.sample_features import AGE_UNIT, FEATURE_VERSION, GAP_UNIT
from trackweave.association.settings import DataSettings
from trackweave.association.track_memory import ASSUMED_RATE, TrackHistory
from trackweave.errors import ArtifactError, ArtifactVersionError, SettingError
from trackweave.ids import FrameIndex
from trackweave.storage.files import replacing
from trackweave.storage.npz import ZIP_ERRORS
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


BLENDED = "tracker+scorer"
"""`label_source` of samples whose decisions a learned scorer took part in: no labels for another training."""
STORE_VERSION = 1
LEAST_SEQUENCES, LEAST_PAIRS = 2, 200
"""Less than this cannot be split and learned from."""

_TRACKS = frozenset(
    ("track_frame", "boxes", "ages", "scores", "visibility", "counts", "predicted", "velocity", "lifetime", "usual")
) | {"track_crowd", "track_size"}
_DETS = frozenset(("det_frame", "det_boxes", "det_scores", "det_visibility", "det_crowd", "det_size"))


@dataclass(frozen=True, eq=False)
class SceneStore:
    """Frames of many videos.

    Attributes:
        scenes: all frames, one after another.
        targets: of all frames; rows of pairs count from each frame's first pair.
        weight: `(F,)` float32 of each frame in the loss.
        sequence: `(F,)` int64 row of `sequences`.
        frame_idx: `(F,)` int64 frame index in its video.
        sequences: names of the videos.
        facts: JSON values about where this comes from: fingerprint, label sources, embedding width, counts.
    """

    scenes: Scenes
    targets: Targets
    weight: NDArray[np.float32]
    sequence: NDArray[np.int64]
    frame_idx: NDArray[np.int64]
    sequences: tuple[str, ...]
    facts: dict[str, Any]
    _starts: dict[str, NDArray[np.int64]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        frames = len(self.weight)
        each = {
            "track": np.bincount(self.scenes.track_frame, minlength=frames),
            "det": np.bincount(self.scenes.det_frame, minlength=frames),
        }
        each["pair"] = np.bincount(self.scenes.track_frame[self.scenes.pairs[:, 0]], minlength=frames)
        starts = {name: np.concatenate([[0], np.cumsum(count)]) for name, count in each.items()}
        object.__setattr__(self, "_starts", starts)

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def matched_pairs(self) -> int:
        """Pairs that the labels call right."""
        return int(np.count_nonzero(self.targets.tracks >= 0))

    def sizes(self) -> NDArray[np.int64]:
        """`(F,)` tracks and detections of each frame together."""
        return np.diff(self._starts["track"]) + np.diff(self._starts["det"])

    def take(self, frames: NDArray[np.int64]) -> tuple[Scenes, Targets]:
        """Some frames as a batch; targets are rows of the batch's pairs."""
        rows = {name: _ranges(starts, frames) for name, starts in self._starts.items()}
        each = {name: starts[frames + 1] - starts[frames] for name, starts in self._starts.items()}
        before = {name: np.cumsum(count) - count for name, count in each.items()}
        found: dict[str, NDArray[Any]] = {}
        for name, array in self.scenes.arrays().items():
            kind = "track" if name in _TRACKS else "det" if name in _DETS else "pair"
            found[name] = array[rows[kind]]
        number = np.arange(len(frames))
        found["track_frame"] = np.repeat(number, each["track"])
        found["det_frame"] = np.repeat(number, each["det"])
        moved = [before[name] - self._starts[name][frames] for name in ("track", "det")]
        found["pairs"] = found["pairs"] + np.stack([np.repeat(move, each["pair"]) for move in moved], axis=1)
        targets = [
            np.where(part >= 0, part + np.repeat(before["pair"], each[name]), part)
            for name, part in (
                ("track", self.targets.tracks[rows["track"]]),
                ("det", self.targets.detections[rows["det"]]),
            )
        ]
        return Scenes(**found), Targets(*targets)

    def of_sequences(self, wanted: Iterable[str]) -> NDArray[np.int64]:
        """Frames of some videos."""
        numbers = [self.sequences.index(name) for name in wanted]
        return np.flatnonzero(np.isin(self.sequence, numbers))

    def save(self, path: Path | str) -> None:
        """Writes everything as one NPZ.

        Raises:
            ArtifactError: it cannot be written.
        """
        path = Path(path)
        told = {
            "store_version": STORE_VERSION,
            "input_version": INPUT_VERSION,
            "sequences": list(self.sequences),
            "facts": self.facts,
        }
        arrays = {f"scene_{name}": array for name, array in self.scenes.arrays().items()}
        arrays |= {"tracks": self.targets.tracks, "detections": self.targets.detections}
        arrays |= {name: getattr(self, name) for name in ("weight", "sequence", "frame_idx")}
        try:
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, manifest=np.array(json.dumps(told)), **arrays)
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be written: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: Path | str) -> SceneStore:
        """Reads what `save` wrote.

        Raises:
            ArtifactError: not such a file, or damaged.
            ArtifactVersionError: of another version of the features.
        """
        path = Path(path)
        try:
            with np.load(path, allow_pickle=False) as file:
                told = json.loads(str(file["manifest"]))
                arrays = {name: file[name] for name in file.files if name != "manifest"}
        except FileNotFoundError:
            raise ArtifactError(f"{path}: there is no training cache here") from None
        except (*ZIP_ERRORS, ValueError, KeyError) as error:
            raise ArtifactError(f"{path}: not a readable training cache: {error}: make it again") from None
        versions = (told.get("store_version"), told.get("input_version"))
        if versions != (STORE_VERSION, INPUT_VERSION):
            raise ArtifactVersionError(
                f"{path}: a training cache of versions {versions}, not {(STORE_VERSION, INPUT_VERSION)}: "
                "make it again from the samples"
            )
        scenes = Scenes(**{name.removeprefix("scene_"): arrays[name] for name in arrays if name.startswith("scene_")})
        return cls(
            scenes,
            Targets(arrays["tracks"], arrays["detections"]),
            arrays["weight"],
            arrays["sequence"],
            arrays["frame_idx"],
            tuple(told["sequences"]),
            told["facts"],
        )


def load_samples(
    directories: Sequence[Path | str],
    settings: DataSettings | None = None,
    *,
    least_sequences: int = LEAST_SEQUENCES,
) -> SceneStore:
    """Reads folders of samples for training.

    Args:
        directories: of samples, or of such folders.
        settings: which samples, and what is taken for right.
        least_sequences: videos that there must be.

    Raises:
        ArtifactError: a folder or a sample cannot be used, versions are mixed, or there is too little.
        SettingError: the labels that are asked for are not there, or come from a learned scorer.
    """
    how = settings or DataSettings()
    listing = read_samples(directories, skip_corrupt=how.skip_corrupt)
    _check_labels(listing, how)
    gathered = _Gathered()
    for (_, sequence, _, _), samples in listing.runs.items():
        _gather_run(sequence, [sample for _, sample in samples], how, gathered)
    facts = {
        "fingerprint": fingerprint(sample for run in listing.runs.values() for _, sample in run),
        "samples": listing.count,
        "label_sources": sorted({one.metadata.label_source for run in listing.runs.values() for _, one in run}),
        "labels": how.labels,
        "feature_version": FEATURE_VERSION,
        "embed_dim": gathered.width,
        "skipped": sorted(listing.corrupt),
        "directories": [Path(directory).name for directory in directories],
    }
    store = gathered.store(facts)
    check_enough(store, least_sequences)
    return store


Shown = tuple[str, AssignmentState, NDArray[np.int64] | None]
"""Name of the video, frame, and `(D,)` true identities; None: the tracker's decisions count."""


def store_of(states: Iterable[Shown], facts: dict[str, Any]) -> SceneStore:
    """A store from frames as a tracker shows them, without files between.

    Args:
        states: frames of one video follow each other; a new name begins another.
        facts: as in `SceneStore`.

    Raises:
        ArtifactError: there are no frames.
    """
    gathered = _Gathered()
    name: str | None = None
    for sequence, state, truth in states:
        if sequence != name:
            name, history, identities = sequence, TrackHistory(), TrueIdentities()
        _gather(sequence, state, truth, DataSettings(), history, identities, gathered)
    return gathered.store(facts)


def join_stores(stores: Sequence[SceneStore]) -> SceneStore:
    """Stores one after another; videos of one name are one video. Facts are those of the first.

    Raises:
        ValueError: nothing to put together.
    """
    if not stores:
        raise ValueError("no stores to put together")
    names = tuple(dict.fromkeys(name for store in stores for name in store.sequences))
    numbers = {name: number for number, name in enumerate(names)}
    return SceneStore(
        concat([store.scenes for store in stores]),
        Targets(
            np.concatenate([store.targets.tracks for store in stores]),
            np.concatenate([store.targets.detections for store in stores]),
        ),
        np.concatenate([store.weight for store in stores]),
        np.concatenate([np.array([numbers[name] for name in store.sequences])[store.sequence] for store in stores]),
        np.concatenate([store.frame_idx for store in stores]),
        names,
        stores[0].facts,
    )


def fingerprint(samples: Iterable[AssociationSample]) -> str:
    """A short hash of all samples' content, whatever their order and folders."""
    total = 0
    for sample in samples:
        digest = hashlib.sha256()
        for array in sample.arrays().values():
            digest.update(np.ascontiguousarray(array).tobytes())
        total = (total + int.from_bytes(digest.digest()[:16], "big")) % (1 << 128)
    return f"{total:032x}"


def check_enough(store: SceneStore, least_sequences: int = LEAST_SEQUENCES) -> None:
    """Refuses what cannot be learned from.

    Raises:
        ArtifactError: too few videos or matched pairs; says how many are missing.
    """
    matched, videos = store.matched_pairs, len(store.sequences)
    if matched < LEAST_PAIRS:
        raise ArtifactError(
            f"{matched} matched pairs are too few to learn from: {LEAST_PAIRS - matched} more are the least, "
            "5,000 to 10,000 are a first training run: log more video"
        )
    if videos < least_sequences:
        raise ArtifactError(
            "all samples are of one video, and training and validation are split by video: log at least one more "
            "(--sequence names it)"
        )


def refuse_blended(path: Path, sample: AssociationSample) -> None:
    """A model that learned from decisions that a model took part in would learn from itself.

    Raises:
        SettingError: the sample holds such.
    """
    if sample.metadata.label_source == BLENDED:
        raise SettingError(
            f"{path}: a learned scorer took part in these decisions: a model would learn from itself; "
            "use samples with truth or of the classical cost, or --allow-blended"
        )


def _check_labels(listing: SampleListing, how: DataSettings) -> None:
    for run in listing.runs.values():
        for path, sample in run:
            known = sample.gt_track_ids is not None
            if how.labels == "truth" and not known:
                continue
            learned = how.labels == "tracker" or not known
            if learned and not how.allow_blended:
                refuse_blended(path, sample)
    if how.labels == "truth" and not any(
        one.gt_track_ids is not None for run in listing.runs.values() for _, one in run
    ):
        raise SettingError("labels truth: no sample has true identities: use --labels tracker, or log with truth")


class _Gathered:
    """Frames on their way into a store."""

    def __init__(self) -> None:
        self.scenes: list[Scenes] = []
        self.targets: list[Targets] = []
        self.weights: list[float] = []
        self.names: list[str] = []
        self.frames: list[int] = []
        self.width: int | None = None

    def store(self, facts: dict[str, Any]) -> SceneStore:
        if not self.scenes:
            raise ArtifactError("no frame can be learned from: there are no samples with the labels that are asked for")
        names = tuple(dict.fromkeys(self.names))
        numbers = {name: number for number, name in enumerate(names)}
        return SceneStore(
            concat(self.scenes),
            Targets(
                np.concatenate([one.tracks for one in self.targets]),
                np.concatenate([one.detections for one in self.targets]),
            ),
            np.array(self.weights, np.float32),
            np.array([numbers[name] for name in self.names], np.int64),
            np.array(self.frames, np.int64),
            names,
            facts,
        )


def _gather_run(sequence: str, samples: list[AssociationSample], how: DataSettings, gathered: _Gathered) -> None:
    history, identities = TrackHistory(), TrueIdentities()
    near = _near_suspects(samples, how.suspect_frames)
    for sample in samples:
        truth = sample.gt_track_ids if how.labels != "tracker" else None
        if truth is None and how.labels == "truth":
            history.learn(state_of(sample))
            continue
        state = state_of(sample)
        if state.track_embeddings is not None:
            gathered.width = state.track_embeddings.shape[1]
        _gather(sequence, state, truth, how, history, identities, gathered, near.get(sample.frame_idx))


def _gather(
    sequence: str,
    state: AssignmentState,
    truth: NDArray[np.int64] | None,
    how: DataSettings,
    history: TrackHistory,
    identities: TrueIdentities,
    gathered: _Gathered,
    suspects: set[int] | None = None,
) -> None:
    """Adds one frame, and follows its decisions."""
    if len(state.track_ids) and len(state.detections):
        scene = scene_of(state, history, state.size or (1, 1))
        if truth is not None:
            identity, claim = identities.of(int(state.frame), state.track_ids)
            targets = true_targets(scene.pairs, identity, truth, claim)
        else:
            targets = decided_targets(scene.pairs, state.track_ids, state.assigned_track_ids)
            if suspects:
                targets.tracks[np.isin(state.track_ids, list(suspects))] = UNKNOWN
                targets.detections[np.isin(state.assigned_track_ids, list(suspects))] = UNKNOWN
        hidden = (scene.det_scores < how.min_score) | (scene.det_visibility < how.min_visibility)
        targets.detections[hidden] = UNKNOWN
        partner = scene.pairs[np.maximum(targets.tracks, 0), 1] if len(scene.pairs) else np.zeros(0, np.int64)
        if len(scene.pairs):
            targets.tracks[(targets.tracks >= 0) & hidden[partner]] = UNKNOWN
        gathered.scenes.append(scene)
        gathered.targets.append(targets)
        gathered.weights.append(1.0 if truth is not None or how.labels == "tracker" else how.tracker_weight)
        gathered.names.append(sequence)
        gathered.frames.append(int(state.frame))
    history.learn(state)
    if truth is not None:
        identities.learn(int(state.frame), state.assigned_track_ids, truth)


def _near_suspects(samples: list[AssociationSample], reach: int) -> dict[int, set[int]]:
    """Frame → tracks that are suspected of a switch within `reach` frames."""
    near: dict[int, set[int]] = {}
    for sample in samples:
        tracks = sample.metadata.diagnostics.suspect_tracks
        for frame in range(sample.frame_idx - reach, sample.frame_idx + reach + 1) if tracks else ():
            near.setdefault(frame, set()).update(tracks)
    return near


def _ranges(starts: NDArray[np.int64], frames: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows `starts[f] … starts[f + 1] − 1` of each frame, one frame after another."""
    first, count = starts[frames], starts[frames + 1] - starts[frames]
    ends = np.cumsum(count)
    rows = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(first - (ends - count), count)
    return np.asarray(rows, np.int64)


def iterate_batches(
    frames: NDArray[np.int64], sizes: NDArray[np.int64], batch: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Random batches of frames of similar size: joint attention pads to the largest frame of a batch.

    Args:
        frames: which.
        sizes: `(F,)` of all frames of the store.
        batch: frames per batch.
        rng: the only source of chance.
    """
    order = rng.permutation(frames)
    pool = 16 * batch
    chunks = [order[start : start + pool] for start in range(0, len(order), pool)]
    batches = [
        part
        for chunk in chunks
        for part in np.array_split(chunk[np.argsort(sizes[chunk], kind="stable")], max(1, round(len(chunk) / batch)))
    ]
    for number in rng.permutation(len(batches)):
        yield batches[number]
