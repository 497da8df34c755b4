"""What methods return when the time is over before second stages are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.classical.compiling import compile_in_time, running
from nco.instances.core import Budget, Tracker
from nco.instances.two_stage import TwoStageSolution
from nco.mip.backend import Form, Limits, Neighborhood, Watch
from nco.robust.masters import static_master
from nco.robust.two_stage import TwoStageProblem

Vector = NDArray[np.float64]
#: Seconds for the recourse of one first stage whatever is left, and its share of the time.
LEAST, SHARE = 0.2, 0.2
#: Gap of the others.
GAP = 1e-3

#: The functions that have compiled in this process.
_COMPILED: set[Callable[[], object]] = set()


def compiled(
    tracker: Tracker[Any],
    problem: TwoStageProblem,
    engine: Any,
    start: TwoStageSolution | None = None,
) -> bool:
    """Compile what the problem's second stages need, within the budget.

    If time is up first, the tracker is offered the first stage that is best with one recourse
    for all scenarios, which needs no other: `nco.robust.masters.static_master`.

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

    Returns
    -------
    Whether second stages can be computed at once.
    """
    if problem.compiler is None or problem.compiler in _COMPILED:
        return True
    found: list[TwoStageSolution] = []

    def construct(budget: Budget) -> None:
        if not found:
            x = None if start is None else np.asarray(start["x"], dtype=float)
            found.extend(static_solutions(problem, engine, budget, x, lambda: not running()))

    if compile_in_time(problem.compiler, tracker, construct):
        _COMPILED.add(problem.compiler)
        return True
    # Beside the compiler, the first attempt may have been too short.
    construct(tracker.budget)
    for solution in found:
        tracker.offer(solution, by="static")
    return False


def static_solutions(
    problem: TwoStageProblem,
    engine: Any,
    budget: Budget,
    start: Vector | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[TwoStageSolution]:
    """First stages with one recourse for all scenarios.

    Parameters
    ----------
    problem
        The problem.
    engine
        Class of a MIP engine.
    budget
        All of it may be used, and `LEAST`.
    start
        A first stage [p]; by default the one that does nothing.
    stop
        Asked often; True ends it.

    Returns
    -------
    The start and the best one found, as far as they have such a recourse.
    """
    master = static_master(problem)
    form = Form(master.mip)
    if form.contradiction():
        return []
    first = problem.first
    x = np.clip(np.zeros(problem.n), first.lower, first.upper) if start is None else start
    mip = engine(form)
    try:
        fixed = mip.solve(
            Limits(max(LEAST, SHARE * budget.left())),
            Neighborhood(fix=(master.x, problem.whole_x(x))),
            watch=Watch(stop=stop),
        )
        found = [fixed.x]
        if not mip.lost:
            best = mip.solve(
                Limits(budget.left(), gap=GAP), None, fixed.x,
                Watch(stop=lambda: stop() or budget.done() is not None),
            )  # fmt: skip
            found.append(best.x)
    finally:
        mip.close()
    out = []
    for values in found:
        if values is None:
            continue
        rounded = form.rounded(values)
        x, y = problem.whole_x(rounded[master.x]), rounded[master.y[0]]
        xi, _ = problem.uncertainty.worst_case(problem.affine.linear(x, y)[0])
        out.append(problem.plain({"x": x, "xi": xi, "y": y, "policies": [y]}))
    return [solution for solution in out if not problem.check(solution)]
