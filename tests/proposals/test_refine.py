"""Filters, gaps, nesting and tiles."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from trackweave.boxes import box_iou
from trackweave.masks.packed import PackedMasks
from trackweave.proposals.generators import TiledProposals, tiles
from trackweave.proposals.refine import IN_PARENT, FilterStats, apply_limits, find_gaps, nest_candidates, refine
from trackweave.proposals.settings import CandidateSettings
from trackweave.structures.candidates import Candidates

SIZE = (40, 60)


def candidates(boxes: Iterable[tuple[int, int, int, int]], scores: Iterable[float] | None = None) -> Candidates:
    """Filled boxes xyxy as masks."""
    masks = np.zeros((len(list(boxes)), *SIZE), np.bool_)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    packed = PackedMasks.from_bool(masks)
    score = np.linspace(0.9, 0.5, len(masks)) if scores is None else np.array(list(scores))
    ids = np.arange(len(masks))
    return Candidates(ids, packed.boxes.astype(np.float32), score.astype(np.float32), packed.areas, packed)


BOXES = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 30), st.integers(1, 30), st.integers(1, 30)).map(
        lambda box: (box[0], box[1], min(box[0] + box[2], SIZE[1]), min(box[1] + box[3], SIZE[0]))
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(
    boxes=BOXES,
    scores=st.lists(st.integers(0, 10), min_size=8, max_size=8),
    min_area=st.sampled_from([None, 0.05, 40.0]),
    max_area=st.sampled_from([None, 0.4, 300.0]),
    stability=st.sampled_from([None, 0.5]),
    nms=st.sampled_from([None, 0.5]),
    count=st.sampled_from([None, 2]),
)
def test_limits_hold_and_every_drop_has_its_reason(
    boxes: list[tuple[int, int, int, int]],
    scores: list[int],
    min_area: float | None,
    max_area: float | None,
    stability: float | None,
    nms: float | None,
    count: int | None,
) -> None:
    found = candidates(boxes, [score / 10 for score in scores[: len(boxes)]])
    limits = CandidateSettings(
        min_area=min_area, max_area=max_area, min_stability=stability, nms_iou=nms, max_count=count
    )
    kept, dropped = apply_limits(found, limits)
    assert len(kept) + sum(dropped.values()) == len(found)
    assert set(dropped) <= {name for name, value in limits.model_dump(exclude_none=True).items() if value}
    pixels = SIZE[0] * SIZE[1]
    assert np.all(kept.area >= {None: 0, 0.05: 0.05 * pixels, 40.0: 40}[min_area])
    assert np.all(kept.area <= {None: pixels, 0.4: 0.4 * pixels, 300.0: 300}[max_area])
    assert np.all(kept.score >= np.float32(stability or 0))
    assert count is None or len(kept) <= count
    if nms is not None:
        last = kept.xyxy - np.array([0, 0, 1, 1])
        iou = box_iou(last, last)
        np.fill_diagonal(iou, 0)
        assert np.all(iou <= nms + 1e-6)


def test_of_too_many_the_best_stay_in_their_order() -> None:
    found = candidates([(0, 0, 9, 9), (10, 0, 19, 9), (20, 0, 29, 9)], [0.2, 0.9, 0.5])
    kept, dropped = apply_limits(found, CandidateSettings(max_count=2))
    assert (kept.id.tolist(), dict(dropped)) == ([1, 2], {"max_count": 1})


def test_what_lies_mostly_outside_the_region_is_dropped() -> None:
    found = candidates([(0, 0, 10, 10), (12, 0, 22, 10), (40, 20, 50, 30)])
    kept, _ = apply_limits(found, CandidateSettings(region="0,0 15,0 15,40 0,40"))
    assert kept.id.tolist() == [0]
    boxes_only = Candidates(found.id, found.xyxy, found.score, found.area, PackedMasks.empty(*SIZE, 3))
    kept, _ = apply_limits(boxes_only, CandidateSettings(region="0,0 18,0 18,40 0,40"))
    assert kept.id.tolist() == [0, 1]
    for region in ("0,0 10,0", "0,0 1,1 a,b", "1,2,3 4,5 6,7", "0,0 1,nan 2,2"):
        with pytest.raises(ValidationError, match="a region is a polygon of three corners or more"):
            CandidateSettings(region=region)


@settings(max_examples=40, deadline=None)
@given(boxes=BOXES, area=st.sampled_from([30.0, 0.1]))
def test_gaps_cover_what_nothing_covers(boxes: list[tuple[int, int, int, int]], area: float) -> None:
    found = candidates(boxes)
    gaps = find_gaps(found, CandidateSettings(gap_area=area))
    covered = found.masks.to_bool().any(0)
    filled = gaps.masks.to_bool()
    assert not (filled & covered).any()
    assert not (filled.sum(0) > 1).any()
    assert np.all(gaps.area >= (area if area > 1 else area * covered.size))
    assert not gaps.score.any()
    assert not len(find_gaps(candidates([(0, 0, 60, 40)]), CandidateSettings(gap_area=area)))


def test_slivers_are_no_gaps_and_the_region_bounds_them() -> None:
    found = candidates([(0, 0, 28, 40), (31, 0, 60, 40)])
    assert not len(find_gaps(found, CandidateSettings(gap_area=20)))
    half = candidates([(0, 0, 30, 40)])
    gaps = find_gaps(half, CandidateSettings(gap_area=20, region="30,0 60,0 60,20 30,20"))
    assert gaps.xyxy.tolist() == [[30, 0, 60, 20]]


@settings(max_examples=60, deadline=None)
@given(coarse=BOXES, fine=BOXES)
def test_children_lie_in_their_parents(
    coarse: list[tuple[int, int, int, int]], fine: list[tuple[int, int, int, int]]
) -> None:
    above, found = candidates(coarse), candidates(fine)
    nested, parents = nest_candidates(found, {2: above})
    assert len(parents) == len(found)
    left = [parent for parent in parents if parent != (-1, -1)]
    assert len(left) == len(nested)
    for mask, one, parent in zip(nested.masks.to_bool(), nested.id.tolist(), left, strict=True):
        whole = found.masks[one].to_bool()[0]
        shares = (above.masks.to_bool() & whole).sum((1, 2)) / whole.sum()
        if parent is None:
            assert shares.max() < IN_PARENT
            assert np.array_equal(mask, whole)
        else:
            holder = above.masks[parent[1]].to_bool()[0]
            assert shares[parent[1]] == shares.max() >= IN_PARENT
            assert np.array_equal(mask, whole & holder)


def test_three_levels_are_refined_together() -> None:
    levels = {
        2: candidates([(0, 0, 30, 30), (30, 0, 60, 30)]),
        4: candidates([(5, 5, 33, 25), (50, 32, 60, 40)]),
        6: candidates([(6, 6, 10, 10), (32, 2, 40, 10), (0, 0, 1, 1)]),
    }
    stats: dict[int, FilterStats] = {}
    refined = refine(levels, CandidateSettings(nest=True, min_area=4), stats)
    assert refined.parents == {
        (2, 0): None, (2, 1): None, (4, 0): (2, 0), (4, 1): None, (6, 0): (4, 0), (6, 1): (2, 1),
    }  # fmt: skip
    assert refined.levels[4].xyxy.tolist()[0] == [5, 5, 30, 25]
    assert stats[6].to_json() == {"frames": 1, "found": 3, "kept": 2, "gaps": 0, "dropped": {"min_area": 1}}
    assert [one.id.tolist() for one in refined.levels.values()] == [[0, 1], [0, 1], [0, 1]]


class Squares:
    """Finds bright squares that are at least a tenth of the picture's width."""

    files = ()

    def check_levels(self, levels: Iterable[int]) -> None:
        pass

    def propose_levels(self, image: NDArray[np.uint8], levels: Iterable[int]) -> dict[int, Candidates]:
        import cv2

        count, parts, sizes, _ = cv2.connectedComponentsWithStats((image[..., 0] > 100).astype(np.uint8))
        large = [k for k in range(1, count) if sizes[k, cv2.CC_STAT_WIDTH] >= image.shape[1] / 10]
        masks = PackedMasks.from_bool(np.stack([parts == k for k in large]) if large else np.zeros((0, *parts.shape)))
        score = np.full(len(large), 0.5, np.float32)
        found = Candidates(np.arange(len(large)), masks.boxes.astype(np.float32), score, masks.areas, masks)
        return dict.fromkeys(levels, found)


def test_tiles_find_what_is_small_and_do_not_find_anything_twice() -> None:
    image = np.zeros((200, 400, 3), np.uint8)
    for left, top, side in ((10, 10, 14), (190, 80, 14), (300, 20, 60)):
        image[top : top + side, left : left + side] = 255
    whole = Squares().propose_levels(image, [2])[2]
    assert whole.xyxy.tolist() == [[300, 20, 360, 80]]
    tiled = TiledProposals(Squares(), CandidateSettings(tile_size=120, tile_overlap=0.4)).propose_levels(image, [2])[2]
    assert sorted(tiled.xyxy.tolist()) == [[10, 10, 24, 24], [190, 80, 204, 94], [300, 20, 360, 80]]
    assert tiled.masks.areas.tolist() == tiled.area.tolist()
    assert tiled.id.tolist() == [0, 1, 2]


@given(st.integers(10, 500), st.integers(10, 500), st.integers(32, 200), st.floats(0, 0.9))
def test_tiles_cover_the_frame(height: int, width: int, tile: int, overlap: float) -> None:
    covered = np.zeros((height, width), np.bool_)
    windows = tiles((height, width), tile, overlap)
    for left, top, right, bottom in windows:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert max(right - left, bottom - top) <= tile
        covered[top:bottom, left:right] = True
    assert covered.all() if windows else max(height, width) <= tile
