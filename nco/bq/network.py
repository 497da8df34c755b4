"""The network of all BQ policies: a transformer encoder without positions.

Drakulic et al., BQ-NCO (NeurIPS 2023), section 4: nodes are embedded linearly, learned
vectors are added to the current node and the destination, attention layers follow with
ReZero instead of normalisation, and every node gets one logit per action.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Up to this many tokens, explicit attention beats the fused kernel on a CPU (about
#: fourfold at 34 tokens, in bfloat16, forward and backward); its scores are small then.
CPU_FUSED_FROM = 256


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of a network. The defaults are the paper's.

    Parameters
    ----------
    node_dim
        Features per node.
    markers
        Number of leading tokens that get a learned vector added.
    actions_per_node
        Logits per node.
    layers, width, heads, ff
        Number of layers, model width, attention heads, width of the hidden layer.
    norm
        "none": the layers' input as it is (the paper's). "rms": divided by its root mean
        square in front of every layer and of the head, which keeps large learning rates and
        Muon stable.
    head
        "linear": one linear map per node (the paper's). "pointer": scaled products of a
        query of the first token with a key of every node; the same products between all
        pairs of nodes can then be trained on the edges of the label, which gives many
        targets per example instead of one.
    edge_dim
        Features per ordered pair of nodes; 0: the network sees nodes only (the paper's).
    edge_width
        Width of the pairs' embedding, from which every layer takes a bias of its attention,
        and the head one of its logits.

    Raises
    ------
    ValueError
        When a number is not positive, ``heads`` does not divide ``width``, or ``norm``
        or ``head`` is unknown.
    """

    node_dim: int
    markers: int
    actions_per_node: int = 1
    layers: int = 9
    width: int = 192
    heads: int = 12
    ff: int = 512
    norm: str = "none"
    head: str = "linear"
    edge_dim: int = 0
    edge_width: int = 16

    def __post_init__(self) -> None:
        """Validate."""
        positive = ("node_dim", "actions_per_node", "layers", "width", "heads", "ff", "edge_width")
        for field in positive:
            if getattr(self, field) < 1:
                raise ValueError(f"{field} = {getattr(self, field)} not understood; at least 1.")
        if self.edge_dim < 0:
            raise ValueError(f"edge_dim = {self.edge_dim} not understood; at least 0.")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}.")
        if self.norm not in ("none", "rms"):
            raise ValueError(f"norm {self.norm!r} not understood; none or rms.")
        if self.head not in ("linear", "pointer"):
            raise ValueError(f"head {self.head!r} not understood; linear or pointer.")
        if self.head == "pointer" and self.markers < 1:
            raise ValueError("a pointer head needs a marker token to point from.")

    def flops(self, tokens: int) -> float:
        """Floating-point operations of one forward pass of one example."""
        linear = self.layers * (4 * self.width**2 + 2 * self.width * self.ff)
        linear += self.node_dim * self.width
        heads = 1 if self.head == "linear" else self.width
        linear += heads * self.width * self.actions_per_node
        pairs = 2 * self.layers * self.width
        if self.edge_dim:
            pairs += self.edge_width * (self.edge_dim + self.layers * self.heads)
        return 2.0 * tokens * linear + 2.0 * pairs * tokens**2

    def to_dict(self) -> dict[str, int | str]:
        """The parameters as a dictionary of plain values."""
        return dataclasses.asdict(self)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention [b, h, n, d] without a score matrix in memory where that matters.

    Parameters
    ----------
    q, k, v
        Queries, keys, values [b, h, n, d].
    mask
        True where a key may be looked at, or what is added to the scores; broadcastable to
        [b, h, n, n], or None.
    """
    if q.device.type == "cpu" and k.shape[2] <= CPU_FUSED_FROM:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if mask is not None and mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, -torch.inf)
        elif mask is not None:
            scores = scores + mask
        # Sums in float32: exacter, and for short rows three times as fast as in bfloat16.
        return scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Block(nn.Module):
    """One layer: attention and a feed-forward part, both added with a learned scale.

    ReZero (Bachlechner et al., 2020): the scales start at zero, so a fresh network is the
    identity. The sum stays in float32, whatever the layers compute in.

    Pairs of nodes bias the attention of every head by a linear map of their embedding, as in
    the mixed attention of Drakulic et al., GOAL (ICLR 2025), without its products of nodes
    and edges. That bias is the only tensor with a row for every head and pair; policies
    with k candidates keep it to (k + 2)^2 pairs.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.heads = config.heads
        self.norm = config.norm == "rms"
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.up = nn.Linear(config.width, config.ff)
        self.down = nn.Linear(config.ff, config.width)
        self.scale: nn.Parameter | None = nn.Parameter(torch.zeros(2))
        if config.edge_dim:
            self.bias = nn.Linear(config.edge_width, config.heads, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None, pairs: Tensor | None = None) -> Tensor:
        """Map tokens [b, n, width], given embedded pairs [b, n, n, edge_width] or None."""
        b, n, width = x.shape
        dtype = self.qkv.weight.dtype
        h = normalised(x, self.norm).to(dtype)
        qkv = self.qkv(h).view(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        # On a CPU the products would copy each of the three.
        q, k, v = (qkv.contiguous() if x.device.type == "cpu" else qkv).unbind(0)
        if pairs is not None:
            bias = self.bias(pairs).permute(0, 3, 1, 2)
            mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
        y = self.out(attention(q, k, v, mask).transpose(1, 2).reshape(b, n, width))
        x = x + (y if self.scale is None else self.scale[0] * y)
        h = normalised(x, self.norm).to(dtype)
        y = self.down(F.relu(self.up(h), inplace=True))
        return x + (y if self.scale is None else self.scale[1] * y)

    @torch.no_grad()
    def fold(self) -> None:
        """Multiply the scales into the weights in front of them, for inference only."""
        if self.scale is None:
            return
        self.out.weight.mul_(self.scale[0])
        self.down.weight.mul_(self.scale[1])
        self.down.bias.mul_(self.scale[1])
        self.scale = None


def normalised(x: Tensor, wanted: bool) -> Tensor:
    """Tokens divided by their root mean square, if wanted."""
    return F.rms_norm(x, x.shape[-1:]) if wanted else x


class Network(nn.Module):
    """A BQ network: features of a state in, logits of its actions out.

    Parameters
    ----------
    config
        Its shape.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config.node_dim, config.width)
        self.marks = nn.Parameter(0.1 * torch.randn(config.markers, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        if config.head == "linear":
            self.head = nn.Linear(config.width, config.actions_per_node)
        else:
            self.query = nn.Linear(config.width, config.actions_per_node * config.width)
            self.key = nn.Linear(config.width, config.width)
        if config.edge_dim:
            self.pair = nn.Sequential(
                nn.Linear(config.edge_dim, config.edge_width),
                nn.ReLU(),
                nn.Linear(config.edge_width, config.edge_width),
            )
            # Without a current node, pairs speak through the attention only.
            if config.markers:
                self.edge_head = nn.Linear(config.edge_width, config.actions_per_node, bias=False)

    def fold(self) -> None:
        """Leave the scales of the layers to their weights, for inference only."""
        for block in self.blocks:
            assert isinstance(block, Block)
            block.fold()

    def embed_pairs(self, edges: Tensor | None) -> Tensor | None:
        """Embedding [b, n, n, edge_width] of pairs' features [b, n, n, edge_dim], or None."""
        if edges is None:
            return None
        first: Any = self.pair[0]
        out: Tensor = self.pair(edges.to(first.weight.dtype))
        return out

    def encode(
        self, features: Tensor, filled: Tensor | None = None, pairs: Tensor | None = None
    ) -> Tensor:
        """Tokens [b, n, width] of features [b, n, node_dim].

        Parameters
        ----------
        features
            What `Policy.features` gives.
        filled
            False where a row is empty [b, n]; None if there is none, which is faster.
        pairs
            What `embed_pairs` gives.
        """
        # Coordinates keep float32 on their way in; eight bits would merge close nodes.
        with torch.autocast(features.device.type, enabled=False):
            x = self.embed(features.float())
        markers = self.config.markers
        if markers:
            x = torch.cat([x[:, :markers] + self.marks, x[:, markers:]], 1)
        mask = None if filled is None else filled[:, None, None, :]
        for block in self.blocks:
            x = block(x, mask, pairs)
        return normalised(x, self.config.norm == "rms")

    def logits(self, tokens: Tensor, pairs: Tensor | None = None) -> Tensor:
        """Logits [b, n, actions_per_node] of the first token's actions, in float32."""
        if self.config.head == "pointer":
            return self.links(tokens, pairs, 1)[:, 0]
        logits = self.head(tokens.to(self.head.weight.dtype)).float()
        if pairs is None or not self.config.markers:
            return logits
        return logits + self.edge_head(pairs[:, 0]).float()

    def links(
        self, tokens: Tensor, pairs: Tensor | None = None, first: int | None = None
    ) -> Tensor:
        """Logits [b, m, n, actions_per_node] of the pointer head, in float32.

        Parameters
        ----------
        tokens
            What `encode` gives [b, n, width].
        pairs
            What `embed_pairs` gives.
        first
            Only from that many leading tokens (m); None for all.
        """
        b, n, width = tokens.shape
        actions = self.config.actions_per_node
        tokens = tokens.to(self.key.weight.dtype)
        # The products are large numbers that differ little: they need float32.
        key = self.key(tokens).float()
        query = self.query(tokens[:, :first]).float() * width**-0.5
        m = query.shape[1]
        with torch.autocast(tokens.device.type, enabled=False):
            score = query.reshape(b, m * actions, width) @ key.transpose(1, 2)
        score = score.view(b, m, actions, n).transpose(2, 3)
        return score if pairs is None else score + self.edge_head(pairs[:, :first]).float()

    def forward(
        self, features: Tensor, filled: Tensor | None = None, edges: Tensor | None = None
    ) -> Tensor:
        """Logits [b, n * actions_per_node], not masked, in float32."""
        pairs = self.embed_pairs(edges)
        return self.logits(self.encode(features, filled, pairs), pairs).flatten(1)
