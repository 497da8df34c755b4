"""Tables for routing libraries, made in time."""

import importlib
import logging

import numpy as np
import pytest

from nco.classical.views import EXACT, Tables, in_time
from nco.instances.core import Budget, Distances, Stop, Tracker
from nco.instances.cvrp import CVRP
from nco.instances.mtsp import MTSP
from nco.instances.ovrp import OVRP
from nco.instances.registry import problems, solvers
from nco.instances.tsp import TSP

RNG = np.random.default_rng(4)
POINTS = RNG.random((70, 2)) * 100
DEMANDS = np.r_[0, RNG.integers(1, 9, 69)]
INSTANCES = {
    "exact": TSP(coords=POINTS),
    "whole": TSP(coords=POINTS, metric="EUC_2D"),
    "decimals": TSP(matrix=np.round(RNG.random((70, 70)) * 9, 2) * (1 - np.eye(70))),
    "late decimals": TSP(matrix=np.repeat(np.r_[[4.0] * 50, [0.125] * 20], 70).reshape(70, 70)),
    "dear": TSP(coords=POINTS * 1e6, metric="CEIL_2D"),
    "fixed": TSP(coords=POINTS, fixed=[[0, 5], [5, 9]]),
    "free": TSP(matrix=np.zeros((3, 3))),
    "open": OVRP(coords=POINTS, demands=DEMANDS, capacity=40, max_distance=500.0),
    "limited": CVRP(coords=POINTS, demands=DEMANDS, capacity=40, max_distance=500.0),
    "longest": MTSP(coords=POINTS, salesmen=3),
}


@pytest.mark.parametrize("name", INSTANCES)
def test_tables_are_the_scaled_matrix(name):
    view = INSTANCES[name].to_routing()
    tables = Tables.of(view, 20_000)
    matrix = view.distances.matrix * (1 - np.eye(view.nodes))
    assert tables.top == matrix.max()
    whole = {"whole": 1.0, "decimals": 100.0, "late decimals": 1000.0, "dear": 1.0}.get(name)
    if whole is None or matrix.max() * whole > EXACT:
        whole = 20_000 / (matrix.max() or 20_000)
    assert tables.scale == whole
    assert (tables.costs == np.rint(matrix * whole)).all()
    if name in ("open", "limited", "longest"):
        assert (tables.times == np.ceil(matrix * whole - 1e-6)).all()
    else:
        assert tables.times is None


class Looks:
    """Says stop at the n-th look."""

    def __init__(self, n):
        self.left = n

    def __call__(self):
        self.left -= 1
        return self.left <= 0


@pytest.mark.parametrize("name", ["exact", "whole", "decimals", "fixed", "open"])
def test_tables_look_at_the_clock(name):
    """At the first look, in every pass over the costs, and not after the last one."""
    view = INSTANCES[name].replace().to_routing()
    count = Looks(10**9)
    view.distances.full_matrix()
    Tables.of(view, 20_000, count)
    looks = 10**9 - count.left
    assert looks >= 3
    for n in range(1, looks + 1):
        with pytest.raises(TimeoutError):
            Tables.of(view, 20_000, Looks(n))
    Tables.of(view, 20_000, Looks(looks + 1))


@pytest.mark.parametrize("name", ["exact", "open"])
def test_a_matrix_looks_at_the_clock_and_is_made_once(name):
    distances = INSTANCES[name].replace().distances
    for n in (1, 2, 3):
        with pytest.raises(TimeoutError):
            distances.full_matrix(Looks(n))
    matrix = distances.full_matrix()
    assert matrix is distances.matrix is distances.full_matrix(lambda: True)
    assert not matrix.flags.writeable
    assert (matrix == distances.pairs(np.arange(70)[:, None], np.arange(70))).all()


class Tight(Budget):
    """A millisecond is always left."""

    def left(self):
        return 1e-3


@pytest.mark.parametrize(
    ("name", "problem"),
    [("pyvrp", "tsp"), ("pyvrp", "cvrp"), ("ortools", "tsp"), ("ortools", "ovrp"),
     ("ruin-recreate", "tsp"), ("prize-tour", "op")],
)  # fmt: skip
def test_too_short_for_a_matrix_is_said_in_one_line(name, problem, caplog):
    """And there is a constructive solution."""
    if not solvers.entry(name).installed:
        pytest.skip("not installed")
    instance = problems.load(problem).generate(300, seed=1)
    with caplog.at_level(logging.WARNING, logger="nco"):
        result = solvers.load(name)().solve(instance, Tight(1000.0))
    (record,) = caplog.records
    assert record.getMessage() == (f"{name}: the time limit is too short for its matrix of n = 300")
    assert result.feasible
    assert result.stopped is Stop.TIME


def test_what_is_left_after_a_matrix_counts(caplog):
    """Made in time, but then there is no time for a search; nothing is said after Ctrl-C."""
    budget = Budget(1000.0)
    tracker = Tracker(TSP.generate(5, seed=1), budget, solver="some")
    assert in_time(lambda stop: "table", tracker, 10.0) == "table"

    def slow(stop):
        assert not stop()
        budget.time_limit = 5.0
        return "table"

    assert in_time(slow, tracker, 10.0) is None
    assert len(caplog.records) == 1
    budget.interrupt()
    assert in_time(slow, tracker, 10.0) is None
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("share", "some"), [(0.0, True), (1e9, False)])
def test_pyvrp_searches_exhaustively_only_while_there_is_time(monkeypatch, share, some):
    """Such a search cannot be stopped, and takes seconds for thousands of nodes."""
    pytest.importorskip("pyvrp")
    search = importlib.import_module("pyvrp.search.LocalSearch").LocalSearch
    plain, seen = search.__call__, []

    def call(self, *args, exhaustive=True, **options):
        seen.append(exhaustive)
        return plain(self, *args, exhaustive=exhaustive, **options)

    monkeypatch.setattr(search, "__call__", call)
    monkeypatch.setattr("nco.classical.pyvrp.EXHAUSTIVE", share)
    instance = CVRP.generate(40, seed=1)
    result = solvers.load("pyvrp")().solve(instance, Budget(1000.0, iterations=100))
    assert result.feasible
    assert len(seen) >= 100
    assert any(seen) == some


def test_supports_makes_no_matrix(monkeypatch):
    """Costs of tours with fixed edges take seconds where n is large."""
    monkeypatch.setattr(Distances, "_make", lambda self, stop: pytest.fail("a matrix is made"))
    instance = INSTANCES["fixed"].replace()
    for entry in solvers:
        if entry.installed:
            entry.load()().supports(instance)
    assert instance.search_distances._full is None


def test_tiny_costs_are_not_taken_for_zero():
    tables = Tables.of(TSP(coords=POINTS * 1e-12).to_routing(), 20_000)
    assert tables.costs.max() == 20_000
