"""The model catalog: backends of the SAM 2 family, and the published checkpoints that each of them takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal

from trackweave.errors import argument

Device = Literal["cuda", "mps", "cpu"]


def flow_hint() -> str:
    """The end of the message of a `MissingExtraError`."""
    return f"; or use {argument('predictor', 'flow')}, which needs no weights"


@dataclass(frozen=True)
class Backend:
    """One implementation of a model of the family.

    Attributes:
        name: on the command line.
        target: `module:class` of the predictor.
        packages: what has to be importable → the extra that brings it.
        model_types: `model_type` of the configurations that it takes; empty for Meta's package, which reads `.pt`.
        image_size: side of its square input in the published checkpoints, pixels.
        stride: pixels of the input per cell of its coarsest features.
    """

    name: str
    target: str
    packages: Mapping[str, str] = field(repr=False)
    model_types: tuple[str, ...] = ()
    image_size: int = 1024
    stride: int = 16

    @property
    def takes_files(self) -> bool:
        """Whether its weights are one `.pt` file; else a folder with `config.json`."""
        return not self.model_types

    @property
    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [package for package in self.packages if find_spec(package) is None]

    @property
    def extra(self) -> str:
        """The extra that installs all packages."""
        return list(self.packages.values())[-1]


BACKENDS: Mapping[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend(
            "sam2-hf",
            "trackweave.predictors.sam.backends:Sam2HfPredictor",
            {"torch": "sam2", "transformers": "sam2"},
            ("sam2_video",),
        ),
        Backend(
            "sam2",
            "trackweave.predictors.sam.meta:Sam2Predictor",
            {"torch": "sam2-meta", "hydra": "sam2-meta", "iopath": "sam2-meta", "sam2": "sam2-meta"},
        ),
        Backend(
            "sam3-tracker",
            "trackweave.predictors.sam.backends:Sam3TrackerPredictor",
            {"torch": "sam2", "transformers": "sam2"},
            ("sam3_tracker_video", "sam3_video"),
            1008,
            14,
        ),
        Backend(
            "edgetam",
            "trackweave.predictors.sam.backends:EdgeTamPredictor",
            {"torch": "edgetam", "transformers": "edgetam"},
            ("edgetam_video",),
        ),
    )
}
"""Backends by name; of two that take the same checkpoint the first is preferred."""


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A published checkpoint.

    Attributes:
        hub_name: of the repository on the Hugging Face hub.
        backends: those that take it.
        file: Meta's file in that repository.
        parameters: millions.
        revision: the commit that `fetch` downloads; None: it has to be said.
        sha256: of the weight files at that commit, by name.
    """

    hub_name: str
    backends: tuple[str, ...]
    parameters: float
    file: str | None = None
    revision: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def short_name(self) -> str:
        """The hub name without its owner."""
        return self.hub_name.partition("/")[2]


CHECKPOINTS: tuple[PublishedCheckpoint, ...] = (
    PublishedCheckpoint("facebook/sam3", ("sam3-tracker",), 848),
    PublishedCheckpoint(
        "facebook/sam2.1-hiera-large",
        ("sam2-hf", "sam2"),
        224.4,
        "sam2.1_hiera_large.pt",
        "665f8e2ad61cf5f53d65644ff27c8ee525124610",
        {
            "model.safetensors": "dc407dce21301fd94abb395c5099b4f2c455fdc8a8f261ac3d0ea6d4cd197230",
            "sam2.1_hiera_large.pt": "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
        },
    ),
    PublishedCheckpoint(
        "facebook/sam2.1-hiera-base-plus",
        ("sam2-hf", "sam2"),
        80.8,
        "sam2.1_hiera_base_plus.pt",
        "b7320756a13354e7530a63935656d35b2f91a290",
        {
            "model.safetensors": "2012733a0de5d03efd1bba550a2847c4551be9ef2e0d497c83074df66189f780",
            "sam2.1_hiera_base_plus.pt": "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
        },
    ),
    PublishedCheckpoint(
        "facebook/sam2.1-hiera-small",
        ("sam2-hf", "sam2"),
        46,
        "sam2.1_hiera_small.pt",
        "ee5bba1d82bb8749febdf90f45e84b687142ba03",
        {
            "model.safetensors": "0a4067b11ce1e23d5229203f11c718a823060d15a4b23fa2372a7d4b77cbbc60",
            "sam2.1_hiera_small.pt": "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
        },
    ),
    PublishedCheckpoint(
        "facebook/sam2.1-hiera-tiny",
        ("sam2-hf", "sam2"),
        38.9,
        "sam2.1_hiera_tiny.pt",
        "de431c4043854a71d8101e17995dfe596bf101a5",
        {
            "model.safetensors": "48c14467e5cf9e51870511feb72c89688e82dd74523142c0538b663e193ac2a7",
            "sam2.1_hiera_tiny.pt": "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
        },
    ),
    PublishedCheckpoint("facebook/sam2-hiera-large", ("sam2-hf", "sam2"), 224.4, "sam2_hiera_large.pt"),
    PublishedCheckpoint("facebook/sam2-hiera-base-plus", ("sam2-hf", "sam2"), 80.8, "sam2_hiera_base_plus.pt"),
    PublishedCheckpoint("facebook/sam2-hiera-small", ("sam2-hf", "sam2"), 46, "sam2_hiera_small.pt"),
    PublishedCheckpoint("facebook/sam2-hiera-tiny", ("sam2-hf", "sam2"), 38.9, "sam2_hiera_tiny.pt"),
    PublishedCheckpoint("yonigozlan/EdgeTAM-hf", ("edgetam",), 13.9),
)
"""Best first, by the J&F on SA-V that their authors publish."""

PREFERENCE_BY_DEVICE: Mapping[Device, tuple[str, ...]] = {
    "cuda": tuple(checkpoint.hub_name for checkpoint in CHECKPOINTS),
    "mps": (
        "facebook/sam2.1-hiera-base-plus",
        "facebook/sam2.1-hiera-small",
        "facebook/sam2.1-hiera-tiny",
        "facebook/sam2-hiera-base-plus",
        "facebook/sam2-hiera-small",
        "facebook/sam2-hiera-tiny",
        "yonigozlan/EdgeTAM-hf",
        "facebook/sam2.1-hiera-large",
        "facebook/sam2-hiera-large",
        "facebook/sam3",
    ),
    "cpu": (
        "yonigozlan/EdgeTAM-hf",
        "facebook/sam2.1-hiera-tiny",
        "facebook/sam2.1-hiera-small",
        "facebook/sam2-hiera-tiny",
        "facebook/sam2-hiera-small",
        "facebook/sam2.1-hiera-base-plus",
        "facebook/sam2-hiera-base-plus",
        "facebook/sam2.1-hiera-large",
        "facebook/sam2-hiera-large",
        "facebook/sam3",
    ),
}
"""The order of preference when several are found: on CUDA by accuracy, elsewhere by accuracy among those that do not
take minutes."""


def find_checkpoint(name: str) -> PublishedCheckpoint | None:
    """A published checkpoint by its hub name, its short name or the name of Meta's file."""
    for checkpoint in CHECKPOINTS:
        if name in (checkpoint.hub_name, checkpoint.short_name, checkpoint.file):
            return checkpoint
    return None


def checkpoints_of(backend: str) -> list[PublishedCheckpoint]:
    """Published checkpoints that a backend takes, best first."""
    return [checkpoint for checkpoint in CHECKPOINTS if backend in checkpoint.backends]


def device_rank(checkpoint: PublishedCheckpoint | None, device: Device) -> int:
    """Position in the order of preference on a device, 0 first; unknown checkpoints come last."""
    order = PREFERENCE_BY_DEVICE[device]
    return len(order) if checkpoint is None else order.index(checkpoint.hub_name)
