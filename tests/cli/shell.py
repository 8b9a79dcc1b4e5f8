"""Runs the command line inside the test's process."""

from __future__ import annotations

import sys
from typing import NamedTuple

import pytest

from trackweave.cli.app import main


class Outcome(NamedTuple):
    """What a shell would see."""

    code: int
    out: str
    err: str


class Shell:
    """`shell("masks", path, "-o", run)`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Outcome:
        self._monkeypatch.setattr(sys, "argv", ["trackweave", *map(str, arguments)])
        self._capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = self._capsys.readouterr()
        return Outcome(code, said.out, said.err)
