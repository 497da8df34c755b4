"""The travelling salesman problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nco.instances import tour_edges
from nco.instances.core import Distances, Instance, SpatialInstance, as_indices, as_number

if TYPE_CHECKING:
    from nco.instances.mip import MipView
    from nco.instances.routing import RoutingView


def permutation_violations(visits: Sequence[int], first: int, last: int, what: str) -> list[str]:
    """What keeps ``visits`` from holding each of ``first..last`` exactly once.

    Parameters
    ----------
    visits
        Node, customer or item indices.
    first, last
        The smallest and the largest index there is.
    what
        What the indices are, for the texts.
    """
    array = as_indices(visits)
    if array is None:
        return [f"a solution holds indices of {what}s only"]
    outside = array[(array < first) | (array > last)]
    problems = [f"{what} {k} does not exist (known: {first}..{last})" for k in outside[:3]]
    count = np.bincount(array[(array >= first) & (array <= last)], minlength=last + 1)[first:]
    problems += [f"{what} {k + first} is visited {count[k]} times" for k in _first(count > 1)]
    problems += [f"{what} {k + first} is missing" for k in _first(count == 0)]
    return problems


def _first(mask: np.ndarray) -> list[int]:
    return [int(k) for k in np.flatnonzero(mask)[:3]]


@dataclass(frozen=True, eq=False, kw_only=True)
class TSP(SpatialInstance[list[int]]):
    """Visit all nodes once and return, on the shortest way.

    A solution is the list of all nodes in visiting order. The matrix may be asymmetric.

    Parameters
    ----------
    fixed
        Edges [m, 2] that every tour must use, or None; arcs where `directed`.
    edges
        The edges [m, 2] there are, for at most 10,000 nodes; None for all.

    Raises
    ------
    ValueError
        As `SpatialInstance`, without any node, where no tour holds all fixed edges, and
        where a node has fewer edges than a tour needs.
    """

    problem: ClassVar[str] = "tsp"

    fixed: NDArray[Any] | None = field(default=None, metadata={"ndim": 2})
    edges: NDArray[Any] | None = field(default=None, metadata={"ndim": 2})

    def __post_init__(self) -> None:
        """Validate and freeze the arrays."""
        super().__post_init__()
        if self.nodes < 1:
            raise ValueError("has no nodes.")
        if self.restricted:
            fixed, edges = tour_edges.validated(self)
            object.__setattr__(self, "fixed", fixed)
            object.__setattr__(self, "edges", edges)

    @property
    def n(self) -> int:
        """Number of nodes."""
        return self.nodes

    @property
    def restricted(self) -> bool:
        """Whether edges are fixed or missing."""
        return self.fixed is not None or self.edges is not None

    @property
    def directed(self) -> bool:
        """Whether a tour and its reverse are two: costs are asymmetric, or edges are arcs."""
        return not self.distances.symmetric

    @cached_property
    def search_distances(self) -> Distances:
        """Costs for searches that know neither fixed nor missing edges.

        The shortest tours with all fixed edges are shortest; tours with missing edges are
        longer, but may be found. Where there are such edges, the costs are known from
        `Distances.full_matrix` on; see `nco.instances.tour_edges.SearchDistances`.

        Raises
        ------
        UnsupportedError
            When edges are fixed among more than 10,000 nodes.
        """
        return tour_edges.SearchDistances(self) if self.restricted else self.distances

    @property
    def surplus(self) -> float:
        """By how much these costs make every feasible tour longer; nan if unknown."""
        costs = self.search_distances
        return costs.surplus if isinstance(costs, tour_edges.SearchDistances) else 0.0

    def objective(self, solution: list[int]) -> float:
        """Length of the tour."""
        return self.distances.tour_length(solution)

    def violations(self, solution: list[int]) -> list[str]:
        """Nodes that are missing, repeated or unknown; fixed edges left out, missing ones used."""
        problems = permutation_violations(solution, 0, self.n - 1, "node")
        return problems or tour_edges.edge_violations(self, solution)

    def admits(self, solution: list[int]) -> bool:
        """Whether all fixed edges are used, and none that is missing."""
        return not tour_edges.edge_violations(self, solution)

    def canonical(self, solution: list[int]) -> list[int]:
        """The tour from node 0, in the direction of the smaller neighbour unless directed."""
        begin = list(solution).index(0)
        tour = [int(k) for k in [*solution[begin:], *solution[:begin]]]
        if not self.directed and len(tour) > 2 and tour[1] > tour[-1]:
            tour[1:] = tour[:0:-1]
        return tour

    def to_routing(self) -> RoutingView:
        """One route through all nodes, node 0 as its depot."""
        from nco.instances.routing import tour_view

        return tour_view(self)

    def to_mip(self, start: list[int] | None = None) -> MipView:
        """The tour as a MIP, single-commodity flow; see `nco.instances.flow`."""
        from nco.instances.flow import tsp_view

        return tsp_view(self, start)

    @classmethod
    def generate(cls, n: int, *, seed: int, distribution: str = "uniform", **options: Any) -> Self:
        """Random points in the unit square; distributions as `nco.instances.generate`."""
        from nco.instances import generate

        rng = generate.random(seed, cls.problem, n, distribution)
        return cls(
            coords=generate.points(n, rng, distribution, **options),
            name=f"{cls.problem}-{distribution}-n{n}-s{seed}",
        )

    @classmethod
    def batch_objective(
        cls, instances: Sequence[Instance[list[int]]], solutions: Sequence[list[int]]
    ) -> list[float]:
        """Tour lengths, in one stroke where all share the unrounded metric and size."""
        same = {(i.n, i.metric, i.matrix is None) for i in instances if isinstance(i, TSP)}
        if len(instances) < 2 or same != {(len(solutions[0]), "exact", True)}:
            return super().batch_objective(instances, solutions)  # type: ignore[arg-type]
        coords = np.stack([np.asarray(i.coords) for i in instances])  # type: ignore[attr-defined]
        tours = np.asarray(solutions)[..., None]
        points = np.take_along_axis(coords.astype(np.float64), tours, axis=1)
        legs = points - np.roll(points, -1, axis=1)
        return [as_number(v, False) for v in np.sqrt((legs * legs).sum(-1)).sum(-1)]
