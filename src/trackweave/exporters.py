"""`export`: the tracks of a finished run in the formats of other tools, read a frame or a part at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from trackweave.errors import ArtifactError, InputError, SettingError, wording
from trackweave.formats.davis import export_davis
from trackweave.formats.mot import MotWriter, write_mot_frames
from trackweave.formats.motchallenge import is_sequence, read_sequence
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource
from trackweave.ids import FrameIndex, Level
from trackweave.pipelines.box_inputs import VideoInput, open_input
from trackweave.pipelines.box_outputs import BoxOverlay
from trackweave.pipelines.settings import InputSettings
from trackweave.storage.files import locked_folder, remove_leftovers, remove_leftovers_of, replacing
from trackweave.storage.mask_archive import VideoSegments
from trackweave.storage.run import FrameList, RunManifest, RunPaths
from trackweave.storage.track_archive import TracksArchive
from trackweave.structures.run_log import RunLog
from trackweave.structures.tracks import FrameObjects
from trackweave.visualization.annotators import contact_sheet, write_png
from trackweave.visualization.settings import OverlaySettings
from trackweave.visualization.video import Mp4Writer, mask_overlays

FORMATS = ("davis", "mot", "mp4")
ID_CHOICES = ("run", "level")
ID_TABLE = "ids.csv"
ID_HEADER = "label,id"
RUN_SUFFIXES = (".json", ".npz", ".html")
"""Of what a run folder holds besides its text and its video."""
RunFolder = str | os.PathLike[str]
"""A run, or its folder."""
FrameInput = str | Path | FrameSource
"""What to draw on: a folder of images, a video file, or frames that are open."""


def export(
    run: RunFolder,
    to: str,
    output: str | os.PathLike[str],
    *,
    level: int | None = None,
    frames: FrameInput | None = None,
    fps: float = 10,
    ids: str = "run",
    bits: int | None = None,
    overlay: OverlaySettings | None = None,
    log: RunLog | None = None,
) -> list[Path]:
    """Writes the tracks of a finished run of masks or of boxes in another format.

    Args:
        run: a run, or its folder.
        to: `davis`: an indexed label image `FRAME.png` of each frame, of the frame's size; `mot`: boxes as
            MOTChallenge text; `mp4`: the tracks over the frames, as H.264 video.
        output: file to write; for `davis` a folder.
        level: which level of a mask run; None = the only one.
        frames: what an `mp4` is drawn on; None = the input that the run recorded.
        fps: frames per second of an `mp4` of a mask run whose source knows no times.
        ids: labels of `davis`: `run`, the ids of the run; `level`, numbers from 1 on in the order of the ids that are
            exported, and a table of both, `ids.csv`.
        bits: of a label image, 8 or 16; None = 16 where labels are above 254.
        overlay: how an `mp4` is drawn.
        log: takes the warnings.

    Returns:
        the files that were written.

    Raises:
        InputError: the output would go over an input of the run, or over the run's own files.
        SettingError: another format, several levels and none named, a level of a box run, or label images of a box
            run without masks.
        ArtifactError: not a run, a level that it does not have, a damaged file, or frames that are gone or are not
            the run's: give `frames`.
    """
    if to not in FORMATS:
        raise SettingError(f"a run is exported to {', '.join(FORMATS)}, not to {to!r}")
    if ids not in ID_CHOICES or bits not in (None, 8, 16):
        raise SettingError(
            f"label images have ids of the {' or '.join(ID_CHOICES)} and 8 or 16 bits, not {ids}, {bits}"
        )
    target = Path(output)
    with _open_tracks(Path(run), level) as tracks:
        _check_output(Path(run), target)
        if to == "davis":
            with locked_folder(target, wait=True):  # two exports do not mix
                remove_leftovers([target])
                return _write_davis(tracks, target, ids, bits, log or RunLog(package="exporters"))
        remove_leftovers_of(target)
        if to == "mot":
            tracks.write_mot(target)
        else:
            tracks.write_mp4(target, frames, fps, overlay or OverlaySettings())
        return [target]


def _write_davis(tracks: _MaskTracks | _BoxTracks, folder: Path, ids: str, bits: int | None, log: RunLog) -> list[Path]:
    table = folder / ID_TABLE
    if ids == "run":
        files = tracks.write_davis(folder, None, bits, log)
        if _is_id_table(table):  # of an earlier export: it would be taken for these images'
            table.unlink()
        return files
    numbers = {track_id: number for number, track_id in enumerate(tracks.ids(), start=1)}
    files = tracks.write_davis(folder, numbers, bits, log)
    with replacing(table) as temporary:
        rows = [ID_HEADER, *(f"{number},{track_id}" for track_id, number in numbers.items())]
        temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return [*files, table]


def _is_id_table(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(ID_HEADER) + 1) == f"{ID_HEADER}\n".encode()
    except OSError:
        return False


def _check_output(root: Path, target: Path) -> None:
    """An export goes neither over what the run was made of, nor over the run itself.

    Raises:
        InputError: it would.
    """
    paths = RunPaths(root)
    inputs = list(_inputs(RunManifest.load(paths.manifest).data))
    if any(_is_same(path, target) for path in (*inputs, root)):
        raise InputError(f"{target}: is an input of the run {root}, or the run: export to another place")
    if target.is_dir():
        labels = [path for path in inputs if path.suffix.lower() == ".png" and _is_same(path.parent, target)]
        if labels:
            raise InputError(f"{target}: holds {labels[0].name}, an input of the run {root}: export to another place")
    elif target.exists():
        is_own = target.suffix in RUN_SUFFIXES and target.resolve().is_relative_to(root.resolve())
        if is_own or any(_is_same(path, target) for path in (paths.mot, paths.overlay)):
            raise InputError(f"{target}: is a file of the run {root}: export to another place")
        if any(_is_same(path, target.parent) for path in inputs):
            raise InputError(f"{target}: belongs to the input of the run {root}: export to another place")


def _inputs(manifest: Mapping[str, object]) -> Iterator[Path]:
    """Files and folders that a run was made of, as far as its manifest names them."""
    config = manifest.get("config")
    prompts = config.get("prompts") if isinstance(config, dict) else None
    for record in (manifest.get("input"), manifest.get("detections"), prompts):
        if not isinstance(record, dict):
            continue
        images = record.get("images")
        for text in (record.get("path"), record.get("root"), *(images if isinstance(images, list) else ())):
            if isinstance(text, str):
                yield Path(text)
                if ":" in text:  # a label image is FRAME:PATH
                    yield Path(text.partition(":")[2])
                if is_sequence(text):
                    with suppress(InputError):
                        yield read_sequence(text).image_folder


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # one is not there, or its name cannot be a file's
        return False


def write_contact_sheet(
    run: RunFolder, path: Path, *, level: int | None = None, frames: FrameInput | None = None, count: int = 6
) -> Path:
    """Writes one image of `count` frames of a mask run, evenly spaced, with the tracks of a level on them.

    Raises:
        SettingError, ArtifactError: as `export`; also for a box run.
    """
    with _open_tracks(Path(run), level) as tracks:
        if not isinstance(tracks, _MaskTracks):
            raise SettingError(f"{run}: is a run of boxes: a contact sheet is drawn of masks")
        indices = tracks.frames.indices
        last = len(indices) - 1
        sampled = [indices[k * last // max(count - 1, 1)] for k in range(min(count, last + 1))]
        with tracks.video(frames) as source:
            images = list(mask_overlays(tracks.archive, source, sampled))
    write_png(path, contact_sheet(images, 3, [f"frame {index}" for index in sampled]))
    return path


def _open_tracks(root: Path, level: int | None) -> _MaskTracks | _BoxTracks:
    paths = RunPaths(root)
    if not paths.manifest.is_file():
        raise ArtifactError(f"{root}: is not a run folder (it has no manifest.json)")
    manifest = RunManifest.load(paths.manifest)
    if not manifest.is_box_run:
        return _MaskTracks(paths, manifest, manifest.only_level(level))
    if level is not None:
        raise SettingError(f"{root}: is a run of boxes, which has no levels, so no level {level}")
    return _BoxTracks(paths, manifest)


class _MaskTracks:
    """One level of a mask run; use it in a `with` block."""

    def __init__(self, paths: RunPaths, manifest: RunManifest, level: Level) -> None:
        self._paths, self._manifest, self._level = paths, manifest, level
        self.archive = VideoSegments(manifest.artifact(level, "video_segments"))

    @property
    def frames(self) -> FrameList:
        """The frames that the run went over."""
        return FrameList.read(self._paths.frames)

    def ids(self) -> list[int]:
        """The ids of the level, ascending."""
        return sorted({i for frame in self.archive.frames for i in self.archive.boxes(frame).track_id.tolist()})

    def write_davis(self, folder: Path, numbers: Mapping[int, int] | None, bits: int | None, log: RunLog) -> list[Path]:
        frames = self.frames
        return export_davis(self.archive, folder, frames.size, frames.names, numbers=numbers, bits=bits, log=log)

    def write_mot(self, path: Path) -> None:
        write_mot_frames(path, (self.archive.boxes(frame, int(self._level)) for frame in self.archive.frames))

    def write_mp4(self, path: Path, frames: FrameInput | None, fps: float, settings: OverlaySettings) -> None:
        listed = self.frames
        with self.video(frames) as source, Mp4Writer(path, listed.rate or fps) as writer:
            for image in mask_overlays(self.archive, source, listed.indices, settings):
                writer.write(image)

    @contextmanager
    def video(self, frames: FrameInput | None) -> Iterator[FrameSource]:
        """What to draw on; a source that the caller opened stays open.

        Raises:
            ArtifactError: the recorded frames are gone, or these are not the run's.
        """
        with ExitStack() as stack:
            if isinstance(frames, FrameSource):
                source = frames
            else:
                source = stack.enter_context(open_frames(frames if frames is not None else self._recorded_input()))
            listed, present = self.frames, set(map(int, source.indices))
            missing = [index for index in listed.indices if int(index) not in present]
            if missing or source.size != listed.size:
                first = next(iter(missing), 0)
                raise ArtifactError(f"{self._paths.root}: these are not the run's frames (frame {first} differs)")
            yield source

    def _recorded_input(self) -> str:
        recorded = self._manifest.data.get("input", {}).get("path", "memory")
        if recorded == "memory" or not Path(recorded).exists():
            raise _gone(self._paths.root, recorded)
        return str(recorded)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.archive.close()


class _BoxTracks:
    """The tracks of a box run; use it in a `with` block."""

    def __init__(self, paths: RunPaths, manifest: RunManifest) -> None:
        self._paths, self._manifest = paths, manifest
        self._archive = TracksArchive(paths.tracks)

    def ids(self) -> list[int]:
        """The ids of the run, ascending."""
        return sorted({i for rows in self._archive.parts(with_masks=False) for i in rows.tracks.track_id.tolist()})

    def write_davis(self, folder: Path, numbers: Mapping[int, int] | None, bits: int | None, log: RunLog) -> list[Path]:
        size = self._archive.mask_size
        if size is None:
            raise SettingError(
                f"{self._paths.root}: is a run of boxes without masks: give "
                f"{wording('mot or mp4 as the format', '--to mot or --to mp4')}"
            )
        if self._paths.frames.is_file():
            listed = FrameList.read(self._paths.frames)
            listed_names = zip(listed.indices, listed.names, strict=True)
            names, size = {int(index): name for index, name in listed_names}, listed.size
        else:
            names = {frame: f"frame_{frame:06d}" for frame in range(self._archive.last + 1)}
        objects, listing = self._objects(names), list(names.values())
        return export_davis(objects, folder, size, listing, numbers=numbers, bits=bits, log=log)

    def _objects(self, names: dict[int, str]) -> Iterator[FrameObjects]:
        """What the detections' masks show, frame by frame."""
        for frame, name in names.items():
            tracks = self._archive.at(frame)
            masks = tracks.masks
            if masks is not None:
                yield FrameObjects(
                    FrameIndex(frame), name, tracks.track_id, masks, tracks.xyxy, masks.areas, tracks.score
                )

    def write_mot(self, path: Path) -> None:
        with MotWriter(path) as writer:
            for rows in self._archive.parts(with_masks=False):
                writer.write(rows.tracks)

    def write_mp4(self, path: Path, frames: FrameInput | None, fps: float, settings: OverlaySettings) -> None:
        with self._video(frames) as video:
            overlay = BoxOverlay(path, video, RunLog("error"), settings)
            if not overlay.is_on:
                raise ArtifactError(
                    f"{self._paths.root}: {video.path} has no pictures to draw on: "
                    f"{wording('name them with frames=', 'name them with --frames')}"
                )
            with overlay:
                for frame in video.frames():
                    overlay.draw(frame, self._archive.at(frame.index))

    def _video(self, frames: FrameInput | None) -> VideoInput:
        root, data = self._paths.root, self._manifest.data
        try:
            recorded, settings = data["input"], InputSettings.model_validate(data["config"]["input"])
            kind, source = str(recorded["kind"]), str(recorded["path"])
            size = None if recorded["height"] is None else (int(recorded["height"]), int(recorded["width"]))
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise ArtifactError(f"{self._paths.manifest}: the record of the input lacks or misspells {error}") from None
        if frames is None and (kind not in ("sequence", "frames") or not Path(source).exists()):
            raise _gone(root, source)
        video = open_input(frames if frames is not None else source, settings)
        if video.has_images and size is not None and video.size != size:
            video.close()
            raise ArtifactError(f"{root}: these are not the run's frames: they have another size")
        return video

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._archive.close()


def _gone(root: Path, source: object) -> ArtifactError:
    return ArtifactError(
        f"{root}: its frames ({source}) are not there any more: "
        f"{wording('name them with frames=', 'name them with --frames')}"
    )
