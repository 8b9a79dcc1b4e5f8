from __future__ import annotations

import math
from colorsys import rgb_to_hsv
from itertools import combinations, pairwise

from trackweave.structures.identity import IdentityLink, IdentityTable, Tree
from trackweave.visualization.annotators import TrackColours, contrasting, css, part_colour, track_colour


def test_colours_do_not_change_between_versions() -> None:
    assert [css(track_colour(i)) for i in (1, 2, 3, 100)] == ["#ff3876", "#128fe0", "#ecfa70", "#e6c74e"]


def test_neighbouring_ids_are_far_apart_and_bright() -> None:
    colours = [track_colour(i) for i in range(1, 25)]
    assert min(math.dist(a, b) for a, b in combinations(colours, 2)) > 35
    assert all(max(colour) > 200 for colour in colours)


def test_any_id_has_a_colour() -> None:
    assert all(0 <= channel <= 255 for i in (0, -3, 10**12) for channel in track_colour(i))


def test_ink_contrasts() -> None:
    assert contrasting((255, 255, 0)) == (0, 0, 0)
    assert contrasting((30, 20, 160)) == (255, 255, 255)


def hue(colour: tuple[int, int, int]) -> float:
    return rgb_to_hsv(*(channel / 255 for channel in colour))[0]


def test_parts_are_shades_of_their_whole() -> None:
    for root in (1, 7, 40):
        shades = [part_colour(root, part) for part in range(50, 74)]
        away = [abs(hue(shade) - hue(track_colour(root))) for shade in shades]
        assert max(min(each, 1 - each) for each in away) < 0.06
        assert min(math.dist(a, b) for a, b in combinations(shades, 2)) > 9
        assert min(math.dist(a, b) for a, b in pairwise(shades)) > 40


def test_a_family_has_one_hue_and_a_thing_one_colour() -> None:
    table = IdentityTable.from_links([1, 2, 3, 4, 5], [2, 2, 4, 4, 6], [IdentityLink(1, 2, "merge", 1.0, 3)])
    colours = TrackColours(table, Tree.from_parents({1: 0, 3: 1, 4: 0, 5: 3}, {1: 2, 3: 4, 4: 4, 5: 6}))
    assert colours(1) == colours(2) == track_colour(1)  # a duplicate is the thing
    assert (colours(3), colours(5)) == (part_colour(1, 3), part_colour(1, 5))
    assert (colours(4), colours(99)) == (track_colour(4), track_colour(99))
    assert TrackColours()(3) == track_colour(3)
