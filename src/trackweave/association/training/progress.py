"""`TrainingDisplay`: a bar per epoch on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingDisplay:
    """Tells what a training does.

    Args:
        epochs: how many there will be.
        stream: where to print; None = standard error.
    """

    def __init__(self, epochs: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._epochs = epochs
        self._done = 0
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(file=self._stream)) if self._stream.isatty() else None
        self._task = None if self._bar is None else self._bar.add_task(self._label(), total=None)

    def _label(self) -> str:
        return f"epoch {min(self._done + 1, self._epochs)} of {self._epochs}"

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, done: int, total: int) -> None:
        """Of this epoch so many steps are done."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=self._label(), completed=done, total=total)

    def epoch(self, number: int, row: dict[str, Any]) -> None:
        """An epoch ended."""
        self._done = number
        text = (
            f"epoch {number} of {self._epochs}: loss {row['loss']:.4f}, validation {row['val_loss']:.4f}, "
            f"precision {row['precision']:.3f}, recall {row['recall']:.3f}, {row['frames_per_second']:.0f} frames/s"
        )
        if self._bar is not None:
            self._bar.console.print(text)
        else:
            print(text, file=self._stream, flush=True)
