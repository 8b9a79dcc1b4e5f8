"""How public data sets lay out their sequences: MOT17, DanceTrack, SportsMOT, and KITTI as MOTChallenge folders."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from trackweave.errors import InputError
from trackweave.formats.detections_mot import read_text
from trackweave.formats.motchallenge import INFO, GroundTruth, is_sequence

CLASS_COLUMN = 8
"""1-based column of the class in MOT text."""
DEEPEST = 4
"""Folders between a data set's folder and its sequences, such as `train/`."""
CLIP = re.compile(r"(?P<video>.+?)(_c\d+|-(DPM|FRCNN|SDP))")


def find_sequences(paths: Iterable[Path | str]) -> list[Path]:
    """Sequence folders: those given, and those with truth below folders that are given, by name; each once.

    Raises:
        InputError: a folder that holds none.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if is_sequence(path):
            found[path] = None
            continue
        below = [one for depth in range(1, DEEPEST) for one in sorted(path.glob("/".join(["*"] * depth + [INFO])))]
        sequences = [one.parent for one in below if (one.parent / "gt" / "gt.txt").is_file()]
        if not sequences:
            raise InputError(f"{path}: neither a sequence nor a folder of sequences with {INFO} and gt/gt.txt")
        found.update(dict.fromkeys(sequences))
    return list(found)


def video_of(name: str) -> str:
    """The video that a sequence was cut from: data should be split by it.

    SportsMOT cuts clips from videos; MOT17 has each video once per detector.

    >>> video_of("v_1LwtoLPw2TU_c006"), video_of("MOT17-02-FRCNN"), video_of("dancetrack0001")
    ('v_1LwtoLPw2TU', 'MOT17-02', 'dancetrack0001')
    """
    match = CLIP.fullmatch(name)
    return match["video"] if match else name


def class_column_of(truth: GroundTruth, detections: Path) -> int | None:
    """The column of the class in MOT text where detections have one and the truth has several classes; else None.

    So it is in KITTI's: several classes count, or there are regions that show nobody (DontCare).
    """
    counted = truth.class_id[truth.counts & (truth.track_id >= 0)]
    if not len(np.unique(counted)) > 1 and not (truth.track_id < 0).any():
        return None
    first = next((line for line in read_text(detections).splitlines() if line.strip()), "")
    fields = first.replace(",", " ").split()
    try:
        return CLASS_COLUMN if len(fields) >= CLASS_COLUMN and float(fields[CLASS_COLUMN - 1]) >= 0 else None
    except ValueError:
        return None
