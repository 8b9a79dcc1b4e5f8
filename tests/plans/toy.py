"""Small plans: scenes of masks with their candidates, and sequences of boxes with their truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.run_folders import assert_same_run
from tests.toy_scenes import ToyScene, candidates_of, toy_scene, write_frames
from trackweave.plans.runner import ItemSelection, PlanEvent, run
from trackweave.plans.stages import FinishedItem, Job, StageRecord, run_stages
from trackweave.plans.workers import Event

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
)


def write_scenes(root: Path, *names: str, scene: ToyScene = SCENE) -> Path:
    """`root/NAME/frames` and `root/NAME/candidates`, of levels 2 and 4."""
    for name in names:
        write_frames(scene, root / name / "frames")
        candidates_of(scene, root / name / "candidates", range(2))
        candidates_of(scene, root / name / "candidates", [0], level=4)
    return root


def write_sequence(folder: Path, *, frames: int = 12, people: int = 3) -> Path:
    """A MOTChallenge folder without images: people who walk side by side, detected as they are."""
    for name in ("det", "gt"):
        (folder / name).mkdir(parents=True)
    boxes = [
        (t, k, 10 + 6 * t + 2 * k, 20 + 90 * k, 30, 70) for t in range(1, frames + 1) for k in range(1, people + 1)
    ]
    det = [f"{t},-1,{x},{y},{w},{h},0.9" for t, _, x, y, w, h in boxes]
    truth = [f"{t},{k},{x},{y},{w},{h},1,1,1" for t, k, x, y, w, h in boxes]
    (folder / "det" / "det.txt").write_text("\n".join(det))
    (folder / "gt" / "gt.txt").write_text("\n".join(truth))
    info = f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate=25\nseqLength={frames}\nimWidth=640\nimHeight=480\n"
    (folder / "seqinfo.ini").write_text(info)
    return folder


def mask_plan(scenes: Path, output: Path, **more: Any) -> dict[str, Any]:
    """A plan over scenes whose candidates lie beside their frames; masks are copied."""
    entry = {"scenes": {"root": str(scenes), "frames": "frames", "candidates": "candidates"}}
    return {
        "name": "toy",
        "kind": "masks",
        "inputs": [entry],
        "settings": {"predictor": "static"},
        "output": str(output),
        "engine": {"workers": 1},
        **more,
    }


def box_plan(data: Path, output: Path, **more: Any) -> dict[str, Any]:
    """A plan over the sequences in a folder, with their truth."""
    return {
        "name": "toy",
        "kind": "boxes",
        "inputs": [{"path": f"{data}/*", "truth": "{input}"}],
        "settings": {"tracker": "sort"},
        "output": str(output),
        "engine": {"workers": 1},
        **more,
    }


class InThisProcess:
    """An engine without processes, one job after the other: what tests replace here, its stages meet."""

    free = 1
    busy = 0

    def __init__(self, *_: object) -> None:
        self._jobs: list[Job] = []

    def submit(self, job: Job, *, alone: bool = False) -> None:
        self._jobs.append(job)

    def poll(self, seconds: float) -> Sequence[Event]:
        jobs, self._jobs = self._jobs, []
        return [event for job in jobs for event in self._events(job)]

    def _events(self, job: Job) -> Iterator[Event]:
        for outcome in run_stages(job):
            is_record = isinstance(outcome, StageRecord)
            yield Event(job, record=outcome) if is_record else Event(job, digests=outcome)  # type: ignore[arg-type]
        yield Event(job, is_over=True)

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *_: object) -> None: ...


def run_all(
    plan: Mapping[str, Any], selection: ItemSelection | None = None
) -> tuple[list[FinishedItem], list[PlanEvent]]:
    """Every item that a call yields, and all events."""
    events: list[PlanEvent] = []
    return list(run(plan, selection=selection, on_event=events.append)), events


def computed(events: list[PlanEvent]) -> list[tuple[str, str]]:
    """Item and stage of everything that was computed."""
    return sorted((event.item, event.values["stage"]) for event in events if event.name == "stage")


def assert_same_results(one: Path, other: Path, variants: tuple[str, ...] = ("runs",)) -> None:
    """All runs of two output folders are the same, but for what was measured."""
    for variant in variants:
        names = sorted(path.name for path in (other / variant).iterdir())
        assert sorted(path.name for path in (one / variant).iterdir()) == names
        for name in names:
            for folder in (one, other):  # the page of a run shows what was measured
                (folder / variant / name / "report.html").unlink(missing_ok=True)
            assert_same_run(one / variant / name, other / variant / name)
