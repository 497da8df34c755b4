"""Decisions one visit at a time, for prizes that show only at a visit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from nco.classical.routing import tracked
from nco.instances.core import Budget, Instance, Listener, Result, Status
from nco.instances.pctsp import PCTSP
from nco.instances.spctsp import SPCTSP

#: Planned customers that are looked at together, from the next one on.
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
    seen = {*visited}
    return _next(public, min_prize, [k for k in plan if k not in seen], visited, revealed)


def _next(
    public: PCTSP, min_prize: float, ahead: list[int], visited: list[int], revealed: list[float]
) -> int:
    """As `next_customer`, with what is ahead of a plan."""
    distances = public.distances
    at = visited[-1] if visited else 0
    if sum(revealed) >= min_prize:
        for first in range(0, len(ahead), LOOK_AHEAD):
            legs = np.array([*ahead[first : first + LOOK_AHEAD + 1], 0])
            there = distances.pairs(at, legs)
            on = distances.pairs(legs[:-1], legs[1:])
            detours = (there[:-1] + on - there[1:])[:LOOK_AHEAD]
            worth = np.flatnonzero(detours <= public.penalties[legs[: len(detours)]])
            if len(worth):
                return int(legs[worth[0]])
        return 0
    if ahead:
        return ahead[0]
    seen = {*visited}
    left = np.array([k for k in range(1, public.nodes) if k not in seen], dtype=np.intp)
    if not len(left):
        return 0
    home = float(distances.pairs(at, 0))
    extra = distances.pairs(at, left) + distances.pairs(left, 0) - home - public.penalties[left]
    missing = min_prize - sum(revealed)
    worth = np.clip(public.prizes[left].astype(np.float64), 1e-12, max(missing, 1e-12))
    # What costs nothing comes first, by what it saves.
    return int(left[np.argmin(np.where(extra > 0, extra / worth, extra))])


def follow(instance: SPCTSP, plan: Sequence[int]) -> list[int]:
    """Execute a plan, learning real prizes visit by visit."""
    public = instance.public()
    ahead = list(dict.fromkeys(plan))
    visited: list[int] = []
    revealed: list[float] = []
    while True:
        k = _next(public, instance.min_prize, ahead, visited, revealed)
        if k == 0:
            return visited
        if ahead:
            ahead.remove(k)
        visited.append(k)
        revealed += instance.reveal([k])


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
