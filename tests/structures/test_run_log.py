from __future__ import annotations

import pytest

from trackweave.errors import CandidateError
from trackweave.structures.run_log import RunLog, RunWarning


def test_details_lie_beside_the_named_keys() -> None:
    warning = RunWarning("frames", None, "frame-missing", "no frame 3", {"frames": [3]})
    assert warning.to_json() == {
        "stage": "frames",
        "level": None,
        "code": "frame-missing",
        "message": "no frame 3",
        "frames": [3],
    }


def test_a_message_is_one_short_line_without_control_characters() -> None:
    warning = RunWarning("frames", None, "odd", "name\x1b[31m\nof a frame" + "x" * 90_000)
    assert warning.message.startswith("name\\x1b[31m of a frame")
    assert len(warning.message) < 1010


def test_a_log_counts_what_is_left_out_and_warns_once_of_a_kind() -> None:
    log = RunLog("skip")
    log.skip("bad-row", "line 3: no box", 2)
    log.skip("bad-row", "line 9: no box")
    assert log.skipped == {"bad-row": 3}
    assert [warning.message for warning in log.warnings] == ["line 3: no box"]


def test_a_log_keeps_each_message_once_when_asked() -> None:
    log = RunLog("skip")
    for message in ("item 1", "item 2", "item 1"):
        log.skip("candidate-skipped", message, stage="candidates", level=2, each=True)
    assert [(warning.level, warning.message) for warning in log.warnings] == [(2, "item 1"), (2, "item 2")]
    assert log.skipped == {"candidate-skipped": 2}


def test_a_log_raises_where_bad_items_are_errors() -> None:
    log = RunLog("error")
    with pytest.raises(CandidateError, match=r"item 1 \(on_bad_item=skip leaves it out\)"):
        log.skip("candidate-skipped", "item 1", error=CandidateError)
    log.skip("twice", "line 4 again", harmless=True)
    assert log.skipped == {"twice": 1}
    with pytest.raises(ValueError, match="'error' or 'skip', not 'perhaps'"):
        RunLog("perhaps")  # type: ignore[arg-type]


def test_merging_counts_what_others_left_out() -> None:
    log = RunLog("skip")
    log.merge([RunWarning("frames", None, "frames-skipped", "3 left out", {"count": 3, "reason": "unreadable"})])
    log.warn("predictor", "fallback", "CPU instead of CUDA", level=4, device="cpu")
    assert log.skipped == {"unreadable": 3}
    assert log.warnings[-1].to_json()["device"] == "cpu"


def test_a_log_speaks_through_logging(caplog: pytest.LogCaptureFixture) -> None:
    RunLog(package="tracking").warn("track", "slow", "one frame takes 9 s")
    assert [(record.name, record.message) for record in caplog.records] == [
        ("trackweave.tracking", "one frame takes 9 s")
    ]
