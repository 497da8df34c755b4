"""The adapters to routing libraries, against brute force and each other."""

import itertools
import math
import threading

import numpy as np
import pytest

from nco.instances.atsp import ATSP
from nco.instances.core import Budget, Status, Stop
from nco.instances.cvrp import CVRP
from nco.instances.knapsack import Knapsack
from nco.instances.registry import solvers
from nco.instances.tsp import TSP

NAMES = ["fast-tsp", "lkh", "pyvrp", "hgs", "ortools", "or-opt"]


def make(name):
    entry = solvers.entry(name)
    if not entry.installed:
        pytest.skip(f"{entry.requires} is not installed")
    return entry.load()()


def tiny_tsp(n, seed, metric="exact"):
    rng = np.random.default_rng(seed)
    return TSP(coords=np.round(100 * rng.random((n, 2)), 2), metric=metric)


def tiny_cvrp(n, seed, **fields):
    rng = np.random.default_rng(seed)
    defaults = {"capacity": 10, "metric": "EUC_2D"}
    return CVRP(
        coords=rng.integers(0, 100, (n + 1, 2)),
        demands=np.r_[0, rng.integers(1, 6, n)],
        **(defaults | fields),
    )


def best_tour(instance):
    rest = range(1, instance.n)
    return min(instance.objective([0, *p]) for p in itertools.permutations(rest))


def best_routes(instance):
    """The cheapest partition of the customers into feasible routes."""
    customers = range(1, instance.n + 1)
    cost = {}
    for size in range(1, instance.n + 1):
        for subset in itertools.combinations(customers, size):
            if instance.demands[list(subset)].sum() <= instance.capacity:
                lengths = [
                    instance.route_length(list(p))
                    for p in itertools.permutations(subset)
                    if instance.max_distance is None
                    or instance.route_length(list(p)) + instance.service_time * size
                    <= instance.max_distance
                ]
                if lengths:
                    cost[frozenset(subset)] = min(lengths)
    best = {frozenset(): 0.0}
    for size in range(1, instance.n + 1):
        for subset in map(frozenset, itertools.combinations(customers, size)):
            first = min(subset)
            best[subset] = min(
                (
                    cost[part] + best[subset - part]
                    for part in cost
                    if first in part and part <= subset and subset - part in best
                ),
                default=math.inf,
            )
    return best[frozenset(customers)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("metric", ["exact", "EUC_2D"])
def test_small_tours_are_optimal(name, metric):
    """Every tour solver finds the optimum of seven nodes."""
    solver = make(name)
    instance = tiny_tsp(7, 3, metric)
    if solver.supports(instance):
        pytest.skip("not for tours")
    result = solver.solve(instance, Budget(1.5), seed=1)
    assert result.objective == pytest.approx(best_tour(instance), rel=1e-9)


@pytest.mark.parametrize("name", ["lkh", "pyvrp", "ortools", "or-opt"])
def test_asymmetric_tours(name):
    """Asymmetric matrices keep their direction."""
    solver = make(name)
    instance = ATSP.generate(7, seed=5, distribution="uniform")
    result = solver.solve(instance, Budget(1.5), seed=1)
    assert result.objective <= 1.05 * best_tour(instance)


@pytest.mark.parametrize("name", ["pyvrp", "hgs", "ortools"])
@pytest.mark.parametrize(
    "fields",
    [{}, {"max_distance": 260, "service_time": 5}, {"metric": "exact", "capacity": 12.5}],
    ids=["plain", "distance limit", "floats"],
)
def test_small_routes_are_near_optimal(name, fields):
    """Every route solver is at the optimum of six customers, or close."""
    solver = make(name)
    instance = tiny_cvrp(6, 11, **fields)
    result = solver.solve(instance, Budget(1.5), seed=1)
    assert result.feasible
    assert result.objective <= 1.02 * best_routes(instance) + 1e-9
    assert result.objective >= best_routes(instance) - 1e-6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_tiny_sizes(name, n):
    """The smallest instances are solved, not special."""
    solver = make(name)
    for instance in (tiny_tsp(n, n), tiny_cvrp(n, n)):
        if solver.supports(instance) is None:
            result = solver.solve(instance, Budget(1.0), seed=0)
            assert result.feasible


@pytest.mark.parametrize("name", NAMES)
def test_equal_points(name):
    """All nodes at one place: cost 0, and no division by it."""
    solver = make(name)
    tsp = TSP(coords=np.zeros((6, 2)))
    cvrp = CVRP(coords=np.zeros((6, 2)), demands=[0, 1, 1, 1, 1, 1], capacity=2)
    for instance in (tsp, cvrp):
        if solver.supports(instance) is None:
            assert solver.solve(instance, Budget(1.0)).objective == 0


@pytest.mark.parametrize("name", NAMES)
def test_supports_names_the_reason(name):
    """A knapsack is refused in words."""
    solver = make(name)
    reason = solver.supports(Knapsack(values=[1], weights=[1], capacity=1))
    assert reason is not None
    assert "knapsack" in reason


@pytest.mark.parametrize("name", ["fast-tsp", "hgs"])
def test_asymmetric_costs_are_refused(name):
    """Symmetric solvers say so."""
    solver = make(name)
    matrix = np.array([[0, 1, 2], [3, 0, 4], [5, 6, 0]])
    for instance in (
        TSP(matrix=matrix),
        CVRP(matrix=matrix, demands=[0, 1, 1], capacity=2),
    ):
        assert solver.supports(instance)


@pytest.mark.parametrize("name", ["pyvrp", "ortools", "or-opt"])
def test_never_worse_than_the_start(name):
    """A warm start is a floor."""
    solver = make(name)
    instance = tiny_tsp(9, 2)
    start = list(range(9))
    result = solver.solve(instance, Budget(None, iterations=3), seed=0, start=start)
    assert result.objective <= instance.objective(start)
    assert result.trajectory[0].by == "start"


@pytest.mark.parametrize("name", ["pyvrp", "ortools", "lkh", "or-opt"])
def test_same_seed_same_result(name):
    """Iteration limits repeat exactly."""
    solver = make(name)
    instance = tiny_tsp(40, 8)
    iterations = 2 if name == "lkh" else 50
    runs = [solver.solve(instance, Budget(None, iterations=iterations), seed=7) for _ in range(2)]
    assert runs[0].solution == runs[1].solution
    assert [e.objective for e in runs[0].trajectory] == [e.objective for e in runs[1].trajectory]


@pytest.mark.parametrize("name", NAMES)
def test_interruption_returns_the_best_so_far(name):
    """An interrupted budget ends the solve with a feasible solution."""
    solver = make(name)
    instance = next(i for i in (tiny_tsp(60, 1), tiny_cvrp(60, 1)) if solver.supports(i) is None)
    budget = Budget(60.0)
    timer = threading.Timer(0.4, budget.interrupt)
    timer.start()
    result = solver.solve(instance, budget, seed=0)
    timer.cancel()
    assert result.feasible
    assert result.stopped is Stop.INTERRUPTED


@pytest.mark.parametrize("name", ["pyvrp", "hgs", "ortools", "savings", "nearest-neighbor"])
def test_too_small_a_fleet_is_infeasible(name):
    """More load than the fleet can carry is a proof."""
    solver = make(name)
    instance = tiny_cvrp(6, 1, vehicles=1, capacity=6)
    result = solver.solve(instance, Budget(1.0))
    assert result.status is Status.INFEASIBLE
    assert result.solution is None


@pytest.mark.parametrize("name", ["pyvrp", "ortools"])
def test_fleet_limit_is_kept(name):
    """With just enough vehicles no more are used."""
    solver = make(name)
    instance = tiny_cvrp(8, 4)
    needed = math.ceil(instance.demands.sum() / instance.capacity) + 1
    result = solver.solve(instance.replace(vehicles=needed), Budget(1.0))
    assert len(result.solution) <= needed


def test_infeasible_start_is_refused():
    """A start is checked."""
    with pytest.raises(ValueError, match="start is infeasible"):
        make("pyvrp").solve(tiny_cvrp(4, 1), Budget(0.5), start=[[1, 2]])


@pytest.mark.parametrize(
    ("file", "optimum"),
    [("berlin52.tsp", 7542), ("gr202.tsp", 40160), ("ftv47.atsp", 1776)],
)
def test_published_optima_are_reached(shared_data, file, optimum):
    """LKH reaches the optima of TSPLIB files."""
    from nco.instances import io

    instance = io.read(shared_data / "routing" / "lib" / file)
    assert make("lkh").solve(instance, Budget(3.0, target=optimum)).objective == optimum
