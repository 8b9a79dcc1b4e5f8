"""Masks stitched at the end of a run: what is written, and what happens without pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from tests.identity.toy_tracks import SIZE, frame_objects
from tests.run_folders import assert_same_run
from tests.toy_scenes import item, toy_scene, write_candidates, write_frames
from trackweave.cli.app import app
from trackweave.errors import InputError
from trackweave.frames.arrays import ArrayFrames
from trackweave.identity.mask_tracklets import EDGE_VIEWS, VIEWS
from trackweave.identity.nest import nest
from trackweave.identity.overlaps import LevelObjects, gather
from trackweave.identity.settings import IdentitySettings
from trackweave.ids import PROMPTED_LEVEL, Level
from trackweave.pipelines.identity import relate
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.run import open_run
from trackweave.pipelines.stitching import CameraTrajectory, MaskStitcher
from trackweave.storage.files import write_json
from trackweave.structures.identity import IdentityTable
from trackweave.tracking.settings import TrackingSettings

SCENE = toy_scene(*["aa....bb\naa....bb\n........\n........"] * 9)
"""Two things of different colours; prompts reach over a frame on each side of frames 1 and 7."""
STITCH = IdentitySettings(stitch=True, stitch_probability=0.5)


def labelled(root: Path) -> Path:
    rows = {
        frame: [item(k, SCENE.mask(frame, letter), frame=frame) for k, letter in enumerate("ab")] for frame in (1, 7)
    }
    return write_candidates(root, rows, 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in pieces, stitched at its end."""
    folder = tmp_path_factory.mktemp("stitching")
    frames, candidates = write_frames(SCENE, folder / "frames"), labelled(folder / "candidates")
    settings = TrackingSettings(render_viz=False, max_propagate=1)
    track_masks(frames, folder / "run", candidates=candidates, predictor="static", settings=settings, identity=STITCH)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


def test_pieces_become_one_and_the_file_says_why(made: Path) -> None:
    opened = open_run(made / "run")
    table = opened.identities()
    assert table.track_id.tolist() == [1, 2, 3, 4]
    assert table.identity.tolist() == [1, 2, 1, 2]
    links = json.loads((made / "run/identity.json").read_text())["links"]
    assert [(link["a"], link["b"], link["kind"], link["gap"]) for link in links] == [
        (1, 3, "stitch", 4),
        (2, 4, "stitch", 4),
    ]
    assert all(0.5 <= link["score"] <= 1 for link in links)
    assert opened.tracks().of(1).frame.tolist() == [0, 1, 2, 6, 7, 8]
    assert opened.tracks(raw=True).of(1).frame.tolist() == [0, 1, 2]


def test_relate_does_what_the_run_did_and_undoes_it(made: Path, run: Path) -> None:
    assert relate(run, IdentitySettings()).identities().identity.tolist() == [1, 2, 3, 4]
    assert relate(run, STITCH).identities().identity.tolist() == [1, 2, 1, 2]
    assert_same_run(run, made / "run")


def test_an_interrupted_stitch_goes_on_to_the_same_bytes(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {path.name: path.read_bytes() for path in run.glob("*.json")}

    def killed(path: Path, value: object) -> None:
        if path.name == "identity.json":
            raise KeyboardInterrupt
        write_json(path, value)

    relate(run, False)
    with monkeypatch.context() as patch:
        patch.setattr("trackweave.storage.identity.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            relate(run, STITCH)
    assert open_run(run).tracks().track_ids.tolist() == [1, 2, 3, 4]
    relate(run, STITCH)
    assert {path.name: path.read_bytes() for path in run.glob("*.json")} == whole


def test_without_pictures_nothing_is_stitched_and_a_line_says_so(made: Path, tmp_path: Path) -> None:
    moved = write_frames(SCENE, tmp_path / "frames")
    settings = TrackingSettings(render_viz=False, max_propagate=1)
    run = tmp_path / "run"
    track_masks(moved, run, candidates=made / "candidates", predictor="static", settings=settings, identity=False)
    moved.rename(tmp_path / "elsewhere")
    alone = relate(run, STITCH)
    assert alone.identities().identity.tolist() == [1, 2, 3, 4]
    (warning,) = [one for one in alone.warnings if one.stage == "identity"]
    assert warning.code == "not-stitched"
    assert "nothing is stitched" in warning.message
    asked = ["relate", str(run), "--identity.stitch", "--identity.stitch-probability", "0.5"]
    assert "warning: nothing is stitched" in CliRunner().invoke(app, asked).output
    answer = CliRunner().invoke(app, [*asked, "--video", str(tmp_path / "elsewhere")])
    assert answer.exit_code == 0, answer.output
    again = open_run(run)
    assert again.identities().identity.tolist() == [1, 2, 1, 2]
    assert "identity" not in {one.stage for one in again.warnings}
    by_frames = relate(run, STITCH, video=SCENE.frames)
    assert by_frames.identities().links == again.identities().links
    with pytest.raises(InputError):
        relate(run, STITCH, video=tmp_path / "nowhere")


def texture(seed: int) -> NDArray[np.uint8]:
    """A large picture with corners."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 255, (30, 40, 3)).astype(np.uint8).repeat(12, axis=0).repeat(12, axis=1)


def test_the_camera_comes_back_to_a_place() -> None:
    """Two shots of one place, 14 pixels apart, and another place between them."""
    here, there = texture(1), texture(2)
    path = CameraTrajectory()
    for shift in (0, 3, 6):
        path.add(here[40:200, 60 + shift : 300 + shift], is_cut=False)
    path.add(there[40:200, 60:300], is_cut=True)
    path.add(there[40:200, 62:302], is_cut=False)
    path.add(here[40:200, 80:320], is_cut=True)
    assert path.places == [0, 1, 0]
    shifts = np.stack([matrix[:2, 2] for matrix in path.motion])
    assert shifts == pytest.approx(np.array([[0, 0], [-3, 0], [-6, 0], [0, 0], [-2, 0], [-20, 0]]), abs=1.5)


def test_a_persons_objects_are_never_joined() -> None:
    """Level 0 is that of prompts: what was marked twice stays two, gap or not."""
    boxes = [{1: (4, 4, 12, 12)}] * 4 + [{}] * 2 + [{2: (4, 4, 12, 12)}] * 4
    frames = [[(PROMPTED_LEVEL, frame_objects(n, each))] for n, each in enumerate(boxes)]
    stitcher = MaskStitcher(ArrayFrames(np.full((len(frames), *SIZE, 3), 90, np.uint8)))
    for n, objects in enumerate(frames):
        stitcher.add(n, objects)
    evidence = gather(frames)
    table = IdentityTable.from_links(evidence.track_id, evidence.level)
    tree = nest(evidence, table, STITCH).tree
    assert stitcher.links(evidence, table, tree, range(len(frames)), lambda n: frames[n], 0.05) == []


def test_only_frames_on_which_something_is_looked_at_are_read_again() -> None:
    """A long track is looked at a few times: reading all of its masks once more took as long as everything else."""
    boxes = [{1: (4, 4, 12, 12)}] * 60 + [{}] * 2 + [{2: (4, 4, 12, 12)}] * 60
    frames = [[(Level(2), frame_objects(n, each))] for n, each in enumerate(boxes)]
    stitcher = MaskStitcher(ArrayFrames(np.full((len(frames), *SIZE, 3), 90, np.uint8)))
    for n, objects in enumerate(frames):
        stitcher.add(n, objects)
    evidence = gather(frames)
    table = IdentityTable.from_links(evidence.track_id, evidence.level)
    asked: list[int] = []

    def read(frame: int) -> list[LevelObjects]:
        asked.append(frame)
        return frames[frame]

    stitcher.links(evidence, table, nest(evidence, table, STITCH).tree, range(len(frames)), read, 0.05)
    assert asked == sorted(set(asked))
    assert {0, 59, 62, 121} <= set(asked)
    assert len(asked) <= 2 * (VIEWS + 2 * EDGE_VIEWS)
