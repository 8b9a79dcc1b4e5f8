"""`ModelCheckpoint`: a trained model on disk with everything that must agree before it is used, and its ONNX export."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from trackweave.association.dataset import DataMetadata
from trackweave.association.model_inputs import INPUT_VERSION, ModelColumns
from trackweave.association.models.associator import Associator, AssociatorShape
from trackweave.association.sample_features import FEATURE_VERSION
from trackweave.association.scorer import FORMAT, FORMAT_VERSION, HEADER, INPUTS, OUTPUT, input_names, open_session
from trackweave.association.track_memory import HISTORY_LENGTH
from trackweave.association.training.metrics import EpochRecord
from trackweave.errors import ArtifactError, ArtifactVersionError, MissingExtraError, shortened_line
from trackweave.storage.files import refuse_overwriting, replacing

OPSET = 17
MAX_DIFFERENCE = 1e-4
"""Largest accepted difference between the logit margins of a checkpoint and of its export."""


class ModelMetadata(DataMetadata, total=False):
    """JSON values about a model: where its training data comes from, and how it was trained.

    Attributes:
        training_sequences, validation_sequences: names of the videos.
        epoch: of the best validation loss, or the round of a stream.
        measures: `AssociationMetrics` on the validation videos.
        settings: `TrainSettings`.
        parameters: how many the model has.
        start_hota: of the held-out videos with the model that the training started from, in percent; where they were
            tracked, see `loop.ClosedLoop`.
    """

    training_sequences: list[str]
    validation_sequences: list[str]
    epoch: int
    measures: Mapping[str, object]
    settings: Mapping[str, object]
    parameters: int
    start_hota: float


class ModelHeader(TypedDict):
    """What must agree before a model is used, and what it says about itself; the same in checkpoint and export."""

    format: str
    version: int
    input_version: int
    feature_version: int
    shape: Mapping[str, object]
    threshold: float
    embed_dim: int | None
    facts: ModelMetadata


class TrainingProgress(TypedDict):
    """What a resumed training needs besides the mean of the weights.

    Attributes:
        newest: the newest weights.
        optimizer: its state.
        epoch, step: how many are done.
        waited: epochs since the best one.
        best_loss: validation loss of the best epoch; of a `ClosedLoop` its HOTA, negative.
        epochs: a record of each.
    """

    newest: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    epoch: int
    step: int
    waited: int
    best_loss: float
    epochs: list[EpochRecord]


@dataclass
class ModelCheckpoint:
    """A model and where it comes from.

    Attributes:
        model: the model.
        threshold: probability, of a match against no match, from which a pair is matched.
        metadata: where it comes from; the key `facts` of the file.
        progress: of a training that can be resumed; None in a checkpoint that is only used.
    """

    model: Associator
    threshold: float
    metadata: ModelMetadata = field(default_factory=ModelMetadata)
    progress: TrainingProgress | None = None

    def header(self) -> ModelHeader:
        """The header of the checkpoint and of an exported model."""
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "input_version": INPUT_VERSION,
            "feature_version": FEATURE_VERSION,
            "shape": asdict(self.model.shape),
            "threshold": self.threshold,
            "embed_dim": self.metadata.get("embed_dim"),
            "facts": self.metadata,
        }


def save_checkpoint(path: Path | str, checkpoint: ModelCheckpoint) -> None:
    """Writes a checkpoint; an older one stays until the new one is complete.

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
    except (OSError, RuntimeError) as error:  # RuntimeError: what torch makes of a full disk
        reason = error.strerror if isinstance(error, OSError) and error.strerror else shortened_line(str(error))
        hint = "" if isinstance(error, OSError) else " (is the disk full?)"
        raise ArtifactError(f"{path}: cannot be written: {reason}{hint}") from error


def load_checkpoint(path: Path | str, device: str | torch.device = "cpu") -> ModelCheckpoint:
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
        return ModelCheckpoint(model.to(device), float(content["threshold"]), content["facts"], content["progress"])
    except (TypeError, KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ArtifactError(f"{path}: the weights do not fit the shape in its header: {reason}") from None


def default_checkpoint() -> Path:
    """The checkpoint of the model that comes with the package, for trainings that begin with it.

    Raises:
        ArtifactError: it is missing.
    """
    path = Path(str(files("trackweave.association") / "weights" / "default.pt"))
    if not path.is_file():
        raise ArtifactError(f"{path}: the package's own checkpoint is missing: install trackweave again")
    return path


def check_header(header: Mapping[str, object], path: object) -> None:
    """Refuses a model of another version of the features.

    Raises:
        ArtifactVersionError: a version differs.
    """
    expected = {
        "version": FORMAT_VERSION,
        "input_version": INPUT_VERSION,
        "feature_version": FEATURE_VERSION,
    }
    for name, value in expected.items():
        if header.get(name) != value:
            raise ArtifactVersionError(
                f"{path}: {name} {header.get(name)}, this trackweave has {value}: train it again, or use the version "
                "that it was trained with"
            )


class _LogitMargins(nn.Module):
    """The model as the runtime uses it: one number per pair of one frame."""

    def __init__(self, checkpoint: ModelCheckpoint) -> None:
        super().__init__()
        self.model = checkpoint.model

    def forward(
        self, history: Tensor, tracks: Tensor, detections: Tensor, pairs: Tensor, pair_features: Tensor
    ) -> Tensor:
        margin: Tensor = self.model(history, tracks, detections, pairs, pair_features).logit_margin
        return margin


def export_onnx(checkpoint: Path | str | ModelCheckpoint, output: Path | str) -> Path:
    """Writes the ONNX file, header included, and checks that it answers like the checkpoint.

    Raises:
        ArtifactError: the checkpoint cannot be read, the file cannot be written, or the two differ.
        InputError: the file is the checkpoint.
        MissingExtraError: the package `onnx` is missing.
    """
    source = checkpoint if isinstance(checkpoint, ModelCheckpoint) else load_checkpoint(checkpoint)
    try:
        import onnx
    except ModuleNotFoundError:
        raise MissingExtraError("onnx", "train") from None
    output = Path(output)
    if not isinstance(checkpoint, ModelCheckpoint):
        refuse_overwriting([output], [checkpoint])
    source.model.eval()
    with replacing(output) as temporary:
        _write_graph(source, temporary)
        proto = onnx.load(str(temporary))
        entry = proto.metadata_props.add()
        entry.key, entry.value = HEADER, json.dumps(source.header())
        onnx.save(proto, str(temporary))
        difference = export_difference(source, temporary)
        if difference > MAX_DIFFERENCE:
            raise ArtifactError(f"{output}: the exported model differs from the checkpoint by {difference:.2g}")
    return output


def _write_graph(checkpoint: ModelCheckpoint, path: Path) -> None:
    sizes = {"history": "T", "tracks": "T", "detections": "D", "pairs": "P", "pair_features": "P", OUTPUT: "P"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter: about its own successor, and about constants
        torch.onnx.export(
            _LogitMargins(checkpoint).cpu(),
            _example(7, 9, seed=0),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_axes={name: {0: size} for name, size in sizes.items()},
        )


def export_difference(checkpoint: ModelCheckpoint, exported: Path) -> float:
    """Largest difference of logit margins on frames of several sizes, one without pairs among them."""
    session = open_session(exported)
    largest = 0.0
    for seed, (tracks, detections) in enumerate(((1, 1), (3, 8), (30, 25), (60, 1))):
        inputs = _example(tracks, detections, seed=seed)
        with torch.no_grad():
            expected = checkpoint.model(*inputs).logit_margin.numpy()
        names = input_names(session)
        feed = {name: tensor.numpy() for name, tensor in zip(INPUTS, inputs, strict=True) if name in names}
        (actual,) = session.run([OUTPUT], feed)
        largest = max(largest, float(np.abs(expected - actual).max(initial=0.0)))
    return largest


def _example(tracks: int, detections: int, *, seed: int) -> tuple[Tensor, ...]:
    """Random inputs of one frame."""
    rng = np.random.default_rng(seed)

    def random(*shape: int) -> Tensor:
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    pairs = np.argwhere(rng.random((tracks, detections)) < 0.5)
    history = random(tracks, HISTORY_LENGTH, len(ModelColumns.HISTORY))
    history[..., -1] = torch.from_numpy((rng.random((tracks, HISTORY_LENGTH)) < 0.8).astype(np.float32))
    return (
        history,
        random(tracks, len(ModelColumns.TRACKS)),
        random(detections, len(ModelColumns.DETECTIONS)),
        torch.from_numpy(pairs.astype(np.int64).reshape(-1, 2)),
        random(len(pairs), len(ModelColumns.PAIRS)),
    )
