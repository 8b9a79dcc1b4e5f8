"""What a person marks objects with: label images, points, boxes, masks and polygons, in memory or in files."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import pixels_inside
from trackweave.errors import InputError, PromptError, shortened_line
from trackweave.formats.davis import VOID, LabelPixels, frame_stem, read_label_pixels
from trackweave.formats.prompts import PROMPT_SUFFIXES, read_prompts
from trackweave.formats.tables import add_class_name
from trackweave.ids import FrameIndex, LocalIndex, TrackId
from trackweave.masks.codecs import decode_rle, encode_rle, fill_polygons
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.mask_inputs import MaskFrames
from trackweave.structures.prompts import Prompt
from trackweave.structures.run_log import RunLog
from trackweave.structures.tracks import TrackClass, TrackClasses

FramePrompts = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]
"""Label map `(H, W)` of integers, or boxes `(N, 4)` xyxy, whose ids are 1 … N."""
UserPrompts = str | Path | Prompt | Sequence[str | Path | Prompt] | Mapping[int, FramePrompts]
"""Files (`LABEL.png`, `FRAME:LABEL.png`, JSON or CSV) and `Prompt`s; or by the index of a frame in the video."""


@dataclass(frozen=True)
class LabelImage:
    """One label image of a user.

    Attributes:
        where: what to call it in a message.
        labels: `(H, W)` int64; 0 is background.
    """

    where: str
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class MarkedObjects:
    """Everything that a user marked, by position among the sampled frames.

    Attributes:
        images: label images.
        marks: prompts of single objects by their id: absolute frame, frame's size, one kind each.
        files: the files that they came from.
        classes: of the objects that were given one.
    """

    images: dict[LocalIndex, LabelImage] = field(default_factory=dict)
    marks: dict[LocalIndex, dict[TrackId, Prompt]] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    classes: TrackClasses = field(default_factory=TrackClasses)

    @property
    def positions(self) -> list[LocalIndex]:
        """Where something is marked, ascending."""
        return sorted({*self.images, *self.marks})

    @property
    def labels(self) -> dict[LocalIndex, NDArray[np.int64]]:
        """The label maps of the images."""
        return {local: image.labels for local, image in self.images.items()}

    def records(self) -> list[dict[str, object]]:
        """The single objects as a manifest records them; masks as COCO run-length code."""
        return [
            _record(mark, track_id)
            for _, marks in sorted(self.marks.items())
            for track_id, mark in sorted(marks.items())
        ]


def _record(mark: Prompt, track_id: TrackId) -> dict[str, object]:
    record: dict[str, object] = {"frame": mark.frame, "id": int(track_id)}
    if mark.points:
        record["points"] = [[*point, label] for point, label in zip(mark.points, mark.labels, strict=True)]
    if mark.box is not None:
        record["box"] = list(mark.box)
    if isinstance(mark.mask, PackedMasks):
        record["rle"] = dict(encode_rle(mark.mask)[0])
    said = {"class_id": mark.class_id, "class_name": mark.class_name}
    return record | {key: value for key, value in said.items() if value is not None}


def read_user_prompts(
    prompts: UserPrompts, opened: MaskFrames, log: RunLog, known: TrackClasses | None = None
) -> MarkedObjects:
    """A user's prompts by position among the sampled frames; of several, bad ones are left out where the log says so.

    Args:
        prompts: what the user gave.
        opened: the video.
        log: takes what is left out.
        known: classes that earlier prompts gave, of whom these go on.

    Raises:
        PromptError: one that cannot be used; says which and why.
    """
    marked = MarkedObjects()
    first_problem: InputError | None = None
    given = list(_given(prompts))
    for frame, prompt in given:
        try:
            _read(frame, prompt, opened, log, marked)
        except InputError as error:
            if len(given) == 1:
                raise
            first_problem = first_problem or error
            log.skip("prompt-skipped", str(error), stage="prompts", error=PromptError, each=True)
    for problem in _without_contradictions(marked):
        first_problem = first_problem or problem
        log.skip("prompt-skipped", str(problem), stage="prompts", error=PromptError, each=True)
    if not marked.positions:
        raise first_problem or PromptError("no prompt was given")
    _number(marked)
    return replace(marked, classes=_classes(marked, known or TrackClasses()))


def _classes(marked: MarkedObjects, known: TrackClasses) -> TrackClasses:
    """The classes of the objects; a name without a number has that of the same name, else the next free one.

    Raises:
        PromptError: an object with two classes, or a number with two names.
    """
    said = [
        (track_id, mark)
        for _, marks in sorted(marked.marks.items())
        for track_id, mark in sorted(marks.items())
        if mark.class_id is not None or mark.class_name is not None
    ]
    names = dict(known.names)
    used = {one.class_id for one in known.tracks.values()} | {m.class_id for _, m in said if m.class_id is not None}
    for _, mark in said:
        if mark.class_id is not None and mark.class_name is not None:
            try:
                add_class_name(names, mark.class_id, mark.class_name)
            except ValueError as error:
                raise PromptError(f"prompt on frame {mark.frame}: {error}") from None
    tracks = dict(known.tracks)
    for track_id, mark in said:
        number = mark.class_id
        if number is None:
            wanted = str(mark.class_name).casefold()
            number = next((one for one, name in names.items() if name.casefold() == wanted), None)
        if number is None:
            number = next(one for one in range(len(used) + len(names) + 1) if one not in used and one not in names)
            names[number] = str(mark.class_name)
        if tracks.setdefault(int(track_id), TrackClass(number, 1.0)).class_id != number:
            both = [names.get(one, f"class {one}") for one in (tracks[int(track_id)].class_id, number)]
            raise PromptError(f"prompt on frame {mark.frame}: object {track_id} is {both[0]} before and {both[1]} here")
    return TrackClasses(tracks, names if tracks else {})


def _without_contradictions(marked: MarkedObjects) -> Iterator[PromptError]:
    """Removes marks that only all prompts together show to be wrong, in whatever order they came; yields why."""
    for local, marks in list(marked.marks.items()):
        image = marked.images.get(local)
        for track_id, mark in list(marks.items()):
            where = f"object {track_id}" if track_id > 0 else "an object without an id"
            if image is not None and track_id > 0 and np.any(image.labels == track_id):
                text = f"prompt on frame {mark.frame}: {where} is marked twice on it, by {image.where} too"
            elif mark.points and mark.box is None and 1 not in mark.labels:
                text = f"{where} on frame {mark.frame} has points outside of it only"
                text += ": give one inside of it, or a box, with the same id"
            else:
                continue
            del marks[track_id]
            yield PromptError(text)
        if not marks:
            del marked.marks[local]


def _given(prompts: UserPrompts) -> Iterator[tuple[int | None, str | Prompt | NDArray[Any]]]:
    """The prompts one by one, those of a file apart; with the frame that a mapping says."""
    if isinstance(prompts, Mapping):
        yield from prompts.items()
        return
    for prompt in [prompts] if isinstance(prompts, str | Path | Prompt) else prompts:
        yield None, prompt if isinstance(prompt, Prompt) else str(prompt)


def _read(
    frame: int | None, prompt: str | Prompt | NDArray[Any], opened: MaskFrames, log: RunLog, marked: MarkedObjects
) -> None:
    """Adds one prompt, or those of a file, to what is marked."""
    if isinstance(prompt, Prompt):
        _add_mark(prompt, opened, marked)
        return
    if isinstance(prompt, str) and Path(prompt).suffix.lower() in PROMPT_SUFFIXES:
        for each in read_prompts(prompt):
            try:
                _add_mark(each, opened, marked)
            except PromptError as error:
                log.skip("prompt-skipped", f"{prompt}: {error}", stage="prompts", error=PromptError, each=True)
        marked.files.append(Path(prompt))
        return
    if not isinstance(prompt, str) and _are_boxes(np.asarray(prompt), opened.frames.size):
        for k, box in enumerate(np.asarray(prompt, np.float64).tolist(), start=1):
            _add_mark(Prompt(int(frame or 0), k, box=box), opened, marked)
        return
    local, image = _read_label_image(frame, prompt, opened, log)
    if local in marked.images:
        raise PromptError(f"{image.where}: frame {opened.frames.indices[local]} has two prompt images")
    marked.images[local] = image
    if isinstance(prompt, str):
        marked.files.append(Path(image.where))


def _are_boxes(values: NDArray[Any], size: tuple[int, int]) -> bool:
    return values.ndim == 2 and values.shape[1] == 4 and values.shape != size


def _add_mark(prompt: Prompt, opened: MaskFrames, marked: MarkedObjects) -> None:
    """Places a prompt on its frame, at the frame's size; points and boxes of one object on one frame are one prompt.

    Objects without an id get negative ones first: the next free one is known when all prompts are.
    """
    where = f"prompt on frame {prompt.frame}"
    if isinstance(prompt.frame, str):
        named = opened.video.index_of_name.get(frame_stem(prompt.frame))
        if named is None:
            raise PromptError(f"{where}: no frame has this name")
        index = named
    else:
        index = FrameIndex(prompt.frame)
    local = _position(where, index, opened)
    mark = at_frame_size(replace(prompt, frame=int(index)), opened.frames.size, where)
    marks = marked.marks.setdefault(local, {})
    if prompt.track_id is None:
        fewest = min((int(i) for others in marked.marks.values() for i in others), default=0)
        marks[TrackId(min(fewest, 0) - 1)] = mark
        return
    track_id = TrackId(prompt.track_id)
    other = marks.get(track_id)
    if other is not None:
        if "mask" in (other.kind, mark.kind) or (other.box is not None and mark.box is not None):
            raise PromptError(f"{where}: object {track_id} is marked twice on it")
        for key in ("class_id", "class_name"):
            mine, theirs = getattr(mark, key), getattr(other, key)
            if None not in (mine, theirs) and mine != theirs:
                raise PromptError(f"{where}: object {track_id} is {theirs} and {mine} on it")
        mark = replace(
            mark,
            points=[*other.points, *mark.points],
            labels=[*other.labels, *mark.labels],
            box=other.box if mark.box is None else mark.box,
            class_id=other.class_id if mark.class_id is None else mark.class_id,
            class_name=mark.class_name or other.class_name,
        )
    marks[track_id] = mark


def at_frame_size(mark: Prompt, size: tuple[int, int], where: str) -> Prompt:
    """A prompt whose mask is packed at the frame's size `(H, W)`, and whose points and box lie in the frame.

    Raises:
        PromptError: they do not.
    """
    height, width = size
    _refuse_shares(mark, where)
    outside = [point for point in mark.points if not (0 <= point[0] <= width and 0 <= point[1] <= height)]
    if outside:
        x, y = outside[0]
        raise PromptError(f"{where}: point ({x:g}, {y:g}) is outside the frame of {width}×{height}")
    if mark.box is not None and pixels_inside(np.asarray(mark.box, np.float32), size) is None:
        box = ", ".join(f"{side:g}" for side in mark.box)
        raise PromptError(f"{where}: box ({box}) is empty or outside the frame of {width}×{height}")
    if mark.kind != "mask":
        return mark
    try:
        if len(mark.polygons):
            masks = decode_rle([fill_polygons(mark.polygons, height, width)])
        elif isinstance(mark.mask, Mapping):
            masks = decode_rle([mark.mask])
        else:
            masks = mark.mask if isinstance(mark.mask, PackedMasks) else PackedMasks.from_bool(np.asarray(mark.mask))
    except ValueError as error:
        raise PromptError(f"{where}: {error}") from None
    if masks.size != size:
        rows, columns = masks.size
        raise PromptError(f"{where}: its mask is {columns}×{rows}, the frames are {width}×{height}")
    if len(masks) != 1 or not masks.areas[0]:
        raise PromptError(f"{where}: its mask is empty" if len(masks) == 1 else f"{where}: {len(masks)} masks, not one")
    return replace(mark, mask=masks, polygons=())


def _refuse_shares(mark: Prompt, where: str) -> None:
    """Refuses coordinates in shares of the frame: nobody marks the corner of the first pixel.

    Raises:
        PromptError: all lie between 0 and 1, with fractions.
    """
    given = {"point": mark.points, "polygon": mark.polygons, "box": () if mark.box is None else (mark.box,)}
    sides = {kind: np.concatenate([np.ravel(one) for one in many]) for kind, many in given.items() if len(many)}
    every = np.concatenate([*sides.values(), np.zeros(0)])
    if len(every) and every.min() >= 0 and every.max() <= 1 and (every % 1 != 0).any():
        kind, values = next(iter(sides.items()))
        text = shortened_line(", ".join(f"{side:g}" for side in values), 60)
        pixels = "coordinates are pixels: multiply shares by the frame's width and height"
        raise PromptError(f"{where}: {kind} ({text}) lies in the first pixel: {pixels}")


def _number(marked: MarkedObjects) -> None:
    """Gives objects without an id the next free ones, in the order in which they were given."""
    taken = [int(track_id) for marks in marked.marks.values() for track_id in marks if track_id > 0]
    taken += [int(image.labels.max()) for image in marked.images.values()]
    first = max(taken, default=0) + 1
    for local, marks in marked.marks.items():
        numbered = {(i if i > 0 else TrackId(first - 1 - int(i))): mark for i, mark in marks.items()}
        marked.marks[local] = numbered


def _position(where: str, index: FrameIndex, opened: MaskFrames) -> LocalIndex:
    """Where a frame of the video lies among the sampled ones.

    Raises:
        PromptError: it is not there, or not among them.
    """
    if not 0 <= index < opened.video.length:
        last = opened.video.length - 1
        raise PromptError(f"{where}: frame {index} does not exist: the video has frames 0 … {last}")
    indices = opened.frames.indices  # of a stream without end: not to be gone through
    local = bisect_left(indices, index)
    if local == len(indices) or indices[local] != index:
        raise PromptError(f"{where}: frame {index} is not among the frames that are tracked: left out or not sampled")
    return LocalIndex(local)


# --- label images ----------------------------------------------------------------------------------------------------


def _read_label_image(
    frame: int | None, prompt: str | NDArray[np.integer[Any]], opened: MaskFrames, log: RunLog
) -> tuple[LocalIndex, LabelImage]:
    """Position and labels of one prompt: a text, or a label map of a frame."""
    if isinstance(prompt, str):
        index, path = _frame_and_path(prompt, opened)
        where, pixels = str(path), read_label_pixels(path)
    else:
        index, where = FrameIndex(int(frame or 0)), f"prompt on frame {frame}"
        pixels = LabelPixels.checked(where, np.asarray(prompt))
    labels, local = pixels.labels, _position(where, index, opened)
    if labels.shape != opened.frames.size:
        height, width = opened.frames.size
        text = f"is {labels.shape[1]}×{labels.shape[0]}, the frames are {width}×{height}"
        turned = ": made without the rotation that the images' EXIF asks for?"
        raise PromptError(f"{where}: {text}{turned if labels.shape == (width, height) != (height, width) else ''}")
    if not (labels > 0).any():
        raise PromptError(f"{where}: marks no object (every pixel is 0)")
    return local, LabelImage(where, _without_void(where, pixels, log))


def _frame_and_path(text: str, opened: MaskFrames) -> tuple[FrameIndex, Path]:
    """`FRAME:LABEL.png` or `LABEL.png`; a file whose own name holds a colon is taken as it is.

    A label image that is named like a frame belongs to that frame; any other one without FRAME to the first.

    Raises:
        PromptError: FRAME, or a number that is the image's name, says another frame than the name does.
    """
    head, colon, tail = text.partition(":")
    said = colon and head.isdigit() and not Path(text).exists()
    path = Path(tail if said else text)
    named = opened.video.index_of_name.get(frame_stem(path.name))
    if said:
        if named is not None and named != int(head):
            problem = f"frame {int(head)} was asked for, but the frame of this name is frame {named}"
            raise PromptError(
                f"{path}: {problem} (FRAME counts from 0): give {named}:{path}, or rename the label image"
            )
        return FrameIndex(int(head)), path
    if named is not None:
        return named, path
    stem = frame_stem(path.name)
    if stem.isdigit() and int(stem) != opened.first:
        raise PromptError(f"{path}: no frame is named {stem}: say which one is meant, as FRAME:{path} (from 0)")
    other = next((index for index in _frames_numbered_as(stem, opened) if index != opened.first), None)
    if other is not None:
        text = f"has no frame's name, but the number of frame {other}"
        raise PromptError(f"{path}: {text}: say which one is meant, as {other}:{path} or {opened.first}:{path}")
    return opened.first, path


def _frames_numbered_as(stem: str, opened: MaskFrames) -> Iterator[FrameIndex]:
    """The frames whose name ends in a number that a label image's name holds, written with as many digits."""
    numbers = set(re.findall(r"\d{4,}", stem))
    for name, index in opened.video.index_of_name.items() if numbers else ():
        if not numbers.isdisjoint(re.findall(r"\d+$", name)):
            yield index


def _without_void(where: str, pixels: LabelPixels, log: RunLog) -> NDArray[np.int64]:
    """Label 255 of a palette means "void"; the only label of a black and white mask, the largest value, its object."""
    labels = pixels.labels.astype(np.int64)
    white = labels == pixels.white
    if white.any() and np.all(white | (labels == 0)):
        log.warn("prompts", "binary-prompt", f"{where}: a black and white mask: its object got id 1")
        return np.asarray(white, np.int64)
    if pixels.void.any():
        log.warn("prompts", "void-label", f"{where}: label {VOID} means void and was not tracked")
    elif pixels.is_eight_bit and (labels == VOID).any():
        text = f"{where}: label {VOID} is an object: it means void only in images with a palette"
        log.warn("prompts", "grey-255", text)
    return np.where(pixels.void, 0, labels)
