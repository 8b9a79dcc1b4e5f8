"""`RunWarning`: something that a run did differently from what was asked, and recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
