"""Items: found in folders, by patterns, in lists and tables, as scenes; and known again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.plans.toy import write_sequence
from trackweave.errors import InputError, SettingError
from trackweave.plans.items import PlanItem, digest, find_items, signature
from trackweave.plans.settings import load_plan


def items_of(*inputs: Any, kind: str = "boxes") -> list[PlanItem]:
    return find_items(load_plan({"kind": kind, "inputs": list(inputs), "output": "out"}))


def names_of(*inputs: Any) -> list[str]:
    return [item.name for item in items_of(*inputs)]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for name in ("a2.mp4", "a10.mp4", "b.mp4", ".hidden.mp4"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_patterns_paths_and_lists(clips: Path) -> None:
    assert names_of(f"{clips}/*.mp4") == ["a2", "a10", "b"]
    (clips / "list.txt").write_text(f"# cameras\n{clips}/b.mp4\n\n{clips}/gone.mp4\n")
    assert names_of({"paths_from": str(clips / "list.txt")}) == ["b", "gone"]  # what is gone fails alone, later
    with pytest.raises(InputError, match=r"entry 1: .*\*\.avi: there is nothing"):
        names_of(f"{clips}/*.avi")


def test_folders_of_frames_are_called_by_their_scene(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "frames").mkdir(parents=True)
    assert names_of(f"{tmp_path}/*/frames") == ["one", "two"]
    assert names_of({"path": f"{tmp_path}/*/frames", "name": "cam_{stem}"}) == ["cam_one", "cam_two"]


def test_names_have_no_secrets() -> None:
    cameras = ["rtsp://me:hunter2@cam1/main", "rtsp://me:hunter2@cam2/main", "rtsp://me:hunter2@10.0.0.5"]
    asked = {"path": "https://me:hunter2@host/x.mp4?token=hunter2", "name": "{input}"}
    items = items_of(*cameras, "s3://me:hunter2@bucket/x.mp4", "https://host/y.mp4?key=hunter2", asked)
    assert [item.name for item in items] == [
        *("cam1_main", "cam2_main", "10.0.0.5", "x", "y", "https_host_x.mp4_token_"),
    ]
    assert items[-1].path == asked["path"]


def test_items_of_one_name_get_that_of_their_folder(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "clip.mp4").write_bytes(b"")
    assert names_of(f"{tmp_path}/*/clip.mp4") == ["x_clip", "y_clip"]
    with pytest.raises(SettingError, match="two items are called"):
        names_of(f"{tmp_path}/x/clip.mp4", f"{tmp_path}/x/clip.mp4")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("all", ["s1", "s2", "s10", "t"]),
        ("s1..s9", ["s1", "s2"]),
        (["s1*", "t"], ["s1", "s10", "t"]),
    ],
)
def test_scenes(tmp_path: Path, names: Any, expected: list[str]) -> None:
    for name in ("s1", "s2", "s10", "t"):
        (tmp_path / name).mkdir()
    assert names_of({"scenes": {"root": str(tmp_path), "names": names}}) == expected
    with pytest.raises(InputError, match="has no u"):
        names_of({"scenes": {"root": str(tmp_path), "names": "u"}})


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_have_items_with_settings_of_their_own(tmp_path: Path, suffix: str) -> None:
    table = tmp_path / f"items.{suffix}"
    if suffix == "csv":
        table.write_text("input,name,truth,tracker,tracker.confirm_hits\na.mp4,first,a/gt,sort,2\nb.mp4,,,,\n")
    else:
        columns = {"input": ["a.mp4", "b.mp4"], "name": ["first", None], "truth": ["a/gt", None]}
        pq.write_table(pa.table(columns | {"tracker": ["sort", None], "tracker.confirm_hits": [2, None]}), table)
    first, second = items_of({"table": str(table), "truth": "{name}.txt"})
    assert (first.name, first.files) == ("first", {"input": "a.mp4", "truth": "a/gt"})
    assert (second.name, second.files["truth"]) == ("b", "b.txt")
    assert {key: value.value for key, value in first.values.items()} == {
        "tracker.preset": "sort",
        "tracker.confirm_hits": 2,
    }
    assert first.values["tracker.preset"].origin == f"{table}, row 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\na\n", "row 1: has no `input`"),
        ("input,trackr.preset\na,sort\n", "did you mean tracker.preset"),
        ("input,name\na,b,c\n", "row 1: has more cells than the header"),
    ],
)
def test_a_table_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "items.csv").write_text(text)
    with pytest.raises((InputError, SettingError), match=message):
        items_of({"table": str(tmp_path / "items.csv")})


def test_an_input_is_known_by_its_content_and_what_is_not_read_does_not_count(tmp_path: Path) -> None:
    one, other = (write_sequence(tmp_path / name / "cam") for name in ("one", "other"))
    assert digest("input", str(one), "cam") == digest("input", str(other), "cam")
    assert signature("input", str(one), "cam") == signature("input", str(one), "cam")
    before = signature("input", str(one), "cam")
    (one / "gt" / "gt.txt").write_text("1,1,1,1,1,1,1,1,1")
    assert signature("input", str(one), "cam") == before
    assert digest("truth", str(one), "cam") != digest("truth", str(other), "cam")
    assert digest("truth", str(tmp_path / "other"), "cam") == digest("truth", str(other), "cam")
    (one / "det" / "det.txt").write_text("1,-1,1,1,1,1,0.5")
    assert signature("input", str(one), "cam") != before
    assert digest("input", str(one), "cam") != digest("input", str(other), "cam")
    assert signature("input", str(tmp_path / "gone"), "gone") == ""
    with pytest.raises(InputError, match="does not exist"):
        digest("input", str(tmp_path / "gone"), "gone")
