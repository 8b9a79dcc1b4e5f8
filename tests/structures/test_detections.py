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


# --- the types of others --------------------------------------------------------------------------------------------


def ultralytics_like(**changed: Any) -> SimpleNamespace:
    boxes: dict[str, Any] = {
        "xyxy": np.array([[0.0, 0, 2, 2], [1, 1, 3, 3]]), "conf": np.array([0.5, 0.25]), "cls": np.array([3.0, 4.0])
    }  # fmt: skip
    return SimpleNamespace(boxes=SimpleNamespace(**{**boxes, **changed}), masks=None, orig_shape=(4, 4))


class Tensor:
    """An array on a device: numpy can read it only after `detach` and `cpu`."""

    def __init__(self, values: Any, where: str = "device") -> None:
        self._values, self._where = np.asarray(values), where

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return Tensor(self._values, "host")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if self._where == "device":
            raise TypeError("can't convert device type tensor to numpy")
        return np.asarray(self._values, dtype)


@pytest.mark.parametrize("wrapped", [list, np.asarray, Tensor, pytest.param("torch", id="torch")])
def test_rows_of_boxes(wrapped: Any) -> None:
    wrap = pytest.importorskip("torch").tensor if wrapped == "torch" else wrapped
    five = Detections.from_any(wrap([[0.0, 0, 2, 2, 0.5], [1, 1, 3, 3, 0.25]]))
    assert five.xyxy.tolist() == [[0, 0, 2, 2], [1, 1, 3, 3]]
    assert (five.score.tolist(), five.class_id.tolist()) == ([0.5, 0.25], [-1, -1])
    assert [column.dtype for column in (five.xyxy, five.score, five.class_id)] == [np.float32, np.float32, np.int64]
    six = Detections.from_any(wrap([[0.0, 0, 2, 2, 0.5, 7]]))
    assert six.class_id.tolist() == [7]


@pytest.mark.parametrize("nothing", [[], np.zeros((0, 5)), np.zeros((0, 6))])
def test_no_rows(nothing: Any) -> None:
    assert len(Detections.from_any(nothing)) == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((3, 4)), r"\(N, 5\) x1 y1 x2 y2 score, .* not of shape \(3, 4\)"),
        (np.zeros((3, 7)), r"not of shape \(3, 7\)"),
        (np.zeros(5), r"not of shape \(5,\)"),
        (np.zeros((2, 2, 5)), r"not of shape \(2, 2, 5\)"),
        (3, r"not of shape \(\)"),
        (None, "from NoneType"),
        ({"boxes": []}, "from dict"),
        ([[1, 2], [3]], "from list"),
        ([[0, 0, 1, 1, 0.9, 1.5]], "detection 0: its class 1.5 is not a whole number"),
        ([[0, 0, 1, 1, 0.9, 1], [0, 0, 1, 1, 0.9, np.nan]], "detection 1: its class nan"),
    ],
)
def test_what_is_no_detection_is_refused(rows: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Detections.from_any(rows)


def test_classes_and_track_ids_with_a_fraction_are_refused() -> None:
    box = [[0, 0, 2, 2], [1, 1, 3, 3]]
    assert Detections.of(box, class_id=[1.0, -1.0]).class_id.tolist() == [1, -1]
    for wrong in (1.5, np.nan, np.inf, 1e300):
        with pytest.raises(InputError, match=r"detection 1: its class .* is not a whole number"):
            Detections.of(box, [0.9, 0.9], [1, wrong])
    with pytest.raises(InputError, match=r"detection 0: its class 3\.5 is not a whole number"):
        Detections.from_any(ultralytics_like(cls=np.array([3.5, 4])))
    with pytest.raises(InputError, match=r"detection 1: its track id 6\.5 is not a whole number"):
        Detections.from_any(ultralytics_like(id=np.array([5.0, 6.5])))


def test_a_result_of_ultralytics() -> None:
    found = Detections.from_any(ultralytics_like(id=None))
    assert found.xyxy.tolist() == [[0, 0, 2, 2], [1, 1, 3, 3]]
    assert (found.score.tolist(), found.class_id.tolist(), found.track_id) == ([0.5, 0.25], [3, 4], None)
    assert Detections.from_any(ultralytics_like().boxes).class_id.tolist() == [3, 4]
    tracked = Detections.from_any(ultralytics_like(id=np.array([5.0, 6.0])))
    assert tracked.track_id is not None
    assert tracked.track_id.tolist() == [5, 6]
    for wrong in (SimpleNamespace(boxes=None), ultralytics_like(conf=np.zeros(3)), SimpleNamespace(boxes=3)):
        with pytest.raises(InputError, match="result"):
            Detections.from_any(wrong)


def test_masks_of_an_ultralytics_result_are_those_of_the_frame() -> None:
    """A frame of 1080 × 1920 is a third as large in the model's input, with 12 pixels of border above and below."""
    inside = np.zeros((1, 384, 640), np.float32)
    inside[0, 12 + 36 : 12 + 72, :64] = 1
    result = ultralytics_like(xyxy=[[0, 108, 192, 216]], conf=[0.9], cls=[0])
    result.masks, result.orig_shape = SimpleNamespace(data=inside), (1080, 1920)
    found = Detections.from_any(result)
    assert found.masks is not None
    assert (found.masks.size, found.masks.boxes.tolist()) == ((1080, 1920), [[0, 108, 192, 216]])
    assert Detections.from_any(result, with_masks=False).masks is None
    result.masks = SimpleNamespace(data=np.ones((1, 1080, 1920), np.bool_))
    found = Detections.from_any(result)
    assert found.masks is not None
    assert found.masks.areas.tolist() == [1080 * 1920]


def test_detections_are_printed_in_one_line() -> None:
    assert repr(Detections.empty()) == "Detections(0)"
    assert repr(Detections.of([[0, 0, 1, 1]], [0.5])) == "Detections(1: score 0.50)"
    shown = repr(full(12))
    assert shown.startswith("Detections(12: score 0.")
    assert shown.endswith(", masks, embedding, visibility, track_id, name, pose)")
    many = Detections.of(np.tile([[0, 0, 1, 1]], (20, 1)), class_id=range(20))
    assert repr(many) == "Detections(20: score 1.00, classes 0 1 2 3 4 5 6 7 …)"
    html = many._repr_html_()
    assert html.count("<tr>") == 21
    assert Detections.empty()._repr_html_().count("<tr>") == 1


def test_a_single_row_is_a_record() -> None:
    assert_rows(full()[2], full(), [2])


def test_only_tracked_detections_go_back_to_another_type() -> None:
    with pytest.raises(ValueError, match="not tracked"):
        Detections.of([[0, 0, 1, 1]]).as_type_of(np.zeros((1, 5)))
