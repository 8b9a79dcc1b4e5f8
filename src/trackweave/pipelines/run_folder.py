"""TODO pipelines/run_folder."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackweave.association.data_collection import SampleLogger
from trackweave.association.settings import LogSettings
from trackweave.errors import (
    InputError,
    RunFolderError,
    SettingError,
)
from trackweave.mot.postprocess import RefinedTracks
from trackweave.pipelines.box_inputs import Sight, VideoInput
from trackweave.pipelines.box_outputs import TrackCensus
from trackweave.pipelines.box_tracking import BoxPass
from trackweave.progress import ProgressPrinter, TimingAggregator, peak_rss_mb
from trackweave.storage.files import remove_partials, write_json
from trackweave.storage.run import FrameList, RunManifest, RunPaths, ensure_writable
from trackweave.storage.track_archive import TracksArchive
from trackweave.structures.run_log import Remarks, RunWarning
from trackweave.structures.tracks import Tracks


class _Digest:
    """What a run was made of, as one hash."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add_bytes(self, *parts: bytes) -> None:
        for part in parts:
            self._hash.update(len(part).to_bytes(8, "little"))
            self._hash.update(part)

    def add_file(self, path: Path) -> None:
        try:
            self.add_bytes(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error

    def hexdigest(self) -> str:
        return self._hash.hexdigest()[:32]


SUMMARY_VERSION = 1
Progress = Callable[[str, int], ProgressPrinter]


@dataclass(frozen=True)
class BoxRunResult:
    """Where a run's results lie and what they are in numbers.

    Attributes:
        run: paths of the run folder.
        summary: the content of `summary.json`.
        warnings: everything that was done differently from what was asked.
    """

    run: RunPaths
    summary: Mapping[str, Any]
    warnings: Sequence[RunWarning]

    def archive(self) -> TracksArchive:
        """Opens the tracks, to be read part by part."""
        return TracksArchive(self.run.tracks)

    def tracks(self, *, with_masks: bool = True) -> Tracks:
        """The tracks in memory."""
        with self.archive() as archive:
            return archive.tracks(with_masks=with_masks)


def _display(progress: Progress | None, label: str, video: VideoInput, stack: ExitStack) -> ProgressPrinter | None:
    """A progress display over the frames, when somebody wants one and their number is known."""
    if progress is None or video.positions is None:
        return None
    display = progress(label, len(video.positions))
    stack.callback(display.close)
    return display


def _check_log(log: LogSettings, video: VideoInput) -> None:
    if log.dir is not None and video.size is None and video.kind != "live":
        raise SettingError(f"{video.path}: samples need the frames' size, which is not known: give --size WxH")


def _logger(log: LogSettings, video: VideoInput, label_source: str) -> AbstractContextManager[SampleLogger | None]:
    """The logger that the settings ask for; inside its `with` block None when they ask for none."""
    if log.dir is None:
        return nullcontext()
    return SampleLogger(
        log.dir,
        sequence=log.sequence or video.name,
        fps=video.frame_rate,
        size=video.size,
        embed_dim=log.embed_dim,
        label_source=label_source,
    )


def _closed(logger: SampleLogger | None, remarks: Remarks) -> int:
    """Waits until all samples are written; their number."""
    if logger is None:
        return 0
    logger.close()
    remarks.warnings += logger.warnings
    return logger.written


def _claim(run: RunPaths) -> None:
    """Proves that the folder can take the run: refuses one that holds another, clears what a killed run left.

    Raises:
        RunFolderError: it cannot.
    """
    root = run.root
    if root.exists() and not root.is_dir():
        raise RunFolderError(f"{root}: is a file, not a run folder")
    ensure_writable(root)
    manifest = RunManifest.load(run.manifest)
    if manifest.fingerprint is not None or manifest.data.get("artifacts"):
        raise RunFolderError(f"{root}: already holds a run: choose another -o, or remove it first")
    remove_partials(root)


@dataclass(frozen=True)
class _Made:
    """What a finished run is told from."""

    video: VideoInput
    boxes: BoxPass
    sight: Sight
    census: TrackCensus
    refined: RefinedTracks | None
    remarks: Remarks
    timer: TimingAggregator
    log: dict[str, Any] | None


def _finish(run: RunPaths, made: _Made, config: Mapping[str, Any]) -> BoxRunResult:
    """Writes what tells of the whole run; the manifest last, as it claims the folder."""
    video, remarks = made.video, made.remarks
    taken = video.source()
    if taken is not None:
        FrameList(taken.indices, taken.names, video.times_of(taken.indices), taken.size).write(run.frames)
    summary = _summary(made, config)
    identity = {"input": summary["input"], "detections": summary["detections"], "config": config}
    files = {"archive": run.tracks, "mot": run.mot, "overlay": run.overlay, "frames": run.frames}
    manifest = RunManifest.load(run.manifest)
    manifest.merge(
        {
            "kind": "boxes",
            "fingerprint": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32],
            **identity,
            "tracks": {name: path.name for name, path in files.items() if path.is_file()},
        }
    )
    manifest.replace_warnings(remarks.warnings, stages=(), level=None)
    manifest.set_totals({key: summary[key] for key in ("totals", "durations", "peak_rss_mb")})
    write_json(run.summary, summary)
    manifest.write()
    return BoxRunResult(run, summary, tuple(remarks.warnings))


def _summary(made: _Made, config: Mapping[str, Any]) -> dict[str, Any]:
    told, counted, refined = made.boxes.summary, made.census.summary(), made.refined
    made.remarks.warnings += told.warnings
    seconds = made.timer.total("track")
    return {
        "schema_version": SUMMARY_VERSION,
        "command": "boxes",
        "input": _input_record(made.video, made.boxes.frames),
        "detections": dict(made.sight.record),
        "tracker": config["tracker"],
        "totals": {
            "frames": made.boxes.frames,
            "detections": made.boxes.detections,
            "tracks": counted["tracks"],
            "boxes": counted["boxes"],
            "births": told.tracks,
            "reactivations": told.reactivations,
            "est_id_switches": told.est_id_switches if config["tracker"]["diagnostics"] else None,
            "interpolated": 0 if refined is None else refined.interpolated,
            "removed": 0 if refined is None else refined.removed,
        },
        "skipped": dict(made.remarks.skipped + Counter(told.skipped)),
        "suspected_switches": [event.to_json() for event in told.suspected],
        "track_lengths": counted["lengths"],
        "longest_tracks": counted["longest_tracks"],
        **made.boxes.signals(),
        "log": made.log,
        "association_fps": round(made.boxes.frames / seconds, 1) if seconds else None,
        "durations": {stage: round(taken, 4) for stage, taken in made.timer.items()},
        "peak_rss_mb": peak_rss_mb(),
        "warnings": [warning.to_json() for warning in made.remarks.warnings],
    }


def _input_record(video: VideoInput, frames: int) -> dict[str, Any]:
    height, width = video.size or (None, None)
    return {
        "path": video.path,
        "kind": video.kind,
        "name": video.name,
        "frames": frames,
        "frame_rate": video.frame_rate,
        "height": height,
        "width": width,
    }


def _log_record(log: LogSettings, video: VideoInput, samples: int) -> dict[str, Any] | None:
    if log.dir is None:
        return None
    # The logger lets the tracker wait rather than drop a sample.
    return {"directory": str(log.dir), "sequence": log.sequence or video.name, "logged": samples, "dropped": 0}
