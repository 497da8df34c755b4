"""What methods return when the time is over before second stages are compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.classical.compiling import compile_in_time, compiled_before
from nco.instances.core import Budget, Tracker
from nco.instances.two_stage import TwoStageSolution
from nco.mip.backend import Form, Limits, Neighborhood, Watch
from nco.robust.masters import static_master
from nco.robust.two_stage import TwoStageProblem

Vector = NDArray[np.float64]
#: Seconds for the static first stage whatever is left, and at most.
LEAST, MOST = 0.25, 0.5
#: Share of them for the recourse of one first stage.
SHARE = 0.5
#: Gap of the best one.
GAP = 1e-3

#: What has compiled or been loaded in this process.
_READY: set[Callable[[], object]] = set()


def _nothing(budget: Budget) -> None:
    """Nothing is made while code is loaded: one thread of Python at a time."""


def _all(parts: list[Callable[[], object]]) -> Callable[[], object]:
    """One function for several, by the name of the first."""

    @functools.wraps(parts[0])
    def call() -> None:
        for part in parts:
            part()

    return call


def compiled(
    tracker: Tracker[Any],
    problem: TwoStageProblem,
    engine: Any,
    start: TwoStageSolution | None = None,
    load: Callable[[], object] | None = None,
) -> tuple[bool, list[TwoStageSolution]]:
    """Compile what the problem's second stages need, and load what else is, within the budget.

    Before anything is loaded, which cannot be stopped, there is a first stage that needs
    nothing else: the one that is best with one recourse for all scenarios
    (`nco.robust.masters.static_master`). If time is up first, the tracker is offered it.

    Parameters
    ----------
    tracker
        Its budget is kept.
    problem
        The problem.
    engine
        Class of a MIP engine.
    start
        A solution that is known, or None.
    load
        Imports what the method needs and is slow to import, or None.

    Returns
    -------
    Whether the method can begin, and the static solutions that were found: none, where
    nothing had to be compiled or loaded.
    """
    parts = [p for p in (problem.compiler, load) if p is not None and p not in _READY]
    if not parts:
        return True, []
    budget = tracker.budget
    x = None if start is None else np.asarray(start["x"], dtype=float)
    found = static_solutions(problem, engine, budget, x)
    if compile_in_time(_all(parts), tracker, _nothing):
        _READY.update(parts)
        return True, found
    offer_static(tracker, problem, engine, found, x)
    return False, found


def ready(problem: TwoStageProblem, budget: Budget) -> bool:
    """Compile what second stages need within a budget; whether they can be computed."""
    if problem.compiler is None or problem.compiler in _READY:
        return True
    if not compiled_before(problem.compiler, budget.spent):
        return False
    _READY.add(problem.compiler)
    return True


def offer_static(
    tracker: Tracker[Any],
    problem: TwoStageProblem,
    engine: Any,
    found: list[TwoStageSolution],
    start: Vector | None = None,
) -> None:
    """Offer static solutions; a first attempt that had too little time is made again."""
    if len(found) < 2:
        found = [*found, *static_solutions(problem, engine, tracker.budget, start)]
    for solution in found:
        tracker.offer(solution, by="static")


def static_solutions(
    problem: TwoStageProblem, engine: Any, budget: Budget, start: Vector | None = None
) -> list[TwoStageSolution]:
    """First stages with one recourse for all scenarios.

    Parameters
    ----------
    problem
        The problem.
    engine
        Class of a MIP engine.
    budget
        `MOST` of it may be used, and `LEAST`. Once it is interrupted, there is only the start.
    start
        A first stage [p]; by default, or if it has no such recourse, the one that does nothing.

    Returns
    -------
    The start and the best one found, as far as they have such a recourse.
    """
    master = static_master(problem)
    form = Form(master.mip)
    if form.contradiction():
        return []
    own = budget.child(max(LEAST, min(MOST, budget.left())))
    nothing = np.clip(np.zeros(problem.n), problem.first.lower, problem.first.upper)
    found: list[Vector] = []
    mip = engine(form)
    try:
        for x in (nothing,) if start is None else (start, nothing):
            fix = Neighborhood(fix=(master.x, problem.whole_x(x)))
            fixed = mip.solve(Limits(SHARE * own.left()), fix)
            if fixed.x is not None:
                found.append(fixed.x)
            if found or mip.lost:
                break
        if not mip.lost and not own.spent():
            hint = found[0] if found else None
            best = mip.solve(Limits(own.left(), gap=GAP), None, hint, Watch(stop=own.spent))
            if best.x is not None:
                found.append(best.x)
    finally:
        mip.close()
    out = []
    for values in found:
        rounded = form.rounded(values)
        x, y = problem.whole_x(rounded[master.x]), rounded[master.y[0]]
        xi, _ = problem.uncertainty.worst_case(problem.affine.linear(x, y)[0])
        out.append(problem.plain({"x": x, "xi": xi, "y": y, "policies": [y]}))
    return [solution for solution in out if not problem.check(solution)]
