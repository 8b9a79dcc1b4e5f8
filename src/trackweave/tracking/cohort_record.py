"""`CohortRecord`: what one finished candidate frame adds to a level; the journal holds one per frame.

Masks and boxes are not in it: they lie in the journal before it (`storage.journal`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from trackweave.errors import ArtifactError
from trackweave.ids import FrameIndex, TrackId
from trackweave.predictors.base import PredictorSession
from trackweave.structures.candidates import PreviewSegment
from trackweave.structures.warning import RunWarning
from trackweave.tracking.stores import DedupStats


@dataclass(frozen=True)
class CohortRecord:
    """One candidate frame (or, of a person's prompts, one frame with new objects), after it was tracked.

    Attributes:
        local: its position among the sampled frames.
        frame: its absolute index.
        name: its name.
        dedup: statistics of the filter on this frame alone.
        kinds: id of each object that was prompted → `mask` or `box`.
        previews: preview material, if the frame is a preview frame and an object was prompted.
        seconds: durations by stage.
        work: what the predictor counted meanwhile.
        remarks: everything that the predictor has said of itself so far, if that has changed.
        omissions: candidates that were only found to be bad when they were loaded.
        together: objects of the cohort, of all levels.
    """

    local: int
    frame: FrameIndex
    name: str
    dedup: DedupStats
    kinds: Mapping[TrackId, str]
    previews: Sequence[PreviewSegment] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    work: Mapping[str, float] = field(default_factory=dict)
    remarks: Sequence[RunWarning] = ()
    omissions: Sequence[RunWarning] = ()
    together: int = 0

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for the journal."""
        return {
            "local": self.local,
            "frame": int(self.frame),
            "name": self.name,
            "dedup": asdict(self.dedup),
            "kinds": [[int(track_id), kind] for track_id, kind in self.kinds.items()],
            "previews": [asdict(segment) for segment in self.previews],
            "seconds": dict(self.seconds),
            "work": dict(self.work),
            "remarks": [warning.to_json() for warning in self.remarks],
            "omissions": [warning.to_json() for warning in self.omissions],
            "together": self.together,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CohortRecord:
        """The record back.

        Raises:
            KeyError, TypeError, ValueError: not what `to_json` gave.
        """
        dedup = dict(data["dedup"])
        dedup["frames"] = {int(frame): (int(pair[0]), int(pair[1])) for frame, pair in dedup["frames"].items()}
        return cls(
            int(data["local"]),
            FrameIndex(int(data["frame"])),
            str(data["name"]),
            DedupStats(**dedup),
            {TrackId(int(track_id)): str(kind) for track_id, kind in data["kinds"]},
            [PreviewSegment(**{**segment, "box": tuple(segment["box"])}) for segment in data["previews"]],
            dict(data["seconds"]),
            dict(data["work"]),
            [RunWarning.from_json(warning) for warning in data["remarks"]],
            [RunWarning.from_json(warning) for warning in data["omissions"]],
            int(data["together"]),
        )


def read_cohorts(committed: Iterable[Mapping[str, Any]], where: str) -> list[CohortRecord]:
    """What a journal holds, as records.

    Args:
        committed: what `CohortRecord.to_json` gave.
        where: the file, for the message.

    Raises:
        ArtifactError: something else than records.
    """
    try:
        return [CohortRecord.from_json(data) for data in committed]
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{where}: the journal lacks or misspells {error}; remove it") from None


class SessionWatch:
    """A session, and what it has said of itself since it was last asked.

    Levels that share a session share its watch: work goes to the level that caused it.
    """

    def __init__(self, session: PredictorSession) -> None:
        self.session = session
        self._remarks: list[RunWarning] = []
        self._counters: dict[str, float] = {}

    def work(self) -> dict[str, float]:
        """What was counted since the last call."""
        before, self._counters = self._counters, dict(self.session.counters)
        return {name: value - before.get(name, 0) for name, value in self._counters.items()}

    def remarks(self) -> list[RunWarning]:
        """All remarks, if they are others than at the last call; else none."""
        before, self._remarks = self._remarks, list(self.session.remarks)
        return list(self._remarks) if self._remarks != before else []


def add_work(total: dict[str, float], work: Mapping[str, float]) -> None:
    """Adds counters to a total, name by name."""
    for name, value in work.items():
        total[name] = total.get(name, 0) + value


def fold_remarks(snapshots: Iterable[Sequence[RunWarning]]) -> list[RunWarning]:
    """One list of what a predictor said of itself, from what it had said at several times, in one process or more.

    A later snapshot replaces what an earlier one says under the same code: a session words its remarks anew as it goes.
    """
    found: list[RunWarning] = []
    for snapshot in snapshots:
        codes = {remark.code for remark in snapshot}
        found = [remark for remark in found if remark.code not in codes] + list(snapshot)
    return found
