"""The items of a plan: what its inputs name, found on the disk; and whether an input is still what it was."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from glob import glob, has_magic
from operator import attrgetter
from pathlib import Path, PurePath
from typing import Any

from trackweave.errors import InputError, MissingExtraError, SettingError, shortened_line
from trackweave.options.sources import ProvidedValue, from_mapping, from_texts
from trackweave.plans.remote import NONE, StoreDownError, Stores, is_remote
from trackweave.plans.settings import SCHEMAS, InputEntry, Plan, SceneInputs, file_name, redacted, with_long_names
from trackweave.storage.files import content_digest

ROLES = ("input", "candidates", "prompts", "detections", "truth")
"""What an item reads, by name."""
TRAINING_ITEM = "training"
"""What is trained on all items of a plan of association, beside them."""
FRAME_FOLDERS = frozenset({"frames", "images", "img1", "color", "rgb"})
"""Names of folders of frames, which say nothing of the sequence."""
FILE_COLUMNS = ("input", "name", "group", "truth", "candidates", "prompts", "detections")
"""Columns of a table that are no settings."""


@dataclass(frozen=True)
class PlanItem:
    """One video of a plan.

    Attributes:
        name: of its folder; unique in the plan.
        files: role → path, see `ROLES`.
        group: what it is evaluated together with.
        values: its own settings.
    """

    name: str
    files: Mapping[str, str]
    group: str = ""
    values: Mapping[str, ProvidedValue] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The video."""
        return self.files["input"]


def find_items(plan: Plan, stores: Stores = NONE) -> list[PlanItem]:
    """The items of a plan in its order.

    Raises:
        InputError: a folder, list or table is not there or cannot be read, or names nothing.
        SettingError: two items of one name, or settings that there are not.
    """
    found: list[PlanItem] = []
    for n, entry in enumerate(plan.inputs, 1):
        where = f"{plan.origin}: inputs, entry {n}"
        own = with_long_names(plan.kind, entry.settings)
        values = from_mapping(own, SCHEMAS[plan.kind], f"{where}: settings") if own else {}
        listed = list(_of_entry(plan, entry, values, stores, where))
        if not listed:
            raise InputError(f"{where}: {_source_of(entry)}: there is nothing")
        found += listed
    if plan.kind == "association":  # the truth is the sequence's own where none is named
        found = [replace(item, files={"truth": item.path, **item.files}) for item in found]
        if any(item.name == TRAINING_ITEM for item in found):
            raise SettingError(f"{plan.origin}: an item is called {TRAINING_ITEM}, as what is trained: give it `name`")
    return _with_unique_names(found, plan.origin)


def _source_of(entry: InputEntry) -> str:
    scenes = entry.scenes
    return str(redacted(str(entry.path or entry.paths_from or entry.table or (scenes and scenes.root))))


def _of_entry(
    plan: Plan, entry: InputEntry, values: Mapping[str, ProvidedValue], stores: Stores, where: str
) -> Iterator[PlanItem]:
    if entry.table is not None:
        yield from _of_table(plan, entry, values)
    elif entry.scenes is not None:
        for scene in _scenes(entry.scenes, where):
            below = {"candidates": str(scene / entry.scenes.candidates)} if entry.scenes.candidates else {}
            frames = str(scene / entry.scenes.frames) if entry.scenes.frames else str(scene)
            yield _item(entry, {"input": frames, **below}, values, stem=scene.name)
    else:
        paths = _lines(entry.paths_from) if entry.paths_from is not None else [str(entry.path)]
        for path in paths:
            for one in _matches(path, stores):
                yield _item(entry, {"input": one}, values)


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _matches(path: str, stores: Stores) -> list[str]:
    """What a path names: itself, or in the order of names what matches its pattern."""
    if is_remote(path) and has_magic(path.partition("?")[0]):
        return sorted(stores.matches(path), key=_natural)
    if "://" in path or not has_magic(path) or Path(path).exists():
        return [path]  # what is not there is an item that fails, and stops no other
    found = glob(path, recursive=True)  # noqa: PTH207 - a pattern may be absolute
    shown = [one for one in found if not os.path.basename(one).startswith(".")]  # noqa: PTH119 - for ten thousand items
    return sorted(shown, key=_natural)


def _natural(text: str) -> list[int | str]:
    """A key by which `a2` comes before `a10`: texts and, at every second place, numbers."""
    return [int(part) if n % 2 else part for n, part in enumerate(re.split(r"(\d+)", text))]


def _scenes(settings: SceneInputs, where: str) -> list[Path]:
    """The folders below the root that are asked for.

    Raises:
        InputError: no such root, or a name or pattern that is not there.
    """
    root = settings.root
    try:
        folders = sorted(
            (one for one in root.iterdir() if one.is_dir() and not one.name.startswith(".")),
            key=lambda one: _natural(one.name),
        )
    except OSError as error:
        raise InputError(f"{where}: scenes: {root}: {error.strerror or error}") from error
    names = [settings.names] if isinstance(settings.names, str) else list(settings.names)
    if names == ["all"]:
        return folders
    wanted: set[Path] = set()
    for name in names:
        first, dots, last = name.partition("..")
        if dots:
            ends = _natural(first), _natural(last)
            part = {one for one in folders if ends[0] <= _natural(one.name) <= ends[1]}
        else:
            part = {one for one in folders if fnmatchcase(one.name, name)}
        if not part:
            raise InputError(f"{where}: scenes: {root} has no {shortened_line(name)}")
        wanted |= part
    return [one for one in folders if one in wanted]


def _of_table(plan: Plan, entry: InputEntry, common: Mapping[str, ProvidedValue]) -> Iterator[PlanItem]:
    assert entry.table is not None
    schema, kind = plan.schema, plan.kind
    for number, row in enumerate(_rows(entry.table), 1):
        where = f"{entry.table}, row {number}"
        files = {name: str(row[name]) for name in ROLES if row.get(name) not in (None, "")}
        if "input" not in files:
            raise InputError(f"{where}: has no `input`")
        own = {name: value for name, value in row.items() if name not in FILE_COLUMNS and value not in (None, "")}
        texts = {key: value for key, value in own.items() if isinstance(value, str)}
        values = dict(common)
        if own:
            values |= from_texts(with_long_names(kind, texts), schema, where)
            values |= from_mapping(
                with_long_names(kind, {k: v for k, v in own.items() if k not in texts}), schema, where
            )
        yield _item(entry, files, values, name=row.get("name"), group=row.get("group"))


def _rows(path: Path) -> Iterable[Mapping[str, Any]]:
    """The rows of a CSV or Parquet table.

    Raises:
        InputError: it cannot be read.
        MissingExtraError: Parquet without pyarrow.
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ModuleNotFoundError:
            raise MissingExtraError("pyarrow", "tables") from None
        try:
            rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: cannot be read as Parquet: {shortened_line(str(error))}") from None
        return rows
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            listed = [
                {
                    str(key).strip(): (value or "").strip() if not isinstance(value, list) else value
                    for key, value in row.items()
                }
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    for number, row in enumerate(listed, 1):
        if "None" in row:
            raise InputError(f"{path}, row {number}: has more cells than the header")
    return listed


def _item(
    entry: InputEntry,
    files: Mapping[str, str],
    values: Mapping[str, ProvidedValue],
    *,
    stem: str | None = None,
    name: str | None = None,
    group: str | None = None,
) -> PlanItem:
    """An item with what its entry says of all its items."""
    path = files["input"]
    stem = stem or _stem(path)
    name = name or (entry.name or "{stem}").replace("{stem}", stem).replace("{input}", str(redacted(path)))
    common = {role: getattr(entry, role) for role in ROLES if role != "input" and getattr(entry, role) is not None}
    filled = {
        role: text.replace("{input}", path).replace("{name}", name).replace("{stem}", stem)
        for role, text in common.items()
    }
    return PlanItem(file_name(name), {**filled, **files}, group or entry.group, values)


def _stem(path: str) -> str:
    """What an item is called: a folder by its name, one of frames by that of its sequence, a file without suffix."""
    text = _place(path)
    if text is not path and "/" not in text:
        return text  # a host alone, which has no suffix
    name = os.path.basename(text)  # noqa: PTH119 - texts, not paths: for ten thousand items
    if name and "." not in name and name not in FRAME_FOLDERS:
        return name
    one = PurePath(text)
    if one.name in FRAME_FOLDERS and one.parent.name:
        return one.parent.name
    return one.name if not one.suffix or os.path.isdir(path) else one.stem  # noqa: PTH112 - as above


def _place(path: str) -> str:
    """An address as host and path, without what may be secret of it; any other path as it is."""
    if "://" not in path:
        return path
    host, slash, below = path.partition("://")[2].partition("?")[0].rstrip("/").partition("/")
    return f"{host.rpartition('@')[2]}{slash}{below}"


def _with_unique_names(items: Sequence[PlanItem], origin: str) -> list[PlanItem]:
    """Items of one name get the name of the folder that they lie in before it.

    Raises:
        SettingError: that does not tell them apart.
    """
    counts: dict[str, int] = {}
    for item in items:
        counts[item.name] = counts.get(item.name, 0) + 1
    named, seen = [], dict[str, str]()
    for item in items:
        name = item.name
        if counts[name] > 1:
            name = file_name(f"{item.group or Path(_place(item.path)).absolute().parent.name}_{name}")
        if name.casefold() in seen:  # one folder where a file system does not tell capitals
            both = f"{redacted(seen[name.casefold()])} and {redacted(item.path)}"
            raise SettingError(f"{origin}: two items are called {name}: {both}; give them `name`")
        seen[name.casefold()] = item.path
        named.append(item if name == item.name else PlanItem(name, item.files, item.group, item.values))
    return named


# --- is an input still what it was? -----------------------------------------------------------------------------------

NOT_READ = frozenset({"gt"})
"""Folders in that of a sequence that its tracks do not depend on."""


def content_path(role: str, text: str, name: str) -> Path | None:
    """Where the content of what an item reads lies; None where the text is no path, as the name of a sequence's file.

    Args:
        role: see `ROLES`.
        text: what the plan says: of a prompt also `FRAME:LABEL.png`, of the truth also the folder of several sequences.
        name: of the item.
    """
    path = Path(text)
    if role == "prompts" and not path.exists() and ":" in text:
        return Path(text.partition(":")[2])
    if role == "detections" and not path.exists():
        return None
    if role == "truth":
        path = path / name if (path / name).is_dir() else path
        return path / "gt" if (path / "gt").is_dir() else path
    return path


def _files_of(root: str, role: str) -> Iterator[tuple[str, os.stat_result, str]]:
    """Name below the path, status and path of each file. Texts, not paths: this is the inner loop of a plan.

    Raises:
        OSError: nothing is there, or a folder cannot be listed.
    """
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as found:
                entries = [entry for entry in found if not entry.name.startswith(".")]
        except NotADirectoryError:
            yield "", os.stat(root), root  # noqa: PTH116 - as above
            return
        entries.sort(key=attrgetter("name"))
        is_sequence = role == "input" and folder == root and any(entry.name == "seqinfo.ini" for entry in entries)
        for entry in entries:
            if not entry.is_dir():
                yield entry.path[len(root) :], entry.stat(), entry.path
            elif not is_sequence or entry.name not in NOT_READ:
                folders.append(entry.path)


def _root_of(role: str, text: str, name: str) -> str | None:
    if role in ("input", "candidates"):
        return text
    path = content_path(role, text, name)
    return None if path is None else str(path)


def signature(role: str, text: str, name: str, stores: Stores = NONE) -> str:
    """Sizes and times of the files: as long as it stays, the content is not read again; empty where there is none."""
    if is_remote(text):
        return stores.signature(text)
    record = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8)
    try:
        root = _root_of(role, text, name)
        for below, status, _ in () if root is None else _files_of(root, role):
            record.update(f"{below}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
    except (OSError, ValueError):  # ValueError: a NUL character in the name
        return ""
    return record.hexdigest()


def input_bytes(item: PlanItem, stores: Stores = NONE) -> int:
    """Of the files of the video: of two items the one with more takes longer, as a rule; 0 where there is none.

    Raises:
        StoreDownError: it is in a store that does not answer.
    """
    try:
        if is_remote(item.path):
            return sum(one.size for one in stores.files(item.path))
        return sum(status.st_size for _, status, _ in _files_of(item.path, "input"))
    except StoreDownError:
        raise
    except (InputError, OSError, ValueError):  # said when it is worked on
        return 0


def digest(role: str, text: str, name: str, stores: Stores = NONE) -> str:
    """Of the content of the files and their names below the path, wherever that lies; in a store, of its checksums.

    Raises:
        InputError: a file cannot be read.
    """
    if is_remote(text):
        return stores.digest(text)
    record = hashlib.sha256()
    try:
        root = _root_of(role, text, name)
        if root is None:
            record.update(text.encode(errors="surrogateescape"))
        for below, _, file in () if root is None else _files_of(root, role):
            record.update(below.encode(errors="surrogateescape"))
            record.update(content_digest(Path(file)))
    except FileNotFoundError:
        raise InputError(f"{redacted(text)}: does not exist") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{redacted(text)}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return record.hexdigest()[:16]
