from __future__ import annotations

import os
import unicodedata
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from trackweave.errors import FrameError, PromptError
from trackweave.formats.davis import read_label_png
from trackweave.frames.images import ImageFolder, TiffPages, in_order, natural_key
from trackweave.frames.open import open_frames
from trackweave.frames.source import RGBFrame, check_readable, exclude_unreadable, report_source
from trackweave.structures.run_log import RunLog

ORIENTATION = 0x0112


def grey_ramp(height: int = 4, width: int = 6) -> NDArray[np.uint8]:
    return np.arange(height * width, dtype=np.uint8).reshape(height, width)


def save(path: Path, values: NDArray[Any] | None = None, mode: str = "RGB", **options: Any) -> Path:
    Image.fromarray(grey_ramp() if values is None else values).convert(mode).save(path, **options)
    return path


def save_deep(path: Path, values: NDArray[Any]) -> Path:
    Image.fromarray(values).save(path)
    return path


class TestOrder:
    def test_numbers_count_as_numbers(self, tmp_path: Path) -> None:
        for name in ("frame10.png", "frame2.png", "Frame1.PNG", "frame003.jpg"):
            save(tmp_path / name)
        assert list(ImageFolder(tmp_path).names) == ["Frame1.PNG", "frame2.png", "frame003.jpg", "frame10.png"]

    @given(st.lists(st.integers(0, 10**6), unique=True), st.sampled_from(["", "img_", "cam2-"]))
    def test_unpadded_numbers_sort_by_value(self, numbers: list[int], prefix: str) -> None:
        names = [f"{prefix}{number}.png" for number in numbers]
        assert sorted(names, key=natural_key) == [f"{prefix}{number}.png" for number in sorted(numbers)]

    @pytest.mark.parametrize(
        "stems",
        [
            ["1403636579.76", "1403636579.8", "1403636579.845", "1403636580", "1403636580.05"],  # TUM, EuRoC
            ["frame_1403636579.76", "frame_1403636579.8", "frame_1403636580.0"],
            ["-2", "-1", "0", "1"],
            ["-1.5", "-0.25", "0", "0.5", "10.25"],
            ["1.8", "1.9", "1.10", "1.11", "1.80"],  # shot and frame: 1.8 and 1.80 are two
            ["shot1.8", "shot1.9", "shot1.10"],
        ],
    )
    def test_decimal_numbers_sort_by_value(self, tmp_path: Path, stems: list[str]) -> None:
        for stem in reversed(stems):
            save(tmp_path / f"{stem}.png")
        assert list(ImageFolder(tmp_path).names) == [f"{stem}.png" for stem in stems]

    @given(st.data())
    def test_any_names_have_one_order(self, data: st.DataObject) -> None:
        names = data.draw(st.lists(st.text("aB1۲².-", max_size=8), unique=True))
        shuffled = data.draw(st.permutations(names))
        assert sorted(names, key=natural_key) == sorted(shuffled, key=natural_key)

    def test_hidden_and_other_files_and_folders_do_not_count(self, tmp_path: Path) -> None:
        save(tmp_path / "1.png")
        save(tmp_path / "._1.jpg", format="JPEG")
        (tmp_path / "notes.txt").write_text("x")
        (tmp_path / "2.png").mkdir()
        assert list(ImageFolder(tmp_path).names) == ["1.png"]


class TestPixels:
    @pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "TIFF", "webp"])
    def test_every_lossless_format_gives_rgb(self, tmp_path: Path, suffix: str) -> None:
        values = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
        save(tmp_path / f"1.{suffix}", values, lossless=True)  # only WebP looks at it
        source = ImageFolder(tmp_path)
        frame = source[0]
        np.testing.assert_array_equal(frame, values)
        assert frame.dtype == np.uint8
        assert (frame.flags.c_contiguous, frame.flags.writeable) == (True, False)
        assert source.size == (4, 6)
        assert source.times is None

    @pytest.mark.parametrize("suffix", ["jpg", "JPEG"])
    def test_jpeg(self, tmp_path: Path, suffix: str) -> None:
        save(tmp_path / f"1.{suffix}", np.full((8, 8, 3), (200, 30, 60), np.uint8), quality=95)
        assert np.abs(ImageFolder(tmp_path)[0].astype(int) - (200, 30, 60)).max() < 6

    @pytest.mark.parametrize("mode", ["L", "LA", "1"])
    def test_grey_is_repeated(self, tmp_path: Path, mode: str) -> None:
        save(tmp_path / "1.png", np.array([[0, 255]], np.uint8), mode)
        np.testing.assert_array_equal(ImageFolder(tmp_path)[0], [[[0, 0, 0], [255, 255, 255]]])

    def test_alpha_is_dropped_not_blended(self, tmp_path: Path) -> None:
        Image.fromarray(np.array([[[10, 20, 30, 0]]], np.uint8)).save(tmp_path / "1.png")
        np.testing.assert_array_equal(ImageFolder(tmp_path)[0], [[[10, 20, 30]]])

    def test_palette_with_and_without_transparency(self, tmp_path: Path) -> None:
        image = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
        image.putpalette([250, 0, 0, 0, 0, 250])
        image.save(tmp_path / "1.png")
        image.save(tmp_path / "2.png", transparency=bytes([0, 128]))
        for frame in ImageFolder(tmp_path):
            np.testing.assert_array_equal(frame, [[[250, 0, 0], [0, 0, 250]]])

    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
    def test_exif_rotation_is_honoured(self, tmp_path: Path, suffix: str) -> None:
        values = np.zeros((16, 32, 3), np.uint8)
        values[:8, :8] = 255
        exif = Image.Exif()
        exif[ORIENTATION] = 6  # to be shown a quarter clockwise: the top left goes to the top right
        Image.fromarray(values).save(tmp_path / f"1.{suffix}", exif=exif)
        frame = ImageFolder(tmp_path)[0]
        assert frame.shape == (32, 16, 3)
        assert frame[:6, -6:].min() > 200
        assert frame[:6, :6].max() < 50


class TestOtherFiles:
    """What is in the folder and cannot be a frame of this video."""

    @pytest.mark.parametrize("suffix", ["HEIC", "ppm", "pgm", "gif", "avif", "jp2", "exr", "dng", "jxl", "tga"])
    def test_kinds_that_are_not_read_are_named(self, tmp_path: Path, suffix: str) -> None:
        for k in (1, 2, 4):
            save(tmp_path / f"IMG_000{k}.jpg")
        (tmp_path / f"IMG_0003.{suffix}").write_bytes(b"x")
        (tmp_path / "notes.txt").write_text("x")
        source = ImageFolder(tmp_path)
        assert len(source) == 3
        assert source.select([0]).notes == source.notes
        (note,) = source.notes
        assert (note.code, note.left_out) == ("image-not-read", 1)
        assert f"IMG_0003.{suffix}: its kind is not read: convert" in note.message

    def test_a_run_refuses_them_or_leaves_them_out(self, tmp_path: Path) -> None:
        save(tmp_path / "1.png")
        (tmp_path / "2.heic").write_bytes(b"x")
        source = ImageFolder(tmp_path)
        with pytest.raises(FrameError, match=r"2\.heic: its kind is not read.*\(on_bad_item=skip leaves it out\)"):
            report_source(source, RunLog("error"))
        log = RunLog("skip")
        report_source(source, log)
        assert [warning.code for warning in log.warnings] == ["image-not-read"]

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("frame-{:06d}.color.png", "frame-{:06d}.depth.png"),
            ("{:05d}_left.png", "{:05d}_right.png"),
            ("left{:04d}.jpg", "right{:04d}.jpg"),
            ("{:04d}L.png", "{:04d}R.png"),
            ("cam0_{:04d}.png", "cam1_{:04d}.png"),
            ("{:05d}.jpg", "{:05d}_mask.png"),
            ("IMG_{:04d}.jpg", "IMG_{:04d} copy.jpg"),
        ],
    )
    @pytest.mark.parametrize("count", [1, 8])
    def test_two_series_are_refused(self, tmp_path: Path, first: str, second: str, count: int) -> None:
        for k in range(8):
            save(tmp_path / first.format(k))
        for k in range(count):
            save(tmp_path / second.format(k))
        with pytest.raises(FrameError, match=r"holds .* and .*, two series of images: give each a folder of its own"):
            ImageFolder(tmp_path)

    def test_an_image_without_a_number_among_numbered_frames(self, tmp_path: Path) -> None:
        for name in ("0001.png", "0002.png", "mask.png"):
            save(tmp_path / name)
        with pytest.raises(FrameError, match=r"holds mask\.png among numbered frames such as 0001\.png: move"):
            ImageFolder(tmp_path)

    @pytest.mark.parametrize(
        "names",
        [
            ["a.png", "b.png", "c.png"],
            ["IMG_0001.jpg", "IMG_0002-edited.jpg", "DSC_0003.jpg"],
            ["2024-01-01_12-59-59.png", "2024-01-01_13-00-00.png", "2024-01-02_13-00-00.png"],
            ["3fa9c1.png", "a91b.png", "77d0e.png", "c0ffee1.png", "9b1.png"],
            ["clip1_0001.png", "clip2_0001.png"],
            ["Frame1.png", "frame2.png"],
        ],
    )
    def test_one_series(self, tmp_path: Path, names: list[str]) -> None:
        for name in names:
            save(tmp_path / name)
        assert sorted(ImageFolder(tmp_path).names) == sorted(names)


class TestDeepColour:
    """16-bit colour gets one window for the folder, as deep grey does."""

    @staticmethod
    def colours() -> NDArray[np.uint16]:
        return np.random.default_rng(0).integers(0, 4096, (16, 32, 3)).astype(np.uint16)

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    @pytest.mark.parametrize("channels", [3, 4])
    def test_12_bits_keep_their_steps(self, tmp_path: Path, suffix: str, channels: int) -> None:
        values = self.colours()
        stored = values if channels == 3 else np.dstack([values, np.full((16, 32), 65535, np.uint16)])
        for k in range(3):
            cv2.imwrite(str(tmp_path / f"{k}.{suffix}"), stored[..., [2, 1, 0, 3][:channels]])
        source = ImageFolder(tmp_path)
        np.testing.assert_allclose(source[1], values / 4095 * 255, atol=1.5)
        assert source[1].dtype == np.uint8
        (note,) = source.notes
        assert (note.code, note.left_out) == ("deep-range", 0)
        assert f"the brightest value of its 16-bit images is {values.max()} of 65535" in note.message

    def test_the_full_range_is_nothing_to_speak_of(self, tmp_path: Path) -> None:
        values = self.colours() * 16
        cv2.imwrite(str(tmp_path / "0.png"), values[..., ::-1])
        source = ImageFolder(tmp_path)
        np.testing.assert_allclose(source[0], values / 65535 * 255, atol=1.5)
        assert source.notes == ()

    def test_pages_of_a_stack(self, tmp_path: Path) -> None:
        values = self.colours()
        cv2.imwritemulti(str(tmp_path / "s.tif"), [values[..., ::-1], values[::-1, :, ::-1]])
        with TiffPages(tmp_path / "s.tif") as source:
            np.testing.assert_allclose(source[1], values[::-1] / 4095 * 255, atol=1.5)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_turned_by_its_orientation(self, tmp_path: Path, orientation: int, suffix: str) -> None:
        values = self.colours()
        (tmp_path / "8").mkdir()
        (tmp_path / "16").mkdir()
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        shallow = (values >> 4).astype(np.uint8)
        Image.fromarray(shallow).save(tmp_path / "8" / f"0.{suffix}", exif=exif)
        deep = tmp_path / "16" / f"0.{suffix}"
        if suffix == "png":
            cv2.imwrite(str(deep), values[..., ::-1])
            data, mark = deep.read_bytes(), exif.tobytes()[6:]
            chunk = b"eXIf" + mark
            size, check = len(mark).to_bytes(4, "big"), zlib.crc32(chunk).to_bytes(4, "big")
            deep.write_bytes(data[:33] + size + chunk + check + data[33:])
        else:
            tifffile = pytest.importorskip("tifffile")
            tifffile.imwrite(deep, values, photometric="rgb", extratags=[(ORIENTATION, "H", 1, orientation, True)])
        assert np.abs(ImageFolder(deep.parent)[0].astype(int) - ImageFolder(tmp_path / "8")[0]).max() <= 2


class TestDeepGrey:
    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_one_window_for_the_whole_folder(self, tmp_path: Path, suffix: str) -> None:
        save_deep(tmp_path / f"1.{suffix}", np.full((4, 6), 1000, np.uint16))
        save_deep(tmp_path / f"2.{suffix}", np.full((4, 6), 1500, np.uint16))
        save_deep(tmp_path / f"3.{suffix}", np.full((4, 6), 2000, np.uint16))
        source = ImageFolder(tmp_path)
        assert [frame.max() for frame in source] == [0, 128, 255]
        assert [frame.max() for frame in source.select([1])] == [128]

    def test_float_with_gaps(self, tmp_path: Path) -> None:
        save_deep(tmp_path / "1.tif", np.array([[-1.0, 1.0, np.nan]], np.float32))
        np.testing.assert_array_equal(ImageFolder(tmp_path)[0][..., 0], [[0, 255, 0]])

    def test_a_constant_folder_is_black(self, tmp_path: Path) -> None:
        save_deep(tmp_path / "1.png", np.full((4, 6), 777, np.uint16))
        assert not ImageFolder(tmp_path)[0].any()

    def test_an_unreadable_sample_does_not_hinder_the_others(self, tmp_path: Path) -> None:
        save_deep(tmp_path / "1.png", np.arange(24, dtype=np.uint16).reshape(4, 6) * 100)
        (tmp_path / "2.png").write_bytes(b"no image")
        source = ImageFolder(tmp_path)
        assert source[0].max() == 255
        with pytest.raises(FrameError, match=r"2\.png"):
            source[1]


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 112 72\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Is there once Ghostscript has been started."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # looked for anew
    return tmp_path / "started"


class TestOtherKinds:
    """A file that is called an image is opened only as one of the kinds that are read."""

    @pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp"])
    def test_postscript_starts_no_program(self, tmp_path: Path, started: Path, suffix: str) -> None:
        path = tmp_path / "clip" / f"0.{suffix}"
        path.parent.mkdir()
        path.write_bytes(POSTSCRIPT)
        with pytest.raises(FrameError, match=rf"0\.{suffix} cannot be read as an image \(not a PNG, .* or BMP file\)"):
            ImageFolder(path.parent)[0]
        with pytest.raises(FrameError, match="not a TIFF file"):
            TiffPages(path)
        with pytest.raises(PromptError, match=r"not a PNG, .* file"):
            read_label_png(path)
        assert not started.exists()

    @pytest.mark.parametrize("kind", ["GIF", "PPM", "TGA", "ICO", "PCX", "SGI", "AVIF", "JPEG2000", "DDS", "PDF"])
    def test_others_are_refused_in_one_line(self, tmp_path: Path, kind: str) -> None:
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "0.png", format=kind)
        with pytest.raises(FrameError, match=r"0\.png cannot be read as an image \(not a PNG, .*restore the file"):
            ImageFolder(tmp_path)[0]

    def test_a_wrong_name_for_a_kind_that_is_read(self, tmp_path: Path) -> None:
        save(tmp_path / "0.png", np.full((4, 6, 3), 7, np.uint8), format="BMP")
        assert (ImageFolder(tmp_path)[0] == 7).all()


class TestFaults:
    def test_an_empty_folder_says_what_it_looked_for(self, tmp_path: Path) -> None:
        with pytest.raises(FrameError, match=r"has no images \(jpg, .*webp.*give a folder"):
            ImageFolder(tmp_path)

    def test_the_sheet_of_a_run_folder_is_no_video(self, tmp_path: Path) -> None:
        for name in ("manifest.json", "summary.json"):
            (tmp_path / name).write_text("{}")
        for _ in range(2):
            with pytest.raises(FrameError, match="is a run folder"):
                ImageFolder(tmp_path)
            save(tmp_path / "sheet.png")

    def test_images_in_a_subfolder_are_pointed_at(self, tmp_path: Path) -> None:
        (tmp_path / "rgb").mkdir()
        save(tmp_path / "rgb" / "1.png")
        with pytest.raises(FrameError, match=r"did you mean .*rgb"):
            ImageFolder(tmp_path)

    def test_not_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FrameError, match="cannot be listed"):
            ImageFolder(tmp_path / "nothing")

    def test_two_images_of_one_frame(self, tmp_path: Path) -> None:
        save(tmp_path / "0001.jpg")
        save(tmp_path / "0001.png")
        with pytest.raises(FrameError, match=r"0001\.jpg and 0001\.png: keep one image per frame"):
            ImageFolder(tmp_path)

    def test_another_size_names_file_and_sizes(self, tmp_path: Path) -> None:
        save(tmp_path / "1.png")
        save(tmp_path / "2.png", grey_ramp(5, 6))
        source = ImageFolder(tmp_path)
        with pytest.raises(FrameError, match=r"2\.png is 6×5 pixels, but the first frame is 6×4 pixels"):
            source[1]
        assert source[0].shape == (4, 6, 3)

    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp"])
    def test_a_truncated_image_names_the_file(self, tmp_path: Path, suffix: str) -> None:
        values = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
        save(tmp_path / f"1.{suffix}", values)
        path = save(tmp_path / f"2.{suffix}", values)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
        source = ImageFolder(tmp_path)
        assert source[0].shape == (40, 60, 3)
        with pytest.raises(FrameError, match=rf"2\.{suffix} cannot be read as an image .*restore the file"):
            source[1]

    @given(data=st.binary(max_size=200))
    def test_any_bytes_are_an_image_or_a_frame_error(
        self, tmp_path_factory: pytest.TempPathFactory, data: bytes
    ) -> None:
        folder = tmp_path_factory.mktemp("bytes")
        (folder / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
        with pytest.raises(FrameError):
            ImageFolder(folder)[0]

    def test_a_file_that_vanished(self, tmp_path: Path) -> None:
        source = ImageFolder(save(tmp_path / "1.png").parent)
        (tmp_path / "1.png").unlink()
        with pytest.raises(FrameError, match="No such file"):
            source[0]

    def test_the_first_readable_image_decides_on_the_size(self, tmp_path: Path) -> None:
        (tmp_path / "1.png").write_bytes(b"no image")
        save(tmp_path / "2.png", grey_ramp(5, 6))
        assert ImageFolder(tmp_path).size == (5, 6)

    def test_no_readable_image(self, tmp_path: Path) -> None:
        (tmp_path / "1.png").write_bytes(b"no image")
        with pytest.raises(FrameError, match=r"none of the 1 images can be read; the first: .*1\.png"):
            assert ImageFolder(tmp_path).size


class TestCache:
    def test_bytes_are_bounded(self, tmp_path: Path) -> None:
        for k in range(6):
            save(tmp_path / f"{k}.png")
        source = ImageFolder(tmp_path, cache_bytes=200)  # a frame has 72 bytes
        for frame in source:
            assert frame.nbytes == 72
            assert source.cache.nbytes <= 200
        assert len(source.cache) == 2
        source.close()
        assert source.cache.nbytes == 0

    def test_a_second_pass_does_not_read_the_files(self, tmp_path: Path) -> None:
        path = save(tmp_path / "1.png")
        source = ImageFolder(tmp_path)
        first = source[0]
        path.unlink()
        assert source[0] is first


class TestTiffPages:
    def pages(self, tmp_path: Path, values: list[NDArray[Any]]) -> Path:
        first, *rest = [Image.fromarray(page) for page in values]
        first.save(tmp_path / "stack.tif", save_all=True, append_images=rest)
        return tmp_path / "stack.tif"

    def test_pages_are_frames_in_any_order(self, tmp_path: Path) -> None:
        path = self.pages(tmp_path, [np.full((4, 6), k * 10, np.uint8) for k in range(5)])
        with TiffPages(path, cache_bytes=0) as source:
            assert list(source.names)[:2] == ["frame_000000", "frame_000001"]
            assert [int(source[k][0, 0, 0]) for k in (4, 0, 3, 1, 2)] == [40, 0, 30, 10, 20]
            assert source.path == path

    def test_deep_pages_share_a_window(self, tmp_path: Path) -> None:
        path = self.pages(tmp_path, [np.full((4, 6), 500 + k * 100, np.uint16) for k in range(3)])
        with TiffPages(path) as source:
            np.testing.assert_allclose([frame.max() for frame in source], [0, 127.5, 255], atol=0.5)

    def test_a_page_of_another_size(self, tmp_path: Path) -> None:
        path = self.pages(tmp_path, [grey_ramp(), grey_ramp(5, 6)])
        with TiffPages(path) as source, pytest.raises(FrameError, match=r"stack\.tif page 1 is 6×5 pixels"):
            source[1]

    def test_not_a_tiff(self, tmp_path: Path) -> None:
        (tmp_path / "x.tif").write_bytes(b"no tiff")
        with pytest.raises(FrameError, match=r"x\.tif cannot be read as a TIFF"):
            TiffPages(tmp_path / "x.tif")


def damaged(file: Path, damage: str) -> None:
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        middle = len(content) // 2
        file.write_bytes(
            content[:middle] + bytes(value ^ 0x55 for value in content[middle : middle + 40]) + content[middle + 40 :]
        )
    elif damage == "other size":
        with Image.open(file) as image:
            image.resize((20, 10)).save(file)
    else:
        file.write_bytes(b"x")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize("damage", ["cut", "other size", "no image", "changed"])
def test_damaged_frames_are_found_without_decoding_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, damage: str
) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    for k in range(6):
        Image.fromarray(picture).save(tmp_path / f"{k}{suffix}")
    damaged(tmp_path / f"4{suffix}", damage)
    source = open_frames(tmp_path)
    unreadable = exclude_unreadable(open_frames(tmp_path))[1]
    if damage != "changed":  # of the kinds, PNG alone notices changed bytes
        assert [frame for frame, _, _ in unreadable] == [4]
    decoded: list[int] = []
    read = ImageFolder._read

    def noted(folder: ImageFolder, position: int) -> RGBFrame:
        decoded.append(position)
        return read(folder, position)

    monkeypatch.setattr(ImageFolder, "_read", noted)
    if not unreadable:
        check_readable(source)
        assert decoded == []
        return
    with pytest.raises(FrameError) as refused:
        check_readable(source.select([1, 4, 5]))
    assert str(refused.value) == f"{unreadable[0][2]} (on_bad_item=skip leaves unreadable frames out)"
    assert decoded == [4]


def test_what_only_looks_damaged_is_a_frame(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "0.png")
    Image.fromarray(np.zeros((60, 40, 3), np.uint8)).save(tmp_path / "1.jpg", exif=turned)
    with (tmp_path / "0.png").open("ab") as file:
        file.write(bytes(100_000))  # a camera's own data behind the picture
    check_readable(open_frames(tmp_path))


def png_of_size(width: int, height: int, *, colour: int = 2, more: bytes = b"") -> bytes:
    """A PNG that promises so many pixels and has a few."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, colour, 0, 0, 0])
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("colour", [0, 2, 6])
def test_more_pixels_than_a_file_can_hold_are_refused_before_they_are_allocated(tmp_path: Path, colour: int) -> None:
    (tmp_path / "0.png").write_bytes(png_of_size(12_900, 12_900, colour=colour))
    with pytest.raises(FrameError, match=r"0\.png cannot be read .*12900×12900 pixels do not fit into the file"):
        ImageFolder(tmp_path)[0]
    with pytest.raises(PromptError, match="do not fit into the file"):
        read_label_png(tmp_path / "0.png")


def test_odd_chunks_of_a_png_are_one_line(tmp_path: Path) -> None:
    profile = b"a\0"  # a colour profile without the byte that says how it is compressed
    chunk = len(profile).to_bytes(4, "big") + b"iCCP" + profile + zlib.crc32(b"iCCP" + profile).to_bytes(4, "big")
    (tmp_path / "0.png").write_bytes(png_of_size(8, 8, more=chunk))
    with pytest.raises(PromptError, match=r"0\.png: cannot be read as an image"):
        read_label_png(tmp_path / "0.png")


def test_a_profile_that_ends_too_early_is_a_frame_that_cannot_be_read(tmp_path: Path) -> None:
    """Pillow reads behind the end of such a chunk of a PNG: IndexError."""
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "0.png")
    content = (tmp_path / "0.png").read_bytes()
    chunk = b"iCCPx\0"
    broken = (2).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (tmp_path / "0.png").write_bytes(content[:-12] + broken + content[-12:])
    with pytest.raises(FrameError, match=r"0\.png"):
        _ = ImageFolder(tmp_path)[0]


def test_a_link_to_a_file_that_is_gone_is_a_frame_that_cannot_be_read(tmp_path: Path) -> None:
    for k in (0, 2):
        save(tmp_path / f"{k}.png")
    (tmp_path / "1.png").symlink_to(tmp_path / "gone.png")
    folder = ImageFolder(tmp_path)
    assert list(folder.names) == ["0.png", "1.png", "2.png"]
    assert "1.png cannot be read as an image" in str(folder.fault(1))
    with pytest.raises(FrameError, match=r"1\.png cannot be read"):
        folder[1]


def test_both_spellings_of_a_letter_are_one(tmp_path: Path) -> None:
    composed, decomposed = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    files = [tmp_path / f"{letter}_{k}.png" for k, letter in enumerate((composed, decomposed, composed))]
    assert in_order(reversed(files)) == files


def test_a_copy_beside_its_original_is_no_frame(tmp_path: Path) -> None:
    for name in ("1", "2", "2 (1)", "3"):
        save(tmp_path / f"{name}.png")
    with pytest.raises(FrameError, match=r"holds 2\.png and 2 \(1\)\.png, a copy: keep one image per frame"):
        ImageFolder(tmp_path)
    for name in ("1", "2", "3"):
        (tmp_path / f"{name}.png").rename(tmp_path / f"a ({name}).png")
    (tmp_path / "2 (1).png").unlink()
    assert len(ImageFolder(tmp_path)) == 3
