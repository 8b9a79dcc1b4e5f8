from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.predictors.conformance import STILL, PredictorConformance
from trackweave.errors import PredictorError
from trackweave.ids import LocalIndex
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.predictors.flow.predictor import FlowPredictor
from trackweave.predictors.replay import ReplayPredictor
from trackweave.predictors.static import StaticPredictor


class TestStatic(PredictorConformance):
    @pytest.fixture
    def predictor(self, tmp_path: Path) -> VideoPredictor:
        return StaticPredictor()

    def test_points_find_the_object_that_they_lie_in(self, session: PredictorSession) -> None:
        with pytest.raises(PredictorError, match="predictor static takes masks and boxes, no points"):
            session.add_points(LocalIndex(0), 1, np.array([[12.5, 8.5]], np.float32), np.array([1]))

    def test_points_that_are_refused(self) -> None:  # type: ignore[override]
        """All are; see above."""


class TestReplay(PredictorConformance):
    @pytest.fixture
    def predictor(self, tmp_path: Path) -> VideoPredictor:
        return ReplayPredictor(STILL.record(tmp_path / "still.npz"))


class TestFlow(PredictorConformance):
    @pytest.fixture
    def predictor(self, tmp_path: Path) -> VideoPredictor:
        return FlowPredictor()
