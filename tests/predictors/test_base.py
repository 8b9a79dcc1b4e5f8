from __future__ import annotations

import numpy as np
import pytest

from trackweave.errors import PredictorError
from trackweave.predictors.base import PromptBook, frame_range

FULL = np.ones((6, 8), np.bool_)


@pytest.fixture
def book() -> PromptBook:
    return PromptBook(length=4, size=(6, 8))


def test_a_cohort_is_what_was_first_prompted_on_a_frame(book: PromptBook) -> None:
    for frame, obj_id in [(2, 9), (0, 4), (2, 1), (0, 9), (3, 4)]:
        book.add_mask(frame, obj_id, FULL)
    assert book.first_prompted_on(2) == [9, 1]
    assert book.first_prompted_on(0) == [4]
    assert list(book.prompts(9)) == [2, 0]
    with pytest.raises(PredictorError, match="no object was first prompted on frame 3"):
        book.first_prompted_on(3)


def test_a_mask_prompt_has_no_box(book: PromptBook) -> None:
    book.add_mask(0, 1, FULL)
    prompt = book.prompts(1)[0]
    assert prompt.box is None
    np.testing.assert_array_equal(prompt.mask.to_bool()[0], FULL)


@pytest.mark.parametrize(
    ("box", "filled"),
    [
        ([1, 2, 3, 5], [1, 2, 3, 5]),
        ([1.2, 2.9, 3.1, 4.0], [1, 2, 4, 4]),  # every pixel that the box touches
        ([-5, 2, 3, 50], [0, 2, 3, 6]),
        ([7.5, 5.5, 7.6, 5.6], [7, 5, 8, 6]),
    ],
)
def test_a_box_prompt_is_the_box_filled(book: PromptBook, box: list[float], filled: list[int]) -> None:
    book.add_box(0, 1, np.array(box, np.float32))
    prompt = book.prompts(1)[0]
    assert prompt.mask.boxes.tolist() == [filled]
    assert prompt.mask.areas.tolist() == [(filled[2] - filled[0]) * (filled[3] - filled[1])]
    assert prompt.box is not None
    np.testing.assert_array_equal(prompt.box, np.array(box, np.float32))


def test_a_refused_prompt_leaves_no_trace(book: PromptBook) -> None:
    with pytest.raises(PredictorError, match="frame 4 is not among 0 … 3"):
        book.add_mask(4, 1, FULL)
    book.add_mask(1, 1, FULL)
    assert book.first_prompted_on(1) == [1]


def test_a_forgotten_cohort_takes_all_its_prompts_along_and_no_others(book: PromptBook) -> None:
    for frame, obj_id in [(2, 9), (0, 4), (2, 1), (0, 9), (3, 4)]:
        book.add_mask(frame, obj_id, FULL)
    book.forget(2)
    with pytest.raises(PredictorError, match="no object was first prompted on frame 2"):
        book.first_prompted_on(2)
    assert list(book.prompts(4)) == [0, 3]
    book.forget(1)  # nobody there
    book.add_mask(2, 9, FULL)  # the id and the frame are free again
    assert book.first_prompted_on(2) == [9]
    assert list(book.prompts(9)) == [2]


def test_clearing_forgets_everything(book: PromptBook) -> None:
    book.add_mask(0, 1, FULL)
    book.clear()
    with pytest.raises(PredictorError, match="no object was first prompted"):
        book.first_prompted_on(0)
    book.add_mask(0, 1, FULL)
    assert book.first_prompted_on(0) == [1]


@pytest.mark.parametrize(
    ("start", "reverse", "max_frames", "visited"),
    [
        (0, False, None, [0, 1, 2, 3]),
        (2, False, 1, [2, 3]),
        (3, False, 5, [3]),
        (2, True, 1, [2, 1]),
        (2, True, 5, [2, 1, 0]),
        (0, True, None, [0]),
        (1, True, 0, [1]),
    ],
)
def test_positions_on_the_way(start: int, reverse: bool, max_frames: int | None, visited: list[int]) -> None:
    assert list(frame_range(start, 4, reverse, max_frames)) == visited
