from __future__ import annotations

from typing import Any

import numpy as np

from tests.association.toy import toy_sample
from trackweave.association.inspection import RunSwitches
from trackweave.storage.samples import SampleDiagnostics, SampleMetadata


def frame(index: int, tracks: list[int], truth: list[int] | None, estimated: int = 0, *suspects: int) -> Any:
    return toy_sample(
        index,
        detections=len(tracks),
        assigned_track_ids=np.array(tracks),
        gt_track_ids=None if truth is None else np.array(truth),
        metadata=SampleMetadata(sequence="toy", diagnostics=SampleDiagnostics(estimated, suspects)),
    )


def follow(*samples: Any) -> RunSwitches:
    run = RunSwitches()
    for sample in samples:
        run.add(sample)
    return run


def test_switches_of_a_toy_sequence() -> None:
    """Identities 1 and 2 by frame::

    frame  0  1  2  3  4  5
    1      a  a  b  b  -  b     an exchange on frame 2: two switches
    2      b  b  a  a  a  c     a fragmentation on frame 5: one
    """
    a, b, c = 10, 11, 12
    run = follow(
        frame(0, [a, b], [1, 2]),
        frame(1, [a, b], [1, 2]),
        frame(2, [b, a], [1, 2]),
        frame(3, [a, b], [2, 1], 2),  # suspected one frame late, and in another order
        frame(4, [a], [2], 2),
        frame(5, [c, b], [2, 1], 3, c),
    )
    assert (run.true, run.estimated, run.last_frame) == (3, 3, 5)
    exact, near = run.agreement(0), run.agreement(1)
    assert (exact.suspected, exact.true, exact.suspected_right, exact.true_found) == (2, 2, 1, 1)
    assert (exact.precision, exact.recall) == (0.5, 0.5)
    assert (near.precision, near.recall) == (1, 1)
    total = exact + exact
    assert (total.suspected, total.true_found, total.window) == (4, 2, 0)


def test_detections_without_identity_or_track_do_not_count() -> None:
    run = follow(
        frame(0, [10, 11], [1, 2]), frame(1, [12, -1], [-1, 2]), frame(2, [-1, 13], [1, -1]), frame(3, [10], [1])
    )
    assert run.true == 0


def test_without_ground_truth_recall_is_none() -> None:
    run = follow(frame(0, [10], None, 1))
    assert not run.has_truth
    agreement = run.agreement(10)
    assert (agreement.suspected, agreement.precision, agreement.recall) == (1, 0, None)
    assert follow().agreement(0).precision is None
