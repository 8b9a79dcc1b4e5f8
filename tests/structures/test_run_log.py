from __future__ import annotations

from trackweave.structures.run_log import RunWarning


def test_details_lie_beside_the_named_keys() -> None:
    warning = RunWarning("frames", None, "frame-missing", "no frame 3", {"frames": [3]})
    assert warning.to_json() == {
        "stage": "frames",
        "level": None,
        "code": "frame-missing",
        "message": "no frame 3",
        "frames": [3],
    }
