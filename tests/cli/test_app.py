"""The command line as its user meets it: what it prints, what it exits with, what it leaves behind."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import trackweave
from tests.cli.shell import Shell
from tests.toy_scenes import CROSSING, candidates_of, item, write_candidates, write_frames
from trackweave.cli.app import ASSOC, COMMANDS
from trackweave.cli.export import USED_BY
from trackweave.errors import SettingError
from trackweave.formats.registry import writable
from trackweave.options.commands import LazyCommand
from trackweave.pipelines.masks import track_masks
from trackweave.storage.mask_archive import VideoSegments
from trackweave.structures.format_settings import FormatSettings

SCENE = CROSSING


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    return write_frames(SCENE, tmp_path / "frames")


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    return candidates_of(SCENE, tmp_path / "candidates", range(4))


@pytest.fixture
def truth(tmp_path: Path) -> str:
    return f"replay={SCENE.record(tmp_path / 'truth.npz')}"


def warnings_of(run: Path) -> list[dict[str, Any]]:
    """What the manifest warns of, but that the toy candidates do not bear the frames' names."""
    warnings: list[dict[str, Any]] = json.loads((run / "manifest.json").read_text())["warnings"]
    return [warning for warning in warnings if warning["code"] != "placed-by-index"]


def test_import_and_help_load_nothing_heavy() -> None:
    program = (
        "import sys, trackweave, trackweave.cli.app as cli\n"
        "sys.argv = ['trackweave', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'cv2', 'numba', 'av', 'scipy', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "heavy |= {'pydantic', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "masks" in done.stdout


@pytest.mark.parametrize("group", [COMMANDS, ASSOC], ids=["trackweave", "assoc"])
def test_the_list_of_commands_says_what_the_commands_say(group: Mapping[str, LazyCommand]) -> None:
    for name, command in group.items():
        assert command.load(name).help.partition("\n\n")[0].replace("\n", " ") == command.summary


HELP_OF_EVERY_COMMAND = """
import sys
from trackweave.cli.app import ASSOC, COMMANDS, main
names = [*([name] for name in COMMANDS), *(["assoc", name] for name in ASSOC)]
for name in names:
    sys.argv = ["trackweave", *name, "-h"]
    try:
        main()
    except SystemExit as stop:
        assert stop.code == 0, name
    heavy = {'torch', 'cv2', 'numba', 'av', 'scipy', 'matplotlib'} & set(sys.modules)
    assert not heavy, (name, heavy)
"""


@pytest.mark.parametrize("flags", [[], ["-OO"]], ids=["plain", "without docstrings"])
def test_help_of_a_command_loads_settings_alone(flags: list[str]) -> None:
    command = [sys.executable, *flags, "-c", HELP_OF_EVERY_COMMAND]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_shell_completes_commands_flags_and_choices() -> None:
    def completed(words: str) -> list[str]:
        count = len(words.split(" ")) - 1
        variables = {"_TRACKWEAVE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
        program = "import sys; sys.argv = ['trackweave']; from trackweave.cli.app import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **variables}, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    assert completed("trackweave ex") == ["export"]
    assert completed("trackweave assoc s") == ["simulate"]
    assert completed("trackweave masks --max-p") == ["--max-propagate"]
    assert completed("trackweave masks --prompt-mode ") == ["mask", "box", "auto"]
    assert completed("trackweave boxes --tracker o") == ["ocsort"]


def test_help_in_panels(shell: Shell) -> None:
    short, long = shell("masks", "-h").out, shell("masks", "--help-all").out
    assert shell("masks", "--help").out == short
    assert "\ntracking: How candidates become tracks:\n" in short
    assert "--prompt-mode mask|box|auto" in short
    assert "--flow.working-side" not in short
    assert "--flow.working-side N" in long
    assert "--max-propagate, --tracking.max-propagate N" in long


def test_python_m(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "trackweave", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("trackweave ")


def test_a_checkout_that_is_not_installed_has_the_version_of_pyproject(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", not_installed)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert trackweave.__version__ == project["version"]


def test_masks_leaves_a_run_folder(shell: Shell, frames: Path, candidates: Path, truth: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = shell("masks", frames, "-o", run, "--candidates", candidates, "--predictor", truth)
    assert done.code == 0, done.err
    assert "2 objects on 8 object-frames" in done.out
    for name in ("manifest.json", "frames.json", "summary.json", "report.html", "tracks.mot.txt"):
        assert (run / name).stat().st_size > 0
    assert not list(run.rglob("*.partial"))
    lines = (run / "tracks.mot.txt").read_text().splitlines()
    assert len(lines) == 8
    assert lines[0].startswith("1,1,1,1,8,8,1,2,")  # frame 1, id 1, 1-based box, class = level
    summary = json.loads((run / "summary.json").read_text())
    assert summary["totals"]["duplicates"] == 6
    assert summary["peak_rss_mb"] > 10
    assert summary["durations"]["track.predictor"] >= 0


def test_json_goes_to_standard_output_alone(
    shell: Shell, frames: Path, candidates: Path, truth: str, tmp_path: Path
) -> None:
    done = shell(
        "masks", frames, "-o", tmp_path / "run", "--candidates", candidates, "--predictor", truth, "--no-viz", "--json"
    )
    assert json.loads(done.out)["totals"]["objects"] == 2
    assert not (tmp_path / "run" / "level_2" / "viz").exists()


def test_candidates_from_the_generator(shell: Shell, frames: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = shell("masks", frames, "-o", run, "--predictor", "static", "--levels", "4", "--candidate-stride", 2)
    assert done.code == 0, done.err
    assert (run / "level_4" / "filtered" / "filtered.json").is_file()
    proposed = shell("propose", frames, "-o", tmp_path / "c", "--levels", "4", "--candidate-stride", 2)
    assert proposed.code == 0, proposed.err
    ours, theirs = (p / "level_4" / "filtered" / "filtered.json" for p in (run, tmp_path / "c"))
    assert ours.read_bytes() == theirs.read_bytes()


def write_labels(path: Path, labels: np.ndarray) -> Path:
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [9] * 759)
    image.save(path)
    return path


def test_prompts_in_davis_out(shell: Shell, frames: Path, truth: str, tmp_path: Path) -> None:
    """A semi-supervised segmentation benchmark from the shell: ids are the label values, one PNG per frame."""
    labels = np.where(SCENE.labels[0] == 1, 7, np.where(SCENE.labels[0] == 2, 3, 0))
    prompt = write_labels(tmp_path / "label.png", labels)
    run, out = tmp_path / "run", tmp_path / "davis"
    done = shell("masks", frames, "-o", run, "--prompts", prompt, "--predictor", truth)
    assert done.code == 0, done.err
    done = shell("export", run, "--to", "davis", "-o", out)
    assert done.code == 0, done.err
    assert sorted(p.name for p in out.iterdir()) == [f"{n:05d}.png" for n in range(4)]
    for n in range(4):
        image = Image.open(out / f"{n:05d}.png")
        assert image.mode == "P"
        expected = np.where(SCENE.labels[n] == 1, 7, np.where(SCENE.labels[n] == 2, 3, 0))
        assert np.array_equal(np.array(image), expected)


def test_wide_ids_numbers_and_the_truth_of_davis_2016(shell: Shell, frames: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "results"
    wide = tmp_path / "wide.png"
    Image.fromarray(np.where(SCENE.labels[0] == 1, 300, 0).astype(np.uint16)).save(wide)
    done = shell("masks", frames, "-o", run, "--prompts", wide, "--predictor", "static")
    assert done.code == 0, done.err
    done = shell("export", run, "--to", "davis", "-o", out)
    assert done.code == 0, done.err
    assert "4 label images" in done.out
    assert "note: " in done.err
    assert "16 bits" in done.err
    assert set(np.unique(np.array(Image.open(out / "00000.png")))) == {0, 300}
    refused = shell("export", run, "--to", "davis", "-o", out, "--bits", "8")
    assert (refused.code, "--ids level" in refused.err) == (1, True)
    assert shell("export", run, "--to", "davis", "-o", out, "--bits", "12").code == 2
    done = shell("export", run, "--to", "davis", "-o", out, "--ids", "level")
    assert "4 label images" in done.out
    assert (out / "ids.csv").read_text() == "label,id\n1,300\n"
    for n, labels in enumerate(SCENE.labels):  # black and white
        (tmp_path / "gt").mkdir(exist_ok=True)
        Image.fromarray(np.where(labels == 1, 255, 0).astype(np.uint8)).save(tmp_path / "gt" / f"{n:05d}.png")
    done = shell("evaluate", out, "--gt", tmp_path / "gt", "--metrics", "jf", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["regimes"][0]["classes"]["object"]["combined"]["J&F"] > 0
    assert "note: the ground truth holds black and white masks (0 and 255): one object, id 1" in done.err


@pytest.mark.parametrize(("second", "ids", "code"), [(255, [1], "binary-prompt"), (4, [4], "void-label")])
def test_label_255(shell: Shell, frames: Path, tmp_path: Path, second: int, ids: list[int], code: str) -> None:
    """DAVIS 2016 draws its one object with 255; in indexed images 255 is void."""
    labels = np.where(SCENE.labels[0] == 1, 255, np.where(SCENE.labels[0] == 2, second, 0))
    prompt = write_labels(tmp_path / "label.png", labels)
    run = tmp_path / "run"
    done = shell("masks", frames, "-o", run, "--prompts", prompt, "--predictor", "static")
    assert done.code == 0, done.err
    assert [w["code"] for w in json.loads((run / "manifest.json").read_text())["warnings"]] == [code]
    with VideoSegments(run / "level_0" / "tracking" / "video_segments.npz") as video:
        assert video.frame(0).track_id.tolist() == ids


def test_prompts_on_several_frames(shell: Shell, frames: Path, tmp_path: Path) -> None:
    first = write_labels(tmp_path / "a.png", SCENE.labels[0] * (SCENE.labels[0] == 1))
    later = write_labels(tmp_path / "b.png", SCENE.labels[2] * (SCENE.labels[2] == 2))
    run = tmp_path / "run"
    done = shell(
        "masks", frames, "-o", run, "--prompts", first, "--prompts", f"2:{later}", "--predictor", "static",
    )  # fmt: skip
    assert done.code == 0, done.err
    with VideoSegments(run / "level_0" / "tracking" / "video_segments.npz") as video:
        assert [f.track_id.tolist() for f in video] == [[1, 2]] * 4
        assert np.array_equal(video.frame(3).masks.to_bool()[1], SCENE.mask(2, "b"))


def test_export_mot_and_mp4(shell: Shell, frames: Path, candidates: Path, truth: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shell("masks", frames, "-o", run, "--candidates", candidates, "--predictor", truth)
    assert shell("export", run, "--to", "mot", "-o", tmp_path / "t.txt").code == 0
    assert (tmp_path / "t.txt").read_text() == (run / "tracks.mot.txt").read_text()
    assert shell("export", run, "--to", "mp4", "-o", tmp_path / "t.mp4").code == 0
    assert (tmp_path / "t.mp4").read_bytes()[4:8] == b"ftyp"
    frames.rename(tmp_path / "moved")
    done = shell("export", run, "--to", "mp4", "-o", tmp_path / "u.mp4")
    assert done.code == 1
    assert "--frames" in done.err
    moved = shell("export", run, "--to", "mp4", "-o", tmp_path / "u.mp4", "--frames", tmp_path / "moved")
    assert moved.code == 0, moved.err


def test_report_can_be_written_again(shell: Shell, frames: Path, candidates: Path, truth: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shell("masks", frames, "-o", run, "--candidates", candidates, "--predictor", truth)
    (run / "report.html").unlink()
    assert shell("report", run).code == 0
    assert (run / "report.html").is_file()


# --- bad usage: exit code 2 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--predictor", "sam3000"], "there is no predictor 'sam3000'"),
        (["--predictor", "replay"], "replay=PATH"),
        (["--levels", "two"], "levels are whole numbers"),
        (["--levels", "0"], "levels start at 1"),
        (["--iou-threshold", "1.5"], "iou_threshold"),
        (["--mask-scale", "0"], "mask_scale_ratio"),
        (["--max-propagate", "-1"], "max_propagate"),
        (["--prompt-mode", "points"], "--prompt-mode"),
        (["--generator", "magic"], "there is no generator 'magic'; known: regions"),
        (["--candidate-stride", "0"], "masks.candidate_stride: Input should be greater than or equal to 1, not 0"),
        (["--frames", "1:2:0"], "step"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_bad_usage(shell: Shell, frames: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    done = shell("masks", frames, "-o", tmp_path / "run", "--predictor", "static", *arguments)
    assert done.code == 2
    assert says in done.err
    assert not (tmp_path / "run").exists()


def test_candidates_and_prompts_exclude_each_other(
    shell: Shell, frames: Path, candidates: Path, tmp_path: Path
) -> None:
    done = shell("masks", frames, "-o", tmp_path / "r", "--candidates", candidates, "--prompts", "x.png")
    assert done.code == 2


# --- bad input: one clear line, exit code 1, nothing already written damaged ----------------------------------------


def manifest_of(root: Path) -> Path:
    return root / "level_2" / "filtered" / "filtered.json"


def edited(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(manifest_of(root).read_text())
    change(content)
    manifest_of(root).write_text(json.dumps(content))


def first_item(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["frames"][1]["items"][0]
    return found


def empty_mask(content: dict[str, Any]) -> None:
    first_item(content)["mask"] = item(0, SCENE.mask(0, "a"), frame=0)["mask"] | {"packed_bits_b64": "A" * 43 + "="}


def remove(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda content: first_item(content).pop(key)


BAD_CANDIDATES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a key of the manifest": (lambda c: c.pop("frames"), "`frames` is missing"),
    "a key of a frame": (lambda c: c["frames"][1].pop("items"), "`items` is missing"),
    "a key of an item": (remove("stability_score"), "frame 1, item 0 (id 0): `stability_score` is missing"),
    "a frame that does not exist": (lambda c: c["frames"][3].update(frame_idx=77), "frame 77"),
    "masks of another shape": (lambda c: first_item(c)["mask"].update(shape=[8, 99]), "frame 1, item 0"),
    "an empty mask": (empty_mask, "frame 1, item 0 (id 0): its mask is empty"),
    "neither mask nor box": (
        lambda c: [first_item(c).pop(key) for key in ("mask", "bbox")],
        "neither a mask nor a `bbox`",
    ),
    "duplicate ids": (lambda c: c["frames"][1]["items"][1].update(id=0), "id 0 occurs twice"),
    "a newer version": (lambda c: c.update(schema_version=99), "schema_version 99 is newer"),
    "another count": (lambda c: c["frames"][0].update(count=5), "`count` says 5"),
}


@pytest.mark.parametrize("case", BAD_CANDIDATES)
def test_bad_candidates(shell: Shell, frames: Path, candidates: Path, truth: str, tmp_path: Path, case: str) -> None:
    change, says = BAD_CANDIDATES[case]
    edited(candidates, change)
    done = shell("masks", frames, "-o", tmp_path / "run", "--candidates", candidates, "--predictor", truth)
    assert done.code == 1, done.err
    assert says in done.err
    assert "filtered.json" in done.err
    assert len([line for line in done.err.splitlines() if not line.startswith("looking for cuts")]) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "case",
    ["a key of an item", "a frame that does not exist", "masks of another shape", "an empty mask", "duplicate ids"],
)
def test_single_bad_candidates_can_be_skipped(
    shell: Shell, frames: Path, candidates: Path, truth: str, tmp_path: Path, case: str
) -> None:
    edited(candidates, BAD_CANDIDATES[case][0])
    run = tmp_path / "run"
    done = shell("masks", frames, "-o", run, "--candidates", candidates, "--predictor", truth, "--on-bad-item", "skip")
    assert done.code == 0, done.err
    warnings = warnings_of(run)
    assert [w["code"] for w in warnings] == ["candidate-skipped"]
    assert BAD_CANDIDATES[case][1].split(":")[0].split("`")[0] in warnings[0]["message"]


def test_a_manifest_that_is_not_json(shell: Shell, frames: Path, candidates: Path, tmp_path: Path) -> None:
    manifest_of(candidates).write_text('{"frames": [')
    done = shell("masks", frames, "-o", tmp_path / "run", "--candidates", candidates)
    assert done.code == 1
    assert "is not JSON" in done.err


def test_masks_beside_the_manifest_of_another_number(shell: Shell, frames: Path, tmp_path: Path) -> None:
    root = write_candidates(tmp_path / "c", {0: [item(0, SCENE.mask(0, "a"), frame=0, with_mask=False)]})
    np.save(manifest_of(root).parent / "seg_frame_00000.npy", np.zeros((3, 8, 32), np.uint8))
    done = shell("masks", frames, "-o", tmp_path / "run", "--candidates", root)
    assert done.code == 1
    assert "seg_frame_00000.npy" in done.err


def test_levels_that_are_not_there(shell: Shell, frames: Path, candidates: Path, tmp_path: Path) -> None:
    done = shell("masks", frames, "-o", tmp_path / "run", "--candidates", candidates, "--levels", "2,4")
    assert done.code == 1
    assert "has no candidates of level 4; levels there: 2" in done.err


def break_frames(frames: Path, fault: str) -> str:
    if fault == "missing":
        return "does not exist"
    bad = frames / "00002.png"
    if fault == "empty":
        for file in frames.iterdir():
            file.unlink()
        return "no image"
    if fault == "size":
        cv2.imwrite(str(bad), np.zeros((5, 7, 3), np.uint8))
    else:
        bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    return "00002.png"


@pytest.mark.parametrize("fault", ["missing", "empty", "size", "truncated"])
def test_bad_frames(shell: Shell, frames: Path, candidates: Path, tmp_path: Path, fault: str) -> None:
    says = break_frames(frames, fault)
    given = tmp_path / "nowhere" if fault == "missing" else frames
    done = shell("masks", given, "-o", tmp_path / "run", "--predictor", "static", "--candidate-stride", 1)
    assert done.code == 1
    assert says in done.err
    assert done.err.strip().splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("fault", ["size", "truncated"])
def test_bad_frames_can_be_skipped(
    shell: Shell, frames: Path, candidates: Path, truth: str, tmp_path: Path, fault: str
) -> None:
    break_frames(frames, fault)
    run = tmp_path / "run"
    edited(candidates, lambda c: c["frames"].pop(2))
    done = shell("masks", frames, "-o", run, "--candidates", candidates, "--predictor", truth, "--on-bad-item", "skip")
    assert done.code == 0, done.err
    assert [w["code"] for w in warnings_of(run)] == ["frame-skipped"]
    with VideoSegments(run / "level_2" / "tracking" / "video_segments.npz") as video:
        assert video.frames == [0, 1, 3]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: write_labels(path, np.zeros((5, 5))), "is 5×5, the frames are 32×8"),
        (lambda path: write_labels(path, np.zeros((8, 32))), "marks no object"),
        (lambda path: path.write_bytes(b"nothing"), "label.png"),
        (lambda path: None, "label.png"),
    ],
)
def test_bad_prompts(shell: Shell, frames: Path, tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    make(tmp_path / "label.png")
    done = shell("masks", frames, "-o", tmp_path / "run", "--prompts", tmp_path / "label.png")
    assert done.code == 1
    assert says in done.err
    assert done.err.count("\n") == 1


def test_prompt_on_a_frame_that_is_not_there(shell: Shell, frames: Path, tmp_path: Path) -> None:
    prompt = write_labels(tmp_path / "label.png", SCENE.labels[0])
    done = shell("masks", frames, "-o", tmp_path / "run", "--prompts", f"9:{prompt}")
    assert done.code == 1
    assert "frame 9 does not exist: the video has frames 0 … 3" in done.err


def test_the_sam2_family_without_weights_is_refused(shell: Shell, frames: Path, tmp_path: Path) -> None:
    done = shell("masks", frames, "-o", tmp_path / "run", "--predictor", "sam2-hf")
    assert done.code == 1
    assert "no weights found" in done.err
    assert not (tmp_path / "run").exists()


def test_a_text_needs_sam3(shell: Shell, frames: Path, candidates: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for command in (("masks", frames, "-o", run), ("propose", frames, "-o", run), ("boxes", frames, "-o", run)):
        done = shell(*command, "--text", "person,red car")
        assert (done.code, "texts are understood by SAM 3 alone" in done.err) == (1, True), done.err
    for others in (("--generator", "regions"), ("--candidates", candidates)):
        done = shell("masks", frames, "-o", run, "--text", "person", *others)
        assert (done.code, "text.prompts has no effect" in done.err) == (2, True), done.err
    assert not run.exists()


# --- the run folder --------------------------------------------------------------------------------------------------


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_folder_with_another_run_is_refused_and_untouched(
    shell: Shell, frames: Path, candidates: Path, truth: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shell("masks", frames, "-o", run, "--candidates", candidates, "--predictor", truth)
    before = snapshot(run)
    for extra, says in (
        ([], "already holds a run: choose another -o, add --resume"),
        (["--iou-threshold", "0.5", "--resume"], "holds a run of other input or settings"),
    ):
        done = shell("masks", frames, "-o", run, "--candidates", candidates, "--predictor", truth, *extra)
        assert done.code == 1
        assert says in done.err
        assert ("looking for cuts" in done.err) == bool(extra)  # that it is taken shows before every frame is read
    assert snapshot(run) == before
    done = shell("masks", frames, "-o", run / "report.html", "--candidates", candidates, "--predictor", truth)
    assert done.err == f"error: {run / 'report.html'}: is a file, not a run folder\n"


def test_resume_of_a_finished_run_keeps_every_level(
    shell: Shell, frames: Path, candidates: Path, truth: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shell("masks", frames, "-o", run, "--candidates", candidates, "--predictor", truth)
    archive = run / "level_2" / "tracking" / "video_segments.npz"
    stamp = archive.stat().st_mtime_ns
    done = shell("masks", frames, "-o", run, "--candidates", candidates, "--predictor", truth, "--resume")
    assert done.code == 0, done.err
    assert archive.stat().st_mtime_ns == stamp


def test_the_output_is_a_file(shell: Shell, frames: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    done = shell("masks", frames, "-o", tmp_path / "run", "--predictor", "static")
    assert done.code == 1
    assert (tmp_path / "run").read_text() == "mine"


def test_commands_on_something_that_is_not_a_run(shell: Shell, tmp_path: Path) -> None:
    for arguments in (["export", tmp_path, "--to", "davis", "-o", tmp_path / "o"], ["report", tmp_path / "none"]):
        done = shell(*arguments)
        assert done.code == 1
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--to", "mp4", "--codec", "vp9"), "flag --codec: format.codec has no effect with --to mp4: it is for mov"),
        (("--to", "mot", "--ids", "level"), "flag --ids: format.ids has no effect with --to mot: it is for davis"),
        (("--to", "mot", "--bits", "8"), "flag --bits: format.bits has no effect with --to mot"),
        (("--to", "davis", "--shapes", "boxes"), "flag --shapes: format.shapes has no effect with --to davis"),
        (("--to", "csv", "--style", "fill"), "flag --style: overlay.style has no effect with --to csv: it is for mp4"),
    ],
)
def test_export_refuses_flags_that_the_format_does_not_read(
    shell: Shell, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = shell("export", tmp_path / "run", "-o", tmp_path / "o", *arguments)
    assert (done.code, says in done.err) == (2, True), done.err


def test_formats_that_read_a_setting_are_formats() -> None:
    assert {name for names in USED_BY.values() for name in names} <= {*writable(), "mp4"}
    assert {key.partition(".")[2] for key in USED_BY if "." in key} == FormatSettings.model_fields.keys()


def test_evaluate_refuses_settings_of_a_comparison_without_one(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1,1,1,1,5,5,1,1,1\n")
    done = shell("evaluate", tmp_path / "a.txt", "--gt", tmp_path / "a.txt", "--seed", "3")
    assert (done.code, "flag --seed has no effect without --compare" in done.err) == (2, True), done.err


def test_export_asks_for_the_level_when_there_are_several(
    shell: Shell, frames: Path, candidates: Path, truth: str, tmp_path: Path
) -> None:
    candidates_of(SCENE, candidates, [0], level=4)
    run = tmp_path / "run"
    shell("masks", frames, "-o", run, "--candidates", candidates, "--predictor", truth)
    done = shell("export", run, "--to", "davis", "-o", tmp_path / "o")
    assert done.code == 2
    assert f"{run}: the run has levels 2, 4" in done.err
    assert shell("export", run, "--to", "davis", "-o", tmp_path / "o", "--level", 4).code == 0


@pytest.mark.parametrize("name", ["masks", "boxes", "evaluate", "export", "convert", "run"])
def test_help_has_an_example(shell: Shell, name: str) -> None:
    assert f"Example: trackweave {name} " in shell(name, "-h").out


def test_a_file_where_a_command_should_be_shows_the_command(shell: Shell, frames: Path) -> None:
    done = shell(frames)
    assert done.code == 2
    assert f"masks {frames} -o RUN" in done.err


def test_a_file_of_detections_is_no_video(shell: Shell, tmp_path: Path) -> None:
    rows = tmp_path / "det.txt"
    rows.write_text("1,-1,10,20,30,40,0.9\n")
    done = shell("boxes", rows, "-o", tmp_path / "run")
    assert (done.code, done.err) == (1, f"error: {rows} is no video: --detections {rows} where it holds detections\n")


def test_a_video_is_no_plan(shell: Shell, tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(bytes(300_000))
    for path in (video, tmp_path):
        done = shell("run", path)
        assert (done.code, f"{path}: is no plan: a plan is a YAML file" in done.err) == (1, True), done.err


def test_what_track_masks_does_not_take_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"track_masks\(\) got an unexpected keyword argument 'level'"):
        track_masks(CROSSING.frames, tmp_path, level=[2])  # type: ignore[call-overload]
    with pytest.raises(SettingError, match=r"levels are a sequence, like \[2\], not 2"):
        track_masks(CROSSING.frames, tmp_path, levels=2)  # type: ignore[call-overload]
