"""Candidates in the layouts of other tools give the masks that were written, or one line that says why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import trackweave
from tests.formats.candidate_files import LAYOUTS, Frames, coco, sam_records, stacks
from tests.toy_scenes import CROSSING, write_frames
from trackweave.errors import CandidateError, InputError, PromptError, RunFolderError, SettingError
from trackweave.formats.candidates import candidates_in_memory, read_candidate_files
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.masks import track_masks
from trackweave.storage.candidates import FilteredManifest, read_candidates
from trackweave.structures.candidates import Candidates
from trackweave.structures.detections import Detections


def masks_of(manifest: FilteredManifest, size: tuple[int, int]) -> dict[str | None, list[bytes]]:
    """Frame → its masks, in no order."""
    found: dict[str | None, list[bytes]] = {}
    for entry in manifest.frames:
        candidates, problems = read_candidates(manifest, entry, size)
        assert not problems
        assert candidates.size == size
        found[entry.frame_name] = sorted(mask.tobytes() for mask in candidates.masks.to_bool())
    return found


def expected(frames: Frames) -> dict[str | None, list[bytes]]:
    return {name: sorted(mask.tobytes() for mask in masks) for name, masks in frames.items()}


@st.composite
def made_frames(draw: st.DrawFn) -> Frames:
    """Frames with masks that do not overlap, each of one pixel at least."""
    height, width = draw(st.integers(2, 9)), draw(st.integers(2, 9))
    frames: dict[str, NDArray[np.bool_]] = {}
    for k in range(draw(st.integers(1, 3))):
        count = draw(st.integers(1, 3))
        flat = draw(st.lists(st.integers(0, count), min_size=height * width, max_size=height * width))
        flat[:count] = list(range(1, count + 1))
        labels = np.array(flat).reshape(height, width)
        frames[f"view {3 * k:04d}"] = np.stack([labels == n + 1 for n in range(count)])
    return frames


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(frames=made_frames())
def test_every_layout_gives_the_masks_that_were_written(
    tmp_path_factory: pytest.TempPathFactory, layout: Callable[[Path, Frames], Path], frames: Frames
) -> None:
    path = layout(tmp_path_factory.mktemp("layout"), frames)
    size = next(iter(frames.values())).shape[1:]
    try:
        manifest = read_candidate_files(path, frames.keys())
    except PromptError as error:  # of a few pixels, a label image may look like one that was smoothed
        if "soft edges" not in str(error):
            raise
        reject()
    assert [entry.frame_idx for entry in manifest.frames] == [3 * k for k in range(len(frames))]
    assert masks_of(manifest, (size[0], size[1])) == expected(frames)


@pytest.fixture
def frames() -> Frames:
    return {f"{k:05d}": np.stack([CROSSING.labels[k] == n for n in np.unique(CROSSING.labels[k]) if n]) for k in (0, 3)}


def test_scores_and_classes_are_kept(tmp_path: Path, frames: Frames) -> None:
    def items(name: str) -> list[dict[str, Any]]:
        (tmp_path / name).mkdir()
        manifest = read_candidate_files(LAYOUTS[name](tmp_path / name, frames), frames.keys())
        return [dict(item) for entry in manifest.frames for item in entry.items]

    assert {item["class_id"] for item in items("coco")} == {0, 1}
    assert {(item["class_id"], item["stability_score"]) for item in items("coco_results")} == {(3, 0.75)}
    for name in ("sam_lists", "sa_1b", "sam_folders"):
        assert {(item["predicted_iou"], item["stability_score"]) for item in items(name)} == {(0.9, 0.97)}
    assert {item["stability_score"] for item in items("label_images")} == {1.0}


def panoptic_files(root: Path, frames: Frames) -> tuple[Path, Path]:
    """The same segments as COCO panoptic, and as label images with a JSON beside each, as DEVA reads them."""
    (root / "panoptic").mkdir()
    (root / "beside").mkdir()
    images, annotations = [], []
    for n, (name, masks) in enumerate(frames.items()):
        ids = 1000 * np.arange(1, len(masks) + 1)
        labels = (masks * ids[:, None, None]).sum(axis=0)
        coded = np.stack([labels % 256, labels // 256, 0 * labels], axis=-1).astype(np.uint8)
        Image.fromarray(coded).save(root / "panoptic" / f"{name}.png")
        Image.fromarray((labels // 1000).astype(np.uint8)).save(root / "beside" / f"{name}.png")
        images.append({"id": n, "file_name": f"{name}.jpg"})
        info = [{"id": int(one), "category_id": k + 4, "iscrowd": 0} for k, one in enumerate(ids)]
        annotations.append({"image_id": n, "file_name": f"{name}.png", "segments_info": info})
        beside = [{"id": one["id"] // 1000, "category_id": one["category_id"], "score": 0.5} for one in info]
        (root / "beside" / f"{name}.json").write_text(json.dumps(beside))
    categories = [{"id": 4, "name": "sky", "isthing": 0}, {"id": 5, "name": "cow", "isthing": 1}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "panoptic.json").write_text(json.dumps(document))
    return root / "panoptic.json", root / "beside"


def test_panoptic_segments_have_their_classes(tmp_path: Path, frames: Frames) -> None:
    size = next(iter(frames.values())).shape[1:]
    coded, beside = panoptic_files(tmp_path, frames)
    for path in (coded, beside):
        manifest = read_candidate_files(path, frames.keys())
        assert masks_of(manifest, (size[0], size[1])) == expected(frames)
        for entry in manifest.frames:
            assert [item["class_id"] for item in entry.items] == [4, 5]
    assert read_candidate_files(coded).class_names == {4: "sky", 5: "cow"}
    assert {item["stability_score"] for item in manifest.frames[0].items} == {0.5}
    name = next(iter(frames))
    (beside / f"{name}.json").write_text('[{"id": 77, "category_id": 1}]')
    with pytest.raises(CandidateError, match=rf"{name}.json: segment 77 is not in {name}.png"):
        read_candidate_files(beside)
    (beside / f"{name}.json").write_text('[{"category_id": 1}]')
    with pytest.raises(CandidateError, match="is no list of segments"):
        read_candidate_files(beside)
    shutil.rmtree(tmp_path / "panoptic")
    with pytest.raises(CandidateError, match="is not there: its label image"):
        read_candidate_files(coded)


VOS = Path(__file__).parents[3] / "shared" / "data" / "vos"


@pytest.mark.skipif(not (VOS / "deva_vipseg").is_dir(), reason="no real data here")
def test_real_panoptic_detections_keep_their_classes() -> None:
    (video,) = (VOS / "deva_vipseg").iterdir()
    manifest = read_candidate_files(video / "masks_detections", [path.stem for path in (video / "frames").iterdir()])
    assert [len(entry.items) for entry in manifest.frames] == [7, 8, 7, 8]
    for entry in manifest.frames:
        listed = json.loads((video / "masks_detections" / f"{entry.frame_name}.json").read_text())
        assert [item["class_id"] for item in entry.items] == [one["category_id"] for one in listed]


@pytest.mark.skipif(not (VOS / "chen_xiph").is_dir(), reason="no real data here")
def test_real_masks_that_supervision_wrote_keep_classes_and_names(tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    clip = VOS / "chen_xiph" / "bus"
    labels = np.asarray(Image.open(clip / "masks" / "00000.png"))
    masks = np.stack([labels == value for value in np.unique(labels) if value])
    boxes = supervision.mask_to_xyxy(masks).astype(float) + np.array([0, 0, 1, 1])
    names, kinds = np.array(["thing", "stuff"]), np.arange(len(masks)) % 2
    found = supervision.Detections(boxes, masks, class_id=kinds, data={"class_name": names[kinds]})
    image = str(clip / "frames" / "00000.jpg")
    data = supervision.DetectionDataset(classes=names.tolist(), images=[image], annotations={image: found})
    data.as_coco(annotations_path=str(tmp_path / "coco.json"))
    for manifest in (read_candidate_files(tmp_path / "coco.json"), candidates_in_memory({0: found})):
        candidates, problems = read_candidates(manifest, manifest.frames[0], (labels.shape[0], labels.shape[1]))
        assert not problems
        assert candidates.class_id is not None
        called = [manifest.class_names[number] for number in candidates.class_id.tolist()]
        assert called == names[kinds].tolist()


@pytest.mark.parametrize("layout", ["coco", "label_images", "object_folders", "one_archive"])
def test_they_are_tracked_and_a_run_of_other_ones_is_not_gone_on_with(
    tmp_path: Path, frames: Frames, layout: str
) -> None:
    images = write_frames(CROSSING, tmp_path / "images")
    (tmp_path / "given").mkdir()
    path = LAYOUTS[layout](tmp_path / "given", frames)
    run = track_masks(images, tmp_path / "run", candidates=path, predictor="static", levels=[4])
    assert run.levels == [4]
    assert run.summary.totals["candidates"] == sum(map(len, frames.values()))
    again = track_masks(images, tmp_path / "run", candidates=path, predictor="static", levels=[4], resume=True)
    assert again.summary.totals["objects"] == run.summary.totals["objects"]
    (tmp_path / "other").mkdir()
    other = LAYOUTS[layout](tmp_path / "other", {"00000": frames["00000"]})
    with pytest.raises(RunFolderError, match="other input or settings"):
        track_masks(images, tmp_path / "run", candidates=other, predictor="static", levels=[4], resume=True)
    with pytest.raises(SettingError, match=r"has one granularity, not levels \[2, 4\]"):
        track_masks(images, tmp_path / "c", candidates=path, predictor="static", levels=[2, 4])


def in_memory(masks: NDArray[np.bool_]) -> dict[str, object]:
    import supervision

    packed = PackedMasks.from_bool(masks)
    boxes, score = packed.boxes.astype(np.float32), np.full(len(masks), 0.5, np.float32)

    class Instances:
        def get_fields(self) -> dict[str, object]:
            return {"pred_masks": masks, "scores": score, "pred_classes": np.zeros(len(masks), np.int64)}

    return {
        "masks": masks,
        "label map": np.sum(masks * np.arange(1, len(masks) + 1)[:, None, None], axis=0),
        "records": [{**sam_records(mask), "segmentation": mask} for mask in masks],
        "candidates": Candidates(np.arange(len(masks)), boxes, score, packed.areas, packed),
        "detections": Detections.of(boxes, score, masks=packed),
        "supervision": supervision.Detections(xyxy=boxes, mask=masks, confidence=score),
        "detectron2": Instances(),
        "fields": {"pred_masks": masks, "pred_boxes": boxes},
    }


def test_candidates_in_memory(tmp_path: Path, frames: Frames) -> None:
    masks = frames["00003"]
    for kind, value in in_memory(masks).items():
        manifest = candidates_in_memory({3: value})
        assert masks_of(manifest, masks.shape[1:]) == {None: expected({"": masks})[""]}, kind
        assert [entry.frame_idx for entry in manifest.frames] == [3]
    run = track_masks(CROSSING.frames, tmp_path / "run", candidates={3: masks}, predictor="static")
    assert run.summary.totals["objects"] == len(masks)
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["config"]["prompts"]["root"] == "memory"
    with pytest.raises(RunFolderError, match="other input or settings"):
        track_masks(CROSSING.frames, tmp_path / "run", candidates={3: masks[:1]}, predictor="static", resume=True)
    for value in ("text", 3, [1, 2], np.zeros((2, 2, 2, 2)), {"scores": [1]}, [{"bbox": [1, 2, 3]}]):
        with pytest.raises((InputError, SettingError), match="candidates"):
            track_masks(CROSSING.frames, tmp_path / "b", candidates={3: value}, predictor="static")


def damaged(root: Path) -> dict[str, Path]:
    """Inputs that are refused, by what is said."""
    made: dict[str, Path] = {}

    def folder(says: str, **files: bytes | str) -> Path:
        made[says] = root / f"case {len(made)}"
        for name, content in files.items():
            path = made[says] / name.replace("__", "/").replace("_json", ".json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return made[says]

    folder("is neither COCO, SAM's automatic masks", a_json='{"what": 1}')
    folder("holds files of several kinds", b_json="[]")
    Image.new("L", (4, 4)).save(made["holds files of several kinds"] / "a.png")
    folder("cannot be read as candidates: has no 'image_id'", a_json='{"images": [], "annotations": [{"bbox": 1}]}')
    folder("which its list of images lacks", a_json='{"images": [], "annotations": [{"image_id": 4}, {"image_id": 4}]}')
    folder("not JSON", a_json="{")
    folder("a photograph, not objects")
    photo = made["a photograph, not objects"]
    photo.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photo / "a.png")
    folder("masks are (N, H, W) of 0 and 1").mkdir()
    np.save(made["masks are (N, H, W) of 0 and 1"] / "a.npy", np.zeros((2, 3, 4, 5), np.uint8))
    folder("not a readable array", **{"a.npz": b"PK\x03\x04 no"})
    folder("have names of frames: a folder is a frame, or an object", x__y=b"")
    inside = made["have names of frames: a folder is a frame, or an object"] / "x"
    Image.new("L", (4, 4), 255).save(inside / "b.png")
    folder("holds neither images, arrays, JSON files nor folders of masks", **{"notes.txt": "no"})
    return made


def test_colours_of_a_smoothed_image_are_no_objects(tmp_path: Path) -> None:
    colours = np.zeros((60, 80, 3), np.uint8)
    colours[10:30, 10:40], colours[35:55, 40:70] = (255, 0, 0), (0, 255, 0)
    Image.fromarray(colours).save(tmp_path / "a.png")
    assert len(read_candidate_files(tmp_path).frames[0].items) == 2
    soft = (
        Image.fromarray(colours).resize((53, 41), Image.Resampling.BILINEAR).resize((80, 60), Image.Resampling.BILINEAR)
    )
    soft.save(tmp_path / "a.png")
    with pytest.raises(CandidateError, match=r"a\.png: \d+ colours along the outlines of 2 objects: .* smoothing"):
        read_candidate_files(tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_a_stack_of_label_maps_is_no_stack_of_masks(tmp_path: Path, dtype: type[np.generic]) -> None:
    labels = np.stack([CROSSING.labels[k] for k in range(4)]).astype(dtype)
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(CandidateError, match=r"labels\.npy: holds 2 besides 0 and 1: masks are \(N, H, W\) of 0 and 1"):
        read_candidate_files(tmp_path / "labels.npy")
    np.save(
        tmp_path / "labels.npy", (labels > 0).astype(dtype) * 255 if dtype is np.uint8 else -(labels > 0).astype(dtype)
    )
    if dtype is np.uint8:
        assert len(read_candidate_files(tmp_path / "labels.npy").frames[0].items) == 4
    else:
        with pytest.raises(CandidateError, match="holds -1 besides 0 and 1"):
            read_candidate_files(tmp_path / "labels.npy")


def test_a_stack_of_as_many_masks_as_frames_is_of_one_frame_that_is_named(tmp_path: Path) -> None:
    names = [f"{k:05d}" for k in range(4)]
    masks = np.stack([CROSSING.labels[k] == 1 for k in range(4)])
    np.save(tmp_path / "masks.npy", masks)
    with pytest.raises(
        CandidateError, match=r"masks\.npy: 4 masks, and the video has 4 frames: .* name it after its frame"
    ):
        read_candidate_files(tmp_path / "masks.npy", names)
    np.save(tmp_path / "00002.npy", masks)
    assert read_candidate_files(tmp_path / "00002.npy", names).frames[0].frame_idx == 2


def test_boxes_and_polygons_are_in_pixels_of_the_image_that_coco_lists(tmp_path: Path) -> None:
    one = {"image_id": 1, "category_id": 1, "bbox": [4, 6, 20, 10], "area": 200}
    square = {**one, "segmentation": [[4, 6, 24, 6, 24, 16, 4, 16]]}
    image = {"id": 1, "file_name": "00000.png", "width": 160, "height": 120}
    path = tmp_path / "coco.json"
    for annotation in (one, square):
        path.write_text(json.dumps({"images": [image], "annotations": [annotation]}))
        manifest = read_candidate_files(path)
        candidates, problems = read_candidates(manifest, manifest.frames[0], (60, 80))
        assert problems == []
        assert candidates.size == (120, 160)
        assert candidates.xyxy.tolist() == [[4, 6, 24, 16]]
        _, problems = read_candidates(manifest, manifest.frames[0], (80, 60))
        assert "its image is 160×120, the frames are 60×80: made without the images' EXIF rotation" in problems[0]


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    for says, path in damaged(tmp_path).items():
        source = path / "a.json" if (path / "a.json").exists() and "several" not in says else path
        with pytest.raises(InputError) as caught:
            track_masks(CROSSING.frames, tmp_path / "run", candidates=source, predictor="static")
        assert says in str(caught.value), caught.value
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(CandidateError, match="there is no such folder of candidates"):
        track_masks(CROSSING.frames, tmp_path / "run", candidates=tmp_path / "none.json", predictor="static")


def test_masks_of_other_images_are_refused_as_everywhere(tmp_path: Path, frames: Frames) -> None:
    turned = {name: np.ascontiguousarray(masks.transpose(0, 2, 1)) for name, masks in frames.items()}
    (tmp_path / "given").mkdir()
    with pytest.raises(CandidateError, match="EXIF rotation"):
        track_masks(
            CROSSING.frames, tmp_path / "run", candidates=stacks(tmp_path / "given", turned), predictor="static"
        )


def test_a_filtered_json_may_lie_anywhere(tmp_path: Path, frames: Frames) -> None:
    root = trackweave.propose(CROSSING.frames, tmp_path / "found", levels=[2], candidate_stride=4)
    lone = (root / "level_2" / "filtered" / "filtered.json").rename(tmp_path / "some.json")
    run = track_masks(CROSSING.frames, tmp_path / "run", candidates=lone, predictor="static")
    assert run.levels == [2]
    (tmp_path / "b").mkdir()
    assert read_candidate_files(coco(tmp_path / "b", frames)).path.name == "coco.json"
