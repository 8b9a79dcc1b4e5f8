from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.identity.toy_tracks import SIZE, boxes, frame_objects
from trackweave.errors import ArtifactError, ArtifactVersionError
from trackweave.ids import Level
from trackweave.storage.identity import Fusion, IdentityRecord, write_index, write_relations
from trackweave.structures.identity import Containment, IdentityLink, IdentityTable, Tree
from trackweave.structures.tracks import FrameObjects

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


class TestFusion:
    """What every frame must be, whatever the tracks, the table and the tree."""

    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_disjoint_nested_and_whole(self, data: st.DataObject) -> None:
        levels, record = data.draw(scenes())
        fused = Fusion(record).fuse(levels, SIZE)
        again = Fusion(record).fuse(dict(reversed(levels.items())), SIZE)
        masks: dict[int, NDArray[np.bool_]] = {}
        for level, objects in fused.items():
            seen = objects.masks.to_bool()
            assert seen.sum(axis=0).max(initial=0) <= 1  # no pixel in two things of a level
            assert objects.area.tolist() == seen.sum(axis=(1, 2)).tolist()
            assert (objects.area > 0).all()
            assert objects.masks == again[level].masks
            masks |= dict(zip(objects.track_id.tolist(), seen, strict=True))
        claimed = {one for level in levels.values() for one in record.table.of(level.track_id).tolist()}
        tree = record.tree
        nothing = np.zeros(SIZE, np.bool_)

        def whole(one: int) -> NDArray[np.bool_]:
            below = [other for other in tree.descendants(one) if tree.level_of(other) == tree.level_of(one)]
            return np.asarray(np.any([masks.get(other, nothing) for other in [one, *below]], axis=0))

        for one in claimed:
            above = [other for other in tree.path(one)[-2::-1] if tree.level_of(other) < tree.level_of(one)]
            for other in above:
                if other in claimed:
                    assert not (masks.get(one, nothing) & ~whole(other)).any()
        # Of the finest level no pixel is lost that a whole has as well, or that has no whole on the frame.
        claims: dict[int, NDArray[np.bool_]] = {}
        for objects in levels.values():
            for one, mask in zip(record.table.of(objects.track_id).tolist(), objects.masks.to_bool(), strict=True):
                claims[one] = claims.get(one, nothing) | mask
        finest = max((level for level, objects in levels.items() if len(objects)), default=Level(0))
        found = np.any([nothing, *(masks[one] for one in masks if tree.level_of(one) == finest)], axis=0)
        for one in [one for one in claims if tree.level_of(one) == finest]:
            above = [other for other in tree.path(one)[-2::-1] if tree.level_of(other) < finest and other in claims]
            below = [
                other
                for each in above
                for other in tree.descendants(each)
                if tree.level_of(other) == tree.level_of(each)
            ]
            wholes = [claims[other] for other in {*above, *below} if other in claims]
            kept = claims[one] & np.any(wholes, axis=0) if above else claims[one]
            assert not (kept & ~found).any()

    def test_without_nesting_masks_of_one_thing_are_fused_and_no_more(self) -> None:
        objects = frame_objects(0, {1: (0, 0, 10, 10), 2: (2, 0, 10, 10), 3: (5, 5, 15, 15)}, {1: 0.9, 2: 0.3})
        table = IdentityTable.from_links([1, 2, 3], 2, [IdentityLink(1, 2, "merge", 0.9, 1)])
        record = IdentityRecord(table, Tree.from_parents({1: 0, 3: 0}, {1: 2, 3: 2}), settings={"nest": False})
        fused = Fusion(record).fuse({Level(2): objects}, SIZE)[Level(2)]
        assert fused.track_id.tolist() == [1, 3]
        assert fused.xyxy.tolist() == [[0, 0, 10, 10], [5, 5, 15, 15]]  # the weightier mask
        assert fused.score.tolist() == pytest.approx([0.9, 0.9])

    def test_a_part_is_cut_to_its_whole_unless_a_part_of_its_own_reaches_as_far(self) -> None:
        levels = {
            Level(2): frame_objects(0, {1: (0, 0, 10, 10)}),
            Level(4): frame_objects(0, {2: (0, 0, 14, 10)}),
            Level(6): frame_objects(0, {3: (0, 0, 12, 10)}),
        }
        table = IdentityTable.from_links([1, 2, 3], [2, 4, 6])
        tree = Tree.from_parents({1: 0, 2: 1, 3: 2}, {1: 2, 2: 4, 3: 6}, areas={1: 100, 2: 140, 3: 120})
        fused = Fusion(IdentityRecord(table, tree)).fuse(levels, SIZE)
        assert [fused[Level(k)].xyxy[0, 2] for k in (2, 4, 6)] == [12, 12, 12]  # two levels of three
        del levels[Level(6)]
        fused = Fusion(IdentityRecord(table, tree)).fuse(levels, SIZE)
        assert [fused[Level(k)].xyxy[0, 2] for k in (2, 4)] == [10, 10]

    def test_a_part_lies_on_its_whole_and_is_cut_where_it_reaches_into_another(self) -> None:
        coarse = frame_objects(0, {1: (0, 0, 10, 10), 2: (10, 0, 20, 10)})
        fine = frame_objects(0, {3: (0, 0, 12, 5), 4: (10, 0, 20, 5)})
        table = IdentityTable.from_links([1, 2, 3, 4], [2, 2, 4, 4])
        tree = Tree.from_parents(
            {1: 0, 2: 0, 3: 1, 4: 2}, {1: 2, 2: 2, 3: 4, 4: 4}, areas={1: 100, 2: 100, 3: 60, 4: 50}
        )
        fused = Fusion(IdentityRecord(table, tree)).fuse({Level(2): coarse, Level(4): fine}, SIZE)
        assert fused[Level(4)].xyxy.tolist() == [[0, 0, 10, 5], [10, 0, 20, 5]]
        assert fused[Level(2)].xyxy.tolist() == [[0, 0, 10, 10], [10, 0, 20, 10]]


@st.composite
def scenes(draw: st.DrawFn) -> tuple[dict[Level, FrameObjects], IdentityRecord]:
    """One frame of up to three levels, with any table and tree that are allowed."""
    levels: dict[Level, FrameObjects] = {}
    tracks: dict[int, int] = {}
    for level in (2, 4, 6):
        first = 10 * level
        boxes_of = draw(st.dictionaries(st.integers(first + 1, first + 5), boxes(), max_size=5))
        tracks |= dict.fromkeys(range(first + 1, first + 6), level)
        scores = {one: draw(st.floats(0, 1)) for one in boxes_of}
        levels[Level(level)] = frame_objects(0, boxes_of, scores)
    links = [
        IdentityLink(a, a + 1, "merge", 1.0, 1) for a in tracks if a + 1 in tracks and draw(st.integers(0, 3)) == 0
    ]
    table = IdentityTable.from_links(list(tracks), list(tracks.values()), links)
    parents: dict[int, int] = {}
    for n, one in enumerate(table.identities.tolist()):
        parents[one] = draw(st.sampled_from([0, *table.identities[:n].tolist()]))
    areas = {one: float(draw(st.integers(1, 5))) for one in parents}
    tree = Tree.from_parents(parents, {one: tracks[one] for one in parents}, areas=areas)
    return levels, IdentityRecord(table, tree)
