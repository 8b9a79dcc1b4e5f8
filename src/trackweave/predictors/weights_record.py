"""`WeightsRecord`: checksums of weight files, remembered, so that a file that changed is noticed.

They lie in `weights.json` in the user's state folder (`XDG_STATE_HOME`, else `~/.local/state`), by path. A file of the
same size and time of change is not read again.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trackweave.errors import ArtifactError, PredictorUnavailable
from trackweave.storage.files import check_version, read_json_object, write_json
from trackweave.structures.warning import RunWarning

VERSION = 1
STAGE = "weights"
BLOB = re.compile(r"[0-9a-f]{64}")
"""The Hugging Face cache names large files after their content."""


@dataclass(frozen=True)
class WeightFile:
    """One weight file as it is now.

    Attributes:
        path: where it really lies.
        size: bytes.
        sha256: of its content, hexadecimal.
    """

    path: Path
    size: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """The record as the manifest holds it."""
        return {"file": str(self.path), "bytes": self.size, "sha256": self.sha256}


@dataclass
class WeightsRecord:
    """What is known of weight files.

    Attributes:
        path: the state file.
        warnings: what was noticed: files that changed, a state file that cannot be used.
    """

    path: Path
    warnings: list[RunWarning] = field(default_factory=list)

    @classmethod
    def of_user(cls, environment: Mapping[str, str] = os.environ) -> WeightsRecord:
        """The record of the user who runs this."""
        home = environment.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
        return cls(Path(home) / "trackweave" / "weights.json")

    def check(self, files: Iterable[Path]) -> list[WeightFile]:
        """Takes the checksums of files and compares them with what is remembered.

        Raises:
            PredictorUnavailable: a file cannot be read, or is not what the Hugging Face cache took it for.
        """
        known = self._read()
        found, before = [], dict(known)
        for file in files:
            one, entry = self._check(file, known.get(str(file.resolve())))
            found.append(one)
            known[str(one.path)] = entry
        if known != before:
            self._write(known)
        return found

    def _check(self, file: Path, entry: Mapping[str, Any] | None) -> tuple[WeightFile, dict[str, Any]]:
        path = file.resolve()
        try:
            status = path.stat()
            stamp = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
            fresh = entry is not None and all(entry.get(key) == value for key, value in stamp.items())
            digest = str(entry["sha256"]) if entry is not None and fresh else _sha256(path)
        except OSError as error:
            raise PredictorUnavailable(f"{file}: cannot be read: {error.strerror or error}") from error
        if BLOB.fullmatch(path.name) and path.name != digest:
            raise PredictorUnavailable(f"{file}: damaged: its content is not what the cache calls it; fetch it again")
        if entry is not None and entry["sha256"] != digest:
            self._warn(
                "weights-changed",
                f"{path}: these weights are not those of earlier runs: sha256 {digest[:12]}… instead of "
                f"{str(entry['sha256'])[:12]}…",
            )
        return WeightFile(path, status.st_size, digest), {**stamp, "sha256": digest}

    def _read(self) -> dict[str, dict[str, Any]]:
        if not self.path.exists():
            return {}
        try:
            content = read_json_object(self.path, "record of weights")
            check_version(content.get("schema_version"), VERSION, self.path)
            files = content["files"]
            return {str(path): dict(entry) for path, entry in files.items() if isinstance(entry["sha256"], str)}
        except (ArtifactError, KeyError, TypeError, ValueError, AttributeError) as error:
            self._warn("weights-record", f"{self.path}: the record of weights cannot be read and begins anew: {error}")
            return {}

    def _write(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        try:
            write_json(self.path, {"schema_version": VERSION, "files": dict(sorted(known.items()))})
        except ArtifactError as error:
            self._warn("weights-record", f"{error}; a later change of the weights will not be noticed")

    def _warn(self, code: str, message: str) -> None:
        self.warnings.append(RunWarning(STAGE, None, code, message))


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
