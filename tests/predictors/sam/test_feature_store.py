from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trackweave.predictors.sam.feature_store import DiskTier, FeatureStore, MemoryTier, size_of
from trackweave.predictors.sam.model import Features

CPU = torch.device("cpu")
BYTES = 24
"""What one frame of `of` takes."""


def of(frame: int) -> Features:
    return torch.full((2, 1, 2), float(frame)), torch.full((1, 1, 2), frame + 0.5)


def store(*frames_per_tier: int, disk: int = 0, dtype: torch.dtype | None = None) -> FeatureStore:
    tiers = [MemoryTier(CPU, count * BYTES) for count in frames_per_tier]
    return FeatureStore(CPU, [*tiers, *([DiskTier(disk * BYTES)] if disk else [])], dtype)


def holds(kept: FeatureStore, frame: int) -> bool:
    features = kept.get(frame)
    return features is not None and all(torch.equal(a, b) for a, b in zip(features, of(frame), strict=True))


def test_a_frame_is_what_this_file_says() -> None:
    assert size_of(of(0)) == BYTES


def test_the_oldest_move_from_tier_to_tier_and_are_dropped_by_the_last() -> None:
    kept = store(2, 2)
    for frame in range(5):
        kept.put(frame, of(frame))
    assert kept.used == [2 * BYTES, 2 * BYTES]
    assert kept.frames == [1, 2, 3, 4]
    assert kept.evicted == {0}
    assert kept.get(0) is None
    assert holds(kept, 1)  # rises to the first tier, so 3 sinks
    kept.put(5, of(5))  # 4 sinks: the second tier holds 2, 3, 4 for a moment, and the oldest goes
    assert kept.frames == [1, 3, 4, 5]


@settings(deadline=None)
@given(
    actions=st.lists(st.tuples(st.sampled_from(["put", "get", "release"]), st.integers(0, 7)), max_size=40),
    limits=st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)),
)
def test_stored_features_are_right_and_bounded(actions: list[tuple[str, int]], limits: tuple[int, int, int]) -> None:
    kept = store(*limits[:2], disk=limits[2])
    order: list[int] = []  # least recently used first
    for action, frame in actions:
        if action == "put" and frame not in order:
            kept.put(frame, of(frame))
            order.append(frame)
        elif action == "get":
            assert holds(kept, frame) == (frame in order)
            if frame in order:
                order.remove(frame)
                order.append(frame)
        elif action == "release":
            kept.release_before(frame)
            order = [past for past in order if past >= frame]
        order = order[max(0, len(order) - sum(limits)) :] if sum(limits) else []
        assert kept.frames == sorted(order)
        assert all(used <= limit * BYTES for used, limit in zip(kept.used, limits, strict=False))
    kept.close()


def test_files_have_no_names(tmp_path: Path) -> None:
    disk = DiskTier(3 * BYTES, tmp_path)
    kept = FeatureStore(CPU, [MemoryTier(CPU, BYTES), disk])
    for frame in range(6):
        kept.put(frame, of(frame))
    assert disk.frames() == [2, 3, 4]
    assert list(tmp_path.iterdir()) == []  # the file has no name: it goes with the process, however that ends
    assert holds(kept, 2)
    assert kept.get(1) is None
    kept.close()
    assert kept.frames == []


def test_what_a_full_disk_does_not_take_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    kept = store(1, disk=3)
    kept.put(0, of(0))
    kept.put(1, of(1))
    assert holds(kept, 1)
    assert kept.get(0) is None
    assert kept.evicted == {0}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_disk_keeps_every_type_and_shape(dtype: torch.dtype) -> None:
    disk = DiskTier(1 << 20)
    features = (torch.randn(3, 1, 2).to(dtype), torch.randn(2, 3).t().to(dtype), torch.tensor(1.5, dtype=dtype))
    assert disk.put(0, features) == []
    found = disk.pop(0)
    assert found is not None
    assert all(torch.equal(a, b) for a, b in zip(found, features, strict=True))


def test_nothing_is_kept_without_memory() -> None:
    kept = store(0)
    assert torch.equal(kept.put(3, of(3))[0], of(3)[0])
    assert kept.get(3) is None
    assert kept.evicted == {3}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_is_the_same_for_the_first_visit_and_later_ones(dtype: torch.dtype) -> None:
    kept = store(1, dtype=dtype)
    features = (torch.tensor([[[1 / 3]]]),)
    first, later = kept.put(0, features)[0], kept.get(0)
    assert later is not None
    assert first.dtype == later[0].dtype == torch.float32
    assert torch.equal(first, later[0])
    assert not torch.equal(first, features[0])


def test_the_device_tier_is_halved_for_good() -> None:
    kept = store(4, 9)
    for frame in range(4):
        kept.put(frame, of(frame))
    assert kept.shrink_device_tier()
    assert kept.used == [2 * BYTES, 2 * BYTES]
    kept.put(9, of(9))
    assert kept.used[0] == 2 * BYTES
    assert kept.frames == [0, 1, 2, 3, 9]
    assert kept.shrink_device_tier()
    assert kept.shrink_device_tier()
    assert not kept.shrink_device_tier()
    assert kept.used[0] == 0
    assert holds(kept, 9)


def test_a_single_tier_is_not_halved() -> None:
    kept = store(2)
    kept.put(0, of(0))
    assert not kept.shrink_device_tier()
