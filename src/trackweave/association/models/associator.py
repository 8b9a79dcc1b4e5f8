"""`Associator`: a small transformer that judges which detection continues which track.

Attention over each track's history, edges between tracks and detections that the gates let through, joint attention
between all tracks and detections of a frame, and for each pair a logit that competes in its row and its column with an
explicit *unmatched* class. Ideas: joint attention over tracks and detections with coordinates alone (TWiX, Miah et
al., WACV 2025; TDLP), an appended background class (GTR, Zhou et al., CVPR 2022), edges of a bipartite graph that pass
messages to their ends (Brasó and Leal-Taixé, CVPR 2020).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trackweave.association.model_inputs import DET_COLUMNS, HISTORY_COLUMNS, PAIR_COLUMNS, TRACK_COLUMNS

LOGIT_LIMIT = 12.0
"""Logits lie between −LIMIT and LIMIT, so that sums of exponentials need no maximum taken out."""


@dataclass(frozen=True)
class AssociatorShape:
    """The architecture's numbers.

    Attributes:
        width: of every token.
        heads: of every attention.
        layers: rounds of edges, joint attention and edges again.
        history_width: of an observation.
        use_history: without, a track is its last box and its motion alone.
        use_pairs: without, pairs are judged from their two ends alone.
        use_unmatched: without, rows and columns compete among themselves only.
    """

    width: int = 64
    heads: int = 4
    layers: int = 1
    history_width: int = 48
    use_history: bool = True
    use_pairs: bool = True
    use_unmatched: bool = True

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return asdict(self)


class Judgement(NamedTuple):
    """Logarithms of probabilities, and what an assignment is made by.

    Attributes:
        by_track: `(P,)` that the pair is what continues the track.
        by_det: `(P,)` that the pair is what the detection continues.
        track_alone: `(T,)` that nothing continues the track.
        det_alone: `(D,)` that the detection continues nothing.
        gain: `(P,)` how much likelier (as a logarithm, the mean of both views) the pair is than leaving both ends
            alone. The assignment of the largest sum is the likeliest one. It does not depend on rivals: of two tracks
            that claim one detection with equal right, both have a high gain and half a probability.
    """

    by_track: Tensor
    by_det: Tensor
    track_alone: Tensor
    det_alone: Tensor
    gain: Tensor

    @property
    def probability(self) -> Tensor:
        """`(P,)` the geometric mean of both views."""
        return torch.exp(0.5 * (self.by_track + self.by_det))


def summed(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """`(count, …)` sums of values `(P, …)` by row."""
    if torch.onnx.is_in_onnx_export():  # scattered sums are not exported faithfully; the product is as fast there
        mine = (rows[None] == torch.arange(count, device=rows.device)[:, None]).to(values.dtype)
        if values.dim() == 3:
            return torch.einsum("cp,pab->cab", mine, values)
        return mine @ values
    return values.new_zeros((count, *values.shape[1:])).index_add(0, rows, values)


class HistoryEncoder(nn.Module):
    """Attention over a track's observations; queries come from the track itself."""

    def __init__(self, shape: AssociatorShape) -> None:
        super().__init__()
        width = shape.history_width
        self.observe = nn.Sequential(nn.Linear(HISTORY_COLUMNS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.query = nn.Linear(TRACK_COLUMNS, shape.heads)
        self.key = nn.Linear(width, shape.heads)
        self.out = nn.Linear(shape.heads * width, shape.width)

    def forward(self, history: Tensor, tracks: Tensor) -> Tensor:
        seen = self.observe(history)  # (T, K, w)
        wanted = self.key(seen) + self.query(tracks)[:, None]
        wanted = wanted.masked_fill(history[..., -1:] < 0.5, -30.0)
        share = torch.softmax(wanted, dim=1)  # (T, K, heads)
        pooled = share.transpose(1, 2) @ seen
        found: Tensor = self.out(pooled.flatten(1))
        return found


class EdgesToEnds(nn.Module):
    """Tokens take in what their edges say, by attention among the edges of each token."""

    def __init__(self, shape: AssociatorShape) -> None:
        super().__init__()
        self.heads, self.part = shape.heads, shape.width // shape.heads
        self.weigh = nn.Linear(shape.width, shape.heads)
        self.value = nn.Linear(shape.width, shape.width)
        self.out = nn.Linear(shape.width, shape.width)

    def forward(self, tokens: Tensor, edges: Tensor, ends: Tensor) -> Tensor:
        share = torch.exp(LOGIT_LIMIT * torch.tanh(self.weigh(edges) / LOGIT_LIMIT))
        values = self.value(edges).view(-1, self.heads, self.part) * share[..., None]
        total = summed(share, ends, tokens.shape[0]) + 1.0  # as if there were an edge that says nothing
        mean = summed(values, ends, tokens.shape[0]) / total[..., None]
        found: Tensor = tokens + self.out(mean.flatten(1))
        return found


class JointAttention(nn.Module):
    """One transformer layer over all tracks and detections of a frame, normalised before each part."""

    def __init__(self, shape: AssociatorShape) -> None:
        super().__init__()
        width = shape.width
        self.heads, self.part = shape.heads, width // shape.heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor, place: Tensor | None, absent: Tensor | None) -> Tensor:
        """`tokens` `(N, w)`; `place` `(B, L)` rows of each frame, `absent` `(B, L)` where they only fill up; None for
        both: one frame."""
        normed = self.before(tokens)
        qkv = self.qkv(normed)
        frames = (
            qkv[None] if place is None else qkv.index_select(0, place.flatten()).view(*place.shape, -1)
        )  # (B, L, 3w)
        B, L = frames.shape[0], frames.shape[1]
        q, k, v = frames.view(B, L, 3, self.heads, self.part).permute(2, 0, 3, 1, 4).unbind(0)
        score = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5)
        if absent is not None:
            score = score.masked_fill(absent[:, None, None], -1e4)
        mixed = (torch.softmax(score, -1) @ v).transpose(1, 2).reshape(B, L, self.heads * self.part)
        if place is None or absent is None:
            flat = mixed[0]
        else:
            there = torch.nonzero(~absent.flatten())[:, 0]
            flat = torch.zeros_like(normed).index_copy(
                0, place.flatten().index_select(0, there), mixed.flatten(0, 1).index_select(0, there)
            )
        tokens = tokens + self.out(flat)
        found: Tensor = tokens + self.feed(self.between(tokens))
        return found


class Round(nn.Module):
    """Edges tell their ends, all ends attend to each other, ends tell the edges."""

    def __init__(self, shape: AssociatorShape) -> None:
        super().__init__()
        width = shape.width
        self.to_tracks, self.to_dets = EdgesToEnds(shape), EdgesToEnds(shape)
        self.joint = JointAttention(shape)
        self.norm = nn.LayerNorm(width)
        self.from_edge, self.from_track = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.from_det = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(
        self, tracks: Tensor, dets: Tensor, edges: Tensor, pairs: Tensor, place: Tensor | None, absent: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        t, d = pairs[:, 0], pairs[:, 1]
        tracks = self.to_tracks(tracks, edges, t)
        dets = self.to_dets(dets, edges, d)
        count = tracks.shape[0]
        tokens = self.joint(torch.cat([tracks, dets]), place, absent)
        tracks, dets = tokens[:count], tokens[count:]
        told = (
            self.from_edge(self.norm(edges))
            + self.from_track(tracks).index_select(0, t)
            + self.from_det(dets).index_select(0, d)
        )
        return tracks, dets, edges + self.out(torch.relu(told))


class Associator(nn.Module):
    """See the module's text."""

    def __init__(self, shape: AssociatorShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or AssociatorShape()
        width = shape.width
        self.history = HistoryEncoder(shape) if shape.use_history else None
        self.track = nn.Sequential(nn.Linear(TRACK_COLUMNS, width), nn.ReLU(), nn.Linear(width, width))
        self.det = nn.Sequential(nn.Linear(DET_COLUMNS, width), nn.ReLU(), nn.Linear(width, width))
        self.pair = nn.Linear(PAIR_COLUMNS, width) if shape.use_pairs else None
        self.pair_track, self.pair_det = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.pair_out = nn.Linear(width, width)
        self.rounds = nn.ModuleList(Round(shape) for _ in range(shape.layers))
        self.last = nn.LayerNorm(width)
        self.logit = nn.Linear(width, 1)
        self.alone_track = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, 1))
        self.alone_det = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(
        self,
        history: Tensor,
        tracks: Tensor,
        detections: Tensor,
        pairs: Tensor,
        pair_features: Tensor,
        place: Tensor | None = None,
        absent: Tensor | None = None,
    ) -> Judgement:
        """Judges every pair; tensors as in `ModelInputs`, `place` and `absent` as in `JointAttention`."""
        t, d = pairs[:, 0], pairs[:, 1]
        own = self.track(tracks)
        if self.history is not None:
            own = own + self.history(history, tracks)
        seen = self.det(detections)
        told = self.pair_track(own).index_select(0, t) + self.pair_det(seen).index_select(0, d)
        if self.pair is not None:
            told = told + self.pair(pair_features)
        edges = self.pair_out(torch.relu(told))
        for step in self.rounds:
            own, seen, edges = step(own, seen, edges, pairs, place, absent)
        logit = LOGIT_LIMIT * torch.tanh(self.logit(self.last(edges))[:, 0] / LOGIT_LIMIT)
        lone_track = self._alone(self.alone_track(own)[:, 0])
        lone_det = self._alone(self.alone_det(seen)[:, 0])
        likely = torch.exp(logit)
        row = torch.log(summed(likely, t, own.shape[0]) + torch.exp(lone_track))
        column = torch.log(summed(likely, d, seen.shape[0]) + torch.exp(lone_det))
        by_track, by_det = logit - row.index_select(0, t), logit - column.index_select(0, d)
        gain = logit - 0.5 * (lone_track.index_select(0, t) + lone_det.index_select(0, d))
        return Judgement(by_track, by_det, lone_track - row, lone_det - column, gain)

    def _alone(self, score: Tensor) -> Tensor:
        limited = LOGIT_LIMIT * torch.tanh(score / LOGIT_LIMIT)
        return limited if self.shape.use_unmatched else limited * 0 - 2 * LOGIT_LIMIT
