"""`docs/spec-coverage.md` tells the truth: every name it lists exists, every test it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import trackweave.tracking

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| ([^|]+) \| `([\w.]+)` \| `([\w/.]+)::(\w+)` \|$", re.M)
ROWS = ROW.findall((ROOT / "docs" / "spec-coverage.md").read_text(encoding="utf-8"))

GUIDE = """
ProgressPrinter TimingAggregator.track TimingAggregator.merge format_scale_suffix scaled_npz_path
resize_mask_to_shape infer_relative_scale determine_mask_shape format_duration_precise bbox_transform_xywh_to_xyxy
bbox_scalar_fit compute_iou FrameCandidateBatch load_filtered_manifest _load_frame_candidates iter_candidate_batches
load_filtered_frame_by_index _build_preview_segment _build_preview_stub _frame_entry_name DedupStore.add_packed
DedupStore.seen_packed DedupStore.seen FrameResultStore.update FrameResultStore.iter_frames
FrameResultStore.iter_preview_segments FrameResultStore._iter_sorted TrackingArtifacts PipelineContext
build_pipeline_context select_preview_indices update_tracking_manifest summarise_tracking_stats
_prepare_prompt_candidates _filter_new_candidates _add_prompts_to_predictor _propagate_frame_predictions
sam2_tracking _build_tracking_result LevelRunResult run_level_tracking _build_level_stats _persist_level_outputs
_render_comparison encode_packed_mask_for_json decode_packed_mask_from_json _ensure_frames_dir _normalize_stride
_normalize_max_samples _downsample_evenly _apply_sampling_to_frames build_video_segments_archive
build_object_segments_archive save_comparison_proposals
""".split()  # noqa: SIM905 - a table, not a list


def resolve(dotted: str) -> Any:
    """An attribute below `trackweave`."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(["trackweave", *parts[:cut]]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AssertionError(dotted)


@cache
def named_tests(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_name_of_the_guide_has_a_row() -> None:
    listed = {name for name, *_ in ROWS}
    assert [name for name in GUIDE if name not in listed] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_rows_are_true(row: tuple[str, str, str, str]) -> None:
    _, dotted, path, test = row
    assert resolve(dotted) is not None
    assert test in named_tests(path)


def test_the_package_re_exports_what_pipelines_use() -> None:
    for name in trackweave.tracking.__all__:
        assert getattr(trackweave.tracking, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        trackweave.tracking.nonsense  # noqa: B018
