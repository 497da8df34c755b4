"""The adapters to routing libraries, against brute force and each other."""

import itertools
import math
import threading

import numpy as np
import pytest

from nco.classical.routing import (
    cost_scale,
    integer_costs,
    integer_loads,
    largest_cost,
    surely_infeasible,
)
from nco.instances.atsp import ATSP
from nco.instances.core import METRICS, Budget, Distances, Status, Stop
from nco.instances.cvrp import CVRP
from nco.instances.knapsack import Knapsack
from nco.instances.registry import solvers
from nco.instances.tsp import TSP

NAMES = ["fast-tsp", "lkh", "pyvrp", "hgs", "ortools"]
#: Those that repeat exactly under a limit on iterations, with a small one.
REPEATING = {"lkh": 2, "pyvrp": 50, "hgs": 100, "ortools": 50}


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
    defaults = {
        "coords": rng.integers(0, 100, (n + 1, 2)),
        "demands": np.r_[0, rng.integers(1, 6, n)],
        "capacity": 10,
        "metric": "EUC_2D",
    }
    return CVRP(**(defaults | fields))


def supported(solver, *instances):
    found = [i for i in instances if solver.supports(i) is None]
    assert found
    return found


def best_tour(instance):
    rest = range(1, instance.n)
    return min(instance.objective([0, *p]) for p in itertools.permutations(rest))


def best_routes(instance):
    """The cheapest partition of the customers into feasible routes, in any number."""
    cost = {}
    for size in range(1, instance.n + 1):
        for subset in itertools.combinations(range(1, instance.n + 1), size):
            if instance.demands[list(subset)].sum() <= instance.capacity * (1 + 1e-12):
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
        for subset in map(frozenset, itertools.combinations(range(1, instance.n + 1), size)):
            first = min(subset)
            best[subset] = min(
                (
                    cost[part] + best[subset - part]
                    for part in cost
                    if first in part and part <= subset and subset - part in best
                ),
                default=math.inf,
            )
    return best[frozenset(range(1, instance.n + 1))]


# ----------------------------------------------------------------------------- optimality


@pytest.mark.parametrize("name", ["fast-tsp", "lkh", "pyvrp", "ortools"])
@pytest.mark.parametrize("metric", ["exact", "EUC_2D", "GEO", "ATT", "CEIL_2D", "MAN_2D", "MAX_2D"])
def test_small_tours_are_optimal(name, metric):
    """Every tour solver finds the optimum of seven nodes, and stops at a target."""
    solver = make(name)
    instance = tiny_tsp(7, 3, metric)
    optimum = best_tour(instance)
    result = solver.solve(instance, Budget(5.0, target=optimum * (1 + 1e-9)), seed=1)
    assert result.objective == pytest.approx(optimum, rel=1e-9)
    assert result.stopped is Stop.TARGET


@pytest.mark.parametrize("name", ["lkh", "pyvrp", "ortools"])
@pytest.mark.parametrize("decimals", [0, 6])
def test_small_asymmetric_tours_are_optimal(name, decimals):
    """Asymmetric matrices keep their direction, whole numbers or not."""
    solver = make(name)
    matrix = np.round(np.random.default_rng(5).random((7, 7)) * 50, decimals)
    np.fill_diagonal(matrix, 0)
    instance = ATSP(matrix=matrix)
    optimum = best_tour(instance)
    result = solver.solve(instance, Budget(5.0, target=optimum * (1 + 1e-9)), seed=1)
    assert result.objective == pytest.approx(optimum, rel=1e-9)


def symmetric_matrix(n, seed):
    half = np.triu(np.random.default_rng(seed).integers(1, 90, (n, n)), 1)
    return half + half.T


ROUTES = {
    "plain": {},
    "distance limit": {"max_distance": 260, "service_time": 5},
    "float distance limit": {"max_distance": 251.5, "service_time": 0.25, "metric": "exact"},
    "float loads": {
        "metric": "exact", "capacity": 1.0, "demands": [0, 0.1, 0.2, 0.3, 0.4, 0.55, 0.45],
    },
    "loads without end": {
        "metric": "exact", "capacity": 2 / 3, "demands": np.array([0, 6, 3, 3, 2, 2, 2]) / 18,
    },
    "no demands": {"demands": np.zeros(7)},
    "matrix": {"coords": None, "metric": "exact", "matrix": symmetric_matrix(7, 1)},
    "asymmetric": {
        "coords": None, "metric": "exact",
        "matrix": np.random.default_rng(2).integers(1, 90, (7, 7)) * (1 - np.eye(7, dtype=int)),
    },
    "unit square": {"coords": np.random.default_rng(3).random((7, 2)), "metric": "exact"},
    "large numbers": {"coords": np.random.default_rng(3).random((7, 2)) * 1e9},
}  # fmt: skip


@pytest.mark.parametrize("name", ["pyvrp", "hgs", "ortools"])
@pytest.mark.parametrize("fields", ROUTES.values(), ids=ROUTES)
def test_small_routes_are_near_optimal(name, fields):
    """Every route solver is at the optimum of six customers, or close, and never below."""
    solver = make(name)
    instance = tiny_cvrp(6, 11, **fields)
    if name == "hgs" and not instance.distances.symmetric:
        assert solver.supports(instance) == "needs symmetric costs"
        return
    optimum = best_routes(instance)
    result = solver.solve(instance, Budget(2.0, target=optimum * (1 + 1e-9)), seed=1)
    assert optimum * (1 - 1e-9) <= result.objective <= 1.02 * optimum


# ------------------------------------------------------------------------------- contract


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_tiny_sizes(name, n):
    """The smallest instances are solved like others."""
    solver = make(name)
    for instance in supported(solver, tiny_tsp(n, n), tiny_cvrp(n, n)):
        optimum = best_tour(instance) if isinstance(instance, TSP) else best_routes(instance)
        result = solver.solve(instance, Budget(2.0, target=optimum * (1 + 1e-9)), seed=0)
        assert result.objective == pytest.approx(optimum, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_equal_points(name):
    """All nodes at one place: cost 0, and no division by it."""
    solver = make(name)
    tsp = TSP(coords=np.zeros((8, 2)))
    cvrp = CVRP(coords=np.zeros((6, 2)), demands=[0, 1, 1, 1, 1, 1], capacity=2)
    for instance in supported(solver, tsp, cvrp):
        assert solver.solve(instance, Budget(1.0)).objective == 0


@pytest.mark.parametrize("name", NAMES)
def test_supports_names_the_reason(name):
    """A knapsack is refused in words."""
    reason = make(name).supports(Knapsack(values=[1], weights=[1], capacity=1))
    assert reason is not None
    assert "knapsack" in reason


@pytest.mark.parametrize("name", ["fast-tsp", "hgs"])
def test_asymmetric_costs_are_refused(name):
    """Symmetric solvers say so."""
    matrix = np.array([[0, 1, 2], [3, 0, 4], [5, 6, 0]])
    for instance in (TSP(matrix=matrix), CVRP(matrix=matrix, demands=[0, 1, 1], capacity=2)):
        assert make(name).supports(instance)


@pytest.mark.parametrize("name", NAMES)
def test_too_many_nodes_are_refused(name):
    """What needs a matrix says up to which size."""
    solver = make(name)
    coords = np.zeros((20_001, 2))
    large = [TSP(coords=coords), CVRP(coords=coords, demands=np.zeros(20_001), capacity=1)]
    reasons = [solver.supports(i) for i in large]
    assert all(reasons)
    assert any("needs n" in r for r in reasons)


@pytest.mark.parametrize("name", NAMES)
def test_never_worse_than_the_start(name):
    """A start, warm or not, is a floor."""
    solver = make(name)
    for instance, start in (
        (tiny_tsp(9, 2), list(range(9))),
        (tiny_cvrp(9, 2), [[k] for k in range(1, 10)]),
    ):
        if solver.supports(instance) is None:
            result = solver.solve(instance, Budget(0.5, iterations=1), seed=0, start=start)
            assert result.objective <= instance.objective(start)
            assert result.trajectory[0].by == "start"


@pytest.mark.parametrize("name", ["lkh", "pyvrp", "ortools"])
def test_warm_start_is_searched_from(name):
    """With no time to speak of, an optimal start comes back as it is."""
    solver = make(name)
    instance = tiny_tsp(60, 4)
    first = make("lkh").solve(instance, Budget(None, iterations=3), seed=0)
    again = solver.solve(instance, Budget(None, iterations=1), seed=1, start=first.solution)
    assert again.objective == first.objective


@pytest.mark.parametrize("name", NAMES)
def test_infeasible_start_is_refused(name):
    """A start is checked."""
    solver = make(name)
    for instance, start in ((tiny_cvrp(4, 1), [[1, 2]]), (tiny_tsp(4, 1), [0, 1, 2])):
        if solver.supports(instance) is None:
            with pytest.raises(ValueError, match="start is infeasible"):
                solver.solve(instance, Budget(0.5), start=start)


@pytest.mark.parametrize("name", REPEATING)
def test_same_seed_same_result(name):
    """Iteration limits repeat exactly, and end the search."""
    solver = make(name)
    (instance, *_) = supported(solver, tiny_tsp(40, 8), tiny_cvrp(40, 8))
    budget = {"time_limit": 60.0, "iterations": REPEATING[name]}
    runs = [solver.solve(instance, Budget(**budget), seed=7) for _ in range(2)]
    assert runs[0].solution == runs[1].solution
    assert runs[0].stopped is Stop.ITERATIONS


@pytest.mark.parametrize("name", NAMES)
def test_interruption_returns_the_best_so_far(name):
    """An interrupted budget ends the solve with a feasible solution."""
    solver = make(name)
    (instance, *_) = supported(solver, tiny_tsp(60, 1), tiny_cvrp(60, 1))
    budget = Budget(60.0)
    timer = threading.Timer(0.4, budget.interrupt)
    timer.start()
    result = solver.solve(instance, budget, seed=0)
    timer.cancel()
    assert result.feasible
    assert result.stopped is Stop.INTERRUPTED


@pytest.mark.parametrize("name", NAMES)
def test_used_up_budget(name):
    """With no time at all there is still a constructive solution."""
    solver = make(name)
    for instance in supported(solver, tiny_tsp(30, 1), tiny_cvrp(30, 1)):
        result = solver.solve(instance, Budget(0.0), seed=0)
        assert result.feasible
        assert result.stopped is Stop.TIME


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_checked(name):
    """Impossible values are refused when the solver is made."""
    field = {"fast-tsp": "threads", "lkh": "runs", "pyvrp": "neighbors", "hgs": "granular"}
    cls = type(make(name))
    with pytest.raises(ValueError, match="not understood"):
        cls(**({field[name]: 0} if name in field else {"metaheuristic": "MAGIC"}))


# ---------------------------------------------------------------------------------- fleet


@pytest.mark.parametrize("name", ["pyvrp", "hgs", "ortools", "savings", "nearest-neighbor"])
@pytest.mark.parametrize(
    "demands", [[0, 3, 3, 3, 3], [0, 6, 6, 6, 1]], ids=["total", "more than half each"]
)
def test_too_small_a_fleet_is_infeasible(name, demands):
    """More load than the fleet can carry is a proof."""
    instance = tiny_cvrp(4, 1, vehicles=2 if sum(demands) > 12 else 1, demands=demands)
    result = make(name).solve(instance, Budget(1.0))
    assert result.status is Status.INFEASIBLE
    assert result.solution is None


@pytest.mark.parametrize("name", ["pyvrp", "hgs", "ortools"])
def test_fleet_limit_is_kept(name):
    """With just enough vehicles no more are used."""
    instance = tiny_cvrp(6, 4, demands=[0, 6, 6, 4, 4, 5, 5], vehicles=3)
    result = make(name).solve(instance, Budget(0.7))
    assert len(result.solution) == 3


def test_fleets_are_not_refused_by_rounding():
    """Sums of floats that exceed the capacity by rounding only are no proof."""
    instance = tiny_cvrp(3, 1, demands=[0, 0.1, 0.2, 0.4], capacity=0.7, vehicles=1)
    assert sum(instance.demands) > instance.capacity
    assert instance.violations([[1, 2, 3]]) == []
    assert not surely_infeasible(instance)


@pytest.mark.parametrize("name", ["auto", "pyvrp", "hgs", "ortools", "savings", "ruin-recreate"])
def test_a_customer_out_of_reach_is_a_proof(name):
    """Unless there is a shorter way round."""
    costs = [[0, 1, 9, 1], [1, 0, 1, 9], [9, 1, 0, 1], [1, 9, 1, 0]]
    instance = CVRP(matrix=costs, demands=[0, 1, 1, 1], capacity=3, max_distance=4)
    result = make(name).solve(instance, Budget(0.5))
    assert result.status is not Status.INFEASIBLE
    result = make(name).solve(instance.replace(max_distance=3.5), Budget(0.5))
    assert result.status is Status.INFEASIBLE


# -------------------------------------------------------------------------------- scaling


@pytest.mark.parametrize("metric", METRICS)
def test_largest_cost_is_a_bound(metric):
    """Exact on request, and within a factor of two otherwise."""
    rng = np.random.default_rng(1)
    distances = Distances(coords=rng.random((50, METRICS[metric][1])) * 80, metric=metric)
    top = distances.matrix.max()
    assert largest_cost(distances, exact=True) == top
    assert top <= largest_cost(distances) <= 2 * top


@pytest.mark.parametrize("kind", ["integral", "too large", "float", "matrix"])
def test_integer_costs(kind):
    """Whole numbers that fit stay; others come as close as the range allows."""
    coords = np.random.default_rng(1).random((70, 2)) * (1e6 if kind == "too large" else 100)
    distances = Distances(coords=coords, metric="exact" if kind == "float" else "EUC_2D")
    if kind == "matrix":
        distances = Distances(matrix=distances.matrix.astype(np.int64))
    costs, scale = integer_costs(distances, 1000)
    assert (scale == 1.0) == (kind in ("integral", "matrix"))
    assert scale == cost_scale(distances, 1000)
    assert costs.max() <= 1000
    assert np.abs(costs - distances.matrix * scale).max() <= 0.5
    assert (costs.diagonal() == 0).all()


@pytest.mark.parametrize(
    ("demands", "capacity"),
    [([1, 2, 3], 5), ([0.5, 0.25, 1.125], 1.5), ([0.1, 0.2, 0.3], 0.6), ([1, 2], 2.5),
     ([1 / 3, 2 / 7, 0.4], 0.9), ([0, 0], 0)],
)  # fmt: skip
def test_integer_loads(demands, capacity):
    """What fits after scaling fits before, and decimal loads lose nothing."""
    n = len(demands)
    instance = CVRP(coords=np.zeros((n + 1, 2)), demands=[0, *demands], capacity=capacity)
    loads, room = integer_loads(instance.demands, instance.capacity)
    for size in range(1, n + 1):
        for subset in itertools.combinations(range(1, n + 1), size):
            total = instance.demands[list(subset)].sum()
            fits = loads[list(subset)].sum() <= room
            assert not fits or total <= capacity * (1 + 1e-9)
            assert fits or total > capacity * (1 - 1e-6)


def test_tiny_loads_are_not_taken_for_zero():
    loads, room = integer_loads(np.array([0.0, 2e-10, 3e-10]), 4e-10)
    assert loads.tolist() == [0, 5_000_000, 7_500_000]
    assert room == 10**7


@pytest.mark.parametrize("solver", ["pyvrp", "ortools", "cp-sat"])
def test_a_capacity_beyond_64_bits_is_room_for_all(solver):
    instance = CVRP(coords=[[0, 0], [0, 3], [4, 3]], demands=[0, 1, 2], capacity=10**300)
    result = solvers.load(solver)().solve(instance, Budget(time_limit=2))
    assert result.objective == 12


# ----------------------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("file", "optimum"),
    [("berlin52.tsp", 7542), ("gr202.tsp", 40160), ("ftv47.atsp", 1776)],
)
def test_published_optima_are_reached(shared_data, file, optimum):
    """LKH reaches the optima of TSPLIB files."""
    from nco.instances import io

    instance = io.read(shared_data / "routing" / "lib" / file)
    assert make("lkh").solve(instance, Budget(20.0, target=optimum)).objective == optimum
