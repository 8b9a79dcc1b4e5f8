"""`filter_candidates`: candidates on the disk chosen anew, without generating them again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trackweave.errors import CandidateError, SettingError
from trackweave.formats.candidates import read_raw_folder
from trackweave.pipelines.mask_inputs import CANDIDATES_MANIFEST
from trackweave.pipelines.proposing import TREE_NAME
from trackweave.proposals.refine import FilterStats, refine
from trackweave.proposals.settings import CandidateSettings
from trackweave.storage.candidates import (
    FilteredFrame,
    FilteredManifest,
    Parents,
    filtered_path,
    leave_out,
    raw_path,
    read_candidates,
    read_filtered,
    read_parents,
    write_filtered,
    write_parents,
)
from trackweave.storage.files import locked_folder, read_json_object, write_json
from trackweave.structures.candidates import Candidates
from trackweave.structures.run_log import RunLog


def filter_candidates(
    root: str | os.PathLike[str],
    settings: CandidateSettings | None = None,
    *,
    levels: Sequence[int] | None = None,
    log: RunLog | None = None,
    output: str | os.PathLike[str] | None = None,
) -> dict[int, FilterStats]:
    """Writes `level_L/filtered/filtered.json` anew from the raw candidates that `propose` kept beside it.

    What the settings leave open stays as it was when the candidates were made: the generator's limits, and what was
    asked for beside them, as that they are nested. Where there are no raw candidates, the filtered ones are
    kept as such first (`level_L/raw/raw.json`), so that nothing is lost and a later call may choose otherwise; raw
    candidates of the tracking guide's older pipeline are read, too.

    Args:
        root: a folder of candidates.
        settings: which candidates stay, and what else is done; `tile_size` has no effect.
        levels: which levels; None = all that are there. Only these are nested in each other, and `tree.json` loses the
            links of others to them.
        log: takes what cannot be used; None: that is an error.
        output: a folder that gets what is chosen; nothing in `root` is changed. None: `root` itself.

    Returns:
        level → what was kept and dropped.

    Raises:
        InputError: there are no candidates, or some cannot be used.
        SettingError: a level that is not there.
        RunFolderError: the folder cannot be written, or another process works in it.
    """
    folder = Path(root)
    there = {
        int(path.name[6:]): path
        for path in sorted(folder.glob("level_[0-9]*"))
        if path.name[6:].isdecimal() and _source(path) is not None
    }
    wanted = sorted(there) if levels is None else sorted({int(level) for level in levels})
    missing = [level for level in wanted if level not in there]
    if not there:
        raise CandidateError(f"{folder}: has no candidates: no level_L/raw and no level_L/filtered/filtered.json")
    if missing:
        raise SettingError(f"{folder}: has no candidates of level {missing[0]}; there: {', '.join(map(str, there))}")
    log = log or RunLog("error")
    target = folder if output is None else Path(output)
    with locked_folder(target):
        chosen = {level: there[level] for level in wanted}
        stats, trees = _filter(chosen, target, settings or CandidateSettings(), log)
        _write_tree(target / TREE_NAME, trees, wanted, is_all=len(wanted) == len(there))
        about = folder / CANDIDATES_MANIFEST
        if target.absolute() != folder.absolute() and about.is_file():
            write_json(target / CANDIDATES_MANIFEST, read_json_object(about, "manifest of the candidates"))
    return stats


def _source(level_root: Path) -> Path | None:
    """What the candidates of a level are chosen from."""
    raw = raw_path(level_root)
    if raw.is_file():
        return raw
    if any(raw.parent.glob("frame_*.json")):
        return raw.parent
    return filtered_path(level_root) if filtered_path(level_root).is_file() else None


def _filter(
    there: Mapping[int, Path], target: Path, settings: CandidateSettings, log: RunLog
) -> tuple[dict[int, FilterStats], list[tuple[int, str, Parents]] | None]:
    """What was kept and dropped, and which is part of which, frame by frame; None where nothing is nested."""
    manifests: dict[int, FilteredManifest] = {}
    chosen: dict[int, CandidateSettings] = {}
    for level, path in there.items():
        source = _source(path)
        assert source is not None
        manifest = read_raw_folder(source) if source.is_dir() else read_filtered(source)
        leave_out(manifest.problems, log, level)
        manifests[level] = manifest
        chosen[level] = _over(manifest, settings)
    stats: dict[int, FilterStats] = {level: FilterStats() for level in there}
    kept: dict[int, list[tuple[int, str, Candidates]]] = {level: [] for level in there}
    raw: dict[int, list[tuple[int, str, Candidates]]] = {level: [] for level in there}
    trees: list[tuple[int, str, Parents]] = []
    entries = {level: {entry.frame_idx: entry for entry in manifest.frames} for level, manifest in manifests.items()}
    partial = sorted({index for own in entries.values() for index, entry in own.items() if entry.is_partial})
    for index in sorted({index for own in entries.values() for index in own}):
        read: dict[int, Candidates] = {}
        name = ""
        for level, own in entries.items():
            if index not in own:
                continue
            name = own[index].frame_name or name
            size = manifests[level].size or _size(manifests[level], own[index])
            read[level], problems = read_candidates(manifests[level], own[index], size)
            leave_out(problems, log, level)
            raw[level].append((index, name, read[level]))
        parents: dict[tuple[int, int], tuple[int, int] | None] = {}
        refined: dict[int, Candidates] = {}
        for level, candidates in read.items():  # each has the limits of its own generator
            one = refine({level: candidates}, chosen[level], stats, fills_gaps=index not in partial, coarser=refined)
            refined |= one.levels
            parents |= one.parents
        for level, candidates in refined.items():
            kept[level].append((index, name, candidates))
        trees.append((index, name, parents))
    for level, path in there.items():
        place, names = target / path.name, manifests[level].class_names
        if place.absolute() == path.absolute() and _source(path) == filtered_path(path):
            raw_file = raw_path(path)
            limits = manifests[level].limits
            write_filtered(
                path, level, iter(raw[level]), path=raw_file, limits=limits, partial=partial, class_names=names
            )
        # Raw candidates beside them have the limits by which they were made.
        recorded = {} if raw_path(place).is_file() else chosen[level].recorded({}, (1, 1))
        write_filtered(place, level, iter(kept[level]), limits=recorded or None, partial=partial, class_names=names)
    return stats, trees if any(one.nest for one in chosen.values()) else None


def _write_tree(
    path: Path, trees: Sequence[tuple[int, str, Parents]] | None, levels: Sequence[int], *, is_all: bool
) -> None:
    """Writes `tree.json` anew: candidates of these levels are others than before; further ones keep their links."""
    merged = {index: (index, name, parents) for index, name, parents in trees or ()}
    if not is_all and path.is_file():
        for index, before in read_parents(path).items():
            _, name, now = merged.get(index, (index, "", {}))
            others = {one: None if parent and parent[0] in levels else parent for one, parent in before.items()}
            merged[index] = index, name, {one: up for one, up in others.items() if one[0] not in levels} | dict(now)
    if trees is not None or any(parents for *_, parents in merged.values()):
        write_parents(path, [merged[index] for index in sorted(merged)])
    else:
        path.unlink(missing_ok=True)  # of candidates that are not there any more


def _over(manifest: FilteredManifest, settings: CandidateSettings) -> CandidateSettings:
    """The settings, and where they leave something open, those with which the candidates were made."""
    changed = settings.model_dump(exclude_defaults=True)
    if "nest" in settings.model_fields_set:  # also that they are not nested
        changed["nest"] = settings.nest
    known = {key: value for key, value in manifest.limits.items() if key in CandidateSettings.model_fields}
    try:
        return CandidateSettings(**{**known, **changed})
    except ValidationError as error:
        raise CandidateError(f"{manifest.path}: its limits are damaged: {error.errors()[0]['msg']}") from None


def _size(manifest: FilteredManifest, entry: FilteredFrame) -> tuple[int, int]:
    """`(H, W)` of a frame's candidate image, which its masks tell; without masks as far as its boxes reach."""
    reach = (1, 1)
    for item in entry.items:
        if not isinstance(item, dict):
            continue
        shape, mask, box = item.get("segmentation"), item.get("mask"), item.get("bbox")
        if isinstance(shape, dict) and _is_pair(shape.get("size")):
            return shape["size"][0], shape["size"][1]
        size: Any = (mask.get("full_resolution_shape") or mask.get("shape")) if isinstance(mask, dict) else None
        if _is_pair(size):
            return size[0], size[1]
        if isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box):
            reach = max(reach[0], int(min(box[1] + box[3], 1 << 14))), max(reach[1], int(min(box[0] + box[2], 1 << 14)))
    if entry.mask_file is not None:
        from trackweave.storage.npz import map_npy

        try:
            shape = map_npy(entry.mask_file).shape
        except (OSError, ValueError):
            return reach
        if len(shape) == 3 and min(shape[1:]) > 0:
            return shape[1], shape[2]
    return reach


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(side, int) and side > 0 for side in value)
    )
