"""What merging, stitching and nesting change: each alone and all together, against runs without identities.

    python benchmarks/identity.py scenes --work DIR [--split tuned reported] [--seeds 60 61 …]
    python benchmarks/identity.py scan --scene DIR --work DIR
    python benchmarks/identity.py real --data DIR --work DIR
    python benchmarks/identity.py gaps --data DIR --work DIR

`scenes` are generated (`identity_scenes.py`), with a run of `flow` in DIR that is kept for the next time; thresholds
were tuned on `tuned`, `reported` are other seeds. `scan` is the MultiScan scene with its candidates, by `replay` and
`flow`; there is no truth, so tracks are compared with each other. `real` is annotated footage, prompted so that pieces
meet; `gaps` are DAVIS and Xiph sequences prompted late and so seldom that nine frames lie between the pieces.

Links are judged by the pixels of the two raw tracks: over their lives, how they spread over the details of the true
things. One is right when the two spreads share at least half. A return is a thing that is seen again after frames
without it; it counts where tracks follow the thing on both sides and no raw track does so on both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.absence_scenes import read_footage
from benchmarks.identity_scenes import LEVELS, REPORTED, TUNED, reach_of, run_scene, scene_of, truth_of
from trackweave.evaluation.annotations import LabelFolderAnnotations, MaskRunAnnotations
from trackweave.evaluation.classes import OBJECTS
from trackweave.evaluation.matching import ScoringRules, score_sequence
from trackweave.evaluation.measures import Nestedness, TracksInWholes
from trackweave.evaluation.metrics import TrackEval, combined
from trackweave.evaluation.scores import Scores
from trackweave.evaluation.settings import Matching, Metric, Overlap, Protocol
from trackweave.formats.davis import write_label_png
from trackweave.frames.arrays import ArrayFrames
from trackweave.frames.source import FrameSource
from trackweave.identity.settings import IdentitySettings
from trackweave.ids import Level
from trackweave.masks.codecs import decode_rle
from trackweave.masks.ops import mask_intersection, mask_iou
from trackweave.masks.packed import PackedMasks
from trackweave.pipelines.identity import relate
from trackweave.pipelines.masks import track_masks
from trackweave.predictors.flow.predictor import FlowPredictor
from trackweave.simulation.nested import NestedScene
from trackweave.storage.candidates import write_filtered
from trackweave.storage.corrected_masks import open_masks
from trackweave.storage.identity import read_identity
from trackweave.storage.run import RunPaths
from trackweave.structures.candidates import Candidates
from trackweave.structures.identity import IdentityTable
from trackweave.tracking.settings import TrackingSettings

OFF = {"merge": False, "stitch": False, "nest": False}
VARIANTS: Mapping[str, IdentitySettings | None] = {
    "off": None,
    "merge": IdentitySettings(**OFF | {"merge": True}),
    "stitch": IdentitySettings(**OFF | {"stitch": True}),
    "merge and stitch": IdentitySettings(**OFF | {"merge": True, "stitch": True}),
    "nest": IdentitySettings(**OFF | {"nest": True}),
    "merge and nest": IdentitySettings(),
    "all": IdentitySettings(stitch=True),
}
METRICS = (Metric.hota, Metric.owta, Metric.lifetime)
RULES = ScoringRules(METRICS, Overlap.masks, Protocol.plain, (OBJECTS,), Matching.best)
SHOWN = ("HOTA", "OWTA", "DetA", "AssA", "Lifetime", "Tracks", "Duplicates")
SAME = 0.5
"""Share of their spreads over true details that two tracks of one thing have in common at least."""
FOLLOWED = 0.5


@dataclass
class Tally:
    """What was counted over some scenes."""

    scores: list[Scores] = field(default_factory=list)
    links: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def row(self, name: str, trackeval: TrackEval) -> str:
        """One Markdown row of scores."""
        whole = combined(self.scores, trackeval)
        shares = [f"{100 * whole[one]:.1f}" for one in SHOWN[:5]]
        return f"| {name} | {' | '.join(shares)} | {whole['Tracks']:.2f} | {whole['Duplicates']:.2f} |"

    def link_row(self, name: str) -> str:
        """One Markdown row of links and returns."""
        count = self.links
        return (
            f"| {name} | {count['merge']} | {_share(count['merge wrong'], count['merge'])} | "
            f"{_share(count['merge look-alike'], count['merge'])} | {_share(count['merge apart'], count['merge'])} | "
            f"{count['stitch']} | "
            f"{_share(count['stitch'] - count['stitch wrong'], count['stitch'])} | "
            f"{_share(count['returns found'], count['returns'])} of {count['returns']} |"
        )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "–"


@dataclass(frozen=True)
class TrueLabels:
    """What there is to know of a video, frame by frame: `(H, W)` labels of one level, and of the finest.

    Attributes:
        length: number of frames.
        labels: of the level.
        details: of the finest level.
        thing_of: detail → thing.
        twins: pairs of things that look alike, the smaller number first.
    """

    length: int
    labels: Callable[[int], NDArray[Any]]
    details: Callable[[int], NDArray[Any]]
    thing_of: Callable[[int], int] = lambda detail: detail
    twins: frozenset[tuple[int, int]] = frozenset()

    @classmethod
    def of_scene(cls, scene: NestedScene, level: int) -> TrueLabels:
        """A generated scene at one level."""
        return cls(
            len(scene),
            lambda local: truth_of(scene, local, level),
            lambda local: scene.labels(local, 6),
            lambda detail: scene.thing_of(6, detail),
            frozenset((thing.twin_of, k) for k, thing in enumerate(scene.things, 1) if thing.twin_of),
        )


class RawTracks:
    """What the raw tracks of a level are of: their spread over true details, and whom they follow on each frame."""

    def __init__(self, truth: TrueLabels, run: RunPaths, level: Level) -> None:
        self.spread: dict[int, Counter[int]] = defaultdict(Counter)
        self._by_frame: dict[int, dict[int, Counter[int]]] = defaultdict(dict)
        self.followers: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
        self.visible: dict[int, list[int]] = defaultdict(list)
        self._truth = truth
        with open_masks(run, level, raw=True) as video:
            for local in range(truth.length):
                labels = truth.labels(local)
                present = np.unique(labels[labels > 0])
                for number in present.tolist():
                    self.visible[number].append(local)
                objects = video.frame(local)
                if not len(objects):
                    continue
                details = truth.details(local).reshape(-1)
                for track, mask in zip(objects.track_id.tolist(), objects.masks.to_bool(), strict=True):
                    found = np.bincount(details[mask.reshape(-1)], minlength=1)
                    self._by_frame[track][local] = Counter({k: int(n) for k, n in enumerate(found) if n})
                    self.spread[track].update(self._by_frame[track][local])
                if len(present):
                    ious = mask_iou(PackedMasks.from_bool(labels == present[:, None, None]), objects.masks)
                    for row, column in np.argwhere(ious > FOLLOWED).tolist():
                        self.followers[int(present[row])][local].add(int(objects.track_id[column]))

    def common(self, a: int, b: int, *, together: bool = False) -> float:
        """Share of their spreads that two tracks have in common; of those on frames with both, where there are some."""
        one, other = self.spread[a], self.spread[b]
        both = self._by_frame[a].keys() & self._by_frame[b].keys()
        if together and both:
            one, other = (sum((self._by_frame[k][t] for t in both), Counter[int]()) for k in (a, b))
        totals = max(one.total(), 1), max(other.total(), 1)
        return sum(min(one[k] / totals[0], other[k] / totals[1]) for k in one)

    def thing(self, track: int) -> int:
        """The thing that most of its pixels show; 0 = none."""
        things: Counter[int] = Counter()
        for detail, pixels in self.spread[track].items():
            things[self._truth.thing_of(detail) if detail else 0] += pixels
        return things.most_common(1)[0][0] if things else 0

    def are_twins(self, a: int, b: int) -> bool:
        """Do two tracks show things that look alike?"""
        pair = sorted((self.thing(a), self.thing(b)))
        return tuple(pair) in self._truth.twins

    def returns(self) -> Iterator[tuple[set[int], set[int]]]:
        """Raw tracks that follow a thing before and after a time without it, unless one does both."""
        for number, frames in self.visible.items():
            stretches = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
            sides = [set().union(*(self.followers[number][t] for t in part.tolist())) for part in stretches]
            for k in range(1, len(sides)):
                before, after = set().union(*sides[:k]), sides[k]
                if before and after and not before & after:
                    yield before, after

    def judge(self, table: IdentityTable) -> Counter[str]:
        """Numbers of links and returns."""
        count: Counter[str] = Counter()
        for link in table.links:
            count[link.kind] += 1
            if self.common(link.a, link.b) < SAME:
                count[f"{link.kind} wrong"] += 1
                count[f"{link.kind} look-alike"] += self.are_twins(link.a, link.b)
                count[f"{link.kind} apart"] += self.common(link.a, link.b, together=True) < SAME
        for before, after in self.returns():
            identities = [set(table.of(sorted(side)).tolist()) for side in (before, after)]
            count["returns"] += 1
            count["returns found"] += bool(identities[0] & identities[1])
        return count


def scenes(seeds: Sequence[int], work: Path, variants: Sequence[str]) -> None:
    """The tables of generated scenes."""
    trackeval = TrackEval(METRICS)
    tallies = {name: Tally() for name in variants}
    tracking = 0.0
    for seed in seeds:
        scene, folder = scene_of(seed), work / f"scene{seed}"
        took = folder / "seconds"
        if not took.is_file():
            started = time.process_time()
            run_scene(scene, folder, reach_of(seed))
            took.write_text(str(time.process_time() - started))
        tracking += float(took.read_text())
        pictures = ArrayFrames(np.stack([scene[local] for local in range(len(scene))]))
        run = RunPaths(folder / "run")
        raw = {level: RawTracks(TrueLabels.of_scene(scene, level), run, Level(level)) for level in LEVELS}
        for name, tally in tallies.items():
            tally.seconds += _apply(run, VARIANTS[name], pictures)
            record = read_identity(run)
            for level in LEVELS:
                table = IdentityTable.empty() if record is None else record.table.at_level(level)
                tally.links += raw[level].judge(table)
                tally.scores.append(_score(folder / "truth" / f"level_{level}", run, Level(level), trackeval))
    print(f"{len(seeds)} scenes, {', '.join(map(str, seeds))}\n")
    print(f"| identity | {' | '.join(SHOWN)} |\n{'|---' * (len(SHOWN) + 1)}|")
    for name, tally in tallies.items():
        print(tally.row(name, trackeval))
    print("\n| identity | merges | wrong | of look-alikes | apart when together | stitches | right | returns found |")
    print("|---" * 8 + "|")
    for name, tally in tallies.items():
        print(tally.link_row(name))
    if tracking:
        print("\n" + ", ".join(f"{name} {tally.seconds / tracking:.3f}" for name, tally in tallies.items()), end=" ")
        print("of the seconds of tracking")


def _apply(run: RunPaths, settings: IdentitySettings | None, pictures: FrameSource | None = None) -> float:
    """Relates a run anew, or not at all; processor seconds."""
    started = time.process_time()
    run.identity.unlink(missing_ok=True)
    if settings is not None:
        relate(run.root, settings, video=pictures)
    return time.process_time() - started


def _score(truth: Path, run: RunPaths, level: Level, trackeval: TrackEval) -> Scores:
    labels = LabelFolderAnnotations(truth)
    video = open_masks(run, level)
    height, width = labels.at(0, with_masks=True).masks.size  # type: ignore[union-attr]
    tracks = MaskRunAnnotations(video, None, (height, width))
    found = score_sequence(truth.parent.parent.name, labels, tracks, RULES, trackeval).classes[OBJECTS.name]
    tracks.close()
    return found


# --- a scan without truth ----------------------------------------------------------------------------------------


def scan(scene: Path, work: Path) -> None:
    """Tracks of the MultiScan scene against each other, before and after."""
    candidates = work / "candidates"
    if not candidates.is_dir():
        subprocess.run([sys.executable, scene / "make_candidates.py", candidates], check=True, capture_output=True)
    print("| run | level | identity | tracks | pairs alike | pixels covered | in two | with a parent | inside one |")
    print("|---" * 9 + "|")
    for predictor in (f"replay={scene / 'recorded'}", "flow"):
        run = RunPaths(work / predictor.partition("=")[0])
        if not run.manifest.is_file():
            settings = TrackingSettings(render_viz=False, mask_scale_ratio=0.3)
            given = {"candidates": candidates, "predictor": predictor, "settings": settings}
            track_masks(scene / "frames", run.root, progress=False, identity=False, **given)  # type: ignore[call-overload]
        _apply(run, VARIANTS["all"])
        for level in map(Level, LEVELS):
            coarser = [Level(one) for one in LEVELS if one < level][-1:]
            before, after = (_figures(run, level, coarser, raw=raw) for raw in (True, False))
            for figures, called in ((before, "off"), (after, "all")):
                kept = f"{figures.covered / before.covered:.4f}"
                row = (figures.tracks, figures.alike, kept, figures.twice, figures.with_parent, figures.inside)
                print(f"| {run.root.name} | {level} | {called} | {' | '.join(map(str, row))} |", flush=True)


@dataclass(frozen=True)
class _Figures:
    """Of one level: tracks, pairs that agree by an IoU above one half on the frames with both, two or more, pixels."""

    tracks: int
    alike: int
    covered: int
    twice: int
    with_parent: str
    inside: str


def _figures(run: RunPaths, level: Level, coarser: Sequence[Level], *, raw: bool) -> _Figures:
    nesting = Nestedness()
    covered = twice = 0
    with ExitStack() as stack:
        video = stack.enter_context(open_masks(run, level, raw=raw))
        outer = [stack.enter_context(open_masks(run, one, raw=raw)) for one in coarser]
        ids = np.unique(np.concatenate([video.frame(frame).track_id for frame in video.frames]))
        shared, union, seen = (np.zeros((len(ids), len(ids)), np.int64) for _ in range(3))
        for frame in video.frames:
            objects = video.frame(frame)
            rows = np.searchsorted(ids, objects.track_id)
            common, areas = mask_intersection(objects.masks, objects.masks), objects.masks.areas
            here = np.ix_(rows, rows)
            shared[here] += common
            union[here] += areas[:, None] + areas - common
            seen[here] += 1
            times = np.bincount(objects.masks.to_bool().sum(0).reshape(-1), minlength=2)
            covered, twice = covered + int(times[1:].sum()), twice + int(times[2:].sum())
            for each in outer:
                around = each.frame(frame)
                inside = mask_intersection(objects.masks, around.masks) if len(around) else np.zeros((len(rows), 0))
                nesting.add_wholes(TracksInWholes(objects.track_id, areas, around.track_id, inside.astype(np.int64)))
    alike = int(np.triu((seen >= 2) & (2 * shared > union), 1).sum())
    nested = f"{nesting.values()['Nested']:.3f}" if coarser else "–"
    record = read_identity(run)
    parents = "–"
    if record is not None and coarser and not raw:
        parents = f"{np.mean([record.tree.parent(one) > 0 for one in ids.tolist()]):.3f}"
    return _Figures(len(ids), alike, covered, twice, parents, nested)


# --- annotated footage ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clip:
    """Annotated footage: frames, true labels `(N, H, W)`, and how a run is cut into pieces."""

    name: str
    frames: NDArray[np.uint8]
    labels: NDArray[np.uint16]
    stride: int
    reach: int | None
    replays: bool = False
    first: int = 0

    def run(self, work: Path, *, uncut: bool = False) -> RunPaths:
        """A run prompted with the true masks: in the middle and followed to both ends, or every `stride` frames."""
        folder = work / self.name / ("uncut" if uncut else "pieces")
        if not (folder / "manifest.json").is_file():
            every = [len(self.labels) // 2] if uncut else list(range(self.first, len(self.labels), self.stride))
            frames = ((local, f"{local:06d}", self._candidates(local)) for local in every)
            write_filtered(work / self.name / folder.name / "given" / "level_2", 2, frames)
            reach = None if uncut else self.reach
            settings = TrackingSettings(render_viz=False, max_propagate=reach, cuts="ignore")
            predictor = f"replay={self._record(work)}" if self.replays else FlowPredictor(threads=1)
            track_masks(
                ArrayFrames(self.frames),
                folder,
                candidates=work / self.name / folder.name / "given",
                predictor=predictor,
                settings=settings,
                progress=False,
                identity=False,
            )
        return RunPaths(folder)

    def _candidates(self, local: int) -> Candidates:
        labels = self.labels[local]
        ids = np.unique(labels[labels > 0])
        masks = PackedMasks.from_bool(labels == ids[:, None, None])
        scores = np.full(len(ids), 0.95, np.float32)
        return Candidates(ids.astype(np.int64), masks.boxes.astype(np.float32), scores, masks.areas, masks)

    def _record(self, work: Path) -> Path:
        entries = {"shape": np.array(self.labels.shape[1:])}
        for frame, labels in enumerate(self.labels):
            for k in np.unique(labels[labels > 0]).tolist():
                entries[f"{frame:05d}_{k:03d}"] = np.packbits((labels == k).reshape(-1))
        path = work / self.name / "recorded.npz"
        np.savez(path, allow_pickle=False, **entries)
        return path


def clips(data: Path) -> Iterator[Clip]:
    """The annotated footage of `data`, as far as it is there."""
    for folder in sorted((data / "davis2016_480p").glob("*/"))[::3]:
        yield _davis(folder, 50)
    for folder in sorted((data / "chen_xiph").glob("*/")):
        frames = [image for _, image in _images(folder / "frames")][:60]
        colours = np.stack([image for _, image in _images(folder / "masks")][:60]).astype(np.uint32)
        _, kinds = np.unique(colours @ np.array([65536, 256, 1], np.uint32), return_inverse=True)
        yield Clip(f"Xiph {folder.name}", np.stack(frames), kinds.reshape(colours.shape[:3]).astype(np.uint16), 20, 10)
    for name in ("manual", "auto"):
        path = data / "sav_example_masklets" / f"sav_000001_{name}.json"
        if path.is_file():
            masklets = _masklets(path)
            yield Clip(f"SA-V {name}", np.zeros((*masklets.shape, 3), np.uint8), masklets, 20, 10, replays=True)
    cells = data / "laptrack_cells"
    if cells.is_dir():
        _, pages = cv2.imreadmulti(str(cells / "example_label.tif"), flags=cv2.IMREAD_UNCHANGED)
        _, images = cv2.imreadmulti(str(cells / "example_images.tif"), flags=cv2.IMREAD_UNCHANGED)
        grey = np.stack([np.asarray(image, np.float64).reshape(*image.shape[:2], -1)[..., 0] for image in images])
        grey = np.clip(255 * (grey - grey.min()) / np.ptp(grey), 0, 255).astype(np.uint8)
        yield Clip("cells", np.repeat(grey[..., None], 3, -1), np.stack(pages).astype(np.uint16), 1, 1)


def with_gaps(data: Path) -> Iterator[Clip]:
    """Sequences whose pieces do not meet: prompted on frame 15 and every 30th from there, and followed for ten."""
    for folder in sorted((data / "davis2016_480p").glob("*/")):
        yield replace(_davis(folder, 90), name=f"gaps {folder.name}", first=15, stride=30)
    for clip in clips(data):
        if clip.name.startswith("Xiph"):
            yield replace(clip, name=f"gaps {clip.name}", first=15, stride=30)


def _davis(folder: Path, length: int) -> Clip:
    footage = read_footage(folder, length)
    small = np.stack([cv2.resize(one, (427, 240), interpolation=cv2.INTER_AREA) for one in footage.frames])
    masks = [cv2.resize(mask.view(np.uint8), (427, 240), interpolation=cv2.INTER_NEAREST) for mask in footage.masks]
    return Clip(f"DAVIS {folder.name}", small.astype(np.uint8), np.stack(masks).astype(np.uint16), 20, 10)


def _images(folder: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    for path in sorted(folder.iterdir()):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        yield path.stem, np.asarray(image, np.uint8)


def _masklets(path: Path) -> NDArray[np.uint16]:
    """Label maps of SA-V's masklets at half size; of those that overlap the smaller is on top."""
    masklets = json.loads(path.read_text())["masklet"]
    labels = []
    for frame in masklets:
        masks = decode_rle(frame).to_bool()[:, ::2, ::2]
        image = np.zeros(masks.shape[1:], np.uint16)
        for k in np.argsort(-masks.sum((1, 2)), kind="stable"):
            image[masks[k]] = k + 1
        labels.append(image)
    return np.stack(labels)


def real(footage: Iterator[Clip], work: Path, names: Sequence[str]) -> None:
    """The tables of annotated footage: one run cut into pieces, without and with identities, and one uncut."""
    trackeval = TrackEval(METRICS)
    print("| footage | run | identity | HOTA | AssA | Lifetime | Tracks | merges | wrong | apart | stitches | wrong |")
    print("|---" * 12 + "|")
    for clip in footage:
        if names and not any(name in clip.name for name in names):
            continue
        truth = work / clip.name / "truth" / "level_2"
        for local, labels in enumerate(clip.labels):
            write_label_png(truth / f"{local:06d}.png", labels)
        run = clip.run(work)
        raw = RawTracks(TrueLabels(len(clip.labels), clip.labels.__getitem__, clip.labels.__getitem__), run, Level(2))
        for name in ("off", "merge and nest", "all"):
            _apply(run, VARIANTS[name], ArrayFrames(clip.frames))
            record = read_identity(run)
            count = raw.judge(IdentityTable.empty() if record is None else record.table)
            links = [count[one] for one in ("merge", "merge wrong", "merge apart", "stitch", "stitch wrong")]
            scores = _real_row(truth, run, trackeval)
            print(f"| {clip.name} | pieces | {name} | {scores} | {' | '.join(map(str, links))} |")
        uncut = clip.run(work, uncut=True)
        _apply(uncut, None)
        print(f"| {clip.name} | uncut | off | {_real_row(truth, uncut, trackeval)} | | | | | |", flush=True)


def _real_row(truth: Path, run: RunPaths, trackeval: TrackEval) -> str:
    scores = _score(truth, run, Level(2), trackeval)
    shares = [f"{100 * scores[one]:.1f}" for one in ("HOTA", "AssA", "Lifetime")]
    return f"{' | '.join(shares)} | {scores['Tracks']:.2f}"


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("scenes", "scan", "real", "gaps"))
    parser.add_argument("--work", type=Path, required=True, help="runs are kept here")
    parser.add_argument("--split", nargs="*", choices=("tuned", "reported"), default=["reported"])
    parser.add_argument("--seeds", nargs="*", type=int, help="these scenes only")
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--scene", type=Path, help="the folder of the MultiScan scene")
    parser.add_argument("--data", type=Path, help="the folder of annotated footage")
    parser.add_argument("--clips", nargs="*", default=(), help="only footage whose name has one of these in it")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    if given.part == "scenes":
        for split in given.split:
            seeds = TUNED if split == "tuned" else REPORTED
            print(f"\n{split}: ", end="")
            scenes([seed for seed in seeds if not given.seeds or seed in given.seeds], given.work, given.variants)
    elif given.part == "scan":
        scan(given.scene, given.work)
    else:
        real(clips(given.data) if given.part == "real" else with_gaps(given.data), given.work, given.clips)


if __name__ == "__main__":
    main()
