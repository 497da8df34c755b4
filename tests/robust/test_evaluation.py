"""Worst cases found by cuts."""

import math

import highspy
import numpy as np
import pytest

import nco
from nco.instances.two_stage_knapsack import TwoStageKnapsack
from nco.robust.evaluation import guaranteed
from nco.robust.two_stage import FirstStage, Recourse, TwoStageProblem
from nco.robust.uncertainty import Box


def test_highs_used_by_the_caller_with_other_threads_does_not_disturb():
    """HiGHS fixes the number of threads of a Python thread at the first run in it."""
    own = highspy.Highs()
    own.setOptionValue("output_flag", False)
    own.setOptionValue("threads", 2)
    own.addVar(0.0, 1.0)
    own.run()
    instance = TwoStageKnapsack.generate(5, seed=1)
    problem = instance.two_stage
    x, nothing = np.zeros(5), np.zeros((1, 10))
    assert guaranteed(problem, x, nothing) == 0.0


def test_linear_recourses_from_one_another_are_those_from_scratch():
    """Infeasible ones in between, costs and limits that change."""
    rng = np.random.default_rng(0)
    problem = TwoStageProblem(
        first_stage=FirstStage(c=np.zeros(2)),
        recourse=Recourse(
            q=np.array([3.0, -1.0]), q_xi=rng.normal(size=(2, 3)), offset=2.0,
            p_xi=rng.normal(size=(2, 3)), W=[[1.0, 2.0], [1.0, -1.0]], T=[[1.0, 0.0], [0.0, 1.0]],
            row_lower=[-np.inf, -1.0], row_upper=[2.0, 3.0],
            h_xi=[[-3.0, 0.0, 1.0], [0.5, 1.0, 0.0]], upper=[4.0, 4.0],
        ),
        uncertainty=Box(-np.ones(3), np.ones(3)),
    )  # fmt: skip
    x, xi = np.array([[0.0, 1.0], [1.0, 0.0]]), problem.uncertainty.sample(30, rng)
    values, ys = problem.recourse_at(x, xi)
    assert 0 < np.isnan(values).sum() < values.size
    for a, b in np.ndindex(*values.shape):
        alone, _ = problem.recourse_at(x[a], xi[b])
        assert alone[0, 0] == pytest.approx(values[a, b], nan_ok=True)
        if np.isfinite(values[a, b]):
            stage = problem.stage(xi[b])
            activity = stage.T @ x[a] + stage.W @ ys[a, b]
            assert (activity <= stage.row_upper + 1e-6).all()
            assert (activity >= stage.row_lower - 1e-6).all()


@pytest.mark.parametrize(
    ("solution", "problem"),
    [
        (5, "holds x, xi and y by name"),
        (math.nan, "holds x, xi and y by name"),
        ([1.0, 2.0], "holds x, xi and y by name"),
        ({"x": [1.0]}, "needs xi, y"),
        ({"x": "a", "xi": [], "y": []}, "x is no list of numbers"),
        ({"x": [[1.0], [1.0, 2.0]], "xi": [], "y": []}, "x is no list of numbers"),
        ({"x": [1.0], "xi": [], "y": []}, "x has 1 numbers"),
    ],
)
def test_what_is_no_solution_is_said_in_words(solution, problem):
    instance = nco.generate("two-stage-knapsack", 5, seed=1)
    report = nco.check(instance, solution)
    assert not report.feasible
    assert problem in report.violations[0]
