"""`RunWarning`: something that a run did differently from what was asked, and recorded.

`Remarks`: what a run did differently from what was asked, and what it left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class RunWarning:
    """A fallback or an omission; ends up in the manifest of the run.

    Attributes:
        stage: where it happened: `candidates`, `frames`, `track`, `compare`, …
        level: granularity level; None when the whole run is meant.
        code: machine-readable kind, kebab-case: `candidate-skipped`, `base-image-missing`, …
        message: one line for a person.
        details: further JSON values.
    """

    stage: str
    level: int | None
    code: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The record as the manifest holds it."""
        return {
            "stage": self.stage,
            "level": self.level,
            "code": self.code,
            "message": self.message,
            **self.details,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> RunWarning:
        """The record back from what `to_json` gave.

        Raises:
            KeyError: a part of it is missing.
        """
        details = {key: value for key, value in record.items() if key not in ("stage", "level", "code", "message")}
        return cls(record["stage"], record["level"], record["code"], record["message"], details)


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
