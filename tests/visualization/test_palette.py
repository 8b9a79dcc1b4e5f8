from __future__ import annotations

import math
from itertools import combinations

from trackweave.visualization.annotators import contrasting, css, track_colour


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
