from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.structures.identity import IdentityLink, IdentityTable, Tree

pairs = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)).filter(lambda pair: pair[0] != pair[1]), max_size=12)


def links(chosen: list[tuple[int, int]]) -> list[IdentityLink]:
    return [IdentityLink(min(pair), max(pair), "merge", 1.0, 2) for pair in chosen]


class TestIdentityTable:
    @given(pairs, st.permutations(range(1, 13)))
    def test_an_identity_is_the_smallest_id_whatever_the_order(
        self, chosen: list[tuple[int, int]], order: list[int]
    ) -> None:
        table = IdentityTable.from_links(range(1, 13), 2, links(chosen))
        again = IdentityTable.from_links(order, 2, links(chosen[::-1]))
        assert table.identity.tolist() == again.identity.tolist()
        for a, b in chosen:
            assert table.of([a]) == table.of([b])
        for identity in table.identities.tolist():
            assert table.members(identity).min() == identity
        assert len(table.links) == 12 - len(table.identities)  # a forest

    def test_unknown_tracks_are_their_own(self) -> None:
        table = IdentityTable.from_links([5, 9], 2, [IdentityLink(5, 9, "stitch", 0.9)])
        assert table.of([9, 7, 100, 1]).tolist() == [5, 7, 100, 1]
        assert IdentityTable.empty().of([3]).tolist() == [3]

    def test_one_level(self) -> None:
        table = IdentityTable.from_links([1, 2, 3, 4], [2, 2, 4, 4], [*links([(1, 2)]), *links([(3, 4)])])
        level = table.at_level(4)
        assert (level.track_id.tolist(), level.identity.tolist(), level.links) == (
            [3, 4],
            [3, 3],
            (links([(3, 4)])[0],),
        )

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            (([2, 1], [2, 1], [2, 2]), "ascend"),
            (([1, 2], [2, 2], [2, 2]), "smallest"),
            (([1, 2], [1, 1], [2, 4]), "one level"),
            (([1, 2], [1, 2], [2]), "lengths"),
        ],
    )
    def test_what_is_no_table(self, columns: tuple[list[int], ...], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            IdentityTable(np.array(columns[0]), np.array(columns[1]), np.array(columns[2]))

    def test_links_join_what_is_there(self) -> None:
        with pytest.raises(ValueError, match="tracks 1 and 3"):
            IdentityTable.from_links([1, 2], 2, links([(1, 3)]))
        with pytest.raises(ValueError, match="one level"):
            IdentityTable.from_links([1, 2], [2, 4], links([(1, 2)]))


class TestTree:
    @given(st.lists(st.integers(0, 20), min_size=1, max_size=20))
    def test_every_way_through_it_agrees(self, parents: list[int]) -> None:
        ids = range(1, len(parents) + 1)
        tree = Tree.from_parents(
            {one: parent % one for one, parent in zip(ids, parents, strict=True)}, dict.fromkeys(ids, 2)
        )
        assert sorted(tree.top_down) == list(ids)
        for one in ids:
            path = tree.path(one)
            assert (path[0] in tree.roots, path[-1]) == (True, one)
            assert all(tree.parent(child) == one for child in tree.children(one))
            assert set(tree.descendants(one)) == {other for other in ids if one in tree.path(other)[:-1]}
            assert one in tree
        assert len(Tree.empty()) == 0

    @pytest.mark.parametrize(
        ("parents", "levels", "message"),
        [
            ({1: 2, 2: 1, 3: 0}, {1: 2, 2: 2, 3: 2}, "circle"),
            ({1: 1}, {1: 2}, "circle"),
            ({1: 5}, {1: 2}, "not in the tree"),
            ({1: 2, 2: 0}, {1: 2, 2: 4}, "finer level"),
        ],
    )
    def test_what_is_no_tree(self, parents: dict[int, int], levels: dict[int, int], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Tree.from_parents(parents, levels)

    def test_an_unknown_identity_is_named(self) -> None:
        with pytest.raises(KeyError, match="no identity 9"):
            Tree.from_parents({1: 0}, {1: 2}).children(9)
