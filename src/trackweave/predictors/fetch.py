"""Published weights from the Hugging Face hub: the one place that downloads, and only when a person asks for it.

What is fetched is a commit, not a branch: the one that `catalog` pins, or one that the person names. What comes is
compared with the SHA-256 that is pinned, and with the one that the hub says; what differs is removed.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trackweave.errors import MissingExtraError, PredictorUnavailable, SettingError, listed, shortened_line, wording
from trackweave.predictors import catalog
from trackweave.predictors.catalog import BACKENDS, find_checkpoint
from trackweave.predictors.weights import CONFIG, SINGLE_FILES, weights_folder

COMMIT = re.compile(r"[0-9a-f]{40}")
CHECKSUM = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        name: in the repository.
        size: bytes.
        sha256: of its content; None where neither the hub nor a pin says it.
    """

    name: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class RemoteWeights:
    """Weights that can be fetched.

    Attributes:
        hub_name: of the repository.
        revision: commit.
        files: what a backend reads of it.
        folder: where they go; None: the Hugging Face cache.
    """

    hub_name: str
    revision: str
    files: Sequence[RemoteFile]
    folder: Path | None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def place(self) -> str:
        """Where they go, for people."""
        return "the Hugging Face cache" if self.folder is None else str(self.folder)


def look_up(name: str, revision: str | None = None, environment: Mapping[str, str] = os.environ) -> RemoteWeights:
    """Asks the hub for the sizes of weights; downloads nothing.

    Args:
        name: of a published checkpoint: hub name or short name, for the folder of transformers; the name of Meta's
            `.pt` file for that.
        revision: commit of the repository; None: the one that is pinned.
        environment: variables by name.

    Raises:
        SettingError: an unknown name, or no commit is pinned and none is given.
        MissingExtraError: huggingface_hub is not installed.
        PredictorUnavailable: the hub cannot be reached, refuses, or has another content than the pinned one.
    """
    checkpoint = find_checkpoint(name)
    if checkpoint is None:
        known = [one.hub_name for one in catalog.CHECKPOINTS]
        raise SettingError(f"there are no published weights {shortened_line(name, 60)!r}; known: {listed(known, 12)}")
    commit = revision or checkpoint.revision
    if commit is None or not COMMIT.fullmatch(commit):
        flag = wording("revision=COMMIT", "--revision COMMIT")
        why = "no commit of it is pinned" if revision is None else f"{shortened_line(revision, 60)!r} is no commit"
        raise SettingError(f"{checkpoint.hub_name}: {why}: give {flag}, 40 digits, as the repository's page shows them")
    is_file = name == checkpoint.file or all(BACKENDS[backend].takes_files for backend in checkpoint.backends)
    names = [checkpoint.file] if is_file and checkpoint.file is not None else [CONFIG, SINGLE_FILES[0]]
    pins = checkpoint.sha256 if commit == checkpoint.revision else {}
    folder = weights_folder(environment)
    files = [_remote_file(checkpoint.hub_name, commit, file, pins.get(file)) for file in names]
    return RemoteWeights(checkpoint.hub_name, commit, files, None if folder is None else folder / checkpoint.hub_name)


def _remote_file(hub_name: str, commit: str, name: str, pinned: str | None) -> RemoteFile:
    """What the hub says of a file."""
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "sam2") from error
    where = f"{hub_name}/{name} at {commit[:12]}"
    try:
        said = get_hf_file_metadata(hf_hub_url(hub_name, name, revision=commit))
    except Exception as error:  # noqa: BLE001 - errors of the hub, of its HTTP library and of the system
        raise _unreachable(where, error) from None
    if said.commit_hash not in (None, commit):
        raise PredictorUnavailable(f"{where}: the hub answers with commit {said.commit_hash}: nothing is fetched")
    checksum = said.etag if said.etag is not None and CHECKSUM.fullmatch(said.etag) else None
    if pinned is not None and checksum is not None and checksum != pinned:
        raise PredictorUnavailable(
            f"{where}: the hub has sha256 {checksum[:12]}…, pinned is {pinned[:12]}…: nothing is fetched"
        )
    return RemoteFile(name, said.size or 0, pinned or checksum)


def fetch(weights: RemoteWeights) -> Path:
    """Downloads weights, and checks them.

    Returns:
        the folder that has them.

    Raises:
        PredictorUnavailable: the hub cannot be reached or breaks off, or a file is not the right one, which is removed.
    """
    from huggingface_hub import constants, hf_hub_download

    paths = []
    for file in weights.files:
        try:
            path = Path(
                hf_hub_download(
                    weights.hub_name,
                    file.name,
                    revision=weights.revision,
                    local_dir=weights.folder,
                    cache_dir=constants.HF_HUB_CACHE,
                )
            )
        except Exception as error:  # noqa: BLE001 - as above
            raise _unreachable(f"{weights.hub_name}/{file.name}", error) from None
        _check(path, file)
        paths.append(path)
    return paths[0].parent


def _check(path: Path, file: RemoteFile) -> None:
    """Removes a file that is not what was asked for."""
    try:
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise PredictorUnavailable(f"{path}: cannot be read: {error.strerror or error}") from error
    if file.sha256 not in (None, digest):
        for one in (path.resolve(), path):
            with suppress(OSError):
                one.unlink()
        raise PredictorUnavailable(
            f"{path}: sha256 {digest[:12]}… instead of {str(file.sha256)[:12]}…: damaged on the way, or another file; "
            "it was removed: fetch it again"
        )


def _unreachable(where: str, error: Exception) -> PredictorUnavailable:
    """One line for whatever the hub's library raises."""
    kind = type(error).__name__
    hint = {
        "GatedRepoError": ": its licence has to be accepted on the hub, and `hf auth login` says who you are",
        "RepositoryNotFoundError": ": there is no such repository, or it is not open to you",
        "OfflineModeIsEnabled": ": HF_HUB_OFFLINE is set",
    }.get(kind, f": {kind}: {shortened_line(str(error), 160)}")
    return PredictorUnavailable(f"{where}: cannot be fetched{hint}")
