"""Open routes: free ways home, against sums by hand and the CVRP of the same data."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nco import examples
from nco.instances import io, plot
from nco.instances.core import Budget
from nco.instances.cvrp import CVRP
from nco.instances.ovrp import OVRP
from nco.mip.highs import HiGHS


@st.composite
def cases(draw):
    n = draw(st.integers(1, 7))
    coords = draw(st.lists(st.tuples(*[st.integers(0, 20)] * 2), min_size=n + 1, max_size=n + 1))
    metric = draw(st.sampled_from(["exact", "EUC_2D", "GEO"]))
    instance = OVRP(coords=coords, demands=[0] + [1] * n, capacity=3, metric=metric)
    order = draw(st.permutations(range(1, n + 1)))
    size = draw(st.integers(1, 4))
    return instance, [list(order[k : k + size]) for k in range(0, n, size)]


@given(cases())
def test_objective_is_the_way_out(case):
    """Legs from the depot and between customers, none back."""
    instance, routes = case
    base = CVRP(**instance.data()).distances
    legs = [base.pairs([0, *r[:-1]], r).sum() for r in routes]
    assert instance.objective(routes) == pytest.approx(math.fsum(legs), abs=1e-9)
    assert (instance.violations(routes) == []) == all(len(r) <= 3 for r in routes)
    assert instance.canonical(instance.canonical(routes)) == instance.canonical(routes)
    assert instance.objective(instance.canonical(routes)) == instance.objective(routes)


@given(cases())
def test_rows_pairs_and_matrix_agree(case):
    instance, _ = case
    d = instance.distances
    index = np.arange(d.n)
    pairs = d.pairs(index[:, None], index)
    assert (pairs == d.matrix).all()
    assert (np.stack([d.row(i) for i in index]) == d.matrix).all()
    assert (d.matrix[:, 0] == 0).all()
    assert not d.symmetric
    explicit = instance.replace(coords=None, matrix=d.base.matrix).distances
    assert (np.stack([explicit.row(i) for i in index]) == d.matrix).all()


def test_the_limit_leaves_out_the_way_back():
    instance = OVRP(coords=[[0, 0], [3, 0], [5, 0]], demands=[0, 1, 1], capacity=2, max_distance=5)
    assert instance.violations([[1, 2]]) == []
    assert instance.violations([[2, 1]]) == ["route 1: length 7.0 > distance limit 5"]
    assert CVRP(**instance.data()).violations([[1, 2]])


def test_files(tmp_path):
    """A .vrp read as open, its own .ovrp with routes, .npz and JSON."""
    instance = io.read(examples.path("A-n32-k5.vrp"), "ovrp")
    assert instance.problem == "ovrp"
    for name in ("x.ovrp", "x.npz", "x.json"):
        io.write(instance, tmp_path / name)
        again = io.read(tmp_path / name)
        assert (again.problem, again.digest) == ("ovrp", instance.digest)
    routes = [[k] for k in range(1, instance.n + 1)]
    io.write_solution(instance, routes, tmp_path / "x.sol")
    assert io.read_solution(tmp_path / "x.sol", instance) == routes
    assert io.stated_cost(tmp_path / "x.sol", instance) == instance.objective(routes)
    assert plot.plot(instance, routes).get_title().endswith(f"({instance.n} routes)")


def test_mip_has_the_optimum(optimum):
    instance = OVRP.generate(5, seed=4, capacity=15)
    result = HiGHS().solve(instance, Budget(20))
    assert result.status == "optimal"
    assert result.objective == pytest.approx(optimum(instance))
