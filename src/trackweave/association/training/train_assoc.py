"""Looks through logged association samples before a training.

    python -m trackweave.association.training.train_assoc --data DIR [DIR …] --inspect [--json] [--picture FILE.svg]

Exit codes: 0 usable, 1 something is not, 2 bad usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from trackweave.association.inspection import inspect_samples
from trackweave.association.inspection_text import render_text
from trackweave.errors import SettingError, TrackweaveError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if not given.inspect:
        parser.error("this version inspects samples and does not train yet: add --inspect")
    try:
        report = inspect_samples(*given.data)
        if given.picture is not None:
            report.write_picture(given.picture)
    except TrackweaveError as error:
        print(f"train_assoc: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingError) else 1
    print(json.dumps(report.to_json(), indent=1) if given.json else render_text(report))
    return 0 if report.usable else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train_assoc", description="Inspects logged association samples.")
    parser.add_argument("--data", nargs="+", type=Path, required=True, metavar="DIR", help="folders of samples")
    parser.add_argument("--inspect", action="store_true", help="report what the samples hold; exit 1 when not usable")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw the distributions of features and cost")
    return parser


if __name__ == "__main__":
    sys.exit(main())
