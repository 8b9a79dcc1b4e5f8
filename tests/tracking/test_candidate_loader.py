from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.toy_scenes import candidates_of, item, toy_scene, write_candidates
from trackweave.errors import CandidateError
from trackweave.ids import Level, LocalIndex
from trackweave.masks.packed import PackedMasks
from trackweave.storage.run import RunPaths
from trackweave.structures.candidates import Candidates
from trackweave.tracking.candidate_loader import (
    _build_preview_segment,
    _build_preview_stub,
    _load_frame_candidates,
    iter_candidate_batches,
    load_filtered_frame_by_index,
    load_filtered_manifest,
    prepare_candidates,
    rescale_candidates,
)
from trackweave.tracking.pipeline_context import PipelineContext, UnsampledVideo, build_pipeline_context
from trackweave.tracking.settings import TrackingSettings

SCENE = toy_scene(
    """
    a...
    ..bb
    """,
    """
    .a..
    ..bb
    """,
    """
    ..a.
    ....
    """,
)


def context(root: Path, run: Path) -> PipelineContext:
    return build_pipeline_context(root, Level(2), SCENE.frames, RunPaths(run), TrackingSettings())


def test_batches_carry_both_indices_and_skip_empty_frames(tmp_path: Path) -> None:
    write_candidates(tmp_path, {0: [item(3, SCENE.mask(0, "a"), frame=0)], 1: []})
    frames = SCENE.frames.select([0, 2])
    ready = build_pipeline_context(tmp_path, Level(2), frames, RunPaths(tmp_path / "r"), TrackingSettings(),
                                   video=UnsampledVideo(3, {}))  # fmt: skip
    batches = list(iter_candidate_batches(ready.manifest, ready.schedule, frames))
    assert [(b.local, b.frame, len(b)) for b in batches] == [(0, 0, 1)]
    assert batches[0].candidates.id.tolist() == [3]
    assert [w.code for w in ready.notes] == ["frame-not-sampled"]


def test_absolute_index_of_a_sampled_frame(tmp_path: Path) -> None:
    candidates_of(SCENE, tmp_path, [2])
    frames = SCENE.frames.select([0, 2])
    ready = build_pipeline_context(tmp_path, Level(2), frames, RunPaths(tmp_path / "r"), TrackingSettings())
    batch = load_filtered_frame_by_index(ready.manifest, ready.schedule, frames, LocalIndex(1))
    assert (batch.local, batch.frame, batch.name) == (1, 2, "frame_000002")
    with pytest.raises(CandidateError, match="no candidates for local frame 0"):
        load_filtered_frame_by_index(ready.manifest, ready.schedule, frames, LocalIndex(0))


def test_candidates_are_rescaled_on_request(tmp_path: Path) -> None:
    candidates_of(SCENE, tmp_path, [0])
    ready = context(tmp_path, tmp_path / "r")
    local, entry = ready.schedule[0]
    plain = _load_frame_candidates(ready.manifest, entry, local, ready.frames)
    doubled = _load_frame_candidates(ready.manifest, entry, local, ready.frames, target_size=(16, 32))
    assert doubled.candidates.size == (16, 32)
    assert doubled.candidates.area.tolist() == (plain.candidates.area * 4).tolist()
    assert np.allclose(doubled.candidates.xyxy, plain.candidates.xyxy * 2)
    assert rescale_candidates(plain.candidates, plain.candidates.size) is plain.candidates


def test_previews_tell_masks_from_stubs(tmp_path: Path) -> None:
    rows = [item(0, SCENE.mask(0, "a"), frame=0), item(1, SCENE.mask(0, "b"), frame=0, with_mask=False)]
    write_candidates(tmp_path, {0: rows})
    ready = context(tmp_path, tmp_path / "r")
    candidates = load_filtered_frame_by_index(ready.manifest, ready.schedule, ready.frames, LocalIndex(0)).candidates
    whole, stub = (_build_preview_segment(candidates, row, 40 + row) for row in (0, 1))
    assert (whole.id, whole.area, whole.has_mask, round(whole.score, 4)) == (40, 16, True, 0.95)
    assert (stub.id, stub.area, stub.has_mask) == (41, 32, False)
    assert stub == _build_preview_stub(candidates, 1, 41)
    assert stub.box == (8, 4, 16, 8)


def test_manifest_loads_from_the_level_folder(tmp_path: Path) -> None:
    candidates_of(SCENE, tmp_path, [0, 1])
    manifest = load_filtered_manifest(tmp_path / "level_2")
    assert [frame.frame_idx for frame in manifest.frames] == [0, 1]


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.data())
def test_no_mask_is_too_small_to_be_a_prompt(
    rows: int, columns: int, height: int, width: int, data: st.DataObject
) -> None:
    """Scaled down, a thin mask may fall between all the pixels that are sampled."""
    mask = np.zeros((1, rows, columns), np.bool_)
    mask[0, data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))] = True
    packed = PackedMasks.from_bool(mask)
    candidates = Candidates(
        np.array([1]), packed.boxes.astype(np.float32), np.ones(1, np.float32), packed.areas, packed
    )
    prompt = prepare_candidates(candidates, (height, width)).prompt_mask(0)
    assert prompt.size == (height, width)
    assert prompt.areas[0] > 0
    x1, y1, x2, y2 = prompt.boxes[0]
    left, top, right, bottom = packed.boxes[0] * np.tile([width / columns, height / rows], 2)
    assert left - 1 <= x1 < x2 <= right + 1
    assert top - 1 <= y1 < y2 <= bottom + 1
