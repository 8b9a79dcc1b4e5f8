"""A checkpoint on samples that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from trackweave.association.dataset import DataSettings, load_samples
from trackweave.association.training.checkpoint import load_checkpoint
from trackweave.association.training.measures import Measures, measure
from trackweave.association.training.report import write_report
from trackweave.errors import SettingError


def evaluate_checkpoint(
    checkpoint: Path | str, data: Sequence[Path], *, labels: str = "both", report: Path | None = None
) -> Measures:
    """Measures a trained model.

    Args:
        checkpoint: `best.pt` of a training.
        data: folders of samples.
        labels: as in `DataSettings`.
        report: page to write.

    Raises:
        ArtifactError: the checkpoint or a sample cannot be used, or there is too little.
        SettingError: no such labels.
    """
    found = load_checkpoint(checkpoint)
    try:
        how = DataSettings(labels=labels, allow_blended=labels != "tracker")  # type: ignore[arg-type]
    except ValidationError:
        raise SettingError(f"labels: {labels!r} is none of truth, tracker, both") from None
    store = load_samples(data, how, least_sequences=1)
    measures = measure(found.model, store, np.arange(len(store)))
    if report is not None:
        write_report(report, found, measures, ())
    return measures
