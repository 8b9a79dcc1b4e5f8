"""What goes into a tracker and comes out of it: its settings, types of detections, frames, copies."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.toy_boxes import StateRecorder, random_detections
from trackweave import ByteTracker as PublicAlias
from trackweave import Tracker as PublicTracker
from trackweave.association.data_collection import SampleLogger
from trackweave.association.scorer import LearnedScorer
from trackweave.errors import FrameOrderError, InputError, SettingError
from trackweave.masks.packed import PackedMasks
from trackweave.mot.settings import PRESETS, TrackerSettings, preset
from trackweave.mot.state import AssignmentObserver, AssociationScorer, ExclusiveScorer, FrameContext
from trackweave.mot.tracker import ByteTracker, Tracker
from trackweave.structures.detections import Detections

BOX = [10.0, 10, 50, 90]
SIZE = (720, 1280)


# --- settings -----------------------------------------------------------------------------------------------------


def test_one_class_under_two_names() -> None:
    assert PublicTracker is Tracker is ByteTracker is PublicAlias


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_by_its_name(name: str) -> None:
    assert Tracker(name).settings == preset(name)


def test_single_settings_by_keyword() -> None:
    assert Tracker(lost_seconds=2.0).settings == preset("adaptive", lost_seconds=2.0)
    assert Tracker("ocsort", min_similarity=0.4).settings == preset("ocsort", min_similarity=0.4)
    assert Tracker(preset("sort"), confirm_hits=1).settings == preset("sort", confirm_hits=1)
    assert Tracker().settings == TrackerSettings()
    assert Tracker(size=SIZE).settings == preset("learned")
    assert Tracker(size=SIZE, observer=Mock()).settings == TrackerSettings()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((("bytetrak",), {}), "no tracker 'bytetrak'; known: adaptive, bytetrack"),
        (((), {"lost_second": 1.0}), "lost_second; did you mean lost_seconds"),
        ((("sort",), {"confirm_hits": 0}), "confirm_hits"),
        (((TrackerSettings(),), {"buffer": 9.0}), "buffer"),
        ((({},), {}), "a preset's name or TrackerSettings, not dict"),
    ],
)
def test_wrong_settings_are_named(arguments: Any, message: str) -> None:
    positional, keywords = arguments
    with pytest.raises(SettingError, match=message):
        Tracker(*positional, **keywords)


def test_learned_by_its_name_has_the_packaged_scorer() -> None:
    by_name = Tracker("learned", size=SIZE)
    given = Tracker(preset("learned"), size=SIZE, scorer=LearnedScorer(size=SIZE))
    without = Tracker(preset("learned", scorer_decides=False), size=SIZE)
    by_settings = Tracker(preset("learned"), size=SIZE)
    differs = False
    for detections in random_detections(60, 20, seed=4):
        expected = given.update(detections)
        assert by_name.update(detections).track_id.tolist() == expected.track_id.tolist()  # type: ignore[union-attr]
        assert by_settings.update(detections).track_id.tolist() == expected.track_id.tolist()  # type: ignore[union-attr]
        differs |= without.update(detections).track_id.tolist() != expected.track_id.tolist()  # type: ignore[union-attr]
    assert differs


def test_a_size_that_is_missing_and_settings_without_effect_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker(scorer_weight=0.9, prototypes=9, low_scores=False, min_similarity_low=0.4, appearance_weight=0.3)
    messages = [warning.message for warning in tracker.summary.warnings]
    assert messages == caplog.messages
    assert [text.partition(" has")[0] for text in messages[1:]] == [
        "tracker.min_similarity_low 0.4", "tracker.prototypes 9", "tracker.scorer_weight 0.9",
    ]  # fmt: skip
    assert "size=(H, W)" in messages[0]
    assert tracker.settings.model_fields_set >= {"scorer_weight", "prototypes"}


def test_what_has_an_effect_is_not_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    for tracker in (
        Tracker("adaptive"),
        Tracker(size=SIZE),
        Tracker(size=SIZE, appearance_memory=True, prototypes=9),
        Tracker("adaptive", scorer=LearnedScorer(size=SIZE), scorer_weight=0.9),
        Tracker(TrackerSettings.model_validate(TrackerSettings().model_dump())),
    ):
        assert not tracker.summary.warnings
    assert not caplog.messages


def test_single_settings_leave_the_others_unset() -> None:
    assert Tracker(preset("sort"), confirm_hits=1).settings.model_fields_set == {"confirm_hits"}


# --- types of detections ------------------------------------------------------------------------------------------


@dataclass
class SupervisionLike:
    """Has the attributes and the indexing of `supervision.Detections`."""

    xyxy: NDArray[Any]
    mask: NDArray[Any] | None = None
    confidence: NDArray[Any] | None = None
    class_id: NDArray[Any] | None = None
    tracker_id: NDArray[Any] | None = None
    data: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __getitem__(self, index: Any) -> SupervisionLike:
        columns = {name: column[index] for name, column in vars(self).items() if isinstance(column, np.ndarray)}
        return SupervisionLike(**columns, data={name: column[index] for name, column in self.data.items()})


def supervision_of(detections: Detections) -> Any:
    """As supervision's class where it is installed, else as one that is like it."""
    try:
        kind: Any = import_module("supervision").Detections
    except ImportError:
        kind = SupervisionLike
    return kind(
        xyxy=detections.xyxy.astype(np.float64), confidence=detections.score, class_id=detections.class_id,
        data={"truth": detections.data["truth"]},
    )  # fmt: skip


def test_names_follow_the_class_of_a_track() -> None:
    tracker, names = Tracker(), {2: "car", 7: "truck"}
    for frame, class_id in enumerate([2, 2, 7, 2, 7]):
        given = SupervisionLike(
            xyxy=np.array([[5.0 + frame, 5, 45, 85], [300, 5, 340, 85]]),
            confidence=np.array([0.9, 0.9]),
            class_id=np.array([class_id, 7]),
            data={"class_name": np.array([names[class_id], "truck"])},
        )
        tracked = tracker.update(given)
        assert tracked.class_id.tolist() == [2, 7]
        assert tracked.data["class_name"].tolist() == ["car", "truck"]
    assert given.data["class_name"].tolist() == ["truck", "truck"]  # the caller's own stay
    every = tracker.update(given, untracked=True)
    assert every.data["class_name"].tolist() == ["car", "truck"]


def ultralytics_of(detections: Detections) -> Any:
    boxes = SimpleNamespace(xyxy=detections.xyxy, conf=detections.score, cls=detections.class_id.astype(np.float32))
    return SimpleNamespace(boxes=boxes, masks=None)


def rows_of(detections: Detections, *, with_class: bool, dtype: Any = np.float64) -> NDArray[Any]:
    rows = np.column_stack([detections.xyxy, detections.score, detections.class_id]).astype(dtype)
    return rows if with_class else rows[:, :5]


def test_every_type_is_tracked_alike_and_comes_back_as_it_was() -> None:
    plain, wrapped, five, six, result = (Tracker(size=SIZE) for _ in range(5))
    for frame in random_detections(40, 15, seed=3):
        detections = replace(frame, class_id=np.full(len(frame), 2))
        expected = plain.update(detections)
        assert isinstance(expected, Detections)
        assert expected.index is not None
        assert expected.track_id is not None
        other = wrapped.update(supervision_of(detections))
        assert type(other) is type(supervision_of(detections))
        assert other.xyxy.dtype == np.float64  # rows of the input, not copies through another type
        np.testing.assert_array_equal(other.tracker_id, expected.track_id)
        np.testing.assert_array_equal(other.confidence, expected.score)
        np.testing.assert_array_equal(other.data["truth"], expected.data["truth"])
        # Another class is another kind of object only to those that have one.
        table = rows_of(detections, with_class=True)
        np.testing.assert_array_equal(six.update(table), np.column_stack([table[expected.index], expected.track_id]))
        table = rows_of(detections, with_class=False, dtype=np.float32)
        rows = five.update(table)
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, np.column_stack([table[expected.index], expected.track_id]))
        back = result.update(ultralytics_of(detections))
        assert isinstance(back, Detections)
        np.testing.assert_array_equal(back.track_id, expected.track_id)


@pytest.mark.parametrize("width", [5, 6])
def test_a_frame_without_rows(width: int) -> None:
    tracker = Tracker()
    assert tracker.update(np.zeros((0, width))).shape == (0, width + 1)
    assert tracker.update(np.zeros((0, width)), untracked=True).shape == (0, width + 1)
    assert tracker.update([]).shape == (0, 6)
    assert len(tracker.update(SupervisionLike(np.zeros((0, 4)))).tracker_id) == 0


def test_tensors_come_back_as_numpy() -> None:
    torch = pytest.importorskip("torch")
    tracked = Tracker().update(torch.tensor([[*BOX, 0.9, 3]], requires_grad=True))
    assert isinstance(tracked, np.ndarray)
    assert (tracked.shape, tracked[0, 5:].tolist()) == ((1, 7), [3, 1])


def test_smoothed_boxes_and_voted_classes_reach_every_type() -> None:
    settings = preset("adaptive", output_boxes="smoothed", classes="votes", instant_score=0.5)
    plain, wrapped, table = Tracker(settings), Tracker(settings), Tracker(settings)
    for frame, class_id in enumerate([2, 2, 7]):
        detections = Detections.of([[10 + 3 * frame, 10, 50 + 3 * frame, 90 + frame % 2]], [0.9], [class_id])
        columns = replace(detections, data={"truth": np.zeros(1)})
        expected, other, rows = (
            plain.update(detections), wrapped.update(supervision_of(columns)),
            table.update(rows_of(detections, with_class=True)),
        )  # fmt: skip
        np.testing.assert_array_equal(other.xyxy, expected.xyxy)
        np.testing.assert_array_equal(rows[:, :4], expected.xyxy)
        assert other.class_id.tolist() == rows[:, 5].tolist() == expected.class_id.tolist() == [2]


@pytest.mark.parametrize("wrong", [np.zeros((3, 4)), np.zeros((3, 7)), np.zeros(5), None, "boxes.txt"])
def test_what_is_no_detection_leaves_the_tracker_as_it_was(wrong: Any) -> None:
    tracker = Tracker()
    with pytest.raises(InputError, match="detections"):
        tracker.update(wrong)
    assert tracker.frames == 0
    assert tracker.update([[*BOX, 0.9]]).tolist()[0][5] == 1


def test_observers_see_the_masks_of_every_type() -> None:
    recorder = StateRecorder()
    masks = np.ones((1, 4, 6), np.bool_)
    detections = SupervisionLike(np.array([BOX]), masks, np.array([0.9]), np.array([0]))
    Tracker(observer=recorder).update(detections)
    assert recorder.states[0].detections.masks == PackedMasks.from_bool(masks)
    tracked = Tracker().update(detections)
    np.testing.assert_array_equal(tracked.mask, masks)


# --- all rows -----------------------------------------------------------------------------------------------------


def test_untracked_rows_come_back_in_their_place() -> None:
    some, every, table = Tracker(), Tracker(), Tracker()
    for frame in random_detections(30, 12, seed=6):
        expected = some.update(frame)
        found = every.update(frame, untracked=True)
        assert expected.index is not None
        assert found.track_id is not None
        assert found.index is not None
        assert found.index.tolist() == list(range(len(frame)))
        np.testing.assert_array_equal(found.xyxy, frame.xyxy)
        np.testing.assert_array_equal(found.data["truth"], frame.data["truth"])
        np.testing.assert_array_equal(found.track_id[expected.index], expected.track_id)
        assert np.count_nonzero(found.track_id == -1) == len(frame) - len(expected)
        rows = table.update(rows_of(frame, with_class=False), untracked=True)
        np.testing.assert_array_equal(rows[:, 5], found.track_id)


def test_untracked_rows_of_bad_detections() -> None:
    rows = np.array([[*BOX, 0.9], [np.nan, 0, 1, 1, 0.9], [50, 50, 40, 90, 0.9], [*BOX, 0.01]])
    assert Tracker().update(rows, untracked=True)[:, 5].tolist() == [1, -1, -1, -1]


# --- frames -------------------------------------------------------------------------------------------------------


def test_frames_count_by_themselves() -> None:
    recorder = StateRecorder()
    tracker = Tracker(observer=recorder, frame_rate=10)
    detections = Detections.of([BOX], [0.9])
    for frame in (None, None, 5, None, 0.9, np.int64(12), np.float32(2.0), FrameContext(20), None):
        tracker.update(detections, frame)  # type: ignore[arg-type]
    assert [int(state.frame) for state in recorder.states] == [0, 1, 5, 6, 7, 12, 13, 20, 21]
    times = [state.time for state in recorder.states]
    assert times == pytest.approx([0, 0.1, 0.5, 0.6, 0.9, 1.2, 2.0, 2.0, 2.1])


def test_time_stamps_are_the_time_between_frames() -> None:
    by_stamp, by_context = StateRecorder(), StateRecorder()
    stamped, with_context = Tracker(observer=by_stamp), Tracker(observer=by_context)
    for k, time in enumerate([0.0, 0.1, 0.15, 0.4]):
        detections = Detections.of([[10 + 100 * time, 10, 50 + 100 * time, 90]], [0.9])
        stamped.update(detections, time)
        with_context.update(detections, FrameContext(k, time=time))
    for one, other in zip(by_stamp.states, by_context.states, strict=True):
        np.testing.assert_array_equal(one.track_boxes, other.track_boxes)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (5, 5, "frame 5 comes after frame 5"),
        (5, 3, "frame 3 comes after frame 5"),
        (0.5, 0.5, "frame 1: its time 0.5 s is not after 0.5 s"),
        (0.5, 0.25, "frame 1: its time 0.25 s is not after 0.5 s"),
        (0.5, float("nan"), "frame 1: its time nan is not a finite number"),
        (FrameContext(7), 7, "frame 7 comes after frame 7"),
    ],
)
def test_a_frame_that_is_not_later_is_refused(first: Any, second: Any, message: str) -> None:
    tracker, detections = Tracker(), Detections.of([BOX], [0.9])
    tracker.update(detections, first)
    with pytest.raises(FrameOrderError, match=message):
        tracker.update(detections, second)
    assert tracker.frames == 1
    assert tracker.update(detections).track_id.tolist() == [1]  # type: ignore[union-attr]


@pytest.mark.parametrize("frame", ["7", [7], Detections.empty()])
def test_what_is_no_frame_is_refused(frame: Any) -> None:
    with pytest.raises(InputError, match=r"not (str|list|Detections): update\(detections, frame\)"):
        Tracker().update(Detections.empty(), frame)


# --- scorers and copies -------------------------------------------------------------------------------------------


def test_a_scorer_with_a_memory_serves_one_tracker() -> None:
    scorer = LearnedScorer()
    tracker = Tracker("learned", size=SIZE, scorer=scorer)
    with pytest.raises(SettingError, match="this scorer serves another tracker"):
        Tracker("learned", size=SIZE, scorer=scorer)
    tracker.reset()  # it keeps its scorer
    with pytest.raises(SettingError, match="this scorer serves another tracker"):
        Tracker("learned", size=SIZE, scorer=scorer)
    scorer.reset()
    Tracker("learned", size=SIZE, scorer=scorer)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda tracker: pickle.loads(pickle.dumps(tracker))])
@pytest.mark.parametrize(
    "settings", [preset("adaptive", diagnostics=True), preset("botsort", classes="votes"), "ocsort", "learned"]
)
def test_a_copy_goes_on_as_the_tracker_does(copied: Any, settings: Any) -> None:
    rng = np.random.default_rng(0)
    frames = [
        replace(frame, embedding=rng.random((len(frame), 4), np.float32)) for frame in random_detections(60, 15, seed=7)
    ]
    tracker = Tracker(settings, size=SIZE)
    for frame in frames[:30]:
        tracker.update(frame)
    twin, before = copied(tracker), tracker.summary
    expected = [tracker.update(frame) for frame in frames[30:]]
    assert twin.summary == before  # what the one does is nothing to the other
    for frame, one in zip(frames[30:], expected, strict=True):
        other = twin.update(frame)
        np.testing.assert_array_equal(other.track_id, one.track_id)
        np.testing.assert_array_equal(other.xyxy, one.xyxy)
    assert twin.summary == tracker.summary


# --- protocols ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "implementation"),
    [
        (AssociationScorer, LearnedScorer),
        (ExclusiveScorer, LearnedScorer),
        (AssignmentObserver, SampleLogger),
    ],
)
def test_association_satisfies_what_the_tracker_calls(protocol: Any, implementation: Any) -> None:
    assert issubclass(implementation, protocol)
    methods = [name for name in dir(protocol) if not name.startswith("_")]
    assert methods
    for name in methods:
        asked, given = (inspect.signature(getattr(kind, name)) for kind in (protocol, implementation))
        assert list(given.parameters) == list(asked.parameters), name
        assert given.return_annotation == asked.return_annotation, name
