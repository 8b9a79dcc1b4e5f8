"""Every reader of a file that may come from a stranger: good inputs to damage, and the call that reads them.

An input is a folder. What is read is looked at as well: numbers that are promised to be finite are.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import chdir, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from tests.association.toy import toy_sample, toy_state
from tests.formats.test_ytvis import box as coco_box
from tests.formats.test_ytvis import coco_vid, track, ytvis
from tests.storage.older_pipeline import write_older_archives
from tests.toy_boxes import box_of, detection_lines, make_clip, make_sequence, mot_line, write_lines
from tests.toy_scenes import CROSSING, candidates_of, write_frames
from trackweave.association.dataset import TrainingSet
from trackweave.masks.packed import PackedMasks
from trackweave.storage.mask_archive import OBJECT_DTYPE, ObjectSegments, VideoSegments
from trackweave.structures.tracks import Tracks


class NotFiniteError(Exception):
    """A reader gave numbers that it promises not to give."""


def finite(*arrays: Any) -> None:
    """Raises where a number is not finite."""
    for array in arrays:
        if array is not None and not np.isfinite(np.asarray(array, np.float64)).all():
            raise NotFiniteError("numbers that are not finite were accepted")


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        name: of the row in the table.
        make: writes its inputs into a folder: each subfolder is one.
        read: reads a folder like these; writes below `folder.parent / "out"` only.
        share: how many inputs it gets, against the others.
        memory: bytes that it may take of any input; to these come 100 times the input's own size.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path], object]
    share: float = 1.0
    memory: int = 512 << 20


READERS: dict[str, Reader] = {}
MODEL_MEMORY = 4 << 30
"""A model's input may take 1 GiB; what it computes from it comes to that."""
Make = Callable[[Path], None]


def reader(
    make: Make, share: float = 1.0, memory: int = 512 << 20
) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    """Adds a function as a reader under its own name."""

    def add(read: Callable[[Path], object]) -> Callable[[Path], object]:
        name = read.__name__.replace("_", " ")
        READERS[name] = Reader(name, make, read, share, memory)
        return read

    return add


def only(folder: Path) -> Path:
    """The one file of an input."""
    return next(path for path in sorted(folder.iterdir()))


def out(folder: Path) -> Path:
    """Where a reader may write; empty."""
    path = folder.parent / "out"
    shutil.rmtree(path, ignore_errors=True)
    return path


def texts(**files: str) -> Make:
    """Inputs of one file each: `SUFFIX_NAME` → content."""

    def make(root: Path) -> None:
        for key, content in files.items():
            suffix, _, name = key.partition("_")
            (root / name).mkdir()
            (root / name / f"{name}.{suffix}").write_text(content, encoding="utf-8")

    return make


# --- frames -----------------------------------------------------------------------------------------------------------


def _pictures(root: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for kind in ("png", "jpg", "tif", "webp", "bmp"):
        (root / kind).mkdir()
        for frame in range(3):
            image = rng.integers(0, 256, (20, 32, 3)).astype(np.uint8)
            Image.fromarray(image).save(root / kind / f"{frame:05d}.{kind}")
    (root / "deep").mkdir()
    for frame in range(3):
        Image.fromarray(rng.integers(0, 4000, (20, 32)).astype(np.uint16)).save(root / "deep" / f"f{frame}.png")


@reader(_pictures, 1.5)
def image_folder(folder: Path) -> object:
    """A folder of images, every frame."""
    from trackweave.frames.open import open_frames

    with open_frames(folder) as frames:
        return [(frames[k].shape, frames.names[k]) for k in range(len(frames))]


def _stacks(root: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    (root / "pages").mkdir()
    pages = [Image.fromarray(rng.integers(0, 60000, (20, 32)).astype(np.uint16)) for _ in range(3)]
    pages[0].save(root / "pages" / "stack.tif", save_all=True, append_images=pages[1:])
    (root / "array").mkdir()
    np.save(root / "array" / "frames.npy", rng.integers(0, 256, (3, 20, 32, 3)).astype(np.uint8))
    (root / "gif").mkdir()
    images = [Image.fromarray(rng.integers(0, 256, (20, 32, 3)).astype(np.uint8)) for _ in range(3)]
    images[0].save(root / "gif" / "clip.gif", save_all=True, append_images=images[1:])


@reader(_stacks)
def stacks_and_arrays(folder: Path) -> object:
    """Pages of a TIFF, an array, an animated GIF."""
    from trackweave.frames.open import open_frames

    with open_frames(only(folder)) as frames:
        return [frames[k].shape for k in range(len(frames))]


def _videos(root: Path) -> None:
    from tests.frames.videos import write_video

    for suffix in ("mp4", "mkv", "avi", "mov", "ts"):
        (root / suffix).mkdir()
        write_video(root / suffix / f"clip.{suffix}", 12, codec="mpeg4" if suffix == "avi" else "libx264", g="8")
    (root / "vp9").mkdir()
    write_video(root / "vp9" / "clip.webm", 6, codec="libvpx-vp9")


@reader(_videos, 2.0)
def video_files(folder: Path) -> object:
    """A video, from both ends."""
    from trackweave.frames.open import open_frames

    with open_frames(only(folder)) as frames:
        positions = [*range(min(len(frames), 16)), len(frames) - 1, 0]
        finite(frames.times)
        return [frames[k].shape for k in positions]


def _labels(root: Path) -> None:
    from PIL import Image

    labels = np.arange(20 * 32).reshape(20, 32) // 128
    for name, image in {
        "palette": Image.fromarray(labels.astype(np.uint8)).convert("P"),
        "deep": Image.fromarray((labels * 300).astype(np.uint16)),
        "white": Image.fromarray((labels > 2).astype(np.uint8) * 255),
    }.items():
        (root / name).mkdir()
        image.save(root / name / "00000.png")


@reader(_labels)
def label_images(folder: Path) -> object:
    """A label image."""
    from trackweave.formats.davis import read_label_png

    return read_label_png(only(folder)).max()


# --- detections, tracks and truth of other tools ----------------------------------------------------------------------

MOT = "".join(f"{line}\n" for line in detection_lines(5))
CSV = "frame,x1,y1,x2,y2,score,class\n" + "".join(f"{k},{10 + k},20,{40 + k},80,0.9,{k % 2}\n" for k in range(6))
COCO = json.dumps(
    [{"image_id": k, "category_id": 1, "bbox": [10 + k, 20, 30, 40], "score": 0.9} for k in range(4)]
    + [
        {
            "image_id": 4,
            "category_id": 2,
            "bbox": [1, 2, 3, 4],
            "score": 0.5,
            "segmentation": {"size": [6, 8], "counts": "0N00000001000"},
        }
    ]
)
TRUTH = "".join(f"{mot_line(k, t, box_of(t, k), 1, 1, 1)}\n" for k in range(5) for t in (1, 2))
KITTI = "".join(
    f"{k} {t} Car 0 0 -1.5 {10 + k} 20 {40 + k} 80 1.5 1.6 3.9 1 1 20 0.1 0.9\n" for k in range(4) for t in (1, 2)
)
GMC = "".join(f"{k} 1 0 {k} 0 1 -{k}\n" for k in range(6))


def _detections(root: Path) -> None:
    texts(txt_mot=MOT, csv_table=CSV, json_coco=COCO)(root)
    import pandas as pd

    (root / "parquet").mkdir()
    pd.DataFrame({"frame": [0, 1], "x1": [1.0, 2], "y1": [1.0, 2], "x2": [5.0, 6], "y2": [7.0, 8]}).to_parquet(
        root / "parquet" / "d.parquet"
    )


@reader(_detections, 2.0)
def detections(folder: Path) -> object:
    """Detections of any format, strictly and with bad rows left out."""
    from trackweave.errors import InputError
    from trackweave.formats.readers import read_detections

    table = read_detections(only(folder), length=50, on_bad_item="skip")
    finite(table.xyxy, table.score)
    for frame in table.frames[:5].tolist():
        table.at(frame)
    with suppress(InputError):
        read_detections(only(folder))
    return len(table)


def _coco(root: Path) -> None:
    (root / "pair").mkdir()
    images = {"images": [{"id": k, "file_name": f"v/{k:03d}.jpg", "height": 90, "width": 160} for k in range(5)]}
    images["categories"] = [{"id": 1, "name": "cat"}]
    (root / "pair" / "images.json").write_text(json.dumps(images))
    (root / "pair" / "results.json").write_text(COCO)


@reader(_coco)
def coco_results_and_images(folder: Path) -> object:
    """COCO results with the file that lists the images."""
    from trackweave.formats.readers import read_detections

    table = read_detections(folder / "results.json", images=folder / "images.json", on_bad_item="skip")
    finite(table.xyxy, table.score)
    return len(table)


VIDEOS = json.dumps(ytvis([track(bboxes=[[0, 1, 2, 3], None, [1, 1, 3, 3]]), track(id=12)]))
IMAGES = json.dumps(coco_vid([coco_box(), coco_box(image_id=30, track_id=6), coco_box(image_id=32, score=0.5)]))


def check_tracks(tracks: Tracks) -> int:
    """Boxes and scores are finite, masks can be looked at."""
    finite(tracks.xyxy, tracks.score)
    if tracks.masks is not None:
        tracks.masks.areas.sum()
    return len(tracks)


@reader(texts(txt_mot=TRUTH, txt_kitti=KITTI, json_ytvis=VIDEOS, json_coco=IMAGES), 2.0)
def tracks_of_other_tools(folder: Path) -> object:
    """Tracks of any format."""
    from trackweave.formats.readers import read_tracks

    return check_tracks(read_tracks(only(folder), sequence="street" if "coco" in only(folder).name else None))


POINTS = [
    {"frame": 0, "id": 1, "points": [[3, 4], [5, 6, 0]], "box": [1, 2, 30, 40]},
    {"frame": "a.png", "box": [1, 2, 3, 4]},
]
SHAPES = [{"group_id": 3, "shape_type": "polygon", "points": [[0, 0], [4, 0], [4, 4]]}]
PROMPT_TABLE = "frame,id,x,y,label,x1,y1,x2,y2\n0,1,10,20,1,,,,\n7,2,8,9,0,1,2,30,40\n"


@reader(
    texts(
        json_own=json.dumps(POINTS),
        json_labelme=json.dumps({"imagePath": "a.png", "shapes": SHAPES}),
        json_ytvis=VIDEOS,
        json_coco=IMAGES,
        csv_table=PROMPT_TABLE,
    )
)
def prompts(folder: Path) -> object:
    """Points, boxes and outlines that a person gives."""
    from trackweave.formats.prompts import read_prompts

    found = read_prompts(only(folder))
    for prompt in found:
        finite(np.array(prompt.points), np.array(prompt.box or ()))
    return len(found)


IMAGES_OF_CVAT = """<annotations><version>1.1</version><meta><task><name>v</name><size>2</size>
<start_frame>0</start_frame><stop_frame>5</stop_frame><frame_filter>step=5</frame_filter>
<original_size><width>8</width><height>6</height></original_size></task></meta>
<image id="0" name="a.png" width="8" height="6"><box label="car" xtl="1" ytl="1" xbr="5" ybr="4" rotation="30">
<attribute name="track_id">4</attribute></box><polygon label="object" points="1,1;6,1;6,5">
<attribute name="track_id">5</attribute></polygon></image>
<image id="5" name="b.png" width="8" height="6"><mask label="car" rle="3, 5, 4" left="2" top="1" width="4" height="3">
<attribute name="track_id">4</attribute><attribute name="score">0.5</attribute></mask></image>
<track id="0" label="van"><box frame="0" keyframe="1" outside="0" xtl="0" ytl="0" xbr="3" ybr="3"/>
<box frame="5" keyframe="1" outside="1" xtl="2" ytl="0" xbr="5" ybr="3"/></track></annotations>
"""


def _cvat_tasks(root: Path) -> None:
    """Boxes, polygons and masks as CVAT's XML."""
    from trackweave.formats.registry import FORMATS, write_video
    from trackweave.formats.videos import TracksVideo
    from trackweave.structures.format_settings import FormatSettings
    from trackweave.structures.run_log import RunLog
    from trackweave.structures.tracked_video import VideoInfo

    masks = PackedMasks.from_bool(np.ones((1, 6, 8), np.bool_))
    parts = [Tracks.from_columns([frame], [1], [[0, 0, 8, 6]], masks=masks) for frame in range(2)]
    video = TracksVideo(Tracks.concat(parts), VideoInfo("v", range(2), ["a.png", "b.png"], (6, 8)))
    for shapes in ("boxes", "polygons", "masks"):
        settings = FormatSettings.checked(shapes=shapes)
        for path in write_video(video, root / shapes / "task.xml", FORMATS["cvat"], settings, RunLog(package=None)):
            if path.suffix != ".xml":  # the labels, which are pasted into CVAT
                path.unlink()
    (root / "images").mkdir()
    (root / "images" / "task.xml").write_text(IMAGES_OF_CVAT)


@reader(_cvat_tasks)
def prompts_from_cvat(folder: Path) -> object:
    """What a person drew in CVAT."""
    from trackweave.formats.prompts import read_prompts

    return len(read_prompts(only(folder)))


@reader(_cvat_tasks)
def tracks_from_cvat(folder: Path) -> object:
    """A task of CVAT as tracks, also where the frames of the video are known."""
    from trackweave.errors import TrackweaveError
    from trackweave.formats.registry import read_video
    from trackweave.structures.tracked_video import VideoInfo

    known = VideoInfo("street", range(3), [f"{k:05d}.jpg" for k in range(3)], (6, 8))
    with suppress(TrackweaveError):
        for _, tracks in read_video(only(folder), "cvat", hints=known).frames():
            check_tracks(tracks)
    return sum(check_tracks(tracks) for _, tracks in read_video(only(folder), "cvat").frames())


ANSWERS = """{"kind": "corrections", "schema_version": 1, "run": "abc"}
{"n": 1, "act": "name", "at": [120, 3], "name": "Ann", "at_time": "2026-11-30T20:00:00.000+00:00"}
{"n": 2, "act": "accept", "first": 0, "last": 9, "tracks": [{"id": 4, "at": [[0, 1], [1, 1]]}]}
{"n": 3, "act": "prompt", "frame": 7, "name": "Bob", "box": [1.5, 2, 30, 40]}
{"n": 4, "act": "undo"}
"""


@reader(texts(jsonl_answers=ANSWERS))
def corrections(folder: Path) -> object:
    """What a person said, as the run's journal and as a file of answers."""
    from trackweave.storage.corrections import read_corrections, read_steps

    return len(read_corrections(only(folder)).acts), len(read_steps(only(folder)))


@reader(texts(txt_mot=TRUTH, txt_kitti=KITTI))
def truth_in_text(folder: Path) -> object:
    """Truth as MOT and KITTI text."""
    from trackweave.errors import InputError
    from trackweave.formats.kitti import read_kitti_annotations
    from trackweave.formats.mot import read_ground_truth, read_mot_annotations

    path = only(folder)
    if "kitti" in path.name:
        return len(read_kitti_annotations(path))
    with suppress(InputError):
        finite(read_mot_annotations(path, is_truth=True).xyxy)
    table = read_ground_truth(path)
    finite(table.xyxy)
    return len(table)


@reader(texts(json_ytvis=VIDEOS, json_coco=IMAGES), 1.5)
def video_json(folder: Path) -> object:
    """YouTube-VIS and COCO-VID."""
    from trackweave.formats.ytvis import VideoJson

    document = VideoJson(only(folder))
    rows = 0
    for name in document.videos:
        table = document.table(name)
        for frame in table.frames.tolist()[:5]:
            masks = table.masks(table.rows(frame))
            rows += 0 if masks is None else int(masks.areas.sum())
        rows += len(table) + len(document.used_categories) + bool(document.has_masks)
    return rows


def _exported(root: Path) -> None:
    """A small video in every format that is read, named by it."""
    from tests.formats.worlds import discs
    from trackweave.formats.registry import FORMATS, write_video
    from trackweave.formats.videos import TracksVideo
    from trackweave.structures.format_settings import FormatSettings
    from trackweave.structures.run_log import RunLog
    from trackweave.structures.tracked_video import VideoInfo, without_overlap

    parts = []
    for frame in range(3):
        masks = without_overlap(PackedMasks.from_bool(discs(2, 20, 24, seed=frame + 2)))
        parts.append(Tracks.from_columns([frame] * 2, [1, 2], masks.boxes, [1, 0.5], [1, 3], masks))
    info = VideoInfo(
        "street", range(3), [f"{k:05d}.jpg" for k in range(3)], (20, 24), None, 10, {1: "car", 3: "person"}
    )
    video, log = TracksVideo(Tracks.concat(parts), info), RunLog(package=None)
    for name, kind in FORMATS.items():
        if kind.reader:
            target = root / name if not kind.suffix else root / name / f"{name}{kind.suffix}"
            write_video(video, target, kind, log=log)
    for name in ("cvat", "labelme", "coco"):
        kind, folder = FORMATS[name], root / f"{name}-masks"
        settings = FormatSettings(shapes="polygons" if name == "coco" else "masks")
        write_video(video, folder / f"{name}{kind.suffix}" if kind.suffix else folder, kind, settings, log)


@reader(_exported, 3.0)
def tracks_of_every_format(folder: Path) -> object:
    """Tracks of every format of `convert`, without and with what is known of the video."""
    from trackweave.errors import TrackweaveError
    from trackweave.formats.registry import FORMATS, read_video
    from trackweave.structures.tracked_video import VideoInfo

    file = next((path for path in sorted(folder.iterdir()) if path.stem in FORMATS and path.suffix), None)
    path, name = (folder, None) if file is None else (file, file.stem)
    hints = VideoInfo("street", range(3), [f"{k:05d}.jpg" for k in range(3)], (20, 24), None, 10)
    seen, failures = 0, []
    for known in (None, hints):
        try:
            seen += sum(check_tracks(tracks) for _, tracks in read_video(path, name, hints=known).frames())
        except TrackweaveError as error:
            failures.append(error)
    if len(failures) == 2:
        raise failures[0]
    return seen


@reader(texts(txt_gmc=GMC))
def camera_motion(folder: Path) -> object:
    """`gmc.txt`."""
    from trackweave.formats.motchallenge import read_gmc

    motion = read_gmc(only(folder))
    finite(motion)
    finite(read_gmc(only(folder), 8))
    return len(motion)


def _sequences(root: Path) -> None:
    make_sequence(root / "toy", frames=5, images=5)
    write_lines(root / "toy" / "gmc.txt", GMC.splitlines()[:5])


@reader(_sequences)
def sequence_folders(folder: Path) -> object:
    """A MOTChallenge folder: description, detections, truth, camera motion, pictures."""
    from trackweave.errors import InputError
    from trackweave.formats.mot import read_ground_truth
    from trackweave.formats.motchallenge import read_sequence
    from trackweave.formats.readers import read_detections

    sequence = read_sequence(folder)
    for fact in (sequence.known_length, sequence.known_frame_rate, sequence.known_size):
        with suppress(InputError):
            fact()
    with suppress(InputError):
        read_detections(sequence.detections(), length=sequence.length)
    return len(read_ground_truth(folder)), str(sequence.image(0)) if sequence.images else None


# --- our own files ----------------------------------------------------------------------------------------------------


def _candidates(root: Path) -> None:
    for name, with_mask in (("masks", True), ("boxes", False)):
        candidates_of(CROSSING, root / name, range(4), with_mask=with_mask)
    from trackweave.masks.codecs import encode_rle

    for name, compressed in (("rle", True), ("stack", False)):
        folder = root / name / "level_2" / "filtered"
        candidates_of(CROSSING, root / name, range(4), with_mask=compressed)
        content = json.loads((folder / "filtered.json").read_text())
        for entry in content["frames"]:
            masks = np.stack([CROSSING.labels[entry["frame_idx"]] == k + 1 for k in range(len(entry["items"]))])
            for item, mask in zip(entry["items"], masks, strict=True):
                if compressed:
                    del item["mask"]
                    item["segmentation"] = encode_rle(PackedMasks.from_bool(mask[None]))[0]
            if not compressed:
                np.save(folder / f"seg_frame_{entry['frame_idx']:05d}.npy", masks.astype(np.uint8))
        (folder / "filtered.json").write_text(json.dumps(content))


@reader(_candidates, 2.0)
def candidates(folder: Path) -> object:
    """A level's candidates: the list, packed and compressed masks, mask stacks."""
    from trackweave.storage.candidates import check_candidates, filtered_path, read_candidates, read_filtered

    manifest = read_filtered(filtered_path(folder / "level_2"))
    found, size = 0, CROSSING.labels.shape[1:]
    for entry in manifest.frames:
        problems = check_candidates(manifest, entry, size)
        read, more = read_candidates(manifest, entry, size)
        if problems != more:
            raise AssertionError(f"the check says {problems}, the reader {more}")
        finite(read.xyxy, read.score)
        found += len(read) + int(read.area.sum())
    return found


def _foreign_candidates(root: Path) -> None:
    from tests.formats.candidate_files import LAYOUTS

    frames = {f"{k:05d}": np.stack([CROSSING.labels[k] == n + 1 for n in range(2)]) for k in (0, 2)}
    for name, layout in LAYOUTS.items():
        (root / name).mkdir()
        layout(root / name, frames)


def _trees(root: Path) -> None:
    from trackweave.storage.candidates import write_parents

    (root / "tree").mkdir(parents=True)
    links = {(2, 0): None, (4, 0): (2, 0), (4, 1): (2, 0), (6, 3): None}
    write_parents(root / "tree" / "tree.json", [(0, "a.png", links), (5, "b.png", {(2, 1): None})])


@reader(_trees)
def trees_of_candidates(folder: Path) -> object:
    """Which candidate is part of which."""
    from trackweave.storage.candidates import read_parents

    return sum(map(len, read_parents(folder / "tree.json").values()))


def _raw_candidates(root: Path) -> None:
    folder = root / "raw"
    folder.mkdir(parents=True)
    for k in (0, 2):
        masks = np.stack([CROSSING.labels[k] == n + 1 for n in range(2)])
        np.savez(folder / f"frame_{k:05d}.npz", masks=masks.astype(np.uint8), has_mask=np.array([True, False]))
        found = [{"raw_index": n, "bbox": [2, 1, 9, 7], "area": 63, "stability_score": 0.9} for n in range(2)]
        content = {"frame_idx": k, "frame_name": f"{k:05d}.png", "candidates": found}
        (folder / f"frame_{k:05d}.json").write_text(json.dumps(content))


@reader(_raw_candidates)
def raw_candidates_of_the_older_pipeline(folder: Path) -> object:
    """Unfiltered candidates: a list and an archive of masks for each frame."""
    from trackweave.formats.candidates import read_raw_folder
    from trackweave.storage.candidates import read_candidates

    found, manifest = 0, read_raw_folder(folder)
    for entry in manifest.frames:
        read, _ = read_candidates(manifest, entry, CROSSING.labels.shape[1:])
        finite(read.xyxy, read.score)
        found += len(read) + int(read.area.sum())
    return found


@reader(_foreign_candidates, 2.0)
def candidates_of_other_tools(folder: Path) -> object:
    """Candidates as COCO, SAM's JSON, label images, folders of PNG masks, arrays."""
    from trackweave.formats.candidates import read_candidate_files
    from trackweave.storage.candidates import read_candidates

    files = list(folder.iterdir())
    path = files[0] if len(files) == 1 and files[0].is_file() else folder
    found, size = 0, CROSSING.labels.shape[1:]
    manifest = read_candidate_files(path, ("00000", "00002"))
    for entry in manifest.frames:
        read, _ = read_candidates(manifest, entry, size)
        finite(read.xyxy, read.score)
        found += len(read) + int(read.area.sum())
    return found


def _mask_run(folder: Path) -> Path:
    from trackweave.pipelines.masks import track_masks
    from trackweave.predictors.static import StaticPredictor

    inputs = folder.parent / f"{folder.name}-inputs"
    root = candidates_of(CROSSING, inputs, [0, 2])
    track_masks(CROSSING.frames, folder, candidates=root, predictor=StaticPredictor(), progress=lambda *_: None)
    shutil.rmtree(inputs)
    return folder


def _archives(root: Path) -> None:
    run = _mask_run(root / "run")
    for name in ("video_segments", "object_segments"):
        (root / name).mkdir()
        shutil.copy(next(run.rglob(f"{name}*.npz")), root / name / f"{name}.npz")
    (root / "both").mkdir()
    for name in ("video_segments", "object_segments"):
        shutil.copy(next(run.rglob(f"{name}*.npz")), root / "both" / f"{name}.npz")
    with VideoSegments(root / "video_segments" / "video_segments.npz") as video:
        write_older_archives(video, root / "older both")
    (root / "older").mkdir()
    shutil.copy(root / "older both" / "video_segments.npz", root / "older")
    shutil.rmtree(run)


@reader(_archives, 2.5)
def mask_archives(folder: Path) -> object:
    """`video_segments.npz`, `object_segments.npz`, and both together, of ours and of the older pipeline."""
    seen = 0
    video_path, objects_path = folder / "video_segments.npz", folder / "object_segments.npz"
    if not objects_path.exists():
        with VideoSegments(video_path) as video:
            for frame in video.frames:
                objects = video.frame(frame)
                finite(objects.xyxy, objects.score)
                seen += int(objects.masks.areas.sum()) + len(video.boxes(frame))
            return seen + check_tracks(Tracks.from_frames(video, level=2, with_masks=True))
    with ObjectSegments(objects_path) as archive:
        for track_id in archive.ids:
            seen += len(archive.references(track_id))
            if video_path.exists():
                with VideoSegments(video_path) as video:
                    seen += sum(len(part) for part in archive.over_time(track_id, video))
    return seen


def _track_archives(root: Path) -> None:
    from tests.storage.test_track_archive import rows, written

    for name, masks in (("boxes", None), ("masks", (6, 7))):
        (root / name).mkdir()
        parts = [rows([0, 0, 1], [1, 2, 1], masks=masks), rows([2, 3], [1, 2], masks=masks)]
        written(root / name / "tracks.npz", *parts)


@reader(_track_archives, 2.0)
def track_archives(folder: Path) -> object:
    """`tracks.npz`."""
    from trackweave.storage.track_archive import TracksArchive

    with TracksArchive(only(folder)) as archive:
        rows = archive.rows()
        check_tracks(rows.tracks)
        archive.rows(with_masks=False)
        archive.at(archive.last)
        return len(archive), archive.has_masks, archive.mask_size


def _recordings(root: Path) -> None:
    (root / "entries").mkdir()
    CROSSING.record(root / "entries" / "recording.npz")
    (root / "archive").mkdir()
    run = _mask_run(root / "run")
    shutil.copy(next(run.rglob("video_segments*.npz")), root / "archive" / "recording.npz")
    shutil.rmtree(run)


@reader(_recordings)
def recordings(folder: Path) -> object:
    """Recorded masks, which the predictor `replay` plays."""
    from trackweave.ids import FrameIndex
    from trackweave.storage.recording import open_recording

    recording = open_recording(only(folder))
    try:
        seen = sum(recording.size)
        for frame in map(FrameIndex, range(5)):
            objects = recording.objects(frame)
            seen += int(recording.masks(frame, objects).areas.sum())
        return seen
    finally:
        recording.close()


def _samples(root: Path) -> None:
    from trackweave.storage.sample_folder import SampleFolder

    with SampleFolder(root / "plain") as folder:
        for frame in range(2):
            folder.write(toy_sample(frame))
    with SampleFolder(root / "truth") as folder:
        for frame in range(2):
            folder.write(toy_sample(frame, gt_track_ids=np.array([1, 2, -1, 3])))


@reader(_samples, 2.0)
def training_samples(folder: Path) -> object:
    """A folder of samples and its list: read, inspected, and logged into once more."""
    from trackweave.association.dataset import load_samples
    from trackweave.association.inspection import inspect_samples, render_text
    from trackweave.association.logged_samples import assignment_state, read_samples
    from trackweave.association.settings import DataSettings
    from trackweave.errors import ArtifactError
    from trackweave.storage.sample_folder import SampleFolder

    report = inspect_samples(folder)
    json.dumps(report.to_json(), allow_nan=False)
    render_text(report)
    with SampleFolder(folder) as again:
        again.write(toy_sample(7))
    for _, sample in read_samples([folder], skip_corrupt=True).samples():
        finite(sample.track_features, sample.det_features, sample.cost_matrix)
        assignment_state(sample)
    with suppress(ArtifactError):  # too few to train on
        load_samples([folder], DataSettings(skip_corrupt=True))
    return len(report.to_json())


def _journals(root: Path) -> None:
    from trackweave.storage.result_log import ResultJournal

    (root / "journal").mkdir()
    with ResultJournal(root / "journal" / "level_2.cohorts", "k") as journal:
        for batch in range(3):
            for frame in range(3):
                rows = np.zeros(2, OBJECT_DTYPE)
                rows["id"] = [batch * 2, batch * 2 + 1]
                journal.append(frame, rows, PackedMasks.from_bool(np.ones((2, 6, 9), np.bool_)))
            journal.commit({"batch": batch})


@reader(_journals, 1.5)
def result_journals(folder: Path) -> object:
    """The journal of a run that was cut off."""
    from trackweave.storage.result_log import ResultJournal

    with ResultJournal(only(folder), "k") as journal:
        seen = len(journal.committed)
        for frame in journal.frames:
            rows, masks = journal.read(frame)
            seen += len(rows) + int(masks.areas.sum()) + len(journal.read_rows(frame))
        journal.truncate(1)
        return seen


def _runs(root: Path) -> None:
    from trackweave.pipelines.boxes import track_boxes
    from trackweave.reports.page import report

    run = _mask_run(root / "masks")
    report(run)
    sequence = make_sequence(root / "sequence", frames=6, images=6)
    track_boxes(sequence, root / "boxes", overlay=False, progress=lambda *_: None)
    shutil.rmtree(sequence)
    for path in [*root.rglob("*.png"), *root.rglob("report.html")]:
        path.unlink()


@reader(_runs, 2.0)
def run_folders(folder: Path) -> object:
    """A finished run: opened, reported, exported."""
    from trackweave.errors import TrackweaveError
    from trackweave.exporters import export
    from trackweave.pipelines.run import open_run
    from trackweave.reports.page import report

    run = open_run(folder)
    seen = len(run.warnings) + len(repr(run)) + len(run._repr_html_())
    target = out(folder)
    failures = []
    for action in (
        lambda: check_tracks(run.tracks()),
        lambda: len(run.frames.names),
        lambda: report(folder),
        lambda: export(folder, "mot", target / "t.txt"),
        lambda: export(folder, "davis", target / "d", level=2) if run.kind == "masks" else None,
    ):
        try:
            action()
        except TrackweaveError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return seen


@cache
def _spoken_runs() -> tuple[Path, tempfile.TemporaryDirectory[str]]:
    """A run of masks and one of boxes, to which answers are damaged; made once in a process, and kept with it."""
    from trackweave.pipelines.boxes import track_boxes

    kept = tempfile.TemporaryDirectory(prefix="spoken-")
    root = Path(kept.name)
    run = _mask_run(root / "masks")
    sequence = make_sequence(root / "sequence", frames=6)
    track_boxes(sequence, root / "boxes", overlay=False, progress=lambda *_: None)
    for path in [*run.rglob("*.png"), *run.rglob("*.mp4")]:
        path.unlink()
    return root, kept


def _mask_acts() -> list[dict[str, Any]]:
    """One of each act about the run of masks of `_spoken_runs`."""
    from trackweave.masks.codecs import encode_rle

    brush = dict(encode_rle(PackedMasks.from_bool(CROSSING.mask(2, "a")[None]))[0])
    return [
        {"act": "name", "at": [0, 2], "name": "Bob"},
        {"act": "prompt", "frame": 3, "name": "Cid", "points": [[14, 3, 1], [2, 6, 0]]},
        {"act": "prompt", "frame": 2, "name": "Ann", "mask": brush, "of": [2, 1]},
        {"act": "prompt", "frame": 3, "name": "Zoe", "box": [1.5, 2, 9, 8], "level": 2},
        {"act": "split", "before": [1, 1], "at": [2, 1]},
        {"act": "merge", "one": [2, 1], "other": [3, 1]},
        {"act": "undo"},
        {"act": "redo"},
        {"act": "end", "at": [3, 2]},
        {"act": "nobody", "at": [0, 2]},
        {"act": "undo"},
        {"act": "accept", "first": 0, "last": 1},
    ]


def _box_acts() -> list[dict[str, Any]]:
    """The same about the run of boxes."""
    return [
        {"act": "name", "at": [0, 0], "name": "Ann"},
        {"act": "split", "before": [2, 0], "at": [3, 0]},
        {"act": "merge", "one": [2, 0], "other": [3, 0]},
        {"act": "undo"},
        {"act": "end", "at": [4, 1]},
        {"act": "nobody", "at": [5, 1]},
        {"act": "prompt", "frame": 3, "name": "Bob", "box": [10.5, 20, 40, 80]},
        {"act": "accept", "first": 0, "last": 1},
    ]


def _spoken(root: Path) -> None:
    """What a person says, and the journal of what was said: of masks and of boxes."""
    for kind, acts in (("masks", _mask_acts()), ("boxes", _box_acts())):
        (root / kind).mkdir()
        (root / kind / f"{kind}.jsonl").write_text("".join(f"{json.dumps(act)}\n" for act in acts))
        (root / f"{kind} journal").mkdir()
        header = {"kind": "corrections", "schema_version": 1}
        said = [act for act in acts if act["act"] != "accept"] + [
            {"act": "accept", "first": 0, "last": 1, "tracks": []}
        ]
        lines = [header, *({"n": n, **act} for n, act in enumerate(said, start=1))]
        (root / f"{kind} journal" / f"{kind}-journal.jsonl").write_text(
            "".join(f"{json.dumps(line)}\n" for line in lines)
        )


@reader(_spoken, 2.0)
def answers_about_runs(folder: Path) -> object:
    """Answers that are said about a run, or lie in its folder: decided, prompts moved, written, read and exported."""
    from trackweave.exporters import export
    from trackweave.pipelines.corrections import correct, open_proofreading
    from trackweave.predictors.flow.predictor import FlowPredictor
    from trackweave.storage.corrections import read_steps

    path = only(folder)
    kind, _, journal = path.stem.partition("-")
    target = out(folder)
    shutil.copytree(_spoken_runs()[0] / kind, target / "run")
    options: Any = {} if kind == "boxes" else {"frames": CROSSING.frames, "predictor": FlowPredictor()}
    steps = [] if journal else read_steps(path)
    if journal:
        shutil.copy(path, target / "run" / "corrections.jsonl")
    run = correct(target / "run", steps, progress=lambda *_: None, **options)
    with open_proofreading(run.root, **options) as proofreading:
        seen = len(proofreading.refused) + len(proofreading.questions())
    export(run.root, "mot", target / "t.txt")
    return seen + check_tracks(run.tracks())


def _corrected_runs(root: Path) -> None:
    """Runs with answers in force: the run's own files beside the corrected ones, masks of prompts, a journal."""
    from trackweave.pipelines.corrections import correct
    from trackweave.predictors.flow.predictor import FlowPredictor
    from trackweave.storage.corrections import read_steps

    (root / "answers").mkdir(parents=True)
    for kind, acts in (("masks", _mask_acts()), ("boxes", _box_acts())):
        shutil.copytree(_spoken_runs()[0] / kind, root / kind)
        path = root / "answers" / f"{kind}.jsonl"
        path.write_text("".join(f"{json.dumps(act)}\n" for act in acts))
        options: Any = {} if kind == "boxes" else {"frames": CROSSING.frames, "predictor": FlowPredictor()}
        correct(root / kind, read_steps(path), progress=lambda *_: None, **options)
    shutil.rmtree(root / "answers")


@reader(_corrected_runs, 1.5)
def corrected_runs(folder: Path) -> object:
    """A run with answers: read, exported, and gone on with by another answer and an undo."""
    from trackweave.exporters import export
    from trackweave.pipelines.corrections import correct
    from trackweave.pipelines.run import open_run
    from trackweave.predictors.flow.predictor import FlowPredictor
    from trackweave.structures.corrections import Named, Observation, Prompted, Undone

    run = open_run(folder)
    seen = check_tracks(run.tracks()) + check_tracks(run.tracks(raw=True)) if run.kind == "masks" else 0
    export(folder, "mot", out(folder) / "t.txt")
    options: Any = {"frames": CROSSING.frames, "predictor": FlowPredictor()} if run.kind == "masks" else {}
    act = Prompted(3, "Eve", box=(3, 3, 9, 9)) if run.kind == "masks" else Named(Observation(2, 0), "Eve")
    correct(folder, [act], progress=lambda *_: None, **options)
    return seen + check_tracks(correct(folder, [Undone(), Undone()], **options).tracks())


class Cut(Exception):
    """Ends a run or a training in its middle, as a kill does."""


def _cut_runs(root: Path) -> None:
    """A mask run that was cut off between two levels, and the inputs to go on with."""
    from trackweave.pipelines.masks import track_masks
    from trackweave.predictors.static import StaticPredictor
    from trackweave.tracking.settings import TrackingSettings

    folder = root / "run"
    write_frames(CROSSING, folder / "frames")
    candidates_of(CROSSING, folder / "candidates", [0, 2])
    candidates_of(CROSSING, folder / "candidates", [0, 2], level=4)

    shown = [-1]

    def cut(done: int, total: int, label: str) -> None:
        if "4" in label and done == shown[-1]:  # said again when the batch is finished
            raise Cut
        shown.append(done)

    settings = TrackingSettings(on_bad_item="skip")
    with suppress(Cut), chdir(folder):  # relative names: the run is gone on with from another place
        track_masks(
            "frames", "run", candidates="candidates", settings=settings, predictor=StaticPredictor(), progress=cut
        )


@reader(_cut_runs, 0.6)
def resumed_runs(folder: Path) -> object:
    """A mask run that goes on from what it left: frames, candidates, journals, manifest."""
    from trackweave.pipelines.masks import track_masks
    from trackweave.predictors.static import StaticPredictor
    from trackweave.tracking.settings import TrackingSettings

    options: Any = {"predictor": StaticPredictor(), "progress": lambda *_: None, "resume": True}
    settings = TrackingSettings(on_bad_item="skip")
    with chdir(folder):
        run = track_masks("frames", "run", candidates="candidates", settings=settings, **options)
        return check_tracks(run.tracks())


# --- learned association ----------------------------------------------------------------------------------------------


@cache
def _training_set() -> TrainingSet:
    """The same in every process: a logger's name, which is random, is part of what a training belongs to."""
    from tests.association.small_training import training_set

    with patch("secrets.token_hex", lambda size: "0"), patch("os.getpid", lambda: 1):
        return training_set()


def _trainings(root: Path) -> None:
    from tests.association.small_training import QUICK
    from trackweave.association.training.loop import train

    def cut(number: int, record: object) -> None:
        if number == QUICK.epochs - 1:
            raise Cut

    with suppress(Cut):
        train(_training_set(), root / "training", QUICK, on_epoch_end=cut)


def _training_sets(root: Path) -> None:
    (root / "cache").mkdir()
    _training_set().save(root / "cache" / "cache.npz")


@reader(_training_sets, 0.7)
def caches_of_training_sets(folder: Path) -> object:
    """A training set as it is kept for the next training."""
    from trackweave.association.dataset import TrainingSet

    loaded = TrainingSet.load(only(folder))
    frames = np.arange(min(8, len(loaded.frame_sizes())))
    loaded.take(frames)
    return loaded.matched_pairs


@reader(_trainings, 0.5)
def checkpoints(folder: Path) -> object:
    """A trained model."""
    from trackweave.association.training.checkpoint import load_checkpoint

    return load_checkpoint(folder / "best.pt").threshold, load_checkpoint(folder / "last.pt").progress is None


@reader(_trainings, 0.15)
def resumed_trainings(folder: Path) -> object:
    """A training that goes on."""
    from tests.association.small_training import QUICK
    from trackweave.association.training.loop import train

    result = train(_training_set(), folder, QUICK, resume=True)
    json.dumps(result.metrics.to_json(), allow_nan=False)
    return len(result.epochs)


def _scorers(root: Path) -> None:
    from trackweave.association.scorer import default_weights

    (root / "model").mkdir()
    shutil.copy(default_weights(), root / "model" / "model.onnx")


@reader(_scorers, 0.5, MODEL_MEMORY)
def scorers(folder: Path) -> object:
    """A model of association, and what it says of one frame."""
    from trackweave.association.scorer import LearnedScorer

    cost = LearnedScorer(only(folder)).cost(toy_state(5, width=None))
    finite(cost)
    return cost.shape


@reader(_sequences, 0.5)
def trajectories(folder: Path) -> object:
    """A sequence whose truth is simulated again."""
    from trackweave.pipelines.samples import read_trajectories

    return len(read_trajectories([folder]))


@reader(_sequences, 0.3)
def samples_of_sequences(folder: Path) -> object:
    """A sequence that is tracked and logged with its truth, in a folder named after it."""
    from trackweave.pipelines.samples import build_samples

    return build_samples([folder], out(folder), by="sequence", progress=lambda *_: None)


@reader(texts(json_noise="{}"), 0.5)
def simulated_detectors(folder: Path) -> object:
    """A simulated detector's errors, which `assoc fit-detector` writes."""
    from trackweave.simulation.settings import detector_noise

    return detector_noise(only(folder))


def _noise(root: Path) -> None:
    from trackweave.simulation.settings import DETECTORS

    texts(json_noise=next(iter(DETECTORS.values())).to_json())(root)


READERS["simulated detectors"] = Reader("simulated detectors", _noise, simulated_detectors, 0.5)


# --- models -----------------------------------------------------------------------------------------------------------


def _detectors(root: Path) -> None:
    from tests.detectors import onnx_models

    for name in ("yolov8_transposed", "end_to_end", "counted", "rt_detr", "labelled", "yolov8_segment"):
        (root / name).mkdir()
        getattr(onnx_models, name)(root / name / "model.onnx")


@reader(_detectors, 1.5, MODEL_MEMORY)
def detector_models(folder: Path) -> object:
    """An ONNX detector, and its boxes of one frame."""
    from tests.detectors.onnx_models import draw
    from trackweave.detectors.onnx import OnnxDetector

    detector = OnnxDetector(only(folder))
    try:
        found = detector.detect(draw(64, 96, (20, 10, 60, 40)))
        finite(found.xyxy, found.score)
        return len(found)
    finally:
        detector.close()


def _embedders(root: Path) -> None:
    from tests.detectors.test_embedding_onnx import write_model

    (root / "model").mkdir()
    write_model(root / "model" / "reid.onnx")


@reader(_embedders, 0.7, MODEL_MEMORY)
def embedder_models(folder: Path) -> object:
    """An ONNX network of appearance, and its vectors of two boxes."""
    from trackweave.detectors.embedders import OnnxEmbedder

    embedder = OnnxEmbedder(only(folder))
    image = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
    vectors = embedder.embed(image, np.array([[0, 0, 20, 20], [10, 10, 50, 30]], np.float32))
    finite(vectors)
    return vectors.shape


def _weights(root: Path) -> None:
    from tests.predictors.test_weights import TYPES, folder, meta_file

    for backend, kind in TYPES.items():
        vision = {"backbone_feature_sizes": [[256, 256], [128, 128], [64, 64]]}
        folder(root / backend, kind, image_size=1024, vision_config=vision)
    folder(root / "parts")
    shutil.move(root / "parts" / "model.safetensors", root / "parts" / "model-00001-of-00001.safetensors")
    table = {"metadata": {}, "weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (root / "parts" / "model.safetensors.index.json").write_text(json.dumps(table))
    meta_file(root / "meta" / "sam2.1_hiera_tiny.pt")


@reader(_weights, 1.5)
def weights_of_predictors(folder: Path) -> object:
    """Folders and files of weights, checked before a model is built."""
    from trackweave.errors import PredictorError, TrackweaveError
    from trackweave.predictors.weights import backend_for, check_weights, resolve_weights

    request = next(iter(folder.glob("*.pt")), folder)
    failures: list[TrackweaveError] = []
    with suppress(TrackweaveError):
        backend_for(request, {})
    for backend in ("sam2-hf", "edgetam", "sam3-tracker", "sam2"):
        try:
            for weights in resolve_weights(backend, request, {}):
                check_weights(weights)
        except PredictorError as error:
            failures.append(error)
    if len(failures) == 4:
        raise failures[0]
    return len(failures)


def _records(root: Path) -> None:
    from trackweave.predictors.weights import WeightsRecord

    (root / "state").mkdir()
    (root / "weights.bin").write_bytes(b"weights")
    WeightsRecord(root / "state" / "weights.json").check([root / "weights.bin"])
    (root / "weights.bin").unlink()


@reader(_records, 0.5)
def records_of_weights(folder: Path) -> object:
    """Checksums of weights that were used before."""
    from trackweave.predictors.weights import WeightsRecord

    record = WeightsRecord(folder / "weights.json")
    record.check([only(folder)])
    return len(record.warnings)


# --- settings ---------------------------------------------------------------------------------------------------------

YAML = """tracker:
  preset: bytetrack
  high_score: 0.5
  classes: votes
tracking:
  max_propagate: 40
log:
  dir: samples
  sequence: street
  embed_dim: 64
input:
  fps: 25
  size: 640x480
perception:
  detector_options: {threshold: 12}
predictor:
  device: cpu
evaluate:
  metrics: [hota, jf]
"""


@reader(texts(yaml_all=YAML), 2.0)
def settings_files(folder: Path) -> object:
    """A YAML file of settings, for every command."""
    from trackweave.errors import TrackweaveError
    from trackweave.options.schema import SECTIONS, Schema
    from trackweave.options.sources import resolve

    failures = []
    for section in ("tracker", "log", "perception", "evaluate"):
        try:
            list(resolve(Schema((section,)), file=only(folder)).entries())
        except TrackweaveError as error:
            failures.append(error)
    list(resolve(Schema(tuple(SECTIONS)), file=only(folder)).entries())
    return failures


PAIRS = "tracker.high_score=0.5\nlog.sequence=street\nlog.dir=samples\ninput.size=640x480\nevaluate.metrics=hota,jf\n"
VARIABLES = "DIAG=1\nTRANSFORMER_LOG_DIR=samples\nEMBED_DIM=64\nCONFIDENCE_THRESHOLD=0.4\n"


@reader(texts(txt_pairs=PAIRS, txt_variables=VARIABLES))
def settings_in_text(folder: Path) -> object:
    """`--set KEY=VALUE` and environment variables."""
    from trackweave.options.schema import SECTIONS, Schema
    from trackweave.options.sources import resolve

    lines = only(folder).read_bytes().decode("utf-8", "surrogateescape").splitlines()
    schema = Schema(tuple(SECTIONS))
    if "pairs" in only(folder).name:
        return list(resolve(schema, pairs=lines).entries())
    return list(resolve(schema, environment=dict(line.partition("=")[::2] for line in lines)).entries())


# --- whole jobs -------------------------------------------------------------------------------------------------------


def _evaluations(root: Path) -> None:
    write_lines(root / "mot" / "gt" / "toy.txt", TRUTH.splitlines())
    write_lines(root / "mot" / "results" / "toy.txt", TRUTH.splitlines())
    from PIL import Image

    for side in ("gt", "results"):
        folder = root / "davis" / side / "clip"
        folder.mkdir(parents=True)
        for frame, labels in enumerate(CROSSING.labels):
            Image.fromarray(labels.astype(np.uint8)).convert("P").save(folder / f"{frame:05d}.png")
        (root / "ytvis" / side).mkdir(parents=True)
        (root / "ytvis" / side / "v.json").write_text(VIDEOS)


@reader(_evaluations, 0.6)
def evaluations(folder: Path) -> object:
    """Results against truth, of three formats."""
    from trackweave.evaluation.evaluate import evaluate

    truth, results = folder / "gt", folder / "results"
    if (truth / "v.json").exists():
        truth, results = truth / "v.json", results / "v.json"
    elif (truth / "toy.txt").exists():
        truth, results = truth / "toy.txt", results / "toy.txt"
    scores = evaluate(results, truth)
    json.dumps(scores.to_json(), allow_nan=False)
    return scores.notes


@reader(_sequences, 0.4)
def box_runs(folder: Path) -> object:
    """`boxes` of a sequence folder, bad items left out."""
    from trackweave.pipelines.boxes import track_boxes
    from trackweave.pipelines.settings import InputSettings

    video = InputSettings(on_bad_item="skip", fps=25)
    run = track_boxes(folder, out(folder), video=video, overlay=False, progress=lambda *_: None)
    return check_tracks(run.tracks())


def _prompts(root: Path) -> None:
    from PIL import Image

    folder = root / "clip"
    write_frames(CROSSING, folder / "frames")
    Image.fromarray(CROSSING.labels[0].astype(np.uint8)).convert("P").save(folder / "00000.png")


@reader(_prompts, 0.4)
def mask_runs(folder: Path) -> object:
    """`masks` of a folder of images from a label image."""
    from trackweave.pipelines.masks import track_masks
    from trackweave.predictors.static import StaticPredictor

    options: Any = {"predictor": StaticPredictor(), "progress": lambda *_: None}
    return check_tracks(track_masks(folder / "frames", out(folder), prompts=[folder / "00000.png"], **options).tracks())


def _clips(root: Path) -> None:
    (root / "clip").mkdir()
    make_clip(root / "clip" / "clip.mp4", 6)


@reader(_clips, 0.2)
def box_runs_on_videos(folder: Path) -> object:
    """`boxes` of a video, with the detector that needs no weights."""
    from trackweave.pipelines.boxes import track_boxes

    run = track_boxes(only(folder), out(folder), detections="motion", overlay=False, progress=lambda *_: None)
    return check_tracks(run.tracks())


def chosen(names: Iterable[str]) -> list[Reader]:
    """Readers by name; all of them where none is named."""
    wanted = list(names)
    unknown = sorted(set(wanted) - set(READERS))
    if unknown:
        raise SystemExit(f"no such reader: {', '.join(unknown)}; there are {', '.join(READERS)}")
    return [READERS[name] for name in wanted or READERS]


def make_inputs(readers: Iterable[Reader], root: Path) -> None:
    """Writes the good inputs of readers in a process of its own, so that the pool's own stays small."""
    names = [reader.name for reader in readers]
    code = (
        "import sys; from pathlib import Path; from tests.faults.readers import write_inputs; "
        "write_inputs(sys.argv[2:], Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(root), *names], check=True)


def write_inputs(names: Iterable[str], root: Path) -> None:
    """Writes `ROOT/READER/INPUT/…`."""
    for each in chosen(names):
        folder = root / each.name
        folder.mkdir(parents=True)
        each.make(folder)
