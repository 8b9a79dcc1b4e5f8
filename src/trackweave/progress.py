"""Progress displays, durations by stage, and peak memory."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self, TextIO

Progress = bool | Callable[[int, int, str], None] | None
"""How a job shows its progress: None = by itself, in a terminal or a notebook; True = always; False = never;
or a function that is called with `(done, total, label)` after each step, where the total is what is known so far."""


class ProgressDisplay(Protocol):
    """What a job reports its progress to; see `open_progress`."""

    def update(self, index: int, abs_frame: int) -> None:
        """Step `index` (1-based) is done; it was absolute frame `abs_frame`."""

    def expect(self, total: int, *, is_known: bool = True) -> None:
        """There will be so many steps in all, as far as that is known."""

    def close(self) -> None:
        """The job is over, or has failed. A second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_progress(progress: Progress, total: int, label: str, unit: str = "") -> ProgressDisplay:
    """The display that `progress` asks for, over `total` steps; close it, or use it in a `with` block."""
    if callable(progress):
        return _CallbackDisplay(progress, total, label)
    is_shown = progress if progress is not None else standard_error().isatty() or _in_notebook()
    return ProgressPrinter(total, label, unit=unit) if is_shown else _CallbackDisplay(None, total, label)


def standard_error() -> TextIO:
    """Standard error; where it is closed, as in daemons, what is written is lost."""
    return sys.stderr if sys.stderr is not None else io.StringIO()


def _in_notebook() -> bool:
    """Is this a kernel of Jupyter?"""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


class _Closing:
    """A `with` block that closes."""

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _CallbackDisplay(_Closing):
    """Calls a function after each step, or shows nothing."""

    def __init__(self, callback: Callable[[int, int, str], None] | None, total: int, label: str) -> None:
        self._callback, self._total, self._label = callback, total, label

    def update(self, index: int, abs_frame: int) -> None:
        """See `ProgressDisplay`."""
        if self._callback is not None:
            self._callback(index, self._total, self._label)

    def expect(self, total: int, *, is_known: bool = True) -> None:
        """See `ProgressDisplay`."""
        self._total = total


_FIRST_WORD_S, _LONGEST_SILENCE_S = 3.0, 60.0
"""Elsewhere than in a terminal: seconds until the first line, and at most between two; each wait is twice the last."""


class ProgressPrinter(_Closing):
    """Progress over steps: a live bar in a terminal or a notebook; elsewhere a line now and then, and one when closed.

    The bar shows what is done of how much, the time taken, and what the rest takes at the speed of the last half
    minute; `~` stands before a total that is an estimate.

    Args:
        total: number of steps; None: not known, as of a live source.
        label: what is being done.
        stream: where to print; None = standard error.
        unit: what a step is, in plural; empty: need not be said.
    """

    def __init__(
        self, total: int | None, label: str = "tracking", stream: TextIO | None = None, *, unit: str = ""
    ) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._stream = stream if stream is not None else standard_error()
        self._label, self._unit = label, unit and f" {unit}"
        self._total = None if total is None else max(int(total), 0)
        self._is_known = True
        self._done = 0
        self._started = time.perf_counter()
        self._silence, self._next_word = _FIRST_WORD_S, self._started + _FIRST_WORD_S
        self._closed = False
        self._bar: Progress | None = None
        if self._stream.isatty() or (stream is None and _in_notebook()):
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[steps]}"),
                TextColumn("{task.fields[where]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(file=self._stream))
            self._task = self._bar.add_task(label, total=self._total, where="", steps=self._steps)
            self._bar.start()

    @property
    def _steps(self) -> str:
        if self._total is None:
            return f"{self._done}{self._unit}"
        about = "" if self._is_known else "~"
        return f"{self._done}/{about}{self._total}{self._unit}"

    def update(self, index: int, abs_frame: int) -> None:
        """Step `index` (1-based) of `total` is done; it was absolute frame `abs_frame`."""
        self._done = max(self._done, index)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, where=f"frame {abs_frame}", steps=self._steps)
        elif (now := time.perf_counter()) >= self._next_word:
            self._silence = min(2 * self._silence, _LONGEST_SILENCE_S)
            self._next_word = now + self._silence
            self._stream.write(f"{self._label}: {self._steps} after {now - self._started:.0f} s\n")

    def expect(self, total: int, *, is_known: bool = True) -> None:
        """There will be so many steps in all; shown with the next `update`."""
        self._total, self._is_known = max(int(total), 0), is_known
        if self._bar is not None:
            self._bar.update(self._task, total=self._total)

    def close(self) -> None:
        """Ends the line, so that the next output starts on its own. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._bar is not None:
            self._bar.stop()
            return
        taken = format_duration_precise(time.perf_counter() - self._started)
        self._stream.write(f"{self._label}: {self._steps} in {taken}\n")


class _TimingSection:
    """Adds the time spent inside a `with` block to a stage, also when the block fails."""

    def __init__(self, owner: TimingAggregator, stage: str) -> None:
        self._owner = owner
        self._stage = stage
        self._started = 0.0

    def __enter__(self) -> _TimingSection:
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owner.add(self._stage, time.perf_counter() - self._started)


class TimingAggregator:
    """Seconds by stage in order of first use; dots nest (`track.predictor` is part of `track`).

    >>> timer = TimingAggregator()
    >>> timer.add("track.predictor", 2.0); timer.add("track.filter", 0.5); timer.add("persist", 1.0)
    >>> timer.total_prefix("track"), timer.total_all()
    (2.5, 3.5)
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def add(self, stage: str, duration: float) -> None:
        """Adds seconds to a stage."""
        self._seconds[stage] = self._seconds.get(stage, 0.0) + float(duration)

    def track(self, stage: str) -> _TimingSection:
        """A `with` block whose duration goes to `stage`."""
        return _TimingSection(self, stage)

    def total(self, stage: str) -> float:
        """Seconds of exactly this stage; 0 for an unknown one."""
        return self._seconds.get(stage, 0.0)

    def total_prefix(self, prefix: str) -> float:
        """Seconds of a stage and of everything nested below it."""
        below = f"{prefix.rstrip('.')}."
        return sum(seconds for stage, seconds in self._seconds.items() if f"{stage}.".startswith(below))

    def total_all(self) -> float:
        """Seconds of all stages."""
        return sum(self._seconds.values())

    def items(self) -> Iterator[tuple[str, float]]:
        """`(stage, seconds)` in order of first use."""
        return iter(self._seconds.items())

    def merge(self, other: TimingAggregator) -> None:
        """Adds another's seconds; its new stages come last."""
        for stage, seconds in other.items():
            self.add(stage, seconds)

    def format_breakdown(self) -> str:
        """One line: every stage with its time and share."""
        total = self.total_all()
        if not total:
            return "no time recorded"
        parts = [
            f"{stage} {format_duration_precise(seconds)} ({seconds / total:.0%})" for stage, seconds in self.items()
        ]
        return f"{format_duration_precise(total)}: " + ", ".join(parts)


def format_duration_precise(seconds: float) -> str:
    """A duration for a log.

    >>> format_duration_precise(0.0421), format_duration_precise(62.5), format_duration_precise(3725)
    ('0.042s', '1m 02.50s', '1h 02m 05.00s')
    """
    if seconds < 0:
        return "-" + format_duration_precise(-seconds)
    if seconds < 60:
        text = f"{seconds:.3f}s"
        if text != "60.000s":
            return text
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    tail = f"{minutes:02d}m {rest / 100:05.2f}s"
    return f"{hours}h {tail}" if hours else tail.lstrip("0") if minutes else f"0m {rest / 100:05.2f}s"


def peak_rss_mb() -> float | None:
    """Largest resident set of this process so far, in MB (10⁶ bytes, one decimal); None on Windows."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)
