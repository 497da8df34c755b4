"""Routing solvers on every problem with a routing form, against brute force and each other."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nco.classical import prize_search
from nco.classical.insertion import insert_routes, insertion
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
SEARCHES = ["pyvrp", "ortools", "ruin-recreate", "prize-tour"]
NAMES = [*SEARCHES, "insertion"]
#: What is refused: the longest route, tours of all customers.
REFUSED = {("pyvrp", "mtsp"), *(("prize-tour", p) for p in ("tsp", "cvrp", "ovrp", "mtsp"))}


def make(name):
    entry = solvers.entry(name)
    if not entry.installed:
        pytest.skip(f"{entry.requires} is not installed")
    return entry.load()()


@pytest.fixture(scope="module", autouse=True)
def kernels():
    """Compiling, or loading what is compiled, would use up short time limits."""
    for name in ("ruin-recreate", "prize-tour"):
        # Of op, a start that visits all is known to be optimal: nothing is compiled for it.
        solvers.load(name)().solve(tiny("pctsp", 5, 1), Budget(iterations=1))


def pairs(names):
    """Solvers and problems that they support."""
    return [(name, problem) for name in names for problem in TINY if (name, problem) not in REFUSED]


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


@pytest.mark.parametrize("name", SEARCHES)
def test_plans_for_expected_prizes(name, optimum):
    """What shows at a visit is planned for as expected, and the plan followed once."""
    instance = problems.load("spctsp").generate(6, seed=2)
    found = make(name).solve(instance, Budget(0.7), seed=1)
    assert found.extra["expected"] == pytest.approx(optimum(instance.public()), rel=0.02)
    assert [event.by for event in found.trajectory] == ["plan"]
    start = make("insertion").solve(instance, Budget(1.0)).solution
    again = make(name).solve(instance, Budget(0.3), start=start)
    assert again.objective == min(found.objective, instance.objective(start))


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


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        *(("ruin-recreate", p) for p in [*TINY, "spctsp"]),
        *(("prize-tour", p) for p in ("op", "pctsp", "spctsp")),
    ],
)
def test_own_searches_repeat_and_stop(name, problem):
    """Same seed, same trajectory under an iteration limit, which is kept."""
    instance = problems.load(problem).generate(25, seed=2)
    runs = [make(name).solve(instance, Budget(iterations=1500), seed=9) for _ in "ab"]
    assert runs[0].solution == runs[1].solution
    assert [e.objective for e in runs[0].trajectory] == [e.objective for e in runs[1].trajectory]
    assert runs[0].stopped is Stop.ITERATIONS


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        *(("ruin-recreate", p) for p in [*TINY, "spctsp"]),
        *(("prize-tour", p) for p in ("op", "pctsp", "spctsp")),
    ],
)
def test_own_searches_improve_on_insertion(name, problem):
    instance = problems.load(problem).generate(60, seed=2)
    first = make("insertion").solve(instance, Budget(5.0))
    last = make(name).solve(instance, Budget(iterations=5000), seed=1)
    assert better(last.objective, first.objective, instance.sense)


@pytest.mark.parametrize(
    ("problem", "names"),
    [
        ("ovrp", ["pyvrp", "ortools", "ruin-recreate"]),
        ("pctsp", SEARCHES),
        ("mtsp", ["ortools", "ruin-recreate"]),
        # OR-tools is behind on prizes: its moves shorten legs, and its guide knows legs only.
        ("op", ["pyvrp", "ruin-recreate", "prize-tour"]),
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
    for name in ("pyvrp", "ortools", "ruin-recreate"):
        assert make(name).solve(instance, Budget(1.0)).status is Status.INFEASIBLE


@pytest.mark.parametrize(("name", "problem"), pairs(NAMES))
@pytest.mark.parametrize("limit", [0.0, 0.02])
def test_time_limits_too_short_for_anything(name, problem, limit):
    """Something feasible all the same."""
    instance = problems.load(problem).generate(300, seed=1)
    result = make(name).solve(instance, Budget(limit))
    assert result.feasible
    assert result.stopped in (Stop.TIME, Stop.FINISHED)


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_that_reaches_no_customer(name):
    """Only the depot's prize; no customer is near enough."""
    instance = tiny("op", 8, 1).replace(max_length=1e-6)
    result = make(name).solve(instance, Budget(0.3))
    assert result.solution == []
    assert result.objective == instance.prizes[0]


@pytest.mark.parametrize("name", NAMES)
def test_prizes_that_are_all_needed(name):
    instance = tiny("pctsp", 8, 1)
    instance = instance.replace(min_prize=float(instance.prizes.sum()))
    result = make(name).solve(instance, Budget(0.5))
    assert sorted(result.solution) == list(range(1, 9))


@pytest.mark.parametrize("name", NAMES)
def test_penalties_that_forbid_and_prizes_that_are_none(name):
    """Nothing to collect and nothing to pay: nobody is visited, or everybody."""
    instance = tiny("pctsp", 8, 1).replace(min_prize=0.0, prizes=np.zeros(9))
    free = instance.replace(penalties=np.zeros(9))
    assert make(name).solve(free, Budget(0.3)).objective == pytest.approx(0.0)
    dear = instance.replace(penalties=np.r_[0.0, np.full(8, 1e6)])
    assert len(make(name).solve(dear, Budget(0.5)).solution) == 8


@pytest.mark.parametrize("name", ["ruin-recreate", "prize-tour"])
def test_compilation_that_takes_too_long(name, monkeypatch, caplog):
    """The constructive solution is returned, while the compiler goes on."""
    release = threading.Event()
    module = "ruin_search" if name == "ruin-recreate" else "prize_search"
    monkeypatch.setattr(f"nco.classical.{module}.compile_kernels", release.wait)
    try:
        result = make(name).solve(tiny("op", 20, 1), Budget(0.5))
    finally:
        release.set()
    assert result.feasible
    assert result.stopped is Stop.TIME
    assert "before its code is loaded" in caplog.text


@given(st.integers(2, 12), st.integers(0, 10**6), st.booleans())
def test_prize_tour_is_what_it_says(n, seed, prize):
    """Its own sums are the objective, after every number of iterations."""
    instance = tiny("op" if prize else "pctsp", n, seed)
    view = instance.to_routing()
    (visits,) = insert_routes(view) or [[]]
    search = prize_search.Search(view, visits, seed)
    for _ in range(3):
        cost = search.run(20, 0.3)
        found = search.visits
        assert instance.violations(found) == []
        value = instance.prizes.sum() - cost if prize else cost
        assert instance.objective(found) == pytest.approx(value)


def test_published_orienteering(shared_data):
    from nco.instances.io import read

    for file, published in (("st70-gen3-50", 2108), ("berlin52-gen1-50", 37)):
        instance = read(shared_data / "routing" / "op" / f"{file}.oplib")
        result = make("prize-tour").solve(instance, Budget(iterations=20_000), seed=1)
        assert result.objective >= published


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


@pytest.mark.parametrize("problem", ["cvrp", "pctsp", "mtsp"])
def test_insertion_has_no_iterations(problem):
    instance = problems.load(problem).generate(30, seed=1)
    assert insertion(instance, Budget(iterations=0)) == insertion(instance)


@given(st.integers(1, 15), st.integers(0, 10**6))
def test_insertion_extends_given_routes(n, seed):
    instance = problems.load("cvrp").generate(n, seed=seed)
    routes = insert_routes(instance.to_routing(), [[1]])
    assert any(1 in route for route in routes)
    assert instance.violations(routes) == []
