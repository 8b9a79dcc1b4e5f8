"""`RunWarning` and `RunLog`: what a run did differently from what was asked, and what it left out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trackweave.errors import InputError, TrackweaveError, shortened_line, wording

LONGEST_MESSAGE = 1000
"""Characters of a warning that are kept."""


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", shortened_line(self.message, LONGEST_MESSAGE))

    def to_json(self) -> dict[str, object]:
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
"""What an item of the input does that cannot be used: end the run, or be left out and counted."""


@dataclass
class RunLog:
    """Warnings and omissions of a run, as they come; its summary and its manifest hold them in the end.

    Each warning also goes to the standard `logging`, as `trackweave.PACKAGE`.

    Attributes:
        on_bad_item: `error` raises at the first item that cannot be used, `skip` leaves it out.
        package: whose logger speaks; None = nobody's, where another log takes the warnings over.
        warnings: in the order they came.
        skipped: how many items were left out, by code.
    """

    on_bad_item: OnBadItem = "error"
    package: str | None = "pipelines"
    warnings: list[RunWarning] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.on_bad_item not in ("error", "skip"):
            raise ValueError(f"on_bad_item is 'error' or 'skip', not {self.on_bad_item!r}")

    def warn(self, stage: str, code: str, message: str, *, level: int | None = None, **details: object) -> None:
        """Adds a warning; see `RunWarning` for its parts."""
        self._add(RunWarning(stage, level, code, message, details))

    def skip(
        self,
        code: str,
        message: str,
        count: int = 1,
        *,
        stage: str = "frames",
        level: int | None = None,
        error: type[TrackweaveError] = InputError,
        each: bool = False,
        harmless: bool = False,
    ) -> None:
        """Leaves items of the input out, or raises, as `on_bad_item` says.

        Args:
            code: the kind, kebab-case.
            message: place and cause of the first of them, one line.
            count: how many.
            stage: where it happened.
            level: granularity level; None when the whole run is meant.
            error: what is raised.
            each: every message becomes a warning, once; else only the first of a code.
            harmless: nothing is lost without them (a row that says again what another said): never an error.
        """
        if self.on_bad_item == "error" and not harmless:
            raise error(f"{message} ({wording('on_bad_item=skip', '--on-bad-item skip')} leaves it out)")
        if each:
            known = any(warning.code == code and warning.message == message for warning in self.warnings)
            if known:  # a file is read more than once: checked, tracked, drawn
                return
        if each or not self.skipped[code]:
            self._add(RunWarning(stage, level, code, message))
        self.skipped[code] += count

    def merge(self, warnings: Iterable[RunWarning]) -> None:
        """Adds the warnings of another log; those that count what was left out are counted."""
        for warning in warnings:
            self._add(warning)
            if "count" in warning.details:
                self.skipped[str(warning.details.get("reason", warning.code))] += int(warning.details["count"])

    def _add(self, warning: RunWarning) -> None:
        self.warnings.append(warning)
        if self.package is not None:
            logging.getLogger(f"trackweave.{self.package}").warning("%s", warning.message)
