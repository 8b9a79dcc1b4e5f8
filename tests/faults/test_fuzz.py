"""A short part of `make fuzz`: damaged inputs end in a value or in an error of ours."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.faults.fuzz import faults_by_place, fuzz, tasks_of
from tests.faults.mutators import MUTATORS, damage_xml, mutate
from tests.faults.pool import Task, damaged
from tests.faults.readers import IMAGES_OF_CVAT, Reader, chosen

QUICK = (
    *("image folder", "stacks and arrays", "label images", "mask archives", "recordings", "result journals"),
    *("truth in text", "camera motion", "coco results and images", "settings files", "settings in text"),
    *("weights of predictors", "records of weights", "answers about runs"),
    *("prompts from cvat", "tracks from cvat"),
)
"""Readers whose good inputs are made in no time, or in seconds."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bounds of the pool's processes are Linux's")


def test_damaged_inputs_end_in_a_value_or_in_an_error_of_ours() -> None:
    outcomes = fuzz(chosen(QUICK), 400, seed=20, workers=1)
    assert len(outcomes) >= 390
    assert {outcome.verdict for outcome in outcomes} >= {"accepted", "refused"}
    assert not [outcome for outcome in outcomes if outcome.is_fault], faults_by_place(outcomes)


def _makes(root: Path) -> None:
    (root / "one").mkdir()
    (root / "one" / "a.txt").write_text("1,2,3\n")


def test_what_follows_from_the_seed_is_the_same_again() -> None:
    inputs = [{"a.txt": b"1,2,3\n4,5,6\n", "b.json": b'{"a": [1, 2]}'}]
    for number in range(50):
        task = Task("x", number, 7)
        assert damaged(inputs, task) == damaged(inputs, task)
    assert len({str(damaged(inputs, Task("x", number, 7))) for number in range(50)}) > 30


@pytest.mark.parametrize("suffix", MUTATORS)
def test_content_that_is_not_of_its_kind_is_damaged_all_the_same(suffix: str) -> None:
    rng = random.Random(0)
    assert any(mutate(f"a{suffix}", b"no such thing", rng) != b"no such thing" for _ in range(20))


def test_damaged_xml_is_well_formed() -> None:
    rng, good = random.Random(0), IMAGES_OF_CVAT.encode()
    damaged_ones = {damage_xml(good, rng) for _ in range(300)}
    assert len(damaged_ones) > 200
    for content in damaged_ones:
        assert ElementTree.fromstring(content).tag


def test_every_share_gets_its_inputs_in_turns() -> None:
    readers = [Reader("a", _makes, str, 1.0), Reader("b", _makes, str, 3.0)]
    tasks = list(tasks_of(readers, 400, 1))
    assert (len(tasks), sum(task.reader == "a" for task in tasks)) == (400, 100)
    assert {task.reader for task in tasks[:100]} == {"a", "b"}
    assert len({(task.reader, task.number) for task in tasks}) == 400
