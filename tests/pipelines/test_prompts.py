"""Points, boxes, masks and polygons that a person gives, on their way into a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.shell import Shell
from tests.toy_scenes import CROSSING, write_frames
from trackweave.errors import PredictorError, PromptError, RunFolderError
from trackweave.exporters import export
from trackweave.formats.davis import write_label_png
from trackweave.formats.registry import read_video
from trackweave.ids import PROMPTED_LEVEL
from trackweave.masks.codecs import encode_rle
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.run import Run
from trackweave.structures.prompts import Prompt
from trackweave.structures.run_summary import MaskSummary
from trackweave.tracking.settings import TrackingSettings

SCENE = CROSSING
HEIGHT, WIDTH = SCENE.frames.size
A, B = (PackedMasks.from_bool(SCENE.mask(0, letter)) for letter in "ab")


def centre(mask: PackedMasks) -> tuple[float, float]:
    rows, columns = np.nonzero(mask.to_bool()[0])
    middle = len(rows) // 2
    return float(columns[middle]) + 0.5, float(rows[middle]) + 0.5


def tracked(run: Path, prompts: Any, predictor: str = "static", **settings: Any) -> Run[MaskSummary]:
    return track_masks(SCENE.frames, run, prompts=prompts, predictor=predictor, settings=TrackingSettings(**settings))


def first_masks(run: Run[MaskSummary]) -> dict[int, PackedMasks]:
    tracks = run.tracks().at(0)
    assert tracks.masks is not None
    return {int(i): tracks.masks[[k]] for k, i in enumerate(tracks.track_id)}


def test_every_kind_of_mask_is_the_mask(tmp_path: Path) -> None:
    x1, y1, x2, y2 = (float(side) for side in A.boxes[0])
    prompts = [
        Prompt(0, 5, mask=A),
        Prompt(0, mask=B.to_bool()[0]),
        Prompt(0, 2, mask=encode_rle(A)[0]),
        Prompt(0, polygons=[[x1, y1, x2, y1, x2, y2, x1, y2]]),
        Prompt(0, 9, box=(x1, y1, x2, y2)),
    ]
    run = tracked(tmp_path / "run", prompts)
    masks = first_masks(run)
    assert set(masks) == {2, 5, 9, 10, 11}, "without an id: the next free ones"
    assert masks[5] == masks[2] == A
    assert masks[10] == B
    filled = np.zeros((HEIGHT, WIDTH), np.bool_)
    filled[int(y1) : int(y2), int(x1) : int(x2)] = True
    assert masks[9] == masks[11] == PackedMasks.from_bool(filled)
    kinds = {track.track_id: track.prompt for track in run.summary.levels[PROMPTED_LEVEL].tracks}
    assert kinds == {2: "mask", 5: "mask", 9: "box", 10: "mask", 11: "mask"}


def test_points_in_objects_follow_these_objects(tmp_path: Path) -> None:
    recording = SCENE.record(tmp_path / "truth.npz")
    prompts = [Prompt(0, 3, [centre(A)]), Prompt(0, 3, [centre(B)], [0]), Prompt(0, 4, points=[centre(B)])]
    run = tracked(tmp_path / "run", prompts, f"replay={recording}")
    assert first_masks(run) == {3: A, 4: B}
    assert {track.prompt for track in run.summary.levels[PROMPTED_LEVEL].tracks} == {"point"}
    config = json.loads((tmp_path / "run" / "manifest.json").read_text())["config"]["prompts"]
    assert config["objects"][0] == {"frame": 0, "id": 3, "points": [[*centre(A), 1], [*centre(B), 0]]}


def test_boxes_of_a_frame_and_label_maps_by_its_index(tmp_path: Path) -> None:
    boxes = np.concatenate([A.boxes, B.boxes]).astype(np.float64)
    run = tracked(tmp_path / "boxes", {0: boxes})
    assert set(first_masks(run)) == {1, 2}
    labels = SCENE.labels[0]
    assert first_masks(tracked(tmp_path / "labels", {0: labels}))[1] == A


def test_a_run_is_resumed_with_the_same_prompts_only(tmp_path: Path) -> None:
    tracked(tmp_path / "run", [Prompt(0, 1, mask=A)])
    before = (tmp_path / "run" / "level_0/tracking/video_segments.npz").read_bytes()
    track_masks(SCENE.frames, tmp_path / "run", prompts=[Prompt(0, 1, mask=A)], predictor="static", resume=True)
    with pytest.raises(RunFolderError, match="other"):
        track_masks(SCENE.frames, tmp_path / "run", prompts=[Prompt(0, 1, mask=B)], predictor="static", resume=True)
    assert (tmp_path / "run" / "level_0/tracking/video_segments.npz").read_bytes() == before


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([Prompt(0, points=[(WIDTH + 1, 2)])], rf"prompt on frame 0: point \({WIDTH + 1}, 2\) is outside the frame"),
        ([Prompt(0, box=(5, 5, 5, 9))], r"box \(5, 5, 5, 9\) is empty or outside the frame"),
        ([Prompt(0, box=(0.1, 0.2, 0.5, 1))], r"box \(0.1, 0.2, 0.5, 1\) lies in the first pixel: .* multiply shares"),
        ([Prompt(0, points=[(0.5, 0.25)])], r"point \(0.5, 0.25\) lies in the first pixel"),
        (
            [Prompt(0, polygons=[[0.1, 0.2, 0.5, 0.2, 0.5, 0.9]])],
            r"polygon \(0.1, 0.2, 0.5, .*\) lies in the first pixel",
        ),
        ([Prompt(99, box=(1, 1, 5, 9))], "prompt on frame 99: frame 99 does not exist: the video has frames 0 … "),
        ([Prompt("00099.jpg", box=(1, 1, 5, 9))], "prompt on frame 00099.jpg: no frame has this name"),
        ([Prompt(0, mask=np.ones((3, 3), np.bool_))], "prompt on frame 0: its mask is 3×3, the frames are"),
        ([Prompt(0, mask=np.zeros((HEIGHT, WIDTH), np.bool_))], "prompt on frame 0: its mask is empty"),
        ([Prompt(0, polygons=[[0, 0, 1, 1]])], "prompt on frame 0: a polygon is x, y, x, y"),
        ([Prompt(0, 1, mask=A), Prompt(0, 1, box=(1, 1, 5, 9))], "object 1 is marked twice on it"),
        ([Prompt(0, 1, points=[(1, 2)], labels=[0])], "object 1 on frame 0 has points outside of it only"),
        ([], "no prompt was given"),
    ],
)
def test_prompts_that_are_refused(tmp_path: Path, prompts: list[Prompt], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        tracked(tmp_path / "run", prompts)


def test_a_bad_one_of_several_is_a_bad_item(tmp_path: Path) -> None:
    prompts = [Prompt(0, 1, mask=A), Prompt(99, 2, box=(1, 1, 5, 9))]
    run = tracked(tmp_path / "run", prompts, on_bad_item="skip")
    assert set(first_masks(run)) == {1}
    assert [warning.code for warning in run.warnings] == ["prompt-skipped"]


@pytest.mark.parametrize("turned", [False, True])
def test_an_object_of_a_label_image_is_not_marked_again(tmp_path: Path, turned: bool) -> None:
    write_label_png(tmp_path / "first.png", SCENE.labels[0].astype(np.uint8))
    prompts: list[Any] = [str(tmp_path / "first.png"), Prompt(0, 1, box=(1, 1, 5, 9))]
    with pytest.raises(PromptError, match=r"object 1 is marked twice on it, by .*first.png too"):
        tracked(tmp_path / "run", prompts[::-1] if turned else prompts)
    run = tracked(tmp_path / "run", prompts[::-1] if turned else prompts, on_bad_item="skip")
    assert first_masks(run)[1] == A, "of the two the label image is kept"


def test_points_outside_only_are_a_bad_item(tmp_path: Path) -> None:
    prompts = [Prompt(0, 1, mask=A), Prompt(0, 2, points=[(1, 2)], labels=[0])]
    run = tracked(tmp_path / "run", prompts, on_bad_item="skip")
    assert set(first_masks(run)) == {1}
    assert [warning.code for warning in run.warnings] == ["prompt-skipped"]


def test_digits_with_zeros_before_them_are_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Frames 00000, 00005, 00010, as YouTube-VOS numbers them: the second is not the sixth."""
    (tmp_path / "frames").mkdir()
    for k, image in enumerate(SCENE.frames):
        Image.fromarray(image).save(tmp_path / "frames" / f"{5 * k:05d}.png")
    (tmp_path / "p.csv").write_text("frame,id,x1,y1,x2,y2\n00010,2,1,1,5,9\n")
    command = ["masks", tmp_path / "frames", "-o", tmp_path / "run", "--predictor", "static", "--no-viz"]
    said = Shell(monkeypatch, capsys)(*command, "--box", "00005,1,1,5,9,1", "--prompts", tmp_path / "p.csv")
    assert said.code == 0, said.err
    summary = Run[MaskSummary](tmp_path / "run").summary
    assert {track.track_id: track.prompt_frame for track in summary.levels[PROMPTED_LEVEL].tracks} == {1: 1, 2: 2}


def test_a_predictor_says_that_it_takes_no_points(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match="static takes masks and boxes, no points"):
        tracked(tmp_path / "run", [Prompt(0, points=[(3, 3)])])


def test_points_and_boxes_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(monkeypatch, capsys)
    frames, recording = write_frames(SCENE, tmp_path / "frames"), SCENE.record(tmp_path / "truth.npz")
    box = ",".join(str(side) for side in B.boxes[0])
    x, y = centre(A)
    (tmp_path / "p.csv").write_text(f"frame,id,x,y\n0,8,{x},{y}\n")
    command = ["masks", frames, "-o", tmp_path / "run", "--no-viz", "--predictor", f"replay={recording}"]
    said = shell(*command, "--point", f"0,{x},{y}", "--box", f"0,{box},7", "--prompts", tmp_path / "p.csv")
    assert said.code == 0, said.err
    assert first_masks(Run(tmp_path / "run")) == {7: B, 8: A, 9: A}
    for flags in (["--point", "0,1"], ["--box", "0,1,2,3,x"], ["--point", f"0,{x},{y},1.5"]):
        said = shell(*command, *flags)
        assert (said.code, f"{flags[0]} {flags[1]}: is not FRAME,X" in said.err) == (2, True)


CLASSES: list[dict[str, Any]] = [
    {"frame": 0, "id": 5, "class_id": 3, "class_name": "Car"},
    {"frame": 0, "id": 6, "class_name": "dog"},
    {"frame": 1, "id": 5, "class_name": "car "},
    {"frame": 0, "id": 7},
]
SHOWN = {5: 3, 6: 0, 7: -1}


def with_boxes(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    box = [float(side) for side in A.boxes[0]]
    return [item | {"box": box} for item in items]


@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_a_class_goes_with_its_track(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    items = with_boxes(CLASSES)
    if suffix == "json":
        path.write_text(json.dumps(items))
    else:
        keys = ("frame", "id", "class_id", "class_name")
        rows = [",".join([*(str(item.get(key, "")) for key in keys), *map(str, item["box"])]) for item in items]
        path.write_text("\n".join([",".join([*keys, "x1", "y1", "x2", "y2"]), *rows]) + "\n")
    run = tracked(tmp_path / "run", path)
    tracks = run.tracks()
    assert run.class_names == {3: "Car", 0: "dog"}
    assert {int(one): set(tracks.of(one).class_id.tolist()) for one in tracks.track_ids} == {
        one: {number} for one, number in SHOWN.items()
    }
    (written,) = export(run, "csv", tmp_path / "out.csv")
    assert read_video(written).info.class_names == {3: "Car", 0: "dog"}
    again = track_masks(SCENE.frames, run.root, prompts=path, predictor="static", resume=True)
    assert again.class_names == run.class_names
    assert '"class_name": "Car"' in (run.root / "manifest.json").read_text()


def test_classes_online(tmp_path: Path) -> None:
    frames = [SCENE.frames[index] for index in range(len(SCENE.frames))]
    prompts = [Prompt(item["frame"], item["id"], box=item["box"], class_id=item.get("class_id"),
                      class_name=item.get("class_name")) for item in with_boxes(CLASSES)]  # fmt: skip
    with track_masks(iter(frames), tmp_path / "run", prompts=prompts, predictor="static", online=True) as stream:
        found = list(stream)
    assert {int(i): int(c) for i, c in zip(found[0].track_id, found[0].class_id, strict=True)} == SHOWN
    run: Run[MaskSummary] = Run(tmp_path / "run")
    assert run.class_names == {3: "Car", 0: "dog"}


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            [{"frame": 0, "id": 1, "class_id": 1}, {"frame": 1, "id": 1, "class_id": 2}],
            "object 1 is class 1 before and",
        ),
        (
            [{"frame": 0, "class_id": 1, "class_name": "a"}, {"frame": 0, "class_id": 1, "class_name": "b"}],
            "prompt on frame 0: class 1 is called a and b",
        ),
        ([{"frame": 0, "class_id": -1}], "a class is a number from 0, a name, or both"),
        ([{"frame": 0, "class_name": " "}], "a class is a number from 0, a name, or both"),
        ([{"frame": 0, "class_name": 7}], "class_name 7 is not text"),
        ([{"frame": 0, "class_id": 1.5}], "class_id 1.5 is not a whole number"),
    ],
)
def test_classes_that_are_refused(tmp_path: Path, items: list[dict[str, Any]], message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(with_boxes(items)))
    with pytest.raises(PromptError, match=message):
        tracked(tmp_path / "run", path)
