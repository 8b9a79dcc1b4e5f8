"""Acts as JSON and back; undo and redo."""

from __future__ import annotations

import json
from functools import partial
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackweave.errors import InputError
from trackweave.structures.corrections import (
    Accepted,
    AcceptedTrack,
    Act,
    Corrections,
    Ended,
    Merged,
    Named,
    Nobody,
    Observation,
    Prompted,
    Redone,
    Split,
    Step,
    Undone,
    step_from_json,
    step_to_json,
)

numbers = st.integers(0, 2**53 - 1)
observations = st.builds(Observation, numbers, numbers)
names = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=20).map(partial(normalize, "NFC"))
coordinates = st.floats(0, 1e6, width=32)


@st.composite
def accepted(draw: st.DrawFn) -> Accepted:
    first = draw(st.integers(0, 100))
    frames = draw(st.lists(st.integers(first, first + 9), unique=True, max_size=5))
    ids = draw(st.lists(st.integers(1, 99), unique=True, max_size=3))
    tracks = [AcceptedTrack(one, tuple(Observation(f, k) for f in sorted(frames))) for k, one in enumerate(ids)]
    return Accepted(first, first + 9, tuple(tracks))


@st.composite
def prompted(draw: st.DrawFn) -> Prompted:
    kind = draw(st.sampled_from(("points", "box", "mask")))
    frame, name = draw(numbers), draw(names)
    if kind == "points":
        points = st.lists(st.tuples(coordinates, coordinates, st.integers(0, 1)), min_size=1, max_size=3)
        return Prompted(frame, name, points=tuple(draw(points)))
    if kind == "box":
        x, y, w, h = (draw(st.integers(1, 999)) for _ in range(4))
        return Prompted(frame, name, box=(float(x), float(y), float(x + w), float(y + h)))
    return Prompted(frame, name, mask=((draw(st.integers(1, 99)), draw(st.integers(1, 99))), draw(names)))


@st.composite
def splits(draw: st.DrawFn) -> Split:
    before = draw(observations.filter(lambda at: at.frame < 2**53 - 1))
    return Split(before, Observation(draw(st.integers(before.frame + 1, 2**53 - 1)), draw(numbers)))


acts: st.SearchStrategy[Act] = st.one_of(
    st.builds(Named, observations, names),
    st.builds(Nobody, observations),
    st.builds(Merged, observations, observations),
    splits(),
    st.builds(Ended, observations),
    accepted(),
    prompted(),
)


@given(st.one_of(acts, st.just(Undone()), st.just(Redone())))
def test_steps_come_back_from_json(step: Step) -> None:
    assert step_from_json(json.loads(json.dumps(step_to_json(step)))) == step


@given(st.lists(st.one_of(acts, st.just(None), st.just(True)), max_size=12))
def test_undo_and_redo_are_those_of_an_editor(script: list[Act | bool | None]) -> None:
    said = Corrections()
    done: list[Act] = []
    undone: list[Act] = []
    for entry in script:
        if entry is None:
            if not done:
                with pytest.raises(InputError, match="nothing to undo"):
                    said.then(Undone())
                continue
            said = said.then(Undone())
            undone.append(done.pop())
        elif entry is True:
            if not undone:
                with pytest.raises(InputError, match="nothing to redo"):
                    said.then(Redone())
                continue
            said = said.then(Redone())
            done.append(undone.pop())
        elif not isinstance(entry, bool):
            said = said.then(entry)
            done, undone = [*done, entry], []
        assert said.acts == tuple(done)
        assert (said.can_undo, said.can_redo) == (bool(done), bool(undone))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "an act is one of name"),
        ({"act": "rename"}, "'rename'"),
        ({"act": "name", "at": [0, 1]}, "lacks 'name'"),
        ({"act": "name", "at": [0, -1], "name": "a"}, "-1 is no number"),
        ({"act": "name", "at": [0, True], "name": "a"}, "True is no number"),
        ({"act": "name", "at": [0], "name": "a"}, "not \\[frame, item\\]"),
        ({"act": "name", "at": [0, 1], "name": " "}, "is no name"),
        ({"act": "name", "at": [0, 1], "name": "a\x1b[31m"}, "is no name"),
        ({"act": "split", "before": [3, 1], "at": [3, 1]}, "frame 3 is not before frame 3"),
        ({"act": "name", "at": [0, 1], "name": "a\nb"}, "is no name"),
        ({"act": "name", "at": [0, 1], "name": "a\u202eb"}, "is no name"),
        ({"act": "name", "at": [0, 1], "name": "\u200d"}, "is no name"),
        ({"act": "name", "at": [0, 1], "name": "\ud800"}, "is no name"),
        ({"act": "accept", "first": 2, "last": 1, "tracks": [{"id": 1, "at": []}]}, "from frame 2 to frame 1"),
        ({"act": "accept", "first": 0, "last": 1, "tracks": [{"id": 1, "at": [[0, 1], [2, 1]]}]}, "from frame 0"),
        ({"act": "accept", "first": 0, "last": 1, "tracks": [{"id": k, "at": [[0, 1]]} for k in (1, 2)]}, "twice"),
        ({"act": "prompt", "frame": 0, "name": "a"}, "one of points, box, mask"),
        ({"act": "prompt", "frame": 0, "name": "a", "box": [0, 0, 0, 5]}, "without extent"),
        ({"act": "prompt", "frame": 0, "name": "a", "points": [[0, 0, 2]]}, "0 or 1"),
        ({"act": "prompt", "frame": 0, "name": "a", "mask": {"size": [1, 2]}}, "lacks 'counts'"),
    ],
)
def test_what_is_no_act_is_refused(record: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        step_from_json(record)


def test_a_name_is_one_however_it_is_spelt() -> None:
    """Accents of one or two characters, spaces around, emoji of several people."""
    for given_name, kept in (("  Ann Lee ", "Ann Lee"), ("Jose\u0301", "Jos\u00e9"), ("👩\u200d👧", "👩\u200d👧")):
        step = step_from_json({"act": "name", "at": [0, 1], "name": given_name})
        assert isinstance(step, Named)
        assert step.name == kept
