"""Tracks over a gap: what is linked, and what never is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.identity.toy_tracks import Says
from trackweave.identity.stitch import (
    Link,
    TrackAppearance,
    VideoContext,
    best_links,
    camera_path,
    crowd_motion,
    stitch,
    stitched_ids,
)
from trackweave.structures.tracks import Tracks

SCENE = VideoContext(30.0, (480, 640))


def walk(track: int, frames: range, x: float, y: float = 200.0, speed: float = 2.0, height: float = 80.0) -> Tracks:
    """A box that moves to the right; `x` is where it is, or would be, on frame 0."""
    left = x + speed * np.arange(frames.start, frames.stop)
    boxes = np.stack([left, np.full_like(left, y), left + height / 2, np.full_like(left, y + height)], axis=1)
    return Tracks.from_columns(list(frames), [track] * len(frames), boxes)


def pairs_of(links: list[Link]) -> list[tuple[int, int]]:
    return [(link.before, link.after) for link in links]


def test_a_walk_that_was_hidden_is_linked() -> None:
    tracks = Tracks.concat([walk(4, range(30), 100), walk(9, range(45, 90), 100)])
    (link,) = stitch(tracks, SCENE)
    assert link[:2] == (4, 9)
    assert 0.6 <= link.probability < 1


def test_the_far_side_of_the_frame_is_another_object() -> None:
    tracks = Tracks.concat([walk(1, range(30), 100), walk(2, range(45, 90), 500, y=20)])
    assert stitch(tracks, SCENE) == []


def test_another_size_is_less_likely_the_same() -> None:
    same, other = (
        stitch(
            Tracks.concat([walk(1, range(30), 100), walk(2, range(36, 90), 100, height=height)]),
            SCENE,
            min_probability=0.01,
        )[0].probability
        for height in (80.0, 130.0)
    )
    assert other < same


def test_of_two_that_fit_one_beginning_one_is_taken() -> None:
    tracks = Tracks.concat([walk(1, range(30), 100), walk(2, range(28), 106, y=206), walk(3, range(36, 80), 100)])
    links = stitch(tracks, SCENE, min_probability=0.05)
    assert pairs_of(links) == [(1, 3)]


def test_other_classes_are_not_linked() -> None:
    one, other = walk(1, range(30), 100), walk(2, range(36, 80), 100)
    other = Tracks.from_columns(other.frame, other.track_id, other.xyxy, other.score, [5] * len(other))
    assert stitch(Tracks.concat([one, other]), SCENE) == []


def test_over_a_cut_boxes_say_nothing() -> None:
    tracks = Tracks.concat([walk(1, range(30), 100), walk(2, range(36, 80), 100)])
    assert pairs_of(stitch(tracks, SCENE)) == [(1, 2)]
    assert stitch(tracks, VideoContext(30.0, (480, 640), cuts=[33])) == []


def test_the_cameras_motion_is_taken_out() -> None:
    """A thing that stands still while the camera pans 300 pixels during the gap."""
    tracks = Tracks.concat([walk(1, range(30), 400, speed=0), walk(2, range(60, 90), 100, speed=0)])
    shift = [np.array([[1.0, 0, -10], [0, 1, 0]]) if 30 <= frame < 60 else None for frame in range(90)]
    assert stitch(tracks, SCENE) == []
    assert pairs_of(stitch(tracks, VideoContext(30.0, (480, 640), camera_path(shift)))) == [(1, 2)]


def test_the_crowd_tells_where_the_camera_looks() -> None:
    tracks = Tracks.concat([walk(track, range(60), 50.0 * track, y=10.0 * track, speed=3) for track in range(1, 6)])
    assert crowd_motion(tracks, SCENE)[-1] == pytest.approx([177, 0])
    alone = walk(1, range(60), 50, speed=3)
    assert not crowd_motion(alone, SCENE).any()


def test_a_learned_scorer_is_believed() -> None:
    tracks = Tracks.concat([walk(1, range(30), 100), walk(2, range(60, 90), 100)])
    assert stitch(tracks, SCENE, Says(-6.0)) == []
    at_border = Tracks.concat([walk(1, range(30), 20, speed=-2), walk(2, range(35, 65), -120, speed=3)])
    assert stitch(at_border, SCENE, Says(-3.0)) == []  # who walked out is not who walks in
    assert pairs_of(stitch(tracks, SCENE, Says(6.0))) == [(1, 2)]


def unit_vectors(seed: int) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).normal(size=(1, 32)).repeat(2, axis=0).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector, axis=1, keepdims=True), np.float32)


def test_appearance_finds_what_was_away_for_long_and_after_a_cut() -> None:
    parts = [
        walk(1, range(30), 100),
        walk(2, range(30), 400),
        walk(3, range(600, 640), 0),
        walk(4, range(600, 640), 300),
    ]
    seen = {1: unit_vectors(1), 2: unit_vectors(2), 3: unit_vectors(2), 4: unit_vectors(1)}
    assert stitch(Tracks.concat(parts), SCENE) == []
    scene = VideoContext(30.0, (480, 640), cuts=[300], appearance=seen)
    assert pairs_of(stitch(Tracks.concat(parts), scene)) == [(2, 3), (1, 4)]


def test_appearance_speaks_against_a_near_stranger() -> None:
    tracks = Tracks.concat([walk(1, range(30), 100), walk(2, range(45, 90), 100)])
    assert stitch(tracks, VideoContext(30.0, (480, 640), appearance={1: unit_vectors(1), 2: unit_vectors(2)})) == []


def test_what_all_share_is_no_appearance() -> None:
    """A descriptor that gives everything the same vector must not link everything."""
    parts = [walk(track, range(30), 100.0 * track) for track in range(1, 5)]
    parts += [walk(track + 10, range(600, 630), 100.0 * track) for track in range(1, 5)]
    seen = {int(track): unit_vectors(0) for track in Tracks.concat(parts).track_ids}
    assert stitch(Tracks.concat(parts), VideoContext(30.0, (480, 640), appearance=seen)) == []


def test_halves_of_an_appearance_that_changes() -> None:
    appearance = TrackAppearance()
    for k in range(1000):
        appearance.add(np.array([1.0, 0.0] if k < 500 else [0.0, 1.0], np.float32))
    first, second = appearance.halves()
    assert first[0] > 0.99
    assert second[1] > 0.99
    once = TrackAppearance()
    once.add(np.array([0.6, 0.8], np.float32))
    assert once.halves() == pytest.approx(np.array([[0.6, 0.8]] * 2))


def test_nothing_of_nothing() -> None:
    assert stitch(Tracks.empty()) == []
    assert stitch(walk(3, range(4), 100)) == []
    assert stitched_ids(np.zeros(0, np.int64), []).tolist() == []


@st.composite
def fragments(draw: st.DrawFn) -> Tracks:
    """Up to a dozen tracks anywhere, some of one frame."""
    parts = []
    for track in range(draw(st.integers(1, 12))):
        start, length = draw(st.integers(0, 60)), draw(st.integers(1, 25))
        x, y = draw(st.floats(0, 560)), draw(st.sampled_from([100.0, 120.0, 300.0]))
        parts.append(walk(track + 1, range(start, start + length), x, y, draw(st.sampled_from([-3.0, 0.0, 2.0]))))
    return Tracks.concat(parts)


@settings(max_examples=40)
@given(fragments(), st.floats(0.02, 0.9))
def test_never_two_at_once(tracks: Tracks, min_probability: float) -> None:
    links = stitch(tracks, SCENE, min_probability=min_probability)
    identity = stitched_ids(tracks.track_id, links)
    assert len(np.unique(np.stack([tracks.frame, identity]), axis=1).T) == len(tracks)
    assert len({link.before for link in links}) == len({link.after for link in links}) == len(links)
    assert all(link.probability >= min_probability - 1e-9 for link in links)
    assert all(tracks.of(link.before).frame.max() < tracks.of(link.after).frame.min() for link in links)


@settings(max_examples=40)
@given(fragments(), st.randoms(use_true_random=False))
def test_order_and_numbers_do_not_matter(tracks: Tracks, random: object) -> None:
    rows = np.arange(len(tracks))
    random.shuffle(rows)  # type: ignore[attr-defined]
    assert stitch(tracks[rows], SCENE) == stitch(tracks, SCENE)
    moved = Tracks.from_columns(tracks.frame, tracks.track_id + 100, tracks.xyxy)
    assert [(a - 100, b - 100) for a, b in pairs_of(stitch(moved, SCENE))] == pairs_of(stitch(tracks, SCENE))


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(5, 9), st.floats(-2, 3)), max_size=12, unique_by=lambda pair: pair[:2]
    )
)
def test_best_links_are_the_best(edges: list[tuple[int, int, float]]) -> None:
    """Against every choice of links."""
    pairs = np.array([edge[:2] for edge in edges], np.int64).reshape(-1, 2)
    gains = np.array([edge[2] for edge in edges])
    chosen = best_links(pairs, gains)
    assert len(set(pairs[chosen, 0])) == len(set(pairs[chosen, 1])) == len(chosen)

    def best(rest: list[tuple[int, int, float]], used: frozenset[int]) -> float:
        if not rest:
            return 0.0
        (a, b, gain), *others = rest
        without = best(others, used)
        return without if used & {a, b} else max(without, gain + best(others, used | {a, b}))

    assert gains[chosen].sum() == pytest.approx(best(edges, frozenset()))
