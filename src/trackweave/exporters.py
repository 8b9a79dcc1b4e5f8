"""`export`: the tracks of a finished run in the formats of other tools; `convert`: from one of them into another."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from trackweave.errors import ArtifactError, InputError, SettingError, wording
from trackweave.formats.motchallenge import is_sequence, read_sequence
from trackweave.formats.registry import find_format, read_video, write_video
from trackweave.formats.videos import MaskArchiveVideo, TrackArchiveVideo, unlisted_names
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource
from trackweave.ids import FrameIndex, Level
from trackweave.pipelines.box_outputs import BoxOverlay
from trackweave.pipelines.settings import InputSettings
from trackweave.pipelines.video_input import VideoInput, open_input
from trackweave.storage.corrected_masks import open_masks
from trackweave.storage.files import refuse_overwriting, remove_leftovers_of
from trackweave.storage.mask_archive import VideoSegments
from trackweave.storage.run import FrameList, RunManifest, RunPaths
from trackweave.storage.track_archive import TracksArchive
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.run_log import RunLog
from trackweave.structures.tracked_video import Pictures, TrackedVideo, VideoInfo
from trackweave.visualization.annotators import TrackColours, contact_sheet, run_colours, write_png
from trackweave.visualization.settings import OverlaySettings
from trackweave.visualization.video import Mp4Writer, mask_overlays

ID_CHOICES = ("run", "level")
RUN_SUFFIXES = (".json", ".npz", ".html")
"""Of what a run folder holds besides its text and its video."""
SHEET_FRAMES = 6
"""Of a contact sheet."""
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
    options: FormatSettings | Mapping[str, object] | None = None,
    raw: bool = False,
    log: RunLog | None = None,
) -> list[Path]:
    """Writes the tracks of a finished run of masks or of boxes in another format, a frame at a time.

    Args:
        run: a run, or its folder.
        to: a format of `trackweave.formats.registry`, such as `davis`: an indexed label image `FRAME.png` of each
            frame, of the frame's size; `mot`: boxes as MOTChallenge text; `parquet`: a row per object and frame; or
            `mp4`: the tracks over the frames, as H.264 video.
        output: file to write, or folder.
        level: which level of a mask run; None = the only one, or all of them in a format that has levels.
        frames: what pictures are made of; None = the input that the run recorded.
        fps: frames per second of a mask run whose source knows no times.
        ids: labels of `davis`: `run`, the ids of the run; `level`, numbers from 1 on in the order of the ids that are
            exported, and a table of both, `ids.csv`.
        bits: of a label image, 8 or 16; None = 16 where labels are above 254.
        overlay: how an `mp4` is drawn.
        options: what else may be chosen about a format.
        raw: a mask run's tracks as they were tracked, not by identity.
        log: takes the warnings: what the format cannot hold of the run, with its number.

    Returns:
        the files that were written.

    Raises:
        InputError: the output would go over an input of the run, or over the run's own files.
        SettingError: another format, several levels and none named, a level of a box run, or a format of masks for a
            box run without masks.
        ArtifactError: not a run, a level that it does not have, a damaged file, or frames that are gone or are not
            the run's: give `frames`.
        MissingExtraError: the format needs a library that is not installed.
    """
    kind = None if to == "mp4" else find_format(to)
    if ids not in ID_CHOICES or bits not in (None, 8, 16):
        raise SettingError(
            f"label images have ids of the {' or '.join(ID_CHOICES)} and 8 or 16 bits, not {ids}, {bits}"
        )
    chosen = {"ids": ids, "bits": bits, "fps": fps}
    settings = FormatSettings.checked(FormatSettings(), **{**chosen, **_as_mapping(options)})
    target = Path(output)
    with _open_tracks(Path(run), level, all_levels=kind is not None and kind.levels, raw=raw) as tracks:
        _check_output(Path(run), target)
        remove_leftovers_of(target)
        if kind is None:
            tracks.write_mp4(target, frames, fps, overlay or OverlaySettings())
            return [target]
        with tracks.tracked_video(frames, needs_pictures=kind.needs_pictures) as video:
            return write_video(video, target, kind, settings, log or RunLog(package="exporters"))


def _as_mapping(options: FormatSettings | Mapping[str, object] | None) -> Mapping[str, object]:
    """What was asked for."""
    if isinstance(options, FormatSettings):
        return options.model_dump(include=options.model_fields_set)
    return dict(options or {})


def convert(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    to: str | None = None,
    source_format: str | None = None,
    frames: FrameInput | None = None,
    video: str | None = None,
    options: FormatSettings | Mapping[str, object] | None = None,
    log: RunLog | None = None,
) -> list[Path]:
    """Writes tracks of one format in another, without a run.

    Args:
        source: file or folder to read.
        output: file to write, or folder.
        to: the format to write; None: the suffix of the output says it.
        source_format: the format to read; None: the content shows it.
        frames: the video itself: its frames' size, names and times, for formats that do not say them, and pictures.
        video: which of several videos in the source; None: the only one.
        options: what may be chosen about the format.
        log: takes the warnings.

    Returns:
        the files that were written.

    Raises:
        InputError: the source cannot be read, or the output is the source.
        SettingError: a format that is not known, or does not show.
        ArtifactError: the output cannot be written.
        MissingExtraError: a format needs a library that is not installed.
    """
    target = Path(output)
    kind = find_format(to, target)
    refuse_overwriting([target], [Path(source)])
    with ExitStack() as stack:
        pictures: FrameSource | None = None
        if frames is not None:
            is_open = isinstance(frames, FrameSource)
            pictures = frames if isinstance(frames, FrameSource) else open_frames(frames)
            if not is_open:
                stack.enter_context(pictures)
        hints = None if pictures is None else _info_of(pictures)
        tracked = read_video(Path(source), source_format, hints=hints, name=video)
        if pictures is not None:
            tracked.pictures = _pictures_of(pictures)
            if tracked.info.size not in (None, pictures.size):
                raise InputError(
                    f"{source}: is of frames of {tracked.info.size}, the video is {pictures.size} (height, width)"
                )
        settings = FormatSettings.checked(FormatSettings(), **_as_mapping(options))
        return write_video(tracked, target, kind, settings, log or RunLog(package="exporters"))


def _info_of(frames: FrameSource) -> VideoInfo:
    """What a video says of itself."""
    name = "video" if frames.path is None else frames.path.stem
    return VideoInfo(name, frames.indices, frames.names, frames.size, frames.times, frames.frame_rate)


def _pictures_of(frames: FrameSource) -> Pictures:
    positions = {int(index): position for position, index in enumerate(frames.indices)}

    def picture(index: FrameIndex) -> NDArray[np.uint8]:
        return frames[positions[int(index)]]

    return picture


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
    run: RunFolder, path: Path, *, level: int | None = None, frames: FrameInput | None = None
) -> Path:
    """Writes one image of `SHEET_FRAMES` frames of a mask run, evenly spaced, with the tracks of a level on them.

    Raises:
        SettingError, ArtifactError: as `export`; also for a box run.
    """
    with _open_tracks(Path(run), level) as tracks:
        if not isinstance(tracks, _MaskTracks):
            raise SettingError(f"{run}: is a run of boxes: a contact sheet is drawn of masks")
        indices = tracks.frames.indices
        last = len(indices) - 1
        sampled = [indices[k * last // (SHEET_FRAMES - 1)] for k in range(min(SHEET_FRAMES, last + 1))]
        with tracks.video(frames) as source:
            images = list(mask_overlays(tracks.archive, source, sampled, colours=tracks.colours))
    write_png(path, contact_sheet(images, 3, [f"frame {index}" for index in sampled]))
    return path


def _open_tracks(
    root: Path, level: int | None, *, all_levels: bool = False, raw: bool = False
) -> _MaskTracks | _BoxTracks:
    paths = RunPaths(root)
    if not paths.manifest.is_file():
        raise ArtifactError(f"{root}: is not a run folder (it has no manifest.json)")
    manifest = RunManifest.load(paths.manifest)
    if not manifest.is_box_run:
        several = manifest.tracked_levels if all_levels and level is None else []
        return _MaskTracks(paths, manifest, several if len(several) > 1 else [manifest.only_level(level)], raw)
    if level is not None:
        raise SettingError(f"{root}: is a run of boxes, which has no levels, so no level {level}")
    return _BoxTracks(paths, manifest)


class _MaskTracks:
    """One or more levels of a mask run; use it in a `with` block.

    Attributes:
        archive: the masks of the first of them.
        colours: of their tracks.
    """

    def __init__(self, paths: RunPaths, manifest: RunManifest, levels: Sequence[Level], raw: bool) -> None:
        self._paths, self._manifest = paths, manifest
        self._archives: dict[int | None, VideoSegments] = {}
        try:
            for level in levels:
                self._archives[int(level)] = open_masks(paths, level, raw=raw)
        except BaseException:
            self.__exit__()
            raise
        self.archive = next(iter(self._archives.values()))
        self.colours = TrackColours() if raw else run_colours(paths)

    @property
    def frames(self) -> FrameList:
        """The frames that the run went over."""
        return FrameList.read(self._paths.frames)

    @contextmanager
    def tracked_video(self, frames: FrameInput | None, *, needs_pictures: bool) -> Iterator[TrackedVideo]:
        """The objects as every export reads them; with pictures where they are needed or given."""
        listed = self.frames
        name = _source_name(self._manifest, self._paths.root)
        names = {number: text for one in self._archives.values() for number, text in one.info.classes.names.items()}
        info = VideoInfo(name, listed.indices, listed.names, listed.size, listed.times, listed.rate, names)
        tracked = MaskArchiveVideo(self._archives, info)
        tracked.colours = self.colours
        with ExitStack() as stack:
            if needs_pictures or frames is not None:
                tracked.pictures = _pictures_of(stack.enter_context(self.video(frames)))
            yield tracked

    def write_mp4(self, path: Path, frames: FrameInput | None, fps: float, settings: OverlaySettings) -> None:
        listed = self.frames
        with self.video(frames) as source, Mp4Writer(path, listed.rate or fps) as writer:
            for image in mask_overlays(self.archive, source, listed.indices, settings, self.colours):
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
        for archive in self._archives.values():
            archive.close()


class _BoxTracks:
    """The tracks of a box run; use it in a `with` block."""

    def __init__(self, paths: RunPaths, manifest: RunManifest) -> None:
        self._paths, self._manifest = paths, manifest
        self._archive = TracksArchive(paths.tracks)

    @contextmanager
    def tracked_video(self, frames: FrameInput | None, *, needs_pictures: bool) -> Iterator[TrackedVideo]:
        """The objects as every export reads them; with pictures where they are needed or given."""
        name = _source_name(self._manifest, self._paths.root)
        if self._paths.frames.is_file():
            listed = FrameList.read(self._paths.frames)
            info = VideoInfo(name, listed.indices, listed.names, listed.size, listed.times, listed.rate)
        else:
            count = self._archive.last + 1
            info = VideoInfo(name, range(count), unlisted_names(count), self._recorded_size())
        tracked = TrackArchiveVideo(self._archive, info)
        with ExitStack() as stack:
            if needs_pictures or frames is not None:
                video = stack.enter_context(self._video(frames))
                if video.images is None:
                    raise ArtifactError(
                        f"{self._paths.root}: {video.path} has no pictures: "
                        f"{wording('name them with frames=', 'name them with --frames')}"
                    )
                tracked.pictures = _pictures_of(video.images)
            yield tracked

    def write_mp4(self, path: Path, frames: FrameInput | None, fps: float, settings: OverlaySettings) -> None:
        with self._video(frames) as video:
            overlay = BoxOverlay(path, video, RunLog("error"), settings, self._archive.class_names)
            if not overlay.is_on:
                raise ArtifactError(
                    f"{self._paths.root}: {video.path} has no pictures to draw on: "
                    f"{wording('name them with frames=', 'name them with --frames')}"
                )
            with overlay:
                for frame in video.frames():
                    overlay.draw(frame, self._archive.at(frame.index))

    def _recorded_size(self) -> tuple[int, int] | None:
        recorded = self._manifest.data.get("input")
        sides = [recorded.get("height"), recorded.get("width")] if isinstance(recorded, dict) else []
        known = [side for side in sides if isinstance(side, int) and side > 0]
        return (known[0], known[1]) if len(known) == 2 else None

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


def _source_name(manifest: RunManifest, root: Path) -> str:
    """The name of the video that a run was made of: of its file or folder."""
    recorded = manifest.data.get("input")
    path = recorded.get("path") if isinstance(recorded, dict) else None
    return Path(path).stem if isinstance(path, str) and path not in ("", "memory") and Path(path).stem else root.name


def _gone(root: Path, source: object) -> ArtifactError:
    return ArtifactError(
        f"{root}: its frames ({source}) are not there any more: "
        f"{wording('name them with frames=', 'name them with --frames')}"
    )
