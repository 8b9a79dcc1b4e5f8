"""Finds the sequences of a ground truth: a file, a folder, or a folder of folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trackweave.errors import InputError
from trackweave.evaluation.settings import Format
from trackweave.evaluation.sides import LabelFolderSide, Side, TableSide
from trackweave.formats.detections_mot import read_text
from trackweave.formats.kitti import is_kitti_line, read_kitti_annotations
from trackweave.formats.mot_rows import read_mot_annotations
from trackweave.formats.motchallenge import is_sequence, read_sequence
from trackweave.formats.video_json import VideoJson

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
        found = _of_file(path)
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


def _of_file(path: Path) -> Truth:
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
