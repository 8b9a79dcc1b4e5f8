"""A trained model on disk: weights, and everything that must agree before they are used."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from trackweave.association.features import FEATURE_VERSION
from trackweave.association.inputs import INPUT_VERSION
from trackweave.association.models.associator import Associator, AssociatorShape
from trackweave.association.scorer import FORMAT, FORMAT_VERSION
from trackweave.errors import ArtifactError, ArtifactVersionError
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
