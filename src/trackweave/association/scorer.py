"""`LearnedScorer`: a trained model scores the pairs of a running tracker; onnxruntime only, no torch.

It follows the tracker through the observer's protocol and keeps each track's history itself, with the code that also
made the training data.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.association.model_inputs import INPUT_VERSION, ModelInputs, frame_batch, model_inputs
from trackweave.association.sample_features import FEATURE_VERSION
from trackweave.association.track_memory import TrackMemory
from trackweave.errors import ArtifactError, ArtifactVersionError, SettingError, shortened_line, wording
from trackweave.storage.files import parse_json
from trackweave.structures.assignment import AssignmentState

HEADER = "trackweave"
"""Key of the header in the ONNX file's metadata."""
INPUTS = ("history", "tracks", "detections", "pairs", "pair_features")
"""Names of the ONNX model's inputs, those of `ModelInputs`."""
OUTPUT = "gain"
"""Name of the ONNX model's output: `AssociationOutput.logit_margin`."""
FORMAT, FORMAT_VERSION = "trackweave-associator", 2
SCALE = 24.0
"""Logit margins lie between −SCALE and SCALE."""
KEEP_ODDS = 5.0
"""A track that was matched on the frame before is continued at odds this many times smaller than a lost one. Leaving it
out begins a second track of the same object beside it; matching a lost track wrongly joins two objects."""
MIN_NEW_TRACK_SCORE = 0.5
"""A detection below this score begins no track when it is left unmatched, so leaving it costs no second track: a lost
track takes it only at odds `KEEP_ODDS` times larger. Among boxes with low scores false positives abound."""
MAX_COST = 2.0
"""Largest cost, of a pair that is certainly wrong; 1 is the cost of no match."""
DEFAULT = "default"


@dataclass(frozen=True)
class ScorerHeader:
    """The header of an exported model.

    Attributes:
        threshold: probability, of a match against no match, from which a pair is matched; see `LearnedScorer`.
        embed_dim: width of the embeddings that it was trained with; None: it was trained without appearance.
        metadata: where it comes from, see `checkpoint.ModelMetadata`.
    """

    threshold: float
    embed_dim: int | None
    metadata: dict[str, Any]


class LearnedScorer:
    """Satisfies the tracker's scorer protocol.

    It remembers the tracks of its tracker, and so serves one at a time; `reset` frees it for the next. It can be copied
    and pickled: the copy opens the model's file again.

    Args:
        weights: an exported model (`trackweave assoc export`); None = the one that comes with the package, trained on
            simulated scenes only.
        size: `(H, W)` of frames whose states have no size.
        embed_dim: the width of embeddings that is expected; None: whatever the model was trained with.
        threshold: probability from which a lost track is matched rather than left unmatched; None = the model's own.
            Tracks that were matched on the frame before have a lower one, see `KEEP_ODDS`, and detections of low score
            a higher one, see `MIN_NEW_TRACK_SCORE`.

    Raises:
        ArtifactError: not a model of association, or damaged.
        ArtifactVersionError: a model of another version of the features.
        SettingError: another width of embeddings than the model's, or a threshold outside (0, 1).
    """

    def __init__(
        self,
        weights: Path | str | None = None,
        *,
        size: tuple[int, int] | None = None,
        embed_dim: int | None = None,
        threshold: float | None = None,
    ) -> None:
        self.path = default_weights() if weights is None or str(weights) == DEFAULT else Path(weights)
        self._session = open_session(self.path)
        self.header = read_header(self._session, self.path)
        if embed_dim is not None and self.header.embed_dim is not None and embed_dim != self.header.embed_dim:
            raise SettingError(
                f"{self.path}: was trained with embeddings of width {self.header.embed_dim}, not {embed_dim}"
            )
        self.threshold = self.header.threshold if threshold is None else threshold
        if not 0 < self.threshold < 1:
            raise SettingError(f"threshold: {self.threshold} is not between 0 and 1")
        self._size = size
        self._memory = TrackMemory()
        self._is_attached = False

    def attach(self) -> None:
        """A tracker takes it.

        Raises:
            SettingError: another tracker has it.
        """
        if self._is_attached:
            raise SettingError(
                "this scorer serves another tracker, whose tracks it remembers: give each tracker a scorer of its own, "
                "or call the scorer's reset() when the other one is done"
            )
        self._is_attached = True

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_session"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._session = open_session(self.path)

    def cost(self, state: AssignmentState) -> NDArray[np.float32]:
        """`(T, D)` float32 in [0, `MAX_COST`]: 1 at the threshold, lower for better matches; NaN for pairs outside the
        gates. It falls with the logit margin (see `AssociationOutput`), so the cheapest assignment is the likeliest.

        Raises:
            SettingError: the frame's size is not known, or embeddings are of another width than the model's.
            ArtifactError: the model fails, or gives numbers that are not finite.
        """
        size = state.size or self._size
        if size is None:
            raise SettingError(
                f"frame {state.frame}: the learned scorer needs the frames' size: give "
                f"{wording('the tracker size=(H, W)', '--size WxH')}"
            )
        self._check_width(state)
        cost = np.full(state.cost.shape, np.nan, np.float32)
        batch = frame_batch(state, self._memory, size)
        if not len(batch.pairs):
            return cost
        margin = self.margins(model_inputs(batch), state.frame)
        tracks, detections = batch.pairs.T
        just_matched = (state.track_gap <= self._memory.frame_step)[tracks]
        low_score = batch.det_scores[detections] < MIN_NEW_TRACK_SCORE
        odds_shift = np.where(just_matched, -1.0, low_score)
        min_margin = np.log(self.threshold / (1 - self.threshold)) + np.log(KEEP_ODDS) * odds_shift
        cost[tracks, detections] = np.clip(1 - (margin - min_margin) / SCALE, 0, MAX_COST)
        return cost

    def margins(self, inputs: ModelInputs, frame: int) -> NDArray[np.float32]:
        """`(P,)` logit margins, what the model answers of each pair; `frame` is named where it fails.

        Raises:
            ArtifactError: it fails, or gives numbers that are not finite: its weights are damaged.
        """
        feed = {name: getattr(inputs, name) for name in input_names(self._session)}
        try:
            (margin,) = self._session.run([OUTPUT], feed)
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common base
            reason = shortened_line(str(error))
            raise ArtifactError(f"{self.path}: the model fails on frame {frame}: {reason}") from None
        if margin.shape != (len(inputs.pairs),) or not np.isfinite(margin).all():
            raise ArtifactError(
                f"{self.path}: the model does not give a finite number for each pair of frame {frame}: it is damaged"
            )
        return np.asarray(margin, np.float32)

    def observe(self, state: AssignmentState) -> None:
        """Adds the frame's assignment to the tracks' history."""
        self._memory.update(state)

    def reset(self) -> None:
        """Forgets every track; another tracker may take it."""
        self._memory.reset()
        self._is_attached = False

    def _check_width(self, state: AssignmentState) -> None:
        expected, rows = self.header.embed_dim, state.detections.embedding
        if expected is not None and rows is not None and rows.shape[1] > expected:
            raise SettingError(
                f"frame {state.frame}: embeddings are {rows.shape[1]} wide, the model was trained with {expected}"
            )


def default_weights() -> Path:
    """The model that comes with the package.

    Raises:
        ArtifactError: it is missing.
    """
    path = Path(str(files("trackweave.association") / "weights" / "default.onnx"))
    if not path.is_file():
        raise ArtifactError(f"{path}: the package's own model is missing: install trackweave again")
    return path


def open_session(path: Path | str) -> Any:
    """An onnxruntime session on one thread.

    Raises:
        ArtifactError: not a model.
    """
    import onnxruntime

    path = Path(path)
    if not path.is_file():
        raise ArtifactError(f"{path}: there is no model here")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common base
        raise ArtifactError(f"{path}: not a model that can be run: {' '.join(str(error).split())[:160]}") from None


def input_names(session: Any) -> list[str]:
    """Names of a model's inputs; a model without history or without features of pairs lacks these."""
    return [entry.name for entry in session.get_inputs()]


def read_header(session: Any, path: object) -> ScorerHeader:
    """Reads a model's header.

    Raises:
        ArtifactError: not a model of association that trackweave exported.
        ArtifactVersionError: of another version of the features.
    """
    try:
        text = session.get_modelmeta().custom_metadata_map.get(HEADER)
        values = parse_json(text or "")
        if values["format"] != FORMAT:
            raise ValueError(values["format"])
        versions = {name: values[name] for name in ("version", "input_version", "feature_version")}
        header = ScorerHeader(float(values["threshold"]), values["embed_dim"], dict(values["facts"]))
    except (ValueError, KeyError, TypeError):
        raise ArtifactError(
            f"{path}: not a model of association that trackweave exported (trackweave assoc export makes one)"
        ) from None
    expected = {"version": FORMAT_VERSION, "input_version": INPUT_VERSION, "feature_version": FEATURE_VERSION}
    for name, value in expected.items():
        if versions[name] != value:
            raise ArtifactVersionError(
                f"{path}: {name} {versions[name]}, this trackweave has {value}: export it again with this version, "
                "or train again"
            )
    if not set(input_names(session)) <= set(INPUTS):
        raise ArtifactError(f"{path}: the model's inputs are not those that its header promises")
    return header
