"""`IdentitySettings`: when tracks are one thing, and when a thing is part of another."""

from __future__ import annotations

from pydantic import Field

from trackweave.settings import Settings


class IdentitySettings(Settings):
    """When tracks are one thing, and when a thing is part of another."""

    merge: bool = Field(default=True, description="join tracks of one level whose masks are the same thing's")
    merge_iou: float = Field(
        default=0.5, gt=0, le=1, description="IoU at which a frame is undecided whether two masks are one thing's"
    )
    merge_score: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="mean vote of the frames that show two tracks from which they are one thing",
    )
    merge_conflict: float = Field(
        default=0.25, ge=0, le=1, description="share of those frames on which the two may lie apart at most"
    )
    merge_carried: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of each track's frames that must lie on stretches that agree; a gap left elsewhere ends one",
    )
    stitch: bool = Field(
        default=False, description="join tracks of one level that go on after a gap, a cut, or where prompts end"
    )
    stitch_probability: float = Field(
        default=0.65, gt=0, lt=1, description="probability from which two such tracks are one thing"
    )
    nest: bool = Field(default=True, description="find which thing is part of which, and cut parts to their wholes")
    nest_containment: float = Field(
        default=0.8, gt=0.5, le=1, description="mean share of a part's pixels that lie in its whole"
    )
    nest_seen: float = Field(
        default=0.25, ge=0, le=1, description="share of a part's frames on which its whole must be seen as well"
    )
