"""`track_masks` and `track_boxes` with the settings of a command line or of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackweave.association.settings import LogSettings, ScorerSettings
from trackweave.identity.settings import IdentitySettings
from trackweave.mot.settings import RefinementSettings, TrackerSettings
from trackweave.options.sources import ResolvedSettings
from trackweave.pipelines.settings import BoxRunSettings, InputSettings, MaskRunSettings, PerceptionSettings
from trackweave.predictors.flow.settings import FlowSettings
from trackweave.predictors.sam.settings import SamSettings, TextSettings
from trackweave.proposals.settings import CandidateSettings, PointGridSettings, RegionSettings
from trackweave.tracking.settings import TrackingSettings
from trackweave.visualization.settings import OverlaySettings

if TYPE_CHECKING:
    from trackweave.pipelines.boxes import BoxOptions
    from trackweave.pipelines.masks import MaskOptions
    from trackweave.predictors.registry import PredictorSettings
    from trackweave.proposals.generators import GeneratorChoice


def generator_of(settings: ResolvedSettings) -> GeneratorChoice:
    """What finds candidates, as `track_masks` and `propose` take it."""
    from trackweave.proposals.generators import GeneratorChoice

    return GeneratorChoice(
        settings[MaskRunSettings].generator,
        settings[RegionSettings],
        settings[PointGridSettings],
        settings[TextSettings],
        settings[CandidateSettings],
    )


def predictor_settings_of(settings: ResolvedSettings) -> PredictorSettings:
    """The settings of all predictors, as `track_masks` and `choose_predictor` take them."""
    from trackweave.predictors.registry import PredictorSettings

    return PredictorSettings(settings[SamSettings], settings[FlowSettings])


def mask_options(settings: ResolvedSettings, *, overwrite: bool = False) -> MaskOptions:
    """What `track_masks` takes as options."""
    run = settings[MaskRunSettings]
    return {
        "predictor_settings": predictor_settings_of(settings),
        "overwrite": overwrite,
        "generator": generator_of(settings),
        "candidate_stride": run.candidate_stride,
        "sampling": run.frames,
        "overlay": settings[OverlaySettings],
        "overlay_levels": run.overlay_levels,
        "identity": settings[IdentitySettings] if run.identity == "on" else False,
    }


def tracking_of(settings: ResolvedSettings) -> TrackingSettings:
    """How masks are tracked."""
    return settings[TrackingSettings]


def box_options(settings: ResolvedSettings) -> BoxOptions:
    """What `track_boxes` takes by keyword beside source, output, detections and tracker."""
    options: BoxOptions = {
        "video": settings[InputSettings],
        "perception": settings[PerceptionSettings],
        "refinement": settings[RefinementSettings],
        "overlay": settings[BoxRunSettings].overlay and settings[OverlaySettings],
    }
    if "log" in settings.sections:
        options["log"] = settings[LogSettings]
    if changes_of_default(settings) is None:
        options["scorer"] = settings[ScorerSettings]
    return options


def tracker_of(settings: ResolvedSettings) -> TrackerSettings | dict[str, object]:
    """The tracker that was chosen; else what was changed of the one that is taken by default."""
    changes = changes_of_default(settings)
    return settings[TrackerSettings] if changes is None else changes


def changes_of_default(settings: ResolvedSettings) -> dict[str, object] | None:
    """Single settings of the tracker that is taken by default; None where a tracker or a scorer was chosen."""
    choices = ("tracker.preset", "tracker.scorer_weight", "tracker.scorer_decides")
    if any(key in choices or key.startswith("scorer.") for key in settings.provided):
        return None
    names = [key.removeprefix("tracker.") for key in settings.provided if key.startswith("tracker.")]
    return {name: getattr(settings[TrackerSettings], name) for name in names}
