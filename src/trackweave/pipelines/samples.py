"""Training samples with true identities: of sequences with ground truth, of simulated scenes, of recorded trajectories.

Each way composes frames and detections, the box tracker, and the logger that observes it. `build_samples` tracks
sequences whose truth is known; `simulate_samples` tracks simulated scenes; `resimulate_samples` tracks new scenes of
recorded trajectories (`assoc remix` on the command line).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict, Unpack

import numpy as np

from trackweave.association.data_collection import SampleLogger
from trackweave.association.labels import NO_IDENTITY, gt_track_ids
from trackweave.association.logged_samples import assignment_state, read_samples, reject_blended
from trackweave.association.scorer import LearnedScorer
from trackweave.association.settings import DEFAULT_EMBED_DIM, LogSettings
from trackweave.association.track_memory import DEFAULT_FPS
from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.errors import ArtifactError, InputError, SettingError, wording
from trackweave.formats.mot import read_ground_truth
from trackweave.formats.motchallenge import INFO, class_column_of, find_sequences, read_gmc, read_sequence, video_of
from trackweave.formats.tables import DetectionTable, GroundTruth
from trackweave.mot.settings import TrackerSettings, preset
from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import Tracker
from trackweave.pipelines.box_outputs import check_log, close_logger, open_logger
from trackweave.pipelines.box_tracking import FrameFeatures, make_tracker, open_display, open_features, track_frames
from trackweave.pipelines.detection_source import DetectedFrame, DetectionSource, open_detections
from trackweave.pipelines.settings import InputSettings, PerceptionSettings, RemixSettings, SimulateSettings
from trackweave.pipelines.video_input import VideoInput, open_input
from trackweave.progress import Progress, TimingAggregator, open_progress
from trackweave.simulation.detector import EmbeddingSettings
from trackweave.simulation.presets import random_settings
from trackweave.simulation.recorded import Trajectories, resimulate, simulate_detections
from trackweave.simulation.sequence import SimulatedSequence, simulate, write_mot_folder, write_preview
from trackweave.simulation.settings import DetectorNoise, detector_noise
from trackweave.storage.files import safe_name
from trackweave.storage.sample_folder import remove_samples
from trackweave.structures.detections import GT_COLUMN
from trackweave.structures.run_log import RunLog, RunWarning

LABEL_SOURCE = "simulated"
"""`label_source` of samples of simulated sequences."""
PREVIEW_SEQUENCES = 9
"""Sequences in a preview."""


@dataclass(frozen=True)
class BuiltSamples:
    """What was logged of one sequence.

    Attributes:
        sequence: its name.
        directory: folder of the samples.
        frames: frames that were tracked.
        samples: samples written.
        detections: detections of all frames.
        identified: those of them with a true identity.
        warnings: everything that was done differently from what was asked.
    """

    sequence: str
    directory: Path
    frames: int
    samples: int
    detections: int
    identified: int
    warnings: Sequence[RunWarning]

    def to_json(self) -> dict[str, object]:
        """The record as JSON values."""
        plain = {name: getattr(self, name) for name in ("sequence", "frames", "samples", "detections", "identified")}
        warnings = [warning.to_json() for warning in self.warnings]
        return {**plain, "directory": str(self.directory), "warnings": warnings}


@dataclass(frozen=True)
class SimulatedDetector:
    """Detections simulated on the truth, for data sets that come without detections.

    Attributes:
        noise: errors of the detector.
        seed: of the random numbers.
    """

    noise: DetectorNoise
    seed: int = 0


class SampleOptions(TypedDict, total=False):
    """What `build_samples` takes by keyword besides its own arguments; see there."""

    embed_dim: int
    overwrite: bool


def build_samples(
    sequences: Sequence[str | Path],
    directory: str | Path,
    *,
    truth: str | Path | None = None,
    by: Literal["sequence", "video"] | None = None,
    detections: str | Path | SimulatedDetector | None = None,
    tracker: str | TrackerSettings = "adaptive",
    video: InputSettings | None = None,
    perception: PerceptionSettings | None = None,
    progress: Progress = None,
    **options: Unpack[SampleOptions],
) -> list[BuiltSamples]:
    """Logs sequences whose truth is known, with `gt_track_ids` beside the tracker's own assignment.

    Args:
        sequences: MOTChallenge sequence folders, and folders of them: data sets in the layouts of
            `formats.motchallenge`.
        directory: folder of the samples; created or continued.
        truth: file of true boxes instead of the sequence's `gt/gt.txt`, for a single sequence.
        by: a folder below `directory` for each sequence, or for each video that sequences were cut from, named like it;
            None: all samples in one folder.
        detections: as for `track_boxes`, or simulated ones.
        tracker: as for `track_boxes`.
        video: as for `track_boxes`.
        perception: as for `track_boxes`.
        progress: as for `track_boxes`.
        options: the following, by keyword.
        embed_dim: width of the logged embeddings.
        overwrite: samples that are in the folders are removed first, once every sequence is opened and found to be
            usable; other files stay.

    Raises:
        InputError: a sequence cannot be used.
        ArtifactError: samples cannot be logged.
        SettingError: a setting is wrong, or one `truth` for several sequences.
    """
    sequences = find_sequences(sequences)
    if truth is not None and len(sequences) != 1:
        given = wording("truth", "--gt")
        raise SettingError(f"one file of true boxes is for one sequence, not {len(sequences)}: leave {given} out")
    builder = _SampleBuilder(
        detections,
        tracker if isinstance(tracker, TrackerSettings) else preset(tracker),
        video or InputSettings(),
        perception or PerceptionSettings(),
        options.get("embed_dim", DEFAULT_EMBED_DIM),
        progress,
    )
    folders = {path: _folder_below(Path(directory), path, by) for path in map(Path, sequences)}
    truths = {path: read_ground_truth(truth if truth is not None else path) for path in folders}
    if options.get("overwrite"):
        for path, boxes in truths.items():
            with ExitStack() as stack:
                builder.open(path, boxes, folders[path], stack)
        for folder in dict.fromkeys(folders.values()):
            remove_samples(folder)
    return [builder.build(path, boxes, folders[path]) for path, boxes in truths.items()]


class _OpenSequence(NamedTuple):
    """A sequence that samples are made of, open."""

    video: VideoInput
    detections: DetectionSource
    features: FrameFeatures
    settings: LogSettings
    log: RunLog
    timer: TimingAggregator


@dataclass(frozen=True)
class _SampleBuilder:
    """Tracks and logs one sequence after another; attributes as arguments of `build_samples`."""

    detections: str | Path | SimulatedDetector | None
    tracker: TrackerSettings
    video: InputSettings
    perception: PerceptionSettings
    embed_dim: int
    progress: Progress

    def open(self, path: Path, truth: GroundTruth, folder: Path, stack: ExitStack) -> _OpenSequence:
        """A sequence with all that its samples are made of; nothing is written. `stack` closes it.

        Raises:
            InputError: the sequence cannot be used.
            ArtifactError: its samples cannot be logged in `folder`.
            SettingError: a setting is wrong.
        """
        log, timer = RunLog(self.video.on_bad_item), TimingAggregator()
        video = stack.enter_context(open_input(path, self._input_settings(path, truth)))
        video.report(log)
        source, perception = self.detections, self.perception
        table = _simulated_table(truth, source, video) if isinstance(source, SimulatedDetector) else source
        detections = open_detections(
            table,
            video,
            log,
            timer,
            detector=perception.named_detector,
            options=perception.named_options,
            tracker=self.tracker,
        )
        stack.enter_context(detections)
        features = open_features(
            perception.model_copy(update={"cuts": "ignore"}),  # training videos are one shot, and need no pictures
            self.tracker,
            video,
            log,
            timer,
            needs_visibility=True,
            score_scale=detections.score_scale,
        )
        settings = LogSettings(dir=folder, embed_dim=self.embed_dim, sequence=video.name)
        check_log(settings, video)
        return _OpenSequence(video, detections, features, settings, log, timer)

    def build(self, path: Path, truth: GroundTruth, folder: Path) -> BuiltSamples:
        """Tracks and logs a sequence."""
        with ExitStack() as stack:
            opened = self.open(path, truth, folder, stack)
            video, detections, features, log = opened.video, opened.detections, opened.features, opened.log
            identities = _IdentityColumn(truth, with_classes=video.settings.class_column is not None)
            display = stack.enter_context(open_display(self.progress, video.name, video))
            logger = stack.enter_context(open_logger(opened.settings, video, "ground_truth"))
            tracker = make_tracker(self.tracker, video, observer=logger, score_scale=detections.score_scale)
            found = detections.frames(images=features.needs_images, is_idle=lambda: tracker.is_idle)
            frames = identities.added(found)
            track_frames(frames, features, tracker, [], opened.timer, display)
            samples = close_logger(logger, log)
        warnings = (*log.warnings, *tracker.summary.warnings)
        frame_count = tracker.frames + detections.passed_over
        return BuiltSamples(
            video.name, folder, frame_count, samples, identities.detections, identities.identified, warnings
        )

    def _input_settings(self, path: Path, truth: GroundTruth) -> InputSettings:
        """The input's settings, with the class column of the sequence's own detections where none is set."""
        file = None if isinstance(self.detections, SimulatedDetector) else self.detections
        files = read_sequence(path).detection_files
        name = "det" if file is None else Path(file).stem
        if self.video.class_column is not None or name not in files or Path(file or "").parent != Path():
            return self.video
        return self.video.model_copy(update={"class_column": class_column_of(truth, files[name])})


class _IdentityColumn:
    """Adds to each detection the identity of the true object that it shows, as the column `GT_COLUMN`.

    Args:
        truth: the true boxes of the sequence.
        with_classes: whether a detection shows an object of its own class only.

    Attributes:
        detections: how many there were so far.
        identified: how many of them show an object.
    """

    def __init__(self, truth: GroundTruth, *, with_classes: bool) -> None:
        self._truth, self._with_classes = truth, with_classes
        self.detections = 0
        self.identified = 0

    def added(self, frames: Iterable[DetectedFrame]) -> Iterator[DetectedFrame]:
        """The frames, their detections with the column."""
        for frame in frames:
            detections = frame.detections
            classes = detections.class_id if self._with_classes else None
            identities = gt_track_ids(detections.xyxy, self._truth.at(frame.index), class_id=classes)
            self.detections += len(identities)
            self.identified += int(np.count_nonzero(identities != NO_IDENTITY))
            yield replace(frame, detections=replace(detections, data={**detections.data, GT_COLUMN: identities}))


def _folder_below(directory: Path, path: Path, by: Literal["sequence", "video"] | None) -> Path:
    """The folder of a sequence's samples.

    Raises:
        InputError: the sequence's name cannot be a folder's.
    """
    if by is None:
        return directory
    name = read_sequence(path).name
    text = name if by == "sequence" else video_of(name)
    return directory / safe_name(text, f"{path / INFO}: name")


def _simulated_table(truth: GroundTruth, detector: SimulatedDetector, video: VideoInput) -> DetectionTable:
    """Detections of a sequence by a simulated detector.

    Raises:
        InputError: the sequence's size, rate or length is not known.
    """
    if video.size is None or video.frame_rate is None or video.length is None:
        raise InputError(f"{video.path}: simulated detections need the frames' size, rate and number: see seqinfo.ini")
    motion = None if video.sequence is None else video.sequence.camera_motion
    return simulate_detections(
        truth,
        detector.noise,
        size=video.size,
        fps=video.frame_rate,
        length=video.length,
        seed=detector.seed,
        name=video.name,
        camera=None if motion is None else read_gmc(motion),
    )


def simulated_sequences(settings: SimulateSettings) -> Iterator[SimulatedSequence]:
    """Simulated sequences of random settings; the same settings give the same ones.

    A sequence does not depend on how many follow it.

    Raises:
        SettingError: an unknown regime or detector.

    >>> [len(sequence) for sequence in simulated_sequences(SimulateSettings(frames=90, sequence_frames=60))]
    [60, 30]
    """
    for number, begin in enumerate(range(0, settings.frames, settings.sequence_frames)):
        yield simulated_sequence(settings, number, frames=min(settings.sequence_frames, settings.frames - begin))


def simulated_sequence(
    settings: SimulateSettings,
    number: int,
    *,
    frames: int | None = None,
    embedding: Callable[[np.random.Generator], EmbeddingSettings | None] | None = None,
) -> SimulatedSequence:
    """The simulated sequence of a number.

    Args:
        settings: of all sequences.
        number: which, from 0.
        frames: its length; None: `settings.sequence_frames`.
        embedding: draws settings of its appearance; None, or a result of None: no embeddings.
    """
    rng = np.random.default_rng([settings.seed, number])
    length = settings.sequence_frames if frames is None else frames
    noise = None if settings.detector is None else detector_noise(settings.detector)
    scene = random_settings(rng, settings.regime, frames=length, detector=noise)
    if embedding is not None:
        scene = scene.model_copy(update={"embedding": embedding(rng)})
    sequence = simulate(scene, int(rng.integers(2**31)))
    return replace(sequence, name=f"{scene.motion.kind}-{settings.seed}-{number:05d}")


def simulate_samples(
    settings: SimulateSettings,
    directory: str | Path | None = None,
    *,
    tracker: str | TrackerSettings = "adaptive",
    embed_dim: int = DEFAULT_EMBED_DIM,
    mot: str | Path | None = None,
    preview: str | Path | None = None,
    progress: Progress = None,
) -> list[BuiltSamples]:
    """Tracks simulated sequences and logs every frame with the true identity of each detection.

    Samples are those that `build_samples` writes of real sequences: visibility is estimated from boxes, as it is where
    the tracker is used. Their label source is `simulated`.

    Args:
        settings: which sequences.
        directory: folder of the samples, created or continued; None: none are logged.
        tracker: as for `track_boxes`.
        embed_dim: width of the logged embeddings.
        mot: a folder that gets a MOTChallenge folder per sequence.
        preview: a PNG of the first sequences.
        progress: as for `track_boxes`.

    Raises:
        SettingError: a setting is wrong, or there is nothing to write.
        ArtifactError: samples or files cannot be written.
    """
    if directory is None and mot is None and preview is None:
        ways = wording("directory, mot= or preview=", "a folder for samples (-o), --mot or --picture")
        raise SettingError(f"nothing is asked for: give {ways}")
    outputs = _SequenceOutputs.create(directory, tracker, embed_dim, mot=mot, preview=preview)
    return outputs.write(simulated_sequences(settings), settings.frames, progress, "simulating")


def read_trajectories(
    sources: Sequence[str | Path], *, allow_blended: bool = False, skip_corrupt: bool = False
) -> list[Trajectories]:
    """Trajectories of recorded videos.

    Args:
        sources: folders of samples that a tracker logged, whose tracks are taken as they are; and MOTChallenge sequence
            folders or data sets of them, whose truth is taken.
        allow_blended: take tracks that a learned scorer decided about as well.
        skip_corrupt: leave out samples that cannot be read.

    Raises:
        ArtifactError: samples cannot be read, or there are no trajectories in any video.
        InputError: a sequence cannot be read.
        SettingError: a learned scorer took part in a log's assignments.
    """
    logs = [source for source in map(Path, sources) if source.is_dir() and any(source.rglob("sample_*.npz"))]
    videos: list[Trajectories] = []
    if logs:
        for run in read_samples(logs, skip_corrupt=skip_corrupt).runs.values():
            path, first = run[0]
            if not allow_blended:
                reject_blended(path, first)
            states = [assignment_state(sample) for _, sample in run]
            trajectories = Trajectories.from_states(states, fps=first.metadata.fps or DEFAULT_FPS)
            videos += [] if trajectories is None else [trajectories]
    others = [source for source in map(Path, sources) if source not in logs]
    try:
        folders = find_sequences(others) if others else []
    except InputError as error:
        raise InputError(f"{error}, nor one of samples that a tracker logged") from None
    for folder in folders:
        sequence = read_sequence(folder)
        size, fps, length = sequence.known_size(), sequence.known_frame_rate(), sequence.known_length()
        camera = None if sequence.camera_motion is None else read_gmc(sequence.camera_motion)
        truth = read_ground_truth(folder)
        videos.append(Trajectories.from_truth(truth, size=size, fps=fps, length=length, camera=camera))
    if not any(video.present.any() for video in videos):
        raise ArtifactError(
            "there are no objects in these videos (in a log: no tracks of at least two seconds): nothing can be "
            "re-simulated"
        )
    return videos


def resimulate_samples(
    videos: Sequence[Trajectories],
    settings: RemixSettings,
    directory: str | Path,
    *,
    tracker: str | TrackerSettings = "learned",
    scorer: LearnedScorer | None = None,
    embed_dim: int = DEFAULT_EMBED_DIM,
    preview: str | Path | None = None,
    progress: Progress = None,
) -> list[BuiltSamples]:
    """Tracks new scenes of recorded trajectories and logs every frame with the true identity of each detection.

    With it a model learns how objects move before one's own camera, without their truth: see `resimulate`.

    Args:
        videos: trajectories, see `read_trajectories`.
        settings: which scenes; frames of all scenes together may be a few more.
        directory: folder of the samples; created or continued.
        tracker: as for `track_boxes`.
        scorer: scores pairs, so that samples hold what a tracker meets with it; None: the package's model, where the
            tracker leaves decisions to one.
        embed_dim: width of the logged embeddings; there are none.
        preview: a PNG of the first scenes.
        progress: as for `track_boxes`.

    Raises:
        ArtifactError: samples cannot be written, or there are no trajectories.
        SettingError: the preview is not named as a PNG.
    """
    outputs = _SequenceOutputs.create(directory, tracker, embed_dim, preview=preview)
    if scorer is None and outputs.tracker.scorer_decides:
        scorer = LearnedScorer()
    noise = None if settings.detector is None else detector_noise(settings.detector)
    scenes = (
        resimulate(videos, number, seed=settings.seed, frames=settings.scene_frames, detector=noise)
        for number in count()
    )
    return replace(outputs, scorer=scorer).write(scenes, settings.frames, progress, "remixing")


@dataclass(frozen=True)
class _SequenceOutputs:
    """Where simulated sequences are written, and how they are tracked for it.

    Attributes:
        directory: folder of the samples; None: none are logged.
        tracker: settings of the tracker.
        embed_dim: width of the logged embeddings.
        mot: folder of MOTChallenge folders, or None.
        preview: PNG of the first sequences, or None.
        scorer: scores pairs, or None.
    """

    directory: Path | None
    tracker: TrackerSettings
    embed_dim: int
    mot: Path | None
    preview: Path | None
    scorer: LearnedScorer | None = None

    @classmethod
    def create(
        cls,
        directory: str | Path | None,
        tracker: str | TrackerSettings,
        embed_dim: int,
        *,
        mot: str | Path | None = None,
        preview: str | Path | None = None,
    ) -> _SequenceOutputs:
        """Checks and casts the arguments of the public functions."""
        if preview is not None and Path(preview).suffix.lower() != ".png":
            raise SettingError(f"{preview}: pictures are PNG files, such as preview.png")
        return cls(
            None if directory is None else Path(directory),
            tracker if isinstance(tracker, TrackerSettings) else preset(tracker),
            embed_dim,
            None if mot is None else Path(mot),
            None if preview is None else Path(preview),
        )

    def write(
        self, sequences: Iterable[SimulatedSequence], frames: int, progress: Progress, label: str
    ) -> list[BuiltSamples]:
        """Tracks and writes sequences until they have so many frames together."""
        built: list[BuiltSamples] = []
        previewed: list[SimulatedSequence] = []
        done = 0
        with open_progress(progress, frames, label) as display:
            for sequence in sequences:
                if self.mot is not None:
                    write_mot_folder(sequence, self.mot)
                if self.directory is not None:
                    built.append(self._log(sequence, self.directory))
                if self.preview is not None and len(previewed) < PREVIEW_SEQUENCES:
                    previewed.append(sequence)
                done += sequence.settings.frames
                display.update(min(done, frames), done)
                if done >= frames:
                    break
        if self.preview is not None:
            write_preview(self.preview, previewed)
        return built

    def _log(self, sequence: SimulatedSequence, directory: Path) -> BuiltSamples:
        visibility = VisibilityEstimator("occlusion", min_occluder_score=self.tracker.confidence_threshold)
        with SampleLogger(
            directory,
            sequence=sequence.name,
            fps=sequence.fps,
            size=sequence.size,
            embed_dim=self.embed_dim,
            label_source=LABEL_SOURCE,
        ) as logger:
            if self.scorer is not None:
                self.scorer.reset()
            tracker = Tracker(
                self.tracker, frame_rate=sequence.fps, size=sequence.size, scorer=self.scorer, observer=logger
            )
            for frame, time, camera, detections in sequence:
                visible = visibility.estimate(detections, size=sequence.size).visibility
                tracker.update(replace(detections, visibility=visible), FrameContext(frame, time, camera))
        return BuiltSamples(
            sequence.name,
            directory,
            len(sequence),
            logger.written,
            len(sequence.frame),
            int(np.count_nonzero(sequence.gt_track_ids >= 0)),
            tuple(logger.warnings) + tuple(tracker.summary.warnings),
        )
