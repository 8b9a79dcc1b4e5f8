from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bounded_predictor import BoundedPredictor
from tests.worlds import CROSSING
from trackweave.ids import FrameIndex, TrackId
from trackweave.structures.candidates import PreviewSegment
from trackweave.structures.run_log import RunWarning
from trackweave.tracking.mask_tracker import CohortRecord, SessionWatch, add_work, fold_remarks
from trackweave.tracking.stores import DedupStats

COUNT = st.integers(0, 1 << 40)
AMOUNT = st.floats(allow_nan=False, allow_infinity=False)
PREVIEW = st.builds(PreviewSegment, COUNT, st.tuples(AMOUNT, AMOUNT, AMOUNT, AMOUNT), COUNT, AMOUNT, st.booleans())
WARNING = st.builds(
    RunWarning,
    st.text(),
    st.none() | st.integers(0, 9),
    st.text(),
    st.text(),
    st.dictionaries(st.sampled_from(["frame", "batch", "ids"]), COUNT | st.text() | st.lists(COUNT)),
)
RECORD = st.builds(
    CohortRecord,
    COUNT,
    COUNT.map(FrameIndex),
    st.text(),
    st.builds(DedupStats, COUNT, COUNT, COUNT, COUNT, st.dictionaries(COUNT, st.tuples(COUNT, COUNT), max_size=2)),
    st.dictionaries(COUNT.map(TrackId), st.sampled_from(["mask", "box"])),
    st.lists(PREVIEW, max_size=3),
    st.dictionaries(st.text(), AMOUNT, max_size=3),
    st.dictionaries(st.text(), COUNT | AMOUNT, max_size=3),
    st.lists(WARNING, max_size=2),
    st.lists(WARNING, max_size=2),
    COUNT,
)


@given(RECORD)
def test_there_and_back_through_json(record: CohortRecord) -> None:
    """To the last bit of each float, and in the same order."""
    back = CohortRecord.from_json(json.loads(json.dumps(record.to_json(), allow_nan=False)))
    assert back == record
    assert list(back.kinds) == list(record.kinds)
    assert list(back.seconds) == list(record.seconds)


@pytest.mark.parametrize("change", [{"dedup": {"frames": {}, "unknown": 1}}, {"kinds": [[1]]}, {"local": "x"}])
def test_what_is_no_record_is_refused(change: dict[str, Any]) -> None:
    sound = CohortRecord(3, FrameIndex(6), "f", DedupStats(), {}).to_json()
    with pytest.raises((KeyError, TypeError, ValueError)):
        CohortRecord.from_json({**sound, **change})
    del sound["name"]
    with pytest.raises(KeyError):
        CohortRecord.from_json(sound)


def test_a_watch_gives_what_is_new() -> None:
    session = BoundedPredictor().open(CROSSING.frames)
    watch = SessionWatch(session)
    assert (watch.work(), watch.remarks()) == ({"encoder_passes": 0, "object_frames": 0}, [])
    session.add_mask(0, 1, CROSSING.mask(0, "a"))
    list(session.propagate(0, max_frames=2))
    session.said.append(remark("slow", "no device"))
    assert (watch.work(), watch.remarks()) == ({"encoder_passes": 3, "object_frames": 3}, session.said)
    list(session.propagate(0))
    assert (watch.work(), watch.remarks()) == ({"encoder_passes": 1, "object_frames": 4}, [])
    session.said[0] = remark("slow", "still no device")  # reworded under the same code
    assert watch.remarks() == [remark("slow", "still no device")]


def remark(code: str, message: str) -> RunWarning:
    return RunWarning("predictor", None, code, message)


def test_a_later_snapshot_replaces_what_it_says_anew() -> None:
    first = [remark("slow", "no device"), remark("halved", "to 8")]
    second = [remark("halved", "to 4"), remark("halved", "to 2"), remark("moved", "features")]
    assert fold_remarks([]) == []
    assert fold_remarks([first, first]) == first
    assert fold_remarks([first, (), second]) == [first[0], *second]


def test_work_adds_up_by_name() -> None:
    total: dict[str, float] = {"a": 1}
    add_work(total, {"a": 2, "b": 0.5})
    assert total == {"a": 3, "b": 0.5}
