"""YouTube-VOS folders: label images of the frames, and a list of the objects with their categories and frames.

`Annotations/VIDEO/FRAME.png` and `meta.json`. Format: https://youtube-vos.org/dataset/vos/
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trackweave.errors import ArtifactError, InputError, listed, shortened_line
from trackweave.formats.davis import LabelFolderVideo, frame_stem, write_davis
from trackweave.formats.tables import AnnotationRows, read_json
from trackweave.storage.files import safe_name, write_json
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.tracked_video import Losses, TrackedVideo, VideoInfo

META_FILE = "meta.json"


def write_youtube_vos(path: Path, video: TrackedVideo, settings: FormatSettings, losses: Losses) -> list[Path]:
    """Writes `Annotations/VIDEO/FRAME.png`, and `meta.json` with the category and the frames of each object.

    Raises:
        ArtifactError: as `export_davis`; more than 254 objects.
    """
    info, spans = video.info, video.spans()
    folder = path / "Annotations" / safe_name(info.name, f"{path}: the video", ArtifactError)
    stems = {int(index): frame_stem(name) for index, name in zip(info.indices, info.names, strict=True)}
    seen: dict[int, list[str]] = {track_id: [] for track_id in spans}
    for index, tracks in video.frames(with_masks=False):
        for track_id in tracks.track_id.tolist():
            seen[track_id].append(stems[int(index)])
    numbers = {n: k for k, n in enumerate(spans, start=1)} if settings.ids == "level" else {n: n for n in spans}
    files = write_davis(folder, video, FormatSettings.checked(settings, bits=8), losses)
    objects = {
        str(numbers[track_id]): {"category": info.class_name(span.class_id), "frames": seen[track_id]}
        for track_id, span in spans.items()
    }
    meta = path / META_FILE
    write_json(meta, {"videos": {info.name: {"objects": objects}}})
    return [*files, meta]


def is_youtube_vos(path: Path) -> bool:
    """Is it a folder with `meta.json` and `Annotations`?"""
    return (path / META_FILE).is_file() and (path / "Annotations").is_dir()


def read_youtube_vos(path: Path, hints: VideoInfo | None, name: str | None) -> TrackedVideo:
    """Opens one video of such a folder.

    Raises:
        InputError: it is none, or holds several videos and none is named.
    """
    try:
        videos = read_json(path / META_FILE)["videos"]
        if (name is None and len(videos) != 1) or (name is not None and name not in videos):
            raise InputError(f"{path}: name one of its videos (video=, --video-name): {listed(videos)}")
        name = str(next(iter(videos)) if name is None else name)
        categories = {int(label): str(one["category"]) for label, one in videos[name]["objects"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path / META_FILE}: not YouTube-VOS: {shortened_line(repr(error))}") from error
    rows = AnnotationRows(str(path))
    for category in categories.values():  # all of them, before a number is final
        rows.class_number(category)
    classes = {label: rows.class_number(category) for label, category in categories.items()}
    folder = path / "Annotations" / safe_name(name, f"{path}: the video")
    found = LabelFolderVideo(folder, hints, classes=lambda label: classes.get(label, -1))
    found.info = replace(found.info, class_names=rows.class_names)
    return found
