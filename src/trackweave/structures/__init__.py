"""The records that rooms hand to each other."""

from trackweave.structures.assignment import AssignmentState
from trackweave.structures.candidates import CandidateFrame, Candidates
from trackweave.structures.detections import Detections
from trackweave.structures.tracks import FrameObjects, Tracks
from trackweave.structures.warning import RunWarning

__all__ = ["AssignmentState", "CandidateFrame", "Candidates", "Detections", "FrameObjects", "RunWarning", "Tracks"]
