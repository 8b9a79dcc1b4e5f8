"""Streams: a session of the engine goes forward over frames as they come, and keeps little of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.pipelines.test_online_masks import ForwardOnly, assert_same
from tests.predictors.sam.adapters import mask, predictor, video
from trackweave.errors import SettingError
from trackweave.pipelines.masks import track_masks
from trackweave.proposals.settings import PointGridSettings
from trackweave.structures.tracks import Tracks
from trackweave.tracking.settings import OnlineSettings, TrackingSettings

LENGTH = 18
"""In shorter videos the family scales its clock to the length, which a stream does not know."""


def test_a_stream_has_the_masks_of_the_forward_pass(name: str, tmp_path: Path) -> None:
    model, frames = predictor(name), video(LENGTH)
    chosen = TrackingSettings(iou_threshold=1.0, render_viz=False, cuts="ignore")
    candidates = {0: np.stack([mask(0), mask(1)]), 5: mask(2)[None]}
    run = track_masks(
        frames, tmp_path / "run", predictor=ForwardOnly(model), candidates=candidates, settings=chosen, identity=False
    )
    online = OnlineSettings(max_absent=None)
    with track_masks(iter(frames), predictor=model, candidates=candidates, settings=chosen, online=online) as stream:
        tracks = Tracks.concat(list(stream))
    assert len(tracks)
    assert_same(tracks, run.tracks(raw=True))


def test_features_of_passed_frames_are_let_go(name: str) -> None:
    frames = video(LENGTH)
    with track_masks(iter(frames), predictor=predictor(name), candidates={0: mask(0)[None]}, online=True) as stream:
        for _ in stream:
            assert stream._following is not None
            assert stream._following._tracker is not None
            session = stream._following._tracker.session
            assert len(session._store.frames) <= 1  # type: ignore[attr-defined]
        assert session.counters["encoder_passes"] == LENGTH


def test_automatic_masks_come_from_the_features_that_tracking_uses(name: str) -> None:
    generator = PointGridSettings(points_per_side=3, min_predicted_iou=0.0, min_stability=0.0)
    chosen = TrackingSettings(render_viz=False)
    with track_masks(
        iter(video(4)),
        predictor=predictor(name),
        generator=generator,
        candidate_stride=2,
        settings=chosen,
        online=True,
    ) as stream:
        assert sum(map(len, stream))
        assert stream._following is None


def test_the_upstream_predictor_is_refused() -> None:
    with pytest.raises(SettingError, match="holds the whole video"):
        track_masks(iter(video(2)), predictor=predictor("sam2-hf", feature_store=False), online=True)
