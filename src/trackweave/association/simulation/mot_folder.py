"""Simulated sequences as MOTChallenge folders, which any tracker and any evaluation reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from trackweave.association.simulation.sequence import SimulatedSequence
from trackweave.errors import RunFolderError
from trackweave.storage.files import replacing


def write_mot_folder(sequence: SimulatedSequence, parent: Path | str) -> Path:
    """Writes `seqinfo.ini`, `det/det.txt`, `gt/gt.txt`, `settings.json`, and `gmc.txt` when camera motion is told.

    Frames and pixels count from 1 in `det.txt` and `gt.txt`, the class is the eighth column; skipped frames are empty.
    `seqinfo.ini` comes last: a folder without it is not finished.

    Returns:
        The folder, `parent/NAME`.

    Raises:
        RunFolderError: it exists and is not empty, or cannot be written.
    """
    folder = Path(parent) / sequence.name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunFolderError(f"{folder}: exists already: choose another folder or seed, or remove it")
    truth = sequence.truth
    boxes = zip(
        sequence.frame.tolist(),
        sequence.xyxy.tolist(),
        sequence.score.tolist(),
        sequence.class_id.tolist(),
        strict=True,
    )
    _write(folder / "det" / "det.txt", (f"{f + 1},-1,{_xywh(box)},{s:.4f},{c},-1,-1" for f, box, s, c in boxes))
    known = zip(
        truth.frame.tolist(),
        truth.track_id.tolist(),
        truth.xyxy.tolist(),
        truth.class_id.tolist(),
        truth.visibility.tolist(),
        strict=True,
    )
    _write(folder / "gt" / "gt.txt", (f"{f + 1},{i},{_xywh(box)},1,{c},{v:.3f}" for f, i, box, c, v in known))
    if sequence.camera is not None:
        _write(folder / "gmc.txt", _motion(sequence))
    _write(folder / "settings.json", [sequence.settings.to_json().rstrip()])
    _write(folder / "seqinfo.ini", _info(sequence))
    return folder


def _motion(sequence: SimulatedSequence) -> Iterable[str]:
    """Lines of camera motion; that of a frame after skipped ones covers the whole gap."""
    assert sequence.camera is not None
    for frame, matrix in zip(sequence.frames.tolist(), sequence.camera, strict=True):
        yield f"{frame} " + " ".join(f"{value:.9g}" for value in matrix.ravel())


def _info(sequence: SimulatedSequence) -> list[str]:
    height, width = sequence.size
    return [
        "[Sequence]",
        f"name={sequence.name}",
        "imDir=img1",
        f"frameRate={np.format_float_positional(sequence.fps, trim='-')}",
        f"seqLength={sequence.settings.frames}",
        f"imWidth={width}",
        f"imHeight={height}",
        "imExt=.jpg",
    ]


def _xywh(box: list[float]) -> str:
    left, top, right, bottom = box
    return f"{left + 1:.2f},{top + 1:.2f},{max(right - left, 0.01):.2f},{max(bottom - top, 0.01):.2f}"


def _write(path: Path, lines: Iterable[str]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
