from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from tests.association.toy import toy_state


def test_states_cannot_be_changed_but_replaced() -> None:
    state = toy_state(3)
    with pytest.raises(FrozenInstanceError):
        state.cost = np.zeros((3, 4))
    other = replace(state, assigned_track_ids=np.array([-1, -1, 10, -1]))
    assert state.assigned_track_ids.tolist() == [10, 11, 12, -1]
    assert other.assigned_track_ids.tolist() == [-1, -1, 10, -1]
    assert other.cost is state.cost


def test_nothing_is_measured_by_default() -> None:
    state = toy_state(3)
    assert (state.est_id_switches, state.est_id_switches_frame) == (None, None)
    assert state.suspect_tracks is None


def test_states_compare_by_identity() -> None:
    """Arrays have no single truth: comparing two states must not try."""
    assert toy_state(3) != toy_state(3)
    assert len({toy_state(3), toy_state(3)}) == 2
