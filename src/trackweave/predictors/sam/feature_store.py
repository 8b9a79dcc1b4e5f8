"""`FeatureStore`: each frame's features once per run, in tiers of bounded size.

The least recently used features move from the device to main memory, from there to temporary files, and are dropped by
the last tier. What is found in a lower tier moves back to the first one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from trackweave.predictors.sam.model import Features
from trackweave.storage.scratch import ScratchFile


class Tier(Protocol):
    """One kind of memory for features, with a limit in bytes."""

    limit: int

    @property
    def used(self) -> int:
        """Bytes in it."""

    def put(self, frame: int, features: Features) -> list[tuple[int, Features]]:
        """Keeps features; returns what does not fit any more, oldest first (that may be the new ones themselves)."""

    def pop(self, frame: int) -> Features | None:
        """Removes and returns the features of a frame, or None."""

    def frames(self) -> list[int]:
        """Frames in this tier, oldest first."""

    def close(self) -> None:
        """Drops everything."""


class MemoryTier:
    """Features on one device.

    Args:
        device: where they are kept.
        limit: bytes.
    """

    def __init__(self, device: torch.device, limit: int) -> None:
        self.device, self.limit = device, limit
        self.used = 0
        self._features: OrderedDict[int, Features] = OrderedDict()

    def put(self, frame: int, features: Features) -> list[tuple[int, Features]]:
        """See `Tier`."""
        size = size_of(features)
        if size > self.limit:
            return [(frame, features)]
        evicted = []
        while self.used + size > self.limit:
            oldest, oldest_features = self._features.popitem(last=False)
            self.used -= size_of(oldest_features)
            evicted.append((oldest, oldest_features))
        self._features[frame] = tuple(feature.to(self.device) for feature in features)
        self.used += size
        return evicted

    def pop(self, frame: int) -> Features | None:
        """See `Tier`."""
        features = self._features.pop(frame, None)
        if features is not None:
            self.used -= size_of(features)
        return features

    def frames(self) -> list[int]:
        """See `Tier`."""
        return list(self._features)

    def close(self) -> None:
        """See `Tier`."""
        self._features.clear()
        self.used = 0


class DiskTier:
    """Features in a temporary file."""

    def __init__(self, limit: int, folder: Path | None = None) -> None:
        self.limit = limit
        self._file = ScratchFile(limit, folder)
        self._layouts: dict[int, list[tuple[torch.dtype, torch.Size]]] = {}

    @property
    def used(self) -> int:
        """Bytes on disk."""
        return self._file.used

    def put(self, frame: int, features: Features) -> list[tuple[int, Features]]:
        """See `Tier`; what does not fit any more is removed unread: it is not in the result."""
        rows = [feature.cpu().contiguous().reshape(-1).view(torch.uint8) for feature in features]
        if not self._file.put(frame, [row.numpy().data for row in rows]):
            return [(frame, features)]
        self._layouts[frame] = [(feature.dtype, feature.shape) for feature in features]
        return []

    def pop(self, frame: int) -> Features | None:
        """See `Tier`."""
        content = self._file.get(frame)
        if content is None:
            return None
        self._file.drop(frame)
        features, offset = [], 0
        for dtype, shape in self._layouts.pop(frame):
            feature = torch.frombuffer(content, dtype=dtype, count=shape.numel(), offset=offset).reshape(shape)
            features.append(feature)
            offset += feature.nbytes
        return tuple(features)

    def frames(self) -> list[int]:
        """See `Tier`."""
        return [frame for frame in self._file.kept if isinstance(frame, int)]

    def close(self) -> None:
        """See `Tier`."""
        self._file.close()


class FeatureStore:
    """Features by frame over a chain of tiers.

    Args:
        device: where features are used.
        tiers: fastest first; empty = nothing is kept.
        dtype: how features are kept; None = as they come.

    Attributes:
        evicted: frames that the last tier dropped and that may be visited again, until they are put again.
    """

    def __init__(self, device: torch.device, tiers: Sequence[Tier], dtype: torch.dtype | None = None) -> None:
        self._device, self._tiers, self._dtype = device, list(tiers), dtype
        self._original_dtype: torch.dtype | None = None
        self.evicted: set[int] = set()

    def get(self, frame: int) -> Features | None:
        """The features of a frame, on the device; None when they are not there (any more)."""
        for tier in self._tiers:
            stored = tier.pop(frame)
            if stored is not None:
                features = tuple(feature.to(self._device, non_blocking=True) for feature in stored)
                self._insert(frame, features)
                return tuple(feature.to(self._original_dtype) for feature in features)
        return None

    def put(self, frame: int, features: Features) -> Features:
        """Keeps a frame's features; returns them as `get` will return them.

        With a narrower `dtype` both are rounded, so that results do not depend on whether a frame was kept.
        """
        self._original_dtype = features[0].dtype
        stored = features if self._dtype is None else tuple(feature.to(self._dtype) for feature in features)
        self.evicted.discard(frame)
        self._insert(frame, stored)
        return tuple(feature.to(self._original_dtype) for feature in stored)

    def release_before(self, before: int) -> None:
        """Drops every frame below `before`."""
        for tier in self._tiers:
            for frame in tier.frames():
                if frame < before:
                    tier.pop(frame)
        self.evicted = {frame for frame in self.evicted if frame >= before}

    def shrink_device_tier(self) -> bool:
        """Halves the first tier for good, since the device needs the memory for something else, and moves what does not
        fit any more to the second tier. False when there is no second tier or nothing to move."""
        if len(self._tiers) < 2 or not self._tiers[0].used:
            return False
        first = self._tiers[0]
        first.limit = first.used // 2
        for frame in first.frames():
            if first.used <= first.limit:
                break
            features = first.pop(frame)
            if features is not None:
                self._insert(frame, features, tier=1)
        return True

    def __contains__(self, frame: int) -> bool:
        return any(frame in tier.frames() for tier in self._tiers)

    @property
    def frames(self) -> list[int]:
        """Frames in any tier, ascending."""
        return sorted(frame for tier in self._tiers for frame in tier.frames())

    @property
    def used(self) -> list[int]:
        """Bytes by tier."""
        return [tier.used for tier in self._tiers]

    def close(self) -> None:
        """Drops everything, removes temporary files."""
        for tier in self._tiers:
            tier.close()

    def _insert(self, frame: int, features: Features, tier: int = 0) -> None:
        """Puts features into a tier, what it evicts into the next one, and so on."""
        evicted = [(frame, features)]
        for lower in self._tiers[tier:]:
            evicted = [pair for one in evicted for pair in lower.put(*one)]
        self.evicted.update(frame for frame, _ in evicted)


def size_of(features: Features) -> int:
    """Bytes."""
    return sum(feature.nbytes for feature in features)
