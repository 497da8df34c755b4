"""Baselines: one recourse for all scenarios, the nominal scenario, a few scenarios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Stop
from nco.robust.learned import LearnedStart
from nco.robust.masters import scenario_master, static_master
from nco.robust.model import Model
from nco.robust.search import RobustSolver, Search
from nco.robust.uncertainty import UncertaintySet, _optimum

Vector = NDArray[np.float64]


def even_scenario(uncertainty: UncertaintySet) -> Vector:
    """The scenario whose least entry, on the scale of each entry's range, is largest.

    For a budget set it is gamma / q everywhere.
    """
    low, high = uncertainty.bounds()
    free = np.flatnonzero(high - low > 1e-12)
    if not len(free):
        return low
    model = Model()
    xi = uncertainty.add_to(model)
    least = model.add_columns(1, 0.0, 1.0)
    matrix = np.hstack([np.diag(1.0 / (high - low)[free]), -np.ones((len(free), 1))])
    limit = low[free] / (high - low)[free]
    model.add_rows(matrix, np.concatenate([xi[free], least]), limit, np.inf)
    cost = np.zeros(model.columns)
    cost[least] = -1.0
    solution = _optimum(model, cost)
    assert solution is not None
    return uncertainty.project(solution[xi][None])[0]


def nominal_scenario(uncertainty: UncertaintySet) -> Vector:
    """The scenario without deviations, or the one nearest to it: zero, or a factor model's mean."""
    mean = getattr(uncertainty, "mean", None)
    middle = getattr(uncertainty, "center", mean)
    if middle is None:
        middle = np.zeros(uncertainty.dimension)
    return uncertainty.project(np.asarray(middle, dtype=float)[None])[0]


@dataclass(frozen=True)
class Static(RobustSolver):
    """One recourse for all scenarios; the first stage is then evaluated with full recourse.

    A set without rows (an ellipsoid) is replaced by its bounding box here, which is on the
    safe side.

    Parameters
    ----------
    backend
        MIP engine: ``highs`` or ``scip``.
    """

    name: ClassVar[str] = "static"

    def run(self, search: Search) -> Stop | None:
        """Solve the MIP."""
        search.trivial()
        search.solve(static_master(search.problem), search.budget.share(0.8), by=self.name)
        search.log(self.name, 0.0)
        return None


@dataclass(frozen=True)
class Nominal(RobustSolver):
    """The first stage that is best in the nominal scenario.

    Parameters
    ----------
    backend
        MIP engine: ``highs`` or ``scip``.
    """

    name: ClassVar[str] = "nominal"

    def run(self, search: Search) -> Stop | None:
        """Solve the MIP; its bound is valid, since the scenario may occur."""
        search.trivial()
        xi = nominal_scenario(search.problem.uncertainty)
        search.keep(xi)
        master = scenario_master(search.problem, [xi])
        search.solve(master, search.budget.share(0.8), by=self.name, bounds=True)
        search.log(self.name, 0.0)
        return None


@dataclass(frozen=True)
class Scenario(LearnedStart):
    """The first stage that is best in the worst of a few scenarios.

    Parameters
    ----------
    backend, learned, weights
        As in `LearnedStart`.
    scenarios
        How many, beside the network's: the first one is `even_scenario`, the others are drawn
        from the set.
    grow
        Whether one more is drawn after every master until the time is up: column-and-constraint
        generation whose adversary is chance.

    Raises
    ------
    ValueError
        When there are none.
    """

    name: ClassVar[str] = "scenario"
    scenarios: int = 1
    grow: bool = False

    def __post_init__(self) -> None:
        """Validate."""
        super().__post_init__()
        if self.scenarios < 1:
            raise ValueError(f"scenarios = {self.scenarios} < 1 not understood.")

    def run(self, search: Search) -> Stop | None:
        """Solve MIPs; their bounds are valid, since the scenarios may occur."""
        self.begin(search)
        uncertainty, budget = search.problem.uncertainty, search.budget
        for xi in (
            even_scenario(uncertainty),
            *uncertainty.sample(self.scenarios - 1, search.rng),
        ):
            search.keep(xi)
        # Not those which evaluations find to be bad.
        chosen = [*search.scenarios]
        count = 0
        while True:
            begun = budget.elapsed()
            master = scenario_master(search.problem, chosen)
            search.solve(master, budget.share(0.8), by=self.name, bounds=True)
            search.log(self.name, begun)
            if search.closed or search.infeasible:
                return Stop.PROVED
            if not self.grow:
                return None
            count += 1
            stop = search.tracker.done(count)
            if stop is not None:
                return stop
            chosen += [*uncertainty.sample(1, search.rng)]
