"""The formats that tracks are written in and read from: one list for `export`, `convert`, `evaluate` and the docs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from trackweave.errors import InputError, SettingError, listed, wording
from trackweave.formats.columns import is_header
from trackweave.formats.fiftyone import is_fiftyone
from trackweave.formats.kitti import is_kitti_line
from trackweave.formats.label_studio import is_label_studio
from trackweave.formats.labelme import is_labelme
from trackweave.formats.mots import is_mots_line
from trackweave.formats.tables import read_json, read_start
from trackweave.formats.yolo import is_yolo
from trackweave.formats.youtube_vos import is_youtube_vos
from trackweave.ids import PROMPTED_LEVEL, FrameIndex
from trackweave.settings import nearest
from trackweave.storage.npz import archive_kind
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.run_log import RunLog
from trackweave.structures.tracked_video import Losses, TrackedVideo, VideoInfo
from trackweave.structures.tracks import Tracks


class Writer(Protocol):
    """Writes a video's objects, one frame at a time; the files appear whole or not at all.

    Returns the files. What the format cannot hold goes to the losses.
    """

    def __call__(self, path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses, /) -> list[Path]: ...


class Reader(Protocol):
    """Reads a video's objects from a file or folder.

    Takes what is known of the video from elsewhere, and which of several videos is meant; both may be None.
    """

    def __call__(self, path: Path, hints: VideoInfo | None, name: str | None, /) -> TrackedVideo: ...


@dataclass(frozen=True)
class TrackFormat:
    """A format.

    Attributes:
        name: of `--to` and `--from`.
        title: what it is, for people.
        suffix: of its files; empty for a folder.
        writer: `module:function`, a `Writer`; empty: it is only read.
        reader: `module:function`, a `Reader`; empty: it is only written.
        boxes: it holds boxes; False: only those of masks.
        masks: it holds masks.
        overlap: masks may overlap.
        scores: it holds scores.
        classes: it holds classes.
        levels: it holds levels of granularity.
        video: what it keeps of the video: `name`, `size`, frames' `names`, `numbers`, `times`.
        needs_pictures: it shows the frames' pictures.
        recognised: its content shows that it is this one.
        streamed_reading: it is read frame by frame; else all rows are in memory, masks as run lengths. Writers of all
            formats take one frame at a time.
        ids: which ids it holds.
        tested_with: the software that its files were opened with.
    """

    name: str
    title: str
    suffix: str
    writer: str = ""
    reader: str = ""
    boxes: bool = True
    masks: bool = True
    overlap: bool = True
    scores: bool = True
    classes: bool = True
    levels: bool = False
    video: str = ""
    needs_pictures: bool = False
    recognised: bool = True
    streamed_reading: bool = False
    ids: str = "any"
    tested_with: str = ""

    def write(self) -> Writer:
        """Its writer."""
        return _function(self.writer)  # type: ignore[no-any-return]

    def read(self) -> Reader:
        """Its reader."""
        return _function(self.reader)  # type: ignore[no-any-return]


def _function(name: str) -> Any:
    """By name only, so that a format loads what it needs when it is used."""
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


_HERE, _SHOWN = "trackweave.formats.", "trackweave.visualization.pictures:"
FORMATS: Mapping[str, TrackFormat] = {
    kind.name: kind
    for kind in (
        TrackFormat(
            "mot", "MOTChallenge text", ".txt",
            _HERE + "mot:write_mot_video", _HERE + "mot:read_mot_video",
            masks=False, video="numbers", tested_with="trackeval, datumaro",
        ),
        TrackFormat(
            "kitti", "KITTI tracking text", ".txt",
            _HERE + "kitti:write_kitti", _HERE + "kitti:read_kitti",
            masks=False, video="numbers", tested_with="trackeval",
        ),
        TrackFormat(
            "davis", "DAVIS label images, 8 or 16 bits", "",
            _HERE + "davis:write_davis", _HERE + "davis:read_davis",
            boxes=False, overlap=False, scores=False, classes=False, ids="1 … 254, or 65535",
            video="names size", streamed_reading=True, tested_with="Pillow, trackeval",
        ),
        TrackFormat(
            "panoptic", "COCO panoptic: label images and JSON, for each level", "",
            _HERE + "panoptic:write_panoptic",
            boxes=False, overlap=False, scores=False, levels=True, ids="1 … 16777215",
            video="name size names numbers", tested_with="datumaro",
        ),
        TrackFormat(
            "mots", "MOTS text", ".txt",
            _HERE + "mots:write_mots", _HERE + "mots:read_mots",
            boxes=False, overlap=False, scores=False, video="size numbers", tested_with="trackeval",
        ),
        TrackFormat(
            "mots-png", "MOTS label images, 16 bits", "",
            _HERE + "mots:write_mots_png", _HERE + "mots:read_mots_png",
            boxes=False, overlap=False, scores=False, ids="1 … 999", recognised=False,
            video="names size", streamed_reading=True, tested_with="Pillow, datumaro",
        ),
        TrackFormat(
            "youtube-vos", "YouTube-VOS folder", "",
            _HERE + "youtube_vos:write_youtube_vos", _HERE + "youtube_vos:read_youtube_vos",
            boxes=False, overlap=False, scores=False, ids="1 … 254",
            video="name names size", streamed_reading=True, tested_with="Pillow",
        ),
        TrackFormat(
            "cvat", "CVAT for video 1.1 (XML): boxes, polygons, masks", ".xml",
            _HERE + "cvat:write_cvat", _HERE + "cvat:read_cvat",
            levels=True, video="name size numbers", tested_with="datumaro",
        ),
        TrackFormat(
            "label-studio", "Label Studio JSON, boxes in videos", ".json",
            _HERE + "label_studio:write_label_studio", _HERE + "label_studio:read_label_studio",
            masks=False, scores=False, video="numbers", tested_with="label-studio-sdk",
        ),
        TrackFormat(
            "labelme", "labelme, X-AnyLabeling: a JSON for each frame", "",
            _HERE + "labelme:write_labelme", _HERE + "labelme:read_labelme",
            levels=True, video="names size numbers", tested_with="globox, Pillow",
        ),
        TrackFormat(
            "yolo", "YOLO text of tracks, a file for each frame", "",
            _HERE + "yolo:write_yolo", _HERE + "yolo:read_yolo",
            video="names", tested_with="supervision",
        ),
        TrackFormat(
            "coco-vid", "COCO-VID JSON", ".json",
            _HERE + "coco_videos:write_coco_vid", _HERE + "coco_videos:read_coco_tracks",
            levels=True, video="name size names numbers times", tested_with="pycocotools",
        ),
        TrackFormat(
            "coco", "COCO JSON, a frame is an image", ".json",
            _HERE + "coco_videos:write_coco", _HERE + "coco_videos:read_coco_tracks",
            levels=True, video="name size names numbers times", tested_with="pycocotools, faster-coco-eval, datumaro",
        ),
        TrackFormat(
            "tao", "TAO JSON", ".json",
            _HERE + "coco_videos:write_tao", _HERE + "coco_videos:read_coco_tracks",
            levels=True, video="name size names numbers times", tested_with="trackeval, pycocotools",
        ),
        TrackFormat(
            "ytvis", "YouTube-VIS JSON", ".json",
            _HERE + "coco_videos:write_ytvis", _HERE + "coco_videos:read_coco_tracks",
            scores=False, video="name size names numbers times", tested_with="trackeval, pycocotools",
        ),
        TrackFormat(
            "burst", "BURST JSON", ".json",
            _HERE + "coco_videos:write_burst", _HERE + "coco_videos:read_burst",
            boxes=False, scores=False, video="name size names numbers times", tested_with="trackeval, pycocotools",
        ),
        TrackFormat(
            "sav", "SA-V masklets, JSON", ".json",
            _HERE + "coco_videos:write_sav", _HERE + "coco_videos:read_sav",
            boxes=False, scores=False, classes=False, video="name size", tested_with="pycocotools",
        ),
        TrackFormat(
            "csv", "CSV, a row for each object and frame", ".csv",
            _HERE + "row_tables:write_csv", _HERE + "row_tables:read_csv",
            levels=True, video="numbers", tested_with="pandas, faster-coco-eval",
        ),
        TrackFormat(
            "parquet", "Parquet, a row for each object and frame", ".parquet",
            _HERE + "row_tables:write_parquet", _HERE + "row_tables:read_arrow",
            levels=True, video="name size names numbers times", tested_with="pandas, polars",
        ),
        TrackFormat(
            "arrow", "Arrow IPC (Feather), a row for each object and frame", ".arrow",
            _HERE + "row_tables:write_arrow", _HERE + "row_tables:read_arrow",
            levels=True, video="name size names numbers times", tested_with="pandas, polars",
        ),
        TrackFormat(
            "npz", "NPZ of columns, as the `tracks.npz` of a run", ".npz",
            _HERE + "archives:write_npz", _HERE + "archives:read_npz",
            video="name size names numbers times", streamed_reading=True, tested_with="NumPy",
        ),
        TrackFormat(
            "fiftyone", "FiftyOne: a script that imports, and what it reads", "",
            _HERE + "fiftyone:write_fiftyone", _HERE + "fiftyone:read_fiftyone",
            video="name size names numbers times", tested_with="the script itself, FiftyOne (by hand)",
        ),
        TrackFormat(
            "rerun", "Rerun recording (the extra `rerun`)", ".rrd",
            _HERE + "rerun_recording:write_rerun",
            overlap=False, scores=False, ids="65535 colours", video="numbers times", tested_with="rerun-sdk",
        ),
        TrackFormat(
            "cutouts", "a PNG for each object and frame, with alpha", "",
            _SHOWN + "write_cutouts",
            scores=False, classes=False, needs_pictures=True, video="names", tested_with="Pillow",
        ),
        TrackFormat(
            "clips", "an MP4 for each object that follows it", "",
            _SHOWN + "write_clips",
            masks=False, scores=False, classes=False, needs_pictures=True, tested_with="PyAV",
        ),
        TrackFormat(
            "gif", "the overlay as animated GIF", ".gif",
            _SHOWN + "write_gif",
            needs_pictures=True, tested_with="Pillow",
        ),
        TrackFormat(
            "mp4", "the overlay as H.264", ".mp4",
            _SHOWN + "write_mp4",
            needs_pictures=True, tested_with="PyAV",
        ),
        TrackFormat(
            "mov", "the objects on nothing: ProRes 4444, or VP9 in `.webm`", ".mov",
            _SHOWN + "write_mov",
            scores=False, classes=False, needs_pictures=True, ids="", tested_with="PyAV",
        ),
    )
}  # fmt: skip
"""Every format, by name."""


def writable() -> list[str]:
    """Names of the formats that are written."""
    return [name for name, kind in FORMATS.items() if kind.writer]


def readable() -> list[str]:
    """Names of the formats that are read."""
    return [name for name, kind in FORMATS.items() if kind.reader]


def find_format(name: str | None, path: Path | None = None) -> TrackFormat:
    """The format of a name, or else the one that the suffix of a file to write says.

    Raises:
        SettingError: no such format, it is not written, or the suffix says none.
    """
    if name is None and path is not None:
        found = [kind for kind in FORMATS.values() if kind.writer and kind.suffix == path.suffix.lower() != ""]
        if len(found) == 1:
            return found[0]
        which = listed([kind.name for kind in found], 30) if found else listed(writable(), 40)
        raise SettingError(f"{path}: name its format with {wording('to=', '--to')}: {which}")
    if name is None or name not in FORMATS or not FORMATS[name].writer:
        near = nearest((name or "").casefold(), writable())
        meant = f"; did you mean {near}?" if near else ""
        raise SettingError(f"tracks are written as {', '.join(writable())}, not as {name!r}{meant}")
    return FORMATS[name]


# --- writing ----------------------------------------------------------------------------------------------------------


class _Counted(TrackedVideo):
    """A video on its way into a format: what the format cannot hold is counted, once however often it is read."""

    def __init__(self, video: TrackedVideo, kind: TrackFormat, losses: Losses) -> None:
        self._video, self._format, self._losses = video, kind, losses
        self.info, self.pictures, self.colours = video.info, video.pictures, video.colours
        self.has_masks = video.has_masks and kind.masks
        self.has_levels, self.has_classes = video.has_levels and kind.levels, video.has_classes
        self._is_counted = False

    def frames(self, *, with_masks: bool = True) -> Iterator[tuple[FrameIndex, Tracks]]:
        wanted = with_masks and self.has_masks
        is_first, self._is_counted = not self._is_counted, True
        for index, tracks in self._video.frames(with_masks=wanted):
            if is_first:
                self._count(tracks)
            # Where there is a class, no level stands in its place.
            without_level = not self._format.levels and self.has_classes and tracks.level is not None
            yield index, replace(tracks, level=None) if without_level else tracks

    def _count(self, tracks: Tracks) -> None:
        kind, name, n = self._format, self._format.name, len(tracks)
        if kind.needs_pictures:  # a picture is to be looked at, nothing is read from it
            return
        if self._video.has_masks and not kind.masks:
            self._losses.add("masks", f"objects lose their masks: {name} has boxes alone", n)
        if tracks.level is not None and not kind.levels:
            # What was prompted has no granularity: its level tells it from the others alone.
            n_levels = int((tracks.level > PROMPTED_LEVEL).sum())
            self._losses.add("levels", f"objects lose their level: {name} has none", n_levels)
        if not kind.classes:
            n_classes = sum(map(self.info.is_class, tracks.class_id.tolist()))
            self._losses.add("classes", f"objects lose their class: {name} has none", n_classes)
        if not kind.scores:
            self._losses.add("scores", f"objects lose their score: {name} has none", int((tracks.score != 1).sum()))


def write_video(
    video: TrackedVideo,
    output: Path,
    kind: TrackFormat,
    settings: FormatSettings | None = None,
    log: RunLog | None = None,
) -> list[Path]:
    """Writes a video's objects in a format, one frame at a time.

    Args:
        video: the objects.
        output: file to write, or folder.
        kind: the format.
        settings: what may be chosen about it.
        log: takes one warning for each kind of thing that the format cannot hold, with its number.

    Returns:
        the files.

    Raises:
        SettingError: a format of masks, and there are none; or of pictures, and there are none.
        ArtifactError: the files cannot be written.
    """
    if not kind.boxes and not video.has_masks:
        others = [other.name for other in FORMATS.values() if other.writer and other.boxes]
        raise SettingError(f"{kind.name} has masks, and {video.info.name} has boxes alone: choose {', '.join(others)}")
    if kind.needs_pictures and video.pictures is None:
        raise SettingError(f"{kind.name} shows the frames: name them with {wording('frames=', '--frames')}")
    losses = Losses()
    counted = _Counted(video, kind, losses)
    if kind.reader and not {"names", "numbers"} & {*kind.video.split()}:
        moved = sum(int(index) != position for position, index in enumerate(video.info.indices))
        losses.add("numbers", f"frames lose their numbers: {kind.name} counts them from 0", moved)
    files = kind.write()(output, counted, settings or FormatSettings(), losses)
    losses.report(log or RunLog(package="formats"), output)
    return files


# --- reading ----------------------------------------------------------------------------------------------------------


def read_video(
    path: Path, kind: str | None = None, *, hints: VideoInfo | None = None, name: str | None = None
) -> TrackedVideo:
    """Reads a video's objects, whatever the format.

    Args:
        path: file or folder.
        kind: its name; None: the content shows it.
        hints: what is known of the video from elsewhere: size, frames, times, for formats that do not say it.
        name: which of several videos in a file; None: the only one.

    Raises:
        InputError: it cannot be read, or no format is recognised.
        SettingError: a format that is not read.
        ArtifactError: a damaged archive of ours.
    """
    if kind is not None and (kind not in FORMATS or not FORMATS[kind].reader):
        raise SettingError(f"tracks are read from {', '.join(readable())}, not from {kind!r}")
    found = FORMATS[kind or recognise(path)]
    return found.read()(path, hints, name)


def recognise(path: Path) -> str:
    """The name of the format that a file or folder is in, by its content.

    Raises:
        InputError: it is none that is read.
    """
    name = recognised(path)
    if name is None:
        raise InputError(
            f"{path}: no format of tracks is recognised: name it with {wording('source_format=', '--from')}: "
            f"{', '.join(readable())}"
        )
    return name


def recognised(path: Path) -> str | None:
    """The same; None where it is none that is read.

    Raises:
        InputError: nothing is there, it cannot be read, or it is a run.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    return _folder_format(path) if path.is_dir() else _file_format(path)


def _folder_format(path: Path) -> str | None:
    if (path / "manifest.json").is_file():
        raise InputError(
            f"{path}: is a run: {wording('export(run, …)', 'trackweave export')} writes it in another format"
        )
    if is_youtube_vos(path):
        return "youtube-vos"
    if is_fiftyone(path):
        return "fiftyone"
    if is_yolo(path):
        return "yolo"
    if is_labelme(path):
        return "labelme"
    if next(path.glob("*.png"), None) is not None:
        return "davis"
    return None


def _file_format(path: Path) -> str | None:
    start = read_start(path)
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"ARROW1"):
        return "arrow"
    if start.startswith(b"PK"):
        return "npz" if archive_kind(path) is not None else None
    if b"\0" in start:
        return None  # no text: a video, say
    text = start.decode("utf-8-sig", errors="replace").lstrip()
    if text.startswith(("[", "{")):
        return _json_format(path)
    if text.startswith("<"):
        return "cvat"
    first = text.partition("\n")[0]
    if is_kitti_line(first):
        return "kitti"
    if is_mots_line(first):
        return "mots"
    if is_header(first):
        return "csv"
    return "mot"


def _json_format(path: Path) -> str | None:
    document = read_json(path)
    if is_label_studio(document):
        return "label-studio"
    keys = document.keys() if isinstance(document, dict) else set()
    for name, needed in JSON_KEYS.items():
        if needed <= keys:
            return name
    return None


JSON_KEYS: Mapping[str, frozenset[str]] = {
    "sav": frozenset({"masklet", "masklet_id"}),
    "burst": frozenset({"sequences"}),
    "tao": frozenset({"tracks", "images", "annotations"}),
    "coco-vid": frozenset({"videos", "images", "annotations"}),
    "ytvis": frozenset({"videos", "annotations"}),
    "coco": frozenset({"images", "annotations"}),
}
"""By which keys of its document a format is known; the first that has them all."""


# --- the table of the docs --------------------------------------------------------------------------------------------


def formats_table() -> str:
    """The formats as a table in Markdown."""
    head = (
        "| format | what | read | write | boxes | masks | ids | scores | classes | levels | of the video | streaming "
        "| tested with "
    )
    rows = [f"{head}|", "|" + "---|" * 13]

    def mark(value: object) -> str:
        return "✓" if value else ""

    for kind in FORMATS.values():
        masks = "" if not kind.masks else "✓" if kind.overlap else "no overlap"
        cells = (
            *(f"`{kind.name}`", kind.title, mark(kind.reader), mark(kind.writer)),
            *("✓" if kind.boxes else "of masks", masks, kind.ids),
            *(mark(kind.scores), mark(kind.classes), mark(kind.levels)),
            kind.video.replace(" ", ", "),
            *("write, read" if kind.streamed_reading else "write" if kind.writer else "", kind.tested_with),
        )
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"
