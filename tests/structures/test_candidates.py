from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trackweave.ids import FrameIndex, LocalIndex
from trackweave.masks.packed import PackedMasks
from trackweave.structures.candidates import CandidateFrame, Candidates


def three() -> Candidates:
    masks = np.zeros((3, 4, 6), np.bool_)
    masks[0, :2, :2] = masks[2, 3, 1:5] = True
    return Candidates(
        np.array([7, 3, 5]),
        np.array([[0, 0, 2, 2], [1, 1, 4, 3], [1, 3, 5, 4]], np.float32),
        np.array([0.9, 0.8, 0.7], np.float32),
        np.array([4, 6, 4]),
        PackedMasks.from_bool(masks),
    )


@pytest.mark.parametrize("index", [slice(1, 3), [2, 0], [], np.array([True, False, True]), np.array([1])])
def test_an_index_picks_the_same_rows_of_every_column(index: Any) -> None:
    chosen = three()[index]
    rows = np.arange(3)[index] if not isinstance(index, list) or index else np.zeros(0, np.int64)
    assert chosen.id.tolist() == [(7, 3, 5)[row] for row in rows]
    assert chosen.area.tolist() == [(4, 6, 4)[row] for row in rows]
    np.testing.assert_array_equal(chosen.xyxy, three().xyxy[rows])
    np.testing.assert_array_equal(chosen.score, three().score[rows])
    assert chosen.masks == three().masks[rows]


def test_a_candidate_without_a_mask_is_known_by_its_empty_one() -> None:
    assert three().has_mask.tolist() == [True, False, True]
    assert three().size == (4, 6)


@pytest.mark.parametrize("column", ["id", "xyxy", "score", "area", "masks"])
def test_columns_of_different_lengths(column: str) -> None:
    columns = {name: getattr(three(), name) for name in ("id", "xyxy", "score", "area", "masks")}
    columns[column] = columns[column][:2]
    with pytest.raises(ValueError, match="columns of different lengths"):
        Candidates(**columns)


def test_a_frame_is_as_long_as_its_candidates() -> None:
    assert len(CandidateFrame(LocalIndex(0), FrameIndex(4), "frame", three())) == 3
