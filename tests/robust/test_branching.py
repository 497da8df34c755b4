"""Where branching over prices applies."""

import dataclasses

import numpy as np

import nco
from nco.instances.core import Budget, Status
from nco.instances.two_stage_knapsack import TwoStageKnapsack
from nco.mip.highs import pass_model
from nco.robust import branching
from nco.robust.linear import linear_optimum
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


def test_relaxations_keep_the_time_limit(monkeypatch):
    """One that is out of time bounds nothing and excludes nothing; another goes on from it."""
    given = []

    def limit_run(highs, budget):
        given.append(budget.left())
        # The real one leaves 0.01 s, which may suffice.
        highs.setOptionValue("time_limit", budget.left())

    monkeypatch.setattr(branching, "limit_run", limit_run)
    problem = TwoStageKnapsack.generate(300, seed=0).two_stage
    relaxation = branching._Relaxation(problem, 0.0, branching.largest_price(problem))
    everything = np.zeros(300), np.ones(300)
    bound, columns, _ = relaxation.solve(*everything, Budget(0.0))
    assert bound == np.inf
    assert columns is None
    bound, columns, _ = relaxation.solve(*everything, Budget())
    assert np.isfinite(bound)
    assert columns is not None
    assert given == [0.0, np.inf]


def test_a_limit_does_not_outlast_its_budget():
    problem = TwoStageKnapsack.generate(300, seed=0).two_stage
    relaxation = branching._Relaxation(problem, 0.0, branching.largest_price(problem))
    highs = pass_model(relaxation.form, relaxed=True)
    for budget in (Budget(60.0), Budget()):
        assert linear_optimum(highs, budget)[0] is Status.OPTIMAL
        assert np.isfinite(highs.getOptionValue("time_limit")[1]) == np.isfinite(budget.left())
