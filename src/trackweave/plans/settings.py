"""The plan file: what is worked through, by which stages, with which settings; read from YAML or a mapping."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from trackweave.errors import InputError, SettingError, shortened, shortened_line
from trackweave.options.schema import PRESET, Schema
from trackweave.options.sources import ProvidedValue, ResolvedSettings, from_mapping, from_pairs, resolve
from trackweave.options.yaml_values import MOST_CHARACTERS, parse_yaml
from trackweave.settings import Settings

Kind = Literal["masks", "boxes", "association"]
Layout = Literal["scene_level", "flat"]

SCHEMAS: Mapping[str, Schema] = {
    "masks": Schema(
        (
            "masks",
            "tracking",
            "predictor",
            "flow",
            "regions",
            "grid",
            "text",
            "candidates",
            "identity",
            "overlay",
            "format",
            "evaluate",
            "compare",
        ),
        without=frozenset({"masks.identity"}),  # a stage of its own
    ),
    "boxes": Schema(
        ("run", "input", "perception", "tracker", "scorer", "refinement", "overlay", "format", "evaluate", "compare"),
        implied={"scorer.enabled": ("tracker.preset", "learned")},
    ),
    "association": Schema(
        ("run", "input", "perception", "tracker", "log", "train", "data"),
        without=frozenset({"run.overlay", "input.fps", "input.size", "log.dir", "log.sequence"}),
    ),
}
"""The settings of the items of a plan. No environment variable is among their sources: a plan says everything."""
_OF_BOXES = {"tracker": f"tracker.{PRESET}", "detections": "run.detections", "detector": "perception.detector"}
SHORT_NAMES: Mapping[str, Mapping[str, str]] = {
    "masks": {"levels": "masks.levels", "predictor": "masks.predictor", "generator": "masks.generator"},
    "boxes": _OF_BOXES,
    "association": _OF_BOXES,
}
"""Names of a matrix and of columns of a table, and the settings that they are short for."""

STAGES: Mapping[str, tuple[str, ...]] = {
    "masks": ("propose", "filter", "track", "identity", "export", "evaluate", "report"),
    "boxes": ("detect", "track", "export", "evaluate", "report"),
    "association": ("detect", "build", "train"),
}
"""In the order in which they run; `train` once over all items."""
OFF = frozenset({"filter", "export"})
"""Stages that are off unless they are named."""
NEEDED = {"masks": "track", "boxes": "track", "association": "build"}
"""The stage that cannot be off."""


class SceneInputs(Settings):
    """Scenes: the folders below a root, each an item."""

    root: Path = Field(description="folder of the scenes")
    names: str | tuple[str, ...] = Field(
        default="all", description="all, names, patterns such as scene_0*, or ranges such as scene_01..scene_09"
    )
    frames: str = Field(default="", description="where the frames lie below a scene's folder")
    candidates: str | None = Field(default=None, description="where its candidates lie below its folder")


class InputEntry(Settings):
    """One entry of `inputs`: one of `path`, `paths_from`, `table` and `scenes`, and what its items have in common."""

    path: str | None = Field(default=None, description="a video, a folder of frames, a sequence folder, or a pattern")
    paths_from: Path | None = Field(default=None, description="a text file with a path on each line")
    table: Path | None = Field(default=None, description="CSV or Parquet with a column `input`, one item a row")
    scenes: SceneInputs | None = Field(default=None, description="folders below a root")
    name: str | None = Field(default=None, description="of the item; {input} and {stem} stand for its path and name")
    group: str = Field(default="", description="items that are evaluated together; by default all")
    truth: str | None = Field(default=None, description="ground truth; {input} and {name} stand for the item's")
    candidates: str | None = Field(default=None, description="folder with level_L/filtered/filtered.json")
    prompts: str | None = Field(default=None, description="label image or file of prompts")
    detections: str | None = Field(default=None, description="file of detections, or the name of a sequence's")
    settings: Mapping[str, Any] = Field(default_factory=dict, description="of these items, as in `settings`")


class StageShare(Settings):
    """What a worker of a stage takes of a Ray cluster."""

    cpus: float = Field(default=1.0, ge=0, description="processors")
    gpus: float = Field(default=0.0, ge=0, description="GPUs: a part of one, or whole ones")
    memory_gb: float | None = Field(default=None, gt=0, description="10⁹ bytes that have to be free on its node")

    @field_validator("gpus")
    @classmethod
    def _is_part_or_whole(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError("is a part of one GPU, or a whole number of them")
        return value

    def needs(self) -> Mapping[str, float]:
        """What Ray calls it."""
        memory = 0.0 if self.memory_gb is None else 1e9 * self.memory_gb
        return {name: n for name, n in (("CPU", self.cpus), ("GPU", self.gpus), ("memory", memory)) if n}

    def fits(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """How many workers nodes with these resources can hold.

        >>> StageShare(cpus=2, gpus=0.5).fits([{"CPU": 8, "GPU": 1}, {"CPU": 64}])
        2
        """
        needs = self.needs() or {"CPU": 1.0}
        return sum(int(min(node.get(name, 0) / n + 1e-9 for name, n in needs.items())) for node in nodes)

    def text(self) -> str:
        """For messages."""
        memory = f", {self.memory_gb:g} GB" if self.memory_gb is not None else ""
        return f"{self.cpus:g} CPU, {self.gpus:g} GPU{memory}"


class EngineSettings(Settings):
    """What does the work."""

    name: Literal["local", "ray"] = Field(default="local", description="processes of this machine, or a Ray cluster")
    workers: int | None = Field(
        default=None,
        ge=1,
        description="null: one for each core, or GPU that a model computes on; ray: as many as the cluster can hold",
    )
    memory_gb: float | None = Field(
        default=None, gt=0, description="of one worker; null: its share of four fifths of the machine's"
    )
    address: str = Field(
        default="local",
        description="ray: local (a cluster of its own on this machine), auto, HOST:PORT, ray://HOST:PORT",
    )
    cpus: float = Field(default=1.0, ge=0, description="ray: processors of a worker")
    gpus: float = Field(default=0.0, ge=0, description="ray: GPUs of a worker, a part of one or whole ones")
    stages: Mapping[str, StageShare] = Field(
        default_factory=dict, description="ray: `cpus`, `gpus`, `memory_gb` of a stage where it is not as the others"
    )
    retries: int = Field(default=3, ge=0, description="ray: how often a worker is begun anew that was lost")
    dashboard: bool = Field(default=False, description="ray: with address local, Ray's page on loopback")

    def share_of(self, stage: str) -> StageShare:
        """What a worker takes that does a stage."""
        common = {"cpus": self.cpus, "gpus": self.gpus, "memory_gb": self.memory_gb}
        own = self.stages.get(stage)
        return StageShare.checked(common | (own.model_dump(exclude_unset=True) if own is not None else {}))


class SplitSettings(Settings):
    """How long videos are divided into pieces, which are tracked at once and joined."""

    frames: int = Field(ge=2, description="most of a piece; a video that is not longer stays whole")
    overlap: int = Field(ge=1, description="frames that two pieces share where no hard cut lies between them")

    @model_validator(mode="after")
    def _shares_at_most_half(self) -> Self:
        if 2 * self.overlap > self.frames:
            raise ValueError(f"overlap {self.overlap} is more than half of the {self.frames} frames of a piece")
        return self


class StorageSettings(Settings):
    """Object stores: how they are reached, and what lies here of them meanwhile."""

    options: Mapping[str, Any] = Field(
        default_factory=dict,
        description="of fsspec's file system, such as endpoint_url; accounts rather in the environment",
    )
    cache: Path | None = Field(default=None, description="folder of fetched inputs; null: `cache` in the output folder")
    cache_gb: float = Field(
        default=50.0, gt=0, description="most that lies there (10⁹ bytes), beside what is worked on at the moment"
    )
    local: Path | None = Field(
        default=None, description="where an output in a store is worked on; null: `runs/` with the plan's name"
    )


class PlanFile(Settings):
    """The keys of a plan file."""

    name: str | None = Field(default=None, description="of the plan; null: that of the file")
    kind: Kind = Field(default="masks", description="masks, boxes or association")
    inputs: tuple[Mapping[str, Any] | str, ...] = Field(description="entries, see `InputEntry`; a text is a path")
    stages: Mapping[str, Any] = Field(default_factory=dict, description="stage: on, off, or on with its settings")
    settings: Mapping[str, Any] = Field(default_factory=dict, description="of all items, as in a settings file")
    matrix: Mapping[str, Any] = Field(default_factory=dict, description="setting: values; every combination is run")
    output: str | None = Field(default=None, description="the folder that the plan fills; s3:// and gs://, too")
    output_layout: Layout | None = Field(
        default=None, description="views of the archives by scene, or all in one folder"
    )
    engine: Mapping[str, Any] | str = Field(default_factory=dict, description="local, ray, or see `EngineSettings`")
    storage: Mapping[str, Any] = Field(default_factory=dict, description="see `StorageSettings`")
    split: Mapping[str, Any] | None = Field(default=None, description="of long videos, see `SplitSettings`")


class Variant(NamedTuple):
    """One combination of a matrix.

    Attributes:
        name: of its folder; `runs` where there is no matrix.
        values: setting → value.
    """

    name: str
    values: Mapping[str, ProvidedValue]


@dataclass(frozen=True)
class Plan:
    """What is to be done, checked.

    Attributes:
        name: of the plan; its output folder takes no other.
        kind: masks, boxes or association.
        inputs: where the items come from.
        stages: those that are on, in their order.
        formats: what `export` writes.
        start: what `train` starts from: `default`, a checkpoint, or nothing.
        values: settings of all items.
        variants: combinations of the matrix, at least one.
        output: the folder that it fills.
        layout: views of the archives, or None.
        engine: what does the work.
        storage: how object stores are reached.
        remote: address in a store that gets what `output` holds; empty where that is all.
        origin: what messages call it.
        split: how long videos are divided; None: not at all.
    """

    name: str
    kind: Kind
    inputs: Sequence[InputEntry]
    stages: Sequence[str]
    formats: Sequence[str]
    start: str
    values: Mapping[str, ProvidedValue]
    variants: Sequence[Variant]
    output: Path
    layout: Layout | None = None
    engine: EngineSettings = field(default_factory=EngineSettings)
    storage: StorageSettings = field(default_factory=StorageSettings, repr=False)
    remote: str = ""
    origin: str = "plan"
    split: SplitSettings | None = None

    @property
    def schema(self) -> Schema:
        """The settings that its items have."""
        return SCHEMAS[self.kind]

    def resolved(self, variant: Variant, own: Mapping[str, ProvidedValue]) -> ResolvedSettings:
        """The settings of an item in a variant: those of all, then its own, then the matrix's.

        Raises:
            SettingError: a value that does not fit; names its origin.
        """
        return resolve(self.schema, flags={**self.values, **own, **variant.values})


def load_plan(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    output: str | os.PathLike[str] | None = None,
    pairs: Sequence[str] = (),
    workers: int | None = None,
) -> Plan:
    """Reads a plan; nothing of its items is looked at.

    Args:
        source: a YAML file, or the same as a mapping.
        output: instead of the plan's own.
        pairs: `KEY=VALUE` texts, settings of all items.
        workers: instead of the engine's own.

    Raises:
        InputError: the file cannot be read.
        SettingError: an unknown key (the nearest known one is named), or a value that does not fit.
    """
    origin, content = ("plan", source) if isinstance(source, Mapping) else (f"plan {source}", _read(Path(source)))
    if not isinstance(content, Mapping):
        raise SettingError(f"{origin}: a plan is keys with values, not {type(content).__name__}")
    file = _checked(PlanFile, content, origin)
    stem = "plan" if isinstance(source, Mapping) else Path(source).stem
    switches = _switches(file, origin)
    values = {**_values(file.kind, file.settings, f"{origin}: settings"), **switches.values}
    values |= from_pairs([_long_pair(file.kind, pair) for pair in pairs], SCHEMAS[file.kind])
    target = os.fspath(output) if output is not None else file.output
    if target is None:
        raise SettingError(f"{origin}: output: the folder that the plan fills is not named")
    if file.output_layout is not None and file.kind == "association":
        raise SettingError(f"{origin}: output_layout: is of runs, and a plan of association has none")
    engine = _engine(file, origin)
    storage = _checked(StorageSettings, file.storage, f"{origin}: storage")
    remote = target.rstrip("/") if "://" in target else ""
    if remote and remote.partition("://")[0] not in ("s3", "gs"):
        raise SettingError(f"{origin}: output: {redacted(shortened_line(remote))}: is a folder, s3://… or gs://…")
    folder = Path(target) if not remote else storage.local or Path("runs", file_name(file.name or stem))
    plan = Plan(
        file.name or stem,
        file.kind,
        list(_entries(file, origin)),
        switches.stages,
        switches.formats,
        switches.start,
        values,
        list(_variants(file, origin)),
        folder,
        file.output_layout,
        engine if workers is None else engine.model_copy(update={"workers": workers}),
        storage,
        remote,
        origin,
        _split(file, origin),
    )
    for variant in plan.variants:  # what does not fit shows before the first item
        plan.resolved(variant, {})
    return plan


def _split(file: PlanFile, origin: str) -> SplitSettings | None:
    """How long videos are divided.

    Raises:
        SettingError: values that do not fit, or a plan whose videos cannot be.
    """
    if file.split is None:
        return None
    where = f"{origin}: split"
    if file.kind == "association":
        raise SettingError(f"{where}: is of plans of masks and boxes: samples of pieces have no common identities")
    return _checked(SplitSettings, file.split, where)


def _engine(file: PlanFile, origin: str) -> EngineSettings:
    where = f"{origin}: engine"
    content: dict[str, Any] = {"name": file.engine} if isinstance(file.engine, str) else dict(file.engine)
    shares = content.get("stages")
    if isinstance(shares, Mapping):
        for stage, share in shares.items():
            if stage not in STAGES[file.kind]:
                known = ", ".join(STAGES[file.kind])
                raise SettingError(
                    f"{where}: stages: there is no stage {shortened_line(str(stage))}; there are {known}"
                )
            if not isinstance(share, Mapping):
                raise SettingError(f"{where}: stages: {stage}: is {{cpus, gpus, memory_gb}}, not {shortened(share)}")
            _checked(StageShare, share, f"{where}: stages: {stage}")
    engine = _checked(EngineSettings, content, where)
    if engine.name != "ray":
        for name in sorted(content.keys() - {"name", "workers", "memory_gb"}):
            raise SettingError(f"{where}: {name}: is of the engine ray, and this one is {engine.name}")
    for stage in STAGES[file.kind]:
        _checked(StageShare, engine.share_of(stage).model_dump(), where)
    return engine


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1024)


def _read(path: Path) -> Any:
    try:
        if path.is_dir() or b"\0" in _beginning(path):
            raise InputError(
                f"{path}: is no plan: a plan is a YAML file whose `inputs` name videos, or folders of images"
            )
        if path.stat().st_size > MOST_CHARACTERS:
            raise InputError(
                f"{path}: {path.stat().st_size} bytes: a plan takes at most {MOST_CHARACTERS}; use a table"
            )
        return parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except SettingError as error:
        raise SettingError(f"plan {path}: {error}") from None
    except ValueError as error:
        raise InputError(f"{path}: not YAML: {error}") from None


S = TypeVar("S", bound=Settings)


def _checked(model: type[S], values: Mapping[str, Any], where: str) -> S:
    """The settings with these values; messages begin with where they stand."""
    try:
        return model.checked({str(key): value for key, value in values.items()})
    except SettingError as error:
        raise SettingError(f"{where}: {error}") from None


def with_long_names(kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their own names where they have short ones; a section with values stays what it is."""
    short = SHORT_NAMES[kind]
    return {name if isinstance(value, Mapping) else short.get(name, name): value for name, value in content.items()}


def _values(kind: str, content: Mapping[str, Any], origin: str) -> dict[str, ProvidedValue]:
    """Settings of a mapping, also under their short names."""
    return from_mapping(with_long_names(kind, content), SCHEMAS[kind], origin)


def _long_pair(kind: str, pair: str) -> str:
    key, equals, value = pair.partition("=")
    return f"{SHORT_NAMES[kind].get(key.strip(), key)}{equals}{value}"


def _entries(file: PlanFile, origin: str) -> Iterator[InputEntry]:
    for n, each in enumerate(file.inputs, 1):
        where = f"{origin}: inputs, entry {n}"
        content: dict[str, Any] = {"path": each} if isinstance(each, str) else dict(each)
        scenes = content.get("scenes")
        if isinstance(scenes, Mapping):
            content["scenes"] = _checked(SceneInputs, scenes, f"{where}: scenes")
        entry = _checked(InputEntry, content, where)
        ways = ("path", "paths_from", "table", "scenes")
        if sum(getattr(entry, way) is not None for way in ways) != 1:
            raise SettingError(f"{where}: has one of {', '.join(ways)}")
        _values(file.kind, entry.settings, f"{where}: settings")
        yield entry
    if not file.inputs:
        raise SettingError(f"{origin}: inputs: there is none")


class _Switches(NamedTuple):
    stages: tuple[str, ...]
    formats: tuple[str, ...]
    start: str
    values: Mapping[str, ProvidedValue]


def _switches(file: PlanFile, origin: str) -> _Switches:
    """Which stages are on, the formats of `export`, the start of `train`, and the settings beside the switches."""
    known = STAGES[file.kind]
    for name in file.stages:
        if name not in known:
            raise SettingError(
                f"{origin}: stages: there is no stage {shortened_line(name)}; "
                f"those of {file.kind} are {', '.join(known)}"
            )
    values: dict[str, ProvidedValue] = {}
    formats: tuple[str, ...] = ()
    start = ""
    off = OFF - set(file.stages)
    for name, switch in file.stages.items():
        where = f"{origin}: stages: {name}"
        if isinstance(switch, Mapping):
            content = dict(switch)
            if name == "export":
                formats = _formats(content.pop("to", None), where)
            elif name == "train" and "start" in content:
                start = content.pop("start")
                if not isinstance(start, str) or not start:
                    raise SettingError(f"{where}: start: is a checkpoint or default, not {shortened(start)}")
            values |= _values(file.kind, content, where)
        elif not isinstance(switch, bool):
            raise SettingError(f"{where}: is on, off, or on with its settings, not {shortened(switch)}")
        elif not switch:
            off |= {name}
    if "export" in known and "export" not in off and not formats:
        raise SettingError(f"{origin}: stages: export: needs `to`, a format or several, such as [davis, mot]")
    needed = NEEDED[file.kind]
    if needed in off:
        raise SettingError(f"{origin}: stages: {needed}: cannot be off: the stages behind it read what it writes")
    return _Switches(tuple(name for name in known if name not in off), formats, start, values)


def _formats(names: Any, where: str) -> tuple[str, ...]:
    from trackweave.formats.registry import find_format

    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, list | tuple) or not listed or not all(isinstance(name, str) for name in listed):
        raise SettingError(f"{where}: to: is a format or several, such as [davis, mot], not {shortened(names)}")
    for name in listed:
        try:
            if name != "mp4":
                find_format(name)
        except SettingError as error:
            raise SettingError(f"{where}: to: {error}") from None
    return tuple(dict.fromkeys(listed))


def _variants(file: PlanFile, origin: str) -> Iterator[Variant]:
    """Every combination of the matrix; values of a setting that are lists of numbers are levels together."""
    columns = []
    for key, values in file.matrix.items():
        where = f"{origin}: matrix"
        if not isinstance(values, list | tuple) or not values:
            raise SettingError(f"{where}: {key}: is a list of values, not {shortened(values)}")
        columns.append([_values(file.kind, {key: value}, where) for value in values])
    names: set[str] = set()
    for parts in itertools.product(*columns):
        values = {key: value for part in parts for key, value in part.items()}
        name = "-".join(map(_name_of, values.items())) or "runs"
        if name in names:
            raise SettingError(f"{origin}: matrix: two combinations are called {name}")
        names.add(name)
        yield Variant(name, values)


def _name_of(entry: tuple[str, ProvidedValue]) -> str:
    """What a value is called in the name of a folder: words alone, numbers behind their setting."""
    key, (value, _) = entry
    text = "+".join(map(str, value)) if isinstance(value, list | tuple) else Path(str(value)).name
    text = file_name(text)
    return text if text[:1].isalpha() and not isinstance(value, bool) else f"{key.rpartition('.')[2]}{text}"


def file_name(text: str) -> str:
    """A text as the name of a file: letters, digits and `._+-`; anything else becomes `_`.

    >>> file_name("a b/c:d.mp4"), file_name("..")
    ('a_b_c_d.mp4', '_')
    """
    name = re.sub(r"[^\w.+-]+", "_", text).strip(".")
    return name or "_"


_ACCOUNT = re.compile(r"(?<=:/)(/?)[^/@\s]+@")  # a path has one slash where an address has two
_SECRET_QUERY = re.compile(r"((?:token|secret|password|passwd|signature|key|credential)[\w-]*=)[^&\s]+", re.I)
_SECRET_NAME = re.compile(r"token|secret|passw|credential|api_?key|access_?key|^key$", re.I)
_HIDDEN: set[str] = set()


def hide_secrets(options: Mapping[str, Any]) -> None:
    """From now on `redacted` leaves out the values of these options whose names sound secret, wherever they stand."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            hide_secrets(value)
        elif _SECRET_NAME.search(str(name)) and len(str(value)) >= 4:
            _HIDDEN.add(str(value))


def redacted(value: Any) -> Any:
    """A value for pages, files and messages: accounts in addresses and values of secret names are left out.

    >>> redacted("s3://me:pw@host/a?token=1&b=2"), redacted({"api_key": "x", "n": 1})
    ('s3://…@host/a?token=…&b=2', {'api_key': '…', 'n': 1})
    """
    if isinstance(value, str):
        for secret in _HIDDEN:
            value = value.replace(secret, "…")
        return _SECRET_QUERY.sub(r"\1…", _ACCOUNT.sub(r"\1…@", value))
    if isinstance(value, Mapping):
        return {key: "…" if _SECRET_NAME.search(str(key)) else redacted(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(part) for part in value]
    return value
