"""`manifest.jsonl` of a folder of samples: one JSON object per line, in the order of writing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackweave.errors import ArtifactError
from trackweave.storage.samples import AssociationSample

MANIFEST_NAME = "manifest.jsonl"


@dataclass(frozen=True)
class ManifestEntry:
    """One line; all but the file name may be missing in manifests of other trackers.

    Attributes:
        npz: file name of the sample, in the manifest's folder.
        frame_idx: its frame.
        sequence: its video.
        run: the logger that wrote it.
        tracks: T.
        detections: D.
        matches: detections that went to a track which was there before the frame.
        label_source: who decided.
        est_id_switches: suspected identity switches of the run so far.
    """

    npz: str
    frame_idx: int | None = None
    sequence: str | None = None
    run: str | None = None
    tracks: int | None = None
    detections: int | None = None
    matches: int | None = None
    label_source: str | None = None
    est_id_switches: int | None = None

    @classmethod
    def of(cls, name: str, sample: AssociationSample) -> ManifestEntry:
        """The line of a sample."""
        return cls(
            name,
            sample.frame_idx,
            sample.metadata.sequence,
            sample.metadata.run,
            len(sample.track_ids),
            sample.detection_count,
            int(sample.matched.sum()),
            sample.metadata.label_source,
            sample.metadata.diagnostics.est_id_switches,
        )

    def line(self) -> bytes:
        """The line as it is written, its end included."""
        return json.dumps(self.__dict__).encode("ascii") + b"\n"


@dataclass(frozen=True)
class SampleManifest:
    """What a manifest lists.

    Attributes:
        entries: by file name; of a sample that is listed twice, the last line.
        damaged: numbers of lines that are not entries, from 1; an unfinished last line is not among them.
        unfinished: the last line has no end: its writer was stopped, the line does not count.
        finished_bytes: length of the file without an unfinished last line.
    """

    entries: dict[str, ManifestEntry]
    damaged: tuple[int, ...]
    unfinished: bool
    finished_bytes: int


def read_sample_manifest(path: Path) -> SampleManifest:
    """Reads a manifest; one that does not exist lists nothing.

    Raises:
        ArtifactError: the file cannot be read.
    """
    entries: dict[str, ManifestEntry] = {}
    damaged: list[int] = []
    finished = 0
    unfinished = False
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                unfinished = not line.endswith(b"\n")
                if unfinished:
                    break
                finished += len(line)
                entry = _parse(line)
                if entry is not None:
                    entries[entry.npz] = entry
                elif line.strip():
                    damaged.append(number)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ArtifactError(f"{path}: the manifest cannot be read: {error.strerror or error}") from error
    return SampleManifest(entries, tuple(damaged), unfinished, finished)


def _parse(line: bytes) -> ManifestEntry | None:
    try:
        given = json.loads(line)
    except ValueError:
        return None
    name = given.get("npz") if isinstance(given, dict) else None
    if not isinstance(name, str) or not name or "/" in name or "\\" in name:
        return None

    def typed(key: str, kind: type) -> Any:
        value = given.get(key)
        return value if isinstance(value, kind) and not isinstance(value, bool) else None

    return ManifestEntry(
        name,
        typed("frame_idx", int),
        typed("sequence", str),
        typed("run", str),
        typed("tracks", int),
        typed("detections", int),
        typed("matches", int),
        typed("label_source", str),
        typed("est_id_switches", int),
    )
