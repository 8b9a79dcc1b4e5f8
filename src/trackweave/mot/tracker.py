"""`Tracker`: detections of one frame after another become tracks."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from trackweave.errors import FrameOrderError, InputError, SettingError
from trackweave.ids import FrameIndex
from trackweave.mot.adaptive_thresholds import CHANGED, LOW_SCORES, SCORES, set_levels
from trackweave.mot.appearance import AppearanceMemory, Gallery
from trackweave.mot.assignment import MATCH, SOURCE, UNMATCHED_COST, Costs, Flags, Workspace
from trackweave.mot.camera_motion import local_motions
from trackweave.mot.id_switches import SwitchEvent, SwitchMonitor
from trackweave.mot.initiation import match_far
from trackweave.mot.kalman import compensate_camera
from trackweave.mot.matching import (
    FAULTS,
    SECOND_CLASS,
    best_of_classes,
    compare,
    displacement,
    fault_error,
    validate_detections,
)
from trackweave.mot.settings import TrackerSettings, preset
from trackweave.mot.state import (
    AGE,
    CLASS,
    DET_CLASS,
    DET_COLUMNS,
    DET_ROW,
    DET_SCORE,
    DET_VISIBILITY,
    GAP,
    ID,
    POSITION,
    SCORE,
    SINCE,
    STEPS_PER_SECOND,
    VELOCITY,
    VISIBILITY,
    AssignmentObserver,
    AssociationScorer,
    ExclusiveScorer,
    FrameContext,
    Rows,
    TrackTable,
    kernel_parameters,
)
from trackweave.mot.track_management import (
    AFTER_FAR,
    ASSIGNED,
    BEFORE_FAR,
    EVERYTHING,
    SHOWN_CLASS,
    SHOWN_DETECTION,
    SHOWN_ID,
    SHOWN_ROW,
    TABLE_ROW,
    decide,
)
from trackweave.structures.assignment import AssignmentState
from trackweave.structures.detections import CLASS_NAME, Detections
from trackweave.structures.run_log import RunWarning
from trackweave.structures.score_scale import AS_GIVEN, LARGEST_SHARE, ScoreRange, ScoreScale, ScoreUnit

ALMOST_UNMATCHED = np.float32(0.999 * UNMATCHED_COST)
"""Appearance and scorers rank inside the gates: however bad they find a pair, it stays better than none."""
LARGEST_ZOOM = 100.0
"""A camera matrix that scales by more between two frames is a mistake."""
DOUBT_FRAMES = 15
"""How long a track's appearance is not learned after a suspected identity switch."""
AMBIGUOUS_MARGIN = 0.1
"""A match whose detection another track would have taken at nearly the same cost teaches no appearance."""

NEARLY_EMPTY = 0.05
"""Boxes reported per frame with detections up to which a result is nearly empty, and says why."""
PATIENT_FRAMES = 30
"""Frames with detections after which a tracker that has begun no track says so."""
SCALE_CODE = "score-scale"
"""Of the warning that scores are not taken as they are; a tracker also logs it at once."""
MATCH_REMEDY = "where objects move far between frames, raise tracker.buffer"
SCALE_REMEDY = "(tracker.score_range=given takes scores as they are)"

SIZE_UNKNOWN = (
    "the frames' size is not known, which the learned scorer needs: tracked with `adaptive`; give the tracker "
    "size=(H, W), or name the preset"
)
RATE_CODE = "frame-rate"
LARGEST_RATE = 1000.0
"""Frames per second: a larger rate is likely the time base of a video."""

LOGGER = logging.getLogger("trackweave.mot")
WHOLE_NUMBERS = (int, np.integer)
FLOAT32, INT64 = np.dtype(np.float32), np.dtype(np.int64)

DEFAULT_PRESET = "learned"
"""Of a tracker that knows the frames' size."""
DEFAULT_SCORER = "trackweave.association.scorer:LearnedScorer"
"""As `module:class`: the scorer of a tracker whose settings leave decisions to one (`scorer_decides`, as the preset
`learned` does), made with the tracker's `size`, where none is given.

`mot` and `association` do not import each other: `mot` says what a scorer is, `association` has one. The name is
therefore resolved when it is needed, like the entry point of an installed package: `Tracker("learned")` is complete
wherever it is imported from, and a tracker without a scorer loads neither `association` nor onnxruntime.
"""


@dataclass(frozen=True)
class TrackerSummary:
    """What a tracker has done since it was made or reset.

    Attributes:
        frames: frames tracked.
        detections: detections given, bad and low ones included.
        tracks: tracks begun, tentative ones included.
        reactivations: confirmed tracks found again after at least one frame without them.
        skipped: reason → how many detections or frames were left out.
        est_id_switches: identity switches suspected; None without diagnostics.
        suspected: the newest of them.
        warnings: what was done differently from what was asked.
    """

    frames: int
    detections: int
    tracks: int
    reactivations: int
    skipped: Mapping[str, int]
    est_id_switches: int | None
    suspected: tuple[SwitchEvent, ...]
    warnings: tuple[RunWarning, ...]


class _Frame(NamedTuple):
    """One frame as the steps of an update read it: D detections take part.

    Attributes:
        context: the frame.
        size: `(H, W)`, or None.
        detections: all that were given.
        rows: `(D, DET_COLUMNS)` of those that take part; valid until the next frame.
        embedding: `(D, E)` float32 of unit length, zeros where one is not described; None without appearance.
    """

    context: FrameContext
    size: tuple[int, int] | None
    detections: Detections
    rows: Rows
    embedding: NDArray[np.float32] | None


class Tracker:
    """Links detections frame by frame: two rounds of assignment by score, after Zhang et al., ByteTrack (ECCV 2022).

    Tracks are rows of arrays and every step over them is compiled. Ids count from 1 in each tracker; memory is
    bounded by the tracks alive. A tracker can be copied (`copy.deepcopy`) and pickled at any frame, if its observer
    can: one that writes files cannot.

    >>> tracker = Tracker("bytetrack", frame_rate=25)
    >>> for frame in range(3):
    ...     tracked = tracker.update(Detections.of([[10 + 5 * frame, 20, 50 + 5 * frame, 120]], [0.9]))
    >>> tracked.track_id.tolist(), tracked.index.tolist()
    ([1], [0])
    >>> tracker.update(np.array([[25.0, 20, 65, 120, 0.9]])).tolist()  # rows of boxes come back with their track id
    [[25.0, 20.0, 65.0, 120.0, 0.9, 1.0]]

    Args:
        settings: how to link: the name of a preset (`adaptive`, `bytetrack`, `sort`, `ocsort`, `botsort`, `learned`)
            or `TrackerSettings`. `learned` comes with the package's scorer where none is given. None: `learned` where
            `size` is known; `adaptive` where it is not, with a warning, or where a scorer or an observer is given.
        frame_rate: frames per second, where frames come without time stamps; above 1000 a warning says so.
        size: `(H, W)` of the frames in pixels, where frames do not tell; None: boxes may lie
            anywhere but left of it or above it. A learned scorer needs it.
        scorer: a learned judge of pairs; blended into the cost by `settings.scorer_weight`. One that remembers tracks
            serves one tracker at a time.
        observer: gets every frame's state and decisions; a sample logger is one.
        score_scale: what the detector's scores are, where it is known; None: as `settings.score_range` says.
        overrides: single settings by their name, such as `lost_seconds=2.0`.

    Raises:
        SettingError: an unknown preset or setting, a value out of range, or a scorer that serves another tracker.
        ValueError: a frame rate that is not above 0.
    """

    def __init__(
        self,
        settings: TrackerSettings | str | None = None,
        *,
        frame_rate: float = 30.0,
        size: tuple[int, int] | None = None,
        scorer: AssociationScorer | None = None,
        observer: AssignmentObserver | None = None,
        score_scale: ScoreScale | None = None,
        **overrides: Any,
    ) -> None:
        if not 0 < frame_rate < float("inf"):
            raise ValueError(f"a frame rate is above 0, not {frame_rate}")
        is_free = settings is None and scorer is None and observer is None
        self._has_no_size = is_free and size is None
        if self._has_no_size:
            LOGGER.warning(SIZE_UNKNOWN)
        self.settings = _settings(DEFAULT_PRESET if is_free and size is not None else settings, overrides)
        if scorer is None and self.settings.scorer_decides:
            module, _, name = DEFAULT_SCORER.partition(":")
            scorer = getattr(import_module(module), name)(size=size)
        self._idle = self.settings.without_effect(has_scorer=scorer is not None)
        for text in self._idle:
            LOGGER.warning("%s", text)
        self._frame_rate = frame_rate
        self._size = size
        self._scorer = scorer
        self._observer = observer
        self._known_scale = score_scale or known_scale(self.settings)
        if isinstance(scorer, ExclusiveScorer):
            scorer.attach()
        self._start()

    def _start(self) -> None:
        self._score_range = ScoreRange(score_unit(self.settings))
        self._stream = np.zeros(CHANGED + 1)
        self._take_scale(self._known_scale or self._score_range.scale)
        self._table = TrackTable()
        self._work = Workspace()
        self._taken, self._status = np.zeros((64, DET_COLUMNS)), np.zeros(64, np.int64)
        self._next_id = 1
        self._last: FrameContext | None = None
        self._is_opening = True
        self._camera: NDArray[np.float64] | None = None
        self._memory = AppearanceMemory(self.settings.prototypes) if self.settings.appearance_memory else None
        gallery = self.settings.appearance_gallery
        self._gallery = Gallery(gallery, self.settings.prototypes) if gallery and self._memory is not None else None
        self._monitor = SwitchMonitor(self._frame_rate) if self.settings.diagnostics else None
        self._frames = self._detections = self._reactivations = self._reported = self._frames_with_detections = 0
        self._best_share = -math.inf
        self._has_said_scale = self._has_said_empty = self._has_absurd_rate = False
        self._skipped: Counter[str] = Counter()
        self._class_names: dict[int, Any] = {}

    def reset(self) -> None:
        """Forgets every track and count: another video begins, ids count from 1 again."""
        self._start()
        if self._scorer is not None:
            self._scorer.reset()
            if isinstance(self._scorer, ExclusiveScorer):
                self._scorer.attach()

    def cut(self) -> None:
        """Ends every track: the next frame begins another shot of the same video. Ids go on, counts stay, and tracks
        that begin on that frame need no confirmation, as on the first of all."""
        self._keep_ended(np.arange(self._table.count), self._ids_and_classes())
        self._table = TrackTable()
        self._is_opening = True
        if self._memory is not None:
            self._memory.reorder(np.empty(0, np.int64))
        if self._monitor is not None:
            self._monitor.cut()

    @overload
    def update(
        self, detections: Detections, frame: FrameContext | float | None = None, *, untracked: bool = False
    ) -> Detections: ...

    @overload
    def update(self, detections: Any, frame: FrameContext | float | None = None, *, untracked: bool = False) -> Any: ...

    def update(self, detections: Any, frame: FrameContext | float | None = None, *, untracked: bool = False) -> Any:
        """Takes one frame's detections and returns those of confirmed tracks, in the same type.

        Args:
            detections: in any order; none is normal. `Detections`, `supervision.Detections`, a result of Ultralytics,
                or an array of rows x1, y1, x2, y2, score and perhaps the class, see `Detections.from_any`.
            frame: which one. None: the next; an int: its index, which may jump: the time between two frames counts,
                not their number; a float: its time in seconds; a `FrameContext`: whatever is known of it.
            untracked: return all detections, in their order, those without a track with the id −1.

        Returns:
            The tracked detections in their input order. For `Detections`: with `track_id`, and with `index`, their row
            in `detections`; masks, embeddings and user data stay with them; boxes are the detected ones unless the
            settings ask for smoothed ones; `class_id` is the track's. For other types see `Detections.as_type_of`: an
            array comes back with the track id as a further last column.

        Raises:
            InputError: not detections. With `on_bad_item="error"` also: a detection that is not finite, inverted,
                without area, outside the image or repeated; a camera matrix that is not finite; embeddings whose
                width changes. With `"skip"` these are left out and counted in `summary`.
            FrameOrderError: a frame or time stamp that is not later than the one before, or a time that is not
                finite. The tracker stays as it was, and counts the frame in `summary` as left out.
        """
        context = self._context(frame)
        own = detections
        if not isinstance(detections, Detections):
            own = Detections.from_any(detections, with_masks=self._observer is not None or self._scorer is not None)
        tracked = self._link(context, own)
        if untracked:
            tracked = _with_untracked(own, tracked)
        return tracked if own is detections else tracked.as_type_of(detections)

    def _link(self, context: FrameContext, detections: Detections) -> Detections:
        """One frame: predict, compare, assign, update."""
        self._detections += len(detections)
        self._check_order(context)
        if context.cut:
            self.cut()
        elapsed, dt = self._elapsed(context)
        frame = self._prepared(context, detections)
        table, parameters, width = self._table, self._parameters, len(frame.rows)
        self._compensate(context)
        n, work = table.count, self._work
        work.reserve(n, width)
        cost, allowed = np.empty((n, width), np.float32), np.empty((n, width), np.bool_)
        found, is_unsure = compare(table.live, frame.rows, dt, parameters, self._stream, cost, allowed, work.pairs)
        cosine = None
        if self._memory is not None and frame.embedding is not None and n:
            cosine = self._memory.cosine(frame.embedding)
            cost = _blended(cost, allowed, self._memory.cost(cosine), self.settings.appearance_weight)
        out = np.empty((SHOWN_ROW + 1, width), np.int64)
        state = self._state(frame, cost, allowed, elapsed, out[ASSIGNED])
        priced = cost if state is None or self._scorer is None else self._scored(state)
        table.reserve(n + width)
        before = None if self._gallery is None else self._ids_and_classes()
        given = (
            table.rows, n, frame.rows, priced, allowed, work.pairs, found, elapsed, self._is_opening, self._next_id,
            parameters, self._stream, work.integers, work.floats, out,
        )  # fmt: skip
        may_be_far = is_unsure and self.settings.initiation_distance > 0
        decided = decide(BEFORE_FAR if may_be_far else EVERYTHING, *given)
        if decided[-1] < 0:
            match_far(table.live, frame.rows, allowed, work.integers[MATCH, :n], dt, frame.size, parameters)
            decided = decide(AFTER_FAR, *given)
        table.count, self._next_id, reactivated, shown = decided
        self._frames += 1
        if self._frames_with_detections == PATIENT_FRAMES and not self._has_said_empty and self._next_id == 1:
            self._has_said_empty = True
            LOGGER.warning("%s", self._emptiness())
        self._reactivations += reactivated
        self._last, self._is_opening = context, False
        if self._memory is not None:
            if before is not None:
                self._keep_ended(np.setdiff1d(np.arange(n), work.integers[SOURCE, : table.count]), before)
            self._memory.reorder(work.integers[SOURCE, : table.count])
            if frame.embedding is not None:
                self._learn(frame, cost, allowed, cosine, work.integers[MATCH, :n], out[TABLE_ROW])
            if self._gallery is not None:
                self._gallery.recall(self._memory, *self._ids_and_classes())
        if state is not None:
            self._notify(state)
        self._reported += shown
        return self._output(frame, out[:, :shown])

    def _ids_and_classes(self) -> NDArray[np.int64]:
        """`(2, T)` ids and classes of live tracks."""
        return self._table.live[:, [ID, CLASS]].T.astype(np.int64)

    def _keep_ended(self, rows: NDArray[np.int64], ids_and_classes: NDArray[np.int64]) -> None:
        """Takes the appearance of tracks that end into the gallery.

        Args:
            rows: of these tracks in the table, as it was before it changed.
            ids_and_classes: `(2, T)` of all its rows then.
        """
        if self._gallery is not None and self._memory is not None and len(rows):
            self._gallery.keep(self._memory, rows, *ids_and_classes[:, rows])

    @property
    def recalled(self) -> int:
        """How often an identity was given back by the gallery."""
        return 0 if self._gallery is None else self._gallery.recalled

    @property
    def frames(self) -> int:
        """Frames tracked since the tracker was made or reset; one that was left out does not count."""
        return self._frames

    @property
    def is_idle(self) -> bool:
        """No track is alive since the last frame: further frames without detections would change nothing."""
        return self._frames > 0 and self._table.count == 0

    @property
    def summary(self) -> TrackerSummary:
        """Counts since the tracker was made or reset."""
        monitor = self._monitor
        return TrackerSummary(
            frames=self._frames,
            detections=self._detections,
            tracks=self._next_id - 1,
            reactivations=self._reactivations,
            skipped=dict(self._skipped),
            est_id_switches=monitor.total if monitor else None,
            suspected=tuple(monitor.events) if monitor else (),
            warnings=tuple(self._warnings()),
        )

    # --- the scale of scores, and what is said about a run ---------------------------------------------------------

    def _take_scale(self, scale: ScoreScale) -> None:
        """Takes scores as those of this scale from now on: sets the parameters that depend on it."""
        self._scale = scale
        self._lowest = lowest_share(self.settings, scale)
        self._parameters = kernel_parameters(self.settings, scale.stretch)
        set_levels(self._parameters[0], self._stream)

    def _follow_scores(self, score: NDArray[np.float32]) -> None:
        """Takes in a frame's scores as they were given; when their scale changes, what is low is counted anew."""
        if not len(score):
            return
        self._frames_with_detections += 1
        if self._known_scale is None:
            self._score_range.observe(score)
            before, scale = self._scale, self._score_range.scale
            if scale is not before:
                if (scale.unit, scale.full, scale.stretch) != (before.unit, before.full, before.stretch):
                    self._stream[[LOW_SCORES, SCORES]] = 0.0
                self._take_scale(scale)
                self._say_scale()
        if self._is_nearly_empty:
            self._best_share = max(self._best_share, float(np.fmax.reduce(self._scale.shares(score))))

    def _say_scale(self) -> None:
        """Logs once that scores are rescaled: a tracker that is used by itself has no run whose summary says it."""
        message = self._scale.message()
        if message is not None and not self._has_said_scale:
            self._has_said_scale = True
            LOGGER.warning("frame %d: %s %s", self._frames, message, SCALE_REMEDY)

    def _warnings(self) -> Iterator[RunWarning]:
        for reason, count in self._skipped.items():
            yield RunWarning(
                "track",
                None,
                "detections-skipped",
                f"left out {count} detection{'s' if count > 1 else ''}: {reason}",
                {"count": count},
            )
        message = None if self._known_scale is not None else self._scale.message()
        if message is not None:
            yield RunWarning("track", None, SCALE_CODE, f"{message} {SCALE_REMEDY}")
        if self._has_no_size:
            yield RunWarning("track", None, "size-unknown", SIZE_UNKNOWN)
        for text in self._idle:
            yield RunWarning("settings", None, "setting-ignored", text)
        if self._has_absurd_rate:
            yield RunWarning("track", None, RATE_CODE, absurd_rate(self._frame_rate))
        emptiness = self._emptiness()
        if emptiness is not None:
            yield RunWarning("track", None, "nearly-no-tracks", emptiness)

    @property
    def _is_nearly_empty(self) -> bool:
        """Were hardly any boxes reported so far, for the frames that had detections?"""
        return self._reported <= NEARLY_EMPTY * self._frames_with_detections

    def _emptiness(self) -> str | None:
        """Why there are (nearly) no tracks, and what to do; None: there are."""
        if not self._frames or not self._is_nearly_empty:
            return None
        tracks, boxes = self._next_id - 1, self._reported
        lowest = self._lowest
        best, birth = self._best_share, float(self._parameters["birth_score"][0]) / self._scale.stretch
        counted = f"only {boxes} box{'es'[: 2 * (boxes > 1)]}" if boxes else "no box" if tracks else "no track"
        text = f"{counted} on {self._frames} frame{'s'[: self._frames > 1]}: "
        if not self._detections:
            return f"{text}nothing was detected"
        if self._skipped.total() >= self._detections:
            return f"{text}every detection was left out"
        text += f"best score {best:.2g}, "
        if best < lowest:
            return f"{text}lower ones than {lowest:.2g} are ignored: lower tracker.confidence_threshold"
        if best < birth or not tracks:
            return f"{text}tracks begin at {birth:.2g}: lower tracker.birth_score"
        matches = self.settings.confirm_hits
        return f"{text}{tracks} begun at {birth:.2g} or more, shown after {matches} matches: {MATCH_REMEDY}"

    # --- the frame and its detections ----------------------------------------------------------------------------

    def _context(self, frame: Any) -> FrameContext:
        """The frame that `update` was given, with its index."""
        if isinstance(frame, FrameContext):
            return frame
        if isinstance(frame, WHOLE_NUMBERS):
            return FrameContext.of(int(frame))
        following = 0 if self._last is None else self._last.index + 1
        if frame is None:
            return FrameContext.of(following)
        if isinstance(frame, float | np.floating):
            return FrameContext(following, time=float(frame))
        kind = type(frame).__name__
        raise InputError(
            f"a frame is an index, a time in seconds or a FrameContext, not {kind}: update(detections, frame)"
        )

    def _check_order(self, context: FrameContext) -> None:
        """Refuses a frame that is not later than the one before.

        Raises:
            FrameOrderError: the frame is counted as left out.
        """
        last, reason = self._last, "the frame is not later than the last"
        if context.time is not None and not math.isfinite(context.time):
            wrong = f"frame {context.index}: its time {context.time} is not a finite number"
            reason = "the frame's time is not a finite number"
        elif last is None:
            return
        elif context.index <= last.index:
            wrong = f"frame {context.index} comes after frame {last.index}"
        elif context.time is not None and last.time is not None and context.time <= last.time:
            wrong = f"frame {context.index}: its time {context.time:g} s is not after {last.time:g} s"
        else:
            return
        self._skipped[reason] += 1
        raise FrameOrderError(wrong)

    def _elapsed(self, context: FrameContext) -> tuple[int, float]:
        """Frames and steps of 1/30 s since the frame before."""
        last = self._last
        if last is None:
            return 1, STEPS_PER_SECOND / self._frame_rate
        frames = context.index - last.index
        if context.time is not None and last.time is not None:
            return frames, (context.time - last.time) * STEPS_PER_SECOND
        if self._frame_rate > LARGEST_RATE and not self._has_absurd_rate:
            self._has_absurd_rate = True
            LOGGER.warning("%s", absurd_rate(self._frame_rate))
        return frames, frames * STEPS_PER_SECOND / self._frame_rate

    def _leave_out(self, error: InputError, reason: str, count: int = 1) -> None:
        """Counts what cannot be used, or raises, as the settings say."""
        if self.settings.on_bad_item == "error":
            raise error
        self._skipped[reason] += count

    def _prepared(self, context: FrameContext, detections: Detections) -> _Frame:
        """The frame with the rows and embeddings of the detections that take part."""
        size = context.size or self._size
        self._follow_scores(detections.score)
        rows = self._valid(context.index, detections, size)
        if detections.visibility is not None:
            visibility = detections.visibility[rows[:, DET_ROW].astype(np.int64)].astype(np.float64)
            rows[:, DET_VISIBILITY] = np.where(np.isfinite(visibility), visibility, 1.0)
        return _Frame(context, size, detections, rows, self._embedding(context.index, detections, rows))

    def _valid(self, frame: int, detections: Detections, size: tuple[int, int] | None) -> Rows:
        """`(D, DET_COLUMNS)` the rows of the detections that take part, valid until the next frame.

        Left out are those below the threshold, faulty ones (an error or counted, as the settings say), and of one box
        under several classes all but the best.
        """
        n, capacity = len(detections), len(self._taken)
        if n > capacity or capacity > max(256, 8 * n):
            capacity = max(64, 2 * n)
            self._taken, self._status = np.zeros((capacity, DET_COLUMNS)), np.zeros(capacity, np.int64)
        height, width = size or (math.inf, math.inf)
        score = _writable(detections.score, FLOAT32)
        if not self._scale.are_shares:
            score = self._scale.shares(score)
        kept, faults, is_mixed = validate_detections(
            _writable(detections.xyxy, FLOAT32), score, _writable(detections.class_id, INT64),
            self._lowest, float(height), float(width),
            self._taken, self._status,
        )  # fmt: skip
        rows = self._taken[:kept]
        if faults:
            status = self._status[:n]
            error = fault_error(frame, detections, status)
            for number in np.unique(status[status > 0]):
                self._leave_out(error, str(FAULTS[int(number)]), int((status == number).sum()))
        if is_mixed and self.settings.classes != "separate":
            stays = best_of_classes(rows)
            if not stays.all():
                self._skipped[SECOND_CLASS] += int(np.count_nonzero(~stays))
                rows = rows[stays]
        if self.settings.classes == "ignored":
            rows[:, DET_CLASS] = -1
        if self._scale.stretch != 1:
            rows[:, DET_SCORE] *= self._scale.stretch
        return rows

    def _embedding(self, frame: int, detections: Detections, rows: Rows) -> NDArray[np.float32] | None:
        """`(D, E)` unit rows of the detections that take part; zeros where one is not described."""
        if self._memory is None or detections.embedding is None or not len(rows):
            return None
        embedding = np.nan_to_num(detections.embedding[rows[:, DET_ROW].astype(np.int64)], posinf=0, neginf=0)
        try:
            self._memory.set_width(embedding.shape[1])
        except ValueError as error:
            self._leave_out(InputError(f"frame {frame}: {error}"), "embeddings of another width than before", len(rows))
            return None
        lengths = np.linalg.norm(embedding, axis=1, keepdims=True)
        return np.asarray(embedding / np.where(lengths > 0, lengths, 1), np.float32)

    # --- one frame's decisions -----------------------------------------------------------------------------------

    def _compensate(self, context: FrameContext) -> None:
        """Moves every track with the camera; by a homography each as the image moves at its centre."""
        self._camera = None
        if context.camera is None or self._last is None or not self._table.count:
            return
        if self.settings.camera_motion != "given":
            return
        tracks, camera = self._table.live, np.ascontiguousarray(context.camera, np.float64)
        motions = camera[None]
        if camera.shape == (3, 3):
            # The last one is that of the whole, for who needs a single matrix.
            centres = tracks[:, POSITION : POSITION + 2]
            motions = local_motions(camera, np.concatenate([centres, centres.mean(axis=0, keepdims=True)]))
        if not all(_is_camera(motion) for motion in motions):
            reason = "the camera's motion is not a finite 2×3 matrix that keeps an area"
            self._leave_out(InputError(f"frame {context.index}: {reason}"), reason)
            return
        if len(motions) == 1:
            compensate_camera(tracks, motions[0])
        else:
            for row, motion in enumerate(motions[:-1]):
                compensate_camera(tracks[row : row + 1], motion)
        self._camera = motions[-1]

    def _scored(self, state: AssignmentState) -> NDArray[np.float32]:
        """The cost with the scorer's opinion."""
        if self._scorer is None or not state.cost.size:
            return state.cost
        opinion = self._scorer.cost(replace(state, assigned_track_ids=state.assigned_track_ids.copy()))
        weight, decides = self.settings.scorer_weight, self.settings.scorer_decides
        return _blended(state.cost, state.allowed, opinion, weight, decides=decides)

    def _learn(
        self,
        frame: _Frame,
        cost: Costs,
        allowed: Flags,
        cosine: NDArray[np.float32] | None,
        match: NDArray[np.int64],
        row_of: NDArray[np.int64],
    ) -> None:
        """Appearance is taken from detections that are sure, well visible and that no other track wanted."""
        assert self._memory is not None
        assert frame.embedding is not None
        trusted = frame.rows[:, DET_SCORE] >= self._parameters["high_score"][0]
        trusted &= frame.rows[:, DET_VISIBILITY] >= self.settings.appearance_min_visibility
        tracks = np.flatnonzero(match >= 0)
        if len(tracks):
            partners = match[tracks]
            rivals = np.where(allowed, cost, np.inf)
            rivals[tracks, partners] = np.inf
            margin = rivals[:, partners].min(axis=0) - cost[tracks, partners]
            trusted[partners] &= margin > AMBIGUOUS_MARGIN
            if cosine is not None:
                compared = np.isfinite(cosine)
                same = cosine[tracks, partners][compared[tracks, partners]]
                compared[tracks, partners] = False
                self._memory.calibrate(same, cosine[compared & allowed])
        owned = row_of >= 0
        self._memory.learn(row_of[owned], frame.embedding[owned], trusted[owned])

    # --- scorer, observer and output -----------------------------------------------------------------------------

    def _state(
        self, frame: _Frame, cost: Costs, allowed: Flags, elapsed: int, assigned: NDArray[np.int64]
    ) -> AssignmentState | None:
        """The frame as scorer, observer and monitor see it, before the assignment; None when there are none of these.

        `assigned`, `(D,)`, becomes all −1. It is the array that the kernel writes the decisions to: afterwards the same
        state holds them.
        """
        if self._scorer is None and self._observer is None and self._monitor is None:
            return None
        table, context, tracks = self._table, frame.context, self._table.live
        assigned.fill(-1)
        displaced = np.empty((len(frame.rows), 2), np.float32)
        displacement(tracks, frame.rows, displaced)
        gap = tracks[:, GAP].astype(np.int64) + elapsed
        per_frame = tracks[:, SINCE] / np.maximum(gap, 1)
        return AssignmentState(
            frame=FrameIndex(context.index),
            time=context.index / self._frame_rate if context.time is None else context.time,
            size=frame.size,
            track_ids=table.ids,
            track_boxes=table.boxes,
            track_velocity=(tracks[:, VELOCITY : VELOCITY + 2] * per_frame[:, None]).astype(np.float32),
            track_age=tracks[:, AGE].astype(np.int64) + elapsed,
            track_gap=gap,
            track_score=np.minimum(tracks[:, SCORE], max(1.0, LARGEST_SHARE / self._scale.stretch)).astype(np.float32),
            track_visibility=tracks[:, VISIBILITY].astype(np.float32),
            track_class=tracks[:, CLASS].astype(np.int64),
            track_embeddings=None if self._memory is None or self._memory.width is None else self._memory.best(),
            detections=self._in_shares(frame),
            det_displacement=displaced,
            cost=cost,
            allowed=allowed,
            assigned_track_ids=assigned,
            camera=self._camera,
        )

    def _in_shares(self, frame: _Frame) -> Detections:
        """The detections that take part, their scores as those that scorers are trained on."""
        detections = frame.detections[frame.rows[:, DET_ROW].astype(np.int64)]
        if self._scale.is_usual:
            return detections
        return replace(detections, score=np.clip(frame.rows[:, DET_SCORE], 0, 1).astype(np.float32))

    def _notify(self, state: AssignmentState) -> None:
        """Shows the frame's decisions to the monitor, the scorer and the observer."""
        if self._monitor is not None:
            before = self._monitor.total
            events = self._monitor.observe(state)
            suspects = np.unique(np.array([track for event in events for track in event.tracks], np.int64))
            total = self._monitor.total
            state = replace(state, est_id_switches=total, est_id_switches_frame=total - before, suspect_tracks=suspects)
            if self._memory is not None and len(suspects):
                self._memory.freeze(np.flatnonzero(np.isin(self._table.ids, suspects)), DOUBT_FRAMES)
        if self._scorer is not None:
            self._scorer.observe(state)
        if self._observer is not None:
            self._observer.observe(state)

    def _output(self, frame: _Frame, shown: NDArray[np.int64]) -> Detections:
        """The detections whose tracks are confirmed, with their identities; `shown` as by `update_tracks`."""
        detections, index = frame.detections, shown[SHOWN_DETECTION]
        votes = self.settings.classes == "votes"
        class_id = shown[SHOWN_CLASS] if votes else detections.class_id[index]
        track_id = shown[SHOWN_ID] if self._gallery is None else self._gallery.identities(shown[SHOWN_ID])
        tracked = detections.tracked(index, track_id, class_id)
        if votes and CLASS_NAME in tracked.data:
            tracked = replace(tracked, data=self._named(detections, tracked))
        if self.settings.output_boxes == "smoothed":
            tracked = replace(tracked, xyxy=self._table.boxes[shown[SHOWN_ROW]])
        return tracked

    def _named(self, detections: Detections, tracked: Detections) -> Mapping[str, NDArray[Any]]:
        """The user data of the tracked, in which names of classes follow the class of each track."""
        names, data = self._class_names, tracked.data
        names.update(zip(detections.class_id.tolist(), detections.data[CLASS_NAME].tolist(), strict=True))
        if np.array_equal(tracked.class_id, detections.class_id[tracked.index]):
            return data
        own = zip(tracked.class_id.tolist(), data[CLASS_NAME].tolist(), strict=True)
        return {**data, CLASS_NAME: np.array([names.get(number, name) for number, name in own])}


ByteTracker = Tracker
"""The former name; `Tracker("bytetrack")` is ByteTrack as published, `Tracker(size=…)` the preset `learned`."""


def _settings(settings: object, overrides: Mapping[str, object]) -> TrackerSettings:
    """The settings that a tracker was asked for."""
    if settings is None or isinstance(settings, str):
        return preset("adaptive" if settings is None else settings, **overrides)
    if not isinstance(settings, TrackerSettings):
        raise SettingError(f"a tracker is a preset's name or TrackerSettings, not {type(settings).__name__}")
    return TrackerSettings.checked(settings, **overrides) if overrides else settings


def score_unit(settings: TrackerSettings) -> ScoreUnit | None:
    """What scores are, as far as the settings say; None: it is to be found out."""
    if settings.score_range == "auto":
        return None
    return ScoreUnit.share if settings.score_range == "given" else ScoreUnit(settings.score_range)


def known_scale(settings: TrackerSettings) -> ScoreScale | None:
    """The scale where scores are to be taken as they are; None: it is to be found out how high they reach."""
    return AS_GIVEN if settings.score_range == "given" else None


def lowest_share(settings: TrackerSettings, scale: ScoreScale) -> float:
    """Detections are ignored whose score, as a share of 1, is lower."""
    threshold = settings.confidence_threshold
    return threshold if "confidence_threshold" in settings.model_fields_set else threshold / scale.stretch


def absurd_rate(rate: float) -> str:
    """The text that warns of a frame rate above `LARGEST_RATE`."""
    return (
        f"{rate:g} frames per second: is that a time base (90000, 1000000) instead of a frame rate? "
        f"A lost track is kept for {rate:g} frames and more, and hardly anything moves from one to the next"
    )


def _is_camera(matrix: NDArray[np.float64]) -> bool:
    """Whether an affine matrix is one: finite, and neither flattening nor blowing up the image."""
    if matrix.shape != (2, 3) or not np.isfinite(matrix).all():
        return False
    a, b, c, d = matrix[0, 0], matrix[0, 1], matrix[1, 0], matrix[1, 1]
    return bool(np.abs(matrix[:, :2]).max() < LARGEST_ZOOM and abs(a * d - b * c) > LARGEST_ZOOM**-2)


def _blended(
    cost: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    other: NDArray[np.float32],
    weight: float,
    *,
    decides: bool = False,
) -> NDArray[np.float32]:
    """Mixes a second opinion into the cost of allowed pairs, where it has one (not NaN).

    With `decides` the mixed cost may exceed that of no match, and may fall below it where the first did not.
    """
    if other.shape != cost.shape:
        raise ValueError(f"{cost.shape} pairs were asked about, the answer has {other.shape}")
    mixed = (1 - weight) * cost + weight * other
    if decides:
        return np.where(allowed & np.isfinite(other), mixed, cost).astype(np.float32)
    mixed = np.minimum(mixed, ALMOST_UNMATCHED)
    # A pair that already costs more than none is not brought back by an opinion either.
    has_opinion = allowed & np.isfinite(other) & (cost < UNMATCHED_COST)
    return np.where(has_opinion, mixed, cost).astype(np.float32)


@cache
def compile_loops() -> None:
    """Compiles the loops that every frame goes through, or loads them; otherwise the first frames wait for that."""
    tracker = Tracker("adaptive")
    tracker.update(Detections.of([[0, 0, 20, 20]], [0.9]), FrameContext(0))


def _writable(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array as a kernel takes it: columns of tables and memory maps, whatever their layout, are of one type then."""
    if values.dtype is dtype and values.flags.carray:
        return values
    array = np.ascontiguousarray(values, dtype)
    return array if array.flags.writeable else array.copy()


def _with_untracked(detections: Detections, tracked: Detections) -> Detections:
    """All detections in their order, with the id −1 where they have no track."""
    assert tracked.index is not None
    assert tracked.track_id is not None
    n, index = len(detections), tracked.index
    track_id, xyxy, class_id = np.full(n, -1, np.int64), detections.xyxy.copy(), detections.class_id.copy()
    track_id[index], xyxy[index], class_id[index] = tracked.track_id, tracked.xyxy, tracked.class_id
    data = detections.data
    if CLASS_NAME in data:
        names = data[CLASS_NAME].astype(np.object_)
        names[index] = tracked.data[CLASS_NAME]
        data = {**data, CLASS_NAME: np.array(names.tolist())}
    return replace(detections, xyxy=xyxy, class_id=class_id, track_id=track_id, index=np.arange(n), data=data)
