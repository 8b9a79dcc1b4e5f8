from __future__ import annotations

import numpy as np

from trackweave.proposals.hierarchy import RegionGraph, merge_regions


def chain(colours: list[float], areas: list[float] | None = None) -> RegionGraph:
    """Regions in a row, each touching the next over ten pixels without an edge."""
    count = len(colours)
    area = np.array(areas or [100.0] * count)
    colour = np.zeros((count, 3))
    colour[:, 0] = colours * area
    border = 10.0 * (np.eye(count, k=1) + np.eye(count, k=-1))
    return RegionGraph(area, colour, np.zeros((count, 1)), border, np.zeros((count, count)))


def test_similar_neighbours_merge_first() -> None:
    tree = merge_regions(chain([0, 2, 50, 51]))
    halves = tree.cut(float(tree.heights[1]))
    assert halves.tolist() == [0, 0, 1, 1]
    assert tree.cut(0.0).tolist() == [0, 1, 2, 3]
    assert tree.cut(np.inf).tolist() == [0, 0, 0, 0]


def test_specks_vanish_before_larger_regions_of_the_same_contrast() -> None:
    tree = merge_regions(chain([0, 20, 0, 20], [1000, 5, 1000, 1000]))
    assert 1 in (tree.survivor[0], tree.absorbed[0])
    assert tree.heights[-1] > 5 * tree.heights[0]


def test_an_edge_keeps_equal_colours_apart() -> None:
    graph = chain([10, 10, 10])
    graph.edge[0, 1] = graph.edge[1, 0] = 300.0
    assert merge_regions(graph).cut(0.0).tolist() == [0, 1, 1]


def test_heights_never_fall_and_cuts_nest() -> None:
    rng = np.random.default_rng(0)
    tree = merge_regions(chain(rng.uniform(0, 100, 60).tolist(), rng.uniform(10, 900, 60).tolist()))
    assert (np.diff(tree.heights) >= 0).all()
    fine, coarse = tree.cut(float(tree.heights[20])), tree.cut(float(tree.heights[50]))
    assert all(len(set(coarse[fine == part].tolist())) == 1 for part in range(fine.max() + 1))


def test_regions_that_do_not_touch_stay_apart() -> None:
    graph = chain([1, 1])
    graph.border[:] = 0
    tree = merge_regions(graph)
    assert len(tree.heights) == 0
    assert tree.cut(np.inf).tolist() == [0, 1]


def test_a_single_region() -> None:
    assert merge_regions(chain([5])).cut(1.0).tolist() == [0]


def test_the_graph_is_not_changed() -> None:
    graph = chain([0, 2, 50, 51])
    merge_regions(graph)
    assert graph.area.tolist() == [100.0] * 4
    assert graph.border[0, 1] == 10.0
