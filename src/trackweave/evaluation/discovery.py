"""Finds the results of sequences: a run folder, a file, or a folder of them by the sequences' names.

Finds the sequences of a ground truth: a file, a folder, or a folder of folders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trackweave.errors import InputError
from trackweave.evaluation.annotations import ArchiveSide, LabelFolderSide, SegmentsSide, Side, TableSide
from trackweave.evaluation.settings import Format, Matching
from trackweave.formats.davis import frame_stem
from trackweave.formats.kitti import is_kitti_line, read_kitti_annotations
from trackweave.formats.mot import read_mot_annotations
from trackweave.formats.motchallenge import is_sequence, read_sequence
from trackweave.formats.tables import read_text
from trackweave.formats.ytvis import VideoJson
from trackweave.ids import PROMPTED_LEVEL, Level
from trackweave.storage.mask_archive import VideoSegments
from trackweave.storage.run import FrameList, RunManifest, RunPaths
from trackweave.storage.track_archive import TracksArchive

IMAGE_FOLDERS = ("masks", "frames", "images", "img1")
"""Folders inside that of a sequence: they do not give it its name."""


@dataclass(frozen=True)
class Truth:
    """A ground truth.

    Attributes:
        path: where it lies.
        format: what it is.
        sequences: how to open each, by name.
        has_masks: whether masks can be compared.
        document: the JSON it comes from, or None.
    """

    path: Path
    format: Format
    sequences: Mapping[str, Callable[[], Side]]
    has_masks: bool
    document: VideoJson | None = None


def find_truth(path: Path | str, kind: Format | None = None) -> Truth:
    """Looks what a ground truth is, and which sequences it has.

    - MOT: `gt.txt`, a sequence folder with `gt/gt.txt`, or a folder of such folders or of `SEQUENCE.txt`;
    - KITTI: a file of labels, or a folder of them;
    - YouTube-VIS or COCO-VID: the JSON;
    - DAVIS: a folder of label images (also in `masks/`), or a folder of such folders.

    Raises:
        InputError: nothing is there, or nothing of that kind.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such ground truth")
    found: Truth | None
    if path.is_file():
        found = _truth_file(path)
    else:
        found = _mot_folder(path) or _text_folder(path) or _label_folder(path)
        if found is None:
            raise InputError(
                f"{path}: no ground truth: neither SEQUENCE/gt/gt.txt, nor SEQUENCE.txt, nor label images (*.png)"
            )
    if kind is not None and found.format is not kind:
        raise InputError(f"{path}: is {found.format}, not {kind}")
    return found


def sequence_name(folder: Path) -> str:
    """A sequence's folder gives it its name, not the folder of images inside."""
    name = folder_name(folder)
    return folder_name(folder.parent) if name in IMAGE_FOLDERS else name


def folder_name(folder: Path) -> str:
    """The name under which a folder was given, a link's own; of `.` that of where we are."""
    return folder.name if folder.name not in ("", "..") else folder.resolve().name


def label_folder(folder: Path) -> Path | None:
    """Where the label images of a sequence folder are, if anywhere."""
    for place in (folder, folder / "masks"):
        if next(place.glob("*.png"), None) is not None:
            return place
    return None


def text_format(path: Path) -> Format:
    """MOT or KITTI; an empty file is both."""
    first = next((line for line in read_text(path).splitlines() if line.strip()), "")
    return Format.kitti if is_kitti_line(first) else Format.mot


def _truth_file(path: Path) -> Truth:
    if path.suffix.lower() == ".json":
        document = VideoJson(path)
        sequences = {name: partial(_video_side, document, name) for name in document.videos}
        return Truth(path, Format(document.kind.value), sequences, bool(document.has_masks), document)
    kind = text_format(path)
    folder = path.parent.parent
    is_gt = path.name == "gt.txt" and path.parent.name == "gt"
    name = folder_name(folder) if is_gt else path.stem
    opener = partial(_kitti_side, path) if kind is Format.kitti else partial(_mot_side, path, folder if is_gt else None)
    return Truth(path, kind, {name: opener}, False)


def _mot_folder(path: Path) -> Truth | None:
    folders = (
        [path] if (path / "gt" / "gt.txt").is_file() else sorted(file.parents[1] for file in path.glob("*/gt/gt.txt"))
    )
    sequences = {folder_name(folder): partial(_mot_side, folder / "gt" / "gt.txt", folder) for folder in folders}
    return Truth(path, Format.mot, sequences, False) if sequences else None


def _text_folder(path: Path) -> Truth | None:
    files = sorted(path.glob("*.txt"))
    if not files:
        return None
    kind = text_format(files[0])
    if kind is Format.kitti:
        return Truth(path, kind, {file.stem: partial(_kitti_side, file) for file in files}, False)
    return Truth(path, kind, {file.stem: partial(_mot_side, file, None) for file in files}, False)


def _label_folder(path: Path) -> Truth | None:
    own = label_folder(path)
    folders = (
        [own] if own is not None else [label_folder(folder) for folder in sorted(path.iterdir()) if folder.is_dir()]
    )
    sequences = {sequence_name(folder): partial(_label_side, folder) for folder in folders if folder is not None}
    return Truth(path, Format.davis, sequences, True) if sequences else None


def _mot_side(file: Path, folder: Path | None) -> Side:
    length = read_sequence(folder).length if folder is not None and is_sequence(folder) else None
    return TableSide(read_mot_annotations(file, length=length, is_truth=True))


def _kitti_side(file: Path) -> Side:
    return TableSide(read_kitti_annotations(file))


def _label_side(folder: Path) -> Side:
    return LabelFolderSide(folder)


def _video_side(document: VideoJson, name: str) -> Side:
    return TableSide(document.table(name))


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
        found = _result_file(path, truth)
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


def _result_file(path: Path, truth: Truth) -> Results:
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
