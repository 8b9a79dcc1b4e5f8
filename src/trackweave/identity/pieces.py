"""Pieces of a long video: where it is divided, and which tracks of pieces that follow each other are one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackweave.errors import SettingError

MOST_PIECES = 10_000
"""Of one video."""
MIN_IOU = 0.5
"""On a frame, from which two boxes show one thing."""
MIN_MEAN_IOU = 0.5
"""Of two tracks that are one, over the shared frames of the one that is seen on fewer of them."""


def divided(length: int, frames: int, overlap: int, cuts: Sequence[int] = ()) -> list[range]:
    """Positions of the pieces of a video.

    A piece ends at the last hard cut in its second half, and the next begins there; without one it ends after `frames`
    frames, and the next begins `overlap` frames before that. No frame is in three pieces.

    Args:
        length: of the video, in frames.
        frames: most of a piece; a video that is not longer is one piece.
        overlap: frames that two pieces share, at most half of `frames`.
        cuts: positions of frames that begin a new shot.

    >>> divided(10, 4, 1)
    [range(0, 4), range(3, 7), range(6, 10)]
    >>> divided(10, 4, 1, cuts=[3])
    [range(0, 3), range(3, 7), range(6, 10)]
    """
    pieces: list[range] = []
    start = 0
    while length - start > frames:
        stop = start + frames
        cut = max((one for one in cuts if start + frames // 2 < one <= stop), default=None)
        pieces.append(range(start, stop if cut is None else cut))
        start = stop - overlap if cut is None else cut
    return [*pieces, range(start, length)]


def samplings(positions: range, frames: int, overlap: int, cuts: Sequence[int], where: str) -> list[str]:
    """The pieces of a video as samplings of its frames; none where it is not longer than a piece.

    Args:
        positions: those of its frames that are taken.
        frames: see `divided`.
        overlap: see `divided`.
        cuts: places among `positions` at which a new shot begins.
        where: the video, for a message.

    Raises:
        SettingError: more than `MOST_PIECES` pieces.

    >>> samplings(range(0, 20, 2), 6, 2, (), "video.mp4")
    ['0:11:2', '8:19:2']
    """
    if len(positions) <= frames:
        return []
    if len(positions) > MOST_PIECES * (frames - overlap):
        text = f"{where}: its {len(positions)} frames give more than {MOST_PIECES} pieces"
        raise SettingError(f"{text}: give split.frames more")
    pieces = [positions[piece.start : piece.stop] for piece in divided(len(positions), frames, overlap, cuts)]
    return [f"{piece.start}:{piece[-1] + 1}:{piece.step}" for piece in pieces]


def follow(whole: NDArray[np.int64], piece: NDArray[np.int64], reached: int) -> int | None:
    """How many frames of a video are in its pieces up to this one, if it follows those before.

    Args:
        whole: `(N,)` of the video's frames, ascending.
        piece: `(M,)` those of the piece.
        reached: frames that the pieces before have.

    Returns:
        None where the piece leaves frames out, has others, or adds none.

    >>> follow(np.arange(10), np.arange(3, 6), 4)
    6
    """
    place = int(np.searchsorted(whole, piece[0])) if len(piece) else len(whole)
    stop = place + len(piece)
    is_next = place <= reached < stop and np.array_equal(whole[place:stop], piece)
    return stop if is_next else None


class OverlapVotes:
    """Sums up how well the tracks of two pieces agree on the frames that both have.

    Args:
        min_iou: on a frame, from which two boxes or masks show one thing.
        min_mean_iou: of two tracks that are one, over the shared frames of the one that is seen on fewer of them.
    """

    def __init__(self, min_iou: float = MIN_IOU, min_mean_iou: float = MIN_MEAN_IOU) -> None:
        self._min_iou, self._min_mean_iou = min_iou, min_mean_iou
        self._shared: dict[tuple[int, int], float] = {}
        self._seen: tuple[dict[int, int], dict[int, int]] = {}, {}

    def add(self, before: Sequence[int], after: Sequence[int], iou: NDArray[np.float64]) -> None:
        """Takes one frame.

        Args:
            before: N ids of the earlier piece.
            after: M ids of the later piece.
            iou: `(N, M)` of their boxes or masks.
        """
        for seen, ids in zip(self._seen, (before, after), strict=True):
            for one in ids:
                seen[one] = seen.get(one, 0) + 1
        for row, column in np.argwhere(iou >= self._min_iou).tolist():
            pair = int(before[row]), int(after[column])
            self._shared[pair] = self._shared.get(pair, 0.0) + float(iou[row, column])

    def links(self, going_on: Iterable[int]) -> dict[int, int]:
        """Which tracks of the later piece are which of the earlier one: the assignment of the largest summed IoU.

        Args:
            going_on: ids of the later piece that are seen behind the shared frames; the others need no partner.

        Returns:
            id of the later piece → id of the earlier one.
        """
        wanted = set(going_on)
        pairs = {pair: iou for pair, iou in self._shared.items() if pair[1] in wanted and self._is_one(pair, iou)}
        if not pairs:
            return {}
        before, after = np.array(list(pairs), np.int64).T
        (rows, row), (columns, column) = (np.unique(ids, return_inverse=True) for ids in (before, after))
        gain = np.zeros((len(rows), len(columns)))
        gain[row, column] = list(pairs.values())
        row, column = linear_sum_assignment(gain, maximize=True)
        chosen = gain[row, column] > 0
        return dict(zip(columns[column[chosen]].tolist(), rows[row[chosen]].tolist(), strict=True))

    def _is_one(self, pair: tuple[int, int], iou: float) -> bool:
        return iou >= self._min_mean_iou * min(self._seen[0][pair[0]], self._seen[1][pair[1]])


def joined_ids(ids: Sequence[Iterable[int]], links: Sequence[Mapping[int, int]]) -> list[dict[int, int]]:
    """Ids over all pieces: those of the first stay, and what is new in a later one follows in the order of its ids.

    Args:
        ids: of each piece, those that are seen on frames that no earlier piece has.
        links: of each piece but the first: its ids → those of the piece before, as `OverlapVotes` finds them.

    Returns:
        of each piece, its ids → those of the whole.

    >>> joined_ids([[1, 2], [1, 2, 3]], [{2: 1}])
    [{1: 1, 2: 2}, {1: 3, 2: 1, 3: 4}]
    """
    whole = [{one: one for one in sorted(ids[0])}] if ids else []
    following = max(whole[0], default=0) + 1 if whole else 1
    for own, links_of in zip(ids[1:], links, strict=True):
        before, named = whole[-1], dict[int, int]()
        for one in sorted(own):
            earlier = before.get(links_of[one]) if one in links_of else None
            if earlier is None:
                earlier, following = following, following + 1
            named[one] = earlier
        whole.append(named)
    return whole
