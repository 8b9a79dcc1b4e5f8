from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tests.association.toy import toy_state
from trackweave.association.sample_features import sample_features
from trackweave.structures.detections import Detections

SIZE = (100, 200)


def f32(*rows: Any) -> NDArray[np.float32]:
    return np.array(rows, np.float32)


def track_features(state: Any, size: tuple[int, int] = SIZE) -> NDArray[np.float32]:
    return sample_features(state, size, 5).tracks


def det_features(state: Any, size: tuple[int, int] = SIZE) -> NDArray[np.float32]:
    return sample_features(state, size, 5).detections


def logged_embeddings(rows: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Embeddings of a frame's detections as a sample of some width holds them."""
    state = toy_state(tracks=1, detections=len(rows), det={"embedding": rows})
    return sample_features(state, SIZE, width).det_embeddings


def test_columns_of_tracks() -> None:
    state = toy_state(
        tracks=1,
        track_boxes=f32([20, 10, 60, 50]),
        track_velocity=f32([4, -1]),
        track_age=np.array([150]),
        track_gap=np.array([5]),
        track_score=f32(0.75),
        track_visibility=f32(0.5),
    )
    expected = f32([0.1, 0.1, 0.3, 0.5, 0.02, -0.01, 1.5, 0.1, 0.75, 0.5])
    np.testing.assert_allclose(track_features(state), expected, rtol=1e-6)


def test_columns_of_detections() -> None:
    det = {"xyxy": [[20, 10, 60, 50]], "score": [0.75], "visibility": [0.25], "embedding": None}
    state = toy_state(tracks=1, detections=1, det=det, det_displacement=f32([4, -1]))
    expected = f32([0.1, 0.1, 0.3, 0.5, 0.75, 0.25, 0.02, -0.01])
    np.testing.assert_allclose(det_features(state), expected, rtol=1e-6)


def test_unknown_visibility_is_logged_as_visible() -> None:
    assert det_features(toy_state())[:, 5].tolist() == [1, 1, 1, 1]


def test_the_size_is_height_and_width() -> None:
    state = toy_state()
    np.testing.assert_allclose(track_features(state, (200, 100))[:, 0], 2 * track_features(state)[:, 0])
    np.testing.assert_allclose(track_features(state, (200, 100))[:, 1], track_features(state)[:, 1] / 2)


def test_embeddings_are_padded() -> None:
    logged = logged_embeddings(f32([3, 4], [0, 0], [0, -2]), 4)
    np.testing.assert_allclose(logged, f32([0.6, 0.8, 0, 0], [0, 0, 0, 0], [0, -1, 0, 0]))


def test_cut_embeddings_are_normalised_again() -> None:
    logged = logged_embeddings(f32([3, 4, 12], [0, 0, 9]), 2)
    np.testing.assert_allclose(logged, f32([0.6, 0.8], [0, 0]))


def test_a_frame_without_embeddings_has_zeros() -> None:
    features = sample_features(toy_state(width=None), SIZE, 7)
    assert features.track_embeddings.shape == (3, 7)
    assert features.det_embeddings.shape == (4, 7)
    assert not features.track_embeddings.any()
    assert not features.det_embeddings.any()
    assert features.embedding_width is None


def test_embeddings_of_the_state_are_not_modified() -> None:
    state = toy_state(width=5)
    before = state.track_embeddings.copy()
    sample_features(state, SIZE, 5)
    np.testing.assert_array_equal(state.track_embeddings, before)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e37])
def test_normalisation_does_not_under_or_overflow(scale: float) -> None:
    np.testing.assert_allclose(logged_embeddings(f32([3, 4]) * np.float32(scale), 2), f32([0.6, 0.8]), rtol=1e-5)


def test_values_that_are_not_finite_become_zero_and_are_named() -> None:
    state = toy_state()
    state.track_embeddings[1, 2] = np.nan
    state.track_boxes[0, 0] = np.inf
    features = sample_features(state, SIZE, 5)
    assert features.sanitised == ("track_features", "track_embeddings")
    assert not features.track_embeddings[1].any()
    np.testing.assert_allclose(np.linalg.norm(features.track_embeddings[[0, 2]], axis=1), 1, rtol=1e-6)
    assert features.tracks[0, 0] == 0
    assert features.tracks[0, 1] > 0


ANY = st.floats(width=32)


@given(st.data(), st.integers(1, 12))
def test_features_are_always_finite(data: st.DataObject, width: int) -> None:
    def draw(*shape: int) -> NDArray[np.float32]:
        return data.draw(arrays.arrays(np.float32, shape, elements=ANY))

    state = toy_state(
        tracks=2,
        detections=3,
        track_boxes=draw(2, 4),
        track_velocity=draw(2, 2),
        track_score=draw(2),
        track_visibility=draw(2),
        track_embeddings=draw(2, 6),
        det_displacement=draw(3, 2),
    )
    detections = Detections(draw(3, 4), draw(3), np.zeros(3, np.int64), embedding=draw(3, 6), visibility=draw(3))
    features = sample_features(replace(state, detections=detections), SIZE, width)
    for matrix in (features.tracks, features.detections, features.track_embeddings, features.det_embeddings):
        assert np.isfinite(matrix).all()
        assert matrix.dtype == np.float32
    for rows in (features.track_embeddings, features.det_embeddings):
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
        assert np.all((lengths == 0) | (np.abs(lengths - 1) < 1e-4))
