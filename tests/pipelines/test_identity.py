"""`relate` and runs read by identity: things with parts, found twice, in a toy world."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.run_folders import assert_same_run
from tests.toy_boxes import make_sequence
from tests.toy_scenes import ToyScene, item, toy_scene, write_candidates, write_frames
from trackweave.errors import ArtifactError, RunFolderError
from trackweave.exporters import export
from trackweave.formats.davis import read_label_png
from trackweave.frames.open import open_frames
from trackweave.identity.settings import IdentitySettings
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.identity import relate
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.run import open_run
from trackweave.storage.files import locked_folder, write_json
from trackweave.tracking.settings import TrackingSettings
from trackweave.visualization.annotators import css, part_colour, run_colours
from trackweave.visualization.settings import OverlaySettings

SCENE = toy_scene(*["aabb..\naabb..\n..cc..\n..cc.."] * 4)
"""Two things side by side, alike, and a third; `static` keeps them where they are."""


def candidates(scene: ToyScene, root: Path) -> Path:
    """Level 2: a and b as one, found twice, and c; level 4: a, b, c, and a again without a row, on the last frame."""
    both = scene.mask(0, "a") | scene.mask(0, "b")
    nearly = both.copy()
    nearly[:1] = False
    smaller = scene.mask(0, "a").copy()
    smaller[:1] = False
    coarse = {0: [both, scene.mask(0, "c")], 3: [nearly]}
    fine = {0: [scene.mask(0, letter) for letter in "abc"], 3: [smaller]}
    for level, masks in ((2, coarse), (4, fine)):
        rows = {
            frame: [item(k, mask, frame=frame, level=level) for k, mask in enumerate(found)]
            for frame, found in masks.items()
        }
        write_candidates(root, rows, level)
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with identities and one without, of duplicates that tracking let through."""
    folder = tmp_path_factory.mktemp("identity")
    frames = write_frames(SCENE, folder / "frames")
    root = candidates(SCENE, folder / "candidates")
    settings = TrackingSettings(iou_threshold=0.95, render_viz=False)
    for name, identity in (("run", True), ("off", False)):
        track_masks(frames, folder / name, candidates=root, predictor="static", settings=settings, identity=identity)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


def test_duplicates_are_one_and_parts_know_their_wholes(run: Path) -> None:
    opened = open_run(run)
    table, tree = opened.identities(), opened.tree()
    assert table.track_id.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert table.identity.tolist() == [1, 2, 1, 4, 5, 6, 4]
    assert {(link.a, link.b, link.kind) for link in table.links} == {(1, 3, "merge"), (4, 7, "merge")}
    assert [tree.path(one) for one in (4, 5, 6)] == [[1, 4], [1, 5], [2, 6]]
    assert opened.tracks(2).track_ids.tolist() == [1, 2]
    assert opened.tracks(raw=True).track_ids.tolist() == [1, 2, 3, 4, 5, 6, 7]
    for level in (2, 4):
        with opened.masks(level) as video:
            for objects in video:
                assert objects.masks.to_bool().sum(axis=0).max() == 1
    relations = json.loads((run / "relations.json").read_text())
    assert relations["objects"]["1"]["children"] == [4, 5]
    index = json.loads((run / "index.json").read_text())
    assert index["objects"]["5"] == [0, 1, 2, 3]
    assert index["frames"]["2"] == [1, 2, 4, 5, 6]
    boxes = {int(line.split(",")[1]) for line in (run / "tracks.mot.txt").read_text().splitlines()}
    assert boxes == {1, 2, 4, 5, 6}


def test_off_is_as_tracked_and_relate_goes_both_ways(made: Path, run: Path) -> None:
    with_identity = sorted(path.name for path in (made / "run").iterdir())
    without = sorted(path.name for path in (made / "off").iterdir())
    assert set(with_identity) - set(without) == {"identity.json", "relations.json", "index.json"}
    undone = relate(run, False)
    assert_same_run(run, made / "off")
    assert undone.tracks(2).track_ids.tolist() == [1, 2, 3]
    assert undone.tree().roots == undone.identities().track_id.tolist()
    relate(run)
    assert_same_run(run, made / "run")


def test_tracks_know_their_parts(run: Path) -> None:
    tracks = open_run(run).tracks(with_masks=False)
    assert tracks.children(1).track_ids.tolist() == [4, 5]
    assert tracks.at(0).children(2).track_ids.tolist() == [6]
    with pytest.raises(KeyError):
        tracks.children(99)
    with pytest.raises(ValueError, match="no tree"):
        open_run(run).tracks(raw=True).children(1)


def first_picture(video: Path) -> NDArray[np.int16]:
    with open_frames(video) as frames:
        return frames[0].astype(np.int16)


def test_pictures_have_the_colours_of_families_and_relate_draws_the_video_anew(made: Path, tmp_path: Path) -> None:
    settings = TrackingSettings(iou_threshold=0.95)
    frames = shutil.copytree(made / "frames", tmp_path / "frames")
    given = {"candidates": made / "candidates", "predictor": "static", "settings": settings}
    run = track_masks(frames, tmp_path / "run", overlay=OverlaySettings(style="fill"), **given)  # type: ignore[call-overload]
    colours = run_colours(run.paths)
    listed = json.loads((run.root / "level_4" / "viz" / "compare" / "compare.json").read_text())["frames"][0]["tracks"]
    assert {track["id"]: track["colour"] for track in listed} == {n: css(colours(n)) for n in (4, 5, 6, 7)}
    assert colours(4) == part_colour(1, 4)
    before, kept = first_picture(run.paths.overlay), run.paths.manifest.read_bytes()
    relate(run, False)
    undone = first_picture(run.paths.overlay)
    assert np.abs(undone - before).mean() > 3
    again = relate(run)
    assert run.paths.manifest.read_bytes() == kept
    assert np.abs(first_picture(run.paths.overlay) - before).mean() < 1
    assert {warning.stage for warning in again.warnings} == {"candidates"}
    frames.rename(tmp_path / "elsewhere")
    warning = relate(run, False).warnings[-1]
    assert warning.code == "overlay-outdated"
    assert "overlay.mp4 shows the tracks of before" in warning.message
    assert "video=" in warning.message
    assert np.abs(first_picture(run.paths.overlay) - before).mean() < 1
    assert {warning.stage for warning in relate(run, False, video=tmp_path / "elsewhere").warnings} == {"candidates"}
    assert np.abs(first_picture(run.paths.overlay) - undone).mean() < 1
    # A run that is resumed finds its levels finished, although their pictures were coloured since.
    resumed = track_masks(tmp_path / "elsewhere", run.root, resume=True, **given)  # type: ignore[call-overload]
    assert resumed.summary.track_count == run.summary.track_count


def test_the_raw_archives_stay(made: Path, run: Path) -> None:
    relate(run, IdentitySettings(merge=False, nest=False))
    for path in (made / "off").glob("level_*/tracking/*.npz"):
        assert (run / path.relative_to(made / "off")).read_bytes() == path.read_bytes()
    assert open_run(run).tracks().track_ids.tolist() == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("name", ["relations.json", "index.json", "identity.json"])
def test_an_interrupted_relate_loses_nothing(run: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the last file is there the run is read as before; the next call ends with the same files."""
    before = open_run(run).tracks(2).track_ids.tolist()
    whole = {path.name: path.read_bytes() for path in run.glob("*.json")}

    def killed(path: Path, value: object) -> None:
        if path.name == name:
            raise KeyboardInterrupt
        write_json(path, value)

    with monkeypatch.context() as patch:
        patch.setattr("trackweave.storage.identity.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            relate(run, IdentitySettings(merge=False))
    assert open_run(run).tracks(2).track_ids.tolist() == before
    relate(run)
    assert {path.name: path.read_bytes() for path in run.glob("*.json")} == whole


def test_exports_are_by_identity_unless_raw(run: Path, tmp_path: Path) -> None:
    export(run, "davis", tmp_path / "by-identity", level=2)
    export(run, "davis", tmp_path / "raw", level=2, raw=True)
    labels = {name: read_label_png(min((tmp_path / name).glob("*.png"))) for name in ("by-identity", "raw")}
    assert set(np.unique(labels["by-identity"])) == {0, 1, 2}
    assert set(np.unique(labels["raw"])) > {0, 2}
    for name in labels:
        export(run, "mot", tmp_path / f"{name}.txt", level=2, raw=name == "raw")
    assert len((tmp_path / "raw.txt").read_text().splitlines()) == 12
    assert len((tmp_path / "by-identity.txt").read_text().splitlines()) == 8


def test_panoptic_images_have_every_level(run: Path, tmp_path: Path) -> None:
    export(run, "panoptic", tmp_path / "out")
    tree = open_run(run).tree()
    for level in (2, 4):
        written = json.loads((tmp_path / "out" / f"panoptic_level_{level}.json").read_text())
        for record in written["annotations"]:
            with Image.open(tmp_path / "out" / f"panoptic_level_{level}" / record["file_name"]) as image:
                ids = (np.asarray(image, np.int64) * [1, 256, 65536]).sum(axis=2)
            for segment in record["segments_info"]:
                inside = ids == segment["id"]
                y, x = np.nonzero(inside)
                assert segment["area"] == inside.sum()
                assert segment["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
            assert {segment["id"] for segment in record["segments_info"]} == set(np.unique(ids).tolist()) - {0}
            assert set(np.unique(ids).tolist()) - {0} <= set(tree.identity[tree.level == level].tolist())
        assert len(written["annotations"]) == 4


def test_the_report_says_what_was_joined_and_why(run: Path) -> None:
    from trackweave.reports.page import report

    page = report(run).read_text()
    assert "3 tracks are 2 things" in page
    assert "1 = 3" in page
    assert "the same masks on 4 frames that show both" in page
    relate(run, False)
    assert "Tracks that are one thing" not in report(run).read_text()


def test_what_cannot_be_related_is_one_line(run: Path, made: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes"
    track_boxes(make_sequence(tmp_path / "toy"), boxes, overlay=False)
    with pytest.raises(ArtifactError, match="is a run of boxes"):
        relate(boxes)
    labels = {0: SCENE.labels[0]}
    prompted = track_masks(made / "frames", tmp_path / "prompted", prompts=labels, predictor="static")
    assert not prompted.paths.identity.exists()
    with pytest.raises(ArtifactError, match="a person marked"):
        relate(prompted)
    assert prompted.tree().roots == [1, 2, 3]
    with locked_folder(run), pytest.raises(RunFolderError, match="is working in this folder"):
        relate(run)
    (run / "level_2/tracking/video_segments.npz").unlink()
    with pytest.raises(ArtifactError, match="video_segments"):
        relate(run)


def test_identities_of_other_masks_are_refused(run: Path) -> None:
    record = json.loads((run / "identity.json").read_text())
    record["archives"] = {name: size + 1 for name, size in record["archives"].items()}
    (run / "identity.json").write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match=r"made from other masks .* relate\("):
        open_run(run).tracks(2)
    assert open_run(run).tracks(2, raw=True).track_ids.tolist() == [1, 2, 3]
    relate(run)
    assert open_run(run).tracks(2).track_ids.tolist() == [1, 2]


def test_one_level_alone(made: Path, tmp_path: Path) -> None:
    alone = track_masks(
        made / "frames", tmp_path / "alone", candidates=made / "candidates", levels=[4], predictor="static"
    )
    assert alone.tree().roots == alone.identities().identities.tolist()
