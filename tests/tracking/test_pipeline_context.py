from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.toy_scenes import candidates_of, item, toy_scene, write_candidates, write_frames
from trackweave.errors import CandidateError
from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource
from trackweave.ids import FrameIndex, Level
from trackweave.storage.run import RunManifest, RunPaths
from trackweave.structures.run_log import RunWarning
from trackweave.structures.run_summary import LevelSummary
from trackweave.tracking.pipeline_context import (
    PipelineContext,
    UnsampledVideo,
    build_pipeline_context,
    select_preview_indices,
    summarise_tracking_stats,
    update_tracking_manifest,
)
from trackweave.tracking.settings import TrackingSettings

SCENE = toy_scene("a.\n..", ".a\n..", "..\n.a", "..\na.")


def build(root: Path, **settings: object) -> PipelineContext:
    chosen = TrackingSettings.model_validate(settings)
    return build_pipeline_context(root, Level(2), SCENE.frames, RunPaths(root / "run"), chosen)


def test_preview_keeps_first_and_last() -> None:
    assert select_preview_indices([0, 3, 6, 9, 12], stride=2) == [0, 6, 12]
    assert select_preview_indices([0, 3, 6, 9, 12], stride=3) == [0, 9, 12]
    assert select_preview_indices(range(100), max_samples=3) == [0, 49, 99]


def test_a_level_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    candidates_of(SCENE, tmp_path, [0], level=4)
    with pytest.raises(CandidateError, match=r"level 2 has no candidates here; levels found: 4"):
        build(tmp_path)


def test_a_frame_beyond_the_video_is_an_error_or_a_warning(tmp_path: Path) -> None:
    write_candidates(tmp_path, {f: [item(0, SCENE.mask(0, "a"), frame=f)] for f in (0, 9)})
    with pytest.raises(CandidateError, match=r"frame 9 .*does not exist: the video has no frame of this name"):
        build(tmp_path)
    ready = build(tmp_path, on_bad_item="skip")
    assert [local for local, _ in ready.schedule] == [0]
    assert [(w.code, w.level) for w in ready.warnings] == [("candidate-skipped", 2)]


def test_no_candidate_frame_among_the_sampled_ones(tmp_path: Path) -> None:
    candidates_of(SCENE, tmp_path, [3])
    with pytest.raises(CandidateError, match="none of its 1 frames is among the sampled frames"):
        build_pipeline_context(
            tmp_path,
            Level(2),
            SCENE.frames.select([0, 1]),
            RunPaths(tmp_path / "run"),
            TrackingSettings(),
            video=UnsampledVideo(4, {}),
        )


def test_two_candidate_frames_of_one_name(tmp_path: Path) -> None:
    write_candidates(tmp_path, {f: [item(0, SCENE.mask(0, "a"), frame=0) | {"frame_idx": f}] for f in (0, 1)})
    with pytest.raises(CandidateError, match="two of its frames are named frame_000000"):
        build(tmp_path)


def test_two_candidate_frames_in_one_place_are_refused(tmp_path: Path) -> None:
    """One says so by its name, the other by its index."""
    mask = SCENE.mask(0, "a")
    unnamed = {key: value for key, value in item(0, mask, frame=1).items() if key != "frame_name"}
    write_candidates(tmp_path, {0: [{**item(0, mask, frame=0), "frame_name": SCENE.frames.names[1]}], 1: [unnamed]})
    with pytest.raises(CandidateError, match="two of its frames are frame 1 of the video"):
        build(tmp_path)


def test_candidate_frames_are_placed_by_name_when_the_names_are_there(tmp_path: Path) -> None:
    """Candidates that were found on a subset of a folder count their own frames; the names tell which they are."""
    import cv2

    folder = tmp_path / "frames"
    folder.mkdir()
    for n, image in enumerate(SCENE.frames):
        cv2.imwrite(str(folder / f"1107{n}.jpg"), image)
    row = item(0, SCENE.mask(2, "a"), frame=0) | {"frame_name": "11072.png"}
    write_candidates(tmp_path, {0: [row]})
    ready = build_pipeline_context(
        tmp_path, Level(2), open_frames(folder), RunPaths(tmp_path / "run"), TrackingSettings()
    )
    assert [local for local, _ in ready.schedule] == [2]


@pytest.mark.parametrize(
    ("explicit", "manifest_area", "run_area", "expected"),
    [(None, None, None, 1500), (None, None, 300, 900), (None, 100, 300, 300), (42, 100, 300, 42)],
)
def test_long_tail_area(
    tmp_path: Path, explicit: float | None, manifest_area: float | None, run_area: float | None, expected: float
) -> None:
    candidates_of(SCENE, tmp_path, [0])
    path = tmp_path / "level_2" / "filtered" / "filtered.json"
    content = json.loads(path.read_text())
    if manifest_area is not None:
        path.write_text(json.dumps({**content, "min_area": manifest_area}))
    ready = build_pipeline_context(
        tmp_path,
        Level(2),
        SCENE.frames,
        RunPaths(tmp_path / "run"),
        TrackingSettings(long_tail_area=explicit),
        min_area=run_area,
    )
    assert ready.long_tail_area == expected


def test_manifest_merge_replaces_the_levels_old_warnings(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"mode": "candidates_only", "levels": [4], "min_area": 300}))

    def update(level: int, code: str) -> None:
        warnings = [RunWarning("compare", level, code, "…")]
        update_tracking_manifest(run, level=Level(level), artifacts={"x": "y"}, stats={"objects": 3}, warnings=warnings)

    update(2, "first")
    update(4, "other-level")
    update(2, "second")
    data = RunManifest.load(run.manifest).data
    assert data["mode"] == "candidates_only"
    assert data["levels"] == [2, 4]
    assert sorted(w["code"] for w in data["warnings"]) == ["other-level", "second"]
    assert data["derived"]["levels"]["2"] == {"objects": 3}


def test_totals_over_levels() -> None:
    counts = {"candidates": 5, "prompts": 3, "objects": 3, "object_frames": 30, "candidate_frames": 2}
    one = LevelSummary(counts, {"duplicates": 2}, {"track": 1.5})
    totals = summarise_tracking_stats({Level(2): one, Level(4): one})
    assert totals["objects"] == 6
    assert totals["duplicates"] == 4
    assert totals["seconds"] == 3.0


def test_a_name_that_the_video_has_not_is_reported_and_moves_nothing_else(tmp_path: Path) -> None:
    """Frame 1's image was deleted after the candidates were made: those of the others stay where they belong."""
    named = {k: {**item(1, SCENE.mask(k, "a"), frame=k), "frame_name": f"{k:05d}.jpg"} for k in (0, 1, 2)}
    write_candidates(tmp_path, {k: [entry] for k, entry in named.items()})
    folder = write_frames(SCENE, tmp_path / "frames")
    (folder / "00001.png").unlink()
    frames = open_frames(folder)

    def placed(settings: TrackingSettings) -> list[tuple[int, str | None]]:
        ready = build_pipeline_context(tmp_path, Level(2), frames, RunPaths(tmp_path / "run"), settings)
        return [(local, entry.frame_name) for local, entry in ready.schedule]

    with pytest.raises(
        CandidateError, match=r"frame 1 \(00001.jpg\) does not exist: the video has no frame of this name"
    ):
        placed(TrackingSettings())
    assert placed(TrackingSettings(on_bad_item="skip")) == [(0, "00000.jpg"), (1, "00002.jpg")]


def test_a_sample_of_the_video_does_not_move_candidates(tmp_path: Path) -> None:
    """The generator numbered its frames 0, 1 and 2, but they are the images 0, 2 and 4 of six."""
    names = ["00000.png", "00002.png", "00004.png"]
    entries = {k: [{**item(1, SCENE.mask(0, "a"), frame=k), "frame_name": name}] for k, name in enumerate(names)}
    write_candidates(tmp_path, entries)
    whole = open_frames([SCENE.frames[0]] * 6)
    video = UnsampledVideo(6, {f"{k:05d}": FrameIndex(k) for k in range(6)})
    ready = build_pipeline_context(
        tmp_path, Level(2), whole.select([0, 1, 2]), RunPaths(tmp_path / "run"), TrackingSettings(), video=video
    )
    assert [(int(local), entry.frame_name) for local, entry in ready.schedule] == [(0, names[0]), (2, names[1])]
    assert [note.code for note in ready.notes] == ["frame-not-sampled"]


def test_names_of_which_none_is_that_of_an_image_are_warned_about(tmp_path: Path) -> None:
    write_candidates(
        tmp_path, {k: [{**item(1, SCENE.mask(k, "a"), frame=k), "frame_name": f"rgb_{k}.jpg"}] for k in (0, 2)}
    )
    folder = write_frames(SCENE, tmp_path / "frames")

    def ready(frames: FrameSource) -> PipelineContext:
        return build_pipeline_context(tmp_path, Level(2), frames, RunPaths(tmp_path / "run"), TrackingSettings())

    named = ready(open_frames(folder))
    assert [(int(local), entry.frame_name) for local, entry in named.schedule] == [(0, "rgb_0.jpg"), (2, "rgb_2.jpg")]
    assert [note.code for note in named.notes] == ["placed-by-index"]
    assert "(rgb_0.jpg, but 00000): placed by their numbers" in named.notes[0].message
    assert ready(SCENE.frames).notes == []  # frames in memory have no names of their own


def test_candidates_without_masks_are_noted(tmp_path: Path) -> None:
    row = item(1, SCENE.mask(0, "a"), frame=0)
    for key in ("mask", "segmentation"):
        row.pop(key, None)
    write_candidates(tmp_path, {0: [row]})
    (next(tmp_path.rglob("filtered.json")).parent / "seg_frame_00000.npz").write_bytes(b"")
    (note,) = build(tmp_path).notes
    assert note.code == "prompted-by-box"
    assert (
        "1 of 1 candidates have no mask and are prompted by their boxes; not used: seg_frame_00000.npz" in note.message
    )
    assert build(tmp_path, prompt_mode="box").notes == []
