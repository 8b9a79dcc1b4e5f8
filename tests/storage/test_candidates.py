from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.errors import ArtifactError, ArtifactVersionError, CandidateError
from trackweave.masks.codecs import encode_mask, encode_rle, mask_mapping
from trackweave.masks.packed import PackedMasks
from trackweave.storage.candidates import (
    check_candidates,
    filtered_path,
    leave_out,
    other_shape,
    read_candidates,
    read_filtered,
    write_filtered,
)
from trackweave.structures.candidates import Candidates
from trackweave.structures.run_log import OnBadItem, RunLog

SIZE = (6, 10)
LEFT, RIGHT, MIDDLE = np.zeros((3, *SIZE), np.bool_)
LEFT[1:4, 0:3] = RIGHT[2:6, 7:10] = MIDDLE[0:2, 4:6] = True
MASKS = {5: LEFT, 9: RIGHT}

Change = Callable[[dict[str, Any]], None]


def item(number: int, mask: NDArray[np.bool_], /, *, frame: int = 0, **more: Any) -> dict[str, Any]:
    """A candidate with a box; `more` brings its mask."""
    packed = PackedMasks.from_bool(mask)
    x1, y1, x2, y2 = (int(value) for value in packed.boxes[0])
    return {
        "frame_idx": frame,
        "frame_name": f"{frame:05d}.jpg",
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": int(packed.areas[0]),
        "stability_score": 0.5 + number / 100,
        "level": 2,
        "id": number,
        **more,
    }


def packed_item(number: int, mask: NDArray[np.bool_], *, frame: int = 0) -> dict[str, Any]:
    return item(number, mask, frame=frame, mask=encode_mask(mask))


def manifest_of(*frames: list[dict[str, Any]]) -> dict[str, Any]:
    return {"frames": [{"frame_idx": k, "count": len(items), "items": items} for k, items in enumerate(frames)]}


def save(folder: Path, manifest: Any) -> Path:
    path = filtered_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(manifest if isinstance(manifest, str) else json.dumps(manifest), encoding="utf-8")
    return path


def read(path: Path, log: RunLog | None = None, frame_size: tuple[int, int] = SIZE) -> dict[int, Candidates]:
    """Every frame's candidates as a run reads them: checked first. The check finds what reading finds, in its words."""
    log = log or RunLog()
    manifest = read_filtered(path)
    leave_out(manifest.problems, log, 4)
    candidates: dict[int, Candidates] = {}
    for entry in manifest.frames:
        leave_out(check_candidates(manifest, entry, frame_size), log, 4)
        candidates[entry.frame_idx], problems = read_candidates(manifest, entry, frame_size)
        assert problems == check_candidates(manifest, entry, frame_size)
        leave_out(problems, log, 4)
    return candidates


def assert_both(found: Candidates) -> None:
    assert found.id.tolist() == [5, 9]
    np.testing.assert_array_equal(found.masks.to_bool(), [LEFT, RIGHT])
    assert found.area.tolist() == [9, 12]
    assert found.xyxy.tolist() == [[0, 1, 3, 4], [7, 2, 10, 6]]
    np.testing.assert_allclose(found.score, [0.55, 0.59], rtol=1e-6)


def with_stack(folder: Path) -> Path:
    path = save(folder, manifest_of([item(5, LEFT), item(9, RIGHT)]))
    np.save(path.parent / "seg_frame_00000.npy", np.stack([LEFT, RIGHT]).astype(np.uint8))
    return path


def uncompressed(mask: NDArray[np.bool_]) -> dict[str, Any]:
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    runs = np.diff([0, *([0] if flat[0] else []), *edges, len(flat)])
    return {"size": list(mask.shape), "counts": [int(run) for run in runs]}


class TestLayouts:
    @pytest.mark.parametrize(
        "form",
        [
            lambda mask: {"mask": encode_mask(mask)},
            lambda mask: {"mask": {**encode_mask(mask), "shape": [1, *SIZE]}},
            lambda mask: {"segmentation": encode_rle(PackedMasks.from_bool(mask))[0]},
            lambda mask: {"segmentation": uncompressed(mask)},
            lambda mask: {"mask": None, "segmentation": uncompressed(mask)},
        ],
    )
    def test_masks_in_the_items(self, tmp_path: Path, form: Callable[[Any], dict[str, Any]]) -> None:
        path = save(tmp_path, manifest_of([item(number, mask, **form(mask)) for number, mask in MASKS.items()]))
        assert_both(read(path)[0])

    @pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.int64])
    def test_masks_in_a_stack_beside_it(self, tmp_path: Path, dtype: type) -> None:
        path = with_stack(tmp_path)
        np.save(path.parent / "seg_frame_00000.npy", np.stack([LEFT, RIGHT]).astype(dtype))
        assert_both(read(path)[0])

    def test_boxes_only(self, tmp_path: Path) -> None:
        rows = [item(5, LEFT), item(9, RIGHT, area=0, bbox=[0.5, 1, 2.5, 4])]
        found = read(save(tmp_path, manifest_of(rows)), frame_size=(60, 100))[0]
        assert found.has_mask.tolist() == [False, False]
        assert found.size == (60, 100)
        assert found.area.tolist() == [9, 10]
        assert found.xyxy.tolist() == [[0, 1, 3, 4], [0.5, 1, 3, 5]]

    def test_some_with_masks_and_some_without(self, tmp_path: Path) -> None:
        found = read(save(tmp_path, manifest_of([packed_item(5, LEFT), item(9, RIGHT)])), frame_size=(60, 100))[0]
        assert found.has_mask.tolist() == [True, False]
        assert found.size == SIZE

    @pytest.mark.parametrize("box", [None, [3, 1, 0, 4]])
    def test_a_box_that_says_nothing_is_taken_from_the_mask(self, tmp_path: Path, box: Any) -> None:
        path = save(tmp_path, manifest_of([{**packed_item(9, RIGHT), "bbox": box}]))
        assert read(path)[0].xyxy.tolist() == [[7, 2, 10, 6]]

    def test_a_mask_that_was_stored_smaller_comes_back_to_the_size_of_its_box(self, tmp_path: Path) -> None:
        small = encode_mask(mask_mapping(PackedMasks.from_bool(RIGHT), (12, 20)))
        path = save(tmp_path, manifest_of([item(9, RIGHT, mask=small, bbox=[14, 4, 6, 8])]))
        found = read(path)[0]
        assert (found.size, found.area.tolist()) == ((12, 20), [48])
        assert found.xyxy.tolist() == found.masks.boxes.tolist() == [[14, 4, 20, 12]]

    def test_masks_of_two_sizes_get_the_larger(self, tmp_path: Path) -> None:
        large = np.kron(LEFT, np.ones((2, 2), np.bool_))
        found = read(save(tmp_path, manifest_of([packed_item(5, large), packed_item(9, RIGHT)])))[0]
        assert found.size == (12, 20)
        assert found.area.tolist() == [36, 48]

    def test_frames_without_items_and_in_any_order(self, tmp_path: Path) -> None:
        manifest = manifest_of([packed_item(5, LEFT)], [])
        manifest["frames"].reverse()
        path = save(tmp_path, manifest)
        np.save(path.parent / "seg_frame_00001.npy", np.zeros((0, *SIZE), np.uint8))
        found = read(path)
        assert {frame: len(candidates) for frame, candidates in found.items()} == {0: 1, 1: 0}
        assert list(found) == [0, 1]

    def test_what_else_the_manifest_says(self, tmp_path: Path) -> None:
        manifest = {**manifest_of([packed_item(5, LEFT)], []), "min_area": 500, "schema_version": 1}
        manifest["frames"][1]["frame_name"] = "named.jpg"
        found = read_filtered(save(tmp_path, manifest))
        assert found.min_area == 500.0
        assert [frame.frame_name for frame in found.frames] == ["00000.jpg", "named.jpg"]
        del manifest["min_area"]
        assert read_filtered(save(tmp_path, manifest)).min_area is None


def drop(key: str) -> Change:
    return lambda item: item.__delitem__(key)


def put(key: str, value: Any) -> Change:
    return lambda item: item.__setitem__(key, value)


BAD_ITEMS: list[tuple[Change, str]] = [
    (drop("id"), "item 1: `id` is missing"),
    (put("id", "9"), "item 1: `id` is missing or not an integer"),
    (put("id", -1), "item 1: `id` is missing or not an integer"),
    (put("id", 2**70), "item 1: `id` is missing or not an integer"),
    (put("id", 5), "item 1: id 5 occurs twice on the frame"),
    (drop("area"), r"item 1 \(id 9\): `area` is missing"),
    (put("area", "12"), r"item 1 \(id 9\): `area` is missing or not a number"),
    (put("area", 1e300), r"item 1 \(id 9\): `area` is missing or not a number"),
    (put("area", 10**400), r"item 1 \(id 9\): `area` is missing or not a number"),
    (put("stability_score", float("nan")), r"item 1 \(id 9\): `stability_score` is missing or not a number"),
    (drop("stability_score"), r"item 1 \(id 9\): `stability_score` is missing"),
    (put("bbox", [1, 2, 3]), r"item 1 \(id 9\): `bbox` is \[x, y, width, height\], not \[1, 2, 3\]"),
    (put("bbox", "box"), r"item 1 \(id 9\): `bbox` is \[x, y, width, height\]"),
    (put("bbox", [0, 0, float("inf"), 1]), r"item 1 \(id 9\): `bbox` is \[x, y, width, height\]"),
    (put("mask", encode_mask(np.zeros(SIZE, np.bool_))), r"item 1 \(id 9\): its mask is empty"),
    (put("mask", {**encode_mask(RIGHT), "shape": [60, 10]}), r"item 1 \(id 9\): its mask .* 8 packed bytes for"),
    (put("mask", {**encode_mask(RIGHT), "packed_bits_b64": "?"}), r"item 1 \(id 9\): its mask .* not base64"),
    (put("mask", {"shape": list(SIZE)}), r"item 1 \(id 9\): its mask .* needs `packed_bits`"),
    (put("mask", 7), r"item 1 \(id 9\): its mask cannot be decoded"),
]


class TestBadItems:
    @pytest.mark.parametrize(("change", "message"), BAD_ITEMS)
    def test_an_error_names_the_file_the_frame_and_the_item(self, tmp_path: Path, change: Change, message: str) -> None:
        path = save(tmp_path, self.manifest(change))
        with pytest.raises(CandidateError, match=message) as caught:
            read(path)
        text = str(caught.value)
        assert text.startswith(f"{path}: frame 1, item 1")
        assert text.endswith("(on_bad_item=skip leaves it out)")
        assert "\n" not in text

    @pytest.mark.parametrize(("change", "message"), BAD_ITEMS)
    def test_skipping_leaves_it_out_and_records_it_once(self, tmp_path: Path, change: Change, message: str) -> None:
        path = save(tmp_path, self.manifest(change))
        log = RunLog("skip")
        for _ in range(2):  # checked, then tracked
            found = read(path, log)
        assert found[1].id.tolist() == [5]
        assert found[1].masks == PackedMasks.from_bool(LEFT)
        assert found[0].id.tolist() == [5]
        (warning,) = log.warnings
        assert (warning.stage, warning.level, warning.code) == ("candidates", 4, "candidate-skipped")
        assert warning.message.startswith(f"left out: {path}: frame 1, item 1")

    @staticmethod
    def manifest(change: Change) -> dict[str, Any]:
        bad = packed_item(9, RIGHT, frame=1)
        change(bad)
        return manifest_of([packed_item(5, LEFT)], [packed_item(5, LEFT, frame=1), bad])

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ("text", "item 0 is not an object"),
            (item(5, LEFT, bbox=None), "has neither a mask nor a `bbox`"),
            (item(5, LEFT, bbox=[1, 1, 0, 4]), r"its box \[1, 1, 0, 4\] is empty and it has no mask"),
            (item(5, LEFT, segmentation={"size": list(SIZE), "counts": [7]}), "covers 7 pixels"),
            (item(5, LEFT, segmentation=[[0, 0, 3, 3]]), "of at least three corners"),
            (item(5, LEFT, segmentation=[{"size": [6, 10]}]), r"is neither an RLE .* nor polygons"),
            (item(5, LEFT, segmentation=[[0, 0, "3", 3, 3, 0]]), r"is neither an RLE .* nor polygons"),
            (item(5, LEFT, segmentation="b'07'"), r"needs `size`: \[H, W\]"),
            (item(5, LEFT, segmentation={"size": [-2, -2], "counts": [4]}), "cannot be decoded"),
        ],
    )
    @pytest.mark.parametrize("policy", ["error", "skip"])
    def test_items_without_a_packed_mask(
        self, tmp_path: Path, policy: OnBadItem, row: dict[str, Any], message: str
    ) -> None:
        path, log = save(tmp_path, manifest_of([row])), RunLog(policy)
        if policy == "skip":
            found = read(path, log)[0]
            assert (len(found), found.size, len(log.warnings)) == (0, SIZE, 1)
            return
        with pytest.raises(CandidateError, match=message) as caught:
            read(path, log)
        assert str(caught.value).startswith(f"{path}: frame 0, item 0")
        assert "\n" not in str(caught.value)

    def test_the_mask_of_a_stack_may_be_empty_too(self, tmp_path: Path) -> None:
        path = with_stack(tmp_path)
        np.save(path.parent / "seg_frame_00000.npy", np.stack([LEFT, np.zeros(SIZE, np.bool_)]))
        with pytest.raises(CandidateError, match=r"frame 0, item 1 \(id 9\): its mask is empty"):
            read(path)
        assert read(path, RunLog("skip"))[0].id.tolist() == [5]


OTHER_SHAPES = [
    ((10, 6), r"6×10, the frames are 10×6: made without the images' EXIF rotation, or `size` given as \[W, H\]\?"),
    ((10, 10), "10×10, the frames are 10×6: padded or squeezed to a square"),
    ((6, 12), "12×6, the frames are 10×6, of another shape: made on other images"),
]


class TestGeometry:
    @pytest.mark.parametrize(("shape", "message"), OTHER_SHAPES)
    @pytest.mark.parametrize("layout", ["rle", "packed", "stack"])
    def test_masks_of_another_shape_are_refused_with_the_likely_cause(
        self, tmp_path: Path, layout: str, shape: tuple[int, int], message: str
    ) -> None:
        mask = np.ones(shape, np.bool_)
        more: dict[str, dict[str, Any]] = {
            "rle": {"segmentation": encode_rle(PackedMasks.from_bool(mask))[0]},
            "packed": {"mask": encode_mask(mask)},
        }
        rows = [item(number, mask, **more.get(layout, {})) for number in (5, 9)]
        path = save(tmp_path, manifest_of(rows, [packed_item(5, LEFT, frame=1)]))
        if layout == "stack":
            np.save(path.parent / "seg_frame_00000.npy", np.stack([mask, mask]))
        with pytest.raises(CandidateError, match=f"frame 0: its 2 masks are {message}"):
            read(path)
        log = RunLog("skip")
        assert [len(found) for found in read(path, log).values()] == [0, 1]
        assert len(log.warnings) == 1

    def test_one_mask_of_another_shape_is_an_item(self, tmp_path: Path) -> None:
        path = save(tmp_path, manifest_of([packed_item(5, LEFT), packed_item(9, RIGHT.T)]))
        with pytest.raises(
            CandidateError, match=r"frame 0, item 1: its mask is 6×10, the frames are 10×6: made without"
        ):
            read(path)
        assert read(path, RunLog("skip"))[0].id.tolist() == [5]

    @pytest.mark.parametrize(
        ("mask", "frame"), [((968, 1296), (480, 640)), ((480, 864), (480, 854)), ((3, 5), (96, 152)), ((1, 1), (2, 3))]
    )
    def test_rounded_sides_are_one_shape(self, mask: tuple[int, int], frame: tuple[int, int]) -> None:
        assert other_shape(mask, frame) is None

    def test_a_mask_too_large_for_the_frames_is_refused_before_it_is_drawn(self, tmp_path: Path) -> None:
        huge = {"size": [12000, 20000], "counts": [12000 * 20000 - 1, 1]}
        path = save(tmp_path, manifest_of([item(5, LEFT, segmentation=huge)]))
        with pytest.raises(
            CandidateError, match="its mask is 20000×12000, the frames are 10×6: too large to be of them"
        ):
            read(path)
        small = {**encode_mask(LEFT), "full_resolution_shape": [12000, 20000]}
        path = save(tmp_path, manifest_of([item(5, LEFT, mask=small)]))
        with pytest.raises(CandidateError, match="too large to be of them"):
            read(path)

    @pytest.mark.parametrize(
        ("box", "message"),
        [
            ([10, 1, 3, 3], r"its box \[10, 1, 3, 3\] lies outside the image of 10×6"),
            ([-4, -3, 4, 3], "lies outside the image"),
            ([130, 10, 20, 20], "lies outside the image"),
            ([1, 6.5, 2, 2], "lies outside the image"),
            ([0.1, 0.2, 0.3, 0.4], "is smaller than a pixel: shares of the image"),
        ],
    )
    def test_a_box_without_a_mask_lies_inside_the_frame(self, tmp_path: Path, box: list[float], message: str) -> None:
        path = save(tmp_path, manifest_of([packed_item(5, LEFT), item(9, RIGHT, bbox=box)]))
        with pytest.raises(CandidateError, match=rf"frame 0, item 1 \(id 9\): .*{message}"):
            read(path)
        assert read(path, RunLog("skip"))[0].id.tolist() == [5]

    def test_boxes_beyond_the_edge_are_used(self, tmp_path: Path) -> None:
        path = save(tmp_path, manifest_of([item(5, LEFT, bbox=[-2, -1, 5, 3]), item(9, RIGHT, bbox=[9, 5, 40, 40])]))
        assert len(read(path)[0]) == 2

    def test_boxes_made_before_the_frame_was_turned(self, tmp_path: Path) -> None:
        rows = [item(5, LEFT), item(9, RIGHT)]  # on an image of 10×6
        path = save(tmp_path, manifest_of(rows))
        with pytest.raises(
            CandidateError, match=r"frame 0: its boxes reach to \(10, 6\), the frames are 6×10: made without"
        ):
            read(path, frame_size=(10, 6))
        assert len(read(path, frame_size=(6, 10))[0]) == len(read(path, frame_size=(5, 9))[0]) == 2

    @pytest.mark.parametrize("form", ["rle", "packed", "stack"])
    def test_a_box_touches_its_mask(self, tmp_path: Path, form: str) -> None:
        forms: list[tuple[str, dict[str, Any]]] = [
            ("rle", {"segmentation": uncompressed(RIGHT)}),
            ("packed", {"mask": encode_mask(RIGHT)}),
            ("stack", {}),
        ]
        more = dict(forms)[form]
        path = save(tmp_path, manifest_of([item(9, RIGHT, bbox=[0, 1, 3, 3], **more)]))
        if form == "stack":
            np.save(path.parent / "seg_frame_00000.npy", RIGHT[None])
        message = r"item 0 \(id 9\): its box \[0, 1, 3, 3\] does not touch its mask, whose box is \[7, 2, 3, 4\]"
        with pytest.raises(CandidateError, match=message):
            read(path)

    def test_corners_in_place_of_width_and_height_are_found(self, tmp_path: Path) -> None:
        path = save(tmp_path, manifest_of([{**packed_item(9, RIGHT), "bbox": [7, 2, 10, 6]}]))
        with pytest.raises(CandidateError, match=r"holds the corners of its mask: `bbox` is \[x, y, width, height\]"):
            read(path)


class TestPolygons:
    SQUARE = (9, 14, 31, 14, 31, 36, 9, 36)

    @pytest.mark.parametrize("outline", [[list(SQUARE)], list(SQUARE)])
    def test_polygons_are_filled(self, tmp_path: Path, outline: Any) -> None:
        mask = np.zeros((96, 128), np.bool_)
        mask[14:36, 9:31] = True
        path = save(tmp_path, manifest_of([item(1, mask, segmentation=outline)]))
        found = read(path, frame_size=(96, 128))[0]
        np.testing.assert_array_equal(found.masks.to_bool()[0], mask)

    def test_several_are_one_mask(self, tmp_path: Path) -> None:
        outlines = [[0, 0, 4, 0, 4, 4, 0, 4], [10, 10, 14, 10, 14, 14, 10, 14]]
        path = save(tmp_path, manifest_of([item(1, np.ones((14, 14), np.bool_), segmentation=outlines)]))
        assert read(path, frame_size=(20, 30))[0].area.tolist() == [32]

    def test_they_are_in_pixels_of_the_other_masks(self, tmp_path: Path) -> None:
        large = np.zeros((192, 256), np.bool_)
        large[28:72, 18:62] = True
        double = [[2 * value for value in self.SQUARE]]
        rows = [packed_item(1, large), item(2, large, segmentation=double)]
        found = read(save(tmp_path, manifest_of(rows)), frame_size=(96, 128))[0]
        assert found.masks[0] == found.masks[1]

    def test_made_on_a_larger_image_they_are_refused(self, tmp_path: Path) -> None:
        path = save(tmp_path, manifest_of([item(1, LEFT, segmentation=[[500, 10, 900, 10, 900, 400]])]))
        with pytest.raises(
            CandidateError, match=r"polygons reach to \(900, 400\), the image is 10×6: made on an image of"
        ):
            read(path)

    def test_an_empty_list_is_no_mask(self, tmp_path: Path) -> None:
        manifest = read_filtered(save(tmp_path, manifest_of([item(5, LEFT, segmentation=[]), packed_item(9, RIGHT)])))
        found, problems = read_candidates(manifest, manifest.frames[0], SIZE)
        assert (found.has_mask.tolist(), problems) == ([False, True], [])
        assert manifest.without_masks == (1, 2)


class TestMaskFiles:
    @pytest.mark.parametrize("name", ["seg_frame_0.npy", "seg_frame_000000.npy"])
    def test_the_number_of_a_stack_counts(self, tmp_path: Path, name: str) -> None:
        path = with_stack(tmp_path)
        (path.parent / "seg_frame_00000.npy").rename(path.parent / name)
        assert_both(read(path)[0])

    def test_two_stacks_of_a_frame_are_refused(self, tmp_path: Path) -> None:
        path = with_stack(tmp_path)
        np.save(path.parent / "seg_frame_0.npy", np.stack([LEFT, RIGHT]))
        with pytest.raises(CandidateError, match=r"has two mask stacks, seg_frame_0.npy and seg_frame_00000.npy"):
            read(path)

    def test_files_that_look_like_masks_and_are_not_used(self, tmp_path: Path) -> None:
        path = with_stack(tmp_path)
        np.savez(path.parent / "seg_frame_00000.npz", LEFT)
        np.save(path.parent / "seg_frame_00007.npy", np.stack([LEFT, RIGHT]))
        manifest = read_filtered(path)
        assert manifest.unused == ["seg_frame_00000.npz", "seg_frame_00007.npy"]
        assert manifest.without_masks == (0, 2)


BAD_STACKS: list[tuple[Any, str]] = [
    (np.stack([LEFT]), r"is \(1, 6, 10\) bool, but .*: frame 0 has 2 items: \(2, H, W\) of 0 and 1 is expected"),
    (np.stack([LEFT, RIGHT, LEFT]), "has 2 items"),
    (LEFT, "has 2 items"),
    (np.stack([LEFT, RIGHT]).astype(np.float32), "float32, but"),
    (np.zeros((2, 0, 4), np.uint8), r"is \(2, 0, 4\) uint8, but"),
    (np.array([[[{}]], [[{}]]], object), "not a readable mask stack"),
    (b"not an array", "not a readable mask stack"),
    (b"", "not a readable mask stack"),
]


class TestBadFrames:
    @pytest.mark.parametrize(("content", "message"), BAD_STACKS)
    @pytest.mark.parametrize("policy", ["error", "skip"])
    def test_a_stack_that_does_not_belong_to_the_items(
        self, tmp_path: Path, policy: OnBadItem, content: Any, message: str
    ) -> None:
        path, log = with_stack(tmp_path), RunLog(policy)
        stack = path.parent / "seg_frame_00000.npy"
        stack.unlink()
        if isinstance(content, bytes):
            stack.write_bytes(content)
        else:
            np.save(stack, content, allow_pickle=True)
        if policy == "skip":
            assert len(read(path, log)[0]) == len(read(path, log)[0]) == 0
            assert [warning.message.startswith(f"left out: {stack}: ") for warning in log.warnings] == [True]
            return
        with pytest.raises(CandidateError, match=message) as caught:
            read(path, log)
        assert str(caught.value).startswith(f"{stack}: ")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ("text", r"frames\[1\] is not an object"),
            ({"items": []}, r"frames\[1\]: `frame_idx` is missing"),
            ({"frame_idx": 1.5, "items": []}, r"frames\[1\]: `frame_idx` is missing or not an index"),
            ({"frame_idx": True, "items": []}, r"frames\[1\]: `frame_idx` is missing or not an index"),
            ({"frame_idx": 0, "items": []}, r"frames\[1\]: frame_idx 0 occurs twice"),
            ({"frame_idx": 1}, "frame 1: `items` is missing or not a list"),
            ({"frame_idx": 1, "items": {}}, "frame 1: `items` is missing or not a list"),
            ({"frame_idx": 1, "count": 3, "items": []}, "frame 1: `count` says 3, but there are 0 items"),
            ({"frame_idx": 1, "frame_name": 5, "items": []}, "frame 1: `frame_name` is not a text"),
            (
                {"frame_idx": 1, "items": [packed_item(1, LEFT, frame=1), packed_item(2, RIGHT, frame=2)]},
                r"frame 1: its items name different frames: \['00001.jpg', '00002.jpg'\]",
            ),
        ],
    )
    def test_a_frame_that_cannot_be_used(self, tmp_path: Path, entry: Any, message: str) -> None:
        manifest = manifest_of([packed_item(5, LEFT)], [], [packed_item(9, RIGHT, frame=2)])
        manifest["frames"][1] = entry
        path = save(tmp_path, manifest)
        with pytest.raises(CandidateError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        log = RunLog("skip")
        for _ in range(2):
            assert {frame: found.id.tolist() for frame, found in read(path, log).items()} == {0: [5], 2: [9]}
        assert len(log.warnings) == 1


@pytest.mark.parametrize(
    ("manifest", "kind", "message"),
    [
        (None, ArtifactError, "there is no manifest of candidates here"),
        ("{", ArtifactError, "is not JSON"),
        ("[]", ArtifactError, "should be a JSON object, not list"),
        ({}, CandidateError, "`frames` is missing or not a list"),
        ({"frames": {}}, CandidateError, "`frames` is missing or not a list"),
        ({"frames": [], "schema_version": 2}, ArtifactVersionError, "schema_version 2 is newer than 1"),
        ({"frames": [], "schema_version": "x"}, ArtifactVersionError, "unknown schema_version 'x'"),
    ],
)
def test_a_manifest_that_cannot_be_used_at_all(
    tmp_path: Path, manifest: Any, kind: type[Exception], message: str
) -> None:
    path = filtered_path(tmp_path) if manifest is None else save(tmp_path, manifest)
    with pytest.raises(kind, match=message) as caught:
        read_filtered(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["shape", "size"]), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.sampled_from(["id", "area", "stability_score", "bbox", "mask", "segmentation", "frame_name", "frame_idx"]), JSON
)
def test_whatever_an_item_holds_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    manifest = manifest_of([{**packed_item(5, LEFT), key: value}])
    path = save(tmp_path_factory.getbasetemp() / "any", manifest)
    log = RunLog("skip")
    assert sum(map(len, read(path, log).values())) + len(log.warnings) == 1


class TestCheck:
    """What a check costs: masks are looked at, never built."""

    @pytest.mark.parametrize("layout", ["rle", "stack"])
    def test_no_mask_is_decoded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
        if layout == "stack":
            path = with_stack(tmp_path)
        else:
            codes = {number: encode_rle(PackedMasks.from_bool(mask))[0] for number, mask in MASKS.items()}
            path = save(tmp_path, manifest_of([item(k, MASKS[k], segmentation=codes[k]) for k in MASKS]))
        manifest = read_filtered(path)

        def built(*_: Any, **__: Any) -> None:
            raise AssertionError("a mask was built")

        monkeypatch.setattr(PackedMasks, "__post_init__", built)
        assert check_candidates(manifest, manifest.frames[0], SIZE) == []


class TestWriting:
    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        masks = PackedMasks.from_bool(np.stack([LEFT, np.zeros(SIZE, np.bool_)]))
        boxes = np.array([[0, 1, 3, 4], [0.25, 1, 8, 6]], np.float32)
        written = Candidates(np.array([5, 9]), boxes, np.array([0.5, 0.123456], np.float32), np.array([9, 31]), masks)
        path = write_filtered(tmp_path, 4, iter([(3, "c.jpg", written), (8, "d.jpg", written[:0])]), min_area=20)
        assert path == tmp_path / "filtered" / "filtered.json"
        manifest = read_filtered(path)
        assert [(frame.frame_idx, frame.frame_name) for frame in manifest.frames] == [(3, "c.jpg"), (8, "d.jpg")]
        assert manifest.min_area == 20
        found, _ = read_candidates(manifest, manifest.frames[0], (60, 100))
        assert found.masks == masks
        for column in ("id", "xyxy", "score", "area"):
            np.testing.assert_array_equal(getattr(found, column), getattr(written, column))
        assert len(read_candidates(manifest, manifest.frames[1], SIZE)[0]) == 0

    def test_items_have_the_documented_keys(self, tmp_path: Path) -> None:
        one = read(save(tmp_path / "in", manifest_of([packed_item(5, LEFT)])))[0]
        path = write_filtered(tmp_path / "out", 2, iter([(0, "00000.jpg", one)]))
        content = json.loads(path.read_text(encoding="utf-8"))
        assert content["frames"][0]["count"] == 1
        segmentation = encode_rle(PackedMasks.from_bool(LEFT))[0]
        assert content["frames"][0]["items"] == [item(5, LEFT, segmentation=segmentation)]
        assert "min_area" not in content

    def test_a_failing_generator_leaves_the_old_manifest(self, tmp_path: Path) -> None:
        path = save(tmp_path, manifest_of([packed_item(5, LEFT)]))

        def failing() -> Iterator[tuple[int, str, Candidates]]:
            yield 0, "a.jpg", read(path)[0]
            raise RuntimeError("the generator died")

        with pytest.raises(RuntimeError, match="the generator died"):
            write_filtered(tmp_path, 2, failing())
        assert list(read(path)) == [0]
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "header",
    ["('<i8', ", "'|S0', 'fortran_order': False, 'shape': (-1,), }", "'|u1', 'fortran_order': False, 'shape': (1"],
)
def test_a_mask_stack_with_a_damaged_header_is_named(tmp_path: Path, header: str) -> None:
    path = save(tmp_path, manifest_of([item(5, LEFT)]))
    body = f"{{'descr': {header}\n".encode()
    stack = path.parent / "seg_frame_00000.npy"
    stack.write_bytes(b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body + bytes(64))
    manifest = read_filtered(path)
    (problem,) = check_candidates(manifest, manifest.frames[0], SIZE)
    assert problem.startswith(f"{stack}: not a readable mask stack: ")


@pytest.mark.parametrize("value", ["1e400", "NaN", "9" * 400])
def test_a_number_that_is_none_costs_its_item_only(tmp_path: Path, value: str) -> None:
    path = save(tmp_path, manifest_of([packed_item(5, LEFT), packed_item(9, RIGHT)]))
    path.write_text(path.read_text().replace('"stability_score": 0.55', f'"stability_score": {value}'))
    manifest = read_filtered(path)
    (problem,) = check_candidates(manifest, manifest.frames[0], SIZE)
    assert "item 0 (id 5): `stability_score` is missing or not a number" in problem
