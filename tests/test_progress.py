"""Progress displays: who asks for one gets it, and nobody else."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from trackweave.association.training.train_assoc import TrainingDisplay
from trackweave.progress import ProgressPrinter, open_progress


def test_a_callback_is_called_every_step() -> None:
    steps: list[tuple[int, int, str]] = []
    with open_progress(lambda done, total, label: steps.append((done, total, label)), 2, "tracking") as display:
        display.update(1, 10)
        display.update(2, 20)
    assert steps == [(1, 2, "tracking"), (2, 2, "tracking")]


def test_without_a_terminal_nothing_is_shown_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    for progress in (None, False):
        with open_progress(progress, 2, "tracking") as display:
            display.update(2, 5)
    assert capsys.readouterr().err == ""
    with open_progress(True, 2, "tracking") as display:
        display.update(2, 5)
    assert capsys.readouterr().err.startswith("tracking: 2/2 in ")


def test_a_terminal_and_a_notebook_show_it_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = type("ZMQInteractiveShell", (), {})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=notebook))
    with open_progress(None, 2, "tracking") as display:
        assert isinstance(display, ProgressPrinter)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with open_progress(None, 2, "tracking") as display:
        assert isinstance(display, ProgressPrinter)


def test_elsewhere_than_in_a_terminal_a_line_comes_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("trackweave.progress.time.perf_counter", lambda: now)
    stream = io.StringIO()
    with ProgressPrinter(None, "tracking", stream, unit="frames") as display:
        for step in range(1, 41):
            now = float(step)
            if step == 30:
                display.expect(40, is_known=False)
            display.update(step, step - 1)
    assert stream.getvalue().splitlines() == [
        "tracking: 3 frames after 3 s",
        "tracking: 9 frames after 9 s",
        "tracking: 21 frames after 21 s",
        "tracking: 40/~40 frames in 40.000s",
    ]


def test_without_standard_error_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    for progress in (None, True, False):
        with open_progress(progress, 2, "tracking") as display:
            display.update(1, 0)
    with TrainingDisplay(2):
        pass
