"""One cohort of all levels: what they prompted on one candidate frame moves through the video together.

Objects of a cohort do not influence each other, so each moves as it would with its own level alone. But the frames are
gone through once instead of once per level, and a model is called with all objects at once, which is what a GPU wants.

What the levels share is divided among them so that totals stay right. Time in the predictor and in packing goes by
the number of objects, as all of them visit the same frames; so does the counter `object_frames`, in whole numbers. Any
other counter (passes of an encoder, calls of a model) counts work that no object caused alone: it goes to the first
level with an object in the cohort, as do remarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

from trackweave.frames.source import FrameSource
from trackweave.tracking.cohort_record import SessionWatch
from trackweave.tracking.cohort_steps import _propagate_frame_predictions
from trackweave.tracking.helpers import TimingAggregator
from trackweave.tracking.level_tracker import CohortPart
from trackweave.tracking.pipeline_context import TrackingSettings

BY_OBJECTS = "object_frames"
"""The counter that every object adds to alike."""


def move_cohort(
    parts: Sequence[CohortPart], watch: SessionWatch, frames: FrameSource, settings: TrackingSettings
) -> None:
    """Moves the objects of all parts forward and backward, and finishes the candidate frame of each level.

    Predictions go to their levels frame by frame. Only when all are stored are the levels committed, one after the
    other; of a cohort that a kill splits there, see `level_schedule.forget_split_cohorts`.

    Args:
        parts: of one candidate frame, one per level, prompted in this order.
        watch: the session that they were prompted in.
        frames: the sampled frames.
        settings: `max_propagate` and `mask_scale_ratio` count; the same for all levels.

    Raises:
        PredictorError: the predictor failed; none of the levels has the frame.
        RunFolderError: results cannot be stored.
    """
    shared = TimingAggregator()
    prompted = [part for part in parts if part.kinds]
    if prompted:
        start = prompted[0].local
        records = _propagate_frame_predictions(
            watch.session,
            start,
            frames,
            max_propagate=settings.max_propagate,
            mask_scale_ratio=settings.mask_scale_ratio,
            timer=shared,
        )
        for record in records:
            for part in prompted:
                with part.clock.track("track.store"):
                    part.level.store(part.own(record))
        watch.session.finish(start)
    counts = [len(part.kinds) for part in parts]
    for stage, seconds in shared.items():
        for part in prompted:
            part.clock.add(stage, seconds * len(part.kinds) / sum(counts))
    first = parts.index(prompted[0]) if prompted else 0
    remarks = watch.remarks()
    for k, (part, work) in enumerate(zip(parts, divide_work(watch.work(), counts, first), strict=True)):
        part.level.finish(part, work, remarks if k == first else [], together=sum(counts))


def divide_work(work: Mapping[str, float], counts: Sequence[int], first: int) -> list[dict[str, float]]:
    """Each level's share of what was counted, see above.

    Args:
        work: what the session counted for the cohort.
        counts: objects of each level.
        first: position of the level that takes what is not divided.

    >>> divide_work({"object_frames": 10, "encoder_passes": 7}, [0, 1, 2], first=1)
    [{'object_frames': 0, 'encoder_passes': 0}, {'object_frames': 3, 'encoder_passes': 7}, \
{'object_frames': 7, 'encoder_passes': 0}]
    """
    shares = [{name: value if k == first else 0 for name, value in work.items()} for k in range(len(counts))]
    total = sum(counts)
    if BY_OBJECTS in work and total:
        # Rounded where parts meet, so that the shares of any amount add up to it.
        edges = [round(work[BY_OBJECTS] * known / total) for known in accumulate(counts, initial=0)]
        for share, (low, high) in zip(shares, pairwise(edges), strict=True):
            share[BY_OBJECTS] = high - low
    return shares
