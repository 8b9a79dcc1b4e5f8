"""`Associator`: a small transformer that scores which detection continues which track.

Attention over each track's history, edges between tracks and detections that the gates let through, joint attention
between all tracks and detections of a frame, and for each pair a logit that competes in its row and its column with an
explicit *unmatched* class. Ideas: joint attention over tracks and detections with coordinates alone (TWiX, Miah et
al., WACV 2025; TDLP), an appended background class (GTR, Zhou et al., CVPR 2022), edges of a bipartite graph that pass
messages to their ends (Brasó and Leal-Taixé, CVPR 2020).

Names of submodules are keys of checkpoints: a renamed one cannot be loaded any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trackweave.association.model_inputs import ModelColumns

LOGIT_LIMIT = 12.0
"""Logits lie between −LIMIT and LIMIT, so that sums of exponentials need no maximum taken out."""


@dataclass(frozen=True)
class AssociatorShape:
    """Hyperparameters of the architecture.

    Attributes:
        width: of every token.
        heads: of every attention.
        layers: message passing blocks.
        history_width: of an observation.
        use_history: False: a track is its last box and its motion alone.
        use_pairs: False: pairs have no features of their own, only those of their two ends.
        use_unmatched: False: rows and columns compete among themselves only.
    """

    width: int = 64
    heads: int = 4
    layers: int = 1
    history_width: int = 48
    use_history: bool = True
    use_pairs: bool = True
    use_unmatched: bool = True


class AssociationOutput(NamedTuple):
    """Log-probabilities of matches, by tracks and by detections, and the margins that an assignment is computed from.

    Attributes:
        track_log_probabilities: `(P,)` that the pair is what continues the track.
        det_log_probabilities: `(P,)` that the pair is what the detection continues.
        track_unmatched: `(T,)` log-probability that nothing continues the track.
        det_unmatched: `(D,)` log-probability that the detection continues nothing.
        logit_margin: `(P,)` log-odds of the pair against leaving both ends unmatched, the mean of both views. The
            assignment of the largest sum is the likeliest one. It does not depend on rivals: of two tracks that fit
            one detection equally well, both have a large margin and half a probability.
    """

    track_log_probabilities: Tensor
    det_log_probabilities: Tensor
    track_unmatched: Tensor
    det_unmatched: Tensor
    logit_margin: Tensor

    @property
    def probability(self) -> Tensor:
        """`(P,)` the geometric mean of both views."""
        return torch.exp(0.5 * (self.track_log_probabilities + self.det_log_probabilities))


def segment_sum(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """`(count, …)` sums of values `(P, …)` by row."""
    if torch.onnx.is_in_onnx_export():  # scattered sums are not exported faithfully; the product is as fast there
        one_hot = (rows[None] == torch.arange(count, device=rows.device)[:, None]).to(values.dtype)
        if values.dim() == 3:
            return torch.einsum("cp,pab->cab", one_hot, values)
        return one_hot @ values
    return values.new_zeros((count, *values.shape[1:])).index_add(0, rows, values)


class HistoryEncoder(nn.Module):
    """Attention over a track's observations; the query is the track itself."""

    def __init__(self, shape: AssociatorShape) -> None:
        super().__init__()
        width = shape.history_width
        self.observe = nn.Sequential(
            nn.Linear(len(ModelColumns.HISTORY), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.query = nn.Linear(len(ModelColumns.TRACKS), shape.heads)
        self.key = nn.Linear(width, shape.heads)
        self.out = nn.Linear(shape.heads * width, shape.width)

    def forward(self, history: Tensor, tracks: Tensor) -> Tensor:
        observations = self.observe(history)  # (T, K, w)
        score = self.key(observations) + self.query(tracks)[:, None]
        score = score.masked_fill(history[..., -1:] < 0.5, -30.0)
        attention = torch.softmax(score, dim=1)  # (T, K, heads)
        pooled = attention.transpose(1, 2) @ observations
        encoded: Tensor = self.out(pooled.flatten(1))
        return encoded


class EdgesToEnds(nn.Module):
    """Messages from edges to tokens, by attention among the edges of each token."""

    def __init__(self, shape: AssociatorShape) -> None:
        super().__init__()
        self.heads, self.part = shape.heads, shape.width // shape.heads
        self.weigh = nn.Linear(shape.width, shape.heads)
        self.value = nn.Linear(shape.width, shape.width)
        self.out = nn.Linear(shape.width, shape.width)

    def forward(self, tokens: Tensor, edges: Tensor, ends: Tensor) -> Tensor:
        weight = torch.exp(LOGIT_LIMIT * torch.tanh(self.weigh(edges) / LOGIT_LIMIT))
        values = self.value(edges).view(-1, self.heads, self.part) * weight[..., None]
        total = segment_sum(weight, ends, tokens.shape[0]) + 1.0  # + 1: an extra edge whose message is 0
        mean = segment_sum(values, ends, tokens.shape[0]) / total[..., None]
        updated: Tensor = tokens + self.out(mean.flatten(1))
        return updated


class JointAttention(nn.Module):
    """One pre-norm transformer layer over all tracks and detections of a frame."""

    def __init__(self, shape: AssociatorShape) -> None:
        super().__init__()
        width = shape.width
        self.heads, self.part = shape.heads, width // shape.heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor, positions: Tensor | None, padding: Tensor | None) -> Tensor:
        """Attends within each frame.

        Args:
            tokens: `(N, w)` of all frames.
            positions: `(B, L)` rows of each frame's tokens; None: all are of one frame.
            padding: `(B, L)` bool, True where a position only fills up; None together with `positions`.
        """
        normed = self.before(tokens)
        qkv = self.qkv(normed)
        frames = (
            qkv[None] if positions is None else qkv.index_select(0, positions.flatten()).view(*positions.shape, -1)
        )  # (B, L, 3w)
        B, L = frames.shape[0], frames.shape[1]
        q, k, v = frames.view(B, L, 3, self.heads, self.part).permute(2, 0, 3, 1, 4).unbind(0)
        score = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5)
        if padding is not None:
            score = score.masked_fill(padding[:, None, None], -1e4)
        mixed = (torch.softmax(score, -1) @ v).transpose(1, 2).reshape(B, L, self.heads * self.part)
        if positions is None or padding is None:
            flat = mixed[0]
        else:
            valid = torch.nonzero(~padding.flatten())[:, 0]
            flat = torch.zeros_like(normed).index_copy(
                0, positions.flatten().index_select(0, valid), mixed.flatten(0, 1).index_select(0, valid)
            )
        tokens = tokens + self.out(flat)
        updated: Tensor = tokens + self.feed(self.between(tokens))
        return updated


class MessagePassing(nn.Module):
    """Edges update their ends, all ends attend to each other, ends update the edges."""

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
        self,
        tracks: Tensor,
        dets: Tensor,
        edges: Tensor,
        pairs: Tensor,
        positions: Tensor | None,
        padding: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        t, d = pairs[:, 0], pairs[:, 1]
        tracks = self.to_tracks(tracks, edges, t)
        dets = self.to_dets(dets, edges, d)
        count = tracks.shape[0]
        tokens = self.joint(torch.cat([tracks, dets]), positions, padding)
        tracks, dets = tokens[:count], tokens[count:]
        message = (
            self.from_edge(self.norm(edges))
            + self.from_track(tracks).index_select(0, t)
            + self.from_det(dets).index_select(0, d)
        )
        return tracks, dets, edges + self.out(torch.relu(message))


class Associator(nn.Module):
    """See the module's docstring."""

    def __init__(self, shape: AssociatorShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or AssociatorShape()
        width = shape.width
        self.history = HistoryEncoder(shape) if shape.use_history else None
        self.track = nn.Sequential(nn.Linear(len(ModelColumns.TRACKS), width), nn.ReLU(), nn.Linear(width, width))
        self.det = nn.Sequential(nn.Linear(len(ModelColumns.DETECTIONS), width), nn.ReLU(), nn.Linear(width, width))
        self.pair = nn.Linear(len(ModelColumns.PAIRS), width) if shape.use_pairs else None
        self.pair_track, self.pair_det = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.pair_out = nn.Linear(width, width)
        self.rounds = nn.ModuleList(MessagePassing(shape) for _ in range(shape.layers))
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
        positions: Tensor | None = None,
        padding: Tensor | None = None,
    ) -> AssociationOutput:
        """Scores every pair; tensors as in `ModelInputs`, `positions` and `padding` as in `JointAttention`."""
        t, d = pairs[:, 0], pairs[:, 1]
        track_tokens = self.track(tracks)
        if self.history is not None:
            track_tokens = track_tokens + self.history(history, tracks)
        det_tokens = self.det(detections)
        edges = self.pair_track(track_tokens).index_select(0, t) + self.pair_det(det_tokens).index_select(0, d)
        if self.pair is not None:
            edges = edges + self.pair(pair_features)
        edges = self.pair_out(torch.relu(edges))
        for block in self.rounds:
            track_tokens, det_tokens, edges = block(track_tokens, det_tokens, edges, pairs, positions, padding)
        logit = LOGIT_LIMIT * torch.tanh(self.logit(self.last(edges))[:, 0] / LOGIT_LIMIT)
        track_logit = self._unmatched_logit(self.alone_track(track_tokens)[:, 0])
        det_logit = self._unmatched_logit(self.alone_det(det_tokens)[:, 0])
        odds = torch.exp(logit)
        row = torch.log(segment_sum(odds, t, track_tokens.shape[0]) + torch.exp(track_logit))
        column = torch.log(segment_sum(odds, d, det_tokens.shape[0]) + torch.exp(det_logit))
        return AssociationOutput(
            logit - row.index_select(0, t),
            logit - column.index_select(0, d),
            track_logit - row,
            det_logit - column,
            logit - 0.5 * (track_logit.index_select(0, t) + det_logit.index_select(0, d)),
        )

    def _unmatched_logit(self, score: Tensor) -> Tensor:
        limited = LOGIT_LIMIT * torch.tanh(score / LOGIT_LIMIT)
        return limited if self.shape.use_unmatched else limited * 0 - 2 * LOGIT_LIMIT
