"""Folders of label images as data sets have them: black and white, 16 bits, late objects, trees as downloaded."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from trackweave.errors import InputError
from trackweave.evaluation.compare import compare
from trackweave.evaluation.evaluate import evaluate
from trackweave.evaluation.jf import evaluate_davis
from trackweave.evaluation.scores import Evaluation, RegimeScores
from trackweave.evaluation.settings import EvaluationSettings, Matching, Metric
from trackweave.formats.davis import write_label_png

JF = EvaluationSettings(metrics=(Metric.jf,))
FRAMES = 6


def two_squares() -> NDArray[np.uint8]:
    """`(6, 40, 60)` labels: two squares that move to the right."""
    labels = np.zeros((FRAMES, 40, 60), np.uint8)
    for k, image in enumerate(labels):
        image[5:15, 5 + 4 * k : 15 + 4 * k] = 1
        image[20:30, 5 + 2 * k : 25 + 2 * k] = 2
    return labels


def write_grey(folder: Path, labels: NDArray[Any], suffix: str = ".png") -> Path:
    """Grey images without a palette, of the bits of the labels."""
    folder.mkdir(parents=True)
    for frame, image in enumerate(labels):
        Image.fromarray(image).save(folder / f"{frame:05d}{suffix}")
    return folder


def write_palette(folder: Path, labels: NDArray[np.uint8]) -> Path:
    for frame, image in enumerate(labels):
        write_label_png(folder / f"{frame:05d}.png", image)
    return folder


def one_square() -> NDArray[np.uint8]:
    return np.asarray(two_squares() == 1, np.uint8)


def j_and_f(scores: RegimeScores) -> float:
    return scores["object"].combined["J&F"]


BLACK_AND_WHITE = "holds black and white masks (0 and 255): one object, id 1"


@pytest.mark.parametrize("true_white", [1, 255, 65535])
@pytest.mark.parametrize("white", [1, 255, 65535])
def test_black_and_white_masks_are_one_object(tmp_path: Path, white: int, true_white: int) -> None:
    pred, gt = (
        write_grey(tmp_path / name, np.array([0, value], np.uint16 if value > 255 else np.uint8)[one_square()])
        for name, value in (("pred", white), ("gt", true_white))
    )
    found = evaluate(pred, gt, JF)
    assert j_and_f(found) == 1
    assert set(found["object"].sequences["gt"].objects) == {1}
    whose = [name for name, value in (("the ground truth", true_white), ("the result", white)) if value > 1]
    assert found.notes == [f"{name} {BLACK_AND_WHITE}" for name in whose]
    assert evaluate_davis(gt, pred).jf_mean == 1


def test_black_and_white_with_a_palette_and_an_empty_first_frame_of_the_result(tmp_path: Path) -> None:
    result = one_square() * np.uint8(255)
    result[0] = 0
    found = evaluate(write_palette(tmp_path / "pred", result), write_palette(tmp_path / "gt", one_square()), JF)
    assert j_and_f(found) == 1


def test_255_is_void_where_other_labels_are(tmp_path: Path) -> None:
    truth = two_squares()
    truth[:, 35:] = 255
    truth[0, :30] = 0  # this image alone would be black and white
    late = write_palette(tmp_path / "gt", truth)
    found = evaluate(late, late, EvaluationSettings(metrics=(Metric.jf,), matching=Matching.best))
    assert set(found["object"].sequences["gt"].objects) == {1, 2}
    assert found.notes == []


def test_0_and_1_beside_0_and_255_are_one_object(tmp_path: Path) -> None:
    result = one_square()
    result[0] *= 255  # drawn by hand; the others are a program's
    gt = write_palette(tmp_path / "gt", one_square())
    found = evaluate(write_grey(tmp_path / "pred", result), gt, JF)
    assert j_and_f(found) == 1
    assert found.notes == [f"the result {BLACK_AND_WHITE}"]


def test_255_of_grey_images_is_an_id_and_a_note_says_so(tmp_path: Path) -> None:
    truth = np.array([0, 64, 255], np.uint8)[two_squares()]
    gt = write_grey(tmp_path / "gt", truth)
    found = evaluate(gt, gt, JF)
    assert set(found["object"].sequences["gt"].objects) == {64, 255}
    assert found.notes == [
        f"{whose} has label 255 in grey images: an object there, void only in images with a palette"
        for whose in ("the ground truth", "the result")
    ]


@pytest.mark.parametrize("soft_side", ["pred", "gt"])
def test_masks_with_soft_edges_are_refused(tmp_path: Path, soft_side: str) -> None:
    hard = one_square() * np.uint8(255)
    soft = np.stack([cv2.GaussianBlur(image, (5, 5), 1) for image in hard])
    for side in ("pred", "gt"):
        write_grey(tmp_path / side, soft if side == soft_side else hard)
    with pytest.raises(InputError, match=rf"{soft_side}/0000\d\.png: \d+ grey values lie along the outline"):
        evaluate(tmp_path / "pred", tmp_path / "gt", JF)


def test_255_is_an_id_in_images_of_16_bits(tmp_path: Path) -> None:
    ids = np.array([0, 254, 255], np.uint16)[two_squares()]
    ids[:, 35:, 50:] = 256
    gt = write_grey(tmp_path / "gt", ids)
    found = evaluate(gt, gt, JF)
    assert set(found["object"].sequences["gt"].objects) == {254, 255, 256}
    lost = write_grey(tmp_path / "pred", np.where(ids == 255, 0, ids).astype(np.uint16))
    assert j_and_f(evaluate(lost, gt, JF)) == pytest.approx(2 / 3)


def test_a_truth_without_objects_has_no_score(tmp_path: Path) -> None:
    nothing = write_palette(tmp_path / "gt", two_squares() * np.uint8(0))
    some = write_palette(tmp_path / "pred", two_squares())
    for result in (some, nothing):
        found = evaluate(result, nothing, JF)
        assert math.isnan(j_and_f(found))
        record = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert record["classes"]["object"]["combined"]["J&F"] is None
        assert record["classes"]["object"]["combined"]["num_gt_tracks"] == 0
        assert "gt: J and F have nothing to score: the first frame of the truth has no object" in found.notes
        assert "the ground truth has no object on the scored frames of gt: there is nothing to score" in found.notes
    one = Evaluation([evaluate(some, nothing, JF)])
    record = json.loads(json.dumps(compare(one, one).to_json(), allow_nan=False))
    assert record["comparisons"][0]["differences"]["J&F"]["difference"] is None


def test_a_sequence_without_objects_does_not_lower_the_mean(tmp_path: Path) -> None:
    for root in ("gt", "pred"):
        write_palette(tmp_path / root / "full", two_squares())
        write_palette(tmp_path / root / "empty", two_squares() * np.uint8(0))
    found = evaluate(tmp_path / "pred", tmp_path / "gt", JF)
    assert j_and_f(found) == 1
    assert math.isnan(found["object"].sequences["empty"]["J&F"])
    assert any("no object on the scored frames of empty" in note for note in found.notes)


def test_a_result_without_objects_says_so(tmp_path: Path) -> None:
    gt = write_palette(tmp_path / "gt", two_squares())
    found = evaluate(write_palette(tmp_path / "pred", two_squares() * np.uint8(0)), gt, JF)
    assert j_and_f(found) == 0
    where = f"gt ({tmp_path / 'pred'})"
    assert found.notes == [f"the result has no object on the scored frames of {where}: all of the truth is missed"]


@pytest.mark.parametrize("matching", [Matching.ids, Matching.best])
def test_a_copied_prompt_is_not_one_frame_off(tmp_path: Path, matching: Matching) -> None:
    copied = np.repeat(two_squares()[:1], FRAMES, axis=0)
    gt, settings = write_palette(tmp_path / "gt", two_squares()), EvaluationSettings(matching=matching)
    assert evaluate(write_palette(tmp_path / "copied", copied), gt, settings).notes == []
    late = np.concatenate([two_squares()[:1], two_squares()[:-1]])
    notes = evaluate(write_palette(tmp_path / "late", late), gt, settings).notes
    assert len(notes) == 1
    assert "are its frames one too late? Frames belong together by their names" in notes[0]


def late_truth() -> NDArray[np.uint8]:
    """The second square enters on frame 3."""
    labels = two_squares()
    labels[:3][labels[:3] == 2] = 0
    return labels


def test_objects_that_enter_later_are_named(tmp_path: Path) -> None:
    gt = write_palette(tmp_path / "gt", late_truth())
    without = write_palette(tmp_path / "pred", one_square())
    found = evaluate(without, gt, JF)
    assert j_and_f(found) == 1
    assert found.notes == [
        "gt: J and F leave out objects 2, which enter after the first frame; "
        "matching='first-appearance' scores them, as YouTube-VOS does"
    ]
    assert evaluate_davis(gt, without).late == [2]


def test_objects_are_scored_from_the_frame_after_their_first(tmp_path: Path) -> None:
    gt = write_palette(tmp_path / "gt", late_truth())
    youtube = EvaluationSettings(metrics=(Metric.jf,), matching=Matching.first_appearance)
    assert j_and_f(evaluate(gt, gt, youtube)) == 1
    without = evaluate(write_palette(tmp_path / "without", one_square()), gt, youtube)
    assert j_and_f(without) == 0.5
    assert without.notes == []
    early = two_squares()  # the second object is there before it appears, which is not scored
    early[4:][early[4:] == 1] = 0  # the first is missing on frames 4 and 5 of 1 … 5
    found = evaluate(write_palette(tmp_path / "early", early), gt, youtube)["object"].sequences["gt"].objects
    assert found[1].region.mean == pytest.approx(3 / 5)
    assert found[2].region.mean == 1


def test_an_object_of_the_last_frame_alone_is_not_scored(tmp_path: Path) -> None:
    labels = one_square()
    labels[-1, 20:30] = 2
    gt = write_palette(tmp_path / "gt", labels)
    found = evaluate(gt, gt, EvaluationSettings(metrics=(Metric.jf,), matching=Matching.first_appearance))
    assert set(found["object"].sequences["gt"].objects) == {1}


@pytest.mark.parametrize("inner", ["Annotations/480p", "Annotations/Full-Resolution", "Annotations"])
@pytest.mark.parametrize("named", ["root", "annotations"])
def test_data_sets_as_downloaded(tmp_path: Path, inner: str, named: str) -> None:
    for name in ("bear", "bus"):
        write_grey(tmp_path / "set" / inner / name, one_square() * np.uint8(255))
        write_grey(tmp_path / "set" / inner.replace("Annotations", "JPEGImages") / name, one_square(), ".jpg")
        write_palette(tmp_path / "pred" / name, one_square())
    (tmp_path / "set" / "ImageSets").mkdir()
    (tmp_path / "set" / "Annotations" / "._bear").write_bytes(b"left by another system")
    (tmp_path / "set" / inner / "bear" / "._00000.png").write_bytes(b"left by another system")
    gt = tmp_path / "set" if named == "root" else tmp_path / "set" / "Annotations"
    found = evaluate(tmp_path / "pred", gt, JF)
    assert set(found["object"].sequences) == {"bear", "bus"}
    assert j_and_f(found) == 1


@pytest.mark.parametrize("has_meta", [True, False])
def test_youtube_vos_scores_from_the_first_appearance(tmp_path: Path, has_meta: bool) -> None:
    write_palette(tmp_path / "train" / "Annotations" / "0a1b", late_truth())
    if has_meta:
        (tmp_path / "train" / "meta.json").write_text('{"videos": {}}')
    result = write_palette(tmp_path / "pred" / "0a1b", one_square()).parent
    for gt in (tmp_path / "train", tmp_path / "train" / "Annotations"):
        assert j_and_f(evaluate(result, gt, JF)) == (0.5 if has_meta else 1)
        by_ids = EvaluationSettings(metrics=(Metric.jf,), matching=Matching.ids)
        assert j_and_f(evaluate(result, gt, by_ids)) == 1
