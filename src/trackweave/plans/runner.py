"""`run`: works through a plan, item by item, on whatever engine; what is finished is never done again."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import chain as chained
from pathlib import Path
from typing import Any

from trackweave.errors import RunFolderError, SettingError, TrackweaveError, argument, listed, shortened_line
from trackweave.options.sources import ResolvedSettings
from trackweave.plans.items import TRAINING_ITEM, PlanItem, find_items, input_bytes, signature
from trackweave.plans.ray_engine import RayEngine
from trackweave.plans.remote import stores_of
from trackweave.plans.settings import Plan, SplitSettings, Variant, load_plan
from trackweave.plans.stages import (
    LAST,
    READS,
    SAMPLES,
    SPLIT,
    TRAINING,
    FinishedItem,
    Job,
    StageRecord,
    computes_on_gpu,
    described,
    is_done,
    is_there,
    joined_keys,
    piece_jobs,
    settings_of,
    settings_parts,
    split_key,
    stage_keys,
    stages_of,
    whole_key,
)
from trackweave.plans.state import NAME, KnownInput, PlanState, StageCost
from trackweave.plans.tables import own_version
from trackweave.plans.workers import Engine, LocalEngine, check_is_no_worker, cores, visible_gpus
from trackweave.storage.files import locked_folder
from trackweave.storage.run import RunManifest, RunPaths

AGAIN = frozenset({"disk full", "cluster", "store"})
"""Failures that are nothing of the item: the next call tries again."""
TRAINED = PlanItem(TRAINING_ITEM, {})
"""What is trained on all items of a plan of association."""
NO_STAGES = ("open", "work")
"""What stands among the records of an item whose inputs could not be read, or whose process died."""
MOST_WORKERS = 1000
"""So many workers are of use where even one video may be divided."""
WAIT = 0.5
"""Seconds for which the engine is listened to at a time."""


@dataclass(frozen=True)
class PlanEvent:
    """What happens while a plan is worked through.

    Attributes:
        name: `planned`, `started`, `progress`, `stage`, `finished`, `failed`, `lost`, `ended`.
        item: of which item; empty: of the plan.
        variant: of the matrix.
        values: more, as JSON values.
    """

    name: str
    item: str = ""
    variant: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> Mapping[str, Any]:
        """As JSON values."""
        of = {"item": self.item, "variant": self.variant} if self.item else {}
        return {"event": self.name, **of, **self.values}


OnEvent = Callable[[PlanEvent], None]


@dataclass(frozen=True)
class ItemSelection:
    """Which items of a plan, and what becomes of failures.

    Attributes:
        only: patterns of the names of items, or of `ITEM/VARIANT`; empty: all.
        limit: so many that are not done yet, at most.
        retry_failed: those that failed before are tried again.
        keep_going: after a failure the others go on.
    """

    only: Sequence[str] = ()
    limit: int | None = None
    retry_failed: bool = False
    keep_going: bool = True


@dataclass(frozen=True)
class Forecast:
    """What a call would do.

    Attributes:
        items: names in the order of the plan.
        done: items in variants that are done.
        failed: that failed, and are not tried again.
        due: `(item, variant)` that would be worked on.
        seconds: that the due ones take by what finished ones took, on the plan's workers; None: nothing finished yet.
        costs: of the stages so far.
        settings: item → what it has of its own: key, value, origin.
    """

    items: Sequence[str]
    done: int
    failed: int
    due: Sequence[tuple[str, str]]
    seconds: float | None
    costs: Sequence[StageCost]
    settings: Mapping[str, Sequence[tuple[str, str, str]]] = field(default_factory=dict)


def run(
    plan: Plan | str | os.PathLike[str] | Mapping[str, Any],
    *,
    output: str | os.PathLike[str] | None = None,
    selection: ItemSelection | None = None,
    on_event: OnEvent | None = None,
) -> Iterator[FinishedItem]:
    """Works through a plan; the same call again goes on where the last one ended, whatever ended it.

    An item is known by the content of what it reads and by its settings: a stage that is finished is used again as long
    as nothing that it depends on changed. The page over all, `index.html`, is written at the end.

    Args:
        plan: a plan, a YAML file, or the same as a mapping; see `load_plan`.
        output: the folder to fill, instead of the plan's own.
        selection: which items; None: all of them.
        on_event: called with everything that happens.

    Yields:
        items, those first that are done already; a failed one is an item as well, with its `failure`.

    Raises:
        InputError: the plan cannot be read, or an input of it names nothing.
        RunFolderError: the output folder holds something else, cannot be written, or another process works in it.
        SettingError: a setting of the plan is wrong, or the call is not under `if __name__ == "__main__":`.
    """
    check_is_no_worker()
    loaded = plan if isinstance(plan, Plan) else load_plan(plan, output=output)
    with _Coordinator(loaded, selection or ItemSelection(), on_event) as coordinator:
        yield from coordinator.work()


def forecast(plan: Plan, selection: ItemSelection | None = None) -> Forecast:
    """What `run` would do with a plan; nothing is written but the state of what is known.

    Args:
        plan: see `load_plan`.
        selection: which items; None: all of them.

    Raises:
        InputError, RunFolderError, SettingError: as `run`.
    """
    with _Coordinator(plan, selection or ItemSelection(), None) as coordinator:
        return coordinator.forecast()


class _Chain:
    """One item in one variant: its job, and what is known of its stages."""

    def __init__(self, coordinator: _Coordinator, item: PlanItem, variant: Variant) -> None:
        plan, state = coordinator.plan, coordinator.state
        self.item, self.variant = item, variant
        self.records = state.records(variant.name, item.name)
        settings, parts = coordinator.settings(item, variant)
        known = state.inputs(item.name)
        self.signatures = {role: coordinator.signature(item, role) for role in item.files}
        digests = {
            role: known[role].digest
            for role, now in self.signatures.items()
            if now and role in known and known[role] == (now, known[role].digest) and known[role].digest
        }
        samples: Sequence[str] | None = ()
        if item is TRAINED:
            samples, digests["samples"] = coordinator.samples(variant)
            self.signatures = dict(digests)
        self.job = Job(
            item.name,
            variant.name,
            plan.kind,
            item.files,
            settings.provided,
            TRAINING if item is TRAINED else [stage for stage in plan.stages if stage not in TRAINING],
            plan.formats,
            f"{coordinator.root}/{variant.name}/{item.name}",
            f"{coordinator.root}/shared",
            digests,
            plan.start,
            samples or (),
            coordinator.in_command,
            coordinator.stores,
            f"{plan.remote}/{variant.name}/{item.name}" if plan.remote else "",
            split=plan.split,
        )
        self.is_ready = bool(samples) or item is not TRAINED
        self.stages = stages_of(self.job, settings)
        self._parts = parts
        needed = {role for stage in self.stages for role in READS.get(stage, ()) if role in item.files}
        self.keys = stage_keys(self.job, self.stages, parts, digests) if needed <= digests.keys() else None
        self.pieces: Sequence[Job] = ()
        self.failed_piece: StageRecord | None = None
        if plan.split is not None:
            self.stages = SPLIT, *self.stages
            self._divide(plan.split, digests)

    def _divide(self, split: SplitSettings, digests: Mapping[str, str]) -> None:
        """What is known of the pieces of the video, and so of its stages."""
        if self.keys is None:
            return
        key, record = split_key(split, self._parts, digests), self.records.get(SPLIT)
        if record is None or record.key != key or record.kind is not None:
            self.keys = {SPLIT: key}
            return
        frames = record.facts["pieces"]
        self.pieces = piece_jobs(self.job, frames, digests)
        self.keys = {SPLIT: key, **(joined_keys(self.keys, key) if frames else self.keys)}

    @property
    def folder(self) -> Path:
        """Of the run."""
        return Path(self.job.folder)

    @property
    def whole(self) -> str:
        """What a failure that has no stage depends on."""
        return whole_key(self._parts, self.signatures)

    @cached_property
    def state(self) -> str:
        """`done`, `failed` or `due`, when it was asked for first."""
        for name in NO_STAGES:
            if name in self.records:
                broken = self.records[name]
                return "failed" if broken.key == self.whole and broken.kind not in AGAIN else "due"
        if self.keys is None:
            return "due"
        found = "done"
        for stage, key in self.keys.items():
            record = self.records.get(stage)
            if record is None or record.key != key or record.kind in AGAIN:
                return "due"
            if record.kind is not None:
                found = "failed"
                if stage not in LAST:
                    return found
            elif not is_there(self.job.folder, record):
                return "due"
        return found

    def finished(self, *, is_reused: bool) -> FinishedItem:
        """What is yielded."""
        names = (*NO_STAGES, *self.stages)
        records = {name: self.records[name] for name in names if name in self.records}
        return FinishedItem(self.item.name, self.variant.name, self.folder, records, is_reused)


class _PieceChain(_Chain):
    """A piece of an item whose video is divided; a chain of its own as far as engines know.

    Attributes:
        of: the item.
    """

    def __init__(self, of: _Chain, job: Job, records: dict[str, StageRecord]) -> None:
        self.item, self.variant = replace(of.item, name=job.item), of.variant
        self.records, self.signatures, self.job, self.of = records, of.signatures, job, of
        self.stages = stages_of(job, settings_of(job))
        self.keys, self.pieces, self.is_ready, self._parts = None, (), True, of._parts

    @property
    def frames(self) -> str:
        """Which, as a sampling."""
        return self.job.item.rpartition("@")[2].replace("-", ":")


def default_workers(plan: Plan) -> int:
    """One for each GPU where a model computes on them; else one for each core."""
    gpus = visible_gpus()
    if not gpus or _names_a_gpu(plan):
        return cores()
    try:
        is_wanted = any(computes_on_gpu(plan.resolved(variant, {})) for variant in plan.variants)
    except TrackweaveError:  # the items say it
        return cores()
    return len(gpus) if is_wanted else cores()


def _names_a_gpu(plan: Plan) -> bool:
    """Does the plan say on which of several GPUs a model computes?"""
    given = [*plan.values.items(), *(pair for variant in plan.variants for pair in variant.values.items())]
    return any(key.endswith(".device") and str(one.value).startswith("cuda:") for key, one in given)


class _Coordinator:
    """Plans, gives out, writes down; a `with` block in which no other works in the output folder."""

    def __init__(self, plan: Plan, selection: ItemSelection, on_event: OnEvent | None) -> None:
        self.plan, self._selection = plan, selection
        self._on_event = on_event
        self.root = str(plan.output)
        self._stack = ExitStack()
        self._settings: dict[object, tuple[ResolvedSettings, Mapping[str, str]]] = {}
        self._signatures: tuple[str, dict[str, str]] = ("", {})
        self.in_command = argument("x").startswith("--")
        self._stops = False
        self.trainings: Sequence[Variant] = ()

    def __enter__(self) -> _Coordinator:
        folder = self.plan.output
        self.stores = stores_of(self.plan)
        self.items = find_items(self.plan, self.stores)
        self._check_output(folder)
        self._stack.enter_context(locked_folder(folder))
        try:
            self.state = self._stack.enter_context(PlanState(folder, self.plan.name, self.plan.kind))
        except BaseException:
            self._stack.close()
            raise
        return self

    def _check_output(self, folder: Path) -> None:
        """Is it a folder that a plan may fill?

        Raises:
            RunFolderError: it is not.
        """
        if folder.exists() and not folder.is_dir():
            raise RunFolderError(f"{folder}: is a file, not a folder")
        if RunManifest.load(RunPaths(folder).manifest).holds_run:
            raise RunFolderError(f"{folder}: holds a run: a plan fills a folder of its own, choose another output")
        if not (folder / NAME).exists():
            from trackweave.plans.overview import foreign_file

            foreign = foreign_file(folder)
            if foreign is not None:
                raise RunFolderError(f"{folder}: holds {foreign}, which no plan wrote: choose another output")
        above = {os.fspath(path) for path in (folder.absolute(), *folder.absolute().parents)}
        for item in self.items:
            if os.path.abspath(item.path) in above:  # noqa: PTH100 - for ten thousand items
                raise RunFolderError(f"{folder}: lies in the input {item.path}: choose another output")

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            error.add_note(f"{self.plan.output}: what is finished is kept: the same command goes on")
        self._stack.close()

    # --- what is known

    def settings(self, item: PlanItem, variant: Variant) -> tuple[ResolvedSettings, Mapping[str, str]]:
        """The settings of an item in a variant, and what each stage depends on of them."""
        own = tuple(sorted((key, repr(value), origin) for key, (value, origin) in item.values.items()))
        key = (variant.name, own)
        if key not in self._settings:
            if len(self._settings) > 256:  # of a table with settings in each row
                self._settings.clear()
            settings = self.plan.resolved(variant, item.values)
            parts = settings_parts(settings, self.plan.kind, self.plan.formats, self.plan.start)
            self._settings[key] = settings, parts
        return self._settings[key]

    def signature(self, item: PlanItem, role: str) -> str:
        """Sizes and times of what an item reads; asked for once for all its variants."""
        if self._signatures[0] != item.name:
            self._signatures = item.name, {}
        known = self._signatures[1]
        if role not in known:
            known[role] = signature(role, item.files[role], item.name, self.stores)
        return known[role]

    def chains(self) -> Iterator[_Chain]:
        """Every item in every variant that was asked for, item by item."""
        only = self._selection.only
        matched = set[str]()
        for item in self.items:
            for variant in self.plan.variants:
                if not only or self._matches(item, variant, matched):
                    yield _Chain(self, item, variant)
        trained = [variant for variant in self._trained() if self._matches(TRAINED, variant, matched)]
        unmatched = [one for one in only if one not in matched]
        if unmatched:
            raise SettingError(f"{argument('only')}: no item is called {listed(unmatched)}")
        self.trainings = trained if only else self._trained()

    def _trained(self) -> list[Variant]:
        return list(self.plan.variants) if "train" in self.plan.stages else []

    def _matches(self, item: PlanItem, variant: Variant, matched: set[str]) -> bool:
        names = item.name, f"{item.name}/{variant.name}"
        fits = [one for one in self._selection.only if any(fnmatchcase(name, one) for name in names)]
        matched.update(fits)
        return bool(fits)

    def samples(self, variant: Variant) -> tuple[Sequence[str] | None, str]:
        """The folders of samples that a variant is trained on, and their digest; None where some are still to come."""
        known: list[tuple[str, str]] = []
        for item in self.items:
            chain = _Chain(self, item, variant)
            if chain.state == "due":
                return None, ""
            if chain.state == "done" and chain.keys is not None:
                known.append((chain.keys["build"], f"{chain.job.folder}/{SAMPLES}"))
        return [folder for _, folder in known], hashlib.sha256(repr(known).encode()).hexdigest()[:16]

    def forecast(self) -> Forecast:
        """What `work` would do."""
        states: Counter[str] = Counter()
        due, stages = list[tuple[str, str]](), Counter[str]()
        costs = {cost.stage: cost for cost in self.state.costs()}
        seconds = 0.0
        for chain in self.chains():
            is_due = self._is_due(chain) and (self._selection.limit is None or len(due) < self._selection.limit)
            states[chain.state] += not is_due
            if is_due:
                due.append((chain.item.name, chain.variant.name))
                stages.update(self._missing(chain))
        for chain in (_Chain(self, TRAINED, variant) for variant in self.trainings):
            if self._is_due(chain):
                due.append((TRAINED.name, chain.variant.name))
                stages.update(self._missing(chain))
            else:
                states[chain.state] += 1
        for stage, count in stages.items():
            seconds += costs[stage].seconds * count if stage in costs else 0.0
        known = any(stage in costs for stage in stages) or not due
        workers = min(self.plan.engine.workers or default_workers(self.plan), max(len(due), 1))
        names = [item.name for item in self.items]
        estimate = seconds / workers if known else None
        own = {item.name: described(item.values) for item in self.items if item.values}
        return Forecast(names, states["done"], states["failed"], due, estimate, list(costs.values()), own)

    def _missing(self, chain: _Chain) -> list[str]:
        """The stages that a chain would compute; all of them where files have another time, whatever their content."""
        keys = chain.keys
        if keys is None:
            return list(chain.stages)
        return [
            stage
            for stage, key in keys.items()
            if (known := chain.records.get(stage)) is None or known.key != key or known.kind is not None
        ]

    def _is_due(self, chain: _Chain) -> bool:
        return chain.state == "due" or (self._selection.retry_failed and chain.state == "failed")

    # --- work

    def work(self) -> Iterator[FinishedItem]:
        """Does what is due; yields every item once."""
        counts: Counter[str] = Counter()
        due: list[tuple[int, int]] = []
        places = {item.name: n for n, item in enumerate(self.items)}
        variants = {variant.name: n for n, variant in enumerate(self.plan.variants)}
        for chain in self.chains():
            if not self._is_due(chain):
                counts["reused" if chain.state == "done" else "failed before"] += 1
                yield chain.finished(is_reused=True)
            elif self._selection.limit is None or len(due) < self._selection.limit:
                due.append((variants[chain.variant.name], places[chain.item.name]))
            else:
                counts["left"] += 1
        trainings: list[Variant] = []
        for chain in (_Chain(self, TRAINED, variant) for variant in self.trainings):
            if self._is_due(chain):
                trainings.append(chain.variant)
            else:
                counts["reused" if chain.state == "done" else "failed before"] += 1
                yield chain.finished(is_reused=True)
        due.sort()  # variant by variant: what an item's variants share is made once, and a predictor stays loaded
        if self.plan.engine.name == "ray":  # of each variant the long ones first: none is begun when all else is done
            sizes = {place: input_bytes(self.items[place], self.stores) for place in {place for _, place in due}}
            due.sort(key=lambda pair: (pair[0], -sizes[pair[1]], pair[1]))
        values = {"items": len(self.items), "due": len(due) + len(trainings), **counts}
        self._tell("planned", values={name.replace(" ", "_"): value for name, value in values.items()})
        try:
            if due or trainings:
                most = MOST_WORKERS if self.plan.split is not None else 1
                with self._engine(max(len(due), most)) as engine:
                    for finished in chained(self._through(engine, due), self._train(engine, trainings)):
                        counts["failed" if finished.failure else "finished"] += 1
                        yield finished
        finally:
            failed = counts["failed"] + counts["failed before"]
            self.state.add_call(counts["finished"], counts["reused"], failed, own_version())
        self._finish(counts["finished"] + counts["failed"])
        self._tell("ended", values={"finished": counts["finished"], "reused": counts["reused"], "failed": failed})

    def _engine(self, count: int) -> Engine:
        settings = self.plan.engine
        if settings.name == "ray":
            return RayEngine(self.plan.kind, self.plan.stages, settings, self.plan.output, count)
        workers = min(settings.workers or default_workers(self.plan), count)
        log, gpus = self.plan.output / "workers.log", visible_gpus()
        return LocalEngine(self.plan.kind, workers, settings.memory_gb, log, [] if _names_a_gpu(self.plan) else gpus)

    def _train(self, engine: Engine, variants: Sequence[Variant]) -> Iterator[FinishedItem]:
        """Trains each variant whose items are through; one after the other, with the memory of all."""
        for variant in variants:
            if _Chain(self, TRAINED, variant).is_ready and not self._stops:
                place = self.plan.variants.index(variant)
                yield from self._through(engine, [(place, len(self.items))], alone_from_the_first=True)

    def _through(
        self, engine: Engine, due: Sequence[tuple[int, int]], *, alone_from_the_first: bool = False
    ) -> Iterator[FinishedItem]:
        """Gives jobs out and takes in what becomes of them."""
        waiting = deque(due)
        ready: deque[_Chain] = deque()  # pieces, and items whose pieces are through
        missing: dict[tuple[str, str], int] = {}
        running: dict[tuple[str, str], _Chain] = {}
        alone: deque[_Chain] = deque()
        tried_alone: set[tuple[str, str]] = set()
        items = [*self.items, TRAINED]
        while ready or waiting or running or alone:
            while (ready or waiting) and not self._stops and engine.free and not (tried_alone & running.keys()):
                if ready:
                    chain = ready.popleft()
                else:
                    variant, item = waiting.popleft()
                    chain = _Chain(self, items[item], self.plan.variants[variant])
                self._begin(engine, chain, running, alone=alone_from_the_first)
            if alone and not running and (self._stops or not (ready or waiting) or not engine.busy):
                chain = alone.popleft()
                tried_alone.add((chain.item.name, chain.variant.name))
                self._begin(engine, chain, running, alone=True)
            if self._stops and not running:
                return
            for event in engine.poll(WAIT):
                name = event.job.item, event.job.variant
                chain = running[name]
                self._note(chain, event.digests, event.record, event.progress)
                if not event.is_over:
                    continue
                del running[name]
                lost = event.lost or _lacked_memory(chain)
                if lost is not None and name not in tried_alone:
                    self._tell("lost", chain, {"message": lost})
                    alone.append(chain)  # others may have taken the memory that it lacked
                    if lost.startswith("memory"):
                        chain.job = replace(chain.job, is_halved=True)
                    continue
                tried_alone.discard(name)
                if isinstance(chain, _PieceChain):
                    chain = self._piece_over(chain, event.lost, missing)
                    if chain.job.pieces:
                        ready.append(chain)
                    if chain.job.pieces or missing.get((chain.item.name, chain.variant.name)):
                        continue
                    finished = self._over(chain, None)
                else:
                    pieces = [] if event.lost is not None or chain.job.pieces else self._divided(chain)
                    if pieces:
                        missing[name] = len(pieces)
                        ready.extend(pieces)
                        continue
                    finished = self._over(chain, event.lost)
                self._stops |= finished.failure is not None and not self._selection.keep_going
                yield finished

    def _divided(self, chain: _Chain) -> list[_PieceChain]:
        """The pieces of an item that are to be tracked before it goes on; none where its video is not divided."""
        if self.plan.split is None or chain.finished(is_reused=False).failure is not None:
            return []
        known = _Chain(self, chain.item, chain.variant)  # with what is known of it by now
        if (
            not known.pieces
            or known.keys is None
            or is_done(known.job.folder, known.records.get("track"), known.keys["track"])
        ):
            return []
        variant = known.variant.name
        return [_PieceChain(known, job, self.state.records(variant, job.item)) for job in known.pieces]

    def _piece_over(self, piece: _PieceChain, lost: str | None, missing: dict[tuple[str, str], int]) -> _Chain:
        """Takes in what became of a piece; returns its item, with all pieces when this was the last of them."""
        whole = piece.of
        if lost is not None:
            kind, _, message = lost.partition(": ")
            self._note(piece, None, StageRecord("work", "", kind=kind, message=f"{message}; tried alone, too"), None)
        failure = piece.finished(is_reused=False).failure
        if failure is not None and whole.failed_piece is None:
            key = "" if whole.keys is None else whole.keys["track"]
            message = f"frames {piece.frames}: {failure.message}"
            whole.failed_piece = StageRecord("track", key, kind=failure.kind, message=message)
        name = whole.item.name, whole.variant.name
        missing[name] -= 1
        if not missing[name]:
            del missing[name]
            if whole.failed_piece is not None:
                self._note(whole, None, whole.failed_piece, None)
            else:
                whole.job = replace(whole.job, pieces=whole.pieces)
        return whole

    def _begin(
        self, engine: Engine, chain: _Chain, running: dict[tuple[str, str], _Chain], *, alone: bool = False
    ) -> None:
        running[chain.item.name, chain.variant.name] = chain
        if not isinstance(chain, _PieceChain) and (alone or not chain.job.pieces):
            self._tell("started", chain)
        gone = [name for name, record in chain.records.items() if name in NO_STAGES or record.kind is not None]
        for stage in gone:
            del chain.records[stage]
            self.state.forget(chain.variant.name, chain.item.name, stage)
        engine.submit(chain.job, alone=alone)

    def _note(
        self,
        chain: _Chain,
        digests: Mapping[str, str] | None,
        record: StageRecord | None,
        progress: tuple[str, int, int] | None,
    ) -> None:
        """Writes down one event."""
        if digests is not None and not isinstance(chain, _PieceChain):
            known = {role: KnownInput(now, digests.get(role, "")) for role, now in chain.signatures.items()}
            self.state.set_inputs(chain.item.name, known)
        if record is not None:
            if record.stage in NO_STAGES:
                record = replace(record, key=chain.whole)
            chain.records[record.stage] = record
            self.state.keep(chain.variant.name, chain.item.name, record)
            if not record.is_reused:
                values = {"stage": record.stage, "seconds": record.seconds, "cpu_seconds": record.cpu_seconds}
                values |= {"peak_rss_mb": record.peak_rss_mb, "peak_gpu_mb": record.peak_gpu_mb}
                self._tell("stage", chain, values | ({"failure": record.kind} if record.kind else {}))
        if progress is not None:
            self._tell("progress", chain, dict(zip(("stage", "done", "total"), progress, strict=True)))

    def _over(self, chain: _Chain, lost: str | None) -> FinishedItem:
        """An item of which nothing more comes."""
        if lost is not None:
            kind, _, message = lost.partition(": ")
            self._note(chain, None, StageRecord("work", "", kind=kind, message=f"{message}; tried alone, too"), None)
        finished = chain.finished(is_reused=False)
        failure = finished.failure
        if failure is None:
            self._tell("finished", chain, {"seconds": round(finished.seconds, 3), **_short_facts(finished.facts)})
        else:
            values = {"stage": failure.stage, "kind": failure.kind, "message": failure.message}
            self._tell("failed", chain, values)
        return finished

    def _tell(self, name: str, chain: _Chain | None = None, values: Mapping[str, Any] | None = None) -> None:
        if self._on_event is None:
            return
        more = dict(values or {})
        if isinstance(chain, _PieceChain):
            more["frames"] = chain.frames
            chain = chain.of
        item, variant = ("", "") if chain is None else (chain.item.name, chain.variant.name)
        self._on_event(PlanEvent(name, item, variant, more))

    def _finish(self, worked: int) -> None:
        """Writes what is over all items, where anything of it is new."""
        from trackweave.plans.overview import is_current, write_overview

        if worked or not is_current(self.plan, self.items):
            written = write_overview(self.plan, self.items, self.state, self._all_finished())
            if self.plan.remote:
                self.stores.put_files(written, self.plan.remote)

    def _all_finished(self) -> Iterator[FinishedItem]:
        """Every item in every variant as it stands now, also those that were not asked for."""
        for item in self.items:
            for variant in self.plan.variants:
                yield _Chain(self, item, variant).finished(is_reused=True)
        for variant in self._trained():
            yield _Chain(self, TRAINED, variant).finished(is_reused=True)


def _lacked_memory(chain: _Chain) -> str | None:
    """What a stage said that had too little memory, and whose process lives on."""
    failure = chain.finished(is_reused=False).failure
    return None if failure is None or failure.kind != "memory" else f"memory: {failure.message}"


def _short_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    names = ("frames", "tracks", "things", "boxes", "suspected", "scores", "samples", "precision", "recall", "warnings")
    return {name: facts[name] for name in names if facts.get(name) not in (None, {}, [])}


def failures_by_kind(items: Sequence[FinishedItem]) -> list[tuple[str, int, str]]:
    """Stage and kind of failure, how many items, and one of their messages; the most frequent first.

    >>> failures_by_kind([])
    []
    """
    faults: dict[str, list[str]] = {}
    for item in items:
        if item.failure is not None:
            faults.setdefault(item.failure.fault, []).append(item.failure.message)
    rows = [(fault, len(messages), shortened_line(messages[0], 300)) for fault, messages in faults.items()]
    return sorted(rows, key=lambda row: -row[1])
