"""What is written opens in software that is not ours, with the same counts, ids, areas and boxes."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.formats.worlds import discs
from trackweave.formats.davis import davis_palette
from trackweave.formats.registry import FORMATS, write_video
from trackweave.formats.videos import TracksVideo, collected
from trackweave.ids import FrameIndex
from trackweave.masks.packed import PackedMasks
from trackweave.structures.format_settings import FormatSettings
from trackweave.structures.tracked_video import VideoInfo, without_overlap
from trackweave.structures.tracks import Tracks

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
HEIGHT, WIDTH = 48, 64
IDS = (3, 7, 12)
CLASSES = {1: "car", 2: "pedestrian"}


def make_video(*, overlap: bool = True) -> TracksVideo:
    """Four frames of three discs; the second is gone on frame 2."""
    parts = []
    for frame in range(4):
        masks = PackedMasks.from_bool(discs(3, HEIGHT, WIDTH, seed=frame + 5))
        masks = masks if overlap else without_overlap(masks)
        tracks = Tracks.from_columns([frame] * 3, IDS, masks.boxes, [1, 0.5, 0.25], [1, 2, 2], masks)
        parts.append(tracks[[0, 2]] if frame == 2 else tracks)
    names = [f"{frame:05d}.png" for frame in range(4)]
    video = TracksVideo(Tracks.concat(parts), VideoInfo("street", range(4), names, (HEIGHT, WIDTH), None, 10, CLASSES))
    images = np.random.default_rng(0).integers(0, 255, (4, HEIGHT, WIDTH, 3)).astype(np.uint8)
    video.pictures = lambda index: np.asarray(images[int(index)])
    return video


def written(name: str, folder: Path, video: TracksVideo | None = None, **settings: Any) -> Path:
    path = folder / f"street{FORMATS[name].suffix}"
    write_video(video or make_video(), path, FORMATS[name], FormatSettings.checked(settings))
    return path


TRACKS = collected(make_video())
assert TRACKS.masks is not None
AREAS = TRACKS.masks.areas.tolist()
SIDES = np.concatenate([TRACKS.xyxy[:, :2], TRACKS.xyxy[:, 2:] - TRACKS.xyxy[:, :2]], axis=1)
SOLID = collected(make_video(overlap=False))
"""The same without overlap."""


@pytest.mark.parametrize("name", ["coco", "coco-vid", "tao"])
@pytest.mark.parametrize("shapes", ["masks", "polygons"])
def test_pycocotools_reads_the_annotations(name: str, shapes: str, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO(str(written(name, tmp_path, shapes=shapes)))
    items = coco.loadAnns(coco.getAnnIds())
    assert [item["track_id"] for item in items] == TRACKS.track_id.tolist()
    assert [int(coco.annToMask(item).sum()) for item in items] == AREAS
    boxes = np.array([item["bbox"] for item in items])
    np.testing.assert_array_equal(boxes[:, :2] + boxes[:, 2:], TRACKS.xyxy[:, 2:])
    assert {one["name"] for one in coco.loadCats(coco.getCatIds())} == set(CLASSES.values())
    images = [one["file_name"] for one in coco.loadImgs(coco.getImgIds())]
    assert images == [f"{frame:05d}.png" for frame in range(4)]


def test_faster_coco_eval_reads_coco(tmp_path: Path) -> None:
    from faster_coco_eval import COCO

    coco = COCO(str(written("coco", tmp_path)))
    assert [int(coco.annToMask(item).sum()) for item in coco.loadAnns(coco.getAnnIds())] == AREAS


@pytest.mark.parametrize("name", ["ytvis", "burst", "sav"])
def test_run_lengths_of_tracks_and_frames(name: str, tmp_path: Path) -> None:
    decode = pytest.importorskip("pycocotools.mask").decode
    document = json.loads(written(name, tmp_path).read_text())
    found: dict[tuple[int, int], int] = {}
    if name == "ytvis":
        for track in document["annotations"]:
            masks = {(k, track["id"]): code for k, code in enumerate(track["segmentations"]) if code is not None}
            found |= {key: int(decode(code).sum()) for key, code in masks.items()}
    elif name == "burst":
        for k, frame in enumerate(document["sequences"][0]["segmentations"]):
            for track_id, code in frame.items():
                found[k, int(track_id)] = int(decode({"size": [HEIGHT, WIDTH], "counts": code["rle"]}).sum())
    else:
        assert document["masklet_id"] == list(IDS)
        assert document["masklet_visibility_changes"] == [0, 1, 0]
        for k, frame in enumerate(document["masklet"]):
            found |= {(k, n): int(decode(code).sum()) for n, code in zip(IDS, frame, strict=True)}
        found = {key: area for key, area in found.items() if area}
    keys = zip(TRACKS.frame.tolist(), TRACKS.track_id.tolist(), strict=True)
    assert found == dict(zip(keys, AREAS, strict=True))


def as_truth(dataset: str, folder: Path, **config: Any) -> dict[str, Any]:
    """What a data set of trackeval makes of a ground truth: lists by frame of `gt_ids`, `gt_classes`, `gt_dets`."""
    datasets = pytest.importorskip("trackeval.datasets")
    pytest.importorskip("tabulate")  # of BURST's
    with contextlib.redirect_stdout(io.StringIO()):
        source = getattr(datasets, dataset)(
            {"GT_FOLDER": str(folder), "TRACKERS_FOLDER": str(folder), "TRACKERS_TO_EVAL": [], "PRINT_CONFIG": False}
            | config
        )
        return dict(source._load_raw_file(None, source.seq_list[0], True))


def by_frame(values: Sequence[Any], tracks: Tracks) -> list[list[Any]]:
    """The values of the rows of each frame."""
    return [
        [value for value, at in zip(values, tracks.frame.tolist(), strict=True) if at == frame] for frame in range(4)
    ]


ONE_SEQUENCE = {"SKIP_SPLIT_FOL": True, "SEQ_INFO": {"street": 4}}


def test_trackeval_reads_mot(tmp_path: Path) -> None:
    (tmp_path / "street" / "gt").mkdir(parents=True)
    written("mot", tmp_path).rename(tmp_path / "street" / "gt" / "gt.txt")
    truth = as_truth("MotChallenge2DBox", tmp_path, **ONE_SEQUENCE, DO_PREPROC=False)
    assert [ids.tolist() for ids in truth["gt_ids"]] == by_frame(TRACKS.track_id.tolist(), TRACKS)
    assert [ids.tolist() for ids in truth["gt_classes"]] == by_frame(TRACKS.class_id.tolist(), TRACKS)
    boxes = np.concatenate(truth["gt_dets"])  # from 1
    np.testing.assert_allclose(boxes[:, :2] - 1, TRACKS.xyxy[:, :2])
    np.testing.assert_allclose(boxes[:, 2:], TRACKS.xyxy[:, 2:] - TRACKS.xyxy[:, :2])


def test_trackeval_reads_kitti(tmp_path: Path) -> None:
    (tmp_path / "label_02").mkdir()
    written("kitti", tmp_path).rename(tmp_path / "label_02" / "street.txt")
    (tmp_path / "evaluate_tracking.seqmap.all").write_text("street empty 000000 000004\n")
    truth = as_truth("Kitti2DBox", tmp_path, SPLIT_TO_EVAL="all")
    assert [ids.tolist() for ids in truth["gt_ids"]] == by_frame(TRACKS.track_id.tolist(), TRACKS)
    kitti = {1: 1, 2: 4}
    assert [ids.tolist() for ids in truth["gt_classes"]] == by_frame(
        [kitti[n] for n in TRACKS.class_id.tolist()], TRACKS
    )
    np.testing.assert_array_equal(np.concatenate(truth["gt_dets"]), TRACKS.xyxy)


def test_trackeval_reads_mots(tmp_path: Path) -> None:
    area = pytest.importorskip("pycocotools.mask").area
    video = make_video(overlap=False)
    (tmp_path / "street" / "gt").mkdir(parents=True)
    written("mots", tmp_path, video, frame_base=1).rename(tmp_path / "street" / "gt" / "gt.txt")
    truth = as_truth("MOTSChallenge", tmp_path, **ONE_SEQUENCE)
    tracks = collected(video)
    assert tracks.masks is not None
    tracks = tracks[tracks.masks.areas > 0]
    assert tracks.masks is not None
    assert [ids.tolist() for ids in truth["gt_ids"]] == by_frame(tracks.track_id.tolist(), tracks)
    assert [ids.tolist() for ids in truth["gt_classes"]] == by_frame(tracks.class_id.tolist(), tracks)
    assert [area(list(codes)).tolist() for codes in truth["gt_dets"]] == by_frame(tracks.masks.areas.tolist(), tracks)


def test_trackeval_reads_davis(tmp_path: Path) -> None:
    area = pytest.importorskip("pycocotools.mask").area
    video = make_video(overlap=False)
    written("davis", tmp_path, video)
    truth = as_truth("DAVIS", tmp_path)
    tracks = collected(video)
    assert tracks.masks is not None
    tracks = tracks[tracks.masks.areas > 0]
    assert tracks.masks is not None
    assert [ids.tolist() for ids in truth["gt_ids"]] == by_frame(tracks.track_id.tolist(), tracks)
    assert [area(codes).tolist() for codes in truth["gt_dets"]] == by_frame(tracks.masks.areas.tolist(), tracks)


def test_trackeval_reads_ytvis(tmp_path: Path) -> None:
    area = pytest.importorskip("pycocotools.mask").area
    (tmp_path / "youtube_vis_all").mkdir()
    written("ytvis", tmp_path / "youtube_vis_all", shapes="polygons")  # it takes no compressed run lengths
    truth = as_truth(
        "YouTubeVIS", tmp_path, GT_FOLDER=f"{tmp_path}/", TRACKERS_FOLDER=f"{tmp_path}/", SPLIT_TO_EVAL="all"
    )
    assert [ids.tolist() for ids in truth["gt_ids"]] == by_frame(TRACKS.track_id.tolist(), TRACKS)
    assert [ids.tolist() for ids in truth["gt_classes"]] == by_frame(TRACKS.class_id.tolist(), TRACKS)
    assert [[int(area(code).sum()) for code in codes] for codes in truth["gt_dets"]] == by_frame(AREAS, TRACKS)


def test_trackeval_reads_tao(tmp_path: Path) -> None:
    written("tao", tmp_path)
    truth = as_truth("TAO", tmp_path)
    assert [ids.tolist() for ids in truth["gt_ids"]] == by_frame(TRACKS.track_id.tolist(), TRACKS)
    np.testing.assert_array_equal(np.concatenate(truth["gt_dets"]), SIDES)


def test_trackeval_reads_burst(tmp_path: Path) -> None:
    written("burst", tmp_path)
    truth = as_truth("BURST", tmp_path)
    numbers = {track_id: n for n, track_id in enumerate(IDS, 1)}  # it numbers tracks anew
    assert [ids.tolist() for ids in truth["gt_ids"]] == by_frame([numbers[n] for n in TRACKS.track_id.tolist()], TRACKS)
    np.testing.assert_array_equal(np.concatenate(truth["gt_dets"]), SIDES)


def test_pillow_reads_label_images(tmp_path: Path) -> None:
    from PIL import Image

    video = make_video(overlap=False)
    tracks = collected(video)
    label_of: dict[str, Callable[[int, int], int]] = {
        "davis": lambda n, c: n,
        "mots-png": lambda n, c: 1000 * c + n,
        "youtube-vos": lambda n, c: n,
    }
    for name, label in label_of.items():
        folder = written(name, tmp_path / name, video)
        folder = folder / "Annotations" / "street" if name == "youtube-vos" else folder
        for frame in range(4):
            with Image.open(folder / f"{frame:05d}.png") as image:
                labels, counts = np.unique(np.array(image), return_counts=True)
                if name != "mots-png":
                    assert image.mode == "P"
                    np.testing.assert_array_equal(np.array(image.getpalette()).reshape(-1, 3)[:4], davis_palette()[:4])
            here = tracks.at(frame)
            assert here.masks is not None
            rows = zip(here.track_id.tolist(), here.class_id.tolist(), here.masks.areas.tolist(), strict=True)
            expected = {label(n, c): area for n, c, area in rows if area}
            assert {int(n): int(count) for n, count in zip(labels, counts, strict=True) if n} == expected


def test_pandas_and_polars_read_tables(tmp_path: Path) -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    decode = pytest.importorskip("pycocotools.mask").decode
    tables = [
        pandas.read_csv(written("csv", tmp_path)),
        pandas.read_parquet(written("parquet", tmp_path)),
        pandas.read_feather(written("arrow", tmp_path)),
        polars.read_parquet(tmp_path / "street.parquet").to_pandas(),
        polars.read_ipc(tmp_path / "street.arrow").to_pandas(),
    ]
    for table in tables:
        np.testing.assert_array_equal(table[["x1", "y1", "x2", "y2"]].to_numpy(np.float32), TRACKS.xyxy)
        assert table["track_id"].tolist() == TRACKS.track_id.tolist()
        codes = zip(table["mask_height"], table["mask_width"], table["mask_counts"], strict=True)
        assert [int(decode({"size": [int(h), int(w)], "counts": text}).sum()) for h, w, text in codes] == AREAS
    again = Tracks.from_pandas(tables[1])
    assert again.masks == TRACKS.masks


def test_numpy_reads_the_archive(tmp_path: Path) -> None:
    with np.load(written("npz", tmp_path), allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["part_000000/xyxy"], TRACKS.xyxy)
        assert np.unpackbits(archive["part_000000/masks"], axis=1).sum(axis=1).tolist() == AREAS


@pytest.mark.parametrize("shapes", ["boxes", "polygons"])
def test_datumaro_reads_cvat(shapes: str, tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    written("cvat", tmp_path, shapes=shapes)
    (tmp_path / "street.labels.json").unlink()
    found: Counter[int] = Counter()
    boxes = []
    for item in datumaro.Dataset.import_from(str(tmp_path), "cvat"):
        for one in item.annotations:
            if not one.attributes["outside"]:
                found[int(one.attributes["track_id"])] += 1
                boxes.append(one.get_bbox())
    assert found == Counter(TRACKS.track_id.tolist())
    expected = np.concatenate([TRACKS.xyxy[:, :2], TRACKS.xyxy[:, 2:] - TRACKS.xyxy[:, :2]], axis=1)
    np.testing.assert_allclose(sorted(map(tuple, boxes)), sorted(map(tuple, expected.tolist())), atol=1e-3)


def test_datumaro_reads_coco(tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    written("coco", tmp_path).rename(tmp_path / "annotations" / "instances_default.json")
    items = list(datumaro.Dataset.import_from(str(tmp_path), "coco"))
    masks = [one for item in items for one in item.annotations if one.type.name == "mask"]  # beside each its box
    assert sorted(int(one.image.sum()) for one in masks) == sorted(AREAS)


def test_datumaro_reads_mot(tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    (tmp_path / "gt").mkdir()
    written("mot", tmp_path).rename(tmp_path / "gt" / "gt.txt")
    found = [one for item in datumaro.Dataset.import_from(str(tmp_path), "mot_seq") for one in item.annotations]
    assert [one.attributes["track_id"] for one in found] == TRACKS.track_id.tolist()
    np.testing.assert_allclose([one.get_bbox() for one in found], SIDES + np.array([1, 1, 0, 0]), atol=1e-3)


def test_datumaro_reads_label_images_of_mots(tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    video = make_video(overlap=False)
    written("mots-png", tmp_path, video).rename(tmp_path / "instances")
    found = [one for item in datumaro.Dataset.import_from(str(tmp_path), "mots") for one in item.annotations]
    tracks = collected(video)
    assert tracks.masks is not None
    rows = zip(tracks.class_id.tolist(), tracks.track_id.tolist(), tracks.masks.areas.tolist(), strict=True)
    seen = [(one.label + 1, one.attributes["track_id"], int(one.image.sum())) for one in found]
    assert sorted(seen) == sorted(row for row in rows if row[2])


def test_datumaro_reads_panoptic(tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    video = make_video(overlap=False)
    folder = written("panoptic", tmp_path, video)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()  # it asks for the pictures' folder
    (folder / "panoptic.json").rename(tmp_path / "annotations" / "panoptic_all.json")
    (folder / "panoptic").rename(tmp_path / "annotations" / "panoptic_all")
    found = [one for item in datumaro.Dataset.import_from(str(tmp_path), "coco_panoptic") for one in item.annotations]
    tracks = collected(video)
    assert tracks.masks is not None
    assert sorted(int(one.image.sum()) for one in found) == sorted(n for n in tracks.masks.areas.tolist() if n)


def test_supervision_reads_yolo_and_tracks(tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    from PIL import Image

    labels = written("yolo", tmp_path)
    frame = TRACKS.at(1)
    for index, name in enumerate(make_video().info.names):
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / name)
        lines = (labels / name.replace(".png", ".txt")).read_text().splitlines()
        assert [int(line.split()[-1]) for line in lines] == TRACKS.at(index).track_id.tolist()
        # Without score and id, which its reader of data sets has no place for.
        (labels / name.replace(".png", ".txt")).write_text("".join(" ".join(line.split()[:5]) + "\n" for line in lines))
    (tmp_path / "data.yaml").write_text("names: [class_0, car, pedestrian]\nnc: 3\n")
    dataset = supervision.DetectionDataset.from_yolo(str(tmp_path), str(labels), str(tmp_path / "data.yaml"))
    found = dataset.annotations[str(tmp_path / "00001.png")]
    np.testing.assert_allclose(found.xyxy, frame.xyxy, atol=1)
    detections = frame.to_supervision()
    assert detections.tracker_id.tolist() == frame.track_id.tolist()
    assert detections.mask.sum(axis=(1, 2)).tolist() == AREAS[3:6]


def test_rerun_reads_its_recording(tmp_path: Path) -> None:
    chunks = pytest.importorskip("rerun.chunk")
    reader = chunks.RrdReader(written("rerun", tmp_path, make_video(overlap=False)))
    found: dict[str, list[Any]] = {}
    for chunk in reader.stream():
        for name, column in chunk.to_record_batch().to_pydict().items():
            found.setdefault(f"{chunk.entity_path} {name}", []).extend(column)
    centres, halves = (np.concatenate(found[f"/video/boxes Boxes2D:{name}"]) for name in ("centers", "half_sizes"))
    np.testing.assert_array_equal(np.concatenate([centres - halves, centres + halves], axis=1), SOLID.xyxy)
    assert np.concatenate(found["/video/boxes Boxes2D:class_ids"]).tolist() == SOLID.track_id.tolist()
    assert found["/video/masks frame"] == list(range(4))
    for frame, (buffer,) in enumerate(found["/video/masks SegmentationImage:buffer"]):
        labels, counts = np.unique(np.array(buffer, np.uint8).view(np.uint16), return_counts=True)
        here = SOLID.at(frame)
        assert here.masks is not None
        assert (
            dict(zip(labels.tolist(), counts.tolist(), strict=True)).items()
            >= dict(zip(here.track_id.tolist(), here.masks.areas.tolist(), strict=True)).items()
        )


def test_labelme_draws_the_same_polygons(tmp_path: Path) -> None:
    """The rule by which labelme itself draws: Pillow's, whose outline belongs to the object."""
    from PIL import Image, ImageDraw

    folder = written("labelme", tmp_path)
    document = json.loads((folder / "00001.json").read_text())
    assert {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"} <= document.keys()
    assert [shape["group_id"] for shape in document["shapes"]] == list(IDS)
    for shape, area in zip(document["shapes"], AREAS[3:6], strict=True):
        image = Image.new("L", (WIDTH, HEIGHT))
        ImageDraw.Draw(image).polygon([tuple(corner) for corner in shape["points"]], outline=1, fill=1)
        outline = len(shape["points"]) * 2 + 60
        assert area <= int(np.array(image).sum()) <= area + outline


def test_globox_reads_labelme(tmp_path: Path) -> None:
    annotation = pytest.importorskip("globox").Annotation
    folder = written("labelme", tmp_path)
    read = [annotation.from_labelme(folder / f"{frame:05d}.json", include_poly=True) for frame in range(4)]
    assert [one.image_id for one in read] == [f"{frame:05d}.png" for frame in range(4)]
    assert {one.image_size for one in read} == {(WIDTH, HEIGHT)}
    assert [[box.label for box in one.boxes] for one in read] == by_frame([CLASSES[n] for n in TRACKS.class_id], TRACKS)
    boxes = [box.ltrb for one in read for box in one.boxes]
    np.testing.assert_allclose(boxes, TRACKS.xyxy)


def test_label_studio_takes_its_video_boxes(tmp_path: Path) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface
    configuration = (
        '<View><Video name="video" value="$video"/><VideoRectangle name="box" toName="video"/>'
        '<Labels name="label" toName="video"><Label value="car"/><Label value="pedestrian"/></Labels></View>'
    )
    (task,) = json.loads(written("label-studio", tmp_path).read_text())
    labelling = interface(configuration)
    assert labelling.validate_prediction(task["annotations"][0], return_errors=True) == []
    task["annotations"][0]["result"][0]["value"]["sequence"][0]["width"] = 101
    assert labelling.validate_prediction(task["annotations"][0], return_errors=True) != []


def test_label_studio_has_the_fields_of_its_video_boxes(tmp_path: Path) -> None:
    (task,) = json.loads(written("label-studio", tmp_path).read_text())
    regions = task["annotations"][0]["result"]
    assert [region["id"] for region in regions] == [str(n) for n in IDS]
    for region in regions:
        assert {"type", "from_name", "to_name", "value"} <= region.keys()
        assert {"framesCount", "duration", "sequence", "labels"} <= region["value"].keys()
        for key in region["value"]["sequence"]:
            assert {"frame", "enabled", "rotation", "x", "y", "width", "height", "time"} == key.keys()
    gone = [(key["frame"], key["enabled"]) for key in regions[1]["value"]["sequence"]]
    assert gone == [(1, True), (2, False), (4, False)]


def test_the_script_for_fiftyone_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for FiftyOne, which needs a data base: the calls and their arguments."""
    folder = written("fiftyone", tmp_path)
    frames: dict[int, dict[str, Any]] = {}
    stand_in = ModuleType("fiftyone")

    class Frames(dict[int, dict[str, Any]]):
        def __missing__(self, number: int) -> dict[str, Any]:
            return frames.setdefault(number, {})

    vars(stand_in).update(
        Detection=lambda **values: SimpleNamespace(**values),
        Detections=lambda detections: detections,
        Sample=lambda filepath: SimpleNamespace(frames=Frames()),
        Dataset=lambda name, overwrite: SimpleNamespace(name=name, add_sample=lambda sample: None),
    )
    monkeypatch.setitem(sys.modules, "fiftyone", stand_in)
    script = folder / "import_fiftyone.py"
    space: dict[str, Any] = {"__name__": "script", "__file__": str(script)}
    exec(compile(script.read_text(), str(script), "exec"), space)
    space["main"](Path("clip.mp4"), None)
    assert [one.index for one in frames[2]["tracks"]] == list(IDS)
    assert [int(one.mask.sum()) for one in frames[2]["tracks"]] == AREAS[3:6]
    x, y, w, h = frames[2]["tracks"][0].bounding_box
    np.testing.assert_allclose(
        [x * WIDTH, y * HEIGHT, (x + w) * WIDTH, (y + h) * HEIGHT], TRACKS.at(1).xyxy[0], atol=1e-4
    )


def test_fiftyone_draws_a_mask_where_it_is(tmp_path: Path) -> None:
    """It cuts off the fractions of the box's corners: a tenth of all masks was stretched or a pixel beside."""
    height, width = 480, 854
    lows = np.stack([np.arange(100) * 3 % 400, np.arange(100) * 7 % 800], axis=1)
    sides = np.stack([1 + np.arange(100) * 5 % 79, 1 + np.arange(100) * 11 % 53], axis=1)
    masks = PackedMasks.from_crops([np.ones(side, np.bool_) for side in sides.tolist()], lows, height, width)
    tracks = Tracks.from_columns([0] * 100, range(100), masks.boxes, masks=masks)
    video = TracksVideo(tracks, VideoInfo("street", [0], ["0.jpg"], (height, width)))
    lines = (written("fiftyone", tmp_path, video) / "tracks.jsonl").read_text().splitlines()
    for one, low, side in zip(json.loads(lines[1])["objects"], lows.tolist(), sides.tolist(), strict=True):
        x, y, w, h = one["box"]
        drawn = [int(y * height), int(x * width), int((y + h) * height), int((x + w) * width)]
        assert drawn == [*low, low[0] + side[0], low[1] + side[1]]
        assert one["mask"]["size"] == side


def frames_of(path: Path, pixels: str) -> list[NDArray[np.uint8]]:
    import av

    with av.open(str(path)) as file:
        return [np.asarray(frame.to_ndarray(format=pixels), np.uint8) for frame in file.decode(video=0)]


@pytest.mark.parametrize("codec", ["prores", "vp9"])
def test_av_reads_objects_with_alpha(codec: str, tmp_path: Path) -> None:
    import av

    path = written("mov", tmp_path, codec=codec)
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height) == (WIDTH, HEIGHT)
        assert stream.average_rate == 10
        # The decoder that FFmpeg takes of itself for VP9 leaves out the alpha.
        decoder = av.CodecContext.create("libvpx-vp9", "r") if codec == "vp9" else stream.codec_context
        frames = [frame for packet in file.demux(stream) for frame in decoder.decode(packet)]
        shown = np.asarray(frames[1].to_ndarray(format="rgba"), np.uint8)
    assert len(frames) == 4
    masks = TRACKS.at(1).masks
    assert masks is not None
    np.testing.assert_array_equal(shown[..., 3] > 127, masks.to_bool().any(0))


def test_av_and_pillow_read_overlays_and_clips(tmp_path: Path) -> None:
    from PIL import Image

    assert len(frames_of(written("mp4", tmp_path), "rgb24")) == 4
    with Image.open(written("gif", tmp_path)) as image:
        assert (getattr(image, "n_frames", 1), image.size, image.info["duration"]) == (4, (WIDTH, HEIGHT), 100)
    red, video = (255, 0, 0), make_video()
    video.colours = lambda track_id: red
    with Image.open(written("gif", tmp_path / "red", video)) as image:  # in the colours that the objects have
        shown = np.asarray(image.convert("RGB"), np.int64)
    masks = TRACKS.at(0).masks
    assert masks is not None
    inside = shown[masks.to_bool().any(0)]
    assert inside[:, 0].mean() > 2 * inside[:, 1:].mean()
    clips = written("clips", tmp_path / "clips")
    counts = {path.name: len(frames_of(path, "rgb24")) for path in sorted(clips.glob("*.mp4"))}
    assert counts == {f"track_{n:06d}.mp4": 4 for n in IDS}


def test_pillow_reads_cutouts(tmp_path: Path) -> None:
    from PIL import Image

    folder = written("cutouts", tmp_path, margin=2)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    assert len(files) == len(TRACKS)
    with Image.open(folder / "track_000007" / "00001.png") as image:
        pixels = np.array(image)
    assert int((pixels[..., 3] > 0).sum()) == AREAS[4]
    whole = written("cutouts", tmp_path / "whole", margin=2, background=True)
    with Image.open(whole / "track_000007" / "00001.png") as image:
        assert image.mode == "RGB"
        assert image.size == pixels.shape[1::-1]
    video = make_video()
    assert video.pictures is not None
    x1, y1 = TRACKS.at(1).xyxy[1][:2].astype(int) - 2
    shown = video.pictures(FrameIndex(1))[max(y1, 0), max(x1, 0)]
    with Image.open(whole / "track_000007" / "00001.png") as image:
        assert image.getpixel((0, 0)) == tuple(shown.tolist())
