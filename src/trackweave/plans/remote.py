"""Inputs and outputs in an object store (`s3://`, `gs://`): what lies there, fetched to a bounded cache, put whole.

Everything goes through fsspec. The checksum that a store has of an object stands for its content, so that nothing is
read to find out whether it changed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from uuid import uuid4

from trackweave.errors import InputError, MissingExtraError, RunFolderError, shortened_line
from trackweave.plans.settings import Plan, StorageSettings, hide_secrets, redacted
from trackweave.storage.files import locked_folder

SCHEMES: Mapping[str, tuple[str, str]] = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gs")}
"""Scheme of an address → package that opens it, and the extra that brings it."""
PATIENCE: Mapping[str, Mapping[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}}
}
"""Options unless given: a server that is not there is found out in seconds."""
MARKS = ("manifest.json", "stages/record.json")
"""Files of a run folder that say that it is whole: they go last."""
LEFT_OUT = ("journal", "views")
"""Folders that stay here: what a cut-off run goes on from, and links."""


class NothingThereError(InputError):
    """A store answers that it has nothing at an address."""


class StoreDownError(InputError):
    """A store does not answer, so that nobody knows what it has: never the same as having nothing."""


class StoreNotWrittenError(RunFolderError):
    """A store does not take what it is sent, for now."""


class StoredFile(NamedTuple):
    """One object: where it lies below an address, its key, its size and the store's checksum of its content."""

    below: str
    key: str
    size: int
    checksum: str


def is_remote(text: str) -> bool:
    """Is it an address in a store?

    >>> is_remote("s3://bucket/clip.mp4"), is_remote("clip.mp4"), is_remote("rtsp://camera/main")
    (True, False, False)
    """
    return text.partition("://")[0] in SCHEMES and "://" in text


@dataclass(frozen=True)
class Stores:
    """How object stores are reached, and where what is fetched from them lies meanwhile.

    Attributes:
        settings: options of fsspec, and bounds.
        cache: folder of what was fetched.
    """

    settings: StorageSettings = field(repr=False)
    cache: str

    def matches(self, pattern: str) -> list[str]:
        """The addresses that a pattern names, in the order of names.

        Raises:
            InputError: the store cannot be asked.
        """
        with _asking(pattern):
            scheme, store = self._store(pattern)
            return [f"{scheme}://{key}" for key in sorted(store.glob(pattern.rstrip("/")))]

    def files(self, address: str) -> list[StoredFile]:
        """The objects at an address, or below it.

        Raises:
            NothingThereError: there are none.
            InputError: the store refuses.
            StoreDownError: it does not answer.
        """
        with _asking(address):
            _, store = self._store(address)
            root = store._strip_protocol(address.rstrip("/"))
            found = store.find(root, detail=True)
            if not found:
                raise FileNotFoundError(address)
            return [
                StoredFile(key[len(root) :].lstrip("/"), key, int(info["size"]), _checksum(info))
                for key, info in sorted(found.items())
                if not key.endswith("/")
            ]

    def signature(self, address: str) -> str:
        """Of names, sizes and checksums; empty where nothing is there, or nothing that may be read.

        Raises:
            StoreDownError: the store does not answer.
        """
        try:
            return self.digest(address)
        except StoreDownError:
            raise
        except InputError:
            return ""

    def digest(self, address: str) -> str:
        """Of names, sizes and checksums.

        Raises:
            InputError: as `files`.
        """
        files = self.files(address)
        return hashlib.blake2b(repr([(one.below, one.size, one.checksum) for one in files]).encode()).hexdigest()[:16]

    @contextmanager
    def fetched(self, address: str) -> Iterator[str]:
        """A local copy, whole and checked, which stays as long as the block lasts, then as long as the cache holds it.

        Raises:
            InputError: it is not there, cannot be fetched, came differently, or is larger than the cache.
            RunFolderError: the cache cannot be written.
        """
        files = self.files(address)
        size, most = sum(one.size for one in files), self.settings.cache_gb * 1e9
        if size > most:
            text = f"{size / 1e9:.1f} GB, and storage.cache_gb is {self.settings.cache_gb:g}"
            raise InputError(f"{redacted(address)}: {text}")
        mark = hashlib.sha256(repr((address, files)).encode()).hexdigest()[:24]
        entry = Path(self.cache) / mark
        name = PurePosixPath(address.partition("?")[0].rstrip("/")).name
        target = entry / "content" / name
        user = entry / "users" / uuid4().hex
        try:
            with locked_folder(user):  # seen by those who clean up
                with locked_folder(entry, wait=True):
                    if not target.exists():
                        self._evict(size, most)
                        self._fetch(address, files, target)
                    os.utime(entry)
                yield str(target)
        finally:
            with suppress(OSError):
                user.rmdir()

    def _fetch(self, address: str, files: Sequence[StoredFile], target: Path) -> None:
        partial = target.parent.with_name("partial")
        with _writing(self.cache):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        for one in files:
            path = partial / target.name / one.below
            with _asking(address):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._store(address)[1].get_file(one.key, str(path))
            if not _is_same(path, one):
                raise InputError(f"{redacted(address)}: {one.below or target.name} came differently: try again")
        with _writing(self.cache):
            partial.rename(target.parent)

    def _evict(self, size: int, most: float) -> None:
        """Removes what was used longest ago and is not in use, until so many bytes more fit."""
        entries = sorted((path.stat().st_mtime, path) for path in Path(self.cache).iterdir() if path.is_dir())
        sizes = {path: _size_of(path) for _, path in entries}
        total = sum(sizes.values())
        for _, path in entries:
            if total + size <= most:
                return
            with suppress(RunFolderError), ExitStack() as stack:  # in use: it stays
                for user in (path / "users").iterdir():
                    stack.enter_context(locked_folder(user))
                shutil.rmtree(path / "content", ignore_errors=True)
                total -= sizes[path]

    def put_files(self, paths: Sequence[Path], address: str) -> None:
        """Puts single files below an address.

        Raises:
            RunFolderError: the store refuses.
        """
        with _putting(address):
            _, store = self._store(address)
            root = store._strip_protocol(address.rstrip("/"))
            for path in paths:
                store.put_file(str(path), f"{root}/{path.name}")

    def put(self, folder: Path, address: str) -> int:
        """Puts a folder as it is, those files last that say that it is whole; what lies there and is no more, goes.

        A reader finds the folder as it was, without its marks while it is changed, or as it is.

        Returns:
            files that were put; such as are there already with this content are not.

        Raises:
            RunFolderError: the store refuses, or has another content than was sent.
        """
        local = {
            path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if _is_result(path, folder)
        }
        try:
            there = {one.below: one for one in self.files(address)}
        except NothingThereError:
            there = {}
        changed = [name for name, path in local.items() if name not in there or not _is_same(path, there[name])]
        gone = [one for name, one in there.items() if name not in local]
        if not changed and not gone:
            return 0
        with _putting(address):
            _, store = self._store(address)
            root = store._strip_protocol(address.rstrip("/"))
            marks = [name for name in MARKS if name in local]
            for name in MARKS:
                if name in there:
                    store.rm_file(there[name].key)
            for one in gone:
                if one.below not in MARKS:
                    store.rm_file(one.key)
            for name in [*(name for name in changed if name not in marks), *marks]:
                store.put_file(str(local[name]), f"{root}/{name}")
        for one in self.files(address):
            if not _is_same(local[one.below], one):
                raise RunFolderError(f"{redacted(address)}/{one.below}: the store has another content than was sent")
        return len(changed)

    def restore(self, address: str, folder: Path) -> None:
        """Fetches a folder that another machine has put; nothing where there is none, or none that is whole.

        Raises:
            InputError: the store does not say whether there is one, or what it has cannot be fetched.
        """
        try:
            files = self.files(address)
        except NothingThereError:
            return
        if MARKS[-1] not in {one.below for one in files}:
            return
        for one in sorted(files, key=lambda one: one.below in MARKS):
            path = folder / one.below
            with _asking(address):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._store(address)[1].get_file(one.key, str(path))
            if not _is_same(path, one):
                raise InputError(f"{redacted(address)}: {one.below} came differently: try again")

    def _store(self, address: str) -> tuple[str, Any]:
        scheme = address.partition("://")[0]
        if "@" in address.partition("://")[2].partition("/")[0]:
            raise InputError(
                f"{redacted(address)}: an account in an address: give it as storage.options, or in the environment"
            )
        return scheme, _opened(scheme, json.dumps(dict(self.settings.options), sort_keys=True, default=str))


NONE = Stores(StorageSettings(), "")
"""Without options: of plans that name no store."""


def stores_of(plan: Plan) -> Stores:
    """How a plan's inputs and outputs in stores are reached."""
    settings = plan.storage
    hide_secrets(settings.options)
    return Stores(settings, str(settings.cache or plan.output / "cache"))


@lru_cache(8)
def _opened(scheme: str, options: str) -> Any:
    package, extra = SCHEMES[scheme]
    try:
        import fsspec

        import_module(package)
    except ModuleNotFoundError:
        raise MissingExtraError(package, extra) from None
    given = json.loads(options)
    hide_secrets(given)
    return fsspec.filesystem(
        scheme, skip_instance_cache=True, use_listings_cache=False, **{**PATIENCE.get(scheme, {}), **given}
    )


def _checksum(info: Mapping[str, Any]) -> str:
    found = (
        info.get("ETag") or info.get("md5Hash") or info.get("etag") or info.get("LastModified") or info.get("updated")
    )
    return str(found).strip('"')


def _is_same(path: Path, stored: StoredFile) -> bool:
    """Has a local file the size of an object, and, where the store's checksum is an MD5, its content?"""
    if path.stat().st_size != stored.size:
        return False
    is_md5 = len(stored.checksum) == 32 and all(letter in "0123456789abcdef" for letter in stored.checksum)
    if not is_md5:  # of an object that was put in parts, or encrypted
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == stored.checksum


def _is_result(path: Path, folder: Path) -> bool:
    names = path.relative_to(folder).parts
    return path.is_file() and not any(name.startswith(".") for name in names) and names[0] not in LEFT_OUT


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    text = redacted(shortened_line(getattr(error, "strerror", None) or str(error) or type(error).__name__, 300))
    return f"cannot be read: {text}"


@contextmanager
def _asking(address: str) -> Iterator[None]:
    """Whatever a store or the way to it says becomes one line that names the address."""
    try:
        yield
    except (InputError, MissingExtraError):
        raise
    except FileNotFoundError as error:
        raise NothingThereError(f"{redacted(address)}: {_reason(error)}") from None
    except Exception as error:  # noqa: BLE001 - every client has errors of its own
        text = f"{redacted(address)}: {_reason(error)}"
        if _is_answer(error):
            raise InputError(text) from None
        text += ": what lies there is not known: the same command goes on when it answers"
        raise StoreDownError(text) from None


@contextmanager
def _putting(address: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - as above
        text = f"{redacted(address)}: cannot be written: {_reason(error).removeprefix('cannot be read: ')}"
        raise (RunFolderError if _is_answer(error) else StoreNotWrittenError)(text) from None


def _is_answer(error: BaseException) -> bool:
    """Is an error what the store says of one address, or of this machine's disk, and not that it cannot be asked?"""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return isinstance(error, (FileNotFoundError, PermissionError))


@contextmanager
def _writing(folder: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be written: {error.strerror or error}") from error
