"""Fixtures of the tests that run every backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from tests.predictors.sam.adapters import BACKENDS, Logits  # noqa: E402 - needs torch


@pytest.fixture(params=BACKENDS)
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "sam2":
        pytest.importorskip("sam2")
    return str(request.param)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def logits(monkeypatch: pytest.MonkeyPatch) -> Logits:
    return Logits(monkeypatch)
