"""The core: distances, instances, checks, batches, budgets, results."""

import dataclasses
import itertools
import json
import math
import os
import pickle
import signal
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.instances import core
from nco.instances.atsp import ATSP
from nco.instances.core import (
    METRICS,
    Batch,
    Budget,
    CheckError,
    Distances,
    Event,
    InputError,
    Result,
    Sense,
    Status,
    Stop,
    Tracker,
    better,
    close,
)
from nco.instances.cvrp import CVRP
from nco.instances.knapsack import Knapsack, dantzig_bound
from nco.instances.mip import MIP
from nco.instances.mis import MIS
from nco.instances.mtsp import MTSP
from nco.instances.pctsp import PCTSP
from nco.instances.tsp import TSP

# -------------------------------------------------------------------------- distances

PI = 3.141592


def geo(a, b):
    """TSPLIB's formula with scalars; degrees truncated."""

    def radians(x):
        degrees = math.trunc(x)
        return PI * (degrees + 5.0 * (x - degrees) / 3.0) / 180.0

    (lat1, lon1), (lat2, lon2) = map(radians, a), map(radians, b)
    q1, q2, q3 = math.cos(lon1 - lon2), math.cos(lat1 - lat2), math.cos(lat1 + lat2)
    inner = min(1.0, max(-1.0, 0.5 * ((1.0 + q1) * q2 - (1.0 - q1) * q3)))
    return int(6378.388 * math.acos(inner) + 1.0)


def nint(x):
    return math.floor(x + 0.5)


def att(a, b):
    r = math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / 10.0)
    return nint(r) + 1 if nint(r) < r else nint(r)


def xray(sx, sy, sz):
    def distance(a, b):
        d = [abs(x - y) for x, y in zip(a, b, strict=True)]
        return nint(100 * max(min(d[0], abs(d[0] - 360)) / sx, d[1] / sy, d[2] / sz))

    return distance


SCALAR = {
    "exact": math.dist,
    "EUC_2D": lambda a, b: nint(math.dist(a, b)),
    "EUC_3D": lambda a, b: nint(math.dist(a, b)),
    "MAX_2D": lambda a, b: max(nint(abs(x - y)) for x, y in zip(a, b, strict=True)),
    "MAX_3D": lambda a, b: max(nint(abs(x - y)) for x, y in zip(a, b, strict=True)),
    "MAN_2D": lambda a, b: nint(sum(abs(x - y) for x, y in zip(a, b, strict=True))),
    "MAN_3D": lambda a, b: nint(sum(abs(x - y) for x, y in zip(a, b, strict=True))),
    "CEIL_2D": lambda a, b: math.ceil(math.dist(a, b)),
    "GEO": geo,
    "ATT": att,
    "XRAY1": xray(1.0, 1.0, 1.0),
    "XRAY2": xray(1.25, 1.5, 1.15),
}


@pytest.mark.parametrize("metric", METRICS)
def test_distances_can_be_pickled(metric):
    coords = np.random.default_rng(0).uniform(0, 90, (5, METRICS[metric][1]))
    distances = Distances(coords=coords, metric=metric)
    full = distances.matrix
    again = pickle.loads(pickle.dumps(distances))
    assert (again.matrix == full).all()
    assert not again.matrix.flags.writeable
    assert (again.metric, again.integral) == (metric, distances.integral)


@pytest.mark.parametrize("metric", METRICS)
def test_metrics(metric):
    """Scalar formulas, and the three ways to ask agree."""
    dimension, integral = METRICS[metric][1:]
    coords = np.round(np.random.default_rng(1).uniform(-80, 80, (12, dimension)), 2)
    coords[1] = coords[0]
    distances = Distances(coords=coords, metric=metric)
    for i, j in itertools.product(range(12), repeat=2):
        expected = SCALAR[metric](coords[i].tolist(), coords[j].tolist()) if i != j else 0
        assert distances.pairs(i, j) == pytest.approx(expected, abs=0 if integral else 1e-12)
    assert (distances.matrix == [distances.row(i) for i in range(12)]).all()
    i, j = np.meshgrid(range(12), range(12), indexing="ij")
    assert (distances.matrix == distances.pairs(i, j)).all()
    assert distances.symmetric
    assert distances.integral == integral
    assert isinstance(distances.tour_length([0, 1, 2]), int if integral else float)


def test_known_optimum_of_a_geo_file(shared_data):
    """The diagonal of GEO is zero although coinciding nodes are 1 apart."""
    from nco.instances import io

    instance = io.read(shared_data / "routing" / "lib" / "gr202.tsp")
    assert instance.distances.pairs(3, 3) == 0
    assert (np.diag(instance.distances.matrix) == 0).all()


def test_distances_of_a_matrix():
    """Rows and pairs as given; integral and symmetric are found out."""
    matrix = np.array([[0, 1, 2], [3, 0, 4], [5, 6, 0]])
    distances = Distances(matrix=matrix)
    assert (distances.matrix == matrix).all()
    assert distances.row(1).tolist() == [3, 0, 4]
    assert distances.tour_length([0, 1, 2]) == 1 + 4 + 5
    assert distances.path_length([2, 1, 0]) == 6 + 3
    assert (distances.symmetric, distances.integral, distances.explicit) == (False, True, True)
    assert not Distances(matrix=matrix / 2).integral
    assert distances.path_length([1]) == 0


def test_large_instances_have_no_matrix():
    """Above the limit only rows and pairs."""
    distances = Distances(coords=np.zeros((core.MAX_MATRIX_NODES + 1, 2)))
    with pytest.raises(ValueError, match="too many nodes for a distance matrix"):
        _ = distances.matrix
    assert distances.row(0).shape == (core.MAX_MATRIX_NODES + 1,)


def test_bad_distances():
    """Neither, both, or an unknown metric."""
    for arguments in ({}, {"coords": np.zeros((2, 2)), "matrix": np.zeros((2, 2))}):
        with pytest.raises(ValueError, match="not both"):
            Distances(**arguments)
    with pytest.raises(ValueError, match="known: exact"):
        Distances(coords=np.zeros((2, 2)), metric="FOO")


def test_the_diagonal_of_a_matrix_is_never_travelled():
    matrix = np.array([[9.5, 1.0, 2.0], [1.0, 7.0, 3.0], [2.0, 3.0, 5.0]])
    fields = {"prizes": [0, 1, 1], "penalties": [0, 2, 2], "min_prize": 0}
    instance = PCTSP(matrix=matrix, **fields)
    assert instance.objective([]) == 4
    assert instance.digest == PCTSP(matrix=matrix - np.diag(np.diag(matrix)), **fields).digest
    assert not instance.matrix.flags.writeable
    assert matrix[0, 0] == 9.5


@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=60))
def test_float_lengths_do_not_depend_on_rotation(values):
    """Sums are exact before they are rounded once."""
    coords = np.array(values[: len(values) // 2 * 2]).reshape(-1, 2)
    distances = Distances(coords=coords)
    tour = np.random.default_rng(0).permutation(len(coords))
    lengths = {distances.tour_length(np.roll(tour, k)) for k in range(len(tour))}
    assert len(lengths) == 1
    assert distances.tour_length(tour[::-1]) in lengths


# --------------------------------------------------- problems against plain definitions


@st.composite
def spaces(draw, nodes):
    """Keyword arguments of a small spatial instance."""
    kind = draw(st.sampled_from(["exact", "EUC_2D", "matrix", "asymmetric"]))
    seed = draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    if kind in ("exact", "EUC_2D"):
        return {"coords": rng.uniform(0, 20, (nodes, 2)), "metric": kind}
    matrix = rng.integers(1, 50, (nodes, nodes))
    if kind == "matrix":
        matrix = matrix + matrix.T
    np.fill_diagonal(matrix, 0)
    return {"matrix": matrix}


def cost(instance, i, j):
    """Cost of one arc, without the class under test."""
    if instance.matrix is not None:
        return float(instance.matrix[i, j])
    length = math.dist(instance.coords[i], instance.coords[j])
    return length if instance.metric == "exact" else nint(length)


@given(st.data())
def test_tsp(data):
    """Objective, canonical form and check of tours."""
    n = data.draw(st.integers(1, 6))
    space = data.draw(spaces(n))
    cls = ATSP if "matrix" in space and data.draw(st.booleans()) else TSP
    instance = cls(**space)
    tour = data.draw(st.permutations(range(n)))
    legs = zip(tour, [*tour[1:], tour[0]], strict=True)
    expected = math.fsum(cost(instance, i, j) for i, j in legs)
    assert instance.objective(tour) == pytest.approx(expected, rel=1e-12)
    assert instance.violations(tour) == []
    canonical = instance.canonical(tour)
    assert instance.canonical(canonical) == canonical
    assert canonical[0] == 0
    assert instance.objective(canonical) == instance.objective(tour)
    shift = data.draw(st.integers(0, n - 1))
    assert instance.canonical(tour[shift:] + tour[:shift]) == canonical
    if instance.distances.symmetric:
        assert instance.canonical(tour[::-1]) == canonical


@given(st.data())
def test_broken_tours(data):
    """Missing, repeated and unknown nodes are named."""
    n = data.draw(st.integers(2, 7))
    instance = TSP.generate(n, seed=1)
    tour = data.draw(st.permutations(range(n)))
    k = data.draw(st.integers(0, n - 1))
    node = tour[k]
    assert instance.violations(tour[:k] + tour[k + 1 :]) == [f"node {node} is missing"]
    assert instance.violations([*tour, node]) == [f"node {node} is visited 2 times"]
    for stranger in (n, -1, 2**62):
        problems = instance.violations([*tour[:k], stranger, *tour[k + 1 :]])
        assert problems == [
            f"node {stranger} does not exist (known: 0..{n - 1})",
            f"node {node} is missing",
        ]
    for nonsense in ([[*tour]], ["a"], [*tour[:-1], 0.5]):
        assert instance.violations(nonsense) == ["a solution holds indices of nodes only"]


@st.composite
def plans(draw):
    """A CVRP and one feasible plan of it."""
    n = draw(st.integers(1, 6))
    space = draw(spaces(n + 1))
    scale = draw(st.sampled_from([1, 0.1]))
    demands = np.array([0, *draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))]) * scale
    instance = CVRP(**space, demands=demands, capacity=max(9, draw(st.integers(9, 20))) * scale)
    routes, load = [[]], 0.0
    for k in draw(st.permutations(range(1, n + 1))):
        if load + demands[k] > instance.capacity or draw(st.integers(0, 3)) == 0:
            routes.append([])
            load = 0.0
        routes[-1].append(k)
        load += demands[k]
    return instance, routes


@given(plans(), st.randoms(use_true_random=False))
def test_cvrp(plan, random):
    """Objective, canonical form and check of routes."""
    instance, routes = plan
    expected = math.fsum(
        cost(instance, i, j)
        for route in routes
        for i, j in itertools.pairwise([0, *route, 0])
        if route
    )
    assert instance.objective(routes) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert instance.violations(routes) == []
    canonical = instance.canonical(routes)
    assert instance.canonical(canonical) == canonical
    assert all(canonical)
    assert instance.objective(canonical) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    other = [route for route in routes if route] + [[]]
    random.shuffle(other)
    if instance.distances.symmetric:
        other = [route[::-1] if random.random() < 0.5 else route for route in other]
    assert instance.canonical(other) == canonical


@given(plans(), st.data())
def test_broken_routes(plan, data):
    """Missing, repeated, unknown customers; loads, lengths and vehicles beyond the limit."""
    instance, routes = plan
    customer = data.draw(st.integers(1, instance.n))
    without = [[k for k in route if k != customer] for route in routes]
    assert instance.violations(without) == [f"customer {customer} is missing"]
    assert instance.violations([*routes, [customer]]) == [f"customer {customer} is visited 2 times"]
    for stranger in (0, instance.n + 1):
        assert instance.violations([*routes, [stranger]])[0].startswith(
            f"customer {stranger} does not exist"
        )
    if instance.n > 1 and instance.integral_demands:
        giant = [list(range(1, instance.n + 1))]
        load = int(instance.demands.sum())
        tight = instance.replace(capacity=max(load - 1, int(instance.demands.max())))
        over = [f"route 1: load {load} > capacity {tight.capacity}"]
        assert tight.violations(giant) == (over if load > tight.capacity else [])
    used = sum(1 for route in routes if route)
    assert instance.replace(vehicles=used).violations(routes) == []
    if used > 1:
        few = instance.replace(vehicles=used - 1)
        assert few.violations(routes) == [f"{used} routes > {used - 1} vehicles"]
    longest = max(instance.route_length(r) + 2 * len(r) for r in routes if r)
    limited = instance.replace(service_time=2, max_distance=longest)
    assert limited.violations(routes) == []
    if longest > 2:
        shorter = instance.replace(service_time=2, max_distance=longest - 1)
        assert any("distance limit" in text for text in shorter.violations(routes))


@given(
    items=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=8),
    capacity=st.integers(0, 60),
    scale=st.sampled_from([1, 0.25]),
)
def test_knapsack(items, capacity, scale):
    """Every subset: value, weight, check; Dantzig's bound holds."""
    values, weights = (np.array(column) * scale for column in zip(*items, strict=True))
    instance = Knapsack(values=values, weights=weights, capacity=capacity * scale)
    best = 0.0
    for size in range(len(items) + 1):
        for subset in itertools.combinations(range(len(items)), size):
            chosen = list(subset)
            value, weight = values[chosen].sum(), weights[chosen].sum()
            assert instance.objective(chosen) == value
            assert (instance.violations(chosen) == []) == (weight <= capacity * scale)
            assert instance.canonical(chosen[::-1]) == chosen
            if weight <= capacity * scale:
                best = max(best, value)
    assert dantzig_bound(instance) >= best
    assert instance.violations([0, 0]) == ["item 0 is chosen 2 times"]
    assert "does not exist" in instance.violations([len(items)])[0]
    assert "does not exist" in instance.violations([-1])[0]


@given(st.data())
def test_independent_sets(data):
    """Every subset of a small graph."""
    n = data.draw(st.integers(1, 6))
    pairs = data.draw(st.sets(st.sampled_from([*itertools.combinations(range(6), 2)])))
    edges = [(i, j) for i, j in pairs if j < n]
    weights = data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))
    graph = MIS(edges=np.array(edges + [(j, i) for i, j in edges]).reshape(-1, 2), weights=weights)
    assert len(graph.edges) == len(edges)
    for size in range(n + 1):
        for subset in itertools.combinations(range(n), size):
            fine = not any(i in subset and j in subset for i, j in edges)
            assert (graph.violations(list(subset)) == []) == fine
            assert graph.objective(list(subset)) == sum(weights[k] for k in subset)


# --------------------------------------------------------------------------- instances

BAD_INSTANCES = [
    (lambda: TSP(), "neither coords nor matrix"),
    (lambda: TSP(coords=np.zeros((0, 2))), "has no nodes"),
    (lambda: TSP(coords=[[0, np.nan]]), r"coords\[0, 1\] = nan is not a finite number"),
    (lambda: TSP(coords=[[0, 1, 2]]), "3 columns, expected 2"),
    (lambda: TSP(coords=[0, 1]), "1 dimensions, expected 2"),
    (lambda: TSP(coords=[["a", "b"]]), "not a numeric array"),
    (lambda: TSP(coords=[[1e13, 0]]), "scale them down"),
    (lambda: TSP(coords=[[0, 0]], metric="FOO"), "known: exact"),
    (lambda: TSP(coords=[[0, 0]], matrix=[[0, 1], [1, 0]]), "1 coords but a matrix of 2"),
    (lambda: TSP(matrix=[[0, 1]]), "1 x 2, not square"),
    (lambda: TSP(matrix=[[0, -1], [1, 0]]), r"matrix\[0, 1\] = -1 < 0"),
    (lambda: TSP(matrix=[[0, 1e13], [1, 0]]), "scale them down"),
    (lambda: ATSP(matrix=None), "matrix missing"),
    (lambda: CVRP(coords=[[0, 0]], demands=[0], capacity=1), "has no customers"),
    (lambda: CVRP(coords=np.zeros((2, 2)), demands=[0], capacity=1), "1 demands for 2 nodes"),
    (lambda: CVRP(coords=np.zeros((2, 2)), demands=[1, 1], capacity=1), "the depot's demand is 1"),
    (lambda: CVRP(coords=np.zeros((2, 2)), demands=[0, -1], capacity=1), "demand -1 < 0"),
    (lambda: CVRP(coords=np.zeros((2, 2)), demands=[0, 2], capacity=1), "demand 2 > capacity 1"),
    (lambda: CVRP(coords=np.zeros((2, 2)), demands=[0, 1], capacity=-1), "capacity = -1"),
    (lambda: CVRP(coords=np.zeros((2, 2)), demands=[0, 1], capacity=math.nan), "capacity = nan"),
    (
        lambda: CVRP(coords=np.zeros((2, 2)), demands=[0, 1], capacity=1, max_distance=math.inf),
        "max_distance = inf",
    ),
    (lambda: CVRP(coords=np.zeros((2, 2)), demands=[0, 1], capacity=1, vehicles=0), "vehicles = 0"),
    (
        lambda: CVRP(coords=np.zeros((3, 2)), demands=[0, 2**53, 2**53], capacity=2**60),
        "add up to more",
    ),
    (lambda: Knapsack(values=[], weights=[], capacity=1), "has no items"),
    (lambda: Knapsack(values=[1], weights=[1, 2], capacity=1), "1 values for 2 weights"),
    (lambda: Knapsack(values=[-1], weights=[1], capacity=1), "item 0: value -1 < 0"),
    (lambda: Knapsack(values=[1], weights=[1], capacity=math.inf), "capacity = inf"),
    (lambda: Knapsack(values=[2**62] * 4, weights=[1] * 4, capacity=1), "add up to more"),
    (lambda: MIS(edges=[[0, 0]], weights=[1]), "adjacent to itself"),
    (lambda: MIS(edges=[[0, 1]], weights=[1]), "nodes are 0..0"),
    (lambda: MIS(edges=[[0, 1]], weights=[1, 1], labels=[5, 5]), "labels are not increasing"),
]


@pytest.mark.parametrize(("make", "what"), BAD_INSTANCES)
def test_bad_instances(make, what):
    """Refused when they are made, with a reason."""
    with pytest.raises(ValueError, match=what):
        make()


def test_instances_are_read_only():
    """Neither fields nor arrays can be changed, and the caller's array is not shared."""
    coords = np.zeros((3, 2))
    instance = TSP(coords=coords)
    with pytest.raises(dataclasses.FrozenInstanceError):
        instance.coords = coords
    with pytest.raises(ValueError, match="read-only"):
        instance.coords[0, 0] = 1
    coords[0, 0] = 7
    assert instance.coords[0, 0] == 0


def test_digest_is_identity():
    """Of the numbers only: not of types, names, labels or references."""
    a = CVRP(coords=[[0, 0], [1, 1]], demands=[0, 1], capacity=5, max_distance=9, name="a")
    b = CVRP(
        coords=np.array([[0, 0], [1, 1]], dtype=np.float32), demands=np.array([0.0, 1.0]),
        capacity=np.float64(5), max_distance=9.0, service_time=0, name="b", ref_cost=1.0,
    )  # fmt: skip
    assert a.digest == b.digest
    assert a.digest != a.replace(capacity=6).digest
    assert a.digest != a.replace(metric="EUC_2D").digest
    assert TSP(matrix=[[0, 1], [1, 0]]).digest != ATSP(matrix=[[0, 1], [1, 0]]).digest
    matrix = TSP(matrix=[[0, 1], [1, 0]], metric="EUC_2D")
    assert matrix.digest == TSP(matrix=[[0, 1], [1, 0]]).digest
    graph = MIS(edges=[[0, 1]], weights=[1, 1])
    assert graph.digest == graph.replace(labels=[3, 4]).digest


def test_integers_stay_exact():
    """Objectives beyond 2^53 would lose a unit as floats."""
    big = 2**60
    knapsack = Knapsack(values=[big, 1], weights=[1, 1], capacity=2)
    assert knapsack.objective([0, 1]) == big + 1
    graph = MIS(edges=np.zeros((0, 2)), weights=[big, 1])
    assert graph.objective([0, 1]) == big + 1


def test_batch():
    """Indexing, slices, vectorised objectives, shared scalars, references."""
    instances = [TSP.generate(6, seed=k).replace(ref_cost=float(k)) for k in range(5)]
    batch = Batch.of(instances, name="b")
    assert [i.digest for i in batch] == [i.digest for i in instances]
    assert [i.digest for i in batch[1:4:2]] == [instances[1].digest, instances[3].digest]
    assert batch[-1].ref_cost == 4.0
    assert batch[2].name == "b[2]"
    tours = [np.random.default_rng(k).permutation(6).tolist() for k in range(5)]
    single = [i.objective(t) for i, t in zip(instances, tours, strict=True)]
    assert batch.objective(tours) == pytest.approx(single, rel=1e-12)
    assert batch.violations(tours) == [[]] * 5
    with pytest.raises(IndexError):
        batch[5]
    for bad in ([], [instances[0], TSP.generate(7, seed=1)],
                [instances[0], ATSP.generate(6, seed=1)]):  # fmt: skip
        with pytest.raises(ValueError, match="a batch"):
            Batch.of(bad)
    with pytest.raises(ValueError, match="unequal lengths"):
        Batch(TSP, {"coords": np.zeros((2, 3, 2))}, ref_cost=np.zeros(3))
    with pytest.raises(ValueError, match="at least one array"):
        Batch(TSP, {"metric": "exact"})


# --------------------------------------------------------------------- budgets, results


def test_budget_limits():
    """Reasons to stop, in order."""
    assert Budget().done() is None
    assert Budget(time_limit=0).done() is Stop.TIME
    assert Budget(iterations=3).done(3) is Stop.ITERATIONS
    assert Budget(iterations=3).done(2) is None
    assert Budget(target=10).done(objective=10) is Stop.TARGET
    assert Budget(target=10).done(objective=11) is None
    assert Budget(target=10).done(objective=11, sense=Sense.MAXIMIZE) is Stop.TARGET
    assert Budget(gap=0.1).done(objective=11, bound=10) is Stop.GAP
    assert Budget(gap=0.1).done(objective=12, bound=10) is None
    assert Budget(time_limit=math.inf).left() == math.inf
    for bad in ({"time_limit": -1}, {"gap": math.nan}, {"iterations": -1}, {"target": math.nan}):
        with pytest.raises(ValueError, match="not understood"):
            Budget(**bad)


def test_a_budget_is_spent_when_time_is_up_or_it_is_interrupted():
    assert Budget(0).spent()
    assert Budget(0, iterations=3).spent()
    for budget in (Budget(), Budget(1000), Budget(iterations=0, target=0)):
        assert not budget.spent()
        budget.interrupt()
        assert budget.spent()


def test_budgets_are_interrupted_together():
    """Whatever was derived from one budget stops with it."""
    budget = Budget(time_limit=100)
    derived = [budget.share(0.5), budget.child(iterations=3), budget.reserve(1)]
    assert derived[0].left() <= 50
    assert derived[2].left() <= 99
    budget.interrupt()
    assert all(b.done() is Stop.INTERRUPTED for b in [budget, *derived])
    assert budget.wait(100)


def test_first_interrupt_is_a_request():
    """The second one is Python's own; the handler is restored."""
    budget = Budget()
    before = signal.getsignal(signal.SIGINT)
    with budget.catch_interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        assert budget.wait(5)

        def again():
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(5)

        with pytest.raises(KeyboardInterrupt):
            again()
    assert signal.getsignal(signal.SIGINT) is before
    results = []
    thread = threading.Thread(
        target=lambda: results.append(Budget().catch_interrupt().__enter__().done())
    )
    thread.start()
    thread.join()
    assert results == [None]


def test_a_constant_makes_no_bound_meet_the_objective():
    mip = MIP(c=[1, 1], A=[[2, 1]], row_lower=[3], upper=[5, 5], integrality=[1, 1], offset=1e10)
    solution = {"x0": 5, "x1": 5}
    fields = {"solver": "any", "seconds": 0.0, "stopped": Stop.TIME}
    result = Result.of(mip, solution, bound=1e10 + 2, **fields)
    assert (result.status, result.bound) == (Status.FEASIBLE, 1e10 + 2)
    assert result.gap == pytest.approx(8e-10)
    assert Result.of(mip, solution, bound=1e10 + 10, **fields).status is Status.OPTIMAL
    with pytest.raises(CheckError, match="beyond"):
        Result.of(mip, solution, bound=1e10 + 11, **fields)
    # Rounded to what a float near the constant can be.
    half = mip.replace(integrality=[0, 0])
    status = {below: Result.of(half, solution, bound=1e10 + 10 - below, **fields).status
              for below in (0.5, 2e-6)}  # fmt: skip
    assert status == {0.5: Status.FEASIBLE, 2e-6: Status.OPTIMAL}


def test_gaps():
    """SCIP's gap, the signed reference gap, Berthold's primal gap."""
    assert core.relative_gap(11, 10) == pytest.approx(0.1)
    assert core.relative_gap(10, 11) == pytest.approx(0.1)
    assert core.relative_gap(5, 5) == 0
    assert core.relative_gap(0, 0) == 0
    assert core.relative_gap(1, 0) is None
    assert core.relative_gap(1, -1) is None
    assert core.relative_gap(1, math.inf) is None
    assert core.reference_gap(102, 100, Sense.MINIMIZE) == pytest.approx(2)
    assert core.reference_gap(98, 100, Sense.MAXIMIZE) == pytest.approx(2)
    assert core.reference_gap(-98, -100, Sense.MINIMIZE) == pytest.approx(2)
    assert core.reference_gap(98, 0, Sense.MINIMIZE) is None
    assert core.primal_gap(None, 5) == 1
    assert core.primal_gap(5, 5) == 0
    assert core.primal_gap(-5, 5) == 1
    assert core.primal_gap(10, 5) == 0.5
    assert better(1, 2)
    assert better(2, 1, Sense.MAXIMIZE)
    assert not better(1, 1)


def make(solution=(0, 1, 2), **changes):
    instance = TSP(coords=[[0, 0], [3, 0], [3, 4]], name="t", ref_cost=10.0)
    arguments = {"solver": "s", "seconds": 1.0, "stopped": Stop.FINISHED, **changes}
    return Result.of(instance, None if solution is None else list(solution), **arguments)


def test_result():
    """Recomputed, canonical, with certified and reference gap."""
    result = make((2, 0, 1), bound=11)
    assert (result.objective, result.solution, result.status) == (12, [0, 1, 2], Status.FEASIBLE)
    assert result.gap == pytest.approx(1 / 11)
    assert result.ref_gap == pytest.approx(20)
    assert make(bound=12.0).status is Status.OPTIMAL
    assert make(status=Status.OPTIMAL).bound == 12
    assert make(bound=-math.inf).bound is None
    nothing = make(None)
    assert (nothing.status, nothing.objective, nothing.gap) == (Status.UNKNOWN, None, None)
    assert make(None, status=Status.INFEASIBLE).status is Status.INFEASIBLE


@pytest.mark.parametrize(
    ("solution", "changes", "what"),
    [
        ((0, 1, 1), {}, "infeasible solution: node 1 is visited 2 times"),
        ((0, 1, 2), {"claimed": 13}, "claims objective 13, recomputed 12"),
        ((0, 1, 2), {"bound": 13}, "claims bound 13, beyond objective 12"),
        ((0, 1, 2), {"status": Status.INFEASIBLE}, "but returned a solution"),
        (None, {"status": Status.OPTIMAL}, "without a solution"),
    ],
)
def test_wrong_claims(solution, changes, what):
    """A solver cannot lie."""
    with pytest.raises(CheckError, match=what):
        make(solution, **changes)


def test_result_json():
    """There and back, without NaN."""
    events = [Event(0.5, 13.0, None, "x"), Event(0.7, 12.0, 11.0, "y")]
    result = make(bound=11, trajectory=events, extra={"a": np.float64(1), "b": math.nan})
    text = result.to_json()
    assert "NaN" not in text
    again = Result.from_json(text)
    assert again.to_json() == text
    assert again.trajectory == tuple(events)
    assert again.status is Status.FEASIBLE
    for bad in ('{"solver": 1}', "{}"):
        with pytest.raises(ValueError, match="not a result"):
            Result.from_json(bad)
    assert json.loads(text)["extra"] == {"a": 1.0, "b": None}


def test_tracker():
    """Only improvements count, objectives are recomputed, listeners hear of them."""
    heard = []
    instance = TSP(coords=[[0, 0], [3, 0], [3, 4], [0, 4]])
    tracker = Tracker(instance, Budget(), solver="s", on_event=heard.append)
    assert tracker.offer([0, 2, 1, 3])
    assert tracker.offer([0, 1, 2, 3])
    assert not tracker.offer([0, 2, 1, 3])
    assert tracker.offer_bound(10)
    assert not tracker.offer_bound(9)
    assert not tracker.offer_bound(math.inf)
    assert [e.objective for e in heard] == [18, 14, 14]
    assert tracker.done() is None
    result = tracker.result(Stop.FINISHED)
    assert (result.objective, result.bound, len(result.trajectory)) == (14, 10, 3)


def test_tracker_of_what_nothing_can_beat():
    """A solution that is known to be optimal is the end, whatever the budget still allows."""
    mtsp = MTSP(coords=[[0, 0], [3, 4], [1, 0]], salesmen=2)
    tracker = Tracker(mtsp, Budget(), solver="s")
    tracker.offer([[1, 2]])
    assert tracker.done() is None
    tracker.offer([[1], [2]])
    assert tracker.done() is tracker.done(0, Budget(time_limit=0.0)) is Stop.PROVED
    tracker.budget.interrupt()
    assert tracker.done() is Stop.INTERRUPTED
    assert tracker.result(Stop.PROVED).status is Status.OPTIMAL


def test_input_errors():
    """One line, and they survive a process pool."""
    error = InputError("a.tsp", 7, "bad\n number", "mend  it")
    assert str(error) == "a.tsp:7: bad number (mend it)"
    assert str(InputError(None, None, "bad")) == "bad"
    assert str(InputError("a", None, "bad")) == "a: bad"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.line, again.hint) == (str(error), 7, "mend it")


def test_seeds_depend_on_the_instance():
    """And on nothing else, so that jobs do not change results."""
    a, b = TSP.generate(5, seed=1), TSP.generate(5, seed=2)
    assert core.spawn_seed(1, a.digest) == core.spawn_seed(1, a.digest)
    assert len({core.spawn_seed(s, i.digest) for s in (1, 2) for i in (a, b)}) == 4


@settings(max_examples=30)
@given(
    st.recursive(
        st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.booleans()),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    )
)
def test_plain(value):
    """Always JSON, never NaN."""
    json.dumps(core.plain(value), allow_nan=False)
    assert core.plain({"a": np.arange(2), "b": (np.int8(1), np.nan), "c": Sense.MINIMIZE}) == {
        "a": [0, 1], "b": [1, None], "c": "minimize",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "agree"),
    [
        (1.0, 1.0 + 1e-7, True), (1e9, 1e9 + 1, True), (1.0, 1.1, False), (5.0, math.inf, False),
        (math.inf, math.inf, True), (-math.inf, math.inf, False), (5.0, math.nan, False),
    ],
)  # fmt: skip
def test_objectives_that_agree(a, b, agree):
    assert close(a, b, 1e-6) is close(b, a, 1e-6) is agree
