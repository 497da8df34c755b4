"""The exact knapsack against brute force and against CP-SAT."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.classical.cp_sat import CPSAT
from nco.classical.knapsack import KnapsackDP
from nco.instances.core import Budget, Status, Stop, UnsupportedError
from nco.instances.knapsack import Knapsack, dantzig_bound
from nco.instances.tsp import TSP


def brute_force(instance):
    subsets = (
        s for r in range(instance.n + 1) for s in itertools.combinations(range(instance.n), r)
    )
    return max(instance.objective(list(s)) for s in subsets if not instance.violations(list(s)))


NUMBER = {
    "whole": st.integers(0, 20),
    "tenths": st.integers(0, 30).map(lambda k: k / 10),
    "float": st.floats(0, 3, allow_nan=False),
    "large": st.integers(10**14, 2 * 10**14),
}


@settings(max_examples=300)
@given(data=st.data(), n=st.integers(1, 9), kinds=st.tuples(*[st.sampled_from(sorted(NUMBER))] * 2))
def test_optimum(data, n, kinds):
    values, weights = (data.draw(st.lists(NUMBER[k], min_size=n, max_size=n)) for k in kinds)
    capacity = data.draw(st.floats(0, 1)) * sum(weights)
    if kinds[1] == "tenths":
        capacity = round(capacity, 1)
    instance = Knapsack(values=values, weights=weights, capacity=capacity)
    result = KnapsackDP().solve(instance, Budget(20))
    assert result.status is Status.OPTIMAL
    assert result.objective == pytest.approx(brute_force(instance), rel=1e-12)
    assert result.bound == result.objective


@pytest.mark.parametrize("correlation", ["none", "weak", "strong", "subset"])
def test_against_cp_sat(correlation):
    rng = np.random.default_rng(3)
    weights = rng.integers(1, 1000, 100)
    values = {
        "none": rng.integers(1, 1000, 100),
        "weak": np.maximum(1, weights + rng.integers(-100, 101, 100)),
        "strong": weights + 100,
        "subset": weights,
    }[correlation]
    instance = Knapsack(values=values, weights=weights, capacity=int(weights.sum() // 3))
    result = KnapsackDP().solve(instance, Budget(30))
    assert result.status is Status.OPTIMAL
    assert result.objective == CPSAT().solve(instance, Budget(30)).objective


def test_out_of_time_keeps_a_solution_and_a_bound():
    instance = Knapsack.generate(500, seed=1)
    full = KnapsackDP().solve(instance, Budget(30))
    assert full.status is Status.OPTIMAL
    for iterations in (0, 3):
        short = KnapsackDP().solve(instance, Budget(iterations=iterations))
        assert short.stopped is Stop.ITERATIONS
        assert short.objective <= full.objective + 1e-9
        assert short.bound >= full.objective - 1e-9
        assert short.bound <= dantzig_bound(instance) * (1 + 1e-8)


def test_start_is_never_lost():
    instance = Knapsack.generate(60, seed=4)
    best = KnapsackDP().solve(instance, Budget(10))
    again = KnapsackDP().solve(instance, Budget(iterations=0), start=best.solution)
    assert again.objective == best.objective


def test_sums_of_tenths_fill_the_capacity():
    instance = Knapsack(values=[1.0, 1.0], weights=[0.1, 0.2], capacity=0.3)
    assert KnapsackDP().solve(instance, Budget(5)).objective == 2.0


def test_nothing_fits_and_everything_fits():
    nothing = Knapsack(values=[3, 4], weights=[5, 6], capacity=4)
    assert KnapsackDP().solve(nothing, Budget(5)).solution == []
    everything = Knapsack(values=[3, 4], weights=[5, 0], capacity=40)
    result = KnapsackDP().solve(everything, Budget(5))
    assert (result.solution, result.status) == ([0, 1], Status.OPTIMAL)


def test_history_survives_compaction(monkeypatch):
    import nco.classical.knapsack as module

    rng = np.random.default_rng(8)
    weights = rng.integers(1, 10**6, 60)
    instance = Knapsack(values=weights + 10, weights=weights, capacity=int(weights.sum() // 2))
    expected = KnapsackDP().solve(instance, Budget(30))
    monkeypatch.setattr(module, "MOST_DECISIONS", 50)
    result = KnapsackDP().solve(instance, Budget(30))
    assert result.objective == expected.objective
    assert math.isclose(result.bound, expected.bound)


def test_other_problems_are_refused():
    with pytest.raises(UnsupportedError, match="knapsack only"):
        KnapsackDP().solve(TSP.generate(5, seed=0), Budget(1))
