"""`JsonRecord`: settings of the simulator that go to JSON text and come back."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trackweave.errors import InputError


class JsonRecord(BaseModel):
    """A frozen record of finite values.

    Attributes:
        noun: what it is, for messages without a file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    noun: ClassVar[str]

    def to_json(self) -> str:
        """The record as JSON text."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str | None = None) -> Self:
        """Reads what `to_json` wrote; what is missing has its default.

        Raises:
            InputError: no JSON object, an unknown field or a value out of range; the message names `source`.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(f"{source or cls.noun}: {f'{where}: ' if where else ''}{first['msg']}") from None


class SequenceSettings(JsonRecord):
    """What the settings of every simulated sequence tell."""

    frames: int = Field(default=300, ge=1, le=100_000, description="length of the sequence, skipped frames included")
