"""Finds the results of sequences: a run folder, a file, or a folder of them by the sequences' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trackweave.errors import InputError
from trackweave.evaluation.region_sequence import Matching
from trackweave.evaluation.settings import Format
from trackweave.evaluation.sides import ArchiveSide, LabelFolderSide, SegmentsSide, Side, TableSide
from trackweave.evaluation.truth import Truth, folder_name, label_folder, sequence_name, text_format
from trackweave.formats.davis import frame_stem
from trackweave.formats.kitti import read_kitti_annotations
from trackweave.formats.mot_rows import read_mot_annotations
from trackweave.formats.video_json import VideoJson
from trackweave.ids import PROMPTED_LEVEL, Level
from trackweave.storage.run import FrameList, RunManifest, RunPaths
from trackweave.storage.segments import VideoSegments
from trackweave.storage.tracks_archive import TracksArchive

BOXES = "boxes"
"""How the manifest of a run of boxes calls itself."""
TRACKEVAL_FOLDER = "data"
"""TrackEval's layout has the files of a tracker in there."""

Opener = Callable[[Side], Side]
"""Opens a result, given its truth."""


@dataclass(frozen=True)
class Results:
    """Results of one or several sequences.

    Attributes:
        path: where they lie.
        format: what they are.
        sequences: how to open each, by name.
        has_masks: whether there are masks; None: there is nothing at all.
        is_single: it is one sequence's, whatever its name.
        matching: how J and F hold tracks against objects, unless the user says.
    """

    path: Path
    format: Format
    sequences: Mapping[str, Opener]
    has_masks: bool | None
    is_single: bool
    matching: Matching = Matching.best


def find_results(
    path: Path | str,
    truth: Truth,
    kind: Format | None = None,
    level: int | None = None,
) -> Results:
    """Looks what results are, and which sequences they are of.

    Args:
        path: a run folder, a folder of run folders, MOT or KITTI text, a JSON of the truth's kind, label images, or a
            folder of one of these by the names of the sequences.
        truth: what they are to be compared with.
        kind: what they should be; None: whatever they are.
        level: which level of mask runs; None: the only one.

    Raises:
        InputError: nothing is there, or nothing of that kind.
        ArtifactError: a damaged run.
        SettingError: several levels, and none named.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such result")
    found: Results | None
    if path.is_file():
        found = _of_file(path, truth)
    elif is_run(path):
        found = _run(path, truth, level)
    else:
        found = _runs(path, truth, level) or _texts(path) or _labels(path)
        if found is None:
            raise InputError(
                f"{path}: no results: neither a run folder, nor SEQUENCE.txt, nor label images (*.png) by sequence"
            )
    if kind is not None and found.format is not kind:
        raise InputError(f"{path}: is {found.format}, not {kind}")
    return found


def is_run(path: Path) -> bool:
    """Is a folder one of our runs?"""
    manifest = RunPaths(path).manifest
    if not manifest.is_file():
        return False
    data = RunManifest.load(manifest).data
    return data.get("kind") == BOXES or bool(data.get("artifacts"))


def _of_file(path: Path, truth: Truth) -> Results:
    if path.suffix.lower() == ".json":
        document = VideoJson(path, truth.document)
        sequences = {name: partial(_video, document, name) for name in document.videos}
        return Results(path, Format(document.kind.value), sequences, document.has_masks, len(sequences) == 1)
    kind = text_format(path)
    return Results(path, kind, {path.stem: partial(_text, path, kind)}, False, True)


def _texts(path: Path) -> Results | None:
    files = sorted(path.glob("*.txt")) or sorted((path / TRACKEVAL_FOLDER).glob("*.txt"))
    if not files:
        return None
    kinds = [text_format(file) for file in files]
    kind = Format.kitti if Format.kitti in kinds else Format.mot
    sequences = {file.stem: partial(_text, file, kind) for file in files}
    return Results(path, kind, sequences, False, False)


def _labels(path: Path) -> Results | None:
    own = label_folder(path)
    folders = (
        [own] if own is not None else [label_folder(folder) for folder in sorted(path.iterdir()) if folder.is_dir()]
    )
    sequences = {sequence_name(folder): partial(_label, folder) for folder in folders if folder is not None}
    return Results(path, Format.davis, sequences, True, own is not None, Matching.ids) if sequences else None


def _run(path: Path, truth: Truth, level: int | None) -> Results:
    manifest = RunManifest.load(RunPaths(path).manifest)
    name = next((name for name in _names(path, manifest) if name in truth.sequences), folder_name(path))
    if manifest.data.get("kind") == BOXES:
        with TracksArchive(RunPaths(path).tracks) as archive:
            has_masks = archive.has_masks
        opener: Opener = partial(_archive if has_masks and truth.has_masks else _run_text, path)
        return Results(path, Format.run, {name: opener}, has_masks, True)
    chosen = manifest.only_level(level)
    matching = Matching.ids if chosen == PROMPTED_LEVEL else Matching.best
    return Results(path, Format.run, {name: partial(_segments, path, chosen)}, True, True, matching)


def _runs(path: Path, truth: Truth, level: int | None) -> Results | None:
    runs = [_run(folder, truth, level) for folder in sorted(path.iterdir()) if folder.is_dir() and is_run(folder)]
    if not runs:
        return None
    sequences: dict[str, Opener] = {}
    for run in runs:
        name, opener = next(iter(run.sequences.items()))
        if name in sequences:
            raise InputError(f"{run.path}: a second run of sequence {name}; keep one of them in {path}")
        sequences[name] = opener
    has_masks = all(run.has_masks for run in runs)
    matching = Matching.ids if all(run.matching is Matching.ids for run in runs) else Matching.best
    return Results(path, Format.run, sequences, has_masks, False, matching)


def _names(path: Path, manifest: RunManifest) -> Sequence[str]:
    """What a run may call its sequence, the best guess first: the input's name and folder, then its own folder."""
    recorded = manifest.data.get("input")
    recorded = recorded if isinstance(recorded, dict) else {}
    source = Path(str(recorded.get("path", "")))
    named = [str(recorded["name"])] if "name" in recorded else []
    return [*named, source.name, source.stem, source.parent.name, folder_name(path)]


def _text(path: Path, kind: Format, truth: Side) -> Side:
    if kind is Format.kitti:
        return TableSide(read_kitti_annotations(path, length=truth.length))
    return TableSide(read_mot_annotations(path, length=truth.length))


def _video(document: VideoJson, name: str, truth: Side) -> Side:
    return TableSide(document.table(name))


def _label(folder: Path, truth: Side) -> Side:
    side = LabelFolderSide(folder, truth.frame_names)
    side.check()
    return side


def _run_text(path: Path, truth: Side) -> Side:
    return TableSide(read_mot_annotations(RunPaths(path).mot, length=truth.length))


def _archive(path: Path, truth: Side) -> Side:
    return ArchiveSide(TracksArchive(RunPaths(path).tracks))


def _segments(path: Path, level: Level, truth: Side) -> Side:
    manifest, listed = RunManifest.load(RunPaths(path).manifest), FrameList.read(RunPaths(path).frames)
    places = {frame_stem(name): int(index) for name, index in zip(listed.names, listed.indices, strict=True)}
    stems = [frame_stem(name) for name in truth.frame_names or ()]
    frames = [places.get(stem) for stem in stems] if places.keys() & set(stems) else None
    return SegmentsSide(VideoSegments(manifest.artifact(level, "video_segments")), frames, listed.size)
