"""The choice for two-stage problems: a cheap certified start, local search, generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nco.instances.core import Stop
from nco.robust import branching, local_search
from nco.robust.baselines import even_scenario, nominal_scenario
from nco.robust.ccg import generate
from nco.robust.learned import LearnedStart
from nco.robust.masters import relaxed_master, scenario_master, static_master
from nco.robust.reformulation import reason_against
from nco.robust.search import Search

#: Kicks of the local search in one round, and its share of the time before branching.
KICKS, LOCAL = 20, 0.05
#: Seconds left, up to which uncertain rows are left to generation: its first master is rough.
SHORT = 5.0


@dataclass(frozen=True)
class TwoStage(LearnedStart):
    """Reformulation and static recourse first, then local search, branching and generation.

    Uncertain rows are left to generation where recourses are linear or there is little time.

    Anytime: it keeps the best first stage with its worst scenario, and the least bound.

    Parameters
    ----------
    backend, learned, weights
        As in `LearnedStart`.
    """

    name: ClassVar[str] = "two-stage"

    def run(self, search: Search) -> Stop | None:
        """Spend the time on whatever still pays."""
        problem, budget = search.problem, search.budget
        search.try_static()
        self.begin(search)
        if search.best is not None and search.tracker.done() is not None:
            return None
        quick = local_search.suits(problem)
        begun = budget.elapsed()
        if branching.suits(problem):
            return _branch(search)
        if not problem.affine.certain_rows and (
            problem.affine.continuous or budget.left() <= SHORT
        ):
            # A handful of scenarios settles linear recourses; each more that local search meets
            # is a large copy in the masters, and keeps them from ending.
            return generate(search)
        if reason_against(problem) is None:
            search.solve(
                relaxed_master(problem), budget.share(0.25), gap=1e-6, by="reformulation",
                bounds=True,
            )  # fmt: skip
            search.log("reformulation", begun)
            if search.closed or search.infeasible:
                return Stop.PROVED
        else:
            for xi in (nominal_scenario(problem.uncertainty), even_scenario(problem.uncertainty)):
                search.keep(xi)
            low = problem.uncertainty.bounds()[0]
            if problem.uncertainty.contains(low):
                search.keep(low)
            search.solve(
                scenario_master(problem, search.scenarios), budget.share(0.2), gap=1e-4,
                by="scenario", bounds=True,
            )  # fmt: skip
            search.log("scenario", begun)
            if search.infeasible:
                return Stop.PROVED
        if search.tracker.done() is None and problem.affine.certain_rows:
            begun = budget.elapsed()
            search.solve(static_master(problem), budget.share(0.15), gap=1e-4, by="static")
            search.log("static", begun)
        rounds = 0
        while search.tracker.done() is None and not search.closed:
            before = (search.value, search.bound, len(search.scenarios))
            if quick:
                begun = budget.elapsed()
                # Less of it as time goes on: what is found late is found by masters.
                search_time = budget.share(0.3 if rounds == 0 else 0.1)
                local_search.improve(search, search_time, kicks=KICKS)
                search.log("local search", begun)
            if search.closed or search.tracker.done() is not None:
                break
            stop = generate(search, iterations=2, most=40, share=0.4)
            if stop is Stop.PROVED or search.infeasible:
                return Stop.PROVED
            rounds += 1
            if (search.value, search.bound, len(search.scenarios)) == before and not quick:
                return None
            if not np.isfinite(search.value) and rounds > 50:
                return None
        return Stop.PROVED if search.closed else None


def _branch(search: Search) -> Stop | None:
    """A bound and a first stage at once, a little local search, then the tree to its end."""
    begun = search.budget.elapsed()
    branching.begin(search)
    local_search.improve(search, search.budget.share(LOCAL), kicks=0)
    search.log("local search", begun)
    begun = search.budget.elapsed()
    done = branching.branch(search, search.budget)
    search.log("branching", begun)
    return Stop.PROVED if done else None
