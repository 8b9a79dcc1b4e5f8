"""Does an installed wheel work with its core dependencies alone? Run by `make wheel` in an environment of its own."""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

import numpy as np

SOURCE = Path(__file__).resolve().parents[1] / "src"
ROWS = "".join(f"{t},-1,{10 + 4 * t},20,40,100,0.9\n" for t in range(1, 9))


def trackweave(*arguments: str) -> str:
    """Runs the command that the wheel installed, and gives what it printed."""
    command = [str(Path(sys.executable).with_name("trackweave")), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main(folder: str) -> None:
    (wheel,) = Path(folder).glob("trackweave-*.whl")
    with ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    written = {path.relative_to(SOURCE).as_posix() for path in SOURCE.glob("trackweave/**/*") if path.is_file()}
    missing = {name for name in written - packed if "__pycache__" not in name}
    assert not missing, f"{wheel.name} lacks {sorted(missing)}"
    assert any(name.endswith("/py.typed") for name in packed), "no py.typed"
    assert importlib.util.find_spec("torch") is None, "this environment has torch: it proves nothing"

    import trackweave as package

    assert "site-packages" in str(package.__file__), package.__file__
    assert package.__version__ == wheel.name.split("-")[1], package.__version__
    for name in package.__all__:
        getattr(package, name)
    assert trackweave("--version").split()[-1] == package.__version__
    with tempfile.TemporaryDirectory() as work:
        det, run = Path(work, "det.txt"), Path(work, "run")
        det.write_text(ROWS)
        for scorer in ("iou", "learned"):
            trackweave(
                "boxes", "--detections", str(det), "--size", "320x240", "-o", str(run / scorer), "--scorer", scorer
            )
            assert (run / scorer / "tracks.mot.txt").read_text().count("\n") == 8, scorer
        rng = np.random.default_rng(0)
        frames = np.repeat(rng.integers(0, 60, (1, 48, 64, 3), np.uint8), 4, axis=0)
        for t, frame in enumerate(frames):
            frame[12:32, 10 + 4 * t : 30 + 4 * t] = 200
        masks = package.track_masks(frames, run / "masks", levels=[2], predictor="flow")
        assert len(masks.tracks(level=2)), "no object followed"
        trackweave("report", str(run / "masks"))
        refused = subprocess.run(
            [str(Path(sys.executable).with_name("trackweave")), "view", str(run / "masks")],
            check=False, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert refused.returncode == 1, refused
        assert "trackweave[view]" in refused.stderr, refused.stderr
    print(f"{wheel.name}: {wheel.stat().st_size >> 10} KiB, works without torch")


if __name__ == "__main__":
    main(sys.argv[1])
