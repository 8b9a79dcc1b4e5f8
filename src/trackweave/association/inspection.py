"""`inspect_samples`: whether logged samples are fit to train on, as a report, its text and its figure; without torch.

Samples are read one by one. With ground truth, the identity switches that the tracker suspected are compared with the
true ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.association.inspection_plots import Distributions, distributions_svg
from trackweave.association.sample_features import FEATURE_VERSION
from trackweave.association.settings import data_obstacles, pairs_advice
from trackweave.errors import ArtifactError, SettingError
from trackweave.storage.files import replacing
from trackweave.storage.sample_folder import MANIFEST_NAME, read_sample_manifest
from trackweave.storage.samples import AssociationSample, read_sample, sample_number

SWITCH_WINDOWS = (0, 10)
"""Frames by which a suspicion may miss the true switch and still count."""
BINS = 10
UNKNOWN_SEQUENCE = "(unknown)"
_MAX_NAMES = 20
_BAR_WIDTH = 40


@dataclass(frozen=True)
class SwitchAgreement:
    """Frames with suspected switches against frames with true ones.

    Attributes:
        window: frames by which they may differ.
        suspected: frames on which the tracker suspected a switch.
        true: frames on which one happened.
        suspected_right: suspected frames with a true one within the window.
        true_found: true frames with a suspected one within the window.
    """

    window: int
    suspected: int = 0
    true: int = 0
    suspected_right: int = 0
    true_found: int = 0

    @property
    def precision(self) -> float | None:
        """Share of the suspicions that were right; None without suspicions."""
        return self.suspected_right / self.suspected if self.suspected else None

    @property
    def recall(self) -> float | None:
        """Share of the true switches that were suspected; None without true switches."""
        return self.true_found / self.true if self.true else None

    def __add__(self, other: SwitchAgreement) -> SwitchAgreement:
        return SwitchAgreement(
            self.window,
            self.suspected + other.suspected,
            self.true + other.true,
            self.suspected_right + other.suspected_right,
            self.true_found + other.true_found,
        )


@dataclass
class RunSwitches:
    """Switches of one run, sample by sample; memory grows with identities and switches, not with frames.

    A true switch is counted as CLEAR MOT does: a true identity is tracked under another id than the last time it was
    tracked (Bernardin and Stiefelhagen 2008). Frames that were not logged are not counted.

    Attributes:
        last_frame: of the samples so far, −1 before the first.
        estimated: `est_id_switches` of the last sample that has it; None: no sample has.
        true: true switches so far.
        has_truth: whether samples had ground truth.
    """

    last_frame: int = -1
    estimated: int | None = None
    true: int = 0
    has_truth: bool = False
    _suspect_frames: list[int] = field(default_factory=list)
    _true_frames: list[int] = field(default_factory=list)
    _last_track: dict[int, int] = field(default_factory=dict)

    def add(self, sample: AssociationSample) -> None:
        """Adds the next sample."""
        diagnostics = sample.metadata.diagnostics
        if diagnostics.suspect_tracks or (diagnostics.est_id_switches or 0) > (self.estimated or 0):
            self._suspect_frames.append(sample.frame_idx)
        if diagnostics.est_id_switches is not None:
            self.estimated = diagnostics.est_id_switches
        self.last_frame = sample.frame_idx
        if sample.gt_track_ids is not None:
            self.has_truth = True
            switches = self._true_switches(sample.gt_track_ids.tolist(), sample.assigned_track_ids.tolist())
            self.true += switches
            if switches:
                self._true_frames.append(sample.frame_idx)

    def _true_switches(self, identities: list[int], tracks: list[int]) -> int:
        switches = 0
        for identity, track in zip(identities, tracks, strict=True):
            if identity >= 0 and track >= 0:
                switches += self._last_track.get(identity, track) != track
                self._last_track[identity] = track
        return switches

    def agreement(self, window: int) -> SwitchAgreement:
        """Suspicions against the truth."""
        return SwitchAgreement(
            window,
            len(self._suspect_frames),
            len(self._true_frames),
            _near(self._suspect_frames, self._true_frames, window),
            _near(self._true_frames, self._suspect_frames, window),
        )


def _near(frames: list[int], others: list[int], window: int) -> int:
    """How many frames have one of the others within the window."""
    a, b = np.array(frames, np.int64), np.array(others, np.int64)
    first, last = np.searchsorted(b, a - window, "left"), np.searchsorted(b, a + window, "right")
    return int((last > first).sum())


@dataclass(frozen=True)
class SequenceReport:
    """One video.

    Attributes:
        sequence: its id; `(unknown)` where samples do not name it.
        samples: samples of it.
        frames: different frames among them.
        runs: runs of a tracker over it.
        matched_pairs: detections assigned to an existing track.
        est_id_switches: suspected by the tracker, all runs together that measured them; None: no run did.
        true_id_switches: by ground truth, None without.
    """

    sequence: str
    samples: int
    frames: int
    runs: int
    matched_pairs: int
    est_id_switches: int | None
    true_id_switches: int | None


@dataclass(frozen=True)
class EmbeddingReport:
    """Embeddings of tracks or of detections: how many rows, and how many of them are zeros (no descriptor)."""

    rows: int
    zero_rows: int

    @property
    def zero_share(self) -> float:
        """Share of rows that are zeros; 1 when there are none at all."""
        return self.zero_rows / self.rows if self.rows else 1.0


@dataclass(frozen=True)
class InspectionReport:
    """What folders of samples hold.

    Attributes:
        directories: the folders.
        samples: samples that could be read.
        sequences: by name.
        tracks: rows of tracks.
        detections: rows of detections.
        matched_pairs: detections assigned to an existing track.
        new_tracks: detections that began a track.
        unmatched: detections without a track.
        pairs: pairs of a track and a detection.
        allowed_pairs: those that the gates let through.
        embedding_widths: samples by width.
        track_embeddings: of tracks.
        det_embeddings: of detections.
        score: detections by score, ten bins from 0 to 1.
        visibility: the same by visibility.
        label_sources: samples by who decided the assignment.
        feature_versions: samples by version of the features.
        truncated: samples whose embeddings were cut.
        agreement: suspected against true switches, by window; empty without runs that have ground truth and measured
            suspicions.
        corrupt: files that cannot be used, with the reason.
        missing: listed in the manifest, but not there.
        unlisted: there and readable, but not in the manifest.
        notes: further findings, one line each.
        videos: what a training takes for different videos: those without a name are distinguished by their folders.
    """

    directories: tuple[str, ...]
    samples: int
    sequences: tuple[SequenceReport, ...]
    tracks: int
    detections: int
    matched_pairs: int
    new_tracks: int
    unmatched: int
    pairs: int
    allowed_pairs: int
    embedding_widths: dict[int, int]
    track_embeddings: EmbeddingReport
    det_embeddings: EmbeddingReport
    score: tuple[int, ...]
    visibility: tuple[int, ...]
    label_sources: dict[str, int]
    feature_versions: dict[int, int]
    truncated: int
    agreement: tuple[SwitchAgreement, ...]
    corrupt: dict[str, str]
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]
    notes: tuple[str, ...]
    videos: int
    _distributions: Distributions = field(repr=False, compare=False)

    @property
    def usable(self) -> bool:
        """Whether there are samples, and none is corrupt or missing."""
        return self.samples > 0 and not self.corrupt and not self.missing

    @property
    def frames(self) -> int:
        """Different frames of all sequences."""
        return sum(sequence.frames for sequence in self.sequences)

    @property
    def unmatched_share(self) -> float:
        """Share of detections without a track."""
        return self.unmatched / self.detections if self.detections else 0.0

    @property
    def gate_density(self) -> float:
        """Share of pairs that the gates let through."""
        return self.allowed_pairs / self.pairs if self.pairs else 0.0

    @property
    def advice(self) -> str:
        """Whether there are enough matched pairs, as text."""
        return pairs_advice(self.matched_pairs)

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Why a training would refuse these samples; empty when it would take them."""
        reasons = list(data_obstacles(self.matched_pairs, self.videos)) if self.samples else []
        if len(self.feature_versions) > 1 or not self.feature_versions.keys() <= {FEATURE_VERSION}:
            versions = ", ".join(map(str, sorted(self.feature_versions)))
            reasons.append(f"features of version {versions}, this trackweave trains on {FEATURE_VERSION} alone")
        return tuple(reasons)

    def to_json(self) -> dict[str, object]:
        """The report as JSON values."""
        edges = np.linspace(0, 1, BINS + 1).round(3).tolist()
        return {
            "usable": self.usable,
            "directories": list(self.directories),
            "samples": self.samples,
            "frames": self.frames,
            "sequences": [vars(sequence) for sequence in self.sequences],
            "tracks": self.tracks,
            "detections": self.detections,
            "matched_pairs": self.matched_pairs,
            "matched_pairs_advice": self.advice,
            "videos": self.videos,
            "training_obstacles": list(self.obstacles),
            "born": self.new_tracks,
            "unmatched": self.unmatched,
            "unmatched_share": self.unmatched_share,
            "pairs": self.pairs,
            "allowed_pairs": self.allowed_pairs,
            "gate_density": self.gate_density,
            "embedding_widths": {str(width): count for width, count in self.embedding_widths.items()},
            "embedding_truncated": self.truncated,
            "track_embeddings": {**vars(self.track_embeddings), "zero_share": self.track_embeddings.zero_share},
            "det_embeddings": {**vars(self.det_embeddings), "zero_share": self.det_embeddings.zero_share},
            "score": {"edges": edges, "counts": list(self.score)},
            "visibility": {"edges": edges, "counts": list(self.visibility)},
            "label_sources": self.label_sources,
            "feature_versions": {str(version): count for version, count in self.feature_versions.items()},
            "est_id_switches": _sum_known(sequence.est_id_switches for sequence in self.sequences),
            "switch_agreement": [
                {**vars(agreement), "precision": agreement.precision, "recall": agreement.recall}
                for agreement in self.agreement
            ],
            "corrupt": self.corrupt,
            "missing": list(self.missing),
            "unlisted": list(self.unlisted),
            "remarks": list(self.notes),
        }

    def write_figure(self, path: Path | str) -> None:
        """Writes the distributions of all features and of the cost as one SVG.

        Raises:
            SettingError: the name does not end in `.svg`.
            ArtifactError: the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() != ".svg":
            raise SettingError(f"{path}: the picture is an SVG, name it {path.with_suffix('.svg').name}")
        caption = f"{self.samples:,} samples · {len(self.sequences)} sequences · {self.matched_pairs:,} matched pairs"
        text = distributions_svg(self._distributions, ", ".join(self.directories), caption)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def inspect_samples(*directories: Path | str) -> InspectionReport:
    """Reads every sample of one or more folders, and of folders below them, as a training does.

    Files that cannot be used are named in the report and do not end the inspection.

    Raises:
        ArtifactError: a folder is not there or cannot be read.
    """
    counts = _SampleCounts()
    corrupt: dict[str, str] = {}
    missing: list[str] = []
    unlisted: list[str] = []
    notes: list[str] = []
    for directory in _sample_folders(map(Path, directories)):
        present = _sample_names(directory)
        manifest = read_sample_manifest(directory / MANIFEST_NAME)
        missing += [str(directory / name) for name in manifest.entries if name not in present]
        if manifest.unfinished:
            notes.append(f"{directory / MANIFEST_NAME}: the last line is unfinished and does not count")
        if manifest.damaged:
            lines = ", ".join(map(str, manifest.damaged[:BINS]))
            notes.append(f"{directory / MANIFEST_NAME}: {len(manifest.damaged)} lines are not entries: line {lines}")
        for name in present:
            try:
                sample = read_sample(directory / name)
            except ArtifactError as error:
                corrupt[str(directory / name)] = str(error).removeprefix(f"{directory / name}: ")
                continue
            if name not in manifest.entries:
                unlisted.append(str(directory / name))
            counts.add(sample, str(directory))
    return counts.report(tuple(map(str, directories)), corrupt, missing, unlisted, notes)


def _sample_folders(directories: Iterable[Path]) -> Iterator[Path]:
    """The folders, each followed by those below it that hold samples or a manifest."""
    for directory in directories:
        yield directory
        files = [*directory.rglob("sample_*.npz"), *directory.rglob(MANIFEST_NAME)]
        yield from sorted({file.parent for file in files} - {directory})


def _sample_names(directory: Path) -> dict[str, None]:
    """Names of the files that are samples or named like samples, in the order of writing."""
    try:
        names = [path.name for path in directory.iterdir() if path.name.startswith("sample_")]
    except OSError as error:
        raise ArtifactError(f"{directory}: not a folder of samples: {error.strerror or error}") from error
    return dict.fromkeys(sorted(names, key=lambda name: (sample_number(name) or 0, name)))


@dataclass
class _SequenceCounts:
    samples: int = 0
    matched_pairs: int = 0
    frames: set[int] = field(default_factory=set)


class _SampleCounts:
    """Sums over the samples; keeps no sample."""

    def __init__(self) -> None:
        self._totals: Counter[str] = Counter()
        self._widths: Counter[int] = Counter()
        self._sources: Counter[str] = Counter()
        self._versions: Counter[int] = Counter()
        self._score = np.zeros(BINS, np.int64)
        self._visibility = np.zeros(BINS, np.int64)
        self._sequences: dict[str, _SequenceCounts] = {}
        self._runs: dict[tuple[str, str, str | None], list[RunSwitches]] = {}
        self._distributions = Distributions()

    def add(self, sample: AssociationSample, directory: str) -> None:
        """Adds the next sample of a folder."""
        self._add_sums(sample)
        self._distributions.add(sample)
        self._widths[sample.track_embeddings.shape[1]] += 1
        self._sources[sample.metadata.label_source] += 1
        self._versions[sample.metadata.feature_version] += 1
        self._score += _tenths(sample.det_features[:, 4])
        self._visibility += _tenths(sample.det_features[:, 5])
        name = sample.metadata.sequence or UNKNOWN_SEQUENCE
        sequence = self._sequences.setdefault(name, _SequenceCounts())
        sequence.samples += 1
        sequence.matched_pairs += int(sample.matched.sum())
        sequence.frames.add(sample.frame_idx)
        runs = self._runs.setdefault((name, directory, sample.metadata.run), [RunSwitches()])
        if sample.frame_idx <= runs[-1].last_frame:  # frame numbers start again: another run
            runs.append(RunSwitches())
        runs[-1].add(sample)

    def _add_sums(self, sample: AssociationSample) -> None:
        matched = int(sample.matched.sum())
        unmatched = int((sample.assigned_track_ids < 0).sum())
        self._totals.update(
            samples=1,
            tracks=len(sample.track_ids),
            detections=sample.detection_count,
            matched_pairs=matched,
            unmatched=unmatched,
            new_tracks=sample.detection_count - matched - unmatched,
            pairs=sample.mask_matrix.size,
            allowed_pairs=int(np.count_nonzero(sample.mask_matrix)),
            truncated=int(sample.metadata.embedding_truncated),
            zero_tracks=int((~sample.track_embeddings.any(axis=1)).sum()),
            zero_detections=int((~sample.det_embeddings.any(axis=1)).sum()),
        )

    def report(
        self,
        directories: tuple[str, ...],
        corrupt: dict[str, str],
        missing: list[str],
        unlisted: list[str],
        notes: list[str],
    ) -> InspectionReport:
        """The sums as a report."""
        if len(self._widths) > 1:
            notes.append(f"embeddings of different widths: {', '.join(map(str, sorted(self._widths)))}")
        if len(self._versions) > 1:
            notes.append(f"features of different versions: {', '.join(map(str, sorted(self._versions)))}")
        totals = self._totals
        return InspectionReport(
            directories,
            totals["samples"],
            tuple(self._sequence_reports()),
            totals["tracks"],
            totals["detections"],
            totals["matched_pairs"],
            totals["new_tracks"],
            totals["unmatched"],
            totals["pairs"],
            totals["allowed_pairs"],
            dict(sorted(self._widths.items())),
            EmbeddingReport(totals["tracks"], totals["zero_tracks"]),
            EmbeddingReport(totals["detections"], totals["zero_detections"]),
            tuple(self._score.tolist()),
            tuple(self._visibility.tolist()),
            dict(sorted(self._sources.items())),
            dict(sorted(self._versions.items())),
            totals["truncated"],
            self._agreement(),
            corrupt,
            tuple(missing),
            tuple(unlisted),
            tuple(notes),
            len({directory if name == UNKNOWN_SEQUENCE else name for name, directory, _ in self._runs}),
            self._distributions,
        )

    def _sequence_reports(self) -> Iterator[SequenceReport]:
        for name, sequence in sorted(self._sequences.items()):
            runs = [run for key, parts in self._runs.items() if key[0] == name for run in parts]
            true = [run.true for run in runs if run.has_truth]
            yield SequenceReport(
                name,
                sequence.samples,
                len(sequence.frames),
                len(runs),
                sequence.matched_pairs,
                _sum_known(run.estimated for run in runs),
                sum(true) if true else None,
            )

    def _agreement(self) -> tuple[SwitchAgreement, ...]:
        runs = [run for parts in self._runs.values() for run in parts if run.has_truth and run.estimated is not None]
        if not runs:
            return ()
        return tuple(sum((run.agreement(window) for run in runs), SwitchAgreement(window)) for window in SWITCH_WINDOWS)


def _sum_known(counts: Iterable[int | None]) -> int | None:
    """The sum of the counts that were measured; None when none was."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _tenths(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many values lie in each tenth of [0, 1]; values outside count in the nearest one."""
    return np.bincount(np.minimum(np.clip(values, 0, 1) * BINS, BINS - 1).astype(np.int64), minlength=BINS)


def render_text(report: InspectionReport) -> str:
    """The report in lines of text, without a last line end."""
    return "\n".join(_report_lines(report))


def _report_lines(report: InspectionReport) -> Iterator[str]:
    yield f"samples          {report.samples:,} in {', '.join(report.directories)}"
    if report.samples:
        yield from _count_lines(report)
        yield from _sequence_lines(report)
        yield from _agreement_lines(report.agreement)
        yield from _histogram_lines("detection score", report.score)
        yield from _histogram_lines("detection visibility", report.visibility)
    yield from _name_lines("corrupt", [f"{name}: {reason}" for name, reason in report.corrupt.items()])
    yield from _name_lines("missing (listed in the manifest, not there)", report.missing)
    yield from _name_lines("not in the manifest (the next logger lists them)", report.unlisted)
    yield from _name_lines("remarks", report.notes)
    yield ""
    yield "usable" if report.usable else "NOT USABLE as it is: " + _reason(report)


def _count_lines(report: InspectionReport) -> Iterator[str]:
    yield f"sequences        {len(report.sequences):,}"
    yield f"frames           {report.frames:,}"
    yield f"matched pairs    {report.matched_pairs:,}: {report.advice}"
    if report.obstacles:
        yield f"training         refuses these samples: {'; '.join(report.obstacles)}"
    yield (
        f"detections       {report.detections:,}: {_share(report.unmatched, report.detections)} unmatched, "
        f"{_share(report.new_tracks, report.detections)} began a track"
    )
    yield f"gate density     {_share(report.allowed_pairs, report.pairs)} of {report.pairs:,} pairs allowed"
    widths = ", ".join(f"{width}" for width in report.embedding_widths)
    yield (
        f"embeddings       width {widths}; rows of zeros: {report.track_embeddings.zero_share:.1%} of tracks, "
        f"{report.det_embeddings.zero_share:.1%} of detections"
        + (f"; cut in {report.truncated:,} samples" if report.truncated else "")
    )
    sources = ", ".join(f"{name} ({count:,})" for name, count in report.label_sources.items())
    versions = ", ".join(map(str, report.feature_versions))
    yield f"labels           by {sources}; features of version {versions}"


def _sequence_lines(report: InspectionReport) -> Iterator[str]:
    width = max(8, *(len(sequence.sequence) for sequence in report.sequences))
    yield ""
    yield f"{'sequence':<{width}}  samples   frames  runs  matched  suspected switches  true switches"
    for sequence in report.sequences:
        true, suspected = (
            "-" if count is None else f"{count:,}" for count in (sequence.true_id_switches, sequence.est_id_switches)
        )
        yield (
            f"{sequence.sequence:<{width}} {sequence.samples:>8,} {sequence.frames:>8,} {sequence.runs:>5,} "
            f"{sequence.matched_pairs:>8,} {suspected:>19} {true:>14}"
        )


def _agreement_lines(agreements: Sequence[SwitchAgreement]) -> Iterator[str]:
    for agreement in agreements:
        distance = "same frame" if agreement.window == 0 else f"within {agreement.window} frames"
        yield (
            f"suspected against true switches, {distance}: precision {_rate(agreement.precision)} "
            f"({agreement.suspected_right} of {agreement.suspected} frames), recall {_rate(agreement.recall)} "
            f"({agreement.true_found} of {agreement.true} frames)"
        )


def _histogram_lines(title: str, counts: Sequence[int]) -> Iterator[str]:
    yield ""
    yield f"{title} ({sum(counts):,})"
    highest = max(*counts, 1)
    for i, count in enumerate(counts):
        bar = "█" * round(_BAR_WIDTH * count / highest) or ("▏" if count else "")
        yield f"  {i / len(counts):.1f}–{(i + 1) / len(counts):.1f}  {bar:<{_BAR_WIDTH}}  {count:,}".rstrip()


def _name_lines(title: str, names: Sequence[str]) -> Iterator[str]:
    if not names:
        return
    yield ""
    yield f"{title}: {len(names):,}"
    yield from (f"  {name}" for name in names[:_MAX_NAMES])
    if len(names) > _MAX_NAMES:
        yield f"  … and {len(names) - _MAX_NAMES:,} more (all of them with --json)"


def _reason(report: InspectionReport) -> str:
    parts = []
    if not report.samples:
        parts.append("no sample can be read")
    if report.corrupt:
        parts.append(f"{len(report.corrupt):,} files are corrupt: remove them")
    if report.missing:
        parts.append(f"{len(report.missing):,} listed samples are missing: restore them, or remove their lines")
    return "; ".join(parts)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
