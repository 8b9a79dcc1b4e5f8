from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.toy_boxes import combined, distinct, track_scene, walk
from trackweave.errors import SettingError
from trackweave.mot.settings import PRESETS, TrackerSettings, preset
from trackweave.mot.state import NEVER, PARAMETERS, ROUNDING, kernel_parameters
from trackweave.mot.tracker import Tracker


def test_the_default_is_adaptive() -> None:
    assert preset("adaptive") == TrackerSettings() == Tracker().settings


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_tracks_the_easy_world(name: str) -> None:
    scene = combined(
        walk(30, speed=5, letter="A"),
        walk(30, y=150, x=200, speed=-3, letter="B"),
        walk(30, y=300, speed=0, letter="C"),
    )
    track_ids = track_scene(Tracker(preset(name), size=(480, 640)), scene)
    assert {letter: distinct(ids) for letter, ids in track_ids.items()} == {"A": [1], "B": [2], "C": [3]}
    assert all(0 not in ids[3:] for ids in track_ids.values())


def test_presets_differ() -> None:
    assert len({settings.model_dump_json() for settings in PRESETS.values()}) == len(PRESETS)


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ("adaptive", "learned")])
def test_published_trackers_do_not_adapt(name: str) -> None:
    settings = PRESETS[name]
    assert (settings.high_score, settings.birth_score, settings.score_weight, settings.distance_share) == (
        settings.clutter_high_score,
        settings.clutter_birth_score,
        settings.clutter_score_weight,
        settings.unsteady_distance_share,
    )


def test_presets_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        PRESETS["mine"] = TrackerSettings()  # type: ignore[index]
    with pytest.raises(ValidationError):
        PRESETS["sort"].high_score = 0.3


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("bytetrak", {}, "there is no tracker 'bytetrak'; known: adaptive, bytetrack, sort, ocsort, botsort, learned"),
        ("sort", {"lost_second": 2}, "there is no setting lost_second; did you mean lost_seconds?"),
        ("sort", {"xyzzy": 2}, "there is no setting xyzzy"),
        ("sort", {"lost_seconds": -1}, "lost_seconds: Input should be greater than or equal to 0, not -1"),
        ("sort", {"classes": "both"}, "classes: Input should be 'votes', 'separate' or 'ignored', not 'both'"),
    ],
)
def test_what_cannot_be_is_named(name: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as error:
        preset(name, **overrides)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "field", [name for name, info in TrackerSettings.model_fields.items() if info.annotation is float]
)
def test_no_number_may_be_nan(field: str) -> None:
    with pytest.raises(SettingError, match=field):
        preset("adaptive", **{field: float("nan")})


def test_kernels_get_numbers() -> None:
    p = kernel_parameters(TrackerSettings(lost_seconds=2, classes="votes", instant_score=None, max_mahalanobis=9))[0]
    assert p.dtype == PARAMETERS
    assert all(type(value) is float for value in p.tolist())
    assert (p.lost_steps, p.separate_classes, p.class_votes) == (60 + ROUNDING, 0, 1)
    assert (p.instant_score, p.max_distance, p.max_mahalanobis) == (NEVER, NEVER, 9)
    q = kernel_parameters(TrackerSettings(classes="separate", duplicate_overlap=None))[0]
    assert (q.separate_classes, q.class_votes, q.duplicate_overlap) == (1, 0, NEVER)
    r = kernel_parameters(TrackerSettings(classes="ignored"))[0]
    assert (r.separate_classes, r.class_votes) == (0, 0)
