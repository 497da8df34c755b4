"""Constructive heuristics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.classical.constructive import (
    greedy_tour,
    hilbert_order,
    min_degree_greedy,
    nearest_neighbor_routes,
    nearest_neighbor_tour,
    neighbor_lists,
    ratio_greedy,
    savings_routes,
    split,
)
from nco.instances.core import METRICS, Budget, Distances
from nco.instances.cvrp import CVRP
from nco.instances.knapsack import Knapsack
from nco.instances.mis import MIS
from nco.instances.registry import solvers
from nco.instances.tsp import TSP

POINTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=40).map(
    lambda p: np.array(p, dtype=float)
)


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


def test_large_nearest_neighbor_equals_row_by_row(monkeypatch):
    """The k-d tree version visits what the plain version visits."""
    points = np.random.default_rng(0).random((3500, 2))
    by_tree = nearest_neighbor_tour(Distances(coords=points))
    node, left, tour = 0, np.ones(3500, dtype=bool), [0]
    left[0] = False
    for _ in range(3499):
        gap = np.where(left, ((points - points[node]) ** 2).sum(1), np.inf)
        node = int(gap.argmin())
        left[node] = False
        tour.append(node)
    assert by_tree == tour


@pytest.mark.parametrize("metric", [m for m, (_, d, _) in METRICS.items() if d == 2])
def test_neighbor_lists_are_sorted_and_without_self(metric):
    """Nearest first under the instance's own metric."""
    points = np.random.default_rng(1).random((60, 2)) * 80
    distances = Distances(coords=points, metric=metric)
    near = neighbor_lists(distances, 9)
    assert near.shape == (60, 9)
    assert (near != np.arange(60)[:, None]).all()
    costs = distances.pairs(np.arange(60)[:, None], near)
    assert (np.diff(costs, axis=1) >= 0).all()


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
    ):
        assert instance.violations(routes) == []


def test_split_is_optimal_for_its_order():
    """Against all ways to cut an order of eight customers."""
    instance = CVRP.generate(8, seed=3, capacity=15)
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
    assert instance.objective(split(instance, order)) == pytest.approx(best)


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


def test_hilbert_neighbours_touch():
    """On a full grid, consecutive cells share a side."""
    grid = np.stack(np.meshgrid(np.arange(32), np.arange(32)), -1).reshape(-1, 2).astype(float)
    path = grid[hilbert_order(grid, bits=5)]
    assert np.abs(np.diff(path, axis=0)).sum(1).max() == 1


@pytest.mark.parametrize("name", ["nearest-neighbor", "greedy", "savings", "space-filling-curve"])
def test_as_solvers(name):
    """Registered, checked, and never worse than a given start."""
    solver = solvers.load(name)()
    for instance in (TSP.generate(30, seed=1), CVRP.generate(30, seed=1)):
        if solver.supports(instance) is None:
            first = solver.solve(instance, Budget())
            again = solver.solve(instance, Budget(), start=first.solution)
            assert again.objective == first.objective
            assert again.trajectory[0].by == "start"
