"""K-adaptability: a few recourses, the best of which is taken in every scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nco.instances.core import Stop
from nco.robust.masters import adaptable_master, static_master
from nco.robust.search import RobustSolver, Search
from nco.robust.two_stage import TwoStageProblem


@dataclass(frozen=True)
class KAdaptability(RobustSolver):
    """First stages that are best with ``count`` binary recourses; evaluated with full recourse.

    For problems in which only the objective depends on the scenario, with a set that has
    rows; see `nco.robust.masters.adaptable_master`.

    Parameters
    ----------
    backend
        MIP engine: ``highs`` or ``scip``.
    count
        K, the number of recourses.

    Raises
    ------
    ValueError
        When there are none.
    """

    name: ClassVar[str] = "k-adaptability"
    count: int = 2

    def __post_init__(self) -> None:
        """Validate."""
        if self.count < 1:
            raise ValueError(f"count = {self.count} < 1 not understood.")

    def reason(self, problem: TwoStageProblem) -> str | None:
        """None, or why the problem has no such MIP."""
        affine = problem.affine
        if not affine.certain_rows:
            return "its second-stage rows depend on the scenario"
        binary = affine.whole & (affine.lower == 0) & (affine.upper == 1)
        return None if binary.all() else "its recourse is not binary"

    def run(self, search: Search) -> Stop | None:
        """Solve with one recourse for a start, then with all."""
        search.trivial()
        problem = search.problem
        search.solve(static_master(problem), search.budget.share(0.15), by="static")
        search.log("static", 0.0)
        if self.count > 1 and search.tracker.done() is None:
            begun = search.budget.elapsed()
            master = adaptable_master(problem, self.count)
            search.solve(master, search.budget.share(0.85), by=self.name)
            search.log(self.name, begun)
        return None
