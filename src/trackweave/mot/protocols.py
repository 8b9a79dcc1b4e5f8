"""What a box tracker calls: protocols that other rooms satisfy without importing this one."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trackweave.structures.assignment import AssignmentState


class AssociationScorer(Protocol):
    """Judges pairs of tracks and detections; its judgement is blended with the classical cost inside the gates."""

    def cost(self, state: AssignmentState) -> NDArray[np.float32]:
        """`(T, D)` float32, lower is better, 1 as bad as no match; NaN: no opinion. Entries that `state.allowed` rules
        out are not read.

        `state.assigned_track_ids` is all −1 here: the assignment is still to come.
        """
        ...

    def observe(self, state: AssignmentState) -> None:
        """The frame's decisions, so that a scorer with a memory can follow; called on every frame, also on those
        that had nothing to judge."""
        ...

    def reset(self) -> None:
        """Forgets everything: another video begins."""
        ...


class AssignmentObserver(Protocol):
    """Looks on: is shown every frame's state after the decisions were made."""

    def observe(self, state: AssignmentState) -> None:
        """Takes one frame; the arrays are its to keep. Must not be slow: the tracker waits."""
        ...
