"""The Held-Karp bound."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.classical.one_tree import bound
from nco.instances.core import Budget
from nco.instances.tsp import TSP


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 7), st.integers(0, 10_000), st.sampled_from(["exact", "EUC_2D", "ATT"]))
def test_never_above_the_optimum(n, seed, metric):
    """Against all tours; and close to it, as for such small instances it must be."""
    instance = TSP(coords=np.random.default_rng(seed).random((n, 2)) * 100, metric=metric)
    optimum = min(instance.objective([0, *p]) for p in itertools.permutations(range(1, instance.n)))
    value = bound(instance, Budget(5.0))
    assert value <= optimum
    assert value >= 0.8 * optimum - 1


def test_refuses_what_it_cannot_bound():
    """Asymmetric costs and fewer than three nodes."""
    assert bound(TSP(matrix=[[0, 1, 2], [2, 0, 1], [1, 2, 0]]), Budget(1.0)) is None
    assert bound(TSP(coords=np.zeros((2, 2))), Budget(1.0)) is None


def test_proves_berlin52(shared_data):
    """Its Held-Karp bound equals its optimum."""
    from nco.instances import io

    instance = io.read(shared_data / "routing" / "lib" / "berlin52.tsp")
    assert bound(instance, Budget(10.0)) == pytest.approx(7542, abs=75)
