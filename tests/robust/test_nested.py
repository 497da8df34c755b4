"""Worst cases of whole recourses with uncertain rows, against dense lists of scenarios."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nco
from nco.instances.core import Budget, CheckError, Tracker
from nco.mip.highs import HighsEngine
from nco.robust import evaluation, nested
from nco.robust.evaluation import sampled_scenarios
from nco.robust.nested import by_plans, suits
from nco.robust.search import Search
from nco.robust.two_stage import FirstStage, InfeasibleRecourseError, Recourse, TwoStageProblem
from nco.robust.uncertainty import (
    Box,
    BudgetSet,
    Ellipsoid,
    FiniteScenarios,
    Intersection,
    Polyhedron,
)


def thresholds(uncertainty=None, **changes):
    """Two whole columns; the worst scenario is inside the box.

    y0 = 1 needs xi0 <= 0.4 + x, y1 = 1 needs xi0 >= 0.6 + x.
    """
    values = {
        "q": [5.0, 5.0], "W": [[0.6, 0.0], [0.0, 1.6]], "T": [[-1.0], [1.0]],
        "row_upper": [1.0, 1.0], "h_xi": [[-1.0], [1.0]], "upper": [1.0, 1.0], "whole": True,
    }  # fmt: skip
    return TwoStageProblem(
        first_stage=FirstStage(c=np.array([-1.0]), upper=np.array([0.0])),
        recourse=Recourse(**(values | changes)),
        uncertainty=uncertainty or Box(np.zeros(1), np.ones(1)),
    )


def general(seed, uncertainty, *, whole=3, free=0, uncertain=("h", "q", "T", "W")):
    """Whole columns within uncertain rows; continuous ones, if any, within certain rows."""
    rng = np.random.default_rng(seed)
    k, m, r = uncertainty.dimension, whole + free, 2
    inside = np.arange(m) < whole
    W = rng.integers(1, 6, (r, m)) * inside.astype(float)
    more = {}
    if "h" in uncertain:
        more["h_xi"] = np.vstack([rng.uniform(-3, 3, (r, k)), np.zeros((1, k))])
    if "q" in uncertain:
        more["q_xi"] = rng.uniform(-2, 2, (m, k))
    if "T" in uncertain:
        more["T_xi"] = {0: np.vstack([rng.uniform(-1, 1, (r, 2)), np.zeros((1, 2))])}
    if "W" in uncertain:
        moved = np.vstack([rng.uniform(-1, 1, (r, m)) * inside, np.zeros((1, m))])
        more["W_xi"] = {k - 1: moved}
    return TwoStageProblem(
        first_stage=FirstStage(c=rng.uniform(-1, 1, 2)),
        recourse=Recourse(
            q=rng.uniform(0, 6, m), W=np.vstack([W, np.ones((1, m))]), offset=1.0,
            T=np.vstack([rng.uniform(-1, 1, (r, 2)), np.zeros((1, 2))]),
            row_upper=[9.0, 8.0, 4.0], upper=np.full(m, 2.0), whole=inside, **more,
        ),
        uncertainty=uncertainty,
    )  # fmt: skip


def jumping(seed, uncertainty, *, whole=3, free=0):
    """Small whole numbers in objectives that move with the scenario and rows that do, too."""
    rng = np.random.default_rng(seed)
    k, m, r = uncertainty.dimension, whole + free + 1, 2
    inside = np.arange(m) < whole
    W = np.hstack([rng.integers(-3, 4, (r, m - 1)), -np.ones((r, 1))])
    # The last column buys what is missing.
    q = np.append(rng.integers(-3, 4, m - 1), -20.0)
    q_xi = np.vstack([rng.integers(-2, 3, (m - 1, k)), np.zeros((1, k))]) * inside[:, None]
    return TwoStageProblem(
        sense="maximize" if seed % 2 else "minimize",
        first_stage=FirstStage(c=rng.integers(-3, 4, 2).astype(float)),
        recourse=Recourse(
            q=q if seed % 2 else -q, q_xi=q_xi, W=W, T=rng.integers(-3, 4, (r, 2)),
            row_upper=rng.integers(0, 6, r), h_xi=rng.integers(-2, 3, (r, k)),
            upper=np.append(rng.integers(1, 3, m - 1), 60.0), whole=inside,
            offset_xi=rng.integers(-2, 3, k).astype(float),
        ),
        uncertainty=uncertainty,
    )  # fmt: skip


def values_on(problem, x, points):
    """Values of both stages in scenarios, by all whole recourses; -inf without one."""
    upper = problem.affine.upper.astype(int)
    plans = np.array(list(itertools.product(*(range(u + 1) for u in upper))), dtype=float)
    values = []
    for xi in points:
        stage = problem.stage(xi)
        activity = plans @ stage.W.toarray().T + stage.T @ x
        fits = (activity <= stage.row_upper + 1e-9).all(1)
        brings = plans @ stage.q + stage.offset + stage.p @ x
        values.append(np.where(fits, brings, -np.inf).max())
    return problem.first.value(x) + np.array(values)


def grid(count, dimension):
    return np.array(list(itertools.product(np.linspace(0.0, 1.0, count), repeat=dimension)))


def test_the_worst_scenario_is_no_vertex():
    problem, x = thresholds(), np.zeros(1)
    assert values_on(problem, x, problem.uncertainty.vertices()) == pytest.approx([5.0, 5.0])
    found = problem.worst_case(x)
    assert found.exact
    assert not found.sampled
    assert found.value == pytest.approx(0.0)
    assert 0.4 < found.xi[0] < 0.6
    result = nco.solve(problem, solver="ccg", time_limit=20)
    assert result.evaluation == "exact"
    assert result.status == "optimal"
    assert result.objective == pytest.approx(0.0)


def test_whole_boxes_of_recourse_leave_slivers_that_no_list_meets():
    """Between 0.5 and 0.50005 nothing helps; the fixed list has no scenario there."""
    problem = thresholds(W=[[0.5, 0.0], [0.0, 1.50005]])
    x = np.zeros(1)
    assert values_on(problem, x, sampled_scenarios(problem)).min() == pytest.approx(5.0)
    found = problem.worst_case(x)
    assert found.exact
    assert found.value == pytest.approx(0.0)


@settings(deadline=None, derandomize=True, max_examples=8)
@given(st.integers(0, 10_000), st.sampled_from(["h", "hq", "hT", "hW", "hqTW"]))
def test_one_entry_is_that_of_a_fine_list(seed, uncertain):
    problem = general(seed, Box(np.zeros(1), np.ones(1)), uncertain=uncertain)
    x = np.array([1.0, 0.0])
    found = by_plans(problem, x, Budget())
    assert found is not None
    assert found.exact
    assert values_on(problem, x, found.xi[None])[0] == pytest.approx(found.value)
    listed = values_on(problem, x, grid(1001, 1)).min()
    assert found.value <= listed + 1e-6
    if "q" not in uncertain:
        # Values change at few places only.
        assert found.value == pytest.approx(listed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["box", "budget", "polyhedron", "ellipsoid", "both"])
def test_two_entries_are_those_of_a_fine_list(kind, seed):
    box = Box(np.zeros(2), np.ones(2))
    ball = Ellipsoid(np.full(2, 0.5), 0.4 * np.eye(2))
    row = Polyhedron([[1.0, 2.0]], [1.5], lower=np.zeros(2), upper=np.ones(2))
    uncertainty = {
        "box": box, "budget": BudgetSet(2, 1.3), "polyhedron": row, "ellipsoid": ball,
        "both": Intersection([ball, row]),
    }[kind]  # fmt: skip
    problem = general(seed, uncertainty, uncertain="hq" if seed % 2 else "hTW")
    x = np.array([0.0, 1.0])
    found = problem.worst_case(x)
    assert found.exact
    assert not found.sampled
    assert uncertainty.contains(found.xi)
    points = grid(26, 2)
    points = points[[uncertainty.contains(xi, 0.0) for xi in points]]
    listed = values_on(problem, x, points).min()
    assert found.value <= listed + 1e-6
    assert values_on(problem, x, found.xi[None])[0] == pytest.approx(found.value)


@settings(deadline=None, derandomize=True, max_examples=8)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_a_cardinality_set_is_that_of_its_scenarios(seed, gamma):
    problem = general(seed, BudgetSet(5, gamma, cardinality=True), whole=3)
    x = np.array([1.0, 1.0])
    listed = values_on(problem, x, problem.uncertainty.vertices()).min()
    if listed == -np.inf:
        with pytest.raises(InfeasibleRecourseError):
            by_plans(problem, x, Budget())
        return
    found = by_plans(problem, x, Budget())
    assert found.exact
    assert found.value == pytest.approx(listed)


@pytest.mark.parametrize("seed", range(3))
def test_continuous_columns_in_certain_rows_do_not_disturb(seed):
    problem = general(seed, Box(np.zeros(2), np.ones(2)), whole=2, free=2)
    x = np.zeros(2)
    found = problem.worst_case(x)
    assert found.exact
    assert found.value <= problem.recourse_at(x, grid(4, 2))[0].min() + 1e-6


def test_continuous_columns_follow_the_scenario():
    """y0 = 1 needs xi <= 0.4, y1 is at most xi: the least is just beyond 0.4."""
    problem = thresholds(
        q=[1.0, 1.0], W=[[0.6, 0.0], [0.0, 1.0]], T=[[0.0]] * 2, row_upper=[1.0, 0.0],
        whole=np.array([True, False]),
    )  # fmt: skip
    found = problem.worst_case(np.zeros(1))
    assert found.exact
    assert not found.sampled
    assert found.value == pytest.approx(0.4, abs=1e-4)
    assert found.xi[0] == pytest.approx(0.4, abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["box", "budget", "polyhedron"])
def test_mixed_recourses_are_those_of_a_fine_list(kind, seed):
    uncertainty = {
        "box": Box(np.zeros(2), np.ones(2)), "budget": BudgetSet(2, 1.3),
        "polyhedron": Polyhedron([[1.0, 2.0]], [1.5], lower=np.zeros(2), upper=np.ones(2)),
    }[kind]  # fmt: skip
    rng = np.random.default_rng(seed)
    whole, m = seed % 3, 3 + seed % 2
    inside = np.arange(m) < whole
    more = {"W_xi": {1: rng.uniform(-1, 1, (3, m)) * inside}} if seed % 2 else {}
    problem = TwoStageProblem(
        first_stage=FirstStage(c=rng.uniform(-1, 1, 2)),
        recourse=Recourse(
            q=rng.uniform(0, 6, m), W=rng.integers(-2, 6, (3, m)).astype(float),
            T=rng.uniform(-1, 1, (3, 2)), row_upper=rng.uniform(6, 9, 3),
            h_xi=rng.uniform(-4, 4, (3, 2)), upper=np.full(m, 2.0), whole=inside, **more,
        ),
        uncertainty=uncertainty,
    )  # fmt: skip
    x = np.array([1.0, 0.0])
    found = by_plans(problem, x, Budget())
    assert found is not None
    assert found.exact
    points = grid(9, 2)
    points = points[[uncertainty.contains(xi, 0.0) for xi in points]]
    first = problem.first.value(x)
    assert found.value <= first + problem.recourse_at(x, points)[0].min() + 1e-6
    assert first + problem.recourse_at(x, found.xi)[0][0, 0] == pytest.approx(found.value)


@pytest.mark.parametrize("change", [{"q_xi": [[0.0], [1.0]]}, {"W_xi": {0: [[0, 0], [0, 1.0]]}}])
def test_moving_columns_of_uncertain_value_or_entries_are_left_to_the_list(monkeypatch, change):
    monkeypatch.setattr(evaluation, "SAMPLED", 20)
    problem = thresholds(whole=np.array([True, False]), **change)
    assert not suits(problem)
    assert problem.worst_case(np.zeros(1)).sampled == "general-v1"


def test_a_certain_row_hands_the_movement_on():
    """y1 = 1 - y2, and y2 <= xi is worth more: y1, in no row that moves, follows."""
    problem = thresholds(
        q=[0.0, 1.0, 3.0], W=[[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]], T=[[0.0]] * 2,
        row_lower=[-np.inf, 1.0], row_upper=[0.2, 1.0], h_xi=[[0.5], [0.0]], upper=np.ones(3),
        whole=np.array([True, False, False]),
    )  # fmt: skip
    found = by_plans(problem, np.zeros(1), Budget())
    assert found.exact
    assert found.value == pytest.approx(1.4)
    assert not suits(thresholds(
        q=[0.0, 1.0, 3.0], W=[[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]], T=[[0.0]] * 2,
        row_lower=[-np.inf, 1.0], row_upper=[0.2, 1.0], h_xi=[[0.5], [0.0]], upper=np.ones(3),
        whole=np.array([True, False, False]), q_xi=[[0.0], [1.0], [0.0]],
    ))  # fmt: skip


def test_a_scenario_without_recourse_is_found_inside_the_box():
    """y0 + y1 >= 1, and neither may be 1 between 0.4 and 0.6."""
    problem = thresholds(
        W=[[0.6, 0.0], [0.0, 1.6], [-1.0, -1.0]], T=[[0.0]] * 3,
        row_upper=[1.0, 1.0, -1.0], h_xi=[[-1.0], [1.0], [0.0]],
    )  # fmt: skip
    with pytest.raises(InfeasibleRecourseError) as caught:
        problem.worst_case(np.zeros(1))
    assert 0.4 < caught.value.xi[0] < 0.6


@pytest.mark.parametrize("limit", ["PLANS", "NODES"])
def test_too_many_plans_or_nodes_leave_it_to_the_list(monkeypatch, limit):
    monkeypatch.setattr(nested, limit, 1 if limit == "PLANS" else 0)
    if limit == "NODES":
        monkeypatch.setattr(nested.PlanProgram, "solve", _exhausted)
    monkeypatch.setattr(evaluation, "SAMPLED", 20)
    problem, x = thresholds(), np.zeros(1)
    assert by_plans(problem, x, Budget()) is None
    assert problem.worst_case(x).sampled == "general-v1"


def _exhausted(self, budget):
    self.exhausted = True


def test_interrupted_what_serves_all_scenarios_is_the_guarantee(monkeypatch):
    problem = general(7, Box(np.zeros(2), np.ones(2)), uncertain="hqTW")
    x = np.array([1.0, 0.0])
    true = problem.worst_case(x)
    problem._known.clear()
    budget = Budget(60.0)
    solve, calls = nested.PlanProgram.solve, []

    def interrupted(self, own):
        calls.append(1)
        if len(calls) == 2:
            budget.interrupt()
        return solve(self, own)

    monkeypatch.setattr(nested.PlanProgram, "solve", interrupted)
    found = problem.worst_case(x, budget)
    assert not found.exact
    assert not found.sampled
    assert found.guaranteed <= true.value + 1e-6
    assert found.value >= true.value - 1e-6
    solution = problem.solution(found)
    assert problem.evaluation(solution) == "interval"
    assert problem.value(solution) == pytest.approx(found.guaranteed)
    assert problem.check(solution) == []


def test_without_time_and_without_one_recourse_for_all_there_is_none():
    problem = thresholds(
        W=[[0.6, 0.0], [0.0, 1.4], [-1.0, -1.0]], T=[[0.0]] * 3,
        row_upper=[1.0, 1.0, -1.0], h_xi=[[-1.0], [1.0], [0.0]],
    )  # fmt: skip
    with pytest.raises(TimeoutError):
        problem.worst_case(np.zeros(1), Budget(0.0))


def best_of_all(problem):
    """The best first stage's value, each judged by itself; maximised."""
    values = []
    for x in itertools.product(*(range(int(u) + 1) for u in problem.first_stage.upper)):
        try:
            values.append(problem.worst_case(np.array(x, dtype=float)).value)
        except InfeasibleRecourseError:
            continue
    return max(values)


@pytest.mark.parametrize("solver", ["auto", "ccg"])
def test_what_is_just_beyond_a_limit_is_the_same_to_bounds_and_values(solver):
    """One first stage's worst scenario bounds another, which is worth as much at its own."""
    problem = TwoStageProblem(
        first_stage=FirstStage(c=np.array([-3.0, 3.0, -2.0]), offset=-1.0, upper=np.full(3, 2.0)),
        recourse=Recourse(
            q=[-3.0, -3.0, -3.0, -50.0], q_xi=[[2.0], [1.0], [2.0], [0.0]],
            W=[[-3.0, -2.0, 3.0, -1.0], [-2.0, 1.0, 2.0, -1.0], [-2.0, -2.0, 0.0, -1.0]],
            T=[[-2.0, 3.0, -2.0], [3.0, 2.0, 2.0], [-3.0, -1.0, 1.0]],
            row_upper=[2.0, 3.0, 4.0], h_xi=[[-2.0], [-1.0], [-1.0]],
            upper=[2.0, 1.0, 1.0, 60.0], whole=True, p=[1.0, -3.0, 3.0],
        ),
        uncertainty=Box(np.zeros(1), np.full(1, 2.0)),
    )  # fmt: skip
    result = nco.solve(problem, solver=solver, time_limit=300)
    assert result.status == "optimal"
    assert result.objective == pytest.approx(-1.0, abs=1e-6)
    assert result.bound == pytest.approx(result.objective, abs=1e-6)


@settings(deadline=None, derandomize=True, max_examples=10)
@given(
    st.integers(0, 10_000), st.sampled_from(["box", "budget", "polyhedron", "finite"]),
    st.sampled_from([0, 1]), st.sampled_from(["auto", "ccg"]),
)  # fmt: skip
def test_bounds_meet_the_best_of_all_first_stages(seed, kind, free, solver):
    uncertainty = {
        "box": Box(np.zeros(1), np.full(1, 2.0)), "budget": BudgetSet(2, 1.5),
        "polyhedron": Polyhedron([[1.0, 2.0]], [1.5], lower=np.zeros(2), upper=np.ones(2)),
        "finite": FiniteScenarios([[0.0, 1.0], [2.0, -1.0], [1.0, 1.0]]),
    }[kind]  # fmt: skip
    problem = jumping(seed, uncertainty, whole=3 - free, free=free)
    best = best_of_all(problem)
    problem._known.clear()
    result = nco.solve(problem, solver=solver, time_limit=300)
    assert result.evaluation == "exact"
    assert result.status == "optimal"
    assert problem.sign * result.objective == pytest.approx(best, abs=1e-6, rel=1e-6)


def test_what_a_cut_off_worst_case_guarantees_is_optimal_once_the_bound_says_so(monkeypatch):
    solve, calls = nested.PlanProgram.solve, []

    def cut_off(self, budget):
        calls.append(1)
        return None if len(calls) == 1 else solve(self, budget)

    monkeypatch.setattr(nested.PlanProgram, "solve", cut_off)
    result = nco.solve(thresholds(), solver="ccg", time_limit=300)
    assert len(calls) > 1
    assert result.evaluation == "interval"
    assert result.objective == pytest.approx(0.0)
    assert result.status == "optimal"


def test_a_bound_that_values_contradict_is_an_error_and_rounding_is_not():
    problem = thresholds()
    search = Search(Tracker(problem, Budget(), solver="ccg"), problem, HighsEngine, 0)
    found = search.evaluate(np.zeros(1))
    assert search.value == found.value == pytest.approx(0.0)
    search.offer_bound(-5e-7)
    assert search.closed
    assert search.bound == search.value
    assert search.tracker.bound == search.value
    with pytest.raises(CheckError, match="beyond objective"):
        search.offer_bound(-1e-3)


def test_scenarios_on_both_sides_of_a_limit_are_two():
    problem = thresholds()
    search = Search(Tracker(problem, Budget(), solver="ccg"), problem, HighsEngine, 0)
    assert search.keep(np.array([0.4]))
    assert search.keep(np.array([0.4 + 1e-8]))
    assert not search.keep(np.array([0.4 + 1e-8]))
    smooth = thresholds(whole=False)
    search = Search(Tracker(smooth, Budget(), solver="ccg"), smooth, HighsEngine, 0)
    assert search.keep(np.array([0.4]))
    assert not search.keep(np.array([0.4 + 1e-8]))
