"""What a detector found comes back from its archive as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trackweave.errors import ArtifactError
from trackweave.formats.archives import read_detection_table, write_detection_table
from trackweave.formats.tables import DetectionTable
from trackweave.masks.codecs import encode_rle
from trackweave.masks.packed import PackedMasks


@st.composite
def tables(draw: st.DrawFn) -> DetectionTable:
    count = draw(st.integers(0, 4))
    has_masks, has_names = draw(st.booleans()), draw(st.booleans())
    masks = PackedMasks.from_bool(draw(arrays(bool, (count, 3, 5))))
    return DetectionTable(
        np.sort(draw(arrays(np.int64, count, elements=st.integers(0, 9)))),
        draw(arrays(np.float32, (count, 4), elements=st.floats(-10, 100, width=32))),
        draw(arrays(np.float32, count, elements=st.floats(0, 1, width=32))),
        draw(arrays(np.int64, count, elements=st.integers(-1, 3))),
        {0: "person", 2: "Auto, groß"} if has_names else None,
        encode_rle(masks) if has_masks else None,
        draw(st.none() | st.integers(10, 20)),
        source="toy",
    )


@settings(max_examples=30)
@given(tables())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, table: DetectionTable) -> None:
    path = tmp_path_factory.mktemp("archive") / "detections.npz"
    write_detection_table(path, table)
    back = read_detection_table(path)
    for name in ("frame", "xyxy", "score", "class_id"):
        np.testing.assert_array_equal(getattr(back, name), getattr(table, name))
        assert getattr(back, name).dtype == getattr(table, name).dtype
    assert (back.class_names, back.length, back.source) == (table.class_names, table.length, table.source)
    assert (back.segmentation is None) == (table.segmentation is None)
    for frame in {*table.frame.tolist()}:
        one, other = back.at(frame).masks, table.at(frame).masks
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            np.testing.assert_array_equal(one.bits, other.bits)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "detections.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(ArtifactError, match="not a readable detections archive"):
        read_detection_table(path)
