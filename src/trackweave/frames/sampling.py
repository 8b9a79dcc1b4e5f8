"""Frame sampling, `start:end:step` in Python slice syntax."""

from __future__ import annotations

import operator

from trackweave.errors import SettingError


def parse_sampling(text: str) -> slice:
    """`"start:end:step"` as a slice; each part may be left out, start and end may be negative.

    >>> parse_sampling("10:-5:2")
    slice(10, -5, 2)
    >>> parse_sampling("::3")
    slice(None, None, 3)

    Raises:
        SettingError: not of this form, or a step below 1.
    """
    parts = [part.strip() for part in text.split(":")]
    try:
        numbers = [int(part) if part else None for part in parts]
    except ValueError:
        raise SettingError(f"sampling {text!r} is not start:end:step of whole numbers, as in '10:200:2'") from None
    if len(numbers) == 1:
        raise SettingError(f"sampling {text!r} has no colon: {_one_frame(numbers[0])}")
    if len(numbers) > 3:
        raise SettingError(f"sampling {text!r} has more than three parts: write start:end:step, as in '10:200:2'")
    sampling = slice(*numbers)
    _checked_step(sampling, text)
    return sampling


def sampled_positions(sampling: str | slice | None, count: int) -> range:
    """The positions that a sampling takes of `count` frames; None takes all.

    >>> sampled_positions("-4::2", 10)
    range(6, 10, 2)

    Raises:
        SettingError: a sampling that cannot be understood, steps below 1, or takes no frame.
    """
    if sampling is None:
        return range(count)
    if isinstance(sampling, str):
        text, sampling = sampling, parse_sampling(sampling)
    else:
        parts = (sampling.start, sampling.stop, sampling.step)
        text = ":".join("" if part is None else str(part) for part in parts)
        _checked_step(sampling, text)
    try:
        positions = range(count)[sampling]
    except TypeError:
        raise SettingError(f"sampling {text!r} is not a slice of whole numbers") from None
    if not positions:
        raise SettingError(f"sampling {text!r} takes none of the {count} frames: use positions 0 … {count}")
    return positions


def _checked_step(sampling: slice, text: str) -> None:
    try:
        step = 1 if sampling.step is None else operator.index(sampling.step)
    except TypeError:
        raise SettingError(f"sampling {text!r} is not a slice of whole numbers") from None
    if step < 1:
        raise SettingError(f"sampling {text!r} has step {step}: frames go forward in time, so 1 or more")


def _one_frame(number: int | None) -> str:
    if number is None:
        return "write ':' for all frames, or start:end:step"
    end = "" if number == -1 else number + 1
    return f"for that frame alone write '{number}:{end}', for every {abs(number) or 1}th one '::{abs(number) or 1}'"
