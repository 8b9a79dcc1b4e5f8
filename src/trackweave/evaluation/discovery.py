"""What lies in a file or folder: the sequences of a ground truth, or the results of sequences, and how to open each."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from trackweave.errors import InputError, wording
from trackweave.evaluation.annotations import (
    AnnotationSource,
    BoxRunAnnotations,
    LabelFolderAnnotations,
    MaskRunAnnotations,
    TableAnnotations,
    VideoAnnotations,
    label_images,
)
from trackweave.evaluation.settings import Format, Matching
from trackweave.formats.davis import frame_stem
from trackweave.formats.kitti import is_kitti_line, read_kitti_annotations
from trackweave.formats.mot import read_mot_annotations
from trackweave.formats.motchallenge import is_sequence, read_sequence
from trackweave.formats.mots import IGNORED_CLASS
from trackweave.formats.registry import FORMATS, read_video, recognised
from trackweave.formats.tables import read_json, read_text
from trackweave.formats.videos import unlisted_names
from trackweave.formats.ytvis import VideoJson
from trackweave.ids import PROMPTED_LEVEL, Level
from trackweave.storage.corrected_masks import open_masks
from trackweave.storage.run import FrameList, RunManifest, RunPaths
from trackweave.storage.track_archive import TracksArchive
from trackweave.structures.tracked_video import TrackedVideo, VideoInfo

IMAGE_FOLDERS = ("masks", "frames", "images", "img1")
"""Folders inside that of a sequence, which is named by its own."""
ANNOTATION_FOLDERS = (
    *("480p", "Annotations/480p", "Annotations_unsupervised/480p", "1080p", "Annotations/1080p"),
    *("Full-Resolution", "Annotations/Full-Resolution", "Annotations"),
)
"""Where the sequences' folders lie in DAVIS and YouTube-VOS as they are downloaded."""


OWN_FORMATS = frozenset((Format.run, Format.mot, Format.kitti, Format.ytvis, Format.coco_vid, Format.davis))
"""Those with rules of their own; the others are read by `formats.registry`."""
ON_DEMAND = frozenset((Format.mots_png, Format.youtube_vos))
"""Those whose files are label images: read as such unless the format is named."""
SHARES = frozenset((Format.yolo, Format.label_studio))
"""Those that hold shares of the frames, and do not say their size."""
VIDEO_SUFFIXES = (".csv", ".parquet", ".arrow", ".feather", ".xml", ".npz")
"""Of files in a folder that are sequences by their names."""


@dataclass(frozen=True)
class GroundTruthSet:
    """A ground truth.

    Attributes:
        path: its file or folder.
        format: of the annotations.
        sequences: how to open each, by name.
        has_masks: whether masks can be compared.
        document: the JSON it comes from, or None.
        is_youtube_vos: label images beside YouTube-VOS's `meta.json`, which says when objects appear.
    """

    path: Path
    format: Format
    sequences: Mapping[str, Callable[[], AnnotationSource]]
    has_masks: bool
    document: VideoJson | None = None
    is_youtube_vos: bool = False


def find_ground_truth(path: str | os.PathLike[str], expected: Format | None = None) -> GroundTruthSet:
    """Recognises the format of a ground truth, and lists its sequences.

    - MOT: `gt.txt`, a sequence folder with `gt/gt.txt`, or a folder of such folders or of `SEQUENCE.txt`;
    - KITTI: a file of labels, or a folder of them;
    - YouTube-VIS or COCO-VID: the JSON;
    - DAVIS: a folder of label images (also in `masks/`), or a folder of such folders; also in `Annotations/480p/` or
      `Annotations/`, as DAVIS 2016, DAVIS 2017 and YouTube-VOS are downloaded;
    - any other format that `convert` reads, whose content shows it, or a folder of such files.

    Args:
        path: a file or folder.
        expected: the format that it should have; None: any.

    Raises:
        InputError: nothing is there, or nothing of that kind.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such ground truth")
    truth: GroundTruthSet | None
    if path.is_file():
        truth = _truth_file(path, expected)
    else:
        if is_run(path) and not RunManifest.load(RunPaths(path).manifest).is_box_run:
            remedy = wording("export(run, 'ytvis', 'truth.json')", f"trackweave export {path} --to ytvis -o truth.json")
            raise InputError(
                f"{path}: is a run of masks and not a truth: to compare with it write it as one ({remedy})"
            )
        truth = _video_folder_truth(path, expected) or _mot_truth(path) or _text_truth(path) or _label_truth(path)
        truth = truth or _video_truth(_video_files(path, VIDEO_SUFFIXES), path)
        if truth is None:
            parts = [part for part in sorted(path.iterdir()) if part.is_dir() and label_folders(part)]
            hint = f"; did you mean {' or '.join(map(str, parts[:3]))}?" if parts else ""
            raise InputError(
                f"{path}: no ground truth: neither SEQUENCE/gt/gt.txt, nor SEQUENCE.txt, nor label images (*.png){hint}"
            )
    if expected is not None and truth.format is not expected:
        raise InputError(f"{path}: is {truth.format}, not {expected}")
    return truth


def sequence_name(folder: Path) -> str:
    """A sequence's folder gives it its name, not the folder of images inside."""
    name = folder_name(folder)
    return folder_name(folder.parent) if name in IMAGE_FOLDERS else name


def folder_name(folder: Path) -> str:
    """The name of a folder as it was written, a link's own; of `.` that of the working directory."""
    return folder.name if folder.name not in ("", "..") else folder.resolve().name


def label_folder(folder: Path) -> Path | None:
    """The folder of the label images of a sequence folder, or None."""
    for candidate in (folder, folder / "masks"):
        if candidate.is_dir() and label_images(candidate):
            return candidate
    return None


def label_folders(path: Path) -> Mapping[str, Path]:
    """Folders of label images by the names of their sequences: this one, or else those of its subfolders.

    Where there are none, those of the first of `ANNOTATION_FOLDERS` that has some.
    """
    for root in (path, *(path / inner for inner in ANNOTATION_FOLDERS)):
        folders = _label_folders(root) if root.is_dir() else {}
        if folders:
            return folders
    return {}


def _label_folders(path: Path) -> Mapping[str, Path]:
    own = label_folder(path)
    folders = (
        [own] if own is not None else [label_folder(folder) for folder in sorted(path.iterdir()) if folder.is_dir()]
    )
    return {sequence_name(folder): folder for folder in folders if folder is not None}


def text_format(path: Path) -> Format:
    """MOT or KITTI; an empty file is both."""
    first = next((line for line in read_text(path).splitlines() if line.strip()), "")
    return Format.kitti if is_kitti_line(first) else Format.mot


def _truth_file(path: Path, expected: Format | None) -> GroundTruthSet:
    document = _video_json(path, None, expected)
    if document is None:
        truth = _video_truth(_video_file(path, expected), path)
        if truth is not None:
            return truth
    else:
        sequences = {name: partial(_open_video, document, name) for name in document.videos}
        return GroundTruthSet(path, Format(document.kind.value), sequences, bool(document.has_masks), document)
    kind = text_format(path)
    folder = path.parent.parent
    is_gt = path.name == "gt.txt" and path.parent.name == "gt"
    name = folder_name(folder) if is_gt else path.stem
    opener = (
        partial(_open_kitti_truth, path)
        if kind is Format.kitti
        else partial(_open_mot_truth, path, folder if is_gt else None)
    )
    return GroundTruthSet(path, kind, {name: opener}, False)


def _mot_truth(path: Path) -> GroundTruthSet | None:
    folders = (
        [path] if (path / "gt" / "gt.txt").is_file() else sorted(file.parents[1] for file in path.glob("*/gt/gt.txt"))
    )
    sequences = {folder_name(folder): partial(_open_mot_truth, folder / "gt" / "gt.txt", folder) for folder in folders}
    return GroundTruthSet(path, Format.mot, sequences, False) if sequences else None


def _text_truth(path: Path) -> GroundTruthSet | None:
    files = sorted(path.glob("*.txt"))
    if not files:
        return None
    mots = _video_files(path, (".txt",))
    if mots:
        return _video_truth(mots, path)
    kind = text_format(files[0])
    if kind is Format.kitti:
        return GroundTruthSet(path, kind, {file.stem: partial(_open_kitti_truth, file) for file in files}, False)
    return GroundTruthSet(path, kind, {file.stem: partial(_open_mot_truth, file, None) for file in files}, False)


def _label_truth(path: Path) -> GroundTruthSet | None:
    sequences = {name: partial(LabelFolderAnnotations, folder) for name, folder in label_folders(path).items()}
    if not sequences:
        return None
    is_youtube_vos = any((folder / "meta.json").is_file() for folder in (path, path.parent))
    return GroundTruthSet(path, Format.davis, sequences, True, is_youtube_vos=is_youtube_vos)


def _open_mot_truth(file: Path, folder: Path | None) -> AnnotationSource:
    length = read_sequence(folder).length if folder is not None and is_sequence(folder) else None
    return TableAnnotations(read_mot_annotations(file, length=length, is_truth=True))


def _open_kitti_truth(file: Path) -> AnnotationSource:
    return TableAnnotations(read_kitti_annotations(file))


def _open_video(document: VideoJson, name: str) -> AnnotationSource:
    return TableAnnotations(document.table(name))


TRACKEVAL_FOLDER = "data"
"""In TrackEval's layout, the folder inside a tracker's that holds its files."""

ResultOpener = Callable[[AnnotationSource], AnnotationSource]
"""Opens a result, given its truth."""


@dataclass(frozen=True)
class ResultSet:
    """Results of one or several sequences.

    Attributes:
        path: their file or folder.
        format: of the results.
        sequences: how to open each, by name.
        has_masks: whether there are masks; None: there is no object at all.
        is_single: they are one sequence's, whatever its name.
        matching: which track J and F compare with which object, unless the settings say.
    """

    path: Path
    format: Format
    sequences: Mapping[str, ResultOpener]
    has_masks: bool | None
    is_single: bool
    matching: Matching = Matching.best


def find_results(
    path: str | os.PathLike[str],
    truth: GroundTruthSet,
    expected: Format | None = None,
    level: int | None = None,
) -> ResultSet:
    """Recognises the format of results, and lists their sequences.

    Args:
        path: a run folder, a folder of run folders, MOT or KITTI text, a JSON of the truth's kind, label images, any
            other format that `convert` reads, or a folder of one of these by the names of the sequences.
        truth: the ground truth to compare them with.
        expected: the format that they should have; None: any.
        level: which level of mask runs; None: the only one.

    Raises:
        InputError: nothing is there, or nothing of that kind.
        ArtifactError: a damaged run.
        SettingError: several levels, and none named.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such result")
    results: ResultSet | None
    if path.is_file():
        results = _result_file(path, truth, expected, level)
    elif is_run(path):
        results = _run_result(path, truth, level)
    else:
        results = _video_folder_results(path, expected, level) or _run_results(path, truth, level)
        results = results or _text_results(path, level) or _label_results(path)
        results = results or _video_results(_video_files(path, VIDEO_SUFFIXES), path, level, is_single=False)
        if results is None:
            raise InputError(
                f"{path}: no results: neither a run folder, nor SEQUENCE.txt, nor label images (*.png) by sequence"
            )
    if expected is not None and results.format is not expected:
        raise InputError(f"{path}: is {results.format}, not {expected}")
    return results


def is_run(path: Path) -> bool:
    """Is a folder one of our runs?"""
    manifest = RunPaths(path).manifest
    if not manifest.is_file():
        return False
    run = RunManifest.load(manifest)
    return run.is_box_run or bool(run.data.get("artifacts"))


def _result_file(path: Path, truth: GroundTruthSet, expected: Format | None, level: int | None) -> ResultSet:
    document = _video_json(path, truth.document, expected)
    if document is None:
        results = _video_results(_video_file(path, expected), path, level)
        if results is not None:
            return results
    else:
        sequences = {name: partial(_open_video_result, document, name) for name in document.videos}
        return ResultSet(path, Format(document.kind.value), sequences, document.has_masks, len(sequences) == 1)
    kind = text_format(path)
    return ResultSet(path, kind, {path.stem: partial(_open_text, path, kind)}, False, True)


def _text_results(path: Path, level: int | None) -> ResultSet | None:
    files = sorted(path.glob("*.txt")) or sorted((path / TRACKEVAL_FOLDER).glob("*.txt"))
    if not files:
        return None
    mots = _video_files(files[0].parent, (".txt",))
    if mots:
        return _video_results(mots, path, level, is_single=False)
    kinds = [text_format(file) for file in files]
    kind = Format.kitti if Format.kitti in kinds else Format.mot
    sequences = {file.stem: partial(_open_text, file, kind) for file in files}
    return ResultSet(path, kind, sequences, False, False)


def _label_results(path: Path) -> ResultSet | None:
    sequences: dict[str, ResultOpener] = {
        name: partial(_open_labels, folder) for name, folder in label_folders(path).items()
    }
    is_single = label_folder(path) is not None
    return ResultSet(path, Format.davis, sequences, True, is_single, Matching.ids) if sequences else None


def _run_result(path: Path, truth: GroundTruthSet, level: int | None) -> ResultSet:
    manifest = RunManifest.load(RunPaths(path).manifest)
    name = next((name for name in _possible_names(path, manifest) if name in truth.sequences), folder_name(path))
    if manifest.is_box_run:
        with TracksArchive(RunPaths(path).tracks) as archive:
            has_masks = archive.has_masks
        opener: ResultOpener = partial(_open_archive if has_masks and truth.has_masks else _open_run_text, path)
        return ResultSet(path, Format.run, {name: opener}, has_masks, True)
    only_level = manifest.only_level(level)
    matching = Matching.ids if only_level == PROMPTED_LEVEL else Matching.best
    return ResultSet(path, Format.run, {name: partial(_open_level, path, only_level)}, True, True, matching)


def _run_results(path: Path, truth: GroundTruthSet, level: int | None) -> ResultSet | None:
    runs = [
        _run_result(folder, truth, level) for folder in sorted(path.iterdir()) if folder.is_dir() and is_run(folder)
    ]
    if not runs:
        return None
    sequences: dict[str, ResultOpener] = {}
    for run in runs:
        name, opener = next(iter(run.sequences.items()))
        if name in sequences:
            raise InputError(f"{run.path}: a second run of sequence {name}; keep one of them in {path}")
        sequences[name] = opener
    has_masks = all(run.has_masks for run in runs)
    matching = Matching.ids if all(run.matching is Matching.ids for run in runs) else Matching.best
    return ResultSet(path, Format.run, sequences, has_masks, False, matching)


def _possible_names(path: Path, manifest: RunManifest) -> Sequence[str]:
    """Names that the sequence of a run may have, the likeliest first: the input's, its folder's, the run folder's."""
    recorded = manifest.data.get("input")
    recorded = recorded if isinstance(recorded, dict) else {}
    source = Path(str(recorded.get("path", "")))
    named = [str(recorded["name"])] if "name" in recorded else []
    return [*named, source.name, source.stem, source.parent.name, folder_name(path)]


def _open_text(path: Path, kind: Format, truth: AnnotationSource) -> AnnotationSource:
    if kind is Format.kitti:
        return TableAnnotations(read_kitti_annotations(path, length=truth.length))
    return TableAnnotations(read_mot_annotations(path, length=truth.length))


def _open_video_result(document: VideoJson, name: str, truth: AnnotationSource) -> AnnotationSource:
    return _open_video(document, name)


def _open_labels(folder: Path, truth: AnnotationSource) -> AnnotationSource:
    labels = LabelFolderAnnotations(folder, truth.frame_names)
    labels.check()
    return labels


def _open_run_text(path: Path, truth: AnnotationSource) -> AnnotationSource:
    with TracksArchive(RunPaths(path).tracks) as archive:
        names = archive.class_names
    table = replace(read_mot_annotations(RunPaths(path).mot, length=truth.length), class_names=names)
    return TableAnnotations(table, _notes_on_length(_video_length(path), truth))


def _open_archive(path: Path, truth: AnnotationSource) -> AnnotationSource:
    return BoxRunAnnotations(TracksArchive(RunPaths(path).tracks), _notes_on_length(_video_length(path), truth))


def _video_length(path: Path) -> int | None:
    """Frames that a box run went over; None where there was no video to count them."""
    recorded = RunManifest.load(RunPaths(path).manifest).data.get("input")
    if not isinstance(recorded, dict) or recorded.get("kind") == "detections":
        return None
    frames = recorded.get("frames")
    return frames if isinstance(frames, int) else None


def _notes_on_length(frames: int | None, truth: AnnotationSource) -> list[str]:
    """What is noted of a run that does not go over as many frames as the truth has."""
    if frames is None or truth.length is None or frames == truth.length:
        return []
    return [f"is of {frames} frames, the ground truth of {truth.length}: are they one video?"]


def _open_level(path: Path, level: Level, truth: AnnotationSource) -> AnnotationSource:
    manifest, listed = RunManifest.load(RunPaths(path).manifest), FrameList.read(RunPaths(path).frames)
    stems = [frame_stem(name) for name in truth.frame_names or ()]
    frames, note = _frames_of_run(listed, stems)
    coarser_levels = [one for one in manifest.tracked_levels if PROMPTED_LEVEL < one < level]
    archives = (open_masks(RunPaths(path), one) for one in (*coarser_levels[-1:], level))
    *coarser, video = archives
    notes = [note] if note else _notes_on_length(len(listed.indices), truth) if frames is None else []
    return MaskRunAnnotations(video, frames, listed.size, notes, *coarser)


def _frames_of_run(listed: FrameList, stems: Sequence[str]) -> tuple[list[int | None] | None, str | None]:
    """Index in a run of each frame of a truth, by name; None: the same; and what should be noted.

    Where no name is the same, as with videos, the numbers in the truth's names count if some are left out between them:
    then a frame's place in the folder of the truth is not its place in the video.
    """
    indices = {frame_stem(name): int(index) for name, index in zip(listed.names, listed.indices, strict=True)}
    if indices.keys() & set(stems):
        return [indices.get(stem) for stem in stems], None
    numbers = [int(found[-1]) for stem in stems if (found := re.findall(r"\d{1,15}", stem))]
    if len(numbers) < len(stems) or not numbers or numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return None, None
    there = set(indices.values())
    note = f"has frames of other names than the ground truth ({stems[-1]}.png): frame {numbers[-1]} is that one's"
    return [number if number in there else None for number in numbers], note


# --- what `convert` reads, too ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _FormatVideo:
    """A video in a format of `formats.registry`.

    Attributes:
        path: its file or folder.
        format: of it.
        name: which of several videos in it; None: the only one.
    """

    path: Path
    format: Format
    name: str | None = None

    def read(self, hints: VideoInfo | None = None) -> TrackedVideo:
        return read_video(self.path, self.format.value, hints=hints, name=self.name)

    def without_size(self) -> InputError:
        return InputError(
            f"{self.path}: {self.format} does not say the size of the frames: convert it to a format that does "
            f"({wording('frames=', '--frames')})"
        )


def _video_kind(path: Path, expected: Format | None) -> Format | None:
    """The format of a file or folder that `formats.registry` reads and that has no rules of its own here."""
    if expected is not None and expected not in OWN_FORMATS:
        return expected
    try:
        name = recognised(path)
    except InputError:  # whoever reads it as something else says so
        return None
    known = {kind.value: kind for kind in Format if kind not in OWN_FORMATS | ON_DEMAND}
    return known.get(name or "")


def _video_json(path: Path, truth: VideoJson | None, expected: Format | None) -> VideoJson | None:
    """A JSON of tracks of videos; None where it is no JSON, or one of another format."""
    if path.suffix.lower() != ".json" or (expected is not None and expected not in OWN_FORMATS):
        return None
    try:
        return VideoJson(path, truth)
    except InputError:
        if _video_kind(path, None) is None:
            raise
        return None


def _video_file(path: Path, expected: Format | None) -> Mapping[str, _FormatVideo]:
    """The videos of a file by name; BURST may have several."""
    kind = _video_kind(path, expected)
    if kind is None:
        return {}
    if kind is Format.burst:
        document = read_json(path)
        sequences = document.get("sequences") if isinstance(document, dict) else None
        names = [str(one.get("seq_name")) for one in sequences or () if isinstance(one, dict)]
        if len(names) > 1:
            return {name: _FormatVideo(path, kind, name) for name in names}
    return {path.stem: _FormatVideo(path, kind)}


def _video_files(path: Path, suffixes: Sequence[str]) -> Mapping[str, _FormatVideo]:
    """The files of a folder that are videos, by their names."""
    files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in suffixes and file.is_file()]
    return {file.stem: _FormatVideo(file, kind) for file in files if (kind := _video_kind(file, None)) is not None}


def _video_folder_truth(path: Path, expected: Format | None) -> GroundTruthSet | None:
    return _video_truth(_video_folder(path, expected), path)


def _video_folder_results(path: Path, expected: Format | None, level: int | None) -> ResultSet | None:
    return _video_results(_video_folder(path, expected), path, level)


def _video_folder(path: Path, expected: Format | None) -> Mapping[str, _FormatVideo]:
    """A folder that is one video, where the format is shown or named to be one of folders."""
    is_named = expected is not None and expected not in OWN_FORMATS and not FORMATS[expected.value].suffix
    kind = _video_kind(path, expected if is_named else None)
    return {} if kind is None else {folder_name(path): _FormatVideo(path, kind)}


def _video_truth(videos: Mapping[str, _FormatVideo], path: Path) -> GroundTruthSet | None:
    if not videos:
        return None
    first = next(iter(videos.values()))
    if first.format in SHARES:
        raise first.without_size()
    openers = {name: partial(_open_video_truth, video) for name, video in videos.items()}
    return GroundTruthSet(path, first.format, openers, first.read().has_masks)


def _video_results(
    videos: Mapping[str, _FormatVideo], path: Path, level: int | None, *, is_single: bool = True
) -> ResultSet | None:
    if not videos:
        return None
    first = next(iter(videos.values()))
    has_masks: bool | None = None
    if first.format not in SHARES:
        has_masks = first.read().has_masks
    elif not FORMATS[first.format.value].masks:
        has_masks = False
    sequences: dict[str, ResultOpener] = {
        name: partial(_open_video_tracks, video, level) for name, video in videos.items()
    }
    return ResultSet(path, first.format, sequences, has_masks, is_single and len(sequences) == 1)


def _open_video_truth(video: _FormatVideo) -> AnnotationSource:
    notes = []
    if video.format is Format.mots:
        regions = [line for line in read_text(video.path).splitlines() if line.split()[2:3] == [str(IGNORED_CLASS)]]
        notes = ["has regions that are not scored (class 10): a track there counts as a false one"] if regions else []
    return VideoAnnotations(video.read(), str(video.path), notes=notes)


def _open_video_tracks(video: _FormatVideo, level: int | None, truth: AnnotationSource) -> AnnotationSource:
    hints = None
    if video.format in SHARES:
        if truth.size is None:
            raise video.without_size()
        count = truth.last if truth.length is None else truth.length
        names = truth.frame_names or unlisted_names(count)
        hints = VideoInfo(truth.source, range(len(names)), names, truth.size)
    return VideoAnnotations(video.read(hints), str(video.path), truth.frame_names or (), level)
