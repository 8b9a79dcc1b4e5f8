from __future__ import annotations

import numpy as np

from tests.toy_scenes import toy_scene
from trackweave.predictors.static import StaticPredictor

SCENE = toy_scene("a..", ".a.", "..a", "...")


def test_the_prompt_is_copied_whatever_happens() -> None:
    session = StaticPredictor().open(SCENE.frames)
    session.add_mask(0, 1, SCENE.mask(0, "a"))
    session.add_mask(2, 1, SCENE.mask(2, "a"))
    session.add_box(0, 2, np.array([1.5, 0, 3, 2], np.float32))
    found = list(session.propagate(0))
    for prediction, shown in zip(found, (0, 0, 2, 2), strict=True):
        np.testing.assert_array_equal(prediction.masks.to_bool()[0], SCENE.mask(shown, "a"))
        assert prediction.masks.boxes[1].tolist() == [1, 0, 3, 2]
        assert prediction.score.tolist() == [1, 1]
