"""What the predictor does with small scenes whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.predictors.flow.scenes import HEIGHT, WIDTH, Disc, Scene, draw, line, overlap
from trackweave.frames.arrays import ArrayFrames
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.predictors.flow.predictor import FlowPredictor, FlowSession
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.simulation.video import SyntheticScene

RED, BLUE = (190, 60, 60), (60, 70, 190)


def follow(
    session: FlowSession, start: int, reverse: bool = False, max_frames: int | None = None
) -> dict[int, NDArray[np.bool_]]:
    """Masks `(M, H, W)` per frame."""
    return {p.frame: p.masks.to_bool() for p in session.propagate(start, reverse=reverse, max_frames=max_frames)}


def prompted(scene: Scene, frame: int = 0, threads: int = 1) -> FlowSession:
    session = FlowPredictor(threads=threads).open(scene.frames)
    for k, truth in enumerate(scene.truth):
        if truth[frame].any():
            session.add_mask(frame, k + 1, truth[frame])
    return session


def moving(length: int = 8) -> Scene:
    return draw([Disc(RED, 11, line((30, 25), (1, 5), length))])


def test_it_satisfies_the_protocols() -> None:
    predictor = FlowPredictor()
    assert isinstance(predictor, VideoPredictor)
    assert isinstance(predictor.open(moving().frames), PredictorSession)
    assert predictor.name == "flow"


def test_a_moving_object_is_followed() -> None:
    scene = moving()
    masks = follow(prompted(scene), 0)
    assert list(masks) == list(range(8))
    assert np.array_equal(masks[0][0], scene.truth[0, 0])
    assert min(overlap(masks[k][0], scene.truth[0, k]) for k in range(8)) > 0.8


def test_objects_that_cross_keep_their_identity() -> None:
    discs = [Disc(RED, 10, line((32, 15), (0, 6), 14)), Disc(BLUE, 12, line((40, 97), (0, -6), 14))]
    scene = draw(discs)
    masks = follow(prompted(scene), 0)
    for k in range(2):
        assert overlap(masks[13][k], scene.truth[k, 13]) > 0.75


def test_a_hidden_object_is_empty_and_redetected() -> None:
    scene = draw([Disc(RED, 8, line((36, 15), (0, 4), 22))], post=(44, 66))
    hidden = [k for k in range(22) if not scene.truth[0, k].any()]
    session = prompted(scene)
    predictions = list(session.propagate(0))
    assert hidden
    assert all(predictions[k].masks.areas[0] == 0 and predictions[k].score[0] == 0 for k in hidden[1:])
    assert overlap(predictions[21].masks.to_bool()[0], scene.truth[0, 21]) > 0.75
    assert predictions[21].score[0] > 0.5


def test_an_object_that_leaves_stays_away() -> None:
    scene = draw([Disc(RED, 9, line((36, 80), (0, 6), 14))])
    gone = [k for k in range(14) if not scene.truth[0, k].any()]
    masks = follow(prompted(scene), 0)
    assert len(gone) > 3
    assert not any(masks[k].any() for k in gone[1:])


def test_backward_is_forward_of_the_mirrored_video() -> None:
    scene = moving()
    backward = follow(prompted(scene, 7), 7, reverse=True)
    mirrored = follow(prompted(scene.reversed), 0)
    assert list(backward) == list(range(7, -1, -1))
    assert all(np.array_equal(backward[7 - k], mirrored[k]) for k in range(8))


def test_propagation_passes_through_a_later_prompt() -> None:
    scene = moving()
    session = prompted(scene)
    other = np.roll(scene.truth[0, 4], 20, axis=0)
    session.add_mask(4, 1, other)
    masks = follow(session, 0)
    assert np.array_equal(masks[4][0], other)
    assert overlap(masks[3][0], scene.truth[0, 3]) > 0.7


def test_a_box_prompt_finds_the_object_in_it() -> None:
    scene = moving()
    session = FlowPredictor(threads=1).open(scene.frames)
    session.add_box(0, 5, np.array([12, 17, 38, 43], np.float32))
    masks = follow(session, 0)
    assert overlap(masks[0][0], scene.truth[0, 0]) > 0.8
    assert overlap(masks[7][0], scene.truth[0, 7]) > 0.75


@pytest.mark.parametrize("box", [[30, 30, 32, 32], [0, 0, WIDTH, HEIGHT], [-5, -5, 8, 8]])
def test_any_box_gives_an_object(box: list[float]) -> None:
    session = FlowPredictor(threads=1).open(moving(2).frames)
    session.add_box(0, 1, np.array(box, np.float32))
    first = next(iter(session.propagate(0)))
    x1, y1, x2, y2 = first.masks.boxes[0]
    assert first.masks.areas[0] > 0
    assert x1 >= box[0]
    assert y1 >= box[1]
    assert x2 <= box[2]
    assert y2 <= box[3]


def test_prompts_may_overlap() -> None:
    scene = moving()
    session = prompted(scene)
    part = scene.truth[0, 0].copy()
    part[:, :25] = False
    session.add_mask(0, 9, part)
    predictions = list(session.propagate(0))
    assert predictions[-1].object_ids.tolist() == [1, 9]
    whole, half = predictions[-1].masks.to_bool()
    assert overlap(whole, scene.truth[0, 7]) > 0.8
    assert np.count_nonzero(whole & half) > 0.5 * np.count_nonzero(half) > 0


def test_objects_do_not_influence_each_other() -> None:
    scene = draw([Disc(RED, 10, line((25, 20), (0, 5), 6)), Disc(BLUE, 8, line((50, 90), (0, -5), 6))])
    together = follow(prompted(scene), 0)
    for k in range(2):
        alone = FlowPredictor(threads=1).open(scene.frames)
        alone.add_mask(0, 1, scene.truth[k, 0])
        assert all(np.array_equal(masks[0], together[frame][k]) for frame, masks in follow(alone, 0).items())


def test_a_real_scene_with_many_things_happening() -> None:
    scene = SyntheticScene(1, height=120, width=160, length=40)
    labels = [scene.labels(k) for k in range(40)]
    session = FlowPredictor(threads=1).open(scene)
    ids = [int(k) for k in np.unique(labels[0]) if k and (labels[0] == k).sum() > 60]
    for k in ids:
        session.add_mask(0, k, labels[0] == k)
    scores = [
        [overlap(mask, labels[p.frame] == k) for mask, k in zip(p.masks.to_bool(), ids, strict=True)]
        for p in session.propagate(0)
    ]
    assert np.mean(scores) > 0.6


def test_frames_of_any_size() -> None:
    rng = np.random.default_rng(0)
    for height, width in [(9, 200), (16, 16), (700, 30)]:
        frames = ArrayFrames(rng.integers(0, 255, (3, height, width, 3), np.uint8))
        session = FlowPredictor(threads=1).open(frames)
        mask = np.zeros((height, width), np.bool_)
        mask[3:7, 5:9] = True
        session.add_mask(0, 1, mask)
        assert all(p.masks.size == (height, width) for p in session.propagate(0))


def test_a_single_pixel_may_be_an_object() -> None:
    scene = moving()
    session = FlowPredictor(FlowSettings(working_side=40), threads=1).open(scene.frames)
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[30, 25] = True
    session.add_mask(0, 1, mask)
    assert next(iter(session.propagate(0))).masks.areas[0] == 1
    assert len(list(session.propagate(0))) == 8


def panned(discs: list[Disc], pan: int, height: int = HEIGHT, width: int = 96) -> Scene:
    """A camera that pans right by `pan` columns per frame over a scene that stands still."""
    wide = draw(discs, size=(height, width + pan * (len(discs[0].places) - 1)))
    views = [slice(k * pan, k * pan + width) for k in range(len(wide.frames))]
    return Scene(
        ArrayFrames(np.stack([wide.frames[k][:, view] for k, view in enumerate(views)])),
        np.stack([wide.truth[:, k, :, view] for k, view in enumerate(views)], axis=1),
    )


def test_a_look_alike_is_not_mistaken_for_what_the_camera_has_left_behind() -> None:
    discs = [Disc(RED, 9, line((36, 14), (0, 0), 12)), Disc(RED, 9, line((36, 110), (0, 0), 12))]
    scene = panned(discs, 4)
    session = FlowPredictor(threads=1).open(scene.frames)
    session.add_mask(0, 1, scene.truth[0, 0])
    predictions = list(session.propagate(0))
    gone = [k for k in range(12) if not scene.truth[0, k].any()]
    assert len(gone) > 4
    assert scene.truth[1, gone].any(axis=(1, 2)).all()
    assert all(predictions[k].masks.areas[0] == 0 and predictions[k].score[0] == 0 for k in gone[1:])


def test_a_redetection_at_an_unexpected_position_needs_a_high_objectness() -> None:
    places = [*line((36, 20), (0, 0), 4), *[None] * 2, *line((36, 92), (0, 3), 4)]
    scene = draw([Disc(RED, 9, places)])
    strict, loose = (
        FlowPredictor(FlowSettings(find_above=least, report_above=0), threads=1).open(scene.frames)
        for least in (0.4, 0.0)
    )
    for session in (strict, loose):
        session.add_mask(0, 1, scene.truth[0, 0])
    assert not follow(strict, 0)[8].any()
    assert follow(loose, 0)[8].any()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_stays_behind_something_of_its_own_colour_is_gone(seed: int) -> None:
    places = [*line((40, 10), (0, 5), 13), *[(40.0, 70.0)] * 9]
    scene = draw([Disc((120, 110, 115), 9, places)], post=(55, 95), seed=seed)
    masks = follow(prompted(scene), 0)
    assert all(overlap(masks[k][0], scene.truth[0, k]) > 0.8 for k in range(10))
    assert not any(masks[k].any() for k in range(12, 22))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_is_faster_than_the_flow_is_followed_by_its_appearance(seed: int) -> None:
    scene = draw([Disc((120, 80, 70), 7, line((20, 12), (4, 14), 7))], seed=seed)
    masks = follow(prompted(scene), 0)
    assert all(overlap(masks[k][0], scene.truth[0, k]) > 0.8 for k in range(7))


def test_a_doubtful_mask_is_propagated_but_not_reported() -> None:
    scene = draw([Disc(RED, 8, line((36, 15), (0, 4), 22))], post=(44, 66))
    shown, silent = (
        FlowPredictor(FlowSettings(report_above=least), threads=1).open(scene.frames) for least in (0.0, 0.9)
    )
    for session in (shown, silent):
        session.add_mask(0, 1, scene.truth[0, 0])
    everything, sure = list(shown.propagate(0)), list(silent.propagate(0))
    for one, other in zip(everything, sure, strict=True):
        hidden = one.score[0] < 0.9
        assert other.masks.areas[0] == (0 if hidden else one.masks.areas[0])
        assert other.score[0] == (0 if hidden else one.score[0])
    assert 0 < sum(prediction.masks.areas[0] > 0 for prediction in sure) < 22
