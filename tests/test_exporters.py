from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.toy_scenes import CROSSING, candidates_of
from trackweave.errors import ArtifactError, InputError, SettingError
from trackweave.exporters import export, write_contact_sheet
from trackweave.formats.davis import read_label_png, write_label_png
from trackweave.frames.open import open_frames
from trackweave.pipelines.masks import track_masks
from trackweave.visualization.annotators import write_png
from trackweave.visualization.video import Mp4Writer

SCENE = CROSSING


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    with Mp4Writer(tmp_path / "clip.mp4", 10) as video:
        for image in SCENE.frames:
            video.write(np.asarray(image))
    return tmp_path / "clip.mp4"


@pytest.fixture
def run(tmp_path: Path, clip: Path) -> Path:
    candidates = candidates_of(SCENE, tmp_path / "candidates", [0])
    track_masks(clip, tmp_path / "run", candidates=candidates, predictor="static")
    return tmp_path / "run"


def test_a_source_that_was_given_stays_open(run: Path, clip: Path, tmp_path: Path) -> None:
    with open_frames(clip, sampling="0:4") as frames:
        export(run, "mp4", tmp_path / "a.mp4", frames=frames)
        write_contact_sheet(run, tmp_path / "a.png", frames=frames)
        assert frames[2].shape == (8, 32, 3)


def test_the_recorded_input_is_opened_again(run: Path, tmp_path: Path) -> None:
    export(run, "mp4", tmp_path / "a.mp4")
    with open_frames(tmp_path / "a.mp4") as video:
        assert len(video) == 4
        assert video.times is not None
        assert video.times[1] == pytest.approx(0.1)  # the rate of the source


def test_a_relative_input_is_found_from_every_folder(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = candidates_of(SCENE, tmp_path / "candidates", [0])
    monkeypatch.chdir(tmp_path)
    track_masks("clip.mp4", "run", candidates=candidates, predictor="static")
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    export("../run", "mp4", "a.mp4")
    with pytest.raises(InputError, match="is an input of the run"):
        export("../run", "mp4", "../clip.mp4")


def test_other_frames_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="these are not the run's frames"):
        export(run, "mp4", tmp_path / "a.mp4", frames=SCENE.frames.select([0, 1]))
    assert not (tmp_path / "a.mp4").exists()


def test_levels_are_named_when_there_are_several(tmp_path: Path) -> None:
    candidates = candidates_of(SCENE, candidates_of(SCENE, tmp_path / "c", [0]), [0], level=4)
    track_masks(SCENE.frames, tmp_path / "run", candidates=candidates, predictor="static")
    with pytest.raises(SettingError, match="levels 2, 4: name one"):
        export(tmp_path / "run", "davis", tmp_path / "out")
    assert len(export(tmp_path / "run", "davis", tmp_path / "out", level=4)) == 4
    with pytest.raises(ArtifactError, match="records no video_segments of level 6"):
        export(tmp_path / "run", "davis", tmp_path / "out", level=6)
    with pytest.raises(ArtifactError, match="its frames \\(memory\\)"):
        export(tmp_path / "run", "mp4", tmp_path / "a.mp4", level=2)


def test_numbers_of_the_level(tmp_path: Path) -> None:
    candidates = candidates_of(SCENE, candidates_of(SCENE, tmp_path / "c", [0]), [0], level=4)
    track_masks(SCENE.frames, tmp_path / "run", candidates=candidates, predictor="static")
    out = tmp_path / "out"
    ids = np.unique([read_label_png(path) for path in export(tmp_path / "run", "davis", out, level=4)]).tolist()[1:]
    assert ids[0] > 1
    files = export(tmp_path / "run", "davis", out, level=4, ids="level")
    assert files[-1] == out / "ids.csv"
    labels = np.unique([read_label_png(path) for path in files[:-1]]).tolist()
    assert labels == [0, *range(1, len(ids) + 1)]
    rows = [f"{label},{track_id}" for label, track_id in zip(labels[1:], ids, strict=True)]
    assert files[-1].read_text().splitlines() == ["label,id", *rows]
    export(tmp_path / "run", "davis", out, level=4)
    assert not files[-1].exists()  # it is not the table of these images
    files[-1].write_text("mine")
    export(tmp_path / "run", "davis", out, level=4)
    assert files[-1].read_text() == "mine"


def test_wrong_bits_and_ids_are_settings(run: Path, tmp_path: Path) -> None:
    for arguments in ({"bits": 12}, {"ids": "frame"}):
        with pytest.raises(SettingError, match="8 or 16 bits"):
            export(run, "davis", tmp_path / "out", **arguments)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_an_export_never_goes_over_the_inputs_of_its_run(tmp_path: Path) -> None:
    for k, image in enumerate(SCENE.frames):
        write_png(tmp_path / "frames" / f"{k:05d}.png", np.asarray(image))
    write_label_png(tmp_path / "gt" / "00000.png", np.asarray(SCENE.labels[0], np.uint8))
    run = tmp_path / "run"
    track_masks(tmp_path / "frames", run, prompts=[tmp_path / "gt" / "00000.png"], predictor="static")
    (tmp_path / "link").symlink_to(tmp_path / "frames", target_is_directory=True)
    before = snapshot(tmp_path)
    for folder in ("frames", "link", "gt", "run"):
        with pytest.raises(InputError, match="export to another place"):
            export(run, "davis", tmp_path / folder)
    for form in ("mot", "mp4"):
        for file in (tmp_path / "frames" / "00001.png", run / "manifest.json", run / "tracks.mot.txt"):
            with pytest.raises(InputError, match="export to another place"):
                export(run, form, file)
    assert snapshot(tmp_path) == before
    assert len(export(run, "davis", tmp_path / "frames" / "labels")) == len(SCENE.frames)


def test_an_export_never_goes_over_its_video(run: Path, clip: Path) -> None:
    before = clip.read_bytes()
    with pytest.raises(InputError, match=r"clip\.mp4: is an input of the run"):
        export(run, "mp4", clip)
    assert clip.read_bytes() == before


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not a run folder"):
        export(tmp_path, "davis", tmp_path / "out")


def test_a_format_that_is_none_names_those_there_are(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"tracks are written as mot, .*davis.*, not as 'bmp'"):
        export(run, "bmp", tmp_path / "a.bmp")
    with pytest.raises(SettingError, match=r"not as 'DAVIS'; did you mean davis\?"):
        export(run, "DAVIS", tmp_path / "labels")


def test_the_files_that_were_written(run: Path, tmp_path: Path) -> None:
    assert export(run, "mot", str(tmp_path / "a.txt")) == [tmp_path / "a.txt"]
    files = export(run, "davis", tmp_path / "out")
    assert files == sorted((tmp_path / "out").glob("*.png"))


@pytest.mark.parametrize(("form", "target"), [("mot", "x.txt"), ("mp4", "x.mp4"), ("davis", "out")])
def test_what_a_killed_export_left_half_written_is_removed(run: Path, tmp_path: Path, form: str, target: str) -> None:
    inside = f"{target}/.00000.png" if form == "davis" else f".{target}"
    left = tmp_path / f"{inside}.4194303-0123abcd.partial"
    others = tmp_path / ".y.txt.4194303-0123abcd.partial"  # another export's, into another file
    left.parent.mkdir(exist_ok=True)
    for path in (left, others):
        path.write_bytes(b"half")
    export(run, form, tmp_path / target)
    assert not left.exists()
    assert others.exists()
