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
The command line prints it and exits with 1 (2 for `SettingError`).
"""

from __future__ import annotations


class TrackweaveError(Exception):
    """Base of all errors raised on purpose."""


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
