"""What a run leaves in its folder, compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trackweave.storage.result_log import read_records


def assert_same_run(folder: Path, whole: Path) -> None:
    """Every file is there and is the same; of summaries and manifests, all but what was measured."""
    files = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()}
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == files
    for name in files:
        if name.endswith(".json"):
            assert unmeasured(json.loads((folder / name).read_text())) == unmeasured(
                json.loads((whole / name).read_text())
            ), name
        else:
            assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


def unmeasured(value: Any) -> Any:
    """JSON without durations, memory, and what a resumed run may have to compute again."""
    if isinstance(value, dict):
        took = ("durations", "seconds", "cpu_seconds", "peak_rss_mb", "association_fps")
        measured = (*took, "encoder_passes", "flow_pairs", "model_calls")
        return {key: unmeasured(part) for key, part in value.items() if key not in measured}
    if isinstance(value, list):
        return [unmeasured(part) for part in value]
    return value


def committed(folder: Path) -> int:
    """Finished frames that the journals of a run hold, level by level."""
    count = 0
    for path in (folder / "journal").glob("*.cohorts"):
        with path.open("rb") as file:
            count += sum(record.kind == b"C" for record in read_records(file))
    return count
