"""`MaskStream`: masks of a live source or an iterator, frame by frame; what `track_masks(…, online=True)` returns."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import (
    CandidateError,
    FrameError,
    PromptError,
    SettingError,
    TrackweaveError,
    listed,
    wording,
)
from trackweave.formats.candidates import candidates_in_memory
from trackweave.frames.arrays import StreamFrames, stream_frame
from trackweave.frames.cuts import CutDetector
from trackweave.frames.live import LiveFrame, LiveFrames, is_live, open_live, without_password
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource, RGBFrame
from trackweave.identity.settings import IdentitySettings
from trackweave.ids import PROMPTED_LEVEL, FrameIndex, IdAllocator, Level, LocalIndex
from trackweave.pipelines.identity import OVERLAY_RATE, write_identities
from trackweave.pipelines.mask_inputs import GENERATED_LEVELS, CandidateInput, GivenCandidates, MaskFrames
from trackweave.pipelines.prompts import MarkedObjects, UserPrompts, read_user_prompts
from trackweave.pipelines.proposing import OpenedGenerator, check_stride, class_names_of, found_on, open_generator
from trackweave.pipelines.run import Run
from trackweave.predictors.registry import ChosenPredictor
from trackweave.predictors.sam.settings import SamSettings
from trackweave.progress import TimingAggregator, peak_rss_mb
from trackweave.proposals.generators import GeneratorChoice, GeneratorRequest
from trackweave.proposals.refine import refine
from trackweave.proposals.schedule import SeenArea
from trackweave.storage.candidates import (
    FilteredFrame,
    FilteredManifest,
    filtered_path,
    leave_out,
    read_candidates,
    read_filtered,
)
from trackweave.storage.files import recorded_path
from trackweave.storage.run import FrameList, RunFolder, RunManifest
from trackweave.structures.candidates import CandidateFrame, Candidates
from trackweave.structures.prompts import Prompt
from trackweave.structures.run_log import RunLog, RunWarning
from trackweave.structures.run_summary import InputSummary, LevelSummary, MaskSummary, PredictorSummary
from trackweave.structures.tracks import FrameObjects, TrackClasses, Tracks
from trackweave.tracking.candidate_loader import CandidatePrompts
from trackweave.tracking.level_runner import finish_level
from trackweave.tracking.mask_tracker import LabelPrompts, MarkedFrame, TrackedLevel
from trackweave.tracking.online import LevelPrompts, OnlineLevel, OnlineTracker
from trackweave.tracking.pipeline_context import LevelContext, UnsampledVideo, summarise_tracking_stats
from trackweave.tracking.settings import OnlineSettings, TrackingSettings
from trackweave.tracking.stores import DedupStore, FrameResultStore
from trackweave.visualization.annotators import OverlayPainter
from trackweave.visualization.settings import OverlaySettings, overlay_settings
from trackweave.visualization.video import Mp4Writer

StreamInput = int | str | Path | NDArray[np.uint8] | FrameSource | Iterable[Any]
"""A webcam's number, an address, a file or folder, frames, or an iterator of frames or of pairs, see `MaskStream`."""
PromptKind = Literal["generator", "candidates", "prompts"]


@dataclass(frozen=True)
class StreamRequest:
    """What is to be tracked online; the attributes are arguments and options of `track_masks`."""

    frames: StreamInput
    output: str | Path | None
    chosen: ChosenPredictor
    settings: TrackingSettings
    online: OnlineSettings
    candidates: CandidateInput | None = None
    prompts: UserPrompts | None = None
    levels: Sequence[int] | None = None
    generator: GeneratorRequest = "auto"
    candidate_stride: int | None = None
    sam: SamSettings | None = None
    overlay: bool | OverlaySettings = True
    overwrite: bool = False
    identity: bool | IdentitySettings = True

    def check(self) -> None:
        """Refuses what shows before the first frame.

        Raises:
            SettingError: settings that do not fit.
        """
        check_stride(self.candidate_stride)
        predictor = self.chosen.predictor
        if getattr(predictor, "segments_points", True) is False:
            store = wording("SamSettings(feature_store=True)", "--feature-store")
            raise SettingError(
                f"predictor {predictor.name} holds the whole video without {store}: online it needs that"
            )
        if (
            self.levels is not None
            and len(self.levels) != 1
            and (self.candidates is not None or self.prompts is not None)
        ):
            remedy = wording("levels=[2]", "--levels 2")
            raise SettingError(
                f"what is given has one granularity, not levels {list(self.levels)}: name one, as {remedy}"
            )


class _StreamItem(NamedTuple):
    """One frame that came: its image, seconds, and what came with it."""

    image: RGBFrame
    time: float | None
    prompts: Any


@dataclass
class _Waiting:
    """A frame on its way: those of the last `delay` frames wait for what comes late."""

    image: RGBFrame
    time: float | None
    candidates: list[Any] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)


class MaskStream(Iterator[Tracks]):
    """Tracks of a stream: asked for the next, it takes frames until those of one more frame are final.

    A result is the `Tracks` of one frame, with masks at the stored scale and levels; every frame has one, in order. The
    result of frame t comes as soon as frame t + `delay` has. Ids count up over all levels. Memory holds the objects
    that are alive and the last few frames; with an output also an index of the results, a few bytes per object-frame,
    while masks go to a file.

    Frames are `(H, W, 3)` uint8 RGB, or pairs `(frame, what)` of a frame and what is prompted on it: `Prompt`s; or
    candidates, as `track_masks` takes them for one frame; or a mapping from the index of a frame that waits still, or
    is to come, to either; or None. Where the first frame comes alone, candidates are generated.

    `close`, the end of a `with` block, also by an error, and the end of the frames write the run folder, if there is an
    output: of what came until then.

    Args:
        request: what is asked for.

    Attributes:
        log: what was done differently from what was asked.
        run: the run, once it is written; None without an output.

    Raises:
        InputError: nothing can be opened; while iterating: a frame, a candidate or a prompt cannot be used.
        RunFolderError: the output holds another run, or cannot be written.
        PredictorError: while iterating: the predictor failed, or cannot run online.
        SettingError: a setting is wrong.
    """

    def __init__(self, request: StreamRequest) -> None:
        request.check()
        self.log = RunLog(request.settings.on_bad_item)
        self.log.merge(request.chosen.warnings)
        self.run: Run[MaskSummary] | None = None
        self._request = request
        self._waiting: deque[_Waiting] = deque()
        self._came = 0
        self._size: tuple[int, int] | None = None
        self._following: _Following | None = None
        with ExitStack() as stack:
            self._items, self._source, self._rate = _open(request.frames, stack)
            self._folder = None
            if request.output is not None:
                self._folder = stack.enter_context(RunFolder(request.output))
                named = [one for one in (request.frames, request.candidates) if isinstance(one, str | Path)]
                inputs = [one for one in named if Path(one).exists()]
                self._manifest = self._folder.claim(overwrite=request.overwrite, inputs=inputs)
            self._stack = stack.pop_all()
        self._results = self._follow()

    @property
    def delay(self) -> int:
        """Frames by which results lag behind."""
        return self._request.online.delay

    def __next__(self) -> Tracks:
        try:
            return next(self._results)
        except StopIteration:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()  # what came before the error cannot be had again
        except TrackweaveError as second:
            error.add_note(f"what came before it is not written: {second}")

    def close(self) -> Run[MaskSummary] | None:
        """Ends the stream; writes the run where there is an output and a frame came. May be called twice.

        Raises:
            RunFolderError: a file cannot be written.
            PromptError: nothing was ever prompted.
        """
        following, self._following = self._following, None
        try:
            if following is not None:
                self._note_ending(following)
                if self._folder is not None:
                    self.run = following.finish(self._folder, self._manifest, self._source)
        finally:
            if following is not None:
                following.close()
            self._release()
        return self.run

    def _release(self) -> None:
        self._results.close()
        if self._following is not None:
            self._following.close()
            self._following = None
        self._stack.close()

    def _note_ending(self, following: _Following) -> None:
        if isinstance(self._items, LiveFrames) and self._items.ending is not None:
            self.log.warn("frames", "stream-ended", f"{self._source}: {self._items.ending}")
        unused = sorted(frame for frame in following.due if frame >= following.frames.count)
        if unused:
            text = f"nothing came of what is prompted on frame {listed(unused)}: the stream ended before"
            self.log.warn("prompts", "prompt-unused", text, frames=unused)

    def _follow(self) -> Generator[Tracks, None, None]:
        for item in islice(map(_parsed, self._unbroken()), self._request.online.max_frames):
            if not self._take(item):
                continue
            if len(self._waiting) > self.delay:
                yield self._advance()
        while self._waiting:
            yield self._advance()
        if not self._came:
            raise FrameError(f"{self._source}: no frame came: give at least one")

    def _unbroken(self) -> Iterator[Any]:
        """The items; a live source that breaks off has ended: what it has shown cannot be had again."""
        try:
            yield from self._items
        except FrameError as error:
            if not isinstance(self._items, LiveFrames) or not self._came:
                raise
            self.log.warn("frames", "stream-broke-off", str(error))

    def _take(self, item: _StreamItem) -> bool:
        """Lets a frame wait, with what came with it; False: it cannot be used and is left out."""
        try:
            image = stream_frame(item.image, self._came, self._size)
        except FrameError as error:
            self.log.skip("frame-skipped", str(error), error=FrameError)
            return False
        if self._following is None:
            self._size = (image.shape[0], image.shape[1])
            self._following = _Following(self._request, StreamFrames(self._size), self.log, self._rate, self._folder)
            self._following.begin(brings_nothing=item.prompts is _ALONE)
        self._waiting.append(_Waiting(image, item.time))
        self._came += 1
        if item.prompts is not None and item.prompts is not _ALONE:
            try:
                self._sort_in(item.prompts)
            except (PromptError, CandidateError) as error:
                self.log.skip("prompt-skipped", str(error), stage="prompts", error=type(error), each=True)
        return True

    def _sort_in(self, given: Any) -> None:
        """What came with the frame that waits last, each part to the frame that it is meant for.

        Raises:
            PromptError, CandidateError: that frame has passed.
            SettingError: candidates and prompts in one stream.
        """
        last = self._came - 1
        is_by_frame = isinstance(given, Mapping) and given and all(isinstance(key, int | np.integer) for key in given)
        for frame, value in given.items() if is_by_frame else [(None, given)]:
            prompts = _as_prompts(value)
            assert self._following is not None
            self._following.decide("candidates" if prompts is None else "prompts")
            if prompts is None:
                self._wait_on(int(last if frame is None else frame), CandidateError).candidates.append(value)
                continue
            for prompt in prompts:
                if isinstance(prompt.frame, str):
                    raise PromptError(
                        f"prompt on frame {prompt.frame}: frames of a stream have no names: give its index"
                    )
                self._wait_on(prompt.frame, PromptError).prompts.append(prompt)

    def _wait_on(self, frame: int, error: type[PromptError] | type[CandidateError]) -> _Waiting:
        """Where what is meant for a frame is kept until its turn."""
        assert self._following is not None
        first, last = self._came - len(self._waiting), self._came - 1
        if frame > last:
            return self._following.due.setdefault(frame, _Waiting(self._waiting[-1].image, None))
        if frame >= first:
            return self._waiting[frame - first]
        delay = wording(f"online=OnlineSettings(delay={last - frame})", f"--online.delay {last - frame}")
        raise error(
            f"frame {frame} has passed: the stream is at frame {last}, and results lag {self.delay} frames behind: "
            f"give what is prompted with its frame, or set {delay}"
        )

    def _advance(self) -> Tracks:
        assert self._following is not None
        return self._following.advance(self._waiting.popleft())


_ALONE = object()
"""A frame came without anything, not even None."""


def _parsed(item: Any) -> _StreamItem:
    if isinstance(item, LiveFrame):
        return _StreamItem(item.image, item.time, _ALONE)
    if isinstance(item, _StreamItem):
        return item
    if isinstance(item, tuple) and len(item) == 2:
        return _StreamItem(item[0], None, item[1])
    return _StreamItem(item, None, _ALONE)


def _as_prompts(value: Any) -> Sequence[Prompt] | None:
    """Prompts, or None where it is something else."""
    if isinstance(value, Prompt):
        return [value]
    if isinstance(value, list | tuple) and value and all(isinstance(one, Prompt) for one in value):
        return value
    return None


def _open(frames: StreamInput, stack: ExitStack) -> tuple[Iterator[Any], str, float]:
    """The items of a stream, what messages and manifests call it, and its frames per second.

    Raises:
        FrameError: it cannot be opened.
        SettingError: neither a source nor frames.
    """
    if isinstance(frames, int) or (isinstance(frames, str) and is_live(frames)):
        return stack.enter_context(open_live(frames)), without_password(str(frames)), OVERLAY_RATE
    if isinstance(frames, str | os.PathLike | FrameSource | np.ndarray):
        source = frames if isinstance(frames, FrameSource) else stack.enter_context(open_frames(frames))
        name = "memory" if source.path is None else recorded_path(source.path)
        times = source.times
        items = (_StreamItem(source[k], None if times is None else times[k], _ALONE) for k in range(len(source)))
        return items, name, source.frame_rate or OVERLAY_RATE
    try:
        return iter(frames), "memory", OVERLAY_RATE
    except TypeError:
        kind = type(frames).__name__
        raise SettingError(f"frames are a source, an array or an iterator of frames, not {kind}") from None


class _GivenLevel(NamedTuple):
    """Candidates of a level that are known beforehand, by frame."""

    manifest: FilteredManifest
    frames: Mapping[int, FilteredFrame]


class _Following:
    """Tracks over the frames that came, and what is kept of them for the run folder.

    Args:
        request: what is asked for.
        frames: the stream.
        log: takes the warnings.
        rate: frames per second of the overlay.
        folder: where results go; None = nowhere.

    Attributes:
        due: frames to come → what is prompted on them.
    """

    def __init__(
        self, request: StreamRequest, frames: StreamFrames, log: RunLog, rate: float, folder: RunFolder | None
    ) -> None:
        self.frames, self.due = frames, dict[int, _Waiting]()
        self._request, self._log, self._folder = request, log, folder
        self._stack, self._timer = ExitStack(), TimingAggregator()
        self._kind: PromptKind | None = None
        self._levels: dict[Level, OnlineLevel] = {}
        self._sources: dict[Level, CandidatePrompts] = {}
        self._tracker: OnlineTracker | None = None
        self._generator: OpenedGenerator | None = None
        self._given: dict[Level, _GivenLevel] = {}
        self._marked = MarkedObjects()
        self._next_id = 1
        self._seen = SeenArea()
        self._cuts = CutDetector() if request.settings.cuts == "detect" else None
        self._cut_frames: list[LocalIndex] = []
        self._prompt_frames: dict[Level, int] = {}
        self._times: list[float | None] = []
        self._class_names: dict[int, str] = {}
        self._classes = TrackClasses()
        drawn = OverlayPainter(overlay_settings(request.overlay), class_names=self._class_names)
        self._painter, self._video = drawn, None
        drawing = overlay_settings(request.overlay) if request.settings.render_viz else None
        if folder is not None and drawing is not None:
            self._video = self._stack.enter_context(ExitStack())
            self._writer = Mp4Writer(folder.paths.overlay, min(max(rate, 1), 120))

    # --- what is prompted ----------------------------------------------------------------------------------------

    def begin(self, *, brings_nothing: bool) -> None:
        """Reads what is known before the first frame: now that the size of frames is known, it can be checked."""
        request = self._request
        if request.prompts is not None:
            self.decide("prompts")
            self._marked = read_user_prompts(request.prompts, self._opened, self._log)
            self._note_classes(self._marked)
            ids = [int(track_id) for marks in self._marked.marks.values() for track_id in marks]
            ids += [int(image.labels.max()) for image in self._marked.images.values()]
            self._next_id = max(ids, default=0) + 1
            for local in self._marked.positions:
                self.due.setdefault(int(local), _Waiting(np.empty((0, 0, 3), np.uint8), None))
        elif request.candidates is not None:
            self.decide("candidates")
        elif brings_nothing:
            self.decide("generator")

    @property
    def _opened(self) -> MaskFrames:
        return MaskFrames(self.frames, UnsampledVideo(sys.maxsize, {}), FrameIndex(0), "memory", self.frames)

    def decide(self, kind: PromptKind) -> None:
        """Says where what is prompted comes from; the first time the levels are opened.

        Raises:
            SettingError: it comes from elsewhere.
        """
        if self._kind == kind:
            return
        if self._kind is not None:
            what = "come from a generator" if self._kind == "generator" else f"are {self._kind}"
            remedy = ": pair the first frame with None where others bring something" * (self._kind == "generator")
            raise SettingError(f"frame {self.frames.count} of the stream brings {kind}, but its prompts {what}{remedy}")
        request, self._kind = self._request, kind
        levels = sorted({Level(int(level)) for level in request.levels or GENERATED_LEVELS})
        if kind == "prompts":
            levels = [PROMPTED_LEVEL]
        elif kind == "candidates":
            levels = self._read_given(levels)
        else:
            self._generator = open_generator(
                GeneratorChoice.of(request.generator),
                levels,
                self.frames,
                request.chosen.predictor,
                request.sam,
                self._stack,
            )
            self._class_names |= class_names_of(self._generator.generator)
        ids = IdAllocator()
        for level in levels:
            online = OnlineLevel(ids, tracked=self._kept(level))
            self._levels[level] = online
            settings, size = request.settings, self.frames.size
            self._sources[level] = CandidatePrompts((), DedupStore(online.newest), settings, size)
        self._tracker = OnlineTracker(
            request.chosen.predictor,
            self.frames,
            list(self._levels.values()),
            request.settings,
            max_absent=request.online.max_absent,
            session=None if self._generator is None else self._generator.session,
        )

    def _read_given(self, levels: list[Level]) -> list[Level]:
        """The levels of candidates that are known beforehand, or of those that come with frames."""
        if self._request.candidates is None:
            if len(levels) != 1:
                remedy = wording("levels=[2]", "--levels 2")
                raise SettingError(
                    f"candidates that come with frames have one granularity: name one level, as {remedy}"
                )
            return levels
        given = GivenCandidates.open(self._request.candidates, self._request.levels, ())
        for level in given.levels:
            manifest = given.manifests.get(level)
            if manifest is None:
                assert given.root is not None
                manifest = read_filtered(filtered_path(given.root / f"level_{level}"))
            leave_out(manifest.problems, self._log, level)
            self._class_names |= manifest.class_names
            self._given[level] = _GivenLevel(manifest, {frame.frame_idx: frame for frame in manifest.frames})
        return list(given.levels)

    def _kept(self, level: Level) -> TrackedLevel | None:
        """What keeps a level's results for the run folder."""
        if self._folder is None:
            return None
        store = self._stack.enter_context(FrameResultStore(self._folder.root / "journal"))
        size = self.frames.size
        return TrackedLevel(CandidatePrompts((), DedupStore(store), self._request.settings, size), store)

    # --- frame by frame ------------------------------------------------------------------------------------------

    def advance(self, waiting: _Waiting) -> Tracks:
        """Tracks one more frame."""
        self.frames.push(waiting.image)
        local = LocalIndex(self.frames.count - 1)
        known = self.due.pop(int(local), None)
        if known is not None:
            waiting = replace(
                waiting,
                candidates=[*known.candidates, *waiting.candidates],
                prompts=[*known.prompts, *waiting.prompts],
            )
        is_cut = self._cuts is not None and self._cuts.update(waiting.image)
        if is_cut:
            self._cut_frames.append(local)
        if self._folder is not None:
            self._times.append(waiting.time)
        tracks = Tracks.empty()
        if self._tracker is not None:
            due = list(self._prompts(local, waiting, starts=is_cut or local == 0))
            for one in due:
                level = next(level for level, online in self._levels.items() if online is one.level)
                self._prompt_frames[level] = self._prompt_frames.get(level, 0) + 1
            tracks = _as_tracks(self._tracker.update(due, is_cut=is_cut), list(self._levels))
        self._draw(waiting.image, tracks, local)
        return tracks

    def _prompts(self, local: LocalIndex, waiting: _Waiting, *, starts: bool) -> Iterator[LevelPrompts]:
        if self._kind == "prompts":
            yield from self._marks(local, waiting.prompts)
            return
        for level, found in self._candidates(local, waiting, starts=starts):
            leave_out(found.problems, self._log, level)
            yield LevelPrompts(self._levels[level], self._sources[level], found)

    def _marks(self, local: LocalIndex, prompts: Sequence[Prompt]) -> Iterator[LevelPrompts]:
        """What a person marked on the frame, beforehand and with it."""
        marked = MarkedObjects()
        if prompts:
            numbered = []
            for prompt in prompts:
                track_id = self._next_id if prompt.track_id is None else prompt.track_id
                self._next_id = max(self._next_id, track_id + 1)
                numbered.append(replace(prompt, track_id=track_id))
            try:
                marked = read_user_prompts(numbered, self._opened, self._log, self._classes)
                self._note_classes(marked)
            except PromptError as error:
                self._log.skip("prompt-skipped", str(error), stage="prompts", error=PromptError, each=True)
        images = {local: self._marked.labels[local]} if local in self._marked.images else {}
        marks = {**self._marked.marks.pop(local, {}), **marked.marks.get(local, {})}
        self._marked.images.pop(local, None)
        classes = self._classes.tracks
        source = LabelPrompts(images, self.frames, marks={local: marks} if marks else {}, classes=classes)
        for frame in source.frames():
            assert isinstance(frame, MarkedFrame)
            yield LevelPrompts(self._levels[PROMPTED_LEVEL], source, frame, frame.ids)

    def _note_classes(self, marked: MarkedObjects) -> None:
        """Keeps the classes that a person gave, for what is marked later and for the files of the run."""
        self._classes = marked.classes
        self._class_names |= marked.classes.names

    def _candidates(
        self, local: LocalIndex, waiting: _Waiting, *, starts: bool
    ) -> Iterator[tuple[Level, CandidateFrame]]:
        """Each level's candidates of the frame, where there are any."""
        index, name = FrameIndex(local), self.frames.names[local]
        if self._generator is not None:
            for level, found in self._generated(local, waiting.image, starts=starts).items():
                yield Level(level), CandidateFrame(local, index, name, found)
            return
        for level, given in self._given.items():
            if index in given.frames:
                found, problems = read_candidates(given.manifest, given.frames[index], self.frames.size)
                yield level, CandidateFrame(local, index, name, found, problems)
        for value in waiting.candidates:
            manifest = candidates_in_memory({int(index): value})
            self._class_names |= manifest.class_names
            found, problems = read_candidates(manifest, manifest.frames[0], self.frames.size)
            yield next(iter(self._levels)), CandidateFrame(local, index, name, found, problems)

    def _generated(self, local: LocalIndex, image: RGBFrame, *, starts: bool) -> dict[int, Candidates]:
        """What the generator finds where a look is due, as in `propose_candidates`."""
        assert self._generator is not None
        stride, is_new_only = self._request.candidate_stride, False
        if stride is None:
            if not self._seen.advance(image, starts=starts):
                return {}
            is_new_only = not starts
        elif not starts and local % stride:
            return {}
        with self._timer.track("propose"):
            found = found_on(self._generator.generator, local, image, [int(level) for level in self._levels])
            levels = refine(found, GeneratorChoice.of(self._request.generator).candidates).levels
        if is_new_only:
            levels = {level: self._seen.new_candidates(one) for level, one in levels.items()}
        if stride is None:
            self._seen.look()
        return dict(levels)

    def _draw(self, image: RGBFrame, tracks: Tracks, local: LocalIndex) -> None:
        if self._video is None:
            return
        if not self._writer.written:
            self._video.enter_context(self._writer)
        shown = tracks if tracks.level is None else tracks[tracks.level == next(iter(self._levels))]
        self._painter.follow(int(local), shown)
        self._writer.write(self._painter.paint(image, shown))

    # --- the run folder ------------------------------------------------------------------------------------------

    def finish(self, folder: RunFolder, manifest: RunManifest, source: str) -> Run[MaskSummary]:
        """Writes the run folder.

        Args:
            folder: it, claimed.
            manifest: what the claim gave.
            source: what manifests call the stream.

        Raises:
            RunFolderError: a file cannot be written.
            PromptError: nothing was ever prompted.
        """
        if self._tracker is None:
            raise PromptError(f"{folder.root}: {self.frames.count} frames came, and neither candidates nor prompts")
        self.frames.end()
        if self._video is not None:
            self._video.close()
        self._write_manifest(folder, manifest, source)
        stats = self._finish_levels(folder)
        self._relate(folder, list(stats))
        warnings = list(self._tracker.session.warnings)
        folder.finish(self._summary(source, stats, warnings), warnings=warnings, stages=("predictor",))
        return Run(folder.root)

    @property
    def _found_cuts(self) -> list[int] | None:
        return None if self._cuts is None else [int(cut) for cut in self._cut_frames]

    def _write_manifest(self, folder: RunFolder, manifest: RunManifest, source: str) -> None:
        """Writes what holds for the whole run, and the list of frames."""
        frames, request, chosen = self.frames, self._request, self._request.chosen
        height, width = frames.size
        config: dict[str, object] = {
            "settings": request.settings.model_dump(mode="json"),
            "predictor": chosen.request,
            "online": request.online.model_dump(mode="json"),
            "prompts": {"kind": self._kind, **({} if self._generator is None else {"name": self._generator.name})},
            **({"predictor_identity": dict(chosen.identity)} if chosen.identity else {}),
        }
        size = {"height": height, "width": width}
        manifest.merge(
            {
                "input": {"path": source, "frames": len(frames), **size, "cuts": self._found_cuts},
                "config": config,
                "predictor": {"name": chosen.predictor.name, "reason": chosen.reason, **chosen.details},
                "frame_list": folder.paths.frames.name,
            }
        )
        if self._video is not None:
            manifest.merge(
                {"overlay": (overlay_settings(request.overlay) or OverlaySettings()).model_dump(mode="json")}
            )
        manifest.replace_warnings(self._log.warnings, stages=("frames", "prompts", "weights"), level=None)
        times = [time for time in self._times if time is not None]
        known = times if len(times) == len(frames) else None
        FrameList(frames.indices, frames.names, known, frames.size).write(folder.paths.frames)
        manifest.write()

    def _finish_levels(self, folder: RunFolder) -> dict[Level, LevelSummary]:
        """Writes the archives of every level."""
        assert self._tracker is not None
        stats: dict[Level, LevelSummary] = {}
        self._timer.merge(self._tracker.timer)
        for level, online in self._levels.items():
            assert online.tracked is not None
            if not stats:  # all levels together: what they took is not divided
                online.tracked.timer.merge(self._timer)
            context = LevelContext(
                level,
                folder.paths,
                self.frames,
                self._request.settings,
                self._prompt_frames.get(level, 0),
                self._cut_frames,
            )
            stats[level] = finish_level(context, online.tracked, class_names=self._class_names).stats
        return stats

    def _relate(self, folder: RunFolder, levels: Sequence[Level]) -> None:
        """Writes boxes and identities."""
        asked = self._request.identity
        settings = asked if isinstance(asked, IdentitySettings) else IdentitySettings() if asked else None
        if settings is not None and settings.stitch:
            again = wording("relate(run, video=…)", "trackweave relate RUN --video PATH")
            text = f"nothing is stitched over gaps and cuts: the frames of a stream are gone by then ({again})"
            self._log.warn("identity", "not-stitched", text)
        write_identities(folder.paths, levels, settings, False)

    def _summary(self, source: str, stats: Mapping[Level, LevelSummary], warnings: Sequence[RunWarning]) -> MaskSummary:
        assert self._tracker is not None
        durations = TimingAggregator()
        for level in stats.values():
            for stage, seconds in level.durations.items():
                durations.add(stage, seconds)
        chosen = self._request.chosen
        counters = {name: round(count, 4) for name, count in self._tracker.session.counters.items()}
        return MaskSummary(
            "masks",
            InputSummary(source, len(self.frames), self.frames.size, cuts=self._found_cuts),
            summarise_tracking_stats(stats),
            {stage: round(seconds, 4) for stage, seconds in durations.items()},
            peak_rss_mb(),
            [*self._log.warnings, *warnings],
            predictor=PredictorSummary(chosen.predictor.name, chosen.reason, counters),
            levels=stats,
        )

    def close(self) -> None:
        """Ends the tracking, and removes what was kept."""
        if self._tracker is not None:
            self._tracker.close()
        self._stack.close()


def _as_tracks(objects: Sequence[FrameObjects], levels: Sequence[Level]) -> Tracks:
    """The objects of all levels on one frame."""
    parts = [Tracks.from_frames([own], level=int(level)) for own, level in zip(objects, levels, strict=True)]
    return Tracks.concat(parts)
