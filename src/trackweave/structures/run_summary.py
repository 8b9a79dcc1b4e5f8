"""`RunSummary`: the numbers of a finished run, of masks or of boxes, as `summary.json` holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NotRequired, TypedDict

from trackweave.ids import Level
from trackweave.structures.run_log import RunWarning

SCHEMA_VERSION = 1
JsonRecord = Mapping[str, Any]
"""An object as `json.loads` gives it."""
Totals = Mapping[str, int | float | None]


class SwitchRecord(TypedDict):
    """An identity switch that is suspected; JSON.

    Attributes:
        frame: absolute index of the frame on which it is thought to have happened.
        tracks: ids of the tracks that take part.
        cause: `fragmentation`, `takeover` or `exchange`, see `SwitchCause`; some runs of others do not say.
        confidence: probability in [0, 1] that it is true.
    """

    frame: int
    tracks: list[int]
    cause: NotRequired[str]
    confidence: float


class ExpectedSwitches(TypedDict):
    """How many identity switches tracks likely have; JSON.

    Attributes:
        expected: the mean.
        low, high: the interval that holds it in nine of ten videos.
    """

    expected: float
    low: int
    high: int


@dataclass(frozen=True)
class TrackSummary:
    """One track in numbers.

    Attributes:
        track_id: its id.
        spans: runs of absolute frame indices, both ends included.
        frames: observations.
        class_id: of a box track, −1 = none; of masks that of its candidate, None = none.
        prompt_frame: absolute index of the frame on which it was prompted, or None.
        prompt: kind of the prompt, such as `mask`, or None.
        mean_area: pixels, or None.
        mean_score: objectness or confidence, or None.
        class_score: of the candidate that had the class, or None.
    """

    track_id: int
    spans: Sequence[tuple[int, int]]
    frames: int = 0
    class_id: int | None = None
    prompt_frame: int | None = None
    prompt: str | None = None
    mean_area: float | None = None
    mean_score: float | None = None
    class_score: float | None = None

    @property
    def first(self) -> int:
        """Absolute index of the first frame; 0 without any."""
        return min((first for first, _ in self.spans), default=0)

    @property
    def last(self) -> int:
        """Absolute index of the last frame; 0 without any."""
        return max((last for _, last in self.spans), default=0)

    def to_json(self) -> JsonRecord:
        """As JSON values; what is not known is left out."""
        record = {
            "id": self.track_id,
            "class_id": self.class_id,
            "class_score": self.class_score,
            "prompt_frame": self.prompt_frame,
            "prompt": self.prompt,
            "frames": self.frames,
            "first": self.first,
            "last": self.last,
            "spans": [list(span) for span in self.spans],
            "mean_area": self.mean_area,
            "mean_score": self.mean_score,
        }
        return {key: value for key, value in record.items() if value is not None}

    @classmethod
    def from_json(cls, record: JsonRecord) -> TrackSummary:
        """Reads one; a record that has only `first` and `last` is one span.

        Raises:
            KeyError: no id, or no frames.
        """
        count = record.get("frames")
        spans = record.get("spans") or (count if isinstance(count, list) else None)
        spans = [(record["first"], record["last"])] if spans is None else spans
        whole = [(int(first), int(last)) for first, last in spans]
        return cls(
            int(record["id"]),
            whole,
            count if isinstance(count, int) else sum(last - first + 1 for first, last in whole),
            _optional(int, record.get("class_id")),
            _optional(int, record.get("prompt_frame")),
            _optional(str, record.get("prompt")),
            _optional(float, record.get("mean_area")),
            _optional(float, record.get("mean_score")),
            _optional(float, record.get("class_score")),
        )


@dataclass(frozen=True)
class LevelSummary:
    """One level of a mask run in numbers.

    Attributes:
        counts: by name: `frames`, `candidate_frames`, `candidates`, `prompts`, `objects`, `object_frames`.
        dedup: what was found about duplicates, by name.
        durations: seconds by stage; `a.b` is part of `a`.
        tracks: every track.
        extra: keys of the record that are none of these.
    """

    counts: Mapping[str, int]
    dedup: Mapping[str, float] = field(default_factory=dict)
    durations: Mapping[str, float] = field(default_factory=dict)
    tracks: Sequence[TrackSummary] = ()
    extra: JsonRecord = field(default_factory=dict)

    def to_json(self) -> JsonRecord:
        """As JSON values."""
        return {
            **self.counts,
            "dedup": dict(self.dedup),
            "durations": dict(self.durations),
            "tracks": [track.to_json() for track in self.tracks],
            **self.extra,
        }

    @classmethod
    def from_json(cls, record: JsonRecord) -> LevelSummary:
        """Reads one; parts that a run did not write are empty.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is damaged.
        """
        counts = {key: value for key, value in record.items() if _is_count(value)}
        parts = {*counts, "dedup", "durations", "tracks", "longest_tracks"}
        return cls(
            counts,
            dict(record.get("dedup") or {}),
            _seconds(record.get("durations") or {}),
            [TrackSummary.from_json(row) for row in record.get("tracks") or record.get("longest_tracks") or ()],
            {key: value for key, value in record.items() if key not in parts},
        )


@dataclass(frozen=True)
class InputSummary:
    """What a run went over.

    Attributes:
        path: a file, folder or address; `memory` for arrays; None when the run did not record it.
        frames: how many frames were taken.
        size: `(H, W)` in pixels, or None.
        kind: of a box run: `sequence`, `frames`, `live` or `detections`; None in mask runs.
        name: of the sequence of a box run.
        frame_rate: frames per second of a box run, or None.
        cuts: absolute indices of the frames that begin a new shot; None = not looked for.
    """

    path: str | None = None
    frames: int | None = None
    size: tuple[int, int] | None = None
    kind: str | None = None
    name: str | None = None
    frame_rate: float | None = None
    cuts: Sequence[int] | None = None

    def to_json(self) -> JsonRecord:
        """As JSON values; the two kinds of runs spell the size differently."""
        cuts = None if self.cuts is None else list(self.cuts)
        if self.kind is None:
            size = None if self.size is None else list(self.size)
            return {"path": self.path, "frames": self.frames, "size": size, "cuts": cuts}
        height, width = self.size or (None, None)
        return {
            "path": self.path,
            "kind": self.kind,
            "name": self.name,
            "frames": self.frames,
            "frame_rate": self.frame_rate,
            "height": height,
            "width": width,
            "cuts": cuts,
        }

    @classmethod
    def from_json(cls, record: object) -> InputSummary:
        """Reads one; a run that recorded nothing gives an empty one."""
        if not isinstance(record, Mapping):
            return cls()
        height, width = record.get("size") or (record.get("height"), record.get("width"))
        return cls(
            _optional(str, record.get("path")),
            _optional(int, record.get("frames")),
            None if not height or not width else (int(height), int(width)),
            _optional(str, record.get("kind")),
            _optional(str, record.get("name")),
            _optional(float, record.get("frame_rate")),
            None if record.get("cuts") is None else [int(cut) for cut in record["cuts"]],
        )


@dataclass(frozen=True)
class PredictorSummary:
    """Which predictor moved the masks.

    Attributes:
        name: of the predictor.
        reason: why it was taken, or None.
        counters: what it counted, such as passes of the image encoder.
        details: further JSON values.
    """

    name: str
    reason: str | None = None
    counters: Mapping[str, float] = field(default_factory=dict)
    details: JsonRecord = field(default_factory=dict)

    def to_json(self) -> JsonRecord:
        """As JSON values; what is not known is left out."""
        reason = {} if self.reason is None else {"reason": self.reason}
        return {
            "name": self.name,
            **reason,
            **({"counters": dict(self.counters)} if self.counters else {}),
            **self.details,
        }

    @classmethod
    def from_json(cls, record: object) -> PredictorSummary | None:
        """Reads one; a bare name is enough."""
        if not isinstance(record, Mapping):
            return cls(str(record)) if record else None
        details = {key: value for key, value in record.items() if key not in ("name", "reason", "counters")}
        return cls(
            str(record.get("name", "unknown predictor")),
            _optional(str, record.get("reason")),
            dict(record.get("counters") or {}),
            details,
        )


@dataclass(frozen=True)
class RunSummary:
    """What every finished run reports; `from_json` gives a `MaskSummary` or a `BoxSummary`.

    Attributes:
        command: `masks` or `boxes`.
        input: what the run went over.
        totals: counts over the whole run, by name; None = not measured.
        durations: seconds by stage; `a.b` is part of `a`.
        peak_rss_mb: largest resident memory of the process, MB (10⁶ bytes), or None.
        warnings: everything that was done differently from what was asked.
        extra: keys of the record that are none of these.
    """

    command: str
    input: InputSummary = field(default_factory=InputSummary)
    totals: Totals = field(default_factory=dict)
    durations: Mapping[str, float] = field(default_factory=dict)
    peak_rss_mb: float | None = None
    warnings: Sequence[RunWarning] = ()
    extra: JsonRecord = field(default_factory=dict)

    @property
    def track_count(self) -> int:
        """Tracks of the whole run."""
        return int(self.totals.get("tracks") or 0)

    def to_json(self) -> JsonRecord:
        """The record as `summary.json` holds it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": self.command,
            "input": self.input.to_json(),
            **self._own_json(),
            **self.extra,
            "durations": dict(self.durations),
            "peak_rss_mb": self.peak_rss_mb,
            "warnings": [warning.to_json() for warning in self.warnings],
        }

    def _own_json(self) -> JsonRecord:
        """What only this kind of run has, and the totals."""
        return {"totals": dict(self.totals)}

    @staticmethod
    def from_json(record: JsonRecord) -> MaskSummary | BoxSummary:
        """Reads the record of either kind; parts that a run did not write are empty.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is damaged.
        """
        kind = BoxSummary if record.get("command") == "boxes" else MaskSummary
        return kind._read(record)


@dataclass(frozen=True)
class MaskSummary(RunSummary):
    """The numbers of a mask run.

    Attributes:
        totals: `candidate_frames`, `candidates`, `prompts`, `objects`, `object_frames`, `seconds`, `duplicates`.
        predictor: which one moved the masks; None when the run did not record it.
        levels: each level's part.
    """

    predictor: PredictorSummary | None = None
    levels: Mapping[Level, LevelSummary] = field(default_factory=dict)

    @property
    def track_count(self) -> int:
        """Tracks of all levels."""
        return sum(level.counts.get("objects", level.counts.get("tracks", 0)) for level in self.levels.values())

    @property
    def counters(self) -> Mapping[str, float]:
        """What the predictor counted, such as passes of the image encoder; empty where it counts nothing."""
        return {} if self.predictor is None else self.predictor.counters

    @property
    def mask_count(self) -> int:
        """Masks of all tracks."""
        return sum(level.counts.get("object_frames", 0) for level in self.levels.values())

    def _own_json(self) -> JsonRecord:
        totals: dict[str, Any] = {}
        for key, value in self.totals.items():
            totals[key] = value
            if key == "object_frames":
                totals["levels"] = [int(level) for level in self.levels]
        return {
            "predictor": None if self.predictor is None else self.predictor.to_json(),
            "levels": {str(level): part.to_json() for level, part in self.levels.items()},
            "totals": totals,
        }

    @classmethod
    def _read(cls, record: JsonRecord) -> MaskSummary:
        levels = {Level(int(key)): LevelSummary.from_json(value) for key, value in record.get("levels", {}).items()}
        totals = _totals({key: value for key, value in (record.get("totals") or {}).items() if key != "levels"})
        return cls(
            **_common(cls, record, totals),
            predictor=PredictorSummary.from_json(record.get("predictor")),
            levels=levels,
        )


@dataclass(frozen=True)
class BoxSummary(RunSummary):
    """The numbers of a box run.

    Attributes:
        totals: `frames`, `detections`, `tracks`, `boxes`, `births`, `reactivations`, `est_id_switches` (None without
            diagnostics), `stitched` (links), `interpolated`, `removed`.
        detections: a file (`kind` `file`, `path`, `rows`) or a detector (`kind` `detector`, `name`, `reason`).
        tracker: every setting of the tracker.
        skipped: what was left out, by reason.
        suspected_switches: each as `SwitchRecord`.
        expected_switches: how many identity switches the tracks likely have: `expected`, and `low` to `high` in 9 of 10
            videos; None = not measured, as of corrected tracks.
        track_lengths: histogram: tracks by the number of their boxes, `from` this number on.
        longest_tracks: the longest tracks one by one.
        visibility: how often it was computed in which way; None = not at all.
        embedder: `name` and `width`; None = no appearance.
        camera: where the camera's motion came from, and failures; None = not compensated.
        log: `directory`, `sequence`, and number of samples `logged` and `dropped`; None = no samples.
        association_fps: frames per second of the tracker alone; None = not measured.
    """

    detections: JsonRecord = field(default_factory=dict)
    tracker: JsonRecord = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    suspected_switches: Sequence[SwitchRecord] = ()
    expected_switches: ExpectedSwitches | None = None
    track_lengths: Mapping[str, Sequence[int]] = field(default_factory=dict)
    longest_tracks: Sequence[TrackSummary] = ()
    visibility: Mapping[str, int] | None = None
    embedder: JsonRecord | None = None
    camera: JsonRecord | None = None
    log: JsonRecord | None = None
    association_fps: float | None = None

    def _own_json(self) -> JsonRecord:
        return {
            "detections": dict(self.detections),
            "tracker": dict(self.tracker),
            "totals": dict(self.totals),
            "skipped": dict(self.skipped),
            "suspected_switches": list(self.suspected_switches),
            "expected_switches": self.expected_switches,
            "track_lengths": dict(self.track_lengths),
            "longest_tracks": [track.to_json() for track in self.longest_tracks],
            "visibility": self.visibility,
            "embedder": self.embedder,
            "camera": self.camera,
            "log": self.log,
            "association_fps": self.association_fps,
        }

    @classmethod
    def _read(cls, record: JsonRecord) -> BoxSummary:
        return cls(
            **_common(cls, record, _totals(record["totals"])),
            detections=_mapping(record.get("detections")) or {},
            tracker=_mapping(record.get("tracker")) or {},
            skipped=dict(record.get("skipped") or {}),
            suspected_switches=[_switch(row) for row in record.get("suspected_switches") or ()],
            expected_switches=_expected(record.get("expected_switches")),
            track_lengths=_lengths(_mapping(record.get("track_lengths")) or {}),
            longest_tracks=[TrackSummary.from_json(row) for row in record["longest_tracks"]],
            visibility=_mapping(record.get("visibility")),
            embedder=_mapping(record.get("embedder")),
            camera=_mapping(record.get("camera")),
            log=_mapping(record.get("log")),
            association_fps=_optional(float, record.get("association_fps")),
        )


def _totals(record: JsonRecord) -> Totals:
    """Numbers, or None, by name; anything else is an error."""
    for name, value in record.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise TypeError(f"{name} of the totals is no number")
    return dict(record)


def _switch(record: JsonRecord) -> SwitchRecord:
    """A suspected switch; what is not of its type is an error."""
    switch = SwitchRecord(
        frame=int(record["frame"]),
        tracks=[int(track) for track in record["tracks"]],
        cause=str(record.get("cause", "")),
        confidence=float(record["confidence"]),
    )
    if "cause" not in record:
        del switch["cause"]
    return switch


def _expected(record: JsonRecord | None) -> ExpectedSwitches | None:
    """How many switches are expected; what is not of its type is an error."""
    if record is None:
        return None
    return {"expected": float(record["expected"]), "low": int(record["low"]), "high": int(record["high"])}


def _lengths(record: JsonRecord) -> Mapping[str, Sequence[int]]:
    """The histogram of lengths; what is not of its type is an error."""
    return {name: [int(count) for count in record[name]] for name in ("from", "tracks") if name in record}


def _common(kind: type[RunSummary], record: JsonRecord, totals: Totals) -> JsonRecord:
    """The attributes that every run has."""
    command = record.get("command") or ""
    own = {"schema_version", *(one.name for one in fields(kind))}
    return {
        "command": " ".join(map(str, command)) if isinstance(command, list) else str(command),
        "input": InputSummary.from_json(record.get("input")),
        "totals": totals,
        "durations": _seconds(record.get("durations") or {}),
        "peak_rss_mb": _optional(float, record.get("peak_rss_mb")),
        "warnings": tuple(read_warning(row) for row in record.get("warnings") or ()),
        "extra": {key: value for key, value in record.items() if key not in own},
    }


def read_warning(record: object) -> RunWarning:
    """A warning of a summary or manifest; of a damaged one, what there is."""
    if not isinstance(record, Mapping):
        return RunWarning("", None, "warning", str(record))
    return RunWarning.from_json({"stage": "", "level": None, "code": "warning", "message": "", **record})


def _seconds(durations: JsonRecord, prefix: str = "") -> dict[str, float]:
    """Durations by stage; nested records become `a.b`."""
    flat: dict[str, float] = {}
    for name, value in durations.items():
        if isinstance(value, Mapping):
            flat |= _seconds(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = float(value)
    return flat


def _mapping(value: Any) -> JsonRecord | None:
    return dict(value) if isinstance(value, Mapping) else None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _optional(kind: Any, value: Any) -> Any:
    return None if value is None else kind(value)
