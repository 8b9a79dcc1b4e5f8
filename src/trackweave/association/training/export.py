"""A checkpoint as an ONNX file that `LearnedScorer` runs without torch."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trackweave.association.history import HISTORY
from trackweave.association.inputs import DET_COLUMNS, HISTORY_COLUMNS, PAIR_COLUMNS, TRACK_COLUMNS
from trackweave.association.scorer import HEADER, INPUTS, OUTPUT
from trackweave.association.training.checkpoint import Checkpoint, load_checkpoint
from trackweave.errors import ArtifactError, MissingExtraError
from trackweave.storage.files import replacing

OPSET = 17
PARITY = 1e-4
"""Largest difference between the two models' gains."""


class _Gains(nn.Module):
    """What the runtime asks for: one number per pair of one frame."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.model = checkpoint.model

    def forward(
        self, history: Tensor, tracks: Tensor, detections: Tensor, pairs: Tensor, pair_features: Tensor
    ) -> Tensor:
        found: Tensor = self.model(history, tracks, detections, pairs, pair_features).gain
        return found


def export(checkpoint: Path | str | Checkpoint, output: Path | str) -> Path:
    """Writes the ONNX file, header included, and proves that it answers like the checkpoint.

    Raises:
        ArtifactError: the checkpoint cannot be read, the file cannot be written, or the two differ.
        MissingExtraError: the package `onnx` is missing.
    """
    found = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
    try:
        import onnx
    except ModuleNotFoundError:
        raise MissingExtraError("onnx", "train") from None
    output = Path(output)
    found.model.eval()
    with replacing(output) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter: it tells of its own successor, and of constants
            torch.onnx.export(
                _Gains(found).cpu(),
                _example(7, 9, seed=0),
                str(temporary),
                dynamo=False,
                opset_version=OPSET,
                input_names=list(INPUTS),
                output_names=[OUTPUT],
                dynamic_axes={
                    "history": {0: "T"},
                    "tracks": {0: "T"},
                    "detections": {0: "D"},
                    "pairs": {0: "P"},
                    "pair_features": {0: "P"},
                    OUTPUT: {0: "P"},
                },
            )
        proto = onnx.load(str(temporary))
        entry = proto.metadata_props.add()
        entry.key, entry.value = HEADER, json.dumps(found.header())
        onnx.save(proto, str(temporary))
        difference = parity(found, temporary)
    if difference > PARITY:
        output.unlink()
        raise ArtifactError(f"{output}: the exported model differs from the checkpoint by {difference:.2g}")
    return output


def parity(checkpoint: Checkpoint, exported: Path) -> float:
    """Largest difference of gains on frames of several sizes, one without pairs among them."""
    from trackweave.association.scorer import input_names, open_session

    session = open_session(exported)
    worst = 0.0
    for number, (tracks, detections) in enumerate(((1, 1), (3, 8), (30, 25), (60, 1))):
        given = _example(tracks, detections, seed=number)
        with torch.no_grad():
            ours = checkpoint.model(*given).gain.numpy()
        asked = input_names(session)
        feed = {name: part.numpy() for name, part in zip(INPUTS, given, strict=True) if name in asked}
        (theirs,) = session.run([OUTPUT], feed)
        worst = max(worst, float(np.abs(ours - theirs).max(initial=0.0)))
    return worst


def _example(tracks: int, detections: int, *, seed: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)

    def random(*shape: int) -> Tensor:
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    pairs = np.argwhere(rng.random((tracks, detections)) < 0.5)
    history = random(tracks, HISTORY, HISTORY_COLUMNS)
    history[..., -1] = torch.from_numpy((rng.random((tracks, HISTORY)) < 0.8).astype(np.float32))
    return (
        history,
        random(tracks, TRACK_COLUMNS),
        random(detections, DET_COLUMNS),
        torch.from_numpy(pairs.astype(np.int64).reshape(-1, 2)),
        random(len(pairs), PAIR_COLUMNS),
    )
