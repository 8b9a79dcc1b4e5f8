from __future__ import annotations

from pathlib import Path

import pytest

from tests.predictors.conformance import STILL, PredictorConformance
from trackweave.predictors.base import VideoPredictor
from trackweave.predictors.flow.predictor import FlowPredictor
from trackweave.predictors.replay import ReplayPredictor
from trackweave.predictors.static import StaticPredictor


class TestStatic(PredictorConformance):
    @pytest.fixture
    def predictor(self, tmp_path: Path) -> VideoPredictor:
        return StaticPredictor()


class TestReplay(PredictorConformance):
    @pytest.fixture
    def predictor(self, tmp_path: Path) -> VideoPredictor:
        return ReplayPredictor(STILL.record(tmp_path / "still.npz"))


class TestFlow(PredictorConformance):
    @pytest.fixture
    def predictor(self, tmp_path: Path) -> VideoPredictor:
        return FlowPredictor()
