from __future__ import annotations

import json
from pathlib import Path

import pytest

from trackweave.errors import ArtifactError, ArtifactVersionError
from trackweave.storage.identity import IdentityRecord, write_index, write_relations
from trackweave.structures.identity import Containment, IdentityLink, IdentityTable, Tree

TREE = Tree.from_parents({1: 0, 3: 1, 4: 1}, {1: 2, 3: 4, 4: 4}, {3: 0.9, 4: 1.0})


def record() -> IdentityRecord:
    links = [IdentityLink(1, 2, "merge", 0.75, 3)]
    table = IdentityTable.from_links([1, 2, 3, 4], [2, 2, 4, 4], links)
    return IdentityRecord(table, TREE, {"level_2/tracking/video_segments.npz": 120}, {"merge": True}, [1])


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    record().write(path)
    read = IdentityRecord.read(path)
    assert (read.table.identity.tolist(), read.table.links) == ([1, 1, 3, 4], record().table.links)
    assert (read.tree.parents.tolist(), read.tree.containment.tolist()) == ([0, 1, 1], TREE.containment.tolist())
    assert (read.archives, read.settings, read.split) == (record().archives, {"merge": True}, [1])
    before = path.read_bytes()
    read.write(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        {"tracks": [{"track_id": 1, "identity": 1}]},
        {"tracks": [{"track_id": 1, "identity": 2, "level": 2}]},
        {"objects": [{"id": 1, "level": 2, "parent": 1, "containment": 1.0}]},
        {"objects": []},
        {"links": [{"a": 1, "b": 2, "kind": "guess", "score": 1, "frames": 1}]},
        {"links": None},
    ],
)
def test_a_damaged_table_is_one_line(tmp_path: Path, damage: dict[str, object]) -> None:
    path = tmp_path / "identity.json"
    record().write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(ArtifactError, match="table of identities is damaged") as error:
        IdentityRecord.read(path)
    assert "\n" not in str(error.value)


def test_a_newer_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    path.write_text('{"schema_version": 2}')
    with pytest.raises(ArtifactVersionError, match="newer"):
        IdentityRecord.read(path)


def test_relations_and_index_say_the_same_to_other_tools(tmp_path: Path) -> None:
    write_relations(tmp_path / "relations.json", TREE, [Containment(3, 1, 0.9, 5)])
    relations = json.loads((tmp_path / "relations.json").read_text())
    assert relations["objects"]["1"] == {
        "level": 2,
        "parent": None,
        "children": [3, 4],
        "descendants": [3, 4],
        "path": [1],
    }
    assert relations["objects"]["4"]["path"] == [1, 4]
    assert relations["containment"] == [{"inner": 3, "outer": 1, "share": 0.9, "frames": 5}]
    write_index(tmp_path / "index.json", {0: [1, 3], 7: [1, 4]}, TREE)
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["objects"] == {"1": [0, 7], "3": [0], "4": [7]}
    assert index["frames"] == {"0": [1, 3], "7": [1, 4]}
    assert index["levels"] == {"2": [1], "4": [3, 4]}
