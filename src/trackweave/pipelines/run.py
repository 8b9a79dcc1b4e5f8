"""`Run`: a finished run, opened again; what `track_masks` and `track_boxes` return."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Generic, cast

from trackweave.errors import ArtifactError, InputError, SettingError, wording
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource
from trackweave.ids import Level
from trackweave.storage.corrected_masks import open_masks, read_corrected
from trackweave.storage.identity import IdentityRecord, read_identity
from trackweave.storage.mask_archive import ObjectSegments, VideoSegments
from trackweave.storage.run import FrameList, RunManifest, RunPaths, read_run_summary
from trackweave.storage.track_archive import TracksArchive
from trackweave.structures.identity import IdentityTable, Tree
from trackweave.structures.run_log import RunWarning
from trackweave.structures.run_summary import RunSummary
from trackweave.structures.tracks import Tracks

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    SummaryT_co = TypeVar("SummaryT_co", bound=RunSummary, covariant=True, default=RunSummary)
else:
    from typing import TypeVar

    SummaryT_co = TypeVar("SummaryT_co", bound=RunSummary, covariant=True)


def open_run(path: str | os.PathLike[str]) -> Run:
    """Opens a finished run of masks or of boxes.

    Args:
        path: the run folder.

    Raises:
        ArtifactError: no run folder, or the run in it is not finished.
    """
    return Run(path)


class Run(Generic[SummaryT_co]):
    """A finished run of masks or of boxes. Files are read when they are asked for.

    It stands for its folder wherever a path is taken: `evaluate(run, gt)`, `export(run, …)`.

    Args:
        path: the run folder.

    Raises:
        ArtifactError: no run folder, or the run in it is not finished.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.root = Path(path)
        self.paths = RunPaths(self.root)
        self._manifest = RunManifest.load(self.paths.manifest)
        if not self.paths.manifest.is_file():
            raise ArtifactError(f"{self.root}: is no run folder: there is no {self.paths.manifest.name}")
        if not self.paths.summary.is_file() and not self._manifest.is_older:
            raise ArtifactError(
                f"{self.root}: the run is not finished: "
                f"{wording('the same call with resume=True', 'the same command with --resume')} goes on"
            )

    def __fspath__(self) -> str:
        return str(self.root)

    def __repr__(self) -> str:
        levels = f", level {' '.join(map(str, self.levels))}" if self.levels else ""
        return f"Run({str(self.root)!r}: {self.kind}{levels}, {self.summary.track_count} tracks)"

    def _repr_html_(self) -> str:
        """The line of `repr`, with a link to the report, for notebooks."""
        from html import escape

        link = f' <a href="{escape(self.paths.report.resolve().as_uri())}">report</a>'
        return f"<p>{escape(repr(self))}{link if self.paths.report.is_file() else ''}</p>"

    @property
    def kind(self) -> str:
        """`boxes` or `masks`."""
        return "boxes" if self.paths.tracks.is_file() else "masks"

    @property
    def levels(self) -> list[Level]:
        """Levels of granularity, ascending; none in a box run."""
        return self._manifest.tracked_levels

    @cached_property
    def summary(self) -> SummaryT_co:
        """The run in numbers: a `MaskSummary` or a `BoxSummary`.

        Raises:
            ArtifactError: `summary.json` is damaged.
        """
        return cast("SummaryT_co", read_run_summary(self.paths.summary))

    @property
    def warnings(self) -> list[RunWarning]:
        """Everything that was done differently from what was asked."""
        return list(self.summary.warnings)

    @cached_property
    def frames(self) -> FrameList:
        """Index, name and time of each frame that the run went over.

        Raises:
            ArtifactError: a run without pictures has no such list.
        """
        return FrameList.read(self.paths.frames)

    def tracks(self, level: int | None = None, *, with_masks: bool = True, raw: bool = False) -> Tracks:
        """The tracks in memory, by identity where the run has identities.

        Args:
            level: granularity level; None = all of them (their ids differ).
            with_masks: False leaves the masks out, which keeps memory small.
            raw: as they were tracked: nothing joined, cut or nested.

        Raises:
            ArtifactError: the run has no such level, or a file is damaged.
            SettingError: a level of a box run.
        """
        if self.kind == "boxes":
            self._refuse_level(level)
            with self.archive() as archive:
                return archive.tracks(with_masks=with_masks)
        parts = []
        for each in self.levels if level is None else [Level(level)]:
            with self.masks(each, raw=raw) as video:
                parts.append(Tracks.from_frames(video, level=int(each), with_masks=with_masks))
        is_related = not raw and self.paths.identity.is_file()
        return replace(Tracks.concat(parts), tree=self.tree() if is_related else None)

    @cached_property
    def class_names(self) -> Mapping[int, str]:
        """Names of the classes of its tracks by number, as its candidates or detections had them; empty without names.

        Raises:
            ArtifactError: a file is damaged.
        """
        if self.kind == "boxes":
            with self.archive() as archive:
                return archive.class_names
        names: dict[int, str] = {}
        for level in self.levels:
            with self.masks(level, raw=True) as video:
                names |= video.info.classes.names
        return names

    def masks(self, level: int | None = None, *, raw: bool = False) -> VideoSegments:
        """Opens a level's masks frame by frame; close it, or use it in a `with` block.

        Args:
            level: None = the only one.
            raw: see `tracks`.

        Raises:
            ArtifactError: a box run, no such level, or a damaged file.
            SettingError: several levels and none named.
        """
        return open_masks(self.paths, self._mask_level(level), raw=raw)

    def identities(self) -> IdentityTable:
        """Which raw tracks are one thing, and why; each its own where the run has no identities.

        What a person said holds on top of it, frame by frame: `masks` and `tracks` show it, this table does not.

        Raises:
            ArtifactError: a box run, or a damaged file.
        """
        return self._identity_record().table

    def tree(self) -> Tree:
        """Which thing is part of which, over all levels, under what a person said; without parents where the run has
        no identities.

        Raises:
            ArtifactError: a box run, or a damaged file.
        """
        if self.kind == "masks" and (corrected := read_corrected(self.paths)) is not None:
            return corrected.record.tree
        return self._identity_record().tree

    def _identity_record(self) -> IdentityRecord:
        if self.kind == "boxes":
            raise ArtifactError(f"{self.root}: is a box run: only masks lie in each other")
        record = read_identity(self.paths)
        if record is not None:
            return record
        levels: dict[int, int] = {}
        for level in self.levels:
            with self.objects(level) as objects:
                levels |= dict.fromkeys(map(int, objects.ids), int(level))
        table = IdentityTable.from_links(list(levels), list(levels.values()))
        return IdentityRecord(table, Tree.from_parents(dict.fromkeys(levels, 0), levels))

    def objects(self, level: int | None = None) -> ObjectSegments:
        """Opens a level's masks object by object, as they were tracked; level and errors as `masks`."""
        return ObjectSegments(self._manifest.artifact(self._mask_level(level), "object_segments"))

    def archive(self) -> TracksArchive:
        """Opens the tracks of a box run, to be read part by part.

        Raises:
            ArtifactError: a mask run, or a damaged file.
        """
        if self.kind != "boxes":
            raise ArtifactError(f"{self.root}: is a mask run: its masks are in .masks(level)")
        return TracksArchive(self.paths.tracks)

    def video(self, path: str | os.PathLike[str] | None = None) -> FrameSource:
        """The frames that the run went over, read from the input again.

        Args:
            path: where the input lies now; None = where it lay.

        Raises:
            InputError: the run did not read frames from a file or folder.
            FrameError: the input is gone, or has other frames.
        """
        source = os.fspath(path) if path is not None else self.summary.input.path
        if source is None or (path is None and not Path(source).exists()):
            raise InputError(f"{self.root}: its input {source or 'has no path'} is not there: name it in .video(path)")
        frames = open_frames(source)
        positions = {int(index): position for position, index in enumerate(frames.indices)}
        missing = [int(index) for index in self.frames.indices if int(index) not in positions]
        if missing or frames.size != self.frames.size:
            frames.close()
            text = f"frame {missing[0]} is missing" if missing else f"its frames are {frames.size[1]}×{frames.size[0]}"
            raise InputError(f"{source}: is not the input of {self.root}: {text}")
        return frames.select([positions[int(index)] for index in self.frames.indices])

    def _mask_level(self, level: int | None) -> Level:
        if self.kind == "boxes":
            raise ArtifactError(f"{self.root}: is a box run: its masks, if any, are in .tracks().masks")
        return self._manifest.only_level(level)

    def _refuse_level(self, level: int | None) -> None:
        if level is not None:
            raise SettingError(f"{self.root}: a box run has no levels of granularity, so no level {level}")
