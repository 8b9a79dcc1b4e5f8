"""The stages of one item: what each depends on, and how it is done; whoever does it leaves a record beside the run."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache, lru_cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackweave.errors import (
    ArtifactError,
    InputError,
    MissingExtraError,
    PredictorError,
    PredictorOutOfMemory,
    PredictorUnavailable,
    SettingError,
    command_wording,
    shortened_line,
)
from trackweave.options.schema import as_text
from trackweave.options.sources import ProvidedValue, ResolvedSettings, resolve
from trackweave.pipelines.resolved import generator_of
from trackweave.pipelines.settings import BoxRunSettings
from trackweave.plans.items import content_path, digest
from trackweave.plans.remote import (
    NONE,
    StoreDownError,
    StoreNotWrittenError,
    Stores,
    is_remote,
)
from trackweave.plans.settings import SCHEMAS, SplitSettings, redacted
from trackweave.predictors.catalog import BACKENDS
from trackweave.storage.files import content_digest, locked_folder, read_json_object, remove_leftovers, write_json
from trackweave.storage.run import RunManifest, RunPaths, read_run_summary
from trackweave.storage.sample_folder import MANIFEST_NAME
from trackweave.structures.run_log import RunWarning
from trackweave.structures.run_summary import BoxSummary

if TYPE_CHECKING:
    from trackweave.formats.tables import DetectionTable
    from trackweave.predictors.registry import ChosenPredictor

RECORD_VERSION = 1
JsonRecord = Mapping[str, Any]
"""An object as `json.loads` gives it."""

SPLIT = "split"
"""The stage that finds how a long video is divided, where the plan says so."""
READS: Mapping[str, tuple[str, ...]] = {
    SPLIT: ("input", "detections"),
    "propose": ("input",),
    "filter": ("candidates",),
    "detect": ("input",),
    "track": ("input", "candidates", "prompts", "detections"),
    "evaluate": ("truth",),
    "build": ("input", "detections", "truth"),
    "train": ("samples",),
}
"""Stage → what of the item it reads itself; the rest comes from the stages before it."""
GENERATE = "generate"
"""`propose` where `filter` chooses of what it finds."""
_DETECT = ("perception.detector", "perception.detector_options", "input.frames")
DEPENDS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("masks", "propose"): (
        "masks.generator",
        "masks.candidate_stride",
        "masks.levels",
        "masks.frames",
        "regions",
        "grid",
        "text",
        "candidates",
    ),
    ("masks", GENERATE): (
        "masks.generator",
        "masks.candidate_stride",
        "masks.levels",
        "masks.frames",
        "regions",
        "grid",
        "text",
        "candidates.tile_size",
        "candidates.tile_overlap",
    ),
    ("masks", "filter"): ("candidates",),
    ("masks", "track"): ("masks.predictor", "masks.levels", "masks.frames", "tracking", "predictor", "flow"),
    ("masks", "identity"): ("identity",),
    ("masks", "export"): ("format", "overlay"),
    ("masks", "evaluate"): ("evaluate",),
    ("masks", "report"): ("overlay", "masks.overlay_levels"),
    ("masks", SPLIT): ("masks.frames", "tracking.cuts", "tracking.on_bad_item"),
    ("boxes", SPLIT): ("input", "perception.cuts"),
    ("boxes", "detect"): _DETECT,
    ("boxes", "track"): ("run", "input", "perception", "tracker", "scorer", "refinement", "overlay"),
    ("boxes", "export"): ("format",),
    ("boxes", "evaluate"): ("evaluate",),
    ("boxes", "report"): (),
    ("association", "detect"): _DETECT,
    ("association", "build"): ("run", "input", "perception", "tracker", "log"),
    ("association", "train"): ("train", "data"),
}
"""Settings, or sections of them, that a stage depends on."""
MODEL_FILES = ("masks.predictor", "masks.generator", "predictor.weights", "scorer.weights", "perception.detector")
"""Settings that may name a file: its content counts, not its name alone."""
SAMPLES, MODEL = "samples", "model.onnx"
"""In the folder of an item of association, and of the training."""
TRAINING = ("train",)
"""The stages of the item over all others in a plan of association."""
STORE = "store"
"""The stage that puts a run into an object store, where the plan's output is in one."""
OF_PIECES = ("propose", "filter", "detect", "track")
"""Stages that are done for each piece of a video that is divided; of the whole, `track` joins them."""
LAST = ("export", "evaluate", "report", STORE)
"""Stages that nothing depends on."""
HALVED = ("predictor.batch", "grid.points_per_batch", "predictor.device_bytes", "predictor.host_bytes")
"""Settings of models that say how much is in memory at once."""
TABLE_SUFFIXES = frozenset({".txt", ".csv", ".json", ".parquet", ".pq"})
"""An item that is such a file is its detections alone."""


@dataclass(frozen=True)
class Job:
    """One item in one variant, as it is sent to whoever does it.

    Attributes:
        item: its name.
        variant: of the matrix.
        kind: masks, boxes or association.
        files: role → path; of the training none.
        values: the settings that were given: key → value and origin.
        stages: those that are on.
        formats: what `export` writes.
        folder: of the run.
        shared: folder of what several variants of an item have in common.
        digests: role → digest of the content, where it is known.
        start: what `train` starts from.
        samples: folders that `train` reads.
        in_command: messages speak of flags.
        stores: how addresses in stores are reached.
        remote: address that gets the run's folder; empty: none does.
        is_halved: memory did not suffice before: half as much at once, see `HALVED`.
        split: how the video is divided if it is long; None: not at all.
        pieces: the jobs of its pieces, once they are through; before, a divided video comes to nothing behind `split`.
    """

    item: str
    variant: str
    kind: str
    files: Mapping[str, str]
    values: Mapping[str, ProvidedValue]
    stages: Sequence[str]
    formats: Sequence[str]
    folder: str
    shared: str
    digests: Mapping[str, str] = field(default_factory=dict)
    start: str = ""
    samples: Sequence[str] = ()
    in_command: bool = False
    stores: Stores = NONE
    remote: str = ""
    is_halved: bool = False
    split: SplitSettings | None = None
    pieces: Sequence[Job] = ()

    @property
    def name(self) -> str:
        """The item; behind it the variant where there are several."""
        return self.item if self.variant == "runs" else f"{self.item} ({self.variant})"


@dataclass(frozen=True)
class StageRecord:
    """A stage that is done, or failed.

    Attributes:
        stage: its name.
        key: what it depends on, as one hash.
        seconds: it took.
        cpu_seconds: of all threads and child processes.
        peak_rss_mb: of the process meanwhile, in MB (10⁶ bytes); None where it is not known.
        peak_gpu_mb: of torch on all its GPUs meanwhile; None where it used none.
        facts: numbers for the page.
        kind: of a failure; None: it is done.
        message: of a failure.
        is_reused: it was done before, and nothing was computed.
    """

    stage: str
    key: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_rss_mb: float | None = None
    facts: JsonRecord = field(default_factory=dict)
    kind: str | None = None
    message: str = ""
    is_reused: bool = False
    peak_gpu_mb: float | None = None

    @property
    def fault(self) -> str:
        """What failed, and the kind of failure, for people."""
        return f"{self.stage} failed: {self.kind}"

    @property
    def seconds_with_pieces(self) -> float:
        """It took, and the pieces that it joined, one after the other."""
        return self.seconds + float(self.facts.get("of_pieces", {}).get("seconds", 0.0))

    @property
    def cpu_seconds_with_pieces(self) -> float:
        """Of all threads and child processes, and of the pieces that it joined."""
        return self.cpu_seconds + float(self.facts.get("of_pieces", {}).get("cpu_seconds", 0.0))

    def to_json(self) -> JsonRecord:
        """As JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "is_reused"}

    @classmethod
    def from_json(cls, record: JsonRecord) -> StageRecord:
        """Reads one.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is damaged.
        """
        return cls(
            str(record["stage"]),
            str(record["key"]),
            float(record["seconds"]),
            float(record["cpu_seconds"]),
            None if record["peak_rss_mb"] is None else float(record["peak_rss_mb"]),
            dict(record["facts"]),
            None if record["kind"] is None else str(record["kind"]),
            str(record["message"]),
            peak_gpu_mb=None if record.get("peak_gpu_mb") is None else float(record["peak_gpu_mb"]),
        )


@dataclass(frozen=True)
class FinishedItem:
    """One item in one variant, when nothing more is to be done for it.

    Attributes:
        name: of the item.
        variant: of the matrix; `runs` where there is none.
        folder: of its run.
        records: stage → what it took and found, or how it failed.
        is_reused: nothing was computed.
    """

    name: str
    variant: str
    folder: Path
    records: Mapping[str, StageRecord]
    is_reused: bool = False

    @property
    def failure(self) -> StageRecord | None:
        """The first stage that failed, or None."""
        return next((record for record in self.records.values() if record.kind is not None), None)

    @property
    def seconds(self) -> float:
        """All stages together, those of pieces too."""
        return sum(record.seconds_with_pieces for record in self.records.values())

    @property
    def facts(self) -> dict[str, Any]:
        """What its stages found, by name."""
        return {
            name: value for record in self.records.values() for name, value in record.facts.items() if name != "files"
        }

    def __fspath__(self) -> str:
        return str(self.folder)


# --- what a stage depends on ------------------------------------------------------------------------------------------


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@cache
def _model_digest(path: str, size: int, time_ns: int) -> str:
    return content_digest(Path(path)).hex()


def _model_of(value: Any) -> str | None:
    """The digest of the file that a setting names, also behind `NAME=`; None where it names none."""
    for text in (str(value), str(value).partition("=")[2]):
        with suppress(OSError, ValueError):
            status = Path(text).stat() if text else None
            if status is not None and Path(text).is_file():
                return _model_digest(text, status.st_size, status.st_mtime_ns)
    return None


def settings_parts(settings: ResolvedSettings, kind: str, formats: Sequence[str], start: str = "") -> Mapping[str, str]:
    """Stage → hash of the settings that it depends on."""
    dumped = {section: part.model_dump(mode="json") for section, part in settings.sections.items()}
    parts: dict[str, str] = {}
    for (of, stage), names in DEPENDS.items():
        if of != kind:
            continue
        values: dict[str, object] = {}
        for name in names:
            section, _, key = name.partition(".")
            values[name] = dumped[section][key] if key else dumped[section]
        models = [
            _model_of(settings.value(key))
            for key in MODEL_FILES
            if any(key == name or key.startswith(f"{name}.") for name in names)
        ]
        # A tracker that nobody chose is another for frames whose size is known: what was chosen counts as well.
        extra: object = None
        if stage == "track" and kind == "boxes":
            extra = sorted(key for key in settings.provided if key.startswith(("tracker.", "scorer.")))
        elif stage == "export":
            extra = list(formats)
        elif stage == "train":
            explicit = sorted(key for key in settings.provided if key.startswith("train."))
            extra = [start, _model_of(start), explicit] if start else None
        elif stage in ("propose", GENERATE) and generator_of(settings).kind in (*BACKENDS, "sam3"):
            extra = dumped["predictor"]
        parts[stage] = _hash(values, models, extra)
    return parts


def _generates_itself(settings: ResolvedSettings) -> bool:
    """May the candidates be the predictor's own masks, from what it keeps of a frame anyway?"""
    generator, predictor = generator_of(settings).kind, str(settings.value("masks.predictor")).partition("=")[0]
    return generator == "predictor" or (generator == "auto" and predictor not in ("flow", "static", "replay"))


def stages_of(job: Job, settings: ResolvedSettings) -> tuple[str, ...]:
    """The stages that this item has: what is given need not be found, and without truth nothing is evaluated."""
    given = job.files.keys()
    skipped = set()
    generates = job.kind == "masks" and _generates_itself(settings)
    if "candidates" in given or "prompts" in given or generates:
        skipped.add("propose")
    if "prompts" in given or (generates and "candidates" not in given):
        skipped.add("filter")  # there are none, or they are chosen where they are found
    if "prompts" in given:
        skipped.add("identity")  # a person's objects keep their ids
    if "truth" not in given:
        skipped.add("evaluate")
    if job.kind != "masks" and job.files and ("detections" in given or _has_boxes(job, settings)):
        skipped.add("detect")
    stages = tuple(stage for stage in job.stages if stage not in skipped)
    return (*stages, STORE) if job.remote else stages


def _has_boxes(job: Job, settings: ResolvedSettings) -> bool:
    """Are there detections without running a detector?"""
    path = job.files["input"]
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - asked for every item of a plan
    if suffix in TABLE_SUFFIXES or settings[BoxRunSettings].detections is not None:
        return True
    if is_remote(path):
        try:
            return any(one.below == "det/det.txt" for one in job.stores.files(path))
        except StoreDownError:
            raise
        except InputError:  # said when it is read
            return False
    return os.path.isfile(f"{path}/det/det.txt")  # noqa: PTH113 - asked for every item of a plan


def stage_keys(job: Job, stages: Sequence[str], parts: Mapping[str, str], digests: Mapping[str, str]) -> dict[str, str]:
    """Stage → what it depends on, as one hash.

    Args:
        job: the item.
        stages: those that it has, in their order.
        parts: see `settings_parts`.
        digests: role → digest of its content.
    """
    keys: dict[str, str] = {}
    generates = job.kind == "masks" and not {"candidates", "prompts"} & job.files.keys()
    before = parts["propose"] if generates and "propose" not in stages else ""
    for stage in stages:
        if stage == STORE:
            keys[stage] = _hash(stage, job.remote, keys)
            continue
        read = [(role, digests[role]) for role in READS.get(stage, ()) if role in job.files or role in digests]
        own = GENERATE if stage == "propose" and "filter" in stages else stage
        keys[stage] = _hash(stage, parts[own], read, before)
        if stage not in LAST:
            before = keys[stage]
    return keys


def split_key(split: SplitSettings, parts: Mapping[str, str], digests: Mapping[str, str]) -> str:
    """What it depends on how a video is divided, as one hash."""
    read = [(role, digests[role]) for role in READS[SPLIT] if role in digests]
    return _hash(SPLIT, split.model_dump(mode="json"), parts[SPLIT], read)


def joined_keys(keys: Mapping[str, str], split: str) -> dict[str, str]:
    """Stage → what it depends on, of a video whose pieces are joined.

    Args:
        keys: of the same video as a whole.
        split: see `split_key`.
    """
    return {stage: _hash(key, split) for stage, key in keys.items() if stage == "track" or stage not in OF_PIECES}


def piece_jobs(job: Job, pieces: Sequence[str], digests: Mapping[str, str]) -> list[Job]:
    """The jobs of the pieces of a divided video: the same settings for some of its frames, in folders of their own.

    Args:
        job: of the video.
        pieces: samplings of its frames, see `_ItemWork.split`.
        digests: role → digest of its content, which is that of every piece.
    """
    left_out = ("refinement.", "input.max_frames")
    values = {key: value for key, value in job.values.items() if not key.startswith(left_out)}
    drawing, sampling = (
        ("tracking.render_viz", "masks.frames") if job.kind == "masks" else ("run.overlay", "input.frames")
    )
    values[drawing] = ProvidedValue(False, SPLIT)
    jobs = []
    for frames in pieces:
        name = frames.replace(":", "-")
        jobs.append(
            replace(
                job,
                item=f"{job.item}@{name}",  # no item's own name has an `@`, see `file_name`
                files={role: text for role, text in job.files.items() if role != "truth"},
                values={**values, sampling: ProvidedValue(frames, SPLIT)},
                stages=[stage for stage in job.stages if stage in OF_PIECES],
                folder=f"{Path(job.shared).parent}/pieces/{job.variant}/{job.item}/{name}",
                digests=digests,
                remote="",
                split=None,
            )
        )
    return jobs


def whole_key(parts: Mapping[str, str], signatures: Mapping[str, str]) -> str:
    """Of all settings and of the sizes and times of all files: what a failure that has no stage depends on."""
    return _hash(parts, signatures)


# --- records beside the run -------------------------------------------------------------------------------------------


class StageRecords:
    """`stages/record.json` in a run folder: which stages are done, with what; and which was begun."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stages" / "record.json"
        self.done: dict[str, StageRecord] = {}
        self.started: dict[str, str] = {}
        with suppress(ArtifactError, KeyError, TypeError, ValueError, AttributeError):  # damaged: nothing is done
            if self.path.is_file():
                data = read_json_object(self.path, "record of stages")
                if data["schema_version"] == RECORD_VERSION:
                    self.done = {str(name): StageRecord.from_json(one) for name, one in data["done"].items()}
                    self.started = {str(name): str(key) for name, key in data["started"].items()}

    def start(self, stage: str, key: str) -> bool:
        """Notes that a stage begins.

        Returns:
            whether it had begun before with the very same input and settings.
        """
        again = self.started.get(stage) == key
        if not again or stage in self.done:
            self.started[stage] = key
            self.done.pop(stage, None)
            self._write()
        return again

    def finish(self, record: StageRecord) -> None:
        """Notes that a stage is done."""
        self.done[record.stage] = record
        self._write()

    def forget(self, stage: str) -> None:
        """Notes that what a stage did is undone."""
        self.done.pop(stage, None)
        self.started.pop(stage, None)
        self._write()

    def _write(self) -> None:
        done = {name: record.to_json() for name, record in self.done.items()}
        write_json(self.path, {"schema_version": RECORD_VERSION, "done": done, "started": self.started})


# --- doing it ---------------------------------------------------------------------------------------------------------

OnProgress = Callable[[str, int, int], None]
"""Called with a stage, and how much of how much of it is done."""


@lru_cache(64)
def _resolved(kind: str, values: tuple[tuple[str, str], ...]) -> ResolvedSettings:
    return resolve(SCHEMAS[kind], flags={key: ProvidedValue(*json.loads(value)) for key, value in values})


def settings_of(job: Job) -> ResolvedSettings:
    """The settings of a job.

    Raises:
        SettingError: a value that does not fit.
    """
    return _resolved(job.kind, tuple((key, json.dumps(list(value))) for key, value in sorted(job.values.items())))


def run_stages(job: Job, on_progress: OnProgress | None = None) -> Iterator[StageRecord | Mapping[str, str]]:
    """Does what is not done of an item, one stage after the other.

    Yields:
        first the digests of what the item reads, by role; then a record of every stage. A stage that failed is one of
        them; those that need it are left out.
    """
    with ExitStack() as stack:
        if job.in_command:
            stack.enter_context(command_wording())
        try:
            settings = settings_of(job)
            stages = stages_of(job, settings)
            digests = {
                role: job.digests.get(role) or digest(role, text, job.item, job.stores)
                for role, text in job.files.items()
                if any(role in READS.get(stage, ()) for stage in stages)
            }
            if stages[:1] == TRAINING:
                digests = dict(job.digests)
            yield digests
            parts = settings_parts(settings, job.kind, job.formats, job.start)
            keys = stage_keys(job, stages, parts, digests)
            folder = Path(job.folder)
            # Whoever worked on it before may be dying still.
            stack.enter_context(locked_folder(folder / "stages", wait=True))
            remove_leftovers([*RunPaths(folder).folders, folder / "stages"])  # of those who were killed
            records = StageRecords(folder)
            if job.remote and not records.path.is_file():  # another machine may have done it
                job.stores.restore(job.remote, folder)
                records = StageRecords(folder)
            if job.kind == "masks" and "identity" not in keys:
                _forget_identities(folder, records)
        except Exception as error:  # noqa: BLE001 - whatever one item causes, the others go on
            yield _failure("open", "", error, Path(job.folder))
            return
        if job.split is not None:
            key = split_key(job.split, parts, digests)
            (divided,) = _stages(job, settings, {SPLIT: key}, records, on_progress)
            yield divided
            if divided.kind is not None:
                return
            if divided.facts["pieces"]:
                keys = joined_keys(keys, key)
                if not job.pieces and not is_done(folder, records.done.get("track"), keys["track"]):
                    return
        yield from _stages(job, settings, keys, records, on_progress)


def _may_be_halved(settings: ResolvedSettings) -> bool:
    """May a model take part that has batches?"""
    if "predictor" not in settings.sections:
        return False
    predictor, generator = (str(settings.value(f"masks.{key}")).partition("=")[0] for key in ("predictor", "generator"))
    return predictor in (*BACKENDS, "auto") or generator in (*BACKENDS, "sam3")


def computes_on_gpu(settings: ResolvedSettings) -> bool:
    """Does a model of these settings compute on a GPU, where there is one? Loads none.

    Raises:
        InputError, PredictorError, MissingExtraError: weights or packages that are named are not there.
    """
    if not _may_be_halved(settings):
        return False
    from trackweave.predictors.registry import plan_automatic
    from trackweave.predictors.sam.settings import SamSettings

    name = str(settings.value("masks.predictor")).partition("=")[0]
    by_model = name in BACKENDS or generator_of(settings).kind in (*BACKENDS, "sam3")
    by_model = by_model or (name == "auto" and plan_automatic(settings[SamSettings]).weights is not None)
    return by_model and str(settings.value("predictor.device")) != "cpu"


def _halved(settings: ResolvedSettings) -> ResolvedSettings:
    """The settings with half as much in memory at once."""
    sections = dict(settings.sections)
    for name in HALVED:
        section, _, key = name.partition(".")
        half = max(1, settings.value(name) // 2)
        sections[section] = sections[section].model_copy(update={key: half})
    return replace(settings, sections=sections)


def _forget_identities(folder: Path, records: StageRecords) -> None:
    """Undoes the stage `identity` of a run whose plan has it no more."""
    from trackweave.pipelines.identity import relate

    if "identity" in records.done and RunPaths(folder).summary.is_file():
        relate(folder, False)
        records.forget("identity")


def _stages(
    job: Job,
    settings: ResolvedSettings,
    keys: Mapping[str, str],
    records: StageRecords,
    on_progress: OnProgress | None,
) -> Iterator[StageRecord]:
    with ExitStack() as stack:
        yield from _done(job, settings, keys, records, on_progress, stack)


def _localized(job: Job, stage: str, stack: ExitStack) -> Job:
    """The job with local copies, which stay as long as `stack`, of what a stage reads from stores."""
    wanted = {*READS.get(stage, ()), *(() if stage in ("evaluate", "filter", STORE) else ("input",))}
    files = {
        role: stack.enter_context(job.stores.fetched(text)) if role in wanted and is_remote(text) else text
        for role, text in job.files.items()
    }
    return replace(job, files=files)


def _done(
    job: Job,
    settings: ResolvedSettings,
    keys: Mapping[str, str],
    records: StageRecords,
    on_progress: OnProgress | None,
    stack: ExitStack,
) -> Iterator[StageRecord]:
    folder = Path(job.folder)
    for stage, key in keys.items():
        known = records.done.get(stage)
        if known is not None and is_done(folder, known, key):
            yield replace(known, is_reused=True)
            continue
        watch = _Watch()
        try:
            # What was begun with another batch cannot be gone on with: its last bits may differ.
            again = records.start(stage, f"{key}/2" if job.is_halved and _may_be_halved(settings) else key)
            work = _ItemWork(_localized(job, stage, stack), settings, folder, keys, again, on_progress)
            facts = getattr(work, stage)()
            if work.is_halved:
                facts = {**facts, "is_halved": True}
            record = watch.record(stage, key, facts)
            records.finish(record)
        except Exception as error:  # noqa: BLE001 - as above
            yield watch.measured(_failure(stage, key, error, folder))
            if stage not in LAST:
                return
            continue
        yield record


def is_there(folder: str | Path, record: StageRecord) -> bool:
    """Are the files of a finished stage still there?"""
    return all(os.path.exists(f"{folder}/{name}") for name in record.facts.get("files", []))  # noqa: PTH110 - as above


def is_done(folder: str | Path, record: StageRecord | None, key: str) -> bool:
    """Is what a stage depends on still the same, and what it left still there?"""
    return record is not None and record.key == key and record.kind is None and is_there(folder, record)


def _failure(stage: str, key: str, error: Exception, folder: Path) -> StageRecord:
    kind = kind_of(error)
    message = redacted(str(error)) or type(error).__name__
    if kind == "internal error":
        place = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {message} ({Path(place.filename).name}:{place.lineno})"
        text = redacted("".join(traceback.format_exception(error)))
        with suppress(OSError):
            (folder / "stages").mkdir(parents=True, exist_ok=True)
            (folder / "stages" / "error.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
            message += f": {folder / 'stages' / 'error.txt'}"
    return StageRecord(stage, key, kind=kind, message=shortened_line(message, 1000))


def kind_of(error: BaseException | None) -> str:
    """What kind of failure an error is, in a few words."""
    cause = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return "disk full"
        cause = cause.__cause__ or cause.__context__
    kinds: Sequence[tuple[type[BaseException] | tuple[type[BaseException], ...], str]] = (
        ((MemoryError, PredictorOutOfMemory), "memory"),
        ((StoreDownError, StoreNotWrittenError), "store"),
        (SettingError, "setting"),
        ((MissingExtraError, PredictorUnavailable), "not installed"),
        (PredictorError, "predictor"),
        (InputError, "input"),
        (ArtifactError, "artifact"),
        (OSError, "file system"),
    )
    return next((name for classes, name in kinds if isinstance(error, classes)), "internal error")


class _Watch:
    """Time, processor time and memory of one stage."""

    def __init__(self) -> None:
        self._started, self._cpu = time.perf_counter(), _cpu_seconds()
        for device in _gpus():
            sys.modules["torch"].cuda.reset_peak_memory_stats(device)
        with suppress(OSError):  # Linux: the peak begins anew
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def measured(self, record: StageRecord) -> StageRecord:
        """The record with what was measured."""
        seconds = round(time.perf_counter() - self._started, 4)
        gpus = [sys.modules["torch"].cuda.max_memory_allocated(device) for device in _gpus()]
        return replace(
            record,
            seconds=seconds,
            cpu_seconds=round(_cpu_seconds() - self._cpu, 4),
            peak_rss_mb=_peak_mb(),
            peak_gpu_mb=round(sum(gpus) / 1e6, 1) if gpus else None,
        )

    def record(self, stage: str, key: str, facts: JsonRecord) -> StageRecord:
        """Of a stage that is done."""
        return self.measured(StageRecord(stage, key, facts=facts))


def _gpus() -> range:
    """The GPUs that torch computes on in this process; none where it is not loaded or has not used one."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return range(cuda.device_count() if cuda is not None and cuda.is_initialized() else 0)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _peak_mb() -> float | None:
    """Largest resident set since the stage began, in MB (10⁶ bytes); None where it is not known."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return None


_PREDICTORS: dict[str, ChosenPredictor] = {}
"""Of this process: the one that was used last, so that its weights are loaded once for many items."""


def _predictor(settings: ResolvedSettings) -> ChosenPredictor:
    """The predictor; loaded once for all items that have it with these settings."""
    from trackweave.pipelines.resolved import predictor_settings_of
    from trackweave.predictors.registry import choose_predictor

    request = str(settings.value("masks.predictor"))
    asked = [settings.sections[name].model_dump(mode="json") for name in ("predictor", "flow")]
    key = _hash(request, asked, [_model_of(settings.value(name)) for name in ("masks.predictor", "predictor.weights")])
    if key not in _PREDICTORS:
        _PREDICTORS.clear()
        _PREDICTORS[key] = choose_predictor(request, predictor_settings_of(settings))
    return _PREDICTORS[key]


class _ItemWork:
    """The stages of one item; each method does one, and returns the facts about it."""

    def __init__(
        self,
        job: Job,
        settings: ResolvedSettings,
        folder: Path,
        keys: Mapping[str, str],
        again: bool,
        on_progress: OnProgress | None,
    ) -> None:
        self._job, self._settings, self._folder, self._keys, self._again = job, settings, folder, keys, again
        self._on_progress = on_progress
        self._paths = RunPaths(folder)
        self.is_halved = False

    def _progress(self, stage: str) -> Callable[[int, int, str], None] | bool:
        tell = self._on_progress
        if tell is None:
            return False
        return lambda done, total, label: tell(stage, done, total)

    def _shared(self, stage: str) -> Path:
        return Path(self._job.shared) / f"{self._job.item}-{self._keys[stage]}"

    def _once(self, stage: str, make: Callable[[Path], JsonRecord]) -> JsonRecord:
        """What several variants have in common is made by the first of them; the others wait for it."""
        folder, key = self._shared(stage), self._keys[stage]
        with locked_folder(folder / "stages", wait=True):
            remove_leftovers([folder, folder / "stages"])
            records = StageRecords(folder)
            if stage in records.done and is_there(folder, records.done[stage]):
                return {name: value for name, value in records.done[stage].facts.items() if name != "files"}
            records.start(stage, key)
            facts = make(folder)
            records.finish(StageRecord(stage, key, facts=facts))
            return {name: value for name, value in facts.items() if name != "files"}

    def split(self) -> JsonRecord:
        """Finds how the video is divided: samplings of its frames; none where it is not long."""
        return {"pieces": self._divided_masks() if self._job.kind == "masks" else self._divided_boxes()}

    def _divided_masks(self) -> list[str]:
        from trackweave.pipelines.mask_pieces import divide_masks
        from trackweave.pipelines.resolved import tracking_of
        from trackweave.pipelines.settings import MaskRunSettings

        split, files = self._job.split, self._job.files
        assert split is not None
        pieces = divide_masks(
            files["input"],
            self._settings[MaskRunSettings].frames,
            tracking_of(self._settings),
            frames=split.frames,
            overlap=split.overlap,
            progress=self._progress(SPLIT),
        )
        if pieces and "prompts" in files:
            raise SettingError("split: a person's prompts are of the whole video: leave `split` out")
        return pieces

    def _divided_boxes(self) -> list[str]:
        from trackweave.pipelines.box_pieces import divide_boxes
        from trackweave.pipelines.settings import InputSettings, PerceptionSettings

        split, files, settings = self._job.split, self._job.files, self._settings
        assert split is not None
        has_boxes = "detections" in files or "detect" in self._job.stages or _has_boxes(self._job, settings)
        if not has_boxes:
            raise SettingError("split: needs the stage detect, which is off: pieces are joined over what it finds")
        source, detections = self._boxes_read()
        return divide_boxes(
            source,
            detections,
            settings[InputSettings],
            find_shots=settings[PerceptionSettings].cuts == "detect",
            frames=split.frames,
            overlap=split.overlap,
            progress=self._progress(SPLIT),
        )

    # --- masks

    def propose(self) -> JsonRecord:
        """Finds candidates."""
        return self._once("propose", self._propose)

    def _propose(self, folder: Path) -> JsonRecord:
        from trackweave.pipelines.mask_inputs import GENERATED_LEVELS
        from trackweave.pipelines.proposing import propose
        from trackweave.pipelines.resolved import predictor_settings_of
        from trackweave.pipelines.settings import MaskRunSettings
        from trackweave.proposals.settings import CandidateSettings

        run, settings = self._settings[MaskRunSettings], self._settings
        if self._job.is_halved and generator_of(settings).kind in (*BACKENDS, "sam3"):
            settings, self.is_halved = _halved(settings), True
        generator = generator_of(settings)
        if "filter" in self._keys:  # it chooses; of all that is found nothing is dropped for good
            tiles = self._settings[CandidateSettings].model_dump(include={"tile_size", "tile_overlap"})
            generator = replace(generator, candidates=CandidateSettings(**tiles))
        levels = [int(level) for level in run.levels or GENERATED_LEVELS]
        propose(
            self._job.files["input"],
            folder,
            levels=levels,
            generator=generator,
            candidate_stride=run.candidate_stride,
            sampling=run.frames,
            predictor_settings=predictor_settings_of(settings).sam,
            progress=self._progress("propose"),
        )
        return {"files": [f"level_{level}/filtered/filtered.json" for level in levels]}

    def filter(self) -> JsonRecord:
        """Chooses of the candidates."""
        return self._once("filter", self._filter)

    def _filter(self, folder: Path) -> JsonRecord:
        from trackweave.pipelines.filtering import filter_candidates
        from trackweave.proposals.settings import CandidateSettings

        found = self._job.files.get("candidates") or self._shared("propose")
        stats = filter_candidates(found, self._settings[CandidateSettings], output=folder)
        files = [f"level_{level}/filtered/filtered.json" for level in stats]
        return {"candidates": sum(one.kept for one in stats.values()), "files": files}

    def track(self) -> JsonRecord:
        """Tracks."""
        return self._track_masks() if self._job.kind == "masks" else self._track_boxes()

    def _track_masks(self) -> JsonRecord:
        from trackweave.pipelines.masks import track_masks
        from trackweave.pipelines.resolved import mask_options, tracking_of
        from trackweave.pipelines.settings import MaskRunSettings

        files = self._job.files
        candidates = files.get("candidates")
        chosen = next((stage for stage in ("filter", "propose") if stage in self._keys), None)
        if chosen is not None:
            candidates = str(self._shared(chosen))
        settings = self._settings
        pieces = [piece.folder for piece in self._job.pieces]
        predictor: str | ChosenPredictor = str(settings.value("masks.predictor"))
        if not pieces:
            predictor = _predictor(settings)
            if self._job.is_halved and predictor.predictor.name in BACKENDS:
                settings, self.is_halved = _halved(settings), True
                del predictor  # its memory is wanted
                predictor = _predictor(settings)
        resume = self._again and not pieces
        options = mask_options(settings, overwrite=not resume)
        options |= {"overlay": False, "identity": False, "predictor_settings": None, "pieces": pieces}
        if pieces:
            candidates = None  # the pieces have them
        if candidates is not None or "prompts" in files or pieces:
            options |= {"generator": "auto", "candidate_stride": None}
        run = track_masks(
            files["input"],
            self._folder,
            candidates=candidates,
            prompts=[files["prompts"]] if "prompts" in files else None,
            levels=self._settings[MaskRunSettings].levels,
            predictor=predictor,
            settings=tracking_of(self._settings),
            resume=resume,
            progress=self._progress("track"),
            **options,
        )
        level_files = [str(run.paths.level(level).tracking.relative_to(self._folder)) for level in run.levels]
        files_left = ["manifest.json", "summary.json", *level_files]
        return {**_run_facts(self._paths), **self._of_pieces(), "files": files_left}

    def identity(self) -> JsonRecord:
        """Joins tracks that are one thing and nests parts in wholes."""
        from trackweave.identity.settings import IdentitySettings
        from trackweave.pipelines.identity import relate

        run = relate(self._folder, self._settings[IdentitySettings], progress=self._progress("identity"))
        return {"things": len(run.tree()), "files": ["identity.json"]}

    # --- boxes

    def detect(self) -> JsonRecord:
        """Runs the detector."""
        return self._once("detect", self._detect)

    def _detect(self, folder: Path) -> JsonRecord:
        from trackweave.formats.archives import write_detection_table
        from trackweave.pipelines.detection_source import detect
        from trackweave.pipelines.settings import InputSettings, PerceptionSettings

        perception = self._settings[PerceptionSettings]
        table = detect(
            self._job.files["input"],
            perception.detector or "motion",
            sampling=self._settings[InputSettings].frames,
            progress=self._progress("detect"),
            **perception.detector_options,
        )
        write_detection_table(folder / "detections.npz", table)
        return {"detections": len(table.frame), "files": ["detections.npz"]}

    def _boxes_read(self) -> tuple[str | None, str | None]:
        """The video, and the file of detections, where there is one."""
        files = self._job.files
        if Path(files["input"]).suffix.lower() in TABLE_SUFFIXES:
            return None, files["input"]
        given = files.get("detections") or self._settings[BoxRunSettings].detections
        return files["input"], None if given is None else str(given)

    def _detected(self) -> DetectionTable | None:
        """What the stage `detect` found, of the pieces one after the other; None where there was none."""
        from trackweave.formats.archives import read_detection_table

        if "detect" in self._keys:
            return read_detection_table(self._shared("detect") / "detections.npz")
        found = [StageRecords(Path(piece.folder)).done.get("detect") for piece in self._job.pieces]
        tables: list[DetectionTable] = []
        for piece, record in zip(self._job.pieces, found, strict=True):
            if record is None:
                return None
            table = read_detection_table(Path(piece.shared) / f"{piece.item}-{record.key}" / "detections.npz")
            begin = tables[-1].frame_count if tables else 0
            tables.append(table[table.frame >= begin])
        if not tables:
            return None
        return replace(type(tables[-1]).concat(tables), length=tables[-1].length) if any(tables) else tables[-1]

    def _track_boxes(self) -> JsonRecord:
        from trackweave.pipelines.boxes import track_boxes
        from trackweave.pipelines.resolved import box_options, tracker_of
        from trackweave.pipelines.settings import PerceptionSettings

        source, given = self._boxes_read()
        detections: str | DetectionTable | None = given
        options = box_options(self._settings)
        options["pieces"] = [piece.folder for piece in self._job.pieces]
        detected = self._detected()
        if detected is not None:
            detections = detected
            perception = self._settings[PerceptionSettings]
            options["perception"] = perception.model_copy(update={"detector": None, "detector_options": {}})
        track_boxes(
            source,
            self._folder,
            detections=detections,
            tracker=tracker_of(self._settings),
            overwrite=True,
            progress=self._progress("track"),
            **options,
        )
        files = ["manifest.json", "summary.json", "tracks.npz"]
        return {**_run_facts(self._paths), **self._of_pieces(), "files": files}

    def _of_pieces(self) -> JsonRecord:
        """What the pieces took that were joined; nothing where there are none."""
        done = [one for piece in self._job.pieces for one in StageRecords(Path(piece.folder)).done.values()]
        if not done:
            return {}
        seconds, cpu = sum(one.seconds for one in done), sum(one.cpu_seconds for one in done)
        return {"of_pieces": {"seconds": round(seconds, 4), "cpu_seconds": round(cpu, 4)}}

    # --- association

    def build(self) -> JsonRecord:
        """Logs samples with true identities."""
        from trackweave.association.settings import LogSettings
        from trackweave.mot.settings import TrackerSettings
        from trackweave.pipelines.samples import build_samples
        from trackweave.pipelines.settings import InputSettings, PerceptionSettings

        files, perception = self._job.files, self._settings[PerceptionSettings]
        detections = files.get("detections") or self._settings[BoxRunSettings].detections
        if "detect" in self._keys:
            detections = str(self._shared("detect") / "detections.npz")
            perception = perception.model_copy(update={"detector": None, "detector_options": {}})
        (built,) = build_samples(
            [files["input"]],
            self._folder / SAMPLES,
            truth=None if "truth" not in files else _truth_of(files["truth"], self._job.item),
            detections=detections,
            tracker=self._settings[TrackerSettings],
            video=self._settings[InputSettings],
            perception=perception,
            embed_dim=self._settings[LogSettings].embed_dim,
            overwrite=True,
            progress=self._progress("build"),
        )
        facts = built.to_json()
        numbers = {name: facts[name] for name in ("frames", "samples", "detections", "identified")}
        return {**numbers, **_warning_facts(built.warnings), "files": [f"{SAMPLES}/{MANIFEST_NAME}"]}

    def train(self) -> JsonRecord:
        """Trains on the samples of all items."""
        from trackweave.association.settings import DataSettings, TrainSettings
        from trackweave.association.training.train_assoc import TrainingOptions, trained

        folder = self._folder / "training"
        settings = self._settings[TrainSettings]
        explicit = {key.removeprefix("train.") for key in self._settings.provided if key.startswith("train.")}
        options = TrainingOptions(
            settings,
            self._settings[DataSettings],
            frozenset(explicit),
            resume=self._again and (folder / "last.pt").is_file(),
            overwrite=not self._again,
            start=Path(self._job.start) if self._job.start else None,
        )
        tell = self._on_progress
        epoch = count(1)

        def on_epoch_end(*_: object) -> None:
            if tell is not None:
                tell("train", next(epoch), settings.epochs)

        result = trained([Path(each) for each in self._job.samples], folder, options, on_epoch_end)
        from trackweave.association.training.checkpoint import export_onnx

        export_onnx(result.best, self._folder / MODEL)
        metrics = result.metrics
        return {
            "samples": result.frames,
            "epochs": len(result.epochs),
            "precision": round(metrics.precision, 5),
            "recall": round(metrics.recall, 5),
            "files": [MODEL, "training/best.pt"],
        }

    # --- what reads a finished run

    def export(self) -> JsonRecord:
        """Writes the run in other formats; of several levels each, where a format has one."""
        from trackweave.exporters import export
        from trackweave.structures.format_settings import FormatSettings
        from trackweave.visualization.settings import OverlaySettings

        overlay, options = self._settings[OverlaySettings], self._settings[FormatSettings]
        written = []
        for name in self._job.formats:
            for level in self._levels_of(name):
                target = self._export_target(name, level)
                export(self._folder, name, target, level=level, overlay=overlay, options=options)
                written.append(str(target.relative_to(self._folder)))
        return {"exports": len(written), "files": written}

    def _levels_of(self, format_name: str) -> Sequence[int | None]:
        """The levels that a format is written for one by one; None alone where one file holds all there are."""
        from trackweave.formats.registry import find_format

        levels = RunManifest.load(self._paths.manifest).tracked_levels if self._job.kind == "masks" else []
        if len(levels) < 2 or (format_name != "mp4" and find_format(format_name).levels):
            return [None]
        return [int(level) for level in levels]

    def _export_target(self, format_name: str, level: int | None) -> Path:
        """The file, or the folder, which is made, that a format is written to."""
        suffix = _suffix_of(format_name)
        name = f"{self._job.item}{suffix}" if suffix else format_name
        if suffix and sum(_suffix_of(one) == suffix for one in self._job.formats) > 1:
            name = f"{format_name}-{name}"
        if level is not None:
            name = f"{name.removesuffix(suffix)}_L{level:02d}{suffix}"
        target = self._folder / "export" / name
        (target.parent if suffix else target).mkdir(parents=True, exist_ok=True)
        return target

    def evaluate(self) -> JsonRecord:
        """Scores the run against the truth."""
        from trackweave.evaluation.evaluate import evaluate
        from trackweave.evaluation.settings import EvaluationSettings

        truth = _truth_of(self._job.files["truth"], self._job.item)
        scores = evaluate(self._folder, truth, self._settings[EvaluationSettings])
        best = scores.all_classes or scores.classes[0].combined
        shown = {name: best[name] for name in ("HOTA", "AssA", "DetA", "IDF1", "MOTA", "IDSW", "J&F") if name in best}
        record = {
            "overlap": str(scores.overlap),
            "protocol": scores.protocol,
            "metrics": [str(metric) for metric in scores.metrics],
            "notes": list(scores.notes),
            "classes": {each.name: each.combined.counted() for each in scores.classes},
        }
        write_json(self._folder / "evaluation.json", {"schema_version": RECORD_VERSION, **record})
        facts = {name: round(value, 5) for name, value in shown.items() if value == value}
        return {"scores": facts, "files": ["evaluation.json"]}

    def store(self) -> JsonRecord:
        """Puts the folder of the run into the store."""
        return {"put": self._job.stores.put(self._folder, self._job.remote)}

    def report(self) -> JsonRecord:
        """Draws the overlay of a mask run, and writes the page of the run and its thumbnail."""
        from trackweave.plans.pictures import draw_overlay, write_thumbnail
        from trackweave.reports.page import report
        from trackweave.visualization.settings import OverlaySettings

        if self._job.kind == "masks" and self._settings.value("tracking.render_viz"):
            every = self._settings.value("masks.overlay_levels") == "all"
            draw_overlay(self._folder, self._settings[OverlaySettings], every=every)
        report(self._folder)
        write_thumbnail(self._folder)
        return {"files": ["report.html"]}


def _truth_of(text: str, item: str) -> Path:
    """The file of true boxes or masks, or the folder of the sequence that has them."""
    path = content_path("truth", text, item)
    if path is None:
        return Path(text)
    return path.parent if path.name == "gt" else path


def _suffix_of(format_name: str) -> str:
    """Of the file that a format is; empty: it is a folder."""
    from trackweave.formats.registry import find_format

    return ".mp4" if format_name == "mp4" else find_format(format_name).suffix


def _warning_facts(warnings: Sequence[RunWarning]) -> dict[str, Any]:
    """Kinds of warnings, and the first of their texts."""
    kinds = Counter(str(warning.code) for warning in warnings)
    messages = [redacted(shortened_line(warning.message, 300)) for warning in warnings[:5]]
    return {"warnings": dict(kinds), "messages": messages}


def _run_facts(paths: RunPaths) -> dict[str, Any]:
    """What the page says of a run."""
    summary = read_run_summary(paths.summary)
    facts: dict[str, Any] = {
        "frames": summary.input.frames,
        "size": None if summary.input.size is None else list(summary.input.size),
        "tracks": summary.track_count,
        **_warning_facts(summary.warnings),
    }
    if isinstance(summary, BoxSummary):
        facts |= {"boxes": summary.totals.get("boxes"), "suspected": summary.totals.get("est_id_switches")}
        if summary.expected_switches is not None:
            facts["expected_switches"] = round(float(summary.expected_switches["expected"]), 1)
        facts["frames"] = summary.totals.get("frames") or facts["frames"]
    else:
        facts |= {"boxes": summary.mask_count}
    return facts


def describe(settings: ResolvedSettings) -> list[tuple[str, str, str]]:
    """Settings that were given: key, value, origin."""
    entries = [(entry.key, ProvidedValue(entry.value, entry.origin)) for entry in settings.entries()]
    given = {key: one for key, one in entries if one.origin != "default" and not one.origin.startswith("preset ")}
    return described(given)


def described(values: Mapping[str, ProvidedValue]) -> list[tuple[str, str, str]]:
    """Values for people, without secrets: key, value, origin."""
    return [(key, as_text(redacted(value)), redacted(origin)) for key, (value, origin) in values.items()]


_WARM_FOR_BOTH = (
    "trackweave.exporters",
    "trackweave.frames.video",
    "trackweave.plans.pictures",
    "trackweave.reports.page",
)
WARM: Mapping[str, tuple[str, ...]] = {
    "masks": ("trackweave.pipelines.masks", "trackweave.predictors.flow.predictor", "jinja2", *_WARM_FOR_BOTH),
    "boxes": ("trackweave.pipelines.boxes", "trackweave.evaluation.evaluate", "jinja2", *_WARM_FOR_BOTH),
    "association": ("trackweave.pipelines.samples",),
}
"""What the stages import, so that a process that is forked from one that has it begins at once."""
