"""The composition root of simulated samples: a crowd, the box tracker that follows it, the logger that looks on.

Crowds are simulated whole (`simulate_samples`), or put together from people of recorded videos (`remix_samples`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trackweave.association.data_collection import SampleLogger
from trackweave.association.dataset import assignment_state, read_samples, reject_blended
from trackweave.association.scorer import LearnedScorer
from trackweave.association.settings import DEFAULT_EMBED_DIM, LogSettings
from trackweave.association.track_memory import DEFAULT_FPS
from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.errors import ArtifactError, InputError, SettingError
from trackweave.formats.mot import read_ground_truth
from trackweave.formats.motchallenge import class_column_of, find_sequences, read_gmc, read_sequence, video_of
from trackweave.formats.tables import DetectionTable, GroundTruth
from trackweave.mot.settings import TrackerSettings, preset
from trackweave.mot.state import FrameContext
from trackweave.mot.tracker import Tracker
from trackweave.pipelines.box_inputs import VideoInput, open_input
from trackweave.pipelines.box_outputs import _Names
from trackweave.pipelines.box_tracking import BoxPass, _opened_sight
from trackweave.pipelines.run_folder import Progress, _check_log, _closed, _display, _logger
from trackweave.pipelines.settings import InputSettings, PerceptionSettings
from trackweave.progress import ProgressPrinter, TimingAggregator
from trackweave.simulation.detector import EmbeddingSettings
from trackweave.simulation.presets import MIXED, sample_settings
from trackweave.simulation.preview import write_overview
from trackweave.simulation.recorded import SCENE_FRAMES, People, detect_truth, remix
from trackweave.simulation.sequence import SimulatedSequence, simulate, write_mot_folder
from trackweave.simulation.settings import DetectorNoise
from trackweave.structures.run_log import Remarks, RunWarning


@dataclass(frozen=True)
class BuiltSamples:
    """What was logged of one sequence.

    Attributes:
        sequence: its name.
        directory: folder of the samples.
        frames: frames that were tracked.
        samples: samples written.
        detections: detections of all frames.
        identified: those of them that show a known identity.
        warnings: everything that was done differently from what was asked.
    """

    sequence: str
    directory: Path
    frames: int
    samples: int
    detections: int
    identified: int
    warnings: Sequence[RunWarning]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        plain = {name: getattr(self, name) for name in ("sequence", "frames", "samples", "detections", "identified")}
        warnings = [warning.to_json() for warning in self.warnings]
        return {**plain, "directory": str(self.directory), "warnings": warnings}


def build_samples(
    sequences: Sequence[str | Path],
    directory: str | Path,
    *,
    truth: str | Path | None = None,
    separate: bool = False,
    by: Literal["sequence", "video"] | None = None,
    detections: str | Path | None = None,
    simulated: DetectorNoise | None = None,
    seed: int = 0,
    tracker: str | TrackerSettings = "adaptive",
    video: InputSettings | None = None,
    perception: PerceptionSettings | None = None,
    embed_dim: int = DEFAULT_EMBED_DIM,
    progress: Progress | None = None,
) -> list[BuiltSamples]:
    """Logs sequences whose truth is known, with `gt_track_ids` beside the tracker's own decisions.

    Args:
        sequences: MOTChallenge sequence folders, and folders of them: data sets in the layouts of
            `formats.sequence_layouts`.
        directory: folder of the samples; made when missing, continued when not.
        truth: file of true boxes instead of the sequence's `gt/gt.txt`, for a single sequence.
        separate: the same as `by="sequence"`.
        by: a folder below `directory` for each sequence, or for each video that sequences were cut from, named like it;
            None: all samples in one folder.
        detections: as for `track_boxes`.
        simulated: a detector to simulate on the truth, for data sets that come without detections.
        seed: of the simulated detections.
        tracker: as for `track_boxes`.
        video: as for `track_boxes`.
        perception: as for `track_boxes`.
        embed_dim: width of the logged embeddings.
        progress: as for `track_boxes`.

    Raises:
        InputError: a sequence cannot be used.
        ArtifactError: samples cannot be logged.
        SettingError: a setting is wrong, one `truth` for several sequences, or real and simulated detections at once.
    """
    sequences = find_sequences(sequences)
    if simulated is not None and detections is not None:
        raise SettingError(f"both detections ({detections}) and a simulated detector are given: leave one out")
    if truth is not None and len(sequences) != 1:
        raise SettingError(f"one file of true boxes is for one sequence, not {len(sequences)}: leave --gt out")
    how = tracker if isinstance(tracker, TrackerSettings) else preset(tracker)
    looks, video = perception or PerceptionSettings(), video or InputSettings()
    known = {path: read_ground_truth(truth if truth is not None else path) for path in map(Path, sequences)}
    built = []
    for path, boxes in known.items():
        remarks, timer = Remarks(video.on_bad_item), TimingAggregator()
        with ExitStack() as stack:
            opened = stack.enter_context(open_input(path, _with_class_column(video, path, boxes, detections)))
            names = _Names(boxes, with_classes=opened.settings.class_column is not None)
            seen = detections if simulated is None else _simulated(boxes, simulated, opened, seed)
            sight = stack.enter_context(_opened_sight(seen, opened, looks, remarks))
            work = BoxPass(
                opened, sight, how, looks, remarks, timer.track, annotate=names.annotate, reads_visibility=True
            )
            folder = Path(directory) / _folder_name(opened.name, "sequence" if separate else by)
            log = LogSettings(dir=folder, embed_dim=embed_dim, sequence=opened.name)
            _check_log(log, opened)
            display = _display(progress, opened.name, opened, stack)
            logger = stack.enter_context(_logger(log, opened, "ground_truth"))
            for frame, _ in stack.enter_context(closing(work.tracked(logger))):
                if display is not None:
                    display.update(work.frames, frame.index)
            samples = _closed(logger, remarks)
        remarks.warnings += work.summary.warnings
        built.append(
            BuiltSamples(
                opened.name, folder, work.frames, samples, names.seen, names.identified, tuple(remarks.warnings)
            )
        )
    return built


def _folder_name(sequence: str, by: Literal["sequence", "video"] | None) -> str:
    return "" if by is None else sequence if by == "sequence" else video_of(sequence)


def _with_class_column(
    video: InputSettings, path: Path, truth: GroundTruth, detections: str | Path | None
) -> InputSettings:
    """Settings with the column of the class where nobody said it and the sequence's own detections have one."""
    files = read_sequence(path).detection_files
    stem = "det" if detections is None else Path(detections).stem
    if video.class_column is not None or stem not in files or Path(detections or "").parent != Path():
        return video
    return video.model_copy(update={"class_column": class_column_of(truth, files[stem])})


def _simulated(truth: GroundTruth, noise: DetectorNoise, video: VideoInput, seed: int) -> DetectionTable:
    """What a simulated detector reports of a sequence.

    Raises:
        InputError: the sequence's size or rate is not known.
    """
    if video.size is None or video.frame_rate is None or video.length is None:
        raise InputError(f"{video.path}: simulated detections need the frames' size, rate and number: see seqinfo.ini")
    motion = None if video.sequence is None or video.sequence.camera_motion is None else video.sequence.camera_motion
    return detect_truth(
        truth,
        noise,
        size=video.size,
        fps=video.frame_rate,
        length=video.length,
        seed=seed,
        name=video.name,
        camera=None if motion is None else read_gmc(motion),
    )


SEQUENCE_FRAMES = 300
"""Frames of one simulated sequence, when nobody says."""
LABEL_SOURCE = "simulated"
SHOWN = 9
"""Sequences in a picture."""


def crowds(
    frames: int,
    *,
    seed: int = 0,
    regime: str = MIXED,
    detector: DetectorNoise | None = None,
    sequence_frames: int = SEQUENCE_FRAMES,
) -> Iterator[SimulatedSequence]:
    """Simulated sequences of random settings, `frames` frames together; the same seed gives the same ones.

    A sequence does not depend on how many follow it.

    Raises:
        SettingError: an unknown regime, or a number that cannot be.

    >>> [len(sequence) for sequence in crowds(90, sequence_frames=60)]
    [60, 30]
    """
    for name, value, least in (("frames", frames, 1), ("sequence_frames", sequence_frames, 1), ("seed", seed, 0)):
        if value < least:
            raise SettingError(f"{name}: {value}, at least {least}")
    for number, begin in enumerate(range(0, frames, sequence_frames)):
        yield crowd(number, seed=seed, regime=regime, detector=detector, frames=min(sequence_frames, frames - begin))


def crowd(
    number: int,
    *,
    seed: int = 0,
    regime: str = MIXED,
    detector: DetectorNoise | None = None,
    frames: int = SEQUENCE_FRAMES,
    looks: Callable[[np.random.Generator], EmbeddingSettings | None] | None = None,
) -> SimulatedSequence:
    """The sequence of that number among those of `crowds`.

    Args:
        number: which.
        seed, regime, detector: as for `crowds`.
        frames: its length.
        looks: draws how appearance tells objects apart; None, or what gives None: not at all.
    """
    rng = np.random.default_rng([seed, number])
    settings = sample_settings(rng, regime, frames=frames, detector=detector)
    if looks is not None:
        settings = settings.model_copy(update={"embedding": looks(rng)})
    made = simulate(settings, int(rng.integers(2**31)))
    return replace(made, name=f"{settings.motion.kind}-{seed}-{number:05d}")


def simulate_samples(
    directory: str | Path | None,
    *,
    frames: int,
    seed: int = 0,
    regime: str = MIXED,
    detector: DetectorNoise | None = None,
    sequence_frames: int = SEQUENCE_FRAMES,
    tracker: str | TrackerSettings = "adaptive",
    embed_dim: int = DEFAULT_EMBED_DIM,
    mot: str | Path | None = None,
    picture: str | Path | None = None,
    progress: Progress | None = None,
) -> list[BuiltSamples]:
    """Tracks simulated sequences and logs every frame with the true identity of each detection.

    Samples are those that `build_samples` writes of real sequences: visibility is estimated from boxes, as it is where
    the tracker is used. Their label source is `simulated`.

    Args:
        directory: folder of the samples; made when missing, continued when not; None: none are logged.
        frames: of all sequences together.
        seed: of the random numbers.
        regime: `mixed`, `dance`, `sport`, `street` or `traffic`.
        detector: how the detector errs; None: as suits each regime, varied.
        sequence_frames: frames of one sequence.
        tracker: as for `track_boxes`.
        embed_dim: width of the logged embeddings.
        mot: a folder that gets a MOTChallenge folder per sequence.
        picture: a PNG that shows the first sequences.
        progress: makes a progress display from a label and a number of steps.

    Raises:
        SettingError: a setting is wrong, or there is nothing to write.
        ArtifactError: samples or files cannot be written.
    """
    if directory is None and mot is None and picture is None:
        raise SettingError("nothing is asked for: give a folder for samples (-o), --mot or --picture")
    _check_picture(picture)
    how = tracker if isinstance(tracker, TrackerSettings) else preset(tracker)
    made = crowds(frames, seed=seed, regime=regime, detector=detector, sequence_frames=sequence_frames)
    display = None if progress is None else progress("simulating", frames)
    folder = None if directory is None else Path(directory)
    return _written(made, folder, how, embed_dim, frames=frames, mot=mot, picture=picture, display=display)


def recorded_people(
    sources: Sequence[str | Path], *, allow_blended: bool = False, skip_corrupt: bool = False
) -> list[People]:
    """Everybody in recorded videos.

    Args:
        sources: folders of samples that a tracker logged, whose tracks are taken for people; and MOTChallenge sequence
            folders or data sets of them, whose truth tells.
        allow_blended: take tracks that a learned scorer decided about as well.
        skip_corrupt: leave out samples that cannot be read.

    Raises:
        ArtifactError: samples cannot be read, or nobody is in any video.
        InputError: a sequence cannot be read.
        SettingError: a learned scorer took part in a log's decisions.
    """
    logs = [source for source in map(Path, sources) if source.is_dir() and any(source.rglob("sample_*.npz"))]
    found: list[People] = []
    if logs:
        for run in read_samples(logs, skip_corrupt=skip_corrupt).runs.values():
            path, first = run[0]
            if not allow_blended:
                reject_blended(path, first)
            people = People.of_log(
                [assignment_state(sample) for _, sample in run], fps=first.metadata.fps or DEFAULT_FPS
            )
            found += [] if people is None else [people]
    rest = [source for source in map(Path, sources) if source not in logs]
    try:
        folders = find_sequences(rest) if rest else []
    except InputError as error:
        raise InputError(f"{error}, nor one of samples that a tracker logged") from None
    for folder in folders:
        sequence = read_sequence(folder)
        size, rate, length = sequence.known_size(), sequence.known_frame_rate(), sequence.known_length()
        motion = None if sequence.camera_motion is None else read_gmc(sequence.camera_motion)
        found.append(People.of_truth(read_ground_truth(folder), size=size, fps=rate, length=length, camera=motion))
    if not any(people.there.any() for people in found):
        raise ArtifactError(
            "nobody is in these videos (in a log, for two seconds at least): there is nothing to put together"
        )
    return found


def remix_samples(
    people: Sequence[People],
    directory: str | Path,
    *,
    frames: int,
    seed: int = 0,
    detector: DetectorNoise | None = None,
    scene_frames: int = SCENE_FRAMES,
    tracker: str | TrackerSettings = "learned",
    scorer: LearnedScorer | None = None,
    embed_dim: int = DEFAULT_EMBED_DIM,
    picture: str | Path | None = None,
    progress: Progress | None = None,
) -> list[BuiltSamples]:
    """Tracks scenes that are put together from recorded people, and logs every frame with the true identities.

    For learning how the people of one's own camera move, without their truth: see `remix`.

    Args:
        people: of recorded videos, see `recorded_people`.
        directory: folder of the samples; made when missing, continued when not.
        frames: about so many of all scenes together.
        seed: of the random numbers.
        detector: how the simulated detector errs; None: as good ones do, varied.
        scene_frames: frames of a scene.
        tracker: as for `track_boxes`.
        scorer: judges pairs, so that samples hold what a tracker meets with it; None: the package's model, where the
            tracker leaves decisions to one.
        embed_dim: width of the logged embeddings; there are none.
        picture: a PNG that shows the first scenes.
        progress: makes a progress display from a label and a number of steps.

    Raises:
        ArtifactError: samples cannot be written, or nobody is in the videos.
        SettingError: the picture is not to be a PNG.
    """
    _check_picture(picture)
    how = tracker if isinstance(tracker, TrackerSettings) else preset(tracker)
    judge = LearnedScorer() if scorer is None and how.scorer_decides else scorer
    scenes = (remix(people, number, seed=seed, frames=scene_frames, detector=detector) for number in count())
    display = None if progress is None else progress("remixing", frames)
    return _written(
        scenes, Path(directory), how, embed_dim, frames=frames, picture=picture, display=display, scorer=judge
    )


def _written(
    sequences: Iterable[SimulatedSequence],
    directory: Path | None,
    how: TrackerSettings,
    embed_dim: int,
    *,
    frames: int,
    mot: str | Path | None = None,
    picture: str | Path | None = None,
    display: ProgressPrinter | None = None,
    scorer: LearnedScorer | None = None,
) -> list[BuiltSamples]:
    """Tracks and writes sequences until they have so many frames together."""
    built: list[BuiltSamples] = []
    shown: list[SimulatedSequence] = []
    done = 0
    for sequence in sequences:
        if mot is not None:
            write_mot_folder(sequence, mot)
        if directory is not None:
            built.append(_logged(sequence, directory, how, embed_dim, scorer))
        if picture is not None and len(shown) < SHOWN:
            shown.append(sequence)
        done += sequence.settings.frames
        if display is not None:
            display.update(min(done, frames), done)
        if done >= frames:
            break
    if display is not None:
        display.close()
    if picture is not None:
        write_overview(Path(picture), shown)
    return built


def _check_picture(picture: str | Path | None) -> None:
    if picture is not None and Path(picture).suffix.lower() != ".png":
        raise SettingError(f"{picture}: pictures are PNG files, such as overview.png")


def _logged(
    sequence: SimulatedSequence,
    directory: Path,
    how: TrackerSettings,
    embed_dim: int,
    scorer: LearnedScorer | None,
) -> BuiltSamples:
    eyes = VisibilityEstimator("occlusion", min_occluder_score=how.confidence_threshold)
    with SampleLogger(
        directory,
        sequence=sequence.name,
        fps=sequence.fps,
        size=sequence.size,
        embed_dim=embed_dim,
        label_source=LABEL_SOURCE,
    ) as logger:
        if scorer is not None:
            scorer.reset()
        tracker = Tracker(how, frame_rate=sequence.fps, size=sequence.size, scorer=scorer, observer=logger)
        for frame, time, camera, found in sequence:
            seen = replace(found, visibility=eyes.estimate(found, size=sequence.size).visibility)
            tracker.update(seen, FrameContext(frame, time, camera))
    return BuiltSamples(
        sequence.name,
        directory,
        len(sequence),
        logger.written,
        len(sequence.frame),
        int(np.count_nonzero(sequence.gt_track_ids >= 0)),
        tuple(logger.warnings) + tuple(tracker.summary.warnings),
    )
