"""The Held-Karp bound."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.classical.one_tree import bound, longest_bound, one_tree
from nco.instances.core import Budget, Distances
from nco.instances.mtsp import MTSP
from nco.instances.tsp import TSP


def best_tour(instance):
    return min(instance.objective([0, *p]) for p in itertools.permutations(range(1, instance.n)))


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 7), st.integers(0, 10_000), st.sampled_from(["exact", "EUC_2D", "ATT"]))
def test_never_above_the_optimum(n, seed, metric):
    """Against all tours; and close to it, as for such small instances it must be."""
    instance = TSP(coords=np.random.default_rng(seed).random((n, 2)) * 100, metric=metric)
    optimum = best_tour(instance)
    value = bound(instance, Budget(5.0))
    assert value <= optimum
    assert value >= 0.9 * optimum - 1


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 6), st.integers(0, 10_000))
def test_any_multipliers_are_valid(n, seed):
    """The 1-tree is the cheapest connected graph with one cycle through node 0."""
    rng = np.random.default_rng(seed)
    half = np.triu(rng.integers(0, 50, (n, n)), 1)
    matrix = half + half.T
    pi = rng.normal(0, 30, n)
    value, i, j = one_tree(Distances(matrix=matrix), pi)
    reduced = matrix + pi[:, None] + pi[None]
    trees = []
    for edges in itertools.combinations(itertools.combinations(range(1, n), 2), n - 2):
        color = list(range(n))
        for a, b in edges:
            color = [color[b] if c == color[a] else c for c in color]
        if len(set(color[1:])) == 1:
            trees.append(sum(reduced[a, b] for a, b in edges))
    expected = min(trees) + sum(sorted(reduced[0, 1:])[:2]) - 2 * pi.sum()
    assert value == pytest.approx(expected, abs=1e-9)
    assert reduced[i, j].sum() - 2 * pi.sum() == pytest.approx(value, abs=1e-9)
    assert value <= best_tour(TSP(matrix=matrix)) + 1e-9


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_rounding_is_on_the_safe_side(scale):
    """Where every tour has the same length, the bound may not pass it."""
    instance = TSP(coords=np.random.default_rng(1).random((3, 2)) * scale)
    value = bound(instance, Budget(1.0))
    assert value <= instance.objective([0, 1, 2])
    assert value == pytest.approx(instance.objective([0, 1, 2]), rel=1e-6)


def test_refuses_what_it_cannot_bound():
    """Asymmetric costs, fewer than three nodes, and too many."""
    assert bound(TSP(matrix=[[0, 1, 2], [2, 0, 1], [1, 2, 0]]), Budget(1.0)) is None
    assert bound(TSP(coords=np.zeros((2, 2))), Budget(1.0)) is None
    assert bound(TSP(coords=np.zeros((5001, 2))), Budget(1.0)) is None


def test_nodes_at_one_place():
    """Zero, and no endless ascent."""
    assert bound(TSP(coords=np.zeros((40, 2)), metric="EUC_2D"), Budget(60.0)) == 0


def test_used_up_budget_still_gives_a_bound():
    """The minimum 1-tree without an ascent."""
    instance = TSP.generate(300, seed=1)
    value = bound(instance, Budget(0.0))
    assert 0.5 * instance.objective(list(range(300))) > value > 8.0
    budget = Budget(5.0)
    budget.interrupt()
    assert bound(instance, budget) == value


@pytest.mark.parametrize(
    ("file", "optimum"), [("berlin52", 7542), ("gr202", 40160), ("lin318", 42029)]
)
def test_comes_close_on_real_files(shared_data, file, optimum):
    """Within 1.5 % of the optimum; roundings of processors differ by a tenth of that."""
    from nco.instances import io

    instance = io.read(shared_data / "routing" / "lib" / f"{file}.tsp")
    assert 0.985 * optimum <= bound(instance, Budget(60.0)) <= optimum


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 10_000))
def test_no_longest_tour_is_below_its_bound(n, salesmen, seed):
    """Against all ways to share the customers; with one salesman it is the tour's bound."""
    coords = np.random.default_rng(seed).random((n + 1, 2))
    instance = MTSP(coords=coords, salesmen=salesmen)
    best = np.inf
    for owner in itertools.product(range(salesmen), repeat=n):
        for order in itertools.permutations(range(1, n + 1)):
            routes = [[i for i in order if owner[i - 1] == m] for m in range(salesmen)]
            best = min(best, instance.objective([r for r in routes if r]))
    value = longest_bound(instance, Budget(5.0))
    far = 2.0 * np.linalg.norm(coords[1:] - coords[0], axis=1).max()
    assert far * (1 - 1e-9) <= value <= best
    if salesmen == 1 and n > 1:
        assert value >= bound(TSP(coords=coords), Budget(5.0)) * (1 - 1e-9)


def test_longest_tours_of_rounded_or_given_costs_have_no_bound():
    """Where ways round are shorter than straight ones, none of it holds."""
    coords = np.random.default_rng(1).random((6, 2)) * 100
    assert longest_bound(MTSP(coords=coords, salesmen=2, metric="EUC_2D"), Budget()) is None
    matrix = np.ones((4, 4)) - np.eye(4)
    matrix[0, 3] = matrix[3, 0] = 100
    assert longest_bound(MTSP(matrix=matrix, salesmen=2), Budget()) is None
