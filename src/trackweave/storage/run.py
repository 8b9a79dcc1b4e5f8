"""The run folder: where everything lies, its manifest, frame list and journal; how it is claimed and finished."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from trackweave.errors import ArtifactError, RunFolderError, SettingError, shortened_line, wording
from trackweave.ids import FrameIndex, Level
from trackweave.storage.corrections import read_corrections
from trackweave.storage.files import (
    check_version,
    content_digest,
    locked_folder,
    path_inside,
    read_json_object,
    refuse_overwriting,
    remove_leftovers,
    replacing,
    write_json,
)
from trackweave.storage.older_runs import older_artifacts, older_frames, older_summary
from trackweave.structures.run_log import RunWarning
from trackweave.structures.run_summary import BoxSummary, LevelSummary, MaskSummary, RunSummary

SCHEMA_VERSION = 1
MOST_PIXELS = 1 << 29
"""Of a frame: more is no picture, and is not allocated."""


def format_scale_suffix(ratio: float) -> str:
    """Suffix of files that hold masks at a part of the frame's size.

    >>> format_scale_suffix(0.3), format_scale_suffix(1.0)
    ('_scale0.3x', '')
    """
    return "" if ratio == 1.0 else f"_scale{ratio:g}x"


def scaled_npz_path(path: str | Path, ratio: float) -> Path:
    """`path` with the suffix of `ratio` before its extension.

    >>> scaled_npz_path("video_segments.npz", 0.3).name
    'video_segments_scale0.3x.npz'
    """
    plain = Path(path)
    return plain.with_name(f"{plain.stem}{format_scale_suffix(ratio)}{plain.suffix or '.npz'}")


@dataclass(frozen=True)
class LevelPaths:
    """One level of a run."""

    root: Path

    @property
    def filtered(self) -> Path:
        """Folder of the candidates, where the run found them itself."""
        return self.root / "filtered"

    @property
    def tracking(self) -> Path:
        """Folder of the archives."""
        return self.root / "tracking"

    @property
    def overlay(self) -> Path:
        """Its tracks over the frames, where every level has a video."""
        return self.root / "viz" / "overlay.mp4"

    @property
    def compare(self) -> Path:
        """Folder of the comparison pictures."""
        return self.root / "viz" / "compare"

    def video_segments(self, ratio: float) -> Path:
        """The frame-major archive."""
        return scaled_npz_path(self.tracking / "video_segments.npz", ratio)

    def object_segments(self, ratio: float) -> Path:
        """The object-major archive."""
        return scaled_npz_path(self.tracking / "object_segments.npz", ratio)


@dataclass(frozen=True)
class RunPaths:
    """Every path of a run folder."""

    root: Path

    def level(self, level: Level | int) -> LevelPaths:
        """One level's folder."""
        return LevelPaths(self.root / f"level_{level}")

    @property
    def manifest(self) -> Path:
        """What the run is and where its artifacts lie."""
        return self.root / "manifest.json"

    @property
    def frames(self) -> Path:
        """Index → name, time; size."""
        return self.root / "frames.json"

    @property
    def summary(self) -> Path:
        """Counts, durations, warnings."""
        return self.root / "summary.json"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.root / "report.html"

    @property
    def mot(self) -> Path:
        """Boxes as MOTChallenge text; in a mask run those of every level, whose class column is the level."""
        return self.root / "tracks.mot.txt"

    @property
    def identity(self) -> Path:
        """Raw track → identity, and what each is part of; absent = every track is its own."""
        return self.root / "identity.json"

    @property
    def relations(self) -> Path:
        """Parents, children, descendants and paths, for other tools."""
        return self.root / "relations.json"

    @property
    def index(self) -> Path:
        """Object → frames, frame → objects, level → objects, for other tools."""
        return self.root / "index.json"

    @property
    def tracks(self) -> Path:
        """The archive of a box run."""
        return self.root / "tracks.npz"

    @property
    def corrections(self) -> Path:
        """What a person said about the run; absent where nobody did."""
        return self.root / "corrections.jsonl"

    def prompted(self, key: str) -> Path:
        """The masks of one prompt of a person about a finished run, see `storage.corrected_masks`."""
        return self.root / "prompted" / f"{key}.npz"

    def prompt_journal(self, key: str) -> Path:
        """What is propagated of such a prompt so far."""
        return self.root / "journal" / f"prompt_{key}.cohorts"

    def uncorrected(self, path: Path) -> Path:
        """Where the run's own file lies while a corrected one has its place."""
        return self.root / "journal" / f"uncorrected.{path.name}"

    def own(self, path: Path) -> Path:
        """Where the run's own file lies now."""
        kept = self.uncorrected(path)
        return kept if kept.is_file() else path

    @property
    def overlay(self) -> Path:
        """Video of the tracks over the frames."""
        return self.root / "overlay.mp4"

    @property
    def folders(self) -> list[Path]:
        """The folders that trackweave writes to; other folders below the root belong to others."""
        levels = [LevelPaths(path) for path in self.root.glob("level_[0-9]*")]
        kinds = ((one.filtered, one.tracking, one.compare.parent, one.compare) for one in levels)
        below = [folder for kind in kinds for folder in kind]
        return [self.root, self.root / "journal", self.root / "prompted", *below]

    def journal(self, level: Level | int) -> Path:
        """Written when a level is whole; what a resumed run trusts."""
        return self.root / "journal" / f"level_{level}.json"

    @property
    def journalled_levels(self) -> list[Level]:
        """Levels that have an entry in the journal, ascending."""
        return sorted(Level(int(path.stem[6:])) for path in self.root.glob("journal/level_[0-9]*.json"))

    def finished_batches(self, level: Level | int) -> Path:
        """A level's finished prompt batches while it is not whole; see `storage.result_log`."""
        return self.root / "journal" / f"level_{level}.cohorts"


@dataclass(frozen=True)
class FrameList:
    """`frames.json`: the frames that a run went over.

    Attributes:
        indices: absolute index of each local position.
        names: file name or label of each.
        times: seconds, or None.
        size: `(H, W)`.
    """

    indices: Sequence[FrameIndex]
    names: Sequence[str]
    times: Sequence[float] | None
    size: tuple[int, int]

    @property
    def rate(self) -> float | None:
        """Frames per second, 1 … 120; None where no times are known."""
        times = self.times
        if times is None or len(times) < 2 or times[-1] <= times[0]:
            return None
        return float(min(max((len(times) - 1) / (times[-1] - times[0]), 1), 120))

    def write(self, path: Path) -> None:
        """Writes the file."""
        times: Sequence[float | None] = self.times or [None] * len(self.indices)
        frames = [
            {"index": int(index), "name": name, "time": time}
            for index, name, time in zip(self.indices, self.names, times, strict=True)
        ]
        height, width = self.size
        write_json(path, {"schema_version": SCHEMA_VERSION, "height": height, "width": width, "frames": frames})

    @classmethod
    def read(cls, path: Path) -> FrameList:
        """Reads the file.

        Raises:
            ArtifactError: missing or damaged.
        """
        if not path.is_file() and (older := _older_root(path)) is not None:
            indices, names, size = older_frames(older)
            return cls(indices, names, None, size)
        data = read_json_object(path, "list of frames")
        check_version(data.get("schema_version"), SCHEMA_VERSION, path)
        try:
            rows = data["frames"]
            times = [row["time"] for row in rows]
            size = int(data["height"]), int(data["width"])
            if min(size) < 1 or size[0] * size[1] > MOST_PIXELS:
                raise ValueError(f"a size of {size[1]}×{size[0]}")
            return cls(
                [FrameIndex(int(row["index"])) for row in rows],
                [str(row["name"]) for row in rows],
                None if any(time is None for time in times) else [float(time) for time in times],
                size,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ArtifactError(f"{path}: the list of frames lacks or misspells {error}") from None


def _is_level(entry: tuple[str, object]) -> bool:
    level, files = entry
    return level.isdecimal() and len(level) < 18 and isinstance(files, dict)


ASKED_LEVELS = "asked_levels"
"""Key of the manifest, see `RunManifest.asked_levels`."""


class RunManifest:
    """`manifest.json` of a run: read, merged into, written back whole.

    Keys that are not ours (a candidate generator may have written the file first) are kept as they are.

    Attributes:
        is_older: the older pipeline of the tracking guide left the run, see `older_runs`.
    """

    def __init__(self, path: Path, data: dict[str, Any] | None = None, *, is_older: bool = False) -> None:
        self.path, self.is_older = path, is_older
        self.data: dict[str, Any] = data if data is not None else {}

    @classmethod
    def load(cls, path: Path) -> RunManifest:
        """The manifest of a run, or an empty one where there is none yet.

        Raises:
            ArtifactError: damaged.
            ArtifactVersionError: of a newer schema.
        """
        if not path.exists():
            return cls(path)
        data = read_json_object(path, "run manifest")
        if "schema_version" in data:
            check_version(data["schema_version"], SCHEMA_VERSION, path)
        artifacts = data.get("artifacts", {})
        if not isinstance(artifacts, dict) or not all(map(_is_level, artifacts.items())):
            raise ArtifactError(f"{path}: the run manifest's `artifacts` are not files by level")
        if not data.keys() & {"artifacts", "fingerprint", "kind"}:
            older = older_artifacts(path.parent)
            return cls(path, {**data, "artifacts": older} if older else data, is_older=bool(older))
        return cls(path, data)

    @property
    def fingerprint(self) -> str | None:
        """What input and settings the run was made with; None when no run is recorded."""
        value = self.data.get("fingerprint")
        return str(value) if value is not None else None

    @property
    def is_box_run(self) -> bool:
        """Was it `trackweave boxes` that left this folder?"""
        return self.data.get("kind") == "boxes"

    @property
    def found_candidates(self) -> bool:
        """Did the run find its candidates itself, or the pieces that it was joined from?"""
        config = self.data.get("config")
        prompts = config.get("prompts") if isinstance(config, dict) else None
        return isinstance(prompts, dict) and prompts.get("kind") in ("generator", "pieces")

    @property
    def holds_run(self) -> bool:
        """Has a run of ours been here, finished or not?"""
        return self.fingerprint is not None or bool(self.data.get("artifacts"))

    @property
    def asked_levels(self) -> list[Level]:
        """Levels that a mask run is to have, finished or not; empty where it does not say."""
        recorded = self.data.get(ASKED_LEVELS)
        return [Level(one) for one in recorded if isinstance(one, int)] if isinstance(recorded, list) else []

    @property
    def tracked_levels(self) -> list[Level]:
        """Levels with artifacts, ascending.

        Raises:
            ArtifactError: a damaged list of them.
        """
        try:
            return sorted(Level(int(level)) for level in self.data.get("artifacts", {}))
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"{self.path}: its list of artifacts is damaged: {error}") from None

    def only_level(self, level: int | None) -> Level:
        """The level that is meant: `level`, or when it is None the only one.

        Raises:
            ArtifactError: no level is finished.
            SettingError: several levels and none named.
        """
        levels = self.tracked_levels
        if not levels:
            raise ArtifactError(f"{self.path}: records no tracked level: the run has not finished one")
        if level is None and len(levels) > 1:
            names = ", ".join(map(str, levels))
            raise SettingError(
                f"{self.path.parent}: the run has levels {names}: name one with {wording('level=', '--level')}"
            )
        return levels[0] if level is None else Level(level)

    def artifact(self, level: Level | int, name: str) -> Path:
        """Where an artifact lies.

        Raises:
            ArtifactError: the run has no such level or artifact, or it does not lie inside the run's folder.
        """
        try:
            text = str(self.data["artifacts"][str(level)][name])
        except (KeyError, TypeError):
            raise ArtifactError(f"{self.path}: records no {name} of level {level}") from None
        return path_inside(self.path.parent, text, f"{self.path}: {name} of level {level}:")

    def merge(self, values: Mapping[str, object]) -> None:
        """Sets top-level keys."""
        self.data.update({"schema_version": SCHEMA_VERSION, **values})

    def set_level(self, level: Level | int, artifacts: Mapping[str, str], stats: Mapping[str, object]) -> None:
        """Records a finished level."""
        self.data.setdefault("artifacts", {})[str(level)] = dict(artifacts)
        self.data.setdefault("derived", {}).setdefault("levels", {})[str(level)] = dict(stats)
        self.data["levels"] = sorted({int(level), *map(int, self.data.get("levels", []))})

    def set_totals(self, totals: Mapping[str, object]) -> None:
        """Records what spans the levels of a finished run: totals, durations by stage, peak memory."""
        self.data.setdefault("derived", {}).update(totals)

    def replace_warnings(self, warnings: Iterable[RunWarning], *, stages: Iterable[str], level: int | None) -> None:
        """Puts a stage's warnings in the place of those that an earlier run of it left."""
        redone = set(stages)
        kept = [
            record
            for record in self.data.get("warnings", [])
            if not isinstance(record, dict) or record.get("stage") not in redone or record.get("level") != level
        ]
        self.data["warnings"] = kept + [warning.to_json() for warning in warnings]

    def write(self) -> None:
        """Writes the file, whole or not at all."""
        write_json(self.path, self.data)


def _older_root(path: Path) -> Path | None:
    """The run folder of a file, where it holds a run of the older pipeline."""
    return path.parent if RunManifest.load(path.parent / "manifest.json").is_older else None


def read_run_summary(path: Path) -> MaskSummary | BoxSummary:
    """Reads `summary.json` of a finished run.

    Raises:
        ArtifactError: missing or damaged.
        ArtifactVersionError: of a newer schema.
    """
    if not path.is_file() and (older := _older_root(path)) is not None:
        return older_summary(older)
    record = read_json_object(path, "run summary")
    check_version(record.get("schema_version"), SCHEMA_VERSION, path)
    try:
        return RunSummary.from_json(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path}: the run summary is damaged: {shortened_line(repr(error))}") from error


@dataclass(frozen=True)
class LevelRecord:
    """Journal entry of a finished level.

    Attributes:
        fingerprint: of the run that finished it.
        first_id: first track id that the level may use.
        next_id: first track id after the level's.
        files: path below the run folder → size in bytes.
        summary: the level's part of `summary.json`.
        warnings: its warnings.
        predictor_warnings: what the predictor warned of until then.
        counters: what the predictor counted for this level.
    """

    fingerprint: str
    first_id: int
    next_id: int
    files: Mapping[str, int]
    summary: LevelSummary
    warnings: Sequence[RunWarning] = ()
    predictor_warnings: Sequence[RunWarning] = ()
    counters: Mapping[str, float] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Writes the entry."""
        write_json(
            path,
            {
                "schema_version": SCHEMA_VERSION,
                "fingerprint": self.fingerprint,
                "first_id": self.first_id,
                "next_id": self.next_id,
                "files": dict(self.files),
                "summary": self.summary.to_json(),
                "warnings": [warning.to_json() for warning in self.warnings],
                "remarks": [warning.to_json() for warning in self.predictor_warnings],
                "work": dict(self.counters),
            },
        )

    @classmethod
    def read(cls, path: Path, fingerprint: str) -> LevelRecord | None:
        """The entry, if the level was finished by the same settings.

        Raises:
            ArtifactError: damaged.
            ArtifactVersionError: of a newer schema.
        """
        if not path.exists():
            return None
        data = read_json_object(path, "journal entry")
        check_version(data.get("schema_version"), SCHEMA_VERSION, path)
        if data.get("fingerprint") != fingerprint:
            return None
        try:
            return cls(
                fingerprint,
                int(data["first_id"]),
                int(data["next_id"]),
                {str(name): int(size) for name, size in data["files"].items()},
                LevelSummary.from_json(data["summary"]),
                [RunWarning.from_json(record) for record in data["warnings"]],
                [RunWarning.from_json(record) for record in data["remarks"]],
                dict(data["work"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{path}: the journal entry lacks or misspells {error}; remove it") from None

    def is_whole(self, run_root: Path) -> bool:
        """Are the level's files still there, as long as they were?"""
        files = [(path_inside(run_root, name, "journal:"), size) for name, size in self.files.items()]
        return all(file.is_file() and file.stat().st_size == size for file, size in files)


class Fingerprint:
    """What a run is made of, as one hash: every input by its content, and every setting that its results depend on.

    Where files lie does not count, so a run goes on with a copy of its input, or with the same folder spelled
    otherwise.
    """

    def __init__(self) -> None:
        self._parts: dict[str, Any] = {}

    def add(self, part: str, *contents: bytes) -> None:
        """Adds to a part that a message can name, such as `frames`; where one piece ends and the next begins counts."""
        part_hash = self._parts.setdefault(part, hashlib.sha256())
        for content in contents:
            part_hash.update(len(content).to_bytes(8, "little"))
            part_hash.update(content)

    def add_file(self, part: str, path: Path) -> None:
        """Adds a file's content.

        Raises:
            InputError: it cannot be read.
        """
        self.add(part, content_digest(path))

    @property
    def parts(self) -> dict[str, str]:
        """By the name of the part, 16 hexadecimal digits."""
        return {part: part_hash.hexdigest()[:16] for part, part_hash in sorted(self._parts.items())}

    def hexdigest(self) -> str:
        """Of the whole, 32 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.parts).encode()).hexdigest()[:32]


def _difference(manifest: RunManifest, fingerprint: Fingerprint) -> str:
    """Which parts of the run that a folder holds are others: ` (other frames)`; empty when it is not known."""
    recorded = manifest.data.get("fingerprints")
    if not isinstance(recorded, dict):
        return ""
    changed = [part for part, digest in fingerprint.parts.items() if recorded.get(part) != digest]
    return f" (other {', '.join(changed)})" if changed else ""


def keep_uncorrected(paths: RunPaths, files: Sequence[Path]) -> None:
    """Puts the run's own files aside, once; before all are aside none is replaced.

    Raises:
        RunFolderError: one cannot be copied.
    """
    for path in files:
        kept = paths.uncorrected(path)
        if path.is_file() and not kept.is_file():
            _copy(path, kept)


def restore_uncorrected(paths: RunPaths, files: Sequence[Path]) -> None:
    """Puts the run's own files back.

    Raises:
        RunFolderError: one cannot be copied.
    """
    for path in files:
        kept = paths.uncorrected(path)
        if kept.is_file():
            _copy(kept, path)
    for path in files:
        paths.uncorrected(path).unlink(missing_ok=True)
    with suppress(OSError):  # not there, or something else is in it
        (paths.root / "journal").rmdir()


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        try:
            shutil.copyfile(source, temporary)
        except OSError as error:
            raise RunFolderError(f"{source}: cannot be copied: {error.strerror or error}") from error


OWN_CANDIDATES = "level_*/filtered/filtered.json"
RUN_FILES = (
    *("frames.json", "summary.json", "report.html", "tracks.mot.txt", "tracks.npz", "overlay.mp4"),
    *("identity.json", "relations.json", "index.json"),
    *("journal/level_*.json", "journal/level_*.cohorts", "journal/uncorrected.*"),
    *("journal/prompt_*.cohorts", "prompted/*.npz"),
    *("level_*/tracking/video_segments*.npz", "level_*/tracking/object_segments*.npz"),
    *("level_*/viz/overlay.mp4", "level_*/viz/compare/frame_*.png", "level_*/viz/compare/compare.json"),
)
"""The files of every run but its manifest, as patterns below its root."""
RUN_KEYS = frozenset(
    [
        *("schema_version", "fingerprint", "fingerprints", "kind", "input", "config", "predictor", "detections"),
        *("frame_list", "tracks", "artifacts", "levels", ASKED_LEVELS, "derived", "warnings"),
    ]
)
"""What a run writes into its manifest; other keys are those of whoever made the candidates."""


def remove_run(root: Path, *others: str) -> None:
    """Removes the files that a run wrote, and the folders that are empty then; all else stays.

    Args:
        root: the run folder, of a run that found its candidates itself.
        others: names of further files in it.

    Raises:
        RunFolderError: another process works in it, or a file cannot be removed.
    """
    with locked_folder(root):
        remove_leftovers(RunPaths(root).folders)
        patterns = (OWN_CANDIDATES, *RUN_FILES, "manifest.json", *others)
        _remove_files(root, [path for pattern in patterns for path in root.glob(pattern)])


def _remove_files(root: Path, files: Iterable[Path]) -> None:
    """Removes files in a run folder, and the folders of the run that are empty then."""
    for path in files:
        try:
            path.unlink()
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be removed: {error.strerror or error}") from error
    for folder in sorted(RunPaths(root).folders, reverse=True):
        for empty in (folder, *folder.parents):
            if empty == root or not empty.is_relative_to(root):
                break
            with suppress(OSError):  # something is in it
                empty.rmdir()


def _cleared(manifest: RunManifest, inputs: Sequence[str | Path]) -> RunManifest:
    """Removes the run that a manifest tells of, but for what the new run reads; the manifest goes last.

    Args:
        manifest: of a folder that is locked.
        inputs: files, and folders of pictures, that the new run reads.

    Returns:
        What is left of the manifest: what others wrote into it.

    Raises:
        InputError: the run's pictures are an input.
        RunFolderError: a file cannot be removed.
    """
    root, read = manifest.path.parent, {Path(path).resolve() for path in inputs}
    files = [path for pattern in RUN_FILES for path in root.glob(pattern)]
    refuse_overwriting((path.parent for path in files if path.suffix == ".png"), inputs)
    if manifest.found_candidates:
        files += [path for path in root.glob(OWN_CANDIDATES) if path.resolve() not in read]
    _remove_files(root, [path for path in files if path.resolve().is_relative_to(root.resolve())])
    left = RunManifest(manifest.path, {key: value for key, value in manifest.data.items() if key not in RUN_KEYS})
    if left.data:
        left.write()
    else:
        manifest.path.unlink(missing_ok=True)
    return left


class RunFolder:
    """A run folder while its run is made: claimed before the first result, finished after the last; a `with` block.

    From the claim until the block ends no other process can claim it. A killed process frees it.

    Args:
        root: the folder; made when it is not there.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.paths = RunPaths(self.root)
        self._lock = ExitStack()
        self._is_reserved = self._is_claimed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt) and self._is_claimed:
            goes_on = self.paths.manifest.is_file()
            again = wording("the same call with resume=True", "the same command with --resume")
            kept = f": {again} goes on" if goes_on else " holds nothing of this run"
            error.add_note(f"{self.root}{kept}")
        self._lock.close()

    def reserve(self, *, resume: bool = False, overwrite: bool = False) -> None:
        """Locks the folder until the block ends, and refuses it where `claim` would whatever the input is.

        Raises:
            RunFolderError: the folder holds a run that is neither resumed nor removed, or cannot be written, or another
                process works in it.
        """
        if self._is_reserved:
            return
        if self.root.exists() and not self.root.is_dir():
            raise RunFolderError(f"{self.root}: is a file, not a run folder")
        self._lock.enter_context(locked_folder(self.root))
        self._is_reserved = True
        if not (resume or overwrite) and RunManifest.load(self.paths.manifest).holds_run:
            output, goes_on = wording("output", "-o"), wording("resume=True", "--resume")
            replaces = wording("overwrite=True", "--overwrite")
            ways = f"add {goes_on} to finish or reuse this very run, or {replaces} to make it anew"
            raise RunFolderError(f"{self.root}: already holds a run: choose another {output}, {ways}")

    def claim(
        self,
        fingerprint: Fingerprint | None = None,
        *,
        resume: bool = False,
        overwrite: bool = False,
        inputs: Iterable[str | Path] = (),
    ) -> RunManifest:
        """Proves that the folder can take the run, and clears what killed processes left half-written.

        Args:
            fingerprint: of the run that is to be made; None when it is only known at its end.
            resume: the folder may hold that very run.
            overwrite: a run that the folder holds is removed first, and nothing that others put there.
            inputs: files, and folders of pictures, that the run reads: they are never removed.

        Returns:
            The manifest, with the fingerprint if there is one; whoever claims the folder for good writes it.

        Raises:
            ArtifactError: it holds what a person said about the run that would be removed.
            InputError: an input lies where the run writes.
            RunFolderError: the folder holds another run, or this one and it is not to be resumed, or cannot be
                written, or another process works in it.
        """
        self.reserve(resume=True)  # which run it may hold shows below
        manifest = RunManifest.load(self.paths.manifest)
        inputs = list(inputs)
        refuse_overwriting((path for pattern in RUN_FILES for path in self.root.glob(pattern)), inputs)
        if overwrite and manifest.holds_run:
            if fingerprint is not None:  # a person's answers are about the run that goes: they are not lost in silence
                read_corrections(self.paths.corrections, fingerprint.hexdigest())
            remove_leftovers(self.paths.folders)
            manifest = _cleared(manifest, inputs)
        elif manifest.holds_run:
            self._check_same(manifest, fingerprint, resume=resume)
        if fingerprint is not None:
            manifest.merge({"fingerprint": fingerprint.hexdigest(), "fingerprints": fingerprint.parts})
        remove_leftovers(self.paths.folders)
        self._is_claimed = True
        return manifest

    def _check_same(self, manifest: RunManifest, fingerprint: Fingerprint | None, *, resume: bool) -> None:
        """Refuses a run that is not this one, and this one when it is not to be resumed."""
        output, replaces = wording("output", "-o"), wording("overwrite=True", "--overwrite")
        if manifest.fingerprint is None or fingerprint is None:
            what = "already holds a run" if fingerprint is None else "holds another run"
            raise RunFolderError(f"{self.root}: {what}: choose another {output}, or add {replaces}")
        if manifest.fingerprint != fingerprint.hexdigest():
            text = f"holds a run of other input or settings{_difference(manifest, fingerprint)}"
            raise RunFolderError(f"{self.root}: {text}: choose another {output}, or add {replaces}")
        if not resume:
            goes_on = wording("resume=True", "--resume")
            ways = f"add {goes_on} to finish or reuse it, or {replaces} to make it anew"
            raise RunFolderError(f"{self.root}: already holds this run: {ways}")

    def finish(
        self,
        summary: RunSummary,
        values: Mapping[str, object] | None = None,
        *,
        warnings: Iterable[RunWarning] = (),
        stages: Iterable[str] = (),
    ) -> None:
        """Writes the summary and then the manifest, which says that the folder holds a finished run.

        Args:
            summary: the run in numbers.
            values: top-level keys of the manifest to set.
            warnings: those of the whole run that the manifest has not got yet.
            stages: whose earlier warnings they replace.
        """
        record = summary.to_json()
        manifest = RunManifest.load(self.paths.manifest)
        if values is not None:
            manifest.merge(values)
        manifest.replace_warnings(warnings, stages=stages, level=None)
        manifest.set_totals({key: record[key] for key in ("totals", "durations", "peak_rss_mb")})
        write_json(self.paths.summary, record)
        manifest.write()
