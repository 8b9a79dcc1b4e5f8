"""`LocalEngine`: processes of this machine, each kept for many items, watched for memory and replaced when it dies."""

from __future__ import annotations

import faulthandler
import mmap
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol, Self

from trackweave.errors import SettingError
from trackweave.plans.stages import WARM, Job, StageRecord, run_stages

IMPORTS_AGAIN = 87
"""Exit code of a worker that came to `run` while it imported the script: any that Python itself does not have."""
TELL_EVERY = 0.25
"""Seconds between two messages of progress of a worker, and between two looks at its memory."""


@dataclass(frozen=True)
class Event:
    """What a job did.

    Attributes:
        job: which.
        digests: of what it reads: it has begun.
        record: a stage that is done, or failed.
        progress: stage, done, total.
        is_over: nothing more comes of it.
        lost: why the process that did it died, where it did.
    """

    job: Job
    digests: Mapping[str, str] | None = None
    record: StageRecord | None = None
    progress: tuple[str, int, int] | None = None
    is_over: bool = False
    lost: str | None = None


class Engine(Protocol):
    """What does jobs; a `with` block."""

    @property
    def free(self) -> int:
        """How many jobs it takes now."""

    @property
    def busy(self) -> int:
        """How many jobs it does now."""

    def submit(self, job: Job, *, alone: bool = False) -> None:
        """Begins a job; `alone`: with the memory of all."""

    def poll(self, seconds: float) -> Sequence[Event]:
        """What happened, at most so many seconds from now."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class LocalEngine:
    """Processes of this machine.

    A worker is forked from a server that has the libraries loaded, does one job after the other, and ends when this
    process does, whatever the cause.

    Args:
        kind: masks or boxes.
        workers: how many.
        memory_gb: of one worker (10⁹ bytes); None: its share of four fifths of the machine's.
        log: file that takes what workers print, of crashes above all.
        gpus: names of GPUs, see `visible_gpus`; each worker sees one of them, which as few others as may be see.
    """

    def __init__(self, kind: str, workers: int, memory_gb: float | None, log: Path, gpus: Sequence[str] = ()) -> None:
        whole = 0.8 * machine_memory()
        self._limit = memory_gb * 1e9 if memory_gb is not None else whole / workers
        self._whole = max(whole, self._limit)
        self._log, self._count = log, workers
        self._threads = max(1, cores() // workers)
        self._gpus = gpus
        self._workers: list[_Worker] = []
        methods = multiprocessing.get_all_start_methods()
        self._context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            self._context.set_forkserver_preload([*WARM[kind]])

    @property
    def free(self) -> int:
        """See `Engine`."""
        return self._count - self.busy

    @property
    def busy(self) -> int:
        """See `Engine`."""
        return sum(worker.job is not None for worker in self._workers)

    def submit(self, job: Job, *, alone: bool = False) -> None:
        """See `Engine`."""
        for worker in [one for one in self._workers if one.job is None and not one.is_alive]:
            self._workers.remove(worker)  # it died without work: that is nothing of this job
            worker.end()
        idle = next((worker for worker in self._workers if worker.job is None), None)
        if idle is None:
            taken = Counter(worker.gpu for worker in self._workers)
            gpu = min(self._gpus, key=lambda one: taken[one], default=None)
            idle = _Worker(self._context, self._threads, self._log, gpu)
            self._workers.append(idle)
        idle.begin(job, self._whole if alone else self._limit)

    def poll(self, seconds: float) -> Sequence[Event]:
        """See `Engine`."""
        busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
        ready = wait([*busy], timeout=min(seconds, TELL_EVERY)) if busy else []
        events: list[Event] = []
        for connection in ready:
            worker = busy[connection]
            try:
                while worker.job is not None and worker.connection.poll():
                    events.append(worker.receive())
            except (EOFError, OSError):
                events.append(self._lost(worker))
        for worker in busy.values():
            worker.watch()
        return events

    def _lost(self, worker: _Worker) -> Event:
        self._workers.remove(worker)
        job = worker.job
        assert job is not None
        return Event(job, is_over=True, lost=worker.died())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self._workers:
            worker.end()


class _Worker:
    """One process, seen from the coordinator.

    Attributes:
        gpu: the one that it sees; None: all that there are.
    """

    def __init__(self, context: Any, threads: int, log: Path, gpu: str | None = None) -> None:
        self.connection, theirs = context.Pipe()
        self.gpu = gpu
        self._process = context.Process(target=_serve, args=(theirs, threads, str(log), gpu), daemon=True)
        self._process.start()
        theirs.close()
        self.job: Job | None = None
        self._log = log
        self._limit = self._looked = 0.0
        self._over: float | None = None

    @property
    def is_alive(self) -> bool:
        """Is its process there?"""
        return bool(self._process.is_alive())

    def begin(self, job: Job, limit: float) -> None:
        """Sends a job, which may take so many bytes."""
        self.job, self._limit, self._over = job, limit, None
        with suppress(OSError):  # it is dead: `poll` finds that out
            self.connection.send(job)

    def receive(self) -> Event:
        """The next message.

        Raises:
            EOFError, OSError: the process is dead.
        """
        job, message = self.job, self.connection.recv()
        assert job is not None
        if message is None:
            self.job = None
            return Event(job, is_over=True)
        if isinstance(message, StageRecord):
            return Event(job, record=message)
        if isinstance(message, tuple):
            return Event(job, progress=message)
        return Event(job, digests=message)

    def watch(self) -> None:
        """Kills the process when it takes more memory than it may."""
        now = time.monotonic()
        if self.job is None or now - self._looked < TELL_EVERY:
            return
        self._looked = now
        size = resident_bytes(self._process.pid)
        if size is not None and size > self._limit:
            self._over = size
            self._process.kill()

    def died(self) -> str:
        """Why it did.

        Raises:
            SettingError: by the script.
        """
        self._process.join(10)
        code = self._process.exitcode
        self.connection.close()
        if code == IMPORTS_AGAIN:
            raise SettingError(
                "trackweave.run is called by whoever imports the script, as its workers do: "
                'put the call under `if __name__ == "__main__":`'
            ) from None
        if self._over is not None:
            return f"memory: took {self._over / 1e9:.1f} GB, may take {self._limit / 1e9:.1f} (engine.memory_gb)"
        if code == -signal.SIGKILL:
            return "memory: killed by the system, as it does when memory runs out"
        name = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return f"crash: the process ended by {name}: {self._log} has what it printed"

    def end(self) -> None:
        """Ends the process at once: what is on the disk is what a later call goes on from."""
        self._process.kill()
        self._process.join(10)
        self.connection.close()


def check_is_no_worker() -> None:
    """Ends a worker that imports the script and comes to `run` there, as it would for ever."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # multiprocessing's own mark of this time
        os._exit(IMPORTS_AGAIN)


def _serve(connection: Connection, threads: int, log: str, gpu: str | None = None) -> None:
    """The life of a worker: jobs come through the connection, and what they do goes back."""
    if gpu is not None:
        os.environ[VISIBLE_GPUS] = gpu  # before anything looks for devices
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator's: it ends the workers
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, signal.SIG_DFL)
    _log_to(log)
    import cv2

    cv2.setNumThreads(threads)
    jobs: queue.Queue[Job] = queue.Queue()
    threading.Thread(target=_listen, args=(connection, jobs), daemon=True).start()
    while True:
        job = jobs.get()
        try:
            for outcome in run_stages(job, _Teller(connection)):
                connection.send(outcome)
            connection.send(None)
        except (BrokenPipeError, ConnectionResetError):  # nobody is there any more
            os._exit(1)


def _listen(connection: Connection, jobs: queue.Queue[Job]) -> None:
    """Takes jobs; when the coordinator is gone, however it died, so is this process."""
    while True:
        try:
            jobs.put(connection.recv())
        except (EOFError, OSError):
            os._exit(1)


class _Teller:
    """Sends progress, not too often."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._last = connection, 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= TELL_EVERY:
            self._last = now
            self._connection.send((stage, done, total))


def _log_to(path: str) -> None:
    """What libraries print goes to a file, and the stack of a crash."""
    with suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for number in (1, 2):
            os.dup2(file, number)
        os.close(file)
        if sys.stderr is not None:
            faulthandler.enable()


def cores() -> int:
    """Processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
"""The environment variable that says which GPUs CUDA shows to a process."""


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them; found without CUDA, on Linux."""
    chosen = os.environ.get(VISIBLE_GPUS)
    if chosen is None:
        return [str(n) for n in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]
    named = [one.strip() for one in chosen.split(",")]
    return named[: named.index("-1")] if "-1" in named else [one for one in named if one]


def machine_memory() -> float:
    """Bytes of the machine, or of the container; 16 GB where they are not known."""
    known = []
    with suppress(OSError, ValueError, IndexError):
        known.append(1024 * int(Path("/proc/meminfo").read_text(encoding="ascii").split()[1]))  # MemTotal, kB
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            known.append(int(Path("/sys/fs/cgroup", name).read_text(encoding="ascii")))
    return float(min(known, default=16_000_000_000))


def resident_bytes(pid: int | None) -> int | None:
    """Resident set of a process; None where it is not known, as on other systems than Linux."""
    with suppress(OSError, ValueError):
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * mmap.PAGESIZE
    return None
