"""Runs that were cut off anywhere go on with `resume` and end as if nothing had happened."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bounded_predictor import BoundedPredictor, BoundedSession
from tests.run_folders import assert_same_run, committed
from tests.toy_scenes import candidates_of, item, toy_scene, write_candidates
from trackweave.errors import ArtifactError, FrameError, PredictorError, PredictorOutOfMemory, RunFolderError
from trackweave.frames.source import FrameSource
from trackweave.ids import Level
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.run import Run
from trackweave.predictors.base import FramePrediction, VideoPredictor
from trackweave.predictors.flow.predictor import FlowPredictor
from trackweave.predictors.registry import ChosenPredictor
from trackweave.storage.candidates import filtered_path
from trackweave.storage.result_log import ResultJournal, read_records
from trackweave.storage.run import RunFolder
from trackweave.structures.run_log import RunWarning
from trackweave.structures.run_summary import MaskSummary
from trackweave.tracking.settings import TrackingSettings
from trackweave.visualization.annotators import write_png

SCENE = toy_scene(
    """
    aa......
    ......bb
    """,
    """
    ..aa....
    ....bb..
    """,
    """
    ....aa..
    ..bb....
    """,
    """
    ......aa
    bb......
    """,
)
"""A copy of a mask covers nothing on another frame: every candidate is new. A prompt batch makes five predictions."""

BATCHES = 3  # frame 0: levels 2 and 4; frame 1: level 2; frame 2: both again
COMMITTED = [0, 2, 3, 5]
"""Frames that the levels have committed after so many prompt batches."""
LABELS = {0: SCENE.labels[0] * (SCENE.labels[0] == 1), 1: SCENE.labels[1], 3: SCENE.labels[3] * 3}
"""Prompts of a person: object 1 is marked twice. Three prompt batches."""


def write_inputs(root: Path) -> Path:
    candidates_of(SCENE, root, range(3))
    return candidates_of(SCENE, root, [0, 2], level=4)


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs") / "candidates")


class Rounding(BoundedPredictor):
    """Rounds in another way for another number of objects, as a model's kernels do."""

    def open(self, frames: FrameSource) -> BoundedSession:
        session = super().open(frames)
        propagate = session.propagate

        def rounded(start: int, **options: Any) -> Iterator[FramePrediction]:
            for found in propagate(start, **options):
                yield replace(found, score=(found.score - 1e-6 * len(found)).astype(np.float32))

        session.propagate = rounded  # type: ignore[method-assign]
        return session


Track = Callable[..., Run[MaskSummary]]


@pytest.fixture(params=["candidates", "prompts"])
def run(request: pytest.FixtureRequest, candidates: Path) -> Track:
    """Tracks into a folder, from candidates or from a person's prompts."""
    given: Mapping[str, Any] = {"candidates": candidates} if request.param == "candidates" else {"prompts": LABELS}

    def track(folder: Path, predictor: BoundedPredictor | None = None, *, resume: bool = False) -> Run[MaskSummary]:
        return track_masks(SCENE.frames, folder, predictor=predictor or BoundedPredictor(), resume=resume, **given)

    return track


def test_a_kill_on_any_frame(run: Track, tmp_path: Path) -> None:
    """Each snapshot is what `kill -9` would leave: the folder as it is while the predictor works."""
    snapshots: list[Path] = []

    def keep(done: int) -> None:
        snapshots.append(tmp_path / f"cut{len(snapshots)}")
        shutil.copytree(tmp_path / "whole", snapshots[-1])

    whole = run(tmp_path / "whole", BoundedPredictor(on_visit=keep))
    kept = [committed(snapshot) for snapshot in snapshots]
    assert kept == sorted(kept)
    known = COMMITTED[:-1] if len(whole.levels) == 2 else range(len(LABELS))
    assert kept == [n for n in known for _ in range(5)]
    for snapshot, count in zip(snapshots, kept, strict=True):
        predictor = BoundedPredictor()
        run(snapshot, predictor, resume=True)
        again = [start for call, start in predictor.session.calls if call == "forward"]
        assert len(again) == len(known) - known.index(count)  # what was finished is not tracked again
        assert_same_run(snapshot, tmp_path / "whole")


@pytest.mark.parametrize("predictor", [BoundedPredictor, Rounding, FlowPredictor])
def test_a_kill_between_the_commits_of_a_shared_batch(
    candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, predictor: Callable[[], VideoPredictor]
) -> None:
    """The level that has its record drops it: a prompt batch moves as a whole, whoever it belongs to."""
    snapshots: list[Path] = []
    commit = ResultJournal.commit

    def keep(journal: ResultJournal, batch: Mapping[str, Any]) -> None:
        commit(journal, batch)
        snapshots.append(tmp_path / f"cut{len(snapshots)}")
        shutil.copytree(tmp_path / "whole", snapshots[-1])

    monkeypatch.setattr(ResultJournal, "commit", keep)
    track_masks(SCENE.frames, tmp_path / "whole", candidates=candidates, predictor=predictor())
    monkeypatch.undo()
    assert [committed(snapshot) for snapshot in snapshots] == [1, 2, 3, 4, 5]
    moved = []
    for snapshot in snapshots:
        again = predictor()
        track_masks(SCENE.frames, snapshot, candidates=candidates, predictor=again, resume=True)
        assert_same_run(snapshot, tmp_path / "whole")
        if isinstance(again, BoundedPredictor):
            moved.append([session.objects_moved for session in again.sessions])
    if moved:  # two objects per level: four together
        assert moved == [[[4, 2, 4]], [[2, 4]], [[4]], [[4]], []]


@pytest.fixture(scope="module")
def tracked(candidates: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A whole run, and the same run just before its last prompt batch was committed."""
    root = tmp_path_factory.mktemp("tracked")
    last: dict[str, Path] = {}

    def keep(done: int) -> None:
        shutil.rmtree(root / "cut", ignore_errors=True)
        last["cut"] = shutil.copytree(root / "whole", root / "cut")

    track_masks(SCENE.frames, root / "whole", candidates=candidates, predictor=Rounding(on_visit=keep))
    return last["cut"], root / "whole"


@settings(max_examples=25)
@given(st.data())
def test_a_kill_in_the_middle_of_a_write(
    tracked: tuple[Path, Path], candidates: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Both journals end after any byte, each where it likes."""
    cut, whole = tracked
    folder = tmp_path_factory.mktemp("torn") / "run"
    shutil.copytree(cut, folder)
    for path in sorted((folder / "journal").glob("*.cohorts")):
        os.truncate(path, data.draw(st.integers(0, path.stat().st_size), label=path.name))
    track_masks(SCENE.frames, folder, candidates=candidates, predictor=Rounding(), resume=True)
    assert_same_run(folder, whole)


def test_levels_that_are_not_asked_for_again_split_no_batch(candidates: Path, tmp_path: Path) -> None:
    """Nor do those that are asked for later: what is finished is kept."""
    options: dict[str, Any] = {"candidate_stride": 1}
    frames = np.stack(list(SCENE.frames)).repeat(8, axis=1).repeat(8, axis=2)
    seen: list[int] = []

    def fail(done: int) -> None:
        seen.append(done)
        if len(seen) == 8:
            raise PredictorError("out of luck")

    with pytest.raises(PredictorError):
        track_masks(frames, tmp_path, levels=[2, 4], predictor=BoundedPredictor(on_visit=fail), **options)
    assert committed(tmp_path) == 2
    whole = shutil.copytree(tmp_path, tmp_path / "copy")
    resumed = track_masks(frames, whole, predictor=BoundedPredictor(), resume=True, **options)
    assert resumed.levels == [2, 4]  # those that were asked for at first
    for levels in ([2], [2, 4]):
        predictor = BoundedPredictor()
        track_masks(frames, tmp_path, levels=levels, predictor=predictor, resume=True, **options)
        assert 0 not in {start for call, start in predictor.session.calls if call == "forward"}


@pytest.mark.parametrize("kind", [PredictorError, PredictorOutOfMemory, KeyboardInterrupt])
def test_an_error_leaves_finished_batches_and_says_how_to_go_on(
    run: Track, tmp_path: Path, kind: type[BaseException]
) -> None:
    run(tmp_path / "whole")
    seen: list[int] = []

    def fail(done: int) -> None:
        seen.append(done)
        if len(seen) == 13:
            raise kind("object 7 does not fit")

    with pytest.raises(kind) as caught:
        run(tmp_path / "cut", BoundedPredictor(on_visit=fail))
    count = committed(tmp_path / "cut")
    assert count == (2 if (tmp_path / "cut" / "journal" / "level_0.cohorts").exists() else COMMITTED[2])
    goes_on = "the same call with resume=True goes on"
    if kind is KeyboardInterrupt:
        notes = [f"{count} finished prompt frames are kept", f"{tmp_path / 'cut'}: {goes_on}"]
        assert caught.value.__notes__ == notes
    else:
        expected = f"object 7 does not fit; {count} finished prompt frames are kept: {goes_on}"
        assert str(caught.value) == expected
    predictor = BoundedPredictor()
    run(tmp_path / "cut", predictor, resume=True)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


class Disk:
    """Gives journals so many bytes, then it is full."""

    def __init__(self, capacity: int) -> None:
        self.capacity = self.left = capacity

    def attach(self, patch: pytest.MonkeyPatch) -> None:
        take = ResultJournal._attach
        patch.setattr(ResultJournal, "_attach", lambda journal, file, where: take(journal, _OnDisk(file, self), where))


class _OnDisk:
    def __init__(self, file: Any, disk: Disk) -> None:
        self._file, self._disk = file, disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        if not self._disk.left:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = min(len(data), self._disk.left)
        self._disk.left -= taken
        return int(self._file.write(data[:taken]))


@pytest.mark.parametrize("share", [0.01, 0.45, 0.6, 0.9])
def test_a_disk_that_fills_up_while_tracking(
    run: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    large = Disk(1 << 30)
    large.attach(monkeypatch)
    run(tmp_path / "whole")
    monkeypatch.undo()
    Disk(int(share * (large.capacity - large.left))).attach(monkeypatch)
    with pytest.raises(RunFolderError) as caught:
        run(tmp_path / "cut")
    monkeypatch.undo()
    assert "cohorts: results cannot be stored: No space left on device" in str(caught.value)
    assert ("resume=True goes on" in str(caught.value)) == (committed(tmp_path / "cut") > 0) == (share > 0.1)
    run(tmp_path / "cut", resume=True)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_twice_cut_off(run: Track, tmp_path: Path) -> None:
    run(tmp_path / "whole")
    for limit in (7, 7):
        seen: list[int] = []

        def fail(done: int, seen: list[int] = seen, limit: int = limit) -> None:
            seen.append(done)
            if len(seen) == limit:
                raise PredictorError("out of luck")

        with pytest.raises(PredictorError, match="out of luck"):
            run(tmp_path / "cut", BoundedPredictor(on_visit=fail), resume=True)
    run(tmp_path / "cut", resume=True)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_a_finished_run_keeps_no_scratch_and_is_not_tracked_again(run: Track, tmp_path: Path) -> None:
    run(tmp_path / "whole")
    assert {path.suffix for path in (tmp_path / "whole" / "journal").iterdir()} == {".json"}
    predictor = BoundedPredictor()
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    leftover = tmp_path / "again" / "journal" / "level_0.cohorts"
    leftover.write_bytes(b"a kill just before it was removed")
    (tmp_path / "again" / "journal" / "level_2.cohorts").write_bytes(b"likewise")
    result = run(tmp_path / "again", predictor, resume=True)
    assert predictor.sessions == []
    for level in {0, 2, 4} - set(result.levels):
        (tmp_path / "again" / "journal" / f"level_{level}.cohorts").unlink(missing_ok=True)
    assert_same_run(tmp_path / "again", tmp_path / "whole")


def test_a_journal_of_another_predictor_is_not_continued(
    candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` may choose another one than before: half of each would be neither."""
    track_masks(SCENE.frames, tmp_path / "whole", candidates=candidates, predictor="auto")

    def choose(name: str, _: object = None) -> ChosenPredictor:
        return ChosenPredictor(BoundedPredictor(on_visit=fail), name, "for the test")

    def fail(done: int) -> None:
        if done >= 20:  # five predictions of four objects
            raise PredictorError("out of luck")

    monkeypatch.setattr("trackweave.pipelines.masks.choose_predictor", choose)
    with pytest.raises(PredictorError):
        track_masks(SCENE.frames, tmp_path / "cut", candidates=candidates, predictor="auto")
    monkeypatch.undo()
    assert committed(tmp_path / "cut") == 2
    track_masks(SCENE.frames, tmp_path / "cut", candidates=candidates, predictor="auto", resume=True)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_a_record_that_makes_no_sense_names_the_file(candidates: Path, tmp_path: Path) -> None:
    def fail(done: int) -> None:
        raise PredictorError("out of luck")

    with pytest.raises(PredictorError):
        track_masks(SCENE.frames, tmp_path, candidates=candidates, predictor=BoundedPredictor(on_visit=fail))
    path = tmp_path / "journal" / "level_2.cohorts"
    with path.open("rb") as file:
        key = json.loads(next(read_records(file)).body)["key"]
    with ResultJournal(path, key) as journal:
        journal.commit({"local": 0})
    with pytest.raises(ArtifactError, match=r"level_2\.cohorts: the journal lacks or misspells .*; remove it"):
        track_masks(SCENE.frames, tmp_path, candidates=candidates, predictor=BoundedPredictor(), resume=True)


def test_a_second_process_is_refused(candidates: Path, tmp_path: Path) -> None:
    refused: list[str] = []

    def meddle(done: int) -> None:
        if not refused:
            with pytest.raises(RunFolderError, match="another job of this process is working in this folder") as caught:
                track_masks(SCENE.frames, tmp_path, candidates=candidates, predictor=BoundedPredictor(), resume=True)
            refused.append(str(caught.value))

    track_masks(SCENE.frames, tmp_path, candidates=candidates, predictor=BoundedPredictor(on_visit=meddle))
    assert refused


def test_a_second_process_is_refused_until_the_last_file_is_written(
    candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Levels are whole by then, and their journals gone: what spans levels is still to be written."""
    refused: list[str] = []
    finish = RunFolder.finish

    def meddle(self: RunFolder, *args: Any, **options: Any) -> None:
        if not refused:
            with pytest.raises(RunFolderError) as caught:
                track_masks(SCENE.frames, tmp_path, candidates=candidates, predictor=BoundedPredictor(), resume=True)
            refused.append(str(caught.value))
        finish(self, *args, **options)

    monkeypatch.setattr(RunFolder, "finish", meddle)
    track_masks(SCENE.frames, tmp_path, candidates=candidates, predictor=BoundedPredictor())
    assert "is working in this folder" in refused[0]
    assert not list(tmp_path.rglob(".*"))


# --- the input of a resumed run --------------------------------------------------------------------------------------


def write_frames(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for index, image in enumerate(SCENE.frames):
        write_png(folder / f"{index:05d}.png", np.asarray(image).repeat(8, axis=0).repeat(8, axis=1))
    return folder


def write_stacks(root: Path) -> Path:
    """The candidates of frame 0 as a stack of masks."""
    folder = candidates_of(SCENE, root, [0]) / "level_2" / "filtered"
    masks = np.stack([SCENE.labels[0] == track for track in (1, 2)])
    np.save(folder / "seg_frame_00000.npy", masks)
    return root


def test_a_run_goes_on_with_a_copy_of_its_input_and_however_it_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, candidates = write_frames(tmp_path / "frames"), write_stacks(tmp_path / "candidates")
    run = track_masks(frames, tmp_path / "run", candidates=candidates, predictor="static")
    monkeypatch.chdir(tmp_path)
    for root in ("frames", shutil.copytree(frames, tmp_path / "elsewhere" / "copy")):
        again = track_masks(root, "run", candidates="candidates", predictor="static", resume=True)
        assert_same_run(run.root, tmp_path / again.root)
        assert json.loads(run.paths.manifest.read_text())["config"]["prompts"]["root"] == str(candidates)
        assert json.loads(run.paths.manifest.read_text())["input"]["path"] == str(Path(root).absolute())


def changed_frames(root: Path) -> str:
    path = root / "frames" / "00001.png"
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # the same length, names and times: only the content tells
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return "other frames"


def changed_stack(root: Path) -> str:
    path = root / "candidates" / "level_2" / "filtered" / "seg_frame_00000.npy"
    np.save(path, np.load(path)[::-1])
    return "other candidates"


def changed_recording(root: Path) -> str:
    shutil.copy(root / "other.npz", root / "recording.npz")
    return "other settings"


@pytest.mark.parametrize("change", [changed_frames, changed_stack, changed_recording])
def test_a_run_does_not_go_on_with_other_content(tmp_path: Path, change: Callable[[Path], str]) -> None:
    frames, candidates = write_frames(tmp_path / "frames"), write_stacks(tmp_path / "candidates")
    for name, tracks in (("recording", (1, 2)), ("other", (2, 1))):
        masks: dict[str, Any] = {
            f"00000_{k:03d}": np.packbits(SCENE.labels[0] == track) for k, track in enumerate(tracks)
        }
        np.savez(tmp_path / f"{name}.npz", shape=SCENE.labels[0].shape, **masks)
    options: dict[str, Any] = {"candidates": candidates, "predictor": f"replay={tmp_path / 'recording.npz'}"}
    track_masks(frames, tmp_path / "run", **options)
    part = change(tmp_path)
    with pytest.raises(RunFolderError, match=rf"holds a run of other input or settings \({part}\)"):
        track_masks(frames, tmp_path / "run", resume=True, **options)


def test_frames_in_memory_are_compared_too(tmp_path: Path) -> None:
    frames = np.stack(list(SCENE.frames)).repeat(8, axis=1).repeat(8, axis=2)
    track_masks(frames, tmp_path, prompts={0: SCENE.labels[0].repeat(8, axis=0).repeat(8, axis=1)}, predictor="static")
    with pytest.raises(RunFolderError, match="other frames"):
        track_masks(
            255 - frames,
            tmp_path,
            prompts={0: SCENE.labels[0].repeat(8, axis=0).repeat(8, axis=1)},
            predictor="static",
            resume=True,
        )


def test_candidates_that_are_there_are_not_written_over(tmp_path: Path) -> None:
    root = candidates_of(SCENE, tmp_path / "candidates", [0])
    before = filtered_path(root / "level_2").read_bytes()
    with pytest.raises(RunFolderError, match=r"filtered\.json: is there already: track it with candidates="):
        track_masks(SCENE.frames, root, levels=[2], predictor="static")
    assert filtered_path(root / "level_2").read_bytes() == before


# --- ids -------------------------------------------------------------------------------------------------------------


def ids_by_level(result: Run[MaskSummary]) -> dict[int, set[int]]:
    return {int(level): set(result.tracks(level, raw=True).track_ids.tolist()) for level in result.levels}


def test_levels_asked_for_later_get_ids_of_their_own(tmp_path: Path) -> None:
    """Of generated candidates a run may be asked for further levels."""
    options: dict[str, Any] = {"candidate_stride": 2, "predictor": "static"}
    frames = np.stack(list(SCENE.frames)).repeat(8, axis=1).repeat(8, axis=2)
    alone = ids_by_level(track_masks(frames, tmp_path, levels=[4], **options))
    both = ids_by_level(track_masks(frames, tmp_path, levels=[2, 4], resume=True, **options))
    assert both[4] == alone[4]
    assert both[2].isdisjoint(both[4])
    assert min(both[4]) == 1
    assert min(both[2]) == max(both[4]) + 1


def test_a_level_that_is_made_again_keeps_its_ids(candidates: Path, tmp_path: Path) -> None:
    before = ids_by_level(track_masks(SCENE.frames, tmp_path, candidates=candidates, predictor="static"))
    (tmp_path / "level_2" / "tracking" / "object_segments.npz").unlink()
    again = track_masks(SCENE.frames, tmp_path, candidates=candidates, predictor="static", resume=True)
    assert ids_by_level(again) == before


# --- what the predictor says of itself -------------------------------------------------------------------------------


class WarningPredictor(BoundedPredictor):
    """Says something when it is opened, and something that changes after each prompt batch."""

    def open(self, frames: FrameSource) -> BoundedSession:
        session = super().open(frames)
        session.said = [RunWarning("predictor", None, "slow", "no device was found", {"device": "cpu"})]
        forget = session.forget_objects

        def forget_and_warn(start: int) -> None:
            forget(start)
            count = sum(call == "forget_objects" for call, _ in session.calls)
            session.said = [session.said[0], RunWarning("predictor", None, "halved", f"halved {count} times")]

        session.forget_objects = forget_and_warn  # type: ignore[method-assign]
        return session


def predictor_warnings(folder: Path) -> list[str]:
    records = json.loads((folder / "manifest.json").read_text())["warnings"]
    assert all(record["level"] is None for record in records if record["stage"] == "predictor")
    return [record["message"] for record in records if record["stage"] == "predictor"]


def test_predictor_warnings_are_those_of_the_run_once(candidates: Path, tmp_path: Path) -> None:
    expected = ["no device was found", f"halved {BATCHES} times"]
    result = track_masks(SCENE.frames, tmp_path, candidates=candidates, predictor=WarningPredictor())
    assert predictor_warnings(tmp_path) == expected
    assert [warning.message for warning in result.warnings] == expected
    assert json.loads((tmp_path / "summary.json").read_text())["warnings"][0]["device"] == "cpu"
    again = track_masks(SCENE.frames, tmp_path, candidates=candidates, predictor=WarningPredictor(), resume=True)
    assert predictor_warnings(tmp_path) == expected  # not twice, and not lost
    assert again.summary.warnings == result.summary.warnings


def test_a_rerun_replaces_what_was_said_before(candidates: Path, tmp_path: Path) -> None:
    track_masks(SCENE.frames, tmp_path, candidates=candidates, predictor=WarningPredictor())
    redo = partial(track_masks, SCENE.frames, tmp_path, candidates=candidates, resume=True)
    (tmp_path / "level_4" / "tracking" / "video_segments.npz").unlink()
    redo(predictor=BoundedPredictor())
    assert len(predictor_warnings(tmp_path)) == 2  # level 2 is still the first predictor's work
    for level in (2, 4):
        (tmp_path / f"level_{level}" / "tracking" / "video_segments.npz").unlink()
    result = redo(predictor=BoundedPredictor())
    assert predictor_warnings(tmp_path) == []
    assert list(result.warnings) == []


def test_predictor_warnings_of_an_interrupted_process_are_kept(candidates: Path, tmp_path: Path) -> None:
    def fail(done: int) -> None:
        if done >= 30:  # five predictions of four objects, and five of two
            raise PredictorError("out of luck")

    with pytest.raises(PredictorError):
        track_masks(SCENE.frames, tmp_path, candidates=candidates, predictor=WarningPredictor(on_visit=fail))
    track_masks(SCENE.frames, tmp_path, candidates=candidates, predictor=BoundedPredictor(), resume=True)
    assert predictor_warnings(tmp_path) == ["no device was found", "halved 2 times"]


def test_counters_add_up_over_levels_and_processes(run: Track, tmp_path: Path) -> None:
    predictor = BoundedPredictor()
    whole = run(tmp_path / "whole", predictor)
    assert whole.summary.counters == predictor.session.counts
    seen: list[int] = []

    def fail(done: int) -> None:
        seen.append(done)
        if len(seen) == 11:
            raise PredictorError("out of luck")

    with pytest.raises(PredictorError):
        run(tmp_path / "cut", BoundedPredictor(on_visit=fail))
    resumed = run(tmp_path / "cut", resume=True).summary.counters
    assert resumed["object_frames"] == whole.summary.counters["object_frames"]
    assert resumed["encoder_passes"] == 2 * len(SCENE.labels)  # both processes had to see every frame
    assert json.loads((tmp_path / "cut" / "summary.json").read_text())["predictor"]["counters"] == resumed


def test_a_predictor_that_counts_nothing_has_no_counters(candidates: Path, tmp_path: Path) -> None:
    result = track_masks(SCENE.frames, tmp_path, candidates=candidates, predictor="static")
    assert result.summary.counters == {}


# --- candidates that go bad -------------------------------------------------------------------------------------------


def test_an_omission_found_while_tracking_is_not_lost(tmp_path: Path) -> None:
    """A mask of frame 2 is lost after the check, and is back before the run goes on."""
    root = tmp_path / "candidates"
    masks = {frame: np.stack([SCENE.mask(frame, letter) for letter in "ab"]) for frame in (0, 2, 3)}
    rows = {frame: [item(k, masks[frame][k], frame=frame, with_mask=False) for k in range(2)] for frame in masks}
    write_candidates(root, rows)
    for frame, stack in masks.items():
        np.save(root / "level_2" / "filtered" / f"seg_frame_{frame:05d}.npy", stack)
    path = root / "level_2" / "filtered" / "seg_frame_00002.npy"

    def meddle(done: int) -> None:
        if done == 0:
            np.save(path, masks[2] & [[[True]], [[False]]])
        if ("forget_objects", 2) in predictor.session.calls:
            np.save(path, masks[2])
            raise PredictorError("out of luck")

    predictor = BoundedPredictor(on_visit=meddle)
    options: dict[str, Any] = {"candidates": root, "settings": TrackingSettings(on_bad_item="skip", render_viz=False)}
    with pytest.raises(PredictorError, match="out of luck"):
        track_masks(SCENE.frames, tmp_path / "run", predictor=predictor, **options)
    result = track_masks(SCENE.frames, tmp_path / "run", predictor=BoundedPredictor(), resume=True, **options)
    assert result.summary.levels[Level(2)].counts["candidates"] == 2 + 1 + 2
    assert [warning.code for warning in result.warnings] == ["candidate-skipped"]


def test_a_late_frame_that_cannot_be_read_is_found_before_the_first_is_tracked(tmp_path: Path) -> None:
    frames, candidates = write_frames(tmp_path / "frames"), write_stacks(tmp_path / "candidates")
    last = sorted(frames.iterdir())[-1]
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    predictor = BoundedPredictor()
    with pytest.raises(FrameError, match=rf"{last.name} cannot be read .*on_bad_item=skip leaves") as refused:
        track_masks(frames, tmp_path / "run", candidates=candidates, predictor=predictor)
    assert "resume=True" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_resume_is_not_recommended_where_the_input_is_wrong(run: Track, tmp_path: Path) -> None:
    seen: list[int] = []

    def fail(done: int) -> None:
        seen.append(done)
        if len(seen) == 13:
            raise FrameError("frame 7 cannot be decoded")

    with pytest.raises(FrameError) as caught:
        run(tmp_path / "cut", BoundedPredictor(on_visit=fail))
    assert committed(tmp_path / "cut") > 0
    assert str(caught.value) == "frame 7 cannot be decoded"
