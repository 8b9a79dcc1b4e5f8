"""What appearance adds to learned association, and that it costs nothing where there is none.

    python benchmarks/association_appearance.py [--videos 24] [--regimes dance sport street] [--scorer learned=FILE]
        [--data MOT_ROOT --reid MODEL.onnx]

Simulated scenes (seeds that no training uses) are tracked without a scorer, with the scorer but without embeddings,
with embeddings of every object, and with uninformative embeddings: the same for all objects of a frame. HOTA, AssA,
DetA, IDF1 and identity switches, combined over videos. The similarities of two views of one person and of two people
are, by default, near those of the network `osnet_x0_25_msmt17` on MOT17's training sequences; `--data` and `--reid` (an
ONNX network with inputs `(N, 3, 256, 128)`) measure them again on the frames that are there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.detectors.visibility import VisibilityEstimator
from trackweave.evaluation.evaluate import evaluate
from trackweave.evaluation.settings import EvaluationSettings
from trackweave.formats.mot import read_ground_truth, write_mot
from trackweave.mot.settings import preset
from trackweave.mot.state import AssociationScorer, FrameContext
from trackweave.mot.tracker import Tracker
from trackweave.pipelines.box_outputs import as_rows
from trackweave.pipelines.samples import simulated_sequence
from trackweave.pipelines.settings import SimulateSettings
from trackweave.simulation.detector import EmbeddingSettings
from trackweave.simulation.presets import REGIMES
from trackweave.simulation.sequence import SimulatedSequence, write_mot_folder
from trackweave.structures.tracks import Tracks

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the sibling is found when this is started as a file

from benchmarks.box_accuracy import Figures
from benchmarks.mot_sequences import SEQUENCES, scorer_named

SEED = 900_000
MEASURED = EmbeddingSettings(width=64, genuine=0.75, teammates=0.62, impostor=0.49, teams=4)
"""Similarities of two people as `measure_similarity` gives them. It gives 0.9 for two views of one person, but of
consecutive frames: a smaller value stands for views that are seconds apart."""
MIN_HEIGHT, MIN_VISIBILITY = 60, 0.6
MEAN, DEVIATION = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))


def measure_similarity(root: Path, network: Path) -> tuple[float, float, float]:
    """Mean cosine of two views of one person, of two people, and the ninth decile of the latter, on MOT17's training
    frames."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    input_name = session.get_inputs()[0].name
    same, other = [], []
    for name in SEQUENCES["training"]["MOT17"].split():
        keys, crops = _person_crops(root / "MOT17" / f"MOT17-{name}-FRCNN")
        rows = [session.run(None, {input_name: crop[None].astype(np.float32)})[0] for crop in crops]
        embeddings = np.concatenate(rows)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        cosine = embeddings @ embeddings.T
        person, frame = (np.array(part) for part in zip(*keys, strict=True))
        apart = frame[:, None] != frame[None]
        same.append(cosine[(person[:, None] == person[None]) & apart])
        other.append(cosine[(person[:, None] != person[None])])
    one, two = np.concatenate(same), np.concatenate(other)
    return float(one.mean()), float(two.mean()), float(np.quantile(two, 0.9))


def _person_crops(path: Path) -> tuple[list[tuple[int, str]], list[NDArray[np.float64]]]:
    """Identity and frame of each clearly visible person of a sequence, and `(3, 256, 128)` normalised crops."""
    import cv2

    truth = read_ground_truth(path)
    keys: list[tuple[int, str]] = []
    crops: list[NDArray[np.float64]] = []
    for file in sorted((path / "img1").glob("*.jpg")):
        bgr = cv2.imread(str(file))
        assert bgr is not None, file
        image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        boxes = truth.at(int(file.stem) - 1)
        for box, person, visibility in zip(boxes.xyxy, boxes.track_id, boxes.visibility, strict=True):
            x1, y1, x2, y2 = np.maximum(box, 0).astype(int)
            if y2 - y1 < MIN_HEIGHT or visibility < MIN_VISIBILITY or not image[y1:y2, x1:x2].size:
                continue
            crop = cv2.resize(image[y1:y2, x1:x2], (128, 256)) / 255.0
            keys.append((int(person), file.name))
            crops.append(((crop - MEAN) / DEVIATION).transpose(2, 0, 1))
    return keys, crops


def tracked(video: SimulatedSequence, scorer: AssociationScorer | None, embeddings: str) -> Tracks:
    """The tracker over a video with its `own` embeddings, `none`, or `alike`: the same for every object of a frame;
    `gallery`: its own, and who comes back gets the old identity."""
    settings = preset("adaptive") if scorer is None else preset("learned", appearance_memory=True)
    if embeddings == "gallery":
        settings = preset("learned", appearance_memory=True, appearance_gallery=500)
    if scorer is not None:
        scorer.reset()  # another tracker takes it
    tracker = Tracker(settings, frame_rate=video.fps, size=video.size, scorer=scorer)
    visibility = VisibilityEstimator("occlusion", min_occluder_score=settings.confidence_threshold)
    tracks = []
    for frame, seconds, camera, detections in video:
        own = detections.embedding
        assert own is not None
        embedding = {"own": own, "gallery": own, "none": None, "alike": own[:1].repeat(len(own), axis=0)}[embeddings]
        visible = visibility.estimate(detections, size=video.size).visibility
        detections = replace(detections, embedding=embedding, visibility=visible)
        output = tracker.update(detections, FrameContext(frame, seconds, camera))
        tracks.append(as_rows(frame, None, output).tracks)
    return Tracks.concat(tracks)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=24, help="of each regime")
    parser.add_argument("--regimes", nargs="+", choices=tuple(REGIMES), default=["dance", "sport", "street"])
    parser.add_argument("--scorer", default="learned", metavar="learned|learned=FILE")
    parser.add_argument("--data", type=Path, metavar="MOT_ROOT")
    parser.add_argument("--reid", type=Path, metavar="MODEL.onnx")
    args = parser.parse_args()
    appearance = MEASURED
    if args.data is not None and args.reid is not None:
        genuine, impostor, alike = measure_similarity(args.data, args.reid)
        print(f"cosines: one person {genuine:.2f}, two people {impostor:.2f}, nine tenths of them below {alike:.2f}\n")
        appearance = MEASURED.model_copy(update={"genuine": genuine, "teammates": alike, "impostor": impostor})
    scorer = scorer_named(args.scorer)
    rows = {
        "`adaptive`": (None, "none"),
        "learned, no embeddings": (scorer, "none"),
        "learned, with embeddings": (scorer, "own"),
        "learned, with embeddings and a gallery": (scorer, "gallery"),
        "learned, embeddings all alike": (scorer, "alike"),
    }
    print("| HOTA/AssA/DetA/IDF1/IDSW | " + " | ".join(args.regimes) + " |")
    print("|---" * (1 + len(args.regimes)) + "|")
    cells: dict[str, list[str]] = {name: [] for name in rows}
    for regime in args.regimes:
        scenes = SimulateSettings(seed=SEED, regime=regime)
        videos = [simulated_sequence(scenes, number, embedding=lambda _: appearance) for number in range(args.videos)]
        with tempfile.TemporaryDirectory() as folder:
            truth = Path(folder) / "truth"
            for video in videos:
                write_mot_folder(video, truth)
            for number, (name, (row_scorer, embeddings)) in enumerate(rows.items()):
                results = Path(folder) / str(number)
                results.mkdir()
                for video in videos:
                    write_mot(results / f"{video.name}.txt", tracked(video, row_scorer, embeddings))
                settings = EvaluationSettings(sequences=tuple(video.name for video in videos))
                scores = evaluate(results, truth, settings).classes[0]
                cells[name].append(str(Figures.of(scores.combined, len(scores.sequences))))
    for name, columns in cells.items():
        print(f"| {name} | " + " | ".join(columns) + " |")


if __name__ == "__main__":
    main()
