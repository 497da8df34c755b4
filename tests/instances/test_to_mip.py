"""MIP forms: the same optimum, encode and decode, groups, valid cuts."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.instances import packing
from nco.instances.atsp import ATSP
from nco.instances.core import Budget, Status
from nco.instances.cvrp import CVRP
from nco.instances.flow import ALL_ARCS
from nco.instances.knapsack import Knapsack
from nco.instances.mip import MIP
from nco.instances.mis import MIS
from nco.instances.packing import cliques
from nco.instances.tsp import TSP
from nco.mip.highs import HiGHS
from nco.mip.scip import SCIP


def random_tour(n, seed):
    return np.random.default_rng(seed).permutation(n).tolist()


def random_routes(instance, seed):
    routes, load = [[]], 0
    for k in np.random.default_rng(seed).permutation(np.arange(1, instance.nodes)).tolist():
        if load + instance.demands[k] > instance.capacity:
            routes.append([])
            load = 0
        routes[-1].append(k)
        load += instance.demands[k]
    return routes


def check_view(instance, solution):
    view = instance.to_mip(start=solution)
    x = view.encode(solution)
    assert view.mip.vector_violations(x) == []
    assert view.mip.value(x) == pytest.approx(instance.objective(solution))
    assert instance.canonical(view.decode(x)) == instance.canonical(solution)
    assert len(view.groups) == instance.nodes
    assert sorted(set(np.concatenate(view.groups).tolist())) == list(range(view.mip.n))
    return view, x


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9, 40, ALL_ARCS + 60])
def test_tsp_round_trip(n):
    instance = TSP.generate(n, seed=n)
    if n == 1:
        view = instance.to_mip()
        assert view.decode(view.encode([0])) == [0]
        return
    view, x = check_view(instance, random_tour(n, n))
    assert view.exact == (n <= ALL_ARCS)
    assert view.separate(x) is None


@pytest.mark.parametrize("n", [1, 2, 3, 30, ALL_ARCS + 60])
@pytest.mark.parametrize("extra", [{}, {"max_distance": 1000.0, "service_time": 0.1}])
def test_cvrp_round_trip(n, extra):
    instance = CVRP.generate(n, seed=n, **{"capacity": 50}).replace(**extra)
    view, x = check_view(instance, random_routes(instance, n))
    assert view.separate(x) is None


def test_a_view_without_start_is_feasible_above_the_limit():
    instance = TSP.generate(ALL_ARCS + 9, seed=1)
    view = instance.to_mip()
    assert view.mip.vector_violations(view.encode(list(range(instance.n)))) == []


def tour_optimum(instance):
    return min(instance.objective([0, *p]) for p in itertools.permutations(range(1, instance.n)))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6), st.sampled_from([SCIP, HiGHS]))
def test_tsp_optimum(n, seed, solver):
    matrix = np.random.default_rng(seed).integers(1, 50, (n, n))
    np.fill_diagonal(matrix, 0)
    instance = ATSP(matrix=matrix)
    result = solver().solve(instance, Budget(20))
    assert result.status is Status.OPTIMAL
    assert result.objective == tour_optimum(instance)


def cvrp_optimum(instance):
    best = math.inf
    n = instance.n
    for p in itertools.permutations(range(1, n + 1)):
        for cuts in itertools.product([False, True], repeat=n - 1):
            routes = [[p[0]]]
            for k, cut in zip(p[1:], cuts, strict=True):
                if cut:
                    routes.append([k])
                else:
                    routes[-1].append(k)
            if not instance.violations(routes):
                best = min(best, instance.objective(routes))
    return best


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    solver=st.sampled_from([SCIP, HiGHS]),
    vehicles=st.sampled_from([None, 2]),
    limit=st.sampled_from([None, 120.0, 300.0]),
    service=st.sampled_from([0.0, 7.0]),
    explicit=st.booleans(),
)
def test_cvrp_optimum(n, seed, solver, vehicles, limit, service, explicit):
    rng = np.random.default_rng(seed)
    shape = {"coords": rng.integers(0, 100, (n + 1, 2)), "metric": "EUC_2D"}
    if explicit:
        matrix = rng.integers(1, 60, (n + 1, n + 1))
        np.fill_diagonal(matrix, 0)
        shape = {"matrix": matrix}
    instance = CVRP(
        demands=np.r_[0, rng.integers(1, 8, n)],
        capacity=10,
        vehicles=vehicles,
        max_distance=limit,
        service_time=service,
        **shape,
    )
    best = cvrp_optimum(instance)
    result = solver().solve(instance, Budget(20))
    if math.isinf(best):
        assert result.status is Status.INFEASIBLE
    else:
        assert result.status is Status.OPTIMAL
        assert result.objective == best


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 8), st.integers(0, 10**6), st.sampled_from([SCIP, HiGHS]))
def test_mis_optimum(n, seed, solver):
    rng = np.random.default_rng(seed)
    pairs = [(i, j) for i in range(n) for j in range(i) if rng.random() < 0.5]
    instance = MIS(edges=np.array(pairs).reshape(-1, 2), weights=rng.integers(0, 9, n))
    subsets = [s for r in range(n + 1) for s in itertools.combinations(range(n), r)]
    best = max(instance.objective(s) for s in subsets if not instance.violations(s))
    result = solver().solve(instance, Budget(20))
    assert (result.status, result.objective) == (Status.OPTIMAL, best)
    assert instance.to_mip().decode(instance.to_mip().encode(result.solution)) == result.solution


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 12), st.integers(0, 10**6))
def test_cliques_cover_every_edge_and_nothing_else(n, seed):
    rng = np.random.default_rng(seed)
    edges = {(i, j) for j in range(n) for i in range(j) if rng.random() < 0.6}
    instance = MIS(edges=np.array(sorted(edges)).reshape(-1, 2), weights=np.ones(n))
    covered = {p for clique in cliques(instance) for p in itertools.combinations(clique, 2)}
    assert covered == edges


def test_cliques_of_a_dense_graph_stop_to_grow(monkeypatch):
    instance = MIS.generate(40, seed=1, p=0.8)
    full = cliques(instance)
    monkeypatch.setattr(packing, "MOST_CLIQUE_WORK", 5000)
    found = cliques(instance)
    assert found[0] == full[0]
    assert found[-1] == instance.edges[-1].tolist()
    covered = {p for clique in found for p in itertools.combinations(clique, 2)}
    assert covered == {tuple(edge) for edge in instance.edges.tolist()}


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 8), st.integers(0, 10**6), st.sampled_from([SCIP, HiGHS]))
def test_knapsack_optimum(n, seed, solver):
    rng = np.random.default_rng(seed)
    instance = Knapsack(
        values=rng.integers(0, 30, n), weights=rng.integers(0, 30, n), capacity=rng.integers(0, 99)
    )
    subsets = [s for r in range(n + 1) for s in itertools.combinations(range(n), r)]
    best = max(instance.objective(s) for s in subsets if not instance.violations(s))
    result = solver().solve(instance, Budget(20))
    assert (result.status, result.objective) == (Status.OPTIMAL, best)


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 8), st.integers(0, 10**6))
def test_subtour_rows_are_valid_and_cut_off(n, seed):
    rng = np.random.default_rng(seed)
    instance = TSP.generate(n, seed=seed)
    view = instance.to_mip()
    # Two cycles that leave nodes 0.. and ..n - 1 apart.
    order = rng.permutation(n)
    cut = int(rng.integers(2, n - 1))
    x = np.zeros(view.mip.n)
    for part in (order[:cut], order[cut:]):
        for i, j in zip(part, np.roll(part, -1), strict=True):
            if i != j:
                x[view.mip.index[f"x_{i}_{j}"]] = 1.0
    A, low, high = view.separate(x)
    assert (A @ x < low - 0.5).any()
    for seed in range(20):
        y = view.encode(random_tour(n, seed))
        assert (A @ y >= low).all()
        assert (A @ y <= high).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 12), st.integers(0, 10**6))
def test_capacity_rows_are_valid(n, seed):
    rng = np.random.default_rng(seed)
    instance = CVRP.generate(n, seed=seed, capacity=20)
    view = instance.to_mip()
    cuts = []
    for _ in range(5):
        x = np.where(rng.random(view.mip.n) < 2 / n, rng.random(view.mip.n), 0.0)
        cut = view.separate(x)
        if cut is not None:
            assert (cut[0] @ x < cut[1]).all()
            cuts.append(cut)
    assert cuts
    for seed in range(10):
        y = view.encode(random_routes(instance, seed))
        for A, low, _ in cuts:
            assert (A @ y >= low).all()


@pytest.mark.parametrize("solver", [SCIP, HiGHS])
def test_a_sparse_view_proves_nothing(solver):
    instance = TSP.generate(ALL_ARCS + 5, seed=2)
    start = list(range(instance.n))
    result = solver().solve(instance, Budget(3), start=start)
    assert result.bound is None
    assert result.status is Status.FEASIBLE
    assert result.objective <= instance.objective(start)


def test_mip_is_its_own_view():
    mip = MIP(c=[1.0, 2.0], A=[[1.0, 1.0]], row_lower=[1.0])
    view = mip.to_mip()
    assert view.mip is mip
    assert view.decode(view.encode({"x1": 2.0})) == {"x1": 2.0}
