"""The capacitated vehicle routing problem."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import FLOAT_TOLERANCE, SpatialInstance, as_number, frozen_array
from nco.instances.tsp import permutation_violations

if TYPE_CHECKING:
    from nco.instances.mip import MipView
    from nco.instances.routing import RoutingView


def route_violations(routes: Sequence[Sequence[int]], n: int) -> list[str]:
    """What keeps ``routes`` from visiting each of the customers ``1..n`` exactly once."""
    try:
        visits = [customer for route in routes for customer in route]
    except TypeError:
        return ["a solution is a list of routes, each a list of customers"]
    return permutation_violations(visits, 1, n, "customer")


def canonical_routes(routes: Sequence[Sequence[int]], symmetric: bool) -> list[list[int]]:
    """Routes without empty ones, by first customer, from their smaller ends if symmetric."""
    out = [[int(k) for k in route] for route in routes if len(route)]
    if symmetric:
        out = [r if r[0] <= r[-1] else r[::-1] for r in out]
    return sorted(out)


@dataclass(frozen=True, eq=False, kw_only=True)
class CVRP(SpatialInstance[list[list[int]]]):
    """Serve every customer once, with routes from the depot, on the shortest way.

    A solution is a list of routes; a route lists its customers 1..n in visiting order,
    without the depot 0.

    Parameters
    ----------
    demands
        Demand of every node [n + 1]; the depot's is 0.
    capacity
        Largest load of a route.
    max_distance
        Largest length of a route, service times included, or None (TSPLIB's DISTANCE).
    service_time
        Time that each customer takes; counts against ``max_distance`` only.
    vehicles
        Largest number of routes, or None.

    Raises
    ------
    ValueError
        As `SpatialInstance`, and when demands are negative, miss a node, or exceed the
        capacity.
    """

    problem: ClassVar[str] = "cvrp"
    solution_form: ClassVar[str] = "routes"

    demands: NDArray[Any]
    capacity: float
    max_distance: float | None = None
    service_time: float = 0.0
    vehicles: int | None = None

    def __post_init__(self) -> None:
        """Validate and freeze the arrays."""
        super().__post_init__()
        demands = frozen_array("demands", self.demands, ndim=1)
        object.__setattr__(self, "demands", demands)
        if self.nodes < 2:
            raise ValueError("has no customers.")
        if len(demands) != self.nodes:
            raise ValueError(f"{len(demands)} demands for {self.nodes} nodes, depot included.")
        if demands[0] != 0:
            raise ValueError(f"the depot's demand is {demands[0]}, expected 0.")
        for name, value in (("capacity", self.capacity), ("service_time", self.service_time)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} = {value} not understood; give a number >= 0.")
            object.__setattr__(self, name, as_number(value, float(value).is_integer()))
        if self.max_distance is not None:
            if not (math.isfinite(self.max_distance) and self.max_distance >= 0):
                raise ValueError(
                    f"max_distance = {self.max_distance} not understood; give a number >= 0."
                )
            limit = as_number(self.max_distance, float(self.max_distance).is_integer())
            object.__setattr__(self, "max_distance", limit)
        if self.vehicles is not None:
            if not (self.vehicles >= 1 and float(self.vehicles).is_integer()):
                raise ValueError(
                    f"vehicles = {self.vehicles} not understood; give a whole number >= 1."
                )
            object.__setattr__(self, "vehicles", int(self.vehicles))
        if (demands < 0).any():
            k = int(np.argmax(demands < 0))
            raise ValueError(f"customer {k}: demand {demands[k]} < 0.")
        if float(demands.astype(np.float64).sum()) > 2**53:
            raise ValueError("demands add up to more than 2^53; scale them down.")
        if (demands > self.capacity).any():
            k = int(np.argmax(demands > self.capacity))
            raise ValueError(
                f"customer {k}: demand {demands[k]} > capacity {self.capacity}; "
                "no route can serve it."
            )

    @property
    def n(self) -> int:
        """Number of customers."""
        return self.nodes - 1

    @property
    def integral_demands(self) -> bool:
        """Whether loads are exact integers."""
        return bool(np.issubdtype(self.demands.dtype, np.integer))

    def route_length(self, route: list[int]) -> float:
        """Length of one route, depot to depot."""
        return self.distances.tour_length([0, *route])

    def objective(self, solution: list[list[int]]) -> float:
        """Total length of all routes."""
        order: list[int] = [0]
        for route in solution:
            if len(route):
                order.extend(route)
                order.append(0)
        return self.distances.path_length(order)

    def violations(self, solution: list[list[int]]) -> list[str]:
        """Customers missing, repeated or unknown; routes overloaded or too long."""
        problems = route_violations(solution, self.n)
        if problems:
            return problems
        slack = 0.0 if self.integral_demands else FLOAT_TOLERANCE * max(1.0, self.capacity)
        for number, route in enumerate(solution, 1):
            load = as_number(float(self.demands[list(route)].sum()), self.integral_demands)
            if load > self.capacity + slack:
                problems.append(f"route {number}: load {load} > capacity {self.capacity}")
            if self.max_distance is not None and len(route):
                length = self.route_length(route) + self.service_time * len(route)
                if length > self.max_distance * (1 + FLOAT_TOLERANCE):
                    problems.append(
                        f"route {number}: length {length} > distance limit {self.max_distance}"
                    )
        used = sum(1 for route in solution if len(route))
        if self.vehicles is not None and used > self.vehicles:
            problems.append(f"{used} routes > {self.vehicles} vehicles")
        return problems

    def canonical(self, solution: list[list[int]]) -> list[list[int]]:
        """Routes without empty ones, by first customer, each from its smaller end."""
        return canonical_routes(solution, self.distances.symmetric)

    def to_routing(self) -> RoutingView:
        """Routes with a load, and a length limit where there is one."""
        from nco.instances.routing import RoutingView, keep

        return RoutingView(
            distances=self.distances,
            encode=keep,
            decode=keep,
            vehicles=self.vehicles,
            demands=self.demands,
            capacity=self.capacity,
            max_length=self.max_distance,
            service=np.r_[0.0, np.full(self.n, self.service_time)] if self.service_time else None,
        )

    def to_mip(self, start: list[list[int]] | None = None) -> MipView:
        """The routes as a MIP, single-commodity flow; see `nco.instances.flow`."""
        from nco.instances.flow import cvrp_view

        return cvrp_view(self, start)

    @classmethod
    def generate(cls, n: int, *, seed: int, distribution: str = "uniform", **options: Any) -> Self:
        """Random customers and demands; distributions as `nco.instances.generate.cvrp`."""
        from nco.instances import generate

        rng = generate.random(seed, cls.problem, n, distribution)
        return cls(
            **generate.cvrp(n, rng, distribution, **options),
            name=f"{cls.problem}-{distribution}-n{n}-s{seed}",
        )
