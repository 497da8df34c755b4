"""Min-max multiple TSP: checks by hand, every tiny solution, MIP form."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nco.instances import io, plot
from nco.instances.core import Budget, InputError
from nco.instances.mtsp import MTSP
from nco.mip.highs import HiGHS
from nco.mip.scip import SCIP


@st.composite
def cases(draw):
    n = draw(st.integers(1, 7))
    point = st.tuples(st.integers(0, 9), st.integers(0, 9))
    instance = MTSP(
        coords=draw(st.lists(point, min_size=n + 1, max_size=n + 1)),
        salesmen=draw(st.integers(1, 4)),
        metric=draw(st.sampled_from(["exact", "EUC_2D"])),
    )
    order = draw(st.permutations(range(1, n + 1)))
    size = draw(st.integers(1, n))
    return instance, [list(order[k : k + size]) for k in range(0, n, size)]


@given(cases())
def test_longest_route_counts(case):
    instance, routes = case
    lengths = []
    for route in routes:
        path = [0, *route, 0]
        legs = [math.dist(*instance.coords[[a, b]]) for a, b in itertools.pairwise(path)]
        whole = instance.metric == "EUC_2D"
        lengths.append(sum(math.floor(leg + 0.5) if whole else leg for leg in legs))
    assert instance.objective(routes) == pytest.approx(max(lengths))
    assert (not instance.violations(routes)) == (len(routes) <= instance.salesmen)
    assert instance.objective(routes) >= (instance.unbeatable() or 0.0)
    twin = [r[::-1] for r in routes[::-1]]
    assert instance.canonical(twin) == instance.canonical(routes)
    assert instance.objective(instance.canonical(routes)) == pytest.approx(max(lengths))


def test_what_no_routes_can_beat():
    coords = [[0, 0], [0, 3], [4, 0], [1, 1]]
    assert MTSP(coords=coords, salesmen=3).unbeatable() == pytest.approx(8.0)
    # Rounded costs and matrices need not keep the triangle inequality.
    assert MTSP(coords=coords, salesmen=3, metric="EUC_2D").unbeatable() is None
    assert MTSP(matrix=np.ones((3, 3)), salesmen=3).unbeatable() is None


def test_violations_say_what():
    instance = MTSP(coords=np.zeros((4, 2)), salesmen=2)
    assert instance.violations([[1, 2]]) == ["customer 3 is missing"]
    assert instance.violations([[1], [2], [3]]) == ["3 routes > 2 salesmen"]
    assert instance.violations([[1, 2, 3], [], []]) == []
    with pytest.raises(ValueError, match=r"salesmen = 1.5 not understood"):
        MTSP(coords=np.zeros((4, 2)), salesmen=1.5)


def test_generator():
    assert MTSP.generate(500, seed=1).salesmen == 30
    assert MTSP.generate(1000, seed=1).salesmen == 50
    assert MTSP.generate(500, seed=1, salesmen=50).salesmen == 50
    with pytest.raises(InputError, match="salesmen >= 1"):
        MTSP.generate(5, seed=1, salesmen=0)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_files_and_picture(tmp_path, suffix):
    instance = MTSP.generate(6, seed=3, salesmen=2)
    io.write(instance, tmp_path / f"x{suffix}")
    again = io.read(tmp_path / f"x{suffix}")
    assert (again.problem, again.digest) == ("mtsp", instance.digest)
    assert "(2 routes)" in plot.plot(instance, [[1, 2, 3], [4, 5, 6]]).get_title()


@pytest.mark.parametrize("solver", [SCIP, HiGHS])
def test_mip_has_the_optimum(solver, optimum):
    instance = MTSP.generate(5, seed=4, salesmen=2)
    result = solver().solve(instance, Budget(300))
    assert result.status == "optimal"
    assert result.objective == pytest.approx(optimum(instance))


@given(cases())
def test_mip_knows_every_solution(case):
    instance, routes = case
    if instance.violations(routes):
        routes = [[k for route in routes for k in route]]
    view = instance.to_mip(start=routes)
    x = view.encode(routes)
    assert view.mip.vector_violations(x) == []
    assert view.mip.value(x) == pytest.approx(instance.objective(routes))
    assert instance.canonical(view.decode(x)) == instance.canonical(routes)


def test_a_model_with_far_more_salesmen_than_customers():
    instance = MTSP(coords=[[0, 0], [0, 1], [2, 0]], salesmen=10**15)
    assert instance.to_mip().mip.n == MTSP(coords=instance.coords, salesmen=2).to_mip().mip.n
