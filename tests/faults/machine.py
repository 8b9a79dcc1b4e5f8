"""What a machine does to a run: kills, full disks, missing rights, signals, a second process. `make faults`.

Each attempt is a command of the real command line that meets one fault (see `processes`). It must end by itself with
one line of reason, leave no half file under a final name, and go on to the same files as a run that met none.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.faults.processes import (
    Child,
    Ended,
    descriptors,
    file_size,
    forked,
    fresh,
    killed_after,
    killed_at,
    output_to,
    refused_from,
    run,
    signalled_at,
    unprivileged,
)
from tests.run_folders import unmeasured
from tests.toy_boxes import make_sequence
from tests.toy_scenes import CROSSING, candidates_of, write_frames
from trackweave.storage.files import LOCK_NAME

Arguments = Sequence[object]


@dataclass(frozen=True)
class Job:
    """A command, and what it leaves.

    Attributes:
        name: of the row in the table.
        begin: its arguments; names of outputs are relative to the folder it runs in.
        outputs: what it writes, below that folder.
        again: the arguments to go on with, of the folder as it is; None: the same.
        prepare: what has to lie in the folder before.
    """

    name: str
    begin: Arguments
    outputs: Sequence[str]
    again: Callable[[Path], Arguments] | None = None
    prepare: Callable[[Path], None] | None = None

    @property
    def places(self) -> set[str]:
        """What it writes, as its arguments name it."""
        return {name.partition("/")[0] for name in self.outputs}

    def going_on(self, work: Path) -> Arguments:
        """How one goes on."""
        return self.begin if self.again is None else self.again(work)


@dataclass
class Bench:
    """Inputs, jobs and their references, below one folder.

    Attributes:
        root: everything lies below it.
        rng: where and when faults strike.
        rounds: how many attempts a case makes of each kind, about.
        known: job → a folder in which it met no fault, and how many operations and seconds it took.
    """

    root: Path
    rng: random.Random
    rounds: int
    jobs: Mapping[str, Job]
    known: dict[str, tuple[Path, int, float]] = field(default_factory=dict)
    count: int = 0

    def folder(self, job: Job | None = None, below: Path | None = None) -> Path:
        """A new folder for an attempt."""
        self.count += 1
        path = (below or self.root / "work") / f"{self.count:06d}"
        path.mkdir(parents=True)
        if job is not None and job.prepare is not None:
            job.prepare(path)
        return path

    def reference(self, job: Job) -> tuple[Path, int, float]:
        """A whole run of the job: its folder, operations, seconds."""
        if job.name not in self.known:
            for _ in range(2):  # the first one compiles
                work, started = self.folder(job), time.monotonic()
                ended = run(job.begin, work)
                if ended.code != 0:
                    raise RuntimeError(f"{job.name} fails without a fault: {ended.err}")
                self.known[job.name] = work, ended.operations, time.monotonic() - started
        return self.known[job.name]

    def points(self, job: Job) -> list[int]:
        """Operations to strike at: all of them where the rounds allow it."""
        number = self.reference(job)[1]
        return sorted(self.rng.sample(range(1, number + 1), min(number, self.rounds)))


Check = tuple[bool, str]
"""Whether it is as it should be, and else what is wrong."""
Case = Callable[[Bench, Job], Iterator[Check]]


# --- what must hold ---------------------------------------------------------------------------------------------------


def half_files(folder: Path) -> str:
    """Files under final names that are not whole; empty where there is none."""
    return forked(lambda: "; ".join(_half_files(folder)[:3]))


def _half_files(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file() or path.suffix in (".cohorts", ".jsonl"):
            continue
        try:
            _open_whole(path)
        except Exception as error:  # noqa: BLE001 - whatever its reader makes of half a file
            found.append(f"{path.relative_to(folder)}: {error!r}"[:200])
    return found


def _open_whole(path: Path) -> None:
    content = path.read_bytes()
    if path.suffix == ".json":
        json.loads(content)
    elif path.suffix in (".npz", ".pt"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.testzip() is not None:
                raise ValueError("a member is damaged")
    elif path.suffix == ".png":
        from PIL import Image

        Image.open(io.BytesIO(content)).load()
    elif path.suffix == ".mp4":
        from trackweave.frames.open import open_frames

        with open_frames(path) as frames:
            _ = frames[len(frames) - 1]
    elif path.suffix in (".txt", ".csv") and content and not content.endswith(b"\n"):
        raise ValueError("its last line has no end")
    elif path.suffix == ".html" and not content.rstrip().endswith(b"</html>"):
        raise ValueError("it has no end")


def files_of(path: Path) -> list[Path]:
    """A file, or all files of a folder."""
    return [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]


def leftovers(folder: Path) -> list[str]:
    """Temporary files."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.endswith(".partial")]


def same_outputs(job: Job, work: Path, reference: Path) -> str:
    """What differs from a run without a fault; empty where nothing does."""
    return forked(lambda: _difference(job, work, reference))


def _difference(job: Job, work: Path, reference: Path) -> str:
    for name in job.outputs:
        try:
            if name == "log":
                _same_samples(work / name)
            else:
                _same_files(work / name, reference / name)
        except (AssertionError, OSError, ValueError) as error:
            return f"{name}: {' '.join(str(error).split())[:200]}"
    return ""


def _same_files(found: Path, wanted: Path) -> None:
    """The same names and bytes; of JSON and of pages what was measured is left out."""
    names = {path.relative_to(wanted.parent) for path in files_of(wanted)}
    others = {path.relative_to(found.parent) for path in files_of(found)} ^ names
    assert not others, f"other files: {sorted(map(str, others))[:3]}"
    for name in names:
        one, other = found.parent / name, wanted.parent / name
        if name.suffix == ".html" or name.name == LOCK_NAME:
            continue
        if name.suffix == ".json":
            assert _unmeasured(one) == _unmeasured(other), f"{name}: {_unmeasured(one)} {_unmeasured(other)}"[:600]
        elif name.suffix == ".pt":
            _same_weights(one, other)
        else:
            assert one.read_bytes() == other.read_bytes(), name


def _unmeasured(path: Path) -> object:
    """JSON without what was measured."""
    return json.loads(json.dumps(unmeasured(json.loads(path.read_text()))), object_hook=_without_rate)


def _without_rate(value: dict[str, object]) -> dict[str, object]:
    return {key: part for key, part in value.items() if key not in ("association_fps", "frames_per_second")}


def _same_weights(one: Path, other: Path) -> None:
    """To the last bit."""
    import torch

    found, wanted = (torch.load(path, weights_only=True)["weights"] for path in (one, other))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted), f"weights of {one.name}"


def _same_samples(folder: Path) -> None:
    """Every sample is whole and listed once; their numbers have no gaps."""
    from trackweave.storage.sample_folder import read_sample_manifest
    from trackweave.storage.samples import read_sample

    names = sorted(path.name for path in folder.glob("sample_*.npz"))
    for name in names:
        read_sample(folder / name)
    listed = (folder / "manifest.jsonl").read_text().splitlines()
    manifest = read_sample_manifest(folder / "manifest.jsonl")
    assert sorted(manifest.entries) == names, f"{len(names)} samples, {len(manifest.entries)} listed"
    assert len(listed) == len(names), f"{len(listed)} lines for {len(names)} samples"
    assert names == [f"sample_{k:07d}.npz" for k in range(len(names))], "numbers have gaps"


def unclean(ended: Ended) -> str:
    """What is wrong with how a command ended; empty where nothing is."""
    if ended.is_clean:
        return ""
    if ended.code is None:
        return f"hangs: {ended.err[-3000:]}"
    return f"code {ended.code}: {' | '.join(ended.err.strip().splitlines()[-4:])[-400:]!r}"


def goes_on(bench: Bench, job: Job, work: Path) -> Check:
    """After the fault: nothing is half, going on gives the files of a run without it, nothing is left over."""
    halves = half_files(work)
    if halves:
        return False, f"half: {halves}"
    ended = run(job.going_on(work), work)
    if "already holds a run" in ended.err:  # the fault struck after the run's last file: the page is what is missing
        ended = run(["report", "R"], work)
    if ended.code != 0:
        return False, f"does not go on: {unclean(ended) or ended.err[-300:]}"
    difference = same_outputs(job, work, bench.reference(job)[0])
    if difference:
        return False, difference
    left = leftovers(work)
    if left:
        return False, f"left: {left[:3]}"
    shutil.rmtree(work)
    return True, ""


def after(bench: Bench, job: Job, work: Path, ended: Ended) -> Iterator[Check]:
    """How it ended, and whether it goes on."""
    problem = unclean(ended)
    yield not problem, problem
    yield goes_on(bench, job, work)


# --- cases ------------------------------------------------------------------------------------------------------------


def kill_at_an_operation(bench: Bench, job: Job) -> Iterator[Check]:
    """kill −9 right before an operation on a file."""
    for number in bench.points(job):
        work = bench.folder(job)
        run(job.begin, work, killed_at(number))
        yield goes_on(bench, job, work)


def kill_at_a_moment(bench: Bench, job: Job) -> Iterator[Check]:
    """kill −9 at a random moment, also in the middle of a write."""
    seconds = bench.reference(job)[2]
    for _ in range(bench.rounds):
        work = bench.folder(job)
        run(job.begin, work, killed_after(bench.rng.uniform(0.002, seconds)))
        yield goes_on(bench, job, work)


def disk_full_at_an_operation(bench: Bench, job: Job) -> Iterator[Check]:
    """From some operation on, nothing can be made any more."""
    for number in bench.points(job):
        work = bench.folder(job)
        yield from after(bench, job, work, run(job.begin, work, refused_from(number)))


def disk_full_in_a_write(bench: Bench, job: Job) -> Iterator[Check]:
    """No file can grow beyond some size."""
    whole = bench.reference(job)[0]
    sizes = sorted({path.stat().st_size for name in job.outputs for path in files_of(whole / name)})
    for size in bench.rng.sample(range(max(sizes) + 2), min(bench.rounds, max(sizes))):
        work = bench.folder(job)
        yield from after(bench, job, work, run(job.begin, work, file_size(size)))


@contextlib.contextmanager
def mounted(folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many KiB in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def may_mount() -> bool:
    """Only root, and not in every container."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True)
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return done.returncode == 0


def small_disk(bench: Bench, job: Job) -> Iterator[Check]:
    """A real file system with too little space; then it gets more."""
    whole = bench.reference(job)[0]
    need = sum(path.stat().st_size // 4096 * 4 + 4 for name in job.outputs for path in files_of(whole / name)) + 64
    for _ in range(min(bench.rounds, 12)):
        with mounted(bench.root / "small", bench.rng.randrange(8, need + need // 4)) as disk:
            try:
                work = bench.folder(job, disk)
            except OSError:  # not even the inputs of the job fit
                continue
            command = Child(job.begin, work)
            ended = command.wait()
            problem = unclean(ended)
            yield not problem, problem
            subprocess.run(["mount", "-o", f"remount,size={need * 4 + 4096}k", str(disk)], check=True)
            yield goes_on(bench, job, work)


def read_only(bench: Bench, job: Job) -> Iterator[Check]:
    """A file system that may not be written, and a folder that this user may not write."""
    with mounted(bench.root / "ro", 4096) as disk:
        work = bench.folder(job, disk)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        logs = bench.folder()
        ended = run(_moved(job, work), logs)
        problem = unclean(ended) or ("" if ended.code else "no word of a read-only file system")
        yield not problem, problem
    work = bench.folder(job)
    for path in (work, *(each for each in work.rglob("*") if each.is_dir())):
        path.chmod(0o555)
    logs = bench.folder()
    logs.chmod(0o777)
    ended = run(_moved(job, work), logs, unprivileged)
    problem = unclean(ended) or ("" if ended.code else "no word of missing rights")
    yield not problem, problem
    shutil.rmtree(work)


def _moved(job: Job, work: Path) -> Arguments:
    """The job's arguments with its outputs in another folder than the one it runs in."""
    return [str(work / str(a)) if str(a) in job.places else str(a).replace("=log", f"={work}/log") for a in job.begin]


def few_descriptors(bench: Bench, job: Job) -> Iterator[Check]:
    """No more than so many open files."""
    for number in bench.rng.sample(range(6, 40), min(bench.rounds, 30)):
        work = bench.folder(job)
        yield from after(bench, job, work, run(job.begin, work, descriptors(number)))


def two_processes(bench: Bench, job: Job) -> Iterator[Check]:
    """The same command twice on one folder, the second a moment later."""
    seconds = bench.reference(job)[2]
    for _ in range(bench.rounds):
        work = bench.folder(job)
        first = Child(job.begin, work)
        time.sleep(bench.rng.uniform(0, seconds))
        second = Child(job.begin, work)
        ends = [first.wait(), second.wait()]
        problems = [problem for ended in ends if (problem := unclean(ended))]
        if all(ended.code for ended in ends):
            problems.append(f"both failed: {[ended.err[-200:] for ended in ends]}")
        yield not problems, "; ".join(problems)
        if ends[0].code == 0 and ends[1].code == 0 and "log" in job.outputs:
            shutil.rmtree(work)
            continue
        difference = same_outputs(job, work, bench.reference(job)[0])
        halves = half_files(work)
        yield not (difference or halves), f"{difference} {halves}"
        shutil.rmtree(work)


def signals(bench: Bench, job: Job) -> Iterator[Check]:
    """SIGINT, SIGTERM, SIGHUP at an operation or at a moment."""
    seconds = bench.reference(job)[2]
    for number in bench.points(job):
        which = bench.rng.choice((signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        work = bench.folder(job)
        if bench.rng.random() < 0.5:
            ended = run(job.begin, work, signalled_at(number, which))
        else:
            child = Child(job.begin, work)
            time.sleep(bench.rng.uniform(0, seconds))
            child.kill(which)
            ended = child.wait()
        yield from after(bench, job, work, ended)


def reader_goes_away(bench: Bench, job: Job) -> Iterator[Check]:
    """Standard output is a pipe that nobody reads any more; then a full device."""
    for sink in ("pipe", "/dev/full"):
        work = bench.folder(job)
        ended = run(job.begin, work, _broken_pipe if sink == "pipe" else output_to(sink))
        problem = "traceback" if "Traceback" in ended.err else ""
        yield not problem, f"{sink}: {ended.err[-300:]}"
        yield goes_on(bench, job, work)


def _broken_pipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)
    os.close(writing)


def closed_streams(bench: Bench, job: Job) -> Iterator[Check]:
    """Standard input, output or error closed from the beginning, as daemons are."""
    for closed in ((0,), (1,), (2,), (0, 1, 2)):
        work = bench.folder(job)
        ended = fresh(job.begin, work, closed=closed)
        difference = same_outputs(job, work, bench.reference(job)[0])
        yield ended.code == 0 and not difference, f"{closed} closed: code {ended.code}, {difference} {ended.err[-300:]}"
        shutil.rmtree(work)


ENVIRONMENTS: Mapping[str, tuple[Sequence[str], Mapping[str, str | None]]] = {
    "-O": (("-O",), {}),
    "-OO": (("-OO",), {}),
    "-X dev": (("-X", "dev"), {}),
    "LC_ALL=C": ((), {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "PYTHONIOENCODING=latin-1": ((), {"PYTHONIOENCODING": "latin-1"}),
    "no HOME": ((), {"HOME": None, "XDG_STATE_HOME": None, "XDG_CACHE_HOME": None}),
    "HOME=/proc": ((), {"HOME": "/proc", "XDG_CACHE_HOME": "/proc", "MPLCONFIGDIR": "/proc/x"}),
    "NUMBA_CACHE_DIR=/proc": ((), {"NUMBA_CACHE_DIR": "/proc/nowhere"}),
    "one thread": ((), {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}),
    "TERM=dumb": ((), {"TERM": "dumb", "COLUMNS": "1"}),
    "PYTHONHASHSEED=7": ((), {"PYTHONHASHSEED": "7"}),
}


def environments(bench: Bench, job: Job) -> Iterator[Check]:
    """Other interpreters' flags, locales, homes and caches: the same files."""
    names = bench.rng.sample(sorted(ENVIRONMENTS), min(len(ENVIRONMENTS), bench.rounds))
    for name in names:
        flags, variables = ENVIRONMENTS[name]
        work = bench.folder(job)
        ended = fresh(job.begin, work, flags=flags, environment=variables)
        difference = same_outputs(job, work, bench.reference(job)[0]) if ended.code == 0 else ""
        yield ended.code == 0 and not difference, f"{name}: code {ended.code} {difference} {ended.err[-300:]}"
        shutil.rmtree(work)


def damaged_cache(bench: Bench, job: Job) -> Iterator[Check]:
    """numba's files of compiled functions are cut off."""
    cache = bench.root / "numba"
    cache.mkdir(exist_ok=True)
    variables = {"NUMBA_CACHE_DIR": str(cache)}
    for attempt in ("filled", "cut", "again"):
        work = bench.folder(job)
        ended = fresh(job.begin, work, environment=variables)
        yield ended.code == 0, f"{attempt}: code {ended.code} {ended.err[-300:]}"
        shutil.rmtree(work)
        if attempt == "filled":
            for path in files_of(cache):
                path.write_bytes(path.read_bytes()[: bench.rng.randrange(1, 40)])


def folder_removed(bench: Bench, job: Job) -> Iterator[Check]:
    """The folder that is written is removed meanwhile."""
    seconds = bench.reference(job)[2]
    for _ in range(max(2, bench.rounds // 4)):
        work = bench.folder(job)
        child = Child(job.begin, work)
        time.sleep(bench.rng.uniform(0, seconds))
        for name in job.places:
            shutil.rmtree(work / name, ignore_errors=True)
        ended = child.wait()
        problem = unclean(ended)
        yield not problem, problem
        shutil.rmtree(work, ignore_errors=True)


# --- jobs -------------------------------------------------------------------------------------------------------------


def make_jobs(root: Path, wanted: Sequence[str] = ()) -> dict[str, Job]:
    """Small jobs of every command that writes, and their inputs; samples where a training is wanted."""
    inputs = root / "inputs"
    frames = write_frames(CROSSING, inputs / "frames")
    candidates = inputs / "candidates"
    candidates_of(CROSSING, candidates, [0, 1, 2])
    candidates_of(CROSSING, candidates, [0, 2], level=4)
    from PIL import Image

    label = inputs / "00000.png"
    Image.fromarray(CROSSING.labels[0].astype(np.uint8)).convert("P").save(label)
    sequence = make_sequence(inputs / "sequence", frames=40, images=40)
    masks: Arguments = ["masks", frames, "-o", "R", "--candidates", candidates, "--predictor", "static"]
    flow: Arguments = ["masks", frames, "-o", "R", "--prompts", label, "--predictor", "flow"]
    boxes: Arguments = ["boxes", sequence, "-o", "R"]
    logged: Arguments = ["boxes", sequence, "-o", "R", "--no-viz", "--set", "log.dir=log"]
    samples: Arguments = [
        "assoc",
        "simulate",
        "-o",
        inputs / "samples",
        "--frames",
        "160",
        "--seed",
        "3",
        "--set",
        "simulate.sequence_frames=40",
    ]
    train: Arguments = ["assoc", "train", "--data", inputs / "samples", "-o", "T", "--epochs", "3"]
    train = [*train, "--width", "16", "--batch-size", "16", "--warmup", "5"]
    is_trained = not wanted or "assoc train" in wanted
    for command in ([*masks[:3], inputs / "run", *masks[4:]], *([samples] if is_trained else [])):
        ended = run(command, inputs)
        if ended.code != 0:
            raise RuntimeError(f"{command}: {ended.err}")

    def resumed(arguments: Arguments) -> Callable[[Path], Arguments]:
        return lambda work: [*arguments, "--resume"]

    def trained(work: Path) -> Arguments:
        return [*train, "--resume"] if (work / "T" / "last.pt").exists() else train

    def run_here(work: Path) -> None:
        shutil.copytree(inputs / "run", work / "run")

    export: Arguments = ["export", inputs / "run", "--level", "2", "--to"]
    jobs = [
        Job("masks", masks, ["R"], resumed(masks)),
        Job("masks, flow", flow, ["R"], resumed(flow)),
        Job("boxes", boxes, ["R"]),
        Job("boxes, logging", logged, ["R/tracks.npz", "R/tracks.mot.txt", "log"]),
        Job("assoc train", train, ["T"], trained),
        Job("export davis", [*export, "davis", "-o", "D"], ["D"]),
        Job("export mot", [*export, "mot", "-o", "x.txt"], ["x.txt"]),
        Job("export mp4", [*export, "mp4", "-o", "x.mp4"], ["x.mp4"]),
        Job("report", ["report", "run"], ["run"], prepare=run_here),
    ]
    return {job.name: job for job in jobs}


ALL = (
    "masks",
    "masks, flow",
    "boxes",
    "boxes, logging",
    "assoc train",
    "export davis",
    "export mot",
    "export mp4",
    "report",
)
MAIN = ("masks", "boxes", "boxes, logging", "assoc train", "export davis")
CASES: Mapping[Case, Sequence[str]] = {
    kill_at_an_operation: ALL,
    kill_at_a_moment: ALL,
    disk_full_at_an_operation: ALL,
    disk_full_in_a_write: ALL,
    small_disk: ALL,
    read_only: ALL,
    few_descriptors: ALL,
    two_processes: ("masks", "boxes", "boxes, logging", "assoc train", "export davis", "export mot", "report"),
    signals: MAIN,
    reader_goes_away: ("masks", "boxes", "export mot"),
    closed_streams: ("masks", "boxes", "assoc train"),
    environments: ("masks", "boxes"),
    damaged_cache: ("boxes",),
    folder_removed: MAIN,
}
NEED_ROOT: Sequence[Case] = (small_disk, read_only)


def warm_up() -> None:
    """Loads in this process what its children would load, so that they begin at once."""
    import cv2

    import trackweave.association.training.train_assoc
    import trackweave.cli.app
    import trackweave.cli.assoc
    import trackweave.cli.boxes
    import trackweave.cli.export
    import trackweave.cli.masks
    import trackweave.exporters
    import trackweave.pipelines.boxes
    import trackweave.pipelines.masks
    import trackweave.predictors.flow.predictor
    import trackweave.reports.page  # noqa: F401

    cv2.setNumThreads(1)


def name_of(case: Case) -> str:
    """As in the table."""
    return case.__name__.replace("_", " ")


def attempt_all(bench: Bench, cases: Sequence[Case], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Rows of the table, and what was wrong, a line each."""
    rows, faults = [], []
    mounts = may_mount()
    for case in cases:
        counts: Counter[bool] = Counter()
        if case in NEED_ROOT and not mounts:
            rows.append(f"| {name_of(case)} | – | needs the right to mount | |")
            continue
        wanted = [name for name in CASES[case] if not names or name in names]
        started = time.monotonic()
        for name in wanted:
            for is_good, problem in case(bench, bench.jobs[name]):
                counts[is_good] += 1
                if not is_good:
                    faults.append(f"{name_of(case)}, {name}: {problem}")
                    print(faults[-1], file=sys.stderr, flush=True)
        shutil.rmtree(bench.root / "work" / "none", ignore_errors=True)
        line = f"{counts.total():,} | {counts[True]:,} | {counts[False]:,}"
        rows.append(f"| {name_of(case)} | {', '.join(wanted)} | {line} |")
        print(f"{rows[-1]} {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return rows, faults


def main() -> int:
    """The command line."""
    known = {name_of(case): case for case in CASES}
    parser = argparse.ArgumentParser(prog="python -m tests.faults.machine", description=__doc__)
    parser.add_argument("cases", nargs="*", help="as in the table; all without one")
    parser.add_argument("--job", action="append", default=[], help="only this job; repeatable")
    parser.add_argument("--rounds", type=int, default=30, help="attempts of each kind, about")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path[:3]))
    started = time.monotonic()
    warm_up()
    with tempfile.TemporaryDirectory(prefix="trackweave-faults-") as scratch:
        root = Path(scratch)
        root.chmod(0o755)
        bench = Bench(root, random.Random(options.seed), options.rounds, make_jobs(root, options.job))
        rows, faults = attempt_all(bench, [known[name] for name in options.cases or known], options.job)
    print("| fault | jobs | checks | good | faults |\n|---|---|--:|--:|--:|", *rows, sep="\n")
    print(f"\n{len(faults)} faults, {time.monotonic() - started:.0f} s")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
