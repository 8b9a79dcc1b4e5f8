"""`flow`: mask propagation without weights, by optical flow, appearance and re-detection."""

from trackweave.predictors.flow.predictor import FlowPredictor
from trackweave.predictors.flow.settings import FlowSettings

__all__ = ["FlowPredictor", "FlowSettings"]
