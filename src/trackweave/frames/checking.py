"""Finding the frames of a source that cannot be used."""

from __future__ import annotations

from trackweave.errors import FrameError
from trackweave.frames.source import FrameSource
from trackweave.ids import FrameIndex


def exclude_unreadable(source: FrameSource) -> tuple[FrameSource, list[tuple[FrameIndex, str, str]]]:
    """Decodes every frame once and leaves out those that fail: unreadable, truncated or of another size.

    The size that counts is `source.size`, for a folder of images that of its first readable file.

    Returns:
        The source without the bad frames (`source` itself when there are none), still with absolute `indices`, and
        `(absolute index, name, one-line reason)` of each frame left out.

    Raises:
        FrameError: no frame is left.
    """
    indices, names = source.indices, source.names
    good: list[int] = []
    excluded: list[tuple[FrameIndex, str, str]] = []
    for local in range(len(source)):
        reason = _fault(source, local)
        if reason is None:
            good.append(local)
        else:
            excluded.append((indices[local], names[local], reason))
    if not good:
        what = source.path or "the source"
        first = f"; the first: {excluded[0][2]}" if excluded else ""
        raise FrameError(f"{what}: none of the {len(source)} frames can be read{first}")
    return (source.select(good) if excluded else source), excluded


def _fault(source: FrameSource, local: int) -> str | None:
    try:
        source[local]
    except FrameError as error:
        return str(error)
    return None
