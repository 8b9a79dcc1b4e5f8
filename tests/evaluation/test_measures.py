"""Measures of label images and of identities, against the papers' formulas computed pixel by pixel."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from tests.toy_boxes import box_of, make_sequence, mot_line, write_lines
from tests.toy_scenes import CROSSING
from trackweave.cli.app import app
from trackweave.errors import InputError, SettingError
from trackweave.evaluation.compare import compare, evaluation_tables
from trackweave.evaluation.evaluate import evaluate
from trackweave.evaluation.measures import (
    WINDOWS,
    Lifetime,
    MatchedFrame,
    Measure,
    Nestedness,
    SegmentationTrackingQuality,
    TracksInWholes,
    VideoPanopticQuality,
)
from trackweave.evaluation.scores import Evaluation, Scores
from trackweave.evaluation.settings import CompareSettings, EvaluationSettings, Metric, OnMissing
from trackweave.formats.davis import write_label_png
from trackweave.masks.codecs import encode_rle
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.masks import track_masks
from trackweave.storage.candidates import write_filtered
from trackweave.structures.candidates import Candidates
from trackweave.tracking.settings import TrackingSettings

Labels = NDArray[np.uint8]
VOID = 255
LABELLED = EvaluationSettings(
    metrics=(Metric.hota, Metric.owta, Metric.mots, Metric.vpq, Metric.stq, Metric.lifetime), missing=OnMissing.empty
)
SHAPE = (8, 3, 4)
TRUTH = hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 3, VOID]))
TRACKS = hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 3, 4]))


def frames_of(truth: Labels, tracks: Labels) -> list[MatchedFrame | None]:
    """As the evaluation matches them; None where neither has an object."""
    found: list[MatchedFrame | None] = []
    for true, predicted in zip(truth, tracks, strict=True):
        kept = np.where(true == VOID, 0, predicted)
        true_ids, track_ids = (np.unique(x[(x > 0) & (x < VOID)]).astype(np.int64) for x in (true, kept))
        void = {int(p): int(np.sum((predicted == p) & (true == VOID))) for p in np.unique(predicted) if p}
        if not len(true_ids) + len(track_ids) + len(void):
            found.append(None)
            continue
        true_masks, track_masks = true == true_ids[:, None, None], kept == track_ids[:, None, None]
        shared = np.einsum("nhw,mhw->nm", true_masks.astype(np.int64), track_masks.astype(np.int64))
        areas, track_areas = true_masks.sum((1, 2)), track_masks.sum((1, 2))
        iou = shared / np.maximum(areas[:, None] + track_areas - shared, 1)
        found.append(MatchedFrame(true_ids, track_ids, iou, shared, areas, track_areas, void))
    return found


def measured(measure: Measure, truth: Labels, tracks: Labels) -> Scores:
    gap = 0
    for frame in [*frames_of(truth, tracks)]:
        if frame is None:
            gap += 1
            continue
        measure.skip(gap)
        measure.add(frame)
        gap = 0
    measure.skip(gap)
    return Scores(measure.values())


def panoptic_quality(truth: Labels, tracks: Labels, k: int) -> float:
    """PQ over all windows of k frames, as `eval_vpq.py` of the paper does it."""
    iou_sum = hits = false = missed = 0.0
    for start in range(len(truth) - k + 1):
        true, predicted = truth[start : start + k], tracks[start : start + k]
        true_ids = set(np.unique(true).tolist()) - {0, VOID}
        track_ids = set(np.unique(predicted).tolist()) - {0}
        matched_true, matched_tracks = set(), set()
        for g in true_ids:
            for p in track_ids:
                shared = np.sum((true == g) & (predicted == p))
                union = np.sum(true == g) + np.sum(predicted == p) - shared - np.sum((true == VOID) & (predicted == p))
                if shared and shared / union > 0.5:
                    iou_sum += shared / union
                    matched_true.add(g)
                    matched_tracks.add(p)
        hits += len(matched_true)
        missed += len(true_ids - matched_true)
        for p in track_ids - matched_tracks:
            false += np.sum((true == VOID) & (predicted == p)) / np.sum(predicted == p) <= 0.5
    whole = hits + false / 2 + missed / 2
    return iou_sum / whole if whole else math.nan


def segmentation_tracking_quality(truth: Labels, tracks: Labels) -> tuple[float, float, float]:
    """STQ, AQ and SQ with one class, by the equations of the paper."""
    predicted = np.where(truth == VOID, 0, tracks)
    true = np.where(truth == VOID, 0, truth)
    tubes = np.unique(true[true > 0])
    association = 0.0
    for g in tubes:
        for p in np.unique(predicted[predicted > 0]):
            tpa = np.sum((true == g) & (predicted == p))
            fna, fpa = np.sum((true == g) & (predicted != p)), np.sum((true != g) & (predicted == p))
            association += tpa * tpa / (tpa + fna + fpa) / np.sum(true == g)
    aq = association / len(tubes) if len(tubes) else math.nan
    union = np.sum((true > 0) | (predicted > 0))
    sq = np.sum((true > 0) & (predicted > 0)) / union if union else math.nan
    return math.sqrt(aq * sq), aq, sq


@settings(max_examples=25, deadline=None)
@given(TRUTH, TRACKS)
def test_vpq_is_that_of_the_paper(truth: Labels, tracks: Labels) -> None:
    found = measured(VideoPanopticQuality(), truth, tracks).values
    expected = [panoptic_quality(truth, tracks, k) for k in WINDOWS]
    np.testing.assert_allclose([found[f"VPQ-{k}"] for k in WINDOWS], expected)
    np.testing.assert_allclose(found["VPQ"], np.nanmean(expected) if not np.isnan(expected).all() else math.nan)


@settings(max_examples=25, deadline=None)
@given(TRUTH, TRACKS)
def test_stq_is_that_of_the_paper(truth: Labels, tracks: Labels) -> None:
    found = measured(SegmentationTrackingQuality(), truth, tracks).values
    np.testing.assert_allclose(
        [found[name] for name in ("STQ", "AQ", "SQ")], segmentation_tracking_quality(truth, tracks)
    )


def test_windows_longer_than_the_video_and_gaps() -> None:
    truth = np.zeros((2, 2, 2), np.uint8)
    truth[:, 0] = 1
    short = measured(VideoPanopticQuality(), truth, truth).values
    assert [short["VPQ"], short["VPQ-1"], short["VPQ-2"]] == [1, 1, 1]
    assert math.isnan(short["VPQ-4"])
    far = np.zeros((40, 2, 2), np.uint8)
    far[[3, 30], 0] = 1
    assert measured(VideoPanopticQuality(), far, far).values["VPQ-4_TP"] == 8


def test_lifetime_counts_ids_and_duplicates() -> None:
    truth = np.zeros((6, 4, 4), np.uint8)
    truth[:, :2], truth[3:, 2:] = 1, 2
    tracks = np.where(truth == 1, np.array([7, 7, 7, 7, 8, 8], np.uint8)[:, None, None], 0)
    found = measured(Lifetime(), truth, tracks)
    assert [found[name] for name in Lifetime.NAMES] == pytest.approx([4 / 6 / 2, 2, 0])
    again = Lifetime()
    ids = np.array([1], np.int64)
    for _ in range(4):
        again.add(MatchedFrame(ids, np.array([5, 6, 9], np.int64), np.array([[0.9, 0.6, 0.2]])))
    doubled = Scores(again.values())
    assert (doubled["Lifetime"], doubled["Tracks"], doubled["Duplicates"]) == (1, 2, 1)
    assert math.isnan(Scores(Lifetime().values())["Lifetime"])


@pytest.mark.parametrize("kind", [VideoPanopticQuality, SegmentationTrackingQuality, Lifetime])
def test_sequences_combine_by_their_counts(kind: type[Measure]) -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, (2, 6, 5, 5)).astype(np.uint8)
    tracks = np.where(rng.random(truth.shape) < 0.8, truth, 3).astype(np.uint8)
    parts = [measured(kind(), *pair).values for pair in zip(truth, tracks, strict=True)]
    whole = kind.combined(parts)
    assert all(whole[name] == parts[0][name] + parts[1][name] for name in kind.COUNTS)
    assert kind.combined([parts[0]]) == parts[0]
    low, high = sorted(part[kind.NAMES[0]] for part in parts)
    assert low <= whole[kind.NAMES[0]] <= high
    nothing = dict.fromkeys(parts[0], math.nan) | dict.fromkeys([*kind.COUNTS, "GT_Dets", "Dets"], 0.0)
    assert kind.mean([parts[0], nothing])[kind.NAMES[0]] == pytest.approx(parts[0][kind.NAMES[0]])


def test_nestedness_is_the_share_of_tracks_inside_one() -> None:
    measure = Nestedness()
    ids, wholes = np.array([11, 12, 13], np.int64), np.array([1, 2], np.int64)
    areas = np.array([100, 50, 20], np.int64)
    for inside in ([[96, 0], [25, 25], [0, 0]], [[95, 5], [25, 20], [0, 0]]):
        measure.add_wholes(TracksInWholes(ids, areas, wholes, np.array(inside, np.int64)))
    found = Scores(measure.values())
    assert found["Nested"] == pytest.approx(1 / 3)
    assert found["Inside"] == pytest.approx((191 + 50) / 340)
    assert math.isnan(Scores(Nestedness().values())["Nested"])


# --- through `evaluate` ------------------------------------------------------------------------------------------


def blobs(seed: int, *, void: bool = True) -> tuple[Labels, Labels]:
    """Squares that move, and tracks of them that change their number, miss some and swap."""
    rng = np.random.default_rng(seed)
    truth, tracks = np.zeros((2, 9, 20, 24), np.uint8)
    for t in range(9):
        for k in range(4):
            y, x = 1 + 5 * k, (2 + 3 * k + t * (1 + k % 2)) % 18
            truth[t, y : y + 4, x : x + 5] = k + 1
            if rng.random() < 0.85:
                shift = int(rng.integers(0, 2))
                tracks[t, y : y + 4, x + shift : x + 5 + shift] = (k + 1 + 10 * (t > 3 + k), 5 - k)[k > 1 and t > 5]
    if void:
        truth[:, :, :3] = np.where(truth[:, :, :3] == 0, VOID, truth[:, :, :3])
    return truth, tracks


def write_sequences(root: Path, names: tuple[str, ...]) -> tuple[Path, Path]:
    for seed, name in enumerate(names):
        truth, tracks = blobs(seed)
        for folder, labels in (("gt", truth), ("pred", tracks)):
            (root / folder / name).mkdir(parents=True)
            for t, image in enumerate(labels):
                write_label_png(root / folder / name / f"{t:05d}.png", image)
    return root / "pred", root / "gt"


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[Path, Path]:
    return write_sequences(tmp_path, ("first", "second"))


def mots(truth: Labels, tracks: Labels) -> tuple[float, float, float]:
    """sMOTSA, MOTSA, MOTSP: section 4 of the paper."""
    soft = hits = false = switches = masks = 0.0
    last: dict[int, int] = {}
    for frame in frames_of(truth, tracks):
        if frame is None:
            continue
        matched = frame.similarity > 0.5
        rows, columns = np.nonzero(matched)
        masks += len(frame.true_ids)
        hits += len(rows)
        soft += frame.similarity[matched].sum()
        false += len(frame.track_ids) - len(columns)
        for row, column in zip(rows, columns, strict=True):
            true, track = int(frame.true_ids[row]), int(frame.track_ids[column])
            switches += last.get(true, track) != track
            last[true] = track
    return (soft - false - switches) / masks, (hits - false - switches) / masks, soft / hits


def test_label_images(labelled: tuple[Path, Path]) -> None:
    pytest.importorskip("trackeval")
    found = evaluate(*labelled, LABELLED)["object"]
    for seed, name in enumerate(("first", "second")):
        truth, tracks = blobs(seed)
        scores = found.sequences[name]
        expected = segmentation_tracking_quality(truth, tracks)
        np.testing.assert_allclose([scores[each] for each in ("STQ", "AQ", "SQ")], expected)
        by_window = [panoptic_quality(truth, tracks, k) for k in WINDOWS]
        np.testing.assert_allclose([scores[f"VPQ-{k}"] for k in WINDOWS], by_window)
        np.testing.assert_allclose([scores[each] for each in ("sMOTSA", "MOTSA", "MOTSP")], mots(truth, tracks))
        assert scores["Lifetime"] == measured(Lifetime(), truth, tracks)["Lifetime"]
    assert 0 < found.combined["sMOTSA"] < found.combined["MOTSA"] < 1
    assert found.combined["AQ_tubes"] == 8


def test_owta_and_mask_hota_are_trackevals(labelled: tuple[Path, Path]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        trackeval = pytest.importorskip("trackeval")
    scores = evaluate(*labelled, LABELLED)["object"].sequences["first"]
    frames = [frame for frame in frames_of(*blobs(0)) if frame is not None]
    ids = [np.unique(np.concatenate([getattr(f, side) for f in frames])) for side in ("true_ids", "track_ids")]
    rows: list[list[Any]] = [
        [np.searchsorted(ids[0], f.true_ids), np.searchsorted(ids[1], f.track_ids)] for f in frames
    ]
    data = {
        "num_gt_ids": len(ids[0]),
        "num_tracker_ids": len(ids[1]),
        "num_gt_dets": sum(len(f.true_ids) for f in frames),
        "num_tracker_dets": sum(len(f.track_ids) for f in frames),
        "gt_ids": [row[0] for row in rows],
        "tracker_ids": [row[1] for row in rows],
        "similarity_scores": [f.similarity for f in frames],
    }
    theirs = trackeval.metrics.HOTA({"PRINT_CONFIG": False}).eval_sequence(data)
    for name in ("OWTA", "HOTA", "AssA", "DetRe"):
        np.testing.assert_allclose(scores.curves[name], theirs[name])
    np.testing.assert_allclose(np.square(scores.curves["OWTA"]), theirs["DetRe"] * theirs["AssA"])


def test_classes(tmp_path: Path) -> None:
    """By class, over classes by objects, and as a mean of classes."""
    truth, _ = blobs(0, void=False)
    annotations = []
    for k in range(1, 5):
        masks = PackedMasks.from_bool(truth == k)
        item = {"id": k, "video_id": 1, "category_id": 1 + k % 2, "segmentations": encode_rle(masks), "score": 1.0}
        annotations.append(item | {"iscrowd": 0, "areas": masks.areas.tolist(), "bboxes": [None] * 9})
    video = {"id": 1, "width": 24, "height": 20, "length": 9, "file_names": [f"v/{t}.jpg" for t in range(9)]}
    document = {"videos": [video], "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}
    (tmp_path / "gt.json").write_text(json.dumps(document | {"annotations": annotations}))
    wrong = [item | {"category_id": 1} for item in annotations]
    (tmp_path / "pred.json").write_text(json.dumps(wrong))
    asked = EvaluationSettings(metrics=(Metric.vpq, Metric.stq, Metric.lifetime))
    found = evaluate(tmp_path / "pred.json", tmp_path / "gt.json", asked)
    cat, dog = (found[name].combined for name in ("cat", "dog"))
    assert [cat["VPQ"], cat["AQ"], dog["AQ"], dog["Lifetime"]] == pytest.approx([2 / 3, 1, 0, 0])
    assert found.mean_of_classes is not None
    assert found.all_classes is not None
    assert found.mean_of_classes["SQ"] == pytest.approx((cat["SQ"] + dog["SQ"]) / 2)
    assert found.mean_of_classes["VPQ"] == pytest.approx((cat["VPQ"] + dog["VPQ"]) / 2)
    assert (found.all_classes["AQ"], found.all_classes["Lifetime"]) == (0.5, 0.5)
    agnostic = evaluate(tmp_path / "pred.json", tmp_path / "gt.json", asked.model_copy(update={"class_agnostic": True}))
    assert [agnostic["object"].combined[name] for name in ("VPQ", "STQ", "Lifetime")] == [1, 1, 1]


def test_tables_and_differences(labelled: tuple[Path, Path]) -> None:
    pytest.importorskip("trackeval")
    found = evaluate(*labelled, LABELLED)
    columns = [str(column.header) for table in evaluation_tables(Evaluation([found])) for column in table.columns]
    assert {"OWTA", "sMOTSA", "VPQ", "VPQ-6", "STQ", "Lifetime", "Duplicates"} <= set(columns)
    plain = evaluate(*labelled, EvaluationSettings(metrics=(Metric.hota,)))
    columns = [str(column.header) for table in evaluation_tables(Evaluation([plain])) for column in table.columns]
    assert not {"OWTA", "VPQ", "Lifetime"} & set(columns)
    perfect = evaluate(labelled[1], labelled[1], LABELLED)
    rows = compare(Evaluation([found]), Evaluation([perfect]), CompareSettings(resamples=20)).classes[0]
    assert [row.name for row in rows.differences][:2] == ["OWTA", "HOTA"]
    assert rows["VPQ"].difference == pytest.approx(1 - found["object"].combined["VPQ"])
    assert rows["Tracks"].difference < 0


def test_the_command(labelled: tuple[Path, Path]) -> None:
    pred, gt = labelled
    result = CliRunner().invoke(app, ["evaluate", str(pred), "--gt", str(gt), "--metrics", "vpq,stq,lifetime"])
    assert result.exit_code == 0, result.output
    assert "VPQ-1" in result.output
    assert "Lifetime" in result.output
    assert "HOTA" not in result.output


def test_nestedness_of_a_run(tmp_path: Path) -> None:
    """Level 4's tracks are halves of level 2's; its truth is not asked."""
    wholes = CROSSING.labels
    halves = np.where((np.arange(wholes.shape[2]) % 8 < 4) & (wholes > 0), wholes + 2, wholes)
    for level, labels in ((2, wholes), (4, halves)):
        masks = PackedMasks.from_bool(np.stack([labels[0] == k for k in np.unique(labels[0]) if k]))
        ids, scores = np.arange(len(masks)), np.ones(len(masks), np.float32)
        found = Candidates(ids, masks.boxes.astype(np.float32), scores, masks.areas, masks)
        write_filtered(tmp_path / "given" / f"level_{level}", level, iter([(0, "000000", found)]))
    settings = TrackingSettings(render_viz=False, max_propagate=0, cuts="ignore")
    run, given = tmp_path / "run", tmp_path / "given"
    track_masks(CROSSING.frames, run, candidates=given, predictor="static", settings=settings)
    write_label_png(tmp_path / "gt" / "v" / "000000.png", wholes[0].astype(np.uint8))
    asked = EvaluationSettings(metrics=(Metric.nestedness,), level=4)
    nested = evaluate(run, tmp_path / "gt", asked)["object"].combined
    assert (nested["Nested"], nested["Inside"]) == (1, 1)
    with pytest.raises(InputError, match="nestedness is of a level of a mask run that has a coarser one"):
        evaluate(run, tmp_path / "gt", asked.model_copy(update={"level": 2}))


def test_what_does_not_fit(tmp_path: Path) -> None:
    make_sequence(tmp_path / "gt" / "one", name="one")
    write_lines(tmp_path / "pred" / "one.txt", [mot_line(k, 1, box_of(1, k), 0.5) for k in range(12)])
    with pytest.raises(SettingError, match="metrics='mots,stq': needs masks on both sides; boxes have hota"):
        evaluate(tmp_path / "pred", tmp_path / "gt", EvaluationSettings(metrics=(Metric.mots, Metric.stq)))
    lived = evaluate(tmp_path / "pred", tmp_path / "gt", EvaluationSettings(metrics=(Metric.lifetime,)))
    assert lived["pedestrian"].combined["Lifetime"] == 0.5


def test_overlapping_masks_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("trackeval")
    labels = np.zeros((2, 8, 8), np.uint8)
    labels[:, 2:6, 2:6] = 1
    for t in range(2):
        (tmp_path / "gt" / "v").mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels[t]).save(tmp_path / "gt" / "v" / f"{t}.png")
    masks = encode_rle(PackedMasks.from_bool(labels == 1))
    video = {"id": 1, "width": 8, "height": 8, "length": 2, "file_names": ["v/0.png", "v/1.png"]}
    items = [{"id": k, "video_id": 1, "category_id": 1, "segmentations": masks, "score": 1.0} for k in (1, 2)]
    document = {"videos": [video], "categories": [{"id": 1, "name": "thing"}], "annotations": items}
    (tmp_path / "pred.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"masks overlap \(16 pixels\): vpq score label images"):
        evaluate(tmp_path / "pred.json", tmp_path / "gt" / "v", EvaluationSettings(metrics=(Metric.vpq,)))
    lived = evaluate(tmp_path / "pred.json", tmp_path / "gt" / "v", EvaluationSettings(metrics=(Metric.lifetime,)))
    assert lived["object"].combined["Duplicates"] == 1
