"""Weave per-frame masks and boxes into identities.

The verbs of the command line, in Python::

    import trackweave

    run = trackweave.track_masks("clip.mp4", "runs/clip")
    tracks = run.tracks()
    print(tracks.track_ids, tracks.at(10).xyxy)

Everything that a user may call is listed here. Names load on first use: `import trackweave` itself is cheap and loads
neither numpy nor torch nor cv2.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackweave.association.data_collection import SampleLogger
    from trackweave.association.scorer import LearnedScorer
    from trackweave.association.settings import LogSettings, ScorerSettings
    from trackweave.detectors.base import Detector
    from trackweave.detectors.embedders import Embedder, make_embedder
    from trackweave.detectors.registry import make_detector
    from trackweave.errors import (
        ArtifactError,
        ArtifactVersionError,
        CandidateError,
        FrameError,
        FrameOrderError,
        InputError,
        MissingExtraError,
        PredictorError,
        PredictorOutOfMemory,
        PredictorUnavailable,
        PromptError,
        RunFolderError,
        SettingError,
        TrackweaveError,
    )
    from trackweave.evaluation.evaluate import evaluate
    from trackweave.evaluation.settings import EvaluationSettings
    from trackweave.exporters import convert, export
    from trackweave.formats.readers import read_detections, read_tracks
    from trackweave.formats.tables import DetectionTable
    from trackweave.frames.open import open_frames
    from trackweave.frames.source import FrameSource
    from trackweave.identity.settings import IdentitySettings
    from trackweave.masks.packed import PackedMasks
    from trackweave.mot.settings import RefinementSettings, TrackerSettings, preset
    from trackweave.mot.state import AssignmentObserver, AssociationScorer, FrameContext
    from trackweave.mot.tracker import ByteTracker, Tracker
    from trackweave.pipelines.boxes import track_boxes
    from trackweave.pipelines.detection_source import detect
    from trackweave.pipelines.identity import relate
    from trackweave.pipelines.masks import track_masks
    from trackweave.pipelines.online_masks import MaskStream
    from trackweave.pipelines.proposing import propose
    from trackweave.pipelines.run import Run, open_run
    from trackweave.pipelines.settings import InputSettings, PerceptionSettings
    from trackweave.plans.runner import Forecast, ItemSelection, PlanEvent, forecast, run
    from trackweave.plans.settings import Plan, load_plan
    from trackweave.plans.stages import FinishedItem
    from trackweave.predictors.base import PredictorSession, VideoPredictor
    from trackweave.predictors.flow.predictor import FlowPredictor
    from trackweave.predictors.flow.settings import FlowSettings
    from trackweave.predictors.registry import choose_predictor
    from trackweave.predictors.sam.settings import SamSettings, TextSettings
    from trackweave.proposals.settings import PointGridSettings, RegionSettings
    from trackweave.reports.page import report
    from trackweave.storage.mask_archive import ObjectSegments, VideoSegments
    from trackweave.structures.assignment import AssignmentState
    from trackweave.structures.candidates import Candidates
    from trackweave.structures.detections import Detections
    from trackweave.structures.format_settings import FormatSettings
    from trackweave.structures.identity import IdentityTable, Tree
    from trackweave.structures.prompts import Prompt
    from trackweave.structures.run_log import RunLog, RunWarning
    from trackweave.structures.run_summary import BoxSummary, MaskSummary, RunSummary
    from trackweave.structures.tracks import Tracks
    from trackweave.tracking.settings import OnlineSettings, TrackingSettings
    from trackweave.visualization.settings import OverlaySettings

    __version__: str

_EXPORTS = {
    "association.data_collection": ("SampleLogger",),
    "association.scorer": ("LearnedScorer",),
    "association.settings": (
        "LogSettings",
        "ScorerSettings",
    ),
    "detectors.base": ("Detector",),
    "detectors.embedders": (
        "Embedder",
        "make_embedder",
    ),
    "detectors.registry": ("make_detector",),
    "errors": (
        "ArtifactError",
        "ArtifactVersionError",
        "CandidateError",
        "FrameError",
        "FrameOrderError",
        "InputError",
        "MissingExtraError",
        "PredictorError",
        "PredictorOutOfMemory",
        "PredictorUnavailable",
        "PromptError",
        "RunFolderError",
        "SettingError",
        "TrackweaveError",
    ),
    "evaluation.evaluate": ("evaluate",),
    "evaluation.settings": ("EvaluationSettings",),
    "exporters": ("convert", "export"),
    "identity.settings": ("IdentitySettings",),
    "formats.readers": ("read_detections", "read_tracks"),
    "formats.tables": ("DetectionTable",),
    "frames.open": ("open_frames",),
    "frames.source": ("FrameSource",),
    "masks.packed": ("PackedMasks",),
    "mot.settings": (
        "RefinementSettings",
        "TrackerSettings",
        "preset",
    ),
    "mot.state": (
        "AssignmentObserver",
        "AssociationScorer",
        "FrameContext",
    ),
    "mot.tracker": (
        "ByteTracker",
        "Tracker",
    ),
    "pipelines.boxes": ("track_boxes",),
    "pipelines.detection_source": ("detect",),
    "pipelines.proposing": ("propose",),
    "pipelines.identity": ("relate",),
    "pipelines.masks": ("track_masks",),
    "pipelines.online_masks": ("MaskStream",),
    "pipelines.run": (
        "Run",
        "open_run",
    ),
    "pipelines.settings": (
        "InputSettings",
        "PerceptionSettings",
    ),
    "plans.runner": (
        "Forecast",
        "PlanEvent",
        "ItemSelection",
        "forecast",
        "run",
    ),
    "plans.settings": ("Plan", "load_plan"),
    "plans.stages": ("FinishedItem",),
    "predictors.base": (
        "PredictorSession",
        "VideoPredictor",
    ),
    "predictors.flow.predictor": ("FlowPredictor",),
    "predictors.flow.settings": ("FlowSettings",),
    "predictors.registry": ("choose_predictor",),
    "predictors.sam.settings": ("SamSettings", "TextSettings"),
    "proposals.settings": ("PointGridSettings", "RegionSettings"),
    "reports.page": ("report",),
    "storage.mask_archive": (
        "ObjectSegments",
        "VideoSegments",
    ),
    "structures.assignment": ("AssignmentState",),
    "structures.candidates": ("Candidates",),
    "structures.detections": ("Detections",),
    "structures.prompts": ("Prompt",),
    "structures.format_settings": ("FormatSettings",),
    "structures.run_log": (
        "RunLog",
        "RunWarning",
    ),
    "structures.run_summary": (
        "BoxSummary",
        "MaskSummary",
        "RunSummary",
    ),
    "structures.identity": ("IdentityTable", "Tree"),
    "structures.tracks": ("Tracks",),
    "tracking.settings": ("OnlineSettings", "TrackingSettings"),
    "visualization.settings": ("OverlaySettings",),
}
"""Module → names. For type checkers the same stands above; a test holds the two together."""
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = [
    "ArtifactError",
    "ArtifactVersionError",
    "AssignmentObserver",
    "AssignmentState",
    "AssociationScorer",
    "BoxSummary",
    "ByteTracker",
    "CandidateError",
    "Candidates",
    "DetectionTable",
    "Detections",
    "Detector",
    "Embedder",
    "EvaluationSettings",
    "FinishedItem",
    "FlowPredictor",
    "FlowSettings",
    "Forecast",
    "FormatSettings",
    "FrameContext",
    "FrameError",
    "FrameOrderError",
    "FrameSource",
    "IdentitySettings",
    "IdentityTable",
    "InputError",
    "InputSettings",
    "ItemSelection",
    "LearnedScorer",
    "LogSettings",
    "MaskStream",
    "MaskSummary",
    "MissingExtraError",
    "ObjectSegments",
    "OnlineSettings",
    "OverlaySettings",
    "PackedMasks",
    "PerceptionSettings",
    "Plan",
    "PlanEvent",
    "PointGridSettings",
    "PredictorError",
    "PredictorOutOfMemory",
    "PredictorSession",
    "PredictorUnavailable",
    "Prompt",
    "PromptError",
    "RefinementSettings",
    "RegionSettings",
    "Run",
    "RunFolderError",
    "RunLog",
    "RunSummary",
    "RunWarning",
    "SamSettings",
    "SampleLogger",
    "ScorerSettings",
    "SettingError",
    "TextSettings",
    "Tracker",
    "TrackerSettings",
    "TrackingSettings",
    "Tracks",
    "TrackweaveError",
    "Tree",
    "VideoPredictor",
    "VideoSegments",
    "__version__",
    "choose_predictor",
    "convert",
    "detect",
    "evaluate",
    "export",
    "forecast",
    "load_plan",
    "make_detector",
    "make_embedder",
    "open_frames",
    "open_run",
    "preset",
    "propose",
    "read_detections",
    "read_tracks",
    "relate",
    "report",
    "run",
    "track_boxes",
    "track_masks",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # the next access finds it without this function
    return value


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    """The version in `pyproject.toml`: of the installed package, or of a checkout that is only on the path."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("trackweave")
    except PackageNotFoundError:
        import tomllib
        from pathlib import Path

        project = Path(__file__).parents[2] / "pyproject.toml"
        if not project.is_file():
            return "unknown"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
