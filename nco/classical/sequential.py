"""Decisions one visit at a time, for prizes that show only at a visit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from nco.classical.routing import tracked
from nco.instances.core import Budget, Instance, Listener, Result, Status
from nco.instances.pctsp import PCTSP
from nco.instances.spctsp import SPCTSP

#: Planned customers that are looked at together at first, from the next one on.
LOOK_AHEAD = 64


def expected(instance: Instance[Any]) -> Instance[Any]:
    """What a plan may rest on: with hidden prizes, the problem of the expected ones."""
    return instance.public() if isinstance(instance, SPCTSP) else instance


def next_customer(
    public: PCTSP, min_prize: float, plan: Sequence[int], visited: list[int], revealed: list[float]
) -> int:
    """The next customer, or 0 to return, from nothing but what is known by now.

    While prize is missing, the plan goes on; after its end, to the customer with the
    least extra cost per expected prize. Once the prize suffices, planned customers whose
    detour costs more than their penalty are passed by.

    Parameters
    ----------
    public
        The problem with expected prizes.
    min_prize
        Prize that must be collected.
    plan
        Customers in planned order.
    visited
        Customers visited so far.
    revealed
        Their real prizes.
    """
    left = _left(public, visited)
    ahead = [k for k in plan if left[k]]
    missing = min_prize - sum(revealed)
    return _next(public, missing, ahead, left, visited[-1] if visited else 0)


def _left(public: PCTSP, visited: Sequence[int]) -> NDArray[np.bool_]:
    """Which nodes [n + 1] are customers that were not visited."""
    left = public.left_out(list(visited))
    left[0] = False
    return left


def _next(
    public: PCTSP, missing: float, ahead: Sequence[int], left: NDArray[np.bool_], at: int
) -> int:
    """As `next_customer`.

    Parameters
    ----------
    public
        The problem with expected prizes.
    missing
        Prize that is due yet; none where it is not positive.
    ahead
        What is left of the plan.
    left
        Which nodes [n + 1] are customers that were not visited.
    at
        The last customer visited, or 0.
    """
    distances = public.distances
    if missing <= 0.0:
        first, size = 0, LOOK_AHEAD
        while first < len(ahead):
            legs = np.array([*ahead[first : first + size + 1], 0])
            there = distances.pairs(at, legs)
            on = distances.pairs(legs[:-1], legs[1:])
            detours = (there[:-1] + on - there[1:])[:size]
            worth = np.flatnonzero(detours <= public.penalties[legs[: len(detours)]])
            if len(worth):
                return int(legs[worth[0]])
            first, size = first + size, 2 * size
        return 0
    if ahead:
        return ahead[0]
    others = np.flatnonzero(left)
    if not len(others):
        return 0
    home = float(distances.pairs(at, 0))
    extra = distances.pairs(at, others) + distances.pairs(others, 0) - home
    extra = extra - public.penalties[others]
    worth = np.clip(public.prizes[others].astype(np.float64), 1e-12, max(missing, 1e-12))
    # What costs nothing comes first, by what it saves.
    return int(others[np.argmin(np.where(extra > 0, extra / worth, extra))])


def follow(instance: SPCTSP, plan: Sequence[int]) -> list[int]:
    """Execute a plan, learning real prizes visit by visit.

    Raises
    ------
    ValueError
        When the plan holds an unknown customer.
    """
    public = instance.public()
    order = list(dict.fromkeys(plan))
    # While prize is missing, the plan goes on.
    visited = instance.execute(order)
    found = sum(instance.reveal(visited))
    ahead, left = order[len(visited) :], _left(public, visited)
    while True:
        missing = 0.0 if instance.enough([found]) else instance.min_prize - found
        k = _next(public, missing, ahead, left, visited[-1] if visited else 0)
        if k == 0:
            return visited
        if ahead:
            ahead.remove(k)
        visited.append(k)
        left[k] = False
        found += instance.reveal([k])[0]


class Planner(Protocol):
    """A solver of the problem of expected prizes."""

    name: ClassVar[str]

    def solve(self, instance: Instance[Any], budget: Budget, *, seed: int = 0) -> Result:
        """Solve one instance."""
        ...


def solve_plan(
    planner: Planner,
    instance: SPCTSP,
    budget: Budget,
    *,
    seed: int,
    start: Any,
    on_event: Listener | None,
) -> Result:
    """Solve for the expected prizes, and execute that plan once.

    Returns
    -------
    The outcome, or the start where that is better; ``extra["expected"]`` is what the plan
    would cost if all prizes were as expected.

    Raises
    ------
    ValueError
        When the start is infeasible.
    """
    tracker = tracked(planner.name, instance, budget, seed, start, on_event)
    # A target is for what comes of a plan, not for what the plan expects.
    plan = planner.solve(
        instance.public(), budget.child(budget.left(), budget.iterations), seed=seed
    )
    if plan.solution is not None:
        tracker.offer(follow(instance, plan.solution), by="plan")
    return tracker.result(
        tracker.done() or plan.stopped,
        status=plan.status if plan.status is Status.INFEASIBLE else None,
        params=plan.params,
        versions=plan.versions,
        extra={**plan.extra, "expected": plan.objective},
    )
