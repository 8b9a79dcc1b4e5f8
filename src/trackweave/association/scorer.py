"""`LearnedScorer`: a trained model judges the pairs of a running tracker; onnxruntime only, no torch.

It follows the tracker by its observer's protocol and keeps each track's history itself, by the same code that made the
training data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackweave.association.model_inputs import INPUT_VERSION, model_inputs, scene_of
from trackweave.association.sample_features import FEATURE_VERSION
from trackweave.association.track_memory import TrackHistory
from trackweave.errors import ArtifactError, ArtifactVersionError, SettingError
from trackweave.structures.assignment import AssignmentState

HEADER = "trackweave"
INPUTS = ("history", "tracks", "detections", "pairs", "pair_features")
OUTPUT = "gain"
FORMAT, FORMAT_VERSION = "trackweave-associator", 2
SCALE = 24.0
"""Gains, in units of the logarithm of odds, lie between − and + this."""
KEEP_ODDS = 5.0
"""A track that was matched on the frame before is kept on at odds so many times smaller than a lost one is taken back.
To leave it out begins a second track of the same object beside it; to take back the wrong one joins two objects."""
FOUNDING_SCORE = 0.5
"""A detection below this score begins no track when it is left alone, so there is no second track to be feared: a lost
track is given it only at odds `KEEP_ODDS` times larger. Among boxes that a detector doubts false ones abound."""
WORST = 2.0
"""Largest cost: a pair that is sure to be wrong; 1 is the price of no match."""
DEFAULT = "default"


@dataclass(frozen=True)
class ScorerHeader:
    """What an exported model tells about itself.

    Attributes:
        threshold: probability from which a pair is better than no match, if there were only these two; see
            `LearnedScorer`.
        embed_dim: width of the embeddings that it was trained with; None: it was trained without appearance.
        facts: where it comes from.
    """

    threshold: float
    embed_dim: int | None
    facts: dict[str, Any]


class LearnedScorer:
    """Satisfies the tracker's scorer protocol.

    Args:
        weights: an exported model (`trackweave assoc export`); None = the one that comes with the package, trained on
            simulated crowds only.
        size: `(H, W)` of frames whose states do not tell.
        embed_dim: the width of embeddings that is expected; None: whatever the model was trained with.
        threshold: probability from which a lost track is taken back rather than left alone; None = the model's own.
            Tracks that were matched on the frame before have a lower one, see `KEEP_ODDS`, and doubtful detections a
            higher one, see `FOUNDING_SCORE`.

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
        self._history = TrackHistory()

    def cost(self, state: AssignmentState) -> NDArray[np.float32]:
        """`(T, D)` float32 in [0, `WORST`]: 1 at the threshold, lower for better matches; NaN for pairs outside the
        gates. It falls with the gain (see `Judgement.gain`), so the cheapest assignment is the likeliest one.

        Raises:
            SettingError: the frame's size is not known, or embeddings are of another width than the model's.
        """
        size = state.size or self._size
        if size is None:
            raise SettingError(f"frame {state.frame}: the learned scorer needs the frames' size: give --size WxH")
        self._check_width(state)
        cost = np.full(state.cost.shape, np.nan, np.float32)
        scene = scene_of(state, self._history, size)
        if not len(scene.pairs):
            return cost
        given = model_inputs(scene)
        (gain,) = self._session.run([OUTPUT], {name: getattr(given, name) for name in input_names(self._session)})
        tracks, detections = scene.pairs.T
        kept_on = (state.track_gap <= self._history.frames)[tracks]
        doubtful = scene.det_scores[detections] < FOUNDING_SCORE
        harder = np.where(kept_on, -1.0, doubtful)
        least = np.log(self.threshold / (1 - self.threshold)) + np.log(KEEP_ODDS) * harder
        cost[tracks, detections] = np.clip(1 - (gain - least) / SCALE, 0, WORST)
        return cost

    def observe(self, state: AssignmentState) -> None:
        """Takes in the frame's decisions."""
        self._history.learn(state)

    def reset(self) -> None:
        """Forgets every track."""
        self._history.reset()

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
    """Names of a model's inputs: a model without history or features of pairs does not ask for them."""
    return [one.name for one in session.get_inputs()]


def read_header(session: Any, where: object) -> ScorerHeader:
    """What the model tells about itself.

    Raises:
        ArtifactError: not a model of association that trackweave exported.
        ArtifactVersionError: of another version of the features.
    """
    text = session.get_modelmeta().custom_metadata_map.get(HEADER)
    try:
        told = json.loads(text or "")
        if told["format"] != FORMAT:
            raise ValueError(told["format"])
        versions = {name: told[name] for name in ("version", "input_version", "feature_version")}
        header = ScorerHeader(float(told["threshold"]), told["embed_dim"], dict(told["facts"]))
    except (ValueError, KeyError, TypeError):
        raise ArtifactError(
            f"{where}: not a model of association that trackweave exported (trackweave assoc export makes one)"
        ) from None
    expected = {"version": FORMAT_VERSION, "input_version": INPUT_VERSION, "feature_version": FEATURE_VERSION}
    for name, value in expected.items():
        if versions[name] != value:
            raise ArtifactVersionError(
                f"{where}: {name} {versions[name]}, this trackweave has {value}: export it again with this version, "
                "or train again"
            )
    if not set(input_names(session)) <= set(INPUTS):
        raise ArtifactError(f"{where}: the model's inputs are not those that its header promises")
    return header
