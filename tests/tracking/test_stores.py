from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackweave.errors import ArtifactError
from trackweave.ids import FrameIndex, LocalIndex, TrackId
from trackweave.masks.codecs import mask_mapping
from trackweave.masks.packed import PackedMasks
from trackweave.storage.mask_archive import OBJECT_DTYPE
from trackweave.storage.result_log import ResultJournal
from trackweave.structures.candidates import PreviewSegment
from trackweave.structures.run_log import RunWarning
from trackweave.tracking.stores import (
    BatchRecord,
    DedupStats,
    DedupStore,
    FrameResultStore,
    _frame_entry_name,
    add_counters,
    latest_warnings,
)


def square(x: int, y: int = 0, size: int = 4, canvas: int = 16) -> np.ndarray:
    mask = np.zeros((canvas, canvas), bool)
    mask[y : y + size, x : x + size] = True
    return mask


def entry(mask: np.ndarray) -> PackedMasks:
    return PackedMasks.from_bool(mask)


def test_frame_entries_sort_as_text() -> None:
    assert _frame_entry_name(9) < _frame_entry_name(10) < _frame_entry_name(12345)


def test_a_mask_is_seen_only_on_its_frame_and_above_the_threshold() -> None:
    store = DedupStore()
    store.add_packed(7, 1, mask_mapping(entry(square(0))))
    half = square(2)  # IoU 8 / 24
    assert store.seen_packed(entry(square(0)), 0.6, frame_idx=7)
    assert not store.seen_packed(entry(square(0)), 0.6, frame_idx=8)
    assert store.seen_packed(entry(square(0)), 0.6)  # no frame: on any
    assert not store.seen_packed(entry(half), 1 / 3, frame_idx=7)  # at the threshold = new
    assert store.seen_packed(entry(half), 0.33, frame_idx=7)
    assert store.objects_at(7) == [1]


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0]))
def test_one_at_a_time_answers_as_all_at_once(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 8, (30, 2))
    masks = PackedMasks.from_bool(np.stack([square(x, y, size=int(rng.integers(0, 9))) for x, y in corners]))
    store = DedupStore()
    for n, mask in enumerate(masks[:20]):
        store.add_packed(0, n, mask)
    assert store.masks_at(FrameIndex(0)) == masks[:20]
    best = store.coverage(FrameIndex(0), masks[20:]).iou
    assert [store.seen_packed(mask, threshold, 0) for mask in masks[20:]] == (best > threshold).tolist()


def test_the_entry_may_carry_its_frame() -> None:
    store = DedupStore()
    store.add_packed(3, 1, entry(square(0)))
    asked = {**mask_mapping(entry(square(0))), "frame_idx": 4}
    assert not store.seen_packed(asked, 0.5)
    assert store.seen_packed({**asked, "frame_idx": 3}, 0.5)


def test_seen_takes_raw_masks_and_boxes() -> None:
    store = DedupStore()
    store.add_packed(0, 1, entry(square(0)))
    assert store.seen(None, square(0), 0.6, 0)
    assert store.seen([0, 0, 4, 4], None, 0.6, 0)
    assert not store.seen([8, 8, 12, 12], None, 0.6)
    assert not store.seen([0, 0, 4, 4], square(8), 0.6)  # the mask decides when it is there
    assert store.seen([0, 0, 4, 4], np.zeros((16, 16), bool), 0.6)  # an empty mask says nothing
    with pytest.raises(ValueError, match="neither a box nor a mask"):
        store.seen(None, None, 0.6)


def test_masks_of_another_size_are_compared_at_the_stored_size() -> None:
    store = DedupStore()
    store.add_packed(0, 1, entry(square(0)))
    assert store.seen_packed(entry(square(0, size=8, canvas=32)), 0.99, 0)


def test_containment_comes_with_iou() -> None:
    store = DedupStore()
    store.add_packed(0, 1, entry(square(0, size=8)))
    covered = store.coverage(FrameIndex(0), entry(square(0, size=4)))
    assert covered.iou[0] == pytest.approx(0.25)
    assert covered.containment[0] == 1.0


def test_what_a_result_store_emitted_counts_as_seen(tmp_path: Path) -> None:
    with FrameResultStore(tmp_path) as results:
        store = DedupStore(results)
        results.update(5, "five", {1: entry(square(0))})
        assert store.seen_packed(entry(square(0)), 0.6, 5)
        store.add_packed(5, 2, entry(square(8)))
        assert store.seen_packed(entry(square(8)), 0.6, 5)
        assert store.frames() == [5]


def test_frames_come_back_in_order_with_sorted_ids_and_without_empty_masks() -> None:
    with FrameResultStore() as store:
        store.update(9, "nine", {4: entry(square(0)), 2: entry(np.zeros((16, 16), bool))})
        store.update(3, "three", {1: entry(square(4))})
        store.update(9, "nine", {2: entry(square(8))})
        frames = list(store.iter_frames())
        assert [(f.frame, f.name, f.track_id.tolist()) for f in frames] == [(3, "three", [1]), (9, "nine", [2, 4])]
        assert frames[1].masks == PackedMasks.from_bool(np.stack([square(8), square(0)]))
        assert frames[1].xyxy.tolist() == [[8, 0, 12, 4], [0, 0, 4, 4]]


def test_entries_at_a_scale_have_boxes_in_frame_pixels() -> None:
    with FrameResultStore() as store:
        store.update(0, "f", {1: mask_mapping(entry(square(4)), full_resolution_shape=(32, 48))})
        assert next(store.iter_frames()).xyxy.tolist() == [[12, 0, 24, 8]]
        assert store.full_resolution_shape == (32, 48)


def test_nothing_written_is_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of a frame that many prompt batches reach are appended; the bytes before them stay as they are."""
    with FrameResultStore(tmp_path) as store:
        ends = []
        for batch in range(20):
            store.update(1, "one", {batch + 1: entry(square(batch % 8))})
            ends.append(store._log._end)
        grown = np.diff([0, *ends])
        assert (grown > 0).all()
        assert grown.max() < 2 * grown.min() + 64  # each update costs the same: no O(n²)


def test_previews_come_in_order() -> None:
    segment = PreviewSegment(1, (0, 0, 1, 1), 1, 0.9, True)
    with FrameResultStore() as store:
        store.update(4, "b", {}, [segment])
        store.update(2, "a", {}, [segment])
        assert [(p.frame, p.name, len(p.segments)) for p in store.iter_preview_segments()] == [(2, "a", 1), (4, "b", 1)]


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), unique=True, max_size=20),
    st.sampled_from([1, 200, 1 << 20]),
)
def test_references_point_to_where_the_masks_are(pairs: list[tuple[int, int]], batch_bytes: int) -> None:
    with FrameResultStore() as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr("trackweave.tracking.stores.REFERENCE_BATCH_BYTES", batch_bytes)
        for frame, track in pairs:
            store.update(frame, str(frame), {track: entry(square(track))})
        frames = {int(f.frame): f for f in store.iter_frames()}
        seen = []
        for track, references in store.object_references():
            for reference in references:
                objects = frames[int(reference["frame"])]
                assert objects.track_id[reference["row"]] == track
                assert objects.xyxy[reference["row"]].tolist() == reference["box"].tolist()
                seen.append((int(reference["frame"]), int(track)))
        assert sorted(seen) == sorted(pairs)
        assert seen == sorted(seen, key=lambda pair: (pair[1], pair[0]))


def journalled(path: Path) -> FrameResultStore:
    return FrameResultStore(journal=ResultJournal(path / "level_2.cohorts", "k"))


def batch(local: int) -> BatchRecord:
    return BatchRecord(LocalIndex(local), FrameIndex(local), "abcd"[local], DedupStats())


NAMES = {FrameIndex(frame): name for frame, name in enumerate("abcd")}


def test_a_journal_gives_back_what_was_committed(tmp_path: Path) -> None:
    with journalled(tmp_path) as store:
        store.update(2, "c", {7: np.ones((2, 2), bool)})
        store.commit(batch(2))
        store.update(3, "d", {7: np.ones((2, 2), bool)})
    with journalled(tmp_path) as store:
        assert store.finished == 1
        assert [record.local for record in store.committed] == [2]
        store.take_over(1, NAMES)
        assert [(f.frame, f.name, f.track_id.tolist()) for f in store.iter_frames()] == [(2, "c", [7])]
        store.commit(batch(3))
        assert store.finished == 2
        store.discard()
    assert not list(tmp_path.iterdir())


def test_what_is_not_taken_over_is_forgotten(tmp_path: Path) -> None:
    with journalled(tmp_path) as store:
        for local in (0, 1, 2):
            store.update(local, NAMES[FrameIndex(local)], {local + 1: np.ones((2, 2), bool)})
            store.commit(batch(local))
    with journalled(tmp_path) as store:
        store.take_over(1, NAMES)
        assert store.finished == 1
        assert [f.frame for f in store.iter_frames()] == [0]
    with journalled(tmp_path) as store:
        assert [record.local for record in store.committed] == [0]


def test_a_journal_of_something_else_is_refused(tmp_path: Path) -> None:
    with ResultJournal(tmp_path / "level_2.cohorts", "k") as journal:
        journal.commit({"local": 0})
    with journalled(tmp_path) as store, pytest.raises(ArtifactError, match=r"level_2\.cohorts: the journal lacks or"):
        store.committed  # noqa: B018


ROW = np.array([(7, 0.5, 4, (0, 0, 2, 2))], OBJECT_DTYPE)
ODD_ROWS = [
    ({"frame": 9}, "frame 9: the video does not have it"),
    ({"id": 8}, "frame 2: has objects that were not prompted"),
    ({"score": np.nan}, "frame 2: has boxes or scores that are not finite"),
    ({"box": (0, 0, np.inf, 2)}, "frame 2: has boxes or scores that are not finite"),
    ({"box": (3, 0, 1, 2)}, "frame 2: has a box without extent"),
]


@pytest.mark.parametrize(("change", "message"), ODD_ROWS)
def test_results_that_cannot_be_this_runs_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    rows = ROW.copy()
    for column in change.keys() & set(OBJECT_DTYPE.names or ()):
        rows[column] = change[column]
    with ResultJournal(tmp_path / "level_2.cohorts", "k") as journal:
        journal.append(change.get("frame", 2), rows, PackedMasks.from_bool(np.ones((len(rows), 2, 2), np.bool_)))
        journal.commit(batch(2).to_json())
    with journalled(tmp_path) as store, pytest.raises(ArtifactError, match=rf"level_2\.cohorts: {message}; remove"):
        store.take_over(1, NAMES, {7})


def test_an_object_twice_on_a_frame_is_named(tmp_path: Path) -> None:
    """Whole by its checksum: a record was copied, or a commit tells of other results."""
    with journalled(tmp_path) as store:
        store.update(2, "c", {7: np.ones((2, 2), bool)})
        store.update(2, "c", {7: np.ones((2, 2), bool)})
        store.commit(batch(2))
    with journalled(tmp_path) as store:
        store.take_over(1, NAMES)
        with pytest.raises(ArtifactError, match=r"level_2\.cohorts: frame 2: has an object twice; remove the journal"):
            list(store.iter_frames())


def test_without_a_journal_nothing_was_committed_before(tmp_path: Path) -> None:
    with FrameResultStore(tmp_path) as store:
        store.take_over(0, {})
        store.commit(batch(0))
        assert (store.finished, store.committed) == (1, [])
        store.discard()
    assert not list(tmp_path.iterdir())


def test_an_offset_shifts_every_id_that_is_read() -> None:
    with FrameResultStore() as store:
        preview = PreviewSegment(2, (0.0, 0.0, 1.0, 1.0), 1, 0.9, True)
        store.update(0, "a", {1: np.ones((2, 2), bool), 2: np.ones((2, 2), bool)}, [preview])
        store.id_offset = 10
        assert [f.track_id.tolist() for f in store.iter_frames()] == [[11, 12]]
        assert list(store.object_references().counts()) == [11, 12]
        assert [track_id for track_id, _ in store.object_references()] == [11, 12]
        assert [s.id for frame in store.iter_preview_segments() for s in frame.segments] == [12]


def test_statistics_of_frames_add_up() -> None:
    total = DedupStats(5, 2, 1, 1, {0: (5, 2)})
    total.add(DedupStats(4, 1, 0, 2, {3: (4, 3)}))
    assert total == DedupStats(9, 3, 1, 3, {0: (5, 2), 3: (4, 3)})


# --- records ---------------------------------------------------------------------------------------------------------

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
    BatchRecord,
    COUNT.map(LocalIndex),
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
def test_a_record_goes_there_and_back_through_json(record: BatchRecord) -> None:
    """To the last bit of each float, and in the same order."""
    back = BatchRecord.from_json(json.loads(json.dumps(record.to_json(), allow_nan=False)))
    assert back == record
    assert list(back.prompt_types) == list(record.prompt_types)
    assert list(back.seconds) == list(record.seconds)


def test_records_keep_the_keys_that_journals_on_disk_have() -> None:
    record = BatchRecord(LocalIndex(3), FrameIndex(6), "f", DedupStats(), {TrackId(1): "box"}, batch_size=2)
    assert record.to_json() == {
        "local": 3, "frame": 6, "name": "f", "kinds": [[1, "box"]], "previews": [], "seconds": {}, "work": {},
        "remarks": [], "omissions": [], "together": 2,
        "dedup": {"candidates": 0, "covered_by_tracks": 0, "duplicates_in_frame": 0, "parts": 0, "frames": {}},
    }  # fmt: skip


ODD_RECORDS: list[dict[str, Any]] = [
    {"dedup": {"frames": {}, "unknown": 1}},
    {"dedup": {"frames": {}, "candidates": [1]}},
    {"kinds": [[1]]},
    {"kinds": [[1, "text"]]},
    {"local": "x"},
    {"seconds": {"track": [1]}},
    {"work": {"passes": "many"}},
    {"previews": [{"id": 1, "box": [1, 2], "area": 1, "score": 1, "has_mask": True}]},
    {"previews": [{"id": 1, "box": [1, 2, 3, "x"], "area": 1, "score": 1, "has_mask": True}]},
]


@pytest.mark.parametrize("change", ODD_RECORDS)
def test_what_is_no_record_is_refused(change: dict[str, Any]) -> None:
    sound = dict(BatchRecord(LocalIndex(3), FrameIndex(6), "f", DedupStats()).to_json())
    with pytest.raises((KeyError, TypeError, ValueError)):
        BatchRecord.from_json({**sound, **change})
    del sound["name"]
    with pytest.raises(KeyError):
        BatchRecord.from_json(sound)


def warning(code: str, message: str) -> RunWarning:
    return RunWarning("predictor", None, code, message)


def test_a_later_snapshot_of_warnings_replaces_what_it_says_anew() -> None:
    first = [warning("slow", "no device"), warning("halved", "to 8")]
    second = [warning("halved", "to 4"), warning("halved", "to 2"), warning("moved", "features")]
    assert latest_warnings([]) == []
    assert latest_warnings([first, first]) == first
    assert latest_warnings([first, (), second]) == [first[0], *second]


def test_counters_add_up_by_name() -> None:
    total: dict[str, float] = {"a": 1}
    add_counters(total, {"a": 2, "b": 0.5})
    assert total == {"a": 3, "b": 0.5}
