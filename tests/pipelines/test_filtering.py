"""Candidates chosen anew from what `propose` kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.shell import Shell
from tests.toy_scenes import CROSSING, candidates_of
from trackweave.errors import ArtifactError, CandidateError, SettingError
from trackweave.frames.arrays import ArrayFrames
from trackweave.pipelines.filtering import filter_candidates
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.proposing import propose
from trackweave.proposals.generators import GeneratorChoice
from trackweave.proposals.settings import CandidateSettings, RegionSettings
from trackweave.simulation.video import SyntheticScene
from trackweave.storage.candidates import filtered_path, raw_path, read_candidates, read_filtered, read_parents

SMALL = RegionSettings(pieces=800, min_area=0, max_count=1000, heights={2: 6.0, 4: 2.0})
FRAMES = ArrayFrames(np.stack([np.asarray(image) for image in SyntheticScene(length=3, height=96, width=128)]))


def items(root: Path, level: int = 2) -> list[list[dict[str, object]]]:
    return [
        [dict(item) for item in frame.items] for frame in read_filtered(filtered_path(root / f"level_{level}")).frames
    ]


@pytest.fixture
def found(tmp_path: Path) -> Path:
    return propose(FRAMES, tmp_path / "found", levels=[2, 4], generator=SMALL, candidate_stride=2)


def test_without_settings_it_is_what_propose_chose_and_nothing_is_lost(found: Path) -> None:
    proposed = items(found), items(found, 4)
    raw = raw_path(found / "level_2").read_bytes()
    stats = filter_candidates(found)
    assert (items(found), items(found, 4)) == proposed
    assert stats[2].kept == sum(map(len, proposed[0]))
    strict = filter_candidates(found, CandidateSettings(max_count=1))
    assert strict[2].kept == strict[2].frames == len(items(found))
    assert strict[2].dropped["max_count"] == strict[2].found - strict[2].kept
    assert raw_path(found / "level_2").read_bytes() == raw
    filter_candidates(found)
    assert (items(found), items(found, 4)) == proposed


def test_elsewhere_nothing_is_changed_where_it_was(found: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in found.rglob("*") if path.is_file()}
    stats = filter_candidates(found, CandidateSettings(max_count=1, nest=True), output=tmp_path / "chosen")
    assert {path: path.read_bytes() for path in found.rglob("*") if path.is_file()} == before
    assert stats[2].kept == len(items(tmp_path / "chosen"))
    assert not raw_path(tmp_path / "chosen" / "level_2").exists()
    filter_candidates(found, CandidateSettings(max_count=1, nest=True))
    assert items(found) == items(tmp_path / "chosen")


def test_limits_are_those_asked_for(found: Path) -> None:
    filter_candidates(found, CandidateSettings(min_area=0.02, min_stability=0.3), levels=[4])
    height, width = FRAMES.size
    kept = [item for frame in items(found, 4) for item in frame]
    assert kept
    assert all(item["area"] >= 0.02 * height * width and item["stability_score"] >= 0.3 for item in kept)  # type: ignore[operator]
    with pytest.raises(SettingError, match="has no candidates of level 6; there: 2, 4"):
        filter_candidates(found, levels=[6])
    with pytest.raises(CandidateError, match="has no candidates: no level_L/raw"):
        filter_candidates(found / "level_2")


def test_parents_and_gaps(found: Path, tmp_path: Path) -> None:
    stats = filter_candidates(found, CandidateSettings(nest=True, gap_area=0.01))
    tree = read_parents(found / "tree.json")
    assert sum(map(len, tree.values())) == stats[2].kept + stats[4].kept
    children = 0
    for frame in read_filtered(filtered_path(found / "level_4")).frames:
        masks = {}
        for level in (2, 4):
            manifest = read_filtered(filtered_path(found / f"level_{level}"))
            entry = next(one for one in manifest.frames if one.frame_idx == frame.frame_idx)
            masks[level] = read_candidates(manifest, entry, FRAMES.size)[0].masks.to_bool()
        for (level, one), parent in tree[frame.frame_idx].items():
            if parent is not None:
                children += 1
                assert not (masks[level][one] & ~masks[parent[0]][parent[1]]).any()
    assert children
    filter_candidates(found)
    assert not (found / "tree.json").exists()
    chosen = GeneratorChoice("regions", SMALL, candidates=CandidateSettings(nest=True, gap_area=0.01))
    again = propose(FRAMES, tmp_path / "b", levels=[2, 4], generator=chosen, candidate_stride=2)
    assert read_parents(again / "tree.json").keys() == tree.keys()
    (again / "tree.json").write_text('{"schema_version": 1, "frames": [1]}')
    with pytest.raises(ArtifactError, match="the tree of candidates is damaged"):
        read_parents(again / "tree.json")


def test_what_was_nested_stays_so(tmp_path: Path) -> None:
    """As it was asked for when they were made; with a part of the levels, and from candidates without raw ones."""
    settings = CandidateSettings(nest=True, min_area=0.002, region="0,0 40,0 40,200 0,200")
    chosen = GeneratorChoice("regions", SMALL, candidates=settings)
    root = propose(FRAMES, tmp_path / "a", levels=[2, 4], generator=chosen, candidate_stride=2)
    made, tree = [items(root, level) for level in (2, 4)], read_parents(root / "tree.json")
    filter_candidates(root)
    assert [items(root, level) for level in (2, 4)] == made
    assert read_parents(root / "tree.json") == tree
    filter_candidates(root, CandidateSettings(max_count=3), output=tmp_path / "b")
    for folder in (root, tmp_path / "b", tmp_path / "b"):
        stats = filter_candidates(folder, CandidateSettings(max_count=3))
        fewer = read_parents(folder / "tree.json")
        assert sum(map(len, fewer.values())) == stats[2].kept + stats[4].kept < sum(map(len, tree.values()))
        there = {index: parents.keys() for index, parents in fewer.items()}
        links = [(index, up) for index, parents in fewer.items() for up in parents.values() if up is not None]
        assert links
        assert all(up in there[index] for index, up in links)
    filter_candidates(root, CandidateSettings(max_count=1), levels=[2])
    part = read_parents(root / "tree.json")
    for index, parents in part.items():
        for level in (2, 4):
            own = next(
                frame
                for frame in read_filtered(filtered_path(root / f"level_{level}")).frames
                if frame.frame_idx == index
            )
            assert {one for of, one in parents if of == level} == {item["id"] for item in own.items}
        assert not any(parents.values())
    filter_candidates(root, CandidateSettings(nest=False))
    assert not (root / "tree.json").exists()


def test_where_no_raw_candidates_are_the_filtered_ones_are_kept_as_such(tmp_path: Path) -> None:
    root = candidates_of(CROSSING, tmp_path / "given", range(4))
    before = items(root)
    filter_candidates(root, CandidateSettings(min_area=1e6))
    assert items(root) == [[] for _ in before]
    stats = filter_candidates(root)
    assert stats[2].kept == sum(map(len, before)) > 0
    assert [len(frame) for frame in items(root)] == [len(frame) for frame in before]


def test_raw_candidates_of_the_older_pipeline(tmp_path: Path) -> None:
    raw = tmp_path / "level_2" / "raw"
    raw.mkdir(parents=True)
    for k in (0, 2):
        masks = np.stack([CROSSING.labels[k] == n + 1 for n in range(2)])
        np.savez_compressed(raw / f"frame_{k:05d}.npz", masks=masks, has_mask=np.array([True, True]))
        listed = [{"stability_score": 0.5 + 0.4 * n, "area": 1, "raw_index": n} for n in range(2)]
        content = {"frame_idx": k, "frame_name": CROSSING.frames.names[k], "candidates": listed}
        (raw / f"frame_{k:05d}.json").write_text(json.dumps(content))
    assert filter_candidates(tmp_path, CandidateSettings(min_stability=0.8))[2].kept == 2
    run = track_masks(CROSSING.frames, tmp_path / "run", candidates=tmp_path, predictor="static", identity=False)
    assert run.summary.totals["candidates"] == 2
    (raw / "frame_00002.json").write_text('{"frame_idx": 2, "candidates": [{"raw_index": 7}]}')
    with pytest.raises(CandidateError, match="candidate 0: there is no mask 7"):
        filter_candidates(tmp_path)


def test_on_the_command_line(
    found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(monkeypatch, capsys)
    said = shell("filter", found, "--max-count", "1", "--min-area", "0.001", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["levels"]["2"]["kept"] == len(items(found))
    said = shell("filter", found, "--max-count", "2", "--nest")
    assert "dropped" in said.out
    assert "by max_count" in said.out
    assert (found / "tree.json").is_file()
    said = shell("filter", found, "--region", "0,0 1,1")
    assert (said.code, "a region is a polygon" in said.err) == (2, True)
    said = shell("filter", tmp_path / "none")
    assert (said.code, said.err.count("\n")) == (1, 1)
