"""Constructive heuristics."""

import functools
import itertools
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from nco.classical import compiling, constructive, random_insertion
from nco.classical.constructive import (
    curve_routes,
    greedy_tour,
    hilbert_order,
    initial_solution,
    min_degree_greedy,
    nearest_neighbor_routes,
    nearest_neighbor_tour,
    neighbor_lists,
    patched_tour,
    ratio_greedy,
    savings_routes,
    split,
    within_fleet,
)
from nco.instances.core import METRICS, Budget, Distances, Status, Stop
from nco.instances.cvrp import CVRP
from nco.instances.knapsack import Knapsack
from nco.instances.mis import MIS
from nco.instances.ovrp import OVRP
from nco.instances.registry import solvers
from nco.instances.tsp import TSP

POINTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=40).map(
    lambda p: np.array(p, dtype=float)
)
NAMES = ["nearest-neighbor", "greedy", "savings", "space-filling-curve"]


@pytest.fixture
def many_nodes(monkeypatch):
    """Make the code for many nodes run on few."""
    monkeypatch.setattr(constructive, "MOST_ROWS", 5)


@given(POINTS)
def test_tours_are_permutations(points):
    """Duplicates and lines included."""
    distances = Distances(coords=points)
    for tour in (
        nearest_neighbor_tour(distances),
        greedy_tour(distances),
        hilbert_order(points).tolist(),
    ):
        assert sorted(tour) == list(range(len(points)))


@given(POINTS, st.integers(0, 1000))
def test_tours_are_permutations_by_trees_and_by_matrix(points, seed):
    """The code for many nodes, and for asymmetric costs."""
    matrix = np.random.default_rng(seed).integers(0, 9, (len(points), len(points)))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MOST_ROWS", "NEAREST_BY_ROWS", "GREEDY_BY_LISTS"):
            patch.setattr(constructive, name, 5)
        for distances in (Distances(coords=points), Distances(matrix=matrix)):
            for tour in (nearest_neighbor_tour(distances), greedy_tour(distances)):
                assert sorted(tour) == list(range(len(points)))


def plain_nearest_neighbor(points):
    node, left, tour = 0, np.ones(len(points), dtype=bool), [0]
    left[0] = False
    for _ in range(len(points) - 1):
        gap = np.where(left, ((points - points[node]) ** 2).sum(1), np.inf)
        node = int(gap.argmin())
        left[node] = False
        tour.append(node)
    return tour


def plain_greedy(matrix):
    """Kruskal's way: every pair, cheapest first."""
    n = len(matrix)
    links = {k: [] for k in range(n)}
    color = list(range(n))
    for _, a, b in sorted((matrix[a, b], a, b) for a, b in itertools.combinations(range(n), 2)):
        if len(links[a]) < 2 and len(links[b]) < 2 and color[a] != color[b]:
            links[a].append(b)
            links[b].append(a)
            color = [color[a] if c == color[b] else c for c in color]
    return sum(matrix[a, b] for a in links for b in links[a]) / 2


@pytest.mark.parametrize("rows", [5, 3000])
def test_nearest_neighbor_equals_its_definition(monkeypatch, rows):
    """Row by row and compiled."""
    monkeypatch.setattr(constructive, "NEAREST_BY_ROWS", rows)
    points = np.random.default_rng(0).random((700, 2))
    assert nearest_neighbor_tour(Distances(coords=points)) == plain_nearest_neighbor(points)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("rows", [5, 3000])
def test_greedy_equals_its_definition(monkeypatch, rows, compiled):
    """All pairs give Kruskal's path, and short neighbour lists lose little."""
    monkeypatch.setattr(constructive, "MOST_ROWS", rows)
    monkeypatch.setattr(constructive, "COMPILE_FROM", 0 if compiled else 10**9)
    points = np.random.default_rng(1).random((150, 2))
    distances = Distances(coords=points)
    path = plain_greedy(distances.matrix)
    assert distances.path_length(greedy_tour(distances, k=149)) == pytest.approx(path)
    assert distances.path_length(greedy_tour(distances)) <= 1.02 * path


@pytest.mark.parametrize("rows", [5, 3000])
@pytest.mark.parametrize("metric", [m for m, (_, d, _) in METRICS.items() if d == 2])
def test_neighbor_lists_are_sorted_and_without_self(monkeypatch, metric, rows):
    """Nearest first under the instance's own metric."""
    monkeypatch.setattr(constructive, "MOST_ROWS", rows)
    points = np.random.default_rng(1).random((60, 2)) * 80
    distances = Distances(coords=points, metric=metric)
    near = neighbor_lists(distances, 9)
    assert near.shape == (60, 9)
    assert (near != np.arange(60)[:, None]).all()
    costs = distances.pairs(np.arange(60)[:, None], near)
    assert (np.diff(costs, axis=1) >= 0).all()
    if metric == "exact":
        assert near.tolist() == np.argsort(distances.matrix, axis=1)[:, 1:10].tolist()


def test_neighbor_lists_of_equal_points(many_nodes):
    """Never the node itself, even where all are at one place."""
    near = neighbor_lists(Distances(coords=np.zeros((20, 2))), 3)
    assert (near != np.arange(20)[:, None]).all()


@pytest.mark.parametrize("matrix", [False, True])
def test_neighbors_of_equal_points_are_not_the_same_few(matrix):
    n = constructive.MOST_ROWS + 1000 if not matrix else 300
    alike = Distances(matrix=np.ones((n, n))) if matrix else Distances(coords=np.ones((n, 2)))
    near = neighbor_lists(alike, 5)
    assert (near != np.arange(n)[:, None]).all()
    assert np.bincount(near.ravel(), minlength=n).max() <= 20
    # Else a round of greedy edges would join a few of them only.
    assert sorted(greedy_tour(alike)) == list(range(n))


@settings(max_examples=60)
@given(st.integers(1, 25), st.integers(0, 10_000), st.booleans(), st.booleans())
def test_routes_are_feasible(n, seed, limited, asymmetric):
    """Savings, nearest neighbour and split respect load and distance limits."""
    rng = np.random.default_rng(seed)
    coords = rng.integers(0, 100, (n + 1, 2)).astype(float)
    demands = np.r_[0, rng.integers(0, 10, n)]
    reach = 2 * np.sqrt(((coords - coords[0]) ** 2).sum(1)).max() + 10
    matrix = None
    if asymmetric:
        matrix = rng.integers(1, 100, (n + 1, n + 1))
        reach = 400
    instance = CVRP(
        coords=coords,
        matrix=matrix,
        demands=demands,
        capacity=15,
        max_distance=float(reach) if limited else None,
        service_time=2.0 if limited else 0.0,
    )
    for routes in (
        savings_routes(instance),
        nearest_neighbor_routes(instance),
        split(instance, list(range(1, n + 1))),
        curve_routes(instance),
    ):
        assert instance.violations(routes) == []


@pytest.mark.parametrize("asymmetric", [False, True])
def test_savings_equal_their_definition(asymmetric):
    """Against merging lists, with every pair."""
    rng = np.random.default_rng(5)
    n = 30
    coords = rng.random((n + 1, 2))
    matrix = Distances(coords=coords).matrix
    if asymmetric:
        matrix = matrix * (1 + 0.3 * rng.random((n + 1, n + 1)))
    instance = CVRP(matrix=matrix, demands=np.r_[0, rng.integers(1, 9, n)], capacity=30)
    routes = [[c] for c in range(1, n + 1)]
    pairs = sorted(
        (
            (matrix[i, 0] + matrix[0, j] - matrix[i, j], i, j)
            for i, j in itertools.permutations(range(1, n + 1), 2)
            if asymmetric or i < j
        ),
        reverse=True,
    )
    for gain, i, j in pairs:
        first = next(r for r in routes if i in r)
        second = next(r for r in routes if j in r)
        if gain <= 0 or first is second or instance.demands[[*first, *second]].sum() > 30:
            continue
        a, b = list(first), list(second)
        if not asymmetric:
            a = a[::-1] if a[-1] != i else a
            b = b[::-1] if b[0] != j else b
        if a[-1] == i and b[0] == j:
            routes = [r for r in routes if r is not first and r is not second] + [a + b]
    assert instance.objective(savings_routes(instance)) == pytest.approx(instance.objective(routes))


@settings(deadline=None)
@given(POINTS, st.integers(0, 1000), st.booleans(), st.floats(0.8, 2.0), st.floats(-0.2, 1.0))
def test_no_more_open_routes_can_be_joined_to_save(points, seed, limited, shape, spread):
    """They begin at their nearer ends; every pair of ends was looked at."""
    rng = np.random.default_rng(seed)
    n = len(points) - 1
    if n < 1:
        return
    demands = np.r_[0, rng.integers(1, 9, n)]
    far = 1.5 * float(Distances(coords=points).matrix.max()) + 3.0
    instance = OVRP(
        coords=points, demands=demands, capacity=25, service_time=2.0 if limited else 0.0,
        max_distance=far if limited else None,
    )  # fmt: skip
    routes = savings_routes(instance, k=n, shape=shape, spread=spread)
    assert instance.violations(routes) == []
    matrix = instance.distances.matrix
    for a, b in itertools.permutations(routes, 2):
        assert matrix[0, a[0]] <= matrix[0, a[-1]]
        for first, second in itertools.product((a, a[::-1]), (b, b[::-1])):
            joined = first + second
            if instance.violations([joined, *(r for r in routes if r is not a and r is not b)]):
                continue
            assert instance.objective([joined]) >= instance.objective([a, b]) - 1e-9


def test_open_routes_are_better_for_turning_round():
    """Than those of the same costs where every way has a direction."""
    turning = directed = 0.0
    for seed in range(8):
        instance = OVRP.generate(150, seed=seed, capacity=200)
        matrix = Distances(coords=instance.coords).matrix
        other = instance.replace(coords=None, matrix=matrix + 1e-9 * np.triu(matrix))
        turning += instance.objective(savings_routes(instance))
        directed += instance.objective(savings_routes(other))
    assert turning < 0.97 * directed


def test_shapes_of_savings_make_other_routes():
    """Short ways first, or those that leave the depot."""
    instance = CVRP.generate(80, seed=2)
    made = [savings_routes(instance, shape=a, spread=b) for a, b in ((1, 0), (1.8, 0), (1.8, 0.7))]
    assert all(instance.violations(routes) == [] for routes in made)
    assert len({instance.objective(routes) for routes in made}) == 3


@pytest.mark.parametrize("vehicles", [None, 3, 4, 5])
@pytest.mark.parametrize("compiled", [False, True])
def test_split_is_optimal_for_its_order(monkeypatch, compiled, vehicles):
    """Against all ways to cut an order of eight customers."""
    monkeypatch.setattr(constructive, "COMPILE_FROM", 0 if compiled else 10**9)
    instance = CVRP.generate(8, seed=3, capacity=15).replace(vehicles=vehicles)
    order = list(range(1, 9))
    best = np.inf
    for cuts in range(2**7):
        routes, route = [], [order[0]]
        for k in range(7):
            if cuts >> k & 1:
                routes.append(route)
                route = []
            route.append(order[k + 1])
        routes.append(route)
        if not instance.violations(routes):
            best = min(best, instance.objective(routes))
    found = split(instance, order, vehicles)
    if best == np.inf:
        assert found is None
    else:
        assert instance.objective(found) == pytest.approx(best)


def test_fleet_is_kept_by_packing_anew():
    """No cut of the orders fits three vehicles, but packing does."""
    demands = [0, 6, 6, 4, 4, 5, 5]
    coords = np.array([[0, 0], [0, 1], [0, 2], [9, 1], [9, 2], [5, 1], [5, 9]], dtype=float)
    instance = CVRP(coords=coords, demands=demands, capacity=10, vehicles=3)
    routes = within_fleet(instance, savings_routes(instance))
    assert routes is not None
    assert instance.violations(routes) == []


def test_unreachable_customer_is_a_proof():
    """A customer too far for a route of its own and, by the triangle, for any."""
    instance = CVRP(
        coords=[[0, 0], [1, 0], [50, 0]], demands=[0, 1, 1], capacity=9, max_distance=10
    )
    for name in ("nearest-neighbor", "savings", "space-filling-curve"):
        result = solvers.load(name)().solve(instance, Budget())
        assert (result.status, result.stopped) == (Status.INFEASIBLE, Stop.PROVED)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=30))
def test_ratio_greedy_fits_and_is_maximal(items):
    """No item that is left out would still fit."""
    values, weights = zip(*items, strict=True)
    instance = Knapsack(values=values, weights=weights, capacity=40)
    chosen = ratio_greedy(instance)
    assert instance.violations(chosen) == []
    room = 40 - instance.weight(chosen)
    assert all(weights[k] > room for k in set(range(len(items))) - set(chosen))


@given(st.integers(1, 30), st.floats(0, 1), st.integers(0, 1000))
def test_min_degree_greedy_is_maximal(n, p, seed):
    """Every node is chosen or has a chosen neighbour."""
    instance = MIS.generate(n, seed=seed, p=p)
    chosen = set(min_degree_greedy(instance))
    assert instance.violations(sorted(chosen)) == []
    indptr, indices = instance.neighbors()
    for node in set(range(n)) - chosen:
        assert chosen & set(indices[indptr[node] : indptr[node + 1]].tolist())


def test_min_degree_greedy_looks_at_the_clock_by_its_steps():
    """Not by the nodes it chose: dense graphs have few such nodes and many edges."""

    class Watched(Budget):
        looks = 0

        def done(self, *args, **options):
            self.looks += 1
            return super().done(*args, **options)

    instance = MIS.generate(1000, seed=1, p=0.5)
    budget = Watched()
    chosen = min_degree_greedy(instance, budget)
    assert 2 <= budget.looks < len(chosen)
    over = Watched()
    over.interrupt()
    quick = min_degree_greedy(instance, over)
    assert over.looks == 1
    assert instance.violations(quick) == []
    indptr, indices = instance.neighbors()
    near = {int(k) for v in quick for k in indices[indptr[v] : indptr[v + 1]]}
    assert near | set(quick) == set(range(instance.n))


@pytest.mark.parametrize("name", NAMES)
def test_as_solvers(name):
    """Registered, checked, and never worse than a given start."""
    solver = solvers.load(name)()
    for instance in (
        TSP.generate(30, seed=1),
        TSP.generate(1, seed=1),
        CVRP.generate(30, seed=1),
        CVRP.generate(1, seed=1),
    ):
        if solver.supports(instance) is None:
            first = solver.solve(instance, Budget())
            again = solver.solve(instance, Budget(), start=first.solution)
            assert again.objective == first.objective
            assert again.trajectory[0].by == "start"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [5, 3000])
def test_used_up_budget_gives_something_simpler(monkeypatch, name, rows):
    """Interrupted from the first moment on, a feasible solution still comes back."""
    for limit in ("MOST_ROWS", "NEAREST_BY_ROWS", "GREEDY_BY_LISTS"):
        monkeypatch.setattr(constructive, limit, rows)
    solver = solvers.load(name)()
    for instance in (TSP.generate(300, seed=1), CVRP.generate(300, seed=1)):
        if solver.supports(instance) is None:
            budget = Budget(60.0)
            budget.interrupt()
            result = solver.solve(instance, budget)
            assert result.feasible
            assert result.stopped is Stop.INTERRUPTED


def test_interrupted_midway():
    """From another thread."""
    budget = Budget(60.0)
    timer = threading.Timer(0.05, budget.interrupt)
    instance = CVRP.generate(5000, seed=1)
    timer.start()
    result = solvers.load("nearest-neighbor")().solve(instance, budget)
    timer.cancel()
    assert result.feasible
    assert result.stopped is Stop.INTERRUPTED


@pytest.mark.parametrize(
    "instance",
    [
        TSP.generate(50, seed=1),
        CVRP.generate(50, seed=1),
        Knapsack.generate(20, seed=1),
        MIS.generate(20, seed=1),
    ],
    ids=lambda i: i.problem,
)
def test_initial_solutions(instance):
    """Every problem with a heuristic has a start."""
    assert instance.violations(initial_solution(instance)) == []


@pytest.fixture
def slow_compiler(monkeypatch):
    """Loops are worth compiling, and the compiler works until the event."""
    over = threading.Event()
    for module, name in (
        (constructive, "_compiled_join"),
        (constructive, "_compiled_split"),
        (random_insertion, "_compiled_insert"),
    ):

        @functools.cache
        def slow():
            assert over.wait(100)

        monkeypatch.setattr(module, name, slow)
    monkeypatch.setattr(constructive, "COMPILE_FROM", 0)
    yield over
    over.set()
    for thread in compiling.running():
        thread.join()


def test_loops_do_not_wait_for_the_compiler(monkeypatch, slow_compiler):
    """Under a budget they run on lists meanwhile, to the same end."""
    instance = CVRP.generate(60, seed=1)
    budget = Budget(1000.0)
    routes = savings_routes(instance, budget=budget)
    tour = random_insertion.random_insertion(instance.coords, 3, budget)
    assert [t.name.split()[2] for t in compiling.running()] == ["slow"]
    budget.interrupt()
    with pytest.raises(TimeoutError):
        split(instance, list(range(1, 61)), budget=budget)
    # The order of one route each still has a cut: it is packed anew without the compiler.
    fleet = instance.replace(vehicles=20)
    assert fleet.violations(within_fleet(fleet, [[k] for k in range(1, 61)], budget)) == []
    slow_compiler.set()
    monkeypatch.setattr(constructive, "COMPILE_FROM", 10**9)
    assert routes == savings_routes(instance)
    assert tour == random_insertion.random_insertion(instance.coords, 3)


def test_savings_stop_between_arcs(monkeypatch):
    """What is joined by then are feasible routes, fewer than customers."""
    monkeypatch.setattr(constructive, "COMPILE_FROM", 10**9)
    monkeypatch.setattr(constructive, "LOOKS", 10)
    instance = CVRP.generate(60, seed=1)

    class Short(Budget):
        """Over at the tenth look."""

        looks = 0

        def spent(self):
            self.looks += 1
            return self.looks > 10

    routes = savings_routes(instance, budget=Short())
    assert instance.violations(routes) == []
    assert len(savings_routes(instance)) < len(routes) < 60


def test_open_savings_stop_between_rounds():
    """With fewer routes than customers."""
    instance = OVRP.generate(60, seed=1)

    class Short(Budget):
        """Over at the fourth look."""

        looks = 0

        def spent(self):
            self.looks += 1
            return self.looks > 3

    routes = savings_routes(instance, budget=Short())
    assert instance.violations(routes) == []
    assert len(savings_routes(instance)) < len(routes) < 60


def test_without_time_for_savings_a_curve_is_cut():
    """Far better than a route for each customer."""
    instance = CVRP.generate(60, seed=1)
    routes = savings_routes(instance, budget=Budget(0.0))
    assert instance.violations(routes) == []
    assert instance.objective(routes) == instance.objective(curve_routes(instance))
    # Without any cut of that order, there is a route for each.
    far = instance.replace(max_distance=0.1)
    assert curve_routes(far) is None
    assert sorted(savings_routes(far, budget=Budget(0.0))) == [[k] for k in range(1, 61)]


def test_compiled_loops_are_compiled_once(monkeypatch):
    """For the types they are called with: another one would be refused."""
    monkeypatch.setattr(constructive, "COMPILE_FROM", 0)
    instance = CVRP.generate(20, seed=1)
    for case in (instance, instance.replace(max_distance=9.0, service_time=0.5, vehicles=9)):
        assert case.violations(savings_routes(case, budget=Budget(1000.0))) == []
        assert split(case, list(range(1, 21)), case.vehicles)
        matrix = case.distances.matrix * (1 + np.triu(np.ones((21, 21))))
        assert savings_routes(case.replace(matrix=matrix))
    tour = TSP.generate(9, seed=1, distribution="uniform").replace(fixed=[[0, 5], [5, 3]])
    assert sorted(constructive.greedy_tour(tour.distances, fixed=tour.fixed)) == list(range(9))
    assert len(random_insertion.random_insertion(instance.coords)) == 21


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.integers(0, 10_000))
def test_patched_cycles_are_a_tour_no_cheaper_than_the_assignment(n, seed):
    costs = np.random.default_rng(seed).integers(-20, 100, (n, n)).astype(float)
    np.fill_diagonal(costs, 0.0)
    distances = Distances(matrix=costs)
    tour = patched_tour(distances)
    assert sorted(tour) == list(range(n))
    forbidden = costs + np.diag(np.full(n, 1e6))
    least = forbidden[linear_sum_assignment(forbidden)].sum() if n > 1 else 0.0
    assert distances.tour_length(tour) >= least - 1e-9


def test_two_cycles_are_patched_at_the_least_cost():
    # 0-1-2 and 3-4 are cheap; 2-3 and 4-0 are the cheapest ways between them.
    costs = np.full((5, 5), 50.0)
    for i, j, cost in ((0, 1, 1), (1, 2, 1), (2, 0, 1), (3, 4, 1), (4, 3, 1), (2, 3, 5), (4, 0, 6)):
        costs[i, j] = cost
    tour = patched_tour(Distances(matrix=costs))
    assert tour == [0, 1, 2, 3, 4]
