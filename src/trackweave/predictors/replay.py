"""`replay`: plays back recorded masks; for tests and for comparisons with other systems.

For each prompt it chooses the recorded object that best matches the prompt on that frame, then returns that object's
recorded masks. A recording is an `.npz` with one entry `FFFFF_OOO` per object-frame (frame, object; `numpy.packbits` of
the row-major mask) and `shape` = (H, W); or several of them in a folder; or a `video_segments` archive of a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackweave.boxes import box_iou
from trackweave.errors import PredictorError, PredictorUnavailable
from trackweave.frames.source import FrameSource
from trackweave.ids import FrameIndex, LocalIndex
from trackweave.masks.ops import mask_iou, rescale_masks
from trackweave.masks.packed import PackedMasks
from trackweave.predictors.base import FramePrediction, ObjectPrompt, PromptedSession, frame_range
from trackweave.storage.recording import Recording, open_recording


class ReplayPredictor:
    """Plays recorded objects.

    Args:
        path: a recording, or a folder with one recording per level (`level_4_tracks.npz`, `level_2_tracks.npz` …):
            all of them are searched for the best match.

    Attributes:
        files: the recordings.

    Raises:
        PredictorUnavailable: no recording there.
    """

    name = "replay"

    def __init__(self, path: Path) -> None:
        files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if not files or not files[0].is_file():
            raise PredictorUnavailable(f"{path}: no recording to replay (an .npz, or a folder of them)")
        self.files = files

    def open(self, frames: FrameSource) -> ReplaySession:
        """Starts a run.

        Raises:
            ArtifactError: a recording that is damaged.
            PredictorError: a recording that was made of frames of other proportions.
        """
        recordings = []
        with ExitStack() as stack:
            for file in self.files:
                recordings.append(open_recording(file))
                stack.callback(recordings[-1].close)
            session = ReplaySession(recordings, frames)
            stack.pop_all()  # nothing failed: the session closes them
        return session


class ReplaySession(PromptedSession):
    """See `PredictorSession`. A box prompt is matched with the boxes of the recorded masks."""

    def __init__(self, recordings: list[Recording], frames: FrameSource) -> None:
        super().__init__(len(frames), frames.size)
        self._recordings = recordings
        self._frames = frames
        # Per recording the frame that prompts were last matched on: all prompts of a batch lie on one frame.
        self._matched_frames: dict[Path, tuple[FrameIndex, list[int], PackedMasks]] = {}
        height, width = frames.size
        for recording in recordings:
            rows, cols = recording.size
            if abs(rows * width - cols * height) > max(rows, cols, height, width):
                raise PredictorError(f"{recording.path}: masks of {cols}×{rows} do not fit frames of {width}×{height}")

    def propagate(
        self, start: int, *, reverse: bool = False, max_frames: int | None = None
    ) -> Iterator[FramePrediction]:
        """See `PredictorSession.propagate`. A prompt that no recorded object overlaps stays empty everywhere."""
        objects = self._book.first_prompted_on(start)
        chosen: list[tuple[Recording, int] | None] = [None] * len(objects)
        for frame in frame_range(start, self._length, reverse, max_frames):
            for row, obj_id in enumerate(objects):
                if (prompt := self._book.prompts(obj_id).get(frame)) is not None:
                    chosen[row] = self._match(frame, prompt)
            masks = self._masks_of(frame, chosen)
            score = (masks.areas > 0).astype(np.float32)
            yield FramePrediction(LocalIndex(frame), np.array(objects, np.int64), masks, score)

    def _masks_of(self, frame: int, chosen: Sequence[tuple[Recording, int] | None]) -> PackedMasks:
        """Masks of the chosen objects; each recording is read once."""
        out = PackedMasks.empty(*self._frames.size, len(chosen))
        for recording in self._recordings:
            rows = {row: match[1] for row, match in enumerate(chosen) if match is not None and match[0] is recording}
            if rows:
                masks = recording.masks(self._frames.indices[frame], list(rows.values()))
                out.bits[list(rows)] = rescale_masks(masks, *self._frames.size, method="nearest").bits
        return out

    def _recorded_frame(self, recording: Recording, frame: FrameIndex) -> tuple[list[int], PackedMasks]:
        if recording.path not in self._matched_frames or self._matched_frames[recording.path][0] != frame:
            ids = recording.objects(frame)
            self._matched_frames[recording.path] = (frame, ids, recording.masks(frame, ids))
        return self._matched_frames[recording.path][1:]

    def _match(self, frame: int, prompt: ObjectPrompt) -> tuple[Recording, int] | None:
        best: tuple[float, Recording, int] | None = None
        recorded_frame = self._frames.indices[frame]
        for recording in self._recordings:
            ids, recorded = self._recorded_frame(recording, recorded_frame)
            if not ids:
                continue
            if len(prompt.points):
                scores = self._hits(prompt, recorded)
            elif prompt.box is None:
                scores = mask_iou(rescale_masks(prompt.mask, *recorded.size, method="nearest"), recorded)[0]
            else:
                scale = np.array(recorded.size[::-1]) / np.array(self._frames.size[::-1])
                scores = box_iou(prompt.box * np.tile(scale, 2), recorded.boxes)[0]
            k = int(np.argmax(scores))
            if scores[k] > 0 and (best is None or scores[k] > best[0]):
                best = (float(scores[k]), recording, ids[k])
        return None if best is None else best[1:]

    def _hits(self, prompt: ObjectPrompt, recorded: PackedMasks) -> NDArray[np.float64]:
        """`(M,)` how well recorded masks `recorded` obey points: 0 where one is wrong, more for small objects."""
        scale = np.array(recorded.size[::-1]) / np.array(self._frames.size[::-1])
        columns, rows = np.minimum(prompt.points * scale, np.array(recorded.size[::-1]) - 1).astype(np.int64).T
        scores = np.zeros(len(recorded))
        for k, mask in enumerate(recorded.to_bool()):
            if np.array_equal(mask[rows, columns], prompt.labels == 1):
                scores[k] = 1 / (1 + np.count_nonzero(mask))
        if prompt.box is not None:
            scores *= box_iou(prompt.box * np.tile(scale, 2), recorded.boxes)[0]
        return scores

    def close(self) -> None:
        """Closes the recordings."""
        super().close()
        for recording in self._recordings:
            recording.close()
