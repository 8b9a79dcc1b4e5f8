"""`python -m cli --video V`: `trackweave boxes` under the name and with the options that the guide to data
collection uses.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from trackweave.cli.app import main as run_command


def main(arguments: Sequence[str] | None = None) -> None:
    """Tracks a video; options that are not its own are those of `trackweave boxes`."""
    parser = argparse.ArgumentParser(
        prog="cli",
        description="Track a video and, with TRANSFORMER_LOG_DIR, log training samples.",
        epilog="All other options are those of `trackweave boxes`. Without --detector and --detections a MOTChallenge "
        "folder's own detections are taken, and of other videos whatever moves (--detector motion).",
        allow_abbrev=False,
    )
    parser.add_argument("--video", required=True, help="a video, a folder, a webcam's number or a stream's address")
    parser.add_argument("-o", "--output", help="the run folder [default: runs/NAME]")
    parser.add_argument("--log-level", default="info", type=str.lower, help="debug, info, warning or error")
    given, others = parser.parse_known_args(arguments)
    output = given.output or str(Path("runs") / (Path(given.video).stem or "video"))
    sys.argv = ["trackweave", "boxes", given.video, "-o", output, "--log-level", given.log_level, *others]
    run_command()
