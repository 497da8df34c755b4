"""Tabu search and KaMIS on independent sets."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nco.classical import mis_kernels
from nco.classical.cp_sat import CPSAT
from nco.classical.mis_tabu import MISTabu
from nco.instances.core import Budget, Stop
from nco.instances.knapsack import Knapsack
from nco.instances.mis import MIS
from nco.instances.registry import solvers


def make(name):
    entry = solvers.entry(name)
    if not entry.installed:
        pytest.skip(f"{entry.requires} is not installed")
    return entry.load()()


@pytest.fixture(scope="module", autouse=True)
def kernels():
    mis_kernels.compile_kernels()


def graph(n, seed, p=0.3, weighted=False):
    instance = MIS.generate(n, seed=seed, p=p)
    if weighted:
        weights = np.random.default_rng(seed).integers(1, 20, n)
        instance = instance.replace(weights=weights)
    return instance


@given(st.integers(1, 12), st.integers(0, 10**6), st.booleans())
def test_small_graphs_are_solved(n, seed, weighted):
    instance = graph(n, seed, weighted=weighted)
    best = CPSAT().solve(instance, Budget(20)).objective
    assert MISTabu().solve(instance, Budget(iterations=3000)).objective == best


@pytest.mark.parametrize("name", ["mis-tabu", "kamis"])
@pytest.mark.parametrize("weighted", [False, True])
def test_medium_graphs_are_solved(name, weighted):
    instance = graph(60, 3, weighted=weighted)
    best = CPSAT().solve(instance, Budget(20)).objective
    assert make(name).solve(instance, Budget(3.0)).objective == best


@given(st.integers(1, 30), st.integers(0, 10**6), st.integers(1, 50))
def test_the_state_is_what_it_says(n, seed, patience):
    """After every number of steps the best set is independent and has its weight."""
    instance = graph(n, seed, weighted=True)
    for restart in (True, False):
        search = mis_kernels.Search(
            *instance.neighbors(), instance.weights, [], seed=seed, patience=patience,
            restart=restart,
        )  # fmt: skip
        for _ in range(3):
            weight = search.run(40)
            assert instance.violations(search.chosen) == []
            assert instance.objective(search.chosen) == weight


def test_the_same_seed_gives_the_same_set():
    instance = graph(200, 1)
    runs = [MISTabu().solve(instance, Budget(iterations=5000), seed=4) for _ in "ab"]
    assert runs[0].solution == runs[1].solution
    assert runs[0].stopped is Stop.ITERATIONS


@pytest.mark.parametrize("name", ["mis-tabu", "kamis"])
def test_starts_limits_and_interruptions(name):
    instance = graph(300, 2)
    start = make("greedy").solve(instance, Budget(5.0)).solution
    assert make(name).solve(instance, Budget(0.0), start=start).objective >= len(start)
    with pytest.raises(ValueError, match="start is infeasible"):
        make(name).solve(instance, Budget(1.0), start=instance.edges[0].tolist())
    budget = Budget(60.0)
    budget.interrupt()
    result = make(name).solve(instance, budget)
    assert result.feasible
    assert result.stopped is Stop.INTERRUPTED


@pytest.mark.parametrize("name", ["mis-tabu", "kamis"])
@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_graphs_without_edges_and_complete_ones(name, n):
    none = MIS(edges=np.empty((0, 2), dtype=int), weights=np.ones(n, dtype=int))
    assert make(name).solve(none, Budget(0.5)).objective == n
    full = MIS(edges=np.argwhere(np.triu(np.ones((n, n)), 1)), weights=np.arange(1, n + 1))
    assert make(name).solve(full, Budget(2.0)).objective == n


def test_what_is_refused():
    for name in ("mis-tabu", "kamis"):
        assert "knapsack" in make(name).supports(Knapsack(values=[1], weights=[1], capacity=1))
    assert "whole weights" in make("kamis").supports(graph(5, 1).replace(weights=np.full(5, 0.5)))
    with pytest.raises(ValueError, match="patience < 0"):
        MISTabu(patience=-1)


def test_compilation_that_takes_too_long(monkeypatch, caplog):
    release = threading.Event()
    monkeypatch.setattr(mis_kernels, "compile_kernels", release.wait)
    try:
        result = MISTabu().solve(graph(50, 1), Budget(0.5))
    finally:
        release.set()
    assert result.feasible
    assert result.stopped is Stop.TIME
    assert "before its code is loaded" in caplog.text


def test_random_graphs_of_the_literature():
    """As many nodes as the best methods find in most graphs G(750, 0.15)."""
    result = MISTabu().solve(MIS.generate(750, seed=1, p=0.15), Budget(iterations=200_000), seed=1)
    assert result.objective >= 44
