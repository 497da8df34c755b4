"""The value network: what the second stage brings, from first stage and scenario.

A set encoder as in Neur2RO (J. Dumouchelle, E. Julien, J. Kurtz and E. B. Khalil, ICLR
2024, section 4): item networks, sums over items, networks on the sums, a head. Means take
the place of sums, so that one network serves all sizes. The head has two outputs, the
value and a score that is positive where the second stage is feasible.

First-stage variables are binary, so that an item's embedding is one of two vectors and the
mean is linear in x: whatever the item network is, in a MIP over x it needs no binaries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

#: How a stream sees the first stage: not at all; as one more input of its item network;
#: by two item networks, for items in and out of x; by one, for items in x only.
CHOICES = ("none", "input", "gate", "mask")


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One set of elements and its encoder.

    Parameters
    ----------
    elements
        Name of the set, such as "items"; the problem's encoding gives its features.
    features
        Fixed numbers per element.
    scenario
        Numbers per element that depend, linearly, on the scenario.
    choice
        How it sees the first stage, see `CHOICES`.
    hidden, embedding
        Widths of the item network's hidden layers and of its output.
    post
        Widths of the network on the mean, the last without ReLU; empty for none.
    bias
        Whether these layers have biases.

    Raises
    ------
    ValueError
        When a width is not positive or the choice is not known.
    """

    elements: str = "items"
    features: int
    scenario: int = 0
    choice: str = "none"
    hidden: tuple[int, ...] = (32,)
    embedding: int = 16
    post: tuple[int, ...] = ()
    bias: bool = True

    def __post_init__(self) -> None:
        """Validate."""
        object.__setattr__(self, "hidden", tuple(self.hidden))
        object.__setattr__(self, "post", tuple(self.post))
        if self.choice not in CHOICES:
            raise ValueError(f"choice {self.choice!r} not understood; one of {', '.join(CHOICES)}.")
        if min(self.features, self.embedding, *self.hidden, *self.post) < 1 or self.scenario < 0:
            raise ValueError("widths of a stream must be positive.")

    @property
    def inputs(self) -> int:
        """Inputs of the item network."""
        return self.features + self.scenario + (self.choice == "input")

    @property
    def outputs(self) -> int:
        """Outputs of the stream."""
        return self.post[-1] if self.post else self.embedding


@dataclass(frozen=True, kw_only=True)
class ValueConfig:
    """Shape of a value network.

    Parameters
    ----------
    streams
        The set encoders; their outputs are joined.
    head
        Widths of the head's hidden layers.
    concave
        Whether outputs are linear in the streams' outputs minus positive multiples of the
        one hidden layer. Without networks behind the means, the value is then concave in x,
        as that of the relaxed second stage is, and a MIP that maximises it needs no binaries.

    Raises
    ------
    ValueError
        When there are no streams, or widths do not fit.
    """

    streams: tuple[Stream, ...]
    head: tuple[int, ...] = (8,)
    concave: bool = False

    def __post_init__(self) -> None:
        """Validate."""
        streams = (Stream(**s) if isinstance(s, Mapping) else s for s in self.streams)
        object.__setattr__(self, "streams", tuple(streams))
        object.__setattr__(self, "head", tuple(self.head))
        if not self.streams or not self.head or min(self.head) < 1:
            raise ValueError("a value network needs streams and a hidden layer in its head.")
        if self.concave and (len(self.head) > 1 or any(s.post for s in self.streams)):
            raise ValueError("a concave network has one hidden layer in its head, none before it.")

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def paper(cls, features: int, scenario: int, scenario_features: int | None = None) -> Self:
        """The reference configuration for knapsack (Neur2RO, appendix): x and xi apart.

        Parameters
        ----------
        features, scenario
            Fixed and scenario-dependent numbers per item.
        scenario_features
            Fixed numbers per item of the scenario's encoder, if others.
        """
        shape: dict[str, Any] = {"hidden": (32,), "embedding": 16, "post": (64, 8), "bias": False}
        other = features if scenario_features is None else scenario_features
        return cls(
            streams=(
                Stream(features=features, choice="input", **shape),
                Stream(features=other, scenario=scenario, **shape),
            ),
            head=(8,),
        )


def _layers(sizes: Sequence[int], bias: bool) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(a, b, bias=bias) for a, b in pairwise(sizes))


def _run(layers: nn.ModuleList, h: Tensor) -> Tensor:
    for k, layer in enumerate(layers):
        h = layer(functional.relu(h) if k else h)
    return h


class StreamEncoder(nn.Module):
    """The networks of one stream.

    Parameters
    ----------
    config
        Its shape.
    """

    def __init__(self, config: Stream):
        super().__init__()
        self.config = config
        sizes = (config.inputs, *config.hidden, config.embedding)
        self.item = _layers(sizes, config.bias)
        # For items that are not chosen.
        self.off = _layers(sizes, config.bias) if config.choice == "gate" else None
        self.post = _layers((config.embedding, *config.post), config.bias)

    def embeddings(self, features: Tensor, u: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Embeddings of elements in and out of x; the second is None if they are nothing.

        Parameters
        ----------
        features
            Fixed numbers [g, n, k].
        u
            Scenario-dependent numbers [g, b, n, m], or None.

        Returns
        -------
        Twice [g, b, n, e]; b is 1 for a stream without scenario.
        """
        h = features[:, None]
        if u is not None:
            h = torch.cat([h.expand(-1, u.shape[1], -1, -1), u], -1)
        if self.config.choice == "input":
            one = h.new_ones((*h.shape[:-1], 1))
            return _run(self.item, torch.cat([h, one], -1)), _run(
                self.item, torch.cat([h, 0 * one], -1)
            )
        on = _run(self.item, h)
        return on, _run(self.off, h) if self.off is not None else None

    def forward(self, features: Tensor, x: Tensor, u: Tensor | None) -> Tensor:
        """Outputs [g, a, b, o] for first stages x [g, a, n]; a or b may be 1."""
        on, off = self.embeddings(features, u)
        n = features.shape[1]
        if self.config.choice == "none":
            mean = on.mean(2)[:, None]
        else:
            difference = on if off is None else on - off
            mean = torch.einsum("gan,gbne->gabe", x, difference) / n
            if off is not None:
                mean = mean + off.mean(2)[:, None]
        return _run(self.post, mean) if self.config.post else mean


class ValueNetwork(nn.Module):
    """Second-stage value and feasibility score of pairs of first stage and scenario.

    Parameters
    ----------
    config
        Its shape.
    """

    def __init__(self, config: ValueConfig):
        super().__init__()
        self.config = config
        self.streams = nn.ModuleList(StreamEncoder(s) for s in config.streams)
        width = sum(s.outputs for s in config.streams)
        sizes = (width, *config.head)
        self.head = _layers(sizes if config.concave else (*sizes, 2), True)
        if config.concave:
            self.skip = nn.Linear(width, 2)
            self.down = nn.Parameter(0.1 * torch.randn(2, config.head[0]))

    def forward(
        self, features: Sequence[Tensor], x: Tensor, u: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Value and score [g, a, b] of all pairs within each of g instances of one size.

        Parameters
        ----------
        features
            Per stream, fixed numbers [g, n, k].
        x
            First stages [g, a, n].
        u
            Per stream, scenario-dependent numbers [g, b, n, m], or None.
        """
        b = max((v.shape[1] for v in u if v is not None), default=1)
        parts = [
            stream(f, x, v).expand(-1, x.shape[1], b, -1)
            for stream, f, v in zip(self.streams, features, u, strict=True)
        ]
        h = torch.cat(parts, -1)
        out = _run(self.head, h)
        if self.config.concave:
            out = self.skip(h) - functional.linear(functional.relu(out), self.down.abs())
        return out[..., 0], out[..., 1]
