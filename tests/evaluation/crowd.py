"""Invented crowds with results that err: misses, false positives, jitter, switches. Nothing is drawn from real data.

Each object walks on a line of its own; some rows do not count, some are distractors. The same numbers on every machine:
they are written with three decimals.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.toy_boxes import write_lines

SIZE = (400, 600)


class Item(NamedTuple):
    """One object on one frame (0-based); pixels of MOT text."""

    frame: int
    identity: int
    box: tuple[float, float, float, float]
    class_id: int
    counts: int


def truth(seed: int, frames: int = 30, objects: int = 6, classes: tuple[int, ...] = (1,)) -> list[Item]:
    """Objects that come and go; every seventh row does not count."""
    rng = np.random.default_rng(seed)
    items = []
    for identity in range(1, objects + 1):
        x, y, vx, vy = rng.uniform(0, 450), rng.uniform(0, 250), rng.uniform(-4, 4), rng.uniform(-2, 2)
        w, h = rng.uniform(30, 60), rng.uniform(40, 120)
        first, last = sorted(int(k) for k in rng.integers(0, frames, 2))
        class_id = classes[identity % len(classes)]
        for frame in range(max(first - 3, 0), last + 1):
            box = (round(x + vx * frame, 3), round(y + vy * frame, 3), round(w, 3), round(h, 3))
            items.append(Item(frame, identity, box, class_id, int((frame + identity) % 7 != 0)))
    return sorted(items, key=lambda item: item.frame)


def result(seed: int, true: list[Item], *, jitter: float = 4.0) -> list[Item]:
    """What a tracker makes of it: identities change now and then, an eighth is missed, some are invented."""
    rng = np.random.default_rng(seed + 1000)
    found = []
    for item in true:
        if rng.uniform() < 0.12:
            continue
        x, y, w, h = (round(side + float(rng.normal(0, jitter)), 3) for side in item.box)
        identity = 10 * item.identity + item.frame // (8 + item.identity)
        found.append(Item(item.frame, identity, (x, y, max(w, 1.0), max(h, 1.0)), item.class_id, 1))
    for number in range(len(true) // 12):
        frame = int(rng.integers(0, 1 + max((item.frame for item in true), default=0)))
        box = tuple(round(float(side), 3) for side in (*rng.uniform(0, 400, 2), *rng.uniform(20, 80, 2)))
        found.append(Item(frame, 900 + number, box, int(rng.choice([item.class_id for item in true])), 1))  # type: ignore[arg-type]
    return sorted(found, key=lambda item: item.frame)


def mot_lines(items: list[Item], *, with_class: bool = True) -> list[str]:
    """MOT text."""
    return [
        ",".join(
            str(value) for value in (i.frame + 1, i.identity, *i.box, i.counts, i.class_id if with_class else -1, 1)
        )
        for i in items
    ]


def write_crowd(
    root: Path, name: str, seed: int, *, frames: int = 30, classes: tuple[int, ...] = (1,), with_class: bool = True
) -> tuple[Path, Path]:
    """`gt/NAME/gt/gt.txt` with `seqinfo.ini`, and `pred/NAME.txt`; the two folders."""
    true = truth(seed, frames, classes=classes)
    folder = root / "gt" / name
    write_lines(folder / "seqinfo.ini", ["[Sequence]", f"name={name}", f"seqLength={frames}", "frameRate=10"])
    write_lines(folder / "gt" / "gt.txt", mot_lines(true, with_class=with_class))
    write_lines(root / "pred" / f"{name}.txt", mot_lines(result(seed, true), with_class=with_class))
    return root / "gt", root / "pred"


def kitti_lines(items: list[Item], names: dict[int, str]) -> list[str]:
    """KITTI text; every fifth object is hidden, every seventh cut off, as far as truth goes."""
    lines = []
    for item in items:
        x, y, w, h = item.box
        box = " ".join(f"{side:.3f}" for side in (x, y, x + w, y + h))
        hidden, cut = 3 * (item.identity % 5 == 0), int(item.identity % 7 == 0)
        lines.append(f"{item.frame} {item.identity} {names[item.class_id]} {cut} {hidden} -10 {box} 1 1 1 0 0 9 0")
    return lines
