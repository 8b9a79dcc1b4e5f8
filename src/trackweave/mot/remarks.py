"""`Remarks`: what a run did differently from what was asked, and what it left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from trackweave.structures.warning import RunWarning

OnBadItem = Literal["error", "skip"]


@dataclass
class Remarks:
    """Grows during a run, and ends up in its summary and manifest.

    Attributes:
        on_bad_item: `error` or `skip`.
        warnings: in the order they came.
        skipped: what was left out, by reason.
    """

    on_bad_item: OnBadItem = "error"
    warnings: list[RunWarning] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def warn(self, stage: str, code: str, message: str) -> None:
        """Adds a warning of the whole run."""
        self.warnings.append(RunWarning(stage, None, code, message))

    def take(self, warnings: Iterable[RunWarning]) -> None:
        """Adds warnings of others; those that count what was left out are counted."""
        for warning in warnings:
            self.warnings.append(warning)
            if "count" in warning.details:
                self.skipped[str(warning.details.get("reason", warning.code))] += int(warning.details["count"])

    def skip(self, reason: str, message: str, count: int = 1) -> None:
        """Counts what was left out; the first of a kind becomes a warning."""
        if not self.skipped[reason]:
            self.warn("frames", reason, message)
        self.skipped[reason] += count
