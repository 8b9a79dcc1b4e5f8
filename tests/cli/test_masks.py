"""`trackweave masks` with a predictor of the SAM 2 family, its settings, and `trackweave models`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.cli.shell import Outcome, Shell
from tests.frames.videos import MOTION_JPEG, serving
from tests.options.parsing import parsed
from tests.predictors.sam.tiny import save_tiny, tiny_edgetam, tiny_sam2_hf
from tests.toy_scenes import CROSSING, candidates_of, write_frames
from trackweave.cli.boxes import BOXES
from trackweave.cli.masks import MASKS
from trackweave.errors import SettingError
from trackweave.mot.settings import TrackerSettings
from trackweave.options.schema import Schema
from trackweave.options.sources import resolve
from trackweave.pipelines.settings import MaskRunSettings
from trackweave.predictors.sam.settings import SamSettings
from trackweave.tracking.settings import TrackingSettings

TINY = "facebook/sam2.1-hiera-tiny"


def config_file(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


# --- settings ---------------------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_classes() -> None:
    settings = resolve(MASKS)
    assert settings[TrackingSettings] == TrackingSettings()
    assert settings[SamSettings] == SamSettings()
    assert settings[MaskRunSettings].predictor == "auto"
    assert {entry.origin for entry in settings.entries()} == {"default"}
    assert [entry.key for entry in settings.entries()] == list(MASKS.fields)


def test_later_sources_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = config_file(tmp_path, "predictor: {device: cuda, batch: 8}\nmasks.predictor: edgetam\n")
    devices = [parsed(MASKS, "--config", file)[SamSettings].device]
    monkeypatch.setenv("TRACKWEAVE_DEVICE", "mps")
    monkeypatch.setenv("TRACKWEAVE_PREDICTOR", " ")
    devices.append(parsed(MASKS, "--config", file)[SamSettings].device)
    settings = parsed(MASKS, "--config", file, "--device", "cpu")
    assert [*devices, settings[SamSettings].device] == ["cuda", "mps", "cpu"]
    assert settings[MaskRunSettings].predictor == "edgetam"
    assert settings[SamSettings].batch == 8
    assert settings.origin("predictor.device") == "flag --device"
    assert settings.origin("masks.predictor") == f"file {file}"


def test_the_variable_for_the_predictor() -> None:
    settings = resolve(MASKS, environment={"TRACKWEAVE_PREDICTOR": "sam2-hf=weights"})
    assert settings[MaskRunSettings].predictor == "sam2-hf=weights"
    assert settings.origin("masks.predictor") == "environment TRACKWEAVE_PREDICTOR"


def test_the_variable_for_the_device() -> None:
    assert resolve(MASKS, environment={"TRACKWEAVE_DEVICE": "cuda:1"})[SamSettings].device == "cuda:1"


@pytest.mark.parametrize("pair", ["batch=8", "predictor.batch=8", " batch = 8"])
def test_a_predictor_s_setting_needs_no_section(pair: str) -> None:
    assert resolve(MASKS, pairs=[pair])[SamSettings].batch == 8


@pytest.mark.parametrize("text", ["on", "off"])
def test_yaml_reads_on_and_off_as_truth_values(text: str, tmp_path: Path) -> None:
    assert resolve(MASKS, pairs=[f"compile={text}"])[SamSettings].compile == text
    file = config_file(tmp_path, f"predictor: {{compile: {text}}}")
    assert resolve(MASKS, file=file)[SamSettings].compile == text
    assert resolve(MASKS, pairs=["autocast=off"])[SamSettings].autocast == "off"


def test_one_file_serves_boxes_and_masks(tmp_path: Path) -> None:
    file = config_file(tmp_path, "tracker: {diagnostics: true}\npredictor: {batch: 4}\ntracking.iou_threshold: 0.7\n")
    assert resolve(BOXES, file=file)[TrackerSettings].diagnostics
    settings = resolve(MASKS, file=file)
    assert (settings[SamSettings].batch, settings[TrackingSettings].iou_threshold) == (4, 0.7)


@pytest.mark.parametrize("schema", [BOXES, MASKS], ids=["boxes", "masks"])
def test_one_file_s_mistakes_are_reported_by_both(schema: Schema, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"no setting predictor\.bach; did you mean predictor\.batch"):
        resolve(schema, file=config_file(tmp_path, "predictor: {bach: 4}"))
    with pytest.raises(SettingError, match=r"no setting tracker\.diagnostic; did you mean tracker\.diagnostics"):
        resolve(schema, file=config_file(tmp_path, "predictor: {batch: 4}\ntracker: {diagnostic: true}"))


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["batch=0"], "flag --set: predictor.batch: Input should be greater than or equal to 1, not 0"),
        (["bacth=1"], "there is no setting bacth; did you mean predictor.batch?"),
        (["tracker.diagnostics=1"], "there is no setting tracker.diagnostics"),
        (["compile=perhaps"], "predictor.compile: Input should be 'auto', 'on' or 'off', not 'perhaps'"),
    ],
)
def test_mistakes_name_where_they_are(pairs: list[str], says: str) -> None:
    with pytest.raises(SettingError) as refused:
        resolve(MASKS, pairs=pairs)
    assert says in str(refused.value)


@pytest.mark.parametrize(("levels", "expected"), [("2,4", [2, 4]), ("[2, 4]", [2, 4]), ("4", [4]), ("null", None)])
def test_levels(levels: str, expected: list[int] | None, tmp_path: Path) -> None:
    file = config_file(tmp_path, f"masks: {{levels: {levels if ',' not in levels or '[' in levels else repr(levels)}}}")
    for settings in (parsed(MASKS, "--levels", levels), resolve(MASKS, file=file)):
        assert settings.value("masks.levels") == expected


def test_config_shows_both_commands(shell: Shell) -> None:
    done = shell("config", "--set", "predictor.batch=3", "--set", "tracker.diagnostics=true")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.out.splitlines()}
    assert rows["predictor.batch"] == ["3", "flag --set"]
    assert rows["tracker.diagnostics"] == ["true", "flag --set"]
    assert rows["masks.predictor"] == ["auto", "default"]
    assert shell("config", "--set", "predictor.bach=3").code == 2


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    return write_frames(CROSSING, tmp_path / "frames")


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    return candidates_of(CROSSING, tmp_path / "candidates", range(4))


def test_settings_of_flow_reach_it(shell: Shell, frames: Path, candidates: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["masks", frames, "-o", run, "--candidates", candidates, "--no-viz", "--predictor", "flow"]
    done = shell(*arguments, "--flow.report-above", "1", "--set", "flow.memory_bytes=1000000", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["totals"]["object_frames"] <= 2 * 4  # where they were prompted at most
    record = json.loads((run / "manifest.json").read_text())
    assert record["predictor"]["settings"] == {"memory_bytes": 1000000, "report_above": 1.0}
    assert record["config"]["predictor_identity"] == {"settings": {"report_above": 1.0}}
    done = shell(*arguments, "--resume")
    assert (done.code, "holds a run of other input or settings" in done.err) == (1, True)
    assert shell(*arguments, "--flow.report-above", "1", "--resume").code == 0  # memory changes no result


def test_settings_of_the_generator_reach_it(shell: Shell, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    image = np.full((96, 128, 3), 40, np.uint8)
    image[10:40, 10:50], image[50:90, 70:120] = (200, 60, 60), (60, 200, 60)
    for number in range(3):
        Image.fromarray(image).save(frames / f"{number:05d}.png")

    def count(folder: Path) -> int:
        return sum(len(frame["items"]) for frame in json.loads(filtered(folder).read_text())["frames"])

    def filtered(folder: Path) -> Path:
        return folder / "level_4" / "filtered" / "filtered.json"

    arguments = ["--levels", "4", "--candidate-stride", 2]
    few = ["--regions.max-count", 1]
    shell("propose", frames, "-o", tmp_path / "many", *arguments)
    shell("propose", frames, "-o", tmp_path / "few", *arguments, *few)
    assert count(tmp_path / "few") == 2 < count(tmp_path / "many")
    run = tmp_path / "run"
    done = shell("masks", frames, "-o", run, *arguments, *few, "--predictor", "static")
    assert done.code == 0, done.err
    assert filtered(run).read_bytes() == filtered(tmp_path / "few").read_bytes()
    prompts = json.loads((run / "manifest.json").read_text())["config"]["prompts"]
    assert prompts == {"kind": "generator", "name": "regions", "stride": 2, "settings": {"max_count": 1}}


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return save_tiny(tiny_sam2_hf(), tmp_path / "weights" / "sam2.1-hiera-tiny")


def test_a_run_with_weights_by_path(
    shell: Shell, frames: Path, candidates: Path, weights: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = ["masks", frames, "-o", run, "--candidates", candidates, "--no-viz", "--device", "cpu"]
    done = shell(*arguments, "--predictor", f"sam2-hf={weights}", "--set", "batch=2", "--stop-after-absent", 2)
    assert done.code == 0, done.err
    assert f"predictor: sam2-hf (asked for: {TINY} on cpu)" in done.out
    predictor = json.loads((run / "manifest.json").read_text())["predictor"]
    digest = hashlib.sha256((weights / "model.safetensors").read_bytes()).hexdigest()
    assert [file["sha256"] for file in predictor["weights"]["files"]] == [digest]
    assert predictor["settings"]["batch"] == 2
    assert predictor["settings"]["stop_after_absent"] == 2
    assert predictor["versions"]["transformers"]

    again = shell(*arguments, "--predictor", "sam2-hf", "--weights", weights, "--resume")
    assert "holds a run of other input or settings" in again.err  # of other settings, to begin with


def test_weights_that_changed_do_not_resume_a_run(
    shell: Shell, frames: Path, candidates: Path, weights: Path, tmp_path: Path
) -> None:
    def track(name: str, *more: str) -> Outcome:
        arguments = ["--candidates", candidates, "--no-viz", "--device", "cpu", "--predictor", "sam2-hf"]
        return shell("masks", frames, "-o", tmp_path / name, *arguments, "--weights", weights, *more)

    assert track("run").code == 0
    assert track("run", "--resume").code == 0
    save_tiny(tiny_sam2_hf(seed=1), weights)
    done = track("other")
    assert done.code == 0
    assert "these weights are not those of earlier runs" in done.err
    warnings = json.loads((tmp_path / "other" / "manifest.json").read_text())["warnings"]
    assert [warning["code"] for warning in warnings] == ["weights-changed", "placed-by-index"]
    done = track("run", "--resume")
    assert (done.code, "holds a run of other input or settings" in done.err) == (1, True)


def test_the_upstream_predictor_finds_the_same_masks(
    shell: Shell, frames: Path, candidates: Path, weights: Path, tmp_path: Path
) -> None:
    arguments = ["masks", frames, "--candidates", candidates, "--no-viz", "--json", "--device", "cpu"]
    arguments += ["--predictor", f"sam2-hf={weights}"]
    ours = json.loads(shell(*arguments, "-o", tmp_path / "ours").out)
    upstream = json.loads(shell(*arguments, "-o", tmp_path / "upstream", "--no-feature-store").out)
    assert ours["totals"]["object_frames"] == upstream["totals"]["object_frames"] > 0
    assert (
        ours["predictor"]["counters"]["encoder_passes"]
        <= len(CROSSING.labels)
        < upstream["predictor"]["counters"]["encoder_passes"]
    )


@pytest.mark.parametrize("name", ["flow", "static", "replay=x.npz"])
def test_predictors_without_weights_take_none(name: str, shell: Shell, frames: Path, tmp_path: Path) -> None:
    done = shell("masks", frames, "-o", tmp_path / "run", "--predictor", name, "--weights", tmp_path)
    assert (done.code, "has no weights: leave --weights out" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--predictor", "static", "--flow.reach", 9), "flag --flow.reach: flow.reach has no effect with --predictor"),
        (("--set", "regions.pieces=9", "--candidates", "c"), "flag --set: regions.pieces has no effect where"),
        (("--regions.pieces", 9, "--prompts", "p.png"), "flag --regions.pieces: regions.pieces has no effect where"),
        (
            ("--predictor", "flow", "--device", "cpu"),
            "predictor.device has no effect with --predictor flow",
        ),
        (("--candidate-stride", 3, "--candidates", "c"), "masks.candidate_stride has no effect where candidates or"),
        (("--region", "0,0 9,0 9,9", "--candidates", "c"), "candidates.region has no effect where candidates or"),
        (("--tile-size", 64, "--prompts", "p.png"), "candidates.tile_size has no effect where candidates or"),
        (("--levels", 2, "--prompts", "p.png"), "flag --levels: masks.levels has no effect with --prompts"),
        (("--iou-threshold", 0.5, "--prompts", "p.png"), "tracking.iou_threshold has no effect with --prompts"),
        (("--style", "fill", "--no-viz"), "flag --style: overlay.style has no effect with --no-viz"),
        (("--overlay-levels", "all", "--no-viz"), "masks.overlay_levels has no effect with --no-viz"),
        (
            ("--predictor", "edgetam", "--predictor.config", "x"),
            "predictor.config has no effect with --predictor edgetam",
        ),
    ],
)
def test_flags_without_effect_are_refused(
    shell: Shell, frames: Path, tmp_path: Path, arguments: tuple[object, ...], says: str
) -> None:
    done = shell("masks", frames, "-o", tmp_path / "run", *arguments)
    assert (done.code, says in done.err) == (2, True)
    file = config_file(tmp_path, "flow: {reach: 9}\nregions: {pieces: 9}\n")  # other runs' settings are no mistake
    done = shell("masks", frames, "-o", tmp_path / "run", "--config", file, "--predictor", "static")
    assert done.code == 0, done.err


def test_weights_of_another_family(shell: Shell, frames: Path, tmp_path: Path) -> None:
    folder = save_tiny(tiny_edgetam(), tmp_path / "w")
    done = shell("masks", frames, "-o", tmp_path / "run", "--predictor", f"sam2-hf={folder}")
    assert done.code == 1
    assert f"use --predictor edgetam={folder}" in done.err
    assert not (tmp_path / "run").exists()


def test_a_device_that_flow_does_not_use(shell: Shell, frames: Path, tmp_path: Path) -> None:
    done = shell("masks", frames, "-o", tmp_path / "run", "--device", "cuda")
    assert done.code == 1
    assert "--device cuda: auto: flow, because no weights were found" in done.err
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_there(shell: Shell, frames: Path, weights: Path, tmp_path: Path) -> None:
    done = shell("masks", frames, "-o", tmp_path / "run", "--predictor", f"sam2-hf={weights}", "--device", "cuda:99")
    assert (done.code, "device cuda:99 is not there" in done.err) == (1, True)


# --- models -----------------------------------------------------------------------------------------------------------


def test_models_without_weights(shell: Shell) -> None:
    done = shell("models")
    assert done.code == 0, done.err
    assert done.out.startswith("auto: flow, because no weights were found")
    assert "cpu" in done.out.splitlines()[1]
    assert "would run      facebook/sam2.1-hiera-large, facebook/sam2.1-hiera-base-plus" in done.out


def test_models_with_weights(shell: Shell, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKWEAVE_WEIGHTS", str(weights.parent))
    monkeypatch.setenv("TRACKWEAVE_DEVICE", "cpu")
    done = shell("models")
    assert "auto: flow, because there is no GPU" in done.out
    assert f"found          {TINY}: " in done.out
    report = json.loads(shell("models", "--json").out)
    by_name = {entry["name"]: entry for entry in report["predictors"]}
    assert by_name["flow"]["state"] == by_name["sam2-hf"]["state"] == "ready"
    assert by_name["edgetam"]["state"] == "no weights"
    (found,) = by_name["sam2-hf"]["weights"]
    assert found["path"] == str(weights)
    assert found["bytes"] == (weights / "model.safetensors").stat().st_size
    assert found["problem"] is None
    assert report["looked_in"]["TRACKWEAVE_WEIGHTS"] == str(weights.parent)


def test_models_tells_what_is_wrong_with_weights(shell: Shell, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKWEAVE_WEIGHTS", str(weights.parent))
    monkeypatch.setenv("TRACKWEAVE_DEVICE", "cpu")
    file = weights / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    done = shell("models")
    assert "it was cut off, copy it again" in done.out
    by_name = {entry["name"]: entry for entry in json.loads(shell("models", "--json").out)["predictors"]}
    assert by_name["sam2-hf"]["state"] == "no weights"


def test_models_of_a_path(shell: Shell, weights: Path) -> None:
    done = shell("models", "--weights", weights)
    assert "auto: sam2-hf takes the weights that were named" in done.out
    assert shell("models", "--weights", weights / "none").code == 1


# --- live -------------------------------------------------------------------------------------------------------------


def test_a_stream_is_followed_until_it_ends(shell: Shell, tmp_path: Path) -> None:
    part = b"--next\r\nContent-Type: image/jpeg\r\n\r\n"
    pictures = []
    for frame in CROSSING.frames:
        is_encoded, encoded = cv2.imencode(".jpg", np.repeat(np.repeat(frame, 4, 0), 4, 1)[:, :, ::-1])
        assert is_encoded
        pictures.append(part + encoded.tobytes() + b"\r\n")
    with serving(*(5 * pictures), kind=MOTION_JPEG) as url:
        run = tmp_path / "run"
        done = shell("masks", url, "-o", run, "--predictor", "static", "--max-frames", 9, "--box", "1,0,0,20,20,5")
        assert done.code == 0, done.err
        assert "live: Ctrl-C" in done.err
        assert "tracking: 9 frames in" in done.err
        summary = json.loads((run / "summary.json").read_text())
        assert summary["input"]["frames"] == 9
        assert summary["levels"]["0"]["tracks"][0]["id"] == 5
        assert summary["input"]["path"] == url
        assert (run / "report.html").is_file()
        assert (run / "overlay.mp4").is_file()
        for flag in ("--resume", "--frames=::2"):
            refused = shell("masks", url, "-o", tmp_path / "other", flag)
            assert refused.code == 2
            assert "has no effect" in refused.err
    refused = shell("masks", write_frames(CROSSING, tmp_path / "frames"), "-o", tmp_path / "other", "--max-frames", 2)
    assert refused.code == 2
    assert "is no live source" in refused.err


def test_a_generator_that_finds_nothing_is_said(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "black"
    folder.mkdir()
    for frame in range(2):
        cv2.imwrite(str(folder / f"{frame}.png"), np.zeros((24, 32, 3), np.uint8))
    arguments = ["masks", folder, "-o", tmp_path / "run", "--predictor", "static", "--generator", "detector=motion"]
    for more in ([], ["--resume"]):
        done = shell(*arguments, *more)
        assert done.code == 0, done.err
        assert (
            "warning: detector=motion found nothing to follow: --candidate-stride 10 looks at every tenth" in done.err
        )
