"""The public face: what `import trackweave` offers, how it is found, and that its types and documentation are whole."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

import trackweave

ROOT = Path(__file__).parents[1]

VERBS = """
convert detect evaluate export forecast load_plan open_frames open_run propose read_detections read_tracks relate report
run track_boxes track_masks
""".split()  # noqa: SIM905 - a table, not a list
TRACKERS = "ByteTracker FrameContext LearnedScorer SampleLogger Tracker preset".split()  # noqa: SIM905
RECORDS = """
AssignmentState BoxSummary Candidates DetectionTable Detections FinishedItem Forecast IdentityTable ItemSelection
MaskStream MaskSummary ObjectSegments PackedMasks Plan PlanEvent Prompt Run RunLog RunSummary RunWarning Tracks Tree
VideoSegments
""".split()  # noqa: SIM905
PLUGS = """
AssignmentObserver AssociationScorer Detector Embedder FlowPredictor FrameSource PredictorSession VideoPredictor
choose_predictor make_detector make_embedder
""".split()  # noqa: SIM905
SETTINGS = """
EvaluationSettings FlowSettings FormatSettings IdentitySettings InputSettings LogSettings OnlineSettings OverlaySettings
PerceptionSettings PointGridSettings RefinementSettings RegionSettings SamSettings ScorerSettings TextSettings
TrackerSettings TrackingSettings
""".split()  # noqa: SIM905
ERRORS = """
ArtifactError ArtifactVersionError CandidateError FrameError FrameOrderError InputError MissingExtraError PredictorError
PredictorOutOfMemory PredictorUnavailable PromptError RunFolderError SettingError TrackweaveError
""".split()  # noqa: SIM905
PUBLIC = sorted([*VERBS, *TRACKERS, *RECORDS, *PLUGS, *SETTINGS, *ERRORS, "__version__"])
FUNCTIONS = [name for name in PUBLIC if inspect.isfunction(getattr(trackweave, name, None))]


def test_the_list_of_public_names() -> None:
    assert sorted(trackweave.__all__) == PUBLIC
    assert sorted(dir(trackweave)) == PUBLIC
    assert [name for name in PUBLIC if getattr(trackweave, name) is None] == []
    with pytest.raises(AttributeError, match="no attribute 'track_everything'"):
        _ = trackweave.track_everything


def test_type_checkers_and_python_find_a_name_in_the_same_module() -> None:
    tree = ast.parse((ROOT / "src/trackweave/__init__.py").read_text(encoding="utf-8"))
    declared = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trackweave.")
        for alias in node.names
    }
    assert declared == {name: f"trackweave.{module}" for name, module in trackweave._MODULE_OF.items()}
    defined = {name: inspect.getmodule(getattr(trackweave, name)) for name in declared if name[0].isupper()}
    assert {name for name, module in defined.items() if module and module.__name__ != declared[name]} == set()


def test_the_face_is_cheap_and_stays_the_face() -> None:
    """Nothing heavy loads, and no submodule takes the place of a verb of its name."""
    program = (
        "import sys, trackweave\n"
        "assert dir(trackweave)\n"
        "heavy = {'torch', 'cv2', 'numba', 'av', 'scipy', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "for name in trackweave.__all__: getattr(trackweave, name)\n"
        "from types import ModuleType\n"
        "taken = [n for n in trackweave.__all__ if isinstance(getattr(trackweave, n), ModuleType)]\n"
        "assert not taken, taken\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_typed_and_described(name: str) -> None:
    function = getattr(trackweave, name)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    text = inspect.getdoc(function) or ""
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty, parameter
        assert re.search(rf"\b{parameter.name}\b", text), f"{name}: {parameter.name} is not described"
    for error in re.findall(r"^    (\w*Error|Predictor\w+):", text, re.M):
        assert error in ERRORS or hasattr(builtins, error), f"{name} raises {error}, which is not public"


@pytest.mark.parametrize("name", [*FUNCTIONS, *TRACKERS, *RECORDS, *PLUGS, *SETTINGS])
def test_every_public_name_says_what_it_is(name: str) -> None:
    assert inspect.getdoc(getattr(trackweave, name)), name


@pytest.mark.parametrize("name", VERBS)
def test_types_of_signatures_resolve(name: str) -> None:
    """The annotations name things that exist where the function is defined."""
    function: Any = getattr(trackweave, name)
    module = sys.modules[function.__module__]
    tree = ast.parse(inspect.getsource(module))
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
        for alias in node.names
    }
    known = imported | set(vars(module)) | set(dir(typing)) | set(dir(builtins)) | {"os", "np"}
    for annotation in inspect.get_annotations(function).values():
        for node in ast.walk(ast.parse(str(annotation), mode="eval")):
            if isinstance(node, ast.Name):
                assert node.id in known, f"{name}: {node.id}"
