"""The inspection of samples: sums, problems, figure, and suspected against true identity switches."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.association.toy import toy_sample, toy_state
from trackweave.association.data_collection import SampleLogger
from trackweave.association.inspection import InspectionReport, RunSwitches, inspect_samples, render_text
from trackweave.association.inspection_plots import ThinnedRows
from trackweave.errors import ArtifactError, SettingError
from trackweave.storage.sample_folder import SampleFolder
from trackweave.storage.samples import SampleDiagnostics, SampleMetadata, encode_sample, sample_name


def meta(sequence: str | None = "toy", estimated: int = 0, run: str | None = "r", **fields: Any) -> SampleMetadata:
    return SampleMetadata(sequence=sequence, run=run, diagnostics=SampleDiagnostics(estimated), **fields)


def fill(folder: Path, *samples: Any) -> Path:
    with SampleFolder(folder) as opened:
        for sample in samples:
            opened.write(sample)
    return folder


def inspect(folder: Path, *samples: Any) -> InspectionReport:
    return inspect_samples(fill(folder, *samples))


def test_sums_over_samples(tmp_path: Path) -> None:
    mask = np.zeros((3, 4), np.float32)
    mask[0] = 1
    described = np.zeros((4, 5), np.float32)
    described[0, 0] = 1
    det = np.zeros((4, 8), np.float32)
    det[:, 4] = [0.05, 0.95, 1.0, 0.95]
    det[:, 5] = [1, 1, 1, 0.5]
    report = inspect(
        tmp_path,
        toy_sample(0, mask_matrix=mask, assigned_track_ids=np.array([10, 99, -1, -1]), metadata=meta("a", 1)),
        toy_sample(1, det_embeddings=described, det_features=det, metadata=meta("a", 4)),
        toy_sample(0, metadata=meta("b", 2, label_source="ground-truth", embedding_truncated=True)),
    )
    assert (report.samples, report.frames, report.tracks, report.detections) == (3, 3, 9, 12)
    assert (report.matched_pairs, report.new_tracks, report.unmatched) == (1 + 3 + 3, 1, 2 + 1 + 1)
    assert report.unmatched_share == 4 / 12
    assert (report.pairs, report.allowed_pairs) == (36, 4 + 12 + 12)
    assert report.gate_density == 28 / 36
    assert report.embedding_widths == {5: 3}
    assert (report.track_embeddings.rows, report.track_embeddings.zero_rows) == (9, 0)
    assert (report.det_embeddings.rows, report.det_embeddings.zero_rows) == (12, 3)
    assert report.det_embeddings.zero_share == 0.25
    assert report.label_sources == {"ground-truth": 1, "tracker": 2}
    assert report.feature_versions == {1: 3}
    assert report.truncated == 1
    assert sum(report.score) == sum(report.visibility) == 12
    assert (report.score[0], report.score[9]) >= (1, 3)
    first, second = report.sequences
    assert (first.sequence, first.samples, first.frames, first.runs, first.matched_pairs) == ("a", 2, 2, 1, 4)
    assert (first.est_id_switches, first.true_id_switches) == (4, None)
    assert (second.sequence, second.est_id_switches) == ("b", 2)
    assert report.usable
    assert report.agreement == ()


def test_runs_of_one_sequence_are_counted_apart(tmp_path: Path) -> None:
    def sample(frame: int, estimated: int, run: str | None) -> Any:
        return toy_sample(frame, metadata=meta("a", estimated, run))

    interleaved = inspect(tmp_path / "a", *(sample(frame, frame, run) for frame in range(3) for run in "pq"))
    assert [(s.samples, s.frames, s.runs, s.est_id_switches) for s in interleaved.sequences] == [(6, 3, 2, 4)]
    unnamed = inspect(tmp_path / "b", *(sample(frame, 5, None) for frame in (0, 1, 2, 0, 1)))
    assert [(s.samples, s.frames, s.runs, s.est_id_switches) for s in unnamed.sequences] == [(5, 3, 2, 10)]
    both = inspect_samples(tmp_path / "a", tmp_path / "b")
    assert [(s.samples, s.runs, s.est_id_switches) for s in both.sequences] == [(11, 4, 14)]


def test_suspected_switches_are_compared_with_true_ones(tmp_path: Path) -> None:
    def state(frame: int, truth: list[int], estimated: int) -> Any:
        return toy_state(frame, det={"data": {"gt_track_id": np.array(truth)}}, est_id_switches=estimated)

    with SampleLogger(tmp_path, sequence="toy", label_source="ground-truth") as logger:
        for frame, truth, estimated in ((0, [1, 2, 3, -1], 0), (1, [2, 1, 3, -1], 1), (40, [2, 1, 3, -1], 2)):
            logger.observe(state(frame, truth, estimated))
    report = inspect_samples(tmp_path)
    assert [(a.window, a.precision, a.recall) for a in report.agreement] == [(0, 0.5, 1), (10, 0.5, 1)]
    assert report.sequences[0].true_id_switches == 2
    text = render_text(report)
    assert "same frame: precision 0.50 (1 of 2 frames), recall 1.00 (1 of 1 frames)" in text


def test_what_was_not_measured_is_null_and_takes_no_part(tmp_path: Path) -> None:
    """Two true switches, and a tracker that did not look for any: neither 0 suspicions nor a recall of 0."""

    def unmeasured(frame: int, assigned: list[int]) -> Any:
        columns: Any = {"assigned_track_ids": np.array(assigned), "gt_track_ids": np.array([1, 2, -1, -1])}
        return toy_sample(frame, metadata=SampleMetadata(sequence="off", run="r"), **columns)

    report = inspect(tmp_path, unmeasured(0, [10, 11, -1, -1]), unmeasured(1, [11, 10, -1, -1]))
    assert report.sequences[0].est_id_switches is None
    assert report.sequences[0].true_id_switches == 2
    assert report.agreement == ()
    assert report.to_json()["est_id_switches"] is None
    (line,) = (line for line in render_text(report).splitlines() if line.startswith("off "))
    assert line.split()[-2:] == ["-", "2"]


@pytest.mark.filterwarnings("error")
def test_visibilities_far_outside_count_in_the_nearest_tenth(tmp_path: Path) -> None:
    features = np.full((4, 8), 3e38, np.float32)
    fill(tmp_path, toy_sample(0, det_features=features), toy_sample(1, det_features=-features))
    assert inspect_samples(tmp_path).frames == 2


def test_problems_are_named(tmp_path: Path) -> None:
    fill(tmp_path, *(toy_sample(frame) for frame in range(4)))
    broken, removed = tmp_path / sample_name(1), tmp_path / sample_name(2)
    broken.write_bytes(broken.read_bytes()[:-40])
    removed.unlink()
    unlisted = tmp_path / sample_name(9)
    unlisted.write_bytes(encode_sample(toy_sample(9)))
    (tmp_path / "sample_x.npz").write_text("foreign")
    with (tmp_path / "manifest.jsonl").open("a") as manifest:
        manifest.write('broken\n{"npz": "sa')
    report = inspect_samples(tmp_path)
    assert report.samples == 3
    assert set(report.corrupt) == {str(broken), str(tmp_path / "sample_x.npz")}
    assert "truncated" in report.corrupt[str(broken)]
    assert str(broken) not in report.corrupt[str(broken)]
    assert report.missing == (str(removed),)
    assert report.unlisted == (str(unlisted),)
    assert len(report.notes) == 2
    assert not report.usable
    text = render_text(report)
    for name in (broken, removed, unlisted):
        assert str(name) in text
    assert "NOT USABLE as it is: 2 files are corrupt: remove them; 1 listed samples are missing" in text


def test_unlisted_samples_alone_are_usable(tmp_path: Path) -> None:
    (tmp_path / sample_name(0)).write_bytes(encode_sample(toy_sample()))
    assert inspect_samples(tmp_path).usable


def test_an_empty_folder_is_not_usable(tmp_path: Path) -> None:
    report = inspect_samples(tmp_path)
    assert not report.usable
    assert (report.unmatched_share, report.gate_density, report.det_embeddings.zero_share) == (0, 0, 1)
    assert "no sample can be read" in render_text(report)
    report.write_figure(tmp_path / "empty.svg")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="absent: not a folder of samples: No such file"):
        inspect_samples(tmp_path / "absent")


def test_mixed_widths_are_noted(tmp_path: Path) -> None:
    report = inspect(tmp_path, toy_sample(0, width=5), toy_sample(1, width=7))
    assert report.embedding_widths == {5: 1, 7: 1}
    assert report.notes == ("embeddings of different widths: 5, 7",)


@pytest.mark.parametrize(
    ("pairs", "advice"), [(4_999, "too few"), (5_000, "enough for a first"), (9_999, "10,000"), (10_000, "enough to t")]
)
def test_the_advice_depends_on_matched_pairs(tmp_path: Path, pairs: int, advice: str) -> None:
    tracks = -(-pairs // 10)
    samples = [toy_sample(i, tracks=tracks, detections=min(tracks, pairs - i * tracks), width=1) for i in range(10)]
    report = inspect(tmp_path, *samples)
    assert report.matched_pairs == pairs
    assert advice in report.advice
    assert report.advice in render_text(report)


def test_samples_of_other_trackers(tmp_path: Path) -> None:
    content = {key: value for key, value in toy_sample().arrays().items() if key != "metadata"}
    np.savez_compressed(tmp_path / "sample_0000000.npz", **content)
    (tmp_path / "manifest.jsonl").write_text('{"npz": "sample_0000000.npz"}\n')
    report = inspect_samples(tmp_path)
    assert report.usable
    assert report.sequences[0].sequence == "(unknown)"
    assert "(unknown)" in render_text(report)


def test_the_json_has_every_field(tmp_path: Path) -> None:
    report = inspect(tmp_path, toy_sample(gt_track_ids=np.arange(4), metadata=meta()))
    value = json.loads(json.dumps(report.to_json(), allow_nan=False))
    for name in vars(report).keys() - {"_distributions", "agreement", "truncated"}:
        assert {"new_tracks": "born", "notes": "remarks"}.get(name, name) in value
    assert value["usable"] is True
    assert value["sequences"][0]["true_id_switches"] == 0
    assert value["switch_agreement"][0]["precision"] is None
    assert len(value["score"]["edges"]) == len(value["score"]["counts"]) + 1 == 11


def test_the_figure_shows_every_feature(tmp_path: Path) -> None:
    report = inspect(tmp_path, *(toy_sample(frame, metadata=meta("<a & b>")) for frame in range(3)))
    report.write_figure(tmp_path / "p.svg")
    root = ElementTree.parse(tmp_path / "p.svg").getroot()
    texts = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    for title in ("vx / width per frame", "since update / 50 frames", "displacement y / height", "cost of pairs"):
        assert title in texts
    assert texts.count("n = 9") == 10
    assert texts.count("n = 12") == 8
    assert sum("matched (9)" in text for text in texts) == 3
    paths = list(root.iter("{http://www.w3.org/2000/svg}path"))
    assert len(paths) == 10 + 8 + 3 * 2
    assert "nan" not in (tmp_path / "p.svg").read_text()


def test_constant_features_can_be_drawn(tmp_path: Path) -> None:
    flat = toy_sample(cost_matrix=np.full((3, 4), 0.3, np.float32), track_features=np.zeros((3, 10), np.float32))
    report = inspect(tmp_path, flat)
    report.write_figure(tmp_path / "p.svg")
    assert "nan" not in (tmp_path / "p.svg").read_text()


def test_the_figure_is_an_svg(tmp_path: Path) -> None:
    report = inspect(tmp_path, toy_sample())
    with pytest.raises(SettingError, match=r"p\.png: the picture is an SVG, name it p\.svg"):
        report.write_figure(tmp_path / "p.png")


def test_thinning_keeps_an_even_share() -> None:
    rows = ThinnedRows(1, capacity=100)
    values = np.arange(5000.0)[:, None]
    for part in np.array_split(values, 37):
        rows.add(part)
    kept = rows.rows[:, 0]
    assert rows.count == 5000
    assert 50 < len(kept) <= 100
    assert len(set(np.diff(kept))) == 1
    assert kept[0] == 0


# --- identity switches ------------------------------------------------------------------------------------------------


def frame(index: int, tracks: list[int], truth: list[int] | None, estimated: int = 0, *suspects: int) -> Any:
    return toy_sample(
        index,
        detections=len(tracks),
        assigned_track_ids=np.array(tracks),
        gt_track_ids=None if truth is None else np.array(truth),
        metadata=SampleMetadata(sequence="toy", diagnostics=SampleDiagnostics(estimated, suspects)),
    )


def follow(*samples: Any) -> RunSwitches:
    run = RunSwitches()
    for sample in samples:
        run.add(sample)
    return run


def test_switches_of_a_toy_sequence() -> None:
    """Identities 1 and 2 by frame::

    frame  0  1  2  3  4  5
    1      a  a  b  b  -  b     an exchange on frame 2: two switches
    2      b  b  a  a  a  c     a fragmentation on frame 5: one
    """
    a, b, c = 10, 11, 12
    run = follow(
        frame(0, [a, b], [1, 2]),
        frame(1, [a, b], [1, 2]),
        frame(2, [b, a], [1, 2]),
        frame(3, [a, b], [2, 1], 2),  # suspected one frame late, and in another order
        frame(4, [a], [2], 2),
        frame(5, [c, b], [2, 1], 3, c),
    )
    assert (run.true, run.estimated, run.last_frame) == (3, 3, 5)
    exact, near = run.agreement(0), run.agreement(1)
    assert (exact.suspected, exact.true, exact.suspected_right, exact.true_found) == (2, 2, 1, 1)
    assert (exact.precision, exact.recall) == (0.5, 0.5)
    assert (near.precision, near.recall) == (1, 1)
    total = exact + exact
    assert (total.suspected, total.true_found, total.window) == (4, 2, 0)


def test_detections_without_identity_or_track_do_not_count() -> None:
    run = follow(
        frame(0, [10, 11], [1, 2]), frame(1, [12, -1], [-1, 2]), frame(2, [-1, 13], [1, -1]), frame(3, [10], [1])
    )
    assert run.true == 0


def test_without_ground_truth_recall_is_none() -> None:
    run = follow(frame(0, [10], None, 1))
    assert not run.has_truth
    agreement = run.agreement(10)
    assert (agreement.suspected, agreement.precision, agreement.recall) == (1, 0, None)
    assert follow().agreement(0).precision is None
