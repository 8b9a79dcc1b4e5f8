"""Compiled loops start everywhere: without a cache, with a damaged one, and without a compiler."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np
import pytest

from trackweave import compiled
from trackweave.compiled import njit
from trackweave.mot import matching, track_management
from trackweave.mot.tracker import Tracker
from trackweave.structures.detections import Detections

SOURCE = """
from trackweave import compiled
from trackweave.compiled import njit
from {other} import SCALE, add

add = njit(add)

@njit
def scaled(values):
    total = 0.0
    for value in values:
        total = add(total, value)
    return SCALE * total
"""
OTHER = """
SCALE = {scale}

def add(a, b):
    return a {operation} b
"""
ONE_TWO = np.array([1.0, 2.0])


def load(folder: Path, name: str = "kernels") -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _keep_code_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where the environment has changed numba reads all of it again, at the first function that it compiles.
    numba.core.config.reload_config()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Writes two modules, and loads the one with the compiled function."""
    monkeypatch.syspath_prepend(str(tmp_path))
    _keep_code_in(tmp_path / "cache", monkeypatch)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def scaled(scale: float = 10.0, operation: str = "+") -> Any:
        other = OTHER.format(scale=scale, operation=operation)
        for name, text in (("other_file.py", other), ("kernels.py", SOURCE.format(other="other_file"))):
            path = tmp_path / name
            if not path.exists() or path.read_text() != text:  # numba's cache goes by the time of the file
                path.write_text(text)
        load(tmp_path, "other_file")
        return load(tmp_path).scaled

    return scaled


def hits(dispatcher: Any) -> int:
    return sum(dispatcher.stats.cache_hits.values())


def test_nothing_is_compiled_before_it_is_called(write: Callable[..., Any]) -> None:
    scaled = write()
    assert scaled.signatures == []
    assert scaled(ONE_TWO) == 30.0
    assert len(scaled.signatures) == 1
    again = write()
    assert again(ONE_TWO) == 30.0
    assert hits(again) == 1


def test_code_is_compiled_anew_when_what_it_takes_from_other_files_changes(write: Callable[..., Any]) -> None:
    assert write()(ONE_TWO) == 30.0
    assert write(scale=5.0)(ONE_TWO) == 15.0
    assert write(scale=5.0, operation="-")(ONE_TWO) == -15.0


INNER = """
from trackweave.compiled import inner, njit

@inner
def checked(value):
    if value < 0.0:
        raise ValueError("below zero")
    return value

@inner
def twice(values, k):
    return 2.0 * checked(values[k])

@njit
def doubled(values):
    total = 0.0
    for k in range(len(values)):
        total += twice(values, k)
    return total

@njit
def first(values):
    return twice(values, 0) + max(values[0], 0.0)
"""


def test_loops_share_inner_functions_and_keep_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have no code of their own, so each caller's must hold all of it, also where it is read from the cache."""
    _keep_code_in(tmp_path / "cache", monkeypatch)
    (tmp_path / "inners.py").write_text(INNER)
    for run in range(2):
        module = load(tmp_path, "inners")
        assert (module.doubled(ONE_TWO), module.first(ONE_TWO)) == (6.0, 3.0)
        assert (hits(module.doubled), hits(module.first)) == (run, run)
        for loop in (module.doubled, module.first):
            with pytest.raises(ValueError, match="below zero"):
                loop(-ONE_TWO)
        assert module.twice(ONE_TWO, 1) == 4.0


def test_the_version_of_numba_is_one_whose_insides_are_known() -> None:
    """Where it is not, a first run takes half as long again, and `SHORTENED` has to be looked at."""
    assert tuple(numba.version_info.short) in compiled.SHORTENED


def test_options_of_numba_differ_by_what_is_set() -> None:
    """As numba does, in less time."""
    made: Any = numba.core.compiler.Flags
    one, same, other = made(), made(), made()
    assert made.__hash__ is compiled._hash_options
    one.error_model = same.error_model = other.error_model = "numpy"
    other.nrt = True
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "numpy"


@pytest.mark.parametrize("body", ["return x + 1", "return x.nothing_like_this"])
def test_garbage_is_collected_again_after_compiling(body: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def f(x): {body}", namespace)
    with suppress(numba.core.errors.TypingError):
        assert njit(namespace["f"])(4) == 5
    assert gc.isenabled()


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def replaced(path: Path) -> None:
    path.write_bytes(b"not a pickle at all")


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", [cut_off, emptied, replaced])
def test_a_damaged_cache_is_written_anew(
    write: Callable[..., Any], tmp_path: Path, damage: Callable[[Path], None], suffix: str
) -> None:
    write()(ONE_TWO)
    files = list((tmp_path / "cache").rglob(f"*{suffix}"))
    assert files
    for path in files:
        damage(path)
    assert write()(ONE_TWO) == 30.0
    healed = write()
    assert healed(ONE_TWO) == 30.0
    assert hits(healed) == 1


def test_code_of_other_types_under_the_same_name_is_not_used(write: Callable[..., Any], tmp_path: Path) -> None:
    """Two processes that fill an empty cache at once may leave this."""
    write()(ONE_TWO)
    (ours,) = (tmp_path / "cache").rglob("kernels.scaled*.nbc")
    code = ours.read_bytes()
    write()(ONE_TWO.astype(np.int16))
    (other,) = set((tmp_path / "cache").rglob("kernels.scaled*.nbc")) - {ours}
    other.write_bytes(code)
    assert write()(ONE_TWO.astype(np.int16)) == 30.0


def test_without_a_place_for_the_cache_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    namespace: dict[str, Any] = {}
    exec("def twice(x): return 2 * x", namespace)
    assert njit(namespace["twice"])(4) == 8


def test_a_cache_that_cannot_be_written_later_is_left_out(
    write: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    scaled = write()
    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._save_data", full)
    assert scaled(ONE_TWO) == 30.0


def test_the_tracker_compiles_each_loop_once() -> None:
    """Whatever layout and dtype a caller's arrays have: another version costs seconds in the middle of a video."""
    kernels: list[Any] = [matching.validate_detections, matching.compare, track_management.decide]
    before = {kernel: set(kernel.signatures) for kernel in kernels}
    boxes = np.array([[10, 10, 30, 60], [100, 20, 130, 80]], np.float64)
    table = np.zeros((2, 6))
    table[:, :4], table[:, 4] = boxes, 0.9
    frozen = np.asfortranarray(boxes, np.float32)
    frozen.flags.writeable = False
    for kind in (Detections.of(boxes, [0.9, 0.8]), table, np.asfortranarray(table), Detections.of(frozen, [0.9, 0.3])):
        tracker = Tracker(frame_rate=25, size=(480, 640))
        for _ in range(3):
            tracker.update(kind)
    for kernel, already in before.items():
        assert len(set(kernel.signatures) - already) <= 1, kernel


PLAIN = """
import json, sys
import numpy as np
from tests.toy_scenes import CROSSING, candidates_of
from tests.toy_boxes import make_sequence
from pathlib import Path
from trackweave import track_boxes, track_masks
root = Path(sys.argv[1])
candidates = candidates_of(CROSSING, root / "c", [0])
run = track_masks(CROSSING.frames, root / "masks", candidates=candidates, predictor=sys.argv[2])
boxes = track_boxes(make_sequence(root / "toy", images=4), root / "boxes")
print(json.dumps([run.tracks().xyxy.tolist(), boxes.tracks().xyxy.tolist()]))
"""


def test_what_a_run_waits_for_is_said_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_SAID", [])
    with caplog.at_level("INFO", logger="trackweave.compiled"):
        for folder in ("one", "another", None):
            compiled._say_wait(folder)
    (line,) = caplog.messages
    assert "as in one" in line


def test_a_first_run_says_what_it_waits_for_once_and_a_second_says_nothing(tmp_path: Path) -> None:
    detections = tmp_path / "det.txt"
    detections.write_text("".join(f"{frame},-1,{5 * frame},20,40,80,0.9\n" for frame in range(1, 5)))
    command = [sys.executable, "-m", "trackweave", "boxes", "--detections", str(detections), "--fps", "30"]
    command += ["--tracker", "adaptive", "--size", "200x200"]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    said = []
    for arguments in (["--tracker.high-score", "2"], ["-o", str(tmp_path / "a")], ["-o", str(tmp_path / "b")]):
        done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == (2 if "2" in arguments else 0), done.stderr
        said.append([line for line in done.stderr.splitlines() if "compiling" in line])
    wrong, first, second = said
    assert wrong == second == []
    (line,) = first
    assert str(tmp_path / "cache") in line


@pytest.mark.parametrize("predictor", ["static", "flow"])
def test_without_a_compiler_the_results_are_the_same(tmp_path: Path, predictor: str) -> None:
    results = []
    for name, changed in (("compiled", {}), ("plain", {"NUMBA_DISABLE_JIT": "1"})):
        command = [sys.executable, "-c", PLAIN, str(tmp_path / name), predictor]
        done = subprocess.run(command, env={**os.environ, **changed}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        results.append(json.loads(done.stdout))
    assert results[0] == results[1]
