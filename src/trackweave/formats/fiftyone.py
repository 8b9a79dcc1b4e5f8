"""FiftyOne: a script that makes a dataset there, and the objects that it reads, one line of JSON for each frame.

The script needs FiftyOne and numpy alone: `python OUT/import_fiftyone.py VIDEO`, of a video file or a folder of images.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any

import numpy as np

from trackweave.errors import InputError, SettingError, shortened_line, wording
from trackweave.formats.tables import AnnotationRows, finite_number, read_text, whole_number
from trackweave.formats.videos import TableVideo, info_from_json, info_to_json, listed_frames
from trackweave.masks.codecs import check_pixels, encode_rle
from trackweave.masks.ops import crop_at
from trackweave.masks.packed import PackedMasks, packed_length
from trackweave.storage.files import filled_folder, parse_json
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.tracked_video import Losses, TrackedVideo, VideoInfo

SCRIPT_FILE, DATA_FILE = "import_fiftyone.py", "tracks.jsonl"
ROUNDING = 1e-12
"""Of a side: more than a division loses, less than the precision of boxes."""
SCRIPT = '''\
"""Makes a FiftyOne dataset of tracked objects: python import_fiftyone.py VIDEO_OR_FOLDER_OF_IMAGES [DATASET]"""

import base64
import json
import sys
from pathlib import Path

import fiftyone as fo
import numpy as np


def detections(objects):
    found = []
    for one in objects:
        mask = None
        if "mask" in one:
            height, width = one["mask"]["size"]
            bits = np.frombuffer(base64.b64decode(one["mask"]["bits"]), np.uint8)
            mask = np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)
        found.append(
            fo.Detection(
                label=one["label"], bounding_box=one["box"], mask=mask, index=one["id"], confidence=one["score"]
            )
        )
    return fo.Detections(detections=found)


def main(media, name):
    lines = (Path(__file__).parent / "tracks.jsonl").read_text(encoding="utf-8").splitlines()
    video = json.loads(lines[0])["video"]
    frames = [json.loads(line) for line in lines[1:]]
    dataset = fo.Dataset(name or video["name"], overwrite=True)
    dataset.persistent = True
    if media.is_dir():
        samples = []
        for frame in frames:
            sample = fo.Sample(filepath=str((media / Path(frame["name"]).name).resolve()))
            sample["frame_number"], sample["tracks"] = frame["frame"] + 1, detections(frame["objects"])
            samples.append(sample)
        dataset.add_samples(samples)
    else:
        sample = fo.Sample(filepath=str(media.resolve()))
        for frame in frames:
            sample.frames[frame["frame"] + 1]["tracks"] = detections(frame["objects"])
        dataset.add_sample(sample)
    print(f"{dataset.name}: {len(frames)} frames")
    return dataset


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
'''


def write_fiftyone(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes the script and the objects.

    Raises:
        SettingError: the size of the frames is not known.
    """
    info = video.info
    if info.size is None:
        raise SettingError(
            f"fiftyone needs the size of the frames: name the video with {wording('frames=', '--frames')}"
        )
    height, width = info.size
    files: list[Path] = []
    with filled_folder(path, files) as staging:
        (staging / SCRIPT_FILE).write_text(SCRIPT, encoding="utf-8")
        with (staging / DATA_FILE).open("w", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps({"video": info_to_json(info)}) + "\n")
            for (index, tracks), name in zip(video.sized_frames(), info.names, strict=True):
                objects = []
                for n, track_id in enumerate(tracks.track_id.tolist()):
                    crop = None if tracks.masks is None else crop_at(tracks.masks, n, tracks.masks.size)
                    left, top, right, bottom = tracks.xyxy[n].tolist()
                    if crop is not None:  # FiftyOne stretches a mask over its box
                        left, top = float(crop.left), float(crop.top)
                        right, bottom = left + crop.inside.shape[1], top + crop.inside.shape[0]
                    (x, w), (y, h) = _shares(left, right, width), _shares(top, bottom, height)
                    one: dict[str, Any] = {
                        "id": track_id,
                        "label": info.class_name(int(tracks.class_id[n])),
                        "score": float(tracks.score[n]),
                        "box": [x, y, w, h],
                    }
                    if crop is not None:
                        bits = base64.b64encode(np.packbits(crop.inside).tobytes()).decode("ascii")
                        one["mask"] = {"size": list(crop.inside.shape), "bits": bits}
                    objects.append(one)
                file.write(json.dumps({"frame": int(index), "name": name, "objects": objects}) + "\n")
    return files


def _shares(low: float, high: float, side: int) -> tuple[float, float]:
    """Where a span of pixels begins, and how long it is, as shares of a side.

    FiftyOne cuts off the fractions of pixels: a share is raised by what a division lost, or a mask lies a pixel beside.

    >>> start, length = _shares(5, 6, 480)
    >>> int(start * 480), int((start + length) * 480), int((5 / 480 + 1 / 480) * 480)
    (5, 6, 5)
    """
    start, length = low / side, (high - low) / side
    if int(start * side) < int(low):
        start += ROUNDING
    if int((start + length) * side) < int(high):
        length += ROUNDING
    return start, length


def is_fiftyone(path: Path) -> bool:
    """Is it such a folder?"""
    return (path / DATA_FILE).is_file()


def read_fiftyone(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Reads the objects beside the script.

    Raises:
        InputError: they are damaged.
    """
    file = path / DATA_FILE
    lines = read_text(file).splitlines()
    number = 1
    rows = AnnotationRows(str(file))
    try:
        info = info_from_json(parse_json(lines[0])["video"], file, 0)
        if info.size is None:
            raise ValueError("the size of the frames is missing")
        check_pixels(*info.size)
        for known, called in info.class_names.items():
            rows.numbered_class(known, called)
        height, width = info.size
        for number, line in enumerate(lines[1:], start=2):  # noqa: B007 - the message names the last one
            record = parse_json(line)
            for one in record["objects"]:
                x, y, w, h = (finite_number(side, "a side of the box") for side in one["box"])
                box = (x * width, y * height, (x + w) * width, (y + h) * height)
                mask = _mask(one["mask"], box, info.size) if "mask" in one else None
                class_id = rows.class_number(str(one["label"]))
                rows.add(record["frame"], one["id"], box, score=one["score"], class_id=class_id, mask=mask)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise InputError(f"{file}, line {number}: {shortened_line(repr(error))}") from error
    return TableVideo(rows.table(info.positions, **listed_frames(info)))


def _mask(record: Any, box: tuple[float, ...], size: tuple[int, int]) -> dict[str, Any]:
    height, width = (whole_number(side, "a side of the mask") for side in record["size"])
    top, left = round(box[1]), round(box[0])
    if min(height, width) < 1 or min(top, left) < 0 or top + height > size[0] or left + width > size[1]:
        raise ValueError("a mask that leaves the frame")
    try:
        bits = np.frombuffer(base64.b64decode(record["bits"], validate=True), np.uint8)
    except binascii.Error as error:
        raise ValueError(f"a mask that is not base64: {error}") from None
    if len(bits) != packed_length(height, width):
        raise ValueError(f"a mask of {len(bits)} bytes, not of {height}×{width} pixels")
    inside = np.unpackbits(bits, count=height * width).reshape(height, width).view(np.bool_)
    return dict(encode_rle(PackedMasks.from_crops([inside], np.array([[top, left]]), *size))[0])
