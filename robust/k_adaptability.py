"""K-adaptability: a few recourses, the best of which is taken in every scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nco.instances.core import Stop
from nco.robust.masters import adaptable_master, static_master
from nco.robust.policy_tree import adapt
from nco.robust.search import RobustSolver, Search


@dataclass(frozen=True)
class KAdaptability(RobustSolver):
    """First stages that are best with ``count`` recourses; evaluated with full recourse.

    One MIP where recourses are binary and only the objective depends on the scenario
    (`nco.robust.masters.adaptable_master`), otherwise a tree
    (`nco.robust.policy_tree.adapt`).

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

    def run(self, search: Search) -> Stop | None:
        """Solve with one recourse for a start, then with all."""
        search.trivial()
        problem = search.problem
        search.solve(static_master(problem), search.budget.share(0.15), by="static")
        search.log("static", 0.0)
        if self.count == 1 or search.tracker.done() is not None:
            return None
        affine = problem.affine
        binary = affine.whole & (affine.lower == 0) & (affine.upper == 1)
        if affine.certain_rows and problem.uncertainty.exact_rows and binary.all():
            begun = search.budget.elapsed()
            master = adaptable_master(problem, self.count)
            search.solve(master, search.budget.share(0.85), by=self.name)
            search.log(self.name, begun)
        else:
            adapt(search, self.count, self.name)
        return None
