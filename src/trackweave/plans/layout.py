"""Views of a plan's results as the tracking guide lays them out: links to the files, which stay where they are.

- `scene_level`: `views/SCENE/object_segments_L02.npz`, `video_segments_L02.npz`, `compare_L02/`, `manifest.json`;
- `flat`: the same names behind `SCENE_`, all in `views/`.

Of several variants each has a folder `views/VARIANT`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from trackweave.errors import ArtifactError, RunFolderError
from trackweave.plans.settings import Plan
from trackweave.plans.tables import Row
from trackweave.storage.files import PARTIAL_SUFFIX, locked_folder, write_json
from trackweave.storage.run import RunManifest, RunPaths

FOLDER = "views"
RUN_FILES = ("report.html", "summary.json", "tracks.mot.txt", "tracks.npz", "overlay.mp4")


def write_views(plan: Plan, rows: Iterable[Row]) -> list[str]:
    """Writes the views of all finished items, and removes those of items that are gone.

    A view is a hard link, or a copy where the file system has none; a run is not touched.

    Returns:
        notes: items of which there is no view, and why.

    Raises:
        RunFolderError: a view cannot be written.
    """
    root, notes = plan.output / FOLDER, list[str]()
    with locked_folder(root):
        kept: set[Path] = set()
        for row in rows:
            if row.state != "finished":
                continue
            base = root / row.variant if len(plan.variants) > 1 else root
            try:
                kept |= _write_view(plan.output / row.folder, base, row.item, flat=plan.layout == "flat")
            except ArtifactError as error:
                if isinstance(error, RunFolderError):
                    raise
                notes.append(f"no view of {row.item}: {error}")
        for path in sorted(root.rglob("*"), reverse=True):
            with suppress(OSError):  # a folder that is not empty stays
                if path.is_dir():
                    path.rmdir()
                elif path not in kept and not path.name.startswith("."):
                    path.unlink()
    return notes


def _write_view(run: Path, base: Path, scene: str, *, flat: bool) -> set[Path]:
    """Links the files of one run.

    Returns:
        the files of the view.
    """
    manifest = RunManifest.load(RunPaths(run).manifest)
    folder, prefix = (base, f"{scene}_") if flat else (base / scene, "")
    linked: set[Path] = set()
    artifacts: dict[str, dict[str, str]] = {}
    for file, name in _files(run, manifest):
        target = folder / f"{prefix}{name}"
        _link(file, target)
        linked.add(target)
        level = _level_of(name)
        if level is not None and name.endswith(".npz"):
            artifacts.setdefault(level, {})[name.partition("_L")[0]] = target.name
    record: dict[str, Any] = dict(manifest.data)
    record["artifacts"] = artifacts
    record["run"] = os.path.relpath(run, folder)
    target = folder / f"{prefix}manifest.json"
    write_json(target, record)
    return linked | {target}


def _level_of(name: str) -> str | None:
    _, found, rest = name.partition("_L")
    digits = rest[:2]
    return str(int(digits)) if found and digits.isdecimal() else None


def _files(run: Path, manifest: RunManifest) -> Iterator[tuple[Path, str]]:
    """Each file of a run, and its name in the view."""
    for name in RUN_FILES:
        if (run / name).is_file():
            yield run / name, name
    for level in manifest.tracked_levels:
        for kind in ("object_segments", "video_segments"):
            path = manifest.artifact(level, kind)
            scale = path.stem.removeprefix(kind)
            yield path, f"{kind}_L{int(level):02d}{scale}.npz"
        compare = RunPaths(run).level(level).compare
        for path in sorted(compare.iterdir()) if compare.is_dir() else ():
            if path.is_file() and not path.name.startswith("."):
                yield path, f"compare_L{int(level):02d}/{path.name}"


def _link(file: Path, target: Path) -> None:
    """A hard link, or a copy where there are none; a view that is there already is left.

    Raises:
        RunFolderError: it cannot be written.
    """
    try:
        status = file.stat()
        if target.exists() and target.samefile(file):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}{PARTIAL_SUFFIX}")
        aside.unlink(missing_ok=True)
        try:
            aside.hardlink_to(file)
        except OSError:
            if target.exists() and (target.stat().st_size, target.stat().st_mtime_ns) == (
                status.st_size,
                status.st_mtime_ns,
            ):
                return
            shutil.copy2(file, aside)
        aside.replace(target)
    except OSError as error:
        raise RunFolderError(f"{target}: cannot be written: {error.strerror or error}") from error
