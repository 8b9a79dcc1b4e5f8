"""`RayEngine`: the jobs of a plan on the actors of a Ray cluster; placing, retries and lost nodes are Ray's."""

from __future__ import annotations

import importlib
import itertools
import logging
import math
import os
import socket
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from trackweave.errors import InputError, MissingExtraError, SettingError, shortened_line
from trackweave.plans.settings import EngineSettings, StageShare, redacted
from trackweave.plans.stages import (
    LAST,
    OF_PIECES,
    SPLIT,
    STORE,
    WARM,
    Job,
    OnProgress,
    StageRecord,
    run_stages,
    settings_of,
    stages_of,
)
from trackweave.plans.state import NAME
from trackweave.plans.workers import TELL_EVERY, Event, cores

LEAST_VERSION = (2, 50)
"""Of Ray."""
STORE_BYTES = 100 * 2**20
"""Object store of a cluster that is started here: jobs and records are all that goes through it."""
ASK_EVERY = 1.0
"""Seconds between two questions to a worker how far it is; of many workers longer, so that 50 are asked a second."""
LOOK_EVERY = 10.0
"""Seconds between two looks at what the cluster can hold."""
IDLE, IDLE_WHERE_OTHERS_WAIT = 5.0, 1.0
"""Seconds after which a worker without work is let go, so that others have its place and the cluster may shrink."""
CONNECT_SECONDS = 10.0
"""After which a cluster that does not answer is not there."""
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
"""How HTTP/2 begins, which all of Ray speaks: whatever takes it sends its own settings back (RFC 9113, 3.4)."""
SETTINGS = b"\x04"
"""The type of such a frame, its fourth byte."""
BEGIN = "`ray start --head` begins one, `address: local` needs none"

Outcome = StageRecord | Mapping[str, str]


class _StageWorker:
    """The actor: it has the libraries loaded, and keeps the predictor of its last job for the next."""

    def __init__(self, kind: str, home: str, output: str, threads: int, release: str) -> None:
        with suppress(OSError):  # relative paths are the coordinator's
            os.chdir(home)
        self._problem = _mismatch(output, release)
        self._job = ("", "")
        self._outcomes: list[Outcome] = []
        self._progress: tuple[str, int, int] | None = None
        if self._problem is None:
            for module in WARM[kind]:
                importlib.import_module(module)
            import cv2

            cv2.setNumThreads(threads)

    def problem(self) -> str | None:
        """Why nothing can be done on this node; None: it can."""
        return self._problem

    def work(self, job: Job, last: str) -> list[Outcome]:
        """Does the stages of a job up to `last`; what is done already is only looked at."""
        self._outcomes, self._progress, self._job = [], None, (job.item, job.variant)
        if self._problem is not None:  # Ray began this actor anew, on another node than its first
            return [StageRecord("open", "", kind="cluster", message=self._problem)]
        with closing(_outcomes(job, self._note)) as outcomes:
            for outcome in outcomes:
                self._outcomes.append(outcome)
                if isinstance(outcome, StageRecord) and outcome.stage == last:
                    break
        return self._outcomes

    def tell(self) -> tuple[tuple[str, str], list[Outcome], tuple[str, int, int] | None]:
        """Item and variant, what is done of it, and how far the stage is; asked beside the work."""
        return self._job, list(self._outcomes), self._progress

    def _note(self, stage: str, done: int, total: int) -> None:
        self._progress = stage, done, total


def _outcomes(job: Job, on_progress: OnProgress) -> Generator[Outcome, None, None]:
    yield from run_stages(job, on_progress)


def _mismatch(output: str, release: str) -> str | None:
    """What keeps this node from working for a coordinator."""
    node = f"node {socket.gethostname()}"
    if not Path(output, NAME).is_file():
        return f"{node}: does not see {output}: output and inputs have to lie where all nodes have them"
    if _release() != release:
        return f"{node}: has trackweave {_release()}, the coordinator {release}: install one version on all nodes"
    return None


def _release() -> str:
    try:
        return version("trackweave")
    except PackageNotFoundError:
        return "unknown"


@dataclass
class _Given:
    """A job that was submitted, and what the coordinator was sent of it."""

    job: Job
    lasts: deque[tuple[int, str]]
    sent: set[str] = field(default_factory=set)

    def events(self, outcomes: Sequence[Outcome]) -> Iterator[Event]:
        """What is new. Ray may do a job again from its beginning: what was sent of it once is not sent again."""
        for outcome in outcomes:
            name = outcome.stage if isinstance(outcome, StageRecord) else ""
            if name in self.sent:
                continue
            self.sent.add(name)
            if isinstance(outcome, StageRecord):
                yield Event(self.job, record=outcome)
            else:
                self.job = replace(self.job, digests={**self.job.digests, **outcome})
                yield Event(self.job, digests=outcome)


@dataclass
class _Asked:
    """A question to a worker how far it is."""

    actor: Any
    given: _Given
    at: float
    ref: Any = None
    progress: tuple[str, int, int] | None = None


class RayEngine:
    """Actors of a Ray cluster.

    Consecutive stages of equal shares are done by one actor; where shares differ a job goes from one kind of actors to
    the next. There are as many actors as have work and a place. What Ray does: it places them, begins them anew on
    another node when theirs is lost, and does their job again, which goes on from what lies in the run folder.

    Args:
        kind: of the plan.
        stages: of the plan.
        settings: `engine` of the plan.
        output: the folder that the plan fills; all nodes have it.
        count: of jobs, at most so many workers are of use.

    Raises:
        InputError: no such cluster, or one that does not fit.
        MissingExtraError: Ray is not installed.
        SettingError: no node has what a worker takes.
    """

    def __init__(self, kind: str, stages: Sequence[str], settings: EngineSettings, output: Path, count: int) -> None:
        self._settings, self._kind, self._output, self._count = settings, kind, output, count
        shares = [(stage, settings.share_of(stage)) for stage in stages]
        self._pools = [
            _Pool(share, tuple(stage for stage, _ in group))
            for share, group in itertools.groupby(shares, lambda pair: pair[1])
        ]
        self._given: dict[tuple[str, str], _Given] = {}
        self._asked: dict[Any, _Asked] = {}
        self._looked = 0.0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._ray, self._is_own = _connected(self._settings, self._pools, self._count)
        self._stack.enter_context(_speaking_on_stderr())
        self._actor = self._ray.remote(concurrency_groups={"beside": 1})(_StageWorker)
        self._look()
        for pool in self._pools:
            if not pool.most:
                self._disconnect()
                raise SettingError(
                    f"engine: no node of the Ray cluster has {pool.share.text()} for a worker "
                    f"({', '.join(pool.stages)}); give `workers` where the cluster grows by itself"
                )
        return self

    def __exit__(self, *exc: object) -> None:
        for pool in self._pools:
            for actor in pool.actors():
                self._let_go(actor)
        self._disconnect()

    def _disconnect(self) -> None:
        with self._stack:
            if self._is_own:
                self._ray.shutdown()

    @property
    def free(self) -> int:
        """See `Engine`."""
        return max(sum(pool.most for pool in self._pools) - self.busy, 0)

    @property
    def busy(self) -> int:
        """See `Engine`."""
        return len(self._given)

    def submit(self, job: Job, *, alone: bool = False) -> None:
        """See `Engine`."""
        done = [stage for stage in OF_PIECES if stage != "track"] if job.pieces else []
        wanted = {*job.stages, STORE} - set(done)
        own = [stage for stage in stages_of(job, settings_of(job)) if stage in wanted]
        lasts = deque[tuple[int, str]]()
        for n, pool in enumerate(self._pools):
            here = [stage for stage in own if stage in pool.stages or (stage == STORE and pool is self._pools[-1])]
            if here:
                lasts.append((n, here[-1]))
        given = _Given(job, lasts or deque([(0, "")]))
        self._given[job.item, job.variant] = given
        self._pools[given.lasts[0][0]].waiting.append(given)

    def poll(self, seconds: float) -> Sequence[Event]:
        """See `Engine`."""
        try:
            self._balance()
            self._ask()
            refs = [ref for pool in self._pools for ref in (*pool.starting, *pool.running)]
            refs += [asked.ref for asked in self._asked.values() if asked.ref is not None]
            if not refs:
                time.sleep(min(seconds, TELL_EVERY))
                return []
            first, rest = self._ray.wait(refs, timeout=seconds)
            more = self._ray.wait(rest, num_returns=len(rest), timeout=0)[0] if rest else []
            return [event for ref in (*first, *more) for event in self._received(ref)]
        except (ConnectionError, self._ray.exceptions.RaySystemError) as error:
            text = shortened_line(str(error), 200)
            raise InputError(
                f"Ray cluster {redacted(self._settings.address)}: the connection is lost ({text}): what is finished is "
                "kept, the same command goes on"
            ) from None

    # --- as many actors as there is work for

    def _look(self) -> None:
        """What the cluster can hold."""
        self._looked = time.monotonic()
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        for pool in self._pools:
            wanted = self._settings.workers or pool.share.fits(nodes)
            pool.most = min(wanted, self._count)

    def _balance(self) -> None:
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY:
            self._look()
        for pool in self._pools:
            while pool.idle and pool.waiting:
                given, (actor, _) = pool.waiting.popleft(), pool.idle.pop()
                work = actor.work.remote(self._part(given, pool), given.lasts[0][1])
                pool.running[work], self._asked[work] = (actor, given), _Asked(actor, given, now)
            for _ in range(min(len(pool.waiting), pool.most - len(pool.running)) - len(pool.starting)):
                actor = self._begun(pool)
                pool.starting[actor.problem.remote()] = actor
        for pool in self._pools:
            others_wait = any(other.starting for other in self._pools if other is not pool)
            patience = IDLE_WHERE_OTHERS_WAIT if others_wait else IDLE
            for actor, since in [] if pool.waiting else [*pool.idle]:
                if now - since >= patience:
                    pool.idle.remove((actor, since))
                    self._let_go(actor)

    def _begun(self, pool: _Pool) -> Any:
        share = pool.share
        options: dict[str, Any] = {
            "num_cpus": share.cpus,
            "num_gpus": share.gpus,
            "max_restarts": self._settings.retries,
            "max_task_retries": -1,  # each fails at once until Ray knows that a node is lost
        }
        if share.memory_gb is not None:
            options["memory"] = int(share.memory_gb * 1e9)
        place = str(Path.cwd()), str(self._output)
        return self._actor.options(**options).remote(self._kind, *place, max(1, int(share.cpus)), _release())

    def _let_go(self, actor: Any) -> None:
        with suppress(Exception):  # it, or the cluster, is gone already
            self._ray.kill(actor)

    def _part(self, given: _Given, pool: _Pool) -> Job:
        """The job for the actors of a pool: what nothing depends on was done, or failed, in the pools before."""
        first = self._pools.index(pool)
        before = {stage for each in self._pools[:first] for stage in each.stages if stage in LAST}
        return replace(given.job, stages=[stage for stage in given.job.stages if stage not in before])

    # --- what comes back

    def _ask(self) -> None:
        now = time.monotonic()
        every = max(ASK_EVERY, len(self._asked) / 50)
        for asked in self._asked.values():
            if asked.ref is None and now - asked.at >= every:
                asked.at = now
                asked.ref = asked.actor.tell.options(concurrency_group="beside", max_task_retries=0).remote()

    def _received(self, ref: Any) -> Iterator[Event]:
        asked = next((one for one in self._asked.values() if one.ref == ref), None)
        if asked is not None:
            asked.ref = None
            yield from self._progressed(ref, asked)
        for pool in self._pools:
            if ref in pool.starting:
                self._ready(pool, ref, pool.starting.pop(ref))
            elif ref in pool.running:
                del self._asked[ref]
                yield from self._done(pool, ref, *pool.running.pop(ref))

    def _progressed(self, ref: Any, asked: _Asked) -> Iterator[Event]:
        with suppress(self._ray.exceptions.RayError):  # it is being begun anew
            of, outcomes, progress = self._ray.get(ref)
            if of == (asked.given.job.item, asked.given.job.variant):
                yield from asked.given.events(outcomes)
                if progress not in (None, asked.progress):
                    asked.progress = progress
                    yield Event(asked.given.job, progress=progress)

    def _ready(self, pool: _Pool, ref: Any, actor: Any) -> None:
        """A worker can begin.

        Raises:
            InputError: it cannot.
        """
        try:
            problem = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "")
            problem = f"a worker does not start: {shortened_line(reason, 300)}"
        if problem is not None:
            raise InputError(f"Ray cluster {redacted(self._settings.address)}: {problem}")
        pool.idle.append((actor, time.monotonic()))

    def _done(self, pool: _Pool, ref: Any, actor: Any, given: _Given) -> Iterator[Event]:
        try:
            outcomes: list[Outcome] = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._let_go(actor)
            self._given.pop((given.job.item, given.job.variant))
            yield Event(given.job, is_over=True, lost=_why(error))
            return
        pool.idle.append((actor, time.monotonic()))
        yield from given.events(outcomes)
        given.lasts.popleft()
        broke = any(isinstance(one, StageRecord) and one.kind is not None and one.stage not in LAST for one in outcomes)
        if given.lasts and not broke and not _waits_for_pieces(outcomes):
            self._pools[given.lasts[0][0]].waiting.append(given)
            return
        self._given.pop((given.job.item, given.job.variant))
        yield Event(given.job, is_over=True)


@dataclass
class _Pool:
    """The actors of stages of one share."""

    share: StageShare
    stages: tuple[str, ...]
    most: int = 0
    waiting: deque[_Given] = field(default_factory=deque)
    starting: dict[Any, Any] = field(default_factory=dict)
    idle: list[tuple[Any, float]] = field(default_factory=list)
    running: dict[Any, tuple[Any, _Given]] = field(default_factory=dict)

    def actors(self) -> list[Any]:
        """All of them."""
        pairs = [*self.idle, *self.running.values()]
        return [*self.starting.values(), *(actor for actor, _ in pairs)]


def _waits_for_pieces(outcomes: Sequence[Outcome]) -> bool:
    """Was a video found to be divided, and does not go on before its pieces are through?"""
    records = {outcome.stage: outcome for outcome in outcomes if isinstance(outcome, StageRecord)}
    return SPLIT in records and bool(records[SPLIT].facts.get("pieces")) and "track" not in records


def _why(error: Exception) -> str:
    """Why a job came to nothing, although Ray did it several times: kind and message."""
    text = shortened_line(str(error), 600)
    if type(error).__name__ == "OutOfMemoryError" or "memory pressure" in text or "(OOM)" in text:
        return f"memory: {text}"
    kind = "cluster" if "node has died" in text or "node was" in text else "crash"
    return f"{kind}: {text}"


# --- the connection ---------------------------------------------------------------------------------------------------


def _connected(settings: EngineSettings, pools: Sequence[_Pool], count: int) -> tuple[Any, bool]:
    """Ray, connected; and whether the connection is ours to end.

    Raises:
        InputError: no such cluster, or one that does not fit.
        MissingExtraError: Ray is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingExtraError("ray", "ray") from None
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < LEAST_VERSION:
        least = ".".join(map(str, LEAST_VERSION))
        raise InputError(f"Ray {ray.__version__} is installed, {least} or newer is needed: pip install 'ray>={least}'")
    if ray.is_initialized():
        return ray, False
    address = settings.address
    options: dict[str, Any] = {"address": address, "logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        most = max(math.ceil((settings.workers or 0) * pool.share.cpus) for pool in pools)
        options |= {"num_cpus": max(cores(), min(most, count)), "include_dashboard": settings.dashboard}
        options["object_store_memory"] = STORE_BYTES
    where = f"Ray cluster {redacted(address)}"
    _check_answers(address, where)
    try:
        with _environment(is_local=address == "local"):
            ray.init(**options)
    except ConnectionError as error:
        raise InputError(f"{where}: {shortened_line(str(error), 300)}: {BEGIN}") from None
    except (RuntimeError, TimeoutError, ValueError, ImportError, ray.exceptions.RayError) as error:
        raise InputError(f"{where}: {shortened_line(str(error), 500)}") from None
    return ray, True


def _last_begun() -> str | None:
    """Where the cluster is that began here last, be it there or not; None: none is known."""
    read = getattr(getattr(importlib.import_module("ray._private"), "utils", None), "read_ray_address", None)
    try:
        found = None if read is None else read()
    except OSError:
        return None
    return found if isinstance(found, str) and found else None


def _check_answers(address: str, where: str) -> None:
    """Is anything like Ray at an address? Ray itself would ask for minutes.

    Raises:
        InputError: nothing is, or nothing that answers.
        SettingError: it is no address.
    """
    if address == "auto":  # Ray takes that of the environment, else that of the last cluster that began here
        found = os.environ.get("RAY_ADDRESS") or _last_begun()
        if found is not None:
            address, where = found, f"{where} ({redacted(found)})"
    if address in ("local", "auto"):
        return
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port is None or parts.scheme not in ("", "ray"):
        raise SettingError(f"engine: address: is local, auto, HOST:PORT or ray://HOST:PORT, not {redacted(address)}")
    try:
        connection = socket.create_connection((host, port), timeout=CONNECT_SECONDS)
    except OSError as error:
        raise InputError(f"{where}: is not there ({error.strerror or error}): {BEGIN}") from None
    answer = b""
    with connection, suppress(ConnectionError):  # what hangs up, as on a greeting without TLS, is Ray's to judge
        try:
            connection.sendall(GREETING)
            while len(answer) < 4 and (more := connection.recv(4)):
                answer += more
        except TimeoutError:
            raise InputError(f"{where}: does not answer within {CONNECT_SECONDS:g} s: {BEGIN}") from None
    if len(answer) >= 4 and answer[3:4] != SETTINGS and not _has_tls():
        raise InputError(f"{where}: what listens there is not Ray, or not on its port for programs: {BEGIN}")


def _has_tls() -> bool:
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


@contextmanager
def _speaking_on_stderr() -> Iterator[None]:
    """What Ray has to say of lost nodes does not stand among what a command prints."""
    from ray._private import worker

    print_to_stdstream = getattr(worker, "print_to_stdstream", None)
    if print_to_stdstream is None:
        yield
        return
    worker.print_to_stdstream = lambda data, *more, **options: print_to_stdstream(
        {**data, "is_err": True}, *more, **options
    )
    try:
        yield
    finally:
        worker.print_to_stdstream = print_to_stdstream


@contextmanager
def _environment(*, is_local: bool) -> Iterator[None]:
    """Ray begins without usage statistics; a cluster of our own listens on the loopback interface alone."""
    from ray._private import ray_constants

    # Ray's own switch for clusters of one machine, on by default on Windows and macOS.
    wanted = {"RAY_USAGE_STATS_ENABLED": "0", **({ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"} if is_local else {})}
    before, many = {name: os.environ.get(name) for name in wanted}, ray_constants.ENABLE_RAY_CLUSTER
    os.environ.update(wanted)
    if is_local:
        ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = many
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
