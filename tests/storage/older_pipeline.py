"""What the older pipeline of the tracking guide wrote, from a run of ours."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from trackweave.masks.codecs import encode_mask, mask_mapping
from trackweave.storage.mask_archive import VideoSegments


def write_older_archives(video: VideoSegments, folder: Path, *, with_full_size: bool = True) -> None:
    """Both archives of a level, as zip files of JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    ratio = video.info.mask_scale_ratio
    suffix = "" if ratio == 1 else f"_scale{ratio:g}x"
    meta = {"mask_scale_ratio": ratio}
    listed: list[dict[str, Any]] = []
    seen: dict[str, list[dict[str, Any]]] = {}
    with zipfile.ZipFile(folder / f"video_segments{suffix}.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for objects in video:
            entry = f"frames/frame_{objects.frame:06d}.json"
            full = video.info.full_resolution_shape if with_full_size else None
            masks = {
                str(one): encode_mask(mask_mapping(objects.masks[k], full))
                for k, one in enumerate(objects.track_id.tolist())
            }
            for one in masks:
                seen.setdefault(one, []).append({"frame_index": int(objects.frame), "frame_entry": entry})
            frame = {"frame_index": int(objects.frame), "frame_name": objects.name}
            listed.append({**frame, "entry": entry, "objects": sorted(map(int, masks))})
            archive.writestr(entry, json.dumps({**frame, "objects": masks}))
        archive.writestr("manifest.json", json.dumps({"meta": meta, "frames": listed}))
    with zipfile.ZipFile(folder / f"object_segments{suffix}.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps({"meta": meta, "objects": seen}))


def write_older_run(root: Path, levels: dict[int, VideoSegments]) -> Path:
    """A run folder: the archives, and a manifest that says what it says of candidates and tracking."""
    for level, video in levels.items():
        write_older_archives(video, root / f"level_{level}" / "tracking")
    manifest = {"mode": "scene", "levels": sorted(levels), "min_area": 300, "tracking": {"warnings": []}}
    (root / "manifest.json").write_text(json.dumps(manifest))
    return root
