"""Detectors and salient-object models as candidate generators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from tests.cli.shell import Shell
from tests.detectors.onnx_models import HEIGHT, WIDTH, Graph, draw, image_info, segment_model, yolov8
from trackweave.errors import InputError, SettingError
from trackweave.frames.arrays import ArrayFrames
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.proposing import propose
from trackweave.proposals.generators import SalientProposals, make_generator
from trackweave.storage.candidates import filtered_path, read_filtered

BOX = (12, 10, 44, 30)


def salient_model(path: Path, *, logits: bool = False, channels: int = 1, size: tuple[int, int] = (32, 48)) -> Path:
    """Foreground is where the picture is red: a map of half the input's side, as a probability or a logit."""
    g = Graph()
    red = g.node("Slice", "images", *(g.constant([n], np.int64) for n in (0, 1, 1)))
    cells = g.node("AveragePool", red, kernel_shape=[2, 2], strides=[2, 2])
    bright = g.node("Cast", g.node("Greater", cells, g.constant(0.5)), to=TensorProto.FLOAT)
    values = g.node("Sub", g.node("Mul", bright, g.constant(16.0)), g.constant(8.0)) if logits else bright
    if channels > 1:
        values = g.node("Concat", *[values] * channels, axis=1)
    return g.save(path, [image_info((1, 3, *size))], {"d0": values})


@pytest.mark.parametrize("logits", [False, True])
def test_parts_of_the_foreground_are_candidates(tmp_path: Path, logits: bool) -> None:
    generator = make_generator(f"salient={salient_model(tmp_path / 'u2net.onnx', logits=logits)}")
    image = np.maximum(draw(64, 96, (8, 8, 40, 24)), draw(64, 96, (56, 32, 88, 56)))
    (found,) = generator.propose_levels(image, [2]).values()
    assert generator.files == [tmp_path / "u2net.onnx"]
    assert len(found) == 2
    assert found.size == (64, 96)
    assert found.masks.areas.tolist() == found.area.tolist()
    truth = [{8, 40, 24}, {56, 88, 32}]
    for box in found.xyxy:
        assert min(np.abs(box - want).max() for want in ([8, 8, 40, 24], [56, 32, 88, 56])) <= 2, truth
    assert np.all((found.score > 0.5) & (found.score <= 1))
    assert not len(generator.propose_levels(draw(64, 96, (0, 0, 0, 0)), [4])[4]), "nothing is stretched to foreground"


def test_models_and_levels_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"many.onnx: its first output is no map \(N, 1, h, w\): d0 \(1, 3, 16, 24\)"):
        SalientProposals(salient_model(tmp_path / "many.onnx", channels=3))
    with pytest.raises(InputError, match=r"detector=yolo.onnx"):
        SalientProposals(yolov8(tmp_path / "yolo.onnx"))
    generator = make_generator(f"salient={salient_model(tmp_path / 'u2net.onnx')}")
    with pytest.raises(SettingError, match=r"salient has one granularity, not levels \[2, 4\]: .*levels=\[2\]"):
        generator.propose_levels(draw(64, 96, BOX), [2, 4])
    for name in ("detector=", "boxes=", "salient", "sailent=x.onnx"):
        with pytest.raises(SettingError, match=r"there is no generator .*known: regions, .*detector=NAME"):
            make_generator(name)
    with pytest.raises(InputError, match="there is no such ONNX model"):
        make_generator(f"salient={tmp_path / 'none.onnx'}")


def frames(count: int = 4) -> ArrayFrames:
    left, top, right, bottom = BOX
    return ArrayFrames(np.stack([draw(HEIGHT, WIDTH, (left + k, top, right + k, bottom)) for k in range(count)]))


def test_a_detector_s_masks_are_followed(tmp_path: Path) -> None:
    model = segment_model(tmp_path / "seg.onnx", "yolov8")
    run = track_masks(frames(), tmp_path / "run", generator=f"detector={model}", predictor="static")
    assert run.summary.totals["objects"] == 1
    objects = run.tracks().at(0)
    assert objects.masks is not None
    left, top, right, bottom = BOX
    assert 0.6 < objects.masks.areas[0] / ((right - left) * (bottom - top)) <= 1
    (tmp_path / "other").mkdir()
    other = segment_model(tmp_path / "other" / "seg.onnx", "nms")
    with pytest.raises(Exception, match="other"):
        track_masks(frames(), tmp_path / "run", generator=f"detector={other}", predictor="static", resume=True)


def test_of_a_segmenter_the_boxes_alone_may_be_taken(tmp_path: Path) -> None:
    model = segment_model(tmp_path / "seg.onnx", "yolov8")
    image, found = frames()[0], {}
    for name in ("detector", "boxes"):
        generator = make_generator(f"{name}={model}")
        assert list(generator.files) == [model]
        found[name] = generator.propose_levels(image, [2])[2]
    assert found["detector"].has_mask.all()
    assert not found["boxes"].has_mask.any()
    assert np.array_equal(found["boxes"].xyxy, found["detector"].xyxy)
    run = track_masks(frames(), tmp_path / "run", generator=f"boxes={model}", predictor="static")
    assert run.tracks().at(0).xyxy.tolist() == np.rint(found["boxes"].xyxy).tolist()


def test_a_detector_s_boxes_are_prompts(tmp_path: Path) -> None:
    model = yolov8(tmp_path / "boxes.onnx")
    root = propose(frames(), tmp_path / "candidates", levels=[2], generator=f"detector={model}", candidate_stride=3)
    manifest = read_filtered(filtered_path(root / "level_2"))
    assert [[item["class_id"] for item in frame.items] for frame in manifest.frames] == [[2], [2]]
    run = track_masks(frames(), tmp_path / "run", candidates=root, predictor="static")
    assert run.summary.totals["objects"] in (1, 2)


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    (tmp_path / "frames").mkdir()
    for k, image in enumerate(frames()):
        Image.fromarray(image).save(tmp_path / "frames" / f"{k:03d}.png")
    model, shell = salient_model(tmp_path / "u2net.onnx"), Shell(monkeypatch, capsys)
    command = ["propose", tmp_path / "frames", "-o", tmp_path / "candidates", "--generator", f"salient={model}"]
    said = shell(*command)
    assert said.code == 0, said.err
    assert filtered_path(tmp_path / "candidates" / "level_2").is_file()
    said = shell(*command, "--set", "regions.max_count=3")
    assert (said.code, "no effect where the generator `regions` is not used" in said.err) == (2, True)
    said = shell(*command, "--levels", "2,4")
    assert (said.code, "--levels 2" in said.err, "0/4" in said.err) == (2, True, False), said.err
