"""The composition root of box tracking: opens the inputs, introduces the rooms to each other, leaves a run folder.

`track_boxes` follows what a detector or a file of detections says; `build_samples` logs sequences whose truth is known.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from trackweave.association.dataset import BLENDED
from trackweave.association.scorer import LearnedScorer
from trackweave.association.settings import LogSettings, ScorerSettings
from trackweave.errors import SettingError
from trackweave.frames.source import FrameSource
from trackweave.mot.settings import RefinementSettings, TrackerSettings, preset
from trackweave.pipelines.box_inputs import Given, VideoInput, open_input
from trackweave.pipelines.box_outputs import BoxOverlay, TrackCensus, TrackWriter
from trackweave.pipelines.box_tracking import BoxPass, _opened_sight
from trackweave.pipelines.run_folder import (
    BoxRunResult,
    Progress,
    _check_log,
    _claim,
    _closed,
    _display,
    _finish,
    _log_record,
    _logger,
    _Made,
)
from trackweave.pipelines.settings import InputSettings, PerceptionSettings
from trackweave.progress import TimingAggregator
from trackweave.storage.run import RunPaths
from trackweave.structures.run_log import Remarks, RunWarning
from trackweave.structures.tracks import Tracks


def track_boxes(
    source: int | str | Path | FrameSource | Any | None,
    output: str | Path,
    *,
    detections: Given | None = None,
    tracker: str | TrackerSettings = "adaptive",
    video: InputSettings | None = None,
    perception: PerceptionSettings | None = None,
    refinement: RefinementSettings | None = None,
    log: LogSettings | None = None,
    scorer: ScorerSettings | None = None,
    overlay: bool = True,
    stop: threading.Event | None = None,
    warnings: Iterable[RunWarning] = (),
    progress: Progress | None = None,
) -> BoxRunResult:
    """Links detections over time and leaves a run folder.

    Frames are read one at a time and results are streamed, so memory does not grow with the video; of a file of
    detections all rows are held, and with a refinement all tracks. Nothing appears in the folder before the run is
    through, `manifest.json` last.

    Args:
        source: a MOTChallenge sequence folder, a folder of images, a video, an array or a `FrameSource`; number of a
            webcam or address of a stream; None when there are only detections.
        output: the run folder; made when it is not there.
        detections: a file or table of detections, or a detector: its name, an `.onnx` file, or the object. None: that
            of `perception`, the sequence's own `det/det.txt`, else `motion`.
        tracker: a preset's name, or settings.
        video: what the source does not say (rate, size), which frames are taken, and what becomes of bad ones.
        perception: which signals are computed from the pictures.
        refinement: gaps to fill, tracks to remove, smoothing, after the whole video was seen.
        log: where to log training samples; with a scorer they are marked as decided by it.
        scorer: whether a learned scorer judges pairs, and which; best with the tracker `learned`.
        overlay: draw the tracks over the frames, where there are any.
        stop: when set, the run ends after the current frame with what is there; meant for live sources.
        warnings: remarks of the caller that belong to the run.
        progress: makes a progress display from a label and a number of steps.

    Raises:
        InputError: source, detections or model cannot be used; one line that names the file and the item.
        RunFolderError: `output` holds another run, or cannot be written.
        ArtifactError: samples cannot be logged.
        SettingError: a setting is wrong.
    """
    how = tracker if isinstance(tracker, TrackerSettings) else preset(tracker)
    judging = scorer or ScorerSettings()
    looks, video, log = perception or PerceptionSettings(), video or InputSettings(), log or LogSettings()
    refinement = None if refinement == RefinementSettings() else refinement
    remarks = Remarks(video.on_bad_item, [*warnings])
    run, timer = RunPaths(Path(output)), TimingAggregator()
    with ExitStack() as stack:
        with timer.track("open"):
            opened = stack.enter_context(open_input(source, video))
            sight = stack.enter_context(_opened_sight(detections, opened, looks, remarks))
            boxes = BoxPass(
                opened,
                sight,
                how,
                looks,
                remarks,
                timer.track,
                scorer=make_scorer(judging, how, opened),
                reads_visibility=log.dir is not None,
                stop=stop,
            )
        _check_log(log, opened)
        census = TrackCensus(step=opened.step)
        writer = TrackWriter(run, census, refinement, {"source": opened.path})
        drawing = BoxOverlay(run.overlay, opened, remarks, timer.track, wanted=overlay and refinement is None)
        _claim(run)
        display = _display(progress, "tracking", opened, stack)
        logger = stack.enter_context(_logger(log, opened, BLENDED if judging.enabled else "tracker"))
        with writer, drawing, closing(boxes.tracked(logger, draws=drawing.is_on)) as stream:
            for frame, tracked in stream:
                with timer.track("write"):
                    tracks = writer.write(frame.index, frame.time, tracked)
                drawing.draw(frame, tracks)
                if display is not None:
                    display.update(boxes.frames, frame.index)
            with timer.track("write"):
                writer.finish(opened.times)
                samples = _closed(logger, remarks)
        if overlay and writer.refined is not None:
            _draw_refined(run, opened, remarks, timer, writer.refined.tracks)
        config: dict[str, BaseModel | None] = {
            "tracker": how,
            "input": video,
            "perception": looks,
            "refinement": refinement,
            "log": log,
        }
        if judging.enabled:
            config["scorer"] = judging
        made = _Made(opened, boxes, sight, census, writer.refined, remarks, timer, _log_record(log, opened, samples))
        return _finish(run, made, {name: part.model_dump(mode="json") for name, part in config.items() if part})


def make_scorer(settings: ScorerSettings, how: TrackerSettings, video: VideoInput) -> LearnedScorer | None:
    """The scorer that the settings ask for; None when they ask for none.

    Raises:
        ArtifactError: not a model of association, or of another version of the features.
        SettingError: a tracker whose gates need a scorer has none, or another width of embeddings.
    """
    if settings.enabled:
        return LearnedScorer(
            settings.weights, size=video.size, embed_dim=settings.embed_dim, threshold=settings.threshold
        )
    if how.scorer_decides:
        raise SettingError("tracker learned leaves decisions to a learned scorer: add --scorer learned")
    return None


def _draw_refined(run: RunPaths, video: VideoInput, remarks: Remarks, timer: TimingAggregator, tracks: Tracks) -> None:
    """The overlay of tracks that were refined after the pass: the frames are read a second time."""
    if video.kind == "live":
        text = f"{video.path}: no overlay: refined tracks are known at the end, and live pictures are gone by then"
        remarks.warn("overlay", "overlay-unavailable", text)
        return
    with BoxOverlay(run.overlay, video, remarks, timer.track) as drawing:
        if drawing.is_on:
            for frame in video.frames():
                drawing.draw(frame, tracks.at(frame.index))
