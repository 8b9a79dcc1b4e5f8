"""A trained model on disk: weights, and everything that must agree before they are used.

A checkpoint as an ONNX file that `LearnedScorer` runs without torch.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trackweave.association.model_inputs import DET_COLUMNS, HISTORY_COLUMNS, INPUT_VERSION, PAIR_COLUMNS, TRACK_COLUMNS
from trackweave.association.models.associator import Associator, AssociatorShape
from trackweave.association.sample_features import FEATURE_VERSION
from trackweave.association.scorer import FORMAT, FORMAT_VERSION, HEADER, INPUTS, OUTPUT
from trackweave.association.track_memory import HISTORY
from trackweave.errors import ArtifactError, ArtifactVersionError, MissingExtraError
from trackweave.storage.files import replacing


@dataclass
class Checkpoint:
    """A model and where it comes from.

    Attributes:
        model: the model.
        threshold: probability from which a pair counts as a match.
        facts: JSON values: fingerprint and label sources of the training data, embedding width, measures.
        progress: what a resumed training needs besides the model; None in a checkpoint that is only used.
    """

    model: Associator
    threshold: float
    facts: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] | None = None

    def header(self) -> dict[str, Any]:
        """What must agree, and what is told: JSON values, the same in a checkpoint and in an exported model."""
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "input_version": INPUT_VERSION,
            "feature_version": FEATURE_VERSION,
            "shape": self.model.shape.to_json(),
            "threshold": self.threshold,
            "embed_dim": self.facts.get("embed_dim"),
            "facts": self.facts,
        }


def save_checkpoint(path: Path | str, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint; what was there before stays until the new one is complete.

    Raises:
        ArtifactError: it cannot be written.
    """
    path = Path(path)
    content = {
        **checkpoint.header(),
        "weights": {name: value.detach().cpu() for name, value in checkpoint.model.state_dict().items()},
        "progress": checkpoint.progress,
    }
    try:
        with replacing(path) as temporary:
            torch.save(content, temporary)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written: {error.strerror or error}") from error


def load_checkpoint(path: Path | str, device: str | torch.device = "cpu") -> Checkpoint:
    """Reads a checkpoint; nothing is unpickled but tensors and plain values.

    Raises:
        ArtifactError: not a checkpoint of this project, or its weights do not fit its shape.
        ArtifactVersionError: of other versions of the features.
    """
    path = Path(path)
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: there is no checkpoint here") from None
    except Exception:  # noqa: BLE001 - torch raises whatever the damage happens to cause, with advice to unpickle
        raise ArtifactError(
            f"{path}: not a readable checkpoint (damaged, or another kind of file): give a training's best.pt"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArtifactError(f"{path}: not a model of association that trackweave trained")
    check_header(content, path)
    try:
        model = Associator(AssociatorShape(**content["shape"]))
        model.load_state_dict(content["weights"])
        found = Checkpoint(model.to(device), float(content["threshold"]), dict(content["facts"]), content["progress"])
    except (TypeError, KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ArtifactError(f"{path}: the weights do not fit the shape that it tells: {reason}") from None
    return found


def default_checkpoint() -> Path:
    """The checkpoint of the model that comes with the package, for trainings that begin with it.

    Raises:
        ArtifactError: it is missing.
    """
    path = Path(str(files("trackweave.association") / "weights" / "default.pt"))
    if not path.is_file():
        raise ArtifactError(f"{path}: the package's own checkpoint is missing: install trackweave again")
    return path


def check_header(header: dict[str, Any], where: object) -> None:
    """Whether a model may be used with this version's features.

    Raises:
        ArtifactVersionError: it may not.
    """
    expected = {
        "version": FORMAT_VERSION,
        "input_version": INPUT_VERSION,
        "feature_version": FEATURE_VERSION,
    }
    for name, value in expected.items():
        if header.get(name) != value:
            raise ArtifactVersionError(
                f"{where}: {name} {header.get(name)}, this trackweave has {value}: train it again, or use the version "
                "that it was trained with"
            )


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
