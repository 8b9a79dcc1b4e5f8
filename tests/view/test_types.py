"""The page's scripts have the types that their comments say; checked where TypeScript is installed."""

from __future__ import annotations

import shutil
import subprocess
from importlib.resources import files

import pytest


def test_the_scripts_have_their_types() -> None:
    compiler = shutil.which("tsc")
    if compiler is None:
        pytest.skip("no tsc is installed: npm install --global typescript@5")
    folder = str(files("trackweave.view") / "page")
    checked = subprocess.run([compiler, "-p", folder], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
