"""Every solver of tours on instances with fixed and missing edges, against brute force."""

import functools
import itertools
import sys
import threading

import numpy as np
import pytest

import nco
from nco.api import supporting
from nco.classical import one_tree
from nco.instances.atsp import ATSP
from nco.instances.core import Budget, InputError, Status, Stop
from nco.instances.registry import solvers
from nco.instances.tsp import TSP

RNG = np.random.default_rng(4)
POINTS = RNG.integers(0, 100, (7, 2))
COSTS = RNG.integers(1, 100, (7, 7)) * (1 - np.eye(7, dtype=int))
PAIRS = [(i, j) for i, j in itertools.permutations(range(7), 2) if (i + j) % 3 or i * j == 18]
INSTANCES = {
    "edges": TSP(coords=POINTS, metric="EUC_2D", fixed=[[0, 5], [5, 3], [2, 6]]),
    "exact": TSP(coords=POINTS / 7, fixed=[[0, 3], [4, 1]]),
    "matrix": TSP(matrix=COSTS + COSTS.T, fixed=[[1, 2], [2, 6], [6, 3], [3, 0]]),
    "arcs": ATSP(matrix=COSTS, fixed=[[3, 1], [1, 6], [4, 0]]),
    "symmetric arcs": ATSP(matrix=COSTS + COSTS.T, fixed=[[3, 1], [1, 6], [4, 0]]),
    "missing": TSP(coords=POINTS, metric="EUC_2D", edges=PAIRS),
    "both": TSP(coords=POINTS, fixed=[[3, 6]], edges=PAIRS),
    "missing arcs": ATSP(matrix=COSTS, edges=PAIRS, fixed=[[6, 3]]),
}
CASES = [
    (entry.name, kind)
    for entry in solvers
    if entry.installed
    for kind, instance in INSTANCES.items()
    if entry.load()().supports(instance) is None
]
#: Iterations that are plenty for seven nodes; exact solvers need no limit.
ITERATIONS = {"lkh": 3, "pyvrp": 200, "ortools": 200, "or-opt": 200, "ruin-recreate": 5000}
#: These make one tour, and may get into a dead end where edges are missing.
CONSTRUCTIVE = ("nearest-neighbor", "greedy", "insertion", "space-filling-curve")


@functools.cache
def optimum(instance):
    tours = ([0, *rest] for rest in itertools.permutations(range(1, instance.n)))
    return min(instance.objective(tour) for tour in tours if not instance.violations(tour))


def test_the_cases_are_harder_than_plain_ones():
    """What is fixed or missing costs something."""
    for instance in INSTANCES.values():
        assert optimum(instance) > optimum(instance.replace(fixed=None, edges=None))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_small_tours_are_optimal(name, kind):
    """All searches find the optimum; the quick heuristics are feasible, bounds are below."""
    instance = INSTANCES[kind]
    best = optimum(instance)
    budget = Budget(60.0, ITERATIONS.get(name), target=best * (1 + 1e-9))
    result = solvers.load(name)().solve(instance, budget, seed=1)
    if name not in CONSTRUCTIVE:
        assert result.objective == pytest.approx(best, rel=1e-9)
    elif instance.edges is None:
        assert result.feasible
    if result.feasible:
        assert instance.violations(result.solution) == []
        assert result.objective >= best * (1 - 1e-9)
        seen = [e.objective for e in result.trajectory if e.objective is not None]
        assert min(seen) >= best * (1 - 1e-9)
    if result.bound is not None:
        assert result.bound <= best * (1 + 1e-9)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_what_there_is_at_once_is_feasible(name, kind):
    """Interrupted before the first step, and without time."""
    instance = INSTANCES[kind]
    for budget in (Budget(30.0), Budget(0.0)):
        if budget.left():
            budget.interrupt()
        result = solvers.load(name)().solve(instance, budget, seed=2)
        assert result.feasible or instance.edges is not None


@pytest.mark.parametrize("name", ["scip", "highs", "cp-sat"])
@pytest.mark.parametrize("kind", INSTANCES)
def test_proofs(name, kind):
    """Exact solvers prove the optimum of models with these edges."""
    instance = INSTANCES[kind]
    result = solvers.load(name)().solve(instance, Budget(30.0), seed=1)
    assert result.status is Status.OPTIMAL
    assert result.objective == pytest.approx(optimum(instance), rel=1e-9)


@pytest.mark.parametrize("name", ["scip", "highs", "cp-sat"])
def test_graphs_without_a_cycle(name):
    """Enough edges at every node, and yet no tour: the Petersen graph."""
    ring = [[k, (k + 1) % 5] for k in range(5)]
    star = [[5 + k, 5 + (k + 2) % 5] for k in range(5)]
    spokes = [[k, 5 + k] for k in range(5)]
    petersen = TSP(matrix=np.ones((10, 10)) - np.eye(10), edges=ring + star + spokes)
    result = solvers.load(name)().solve(petersen, Budget(30.0), seed=1)
    assert result.status is Status.INFEASIBLE
    assert nco.solve(petersen, "or-opt", time_limit=0.5).status is Status.UNKNOWN


@pytest.mark.parametrize("name", ["bq", "udc", "space-filling-curve", "fast-tsp"])
def test_refusals_name_the_reason(name):
    """Solvers that cannot see to it that an edge is used say so."""
    entry = solvers.entry(name)
    if not entry.installed:
        pytest.skip(f"{entry.requires} is not installed")
    reason = entry.load()().supports(INSTANCES["missing"])
    assert "edges" in reason
    with pytest.raises(nco.UnsupportedError, match="missing edges"):
        nco.solve(INSTANCES["missing"], name, time_limit=1)


def test_auto_and_starts():
    """`auto` finds a solver; a start that leaves a fixed edge out is refused in one line."""
    instance = INSTANCES["edges"]
    assert nco.solve(instance, iterations=5, time_limit=60).objective == optimum(instance)
    with pytest.raises(InputError, match="edge 0-5 is fixed but not in the tour") as caught:
        nco.solve(instance, start=list(range(7)), time_limit=1)
    assert "\n" not in str(caught.value)
    start = nco.solve(instance, "greedy", time_limit=1)
    assert nco.solve(instance, "or-opt", iterations=5, start=start).objective <= start.objective
    results = nco.solve_batch([instance, instance], "or-opt", iterations=50, time_limit=60)
    assert [r.objective for r in results] == [optimum(instance)] * 2


@pytest.mark.parametrize("name", ["or-opt", "lkh", "pyvrp", "ortools", "ruin-recreate"])
def test_interrupted_searches_have_fixed_edges(name):
    """Ctrl-C amid a search, and every tour on the way there."""
    entry = solvers.entry(name)
    if not entry.installed:
        pytest.skip(f"{entry.requires} is not installed")
    points = np.random.default_rng(1).random((120, 2))
    instance = TSP(coords=points, fixed=np.arange(60).reshape(30, 2))
    budget = Budget(20.0)
    threading.Timer(1.0, budget.interrupt).start()
    result = entry.load()().solve(instance, budget, seed=1)
    assert instance.violations(result.solution) == []
    assert result.stopped == "interrupted"
    assert budget.elapsed() < 15.0


def test_many_nodes():
    """More than fit into a matrix: heuristics that need none are left."""
    points = np.random.default_rng(2).random((12_000, 2))
    instance = TSP(coords=points, fixed=np.arange(6000).reshape(-1, 2))
    able = supporting(instance)
    assert {"greedy", "nearest-neighbor", "space-filling-curve"} <= set(able)
    assert not {"or-opt", "lkh", "pyvrp", "ortools", "insertion", "ruin-recreate"} & set(able)
    assert nco.solve(instance, "greedy", time_limit=20, bound=False).feasible
    assert nco.solve(instance, time_limit=0.1, bound=False).feasible


def test_a_published_optimum(shared_data):
    """TSPLIB's linhp318: lin318 with edge 1-214 fixed; the path without it takes 41345."""
    plain = nco.read(shared_data / "routing" / "lib" / "lin318.tsp")
    instance = plain.replace(fixed=[[0, 213]], ref_cost=None)
    best = 41345 + int(plain.distances.pairs(0, 213))
    result = nco.solve(instance, "or-opt", time_limit=60, target=1.001 * best, bound=False)
    assert best <= result.objective <= 1.001 * best
    # Beyond the optimum without the edge, 42029.
    assert 42029 < one_tree.bound(instance, Budget(), 300) <= best


@pytest.mark.parametrize("name", ["lkh", "fast-tsp", "or-opt"])
def test_costs_for_searches_keep_to_the_clock(name):
    """They take seconds for thousands of nodes; without them there is a constructive tour."""

    class Short(Budget):
        """One that ends when the costs are looked at, however long what is before takes."""

        looks = 0

        def left(self):
            frame = sys._getframe(1)
            while frame is not None and frame.f_code.co_name != "full_matrix":
                frame = frame.f_back
            self.looks += frame is not None
            return 0.0 if self.looks else 1000.0

    if not solvers.entry(name).installed:
        pytest.skip("not installed")
    instance = TSP.generate(600, seed=1).replace(fixed=[[0, 5], [5, 3]])
    budget = Short(1000)
    result = solvers.load(name)().solve(instance, budget)
    assert budget.looks == 1
    assert instance.search_distances._full is None
    assert (result.stopped, result.feasible) == (Stop.TIME, True)


def test_costs_for_searches_are_made_once():
    costs = INSTANCES["both"].replace().search_distances
    with pytest.raises(TimeoutError):
        TSP.generate(600, seed=1).replace(fixed=[[0, 5]]).search_distances.full_matrix(lambda: True)
    matrix = costs.full_matrix()
    assert matrix is costs.full_matrix(lambda: True)
    assert matrix is costs.matrix
