"""`Columns`: what holds for every columnar record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.masks.packed import PackedMasks
from trackweave.structures.columns import Columns


@dataclass(frozen=True, eq=False)
class Fruit(Columns):
    SHARED = ("basket",)

    weight: NDArray[np.float32]
    basket: str
    masks: PackedMasks | None = None
    notes: Sequence[str] | None = None
    data: Mapping[str, NDArray[Any]] | None = None

    @classmethod
    def empty(cls) -> Fruit:
        return cls(np.zeros(0, np.float32), "none")


def fruit(n: int, basket: str = "left", **more: Any) -> Fruit:
    rng = np.random.default_rng(n)
    return Fruit(
        np.arange(n, dtype=np.float32),
        basket,
        PackedMasks.from_bool(rng.random((n, 3, 5)) < 0.5),
        [f"note {k}" for k in range(n)],
        {"price": np.arange(n) * 2, **more},
    )


@pytest.mark.parametrize(
    "index", [slice(1, 3), slice(None, None, 2), [2, 0], np.array([True, False, True, False]), [], np.array([3])]
)
def test_an_index_chooses_the_same_rows_of_every_column(index: Any) -> None:
    whole = fruit(4)
    part = whole[index]
    assert type(part) is Fruit
    rows = np.arange(4)[index] if not isinstance(index, list) else np.array(index, np.int64)
    assert part.weight.tolist() == whole.weight[rows].tolist()
    assert part.masks is not None
    assert whole.masks is not None
    assert np.array_equal(part.masks.to_bool(), whole.masks.to_bool()[rows])
    assert part.notes == [f"note {k}" for k in rows]
    assert part.data is not None
    assert part.data["price"].tolist() == (rows * 2).tolist()
    assert part.basket == "left"


def test_one_position_gives_one_row_of_the_same_type() -> None:
    last = fruit(4)[-1]
    assert len(last) == 1
    assert last.weight.tolist() == [3]
    with pytest.raises(IndexError, match="row 4 of 4"):
        fruit(4)[4]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_concatenation_and_slicing_are_inverse(lengths: list[int]) -> None:
    parts = [fruit(n) for n in lengths]
    joined = Fruit.concat(parts)
    assert len(joined) == sum(lengths)
    start = 0
    for part in parts:
        again = joined[start : start + len(part)]
        assert again.weight.tolist() == part.weight.tolist()
        if len(part):
            assert list(again.notes or ()) == list(part.notes or ())
        start += len(part)


def test_a_column_that_one_part_lacks_is_left_out() -> None:
    first, second = fruit(2, colour=np.zeros(2)), fruit(3, "right")
    joined = Fruit.concat([first, Fruit(second.weight, "right", None, second.notes, second.data)])
    assert joined.masks is None
    assert joined.data is not None
    assert list(joined.data) == ["price"]
    assert joined.basket == "left"


def test_columns_of_different_lengths_are_named() -> None:
    with pytest.raises(ValueError, match="columns of different lengths: 2 of weight, but 1 of notes"):
        Fruit(np.zeros(2, np.float32), "left", notes=["one"])
    with pytest.raises(ValueError, match="2 of weight, but 3 of price"):
        Fruit(np.zeros(2, np.float32), "left", data={"price": np.zeros(3)})
