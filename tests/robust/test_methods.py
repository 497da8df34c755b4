"""Methods for two-stage problems against enumeration, on tiny instances of every kind."""

import functools
import itertools
import math
import signal
from types import SimpleNamespace

import numpy as np
import pytest

import nco
from nco.instances.capital_budgeting import CapitalBudgeting, CapitalBudgetingLoans
from nco.instances.core import Budget, InputError, Sense, Status, Stop, Tracker, UnsupportedError
from nco.instances.facility_location import FacilityLocation
from nco.instances.knapsack import Knapsack
from nco.instances.registry import solvers
from nco.instances.two_stage_knapsack import TwoStageKnapsack
from nco.mip.backend import Form, Limits
from nco.mip.highs import HighsEngine
from nco.robust import branching, ccg, local_search, masters
from nco.robust.auto import TwoStage
from nco.robust.baselines import Nominal, Scenario, Static, even_scenario, nominal_scenario
from nco.robust.ccg import CCG
from nco.robust.k_adaptability import KAdaptability
from nco.robust.model import Model
from nco.robust.policy_tree import adapt
from nco.robust.reformulation import Reformulation
from nco.robust.search import Search, feasible_rows
from nco.robust.two_stage import (
    FirstStage,
    InfeasibleRecourseError,
    Recourse,
    TwoStageProblem,
    UnboundedRecourseError,
)
from nco.robust.uncertainty import Box, BudgetSet, Ellipsoid, FiniteScenarios

METHODS = (CCG, Reformulation, KAdaptability, Static, Nominal, Scenario, TwoStage)


def sites(*, shortage=True, capacity=8.0, sign=1.0, uncertainty=None):
    """Open sites x, then serve two customers of uncertain demand; costs, or their negatives."""
    opening, rates = np.array([9.0, 7.0, 8.0]), np.array([1.0, 3.0, 2.0, 1.0, 2.5, 2.5])
    q = np.concatenate([rates, [12.0, 12.0]] if shortage else [rates])
    serve = np.tile(np.eye(2), 3)
    use = np.kron(np.eye(3), np.ones((1, 2)))
    rows = np.vstack([use, serve])
    if shortage:
        rows = np.hstack([rows, np.vstack([np.zeros((3, 2)), np.eye(2)])])
    return TwoStageProblem(
        sense=Sense.MINIMIZE if sign > 0 else Sense.MAXIMIZE,
        first_stage=FirstStage(c=sign * opening),
        recourse=Recourse(
            q=sign * q,
            W=rows,
            T=np.vstack([-capacity * np.eye(3), np.zeros((2, 3))]),
            row_lower=np.array([-np.inf] * 3 + [5.0, 4.0]),
            row_upper=np.array([0.0] * 3 + [np.inf, np.inf]),
            h_xi=np.vstack([np.zeros((3, 2)), np.diag([3.0, 4.0])]),
        ),
        uncertainty=uncertainty or BudgetSet(2, 1.0),
    )


INSTANCES = {
    "knapsack": TwoStageKnapsack.generate(5, seed=3, distribution="WC", budget_factor=0.3),
    "strong": TwoStageKnapsack.generate(5, seed=4, distribution="SC", budget_factor=0.15),
    "loans": CapitalBudgetingLoans.generate(4, seed=1),
    "sites": sites(),
    "listed": sites(uncertainty=FiniteScenarios(np.array([[0.0, 0.0], [1.0, 0.2], [0.3, 0.9]]))),
}
BUDGETING = CapitalBudgeting.generate(5, seed=2)


@functools.cache
def enumeration(name):
    """First stages [k, p] and what they are worth in the worst case [k], maximised."""
    problem = (BUDGETING if name == "budgeting" else INSTANCES[name]).two_stage
    every = np.array(list(itertools.product([0.0, 1.0], repeat=problem.n)))
    every = every[feasible_rows(problem, every)]
    return every, np.array([problem.worst_case(x).value for x in every])


def best(name):
    """The optimum, in the instance's own direction."""
    return INSTANCES[name].two_stage.sign * enumeration(name)[1].max()


def search_of(instance, iterations=None, time_limit=None):
    """What a method works on."""
    tracker = Tracker(instance, Budget(time_limit, iterations), solver="test")
    return Search(tracker, instance.two_stage, HighsEngine, 0)


# ------------------------------------------------------------------------------- exact


@pytest.mark.parametrize("name", INSTANCES)
@pytest.mark.parametrize("solver", [CCG(), CCG(relaxed=False), CCG(backend="scip"), TwoStage()])
def test_exact_methods_find_what_enumeration_finds(name, solver):
    instance = INSTANCES[name]
    result = solver.solve(instance, Budget(600))
    assert result.status is Status.OPTIMAL
    assert result.stopped is Stop.PROVED
    assert result.evaluation == "exact"
    assert result.objective == pytest.approx(best(name), rel=1e-6)
    assert result.bound == pytest.approx(best(name), rel=1e-6)


@pytest.mark.parametrize("name", INSTANCES)
@pytest.mark.parametrize("method", METHODS)
def test_no_bound_and_no_value_is_beyond_the_optimum(name, method):
    instance, solver = INSTANCES[name], method()
    if solver.supports(instance):
        pytest.skip(solver.supports(instance))
    result = solver.solve(instance, Budget(600, iterations=3))
    sign, hair = instance.two_stage.sign, 1e-6 * max(1.0, abs(best(name)))
    assert sign * result.objective <= sign * best(name) + hair
    if result.bound is not None:
        assert sign * result.bound >= sign * best(name) - hair
    # What is claimed is the exact worst case of the first stage that is returned.
    found = instance.two_stage.worst_case(result.solution["x"])
    assert result.objective == pytest.approx(sign * found.value, rel=1e-6)
    assert result.solver == solver.name


def test_bounds_never_get_worse_and_iterations_are_logged():
    result = CCG(relaxed=False).solve(INSTANCES["knapsack"], Budget(600))
    rows = result.extra["iterations"]
    bounds = [row["bound"] for row in rows]
    assert len(rows) > 1
    assert bounds == sorted(bounds, reverse=True)
    values = [row["objective"] for row in rows]
    assert values == sorted(values)
    assert set(result.extra["seconds"]) == {"master", "adversary"}


def test_generation_ends_where_masters_find_nothing(monkeypatch):
    """Masters that end without a first stage, a bound or a scenario were built again for ever."""
    search, asked = search_of(INSTANCES["knapsack"]), []

    def solve(master, budget, *, gap, **options):
        asked.append(gap)
        assert len(asked) < 50
        return

    monkeypatch.setattr(search, "solve", solve)
    assert ccg.generate(search) is None
    assert asked


def test_a_master_that_ran_out_of_time_without_a_first_stage_gets_more(monkeypatch):
    search, shares = search_of(INSTANCES["knapsack"], iterations=3), []
    monkeypatch.setattr(
        search.budget, "share", lambda part: shares.append(part) or Budget(time_limit=1e-9)
    )
    monkeypatch.setattr(search, "solve", lambda *args, **options: None)
    assert ccg.generate(search) is Stop.ITERATIONS
    assert shares == [0.5, ccg.LONG, ccg.LONG]


@pytest.mark.parametrize("name", ["knapsack", "loans"])
def test_masters_have_only_scenarios_that_bind(name, monkeypatch):
    """What a local search met made masters so large that they did not end."""
    instance = INSTANCES[name]
    search = search_of(instance)
    rng = np.random.default_rng(5)
    for xi in instance.two_stage.uncertainty.sample(100, rng):
        search.keep(xi)
    real, sizes = masters.scenario_master, []

    def scenario_master(problem, scenarios, **options):
        sizes.append(len(scenarios))
        return real(problem, scenarios, **options)

    monkeypatch.setattr(ccg, "scenario_master", scenario_master)
    assert ccg.generate(search) is Stop.PROVED
    assert search.value == pytest.approx(enumeration(name)[1].max(), rel=1e-6)
    # At most two for each master, and the worst one of doing nothing.
    assert all(size <= 2 * k + 1 for k, size in enumerate(sizes))
    assert max(sizes) < 20


def test_scenarios_of_slow_second_stages_are_all_in_masters():
    search = search_of(INSTANCES["listed"])
    for xi in INSTANCES["listed"].uncertainty.points:
        assert search.keep(xi)
    assert search.choose(search.nothing())
    assert len(search.chosen) == 3
    assert not search.choose(search.nothing())


def test_a_scenario_without_recourse_is_the_worst():
    problem = CapitalBudgeting.generate(4, seed=0).two_stage
    search = search_of(problem)
    for xi in (-np.ones(4), np.ones(4), np.zeros(4)):
        search.keep(xi)
    # All at once are affordable only where costs are low.
    assert search.choose(np.ones(4))
    (xi,) = search.chosen
    assert np.isnan(problem.recourse_at(np.ones(4), xi)[0]).all()


def test_a_master_that_tells_nothing_is_given_more_time(monkeypatch):
    now, shares = [0.0], []
    monkeypatch.setattr("nco.instances.core.time", SimpleNamespace(monotonic=lambda: now[0]))
    search = search_of(INSTANCES["knapsack"], time_limit=100.0)
    search.trivial()

    def solve(master, budget, **_):
        shares.append(budget.left() / search.budget.left())
        now[0] += budget.left()
        return search.best.x

    monkeypatch.setattr(search, "solve", solve)
    assert ccg.generate(search, iterations=4) is None
    assert shares == pytest.approx([0.5, ccg.LONG, ccg.LONG, ccg.LONG])


def test_the_same_problem_minimised_and_maximised():
    cost = CCG().solve(sites(), Budget(600))
    profit = CCG().solve(sites(sign=-1.0), Budget(600))
    assert cost.solution["x"] == profit.solution["x"]
    assert cost.objective == pytest.approx(-profit.objective)
    assert cost.bound == pytest.approx(-profit.bound)


# ----------------------------------------------------------------------------- masters


@pytest.mark.parametrize("name", ["knapsack", "loans", "sites", "budgeting"])
def test_the_scenario_master_is_what_enumeration_gives(name, optimum_of):
    problem = (BUDGETING if name == "budgeting" else INSTANCES[name]).two_stage
    scenarios = problem.uncertainty.sample(3, np.random.default_rng(0))
    every, _ = enumeration(name)
    values, _ = problem.recourse_at(every, scenarios)
    expected = (every @ problem.first.c + values.min(1)).max()
    value, x = optimum_of(masters.scenario_master(problem, scenarios))
    assert value == pytest.approx(expected, rel=1e-5)
    assert feasible_rows(problem, x[None])[0]


@pytest.mark.parametrize("name", ["knapsack", "strong", "loans"])
def test_relaxed_and_adaptable_masters_enclose_the_optimum(name, optimum_of):
    problem = INSTANCES[name].two_stage
    exact = enumeration(name)[1].max()
    above, _ = optimum_of(masters.relaxed_master(problem))
    one, _ = optimum_of(masters.static_master(problem))
    two, x = optimum_of(masters.adaptable_master(problem, 2))
    assert one <= two + 1e-6
    assert two <= problem.worst_case(x).value + 1e-5
    assert two <= exact + 1e-5
    assert above >= exact - 1e-5
    same, _ = optimum_of(masters.adaptable_master(problem, 1))
    assert same == pytest.approx(one, rel=1e-6)


def test_the_static_master_of_uncertain_rows_is_what_enumeration_gives(optimum_of):
    problem = BUDGETING.two_stage
    choices = np.array(list(itertools.product(range(3), repeat=5)))
    x, y = (choices == 1).astype(float), (choices == 2).astype(float)
    # No spending is negative, so that one corner is dearest.
    cost, _ = BUDGETING.factors(np.ones((1, 4)))
    good = ((x + y) @ cost[0] <= BUDGETING.budget) & feasible_rows(problem, x)
    worth = [
        problem.uncertainty.worst_case(problem.affine.linear(a, b)[0])[1]
        + problem.affine.linear(a, b)[1]
        for a, b in zip(x[good], y[good], strict=True)
    ]
    value, _ = optimum_of(masters.static_master(problem))
    assert value == pytest.approx(max(worth), rel=1e-6)


@pytest.mark.parametrize("name", ["loans", "budgeting"])
def test_the_tree_of_recourses_lies_between_one_and_all(name, optimum_of):
    instance = BUDGETING if name == "budgeting" else INSTANCES[name]
    problem = instance.two_stage
    certain, _ = optimum_of(masters.static_master(problem))
    one, two = (adapt(search_of(instance), count, "tree") for count in (1, 2))
    assert one == pytest.approx(certain, rel=1e-4)
    assert one <= two + 1e-5 * abs(one)
    assert two <= enumeration(name)[1].max() + 1e-4 * abs(one)
    if name == "loans":
        same, _ = optimum_of(masters.adaptable_master(problem, 2))
        assert two == pytest.approx(same, rel=1e-4)


def test_the_tree_of_one_continuous_recourse_is_static(optimum_of):
    problem = INSTANCES["sites"]
    certain, x = optimum_of(masters.static_master(problem))
    search = search_of(problem, 30)
    assert adapt(search, 1, "tree") == pytest.approx(certain, rel=1e-5)
    # Two may need a tree without end; full recourse is at least as good.
    adapt(search, 2, "tree")
    assert search.value >= problem.worst_case(x).value - 1e-6


def test_the_reformulation_is_exact_for_continuous_recourse():
    instance = INSTANCES["loans"].two_stage
    relaxed = TwoStageProblem(
        first_stage=instance.first_stage,
        recourse=Recourse(**{
            **{f: getattr(instance.recourse, f) for f in instance.recourse.__dataclass_fields__},
            "whole": np.zeros(5, dtype=bool),
        }),
        uncertainty=instance.uncertainty,
    )  # fmt: skip
    result = Reformulation().solve(relaxed, Budget(600))
    every = np.array(list(itertools.product([0.0, 1.0], repeat=5)))
    every = every[feasible_rows(relaxed, every)]
    expected = max(relaxed.worst_case(x).value for x in every)
    assert result.status is Status.OPTIMAL
    assert result.objective == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", INSTANCES)
def test_chance_as_adversary_draws_one_scenario_after_another(name):
    optimum = enumeration(name)[1].max()
    few, many = (
        Scenario(grow=True).solve(INSTANCES[name], Budget(600, iterations=k), seed=1)
        for k in (1, 12)
    )
    sign = INSTANCES[name].two_stage.sign
    assert sign * few.objective <= sign * many.objective + 1e-9
    assert sign * many.objective <= optimum + 1e-6
    assert sign * many.bound >= optimum - 1e-6
    assert many.stopped is Stop.PROVED or len(many.extra["iterations"]) == 12


# --------------------------------------------------------------------------- branching


@pytest.mark.parametrize("name", ["knapsack", "strong"])
def test_cuts_hold_for_all_recourses_and_close_the_relaxed_one(name):
    problem, rng = INSTANCES[name].two_stage, np.random.default_rng(0)
    affine = problem.affine
    every = np.array(list(itertools.product((0.0, 1.0), repeat=len(affine.q))))
    both = every @ np.asarray(affine.W.toarray()).T
    allowed = every[(both <= affine.row_upper - affine.T @ np.ones(problem.n) + 1e-9).all(1)]
    for xi in problem.uncertainty.sample(20, rng):
        x = (rng.random(problem.n) < 0.6).astype(float)
        x[rng.integers(problem.n)] = 1.0
        row, limit = problem.cutter(x, xi)
        assert limit > 0.0
        assert (allowed @ row).max() <= limit * (1.0 + 1e-9)
        # The best relaxed recourse of x under the cut is worth no more than the best whole one.
        stage = problem.stage(xi)
        model = Model()
        y = model.add_columns(len(stage.q), stage.lower, stage.upper, cost=stage.q)
        model.add_rows(stage.W, y, stage.row_lower, stage.row_upper - stage.T @ x)
        relaxed = HighsEngine(Form(model.mip())).solve(Limits())
        model.add_rows(row[None], y, -np.inf, limit)
        cut = HighsEngine(Form(model.mip())).solve(Limits())
        value = problem.recourse_at(x, xi)[0][0, 0]
        assert -relaxed.objective >= value - 1e-6
        assert -cut.objective == pytest.approx(value, rel=1e-6)


def test_nothing_to_produce_gives_no_cut():
    problem = INSTANCES["knapsack"].two_stage
    assert problem.cutter(np.zeros(problem.n), np.zeros(problem.n)) is None


@pytest.mark.parametrize("name", ["knapsack", "strong"])
def test_branching_proves_the_optimum(name):
    search = search_of(INSTANCES[name])
    branching.begin(search)
    assert search.value <= enumeration(name)[1].max() <= search.bound
    assert branching.branch(search, search.budget)
    assert search.closed
    assert search.value == pytest.approx(enumeration(name)[1].max(), rel=1e-6)
    assert search.bound == pytest.approx(search.value, rel=1e-5)


@pytest.mark.parametrize("distribution", ["UN", "WC", "ASC", "SC"])
def test_branching_agrees_with_generation(distribution):
    instance = TwoStageKnapsack.generate(
        8, seed=5, distribution=distribution, budget_factor=0.15, delta=1.0
    )
    expected = CCG().solve(instance, Budget(600))
    assert expected.status is Status.OPTIMAL
    found = TwoStage().solve(instance, Budget(600))
    assert found.status is Status.OPTIMAL
    assert found.objective == pytest.approx(expected.objective, rel=2e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.7, 5.0])
def test_branching_takes_any_budget(gamma):
    instance = TwoStageKnapsack.generate(5, seed=8, distribution="ASC").replace(gamma=gamma)
    search = search_of(instance)
    assert branching.branch(search, search.budget)
    every = [np.array(x, dtype=float) for x in itertools.product((0, 1), repeat=5)]
    best = max(instance.two_stage.worst_case(x).value for x in every)
    assert search.value == pytest.approx(best, rel=1e-6)


@functools.cache
def orders_and_their_optimum():
    instance = TwoStageKnapsack.generate(12, seed=6, distribution="SC", budget_factor=0.2)
    known = TwoStage().solve(instance, Budget(600))
    assert known.status is Status.OPTIMAL
    return instance, known


def test_an_ended_tree_has_a_valid_bound():
    instance, known = orders_and_their_optimum()
    search = search_of(instance)
    search.trivial()
    search.budget.interrupt()
    branching.begin(search)
    assert not branching.branch(search, search.budget)
    assert math.isfinite(search.bound)
    assert search.bound >= known.objective


@pytest.mark.parametrize("calls", [1, 3, 10, 40])
def test_a_tree_that_ends_anywhere_has_a_valid_bound(calls, monkeypatch):
    instance, known = orders_and_their_optimum()
    search = search_of(instance)
    search.trivial()
    solve, count = branching._Relaxation.solve, itertools.count(1)

    def interrupting(self, *bounds):
        if next(count) == calls:
            search.budget.interrupt()
        return solve(self, *bounds)

    monkeypatch.setattr(branching._Relaxation, "solve", interrupting)
    branching.branch(search, search.budget)
    assert search.bound >= known.objective * (1 - 1e-9)
    assert search.value <= known.objective * (1 + 1e-6)


def test_other_problems_are_not_branched_upon():
    assert branching.suits(INSTANCES["knapsack"].two_stage)
    assert not branching.suits(sites())
    assert not branching.suits(BUDGETING.two_stage)


# -------------------------------------------------------------------- uncertain rows


@pytest.mark.parametrize("method", [CCG, TwoStage, KAdaptability, Static, Nominal, Scenario])
def test_capital_budgeting_has_a_sampled_value_and_a_bound_above_certain_ones(method, optimum_of):
    result = method().solve(BUDGETING, Budget(600, iterations=6))
    _, values = enumeration("budgeting")
    assert result.evaluation == "sampled:strong-v1"
    assert result.status is Status.FEASIBLE
    assert result.stopped is not Stop.PROVED
    assert result.objective <= values.max() + 1e-6
    # What one recourse guarantees is below the optimum, whatever the list of scenarios.
    certain, _ = optimum_of(masters.static_master(BUDGETING.two_stage))
    assert result.objective >= 0.0
    if result.bound is not None:
        assert result.bound >= certain - 1e-6
        assert result.objective <= result.bound + 1e-6
    if method in (CCG, TwoStage):
        assert result.objective >= certain - 1e-6
        assert result.bound is not None


# ------------------------------------------------------------- infeasible and unbounded


@pytest.mark.parametrize("method", [CCG, TwoStage, Nominal, Scenario])
def test_an_infeasible_first_stage_is_a_status(method):
    first = FirstStage(c=np.ones(2), A=np.ones((1, 2)), row_lower=np.array([3.0]))
    recourse = Recourse(q=np.ones(1), W=np.ones((1, 1)), T=np.zeros((1, 2)),
                        row_upper=np.ones(1))  # fmt: skip
    problem = TwoStageProblem(
        first_stage=first, recourse=recourse, uncertainty=Box(np.zeros(1), np.ones(1))
    )
    result = method().solve(problem, Budget(20))
    assert result.status is Status.INFEASIBLE
    assert result.solution is None


def test_first_stages_without_recourse_in_some_scenario_are_avoided():
    problem = sites(shortage=False, capacity=6.0)
    every = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
    worth = []
    for x in every:
        try:
            worth.append(problem.worst_case(x).value)
        except InfeasibleRecourseError:
            worth.append(-math.inf)
    assert min(worth) == -math.inf
    result = CCG().solve(problem, Budget(600))
    assert result.status is Status.OPTIMAL
    assert result.objective == pytest.approx(-max(worth), rel=1e-6)


@pytest.mark.parametrize("method", [CCG, TwoStage])
def test_no_recourse_at_all_is_infeasible(method):
    problem = sites(shortage=False, capacity=2.0)
    result = method().solve(problem, Budget(20))
    assert result.status is Status.INFEASIBLE
    assert result.stopped is Stop.PROVED


def test_a_baseline_names_the_scenario_that_has_no_recourse():
    # The nominal scenario can be served by two sites, the others by three.
    problem = sites(shortage=False, capacity=4.5)
    with pytest.raises(
        InfeasibleRecourseError, match=r"of the first stage \(.*\) is infeasible in scenario \("
    ):
        Nominal().solve(problem, Budget(20))


@pytest.mark.parametrize("method", [CCG, TwoStage, Nominal])
def test_an_unbounded_problem_is_refused(method):
    problem = TwoStageProblem(
        first_stage=FirstStage(c=np.ones(1)),
        recourse=Recourse(q=np.ones(1), W=-np.ones((1, 1)), T=np.zeros((1, 1)),
                          row_upper=np.zeros(1)),
        uncertainty=Box(np.zeros(1), np.ones(1)),
    )  # fmt: skip
    with pytest.raises(UnboundedRecourseError, match="unbounded"):
        method().solve(problem, Budget(20))


# ------------------------------------------------------------------------------ limits


@pytest.mark.parametrize("method", METHODS)
def test_without_time_there_is_a_feasible_first_stage_with_an_interval(method):
    instance = TwoStageKnapsack.generate(12, seed=5, distribution="ASC")
    result = method().solve(instance, Budget(0.0))
    assert result.stopped is Stop.TIME
    assert result.evaluation in ("interval", "exact")
    exact = instance.two_stage.worst_case(result.solution["x"]).value
    assert result.objective <= exact + 1e-6
    if result.evaluation == "interval":
        assert result.solution["policies"]


def test_an_interval_is_what_its_policies_guarantee():
    instance = TwoStageKnapsack.generate(12, seed=5, distribution="ASC")
    problem = instance.two_stage
    x, rng = np.ones(12), np.random.default_rng(0)
    scenarios = problem.uncertainty.sample(2, rng)
    found = problem.worst_case(x, Budget(0.0), scenarios)
    assert not found.exact
    solution = problem.solution(found)
    exact = problem.worst_case(x)
    assert found.guaranteed <= exact.value + 1e-6
    assert found.value >= exact.value - 1e-6
    assert instance.objective(solution) <= exact.value + 1e-6
    assert instance.evaluation(solution) == "interval"
    assert instance.violations(solution) == []


@pytest.mark.parametrize("xi", [np.zeros(4), -np.ones(4), np.array([0.3, -1.0, 0.8, 0.1])])
def test_screening_tells_which_first_stages_have_recourses_above_a_value(xi):
    problem, rng = CapitalBudgeting.generate(9, seed=6).two_stage, np.random.default_rng(1)
    x = (rng.random((60, 9)) < 0.4).astype(float)
    values = problem.recourse_at(x, xi)[0][:, 0]
    least = np.nanmedian(values) + rng.normal(size=60) * np.nanstd(values)
    found = problem.screen(x, xi, least)
    assert (np.isnan(found) == np.isnan(values)).all()
    above, below = values > least + 1e-5, values < least - 1e-5
    assert above.any()
    assert below.any()
    assert (found[above] > least[above]).all()
    assert (found[above] <= values[above] * (1 + 1e-5)).all()
    assert found[below] == pytest.approx(least[below])


@pytest.mark.parametrize("looks", [0, 1, 30, 101, 110])
def test_capital_budgeting_out_of_time_has_an_interval(looks, monkeypatch):
    instance = CapitalBudgeting.generate(12, seed=4)
    problem, x = instance.two_stage, np.zeros(12)
    x[:3] = 1.0
    full = problem.worst_case(x)
    assert full.sampled == "strong-v1"
    problem._known.clear()
    budget, count = Budget(), itertools.count(1)
    monkeypatch.setattr(budget, "done", lambda *a, **k: Stop.TIME if next(count) > looks else None)
    found = problem.worst_case(x, budget)
    assert not found.sampled
    assert not found.exact
    assert found.guaranteed <= full.value <= found.value
    assert found.guaranteed > 0.0
    solution = problem.solution(found)
    assert instance.evaluation(solution) == "interval"
    assert instance.objective(solution) == pytest.approx(found.guaranteed)
    assert instance.violations(solution) == []
    # A budget that lasts changes nothing.
    assert problem.worst_case(x, Budget(600)).value == full.value


@pytest.mark.parametrize("method", [CCG, TwoStage])
def test_doing_nothing_takes_a_share_of_the_time(method, monkeypatch):
    asked, real = [], TwoStageProblem.worst_case

    def worst_case(self, x, budget=None, hints=None):
        if budget is not None:
            asked.append(budget.time_limit)
        return real(self, x, budget, hints)

    monkeypatch.setattr(TwoStageProblem, "worst_case", worst_case)
    method().solve(CapitalBudgeting.generate(6, seed=4), Budget(20, iterations=1))
    assert asked[0] <= 2.0
    assert max(asked[1:]) > 2.0


def test_linear_recourses_with_uncertain_limits_are_left_to_generation():
    """What local search meets made masters of facility location too large to end."""
    sites = FacilityLocation.generate(5, seed=1)
    found, expected = TwoStage().solve(sites, Budget(600)), CCG().solve(sites, Budget(600))
    assert found.status is expected.status is Status.OPTIMAL
    assert [row["by"] for row in found.extra["iterations"]] == ["ccg"] * len(
        expected.extra["iterations"]
    )
    assert found.extra["scenarios"] == expected.extra["scenarios"]


def test_without_time_capital_budgeting_has_an_interval():
    instance = CapitalBudgeting.generate(12, seed=4)
    result = TwoStage().solve(instance, Budget(0.0))
    assert result.evaluation == "interval"
    assert result.stopped is Stop.TIME
    assert result.objective <= instance.two_stage.worst_case(result.solution["x"]).value


@pytest.mark.parametrize("method", [CCG, TwoStage])
def test_ctrl_c_returns_the_best_so_far(method):
    instance = TwoStageKnapsack.generate(25, seed=1, distribution="WC")
    result = solve_and_interrupt(method(), instance)
    assert result.stopped is Stop.INTERRUPTED
    assert result.solution is not None
    assert instance.violations(result.solution) == []


def solve_and_interrupt(solver, instance):
    """Send SIGINT at the first solution."""
    sent = []

    def interrupt(event):
        if not sent:
            sent.append(event)
            signal.raise_signal(signal.SIGINT)

    return solver.solve(instance, Budget(120), on_event=interrupt)


@pytest.mark.parametrize("method", [CCG, Scenario, KAdaptability])
def test_seeds_repeat_runs(method):
    instance = TwoStageKnapsack.generate(6, seed=2, distribution="WC", budget_factor=0.2)
    once, again = (method().solve(instance, Budget(600, iterations=3), seed=7) for _ in range(2))
    assert once.solution == again.solution
    assert once.objective == again.objective
    assert once.bound == again.bound


@pytest.mark.parametrize("method", [CCG, TwoStage])
def test_a_start_is_never_lost(method):
    name = "knapsack"
    every, values = enumeration(name)
    problem = INSTANCES[name].two_stage
    found = problem.worst_case(every[int(np.argmax(values))])
    result = method().solve(
        INSTANCES[name], Budget(600, iterations=1), start=problem.solution(found)
    )
    assert result.objective == pytest.approx(best(name), rel=1e-6)


# -------------------------------------------------------------------------- single parts


def test_named_scenarios_lie_in_the_middle():
    assert even_scenario(BudgetSet(4, 1.0)) == pytest.approx(np.full(4, 0.25))
    assert nominal_scenario(BudgetSet(4, 1.0)) == pytest.approx(np.zeros(4))
    assert even_scenario(Box(-np.ones(2), np.ones(2))) == pytest.approx(np.ones(2))
    ellipsoid = Ellipsoid(np.array([2.0, 3.0]), np.eye(2))
    assert nominal_scenario(ellipsoid) == pytest.approx([2.0, 3.0])


def test_neighbors_are_flips_and_swaps():
    x = np.array([1.0, 0, 0, 1])
    around = local_search.neighbors(x, np.random.default_rng(0))
    apart = np.abs(around - x).sum(1)
    assert sorted(apart.tolist()) == [1.0] * 4 + [2.0] * 4
    assert len(np.unique(around, axis=0)) == 8


def test_local_search_needs_binaries_and_fast_second_stages():
    assert local_search.suits(INSTANCES["knapsack"].two_stage)
    assert not local_search.suits(INSTANCES["sites"].two_stage)


def test_the_reformulation_needs_certain_rows():
    reason = Reformulation().supports(BUDGETING)
    assert "second-stage rows depend" in reason
    with pytest.raises(UnsupportedError, match="second-stage rows depend"):
        Reformulation().solve(BUDGETING, Budget(5))


def test_the_reformulation_needs_a_polyhedron():
    ball = Ellipsoid(np.zeros(4), np.eye(4))
    loans = INSTANCES["loans"].two_stage
    problem = TwoStageProblem(
        first_stage=loans.first_stage, recourse=loans.recourse, uncertainty=ball
    )
    assert "no polyhedron" in Reformulation().supports(problem)
    # Generation does without its rows.
    result = CCG().solve(problem, Budget(600))
    every = np.array(list(itertools.product([0.0, 1.0], repeat=5)))
    every = every[feasible_rows(problem, every)]
    expected = max(problem.worst_case(x).value for x in every)
    assert result.objective == pytest.approx(expected, rel=1e-5)
    assert result.bound >= expected - 1e-5 * abs(expected)


def test_other_problems_are_not_supported():
    assert "not a two-stage problem" in CCG().supports(Knapsack.generate(5, seed=0))


@pytest.mark.parametrize("make", [
    lambda: KAdaptability(count=0), lambda: Scenario(scenarios=0), lambda: CCG(scenarios=1),
])  # fmt: skip
def test_parameters_are_checked(make):
    with pytest.raises(ValueError, match="not understood"):
        make()


def test_unknown_parameters_are_named():
    with pytest.raises(InputError, match="depth"):
        nco.solve(INSTANCES["knapsack"], "ccg", time_limit=1, depth=3)


@pytest.mark.parametrize("method", METHODS)
def test_the_registry_has_every_method(method):
    assert solvers.load(method.name) is method


def test_auto_takes_them_by_itself():
    result = nco.solve(INSTANCES["loans"], time_limit=600)
    assert result.status is Status.OPTIMAL
    assert result.extra["plan"] == TwoStage.name
