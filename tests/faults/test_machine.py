"""A short part of `make faults`: kills, full disks, too few descriptors, signals, a second process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="its faults are Linux's")
ROOT = Path(__file__).parents[2]

QUICK = (
    ("kill at an operation", "kill at a moment", "disk full at an operation", "disk full in a write"),
    ("few descriptors", "two processes", "signals"),
)


@pytest.mark.parametrize("cases", QUICK, ids=["kills and full disks", "descriptors, signals, two processes"])
def test_a_run_that_meets_a_fault_goes_on_to_the_same_files(cases: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "tests.faults.machine", *cases, "--rounds", "2", "--seed", "5"]
    command += ["--job", "masks", "--job", "export mot"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stderr[-3000:]}\n{done.stdout[-2000:]}"
    assert "0 faults" in done.stdout


def test_the_bench_sees_what_it_looks_for(tmp_path: Path) -> None:
    """Half files, a traceback, two lines of reason, and a hang are faults."""
    from tests.faults.machine import half_files, leftovers, unclean
    from tests.faults.processes import Ended, forked

    for name, content in {"a.json": b'{"a"', "b.npz": b"PK\3\4", "c.txt": b"1,2", "d.html": b"<html>"}.items():
        (tmp_path / name).write_bytes(content)
    for name in ("a.json", "b.npz", "c.txt"):  # the first three are listed
        assert name in half_files(tmp_path)
    (tmp_path / ".x.1-0a.partial").write_bytes(b"")
    assert leftovers(tmp_path) == [".x.1-0a.partial"]
    assert unclean(Ended(0, "", "", 1)) == ""
    assert unclean(Ended(1, "", "error: a reason", 1)) == ""
    assert unclean(Ended(-signal.SIGTERM, "", "", 1)) == ""
    assert unclean(Ended(1, "", "Traceback (most recent call last):\n", 1))
    assert unclean(Ended(1, "", "error: one\nerror: two", 1))
    assert unclean(Ended(1, "", "", 1))
    assert unclean(Ended(None, "", "", 1))
    assert forked(lambda: "said") == "said"
    assert "ZeroDivisionError" in forked(lambda: str(1 / 0))
