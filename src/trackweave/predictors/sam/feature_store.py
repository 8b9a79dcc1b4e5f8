"""`FeatureStore`: each frame's features once per run, in tiers of bounded size.

Least recently used first, entries sink from the device to main memory, from there to temporary files, and from the last
tier into oblivion. A hit in a lower tier rises to the first one.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from trackweave.predictors.sam.model import Features


class Tier(Protocol):
    """One place for features, with a limit in bytes."""

    limit: int
    used: int

    def put(self, frame: int, features: Features) -> list[tuple[int, Features]]:
        """Keeps features; returns what no longer fits, oldest first (that may be the new ones themselves)."""

    def take(self, frame: int) -> Features | None:
        """Removes and returns what is kept of a frame."""

    def frames(self) -> list[int]:
        """Frames that are kept, oldest first."""

    def close(self) -> None:
        """Forgets everything."""


class MemoryTier:
    """Features on one device.

    Args:
        device: where they are kept.
        limit: bytes.
    """

    def __init__(self, device: torch.device, limit: int) -> None:
        self.device, self.limit, self.used = device, limit, 0
        self._kept: OrderedDict[int, Features] = OrderedDict()

    def put(self, frame: int, features: Features) -> list[tuple[int, Features]]:
        """See `Tier`."""
        size = size_of(features)
        if size > self.limit:
            return [(frame, features)]
        evicted = []
        while self.used + size > self.limit:
            old, gone = self._kept.popitem(last=False)
            self.used -= size_of(gone)
            evicted.append((old, gone))
        self._kept[frame] = tuple(feature.to(self.device) for feature in features)
        self.used += size
        return evicted

    def take(self, frame: int) -> Features | None:
        """See `Tier`."""
        features = self._kept.pop(frame, None)
        if features is not None:
            self.used -= size_of(features)
        return features

    def frames(self) -> list[int]:
        """See `Tier`."""
        return list(self._kept)

    def close(self) -> None:
        """See `Tier`."""
        self._kept.clear()
        self.used = 0


class DiskTier:
    """Features in temporary files; the folder is made when the first is written and removed by `close`."""

    def __init__(self, limit: int, folder: Path | None = None) -> None:
        self.limit, self.used = limit, 0
        self._parent = folder
        self._sizes: OrderedDict[int, int] = OrderedDict()
        self._folder: Path | None = None
        self._cleaner: weakref.finalize[..., DiskTier] | None = None

    def put(self, frame: int, features: Features) -> list[tuple[int, Features]]:
        """See `Tier`; what no longer fits is not read back, so its features are missing from the answer."""
        size = size_of(features)
        if size > self.limit:
            return [(frame, features)]
        while self.used + size > self.limit:
            self._drop(next(iter(self._sizes)))
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="trackweave-features-", dir=self._parent))
            # A session that nobody closes must not leave gigabytes behind.
            self._cleaner = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        torch.save([feature.cpu() for feature in features], self._path(frame))
        self._sizes[frame] = size
        self.used += size
        return []

    def take(self, frame: int) -> Features | None:
        """See `Tier`."""
        if frame not in self._sizes:
            return None
        features: list[Tensor] = torch.load(self._path(frame), weights_only=True)
        self._drop(frame)
        return tuple(features)

    def frames(self) -> list[int]:
        """See `Tier`."""
        return list(self._sizes)

    def close(self) -> None:
        """See `Tier`."""
        self._sizes.clear()
        self.used = 0
        if self._cleaner is not None:
            self._cleaner()
        self._folder = self._cleaner = None

    def _path(self, frame: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{frame:07d}.pt"

    def _drop(self, frame: int) -> None:
        self._path(frame).unlink(missing_ok=True)
        self.used -= self._sizes.pop(frame)


class FeatureStore:
    """Features by frame over a chain of tiers.

    Args:
        device: where features are used.
        tiers: fastest first; empty = nothing is kept.
        dtype: how features are kept; None = as they come.

    Attributes:
        forgotten: frames that fell out of the last tier and were not released, most recent kept until put again.
    """

    def __init__(self, device: torch.device, tiers: Sequence[Tier], dtype: torch.dtype | None = None) -> None:
        self._device, self._tiers, self._dtype = device, list(tiers), dtype
        self._made_as: torch.dtype | None = None
        self.forgotten: set[int] = set()

    def get(self, frame: int) -> Features | None:
        """What was put for a frame, on the device; None when it is not there (any more)."""
        for tier in self._tiers:
            kept = tier.take(frame)
            if kept is not None:
                ready = tuple(feature.to(self._device, non_blocking=True) for feature in kept)
                self._sink(frame, ready)
                return tuple(feature.to(self._made_as) for feature in ready)
        return None

    def put(self, frame: int, features: Features) -> Features:
        """Keeps a frame's features; returns them as `get` will return them.

        With a narrower `dtype` both are rounded, so that it makes no difference whether a frame was kept.
        """
        self._made_as = features[0].dtype
        kept = features if self._dtype is None else tuple(feature.to(self._dtype) for feature in features)
        self.forgotten.discard(frame)
        self._sink(frame, kept)
        return tuple(feature.to(self._made_as) for feature in kept)

    def release_before(self, before: int) -> None:
        """Drops every frame below `before`."""
        for tier in self._tiers:
            for frame in tier.frames():
                if frame < before:
                    tier.take(frame)
        self.forgotten = {frame for frame in self.forgotten if frame >= before}

    def spare_device(self) -> bool:
        """Halves the first tier for good, when there is a second that can take what falls out of it: the device needs
        the room for something else. False when there is nothing to move."""
        if len(self._tiers) < 2 or not self._tiers[0].used:
            return False
        first = self._tiers[0]
        first.limit = first.used // 2
        for frame in first.frames():
            if first.used <= first.limit:
                break
            kept = first.take(frame)
            if kept is not None:
                self._sink(frame, kept, first=1)
        return True

    def __contains__(self, frame: int) -> bool:
        return any(frame in tier.frames() for tier in self._tiers)

    @property
    def frames(self) -> list[int]:
        """Frames that are kept in any tier, ascending."""
        return sorted(frame for tier in self._tiers for frame in tier.frames())

    @property
    def used(self) -> list[int]:
        """Bytes by tier."""
        return [tier.used for tier in self._tiers]

    def close(self) -> None:
        """Forgets everything, removes temporary files."""
        for tier in self._tiers:
            tier.close()

    def _sink(self, frame: int, features: Features, first: int = 0) -> None:
        falling = [(frame, features)]
        for tier in self._tiers[first:]:
            falling = [pair for one in falling for pair in tier.put(*one)]
        self.forgotten.update(frame for frame, _ in falling)


def size_of(features: Features) -> int:
    """Bytes."""
    return sum(feature.nbytes for feature in features)
