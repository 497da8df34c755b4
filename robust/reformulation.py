"""The compact reformulation: one relaxed recourse, dualised over the set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nco.instances.core import Stop
from nco.robust.masters import relaxed_master
from nco.robust.search import RobustSolver, Search
from nco.robust.two_stage import TwoStageProblem


def reason_against(problem: TwoStageProblem) -> str | None:
    """Why minimum and maximum of the relaxed recourse do not change places, or None."""
    if not problem.affine.certain_rows:
        return "its second-stage rows depend on the scenario"
    if not (problem.uncertainty.convex and problem.uncertainty.exact_rows):
        return "its uncertainty set is no polyhedron"
    return None


@dataclass(frozen=True)
class Reformulation(RobustSolver):
    """One MIP with the recourse relaxed; its bound is valid, its first stage evaluated exactly.

    Exact for a continuous recourse. For problems in which only the objective depends on the
    scenario and the set is a polyhedron; see `nco.robust.masters.add_relaxed`.

    Parameters
    ----------
    backend
        MIP engine: ``highs`` or ``scip``.
    """

    name: ClassVar[str] = "reformulation"

    def reason(self, problem: TwoStageProblem) -> str | None:
        """None, or why the problem has no such reformulation."""
        return reason_against(problem)

    def run(self, search: Search) -> Stop | None:
        """Solve the MIP; what is left of the time evaluates its first stages."""
        search.trivial()
        search.solve(
            relaxed_master(search.problem), search.budget.share(0.8), by=self.name, bounds=True
        )
        search.log(self.name, 0.0)
        return None
