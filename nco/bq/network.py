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

#: Up to this many tokens, explicit attention beats the fused kernel on a CPU, forward and
#: backward, as its scores are small then; the kernel takes 1.5 times as long at 34 tokens
#: in bfloat16, and two thirds at 240 in float32.
CPU_FUSED_FROM = {torch.bfloat16: 256, torch.float32: 80}

#: Whether oneDNN multiplies bfloat16 on this CPU.
ONEDNN_BF16: bool = torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()


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


def linear(layer: nn.Linear, x: Tensor, *, relu: bool = False) -> Tensor:
    """What a layer makes of x [..., in], its negative values zero if asked.

    On a CPU, oneDNN does that in one pass over the result where it multiplies anyway, in
    bfloat16, but it has no gradients. In float32 its products would be 8 % faster than those
    of MKL on Zen 4, less the 0.3 ms of code that it makes anew for every number of tokens.
    """
    if (
        x.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and ONEDNN_BF16
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
    ):
        after = "relu" if relu else "none"
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, after, [], "")
        return out
    out = layer(x)
    return F.relu(out, inplace=True) if relu else out


def attention(qkv: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Softmax attention [b, h, n, d] without a score matrix in memory where that matters.

    Parameters
    ----------
    qkv
        Queries, keys and values [3, b, h, n, d].
    mask
        True where a key may be looked at, or what is added to the scores; broadcastable to
        [b, h, n, n], or None.
    scale
        Factor of the products of queries and keys.
    """
    if qkv.device.type == "cpu" and qkv.shape[3] <= CPU_FUSED_FROM.get(qkv.dtype, 0):
        # The products would copy each of the three.
        q, k, v = qkv.contiguous().unbind(0)
        scores = (q if scale == 1.0 else q * scale) @ k.transpose(-1, -2)
        if mask is not None and mask.dtype == torch.bool:
            # Adding it to the scores takes a sixth of the time of filling them.
            mask = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -torch.inf)
        if mask is not None:
            scores = scores + mask
        # Sums in float32: exacter, and for short rows three times as fast as in bfloat16.
        return scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v
    q, k, v = qkv.unbind(0)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


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
        qkv = linear(self.qkv, h).view(b, n, 3, self.heads, width // self.heads)
        if pairs is not None:
            bias = self.bias(pairs).permute(0, 3, 1, 2)
            mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
        scale = (width // self.heads) ** -0.5 if self.scale is not None else 1.0
        y = attention(qkv.permute(2, 0, 3, 1, 4), mask, scale).transpose(1, 2)
        x = self.add(x, linear(self.out, y.reshape(b, n, width)), 0)
        h = normalised(x, self.norm).to(dtype)
        return self.add(x, linear(self.down, linear(self.up, h, relu=True)), 1)

    def add(self, x: Tensor, y: Tensor, part: int) -> Tensor:
        """The sum of a layer's input and what one of its parts made of it; in place if folded."""
        return x.add_(y) if self.scale is None else x + self.scale[part] * y

    @torch.no_grad()
    def fold(self) -> None:
        """Multiply all scales into the weights in front of them, for inference only."""
        if self.scale is None:
            return
        width = self.out.in_features
        self.qkv.weight[:width].mul_((width // self.heads) ** -0.5)
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
        key = linear(self.key, tokens).float()
        query = linear(self.query, tokens[:, :first]).float() * width**-0.5
        m = query.shape[1]
        with torch.autocast(tokens.device.type, enabled=False):
            score = query.reshape(b, m * actions, width) @ key.transpose(1, 2)
        score = score.view(b, m, actions, n).transpose(2, 3)
        return score if pairs is None else score + self.edge_head(pairs[:, :first]).float()

    def forward(
        self,
        features: Tensor,
        filled: Tensor | None = None,
        edges: Tensor | None = None,
        links: bool = False,
    ) -> Tensor:
        """Logits [b, n * actions_per_node], not masked, in float32; all `links` if asked."""
        pairs = self.embed_pairs(edges)
        tokens = self.encode(features, filled, pairs)
        return self.links(tokens, pairs) if links else self.logits(tokens, pairs).flatten(1)
