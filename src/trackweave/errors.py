"""Every error that trackweave raises on purpose, as one tree.

::

    TrackweaveError
    ├── InputError                 what the user gave cannot be used
    │   ├── FrameError             a frame: unreadable, of another size, missing
    │   ├── FrameOrderError        a frame that is not later than the one before
    │   ├── CandidateError         a candidate or its manifest
    │   └── PromptError            a prompt image or a prompt's object
    ├── ArtifactError              a file that trackweave writes and reads
    │   ├── ArtifactVersionError   … made by a newer or unknown version
    │   └── RunFolderError         a run folder that holds something else, or cannot be written
    ├── PredictorError             a video predictor failed or was misused
    │   ├── PredictorUnavailable   … its extra or its weights are missing
    │   └── PredictorOutOfMemory   … more objects than memory holds
    ├── SettingError               a setting's name or value (the command line's exit code 2)
    └── MissingExtraError          an optional library is needed: names the extra to install

A message is one line: it names the file, the frame or the field, and says what to do.
The command line prints it and exits with 1 (2 for `SettingError`). What it quotes of a foreign file goes through
`shortened`, `shortened_line` or `listed`, so that a message is short and no control character reaches a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_IN_COMMAND: ContextVar[bool] = ContextVar("in_command", default=False)


@contextmanager
def command_wording() -> Iterator[None]:
    """Inside the block `wording` speaks of flags, as on the command line."""
    token = _IN_COMMAND.set(True)
    try:
        yield
    finally:
        _IN_COMMAND.reset(token)


def wording(python: str, command: str) -> str:
    """What a message tells to give: an argument to whoever calls from Python, a flag on the command line.

    >>> wording("resume=True", "--resume")
    'resume=True'
    """
    return command if _IN_COMMAND.get() else python


def argument(name: str, value: object = None, *, flag: str | None = None) -> str:
    """An argument or a setting in a message, with the value that it should have: `name=value`, or `--name value`.

    >>> argument("predictor", "flow"), argument("max_frames")
    ("predictor='flow'", 'max_frames')
    >>> with command_wording():
    ...     argument("predictor", "flow"), argument("max_frames"), argument("classes", flag="--class")
    ('--predictor flow', '--max-frames', '--class')
    """
    flag = flag or f"--{name.replace('_', '-')}"
    return wording(name, flag) if value is None else wording(f"{name}={value!r}", f"{flag} {value}")


LONGEST_MESSAGE = 1000
"""Characters of an error that are shown; texts of files may be of any length."""


class TrackweaveError(Exception):
    """Base of all errors raised on purpose.

    >>> len(str(TrackweaveError("x" * 100_000)))
    993
    """

    def __str__(self) -> str:
        """The message: one line, control characters escaped; of a very long one the middle is left out."""
        text = super().__str__()
        if len(text) > LONGEST_MESSAGE:
            text = f"{text[: LONGEST_MESSAGE - 300]} … {text[-290:]}"
        return shortened_line(text, LONGEST_MESSAGE)


class InputError(TrackweaveError):
    """Something that the user gave cannot be used."""


class FrameError(InputError):
    """A frame or a video: missing, unreadable, truncated or of another size."""


class FrameOrderError(InputError):
    """A frame that is not later than the one before, by its index or its time."""


class CandidateError(InputError):
    """A candidate, or the manifest that lists candidates."""


class PromptError(InputError):
    """A prompt image, or one object of it."""


class ArtifactError(TrackweaveError):
    """A file of a run that cannot be read or written."""


class ArtifactVersionError(ArtifactError):
    """An artifact of a newer or unknown `schema_version`."""


class RunFolderError(ArtifactError):
    """A run folder that holds another run, or cannot be written."""


class PredictorError(TrackweaveError):
    """A video predictor failed, or was called out of order."""


class PredictorUnavailable(PredictorError):
    """A predictor whose extra or weights are missing."""


class PredictorOutOfMemory(PredictorError):
    """More objects than the memory holds."""


class SettingError(TrackweaveError):
    """A setting whose name or value is wrong."""


class MissingExtraError(TrackweaveError):
    """An optional library is needed.

    >>> str(MissingExtraError("pandas", "tables"))
    "pandas is not installed: pip install 'trackweave[tables]' (in a checkout: pip install -e '.[tables]')"
    """

    def __init__(self, library: str, extra: str, otherwise: str = "") -> None:
        super().__init__(f"{library} is not installed: {how_to_install(extra)}{otherwise}")
        self.library = library
        self.extra = extra


def how_to_install(extra: str) -> str:
    """What installs an extra: of the released package, and from a checkout."""
    return f"pip install 'trackweave[{extra}]' (in a checkout: pip install -e '.[{extra}]')"


def shortened(value: object, length: int = 80) -> str:
    """A value of a file for a message: as `repr` has it, control characters escaped, the end of a long one left out.

    >>> shortened("a\\n" + "b" * 200, 5)
    "'a\\\\nbbb…'"
    >>> shortened([1] * 1000, 8)
    '[1, 1, 1…'
    """
    if isinstance(value, str):
        return repr(value if len(value) <= length else f"{value[:length]}…")
    return shortened_line(repr(value), length)


def shortened_line(text: str, length: int = 160) -> str:
    """A text for a message: one line, control characters escaped, the end of a long one left out.

    >>> shortened_line("two \\n lines, \\x1b[31mred")
    'two lines, \\\\x1b[31mred'
    """
    start = text[: 4 * length]
    line = " ".join(start.split())
    if len(line) > length or len(start) < len(text):
        line = f"{line[:length]}…"
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)


def listed(names: Iterable[object], most: int = 8, length: int = 40) -> str:
    """Names from a file for a message: the first of them, and how many more there are.

    >>> listed(["a", "b"]), listed(range(100), 3), listed([])
    ('a, b', '0, 1, 2 and 97 more', 'none')
    """
    texts = [shortened_line(str(name), length) for name in names]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more if texts else "none"
