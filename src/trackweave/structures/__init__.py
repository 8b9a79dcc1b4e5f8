"""The records that rooms hand to each other."""

from trackweave.structures.candidates import CandidateFrame, Candidates
from trackweave.structures.tracks import FrameObjects, Tracks
from trackweave.structures.warning import RunWarning

__all__ = ["CandidateFrame", "Candidates", "FrameObjects", "RunWarning", "Tracks"]
