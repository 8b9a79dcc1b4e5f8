"""MOTChallenge sequence folders: `seqinfo.ini`, `det/`, `gt/`, `img1/`, `gmc.txt`.

Layout: https://motchallenge.net/instructions/. `gmc.txt` (camera motion) is an addition of BoT-SORT, arXiv 2206.14651.
Other data sets use the same layout: DanceTrack, SportsMOT, and KITTI when it is converted.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import InputError, listed, shortened, shortened_line
from trackweave.formats.mot import CLASS_COLUMN
from trackweave.formats.sequence_pictures import SequencePictures, find_pictures, picture_folder
from trackweave.formats.tables import GroundTruth, finite_number, read_text

INFO = "seqinfo.ini"
LONGEST_NAME = 200
"""Characters of a sequence's own name."""
T = TypeVar("T")


@dataclass(frozen=True)
class MotSequence:
    """The files of a sequence folder, and what `seqinfo.ini` says.

    Attributes:
        path: the folder.
        name: of the sequence.
        frame_rate: frames per second, or None.
        length: frames, or None.
        size: `(H, W)` in pixels, or None.
        image_folder: the folder of the images, also when it does not exist or is not read.
        image_files: 0-based frame → image, ascending.
        image_notes: what about the images is not as the layout says.
        detection_files: by name without suffix (`det`, `det_yolox`), those of `det/*.txt`.
        ground_truth: `gt/gt.txt`, or None.
        camera_motion: `gmc.txt`, or None.
    """

    path: Path
    name: str
    frame_rate: float | None
    length: int | None
    size: tuple[int, int] | None
    image_folder: Path
    image_files: Mapping[int, Path]
    image_notes: tuple[str, ...]
    detection_files: Mapping[str, Path]
    ground_truth: Path | None
    camera_motion: Path | None

    @property
    def images(self) -> Path | None:
        """The folder of images when it holds every frame of the sequence, else None."""
        is_complete = self.image_files and list(self.image_files) == list(range(len(self.image_files)))
        return self.image_folder if is_complete and len(self.image_files) == self.length else None

    @property
    def missing_images(self) -> str:
        """Which frames have no image, for messages; empty when each has one."""
        if self.images is not None:
            return ""
        if not self.image_files:
            return f"{self.image_folder} has none of them"
        count = self.length or max(self.image_files) + 1
        first = next(frame for frame in range(count + 1) if frame not in self.image_files)
        return f"{self.image_folder} has those of {len(self.image_files)} of {count} frames, frame {first + 1} has none"

    def image(self, frame: int) -> Path:
        """The file of one frame's image.

        Raises:
            InputError: the frame has none.
        """
        path = self.image_files.get(frame)
        if path is None:
            raise InputError(f"{self.image_folder}: no image of frame {frame + 1}")
        return path

    def detections(self, name: str | None = None) -> Path:
        """A detection file by name; None: `det`, or the only one there is.

        Raises:
            InputError: there is none, none of that name, or several to choose from.
        """
        files = self.detection_files
        if name is None:
            name = "det" if "det" in files or len(files) != 1 else next(iter(files))
        stem = name.removesuffix(".txt")
        path = files.get(stem)
        if path is None:
            there = listed(files) if files else "no detections"
            raise InputError(f"{self.path / 'det'}: no {shortened_line(stem, 80)}.txt; there: {there}")
        return path

    def known_length(self) -> int:
        """Frames of the sequence.

        Raises:
            InputError: `seqinfo.ini` does not say.
        """
        return self._known(self.length, "seqLength")

    def known_frame_rate(self) -> float:
        """Frames per second.

        Raises:
            InputError: `seqinfo.ini` does not say.
        """
        return self._known(self.frame_rate, "frameRate")

    def known_size(self) -> tuple[int, int]:
        """`(H, W)` in pixels.

        Raises:
            InputError: `seqinfo.ini` does not say.
        """
        return self._known(self.size, "imWidth and imHeight")

    def _known(self, value: T | None, key: str) -> T:
        if value is None:
            raise InputError(f"{self.path / INFO}: {key} is missing; add it under [Sequence]")
        return value


def is_sequence(path: Path | str) -> bool:
    """Does the folder hold a `seqinfo.ini`?"""
    return (Path(path) / INFO).is_file()


def read_sequence(folder: Path | str) -> MotSequence:
    """Reads `seqinfo.ini` and lists the other files; reads no detections and no images.

    A missing key is None; what needs it raises. A missing `seqLength` is that of the last image.

    Raises:
        InputError: no sequence folder, or a value of `seqinfo.ini` that is not a number above zero.
    """
    folder = Path(folder)
    if not is_sequence(folder):
        raise InputError(f"{folder}: not a MOTChallenge sequence: there is no {INFO}")
    info = _read_info(folder / INFO)
    length = _positive(folder, info, "seqLength")
    pictures = _pictures(folder, info, None if length is None else int(length))
    rate = _positive(folder, info, "frameRate")
    height, width = (_positive(folder, info, key) for key in ("imHeight", "imWidth"))
    ground_truth, camera_motion = folder / "gt" / "gt.txt", folder / "gmc.txt"
    return MotSequence(
        folder,
        shortened_line(info.get("name", ""), LONGEST_NAME) or folder.resolve().name,
        rate,
        int(length) if length is not None else max(pictures.files, default=-1) + 1 or None,
        None if height is None or width is None else (int(height), int(width)),
        folder / info.get("imdir", "img1"),
        pictures.files,
        pictures.notes,
        {path.stem: path for path in sorted((folder / "det").glob("*.txt"))},
        ground_truth if ground_truth.is_file() else None,
        camera_motion if camera_motion.is_file() else None,
    )


def _read_info(path: Path) -> Mapping[str, str]:
    """The `[Sequence]` section; keys in lower case."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text(path))
    except configparser.Error as error:
        raise InputError(f"{path}: not an INI file: {shortened_line(str(error))}") from error
    if not parser.has_section("Sequence"):
        raise InputError(f"{path}: there is no section [Sequence]")
    return dict(parser["Sequence"])


def _positive(folder: Path, info: Mapping[str, str], key: str) -> float | None:
    text = info.get(key.lower(), "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 2**31 or (key != "frameRate" and value % 1):
        raise InputError(f"{folder / INFO}: {key} {shortened(text, 40)} is not a number above zero")
    return value


def _pictures(folder: Path, info: Mapping[str, str], length: int | None) -> SequencePictures:
    """The pictures of a sequence; none where `imDir` leads elsewhere."""
    text = info.get("imdir", "img1")
    images = picture_folder(folder, text)
    if images is None:
        outside = f"imDir {shortened(text, 60)} lies neither in the sequence's folder nor beside it: no picture is read"
        return SequencePictures({}, (f"{folder / INFO}: {outside}; put them into img1, or a link to them",))
    return find_pictures(images, info.get("imext", ".jpg"), length)


MOST_MOTIONS = 10_000_000
"""Frames of camera motion that are held at most: each is 48 bytes, line or not."""


def read_gmc(path: Path | str, length: int | None = None) -> NDArray[np.float64]:
    """Reads camera motion: lines `frame a b tx c d ty`, frames from 0, blanks or commas between.

    Args:
        path: the file.
        length: frames of the sequence; None: up to the last line's.

    Returns:
        `(N, 2, 3)` float64 affine matrices by frame: `m[:, :2] @ p + m[:, 2]` takes a pixel of the frame before to
        this frame. A frame without a line gets the identity.

    Raises:
        InputError: the file cannot be read, or a line is bad: of another width, not finite, a frame twice or beyond
            `length`.
    """
    path = Path(path)
    rows: dict[int, NDArray[np.float64]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.replace(",", " ").split()
        if not fields:
            continue
        try:
            frame, matrix = _parse_motion(fields)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        if frame in rows:
            raise InputError(f"{path}, line {number}: frame {frame} occurs twice")
        if length is not None and frame >= length:
            raise InputError(f"{path}, line {number}: frame {frame} is beyond the {length} frames of the video")
        rows[frame] = matrix
    count = length if length is not None else max(rows, default=-1) + 1
    if count > MOST_MOTIONS:
        raise InputError(
            f"{path}: {count} frames of camera motion, of which {len(rows)} have a line: more than are read"
        )
    motion = np.tile(np.eye(2, 3), (count, 1, 1))
    for frame, matrix in rows.items():
        motion[frame] = matrix
    return motion


def _parse_motion(fields: list[str]) -> tuple[int, NDArray[np.float64]]:
    if len(fields) != 7:
        raise ValueError(f"{len(fields)} fields, expected frame a b tx c d ty")
    values = np.array([finite_number(field, "a value") for field in fields])
    if values[0] < 0 or values[0] % 1 or values[0] >= 2**31:
        raise ValueError(f"frame {shortened_line(fields[0], 30)}: frames count from 0")
    return int(values[0]), values[1:].reshape(2, 3)


DEEPEST = 4
"""Folders between a data set's folder and its sequences, such as `train/`."""
CLIP = re.compile(r"(?P<video>.+?)(_c\d+|-(DPM|FRCNN|SDP))")


def find_sequences(paths: Iterable[Path | str]) -> list[Path]:
    """Sequence folders: the paths themselves, and those with ground truth below other folders, by name; each once.

    Raises:
        InputError: a folder that holds none.
    """
    unique: dict[Path, None] = {}
    for path in map(Path, paths):
        if is_sequence(path):
            unique[path] = None
            continue
        below = [one for depth in range(1, DEEPEST) for one in sorted(path.glob("/".join(["*"] * depth + [INFO])))]
        sequences = [one.parent for one in below if (one.parent / "gt" / "gt.txt").is_file()]
        if not sequences:
            raise InputError(f"{path}: neither a sequence nor a folder of sequences with {INFO} and gt/gt.txt")
        unique.update(dict.fromkeys(sequences))
    return list(unique)


def video_of(name: str) -> str:
    """The video that a sequence was cut from: data should be split by it.

    SportsMOT cuts clips from videos; MOT17 has each video once per detector.

    >>> video_of("v_1LwtoLPw2TU_c006"), video_of("MOT17-02-FRCNN"), video_of("dancetrack0001")
    ('v_1LwtoLPw2TU', 'MOT17-02', 'dancetrack0001')
    """
    match = CLIP.fullmatch(name)
    return match["video"] if match else name


def class_column_of(truth: GroundTruth, detections: Path) -> int | None:
    """The column of the class in MOT text where detections have one and the truth has several classes; else None.

    So it is in KITTI's: several classes count, or there are regions without identity (DontCare).
    """
    counted = truth.class_id[truth.counts & (truth.track_id >= 0)]
    if not len(np.unique(counted)) > 1 and not (truth.track_id < 0).any():
        return None
    first = next((line for line in read_text(detections).splitlines() if line.strip()), "")
    fields = first.replace(",", " ").split()
    try:
        return CLASS_COLUMN if len(fields) >= CLASS_COLUMN and float(fields[CLASS_COLUMN - 1]) >= 0 else None
    except ValueError:
        return None
