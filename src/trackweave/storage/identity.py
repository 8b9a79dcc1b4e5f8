"""The three files of a run's identities.

`identity.json` decides: raw track → identity, the links behind it, and each identity's parent. The other two say the
same for other tools, and are written again with it: `relations.json` has for each object its parent, children,
descendants and path, and how far objects lie in each other; `index.json` has which object is on which frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trackweave.errors import ArtifactError, shortened_line
from trackweave.storage.files import check_version, read_json_object, write_json
from trackweave.structures.identity import Containment, IdentityLink, IdentityTable, Tree

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
                    {"a": one.a, "b": one.b, "kind": one.kind, "score": round(one.score, 4), "frames": one.frames}
                    for one in table.links
                ],
                "objects": [
                    {"id": one, "level": level, "parent": parent or None, "containment": round(share, 4)}
                    for one, level, parent, share in zip(
                        tree.identity.tolist(),
                        tree.level.tolist(),
                        tree.parents.tolist(),
                        tree.containment.tolist(),
                        strict=True,
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
            )
            if set(table.identity.tolist()) != set(tree.identity.tolist()):
                raise ValueError("its objects are not those of its tracks")
            archives = {str(name): int(size) for name, size in data["archives"].items()}
            return cls(table, tree, archives, dict(data["settings"]), [int(one) for one in data["split"]])
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ArtifactError(f"{path}: the table of identities is damaged: {shortened_line(repr(error))}") from None


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> Any:
    return np.array([row[name] for row in rows], np.int64)


def _link(row: Mapping[str, Any]) -> IdentityLink:
    if row["kind"] not in LINK_KINDS:
        raise ValueError(f"a link of kind {row['kind']}")
    return IdentityLink(int(row["a"]), int(row["b"]), row["kind"], float(row["score"]), int(row["frames"]))


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
                    "level": level,
                    "parent": parent or None,
                    "children": tree.children(one),
                    "descendants": tree.descendants(one),
                    "path": tree.path(one),
                }
                for one, level, parent in zip(
                    tree.identity.tolist(), tree.level.tolist(), tree.parents.tolist(), strict=True
                )
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
