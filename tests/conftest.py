"""Property tests run the same examples on every machine, and are not timed; no test sees this machine's weights."""

import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci")


@pytest.fixture(autouse=True, scope="session")
def no_weights_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty Hugging Face cache and an empty record of checksums; tests that need some make their own."""
    empty = tmp_path_factory.mktemp("machine")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TRACKWEAVE_WEIGHTS", raising=False)
        patch.setenv("XDG_STATE_HOME", str(empty / "state"))
        patch.setenv("HF_HUB_CACHE", str(empty / "hub"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        loaded = sys.modules.get("huggingface_hub.constants")
        if loaded is not None:
            patch.setattr(loaded, "HF_HUB_CACHE", str(empty / "hub"))
        yield
