"""Greedy insertion for every problem with a routing form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nco.classical.constructive import hilbert_order, initial_solution
from nco.classical.routing import tracked
from nco.classical.sequential import expected, follow
from nco.classical.views import cannot_route
from nco.instances.core import FLOAT_TOLERANCE, Budget, Instance, Listener, Result, Stop
from nco.instances.routing import Routes, RoutingView
from nco.instances.spctsp import SPCTSP

#: Every insertion looks at every leg, so that time grows with the square.
LARGEST_NODES = 20_000
#: Default of ``powers`` in `insert_routes`.
POWERS = (1.0, 2.0, 4.0)


@dataclass(eq=False)
class _Route:
    """A route in the making: visits with the depot at both ends, load, length and times."""

    path: NDArray[np.intp]
    load: float = 0.0
    length: float = 0.0


def insert_routes(
    view: RoutingView,
    routes: Routes = (),  # type: ignore[assignment]
    *,
    budget: Budget | None = None,
    powers: Sequence[float] = POWERS,
) -> Routes | None:
    """Insert all customers that must be visited, and others where that pays, one by one.

    Where all must be visited: far customers first (large ones in a limited fleet, early
    ones with time windows), each where it adds least length (to the longest route, where
    that counts). Otherwise those that save most per length added, until none pays and the
    prizes suffice.

    Parameters
    ----------
    view
        The problem.
    routes
        Routes to begin with.
    budget
        When it ends, the rest follows along a curve where no limit forbids that.
    powers
        Where length is free: the best of insertions by prize to these powers, per length.

    Returns
    -------
    Routes, or None where some customer fits nowhere, or time is up first.
    """
    made = [_make(view, route) for route in routes if route]
    left = np.ones(view.nodes, dtype=bool)
    left[0] = False
    for route in made:
        left[route.path] = False
    if view.skip_costs is None:
        for number, v in enumerate(_order(view)):
            if budget is not None and number % 64 == 0 and budget.spent():
                if (
                    view.demands is not None
                    or view.windows is not None
                    or view.max_length is not None
                ):
                    return None
                return _append(view, made, left)
            if left[v] and not _insert(view, made, v):
                return None
            left[v] = False
    elif view.free:
        skip = view.skip_costs
        return max(
            (_collected(view, routes, power, budget) for power in powers),
            key=lambda found: float(skip[found[0]].sum()) if found else 0.0,
        )
    elif not _collect(view, made, left, budget):
        return _append(view, made, left)
    return [route.path[1:-1].tolist() for route in made]


def _collected(view: RoutingView, routes: Routes, power: float, budget: Budget | None) -> Routes:
    made = [_make(view, route) for route in routes if route]
    left = np.ones(view.nodes, dtype=bool)
    left[0] = False
    for route in made:
        left[route.path] = False
    _collect(view, made, left, budget, power)
    return [route.path[1:-1].tolist() for route in made if len(route.path) > 2]


def _append(view: RoutingView, made: list[_Route], left: NDArray[np.bool_]) -> Routes:
    """Routes, followed by all that is left along a curve, a like share for each."""
    routes = [route.path[1:-1].tolist() for route in made]
    nodes = np.flatnonzero(left)
    if view.distances.coords is not None and len(nodes):
        nodes = nodes[hilbert_order(view.distances.coords[nodes])]
    # More vehicles than customers would stay empty.
    count = min(view.vehicles or 1, view.nodes)
    routes += [[] for _ in range(count - len(routes))]
    shares = np.array_split(nodes, len(routes))
    return [[*route, *share.tolist()] for route, share in zip(routes, shares, strict=True)]


def _make(view: RoutingView, visits: list[int]) -> _Route:
    path = np.array([0, *visits, 0])
    load = 0.0 if view.demands is None else float(view.demands[path].sum())
    service = 0.0 if view.service is None else float(view.service[path].sum())
    return _Route(path, load, float(view.distances.pairs(path[:-1], path[1:]).sum()) + service)


def _order(view: RoutingView) -> list[int]:
    key = -(view.distances.row(0) + 0.0)
    if view.demands is not None and view.vehicles is not None:
        key = -view.demands.astype(np.float64)
    if view.windows is not None:
        key = view.windows[:, 1].astype(np.float64)
    return (np.argsort(key[1:], kind="stable") + 1).tolist()


def _extra(view: RoutingView, path: NDArray[np.intp], v: Any) -> NDArray[np.float64]:
    """Length that nodes v add [legs, *v]; without service."""
    d = view.distances
    shape = (-1,) + (1,) * np.ndim(v)
    a, b = path[:-1].reshape(shape), path[1:].reshape(shape)
    return d.pairs(a, v) + d.pairs(v, b) - d.pairs(a, b)


def _on_time(view: RoutingView, path: NDArray[np.intp]) -> bool:
    """Whether a route keeps the time windows, begun as early as it may."""
    assert view.windows is not None
    now = float(view.windows[0, 0])
    legs = view.distances.pairs(path[:-1], path[1:]).tolist()
    service = np.zeros(view.nodes) if view.service is None else view.service
    for a, b, leg in zip(path[:-1].tolist(), path[1:].tolist(), legs, strict=True):
        now = max(now + float(service[a]) + leg, float(view.windows[b, 0]))
        if now > view.windows[b, 1] * (1 + FLOAT_TOLERANCE):
            return False
    return True


def _insert(view: RoutingView, routes: list[_Route], v: int) -> bool:
    demand = 0.0 if view.demands is None else float(view.demands[v])
    service = 0.0 if view.service is None else float(view.service[v])
    most = np.inf if view.max_length is None else view.max_length * (1 + FLOAT_TOLERANCE / 2)
    full = view.capacity * (1 + FLOAT_TOLERANCE / 2)
    candidates = list(routes)
    if view.vehicles is None or len(routes) < view.vehicles:
        candidates.append(_Route(np.array([0, 0])))
    options: list[tuple[float, float, int, _Route]] = []
    for route in candidates:
        if view.demands is not None and route.load + demand > full:
            continue
        extra = _extra(view, route.path, v)
        # With time windows the cheapest leg may be too late, so all are tried in turn.
        places = [int(extra.argmin())] if view.windows is None else range(len(extra))
        for k in places:
            length = route.length + float(extra[k]) + service
            if length <= most:
                score = length if view.minmax else float(extra[k])
                options.append((score, float(extra[k]), k, route))
    options.sort(key=lambda option: option[0])
    for _, extra_length, k, route in options:
        path = np.insert(route.path, k + 1, v)
        if view.windows is not None and not _on_time(view, path):
            continue
        if route not in routes:
            routes.append(route)
        route.path = path
        route.load += demand
        route.length += extra_length + service
        return True
    return False


def _collect(
    view: RoutingView,
    routes: list[_Route],
    left: NDArray[np.bool_],
    budget: Budget | None,
    power: float = 1.0,
) -> bool:
    """Fill the one route of a problem where customers may be left out.

    Where length is free, by what leaving out costs to a power, per length.

    Returns whether it suffices; it may not when time is up.
    """
    assert view.skip_costs is not None
    if not routes:
        routes.append(_Route(np.array([0, 0])))
    (route,) = routes
    prizes = np.zeros(view.nodes) if view.prizes is None else view.prizes.astype(np.float64)
    found = float(prizes[route.path].sum())
    most = np.inf if view.max_length is None else view.max_length * (1 + FLOAT_TOLERANCE / 2)
    skip = view.skip_costs.astype(np.float64)
    every = np.arange(view.nodes)
    # Cheapest extra length of every customer; only the two new legs change it.
    extra = _extra(view, route.path, every).min(0)
    at = np.tile(route.path[:-1], (view.nodes, 1))[:, 0]
    while budget is None or not budget.spent():
        short = found < view.min_prize
        pays = left & (route.length + extra <= most)
        if view.free:
            worth = (skip / max(float(skip.max()), 1e-300)) ** power
            rate = np.where(pays & (skip > 0), worth / np.maximum(extra, 1e-12), -1.0)
        else:
            gain = skip - extra
            rate = np.where(pays & (gain > 0), gain / np.maximum(extra, 1e-12), -1.0)
            if rate.max() < 0 and short:
                need = np.minimum(prizes, view.min_prize - found)
                rate = np.where(pays & (need > 0), need / np.maximum(extra - skip, 1e-12), -1.0)
        v = int(rate.argmax())
        if rate[v] < 0:
            break
        legs = _extra(view, route.path, v)
        k = int(legs.argmin())
        split = int(route.path[k])
        route.path = np.insert(route.path, k + 1, v)
        route.length += float(legs[k])
        found += float(prizes[v])
        left[v] = False
        # Whose cheapest leg was split looks again; others look at the two new legs.
        again = np.flatnonzero(left & (at == split))
        fresh = _extra(view, route.path[k : k + 3], every)
        better = fresh.min(0) < extra
        at = np.where(better, route.path[k : k + 2][fresh.argmin(0)], at)
        extra = np.minimum(extra, fresh.min(0))
        if len(again):
            costs = _extra(view, route.path, again)
            extra[again] = costs.min(0)
            at[again] = route.path[:-1][costs.argmin(0)]
    return found >= view.min_prize or not left.any()


def insertion(instance: Instance[Any], budget: Budget | None = None) -> Any:
    """A solution by greedy insertion, or None where none was found in time."""
    if isinstance(instance, SPCTSP):
        plan = insertion(instance.public(), budget)
        return None if plan is None else follow(instance, plan)
    view: RoutingView = instance.to_routing()  # type: ignore[attr-defined]
    routes = insert_routes(view, budget=budget)
    if routes is None:
        return None
    solution = view.decode(routes)
    return None if instance.violations(solution) else solution


def first_solution(instance: Instance[Any], budget: Budget | None = None) -> Any:
    """The problem's own quick solution, else one by insertion, or None."""
    found = initial_solution(instance, budget)
    return insertion(instance, budget) if found is None else found


class Insertion:
    """Greedy insertion."""

    name: ClassVar[str] = "insertion"

    def supports(self, instance: Instance[Any]) -> str | None:
        """Everything with a routing form, of up to 20,000 nodes."""
        return cannot_route(expected(instance), LARGEST_NODES, lambda view: None)

    def solve(
        self,
        instance: Instance[Any],
        budget: Budget,
        *,
        seed: int = 0,
        start: Any = None,
        on_event: Listener | None = None,
    ) -> Result:
        """Construct one solution; a better start is returned instead."""
        tracker = tracked(self.name, instance, budget, seed, start, on_event)
        found, by = insertion(instance, budget), self.name
        if found is None:
            # No place for someone, or no time.
            found, by = initial_solution(instance, budget), "constructive"
        if found is not None:
            tracker.offer(found, by=by)
        return tracker.result(tracker.done() or Stop.FINISHED)
