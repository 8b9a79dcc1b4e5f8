"""SAM's automatic masks: parity with the generator of Meta's package, and with the image model of transformers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tests.predictors.sam.adapters import SIZE, model, predictor, video
from tests.predictors.sam.test_pipeline import assert_same_masks
from tests.predictors.sam.tiny import save_tiny, transformers
from trackweave.boxes import box_iou
from trackweave.cli.masks import propose as cli_propose
from trackweave.errors import PredictorOutOfMemory, RunFolderError, SettingError
from trackweave.frames.open import open_frames
from trackweave.ids import LocalIndex
from trackweave.options.commands import command_of, run_command
from trackweave.pipelines.filtering import filter_candidates
from trackweave.pipelines.masks import track_masks
from trackweave.pipelines.proposing import propose
from trackweave.pipelines.run import Run
from trackweave.predictors.base import MaskLimits
from trackweave.predictors.sam.predictor import SamPredictor
from trackweave.predictors.sam.session import SamSession
from trackweave.proposals.automatic_masks import AutomaticMasks, point_grid, windows
from trackweave.proposals.generators import GeneratorChoice
from trackweave.proposals.settings import CandidateSettings, PointGridSettings, RegionSettings
from trackweave.storage.candidates import filtered_path, read_filtered
from trackweave.structures.run_summary import MaskSummary
from trackweave.tracking.settings import TrackingSettings

FRAME = LocalIndex(2)
LOOSE: dict[str, Any] = {
    "points_per_side": 6,
    "points_per_batch": 16,
    "min_predicted_iou": 0.0,
    "min_stability": 0.0,
    "nms_iou": 1.0,
}


def nms(boxes: Tensor, scores: Tensor, _: Tensor, iou_threshold: float) -> Tensor:
    """What torchvision's `batched_nms` gives for one class."""
    kept: list[int] = []
    overlaps = box_iou(boxes.numpy(), boxes.numpy())
    for row in torch.sort(scores, descending=True, stable=True).indices.tolist():
        if not any(overlaps[row, other] > iou_threshold for other in kept):
            kept.append(row)
    return torch.tensor(kept, dtype=torch.int64)


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Meta's generator. The little that it takes of torchvision stands here: that need not be installed."""
    pytest.importorskip("sam2")
    modules = {name: ModuleType(name) for name in ("torchvision", "torchvision.ops", "torchvision.ops.boxes")}
    modules["torchvision.transforms"] = ModuleType("torchvision.transforms")
    boxes: Any = modules["torchvision.ops.boxes"]
    boxes.batched_nms, boxes.box_area = nms, lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    transforms: Any = modules["torchvision.transforms"]
    transforms.Normalize = transforms.Resize = torch.nn.Identity
    transforms.ToTensor = object
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(torch.jit, "script", lambda module: module)
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

    yield SAM2AutomaticMaskGenerator
    for name in ("sam2.automatic_mask_generator", "sam2.sam2_image_predictor", "sam2.utils.transforms"):
        sys.modules.pop(name, None)


def opened(name: str = "sam2-hf") -> SamSession:
    session = predictor(name).open(video(4))
    assert isinstance(session, SamSession)
    return session


def boxes_of(record: dict[str, Any]) -> list[float]:
    """xyxy, right and bottom exclusive, of upstream's record."""
    rows, columns = np.nonzero(record["segmentation"])
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.fixture
def peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of random weights go all over the frame: only what is near their highest logit is left of them."""
    decoder = model("sam2").sam_mask_decoder
    plain = decoder.forward

    def forward(**inputs: Any) -> Any:
        masks, *others = plain(**inputs)
        return masks - 0.7 * masks.amax(dim=(-2, -1), keepdim=True), *others

    monkeypatch.setattr(decoder, "forward", forward)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"min_predicted_iou": 0.41, "min_stability": 0.3, "stability_offset": 0.1},
        {"nms_iou": 0.5},
        {"crop_layers": 1, "crop_points_factor": 2, "crop_nms_iou": 0.5},
    ],
    ids=["all", "limits", "suppression", "parts"],
)
@pytest.mark.usefixtures("peaks")
def test_masks_are_those_of_upstream_s_generator(upstream: Any, changed: dict[str, Any]) -> None:
    """Bit by bit, from the same pixels: the image and the video predictor of the package resize frames differently."""
    settings = PointGridSettings(**{**LOOSE, **changed})
    image = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    session = predictor("sam2").open(open_frames(image[None]))
    assert isinstance(session, SamSession)
    found = AutomaticMasks(session, (150, 200), settings).propose_all(LocalIndex(0))

    theirs = upstream(
        model("sam2"),
        points_per_side=settings.points_per_side,
        points_per_batch=settings.points_per_batch,
        pred_iou_thresh=settings.min_predicted_iou,
        stability_score_thresh=settings.min_stability,
        stability_score_offset=settings.stability_offset,
        box_nms_thresh=settings.nms_iou,
        crop_n_layers=settings.crop_layers,
        crop_nms_thresh=settings.crop_nms_iou,
        crop_n_points_downscale_factor=settings.crop_points_factor,
    )
    theirs.predictor._bb_feat_sizes = [(16, 16), (8, 8), (4, 4)]  # written for 1024 pixels
    theirs.predictor._transforms.to_tensor = lambda image: session._model.pixels(image)[0]
    records = [record for record in theirs.generate(image) if record["area"]]
    assert len(found) == len(records) > 1
    np.testing.assert_array_equal(found.masks.to_bool(), [record["segmentation"] for record in records])
    assert found.predicted_iou is not None
    np.testing.assert_allclose(found.predicted_iou, [record["predicted_iou"] for record in records], atol=1e-6)
    np.testing.assert_allclose(found.score, [record["stability_score"] for record in records], atol=1e-6)
    np.testing.assert_array_equal(found.xyxy, [boxes_of(record) for record in records])
    assert session.counters["encoder_passes"] == 1
    assert session.counters.get("window_passes", 0) == (4 if settings.crop_layers else 0)


def test_masks_are_those_of_the_image_model_of_transformers() -> None:
    """The video model has the image model's weights under the same names."""
    ours: Any = model("sam2-hf")
    config = transformers.Sam2Config(
        vision_config=ours.config.vision_config,
        prompt_encoder_config=ours.config.prompt_encoder_config.to_dict(),
        mask_decoder_config=ours.config.mask_decoder_config.to_dict(),
    )
    image_model = transformers.Sam2Model(config).eval()
    missing = image_model.load_state_dict(ours.state_dict(), strict=False).missing_keys
    assert not missing
    session = opened()
    points = (point_grid(5) * (SIZE[1], SIZE[0])).astype(np.float32)
    found = session.segment_points(FRAME, points, MaskLimits(0, 0, batch=10))
    with torch.inference_mode():
        output = image_model(
            pixel_values=session._model.pixels(video(4)[FRAME]),
            input_points=session._model.point_input(points, SIZE)[None, :, None],
            input_labels=torch.ones(1, len(points), 1, dtype=torch.int64),
        )
        enlarged = functional.interpolate(output.pred_masks[0], SIZE, mode="bilinear", align_corners=False)
    expected = (enlarged > 0).flatten(0, 1).numpy()
    assert len(found) == 3 * len(points)
    # Batches of another size may round the last bit otherwise.
    assert np.mean(found.masks.to_bool() != expected) < 1e-4
    np.testing.assert_allclose(found.predicted_iou, output.iou_scores.flatten().numpy(), atol=1e-5)
    np.testing.assert_array_equal(found.point, np.repeat(np.arange(25), 3))


def test_levels_are_the_masks_of_a_point_by_size(name: str) -> None:
    session = opened(name)
    generator = AutomaticMasks(session, SIZE, PointGridSettings(**LOOSE))
    by_level = generator.propose_at(FRAME, [2, 4, 6])
    means = [by_level[level].area.mean() for level in (2, 4, 6)]
    assert means == sorted(means, reverse=True)
    assert sum(map(len, by_level.values())) == len(generator.propose_all(FRAME))
    for candidates in by_level.values():
        assert candidates.predicted_iou is not None
        assert np.all(np.diff(candidates.predicted_iou) <= 0)
    assert session.counters["encoder_passes"] == 1  # one pass for all of them
    found = session.segment_points(FRAME, np.array([[9, 9], [40, 20]], np.float32), MaskLimits(0, 0))
    for point in (0, 1):
        assert sorted(found.rank[found.point == point]) == [0, 1, 2]
    with pytest.raises(SettingError, match="level 3: a model's automatic masks have levels 2, 4, 6"):
        generator.propose_at(FRAME, [3])


def test_points_that_are_too_many_for_memory_go_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = AutomaticMasks(opened(), SIZE, PointGridSettings(**LOOSE)).propose_all(FRAME)
    session = opened()
    plain, largest = session._model.point_masks, 5

    def short(features: Any, points: Tensor) -> Any:
        if len(points) > largest:
            raise torch.OutOfMemoryError("too many")
        return plain(features, points)

    monkeypatch.setattr(session._model, "point_masks", short)
    found = AutomaticMasks(session, SIZE, PointGridSettings(**LOOSE)).propose_all(FRAME)
    assert len(found) == len(whole)
    assert [warning.code for warning in session.warnings] == ["points-halved"]
    largest = 0
    with pytest.raises(PredictorOutOfMemory, match="masks of one point do not fit on cpu"):
        AutomaticMasks(session, SIZE, PointGridSettings(**LOOSE)).propose_all(FRAME)


def every_candidate(**grid: Any) -> GeneratorChoice:
    return GeneratorChoice(grid=PointGridSettings(**{**LOOSE, "points_per_side": 2, **grid}))


def generator_of(root: Path) -> Any:
    return json.loads((root / "manifest.json").read_text())["config"]["prompts"]["name"]


@pytest.mark.parametrize(
    ("name", "reach"), [("sam2-hf", None), ("sam2-hf", 2), ("sam2", 2), ("edgetam", 2), ("sam3-tracker", 2)]
)
def test_finding_and_tracking_together_encode_each_frame_once(tmp_path: Path, name: str, reach: int | None) -> None:
    """Three levels, candidates on every second frame; the masks are those of tracking the same candidates alone."""
    if name == "sam2":
        pytest.importorskip("sam2")
    length = 5
    settings = TrackingSettings(iou_threshold=0.95, max_propagate=reach, render_viz=False)
    run = track_masks(
        video(length),
        tmp_path / "run",
        levels=[2, 4, 6],
        candidate_stride=2,
        predictor=predictor(name),
        generator=every_candidate(),
        settings=settings,
        identity=False,
    )
    assert (run.summary.totals["candidates"] or 0) >= 3 * 3
    assert run.summary.counters["encoder_passes"] == length
    assert generator_of(tmp_path / "run") == name
    if reach is None:
        return
    apart = tmp_path / "apart"
    again = track_masks(
        video(length), apart, candidates=tmp_path / "run", predictor=predictor(name), settings=settings, identity=False
    )
    assert again.summary.totals["objects"] == run.summary.totals["objects"]
    for level in (2, 4, 6):
        assert_same_masks(tmp_path / "run", apart, level)


def track(root: Path, predictor: SamPredictor, generator: GeneratorChoice, *, resume: bool = False) -> Run[MaskSummary]:
    return track_masks(
        video(3),
        root,
        predictor=predictor,
        generator=generator,
        candidate_stride=2,
        settings=TrackingSettings(render_viz=False),
        resume=resume,
        identity=False,
    )


def test_a_resumed_run_keeps_its_candidates(tmp_path: Path) -> None:
    track(tmp_path / "run", predictor("sam2-hf"), every_candidate())
    (tmp_path / "run" / "journal" / "level_2.json").unlink()
    resumed = track(tmp_path / "run", predictor("sam2-hf"), every_candidate(), resume=True)
    assert resumed.summary.counters["encoder_passes"] == 3
    with pytest.raises(RunFolderError, match="other input or settings"):
        track(tmp_path / "run", predictor("sam2-hf"), every_candidate(nms_iou=0.5), resume=True)


def test_which_generator_is_taken(tmp_path: Path) -> None:
    """`auto` takes the predictor's own masks where it has some; settings of the other generator are reported."""
    own = replace(every_candidate(), regions=RegionSettings(pieces=50))
    run = track(tmp_path / "a", predictor("sam2-hf"), own)
    assert [warning.message for warning in run.warnings if warning.code == "setting-ignored"] == [
        "settings of regions without effect: candidates come from sam2-hf"
    ]
    track(tmp_path / "b", predictor("sam2-hf", feature_store=False), own)
    assert generator_of(tmp_path / "b") == "regions"
    for generator in ("predictor", PointGridSettings()):
        with pytest.raises(SettingError, match="predictor static has no automatic masks: name a model"):
            track_masks(video(2), tmp_path / "c", predictor="static", generator=generator)
    with pytest.raises(SettingError, match="level 3: a model's automatic masks have levels 2, 4, 6"):
        track_masks(video(2), tmp_path / "c", predictor=predictor("sam2-hf"), levels=[3])


def test_proposing_from_weights(tmp_path: Path) -> None:
    weights = save_tiny(model("sam2-hf"), tmp_path / "weights")
    root = propose(video(3), tmp_path / "found", generator=f"sam2-hf={weights}", candidate_stride=1, levels=[2, 6])
    assert [path.name for path in sorted(root.glob("level_*"))] == ["level_2", "level_6"]
    shell = command_of(cli_propose)
    frames = tmp_path / "frames"
    frames.mkdir()
    for k, image in enumerate(np.array(list(video(2)))):
        Image.fromarray(image).save(frames / f"{k}.png")
    call = ["--generator", "sam2-hf", "--weights", weights, "--device", "cpu", "--levels", "2"]
    limits = ["--grid.min-predicted-iou", "0", "--grid.min-stability", "0", "--grid.points-per-side", "2"]
    assert not run_command(shell, [str(frames), "-o", str(tmp_path / "shell"), *map(str, call), *limits])
    (frame, *_) = read_filtered(filtered_path(tmp_path / "shell" / "level_2")).frames
    assert frame.items
    assert all(0 < item["predicted_iou"] < 1 for item in frame.items)
    assert run_command(shell, [str(frames), "-o", str(tmp_path / "b"), "--device", "cpu"]) == 2
    assert run_command(shell, [str(frames), "-o", str(tmp_path / "b"), "--generator", "regions", *limits]) == 2


@given(
    st.integers(8, 300),
    st.integers(8, 300),
    st.integers(0, 3),
    st.floats(0, 0.9),
)
def test_parts_cover_the_frame(height: int, width: int, layers: int, overlap: float) -> None:
    seen: dict[int, NDArray[np.bool_]] = {}
    for layer, (left, top, right, bottom) in windows((height, width), layers, overlap):
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        seen.setdefault(layer, np.zeros((height, width), np.bool_))[top:bottom, left:right] = True
    assert sorted(seen) == list(range(layers + 1))
    assert all(covered.all() for covered in seen.values())


def test_raw_candidates_are_chosen_from_as_the_generator_does(tmp_path: Path) -> None:
    """With other limits in between; the model is asked once per frame, and chooses the same as without raw ones."""
    weights = save_tiny(model("sam2-hf"), tmp_path / "weights")
    grid = PointGridSettings(**{**LOOSE, "min_predicted_iou": 0.55, "min_stability": 0.1, "nms_iou": 0.95})
    choice = GeneratorChoice(f"sam2-hf={weights}", grid=grid)
    root = propose(video(2), tmp_path / "found", generator=choice, candidate_stride=1, levels=[2, 6])
    paths = [filtered_path(root / f"level_{level}") for level in (2, 6)]
    proposed = [path.read_bytes() for path in paths]
    alone = AutomaticMasks(opened(), SIZE, grid).propose_at(LocalIndex(0), [2, 6])
    assert [len(read_filtered(path).frames[0].items) for path in paths] == [len(alone[2]), len(alone[6])]
    loose = filter_candidates(root, CandidateSettings(nms_iou=1.0))
    assert loose[2].kept > len(alone[2])
    filter_candidates(root)
    assert [path.read_bytes() for path in paths] == proposed
