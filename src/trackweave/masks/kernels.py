"""Compiled loops over packed masks. Words are uint64 views of packed rows; results go into arrays of the caller: one
that a loop allocates costs a tenth of a second of compiling.

A packed mask is row-major `numpy.packbits`: pixel `p = y*W + x` is bit `7 - p % 8` of byte `p // 8`. Counting bits
does not care about their order inside a word, so kernels that only count use whole words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from trackweave.compiled import IS_DISABLED, inner, njit

Bits = NDArray[np.uint8]
Words = NDArray[np.uint64]
Boxes = NDArray[np.int32]


def _popcount(typing_context: Any, word: Any) -> Any:
    """Number of set bits of a uint64: the processor's own instruction."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


popcount: Any = (lambda word: int(word).bit_count()) if IS_DISABLED else intrinsic(_popcount)


@njit(nogil=True)
def count_bits(words: Words, out: NDArray[np.int64]) -> None:
    """Areas: set bits per row of `(N, words)`, into `out` `(N,)`."""
    for n in range(words.shape[0]):
        total = 0
        for k in range(words.shape[1]):
            total += popcount(words[n, k])
        out[n] = total


@inner
def first_set_bit(bits: Bits, begin: int, end: int) -> int:
    """Smallest set pixel of one packed mask in `[begin, end)`; `end` when none is set."""
    if begin >= end:
        return end
    k = begin >> 3
    last = (end - 1) >> 3
    byte = bits[k] & (0xFF >> (begin & 7))
    while byte == 0 and k < last:
        k += 1
        byte = bits[k]
    if byte == 0:
        return end
    j = 0
    while byte & (128 >> j) == 0:
        j += 1
    return min(8 * k + j, end)


@inner
def end_of_set_bits(bits: Bits, begin: int, end: int) -> int:
    """One past the largest set pixel of one packed mask in `[begin, end)`; `begin` when none is set."""
    if begin >= end:
        return begin
    first = begin >> 3
    k = (end - 1) >> 3
    byte = bits[k] & (0xFF << (7 - ((end - 1) & 7)) & 0xFF)
    while byte == 0 and k > first:
        k -= 1
        byte = bits[k]
    if byte == 0:
        return begin
    j = 7
    while byte & (128 >> j) == 0:
        j -= 1
    return max(8 * k + j + 1, begin)


@njit(nogil=True)
def bounding_boxes(bits: Bits, words: Words, width: int, out: Boxes) -> None:
    """Tight boxes into `out` `(N, 4)` xyxy, right and bottom exclusive; that of an empty mask is left as it is.

    Top and bottom are found by whole words; then each row is searched only outside the columns known to be inside.
    """
    for n in range(bits.shape[0]):
        low, high = 0, words.shape[1]
        while low < high and words[n, low] == 0:
            low += 1
        if low == high:
            continue
        while words[n, high - 1] == 0:
            high -= 1
        end = min(64 * high, 8 * bits.shape[1])
        top = first_set_bit(bits[n], 64 * low, end) // width
        bottom = (end_of_set_bits(bits[n], 64 * low, end) - 1) // width + 1
        left, right = width, 0
        for y in range(top, bottom):
            row = y * width
            left = first_set_bit(bits[n], row, row + left) - row
            right = end_of_set_bits(bits[n], row + right, row + width) - row
        out[n, 0], out[n, 1], out[n, 2], out[n, 3] = left, top, right, bottom


@inner
def shared_pixels(words_a: Words, box_a: Boxes, words_b: Words, box_b: Boxes, width: int) -> int:
    """Pixels that two masks share; words `(W,)` and boxes `(4,)` of one mask each.

    Only words under the overlap of the two boxes are read. Their other bits cannot be set in both masks, so the
    ends of a row need no masking; a word that two rows share is read once.
    """
    x0, y0 = max(box_a[0], box_b[0]), max(box_a[1], box_b[1])
    x1, y1 = min(box_a[2], box_b[2]), min(box_a[3], box_b[3])
    if x1 <= x0 or y1 <= y0:
        return 0
    total = 0
    following = 0
    for y in range(y0, y1):
        row = np.int64(y) * width
        first = max((row + x0) >> 6, following)
        following = ((row + x1 - 1) >> 6) + 1
        for k in range(first, following):
            total += popcount(words_a[k] & words_b[k])
    return total


@njit(nogil=True)
def intersections(
    words_a: Words, boxes_a: Boxes, words_b: Words, boxes_b: Boxes, width: int, out: NDArray[np.int64]
) -> None:
    """Pixels that two masks share, into `out` `(N, M)`."""
    for n in range(words_a.shape[0]):
        for m in range(words_b.shape[0]):
            out[n, m] = shared_pixels(words_a[n], boxes_a[n], words_b[m], boxes_b[m], width)


@njit(nogil=True)
def is_covered(
    words: Words,
    box: Boxes,
    area: int,
    known_words: Words,
    known_boxes: Boxes,
    known_areas: NDArray[np.int64],
    width: int,
    threshold: float,
) -> bool:
    """Has one mask an IoU above a threshold with one of M known masks?

    Pairs whose areas and boxes leave no such IoU are not counted, and the first that has it ends the search.
    """
    for m in range(known_words.shape[0]):
        other = known_areas[m]
        across = min(box[2], known_boxes[m, 2]) - max(box[0], known_boxes[m, 0])
        down = min(box[3], known_boxes[m, 3]) - max(box[1], known_boxes[m, 1])
        most = min(min(area, other), np.int64(max(across, 0)) * max(down, 0))
        if most / max(area + other - most, 1) <= threshold:
            continue
        shared = shared_pixels(words, box, known_words[m], known_boxes[m], width)
        if shared / max(area + other - shared, 1) > threshold:
            return True
    return False


@njit(nogil=True)
def majority(bits: Bits, weights: NDArray[np.float64], share: float, out: Bits) -> None:
    """Sets the bits of `out` `(bytes,)` where the masks `(K, bytes)` that have them weigh at least `share` of all."""
    least = share * weights.sum()
    for k in range(bits.shape[1]):
        first = bits[0, k]
        agree = True
        for n in range(1, bits.shape[0]):
            agree = agree and bits[n, k] == first
        if agree:
            out[k] = first
            continue
        byte = 0
        for j in range(8):
            weight = 0.0
            for n in range(bits.shape[0]):
                if bits[n, k] & (128 >> j):
                    weight += weights[n]
            if weight > 0 and weight >= least - 1e-9:
                byte |= 128 >> j
        out[k] = byte


@njit(nogil=True)
def paste_crop(bits: Bits, crop: NDArray[np.bool_], top: int, left: int, width: int) -> None:
    """Sets the bits of one packed mask `(bytes,)` under a bool crop whose corner lies at `(top, left)`."""
    for y in range(crop.shape[0]):
        row = np.int64(top + y) * width + left
        for x in range(crop.shape[1]):
            if crop[y, x]:
                p = row + x
                bits[p >> 3] |= np.uint8(128 >> (p & 7))


@njit(nogil=True)
def sample_nearest(bits: Bits, boxes: Boxes, size: tuple[int, int], target: tuple[int, int], out: Bits) -> None:
    """Nearest-neighbour rescaling at pixel centres, packed to packed, only inside each mask's box."""
    height, width = size
    rows, cols = target
    for n in range(bits.shape[0]):
        x0, y0, x1, y1 = boxes[n]
        first_y, last_y = max(y0 * rows // height - 1, 0), min(y1 * rows // height + 1, rows)
        first_x, last_x = max(x0 * cols // width - 1, 0), min(x1 * cols // width + 1, cols)
        for y in range(first_y, last_y):
            source_row = ((2 * y + 1) * height // (2 * rows)) * width
            target_row = y * cols
            for x in range(first_x, last_x):
                p = source_row + (2 * x + 1) * width // (2 * cols)
                if bits[n, p >> 3] & (128 >> (p & 7)):
                    q = target_row + x
                    out[n, q >> 3] |= np.uint8(128 >> (q & 7))


@njit(nogil=True)
def row_runs(bits: Bits, box: Boxes, width: int, out: NDArray[np.int64]) -> int:
    """Run lengths of the pixels under the box `(4,)` of one packed mask `(bytes,)`, row after row, background first:
    how many there are; they go into `out`, which has space for one more than there are pixels.
    """
    x0, y0, x1, y1 = np.int64(box[0]), np.int64(box[1]), np.int64(box[2]), np.int64(box[3])
    count = inside = 0
    began = at = np.int64(0)
    for y in range(y0, y1):
        place, end = y * width + x0, y * width + x1
        while place < end:
            if place & 7 == 0 and place + 8 <= end and bits[place >> 3] == 255 * inside:
                place, at = place + 8, at + 8
                continue
            if bits[place >> 3] >> (7 - (place & 7)) & 1 != inside:
                out[count] = at - began
                count, began, inside = count + 1, at, 1 - inside
            place, at = place + 1, at + 1
    if began < at:
        out[count] = at - began
        count += 1
    return count


@njit(nogil=True)
def encode_run_lengths(
    bits: Bits, boxes: Boxes, height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """COCO's compressed run lengths of N packed masks: all texts one after the other, and the `(N,)` ends of each.

    Runs are column-major, background first; from the fourth on each is stored as the difference from the one before
    the last, in characters of five bits, little end first. Only pixels under a mask's box are read.
    """
    text = np.empty(4096, np.uint8)
    ends = np.zeros(bits.shape[0], np.int64)
    changes = np.empty(1024, np.int64)  # pixels, column by column, that differ from the one before
    finish = np.int64(height) * width
    used = 0
    for n in range(bits.shape[0]):
        x0, y0, x1, y1 = np.int64(boxes[n, 0]), np.int64(boxes[n, 1]), np.int64(boxes[n, 2]), np.int64(boxes[n, 3])
        is_open = y0 > 0 or y1 < height  # there is background between two columns
        count = 0
        inside = 0
        for x in range(x0, x1):
            if count + y1 - y0 + 3 > len(changes):
                more_changes = np.empty(2 * len(changes) + y1 - y0, np.int64)
                for k in range(count):  # a slice would bring half a second of compiled code for the error of its shape
                    more_changes[k] = changes[k]
                changes = more_changes
            if inside and is_open:
                changes[count] = (x - 1) * height + y1
                count += 1
                inside = 0
            for y in range(y0, y1):
                p = y * width + x
                value = bits[n, p >> 3] >> (7 - (p & 7)) & 1
                if value != inside:
                    changes[count] = x * height + y
                    count += 1
                    inside = value
        if inside:
            changes[count] = (x1 - 1) * height + y1
            count += 1
        if count == 0 or changes[count - 1] != finish:
            changes[count] = finish
            count += 1
        if used + 13 * count > len(text):
            more_text = np.empty(2 * len(text) + 13 * count, np.uint8)
            for k in range(used):
                more_text[k] = text[k]
            text = more_text
        start = before_last = last = np.int64(0)
        for k in range(count):
            run = changes[k] - start
            value_of_run = run - before_last if k > 2 else run
            start, before_last, last = changes[k], last, run
            while True:
                digit = value_of_run & 31
                value_of_run >>= 5
                has_more = value_of_run != -1 if digit & 16 else value_of_run != 0
                text[used] = (digit | 32 if has_more else digit) + 48
                used += 1
                if not has_more:
                    break
        ends[n] = used
    return text[:used], ends


@njit(nogil=True)
def fill_run_lengths(bits: Bits, runs: NDArray[np.int64], height: int, width: int) -> None:
    """Sets the bits of one packed mask `(bytes,)` under column-major runs, background first, that fill its size."""
    place = np.int64(0)
    for k in range(runs.shape[0]):
        if k & 1:
            x, y = place // height, place % height
            for _ in range(runs[k]):
                p = y * width + x
                bits[p >> 3] |= np.uint8(128 >> (p & 7))
                y += 1
                if y == height:
                    x, y = x + 1, np.int64(0)
        place += runs[k]
