from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.identity.toy_tracks import Box, frame_objects, video, videos
from trackweave.identity import overlaps
from trackweave.identity.overlaps import PairEvidence, gather
from trackweave.ids import Level


def area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def shared(a: Box, b: Box) -> int:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


@given(videos(), st.booleans())
@settings(max_examples=40)
def test_the_sums_are_those_of_every_frame(frames: list[dict[int, Box]], often: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlaps, "PENDING", 1 if often else 1 << 19)  # pairs are summed up on the way, or at the end
        evidence = gather(video({2: frames}))
    ids = sorted({one for frame in frames for one in frame})
    assert evidence.track_id.tolist() == ids
    assert evidence.frames.tolist() == [sum(one in frame for frame in frames) for one in ids]
    met = set()
    for row in range(len(evidence.a)):
        a, b = ids[evidence.a[row]], ids[evidence.b[row]]
        met.add((a, b))
        both = [(frame[a], frame[b]) for frame in frames if a in frame and b in frame]
        iou = [shared(x, y) / (area(x) + area(y) - shared(x, y)) for x, y in both]
        assert a < b
        assert evidence.seen[row] == len(both)
        assert evidence.apart[row] == sum(one < 0.1 for one in iou)
        shares = [shared(x, y) / max(area(x), area(y)) for x, y in both]
        likeness = [(x + y / (2 - y)) / 2 for x, y in zip(iou, shares, strict=True)]
        assert evidence.same[row] == pytest.approx(sum(min(max(2 * one - 0.5, 0), 1) for one in likeness))
        assert evidence.inside_a[row] == pytest.approx(sum(shared(x, y) / area(x) for x, y in both))
        assert evidence.inside_b[row] == pytest.approx(sum(shared(x, y) / area(y) for x, y in both))
    pairs = {(a, b) for frame in frames for a in frame for b in frame if a < b and shared(frame[a], frame[b])}
    assert met == pairs


@given(videos(), videos())
@settings(max_examples=20)
def test_levels_meet_too(coarse: list[dict[int, Box]], fine: list[dict[int, Box]]) -> None:
    shifted = [{one + 100: box for one, box in frame.items()} for frame in fine]
    evidence = gather(video({2: coarse, 4: shifted}))
    assert set(evidence.level[evidence.track_id > 100].tolist()) <= {4}
    between = evidence.level[evidence.a] != evidence.level[evidence.b]
    expected = {(a, b) for x, y in zip(coarse, shifted, strict=False) for a in x for b in y if shared(x[a], y[b])}
    ids = evidence.track_id
    assert set(zip(ids[evidence.a[between]].tolist(), ids[evidence.b[between]].tolist(), strict=True)) == expected


@given(videos())
@settings(max_examples=20)
def test_frames_of_groups_that_show_both(frames: list[dict[int, Box]]) -> None:
    evidence = gather(video({2: frames}))
    rows = list(range(len(evidence)))
    counts = evidence.seen_together([rows, rows[:1]], [rows, rows])
    there = [[one in frame for one in evidence.track_id.tolist()] for frame in frames]
    assert counts[0] == sum(sum(row) ** 2 for row in there)
    assert counts[1] == sum(sum(row) * row[0] for row in there if row)


def test_nothing_at_all() -> None:
    evidence = gather([])
    assert (len(evidence), len(evidence.a)) == (0, 0)
    assert isinstance(evidence, PairEvidence)
    assert evidence.seen_together([], []).tolist() == []


def test_what_cannot_be_compared_is_named() -> None:
    one = frame_objects(0, {1: (0, 0, 5, 5)})
    with pytest.raises(ValueError, match="frame 0: track 1 occurs twice"):
        gather([[(Level(2), one), (Level(4), one)]])
    with pytest.raises(ValueError, match="frame 0: track 1 occurs twice"):
        gather([[(Level(2), one), (Level(2), one)]])
    small = type(one.masks).from_bool(np.ones((1, 4, 4), np.bool_))
    other = type(one)(one.frame, one.name, np.array([2]), small, one.xyxy, small.areas, one.score)
    with pytest.raises(ValueError, match=r"masks of \(4, 4\) beside \(20, 30\)"):
        gather([[(Level(2), one), (Level(4), other)]])
