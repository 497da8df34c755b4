"""LP bounds are valid, and tight where the relaxation is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from nco.instances.core import Budget, Sense, Status, Stop
from nco.instances.knapsack import Knapsack
from nco.instances.mip import MIP
from nco.mip.backend import Form, polish
from nco.mip.relaxation import LinearProgram, bound, solve_lp


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(list(Sense)))
def test_bound_is_valid(seed, sense):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 6), rng.integers(1, 4)
    c, A = rng.integers(-9, 9, n), rng.integers(-9, 9, (m, n))
    high = rng.integers(0, 20, m)
    mip = MIP(c=c, A=A, row_upper=high, upper=np.full(n, 3), integrality=np.ones(n), sense=sense)
    sign = 1 if sense is Sense.MINIMIZE else -1
    rows = LinearConstraint(A, -np.inf, high)
    optimum = milp(sign * c, constraints=rows, bounds=Bounds(0, 3), integrality=np.ones(n))
    value = bound(mip, Budget(5))
    assert value is not None
    assert sign * value <= optimum.fun + 1e-6


def test_no_bound_without_a_finite_one():
    infeasible = MIP(c=[1.0], A=[[1.0]], row_lower=[5], upper=[1])
    unbounded = MIP(c=[-1.0], A=[[1.0]])
    assert bound(infeasible, Budget(5)) is None
    assert bound(unbounded, Budget(5)) is None
    assert bound(unbounded.replace(upper=[3]), Budget(0)) is None


def test_a_model_that_highs_refuses_has_no_relaxation():
    mip = MIP(c=[1.0, 2.0], A=[[1e16, -1.0]], row_upper=[5], upper=[3, 3], integrality=[1, 0])
    outcome = solve_lp(Form(mip), 5)
    assert (outcome.status, outcome.stopped) == (Status.UNKNOWN, Stop.ERROR)
    assert "refuses" in outcome.error
    assert bound(mip, Budget(5)) is None
    # Rounding leaves no feasible rest that could be found.
    assert polish(Form(mip), np.array([0.9, 0.0])) is None


def test_bound_of_another_problem():
    knapsack = Knapsack(values=[6, 5, 4], weights=[3, 3, 3], capacity=7)
    assert bound(knapsack, Budget(5)) == 12


def test_the_basis_is_kept_between_solves():
    mip = MIP(c=[-1.0, -1.0], A=[[1.0, 2.0]], row_upper=[4], upper=[3, 3])
    lp = LinearProgram(Form(mip))
    assert lp.solve(5).objective == pytest.approx(-3.5)
    lp.bounds(np.zeros(2), np.array([1.0, 3.0]))
    assert lp.solve(5).objective == pytest.approx(-2.5)
    lp.objective(np.array([0.0, -1.0]))
    assert lp.solve(5).objective == pytest.approx(-2.0)
    lp.add_rows(np.array([[0.0, 1.0]]), np.array([-math.inf]), np.array([1.0]))
    assert lp.solve(5).objective == pytest.approx(-1.0)
    assert lp.solve(0).status is Status.UNKNOWN


def test_infeasible_bounds():
    mip = MIP(c=[1.0], A=[[1.0]], row_lower=[2])
    outcome = solve_lp(Form(mip), 5, lower=np.zeros(1), upper=np.ones(1))
    assert outcome.status is Status.INFEASIBLE


def test_rows_of_one_solve_are_gone_after_it():
    mip = MIP(c=[-1.0, -1.0], A=[[1.0, 2.0]], row_upper=[4], upper=[3, 3])
    program = LinearProgram(Form(mip))
    free = program.solve(10).objective
    rows = np.array([[1.0, 1.0]]), np.array([-math.inf]), np.array([1.0])
    assert program.solve_with(rows, 10).objective == pytest.approx(-1.0)
    assert program.solve(10).objective == pytest.approx(free) == pytest.approx(-3.5)
    assert program.seconds > 0


def test_the_basis_outlives_rows_of_one_solve():
    rng = np.random.default_rng(0)
    A = rng.random((40, 60))
    mip = MIP(c=-rng.random(60), A=A, row_upper=A.sum(1) / 3, upper=np.ones(60))
    program = LinearProgram(Form(mip))
    free = program.solve(10)
    cut = rng.random((1, 60)), np.array([-math.inf]), np.array([1.0])
    assert program.solve_with(cut, 10).objective > free.objective
    assert program.solve(10).objective == pytest.approx(free.objective)
    assert program.iterations == 0
    impossible = -np.ones((1, 60)), np.array([-math.inf]), np.array([-61.0])
    assert program.solve_with(impossible, 10).status is Status.INFEASIBLE
    assert program.solve(10).objective == pytest.approx(free.objective)
    assert program.iterations == 0
