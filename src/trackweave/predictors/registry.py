"""From a name on the command line to a predictor; backends are imported only when chosen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trackweave.errors import PredictorUnavailable, SettingError
from trackweave.predictors.base import VideoPredictor

WEIGHTS_FREE = ("flow", "static", "replay")

PENDING = {"sam2": "sam2", "sam2-hf": "sam2", "edgetam": "sam2", "sam3-tracker": "sam2"}
"""Backends that need weights → the extra that will install them. Their place is kept; none is there yet."""


@dataclass(frozen=True)
class ChosenPredictor:
    """A predictor and why it was taken.

    Attributes:
        predictor: the recipe.
        asked: what the user wrote.
        reason: one line for the manifest and the terminal.
    """

    predictor: VideoPredictor
    asked: str
    reason: str


def choose_predictor(asked: str) -> ChosenPredictor:
    """Makes the predictor that a name asks for.

    Args:
        asked: `auto`, `flow`, `static` or `replay=PATH`; the names of the SAM 2 family are known and refused.

    Raises:
        SettingError: an unknown name, or `replay` without a path.
        PredictorUnavailable: the backend, its extra or its file is missing.
    """
    name, _, argument = asked.partition("=")
    if argument and name in ("auto", "flow", "static"):
        raise SettingError(f"predictor {name} takes no argument, but got {asked!r}")
    if name == "auto":
        from trackweave.predictors.flow.predictor import FlowPredictor

        return ChosenPredictor(FlowPredictor(), asked, "auto: no backend with weights is available, so flow is used")
    if name in PENDING:
        raise PredictorUnavailable(
            f"predictor {name} is not in this version; it will come with pip install 'trackweave[{PENDING[name]}]'. "
            f"Use --predictor flow, which needs no weights"
        )
    if name == "flow":
        from trackweave.predictors.flow.predictor import FlowPredictor

        return ChosenPredictor(FlowPredictor(), asked, "asked for")
    if name == "static":
        from trackweave.predictors.static import StaticPredictor

        return ChosenPredictor(StaticPredictor(), asked, "asked for")
    if name == "replay":
        from trackweave.predictors.replay import ReplayPredictor

        if not argument:
            raise SettingError("replay needs a recording: --predictor replay=PATH")
        return ChosenPredictor(ReplayPredictor(Path(argument)), asked, "asked for")
    known = ", ".join(("auto", *WEIGHTS_FREE, *PENDING))
    raise SettingError(f"there is no predictor {name!r}; known: {known}")
