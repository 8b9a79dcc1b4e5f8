"""The three files of a run's identities, and the archives of masks as they are read by them.

`identity.json` decides: raw track → identity, the links behind it, and each identity's parent. The other two say the
same for other tools, and are written again with it: `relations.json` has for each object its parent, children,
descendants and path, and how far objects lie in each other; `index.json` has which object is on which frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import scale_boxes
from trackweave.errors import ArtifactError, shortened_line, wording
from trackweave.ids import PROMPTED_LEVEL, FrameIndex, Level
from trackweave.masks import kernels
from trackweave.masks.packed import PackedMasks
from trackweave.storage.files import check_version, read_json_object, write_json
from trackweave.storage.mask_archive import VideoSegments
from trackweave.storage.run import RunManifest, RunPaths
from trackweave.structures.identity import Containment, IdentityLink, IdentityTable, Tree
from trackweave.structures.tracks import FrameObjects, Tracks

SCHEMA_VERSION = 1
LINK_KINDS = ("merge", "stitch")


@dataclass(frozen=True)
class IdentityRecord:
    """What `identity.json` holds.

    Attributes:
        table: raw track → identity.
        tree: which identity is part of which.
        archives: artifact's path below the run folder → its size in bytes, of those that it was made from.
        settings: what it was made with, as JSON values.
        split: identities that others of their level make up together, ascending.
    """

    table: IdentityTable
    tree: Tree
    archives: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    split: Sequence[int] = ()

    def write(self, path: Path) -> None:
        """Writes the file, whole or not at all.

        Raises:
            RunFolderError: it cannot be written.
        """
        table, tree = self.table, self.tree
        write_json(
            path,
            {
                "schema_version": SCHEMA_VERSION,
                "settings": dict(self.settings),
                "archives": dict(self.archives),
                "tracks": [
                    {"track_id": track_id, "identity": identity, "level": level}
                    for track_id, identity, level in zip(
                        table.track_id.tolist(), table.identity.tolist(), table.level.tolist(), strict=True
                    )
                ],
                "links": [
                    {"a": one.a, "b": one.b, "kind": one.kind, "score": round(one.score, 4)}
                    | ({"gap": one.gap} if one.kind == "stitch" else {"frames": one.frames})
                    for one in table.links
                ],
                "objects": [
                    {
                        "id": one,
                        "level": tree.level_of(one),
                        "parent": tree.parent(one) or None,
                        "containment": round(share, 4),
                        "area": round(area, 1),
                    }
                    for one, share, area in zip(
                        tree.identity.tolist(), tree.containment.tolist(), tree.area.tolist(), strict=True
                    )
                ],
                "split": list(self.split),
            },
        )

    @classmethod
    def read(cls, path: Path) -> IdentityRecord:
        """Reads the file.

        Raises:
            ArtifactError: missing or damaged.
            ArtifactVersionError: of a newer schema.
        """
        data = read_json_object(path, "table of identities")
        check_version(data.get("schema_version"), SCHEMA_VERSION, path)
        try:
            tracks, objects = data["tracks"], data["objects"]
            links = [_link(row) for row in data["links"]]
            table = IdentityTable(
                _column(tracks, "track_id"), _column(tracks, "identity"), _column(tracks, "level"), tuple(links)
            )
            tree = Tree(
                _column(objects, "id"),
                np.array([row["parent"] or 0 for row in objects], np.int64),
                _column(objects, "level"),
                np.array([row["containment"] for row in objects], np.float32),
                np.array([row["area"] for row in objects], np.float64),
            )
            if set(table.identity.tolist()) != set(tree.identity.tolist()):
                raise ValueError("its objects are not those of its tracks")
            archives = {str(name): int(size) for name, size in data["archives"].items()}
            return cls(table, tree, archives, dict(data["settings"]), [int(one) for one in data["split"]])
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ArtifactError(f"{path}: the table of identities is damaged: {shortened_line(repr(error))}") from None


def _column(rows: Sequence[Mapping[str, object]], name: str) -> NDArray[np.int64]:
    """One number of each row, `(N,)`."""
    return np.array([row[name] for row in rows], np.int64)


def _link(row: Mapping[str, Any]) -> IdentityLink:
    if row["kind"] not in LINK_KINDS:
        raise ValueError(f"a link of kind {row['kind']}")
    frames, gap = int(row.get("frames", 0)), int(row.get("gap", 0))
    return IdentityLink(int(row["a"]), int(row["b"]), row["kind"], float(row["score"]), frames, gap)


def write_relations(path: Path, tree: Tree, pairs: Sequence[Containment] = ()) -> None:
    """Writes `relations.json`.

    Args:
        path: the file.
        tree: which identity is part of which.
        pairs: how far identities lie in each other, also where that makes no part.

    Raises:
        RunFolderError: it cannot be written.
    """
    write_json(
        path,
        {
            "schema_version": SCHEMA_VERSION,
            "objects": {
                str(one): {
                    "level": tree.level_of(one),
                    "parent": tree.parent(one) or None,
                    "children": tree.children(one),
                    "descendants": tree.descendants(one),
                    "path": tree.path(one),
                }
                for one in tree.identity.tolist()
            },
            "containment": [
                {"inner": pair.inner, "outer": pair.outer, "share": round(pair.share, 4), "frames": pair.frames}
                for pair in sorted(pairs)
            ],
        },
    )


def write_index(path: Path, frames: Mapping[int, Sequence[int]], tree: Tree) -> None:
    """Writes `index.json`: object → frames, frame → objects, level → objects.

    Args:
        path: the file.
        frames: absolute frame index → identities on it, ascending; frames ascending.
        tree: has the level of each.

    Raises:
        RunFolderError: it cannot be written.
    """
    seen: dict[int, list[int]] = {one: [] for one in tree.identity.tolist()}
    for frame, objects in frames.items():
        for one in objects:
            seen[one].append(frame)
    write_json(
        path,
        {
            "schema_version": SCHEMA_VERSION,
            "objects": {str(one): where for one, where in seen.items()},
            "frames": {str(frame): list(objects) for frame, objects in frames.items()},
            "levels": {
                str(level): tree.identity[tree.level == level].tolist() for level in np.unique(tree.level).tolist()
            },
        },
    )


def archive_sizes(manifest: RunManifest, levels: Iterable[Level]) -> dict[str, int]:
    """Path below the run folder → bytes, of the frame-major archive of each level: what identities hang on.

    Raises:
        ArtifactError: one is missing.
    """
    sizes = {}
    for level in levels:
        path = manifest.artifact(level, "video_segments")
        if not path.is_file():
            raise ArtifactError(f"{path}: the masks of level {level} are not there")
        sizes[path.relative_to(manifest.path.parent).as_posix()] = path.stat().st_size
    return sizes


def read_identity(run: RunPaths) -> IdentityRecord | None:
    """What a run's identities are; None where every track is its own.

    Raises:
        ArtifactError: damaged, or made from other archives than those of the run.
        ArtifactVersionError: of a newer schema.
    """
    if not run.identity.is_file():
        return None
    record = IdentityRecord.read(run.identity)
    manifest = RunManifest.load(run.manifest)
    if record.archives and record.archives != archive_sizes(manifest, manifest.tracked_levels):
        again = wording(f"relate({str(run.root)!r})", f"trackweave relate {run.root}")
        raise ArtifactError(f"{run.identity}: was made from other masks than those of the run: {again} makes it anew")
    return record


class IdentitySegments(VideoSegments):
    """A frame-major archive read by identity, see `Fusion`.

    Args:
        path: the archive of the level.
        level: which one that is.
        record: the identities.
        others: the archives of all other levels.
    """

    def __init__(
        self, path: str | Path, level: Level, record: IdentityRecord, others: Mapping[Level, str | Path] | None = None
    ) -> None:
        super().__init__(path)
        self._level, self._fusion = level, Fusion(record)
        self._others: dict[Level, VideoSegments] = {}
        self._full_size = self.info.full_resolution_shape or self.info.mask_shape or (1, 1)
        table = record.table
        things = zip(table.track_id.tolist(), table.identity.tolist(), strict=True)
        self.info = replace(self.info, classes=self.info.classes.joined(things))
        try:
            for one, other in (others or {}).items() if self._fusion.is_nested else ():
                self._others[one] = VideoSegments(other)
        except ArtifactError:
            self.close()
            raise

    def close(self) -> None:
        """Closes the files."""
        for video in getattr(self, "_others", {}).values():
            video.close()
        super().close()

    def frame(self, frame: FrameIndex | int) -> FrameObjects:
        """Identities of one frame; `track_id` is the identity."""
        levels = {level: video.frame(frame) for level, video in self._others.items()}
        fused = self._fusion.fuse({**levels, self._level: super().frame(frame)}, self._full_size)[self._level]
        return self.info.classes.onto(fused)

    def boxes(self, frame: FrameIndex | int, level: int | None = None) -> Tracks:
        """One frame's identities without their masks."""
        return Tracks.from_frames([self.frame(frame)], level=level, with_masks=False)


Words = NDArray[np.uint64]
"""`(words,)`, the bits of one mask."""
ObjectsOf = Callable[[int, NDArray[np.int64]], NDArray[np.int64]]
"""A frame and `(M,)` raw tracks → `(M,)` objects."""


@dataclass(frozen=True)
class _Claims:
    """The things of a level on a frame, and what they claim.

    Attributes:
        sure: with the pixels that they have first claim to.
        anyhow: what they get where nothing else has a sure claim.
        raw: of each the first of the tracks that it is.
    """

    sure: FrameObjects
    anyhow: PackedMasks
    raw: FrameObjects


class Fusion:
    """One frame of raw tracks and the identities → one frame of identities.

    The masks of tracks that are one thing become one, by their scores. Where the identities are nested, no pixel of a
    level belongs to two things, and a part lies in its whole wherever that is seen:

    1. A part has no pixel outside of its wholes, unless a part of its own has it as well: of three levels two decide.
       It is sure of its pixels but where it leaves its whole for another thing of the whole's level, and a thing of
       several tracks of those that the weightier of them have. It gets the others where nothing else is sure of them.
    2. From the finest level to the coarsest each pixel goes to one thing. The pixels of a part go to its whole, or to
       a part of that in its level, also where nothing of that level had them. Of all others the smallest thing that
       has a pixel gets it, so a part lies on top of a whole of its own level.

    Args:
        record: the identities.
        of: object of each raw track on a frame, −1 = left out; None = as the identities say, on all frames.
    """

    def __init__(self, record: IdentityRecord, of: ObjectsOf | None = None) -> None:
        table = record.table
        self._of = of if of is not None else lambda frame, track_id: table.of(track_id)
        self._tree = record.tree
        self.is_nested = bool(record.settings.get("nest", True))
        self._share = float(str(record.settings.get("fuse_share", 0.5)))
        order = np.lexsort((self._tree.identity, self._tree.area))
        self._rank = dict(zip(self._tree.identity[order].tolist(), range(len(order)), strict=True))
        # Itself and its wholes, the nearest first: of its own level, and of coarser ones.
        self._within: dict[int, list[int]] = {}
        self._coarser: dict[int, list[int]] = {}
        for one in self._tree.top_down:
            path, level = self._tree.path(one)[::-1], self._tree.level_of(one)
            self._within[one] = [other for other in path if self._tree.level_of(other) == level]
            self._coarser[one] = [other for other in path if self._tree.level_of(other) < level]

    def fuse(self, levels: Mapping[Level, FrameObjects], size: tuple[int, int]) -> dict[Level, FrameObjects]:
        """The identities of each level.

        Args:
            levels: the raw tracks of one frame, of all levels.
            size: `(H, W)` of the frame in full.
        """
        merged = {level: self._merged(objects) for level, objects in levels.items()}
        if self.is_nested:
            nested = {level: claims for level, claims in merged.items() if level != PROMPTED_LEVEL and len(claims.sure)}
            for level, words in self._assign(nested).items():
                masks = merged[level].sure.masks
                bits = np.ascontiguousarray(words.view(np.uint8)[:, : masks.bits.shape[1]])
                sure = replace(merged[level].sure, masks=PackedMasks(bits, *masks.size))
                merged[level] = _Claims(sure, masks, merged[level].raw)
        return {level: _measured(merged[level].sure, merged[level].raw, size) for level in levels}

    def _merged(self, objects: FrameObjects) -> _Claims:
        """The masks of tracks that are one thing as one; area and box are those of the first of them."""
        identities = self._of(int(objects.frame), objects.track_id)
        if (identities < 0).any():
            objects, identities = objects[np.flatnonzero(identities >= 0)], identities[identities >= 0]
        ids, first, counts = np.unique(identities, return_index=True, return_counts=True)
        raw = objects[first]
        merged = replace(raw, track_id=ids)
        if not (counts > 1).any():
            return _Claims(merged, merged.masks, raw)
        bits, score, union = merged.masks.bits.copy(), merged.score.copy(), merged.masks.bits.copy()
        for row in np.flatnonzero(counts > 1).tolist():
            members = np.flatnonzero(identities == ids[row])
            weights = np.maximum(objects.score[members].astype(np.float64), 1e-6)
            kernels.majority(objects.masks.bits[members], weights, self._share, bits[row])
            union[row] = np.bitwise_or.reduce(objects.masks.bits[members], axis=0)
            score[row] = objects.score[members].max()
        size = objects.masks.size
        fused = replace(merged, masks=PackedMasks(bits, *size), score=score)
        return _Claims(fused, PackedMasks(union, *size), raw)

    def _assign(self, levels: Mapping[Level, _Claims]) -> dict[Level, NDArray[np.uint64]]:
        """`(M, words)` per level: the pixels that each thing gets."""
        ids = {level: claims.sure.track_id.tolist() for level, claims in levels.items()}
        sure = {
            level: dict(zip(ids[level], claims.sure.masks.words.copy(), strict=True))
            for level, claims in levels.items()
        }
        anyhow = {
            level: dict(zip(ids[level], claims.anyhow.words.copy(), strict=True)) for level, claims in levels.items()
        }
        self._clamp(sure, anyhow)
        self._cut(sure)
        owned: dict[Level, NDArray[np.uint64]] = {}
        # Pixels of finer things, by the whole that they have to go to.
        due: dict[int, Words] = {}
        for level in sorted(levels, reverse=True):
            coarser = {one for other in sure if other < level for one in sure[other]}
            own = self._assign_level(sure[level], anyhow[level], due)
            due = {one: left for one, left in due.items() if one in coarser}
            for one, words in own.items():
                whole = next((other for other in self._coarser.get(one, ()) if other in coarser), 0)
                for other in [other for other in due if other != whole]:
                    due[other] &= ~words
                if whole:
                    _add(due, whole, words)
            owned[level] = np.stack([own[one] for one in ids[level]])
        return owned

    def _clamp(self, sure: Mapping[Level, dict[int, Words]], anyhow: Mapping[Level, dict[int, Words]]) -> None:
        """Cuts parts to their wholes, but where a part of their own reaches as far."""
        whole: dict[int, Words] = {}
        above: dict[int, Words] = {}
        below: dict[int, Words] = {}
        for level in sorted(anyhow):
            for one, words in anyhow[level].items():
                for other in self._coarser.get(one, ()):
                    if other in whole:
                        _add(above, one, whole[other])
                        _add(below, other, words)
            for one, words in anyhow[level].items():
                for other in self._within.get(one, ()):
                    if other in anyhow[level]:
                        _add(whole, other, words)
        for level, masks in anyhow.items():
            for one in masks.keys() & above.keys():
                kept = above[one] | below[one] if one in below else above[one]
                sure[level][one] &= kept
                masks[one] &= kept

    def _cut(self, masks: Mapping[Level, dict[int, Words]]) -> None:
        """Cuts parts where they leave a whole for another thing of its level."""
        whole: dict[int, Words] = {}
        claimed: dict[int, Words] = {}
        for level in sorted(masks):
            for one, words in masks[level].items():
                for other in self._coarser.get(one, ()):
                    if other in whole:
                        words &= whole[other] | ~claimed[self._tree.level_of(other)]
            for one, words in masks[level].items():
                for other in self._within.get(one, ()):
                    if other in masks[level]:
                        _add(whole, other, words)
            claimed[level] = np.bitwise_or.reduce(list(masks[level].values()), axis=0)

    def _assign_level(
        self, sure: Mapping[int, Words], anyhow: Mapping[int, Words], due: Mapping[int, Words]
    ) -> dict[int, Words]:
        """The pixels that each thing of a level gets, given those that finer things bring."""
        nothing = np.zeros_like(next(iter(sure.values())))
        bound = np.bitwise_or.reduce([nothing, *due.values()], axis=0)
        free = ~nothing
        order = sorted(sure, key=lambda one: (self._rank.get(one, -1), one))
        allowed: dict[int, Words] = {}
        for one in order:
            brought = [
                due[other] for other in (*self._within.get(one, (one,)), *self._coarser.get(one, ())) if other in due
            ]
            allowed[one] = np.bitwise_or.reduce([~bound, *brought], axis=0)
        own = {one: nothing.copy() for one in order}
        for masks in (sure, anyhow):
            for one in order:
                words = masks[one] & free & allowed[one]
                own[one] |= words
                free &= ~words
        for one, words in due.items():
            if one in own:
                own[one] |= words & free
                free &= ~words
        return own


def _add(unions: dict[int, Words], one: int, words: Words) -> None:
    """Adds the pixels of a mask to those that are kept for a thing."""
    unions[one] = unions[one] | words if one in unions else words.copy()


def _measured(merged: FrameObjects, raw: FrameObjects, size: tuple[int, int]) -> FrameObjects:
    """With areas and boxes of the masks as they are now; without those that have no pixel left."""
    if not len(merged):
        return merged
    areas, (height, width) = merged.masks.areas, merged.masks.size
    # A box may be finer than the stored mask: that of a mask that is as it was stays.
    same = (merged.masks.bits == raw.masks.bits).all(axis=1)
    boxes = scale_boxes(merged.masks.boxes, size[1] / width, size[0] / height)
    xyxy = np.where(same[:, None], raw.xyxy, boxes).astype(np.float32)
    return replace(merged, area=areas, xyxy=xyxy)[np.flatnonzero(areas > 0)]
