from __future__ import annotations

import errno
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.errors import RunFolderError
from trackweave.masks.packed import PackedMasks
from trackweave.storage.mask_archive import OBJECT_DTYPE
from trackweave.storage.result_log import ResultSpool

SIZE = (4, 9)
APPENDS = st.lists(st.tuples(st.integers(0, 4), st.lists(st.integers(1, 99), max_size=3)), max_size=8)


@given(APPENDS)
def test_results_come_back_by_frame_in_the_order_of_arrival(appends: list[tuple[int, list[int]]]) -> None:
    expected: dict[int, list[int]] = {}
    with ResultSpool() as spool:
        for frame, ids in appends:
            rows = np.zeros(len(ids), OBJECT_DTYPE)
            rows["id"] = ids
            masks = np.array([np.random.default_rng(k).random(SIZE) < 0.5 for k in ids]).reshape(-1, *SIZE)
            spool.append(frame, rows, PackedMasks.from_bool(masks))
            if ids:
                expected.setdefault(frame, []).extend(ids)
        assert spool.frames == sorted(expected)
        for frame in range(6):
            ids = expected.get(frame, [])
            rows, packed = spool.read(frame)
            assert spool.count(frame) == len(ids)
            assert rows["id"].tolist() == spool.read_rows(frame)["id"].tolist() == ids
            masks = np.array([np.random.default_rng(k).random(SIZE) < 0.5 for k in ids], np.bool_)
            if ids:
                np.testing.assert_array_equal(packed.to_bool(), masks)
            else:
                assert len(packed) == 0


def test_rows_and_masks_belong_together() -> None:
    with ResultSpool() as spool:
        with pytest.raises(ValueError, match="2 rows and 1 masks"):
            spool.append(0, np.zeros(2, OBJECT_DTYPE), PackedMasks.empty(*SIZE, 1))
        spool.append(0, np.zeros(1, OBJECT_DTYPE), PackedMasks.empty(*SIZE, 1))
        with pytest.raises(ValueError, match=r"frame 1: masks of \(2, 2\) after masks of \(4, 9\)"):
            spool.append(1, np.zeros(1, OBJECT_DTYPE), PackedMasks.empty(2, 2, 1))


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    with ResultSpool(tmp_path / "journal") as spool:
        spool.append(0, np.zeros(1, OBJECT_DTYPE), PackedMasks.empty(*SIZE, 1))
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_folder_that_takes_no_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunFolderError, match="taken: no scratch file can be made here"):
        ResultSpool(tmp_path / "taken")


class FullDisk(io.BytesIO):
    """Takes nothing, and fails again when it is closed with what it could not write."""

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        super().close()
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_reported_once_and_names_the_folder(tmp_path: Path) -> None:
    def fill() -> None:
        with ResultSpool(tmp_path) as spool:
            spool._file.close()
            spool._file = FullDisk()
            spool.append(0, np.zeros(1, OBJECT_DTYPE), PackedMasks.from_bool(np.ones((1, 2, 2), bool)))

    with pytest.raises(RunFolderError, match=r"results cannot be stored: No space left on device") as caught:
        fill()
    assert str(tmp_path) in str(caught.value)
