"""Column-and-constraint generation with certified bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nco.instances.core import Stop
from nco.robust.baselines import even_scenario, nominal_scenario
from nco.robust.learned import LearnedStart
from nco.robust.masters import scenario_master
from nco.robust.reformulation import reason_against
from nco.robust.search import Search

#: Share of the time left for a master that was stopped before it told anything.
LONG = 0.8


def generate(
    search: Search,
    *,
    iterations: int | None = None,
    relaxed: bool = True,
    most: int = 200,
    share: float = 0.5,
    name: str = "ccg",
) -> Stop | None:
    """Add scenarios to a master until its bound meets the best evaluation.

    B. Zeng and L. Zhao, Operations Research Letters 41 (2013). The adversary is the problem's
    own evaluation; for whole recourses that is an inner generation of recourses (L. Zhao and
    B. Zeng, An exact algorithm for two-stage robust optimization with mixed integer recourse
    problems, 2012).

    Parameters
    ----------
    search
        The solve.
    iterations
        Largest number of masters.
    relaxed
        Whether masters have the relaxed recourse in all scenarios, too, where it is valid.
    most
        Largest number of scenarios in a master; the least binding ones stay out.
    share
        Largest share of the time left for one master, unless that tells nothing.
    name
        For events.
    """
    problem, budget = search.problem, search.budget
    usable = relaxed and reason_against(problem) is None and not problem.affine.continuous
    if not search.scenarios:
        search.keep(nominal_scenario(problem.uncertainty))
        search.keep(even_scenario(problem.uncertainty))
    search.choose(search.nothing() if search.best is None else search.best.x)
    tight = 0.1
    count = 0
    while not search.closed:
        stop = search.tracker.done(count)
        if stop is not None:
            return stop
        if iterations is not None and count >= iterations:
            return None
        begun = budget.elapsed()
        chosen = _binding(search, most)
        before = (len(search.chosen), search.bound, search.value)
        # Far from the end rough masters do; later they must be exact.
        gap = max(1e-9, min(1e-3, tight * search.gap)) if np.isfinite(search.gap) else 1e-3
        master = scenario_master(problem, chosen, relaxed=usable)
        time = budget.share(share)
        x = search.solve(master, time, gap=gap, by=name, bounds=True, evaluate=2)
        count += 1
        search.log(name, begun)
        if x is None and search.infeasible:
            return Stop.PROVED
        if (len(search.chosen), search.bound, search.value) == before:
            if time.spent():
                # The same master again, with time to end.
                share = max(share, LONG)
            elif tight <= 1e-6:
                return None
            else:
                tight *= 0.01
    return Stop.PROVED


def _binding(search: Search, most: int) -> list[np.ndarray]:
    """The scenarios for a master: all, or those that hurt the best first stage and the newest."""
    chosen = search.chosen
    if len(chosen) <= most or search.best is None or search.problem.oracle is None:
        return chosen[-most:]
    newest, older = chosen[-(most // 2) :], chosen[: -(most // 2)]
    values, _ = search.problem.recourse_at(search.best.x, np.array(older))
    order = np.argsort(values[0], kind="stable")[: most - len(newest)]
    return [older[k] for k in order] + newest


@dataclass(frozen=True)
class CCG(LearnedStart):
    """Exact column-and-constraint generation; anytime, with certified bounds.

    Parameters
    ----------
    backend, learned, weights
        As in `LearnedStart`.
    relaxed
        Whether masters have the relaxed recourse in all scenarios as well, where only the
        objective depends on the scenario.
    scenarios
        Largest number of scenarios in a master.

    Raises
    ------
    ValueError
        When there may be no scenarios, or the share is not within 0 and 1.
    """

    name: ClassVar[str] = "ccg"
    relaxed: bool = True
    scenarios: int = 200

    def __post_init__(self) -> None:
        """Validate."""
        super().__post_init__()
        if self.scenarios < 2:
            raise ValueError(f"scenarios = {self.scenarios} < 2 not understood.")

    def run(self, search: Search) -> Stop | None:
        """Generate scenarios."""
        search.try_static()
        self.begin(search)
        return generate(search, relaxed=self.relaxed, most=self.scenarios)
