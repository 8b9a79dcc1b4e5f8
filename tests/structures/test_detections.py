from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.errors import InputError
from trackweave.masks.packed import PackedMasks
from trackweave.structures.detections import Detections

OPTIONAL = ("embedding", "visibility", "track_id", "index")


def full(n: int = 5, seed: int = 0) -> Detections:
    """Every column there is, with numbers that differ."""
    rng = np.random.default_rng(seed)
    corner = rng.random((n, 2))
    return Detections(
        np.concatenate([corner, corner + 1 + rng.random((n, 2))], axis=1).astype(np.float32),
        rng.random(n, np.float32),
        rng.integers(0, 9, n),
        PackedMasks.from_bool(rng.random((n, 3, 5)) < 0.5),
        rng.random((n, 4), np.float32),
        rng.random(n, np.float32),
        rng.integers(1, 99, n),
        rng.integers(0, 99, n),
        {"name": np.array([f"n{k}" for k in range(n)]), "pose": rng.random((n, 2))},
    )


def assert_rows(found: Detections, source: Detections, rows: Any) -> None:
    for name in ("xyxy", "score", "class_id", *OPTIONAL):
        np.testing.assert_array_equal(getattr(found, name), getattr(source, name)[rows])
    assert found.masks is not None
    assert source.masks is not None
    np.testing.assert_array_equal(found.masks.to_bool(), source.masks.to_bool()[rows])
    assert set(found.data) == set(source.data)
    for name in found.data:
        np.testing.assert_array_equal(found.data[name], source.data[name][rows])


@pytest.mark.parametrize(
    "index", [slice(1, 4), [4, 0, 0], np.array([True, False, True, False, True]), np.array([], np.int64), slice(0, 0)]
)
def test_indexing_takes_rows_of_every_column(index: Any) -> None:
    found = full()[index]
    assert isinstance(found, Detections)
    assert_rows(found, full(), index)


def test_columns_that_are_not_there_stay_away() -> None:
    found = Detections.of([[0, 0, 1, 1], [2, 2, 3, 3]])[[1]]
    assert found.xyxy.tolist() == [[2, 2, 3, 3]]
    assert found.masks is None
    assert all(getattr(found, name) is None for name in OPTIONAL)
    assert found.data == {}


def test_of_casts_and_fills() -> None:
    found = Detections.of(
        [(0, 0, 4, 8), (1, 1, 2, 2)], embedding=[[1, 2], [3, 4]], visibility=[1, 0], data={"a": [5, 6]}
    )
    assert found.score.tolist() == [1, 1]
    assert found.class_id.tolist() == [-1, -1]
    assert found.embedding is not None
    assert found.visibility is not None
    dtypes = [column.dtype for column in (found.xyxy, found.score, found.class_id, found.embedding, found.visibility)]
    assert dtypes == [np.float32, np.float32, np.int64, np.float32, np.float32]
    assert found.data["a"].tolist() == [5, 6]


@pytest.mark.parametrize("nothing", [[], np.zeros((0, 4)), np.zeros(0)])
def test_none_is_normal(nothing: Any) -> None:
    found = Detections.of(nothing, [], [], embedding=[], visibility=[])
    assert len(found) == 0
    assert found.xyxy.shape == (0, 4)
    assert len(found[:0]) == len(Detections.empty()) == 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"xyxy": [1, 2, 3, 4]}, r"boxes are \(N, 4\), not \(4,\)"),
        ({"xyxy": [[1, 2, 3]]}, r"boxes are \(N, 4\), not \(1, 3\)"),
        ({"score": [1, 1, 1]}, "2 boxes, but 3 of score"),
        ({"score": []}, "2 boxes, but 0 of score"),
        ({"class_id": [1]}, "2 boxes, but 1 of class_id"),
        ({"embedding": [[1, 2]]}, "2 boxes, but 1 of embedding"),
        ({"visibility": [1]}, "2 boxes, but 1 of visibility"),
        ({"data": {"name": ["a"]}}, "2 boxes, but 1 of name"),
        ({"masks": PackedMasks.empty(3, 3, 1)}, "2 boxes, but 1 of masks"),
        ({"score": 0.5}, r"score of 2 boxes has 1 dimension\(s\), not the shape \(\)"),
        ({"score": [[1], [1]]}, r"score of 2 boxes has 1 dimension\(s\), not the shape \(2, 1\)"),
        ({"class_id": [[1], [1]]}, r"class_id of 2 boxes"),
        ({"visibility": [[1], [1]]}, r"visibility of 2 boxes"),
        ({"embedding": [1, 2]}, r"embedding of 2 boxes has 2 dimension\(s\), not the shape \(2,\)"),
        ({"embedding": np.zeros((2, 1, 4))}, r"embedding of 2 boxes"),
    ],
)
def test_columns_that_do_not_fit_are_named(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detections.of(**{"xyxy": [[0, 0, 1, 1], [2, 2, 3, 3]], **columns})


@given(st.lists(st.integers(0, 4), max_size=4))
def test_concat_and_slices_are_inverse(lengths: list[int]) -> None:
    parts = [full(n, seed) for seed, n in enumerate(lengths)]
    whole = Detections.concat(parts)
    assert len(whole) == sum(lengths)
    start = 0
    for part in parts:
        if len(part):
            assert_rows(whole[start : start + len(part)], part, slice(None))
        start += len(part)


def test_concat_keeps_what_all_parts_have() -> None:
    plain = Detections.of([[0, 0, 1, 1]], data={"pose": [[1.0, 2]], "other": [1]})
    found = Detections.concat([full(2), plain, Detections.empty()])
    assert len(found) == 3
    assert found.masks is None
    assert all(getattr(found, name) is None for name in OPTIONAL)
    assert set(found.data) == {"pose"}
    assert len(Detections.concat([])) == 0
    assert len(Detections.concat([Detections.empty()])) == 0


def test_embeddings_of_different_widths_do_not_join() -> None:
    parts = [Detections.of([[0, 0, 1, 1]], embedding=np.zeros((1, width))) for width in (2, 3)]
    with pytest.raises(ValueError, match="dimension"):
        Detections.concat(parts)


def supervision_like(**changed: Any) -> SimpleNamespace:
    columns: dict[str, Any] = {
        "xyxy": np.array([[0, 0, 2, 2], [1, 1, 3, 3.0]]),
        "mask": None,
        "confidence": None,
        "class_id": None,
        "tracker_id": None,
        "data": {},
    }
    return SimpleNamespace(**{**columns, **changed})


def test_from_supervision() -> None:
    masks = np.zeros((2, 4, 4), np.bool_)
    masks[1, 1:3, 1:3] = True
    given_detections = supervision_like(
        mask=masks, confidence=np.array([0.5, 0.25]), class_id=np.array([3, 4]), tracker_id=np.array([7, 8]),
        data={"class_name": np.array(["cat", "dog"])},
    )  # fmt: skip
    found = Detections.from_supervision(given_detections)
    assert found.xyxy.tolist() == given_detections.xyxy.tolist()
    assert found.score.tolist() == [0.5, 0.25]
    assert found.class_id.tolist() == [3, 4]
    assert found.track_id is not None
    assert found.track_id.tolist() == [7, 8]
    assert found.masks is not None
    np.testing.assert_array_equal(found.masks.to_bool(), masks)
    assert found.data["class_name"].tolist() == ["cat", "dog"]
    bare = Detections.from_supervision(supervision_like())
    assert (bare.score.tolist(), bare.class_id.tolist(), bare.track_id, bare.masks) == ([1, 1], [-1, -1], None, None)


def test_supervision_detections_that_do_not_fit_are_input_errors() -> None:
    for wrong in ({"xyxy": np.zeros((2, 5))}, {"confidence": np.zeros(3)}, {"tracker_id": np.zeros(1, np.int64)}):
        with pytest.raises(InputError, match="these supervision detections cannot be used"):
            Detections.from_supervision(supervision_like(**wrong))


def test_to_supervision_and_back() -> None:
    pytest.importorskip("supervision")
    given_detections = full(3)
    back = Detections.from_supervision(given_detections.to_supervision())
    for name in ("xyxy", "score", "class_id", "track_id"):
        np.testing.assert_array_equal(getattr(back, name), getattr(given_detections, name))
    for name in ("embedding", "visibility", "index"):
        np.testing.assert_array_equal(back.data[name], getattr(given_detections, name))
