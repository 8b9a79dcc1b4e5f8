"""The `trackweave` command. Each function reads its arguments, calls the library, says where the results are.

Nothing of a command is imported before it runs: its line in `trackweave --help` stands here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from trackweave.options.commands import LazyCommand, lazy_group, run_command

COMMANDS: Mapping[str, LazyCommand] = {
    "masks": LazyCommand(
        "trackweave.cli.masks:masks", "Follow the objects of a video through time: masks, boxes, images and a report."
    ),
    "boxes": LazyCommand(
        "trackweave.cli.boxes:boxes",
        "Give the boxes of a video identities: tracks, an archive, an overlay video and a report.",
    ),
    "propose": LazyCommand(
        "trackweave.cli.masks:propose",
        "Find candidates and write them for `masks --candidates`.",
    ),
    "filter": LazyCommand(
        "trackweave.cli.masks:filter_command", "Choose candidates anew, without generating them again."
    ),
    "relate": LazyCommand(
        "trackweave.cli.relate:relate", "Join a run's tracks that are one thing, and nest parts in wholes."
    ),
    "demo": LazyCommand(
        "trackweave.cli.demo:demo", "Run the main job on a real clip (or a generated scene): no weights, no network."
    ),
    "view": LazyCommand(
        "trackweave.cli.view:view", "Open a page on which a run is seen frame by frame, the doubtful parts first."
    ),
    "export": LazyCommand("trackweave.cli.export:export", "Write a run's tracks in another format."),
    "convert": LazyCommand("trackweave.cli.export:convert", "Write tracks of one format in another, without a run."),
    "report": LazyCommand("trackweave.cli.export:report", "Write the static page `RUN/report.html` again."),
    "ask": LazyCommand(
        "trackweave.cli.correct:ask",
        "List what to ask a person about a run next: where an answer is expected to repair most boxes or masks.",
    ),
    "correct": LazyCommand(
        "trackweave.cli.correct:correct",
        "Decide the tracks of a run again under what a person said, and write them into its files.",
    ),
    "evaluate": LazyCommand(
        "trackweave.cli.evaluate:evaluate",
        "Score results against ground truth: HOTA, CLEAR, identity (by `trackeval`), and J and F of masks.",
    ),
    "run": LazyCommand(
        "trackweave.cli.run:run", "Work through a plan: many videos, every core, nothing done twice, one page over all."
    ),
    "models": LazyCommand(
        "trackweave.cli.models:models",
        "List the predictors of `masks`: what can be used now, what is missing, where weights are looked for.",
    ),
    "config": LazyCommand(
        "trackweave.cli.config:config",
        "Show the settings of all commands that are in force, and where each came from.",
    ),
    "assoc": LazyCommand(
        "trackweave.cli.app:assoc", "Training samples of association, and models that learn from them."
    ),
}


ASSOC: Mapping[str, LazyCommand] = {
    "inspect": LazyCommand(
        "trackweave.cli.assoc:inspect",
        "Report what logged samples hold; exit code 1 when something is not usable.",
    ),
    "build": LazyCommand(
        "trackweave.cli.assoc:build",
        "Track sequences whose truth is known, and log every frame with the true identity of each detection.",
    ),
    "simulate": LazyCommand(
        "trackweave.cli.assoc:simulate",
        "Track simulated scenes, and log every frame with the true identity of each detection.",
    ),
    "remix": LazyCommand(
        "trackweave.cli.assoc:remix",
        "Re-simulate on recorded trajectories: track them in new scenes, and log with the true identities.",
    ),
    "fit-detector": LazyCommand(
        "trackweave.cli.assoc:fit_detector",
        "Measure how a detector errs on a sequence whose truth is known; for --detector and --simulate-detector.",
    ),
    "train": LazyCommand(
        "trackweave.cli.assoc:train",
        "Train a model on samples: --data DIR… --output TRAINING; or --inspect them first.",
    ),
    "export": LazyCommand(
        "trackweave.cli.assoc:export",
        "Write a trained model as ONNX, which the tracker runs without torch; both must answer alike.",
    ),
    "evaluate": LazyCommand(
        "trackweave.cli.assoc:evaluate",
        "Measure a trained model on samples that it has not seen: matches, calibration, confusion by gap length.",
    ),
}

assoc = lazy_group(ASSOC, name="assoc", add_completion=False, help=COMMANDS["assoc"].summary)
app = lazy_group(COMMANDS, name="trackweave", help="Weave per-frame masks and boxes into identities.")


def _version(wanted: bool) -> None:
    if wanted:
        import trackweave

        typer.echo(f"trackweave {trackweave.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Weave per-frame masks and boxes into identities."""


def main() -> None:
    """Entry point: exits with what `run_command` returns."""
    sys.exit(run_command(app))
