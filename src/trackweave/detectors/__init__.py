"""Where detections come from: models, weights-free detectors, and what they leave out (embeddings, visibility)."""

from trackweave.detectors.base import Detector
from trackweave.detectors.embedding import Embedder, make_embedder
from trackweave.detectors.registry import make_detector
from trackweave.detectors.visibility import VisibilityEstimator

__all__ = ["Detector", "Embedder", "VisibilityEstimator", "make_detector", "make_embedder"]
