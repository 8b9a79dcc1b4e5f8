"""The SAM 2 engine against the upstream predictor that is reset for every prompt frame; random weights, real sizes.

    python benchmarks/gpu_sam2.py                                    # a GPU: about 8 minutes, four models
    python benchmarks/gpu_sam2.py --models toy --frames 24 --candidates 12 --objects 96 --levels 2 --size 80x48
    python benchmarks/gpu_sam2.py --models toy --lengths 60 240 960  # peak memory against the length of the video

The job is that of `trackweave masks`: on K candidate frames, and for each of L levels, objects are prompted by masks
and moved P frames forward and backward. Both ways run the same weights on the same frames in the same process. The
engine moves the objects of all levels of a candidate frame together; the upstream predictor is reset for each level and
candidate frame. It is run on some of the candidate frames, evenly spread, and its time is scaled to all of them: its
cost is a sum over candidate frames. "wall / kernels" is wall time over the time that kernels were running, as the
profiler sums it up over a part of the run: 1 means that the device is never idle.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trackweave.frames.open import open_frames
from trackweave.frames.source import FrameSource, sample_evenly
from trackweave.ids import LocalIndex
from trackweave.predictors.base import PredictorSession
from trackweave.predictors.sam.backends import EdgeTamPredictor, Sam2HfPredictor
from trackweave.predictors.sam.loading import choose_device, prepare_model
from trackweave.predictors.sam.predictor import SamPredictor, UpstreamSession
from trackweave.predictors.sam.settings import SamSettings
from trackweave.progress import peak_rss_mb

HIERA: dict[str, dict[str, Any]] = {
    "tiny": {},
    "base-plus": {
        "hidden_size": 112,
        "num_attention_heads": 2,
        "blocks_per_stage": [2, 3, 16, 3],
        "embed_dim_per_stage": [112, 224, 448, 896],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "global_attention_blocks": [12, 16, 20],
        "window_positional_embedding_background_size": [14, 14],
    },
    "large": {
        "hidden_size": 144,
        "num_attention_heads": 2,
        "blocks_per_stage": [2, 6, 36, 4],
        "embed_dim_per_stage": [144, 288, 576, 1152],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "window_size_per_stage": [8, 4, 16, 8],
        "global_attention_blocks": [23, 33, 43],
    },
}
"""Image encoders of SAM 2.1, as the published configurations have them."""

MODELS = (*HIERA, "edgetam")


@dataclass(frozen=True)
class Job:
    """What is tracked.

    Attributes:
        frames: the video.
        candidates: candidate frames, ascending.
        masks: per candidate frame and level, the prompts.
        reach: frames each way; None = all.
    """

    frames: FrameSource
    candidates: list[int]
    masks: list[list[list[NDArray[np.bool_]]]]
    reach: int | None


@dataclass
class Figures:
    """What one way of doing the job took.

    Attributes:
        seconds: of the candidate frames that were run.
        encoder_seconds: of them in the image encoder.
        encoder_passes: frames through it.
        object_frames: masks that were predicted.
        peak_mb: of the device, or of the process where the processor is the device.
    """

    seconds: float
    encoder_seconds: float
    encoder_passes: float
    object_frames: int
    peak_mb: float


def make_job(options: argparse.Namespace) -> Job:
    """Noise and rectangles: the cost does not depend on what is seen."""
    rng = np.random.default_rng(0)
    height, width = options.size
    frames = open_frames(rng.integers(0, 256, (options.frames, height, width, 3), dtype=np.uint8))
    candidates = [round(k * (options.frames - 1) / (options.candidates - 1)) for k in range(options.candidates)]
    masks = []
    for k in range(options.candidates):
        count = (k + 1) * options.objects // options.candidates - k * options.objects // options.candidates
        masks.append([[_rectangle(rng, height, width) for _ in range(count)] for _ in range(options.levels)])
    return Job(frames, candidates, masks, options.reach)


def _rectangle(rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), np.bool_)
    top, left = int(rng.integers(0, height // 2)), int(rng.integers(0, width // 2))
    mask[top : top + height // 4, left : left + width // 4] = True
    return mask


def make_predictor(name: str, device: torch.device, **options: Any) -> SamPredictor:
    """A model of real size with random weights; `toy` is the tests' tiny one."""
    import transformers

    settings = SamSettings(device=str(device), **options)
    torch.manual_seed(0)
    if name == "toy":
        sys.path.insert(0, str(Path(__file__).parents[1]))
        from tests.predictors.sam.tiny import tiny_sam2_hf

        return Sam2HfPredictor(settings, model=prepare_model(tiny_sam2_hf(), device, settings))
    if name == "edgetam":
        backbone = transformers.TimmWrapperConfig(
            architecture="repvit_m1",
            do_pooling=False,
            model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
        )
        small = transformers.EdgeTamVideoConfig(vision_config={"backbone_config": backbone})
        model: Any = transformers.EdgeTamVideoModel(small)
        return EdgeTamPredictor(settings, model=prepare_model(_present(model), device, settings))
    sizes = HIERA[name]
    widths = sizes.get("embed_dim_per_stage", [96, 192, 384, 768])
    vision = transformers.Sam2VisionConfig(
        backbone_config=transformers.Sam2HieraDetConfig(image_size=[1024, 1024], **sizes),
        backbone_channel_list=widths[::-1],
    )
    # The switches in which SAM 2.1 differs from the defaults of 2.0 are part of the cost.
    config = transformers.Sam2VideoConfig(
        vision_config=vision,
        enable_occlusion_spatial_embedding=True,
        enable_temporal_pos_encoding_for_object_pointers=True,
    )
    return Sam2HfPredictor(
        settings, model=prepare_model(_present(transformers.Sam2VideoModel(config)), device, settings)
    )


def _present(model: Any) -> Any:
    """Random weights would call objects absent."""
    model.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(5.0)
    return model


class Stopwatch:
    """Time inside a module, without waiting for the device in between."""

    def __init__(self, module: torch.nn.Module, device: torch.device) -> None:
        self._device, self._marks = device, list[Any]()
        self._hooks = [
            module.register_forward_pre_hook(lambda *_: self._mark()),
            module.register_forward_hook(lambda *_: self._mark()),
        ]

    def _mark(self) -> None:
        if self._device.type == "cuda":
            event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def close(self) -> float:
        """Seconds in total."""
        for hook in self._hooks:
            hook.remove()
        pairs = zip(self._marks[::2], self._marks[1::2], strict=True)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            return float(sum(first.elapsed_time(second) for first, second in pairs)) / 1000
        return float(sum(second - first for first, second in pairs))


def run(predictor: SamPredictor, job: Job, chosen: Sequence[int]) -> Figures:
    """Does the job for some of the candidate frames."""
    device = predictor.model.device
    session = predictor.open(job.frames)
    _free(device)
    watch = Stopwatch(predictor._encoder, device)
    began, object_frames = time.perf_counter(), 0
    for k in chosen:
        object_frames += _candidate(session, job, k)
    _wait(device)
    seconds = time.perf_counter() - began
    counted = dict(session.counters)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_rss_mb() or float("nan")
    session.close()
    return Figures(seconds, watch.close(), counted["encoder_passes"], object_frames, peak)


def _candidate(session: PredictorSession, job: Job, k: int) -> int:
    """One candidate frame at every level; returns masks that were predicted."""
    start = job.candidates[k]
    session.release_frames_before(LocalIndex(start - job.reach if job.reach is not None else 0))
    if isinstance(session, UpstreamSession):
        return sum(_both_ways(session, start, masks, job.reach) for masks in job.masks[k])
    return _both_ways(session, start, [mask for masks in job.masks[k] for mask in masks], job.reach)


def _both_ways(session: PredictorSession, start: int, masks: Sequence[NDArray[np.bool_]], reach: int | None) -> int:
    found = 0
    for n, mask in enumerate(masks):
        session.add_mask(LocalIndex(start), n, mask)
    for reverse in (False, True) if masks else ():
        for prediction in session.propagate(LocalIndex(start), reverse=reverse, max_frames=reach):
            found += len(prediction.object_ids) * (prediction.frame != start)
    session.forget_objects(LocalIndex(start))
    return found


def busy_share(predictor: SamPredictor, job: Job, candidates: int = 6) -> float | None:
    """Wall time over the time that kernels ran, on the candidate frames in the middle; None without a GPU."""
    device = predictor.model.device
    if device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    middle = len(job.candidates) // 2
    session = predictor.open(job.frames)
    _candidate(session, job, middle - 1)
    _wait(device)
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        began = time.perf_counter()
        for k in range(middle, min(middle + candidates, len(job.candidates))):
            _candidate(session, job, k)
        _wait(device)
        wall = time.perf_counter() - began
    session.close()
    kernels = sum(event.self_device_time_total for event in seen.key_averages()) / 1e6
    return wall / kernels if kernels else None


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def compare(
    name: str, job: Job, device: torch.device, upstream_candidates: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Both ways for one model."""
    every = range(len(job.candidates))
    ours = make_predictor(name, device)
    run(ours, job, [0])  # what is compiled or chosen at the first use is not counted
    tell(f"{name}: engine")
    mine = run(ours, job, every)
    wall_to_kernels = busy_share(ours, job)
    upstream = SamPredictor(
        ours.model, ours._encoder, ours._open_pass, SamSettings(device=str(device), feature_store=False)
    )
    part = sample_evenly(every, 1, upstream_candidates)
    tell(f"{name}: upstream predictor on {len(part)} of {len(job.candidates)} candidate frames")
    its = run(upstream, job, part)
    share = its.object_frames / mine.object_frames
    return {
        "model": name,
        "engine": asdict(mine),
        "upstream": asdict(its),
        "upstream_share": share,
        "upstream_seconds_scaled": its.seconds / share,
        "ratio": its.seconds / share / mine.seconds,
        "wall_to_kernels": wall_to_kernels,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """For `docs/benchmarks.md`."""
    lines = [
        "| model | engine, s | encoder share | encoder passes | object-frames/s | peak, MB | wall / kernels | "
        "upstream, s | upstream peak, MB | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        mine, its, ratio = row["engine"], row["upstream"], row["wall_to_kernels"]
        lines.append(
            f"| {row['model']} | {mine['seconds']:.1f} | {mine['encoder_seconds'] / mine['seconds']:.0%} "
            f"| {mine['encoder_passes']:.0f} | {mine['object_frames'] / mine['seconds']:.0f} | {mine['peak_mb']:.0f} "
            f"| {'–' if ratio is None else f'{ratio:.2f}'} | {row['upstream_seconds_scaled']:.1f} "
            f"(measured {row['upstream_share']:.0%}) | {its['peak_mb']:.0f} | **{row['ratio']:.1f}×** |"
        )
    return "\n".join(lines)


def memory(options: argparse.Namespace) -> None:
    """Peak memory of the process by length of the video, each in a process of its own; a candidate every fourth frame,
    8 frames each way."""
    if len(options.lengths) > 1:
        print("| frames | object-frames | peak RSS, MB |\n|---|---|---|", flush=True)
    for length in options.lengths:
        if len(options.lengths) > 1:
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--lengths", str(length)], check=True)
            continue
        options.frames, options.candidates, options.objects, options.reach = length, length // 4, length, 8
        job = make_job(options)
        done = run(make_predictor(options.models[0], choose_device(options.device)), job, range(options.candidates))
        print(f"| {length} | {done.object_frames} | {done.peak_mb:.0f} |", flush=True)


def main() -> None:
    """Runs it and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=(*MODELS, "toy"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--candidates", type=int, default=60)
    parser.add_argument("--objects", type=int, default=150, help="per level, spread over the candidate frames")
    parser.add_argument("--levels", type=int, default=1)
    parser.add_argument("--reach", type=int, help="frames each way [default: 30 for models of real size, all for toy]")
    parser.add_argument(
        "--upstream-candidates", type=int, default=6, help="candidate frames that the upstream way runs"
    )
    parser.add_argument("--size", default="1024x1024", help="of the frames, WxH")
    parser.add_argument("--threads", type=int, help="of torch on the processor")
    parser.add_argument("--lengths", type=int, nargs="+", help="only: peak memory of the engine for these lengths")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    options.size = (height, width)
    if options.reach is None and options.models != ["toy"]:
        options.reach = 30
    if options.threads:
        torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    if options.lengths:
        memory(options)
        return
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(
        f"{where}, torch {torch.__version__}, {options.frames} frames, {options.candidates} candidate frames, ", end=""
    )
    print(f"{options.objects} objects per level, {options.levels} level(s), {options.reach or 'all'} frames each way")
    job = make_job(options)
    rows = []
    for name in options.models:
        rows.append(compare(name, job, device, options.upstream_candidates, lambda text: print(text, file=sys.stderr)))
        print(table(rows[-1:]) if len(rows) == 1 else table(rows[-1:]).splitlines()[-1], flush=True)
        if options.json:
            options.json.write_text(json.dumps({"device": where, "rows": rows}, indent=1))
        _free(device)


if __name__ == "__main__":
    main()
