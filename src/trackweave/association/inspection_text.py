"""An inspection report as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trackweave.association.inspection import InspectionReport
from trackweave.association.switches import SwitchAgreement

_NAMES = 20
_BAR = 40


def render_text(report: InspectionReport) -> str:
    """The report in lines of text, without a last line end."""
    return "\n".join(_lines(report))


def _lines(report: InspectionReport) -> Iterator[str]:
    yield f"samples          {report.samples:,} in {', '.join(report.directories)}"
    if report.samples:
        yield from _counts(report)
        yield from _sequences(report)
        yield from _agreement(report.agreement)
        yield from _histogram("detection score", report.score)
        yield from _histogram("detection visibility", report.visibility)
    yield from _names("corrupt", [f"{name}: {reason}" for name, reason in report.corrupt.items()])
    yield from _names("missing (listed in the manifest, not there)", report.missing)
    yield from _names("not in the manifest (the next logger lists them)", report.unlisted)
    yield from _names("remarks", report.remarks)
    yield ""
    yield "usable" if report.usable else "NOT USABLE as it is: " + _reason(report)


def _counts(report: InspectionReport) -> Iterator[str]:
    yield f"sequences        {len(report.sequences):,}"
    yield f"frames           {report.frames:,}"
    yield f"matched pairs    {report.matched_pairs:,}: {report.advice}"
    yield (
        f"detections       {report.detections:,}: {_share(report.unmatched, report.detections)} unmatched, "
        f"{_share(report.born, report.detections)} founded a track"
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


def _sequences(report: InspectionReport) -> Iterator[str]:
    width = max(8, *(len(sequence.sequence) for sequence in report.sequences))
    yield ""
    yield f"{'sequence':<{width}}  samples   frames  runs  matched  suspected switches  true switches"
    for sequence in report.sequences:
        true = "-" if sequence.true_id_switches is None else f"{sequence.true_id_switches:,}"
        yield (
            f"{sequence.sequence:<{width}} {sequence.samples:>8,} {sequence.frames:>8,} {sequence.runs:>5,} "
            f"{sequence.matched_pairs:>8,} {sequence.est_id_switches:>19,} {true:>14}"
        )


def _agreement(agreements: Sequence[SwitchAgreement]) -> Iterator[str]:
    for agreement in agreements:
        where = "same frame" if agreement.window == 0 else f"within {agreement.window} frames"
        yield (
            f"suspected against true switches, {where}: precision {_rate(agreement.precision)} "
            f"({agreement.suspected_right} of {agreement.suspected} frames), recall {_rate(agreement.recall)} "
            f"({agreement.true_found} of {agreement.true} frames)"
        )


def _histogram(title: str, counts: Sequence[int]) -> Iterator[str]:
    yield ""
    yield f"{title} ({sum(counts):,})"
    highest = max(*counts, 1)
    for i, count in enumerate(counts):
        bar = "█" * round(_BAR * count / highest) or ("▏" if count else "")
        yield f"  {i / len(counts):.1f}–{(i + 1) / len(counts):.1f}  {bar:<{_BAR}}  {count:,}".rstrip()


def _names(title: str, names: Sequence[str]) -> Iterator[str]:
    if not names:
        return
    yield ""
    yield f"{title}: {len(names):,}"
    yield from (f"  {name}" for name in names[:_NAMES])
    if len(names) > _NAMES:
        yield f"  … and {len(names) - _NAMES:,} more (all of them with --json)"


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
