"""`Settings`: the base of every class of settings that a person may change, and the one refusal of a wrong value.

Classes of settings are leaves: they import this module and, for the types of their fields, little else, so that the
command line can list them without loading the packages that they belong to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from trackweave.errors import SettingError, shortened, shortened_line

Cuts = Literal["detect", "ignore"]
"""What is done about hard cuts: found, and no track crosses one, or ignored."""


class Settings(BaseModel):
    """Frozen values of which each has a default, bounds and a description; an unknown name or NaN is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        """Named settings to start from, the defaults first; empty for most classes."""
        return {}

    @classmethod
    def checked(cls, values: Mapping[str, object] | Settings | None = None, /, **more: Any) -> Self:
        """The settings with these values.

        What settings that are given as `values` took from a default or a preset counts as not set in the new ones
        either: `model_fields_set` has only what was asked for.

        >>> class Blur(Settings):
        ...     radius: int = 3
        >>> Blur.checked(radius=5)
        Blur(radius=5)
        >>> Blur.checked(radios=5)
        Traceback (most recent call last):
        trackweave.errors.SettingError: there is no setting radios; did you mean radius?

        Raises:
            SettingError: an unknown name (the nearest known one is named), or a value that does not fit; one line.
        """
        try:
            return (
                cls.based_on(values, more) if isinstance(values, cls) else cls.model_validate(dict(values or {}) | more)
            )
        except ValidationError as error:
            raise SettingError(first_problem(error, cls.model_fields).text()) from None

    @classmethod
    def based_on(cls, base: Settings, changes: Mapping[str, object]) -> Self:
        """Settings with some values changed; of the others `model_fields_set` has those that it has of `base`.

        Raises:
            ValidationError: a value that does not fit.
        """
        whole = cls.model_validate({**base.model_dump(), **changes})
        return cls.model_construct(base.model_fields_set | set(changes), **dict(whole))


LONGEST_NAME = 100
"""Characters of a setting's name that are looked at, and shown, when there is no such setting."""


class Problem(NamedTuple):
    """Why settings were refused.

    Attributes:
        name: the setting, with dots to what is inside it; empty when single values fit, but not together.
        message: what its value should be, and what it is.
        is_unknown: there is no such setting: `message` says everything.
    """

    name: str
    message: str
    is_unknown: bool

    def text(self, prefix: str = "") -> str:
        """The line to show, with `prefix` before the setting's name."""
        if self.is_unknown or not self.name:
            return self.message
        return f"{prefix}{shortened_line(self.name, LONGEST_NAME)}: {self.message}"


def first_problem(error: ValidationError, known: Iterable[str] = ()) -> Problem:
    """The first of pydantic's complaints in the words of this project.

    Args:
        error: what pydantic raised.
        known: the names that there are, to suggest the nearest of them for an unknown one.
    """
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        near = nearest(name, known)
        shown = shortened_line(name, LONGEST_NAME)
        return Problem(name, f"there is no setting {shown}" + (f"; did you mean {near}?" if near else ""), True)
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("json_invalid", "missing"):  # the input is the whole text or mapping
        return Problem(name, shortened_line(reason), False)
    return Problem(name, f"{shortened_line(reason)}, not {shortened(first['input'])}", False)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one; None when none is.

    >>> nearest("lost_second", ["lost_seconds", "min_length"])
    'lost_seconds'
    """
    return next(iter(get_close_matches(name[:LONGEST_NAME], list(known), n=1)), None)
