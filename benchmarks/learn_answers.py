"""What the tracker learns from the answers of a person: HOTA on sequences that nobody answered about.

    python benchmarks/learn_answers.py --data MOT_ROOT --output DIR [--answers 300 1000] [--errors 0]
        [--learn 0004 0014 0026 0035] [--test 0058 0073 0094] [--seed 0]

MOT_ROOT is that of `mot_sequences`; sequences are DanceTrack's. As a user would do it: `boxes --scorer learned
--log-dir` on the first sequences, the answers of the simulated person of `questions.py` in the order of `trackweave
ask`, `correct`, `assoc train --data RUN … --start default`; then the other sequences are tracked with the model before
and after. HOTA/AssA/DetA/IDF1, of the sequences together and of each; DIR keeps runs, samples, trainings and models.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trackweave.association.scorer import LearnedScorer
from trackweave.association.settings import LogSettings, ScorerSettings, TrainSettings
from trackweave.association.training.checkpoint import export_onnx
from trackweave.association.training.loop import BEST
from trackweave.association.training.train_assoc import DEFAULT, TrainingOptions
from trackweave.corrections.doubt import link_doubt
from trackweave.formats.motchallenge import MotSequence
from trackweave.mot.settings import preset
from trackweave.pipelines.box_outputs import as_rows
from trackweave.pipelines.boxes import track_boxes
from trackweave.pipelines.corrections import correct
from trackweave.pipelines.learning import learn
from trackweave.storage.track_archive import TrackRows

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the siblings are found when this is started as a file

from benchmarks.mot_sequences import SEQUENCES, inputs, tracked_frames
from benchmarks.questions import Truth, Video, ask_repair, scores, true_ids

LEARN, TEST = "0004 0014 0026 0035", "0058 0073 0094"


def answered(videos: Sequence[Video], count: int, errors: float, seed: int) -> None:
    """Lets the person answer so many questions about the videos together."""
    for video in videos:
        video.restart()
    asking = ask_repair(videos, errors, np.random.default_rng(seed))
    for _ in range(count):
        if next(asking, "end") is not None:
            return


def video_of(sequence: MotSequence, rows: TrackRows) -> Video:
    """Tracks of a sequence, for the person to look at."""
    true, truth = true_ids(sequence, rows.tracks), Truth.of(sequence.path, rows.tracks)
    return Video(sequence.path.name, rows.tracks, rows.detection, true, truth, link_doubt(rows.tracks))


def logged_run(sequence: MotSequence, detections: Path, folder: Path) -> Video:
    """A run with logged samples, made once."""
    run = folder / "runs" / sequence.path.name
    if not (run / "manifest.json").exists():
        log, scorer = LogSettings(dir=folder / "logged" / sequence.path.name), ScorerSettings(enabled=True)
        track_boxes(
            sequence.path, run, detections=detections, tracker="learned", scorer=scorer, log=log, overwrite=True
        )
    (run / "corrections.jsonl").unlink(missing_ok=True)  # of the last time
    with correct(run).archive() as archive:
        return video_of(sequence, archive.rows(with_masks=False))


def trained(videos: Sequence[Video], folder: Path, name: str, options: TrainingOptions) -> Path:
    """The model that learned from what was said about the videos."""
    runs = [folder / "runs" / video.name for video in videos]
    for run, video in zip(runs, videos, strict=True):
        (run / "corrections.jsonl").unlink(missing_ok=True)
        correct(run, video.acts)
    print(learn(runs, folder / name, options), file=sys.stderr)
    return export_onnx(folder / name / BEST, folder / name / "model.onnx")


def tracked(jobs: Sequence[tuple[MotSequence, Path]], model: Path | None) -> dict[str, dict[str, float]]:
    """Scores of each sequence, and of all together."""
    videos = []
    for sequence, detections in jobs:
        scorer = LearnedScorer(model, size=sequence.known_size())
        frames, _ = tracked_frames(sequence, detections, preset("learned"), False, scorer=scorer)
        videos.append(video_of(sequence, TrackRows.concat([as_rows(n, None, frame) for n, frame in enumerate(frames)])))
    return {"together": scores(videos), **{video.name: scores([video]) for video in videos}}


def main() -> None:
    """Prints a Markdown table."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="MOT_ROOT")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--answers", type=int, nargs="+", default=[1000])
    parser.add_argument("--errors", type=float, default=0.0, help="share of wrong names")
    parser.add_argument("--learn", nargs="+", default=LEARN.split(), help="numbers of sequences")
    parser.add_argument("--test", nargs="+", default=TEST.split(), help="numbers of other sequences")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    both = [pair for split in SEQUENCES for pair in inputs(args.data, split, "dancetrack", None)]
    jobs = {sequence.path.name.removeprefix("dancetrack"): (sequence, file) for sequence, file in both}
    started = time.process_time()
    videos = [logged_run(*jobs[number], args.output) for number in args.learn]
    table = {"0": tracked([jobs[number] for number in args.test], None)}
    print("before", table["0"], f"{time.process_time() - started:.0f} s", file=sys.stderr, flush=True)
    options = TrainingOptions(TrainSettings(seed=args.seed), overwrite=True, start=Path(DEFAULT))
    for count in args.answers:
        answered(videos, count, args.errors, args.seed)
        model = trained(videos, args.output, f"answers-{count}", options)
        table[str(count)] = tracked([jobs[number] for number in args.test], model)
        print(count, table[str(count)], f"{time.process_time() - started:.0f} s", file=sys.stderr, flush=True)
    (args.output / "scores.json").write_text(json.dumps(table, indent=1) + "\n")
    names = list(table["0"])
    print(f"| answers | {' | '.join(names)} |\n|--:|{'---|' * len(names)}")
    for count, rows in table.items():
        print(f"| {count} | {' | '.join('/'.join(f'{value:.2f}' for value in rows[one].values()) for one in names)} |")


if __name__ == "__main__":
    main()
