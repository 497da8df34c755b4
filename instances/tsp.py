"""The travelling salesman problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from nco.instances.core import Instance, SpatialInstance, as_number

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
    try:
        array = np.asarray(visits)
    except ValueError:
        array = np.empty((0, 0))
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        return [f"a solution holds indices of {what}s only"]
    array = array.astype(np.int64)
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

    Raises
    ------
    ValueError
        As `SpatialInstance`, and without any node.
    """

    problem: ClassVar[str] = "tsp"

    def __post_init__(self) -> None:
        """Validate and freeze the arrays."""
        super().__post_init__()
        if self.nodes < 1:
            raise ValueError("has no nodes.")

    @property
    def n(self) -> int:
        """Number of nodes."""
        return self.nodes

    def objective(self, solution: list[int]) -> float:
        """Length of the tour."""
        return self.distances.tour_length(solution)

    def violations(self, solution: list[int]) -> list[str]:
        """Nodes that are missing, repeated or unknown."""
        return permutation_violations(solution, 0, self.n - 1, "node")

    def canonical(self, solution: list[int]) -> list[int]:
        """The tour from node 0, in the direction of the smaller neighbour if symmetric."""
        begin = list(solution).index(0)
        tour = [int(k) for k in [*solution[begin:], *solution[:begin]]]
        if self.distances.symmetric and len(tour) > 2 and tour[1] > tour[-1]:
            tour[1:] = tour[:0:-1]
        return tour

    def to_routing(self) -> RoutingView:
        """One route through all nodes, node 0 as its depot."""
        from nco.instances.routing import tour_view

        return tour_view(self.distances)

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
