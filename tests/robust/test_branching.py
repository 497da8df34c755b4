"""Where branching over prices applies."""

import dataclasses

import numpy as np

import nco
from nco.robust import branching
from nco.robust.two_stage import FirstStage, Recourse, TwoStageProblem
from nco.robust.uncertainty import BudgetSet


def test_a_recourse_without_bounds_has_no_largest_price():
    """Its rows limit it, its columns do not: such a problem is solved otherwise."""
    problem = TwoStageProblem(
        name="open",
        first_stage=FirstStage(c=[-1.0]),
        recourse=Recourse(q=[3.0], q_xi=[[-1.0]], T=[[-2.0]], W=[[1.0]], row_upper=[0.0]),
        uncertainty=BudgetSet(1, 1.0),
        cutter=lambda x, xi: None,
        switches=np.array([0]),
    )
    assert not branching.suits(problem)
    bounded = dataclasses.replace(
        problem, recourse=dataclasses.replace(problem.recourse, upper=np.array([2.0]))
    )
    assert branching.suits(bounded)
    for each in (problem, bounded):
        result = nco.solve(each, solver="two-stage", time_limit=60)
        assert result.status == "optimal"
        assert abs(result.objective - 3.0) < 1e-6
