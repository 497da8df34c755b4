"""The maximum (weight) independent set problem."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Instance, Sense, frozen_array
from nco.instances.knapsack import subset_violations

if TYPE_CHECKING:
    from nco.instances.mip import MipView


@dataclass(frozen=True, eq=False, kw_only=True)
class MIS(Instance[list[int]]):
    """Choose nodes of the largest total weight, no two of them adjacent.

    A solution is the sorted list of chosen nodes.

    Parameters
    ----------
    edges
        Pairs of adjacent nodes [m, 2]; direction and repetition do not matter.
    weights
        Weight of every node [n], not negative; their number is the number of nodes.
    labels
        The nodes' numbers [n] in the file they come from, increasing, or None for
        0..n-1. Text files of solutions use them; they are not part of the identity.

    Raises
    ------
    ValueError
        When an edge names an unknown node or joins a node to itself, a weight is negative,
        or labels are not increasing.
    """

    problem: ClassVar[str] = "mis"
    solution_form: ClassVar[str] = "items"
    sense: Sense = field(default=Sense.MAXIMIZE, init=False, repr=False)

    edges: NDArray[Any] = field(metadata={"ndim": 2})
    weights: NDArray[Any]
    labels: NDArray[Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Validate, sort and freeze the arrays."""
        weights = frozen_array("weights", self.weights, ndim=1)
        if not len(weights):
            raise ValueError("has no nodes.")
        if (weights < 0).any():
            k = int(np.argmax(weights < 0))
            raise ValueError(f"node {k}: weight {weights[k]} < 0.")
        raw = np.asarray(self.edges)
        edges = frozen_array("edges", raw.reshape(0, 2) if raw.size == 0 else raw, ndim=2)
        if edges.shape[1] != 2 or edges.dtype != np.int64:
            raise ValueError("edges are not pairs of node indices [m, 2].")
        if edges.size and (edges.min() < 0 or edges.max() >= len(weights)):
            bad = edges[((edges < 0) | (edges >= len(weights))).any(1)][0]
            raise ValueError(f"edge {bad[0]}-{bad[1]}: nodes are 0..{len(weights) - 1}.")
        loops = edges[:, 0] == edges[:, 1]
        if loops.any():
            raise ValueError(f"node {edges[int(np.argmax(loops)), 0]} is adjacent to itself.")
        # Sorted as numbers: pairs take several times as long, and so does `numpy.unique` of these
        # (2.4, two million: 1.3 s instead of 0.1).
        tails, heads = edges.T
        keys = np.sort(np.minimum(tails, heads) * len(weights) + np.maximum(tails, heads))
        first = np.ones(len(keys), dtype=bool)
        first[1:] = keys[1:] != keys[:-1]
        keys = keys[first]
        edges = np.column_stack([keys // len(weights), keys % len(weights)])
        edges.setflags(write=False)
        if float(weights.astype(np.float64).sum()) > 2**62:
            raise ValueError("weights add up to more than 2^62; scale them down.")
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "weights", weights)
        if self.labels is not None:
            labels = frozen_array("labels", self.labels, ndim=1)
            if labels.dtype != np.int64 or labels.shape != weights.shape:
                raise ValueError(f"labels are not {len(weights)} whole numbers.")
            if (np.diff(labels) <= 0).any():
                raise ValueError("labels are not increasing.")
            object.__setattr__(self, "labels", labels)

    def data(self) -> dict[str, Any]:
        """The defining fields; labels are not among them."""
        data = super().data()
        data.pop("labels", None)
        return data

    @property
    def n(self) -> int:
        """Number of nodes."""
        return len(self.weights)

    def objective(self, solution: list[int]) -> float:
        """Total weight of the chosen nodes."""
        chosen = self.weights[np.asarray(solution, dtype=np.intp)]
        if self.weights.dtype == np.int64:
            return int(chosen.sum())
        return math.fsum(chosen)

    def violations(self, solution: list[int]) -> list[str]:
        """Nodes repeated or unknown; adjacent pairs."""
        problems = subset_violations(solution, self.n, "node")
        if problems:
            return problems
        chosen = np.zeros(self.n, dtype=bool)
        chosen[np.asarray(solution, dtype=np.intp)] = True
        both = self.edges[chosen[self.edges].all(1)] if len(self.edges) else self.edges
        return [f"nodes {i} and {j} are adjacent" for i, j in both[:3]]

    def canonical(self, solution: list[int]) -> list[int]:
        """The nodes in increasing order."""
        return sorted(int(k) for k in solution)

    def neighbors(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The graph in compressed rows: ``indptr`` [n + 1] and ``indices`` [2 m]."""
        return self._rows

    @functools.cached_property
    def _rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        tails, heads = self.edges.T
        # One sort of whole numbers: sorting pairs takes several times as long.
        pairs = np.sort(np.concatenate([tails * self.n + heads, heads * self.n + tails]))
        degree = np.bincount(self.edges.reshape(-1), minlength=self.n)
        return np.r_[0, np.cumsum(degree)].astype(np.int64), pairs % self.n

    def to_mip(self, start: list[int] | None = None) -> MipView:
        """One binary column per node, cliques as rows."""
        from nco.instances.packing import mis_view

        return mis_view(self)

    @classmethod
    def generate(
        cls, n: int, *, seed: int, distribution: str = "erdos-renyi", **options: Any
    ) -> Self:
        """A random graph; distributions as `nco.instances.generate.mis`."""
        from nco.instances import generate

        rng = generate.random(seed, cls.problem, n, distribution)
        return cls(
            **generate.mis(n, rng, distribution, **options),
            name=f"{cls.problem}-{distribution}-n{n}-s{seed}",
        )
