from __future__ import annotations

import io
from typing import TextIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.frames.source import sample_evenly
from trackweave.masks.codecs import mask_mapping
from trackweave.masks.packed import PackedMasks
from trackweave.progress import ProgressPrinter, TimingAggregator, format_duration_precise
from trackweave.storage.run import format_scale_suffix, scaled_npz_path
from trackweave.tracking.helpers import (
    bbox_scalar_fit,
    bbox_transform_xywh_to_xyxy,
    compute_iou,
    determine_mask_shape,
    infer_relative_scale,
    resize_mask_to_shape,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_progress_ends_its_line_once(stream: TextIO) -> None:
    printer = ProgressPrinter(3, "level 2", stream)
    for step in (1, 2, 3):
        printer.update(step, 10 * step)
    printer.close()
    printer.close()
    assert isinstance(stream, io.StringIO)
    text = stream.getvalue()
    assert text.removesuffix("\x1b[?25h").endswith("\n")  # a terminal also gets its cursor back
    assert "level 2" in text
    assert "3/3" in text
    if not stream.isatty():
        assert text.count("\n") == 1


def test_progress_shows_the_absolute_frame_on_a_terminal() -> None:
    stream = Terminal()
    printer = ProgressPrinter(2, "level 4", stream)
    printer.update(1, 1234)
    printer.close()
    assert "1234" in stream.getvalue()


def test_progress_shows_units_an_estimated_total_and_the_time_taken() -> None:
    stream = Terminal()
    printer = ProgressPrinter(0, "tracking", stream, unit="object-frames")
    printer.expect(200, is_known=False)
    printer.update(50, 7)
    printer.close()
    text = stream.getvalue()
    assert "50/~200 object-frames" in text
    assert "0:00:0" in text
    log = io.StringIO()
    printer = ProgressPrinter(9, "tracking", log, unit="object-frames")
    printer.expect(4)
    printer.update(4, 7)
    printer.close()
    assert log.getvalue().startswith("tracking: 4/4 object-frames in ")


def test_timer_keeps_order_nests_and_merges() -> None:
    timer = TimingAggregator()
    with timer.track("track.sam2"):
        pass
    timer.add("persist.video_segments", 2.0)
    timer.add("track.sam2", 1.0)
    timer.add("tracker", 5.0)
    other = TimingAggregator()
    other.add("persist.video_segments", 0.5)
    other.add("compare", 0.25)
    timer.merge(other)
    assert [stage for stage, _ in timer.items()] == ["track.sam2", "persist.video_segments", "tracker", "compare"]
    assert timer.total("persist.video_segments") == 2.5
    assert timer.total("never") == 0
    assert timer.total_prefix("track") == pytest.approx(timer.total("track.sam2"))
    assert timer.total_prefix("persist.") == 2.5
    assert timer.total_all() == pytest.approx(8.75, abs=0.01)
    assert "compare 0.250s" in timer.format_breakdown()
    assert TimingAggregator().format_breakdown() == "no time recorded"


def test_timer_counts_a_section_that_fails() -> None:
    timer = TimingAggregator()
    with pytest.raises(KeyError), timer.track("x"):
        raise KeyError
    assert [stage for stage, _ in timer.items()] == ["x"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.000s"), (59.9994, "59.999s"), (59.9996, "1m 00.00s"), (60, "1m 00.00s"), (754.126, "12m 34.13s"),
     (3599.999, "1h 00m 00.00s"), (3725, "1h 02m 05.00s"), (-2, "-2.000s")],
)  # fmt: skip
def test_durations_are_exact(seconds: float, text: str) -> None:
    assert format_duration_precise(seconds) == text


def test_scaled_names() -> None:
    assert format_scale_suffix(0.3) == "_scale0.3x"
    assert str(scaled_npz_path("a/video_segments.npz", 0.3)) == "a/video_segments_scale0.3x.npz"
    assert str(scaled_npz_path("a/video_segments.npz", 1.0)) == "a/video_segments.npz"


def test_mask_shape_and_scale_come_from_the_entry() -> None:
    mask = PackedMasks.from_bool(np.ones((432, 576), bool))
    entry = mask_mapping(mask, full_resolution_shape=(1440, 1920))
    assert infer_relative_scale(entry) == pytest.approx(0.3)
    assert determine_mask_shape(entry, (5, 5)) == (1440, 1920)
    assert determine_mask_shape(mask_mapping(mask), (5, 5)) == (5, 5)
    assert determine_mask_shape(mask) == (432, 576)
    assert infer_relative_scale(mask_mapping(mask)) == 1.0


def test_resize_is_nearest_and_keeps_bool() -> None:
    mask = np.zeros((4, 4), bool)
    mask[:2, :2] = True
    big = resize_mask_to_shape(mask, (8, 8))
    assert big.dtype == bool
    assert big.sum() == 16
    assert np.array_equal(resize_mask_to_shape(big, (4, 4)), mask)


def test_iou_upsamples_the_smaller_mask() -> None:
    small = np.array([[True, False], [False, False]])
    large = np.zeros((8, 8), bool)
    large[:4, :4] = True
    assert compute_iou(small, large) == 1.0
    assert compute_iou(mask_mapping(PackedMasks.from_bool(small)), large) == 1.0
    assert compute_iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 0.0


boxes = st.lists(st.tuples(*[st.floats(0, 2000, width=32)] * 4), max_size=5)


@given(boxes)
def test_box_transforms_keep_shape_and_dtype(values: list[tuple[float, ...]]) -> None:
    xyxy = bbox_transform_xywh_to_xyxy(values)
    assert xyxy.shape == (len(values), 4)
    assert xyxy.dtype == np.float32
    for (x, y, w, h), box in zip(values, xyxy, strict=True):
        assert np.allclose(box, [x, y, x + w, y + h], rtol=1e-6)


@given(boxes, st.sampled_from([(2.25, 2.25), (0.3, 0.7), (1.0, 3.0)]))
def test_scaling_boxes_there_and_back_does_not_drift(values: list[tuple[float, ...]], by: tuple[float, float]) -> None:
    once = np.array(values, np.float32).reshape(-1, 4)
    there = once
    for _ in range(10):
        there = bbox_scalar_fit(bbox_scalar_fit(there, *by), 1 / by[0], 1 / by[1])
    assert np.allclose(there, once, rtol=1e-5, atol=1e-5)


@given(st.integers(0, 60), st.integers(1, 12), st.one_of(st.none(), st.integers(1, 20)))
def test_sampling_keeps_first_and_last_and_the_cap(count: int, stride: int, cap: int | None) -> None:
    values = list(range(count))
    chosen = sample_evenly(values, stride, cap)
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(values)
    if cap is not None:
        assert len(chosen) <= cap
    if values:
        assert chosen[0] == 0
        if cap != 1:
            assert chosen[-1] == count - 1
        if cap is None:
            assert set(values[::stride]) <= set(chosen)
