"""Which picture of a MOTChallenge sequence is which frame.

They are called `000001.jpg`, …: the number from 1, and the suffix that `imExt` says. Copies of data sets differ: they
count from 0, have another suffix or a prefix. Such pictures are taken too, and a note says how.
"""

from __future__ import annotations

import os.path
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from trackweave.errors import listed, shortened, shortened_line

NUMBERED = re.compile(r"(.*?)(\d{1,18})")
SAME_SUFFIX = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}


class SequencePictures(NamedTuple):
    """The pictures of a sequence.

    Attributes:
        files: 0-based frame → picture, ascending.
        notes: what is not as the layout says, one line each.
    """

    files: Mapping[int, Path]
    notes: tuple[str, ...] = ()


def picture_folder(folder: Path, text: str) -> Path | None:
    """The folder of pictures that `imDir` names; None where it does not lie in the sequence's folder or beside it.

    >>> picture_folder(Path("a/seq"), "img1").as_posix(), picture_folder(Path("a/seq"), "/etc")
    ('a/seq/img1', None)
    """
    normal = os.path.normpath(text.strip()) if text.strip() and "\0" not in text else ".."
    path = Path(normal)
    if path.is_absolute() or path.drive or normal == ".." or path.parts[:2] == ("..", ".."):
        return None
    return folder / normal


def find_pictures(folder: Path, extension: str, length: int | None) -> SequencePictures:
    """Finds the pictures of a sequence.

    Args:
        folder: of the pictures; it need not be there.
        extension: the suffix that `imExt` says, such as `.jpg`.
        length: frames of the sequence, or None.
    """
    from trackweave.frames.images import image_files

    try:
        files = image_files(folder) if folder.is_dir() else []
    except OSError as error:
        return SequencePictures({}, (f"{folder}: no picture is read: {error.strerror or error}",))
    if not files:
        return SequencePictures({})
    wanted = extension.strip().lower() if extension.strip().startswith(".") else f".{extension.strip().lower()}"
    own, suffix_notes = _of_suffix(folder, files, wanted)
    frames, number_notes = _numbered(folder, own, length)
    notes = (*suffix_notes, *number_notes)
    beyond = [frame for frame in frames if length is not None and frame >= length]
    if beyond:
        notes += (f"{folder}: {len(frames)} pictures for {length} frames (seqLength): those beyond are not read",)
    kept = {frame: frames[frame] for frame in sorted(frames) if length is None or frame < length}
    return SequencePictures(kept, notes)


def _suffix(file: Path) -> str:
    suffix = file.suffix.lower()
    return SAME_SUFFIX.get(suffix, suffix)


def _of_suffix(folder: Path, files: Sequence[Path], wanted: str) -> tuple[Sequence[Path], tuple[str, ...]]:
    """The files of the wanted suffix, else of the one that most have."""
    own = [file for file in files if _suffix(file) == SAME_SUFFIX.get(wanted, wanted)]
    if own:
        others = [file for file in files if file not in own]
        return own, _unread(folder, others, f"another suffix than {shortened_line(wanted, 12)} (imExt)")
    most = Counter(map(_suffix, files)).most_common(1)[0][0]
    note = f"{folder}: there are no pictures {shortened_line(wanted, 12)} (imExt): those of {most} are taken"
    return [file for file in files if _suffix(file) == most], (note,)


def _unread(folder: Path, files: Sequence[Path], what: str) -> tuple[str, ...]:
    """A note on pictures that are there and that no frame has."""
    names = listed((file.name for file in files), 2)
    return (f"{folder}: {len(files)} pictures have {what} and are not read: {names}",) if files else ()


def _numbered(folder: Path, files: Sequence[Path], length: int | None) -> tuple[Mapping[int, Path], tuple[str, ...]]:
    """Frame → file, by the numbers in the names, else by their order where each frame has one."""
    matches = {file: match for file in files if (match := NUMBERED.fullmatch(file.stem))}
    prefixes = Counter(match[1] for match in matches.values())
    prefix = "" if "" in prefixes else next(iter(prefixes)) if len(prefixes) == 1 else None
    numbers = {int(match[2]): file for file, match in reversed(matches.items()) if match[1] == prefix}
    if prefix is None or (prefix and len(matches) < len(files)):
        if length == len(files):
            looked = f"no pictures 000001{files[0].suffix}, …"
            note = f"{folder}: {looked}: {length} others are taken in the order of their names"
            return dict(enumerate(files)), (note,)
        there = listed((file.name for file in files), 3)
        return {}, (f"{folder}: no picture is read: 000001{files[0].suffix}, … were looked for, there are {there}",)
    low, high = min(numbers), max(numbers)
    notes = [f"{folder}: pictures are called {shortened(numbers[low].name, 40)}, …"] if prefix else []
    twice = [file for file, match in matches.items() if match[1] == prefix and numbers[int(match[2])] != file]
    if twice:
        names = listed((file.name for file in twice), 2)
        notes.append(f"{folder}: {len(twice)} pictures have the number of another and are not read: {names}")
    notes += _unread(folder, [file for file in files if file not in {*numbers.values(), *twice}], "other names")
    first = 1
    if low == 0:
        first = 0
    elif low > 1 and length == len(numbers) == high - low + 1:
        first = low
    if first != 1:
        notes.append(f"{folder}: pictures count from {first}: {shortened(numbers[low].name, 40)} is the first frame")
    return {number - first: file for number, file in numbers.items()}, tuple(notes)
