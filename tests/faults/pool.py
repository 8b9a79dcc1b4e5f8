"""One pool of worker processes that read damaged inputs, each within bounds of memory and time.

A worker does one input after the other. Its parent watches the processor time of each and ends a worker that takes too
long or dies; the input that it was at is the fault. What an input does to memory is measured as the growth of the
worker's peak, which Linux lets a process set back.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from tests.faults.mutators import mutate_folder

Verdict = Literal[
    "accepted", "refused", "os error", "other", "memory", "hang", "crash", "not finite", "escape", "message"
]

CPU_SECONDS = 5.0
WALL_SECONDS = 60.0
ADDRESS_SPACE = 8 << 30
"""What a worker may take beyond what it has when all libraries are loaded."""
MEMORY_RATIO = 100
"""An input may raise the peak by what its reader may take, and so many times its own size."""
LONGEST_MESSAGE = 1500


@dataclass(frozen=True)
class Task:
    """One damaged input: it follows from these alone, and from the good inputs."""

    reader: str
    number: int
    seed: int
    bytes_only: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of it.

    Attributes:
        task: the input.
        verdict: what happened.
        place: of a fault, exception and line.
        detail: of a fault, more about it.
        seconds: processor time.
        growth: bytes by which the peak of memory grew.
        size: bytes of the input.
    """

    task: Task
    verdict: Verdict
    place: str = ""
    detail: str = ""
    seconds: float = 0.0
    growth: int = 0
    size: int = 0

    @property
    def is_fault(self) -> bool:
        """Is it what must not happen?"""
        return self.verdict not in ("accepted", "refused", "os error")


def good_inputs(root: Path, reader: str) -> list[dict[str, bytes]]:
    """The good inputs of a reader: name → content, for each."""
    return [
        {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        for folder in sorted((root / reader).iterdir())
        if folder.is_dir()
    ]


def damaged(inputs: list[dict[str, bytes]], task: Task) -> dict[str, bytes | None]:
    """The files of a task."""
    rng = random.Random(f"{task.seed} {task.reader} {task.number}")
    return mutate_folder(rng.choice(inputs), rng, bytes_only=task.bytes_only)


def write_files(files: Mapping[str, bytes | None], folder: Path) -> None:
    """Writes them into a new folder."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(content)


# --- the worker -------------------------------------------------------------------------------------------------------


def read_once(reader: str, folder: Path, size: int) -> tuple[Verdict, str, str, float, int]:
    """Reads one input; verdict, place, detail, processor seconds, growth of the peak."""
    from PIL import Image

    from tests.faults.readers import READERS, NotFiniteError
    from trackweave.errors import TrackweaveError

    verdict: Verdict = "accepted"
    place = detail = ""
    base = _reset_peak()
    started = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", RuntimeWarning)  # numpy says so where a number does not fit its type
            warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # 90 megapixels: large, no fault
            READERS[reader].read(folder)
    except TrackweaveError as error:
        verdict, text = "refused", str(error)
        detail = text[:300]
        if len(text) > LONGEST_MESSAGE or "\x1b" in text or "\n" in text or not text.strip():
            verdict, place, detail = "message", _place(error), f"{len(text)} characters: {text[:200]!r}"
    except MemoryError as error:
        verdict, place, detail = "memory", _place(error), repr(error)[:200]
    except NotFiniteError as error:
        verdict, place = "not finite", _place(error)
    except OSError as error:
        verdict, place, detail = "os error", _place(error), repr(error)[:200]
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        verdict, place, detail = "other", _place(error), "".join(traceback.format_exception(error))[-3000:]
    seconds = time.process_time() - started
    growth = max(0, _peak() - base)
    if verdict in ("accepted", "refused") and growth > READERS[reader].memory + MEMORY_RATIO * size:
        verdict, place = "memory", f"{growth >> 20} MiB of an input of {size} bytes"
    return verdict, place, detail, seconds, growth


def _place(error: BaseException) -> str:
    """The exception's type, and the deepest line of ours that it came through."""
    line = "?"
    for frame in traceback.extract_tb(error.__traceback__):
        if "/trackweave/" in frame.filename and "/site-packages/" not in frame.filename:
            line = f"{frame.filename.rpartition('/trackweave/')[2]}:{frame.name}:{frame.lineno}"
    return f"{type(error).__name__} at {line}"


def _status(key: str) -> int:
    """A figure of `/proc/self/status`, in bytes; 0 where there is none."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) << 10
    return 0


def _peak() -> int:
    return _status("VmHWM")


def _reset_peak() -> int:
    """Sets the peak back to what is held now, and returns that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _limit() -> None:
    """Bounds of this process."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        used = _status("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _trim() -> None:
    """Gives freed memory back, so that one input's does not hide another's."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _work(connection: Connection, inputs_root: str, scratch: str) -> None:
    """A worker's life: tasks come, outcomes go."""
    import faulthandler

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    log = (Path(scratch) / "stack").open("w")
    os.dup2(quiet, 2)
    faulthandler.enable(log)
    faulthandler.register(signal.SIGUSR1, log)
    import cv2

    cv2.setNumThreads(1)
    os.environ.update(TMPDIR=scratch, HOME=scratch, XDG_STATE_HOME=scratch, HF_HUB_OFFLINE="1")
    tempfile.tempdir = scratch
    known: dict[str, list[dict[str, bytes]]] = {}
    _limit()
    connection.send(None)
    while (task := connection.recv()) is not None:
        if task.reader not in known:
            known[task.reader] = good_inputs(Path(inputs_root), task.reader)
            warm = Path(scratch) / "place" / "in"
            for files in known[task.reader]:  # good ones first: what is loaded or compiled once is no input's fault
                write_files(dict(files), warm)
                verdict, place, detail, *_ = read_once(task.reader, warm, 1 << 40)
                shutil.rmtree(warm.parent, ignore_errors=True)
                if verdict != "accepted":
                    connection.send(f"{task.reader}: a good input is {verdict}: {place} {detail}")
            gc.collect()
            gc.freeze()  # a collection looks at what inputs leave behind only
        connection.send("started")
        connection.send(_attempt(task, known[task.reader], Path(scratch)))


def _attempt(task: Task, inputs: list[dict[str, bytes]], scratch: Path) -> Outcome:
    files = damaged(inputs, task)
    place = scratch / "place"
    folder = place / "in"
    size = sum(len(content or b"") for content in files.values())
    try:
        write_files(files, folder)
    except (OSError, ValueError):  # a name that the file system does not take
        shutil.rmtree(place, ignore_errors=True)
        return Outcome(task, "refused", size=size)
    del files
    _trim()
    before = set(os.listdir(scratch))  # noqa: PTH208 - names are enough
    verdict, where, detail, seconds, growth = read_once(task.reader, folder, size)
    strays = set(os.listdir(scratch)) - before | (set(os.listdir(place)) - {"in", "out"})  # noqa: PTH208
    if strays and verdict in ("accepted", "refused"):
        verdict, where = "escape", f"left {sorted(strays)[:3]} outside its folders"
        for name in strays:
            shutil.rmtree(scratch / name, ignore_errors=True)
    shutil.rmtree(place, ignore_errors=True)
    return Outcome(task, verdict, where, detail, seconds, growth, size)


# --- the pool ---------------------------------------------------------------------------------------------------------


class _Worker:
    """A process, and what it is at."""

    def __init__(self, inputs_root: Path, scratch: Path) -> None:
        self.scratch = scratch
        scratch.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        arguments = (theirs, str(inputs_root), str(scratch))
        self.process = context.Process(target=_work, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self.connection.recv()
        self.task: Task | None = None
        self.started_cpu = 0.0
        self.started_wall = 0.0
        self.is_warm = False

    def give(self, task: Task) -> None:
        self.task, self.is_warm = task, False
        self.started_wall = time.monotonic()
        self.connection.send(task)

    def cpu(self) -> float:
        """Processor seconds of the process."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def begun(self) -> None:
        self.is_warm = True
        self.started_cpu, self.started_wall = self.cpu(), time.monotonic()

    @property
    def is_late(self) -> bool:
        wall = time.monotonic() - self.started_wall
        if not self.is_warm:  # it still reads the good inputs
            return wall > 10 * WALL_SECONDS
        return wall > CPU_SECONDS and (self.cpu() - self.started_cpu > CPU_SECONDS or wall > WALL_SECONDS)

    def end(self) -> str:
        """Kills it; where it was, as its log of stacks says."""
        if self.process.is_alive() and self.process.pid is not None:
            with suppress(OSError):
                os.kill(self.process.pid, signal.SIGUSR1)
                time.sleep(0.3)
            self.process.kill()
        self.process.join()
        self.connection.close()
        with suppress(OSError):
            lines = (self.scratch / "stack").read_text(errors="replace").splitlines()
            ours = [line.strip() for line in lines if "/src/trackweave/" in line]
            return ours[0].rpartition("/trackweave/")[2] if ours else "?"
        return "?"


def run_tasks(tasks: Iterable[Task], inputs_root: Path, workers: int) -> Iterator[Outcome]:
    """Outcomes as they come; every task has one.

    Raises:
        RuntimeError: a reader refuses an input that was not damaged: it would test nothing.
    """
    waiting = iter(tasks)
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))
    memory = Path("/dev/shm")  # a disk would be what most of the time goes to
    with tempfile.TemporaryDirectory(prefix="trackweave-fuzz-", dir=memory if memory.is_dir() else None) as scratch:
        numbers = iter(range(1 << 60))

        def begin() -> _Worker:
            return _Worker(inputs_root, Path(scratch) / f"worker{next(numbers)}")

        pool: list[_Worker] = []
        try:
            for _ in range(workers):
                task = next(waiting, None)
                if task is None:
                    break
                pool.append(begin())
                pool[-1].give(task)
            while pool:
                ready = wait([worker.connection for worker in pool], timeout=0.5)
                for worker in list(pool):
                    outcome = _progress(worker, worker.connection in ready)
                    if outcome is None:
                        continue
                    yield outcome
                    following = next(waiting, None)
                    if not worker.process.is_alive():
                        shutil.rmtree(worker.scratch, ignore_errors=True)
                        pool.remove(worker)
                        if following is not None:
                            pool.append(begin())
                            pool[-1].give(following)
                    elif following is not None:
                        worker.give(following)
                    else:
                        pool.remove(worker)
                        worker.connection.send(None)
                        worker.process.join(5)
                        worker.end()
        finally:
            for worker in pool:
                worker.end()


def _progress(worker: _Worker, is_ready: bool) -> Outcome | None:
    """What a worker has to say; the outcome of its task when it has one."""
    task = worker.task
    assert task is not None
    if is_ready:
        try:
            message: Any = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join(5)
            code = worker.process.exitcode
            return Outcome(task, "crash", f"signal {-code if code else code} in {worker.end()}")
        if message == "started":
            worker.begun()
            return None
        if isinstance(message, str):
            raise RuntimeError(message)
        assert isinstance(message, Outcome)
        if message.seconds > CPU_SECONDS and not message.is_fault:
            return Outcome(task, "hang", f"{message.seconds:.0f} s", "", message.seconds, message.growth, message.size)
        return message
    if worker.is_late:
        return Outcome(task, "hang", f"in {worker.end()}", seconds=CPU_SECONDS)
    return None


if sys.platform == "win32":  # pragma: no cover - bounds of processes are Linux's here
    raise SystemExit("the pool needs Linux")
