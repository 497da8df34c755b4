"""Routing solvers on every problem with a routing form, against brute force and each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nco.classical.insertion import insert_routes
from nco.classical.views import enough_prize
from nco.instances.core import Budget, Status, Stop, better
from nco.instances.knapsack import Knapsack
from nco.instances.registry import problems, solvers

#: Problem -> options of a tiny instance that leaves something to decide.
TINY = {
    "tsp": {},
    "cvrp": {"capacity": 12},
    "ovrp": {"capacity": 12},
    "op": {"max_length": 1.7},
    "pctsp": {},
    "mtsp": {"salesmen": 2},
}
SEARCHES = ["pyvrp", "ortools", "ruin-recreate"]
NAMES = [*SEARCHES, "insertion"]


def make(name):
    entry = solvers.entry(name)
    if not entry.installed:
        pytest.skip(f"{entry.requires} is not installed")
    return entry.load()()


@pytest.fixture(scope="module", autouse=True)
def kernels():
    """Compiling, or loading what is compiled, would use up short time limits."""
    solvers.load("ruin-recreate")().solve(tiny("tsp", 5, 1), Budget(iterations=1))


def pairs(names):
    """Solvers and problems that they support."""
    return [
        (name, problem)
        for name in names
        for problem in TINY
        if (name, problem) != ("pyvrp", "mtsp")
    ]


def tiny(problem, n, seed, **options):
    return problems.load(problem).generate(n, seed=seed, **(TINY[problem] | options))


@pytest.mark.parametrize(("name", "problem"), pairs(SEARCHES))
def test_small_instances_are_solved(name, problem, optimum):
    """Five customers: the optimum, or next to it, and never beyond it."""
    if problem == "tsp":
        pytest.skip("see test_routing.py")
    for seed in (3, 4):
        instance = tiny(problem, 5, seed)
        best = optimum(instance)
        result = make(name).solve(instance, Budget(0.7), seed=1)
        assert result.objective == pytest.approx(best, rel=0.02)
        assert not better(result.objective, best - 1e-9, instance.sense) or result.objective == (
            pytest.approx(best)
        )


@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("name", SEARCHES)
def test_the_minimum_of_prize_binds(name, scale, optimum):
    """Low penalties: only the minimum keeps anyone on the tour."""
    instance = tiny("pctsp", 6, 1, penalty_scale=scale)
    result = make(name).solve(instance, Budget(1.0), seed=1)
    assert result.objective <= 1.05 * optimum(instance)


@pytest.mark.parametrize(("name", "problem"), pairs(NAMES))
@pytest.mark.parametrize("n", [1, 2, 3])
def test_tiny_sizes(name, problem, n):
    instance = tiny(problem, n, n)
    assert make(name).supports(instance) is None
    assert make(name).solve(instance, Budget(0.3)).feasible


@pytest.mark.parametrize(("name", "problem"), pairs(NAMES))
def test_equal_points(name, problem):
    """All nodes at one place: no division by lengths of zero."""
    instance = tiny(problem, 5, 1)
    instance = instance.replace(coords=np.zeros_like(instance.coords))
    result = make(name).solve(instance, Budget(0.5))
    expected = instance.prizes.sum() if problem == "op" else 0
    assert result.objective == pytest.approx(expected)


@pytest.mark.parametrize(("name", "problem"), pairs(NAMES))
def test_a_start_is_a_floor(name, problem):
    instance = tiny(problem, 12, 5)
    start = make("insertion").solve(instance, Budget(1.0)).solution
    result = make(name).solve(instance, Budget(iterations=5), start=start)
    assert not better(instance.objective(start), result.objective, instance.sense)
    assert result.trajectory[0].by == "start"


@pytest.mark.parametrize("problem", [*TINY, "spctsp"])
def test_ruin_recreate_repeats_and_stops(problem):
    """Same seed, same trajectory under an iteration limit, which is kept."""
    instance = problems.load(problem).generate(25, seed=2)
    runs = [make("ruin-recreate").solve(instance, Budget(iterations=1500), seed=9) for _ in "ab"]
    assert runs[0].solution == runs[1].solution
    assert [e.objective for e in runs[0].trajectory] == [e.objective for e in runs[1].trajectory]
    assert runs[0].stopped is Stop.ITERATIONS


@pytest.mark.parametrize("problem", [*TINY, "spctsp"])
def test_ruin_recreate_improves_on_insertion(problem):
    instance = problems.load(problem).generate(60, seed=2)
    first = make("insertion").solve(instance, Budget(5.0))
    last = make("ruin-recreate").solve(instance, Budget(iterations=5000), seed=1)
    assert better(last.objective, first.objective, instance.sense)


@pytest.mark.parametrize(
    ("problem", "names"),
    [
        ("ovrp", SEARCHES),
        ("pctsp", SEARCHES),
        ("mtsp", ["ortools", "ruin-recreate"]),
        # OR-tools is far behind on prizes: its search is guided by the cost of legs.
        ("op", ["pyvrp", "ruin-recreate"]),
    ],
)
def test_solvers_agree(problem, names):
    """Forty customers: unrelated searches within five per cent."""
    instance = problems.load(problem).generate(40, seed=6)
    found = [make(name).solve(instance, Budget(2.0), seed=1).objective for name in names]
    assert max(found) <= 1.05 * min(found)


@pytest.mark.parametrize("name", NAMES)
def test_interruption(name):
    instance = problems.load("op").generate(60, seed=1)
    budget = Budget(60.0)
    budget.interrupt()
    result = make(name).solve(instance, budget)
    assert result.feasible
    assert result.stopped is Stop.INTERRUPTED


@pytest.mark.parametrize("name", NAMES)
def test_refusals_name_the_problem(name):
    reason = make(name).supports(Knapsack(values=[1], weights=[1], capacity=1))
    assert "knapsack" in reason


def test_a_fleet_too_small_is_a_proof():
    instance = problems.load("ovrp").generate(9, seed=1, capacity=9).replace(vehicles=1)
    for name in SEARCHES:
        assert make(name).solve(instance, Budget(1.0)).status is Status.INFEASIBLE


@given(st.sampled_from([*TINY, "spctsp"]), st.integers(1, 30), st.integers(0, 10**6))
def test_insertion_is_feasible(problem, n, seed):
    instance = problems.load(problem).generate(n, seed=seed)
    result = make("insertion").solve(instance, Budget(5.0))
    assert result.feasible


@given(st.integers(2, 30), st.integers(0, 10**6))
def test_missing_prize_is_made_up(n, seed):
    """From any tour, the customers added suffice and no one is visited twice."""
    instance = problems.load("pctsp").generate(n, seed=seed)
    (route,) = enough_prize(instance.to_routing(), [[1]])
    assert instance.violations(route) == []
    assert route.count(1) == 1


@given(st.integers(1, 15), st.integers(0, 10**6))
def test_insertion_extends_given_routes(n, seed):
    instance = problems.load("cvrp").generate(n, seed=seed)
    routes = insert_routes(instance.to_routing(), [[1]])
    assert any(1 in route for route in routes)
    assert instance.violations(routes) == []
