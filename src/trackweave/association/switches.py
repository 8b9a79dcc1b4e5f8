"""Identity switches of logged runs: what the tracker suspected against what the ground truth says."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from trackweave.storage.samples import AssociationSample

WINDOWS = (0, 10)
"""Frames by which a suspicion may miss the true switch and still count as seen."""


@dataclass(frozen=True)
class SwitchAgreement:
    """Frames with suspected switches against frames with true ones.

    Attributes:
        window: frames by which they may differ.
        suspected: frames on which the tracker suspected a switch.
        true: frames on which one happened.
        suspected_right: suspected frames with a true one within the window.
        true_found: true frames with a suspected one within the window.
    """

    window: int
    suspected: int = 0
    true: int = 0
    suspected_right: int = 0
    true_found: int = 0

    @property
    def precision(self) -> float | None:
        """Share of the suspicions that were right; None when there were none."""
        return self.suspected_right / self.suspected if self.suspected else None

    @property
    def recall(self) -> float | None:
        """Share of the true switches that were suspected; None when there were none."""
        return self.true_found / self.true if self.true else None

    def __add__(self, other: SwitchAgreement) -> SwitchAgreement:
        return SwitchAgreement(
            self.window,
            self.suspected + other.suspected,
            self.true + other.true,
            self.suspected_right + other.suspected_right,
            self.true_found + other.true_found,
        )


@dataclass
class RunSwitches:
    """Follows the samples of one run in their order; memory grows with identities and switches, not with frames.

    A true switch is counted as CLEAR MOT does: a true identity is tracked under another id than the last time it was
    tracked (Bernardin and Stiefelhagen 2008). Frames that were not logged are not seen.

    Attributes:
        last_frame: of the samples so far, −1 before the first.
        estimated: `est_id_switches` of the last sample.
        true: true switches so far.
        has_truth: whether samples had ground truth.
    """

    last_frame: int = -1
    estimated: int = 0
    true: int = 0
    has_truth: bool = False
    _suspect_frames: list[int] = field(default_factory=list)
    _true_frames: list[int] = field(default_factory=list)
    _last_track: dict[int, int] = field(default_factory=dict)

    def add(self, sample: AssociationSample) -> None:
        """Takes the next sample."""
        diagnostics = sample.metadata.diagnostics
        if diagnostics.suspect_tracks or diagnostics.est_id_switches > self.estimated:
            self._suspect_frames.append(sample.frame_idx)
        self.estimated = diagnostics.est_id_switches
        self.last_frame = sample.frame_idx
        if sample.gt_track_ids is not None:
            self.has_truth = True
            switches = self._true_switches(sample.gt_track_ids.tolist(), sample.assigned_track_ids.tolist())
            self.true += switches
            if switches:
                self._true_frames.append(sample.frame_idx)

    def _true_switches(self, identities: list[int], tracks: list[int]) -> int:
        switches = 0
        for identity, track in zip(identities, tracks, strict=True):
            if identity >= 0 and track >= 0:
                switches += self._last_track.get(identity, track) != track
                self._last_track[identity] = track
        return switches

    def agreement(self, window: int) -> SwitchAgreement:
        """Suspicions against the truth."""
        return SwitchAgreement(
            window,
            len(self._suspect_frames),
            len(self._true_frames),
            _near(self._suspect_frames, self._true_frames, window),
            _near(self._true_frames, self._suspect_frames, window),
        )


def _near(frames: list[int], others: list[int], window: int) -> int:
    """How many frames have one of the others within the window."""
    at, there = np.array(frames, np.int64), np.array(others, np.int64)
    first, behind = np.searchsorted(there, at - window, "left"), np.searchsorted(there, at + window, "right")
    return int((behind > first).sum())
