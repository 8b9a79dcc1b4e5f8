"""What a report holds of the viewer: its page as one script and one style sheet, and the run's tracks as JSON."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np

from trackweave.corrections.doubt import link_doubt
from trackweave.errors import TrackweaveError
from trackweave.formats.motchallenge import is_sequence
from trackweave.reports.run_tracks import Description, RunTracks, ShownTracks, numbered_frames
from trackweave.structures.run_summary import TrackSummary
from trackweave.structures.tracks import Tracks
from trackweave.visualization.annotators import css, track_colour
from trackweave.visualization.look import stylesheet

Json = dict[str, Any]
ENTRY, INSTEAD = "app.js", {"api.js": "embedded.js"}
MOST_BOXES = 400_000
"""Boxes that a page holds; each takes 3 to 6 bytes of it."""
MOST_LINKED = 100_000
"""Boxes of a run whose links are looked at for the report; 20 µs each."""
MOST_SIDE = 1 << 15

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:async )?(?:function|class|const) (\w+)", re.MULTILINE)
_COMMENT = re.compile(r"[ \t]*/\*.*?\*/", re.DOTALL)
_BLANK = re.compile(r"\n(?:[ \t]*\n)+")


def _page() -> Traversable:
    """The viewer's page is read as files: nothing of its server is imported."""
    return files("trackweave") / "view" / "page"


def script() -> str:
    """The viewer's modules as one script, without comments: a page from the disk may load no module from beside it."""
    done: dict[str, list[str]] = {}
    parts: list[str] = []

    def add(name: str) -> None:
        if name in done:
            return
        text = _COMMENT.sub("", (_page() / name).read_text(encoding="utf-8"))
        done[name] = _EXPORT.findall(text)
        for _, wanted in _IMPORT.findall(text):
            add(INSTEAD.get(wanted, wanted))
        body = _IMPORT.sub(lambda found: f"const {{{found[1]}}} = {_variable(found[2])};\n", text)
        body = _BLANK.sub("\n", re.sub(r"^export (?=async |function |class |const )", "", body, flags=re.MULTILINE))
        if name == ENTRY:
            parts.append(body)
        else:
            parts.append(f"const {_variable(name)} = (() => {{{body}return {{ {', '.join(done[name])} }};\n}})();\n")

    add(ENTRY)
    return "".join(parts).replace("</", "<\\/")


def _variable(name: str) -> str:
    return f"${INSTEAD.get(name, name).removesuffix('.js')}"


def style() -> str:
    """The viewer's style sheets as one."""
    icon = base64.b64encode((_page() / "icon.svg").read_bytes()).decode("ascii")
    text = (_page() / "style.css").read_text(encoding="utf-8")
    return stylesheet() + text.replace("icon.svg", f"data:image/svg+xml;base64,{icon}")


def shell() -> str:
    """The viewer's page without its script: what its body holds."""
    text = (_page() / "index.html").read_text(encoding="utf-8")
    return text.partition("<body>")[2].partition("</body>")[0]


def held_run(run: RunTracks, names: Mapping[int, str], video: Json | None) -> Json:
    """What the page holds of a run that can be read.

    Args:
        run: its tracks.
        names: given by a person, by id.
        video: how the video beside the page shows its frames, see `video_json`; None = there is none.
    """
    tracks = run.shown.tracks
    if run.about.kind == "boxes" and 0 < len(tracks) <= MOST_LINKED:
        run.show(tracks, run.shown.items, link_doubt(tracks))
    info = {**run.info(), "pictures": video is not None, "crops": False, "masks": False, "fixed": True}
    boxes = pack_boxes(run.shown)
    if boxes is None:
        info["notice"] = f"more than {MOST_BOXES:,} boxes are not in this page: trackweave view shows them"
    return {
        "info": {**info, "drawn": video is not None, "warnings": []},
        "tracks": run.tracks_json(),
        "boxes": boxes,
        "video": video,
        "names": {str(track_id): name for track_id, name in names.items()},
    }


def pack_boxes(shown: ShownTracks) -> str | None:
    """Boxes in the order of the table of tracks, deflated in base64; None of too many.

    They are x1 of all of them, then y1, x2 and y2 in whole pixels, each as the difference from the one before in 16
    bits.
    """
    table = shown.table
    is_once = int(np.diff(table.spans, axis=1).sum()) == len(table.order)  # no track twice on a frame
    if len(table.order) > MOST_BOXES or not is_once:
        return None
    sides = np.clip(np.round(shown.tracks.xyxy[table.order]), -MOST_SIDE, MOST_SIDE - 1).astype(np.int64)
    steps = np.diff(sides.T.reshape(-1), prepend=0).astype("<i2")  # what does not fit comes round again
    return base64.b64encode(zlib.compress(steps.tobytes(), 9)).decode("ascii")


def held_summary(
    name: str,
    kind: str,
    levels: Mapping[int, Sequence[TrackSummary]],
    frames: Sequence[int],
    size: tuple[int, int],
    unlisted: int = 0,
) -> Json:
    """What the page holds of a run whose tracks are gone or damaged: when the tracks that its summary lists were seen.

    Args:
        name: of the run.
        kind: `boxes` or `masks`.
        levels: tracks by level; −1 = without levels.
        frames: absolute indices, ascending; empty = all from the first to the last that a track was seen on.
        size: `(H, W)`.
        unlisted: further tracks, which the summary does not list.
    """
    lives = [(level, track) for level, tracks in sorted(levels.items()) for track in tracks]
    first = min((track.first for _, track in lives), default=0)
    last = max((track.last for _, track in lives), default=0)
    axis = np.asarray(frames, np.int64) if len(frames) else None

    def positions(track: TrackSummary) -> list[tuple[int, int]]:
        ends = np.array(sorted(track.spans), np.int64).reshape(-1, 2) + np.array([0, 1])
        return _joined((ends - first if axis is None else np.searchsorted(axis, ends)).tolist())

    about = Description(name, kind, levels=[level for level in levels if level >= 0])
    none = Tracks.empty()
    empty = RunTracks(about, numbered_frames(0, size, None), none, none.track_id)
    info = {**empty.info(), "frames": last - first + 1 if axis is None else len(axis), "tracks": len(lives)}
    steps = [0] if axis is None else [0, *(np.flatnonzero(np.diff(axis) != 1) + 1).tolist()]
    info["indices"] = [[first if axis is None else int(axis[k]), k] for k in steps]
    notice = "the tracks themselves are gone: when they were seen is shown"
    notice += f"; {unlisted} shorter tracks are not" if unlisted else ""
    spans = [positions(track) for _, track in lives]
    counts = [sum(stop - start for start, stop in own) for own in spans]
    return {
        "info": {**info, "pictures": False, "crops": False, "masks": False, "fixed": True, "notice": notice},
        "tracks": {
            **empty.tracks_json(),
            "id": [track.track_id for _, track in lives],
            "level": [level for level, _ in lives],
            "class": [-1 if track.class_id is None else track.class_id for _, track in lives],
            "first": [own[0][0] if own else 0 for own in spans],
            "last": [own[-1][1] - 1 if own else 0 for own in spans],
            "count": counts,
            "score": [track.mean_score for _, track in lives],
            "parent": [0] * len(lives),
            "colour": [css(track_colour(track.track_id)) for _, track in lives],
            "doubt": [0] * len(lives),
            "reasons": [[] for _ in lives],
            "starts": [0, *np.cumsum([len(own) for own in spans]).tolist()],
            "spans": [end for own in spans for span in own for end in span],
        },
        "boxes": None,
        "video": None,
        "names": {},
    }


def _joined(spans: list[list[int]]) -> list[tuple[int, int]]:
    """Spans that touch as one, without empty ones."""
    joined: list[tuple[int, int]] = []
    for start, stop in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        elif stop > start:
            joined.append((start, stop))
    return joined


def video_json(overlay: Path, run: RunTracks, source: str | None) -> Json | None:
    """How a video shows the frames of a run: its rate, and the positions of its frames where it has not all of them.

    Args:
        overlay: the video.
        run: the run.
        source: what was tracked: of a sequence that has only some of its images the video shows those.

    Returns:
        None where there is no such video, or nothing says which frames it shows.
    """
    from trackweave.frames.video import index_video

    if not overlay.is_file():
        return None
    try:
        index = index_video(overlay)
        times = index.times
        if times is None or index.count < 1:
            return None
        rate = (index.count - 1) / times[-1] if index.count > 1 else 1.0
        if index.count == len(run):
            return {"rate": round(rate, 6), "positions": None}
        positions = _preview_positions(run, source)
    except (TrackweaveError, OSError):
        return None
    return {"rate": round(rate, 6), "positions": positions} if len(positions) == index.count else None


def _preview_positions(run: RunTracks, source: str | None) -> list[int]:
    from trackweave.pipelines.video_input import open_input

    if source is None or not Path(source).exists() or not is_sequence(source):
        return []
    there = set(run.indices.tolist())
    return [run.position_of(frame) for frame in sorted(open_input(source).preview_positions) if frame in there]
