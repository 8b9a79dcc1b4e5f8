from __future__ import annotations

from pathlib import Path

import pytest

from tests.worlds import world
from trackweave.errors import PredictorUnavailable, SettingError
from trackweave.predictors.registry import choose_predictor


@pytest.mark.parametrize("name", ["flow", "static"])
def test_a_predictor_by_name(name: str) -> None:
    chosen = choose_predictor(name)
    assert (chosen.predictor.name, chosen.asked, chosen.reason) == (name, name, "asked for")


def test_auto_says_what_it_took_and_why() -> None:
    chosen = choose_predictor("auto")
    assert (chosen.predictor.name, chosen.asked) == ("flow", "auto")
    assert "flow" in chosen.reason


def test_replay_takes_a_path_that_may_hold_an_equals_sign(tmp_path: Path) -> None:
    path = world("a.").record(tmp_path / "a=b.npz")
    assert choose_predictor(f"replay={path}").predictor.name == "replay"


@pytest.mark.parametrize("asked", ["replay", "replay="])
def test_replay_without_a_path(asked: str) -> None:
    with pytest.raises(SettingError, match="replay needs a recording: --predictor replay=PATH"):
        choose_predictor(asked)


def test_replay_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(PredictorUnavailable, match="no recording to replay"):
        choose_predictor(f"replay={tmp_path / 'none.npz'}")


@pytest.mark.parametrize("name", ["sam2", "sam2-hf", "edgetam", "sam3-tracker"])
def test_backends_with_weights_name_their_extra(name: str) -> None:
    with pytest.raises(
        PredictorUnavailable, match=r"pip install 'trackweave\[sam2\]'.* Use --predictor flow"
    ) as caught:
        choose_predictor(name)
    assert name in str(caught.value)


def test_an_unknown_name_gets_the_known_ones() -> None:
    with pytest.raises(SettingError, match=r"no predictor 'sma2'; known: auto, flow, static, replay, sam2, "):
        choose_predictor("sma2")


@pytest.mark.parametrize("asked", ["auto=x", "flow=fast", "static=1"])
def test_an_argument_that_nothing_takes(asked: str) -> None:
    with pytest.raises(SettingError, match="takes no argument"):
        choose_predictor(asked)
