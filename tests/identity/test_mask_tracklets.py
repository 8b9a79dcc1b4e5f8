"""Masks over a gap: what is kept of a track, what is linked, and what never is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.identity.toy_tracks import SIZE, Box, Says, frame_objects
from trackweave.detectors.descriptor import MaskDescriptor
from trackweave.identity.mask_tracklets import KEPT, PartLinks, TrackEnds, Views, stitch_masks
from trackweave.identity.merge import merge
from trackweave.identity.nest import nest
from trackweave.identity.overlaps import LevelObjects, gather
from trackweave.identity.settings import IdentitySettings
from trackweave.identity.stitch import END_BOXES, Link, VideoContext, stitched_ids
from trackweave.ids import Level
from trackweave.structures.identity import IdentityLink, IdentityTable

Boxes = Sequence[Mapping[int, Box]]


def painted(levels: Sequence[LevelObjects], colours: Mapping[int, tuple[int, int, int]]) -> NDArray[np.uint8]:
    image = np.full((*SIZE, 3), 90, np.uint8)
    for _, objects in levels:
        for track, mask in zip(objects.track_id.tolist(), objects.masks.to_bool(), strict=True):
            image[mask] = colours.get(track, (200, 60, 60))
    return image


def frames_of(levels: Mapping[int, Boxes]) -> list[list[LevelObjects]]:
    count = max(map(len, levels.values()))
    return [
        [(Level(level), frame_objects(n, boxes[n])) for level, boxes in sorted(levels.items())] for n in range(count)
    ]


def links_of(
    levels: Mapping[int, Boxes],
    colours: Mapping[int, tuple[int, int, int]] | None = None,
    *,
    margin: float = 2.0,
    cuts: Sequence[int] = (),
    min_probability: float = 0.5,
) -> tuple[dict[int, list[Link]], IdentityTable]:
    """The links of each level, as a run makes them."""
    frames = frames_of(levels)
    ends = TrackEnds()
    for position, objects in enumerate(frames):
        ends.add(position, objects)
    chosen = IdentitySettings(nest_seen=0.1)
    evidence = gather(frames)
    table = IdentityTable.from_links(evidence.track_id, evidence.level, merge(evidence, chosen))
    tree = nest(evidence, table, chosen).tree
    views = Views(evidence, table, tree, MaskDescriptor())
    for position, objects in enumerate(frames):
        if views.is_due(position):
            views.add(position, painted(objects, colours or {}), objects)
    scene, identity, found = VideoContext(10.0, SIZE, cuts=cuts), dict[int, int](), dict[int, list[Link]]()
    for level in sorted(levels):
        rows = ends.of(table, level)
        found[level] = stitch_masks(rows, views, PartLinks(tree, identity), scene, Says(margin), min_probability)
        identity |= dict(zip(rows.track_ids.tolist(), stitched_ids(rows.track_ids, found[level]).tolist(), strict=True))
    return found, table


def still(track: int, box: Box, frames: range, count: int) -> list[dict[int, Box]]:
    return [{track: box} if n in frames else {} for n in range(count)]


def together(*parts: Boxes) -> list[dict[int, Box]]:
    return [{track: box for part in parts for track, box in part[n].items()} for n in range(len(parts[0]))]


def pairs(links: Sequence[Link]) -> list[tuple[int, int]]:
    return [(link.before, link.after) for link in links]


HERE, THERE = (4, 4, 12, 12), (20, 4, 28, 12)


def test_a_thing_that_was_hidden_is_linked_and_a_stranger_is_not() -> None:
    parts = [still(4, HERE, range(6), 16), still(9, HERE, range(9, 16), 16)]
    found, _ = links_of({2: together(*parts)})
    assert pairs(found[2]) == [(4, 9)]
    found, _ = links_of({2: together(*parts)}, margin=-9.0)
    assert found[2] == []


def test_colours_decide_between_two() -> None:
    red, blue = (210, 40, 40), (40, 60, 220)
    boxes = together(
        *(still(track, box, range(6), 16) for track, box in ((1, HERE), (2, THERE))),
        *(still(track, box, range(9, 16), 16) for track, box in ((3, HERE), (4, THERE))),
    )
    crossed, _ = links_of({2: boxes}, {1: red, 2: blue, 3: blue, 4: red})
    assert sorted(pairs(crossed[2])) == [(1, 4), (2, 3)]
    stayed, _ = links_of({2: boxes}, {1: red, 2: blue, 3: red, 4: blue})
    assert sorted(pairs(stayed[2])) == [(1, 3), (2, 4)]


def test_over_a_cut_to_another_place_nothing_is_linked() -> None:
    boxes = together(still(1, HERE, range(6), 16), still(2, HERE, range(8, 16), 16))
    assert pairs(links_of({2: boxes})[0][2]) == [(1, 2)]
    assert links_of({2: boxes}, cuts=[7])[0][2] == []


def test_parts_follow_their_wholes() -> None:
    """Two parts that look alike: each goes on where it lies in its whole, which has moved meanwhile."""
    whole = together(still(1, (2, 2, 18, 12), range(6), 16), still(2, (8, 6, 24, 16), range(9, 16), 16))
    halves = together(
        still(11, (2, 2, 10, 12), range(6), 16),
        still(12, (10, 2, 18, 12), range(6), 16),
        still(13, (8, 6, 16, 16), range(9, 16), 16),
        still(14, (16, 6, 24, 16), range(9, 16), 16),
    )
    found, _ = links_of({2: whole, 4: halves}, margin=1.0)
    assert pairs(found[2]) == [(1, 2)]
    assert sorted(pairs(found[4])) == [(11, 13), (12, 14)]


def test_only_the_ends_of_a_track_are_kept() -> None:
    ends = TrackEnds()
    for frame in range(500):
        ends.add(frame, [(Level(2), frame_objects(frame, {3: HERE}))])
    table = IdentityTable.from_links([3], 2)
    rows = ends.of(table, 2)
    assert rows.frame.tolist() == [*range(END_BOXES), *range(500 - END_BOXES, 500)]
    assert (ends.first(3), ends.last(3)) == (0, 499)
    assert len(ends.of(table, 4)) == 0


def test_of_two_tracks_of_one_thing_the_surer_counts() -> None:
    ends = TrackEnds()
    ends.add(0, [(Level(2), frame_objects(0, {1: HERE, 2: THERE}, {1: 0.4, 2: 0.8}))])
    table = IdentityTable.from_links([1, 2], 2, [IdentityLink(1, 2, "merge", 0.9, 1)])
    rows = ends.of(table, 2)
    assert rows.track_id.tolist() == [1]
    assert rows.xyxy[0].tolist() == list(map(float, THERE))


def test_each_end_keeps_its_best_pairs() -> None:
    """Memory follows the tracks: of many that begin, few are asked about."""
    count = 3 * KEPT
    ends = [still(1, HERE, range(3), 40 + count)]
    ends += [still(10 + k, (4 + k % 3, 4, 12, 12), range(5 + k, 6 + k), 40 + count) for k in range(count)]
    found, _ = links_of({2: together(*ends)}, min_probability=0.05)
    assert len({link.before for link in found[2]}) == len(found[2])


@st.composite
def scenes(draw: st.DrawFn) -> dict[int, Boxes]:
    """One or two levels of a few rectangles that come and go."""
    levels: dict[int, Boxes] = {}
    for level in (2, 4)[: draw(st.integers(1, 2))]:
        parts = [still(0, HERE, range(0), 14)]
        for k in range(draw(st.integers(1, 6))):
            start, length = draw(st.integers(0, 12)), draw(st.integers(1, 8))
            x, y = draw(st.integers(0, 20)), draw(st.integers(0, 12))
            box = (x, y, x + draw(st.integers(2, 9)), y + draw(st.integers(2, 7)))
            parts.append(still(10 * level + k, box, range(start, start + length), 14))
        levels[level] = together(*parts)
    return levels


def is_seen(levels: Mapping[int, Boxes]) -> bool:
    return any(boxes for frames in levels.values() for boxes in frames)


@settings(max_examples=30, deadline=None)
@given(scenes().filter(is_seen), st.floats(0.05, 0.9))
def test_never_two_at_once(levels: dict[int, Boxes], min_probability: float) -> None:
    found, table = links_of(levels, min_probability=min_probability)
    for level, boxes in levels.items():
        identity = {
            int(thing): int(root)
            for thing, root in zip(table.identities, stitched_ids(table.identities, found[level]).tolist(), strict=True)
        }
        for frame in boxes:
            things = set(table.of(sorted(frame)).tolist())
            assert len({identity[thing] for thing in things}) == len(things)
        assert all(link.probability >= min_probability - 1e-9 for link in found[level])


@settings(max_examples=15, deadline=None)
@given(scenes().filter(is_seen))
def test_numbers_do_not_matter(levels: dict[int, Boxes]) -> None:
    """Neither do numbers decide, nor the order that they give to the objects of a frame."""
    rng = np.random.default_rng(len(levels[2]))
    old = sorted({track for frames in levels.values() for boxes in frames for track in boxes})
    new = dict(zip(old, (rng.permutation(len(old)) + 1).tolist(), strict=True))
    renamed = {
        level: [{new[track]: box for track, box in boxes.items()} for boxes in frames]
        for level, frames in levels.items()
    }
    colours = {track: (40 * (track % 5), 200, 30 * (track % 7)) for track in old}
    first, table = links_of(levels, colours)
    second, other = links_of(renamed, {new[track]: colour for track, colour in colours.items()})

    def joined(found: dict[int, list[Link]], names: IdentityTable, back: Mapping[int, int]) -> set[frozenset[int]]:
        """Tracks, by their first names, that a link joins."""
        return {
            frozenset(back[int(track)] for thing in (link.before, link.after) for track in names.members(thing))
            for links in found.values()
            for link in links
        }

    assert joined(first, table, {track: track for track in old}) == joined(
        second, other, {name: track for track, name in new.items()}
    )
