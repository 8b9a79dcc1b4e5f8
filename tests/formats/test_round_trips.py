"""Every format that is both written and read gives back what it can hold, to the pixel."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackweave.errors import InputError, SettingError
from trackweave.formats.registry import (
    FORMATS,
    TrackFormat,
    find_format,
    formats_table,
    read_video,
    recognise,
    write_video,
)
from trackweave.formats.videos import TableVideo, TracksVideo, collected
from trackweave.masks.packed import PackedMasks
from trackweave.structures.format_settings import FormatSettings, Shapes
from trackweave.structures.run_log import RunLog
from trackweave.structures.tracked_video import TrackedVideo, VideoInfo
from trackweave.structures.tracks import Tracks

BOTH = [name for name, kind in FORMATS.items() if kind.reader and kind.writer]
ROOT = Path(__file__).parents[2]
CLASSES = {1: "car", 3: "person"}
EIGHTHS = st.integers(0, 80).map(lambda value: value / 8)


@contextmanager
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as path:
        yield Path(path)


def apart(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The same without overlap: the earlier mask has the pixel."""
    before = np.concatenate([np.zeros_like(masks[:1]), np.logical_or.accumulate(masks[:-1])])
    return np.asarray(masks & ~before)


@st.composite
def videos(draw: st.DrawFn, kind: TrackFormat) -> TracksVideo:
    """A video that the format can hold: a few frames, some empty; objects with masks, of ids and classes."""
    height, width, count = draw(st.integers(3, 12)), draw(st.integers(3, 12)), draw(st.integers(1, 4))
    step = draw(st.integers(1, 2)) if "numbers" in kind.video else 1
    indices = [step * k for k in range(count)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.1, 0.5, 0.95]))
    ids = draw(st.lists(st.integers(1, 254), min_size=1, max_size=4, unique=True))
    classes = dict(zip(ids, draw(st.lists(st.sampled_from([-1, 1, 3]), min_size=4, max_size=4)), strict=False))
    score = dict(zip(ids, draw(st.lists(EIGHTHS, min_size=4, max_size=4)), strict=False))
    parts = []
    for index in indices:
        present = sorted(draw(st.lists(st.sampled_from(ids), unique=True)))
        shapes = rng.random((len(present), height, width)) < density
        shapes = apart(shapes) if len(present) and not kind.overlap else shapes
        masks = PackedMasks.from_bool(shapes)
        seen = masks.areas > 0
        present, masks = [track_id for track_id, there in zip(present, seen, strict=True) if there], masks[seen]
        if not present:
            continue
        parts.append(
            Tracks.from_columns(
                [index] * len(present),
                present,
                masks.boxes,
                [min(score[track_id] / 10, 1) for track_id in present] if kind.scores else None,
                [classes[track_id] for track_id in present] if kind.classes else None,
                masks if kind.masks else None,
                [2] * len(present) if kind.levels else None,
            )
        )
    tracks = Tracks.concat(parts)
    if not len(tracks):
        tracks = Tracks.from_columns([0], ids[:1], [[0, 0, 2, 2]], masks=_square(height, width) if kind.masks else None)
        tracks = replace(tracks, level=np.array([2]) if kind.levels else None)
    names = [f"{n:05d}.jpg" for n in indices]
    info = VideoInfo("street", indices, names, (height, width), [n / 10 for n in indices], 10.0, CLASSES)
    return TracksVideo(tracks, info)


def _square(height: int, width: int) -> PackedMasks:
    mask = np.zeros((1, height, width), np.bool_)
    mask[0, :2, :2] = True
    return PackedMasks.from_bool(mask)


def class_names(video: TrackedVideo, tracks: Tracks) -> list[str]:
    return [video.info.class_name(number) for number in tracks.class_id.tolist()]


def assert_same(read: TrackedVideo, video: TrackedVideo, kind: TrackFormat, shift: int = 0) -> None:
    """What was read is what was written, as far as the format holds it."""
    there, expected = collected(read), collected(video)
    kept = kind.video.split()
    if "numbers" not in kept and len(there):
        assert there.frame.tolist() == expected.frame.tolist()
    np.testing.assert_array_equal(there.track_id, expected.track_id)
    np.testing.assert_array_equal(there.frame, expected.frame)
    np.testing.assert_allclose(there.xyxy, expected.xyxy, atol=1e-3)
    if kind.masks:
        assert there.masks == expected.masks
    if kind.scores:
        np.testing.assert_allclose(there.score, expected.score, atol=1e-6)
    if kind.levels:
        np.testing.assert_array_equal(there.level, expected.level)
    for fact, same in {
        "name": read.info.name == video.info.name,
        "size": read.info.size == video.info.size,
        "names": list(map(_stem, read.info.names)) == list(map(_stem, video.info.names)),
        "times": read.info.times is not None and np.allclose(read.info.times, np.array(video.info.times)),
    }.items():
        assert same or fact not in kept, fact


def _stem(name: str) -> str:
    return name.removesuffix(".jpg")


def hints_for(video: TrackedVideo, kind: TrackFormat) -> VideoInfo | None:
    """What a user has to say besides: the frames, for formats that cannot name them."""
    kept = kind.video.split()
    has_shares = kind.name in ("yolo", "label-studio")
    return video.info if has_shares or ("numbers" not in kept and "names" not in kept) else None


SHAPES = [
    *[(name, "auto") for name in BOTH if name != "yolo"],
    *[(name, shapes) for name in ("cvat", "labelme", "coco") for shapes in ("polygons", "masks", "boxes")],
    *[("yolo", "polygons"), ("yolo", "boxes")],
]


@pytest.mark.parametrize(("name", "shapes"), SHAPES)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_written_is_read(name: str, shapes: Shapes, data: st.DataObject) -> None:
    kind = FORMATS[name] if shapes != "boxes" else replace(FORMATS[name], masks=False)
    video = data.draw(videos(kind))
    with folder() as path:
        target = path / f"tracks{kind.suffix}"
        log = RunLog(package=None)
        files = write_video(video, target, kind, FormatSettings(shapes=shapes), log)
        assert all(file.exists() for file in files)
        read = read_video(target, None if kind.recognised else name, hints=hints_for(video, kind))
        assert_same(read, video, kind)
        if kind.classes:
            assert class_names(read, collected(read)) == [
                kind_of(kind, label) for label in class_names(video, collected(video))
            ]
        lost = {"kitti": ["classes"], "mot": ["class-names"]}.get(kind.name, [])
        assert [warning.code for warning in log.warnings] in ([], lost)


def kind_of(kind: TrackFormat, label: str) -> str:
    """What a format calls a class."""
    names = {
        "kitti": {"object": "misc"},
        "mot": {"car": "class_1", "person": "class_3"},
        "mots": {"person": "pedestrian"},
        "mots-png": {"person": "pedestrian"},
    }
    return names.get(kind.name, {}).get(label, label)


def test_what_a_format_cannot_hold_is_counted(tmp_path: Path) -> None:
    masks = np.zeros((2, 6, 8), np.bool_)
    masks[0, :4, :4], masks[1, 2:, 2:] = True, True
    tracks = Tracks.from_columns(
        [0, 0], [1, 2], [[0, 0, 4, 4], [2, 2, 8, 6]], [1, 0.5], [1, -1], PackedMasks.from_bool(masks), [2, 2]
    )
    log = RunLog(package=None)
    write_video(TracksVideo(tracks), tmp_path / "labels", FORMATS["davis"], log=log)
    found = {warning.code: warning.details["count"] for warning in log.warnings}
    assert found == {"overlap": 1, "levels": 2, "classes": 1, "scores": 1}
    assert f"{tmp_path / 'labels'}: 2 objects lose their level: davis has none" in [one.message for one in log.warnings]
    looked_at = RunLog(package=None)  # from a picture nothing is read
    shown = TracksVideo(tracks)
    shown.pictures = lambda frame: np.zeros((6, 8, 3), np.uint8)
    write_video(shown, tmp_path / "shown", replace(FORMATS["davis"], needs_pictures=True), log=looked_at)
    assert [warning.code for warning in looked_at.warnings] == ["overlap"]


@pytest.mark.parametrize(
    "name", [name for name, kind in FORMATS.items() if kind.reader and kind.writer and kind.classes]
)
def test_what_stands_for_no_class_is_not_lost(name: str, tmp_path: Path) -> None:
    """A format that gives each object a class puts one in where there is none."""
    kind, log = FORMATS[name], RunLog(package=None)
    masks = PackedMasks.from_bool(np.ones((1, 6, 8), np.bool_))
    tracks = Tracks.from_columns([0], [1], masks.boxes, masks=masks)
    path = tmp_path / f"a{kind.suffix}"
    write_video(TracksVideo(tracks, VideoInfo("v", [0], ["a.jpg"], (6, 8))), path, kind, log=log)
    hints = VideoInfo("v", [0], ["a.jpg"], (6, 8))
    read = read_video(path, name, hints=hints)
    assert not any(map(read.info.is_class, collected(read).class_id.tolist()))
    for target in ("sav", "kitti", "mots"):
        if read.has_masks or FORMATS[target].boxes:
            write_video(read, tmp_path / target, FORMATS[target], log=log)
    assert [one.message for one in log.warnings if one.code == "classes"] == []


def test_a_class_named_object_is_kept_and_others_are_counted(tmp_path: Path) -> None:
    info = VideoInfo("v", [0], ["a.jpg"], (6, 8), class_names={1: "object", 2: "misc"})
    masks = PackedMasks.from_bool(np.eye(2, dtype=np.bool_)[:, :, None].repeat(8, 2))
    masks = PackedMasks.from_bool(np.pad(masks.to_bool(), ((0, 0), (0, 4), (0, 0))))
    video = TracksVideo(Tracks.from_columns([0, 0], [1, 2], masks.boxes, class_id=[1, 2], masks=masks), info)
    write_video(video, tmp_path / "a.json", FORMATS["coco-vid"])
    again = read_video(tmp_path / "a.json", "coco-vid")
    assert class_names(again, collected(again)) == ["object", "misc"]
    log = RunLog(package=None)
    write_video(again, tmp_path / "labels", FORMATS["sav"], log=log)
    assert [one.details["count"] for one in log.warnings if one.code == "classes"] == [1]


def test_what_was_prompted_has_no_level_to_lose(tmp_path: Path) -> None:
    masks = PackedMasks.from_bool(np.ones((1, 6, 8), np.bool_))
    for level, lost in ((0, []), (2, ["levels"])):
        tracks = Tracks.from_columns([0], [1], masks.boxes, masks=masks, level=[level])
        log = RunLog(package=None)
        write_video(TracksVideo(tracks), tmp_path / f"labels{level}", FORMATS["davis"], log=log)
        assert [one.code for one in log.warnings] == lost


def test_masks_cannot_be_made_of_boxes(tmp_path: Path) -> None:
    video = TracksVideo(Tracks.from_columns([0], [1], [[0, 0, 2, 2]]))
    with pytest.raises(SettingError, match="davis has masks, and video has boxes alone: choose mot"):
        write_video(video, tmp_path / "labels", FORMATS["davis"])
    assert not (tmp_path / "labels").exists()


def test_masks_of_another_scale_are_written_at_the_size_of_the_frames(tmp_path: Path) -> None:
    masks = PackedMasks.from_bool(np.ones((1, 3, 4), np.bool_))
    tracks = Tracks.from_columns([0], [1], [[0, 0, 8, 6]], masks=masks)
    video = TracksVideo(tracks, VideoInfo("v", [0], ["a.png"], (6, 8)))
    write_video(video, tmp_path / "a.csv", FORMATS["csv"])
    read = collected(read_video(tmp_path / "a.csv"))
    assert read.masks is not None
    assert read.masks.size == (6, 8)
    assert read.masks.areas.tolist() == [48]


def test_a_suffix_says_the_format() -> None:
    assert find_format(None, Path("a.parquet")).name == "parquet"
    with pytest.raises(SettingError, match=r"a\.txt: name its format with to=: mot"):
        find_format(None, Path("a.txt"))


def test_what_is_no_track_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        recognise(tmp_path / "nothing")
    (tmp_path / "a.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="no format of tracks is recognised"):
        read_video(tmp_path / "a.json")
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x20ftypisom\0\0\2\0\xe8\xff")
    with pytest.raises(InputError, match=r"clip\.mp4: no format of tracks is recognised"):
        read_video(tmp_path / "clip.mp4")
    with pytest.raises(SettingError, match=r"not from 'gif'$"):
        read_video(tmp_path / "clip.mp4", "gif")


def test_the_page_has_the_table_of_the_registry() -> None:
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    assert formats_table() in page
    assert set(re.findall(r"^\| `([\w-]+)` \|", page, re.M)) >= set(FORMATS)


def test_the_table_says_what_is_read_frame_by_frame(tmp_path: Path) -> None:
    masks = PackedMasks.from_bool(np.ones((1, 6, 8), np.bool_))
    info = VideoInfo("v", [0], ["a.png"], (6, 8), None, 10, {1: "car"})
    video = TracksVideo(Tracks.from_columns([0], [1], [[0, 0, 8, 6]], [1], [1], masks), info)
    for name, kind in FORMATS.items():
        if kind.reader:
            path = tmp_path / name if not kind.suffix else tmp_path / f"{name}{kind.suffix}"
            write_video(video, path, kind, log=RunLog(package=None))
            read = read_video(path, name, hints=info)
            is_whole = isinstance(getattr(read, "_video", read), TableVideo | TracksVideo)
            assert is_whole is not kind.streamed_reading, (name, type(read))


def test_settings_are_checked() -> None:
    with pytest.raises(SettingError, match="shapes"):
        FormatSettings.checked(shapes="lines")


CLASSED = sorted(name for name, kind in FORMATS.items() if kind.reader and kind.writer and kind.classes and kind.boxes)


def classed(names: dict[int, str], indices: Sequence[int] = (0, 1)) -> TracksVideo:
    """Objects 1, 2, 3 of classes 0, 7, 1 on the last frame."""
    boxes = np.array([[5, 5, 20, 20], [30, 5, 40, 20], [5, 30, 20, 40]], np.float32)
    tracks = Tracks.from_columns([indices[-1]] * 3, [1, 2, 3], boxes, None, [0, 7, 1])
    files = [f"{index:05d}.jpg" for index in indices]
    return TracksVideo(tracks, VideoInfo("v", indices, files, (48, 64), None, 10, names))


@pytest.mark.parametrize("name", [name for name in CLASSED if name not in ("mot", "kitti")])
@pytest.mark.parametrize("names", [{7: "cat"}, {1: "cat"}, {0: "two\nlines", 1: "a;b,c", 7: "x"}])
def test_classes_some_of_which_have_names(tmp_path: Path, name: str, names: dict[int, str]) -> None:
    """A name that has no number there must not be given one that another class has."""
    video = classed(names)
    (path, *_) = write_video(video, tmp_path / f"out{FORMATS[name].suffix}", FORMATS[name])
    read = read_video(tmp_path / "out" if (tmp_path / "out").is_dir() else path, name, hints=video.info)
    found = {track_id: read.info.class_name(span.class_id) for track_id, span in read.spans().items()}
    wanted = {track_id: video.info.class_name(number) for track_id, number in ((1, 0), (2, 7), (3, 1))}
    if name == "yolo":  # a name is a line there
        wanted = {track_id: called.replace("\n", " ") for track_id, called in wanted.items()}
    assert found == wanted


def test_what_is_lost_of_names_and_numbers_is_said(tmp_path: Path) -> None:
    log = RunLog(package=None)
    write_video(classed({7: "cat"}), tmp_path / "t.txt", FORMATS["mot"], log=log)
    (lost,) = log.warnings
    assert "1 objects lose the name of their class: mot has its number alone" in lost.message
    masks = PackedMasks.from_bool(np.ones((1, 48, 64), np.bool_))
    tracks = Tracks.from_columns([9], [1], masks.boxes, None, [5], masks)
    video = TracksVideo(tracks, replace(classed({5: "cat"}).info, indices=[4, 9]))
    for name, text in (
        ("mots", "1 objects lose the name of their class: MOTS"),
        ("sav", "2 frames lose their numbers"),
    ):
        log = RunLog(package=None)
        write_video(video, tmp_path / f"out{FORMATS[name].suffix}", FORMATS[name], log=log)
        assert any(text in one.message for one in log.warnings)
