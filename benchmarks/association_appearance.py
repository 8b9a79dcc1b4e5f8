"""What appearance adds to learned association, and that it costs nothing where there is none.

    python benchmarks/association_appearance.py [--videos 24] [--regimes dance sport street] [--scorer learned=FILE]
        [--data MOT_ROOT --reid MODEL.onnx]

Simulated crowds (seeds that no training uses) are tracked without a scorer, with the scorer but without embeddings,
with embeddings of every object, and with embeddings that say nothing: the same for all objects of a frame. HOTA, AssA,
DetA, IDF1 and identity switches, combined over videos. How alike two views of one person and two people are is, by
default, near what the network `osnet_x0_25_msmt17` shows on MOT17's training sequences; `--data` and `--reid` (an ONNX
network that takes `(N, 3, 256, 128)` pictures) measure it again on the frames that are there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.evaluation.evaluate import evaluate
from trackweave.evaluation.settings import EvaluationSettings
from trackweave.formats.mot import read_ground_truth, write_mot
from trackweave.mot.settings import preset
from trackweave.mot.state import AssociationScorer, FrameContext
from trackweave.mot.tracker import Tracker
from trackweave.pipelines.box_outputs import as_rows
from trackweave.pipelines.samples import crowd
from trackweave.simulation.detector import EmbeddingSettings
from trackweave.simulation.presets import REGIMES
from trackweave.simulation.sequence import SimulatedSequence, write_mot_folder
from trackweave.structures.tracks import Tracks

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the sibling is found when this is started as a file

from benchmarks.box_accuracy import figures
from benchmarks.mot_sequences import SEQUENCES, scorer_named

SEED = 900_000
MEASURED = EmbeddingSettings(width=64, genuine=0.75, teammates=0.62, impostor=0.49, teams=4)
"""Two people as `quality` measures them. It finds 0.9 for two views of one person, but the frames that are there follow
each other: a cautious value stands for views that are seconds apart."""
LEAST_HEIGHT, LEAST_VISIBLE = 60, 0.6
MEAN, SPREAD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))


def quality(root: Path, network: Path) -> tuple[float, float, float]:
    """Mean cosine of two views of one person, of two people, and the ninth decile of the latter, on MOT17's training
    frames."""
    import cv2
    import onnxruntime

    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    same, other = [], []
    for name in SEQUENCES["training"]["MOT17"].split():
        path = root / "MOT17" / f"MOT17-{name}-FRCNN"
        truth, known, looks = read_ground_truth(path), [], []
        for file in sorted((path / "img1").glob("*.jpg")):
            read = cv2.imread(str(file))
            assert read is not None, file
            picture = cv2.cvtColor(read, cv2.COLOR_BGR2RGB)
            here = truth.at(int(file.stem) - 1)
            for box, who, seen in zip(here.xyxy, here.track_id, here.visibility, strict=True):
                x1, y1, x2, y2 = np.maximum(box, 0).astype(int)
                if y2 - y1 < LEAST_HEIGHT or seen < LEAST_VISIBLE or not picture[y1:y2, x1:x2].size:
                    continue
                crop = cv2.resize(picture[y1:y2, x1:x2], (128, 256)) / 255.0
                known.append((int(who), file.name))
                looks.append(((crop - MEAN) / SPREAD).transpose(2, 0, 1))
        asked = session.get_inputs()[0].name
        found = np.concatenate([session.run(None, {asked: look[None].astype(np.float32)})[0] for look in looks])
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        cosine = found @ found.T
        who, when = (np.array(part) for part in zip(*known, strict=True))
        apart = when[:, None] != when[None]
        same.append(cosine[(who[:, None] == who[None]) & apart])
        other.append(cosine[(who[:, None] != who[None])])
    one, two = np.concatenate(same), np.concatenate(other)
    return float(one.mean()), float(two.mean()), float(np.quantile(two, 0.9))


def tracked(video: SimulatedSequence, scorer: AssociationScorer | None, looks: str) -> Tracks:
    """The tracker over a video: `own` embeddings, `none`, or `alike`: the same for every object of a frame."""
    how = preset("adaptive") if scorer is None else preset("learned", appearance_memory=True)
    tracker = Tracker(how, frame_rate=video.fps, size=video.size, scorer=scorer)
    if scorer is not None:
        scorer.reset()
    eyes = VisibilityEstimator("occlusion", min_occluder_score=how.confidence_threshold)
    shown = []
    for frame, moment, camera, found in video:
        embedding = found.embedding
        assert embedding is not None
        embedding = {"own": embedding, "none": None, "alike": embedding[:1].repeat(len(embedding), axis=0)}[looks]
        found = replace(found, embedding=embedding, visibility=eyes.estimate(found, size=video.size).visibility)
        shown.append(as_rows(frame, None, tracker.update(found, FrameContext(frame, moment, camera))).tracks)
    return Tracks.concat(shown)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=24, help="of each regime")
    parser.add_argument("--regimes", nargs="+", choices=tuple(REGIMES), default=["dance", "sport", "street"])
    parser.add_argument("--scorer", default="learned", metavar="learned|learned=FILE")
    parser.add_argument("--data", type=Path, metavar="MOT_ROOT")
    parser.add_argument("--reid", type=Path, metavar="MODEL.onnx")
    given = parser.parse_args()
    looks = MEASURED
    if given.data is not None and given.reid is not None:
        genuine, impostor, alike = quality(given.data, given.reid)
        print(f"cosines: one person {genuine:.2f}, two people {impostor:.2f}, nine tenths of them below {alike:.2f}\n")
        looks = MEASURED.model_copy(update={"genuine": genuine, "teammates": alike, "impostor": impostor})
    scorer = scorer_named(given.scorer)
    rows = {
        "`adaptive`": (None, "none"),
        "learned, no embeddings": (scorer, "none"),
        "learned, with embeddings": (scorer, "own"),
        "learned, embeddings all alike": (scorer, "alike"),
    }
    print("| HOTA/AssA/DetA/IDF1/IDSW | " + " | ".join(given.regimes) + " |")
    print("|---" * (1 + len(given.regimes)) + "|")
    cells: dict[str, list[str]] = {name: [] for name in rows}
    for regime in given.regimes:
        videos = [crowd(number, seed=SEED, regime=regime, looks=lambda _: looks) for number in range(given.videos)]
        with tempfile.TemporaryDirectory() as folder:
            truth = Path(folder) / "truth"
            for video in videos:
                write_mot_folder(video, truth)
            for number, (name, (judge, kind)) in enumerate(rows.items()):
                results = Path(folder) / str(number)
                results.mkdir()
                for video in videos:
                    write_mot(results / f"{video.name}.txt", tracked(video, judge, kind))
                settings = EvaluationSettings(sequences=tuple(video.name for video in videos))
                cells[name].append(str(figures(evaluate(results, truth, settings).classes[0])))
    for name, found in cells.items():
        print(f"| {name} | " + " | ".join(found) + " |")


if __name__ == "__main__":
    main()
