"""`Reprompter`: prompts of a person about a finished run of masks, propagated by the run's predictor.

One object is moved, and only as far as its `PromptTask` says. Both directions are journaled; when both are there, the
side archive of the prompt is written, whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from trackweave.errors import (
    ArtifactError,
    InputError,
    PredictorUnavailable,
    PromptError,
    SettingError,
    TrackweaveError,
    shortened_line,
    wording,
)
from trackweave.frames.source import FrameSource
from trackweave.ids import FrameIndex, LocalIndex
from trackweave.pipelines.prompts import at_frame_size
from trackweave.pipelines.run import Run
from trackweave.predictors.base import PredictorSession, VideoPredictor
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.registry import choose_predictor
from trackweave.predictors.sam.settings import SamSettings
from trackweave.settings import Settings
from trackweave.storage.corrected_masks import PROMPT_ID, write_prompt
from trackweave.storage.mask_archive import object_rows
from trackweave.storage.result_log import ResultJournal
from trackweave.storage.run import RunManifest
from trackweave.structures.corrected_tracks import PromptTask
from trackweave.structures.corrections import Prompted
from trackweave.structures.prompts import Prompt
from trackweave.structures.tracks import FrameObjects
from trackweave.tracking.mask_tracker import add_mark, propagate_one_way
from trackweave.tracking.settings import TrackingSettings

SettingsT = TypeVar("SettingsT", bound=Settings)

Advance = Callable[[int, int], None]
"""Gets how many frames are done, and the absolute index of the last of them."""


class StoppedError(TrackweaveError):
    """The propagation was asked to end; a direction that is finished is kept."""


def mark_of(act: Prompted, size: tuple[int, int]) -> Prompt:
    """What a person marked, as a predictor takes it.

    Args:
        act: the prompt.
        size: `(H, W)` of the frames.

    Raises:
        PromptError: it lies outside the frame, is empty, or has points outside the object alone.
    """
    where = f"prompt on frame {act.frame}"
    mask: Mapping[str, Any] | None = None
    if act.mask is not None:
        mask = {"size": list(act.mask[0]), "counts": act.mask[1]}
    points, labels = [point[:2] for point in act.points], [point[2] for point in act.points]
    prompt = Prompt(act.frame, PROMPT_ID, points, labels, act.box, mask)
    if points and 1 not in labels:
        raise PromptError(f"{where}: has points outside of the object only: give one inside of it")
    return at_frame_size(prompt, size, where)


class Reprompter:
    """Moves prompts about a finished run of masks; a `with` block. The frames and the session stay open in it, so that
    what a model computed for a frame is there for the next prompt.

    Args:
        run: the run.
        frames: where the input lies now, or the frames themselves, which stay open; None = where it lay.
        predictor: None = that of the run, with its settings.
    """

    def __init__(
        self, run: Run, *, frames: str | Path | FrameSource | None = None, predictor: VideoPredictor | None = None
    ) -> None:
        self._run, self._where, self._predictor = run, frames, predictor
        self._manifest = RunManifest.load(run.paths.manifest)
        self._stack = ExitStack()
        self._opened: tuple[FrameSource, PredictorSession, str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened = None
        self._stack.close()

    def _open(self) -> tuple[FrameSource, PredictorSession, str]:
        if self._opened is None:
            predictor = self._predictor or run_predictor(self._manifest)
            source = self._run.summary.input.path
            if self._where is None and (source is None or not Path(source).exists()):
                text = f"its input {source or 'has no path'} is not there, and a prompt needs the frames"
                raise InputError(f"{self._run.root}: {text}: name them in {wording('frames=', '--frames')}")
            if isinstance(self._where, FrameSource):
                frames = self._checked(self._where)
            else:
                frames = self._run.video(self._where)
                self._stack.callback(frames.close)
            session = predictor.open(frames)
            self._stack.callback(session.close)
            self._opened = frames, session, predictor.name
        return self._opened

    def _checked(self, frames: FrameSource) -> FrameSource:
        """Frames that were given, if they are those of the run."""
        listed = self._run.frames
        if list(map(int, frames.indices)) != list(map(int, listed.indices)) or frames.size != listed.size:
            raise InputError(f"{self._run.root}: the frames that were given are not those of the run")
        return frames

    def propagate(
        self, task: PromptTask, advance: Advance = lambda done, frame: None, stop: Callable[[], bool] = lambda: False
    ) -> Path:
        """Moves one prompt, and writes its side archive.

        Args:
            task: the prompt, and how far it goes.
            advance: is called after each frame.
            stop: is asked before each frame whether to end.

        Returns:
            The side archive.

        Raises:
            StoppedError: `stop` said so.
            InputError: the frames are not there.
            PredictorError: the predictor failed.
            RunFolderError: the disk is full, or another process moves this prompt.
        """
        frames, session, name = self._open()
        indices = [int(index) for index in frames.indices]
        start, first, last = (bisect_left(indices, frame) for frame in (task.act.frame, task.first, task.last))
        settings = _recorded(TrackingSettings, self._manifest, "config", "settings")
        add_mark(session, LocalIndex(start), PROMPT_ID, mark_of(task.act, frames.size))
        journal = ResultJournal(
            self._run.paths.prompt_journal(task.key), f"{self._manifest.fingerprint} {name} {task.key}"
        )
        done = 0
        try:
            finished = {str(batch.get("direction")) for batch in journal.committed}
            for direction, limit in (("forward", last - start), ("backward", start - first)):
                reverse = direction == "backward"
                if direction in finished or (reverse and not limit):
                    done += limit + (not reverse)
                    continue
                for objects in propagate_one_way(
                    session, LocalIndex(start), frames, reverse=reverse, limit=limit,
                    mask_scale_ratio=settings.mask_scale_ratio,
                ):  # fmt: skip
                    if stop():
                        raise StoppedError(f"the prompt of {task.act.name} on frame {task.act.frame} was taken back")
                    seen = objects[np.flatnonzero(objects.area > 0)]
                    journal.append(int(seen.frame), object_rows(seen), seen.masks)
                    done += 1
                    advance(done, int(objects.frame))
                journal.commit({"direction": direction})
            path = self._write(task, journal, frames, settings.mask_scale_ratio, name)
        except BaseException:
            journal.close()
            raise
        finally:
            session.forget_objects(LocalIndex(start))
        journal.remove()
        return path

    def _write(
        self, task: PromptTask, journal: ResultJournal, frames: FrameSource, ratio: float, predictor: str
    ) -> Path:
        names = {int(index): name for index, name in zip(frames.indices, frames.names, strict=True)}

        def stored(frame: int) -> FrameObjects:
            rows, masks = journal.read(frame)
            columns = {key: np.ascontiguousarray(rows[key]) for key in ("id", "box", "area", "score")}
            return FrameObjects(
                FrameIndex(frame), names[frame], columns["id"], masks, columns["box"], columns["area"], columns["score"]
            )

        areas = [float(journal.read_rows(frame)["area"].sum()) for frame in journal.frames]
        return write_prompt(
            self._run.paths,
            task,
            (stored(frame) for frame in journal.frames),
            area=float(np.mean(areas)) if areas else 0.0,
            mask_scale_ratio=ratio,
            full_resolution_shape=frames.size,
            predictor=predictor,
        )


def _recorded(kind: type[SettingsT], manifest: RunManifest, part: str, key: str) -> SettingsT:
    """Settings that a run's manifest has.

    Raises:
        ArtifactError: they are not such settings.
    """
    try:
        return kind.checked(manifest.data[part].get(key))
    except (SettingError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = shortened_line(str(error))
        raise ArtifactError(f"{manifest.path}: its settings ({part}, {key}) are damaged: {reason}") from None


def run_predictor(manifest: RunManifest) -> VideoPredictor:
    """The predictor that a run's manifest names, with the settings that it had.

    Raises:
        ArtifactError: the manifest is damaged, or the run got an object as its predictor.
        PredictorUnavailable: its weights are missing, or are others now.
        MissingExtraError: its packages are not installed.
    """
    try:
        config, details = manifest.data["config"], manifest.data["predictor"]
        request, name = str(config["predictor"]), str(details["name"])
        expected = dict(config.get("predictor_identity") or {})
        weights = details["weights"]["name"] if "backend" in details else ""
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{manifest.path}: its predictor is damaged: {shortened_line(repr(error))}") from None
    if details.get("reason") == "given by the caller":
        text = wording("give the same one as predictor=", "the run can be prompted anew in Python alone")
        raise ArtifactError(f"{manifest.path}: its predictor {name} was given as an object: {text}")
    settings: FlowSettings | SamSettings | None = None
    if name == "flow":
        request, settings = "flow", _recorded(FlowSettings, manifest, "predictor", "settings")
    elif "backend" in details:
        if request == "auto" or "=" not in request:
            request = f"{details['backend']}={weights}"
        settings = _recorded(SamSettings, manifest, "predictor", "settings")
    try:
        chosen = choose_predictor(request, settings)
    except SettingError as error:
        raise ArtifactError(f"{manifest.path}: its predictor {request!r} is not known here: {error}") from None
    if dict(chosen.identity) != expected:
        differ = sorted(key for key in {*chosen.identity, *expected} if chosen.identity.get(key) != expected.get(key))
        text = f"its predictor {request!r} is another one now (other {', '.join(differ)})"
        raise PredictorUnavailable(f"{manifest.path}: {text}")
    return chosen.predictor
