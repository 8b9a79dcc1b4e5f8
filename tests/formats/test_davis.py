from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from tests.formats.worlds import break_renames, objects
from trackweave.errors import ArtifactError, PromptError
from trackweave.formats.davis import (
    davis_palette,
    export_davis,
    flatten_labels,
    read_label_pixels,
    read_label_png,
    write_label_png,
)
from trackweave.masks.packed import PackedMasks
from trackweave.structures.run_log import RunLog
from trackweave.structures.tracks import FrameObjects

LABELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_labels_survive_the_round_trip(tmp_path: Path, labels: NDArray[np.uint8]) -> None:
    write_label_png(tmp_path / "a.png", labels)
    read = read_label_png(tmp_path / "a.png")
    assert read.dtype == np.int32
    assert np.array_equal(read, labels)


def test_written_files_are_indexed_with_the_davis_palette(tmp_path: Path) -> None:
    write_label_png(tmp_path / "a.png", LABELS)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        palette = image.getpalette() or []
    assert palette[:36] == davis_palette()[:12].ravel().tolist()
    assert davis_palette()[255].tolist() == [224, 224, 192]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_images_of_8_and_16_bits(tmp_path: Path, dtype: Any) -> None:
    labels = LABELS.astype(dtype) * (1 if dtype == np.uint8 else 500)
    Image.fromarray(labels).save(tmp_path / "grey.png")
    assert np.array_equal(read_label_png(tmp_path / "grey.png"), labels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colour_images_with_equal_channels_are_grey(tmp_path: Path, mode: str) -> None:
    Image.fromarray(LABELS).convert(mode).save(tmp_path / "a.png")
    assert np.array_equal(read_label_png(tmp_path / "a.png"), LABELS)


def test_bilevel_image(tmp_path: Path) -> None:
    Image.fromarray(LABELS > 5).save(tmp_path / "a.png")
    assert np.array_equal(read_label_png(tmp_path / "a.png"), LABELS > 5)


def test_colour_image_is_refused_with_advice(tmp_path: Path) -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[1, 1, 0] = 9
    Image.fromarray(picture).save(tmp_path / "rgb.png")
    with pytest.raises(PromptError, match=r"rgb\.png: a colour image.*indexed or grey PNG"):
        read_label_png(tmp_path / "rgb.png")


def test_lossy_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(LABELS).save(tmp_path / "a.jpg")
    with pytest.raises(PromptError, match="JPEG blurs labels"):
        read_label_png(tmp_path / "a.jpg")


def square(value: int = 255) -> NDArray[np.uint8]:
    image = np.zeros((60, 80), np.uint8)
    image[13:41, 17:51] = value
    return image


SOFT = {
    "half_size": cv2.resize(square(), (45, 33), interpolation=cv2.INTER_AREA),
    "twice_the_size": cv2.resize(square(), (160, 120)),
    "smoothed": cv2.GaussianBlur(square(), (5, 5), 1),
    "opacity": cv2.GaussianBlur(square(200), (5, 5), 1),
    "one_shade": np.where(cv2.dilate(square(), np.ones((3, 3), np.uint8)) > square(), np.uint8(128), square()),
    "three_objects": cv2.resize(square(3) + np.roll(square(2), 40, 1) * (np.arange(80) > 52), (119, 93)),
    "blocks": cv2.resize(cv2.GaussianBlur(square(), (5, 5), 1), (430, 290), interpolation=cv2.INTER_NEAREST),
    "two_bytes": cv2.GaussianBlur(square(), (5, 5), 1).astype(np.uint16) * 257,
    "in_alpha": np.dstack([np.full((60, 80, 3), 255, np.uint8), cv2.GaussianBlur(square(), (5, 5), 1)]),
}


@pytest.mark.parametrize("kind", SOFT)
def test_a_mask_with_soft_edges_is_refused(tmp_path: Path, kind: str) -> None:
    Image.fromarray(SOFT[kind]).save(tmp_path / "soft.png")
    with pytest.raises(PromptError, match=r"soft\.png: \d+ grey values lie along the outline of one object"):
        read_label_pixels(tmp_path / "soft.png")


def test_shades_without_a_body_are_refused(tmp_path: Path) -> None:
    blurred = cv2.GaussianBlur(square(), (0, 0), 9)
    Image.fromarray(blurred).save(tmp_path / "probability.png")
    with pytest.raises(PromptError, match="grey values that run into each other: shades, not labels"):
        read_label_pixels(tmp_path / "probability.png")


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 30, 30)])
def test_a_mask_in_the_alpha_channel_is_read(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    image = np.dstack([np.full((60, 80, 3), colour, np.uint8), square()])
    image[square() == 0, :3] = (9, 8, 7)  # what is not visible can have any colour
    Image.fromarray(image).save(tmp_path / "alpha.png")
    pixels = read_label_pixels(tmp_path / "alpha.png")
    assert np.array_equal(pixels.labels, square())
    assert (pixels.is_eight_bit, pixels.has_palette) == (True, False)


def test_a_frame_on_which_nothing_is_visible_has_no_object(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 6), (255, 255, 255, 0)).save(tmp_path / "empty.png")
    assert not read_label_pixels(tmp_path / "empty.png").labels.any()


def test_labels_on_a_transparent_background_are_read(tmp_path: Path) -> None:
    labels = square(1) + np.roll(square(2), 40, 1) * (np.arange(80) > 52)
    Image.fromarray(np.dstack([labels, (labels > 0) * np.uint8(255)])).save(tmp_path / "la.png")
    assert np.array_equal(read_label_png(tmp_path / "la.png"), labels)


def test_a_picture_with_an_alpha_channel_is_refused(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    Image.fromarray(np.dstack([picture, square()])).save(tmp_path / "cutout.png")
    with pytest.raises(PromptError, match=r"cutout\.png: a picture with an alpha channel.*save that alone"):
        read_label_pixels(tmp_path / "cutout.png")


def test_colour_of_16_bits_keeps_its_labels(tmp_path: Path) -> None:
    labels = square(1).astype(np.uint16) * 300
    cv2.imwrite(str(tmp_path / "deep.png"), np.dstack([labels] * 3))
    pixels = read_label_pixels(tmp_path / "deep.png")
    assert np.array_equal(pixels.labels, labels)
    assert not pixels.is_eight_bit


def test_float_images_hold_whole_labels_or_are_refused(tmp_path: Path) -> None:
    Image.fromarray(square(3).astype(np.float32)).save(tmp_path / "whole.tif")
    assert np.array_equal(read_label_png(tmp_path / "whole.tif"), square(3))
    Image.fromarray(square(1) * np.float32(0.99)).save(tmp_path / "shares.tif")
    with pytest.raises(PromptError, match=r"shares\.tif: holds values such as 0\.99, not labels"):
        read_label_png(tmp_path / "shares.tif")


def test_a_palette_that_paints_the_background_is_refused(tmp_path: Path) -> None:
    Image.fromarray(square()).quantize(2).save(tmp_path / "small.png")  # white is 0, black is 1
    with pytest.raises(PromptError, match=r"small\.png: index 0, the background, has the colour \(255, 255, 255\)"):
        read_label_png(tmp_path / "small.png")


@pytest.mark.parametrize(("clear", "is_refused"), [(1, True), (b"\xff\x00", True), (0, False), (b"\x00\xff", False)])
def test_a_palette_whose_background_is_not_the_transparent_index(
    tmp_path: Path, clear: int | bytes, is_refused: bool
) -> None:
    image = Image.fromarray(square(1))
    image.putpalette([255, 255, 255, 255, 255, 255])
    image.save(tmp_path / "clear.png", transparency=clear)
    if is_refused:
        with pytest.raises(PromptError, match=r"index 0, the background, .* and index 1 is transparent"):
            read_label_pixels(tmp_path / "clear.png")
    else:
        assert np.array_equal(read_label_png(tmp_path / "clear.png"), square(1))


def test_missing_and_broken_files_are_one_line(tmp_path: Path) -> None:
    write_label_png(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 9, (90, 90)).astype(np.uint8))
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:500])
    (tmp_path / "text.png").write_text("no picture")
    for name in ("absent.png", "cut.png", "text.png", "."):
        with pytest.raises(PromptError, match="PNG") as caught:
            read_label_png(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_labels_of_another_kind_are_refused(tmp_path: Path) -> None:
    for labels in (LABELS.astype(np.int32), LABELS[0], LABELS[:0]):
        with pytest.raises(ValueError, match="uint8"):
            write_label_png(tmp_path / "a.png", labels)  # type: ignore[arg-type]


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    break_renames(monkeypatch)
    with pytest.raises(ArtifactError, match=r"a\.png: cannot be written: No space"):
        write_label_png(path, LABELS)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def nested() -> FrameObjects:
    """Object 1 small inside object 2."""
    masks = np.zeros((2, 6, 6), np.bool_)
    masks[0, 2:4, 2:4] = masks[1, 1:5, 1:5] = True
    return objects([1, 2], masks)


def test_smaller_objects_are_on_top() -> None:
    labels = flatten_labels(nested(), (6, 6))
    assert labels[2, 2] == 1
    assert labels[1, 1] == 2
    assert np.bincount(labels.ravel()).tolist() == [20, 4, 12]
    assert np.array_equal(flatten_labels(nested()[[1, 0]], (6, 6)), labels)


def test_masks_are_brought_to_the_size_asked_for() -> None:
    labels = flatten_labels(nested(), (18, 18))
    assert labels.shape == (18, 18)
    assert (labels[3:15, 3:15] > 0).sum() == (labels > 0).sum()
    assert labels[9, 9] == 1


def test_no_objects_give_background() -> None:
    assert not flatten_labels(objects([], np.zeros((0, 5, 7), np.bool_)), (5, 7)).any()


def test_ids_beyond_eight_bits_take_sixteen() -> None:
    many = objects([1, 255, 256, 65535], np.eye(4, dtype=np.bool_).reshape(4, 2, 2))
    labels = flatten_labels(many, (2, 2))
    assert labels.dtype == np.uint16
    assert labels.tolist() == [[1, 255], [256, 65535]]
    assert flatten_labels(many, (2, 2), numbers={1: 3, 255: 2, 256: 1, 65535: 254}).tolist() == [[3, 2], [1, 254]]


def test_ids_that_do_not_fit_are_refused_with_advice() -> None:
    many = objects([1, 255, 256, 900], np.ones((4, 2, 2), np.bool_))
    with pytest.raises(ArtifactError, match=r"3 object ids.*8 bits.*255, 256, 900.*bits=16 holds 65535.*ids='level'"):
        flatten_labels(many, (2, 2), bits=8)
    with pytest.raises(ArtifactError, match=r"1 object ids.*16 bits .1 … 65535.*65536; ids='level'"):
        flatten_labels(objects([1, 65536], np.ones((2, 2, 2), np.bool_)), (2, 2))


def test_all_images_of_an_export_have_the_same_bits(tmp_path: Path) -> None:
    late, log = objects([65535], np.ones((1, 6, 6), np.bool_), name="00001.jpg"), RunLog(package=None)
    paths = export_davis([nested(), late], tmp_path, (6, 6), ["00000.jpg", "00001.jpg", "00002.jpg"], log=log)
    for path in paths:
        with Image.open(path) as image:
            assert image.mode.startswith("I")
    assert np.array_equal(read_label_png(paths[0]), flatten_labels(nested(), (6, 6)))
    assert np.unique(read_label_png(paths[1])).tolist() == [65535]
    assert [warning.code for warning in log.warnings] == ["wide-labels"]
    wide = export_davis([nested()], tmp_path / "wide", (6, 6), bits=16, log=log)
    with Image.open(wide[0]) as image:
        assert image.mode.startswith("I")
    assert len(log.warnings) == 1


def test_label_images_of_other_frames_are_named_and_stay(tmp_path: Path) -> None:
    log = RunLog(package=None)
    export_davis([], tmp_path, (2, 2), [f"{k}.jpg" for k in range(6)], log=log)
    assert log.warnings == []
    export_davis([], tmp_path, (2, 2), ["0.jpg", "1.jpg"], log=log)
    assert [warning.message for warning in log.warnings] == [
        f"{tmp_path}: 4 PNG files of other frames were there and stay: 2.png, 3.png, 4.png …; "
        "remove them, or export to an empty folder"
    ]
    assert len(list(tmp_path.glob("*.png"))) == 6


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 6)))
def test_label_maps_without_overlap_survive_flattening(labels: NDArray[np.uint8]) -> None:
    ids = [int(i) for i in np.unique(labels) if i]
    masks = np.stack([labels == i for i in ids]) if ids else np.zeros((0, *labels.shape), np.bool_)
    shape = (labels.shape[0], labels.shape[1])
    assert np.array_equal(flatten_labels(objects(ids, masks), shape), labels)


def test_export_writes_every_frame_named(tmp_path: Path) -> None:
    seen = nested()
    names = ["00000.jpg", "00001.jpg", "clip.0002"]
    paths = export_davis(iter([seen]), tmp_path / "out", (6, 6), names)
    assert [path.name for path in paths] == ["00000.png", "00001.png", "clip.0002.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths)
    assert np.array_equal(read_label_png(paths[0]), flatten_labels(seen, (6, 6)))
    assert not read_label_png(paths[1]).any()


def test_export_without_names_writes_what_is_given(tmp_path: Path) -> None:
    empty = FrameObjects(nested().frame, "b.png", *_no_columns())
    assert [path.name for path in export_davis([nested(), empty], tmp_path, (6, 6))] == ["00000.png", "b.png"]


def _no_columns() -> tuple[Any, ...]:
    return (np.zeros(0, np.int64), PackedMasks.empty(6, 6), np.zeros((0, 4), np.float32)) + (
        np.zeros(0, np.float32),
    ) * 2


def test_frames_that_would_share_a_file_or_are_not_listed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"'a\.jpg' and 'a\.png'"):
        export_davis([], tmp_path, (6, 6), ["a.jpg", "a.png"])
    with pytest.raises(ArtifactError, match="both be written"):
        export_davis([nested(), nested()], tmp_path, (6, 6))
    with pytest.raises(ArtifactError, match="none of the 1 frames"):
        export_davis([nested()], tmp_path, (6, 6), ["other.jpg"])
    assert list(tmp_path.iterdir()) == []


def test_failure_on_a_late_frame_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "00000.png").write_bytes(b"old")
    late = objects([70000], np.ones((1, 6, 6), np.bool_), name="00001.jpg")
    with pytest.raises(ArtifactError, match=r"00001\.jpg"):
        export_davis([nested(), late], tmp_path, (6, 6))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("00000.png", b"old")]


def test_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    paths = export_davis([], tmp_path / "out", (2, 2), ["../../x.jpg", "a/b.jpg"])
    assert [path.relative_to(tmp_path / "out").as_posix() for path in paths] == ["x.png", "b.png"]


@pytest.mark.parametrize("name", ["a\0b.png", "", "..", "a/.."])
def test_a_frame_whose_name_cannot_be_a_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match="cannot be the name of a file"):
        export_davis([], tmp_path / "out", (2, 2), [name])


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="file"):
        export_davis([], tmp_path / "file", (2, 2), ["a"])
