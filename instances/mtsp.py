"""The min-max multiple travelling salesman problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from nco.instances import routing
from nco.instances.core import SpatialInstance
from nco.instances.cvrp import canonical_routes, route_violations
from nco.instances.subset_tour import by_size

if TYPE_CHECKING:
    from nco.instances.mip import MipView

#: Salesmen by n, the larger numbers of UDC (NeurIPS 2024).
SALESMEN: Mapping[int, float] = {1: 1, 20: 2, 100: 6, 500: 30, 1000: 50}


@dataclass(frozen=True, eq=False, kw_only=True)
class MTSP(SpatialInstance[list[list[int]]]):
    """Share all customers among salesmen so that the longest tour is shortest.

    A solution is a list of routes, at most one per salesman; a route lists its customers
    1..n in visiting order, without the depot 0, where all begin and end.

    Parameters
    ----------
    salesmen
        Number of salesmen.

    Raises
    ------
    ValueError
        As `SpatialInstance`, and without customers or salesmen.
    """

    problem: ClassVar[str] = "mtsp"
    solution_form: ClassVar[str] = "routes"

    salesmen: int

    def __post_init__(self) -> None:
        """Validate and freeze the arrays."""
        super().__post_init__()
        if self.nodes < 2:
            raise ValueError("has no customers.")
        if not (self.salesmen >= 1 and float(self.salesmen).is_integer()):
            raise ValueError(
                f"salesmen = {self.salesmen} not understood; give a whole number >= 1."
            )
        object.__setattr__(self, "salesmen", int(self.salesmen))

    @property
    def n(self) -> int:
        """Number of customers."""
        return self.nodes - 1

    def objective(self, solution: list[list[int]]) -> float:
        """Length of the longest tour."""
        return max(self.distances.tour_length([0, *route]) for route in solution)

    def unbeatable(self) -> float | None:
        """To the farthest customer and back, where the triangle inequality is sure to hold."""
        if self.distances.explicit or self.metric != "exact":
            return None
        far = float(self.distances.pairs(0, np.arange(1, self.nodes)).max())
        # Rounding of the two ways and of their sum.
        return (1.0 - 1e-12) * 2.0 * far

    def violations(self, solution: list[list[int]]) -> list[str]:
        """Customers missing, repeated or unknown; more routes than salesmen."""
        problems = route_violations(solution, self.n)
        if problems:
            return problems
        used = sum(1 for route in solution if len(route))
        return [f"{used} routes > {self.salesmen} salesmen"] if used > self.salesmen else []

    def canonical(self, solution: list[list[int]]) -> list[list[int]]:
        """Routes without empty ones, by first customer, each from its smaller end."""
        return canonical_routes(solution, self.distances.symmetric)

    def to_routing(self) -> routing.RoutingView:
        """As many routes as salesmen; the longest counts."""
        return routing.RoutingView(
            distances=self.distances,
            encode=routing.keep,
            decode=routing.keep,
            vehicles=self.salesmen,
            minmax=True,
        )

    def to_mip(self, start: list[list[int]] | None = None) -> MipView:
        """The routes as a MIP, two flows; see `nco.instances.subset_flow`."""
        from nco.instances.subset_flow import longest_view

        return longest_view(self, start)

    @classmethod
    def generate(
        cls,
        n: int,
        *,
        seed: int,
        distribution: str = "uniform",
        salesmen: int | None = None,
        **options: Any,
    ) -> Self:
        """Random points in the unit square; salesmen by `SALESMEN` unless given."""
        from nco.instances import generate

        rng = generate.random(seed, cls.problem, n, distribution)
        count = round(by_size(n, SALESMEN)) if salesmen is None else salesmen
        generate._check(count >= 1, "salesmen >= 1")
        return cls(
            coords=generate.points(n + 1, rng, distribution, **options),
            salesmen=count,
            name=f"{cls.problem}-{distribution}-n{n}-s{seed}",
        )
